"""Linear, embedding, layer norm, dropout and MLP: their definitions, and PyTorch's where it is installed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import DataError, UsageError
from tinymm.layers import MLP, Dropout, Embedding, LayerNorm, Linear

rng = np.random.default_rng
seeds = st.integers(0, 9999)
sizes = st.integers(1, 6)


@given(sizes, sizes, st.lists(sizes, min_size=1, max_size=2), st.booleans(), seeds)
def test_linear_is_a_matrix_product_of_the_last_axis(n, m, leading, bias, seed):
    layer = Linear(n, m, rng=rng(seed), bias=bias).astype("float64")
    x = rng(seed + 1).standard_normal((*leading, n))
    expected = np.einsum("...n,nm->...m", x, layer.weight.data) + (layer.bias.data if bias else 0)
    np.testing.assert_allclose(layer(x).data, expected, atol=1e-12)
    assert sorted(layer.state_dict()) == (["bias", "weight"] if bias else ["weight"])


@given(seeds, st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_embedding_looks_up_rows_and_adds_the_gradients_of_equal_ids(seed, ids):
    layer = Embedding(5, 3, rng=rng(seed)).astype("float64")
    ids = np.array([ids])
    y = layer(ids)
    np.testing.assert_array_equal(y.data, layer.weight.data[ids])
    g = rng(seed).standard_normal(y.shape)
    y.backward(g)
    expected = np.zeros((5, 3))
    for place, id_ in enumerate(ids[0]):
        expected[id_] += g[0, place]
    np.testing.assert_allclose(layer.weight.grad, expected, atol=1e-12)


@pytest.mark.parametrize(
    "ids, message",
    [
        ([[5]], r"\[0, 5\) and 5 came"),
        ([[-1, 2]], r"\[0, 5\) and -1 came"),
        ([[1.0]], "float64 came; tokenize"),
    ],
)
def test_ids_outside_the_table_are_named(ids, message):
    with pytest.raises(DataError, match=message):
        Embedding(5, 3, rng=rng(0))(np.array(ids))


@given(st.floats(0, 0.9), seeds)
def test_dropout_keeps_or_scales_each_number_and_its_gradient_alike(share, seed):
    layer = Dropout(share)
    x = Tensor(rng(seed).uniform(1, 2, (4, 5)), requires_grad=True)
    y = layer(x, rng=rng(seed))
    kept = y.data != 0
    np.testing.assert_allclose(y.data[kept], x.data[kept] / (1 - share), rtol=1e-12)
    if share:
        y.backward(np.ones((4, 5)))
        np.testing.assert_allclose(x.grad, kept / (1 - share), rtol=1e-12)
    np.testing.assert_array_equal(layer(x, rng=rng(seed)).data, y.data)
    assert layer.eval()(x) is x


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_dropout_drops_its_share_and_keeps_the_mean(share):
    y = Dropout(share)(np.ones(40_000, np.float32), rng=rng(0))
    y = y.data if isinstance(y, Tensor) else y
    assert y.dtype == np.float32
    assert np.mean(y == 0) == pytest.approx(share, abs=0.015) and y.mean() == pytest.approx(
        1, abs=0.03
    )


def test_dropout_runs_where_its_input_lives(backend):
    x = Tensor(to_backend(np.ones((3, 4), np.float32), backend), requires_grad=True)
    y = Dropout(0.5)(x, rng=rng(0))
    y.backward(to_backend(np.ones((3, 4), np.float32), backend))
    assert set(np.unique(to_host(x.grad))) == {0.0, 2.0}


def test_dropout_refuses_to_draw_without_a_generator_and_shares_outside_their_range():
    with pytest.raises(
        UsageError,
        match=r"dropout of 0.5 in training mode draws numbers and no rng came; pass rng=, or call model.eval\(\)",
    ):
        Dropout(0.5)(np.ones(3))
    for share in (1.0, -0.1):
        with pytest.raises(UsageError, match=rf"\[0, 1\) and {share} came"):
            Dropout(share)


@given(sizes, st.sampled_from(["gelu", "quick_gelu", "relu"]), seeds)
def test_mlp_is_two_linear_maps_around_its_activation(rows, activation, seed):
    from math import erf

    layer = MLP(3, 5, activation, rng=rng(seed)).astype("float64")
    x = rng(seed + 1).standard_normal((rows, 3))
    h = x @ layer.fc1.weight.data + layer.fc1.bias.data
    bent = {
        "gelu": h * (1 + np.vectorize(erf)(h / np.sqrt(2))) / 2,
        "quick_gelu": h / (1 + np.exp(-1.702 * h)),
        "relu": np.maximum(h, 0),
    }
    expected = bent[activation] @ layer.fc2.weight.data + layer.fc2.bias.data
    np.testing.assert_allclose(layer(x).data, expected, atol=1e-12)


def test_unknown_activations_are_refused():
    with pytest.raises(UsageError, match="'gelu', 'quick_gelu' or 'relu' and 'swish' came"):
        MLP(3, 5, "swish", rng=rng(0))


@pytest.mark.parametrize("eps", [1e-5, 1e-12, 0.1])
def test_layer_norm_uses_its_own_eps(eps):
    x = rng(0).standard_normal((3, 7)) * 1e-2
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    np.testing.assert_allclose(LayerNorm(7, eps).astype("float64")(x).data, expected, rtol=1e-9)


@pytest.mark.parity
@pytest.mark.parametrize("eps", [1e-5, 1e-12])
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-11), ("float32", 2e-5)])
def test_layer_norm_is_pytorch_s(eps, dtype, tolerance):
    torch = pytest.importorskip("torch")
    x, g = rng(0).standard_normal((2, 3, 4, 7)).astype(dtype)
    ours, theirs = (
        LayerNorm(7, eps).astype(dtype),
        torch.nn.LayerNorm(7, eps, dtype=getattr(torch, dtype)),
    )
    for name, parameter in (("weight", theirs.weight), ("bias", theirs.bias)):
        value = rng(1).standard_normal(7).astype(dtype)
        getattr(ours, name).data = value
        parameter.data = torch.from_numpy(value)
    a, b = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    ya, yb = ours(a), theirs(b)
    ya.backward(g)
    yb.backward(torch.from_numpy(g))
    pairs = [
        (ya.data, yb),
        (a.grad, b.grad),
        (ours.weight.grad, theirs.weight.grad),
        (ours.bias.grad, theirs.bias.grad),
    ]
    for found, right in pairs:
        right = right.detach().numpy()
        np.testing.assert_allclose(
            found, right, rtol=0, atol=tolerance * max(1, np.abs(right).max())
        )
