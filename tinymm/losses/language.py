"""The language modeling loss, cross-entropy of each next token: BLIP's LM, BLIP-2's ITG, and a language model's own."""

from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.autodiff import Tensor, ops


def language_loss(
    logits: Any, ids: np.ndarray, is_real: np.ndarray, smoothing: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy of each real next token, in nats: logits (B, T, V), ids (B, T), is_real (B, T).

    The shift is inside: the logits of token t predict token t+1. A token counts as a target where
    `is_real`; mark padding False, and a prompt that was given too. With `smoothing` e a target is
    worth 1 - e and all V tokens share e (Szegedy et al. 2016, §7); the loss then never reaches 0.
    Equal logits give ln V at any smoothing. DataError if no target is left, ShapeError for arrays
    that do not fit.

    >>> loss = language_loss(np.zeros((1, 3, 8)), np.array([[1, 5, 2]]), np.array([[True, True, True]]), smoothing=0.1)
    >>> round(loss.item(), 4), round(float(np.log(8)), 4)
    (2.0794, 2.0794)
    """
    if logits.ndim != 3 or logits.shape[:2] != ids.shape or ids.shape != is_real.shape:
        raise ShapeError(
            f"language_loss takes logits (B, T, V), ids (B, T) and is_real (B, T), and {logits.shape}, {ids.shape}, {is_real.shape} came; "
            "the shift by one happens inside"
        )
    if not 0 <= smoothing <= 1:
        raise DataError(
            f"language_loss: smoothing lies in [0, 1] and {smoothing} came; 0 switches it off"
        )
    rows, before = np.nonzero(is_real[:, 1:])
    if not len(rows):
        raise DataError(
            f"language_loss: a target is a real token after the first, and none of {ids.size} is; check is_real, or the prompt's length"
        )
    targets = ids[rows, before + 1]
    V = logits.shape[-1]
    if targets.min() < 0 or targets.max() >= V:
        raise DataError(
            f"language_loss: targets lie in [0, {V}) and {targets.min()} to {targets.max()} came; use the model's own tokenizer"
        )
    log_p: Any = ops.log_softmax(logits[rows, before])
    nll = -np.mean(np.take_along_axis(log_p, targets[:, None], axis=1))
    return nll if not smoothing else (1 - smoothing) * nll - smoothing * np.mean(log_p)
