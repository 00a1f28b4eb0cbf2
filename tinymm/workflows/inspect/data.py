"""`data check` and `data show`: whether training can read these pictures and captions, what is odd about them, and how they look."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.data.datasets import dataset_names, datasets
from tinymm.data.your_data import pairs
from tinymm.data.your_data.check import check_source
from tinymm.data.your_data.listing import is_there
from tinymm.training.records import write_json
from tinymm.viz import fonts, style
from tinymm.viz.samples import samples

from .. import commands
from ..open_model import open_source
from ..terminal import tell
from ..words import choose

SHOWN = 8


def run(
    path: str,
    *,
    tokenizer: str | None = None,
    vocabulary: str = "words",
    out: str | None = None,
    say: Callable[[str], None] = tell,
) -> bool:
    """Print the format found, counts, duplicates, rare words and every broken picture, and say whether all can be read.

    `path` may also be the name of built-in data. What captions are cut into is said for the
    `tokenizer` or `vocabulary` that training would get. With `out`, the whole report goes to that
    JSON file too. UsageError if nothing is there.
    """
    built_in = datasets().get(path)
    there = path if built_in else _existing(path)
    words = (
        choose(open_source(there), tokenizer, vocabulary)
        if tokenizer or vocabulary != "words"
        else None
    )
    report = (
        check_source(open_source(path), words, built_in.sentence)
        if built_in
        else pairs.check(path, tokenizer=words)
    )
    for line in report.lines():
        say(line)
    if out:
        write_json(out, report)
    return not report.skipped


def show(
    paths: list[str],
    *,
    out: str = "samples.png",
    seed: int = 0,
    resolution: int = 64,
    say: Callable[[str], None] = tell,
) -> Path:
    """Draw a few pictures of each data set with their captions, training's and each honest test's in a row of its own, and return the file."""
    fonts.not_drawn()  # of what was drawn before nothing is to be told
    rows: dict[str, tuple[np.ndarray, list[str]]] = {}
    for path in paths:
        source: Any = open_source(
            path if path in datasets() else _existing(path), seed=seed, resolution=resolution
        )
        batch = source.batch(
            np.linspace(0, len(source) - 1, min(SHOWN, len(source))).astype(int),
            np.random.default_rng(seed),
        )
        rows[f"{source.name}: training"] = (
            source.preprocess.denormalize(batch.images),
            list(batch.captions),
        )
        sets = source.tests() or {"validation": source.validation()}
        for name, some in sets.items():
            if name.endswith("_all") or not len(some):
                continue  # the pictures of another row, among more captions
            chosen = np.linspace(0, len(some) - 1, min(SHOWN, len(some))).astype(int)
            captions = [
                some.captions[int(np.flatnonzero(some.image_of_caption == i)[0])] for i in chosen
            ]
            rows[f"{source.name}: {name.replace('_', ' ')}"] = (
                source.preprocess.denormalize(some.images[chosen]),
                captions,
            )
    file = style.save(
        samples(
            rows, f"{style.listed(paths)}: training's pictures are distorted, the tests' are not"
        ),
        out,
    )
    say(f"{file}: {len(rows)} rows")
    if boxes := fonts.not_drawn():
        say(boxes)
    return file


def _existing(path: str) -> str:
    if not is_there(path):
        near = difflib.get_close_matches(path, datasets(), n=1)
        hint = (
            f"did you mean the built-in {near[0]}?"
            if near
            else f"check the path, or name built-in data: {dataset_names()}"
        )
        raise UsageError(
            f"data is a path to pictures and captions, and {path} does not exist; {hint}"
        )
    return path


# ---------------------------------------------------------------------- the commands
PLACE = 70


def declare(parsers: Any) -> None:
    """Add data check and data show."""
    actions = commands.group(
        parsers, "data", "look at pictures and captions before training on them"
    )
    check = commands.add(
        actions,
        "check",
        "count pairs, duplicates and broken pictures",
        "data check my_pictures",
        _check,
    )
    named = f"pictures and captions, or the name of built-in data: {dataset_names()}"
    check.add_argument("path", help=named)
    check.add_argument(
        "--tokenizer",
        metavar="PATH",
        help="say what captions are cut into by the tokenizer of this folder or file",
    )
    said = "the same for words, or for bpe: pieces learned from the captions (default: words)"
    check.add_argument("--vocabulary", choices=("words", "bpe"), default="words", help=said)
    commands.common(check, seed=False, backend=False)
    drawn = commands.add(
        actions,
        "show",
        "draw a few pictures with their captions",
        "data show emoji digits --out samples.png",
        _show,
    )
    drawn.add_argument("paths", nargs="+", metavar="PATH", help=named)
    drawn.add_argument(
        "--resolution",
        type=int,
        default=64,
        metavar="N",
        help="side of the pictures in pixels (default: 64)",
    )
    commands.common(drawn, out="the picture (default: samples.png)", backend=False)


def _check(path: str, out: str | None, tokenizer: str | None, vocabulary: str) -> int:
    return 0 if run(path, tokenizer=tokenizer, vocabulary=vocabulary, out=out) else 2


def _show(out: str | None, **options: Any) -> None:
    show(out=out or "samples.png", **options)
