"""Communication between ranks, processes that hold the same model and share a batch: all-gather, reduce-scatter, all-reduce.

Everything rests on two moves of bytes: `all_gather` (each rank's rows to all) and an exchange (each
rank's i-th part to rank i). Sums are made here, in the order of the ranks, and every number of a
sum is made by one rank alone and then copied: so all ranks hold the same bits, whatever the library
below does. Ranks can be simulated in the threads of one process (`simulate`), for tests and to see
what goes wrong.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module, to_backend, to_host
from tinymm.arrays.errors import UsageError

#: Seconds that a simulated rank waits for the others.
PATIENCE = 60


def split_sizes(rows: int, parts: int) -> list[int]:
    """Return how many rows each part has; the first ones have one more where the parts cannot be equal.

    >>> split_sizes(7, 3), split_sizes(1, 2)
    ([3, 2, 2], [1, 0])
    """
    least, more = divmod(rows, parts)
    return [least + (i < more) for i in range(parts)]


def shard_slice(counts: Sequence[int], part: int) -> slice:
    """Return the slice of the rows that are a part's own.

    >>> shard_slice([3, 2, 2], 1)
    slice(3, 5, None)
    """
    first = sum(counts[:part])
    return slice(first, first + counts[part])


class Communicator:
    """The communicator of one of `size` ranks, the `rank`-th from 0; by itself, of a process that is alone.

    `cores` is the number of the machine's cores that this rank may use. All ranks must make the
    same calls in the same order: a rank that leaves one out keeps the others waiting.

    >>> alone = Communicator()
    >>> alone.all_gather(np.ones((2, 3)), [2]).shape, alone.all_reduce([np.ones(2)])
    ((2, 3), [array([1., 1.])])
    """

    rank, size = 0, 1

    @property
    def cores(self) -> int:
        """How many cores this rank may use."""
        return max(1, len(affinity()) // self.size)

    def all_gather(self, x: Any, counts: Sequence[int]) -> Any:
        """Return the rows of all ranks, in their order: own rows (counts[rank], …) -> (sum of counts, …)."""
        return self._on_host(self._gather, x, counts)

    def reduce_scatter(self, x: Any, counts: Sequence[int]) -> Any:
        """Return the own rows of the sum over ranks: (sum of counts, …) of each rank -> (counts[rank], …)."""
        return self._on_host(self._sum_of_own, x, counts)

    def all_reduce(self, arrays: list) -> list:
        """Return the sums over ranks of several arrays, the same bits on every rank.

        Many small messages take longer than one large one, so arrays of one dtype travel in one
        buffer: a part of it is summed by each rank (reduce-scatter), and the parts are gathered.
        """
        if self.size == 1:
            return arrays
        found = list(arrays)
        for dtype in dict.fromkeys(a.dtype for a in arrays):
            places = [i for i, a in enumerate(arrays) if a.dtype == dtype]
            buffer = np.concatenate([to_host(arrays[i]).reshape(-1) for i in places])
            counts = split_sizes(len(buffer), self.size)
            total = self._gather(self._sum_of_own(buffer, counts), counts)
            for i, part in zip(
                places,
                np.split(total, np.cumsum([arrays[i].size for i in places])[:-1]),
                strict=True,
            ):
                found[i] = to_backend(
                    part.reshape(arrays[i].shape), array_module(arrays[i]).__name__
                )
        return found

    def check_agreement(self, what: str, number: Any) -> None:
        """Raise UsageError, on every rank, unless all have the same number: what is computed by all from the same must be the same."""
        if self.size == 1:
            return
        numbers = self.all_gather(np.array([float(to_host(number))]), [1] * self.size)
        if len({one.tobytes() for one in numbers}) > 1:
            raise UsageError(
                f"all ranks compute the same from the same data, and their {what} are {', '.join(f'{one:.9g}' for one in numbers)}; start them on "
                "machines of one kind, with the same packages, data and settings"
            )

    def wait(self) -> None:
        """Return when all ranks have come here."""
        self.all_gather(np.zeros(1), [1] * self.size)

    def meets(self, seconds: float) -> bool:
        """Say whether all ranks come here within some seconds, at the end of a run that went wrong."""
        return True

    def abort(self, code: int) -> None:
        """End all ranks at once."""
        raise SystemExit(code)

    # ------------------------------------------------------------------ moves of bytes between hosts
    def _gather(self, x: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        return x

    def _exchange(self, x: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        """Return what all ranks have of this rank's rows: (sum of counts, …) of each -> (size, counts[rank], …)."""
        return x[None]

    def _sum_of_own(self, x: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        first, *others = self._exchange(x, counts)
        total = first.copy()
        for part in others:  # in the order of the ranks, so that a sum is the same in every run
            total += part
        return total

    def _on_host(self, move: Callable, x: Any, counts: Sequence[int]) -> Any:
        return (
            x
            if self.size == 1
            else to_backend(
                move(np.ascontiguousarray(to_host(x)), counts), array_module(x).__name__
            )
        )


def affinity() -> set[int]:
    """Return the numbers of the cores that this process may run on."""
    return (
        os.sched_getaffinity(0)
        if hasattr(os, "sched_getaffinity")
        else set(range(os.cpu_count() or 1))
    )


class Simulated(Communicator):
    """A communicator of ranks that are threads, which exchange arrays through a shared list."""

    def __init__(self, rank: int, table: list, meeting: threading.Barrier):
        self.rank, self.size, self.table, self.meeting = rank, len(table), table, meeting

    def _laid_out(self, x: np.ndarray, look: Callable[[list], np.ndarray]) -> np.ndarray:
        self.table[self.rank] = x
        self.meeting.wait(PATIENCE)
        found = look(self.table)
        self.meeting.wait(PATIENCE)  # nobody clears the table while others look
        return found

    def _gather(self, x: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        return self._laid_out(x, np.concatenate)

    def _exchange(self, x: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        return self._laid_out(
            x, lambda table: np.stack([one[shard_slice(counts, self.rank)] for one in table])
        )


def simulate(size: int, work: Callable[[Communicator], Any]) -> list:
    """Run `work(ranks)` as each of `size` ranks, in threads of this process, and return what each returned; an error in one ends all.

    >>> simulate(3, lambda ranks: float(ranks.all_reduce([np.array([1.0 + ranks.rank])])[0][0]))
    [6.0, 6.0, 6.0]
    """
    from threadpoolctl import threadpool_limits

    table, meeting = [None] * size, threading.Barrier(size)

    def guarded(ranks: Communicator) -> Any:
        try:
            return work(ranks)
        except BaseException:
            meeting.abort()  # the others would wait for this one
            raise

    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(size) as pool:
        tasks = [
            pool.submit(copy_context().run, guarded, Simulated(rank, table, meeting))
            for rank in range(size)
        ]
        problems = [problem for task in tasks if (problem := task.exception())]
    for problem in sorted(
        problems, key=lambda problem: isinstance(problem, threading.BrokenBarrierError)
    ):
        raise problem  # the first that is a reason and not a consequence
    return [task.result() for task in tasks]
