# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of the learned temperature: t is the log of the scale, and a temperature divides.

Trap: a clamp belongs after the optimizer's step. Inside the graph it kills the gradient at the
limit, and t never returns.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contract import Contract, Found, never
from ..strategies import one_of, orthonormal, sizes, unit
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
LIMIT = float(np.log(100))
scales: dict[str, Any] = {"n": sizes(2, 6), "scale": one_of(1.0, 3.0, 5.0)}
LOG = "t is the logarithm: a log stored as a scale, or a temperature as a multiplier, is wrong by orders of magnitude"
CLAMP = "beyond 100 training is unstable, and a limit inside the loss leaves t stuck there without a gradient"
CHAIN = "t learns through the exponential; without that factor it moves a hundred times too slowly, or the wrong way"
COSINES = (
    "answers to a user are cosines; scores of models with other temperatures cannot be compared"
)


@dataclass
class Temperature(Contract):
    """`fn(cosines (n, n), t) -> ()`: the contrastive loss of exp(t)·cosines, truth on the diagonal.

    Further properties run if given: `vjp(cotangent, cosines, t)`, gradients for both; `initial`, t
    before training; `clamp(t)`, applied after a step; `divided(cosines, temperature)`, the loss of
    cosines/temperature; `scores(I, T)`, what inference reports for raw rows.
    """

    vjp: Callable | None = field(default=None, kw_only=True)
    initial: float | None = field(default=None, kw_only=True)
    clamp: Callable | None = field(default=None, kw_only=True)
    divided: Callable | None = field(default=None, kw_only=True)
    scores: Callable | None = field(default=None, kw_only=True)

    def __call__(self, cosines: Array, t: float) -> float:
        """Return the loss at t."""
        return float(self.call("fn", cosines, np.asarray(t), shape=()))

    def slope(self, cosines: Array, t: float) -> float:
        """Return ∂L/∂t."""
        return float(self.gradient(1, 1.0, cosines, np.asarray(t)))

    def clamped(self, t: float) -> float:
        """Return t after the clamp."""
        return float(self.call("clamp", np.asarray(t), shape=()))


temperature = Suite("temperature", Temperature)


def random_cosines(rng: Rng, n: int) -> Array:
    """Return cosines of random rows."""
    I, T = unit(rng.normal(size=(2, n, 4)))
    return I @ T.T


@temperature.property("P01a", why=LOG, needs="initial")
def starts(loss: Temperature) -> None:
    """Training starts at exp(t) = 1/0.07."""
    loss.agree(np.exp(loss.numbers("initial", loss.initial, ())), 1 / 0.07, "exp of the initial t")


@temperature.property("P01b", why=LOG, needs="divided", **scales)
def divided(loss: Temperature, rng: Rng, n: int, scale: float) -> None:
    """A scale s and a temperature 1/s give one loss."""
    cosines = random_cosines(rng, n)
    by_temperature = loss.call("divided", cosines, np.asarray(1 / scale), shape=())
    loss.agree(
        by_temperature,
        loss(cosines, np.log(scale)),
        f"loss at temperature {1 / scale:.4g} against scale {scale:g}",
    )


@temperature.property("P01c", why=LOG, scale=one_of(1.0, 3.0, 1 / 0.07))
def multiplied(loss: Temperature, rng: Rng, scale: float) -> None:
    """Two pairs at log scale t cost the mean of four softplus differences of exp(t)·cosines."""
    cosines = random_cosines(rng, 2)
    (a, b), (c, d) = scale * cosines
    expected = np.logaddexp(0, [b - a, c - d, c - a, b - d]).mean()
    loss.agree(loss(cosines, np.log(scale)), expected, f"loss of two pairs at t = ln {scale:.4g}")


@temperature.property("P02a", why=CLAMP, needs="clamp")
def clamp_below(loss: Temperature, rng: Rng) -> None:
    """The clamp leaves t ≤ ln 100 as it is."""
    t = float(np.float32(rng.uniform(-5, LIMIT - 1e-3)))
    loss.agree(loss.clamped(t), t, "clamped t", tolerance=0)


@temperature.property("P02b", why=CLAMP, needs="clamp")
def clamp_above(loss: Temperature, rng: Rng) -> None:
    """The clamp brings a larger t to ln 100, and once is enough."""
    once = loss.clamped(LIMIT + rng.uniform(0.01, 5))
    loss.agree(once, LIMIT, "t above the limit, clamped")
    loss.agree(loss.clamped(once), once, "t clamped twice", tolerance=0)


@temperature.property("P02s", why=CLAMP, tier="strict", n=sizes(2, 6))
def clamp_outside(loss: Temperature, rng: Rng, n: int) -> None:
    """The loss itself does not clamp."""
    # Opposite pairs: their loss grows with the scale everywhere.
    at, above = loss(-np.eye(n), LIMIT), loss(-np.eye(n), LIMIT + 0.5)
    never(
        not above > at + 1,
        f"from t = ln 100 to ln 165 the loss of opposite pairs goes from {at:.6g} to {above:.6g}",
    )


@temperature.property("P03", why=CLAMP, needs="vjp", n=sizes(2, 6))
def alive_at_limit(loss: Temperature, rng: Rng, n: int) -> None:
    """At t = ln 100 the gradient of t is not zero."""
    cosines = random_cosines(rng, n)
    np.fill_diagonal(cosines, -1)  # far from solved: there is something to learn
    found = loss.slope(cosines, LIMIT)
    never(found == 0, "∂L/∂t at ln 100 is 0")


@temperature.property("P04", why=CHAIN, needs="vjp", **scales)
def chain(loss: Temperature, rng: Rng, n: int, scale: float) -> None:
    """∂L/∂t = Σ logits · ∂L/∂logits."""
    cosines, t = random_cosines(rng, n), np.asarray(np.log(scale))
    of_cosines = loss.gradient(0, 1.0, cosines, t)
    loss.agree(
        loss.slope(cosines, float(t)),
        (cosines * of_cosines).sum(),
        "∂L/∂t against Σ cosines · ∂L/∂cosines",
    )


@temperature.property("P05a", why=LOG, **scales)
def suits(loss: Temperature, n: int, scale: float) -> None:
    """A larger scale suits right pairs and punishes wrong ones."""
    right, wrong = np.eye(n), np.roll(np.eye(n), 1, axis=1)
    t, more = np.log(scale), np.log(scale) + 0.5
    never(
        not loss(right, more) < loss(right, t),
        "a larger scale raises the loss of right pairs, or leaves it",
    )
    never(
        not loss(wrong, more) > loss(wrong, t),
        "a larger scale lowers the loss of pairs rolled by one, or leaves it",
    )


@temperature.property("P05b", why=CHAIN, needs="vjp", **scales)
def slope_signs(loss: Temperature, n: int, scale: float) -> None:
    """∂L/∂t is negative for right pairs and positive for pairs rolled by one."""
    right, wrong = (
        loss.slope(cosines, np.log(scale)) for cosines in (np.eye(n), np.roll(np.eye(n), 1, axis=1))
    )
    never(
        not right < 0 < wrong,
        f"∂L/∂t is {right:.4g} for right pairs and {wrong:.4g} for pairs rolled by one",
    )


@temperature.property("P06", why=LOG, needs="divided", bad=one_of(0.0, -0.07, float("nan")))
def refused(loss: Temperature, rng: Rng, bad: float) -> None:
    """A temperature of 0, below 0, or NaN is refused."""
    cosines = random_cosines(rng, 3)
    try:
        loss.result("divided", cosines, np.asarray(bad))
    except Found:
        return
    raise Found(f"a temperature of {bad:g} was taken without an error")


@temperature.property("P07a", why=COSINES, needs="scores", n=sizes(1, 6), E=sizes(1, 5))
def reports_cosines(loss: Temperature, rng: Rng, n: int, E: int) -> None:
    """Inference reports cosines, without a temperature."""
    I, T = rng.normal(size=(2, n, E))
    loss.agree(
        loss.call("scores", I, T, shape=(n, n)), unit(I) @ unit(T).T, "score against the cosine"
    )


@temperature.property("P07b", why=COSINES, needs="scores", **scales)
def ranks(loss: Temperature, rng: Rng, n: int, scale: float) -> None:
    """Inference ranks as the scaled cosines do."""
    # Orthonormal texts and whole-number coordinates: no two cosines of a row are close.
    coordinates = np.array([rng.permutation(n) + 1.0 for _ in range(n)])
    I, T = coordinates @ (U := orthonormal(rng, n, n)), U
    order = np.argsort(-loss.call("scores", I, T, shape=(n, n)), axis=1)
    never(
        order != np.argsort(-scale * coordinates, axis=1), "query {0} ranks otherwise at place {1}"
    )
