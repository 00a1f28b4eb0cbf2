"""Gradient checking: compare a gradient with finite differences, at a random point, along a random direction.

A cotangent of ones (the gradient of `.sum()`) is blind where outputs sum to a constant, as a
softmax's do: it misses half of the usual mistakes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinymm.arrays.backend import DEVICES, device_of, to_backend, to_host
from tinymm.arrays.errors import GraphError

from .tensor import Tensor


def directional_error(
    fn: Callable, arrays: tuple, rng: np.random.Generator, step: float = 1e-5
) -> float:
    """Return the relative difference between the recorded and the measured slope along one random direction.

    With y = fn(x), a random cotangent c and direction d, the slope of Σ c·y along d is Σ ∂·d by the
    chain rule and a central difference by measurement. Arrays that are not floating point are
    handed to `fn` unchanged.
    """
    where = [
        i
        for i, a in enumerate(arrays)
        if getattr(a, "dtype", None) is not None and a.dtype.kind == "f"
    ]
    directions = {i: _like(rng.standard_normal(arrays[i].shape), arrays[i]) for i in where}

    def at(offset: float) -> list:
        return [a + offset * directions[i] if i in directions else a for i, a in enumerate(arrays)]

    inputs = [Tensor(a, requires_grad=True) if i in directions else a for i, a in enumerate(arrays)]
    y = fn(*inputs)
    cotangent = _like(rng.standard_normal(y.shape), y.data)
    y.backward(cotangent)
    slopes = [
        float(to_host(inputs[i].grad * directions[i]).sum()) if inputs[i].grad is not None else 0.0 for i in where
    ]  # fmt: skip

    def value(offset: float) -> float:
        return float(to_host(_data(fn(*at(offset))) * cotangent).sum())

    measured = (value(step) - value(-step)) / (2 * step)
    # Slopes of several inputs may cancel; the largest of them sets the scale of what rounding may do.
    scale = max([1e-3, abs(measured), *map(abs, slopes)])
    return abs(sum(slopes) - measured) / scale


def gradcheck(
    fn: Callable,
    *arrays: Any,
    rng: np.random.Generator,
    directions: int = 3,
    tolerance: float = 1e-6,
) -> float:
    """Check the gradient of `fn` at float64 arrays and return the largest relative error found; raise GraphError above the tolerance.

    >>> gradcheck(np.tanh, np.array([0.3, -1.0]), rng=np.random.default_rng(0)) < 1e-6
    True
    """
    floating = [a for a in arrays if getattr(a, "dtype", None) is not None and a.dtype.kind == "f"]
    if not floating or any(a.dtype != np.float64 for a in floating):
        kinds = ", ".join(str(getattr(a, "dtype", type(a).__name__)) for a in arrays)
        raise GraphError(
            f"gradcheck compares with differences and needs float64 arrays; {kinds} came: use x.astype('float64')"
        )
    worst = 0.0
    for _ in range(directions):
        error = directional_error(fn, arrays, rng)
        worst = max(worst, error if np.isfinite(error) else np.inf)
    if worst > tolerance:
        name = getattr(fn, "__name__", "the function")
        raise GraphError(
            f"gradcheck of {name}: the gradient differs from the measured slope by {worst:.2g}, above {tolerance:.2g}; "
            "look at the vjp, or move the point off a kink"
        )
    return worst


def _like(host: Any, x: Any) -> Any:
    """Return the numbers where x lives, in its dtype."""
    device = device_of(x) or DEVICES["numpy"]
    return to_backend(np.asarray(host, dtype=x.dtype), device.name)


def _data(y: Any) -> Any:
    return y.data if isinstance(y, Tensor) else y
