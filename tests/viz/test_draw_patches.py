"""Patches: cutting loses nothing, and is the convolution whose stride is its kernel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import ShapeError
from tinymm.autodiff import ops
from tinymm.viz.patches import cut, joined, patches

sizes = st.integers(1, 4)


@given(sizes, sizes, sizes, st.integers(1, 3), st.integers(0, 99))
def test_cutting_and_joining_is_the_identity(rows, columns, patch, channels, seed):
    picture = np.random.default_rng(seed).normal(size=(rows * patch, columns * patch, channels))
    assert np.array_equal(joined(cut(picture, patch), *picture.shape[:2], patch), picture)


@given(sizes, sizes, st.integers(0, 99))
def test_a_patch_embedding_is_a_strided_convolution(rows, patch, seed):
    rng = np.random.default_rng(seed)
    picture, weight = (
        rng.normal(size=(rows * patch, rows * patch, 3)),
        rng.normal(size=(patch, patch, 3, 5)),
    )
    convolved = ops.conv2d(picture[None], weight, stride=patch).data.reshape(-1, 5)
    np.testing.assert_allclose(cut(picture, patch) @ weight.reshape(-1, 5), convolved, atol=1e-12)


def test_the_figure_numbers_every_patch_in_its_place():
    figure = patches(
        np.random.default_rng(0).random((8, 8, 1)), 4, order=np.array([2, 0, 3, 1]), title="Four"
    )
    written = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert written == [["0", "1", "2", "3"], [], ["2", "0", "3", "1"]]


def test_what_does_not_tile_is_refused():
    with pytest.raises(
        ShapeError,
        match="patches tile the picture, and 4 × 6 over 4 came; choose a divisor of both",
    ):
        cut(np.zeros((4, 6, 1)), 4)
