# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of momentum contrast and distillation: pseudo-targets, and the loss against the batch and a feature queue (ALBEF §3.2, §3.3).

Traps: this loss does not reach 0, its least value is the entropy of its targets (I09); and most
mistakes pass the test by equal features (I06).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..contract import Contract, Found, never, no_array
from ..strategies import one_of, orthonormal, sizes, unit
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
columns: dict[str, Any] = {"B": sizes(1, 4), "K": sizes(0, 4), "sharp": one_of(1.0, 5.0, 1000.0)}
weighted: dict[str, Any] = {**columns, "alpha": one_of(0.4, 0.0, 1.0, 0.9)}
queued: dict[str, Any] = {
    "B": sizes(1, 4),
    "K": sizes(1, 5),
    "E": sizes(2, 5),
    "temperature": one_of(0.5, 1.0, 0.07),
    "alpha": one_of(0.4, 0.0, 1.0),
}
DISTILLED = "α is the weight of the pseudo-targets; swapped or squared, its warm-up from 0 to 0.4 is another one"
PAIRS = (
    "a positive in another column teaches that a picture belongs to a text that came many steps ago"
)
IDS = "two captions of one picture are both right; counted as wrong they are the hardest negatives of all"
QUEUE = "a queue is there for more wrong texts, each as good as any other; where they stand says nothing"
ENTROPY = "the least loss is the targets' entropy; a divergence, whose least is 0, cannot be compared with a loss of hard targets"
TEMPERATURE = "one temperature makes logits and targets alike; missing in the targets, they stay flat however sure the model is"
MOMENTUM = "the momentum encoder is an EMA and the queue its past; a gradient there trains what is only averaged, and collapse is near"


def softmax(S: Array) -> Array:
    """Return the softmax of each row."""
    e = np.exp(S - S.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# ---------------------------------------------------------------------- what the answers are
@dataclass
class SoftTargets(Contract):
    """`fn(similarities (B, C), alpha) -> (B, C)`: 1 − α for the own pair, and α shared among all by the softmax of the similarities.

    They are the momentum encoder's, already divided by the temperature; of the C columns the first
    B are the own batch, the rest is the queue, or the other way round with `order="queue_first"`.
    Further properties run if given: `by_ids(similarities, alpha, row_ids (B,), column_ids (C,))`,
    where all columns of a row's id share the 1 − α; −100 is the id of a slot of the queue that
    nothing has filled.
    """

    order: str = field(default="batch_first", kw_only=True)
    by_ids: Callable | None = field(default=None, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {"order": ("batch_first", "queue_first")}

    def __call__(self, S: Array, alpha: float, ids: Array | None = None) -> Array:
        """Return the targets (B, C), own batch first; with ids (C,) those of `by_ids`."""
        B, C = S.shape
        turn = C - B if self.order == "queue_first" else 0
        S = np.roll(S, turn, axis=1)
        found = (
            self.call("fn", S, alpha, shape=S.shape)
            if ids is None
            else self.call("by_ids", S, alpha, ids[:B], np.roll(ids, turn), shape=S.shape)
        )
        return np.roll(found, -turn, axis=1)


soft_targets = Suite("soft_targets", SoftTargets)


@soft_targets.property(
    "I01",
    why="targets that do not sum to 1 are no probabilities: the loss then rewards large or small logits",
    **weighted,
)
def probabilities(
    targets: SoftTargets, rng: Rng, B: int, K: int, sharp: float, alpha: float
) -> None:
    """Targets are never negative, and those of a row sum to 1."""
    found = targets(sharp * rng.normal(size=(B, B + K)), alpha)
    never(found < 0, "the target of row {0} at column {1} is negative")
    targets.agree(found.sum(axis=1), 1, "sum of a row's targets")


@soft_targets.property("I02", why=PAIRS, **columns)
def one_hot(targets: SoftTargets, rng: Rng, B: int, K: int, sharp: float) -> None:
    """At α = 0 the own pair is the whole answer."""
    targets.agree(
        targets(sharp * rng.normal(size=(B, B + K)), 0.0), np.eye(B, B + K), "targets at α = 0"
    )


@soft_targets.property("I03", why=DISTILLED, **columns)
def distilled(targets: SoftTargets, rng: Rng, B: int, K: int, sharp: float) -> None:
    """At α = 1 the answer is the softmax of a row's similarities to batch and queue."""
    S = sharp * rng.normal(size=(B, B + K))
    targets.agree(targets(S, 1.0), softmax(S), "targets at α = 1")


@soft_targets.property("I04", why=DISTILLED, **weighted)
def own_mass(targets: SoftTargets, rng: Rng, B: int, K: int, sharp: float, alpha: float) -> None:
    """The own pair gets 1 − α or more."""
    own = np.diagonal(targets(sharp * rng.normal(size=(B, B + K)), alpha))
    never(
        own < 1 - alpha - targets.tolerance,
        f"at α = {alpha:g} the own pair of row {{0}} gets less than {1 - alpha:g}",
    )


@soft_targets.property("I05", why=DISTILLED, **weighted)
def affine(targets: SoftTargets, rng: Rng, B: int, K: int, sharp: float, alpha: float) -> None:
    """The targets at α are 1 − α of those at 0 and α of those at 1."""
    S = sharp * rng.normal(size=(B, B + K))
    targets.agree(
        targets(S, alpha),
        (1 - alpha) * targets(S, 0.0) + alpha * targets(S, 1.0),
        f"targets at α = {alpha:g}",
    )


@soft_targets.property("I07a", why=QUEUE, **weighted)
def waiting_permuted(
    targets: SoftTargets, rng: Rng, B: int, K: int, sharp: float, alpha: float
) -> None:
    """The targets of the queue's columns move with the columns, and no others change."""
    S, order = sharp * rng.normal(size=(B, B + K)), np.append(np.arange(B), B + rng.permutation(K))
    targets.agree(
        targets(S[:, order], alpha),
        targets(S, alpha)[:, order],
        "targets with the queue in another order",
    )


@soft_targets.property("I13a", why=IDS, needs="by_ids", **weighted)
def equal_ids(targets: SoftTargets, rng: Rng, B: int, K: int, sharp: float, alpha: float) -> None:
    """Columns of a row's id share its 1 − α equally."""
    S, ids = sharp * rng.normal(size=(B, B + K)), rng.integers(3, size=B + K)
    same = ids[:B, None] == ids
    expected = (1 - alpha) * same / same.sum(axis=1, keepdims=True) + alpha * softmax(S)
    targets.agree(
        targets(S, alpha, ids), expected, f"targets by the ids {ids.tolist()} at α = {alpha:g}"
    )


@soft_targets.property("I13b", why=IDS, needs="by_ids", **weighted)
def different_ids(
    targets: SoftTargets, rng: Rng, B: int, K: int, sharp: float, alpha: float
) -> None:
    """Where all ids differ the targets are those without ids."""
    S, ids = sharp * rng.normal(size=(B, B + K)), rng.choice(1000, size=B + K, replace=False)
    targets.agree(targets(S, alpha, ids), targets(S, alpha), "targets by ids that all differ")


@soft_targets.property(
    "I13c",
    why="a queue begins empty; filled with the id 0, every slot is a caption of picture 0",
    needs="by_ids",
    **columns,
)
def empty_slots(targets: SoftTargets, rng: Rng, B: int, K: int, sharp: float) -> None:
    """At α = 0 a slot that nothing has filled, its id −100, is nobody's answer."""
    ids = np.append(rng.integers(3, size=B), np.full(K, -100))
    found = targets(sharp * rng.normal(size=(B, B + K)), 0.0, ids)
    never(
        np.abs(found[:, B:]) > targets.tolerance,
        "row {0} has a target at the empty slot {1} of the queue",
    )


# ---------------------------------------------------------------------- the loss
@dataclass
class ItcQueue(Contract):
    """`fn(I (B, E), T, I_m, T_m, image_queue (K, E), text_queue, temperature, alpha) -> ()`: soft cross-entropy, the mean of both directions.

    A picture I of the model is compared with the momentum features of texts T_m and, after them,
    the queue's; the targets are the momentum encoder's picture I_m by `soft_targets`; and so for
    texts. Rows come with length 1: `unit=True` for a function that makes them so itself. As `scale`
    the temperature comes to "divide", or its inverse to "multiply", or the inverse's "log". Further
    properties run if given: `vjp(cotangent, *fn's arguments)`, a gradient for each or None.
    """

    unit: bool = field(default=False, kw_only=True)
    scale: str = field(default="divide", kw_only=True)
    vjp: Callable | None = field(default=None, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {
        "unit": (False, True),
        "scale": ("divide", "multiply", "log"),
    }

    def given(self, features: tuple, temperature: float, alpha: float) -> tuple:
        """Return the arguments of fn."""
        scale = {"divide": temperature, "multiply": 1 / temperature, "log": -np.log(temperature)}[
            self.scale
        ]
        return (*features, np.asarray(scale), alpha)

    def __call__(self, features: tuple, temperature: float, alpha: float) -> float:
        """Return the loss."""
        return float(self.call("fn", *self.given(features, temperature, alpha), shape=()))

    def gradients(self, features: tuple, temperature: float, alpha: float) -> list[Array]:
        """Return a gradient for each of the six features; None and what is missing are zero."""
        found = self.result("vjp", 1.0, *self.given(features, temperature, alpha))
        if not isinstance(found, (tuple, list)):
            said = f"vjp returned {type(found).__name__} where a gradient for each argument belongs"
            raise Found(said, no_array("vjp", found, "a tuple of gradients"))
        found = [*found, *[None] * 6][:6]
        return [
            np.zeros_like(x) if g is None else self.numbers("vjp", g, x.shape)
            for g, x in zip(found, features, strict=True)
        ]


itc_queue = Suite("itc_queue", ItcQueue)
PARTS = (
    "pictures",
    "texts",
    "the momentum features of pictures",
    "the momentum features of texts",
    "the queue of pictures",
    "the queue of texts",
)


def features_of(rng: Rng, B: int, K: int, E: int) -> tuple:
    """Return unit rows of the model, of its momentum encoder and of both queues."""
    return tuple(unit(rng.normal(size=(rows, E))) for rows in (B, B, B, B, K, K))


def directions(
    features: tuple, temperature: float, alpha: float
) -> list[tuple[Array, Array, Array]]:
    """Return for pictures and for texts the softmax of their similarities, the targets, and what they are compared with."""
    I, T, I_m, T_m, image_queue, text_queue = features
    found = []
    for rows, slow, others in (
        (I, I_m, np.concatenate([T_m, text_queue])),
        (T, T_m, np.concatenate([I_m, image_queue])),
    ):
        targets = (1 - alpha) * np.eye(len(rows), len(others)) + alpha * softmax(
            slow @ others.T / temperature
        )
        found.append((softmax(rows @ others.T / temperature), targets, others))
    return found


def entropy(features: tuple, temperature: float, alpha: float) -> float:
    """Return the mean entropy of the targets of both directions."""
    found = [
        -(t * np.log(np.where(t > 0, t, 1))).sum(axis=1).mean()
        for _, t, _ in directions(features, temperature, alpha)
    ]
    return float(np.mean(found))


@itc_queue.property(
    "I06",
    why="the level says how many texts were compared: B alone, and the queue is not in the loss",
    **queued,
)
def all_equal(
    loss: ItcQueue, rng: Rng, B: int, K: int, E: int, temperature: float, alpha: float
) -> None:
    """Equal features cost ln(B + K) at any α."""
    row = unit(rng.normal(size=(1, E)))
    found = loss(
        tuple(np.repeat(row, rows, axis=0) for rows in (B, B, B, B, K, K)), temperature, alpha
    )
    loss.agree(found, np.log(B + K), f"loss of equal features against ln({B} + {K})")


@itc_queue.property("I07b", why=QUEUE, **queued)
def queues_permuted(
    loss: ItcQueue, rng: Rng, B: int, K: int, E: int, temperature: float, alpha: float
) -> None:
    """The order of either queue does not matter."""
    *batch, image_queue, text_queue = features = features_of(rng, B, K, E)
    moved = (*batch, image_queue[rng.permutation(K)], text_queue[rng.permutation(K)])
    loss.agree(
        loss(moved, temperature, alpha),
        loss(features, temperature, alpha),
        "loss with the queues in another order",
    )


@itc_queue.property(
    "I08a", why=PAIRS, B=queued["B"], K=queued["K"], temperature=queued["temperature"]
)
def all_orthonormal(loss: ItcQueue, rng: Rng, B: int, K: int, temperature: float) -> None:
    """Where pairs agree and all else is orthogonal, α = 0 costs ln(1 + (B + K − 1)·e^(−1/temperature))."""
    U = orthonormal(rng, B + K, B + K)
    expected = np.log1p((B + K - 1) * np.exp(-1 / temperature))
    loss.agree(
        loss((U[:B],) * 4 + (U[B:],) * 2, temperature, 0.0),
        expected,
        f"loss of {B} orthonormal pairs and a queue of {K}",
    )


@itc_queue.property(
    "I08b", why=PAIRS, E=queued["E"], temperature=queued["temperature"], alpha=queued["alpha"]
)
def one_waiting(loss: ItcQueue, rng: Rng, E: int, temperature: float, alpha: float) -> None:
    """One pair beside one in the queue costs softplus(−d) + α·σ(−d′)·d, where model and momentum encoder put the own pair d and d′ ahead."""
    I, T, I_m, T_m, waiting_I, waiting_T = features = features_of(rng, 1, 1, E)
    costs = []
    for row, slow, own, other in ((I, I_m, T_m, waiting_T), (T, T_m, I_m, waiting_I)):
        ahead, other_ahead = ((x @ (own - other).T).item() / temperature for x in (row, slow))
        costs.append(
            np.logaddexp(0, -ahead) + alpha * np.exp(-np.logaddexp(0, other_ahead)) * ahead
        )
    loss.agree(
        loss(features, temperature, alpha),
        np.mean(costs),
        "loss of one pair and one waiting against its closed form",
    )


@itc_queue.property("I09a", why=ENTROPY, **{**queued, "temperature": one_of(0.5, 1.0, 0.07, 0.001)})
def least(
    loss: ItcQueue, rng: Rng, B: int, K: int, E: int, temperature: float, alpha: float
) -> None:
    """The loss is never below the entropy of its targets, and finite at a temperature of 0.001 too."""
    features = features_of(rng, B, K, E)
    found, level = loss(features, temperature, alpha), entropy(features, temperature, alpha)
    never(
        found < level - 10 * loss.tolerance,
        f"the loss {found:.6g} is below the entropy {level:.6g} of the targets at α = {alpha:g}",
    )


@itc_queue.property(
    "I09b",
    why=ENTROPY,
    B=queued["B"],
    K=queued["K"],
    E=queued["E"],
    temperature=queued["temperature"],
)
def reached(loss: ItcQueue, rng: Rng, B: int, K: int, E: int, temperature: float) -> None:
    """A model that is its own momentum encoder has, at α = 1, the entropy of its targets for a loss."""
    features = (slow := features_of(rng, B, K, E))[2:4] + slow[2:]
    loss.agree(
        loss(features, temperature, 1.0),
        entropy(features, temperature, 1.0),
        "loss of a model that is its own momentum encoder, at α = 1",
    )


@itc_queue.property("I10", why=TEMPERATURE, where={"unit": (False,)}, **queued)
def doubled(
    loss: ItcQueue, rng: Rng, B: int, K: int, E: int, temperature: float, alpha: float
) -> None:
    """Doubling all features and quadrupling the temperature changes nothing."""
    features = features_of(rng, B, K, E)
    found = loss(tuple(2 * x for x in features), 4 * temperature, alpha)
    loss.agree(
        found,
        loss(features, temperature, alpha),
        "loss of doubled features at four times the temperature",
    )


@itc_queue.property(
    "I11",
    why="a loss of one direction finds texts for pictures and not pictures for texts",
    **queued,
)
def swapped(
    loss: ItcQueue, rng: Rng, B: int, K: int, E: int, temperature: float, alpha: float
) -> None:
    """Swapping pictures and texts, in the momentum features and in the queues too, changes nothing."""
    features = features_of(rng, B, K, E)
    other = tuple(features[i] for i in (1, 0, 3, 2, 5, 4))
    loss.agree(
        loss(other, temperature, alpha),
        loss(features, temperature, alpha),
        "loss with pictures and texts swapped",
    )


@itc_queue.property("I12a", why=MOMENTUM, needs="vjp", **queued)
def twin_rests(
    loss: ItcQueue, rng: Rng, B: int, K: int, E: int, temperature: float, alpha: float
) -> None:
    """Neither the momentum encoder nor a queue receives a gradient."""
    found = loss.gradients(features_of(rng, B, K, E), temperature, alpha)
    for g, part in list(zip(found, PARTS, strict=True))[2:]:
        never(g != 0, f"{part} received a gradient at row {{0}}, number {{1}}")


@itc_queue.property(
    "I12b",
    why="an encoder without its gradient stays where it began, and the other comes to it",
    needs="vjp",
    **queued,
)
def model_learns(
    loss: ItcQueue, rng: Rng, B: int, K: int, E: int, temperature: float, alpha: float
) -> None:
    """The gradient of a row is softmax minus targets, times what it was compared with, over 2B·temperature."""
    features = features_of(rng, B, K, E)
    found = loss.gradients(features, temperature, alpha)
    for g, (p, targets, others), row, part in zip(
        found, directions(features, temperature, alpha), features, PARTS, strict=False
    ):
        expected = (p - targets) @ others / (2 * B)
        if loss.unit:  # only what is orthogonal to a row changes its direction
            expected -= (expected * row).sum(axis=1, keepdims=True) * row
        loss.agree(g * temperature, expected, f"gradient for {part}, times the temperature")
