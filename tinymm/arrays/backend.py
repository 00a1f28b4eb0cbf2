"""Backends, NumPy on the CPU and CuPy on a GPU: the only file that knows that CuPy exists.

Rules of the engine write `np.exp(x)` and NumPy itself hands the call to the library that `x`
belongs to (NEP 13 and 18), so almost nothing has to ask. What does not dispatch, or not everywhere,
is asked for here: creation functions, scattered addition, vecdot, erf. An AST test over the rules
keeps it that way (`tests/test_contents.py`).
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from .errors import DeviceError, DtypeError


@dataclass(frozen=True)
class Device:
    """A kind of array: its class, the module that makes it, how it comes from the host and goes back."""

    name: str
    array_type: type
    module: ModuleType | Any
    from_host: Callable[[np.ndarray], Any]
    to_host: Callable[[Any], np.ndarray]
    erf: Callable[[Any], Any]
    #: Makes one launch of an expression in C over all elements: `elementwise("T h", "T y", "y = max(h, T(0));", "relu")`, CuPy's ElementwiseKernel.
    elementwise: Callable[[str, str, str, str], Callable] = field(
        default_factory=lambda: numpy_elementwise_kernel
    )
    #: Raises DeviceError where the library is installed and nothing is there that it could run on.
    check: Callable[[], None] = lambda: None


def _scipy_erf(x):
    from scipy.special import erf  # 60 ms of import, paid by those who use the exact GELU

    return erf(x)


def _keep(x):
    return x


def numpy_elementwise_kernel(inputs: str, outputs: str, code: str, name: str) -> Callable:
    """Return a kernel that runs the C expressions as Python on NumPy arrays: what a GPU compiles, anybody can step through and test.

    >>> numpy_elementwise_kernel("T h", "T y, T slope", "slope = T(1.702) * h; y = slope + exp(h);", "example")(np.zeros(2))
    (array([1., 1.]), array([0., 0.]))
    """
    wanted = [part.split()[1] for part in inputs.split(",")]
    given = [part.split()[1] for part in outputs.split(",")]
    lines = compile("\n".join(line.strip() for line in code.split(";")), name, "exec")

    def run(*arrays: Any) -> Any:
        kind = next(a.dtype for a in arrays if isinstance(a, np.ndarray) and a.dtype.kind == "f")
        names = {
            "T": lambda v: v if isinstance(v, (int, float)) else np.asarray(v, kind),
            "exp": np.exp,
            "max": np.maximum,
            "sqrt": np.sqrt,
        }
        names |= {"erf": _scipy_erf, **dict(zip(wanted, arrays, strict=True))}
        with np.errstate(over="ignore"):  # as on a GPU, where e^x becomes inf in silence
            exec(lines, names)
        results = tuple(np.asarray(names[name], kind) for name in given)
        return results if len(results) > 1 else results[0]

    return run


_KERNELS: dict[tuple[str, str], Callable] = {}


def elementwise(like: Any, inputs: str, outputs: str, code: str, name: str) -> Callable:
    """Return the kernel of an expression for the device where `like` lives, compiled once for each device and name.

    On a GPU all its arrays have one dtype T. Where they differ, they are cast to the dtype that
    NumPy's operators would give; NumPy's scalars count as Python's numbers.
    """
    device = device_of(like) or DEVICES["numpy"]
    if (device.name, name) not in _KERNELS:
        _KERNELS[device.name, name] = device.elementwise(inputs, outputs, code, name)
    kernel = _KERNELS[device.name, name]

    def run(*arguments: Any) -> Any:
        arguments = tuple(x.item() if isinstance(x, np.generic) else x for x in arguments)
        dtypes = {x.dtype for x in arguments if is_array(x)}
        if len(dtypes) > 1:
            common = np.result_type(*dtypes)
            arguments = tuple(x.astype(common, copy=False) if is_array(x) else x for x in arguments)
        return kernel(*arguments)

    return run


DEVICES: dict[str, Device] = {"numpy": Device("numpy", np.ndarray, np, _keep, _keep, _scipy_erf)}


def register_device(device: Device) -> None:
    """Make a kind of array known to the whole package, as CuPy's is when it is first met.

    >>> sorted(DEVICES)[:1] != []
    True
    """
    DEVICES[device.name] = device


def _register_cupy() -> Device:
    try:
        import cupy
        from cupyx.scipy.special import erf
    except ImportError:
        raise DeviceError(
            "backend 'cupy' needs CuPy, which does not import here; install the extra that fits the driver (cuda12 or cuda13), or use backend 'numpy'"
        ) from None
    device = Device(
        "cupy",
        cupy.ndarray,
        cupy,
        cupy.asarray,
        cupy.asnumpy,
        erf,
        cupy.ElementwiseKernel,
        _try_cupy,
    )
    register_device(device)
    return device


@cache
def _try_cupy() -> None:
    """Add two numbers on the GPU, once: that needs a driver, a device, memory and a compiler; DeviceError names what CuPy misses first.

    Before version 14 CuPy promoted by value: float32 times 70,000 was float64, and float32 times a
    float64 scalar float32.
    """
    import cupy

    if int(cupy.__version__.split(".")[0]) < 14:
        raise DeviceError(
            f"backend 'cupy' needs CuPy 14, whose results have NumPy 2's dtypes, and {cupy.__version__} came; upgrade it, or use backend 'numpy'"
        )
    try:
        float(cupy.asarray(np.ones(1)).sum() + 1)
    except Exception as problem:  # CuPy has no common class for them: CUDARuntimeError, ImportError, RuntimeError, OutOfMemoryError …
        said = next(iter(str(problem).splitlines()), "")
        raise DeviceError(
            f"backend 'cupy' needs an NVIDIA GPU, and CuPy {cupy.__version__} is installed but cannot compute here "
            f"({type(problem).__name__}: {said}); look at the driver with nvidia-smi, or use backend 'numpy'"
        ) from None


def find_backend(name: str) -> Device:
    """Return the device of that name, tried out once; DeviceError for a name that no backend has, or for a GPU that is not there.

    >>> find_backend("numpy").name
    'numpy'
    """
    device = DEVICES.get(name) or (_register_cupy() if name == "cupy" else None)
    if device is None:
        raise DeviceError(
            f"a backend is one of {', '.join(sorted({*DEVICES, 'cupy'}))}; {name!r} came"
        )
    device.check()
    return device


def device_of(x: Any) -> Device | None:
    """Return the device of an array, or None for what is no array (a Python number, a list)."""
    if isinstance(x, (np.ndarray, np.generic)):
        return DEVICES["numpy"]
    if "cupy" in sys.modules and "cupy" not in DEVICES:
        _register_cupy()
    for device in DEVICES.values():
        if isinstance(x, device.array_type):
            return device
    return None


def is_array(x: Any) -> bool:
    """Say whether `x` is an array of a known library.

    >>> is_array(np.ones(2)), is_array([1.0, 1.0])
    (True, False)
    """
    return device_of(x) is not None


def plain(x: Any) -> Any:
    """Return an array of real numbers or booleans as it is; what is no array yet, such as a list, becomes one.

    A memory map is taken for the array that it is. DtypeError for other kinds of numbers, and for
    the subclasses of ndarray, which give the same numbers another meaning: a matrix multiplies by
    `*`, a masked array hides some, and neither would be seen inside.

    >>> plain([1, 2])
    array([1, 2])
    """
    if type(x) is not np.ndarray:
        if isinstance(x, np.memmap):
            x = x.view(np.ndarray)
        elif isinstance(x, np.ndarray):
            way = "x.filled(value)" if isinstance(x, np.ma.MaskedArray) else "np.asarray(x)"
            raise DtypeError(
                f"arrays are plain ones, and a {type(x).__module__}.{type(x).__name__} came, "
                f"whose numbers mean something else; write {way}"
            )
        elif isinstance(x, np.generic) or not is_array(x):
            x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise DtypeError(
            f"a Tensor holds real numbers or booleans and {x.dtype} came; convert the data first"
        )
    return x


def array_module(*arrays: Any) -> Any:
    """Return the module that the arrays belong to, `numpy` or `cupy`; raise DeviceError if they belong to two.

    Python numbers and NumPy scalars belong everywhere.

    >>> array_module(np.ones(3), 2.0).__name__
    'numpy'
    """
    found: Device | None = None
    place = 0
    for i, x in enumerate(arrays):
        device = None if isinstance(x, np.generic) else device_of(x)
        if device is None:
            continue
        if found is not None and device is not found:
            raise DeviceError(
                f"one device a call: argument {place} lives on {found.name} and argument {i} on {device.name}; "
                f"move one with to_backend(x, {found.name!r})"
            )
        if found is None:
            found, place = device, i
    return (found or DEVICES["numpy"]).module


def to_backend(x: Any, name: str) -> Any:
    """Return the array on the named backend, `"numpy"` or `"cupy"`; unchanged if it is there already.

    DeviceError for a name that no backend has, and for "cupy" without CuPy or without a GPU that it
    can use.

    >>> to_backend(np.ones(2), "numpy")
    array([1., 1.])
    """
    target = find_backend(name)
    source = device_of(x) or DEVICES["numpy"]
    if source is target:
        return x
    return target.from_host(source.to_host(x))


def to_device_like(x: Any, other: Any) -> Any:
    """Return the array on the device of another one: what follows from ids is made on the host and copied where it is used.

    >>> to_device_like(np.ones(2), np.zeros(3))
    array([1., 1.])
    """
    return to_backend(x, array_module(other).__name__)


def to_host(x: Any) -> np.ndarray:
    """Return the numbers as a NumPy array of the same shape, copying from a GPU if they live there."""
    return np.asarray(to_backend(x, "numpy"))


def vecdot(a: Any, b: Any) -> Any:
    """Return the sum of products along the last axis: `np.vecdot`, which CuPy 13 does not have.

    >>> vecdot(np.ones((2, 3)), np.ones((2, 3)))
    array([3., 3.])
    """
    return np.vecdot(a, b) if isinstance(a, np.ndarray) else np.einsum("...i,...i->...", a, b)


def erf(x: Any) -> Any:
    """Return the error function of `x`, from SciPy or from the device's own library, in `x`'s dtype.

    >>> float(erf(np.zeros(())))
    0.0
    """
    device = device_of(x)
    return (device or DEVICES["numpy"]).erf(x)
