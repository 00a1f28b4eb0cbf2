"""`search`: the pictures of a folder that fit some words best."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, UsageError
from tinymm.data.images import SUFFIXES
from tinymm.tasks import CONTRAST
from tinymm.training.evaluate import embed_images, embed_texts

from .. import commands
from ..open_model import introduce, open_model
from ..terminal import tell
from .classify import prepared, warn_unknown


def run(
    folder: str,
    words: str,
    *,
    top: int = 5,
    model: str | None = None,
    invert: bool = False,
    backend: str = "numpy",
    tokenizer: str | None = None,
    say: Callable[[str], None] = tell,
    **told: Any,
) -> list[tuple[str, float]]:
    """Print and return the `top` pictures below a folder by cosine with the words; pictures that cannot be read are skipped and named.

    `invert` swaps dark and light first, as in `classify`. UsageError for no words, no pictures or a
    `top` below 1; DataError if none of them can be read.
    """
    place = Path(folder)
    if top < 1:
        raise UsageError(
            f"search names at least 1 picture, and --top {top} came; leave it out for 5"
        )
    if not words.strip():
        raise UsageError(
            f"search needs words to look for, and {words!r} came; say what the picture shows"
        )
    if not place.is_dir():
        raise UsageError(
            f"search looks through a folder of pictures, and {folder} is none; check the path"
        )
    files = sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise UsageError(f"{folder} holds no picture ({', '.join(SUFFIXES)}); give another folder")
    opened = open_model(
        model, can=(CONTRAST,), command="search", backend=backend, tokenizer=tokenizer, **told
    )
    warn_unknown(opened, [words], say)
    query = embed_texts(opened.model, [words], opened.tokenizer)
    found: list[tuple[str, float]] = []
    batch, names = [], []
    for i, file in enumerate(files):
        try:
            batch.append(prepared(opened, file, invert))
            names.append(str(file.relative_to(place)))
        except DataError as problem:
            say(f"skipped: {problem}")
        # A folder may hold more pictures than memory: embed a few at a time, keep the scores.
        if batch and (len(batch) == 64 or i == len(files) - 1):
            features = embed_images(opened.model, np.stack(batch))
            found += zip(names, opened.model.similarity(features, query)[:, 0], strict=True)
            batch, names = [], []
    if not found:
        raise DataError(
            f"none of the {len(files)} pictures in {folder} could be read; see the lines above"
        )
    best = sorted(found, key=lambda pair: -pair[1])[:top]
    introduce(opened, model)
    for name, score in best:
        say(f"{score:6.3f}  {name}")
    return [(name, float(score)) for name, score in best]


# ---------------------------------------------------------------------- the command
PLACE = 50


def declare(parsers: Any) -> None:
    """Add search."""
    search = commands.add(
        parsers,
        "search",
        "find the pictures of a folder that fit some words",
        "search photos 'latin small letter a'",
        _command,
    )
    search.add_argument("folder")
    search.add_argument("words")
    search.add_argument(
        "--top", type=int, default=5, metavar="N", help="how many pictures to name (default: 5)"
    )
    commands.invert(search)
    commands.common(search, seed=False)
    commands.model(search)


def _command(out: str | None, **options: Any) -> None:
    from tinymm.training.records import write_json

    found = run(**options)
    if out:
        write_json(out, dict(found))
