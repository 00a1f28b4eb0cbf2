"""Memory-efficient attention for long sequences: the kernel of `attention_definition` that never stores all of its weights.

Queries meet the keys block by block. A running maximum and a running sum turn the blocks' scores
into one softmax as they pass (the online softmax of FlashAttention, Dao et al. 2022, Algorithm 1;
Rabe & Staats 2021), and backward makes each block of weights again from one number a row that was
kept, the logarithm of its sum. Memory is linear in the length; the price is one product more.
"""

import numpy as np

from tinymm.arrays.backend import vecdot
from tinymm.autodiff.graph import op

from .fused import joint_vjp
from .reduce import check_mask, finite

#: Scores in a block, 512 KB of float32, of which two are alive at once; and how many queries meet
#: as many keys as that allows.
SCORES, QUERIES = 128 * 1024, 256


@op(
    "(n,d),(m,d),(m,e)->(n,e)",
    floating=3,
    cases=(
        (((2, 3, 4), (2, 5, 4), (2, 5, 2)), {}),
        (((3, 4), (2, 3, 4), (3, 2)), {"may_attend": np.tri(3, dtype=bool) > np.eye(3)}),
    ),
)
def blockwise_attention(q, k, v, may_attend=None):
    """Return softmax(q kᵀ / √Dh) v without ever holding the weights: q (…, Tq, Dh), k (…, Tk, Dh), v (…, Tk, E) -> (…, Tq, E).

    `may_attend` is boolean and broadcasts to (…, Tq, Tk); a row that may look at nothing gives
    zeros. Blocks in which nobody may look are not computed, half of them under a causal mask (on a
    GPU they are: looking would mean waiting for it). DtypeError or ShapeError for any other mask.
    """
    front = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    n, m = q.shape[-2], k.shape[-2]
    q, k, v = (np.broadcast_to(x, front + x.shape[-2:]) for x in (q, k, v))
    if may_attend is not None:
        may_attend = np.broadcast_to(
            check_mask("blockwise_attention", may_attend, (*front, n, m)), (*front, n, m)
        )
    y, log_sums = (
        np.empty_like(v, shape=(*front, n, v.shape[-1])),
        np.empty_like(v, shape=(*front, n, 1)),
    )
    scale = max(1, q.shape[-1]) ** -0.5
    for h in np.ndindex(*front):
        look(
            q[h] * scale,
            k[h].copy(),
            v[h].copy(),
            None if may_attend is None else may_attend[h],
            y[h],
            log_sums[h],
        )

    def backward(g):
        grads = tuple(np.zeros_like(v, shape=x.shape) for x in (q, k, v))
        for h in np.ndindex(*front):
            here = (
                q[h] * scale,
                k[h].copy(),
                v[h].copy(),
                None if may_attend is None else may_attend[h],
            )
            look_back(
                *here,
                log_sums[h],
                g[h].copy(),
                vecdot(g[h], y[h])[:, None],
                [to[h] for to in grads],
            )
            grads[0][h] *= scale
        return grads

    return y, *joint_vjp(backward, 3)


def blocks(n, m, may_attend):
    """Yield (rows, columns, mask) of each block of an (n, m) matrix of scores; the mask is None where all may look.

    >>> [(r.stop, c.stop, mask is None) for r, c, mask in blocks(768, 768, np.tri(768, dtype=bool))]
    [(256, 512, False), (512, 512, False), (768, 512, True), (768, 768, False)]
    """
    height = max(1, min(n, QUERIES))
    width = max(1, SCORES // height)
    for start in range(0, n, height):
        for left in range(0, m, width):
            r, c = slice(start, min(start + height, n)), slice(left, min(left + width, m))
            mask = None if may_attend is None else may_attend[r, c]
            if isinstance(mask, np.ndarray):
                if not mask.any():
                    continue
                mask = None if mask.all() else mask
            yield r, c, mask


def look(q, k, v, may_attend, y, log_sums):
    """Write what one head sees, y (n, e), and the logarithm of each row's sum of exponentials; q comes scaled."""
    y[...] = 0
    top, total = np.full_like(q, -np.inf, shape=(len(q), 1)), np.zeros_like(q, shape=(len(q), 1))
    for r, c, mask in blocks(len(q), len(k), may_attend):
        s = scores(q[r], k[c], mask)
        higher = np.maximum(top[r], np.max(s, axis=1, keepdims=True))
        level = finite(higher)
        s -= level
        np.exp(s, out=s)
        shrink = np.exp(top[r] - level)  # what was summed under a lower maximum counts for less
        total[r] = total[r] * shrink + np.sum(s, axis=1, keepdims=True)
        y[r] *= shrink
        y[r] += s @ v[c]
        top[r] = higher
    total = np.where(total == 0, 1, total)  # a row that may look at nothing
    y /= total
    log_sums[...] = finite(top) + np.log(total)


def look_back(q, k, v, may_attend, log_sums, g, lean, grads):
    """Add one head's gradients to `grads` of (scaled q, k, v); `lean` is Σ p·dp of the softmax's vjp, which is g·y."""
    to_q, to_k, to_v = grads
    for r, c, mask in blocks(len(q), len(k), may_attend):
        p = scores(q[r], k[c], mask)
        p -= log_sums[r]
        np.exp(p, out=p)
        to_v[c] += p.T @ g[r]
        d = g[r] @ v[c].T
        d -= lean[r]
        d *= p
        to_q[r] += d @ k[c]
        to_k[c] += d.T @ q[r]


def scores(q, k, mask):
    """Return q kᵀ with -inf where the mask is False."""
    s = q @ k.T
    if mask is not None:
        np.copyto(s, -np.inf, where=np.logical_not(mask))
    return s
