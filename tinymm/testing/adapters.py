"""Functions of other libraries as functions of arrays; nothing is imported that the caller did not import."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError


class _TorchFunction:
    """A function of tensors that takes and returns arrays, and knows its vjp."""

    def __init__(self, fn: Callable[..., Any], dtype: str | None, device: str, grad: bool) -> None:
        if "torch" not in sys.modules:
            raise UsageError("on_torch: PyTorch must be imported by the caller; it is not in sys.modules; `import torch` first")
        self.fn, self.dtype, self.device, self.torch = fn, dtype, device, sys.modules["torch"]
        if grad:
            self.vjp = self._vjp

    def tensor(self, value: Any, tracked: bool = False) -> Any:
        """Return an array as a tensor, anything else as it came."""
        if not isinstance(value, np.ndarray):
            return value
        floating = value.dtype.kind == "f"
        tensor = self.torch.tensor(value.astype(self.dtype) if floating and self.dtype else value, device=self.device)
        return tensor.requires_grad_(tracked and floating)

    def array(self, value: Any) -> Any:
        """Return a tensor as an array, a tuple of them as a tuple, anything else as it came."""
        if isinstance(value, tuple):
            return tuple(self.array(item) for item in value)
        return value.detach().cpu().numpy() if isinstance(value, self.torch.Tensor) else value

    def __call__(self, *arguments: Any) -> Any:
        with self.torch.no_grad():
            return self.array(self.fn(*map(self.tensor, arguments)))

    def _vjp(self, cotangent: Any, *arguments: Any) -> tuple[Any, ...]:
        tensors = [self.tensor(argument, tracked=True) for argument in arguments]
        out = self.fn(*tensors)
        learned = [item for item in tensors if isinstance(item, self.torch.Tensor) and item.requires_grad]
        cotangent = self.torch.as_tensor(np.asarray(cotangent), dtype=out.dtype, device=out.device)
        gradients = iter(self.torch.autograd.grad(out, learned, cotangent, allow_unused=True))
        found = (next(gradients) if any(item is other for other in learned) else None for item in tensors)
        return tuple(np.zeros_like(given) if got is None else self.array(got) for got, given in zip(found, arguments, strict=True))


def on_torch(fn: Callable[..., Any], dtype: str | None = None, device: str = "cpu", grad: bool = True) -> Callable[..., Any]:
    """Return a PyTorch function as one of arrays, with a `vjp(cotangent, *arguments)` so that gradients are checked too.

    Arrays come in the dtype that the check draws unless `dtype` says otherwise; numbers that are no arrays stay as
    they are. Import torch first: tinymm never does. `grad=False` leaves the vjp out. With `torch.set_num_threads(1)` a
    check is ten times faster: its matrices are too small to share among threads.
    """
    return _TorchFunction(fn, dtype, device, grad)
