"""Contrastive losses computed block by block: the n × n matrix of scores is never stored, so memory grows with n and not with n².

A first pass over the blocks sums what each row and each column needs; backward makes every block
again and weighs the features with its slopes. Equal to Figure 3 of CLIP (`models/clip.py`) and to
`sigmoid_loss`, in value and gradient. There is one product more to do, and it takes no longer: a
block stays in the cache from its cosines to its slopes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinymm.arrays.backend import vecdot
from tinymm.arrays.errors import ShapeError
from tinymm.autodiff import op, ops
from tinymm.autodiff.ops.fused import joint_vjp

#: Rows and columns of a block: 512 KB of float32, of which a few are alive at once.
ROWS, COLUMNS = 256, 512


@op(catalogued=False)
def blockwise_contrastive_loss(I, T, scale):
    """Return Figure 3's symmetric loss of n aligned pairs: unit features I and T (n, E), scale () -> () (Radford et al. 2021).

    Both softmaxes are over all n: rows and columns keep a running log-sum-exp, `ln(eᵃ + eᵇ)`, as
    the blocks pass. A uniform prediction has the loss ln n.

    >>> round(blockwise_contrastive_loss(np.ones((8, 1)), np.ones((8, 1)), 10.0).item(), 4), round(float(np.log(8)), 4)
    (2.0794, 2.0794)
    """
    n, own = _pairs("blockwise_contrastive_loss", I, T)
    rows, columns = (np.full_like(own, -np.inf) for _ in range(2))
    for r, c in blocks(n):
        scores: Any = I[r] @ T[c].T * scale
        rows[r] = np.logaddexp(rows[r], ops.logsumexp(scores, axis=1).data)
        columns[c] = np.logaddexp(columns[c], ops.logsumexp(scores, axis=0).data)

    def weights(cosines, r, c):
        scores = cosines * scale
        return np.exp(scores - rows[r][:, None]) + np.exp(scores - columns[c])

    def backward(g):
        return _slopes(I, T, scale, weights, 2, own, g * (0.5 / n))[
            :3
        ]  # its own text is right for the row and for the column

    return np.mean((rows + columns) / 2 - own * scale), *joint_vjp(backward, 3)


@op(catalogued=False)
def blockwise_sigmoid_loss(I, T, scale, bias):
    """Return `sigmoid_loss` of n aligned pairs: unit features I and T (n, E), scale and bias () -> () (SigLIP, Zhai et al. 2023, §3.3).

    A pair that belongs together costs softplus(-score), which is softplus(score) - score: one sum
    over all, less the diagonal.

    >>> round(blockwise_sigmoid_loss(np.ones((4, 1)), np.ones((4, 1)), 0.0, 0.0).item(), 4), round(float(4 * np.log(2)), 4)
    (2.7726, 2.7726)
    """
    n, own = _pairs("blockwise_sigmoid_loss", I, T)
    rows = np.zeros_like(own)
    for r, c in blocks(n):
        rows[r] += np.sum(ops.softplus(I[r] @ T[c].T * scale + bias).data, axis=1)

    def weights(cosines, r, c):
        return ops.sigmoid(cosines * scale + bias).data

    return np.mean(rows - own * scale - bias), *joint_vjp(
        lambda g: _slopes(I, T, scale, weights, 1, own, g * (1 / n)), 4
    )


def blocks(n: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of each block of an n × n matrix.

    >>> [(r.stop, c.stop) for r, c in blocks(ROWS + 1)]
    [(256, 257), (257, 257)]
    """
    for start in range(0, n, ROWS):
        for left in range(0, n, COLUMNS):
            yield slice(start, min(start + ROWS, n)), slice(left, min(left + COLUMNS, n))


def _slopes(
    I: Any, T: Any, scale: Any, weights: Callable, right: int, own: Any, share: Any
) -> tuple:
    """Return the gradients of (I, T, scale, bias) from the slopes of a block's scores, `weights(cosines, rows, columns)`.

    From the diagonal's slopes `right` is taken, and all are times `share`; `own` (n,) are the
    pairs' own cosines.
    """
    to_I, to_T, of_cosines, of_ones = (
        -right * T,
        -right * I,
        -right * own,
        np.zeros_like(own) - right,
    )
    for r, c in blocks(len(I)):
        cosines = I[r] @ T[c].T
        d = weights(cosines, r, c)
        to_I[r] += d @ T[c]
        to_T[c] += d.T @ I[r]
        of_cosines[r] += vecdot(d, cosines)
        of_ones[r] += np.sum(d, axis=1)
    return (
        share * scale * to_I,
        share * scale * to_T,
        share * np.sum(of_cosines),
        share * np.sum(of_ones),
    )


def _pairs(name: str, I: Any, T: Any) -> tuple[int, Any]:
    """Return n and the cosine of each pair's own image and text (n,); ShapeError unless there is one of each for every pair."""
    if I.ndim != 2 or I.shape != T.shape:
        raise ShapeError(
            f"{name} takes features I (n, E) and T (n, E) of n aligned pairs, and {I.shape} with {T.shape} came; a pair has one of each"
        )
    return len(I), vecdot(I, T)
