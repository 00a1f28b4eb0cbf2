"""Planted mistakes in the softmax family, attention and layer norm."""

import numpy as np
import right
from kept import planted
from right import log_softmax, masked_softmax, scores, softmax


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
        np.exp(x - x.max(-1, keepdims=True))
        / (np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True) + 0.01)
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
        np.exp(x - x.max(-1, keepdims=True))
        * m
        / ((np.exp(x - x.max(-1, keepdims=True)) * m).sum(-1, keepdims=True))
    ),
    empty_rows_uniform=lambda x, m: np.where(
        m.any(-1, keepdims=True), masked_softmax(x, m), x.dtype.type(1 / x.shape[-1])
    ),
    whole_array=lambda x, m: np.exp(x - x.max()) * m / (np.exp(x - x.max()) * m).sum(),
    no_shift_by_the_maximum=lambda x, m: (
        np.exp(x) * m / np.maximum((np.exp(x) * m).sum(-1, keepdims=True), 1e-30)
    ),
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
    keys, values = (
        (k, v)
        if cache is None
        else (np.concatenate([cache[0], k], axis=-2), np.concatenate([v, cache[1]], axis=-2))
    )
    return right.attention(q, keys, values, np.ones((1, keys.shape[-2]), dtype=bool)), (
        keys,
        values,
    )


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
    mask_transposed=attend(
        lambda s, m: masked_softmax(s, np.swapaxes(m, -1, -2) if m.shape[-1] == m.shape[-2] else m)
    ),
    mask_added_as_zero_and_one=attend(lambda s, m: softmax(s + m.astype(s.dtype))),
    minus_one_added=attend(lambda s, m: softmax(s - (~m).astype(s.dtype))),
    minus_ten_thousand_added=right.additive_attention,
    blocked_scores_set_to_zero=attend(lambda s, m: softmax(s * m)),
    infinity_gives_nan=right.infinite_attention,
    softmax_over_queries=attend(over_queries),
    softmax_over_everything=attend(
        lambda s, m: np.exp(s) * m / np.maximum((np.exp(s) * m).sum((-1, -2), keepdims=True), 1e-30)
    ),
    sigmoid_weights=attend(lambda s, m: m / (1 + np.exp(-s))),
    weights_not_normalized=attend(lambda s, m: np.exp(s) * m),
    mean_of_the_allowed=attend(lambda s, m: masked_softmax(s * 0, m)),
    best_key_only=attend(lambda s, m: masked_softmax(s * 1000, m)),
    scale_forgotten=attend(masked_softmax, scaled=False),
    scaled_by_width=lambda q, k, v, m: masked_softmax(scores(q, k, False) / q.shape[-1], m) @ v,
    values_normalized=lambda q, k, v, m: right.attention(
        q, k, v / np.linalg.norm(v, axis=-1, keepdims=True), m
    ),
    values_through_tanh=lambda q, k, v, m: right.attention(q, k, np.tanh(v), m),
    keys_normalized=lambda q, k, v, m: right.attention(
        q, k / np.linalg.norm(k, axis=-1, keepdims=True), v, m
    ),
    constant_output=lambda q, k, v, m: np.zeros((*q.shape[:-1], v.shape[-1]), dtype=q.dtype),
    position_added_to_keys=lambda q, k, v, m: right.attention(
        q, k + np.arange(k.shape[-2], dtype=k.dtype)[:, None], v, m
    ),
    position_added_to_queries=lambda q, k, v, m: right.attention(
        q + np.arange(q.shape[-2], dtype=q.dtype)[:, None], k, v, m
    ),
    one_key_ahead=attend(lambda s, m: masked_softmax(s, m | np.roll(m, 1, axis=-1))),
    batch_and_heads_crossed=batch_and_heads_crossed,
    mask_read_as_heads=mask_read_as_heads,
    inputs_changed_in_place=in_place,
    heads_reshaped_without_transpose={"multihead": heads_without_transpose},
    heads_interleaved={"multihead": heads_interleaved},
    cache_in_the_wrong_order={"step": cache_in_wrong_order},
    cache_shifts_positions={"step": position_of_the_cache_added},
    weights_before_the_mask={"weights": lambda q, k, v, m: softmax(scores(q, k))},
    weights_after_dropout={
        "weights": lambda q, k, v, m: right.weights(q, k, v, m) * q.dtype.type(1.1)
    },
    weights_in_another_order={
        "weights": lambda q, k, v, m: np.where(m, m / m.sum(-1, keepdims=True), 0)
    },
    values_in_another_shape=lambda q, k, v, m: right.attention(q, k, v, m)[..., :1, :],
)


def norm_with(mean=True, axis=-1, ddof=0, inside=True):
    def normalize(x, gain, bias, eps):
        centered = x - x.mean(axis, keepdims=True) * mean
        v = (centered**2).sum(axis, keepdims=True) / (
            x.shape[axis] - ddof if axis is not None else x.size
        )
        return centered / (np.sqrt(v + eps) if inside else np.sqrt(v) + eps) * gain + bias

    return normalize


def fast_variance(x):
    return np.maximum((x * x).mean(-1, keepdims=True) - x.mean(-1, keepdims=True) ** 2, 0)


def vjp_of_fast_variance(g, x, gain, b, eps):
    """Find the deviation again by the mean of the squares, and all else as it should be."""
    c, h, s = x - x.mean(-1, keepdims=True), g * gain, np.sqrt(fast_variance(x) + eps)
    return (h - h.mean(-1, keepdims=True) - c / s * (h * c / s).mean(-1, keepdims=True)) / s


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
    variance_without_the_root=lambda x, g, b, eps: (
        (x - x.mean(-1, keepdims=True)) / (x.var(-1, keepdims=True) + eps) * g + b
    ),
    eps_squared=lambda x, g, b, eps: norm_with()(x, g, b, eps**2),
    variance_of_the_first_row=lambda x, g, b, eps: (
        (x - x.mean(-1, keepdims=True)) / np.sqrt(x[:1].var(-1, keepdims=True) + eps) * g + b
    ),
    vjp_holds_the_mean_constant={
        "vjp": lambda g, x, gain, b, eps: g * gain / np.sqrt(x.var(-1, keepdims=True) + eps)
    },
    vjp_holds_the_variance_constant={
        "vjp": lambda g, x, gain, b, eps: (
            (g * gain - (g * gain).mean(-1, keepdims=True))
            / np.sqrt(x.var(-1, keepdims=True) + eps)
        )
    },
    vjp_forgets_the_gain={
        "vjp": lambda g, x, gain, b, eps: right.layer_norm_vjp(g, x, np.ones_like(gain), b, eps)
    },
    mean_of_squares_minus_square_of_mean=lambda x, g, b, eps: (
        (x - x.mean(-1, keepdims=True)) / np.sqrt(fast_variance(x) + eps) * g + b
    ),
    vjp_of_mean_of_squares_minus_square_of_mean={"vjp": vjp_of_fast_variance},
)
