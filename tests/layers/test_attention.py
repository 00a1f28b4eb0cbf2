"""Attention layers: the kernel is its readable definition, masks do what they say, weights can be recorded."""

import contextlib
import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import DtypeError, ShapeError, UsageError
from tinymm.autodiff import no_grad, ops
from tinymm.layers import (
    CrossAttention,
    MultiHeadAttention,
    attention,
    causal_mask,
    cross_mask,
    padding_mask,
    record_attention,
)

seeds = st.integers(0, 9999)
sizes = st.integers(1, 5)


def drawn_mask(kind, rng, B, H, T):
    if kind == "none":
        return None
    if kind == "causal":
        return causal_mask(T)
    if kind == "padding":
        return padding_mask(
            rng.random((B, T)) < 0.7
        )  # a row without a real token is meant to occur
    return rng.random({"rows": (T, T), "heads": (1, H, T, T), "all": (B, H, T, T)}[kind]) < 0.6


def gradients(layer, x, g, may_attend, recording=None):
    inputs = Tensor(x, requires_grad=True)
    with recording or contextlib.nullcontext() as maps:
        y = layer(inputs, may_attend)
    for parameter in layer.parameters():
        parameter.grad = None
    y.backward(g)
    return y.data, [inputs.grad, *(parameter.grad for parameter in layer.parameters())], maps


@given(
    st.sampled_from(["none", "causal", "padding", "rows", "heads", "all"]),
    sizes,
    sizes,
    st.integers(1, 3),
    st.integers(1, 3),
    seeds,
)
def test_the_kernel_equals_the_definition_that_recording_takes(kind, B, T, H, Dh, seed):
    rng = np.random.default_rng(seed)
    D = H * Dh
    layer = MultiHeadAttention(D, H, rng=rng).astype("float64")
    layer.qkv.bias.data = rng.standard_normal(3 * D)
    x, g = rng.standard_normal((2, B, T, D))
    mask = drawn_mask(kind, rng, B, H, T)
    y, slopes, _ = gradients(layer, x, g, mask)
    y_, slopes_, maps = gradients(layer, x, g, mask, record_attention())
    np.testing.assert_allclose(y, y_, atol=1e-12)
    for ours, theirs in zip(slopes, slopes_, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-11)
    (weights,) = maps
    open_ = np.broadcast_to(True if mask is None else mask, weights.shape)
    assert weights.shape == (B, H, T, T) and (weights[~open_] == 0).all()
    np.testing.assert_allclose(weights.sum(-1), open_.any(-1), atol=1e-12)


@given(sizes, sizes, st.integers(1, 3), seeds)
def test_attention_of_a_sequence_over_itself_is_cross_attention_with_the_projection_cut_in_three(
    B, T, H, seed
):
    rng = np.random.default_rng(seed)
    D = 2 * H
    whole, parts = (
        MultiHeadAttention(D, H, rng=rng).astype("float64"),
        CrossAttention(D, H, rng=rng).astype("float64"),
    )
    for name, cut in zip(
        ("query", "key", "value"), np.split(whole.qkv.weight.data, 3, axis=1), strict=True
    ):
        getattr(parts, name).weight.data = cut
        getattr(parts, name).bias.data = np.zeros(D)
    parts.output.load_state_dict(whole.output.state_dict())
    x = rng.standard_normal((B, T, D))
    np.testing.assert_allclose(
        whole(x, causal_mask(T)).data, parts(x, x, causal_mask(T)).data, atol=1e-12
    )


@given(sizes, sizes, sizes, seeds)
def test_cross_attention_reads_memory_of_another_width_under_a_cross_mask(B, Tq, Tk, seed):
    rng = np.random.default_rng(seed)
    layer = CrossAttention(4, 2, rng=rng, encoder_width=6, output_width=3).astype("float64")
    x, memory = rng.standard_normal((B, Tq, 4)), rng.standard_normal((B, Tk, 6))
    may_look, is_real = rng.random((B, Tq)) < 0.7, rng.random((B, Tk)) < 0.7
    before = layer(x, memory, cross_mask(may_look, is_real)).data
    assert before.shape == (B, Tq, 3)
    blind = ~(may_look & is_real.any(axis=1, keepdims=True))
    np.testing.assert_allclose(
        before[blind], np.broadcast_to(layer.output.bias.data, before.shape)[blind], atol=1e-12
    )
    memory[~is_real] = rng.standard_normal(6)  # unread
    np.testing.assert_allclose(
        layer(x, memory, cross_mask(may_look, is_real)).data, before, atol=1e-12
    )


def test_maps_are_recorded_in_order_only_inside_and_one_recording_inside_another_is_its_own():
    layer = MultiHeadAttention(4, 2, rng=np.random.default_rng(0))
    x = np.ones((1, 3, 4), np.float32)
    with record_attention() as outer:
        layer(x)
        with record_attention() as inner:
            layer(x[:, :2])
        layer(x[:, :1])
    layer(x)
    assert [m.shape[-1] for m in outer] == [3, 1] and [m.shape[-1] for m in inner] == [2]


@settings(max_examples=5)
@given(seeds)
def test_recorded_maps_are_what_mixes_the_values(seed):
    q, k, v = np.random.default_rng(seed).standard_normal((3, 2, 3, 4))
    with record_attention() as maps:
        y = attention(q, k, v)
    np.testing.assert_allclose(maps[0] @ v, y.data, atol=1e-12)


@given(st.sampled_from(["none", "causal", "padding"]), sizes, sizes, st.integers(1, 2), seeds)
def test_tensors_change_neither_values_nor_gradients(kind, B, T, H, seed):
    rng = np.random.default_rng(seed)
    layer = MultiHeadAttention(2 * H, H, rng=rng).astype("float64")
    x, g = rng.standard_normal((2, B, T, 2 * H))
    mask = drawn_mask(kind, rng, B, H, T)
    y, slopes, maps = gradients(layer, x, g, mask, record_attention())
    y_, slopes_, tensors = gradients(layer, x, g, mask, record_attention(as_tensors=True))
    np.testing.assert_array_equal(y, y_)
    for ours, theirs in zip(slopes, slopes_, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(maps[0], tensors[0].data)
    assert tensors[0].grad.shape == tensors[0].shape == (B, H, T, T)


@settings(max_examples=20)
@given(st.integers(0, 3), seeds)
def test_the_gradient_of_recorded_weights_is_the_slope_of_what_comes_after(which, seed):
    """Two rounds of self- and cross-attention: a push on one of the four maps moves the result as its gradient says, all later layers included."""
    rng = np.random.default_rng(seed)
    layers = [
        make(4, 2, rng=rng).astype("float64") for make in (MultiHeadAttention, CrossAttention) * 2
    ]
    x, g = rng.standard_normal((2, 1, 3, 4))
    memory = rng.standard_normal((1, 5, 4))

    def result():
        y = Tensor(x)
        for layer in layers:
            y = y + (layer(y) if isinstance(layer, MultiHeadAttention) else layer(y, memory))
        return np.sum(y * g)

    with record_attention(as_tensors=True) as maps:
        y = result()
    y.backward()
    push = rng.standard_normal(maps[which].shape)
    definition = ops.attention_definition

    def pushed(by):
        calls = itertools.count()

        def pushing(q, k, v, may_attend=None):
            mixed, weights = definition(q, k, v, may_attend)
            return (mixed + by * push @ v if next(calls) == which else mixed), weights

        with pytest.MonkeyPatch.context() as patch, record_attention():
            patch.setattr(ops, "attention_definition", pushing)
            return result().item()

    slope = (pushed(1e-5) - pushed(-1e-5)) / 2e-5
    np.testing.assert_allclose(np.sum(maps[which].grad * push), slope, rtol=1e-6, atol=1e-8)


def test_weights_that_nothing_depends_on_have_no_gradient():
    layer = MultiHeadAttention(4, 2, rng=np.random.default_rng(0))
    with no_grad(), record_attention(as_tensors=True) as maps:
        layer(np.ones((1, 3, 4), np.float32))
    assert maps[0].grad is None and maps[0].dtype == np.float32


def test_masks_made_on_the_host_serve_every_backend(backend):
    rng = np.random.default_rng(0)
    for layer in (MultiHeadAttention(4, 2, rng=rng), CrossAttention(4, 2, rng=rng)):
        x = rng.standard_normal((2, 3, 4)).astype(np.float32)
        inputs = (x,) if isinstance(layer, MultiHeadAttention) else (x, x)
        expected = layer(*inputs, causal_mask(3)).data
        layer.to(backend)
        y = layer(*(to_backend(a, backend) for a in inputs), causal_mask(3))
        np.testing.assert_allclose(to_host(y.data), expected, atol=1e-6)
        y.backward(to_backend(x, backend))


@pytest.mark.parametrize(
    "mask", [np.ones((3, 3)), np.tri(3, dtype=int), np.zeros((3, 3), np.float32)]
)
@pytest.mark.parametrize("recorded", [False, True])
def test_masks_that_are_not_boolean_are_refused(mask, recorded):
    layer = MultiHeadAttention(4, 2, rng=np.random.default_rng(0))
    with pytest.raises(DtypeError, match="a mask is boolean with True = may attend"):
        if recorded:
            with record_attention():
                layer(np.ones((1, 3, 4), np.float32), mask)
        else:
            layer(np.ones((1, 3, 4), np.float32), mask)


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (2, 3, 3), (3, 1, 3, 3), (3,)])
def test_masks_of_another_length_are_refused_with_both_shapes(shape):
    layer = MultiHeadAttention(6, 3, rng=np.random.default_rng(0))
    with pytest.raises(ShapeError, match=r"a mask .*\(" + ", ".join(map(str, shape))):
        layer(np.ones((2, 3, 6), np.float32), np.ones(shape, bool))
    with pytest.raises(ShapeError, match="a mask"):
        attention(*np.ones((3, 2, 3, 3, 2)), np.ones(shape, bool))


def test_heads_share_the_width_evenly():
    with pytest.raises(ShapeError, match="10 over 4 heads came"):
        MultiHeadAttention(10, 4, rng=np.random.default_rng(0))
    with pytest.raises(UsageError, match="0 heads came"):
        CrossAttention(10, 0, rng=np.random.default_rng(0))


# ---------------------------------------------------------------------- long sequences
@contextlib.contextmanager
def long_from(scores):
    """Take attention in blocks from so many scores a head on, in blocks of six scores."""
    layer, kernel = (
        sys.modules[f"tinymm.{name}"]
        for name in ("layers.attention", "autodiff.ops.long_attention")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer, "LONG", scores)
        patch.setattr(kernel, "SCORES", 6)
        patch.setattr(kernel, "QUERIES", 3)
        yield patch


@given(
    st.sampled_from(["none", "causal", "padding", "rows", "heads", "all"]),
    sizes,
    sizes,
    st.integers(1, 3),
    st.integers(1, 3),
    seeds,
)
def test_a_long_sequence_is_attended_to_like_a_short_one(kind, B, T, H, Dh, seed):
    rng = np.random.default_rng(seed)
    layer = MultiHeadAttention(H * Dh, H, rng=rng).astype("float64")
    x, g = rng.standard_normal((2, B, T, H * Dh))
    mask = drawn_mask(kind, rng, B, H, T)
    y, slopes, _ = gradients(layer, x, g, mask)
    with long_from(1):
        y_, slopes_, _ = gradients(layer, x, g, mask)
    np.testing.assert_allclose(y_, y, atol=1e-12)
    for ours, theirs in zip(slopes_, slopes, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-11)


def test_it_is_the_number_of_scores_that_makes_a_sequence_long():
    rng = np.random.default_rng(0)
    itself, across = MultiHeadAttention(4, 2, rng=rng), CrossAttention(4, 2, rng=rng)
    x, memory = np.ones((1, 3, 4), np.float32), np.ones((1, 4, 4), np.float32)
    taken = []
    with long_from(12) as patch:
        blockwise = ops.blockwise_attention
        patch.setattr(
            ops,
            "blockwise_attention",
            lambda q, k, v, **options: taken.append(q.shape) or blockwise(q, k, v, **options),
        )
        itself(x), across(memory[:, :2], memory)
        assert taken == []
        itself(memory), across(x, memory), across(memory, x)
        assert taken == [(1, 2, 4, 2), (1, 2, 3, 2), (1, 2, 4, 2)]
        with record_attention() as maps:
            itself(memory), across(x, memory)
        assert len(taken) == 3 and [m.shape for m in maps] == [
            (1, 2, 4, 4),
            (1, 2, 3, 4),
        ]  # who asks for the weights gets them
