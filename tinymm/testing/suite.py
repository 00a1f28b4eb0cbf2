"""Suites of properties: a property is declared in one place, and a suite runs them.

All the properties of a suite look at the same drawn cases. Drawing costs more than checking, so a
hundred cases of twenty properties cost little more than a hundred cases of one.
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator

from .contract import Contract, Found, show
from .strategies import seeds

TIERS = ("core", "strict")
QUIET = settings(
    deadline=None,
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
    print_blob=False,
    verbosity=Verbosity.quiet,
    suppress_health_check=list(HealthCheck),
)


@cache
def state(seed: int) -> Any:
    """Return where a seed's generator begins: setting a state is twenty times faster than seeding, and each property begins there."""
    return generator(seed).bit_generator.state


@dataclass(frozen=True)
class Finding:
    """One broken property: what was found, the input that shows it, and the cause where that is known without the table of causes."""

    found: str
    smallest: str
    cause: str = ""
    called: tuple[str, tuple] | None = None


@dataclass(frozen=True)
class Property:
    """A sentence about every right implementation of a contract, and the code that looks whether it is true.

    `needs` names optional callables without which it cannot run; `where` the options for which it
    is true; `memory` the callable that it asks what that does to the arrays it is given, of which
    it must be given no copies.
    """

    id: str
    sentence: str
    why: str
    body: Callable[..., None]
    tier: str = "core"
    needs: tuple[str, ...] = ()
    where: dict[str, tuple] = field(default_factory=dict)
    memory: str = ""
    draws: dict[str, str] = field(default_factory=dict)

    def hindrance(self, contract: Contract, tier: str) -> str:
        """Say why this contract does not run the property, or return an empty string."""
        if missing := [name for name in self.needs if getattr(contract, name) is None]:
            return f"give {' and '.join(name + '=' for name in missing)}"
        for name, allowed in self.where.items():
            if getattr(contract, name) not in allowed:
                return f"true only for {name}={' or '.join(map(repr, allowed))}"
        function = getattr(contract, self.memory, None) if self.memory else None
        if copies := getattr(getattr(function, "__self__", function), "copies", ""):
            return copies
        return "" if TIERS.index(self.tier) <= TIERS.index(tier) else f"of the {self.tier} tier"

    def examine(self, contract: Contract, case: dict[str, Any]) -> Finding | None:
        """Run the property on one drawn case."""
        contract.start()
        drawn = {name: case[key] for name, key in self.draws.items()}
        arguments = {name: value for name, value in drawn.items() if name != "seed"}
        if "seed" in drawn:
            contract.rng.bit_generator.state = state(drawn["seed"])
            arguments["rng"] = contract.rng
        try:
            self.body(contract, **arguments)
        except Found as found:
            called = (
                contract.last_call
                if found.__cause__ or "returned" in str(found)
                else contract.first_call
            )
            call = f"{called[0]}({', '.join(map(show, called[1]))})" if called else ""
            sizes = ", ".join(f"{name} = {show(value)}" for name, value in drawn.items())
            return Finding(
                str(found),
                "; ".join(filter(None, (call, sizes))) or "no input",
                found.cause,
                called,
            )
        return None


class Suite:
    """The properties of one contract, in the order in which they are read and reported."""

    def __init__(self, name: str, contract: type[Contract], like: "Suite | None" = None) -> None:
        # A suite like another begins with those of its properties that need nothing but the function.
        self.name = name
        self.contract = contract
        self.draws: dict[str, SearchStrategy] = dict(like.draws) if like else {"seed": seeds}
        self.properties: dict[str, Property] = (
            {key: item for key, item in like.properties.items() if not item.needs} if like else {}
        )

    def property(
        self,
        key: str,
        *,
        why: str,
        tier: str = "core",
        needs: str = "",
        where: dict[str, tuple] | None = None,
        memory: str = "",
        **draws: SearchStrategy,
    ) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """Declare the function below as a property: its docstring is the sentence, the draws are the strategies of its arguments.

        An argument `rng` needs no strategy: it is a generator made from a drawn seed.
        """

        def declare(body: Callable[..., None]) -> Callable[..., None]:
            keys = {name: f"{name} from {strategy!r}" for name, strategy in draws.items()}
            self.draws.update({keys[name]: strategy for name, strategy in draws.items()})
            if "rng" in inspect.signature(body).parameters:
                keys["seed"] = "seed"
            sentence = (inspect.getdoc(body) or "").splitlines()[0]
            self.properties[key] = Property(
                key, sentence, why, body, tier, tuple(needs.split()), where or {}, memory, keys
            )
            return body

        return declare

    def select(
        self, contract: Contract, tier: str, only: str | None = None
    ) -> tuple[list[Property], dict[str, str]]:
        """Return the properties that this contract runs, and for each of the others the reason why not.

        UsageError for another tier, or an id that the suite lacks.
        """
        if tier not in TIERS:
            raise UsageError(
                f"check: tier is one of 'core', 'strict'; {tier!r} came; pass one of these"
            )
        if only is not None and only not in self.properties:
            raise UsageError(
                f"check.{self.name}: {only!r} is no property of it; it has {', '.join(self.properties)}; pass one of these"
            )
        wanted = [item for item in self.properties.values() if only in (None, item.id)]
        hindrances = {item.id: item.hindrance(contract, tier) for item in wanted}
        return [item for item in wanted if not hindrances[item.id]], {
            key: reason for key, reason in hindrances.items() if reason
        }

    def findings(
        self, contract: Contract, properties: list[Property], examples: int
    ) -> dict[str, Finding]:
        """Run properties on the same cases; return the first finding of each that breaks."""
        found: dict[str, Finding] = {}

        def look(case: dict[str, Any]) -> None:
            for item in properties:
                if item.id not in found and (finding := item.examine(contract, case)):
                    found[item.id] = finding
            if len(found) == len(properties):
                raise Found  # nothing is left to look for

        with suppress(Found):
            self._search(look, examples, Phase.generate)
        return {item.id: found[item.id] for item in properties if item.id in found}

    def smallest(
        self, contract: Contract, broken: Property, examples: int, first: Finding
    ) -> Finding:
        """Shrink the case that breaks a property; it is met again because the draws do not depend on what is examined."""
        finding = first

        def look(case: dict[str, Any]) -> None:
            nonlocal finding
            if again := broken.examine(contract, case):
                finding = again
                raise Found

        try:
            self._search(look, examples, Phase.generate, Phase.shrink)
        except Found:
            return finding
        except Flaky:
            pass
        said = f"{first.found} (not every time: the function gives different results for one input)"
        return Finding(said, first.smallest, first.cause, first.called)

    def _search(
        self, look: Callable[[dict[str, Any]], None], examples: int, *phases: Phase
    ) -> None:
        # One inner function for every search: Hypothesis seeds a derandomized search by the function's source.
        @settings(QUIET, max_examples=examples, phases=phases)
        @given(case=st.fixed_dictionaries(self.draws))
        def search(case: dict[str, Any]) -> None:
            look(case)

        with np.errstate(all="ignore"):  # an overflow that matters shows in the numbers
            search()
