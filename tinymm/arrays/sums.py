"""Accurate sums: rounding does not grow with their length.

NumPy adds by pairs along the axis that is contiguous in memory, and term after term along every
other one: the mean of a channel over 400,000
places is then off by 2e-5 in float32. Here such a sum is taken over blocks of a few terms, then
over the blocks' sums, and so on, as pairwise
summation does (Higham 1993). A block is a product with ones, so that this is also no slower. On a
GPU reductions are trees already.
"""

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

#: Terms that are added one after the other; and how many a sum may have to be left to NumPy, which
#: is about 1e-6 off there.
TERMS, SHORT = 16, 4096


def total(x: Any, axis: Any = None, keepdims: bool = False, of: int = 0) -> Any:
    """Return `np.sum(x, axis, keepdims=keepdims)`, in float32 within about 1e-7 of the magnitudes' sum along any axis and for any length.

    `of` is the number of terms of a longer sum that this one is a part of.

    >>> x = np.full((100_000, 2), 0.1, np.float32)
    >>> total(x, axis=0), np.sum(x, axis=0)
    (array([10000.002, 10000.002], dtype=float32), array([9998.557, 9998.557], dtype=float32))
    """
    if (
        axis is None
        or x.size <= SHORT >= of
        or not isinstance(x, np.ndarray)
        or x.dtype.char not in "fd"
    ):
        return np.sum(x, axis=axis, keepdims=keepdims)
    axes = sorted(normalize_axis_tuple(axis, x.ndim))
    shape = x.shape
    if max(math.prod(shape[a] for a in axes), of) <= SHORT:
        return np.sum(x, axis=axis, keepdims=keepdims)
    left = list(axes)
    while left:
        first = last = left.pop()
        while left and left[-1] == first - 1:
            first = left.pop()
        if last == x.ndim - 1:  # contiguous, as a rule
            x = np.sum(x, axis=tuple(range(first, last + 1)), keepdims=True)
        else:
            front, back = x.shape[:first], x.shape[last + 1 :]
            runs = x.reshape(
                math.prod(front), math.prod(x.shape[first : last + 1]), math.prod(back)
            )
            x = _by_blocks(runs).reshape(*front, *(1,) * (last + 1 - first), *back)
    return x if keepdims else x.reshape([n for a, n in enumerate(shape) if a not in axes])


def average(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return `np.mean(x, axis, keepdims=keepdims)` by way of `total`.

    >>> average(np.full((100_000, 2), 0.1, np.float32), axis=0)
    array([0.10000002, 0.10000002], dtype=float32)
    """
    if axis is None or x.size <= SHORT or not isinstance(x, np.ndarray) or x.dtype.char not in "fd":
        return np.mean(x, axis=axis, keepdims=keepdims)
    value = total(x, axis, keepdims)
    count = math.prod(x.shape[a] for a in normalize_axis_tuple(axis, x.ndim))
    return value / count if count else np.mean(x, axis=axis, keepdims=keepdims)


def _by_blocks(x: np.ndarray) -> np.ndarray:
    """Sum (outer, n, inner) over the middle axis -> (outer, inner)."""
    while x.shape[1] > TERMS:
        outer, n, inner = x.shape
        whole = n // TERMS * TERMS
        sums = np.ones(TERMS, x.dtype) @ x[:, :whole].reshape(outer, n // TERMS, TERMS, inner)
        x = (
            sums
            if whole == n
            else np.concatenate(
                [sums, (np.ones(n - whole, x.dtype) @ x[:, whole:])[:, None]], axis=1
            )
        )
    return np.ones(x.shape[1], x.dtype) @ x
