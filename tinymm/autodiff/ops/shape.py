"""Ops that move numbers without changing them; each gradient moves them back."""

import numpy as np

from tinymm.arrays.backend import plain
from tinymm.arrays.errors import UsageError
from tinymm.autodiff.graph import op
from tinymm.autodiff.signature import sum_to


@op(
    numpy={
        np.reshape: lambda op_: (
            lambda x, shape=None, newshape=None: op_(
                x, shape=shape if shape is not None else newshape
            )
        )
    },
    cases=((((3, 4),), {"shape": (2, -1)}), (((3, 4),), {"shape": -1})),
)
def reshape(x, shape):
    """Return the same numbers in the same order under other axes; one length may be -1."""
    return x.reshape(shape), lambda g: g.reshape(x.shape)


@op(numpy=np.ravel, cases=((((3, 4),), {}),))
def ravel(x):
    """Return all numbers along one axis."""
    return x.reshape(-1), lambda g: g.reshape(x.shape)


@op(numpy=np.transpose, cases=((((3, 4),), {}), (((2, 3, 4),), {"axes": (1, 2, 0)})))
def transpose(x, axes=None):
    """Return the axes in another order, reversed if none is given."""
    back = None if axes is None else tuple(np.argsort([a % x.ndim for a in axes]).tolist())
    return np.transpose(x, axes), lambda g: np.transpose(g, back)


@op(
    numpy={np.swapaxes: lambda op_: lambda x, axis1, axis2: op_(x, a=axis1, b=axis2)},
    cases=((((2, 3, 4),), {"a": 0, "b": -1}),),
)
def swapaxes(x, a, b):
    """Return x with two axes exchanged."""
    return np.swapaxes(x, a, b), lambda g: np.swapaxes(g, a, b)


@op(numpy=np.moveaxis, cases=((((2, 3, 4),), {"source": 0, "destination": 2}),))
def moveaxis(x, source, destination):
    """Return x with an axis moved to another place."""
    return np.moveaxis(x, source, destination), lambda g: np.moveaxis(g, destination, source)


@op(numpy=np.expand_dims, cases=((((3, 4),), {"axis": 1}), (((3, 4),), {"axis": (0, -1)})))
def expand_dims(x, axis):
    """Return x with new axes of length 1."""
    return np.expand_dims(x, axis), lambda g: g.reshape(x.shape)


@op(numpy=np.squeeze, cases=((((3, 1, 4),), {"axis": 1}), (((1, 3, 1),), {})))
def squeeze(x, axis=None):
    """Return x without axes of length 1; name the axis, or a batch of one pair loses its batch axis too."""
    return np.squeeze(x, axis=axis), lambda g: g.reshape(x.shape)


@op(numpy=np.broadcast_to, cases=((((3, 1),), {"shape": (2, 3, 4)}),))
def broadcast_to(x, shape):
    """Return x stretched to a shape; the gradient is summed back over the stretched axes."""
    return np.broadcast_to(x, shape), lambda g: sum_to(g, x.shape)


def _arrays(arrays):
    return [plain(array) if isinstance(array, (list, tuple)) else array for array in arrays]


def _concatenate(op_):
    def concatenate_(arrays, axis=0):
        arrays = _arrays(arrays)
        return (
            op_(*arrays, axis=axis)
            if axis is not None
            else op_(*(np.ravel(array) for array in arrays))
        )

    return concatenate_


def _stack(op_):
    return lambda arrays, axis=0: op_(*_arrays(arrays), axis=axis)


@op(
    numpy={np.concatenate: _concatenate},
    cases=((((2, 3), (4, 3)), {"axis": 0}), (((2, 3), (2, 1), (2, 2)), {"axis": -1})),
)
def concatenate(*arrays, axis=0):
    """Return arrays joined along an axis; each gets its own slice of the gradient."""
    value = np.concatenate(arrays, axis=axis)
    ends = np.cumsum([array.shape[axis] for array in arrays]).tolist()

    def vjp_of(i):
        place = [slice(None)] * arrays[i].ndim
        place[axis] = slice(ends[i] - arrays[i].shape[axis], ends[i])
        return lambda g: g[tuple(place)]

    return value, *(vjp_of(i) for i in range(len(arrays)))


@op(
    numpy={np.stack: _stack},
    cases=((((2, 3), (2, 3)), {"axis": 0}), (((2, 3), (2, 3), (2, 3)), {"axis": -1})),
)
def stack(*arrays, axis=0):
    """Return arrays of one shape under a new axis."""

    def vjp_of(i):
        return lambda g: np.take(g, i, axis=axis)

    return np.stack(arrays, axis=axis), *(vjp_of(i) for i in range(len(arrays)))


def _pad(op_):
    def pad(x, pad_width, mode="constant"):
        if mode != "constant":
            raise UsageError(
                f"np.pad of a Tensor puts zeros around it and mode={mode!r} came; leave it out, or np.concatenate the border"
            )
        if isinstance(pad_width, dict):
            raise UsageError(
                "np.pad of a Tensor takes widths in order of the axes, and a dict of "
                f"{len(pad_width)} came; write ((before, after), …)"
            )
        return op_(x, width=pad_width)

    return pad


@op(
    numpy={np.pad: _pad},
    cases=((((3, 4),), {"width": ((1, 2), (0, 1))}), (((3, 4),), {"width": 1})),
)
def pad(x, width):
    """Return x with zeros around it: `width` as in `np.pad`; the gradient of the border is dropped."""
    pairs = np.broadcast_to(width, (x.ndim, 2)).tolist()
    inner = tuple(slice(before, before + n) for (before, _), n in zip(pairs, x.shape, strict=True))
    return np.pad(x, pairs or width), lambda g: g[inner]


@op(numpy=np.flip, cases=((((3, 4),), {"axis": 1}), (((3, 4),), {})))
def flip(x, axis=None):
    """Return x with the order along an axis reversed."""
    return np.flip(x, axis=axis), lambda g: np.flip(g, axis=axis)


@op(numpy=np.cumsum, cases=((((3, 4),), {"axis": 1}),))
def cumsum(x, axis):
    """Return running sums along an axis; a number's gradient is the sum over all that come at or after it."""
    return np.cumsum(x, axis=axis), lambda g: np.flip(
        np.cumsum(np.flip(g, axis), axis=axis), axis
    ).reshape(x.shape)
