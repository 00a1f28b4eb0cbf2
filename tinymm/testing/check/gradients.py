# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of a gradient: any function of arrays beside its vector–Jacobian product.

Traps: a cotangent of ones is blind where outputs sum to a constant, so it is random here; so are
the point and the direction. Differences in float32 are worth three digits, in float64 six; a kink
within reach of a difference gives the mean of two slopes, and is kept away from.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator

from ..contract import Contract, Found, never
from ..strategies import sizes
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
SLOPE = "training follows the gradient: one that is off still lets a loss fall, to a worse place, and nothing else tells"
CARE = "an engine hands the same arrays to several rules: what one of them writes or remembers, the others read"
#: How far differences step, and how far from the slope they may be, relative and absolute.
STEPS = {"float64": (1e-5, 1e-6), "float32": (1e-2, 2e-2)}
letters: dict[str, Any] = {"a": sizes(1, 4), "b": sizes(2, 4), "c": sizes(1, 3), "d": sizes(1, 3)}


@dataclass
class Vjp(Contract):
    """`fn(*arrays) -> array` and `vjp(cotangent, *arrays)`, a gradient for each array: a tuple of them, or the only one alone.

    `signature` names the axes of the arrays as "(m,k),(k,n)", at most four letters, or gives their
    sizes; by default each is (m, n), and there are as many as vjp demands. Numbers lie in `domain`,
    and away from `kinks`. What is no array belongs into a lambda. UsageError for another spelling,
    more letters, or an empty domain.
    """

    vjp: Callable | None = field(default=None, kw_only=True)
    signature: str | None = field(default=None, kw_only=True)
    domain: tuple[float, float] = field(default=(-2.0, 2.0), kw_only=True)
    kinks: tuple[float, ...] = field(default=(), kw_only=True)
    positional: ClassVar[tuple[str, ...]] = ("vjp",)

    def __post_init__(self) -> None:
        super().__post_init__()
        text = (
            self.signature
            if self.signature is not None
            else ",".join(["(m,n)"] * _arguments(self.vjp))
        )
        if not re.fullmatch(r"\(\w*(,\w+)*\)(,\(\w*(,\w+)*\))*", text.replace(" ", "")):
            raise UsageError(
                f"check.vjp: a signature names the axes of each array as '(m,k),(k,n)', and {text!r} came; write it so"
            )
        self.axes = [re.findall(r"\w+", part) for part in re.findall(r"\(([^)]*)\)", text)]
        self.letters = list(
            dict.fromkeys(letter for axes in self.axes for letter in axes if not letter.isdecimal())
        )
        low, high = self.domain
        if len(self.letters) > 4 or not low < high:
            raise UsageError(
                f"check.vjp: a signature has at most 4 letters and a domain two numbers, the lower first; {len(self.letters)} letters and "
                f"{self.domain} came; name fewer, or turn them round"
            )

    def inputs(self, rng: Rng, **drawn: int) -> list[Array]:
        """Return arrays in the signature's shapes, in the domain and away from the kinks."""
        size = dict(zip(self.letters, drawn.values(), strict=False))
        found = []
        for axes in self.axes:
            x = rng.uniform(
                *self.domain,
                size=tuple(int(axis) if axis.isdecimal() else size[axis] for axis in axes),
            )
            for kink in self.kinks:
                near = 10 * STEPS[self.dtype][0]
                x = np.where(np.abs(x - kink) < near, kink + np.where(x < kink, -near, near), x)
            found.append(np.asarray(x))
        return found

    def value(self, arrays: list[Array]) -> Array:
        """Return fn's value."""
        return self.call("fn", *arrays)

    def pulled(self, g: Array, arrays: list[Array]) -> list[Array]:
        """Return the gradient of each array; its shape is the array's."""
        if self.vjp is None:
            raise Found(
                "no vjp came; give it behind the function, as in check.vjp(fn, vjp)", "no vjp came"
            )
        return [
            self.numbers("vjp", one, x.shape)
            for one, x in zip(self.raw(g, arrays), arrays, strict=True)
        ]

    def raw(self, g: Array, arrays: list[Array]) -> list:
        """Return the gradients as they came, one for each array."""
        value = self.result("vjp", g, *arrays)
        value = list(value) if isinstance(value, (tuple, list)) else [value]
        if len(value) != len(arrays):
            said = f"vjp returned {len(value)} gradients for {len(arrays)} inputs"
            raise Found(said, f"your {said}")
        return value

    def suspected(self, place: int) -> str:
        """Return the cause of a wrong slope where a whole gradient beside its differences shows it, at one fixed point whose axes are all 3 long."""
        x = self.inputs(generator(1), a=3, b=3, c=3, d=3)
        try:
            g = generator(2).normal(size=self.value(x).shape)
            claimed, measured = self.pulled(g, x)[place], self.measured(g, x, place)
        except Found:
            return ""
        name, near = (
            f"your gradient of argument {place}",
            10 * STEPS[self.dtype][1] * np.abs(measured).max(),
        )
        if not claimed.any():
            return f"{name} is zero"
        if np.array_equal(self.pulled(2 * g, x)[place], claimed):
            return f"{name} is the same for every g, the gradient that comes in from behind"
        times = float((claimed * measured).sum() / np.maximum((measured**2).sum(), 1e-300))
        if (
            np.abs(claimed - times * measured).max() <= near
            and np.abs(times - 1) * np.abs(measured).max() > near
        ):
            factor = f"{times:.4g} is too much" if abs(times) > 1 else f"{1 / times:.4g} is missing"
            return f"{name} is {times:.4g} times the slope, everywhere: " + (
                "a minus is missing" if f"{times:.4g}" == "-1" else f"a factor {factor}"
            )
        return (
            f"{name} is transposed"
            if claimed.ndim == 2
            and np.abs(claimed.T - measured).max() <= near < np.abs(claimed - measured).max()
            else ""
        )

    def measured(self, g: Array, x: list[Array], place: int) -> Array:
        """Return the gradient of one array by differences."""
        step, found = STEPS[self.dtype][0], np.zeros(x[place].shape)
        for index in np.ndindex(found.shape):
            ends = [[*x[:place], x[place].copy(), *x[place + 1 :]] for _ in range(2)]
            ends[0][place][index] += step
            ends[1][place][index] -= step
            found[index] = ((self.value(ends[0]) - self.value(ends[1])) * g).sum() / (2 * step)
        return found


def _arguments(vjp: Callable | None) -> int:
    """Return how many arrays a vjp demands behind the cotangent; one if it does not say."""
    try:
        parameters = inspect.signature(vjp).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 1
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return max(1, sum(item.kind in named and item.default is item.empty for item in parameters) - 1)


vjp = Suite("vjp", Vjp)


@vjp.property(
    "V01", why="a gradient of another shape broadcasts into the parameter without a word", **letters
)
def shapes(rule: Vjp, rng: Rng, a: int, b: int, c: int, d: int) -> None:
    """Each array has a gradient of its own shape."""
    x = rule.inputs(rng, a=a, b=b, c=c, d=d)
    rule.pulled(rng.normal(size=rule.value(x).shape), x)


@vjp.property("V02", why=SLOPE, **letters)
def slopes(rule: Vjp, rng: Rng, a: int, b: int, c: int, d: int) -> None:
    """Along a random direction the gradient is the measured slope, for each array by itself."""
    x = rule.inputs(rng, a=a, b=b, c=c, d=d)
    step, tolerance = STEPS[rule.dtype]
    g = rng.normal(size=rule.value(x).shape)
    for place, gradient in enumerate(rule.pulled(g, x)):
        direction = rng.normal(size=x[place].shape)
        ends = [
            [*x[:place], x[place] + sign * step * direction, *x[place + 1 :]] for sign in (1, -1)
        ]
        measured = ((rule.value(ends[0]) - rule.value(ends[1])) * g).sum() / (2 * step)
        try:
            rule.agree(
                (gradient * direction).sum(),
                measured,
                f"slope by the gradient of argument {place} against differences",
                tolerance,
            )
        except Found as found:
            raise Found(str(found), rule.suspected(place)) from None


@vjp.property(
    "V03",
    why="backward adds what arrives from several users before it goes on: only a linear rule gives the same",
    **letters,
)
def linear(rule: Vjp, rng: Rng, a: int, b: int, c: int, d: int) -> None:
    """The gradient is linear in the cotangent."""
    x = rule.inputs(rng, a=a, b=b, c=c, d=d)
    g, h = rng.normal(size=(2, *rule.value(x).shape))
    for both, one, other in zip(
        rule.pulled(2 * g - h, x), rule.pulled(g, x), rule.pulled(h, x), strict=True
    ):
        rule.agree(
            both,
            2 * one - other,
            "gradient under 2g − h against 2·gradient(g) − gradient(h)",
            100 * rule.tolerance,
        )


@vjp.property("V04", memory="vjp", why=CARE, **letters)
def unchanged(rule: Vjp, rng: Rng, a: int, b: int, c: int, d: int) -> None:
    """Neither cotangent nor arrays are written into."""
    x = rule.inputs(rng, a=a, b=b, c=c, d=d)
    given = [rng.normal(size=rule.value(x).shape), *x]
    rule.pulled(given[0], x)
    for name, before, after in zip(
        ["the cotangent", *(f"argument {i}" for i in range(len(x)))],
        given,
        rule.passed,
        strict=True,
    ):
        never(
            (before.astype(rule.dtype) != after).ravel(),
            f"{name} was changed in place, at number {{0}}",
        )


@vjp.property("V05", why=CARE, **letters)
def forgetful(rule: Vjp, rng: Rng, a: int, b: int, c: int, d: int) -> None:
    """The gradient belongs to the arrays that came with it, whatever fn was called with last."""
    x = rule.inputs(rng, a=a, b=b, c=c, d=d)
    g = rng.normal(size=rule.value(x).shape)
    before = rule.pulled(g, x)
    rule.value(rule.inputs(rng, a=a, b=b, c=c, d=d))
    for place, (one, again) in enumerate(zip(before, rule.pulled(g, x), strict=True)):
        rule.agree(
            again, one, f"gradient of argument {place} after fn was called with other arrays"
        )


@vjp.property(
    "V06s",
    why="one float64 constant in a rule doubles the memory and halves the speed of all that comes behind",
    tier="strict",
    **letters,
)
def dtypes(rule: Vjp, rng: Rng, a: int, b: int, c: int, d: int) -> None:
    """A gradient has the dtype of its array."""
    x = rule.inputs(rng, a=a, b=b, c=c, d=d)
    for place, one in enumerate(rule.raw(rng.normal(size=rule.value(x).shape), x)):
        if str(np.asarray(one).dtype) != rule.dtype:
            came = np.asarray(one).dtype
            cause = f"your vjp gave {came} for arrays of {rule.dtype}: a constant or a cast of another dtype"
            raise Found(
                f"the gradient of argument {place} came in {came} where {rule.dtype} belongs", cause
            )
