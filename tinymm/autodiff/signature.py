"""Shape rules in NumPy's own notation, the gufunc signature: `(m,k),(k,n)->(m,n)`.

Letters in brackets are an op's *core* axes, the last ones of each input; equal letters must have
equal lengths, and what stands in front of them broadcasts. `k?` marks an axis that a whole input
may lack, as a vector in a matrix product. Where `...` is written, as in
`(...,m,k),(k,n)->(...,m,n)`, only the inputs that have it take axes in front. The same string is
the documentation, the check at call time, and what Hypothesis draws shapes from in the tests.
"""

import re
from functools import lru_cache
from typing import Any

import numpy as np

from tinymm.arrays.errors import ShapeError
from tinymm.arrays.sums import total


class Signature:
    """A parsed gufunc signature.

    >>> Signature("(m,k),(k,n)->(m,n)").inputs
    [['m', 'k'], ['k', 'n']]
    """

    def __init__(self, text: str):
        self.text = text
        groups = [
            group.replace(" ", "").split(",")
            for group in re.findall(r"\(([^)]*)\)", text.split("->")[0])
        ]
        #: For each input, whether axes may stand in front of its core axes.
        self.leads = ["..." in group or "..." not in text for group in groups]
        self.inputs = [
            [letter for letter in group if letter not in ("", "...")] for group in groups
        ]
        self.has_core_axes = any(self.inputs)

    def check(self, name: str, arrays: list[Any]) -> None:
        """Raise ShapeError if the arrays do not fit, naming the axis, both positions and both shapes."""
        _check(self, name, tuple([None if array is None else np.shape(array) for array in arrays]))


@lru_cache(maxsize=4096)  # a model calls with the same shapes step after step
def _check(signature: Signature, name: str, shapes: tuple) -> None:
    rule = f"{name} {signature.text}"
    length: dict[str, tuple[int, int]] = {}
    loops = []
    for place, (axes, shape, leads) in enumerate(
        zip(signature.inputs, shapes, signature.leads, strict=False)
    ):
        if shape is None:
            continue
        core = (
            axes if len(shape) >= len(axes) else [axis for axis in axes if not axis.endswith("?")]
        )
        if len(shape) < len(core) or len(shape) > len(core) and not leads:
            needs = (
                f"needs {'at least ' if leads else ''}{len(core)} axes"
                if len(core) != 1
                else f"needs {'an' if leads else 'one'} axis"
            )
            way = "add one with x[None]" if len(shape) < len(core) else "reshape it"
            raise ShapeError(
                f"{rule}: argument {place} {needs} and {shape} has {len(shape)}; {way}"
            )
        split = len(shape) - len(core)
        loops.append(shape[:split])
        for axis, n in zip(core, shape[split:], strict=True):
            axis = axis.rstrip("?")
            m, first = length.setdefault(axis, (n, place))
            if m != n:
                raise ShapeError(
                    f"{rule}: axis {axis} is {m} in argument {first} {shapes[first]} "
                    f"but {n} in argument {place} {shape}; transpose or reshape one of them"
                )
    try:
        np.broadcast_shapes(*loops)
    except ValueError:
        came = " and ".join(str(shape) for shape in shapes if shape is not None)
        raise ShapeError(
            f"{rule}: the leading axes of {came} do not broadcast (aligned at the right, lengths must be equal or 1); "
            "insert an axis with x[:, None] or reshape"
        ) from None


def sum_to(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the axes along which an input of that shape was stretched by broadcasting.

    ShapeError for a gradient that no stretching explains.

    >>> sum_to(np.ones((4, 3)), (3,))
    array([4., 4., 4.])
    """
    extra = gradient.ndim - len(shape)
    if extra < 0 or any(
        n not in (1, m) for n, m in zip(shape, gradient.shape[extra:], strict=True)
    ):
        raise ShapeError(
            f"a vjp returned shape {gradient.shape} for an input of shape {shape}; the rule of that op is wrong"
        )
    stretched = tuple(range(extra)) + tuple(
        i + extra for i, n in enumerate(shape) if n != gradient.shape[i + extra]
    )
    return total(gradient, stretched, keepdims=True).reshape(shape)
