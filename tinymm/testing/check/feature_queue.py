# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of the feature queue, a first-in-first-out buffer of momentum features (He et al. 2020, §3.1; ALBEF §3.2).

Traps: a row is what a picture's feature was, not what it would be today; and what waits before the
first round is over was never a feature at all. Rows are copied, so they are compared exactly.
"""

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..contract import Contract, Found, never, raised
from ..strategies import sizes, unit
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
rounds: dict[str, Any] = {"B": sizes(1, 3), "batches": sizes(1, 4), "E": sizes(1, 4)}
LAST = (
    "what is not among the last K is too old for the momentum encoder, or was never pushed at all"
)


@dataclass
class Queue(Contract):
    """`fn(K, E) -> queue` with `queue.push(rows (B, E))`, `queue.rows (K, E)` and `queue.pointer`, where the next row will be written.

    Rows are stored as they come, and the first ones are random of length 1. `order="age"` for rows
    from the oldest to the newest, and `order="any"` if the order is not promised; both have no
    pointer. `axis=1` for columns: rows are (E, K), and pushed are (E, B). `ragged=True` for a queue
    that takes batches of any size up to K, and not only one that divides it.
    """

    order: str = field(default="ring", kw_only=True)
    axis: int = field(default=0, kw_only=True)
    ragged: bool = field(default=False, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {
        "order": ("ring", "age", "any"),
        "axis": (0, 1),
        "ragged": (False, True),
    }

    def __call__(self, K: int, E: int) -> Any:
        """Return a new queue."""
        return self.result("fn", K, E)

    def push(self, queue: Any, rows: Array) -> Array:
        """Push rows (B, E) and return the array that was handed over; an exception is a finding."""
        given = self._prepared(rows if self.axis == 0 else rows.T)
        self.last_call = "push", (given.copy(),)
        try:
            queue.push(given)
        except Exception as error:
            raise Found(
                f"push raised {raised(error)}",
                self.or_convention(f"push of what your function returned raised {raised(error)}"),
            ) from error
        return given

    def rows(self, queue: Any, K: int, E: int) -> Array:
        """Return the rows (K, E), a copy."""
        found = self.numbers(
            "rows", self.read(queue, "rows"), (K, E) if self.axis == 0 else (E, K)
        ).copy()
        return found if self.axis == 0 else found.T

    def by_age(self, queue: Any, K: int, E: int) -> Array:
        """Return the rows (K, E) from the oldest to the newest."""
        return np.roll(
            self.rows(queue, K, E), -self.pointer(queue, K) if self.order == "ring" else 0, axis=0
        )

    def pointer(self, queue: Any, K: int) -> int:
        """Return the pointer, a whole number in [0, K)."""
        found = self.numbers("pointer", self.read(queue, "pointer"), ())
        never(
            found.dtype.kind not in "iu" or not 0 <= found < K,
            f"the pointer is {found} where a whole number in [0, {K}) belongs",
        )
        return int(found)

    def read(self, queue: Any, name: str) -> Any:
        """Return what a queue has under a name; an exception is a finding."""
        try:
            return getattr(queue, name)
        except Exception as error:
            said = f"{name} of what fn returned raised {raised(error)}"
            raise Found(said, self.or_convention(said.replace("fn", "your function"))) from error


queue = Suite("queue", Queue)


def numbered(rng: Rng, pushes: int, B: int, E: int) -> Array:
    """Return batches (pushes, B, E) of distinct whole numbers, exact in every dtype."""
    return rng.permutation(pushes * B * E).reshape(pushes, B, E).astype(float)


@queue.property("U01", why=LAST, more=sizes(0, 5), **rounds)
def holds_the_last(wait: Queue, rng: Rng, B: int, batches: int, E: int, more: int) -> None:
    """Once K rows were pushed the queue holds the last K, each once."""
    K, pushed = B * batches, numbered(rng, batches + more, B, E)
    waiting = wait(K, E)
    for rows in pushed:
        wait.push(waiting, rows)
    last, found = (
        sorted(map(tuple, rows.tolist()))
        for rows in (pushed.reshape(-1, E)[-K:], wait.rows(waiting, K, E))
    )
    missing = [row for row in last if row not in found]
    never(
        last != found,
        f"after {batches + more} pushes of {B} the queue of {K} lacks {len(missing)} of the last {K} rows, {missing[:2]} first",
    )


@queue.property(
    "U02",
    why="a batch that does not divide K leaves slots that are never written again, or drops its tail, and no one sees it",
    where={"ragged": (False,)},
    B=sizes(2, 4),
    batches=sizes(0, 3),
    E=rounds["E"],
)
def remainder(wait: Queue, rng: Rng, B: int, batches: int, E: int) -> None:
    """A batch that does not divide K is refused, with both numbers."""
    K = B * batches + int(rng.integers(1, B))
    waiting = wait(K, E)
    try:
        for _ in range(batches + 1):
            wait.push(waiting, rng.normal(size=(B, E)))
    except Found as refused:
        if not {str(K), str(B)} <= set(re.findall(r"\d+", str(refused.__cause__))):
            raise Found(f"the error does not name both {K} and {B}: {refused.__cause__}") from None
        return
    raise Found(f"batches of {B} were pushed into a queue of {K} without an error")


@queue.property("U03", why=LAST, where={"order": ("ring", "age")}, pushes=sizes(1, 9), **rounds)
def first_in_first_out(wait: Queue, rng: Rng, B: int, batches: int, E: int, pushes: int) -> None:
    """After each push the rows are, by their age, what a deque of K holds, and the pointer is what was pushed, modulo K."""
    K, expected, total = B * batches, deque[tuple](maxlen=B * batches), 0
    waiting = wait(K, E)
    for batch in numbered(rng, pushes, B, E):
        rows = batch[: rng.integers(1, B + 1)] if wait.ragged else batch
        wait.push(waiting, rows)
        expected.extend(map(tuple, rows.tolist()))
        total += len(rows)
        if wait.order == "ring":
            wait.agree(
                wait.pointer(waiting, K),
                total % K,
                f"pointer of a queue of {K} after {total} rows",
                0,
            )
        newest = wait.by_age(waiting, K, E)[K - len(expected) :]
        wait.agree(
            newest,
            np.array(expected),
            f"the {len(expected)} newest rows of {K}, from the oldest on, after {total} were pushed",
            0,
        )


@queue.property(
    "U04",
    why="stored as a view, a row becomes what its array is used for next: the queue holds one batch many times",
    **rounds,
)
def copies(wait: Queue, rng: Rng, B: int, batches: int, E: int) -> None:
    """What happens later to a pushed array does not reach the queue."""
    K = B * batches
    waiting = wait(K, E)
    pushed = [wait.push(waiting, rows) for rows in numbered(rng, batches, B, E)]
    before = wait.rows(waiting, K, E)
    for rows in pushed:
        rows += 1
    never(
        wait.rows(waiting, K, E) != before,
        "number {1} of row {0} of the queue changed with an array that was pushed",
    )


@queue.property(
    "U05",
    why="a similarity is a cosine only between rows of length 1, and so from the first step on",
    pushes=sizes(0, 3),
    **rounds,
)
def unit_rows(wait: Queue, rng: Rng, B: int, batches: int, E: int, pushes: int) -> None:
    """Rows have length 1 from the first on, if those have that are pushed."""
    K = B * batches
    waiting = wait(K, E)
    for _ in range(pushes):
        wait.push(waiting, unit(rng.normal(size=(B, E))))
    lengths = np.linalg.norm(wait.rows(waiting, K, E), axis=1)
    wait.agree(lengths, 1, f"lengths of the rows after {pushes} pushes")
