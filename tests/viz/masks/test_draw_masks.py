"""A drawn mask has a cell for each, a hatching for padding, frames for groups; words are read off the mask, wrong ones included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.colors import to_rgb

from tinymm.arrays.errors import DtypeError, ShapeError, UsageError
from tinymm.layers import bidirectional_mask, multimodal_causal_mask, unimodal_mask
from tinymm.viz.masks.cells import (
    ALLOWED,
    BLOCKED,
    IDLE,
    KNOWN,
    LEAK,
    PADDED,
    apart,
    clipped,
    one_mask,
    parts,
    reachable,
    sentence,
    states,
)
from tinymm.viz.masks.figure import (
    LOOKS,
    SIDES,
    WIDEST,
    Panel,
    difference,
    draw,
    draw_alt,
    side_by_side,
)

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=6))
square = st.integers(1, 6).flatmap(lambda n: st.tuples(arrays(bool, (n, n)), arrays(bool, n)))
GROUPS = {"query": 2, "text": 3}


def names(n):
    return [f"{i}" for i in range(n)]


def drawn(axes, shape, looks):
    """Read the states of the cells back from the collections that were drawn."""
    cells = np.full(shape, -1)
    for collection in axes.collections:
        color = tuple(collection.get_facecolor()[0][:3])
        state = next(
            state
            for state, look in looks.items()
            if np.allclose(to_rgb(look[0]), color) and (look[1] or None) == collection.get_hatch()
        )
        for path in collection.get_paths():
            column, row = path.vertices[:4].mean(axis=0)
            cells[round(row), round(column)] = state
    return cells


@given(square)
def test_padding_and_leaks_are_told_apart(case):
    mask, real = case
    cells = states(mask, real)
    for i, j in np.ndindex(mask.shape):
        if mask[i, j]:
            assert cells[i, j] == (ALLOWED if real[i] and real[j] else LEAK if real[i] else IDLE)
        else:
            assert cells[i, j] == (BLOCKED if real[i] and real[j] else PADDED)


@given(square, st.integers(2, 4))
def test_known_are_the_detours_of_real_rows(case, layers):
    mask, real = case
    plain, cells = states(mask, real), states(mask, real, layers)
    detours = reachable(mask, layers) & ~mask & real[:, None]
    assert np.array_equal(cells == KNOWN, detours)
    assert np.array_equal(cells[~detours], plain[~detours])


@given(square, st.integers(1, 4))
def test_reachable_is_every_path(case, layers):
    mask, _ = case
    known = (
        np.linalg.matrix_power(mask.astype(object) + np.eye(len(mask), dtype=object), layers) > 0
    )
    assert np.array_equal(reachable(mask, layers), known.astype(bool))


def test_a_causal_mask_leaks_nothing_whatever_the_depth():
    causal = np.tri(5, dtype=bool)
    assert np.array_equal(reachable(causal, 9), causal)


# ---------------------------------------------------------------------- words
def test_sentences_of_the_three_objectives():
    real = np.array([[True, True, True]])
    everything = np.ones(5, dtype=bool)
    said = [
        sentence(build(2, real)[0, 0], GROUPS, everything)
        for build in (unimodal_mask, multimodal_causal_mask, bidirectional_mask)
    ]
    assert (
        said[0]
        == "A query sees all queries, but no text; a text token sees all text, but no queries."
    )
    assert (
        said[1]
        == "A query sees all queries, but no text; a text token sees all queries and the text up to itself."
    )
    assert said[2] == "Every token sees all queries and all text."


@pytest.mark.parametrize(
    "cell, change, words",
    [
        ((0, 3), True, "some text (1 of 6 cells)"),
        ((3, 1), False, "some queries (5 of 6 cells)"),
        ((2, 4), True, "some text (7 of 9 cells)"),
    ],
)
def test_one_wrong_cell_changes_the_sentence(cell, change, words):
    mask = multimodal_causal_mask(2, np.ones((1, 3), dtype=bool))[0, 0].copy()
    assert words not in sentence(mask, GROUPS)
    mask[cell] = change
    assert words in sentence(mask, GROUPS)


def test_padding_is_left_out_of_the_sentence_and_spoken_of_at_the_end():
    is_real = np.array([True, True, True, True, False])
    mask = multimodal_causal_mask(2, is_real[None, 2:])[0, 0].copy()
    whole = "A query sees all queries, but no text; a text token sees all queries and the text up to itself."
    assert sentence(mask, GROUPS, is_real) == whole + " No real token sees padding."
    mask[0, 4] = True
    assert sentence(mask, GROUPS, is_real) == whole + " 1 cell looks at padding!"
    mask[3, 4] = True
    assert sentence(mask, GROUPS, is_real) == whole + " 2 cells look at padding!"


def test_itself_and_nothing():
    assert sentence(np.eye(3, dtype=bool), {"text": 3}) == "A text token sees itself."
    assert sentence(np.zeros((2, 2), bool), {"query": 2}) == "A query sees nothing."


@given(masks.flatmap(lambda mask: st.tuples(st.just(mask), arrays(bool, mask.shape))))
def test_where_two_masks_differ_is_counted_on_both_sides(pair):
    one, other = pair
    cells, said = apart(one, other, ("A", "B"))
    assert np.array_equal(cells, one + 2 * other)
    only = (one & ~other).sum(), (other & ~one).sum()
    assert said.startswith(f"{sum(only)} of {one.size} cells differ")
    for label, count in zip("AB", only, strict=True):
        assert (f"only {label} allows {count}" in said) == bool(count)


def test_with_groups_the_difference_says_where():
    real = np.ones((1, 3), dtype=bool)
    said = apart(unimodal_mask(2, real), multimodal_causal_mask(2, real), ("ITC", "ITG"), GROUPS)[1]
    assert (
        said
        == "9 of 25 cells differ: only ITC allows text → text (3); only ITG allows text → queries (6)."
    )


# ---------------------------------------------------------------------- drawings
@settings(max_examples=15)
@given(square, st.integers(1, 3))
def test_a_drawing_shows_the_state_of_each_cell(case, layers):
    mask, real = case
    figure = draw(mask, names(len(mask)), is_real=real, layers=layers)
    assert np.array_equal(drawn(figure.axes[0], mask.shape, LOOKS), states(mask, real, layers))
    shown = {text.get_text() for text in figure.legends[0].get_texts()}
    assert len(shown) == len(np.unique(states(mask, real, layers))), (
        "the legend explains what occurs, and nothing else"
    )


def test_states_differ_in_lightness_or_hatching():
    """Gray prints and color-blind readers must tell them apart."""
    for looks in (LOOKS, SIDES):
        for one, (color, hatch) in looks.items():
            for other, (second, another) in looks.items():
                light = abs(
                    np.dot(to_rgb(color), [0.299, 0.587, 0.114])
                    - np.dot(to_rgb(second), [0.299, 0.587, 0.114])
                )
                assert one == other or hatch != another or light > 0.1


def test_words_of_a_drawing():
    figure = draw(np.tri(3, dtype=bool), ["a", "b", "c"])
    assert (
        figure.alt.splitlines()[0] == "6 of 9 cells may attend."
        and "b looks at a, b." in figure.alt
    )
    figure = draw(np.eye(3, k=-1, dtype=bool), ["a", "b", "c"], {"text": 3}, layers=2)
    assert figure.alt.splitlines()[0] == "After 2 layers a text token knows the text up to itself."
    assert "1 of them look at padding" in draw_alt(
        np.array([[True, True], [False, True]]), ["a", "b"], np.array([True, False])
    )


def test_masks_as_models_hand_them_out():
    """(B, 1, 1, T) for one pair: every row looks at the same columns."""
    padding = np.array([[[[True, True, False]]]])
    assert "c looks at a, b." in draw_alt(padding, ["a", "b", "c"], np.array([True, True, False]))


def test_groups_have_their_colors_their_names_and_a_line_between():
    figure = draw(np.ones((5, 5), bool), ["q0", "q1", "a", "b", "c"], GROUPS)
    axes = figure.axes[0]
    labels = axes.get_yticklabels()
    assert labels[0].get_color() == labels[1].get_color() != labels[2].get_color()
    assert [text.get_text() for text in axes.texts] == ["queries", "text", "queries", "text"]
    assert [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1] == [1.5]


def boxes(figure):
    figure.canvas.draw()
    labels = [
        label
        for axes in figure.axes
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels())
    ]
    return [label.get_window_extent() for label in labels], figure.bbox


@pytest.mark.parametrize(
    "count, word",
    [(3, "a"), (12, "photograph"), (64, "photograph"), (9, "a-word-that-goes-on-and-on")],
)
def test_names_neither_overlap_nor_leave_the_page(count, word):
    figure = draw(np.tri(count, dtype=bool), [word] * count, {"text": count})
    spaces, page = boxes(figure)
    assert all(
        box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1 for box in spaces
    )
    for across, rows in ((True, spaces[:count]), (False, spaces[count:])):
        ends = sorted((box.x0, box.x1) if across else (box.y0, box.y1) for box in rows)
        assert all(after[0] >= before[1] - 1 for before, after in zip(ends, ends[1:], strict=False))


def panels(count, title="ITC"):
    mask = unimodal_mask(2, np.ones((1, count - 2), dtype=bool))
    return [
        Panel(
            mask,
            [f"q{i}" for i in range(count)],
            {"query": 2, "text": count - 2},
            None,
            f"{title} {k}",
            "a note",
        )
        for k in range(3)
    ]


def test_panels_stand_side_by_side_and_below_each_other_where_too_wide():
    for count, abreast in ((6, True), (20, True), (64, False)):
        figure = side_by_side(panels(count))
        lefts, tops = (
            {round(getattr(axes.get_position(), side), 3) for axes in figure.axes}
            for side in ("x0", "y1")
        )
        assert (len(lefts), len(tops)) == ((3, 1) if abreast else (1, 3))
        assert figure.get_size_inches()[0] <= WIDEST
        assert [
            line.split(":")[0] for line in figure.alt.splitlines() if line.startswith("ITC")
        ] == ["ITC 0", "ITC 1", "ITC 2"]


@settings(max_examples=10)
@given(masks.flatmap(lambda mask: st.tuples(st.just(mask), arrays(bool, mask.shape))))
def test_difference_draws_both_sides(pair):
    one, other = pair
    figure = difference(one, other, names(len(one)), column_names=names(one.shape[1]))
    assert np.array_equal(drawn(figure.axes[0], one.shape, SIDES), one + 2 * other)
    assert len(figure.alt.splitlines()) == 1 + (one != other).sum()


def test_difference_hatches_padding():
    real = np.array([True, False])
    figure = difference(np.tri(2, dtype=bool), np.eye(2, dtype=bool), ["a", "b"], is_real=real)
    assert drawn(figure.axes[0], (2, 2), SIDES).tolist() == [[3, 4], [1, 3]]


def test_errors():
    with pytest.raises(DtypeError, match="got float64; compare first"):
        one_mask(np.ones((2, 2)))
    with pytest.raises(ShapeError, match=r"got \(2, 1, 3, 3\); pick a pair"):
        draw(np.ones((2, 1, 3, 3), bool), ["a", "b", "c"])
    with pytest.raises(ShapeError, match=r"got \(3, 3\), 2, 2; name every token once"):
        draw(np.ones((3, 3), bool), ["a", "b"])
    with pytest.raises(ShapeError, match=r"is_real \(Tk,\) is boolean.*int64 \(3,\)"):
        states(np.ones((3, 3), bool), np.array([1, 1, 0]))
    with pytest.raises(ShapeError, match=r"got \(2, 3\); use layers=1 for a cross mask"):
        reachable(np.ones((2, 3), bool), 2)
    with pytest.raises(ShapeError, match="4 in all, for 3 names; recount"):
        parts({"query": 3, "text": 1}, 3)
    with pytest.raises(ShapeError, match=r"got \(2, 2\) and \(3, 3\); make them for one sequence"):
        apart(np.ones((2, 2), bool), np.ones((3, 3), bool))
    with pytest.raises(UsageError, match="got 0; pass a list of Panel"):
        side_by_side([])


@given(st.text(max_size=40))
def test_a_clipped_name_is_one_short_line(name):
    assert len(clipped(name)) <= 16 and "\n" not in clipped(name)
