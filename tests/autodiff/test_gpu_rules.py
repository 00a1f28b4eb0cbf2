"""The rules for a GPU are those of the processor: value and every gradient, on an array that the host cannot see into, and no launch too many."""

import numpy as np
import pytest
import strict_array
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.arrays import backend
from tinymm.arrays.backend import elementwise, numpy_elementwise_kernel, to_backend, to_host
from tinymm.arrays.errors import DataError, DeviceError
from tinymm.autodiff import ops
from tinymm.autodiff.ops import fused, gpu, long_attention

sizes, seeds = st.integers(1, 4), st.integers(0, 999)
dtypes = st.sampled_from(["float64", "float32"])


def on(name, function, arrays, seed):
    """Return value and gradients of a function of Tensors on a device, as host arrays, under a random cotangent."""
    inputs = [Tensor(to_backend(a, name), requires_grad=True) for a in arrays]
    y = function(*inputs)
    y.backward(
        to_backend(np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype), name)
    )
    return [to_host(x) for x in (y.data, *(x.grad for x in inputs))]


def assert_same(function, shapes, dtype, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    arrays = [(scale * rng.standard_normal(shape)).astype(dtype) for shape in shapes]
    for a, b in zip(
        on("strict", function, arrays, seed), on("numpy", function, arrays, seed), strict=True
    ):
        assert a.dtype == b.dtype == np.dtype(dtype) and a.shape == b.shape
        tolerance = 1e-11 if dtype == "float64" else 3e-5
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max()))


@given(
    st.lists(sizes, max_size=2),
    sizes,
    sizes,
    sizes,
    st.sampled_from(list(gpu.EXPRESSIONS)),
    dtypes,
    st.sampled_from([1.0, 30.0]),
    seeds,
)
def test_mlp(front, m, D, F, activation, dtype, scale, seed):
    assert_same(
        lambda *t: fused.mlp(*t, activation=activation),
        [(*front, m, D), (D, F), (F,), (F, D), (D,)],
        dtype,
        seed,
        scale,
    )


@given(st.lists(sizes, max_size=3), st.integers(3, 6), seeds)
def test_layer_norm(front, D, seed):
    assert_same(
        lambda *t: fused.layer_norm(*t, eps=0.1), [(*front, D), (D,), (D,)], "float64", seed
    )


@settings(max_examples=40)
@given(
    sizes,
    st.integers(1, 2),
    sizes,
    st.sampled_from(["none", "(T, T)", "(B, 1, 1, T)", "(B, H, T, T)"]),
    dtypes,
    st.booleans(),
    seeds,
)
def test_self_attention(B, H, T, kind, dtype, huge, seed):
    shape = {
        "none": None,
        "(T, T)": (T, T),
        "(B, 1, 1, T)": (B, 1, 1, T),
        "(B, H, T, T)": (B, H, T, T),
    }[kind]
    mask = None if shape is None else np.random.default_rng(seed).random(shape) < 0.6

    def run(t):
        there = "strict" if isinstance(t.data, strict_array.StrictArray) else "numpy"
        return fused.self_attention(
            t, may_attend=None if mask is None else to_backend(mask, there), heads=H
        )

    assert_same(run, [(B, T, 3 * H * 2)], "float64" if huge else dtype, seed, 30.0 if huge else 1.0)


@pytest.mark.parametrize("name", ["layer_norm", "mlp", "self_attention"])
def test_the_device_s_rule_is_the_one_that_runs(name, monkeypatch):
    """Counted: the rule for a GPU runs there, and never on the host."""
    op, ran = getattr(fused, name), []
    monkeypatch.setattr(
        op, "gpu_rule", lambda *a, rule=op.gpu_rule, **k: ran.append(type(a[0])) or rule(*a, **k)
    )
    shapes = {
        "layer_norm": [(2, 3), (3,), (3,)],
        "mlp": [(2, 3), (3, 4), (4,), (4, 3), (3,)],
        "self_attention": [(1, 2, 6)],
    }[name]
    assert_same(op, shapes, "float64", 0)
    assert ran == [strict_array.StrictArray]


def test_an_expression_is_compiled_once_for_each_device(monkeypatch):
    made = []
    monkeypatch.setattr(backend, "_KERNELS", {})
    monkeypatch.setitem(
        backend.DEVICES,
        "numpy",
        backend.Device(
            "numpy",
            np.ndarray,
            np,
            lambda x: x,
            lambda x: x,
            None,
            lambda *a: made.append(a) or numpy_elementwise_kernel(*a),
        ),
    )
    for _ in range(3):
        assert elementwise(np.ones(2), "T x", "T y", "y = T(2) * x;", "twice")(
            np.ones(2)
        ).tolist() == [2, 2]
    assert len(made) == 1


@pytest.mark.parametrize("activation", list(gpu.EXPRESSIONS))
def test_expressions_stay_in_the_dtype_of_their_arrays(activation):
    """A bare 0.5 in C is a double, and would carry a whole kernel on float32 with it: every constant stands in T(…)."""
    import re

    for code in gpu.EXPRESSIONS[activation]:
        assert not re.search(r"(?<![\w.(-])-?\d", re.sub(r"T\([^()]*\)", "T", code)), code


# ---------------------------------------------------------------------- mixed dtypes, and what CuPy would do in silence
MIXED = {
    "layer_norm": (fused.layer_norm, [(2, 4), (4,), (4,)]),
    "mlp": (fused.mlp, [(2, 3), (3, 4), (4,), (4, 3), (3,)]),
    "blockwise_attention": (long_attention.blockwise_attention, [(2, 3, 4)] * 3),
}


@given(st.sampled_from(list(MIXED)), st.lists(dtypes, min_size=5, max_size=5), dtypes, seeds)
def test_arrays_of_two_dtypes_give_what_they_give_on_the_host(name, kinds, cotangent, seed):
    """CuPy's kernels refuse them; NumPy's rule gives results of x's dtype, and gradients of each argument's."""
    function, shapes = MIXED[name]
    rng = np.random.default_rng(seed)
    arrays = [
        rng.standard_normal(shape).astype(kind) for shape, kind in zip(shapes, kinds, strict=False)
    ]
    weight = rng.standard_normal(function(*arrays).shape).astype(cotangent)
    found = []
    for device in ("strict", "numpy"):
        inputs = [Tensor(to_backend(a, device), requires_grad=True) for a in arrays]
        y = function(*inputs)
        np.sum(y * to_backend(weight, device)).backward()
        found.append([to_host(x) for x in (y.data, *(x.grad for x in inputs))])
    for there, here in zip(*found, strict=True):
        assert there.dtype == here.dtype
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-4)


def test_a_scalar_of_numpy_in_a_kernel_is_a_number():
    double = elementwise(
        to_backend(np.ones(2, np.float32), "strict"), "T x, T k", "T y", "y = k * x;", "times"
    )
    assert double(to_backend(np.ones(2, np.float32), "strict"), np.float64(2)).dtype == np.float32


PICKS = {
    "one array": (lambda t, ids: t[ids], True),
    "two arrays": (lambda t, ids: t[ids, np.zeros_like(ids)], True),
    "one array behind a slice": (lambda t, ids: t[:, ids], False),
    "an array behind an ellipsis": (lambda t, ids: t[..., ids, :], False),
    "take": (lambda t, ids: np.take(t, ids, axis=1), True),
    "take from the end": (lambda t, ids: np.take(t, ids, axis=-2), True),
    "take of all": (lambda t, ids: np.take(t, 12 * ids), True),
    "take along an axis": (lambda t, ids: np.take_along_axis(t, ids[:, None, None], axis=1), True),
    "embedding": (lambda t, ids: ops.embedding(t.reshape(3, 12), ids=ids), True),
}


@pytest.mark.parametrize("where", ["numpy", "strict"])
@pytest.mark.parametrize("name", PICKS)
def test_an_index_out_of_range_is_no_other_index(name, where, monkeypatch):
    """CuPy wraps it.

    On the host it raises; on the device, which is not asked, what it picks is NaN, and all else
    what NumPy picks.
    """
    monkeypatch.setattr(strict_array, "WRAPS", True)
    pick, on_device = PICKS[name]
    x = np.random.default_rng(0).standard_normal((3, 3, 4))
    right, wrong = np.array([2, 0, 1]), np.array([2, 0, 3])
    there = Tensor(to_backend(x, "strict"))
    with pytest.raises((IndexError, DataError), match="3"):
        pick(Tensor(x), wrong)
    if where == "numpy":
        np.testing.assert_array_equal(to_host(pick(there, right).data), pick(Tensor(x), right).data)
        with pytest.raises((IndexError, DataError), match="3"):
            pick(there, wrong)
    elif on_device:
        np.testing.assert_array_equal(
            to_host(pick(there, to_backend(right, "strict")).data), pick(Tensor(x), right).data
        )
        with strict_array.waits() as asked:
            found = pick(there, to_backend(wrong, "strict")).data
        assert asked == [] and np.isnan(to_host(found)).any()
    else:
        with pytest.raises(DeviceError, match="behind a slice"):
            pick(there, to_backend(right, "strict"))


def test_whole_numbers_have_no_nan_so_the_device_is_asked(monkeypatch):
    monkeypatch.setattr(strict_array, "WRAPS", True)
    t = Tensor(to_backend(np.arange(3), "strict"))
    assert to_host(t[to_backend(np.array([2]), "strict")].data).tolist() == [2]
    with pytest.raises(IndexError, match="out of bounds"):
        t[to_backend(np.array([3]), "strict")]
