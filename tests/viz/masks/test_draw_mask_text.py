"""A printed mask reads back as the mask, framed or not, wide or narrow, in signs or in ASCII."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinymm.arrays.errors import ShapeError
from tinymm.viz.masks.cells import apart, states
from tinymm.viz.masks.text import ASCII, SYMBOLS, beside, difference_grid, grid

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=6))
square = st.integers(1, 6).flatmap(
    lambda n: st.tuples(arrays(bool, (n, n)), arrays(bool, n), st.integers(0, n))
)


def names(n, long=False):
    return [f"token{i}" if long else f"{i}" for i in range(n)]


def read_back(text, rows, symbols=SYMBOLS):
    """Return the states that were printed, from the lines that begin with a name of `rows`."""
    found = []
    for line in text.splitlines():
        name, _, rest = line.strip().partition(" ")
        if name in rows and set(rest) <= set(symbols + " │|"):
            found.append([symbols.index(sign) for sign in rest if sign not in " │|"])
    return np.array(found[-len(rows) :])


@given(masks, st.booleans())
def test_what_is_printed_is_the_mask(mask, long):
    rows, columns = names(len(mask), long), names(mask.shape[1], long)
    assert np.array_equal(read_back(grid(mask, rows, columns), rows), mask.astype(int))


@given(square, st.sampled_from([SYMBOLS, ASCII]), st.sampled_from([None, 80, 5]), st.integers(1, 3))
def test_groups_padding_and_layers_read_back(case, symbols, width, layers):
    mask, real, first = case
    rows = names(len(mask), long=True)
    groups = {"query": first, "text": len(mask) - first}
    text = grid(
        mask, rows, groups=groups, is_real=real, symbols=symbols, width=width, layers=layers
    )
    assert np.array_equal(read_back(text, rows, symbols), states(mask, real, layers))
    if symbols == ASCII:
        assert text.isascii()


@given(square, st.sampled_from([None, 80, 5]))
def test_rows_can_be_left_out_where_they_do_not_look(case, width):
    """The picture's tokens are looked at: its columns stay, with their frame, and its rows go."""
    mask, real, first = case
    first = min(first, len(mask) - 1)
    mask[:first] = np.eye(*mask.shape, dtype=bool)[:first]
    rows, groups = names(len(mask), long=True), {"picture": first, "text": len(mask) - first}
    text = grid(mask, rows, groups=groups, is_real=real, width=width, first=first)
    assert np.array_equal(read_back(text, rows[first:]), states(mask, real)[first:])
    assert not any(
        line.strip().startswith(name) for line in text.splitlines() for name in rows[:first]
    )
    assert sum(line.strip().startswith(tuple("┌├└")) for line in text.splitlines()) == 2
    other = np.triu(mask) | np.eye(len(mask), dtype=bool)
    shown = difference_grid(mask, other, rows, groups=groups, first=first)
    assert np.array_equal(
        read_back(shown, rows[first:], "·-+■"), apart(mask, other, first=first)[0]
    )


@given(square)
def test_a_frame_is_straight(case):
    mask, _, first = case
    text = grid(
        mask,
        names(len(mask), True),
        groups={"query": first, "text": len(mask) - first},
        legend=False,
    )
    framed = [line for line in text.splitlines() if set(line) & set("│┌├└")]
    assert len({len(line) for line in framed}) == 1
    assert len(framed) == len(mask) + 2 + (0 < first < len(mask))


def test_sixty_four_tokens_fit_a_terminal_of_80():
    rows = [f"q{i}" for i in range(32)] + ["photograph"] * 32
    text = grid(np.tri(64, dtype=bool), rows, groups={"query": 32, "text": 32}, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "queries" in text and "text" in text


def test_names_of_columns_stand_upright_on_their_columns():
    lines = grid(
        np.tri(3, dtype=bool), ["[CLS]", "a", "red"], groups={"text": 3}, legend=False
    ).splitlines()
    head, first = lines[: next(i for i, line in enumerate(lines) if "┌" in line)], lines[-4]
    columns = [place for place, sign in enumerate(first) if sign in SYMBOLS]
    assert ["".join(line.ljust(99)[place] for line in head) for place in columns] == [
        "[CLS]",
        "    a",
        "  red",
    ]


def test_a_mask_for_one_pair():
    padding = np.array([[[[True, True, False]]]])
    assert (
        read_back(grid(padding, ["x", "y"], ["a", "b", "c"]), ["x", "y"]).tolist()
        == [[1, 1, 0]] * 2
    )


@given(square.flatmap(lambda case: st.tuples(st.just(case[0]), arrays(bool, case[0].shape))))
def test_a_printed_difference_is_the_difference(pair):
    one, other = pair
    rows = names(len(one))
    text = difference_grid(one, other, rows, labels=("ITC", "ITG"))
    assert np.array_equal(read_back(text, rows, "·-+■"), apart(one, other)[0])
    assert ("+ only ITG allows" in text) == bool((other & ~one).any())
    assert ("- only ITC allows" in text) == bool((one & ~other).any())


@given(
    st.lists(st.text("ab\n", min_size=1).filter(str.strip), min_size=1, max_size=4),
    st.integers(1, 40),
)
def test_texts_stand_side_by_side_only_where_there_is_room(blocks, width):
    text = beside(blocks, width)
    wide = [max(map(len, block.splitlines())) for block in blocks]
    if sum(wide) + 2 * (len(blocks) - 1) <= width:
        assert len(text.splitlines()) <= max(len(block.splitlines()) for block in blocks)
        assert all(len(line) <= width for line in text.splitlines())
    else:
        assert text == "\n\n".join(blocks)


def test_long_names_are_clipped():
    assert "a-rather-long-t…" in grid(np.tri(1, dtype=bool), ["a-rather-long-token"])
    assert "a-rather-long-t~" in grid(np.tri(1, dtype=bool), ["a-rather-long-token"], symbols=ASCII)


def test_groups_need_a_square():
    with pytest.raises(ShapeError, match=r"got \(1, 2\); leave groups out for a cross mask"):
        grid(np.ones((1, 2), bool), ["a"], ["b", "c"], groups={"text": 1})
