"""Batches: the promise that no state is needed, and sets that refuse what does not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.data.batches import PairSet, ZeroShot, batch_indices


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6), st.integers(0, 2**31))
def test_a_batch_is_distinct_in_range_and_a_function_of_step_and_seed(n, size, step, seed):
    size = min(n, size)
    batch = batch_indices(n, size, step, seed)
    assert batch.dtype == np.int64 and batch.shape == (size,)
    assert len(set(batch.tolist())) == size and 0 <= batch.min() <= batch.max() < n
    np.testing.assert_array_equal(batch, batch_indices(n, size, step, seed))


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 5))
def test_an_epoch_shows_no_picture_twice_and_leaves_out_less_than_a_batch(n, size, epoch):
    size = min(n, size)
    steps = n // size
    seen = np.concatenate(
        [batch_indices(n, size, epoch * steps + step, 3) for step in range(steps)]
    )
    assert len(set(seen.tolist())) == len(seen) > n - size


def test_epochs_and_seeds_differ():
    first = batch_indices(100, 100, 0, 0)
    assert not np.array_equal(first, batch_indices(100, 100, 1, 0))
    assert not np.array_equal(first, batch_indices(100, 100, 0, 1))


def test_changing_a_batch_leaves_the_next_call_alone():
    batch = batch_indices(10, 5, 0, 0)
    expected = batch.copy()
    batch[:] = 0
    np.testing.assert_array_equal(batch_indices(10, 5, 0, 0), expected)


@pytest.mark.parametrize("size", [0, 11])
def test_a_batch_size_out_of_range_is_named_with_the_number_of_pictures(size):
    with pytest.raises(
        DataError,
        match=rf"1 to the number of training pictures, 10, but came as {size}: choose a smaller",
    ):
        batch_indices(10, size, 0, 0)


def test_a_pair_set_knows_its_distractors():
    pairs = PairSet(
        np.zeros((2, 4, 4, 1), np.float32), ["a", "b", "c", "d"], np.array([1, -1, 0, 1])
    )
    assert [targets.tolist() for targets in pairs.targets_of_images()] == [[2], [0, 3]]


@pytest.mark.parametrize(
    ("images", "owners", "error", "message"),
    [
        (np.zeros((2, 4, 4)), [0, 1], ShapeError, r"\(N, h, w, c\) but got \(2, 4, 4\)"),
        (np.zeros((2, 4, 4, 1)), [0], ShapeError, r"\(2,\), but got \(1,\)"),
        (np.zeros((2, 4, 4, 1)), [0, 2], DataError, r"from -1 to 1 but came as 0 to 2"),
        (np.zeros((2, 4, 4, 1)), [-2, 0], DataError, r"from -1 to 1 but came as -2 to 0"),
    ],
)
def test_a_pair_set_refuses_what_does_not_fit(images, owners, error, message):
    with pytest.raises(error, match=message):
        PairSet(images, ["a", "b"], np.array(owners))


def test_prompts_put_each_class_into_each_template():
    task = ZeroShot(np.zeros((1, 4, 4, 1)), ("cat", "dog"), np.array([0]), ("a {}", "{}s"))
    assert task.prompts() == [["a cat", "cats"], ["a dog", "dogs"]]
    with pytest.raises(DataError, match="one {} for its class but came as \\['a cat'\\]"):
        ZeroShot(np.zeros((1, 4, 4, 1)), ("cat",), np.array([0]), ("a cat",))
    with pytest.raises(ShapeError, match=r"\(1,\), but got \(2,\)"):
        ZeroShot(np.zeros((1, 4, 4, 1)), ("cat",), np.array([0, 0]), ("{}",))
