"""The rules for a GPU are those of the processor: value and every gradient, on an array that the host cannot see into, and no launch too many."""

import numpy as np
import pytest
import strict_array
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.arrays import backend
from tinymm.arrays.backend import elementwise, interpreted, to_backend, to_host
from tinymm.autodiff.ops import fused, gpu

sizes, seeds = st.integers(1, 4), st.integers(0, 999)
dtypes = st.sampled_from(["float64", "float32"])


def on(name, function, arrays, seed):
    """Return value and gradients of a function of Tensors on a device, as host arrays, under a random cotangent."""
    inputs = [Tensor(to_backend(a, name), requires_grad=True) for a in arrays]
    y = function(*inputs)
    y.backward(to_backend(np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype), name))
    return [to_host(x) for x in (y.data, *(x.grad for x in inputs))]


def assert_same(function, shapes, dtype, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    arrays = [(scale * rng.standard_normal(shape)).astype(dtype) for shape in shapes]
    for a, b in zip(on("strict", function, arrays, seed), on("numpy", function, arrays, seed), strict=True):
        assert a.dtype == b.dtype == np.dtype(dtype) and a.shape == b.shape
        tolerance = 1e-11 if dtype == "float64" else 3e-5
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max()))


@given(st.lists(sizes, max_size=2), sizes, sizes, sizes, st.sampled_from(list(gpu.EXPRESSIONS)), dtypes, st.sampled_from([1.0, 30.0]), seeds)
def test_mlp(front, m, D, F, activation, dtype, scale, seed):
    assert_same(lambda *t: fused.mlp(*t, activation=activation), [(*front, m, D), (D, F), (F,), (F, D), (D,)], dtype, seed, scale)


@given(st.lists(sizes, max_size=3), st.integers(3, 6), seeds)
def test_layer_norm(front, D, seed):
    assert_same(lambda *t: fused.layer_norm(*t, eps=0.1), [(*front, D), (D,), (D,)], "float64", seed)


@settings(max_examples=40)
@given(sizes, st.integers(1, 2), sizes, st.sampled_from(["none", "(T, T)", "(B, 1, 1, T)", "(B, H, T, T)"]), dtypes, st.booleans(), seeds)
def test_self_attention(B, H, T, kind, dtype, huge, seed):
    shape = {"none": None, "(T, T)": (T, T), "(B, 1, 1, T)": (B, 1, 1, T), "(B, H, T, T)": (B, H, T, T)}[kind]
    mask = None if shape is None else np.random.default_rng(seed).random(shape) < 0.6

    def run(t):
        there = "strict" if isinstance(t.data, strict_array.StrictArray) else "numpy"
        return fused.self_attention(t, may_attend=None if mask is None else to_backend(mask, there), heads=H)

    assert_same(run, [(B, T, 3 * H * 2)], "float64" if huge else dtype, seed, 30.0 if huge else 1.0)


@pytest.mark.parametrize("name", ["layer_norm", "mlp", "self_attention"])
def test_the_device_s_rule_is_the_one_that_runs(name, monkeypatch):
    """Counted: the rule for a GPU runs there, and never on the host."""
    op, ran = getattr(fused, name), []
    monkeypatch.setattr(op, "elsewhere", lambda *a, rule=op.elsewhere, **k: ran.append(type(a[0])) or rule(*a, **k))
    shapes = {"layer_norm": [(2, 3), (3,), (3,)], "mlp": [(2, 3), (3, 4), (4,), (4, 3), (3,)], "self_attention": [(1, 2, 6)]}[name]
    assert_same(op, shapes, "float64", 0)
    assert ran == [strict_array.StrictArray]


def test_an_expression_is_compiled_once_for_each_device(monkeypatch):
    made = []
    monkeypatch.setattr(backend, "_KERNELS", {})
    monkeypatch.setitem(
        backend.DEVICES,
        "numpy",
        backend.Device("numpy", np.ndarray, np, lambda x: x, lambda x: x, None, lambda *a: made.append(a) or interpreted(*a)),
    )
    for _ in range(3):
        assert elementwise(np.ones(2), "T x", "T y", "y = T(2) * x;", "twice")(np.ones(2)).tolist() == [2, 2]
    assert len(made) == 1


@pytest.mark.parametrize("activation", list(gpu.EXPRESSIONS))
def test_expressions_stay_in_the_dtype_of_their_arrays(activation):
    """A bare 0.5 in C is a double, and would carry a whole kernel on float32 with it: every constant stands in T(…)."""
    import re

    for code in gpu.EXPRESSIONS[activation]:
        assert not re.search(r"(?<![\w.(-])-?\d", re.sub(r"T\([^()]*\)", "T", code)), code
