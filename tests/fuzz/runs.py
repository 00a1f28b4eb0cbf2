"""Run folders: run.json, metrics, results, checkpoint, config, tokenizer and weights changed, cut or
gone; then the run goes on, is evaluated, or asked."""

import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from .cases import Trial
from .command_lines import TINY, ended, judge, ran, spread, world
from .mutations import changed_bytes, changed_json, json_text


@cache
def stopped() -> dict[str, bytes]:
    """Return a run that was stopped after its last step and before its results, and one that is finished."""
    import os
    from tempfile import TemporaryDirectory

    from tinymm.workflows.runs import run as train

    here, measure = os.getcwd(), train.measure
    data = {name: content for name, content in world().items() if name.startswith("data/")}
    flags = [*TINY, "--checkpoint-every", "2", "--validate-every", "2", "--steps", "5"]
    with TemporaryDirectory() as place:
        root = Path(place)
        spread(root, data)
        try:
            os.chdir(root)
            ran(["train", "clip", "--data", "data", "--out", "done", *flags])
            train.measure = _interrupted
            ran(["train", "clip", "--data", "data", "--out", "stopped", *flags])
        finally:
            os.chdir(here)
            train.measure = measure
        return {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }


def _interrupted(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


COMMANDS = (
    "train clip --resume stopped", "train clip --resume stopped", "train clip --resume stopped",
    "train albef --resume stopped",
    "eval --model done", "eval --model stopped",
    "classify data/p0.png --labels red,blue --model done", "search data red --model done",
    "train clip --data data --init done --out out",
)  # fmt: skip


def case(rng: random.Random, folder: Path) -> Trial:
    """Return two run folders with a few changes, and a command that opens one."""
    files, said = dict(stopped()), []
    words = rng.choice(COMMANDS).split()
    which = "stopped/" if "stopped" in words else "done/"
    names = [name for name in files if name.startswith(which) and "events" not in name]
    for _ in range(count := rng.choices((0, 1, 2), (4, 76, 20))[0]):
        name = rng.choice(names)
        how = rng.choice(("json", "json", "json", "bytes", "gone", "empty", "cut"))
        data = files.get(name, b"")
        if how == "json" and name.endswith((".json", ".jsonl")):
            files[name], change = changed_record(rng, data)
            said.append(f"{name} {change}")
        elif how == "gone":
            files.pop(name, None)
            said.append(f"{name} gone")
        elif how == "empty":
            files[name] = b""
            said.append(f"{name} empty")
        elif how == "cut":
            files[name] = data[: rng.randrange(len(data) + 1)]
            said.append(f"{name} cut")
        else:
            files[name], change = changed_bytes(rng, data, 2)
            said.append(f"{name} {change}")
    spread(folder, files)
    if words[0] == "train" and "--resume" not in words:
        words += TINY
    about = f"{' '.join(words[:4])}: {'; '.join(said)}"
    writes = ("out", "stopped/") if "--resume" in words else ("out",)
    return Trial(
        about,
        lambda: ran(words),
        lambda found: checked(found, folder, words, not count),
        ended,
        writes=writes,
    )


def changed_record(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    """Return a file of JSON, or of a line of JSON each, with one change."""
    try:
        rows = (
            [json.loads(line) for line in data.splitlines()]
            if data.count(b"\n{")
            else [json.loads(data)]
        )
    except ValueError:
        return changed_bytes(rng, data, 2)
    value = rng.choice(rows)
    change = changed_json(rng, value) if isinstance(value, dict | list) else "nothing"
    return (
        b"\n".join(json_text(rng, row) for row in rows) + b"\n"
        if len(rows) > 1
        else json_text(rng, value)
    ), change


def checked(
    found: tuple[int, str, str], folder: Path, words: list[str], valid: bool
) -> Iterator[str]:
    """Yield what is wrong with how a command on a run ended."""
    yield from judge(found, folder, words)
    if valid and found[0] != 0 and words[:2] != ["train", "albef"]:
        yield f"a whole run is refused: {found[2][:200]}"
