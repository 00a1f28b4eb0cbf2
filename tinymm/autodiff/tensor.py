"""Tensor: an array that records how it was computed, with NumPy's two protocols (NEP 13 and NEP 18).

A Tensor holds an array and, if a gradient was asked for, the op that made it with one *vjp*
(vector-Jacobian product) an input: a function from the gradient of the result to the gradient of
that input. `backward` walks these links from the result to the leaves. That is all of reverse-mode
differentiation. First order only: a vjp works on bare arrays and is not recorded.

NumPy asks two questions of an argument that it does not know: "this ufunc, how do I apply it?" (NEP
13) and "this function, how do I call it?" (NEP 18). We answer both from one table, so `np.dot(t,
u)` is recorded and the paper's own `np.` lines run.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from tinymm.arrays.backend import DEVICES, array_module, is_array, plain, to_host
from tinymm.arrays.errors import GraphError

from .answers import (
    ANSWERS,
    PLAIN,
    refuse_arguments,
    refuse_fill,
    refuse_in_place,
    refuse_sequence,
    refuse_unknown,
)
from .backward import backward

#: What an op does beyond computing: nothing (`no_grad`), remember its links, or also look for NaN
#: (`detect_anomaly`).
FORGETTING, RECORDING, CHECKING = 0, 1, 2
MODE: ContextVar[int] = ContextVar("mode", default=RECORDING)


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Compute without recording the graph, for evaluation and for the optimizer.

    >>> x = Tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * 2).requires_grad
    False
    """
    token = MODE.set(FORGETTING)
    try:
        yield
    finally:
        MODE.reset(token)


@contextlib.contextmanager
def detect_anomaly() -> Iterator[None]:
    """Anomaly detection: raise GraphError at the first op whose value or gradient is not finite.

    Slow; finds where a NaN first appears.
    """
    token = MODE.set(CHECKING)
    try:
        yield
    finally:
        MODE.reset(token)


#: What may stand beside a Tensor without a closer look; arrays of a registered device may too, and
#: Tensor joins below.
FAMILIAR: set[type] = {np.ndarray, int, float, bool, np.float64, np.float32, np.int64, np.bool_}


def _operator(name: str, ufunc: Callable) -> Callable:
    """Make an operator that goes straight to our rule: NumPy's round of questions costs more than the rule. Strangers take that round."""
    ask = getattr(NDArrayOperatorsMixin, name)
    if name.startswith("__r"):
        return lambda self, other: (
            ANSWERS[ufunc](other, self) if type(other) in FAMILIAR else ask(self, other)
        )
    return lambda self, other: (
        ANSWERS[ufunc](self, other) if type(other) in FAMILIAR else ask(self, other)
    )


#: What hands reach for that come from PyTorch -> what is written here.
ELSEWHERE = {
    "numpy": "t.data",
    "cpu": "tinymm.arrays.backend.to_host(t.data)",
    "clone": "t + 0",
    "view": "t.reshape(shape)",
    "dim": "t.ndim",
    "permute": "np.transpose(t, axes)",
    "unsqueeze": "t[:, None]",
    "squeeze": "np.squeeze(t)",
    "exp": "np.exp(t)",
    "flatten": "np.ravel(t)",
    "numel": "t.size",
    "cuda": "to_backend(t.data, 'cupy')",
    "norm": "np.linalg.norm(t)",
    "pow": "t**n",
    "mm": "t @ u",
    "relu": "ops.relu(t)",
    "sigmoid": "ops.sigmoid(t)",
    "clamp": "np.clip(t, low, high)",
    "masked_fill": "np.where(mask, value, t)",
    "softmax": "ops.softmax(t)",
}


class Tensor(NDArrayOperatorsMixin):
    """An array that records how it was computed, so that `backward` can compute gradients.

    `data` is the array (NumPy's or CuPy's), `grad` the gradient as a bare array of the same shape
    (leaves only), `made_by` the op and its links. Operators and NumPy's functions apply; `x += y`
    and silent conversion to an array are refused, because either would lose the gradient without a
    word. GraphError for a Tensor made of a Tensor, and for `requires_grad` without floating-point
    numbers; DtypeError for what is neither real nor boolean, and for subclasses of ndarray.

    Python's own `float(t)` gives the number and leaves the gradient behind, as `t.item()` does, and
    so does what asks for it: `math.exp(t)`,
    `array[0] = t`.

    >>> x = Tensor([3.0, 4.0], requires_grad=True)
    >>> np.sum(x * x).backward()
    >>> x.grad
    array([6., 8.])
    """

    __slots__ = ("__weakref__", "data", "grad", "made_by", "requires_grad")
    __hash__ = object.__hash__  # the mixin's __eq__ would take it away, and the walk needs identity

    def __init__(self, data: Any, requires_grad: bool = False):
        if isinstance(data, Tensor):
            raise GraphError(
                "a Tensor is made from an array and a Tensor came; use t.detach() to cut the graph, or t itself"
            )
        self.data = plain(data)
        if requires_grad and self.data.dtype.kind != "f":
            raise GraphError(
                f"only floating-point numbers have gradients; {self.data.dtype} came: use data.astype('float32')"
            )
        self.grad: Any = None
        self.requires_grad = requires_grad
        self.made_by: tuple | None = None

    def __init_subclass__(cls):
        FAMILIAR.add(cls)

    shape = property(lambda self: self.data.shape, doc="Lengths of the axes.")
    dtype = property(lambda self: self.data.dtype, doc="Kind of the numbers.")
    ndim = property(lambda self: self.data.ndim, doc="Number of axes.")
    size = property(lambda self: self.data.size, doc="Number of numbers.")
    T = property(lambda self: np.transpose(self), doc="All axes reversed, as in NumPy.")

    def item(self) -> float:
        """Return the one number inside as a Python number (on a GPU this waits for it)."""
        return self.data.item()

    def detach(self) -> "Tensor":
        """Return the same numbers without their graph."""
        return Tensor(self.data)

    __add__, __radd__ = _operator("__add__", np.add), _operator("__radd__", np.add)
    __sub__, __rsub__ = _operator("__sub__", np.subtract), _operator("__rsub__", np.subtract)
    __mul__, __rmul__ = _operator("__mul__", np.multiply), _operator("__rmul__", np.multiply)
    __truediv__, __rtruediv__ = (
        _operator("__truediv__", np.true_divide),
        _operator("__rtruediv__", np.true_divide),
    )
    __matmul__ = _operator("__matmul__", np.matmul)

    # Methods that ndarray has, each through NumPy's own function.
    def sum(self, axis=None, keepdims=False):
        """See `np.sum`."""
        return np.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis=None, keepdims=False):
        """See `np.mean`."""
        return np.mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis=None, keepdims=False):
        """See `np.max`."""
        return np.max(self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape):
        """See `np.reshape`; takes a tuple or the lengths one by one."""
        return np.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes):
        """See `np.transpose`; takes a tuple or the axes one by one."""
        return np.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)

    def swapaxes(self, a, b):
        """See `np.swapaxes`."""
        return np.swapaxes(self, a, b)

    def astype(self, dtype):
        """See `np.astype`; the gradient comes back in the old dtype."""
        return np.astype(self, np.dtype(dtype))  # type: ignore[call-overload]

    def __getitem__(self, index):
        return ANSWERS["getitem"](self, index)

    def __setitem__(self, index, value):
        raise GraphError(
            "a Tensor's numbers are not changed in place, because the backward pass may still need them; write np.where(mask, new, x) for a new "
            "Tensor, or change x.data outside of any graph"
        )

    def __getattr__(self, name):  # only for what there is not
        instead = ELSEWHERE.get(name)
        if instead is None and getattr(np, name, None) in ANSWERS:
            raise AttributeError(
                f"a Tensor has no {name}; write np.{name}(t, …)", name=name, obj=self
            )
        raise AttributeError(
            f"a Tensor has no {name}"
            + (f", which is another library's; write {instead}" if instead else ""),
            name=name,
            obj=self,
        )

    def __len__(self):
        if self.ndim == 0:
            raise TypeError(
                "a Tensor without axes has no length; write t.size, or t[None] for a row of one"
            )
        return len(self.data)

    def __iter__(self):
        if self.ndim == 0:
            raise TypeError(
                "a Tensor without axes has no rows to go through; write t.item() for its number, "
                "or t[None] for a row of one"
            )
        return (self[i] for i in range(len(self)))

    def __reduce_ex__(self, protocol):  # what copy, deepcopy and pickle ask
        if self.made_by is not None:
            raise GraphError(
                "a result is not copied or pickled, since its gradient would flow to copies of "
                "the leaves that nobody holds; copy t.detach(), or "
                "make it anew from the copied leaves"
            )
        return super().__reduce_ex__(protocol)

    def __bool__(self):
        return bool(self.data)

    def __float__(self):
        return float(self.data.item())  # NumPy's own float() of an array (1,) is deprecated

    def __format__(self, spec):
        if spec and self.data.size != 1:
            raise GraphError(
                f"a format such as {spec!r} is one number's, and shape {self.shape} came; reduce it first, or write t.data[0]"
            )
        return format(self.item(), spec) if spec else str(self)

    def __repr__(self):
        made = (
            f", made by {self.made_by[0]}"
            if self.made_by
            else ", requires_grad=True"
            if self.requires_grad
            else ""
        )
        body = np.array2string(to_host(self.data), separator=", ", threshold=20, precision=4)
        return f"Tensor({body}, {self.dtype}{made})"

    def __array__(self, dtype=None, copy=None):
        raise GraphError(
            "a Tensor does not turn into an array by itself, because the gradient would be lost without a word; write t.data for "
            "the numbers, or np.stack([t, u]) for a Tensor of Tensors"
        )

    # ------------------------------------------------------------------ the two questions
    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        """Answer NumPy's "how do I apply this ufunc?" (NEP 13)."""
        if options or method != "__call__":
            refuse_in_place(ufunc, method, options)
        for x in inputs:
            if type(x) not in FAMILIAR and not is_array(x):
                refuse_sequence(ufunc, x)
                return NotImplemented
        rule = ANSWERS.get(ufunc)
        return rule(*inputs) if rule is not None else _without_gradient(ufunc, inputs, {})

    def __array_function__(self, func, types, args, options):
        """Answer NumPy's "how do I call this function?" (NEP 18)."""
        for kind in types:
            if not issubclass(kind, (Tensor, np.ndarray)) and not _is_array_type(kind):
                return NotImplemented
        rule = ANSWERS.get(func)
        if rule is None:
            return _without_gradient(func, args, options)
        try:
            return rule(*args, **options)
        except TypeError:
            refuse_arguments(func, rule, args, options)
            raise

    # ------------------------------------------------------------------ backward
    def backward(self, gradient: Any = None, into: dict["Tensor", Any] | None = None) -> None:
        """Add the gradient of this result to `.grad` of every leaf that it was made from.

        `gradient` is the gradient of something further on with respect to this Tensor, of its
        shape; a Tensor of one number may leave it out. With `into`, gradients are added to that
        dict (leaf → array) and `.grad` stays untouched: shards of a batch that share their leaves
        can then run in threads. The links are freed on the way, so a second pass raises GraphError.
        """
        if not self.requires_grad:
            raise GraphError(
                "backward() found no Tensor with requires_grad=True behind this result (made under no_grad(), perhaps)"
            )
        if gradient is None:
            if self.size != 1:
                raise GraphError(
                    f"backward() starts from one number, and this Tensor has shape {self.shape}; reduce it first (np.mean, np.sum) "
                    "or pass gradient= of the same shape"
                )
            gradient = np.ones_like(self.data)
        elif isinstance(gradient, Tensor):
            if gradient.requires_grad:
                raise GraphError(
                    "gradient= has no gradient of its own, and a Tensor that requires one came; "
                    "write gradient.data"
                )
            gradient = gradient.data
        if not is_array(gradient) or gradient.shape != self.shape:
            came = getattr(gradient, "shape", type(gradient).__name__)
            raise GraphError(
                f"gradient= is an array of the Tensor's shape {self.shape}, and {came} came; broadcast or reshape it first"
            )
        array_module(self.data, gradient)
        gradient = plain(gradient)
        backward(self, gradient.astype(self.dtype, copy=False), into, finite=MODE.get() == CHECKING)


FAMILIAR.add(Tensor)


def _is_array_type(kind: type) -> bool:
    return any(issubclass(kind, device.array_type) for device in DEVICES.values())


def _without_gradient(function: Callable, args: tuple, options: dict) -> Any:
    if function not in PLAIN:
        refuse_unknown(function)
    refuse_fill(function, args[1:], options)
    value = function(*map(_numbers, args), **{name: _numbers(x) for name, x in options.items()})
    return Tensor(value) if is_array(value) else value


def _numbers(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else plain(x) if isinstance(x, np.ndarray) else x
