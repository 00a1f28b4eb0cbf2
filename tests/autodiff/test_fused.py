"""A kernel equals its definition, the readable composition of small ops, in value and in every gradient."""

import numpy as np
import pytest
from block_sizes import sized
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import DtypeError
from tinymm.autodiff import CATALOGUE, gradcheck
from tinymm.autodiff.ops import fused
from tinymm.autodiff.ops.reduce import softmax

sizes = st.integers(1, 5)
seeds = st.integers(0, 9999)
dtypes = st.sampled_from([np.float64, np.float32])
activations = st.sampled_from(["quick_gelu", "gelu", "relu"])
#: Numbers in a block: one row a block, a few, all in one.
block_sizes = st.sampled_from([1, 20, 128 * 1024])
TOLERANCE = {np.dtype(np.float64): 1e-11, np.dtype(np.float32): 2e-5}


def numbers(seed, dtype, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def assert_equal(kernel, definition, arrays, seed=0):
    """Hold value and gradients of two callables equal under a random cotangent, with inputs that cannot be written to."""
    for array in arrays:
        array.flags.writeable = False
    results = []
    for function in (kernel, definition):
        inputs = [Tensor(a, requires_grad=True) for a in arrays]
        y = function(*inputs)
        y.backward(np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype))
        results.append([y.data, *(x.grad for x in inputs)])
    for i, (a, b) in enumerate(zip(*results, strict=True)):
        assert a.dtype == arrays[0].dtype and a.shape == b.shape, (i, a.dtype, a.shape, b.shape)
        assert np.isfinite(a).all()
        np.testing.assert_allclose(
            a, b, rtol=0, atol=TOLERANCE[a.dtype] * max(1, np.abs(b).max()), err_msg=f"output {i}"
        )


@pytest.fixture
def blocks(monkeypatch):
    """Give a function that sets the size of a block."""
    return lambda size: monkeypatch.setattr(fused, "BLOCK", size)


def _with_block(size, check):
    with sized(fused, BLOCK=size, PRODUCT_ROWS=1):
        check()


@given(st.lists(sizes, max_size=3), st.integers(2, 7), dtypes, block_sizes, seeds)
def test_layer_norm(front, D, dtype, block, seed):
    x, gain, bias = numbers(seed, dtype, (*front, D), (D,), (D,))
    x += 9 * np.arange(
        D, dtype=dtype
    )  # no row is nearly constant: its division by almost nothing would magnify float32's rounding
    eps = 1e-5
    _with_block(
        block,
        lambda: assert_equal(
            lambda *t: fused.layer_norm(*t, eps=eps),
            lambda *t: fused.layer_norm_definition(*t, eps=eps),
            [x, gain, bias],
            seed,
        ),
    )


def test_layer_norm_far_from_zero():
    """A row of 10⁴ and small differences: variance must come from the centered row, not from a difference of squares."""
    x = (1e4 + np.random.default_rng(0).standard_normal((3, 64))).astype(np.float32)
    y = fused.layer_norm(x, np.ones(64, np.float32), np.zeros(64, np.float32)).data
    exact = fused.layer_norm_definition(x.astype(np.float64), np.ones(64), np.zeros(64))
    np.testing.assert_allclose(y, exact, atol=5e-3)


@given(
    st.lists(sizes, max_size=2), sizes, sizes, sizes, sizes, activations, dtypes, block_sizes, seeds
)
def test_mlp(front, m, D, F, E, activation, dtype, block, seed):
    arrays = numbers(seed, dtype, (*front, m, D), (D, F), (F,), (F, E), (E,))
    _with_block(
        block,
        lambda: assert_equal(
            lambda *t: fused.mlp(*t, activation=activation),
            lambda *t: fused.mlp_definition(*t, activation=activation),
            arrays,
            seed,
        ),
    )


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "relu"])
def test_mlp_survives_large_numbers(activation):
    """Hidden numbers of ±1000 neither overflow into a warning nor into NaN, in value and gradient."""
    x = Tensor(np.array([[1000.0], [-1000.0]], np.float32), requires_grad=True)
    one, zero = np.ones((1, 1), np.float32), np.zeros(1, np.float32)
    y = fused.mlp(x, one, zero, one, zero, activation=activation)
    y.backward(np.ones_like(y.data))
    np.testing.assert_allclose(y.data, [[1000.0], [0.0]])
    np.testing.assert_allclose(x.grad, [[1.0], [0.0]], atol=1e-6)


# ---------------------------------------------------------------------- attention
def attention_of_packed(qkv, may_attend, heads):
    """Cut heads out of the packed projection with small ops and let the definition run on them."""
    B, T, packed = qkv.shape
    q, k, v = np.transpose(np.reshape(qkv, (B, T, 3, heads, packed // 3 // heads)), (2, 0, 3, 1, 4))
    mixed, _ = fused.attention_definition(q, k, v, may_attend)
    return np.reshape(np.swapaxes(mixed, 1, 2), (B, T, packed // 3))


def masks(B, H, T):
    """Name the shapes that a mask may have."""
    return {
        "none": None,
        "(T, T)": (T, T),
        "(B, 1, 1, T)": (B, 1, 1, T),
        "(B, 1, T, T)": (B, 1, T, T),
        "(B, H, T, T)": (B, H, T, T),
    }


@settings(max_examples=40)
@given(
    sizes,
    st.integers(1, 3),
    sizes,
    st.integers(1, 3),
    st.sampled_from(list(masks(1, 1, 1))),
    dtypes,
    st.booleans(),
    block_sizes,
    seeds,
)
def test_self_attention(B, H, T, Dh, kind, dtype, shifted, block, seed):
    (qkv,) = numbers(seed, np.float64 if shifted else dtype, (B, T, 3 * H * Dh))
    qkv *= 30 if shifted else 1  # scores of hundreds, which e^score needs the shift for
    shape = masks(B, H, T)[kind]
    mask = None
    if shape is not None:
        mask = np.random.default_rng(seed + 1).random(shape) < 0.5
        mask[..., 0, :] = (
            False  # the first row may look at nothing (for a mask over keys alone: of the first picture, no row may)
        )
        if kind == "(B, 1, 1, T)":
            mask[1:] |= True
        mask.flags.writeable = False
    _with_block(
        block,
        lambda: assert_equal(
            lambda t: fused.self_attention(t, may_attend=mask, heads=H),
            lambda t: attention_of_packed(t, mask, H),
            [qkv],
            seed,
        ),
    )


def test_row_that_may_look_at_nothing_gives_zeros_and_no_gradient():
    qkv = Tensor(np.random.default_rng(0).standard_normal((2, 3, 6)), requires_grad=True)
    mask = np.zeros((2, 1, 1, 3), bool)
    mask[1] = True
    y = fused.self_attention(qkv, may_attend=mask, heads=1)
    y.backward(np.ones_like(y.data))
    assert np.all(y.data[0] == 0) and np.all(y.data[1] != 0)
    assert np.all(qkv.grad[0] == 0) and np.all(np.isfinite(qkv.grad))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_scores_survive(dtype):
    """Scores of ±10⁶ saturate the softmax and nothing else."""
    qkv = Tensor(
        (1e3 * np.random.default_rng(0).standard_normal((1, 4, 6))).astype(dtype),
        requires_grad=True,
    )
    y = fused.self_attention(qkv, may_attend=np.tri(4, dtype=bool), heads=1)
    y.backward(np.ones_like(y.data))
    assert np.isfinite(y.data).all() and np.isfinite(qkv.grad).all()


def test_blocked_score_leaves_no_trace():
    """Not even a blocked score of 10³⁰⁰ changes a visible weight."""
    scores = np.array([[0.0, 1.0, 1e300]])
    weights = CATALOGUE["masked_softmax"](scores, np.array([[True, True, False]])).data
    np.testing.assert_array_equal(weights[0, :2], softmax(scores[:, :2]).data[0])
    assert weights[0, 2] == 0


@pytest.mark.parametrize(
    "bad", [np.ones((3, 3)), np.zeros((3, 3), np.int64), np.where(np.tri(3), 0.0, -np.inf)]
)
def test_mask_of_numbers_is_refused(bad):
    with pytest.raises(
        DtypeError,
        match=r"boolean with True = may attend, and (float|int)64 came; write mask\.astype\(bool\)",
    ):
        fused.self_attention(np.ones((1, 3, 6)), may_attend=bad, heads=1)
    with pytest.raises(DtypeError, match=r"boolean with True = may attend"):
        CATALOGUE["masked_softmax"](np.ones((3, 3)), bad)


def test_several_blocks_are_several(blocks):
    blocks(4)
    assert list(fused.blocks(5, 2)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    blocks(1)
    assert len(list(fused.blocks(5, 2))) == 5


def test_together_runs_once_and_hands_out_each_once():
    calls = []
    left, right = fused.joint_vjp(lambda g: calls.append(g) or (g + 1, g + 2), 2)
    assert (right(1), left(1), calls) == (3, 2, [1])


def test_only_the_gradients_that_are_asked_for():
    """With a frozen weight the other gradients are what they were."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in ((3, 4), (4, 5), (5,), (5, 2), (2,))]
    g = rng.standard_normal((3, 2))
    all_of_them = [Tensor(a, requires_grad=True) for a in arrays]
    fused.mlp(*all_of_them, activation="gelu").backward(g)
    only_x = Tensor(arrays[0], requires_grad=True)
    fused.mlp(only_x, *arrays[1:], activation="gelu").backward(g)
    np.testing.assert_array_equal(only_x.grad, all_of_them[0].grad)


def test_kernels_on_every_backend(backend):
    """The kernels run where the arrays live, masks with them."""
    rng = np.random.default_rng(1)
    there = [
        to_backend(rng.standard_normal(s), backend)
        for s in ((2, 3, 6), (6,), (6,), (6, 5), (5,), (5, 6), (6,))
    ]
    mask = to_backend(np.tri(3, dtype=bool), backend)

    def run(x, gain, bias, *weights, may_attend):
        return fused.self_attention(
            fused.mlp(fused.layer_norm(x, gain, bias), *weights), may_attend=may_attend, heads=2
        )

    here = run(*(to_host(a) for a in there), may_attend=to_host(mask)).data
    inputs = [Tensor(a, requires_grad=True) for a in there]
    y = run(*inputs, may_attend=mask)
    np.testing.assert_allclose(to_host(y.data), here, rtol=1e-9)
    y.backward(y.data)
    assert all(type(x.grad) is type(x.data) for x in inputs)


def test_gradcheck_through_all_kernels():
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal(s) for s in ((2, 3, 6), (6,), (6,), (6, 5), (5,), (5, 6), (6,))]

    def run(x, gain, bias, *weights):
        return fused.self_attention(
            fused.mlp(fused.layer_norm(x, gain, bias), *weights),
            may_attend=np.tri(3, dtype=bool),
            heads=1,
        )

    gradcheck(run, *arrays, rng=rng)
