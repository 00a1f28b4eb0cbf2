"""The two helpers that Figure 3 calls without defining them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.arrays.backend import to_backend
from tinymm.arrays.errors import DataError, ShapeError
from tinymm.autodiff import gradcheck
from tinymm.losses import cross_entropy_loss, l2_normalize

seeds = st.integers(0, 9999)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3)


def drawn(shape, axis, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, shape[axis], shape[:axis] + shape[axis + 1 :])
    return 3 * rng.standard_normal(shape), labels


@given(shapes, st.data(), seeds)
def test_cross_entropy_is_the_mean_surprise_about_the_label(shape, data, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    logits, labels = drawn(tuple(shape), axis % len(shape), seed)
    p = np.exp(logits) / np.exp(logits).sum(axis=axis, keepdims=True)
    chosen = np.take_along_axis(p, np.expand_dims(labels, axis), axis)
    assert cross_entropy_loss(logits, labels, axis=axis).item() == pytest.approx(
        -np.log(chosen).mean(), abs=1e-9
    )


@given(shapes, st.data(), seeds)
def test_its_gradient_is_the_measured_slope(shape, data, seed):
    axis = data.draw(st.integers(0, len(shape) - 1))
    logits, labels = drawn(tuple(shape), axis, seed)
    gradcheck(
        lambda x: cross_entropy_loss(x, labels, axis=axis),
        logits,
        rng=np.random.default_rng(seed),
        directions=1,
    )


@given(st.integers(1, 6), st.integers(1, 5), seeds)
def test_the_axis_is_that_of_the_classes(n, m, seed):
    logits, labels = drawn((n, m), 1, seed)
    assert cross_entropy_loss(logits, labels, axis=1).item() == pytest.approx(
        cross_entropy_loss(logits.T, labels, axis=0).item(), abs=1e-12
    )


@pytest.mark.parametrize("classes", [1, 2, 7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_logits_cost_the_logarithm_of_their_number(classes, dtype, backend):
    logits = Tensor(to_backend(np.full((3, classes), 2, dtype), backend), requires_grad=True)
    loss = cross_entropy_loss(logits, np.zeros(3, int), axis=1)
    loss.backward()
    assert loss.item() == pytest.approx(
        np.log(classes), rel=1e-6
    ) and loss.dtype == logits.grad.dtype == np.dtype(dtype)


def test_far_off_labels_cost_their_distance_and_stay_finite():
    assert cross_entropy_loss(np.array([[0.0, -2000.0]]), np.array([1])).item() == 2000


def test_wrong_labels_are_refused_with_numbers():
    with pytest.raises(
        ShapeError,
        match=r"logits \(3, 4\) with classes along axis 1 need labels \(3,\) and \(4,\) came",
    ):
        cross_entropy_loss(np.zeros((3, 4)), np.zeros(4, int), axis=1)
    with pytest.raises(DataError, match=r"\[0, 4\) and 0 to 4 came"):
        cross_entropy_loss(np.zeros((3, 4)), np.array([0, 1, 4]), axis=1)
    with pytest.raises(DataError, match="-1 to 1 came"):
        cross_entropy_loss(np.zeros((3, 4)), np.array([0, 1, -1]), axis=1)


@given(st.integers(1, 4), st.integers(1, 5), st.floats(0.01, 100), seeds)
def test_normalized_rows_have_length_one_and_the_same_direction(rows, width, scale, seed):
    x = np.random.default_rng(seed).standard_normal((rows, width))
    y = l2_normalize(x, axis=1)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(l2_normalize(scale * x, axis=1), y, atol=1e-12)
    np.testing.assert_allclose(y * np.linalg.norm(x, axis=1, keepdims=True), x, atol=1e-12)
    np.testing.assert_allclose(l2_normalize(x.T, axis=0), y.T, atol=1e-15)
    gradcheck(l2_normalize, x, rng=np.random.default_rng(seed), directions=1)


@pytest.mark.parity
@pytest.mark.parametrize("axis", [0, 1])
def test_cross_entropy_is_pytorch_s(axis):
    torch = pytest.importorskip("torch")
    logits, labels = drawn((4, 5), axis, 0)
    ours, theirs = Tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
    a = cross_entropy_loss(ours, labels, axis=axis)
    b = torch.nn.functional.cross_entropy(theirs if axis == 1 else theirs.T, torch.tensor(labels))
    a.backward()
    b.backward()
    assert a.item() == pytest.approx(b.item(), abs=1e-12)
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), atol=1e-12)
