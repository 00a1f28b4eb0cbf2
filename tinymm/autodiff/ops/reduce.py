"""Reductions (sum, mean, max, …) and the softmax family, which divides by such a sum."""

import numpy as np

from tinymm.arrays.errors import DtypeError, ShapeError, UsageError
from tinymm.arrays.sums import average, total
from tinymm.autodiff.graph import op

_AXES: tuple = (
    (((3, 4),), {}),
    (((3, 4),), {"axis": 0}),
    (((2, 3, 4),), {"axis": (0, 2), "keepdims": True}),
    (((2, 3, 4),), {"axis": -1}),
)
_ONE_AXIS: tuple = ((((3, 4),), {}), (((3, 4),), {"axis": 0}), (((2, 3, 4),), {"axis": 1}))


def _restore(g, x, axis, keepdims):
    """Put the reduced axes back into a gradient, as axes of length 1."""
    if keepdims:
        return g
    if axis is None or x.ndim == 0:  # NumPy takes axis 0 and -1 of an array without axes
        return g.reshape((1,) * x.ndim)
    return np.expand_dims(g, axis)


def _count(x, axis):
    if axis is None or x.ndim == 0:
        return x.size
    axes = axis if isinstance(axis, tuple) else (axis,)
    n = 1
    for a in axes:
        n *= x.shape[a]
    return n


@op(numpy=np.sum, cases=_AXES)
def reduce_sum(x, axis=None, *, keepdims=False):
    """Return the sum over the axes; every number gets the sum's gradient."""
    return total(x, axis, keepdims), lambda g: np.broadcast_to(
        _restore(g, x, axis, keepdims), x.shape
    )


@op(numpy=np.mean, cases=_AXES)
def mean(x, axis=None, *, keepdims=False):
    """Return the mean over the axes, NaN over none."""
    value = average(x, axis, keepdims)
    scale = 1 / max(1, _count(x, axis))
    return value, lambda g: np.broadcast_to(_restore(g, x, axis, keepdims) * scale, x.shape)


@op(numpy=np.var, cases=(*_AXES, (((3, 4),), {"axis": 0, "ddof": 1})))
def var(x, axis=None, *, ddof=0, keepdims=False):
    """Return the variance over the axes, divided by n - ddof (0: biased, as the normalization layers use it); NaN where that is 0 or less."""
    centered = x - average(x, axis, keepdims=True)
    n = _count(x, axis) - ddof
    scale = 1 / n if n > 0 else np.inf
    value = total(centered * centered, axis, keepdims) * scale
    return value, lambda g: (2 * scale) * _restore(g, x, axis, keepdims) * centered


def _extreme(x, value, axis, keepdims):
    chosen = x == (value if axis is None else _restore(value, x, axis, keepdims))
    return lambda g: (
        _restore(g, x, axis, keepdims)
        * (chosen / np.sum(chosen, axis=axis, keepdims=True, dtype=x.dtype))
    )


@op(numpy=(np.max, np.amax), cases=_AXES)
def reduce_max(x, axis=None, *, keepdims=False):
    """Return the largest number over the axes; equal ones share the gradient."""
    value = np.max(x, axis=axis, keepdims=keepdims)
    return value, _extreme(x, value, axis, keepdims)


@op(numpy=(np.min, np.amin), cases=_AXES)
def reduce_min(x, axis=None, *, keepdims=False):
    """Return the smallest number over the axes; equal ones share the gradient."""
    value = np.min(x, axis=axis, keepdims=keepdims)
    return value, _extreme(x, value, axis, keepdims)


def _norm(op_):
    def norm(x, ord=None, axis=None, keepdims=False):  # noqa: A002 (NumPy's own name)
        if (
            ord not in (None, 2)
            or isinstance(axis, tuple)
            or ord == 2
            and axis is None
            and x.ndim > 1
        ):
            raise UsageError(
                f"np.linalg.norm of a Tensor is the Euclidean length along one axis or all, and ord={ord}, axis={axis} of {x.shape} came; "
                "leave ord out, or write the matrix norm in np.sum and np.sqrt"
            )
        return op_(x, axis=axis, keepdims=keepdims)

    return norm


@op(
    floating=1,
    numpy={np.linalg.norm: _norm},
    cases=(
        (((3, 4),), {}),
        (((3, 4),), {"axis": 0}),
        (((2, 3, 4),), {"axis": -1, "keepdims": True}),
    ),
)
def norm(x, axis=None, keepdims=False):
    """Return the Euclidean length along an axis; its slope is the unit vector (0 for a vector of length 0)."""
    value = np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))

    def vjp(g):
        length = _restore(value, x, axis, keepdims) if axis is not None or keepdims else value
        return _restore(g, x, axis, keepdims) * (x / np.where(length == 0, 1, length))

    return value, vjp


def _exp_shifted(x, axis):
    """Return e^(x - max): the largest becomes 1, so that nothing overflows."""
    y = np.subtract(x, _top(x, axis), out=np.empty_like(x))  # an array, also of no axes
    return np.exp(y, out=y)


def _top(x, axis):
    """Return the maximum along the axes with these kept, 0 over nothing."""
    return (np.max if x.size else np.sum)(x, axis=axis, keepdims=True)


def finite(top):
    """Return maxima with 0 for those that are no numbers to subtract: that of a row which may look at nothing is -inf."""
    return np.where(np.isfinite(top), top, 0)


@op(cases=_AXES, floating=1)
def logsumexp(x, axis=None, keepdims=False):
    """Return ln Σ eˣ over the axes, finite for every finite x and -inf over nothing; its slope is the softmax, 0 where all are -inf."""
    top = finite(_top(x, axis))
    with np.errstate(divide="ignore"):  # ln 0 is the -inf that is meant
        whole = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    value = whole if keepdims else np.squeeze(whole, axis=axis)
    return (
        value,
        lambda g: _restore(g, x, axis, keepdims) * np.exp(x - np.where(whole == -np.inf, 0, whole)),
    )


def _softmax_vjp(p, axis):
    return lambda g: p * (g - np.sum(g * p, axis=axis, keepdims=True))


@op(cases=_ONE_AXIS, floating=1)
def softmax(x, axis=-1):
    """Return eˣ / Σ eˣ along an axis: positive numbers that sum to 1.

    The largest number is subtracted first, which changes nothing but keeps e^1000 from overflowing.

    >>> softmax(np.array([0.0, 1000.0])).data
    array([0., 1.])
    """
    p = _exp_shifted(x, axis)
    p /= np.sum(p, axis=axis, keepdims=True)
    return p, _softmax_vjp(p, axis)


@op(cases=_ONE_AXIS, floating=1)
def log_softmax(x, axis=-1):
    """Return ln softmax along an axis, without taking the logarithm of a number that has become 0."""
    y = x - _top(x, axis)
    if y.size:
        y -= np.log(np.sum(np.exp(y), axis=axis, keepdims=True))
    return y, lambda g: g - np.exp(y) * np.sum(g, axis=axis, keepdims=True)


@op(
    floating=1,
    cases=(
        (
            ((3, 4),),
            {
                "may_attend": np.array(
                    [[True, True, False, True], [False] * 4, [False, True, False, False]]
                )
            },
        ),
    ),
)
def masked_softmax(x, may_attend, axis=-1):
    """Return the softmax over the places where `may_attend` is true, exactly 0 elsewhere; a row that may look at nothing is all zeros.

    The mask is boolean and broadcasts to x; DtypeError otherwise, because 0/1 numbers that are
    *added* to scores mask nothing. Blocked scores are set to -inf before the row maximum is taken,
    so even a blocked score of 10³⁰⁰ leaves no trace. ShapeError for a mask that does not broadcast.
    """
    check_mask("masked_softmax", may_attend, x.shape)
    blocked = np.where(may_attend, x, -np.inf)
    p = np.exp(blocked - finite(_top(blocked, axis)))
    whole = np.sum(p, axis=axis, keepdims=True)
    p = (p / np.where(whole == 0, 1, whole)).astype(x.dtype, copy=False)
    return p, _softmax_vjp(p, axis)


def check_mask(name, may_attend, shape):
    """Return a mask that is boolean and broadcasts to the scores' shape; DtypeError or ShapeError in the op's name otherwise."""
    kind = getattr(may_attend, "dtype", type(may_attend).__name__)
    if kind != np.dtype(bool):
        raise DtypeError(
            f"a mask is boolean with True = may attend, and {kind} came; write mask.astype(bool), "
            "or additive == 0 if it holds 0 and -inf"
        )
    if may_attend.ndim > len(shape) or any(
        m not in (1, n) for m, n in zip(may_attend.shape[::-1], shape[::-1], strict=False)
    ):
        raise ShapeError(
            f"{name}: the mask broadcasts to the scores {shape} and {may_attend.shape} came; give the scores its leading axes"
        )
    return may_attend
