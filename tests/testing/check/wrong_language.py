"""Planted mistakes in the language loss: its shift, its padding, its mean and its smoothing."""

import numpy as np
from kept import planted
from right import lm_loss, log_softmax, sequences, smoothed, softmax, tokens


def backward(logits, ids, is_real, smoothing):
    return tokens(smoothed(log_softmax(logits[:, 1:]), ids[:, :-1], smoothing), is_real[:, :-1])


def mask_not_shifted(logits, ids, is_real, smoothing):
    return tokens(smoothed(log_softmax(logits[:, :-1]), ids[:, 1:], smoothing), is_real[:, :-1])


def length_is_the_sum(logits, ids, is_real, smoothing):
    return lm_loss(
        logits, ids, np.arange(ids.shape[1]) < is_real.sum(axis=1, keepdims=True), smoothing
    )


def begins_with_the_first_real(logits, ids, is_real, smoothing):
    """Score from the second real token on: the first one after a prompt is lost."""
    return lm_loss(logits, ids, is_real & (np.cumsum(is_real, axis=1) > 1), smoothing)


def smooth(rule):
    """Return a loss whose smoothing is `rule(own, log_p, e)`: own are the targets' logarithms (B, T), log_p those of all tokens."""

    def of(log_p, ids, e):
        return rule(np.take_along_axis(log_p, ids[..., None], axis=-1)[..., 0], log_p, e)

    return lambda logits, ids, is_real, e: lm_loss(logits, ids, is_real, e, smooth=of)


def over_the_others(own, log_p, e):
    return -(1 - e) * own - e * (log_p.sum(axis=-1) - own) / (log_p.shape[-1] - 1)


def on_raw_logits(logits, ids, is_real, e):
    sharp = lm_loss(logits, ids, is_real, 0)
    return (1 - e) * sharp - e * tokens(logits[:, :-1].mean(axis=-1), is_real[:, 1:])


def entropy(V, e):
    target = (1 - e) * (np.arange(V) == 0) + e / V
    return -(target * np.log(np.where(target > 0, target, 1))).sum()


def with_(**changed):
    return lambda *given: lm_loss(*given, **changed)


LM_LOSS = planted(
    "lm_loss",
    no_shift=with_(shift=0),
    shifted_twice=with_(shift=2),
    shifted_backward=backward,
    mask_not_shifted=mask_not_shifted,
    padding_scored=lambda logits, ids, is_real, e: lm_loss(logits, ids, is_real | True, e),
    first_padding_scored=lambda logits, ids, is_real, e: lm_loss(
        logits, ids, is_real | np.roll(is_real, 1, axis=1), e
    ),
    last_token_not_scored=lambda logits, ids, is_real, e: lm_loss(
        logits,
        ids,
        is_real & np.append(is_real[:, 1:], np.zeros((len(ids), 1), dtype=bool), axis=1)
        | (np.arange(ids.shape[1]) < 2),
        e,
    ),
    divided_by_all_tokens=with_(mean=lambda each, scored: (each * scored).mean()),
    divided_by_the_captions=with_(mean=lambda each, scored: (each * scored).sum() / len(each)),
    sum_for_mean=with_(mean=lambda each, scored: (each * scored).sum()),
    mean_of_captions_means=with_(mean=sequences),
    first_caption_only=with_(mean=lambda each, scored: tokens(each[:1], scored[:1])),
    length_is_the_sum=length_is_the_sum,
    begins_with_the_second_token_after_a_prompt=begins_with_the_first_real,
    smoothing_ignored=lambda logits, ids, is_real, e: lm_loss(logits, ids, is_real, 0),
    smoothing_squared=lambda logits, ids, is_real, e: lm_loss(logits, ids, is_real, e * e),
    smoothing_over_the_other_tokens=smooth(over_the_others),
    smoothing_loses_mass=smooth(lambda own, log_p, e: -(1 - e) * own),
    smoothing_sums_over_tokens=smooth(
        lambda own, log_p, e: -(1 - e) * own - e * log_p.sum(axis=-1)
    ),
    smoothing_added=smooth(lambda own, log_p, e: -own - e * log_p.mean(axis=-1)),
    smoothing_subtracted=smooth(lambda own, log_p, e: -(1 + e) * own + e * log_p.mean(axis=-1)),
    smoothing_on_raw_logits=on_raw_logits,
    smoothing_as_a_divergence=smooth(
        lambda own, log_p, e: -entropy(log_p.shape[-1], e) - (1 - e) * own - e * log_p.mean(axis=-1)
    ),
    smoothing_of_one_minus_e=lambda logits, ids, is_real, e: lm_loss(logits, ids, is_real, 1 - e),
    no_softmax=with_(log_p=lambda logits: logits),
    logarithm_of_the_softmax=with_(log_p=lambda logits: np.log(softmax(logits))),
    softmax_twice=with_(log_p=lambda logits: log_softmax(softmax(logits))),
    softmax_over_the_places=with_(log_p=lambda logits: log_softmax(logits, 1)),
    probability_for_its_logarithm=with_(log_p=lambda logits: softmax(logits)),
    temperature_hidden=with_(log_p=lambda logits: log_softmax(logits / 2)),
    base_two=with_(log_p=lambda logits: log_softmax(logits) / np.log(2)),
    sign_forgotten=lambda *given: -lm_loss(*given),
    perplexity=lambda *given: np.exp(np.minimum(lm_loss(*given), 50)),
)
