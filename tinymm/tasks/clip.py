"""CLIP's training step: Figure 3 of the paper, running (Radford et al. 2021, arXiv:2103.00020).

The lines of `figure_3` are the paper's, character for character, and training calls them: `np` is
NumPy, which asks our Tensors how to `np.dot` and `np.exp`. From `BLOCKWISE_FROM` pairs on the same
loss is computed block by block instead, since Figure 3 holds its n × n logits seven times over
(docs/memory.md). The text transformer's self-attention is causal (`models.text`).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module
from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.autodiff import Tensor
from tinymm.layers.init import normal
from tinymm.losses import (
    blockwise_contrastive_loss,
    blockwise_sigmoid_loss,
    cross_entropy_loss,
    l2_normalize,
    sigmoid_loss,
)
from tinymm.models.cbow import CBOWConfig
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.resnet import ResNetConfig
from tinymm.models.text import TextConfig
from tinymm.models.vit import ViTConfig

from .settings import Settings, changed, setting
from .spec import CONTRAST, ModelSpec, Objective, StepResult, Task, register
from .step import Split, check_pairs, whole

#: §2.5: the scale is "clipped to prevent scaling the logits by more than 100".
LARGEST_SCALE = 100.0
#: From so many pairs on the loss is computed block by block.
BLOCKWISE_FROM = 1024


# fmt: off
def figure_3(image_encoder, text_encoder, I, T, W_i, W_t, t):
    """Return (loss, logits) of a batch: Figure 3 of the paper, from the second line of its body on unchanged.

    I[n, h, w, c] and T[n, l] are n aligned images and texts, the encoders give [n, d_i] and [n,
    d_t], W_i[d_i, d_e] and W_t[d_t, d_e] project into the shared embedding space, and t is the
    logarithm of the scale. The loss is in nats; a uniform prediction has ln n.
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
# fmt: on


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
        W_i = array_module(model.W_t.data).eye(model.config.embed_dim, dtype=model.W_t.dtype)
    if len(ids) >= BLOCKWISE_FROM:
        return StepResult(
            {"itc": _blockwise(model, image_encoder(images) @ W_i, text_encoder(ids) @ model.W_t)}
        )
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


@dataclass(frozen=True)
class CLIPSettings(Settings):
    """The settings of `train clip` and, with their defaults, of `demo`."""

    data: str = changed(Settings, "data", "glyphs")
    image: str = setting(
        "vit", "image encoder: vit or resnet", choices=("vit", "resnet"), size=True
    )
    text: str = setting(
        "transformer",
        "text encoder: transformer or cbow",
        choices=("transformer", "cbow"),
        size=True,
    )
    mlp_ratio: int = changed(Settings, "mlp_ratio", 4)
    text_layers: int = setting(1, "layers of the text transformer", least=1, size=True)
    embed_dim: int = changed(Settings, "embed_dim", 128)
    embedding_std: float | None = setting(
        None,
        "standard deviation of the initial word and position embeddings (default: the paper's, "
        "0.01 to 0.09)",
        least=0,
        size=True,
    )
    loss: str = setting(
        "softmax",
        "softmax (Figure 3) or sigmoid (SigLIP: each pair judged by itself)",
        choices=("softmax", "sigmoid"),
    )
    steps: int = changed(Settings, "steps", 1100)
    batch_size: int = changed(Settings, "batch_size", 128)
    learning_rate: float = changed(Settings, "learning_rate", 2e-3)
    warmup: int = changed(Settings, "warmup", 60)
    validate_every: int = changed(Settings, "validate_every", 220)


def prepare(settings: CLIPSettings, source: Any, parts: dict[str, Any]) -> CLIP:
    """Return a randomly initialized CLIP for this data's images and tokens."""
    width, hidden = settings.width, settings.mlp_ratio * settings.width
    side, channels = source.preprocess.resolution, source.preprocess.channels
    image: ViTConfig | ResNetConfig
    if settings.image == "vit":
        image = ViTConfig(
            side,
            settings.patch,
            width,
            settings.layers,
            settings.heads,
            channels,
            feed_forward=hidden,
        )
    else:
        image = ResNetConfig(
            side, width // 8, settings.heads, layers=(1, 1, 1, 1), channels=channels
        )
    words = source.tokenizer
    sizes = {
        "vocabulary": len(words),
        "context": words.context,
        "width": width,
        "end_of_text": words.end_of_text,
    }
    text: TextConfig | CBOWConfig
    if settings.text == "cbow":
        text = CBOWConfig(**sizes)
    else:
        text = TextConfig(
            **sizes, layers=settings.text_layers, heads=settings.heads, feed_forward=hidden
        )
    model = CLIP(
        CLIPConfig(settings.embed_dim, image, text, settings.loss), generator(settings.seed)
    )
    if settings.embedding_std is not None:
        rng = generator(settings.seed, 4)
        for name, parameter in model.named_parameters():
            if name in EMBEDDINGS:
                parameter.data = normal(rng, parameter.shape, settings.embedding_std)
    return model


#: The parameters that `embedding_std` is about.
EMBEDDINGS = (
    "image_encoder.positions",
    "text_encoder.positions",
    "text_encoder.token_embedding.weight",
)


def fine_tune(settings: CLIPSettings, model: CLIP) -> CLIP:
    """Return the model; UsageError for another loss than it was trained on."""
    loss = model.config.loss
    if settings.loss not in ("softmax", loss):  # softmax is also what stands where nothing was said
        raise UsageError(
            f"a model goes on with the loss that it was trained on; --loss is {settings.loss} and "
            f"that of {settings.init} {loss}; leave --loss out, or train a model anew without --init"
        )
    return model


def idle(settings: CLIPSettings) -> dict[str, tuple[str, ...]]:
    """Return which fields have no effect under these settings, by what decides instead."""
    found: dict[str, tuple[str, ...]] = {}
    if settings.image == "resnet":
        found["a ResNet is not cut into patches and has stages of its own"] = ("patch", "layers")
    if settings.text == "cbow":
        found["a mean of words has no layers"] = ("text_layers",)
    return found


spec = register(
    ModelSpec(
        name="clip",
        title="CLIP",
        paper="Radford et al. 2021, arXiv:2103.00020",
        model=CLIP,
        config=CLIPConfig,
        task=Task(step, after_step, lambda model: {"scale": np.exp(model.t.data)}),
        objectives=(
            Objective(
                "itc",
                "image-text contrastive loss",
                "Which text of the batch is this image's, and which image is this text's?",
                chance_loss,
                "ln B",
                ability=CONTRAST,
            ),
        ),
        prepare=prepare,
        settings=CLIPSettings,
        can=frozenset({CONTRAST}),
        noted=("scale",),
        fine_tune=fine_tune,
        idle=idle,
        scale=lambda model: float(np.exp(model.t.data)),
        order=1,
        released=True,
    )
)
