# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of image-text matching: how true and wrong pairs are laid out, and the loss of the head (ALBEF §3.2; BLIP-2 §3.2)."""

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ..contract import Contract, Found, never, no_array
from ..strategies import sizes
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
PAIRS = "a label beside the wrong pair teaches nonsense at the same speed"
HEAD = "logits are averaged over queries; averaged probabilities or losses, or one query's word, are another model's"
GROUND = "a randomly initialized head costs ln 3 − ⅔ ln 2 = 0.6365, for one pair in three is true; with the classes swapped it learns the opposite"


@dataclass
class ItmPairs(Contract):
    """`fn(image_for_text (B,), text_for_image (B,)) -> (images (3B,), texts (3B,), labels (3B,))`: which picture beside which text, 1 = true.

    A function that lays out features instead of indices is one of indices once it is handed
    `np.arange` for features.
    """

    def __call__(self, image_for_text: Array, text_for_image: Array) -> tuple[Array, Array, Array]:
        """Return pictures, texts and labels, all of one length."""
        found = self.result("fn", image_for_text, text_for_image)
        if not isinstance(found, (tuple, list)) or len(found) != 3:
            said = f"fn returned {type(found).__name__} where three arrays of whole numbers belong"
            raise Found(said, no_array("fn", found, "images, texts, labels"))
        shape, B = (self.numbers("fn", found[0]).size,), len(image_for_text)
        images, texts = (self.indices("fn", value, shape, B) for value in found[:2])
        return images, texts, self.indices("fn", found[2], shape, 2)


itm_pairs = Suite("itm_pairs", ItmPairs)


def wrong_for(rng: Rng, n: int) -> Array:
    """Return for each of n another of them."""
    return (np.arange(n) + rng.integers(1, n, size=n)) % n


@itm_pairs.property(
    "N07",
    why="a third of ITM's batch is true: wrong texts and wrong pictures count alike",
    n=sizes(2, 6),
)
def three_groups(pair: ItmPairs, rng: Rng, n: int) -> None:
    """There are 3B pairs, and B of them are true."""
    _, _, labels = pair(wrong_for(rng, n), wrong_for(rng, n))
    pair.agree(len(labels), 3 * n, f"pairs for a batch of {n}", 0)
    pair.agree(labels.sum(), n, f"labels 1 for a batch of {n}", 0)


@itm_pairs.property("N08", why=PAIRS, n=sizes(2, 6))
def labels_are_true(pair: ItmPairs, rng: Rng, n: int) -> None:
    """The label is 1 where a picture stands beside its own text."""
    images, texts, labels = pair(wrong_for(rng, n), wrong_for(rng, n))
    never((images == texts) != (labels == 1), "the label of pair {0} is not what it shows")


@itm_pairs.property("N09", why=PAIRS, n=sizes(2, 6))
def as_drawn(pair: ItmPairs, rng: Rng, n: int) -> None:
    """The pairs are the true ones, each text with its drawn picture, and each picture with its drawn text."""
    image_for_text, text_for_image = wrong_for(rng, n), wrong_for(rng, n)
    images, texts, _ = pair(image_for_text, text_for_image)
    own = np.arange(n)
    expected = Counter(
        (int(i), int(j))
        for pairs in ((own, own), (image_for_text, own), (own, text_for_image))
        for i, j in zip(*pairs, strict=True)
    )
    found = Counter((int(i), int(j)) for i, j in zip(images, texts, strict=True))
    for name, more, less in (("missing", expected, found), ("too many", found, expected)):
        apart = sorted((more - less).elements())
        never(bool(apart), f"pairs (picture, text) {name}: {apart[:3]}")


@dataclass
class ItmLoss(Contract):
    """`fn(logits (n, Q, 2), labels (n,)) -> ()`: cross-entropy of the logits' mean over queries; output 1 is “matches”, and so is label 1.

    `queries=False` for a head that gives logits (n, 2); `order="yes_no"` where output 0 and label 0
    are “matches”.
    """

    queries: bool = field(default=True, kw_only=True)
    order: str = field(default="no_yes", kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {"queries": (True, False), "order": ("no_yes", "yes_no")}

    def __call__(self, logits: Array, matches: Array) -> float:
        """Return the loss of logits (n, Q, 2), “no” before “yes”; Q is 1 for a head without queries."""
        logits, labels = (
            (logits, matches) if self.order == "no_yes" else (logits[..., ::-1], 1 - matches)
        )
        return float(self.call("fn", logits if self.queries else logits[:, 0], labels, shape=()))


itm_loss = Suite("itm_loss", ItmLoss)


def closed_form(difference: Array, matches: Array) -> float:
    """Return the mean cross-entropy where the logit of “yes” exceeds that of “no” by a difference."""
    return float(np.logaddexp(0, np.where(matches == 1, -difference, difference)).mean())


@itm_loss.property("N10a", why=HEAD, n=sizes(1, 6))
def one_query(loss: ItmLoss, rng: Rng, n: int) -> None:
    """With one query the logits (b, a + b) cost softplus(∓a)."""
    a, b, matches = 3 * rng.normal(size=n), rng.normal(size=n), rng.integers(2, size=n)
    loss.agree(
        loss(np.stack([b, a + b], axis=-1)[:, None], matches),
        closed_form(a, matches),
        "loss of one query against its closed form",
    )


@itm_loss.property("N10b", why=HEAD, where={"queries": (True,)}, n=sizes(1, 6))
def two_queries(loss: ItmLoss, rng: Rng, n: int) -> None:
    """Two queries with the logits (0, a) and (0, −a/3) cost softplus(∓a/3)."""
    a, matches, nothing = 3 * rng.normal(size=n), rng.integers(2, size=n), np.zeros(n)
    logits = np.stack([nothing, a, nothing, -a / 3], axis=-1).reshape(n, 2, 2)
    loss.agree(
        loss(logits, matches),
        closed_form(a / 3, matches),
        "loss of two queries against its closed form",
    )


@itm_loss.property("N11", why=GROUND, n=sizes(1, 3), Q=sizes(1, 4))
def prior(loss: ItmLoss, n: int, Q: int) -> None:
    """A head that always says “one in three” costs ln 3 − ⅔ ln 2."""
    logits = np.tile(np.log([2 / 3, 1 / 3]), (3 * n, Q, 1))
    loss.agree(
        loss(logits, np.repeat([1, 0, 0], n)),
        np.log(3) - 2 / 3 * np.log(2),
        f"loss of {3 * n} pairs, one in three true",
    )
