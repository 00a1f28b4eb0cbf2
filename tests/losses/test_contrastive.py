"""Contrastive losses and targets beside what the published properties say: what is refused, and targets of several captions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.losses import (
    cross_entropy_loss,
    itc_loss,
    itc_targets,
    itc_with_queue,
    max_over_queries,
    sigmoid_loss,
    soft_targets,
)


@pytest.mark.parametrize(
    "I, T", [((3, 4), (2, 4)), ((3, 2, 4), (2, 5)), ((3, 2, 4), (4,)), ((3, 2, 4), (3, 2, 4))]
)
def test_the_best_query_needs_both_widths_alike(I, T):
    came = " with ".join(rf"\({', '.join(map(str, shape))},?\)" for shape in (I, T))
    with pytest.raises(
        ShapeError,
        match=rf"queries \(B, Q, E\) and texts \(C, E\), and {came} came; E is the embedding width",
    ):
        max_over_queries(np.ones(I), np.ones(T))


def test_a_batch_of_one_has_nothing_to_tell_apart():
    with pytest.raises(
        UsageError,
        match="needs at least 2 pairs and 1 came: with nothing to tell apart its loss is always 0; raise the batch size",
    ):
        itc_loss(np.ones((1, 1)))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.sampled_from([0.0, 0.1, 1.0]))
def test_captions_of_one_picture_share_its_target(ids, smoothing):
    targets, ids = itc_targets(np.array(ids), smoothing), np.array(ids)
    same = ids[:, None] == ids
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(targets, targets.T, atol=1e-12)
    np.testing.assert_allclose(targets[~same], smoothing / len(ids), atol=1e-12)
    np.testing.assert_allclose(
        targets[same],
        ((1 - smoothing) / same.sum(axis=1, keepdims=True) * same + smoothing / len(ids))[same],
        atol=1e-12,
    )


def test_rows_that_nobody_knows_share_no_target():
    np.testing.assert_array_equal(
        itc_targets(np.array([-100, 7, -100, 7])),
        [[1, 0, 0, 0], [0, 0.5, 0, 0.5], [0, 0, 1, 0], [0, 0.5, 0, 0.5]],
    )


@given(st.integers(2, 6), st.integers(0, 9999))
def test_with_distinct_pictures_it_is_the_mean_of_two_cross_entropies(n, seed):
    S, own = np.random.default_rng(seed).standard_normal((n, n)), np.arange(n)
    halves = (
        cross_entropy_loss(S, own, axis=0).item() + cross_entropy_loss(S, own, axis=1).item()
    ) / 2
    assert itc_loss(S).item() == pytest.approx(halves, abs=1e-12)
    assert itc_loss(S, 7 * own).item() == pytest.approx(halves, abs=1e-12)


# ---------------------------------------------------------------------- beside a slow twin and its queue
@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_the_twin_s_share_is_a_share(alpha):
    with pytest.raises(
        DataError,
        match=rf"alpha is the weight of the pseudo-targets, in \[0, 1\], and {alpha} came; the paper has 0.4",
    ):
        soft_targets(np.zeros((2, 4)), alpha)
    with pytest.raises(DataError, match=rf"and {alpha} came; the paper has 0.4"):
        itc_with_queue(*[np.eye(2)] * 4, np.ones((3, 2)), np.ones((3, 2)), 0.07, alpha)


@pytest.mark.parametrize("rows, columns", [(3, 4), (2, 3), (2, None), (None, 4), (0, 4)])
def test_there_is_an_id_for_each_row_and_each_column(rows, columns):
    came = " with ".join(r"\(\)" if n is None else rf"\({n},\)" for n in (rows, columns))
    with pytest.raises(
        ShapeError,
        match=rf"an id for each of 2 rows and 4 columns, and {came} came; give both, or neither",
    ):
        soft_targets(
            np.zeros((2, 4)), 0.4, *(None if n is None else np.arange(n) for n in (rows, columns))
        )


def test_a_picture_that_nobody_knows_has_its_own_caption_only():
    # -100 in a queue's slot is nobody's; in a row it means that the row knows itself, and not that it is like all the others.
    targets = soft_targets(
        np.zeros((3, 5)), 0.0, np.array([-100, 7, -100]), np.array([-100, 7, -100, 7, -100])
    )
    np.testing.assert_array_equal(targets, [[1, 0, 0, 0, 0], [0, 0.5, 0, 0.5, 0], [0, 0, 1, 0, 0]])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("queue", [(5, 3), (5, 1), (5,), (5, 2, 2)])
def test_a_queue_has_rows_of_the_joint_width(queue, which):
    queues = [np.ones((5, 2)), np.ones((5, 2))]
    queues[which] = np.ones(queue)
    came = ", ".join(map(str, queue))
    with pytest.raises(
        ShapeError,
        match=rf"a queue keeps rows of the embedding width 2, and \({came},?\) came; make it for this model",
    ):
        itc_with_queue(*[np.eye(2)] * 4, *queues, 0.07, 0.4)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_no_gradient_reaches_the_twin_or_the_queues(alpha):
    given = [
        Tensor(np.random.default_rng(i).standard_normal(shape), requires_grad=True)
        for i, shape in enumerate([(3, 4)] * 4 + [(5, 4)] * 2)
    ]
    temperature = Tensor(np.full((), 0.5), requires_grad=True)
    loss, similarities = itc_with_queue(*given, temperature, alpha)
    loss.backward()
    assert [x.grad is not None for x in given] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ] and temperature.grad is not None
    bare, again = itc_with_queue(*given[:2], *(x.data for x in given[2:]), temperature, alpha)
    assert bare.item() == loss.item() and all(
        np.array_equal(a.data, b.data) for a, b in zip(similarities, again, strict=True)
    )


# ---------------------------------------------------------------------- each pair by itself
@pytest.mark.parametrize("shape", [(3, 4), (3,), (3, 3, 1), (2, 3)])
def test_judging_each_pair_needs_a_square(shape):
    came = ", ".join(map(str, shape))
    with pytest.raises(
        ShapeError,
        match=rf"logits \(n, n\) of n aligned pairs, and \({came},?\) came; one picture and one text a pair",
    ):
        sigmoid_loss(np.zeros(shape))
