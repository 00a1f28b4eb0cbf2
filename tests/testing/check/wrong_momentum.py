"""Planted mistakes in the targets of a momentum twin, and in contrast with its queue."""

import numpy as np
import right_momentum as momentum
from kept import planted
from right import log_softmax, softmax
from right_momentum import cross_entropy, itc_queue, itc_queue_vjp, soft_targets, softplus


def mixed(hard=lambda S: np.eye(*S.shape), soft=softmax, weights=lambda alpha: (1 - alpha, alpha)):
    """Return targets with another half, or other weights."""

    def targets(S, alpha):
        a, b = weights(alpha)
        return a * hard(S) + b * soft(S)

    return targets


def own_batch_only(S):
    return np.pad(softmax(S[:, : len(S)]), ((0, 0), (0, S.shape[1] - len(S))))


def behind_the_own(S):
    """Give nothing to the own pair: the softmax is of all others."""
    others = np.where(np.eye(*S.shape, dtype=bool), S - 1e9, S)
    return softmax(others)


def hardest(S):
    return np.eye(S.shape[1])[S.argmax(axis=1)]


def older_less(S):
    p = softmax(S) * 0.9 ** np.maximum(0, np.arange(S.shape[1]) - len(S) + 1)
    return p / p.sum(axis=1, keepdims=True)


def plain_exponential(S):
    e = np.exp(S)
    return e / e.sum(axis=1, keepdims=True)


def by_ids(
    share=lambda same: same / same.sum(axis=1, keepdims=True),
    match=lambda row, column: row == column,
    targets=mixed,
):
    """Return targets by ids with another match, or another share for each."""

    def made(S, alpha, row_ids, column_ids):
        return targets(lambda S: share(match(row_ids[:, None], column_ids)))(S, alpha)

    return {"by_ids": made}


def first_match(same):
    return np.eye(same.shape[1])[same.argmax(axis=1)]


SOFT_TARGETS = planted(
    "soft_targets",
    alpha_swapped=mixed(weights=lambda alpha: (alpha, 1 - alpha)),
    soft_added_to_one_hot=mixed(weights=lambda alpha: (1, alpha)),
    one_hot_added_to_soft=mixed(weights=lambda alpha: (1 - alpha, 1)),
    one_hot_always=mixed(weights=lambda alpha: (1, 0)),
    soft_always=mixed(weights=lambda alpha: (0, 1)),
    four_tenths_always=mixed(weights=lambda alpha: (0.6, 0.4)),
    ramp_applied_twice=mixed(weights=lambda alpha: (1 - alpha**2, alpha**2)),
    root_of_the_ramp=mixed(weights=lambda alpha: (1 - alpha**0.5, alpha**0.5)),
    all_or_nothing=mixed(weights=lambda alpha: (float(alpha < 0.5), float(alpha >= 0.5))),
    raw_similarities=mixed(soft=lambda S: S),
    softmax_of_columns=mixed(soft=lambda S: softmax(S, 0)),
    softmax_of_all=mixed(soft=lambda S: softmax(S.ravel()).reshape(S.shape)),
    softmax_of_distances=mixed(soft=lambda S: softmax(-S)),
    softmax_twice=mixed(soft=lambda S: softmax(softmax(S))),
    logarithm_of_the_softmax=mixed(soft=log_softmax),
    sigmoids=mixed(soft=lambda S: np.exp(-softplus(-S))),
    no_shift_by_the_maximum=mixed(soft=plain_exponential),
    own_pair_behind_the_queue=momentum.queue_first,
    own_pair_always_first=mixed(hard=lambda S: np.eye(1, S.shape[1]) + np.zeros((len(S), 1))),
    labels_shifted=mixed(hard=lambda S: np.roll(np.eye(*S.shape), 1, axis=1)),
    queue_forgotten=mixed(soft=own_batch_only),
    own_pair_left_out=mixed(soft=behind_the_own),
    hardest_is_all=mixed(soft=hardest),
    even_smoothing=mixed(soft=lambda S: np.full(S.shape, 1 / S.shape[1])),
    older_rows_count_less=mixed(soft=older_less),
    temperature_once_more=mixed(soft=lambda S: softmax(S / 0.07)),
    geometric_mean=lambda S, alpha: softmax(alpha * S + (1 - alpha) * 1e4 * np.eye(*S.shape)),
    queue_not_in_the_shape=lambda S, alpha: soft_targets(S[:, : len(S)], alpha),
    ids_forgotten={"by_ids": lambda S, alpha, row_ids, column_ids: soft_targets(S, alpha)},
    ids_ignore_alpha={
        "by_ids": lambda S, alpha, row_ids, column_ids: momentum.soft_targets_by_ids(
            S, 0.4, row_ids, column_ids
        )
    },
    count_forgotten=by_ids(lambda same: same * 1.0),
    count_of_the_column=by_ids(lambda same: same / np.maximum(1, same.sum(axis=0))),
    count_of_the_batch=by_ids(lambda same: same / len(same)),
    first_of_equal_ids_is_all=by_ids(first_match),
    ids_of_the_queue_forgotten=by_ids(
        lambda same: (
            same * (np.arange(same.shape[1]) < len(same)) / same[:, : len(same)].sum(1)[:, None]
        )
    ),
    softmax_of_equal_ids=by_ids(lambda same: softmax(1.0 * same)),
    empty_slot_is_picture_zero=by_ids(match=lambda row, column: row == np.maximum(column, 0)),
    empty_slot_is_anybody=by_ids(match=lambda row, column: (row == column) | (column < 0)),
)


def changed(change):
    """Return the loss of features that are changed first."""
    return lambda *given: itc_queue(*change(*given))


def enqueued_first(I, T, I_m, T_m, image_queue, text_queue, temperature, alpha):
    """Overwrite the queue's first rows by the batch, then compare with both."""
    queues = (
        np.concatenate([new[: len(old)], old[len(new) :]])
        for new, old in ((I_m, image_queue), (T_m, text_queue))
    )
    return itc_queue(I, T, I_m, T_m, *queues, temperature, alpha)


def enqueued_behind(I, T, I_m, T_m, image_queue, text_queue, temperature, alpha):
    return itc_queue(
        I,
        T,
        I_m,
        T_m,
        np.concatenate([image_queue, I_m]),
        np.concatenate([text_queue, T_m]),
        temperature,
        alpha,
    )


def directions(weigh):
    """Return a loss that weighs the two directions."""

    def loss(*given):
        *features, temperature, alpha = given
        return weigh(
            *(cross_entropy(S, t) for S, t, _ in momentum.halves(features, temperature, alpha))
        )

    return loss


def the_queue_first(*given):
    """Put the queue in front, and leave the labels where they were."""
    *features, temperature, alpha = given
    found = []
    for S, t, _ in momentum.halves(features, temperature, 1.0):
        moved = np.roll(S, S.shape[1] - len(S), axis=1)
        found.append(
            cross_entropy(
                moved,
                (1 - alpha) * np.eye(*S.shape) + alpha * np.roll(t, S.shape[1] - len(S), axis=1),
            )
        )
    return sum(found) / 2


def target_temperature(scale):
    return lambda *given: itc_queue(
        *given, targets=lambda S, alpha: soft_targets(scale(S, given[6]), alpha)
    )


def divergence(S, targets):
    return (targets * (np.log(np.maximum(targets, 1e-30)) - log_softmax(S))).sum(axis=1).mean()


def backward(S, targets):
    return -(softmax(S) * np.log(np.maximum(targets, 1e-30))).sum(axis=1).mean()


def logarithm_of_softmax(S, targets):
    e = np.exp(S)
    return -(targets * np.log(e / e.sum(axis=1, keepdims=True) + 1e-300)).sum(axis=1).mean()


def online_columns(I, T, I_m, T_m, image_queue, text_queue, temperature, alpha):
    """Compare the model with itself instead of its twin; the targets stay right."""
    online = momentum.halves((I, T, I, T, image_queue, text_queue), temperature, alpha)
    twin = momentum.halves((I, T, I_m, T_m, image_queue, text_queue), temperature, alpha)
    return sum(cross_entropy(S, t) for (S, *_), (_, t, _) in zip(online, twin, strict=True)) / 2


def columns_learn(g, *given):
    """Send the gradient to the twin's columns and to the queue, too."""
    *features, temperature, alpha = given
    B, found = len(features[0]), list(itc_queue_vjp(g, *given))
    for rows, twin, waiting, (S, t, _) in zip(
        (0, 1), (3, 2), (5, 4), momentum.halves(features, temperature, alpha), strict=True
    ):
        back = g * (softmax(S) - t).T @ features[rows] / (2 * B * temperature)
        found[twin], found[waiting] = back[:B], back[B:]
    return tuple(found)


def parts(*kept):
    """Return the gradients of some places and zero for the others."""
    return {
        "vjp": lambda g, *given: tuple(
            d * (i in kept) for i, d in enumerate(columns_learn(g, *given))
        )
    }


ITC_QUEUE = planted(
    "itc_queue",
    one_direction_only=directions(lambda to_texts, to_images: to_texts),
    other_direction_only=directions(lambda to_texts, to_images: to_images),
    halves_added=directions(lambda to_texts, to_images: to_texts + to_images),
    one_half_weighs_more=directions(lambda to_texts, to_images: 0.6 * to_texts + 0.4 * to_images),
    larger_half=directions(max),
    sum_for_mean=lambda *given: itc_queue(*given) * len(given[0]),
    sign_forgotten=lambda *given: -itc_queue(*given),
    base_two=lambda *given: itc_queue(*given) / np.log(2),
    queue_forgotten=changed(lambda *given: (*given[:4], given[4][:0], given[5][:0], *given[6:])),
    oldest_of_the_queue_forgotten=changed(
        lambda *given: (*given[:4], given[4][1:], given[5][1:], *given[6:])
    ),
    queues_swapped=changed(lambda *given: (*given[:4], given[5], given[4], *given[6:])),
    one_queue_for_both=changed(lambda *given: (*given[:4], given[5], given[5], *given[6:])),
    queue_first_and_labels_not_moved=the_queue_first,
    enqueued_before_the_loss=enqueued_first,
    enqueued_behind_before_the_loss=enqueued_behind,
    labels_shifted=changed(
        lambda *given: (
            *given[:2],
            np.roll(given[2], 1, axis=0),
            np.roll(given[3], 1, axis=0),
            *given[4:],
        )
    ),
    divergence_for_cross_entropy=lambda *given: itc_queue(*given, entropy=divergence),
    divergence_the_other_way=lambda *given: itc_queue(*given, entropy=backward),
    logarithm_of_the_softmax=lambda *given: itc_queue(*given, entropy=logarithm_of_softmax),
    temperature_multiplied=changed(lambda *given: (*given[:6], 1 / given[6], given[7])),
    temperature_forgotten=changed(lambda *given: (*given[:6], 1.0, given[7])),
    temperature_twice=changed(lambda *given: (*given[:6], given[6] ** 2, given[7])),
    targets_without_temperature=target_temperature(lambda S, temperature: S * temperature),
    targets_with_temperature_twice=target_temperature(lambda S, temperature: S / temperature),
    alpha_swapped=changed(lambda *given: (*given[:7], 1 - given[7])),
    ramp_applied_twice=changed(lambda *given: (*given[:7], given[7] ** 2)),
    alpha_ignored=changed(lambda *given: (*given[:7], 0.4)),
    targets_do_not_sum_to_one=lambda *given: itc_queue(
        *given, targets=SOFT_TARGETS["soft added to one hot"]["fn"]
    ),
    targets_of_the_batch_alone=lambda *given: itc_queue(*given, targets=mixed(soft=own_batch_only)),
    targets_of_the_model_itself=changed(lambda I, T, I_m, T_m, *rest: (I, T, I, T, *rest)),
    model_beside_itself=online_columns,
    momentum_for_the_model=changed(lambda I, T, I_m, T_m, *rest: (I_m, T_m, I_m, T_m, *rest)),
    momentum_features_swapped=changed(lambda I, T, I_m, T_m, *rest: (I, T, T_m, I_m, *rest)),
    momentum_encoder_trained=parts(0, 1, 2, 3),
    queue_trained=parts(0, 1, 4, 5),
    momentum_texts_trained=parts(0, 1, 3),
    image_encoder_detached=parts(1),
    text_encoder_detached=parts(0),
    both_encoders_detached=parts(),
    gradient_negative={"vjp": lambda g, *given: itc_queue_vjp(-g, *given)},
    gradient_of_both_halves_added={"vjp": lambda g, *given: itc_queue_vjp(2 * g, *given)},
    gradient_without_the_temperature={"vjp": lambda g, *given: itc_queue_vjp(g * given[6], *given)},
    gradient_of_hard_targets={"vjp": lambda g, *given: itc_queue_vjp(g, *given[:7], 0.0)},
)
