"""Keep freed memory in the process: the next training step allocates the same again."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS = (
    -1,
    -3,
    -8,
)  # names of GNU malloc's settings (mallopt(3))


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed arrays for the next ones, and say whether it will.

    By default glibc hands large arrays back to the system at once, and the next step's arrays are
    mapped page by page again: 8,000 page faults a step in workload W1. One pool for all threads
    keeps what one has freed for the others. Elsewhere than on Linux nothing is done.

    >>> keep_freed_memory() in (True, False)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library, such as musl
    settings = ((_ARENAS, 1), (_MMAP_THRESHOLD, 2**30), (_TRIM_THRESHOLD, 2**31 - 1))
    return all([mallopt(name, value) for name, value in settings])
