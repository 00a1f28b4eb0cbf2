"""The door: `check.softmax(my_softmax)` says what holds, or raises with a report of five lines.

Each suite is declared in a file and found there. Read `masks`, `attention`, `softmax`,
`normalization`, `contrastive`, `retrieval` and `temperature`; for what the Q-Former learns from
`qformer_masks`, `queries` (ITC), `hard_negatives` and `matching` (ITM), and `language` (ITG); for
SigLIP `sigmoid`; for ALBEF `momentum_contrast` (its targets and its ITC), `masking` (MLM), and the
momentum encoder's `ema` and `feature_queue`; for anything at all `gradients` (a vjp) and `leaks` (a
model with a mask). A name of this package is the check itself: `check.softmax` runs the suite of
the file `softmax`. A suite of yours joins them with `check.register(suite)`.

>>> import numpy as np
>>> from tinymm.testing import check
>>> check.causal_mask(lambda n: np.tri(n, dtype=bool), examples="quick").passed
('M01', 'M02', 'M03', 'M04', 'M05', 'M06')
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from types import ModuleType
from typing import Any

from tinymm.arrays.errors import UsageError

from ..causes import CAUSES
from ..contract import Contract, PropertyFailed, Stopped, show
from ..hints import after_success, running_cell
from ..suite import Finding, Suite

PROFILES = {"quick": 30, "ci": 100, "deep": 2000}


@dataclass(frozen=True, repr=False)
class Report:
    """The ids that passed, and for each that was not run the reason; it reads as "holds: M01 M02 …".

    >>> Report(("S01", "S02"), {"S08a": "give vjp=", "S08b": "give vjp=", "A14s": "of the strict tier"})
    holds: S01 S02
    not run: S08a S08b (give vjp=); A14s (of the strict tier)
    """

    passed: tuple[str, ...]
    not_run: dict[str, str]

    def __repr__(self) -> str:
        reasons = dict.fromkeys(self.not_run.values())
        kept = [
            f"{' '.join(key for key, why in self.not_run.items() if why == reason)} ({reason})"
            for reason in reasons
        ]
        return f"holds: {' '.join(self.passed) or 'nothing was run'}" + (
            f"\nnot run: {'; '.join(kept)}" if kept else ""
        )


class Check:
    """A suite that can be run against a function.

    Call it with the function (and, behind it, what `check.X.contract.positional` names), its
    contract (`check.X.contract` describes the options), and how to run: `examples` ("quick", "ci",
    "deep" or a number of cases), `tier` ("core", or "strict" for all), `only` (one id), `verbose`.
    Returns a `Report`; raises `PropertyFailed`, and `UsageError` for an option that the contract
    lacks.
    """

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.contract = suite.contract
        self.__doc__ = suite.contract.__doc__

    def __repr__(self) -> str:
        return f"check.{self.suite.name}"

    def __call__(
        self,
        fn: Callable[..., Any],
        *more: Any,
        examples: int | str = "ci",
        tier: str = "strict",
        only: str | None = None,
        verbose: bool = False,
        **contract: Any,
    ) -> Report:
        """Run the properties; return what passed, or raise with the first that broke, at its smallest."""
        found = Examination(self, fn, self.named(more, contract), examples, tier, only)
        asked = (repr(self), tier, only, running_cell())
        try:
            if verbose:
                print("\n".join(found.lines()))
            if found.broken:
                raise PropertyFailed(
                    found.report(next(iter(found.broken))), tuple(found.broken), asked
                )
        except KeyboardInterrupt:
            name, arguments = found.promised.last_call or ("fn", ())
            raise Stopped(
                f"{self} was stopped, after calling {name}({', '.join(map(show, arguments))}); does the function come to an end?"
            ) from None
        after_success(asked)
        return Report(tuple(item.id for item in found.properties), found.not_run)

    def properties(
        self,
        fn: Callable[..., Any],
        *more: Any,
        examples: int | str = "ci",
        tier: str = "strict",
        **contract: Any,
    ) -> list[tuple[str, Callable[[], Report]]]:
        """Return (id, callable) for each property that the contract runs: `@pytest.mark.parametrize("name, holds", …)`."""
        contract = self.named(more, contract)
        ids = [item.id for item in self.suite.select(self.promise(fn, contract), tier)[0]]
        return [
            (key, partial(self, fn, examples=examples, tier=tier, only=key, **contract))
            for key in ids
        ]

    def named(self, more: tuple, contract: dict[str, Any]) -> dict[str, Any]:
        """Return the contract with what came without a name, under its name."""
        names = self.contract.positional
        if len(more) > len(names):
            takes = " and ".join(["a function", *names])
            raise UsageError(
                f"check.{self.suite.name} takes {takes}, and {1 + len(more)} came without a name; give options by name"
            )
        return {**dict(zip(names, more, strict=False)), **contract}

    def promise(self, fn: Callable[..., Any], contract: dict[str, Any]) -> Contract:
        """Return the contract of a function."""
        try:
            return self.contract(fn, **contract)
        except TypeError as error:
            options = ", ".join(self.contract(fn).options)
            raise UsageError(
                f"check.{self.suite.name} has the options {options}; {', '.join(contract)} came ({error})"
            ) from error


class Examination:
    """A function under a contract: which properties are run, which are not and why, and what a number of cases finds, once asked."""

    def __init__(
        self,
        one: Check,
        fn: Callable[..., Any],
        contract: dict[str, Any],
        examples: int | str = "ci",
        tier: str = "strict",
        only: str | None = None,
    ) -> None:
        self.suite = one.suite
        self.promised, self.count = one.promise(fn, contract), cases(examples)
        self.properties, self.not_run = self.suite.select(self.promised, tier, only)
        self.tier, self.only = tier, only
        self.given = contract if examples == "ci" else {**contract, "examples": examples}

    @cached_property
    def broken(self) -> dict[str, Finding]:
        """The first finding of each property that broke."""
        return self.suite.findings(self.promised, self.properties, self.count)

    def lines(self) -> list[str]:
        """Return a line for each property: whether it held, or why it was not run."""
        shown = []
        for item in self.suite.properties.values():
            if item in self.properties or item.id in self.not_run:
                mark = "✗" if item.id in self.broken else "–" if item.id in self.not_run else "✓"
                shown.append(
                    f"{mark} {item.id} {item.sentence}"
                    + (f" (not run: {self.not_run[item.id]})" if item.id in self.not_run else "")
                )
        return shown

    def report(self, key: str) -> str:
        """Return the five lines about a broken property, and a sixth that runs it again."""
        first, promised = self.suite.properties[key], self.promised
        smallest = self.suite.smallest(promised, first, self.count, self.broken[key])
        others = [other for other in self.broken if other != key]
        unsteady = (
            promised.unsteady(*smallest.called)
            if smallest.called and callable(getattr(promised, smallest.called[0], None))
            else ""
        )
        cause = (
            unsteady
            or smallest.cause
            or f"{self.mutants()}another convention than {promised.convention or 'the one of tinymm'}"
        )
        again = "".join(
            f", {name}=…" if callable(value) else f", {name}={value!r}"
            for name, value in self.given.items()
        )
        return "\n".join(
            (
                f"{first.id} ({first.tier}) {first.sentence}",
                f"found: {smallest.found}" + (f"; {', '.join(others)} broke too" if others else ""),
                f"smallest failing input: {smallest.smallest}",
                f"why it matters: {first.why}",
                f"likely cause: {cause}",
                f"again: check.{self.suite.name}(fn{again}, only={first.id!r})",
            )
        )

    def mutants(self) -> str:
        """Name the mutants that break the same properties: of one property alone, the others are run for it."""
        properties, broken = self.properties, self.broken
        if self.only:
            properties, _ = self.suite.select(self.promised, self.tier)
            broken = self.suite.findings(self.promised, properties, self.count)
        return likely_cause(self.suite.name, set(broken), {item.id for item in properties})


def cases(examples: int | str) -> int:
    """Return a number of cases for a profile's name or a number; UsageError for anything else."""
    count = PROFILES.get(examples) if isinstance(examples, str) else examples
    if not isinstance(count, int) or count < 1:
        names = ", ".join(map(repr, PROFILES))
        raise UsageError(
            f"check: examples is {names} or a whole number above 0; {examples!r} came; pass one of these"
        )
    return count


def likely_cause(suite: str, broken: set[str], ran: set[str]) -> str:
    """Name the nearest mutants, which break the nearest set of properties, or nothing if none is near.

    >>> likely_cause("causal_mask", {"M02", "M06"}, {"M01", "M02", "M03", "M04", "M05", "M06"})
    'the same properties break as with “sees one token ahead”; or '
    >>> likely_cause("masked_softmax", {"S06c", "S06s"}, {"S06a", "S06b", "S06c", "S06s"})
    'the same properties break as with “minus ten thousand” or “maximum of the blocked too”; or '
    >>> likely_cause("softmax", {"S01", "S02"}, {"S01", "S02"})
    'all properties break: look first at what it gives for this input; or '
    """
    if broken == ran:
        return (
            "all properties break: look first at what it gives for this input; or "
            if len(ran) > 1
            else ""
        )
    known = {name: set(ids.split()) & ran for name, ids in _CAUSES.get(suite, {}).items()}
    apart = {name: len(ids ^ broken) / len(ids | broken) for name, ids in known.items() if ids}
    nearest = min(apart.values(), default=1.0)
    if nearest > 1 / 3:
        return ""
    names = [f"“{name}”" for name, distance in apart.items() if distance == nearest]
    said = (
        " or ".join(names)
        if len(names) < 3
        else f"{names[0]}, {names[1]} and {len(names) - 2} other{'s' * (len(names) > 3)}"
    )
    return (
        f"{'the same' if nearest == 0 else 'nearly the same'} properties break as with {said}; or "
    )


CHECKS: dict[str, Check] = {}
_CAUSES = dict(CAUSES)


def register(suite: Suite, causes: dict[str, str] | None = None) -> Check:
    """Make a suite a check of this package, `check.NAME`, and return it; a file may do so again.

    `causes` are the mutants that keep it honest, each with the ids of the properties that
    it breaks ("M02 M06"): the likely cause of a failure is the nearest of them. UsageError for a
    name that is taken.
    """
    there, own = globals().get(suite.name), suite.contract.__module__
    taken = there.contract.__module__ != own if isinstance(there, Check) else there is not None
    if not suite.name.isidentifier() or taken and not isinstance(there, ModuleType):
        raise UsageError(
            f"check: a suite has a name of its own, and {suite.name!r} is taken or no name; "
            "choose another"
        )
    if causes is not None:
        _CAUSES[suite.name] = causes
    CHECKS[suite.name] = globals()[suite.name] = Check(suite)
    return CHECKS[suite.name]


def _discover() -> None:
    """Register the suites of the files beside this one, file by file."""
    for module in pkgutil.iter_modules(__path__):
        for item in list(vars(importlib.import_module(f"{__name__}.{module.name}")).values()):
            if isinstance(item, Suite) and item.name not in CHECKS:
                register(item)


_discover()

# What `_discover` has found, for editors and type checkers, which do not run it. Nothing depends on
# this list: a suite that is not in it is a check as well.
attention: Check
causal_mask: Check
contrastive_loss: Check
ema: Check
hard_negatives: Check
itc_queue: Check
itm_loss: Check
itm_pairs: Check
layer_norm: Check
lm_loss: Check
log_softmax: Check
mask_algebra: Check
masked_softmax: Check
max_over_queries: Check
mlm_masking: Check
no_leak: Check
padding_mask: Check
prefix_mask: Check
qformer_masks: Check
queue: Check
reachability: Check
recall: Check
sigmoid_loss: Check
soft_targets: Check
softmax: Check
temperature: Check
vjp: Check
