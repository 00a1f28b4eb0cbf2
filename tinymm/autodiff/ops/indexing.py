"""Indexing ops: getitem, take, take_along_axis, embedding lookup.

Their gradients put back what was picked, adding where it was picked twice. An index out of range
raises IndexError. CuPy would wrap it instead, so here indices on the host are looked at first;
looking at those on the GPU would mean waiting for it, so what they pick becomes NaN.
"""

import math

import numpy as np

from tinymm.arrays.backend import array_module, is_array, plain
from tinymm.arrays.errors import DataError, DeviceError, ShapeError
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


def _outside(ids, n, axis):
    """Return where indices on a device are out of range for an axis of n, None for those on the host, of which one out of range raises."""
    if is_array(ids) and not isinstance(ids, (np.ndarray, np.generic)):
        return (ids < -n) | (ids >= n)
    low, high = (int(end(ids)) if np.size(ids) else 0 for end in (np.min, np.max))
    if low < -n or high >= max(n, 1):
        raise IndexError(
            f"index {low if low < -n else high} is out of bounds for axis {axis} with size {n}"
        )
    return None


def _spoil(picked, outside, axes):
    """Return what was picked with NaN where the index was out of range, or raise if that is no real number; `axes` follow those of the index."""
    if outside is None:
        return picked
    if picked.dtype.kind != "f":
        if bool(np.any(outside)):
            raise IndexError("an index is out of bounds")
        return picked
    return np.where(outside.reshape(outside.shape + (1,) * axes), np.nan, picked)


def _pick(x, index):
    """Return x[index] of an array on a device, as NumPy would.

    DeviceError for indices on the device behind a slice.
    """
    parts = index if isinstance(index, tuple) else (index,)
    masks = [is_array(part) and part.dtype.kind == "b" for part in parts]
    widths = [
        0 if part is None or part is Ellipsis else part.ndim if mask else 1
        for part, mask in zip(parts, masks, strict=True)
    ]
    axis, outside, fancy = 0, None, 0
    for place, (part, width) in enumerate(zip(parts, widths, strict=True)):
        if part is Ellipsis:
            axis += x.ndim - sum(widths)
        elif width and not isinstance(part, slice) and not masks[place]:
            found = _outside(part, x.shape[axis], axis)
            if found is not None and fancy < place:
                raise DeviceError(
                    "indices on a GPU are the first ones in x[…], and here they are behind a slice; use np.moveaxis before"
                )
            outside = found if outside is None else outside if found is None else outside | found
            fancy += 1
        axis += width
    picked = x[index]
    return picked if outside is None else _spoil(picked, outside, picked.ndim - outside.ndim)


def _split(op_):
    def split(x, indices_or_sections, axis=0):
        n = x.shape[axis]
        cuts = indices_or_sections
        if np.ndim(cuts) == 0:
            if cuts < 1 or n % cuts:
                raise ShapeError(
                    f"np.split into {cuts} equal parts along axis {axis} of {x.shape}; choose a divisor of {n}, or the cuts"
                )
            cuts = [n // cuts * i for i in range(1, int(cuts))]
        place = (slice(None),) * (axis % x.ndim)
        return [
            op_(x, index=(*place, slice(start, stop)))
            for start, stop in zip([0, *cuts], [*cuts, n], strict=True)
        ]

    return split


def _diagonal(op_):
    def diagonal(x, k=0):
        if x.ndim != 2:
            raise ShapeError(
                f"the diagonal of a Tensor is that of a matrix, and {x.shape} came; take one matrix, or x[..., i, i]"
            )
        rows = np.arange(max(0, -k), max(0, -k, min(x.shape[0], x.shape[1] - k)))
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

    return x[index] if isinstance(x, np.ndarray) or _is_basic(index) else _pick(x, index), vjp


@op(
    numpy={np.take: lambda op_: lambda x, indices, axis=None: op_(x, indices=indices, axis=axis)},
    cases=(
        (((5, 4),), {"indices": np.array([[0, 3], [3, 1]]), "axis": 0}),
        (((2, 5),), {"indices": np.array([4, 4]), "axis": 1}),
    ),
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

    if isinstance(x, np.ndarray):
        return np.take(x, indices, axis=axis), vjp
    behind = 0 if axis is None else x.ndim - 1 - axis % x.ndim
    outside = _outside(
        indices, x.size if axis is None else x.shape[axis], 0 if axis is None else axis
    )
    return _spoil(np.take(x, indices, axis=axis), outside, behind), vjp


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

    picked = np.take_along_axis(x, indices, axis=axis)
    if isinstance(x, np.ndarray):
        return picked, vjp
    length = x.size if axis is None else x.shape[axis]
    return _spoil(picked, _outside(indices, length, axis), 0), vjp


@op(cases=((((5, 4),), {"ids": np.array([[0, 3], [3, 1]])}),))
def embedding(table, ids):
    """Return the row of the table for each id: table (V, D), ids (…) -> (…, D).

    Ids are whole numbers in [0, V); others raise DataError, or give rows of NaN where the ids live
    on a GPU. The gradient adds the rows of equal ids by one sorted sum, several times faster than
    `np.add.at`.

    >>> embedding(np.eye(3), ids=np.array([2, 0])).data
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    ids = _bare(ids) if is_array(ids) or isinstance(ids, Tensor) else plain(ids)
    on_host = isinstance(ids, np.ndarray)
    if ids.size and ids.dtype.kind not in "iu":
        raise DataError(
            f"embedding takes whole-number ids and {ids.dtype} came; tokenize first, or use ids.astype(int)"
        )
    if on_host and ids.size:
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= len(table):
            raise DataError(
                f"embedding: ids must lie in [0, {len(table)}) and {low if low < 0 else high} came; use the tokenizer that belongs to the model"
            )

    def vjp(g):
        whole = np.zeros_like(table)
        rows = g.reshape(math.prod(g.shape[:-1]), table.shape[1])
        if on_host and isinstance(rows, np.ndarray):
            flat = ids.reshape(-1)
            order = np.argsort(flat, kind="stable")
            starts = np.flatnonzero(np.diff(flat[order], prepend=-1))
            whole[flat[order][starts]] = np.add.reduceat(rows[order], starts, axis=0)
        else:
            array_module(table).add.at(whole, ids.reshape(-1), rows)
        return whole

    rows = table[ids]
    return rows if on_host else _spoil(rows, (ids < 0) | (ids >= len(table)), 1), vjp
