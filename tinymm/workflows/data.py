"""`data check`: whether training can read these pictures and captions, and what is odd about them."""

from collections.abc import Callable
from pathlib import Path

from tinymm.data import pairs
from tinymm.data.check import check_source
from tinymm.training.records import write_json

from .opened import BUILT_IN, open_source


def run(path: str, *, out: str | None = None, say: Callable[[str], None] = print) -> bool:
    """Print the format found, counts, duplicates, rare words and every broken picture, and say whether all can be read.

    `path` may also be the name of built-in data. With `out`, the whole report goes to that JSON file too.
    """
    report = check_source(open_source(path)) if path in BUILT_IN or not Path(path).exists() else pairs.check(path)
    for line in report.lines():
        say(line)
    if out:
        write_json(out, report)
    return not report.skipped
