# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of BLIP-2's image-text similarity: the best of a picture's queries speaks for the picture (BLIP-2 §3.2).

Trap: a cosine is at most 1 up to rounding only, and a permutation of queries changes sums by
rounding; only the shape, and which query gets the gradient, are exact.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..contract import Contract, never
from ..strategies import sizes, unit
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
letters: dict[str, Any] = {"B": sizes(1, 4), "Q": sizes(1, 5), "C": sizes(1, 4), "E": sizes(1, 5)}
COSINE = "the score is the cosine of a query and a text: without unit vectors the model wins by growing its features"
BEST = "one query that finds what the text speaks of is enough; a mean asks all queries to say the same"
OWN = "a score that depends on its batch changes with whoever happens to stand beside it"


@dataclass
class MaxOverQueries(Contract):
    """`fn(I (B, Q, E), T (C, E)) -> (B, C)`: the cosine of each text and of the query of each picture that meets it best.

    `unit=False` for a function that is given rows of length 1, and does not make them so. A further
    property runs if given: `vjp(cotangent, I, T)`, a gradient for each.
    """

    unit: bool = field(default=True, kw_only=True)
    vjp: Callable | None = field(default=None, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {"unit": (True, False)}

    def given(self, I: Array, T: Array) -> tuple[Array, Array]:
        """Return rows as the contract hands them over."""
        return (I, T) if self.unit else (unit(I), unit(T))

    def __call__(self, I: Array, T: Array) -> Array:
        """Return the scores (B, C)."""
        return self.call("fn", *self.given(I, T), shape=(len(I), len(T)))

    def single(self, I: Array, T: Array) -> Array:
        """Return the scores (Q, B, C) that each query has alone."""
        return np.stack([self(I[:, [q]], T) for q in range(I.shape[1])])


max_over_queries = Suite("max_over_queries", MaxOverQueries)


def features_of(rng: Rng, B: int, Q: int, C: int, E: int) -> tuple[Array, Array]:
    """Return raw queries and raw texts."""
    return rng.normal(size=(B, Q, E)), rng.normal(size=(C, E))


@max_over_queries.property(
    "X01", why="one picture or one text alone is the commonest call of a search", **letters
)
def shapes(score: MaxOverQueries, rng: Rng, B: int, Q: int, C: int, E: int) -> None:
    """The scores are (B, C), pictures in rows, for one picture and one text too."""
    I, T = features_of(rng, B, Q, C, E)
    for rows, texts in ((I, T), (I[:1], T), (I, T[:1]), (I[:1], T[:1])):
        score(rows, texts)


@max_over_queries.property("X02", why=COSINE, B=letters["B"], C=letters["C"], E=letters["E"])
def one_query(score: MaxOverQueries, rng: Rng, B: int, C: int, E: int) -> None:
    """With one query the score is the cosine."""
    I, T = features_of(rng, B, 1, C, E)
    score.agree(
        score(I, T), unit(I[:, 0]) @ unit(T).T, "score of a single query against its cosine"
    )


@max_over_queries.property("X03", why=BEST, **letters)
def permuted(score: MaxOverQueries, rng: Rng, B: int, Q: int, C: int, E: int) -> None:
    """The order of the queries does not matter."""
    I, T = features_of(rng, B, Q, C, E)
    score.agree(
        score(I[:, rng.permutation(Q)], T), score(I, T), "score with the queries in another order"
    )


@max_over_queries.property("X04", why=BEST, **letters)
def repeated(score: MaxOverQueries, rng: Rng, B: int, Q: int, C: int, E: int) -> None:
    """A query repeated changes nothing."""
    I, T = features_of(rng, B, Q, C, E)
    again = I[:, [rng.integers(Q)]]
    score.agree(
        score(np.concatenate([I, again], axis=1), T), score(I, T), "score with one query twice"
    )


@max_over_queries.property("X05", why=BEST, **letters)
def one_more(score: MaxOverQueries, rng: Rng, B: int, Q: int, C: int, E: int) -> None:
    """One more query never lowers a score."""
    I, T = features_of(rng, B, Q + 1, C, E)
    less, more = score(I[:, :Q], T), score(I, T)
    never(
        more < less - score.tolerance,
        "the score of picture {0} and text {1} fell with one more query",
    )


@max_over_queries.property("X06", why=COSINE, **letters)
def bounded(score: MaxOverQueries, rng: Rng, B: int, Q: int, C: int, E: int) -> None:
    """Scores lie in [−1, 1], and no query alone scores higher."""
    I, T = features_of(rng, B, Q, C, E)
    found = score(I, T)
    never(
        np.abs(found) > 1 + score.tolerance,
        "the score of picture {0} and text {1} is outside [−1, 1]",
    )
    never(
        score.single(I, T) > found + score.tolerance,
        "query {0} alone scores higher for picture {1} and text {2} than all together",
    )


@max_over_queries.property("X07", why=OWN, **letters)
def alone(score: MaxOverQueries, rng: Rng, B: int, Q: int, C: int, E: int) -> None:
    """A score depends on its picture and its text alone."""
    I, T = features_of(rng, B, Q, C, E)
    other_I, other_T = features_of(rng, B, Q, C, E)
    b, c = rng.integers(B), rng.integers(C)
    other_I[b], other_T[c] = I[b], T[c]
    score.agree(
        score(other_I, other_T)[b, c],
        score(I, T)[b, c],
        f"score of picture {b} and text {c} among others",
    )


@max_over_queries.property("X08", why=COSINE, where={"unit": (True,)}, **letters)
def lengths(score: MaxOverQueries, rng: Rng, B: int, Q: int, C: int, E: int) -> None:
    """The length of a query or of a text does not matter."""
    I, T = map(unit, features_of(rng, B, Q, C, E))
    a, b = 10 ** rng.uniform(-2, 2, size=(B, Q, 1)), 10 ** rng.uniform(-2, 2, size=(C, 1))
    score.agree(score(a * I, b * T), score(I, T), "score after rows were lengthened")


@max_over_queries.property("X09", why=BEST, **letters)
def attained(score: MaxOverQueries, rng: Rng, B: int, Q: int, C: int, E: int) -> None:
    """Each score is the score of one of the queries."""
    I, T = features_of(rng, B, Q, C, E)
    apart = np.abs(score.single(I, T) - score(I, T)).min(axis=0)
    never(apart > 3 * score.tolerance, "no query alone has the score of picture {0} and text {1}")


@max_over_queries.property(
    "X10",
    why="the gradient tells the best query alone to come closer; shared among all, queries grow alike",
    needs="vjp",
    B=letters["B"],
    Q=letters["Q"],
    C=letters["C"],
    E=sizes(2, 5),
)
def one_gradient(score: MaxOverQueries, rng: Rng, B: int, Q: int, C: int, E: int) -> None:
    """Of all queries, a pair's best one receives its gradient."""
    I, T = features_of(rng, B, Q, C, E)
    b, c = rng.integers(B), rng.integers(C)
    cotangent = np.zeros((B, C))
    cotangent[b, c] = 1
    received = (score.gradient(0, cotangent, *score.given(I, T)) != 0).any(axis=2)
    best = np.zeros((B, Q), dtype=bool)
    best[b, np.argmax(unit(I[b]) @ unit(T[c]))] = True
    never(
        received & ~best,
        f"the score of picture {b} and text {c} sends a gradient to query {{1}} of picture {{0}}, which is not its best",
    )
    never(
        best & ~received,
        f"the score of picture {b} and text {c} sends no gradient to its best query {{1}}",
    )
