"""What ranks tell each other: the right rows and sums, the same bits for all, and an end for all where one fails."""

import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import strict_array
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.backend import device_of, to_backend, to_host
from tinymm.arrays.errors import DataError, UsageError
from tinymm.training import mpi, ranks
from tinymm.training.ranks import Communicator, shard_slice, simulate, split_sizes


@given(st.integers(0, 40), st.integers(1, 9))
def test_shares_are_all_there_is_and_nearly_equal(rows, parts):
    counts = split_sizes(rows, parts)
    assert len(counts) == parts and sum(counts) == rows and max(counts) - min(counts) <= 1
    assert [i for part in range(parts) for i in range(rows)[shard_slice(counts, part)]] == list(
        range(rows)
    )


@given(
    size=st.integers(1, 5), rows=st.integers(0, 9), width=st.integers(0, 3), seed=st.integers(0, 99)
)
def test_gathered_rows_are_everybodys_and_the_sum_of_parts_is_the_sum(size, rows, width, seed):
    parts = np.random.default_rng(seed).standard_normal((size, rows, width)).astype(np.float32)
    counts = split_sizes(rows, size)

    def work(here):
        own = here.reduce_scatter(parts[here.rank], counts)
        return own, here.all_gather(own, counts)

    found = simulate(size, work)
    for rank, (own, everyone) in enumerate(found):
        np.testing.assert_allclose(
            own, parts.sum(axis=0)[shard_slice(counts, rank)], rtol=1e-5, atol=1e-5
        )
        assert everyone.shape == (rows, width) and everyone.dtype == np.float32
        np.testing.assert_array_equal(everyone[shard_slice(counts, rank)], own)


@given(size=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_sum_has_the_same_bits_on_every_rank_and_in_the_order_of_the_ranks(size, seed):
    rng = np.random.default_rng(seed)
    mine = [
        [(10.0 ** rng.integers(-6, 6) * rng.standard_normal(shape)).astype(d) for shape, d in KINDS]
        for _ in range(size)
    ]
    found = simulate(size, lambda here: here.all_reduce(mine[here.rank]))
    for i, (shape, dtype) in enumerate(KINDS):
        expected = mine[0][i]
        for other in mine[1:]:
            expected = expected + other[i]
        for one in found:
            assert (
                one[i].tobytes() == expected.tobytes()
                and one[i].shape == shape
                and one[i].dtype == dtype
            )


KINDS = [
    ((2, 3), np.float32),
    ((), np.float64),
    ((4,), np.float32),
    ((0, 2), np.float32),
    ((5,), np.float64),
]


def test_arrays_of_a_device_come_back_to_it():
    def work(here):
        x = to_backend(np.full((2, 3), 1.0 + here.rank, np.float32), strict_array.NAME)
        return here.all_reduce([x])[0], here.all_gather(x, [2, 2]), here.reduce_scatter(x, [1, 1])

    for found in simulate(2, work):
        assert {device_of(x).name for x in found} == {strict_array.NAME}
        np.testing.assert_array_equal(to_host(found[0]), np.full((2, 3), 3))
        np.testing.assert_array_equal(to_host(found[1])[:, 0], [1, 1, 2, 2])
        np.testing.assert_array_equal(to_host(found[2]), np.full((1, 3), 3))


def test_one_rank_that_computes_another_number_is_found_by_all():
    def work(here):
        here.check_agreement("losses", 0.5)
        with pytest.raises(
            UsageError, match="their losses are 0.5, 0.75, 0.5; start them on machines of one kind"
        ):
            here.check_agreement("losses", 0.75 if here.rank == 1 else 0.5)
        return here.rank

    assert simulate(3, work) == [0, 1, 2]
    Communicator().check_agreement("losses", float("nan"))


def test_an_error_in_one_rank_ends_all_and_is_the_one_that_is_raised():
    def work(here):
        if here.rank == 1:
            raise DataError("rank 1 has a broken picture; remove it")
        here.wait()

    with pytest.raises(DataError, match="rank 1 has a broken picture"):
        simulate(3, work)


def test_ranks_that_do_not_call_alike_are_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr(ranks, "PATIENCE", 0.1)
    with pytest.raises(threading.BrokenBarrierError):
        simulate(2, lambda here: here.rank == 0 and here.wait())


def test_cores_are_shared():
    alone = Communicator()
    assert alone.cores == len(ranks.affinity()) >= 1
    assert simulate(2, lambda here: here.cores) == [max(1, alone.cores // 2)] * 2


# ---------------------------------------------------------------------- found by what the environment says
@pytest.fixture
def started(monkeypatch):
    """Give a function that sets the environment of a started process, and forget what was found before and after."""
    for names in mpi.ANNOUNCEMENTS:
        for name in names:
            monkeypatch.delenv(name, raising=False)
    mpi.current_group.cache_clear()

    def start(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))

    yield start
    mpi.current_group.cache_clear()


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, (0, 1)),
        ({"PMI_RANK": 1, "PMI_SIZE": 2}, (1, 2)),
        ({"OMPI_COMM_WORLD_RANK": 3, "OMPI_COMM_WORLD_SIZE": 4}, (3, 4)),
        (
            {"SLURM_PROCID": 0, "SLURM_NTASKS": 8},
            (0, 1),
        ),  # a shell of an allocation, which is one process
        ({"SLURM_PROCID": 5, "SLURM_STEP_NUM_TASKS": 8}, (5, 8)),
        (
            {"PMI_RANK": 7, "PMI_SIZE": 8, "SLURM_PROCID": 0, "SLURM_STEP_NUM_TASKS": 2},
            (7, 8),
        ),  # mpiexec has sent srun to two machines
    ],
)
def test_the_environment_says_who_was_started_together(environment, found, started):
    started(**environment)
    assert mpi.announced() == found


def test_a_process_that_was_started_alone_is_alone_and_imports_no_mpi(started, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    started(PMI_RANK=0, PMI_SIZE=1)
    assert type(mpi.current_group()) is Communicator and mpi.current_group().size == 1


def test_several_processes_without_mpi4py_are_told_what_to_install(started, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    started(PMI_RANK=0, PMI_SIZE=2)
    with pytest.raises(
        UsageError,
        match=r"^2 processes were started together, and mpi4py.*install the extra 'mpi', or start one process",
    ):
        mpi.current_group()


def test_processes_that_another_mpi_has_started_do_not_train_side_by_side(started, monkeypatch):
    fake = SimpleNamespace(
        COMM_WORLD=SimpleNamespace(size=1), Get_library_version=lambda: "MPICH Version:\t5.0\nmore"
    )
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=fake))
    started(OMPI_COMM_WORLD_RANK=0, OMPI_COMM_WORLD_SIZE=4)
    with pytest.raises(
        UsageError,
        match=r"4 processes were started together, and 1 of them found each other; .* \(MPICH Version: 5.0\)",
    ):
        mpi.current_group()
