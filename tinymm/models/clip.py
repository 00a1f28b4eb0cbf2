"""CLIP: two encoders, one joint space, one loss (Radford et al. 2021, arXiv:2103.00020).

The paper's Figure 3 is the body of `figure_3` below, character for character, and training itself calls it: `np` is NumPy, which
asks our Tensors how to `np.dot` and `np.exp`. Encoders are those of the figure: ResNet or vision transformer, CBOW or text transformer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module
from tinymm.arrays.errors import UsageError
from tinymm.autodiff import Tensor
from tinymm.layers import Module, Parameter
from tinymm.layers.init import normal
from tinymm.losses import blockwise_contrastive_loss, blockwise_sigmoid_loss, cross_entropy_loss, l2_normalize, sigmoid_loss

from .cbow import CBOW, CBOWConfig
from .resnet import ModifiedResNet, ResNetConfig
from .text import TextConfig, TextTransformer
from .vit import ViT, ViTConfig

#: §2.5: "the temperature … was initialized to the equivalent of 0.07" and "clipped to prevent scaling the logits by more than 100".
INITIAL_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0
#: SigLIP §3.2: the scale begins at 10 and the bias at -10, since nearly all pairs of a batch do not belong together.
SIGMOID_SCALE, SIGMOID_BIAS = 10.0, -10.0
#: From so many pairs on the loss is taken in blocks: Figure 3 holds its n × n logits and what becomes of them seven times over (docs/memory.md).
MANY = 1024


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


@dataclass(frozen=True)
class CLIPConfig:
    """Sizes of a CLIP: the joint width E and the two encoders' configs.

    `loss` is "softmax", Figure 3's, or "sigmoid", SigLIP's (Zhai et al. 2023), which judges each pair by itself. UsageError for another
    loss.

    >>> CLIPConfig.paper("ViT-B/32").image.patches
    49
    """

    joint_width: int
    image: ViTConfig | ResNetConfig
    text: TextConfig | CBOWConfig
    loss: str = "softmax"

    def __post_init__(self):
        if self.loss not in ("softmax", "sigmoid"):
            raise UsageError(f"a CLIP's loss is 'softmax' or 'sigmoid', and {self.loss!r} came; choose one")

    @classmethod
    def tiny(cls, image: str = "vit", text: str = "transformer", **changes: Any) -> "CLIPConfig":
        """Return a config for tests and first steps, any of the 2 × 2 encoders: `"vit"` or `"resnet"`, `"transformer"` or `"cbow"`.

        UsageError for others.
        """
        pictures: dict[str, ViTConfig | ResNetConfig] = {
            "vit": ViTConfig(resolution=32, patch=8, width=32, layers=2, heads=4),
            "resnet": ResNetConfig(resolution=32, width=4, heads=4, layers=(1, 1, 1, 1)),
        }
        texts: dict[str, TextConfig | CBOWConfig] = {
            "transformer": TextConfig(vocabulary=50, context=12, width=32, layers=2, heads=4, end_of_text=49),
            "cbow": CBOWConfig(vocabulary=50, context=12, width=32, end_of_text=49),
        }
        if image not in pictures or text not in texts:
            raise UsageError(f"tiny pairs {' or '.join(pictures)} with {' or '.join(texts)}; {image!r} and {text!r} came")
        return replace(cls(16, pictures[image], texts[text]), **changes)

    @classmethod
    def paper(cls, name: str) -> "CLIPConfig":
        """Return the config of a released model (Tables 19 and 20), such as `"ViT-B/32"` or `"RN50x4"`; UsageError for any other name."""
        if name not in RELEASED:
            raise UsageError(f"the released sizes are {', '.join(RELEASED)}; {name!r} came")
        joint, image, (width, heads) = RELEASED[name]
        text = TextConfig(vocabulary=49408, context=77, width=width, layers=12, heads=heads)
        if isinstance(image, ResNetConfig):
            image = replace(image, output_width=joint)
        return cls(joint, image, text)


def _vit(resolution: int, patch: int, width: int, layers: int) -> ViTConfig:
    return ViTConfig(resolution=resolution, patch=patch, width=width, layers=layers, heads=width // 64)


def _resnet(resolution: int, width: int, *layers: int) -> ResNetConfig:
    return ResNetConfig(resolution=resolution, width=width, heads=width // 2, layers=layers)  # type: ignore[arg-type]


#: Name → (joint width, image encoder, (text width, text heads)), Tables 19 and 20.
RELEASED: dict[str, tuple[int, ViTConfig | ResNetConfig, tuple[int, int]]] = {
    "RN50": (1024, _resnet(224, 64, 3, 4, 6, 3), (512, 8)),
    "RN101": (512, _resnet(224, 64, 3, 4, 23, 3), (512, 8)),
    "RN50x4": (640, _resnet(288, 80, 4, 6, 10, 6), (640, 10)),
    "RN50x16": (768, _resnet(384, 96, 6, 8, 18, 8), (768, 12)),
    "RN50x64": (1024, _resnet(448, 128, 3, 15, 36, 10), (1024, 16)),
    "ViT-B/32": (512, _vit(224, 32, 768, 12), (512, 8)),
    "ViT-B/16": (512, _vit(224, 16, 768, 12), (512, 8)),
    "ViT-L/14": (768, _vit(224, 14, 1024, 24), (768, 12)),
    "ViT-L/14@336px": (768, _vit(336, 14, 1024, 24), (768, 12)),
}


class CLIP(Module):
    """Two encoders into one space of width E: pictures (B, h, w, c) and ids (B, T) that belong together come to point the same way.

    UsageError for a ResNet that projects to another width.

    >>> model = CLIP(CLIPConfig.tiny(), rng=np.random.default_rng(0))
    >>> model(np.zeros((2, 32, 32, 3), np.float32), np.array([[5, 49], [6, 49], [7, 49]])).shape
    (2, 3)
    """

    def __init__(self, config: CLIPConfig, rng: np.random.Generator):
        E = config.joint_width
        self.config = config
        image, text = config.image, config.text
        self.image_encoder = ViT(image, rng) if isinstance(image, ViTConfig) else ModifiedResNet(image, rng)
        self.text_encoder = TextTransformer(text, rng) if isinstance(text, TextConfig) else CBOW(text, rng)
        self.W_i: Parameter | None = None
        if isinstance(image, ViTConfig) or image.output_width is None:
            d_i = image.width if isinstance(image, ViTConfig) else image.features
            self.W_i = Parameter(normal(rng, (d_i, E), d_i**-0.5))
        elif image.output_width != E:
            raise UsageError(f"a ResNet that projects by itself must end at the joint width {E}, and {image.output_width} came")
        self.W_t = Parameter(normal(rng, (text.width, E), text.width**-0.5))
        sigmoid = config.loss == "sigmoid"
        self.t = Parameter(np.full((), math.log(SIGMOID_SCALE if sigmoid else INITIAL_SCALE), np.float32))
        self.b = Parameter(np.full((), SIGMOID_BIAS, np.float32)) if sigmoid else None

    def encode_image(self, images: Any) -> Tensor:
        """Return the pictures' features in the joint space, not normalized: (B, h, w, c) -> (B, E)."""
        features = self.image_encoder(images)
        return features if self.W_i is None else features @ self.W_i

    def encode_text(self, ids: np.ndarray) -> Tensor:
        """Return the texts' features in the joint space, not normalized: (B, T) -> (B, E)."""
        return self.text_encoder(ids) @ self.W_t

    def forward(self, images: Any, ids: np.ndarray) -> Tensor:
        """Return scaled cosines of all pairs, and SigLIP's bias added: images (B, h, w, c), ids (C, T) -> logits (B, C)."""
        I_e = l2_normalize(self.encode_image(images))
        T_e = l2_normalize(self.encode_text(ids))
        logits = np.dot(I_e, T_e.T) * np.exp(self.t)
        return logits if self.b is None else logits + self.b

    def losses(
        self,
        images: Any,
        ids: np.ndarray,
        is_real: np.ndarray | None = None,
        *,
        rng: np.random.Generator | None = None,
        image_ids: np.ndarray | None = None,
        negatives: Any = None,
        masked: Any = None,
        split: Callable[[Module], Callable] | None = None,
    ) -> dict[str, Tensor]:
        """Return {"itc": the loss of Figure 3, or SigLIP's} for B ≥ 2 aligned pairs: images (B, h, w, c), ids (B, T).

        The other arguments are those of all four papers' models; this one draws nothing and masks nothing. `split` wraps an encoder so that it
        works on shards (`training.parallel`) or chunks (`training.chunks`) of the batch. From `MANY` pairs on the loss is taken in blocks, with the
        same result. UsageError for a batch of one pair, since with nothing to tell apart the loss is 0, and for pictures without texts.
        """
        if len(images) != len(ids):
            raise UsageError(f"pictures and texts come in pairs, and {len(images)} pictures with {len(ids)} texts came; align the batch")
        if len(ids) < 2:
            raise UsageError(
                f"a contrastive batch needs at least 2 pairs and {len(ids)} came: with nothing to tell apart its loss is always 0; "
                "raise the batch size"
            )
        split = split or (lambda encoder: encoder)
        W_i = self.W_i
        if W_i is None:
            W_i = array_module(self.W_t.data).eye(self.config.joint_width, dtype=self.W_t.dtype)
        if len(ids) >= MANY:
            return {"itc": self._blockwise(split(self.image_encoder)(images) @ W_i, split(self.text_encoder)(ids) @ self.W_t)}
        loss, logits = figure_3(split(self.image_encoder), split(self.text_encoder), images, ids, W_i, self.W_t, self.t)
        return {"itc": loss if self.b is None else sigmoid_loss(logits + self.b)}

    def _blockwise(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return the loss of features (B, E) that are in the joint space and not normalized."""
        I_e, T_e, scale = l2_normalize(images), l2_normalize(texts), np.exp(self.t)
        return blockwise_contrastive_loss(I_e, T_e, scale) if self.b is None else blockwise_sigmoid_loss(I_e, T_e, scale, self.b)

    def after_step(self) -> None:
        """Keep the scale at 100 or less (§2.5), on the parameter and after the step, so that no gradient is masked by it."""
        self.t.data = np.minimum(self.t.data, self.t.dtype.type(math.log(LARGEST_SCALE)))[
            ...
        ]  # an array, without axes
