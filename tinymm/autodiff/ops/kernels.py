"""What a fused block needs of an activation: its value with a helper array kept, and from both the value again with the slope."""

import math
from collections.abc import Callable

import numpy as np

from tinymm.arrays.backend import erf


def _quick_gelu(h, helper, out):
    """Write h·s, and leave s = sigmoid(1.702 h) in `helper`."""
    np.multiply(h, -1.702, out=helper)
    with np.errstate(over="ignore"):  # e^x may become inf, and 1 / (1 + inf) is the 0 that is meant
        np.exp(helper, out=helper)
    helper += 1
    np.reciprocal(helper, out=helper)
    np.multiply(h, helper, out=out)


def _quick_gelu_slope(h, helper, out, steep):
    """Write a = h·s and the slope s + 1.702 a (1 - s)."""
    np.multiply(h, helper, out=out)
    np.subtract(1, helper, out=steep)
    steep *= out
    steep *= 1.702
    steep += helper


def _gelu(h, helper, out):
    """Write h·Φ(h), and leave Φ(h) in `helper`."""
    np.multiply(h, math.sqrt(0.5), out=out)
    helper[...] = erf(out)
    helper += 1
    helper *= 0.5
    np.multiply(h, helper, out=out)


def _gelu_slope(h, helper, out, steep):
    """Write a = h·Φ and the slope Φ + h·φ(h)."""
    np.multiply(h, h, out=steep)
    steep *= -0.5
    np.exp(steep, out=steep)
    steep *= 1 / math.sqrt(2 * math.pi)
    steep *= h
    steep += helper
    np.multiply(h, helper, out=out)


def _relu(h, helper, out):
    """Write max(h, 0); nothing needs keeping."""
    np.maximum(h, 0, out=out)


def _relu_slope(h, helper, out, steep):
    """Write max(h, 0) and its slope, 0 or 1."""
    np.maximum(h, 0, out=out)
    np.less_equal(h, 0, out=steep)
    np.subtract(1, steep, out=steep)  # 1 at NaN too


#: Name → (write the value, write the value and the slope), as `ops.fused.mlp` uses them: blocks are
#: written where they are needed, never allocated.
ACTIVATIONS: dict[str, tuple[Callable, Callable]] = {
    "quick_gelu": (_quick_gelu, _quick_gelu_slope),
    "gelu": (_gelu, _gelu_slope),
    "relu": (_relu, _relu_slope),
}
