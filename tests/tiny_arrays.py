"""Our functions of Tensors as functions of arrays with a vjp, as the published properties want them."""

import numpy as np

from tinymm import Tensor


class OfArrays:
    """A function that takes arrays and gives an array back, and its `vjp(cotangent, *inputs)` as the engine finds it."""

    def __init__(self, fn):
        self.fn = fn

    def __call__(self, *inputs):
        out = self.fn(*inputs)
        return out.data if isinstance(out, Tensor) else out

    def vjp(self, cotangent, *inputs):
        tensors = [Tensor(x, requires_grad=True) if is_floating(x) else x for x in inputs]
        out = self.fn(*tensors)
        out.backward(np.asarray(cotangent, out.dtype).reshape(out.shape))
        return tuple(x.grad if isinstance(x, Tensor) else None for x in tensors)


def is_floating(x):
    """Say whether x is an array of real numbers."""
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"
