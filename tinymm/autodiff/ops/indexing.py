"""Ops that pick: indexing, taking rows, looking up an embedding.

Their gradients put back what was picked, adding where it was picked twice.
"""

import math

import numpy as np

from tinymm.arrays.backend import array_module, is_array, plain
from tinymm.arrays.errors import DataError, ShapeError
from tinymm.autodiff.graph import Tensor, op


def _bare(index):
    """Return an index without Tensors, its arrays copied: backward needs them as they are now."""
    if isinstance(index, tuple):
        return tuple(_bare(i) for i in index)
    index = index.data if isinstance(index, Tensor) else index
    return plain(index).copy() if isinstance(index, np.ndarray) else index


def _is_basic(index) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return all(isinstance(i, (int, slice)) or i is None or i is Ellipsis for i in parts)


def _split(op_):
    def split(x, indices_or_sections, axis=0):
        n = x.shape[axis]
        cuts = indices_or_sections
        if np.ndim(cuts) == 0:
            if cuts < 1 or n % cuts:
                raise ShapeError(f"np.split into {cuts} equal parts along axis {axis} of {x.shape}; choose a divisor of {n}, or the cuts")
            cuts = [n // cuts * i for i in range(1, int(cuts))]
        place = (slice(None),) * (axis % x.ndim)
        return [op_(x, index=(*place, slice(start, stop))) for start, stop in zip([0, *cuts], [*cuts, n], strict=True)]

    return split


def _diagonal(op_):
    def diagonal(x, k=0):
        if x.ndim != 2:
            raise ShapeError(f"the diagonal of a Tensor is that of a matrix, and {x.shape} came; take one matrix, or x[..., i, i]")
        rows = array_module(_bare(x)).arange(max(0, -k), max(0, -k, min(x.shape[0], x.shape[1] - k)))
        return op_(x, index=(rows, rows + k))

    return diagonal


@op(
    numpy={
        "getitem": lambda op_: lambda x, index: op_(x, index=_bare(index)),
        np.split: _split,
        np.diag: _diagonal,
        np.diagonal: lambda op_: lambda x, offset=0: _diagonal(op_)(x, offset),
        np.trace: lambda op_: lambda x, offset=0: np.sum(_diagonal(op_)(x, offset)),
    },
    cases=(
        (((5, 4),), {"index": (slice(1, 4), 2)}),
        (((5, 4),), {"index": (np.array([0, 3, 3]), np.array([1, 2, 2]))}),
        (((5, 4),), {"index": (Ellipsis, None, slice(None, None, 2))}),
    ),
)
def getitem(x, index):
    """Return x[index] for every index that NumPy knows; places picked twice add their gradients."""

    def vjp(g):
        whole = np.zeros_like(x)
        if _is_basic(index):
            whole[index] = g
        else:
            array_module(x).add.at(whole, index, g)
        return whole

    return x[index], vjp


@op(
    numpy={np.take: lambda op_: lambda x, indices, axis=None: op_(x, indices=indices, axis=axis)},
    cases=((((5, 4),), {"indices": np.array([[0, 3], [3, 1]]), "axis": 0}), (((2, 5),), {"indices": np.array([4, 4]), "axis": 1})),
)
def take(x, indices, axis=None):
    """Return slices of x along an axis, in the order of `indices` (of the flattened x if the axis is None)."""
    indices = _bare(indices)

    def vjp(g):
        flat = x.ndim == 0 or axis is None
        whole = np.zeros_like(x.reshape(-1) if flat else x)
        place = indices if flat else (slice(None),) * (axis % x.ndim) + (indices,)
        array_module(x).add.at(whole, place, g)
        return whole.reshape(x.shape)

    return np.take(x, indices, axis=axis), vjp


@op(
    numpy={
        np.take_along_axis: lambda op_: (
            lambda x, indices, axis=-1: op_(x, indices=indices, axis=axis)
        )
    },
    cases=((((4, 5),), {"indices": np.array([[0], [4], [2], [2]]), "axis": 1}),),
)
def take_along_axis(x, indices, axis=-1):
    """Return one number of x for each index along an axis, or of the flattened x: the picked logit of each row."""
    indices = _bare(indices)

    def vjp(g):
        whole = np.zeros_like(x.reshape(-1) if axis is None else x)
        module = array_module(x)
        grid = list(module.ogrid[tuple(slice(n) for n in whole.shape)])
        grid[(axis or 0) % whole.ndim] = indices
        module.add.at(whole, tuple(grid), g)
        return whole.reshape(x.shape)

    return np.take_along_axis(x, indices, axis=axis), vjp


@op(cases=((((5, 4),), {"ids": np.array([[0, 3], [3, 1]])}),))
def embedding(table, ids):
    """Return the row of the table for each id: table (V, D), ids (…) -> (…, D).

    Ids are whole numbers in [0, V); others raise DataError on the host (on a GPU the data layer has checked them, since looking would
    wait for the device). The gradient adds the rows of equal ids by one sorted sum, several times faster than `np.add.at`.

    >>> embedding(np.eye(3), ids=np.array([2, 0])).data
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    ids = _bare(ids) if is_array(ids) or isinstance(ids, Tensor) else plain(ids)
    if isinstance(ids, np.ndarray) and ids.size:
        if ids.dtype.kind not in "iu":
            raise DataError(f"embedding takes whole-number ids and {ids.dtype} came; tokenize first, or use ids.astype(int)")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= len(table):
            raise DataError(
                f"embedding: ids must lie in [0, {len(table)}) and {low if low < 0 else high} came; use the tokenizer that belongs to the model"
            )

    def vjp(g):
        whole = np.zeros_like(table)
        rows = g.reshape(math.prod(g.shape[:-1]), table.shape[1])
        if isinstance(ids, np.ndarray) and isinstance(rows, np.ndarray):
            flat = ids.reshape(-1)
            order = np.argsort(flat, kind="stable")
            starts = np.flatnonzero(np.diff(flat[order], prepend=-1))
            whole[flat[order][starts]] = np.add.reduceat(rows[order], starts, axis=0)
        else:
            array_module(table).add.at(whole, ids.reshape(-1), rows)
        return whole

    return table[ids], vjp
