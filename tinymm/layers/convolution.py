"""Convolution and batch normalization, channels last."""

from typing import Any

import numpy as np

from tinymm.autodiff import Tensor, no_grad, ops

from .init import uniform_fan_in
from .module import Buffer, Module, Parameter


class Conv2d(Module):
    """2D convolution: (B, h, w, c) -> (B, h', w', o), weight (k, k, c, o).

    >>> Conv2d(3, 8, 3, rng=np.random.default_rng(0), padding=1)(np.ones((2, 6, 6, 3), np.float32)).shape
    (2, 6, 6, 8)
    """

    def __init__(
        self,
        channels: int,
        channels_out: int,
        size: int,
        *,
        rng: np.random.Generator,
        stride: int = 1,
        padding: int = 0,
        bias: bool = False,
    ):
        fan_in = size * size * channels
        self.weight = Parameter(uniform_fan_in(rng, (size, size, channels, channels_out), fan_in))
        self.bias = Parameter(uniform_fan_in(rng, (channels_out,), fan_in)) if bias else None
        self.stride, self.padding = stride, padding

    def forward(self, x: Any) -> Tensor:
        """Map (B, h, w, c) to (B, h', w', o) with h' = (h + 2·padding - k) // stride + 1."""
        y = ops.conv2d(x, self.weight, stride=self.stride, padding=self.padding)
        return y if self.bias is None else y + self.bias


class BatchNorm2d(Module):
    """Batch normalization of each channel over batch and positions (Ioffe & Szegedy 2015, Algorithm 1): (B, h, w, c) -> (B, h, w, c).

    In training the batch's own statistics are used and running ones are kept: new = (1 - 0.1) · old
    + 0.1 · batch, where the *running* variance takes the unbiased one (n - 1) and the normalization
    the biased one, as in PyTorch. In evaluation the running ones are used. An image's output then
    depends on its batch: see `training.parallel` for what this means for shards.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1):
        self.weight = Parameter(np.ones(channels, np.float32))
        self.bias = Parameter(np.zeros(channels, np.float32))
        self.running_mean = Buffer(np.zeros(channels, np.float32))
        self.running_variance = Buffer(np.ones(channels, np.float32))
        self.batches_seen = Buffer(np.zeros((), np.int64))
        self.eps, self.momentum = eps, momentum

    def forward(self, x: Any) -> Tensor:
        """Normalize (B, h, w, c) per channel."""
        if not self.training or not x.size:  # no image has no statistics
            scale = self.weight / np.sqrt(self.running_variance.data + self.eps)
            return (x - self.running_mean.data) * scale + self.bias
        x = x if isinstance(x, Tensor) else Tensor(x)
        mean = np.mean(x, axis=(0, 1, 2))  # (c)
        centered = x - mean  # (B, h, w, c)
        variance = np.mean(centered * centered, axis=(0, 1, 2))  # (c)
        with no_grad():
            self._remember(mean.data, variance.data, x.size // x.shape[-1])
        return centered / np.sqrt(variance + self.eps) * self.weight + self.bias

    def _remember(self, mean: Any, variance: Any, n: int) -> None:
        m = self.momentum
        self.running_mean.data = (1 - m) * self.running_mean.data + m * mean
        self.running_variance.data = (1 - m) * self.running_variance.data + (
            m * n / max(n - 1, 1)
        ) * variance
        self.batches_seen.data = (self.batches_seen.data + 1)[...]
