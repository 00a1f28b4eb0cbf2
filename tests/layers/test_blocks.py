"""A mask is tested by what it does: which inputs reach which outputs through a stack of blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.layers import Block, LayerNorm, causal_mask, padding_mask, prefix_mask, reachability

T, D = 5, 8
seeds = st.integers(0, 9999)


def drawn_mask(kind, rng):
    if kind == "causal":
        return causal_mask(T)
    if kind == "prefix":
        return prefix_mask(int(rng.integers(0, T + 1)), T)
    if kind == "padding":
        return padding_mask(rng.random((1, T)) < 0.6)[0, 0]
    if kind == "leak":
        return np.tri(T, k=1, dtype=bool)
    return rng.random((T, T)) < 0.35


def jacobian(run, x, rng):
    """Return (T, T): the length of each output row's derivative with respect to each input row, under a random cotangent.

    The cotangent is random because what a layer norm gives back sums to zero against ones.
    """
    lengths = np.empty((T, T))
    for i in range(T):
        inputs = Tensor(x, requires_grad=True)
        g = np.zeros_like(x)
        g[0, i] = rng.standard_normal(x.shape[-1])
        run(inputs).backward(g)
        lengths[i] = np.linalg.norm(inputs.grad[0], axis=-1)
    return lengths


@settings(max_examples=12)
@given(
    st.sampled_from(["causal", "prefix", "padding", "leak", "random"]),
    st.integers(1, 3),
    st.booleans(),
    seeds,
)
def test_gradients_reach_exactly_as_far_as_reachability_says(kind, layers, post_norm, seed):
    rng = np.random.default_rng(seed)
    blocks = [Block(D, 2, rng=rng, post_norm=post_norm).astype("float64") for _ in range(layers)]
    masks = [drawn_mask(kind, rng) for _ in blocks]
    masks = [np.broadcast_to(mask, (T, T)) for mask in masks]

    def run(x):
        for block, mask in zip(blocks, masks, strict=True):
            x = block(x, mask)
        return x

    lengths = jacobian(run, rng.standard_normal((1, T, D)), rng)
    reach = reachability(masks)
    assert (lengths[~reach] == 0).all(), "an input moves an output that must not know it"
    assert (lengths[reach] > 1e-9).all(), "an input that may be known moves nothing"


@settings(max_examples=6)
@given(st.sampled_from(["causal", "prefix", "random"]), seeds)
def test_outputs_move_exactly_where_reachability_says(kind, seed):
    """The same from the other side: one input row becomes another random vector (a constant shift would be erased by the norm)."""
    rng = np.random.default_rng(seed)
    block, mask = Block(D, 2, rng=rng).astype("float64"), drawn_mask(kind, rng)
    x = rng.standard_normal((1, T, D))
    before, reach = block(x, mask).data[0], reachability([mask])
    for j in range(T):
        other = x.copy()
        other[0, j] = rng.standard_normal(D)
        change = np.abs(block(other, mask).data[0] - before).max(axis=-1)
        assert (change[~reach[:, j]] == 0).all() and (change[reach[:, j]] > 1e-9).all()


def test_the_order_of_normalization():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, T, D))
    front, behind = (
        Block(D, 2, rng=np.random.default_rng(1), post_norm=post).astype("float64")
        for post in (False, True)
    )

    def before(block, x):
        x = x + block.attention(block.norm_1(x))
        return x + block.mlp(block.norm_2(x))

    def after(block, x):
        x = block.norm_1(x + block.attention(x))
        return block.norm_2(x + block.mlp(x))

    np.testing.assert_allclose(front(x).data, before(front, x).data, rtol=1e-12)
    np.testing.assert_allclose(behind(x).data, after(behind, x).data, rtol=1e-12)
    assert not np.allclose(front(x).data, behind(x).data)
    np.testing.assert_allclose(behind(x).data.mean(-1), 0, atol=1e-12)  # a fresh norm has bias 0


def test_a_silent_block_with_the_norm_in_front_is_the_identity():
    block = Block(D, 2, rng=np.random.default_rng(0))
    for linear in (block.attention.output, block.mlp.fc2):
        linear.weight.data = np.zeros_like(linear.weight.data)
        linear.bias.data = np.zeros_like(linear.bias.data)
    x = np.random.default_rng(1).standard_normal((2, T, D)).astype(np.float32)
    np.testing.assert_array_equal(block(x).data, x)


@pytest.mark.parametrize(
    "options, hidden, eps", [({}, 4 * D, 1e-5), ({"feed_forward": 12, "eps": 1e-12}, 12, 1e-12)]
)
def test_sizes(options, hidden, eps):
    block = Block(D, 2, rng=np.random.default_rng(0), **options)
    assert block.mlp.fc1.weight.shape == (D, hidden)
    assert {module.eps for module in block.modules() if isinstance(module, LayerNorm)} == {eps}
