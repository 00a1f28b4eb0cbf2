"""Memory and time over the batch size: where a line meets the limit, what is written, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import ShapeError
from tinymm.viz import style
from tinymm.viz.performance.batch_size import crossing, memory_and_time

SIZES = 256 * 2 ** np.arange(8)
MEMORY = {"square": 8.0 * SIZES**2, "straight": 1e5 * SIZES, "small": 1.0 * SIZES}


@given(st.floats(1e3, 1e12), st.floats(0.1, 10), st.sampled_from([1, 2]))
def test_a_power_of_n_meets_the_limit_where_it_is_solved(limit, factor, power):
    found = crossing(SIZES, factor * SIZES.astype(float) ** power, limit)
    right = (limit / factor) ** (1 / power)
    if found is None:
        assert not SIZES[0] <= right <= SIZES[-1] * (1 + 1e-9)
    else:
        assert found <= right * (1 + 1e-6) and found + 1 > right * (1 - 1e-6)


def test_the_title_names_what_is_full_first_and_the_words_name_all():
    figure = memory_and_time(SIZES, MEMORY, {"a step": SIZES / 1e3}, limit=1e9, title="Machines")
    assert (
        figure.alt
        == "Machines. Memory of 1 GB is full at n = 11,180 by square and n = 10,000 by straight. small stays below it at all sizes."
    )
    assert "straight fills the memory first, at n = 10,000" in figure.texts[0].get_text().replace(
        "\n", " "
    )
    left, right = figure.axes
    assert [line.get_label() for line in left.lines[:3]] == [
        "square: full at n = 11,180",
        "straight: full at n = 10,000",
        "small",
    ]
    points = [line for line in left.lines if line.get_marker() == "o"]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in points] == [
        (11180, 1.0),
        (10000, 1.0),
    ]
    np.testing.assert_allclose(left.lines[0].get_ydata(), MEMORY["square"] / 1e9)
    assert left.get_xscale() == left.get_yscale() == right.get_yscale() == "log"


def test_nothing_is_full_where_all_fits(tmp_path):
    figure = memory_and_time(
        SIZES, {"small": 1.0 * SIZES}, {"a step": 1.0 * SIZES}, limit=1e12, title="Machines"
    )
    assert figure.alt == "Machines. Memory of 1000 GB is never full."
    assert style.save(figure, tmp_path / "a.png").stat().st_size > 5000


def test_a_line_of_another_length_is_refused():
    with pytest.raises(
        ShapeError, match="each of the 8 batch sizes, and 'short' has 2; give the rest"
    ):
        memory_and_time(SIZES, MEMORY, {"short": [1.0, 2.0]}, limit=1.0, title="")
