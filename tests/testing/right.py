"""Right implementations in plain NumPy, in tinymm's convention and in others that are as legitimate."""

import numpy as np

LIMIT = np.log(100)


def causal_mask(n):
    return np.tri(n, dtype=bool)


def padding_mask(is_real):
    return is_real[:, None, None, :]


def padding_rows_blocked(is_real):
    return (is_real[:, None, :] & is_real[:, :, None])[:, None]


def prefix_mask(p, n):
    return np.tri(n, dtype=bool) | (np.arange(n) < p)


def combine(a, b):
    return a & b


def reachability(masks, residual=True):
    reach = np.eye(len(masks[0]), dtype=bool)
    for mask in masks:
        reach = (mask @ reach) | (reach & residual)
    return reach


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def softmax_vjp(g, x, axis=-1):
    p = softmax(x, axis)
    return p * (g - (p * g).sum(axis=axis, keepdims=True))


def log_softmax(x, axis=-1):
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def log_softmax_vjp(g, x):
    return g - softmax(x) * g.sum(axis=-1, keepdims=True)


def masked_softmax(x, mask):
    kept = np.where(mask, x, -np.inf)
    top = kept.max(axis=-1, keepdims=True)
    e = np.exp(kept - np.where(np.isfinite(top), top, 0))
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total == 0, 1, total)


def masked_softmax_vjp(g, x, mask):
    p = masked_softmax(x, mask)
    return p * (g - (p * g).sum(axis=-1, keepdims=True))


def infinite_masked_softmax(x, mask):
    return softmax(np.where(mask, x, -np.inf))


def scores(q, k, scaled=True):
    return q @ np.swapaxes(k, -1, -2) / (np.sqrt(q.shape[-1]) if scaled else 1)


def weights(q, k, v, mask):
    return masked_softmax(scores(q, k), mask)


def attention(q, k, v, mask):
    return weights(q, k, v, mask) @ v


def unscaled_attention(q, k, v, mask):
    return masked_softmax(scores(q, k, scaled=False), mask) @ v


def additive_attention(q, k, v, mask):
    return softmax(scores(q, k) + np.where(mask, 0, -10000).astype(q.dtype)) @ v


def infinite_attention(q, k, v, mask):
    return softmax(np.where(mask, scores(q, k), -np.inf)) @ v


def step(q, k, v, cache):
    keys, values = (k, v) if cache is None else (np.concatenate([old, new], axis=-2) for old, new in zip(cache, (k, v), strict=True))
    return attention(q, keys, values, np.ones((1, keys.shape[-2]), dtype=bool)), (keys, values)


def multihead(q, k, v, mask, H):
    q, k, v = (x.reshape(*x.shape[:2], H, -1).swapaxes(1, 2) for x in (q, k, v))
    out = attention(q, k, v, mask).swapaxes(1, 2)
    return out.reshape(*out.shape[:2], -1)


def layer_norm(x, gain, bias, eps, axis=-1):
    return (x - x.mean(axis=axis, keepdims=True)) / np.sqrt(x.var(axis=axis, keepdims=True) + eps) * gain + bias


def layer_norm_vjp(g, x, gain, bias, eps):
    h, y = g * gain, layer_norm(x, 1, 0, eps)
    dx = (h - h.mean(-1, keepdims=True) - y * (h * y).mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return dx, (g * y).sum(0), g.sum(0)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def half(S, axis):
    return -np.diagonal(log_softmax(S, axis)).mean()


def loss_of_logits(S):
    return (half(S, 0) + half(S, 1)) / 2


def slopes(S):
    n = len(S)
    return (softmax(S, 0) + softmax(S, 1) - 2 * np.eye(n, dtype=S.dtype)) / (2 * n)


def loss(I, T, scale):
    return loss_of_logits(scale * unit(I) @ unit(T).T)


def loss_vjp(g, I, T, scale, slopes=slopes):
    a, b = unit(I), unit(T)
    G = g * slopes(scale * a @ b.T)
    da, db = scale * G @ b, scale * G.T @ a
    project = [(d - (d * u).sum(-1, keepdims=True) * u) / np.linalg.norm(x, axis=-1, keepdims=True) for d, u, x in ((da, a, I), (db, b, T))]
    return (*project, (G * (a @ b.T)).sum())


def shard(S, rank):
    return -log_softmax(S)[np.arange(len(S)), rank * len(S) + np.arange(len(S))].mean()


def soft(S, targets):
    return -(targets * log_softmax(S)).sum(axis=1).mean()


def blocked(I, T, scale, rows=2):
    S = scale * unit(I) @ unit(T).T
    halves = [shard_of(S[i : i + rows], i) + shard_of(S.T[i : i + rows], i) for i in range(0, len(S), rows)]
    return sum(halves) / (2 * len(S))


def shard_of(S, first):
    return -log_softmax(S)[np.arange(len(S)), first + np.arange(len(S))].sum()


def cached(I, T, scale):
    return loss_vjp(1.0, I, T, scale)


def recall(S, k):
    truth = np.diagonal(S)[:, None]
    return ((truth <= S).sum(axis=1) - 1 < k).mean()


def expected_recall(S, k):
    truth = np.diagonal(S)[:, None]
    above, level = (truth < S).sum(axis=1), (truth == S).sum(axis=1)
    return np.clip((k - above) / level, 0, 1).mean()


def captions(S, image_of_caption, k):
    own = np.arange(len(S))[:, None] == image_of_caption
    best = np.where(own, S, -np.inf).max(axis=1, keepdims=True)
    to_text = (((best <= S) & ~own).sum(axis=1) < k).mean()
    real = image_of_caption >= 0
    truth = S[image_of_caption[real], np.flatnonzero(real)]
    return to_text, ((truth <= S[:, real]).sum(axis=0) - 1 < k).mean()


def swap(right, swapped):
    return ((right > swapped) + 0.5 * (right == swapped)).mean()


def tempered(cosines, t):
    return loss_of_logits(np.exp(t) * cosines)


def tempered_vjp(g, cosines, t):
    G = g * slopes(np.exp(t) * cosines)
    return np.exp(t) * G, (np.exp(t) * cosines * G).sum()


def clamp(t):
    return np.minimum(t, t.dtype.type(LIMIT))


def divided(cosines, temperature):
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    return loss_of_logits(cosines / temperature)


def cosines(I, T):
    return unit(I) @ unit(T).T


RIGHT = {
    "causal_mask": {
        "plain": {"fn": causal_mask},
        "true means ignore": {"fn": lambda n: ~causal_mask(n), "true_means": "ignore"},
        "additive": {"fn": lambda n: np.where(causal_mask(n), 0, -np.inf), "additive": True},
        "additive and finite": {"fn": lambda n: np.where(causal_mask(n), 0, -1e4), "additive": True},
        "sliding window": {"fn": lambda n: causal_mask(n) & ~np.tri(n, k=-3, dtype=bool), "window": True},
    },
    "padding_mask": {
        "plain": {"fn": padding_mask},
        "same rows": {"fn": padding_mask, "rows": "same"},
        "rows of padding blocked too": {"fn": padding_rows_blocked},
        "true means ignore": {"fn": lambda is_real: ~padding_mask(is_real), "true_means": "ignore"},
        "by length": {"fn": lambda r: np.arange(r.shape[1]) < r.sum(1)[:, None, None, None], "pad_side": "right"},
    },
    "prefix_mask": {
        "plain": {"fn": prefix_mask},
        "true means ignore": {"fn": lambda p, n: ~prefix_mask(p, n), "true_means": "ignore"},
    },
    "mask_algebra": {
        "plain": {"fn": combine},
        "true means ignore": {"fn": np.logical_or, "true_means": "ignore"},
        "additive": {"fn": np.add, "additive": True},
    },
    "reachability": {
        "plain": {"fn": reachability},
        "no residual": {"fn": lambda masks: reachability(masks, residual=False), "residual": False},
    },
    "softmax": {
        "plain": {"fn": softmax, "vjp": softmax_vjp},
        "columns": {"fn": lambda x: softmax(x, 0), "vjp": lambda g, x: softmax_vjp(g, x, 0), "axis": 0},
    },
    "log_softmax": {"plain": {"fn": log_softmax, "vjp": log_softmax_vjp}},
    "masked_softmax": {
        "plain": {"fn": masked_softmax, "vjp": masked_softmax_vjp},
        "NaN for an empty row": {"fn": infinite_masked_softmax, "empty_row": "nan"},
    },
    "attention": {
        "plain": {"fn": attention, "weights": weights, "step": step, "multihead": multihead},
        "matrices": {"fn": attention, "leading": 0},
        "one leading axis": {"fn": attention, "leading": 1},
        "unscaled": {"fn": unscaled_attention, "scaled": False},
        "NaN for an empty row": {"fn": infinite_attention, "empty_row": "nan"},
    },
    "layer_norm": {
        "plain": {"fn": layer_norm, "vjp": layer_norm_vjp},
        "columns": {"fn": lambda x, gain, bias, eps: layer_norm(x, gain, bias, eps, 0), "axis": 0},
    },
    "contrastive_loss": {
        "plain": {"fn": loss, "vjp": loss_vjp, "half": half, "shard": shard, "soft": soft, "blocked": blocked, "cached": cached},
        "divisor": {"fn": lambda I, T, temperature: loss(I, T, 1 / temperature), "scale": "divide"},
        "logarithm": {"fn": lambda I, T, t: loss(I, T, np.exp(t)), "scale": "log"},
        "unit rows": {
            "fn": lambda I, T, s: loss_of_logits(s * I @ T.T),
            "vjp": lambda g, I, T, s: (g * s * slopes(s * I @ T.T) @ T, g * s * slopes(s * I @ T.T).T @ I),
            "inputs": "unit",
        },
        "logits": {"fn": loss_of_logits, "vjp": lambda g, S: g * slopes(S), "inputs": "logits"},
    },
    "recall": {
        "plain": {"fn": recall, "captions": captions, "swap": swap},
        "expected": {"fn": expected_recall, "ties": "expected"},
    },
    "temperature": {
        "plain": {
            "fn": tempered,
            "vjp": tempered_vjp,
            "initial": float(np.log(1 / 0.07)),
            "clamp": clamp,
            "divided": divided,
            "scores": cosines,
        }
    },
}
