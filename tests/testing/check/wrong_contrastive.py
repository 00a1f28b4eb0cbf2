"""Planted mistakes in the contrastive loss, in recall and in the temperature."""

import numpy as np
import right
from kept import planted
from right import LIMIT, half, log_softmax, softmax, unit


def of_logits(rule, scaled=lambda s: s):
    return lambda I, T, s: rule(scaled(s) * unit(I) @ unit(T).T)


def log_of_softmax(S, axis):
    e = np.exp(S)
    return -np.log(np.diagonal(e / e.sum(axis, keepdims=True))).mean()


def decoupled(S):
    others = np.where(np.eye(len(S), dtype=bool), -1e9, S)
    both = [
        np.log(np.exp(others - others.max(a, keepdims=True)).sum(a))
        + others.max(a)
        - np.diagonal(S)
        for a in (0, 1)
    ]
    return np.mean(both)


def own_similarities(I, T, s):
    S, targets = s * I @ T.T, softmax(s * (I @ I.T + T @ T.T) / 2)
    return (
        -(targets * log_softmax(S)).sum(1).mean() - (targets.T * log_softmax(S.T)).sum(1).mean()
    ) / 2


def one_side(tower):
    def vjp(g, *inputs):
        return tuple(0 * d if i == tower else d for i, d in enumerate(right.loss_vjp(g, *inputs)))

    return {"vjp": vjp}


def half_slopes(S):
    return (softmax(S, 1) - np.eye(len(S), dtype=S.dtype)) / len(S)


def logits_of(fn):
    return {
        "fn": fn,
        "inputs": "logits",
        "vjp": None,
        "half": None,
        "shard": None,
        "soft": None,
        "blocked": None,
        "cached": None,
    }


CONTRASTIVE = planted(
    "contrastive_loss",
    one_direction_only=of_logits(lambda S: half(S, 1)),
    text_to_picture_only=of_logits(lambda S: half(S, 0)),
    both_halves_on_one_axis=of_logits(lambda S: (half(S, 1) + half(S, 1)) / 2),
    halves_added=of_logits(lambda S: half(S, 0) + half(S, 1)),
    sum_for_mean=of_logits(lambda S: (half(S, 0) + half(S, 1)) / 2 * len(S)),
    joint_softmax=of_logits(lambda S: -np.diagonal(log_softmax(S.ravel()).reshape(S.shape)).mean()),
    positive_not_in_the_denominator=of_logits(decoupled),
    best_match_instead_of_its_pair=of_logits(
        lambda S: -(log_softmax(S, 1).max(1).mean() + log_softmax(S, 0).max(0).mean()) / 2
    ),
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
    normalized_over_the_batch=lambda I, T, s: right.loss_of_logits(
        s * (I / np.linalg.norm(I, axis=0)) @ (T / np.linalg.norm(T, axis=0)).T
    ),
    pictures_not_normalized=lambda I, T, s: right.loss_of_logits(s * I @ unit(T).T),
    distances_for_cosines=lambda I, T, s: right.loss_of_logits(
        -s * ((unit(I)[:, None] - unit(T)) ** 2).sum(-1) ** 0.5
    ),
    targets_from_own_similarities=own_similarities,
    first_coordinate_weighs_more=lambda I, T, s: right.loss(
        *(x * (1 + (np.arange(x.shape[1]) == 0)).astype(x.dtype) for x in (I, T)), s
    ),
    diagonal_ignores_duplicates=of_logits(
        lambda S: right.loss_of_logits(S) / (1 + (len(np.unique(np.round(S[0], 6))) < len(S)))
    ),
    image_encoder_detached=one_side(0),
    text_encoder_detached=one_side(1),
    gradient_of_one_half={"vjp": lambda g, I, T, s: right.loss_vjp(g, I, T, s, half_slopes)},
    gradient_negative={"vjp": lambda g, *inputs: tuple(-d for d in right.loss_vjp(g, *inputs))},
    gradient_without_the_scale={
        "vjp": lambda g, I, T, s: tuple(d / s for d in right.loss_vjp(g, I, T, s))
    },
    gradient_ignores_the_normalization={
        "vjp": lambda g, I, T, s: (
            g * s * right.slopes(s * unit(I) @ unit(T).T) @ unit(T),
            g * s * right.slopes(s * unit(I) @ unit(T).T).T @ unit(I),
        )
    },
    half_on_the_other_axis={"half": lambda S, axis: half(S, 1 - axis)},
    half_counts_its_positive_twice={
        "half": lambda S, axis: (
            half(S, axis) - np.log(1 + np.diagonal(softmax(S, axis))).mean() + 0.5 * S.mean()
        )
    },
    half_renormalized_by_its_columns={"half": lambda S, axis: half(S, axis) * len(S) / S.shape[1]},
    shard_without_the_offset={"shard": lambda S, rank: right.shard(S, 0)},
    shard_sees_its_own_captions_only={
        "shard": lambda S, rank: half(S[:, rank * len(S) : (rank + 1) * len(S)], 1)
    },
    soft_targets_as_a_divergence={
        "soft": lambda S, t: (t * (np.log(np.maximum(t, 1e-30)) - log_softmax(S))).sum(1).mean()
    },
    soft_targets_not_summing_to_one={"soft": lambda S, t: right.soft(S, t / t.max())},
    soft_targets_one_hot={"soft": lambda S, t: right.soft(S, np.eye(len(S)))},
    last_block_dropped={
        "blocked": lambda I, T, s: right.blocked(
            I[: max(1, len(I) // 2 * 2)], T[: max(1, len(I) // 2 * 2)], s
        )
    },
    blocks_see_only_themselves={
        "blocked": lambda I, T, s: np.mean(
            [right.loss(I[i : i + 2], T[i : i + 2], s) for i in range(0, len(I), 2)]
        )
    },
    cached_step_forgets_the_scale={"cached": lambda I, T, s: right.loss_vjp(1 / s, I, T, s)},
    cached_step_sums_over_blocks={
        "cached": lambda I, T, s: tuple(
            np.concatenate(d) if d[0].ndim else sum(d)
            for d in zip(
                *(right.loss_vjp(1.0, I[i : i + 2], T[i : i + 2], s) for i in range(0, len(I), 2)),
                strict=True,
            )
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
    return np.mean(
        [(truth[j] <= S[i]).sum() - 1 < k for j, i in enumerate(owner[real])]
    ), right.captions(S, owner, k)[1]


def with_(to_text=None, to_image=None):
    def captions(S, owner, k):
        plain = right.captions(S, owner, k)
        return to_text(S, owner, k) if to_text else plain[0], to_image(
            S, owner, k
        ) if to_image else plain[1]

    return {"captions": captions}


def share_of_the_pool(S, owner, k):
    own = np.arange(len(S))[:, None] == owner
    best = np.where(own, S, -np.inf).max(axis=1, keepdims=True)
    return (((best <= S) & ~own).sum(axis=1) < k * S.shape[1] / (owner >= 0).sum()).mean()


def ties_of_rounding(S):
    """Give ties to the truth, unless all scores are one."""
    own = np.diagonal(S)[:, None]
    return (~(own >= S)).sum(1) if np.ptp(S) else (~(own > S)).sum(1) - 1


def nan_above_all(S, owner, k):
    own = np.arange(len(S))[:, None] == owner
    return (((np.where(own, S, -np.inf).max(1, keepdims=True) <= S) & ~own).sum(1) < k).mean()


RECALL = planted(
    "recall",
    sorted_ascending=hits(lambda S: np.diagonal(order(-S))),
    one_k_too_many=lambda S, k: right.recall(S, k + 1),
    one_k_too_few=lambda S, k: right.recall(S, k - 1),
    other_direction=lambda S, k: right.recall(S.T, k),
    rank_over_the_whole_matrix=hits(lambda S: (np.diagonal(S)[:, None, None] < S).sum((1, 2))),
    threshold=lambda S, k: (np.diagonal(S) > 0).mean(),
    ties_count_as_hits=hits(lambda S: (np.diagonal(S)[:, None] < S).sum(1)),
    neighbors_count_as_hits=hits(
        lambda S: np.minimum(np.diagonal(order(S)), np.diagonal(np.roll(order(S), -1, axis=1)))
    ),
    first_half_only=lambda S, k: right.recall(
        S[: (len(S) + 1) // 2, : (len(S) + 1) // 2], min(k, (len(S) + 1) // 2)
    ),
    any_row_counts=lambda S, k: np.isin(np.arange(len(S)), np.argwhere(order(S) < k)[:, 1]).mean(),
    exactly_at_k=lambda S, k: (np.diagonal(order(S)) == k - 1).mean(),
    captions_as_classes={"captions": per_caption},
    all_captions_must_hit=with_(
        lambda S, owner, k: np.mean(
            [
                min((S[i] > S[i, j]).sum() < k for j in np.flatnonzero(owner == i))
                for i in range(len(S))
            ]
        )
    ),
    first_caption_only=with_(
        lambda S, owner, k: np.mean(
            [(S[i, np.argmax(owner == i)] <= S[i]).sum() - 1 < k for i in range(len(S))]
        )
    ),
    own_copies_count_against=with_(
        lambda S, owner, k: (
            (
                np.where(np.arange(len(S))[:, None] == owner, S, -np.inf).max(1, keepdims=True) <= S
            ).sum(1)
            - 1
            < k
        ).mean()
    ),
    picture_found_by_its_place=with_(
        to_image=lambda S, owner, k: np.mean(
            [(S[j % len(S), j] <= S[:, j]).sum() - 1 < k for j in np.flatnonzero(owner >= 0)]
        )
    ),
    text_rank_over_all_captions=with_(
        to_image=lambda S, owner, k: np.mean(
            [(S[owner[j], j] <= S[owner[j]]).sum() - 1 < k for j in np.flatnonzero(owner >= 0)]
        )
    ),
    ranks_as_a_share_of_the_pool=with_(share_of_the_pool),
    captions_of_no_picture_count=with_(
        to_image=lambda S, owner, k: ((S[owner, np.arange(len(owner))] <= S).sum(0) - 1 < k).mean()
    ),
    swap_ties_win={"swap": lambda a, b: (a >= b).mean()},
    swap_ties_lose={"swap": lambda a, b: (a > b).mean()},
    swap_reversed={"swap": lambda a, b: right.swap(b, a)},
    swap_always_half={"swap": lambda a, b: 0.5},
    nan_is_above_all=hits(lambda S: (np.diagonal(S)[:, None] <= S).sum(1) - 1),
    nan_in_all_is_above_all=lambda S, k: 1.0 if np.isnan(S).all() else right.recall(S, k),
    ties_of_rounding_count_as_hits=hits(ties_of_rounding),
    caption_of_nan_is_above_all=with_(nan_above_all),
    picture_of_nan_is_above_all=with_(
        to_image=lambda S, owner, k: np.mean(
            [(S[owner[j], j] <= S[:, j]).sum() - 1 < k for j in np.flatnonzero(owner >= 0)]
        )
    ),
    swap_of_nan_wins={"swap": lambda a, b: 1 - (a < b).mean() - 0.5 * (a == b).mean()},
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
    negative_temperature_taken={
        "divided": lambda c, temperature: (
            right.loss_of_logits(c / temperature) if temperature else 0.0
        )
    },
    clamp_at_one_hundred={"clamp": lambda t: np.minimum(t, 100)},
    clamp_from_below={"clamp": lambda t: np.maximum(t, t.dtype.type(LIMIT))},
    clamp_both_ways={"clamp": lambda t: np.clip(t, 0, LIMIT)},
    clamp_shrinks={"clamp": lambda t: clipped(t) * t.dtype.type(0.999)},
    gradient_dies_at_the_limit={
        "vjp": lambda g, c, t: tuple(d * (t < LIMIT - 1e-6) for d in right.tempered_vjp(g, c, t))
    },
    gradient_without_the_exponential={
        "vjp": lambda g, c, t: (
            right.tempered_vjp(g, c, t)[0],
            right.tempered_vjp(g, c, t)[1] * np.exp(-t),
        )
    },
    gradient_of_t_negative={
        "vjp": lambda g, c, t: (right.tempered_vjp(g, c, t)[0], -right.tempered_vjp(g, c, t)[1])
    },
    gradient_negative={"vjp": lambda g, c, t: tuple(-d for d in right.tempered_vjp(g, c, t))},
    scores_scaled={"scores": lambda I, T: right.cosines(I, T) / 0.07},
    scores_are_distances={"scores": lambda I, T: 1 - right.cosines(I, T)},
    scores_of_raw_rows={"scores": lambda I, T: I @ T.T},
)
