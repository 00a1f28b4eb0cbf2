"""A stand-in for CuPy that runs on the CPU: an array that refuses what CuPy's arrays refuse.

It computes with NumPy and copies CuPy 14's manners: no implicit conversion to the host, no host
arrays beside its own (0-d ones in comparisons apart), results of 0 axes stay arrays, unknown types
are left to answer for themselves, functions and keywords that CuPy lacks are lacking here
(`cupy_table.json`), and so are dtypes, lists beside arrays, and what is Python but not C in a
kernel. Indices may live on the host; those out of range raise, where CuPy wraps them (`WRAPS`). A
test may watch what would make the host wait, `waits`, and matrix products, `products`.
"""

import ast
import contextlib
import inspect
import types
from pathlib import Path

import cupy_table
import numpy as np
from scipy.special import erf

from tinymm.arrays.backend import Device, find_backend, numpy_elementwise_kernel, register_device
from tinymm.arrays.errors import DeviceError

NAME = "strict"

TABLE = cupy_table.load()
SIGNATURES = {
    name: cupy_table.signature(words)
    for name, words in TABLE["functions"].items()
    if words is not None
}
#: Parameters of CuPy's functions that take one array or number, and those that take several arrays;
#: neither converts lists.
ONE, SEVERAL = (
    set("a b x y x1 x2 m arr array condition dst src v".split()),
    set("tup arrays seq args operands".split()),
)
COMPARISONS = {np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal}
#: The dtypes that CuPy has, and those of them that it adds into scattered places.
DTYPES, ADDED = "?bhilqBHILQefdFD", "efdiILQFD"
#: What CuPy's kernels take beside its own arrays.
SCALARS = (bool, int, float, complex, np.generic)


#: What CuPy computes by asking the device for a number, such as how many places are true.
ASKING = (np.nonzero, np.flatnonzero, np.argwhere, np.unique, np.extract, np.compress)
#: Whether an index out of range picks from the other end, as CuPy's does, instead of raising.
WRAPS = False
_waits: list | None = None
_products: list | None = None


@contextlib.contextmanager
def waits():
    """Collect (what, file, function) for each time that the host would wait for the device, the caller being the innermost one of tinymm."""
    global _waits
    _waits = []
    try:
        yield _waits
    finally:
        _waits = None


@contextlib.contextmanager
def products():
    """Collect the shapes (a, b, a @ b) of each product of two matrices, or stacks of them."""
    global _products
    _products = []
    try:
        yield _products
    finally:
        _products = None


def _waiting(what):
    if _waits is None:
        return
    frame = inspect.currentframe()
    while frame is not None and not _in_package(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    _waits.append(
        (
            what,
            *((Path(frame.f_code.co_filename).stem, frame.f_code.co_name) if frame else ("", "")),
        )
    )


def _in_package(module):
    return module.startswith("tinymm.") and module != "tinymm.arrays.backend"


class StrictArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on a device that the host cannot see into."""

    __slots__ = ("_host",)
    __hash__ = None
    __array_priority__ = 100

    def __init__(self, host):
        assert type(host) is np.ndarray, type(host)
        if host.dtype.char not in DTYPES:
            raise ValueError(f"Unsupported dtype {host.dtype}")
        self._host = host

    # ------------------------------------------------------------------ what it has in common with an ndarray
    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: StrictArray(self._host.T))
    base = property(
        lambda self: None if self._host.base is None else StrictArray(np.asarray(self._host.base))
    )

    def get(self):
        _waiting("get")
        return self._host.copy()

    def item(self, *index):
        _waiting("item")
        return self._host.item(*index)

    def tolist(self):
        _waiting("tolist")
        return self._host.tolist()

    def __len__(self):
        return len(self._host)

    def __bool__(self):
        _waiting("bool")
        return bool(self._host)

    def __int__(self):
        _waiting("int")
        return int(self._host)

    def __float__(self):
        _waiting("float")
        return float(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return f"strict {self._host!r}"

    # ------------------------------------------------------------------ what it refuses
    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if (
            method != "__call__"
            or getattr(np, ufunc.__name__, None) is not ufunc
            or ufunc.__name__ not in TABLE["ufuncs"]
        ):
            return NotImplemented
        if not options.keys() <= {"dtype", "casting"}:
            raise TypeError(f"Wrong arguments {options}")
        for x in (*inputs, *(out or ())):
            if not isinstance(x, (StrictArray, np.ndarray, *SCALARS)):
                return NotImplemented
        if ufunc in COMPARISONS:
            inputs = [x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in inputs]
        if out is not None:
            options["out"] = out
        result = _wrap(ufunc(*_deep(tuple(inputs), _inside), **_deep(options, _inside)))
        if ufunc is np.matmul and _products is not None and min(x.ndim for x in inputs) > 1:
            _products.append((*(x.shape for x in inputs), result.shape))
        return out[0] if out is not None else result

    def __array_function__(self, func, kinds, args, options):
        name = f"{func.__module__}.{func.__name__}".removeprefix("numpy.")
        if name not in TABLE["functions"] or not all(
            kind in (StrictArray, np.ndarray) for kind in kinds
        ):
            return NotImplemented
        _bind(name, args, options)
        if func in ASKING or func is np.where and len(args) + len(options) == 1:
            _waiting(func.__name__)
        if func in (np.take, np.take_along_axis):  # host indices are copied over, as in indexing
            args = (args[0], *(x._host if isinstance(x, StrictArray) else x for x in args[1:]))
            options = {
                name: x._host if isinstance(x, StrictArray) else x for name, x in options.items()
            }
            if WRAPS:
                given = SIGNATURES[name].bind(*args, **options).arguments
                axis = given.get("axis")
                given["indices"] = np.asarray(given["indices"]) % (
                    args[0].size if axis is None else args[0].shape[axis]
                )
                return _wrap(func(_inside(args[0]), given["indices"], axis))
            return _wrap(func(_inside(args[0]), *args[1:], **options))
        if func in (np.shape, np.ndim, np.size, np.result_type):
            return func(*(x._host if isinstance(x, StrictArray) else x for x in args), **options)
        found = func(*_deep(args, _inside), **_deep(options, _inside))
        return _wrap(
            np.asarray(found) if func in (np.allclose, np.array_equal, np.array_equiv) else found
        )

    def __getitem__(self, index):
        if _has_mask(index):
            _waiting("mask")
        return _wrap(self._host[_wrapped(_deep(index, _index), self.shape)])

    def __setitem__(self, index, value):
        if _has_mask(index) and np.ndim(
            _index(value)
        ):  # CuPy puts one number behind a mask without counting the places
            _waiting("mask")
        self._host[_deep(index, _index)] = _inside(value)


def _wrapped(index, shape):
    """Return an index whose arrays are taken modulo the axis, if that is asked for; they stand in front of all slices."""
    if not WRAPS:
        return index
    parts = index if isinstance(index, tuple) else (index,)
    parts = tuple(
        i % shape[axis] if isinstance(i, np.ndarray) and i.dtype != bool else i
        for axis, i in enumerate(parts)
    )
    return parts if isinstance(index, tuple) else parts[0]


def _inside(x):
    """Take the numbers out of an argument; a host array is refused as CuPy's kernels refuse it."""
    if isinstance(x, StrictArray):
        return x._host
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    return x


def _bind(name, args, options):
    """Hand the arguments to CuPy's signature, which refuses what it does not know, and refuse lists where it wants arrays."""
    if name not in SIGNATURES:
        return
    given = SIGNATURES[name].bind(*args, **options).arguments
    for parameter, value in given.items():
        if parameter in ONE and isinstance(value, (list, tuple)):
            raise TypeError(f"{name}: {parameter} is an array, and a {type(value).__name__} came")
        if (
            parameter in SEVERAL
            and isinstance(value, (list, tuple))
            and any(not isinstance(x, (StrictArray, str)) for x in value)
        ):
            raise TypeError(f"{name}: only arrays of the device can stand in {parameter}")
    if name == "clip" and given["a_min"] is None and given["a_max"] is None:
        raise ValueError("array_clip: must set either max or min")


def _has_mask(index):
    """Say whether an index picks by truth, so that the device must be asked how many are picked; two of them in one index are refused."""
    masks = sum(
        getattr(i, "dtype", None) == np.dtype(bool) and i.ndim > 0
        for i in (index if isinstance(index, tuple) else (index,))
    )
    if masks > 1:
        raise NotImplementedError("one boolean array an index")
    return masks > 0


def _index(x):
    return x._host if isinstance(x, StrictArray) else x


def _deep(x, function):
    """Apply a function to every leaf of nested tuples, lists and dicts."""
    if isinstance(x, (tuple, list)):
        return type(x)(_deep(item, function) for item in x)
    if isinstance(x, dict):
        return {name: _deep(item, function) for name, item in x.items()}
    return function(x)


def _wrap(x):
    if isinstance(x, (np.ndarray, np.generic)):
        return StrictArray(np.asarray(x))
    return type(x)(_wrap(item) for item in x) if isinstance(x, (tuple, list)) else x


def _method(name):
    def method(self, *args, **options):
        if name in BOUND:
            _bind(name, (self, *args), options)
        return _wrap(getattr(self._host, name)(*_deep(args, _inside), **_deep(options, _inside)))

    method.__name__ = name
    return method


#: Methods that take what the function of their name takes, and others.
BOUND = "sum mean max min all any argmax argmin argsort swapaxes ravel squeeze cumsum".split()
METHODS = " ".join([*BOUND, *"copy reshape transpose flatten fill".split()])
for _name in METHODS.split():
    setattr(StrictArray, _name, _method(_name))


def _astype(self, dtype, order="K", casting="unsafe", copy=True):
    if not copy and self.dtype == dtype:
        return self
    return StrictArray(self._host.astype(dtype, order=order, casting=casting))


StrictArray.astype = _astype
METHODS += " astype"


def from_host(x):
    """Copy a host array to the strict device."""
    return StrictArray(np.array(x))


def to_host(x):
    """Copy a strict array to the host."""
    return x.get()


# ---------------------------------------------------------------------- the module that array_module(x) hands out
def _creates(name):
    return lambda *args, **options: _wrap(getattr(np, name)(*_deep(args, _index), **options))


def _scatter_add(whole, index, values):
    if whole.dtype.char not in ADDED:
        raise TypeError(f"add.at does not take {whole.dtype}")
    np.add.at(whole._host, _deep(index, _index), _inside(values))


strict = types.ModuleType(NAME)
strict.ndarray = StrictArray
strict.add = types.SimpleNamespace(at=_scatter_add)
CREATORS = "zeros ones empty full arange eye tri linspace array asarray ascontiguousarray zeros_like ones_like empty_like full_like"
for _name in CREATORS.split():
    setattr(strict, _name, _creates(_name))


class _Grid:
    def __getitem__(self, index):
        return _wrap(np.ogrid[index])


strict.ogrid = _Grid()


#: What an expression may be made of to mean in C what it means in Python.
C_NODES = (
    ast.Module,
    ast.Assign,
    ast.Name,
    ast.Load,
    ast.Store,
    ast.Constant,
    ast.BinOp,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.UnaryOp,
    ast.USub,
)
C_NODES += (ast.Call, ast.Compare, ast.Gt, ast.Lt, ast.GtE, ast.LtE)
C_NAMES = {"T", "exp", "max", "sqrt", "erf"}


def check_expression(inputs, outputs, code):
    """Raise SyntaxError for an expression that Python runs and a C compiler refuses or reads otherwise."""
    (wanted, given) = ({part.split()[1] for part in side.split(",")} for side in (inputs, outputs))
    if any(part.split()[0] != "T" for side in (inputs, outputs) for part in side.split(",")):
        raise SyntaxError("all parameters of a kernel are of the dtype T")
    for node in ast.walk(ast.parse("\n".join(line.strip() for line in code.split(";")))):
        said = ast.unparse(node)
        if (
            not isinstance(node, C_NODES)
            or isinstance(node, ast.Constant)
            and type(node.value) not in (int, float)
        ):
            raise SyntaxError(f"{said or type(node).__name__} is no C")
        if isinstance(node, ast.Name) and node.id not in (
            given if isinstance(node.ctx, ast.Store) else wanted | given | C_NAMES
        ):
            raise SyntaxError(f"{said} is not declared, or no output")
        if isinstance(node, ast.Compare) and len(node.ops) > 1:
            raise SyntaxError(f"{said} compares the first result with the third number")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            if all(
                isinstance(side, ast.Constant) and isinstance(side.value, int)
                for side in (node.left, node.right)
            ):
                raise SyntaxError(f"{said} is a division of whole numbers")


def _elementwise(inputs, outputs, code, name):
    """Return a kernel as CuPy's ElementwiseKernel: it takes its own arrays of one dtype and Python's numbers, and gives its own."""
    check_expression(inputs, outputs, code)
    kernel = numpy_elementwise_kernel(inputs, outputs, code, name)

    def run(*arrays):
        dtypes = {a.dtype for a in arrays if isinstance(a, StrictArray)}
        if len(dtypes) > 1:
            raise TypeError(f"Type is mismatched. T {' '.join(sorted(map(str, dtypes)))}")
        found = kernel(*map(_inside, arrays))
        return tuple(map(_wrap, found)) if isinstance(found, tuple) else _wrap(found)

    return run


register_device(
    Device(
        NAME,
        StrictArray,
        strict,
        from_host,
        to_host,
        lambda x: _wrap(np.asarray(erf(_inside(x)))),
        _elementwise,
    )
)


def _no_gpu():
    try:
        find_backend("cupy")
    except DeviceError as problem:
        return str(problem)
    return ""


#: Why the real one cannot be used here, an empty string where it can; the wheel alone is no GPU.
NO_GPU = _no_gpu()
