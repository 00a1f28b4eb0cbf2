"""Kernels: several ops in one rule, where the composition would carry large arrays to memory and back many times.

Each stands below its *definition*, the readable composition of small ops; the tests hold value and
gradients of the two equal. What they save is passes over memory: rows are taken in blocks that stay
in the processor's cache until all is done with them.
"""

from collections.abc import Callable, Iterator

import numpy as np

from tinymm.arrays.backend import vecdot
from tinymm.arrays.errors import ShapeError
from tinymm.arrays.sums import total
from tinymm.autodiff.graph import op

from .elementwise import gelu, quick_gelu, relu
from .kernels import ACTIVATIONS
from .linear import as_rows
from .reduce import check_mask, finite, masked_softmax, softmax

#: Numbers in a block: 128 K of float32 are 512 KB, a quarter of a core's second-level cache, since
#: a few such arrays are alive at once.
BLOCK = 128 * 1024
#: Rows that a matrix product wants at least: below, the processor waits for the weights rather than
#: for the cache.
PRODUCT_ROWS = 256


def blocks(rows: int, width: int, least: int = 1) -> Iterator[slice]:
    """Cut rows of that width into slices of at most BLOCK numbers, or of `least` rows where these are more.

    >>> list(blocks(3, BLOCK // 2))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    step = block_rows(rows, width, least)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def block_rows(rows: int, width: int, least: int = 1) -> int:
    """Return how many rows of that width a block holds, and no fewer than `least`, if there are as many."""
    return max(1, min(rows, max(least, BLOCK // max(1, width))))


def joint_vjp(backward: Callable, n: int) -> tuple[Callable, ...]:
    """Return n vjps of one joint backward function that gives n gradients at once: it runs at the first call.

    >>> left, right = joint_vjp(lambda g: (g + 1, g + 2), 2)
    >>> left(1), right(1)
    (2, 3)
    """
    waiting: dict[int, object] = {}

    def vjp_of(i):
        def vjp(g):
            if i not in waiting:
                waiting.update(enumerate(backward(g)))
            return waiting.pop(i)

        return vjp

    return tuple(vjp_of(i) for i in range(n))


# ---------------------------------------------------------------------- layer normalization
def layer_norm_definition(x, weight, bias, eps=1e-5):
    """Normalize each row to mean 0 and variance 1, then scale and shift (Ba et al. 2016): (x - μ) / √(σ² + eps) · weight + bias."""
    shifted = x - x[..., :1]  # of equal numbers nothing is left, whatever a mean may round
    centered = shifted - np.mean(shifted, axis=-1, keepdims=True)
    return (
        centered / np.sqrt(np.mean(centered * centered, axis=-1, keepdims=True) + eps) * weight
        + bias
    )


@op("(...,n),(n),(n)->(...,n)", floating=3)
def layer_norm(x, weight, bias, eps=1e-5):
    """Return `layer_norm_definition` in one pass over blocks of rows: x (…, D), weight (D), bias (D) -> (…, D)."""
    D = x.shape[-1]
    rows = as_rows(x)
    unit, y = np.empty_like(rows), np.empty_like(rows)
    scale = np.empty_like(rows, shape=(len(rows), 1))
    share = 1 / max(1, D)
    mean_of = np.full_like(rows, share, shape=(D,))
    for r in blocks(len(rows), D):
        mean = rows[r] @ mean_of
        u = np.subtract(rows[r], mean[:, None], out=unit[r])
        with np.errstate(over="ignore"):  # rows so large are taken once more too
            square = vecdot(u, u) * share
            alike = square <= (D * np.finfo(rows.dtype).eps * mean) ** 2
        if alike.any():  # what is left is the mean's own rounding, as of equal numbers
            shifted = rows[r][alike] - rows[r][alike, :1]
            u[alike] = shifted - (shifted @ mean_of)[:, None]
            square[alike] = vecdot(u[alike], u[alike]) * share
        scale[r] = 1 / np.sqrt(square[:, None] + eps)
        u *= scale[r]
        np.multiply(u, weight, out=y[r])
        y[r] += bias

    def backward(g):
        g = as_rows(g)
        to_x = np.empty_like(g)
        to_weight, to_bias = [], []
        for r in blocks(len(g), D):
            u, d = unit[r], to_x[r]
            to_bias.append(total(g[r], 0, of=len(g)))
            to_weight.append(total(np.multiply(g[r], u, out=d), 0, of=len(g)))
            np.multiply(g[r], weight, out=d)
            lean = vecdot(d, u)[:, None] * share
            d -= (d @ mean_of)[:, None]
            d -= u * lean
            d *= scale[r]
        return (
            to_x.reshape(x.shape),
            _sum_parts(to_weight, weight, len(g)),
            _sum_parts(to_bias, bias, len(g)),
        )

    return y.reshape(x.shape), *joint_vjp(backward, 3)


def _sum_parts(parts, like, rows):
    """Return the sum of the blocks' shares of a gradient over so many rows, zeros if there was no block."""
    return total(np.stack(parts), 0, of=rows) if parts else np.zeros_like(like)


# ---------------------------------------------------------------------- linear, activation, linear
def mlp_definition(x, fc1, fc1_bias, fc2, fc2_bias, activation="gelu"):
    """Two linear maps with an activation between them, row by row (Vaswani et al. 2017, §3.3)."""
    function = {"gelu": gelu, "quick_gelu": quick_gelu, "relu": relu}[activation]
    return function(x @ fc1 + fc1_bias) @ fc2 + fc2_bias


@op(
    "(...,m,d),(d,f),(f),(f,e),(e)->(...,m,e)",
    floating=5,
    cases=((((5, 3), (3, 4), (4,), (4, 2), (2,)), {"activation": "quick_gelu"}),),
)
def mlp(x, fc1, fc1_bias, fc2, fc2_bias, activation="gelu"):
    """Return `mlp_definition` in row blocks: x (…, m, D), fc1 (D, F), fc2 (F, E) -> (…, m, E).

    The wide middle never leaves the cache before the second product has used it; what backward
    needs of it is kept.
    """
    forward, slope = ACTIVATIONS[activation]
    rows = as_rows(x)
    F = fc1.shape[1]
    hidden, helper = (
        np.empty_like(rows, shape=(len(rows), F)),
        np.empty_like(rows, shape=(len(rows), F)),
    )
    y = np.empty_like(rows, shape=(len(rows), fc2.shape[1]))
    activated = np.empty_like(rows, shape=(block_rows(len(rows), F, PRODUCT_ROWS), F))
    for r in blocks(len(rows), F, PRODUCT_ROWS):
        h, a = np.matmul(rows[r], fc1, out=hidden[r]), activated[: r.stop - r.start]
        h += fc1_bias
        forward(h, helper[r], a)
        np.matmul(a, fc2, out=y[r])
    y += fc2_bias

    def backward(g):
        g = as_rows(g)
        to_x = np.empty_like(rows)
        to_fc1, to_bias, to_fc2 = np.zeros_like(fc1), [], np.zeros_like(fc2)
        activated = np.empty_like(rows, shape=(block_rows(len(rows), F, PRODUCT_ROWS), F))
        steep, some_fc1, some_fc2 = np.empty_like(activated), np.empty_like(fc1), np.empty_like(fc2)
        for r in blocks(len(rows), F, PRODUCT_ROWS):
            a, s = activated[: r.stop - r.start], steep[: r.stop - r.start]
            slope(hidden[r], helper[r], a, s)
            to_fc2 += np.matmul(a.T, g[r], out=some_fc2)
            s *= np.matmul(g[r], fc2.T, out=a)
            to_fc1 += np.matmul(rows[r].T, s, out=some_fc1)
            to_bias.append(total(s, 0, of=len(g)))
            np.matmul(s, fc1.T, out=to_x[r])
        return (
            to_x.reshape(x.shape),
            to_fc1,
            _sum_parts(to_bias, fc1_bias, len(g)),
            to_fc2,
            total(g, 0),
        )

    return y.reshape(x.shape[:-1] + (fc2.shape[1],)), *joint_vjp(backward, 5)


# ---------------------------------------------------------------------- attention
def attention_definition(q, k, v, may_attend=None):
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1) with its weights: softmax(q kᵀ / √Dh) v."""
    scores = q @ np.swapaxes(k, -1, -2) * max(1, q.shape[-1]) ** -0.5
    weights = softmax(scores) if may_attend is None else masked_softmax(scores, may_attend)
    return weights @ v, weights


@op(
    floating=1,
    cases=(
        (((2, 3, 12),), {"heads": 2}),
        (((2, 3, 12),), {"heads": 2, "may_attend": np.tri(3, dtype=bool)}),
    ),
)
def self_attention(qkv, may_attend=None, heads=1):
    """Return multi-head attention of a sequence over itself: packed queries, keys and values (B, T, 3D) -> (B, T, D); ShapeError for others.

    The kernel of `attention_definition` on heads cut out of the packed projection: a few pictures
    at a time, so that their scores stay in the cache; gradients are written into one packed array,
    so nothing is sliced or joined on the tape. The softmax's division is done on the Dh numbers of
    a mixed row rather than on its T weights, and so are the scale and the row sums of the vjp.
    """
    B, T, D = packed_shape(qkv, heads)
    scale = max(1, D // heads) ** -0.5
    heads_of = qkv.reshape(B, T, 3, heads, D // heads).transpose(
        2, 0, 3, 1, 4
    )  # views (3, B, H, T, Dh)
    y = np.empty_like(qkv, shape=(B, T, D))
    y_heads = y.reshape(B, T, heads, D // heads).transpose(0, 2, 1, 3)
    weights = np.empty_like(qkv, shape=(B, heads, T, T))  # e^score
    share = np.empty_like(qkv, shape=(B, heads, T, 1))  # 1 / Σ e^score
    for b in blocks(B, heads * T * max(T, D // heads)):
        q, k, v = heads_of[:, b].copy()
        q *= scale
        e = np.matmul(q, np.swapaxes(k, -1, -2), out=weights[b])
        share[b] = exponentials(e, _part(may_attend, b))
        np.multiply(e @ v, share[b], out=y_heads[b])

    def vjp(g):
        g_heads = g.reshape(B, T, heads, D // heads).transpose(0, 2, 1, 3)
        whole = np.empty_like(qkv)
        to_q, to_k, to_v = whole.reshape(B, T, 3, heads, D // heads).transpose(2, 0, 3, 1, 4)
        for b in blocks(B, heads * T * max(T, D // heads)):
            q, k, v = heads_of[:, b].copy()
            e, gb = weights[b], g_heads[b] * share[b]
            to_v[b] = np.swapaxes(e, -1, -2) @ gb
            d = gb @ np.swapaxes(v, -1, -2)
            d -= vecdot(gb, y_heads[b])[..., None]  # Σ p·dp of the softmax's vjp
            d *= e
            q *= scale
            k *= scale
            to_q[b] = d @ k
            to_k[b] = np.swapaxes(d, -1, -2) @ q
        return whole

    return y, vjp


def packed_shape(qkv, heads):
    """Return (B, T, D) of packed queries, keys and values; ShapeError unless they are (B, T, 3D) and the heads share D evenly."""
    if qkv.ndim != 3 or heads < 1 or qkv.shape[-1] % (3 * heads):
        raise ShapeError(
            "self_attention takes packed queries, keys and values (B, T, 3D) and heads that "
            f"share D evenly, and {qkv.shape} with {heads} heads came; "
            "choose a divisor of D"
        )
    return *qkv.shape[:2], qkv.shape[-1] // 3


def _part(may_attend, b):
    """Return the rows of a batch that a mask with or without a batch axis has for these pictures."""
    return (
        may_attend[b]
        if may_attend is not None and may_attend.ndim == 4 and len(may_attend) > 1
        else may_attend
    )


def exponentials(scores, may_attend=None):
    """Turn scores (…, T) into e^score where they stand, 0 where blocked, and return 1 over the rows' sums (…, 1), 1 for a row without any.

    A row's largest score is subtracted first, as in `softmax`, unless all are so small that nothing
    can overflow or vanish: two passes less. DtypeError or ShapeError for a mask that is not boolean
    or does not broadcast.
    """
    blocked = (
        None
        if may_attend is None
        else np.logical_not(check_mask("self_attention", may_attend, scores.shape))
    )
    if not scores.size:
        return np.ones_like(scores, shape=(*scores.shape[:-1], 1))
    calm = 0.3 * np.finfo(scores.dtype).maxexp  # e^(0.3 · 128) = 5e16 in float32, of 1e38
    if not (scores.max() < calm and scores.min() > -calm):
        if blocked is not None:
            np.copyto(scores, -np.inf, where=blocked)
        top = np.max(scores, axis=-1, keepdims=True)
        scores -= finite(top)
    np.exp(scores, out=scores)
    if blocked is not None:
        np.copyto(scores, 0, where=blocked)
    T = scores.shape[-1]
    total = (scores.reshape(-1, T) @ np.ones_like(scores, shape=(T,))).reshape(
        *scores.shape[:-1], 1
    )
    return 1 / np.where(total == 0, 1, total)
