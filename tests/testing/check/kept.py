"""Right implementations under the contracts that they keep, and `planted`, which breaks one of them in one place."""

from functools import partial

import numpy as np
import right
import right_models as models
import right_momentum as momentum


def rows_blocked(Q, is_real, objective):
    rows = np.concatenate([np.ones((len(is_real), Q), dtype=bool), is_real], axis=1)
    return right.qformer_mask(Q, is_real, objective) & rows[:, None, :, None]


def text_first(Q, is_real, objective):
    return np.roll(right.qformer_mask(Q, is_real, objective), (-Q, -Q), axis=(2, 3))


def shifted(logits, ids, is_real, smoothing):
    return right.lm_loss(logits, ids, is_real, smoothing, shift=0)


def by_labels(logits, labels, _, smoothing):
    return right.lm_loss(logits, np.where(labels == -100, 0, labels), labels != -100, smoothing)


def shifted_labels(logits, labels, _, smoothing):
    return shifted(logits, np.where(labels == -100, 0, labels), labels != -100, smoothing)


def refusing_mlm_loss(logits, labels):
    if (labels == -100).all():
        raise ValueError("no word was selected")
    return momentum.mlm_loss(logits, labels)


def divided_last(q, k, v, mask):
    s = np.where(mask, q / np.sqrt(q.shape[-1]) @ np.swapaxes(k, -1, -2), -np.inf)
    e = np.exp(s - np.maximum(s.max(axis=-1, keepdims=True), -1e300))
    return e @ v / np.maximum(e.sum(axis=-1, keepdims=True), 1e-300)


def pairs_less_the_diagonal(I, T, scale):
    S = scale * np.einsum("ie,je->ij", right.unit(I), right.unit(T))
    return np.mean([np.logaddexp.reduce(S, axis=axis) - np.diagonal(S) for axis in (0, 1)])


RIGHT = {
    "causal_mask": {
        "plain": {"fn": right.causal_mask},
        "true means ignore": {"fn": lambda n: ~right.causal_mask(n), "true_means": "ignore"},
        "additive": {"fn": lambda n: np.where(right.causal_mask(n), 0, -np.inf), "additive": True},
        "additive and finite": {
            "fn": lambda n: np.where(right.causal_mask(n), 0, -1e4),
            "additive": True,
        },
        "sliding window": {
            "fn": lambda n: right.causal_mask(n) & ~np.tri(n, k=-3, dtype=bool),
            "window": True,
        },
        "counted": {"fn": lambda n: np.cumsum(np.eye(n, dtype=bool), axis=0) == 1},
        "read-only columns": {
            "fn": lambda n: np.lib.stride_tricks.sliding_window_view(np.arange(1 - n, n) <= 0, n)[
                ::-1
            ]
        },
    },
    "padding_mask": {
        "plain": {"fn": right.padding_mask},
        "same rows": {"fn": right.padding_mask, "rows": "same"},
        "rows of padding blocked too": {"fn": right.padding_rows_blocked},
        "true means ignore": {
            "fn": lambda is_real: ~right.padding_mask(is_real),
            "true_means": "ignore",
        },
        "by length": {
            "fn": lambda r: np.arange(r.shape[1]) < r.sum(1)[:, None, None, None],
            "pad_side": "right",
        },
    },
    "prefix_mask": {
        "plain": {"fn": right.prefix_mask},
        "true means ignore": {"fn": lambda p, n: ~right.prefix_mask(p, n), "true_means": "ignore"},
    },
    "mask_algebra": {
        "plain": {"fn": right.combine},
        "true means ignore": {"fn": np.logical_or, "true_means": "ignore"},
        "additive": {"fn": np.add, "additive": True},
    },
    "reachability": {
        "plain": {"fn": right.reachability},
        "no residual": {
            "fn": lambda masks: right.reachability(masks, residual=False),
            "residual": False,
        },
    },
    "softmax": {
        "plain": {"fn": right.softmax, "vjp": right.softmax_vjp},
        "columns": {
            "fn": lambda x: right.softmax(x, 0),
            "vjp": lambda g, x: right.softmax_vjp(g, x, 0),
            "axis": 0,
        },
    },
    "log_softmax": {"plain": {"fn": right.log_softmax, "vjp": right.log_softmax_vjp}},
    "masked_softmax": {
        "plain": {"fn": right.masked_softmax, "vjp": right.masked_softmax_vjp},
        "NaN for an empty row": {"fn": right.infinite_masked_softmax, "empty_row": "nan"},
    },
    "attention": {
        "plain": {
            "fn": right.attention,
            "weights": right.weights,
            "step": right.step,
            "multihead": right.multihead,
        },
        "matrices": {"fn": right.attention, "leading": 0},
        "one leading axis": {"fn": right.attention, "leading": 1},
        "unscaled": {"fn": right.unscaled_attention, "scaled": False},
        "scaled queries, divided last": {"fn": divided_last},
        "NaN for an empty row": {"fn": right.infinite_attention, "empty_row": "nan"},
    },
    "layer_norm": {
        "plain": {"fn": right.layer_norm, "vjp": right.layer_norm_vjp},
        "columns": {
            "fn": lambda x, gain, bias, eps: right.layer_norm(x, gain, bias, eps, 0),
            "axis": 0,
        },
        "columns of the transpose": {
            "fn": lambda x, gain, bias, eps: (
                right.layer_norm(x.T, gain[:, None], bias[:, None], eps, 0).T
            )
        },
    },
    "contrastive_loss": {
        "plain": {
            "fn": right.loss,
            "vjp": right.loss_vjp,
            "half": right.half,
            "shard": right.shard,
            "soft": right.soft,
            "blocked": right.blocked,
            "cached": right.cached,
        },
        "pairs less the diagonal": {"fn": pairs_less_the_diagonal},
        "divisor": {
            "fn": lambda I, T, temperature: right.loss(I, T, 1 / temperature),
            "scale": "divide",
        },
        "logarithm": {"fn": lambda I, T, t: right.loss(I, T, np.exp(t)), "scale": "log"},
        "unit rows": {
            "fn": lambda I, T, s: right.loss_of_logits(s * I @ T.T),
            "vjp": lambda g, I, T, s: (
                g * s * right.slopes(s * I @ T.T) @ T,
                g * s * right.slopes(s * I @ T.T).T @ I,
            ),
            "inputs": "unit",
        },
        "logits": {
            "fn": right.loss_of_logits,
            "vjp": lambda g, S: g * right.slopes(S),
            "inputs": "logits",
        },
    },
    "recall": {
        "plain": {"fn": right.recall, "captions": right.captions, "swap": right.swap},
        "expected": {"fn": right.expected_recall, "ties": "expected"},
    },
    "temperature": {
        "plain": {
            "fn": right.tempered,
            "vjp": right.tempered_vjp,
            "initial": float(np.log(1 / 0.07)),
            "clamp": right.clamp,
            "divided": right.divided,
            "scores": right.cosines,
        }
    },
    "qformer_masks": {
        "plain": {"fn": right.qformer_mask},
        "same rows": {"fn": right.qformer_mask, "rows_of_padding": "same"},
        "rows of padding blocked too": {"fn": rows_blocked},
        "text first": {"fn": text_first, "order": "text_first"},
        "true means ignore": {
            "fn": lambda Q, is_real, objective: ~right.qformer_mask(Q, is_real, objective),
            "true_means": "ignore",
        },
        "additive": {
            "fn": lambda Q, is_real, objective: np.where(
                right.qformer_mask(Q, is_real, objective), 0, -np.inf
            ),
            "additive": True,
        },
    },
    "max_over_queries": {
        "plain": {"fn": right.max_over_queries, "vjp": right.max_over_queries_vjp},
        "unit rows": {"fn": lambda I, T: (I @ T.T).max(axis=1), "unit": False},
    },
    "hard_negatives": {
        "plain": {"fn": right.hard_negatives},
        "row by row": {"fn": right.chosen_negatives},
        "texts first": {
            "fn": lambda S, ids, rng: right.hard_negatives(S.T, ids, rng),
            "order": "texts_first",
        },
    },
    "itm_pairs": {
        "plain": {"fn": right.itm_pairs},
        "shuffled": {
            "fn": lambda images, texts: tuple(part[::-1] for part in right.itm_pairs(images, texts))
        },
    },
    "itm_loss": {
        "plain": {"fn": right.itm_loss},
        "one vector a pair": {
            "fn": lambda logits, labels: right.itm_loss(logits[:, None], labels),
            "queries": False,
        },
        "yes before no": {"fn": right.itm_loss, "order": "yes_no"},
    },
    "lm_loss": {
        "plain": {"fn": right.lm_loss},
        "shifted by the caller": {"fn": shifted, "shift": "outside"},
        "mean of captions": {
            "fn": lambda *given: right.lm_loss(*given, mean=right.sequences),
            "mean": "sequences",
        },
        "minus one hundred": {"fn": by_labels, "ignore_index": -100},
        "minus one hundred, shifted": {
            "fn": shifted_labels,
            "ignore_index": -100,
            "shift": "outside",
        },
        "without smoothing": {"fn": right.lm_loss, "smoothing": False},
    },
    "sigmoid_loss": {
        "plain": {
            "fn": momentum.sigmoid_loss,
            "vjp": momentum.sigmoid_vjp,
            "block": momentum.sigmoid_block,
        },
        "mean of all pairs": {
            "fn": lambda S: momentum.sigmoid_loss(S) / len(S),
            "vjp": lambda g, S: momentum.sigmoid_vjp(g, S) / len(S),
            "block": momentum.sigmoid_block,
            "reduction": "mean",
        },
        "softplus of all, less the diagonal": {
            "fn": lambda S: np.logaddexp(0, S).sum(1).mean() - np.diagonal(S).mean()
        },
    },
    "soft_targets": {
        "plain": {"fn": momentum.soft_targets, "by_ids": momentum.soft_targets_by_ids},
        "queue first": {
            "fn": momentum.queue_first,
            "by_ids": momentum.soft_targets_by_ids,
            "order": "queue_first",
        },
    },
    "itc_queue": {
        "plain": {"fn": momentum.itc_queue, "vjp": momentum.itc_queue_vjp},
        "normalizes": {
            "fn": momentum.normalizing_itc_queue,
            "vjp": momentum.normalizing_itc_queue_vjp,
            "unit": True,
        },
        "multiplier": {
            "fn": lambda *given: momentum.itc_queue(*given[:6], 1 / given[6], given[7]),
            "scale": "multiply",
        },
        "logarithm": {
            "fn": lambda *given: momentum.itc_queue(*given[:6], np.exp(-given[6]), given[7]),
            "scale": "log",
        },
    },
    "mlm_masking": {
        "plain": {"fn": momentum.mlm_masking, "loss": momentum.mlm_loss},
        "one coin after the other": {"fn": momentum.one_coin_after_the_other},
        "minus one": {
            "fn": lambda *given: momentum.mlm_masking(*given, ignore_index=-1),
            "loss": lambda logits, labels: momentum.mlm_loss(logits, labels, ignore_index=-1),
            "ignore_index": -1,
        },
        "zero": {
            "fn": lambda *given: momentum.mlm_masking(*given, ignore_index=0),
            "ignore_index": 0,
        },
        "refuses an empty loss": {"fn": momentum.mlm_masking, "loss": refusing_mlm_loss},
    },
    "ema": {
        "plain": {"fn": momentum.ema},
        "in place": {"fn": momentum.ema_in_place, "in_place": True},
        "toward the model": {"fn": lambda twin, online, m: twin + (1 - m) * (online - twin)},
    },
    "queue": {
        "plain": {"fn": momentum.Ring},
        "columns": {"fn": momentum.Columns, "axis": 1},
        "oldest first": {"fn": momentum.Line, "order": "age"},
        "any order": {"fn": momentum.Line, "order": "any"},
        "any size": {"fn": momentum.Wrapping, "ragged": True},
    },
    "vjp": {
        "plain": {"fn": right.softmax, "vjp": right.softmax_vjp},
        "two arrays": {"fn": models.product, "vjp": models.product_vjp, "signature": "(m,k),(k,n)"},
        "stretched": {"fn": models.biased, "vjp": models.biased_vjp, "signature": "(m,n),(n)"},
        "a kink": {"fn": models.ramp, "vjp": models.ramp_vjp, "kinks": (0.0,)},
        "positive numbers": {"fn": np.log, "vjp": lambda g, x: g / x, "domain": (0.5, 3.0)},
        "a number": {
            "fn": lambda x: (x**2).sum(),
            "vjp": lambda g, x: 2 * g * x,
            "signature": "(n)",
        },
    },
    "no_leak": {
        "plain": {"fn": models.model},
        "two layers": {"fn": partial(models.model, layers=2), "layers": 2},
        "three layers": {"fn": partial(models.model, layers=3), "layers": 3},
        "no residual": {
            "fn": partial(models.model, residual=False, layers=2),
            "layers": 2,
            "residual": False,
        },
        "positions": {"fn": partial(models.model, positions=True)},
    },
}


def planted(suite, **mistakes):
    """Return contracts by name: a wrong function stands alone, a wrong option (a vjp, a step …) beside what is right."""
    kept = RIGHT[suite]["plain"]
    return {
        name.replace("_", " "): {"fn": wrong} if callable(wrong) else {**kept, **wrong}
        for name, wrong in mistakes.items()
    }
