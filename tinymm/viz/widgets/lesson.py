"""What the notebooks say between the pictures: a figure with its numbers, a guess beside the truth, five lines about a broken property.

All of it prints, and prints the same each time, in Jupyter, in the built docs and as a plain
script.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tinymm
from tinymm.arrays.errors import DataError, UsageError

from ..tables import number
from .explorer import Explorer


def edition(version: str) -> None:
    """Raise UsageError unless this is the tinymm that a notebook was written for: its numbers and names are of that edition.

    >>> edition(tinymm.__version__)
    """
    if version != tinymm.__version__:
        way_out = f"check out the tag v{version} and install it, or take the notebooks of {tinymm.__version__}"
        raise UsageError(
            f"a notebook and its tinymm are of one edition, and a notebook of {version} came to tinymm {tinymm.__version__}; {way_out}"
        )


def show(figure: Any) -> None:
    """Show a figure, and print the table of its numbers below it, if it has one; outside of Jupyter its alt text stands for the picture.

    The alt text goes into the output's metadata, from where nbconvert and the docs give it to
    screen readers. An explorer has both in its HTML. UsageError for a figure without alt text.

    >>> from tinymm.viz import charts
    >>> show(charts.bars({"right": 0.49, "leaking": 0.06}, title="Half of the words", unit="share right"))
    [picture] Half of the words. Share right: right 0.49, leaking 0.06.
             share right
    right           0.49
    leaking         0.06
    """
    explorer = isinstance(figure, Explorer)
    alt = figure.alt() if explorer else getattr(figure, "alt", "")
    if not alt:
        raise UsageError(
            f"a figure is shown with its alt text, and {type(figure).__name__} has none of 1 sentence; set figure.alt"
        )
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        ipython.display.display(figure)
    else:
        print(f"[{'explorer' if explorer else 'picture'}] {' '.join(alt.split())}")
    if figure.table and not explorer:
        print(figure.table)


def predicted(what: str, guess: Any, truth: Any) -> None:
    """Print a reader's guess beside the truth; None, the guess of one who reads on without guessing, stops nothing.

    >>> predicted("loss of equal scores, 8 pairs", None, 2.0794)
    loss of equal scores, 8 pairs · your guess: none yet · truth: 2.079
    """
    print(
        f"{what} · your guess: {'none yet' if guess is None else number(guess)} · truth: {number(truth)}"
    )


def caught(call: Callable[[], Any]) -> None:
    """Call a check and print what it says: that all properties hold, or the report of the first that broke, without a traceback.

    >>> from tinymm.testing import check
    >>> caught(lambda: check.causal_mask(lambda n: __import__("numpy").tri(n, dtype=bool)))
    holds: M01 M02 M03 M04 M05 M06
    """
    try:
        print(call())
    except AssertionError as broken:
        print(broken)


def within(steps: Iterable[Any], seconds: float = 45) -> Iterator[Any]:
    """Yield the steps of a training until its budget is used up, and only then say so: a slow machine loses nothing but time.

    The environment's `TINYMM_BUDGET`, in seconds, replaces the budget: notebooks are built with
    "inf", so that what is committed does not depend on how fast a machine was.

    >>> list(within(range(3)))
    [0, 1, 2]
    """
    begun, seconds = time.perf_counter(), float(os.environ.get("TINYMM_BUDGET", seconds))
    for count, step in enumerate(steps):
        if time.perf_counter() - begun > seconds:
            print(
                f"stopped after {seconds:g} s and {count} steps; what follows uses what was reached (the committed notebook ran to the end)"
            )
            return
        yield step


def kept(name: str, folder: str | Path | None = None) -> Mapping[str, Any]:
    """Return the kept record of a run that is too long for a notebook, `notebooks/kept/NAME.json`, and print how it was made.

    A record has a "command", which makes it again, and an "edition", the version of tinymm that it
    was made with; the rest are its numbers. DataError for a name that is not among them.
    """
    place = Path(folder) if folder else Path(tinymm.__file__).parents[1] / "notebooks" / "kept"
    path = place / f"{name}.json"
    if not path.exists():
        have = ", ".join(sorted(file.stem for file in place.glob("*.json"))) or "none"
        raise DataError(
            f"kept runs are files of {place}, and {name!r} is not among them ({have}); run a checkout, or choose one of these"
        )
    record = json.loads(path.read_text(encoding="utf-8"))
    print(f"kept run, not made here: {record['command']} (tinymm {record['edition']})")
    return record
