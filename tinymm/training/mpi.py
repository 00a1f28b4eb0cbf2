"""Ranks that are processes, on one machine or on many: found where `mpiexec` or a cluster's `srun` has started them together.

MPI moves bytes and nothing else here; all sums are made by `ranks`.
"""

import functools
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError

from .ranks import Communicator, affinity

#: How those who start processes tell each its rank and their number: Open MPI, MPICH and its kin,
#: Slurm.
ANNOUNCEMENTS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)
#: More cores than a machine has.
_CORES = 8192


def announced() -> tuple[int, int]:
    """Return this process's rank and the number of processes that were started with it, as the environment says; (0, 1) where it says nothing."""
    for rank, size in ANNOUNCEMENTS:
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


@functools.cache
def current_group() -> Communicator:
    """Return this process's communicator: its rank and the others; alone, unless several were started together.

    UsageError where they were and cannot find each other: each would train by itself and write into
    the same folder.
    """
    _, size = announced()
    if size == 1:
        return Communicator()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as problem:
        raise UsageError(
            f"{size} processes were started together, and mpi4py, which connects them, does not work here ({problem}); install the extra 'mpi', or "
            "start one process"
        ) from None
    if MPI.COMM_WORLD.size != size:
        library = MPI.Get_library_version().replace("\t", " ").splitlines()[0]
        raise UsageError(
            f"{size} processes were started together, and {MPI.COMM_WORLD.size} of them found each other; start them with the mpiexec of the "
            f"library that mpi4py uses ({library.split(',')[0]})"
        )
    return MPICommunicator(MPI)


class MPICommunicator(Communicator):
    """A rank that is an MPI process."""

    def __init__(self, mpi: Any):
        self.world = mpi.COMM_WORLD.Dup()
        self.last_words = (
            mpi.COMM_WORLD.Dup()
        )  # a channel of its own, free also where others are in the middle of a gather
        self.rank, self.size = self.world.rank, self.world.size
        self._cores = self._shared_cores(mpi)

    @property
    def cores(self) -> int:
        """The least share that a rank has of its machine's cores, whether the ranks are bound to some of them or not."""
        return self._cores

    def _shared_cores(self, mpi: Any) -> int:
        mine = np.bincount(sorted(affinity()), minlength=_CORES).astype(np.int64)
        users, share = np.empty_like(mine), np.empty(1, np.int64)
        node = self.world.Split_type(mpi.COMM_TYPE_SHARED)
        node.Allreduce(mine, users)
        node.Free()
        self.world.Allreduce(
            np.array([max(1, int(np.sum(mine[mine > 0] / users[mine > 0]) + 1e-6))]),
            share,
            op=mpi.MIN,
        )
        return int(share[0])

    def meets(self, seconds: float) -> bool:
        """Say whether all ranks come here within some seconds."""
        arrival, end = self.last_words.Ibarrier(), time.monotonic() + seconds
        while not arrival.Test():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    def abort(self, code: int) -> None:
        """End all ranks at once."""
        self.world.Abort(code)

    # Bytes have no dtype that MPI would have to know.
    def _gather(self, x: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        out = np.empty((sum(counts), *x.shape[1:]), x.dtype)
        self.world.Allgatherv(_bytes(x), [_bytes(out), [n * _row(x) for n in counts]])
        return out

    def _exchange(self, x: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        own = counts[self.rank]
        out = np.empty((self.size, own, *x.shape[1:]), x.dtype)
        self.world.Alltoallv(
            [_bytes(x), [n * _row(x) for n in counts]], [_bytes(out), [own * _row(x)] * self.size]
        )
        return out


def _bytes(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1).view(np.uint8)


def _row(x: np.ndarray) -> int:
    return x.itemsize * int(np.prod(x.shape[1:]))
