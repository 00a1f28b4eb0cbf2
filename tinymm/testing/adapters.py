"""Functions of other libraries as functions of arrays; nothing is imported that the caller did not import."""

import contextlib
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from tinymm.arrays.backend import find_backend
from tinymm.arrays.errors import UsageError


class _Adapted:
    """A function of another library's arrays that takes NumPy's and returns them, and knows its vjp.

    A library says how an array gets there and back, and how `pulled` finds the gradients: one for
    each argument, None for what has none.
    """

    library: ClassVar[str]
    title: ClassVar[str]
    #: Why nobody sees what the function does to its arguments; an empty text where the library's arrays are NumPy's memory.
    copies = ""

    def __init__(self, fn: Callable[..., Any], dtype: str | None, device: Any, grad: bool) -> None:
        if self.library not in sys.modules:
            raise UsageError(
                f"on_{self.library}: {self.title} must be imported by the caller; it is not in sys.modules; `import {self.library}` first"
            )
        self.fn, self.dtype, self.device, self.module = fn, dtype, device, sys.modules[self.library]
        if grad:
            self.vjp = self._vjp

    def there(self, array: np.ndarray) -> Any:
        """Return NumPy's array as one of the library's, on the device."""
        raise NotImplementedError

    def back(self, value: Any) -> Any:
        """Return the library's array as NumPy's, anything else as it came."""
        raise NotImplementedError

    def pulled(self, cotangent: np.ndarray, *arguments: Any) -> list[Any]:
        """Return the gradient of each argument, None for what is no array of real numbers."""
        raise NotImplementedError

    def given(self, value: Any) -> Any:
        """Return what the library's function is called with: arrays in the asked dtype, lists of them, and anything else as it came."""
        if isinstance(value, list):
            return [self.given(item) for item in value]
        return self.there(self.cast(value)) if isinstance(value, np.ndarray) else value

    def cast(self, array: np.ndarray) -> np.ndarray:
        """Return real numbers in the dtype that was asked for, others as they are."""
        return array.astype(self.dtype) if self.dtype and _is_real(array) else array

    def returned(self, value: Any) -> Any:
        """Return a result as NumPy's array, a tuple of them as a tuple."""
        return tuple(map(self.returned, value)) if isinstance(value, tuple) else self.back(value)

    def __call__(self, *arguments: Any) -> Any:
        return self.returned(self.fn(*map(self.given, arguments)))

    def _vjp(self, cotangent: Any, *arguments: Any) -> tuple[Any, ...]:
        found = self.pulled(np.asarray(cotangent), *arguments)
        return tuple(
            np.zeros_like(given) if got is None else self.back(got)
            for got, given in zip(found, arguments, strict=True)
        )


def _is_real(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


class _OnTorch(_Adapted):
    library, title = "torch", "PyTorch"

    def __init__(self, fn: Callable[..., Any], dtype: str | None, device: Any, grad: bool) -> None:
        super().__init__(fn, dtype, device, grad)
        if self.module.device(device).type != "cpu" or dtype:
            self.copies = f"on_torch hands over copies for {f'dtype={dtype!r}' if dtype else f'device={str(device)!r}'}"

    def there(self, array: np.ndarray) -> Any:
        shared = (
            array
            if array.flags.writeable and min(array.strides, default=0) >= 0
            else array.copy("C")
        )
        return self.module.from_numpy(shared).to(self.device)

    def back(self, value: Any) -> Any:
        return value.detach().cpu().numpy() if isinstance(value, self.module.Tensor) else value

    def __call__(self, *arguments: Any) -> Any:
        with self.module.no_grad():
            return super().__call__(*arguments)

    def pulled(self, cotangent: np.ndarray, *arguments: Any) -> list[Any]:
        tensors = list(map(self.given, arguments))
        places = [i for i, argument in enumerate(arguments) if _is_real(argument)]
        out = self.fn(
            *(
                tensor.requires_grad_() if i in places else tensor
                for i, tensor in enumerate(tensors)
            )
        )
        g = self.module.as_tensor(cotangent, dtype=out.dtype, device=out.device)
        found = dict(
            zip(
                places,
                self.module.autograd.grad(out, [tensors[i] for i in places], g, allow_unused=True),
                strict=True,
            )
        )
        return [found.get(i) for i in range(len(arguments))]


class _OnJax(_Adapted):
    library, title = "jax", "JAX"
    copies = "JAX's arrays cannot be written into"

    def there(self, array: np.ndarray) -> Any:
        return self.module.device_put(array, self.module.devices(self.device)[0])

    def back(self, value: Any) -> Any:
        return np.asarray(value) if isinstance(value, self.module.Array) else value

    def precision(self, arguments: tuple[Any, ...]) -> contextlib.AbstractContextManager:
        """Let JAX keep 64 bits where 64 bits come: it is set to round them to 32, without a word."""
        wide = any(
            _is_real(argument) and self.cast(argument).dtype == np.float64 for argument in arguments
        )
        place = (
            self.module if hasattr(self.module, "enable_x64") else self.module.experimental
        )  # in older versions
        return place.enable_x64(True) if wide else contextlib.nullcontext()

    def __call__(self, *arguments: Any) -> Any:
        with self.precision(arguments):
            return super().__call__(*arguments)

    def pulled(self, cotangent: np.ndarray, *arguments: Any) -> list[Any]:
        places = [i for i, argument in enumerate(arguments) if _is_real(argument)]
        with self.precision(arguments):
            given = list(map(self.given, arguments))

            def learned(*arrays: Any) -> Any:
                return self.fn(
                    *(
                        arrays[places.index(i)] if i in places else one
                        for i, one in enumerate(given)
                    )
                )

            out, pull = self.module.vjp(learned, *(given[i] for i in places))
            found = dict(zip(places, pull(self.there(cotangent.astype(out.dtype))), strict=True))
        return [found.get(i) for i in range(len(arguments))]


class _OnCupy(_Adapted):
    library, title = "cupy", "CuPy"
    copies = "on_cupy hands over copies"

    def __init__(self, fn: Callable[..., Any], dtype: str | None, device: Any, grad: bool) -> None:
        super().__init__(fn, dtype, device, grad)
        find_backend("cupy")

    def there(self, array: np.ndarray) -> Any:
        return self.module.asarray(array)

    def back(self, value: Any) -> Any:
        return self.module.asnumpy(value) if isinstance(value, self.module.ndarray) else value

    def __call__(self, *arguments: Any) -> Any:
        with self.module.cuda.Device(self.device):
            return super().__call__(*arguments)

    def pulled(self, cotangent: np.ndarray, *arguments: Any) -> list[Any]:
        from tinymm.autodiff import Tensor

        with self.module.cuda.Device(self.device):
            given = [
                Tensor(self.given(one), requires_grad=True) if _is_real(one) else self.given(one)
                for one in arguments
            ]
            out = self.fn(*given)
            out.backward(self.there(cotangent.astype(out.dtype)))
        return [one.grad if isinstance(one, Tensor) else None for one in given]


def on_torch(
    fn: Callable[..., Any], dtype: str | None = None, device: str = "cpu", grad: bool = True
) -> Callable[..., Any]:
    """Return a PyTorch function as one of arrays, with a `vjp(cotangent, *arguments)` so that gradients are checked too.

    Arrays come in the dtype that the check draws unless `dtype` says otherwise; numbers that are no
    arrays stay as they are. On the processor and in the drawn dtype the tensors are the check's own
    memory, so what the function writes into them is seen; elsewhere they are copies, and the
    properties about memory are not run. Import torch first: tinymm never does, and a UsageError
    says so. `grad=False` leaves the vjp out. With `torch.set_num_threads(1)` a check is ten times
    faster: its matrices are too small to share among threads.
    """
    return _OnTorch(fn, dtype, device, grad)


def on_jax(
    fn: Callable[..., Any], dtype: str | None = None, device: str = "cpu", grad: bool = True
) -> Callable[..., Any]:
    """Return a JAX function as one of arrays, with a `vjp(cotangent, *arguments)` by `jax.vjp`; arguments as of `on_torch`.

    `device` is a platform, "cpu" or "gpu". JAX rounds 64 bits to 32 unless told otherwise; while a
    check hands over float64, it is told otherwise. Every shape that is drawn is compiled, operation
    by operation; `jax.jit` around `fn` makes one of them all, and a check shorter. UsageError if
    jax was not imported.
    """
    return _OnJax(fn, dtype, device, grad)


def on_cupy(
    fn: Callable[..., Any], dtype: str | None = None, device: int = 0, grad: bool = False
) -> Callable[..., Any]:
    """Return a CuPy function as one of arrays: they go to the GPU number `device` and come back; other arguments as of `on_torch`.

    CuPy knows no gradients. `grad=True` is for functions that tinymm's Tensors run through, NumPy's
    spelling for instance: the vjp is then the engine's, on the GPU. UsageError if cupy was not
    imported, DeviceError if no GPU answers. Tests run this with a stand-in on the CPU; no GPU has
    run it yet.
    """
    return _OnCupy(fn, dtype, device, grad)
