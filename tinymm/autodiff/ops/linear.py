"""Matrix products: matmul, einsum, and the linear layer."""

import math

import numpy as np

from tinymm.arrays.backend import vecdot as backend_vecdot
from tinymm.arrays.errors import ShapeError
from tinymm.arrays.sums import total
from tinymm.autodiff.graph import op


def _flip(x):
    return np.swapaxes(x, -1, -2)


def _dot(op_):
    def dot(a, b):
        if np.ndim(a) == 0 or np.ndim(b) == 0:
            return np.multiply(a, b)
        if np.ndim(a) > 2 or np.ndim(b) > 2:
            raise ShapeError(
                f"np.dot of a Tensor goes up to 2 axes and {np.shape(a)} by {np.shape(b)} came, for which np.dot is an outer product "
                "over the leading axes; write a @ b for a product in each of them"
            )
        return op_(a, b)

    return dot


def as_rows(x):
    """Return (…, n) as a matrix (rows, n); -1 would not know the rows of an array without numbers."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@op("(m?,k),(k,n?)->(m?,n?)", numpy={np.matmul: lambda op_: op_, np.dot: _dot})
def matmul(a, b):
    """Return the matrix product a @ b; leading axes broadcast, and a vector stands for a matrix of one row or column."""

    def matrices(g):
        g = g if b.ndim > 1 else g[..., None]
        return g if a.ndim > 1 else g[..., None, :]

    def to_a(g):
        left = matrices(g) @ _flip(b if b.ndim > 1 else b[:, None])
        return left if a.ndim > 1 else left[..., 0, :]

    def to_b(g):
        if (
            b.ndim == 2 and a.ndim > 2
        ):  # one product over all rows: no gradient for each leading index, to be summed afterwards
            return as_rows(a).T @ as_rows(g)
        right = _flip(a if a.ndim > 1 else a[None]) @ matrices(g)
        return right if b.ndim > 1 else right[..., 0]

    return a @ b, to_a, to_b


@op("(n),(n)->()", numpy=np.vecdot)
def vecdot(a, b):
    """Return the sum of products along the last axis."""
    return backend_vecdot(a, b), lambda g: g[..., None] * b, lambda g: g[..., None] * a


@op("(...,m,k),(k,n),(n)->(...,m,n)")
def linear(x, weight, bias):
    """Return x @ weight + bias in one pass: x (…, m, k), weight (k, n), bias (n) -> (…, m, n).

    The kernel of `x @ weight + bias`: one product over all rows at once, the bias added where the
    product stands.
    """
    rows = as_rows(x)
    y = rows @ weight
    if y.dtype.kind == "f":
        y += bias
    else:
        y = y + bias

    def to_weight(g):
        return rows.T @ as_rows(g)

    return (
        y.reshape(x.shape[:-1] + (weight.shape[1],)),
        lambda g: (as_rows(g) @ weight.T).reshape(x.shape),
        to_weight,
        lambda g: total(as_rows(g), 0),
    )


def _einsum(op_):
    def einsum_(subscripts, *arrays, optimize=False):
        if not isinstance(subscripts, str):
            kind = type(subscripts).__name__
            raise ShapeError(
                "einsum of a Tensor takes its letters first, as in np.einsum('ij,jk->ik', a, b), "
                f"and a {kind} came; write them out"
            )
        return op_(*arrays, subscripts=subscripts)

    return einsum_


def _lengths(names, arrays):
    """Return the length of each letter; axes of length 1 are stretched to it."""
    length: dict[str, int] = {}
    for name, array in zip(names, arrays, strict=True):
        for letter, n in zip(name, array.shape, strict=True):
            if length.get(letter, 1) == 1:
                length[letter] = n
    return length


@op(
    numpy={np.einsum: _einsum},
    cases=(
        (((3, 4), (4, 5)), {"subscripts": "ij,jk->ik"}),
        (((2, 3, 4), (2, 5, 4)), {"subscripts": "bqd,bkd->bqk"}),
        (((3, 4),), {"subscripts": "ij->j"}),
        (((3,), (4,), (3, 4)), {"subscripts": "i,j,ij->"}),
    ),
)
def einsum(*arrays, subscripts):
    """Return the sum of products over named indices, with the result's indices written out: `"bqd,bkd->bqk"`.

    The gradient of one input is the same kind of sum, with the result's gradient in the input's
    place. An index that stands in one input only and is summed away comes back stretched, and one
    that an input has stretched from length 1 is summed. ShapeError for any other spelling.
    """
    inputs, _, output = subscripts.replace(" ", "").partition("->")
    names = inputs.split(",")
    if (
        "->" not in subscripts
        or "." in subscripts
        or any(len(set(name)) < len(name) for name in [*names, output])
    ):
        raise ShapeError(
            f"einsum of a Tensor takes letters, each once an input, with the result written out as in 'ij,jk->ik'; {subscripts!r} came"
        )
    value = np.einsum(subscripts, *arrays)
    length = _lengths(names, arrays)

    def vjp_of(i):
        others = [array for k, array in enumerate(arrays) if k != i]
        other_names = [name for k, name in enumerate(names) if k != i]
        known = set(output).union(*other_names) - {
            letter
            for letter, n in zip(names[i], arrays[i].shape, strict=True)
            if n != length[letter]
        }
        kept = "".join(letter for letter in names[i] if letter in known)

        def vjp(g):
            part = np.einsum(",".join([output, *other_names]) + "->" + kept, g, *others)
            stretched = part[tuple(slice(None) if letter in known else None for letter in names[i])]
            return np.broadcast_to(stretched, arrays[i].shape)

        return vjp

    return value, *(vjp_of(i) for i in range(len(arrays)))
