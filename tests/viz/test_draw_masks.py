"""A printed mask reads back as the mask; a drawn one has a cell for each; padding and leaks are told apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinymm.arrays.errors import DtypeError, ShapeError
from tinymm.viz.masks import ALLOWED, BLOCKED, LEAK, PADDED, difference, draw, draw_alt, grid, reachable, states

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=6))
square = st.integers(1, 6).flatmap(lambda n: st.tuples(arrays(bool, (n, n)), arrays(bool, n)))


def names(n, long=False):
    return [f"token{i}" if long else f"{i}" for i in range(n)]


def read_back(text, rows, symbols="·■░!"):
    lines = text.splitlines()[-1 - rows : -1]
    return np.array([[symbols.index(mark) for mark in line.split()[1:]] for line in lines])


@given(masks, st.booleans())
def test_what_is_printed_is_the_mask(mask, long):
    text = grid(mask, names(len(mask), long), names(mask.shape[1], long))
    assert np.array_equal(read_back(text, len(mask)), mask.astype(int))


@given(square)
def test_padding_and_leaks_are_told_apart(case):
    mask, real = case
    cells = states(mask, real)
    for i, j in np.ndindex(mask.shape):
        if mask[i, j]:
            assert cells[i, j] == (LEAK if real[i] and not real[j] else ALLOWED)
        else:
            assert cells[i, j] == (BLOCKED if real[i] and real[j] else PADDED)
    assert np.array_equal(read_back(grid(mask, names(len(mask)), is_real=real), len(mask)), cells)


def test_ascii_for_poor_terminals():
    assert grid(np.tri(2, dtype=bool), ["a", "b"], symbols=".#_!").isascii()


@given(square, st.integers(1, 4))
def test_reachable_is_every_path(case, layers):
    mask, _ = case
    known = np.linalg.matrix_power(mask.astype(object) + np.eye(len(mask), dtype=object), layers) > 0
    assert np.array_equal(reachable(mask, layers), known.astype(bool))


def test_a_causal_mask_leaks_nothing_whatever_the_depth():
    causal = np.tri(5, dtype=bool)
    assert np.array_equal(reachable(causal, 9), causal)


def faces(figure):
    return [patch.get_facecolor() for patch in figure.axes[0].patches]


def test_a_drawing_has_a_cell_for_each():
    figure = draw(np.tri(3, dtype=bool), ["a", "b", "c"])
    figure.canvas.draw()
    cells = np.array([face[0] < 0.5 for face in faces(figure)]).reshape(3, 3)
    assert np.array_equal(cells, np.tri(3, dtype=bool))
    assert figure.alt.splitlines()[0] == "6 of 9 cells may attend."
    assert "b looks at a, b." in figure.alt


def test_masks_as_models_hand_them_out():
    """(B, 1, 1, T) for one pair: every row looks at the same columns."""
    padding = np.array([[[[True, True, False]]]])
    assert "c looks at a, b." in draw_alt(padding, ["a", "b", "c"], np.array([True, True, False]))
    assert read_back(grid(padding, ["x", "y"], ["a", "b", "c"]), 2).tolist() == [[1, 1, 0]] * 2


def test_a_leak_is_said():
    assert "1 of them look at padding" in draw_alt(np.array([[True, True], [False, True]]), ["a", "b"], np.array([True, False]))


@settings(max_examples=20)
@given(masks.flatmap(lambda mask: st.tuples(st.just(mask), arrays(bool, mask.shape))))
def test_difference_counts_both_sides(pair):
    one, other = pair
    rows, columns = names(len(one)), names(one.shape[1])
    text = difference(one, other, rows, column_names=columns).alt
    head = text.splitlines()[0]
    only = (one & ~other).sum(), (other & ~one).sum()
    assert head == f"{sum(only)} of {one.size} cells differ: {only[0]} only the first allows, {only[1]} only the second allows."
    assert len(text.splitlines()) == 1 + sum(only)


def test_groups_have_their_colors_and_a_line_between():
    figure = draw(np.ones((3, 3), bool), ["q0", "q1", "a"], {"query": 2, "text": 1})
    labels = figure.axes[0].get_yticklabels()
    assert labels[0].get_color() == labels[1].get_color() != labels[2].get_color()
    with pytest.raises(ShapeError, match="4 in all, for 3 names"):
        draw(np.ones((3, 3), bool), ["q0", "q1", "a"], {"query": 3, "text": 1})


def test_errors():
    with pytest.raises(DtypeError, match="got float64; compare first"):
        grid(np.ones((2, 2)), ["a", "b"])
    with pytest.raises(ShapeError, match=r"got \(2, 1, 3, 3\); pick a pair"):
        draw(np.ones((2, 1, 3, 3), bool), ["a", "b", "c"])
    with pytest.raises(ShapeError, match=r"got \(3, 3\), 2, 2"):
        draw(np.ones((3, 3), bool), ["a", "b"])
    with pytest.raises(ShapeError, match=r"is_real \(Tk,\) is boolean.*int64 \(3,\)"):
        states(np.ones((3, 3), bool), np.array([1, 1, 0]))
    with pytest.raises(ShapeError, match="layers=1 for a cross mask"):
        reachable(np.ones((2, 3), bool), 2)
