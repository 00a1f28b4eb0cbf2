# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of CLIP's contrastive loss.

Traps: a randomly initialized model's loss is not ln n (a uniform prediction gives ln n); a constant
added to a row of logits changes the whole loss and only one half ignores it (C17); gradients summed
over small batches are not those of the large one. A uniform prediction is also the weakest test:
most mutants pass it, and swapping the modalities finds the commonest.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..contract import Contract, never
from ..strategies import one_of, orthonormal, sizes, unit
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
SCALES = one_of(1.0, 0.1, 5.0, 1 / 0.07, 100.0)
pairs: dict[str, Any] = {"n": sizes(1, 6), "E": sizes(1, 5), "scale": SCALES}
two_pairs: dict[str, Any] = {"n": sizes(2, 6), "scale": SCALES}
BOTH = "a loss of one direction trains a model that finds captions for pictures and not pictures for captions"
OWN = "the positive of picture i is caption i: any other label teaches nonsense at the same speed"
COSINE = "the paper compares directions; without unit rows the model wins by growing its features"
SCALE = "the scale says how sharp the softmax is; inverted or squared, training stalls or explodes"
LEVEL = "without the right level, losses of two batch sizes or two papers cannot be compared"
GRADIENT = (
    "a gradient that misses an encoder or a half still lets the loss fall, and the model ends worse"
)


@dataclass
class ContrastiveLoss(Contract):
    """`fn(I (n, E), T (n, E), scale) -> ()`, pair i in row i of both; `fn(logits (n, n))` with `inputs="logits"`.

    `inputs` are "raw" rows, "unit" rows, or "logits"; `scale` comes to "multiply", to "divide" (a
    temperature), or as "log". Further properties run if given: `vjp(cotangent, *fn's arguments)`, a
    gradient for each; `half(logits, axis)`, the softmax along the axis; `shard(logits (b, n),
    rank)`, the local picture→text half; `soft(logits, targets)`, rows against targets; `blocked`,
    fn computed by blocks; `cached`, fn's gradients by the cached-gradient step.
    """

    inputs: str = field(default="raw", kw_only=True)
    scale: str = field(default="multiply", kw_only=True)
    vjp: Callable | None = field(default=None, kw_only=True)
    half: Callable | None = field(default=None, kw_only=True)
    shard: Callable | None = field(default=None, kw_only=True)
    soft: Callable | None = field(default=None, kw_only=True)
    blocked: Callable | None = field(default=None, kw_only=True)
    cached: Callable | None = field(default=None, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {
        "inputs": ("raw", "unit", "logits"),
        "scale": ("multiply", "divide", "log"),
    }

    def given(self, I: Array, T: Array, scale: float) -> tuple:
        """Return the arguments of fn for rows and a multiplier."""
        if self.inputs != "raw":
            I, T = unit(I), unit(T)
        if self.inputs == "logits":
            return (scale * I @ T.T,)
        return (
            I,
            T,
            np.asarray({"multiply": scale, "divide": 1 / scale, "log": np.log(scale)}[self.scale]),
        )

    def __call__(self, I: Array, T: Array, scale: float, name: str = "fn") -> float:
        """Return the loss for rows and a multiplier."""
        return float(self.call(name, *self.given(I, T, scale), shape=()))

    def slopes(self, I: Array, T: Array, scale: float, tower: int) -> Array:
        """Return ∂L/∂logits from the gradient of one encoder's rows.

        The other encoder's rows must be orthonormal, and this one's rows must have a last direction
        that the other lacks: what a normalization took out of the gradient stands in that
        direction, and is put back.
        """
        given = self.given(I, T, scale)
        if self.inputs == "logits":
            return self.gradient(0, 1.0, *given)
        rows, other = (I, T) if tower == 0 else (T, I)
        found = self.gradient(tower, 1.0, *given) * (
            np.linalg.norm(rows, axis=1, keepdims=True) if self.inputs == "raw" else 1
        )
        found = found - found[:, -1:] / unit(rows)[:, -1:] * unit(rows)
        slopes = found @ other.T / scale
        return slopes if tower == 0 else slopes.T


contrastive = Suite("contrastive_loss", ContrastiveLoss)


def features_of(rng: Rng, n: int, E: int) -> tuple[Array, Array]:
    """Return n raw rows of each encoder."""
    return rng.normal(size=(n, E)), rng.normal(size=(n, E))


def crooked(rng: Rng, n: int) -> tuple[Array, Array]:
    """Return n rows with a last direction of their own, and n orthonormal rows without it."""
    rows = rng.normal(size=(n, n + 1))
    rows[:, -1] = 1
    return rows, np.pad(orthonormal(rng, n, n), ((0, 0), (0, 1)))


def cross_entropy(S: Array, labels: Array) -> float:
    """Return the mean over rows of −ln softmax at the label."""
    top = S.max(axis=1, keepdims=True)
    logs = S - top - np.log(np.exp(S - top).sum(axis=1, keepdims=True))
    return float(-logs[np.arange(len(S)), labels].mean())


@contrastive.property("C01", why=LEVEL, **pairs)
def equal_rows(loss: ContrastiveLoss, rng: Rng, n: int, E: int, scale: float) -> None:
    """Equal rows give ln n."""
    I, T = (np.tile(rng.normal(size=E), (n, 1)) for _ in range(2))
    loss.agree(loss(I, T, scale), np.log(n), f"loss of {n} equal pairs against ln {n}")


@contrastive.property("C02", why=BOTH, **pairs)
def swapped(loss: ContrastiveLoss, rng: Rng, n: int, E: int, scale: float) -> None:
    """Swapping pictures and texts changes nothing."""
    I, T = features_of(rng, n, E)
    loss.agree(loss(T, I, scale), loss(I, T, scale), "fn(T, I) against fn(I, T)")


@contrastive.property("C03", why=OWN, **pairs)
def permuted(loss: ContrastiveLoss, rng: Rng, n: int, E: int, scale: float) -> None:
    """Permuting the pairs changes nothing."""
    (I, T), order = features_of(rng, n, E), rng.permutation(n)
    loss.agree(
        loss(I[order], T[order], scale), loss(I, T, scale), "loss with the pairs in another order"
    )


@contrastive.property("C04", why=OWN, n=sizes(2, 6), scale=one_of(1.0, 5.0, 100.0))
def rolled(loss: ContrastiveLoss, rng: Rng, n: int, scale: float) -> None:
    """Right pairs cost less than pairs rolled by one."""
    U = orthonormal(rng, n, n)
    right, wrong = loss(U, U, scale), loss(U, np.roll(U, 1, axis=0), scale)
    never(not right < wrong, f"right pairs cost {right:.6g}, pairs rolled by one {wrong:.6g}")


@contrastive.property("C05", why=SCALE, n=sizes(1, 6), scale=SCALES)
def orthonormal_pairs(loss: ContrastiveLoss, rng: Rng, n: int, scale: float) -> None:
    """Orthonormal pairs cost ln(1 + (n − 1)·e^−s)."""
    U = orthonormal(rng, n, n + 1)
    loss.agree(
        loss(U, U, scale),
        np.log1p((n - 1) * np.exp(-scale)),
        f"loss of {n} orthonormal pairs at scale {scale:g}",
    )


@contrastive.property("C06", why=LEVEL, **pairs)
def not_negative(loss: ContrastiveLoss, rng: Rng, n: int, E: int, scale: float) -> None:
    """The loss is never negative."""
    found = loss(*features_of(rng, n, E), scale)
    never(found < -loss.tolerance, f"the loss is {found:.6g}")


@contrastive.property("C07", why=LEVEL, E=sizes(1, 5), scale=SCALES)
def one_pair(loss: ContrastiveLoss, rng: Rng, E: int, scale: float) -> None:
    """One pair costs nothing."""
    loss.agree(loss(*features_of(rng, 1, E), scale), 0, "loss of a single pair")


@contrastive.property("C08", why=COSINE, where={"inputs": ("raw",)}, **pairs)
def lengths(loss: ContrastiveLoss, rng: Rng, n: int, E: int, scale: float) -> None:
    """The length of a row does not matter."""
    I, T = unit(rng.normal(size=(2, n, E)))
    a, b = 10 ** rng.uniform(-2, 2, size=(2, n, 1))
    loss.agree(loss(a * I, b * T, scale), loss(I, T, scale), "loss after rows were lengthened")


@contrastive.property("C09", why=COSINE, where={"inputs": ("raw", "unit")}, **pairs)
def turned(loss: ContrastiveLoss, rng: Rng, n: int, E: int, scale: float) -> None:
    """Rotating the rows of both encoders alike changes nothing."""
    (I, T), R = features_of(rng, n, E), orthonormal(rng, E, E)
    loss.agree(
        loss(I @ R, T @ R, scale),
        loss(I, T, scale),
        "loss after one rotation of both encoders' rows",
    )


@contrastive.property(
    "C10", why=SCALE, n=sizes(1, 6), E=sizes(1, 5), scale=one_of(1.0, 0.1, 1e-3, 0.01)
)
def near_chance(loss: ContrastiveLoss, rng: Rng, n: int, E: int, scale: float) -> None:
    """The loss stays within 2s of ln n."""
    found = loss(*features_of(rng, n, E), scale)
    never(
        abs(found - np.log(n)) > 2 * scale + loss.tolerance,
        f"at scale {scale:g} the loss is {found:.6g}, ln {n} = {np.log(n):.6g}",
    )


@contrastive.property("C11", why=SCALE, n=sizes(2, 6), scale=one_of(100.0, 1e4))
def finite(loss: ContrastiveLoss, rng: Rng, n: int, scale: float) -> None:
    """Finite at scales of 100 and 10⁴, also for opposite pairs."""
    I = rng.normal(size=(n, n))
    loss(I, -I, scale)


@contrastive.property("C12", why=OWN, **pairs)
def equal_captions(loss: ContrastiveLoss, rng: Rng, n: int, E: int, scale: float) -> None:
    """Equal captions cost ln n or more."""
    found = loss(rng.normal(size=(n, E)), np.tile(rng.normal(size=E), (n, 1)), scale)
    never(
        found < np.log(n) - 5 * loss.tolerance,
        f"with equal captions the loss is {found:.6g}, ln {n} = {np.log(n):.6g}",
    )


@contrastive.property("C13", why=BOTH, E=sizes(1, 5), scale=SCALES)
def two_by_two(loss: ContrastiveLoss, rng: Rng, E: int, scale: float) -> None:
    """Two pairs cost the mean of four softplus differences."""
    I, T = features_of(rng, 2, E)
    (a, b), (c, d) = scale * unit(I) @ unit(T).T
    loss.agree(
        loss(I, T, scale),
        np.logaddexp(0, [b - a, c - d, c - a, b - d]).mean(),
        "loss of two pairs against its closed form",
    )


@contrastive.property("C14", why=OWN, n=sizes(2, 6), scale=one_of(1.0, 5.0, 20.0))
def moved_closer(loss: ContrastiveLoss, rng: Rng, n: int, scale: float) -> None:
    """A picture that moves toward its own text costs less."""
    I, T = crooked(rng, n)
    I[0] = np.eye(n + 1)[-1]
    closer, angle = I.copy(), rng.uniform(0.2, 1.2)
    closer[0] = np.cos(angle) * I[0] + np.sin(angle) * T[0]
    before, after = loss(I, T, scale), loss(closer, T, scale)
    never(
        not after < before,
        f"the loss went from {before:.6g} to {after:.6g} as picture 0 came closer to its text",
    )


@contrastive.property("C15", why=GRADIENT, needs="vjp", tower=sizes(0, 1), **two_pairs)
def slopes(loss: ContrastiveLoss, rng: Rng, n: int, scale: float, tower: int) -> None:
    """∂L/∂logits = (softmax of rows + softmax of columns)/2n − identity/n."""
    rows, other = crooked(rng, n)
    I, T = (rows, other) if tower == 0 else (other, rows)
    S = scale * unit(I) @ unit(T).T
    of_rows, of_columns = (np.exp(S - S.max(axis=axis, keepdims=True)) for axis in (1, 0))
    expected = (
        of_rows / of_rows.sum(axis=1, keepdims=True) + of_columns / of_columns.sum(axis=0)
    ) / (2 * n) - np.eye(n) / n
    loss.agree(
        loss.slopes(I, T, scale, tower),
        expected,
        f"∂L/∂logits, seen from the {('picture', 'text')[tower]} rows",
    )


@contrastive.property("C16", why=GRADIENT, needs="vjp", **two_pairs)
def signs(loss: ContrastiveLoss, rng: Rng, n: int, scale: float) -> None:
    """∂L/∂logits sums to 0, never positive on the diagonal and never negative off it."""
    found = loss.slopes(*crooked(rng, n), scale, 0)
    loss.agree(found.sum(), 0, "sum of ∂L/∂logits")
    signed = np.where(np.eye(n, dtype=bool), found, -found)
    never(signed > loss.tolerance, "∂L/∂logits at ({0}, {1}) has the wrong sign")


@contrastive.property("C17a", why=BOTH, needs="half", n=sizes(1, 6), axis=one_of(0, 1))
def half_shifted(loss: ContrastiveLoss, rng: Rng, n: int, axis: int) -> None:
    """Each half ignores constants along its softmax axis."""
    S, c = rng.normal(size=(n, n)), np.expand_dims(rng.normal(size=n), axis)
    before = loss.call("half", S, axis, shape=())
    loss.agree(
        loss.call("half", S + c, axis, shape=()),
        before,
        f"half along axis {axis} after constants along it were added",
    )


@contrastive.property("C17b", why=BOTH, where={"inputs": ("logits",)}, n=sizes(2, 6))
def whole_shifted(loss: ContrastiveLoss, rng: Rng, n: int) -> None:
    """The whole ignores one constant added to all logits."""
    S = rng.normal(size=(n, n))
    loss.agree(
        loss.call("fn", S + 3, shape=()),
        loss.call("fn", S, shape=()),
        "loss with 3 added to all logits",
    )


@contrastive.property("C17c", why=BOTH, where={"inputs": ("logits",)}, n=sizes(2, 6))
def rows_matter(loss: ContrastiveLoss, rng: Rng, n: int) -> None:
    """The whole does not ignore constants of rows or of columns."""
    S, first = rng.normal(size=(n, n)), np.arange(n) == 0
    before = loss.call("fn", S, shape=())
    for name, c in (("row", first[:, None]), ("column", first[None, :])):
        moved = abs(loss.call("fn", S + 5.0 * c, shape=()) - before)
        never(
            moved <= 10 * loss.tolerance,
            f"with 5 added to {name} 0 the loss moved by {moved:.3g} only",
        )


@contrastive.property(
    "C18",
    why="labels without the rank's offset match every shard's pictures with the first shard's captions",
    needs="shard",
    ranks=sizes(2, 3),
    b=sizes(1, 3),
)
def shards(loss: ContrastiveLoss, rng: Rng, ranks: int, b: int) -> None:
    """The mean of the shards' local losses is the picture→text half."""
    S = rng.normal(size=(ranks * b, ranks * b))
    local = [
        loss.call("shard", S[rank * b : (rank + 1) * b], rank, shape=()) for rank in range(ranks)
    ]
    loss.agree(
        np.mean(local),
        cross_entropy(S, np.arange(ranks * b)),
        f"mean of {ranks} local losses against the global half",
    )


@contrastive.property("C19", why=LEVEL, needs="half", n=sizes(1, 6))
def distractor(loss: ContrastiveLoss, rng: Rng, n: int) -> None:
    """One more distracting text never lowers the picture→text half."""
    S = rng.normal(size=(n, n + 1))
    less, more = (float(loss.call("half", S[:, :m], 1, shape=())) for m in (n, n + 1))
    never(
        more < less - loss.tolerance,
        f"with one more text the half fell from {less:.6g} to {more:.6g}",
    )


@contrastive.property("C20a", why=LEVEL, copies=sizes(2, 3), **pairs)
def copied_captions(
    loss: ContrastiveLoss, rng: Rng, copies: int, n: int, E: int, scale: float
) -> None:
    """With every caption m times in the batch the loss is ln m or more."""
    found = loss(
        rng.normal(size=(n * copies, E)), np.repeat(rng.normal(size=(n, E)), copies, axis=0), scale
    )
    never(
        found < np.log(copies) - 5 * loss.tolerance, f"with {copies} copies the loss is {found:.6g}"
    )


@contrastive.property("C20b", why=LEVEL, needs="soft", copies=sizes(2, 3), n=sizes(1, 6))
def spread_targets(loss: ContrastiveLoss, rng: Rng, copies: int, n: int) -> None:
    """Targets spread over m copies cost ln m or more."""
    targets = np.kron(np.eye(n), np.ones((copies, copies))) / copies
    found, entropy = (
        float(loss.call("soft", rng.normal(size=targets.shape), targets, shape=())),
        np.log(copies),
    )
    never(
        found < entropy - 10 * loss.tolerance,
        f"the loss {found:.6g} is below the targets' entropy {entropy:.6g}",
    )


@contrastive.property("C20c", why=LEVEL, needs="soft", n=sizes(1, 6))
def reached_targets(loss: ContrastiveLoss, rng: Rng, n: int) -> None:
    """Logits that are the logarithms of the targets cost the targets' entropy."""
    targets = rng.dirichlet(np.ones(n), size=n) * 0.9 + 0.1 / n
    entropy = -(targets * np.log(targets)).sum(axis=1).mean()
    loss.agree(
        loss.call("soft", np.log(targets) + 3, targets, shape=()),
        entropy,
        "loss of matching logits against the targets' entropy",
    )


@contrastive.property(
    "C21a", why="the last block is shorter than the rest", needs="blocked", **pairs
)
def by_blocks(loss: ContrastiveLoss, rng: Rng, n: int, E: int, scale: float) -> None:
    """Computed by blocks it is the same loss."""
    I, T = features_of(rng, n, E)
    loss.agree(
        loss(I, T, scale, name="blocked"),
        loss(I, T, scale),
        "loss by blocks against the plain loss",
    )


@contrastive.property("C21b", why=GRADIENT, needs="cached vjp", **pairs)
def by_cache(loss: ContrastiveLoss, rng: Rng, n: int, E: int, scale: float) -> None:
    """The cached-gradient step gives the plain gradients."""
    given = loss.given(*features_of(rng, n, E), scale)
    found = loss.result("cached", *given)
    for position, name in enumerate(("pictures", "texts") if len(given) == 3 else ("logits",)):
        plain = loss.gradient(position, 1.0, *given)
        loss.agree(
            loss.numbers("cached", found[position], plain.shape),
            plain,
            f"cached gradient for {name} against the plain one",
        )


@contrastive.property("C22", why=COSINE, needs="vjp", where={"inputs": ("raw",)}, **pairs)
def orthogonal_gradient(loss: ContrastiveLoss, rng: Rng, n: int, E: int, scale: float) -> None:
    """The gradient of a raw row is orthogonal to it."""
    given = loss.given(*features_of(rng, n, E), scale)
    for tower in (0, 1):
        along = (unit(given[tower]) * loss.gradient(tower, 1.0, *given)).sum(axis=1)
        loss.agree(along / scale, 0, f"gradient along its own {('picture', 'text')[tower]} row")
