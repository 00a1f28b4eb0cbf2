# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of hard negatives: the wrong pairs that image-text matching is asked about, drawn where contrast is hardest (ALBEF §3.2).

Trap: a symmetric matrix of similarities hides swapped directions, so the winners of rows and of
columns differ here.
"""

import re
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from tinymm.arrays.random import generator

from ..contract import Contract, Found, never, no_array
from ..strategies import sizes
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
TRUE = "a true pair under the label “does not match” teaches the opposite of what it shows"
HARD = "random negatives are told apart at a glance; only those that contrast cannot separate teach details"
WINS = 60.0
#: A row of the batch named in an error, as "row 2", "pair 0" or "image [1]": a number alone may
#: count anything.
NOUNS = "row|pair|picture|image|text|caption|query|anchor|sample|example|item|entry|element|index"
NAMED = rf"(?i)\b(?:{NOUNS})s?\b[^\w.<>=]*(?:number |no\. )?(\d+)\b"


@dataclass
class HardNegatives(Contract):
    """`fn(S (B, B), ids (B,), rng) -> (image_for_text (B,), text_for_image (B,))`, indices drawn by the softmax of columns and of rows.

    S is scaled as in the contrastive loss, pictures in rows; pairs of equal ids are true, and never
    drawn. `order="texts_first"` for a function that returns text_for_image first.
    """

    order: str = field(default="images_first", kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {"order": ("images_first", "texts_first")}

    def __call__(self, S: Array, ids: Array, rng: Rng) -> tuple[Array, Array]:
        """Return image_for_text and text_for_image."""
        found = self.result("fn", S, ids, rng)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            said = f"fn returned {type(found).__name__} where two arrays of indices belong"
            raise Found(said, no_array("fn", found, "two arrays of indices"))
        first, second = (self.indices("fn", value, ids.shape, len(ids)) for value in found)
        return (first, second) if self.order == "images_first" else (second, first)


hard_negatives = Suite("hard_negatives", HardNegatives)


def trained(rng: Rng, ids: Array) -> Array:
    """Return similarities as a trained model has them: those of true pairs are higher."""
    return rng.normal(size=(len(ids), len(ids))) + 4.0 * (ids[:, None] == ids)


def distinct(rng: Rng, n: int) -> Array:
    """Return n ids without any order."""
    return rng.choice(1000, size=n, replace=False)


def winners(rng: Rng, n: int) -> Array:
    """Return for each of n rows another row, such that nowhere two are each other's winner."""
    order, winner = rng.permutation(n), np.empty(n, dtype=int)
    winner[order] = np.roll(order, 1)
    return winner


@hard_negatives.property("N01", why=TRUE, n=sizes(2, 6))
def never_its_own(draw: HardNegatives, rng: Rng, n: int) -> None:
    """The own pair is never drawn."""
    ids, own = distinct(rng, n), np.arange(n)
    image_for_text, text_for_image = draw(trained(rng, ids), ids, rng)
    never(image_for_text == own, "text {0} got its own picture")
    never(text_for_image == own, "picture {0} got its own text")


@hard_negatives.property(
    "N02",
    why="with several captions a picture, another caption of it is as true as its own",
    n=sizes(3, 6),
    k=sizes(2, 3),
)
def never_a_true_one(draw: HardNegatives, rng: Rng, n: int, k: int) -> None:
    """A pair of one id is never drawn."""
    ids = rng.permutation(distinct(rng, k)[np.arange(n) % k])
    image_for_text, text_for_image = draw(trained(rng, ids), ids, rng)
    never(ids[image_for_text] == ids, "text {0} got a picture of its own id")
    never(ids[text_for_image] == ids, "picture {0} got a text of its own id")


@hard_negatives.property("N03", why=HARD, n=sizes(3, 6))
def hardest_text(draw: HardNegatives, rng: Rng, n: int) -> None:
    """A text far above all others of its row is drawn for the picture."""
    S, ids, winner = rng.normal(size=(n, n)), distinct(rng, n), winners(rng, n)
    S[np.arange(n), winner] += WINS
    never(
        draw(S, ids, rng)[1] != winner,
        f"picture {{0}} did not get the text that is {WINS:g} above all others",
    )


@hard_negatives.property("N04", why=HARD, n=sizes(3, 6))
def hardest_picture(draw: HardNegatives, rng: Rng, n: int) -> None:
    """A picture far above all others of its column is drawn for the text."""
    S, ids, winner = rng.normal(size=(n, n)), distinct(rng, n), winners(rng, n)
    S[winner, np.arange(n)] += WINS
    never(
        draw(S, ids, rng)[0] != winner,
        f"text {{0}} did not get the picture that is {WINS:g} above all others",
    )


@hard_negatives.property(
    "N05", why="a run that cannot be repeated cannot be understood", n=sizes(3, 6)
)
def repeatable(draw: HardNegatives, rng: Rng, n: int) -> None:
    """From one state of the generator come the same draws."""
    S, ids, seed = rng.normal(size=(n, n)), distinct(rng, n), int(rng.integers(10**6))
    first, again = (
        [index for _ in range(4) for index in draw(S, ids, same)]
        for same in map(generator, (seed, seed))
    )
    never(
        np.concatenate(first) != np.concatenate(again),
        "draw {0} differs between two runs from one state of the generator",
    )


@hard_negatives.property(
    "N06s",
    why="in a trained model the true pair fills the softmax: set to zero afterwards, it leaves 0/0 or an even draw behind",
    tier="strict",
    n=sizes(3, 6),
)
def sure_of_its_own(draw: HardNegatives, rng: Rng, n: int) -> None:
    """The hardest wrong pair is drawn also where the true pair is 10⁴ above it."""
    S, ids, winner, own = rng.normal(size=(n, n)), distinct(rng, n), winners(rng, n), np.arange(n)
    S[own, winner] += WINS
    S[own, own] = 1e4
    never(draw(S, ids, rng)[1] != winner, "picture {0} did not get the hardest wrong text")
    never(draw(S.T, ids, rng)[0] != winner, "text {0} did not get the hardest wrong picture")


@hard_negatives.property(
    "N12",
    why="a batch of one picture has no wrong pair; drawn all the same, true pairs are labeled wrong",
    n=sizes(1, 4),
)
def nothing_to_draw(draw: HardNegatives, rng: Rng, n: int) -> None:
    """Where nothing can be drawn, an error names the row."""
    try:
        draw.result("fn", rng.normal(size=(n, n)), np.full(n, 7), rng)
    except Found as refused:
        if not any(int(number) < n for number in re.findall(NAMED, str(refused.__cause__))):
            raise Found(f"the error names none of the {n} rows: {refused.__cause__}") from None
        return
    raise Found(f"all {n} pictures have the id 7, and wrong pairs were drawn without an error")


@hard_negatives.property(
    "N13",
    why="a softmax that is too flat draws easy negatives, one too sharp the same few again and again",
)
def frequencies(draw: HardNegatives, rng: Rng) -> None:
    """Five hundred draws have on average the score that the softmax gives them, within six standard deviations."""
    n, calls = 32, 8
    S, ids = 2 * rng.normal(size=(n, n)), np.arange(n)
    drawn = [draw(S, ids, rng) for _ in range(calls)]
    for scores, found, what in (
        (S.T, [d[0] for d in drawn], "pictures for texts"),
        (S, [d[1] for d in drawn], "texts for pictures"),
    ):
        p = np.exp(scores) * ~np.eye(n, dtype=bool)
        p /= p.sum(axis=1, keepdims=True)
        mean = (p * scores).sum(axis=1)
        spread = np.sqrt(((p * scores**2).sum(axis=1) - mean**2).sum() * calls) / (n * calls)
        reached = np.mean([scores[np.arange(n), index].mean() for index in found])
        far = abs(reached - mean.mean()) / spread
        never(
            far > 6,
            f"{what} score {reached:.3g} on average, the softmax {mean.mean():.3g}: {far:.0f} standard deviations apart",
        )


@hard_negatives.property(
    "N14",
    memory="fn",
    why="the similarities are the contrastive loss's too: masked in place, it sees -inf at its true pairs",
    n=sizes(2, 6),
)
def given_unchanged(draw: HardNegatives, rng: Rng, n: int) -> None:
    """The similarities and ids are unchanged after the call."""
    S, ids = rng.normal(size=(n, n)), distinct(rng, n)
    draw(S, ids, rng)
    for name, before, after in zip(
        ("number {0} of the similarities", "id {0}"), (S, ids), draw.passed, strict=False
    ):
        never((before.astype(after.dtype) != after).ravel(), f"{name} was changed in place")
