"""Weight initialization: every function draws from the generator that it is given, in float32."""

import math

import numpy as np

from tinymm.arrays.random import check_generator


def normal(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> np.ndarray:
    """Return numbers of N(0, std²); UsageError where `rng` is no generator.

    >>> normal(np.random.default_rng(0), (2, 3), 0.02).dtype
    dtype('float32')
    """
    return check_generator(rng).standard_normal(shape, dtype=np.float32) * np.float32(std)


def uniform_fan_in(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """Return numbers of U(-1/√fan_in, 1/√fan_in): PyTorch's default for linear layers and convolutions, which the released ViT blocks kept.

    UsageError where `rng` is no generator.
    """
    bound = 1 / math.sqrt(max(1, fan_in))
    return check_generator(rng).uniform(-bound, bound, shape).astype(np.float32)


def xavier_uniform(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return numbers of U(-a, a), a = √(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16).

    PyTorch's default for packed attention projections. UsageError where `rng` is no generator.
    """
    bound = math.sqrt(6 / max(1, sum(shape)))
    return check_generator(rng).uniform(-bound, bound, shape).astype(np.float32)
