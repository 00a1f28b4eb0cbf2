"""Charts and grids: the table, the alt text and the picture hold the same numbers, chance and control are drawn, words stay apart."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.viz import charts, grids
from tinymm.viz.tables import number

values = st.floats(-100, 100).map(lambda x: round(x, 3))


@settings(max_examples=10)
@given(st.lists(values, min_size=2, max_size=6), values)
def test_a_curves_numbers_are_in_its_table_its_words_and_its_picture(ys, level):
    drawn = charts.lines(
        {"loss": (range(len(ys)), ys)},
        title="It moves",
        x="step",
        y="nats",
        references={"floor": level},
        marked=True,
    )
    curve, dashed = drawn.axes[0].lines[:2]
    np.testing.assert_allclose(curve.get_ydata(), ys)
    assert set(dashed.get_ydata()) == {level} and dashed.get_linestyle() == "--"
    rows = [line.split() for line in drawn.table.splitlines()]
    assert (
        rows[0] == ["step", "loss"]
        and [row[1] for row in rows[1:-1]] == [number(float(y)) for y in ys]
        and rows[-1] == ["floor", number(level)]
    )
    assert drawn.alt.startswith(
        f"It moves. loss: {number(ys[0])} at step 0, {number(ys[-1])} at step {len(ys) - 1}"
    )
    assert drawn.alt.endswith(f"Dashed: floor = {number(level)}.")


def test_a_long_curve_has_a_short_table_with_both_ends():
    rows = charts.lines(
        {"a": (range(1000), range(1000))}, title="It rises", x="step", y=""
    ).table.splitlines()
    assert (
        len(rows) == charts.MOST_ROWS + 1
        and rows[1].split()[0] == "0"
        and rows[-1].split()[0] == "999"
    )


@pytest.mark.parametrize("ends", [(1.0, 1.0, 1.0), (0.0, 0.01, 5.0), (5.0, 4.99, 4.98)])
def test_names_at_the_ends_do_not_meet(ends):
    drawn = charts.lines(
        {f"curve {i}": ([0, 1], [2.0, end]) for i, end in enumerate(ends)},
        title="They meet",
        x="",
        y="",
        references={"chance": 1},
    )
    drawn.canvas.draw()
    boxes = sorted(
        (text.get_window_extent() for text in drawn.axes[0].texts), key=lambda box: box.y0
    )
    assert len(boxes) == 4 and all(
        low.y1 <= high.y0 + 1 for low, high in zip(boxes, boxes[1:], strict=False)
    )
    assert all(box.x1 <= drawn.bbox.x1 and box.y0 >= 0 for box in boxes)


def test_bars_stand_beside_chance_and_control():
    shares = {"now": {"right": 0.58, "leaking": 0.006}, "then": {"right": 0.58}}
    drawn = charts.bars(shares, title="No", unit="share right", references={"chance": 0.1})
    assert [patch.get_width() for patch in drawn.axes[0].patches] == [0.58, 0.006, 0.58]
    assert (
        len({(patch.get_facecolor(), patch.get_hatch()) for patch in drawn.axes[0].patches}) == 2
    ), "a series differs in color and hatching"
    assert drawn.axes[0].lines[0].get_xdata()[0] == 0.1
    assert [line.split() for line in drawn.table.splitlines()] == [
        ["right", "leaking"], ["now", "0.58", "0.006"], ["then", "0.58", "–"], ["chance", "0.1", "0.1"],
    ]  # fmt: skip
    assert "now right 0.58, now leaking 0.006, then right 0.58. Dashed: chance = 0.1." in drawn.alt


def test_a_grid_writes_every_number_and_crosses_what_is_blocked():
    blocked = ~np.tri(3, dtype=bool)
    weights = np.where(blocked, np.nan, np.tri(3) / np.arange(1, 4)[:, None])
    panels, names = {"weights": weights, "out": np.ones((3, 2))}, ["a", "red", "ball"]
    drawn = grids.grids(
        panels,
        names,
        title="Rows",
        blocked={"weights": blocked},
        sums=["weights"],
        column_sums=["weights"],
    )
    written = [text.get_text() for text in drawn.axes[0].texts]
    assert written[:9] == ["1", "×", "×", "0.5", "0.5", "×", "0.33", "0.33", "0.33"]
    assert written[-6:] == ["Σ 1.00"] * 3 + ["Σ 1.83", "Σ 0.83", "Σ 0.33"], (
        "rows beside, columns below, and what is blocked counts in neither"
    )
    found = re.findall(r"\d\S*|×", drawn.table.split("\n\n")[0])
    assert found == [
        "1",
        "×",
        "×",
        "1",
        "0.5",
        "0.5",
        "×",
        "1",
        "0.33",
        "0.33",
        "0.33",
        "1",
        "1.833",
        "0.833",
        "0.333",
    ]
    assert drawn.table in drawn.alt
    assert [label.get_text() for label in drawn.axes[1].get_xticklabels()] == ["0", "1"], (
        "columns without names are numbered"
    )


def test_numbers_below_zero_have_a_color_of_their_own():
    cells = grids.grids(
        {"signed": np.array([[-1.0, 0.0, 1.0]]), "sizes": np.array([[0.0, 0.5, 1.0]])},
        ["a"],
        title="Rows",
    )
    signed, sizes = (
        axes.images[0].to_rgba(axes.images[0].get_array())[0, :, :3] for axes in cells.axes
    )
    assert np.abs(signed[0] - signed[2]).max() > 0.2 and np.ptp(signed[1]) < 0.03, (
        "opposite numbers are apart, and zero has no hue"
    )
    assert sizes.sum(axis=1).tolist() == sorted(sizes.sum(axis=1).tolist(), reverse=True)


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: charts.lines({}, title="", x="", y=""), UsageError, "1 to 6 curves, and 0 came; leave some out"),
        (lambda: charts.lines({"a": ([1, 2], [1.0])}, title="", x="", y=""), DataError, r"'a' has \(1,\) at \(2,\); cut it"),
        (lambda: charts.lines({"a": ([1], [np.nan])}, title="", x="", y=""), DataError, "finite values"),
        (lambda: charts.bars({"a": np.inf}, title="", unit=""), DataError, r"\[inf\] came; correct them"),
        (lambda: charts.bars({"a": 0.0}, title="", unit="", log=True), DataError, r"above 0 on a log scale, and \[0.0\] came"),
        (lambda: grids.grids({"a": np.ones((2, 2))}, ["x"], title=""), ShapeError, r"each of 1 names .* 'a' is \(2, 2\); cut it"),
        (lambda: grids.grids({"a": np.full((1, 1), np.nan)}, ["x"], title=""), DataError, r"'a' is \(1, 1\) .*pass blocked of that shape"),
    ],
)  # fmt: skip
def test_errors_of_charts(call, kind, said):
    with pytest.raises(kind, match=said):
        call()
