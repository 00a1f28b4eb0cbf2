"""Curves: no lag in the smoothing, chance lines where they belong, words that state the numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import UsageError
from tinymm.viz.curves import losses, losses_alt, series, smoothed

values = st.lists(st.floats(-100, 100), min_size=1, max_size=30).map(np.array)


@given(values, st.integers(0, 10))
def test_smoothing_is_the_mean_of_the_neighbors(curve, radius):
    result = smoothed(curve, radius)
    for i in range(len(curve)):
        r = min(radius, i)
        np.testing.assert_allclose(result[i], np.mean(curve[i - r : i + r + 1]), atol=1e-9)


@given(st.floats(-10, 10), st.floats(-10, 10), st.integers(2, 30), st.integers(0, 10))
def test_smoothing_does_not_lag(start, slope, n, radius):
    """A straight line stays where it is, but for the last `radius` points; an exponential average would be late everywhere."""
    line = start + slope * np.arange(n)
    whole = max(1, n - radius)
    np.testing.assert_allclose(smoothed(line, radius)[:whole], line[:whole], atol=1e-9)


def test_gaps_are_left_out():
    records = [
        {"step": 1, "loss": 1.0},
        {"step": 2},
        {"step": 3, "loss": None},
        {"step": 4, "loss": float("nan")},
        {"step": 5, "loss": 2},
    ]
    steps, found = series(records, "loss")
    assert steps.tolist() == [1, 5] and found.tolist() == [1, 2]


def run(n=40):
    records = []
    for step in range(1, n + 1):
        record = {
            "step": step,
            "loss": 9 / step,
            "itc": 9 / step,
            "learning_rate": 1e-3,
            "scale": 14.3,
            "gradient_norm": 1.0,
        }
        records.append(
            record | ({"validation_r1": step / n} if step % 10 == 0 else {"validation_r1": None})
        )
    return records


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_line_of_equal_scores_is_drawn_where_it_is():
    figure = losses(run(), chance={"itc": np.log(128), "validation_r1": 1 / 150})
    lines = [line for line in figure.axes[0].lines if list(line.get_ydata()) == [np.log(128)] * 2]
    assert len(lines) == 1
    assert "equal scores: ln N = 4.85\n(says nothing)" in texts(figure)
    assert any(list(line.get_ydata()) == [1 / 150] * 2 for line in figure.axes[1].lines)
    assert "chance: 0.0067" in texts(figure)
    assert "ITC fell from 9.00" in figure.alt and "equal scores give 4.85" in figure.alt
    assert "Validation R@1 ended at 1.000, best 1.000 (chance: 0.00667)." in figure.alt


def test_one_term_is_drawn_once_and_two_twice():
    assert losses_alt(run()).count("fell") == 1
    records = [
        {"step": step, "loss": 3 / step, "itc": 2 / step, "itm": 1 / step} for step in (1, 2)
    ]
    assert losses_alt(records).count("fell") == 3


def test_panels_appear_only_for_what_was_recorded():
    assert len(losses([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]).axes) == 1
    assert len(losses(run()).axes) == 2 + 3


def test_labels_at_the_ends_do_not_overlap():
    names = ("loss", "itc", "itm", "mlm", "lm", "itg")
    records = [
        {"step": step} | {name: 1 + i / 1000 for i, name in enumerate(names)} for step in (1, 2)
    ]
    figure = losses(records, chance={"itc": 1.0, "itm": 0.6365})
    figure.canvas.draw()
    boxes = sorted(
        (text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0
    )
    assert len(boxes) == 8
    assert all(upper.y0 >= lower.y1 - 1 for lower, upper in zip(boxes, boxes[1:], strict=False))
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)
    assert boxes[-1].y1 <= figure.axes[0].get_window_extent().y1 + 1


@pytest.mark.parametrize("last", [1.0, 2.0, 3.0])
def test_words_say_which_way_it_went(last):
    text = losses_alt([{"step": 1, "loss": 2.0}, {"step": 2, "loss": last}])
    assert {
        1.0: "fell from 2.00 to 1.00 in 2 steps",
        2.0: "stayed at 2.00",
        3.0: "rose from 2.00 to 3.00",
    }[last] in text


def test_no_loss_is_refused():
    with pytest.raises(UsageError, match="got 1 records without; train first"):
        losses([{"step": 1, "learning_rate": 0.1}])
    with pytest.raises(UsageError, match="got 0 records"):
        losses([])


def three(itm):
    return [{"step": step, "itc": 5 / step, "itm": itm, "itg": 4 / step} for step in (1, 2, 3)]


LINES = {"itc": np.log(64), "itm": 0.6365, "itg": np.log(60)}


def test_each_loss_has_its_own_line_and_its_own_words():
    """Equal scores are ln N for pairs and ln V for words; a matching head that guesses has the entropy of the share of right pairs."""
    figure = losses(three(0.3), chance=LINES)
    flat = {
        float(line.get_ydata()[0])
        for line in figure.axes[0].lines
        if len(line.get_xdata()) == 2 and line.get_linestyle() != "-"
    }
    assert flat == {float(value) for value in LINES.values()}
    said = "\n".join(texts(figure))
    assert all(
        words in said
        for words in ("ln N = 4.16", "guessing by the prior: 0.64", "equal words: ln V = 4.09")
    )
    assert (
        "the share of right pairs alone gives 0.64" in figure.alt
        and "equal chances for all words give 4.09" in figure.alt
    )


@pytest.mark.parametrize(
    "itm, title",
    [
        (0.3, "Below knowing nothing: ITC (1.67 < 4.16), ITM (0.30 < 0.64), ITG (1.33 < 4.09)"),
        (
            0.7,
            "Below knowing nothing: ITC (1.67 < 4.16), ITG (1.33 < 4.09); not below: ITM (0.70 ≥ 0.64)",
        ),
    ],
)
def test_the_title_says_which_losses_beat_knowing_nothing(itm, title):
    assert " ".join(losses(three(itm), chance=LINES).texts[0].get_text().split()) == title


def test_none_below_is_said():
    figure = losses([{"step": 1, "itc": 5.0, "itm": 0.7}], chance=LINES)
    assert (
        figure.texts[0].get_text().startswith("Not below knowing nothing: ITC (5.00 ≥ 4.16), ITM")
    )
