"""NumPy's protocols (NEP 13, NEP 18): the table of supported functions, and a sentence for everything that is not in it.

`@op(numpy=np.tanh)` enters a function here. What has no gradient by nature (comparisons, argmax) is
computed on the bare numbers. What looks differentiable but is flat (floor, sign) is refused, since
its gradient of zero would look like a bug elsewhere.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from tinymm.arrays.backend import plain
from tinymm.arrays.errors import GraphError

#: NumPy function (or a Tensor method's name) → the callable that records it.
ANSWERS: dict[Any, Callable] = {}

#: Computed on the bare numbers: the result carries no gradient and needs none.
PLAIN = {
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.logical_and, np.logical_or,
    np.logical_not, np.isfinite, np.isnan, np.argmax, np.argmin, np.argsort, np.shape, np.ndim, np.size, np.allclose,
    np.array_equal, np.isclose, np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert,
    np.zeros_like, np.ones_like, np.full_like, np.empty_like, np.any, np.all, np.iscomplexobj, np.result_type,
}  # fmt: skip

#: Slope zero almost everywhere.
FLAT = {
    np.floor,
    np.ceil,
    np.rint,
    np.round,
    np.trunc,
    np.sign,
    np.floor_divide,
    np.heaviside,
    np.fix,
}


#: NumPy function without a rule → the same of functions that have one, for Tensors x and y, a
#: number n and an axis: equal in value, as the tests
#: hold them to, or not listed.
INSTEAD = {
    "np.append": "np.concatenate([np.ravel(x), np.ravel(y)])",
    "np.average": "np.sum(w * x) / np.sum(w)",
    "np.column_stack": "np.concatenate([np.reshape(v, (len(v), -1)) for v in (x, y)], axis=1)",
    "np.cosh": "(np.exp(x) + np.exp(-x)) / 2",
    "np.deg2rad": "x * (math.pi / 180)",
    "np.diff": "x[..., 1:] - x[..., :-1]",
    "np.exp2": "2.0**x",
    "np.fliplr": "x[:, ::-1]",
    "np.flipud": "x[::-1]",
    "np.hsplit": "np.split(x, n, axis=min(1, x.ndim - 1))",
    "np.hstack": "np.concatenate([x, y], axis=min(1, x.ndim - 1))",
    "np.hypot": "np.sqrt(x * x + y * y)",
    "np.inner": "x @ y.T",
    "np.linalg.matrix_transpose": "np.swapaxes(x, -1, -2)",
    "np.linalg.vector_norm": "np.linalg.norm(np.ravel(x))",
    "np.log10": "np.log(x) / math.log(10)",
    "np.log2": "np.log(x) / math.log(2)",
    "np.matrix_transpose": "np.swapaxes(x, -1, -2)",
    "np.nansum": "np.sum(np.where(np.isnan(x), 0, x))",
    "np.outer": "np.ravel(x)[:, None] * np.ravel(y)",
    "np.ptp": "np.max(x) - np.min(x)",
    "np.rad2deg": "x * (180 / math.pi)",
    "np.reciprocal": "1 / x",
    "np.remainder": "x - n * np.floor(x.data / n)",
    "np.repeat": "np.take(x, np.repeat(np.arange(x.shape[axis]), n), axis=axis)",
    "np.roll": "np.take(x, np.roll(np.arange(x.shape[axis]), n), axis=axis)",
    "np.sinh": "(np.exp(x) - np.exp(-x)) / 2",
    "np.sort": "np.take_along_axis(x, np.argsort(x, axis=-1).data, axis=-1)",
    "np.std": "np.sqrt(np.var(x))",
    "np.tan": "np.sin(x) / np.cos(x)",
    "np.tile": "np.concatenate([x] * n, axis=-1)",
    "np.tril": "np.where(np.tri(*x.shape, dtype=bool), x, 0)",
    "np.triu": "np.where(np.tri(*x.shape, k=-1, dtype=bool), 0, x)",
    "np.vsplit": "np.split(x, n, axis=0)",
    "np.vstack": "np.concatenate([np.reshape(v, (-1, v.shape[-1])) for v in (x, y)])",
}


def name_of(function: Callable) -> str:
    """Return the name under which a user knows a NumPy function.

    >>> name_of(np.exp), name_of(np.linalg.norm)
    ('np.exp', 'np.linalg.norm')
    """
    module = getattr(function, "__module__", None) or "numpy"
    return f"{module.replace('numpy', 'np', 1)}.{function.__name__}"


def refuse_in_place(ufunc: Callable, method: str, options: dict) -> None:
    """Raise GraphError for `out=`, `where=` and the ufunc methods, each with its way out."""
    name = name_of(ufunc)
    if method != "__call__":
        raise GraphError(
            f"{name}.{method} has no gradient rule for a Tensor; use np.sum, np.max or indexing instead"
        )
    if options.get("out") is not None:
        raise GraphError(
            f"{name} was asked to write into an existing array, but the backward pass may still need the old values; "
            "write x = x + y instead of x += y"
        )
    raise GraphError(
        f"{name} takes no {', '.join(options)} with a Tensor; use np.where(condition, x, y) or x.astype(dtype)"
    )


def refuse_sequence(ufunc: Callable, x: Any) -> None:
    """Raise GraphError if a list or a tuple stands beside a Tensor, DtypeError for a complex number: they are no strangers who could answer."""
    if isinstance(x, complex):
        plain(x)
    if isinstance(x, (list, tuple)):
        kind = type(x).__name__
        raise GraphError(
            f"{name_of(ufunc)} takes Tensors, arrays and numbers, and a {kind} of {len(x)} came; write np.array(…) around it"
        )


def refuse_fill(function: Callable, args: tuple, options: dict) -> None:
    """Raise GraphError where np.full_like is to fill with a Tensor that requires a gradient: it writes numbers."""
    if function is np.full_like and any(
        getattr(x, "requires_grad", False) for x in (*args, *options.values())
    ):
        raise GraphError(
            "np.full_like writes numbers, and a Tensor that requires a gradient came as the "
            "value; write np.broadcast_to(value, t.shape)"
        )


def refuse_unknown(function: Callable) -> None:
    """Raise GraphError for a function without a rule, and say how the same is written with functions that have one."""
    name = name_of(function)
    if function in FLAT:
        raise GraphError(
            f"{name} is flat almost everywhere, so its gradient would be zero without a word; use {name}(t.data)"
        )
    way = f"write {INSTEAD[name]}" if name in INSTEAD else "use t.data to compute without gradients"
    raise GraphError(f"{name} has no gradient rule for a Tensor; {way}, or declare one with @op")


def refuse_arguments(function: Callable, rule: Callable, args: tuple, options: dict) -> None:
    """Raise GraphError if the arguments are ones that NumPy's function takes and ours does not, such as `dtype=` of a sum."""
    signature = inspect.signature(rule)
    try:
        signature.bind(*args, **options)
    except TypeError as error:
        raise GraphError(
            f"{name_of(function)} of a Tensor takes {signature}: {error}; leave it out, or use t.data to compute without gradients"
        ) from None
