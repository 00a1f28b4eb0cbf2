"""CLIP: two encoders, one shared embedding space, one loss (Radford et al. 2021, arXiv:2103.00020).

The paper's Figure 3 is the training step, in `tasks/clip.py`. Encoders are those of the figure:
ResNet or vision transformer, CBOW or text transformer.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.autodiff import Tensor
from tinymm.layers import Module, Parameter
from tinymm.layers.init import normal
from tinymm.losses import l2_normalize

from .cbow import CBOW, CBOWConfig
from .resnet import ModifiedResNet, ResNetConfig
from .text import TextConfig, TextTransformer
from .vit import ViT, ViTConfig

#: §2.5: "the temperature … was initialized to the equivalent of 0.07".
INITIAL_SCALE = 1 / 0.07
#: SigLIP §3.2: the scale begins at 10 and the bias at -10, since nearly all pairs of a batch do not
#: belong together.
SIGMOID_SCALE, SIGMOID_BIAS = 10.0, -10.0


@dataclass(frozen=True)
class CLIPConfig:
    """Sizes of a CLIP: the embedding width E and the two encoders' configs.

    `loss` is "softmax", Figure 3's, or "sigmoid", SigLIP's (Zhai et al. 2023), which judges each
    pair by itself. UsageError for another loss.

    >>> CLIPConfig.paper("ViT-B/32").image.patches
    49
    """

    embed_dim: int
    image: ViTConfig | ResNetConfig
    text: TextConfig | CBOWConfig
    loss: str = "softmax"

    def __post_init__(self):
        if self.loss not in ("softmax", "sigmoid"):
            raise UsageError(
                f"a CLIP's loss is 'softmax' or 'sigmoid', and {self.loss!r} came; choose one"
            )

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
            "transformer": TextConfig(
                vocabulary=50, context=12, width=32, layers=2, heads=4, end_of_text=49
            ),
            "cbow": CBOWConfig(vocabulary=50, context=12, width=32, end_of_text=49),
        }
        if image not in pictures or text not in texts:
            raise UsageError(
                f"tiny pairs {' or '.join(pictures)} with {' or '.join(texts)}; {image!r} and {text!r} came"
            )
        return replace(cls(16, pictures[image], texts[text]), **changes)

    @classmethod
    def paper(cls, name: str) -> "CLIPConfig":
        """Return the config of a released model (Tables 19 and 20), such as `"ViT-B/32"` or `"RN50x4"`; UsageError for any other name."""
        if name not in RELEASED:
            raise UsageError(f"the released sizes are {', '.join(RELEASED)}; {name!r} came")
        embed_dim, image, (width, heads) = RELEASED[name]
        text = TextConfig(vocabulary=49408, context=77, width=width, layers=12, heads=heads)
        if isinstance(image, ResNetConfig):
            image = replace(image, output_width=embed_dim)
        return cls(embed_dim, image, text)


def _vit(resolution: int, patch: int, width: int, layers: int) -> ViTConfig:
    return ViTConfig(
        resolution=resolution, patch=patch, width=width, layers=layers, heads=width // 64
    )


def _resnet(resolution: int, width: int, *layers: int) -> ResNetConfig:
    return ResNetConfig(resolution=resolution, width=width, heads=width // 2, layers=layers)  # type: ignore[arg-type]


#: Name → (embedding width, image encoder, (text width, text heads)), Tables 19 and 20.
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
    """An image encoder and a text encoder into one embedding space of width E: images (B, h, w, c), ids (B, T).

    UsageError for a ResNet that projects to another width.

    >>> model = CLIP(CLIPConfig.tiny(), rng=np.random.default_rng(0))
    >>> model(np.zeros((2, 32, 32, 3), np.float32), np.array([[5, 49], [6, 49], [7, 49]])).shape
    (2, 3)
    """

    def __init__(self, config: CLIPConfig, rng: np.random.Generator):
        E = config.embed_dim
        self.config = config
        image, text = config.image, config.text
        self.image_encoder = (
            ViT(image, rng) if isinstance(image, ViTConfig) else ModifiedResNet(image, rng)
        )
        self.text_encoder = (
            TextTransformer(text, rng) if isinstance(text, TextConfig) else CBOW(text, rng)
        )
        self.W_i: Parameter | None = None
        if isinstance(image, ViTConfig) or image.output_width is None:
            d_i = image.width if isinstance(image, ViTConfig) else image.features
            self.W_i = Parameter(normal(rng, (d_i, E), d_i**-0.5))
        elif image.output_width != E:
            raise UsageError(
                f"a ResNet that projects by itself must end at the embedding width {E}, and {image.output_width} came"
            )
        self.W_t = Parameter(normal(rng, (text.width, E), text.width**-0.5))
        sigmoid = config.loss == "sigmoid"
        self.t = Parameter(
            np.full((), math.log(SIGMOID_SCALE if sigmoid else INITIAL_SCALE), np.float32)
        )
        self.b = Parameter(np.full((), SIGMOID_BIAS, np.float32)) if sigmoid else None

    def encode_image(self, images: Any, *, normalize: bool = True) -> Tensor:
        """Return the images' features in the shared space: (B, h, w, c) -> unit vectors (B, E), or as projected."""
        features = self.image_encoder(images)
        features = features if self.W_i is None else features @ self.W_i
        return l2_normalize(features) if normalize else features

    def encode_text(
        self, ids: np.ndarray, is_real: np.ndarray | None = None, *, normalize: bool = True
    ) -> Tensor:
        """Return the texts' features in the shared space: ids (B, T) -> unit vectors (B, E), or as projected.

        CLIP's text encoder finds the end of a text by its token: `is_real` (B, T) is taken as all
        models' methods take it, and not needed.
        """
        features = self.text_encoder(ids) @ self.W_t
        return l2_normalize(features) if normalize else features

    @staticmethod
    def similarity(images: Any, texts: Any) -> Any:
        """Return the cosine of each image with each text: unit vectors (B, E), (C, E) -> (B, C)."""
        return np.dot(images, texts.T)

    def forward(self, images: Any, ids: np.ndarray, is_real: np.ndarray | None = None) -> Tensor:
        """Return the cosine of each image with each text: images (B, h, w, c), ids (C, T) -> (B, C)."""
        return self.similarity(self.encode_image(images), self.encode_text(ids))

    def logits(self, images: Any, ids: np.ndarray) -> Tensor:
        """Return scaled cosines of all pairs, SigLIP's bias added: images (B, h, w, c), ids (C, T) -> (B, C)."""
        logits = self(images, ids) * np.exp(self.t)
        return logits if self.b is None else logits + self.b
