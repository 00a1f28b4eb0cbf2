"""Which query wins and where it looks: counts that add up, dead queries shown, heat on the right patch, names on the page."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.colors import to_rgb

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.losses import l2_normalize, max_over_queries
from tinymm.viz import style
from tinymm.viz.attention.queries import (
    MOST,
    query_heat,
    query_heat_alt,
    winning_queries,
    winning_queries_alt,
)

LONG = "a big red square left of a small blue circle and above a green star"


def caps(count):
    return [f"caption {i}" for i in range(count)]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 8), st.integers(0, 99))
def test_shares_add_up_and_dead_queries_are_counted(B, C, Q, seed):
    winners = np.random.default_rng(seed).integers(0, Q, (B, C))
    text = winning_queries_alt(winners, caps(C), Q)
    counts = np.bincount(winners.ravel(), minlength=Q)
    dead = int((counts == 0).sum())
    assert (
        f"Query {counts.argmax()} wins {counts.max() / winners.size:.0%} of {winners.size} pairs"
        in text
    )
    assert (f"{dead} of {Q} queries never win" if dead else "every query wins") in text
    assert text.splitlines()[-1].count("%") == Q
    assert ("right pairs" in text) == (B == C)


def test_the_matrix_shows_the_winner_of_picture_across_and_caption_down():
    winners = np.arange(6).reshape(2, 3)  # two pictures, three captions
    figure = winning_queries(winners, caps(3), 8)
    axes = figure.axes[0]
    shown = {(text.get_position()): text.get_text() for text in axes.texts}
    for b, c in np.ndindex(2, 3):
        assert shown[(b, c)] == str(winners[b, c])


def test_winners_are_the_argmax_of_the_score():
    """What the drawing calls the winner is the query whose cosine is the pair's score."""
    rng = np.random.default_rng(0)
    queries, texts = (
        l2_normalize(rng.normal(size=(3, 4, 5)), axis=2),
        l2_normalize(rng.normal(size=(2, 5))),
    )
    cosines = np.einsum("bqe,ce->bqc", queries, texts)
    winners = cosines.argmax(axis=1)
    np.testing.assert_allclose(
        np.take_along_axis(cosines, winners[:, None], axis=1)[:, 0],
        max_over_queries(queries, texts),
    )
    assert "Query" in winning_queries_alt(winners, caps(2), 4)


def test_bars_crosses_and_the_even_share():
    figure = winning_queries(np.array([[0, 0], [3, 0]]), caps(2), 4)
    axes = figure.axes[1]
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], [0.75, 0, 0, 0.25])
    diamonds, even, crosses = axes.lines
    assert diamonds.get_xdata().tolist() == [0] and diamonds.get_ydata().tolist() == [1.0]
    assert list(even.get_ydata()) == [0.25, 0.25]
    assert crosses.get_xdata().tolist() == [1, 2]
    assert axes.get_ylabel() == "share of wins"


def test_right_pairs_are_framed_only_where_there_are_some():
    for shape, frames in (((3, 3), 3), ((3, 2), 0)):
        figure = winning_queries(np.zeros(shape, int), caps(shape[1]), 2)
        right = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
        assert len(right) == frames and all(
            patch.get_edgecolor()[:3] == to_rgb(style.RIGHT) for patch in right
        )


def test_many_pairs_are_counted_and_some_drawn():
    winners = np.random.default_rng(0).integers(0, 32, (40, 30))
    figure = winning_queries(winners, [LONG] * 30, 32, pictures=np.zeros((40, 4, 4)))
    numbers = [text for text in figure.axes[0].texts if text.get_text().isdecimal()]
    assert len(numbers) == MOST**2
    assert any(
        f"the first {MOST} · {MOST} of 40 · 30 pairs" in text.get_text() for text in figure.texts
    )
    figure.canvas.draw()
    for text in [*figure.axes[0].texts, *figure.texts, *figure.axes[1].get_xticklabels()]:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_captions_do_not_overlap():
    figure = winning_queries(np.zeros((4, 4), int), [LONG] * 4, 2)
    figure.canvas.draw()
    spaces = sorted(
        (text.get_window_extent() for text in figure.axes[0].texts if "\n" in text.get_text()),
        key=lambda box: box.y0,
    )
    assert len(spaces) == 4 and all(
        above.y0 >= below.y1 - 1 for below, above in zip(spaces, spaces[1:], strict=False)
    )


# ---------------------------------------------------------------------- where queries look
@pytest.mark.parametrize("patch", range(6))
def test_the_heat_lies_on_the_right_patch(patch):
    weights = np.eye(6)[[patch]]
    figure = query_heat(np.zeros((8, 9, 1)), weights, (2, 3))
    shown = figure.axes[1].images[0].get_array()
    assert shown.shape == (8, 9, 3)
    orange = np.argwhere(shown[..., 0] - shown[..., 2] > 0.1).mean(axis=0) / [8, 9]
    row, column = divmod(patch, 3)
    np.testing.assert_array_equal((orange * [2, 3]).astype(int), [row, column])
    assert f"Query 0 looks most at row {row + 1}, column {column + 1} (100%)." in figure.alt


@given(arrays(np.float64, (3, 6), elements=st.floats(0.01, 1)), st.floats(0.1, 10))
def test_words_do_not_depend_on_the_class_tokens_share(weights, scale):
    def numbers(array):
        return query_heat_alt(array, (2, 3)).splitlines()[1:]

    assert numbers(weights) == numbers(weights * 2.0)  # exact in floating point, unlike any scale
    assert len(numbers(weights * scale)) == 3


def test_copies_and_strangers():
    assert "two queries share 100%" in query_heat_alt(np.tile([0.1, 0.2, 0.3, 0.4], (3, 1)), (2, 2))
    assert "two queries share 0%" in query_heat_alt(np.eye(4)[:2], (2, 2))
    assert (
        query_heat_alt(np.eye(4)[:1], (2, 2)).splitlines()[0]
        == "Query 0 looks most sharply, at 1.0 of 4 patches."
    )
    assert query_heat_alt(np.zeros((2, 4)), (2, 2)).splitlines()[0] == "No query looks anywhere."


@settings(max_examples=6)
@given(st.sampled_from([1, 2, 8, 12, 32]), st.booleans())
def test_a_panel_for_each_query_with_titles_that_do_not_overlap(Q, long):
    weights = np.random.default_rng(Q).random((Q, 12))
    figure = query_heat(
        np.zeros((6, 8)),
        weights,
        (3, 4),
        [f"query {q}: {LONG}" for q in range(Q)] if long else None,
    )
    assert len(figure.axes) == Q + 1
    figure.canvas.draw()
    spaces = [text.get_window_extent() for axes in figure.axes for text in axes.texts] + [
        axes.get_window_extent() for axes in figure.axes
    ]
    assert all(
        box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        for box in spaces
    )
    for i, one in enumerate(spaces):
        assert not any(
            one.x0 < other.x1 - 1
            and other.x0 < one.x1 - 1
            and one.y0 < other.y1 - 1
            and other.y0 < one.y1 - 1
            for other in spaces[:i]
        )


def test_errors():
    with pytest.raises(ShapeError, match=r"got \(2, 3\) and 2 captions; pictures are rows"):
        winning_queries(np.zeros((2, 3), int), caps(2), 4)
    with pytest.raises(DataError, match=r"in \[0, Q=4\): got int64 from 0 to 4; pass the argmax"):
        winning_queries(np.array([[0, 4]]), caps(2), 4)
    with pytest.raises(DataError, match=r"got float64 from 0.0 to 0.0"):
        winning_queries(np.zeros((2, 2)), caps(2), 4)
    with pytest.raises(ShapeError, match=r"got \(2, 10\) for 3 · 3; leave the class token out"):
        query_heat(np.zeros((4, 4)), np.ones((2, 10)), (3, 3))
    with pytest.raises(DataError, match="the least is -1; pass what softmax gives"):
        query_heat(np.zeros((4, 4)), -np.ones((2, 9)), (3, 3))
    with pytest.raises(
        ShapeError, match=r"got 1 titles for weights \(2, 9\); name every query once"
    ):
        query_heat(np.zeros((4, 4)), np.ones((2, 9)), (3, 3), ["one"])
