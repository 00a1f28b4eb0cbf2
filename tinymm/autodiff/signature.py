"""Shape rules in NumPy's own notation, the gufunc signature: `(m,k),(k,n)->(m,n)`.

Letters in brackets are an op's *core* axes, the last ones of each input; equal letters must have equal lengths, and what stands
in front of them broadcasts. `k?` marks an axis that a whole input may lack, as a vector in a matrix product. The same string is the
documentation, the check at call time, and what Hypothesis draws shapes from in the tests.
"""

import re
from typing import Any

import numpy as np

from ..arrays.errors import ShapeError


class Signature:
    """A parsed gufunc signature.

    >>> Signature("(m,k),(k,n)->(m,n)").inputs
    [['m', 'k'], ['k', 'n']]
    """

    def __init__(self, text: str):
        self.text = text
        left, right = text.split("->")
        self.inputs = [_letters(group) for group in re.findall(r"\(([^)]*)\)", left)]
        self.outputs = [_letters(group) for group in re.findall(r"\(([^)]*)\)", right)]
        self.has_core_axes = any(self.inputs)

    def check(self, name: str, arrays: list[Any]) -> None:
        """Raise ShapeError if the arrays do not fit, naming the axis, both positions and both shapes."""
        rule = f"{name} {self.text}"
        length: dict[str, tuple[int, int]] = {}
        loops = []
        for place, (axes, array) in enumerate(zip(self.inputs, arrays, strict=False)):
            if array is None:
                continue
            shape = np.shape(array)
            core = axes
            if len(shape) < len(axes):
                core = [axis for axis in axes if not axis.endswith("?")]
            if len(shape) < len(core):
                raise ShapeError(
                    f"{rule}: argument {place} needs at least {len(core)} axes and {shape} has {len(shape)}; add one with x[None]"
                )
            split = len(shape) - len(core)
            loops.append((place, shape, shape[:split]))
            for axis, n in zip(core, shape[split:], strict=True):
                axis = axis.rstrip("?")
                m, first = length.setdefault(axis, (n, place))
                if m != n:
                    raise ShapeError(
                        f"{rule}: axis {axis} is {m} in argument {first} {np.shape(arrays[first])} "
                        f"but {n} in argument {place} {shape}; transpose or reshape one of them"
                    )
        try:
            np.broadcast_shapes(*(loop for _, _, loop in loops))
        except ValueError:
            shapes = " and ".join(str(shape) for _, shape, _ in loops)
            raise ShapeError(
                f"{rule}: the leading axes of {shapes} do not broadcast (aligned at the right, lengths must be equal or 1); "
                "insert an axis with x[:, None] or reshape"
            ) from None


def _letters(group: str) -> list[str]:
    return [letter.strip() for letter in group.split(",") if letter.strip()]


def sum_to(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the axes along which an input of that shape was stretched by broadcasting.

    >>> sum_to(np.ones((4, 3)), (3,))
    array([4., 4., 4.])
    """
    extra = gradient.ndim - len(shape)
    stretched = tuple(range(extra)) + tuple(
        i + extra for i, n in enumerate(shape) if n == 1 and gradient.shape[i + extra] != 1
    )
    summed = gradient.sum(axis=stretched, keepdims=True) if stretched else gradient
    if summed.shape[extra:] != tuple(shape):
        raise ShapeError(f"a vjp returned shape {gradient.shape} for an input of shape {shape}; the rule of that op is wrong")
    return summed.reshape(shape)
