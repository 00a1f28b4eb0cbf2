"""Attention: effective keys between 1 and all, panels to one scale, the heat on the right patch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.viz.attention.maps import (
    attention,
    attention_alt,
    effective_keys,
    over_picture,
    over_picture_alt,
)


@given(st.integers(1, 8), st.integers(1, 8))
def test_equal_weights_on_k_keys_are_k_effective_keys(k, more):
    weights = np.r_[np.full(k, 1 / k), np.zeros(more)]
    np.testing.assert_allclose(effective_keys(weights), k)
    np.testing.assert_allclose(effective_keys(np.random.default_rng(k).permutation(weights)), k)


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=8))
def test_effective_keys_lie_between_one_and_all(raw):
    weights = np.array(raw) / sum(raw)
    assert 1 - 1e-9 <= effective_keys(weights) <= len(raw) + 1e-9


def softmax(scores):
    weights = np.exp(scores)
    return weights / weights.sum(axis=-1, keepdims=True)


def test_one_panel_a_head_to_one_scale_with_a_unit():
    weights = softmax(
        np.random.default_rng(0).normal(size=(6, 3, 4)) * np.arange(1, 7)[:, None, None]
    )
    figure = attention(weights, ["a", "b", "c"], ["w", "x", "y", "$z$"])
    figure.canvas.draw()
    panels = [axes for axes in figure.axes if axes.get_xlabel().startswith("head")]
    assert [axes.get_xlabel().split(":")[0] for axes in panels] == [f"head {i}" for i in range(6)]
    assert {axes.images[0].get_clim() for axes in panels} == {(0, weights.max())}
    for axes, head in zip(panels, weights, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), head)
    assert figure.axes[-1].get_ylabel().startswith("attention weight")


def test_words_name_the_sharpest_head_and_rows_that_see_nothing():
    weights = np.stack([np.full((2, 4), 0.25), [[0, 0, 1, 0], [0, 0, 0, 0]]])
    text = attention_alt(weights, ["a", "b"], list("wxyz"))
    assert text.splitlines()[0].startswith("Head 1 looks most sharply: at 1.0 of 4 keys")
    assert "a looks most at y (1.00)." in text and "b looks at nothing." in text


@pytest.mark.parametrize("patch", range(9))
def test_the_heat_lies_on_the_right_patch(patch):
    weights = np.zeros(9)
    weights[patch] = 1.0
    figure = over_picture(weights, np.zeros((7, 8, 1)))
    shown = figure.axes[1].images[0].get_array()
    assert shown.shape == (7, 8, 3)
    orange = np.argwhere(shown[..., 0] - shown[..., 2] > 0.1).mean(axis=0) / [
        7,
        8,
    ]  # redder than blue
    np.testing.assert_array_equal((orange * 3).astype(int), divmod(patch, 3))
    word = ("top", "middle", "bottom")[patch // 3], ("left", "middle", "right")[patch % 3]
    assert (
        f"100% of the weight lies on the {'middle' if patch == 4 else ' '.join(word)} patch of 9"
        in figure.alt
    )


def test_half_of_the_weight():
    assert over_picture_alt(np.array([0.25, 0.25, 0.25, 0.25])).endswith("half of it on 2 patches.")
    assert over_picture_alt(np.array([0.6, 0.2, 0.1, 0.1])).endswith("half of it on 1 patch.")
    assert over_picture_alt(np.array([0.3, 0.3, 0.3, 0.1])).endswith("half of it on 2 patches.")


def test_errors():
    with pytest.raises(ShapeError, match=r"got \(2, 3\), 2, 3; pick a pair"):
        attention(np.ones((2, 3)), ["a", "b"], ["x", "y", "z"])
    with pytest.raises(DataError, match=r"least is -1; pass what softmax gives"):
        attention(-np.ones((1, 2, 2)), ["a", "b"])
    with pytest.raises(ShapeError, match=r"got \(10,\), no square; leave the class token out"):
        over_picture(np.ones(10), np.zeros((4, 4)))
