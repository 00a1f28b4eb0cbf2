"""CLIP's training step: Figure 3 of the paper, running (Radford et al. 2021, arXiv:2103.00020).

The body of `figure_3` is the paper's, character for character, and training calls it: `np` is NumPy,
which asks our Tensors how to `np.dot` and `np.exp`. From `BLOCKWISE_FROM` pairs on the same loss is
computed block by block, since Figure 3 holds its n × n logits seven times over (docs/memory.md).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module
from tinymm.autodiff import Tensor
from tinymm.losses import (
    blockwise_contrastive_loss,
    blockwise_sigmoid_loss,
    cross_entropy_loss,
    l2_normalize,
    sigmoid_loss,
)
from tinymm.models.clip import CLIP, CLIPConfig

from .settings import Settings, changed, setting
from .spec import CONTRAST, ModelSpec, Objective, StepResult, Task, register
from .step import Split, check_pairs, whole

#: §2.5: the scale is "clipped to prevent scaling the logits by more than 100".
LARGEST_SCALE = 100.0
#: From so many pairs on the loss is computed block by block.
BLOCKWISE_FROM = 1024


def figure_3(image_encoder, text_encoder, I, T, W_i, W_t, t):
    """Return (loss, logits) of a batch: Figure 3 of the paper, from the second line of its body on unchanged.

    I[n, h, w, c] and T[n, l] are n aligned pictures and texts, the encoders give [n, d_i] and [n, d_t], W_i[d_i, d_e] and W_t[d_t, d_e]
    project into the joint space, and t is the logarithm of the scale. The loss is in nats; ln n is that of equal scores.
    """
    n = len(I)
    # extract feature representations of each modality
    I_f = image_encoder(I) #[n, d_i]
    T_f = text_encoder(T) #[n, d_t]
    # joint multimodal embedding [n, d_e]
    I_e = l2_normalize(np.dot(I_f, W_i), axis=1)
    T_e = l2_normalize(np.dot(T_f, W_t), axis=1)
    # scaled pairwise cosine similarities [n, n]
    logits = np.dot(I_e, T_e.T) * np.exp(t)
    # symmetric loss function
    labels = np.arange(n)
    loss_i = cross_entropy_loss(logits, labels, axis=0)
    loss_t = cross_entropy_loss(logits, labels, axis=1)
    loss = (loss_i + loss_t)/2
    return loss, logits


def step(
    model: CLIP,
    images: Any,
    ids: np.ndarray,
    is_real: np.ndarray | None = None,
    *,
    rng: np.random.Generator | None = None,
    image_ids: np.ndarray | None = None,
    split: Split = whole,
) -> StepResult:
    """Return {"itc": the loss of Figure 3, or SigLIP's} of B ≥ 2 pairs; nothing is drawn.

    images (B, h, w, c), ids (B, T). `split` lets workers share the batch. UsageError for a batch of
    one pair, since with nothing to tell apart the loss is 0, and for images without texts.
    """
    check_pairs(images, ids)
    image_encoder, text_encoder = split(model.image_encoder), split(model.text_encoder)
    W_i: Any = model.W_i
    if W_i is None:  # the released ResNets project by themselves
        W_i = array_module(model.W_t.data).eye(model.config.joint_width, dtype=model.W_t.dtype)
    if len(ids) >= BLOCKWISE_FROM:
        return StepResult({"itc": _blockwise(model, image_encoder(images) @ W_i, text_encoder(ids) @ model.W_t)})
    loss, logits = figure_3(image_encoder, text_encoder, images, ids, W_i, model.W_t, model.t)
    return StepResult({"itc": loss if model.b is None else sigmoid_loss(logits + model.b)})


def _blockwise(model: CLIP, images: Tensor, texts: Tensor) -> Tensor:
    """Return the same loss of projected features (B, E), a block of the logits at a time."""
    I_e, T_e, scale = l2_normalize(images), l2_normalize(texts), np.exp(model.t)
    if model.b is None:
        return blockwise_contrastive_loss(I_e, T_e, scale)
    return blockwise_sigmoid_loss(I_e, T_e, scale, model.b)


def after_step(model: CLIP, memory: None = None) -> None:
    """Keep the scale at 100 or less (§2.5): on the parameter, so that no gradient is masked."""
    largest = model.t.dtype.type(math.log(LARGEST_SCALE))
    model.t.data = np.minimum(model.t.data, largest)[...]  # an array, without axes


def chance_loss(model: CLIP, B: int) -> float:
    """Return the least loss of a model that scores all pairs of a batch alike.

    The softmax has ln B. The sigmoid is sure of nothing but the share 1/B of true pairs, B times
    the entropy of that coin, about 1 + ln B.
    """
    if model.config.loss == "softmax":
        return math.log(B)
    return B * math.log(B) - (B - 1) * math.log(B - 1)
