"""What contrastive losses share: directions instead of vectors, and targets. CLIP's own loss is Figure 3 itself, in `models/clip.py`."""

from typing import Any

import numpy as np

from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.autodiff import Tensor

from .classification import soft_cross_entropy_loss


def l2_normalize(x: Any, axis: int = -1) -> Any:
    """Return x divided by its Euclidean length along an axis: (…, E) -> unit vectors (…, E).

    Figure 3 calls this helper without defining it. There is no epsilon, as in the released code: a vector of zeros has no direction.

    >>> l2_normalize(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def max_over_queries(I: Any, T: Any) -> Any:
    """Return how well the best query of each picture meets each text: I (B, Q, E), T (C, E) -> cosines (B, C) (BLIP-2 §3.1).

    "We first compute the pairwise similarity between each query output and [the text's class token], and then select the highest one."

    >>> max_over_queries(np.array([[[2.0, 0.0], [0.0, 3.0]]]), np.array([[0.0, 1.0], [-1.0, 0.0]]))
    array([[1., 0.]])
    """
    if I.ndim != 3 or T.ndim != 2 or I.shape[-1] != T.shape[-1]:
        raise ShapeError(f"max_over_queries takes queries (B, Q, E) and texts (C, E), and {I.shape} with {T.shape} came; E is the joint width")
    B, Q, E = I.shape
    cosines = np.dot(l2_normalize(np.reshape(I, (B * Q, E))), l2_normalize(T).T)  # (B*Q, C)
    return np.max(np.reshape(cosines, (B, Q, len(T))), axis=1)


def itc_targets(image_ids: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    """Return the probability (B, B) with which a text should be taken for a picture's own; rows sum to 1.

    Captions of one picture, equal `image_ids` (B,), are all right and share 1 - smoothing; all B share the rest.

    >>> itc_targets(np.array([7, 7, 8]))
    array([[0.5, 0.5, 0. ],
           [0.5, 0.5, 0. ],
           [0. , 0. , 1. ]])
    """
    same = image_ids[:, None] == image_ids
    return (1 - smoothing) * same / same.sum(axis=1, keepdims=True) + smoothing / len(image_ids)


def itc_loss(similarities: Any, image_ids: np.ndarray | None = None, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy of both directions: similarities (B, B) already scaled, pictures in rows (BLIP-2 §3.1; ALBEF eq. 2).

    Without `image_ids` (B,) each picture has one caption of its own. Equal similarities give ln B. UsageError for a batch of one.
    """
    B = len(similarities)
    if B < 2:
        raise UsageError(
            f"a contrastive batch needs at least 2 pairs and {B} came: with nothing to tell apart its loss is always 0; raise the batch size"
        )
    targets = itc_targets(np.arange(B) if image_ids is None else image_ids, smoothing)
    loss_i = soft_cross_entropy_loss(similarities, targets, axis=0)
    loss_t = soft_cross_entropy_loss(similarities, targets, axis=1)
    return (loss_i + loss_t) / 2
