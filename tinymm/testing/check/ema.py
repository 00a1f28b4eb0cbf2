# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of the momentum encoder's update, an exponential moving average (EMA) of a model's weights (He et al. 2020, §3.2; ALBEF §3.2).

Trap: m·w + (1 − m)·w is w up to rounding only. That the momentum encoder has no gradient, and is in
the checkpoint but not in the optimizer (E06), is no property of arrays: the tests of the models
check it.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..contract import Contract, never
from ..strategies import one_of, sizes
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
moved: dict[str, Any] = {"n": sizes(1, 6), "m": one_of(0.5, 0.0, 0.9, 0.995, 1.0)}
WEIGHTS = "with the weights swapped the average is the model of a step ago, and its targets say nothing new"
APART = (
    "an average that shares the model's memory changes with each of its steps, and averages nothing"
)


@dataclass
class Ema(Contract):
    """`fn(average (n,), online (n,), m) -> (n,)`: the average after one step, m·average + (1 − m)·online.

    `in_place=True` for a function that writes into the average, and returns anything.
    """

    in_place: bool = field(default=False, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {"in_place": (False, True)}

    def __call__(self, average: Array, online: Array, m: float) -> Array:
        """Return the average after a step: the very array that fn returned, or wrote into."""
        value = self.result("fn", average, online, m)
        if self.in_place:
            value = self.passed[0]
        self.numbers("fn", value, average.shape)
        return np.asarray(value)

    def online(self) -> Array:
        """Return the online weights that the last call was given, as it left them."""
        return self.passed[1]


ema = Suite("ema", Ema)


def pair(rng: Rng, n: int) -> tuple[Array, Array]:
    """Return an average and online weights."""
    return rng.normal(size=n), rng.normal(size=n)


@ema.property("E01", why=WEIGHTS, n=moved["n"])
def rests(step: Ema, rng: Rng, n: int) -> None:
    """At m = 1 the average stays what it was."""
    average, online = pair(rng, n)
    step.agree(step(average, online, 1.0), average, "average after a step at m = 1")


@ema.property("E02a", why=WEIGHTS, n=moved["n"])
def follows(step: Ema, rng: Rng, n: int) -> None:
    """At m = 0 the average becomes the online weights."""
    average, online = pair(rng, n)
    step.agree(step(average, online, 0.0), online, "average after a step at m = 0")


@ema.property("E02b", memory="fn", why=APART, **moved)
def shares_nothing(step: Ema, rng: Rng, n: int, m: float) -> None:
    """What happens later to the online weights does not reach the average."""
    found = step(*pair(rng, n), m)
    before, online = found.copy(), step.online()
    online += 1
    never(
        found != before,
        f"number {{0}} of the average changed with the online weights, after a step at m = {m:g}",
    )


@ema.property("E03", why=WEIGHTS, steps=sizes(1, 5), **moved)
def remembers(step: Ema, rng: Rng, n: int, m: float, steps: int) -> None:
    """After k steps beside constant online weights, mᵏ of what the average was apart from them is left."""
    first, online = pair(rng, n)
    average = first
    for _ in range(steps):
        average = step(average, online, m)
    step.agree(
        average, online + m**steps * (first - online), f"average after {steps} steps at m = {m:g}"
    )


@ema.property(
    "E04",
    memory="fn",
    why="the average follows the model; the other way round, training is undone a little at each step",
    **moved,
)
def online_unchanged(step: Ema, rng: Rng, n: int, m: float) -> None:
    """The online weights are unchanged after a step."""
    average, online = pair(rng, n)
    step(average, online, m)
    never(
        online.astype(step.dtype) != step.online(),
        f"number {{0}} of the online weights changed in a step at m = {m:g}",
    )


@ema.property(
    "E05",
    why="an average lies between what it is of; beyond, the averaged weights grow without end",
    **moved,
)
def between(step: Ema, rng: Rng, n: int, m: float) -> None:
    """The new average lies between the old one and the online weights."""
    average, online = pair(rng, n)
    found, near = step(average, online, m), 5 * step.tolerance
    outside = (found < np.minimum(average, online) - near) | (
        found > np.maximum(average, online) + near
    )
    never(
        outside,
        f"number {{0}} of the average lies outside of what it averages, after a step at m = {m:g}",
    )
