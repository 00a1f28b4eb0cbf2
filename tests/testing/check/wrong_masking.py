"""Planted mistakes in masking words, and in the loss at them."""

import numpy as np
from kept import planted
from right import log_softmax
from right_momentum import choose, hide, mlm_loss, mlm_masking

OWN = np.random.default_rng(0)


def selecting(choose):
    """Return masking with another selection, `choose(special, p, rng)`."""
    return lambda *given: mlm_masking(*given, choose=choose)


def hiding(**changed):
    """Return masking with another share of what is masked, or kept."""
    return lambda *given: mlm_masking(*given, hide=lambda *hidden: hide(*hidden, **changed))


def random_by(draw):
    """Return masking whose random ids are `draw(ids, V, rng)`."""

    def hidden(ids, selected, V, mask_id, rng):
        dice = rng.random(ids.shape)
        inputs = np.where(selected & (dice < 0.8), mask_id, ids)
        return np.where(selected & (dice >= 0.9), draw(ids, V, rng), inputs)

    return lambda *given: mlm_masking(*given, hide=hidden)


def by_count(special, p, rng):
    """Select the same number in each row, counted over special tokens too."""
    rank = np.argsort(np.argsort(np.where(special, 2.0, rng.random(special.shape)), axis=1), axis=1)
    return (rank < round(p * special.shape[1])) & ~special


def at_least_one(special, p, rng):
    selected = choose(special, p, rng)
    selected[:, 0] |= ~special[:, 0] & ~selected.any(axis=1)
    return selected


def remasked(ids, selected, V, mask_id, rng):
    """Throw new dice for "random" and take what is masked already, too."""
    inputs = np.where(selected & (rng.random(ids.shape) < 0.8), mask_id, ids)
    return np.where(
        selected & (rng.random(ids.shape) < 0.1), rng.integers(V, size=ids.shape), inputs
    )


def tenth_of_the_rest(ids, selected, V, mask_id, rng):
    masked = selected & (rng.random(ids.shape) < 0.8)
    inputs = np.where(masked, mask_id, ids)
    return np.where(
        selected & ~masked & (rng.random(ids.shape) < 0.1), rng.integers(V, size=ids.shape), inputs
    )


def others_hidden(ids, selected, V, mask_id, rng):
    """Make a tenth of all tokens random, not of the selected."""
    inputs = np.where(selected & (rng.random(ids.shape) < 0.8), mask_id, ids)
    return np.where(rng.random(ids.shape) < 0.05, rng.integers(V, size=ids.shape), inputs)


def after(*given):
    """Read the labels after masking."""
    inputs, labels = mlm_masking(*given)
    return inputs, np.where(labels == -100, labels, inputs)


def two_draws(ids, special, V, mask_id, p, rng):
    return mlm_masking(ids, special, V, mask_id, p, rng)[0], mlm_masking(
        ids, special, V, mask_id, p, rng
    )[1]


def in_place(ids, special, V, mask_id, p, rng):
    inputs, labels = mlm_masking(ids, special, V, mask_id, p, rng)
    ids[...] = inputs
    return ids, labels


def special_in_place(ids, special, V, mask_id, p, rng):
    inputs, labels = mlm_masking(ids, special, V, mask_id, p, rng)
    special |= labels != -100
    return inputs, labels


def asked_where_special(ids, special, V, mask_id, p, rng):
    inputs, labels = mlm_masking(ids, special, V, mask_id, p, rng)
    return inputs, np.where(special, ids, labels)


def changed_where_special(ids, special, V, mask_id, p, rng):
    inputs, labels = mlm_masking(ids, special, V, mask_id, p, rng)
    return np.where(special & (rng.random(ids.shape) < p), mask_id, inputs), labels


def labeled(relabel):
    """Return masking whose labels are `relabel(ids, labels)`."""

    def masked(ids, *rest):
        inputs, labels = mlm_masking(ids, *rest)
        return inputs, relabel(ids, labels)

    return masked


def surprises(logits, labels):
    own = np.take_along_axis(log_softmax(logits), np.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    return -own * (labels != -100)


def rows_alike(logits, labels):
    asked = (labels != -100).sum(axis=1)
    return (
        (surprises(logits, labels).sum(axis=1) / np.maximum(1, asked))[asked > 0].mean()
        if asked.any()
        else 0.0
    )


MLM_MASKING = planted(
    "mlm_masking",
    labels_read_after_masking=after,
    labels_of_another_draw=two_draws,
    labels_zero_where_nothing_is_asked=labeled(lambda ids, labels: np.maximum(labels, 0)),
    labels_minus_one_where_nothing_is_asked=labeled(lambda ids, labels: np.maximum(labels, -1)),
    labels_everywhere=labeled(lambda ids, labels: ids.copy()),
    labels_where_nothing_is_hidden=labeled(lambda ids, labels: np.where(labels == -100, ids, -100)),
    labels_one_too_far=labeled(lambda ids, labels: np.roll(labels, 1, axis=1)),
    labels_as_floats=labeled(lambda ids, labels: labels.astype(float)),
    labels_say_yes_or_no=labeled(lambda ids, labels: labels != -100),
    labels_first=lambda *given: mlm_masking(*given)[::-1],
    labels_forgotten=lambda *given: mlm_masking(*given)[0],
    label_of_the_kept_forgotten=lambda ids, *rest: (
        (inputs := mlm_masking(ids, *rest)[0]),
        np.where(inputs == ids, -100, ids),
    ),
    special_tokens_masked=lambda ids, special, *rest: mlm_masking(ids, special & False, *rest),
    special_tokens_asked_for=asked_where_special,
    special_tokens_change=changed_where_special,
    special_inverted=lambda ids, special, *rest: mlm_masking(ids, ~special, *rest),
    special_of_the_first_row=lambda ids, special, *rest: mlm_masking(
        ids, special[:1] | np.zeros_like(special), *rest
    ),
    in_place=in_place,
    special_in_place=special_in_place,
    fifteen_percent_always=lambda *given: mlm_masking(*given[:4], 0.15, given[5]),
    fifteen_percent_twice=lambda *given: mlm_masking(*given[:4], given[4] ** 2, given[5]),
    by_count=selecting(by_count),
    one_word_at_least=selecting(at_least_one),
    one_row_for_all=selecting(
        lambda special, p, rng: (rng.random(special.shape[1]) < p) & ~special
    ),
    whole_rows=selecting(lambda special, p, rng: (rng.random((len(special), 1)) < p) & ~special),
    never_the_last=selecting(
        lambda special, p, rng: (
            choose(special, p, rng) & (np.arange(special.shape[1]) < special.shape[1] - 1)
        )
    ),
    above_p=selecting(lambda special, p, rng: (rng.random(special.shape) > p) & ~special),
    always_the_mask=hiding(masked=1.0),
    nothing_kept=hiding(kept=0.0),
    nothing_random=hiding(kept=0.2),
    fifteen_percent_kept=hiding(kept=0.15),
    mask_and_kept_swapped=hiding(masked=0.1, kept=0.8),
    random_over_the_masked=lambda *given: mlm_masking(*given, hide=remasked),
    a_tenth_of_the_rest_is_random=lambda *given: mlm_masking(*given, hide=tenth_of_the_rest),
    random_among_the_unselected=lambda *given: mlm_masking(*given, hide=others_hidden),
    one_dice_for_all=random_by(lambda ids, V, rng: rng.integers(V)),
    random_ids_up_to_and_with_V=random_by(lambda ids, V, rng: rng.integers(V + 1, size=ids.shape)),
    random_ids_from_one=random_by(lambda ids, V, rng: rng.integers(1, V + 1, size=ids.shape)),
    random_ids_of_the_batch=random_by(
        lambda ids, V, rng: rng.permutation(ids.ravel()).reshape(ids.shape)
    ),
    random_ids_of_the_first_half=random_by(
        lambda ids, V, rng: rng.integers(V // 2, size=ids.shape)
    ),
    random_ids_beside_the_own=random_by(lambda ids, V, rng: (ids + 1) % V),
    own_generator=lambda *given: mlm_masking(*given[:5], OWN),
    own_generator_for_random_ids=random_by(lambda ids, V, rng: OWN.integers(V, size=ids.shape)),
    generator_seeded_at_each_call=lambda *given: mlm_masking(*given[:5], np.random.default_rng(0)),
    loss_over_all_tokens={"loss": lambda logits, labels: surprises(logits, labels).mean()},
    loss_is_the_sum={"loss": lambda logits, labels: surprises(logits, labels).sum()},
    loss_of_rows_alike={"loss": rows_alike},
    loss_where_nothing_is_asked={
        "loss": lambda logits, labels: surprises(logits, np.maximum(labels, 0)).mean()
    },
    loss_divides_by_nothing={
        "loss": lambda logits, labels: surprises(logits, labels).sum() / (labels != -100).sum()
    },
    loss_of_one_for_nothing={
        "loss": lambda logits, labels: mlm_loss(logits, labels) + 1.0 * (labels == -100).all()
    },
    loss_of_shifted_labels={
        "loss": lambda logits, labels: mlm_loss(np.roll(logits, 1, axis=1), labels)
    },
)
