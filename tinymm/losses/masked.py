"""Masked language modeling (MLM): predict masked tokens (BERT, Devlin et al. 2019, §3.1), with an image in ALBEF (§3.2)."""

from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module, to_backend
from tinymm.arrays.errors import DataError, ShapeError
from tinymm.autodiff import Tensor, ops

#: The label of a position that the loss ignores.
NOT_ASKED = -100


def mask_words(
    ids: np.ndarray,
    special: np.ndarray,
    vocabulary: int,
    mask_id: int,
    p: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Mask each token with probability `p`, as BERT does: return input ids and labels, both (B, T), the label -100 where no token is masked.

    ids (B, T); `special` (B, T) boolean marks what is never masked, such as padding and [CLS]. Of
    the chosen places 8 in 10 become [MASK], `mask_id`, 1 in 10 a random id below `vocabulary`, and
    1 in 10 stay as they are, so that the model can trust no word it reads (BERT §3.1). DataError
    for a p outside [0, 1], ShapeError unless each id has its boolean mark.

    >>> inputs, labels = mask_words(np.array([[1, 5, 6, 2]]), np.array([[True, False, False, True]]), 10, 9, 1.0, np.random.default_rng(1))
    >>> inputs.tolist(), labels.tolist()
    ([[1, 9, 6, 2]], [[-100, 5, 6, -100]])
    """
    if ids.shape != special.shape or special.dtype != bool:
        raise ShapeError(
            f"mask_words takes ids (B, T) and a boolean mark for each, and {ids.shape} with {special.dtype} {special.shape} came"
        )
    if not 0 <= p <= 1:
        raise DataError(
            f"mask_words hides a share p in [0, 1] of the words, and {p} came; the papers have 0.15"
        )
    chosen = (rng.random(ids.shape) < p) & ~special
    fate = rng.random(ids.shape)
    words = rng.integers(0, vocabulary, ids.shape)
    inputs = np.where(chosen & (fate < 0.8), mask_id, np.where(chosen & (fate >= 0.9), words, ids))
    return inputs, np.where(chosen, ids, NOT_ASKED)


def masked_language_loss(
    logits: Any, labels: np.ndarray, soft: Any = None, alpha: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy of the masked tokens: logits (B, T, V), labels (B, T), -100 where ignored (ALBEF §3.2, eq. 3 and 7).

    With logits `soft` (B, T, V) of the momentum encoder, `alpha` is the weight of its
    pseudo-targets. A uniform prediction has the loss ln V. DataError where all labels are -100: the
    mean of nothing is no number. ShapeError for labels of another shape than the texts'.

    >>> loss = masked_language_loss(np.zeros((1, 3, 8)), np.array([[-100, 5, -100]]))
    >>> round(loss.item(), 4), round(float(np.log(8)), 4)
    (2.0794, 2.0794)
    """
    if logits.ndim != 3 or logits.shape[:2] != labels.shape:
        raise ShapeError(
            f"masked_language_loss takes logits (B, T, V) and labels (B, T), and {logits.shape} with {labels.shape} came"
        )
    rows, places = np.nonzero(labels != NOT_ASKED)
    if not len(rows):
        raise DataError(
            f"masked_language_loss: none of {labels.size} places is asked for; hide at least one word, or leave the loss out"
        )
    targets, V = labels[rows, places], logits.shape[-1]
    if targets.min() < 0 or targets.max() >= V:
        raise DataError(
            f"masked_language_loss: labels lie in [0, {V}) and {targets.min()} to {targets.max()} came; use the model's own tokenizer"
        )
    log_p: Any = ops.log_softmax(logits[rows, places])
    nll = -np.mean(np.take_along_axis(log_p, targets[:, None], axis=1))
    if soft is None or not alpha:
        return nll
    soft = to_backend(soft, array_module(log_p.data).__name__)[rows, places]
    thought = np.exp(soft - soft.max(axis=-1, keepdims=True))
    distilled = -np.mean(np.sum(log_p * (thought / thought.sum(axis=-1, keepdims=True)), axis=-1))
    return (1 - alpha) * nll + alpha * distilled
