"""How commands speak: lines that break between words where the terminal ends, and a word on what is being done before silence gets long."""

import shutil
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

#: Seconds of silence after which somebody who reads a pipe is told what is being done.
PATIENCE = 8.0
#: What is being done, the innermost last: a text, what makes one, or None where a progress bar
#: tells.
_DOING: list[str | Callable[[], str] | None] = []
_spoke = time.monotonic()


def tell(text: str = "") -> None:
    """Print a text at once, in lines that fit the terminal, or 80 columns where there is none.

    >>> tell("two words")
    two words
    """
    global _spoke
    print(wrapped(text), flush=True)
    _spoke = time.monotonic()


def aside(text: str) -> None:
    """Print to the standard error what is no part of a result, as a refusal: in lines that fit a terminal, in one for a program that reads it."""
    print(wrapped(text) if sys.stderr.isatty() else text, file=sys.stderr)


def wrapped(text: str, width: int | None = None) -> str:
    """Return a text whose lines have at most `width` columns, broken between words; what follows is indented by two more.

    Chinese, Japanese and Korean letters take two columns and may be broken anywhere. A longer word,
    such as a path, stays whole.

    >>> print(wrapped("  a red ball", 9))
      a red
        ball
    >>> wrapped("日本語", 4).splitlines()
    ['日本', '  語']
    """
    width = width or shutil.get_terminal_size((80, 24)).columns
    return "\n".join("\n".join(_lines(line, max(width, 4))) for line in text.split("\n"))


def _lines(line: str, width: int) -> Iterator[str]:
    if _columns(line) <= width:
        yield line
        return
    indent = line[: len(line) - len(line.lstrip(" "))] + "  "
    made, blank = "", ""
    for word, after in _words(line):
        if made.strip() and _columns(made + blank + word) > width:
            yield made
            made, blank = indent, ""
        made, blank = made + blank + word, after
    yield made


def _words(line: str) -> Iterator[tuple[str, str]]:
    """Yield what is not broken, each with the blanks behind it."""
    word, blank = "", ""
    for letter in line:
        if blank and letter != " " or word and not blank and _wide(letter) and _wide(word[-1]):
            yield word, blank
            word, blank = "", ""
        if letter == " " and word.strip():
            blank += letter
        else:
            word += letter
    yield word, ""


def _wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"


def _columns(text: str) -> int:
    return sum(1 + _wide(letter) for letter in text if not unicodedata.combining(letter))


def head(first: int, columns: Sequence[str]) -> str:
    """Return what stands above a table whose columns have names that are longer than their numbers: the names by number, and the numbers.

    >>> print(head(6, ["recall", "perplexity"]))
    1 recall · 2 perplexity
                 1       2
    """
    names = " · ".join(f"{number} {name}" for number, name in enumerate(columns, 1))
    return f"{names}\n{row(first, '', range(1, len(columns) + 1))}"


def row(first: int, name: str, values: Iterable[float | int | None]) -> str:
    """Return a line of such a table: a name of at most `first` letters, and numbers, an empty cell for None.

    >>> row(6, "CLIP", [0.5, None, 2])
    'CLIP    0.500               2'
    """
    values = list(values)
    room = min(8, (80 - first) // len(values)) - 1
    cells = [
        "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
        for value in values
    ]
    return f"{name:<{first}}" + "".join(f" {cell:>{room}}" for cell in cells)


@contextmanager
def doing(what: str | Callable[[], str] | None) -> Iterator[None]:
    """Say what is being done in this block, for `awake` to print; None is for what shows itself, as a progress bar does."""
    _DOING.append(what)
    try:
        yield
    finally:
        _DOING.pop()


@contextmanager
def awake(patience: float | None = None) -> Iterator[None]:
    """Print what is being done whenever nothing has been told for so many seconds, `PATIENCE` by default, until the block ends."""
    global _spoke
    patience = PATIENCE if patience is None else patience
    began, done = time.monotonic(), threading.Event()
    _spoke = began

    def watch() -> None:
        while not done.wait(max(0.01, _spoke + patience - time.monotonic())):
            if time.monotonic() < _spoke + patience:
                continue
            what = _DOING[-1] if _DOING else None
            if what is None:
                if done.wait(patience):
                    return
                continue
            try:
                tell(f"{what() if callable(what) else what} … {time.monotonic() - began:.0f} s")
            except (OSError, ValueError):  # nobody reads any more, as after `… | head`
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
