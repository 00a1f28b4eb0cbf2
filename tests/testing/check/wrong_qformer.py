"""Planted mistakes in the Q-Former's masks and in the best of its queries."""

import numpy as np
import right
from kept import planted
from right import qformer_mask, softmax, unit


def sizes(Q, r):
    """Return which of [queries ; text] are queries, and the square of their number."""
    return np.arange(Q + r.shape[1]) < Q, (Q + r.shape[1],) * 2


def queries_to_text(Q, r):
    is_query, _ = sizes(Q, r)
    return is_query[:, None] & ~is_query


def text_to_queries(Q, r):
    return queries_to_text(Q, r).T


def text_to_text(Q, r, block):
    """Return True everywhere, but a block (T, T) or (B, 1, T, T) from text to text."""
    is_query, square = sizes(Q, r)
    whole = np.ones((*block.shape[:-2], *square), dtype=bool)
    whole[..., Q:, Q:] = block
    return whole


def causal(T, k=0):
    return np.tri(T, k=k, dtype=bool)


def real(Q, r):
    return np.concatenate([np.ones((len(r), Q), dtype=bool), r], axis=1)[:, None, None, :]


def changed(*objectives, by):
    """Return the right function, but its mask of these objectives changed by `by(mask, Q, is_real)`."""
    return lambda Q, r, objective: (
        by(qformer_mask(Q, r, objective), Q, r)
        if objective in objectives
        else qformer_mask(Q, r, objective)
    )


def like(objective):
    return lambda mask, Q, r: qformer_mask(Q, r, objective)


def itg_text(block):
    """Return a change that puts `block(T)` in the place of ITG's causal block."""
    return lambda mask, Q, r: (
        real(Q, r) & ~queries_to_text(Q, r) & text_to_text(Q, r, block(r.shape[1]))
    )


ALL = ("itc", "itg", "itm")
QFORMER_MASKS = planted(
    "qformer_masks",
    itc_with_the_mask_of_itm=changed("itc", by=like("itm")),
    itc_with_the_mask_of_itg=changed("itc", by=like("itg")),
    itc_text_sees_queries=changed("itc", by=lambda mask, Q, r: mask | text_to_queries(Q, r)),
    itc_queries_see_text=changed(
        "itc", by=lambda mask, Q, r: mask | (real(Q, r) & queries_to_text(Q, r))
    ),
    itc_text_causal=changed(
        "itc", by=lambda mask, Q, r: mask & text_to_text(Q, r, causal(r.shape[1]))
    ),
    itc_text_shifted_twice=changed(
        "itc",
        by=lambda mask, Q, r: (
            mask & text_to_text(Q, r, np.tile(np.arange(r.shape[1]) >= Q, (r.shape[1], 1)))
        ),
    ),
    itg_with_the_mask_of_itc=changed("itg", by=like("itc")),
    itg_with_the_mask_of_itm=changed("itg", by=like("itm")),
    itg_queries_see_the_caption=changed(
        "itg", by=lambda mask, Q, r: mask | (real(Q, r) & queries_to_text(Q, r))
    ),
    itg_without_a_picture=changed("itg", by=lambda mask, Q, r: mask & ~text_to_queries(Q, r)),
    itg_text_looks_both_ways=changed("itg", by=itg_text(lambda T: np.ones((T, T), dtype=bool))),
    itg_one_token_ahead=changed("itg", by=itg_text(lambda T: causal(T, 1))),
    itg_token_blind_to_itself=changed("itg", by=itg_text(lambda T: causal(T, -1))),
    itg_transposed=changed("itg", by=itg_text(lambda T: causal(T).T)),
    itg_right_up_to_three_tokens=changed("itg", by=itg_text(lambda T: causal(T, int(T > 3)))),
    itg_padding_forgotten=changed("itg", by=lambda mask, Q, r: qformer_mask(Q, r | True, "itg")),
    itm_with_the_mask_of_itg=changed("itm", by=like("itg")),
    itm_with_the_mask_of_itc=changed("itm", by=like("itc")),
    itm_text_causal=changed(
        "itm", by=lambda mask, Q, r: mask & text_to_text(Q, r, causal(r.shape[1]))
    ),
    itm_queries_blind=changed("itm", by=lambda mask, Q, r: mask & ~queries_to_text(Q, r)),
    itm_padding_forgotten=changed("itm", by=lambda mask, Q, r: mask | True),
    queries_causal=changed(
        *ALL,
        by=lambda mask, Q, r: (
            mask & (np.tri(mask.shape[-1], dtype=bool) | ~sizes(Q, r)[0] | ~sizes(Q, r)[0][:, None])
        ),
    ),
    queries_causal_in_itg=changed(
        "itg", by=lambda mask, Q, r: mask & np.tri(mask.shape[-1], dtype=bool)
    ),
    queries_see_themselves_only=changed(
        "itc",
        "itg",
        by=lambda mask, Q, r: mask & (np.eye(mask.shape[-1], dtype=bool) | ~sizes(Q, r)[0]),
    ),
    first_query_for_the_words=changed(
        "itg",
        by=lambda mask, Q, r: mask & ~(text_to_queries(Q, r) & (np.arange(mask.shape[-1]) > 0)),
    ),
    padding_forgotten=changed(*ALL, by=lambda mask, Q, r: mask | qformer_mask(Q, r | True, "itc")),
    padding_not_shifted_by_the_queries=lambda Q, r, o: (
        qformer_mask(Q, r | True, o)
        & np.pad(r, ((0, 0), (0, Q)), constant_values=True)[:, None, None, :]
    ),
    padding_off_by_one=lambda Q, r, o: qformer_mask(Q, np.roll(r, 1, axis=1), o),
    padding_inverted=lambda Q, r, o: qformer_mask(Q, ~r, o),
    rows_masked_instead_of_columns=lambda Q, r, o: (
        qformer_mask(Q, r | True, o) & real(Q, r).swapaxes(2, 3)
    ),
    one_length_for_all=lambda Q, r, o: np.repeat(qformer_mask(Q, r[:1], o), len(r), axis=0),
    text_first=lambda Q, r, o: np.roll(qformer_mask(Q, r, o), (-Q, -Q), axis=(2, 3)),
    rows_and_columns_swapped=lambda Q, r, o: qformer_mask(Q, r, o).swapaxes(2, 3),
    inverted=lambda Q, r, o: ~qformer_mask(Q, r, o),
    whole_numbers=lambda Q, r, o: qformer_mask(Q, r, o).astype(int),
    floats=lambda Q, r, o: qformer_mask(Q, r, o).astype(float),
)


def cosines(I, T):
    """Return (B, Q, C)."""
    return unit(I) @ unit(T).T


def spread(weigh):
    """Return a vjp that shares each score's gradient among queries by `weigh(cosines)`."""

    def vjp(g, I, T):
        u, G = unit(I), g[:, None] * weigh(cosines(I, T))
        du = G @ unit(T)
        return (du - (du * u).sum(-1, keepdims=True) * u) / np.linalg.norm(
            I, axis=-1, keepdims=True
        ), T

    return {"vjp": vjp}


def one_hot(index, Q):
    return np.arange(Q)[:, None] == index[:, None]


MAX_OVER_QUERIES = planted(
    "max_over_queries",
    not_normalized=lambda I, T: (I @ T.T).max(axis=1),
    pictures_not_normalized=lambda I, T: (I @ unit(T).T).max(axis=1),
    texts_not_normalized=lambda I, T: (unit(I) @ T.T).max(axis=1),
    normalized_over_the_batch=lambda I, T: (
        (I / np.linalg.norm(I, axis=0)) @ (T / np.linalg.norm(T, axis=0)).T
    ).max(axis=1),
    normalized_after_the_maximum=lambda I, T: (
        lambda S: S / np.linalg.norm(S, axis=1, keepdims=True)
    )((I @ unit(T).T).max(axis=1)),
    longest_query_counts=lambda I, T: np.take_along_axis(
        cosines(I, T), np.argmax(I @ T.T, axis=1)[:, None], axis=1
    )[:, 0],
    absolute_values=lambda I, T: np.abs(cosines(I, T)).max(axis=1),
    maximum_over_the_batch=lambda I, T: (
        cosines(I, T).max(axis=0) if I.shape[0] == I.shape[1] else cosines(I, T).max(axis=1)
    ),
    best_query_of_all_pictures=lambda I, T: np.broadcast_to(
        cosines(I, T).max(axis=(0, 1)), (len(I), len(T))
    ),
    best_text_of_each_query=lambda I, T: np.repeat(
        cosines(I, T).max(axis=(1, 2))[:, None], len(T), axis=1
    ),
    best_query_for_the_first_text=lambda I, T: cosines(I, T)[
        np.arange(len(I)), cosines(I, T)[:, :, 0].argmax(axis=1)
    ],
    first_query=lambda I, T: cosines(I, T)[:, 0],
    last_query=lambda I, T: cosines(I, T)[:, -1],
    least_query=lambda I, T: cosines(I, T).min(axis=1),
    mean=lambda I, T: cosines(I, T).mean(axis=1),
    sum=lambda I, T: cosines(I, T).sum(axis=1),
    mean_query=lambda I, T: unit(I.mean(axis=1)) @ unit(T).T,
    logarithm_of_the_sum=lambda I, T: np.log(np.exp(cosines(I, T)).sum(axis=1)),
    weighted_by_a_softmax=lambda I, T: (softmax(cosines(I, T), 1) * cosines(I, T)).sum(axis=1),
    distances=lambda I, T: -np.linalg.norm(unit(I)[:, :, None] - unit(T), axis=-1).min(axis=1),
    scaled=lambda I, T: right.max_over_queries(I, T) / I.dtype.type(0.07),
    transposed=lambda I, T: right.max_over_queries(I, T).T,
    squeezed=lambda I, T: right.max_over_queries(I, T).squeeze(),
    queries_not_reduced=cosines,
    gradient_of_a_soft_maximum=spread(lambda S: softmax(S, 1)),
    gradient_to_all_alike=spread(lambda S: np.full_like(S, 1 / S.shape[1])),
    gradient_to_the_first_query=spread(lambda S: one_hot(0 * S.argmax(axis=1), S.shape[1])),
    gradient_to_the_worst_query=spread(lambda S: one_hot(S.argmin(axis=1), S.shape[1])),
    gradient_lost=spread(lambda S: 0 * S),
    gradient_of_another_picture={
        "vjp": lambda g, I, T: (np.roll(right.max_over_queries_vjp(g, I, T)[0], 1, axis=0), T)
    },
)
