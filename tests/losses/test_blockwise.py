"""Losses by blocks of the n × n matrix equal those that hold it, in value and every gradient, and their memory grows with n alone."""

import tracemalloc

import numpy as np
import op_checks
import pytest
from block_sizes import sized
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import ShapeError
from tinymm.losses import (
    blockwise,
    blockwise_contrastive_loss,
    blockwise_sigmoid_loss,
    l2_normalize,
    sigmoid_loss,
)
from tinymm.tasks.clip import figure_3

seeds = st.integers(0, 9999)
#: (rows, columns) of a block: one by one, wide, tall, whole.
sizes = st.sampled_from([(1, 1), (2, 5), (4, 3), (256, 512)])


def same(x):
    return x


def whole(I, T, t, b):
    one = np.eye(I.shape[1], dtype=I.dtype)
    loss, logits = figure_3(same, same, I, T, one, one, t)
    return loss if b is None else sigmoid_loss(logits + b)


def by_blocks(I, T, t, b):
    I, T, scale = l2_normalize(I), l2_normalize(T), np.exp(t)
    return (
        blockwise_contrastive_loss(I, T, scale)
        if b is None
        else blockwise_sigmoid_loss(I, T, scale, b)
    )


def in_blocks(rows, columns):
    return sized(blockwise, ROWS=rows, COLUMNS=columns)


def drawn(n, E, t, b, seed, dtype="float64"):
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal((n, E)), rng.standard_normal((n, E)), np.array(t)] + (
        [] if b is None else [np.array(b)]
    )
    return [x.astype(dtype) for x in arrays]


def gradients(loss, arrays, g):
    inputs = [Tensor(x, requires_grad=True) for x in arrays]
    found = loss(*inputs) if len(inputs) == 4 else loss(*inputs, None)
    found.backward(np.array(g, found.dtype))
    return [found.data, *(x.grad for x in inputs)]


@settings(max_examples=60)
@given(
    st.integers(1, 9),
    st.integers(1, 4),
    st.floats(-1, 4.6),
    st.sampled_from([None, 0.0, -10.0]),
    sizes,
    seeds,
)
def test_blocks_give_the_loss_and_gradients_of_the_whole(n, E, t, b, size, seed):
    arrays = drawn(n, E, t, b, seed)
    with in_blocks(*size):
        found = gradients(by_blocks, arrays, 0.7)
    for ours, theirs in zip(found, gradients(whole, arrays, 0.7), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * max(1, np.exp(t)))


@pytest.mark.parametrize("b", [None, -10.0])
@pytest.mark.parametrize("n", [511, 513, 1100])
def test_blocks_of_the_real_size_too(n, b):
    """In float32, beside the whole in float64."""
    arrays = drawn(n, 16, 4.6, b, n)
    exact = gradients(whole, arrays, 1.0)
    for ours, theirs in zip(
        gradients(by_blocks, [x.astype(np.float32) for x in arrays], 1.0), exact, strict=True
    ):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * max(0.1, np.abs(theirs).max()))


@pytest.mark.parametrize("law", op_checks.CHECKS)
@pytest.mark.parametrize(
    "loss, shapes",
    [
        (blockwise_contrastive_loss, ((5, 3), (5, 3), ())),
        (blockwise_sigmoid_loss, ((5, 3), (5, 3), (), ())),
    ],
    ids=["contrastive", "sigmoid"],
)
def test_they_keep_the_laws_of_ops(loss, shapes, law):
    for seed, size in enumerate([(1, 1), (2, 3), (256, 512)]):
        with in_blocks(*size):
            op_checks.CHECKS[law](loss, op_checks.fill(loss, shapes, {}, seed, np.float64))


def test_scores_of_hundreds_and_pairs_that_are_sure():
    """At scale 10⁴ every exponential is 0 or 1 and nothing overflows, whatever the order in which the largest score comes."""
    for order in (1, -1):
        one = np.eye(6)[::order]
        with in_blocks(2, 3):
            for loss, others in (
                (blockwise_contrastive_loss, (1e4,)),
                (blockwise_sigmoid_loss, (2e4, -1e4)),
            ):
                right, wrong = (
                    loss(Tensor(one, requires_grad=True), x, *others)
                    for x in (one, np.roll(one, 1, axis=0))
                )
                assert right.item() == pytest.approx(0, abs=1e-9) and wrong.item() == pytest.approx(
                    1e4 if others == (1e4,) else 2e4
                )
                right.backward()


@pytest.mark.parametrize(
    "shapes", [((3, 4), (2, 4)), ((3, 4), (3, 5)), ((3,), (3,)), ((3, 2, 4), (3, 2, 4))]
)
def test_a_picture_without_its_text_is_refused(shapes):
    I, T = map(np.ones, shapes)
    came = " with ".join(rf"\({', '.join(map(str, shape))},?\)" for shape in shapes)
    for call in (
        lambda: blockwise_contrastive_loss(I, T, 1.0),
        lambda: blockwise_sigmoid_loss(I, T, 1.0, 0.0),
    ):
        with pytest.raises(
            ShapeError,
            match=rf"blockwise_\w+_loss takes .* of n aligned pairs, and {came} came; a pair has one of each",
        ):
            call()


@pytest.mark.parametrize("b", [None, -3.0])
def test_it_runs_where_the_arrays_live(backend, b):
    arrays = drawn(5, 3, 1.0, b, 0)
    with in_blocks(2, 3):
        inputs = [Tensor(to_backend(x, backend), requires_grad=True) for x in arrays]
        loss = by_blocks(*inputs, *([None] if b is None else []))
        loss.backward()
    for x, right in zip(
        [loss.data, *(x.grad for x in inputs)], gradients(whole, arrays, 1.0), strict=True
    ):
        assert type(x) is type(inputs[0].data)
        np.testing.assert_allclose(to_host(x), right, atol=1e-12)


def test_memory_grows_with_the_number_of_pairs_and_not_with_its_square():
    """Twice the pairs are twice the peak; the whole takes four times as much, and more from the start."""
    peaks = {}
    for loss in (by_blocks, whole):
        for n in (512, 1024):
            arrays = drawn(n, 8, 2.0, None, 0, "float32")
            with in_blocks(32, 64):
                tracemalloc.start()
                gradients(loss, arrays, 1.0)
                peaks[loss, n] = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
    assert peaks[by_blocks, 1024] < 2.2 * peaks[by_blocks, 512]
    assert (
        peaks[whole, 1024] > 3.5 * peaks[whole, 512]
        and peaks[whole, 512] > 5 * peaks[by_blocks, 512]
    )
