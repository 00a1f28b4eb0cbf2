"""Long sums round as short ones do, along every axis, and are NumPy's in all else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.arrays.sums import SHORT, average, total
from tinymm.autodiff import ops

LONG = 32 * 112 * 112  # places of a channel in CLIP's stem, batch 32


def off(found, exact, magnitudes):
    return float(np.abs(found.astype(float) - exact).max() / magnitudes.max())


@given(
    st.lists(st.sampled_from([1, 2, 17, 70]), min_size=1, max_size=4),
    st.data(),
    st.booleans(),
    st.sampled_from(["C", "F", "flipped", "stretched"]),
)
@settings(max_examples=60)
def test_value_and_shape_are_numpys(shape, data, keepdims, layout):
    x = np.random.default_rng(0).standard_normal(shape)
    if layout == "stretched":
        x = np.broadcast_to(x[:1], shape)
    x = {"F": np.asfortranarray, "flipped": lambda x: x[::-1]}.get(layout, np.asarray)(x)
    axes = data.draw(
        st.one_of(
            st.none(),
            st.integers(-x.ndim, x.ndim - 1),
            st.sets(st.integers(0, x.ndim - 1)).map(tuple),
        )
    )
    for ours, numpys in ((total, np.sum), (average, np.mean)):
        found, expected = ours(x, axes, keepdims), numpys(x, axis=axes, keepdims=keepdims)
        assert np.shape(found) == np.shape(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shape", [(LONG, 2), (SHORT + 1, 3), (200_704, 8), (8, 8192, 4)])
@pytest.mark.parametrize("kind", ["equal", "mean 1", "mean 0"])
def test_float32_is_as_good_as_by_pairs(shape, kind):
    rng = np.random.default_rng(0)
    x = (
        np.full(shape, 0.1, np.float32)
        if kind == "equal"
        else (rng.standard_normal(shape) + (kind == "mean 1")).astype(np.float32)
    )
    axis = len(shape) - 2
    exact = x.astype(float).sum(axis=axis)
    assert off(total(x, axis), exact, np.abs(x).astype(float).sum(axis=axis)) < 3e-7


def test_short_sums_and_whole_numbers_are_left_to_numpy():
    x = np.random.default_rng(0).standard_normal((SHORT, 3)).astype(np.float32)
    np.testing.assert_array_equal(total(x, 0), x.sum(axis=0))
    np.testing.assert_array_equal(total(np.ones((2 * SHORT, 2), np.int8), 0), np.full(2, 2 * SHORT))


def test_gradients_of_biases_do_not_lose_digits():
    """Each kernel that has a bias sums its gradient over all rows, in blocks or at once."""
    n, g = 60_000, np.float32(0.1)
    x, w, b = np.ones((n, 2), np.float32), np.ones((2, 2), np.float32), np.zeros(2, np.float32)
    calls = {
        "stretched": lambda b: x + b, "linear": lambda b: ops.linear(x, w, b), "layer norm": lambda b: ops.layer_norm(x, np.ones(2, np.float32), b),
        "mlp, last": lambda b: ops.mlp(x, w, np.zeros(2, np.float32), w, b), "mlp, first": lambda b: ops.mlp(x, w, b, w * 0.5, b, activation="relu"),
    }  # fmt: skip
    for name, call in calls.items():
        bias = Tensor(b + 1, requires_grad=True)
        call(bias).backward(np.full((n, 2), g))
        times = (
            2 if name == "mlp, first" else 1
        )  # there the bias stands in both places, and the weights between them sum to 1
        assert abs(bias.grad / (times * n * float(g)) - 1).max() < 4e-7, name
