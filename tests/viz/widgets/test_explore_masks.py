"""The mask explorer's cells are those of the mask, and what a row knows is a power of it."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_explorer import data_of, drawings

from tinymm.arrays.errors import UsageError
from tinymm.layers import multimodal_causal_mask, prefix_mask
from tinymm.viz import MaskExplorer
from tinymm.viz.masks.cells import ALLOWED, BOTH, KNOWN, SECOND, WORDS, depth
from tinymm.viz.masks.objectives import OBJECTIVES
from tinymm.viz.widgets.mask_svg import marks

square = st.integers(1, 6).flatmap(lambda T: arrays(bool, (T, T)))


def drawn(page, kind="s"):
    """Read the states off the SVG: from the class, and again from the sign."""
    svg = max(drawings(page), key=lambda each: len(list(each.iter())))
    rows = [
        [cell for cell in row if cell.get("role") == "gridcell"]
        for row in svg.iter("g")
        if row.get("role") == "row"
    ]
    rows = [row for row in rows if row]
    classes = np.array([[int(cell.get("class")[-1]) for cell in row] for row in rows])
    side = float(rows[0][0].find("rect").get("width"))
    for cell in (cell for row in rows for cell in row):
        assert cell.find("path").get("d") == marks(side)[kind][int(cell.get("class")[-1])]
    return classes, [[cell.find("title").text for cell in row] for row in rows]


def test_the_cells_are_the_models_mask():
    explorer = MaskExplorer("itg", queries=3, words=["a", "cat"], padding=1, layers=1)
    mask = multimodal_causal_mask(3, np.array([[1, 1, 1, 1, 0]], bool))[0, 0]
    cells, titles = drawn(explorer._repr_html_())
    assert cells.shape == (8, 9), "the picture is a column, and looks at nothing itself"
    assert np.array_equal(np.isin(cells[:, 1:], (1, 5)), mask)
    assert cells[:, 0].tolist() == [1, 1, 1, 0, 0, 0, 0, 2], "queries see the picture, words do not"
    assert titles[3][0] == "[DEC] → picture: blocked" and titles[0][1] == "q0 → q0: may attend"


@given(square, st.integers(1, 5))
@example(np.eye(8, k=-1, dtype=bool), 4)
def test_what_is_known_is_a_power_of_the_mask(mask, layers):
    step = (mask | np.eye(len(mask), dtype=bool)).astype(np.int64)
    power = np.linalg.matrix_power(step, layers) > 0
    explorer = MaskExplorer.from_masks(mask, [f"t{i}" for i in range(len(mask))], layers=layers)
    cells, _ = drawn(explorer._repr_html_())
    assert np.array_equal(cells == ALLOWED, mask)
    assert np.array_equal(cells == KNOWN, power & ~mask if layers > 1 else np.zeros_like(mask))
    deep = np.array(data_of(explorer._repr_html_())["sheets"]["mask"]["depth"])
    assert np.array_equal((deep > 0) & (deep <= layers), power) and np.array_equal(
        deep, depth(mask, 48)
    )


@given(square)
def test_table_and_sentences_name_what_is_seen(mask):
    names = [f"t{i}" for i in range(len(mask))]
    explorer = MaskExplorer.from_masks(mask, names, layers=1)
    for i, name in enumerate(names):
        said = explorer.row(name)
        assert said in explorer.table() and said == explorer.row(i)
        seen = np.flatnonzero(mask[i])
        assert said.startswith(f"{name} sees {'nothing' if not len(seen) else f't{seen[0]}'}")
        if len(seen):
            assert f"t{seen[-1]}." in said
    assert f"{mask.sum()} of {mask.size} cells may attend." in explorer.alt()


def test_a_detour_is_told():
    explorer = MaskExplorer.from_masks(np.eye(4, k=-1, dtype=bool), list("abcd"), layers=3)
    assert explorer.row("d") == "d sees c. After 3 layers it also knows a, b and d."
    assert explorer.most == 3 and "After 3 layers 10 of 16 pairs are known." in explorer.alt()


def test_padding_and_leaks_are_told():
    mask = np.array([[1, 1, 0], [1, 1, 1], [1, 0, 0]], bool)
    explorer = MaskExplorer.from_masks(
        mask,
        ["a", "b", "[PAD]"],
        groups={"text": 3},
        is_real=np.array([True, True, False]),
        layers=1,
    )
    assert explorer.row("b") == "b sees a, b and [PAD]. [PAD] is padding!"
    assert explorer.row("[PAD]") == "[PAD] is padding: it may look at a, and nobody reads it."
    assert drawn(explorer._repr_html_())[0].tolist() == [[1, 1, 2], [1, 1, 3], [5, 2, 2]]


@pytest.mark.parametrize("front", ["query", "picture"])
def test_all_objectives_of_the_same_tokens_are_in_the_data(front):
    many = [name for name, each in OBJECTIVES.items() if each.front == front]
    page = data_of(MaskExplorer(many[0], queries=2, patches=3, padding=1)._repr_html_())
    assert list(page["sheets"]) == many and {"causal", "prefix"} < set(OBJECTIVES)
    for name in many:
        told, shown = (
            page["sheets"][name],
            MaskExplorer(name, queries=2, patches=3, padding=1, layers=1),
        )
        assert told["states"] == [
            "".join(map(str, row)) for row in drawn(shown._repr_html_())[0].tolist()
        ]
        assert told["notes"][0].endswith(OBJECTIVES[name].why)


def test_prefix_is_the_prefix_mask():
    explorer = MaskExplorer("prefix", queries=2, words=["a", "red", "ball"], layers=1)
    assert np.array_equal(explorer.cells()[:, 1:] == ALLOWED, prefix_mask(2 + 2, 7)), (
        "half of five text tokens is given"
    )


def test_a_difference_shows_both_sides():
    explorer = MaskExplorer("itg", queries=2, words=["a"], against="itm")
    one, other = (
        MaskExplorer(name, queries=2, words=["a"], layers=1).cells() == ALLOWED
        for name in ("itg", "itm")
    )
    cells, titles = drawn(explorer._repr_html_(), "d")
    assert np.array_equal(cells, one + 2 * other) and {BOTH, SECOND} <= set(cells.ravel().tolist())
    assert titles[0][3] == "q0 → [DEC]/[CLS]: only ITM allows"
    assert (
        explorer.row("q0")
        == "q0: both allow picture, q0 and q1; only ITM allows [DEC]/[CLS], a and [SEP]."
    )
    assert explorer.alt().startswith(
        f"From ITG to ITM: {(one != other).sum()} of {one.size} cells differ: only ITM allows"
    )


def test_a_cross_mask_has_one_layer():
    explorer = MaskExplorer.from_masks(
        np.array([[True, False, True]]), ["a"], column_names=["p", "q", "r"]
    )
    assert explorer.row("a") == "a sees p and r." and explorer.layers == 1
    with pytest.raises(UsageError, match=r"layers lie in \[1, 1\], and 2 came; a cross mask has 1"):
        MaskExplorer.from_masks(np.ones((1, 2), bool), ["a"], column_names=["p", "q"], layers=2)


def test_the_legend_names_what_occurs():
    page = MaskExplorer("itc", queries=2, words=["a"], layers=1)._repr_html_()
    assert WORDS[0] in page and WORDS[3] not in page.split('<script type="application/json">')[0]


def test_each_state_has_a_sign_of_its_own():
    signs = marks(26)
    assert len(set(signs["s"])) == 6 and len(set(signs["d"])) == 5
    assert signs["s"][ALLOWED] == signs["d"][BOTH] and signs["d"][SECOND].count("M") == 2, (
        "a disk where it is allowed, a plus where it is added"
    )


def test_errors():
    with pytest.raises(
        UsageError, match="1 to 64 tokens each way, and 500 by 500 came; pass a part"
    ):
        MaskExplorer.from_masks(np.ones((500, 500), bool), [str(i) for i in range(500)])
    with pytest.raises(UsageError, match="1 to 64 tokens each way, and 105 by 105 came"):
        MaskExplorer("itg", queries=100)
    with pytest.raises(UsageError, match="and 'itx' came; for a mask of yours use from_masks"):
        MaskExplorer("itx")
    with pytest.raises(
        UsageError,
        match="'itg' and 'blip-lm' came; compare 'itg' with one of itc, itg, itm, causal, prefix",
    ):
        MaskExplorer("itg", against="blip-lm")
    with pytest.raises(
        UsageError, match="1 to 12 masks, compared by name: got 0 masks, none, against None"
    ):
        MaskExplorer.from_masks({}, ["a"])
    with pytest.raises(UsageError, match=r"layers lie in \[1, 48\], and 0 came"):
        MaskExplorer("itg", layers=0)
