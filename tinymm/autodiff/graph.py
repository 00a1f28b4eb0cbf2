"""Numbers that remember how they were made: Tensor, `@op`, backward, and the two questions that NumPy asks.

A Tensor holds an array and, if a gradient was asked for, the op that made it with one *vjp* (vector-Jacobian product) an
input: a function from the gradient of the result to the gradient of that input. `backward` walks these links from the
result to the leaves. That is all of reverse-mode differentiation. First order only: a vjp works on bare arrays and is not recorded.

NumPy asks two questions of an argument that it does not know: "this ufunc, how do I apply it?" (NEP 13) and "this
function, how do I call it?" (NEP 18). We answer both from one table, so `np.dot(t, u)` is recorded and the paper's own `np.` lines run.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ..arrays.backend import DEVICES, array_module, device_of, is_array, to_host
from ..arrays.errors import GraphError, ShapeError
from .answers import ANSWERS, PLAIN, refuse_in_place, refuse_unknown
from .signature import Signature, sum_to

#: What an op does beyond computing: nothing (`no_grad`), remember its links, or also look for NaN (`checking`).
FORGETTING, RECORDING, CHECKING = 0, 1, 2
MODE: ContextVar[int] = ContextVar("mode", default=RECORDING)
#: Stands in `made_by` after a backward pass has used and freed the links.
SPENT: tuple = ("spent", ())


@contextlib.contextmanager
def no_grad() -> Iterator[None]:
    """Compute without remembering, for evaluation and for the optimizer.

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
def checking() -> Iterator[None]:
    """Raise GraphError at the first op whose value is not finite, and name it: slow, for finding where a NaN is born."""
    token = MODE.set(CHECKING)
    try:
        yield
    finally:
        MODE.reset(token)


class Tensor(NDArrayOperatorsMixin):
    """An array that remembers how it was made, so that `backward` can find the gradient of a result.

    `data` is the array (NumPy's or CuPy's), `grad` the gradient as a bare array of the same shape (leaves only), `made_by` the
    op and its links. Operators and NumPy's functions apply; `x += y` and silent conversion to an array are refused,
    because either would lose the gradient without a word.

    >>> x = Tensor([3.0, 4.0], requires_grad=True)
    >>> np.sum(x * x).backward()
    >>> x.grad
    array([6., 8.])
    """

    __slots__ = ("__weakref__", "data", "grad", "made_by", "requires_grad")
    __hash__ = object.__hash__  # the mixin's __eq__ would take it away, and the walk needs identity

    def __init__(self, data: Any, requires_grad: bool = False):
        if isinstance(data, Tensor):
            raise GraphError("a Tensor is made from an array and a Tensor came; use t.detach() to cut the graph, or t itself")
        self.data = data if is_array(data) and not isinstance(data, np.generic) else np.asarray(data)
        if requires_grad and self.data.dtype.kind != "f":
            raise GraphError(f"only floating-point numbers have gradients; {self.data.dtype} came: use data.astype('float32')")
        self.grad: Any = None
        self.requires_grad = requires_grad
        self.made_by: tuple | None = None

    shape = property(lambda self: self.data.shape, doc="Lengths of the axes.")
    dtype = property(lambda self: self.data.dtype, doc="Kind of the numbers.")
    ndim = property(lambda self: self.data.ndim, doc="Number of axes.")
    size = property(lambda self: self.data.size, doc="Number of numbers.")
    T = property(lambda self: np.transpose(self), doc="All axes reversed, as in NumPy.")

    def item(self) -> float:
        """Return the one number inside as a Python number (on a GPU this waits for it)."""
        return self.data.item()

    def detach(self) -> "Tensor":
        """Return the same numbers without a memory."""
        return Tensor(self.data)

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
        return np.astype(self, np.dtype(dtype))

    def __getitem__(self, index):
        return ANSWERS["getitem"](self, index)

    def __len__(self):
        return len(self.data)

    def __bool__(self):
        return bool(self.data)

    def __float__(self):
        return float(self.data)

    def __repr__(self):
        made = f", made by {self.made_by[0]}" if self.made_by else ", requires_grad=True" if self.requires_grad else ""
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
            if type(x) not in FAMILIAR and not isinstance(x, Tensor) and not is_array(x):
                return NotImplemented
        if ufunc in ANSWERS:
            return ANSWERS[ufunc](*inputs)
        return _without_gradient(ufunc, inputs, {})

    def __array_function__(self, func, types, args, options):
        """Answer NumPy's "how do I call this function?" (NEP 18)."""
        for kind in types:
            if not issubclass(kind, (Tensor, np.ndarray)) and not _is_array_type(kind):
                return NotImplemented
        rule = ANSWERS.get(func)
        return rule(*args, **options) if rule is not None else _without_gradient(func, args, options)

    # ------------------------------------------------------------------ backward
    def backward(self, gradient: Any = None, into: dict["Tensor", Any] | None = None) -> None:
        """Add the gradient of this result to `.grad` of every leaf that it was made from.

        `gradient` is the gradient of something further on with respect to this Tensor, of its shape; a Tensor of one number may leave
        it out. With `into`, gradients are added to that dict (leaf → array) and `.grad` stays untouched: shards of a batch
        that share their leaves can then run in threads. The links are freed on the way, so a second pass raises GraphError.

        A node may hand its gradient on only when all its users have handed theirs to it: with b = a + a, c = b + b, walking
        on at the first arrival would visit b twice and a four times, and forget some. So uses are counted first.
        """
        if not self.requires_grad:
            raise GraphError("backward() found no Tensor with requires_grad=True behind this result (made under no_grad(), perhaps)")
        if gradient is None:
            if self.size != 1:
                raise GraphError(
                    f"backward() starts from one number, and this Tensor has shape {self.shape}; reduce it first (np.mean, np.sum) "
                    "or pass gradient= of the same shape"
                )
            gradient = np.ones_like(self.data)
        elif gradient.shape != self.shape:
            raise GraphError(f"gradient= must have the Tensor's shape {self.shape}, and {gradient.shape} came")

        uses = _count_uses(self)
        arrived: dict[Tensor, Any] = {self: gradient}
        ours = set()  # sums that we made ourselves and may therefore add into
        ready = [self]
        while ready:
            node = ready.pop()
            g = arrived.pop(node)
            if node.made_by is None:
                if into is None:
                    node.grad = g if node.grad is None else node.grad + g
                else:
                    into[node] = into[node] + g if node in into else g
                continue
            maker, links = node.made_by
            node.made_by = SPENT
            for x, vjp in links:
                part = vjp(g)
                if part.shape != x.data.shape:
                    part = maker.unstretch(part, x.data.shape)
                if part.dtype != x.data.dtype:
                    part = part.astype(x.data.dtype)
                if x not in arrived:
                    arrived[x] = part
                elif x in ours:
                    arrived[x] += part
                else:
                    arrived[x] = arrived[x] + part
                    ours.add(x)
                uses[x] -= 1
                if not uses[x]:
                    ready.append(x)


def _count_uses(result: Tensor) -> dict[Tensor, int]:
    uses = {result: 0}
    stack = [result]
    while stack:
        made_by = stack.pop().made_by
        if made_by is None:
            continue
        if made_by is SPENT:
            raise GraphError("this graph was already used by backward() and then freed; run the forward pass again")
        for x, _ in made_by[1]:
            if x in uses:
                uses[x] += 1
            else:
                uses[x] = 1
                stack.append(x)
    return uses


#: What may stand beside a Tensor without a closer look; arrays of a registered device may too.
FAMILIAR = {Tensor, np.ndarray, int, float, bool, np.float64, np.float32, np.int64, np.bool_}


def _is_array_type(kind: type) -> bool:
    return any(issubclass(kind, device.array_type) for device in DEVICES.values())


def _without_gradient(function: Callable, args: tuple, options: dict) -> Any:
    if function not in PLAIN:
        refuse_unknown(function)
    value = function(*(x.data if isinstance(x, Tensor) else x for x in args), **options)
    return Tensor(value) if is_array(value) else value


# ---------------------------------------------------------------------- an op is declared in one place
CATALOGUE: dict[str, "Op"] = {}


class Op:
    """A rule with what follows from its declaration: call it with Tensors, arrays or Python numbers and get a Tensor.

    A rule takes bare arrays and returns the value, followed by one vjp for each array input, in order; what a vjp needs it simply mentions, since
    Python's closure keeps it. `None` marks an input without a gradient. See `docs/add_an_op.md`.
    """

    def __init__(
        self,
        rule: Callable,
        signature: str | None = None,
        *,
        numpy: Any = (),
        domain: tuple[float, float] = (-2.0, 2.0),
        kinks: tuple[float, ...] = (),
        cases: tuple = (),
    ):
        self.rule = rule
        self.name = rule.__name__.removeprefix("reduce_")
        self.__doc__ = rule.__doc__
        self.__name__ = rule.__name__
        self.__wrapped__ = rule
        self.signature = Signature(signature) if signature else None
        self.has_core_axes = bool(self.signature and self.signature.has_core_axes)
        self.domain, self.kinks, self.cases = domain, kinks, cases
        self.answers = _spellings(self, numpy)
        for function, answer in self.answers.items():
            if function in ANSWERS:
                raise GraphError(f"{function} is answered twice; op {self.name} came second: drop it from one numpy= list")
            ANSWERS[function] = answer
        if self.name in CATALOGUE:
            raise GraphError(f"an op named {self.name} exists already; choose another name")
        CATALOGUE[self.name] = self

    def __call__(self, *inputs: Any, **options: Any) -> Tensor:
        """Run the rule on the arrays inside the inputs, and remember the links if a gradient was asked for."""
        arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
        if self.has_core_axes:
            self.signature.check(self.name, arrays)  # type: ignore[union-attr]
        try:
            value, *vjps = self.rule(*arrays, **options)
        except (ValueError, TypeError) as error:
            self._explain(error, arrays)
            raise
        out = _new(Tensor)
        out.data = value if type(value) is np.ndarray or is_array(value) and not isinstance(value, np.generic) else np.asarray(value)
        out.grad = None
        mode = MODE.get()
        links = []
        if mode:
            for x, vjp in zip(inputs, vjps):  # noqa: B905 (strict= costs as much as the loop)
                if isinstance(x, Tensor) and x.requires_grad and vjp is not None:
                    links.append((x, vjp))
            if mode == CHECKING:
                self._check_finite(out.data, arrays)
        if links:
            out.requires_grad = True
            out.made_by = (self, links)
        else:
            out.requires_grad = False
            out.made_by = None
        return out

    def __repr__(self):
        return f"<op {self.name}{' ' + self.signature.text if self.signature else ''}>"

    def unstretch(self, gradient: Any, shape: tuple[int, ...]) -> Any:
        """Sum a gradient back to the shape of an input that was broadcast; refuse it where the op does not broadcast."""
        if self.signature is None:
            raise ShapeError(f"the vjp of {self.name} returned shape {gradient.shape} for an input of shape {shape}; its rule is wrong")
        return sum_to(gradient, shape)

    def _explain(self, error: Exception, arrays: list) -> None:
        """Say what NumPy's own message leaves out: two devices, or which axes do not fit."""
        array_module(*arrays)
        if self.signature is not None and isinstance(error, ValueError):
            self.signature.check(self.name, arrays)

    def _check_finite(self, value: Any, arrays: list) -> None:
        if value.dtype.kind != "f" or np.isfinite(value).all():
            return
        came = "; ".join(
            f"argument {i} {a.shape} with largest magnitude {float(np.abs(a).max()):.3g}"
            for i, a in enumerate(arrays)
            if device_of(a) is not None and a.size
        )
        raise GraphError(f"{self.name} gave a value that is not finite from {came}; lower the learning rate or clip the gradient")


_new = Tensor.__new__


def _spellings(op: Op, numpy: Any) -> Mapping[Any, Callable]:
    """Turn `numpy=` into a table: one function, several, or a dict of function → adapter where NumPy's arguments differ."""
    if isinstance(numpy, Mapping):
        return {function: adapter(op) for function, adapter in numpy.items()}
    return dict.fromkeys(numpy if isinstance(numpy, tuple) else (numpy,), op)


def op(signature: str | None = None, **declaration: Any) -> Callable[[Callable], Op]:
    """Declare a rule as an op: everything else follows from this one place.

    `signature` is NumPy's gufunc notation (None where no such string exists: then `cases` lists shapes and options to test). `numpy` names the
    NumPy functions that mean this op, `domain` the interval of valid inputs and `kinks` the points without a slope, for the tests.

    >>> np.tanh(Tensor(0.0))
    Tensor(0., float64)
    """
    return lambda rule: Op(rule, signature, **declaration)
