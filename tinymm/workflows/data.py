"""`data check`: whether training can read these pictures and captions, and what is odd about them."""

from collections.abc import Callable

from tinymm.data import pairs


def run(path: str, *, say: Callable[[str], None] = print) -> bool:
    """Print the format found, counts, duplicate captions, the longest caption, rare words and every broken picture; say whether all can be read."""
    report = pairs.check(path)
    for line in report.lines():
        say(line)
    return not report.skipped
