"""Contrastive losses (ITC, SigLIP), their targets, and L2 normalization.

CLIP's own loss is Figure 3 itself, in `tasks/clip.py`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module, to_backend
from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.autodiff import Tensor, ops

from .classification import cross_entropy_loss, soft_cross_entropy_loss

#: The id of a queue slot that holds no image yet, or of an unknown image: it has no other
#: positives.
NO_ID = -100


def l2_normalize(x: Any, axis: int = -1) -> Any:
    """Return x divided by its L2 norm along an axis: (…, E) -> unit vectors (…, E).

    Figure 3 calls this helper without defining it. There is no epsilon, as in the released code: a
    vector of zeros has no direction.

    >>> l2_normalize(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def max_over_queries(I: Any, T: Any) -> Any:
    """Return the cosine of each image's best query with each text: I (B, Q, E), T (C, E) -> cosines (B, C) (BLIP-2 §3.2).

    "We first compute the pairwise similarity between each query output and [the text's class
    token], and then select the highest one." ShapeError for other axes, two widths, or no query.

    >>> max_over_queries(np.array([[[2.0, 0.0], [0.0, 3.0]]]), np.array([[0.0, 1.0], [-1.0, 0.0]]))
    array([[1., 0.]])
    """
    if I.ndim != 3 or T.ndim != 2 or I.shape[-1] != T.shape[-1] or not I.shape[1]:
        raise ShapeError(
            f"max_over_queries takes queries (B, Q, E) and texts (C, E), and {I.shape} with {T.shape} came; E is the embedding width"
        )
    B, Q, E = I.shape
    cosines = np.dot(l2_normalize(np.reshape(I, (B * Q, E))), l2_normalize(T).T)  # (B*Q, C)
    return np.max(np.reshape(cosines, (B, Q, len(T))), axis=1)


def same_picture(image_ids: np.ndarray) -> np.ndarray:
    """Return which pairs of a batch show one image (B, B): those of equal `image_ids` (B,). The id -100 equals itself only.

    >>> same_picture(np.array([7, 7, -100, -100])).astype(int).tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    """
    return (image_ids[:, None] == image_ids) & (image_ids != NO_ID) | np.eye(
        len(image_ids), dtype=bool
    )


def itc_targets(image_ids: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    """Return the targets of the contrastive loss (B, B): the probability of each text for each image; rows sum to 1.

    Captions of one image, equal `image_ids` (B,), are all right and share 1 - smoothing; all B
    share the rest.

    >>> itc_targets(np.array([7, 7, 8]))
    array([[0.5, 0.5, 0. ],
           [0.5, 0.5, 0. ],
           [0. , 0. , 1. ]])
    """
    same = same_picture(image_ids)
    return (1 - smoothing) * same / same.sum(axis=1, keepdims=True) + smoothing / max(
        1, len(image_ids)
    )


def itc_loss(
    similarities: Any, image_ids: np.ndarray | None = None, smoothing: float = 0.0
) -> Tensor:
    """Return the image-text contrastive loss (InfoNCE, both directions): similarities (B, B) already scaled, images in rows (ALBEF eq. 2).

    Without `image_ids` (B,) each image has one caption of its own. Equal similarities give ln B.
    UsageError for a batch of one.
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


def local_itc_loss(
    I: Any, T: Any, scale: Any, first: int = 0, gather: Callable[[Any], Any] = lambda rows: rows
) -> Tensor:
    """Return one rank's share of the contrastive loss: its own unit rows I and T (b, E) against the rows of all ranks.

    `gather` makes (n, E) of all ranks' (b, E), with gradient (`training.parallel.gather_over`);
    `first` is where the own rows begin there. The shares of all ranks add up to the loss of the n
    pairs, and so do their gradients, while no rank holds more than 2 b n similarities. UsageError
    for a rank without pairs.

    >>> rows = np.eye(4)
    >>> shares = [local_itc_loss(rows[own], rows[own], 2.0, own.start, lambda _: rows).item() for own in (slice(0, 3), slice(3, 4))]
    >>> round(sum(shares), 4), round(itc_loss(rows @ rows.T * 2.0).item(), 4)
    (0.3408, 0.3408)
    """
    if not len(I):
        raise UsageError(
            "a rank's share of the contrastive loss is of at least 1 pair and 0 came; give each rank a part of the batch"
        )
    texts, images = gather(T), gather(I)
    labels = first + np.arange(len(I))
    loss_i = cross_entropy_loss(np.dot(I, texts.T) * scale, labels, axis=1)
    loss_t = cross_entropy_loss(np.dot(T, images.T) * scale, labels, axis=1)
    return (loss_i + loss_t) * (len(I) / len(texts) / 2)


def soft_targets(
    similarities: np.ndarray,
    alpha: float,
    row_ids: np.ndarray | None = None,
    column_ids: np.ndarray | None = None,
) -> np.ndarray:
    """Return momentum distillation's pseudo-targets: the momentum encoder's similarities (B, C) -> targets (B, C) (ALBEF §3.3, eq. 6).

    Columns are the batch's own pairs first and then the queue's. The weight `alpha` goes to the
    softmax of the momentum encoder's similarities; the rest goes to the row's own column, or evenly
    to all columns of its id: `row_ids` (B,), `column_ids` (C,), -100 for a column of no known
    image. Rows sum to 1. DataError for an alpha outside [0, 1], ShapeError for ids of other
    numbers.

    >>> soft_targets(np.zeros((2, 4)), 0.4)
    array([[0.7, 0.1, 0.1, 0.1],
           [0.1, 0.7, 0.1, 0.1]])
    """
    if not 0 <= alpha <= 1:
        raise DataError(
            f"alpha is the weight of the pseudo-targets, in [0, 1], and {alpha} came; the paper has 0.4"
        )
    B, C = similarities.shape
    came = tuple(() if ids is None else np.shape(ids) for ids in (row_ids, column_ids))
    if came not in (((), ()), ((B,), (C,))):
        raise ShapeError(
            f"soft_targets takes an id for each of {B} rows and {C} columns, and {came[0]} with {came[1]} came; give both, or neither"
        )
    if row_ids is None or column_ids is None:
        own = np.eye(B, C)
    else:
        own = (row_ids[:, None] == column_ids) & (column_ids != NO_ID)
        own = np.where(
            own.any(axis=1, keepdims=True), own, np.eye(B, C, dtype=bool)
        )  # a row without an id has its own column
        own = own / own.sum(axis=1, keepdims=True)
    own = to_backend(
        own.astype(similarities.dtype), array_module(similarities).__name__
    )  # ids live on the host
    shifted = np.exp(similarities - similarities.max(axis=1, keepdims=True))
    return alpha * (shifted / shifted.sum(axis=1, keepdims=True)) + (1 - alpha) * own


def itc_with_queue(
    I: Any,
    T: Any,
    I_m: Any,
    T_m: Any,
    image_queue: Any,
    text_queue: Any,
    temperature: Any,
    alpha: float,
    row_ids: np.ndarray | None = None,
    column_ids: np.ndarray | None = None,
) -> tuple[Tensor, tuple[Any, Any]]:
    """Return the contrastive loss against momentum features of the batch and of the feature queue, and the batch's own similarities.

    I and T (B, E) are unit rows of the model, I_m and T_m (B, E) those of its momentum encoder, the
    queues (K, E) older ones (ALBEF §3.2, eq. 1, 2 and 6; BLIP §3.2). Each row is classified among B
    + K columns, with `soft_targets`. Gradients reach I, T and the temperature only, which divides.
    Equal similarities give ln(B + K). The second result are the scaled similarities image → text
    and text → image (B, B), for drawing hard negatives.
    """
    # pseudo-targets are numbers, also where the momentum features come with a graph
    I_m, T_m, image_queue, text_queue = (
        x.data if isinstance(x, Tensor) else x for x in (I_m, T_m, image_queue, text_queue)
    )
    B, (texts, images) = len(I), (_stacked(T_m, text_queue), _stacked(I_m, image_queue))
    image_to_text = np.dot(I, texts.T) / temperature  # (B, B+K)
    text_to_image = np.dot(T, images.T) / temperature  # (B, B+K)
    divisor = temperature.data if isinstance(temperature, Tensor) else temperature
    targets = [
        soft_targets(similarities / divisor, alpha, row_ids, column_ids)
        for similarities in (I_m @ texts.T, T_m @ images.T)
    ]
    loss_i = soft_cross_entropy_loss(image_to_text, targets[0], axis=1)
    loss_t = soft_cross_entropy_loss(text_to_image, targets[1], axis=1)
    return (loss_i + loss_t) / 2, (image_to_text[:, :B], text_to_image[:, :B])


def _stacked(own: Any, queue: Any) -> Any:
    if own.shape[1:] != queue.shape[1:]:
        raise ShapeError(
            f"a queue keeps rows of the embedding width {own.shape[1]}, and {queue.shape} came; make it for this model"
        )
    return np.concatenate([own, queue])


def sigmoid_loss(logits: Any) -> Tensor:
    """Return the sigmoid loss, a binary cross-entropy of every pair: logits (n, n), images in rows (SigLIP, Zhai et al. 2023, §3.2).

    Every entry is classified by itself, positive on the diagonal and negative elsewhere; no row is
    normalized. The sum is divided by n, not by n²: equal logits of 0 cost n ln 2. The bias is part
    of the logits and begins at -10, since nearly all pairs are negative. ShapeError unless logits
    are square.

    >>> round(sigmoid_loss(np.zeros((4, 4))).item(), 4), round(float(4 * np.log(2)), 4)
    (2.7726, 2.7726)
    """
    n = len(logits)
    if logits.shape != (n, n):
        raise ShapeError(
            f"sigmoid_loss takes logits (n, n) of n aligned pairs, and {logits.shape} came; one picture and one text a pair"
        )
    signs = to_backend(
        2 * np.eye(n, dtype=logits.dtype) - 1,
        array_module(logits.data if isinstance(logits, Tensor) else logits).__name__,
    )
    losses: Any = ops.softplus(-logits * signs)
    return np.sum(losses) / n
