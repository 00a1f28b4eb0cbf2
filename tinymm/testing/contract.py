"""Contracts: a function with its conventions, called so that every misbehavior becomes a finding.

A right function of another convention (a divisor for a multiplier, blocked for allowed) fails
properties that are not about conventions. A contract states them once; the properties then speak
tinymm's own.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from traceback import walk_tb
from typing import Any, ClassVar

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator

from .hints import after_failure

TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
#: Libraries for whose functions there is an adapter, with their class of arrays and how they refuse
#: NumPy's.
ADAPTERS = {
    "torch": ("Tensor", "must be (a )?Tensor|expected .*Tensor"),
    "jax": ("Array", "(?!)"),
    "cupy": ("ndarray", "Unsupported type"),
}


class Found(AssertionError):
    """What a property found, in numbers; and its cause, where what was found is the cause, or shows it."""

    def __init__(self, found: str = "", cause: str = "") -> None:
        super().__init__(found)
        self.cause = cause


class PropertyFailed(AssertionError):
    """A function broke a property; the text is the report, `failed` holds the ids of all the properties that broke, `asked` names the call."""

    def __init__(self, report: str, failed: tuple[str, ...], asked: tuple = ()) -> None:
        super().__init__(report)
        self.failed, self.asked = failed, asked
        self._hint: str | None = None

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: the report, no line of ours above it, and below it a hint once there is reason (IPython asks for this)."""
        if self._hint is None:  # IPython asks twice, to show it and to store it
            self._hint = after_failure(self.asked) if self.asked else ""
        return str(self).split("\n") + [self._hint] * bool(self._hint)


class Stopped(KeyboardInterrupt):
    """A check was stopped from outside, by Ctrl-C or a grader's clock; the text says in which call."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass
class Contract:
    """A function and the conventions that it was promised to keep.

    Subclasses add options as fields, name the allowed words in `choices`, and define how their
    properties call it. UsageError for a word that is not allowed.
    """

    fn: Callable[..., Any]
    dtype: str = field(default="float64", kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {}
    positional: ClassVar[
        tuple[str, ...]
    ] = ()  # options that may stand behind the function without their names

    def __post_init__(self) -> None:
        for name, allowed in {"dtype": tuple(TOLERANCE), **self.choices}.items():
            if (given := getattr(self, name)) not in allowed:
                raise UsageError(
                    f"contract: {name} is one of {', '.join(map(repr, allowed))}; {given!r} came; pass one of these"
                )
        names = [option.name for option in fields(self)]
        if "vjp" in names and self.__dict__["vjp"] is None:
            self.vjp = getattr(self.fn, "vjp", None)
        self.tolerance = TOLERANCE[self.dtype]
        self.rng = generator(0)
        self.options = tuple(name for name in names if name != "fn")
        self.start()

    def start(self) -> None:
        """Forget the calls of the case before."""
        self.first_call: tuple[str, tuple] | None = (
            None  # by name, with the arguments as they were before the call
        )
        self.last_call: tuple[str, tuple] | None = None
        self.passed: tuple = ()  # what the last call was handed, as it left it

    def call(
        self, name: str, *arguments: Any, shape: tuple[int, ...] | None = None, finite: bool = True
    ) -> np.ndarray:
        """Call an option by name on copies in the promised dtype; anything but finite numbers of that shape is a finding."""
        return self.numbers(name, self.result(name, *arguments), shape, finite)

    def result(self, name: str, *arguments: Any) -> Any:
        """Call an option by name and return whatever comes; an exception is a finding."""
        self.passed = copies = tuple(self._prepared(argument) for argument in arguments)
        self.last_call = name, arguments
        self.first_call = self.first_call or self.last_call
        function = getattr(self, name)
        if not callable(function):
            came = type(function).__name__
            raise Found(
                f"{name} is no function but of type {came}",
                f"{came} came for {yours(name)}: pass its name, without calling it",
            )
        try:
            return function(*copies)
        except Exception as error:
            cause = (
                of_tensors(name, error)
                or f"{yours(name)} raised {raised(error)}{place(error, function)}"
            )
            of_shape = isinstance(
                error, (TypeError, ValueError, IndexError)
            )  # these may come of another convention
            raise Found(
                f"{name} raised {raised(error)}", self.or_convention(cause) if of_shape else cause
            ) from error

    def unsteady(self, name: str, arguments: tuple) -> str:
        """Say that two calls with one input differ, an empty text if they agree; what takes a generator may differ."""
        if any(isinstance(argument, np.random.Generator) for argument in arguments):
            return ""
        try:
            first, again = (
                np.asarray(self.result(name, *arguments), dtype=np.float64) for _ in range(2)
            )
            apart = np.abs(first - again).max(initial=0.0)
        except Exception:  # no numbers: another library's array may refuse in any way
            return ""
        if np.array_equal(first, again, equal_nan=True) or not apart > 1e-12 * np.abs(first).max(
            initial=0.0
        ):
            return ""
        return f"two calls differ: eval()? ({yours(name)} gave results {apart:.3g} apart for one input, as dropout does that is left on)"

    def numbers(
        self, name: str, value: Any, shape: tuple[int, ...] | None = None, finite: bool = True
    ) -> np.ndarray:
        """Return a result as an array (float64 unless boolean or integer) after looking at its shape and finiteness."""
        nothing = (
            no_array(name, value) if name == "fn" else self.or_convention(no_array(name, value))
        )
        try:
            array = np.asarray(value)
        except Exception as error:
            said = f"{name} returned {type(value).__name__}, of which no array can be made: {' '.join(str(error).split())[:80]}"
            raise Found(said, nothing) from None
        if array.dtype.kind not in "biuf":
            raise Found(
                f"{name} returned {type(value).__name__} where an array of numbers belongs", nothing
            )
        if shape is not None and array.shape != shape:
            cause = self.or_convention(
                f"{yours(name)} returned shape {array.shape} and not {shape}"
            )
            raise Found(f"{name} returned shape {array.shape} where {shape} belongs", cause)
        if finite and not np.isfinite(array).all():
            raise Found(
                f"{name} returned {array.size - np.isfinite(array).sum()} of {array.size} numbers NaN or infinite"
            )
        return array.astype(np.float64) if array.dtype.kind == "f" else array

    def indices(self, name: str, value: Any, shape: tuple[int, ...], below: int) -> np.ndarray:
        """Return a result as whole numbers of that shape in [0, below)."""
        array = self.numbers(name, value, shape)
        if array.dtype.kind == "f":
            cause = f"{yours(name)} gave {array.dtype}; indices and ids are whole: dtype=int"
            raise Found(f"{name} returned {array.dtype} where whole numbers belong", cause)
        array = array.astype(int)
        place = " at {0}" if array.ndim else ""
        never(
            (array < 0) | (array >= below), f"{name} returned a number outside [0, {below}){place}"
        )
        return array

    def gradient(self, position: int, cotangent: Any, *arguments: Any) -> np.ndarray:
        """Return the vjp's gradient for one of the inputs, in that input's shape."""
        value = self.result("vjp", cotangent, *arguments)
        if isinstance(value, (tuple, list)):
            if len(value) <= position:
                said = f"vjp returned {len(value)} gradients for {len(arguments)} inputs"
                raise Found(said, f"your {said}")
            value = value[position]
        return self.numbers("vjp", value, np.shape(arguments[position]))

    @property
    def convention(self) -> str:
        """The options that were promised, by name; an empty text where the contract has no choices."""
        return ", ".join(
            f"{name}={getattr(self, name)!r}" for name in self.options if name in self.choices
        )

    def or_convention(self, cause: str) -> str:
        """Return a cause that another convention can have, too."""
        return (
            f"{cause}; or another convention than {self.convention}" if self.convention else cause
        )

    def _prepared(self, argument: Any) -> Any:
        if isinstance(argument, list):
            return [self._prepared(item) for item in argument]
        if not isinstance(argument, np.ndarray):
            return argument
        return argument.astype(self.dtype) if argument.dtype.kind == "f" else argument.copy()

    def agree(self, found: Any, expected: Any, what: str, tolerance: float | None = None) -> None:
        """Demand equality to rounding (relative and absolute), or exactly with tolerance 0."""
        agree(found, expected, what, self.tolerance if tolerance is None else tolerance)


def yours(name: str) -> str:
    """Return how a report calls an option that is a function."""
    return "your function" if name == "fn" else f"your {name}"


def no_array(name: str, value: Any, what: str = "a NumPy array") -> str:
    """Return the cause of a result that is not what belongs there."""
    if value is None:
        return f"{yours(name)} returned None: a path of it has no return"
    if (library := type(value).__module__.split(".")[0].removesuffix("lib")) in ADAPTERS:
        return f"{yours(name)} returned an array of {library}: wrap it, on_{library}(fn)"
    return f"{yours(name)} returned {type(value).__name__}; return {what}"


def of_tensors(name: str, error: Exception) -> str:
    """Return the cause of an error that says that a function wants another library's arrays, an empty text for all others."""
    said = str(error)
    method = re.search(r"'numpy.ndarray' object has no attribute '(\w+)'", said)
    for library, (kind, asks) in ADAPTERS.items():
        if library in sys.modules and "numpy.ndarray" in said:
            if (
                re.search(asks, said)
                or method
                and hasattr(getattr(sys.modules[library], kind, None), method[1])
            ):
                return f"{yours(name)} takes arrays of {library}, and NumPy's came: wrap it, on_{library}(fn) ({raised(error)})"
    return ""


def raised(error: Exception) -> str:
    """Return an exception on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def place(error: Exception, function: Callable) -> str:
    """Return the line of a function's own file in which it raised, as a notebook shows no traceback; nothing where the call itself failed."""
    code = getattr(function, "__code__", None)
    frames = [
        frame
        for frame in walk_tb(error.__traceback__)
        if code is not None and frame[0].f_code.co_filename == code.co_filename
    ]
    return f" (line {frames[-1][1]}, in {frames[-1][0].f_code.co_name})" if frames else ""


def agree(found: Any, expected: Any, what: str, tolerance: float) -> None:
    """Raise `Found` with the worst place unless two arrays are equal to a tolerance, relative and absolute; NaN never is."""
    allowed = tolerance * (1 + np.abs(expected))
    excess = np.abs(np.subtract(found, expected)) - allowed
    if not (excess <= 0).all():
        worst = np.unravel_index(
            np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape
        )
        found, expected, allowed = (
            np.broadcast_to(array, excess.shape) for array in (found, expected, allowed)
        )
        place = f" at {tuple(map(int, worst))}" if worst else ""
        apart = abs(found[worst] - expected[worst])
        small = apart <= 1e-5 * (1 + abs(expected[worst])) and tolerance <= TOLERANCE["float64"]
        raise Found(
            f"{what}: {found[worst]:.6g} came where {expected[worst]:.6g} belongs{place} "
            f"({f'{apart:.1g} apart, ' if small else ''}allowed difference {allowed[worst]:.1g})",
            f"they differ by {apart:.1g} only: float32 somewhere inside? say dtype='float32'"
            if small
            else "",
        )


def never(condition: Any, message: str) -> None:
    """Raise `Found` with the first place where the condition is true; `{0}`, `{1}` … in the message are its indices."""
    places = np.argwhere(np.asarray(condition))
    if len(places):
        raise Found(
            message.format(*places[0])
            + (f" ({len(places)} such places)" if len(places) > 1 else "")
        )


def show(value: Any) -> str:
    """Return a value on one line: an array by its first 12 numbers."""
    if isinstance(value, list):
        return f"[{', '.join(map(show, value))}]"
    if isinstance(value, np.random.Generator):
        return "rng"  # its address says nothing; the seed that made it stands beside
    if not isinstance(value, np.ndarray):
        return f"{value:.6g}" if isinstance(value, float) else repr(value)
    shown = value if value.size <= 12 else value.ravel()[:12]
    text = " ".join(
        np.array2string(
            shown.astype(int) if shown.dtype == bool else shown, precision=4, separator=", "
        ).split()
    )
    return text if value.size <= 12 else f"{value.shape} array beginning {text}"
