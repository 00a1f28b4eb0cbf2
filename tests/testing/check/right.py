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
    keys, values = (
        (k, v)
        if cache is None
        else (np.concatenate([old, new], axis=-2) for old, new in zip(cache, (k, v), strict=True))
    )
    return attention(q, keys, values, np.ones((1, keys.shape[-2]), dtype=bool)), (keys, values)


def multihead(q, k, v, mask, H):
    q, k, v = (x.reshape(*x.shape[:2], H, -1).swapaxes(1, 2) for x in (q, k, v))
    out = attention(q, k, v, mask).swapaxes(1, 2)
    return out.reshape(*out.shape[:2], -1)


def layer_norm(x, gain, bias, eps, axis=-1):
    return (x - x.mean(axis=axis, keepdims=True)) / np.sqrt(
        x.var(axis=axis, keepdims=True) + eps
    ) * gain + bias


def layer_norm_vjp(g, x, gain, bias, eps):
    h, y = g * gain, layer_norm(x, 1, 0, eps)
    dx = (h - h.mean(-1, keepdims=True) - y * (h * y).mean(-1, keepdims=True)) / np.sqrt(
        x.var(-1, keepdims=True) + eps
    )
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
    project = [
        (d - (d * u).sum(-1, keepdims=True) * u) / np.linalg.norm(x, axis=-1, keepdims=True)
        for d, u, x in ((da, a, I), (db, b, T))
    ]
    return (*project, (G * (a @ b.T)).sum())


def shard(S, rank):
    return -log_softmax(S)[np.arange(len(S)), rank * len(S) + np.arange(len(S))].mean()


def soft(S, targets):
    return -(targets * log_softmax(S)).sum(axis=1).mean()


def blocked(I, T, scale, rows=2):
    S = scale * unit(I) @ unit(T).T
    halves = [
        shard_of(S[i : i + rows], i) + shard_of(S.T[i : i + rows], i)
        for i in range(0, len(S), rows)
    ]
    return sum(halves) / (2 * len(S))


def shard_of(S, first):
    return -log_softmax(S)[np.arange(len(S)), first + np.arange(len(S))].sum()


def cached(I, T, scale):
    return loss_vjp(1.0, I, T, scale)


def recall(S, k):
    truth = np.diagonal(S)[:, None]
    return ((~(truth > S)).sum(axis=1) - 1 < k).mean()


def expected_recall(S, k):
    truth = np.diagonal(S)[:, None]
    above, level = (truth < S).sum(axis=1), (truth == S).sum(axis=1)
    return np.where(level, np.clip((k - above) / np.maximum(level, 1), 0, 1), 0).mean()


def captions(S, image_of_caption, k):
    own = np.arange(len(S))[:, None] == image_of_caption
    best = np.where(own, S, -np.inf).max(axis=1, keepdims=True)
    to_text = ((~(best > S) & ~own).sum(axis=1) < k).mean()
    real = image_of_caption >= 0
    truth = S[image_of_caption[real], np.flatnonzero(real)]
    return to_text, ((~(truth > S[:, real])).sum(axis=0) - 1 < k).mean()


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


def qformer_mask(Q, is_real, objective):
    B, T = is_real.shape
    is_query, columns = (
        np.arange(Q + T) < Q,
        np.concatenate([np.ones((B, Q), dtype=bool), is_real], axis=1)[:, None, None, :],
    )
    rules = {
        "itc": is_query[:, None] == is_query,
        "itg": np.tri(Q + T, dtype=bool) | is_query,
        "itm": np.ones((Q + T, Q + T), dtype=bool),
    }
    return columns & rules[objective]


def max_over_queries(I, T):
    return (unit(I) @ unit(T).T).max(axis=1)


def max_over_queries_vjp(g, I, T):
    u, t = unit(I), unit(T)
    cosines = u @ t.T
    G = g[:, None] * (cosines == cosines.max(axis=1, keepdims=True))
    du, dt = G @ t, np.einsum("bqc,bqe->ce", G, u)
    project = [
        (d - (d * y).sum(-1, keepdims=True) * y) / np.linalg.norm(x, axis=-1, keepdims=True)
        for d, y, x in ((du, u, I), (dt, t, T))
    ]
    return tuple(project)


def refuse_equal(ids):
    if (ids == ids[0]).all():
        raise ValueError(f"row 0 has no candidate: all {len(ids)} ids are {ids[0]}")


def draw_rows(p, rng):
    """Draw one column a row with these probabilities."""
    cumulated = p.cumsum(axis=1)
    return (cumulated <= cumulated[:, -1:] * rng.random((len(p), 1))).sum(axis=1)


def hard_negatives(S, ids, rng):
    refuse_equal(ids)
    other = ids[:, None] != ids
    return draw_rows(masked_softmax(S.T, other), rng), draw_rows(masked_softmax(S, other), rng)


def chosen_negatives(S, ids, rng):
    refuse_equal(ids)
    p = [masked_softmax(scores.astype(float), ids[:, None] != ids) for scores in (S.T, S)]
    return tuple(np.array([rng.choice(len(ids), p=row) for row in rows]) for rows in p)


def itm_pairs(image_for_text, text_for_image):
    own = np.arange(len(image_for_text))
    return (
        np.concatenate([own, image_for_text, own]),
        np.concatenate([own, own, text_for_image]),
        np.repeat([1, 0, 0], len(own)),
    )


def itm_loss(logits, labels):
    return -log_softmax(logits.mean(axis=1))[np.arange(len(labels)), labels].mean()


def smoothed(log_p, ids, smoothing):
    own = np.take_along_axis(log_p, ids[..., None], axis=-1)[..., 0]
    return -(1 - smoothing) * own - smoothing * log_p.mean(axis=-1)


def tokens(each, scored):
    return (each * scored).sum() / scored.sum()


def sequences(each, scored):
    return ((each * scored).sum(axis=1) / scored.sum(axis=1)).mean()


def lm_loss(
    logits, ids, is_real, smoothing=0.0, shift=1, smooth=smoothed, mean=tokens, log_p=log_softmax
):
    places = logits.shape[1] - shift
    return mean(smooth(log_p(logits[:, :places]), ids[:, shift:], smoothing), is_real[:, shift:])
