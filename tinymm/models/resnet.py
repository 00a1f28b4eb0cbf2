"""Images by convolution: CLIP's modified ResNet with attention pooling (§2.4)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.autodiff import Tensor, ops
from tinymm.layers import BatchNorm2d, Conv2d, CrossAttention, Module, Parameter
from tinymm.layers.init import normal

from .vit import check_images


@dataclass(frozen=True)
class ResNetConfig:
    """Sizes of a modified ResNet: four stages of `layers` bottlenecks, the first `width` wide, the last 32 · width.

    With `output_width` the pooling projects to the shared embedding space itself, as in the
    released models; without it a `W_i` follows, as in Figure 3. UsageError unless the resolution is
    a multiple of 32 and the width even.

    >>> ResNetConfig(resolution=224, width=64, layers=(3, 4, 6, 3), heads=32).features
    2048
    """

    resolution: int
    width: int
    heads: int
    layers: tuple[int, int, int, int] = (3, 4, 6, 3)
    output_width: int | None = None
    channels: int = 3

    def __post_init__(self):
        if self.resolution < 32 or self.resolution % 32:
            raise UsageError(
                f"a ResNet halves its pictures five times, and {self.resolution} pixels came; choose a multiple of 32"
            )
        if self.width < 2 or self.width % 2:
            raise UsageError(
                f"a ResNet's stem is half as wide as its first stage, and the width {self.width} came; choose an even number"
            )

    @property
    def features(self) -> int:
        """Channels C after the last stage."""
        return 32 * self.width

    @property
    def places(self) -> int:
        """Places of the last feature map: one for each 32 × 32 pixels."""
        return (self.resolution // 32) ** 2


class ConvNorm(Module):
    """A convolution without bias and its batch normalization: (B, h, w, c) -> (B, h', w', o)."""

    def __init__(
        self,
        channels: int,
        channels_out: int,
        size: int,
        *,
        rng: np.random.Generator,
        stride: int = 1,
    ):
        self.conv = Conv2d(channels, channels_out, size, rng=rng, stride=stride, padding=size // 2)
        self.norm = BatchNorm2d(channels_out)

    def forward(self, x: Any) -> Tensor:
        """Convolve and normalize."""
        return self.norm(self.conv(x))


class Bottleneck(Module):
    """Narrow, look at neighbors, widen, and add what came in: (B, h, w, c) -> (B, h/s, w/s, 4·narrow).

    Every convolution has stride 1; where the image shrinks, an average pooling of `stride` does it,
    on both ways ("anti-aliased", §2.4). The last norm's weight begins at 0, so that a block begins
    as the identity.
    """

    def __init__(self, channels: int, narrow: int, stride: int, *, rng: np.random.Generator):
        self.reduce = ConvNorm(channels, narrow, 1, rng=rng)
        self.spatial = ConvNorm(narrow, narrow, 3, rng=rng)
        self.expand = ConvNorm(narrow, 4 * narrow, 1, rng=rng)
        self.expand.norm.weight.data = np.zeros_like(self.expand.norm.weight.data)
        changes = stride > 1 or channels != 4 * narrow
        self.shortcut = ConvNorm(channels, 4 * narrow, 1, rng=rng) if changes else None
        self.stride = stride

    def forward(self, x: Any) -> Tensor:
        """Return relu(branch(x) + shortcut(x))."""
        branch = ops.relu(self.spatial(ops.relu(self.reduce(x))))
        branch = self.expand(self._pool(branch))
        kept = x if self.shortcut is None else self.shortcut(self._pool(x))
        return ops.relu(branch + kept)

    def _pool(self, x: Any) -> Any:
        return ops.avg_pool2d(x, size=self.stride) if self.stride > 1 else x


class AttentionPool(Module):
    """One feature an image by attention instead of an average: (B, h, w, C) -> (B, output width) (§2.4, "QKV attention" pooling).

    The mean over places asks, all places and the mean itself answer; positions are learned.
    """

    def __init__(
        self, places: int, channels: int, heads: int, output_width: int, *, rng: np.random.Generator
    ):
        self.positions = Parameter(normal(rng, (places + 1, channels), channels**-0.5))
        self.attention = CrossAttention(
            channels, heads, rng=rng, output_width=output_width, std=channels**-0.5
        )

    def forward(self, x: Any) -> Tensor:
        """Pool (B, h, w, C) to (B, output width)."""
        B, h, w, C = x.shape
        P = h * w
        places = np.reshape(x, (B, P, C))
        seen = (
            np.concatenate([np.mean(places, axis=1, keepdims=True), places], axis=1)
            + self.positions
        )
        return np.squeeze(self.attention(seen[:, :1], seen), axis=1)


class ModifiedResNet(Module):
    """CLIP's ResNet: a stem of three convolutions, average pooling, four stages, attention pooling: (B, h, w, c) -> (B, C or output width)."""

    def __init__(self, config: ResNetConfig, rng: np.random.Generator):
        w = config.width
        self.config = config
        self.stem = [
            ConvNorm(config.channels, w // 2, 3, rng=rng, stride=2),
            ConvNorm(w // 2, w // 2, 3, rng=rng),
            ConvNorm(w // 2, w, 3, rng=rng),
        ]
        self.stages = []
        channels = w
        for stage, depth in enumerate(config.layers):
            narrow = w * 2**stage
            strides = [1 if stage == 0 else 2] + [1] * (depth - 1)
            self.stages.append(
                [
                    Bottleneck(channels if i == 0 else 4 * narrow, narrow, s, rng=rng)
                    for i, s in enumerate(strides)
                ]
            )
            channels = 4 * narrow
        self.pool = AttentionPool(
            config.places, channels, config.heads, config.output_width or channels, rng=rng
        )

    def feature_map(self, images: Any) -> Tensor:
        """Return the map before pooling: (B, h, w, c) -> (B, h/32, w/32, C).

        ShapeError or DtypeError for anything but such images of floats.
        """
        check_images(images, self.config.resolution, self.config.channels)
        x = images
        for layer in self.stem:
            x = ops.relu(layer(x))
        x = ops.avg_pool2d(x, size=2)
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return x

    def forward(self, images: Any) -> Tensor:
        """Return one feature an image: (B, h, w, c) -> (B, C or output width)."""
        return self.pool(self.feature_map(images))
