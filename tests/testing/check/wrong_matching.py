"""Planted mistakes in hard negatives, in the pairs of image-text matching, and in its loss."""

import numpy as np
from kept import planted
from right import (
    draw_rows,
    hard_negatives,
    itm_loss,
    itm_pairs,
    log_softmax,
    masked_softmax,
    refuse_equal,
    softmax,
)

OWN = np.random.default_rng(0)


def by(weigh):
    """Return a function that draws by `weigh(scores, other)`, probabilities of the allowed; rows are pictures, then texts."""

    def draw(S, ids, rng):
        refuse_equal(ids)
        other = ids[:, None] != ids
        return tuple(draw_rows(weigh(scores.astype(float), other), rng) for scores in (S.T, S))

    return draw


def zeroed(scores, other, epsilon=0.0):
    """Take the true pairs out after the softmax."""
    left = (softmax(scores) + epsilon) * other
    return left / left.sum(axis=1, keepdims=True)


def diagonal_only(S, ids, rng):
    refuse_equal(ids)
    return hard_negatives(S, np.arange(len(ids)), rng)


def texts_forget_ids(S, ids, rng):
    return diagonal_only(S, ids, rng)[0], hard_negatives(S, ids, rng)[1]


def silent(S, ids, rng):
    return hard_negatives(
        S, np.arange(len(ids)) if (ids == ids[0]).all() and len(ids) > 1 else ids, rng
    )


def own_where_nothing_is_left(S, ids, rng):
    return (np.arange(len(ids)),) * 2 if (ids == ids[0]).all() else hard_negatives(S, ids, rng)


def without_a_row(S, ids, rng):
    if (ids == ids[0]).all():
        raise ValueError("there are no candidates")
    return hard_negatives(S, ids, rng)


def with_a_number(S, ids, rng):
    """Refuse as torch.multinomial does: a digit, and no row."""
    if (ids == ids[0]).all():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    return hard_negatives(S, ids, rng)


def masked_in_place(S, ids, rng):
    found = hard_negatives(S, ids, rng)
    S[ids[:, None] == ids] = -1e4
    return found


def neighbors(S, ids, rng):
    """Search from the next place on for the first other id."""
    refuse_equal(ids)
    n = len(ids)
    return (
        np.array(
            [next((i + k) % n for k in range(1, n) if ids[(i + k) % n] != ids[i]) for i in range(n)]
        ),
    ) * 2


HARD_NEGATIVES = planted(
    "hard_negatives",
    own_pair_allowed=by(lambda scores, other: softmax(scores)),
    only_the_diagonal_masked=lambda S, ids, rng: hard_negatives(S, np.arange(len(ids)), rng),
    only_the_diagonal_masked_but_refuses=diagonal_only,
    ids_forgotten_for_the_texts=texts_forget_ids,
    evenly_drawn=by(lambda scores, other: other / other.sum(axis=1, keepdims=True)),
    easiest_drawn=by(lambda scores, other: masked_softmax(-scores, other)),
    hardest_not_drawn_but_taken=by(lambda scores, other: masked_softmax(1e6 * scores, other)),
    the_next_one=neighbors,
    temperature_forgotten=by(lambda scores, other: masked_softmax(0.5 * scores, other)),
    temperature_twice=by(lambda scores, other: masked_softmax(2 * scores, other)),
    rows_and_columns_swapped=lambda S, ids, rng: hard_negatives(S.T, ids, rng),
    rows_twice=lambda S, ids, rng: (hard_negatives(S, ids, rng)[1],) * 2,
    columns_twice=lambda S, ids, rng: (hard_negatives(S, ids, rng)[0],) * 2,
    own_generator=lambda S, ids, rng: hard_negatives(S, ids, OWN),
    generator_seeded_at_each_call=lambda S, ids, rng: hard_negatives(
        S, ids, np.random.default_rng(0)
    ),
    zero_after_the_softmax=by(zeroed),
    epsilon_and_zero_after_the_softmax=by(lambda scores, other: zeroed(scores, other, 1e-4)),
    no_shift_by_the_maximum=by(
        lambda scores, other: (
            np.exp(scores) * other / (np.exp(scores) * other).sum(axis=1, keepdims=True)
        )
    ),
    minus_one_hundred_for_true_pairs=by(
        lambda scores, other: softmax(np.where(other, scores, scores - 100))
    ),
    silent_where_nothing_is_left=silent,
    own_pair_where_nothing_is_left=own_where_nothing_is_left,
    refusal_names_no_row=without_a_row,
    refusal_names_a_number_that_is_no_row=with_a_number,
    true_pairs_masked_in_place=masked_in_place,
    whole_numbers_as_floats=lambda S, ids, rng: tuple(
        index.astype(float) for index in hard_negatives(S, ids, rng)
    ),
    counted_from_one=lambda S, ids, rng: tuple(index + 1 for index in hard_negatives(S, ids, rng)),
    one_direction_only=lambda S, ids, rng: hard_negatives(S, ids, rng)[0],
)


def laid_out(images, texts, labels):
    """Return a function that lays pairs out by three functions of (own, image_for_text, text_for_image)."""

    def pair(i, t):
        own = np.arange(len(i))
        return tuple(np.concatenate(part(own, i, t)) for part in (images, texts, labels))

    return pair


def plain_images(own, i, t):
    return own, i, own


def plain_texts(own, i, t):
    return own, own, t


def plain_labels(own, i, t):
    return own * 0 + 1, own * 0, own * 0


ITM_PAIRS = planted(
    "itm_pairs",
    one_group_of_negatives=lambda i, t: tuple(part[: 2 * len(i)] for part in itm_pairs(i, t)),
    both_sides_replaced=laid_out(
        lambda own, i, t: (own, i, i), lambda own, i, t: (own, t, t), plain_labels
    ),
    groups_crossed=lambda i, t: itm_pairs(t, i),
    pictures_and_texts_swapped=lambda i, t: (
        itm_pairs(i, t)[1],
        itm_pairs(i, t)[0],
        itm_pairs(i, t)[2],
    ),
    labels_reversed=lambda i, t: (*itm_pairs(i, t)[:2], 1 - itm_pairs(i, t)[2]),
    labels_of_another_order=laid_out(
        plain_images, plain_texts, lambda own, i, t: (own * 0, own * 0 + 1, own * 0)
    ),
    labels_all_one=laid_out(plain_images, plain_texts, lambda own, i, t: (own * 0 + 1,) * 3),
    two_thirds_true=laid_out(
        lambda own, i, t: (own, own, i),
        lambda own, i, t: (own,) * 3,
        lambda own, i, t: (own * 0 + 1, own * 0 + 1, own * 0),
    ),
    positives_forgotten=lambda i, t: tuple(part[len(i) :] for part in itm_pairs(i, t)),
    wrong_pictures_rolled=lambda i, t: itm_pairs(np.roll(i, 1), t),
    the_next_one_for_all=laid_out(
        lambda own, i, t: (own, np.roll(own, 1), own),
        lambda own, i, t: (own, own, np.roll(own, 1)),
        plain_labels,
    ),
    wrong_texts_twice=laid_out(
        lambda own, i, t: (own, own, own), lambda own, i, t: (own, t, t), plain_labels
    ),
    labels_forgotten=lambda i, t: itm_pairs(i, t)[:2],
    labels_as_floats=lambda i, t: (*itm_pairs(i, t)[:2], itm_pairs(i, t)[2].astype(float)),
)


def picked(log_p, labels):
    return -np.take_along_axis(
        log_p, labels[:, None, None] + np.zeros_like(log_p[..., :1], dtype=int), axis=-1
    )[..., 0]


ITM_LOSS = planted(
    "itm_loss",
    mean_of_probabilities=lambda logits, labels: picked(
        np.log(softmax(logits).mean(axis=1, keepdims=True)), labels
    ).mean(),
    mean_of_losses=lambda logits, labels: picked(log_softmax(logits), labels).mean(),
    sum_over_queries=lambda logits, labels: itm_loss(logits.sum(axis=1, keepdims=True), labels),
    first_query=lambda logits, labels: itm_loss(logits[:, :1], labels),
    last_query=lambda logits, labels: itm_loss(logits[:, -1:], labels),
    maximum_over_queries=lambda logits, labels: itm_loss(logits.max(axis=1, keepdims=True), labels),
    classes_swapped=lambda logits, labels: itm_loss(logits[..., ::-1], labels),
    labels_reversed=lambda logits, labels: itm_loss(logits, 1 - labels),
    sum_for_mean=lambda logits, labels: itm_loss(logits, labels) * len(labels),
    sign_forgotten=lambda logits, labels: -itm_loss(logits, labels),
    softmax_over_the_batch=lambda logits, labels: picked(
        log_softmax(logits.mean(axis=1, keepdims=True), 0), labels
    ).mean(),
    softmax_twice=lambda logits, labels: itm_loss(softmax(logits), labels),
    positives_only=lambda logits, labels: (
        picked(log_softmax(logits.mean(axis=1, keepdims=True)), labels)[:, 0] * labels
    ).mean(),
    sigmoid_of_the_second=lambda logits, labels: np.logaddexp(
        0, np.where(labels == 1, -1, 1) * logits.mean(axis=1)[:, 1]
    ).mean(),
    positives_count_twice=lambda logits, labels: (
        picked(log_softmax(logits.mean(axis=1, keepdims=True)), labels)[:, 0] * (1 + labels)
    ).mean(),
    base_two=lambda logits, labels: itm_loss(logits, labels) / np.log(2),
)
