"""Planted mistakes in masks: causal, padding, prefix, their algebra, and what layers let through."""

import numpy as np
import right
from kept import planted

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
    first_token_hidden_in_long_captions=lambda n: (
        np.tri(n, dtype=bool) & ((np.arange(n) > 0) | (n < 4) | np.eye(n, dtype=bool))
    ),
)
PADDING = planted(
    "padding_mask",
    rows_masked_instead_of_columns=lambda r: np.broadcast_to(
        r[:, None, :, None], (*r.shape[:1], 1, r.shape[1], r.shape[1])
    ),
    inverted=lambda r: ~r[:, None, None, :],
    any_caption_of_the_batch=lambda r: np.broadcast_to(r.any(0), (len(r), 1, 1, r.shape[1])),
    one_length_for_all=lambda r: np.broadcast_to(r[:1, None, None, :], (len(r), 1, 1, r.shape[1])),
    batch_axis_read_as_rows=lambda r: r,
    read_as_heads=lambda r: np.repeat(r[:, None, :], r.shape[1], axis=1),
    length_is_the_sum=lambda r: (np.arange(r.shape[1]) < r.sum(1, keepdims=True))[:, None, None, :],
    off_by_one=lambda r: np.roll(r, 1, axis=1)[:, None, None, :],
    last_token_dropped=lambda r: (
        r & np.append(r[:, 1:], np.zeros((len(r), 1), dtype=bool), axis=1)
    )[:, None, None, :],
    forgotten=lambda r: np.ones((len(r), 1, 1, r.shape[1]), dtype=bool),
    floats=lambda r: r[:, None, None, :].astype(float),
    real_tokens_only_see_earlier_ones=lambda r: (
        r[:, None, None, :] & np.tri(r.shape[1], dtype=bool)
    ),
)
PREFIX = planted(
    "prefix_mask",
    plain_causal=lambda p, n: np.tri(n, dtype=bool),
    rows_open_too=lambda p, n: (
        np.tri(n, dtype=bool) | (np.arange(n) < p) | (np.arange(n) < p)[:, None]
    ),
    two_separate_blocks=lambda p, n: (
        (np.tri(n, dtype=bool) | (np.arange(n) < p))
        & ~((np.arange(n) >= p)[:, None] & (np.arange(n) < p))
    ),
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
    copies_cancel=lambda a, b: (
        np.zeros_like(a) if a.shape == b.shape and (a == b).all() and not a.all() else a & b
    ),
)
REACH = planted(
    "reachability",
    no_residual=lambda masks: right.reachability(masks, residual=False),
    last_layer_first=lambda masks: right.reachability(masks[::-1]),
    transposed_product=lambda masks: right.reachability(masks[:1] + [mask.T for mask in masks[1:]]),
    first_layer_only=lambda masks: right.reachability(masks[:1]),
    first_layer_twice=lambda masks: right.reachability(masks[:1] + masks),
    one_layer_too_many=lambda masks: right.reachability(
        masks + [np.ones_like(masks[0])] * (len(masks) == 1)
    ),
    masks_joined_not_composed=lambda masks: right.reachability([np.logical_or.reduce(masks)]),
    last_layer_decides=lambda masks: right.reachability(masks[-1:]),
    rows_and_columns_swapped=lambda masks: right.reachability(masks).T,
)
