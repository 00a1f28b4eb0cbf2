"""`data check`: whether training can read these pictures and captions, and what is odd about them."""

from collections.abc import Callable

from tinymm.data import pairs
from tinymm.training.records import write_json


def run(path: str, *, out: str | None = None, say: Callable[[str], None] = print) -> bool:
    """Print the format found, counts, duplicates, rare words and every broken picture, and say whether all can be read.

    With `out`, the whole report goes to that JSON file too.
    """
    report = pairs.check(path)
    for line in report.lines():
        say(line)
    if out:
        write_json(out, report)
    return not report.skipped
