"""What the masks refuse, and the few facts about them that the published properties do not state."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import DtypeError, ShapeError
from tinymm.layers import (
    bidirectional_mask,
    causal_mask,
    cross_mask,
    multimodal_causal_mask,
    padding_mask,
    prefix_mask,
    reachability,
    unimodal_mask,
)
from tinymm.layers.masks import check_mask

lengths = st.integers(1, 7)
seeds = st.integers(0, 9999)


@given(lengths, lengths, st.integers(1, 3), seeds)
def test_cross_mask_opens_what_both_sides_allow(rows, columns, batch, seed):
    rng = np.random.default_rng(seed)
    may_look, is_real = rng.random((batch, rows)) < 0.5, rng.random((batch, columns)) < 0.5
    mask = cross_mask(may_look, is_real)
    assert mask.shape == (batch, 1, rows, columns) and mask.dtype == bool
    for b, i, j in np.ndindex(batch, rows, columns):
        assert mask[b, 0, i, j] == (may_look[b, i] and is_real[b, j])


@pytest.mark.parametrize("mask", [unimodal_mask, multimodal_causal_mask, bidirectional_mask])
def test_masks_of_queries_and_text_live_where_the_text_does(mask, backend):
    is_real = np.array([[True, True, False], [True, False, False]])
    there = mask(2, to_backend(is_real, backend))
    assert type(there) is type(to_backend(is_real, backend))
    np.testing.assert_array_equal(to_host(there), mask(2, is_real))


@given(lengths, st.data())
def test_prefix_masks_lie_between_causal_and_open(T, data):
    prefix = data.draw(st.integers(0, T))
    mask = prefix_mask(prefix, T)
    assert (causal_mask(T) <= mask).all()
    assert mask[:, :prefix].all() and not mask[:prefix, prefix:].any()
    np.testing.assert_array_equal(prefix_mask(1, T), causal_mask(T))


@given(lengths, st.integers(1, 4))
def test_a_leak_of_one_token_a_layer_becomes_one_of_as_many_tokens_as_layers(T, layers):
    leaking = np.tri(T, k=1, dtype=bool)
    np.testing.assert_array_equal(reachability([leaking] * layers), np.tri(T, k=layers, dtype=bool))


@given(st.integers(1, 3), lengths, seeds)
def test_reachability_of_a_batch_is_that_of_each_row(batch, T, seed):
    masks = list(np.random.default_rng(seed).random((2, batch, 1, T, T)) < 0.4)
    whole = reachability(masks)
    for b in range(batch):
        np.testing.assert_array_equal(whole[b, 0], reachability([mask[b, 0] for mask in masks]))


@pytest.mark.parametrize("wrong", [np.ones((2, 3)), np.ones((2, 3), int), [[True, False]]])
def test_anything_but_booleans_is_refused_with_the_way_out(wrong):
    with pytest.raises(
        DtypeError,
        match=r"is_real is boolean .* and (float64|int64|list) came; write ids != padding_id",
    ):
        padding_mask(wrong)
    with pytest.raises(
        DtypeError,
        match=r"a mask is boolean .* and (float64|int64|list) came; write mask.astype\(bool\)",
    ):
        reachability([wrong])
    with pytest.raises(DtypeError, match="is_real"):
        cross_mask(np.ones((2, 3), bool), wrong)


def test_wrong_shapes_are_refused_with_their_numbers():
    with pytest.raises(ShapeError, match=r"is_real is \(B, T\) and \(3,\) came"):
        padding_mask(np.ones(3, bool))
    with pytest.raises(ShapeError, match=r"\(2, 4\) and \(3, 5\) came; pair them"):
        cross_mask(np.ones((2, 4), bool), np.ones((3, 5), bool))
    with pytest.raises(ShapeError, match=r"\[0, T\] and 4 of 3 came"):
        prefix_mask(4, 3)
    with pytest.raises(ShapeError, match="at least one layer and none came"):
        reachability([])
    with pytest.raises(ShapeError, match=r"\(3,\) came; use padding_mask"):
        check_mask(np.ones(3, bool))


@pytest.mark.parametrize(
    "shape", [(4, 4), (1, 4), (4, 1), (2, 1, 1, 4), (1, 3, 4, 4), (2, 3, 4, 4)]
)
def test_masks_that_broadcast_to_the_scores_are_taken(shape):
    check_mask(np.ones(shape, bool), (2, 3, 4, 4))


@pytest.mark.parametrize(
    "shape", [(5, 4), (4, 5), (3, 1, 4, 4), (2, 2, 4, 4), (1, 2, 3, 4, 4), (2, 4, 4)]
)
def test_masks_that_do_not_are_refused(shape):
    with pytest.raises(ShapeError, match=r"broadcasts to \(2, 3, 4, 4\)"):
        check_mask(np.ones(shape, bool), (2, 3, 4, 4))
