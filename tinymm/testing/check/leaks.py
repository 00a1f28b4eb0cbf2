# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of any model with a mask: what a row cannot reach does not move it, and what it can reach does.

A mask is judged by what the rows know in the end, not by how it looks. Inputs are exchanged for
random vectors, since a constant that is added vanishes in a layer norm; and something must move,
since a model that answers always the same leaks nothing.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..contract import Contract, Found, never
from ..strategies import random_mask, sizes
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
LEAK = "a model that sees its answer has a wonderful loss, and has learned to copy"
BATCH = "sequences that read each other make a loss depend on who stands in the batch, and no single example shows it"


@dataclass
class NoLeak(Contract):
    """`fn(x (B, T, width), mask (B, 1, T, T)) -> (B, T, …)`, True = may attend: a layer, a stack of them, or a whole model in eval mode.

    `layers` counts those that mix rows, each with the same mask: what two of them pass on, one by
    one, may arrive. `residual=False` where a row is not handed on, and moves its output through its
    query alone. `width` is the width that the model takes. A model with position embeddings is one
    too.
    """

    layers: int = field(default=1, kw_only=True)
    residual: bool = field(default=True, kw_only=True)
    width: int = field(default=8, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {"residual": (True, False)}

    def __call__(self, x: Array, mask: Array) -> Array:
        """Return the outputs as (B, T, numbers)."""
        found = self.call("fn", x, mask[:, None])
        if found.shape[:2] != x.shape[:2] or found.ndim < 3:
            wanted = f"({x.shape[0]}, {x.shape[1]}, …)"
            raise Found(
                f"fn returned shape {found.shape} where {wanted} belongs",
                f"your function returned shape {found.shape} and not {wanted}",
            )
        return found.reshape(*x.shape[:2], -1)

    def reach(self, mask: Array, itself: bool = True) -> Array:
        """Return whom each row can know in the end, itself by its query at least: (T, T)."""
        once = mask | (np.eye(len(mask), dtype=bool) & itself)
        known = np.eye(len(mask), dtype=bool)
        for _ in range(self.layers):
            known = once @ known
        return known

    def moved(self, x: Array, mask: Array, j: int, by: Array) -> Array:
        """Return by how much each row of the first sequence moves as row j becomes another: (T,)."""
        other = x.copy()
        other[0, j] = by
        return np.abs(self(other, mask) - self(x, mask))[0].max(axis=-1)


no_leak = Suite("no_leak", NoLeak)
letters: dict[str, Any] = {"T": sizes(2, 6)}


def case(model: NoLeak, rng: Rng, B: int, T: int) -> tuple[Array, Array]:
    """Return inputs (B, T, width) and masks (B, T, T) with an open entry in each row."""
    return rng.normal(size=(B, T, model.width)), random_mask(rng, B * T, T).reshape(B, T, T)


@no_leak.property("W01", why=LEAK, **letters)
def out_of_reach(model: NoLeak, rng: Rng, T: int) -> None:
    """A row does not move when one changes that it cannot reach in all its layers."""
    x, mask = case(model, rng, 1, T)
    for j in range(T):
        moved = np.where(
            model.reach(mask[0])[:, j], 0, model.moved(x, mask, j, rng.normal(size=model.width))
        )
        never(
            moved > 100 * model.tolerance,
            f"row {{0}} moved by {moved.max():.3g} as row {j} changed, which it cannot reach",
        )


@no_leak.property("W02", why="a model that looks at nothing passes every test of leaks", **letters)
def within_reach(model: NoLeak, rng: Rng, T: int) -> None:
    """A row moves when one changes that it may look at."""
    x, mask = case(model, rng, 1, T)
    reach = model.reach(mask[0], model.residual)
    for j in range(T):
        moved = model.moved(x, mask, j, 3 * rng.normal(size=model.width))
        never(
            reach[:, j] & (moved <= 1e-12),
            f"row {{0}} did not move as row {j} changed, which it reaches",
        )


@no_leak.property("W03", why=BATCH, B=sizes(2, 3), **letters)
def alone(model: NoLeak, rng: Rng, B: int, T: int) -> None:
    """A sequence of a batch depends on itself and its own mask."""
    x, mask = case(model, rng, B, T)
    whole = model(x, mask)
    for b in range(B):
        model.agree(
            model(x[b : b + 1], mask[b : b + 1])[0],
            whole[b],
            f"sequence {b} alone against the same in its batch",
            100 * model.tolerance,
        )


@no_leak.property(
    "W04",
    why="words are generated one by one: what was said must not change as more is said",
    t=sizes(1, 5),
    **letters,
)
def prefix(model: NoLeak, rng: Rng, T: int, t: int) -> None:
    """Under a causal mask the outputs of a prefix are the prefix of the outputs."""
    t, x, mask = min(t, T - 1), rng.normal(size=(1, T, model.width)), np.tri(T, dtype=bool)[None]
    model.agree(
        model(x[:, :t], mask[:, :t, :t]),
        model(x, mask)[:, :t],
        f"outputs of the first {t} rows alone",
        100 * model.tolerance,
    )


@no_leak.property("W05s", why=LEAK, tier="strict", **letters)
def huge(model: NoLeak, rng: Rng, T: int) -> None:
    """A row out of reach does not matter, however large."""
    x, mask = case(model, rng, 1, T)
    for j in range(T):
        moved = np.where(
            model.reach(mask[0])[:, j],
            0,
            model.moved(x, mask, j, 1e5 * rng.normal(size=model.width)),
        )
        never(
            moved > 100 * model.tolerance,
            f"row {{0}} moved by {moved.max():.3g} as row {j} grew to 10⁵, which it cannot reach",
        )
