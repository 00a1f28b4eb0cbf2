"""The similarity drawing counts right, marks right, and says in words what it shows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.viz.retrieval.similarity import ranks, same_meaning, similarity, similarity_alt

PIXELS = np.arange(4 * 2 * 2).reshape(4, 2, 2, 1) / 16
WORDS = ["one", "two", "three", "four"]


def marks(axes):
    """Return {(column, row): line style} of the frames of one panel, thumbnails left out."""
    frames = {}
    for patch in axes.patches:
        center = patch.get_x() + patch.get_width() / 2, patch.get_y() + patch.get_height() / 2
        if center[1] > -0.5:
            frames[round(center[0]), round(center[1])] = patch.get_linestyle()
    return frames


@given(arrays(float, (5, 5), elements=st.integers(-3, 3)), arrays(bool, (5, 5)))
def test_ranks_are_their_definition(scores, right):
    right |= np.eye(5, dtype=bool)
    for query, rank in enumerate(ranks(scores, right)):
        best = max(scores[query, right[query]])
        assert rank == 1 + sum(score >= best for score in scores[query, ~right[query]])


@given(arrays(float, (4, 4), elements=st.integers(-9, 9)), st.permutations(range(4)))
def test_order_of_pairs_does_not_matter(matrix, order):
    order = list(order)
    one = similarity_alt({"x": matrix}, PIXELS, WORDS).splitlines()[:2]
    other = similarity_alt(
        {"x": matrix[np.ix_(order, order)]}, PIXELS[order], [WORDS[i] for i in order]
    ).splitlines()[:2]
    assert one == other


def test_equal_scores_find_nothing_and_the_diagonal_finds_all():
    assert similarity_alt({"x": np.ones((4, 4))}, PIXELS, WORDS).startswith("X: 0 of 4")
    assert similarity_alt({"x": np.eye(4)}, PIXELS, WORDS).startswith("X: 4 of 4")


def test_rows_of_the_drawing_are_captions():
    """Caption 1 scores highest with picture 0 and no other caption does: only it is lost."""
    matrix = np.eye(4)
    matrix[0, 1] = 2.0
    figure = similarity({"after": matrix}, PIXELS, WORDS)
    assert "3 of 4 captions find their picture" in figure.alt
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), matrix.T)
    frames = marks(figure.axes[0])
    assert {place for place, kind in frames.items() if kind == "solid" or kind == "-"} == {
        (i, i) for i in range(4)
    }
    assert (0, 1) in frames  # dotted: column of picture 0, row of caption 1
    assert "picture of “one” with the caption “two”" in figure.alt


def test_exactly_one_dotted_wrong_picture_a_caption(tmp_path):
    rng = np.random.default_rng(0)
    figure = similarity({"a": rng.normal(size=(4, 4)), "b": rng.normal(size=(4, 4))}, PIXELS, WORDS)
    for axes in figure.axes[:2]:
        frames = marks(axes)
        assert sorted(row for column, row in frames if column != row) == [0, 1, 2, 3]


def test_duplicates_are_right_and_marked():
    words = ["dog", "cat", " dog ", "four"]
    pixels = PIXELS.copy()
    pixels[3] = pixels[1]
    right = same_meaning(pixels, words)
    assert np.array_equal(
        np.argwhere(right & ~np.eye(4, dtype=bool)), [[0, 2], [1, 3], [2, 0], [3, 1]]
    )
    matrix = np.eye(4)
    matrix[0, 2] = 5.0
    figure = similarity({"x": matrix}, pixels, words)
    assert "4 of 4" in figure.alt and "chance: 2)" in figure.alt
    assert {(0, 2), (2, 0), (1, 3), (3, 1)} <= set(marks(figure.axes[0]))


def test_panels_share_one_scale_with_a_unit():
    figure = similarity({"before": np.zeros((4, 4)), "after": 2 * np.eye(4) - 1}, PIXELS, WORDS)
    heats = [axes.images[0].get_clim() for axes in figure.axes[:2]]
    assert heats == [(-1, 1), (-1, 1)]
    assert figure.axes[-1].get_ylabel() == "cosine similarity"


@pytest.mark.parametrize("n, numbers", [(1, True), (12, True), (13, False), (40, False)])
def test_numbers_stand_in_the_cells_up_to_twelve_pairs(n, numbers):
    pixels = np.random.default_rng(n).random((n, 3, 5, 3))
    figure = similarity({"x": np.full((n, n), 0.25)}, pixels, [f"caption $ {i}" for i in range(n)])
    figure.canvas.draw()
    cells = [text for text in figure.axes[0].texts if text.get_text() == ".25"]
    assert len(cells) == (n * n if numbers else 0)


@pytest.mark.parametrize(
    "value, text",
    [
        (0.834, ".83"),
        (-0.04, "−.04"),
        (-0.001, ".00"),
        (1.0, "1.00"),
        (-1.0, "−1.00"),
        (10.52, "11"),
    ],
)
def test_numbers_are_short_and_true(value, text):
    figure = similarity({"x": np.full((1, 1), value)}, PIXELS[:1], ["a"])
    assert text in [written.get_text() for written in figure.axes[0].texts]


def test_nothing_is_drawn_outside_the_figure():
    words = [
        "latin small letter a with ring below and a very long name that goes on and on",
        "b",
        "c",
        "d",
    ]
    figure = similarity({"before": np.eye(4), "after": np.eye(4)}, PIXELS, words)
    figure.canvas.draw()
    whole = figure.bbox
    for axes in figure.axes[:2]:
        for text in axes.texts:
            box = text.get_window_extent()
            assert (
                whole.x0 <= box.x0
                and box.x1 <= whole.x1
                and whole.y0 <= box.y0
                and box.y1 <= whole.y1
            )


def test_errors_say_the_numbers_and_the_way_out():
    with pytest.raises(ShapeError, match=r"\(4, 3\).*4 pictures, 4 captions.*same order"):
        similarity({"x": np.zeros((4, 3))}, PIXELS, WORDS)
    with pytest.raises(ShapeError, match="3 pictures, 4 captions"):
        similarity({"x": np.zeros((4, 4))}, PIXELS[:3], WORDS)
    with pytest.raises(UsageError, match="1 to 40 pairs.*got 41"):
        similarity({"x": np.zeros((41, 41))}, np.zeros((41, 2, 2)), ["a"] * 41)
    with pytest.raises(DataError, match="'x' holds 1 that are not"):
        similarity({"x": np.where(np.eye(4) * np.arange(4) == 3, np.nan, 0)}, PIXELS, WORDS)
