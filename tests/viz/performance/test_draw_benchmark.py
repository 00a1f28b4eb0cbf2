"""The benchmark's picture: every number that was measured on both sides is in it and in its words."""

import numpy as np
import pytest

from tinymm.arrays.errors import DataError
from tinymm.viz.performance.benchmark import benchmark, benchmark_alt

NUMBERS = {
    "W1 tinymm step": 9.0,
    "W1 torch step": 10.0,
    "W1 step ratio torch": 0.9,
    "W1 peak ratio torch": 1.25,
    "W1 step ratio jax": 0.5,
}
NUMBERS |= {
    f"batch {n} {side} step": n * slow
    for n in (8, 16)
    for side, slow in (("tinymm", 2.0), ("torch", 3.0))
}
NUMBERS |= {f"batch {n} step ratio torch": 2 / 3 for n in (8, 16)}


def test_ratios_are_written_and_stand_on_their_side_of_the_line():
    figure = benchmark(NUMBERS, workers=2)
    axes = figure.axes[0]
    words = [text.get_text() for text in axes.texts]
    assert ["W1 training step", "0.90", "W1 peak memory", "1.25"] == [
        word for word in words if word != "as PyTorch"
    ]
    dots = {
        round(float(line.get_xdata()[0]), 2): line.get_color()
        for line in axes.lines
        if line.get_marker() not in ("None", None, "")
    }
    assert (
        set(dots) == {0.9, 1.25} and len(set(dots.values())) == 2
    )  # ahead and behind differ, in color and in shape


def test_growths_are_lines_over_the_size():
    axes = benchmark(NUMBERS).axes[1]
    assert [line.get_label() for line in axes.lines] == ["tinymm", "PyTorch"]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[8, 16], [16, 32]])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8", "16"]


def test_the_words_have_all_numbers():
    assert benchmark_alt(NUMBERS, workers=2).splitlines() == [
        "tinymm needs 0.90 to 1.25 of what PyTorch needs, 2 cores: W1 training step 0.90, W1 peak memory 1.25.",
        "Step against pairs a batch, W1, 2 cores: tinymm 8: 16 ms, 16: 32 ms; PyTorch 8: 24 ms, 16: 48 ms.",
    ]


def test_another_side_is_another_picture():
    assert benchmark(NUMBERS, against="jax").alt.startswith(
        "tinymm needs 0.50 of what JAX needs, 1 core: W1 training step 0.50."
    )


def test_nothing_to_compare_is_said():
    with pytest.raises(
        DataError,
        match="needs numbers of two sides, and none of 1 is a ratio to torch; run bench --against",
    ):
        benchmark({"tape tinymm us per op": 2.5})
