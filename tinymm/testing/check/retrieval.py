# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of retrieval metrics: shares of ranks, so that nearly everything is exact.

Traps: recall is not above chance for every model, and a symmetric matrix hides swapped directions;
scores here are distinct whole numbers in random order. Ties are what a collapsed model produces:
they must not count as hits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..contract import Contract, Found, never
from ..strategies import distinct_scores, sizes
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
queries: dict[str, Any] = {"n": sizes(1, 6), "k": sizes(1, 6)}
several: dict[str, Any] = {"n": sizes(1, 4), "m": sizes(1, 3), "k": sizes(1, 6)}
RANK = (
    "recall@k is the share of queries whose truth is among the k best of its own row, nothing else"
)
TIES = "a collapsed model gives every pair one score; counted as hits, its ties report 100 %"
NAN = "a model that has diverged scores NaN, and no comparison with NaN is true: counted by what is not above it, its truth is always first"
CAPTIONS = "a picture has several right captions and a caption one picture; as five classes, four of five hits are lost"


@dataclass
class Recall(Contract):
    """`fn(S (n, n), k)` in [0, 1], a query a row, its truth on the diagonal.

    `ties` count "against" the truth, as the "expected" share of a random order, or "any" way.
    Further properties run if given: `captions(S (N, M), image_of_caption (M,), k)` returns
    picture→text and text→picture recall, −1 for a caption of no picture; `swap(right, swapped)`,
    scores of right and of swapped captions, returns the accuracy, ties ½.
    """

    ties: str = field(default="against", kw_only=True)
    captions: Callable | None = field(default=None, kw_only=True)
    swap: Callable | None = field(default=None, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {"ties": ("against", "expected", "any")}

    def __call__(self, S: Array, k: int) -> float:
        """Return recall@k, with k folded into 1 … n."""
        return float(self.call("fn", S, within(k, len(S)), shape=()))

    def both(self, S: Array, image_of_caption: Array, k: int) -> tuple[float, float]:
        """Return picture→text and text→picture recall."""
        to_text, to_image = self.result("captions", S, image_of_caption, k)
        return float(self.numbers("captions", to_text, ())), float(
            self.numbers("captions", to_image, ())
        )

    def unless_refused(self, name: str, *arguments: Any) -> list[float]:
        """Return the shares of scores with NaN, 0 for a share that is NaN; none at all if an error refuses them."""
        try:
            value = self.result(name, *arguments)
        except Found as refused:
            if refused.__cause__ is None:
                raise
            return []
        shares = value if isinstance(value, (tuple, list)) else (value,)
        return [
            float(np.nan_to_num(self.numbers(name, share, (), finite=False))) for share in shares
        ]

    def same(self, found: float, expected: float, what: str) -> None:
        """Demand equal shares; a share summed in another order may round otherwise."""
        self.agree(found, expected, what, tolerance=1e-6)


recall = Suite("recall", Recall)


def within(k: int, n: int) -> int:
    """Fold a drawn k into 1 … n, so that small pools do not always ask for everything."""
    return (k - 1) % n + 1


@recall.property("R01", why=RANK, **queries)
def dominant(share: Recall, rng: Rng, n: int, k: int) -> None:
    """A dominant diagonal gives 1."""
    share.same(
        share(distinct_scores(rng, n, n) + 2 * n * n * np.eye(n), k),
        1,
        f"recall@{within(k, n)} of a dominant diagonal",
    )


@recall.property("R02", why=RANK, n=sizes(1, 6))
def monotone(share: Recall, rng: Rng, n: int) -> None:
    """Recall never falls with k, and recall@n is 1."""
    S = distinct_scores(rng, n, n)
    found = np.array([share(S, k) for k in range(1, n + 1)])
    never(np.diff(found) < 0, "recall falls as k grows from {0} + 1")
    share.same(found[-1], 1, f"recall@{n} of {n}")


@recall.property("R03", why=RANK, **queries)
def mapped(share: Recall, rng: Rng, n: int, k: int) -> None:
    """Growing maps and constants of rows change nothing."""
    S = distinct_scores(rng, n, n)
    level = rng.integers(-1000, 1000, size=(n, 1))
    share.same(
        share(S**3 + level, k), share(S, k), "recall after scores were cubed and each row shifted"
    )


@recall.property("R04", why=RANK, **queries)
def permuted(share: Recall, rng: Rng, n: int, k: int) -> None:
    """Permuting the pairs changes nothing."""
    S, order = distinct_scores(rng, n, n), rng.permutation(n)
    share.same(share(S[order][:, order], k), share(S, k), "recall with the pairs in another order")


@recall.property("R05", why=TIES, **queries)
def tied(share: Recall, n: int, k: int) -> None:
    """Constant scores give at most k/n."""
    found, chance = share(np.ones((n, n)), k), within(k, n) / n
    never(
        found > chance + 1e-6,
        f"equal scores give recall@{within(k, n)} = {found:.4g}, chance is {chance:.4g}",
    )


@recall.property(
    "R05s",
    why=TIES,
    tier="strict",
    where={"ties": ("against", "expected")},
    levels=sizes(1, 3),
    **queries,
)
def some_tied(share: Recall, rng: Rng, n: int, k: int, levels: int) -> None:
    """Scores that rounding made equal to the truth's count against it, or as the share that a random order gives."""
    S, k = rng.integers(levels + 1, size=(n, n)).astype(float), within(k, n)
    own = np.diagonal(S)[:, None]
    above, level = (S > own).sum(axis=1), (S == own).sum(axis=1)
    expected = (
        (above + level <= k).mean()
        if share.ties == "against"
        else np.clip((k - above) / level, 0, 1).mean()
    )
    share.same(share(S, k), expected, f"recall@{k} of scores of {levels + 1} levels")


@recall.property("R06", why=RANK, **queries)
def in_falling_order(share: Recall, n: int, k: int) -> None:
    """With columns in falling order recall@k is k/n."""
    falling = np.tile(-np.arange(n, dtype=float), (n, 1))
    share.same(
        share(falling, k), within(k, n) / n, f"recall@{within(k, n)} of columns in falling order"
    )


@recall.property("R07", why=RANK, n=sizes(2, 6))
def lowest(share: Recall, rng: Rng, n: int) -> None:
    """A diagonal below all else gives recall@(n − 1) = 0."""
    S = distinct_scores(rng, n, n)
    share.same(
        share(np.where(np.eye(n, dtype=bool), -1 - S, S), n - 1),
        0,
        f"recall@{n - 1} of the lowest diagonal",
    )


@recall.property("R08a", why=CAPTIONS, needs="captions", **several)
def any_caption(share: Recall, rng: Rng, n: int, m: int, k: int) -> None:
    """A picture is a hit if any of its captions is."""
    owner = rng.permutation(np.repeat(np.arange(n), m))
    S = distinct_scores(rng, n, n * m)
    S[np.arange(n), [rng.choice(np.flatnonzero(owner == i)) for i in range(n)]] += 2 * S.size
    share.same(
        share.both(S, owner, within(k, n))[0],
        1,
        "picture→text recall where one caption of each picture is the best",
    )


@recall.property("R08b", why=CAPTIONS, needs="captions", c=sizes(2, 3), **several)
def repeated(share: Recall, rng: Rng, n: int, m: int, k: int, c: int) -> None:
    """Repeating every caption changes neither picture→text recall@1 nor text→picture recall."""
    owner, S, k = np.repeat(np.arange(n), m), distinct_scores(rng, n, n * m), within(k, n)
    often, owners = np.repeat(S, c, axis=1), np.repeat(owner, c)
    share.same(
        share.both(often, owners, 1)[0],
        share.both(S, owner, 1)[0],
        f"picture→text recall@1 with every caption {c} times",
    )
    share.same(
        share.both(often, owners, k)[1],
        share.both(S, owner, k)[1],
        f"text→picture recall@{k} with every caption {c} times",
    )


@recall.property("R08c", why=CAPTIONS, needs="captions", **several)
def one_picture(share: Recall, rng: Rng, n: int, m: int, k: int) -> None:
    """A caption is a hit if its one picture is among the k best."""
    owner, rank, k = np.repeat(np.arange(n), m), rng.integers(n, size=n * m), within(k, n)
    S = -((np.arange(n)[:, None] - owner + rank) % n).astype(
        float
    )  # the owner stands at the drawn rank of its column
    share.same(
        share.both(S, owner, k)[1], (rank < k).mean(), f"text→picture recall@{k} of known ranks"
    )


@recall.property(
    "R09",
    why="a metric that rises with more wrong answers measures the size of the pool",
    needs="captions",
    extra=sizes(1, 3),
    **several,
)
def distracted(share: Recall, rng: Rng, n: int, m: int, k: int, extra: int) -> None:
    """A caption of no picture never raises recall."""
    S, k = distinct_scores(rng, n, n * m + extra), within(k, n)
    owner = np.concatenate([np.repeat(np.arange(n), m), np.full(extra, -1)])
    less, more = share.both(S[:, :-extra], owner[:-extra], k), share.both(S, owner, k)
    never(
        more[0] > less[0] + 1e-6,
        f"picture→text recall rose from {less[0]:.4g} to {more[0]:.4g} with {extra} captions of no picture",
    )
    share.same(more[1], less[1], "text→picture recall with captions of no picture")


@recall.property("R10a", why=TIES, needs="swap", n=sizes(1, 6))
def order_blind(share: Recall, rng: Rng, n: int) -> None:
    """An encoder blind to word order has swap accuracy ½ exactly."""
    scores = rng.normal(size=n)
    share.same(
        float(share.call("swap", scores, scores.copy(), shape=())),
        0.5,
        "swap accuracy of equal scores",
    )


@recall.property("R10b", why=TIES, needs="swap", n=sizes(1, 6), wins=sizes(0, 6))
def swaps_won(share: Recall, rng: Rng, n: int, wins: int) -> None:
    """Swap accuracy is the share of right captions that score higher."""
    wins = min(wins, n)
    scores, won = rng.normal(size=n), rng.permutation(n) < wins
    found = share.call("swap", scores, np.where(won, scores - 1, scores + 1), shape=())
    share.same(float(found), wins / n, f"swap accuracy with {wins} of {n} right")


@recall.property("R11a", why=NAN, n=sizes(2, 6), k=sizes(1, 5))
def truth_is_nan(share: Recall, rng: Rng, n: int, k: int) -> None:
    """A truth whose score is NaN is no hit before all others are: recall is 0 or NaN, or an error refuses it."""
    S, k = distinct_scores(rng, n, n), within(k, n - 1)
    np.fill_diagonal(S, np.nan)
    for found in share.unless_refused("fn", S, k):
        never(found > 1e-6, f"true pairs of score NaN give recall@{k} = {found:.4g}")


@recall.property("R11b", why=NAN, n=sizes(2, 6), k=sizes(1, 5))
def all_is_nan(share: Recall, n: int, k: int) -> None:
    """Scores that are all NaN give at most k/n, or an error."""
    k = within(k, n - 1)
    for found in share.unless_refused("fn", np.full((n, n), np.nan), k):
        never(
            found > k / n + 1e-6,
            f"scores that are all NaN give recall@{k} = {found:.4g}, chance is {k / n:.4g}",
        )


@recall.property("R11c", why=NAN, needs="captions", n=sizes(2, 4), m=sizes(1, 3), k=sizes(1, 3))
def captions_are_nan(share: Recall, rng: Rng, n: int, m: int, k: int) -> None:
    """Pictures and captions whose true scores are NaN are no hits either."""
    owner, k = np.repeat(np.arange(n), m), within(k, n - 1)
    S = distinct_scores(rng, n, n * m)
    S[owner, np.arange(n * m)] = np.nan
    for name, found in zip(
        ("picture→text", "text→picture"),
        share.unless_refused("captions", S, owner, k),
        strict=False,
    ):
        never(found > 1e-6, f"true pairs of score NaN give {name} recall@{k} = {found:.4g}")


@recall.property("R11d", why=NAN, needs="swap", n=sizes(1, 6))
def swap_is_nan(share: Recall, rng: Rng, n: int) -> None:
    """A right caption whose score is NaN wins nothing, and neither does one beside a swap whose score is NaN."""
    scores, nothing = rng.normal(size=n), np.full(n, np.nan)
    for right, swapped in ((nothing, scores), (nothing, nothing), (scores, nothing)):
        for found in share.unless_refused("swap", right, swapped):
            never(found > 0.5 + 1e-6, f"swap accuracy of scores that are NaN is {found:.4g}")
