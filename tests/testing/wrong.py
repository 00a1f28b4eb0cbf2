"""Planted mistakes, each a function that looks right and breaks a property; run as a script to print the table of causes."""

import numpy as np
import right
from right import LIMIT, half, log_softmax, masked_softmax, scores, softmax, unit

KEPT = {name: variants["plain"] for name, variants in right.RIGHT.items()}


def planted(suite, **mistakes):
    """Return contracts by name: a wrong function stands alone, a wrong option (a vjp, a step …) beside what is right."""
    return {name.replace("_", " "): {"fn": wrong} if callable(wrong) else {**KEPT[suite], **wrong} for name, wrong in mistakes.items()}


CAUSAL = planted(
    "causal_mask",
    sees_one_token_ahead=lambda n: np.tri(n, k=1, dtype=bool),
    does_not_see_itself=lambda n: np.tri(n, k=-1, dtype=bool),
    transposed=lambda n: np.tri(n, dtype=bool).T,
    all_open=lambda n: np.ones((n, n), dtype=bool),
    only_itself=lambda n: np.eye(n, dtype=bool),
    forgets_the_far_past=lambda n: np.tri(n, dtype=bool) & ~np.tri(n, k=-3, dtype=bool),
    flipped_left_to_right=lambda n: np.tri(n, dtype=bool)[:, ::-1],
    floats=lambda n: np.tri(n),
    whole_numbers=lambda n: np.tri(n, dtype=int),
    inverted=lambda n: ~np.tri(n, dtype=bool),
    one_row_too_many=lambda n: np.tri(n + 1, dtype=bool),
    right_up_to_four_tokens=lambda n: np.tri(n, k=int(n > 4), dtype=bool),
    first_token_hidden_in_long_captions=lambda n: np.tri(n, dtype=bool) & ((np.arange(n) > 0) | (n < 4) | np.eye(n, dtype=bool)),
)
PADDING = planted(
    "padding_mask",
    rows_masked_instead_of_columns=lambda r: np.broadcast_to(r[:, None, :, None], (*r.shape[:1], 1, r.shape[1], r.shape[1])),
    inverted=lambda r: ~r[:, None, None, :],
    any_caption_of_the_batch=lambda r: np.broadcast_to(r.any(0), (len(r), 1, 1, r.shape[1])),
    one_length_for_all=lambda r: np.broadcast_to(r[:1, None, None, :], (len(r), 1, 1, r.shape[1])),
    batch_axis_read_as_rows=lambda r: r,
    read_as_heads=lambda r: np.repeat(r[:, None, :], r.shape[1], axis=1),
    length_is_the_sum=lambda r: (np.arange(r.shape[1]) < r.sum(1, keepdims=True))[:, None, None, :],
    off_by_one=lambda r: np.roll(r, 1, axis=1)[:, None, None, :],
    last_token_dropped=lambda r: (r & np.append(r[:, 1:], np.zeros((len(r), 1), dtype=bool), axis=1))[:, None, None, :],
    forgotten=lambda r: np.ones((len(r), 1, 1, r.shape[1]), dtype=bool),
    floats=lambda r: r[:, None, None, :].astype(float),
    real_tokens_only_see_earlier_ones=lambda r: r[:, None, None, :] & np.tri(r.shape[1], dtype=bool),
)
PREFIX = planted(
    "prefix_mask",
    plain_causal=lambda p, n: np.tri(n, dtype=bool),
    rows_open_too=lambda p, n: np.tri(n, dtype=bool) | (np.arange(n) < p) | (np.arange(n) < p)[:, None],
    two_separate_blocks=lambda p, n: (np.tri(n, dtype=bool) | (np.arange(n) < p)) & ~((np.arange(n) >= p)[:, None] & (np.arange(n) < p)),
    open_suffix=lambda p, n: (np.arange(n) < p) | (np.arange(n) >= p)[:, None],
    one_token_too_short=lambda p, n: np.tri(n, dtype=bool) | (np.arange(n) < p - 1),
    one_token_too_long=lambda p, n: np.tri(n, dtype=bool) | (np.arange(n) < p + 1),
    floats=lambda p, n: right.prefix_mask(p, n).astype(float),
)
ALGEBRA = planted(
    "mask_algebra",
    either=lambda a, b: a | b,
    exactly_one=lambda a, b: a ^ b,
    equal=lambda a, b: a == b,
    last_one_wins=lambda a, b: np.broadcast_to(b, np.broadcast_shapes(a.shape, b.shape)),
    first_one_wins=lambda a, b: np.broadcast_to(a, np.broadcast_shapes(a.shape, b.shape)),
    sum_clipped=lambda a, b: np.clip(a.astype(int) + b, 0, 1).astype(bool),
    nothing=lambda a, b: np.zeros(np.broadcast_shapes(a.shape, b.shape), dtype=bool),
    diagonal_lost=lambda a, b: a & b & ~np.eye(*np.broadcast_shapes(a.shape, b.shape), dtype=bool),
    the_second_compared_with_its_first_row=lambda a, b: a & b & (b == b[:1]),
    copies_cancel=lambda a, b: np.zeros_like(a) if a.shape == b.shape and (a == b).all() and not a.all() else a & b,
)
REACH = planted(
    "reachability",
    no_residual=lambda masks: right.reachability(masks, residual=False),
    last_layer_first=lambda masks: right.reachability(masks[::-1]),
    transposed_product=lambda masks: right.reachability(masks[:1] + [mask.T for mask in masks[1:]]),
    first_layer_only=lambda masks: right.reachability(masks[:1]),
    first_layer_twice=lambda masks: right.reachability(masks[:1] + masks),
    one_layer_too_many=lambda masks: right.reachability(masks + [np.ones_like(masks[0])] * (len(masks) == 1)),
    masks_joined_not_composed=lambda masks: right.reachability([np.logical_or.reduce(masks)]),
    last_layer_decides=lambda masks: right.reachability(masks[-1:]),
    rows_and_columns_swapped=lambda masks: right.reachability(masks).T,
)


def base_2(x):
    e = np.exp2(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def p_only(g, x):
    return softmax(x) * g


SOFTMAX = planted(
    "softmax",
    whole_array=lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum(),
    wrong_axis=lambda x: softmax(x, 0),
    no_shift_by_the_maximum=lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    epsilon_in_the_denominator=lambda x: (
        np.exp(x - x.max(-1, keepdims=True)) / (np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True) + 0.01)
    ),
    base_two=base_2,
    hidden_temperature=lambda x: softmax(x / 2),
    absolute_values_normalized=lambda x: abs(x) / abs(x).sum(-1, keepdims=True),
    sigmoid=lambda x: 1 / (1 + np.exp(-x)),
    sign_forgotten=lambda x: softmax(-x),
    logarithms_returned=log_softmax,
    vjp_without_the_outer_product={"vjp": p_only},
    vjp_is_zero={"vjp": lambda g, x: np.zeros_like(x)},
    vjp_subtracts_the_plain_mean={"vjp": lambda g, x: softmax(x) * (g - g.mean(-1, keepdims=True))},
    vjp_of_the_whole_array={"vjp": lambda g, x: softmax(x) * (g - (softmax(x) * g).sum())},
    vjp_negative={"vjp": lambda g, x: -right.softmax_vjp(g, x)},
)
LOG_SOFTMAX = planted(
    "log_softmax",
    logarithm_of_the_softmax=lambda x: np.log(softmax(x)),
    logarithm_with_epsilon=lambda x: np.log(softmax(x) + 1e-6),
    wrong_axis=lambda x: log_softmax(x, 0),
    no_shift_by_the_maximum=lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
    only_shifted=lambda x: x - x.max(-1, keepdims=True),
    base_two=lambda x: np.log2(np.maximum(softmax(x), 1e-300)),
    vjp_of_the_softmax={"vjp": right.softmax_vjp},
    vjp_without_the_sum={"vjp": lambda g, x: g - softmax(x)},
)


def masked_after(x, mask):
    return softmax(x) * mask


MASKED_SOFTMAX = planted(
    "masked_softmax",
    masked_after_the_sum=masked_after,
    mask_ignored=lambda x, m: softmax(x),
    mask_inverted=lambda x, m: masked_softmax(x, ~m),
    minus_one_added=lambda x, m: softmax(x - ~m),
    minus_ten_thousand=lambda x, m: softmax(x + np.where(m, 0, -1e4).astype(x.dtype)),
    infinity_gives_nan=right.infinite_masked_softmax,
    zeros_for_blocked_scores=lambda x, m: softmax(x * m),
    renormalized_over_all=lambda x, m: masked_after(x, m) / masked_after(x, m).sum(),
    maximum_of_the_blocked_too=lambda x, m: (
        np.exp(x - x.max(-1, keepdims=True)) * m / ((np.exp(x - x.max(-1, keepdims=True)) * m).sum(-1, keepdims=True))
    ),
    empty_rows_uniform=lambda x, m: np.where(m.any(-1, keepdims=True), masked_softmax(x, m), x.dtype.type(1 / x.shape[-1])),
    whole_array=lambda x, m: np.exp(x - x.max()) * m / (np.exp(x - x.max()) * m).sum(),
    no_shift_by_the_maximum=lambda x, m: np.exp(x) * m / np.maximum((np.exp(x) * m).sum(-1, keepdims=True), 1e-30),
    base_two=lambda x, m: masked_softmax(x * np.log(2), m),
    epsilon_in_the_denominator=lambda x, m: masked_softmax(x, m) / 1.01,
    vjp_forgets_the_mask={"vjp": lambda g, x, m: right.softmax_vjp(g, x)},
)


def attend(weigh, scaled=True):
    return lambda q, k, v, mask: weigh(scores(q, k, scaled), mask) @ v


def over_queries(s, mask):
    e = np.exp(s - s.max()) * mask
    return e / np.maximum(e.sum(-2, keepdims=True), 1e-30)


def in_place(q, k, v, mask):
    s = scores(q, k)
    q /= np.sqrt(q.shape[-1])
    return masked_softmax(s, mask) @ v


def heads_without_transpose(q, k, v, mask, H):
    B, T, W = q.shape
    q, k, v = (x.reshape(B, H, x.shape[1], W // H) for x in (q, k, v))
    return right.attention(q, k, v, mask).reshape(B, T, W)


def heads_interleaved(q, k, v, mask, H):
    q, k, v = (x.reshape(*x.shape[:2], -1, H).transpose(0, 3, 1, 2) for x in (q, k, v))
    out = right.attention(q, k, v, mask).transpose(0, 2, 3, 1)
    return out.reshape(*out.shape[:2], -1)


def cache_in_wrong_order(q, k, v, cache):
    keys, values = (k, v) if cache is None else (np.concatenate([cache[0], k], axis=-2), np.concatenate([v, cache[1]], axis=-2))
    return right.attention(q, keys, values, np.ones((1, keys.shape[-2]), dtype=bool)), (keys, values)


def position_of_the_cache_added(q, k, v, cache):
    at = 0 if cache is None else cache[0].shape[-2]
    return right.step(q, k + k.dtype.type(at), v, cache)


def batch_and_heads_crossed(q, k, v, mask):
    whole = right.attention(q, k, v, mask)
    return whole.swapaxes(0, 1).reshape(whole.shape)


def mask_read_as_heads(q, k, v, mask):
    return right.attention(q, k, v, mask.swapaxes(0, 1) if mask.shape[1] == 1 else mask)


ATTENTION = planted(
    "attention",
    mask_after_the_softmax=attend(lambda s, m: softmax(s) * m),
    mask_ignored=attend(lambda s, m: softmax(s)),
    mask_inverted=attend(lambda s, m: masked_softmax(s, ~m)),
    mask_transposed=attend(lambda s, m: masked_softmax(s, np.swapaxes(m, -1, -2) if m.shape[-1] == m.shape[-2] else m)),
    mask_added_as_zero_and_one=attend(lambda s, m: softmax(s + m.astype(s.dtype))),
    minus_one_added=attend(lambda s, m: softmax(s - (~m).astype(s.dtype))),
    minus_ten_thousand_added=right.additive_attention,
    blocked_scores_set_to_zero=attend(lambda s, m: softmax(s * m)),
    infinity_gives_nan=right.infinite_attention,
    softmax_over_queries=attend(over_queries),
    softmax_over_everything=attend(lambda s, m: np.exp(s) * m / np.maximum((np.exp(s) * m).sum((-1, -2), keepdims=True), 1e-30)),
    sigmoid_weights=attend(lambda s, m: m / (1 + np.exp(-s))),
    weights_not_normalized=attend(lambda s, m: np.exp(s) * m),
    mean_of_the_allowed=attend(lambda s, m: masked_softmax(s * 0, m)),
    best_key_only=attend(lambda s, m: masked_softmax(s * 1000, m)),
    scale_forgotten=attend(masked_softmax, scaled=False),
    scaled_by_width=lambda q, k, v, m: masked_softmax(scores(q, k, False) / q.shape[-1], m) @ v,
    values_normalized=lambda q, k, v, m: right.attention(q, k, v / np.linalg.norm(v, axis=-1, keepdims=True), m),
    values_through_tanh=lambda q, k, v, m: right.attention(q, k, np.tanh(v), m),
    keys_normalized=lambda q, k, v, m: right.attention(q, k / np.linalg.norm(k, axis=-1, keepdims=True), v, m),
    constant_output=lambda q, k, v, m: np.zeros((*q.shape[:-1], v.shape[-1]), dtype=q.dtype),
    position_added_to_keys=lambda q, k, v, m: right.attention(q, k + np.arange(k.shape[-2], dtype=k.dtype)[:, None], v, m),
    position_added_to_queries=lambda q, k, v, m: right.attention(q + np.arange(q.shape[-2], dtype=q.dtype)[:, None], k, v, m),
    one_key_ahead=attend(lambda s, m: masked_softmax(s, m | np.roll(m, 1, axis=-1))),
    batch_and_heads_crossed=batch_and_heads_crossed,
    mask_read_as_heads=mask_read_as_heads,
    inputs_changed_in_place=in_place,
    heads_reshaped_without_transpose={"multihead": heads_without_transpose},
    heads_interleaved={"multihead": heads_interleaved},
    cache_in_the_wrong_order={"step": cache_in_wrong_order},
    cache_shifts_positions={"step": position_of_the_cache_added},
    weights_before_the_mask={"weights": lambda q, k, v, m: softmax(scores(q, k))},
    weights_after_dropout={"weights": lambda q, k, v, m: right.weights(q, k, v, m) * q.dtype.type(1.1)},
    weights_in_another_order={"weights": lambda q, k, v, m: np.where(m, m / m.sum(-1, keepdims=True), 0)},
    values_in_another_shape=lambda q, k, v, m: right.attention(q, k, v, m)[..., :1, :],
)


def norm_with(mean=True, axis=-1, ddof=0, inside=True):
    def normalize(x, gain, bias, eps):
        centered = x - x.mean(axis, keepdims=True) * mean
        v = (centered**2).sum(axis, keepdims=True) / (x.shape[axis] - ddof if axis is not None else x.size)
        return centered / (np.sqrt(v + eps) if inside else np.sqrt(v) + eps) * gain + bias

    return normalize


LAYER_NORM = planted(
    "layer_norm",
    unbiased_variance=norm_with(ddof=1),
    eps_outside_the_root=norm_with(inside=False),
    no_eps=lambda x, g, b, eps: norm_with()(x, g, b, 0),
    root_mean_square=norm_with(mean=False),
    over_the_batch=norm_with(axis=0),
    over_the_whole_array=lambda x, g, b, eps: (x - x.mean()) / np.sqrt(x.var() + eps) * g + b,
    one_plus_gain=lambda x, g, b, eps: norm_with()(x, 1 + g, b, eps),
    bias_inside_the_gain=lambda x, g, b, eps: (norm_with()(x, 1, 0, eps) + b) * g,
    bias_forgotten=lambda x, g, b, eps: norm_with()(x, g, 0 * b, eps),
    variance_without_the_root=lambda x, g, b, eps: (x - x.mean(-1, keepdims=True)) / (x.var(-1, keepdims=True) + eps) * g + b,
    eps_squared=lambda x, g, b, eps: norm_with()(x, g, b, eps**2),
    variance_of_the_first_row=lambda x, g, b, eps: (x - x.mean(-1, keepdims=True)) / np.sqrt(x[:1].var(-1, keepdims=True) + eps) * g + b,
    vjp_holds_the_mean_constant={"vjp": lambda g, x, gain, b, eps: g * gain / np.sqrt(x.var(-1, keepdims=True) + eps)},
    vjp_holds_the_variance_constant={
        "vjp": lambda g, x, gain, b, eps: (g * gain - (g * gain).mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    },
    vjp_forgets_the_gain={"vjp": lambda g, x, gain, b, eps: right.layer_norm_vjp(g, x, np.ones_like(gain), b, eps)},
)


def of_logits(rule, scaled=lambda s: s):
    return lambda I, T, s: rule(scaled(s) * unit(I) @ unit(T).T)


def log_of_softmax(S, axis):
    e = np.exp(S)
    return -np.log(np.diagonal(e / e.sum(axis, keepdims=True))).mean()


def decoupled(S):
    others = np.where(np.eye(len(S), dtype=bool), -1e9, S)
    both = [np.log(np.exp(others - others.max(a, keepdims=True)).sum(a)) + others.max(a) - np.diagonal(S) for a in (0, 1)]
    return np.mean(both)


def own_similarities(I, T, s):
    S, targets = s * I @ T.T, softmax(s * (I @ I.T + T @ T.T) / 2)
    return (-(targets * log_softmax(S)).sum(1).mean() - (targets.T * log_softmax(S.T)).sum(1).mean()) / 2


def one_side(tower):
    def vjp(g, *inputs):
        return tuple(0 * d if i == tower else d for i, d in enumerate(right.loss_vjp(g, *inputs)))

    return {"vjp": vjp}


def half_slopes(S):
    return (softmax(S, 1) - np.eye(len(S), dtype=S.dtype)) / len(S)


def logits_of(fn):
    return {"fn": fn, "inputs": "logits", "vjp": None, "half": None, "shard": None, "soft": None, "blocked": None, "cached": None}


CONTRASTIVE = planted(
    "contrastive_loss",
    one_direction_only=of_logits(lambda S: half(S, 1)),
    text_to_picture_only=of_logits(lambda S: half(S, 0)),
    both_halves_on_one_axis=of_logits(lambda S: (half(S, 1) + half(S, 1)) / 2),
    halves_added=of_logits(lambda S: half(S, 0) + half(S, 1)),
    sum_for_mean=of_logits(lambda S: (half(S, 0) + half(S, 1)) / 2 * len(S)),
    joint_softmax=of_logits(lambda S: -np.diagonal(log_softmax(S.ravel()).reshape(S.shape)).mean()),
    positive_not_in_the_denominator=of_logits(decoupled),
    best_match_instead_of_its_pair=of_logits(lambda S: -(log_softmax(S, 1).max(1).mean() + log_softmax(S, 0).max(0).mean()) / 2),
    sign_forgotten=of_logits(lambda S: -right.loss_of_logits(S)),
    similarity_negated=of_logits(lambda S: right.loss_of_logits(-S)),
    labels_shifted=of_logits(lambda S: right.loss_of_logits(np.roll(S, 1, axis=1))),
    labels_sorted=of_logits(lambda S: right.loss_of_logits(S[:, np.argsort(-S[0])])),
    scale_inverted=of_logits(right.loss_of_logits, lambda s: 1 / s),
    scale_squared=of_logits(right.loss_of_logits, lambda s: s * s),
    scale_exponentiated=of_logits(right.loss_of_logits, lambda s: np.exp(np.minimum(s, 50))),
    scale_forgotten=of_logits(right.loss_of_logits, lambda s: 1 + 0 * s),
    softmax_twice=of_logits(lambda S: (half(softmax(S, 0), 0) + half(softmax(S, 1), 1)) / 2),
    logarithm_of_the_softmax=of_logits(lambda S: (log_of_softmax(S, 0) + log_of_softmax(S, 1)) / 2),
    not_normalized=lambda I, T, s: right.loss_of_logits(s * I @ T.T),
    normalized_over_the_batch=lambda I, T, s: right.loss_of_logits(s * (I / np.linalg.norm(I, axis=0)) @ (T / np.linalg.norm(T, axis=0)).T),
    pictures_not_normalized=lambda I, T, s: right.loss_of_logits(s * I @ unit(T).T),
    distances_for_cosines=lambda I, T, s: right.loss_of_logits(-s * ((unit(I)[:, None] - unit(T)) ** 2).sum(-1) ** 0.5),
    targets_from_own_similarities=own_similarities,
    first_coordinate_weighs_more=lambda I, T, s: right.loss(*(x * (1 + (np.arange(x.shape[1]) == 0)).astype(x.dtype) for x in (I, T)), s),
    diagonal_ignores_duplicates=of_logits(lambda S: right.loss_of_logits(S) / (1 + (len(np.unique(np.round(S[0], 6))) < len(S)))),
    picture_tower_detached=one_side(0),
    text_tower_detached=one_side(1),
    gradient_of_one_half={"vjp": lambda g, I, T, s: right.loss_vjp(g, I, T, s, half_slopes)},
    gradient_negative={"vjp": lambda g, *inputs: tuple(-d for d in right.loss_vjp(g, *inputs))},
    gradient_without_the_scale={"vjp": lambda g, I, T, s: tuple(d / s for d in right.loss_vjp(g, I, T, s))},
    gradient_ignores_the_normalization={
        "vjp": lambda g, I, T, s: (
            g * s * right.slopes(s * unit(I) @ unit(T).T) @ unit(T),
            g * s * right.slopes(s * unit(I) @ unit(T).T).T @ unit(I),
        )
    },
    half_on_the_other_axis={"half": lambda S, axis: half(S, 1 - axis)},
    half_counts_its_positive_twice={
        "half": lambda S, axis: half(S, axis) - np.log(1 + np.diagonal(softmax(S, axis))).mean() + 0.5 * S.mean()
    },
    half_renormalized_by_its_columns={"half": lambda S, axis: half(S, axis) * len(S) / S.shape[1]},
    shard_without_the_offset={"shard": lambda S, rank: right.shard(S, 0)},
    shard_sees_its_own_captions_only={"shard": lambda S, rank: half(S[:, rank * len(S) : (rank + 1) * len(S)], 1)},
    soft_targets_as_a_divergence={"soft": lambda S, t: (t * (np.log(np.maximum(t, 1e-30)) - log_softmax(S))).sum(1).mean()},
    soft_targets_not_summing_to_one={"soft": lambda S, t: right.soft(S, t / t.max())},
    soft_targets_one_hot={"soft": lambda S, t: right.soft(S, np.eye(len(S)))},
    last_block_dropped={"blocked": lambda I, T, s: right.blocked(I[: max(1, len(I) // 2 * 2)], T[: max(1, len(I) // 2 * 2)], s)},
    blocks_see_only_themselves={
        "blocked": lambda I, T, s: np.mean([right.loss(I[i : i + 2], T[i : i + 2], s) for i in range(0, len(I), 2)])
    },
    cached_step_forgets_the_scale={"cached": lambda I, T, s: right.loss_vjp(1 / s, I, T, s)},
    cached_step_sums_over_blocks={
        "cached": lambda I, T, s: tuple(
            np.concatenate(d) if d[0].ndim else sum(d)
            for d in zip(*(right.loss_vjp(1.0, I[i : i + 2], T[i : i + 2], s) for i in range(0, len(I), 2)), strict=True)
        )
    },
    logits_of_one_axis_twice=logits_of(lambda S: (half(S, 1) + half(S, 1)) / 2),
    logits_squared=logits_of(lambda S: right.loss_of_logits(np.sign(S) * S**2)),
)


def hits(rank):
    return lambda S, k: (rank(S) < k).mean()


def order(S):
    return np.argsort(np.argsort(-S, axis=1, kind="stable"), axis=1, kind="stable")


def per_caption(S, owner, k):
    """Five captions read as five classes: each caption is a truth of its own."""
    real = owner >= 0
    truth = S[owner[real], np.flatnonzero(real)]
    return np.mean([(truth[j] <= S[i]).sum() - 1 < k for j, i in enumerate(owner[real])]), right.captions(S, owner, k)[1]


def with_(to_text=None, to_image=None):
    def captions(S, owner, k):
        plain = right.captions(S, owner, k)
        return to_text(S, owner, k) if to_text else plain[0], to_image(S, owner, k) if to_image else plain[1]

    return {"captions": captions}


def share_of_the_pool(S, owner, k):
    own = np.arange(len(S))[:, None] == owner
    best = np.where(own, S, -np.inf).max(axis=1, keepdims=True)
    return (((best <= S) & ~own).sum(axis=1) < k * S.shape[1] / (owner >= 0).sum()).mean()


RECALL = planted(
    "recall",
    sorted_ascending=hits(lambda S: np.diagonal(order(-S))),
    one_k_too_many=lambda S, k: right.recall(S, k + 1),
    one_k_too_few=lambda S, k: right.recall(S, k - 1),
    other_direction=lambda S, k: right.recall(S.T, k),
    rank_over_the_whole_matrix=hits(lambda S: (np.diagonal(S)[:, None, None] < S).sum((1, 2))),
    threshold=lambda S, k: (np.diagonal(S) > 0).mean(),
    ties_count_as_hits=hits(lambda S: (np.diagonal(S)[:, None] < S).sum(1)),
    neighbors_count_as_hits=hits(lambda S: np.minimum(np.diagonal(order(S)), np.diagonal(np.roll(order(S), -1, axis=1)))),
    first_half_only=lambda S, k: right.recall(S[: (len(S) + 1) // 2, : (len(S) + 1) // 2], min(k, (len(S) + 1) // 2)),
    any_row_counts=lambda S, k: np.isin(np.arange(len(S)), np.argwhere(order(S) < k)[:, 1]).mean(),
    exactly_at_k=lambda S, k: (np.diagonal(order(S)) == k - 1).mean(),
    captions_as_classes={"captions": per_caption},
    all_captions_must_hit=with_(
        lambda S, owner, k: np.mean([min((S[i] > S[i, j]).sum() < k for j in np.flatnonzero(owner == i)) for i in range(len(S))])
    ),
    first_caption_only=with_(lambda S, owner, k: np.mean([(S[i, np.argmax(owner == i)] <= S[i]).sum() - 1 < k for i in range(len(S))])),
    own_copies_count_against=with_(
        lambda S, owner, k: ((np.where(np.arange(len(S))[:, None] == owner, S, -np.inf).max(1, keepdims=True) <= S).sum(1) - 1 < k).mean()
    ),
    picture_found_by_its_place=with_(
        to_image=lambda S, owner, k: np.mean([(S[j % len(S), j] <= S[:, j]).sum() - 1 < k for j in np.flatnonzero(owner >= 0)])
    ),
    text_rank_over_all_captions=with_(
        to_image=lambda S, owner, k: np.mean([(S[owner[j], j] <= S[owner[j]]).sum() - 1 < k for j in np.flatnonzero(owner >= 0)])
    ),
    ranks_as_a_share_of_the_pool=with_(share_of_the_pool),
    captions_of_no_picture_count=with_(to_image=lambda S, owner, k: ((S[owner, np.arange(len(owner))] <= S).sum(0) - 1 < k).mean()),
    swap_ties_win={"swap": lambda a, b: (a >= b).mean()},
    swap_ties_lose={"swap": lambda a, b: (a > b).mean()},
    swap_reversed={"swap": lambda a, b: right.swap(b, a)},
    swap_always_half={"swap": lambda a, b: 0.5},
)


def clipped(t):
    return np.minimum(t, t.dtype.type(LIMIT))


TEMPERATURE = planted(
    "temperature",
    log_stored_as_scale=lambda c, t: right.loss_of_logits(t * c),
    divided_by_the_scale=lambda c, t: right.loss_of_logits(c / np.exp(t)),
    clamped_in_the_forward_pass=lambda c, t: right.tempered(c, clipped(t)),
    scale_ignored=lambda c, t: right.loss_of_logits(c),
    starts_at_the_temperature={"initial": 0.07},
    starts_at_the_scale={"initial": 1 / 0.07},
    starts_below_zero={"initial": float(np.log(0.07))},
    divisor_multiplies={"divided": lambda c, temperature: right.divided(c, 1 / temperature)},
    negative_temperature_taken={"divided": lambda c, temperature: right.loss_of_logits(c / temperature) if temperature else 0.0},
    clamp_at_one_hundred={"clamp": lambda t: np.minimum(t, 100)},
    clamp_from_below={"clamp": lambda t: np.maximum(t, t.dtype.type(LIMIT))},
    clamp_both_ways={"clamp": lambda t: np.clip(t, 0, LIMIT)},
    clamp_shrinks={"clamp": lambda t: clipped(t) * t.dtype.type(0.999)},
    gradient_dies_at_the_limit={"vjp": lambda g, c, t: tuple(d * (t < LIMIT - 1e-6) for d in right.tempered_vjp(g, c, t))},
    gradient_without_the_exponential={"vjp": lambda g, c, t: (right.tempered_vjp(g, c, t)[0], right.tempered_vjp(g, c, t)[1] * np.exp(-t))},
    gradient_of_t_negative={"vjp": lambda g, c, t: (right.tempered_vjp(g, c, t)[0], -right.tempered_vjp(g, c, t)[1])},
    gradient_negative={"vjp": lambda g, c, t: tuple(-d for d in right.tempered_vjp(g, c, t))},
    scores_scaled={"scores": lambda I, T: right.cosines(I, T) / 0.07},
    scores_are_distances={"scores": lambda I, T: 1 - right.cosines(I, T)},
    scores_of_raw_rows={"scores": lambda I, T: I @ T.T},
)
WRONG = {
    "causal_mask": CAUSAL,
    "padding_mask": PADDING,
    "prefix_mask": PREFIX,
    "mask_algebra": ALGEBRA,
    "reachability": REACH,
    "softmax": SOFTMAX,
    "log_softmax": LOG_SOFTMAX,
    "masked_softmax": MASKED_SOFTMAX,
    "attention": ATTENTION,
    "layer_norm": LAYER_NORM,
    "contrastive_loss": CONTRASTIVE,
    "recall": RECALL,
    "temperature": TEMPERATURE,
}


def broken_by(suite, contract, examples):
    """Return the ids of the properties that a function breaks, without looking for the smallest input."""
    from tinymm.testing import check

    contract = dict(contract)
    one = check.CHECKS[suite]
    promised = one.promise(contract.pop("fn"), contract)
    return tuple(one.suite.findings(promised, one.suite.select(promised, "strict")[0], examples))


if __name__ == "__main__":
    print('"""Which properties each planted mistake of the tests breaks; the likely cause of a failure is the nearest row."""\n')
    print("CAUSES: dict[str, dict[str, str]] = {")
    for suite, mistakes in WRONG.items():
        print(f'    "{suite}": {{')
        for name, contract in mistakes.items():
            print(f'        "{name}": "{" ".join(broken_by(suite, contract, 100))}",')
        print("    },")
    print("}")
