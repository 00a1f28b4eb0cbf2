"""The vision transformer (ViT): an image as a sequence of patches (Dosovitskiy et al. 2021), in CLIP's variant."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymm.arrays.errors import DtypeError, ShapeError, UsageError
from tinymm.autodiff import Tensor
from tinymm.layers import Block, Conv2d, LayerNorm, Module, Parameter
from tinymm.layers.init import normal


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a vision transformer: images of `resolution` × `resolution` × `channels` in patches of `patch` × `patch`.

    UsageError if the patches do not tile the image.

    >>> ViTConfig(resolution=32, patch=8, width=64, layers=2, heads=4).patches
    16
    """

    resolution: int
    patch: int
    width: int
    layers: int
    heads: int
    channels: int = 3
    activation: str = "quick_gelu"
    eps: float = 1e-5
    feed_forward: int | None = None  # 4 · width
    norm_before: bool = True
    norm_after: bool = True
    patch_bias: bool = False

    def __post_init__(self):
        if self.resolution % self.patch:
            raise UsageError(
                f"patches tile the picture, and {self.resolution} over {self.patch} came; choose a divisor of the resolution"
            )
        if self.feed_forward is None:
            object.__setattr__(self, "feed_forward", 4 * self.width)

    @classmethod
    def plain(
        cls, resolution: int, patch: int, width: int, layers: int, heads: int, **changes: Any
    ) -> "ViTConfig":
        """Return the original ViT (DeiT's), as ALBEF and BLIP have it: no norm before, patches with bias, exact GELU, eps 1e-6."""
        settings: dict[str, Any] = {
            "activation": "gelu",
            "eps": 1e-6,
            "norm_before": False,
            "patch_bias": True,
        } | changes
        return cls(resolution, patch, width, layers, heads, **settings)

    @property
    def patches(self) -> int:
        """Number of patches P."""
        return (self.resolution // self.patch) ** 2


class ViT(Module):
    """A vision transformer: (B, h, w, c) -> (B, D), the class token after the last layer.

    By default CLIP's (§2.4), which differs from the original: a layer norm before the first block
    (`norm_before`, "ln_pre" in the released code), patches without bias, QuickGELU, and the final
    norm on the class token only. ALBEF, BLIP and BLIP-2 look at all tokens; theirs
    (`ViTConfig.plain`) has no norm before, patches with bias, exact GELU, and in BLIP-2 no norm
    after, which then belongs to what is trained.
    """

    def __init__(self, config: ViTConfig, rng: np.random.Generator):
        D, P = config.width, config.patches
        self.config = config
        self.patch_embedding = Conv2d(
            config.channels, D, config.patch, rng=rng, stride=config.patch, bias=config.patch_bias
        )
        self.class_embedding = Parameter(normal(rng, (D,), D**-0.5))
        self.positions = Parameter(normal(rng, (P + 1, D), D**-0.5))
        self.norm_before = LayerNorm(D, config.eps) if config.norm_before else None
        self.blocks = [
            Block(
                D,
                config.heads,
                rng=rng,
                feed_forward=config.feed_forward,
                activation=config.activation,
                eps=config.eps,
            )
            for _ in range(config.layers)
        ]
        self.norm_after = LayerNorm(D, config.eps) if config.norm_after else None

    def tokens(self, images: Any) -> Tensor:
        """Return all tokens before the final norm: images (B, h, w, c), normalized -> (B, P+1, D), the class token first.

        ShapeError or DtypeError for anything but such images of floats.
        """
        config = self.config
        check_images(images, config.resolution, config.channels)
        B, D, P = len(images), config.width, config.patches
        patches = np.reshape(self.patch_embedding(images), (B, P, D))  # (B, P, D)
        first = np.broadcast_to(self.class_embedding, (B, 1, D))  # (B, 1, D)
        x: Any = np.concatenate([first, patches], axis=1) + self.positions  # (B, P+1, D)
        x = x if self.norm_before is None else self.norm_before(x)  # (B, P+1, D)
        for block in self.blocks:
            x = block(x)  # (B, P+1, D)
        return x  # (B, P+1, D)

    def normalized_tokens(self, images: Any) -> Tensor:
        """Return all tokens after the final norm, what ALBEF and BLIP look at: (B, h, w, c) -> (B, P+1, D)."""
        x: Any = self.tokens(images)  # (B, P+1, D)
        return x if self.norm_after is None else self.norm_after(x)  # (B, P+1, D)

    def forward(self, images: Any) -> Tensor:
        """Return one feature an image: (B, h, w, c) -> (B, D)."""
        x: Any = self.tokens(images)[:, 0]  # (B, D)
        return x if self.norm_after is None else self.norm_after(x)  # (B, D)


def check_images(images: Any, resolution: int, channels: int) -> None:
    """Raise ShapeError or DtypeError unless images are normalized floats (B, resolution, resolution, channels)."""
    if not hasattr(images, "shape"):
        raise DtypeError(
            f"pictures are an array (B, h, w, c), and a {type(images).__name__} came; use the "
            "preprocess of the model"
        )
    if images.ndim != 4 or images.shape[1:] != (resolution, resolution, channels):
        raise ShapeError(
            f"this model takes pictures (B, {resolution}, {resolution}, {channels}) with channels last, and {images.shape} came; use the "
            "preprocess that belongs to the model"
        )
    if images.dtype.kind != "f":
        raise DtypeError(
            f"pictures are normalized floating-point numbers, and {images.dtype} came; use the preprocess of the model"
        )
