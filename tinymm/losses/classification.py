"""Cross-entropy losses for classification, in nats."""

from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module, to_backend
from tinymm.arrays.errors import DataError, ShapeError
from tinymm.autodiff import Tensor, ops


def cross_entropy_loss(logits: Any, labels: np.ndarray, axis: int = -1) -> Tensor:
    """Return the mean of -ln softmax(logits)[label]: logits with the classes along `axis`, labels of the other axes' shape.

    Figure 3 of CLIP calls this helper without defining it. `axis` is the axis of the softmax: with
    logits (n, n), images in rows and texts in columns, `axis=1` asks for the text of each image and
    `axis=0` for the image of each text. ln(number of classes) is the loss of equal logits.
    ShapeError for labels of another shape, DataError for one that is no whole number or no class.

    >>> loss = cross_entropy_loss(np.zeros((2, 8)), np.array([3, 5]), axis=1)
    >>> round(loss.item(), 4), round(float(np.log(8)), 4)
    (2.0794, 2.0794)
    """
    axis, labels = (
        axis % logits.ndim,
        np.asarray(labels) if isinstance(labels, list | tuple) else labels,
    )
    others = logits.shape[:axis] + logits.shape[axis + 1 :]
    if labels.shape != others:
        raise ShapeError(
            f"cross_entropy_loss: logits {logits.shape} with classes along axis {axis} need labels {others} and {labels.shape} came; "
            "give one label for each row"
        )
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"cross_entropy_loss: labels are the numbers of classes, and {labels.dtype} came; write labels.astype(int)"
        )
    classes = logits.shape[axis]
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise DataError(
            f"cross_entropy_loss: labels lie in [0, {classes}) and {labels.min()} to {labels.max()} came; check the class list"
        )
    log_p: Any = ops.log_softmax(logits, axis=axis)
    picked: Any = np.take_along_axis(log_p, np.expand_dims(labels, axis), axis=axis)
    return -np.mean(picked)


def soft_cross_entropy_loss(logits: Any, targets: Any, axis: int = -1) -> Tensor:
    """Return the mean of -Σ target · ln softmax(logits) along `axis`: logits and targets of one shape, targets summing to 1 there.

    With smoothed targets the least loss is their entropy, not 0 (Szegedy et al. 2016, §7).
    ShapeError if the shapes differ.

    >>> round(soft_cross_entropy_loss(np.zeros((2, 4)), np.full((2, 4), 0.25)).item(), 4), round(float(np.log(4)), 4)
    (1.3863, 1.3863)
    """
    if logits.shape != targets.shape:
        raise ShapeError(
            f"soft_cross_entropy_loss: logits {logits.shape} and targets {targets.shape} differ; give each logit its probability"
        )
    log_p: Any = ops.log_softmax(logits, axis=axis)
    if isinstance(targets, np.ndarray):  # targets follow from ids, which live on the host
        targets = to_backend(targets, array_module(log_p.data).__name__)
    return -np.mean(np.sum(log_p * targets.astype(log_p.dtype), axis=axis))
