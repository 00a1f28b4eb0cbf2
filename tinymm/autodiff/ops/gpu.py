"""The kernels once more, for arrays on a GPU: whole batches instead of blocks, and one launch where NumPy makes many passes.

A processor is slow where numbers leave its cache, a GPU where many small launches follow one
another. So here nothing is cut into blocks: products go to the matrix library whole, and what
stands between them is one compiled expression. Each rule is that of the op of the same name in
`fused`, to which the tests hold it equal, in dtype too (that of x); the expressions are C, which
`arrays.backend.numpy_elementwise_kernel` also runs on the host.
"""

import numpy as np

from tinymm.arrays.backend import elementwise, vecdot

from .fused import joint_vjp, layer_norm, mlp, packed_shape, self_attention
from .linear import as_rows
from .reduce import check_mask

#: Activation → (its value and what is kept, its value once more and its slope times the gradient g
#: that arrives).
EXPRESSIONS = {
    "quick_gelu": (
        "s = T(1) / (T(1) + exp(T(-1.702) * h)); a = h * s;",
        "a = h * s; d = g * (s + T(1.702) * a * (T(1) - s));",
    ),
    "gelu": (
        "s = T(0.5) * (T(1) + erf(T(0.7071067811865476) * h)); a = h * s;",
        "a = h * s; d = g * (s + T(0.3989422804014327) * h * exp(T(-0.5) * h * h));",
    ),
    "relu": ("s = T(1) - T(h <= T(0)); a = h * s;", "a = h * s; d = g * s;"),
}


def layer_norm_rule(x, weight, bias, eps=1e-5):
    """Return `fused.layer_norm`: the means by two products, all else in one launch forward and one backward."""
    D = x.shape[-1]
    share = 1 / max(1, D)
    weight, bias = (given.astype(x.dtype, copy=False) for given in (weight, bias))
    centered = x - np.mean(x, axis=-1, keepdims=True)
    scale = 1 / np.sqrt(vecdot(centered, centered)[..., None] * share + eps)
    scale = scale.astype(x.dtype, copy=False)
    finish = elementwise(
        x,
        "T c, T scale, T weight, T bias",
        "T unit, T y",
        "unit = c * scale; y = unit * weight + bias;",
        "tinymm_layer_norm",
    )
    unit, y = finish(centered, scale, weight, bias)

    def backward(g):
        d = g * weight
        mean, lean = np.mean(d, axis=-1, keepdims=True), vecdot(d, unit)[..., None] * share
        back = elementwise(
            x,
            "T d, T unit, T mean, T lean, T scale",
            "T to",
            "to = (d - mean - unit * lean) * scale;",
            "tinymm_layer_norm_back",
        )
        axes = tuple(range(x.ndim - 1))
        return back(d, unit, mean, lean, scale), np.sum(g * unit, axis=axes), np.sum(g, axis=axes)

    return y, *joint_vjp(backward, 3)


def mlp_rule(x, fc1, fc1_bias, fc2, fc2_bias, activation="gelu"):
    """Return `fused.mlp`: two products, and the activation with all that backward needs of it in one launch."""
    forward, slope = EXPRESSIONS[activation]
    fc1, fc1_bias, fc2, fc2_bias = (
        given.astype(x.dtype, copy=False) for given in (fc1, fc1_bias, fc2, fc2_bias)
    )
    rows = as_rows(x)
    hidden = rows @ fc1 + fc1_bias
    bend = elementwise(x, "T h", "T a, T s", forward, f"tinymm_{activation}")
    activated, kept = bend(hidden)
    y = activated @ fc2 + fc2_bias

    def backward(g):
        g = as_rows(g)
        straighten = elementwise(x, "T h, T s, T g", "T a, T d", slope, f"tinymm_{activation}_back")
        again, d = straighten(hidden, kept, g @ fc2.T)
        return (
            (d @ fc1.T).reshape(x.shape),
            rows.T @ d,
            np.sum(d, axis=0),
            again.T @ g,
            np.sum(g, axis=0),
        )

    return y.reshape(x.shape[:-1] + (fc2.shape[1],)), *joint_vjp(backward, 5)


def self_attention_rule(qkv, may_attend=None, heads=1):
    """Return `fused.self_attention`: four batched products, and a softmax of which only maxima and sums are launches of their own.

    DtypeError or ShapeError for a mask that is not boolean or does not broadcast.
    """
    B, T, D = packed_shape(qkv, heads)
    scale = max(1, D // heads) ** -0.5
    q, k, v = qkv.reshape(B, T, 3, heads, D // heads).transpose(2, 0, 3, 1, 4)
    scores = (q * scale) @ np.swapaxes(k, -1, -2)
    if may_attend is not None:
        scores = np.where(
            check_mask("self_attention", may_attend, scores.shape), scores, -np.inf
        ).astype(qkv.dtype, copy=False)
    top = np.max(scores, axis=-1, keepdims=True)
    exponentials = elementwise(qkv, "T s, T top", "T e", "e = exp(s - top);", "tinymm_exponentials")
    e = exponentials(scores, np.where(np.isfinite(top), top, 0).astype(qkv.dtype))
    total = np.sum(e, axis=-1, keepdims=True)
    p = e / np.where(total == 0, 1, total)
    mixed = p @ v

    def vjp(g):
        g_heads = g.reshape(B, T, heads, D // heads).transpose(0, 2, 1, 3)
        lean = vecdot(g_heads, mixed)[..., None]
        slopes = elementwise(
            qkv,
            "T p, T dp, T lean, T scale",
            "T d",
            "d = p * (dp - lean) * scale;",
            "tinymm_attention_back",
        )
        d = slopes(p, g_heads @ np.swapaxes(v, -1, -2), lean, scale)
        parts = np.stack(
            [d @ k, np.swapaxes(d, -1, -2) @ q, np.swapaxes(p, -1, -2) @ g_heads]
        )  # (3, B, H, T, Dh)
        return parts.transpose(1, 3, 0, 2, 4).reshape(qkv.shape)

    return mixed.transpose(0, 2, 1, 3).reshape(B, T, D), vjp


layer_norm.gpu_rule = layer_norm_rule
mlp.gpu_rule = mlp_rule
self_attention.gpu_rule = self_attention_rule
