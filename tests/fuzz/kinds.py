"""All kinds of input, and the share of the cases that each gets: cheap ones get most."""

from collections.abc import Iterator

from . import (
    checkpoints,
    command_lines,
    configs,
    jsons,
    pictures,
    runs,
    shards,
    tables,
    texts,
    tokens,
)
from .cases import Kind

KINDS: dict[str, Kind] = {
    "tables": tables.case, "jsons": jsons.case, "texts": texts.case, "shards": shards.case,
    "pictures": pictures.case, "checkpoints": checkpoints.case, "configs": configs.case,
    "tokens": tokens.case, "command_lines": command_lines.case, "runs": runs.case,
}  # fmt: skip
SHARES = {
    "tables": 0.22, "jsons": 0.15, "texts": 0.13, "shards": 0.13, "pictures": 0.15,
    "checkpoints": 0.08,
    "configs": 0.08, "tokens": 0.04, "command_lines": 0.017, "runs": 0.003,
}  # fmt: skip


def warm() -> None:
    """Import what cases import, so that none of them pays for it, in time or in memory."""
    from PIL import Image

    import tinymm.__main__  # noqa: F401
    from tinymm.data.your_data import check, pairs  # noqa: F401
    from tinymm.workflows import open_model  # noqa: F401
    from tinymm.workflows.runs import run  # noqa: F401
    from tinymm.workflows.use import caption, classify, evaluate, search  # noqa: F401

    Image.init()


def cases(count: int, seed: int, kinds: list[str] | None = None) -> Iterator[str]:
    """Yield the names of so many cases, the kinds evenly mixed, those of a share first.

    >>> sorted(cases(2, 5, ["tables"]))
    ['tables:10', 'tables:11']
    """
    chosen = kinds or list(KINDS)
    total = sum(SHARES[kind] for kind in chosen)
    given = dict.fromkeys(chosen, 0)
    for number in range(1, count + 1):
        kind = max(chosen, key=lambda name: number * SHARES[name] / total - given[name])
        yield f"{kind}:{seed * count + given[kind]}"
        given[kind] += 1
