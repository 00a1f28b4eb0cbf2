"""A check that keeps failing points to the next hint above its task.

Only failures that a notebook shows to somebody are counted, when IPython asks an exception for its
text: nothing is said under pytest, in a script, or about a failure that was expected and caught.
Failures are counted cell by cell: three of one cell make a hint, and another cell that calls the
same check begins its own count.
"""

import sys
from collections import Counter

_shown: Counter[tuple] = Counter()
_ORDINAL = {3: "third", 6: "sixth", 9: "ninth"}


def running_cell() -> str:
    """Return the text of the notebook's cell that is being run, or "" outside of IPython.

    >>> running_cell()
    ''
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return str(shell.user_ns.get("In", [""])[-1]) if shell is not None else ""


def after_failure(asked: tuple) -> str:
    """Return a line about the next hint at the third, sixth and ninth failure of one call of a check, an empty text otherwise.

    >>> [after_failure(("check.softmax", "example")) for _ in range(3)][1:]
    ['', 'third failure of softmax here: open hint 1 above the task']
    >>> after_success(("check.softmax", "example"))
    """
    _shown[asked] += 1
    count = _shown[asked]
    name = str(asked[0]).removeprefix("check.")
    return (
        f"{_ORDINAL[count]} failure of {name} here: open hint {count // 3} above the task"
        if count in _ORDINAL
        else ""
    )


def after_success(asked: tuple) -> None:
    """Forget the failures of a call that has passed."""
    _shown.pop(asked, None)
