"""Ops and the graph of a computation: an op is declared in one place, and calling it records a node.

An op's rule works on bare arrays; a call unpacks the Tensors, runs the rule, wraps the value and,
if a gradient was asked for, keeps the vjps as links to the inputs. The value points to its inputs
and never the other way, so a result without references frees its whole history.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module, device_of, is_array, plain, to_host
from tinymm.arrays.errors import DtypeError, GraphError, ShapeError

from .answers import ANSWERS, name_of
from .signature import Signature, sum_to
from .tensor import CHECKING, MODE, Tensor

#: Every op by name: the tests, the gradient check and the docs are derived from it.
CATALOGUE: dict[str, "Op"] = {}
#: What enters a rule as it is, as an input and as an option; everything else is looked at.
NUMBERS = frozenset({int, float, bool, type(None)})
SETTINGS = NUMBERS | {str, tuple, list}


class Op:
    """A rule with what follows from its declaration: call it with Tensors, arrays or Python numbers and get a Tensor.

    A rule takes bare arrays and returns the value, followed by one vjp for each array input, in
    order; what a vjp needs it simply mentions, since Python's closure keeps it. `None` marks an
    input without a gradient. The first `floating` inputs come to the rule as floating-point arrays,
    since it writes into arrays of their kind: whole numbers become float64, as for `np.exp`. See
    `docs/add_an_op.md`. GraphError for a name that is taken, and for a NumPy function that another
    op answers; a call raises it for a Tensor that requires a gradient in a place that has none, and
    DtypeError for arrays that are no plain real numbers.
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
        floating: int = 0,
        catalogued: bool = True,
    ):
        self.rule, self.floating = rule, floating
        #: A rule of the same meaning for arrays on a GPU, where launches and not the cache are what is scarce (`ops/gpu.py`).
        self.gpu_rule: Callable | None = None
        self.name = rule.__name__.removeprefix("reduce_")
        self.__doc__ = rule.__doc__
        self.__name__ = rule.__name__
        self.__module__ = rule.__module__  # where doctest looks for it
        self.__wrapped__ = rule
        self.signature = Signature(signature) if signature else None
        self.has_core_axes = bool(self.signature and self.signature.has_core_axes)
        self.domain, self.kinks, self.cases = domain, kinks, cases
        self.answers = _spellings(self, numpy)
        for function in self.answers:
            if function in ANSWERS:
                name = name_of(function) if callable(function) else function
                raise GraphError(
                    f"{name} is answered twice; op {self.name} came second: drop it from one numpy= list"
                )
        if catalogued and self.name in CATALOGUE:
            raise GraphError(f"an op named {self.name} exists already; choose another name")
        ANSWERS.update(self.answers)
        if catalogued:
            CATALOGUE[self.name] = self

    def __call__(self, *inputs: Any, **options: Any) -> Tensor:
        """Run the rule on the arrays inside the inputs, and remember the links if a gradient was asked for.

        GraphError for a Tensor that requires a gradient in a place that has none; DtypeError for
        arrays that are no plain real numbers.
        """
        arrays, remember = [], False
        for x in inputs:
            if isinstance(x, Tensor):
                arrays.append(x.data)
                remember = remember or x.requires_grad
            else:
                arrays.append(
                    x
                    if type(x) in NUMBERS or type(x) is np.ndarray and x.dtype.kind in "fiub"
                    else self._enter(x, len(arrays))
                )
        if options:
            for name, option in options.items():
                if type(option) not in SETTINGS and isinstance(option, (Tensor, np.ndarray)):
                    options[name] = self._bare(name, option)
        if self.floating:
            arrays[: self.floating] = map(_as_floats, arrays[: self.floating])
        if self.has_core_axes:
            self.signature.check(self.name, arrays)  # type: ignore[union-attr]
        rule = (
            self.rule
            if self.gpu_rule is None or isinstance(arrays[0], np.ndarray)
            else self.gpu_rule
        )
        try:
            value, *vjps = rule(*arrays, **options)
        except (ValueError, TypeError) as error:
            self._explain(error, arrays, options)
            raise
        out = _new(Tensor)
        out.data = (
            value
            if type(value) is np.ndarray or is_array(value) and not isinstance(value, np.generic)
            else np.asarray(value)
        )
        out.grad = out.made_by = None
        out.requires_grad = False
        if out.data.dtype.kind != "f":
            remember = False  # whole numbers and truth values move in steps, which have no slope
            if out.data.dtype.kind not in "iub":
                raise DtypeError(
                    f"{self.name} gave {out.data.dtype}, and a Tensor holds real numbers or "
                    "booleans; convert t.data instead"
                )
        mode = MODE.get()
        if mode and remember:
            links = []
            for x, vjp in zip(inputs, vjps):  # noqa: B905 (strict= costs as much as the loop)
                if vjp is not None and isinstance(x, Tensor) and x.requires_grad:
                    links.append((x, vjp))
            if len(inputs) > len(vjps):
                for place in range(len(vjps), len(inputs)):
                    self._refuse_gradient(f"argument {place}", inputs[place])
            if links:
                out.requires_grad = True
                out.made_by = (self, links)
        if mode == CHECKING:
            self._check_finite(out.data, arrays)
            if out.made_by:
                out.made_by = (self, self._watched(links, [*arrays, *options.values(), out.data]))
        return out

    def __repr__(self):
        return f"<op {self.name}{' ' + self.signature.text if self.signature else ''}>"

    def unstretch(self, gradient: Any, shape: tuple[int, ...]) -> Any:
        """Sum a gradient back to the shape of an input that was broadcast; refuse it where the op does not broadcast.

        ShapeError for a gradient of another shape, which only a wrong rule returns.
        """
        if self.signature is None:
            raise ShapeError(
                f"the vjp of {self.name} returned shape {gradient.shape} for an input of shape {shape}; its rule is wrong"
            )
        return sum_to(gradient, shape)

    def _enter(self, x: Any, place: int) -> Any:
        """Return what came in the place of an input: an array, or a list where one is meant, rather than a shape or axes."""
        if isinstance(x, (str, tuple, list)) and place >= (
            len(self.signature.inputs) if self.signature else 1
        ):
            return x
        array = plain(x)
        return x if isinstance(x, np.generic) else array  # a NumPy scalar belongs to every device

    def _bare(self, name: str, option: Any) -> Any:
        """Return the array of an option: a mask, indices.

        One that requires a gradient has no place there.
        """
        if not isinstance(option, Tensor):
            return plain(option)
        self._refuse_gradient(f"{name}=", option)
        return option.data

    def _refuse_gradient(self, place: str, x: Any) -> None:
        if isinstance(x, Tensor) and x.requires_grad:
            raise GraphError(
                f"{place} of {self.name} has no gradient rule, and a Tensor that requires a "
                "gradient came there; write t.data for its numbers, "
                "or compose the result of other functions"
            )

    def _watched(self, links: list, held: list) -> list:
        """Return the links with vjps that check first whether an array that they may read was changed in place."""
        before = [_fingerprint(x) for x in held]

        def watched(vjp: Callable) -> Callable:
            def look(g: Any) -> Any:
                if [_fingerprint(x) for x in held] != before:
                    raise GraphError(
                        f"an array that {self.name} had read or made was changed before "
                        "backward() came; change x.data after backward(), or hand in a copy"
                    )
                return vjp(g)

            return look

        return [(x, watched(vjp)) for x, vjp in links]

    def _explain(self, error: Exception, arrays: list, options: dict) -> None:
        """Say what NumPy's own message leaves out: two devices (a TypeError of CuPy's), or which axes do not fit."""
        if isinstance(error, TypeError):
            array_module(*arrays, *options.values())
        elif self.signature is not None:
            self.signature.check(self.name, arrays)

    def _check_finite(self, value: Any, arrays: list) -> None:
        if value.dtype.kind != "f" or np.isfinite(value).all():
            return
        came = "; ".join(
            f"argument {i} {a.shape} with largest magnitude {float(np.abs(a).max()):.3g}"
            for i, a in enumerate(arrays)
            if device_of(a) is not None and a.size
        )
        raise GraphError(
            f"{self.name} gave a value that is not finite from {came}; lower the learning rate or clip the gradient"
        )


def _as_floats(x: Any) -> Any:
    return x if getattr(x, "dtype", None) is None or x.dtype.kind == "f" else x.astype(np.float64)


def _fingerprint(x: Any) -> int:
    return hash(to_host(x).tobytes()) if is_array(x) else 0


_new = Tensor.__new__


def _spellings(op: Op, numpy: Any) -> Mapping[Any, Callable]:
    """Turn `numpy=` into a table: one function, several, or a dict of function → adapter where NumPy's arguments differ."""
    if isinstance(numpy, Mapping):
        return {function: adapter(op) for function, adapter in numpy.items()}
    return dict.fromkeys(numpy if isinstance(numpy, tuple) else (numpy,), op)


def op(signature: str | None = None, **declaration: Any) -> Callable[[Callable], Op]:
    """Declare a rule as an op: everything else follows from this one place.

    `signature` is NumPy's gufunc notation (None where no such string exists). `numpy` names the
    NumPy functions that mean this op. The rest is for the tests: `domain` the interval of valid
    inputs, `kinks` the points without a slope, `cases` shapes with options.

    >>> np.tanh(Tensor(0.0))
    Tensor(0., float64)
    """
    return lambda rule: Op(rule, signature, **declaration)
