"""Systems side by side: every number where it is, a dash where there is none, chance on the same axes, words that say the best."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm.arrays.errors import DataError, UsageError
from tinymm.viz.models.systems import COSTS, panels, systems, systems_alt, written

ROWS = {
    "CLIP": {"R@1, ITC": 0.61, "swaps, ITC": 0.63, "parameters": 824_000, "seconds": 95},
    "ALBEF": {
        "R@1, ITC": 0.66,
        "R@1, re-ranked": 0.83,
        "swaps, ITC": 0.66,
        "swaps, ITM": 0.93,
        "parameters": 1_125_014,
        "seconds": 410,
    },
    "BLIP": {
        "R@1, ITC": 0.68,
        "R@1, re-ranked": 0.86,
        "swaps, ITC": 0.69,
        "swaps, ITM": 0.95,
        "captions exact": 0.71,
        "seconds": None,
    },
}
CHANCE = {"R@1": 1 / 57, "swaps": 0.5}
some = st.dictionaries(
    st.sampled_from(["CLIP", "ALBEF", "BLIP", "BLIP-2"]),
    st.dictionaries(
        st.sampled_from(["R@1, ITC", "R@1, ITM", "swaps, ITC", "exact", "parameters", "seconds", "loss"]),
        st.one_of(st.none(), st.floats(0, 9e6)), min_size=1,
    ), min_size=1,
)  # fmt: skip


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_panels_are_made_of_what_stands_before_the_comma_and_costs_come_last():
    assert panels(ROWS) == {
        "R@1": ["ITC", "re-ranked"], "swaps": ["ITC", "ITM"], "captions exact": [""], "parameters": [""], "seconds": [""],
    }  # fmt: skip


def test_each_number_is_drawn_where_it_is():
    figure = systems(ROWS, CHANCE)
    recall = figure.axes[0]
    points = [
        (line.get_xdata()[0], line.get_marker())
        for line in recall.lines
        if line.get_marker() != "None"
    ]
    assert points == [(0.61, "o"), (0.66, "o"), (0.83, "D"), (0.68, "o"), (0.86, "D")], (
        "told apart by their marks too"
    )
    levels = [
        line.get_xdata()[0]
        for axes in figure.axes[:2]
        for line in axes.lines
        if line.get_linestyle() != "-" and len(line.get_xdata()) == 2
    ]
    assert levels == [1 / 57, 0.5]
    assert [round(bar.get_width()) for bar in figure.axes[3].patches] == [824_000, 1_125_014]
    assert {"- - chance 0.018", "- - chance 0.5"} <= set(texts(figure))


def test_what_a_system_has_not_is_a_dash():
    figure = systems(ROWS, CHANCE)
    assert [sum(text.get_text() == "–" for text in axes.texts) for axes in figure.axes] == [
        1,
        1,
        2,
        1,
        1,
    ]
    assert "has no such number" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert not systems({"CLIP": {"R@1": 0.5}}).legends


def test_words_say_the_best_by_each_way_and_all_numbers():
    alt = systems_alt(ROWS, CHANCE).splitlines()
    assert (
        alt[0]
        == "At best: R@1 ITC 0.68 → re-ranked 0.86 (chance: 0.018); swaps ITC 0.69 → ITM 0.95 (chance: 0.5)."
    )
    assert (
        alt[1]
        == "R@1: CLIP ITC 0.61, re-ranked –; ALBEF ITC 0.66, re-ranked 0.83; BLIP ITC 0.68, re-ranked 0.86 (chance: 0.018)."
    )
    assert alt[3] == "Captions exact: CLIP –; ALBEF –; BLIP 0.71."
    assert alt[5] == "Seconds: CLIP 95 s; ALBEF 410 s; BLIP –."
    assert systems_alt({"CLIP": {"R@1": 0.5}}).splitlines()[0] == "1 system, 1 question."


@pytest.mark.parametrize(
    "panel, value, text",
    [("parameters", 66, "66"), ("parameters", 223_000_000, "223 M"), ("parameters", 1.2e9, "1.2 G"),
     ("seconds", 0.31, "0.31 s"), ("seconds", 95.4, "95.4 s"), ("seconds", 90_000, "25 h"),
     ("R@1", 0, "0.00"), ("perplexity", 41.7, "41.7"), ("parameters", None, "–")],
)  # fmt: skip
def test_numbers_as_they_are_written(panel, value, text):
    assert written(panel, value) == text


@settings(max_examples=10)
@given(some, st.booleans())
def test_any_rows_can_be_drawn_and_nothing_overlaps(rows, long):
    rows = {f"{name} {'of the other laboratory' * long}": row for name, row in rows.items()}
    figure = systems(rows)
    figure.canvas.draw()
    count = len(panels(rows))
    assert len(figure.axes) == count
    spaces = [text.get_window_extent() for axes in figure.axes for text in axes.texts] + [
        text.get_window_extent() for text in figure.texts
    ]
    spaces += [text.get_window_extent() for legend in figure.legends for text in legend.get_texts()]
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


def test_shares_have_one_scale_and_costs_begin_at_zero():
    figure = systems(ROWS, CHANCE)
    limits = [axes.get_xlim() for axes in figure.axes]
    assert (
        limits[0] == limits[1] == limits[2]
        and all(low == 0 for low, _ in limits)
        and set(COSTS) == {"parameters", "seconds"}
    )


def test_errors():
    with pytest.raises(UsageError, match="got 1 systems and no number; pass {'CLIP'"):
        systems({"CLIP": {}})
    with pytest.raises(DataError, match=r"CLIP has {'R@1': nan}; leave out what was not measured"):
        systems({"CLIP": {"R@1": np.nan}})
    with pytest.raises(DataError, match=r"BLIP has {'loss': -1}"):
        systems({"BLIP": {"loss": -1}})
    with pytest.raises(
        UsageError,
        match="R@1, swaps, captions exact, parameters, seconds: got r1; correct the name",
    ):
        systems(ROWS, {"r1": 0.02})
