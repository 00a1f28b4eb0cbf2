"""Image-text matching (ITM): binary classification of true pairs and hard negatives, which the contrastive similarity draws.

ALBEF (Li et al. 2021, §3.2) introduced it, BLIP and BLIP-2 kept it. The class prior, one true pair
in three, has the loss ln 3 - ⅔ ln 2 = 0.6365 (`ITM_PRIOR`) and is right 2 times in 3.
"""

import math
from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module, to_device_like
from tinymm.arrays.errors import DataError, ShapeError
from tinymm.autodiff import Tensor

from .classification import cross_entropy_loss
from .contrastive import same_picture

#: The loss of the class prior, 1 true pair in 3: its entropy, in nats.
ITM_PRIOR = math.log(3) - 2 / 3 * math.log(2)


def hard_negatives(
    similarities: Any, image_ids: np.ndarray, rng: np.random.Generator, text_to_image: Any = None
) -> tuple[Any, Any]:
    """Draw hard negatives: a wrong image for each text and a wrong text for each image, the likelier the more similar: indices (B,) twice.

    `similarities` (B, B) are scaled as in the contrastive loss, images in rows; a text's image is
    drawn by the softmax of its column, an image's text by that of its row. Where texts have
    similarities of their own, as with a momentum encoder, these are `text_to_image` (B, B), texts
    in rows. Pairs of one `image_ids` (B,) are true and never drawn: they are taken out *before* the
    softmax, since a softmax that they fill leaves zeros only. What is drawn is on the similarities'
    device. DataError where nothing is left to draw from. ShapeError unless each pair has its row,
    column and id.

    >>> S = np.array([[9.0, 5.0, 0.0], [0.0, 9.0, 5.0], [5.0, 0.0, 9.0]]) * 20
    >>> hard_negatives(S, np.arange(3), np.random.default_rng(0))
    (array([2, 0, 1]), array([1, 2, 0]))
    """
    B = len(similarities)
    if similarities.shape != (B, B) or np.shape(image_ids) != (B,):
        raise ShapeError(
            f"hard_negatives takes similarities (B, B) and image_ids (B,), and {similarities.shape} with {np.shape(image_ids)} came; one of "
            "each for each pair of the batch"
        )
    wrong = to_device_like(wrong_pairs(image_ids), similarities)
    text_to_image = similarities.T if text_to_image is None else text_to_image
    return _draw(np.where(wrong, text_to_image, -np.inf), rng), _draw(
        np.where(wrong, similarities, -np.inf), rng
    )


def wrong_pairs(image_ids: np.ndarray) -> np.ndarray:
    """Return which images and texts of a batch may be drawn for each other, those of different `image_ids` (B,): (B, B).

    Rows of the unknown id -100 are different. DataError for a row that all others are like.

    >>> wrong_pairs(np.array([7, 7, 8])).astype(int).tolist()
    [[0, 0, 1], [0, 0, 1], [1, 1, 0]]
    """
    same = same_picture(image_ids)
    if same.all(axis=1).any():
        row = int(same.all(axis=1).argmax())
        raise DataError(
            f"hard_negatives: pair {row} has no candidate, because all {len(same)} pictures of the batch have its id {image_ids[row]}; make batches "
            "of at least two different pictures"
        )
    return ~same


def _draw(logits: Any, rng: np.random.Generator) -> Any:
    """Draw one column a row with the probabilities of the row's softmax: the largest logit after Gumbel noise (Gumbel 1954).

    The noise is the host's, so that a seed draws the same everywhere; it is the logits that never
    leave the device.
    """
    if not len(logits):
        return array_module(logits).zeros(0, int)
    return np.argmax(logits + to_device_like(rng.gumbel(size=logits.shape), logits), axis=1)


def itm_pairs(image_for_text: Any, text_for_image: Any) -> tuple[Any, Any, np.ndarray]:
    """Return the 3B pairs of ITM as indices, and their labels: (images (3B,), texts (3B,), labels (3B,)).

    First the B true pairs (label 1), then each text with its hard image, then each image with its
    hard text (label 0). Indices are on the draws' device, labels on the host. ShapeError for draws
    of two batches.

    >>> itm_pairs(np.array([1, 0]), np.array([1, 0]))
    (array([0, 1, 1, 0, 0, 1]), array([0, 1, 0, 1, 1, 0]), array([1, 1, 0, 0, 0, 0]))
    """
    own = array_module(image_for_text, text_for_image).arange(len(image_for_text))
    if np.shape(text_for_image) != np.shape(image_for_text):
        raise ShapeError(
            f"itm_pairs takes a picture for each text and a text for each picture, and {np.shape(image_for_text)} with "
            f"{np.shape(text_for_image)} came; draw both for the same batch"
        )
    return (
        np.concatenate([own, image_for_text, own]),
        np.concatenate([own, own, text_for_image]),
        np.repeat([1, 0, 0], len(own)),
    )


def itm_loss(logits: Any, labels: np.ndarray) -> Tensor:
    """Return the cross-entropy of "does not match" (0) and "matches" (1): logits (n, 2), or (n, Q, 2) averaged over queries; labels (n,).

    The logits of BLIP-2's queries are averaged, not their probabilities or losses (BLIP-2 §3.2).
    ShapeError for logits of other axes.

    >>> prior = np.log(np.array([[2 / 3, 1 / 3]] * 3))
    >>> round(itm_loss(prior, np.array([1, 0, 0])).item(), 4), round(ITM_PRIOR, 4)
    (0.6365, 0.6365)
    """
    if logits.ndim not in (2, 3) or logits.shape[-1] != 2:
        raise ShapeError(
            f"itm_loss takes logits (n, 2) or (n, Q, 2), and {logits.shape} came; the head has two outputs"
        )
    return cross_entropy_loss(np.mean(logits, axis=1) if logits.ndim == 3 else logits, labels)
