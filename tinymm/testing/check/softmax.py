# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of softmax, log-softmax and masked softmax: all three are probabilities over one axis.

Trap: a cotangent of ones is blind here, because the gradient along ones is zero for the right vjp
and for an absent one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..contract import Contract, never
from ..strategies import one_of, random_mask, sizes
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
letters: dict[str, Any] = {"rows": sizes(1, 4), "n": sizes(2, 6)}
SCORES = "scores of any size come in; the exponential of a large one is infinite and of two very negative ones 0/0"
APART = "normalizing over the wrong axis compares captions with each other that were never rivals"
VJP = "a wrong gradient of the softmax still lets a loss fall, only to the wrong place"


@dataclass
class Softmax(Contract):
    """`fn(x (rows, n))`: probabilities along `axis`; gradients too with `vjp(cotangent, x)`."""

    axis: int = field(default=-1, kw_only=True)
    vjp: Callable | None = field(default=None, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {"axis": (-1, 1, 0)}

    def turned(self, *arrays: Array) -> tuple[Array, ...]:
        """Bring the last axis to where the contract wants it, or back."""
        return tuple(array.T if self.axis == 0 else array for array in arrays)

    def applied(self, *arrays: Array) -> Array:
        """Return fn along the last axis."""
        given = self.turned(*arrays)
        return self.turned(self.call("fn", *given, shape=given[0].shape))[0]

    def __call__(self, x: Array) -> Array:
        """Return the probabilities."""
        return self.applied(x)

    def log(self, x: Array) -> Array:
        """Return the logarithms of the probabilities."""
        return np.log(np.maximum(self(x), 1e-300))

    def pulled(self, cotangent: Array, x: Array) -> Array:
        """Return the vjp along the last axis."""
        return self.turned(self.gradient(0, *self.turned(cotangent, x)))[0]


softmax = Suite("softmax", Softmax)


@softmax.property("S01", why=APART, **letters)
def sums_to_one(p: Softmax, rng: Rng, rows: int, n: int) -> None:
    """Probabilities: none negative, and they sum to 1 along the axis."""
    found = p(rng.normal(size=(rows, n)))
    never(found < 0, "the probability at ({0}, {1}) is negative")
    p.agree(found.sum(axis=1), 1, "sum along the axis")


@softmax.property("S02", why=SCORES, **letters)
def shift(p: Softmax, rng: Rng, rows: int, n: int) -> None:
    """A constant added to a row changes nothing: p(x + c) = p(x)."""
    x = rng.normal(size=(rows, n))
    p.agree(
        p(x + rng.uniform(-50, 50, size=(rows, 1))),
        p(x),
        "probabilities after a constant was added to each row",
    )


@softmax.property("S03", why=SCORES, **letters)
def huge(p: Softmax, rng: Rng, rows: int, n: int) -> None:
    """A logit of 10⁴ beside zeros gives 1 and 0."""
    winner = rng.integers(n, size=rows)[:, None] == np.arange(n)
    p.agree(p(1e4 * winner), winner, "probabilities beside a logit of 10⁴")


@softmax.property(
    "S04",
    why="another base or a hidden temperature makes every probability wrong by a power, and no sum shows it",
    **letters,
)
def ratios(p: Softmax, rng: Rng, rows: int, n: int) -> None:
    """Differences of logarithms are differences of logits: ln p_i − ln p_j = x_i − x_j."""
    x = rng.uniform(-20, 20, size=(rows, n))
    p.agree(
        np.diff(p.log(x)),
        np.diff(x),
        "difference of neighboring log-probabilities",
        tolerance=100 * p.tolerance,
    )


@softmax.property("S05", why=APART, rows=sizes(2, 4), n=sizes(2, 6))
def rows_apart(p: Softmax, rng: Rng, rows: int, n: int) -> None:
    """Rows do not know each other."""
    x, b = rng.normal(size=(rows, n)), rng.integers(rows)
    other = rng.normal(size=(rows, n))
    other[b] = x[b]
    p.agree(p(other)[b], p(x)[b], f"probabilities of row {b} after the other rows changed")


@softmax.property("S08a", why=VJP, needs="vjp", **letters)
def vjp_constant(p: Softmax, rng: Rng, rows: int, n: int) -> None:
    """The vjp of a constant is 0."""
    x = rng.normal(size=(rows, n))
    p.agree(
        p.pulled(np.ones_like(x) * rng.normal(size=(rows, 1)), x),
        0,
        "vjp of a cotangent that is constant in a row",
    )


@softmax.property("S08b", why=VJP, needs="vjp", **letters)
def vjp_symmetric(p: Softmax, rng: Rng, rows: int, n: int) -> None:
    """The jacobian is symmetric: u·vjp(v) = v·vjp(u)."""
    x, u, v = rng.normal(size=(3, rows, n))
    p.agree(
        (u * p.pulled(v, x)).sum(axis=1),
        (v * p.pulled(u, x)).sum(axis=1),
        "u·vjp(v) against v·vjp(u)",
    )


@softmax.property("S08c", why=VJP, needs="vjp", **letters)
def vjp_formula(p: Softmax, rng: Rng, rows: int, n: int) -> None:
    """The vjp of g is p(g − p·g)."""
    x, g = rng.normal(size=(2, rows, n))
    y = p(x)
    p.agree(
        p.pulled(g, x), y * (g - (y * g).sum(axis=1, keepdims=True)), "vjp of a random cotangent"
    )


@dataclass
class LogSoftmax(Softmax):
    """`fn(x (rows, n))`: logarithms of the probabilities along `axis`; gradients too with `vjp(cotangent, x)`."""

    def __call__(self, x: Array) -> Array:
        """Return the probabilities."""
        return np.exp(self.applied(x))

    def log(self, x: Array) -> Array:
        """Return the logarithms as they came."""
        return self.applied(x)


log_softmax = Suite("log_softmax", LogSoftmax, like=softmax)


@log_softmax.property("S07a", why=SCORES, rows=sizes(1, 4), far=one_of(2000.0, 100.0, 1e4))
def log_of_tiny(p: LogSoftmax, rows: int, far: float) -> None:
    """The logarithm of (0, −2000) is −2000, not −∞."""
    x = np.tile([0.0, -far], (rows, 1))
    p.agree(p.log(x), x, f"log-probabilities of (0, -{far:g})")


@log_softmax.property("S07b", why=APART, **letters)
def log_of_sum(p: LogSoftmax, rng: Rng, rows: int, n: int) -> None:
    """The logsumexp of the result is 0."""
    p.agree(
        np.log(np.exp(p.log(rng.normal(size=(rows, n)))).sum(axis=1)),
        0,
        "logsumexp of the log-probabilities",
    )


@log_softmax.property("S07c", why=VJP, needs="vjp", **letters)
def log_vjp(p: LogSoftmax, rng: Rng, rows: int, n: int) -> None:
    """The vjp of g is g − p Σg."""
    x, g = rng.normal(size=(2, rows, n))
    p.agree(p.pulled(g, x), g - p(x) * g.sum(axis=1, keepdims=True), "vjp of a random cotangent")


@dataclass
class MaskedSoftmax(Softmax):
    """`fn(x (rows, n), mask)`: softmax along `axis` over what the mask keeps, True = kept; `vjp(cotangent, x, mask)`.

    `empty_row` is what a row that keeps nothing gives: "zeros", "nan" or "any".
    """

    empty_row: str = field(default="zeros", kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {**Softmax.choices, "empty_row": ("zeros", "nan", "any")}

    def __call__(self, x: Array) -> Array:
        """Return the probabilities."""
        return self.applied(x, np.ones(x.shape, dtype=bool))


masked_softmax = Suite("masked_softmax", MaskedSoftmax, like=softmax)


@masked_softmax.property("S06a", why="a little weight on what is hidden is a leak", **letters)
def blocked_zero(p: MaskedSoftmax, rng: Rng, rows: int, n: int) -> None:
    """A blocked entry gets exactly 0."""
    mask = random_mask(rng, rows, n)
    never(
        (p.applied(rng.normal(size=(rows, n)), mask) != 0) & ~mask,
        "the blocked entry ({0}, {1}) has a weight",
    )


@masked_softmax.property("S06b", why="masked after the sum, weights lose mass", **letters)
def kept_softmax(p: MaskedSoftmax, rng: Rng, rows: int, n: int) -> None:
    """The kept entries are the softmax of themselves."""
    x, mask = 3 * rng.normal(size=(rows, n)), random_mask(rng, rows, n)
    e = np.exp(x) * mask
    p.agree(
        p.applied(x, mask),
        e / e.sum(axis=1, keepdims=True),
        "weights against the softmax of the kept entries",
    )


@masked_softmax.property("S06c", why=SCORES, tier="strict", **letters)
def blocked_huge(p: MaskedSoftmax, rng: Rng, rows: int, n: int) -> None:
    """What stands at a blocked entry does not matter, however large."""
    x, mask = rng.normal(size=(rows, n)), random_mask(rng, rows, n)
    p.agree(
        p.applied(np.where(mask, x, 1e30), mask),
        p.applied(x, mask),
        "weights as the blocked entries grew to 10³⁰",
    )


@masked_softmax.property(
    "S06s",
    why="one caption of padding alone turns the loss of the batch to NaN",
    tier="strict",
    where={"empty_row": ("zeros", "nan")},
    **letters,
)
def nothing_kept(p: MaskedSoftmax, rng: Rng, rows: int, n: int) -> None:
    """A row that keeps nothing gives zeros."""
    mask, b = random_mask(rng, rows, n), rng.integers(rows)
    mask[b] = False
    given = p.turned(rng.normal(size=(rows, n)), mask)
    found = p.turned(p.call("fn", *given, shape=given[0].shape, finite=p.empty_row == "zeros"))[0]
    never(
        found[b] != 0 if p.empty_row == "zeros" else ~np.isnan(found[b]),
        f"row {b} keeps nothing; its entry {{0}} is not {p.empty_row}",
    )
    never(~np.isfinite(np.delete(found, b, axis=0)), "a row that keeps nothing made another NaN")


@masked_softmax.property("S06d", why=VJP, needs="vjp", **letters)
def masked_vjp(p: MaskedSoftmax, rng: Rng, rows: int, n: int) -> None:
    """The vjp of g is p(g − p·g): 0 at blocked entries."""
    (x, g), mask = rng.normal(size=(2, rows, n)), random_mask(rng, rows, n)
    y = p.applied(x, mask)
    found = p.turned(p.gradient(0, *p.turned(g, x, mask)))[0]
    p.agree(found, y * (g - (y * g).sum(axis=1, keepdims=True)), "vjp of a random cotangent")
