"""Convolution and batch normalization against their definitions, and against PyTorch in both modes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.layers import BatchNorm2d, Conv2d

rng = np.random.default_rng
seeds = st.integers(0, 9999)


@settings(max_examples=15)
@given(
    st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.integers(3, 6), st.booleans(), seeds
)
def test_a_convolution_is_a_linear_map_of_each_window(size, stride, padding, side, bias, seed):
    layer = Conv2d(2, 3, size, rng=rng(seed), stride=stride, padding=padding, bias=bias).astype(
        "float64"
    )
    x = rng(seed + 1).standard_normal((2, side, side + 1, 2))
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    h, w = ((n + 2 * padding - size) // stride + 1 for n in x.shape[1:3])
    y = layer(x).data
    assert y.shape == (2, h, w, 3)
    for i, j in np.ndindex(h, w):
        window = padded[:, i * stride : i * stride + size, j * stride : j * stride + size]
        expected = np.einsum("bijc,ijco->bo", window, layer.weight.data) + (
            layer.bias.data if bias else 0
        )
        np.testing.assert_allclose(y[:, i, j], expected, atol=1e-12)


@given(st.integers(2, 4), seeds)
def test_in_training_each_channel_has_mean_zero_and_variance_one(B, seed):
    norm = BatchNorm2d(3).astype("float64")
    x = rng(seed).standard_normal((B, 4, 4, 3)) * [1, 5, 0.1] + [0, 3, -2]
    y = norm(x).data
    variance = x.var(axis=(0, 1, 2))
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(y.var(axis=(0, 1, 2)), variance / (variance + 1e-5), rtol=1e-9)


def test_running_statistics_follow_unbiased_variances_and_evaluation_uses_them_without_moving_them():
    norm = BatchNorm2d(2).astype("float64")
    mean, variance = np.zeros(2), np.ones(2)
    for seed in range(3):
        x = rng(seed).standard_normal((3, 2, 2, 2)) + 1
        norm(x)
        mean = 0.9 * mean + 0.1 * x.mean(axis=(0, 1, 2))
        variance = 0.9 * variance + 0.1 * x.var(axis=(0, 1, 2), ddof=1)
    np.testing.assert_allclose(norm.running_mean.data, mean, rtol=1e-12)
    np.testing.assert_allclose(norm.running_variance.data, variance, rtol=1e-12)
    assert norm.batches_seen.data == 3
    state = norm.eval().state_dict()
    np.testing.assert_allclose(norm(x).data, (x - mean) / np.sqrt(variance + 1e-5), rtol=1e-9)
    for name, array in norm.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


def test_a_picture_depends_on_its_batch_in_training_only():
    norm, x = BatchNorm2d(2), rng(0).standard_normal((4, 3, 3, 2)).astype(np.float32)
    assert not np.allclose(norm(x).data[:2], norm(x[:2]).data)
    norm.eval()
    np.testing.assert_allclose(norm(x).data[:2], norm(x[:2]).data, rtol=1e-6)


def test_float32_stays_float32_and_the_buffers_have_no_gradient():
    norm = BatchNorm2d(2)
    x = Tensor(rng(0).standard_normal((4, 3, 3, 2)).astype(np.float32), requires_grad=True)
    y = norm(x)
    y.backward(np.ones_like(y.data))
    assert {
        y.dtype,
        x.grad.dtype,
        norm.running_mean.data.dtype,
        norm.running_variance.data.dtype,
    } == {np.dtype(np.float32)}
    assert [name for name, _ in norm.named_parameters()] == ["weight", "bias"]


@pytest.mark.parity
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 1e-4)])
def test_batch_norm_is_pytorch_s_in_both_modes(training, dtype, tolerance):
    torch = pytest.importorskip("torch")
    ours = BatchNorm2d(3).astype(dtype)
    theirs = torch.nn.BatchNorm2d(3, dtype=getattr(torch, dtype))
    start = {
        "weight": ours.weight,
        "bias": ours.bias,
        "running_mean": ours.running_mean,
        "running_var": ours.running_variance,
    }
    for seed, (name, place) in enumerate(start.items()):
        value = rng(seed).uniform(0.5, 2, 3).astype(dtype)
        place.data = value
        getattr(theirs, name).data = torch.from_numpy(value.copy())
    ours.train(training)
    theirs.train(training)
    for step in range(2):
        x, g = rng(10 + step).standard_normal((2, 4, 5, 6, 3)).astype(dtype)
        a = Tensor(x, requires_grad=True)
        b = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
        ya, yb = ours(a), theirs(b)
        ya.backward(g)
        yb.backward(torch.tensor(g.transpose(0, 3, 1, 2)))
        pictures = [(ya.data, yb), (a.grad, b.grad)]
        others = [(ours.weight.grad, theirs.weight.grad), (ours.bias.grad, theirs.bias.grad)]
        others += [
            (ours.running_mean.data, theirs.running_mean),
            (ours.running_variance.data, theirs.running_var),
        ]
        right = [t.detach().numpy().transpose(0, 2, 3, 1) for _, t in pictures] + [
            t.detach().numpy() for _, t in others
        ]
        for found, expected in zip([f for f, _ in pictures + others], right, strict=True):
            np.testing.assert_allclose(
                found, expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max())
            )
    assert ours.batches_seen.data == int(theirs.num_batches_tracked) == (2 if training else 0)
