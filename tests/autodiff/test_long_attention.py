"""Attention in blocks equals its definition in value and every gradient, under every mask, and never holds its weights."""

import sys
import tracemalloc

import numpy as np
import pytest
from block_sizes import sized
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fused import assert_equal, masks, numbers

from tinymm import Tensor
from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import DtypeError, ShapeError
from tinymm.autodiff.ops import attention_definition, blockwise_attention

module = sys.modules["tinymm.autodiff.ops.long_attention"]
sizes = st.integers(1, 5)
lengths = st.integers(1, 9)
#: (scores, queries) in a block: one by one, a few of each, tall, wide, all at once.
block_sizes = st.sampled_from([(1, 1), (6, 3), (8, 8), (7, 2), (128 * 1024, 256)])


def in_blocks(scores, queries):
    return sized(module, SCORES=scores, QUERIES=queries)


def definition(may_attend):
    return lambda q, k, v: attention_definition(q, k, v, may_attend)[0]


def blockwise(may_attend):
    return lambda q, k, v: blockwise_attention(q, k, v, may_attend=may_attend)


def drawn_mask(kind, B, H, n, m, seed):
    """Return a mask of one of the shapes that there are; its first row may look at nothing, the last keys are blocked for all."""
    shape = masks(B, H, n)[kind]
    if shape is None:
        return None
    mask = np.random.default_rng(seed).random((*shape[:-1], m)) < 0.6
    mask[..., 0, :] = False
    mask[..., m // 2 + 1 :] = False
    mask.flags.writeable = False
    return mask


@settings(max_examples=60)
@given(
    sizes, st.integers(1, 3), lengths, lengths, st.integers(1, 3), st.integers(1, 3), st.sampled_from(list(masks(1, 1, 1))),
    st.sampled_from([np.float64, np.float32]), block_sizes, st.integers(0, 9999),
)  # fmt: skip
def test_it_is_the_definition(B, H, n, m, Dh, E, kind, dtype, block, seed):
    arrays = numbers(seed, dtype, (B, H, n, Dh), (B, H, m, Dh), (B, H, m, E))
    mask = drawn_mask(kind, B, H, n, m, seed)
    with in_blocks(*block):
        assert_equal(blockwise(mask), definition(mask), arrays, seed)


@given(lengths, block_sizes, st.integers(0, 9999))
def test_under_a_causal_mask_too(T, block, seed):
    mask = np.tri(T, dtype=bool)
    with in_blocks(*block):
        assert_equal(
            blockwise(mask), definition(mask), numbers(seed, np.float64, *[(2, T, 3)] * 3), seed
        )


@given(
    st.sampled_from([((), (2,), (2, 1)), ((3, 1), (2,), ()), ((1,), (4,), (4,))]),
    block_sizes,
    st.integers(0, 9999),
)
def test_axes_in_front_are_stretched_as_in_a_product(front, block, seed):
    shapes = [(*lead, n, 2) for lead, n in zip(front, (3, 5, 5), strict=True)]
    with in_blocks(*block):
        assert_equal(blockwise(None), definition(None), numbers(seed, np.float64, *shapes), seed)


def test_blocks_in_which_nobody_may_look_are_not_computed(monkeypatch):
    computed = []
    scores = module.scores
    monkeypatch.setattr(
        module,
        "scores",
        lambda q, k, mask: computed.append((len(q), len(k), mask is None)) or scores(q, k, mask),
    )
    q, k, v = (Tensor(x, requires_grad=True) for x in numbers(0, np.float64, *[(8, 3)] * 3))
    with in_blocks(4, 2):
        y = blockwise_attention(q, k, v, may_attend=np.tri(8, dtype=bool))
        assert computed == [(2, 2, left != row) for row in range(4) for left in range(row + 1)]
        y.backward(np.ones_like(y.data))
    assert len(computed) == 2 * 10  # of 2 · 16 blocks


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", [1, -1])
def test_huge_scores_survive_in_whatever_order_they_come(dtype, order):
    """The maximum may rise by 10⁶ from block to block, or be there at once."""
    rng = np.random.default_rng(0)
    k = (1e3 * np.arange(1, 9)[::order, None] * np.ones(3)).astype(dtype)
    q, v = rng.standard_normal((4, 3)).astype(dtype), rng.standard_normal((8, 2)).astype(dtype)
    with in_blocks(4, 2):
        assert_equal(blockwise(None), definition(None), [np.abs(q), k, v])
        assert_equal(blockwise(None), definition(None), [-np.abs(q), k, v])


def test_rows_that_may_look_at_nothing_give_zeros_and_no_gradient():
    q, k, v = (Tensor(x, requires_grad=True) for x in numbers(0, np.float64, *[(2, 4, 3)] * 3))
    mask = np.ones((2, 4, 4), bool)
    mask[0] = False
    mask[1, 2] = False
    with in_blocks(4, 2):
        y = blockwise_attention(q, k, v, may_attend=mask)
        y.backward(np.ones_like(y.data))
    assert (
        (y.data[0] == 0).all() and (y.data[1, 2] == 0).all() and (y.data[1, [0, 1, 3]] != 0).all()
    )
    assert (
        all((x.grad[0] == 0).all() for x in (q, k, v))
        and (q.grad[1, 2] == 0).all()
        and np.isfinite(q.grad).all()
    )


@pytest.mark.parametrize("bad", [np.ones((3, 3)), np.where(np.tri(3), 0.0, -np.inf)])
def test_a_mask_of_numbers_is_refused(bad):
    with pytest.raises(
        DtypeError,
        match=r"boolean with True = may attend, and float64 came; write mask\.astype\(bool\)",
    ):
        blockwise_attention(*[np.ones((1, 3, 2))] * 3, may_attend=bad)


@pytest.mark.parametrize("shape", [(2, 3, 4), (4, 3), (1, 1, 3, 4)])
def test_a_mask_that_would_stretch_the_scores_is_refused(shape):
    with pytest.raises(
        ShapeError,
        match=r"broadcasts to the scores \(1, 3, 4\) and \(.*\) came; give the scores its leading axes",
    ):
        blockwise_attention(
            np.ones((1, 3, 2)),
            np.ones((1, 4, 2)),
            np.ones((1, 4, 2)),
            may_attend=np.ones(shape, bool),
        )


def test_it_runs_where_the_arrays_live(backend):
    arrays = numbers(1, np.float64, (2, 5, 3), (2, 7, 3), (2, 7, 2))
    mask = np.random.default_rng(2).random((2, 5, 7)) < 0.5
    inputs = [Tensor(to_backend(a, backend), requires_grad=True) for a in arrays]
    with in_blocks(6, 3):
        y = blockwise_attention(*inputs, may_attend=to_backend(mask, backend))
        y.backward(y.data)
    np.testing.assert_allclose(
        to_host(y.data), attention_definition(*arrays, mask)[0].data, atol=1e-12
    )
    assert all(type(x.grad) is type(x.data) for x in inputs)


def test_memory_grows_with_the_length_and_not_with_its_square():
    """Twice the length is twice the peak; the definition's is four times as much, and more than ours from the start."""
    peaks = {}
    for name, function in (("blocks", blockwise(None)), ("definition", definition(None))):
        for T in (512, 1024):
            q, k, v = (
                Tensor(x, requires_grad=True) for x in numbers(0, np.float32, *[(T, 16)] * 3)
            )
            tracemalloc.start()
            with in_blocks(16 * 1024, 128):
                y = function(q, k, v)
                y.backward(np.ones_like(y.data))
            peaks[name, T] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert peaks["blocks", 1024] < 2.2 * peaks["blocks", 512]
    assert peaks["definition", 1024] > 3.5 * peaks["definition", 512]
    assert peaks["definition", 512] > 5 * peaks["blocks", 512]
