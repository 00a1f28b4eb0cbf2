"""The slow twin and the queue beside what the published properties say: what belongs to a model, what is refused, and where arrays live."""

from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.backend import array_module, to_backend, to_host
from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.layers import Linear
from tinymm.models.momentum import FeatureQueue, MomentumEncoder, moving_average, warmed_up_alpha
from tinymm.training.optimizers import AdamW

rows_and_size = st.integers(1, 5).flatmap(
    lambda B: st.tuples(st.just(B), st.integers(1, 4).map(lambda n: n * B))
)


def linear(seed=0, dtype="float64"):
    return Linear(3, 2, rng=np.random.default_rng(seed)).astype(dtype)


def numbers(module):
    return {name: array.copy() for name, array in module.state_dict().items()}


# ---------------------------------------------------------------------- the twin
def test_a_twin_begins_as_a_copy_that_nothing_trains():
    online = linear()
    twin = MomentumEncoder(online, 0.9)
    for name, array in twin.model.state_dict().items():
        np.testing.assert_array_equal(array, online.state_dict()[name])
    assert (
        not twin.trainable()
        and not any(p.requires_grad for p in twin.parameters())
        and not AdamW(twin).parameters
    )
    x = np.ones((4, 3))
    assert not twin.model(x).requires_grad and online(x).requires_grad
    online.weight.data = online.weight.data + 1
    assert (
        np.abs(twin.model.weight.data - online.weight.data).max() == 1
    )  # it has numbers of its own


@given(momentum=st.floats(0, 1), steps=st.integers(0, 6), seed=st.integers(0, 99))
def test_it_closes_a_share_of_the_distance_each_time(momentum, steps, seed):
    online, twin = linear(seed), MomentumEncoder(linear(seed + 1), momentum)
    before = numbers(twin.model)
    for _ in range(steps):
        twin.update(online)
    for name, array in online.state_dict().items():
        expected = array + momentum**steps * (before[name] - array)
        np.testing.assert_allclose(twin.model.state_dict()[name], expected, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_momentum_1_never_moves_and_0_is_where_the_model_is(dtype):
    online, still, close = (
        linear(0, dtype),
        MomentumEncoder(linear(1, dtype), 1),
        MomentumEncoder(linear(1, dtype), 0.0),
    )
    before = numbers(still.model)
    for twin in (still, close):
        twin.update(online)
    for name, array in online.state_dict().items():
        assert still.model.state_dict()[name].tobytes() == before[name].tobytes()
        assert close.model.state_dict()[name].tobytes() == array.tobytes()
        assert still.model.state_dict()[name].dtype == np.dtype(dtype)


def test_following_makes_new_arrays_and_leaves_the_old_ones_true():
    online, twin = linear(0), MomentumEncoder(linear(1), 0.5)
    held, numbers_then = twin.model.weight.data, twin.model.weight.data.copy()
    theirs = online.weight.data.copy()
    twin.update(online)
    np.testing.assert_array_equal(held, numbers_then)
    np.testing.assert_array_equal(online.weight.data, theirs)
    assert twin.model.weight.data is not held
    x = np.zeros(2)
    moving_average(x, np.ones(2), 0.5)
    assert not x.any()


def test_a_training_module_leaves_its_twin_in_evaluation():
    twin = MomentumEncoder(linear(), 0.9)
    assert not twin.train().model.training and twin.model.frozen


@pytest.mark.parametrize("momentum", [-0.1, 1.5, float("nan"), "0.9", None])
def test_a_momentum_is_a_share(momentum):
    with pytest.raises(
        UsageError,
        match=rf"lies in \[0, 1\], 1 meaning that it never moves, and {momentum} came; the papers have 0.995",
    ):
        MomentumEncoder(linear(), momentum)


# ---------------------------------------------------------------------- the queue
@given(sizes=rows_and_size, pushes=st.integers(0, 9), seed=st.integers(0, 99))
def test_a_queue_holds_the_last_pairs_in_a_ring(sizes, pushes, seed):
    (B, K), rng = sizes, np.random.default_rng(seed)
    queue = FeatureQueue(K, 2, rng)
    fresh, came = [tuple(row) for row in queue.images.data], []
    for n in range(pushes):
        images, texts, ids = (
            rng.standard_normal((B, 2)),
            rng.standard_normal((B, 2)),
            rng.integers(0, 9, B),
        )
        assert queue.pointer == n * B % K
        queue.push(images, texts, ids if n % 2 else None)
        came += [
            (*image, *text, i if n % 2 else -100)
            for image, text, i in zip(images.astype("f4"), texts.astype("f4"), ids, strict=True)
        ]
    kept = np.concatenate([queue.images.data, queue.texts.data, queue.image_ids[:, None]], axis=1)
    assert queue.pointer == len(came) % K and int(queue.pushed.data) == len(came)
    for age in range(K):
        slot = (queue.pointer - 1 - age) % K
        if age < len(came):
            np.testing.assert_allclose(kept[slot], came[-1 - age], rtol=1e-6)
            assert queue.ages()[slot] == age
        else:
            assert (
                tuple(queue.images.data[slot]) == fresh[slot]
                and queue.image_ids[slot] == -100
                and queue.ages()[slot] == -1
            )


def test_a_fresh_queue_has_random_directions_that_are_nobody_s():
    queue = FeatureQueue(500, 8, np.random.default_rng(0))
    for rows in (queue.images.data, queue.texts.data):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
        assert np.abs(rows.mean(axis=0)).max() < 6 / np.sqrt(500 * 8) and rows.dtype == np.float32
    assert np.abs((queue.images.data * queue.texts.data).sum(axis=1).mean()) < 6 / np.sqrt(500 * 8)
    assert (queue.image_ids == -100).all() and queue.pointer == 0 and (queue.ages() == -1).all()


def test_a_queue_keeps_copies_and_arrays_that_others_hold_stay_as_they_are():
    queue, rows = FeatureQueue(4, 2, np.random.default_rng(0)), np.ones((2, 2))
    held, before = queue.images.data, queue.images.data.copy()
    queue.push(rows, rows, np.array([3, 4]))
    rows[:] = 9
    np.testing.assert_array_equal(queue.images.data[:2], 1)
    np.testing.assert_array_equal(held, before)


def test_a_queue_is_saved_with_its_model_and_keeps_its_kinds_of_number():
    queue = FeatureQueue(4, 2, np.random.default_rng(0)).astype("float64")
    queue.push(np.eye(2), np.eye(2), np.array([7, 8]))
    again = FeatureQueue(4, 2, np.random.default_rng(1)).astype("float64")
    again.load_state_dict(queue.state_dict())
    assert (
        again.pointer == 2
        and again.image_ids.tolist() == [7, 8, -100, -100]
        and not queue.trainable()
    )
    kinds = {name: str(array.dtype) for name, array in again.state_dict().items()}
    assert kinds == {
        "images": "float64",
        "texts": "float64",
        "ids": "int64",
        "next": "int64",
        "pushed": "int64",
    }


@pytest.mark.parametrize("rows", [3, 5, 9, 0])
def test_batches_that_would_wrap_are_refused_before_anything_has_changed(rows):
    queue = FeatureQueue(8, 2, np.random.default_rng(0))
    queue.push(np.eye(2), np.eye(2))
    before = deepcopy(queue.state_dict())
    said = rf"a queue of 8 takes batches that divide it, .*, and {rows} rows came; change the batch size or the queue's, and leave an incomplete last"
    for refused in (
        lambda: queue.push(np.ones((rows, 2)), np.ones((rows, 2))),
        lambda: queue.check_batch(rows),
    ):
        with pytest.raises(UsageError, match=said):
            refused()
    for name, array in queue.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    "images, texts", [((2, 3), (2, 2)), ((2, 2), (2, 3)), ((2, 2), (4, 2)), ((2,), (2, 2))]
)
def test_both_sides_have_the_joint_width(images, texts):
    with pytest.raises(
        ShapeError,
        match=r"a queue of width 2 takes rows \(2, 2\) of both sides, and .* with .* came",
    ):
        FeatureQueue(4, 2, np.random.default_rng(0)).push(np.ones(images), np.ones(texts))


def test_no_queue_is_no_queue():
    with pytest.raises(
        UsageError,
        match="keeps at least 1 pair and 0 came; without momentum there is no queue at all",
    ):
        FeatureQueue(0, 2, np.random.default_rng(0))


def test_twin_and_queue_are_the_same_wherever_arrays_live(backend):
    found = []
    for home in ("numpy", backend):
        online, twin, queue = (
            linear(0).to(home),
            MomentumEncoder(linear(1), 0.7).to(home),
            FeatureQueue(4, 2, np.random.default_rng(0)).to(home),
        )
        twin.update(online)
        rows = to_backend(np.arange(4.0).reshape(2, 2), home)
        queue.push(rows, rows + 1, np.array([5, 6]))  # ids come from the host
        assert (
            array_module(queue.images.data).__name__
            == array_module(to_backend(np.ones(1), home)).__name__
        )
        found.append(
            [
                *map(to_host, (twin.model.weight.data, queue.images.data, queue.texts.data)),
                queue.image_ids,
                queue.ages(),
                queue.pointer,
            ]
        )
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------------- the warm-up
@given(
    alpha=st.floats(0, 1),
    warmup=st.integers(0, 1000),
    pairs=st.lists(st.integers(0, 3000), min_size=2, max_size=9),
)
def test_the_warmup_rises_from_nothing_to_alpha_and_stays(alpha, warmup, pairs):
    shares = [warmed_up_alpha(alpha, n, warmup) for n in sorted(pairs)]
    assert shares == sorted(shares) and all(0 <= share <= alpha for share in shares)
    assert (
        warmed_up_alpha(alpha, 0, warmup) == (0 if warmup else alpha)
        and warmed_up_alpha(alpha, warmup, warmup) == warmed_up_alpha(alpha, 10**9, warmup) == alpha
    )
    assert warmed_up_alpha(alpha, warmup // 2, warmup) == pytest.approx(
        alpha * (warmup // 2) / warmup if warmup else alpha
    )
