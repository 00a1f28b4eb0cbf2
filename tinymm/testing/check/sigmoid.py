# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of SigLIP's loss: every pair of the batch is a question of its own, "does this text belong to this picture?" (Zhai et al. 2023, §3.2).

Traps: logits of zero cost n·ln 2 also with labels reversed, for sign and labels show in slopes
alone (G01 beside G05 and G07); that a batch of one costs nothing is true of CLIP's loss and false
here (G09).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..contract import Contract, never
from ..strategies import one_of, sizes
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
batch: dict[str, Any] = {"n": sizes(2, 6)}
LEVEL = "with another reduction the same learning rate and the same bias mean another thing, and losses of two papers cannot be compared"
BOTH = (
    "no softmax, no direction: the matrix of pairs has the same meaning read by rows and by columns"
)
ALONE = "pairs that do not compete are what lets devices compute their blocks apart, without the softmax's sum over all"
LABELS = "with labels 0 for −1 wrong pairs teach nothing, and with the sign lost the loss falls while pictures leave their texts"
SHARDS = "of all the blocks of devices only those of a device's own texts hold true pairs; a diagonal in each block teaches wrong pairs as true"


@dataclass
class SigmoidLoss(Contract):
    """`fn(logits (n, n)) -> ()`: (1/n) Σ softplus(−z·logit) over all n² pairs, z = 1 for a picture and its own text, −1 for others.

    The bias is inside the logits. `reduction="mean"` for a function that divides by n² instead of
    n. Further properties run if given: `vjp(cotangent, logits)`; `block(logits (a, c), offset)`,
    the undivided sum over a block of a pictures and c texts in which the own text of row i is
    column i + offset, if the block has that column.
    """

    reduction: str = field(default="sum/n", kw_only=True)
    vjp: Callable | None = field(default=None, kw_only=True)
    block: Callable | None = field(default=None, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {"reduction": ("sum/n", "mean")}

    def __call__(self, S: Array) -> float:
        """Return the loss."""
        return float(self.call("fn", S, shape=()))

    def share(self, n: int) -> float:
        """Return what one pair of the n² weighs."""
        return 1 / n if self.reduction == "sum/n" else 1 / n**2


sigmoid = Suite("sigmoid_loss", SigmoidLoss)


def softplus(x: Array) -> Array:
    """Return ln(1 + e^x)."""
    return np.logaddexp(0, x)


def raised(S: Array, *places: tuple[int, int], by: float = 0.5) -> Array:
    """Return the logits with some of them raised."""
    S = S.copy()
    for place in places:
        S[place] += by
    return S


@sigmoid.property("G01", why=LEVEL, **batch)
def zeros(loss: SigmoidLoss, n: int) -> None:
    """Logits of zero cost n·ln 2, or ln 2 with reduction="mean"."""
    loss.agree(loss(np.zeros((n, n))), n**2 * loss.share(n) * np.log(2), f"loss of {n} × {n} zeros")


@sigmoid.property("G02", why=BOTH, **batch)
def transposed(loss: SigmoidLoss, rng: Rng, n: int) -> None:
    """Swapping pictures and texts changes nothing."""
    S = 2 * rng.normal(size=(n, n))
    loss.agree(loss(S.T), loss(S), "loss of the transposed logits against that of the logits")


@sigmoid.property(
    "G03",
    why="the text of picture i is text i, wherever in the batch the two of them stand",
    **batch,
)
def permuted(loss: SigmoidLoss, rng: Rng, n: int) -> None:
    """Permuting the pairs changes nothing."""
    S, order = 2 * rng.normal(size=(n, n)), rng.permutation(n)
    loss.agree(loss(S[order][:, order]), loss(S), "loss with the pairs in another order")


@sigmoid.property("G04", why=ALONE, **batch)
def independent(loss: SigmoidLoss, rng: Rng, n: int) -> None:
    """What one logit adds to the loss does not depend on another."""
    S, picture = 2 * rng.normal(size=(n, n)), int(rng.integers(n))
    text, other = map(int, rng.permutation(n)[:2])
    for one, two, what in (
        ((picture, text), (picture, other), "row"),
        ((text, picture), (other, picture), "column"),
    ):
        together, apart = (
            loss(raised(S, one, two)) + loss(S),
            loss(raised(S, one)) + loss(raised(S, two)),
        )
        loss.agree(
            together,
            apart,
            f"loss after two logits of a {what} rose together against one after the other",
        )


@sigmoid.property("G05", why=LABELS, n=sizes(3, 6))
def prior(loss: SigmoidLoss, n: int) -> None:
    """Of equal logits, −ln(n − 1) cost least: the logarithm of the odds that a pair is true."""
    odds = -np.log(n - 1)
    least, *others = (loss(np.full((n, n), odds + more)) for more in (0.0, -0.3, 0.3))
    never(
        not least < min(others),
        f"equal logits of {odds:.3g} cost {least:.6g}, and 0.3 beside it {min(others):.6g}",
    )


@sigmoid.property(
    "G06",
    why="the logarithm of a sigmoid is infinite where the sigmoid is 0; clipped, the worst pairs stop teaching",
    **batch,
)
def far_out(loss: SigmoidLoss, rng: Rng, n: int) -> None:
    """At logits of ±10⁴ the loss is finite, and half of what it is at twice those."""
    S = np.where(rng.random((n, n)) < 0.5, -1e4, 1e4)
    S[0, 0], S[0, 1] = -1e4, 1e4
    loss.agree(
        loss(2 * S) / 2, loss(S), "half of the loss at logits of ±20,000 against that at ±10,000"
    )


@sigmoid.property("G07a", why=LABELS, **batch)
def slopes(loss: SigmoidLoss, rng: Rng, n: int) -> None:
    """A higher logit costs less for a true pair and more for a wrong one, by at most 1/n of its rise."""
    S, order = rng.normal(size=(n, n)), rng.permutation(n)
    before = loss(S)
    for place, sign, name in (((order[0],) * 2, -1, "true"), ((order[0], order[1]), 1, "wrong")):
        rise = sign * (loss(raised(S, place)) - before)
        word = "fell" if sign < 0 else "rose"
        never(
            not 0 < rise <= 0.5 / n + loss.tolerance,
            f"the loss {word} by {rise:.3g} as the logit of a {name} pair, one of {n}², rose by 0.5",
        )


@sigmoid.property("G07b", why=LABELS, needs="vjp", sharp=one_of(1.0, 5.0, 1e4), **batch)
def gradient(loss: SigmoidLoss, rng: Rng, n: int, sharp: float) -> None:
    """∂L/∂logit is the probability of the wrong answer, negative for true pairs, over n."""
    S, z = sharp * rng.normal(size=(n, n)), 2 * np.eye(n) - 1
    wrong = np.exp(-softplus(z * S))
    loss.agree(
        loss.gradient(0, 1.0, S) / loss.share(n),
        -z * wrong,
        "∂L/∂logits, times the number of what is averaged",
    )


@sigmoid.property("G08a", why=SHARDS, needs="block", ranks=sizes(2, 3), b=sizes(1, 3))
def shards(loss: SigmoidLoss, rng: Rng, ranks: int, b: int) -> None:
    """The blocks of all shards together are the whole."""
    n = ranks * b
    S = 2 * rng.normal(size=(n, n))
    cut = [slice(rank * b, (rank + 1) * b) for rank in range(ranks)]
    blocks = [
        float(loss.call("block", S[cut[i], cut[t]], (i - t) * b, shape=()))
        for i in range(ranks)
        for t in range(ranks)
    ]
    loss.agree(
        sum(blocks) * loss.share(n), loss(S), f"{ranks}² blocks of {b} × {b} against the whole"
    )


@sigmoid.property(
    "G08b", why=SHARDS, needs="block", a=sizes(1, 4), c=sizes(1, 4), side=one_of(1, -1)
)
def foreign(loss: SigmoidLoss, rng: Rng, a: int, c: int, side: int) -> None:
    """A block of foreign texts has no true pair."""
    S, offset = 2 * rng.normal(size=(a, c)), c if side > 0 else -a
    loss.agree(
        loss.call("block", S, offset, shape=()),
        softplus(S).sum(),
        f"block of {a} pictures and {c} foreign texts",
    )


@sigmoid.property(
    "G09",
    why="one pair alone can be right or wrong too, as CLIP's softmax over a single text cannot",
)
def one_pair(loss: SigmoidLoss, rng: Rng) -> None:
    """A single pair costs softplus(−logit), and not nothing."""
    S = 3 * rng.normal(size=(1, 1))
    loss.agree(loss(S), softplus(-S[0, 0]), "loss of a single pair")
