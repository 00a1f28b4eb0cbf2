"""A command under `mpiexec`: every rank does the same, the first one speaks and writes the run folder, the others work in folders that go away.

Nothing in a workflow asks which rank it is. What a rank needs of a run that goes on is in a copy of
its folder.
"""

import contextlib
import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tinymm.arrays.errors import TinymmError, UsageError
from tinymm.training.mpi import announced, current_group
from tinymm.training.ranks import Communicator

#: Seconds in which all ranks fail if the reason is one that they share.
PATIENCE = 3.0


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Let only the first of several ranks print.

    >>> with one_voice():
    ...     print("one")
    one
    """
    if announced()[0] == 0:
        yield
        return
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


@contextlib.contextmanager
def mpi_session(options: dict[str, Any], *, shares_batches: bool) -> Iterator[dict[str, Any]]:
    """Give the options with which this rank runs a command; the same for a process that is alone.

    `shares_batches` says whether the command trains, so that ranks have something to share:
    UsageError if not. An error that all ranks have is raised in each; one that is this rank's alone
    is said by it and ends all, since the others would wait for this one.
    """
    ranks = current_group()
    if ranks.size == 1:
        yield options
        return
    if not shares_batches:
        raise UsageError(
            f"train, demo and compare share batches among ranks, and {ranks.size} were started for another command; start one process"
        )
    try:
        with _own_folders(options, ranks) as own, _own_cores(ranks):
            yield own
    except BaseException as problem:
        if not ranks.meets(PATIENCE):
            said = f"tinymm: rank {ranks.rank} of {ranks.size}: {problem}"
            print(
                said if isinstance(problem, (TinymmError, OSError)) else traceback.format_exc(),
                file=sys.__stderr__,
                flush=True,
            )
            ranks.abort(2)
        raise


@contextlib.contextmanager
def _own_folders(options: dict[str, Any], ranks: Communicator) -> Iterator[dict[str, Any]]:
    """Give the options with a folder of this rank's own in place of the run's, unless it is the first rank."""
    if ranks.rank == 0:
        ranks.wait()  # until all have copied what this one goes on to write
        yield options
        return
    with TemporaryDirectory(prefix="tinymm-rank-") as place:
        own = dict(options)
        for name in ("out", "resume"):
            given = options.get(name)
            if given and Path(given).is_dir():
                shutil.copytree(given, Path(place) / name)
            if given or name == "out" and not options.get("resume"):
                own[name] = str(Path(place) / name)
        ranks.wait()
        yield own


@contextlib.contextmanager
def _own_cores(ranks: Communicator) -> Iterator[None]:
    """Hold the matrix library to this rank's share of the cores, in evaluation too."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=ranks.cores, user_api="blas"):
        yield
