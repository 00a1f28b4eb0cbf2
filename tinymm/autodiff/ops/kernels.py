"""What a fused block needs of an activation: its value with a helper array kept, and from both the value again with the slope."""

import math
from collections.abc import Callable

import numpy as np

from ...arrays.backend import erf


def _quick_gelu(h, helper):
    """Return h·s, and leave s = sigmoid(1.702 h) in `helper`."""
    np.multiply(h, -1.702, out=helper)
    with np.errstate(over="ignore"):  # e^x may become inf, and 1 / (1 + inf) is the 0 that is meant
        np.exp(helper, out=helper)
    helper += 1
    np.reciprocal(helper, out=helper)
    return h * helper


def _quick_gelu_slope(h, helper):
    """Return (a, da/dh) with a = h·s: the slope is s + 1.702 a (1 - s)."""
    activated = h * helper
    steep = 1 - helper
    steep *= activated
    steep *= 1.702
    steep += helper
    return activated, steep


def _gelu(h, helper):
    """Return h·Φ(h), and leave Φ(h) in `helper`."""
    helper[...] = erf(h * math.sqrt(0.5))
    helper += 1
    helper *= 0.5
    return h * helper


def _gelu_slope(h, helper):
    """Return (a, da/dh) with a = h·Φ: the slope is Φ + h·φ(h)."""
    steep = h * h
    steep *= -0.5
    np.exp(steep, out=steep)
    steep *= 1 / math.sqrt(2 * math.pi)
    steep *= h
    steep += helper
    return h * helper, steep


def _relu(h, helper):
    return np.maximum(h, 0, out=helper)


def _relu_slope(h, helper):
    return helper.copy(), (h > 0).astype(h.dtype)


#: Name → (value, value and slope), as `ops.fused.mlp` uses them.
ACTIVATIONS: dict[str, tuple[Callable, Callable]] = {
    "quick_gelu": (_quick_gelu, _quick_gelu_slope),
    "gelu": (_gelu, _gelu_slope),
    "relu": (_relu, _relu_slope),
}
