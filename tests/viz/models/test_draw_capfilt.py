"""CapFilt's flow: counts that add up, mistakes first, precision and recall as they are defined, words on the page."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.viz.models.capfilt import COLORS, VERDICTS, capfilt, capfilt_alt

LONG = "a photograph that somebody put on the web on a rainy day, with $x^2 and many words that say nothing \U0001f680 of it"
judged = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        arrays(float, (n, 2), elements=st.floats(0, 1)),
        arrays(bool, (n, 2)),
        arrays(bool, (n, 2)),
        st.just(n),
    )
)


def texts(n):
    return [f"found {i}" for i in range(n)], [f"written {i}" for i in range(n)]


def said(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@given(judged, st.booleans())
def test_precision_and_recall_are_their_definitions(case, both):
    probabilities, kept, wrong, n = case
    alt = capfilt_alt(*texts(n), probabilities, kept, wrong if both else wrong[:, 0])
    keeps = {i for i in range(n) if kept[i, 0]}
    right = {i for i in range(n) if not wrong[i, 0]}
    hits = len(keeps & right)
    assert f"The filter keeps {hits} of {len(right)} right found texts" in alt
    assert f"recall {hits / len(right):.0%}" in alt if right else "recall – (none)" in alt
    assert f"precision {hits / len(keeps):.0%}" in alt if keeps else "precision – (none)" in alt
    verdicts = [VERDICTS[bool(a), bool(b)] for a, b in kept]
    assert (
        f"Of {n} pairs: " + ", ".join(f"{verdicts.count(v)} {v[2:]}" for v in VERDICTS.values())
        in alt
    )
    assert ("Its surest mistake" in alt) == bool(keeps ^ right)
    assert ("of those that are left" in alt) == both


def test_the_surest_mistake_is_named():
    alt = capfilt_alt(
        ["a", "b", "c"],
        ["x"] * 3,
        [[0.6, 1], [0.99, 1], [0.2, 1]],
        [[1, 1], [1, 1], [0, 1]],
        [True, True, False],
    )
    assert alt.splitlines()[-1] == "Its surest mistake: it keeps “b” (0.99), which is wrong."


def test_noise_before_and_after():
    wrong = np.array([[True, False], [False, True], [False, False], [True, True]])
    kept = np.array([[False, True], [True, False], [True, True], [True, False]])
    alt = capfilt_alt(*texts(4), np.full((4, 2), 0.5), kept, wrong)
    assert "50% of the texts were wrong before, and 20% of those that are left." in alt


@settings(max_examples=15)
@given(judged, st.integers(1, 3))
def test_some_of_each_verdict_with_a_mistake_first(case, rows):
    probabilities, kept, wrong, n = case
    figure = capfilt(np.zeros((n, 4, 4)), *texts(n), probabilities, kept, wrong, rows=rows)
    shown = [
        int(text.split()[1])
        for text in said(figure)
        if text.startswith("found ") and text.split()[1].isdecimal()
    ]
    verdicts = [VERDICTS[bool(a), bool(b)] for a, b in kept]
    for verdict in VERDICTS.values():
        own = [i for i in range(n) if verdicts[i] == verdict]
        drawn = [i for i in shown if verdicts[i] == verdict]
        assert len(drawn) <= min(rows, len(own)) and bool(drawn) == bool(own)
        mistakes = {i for i in own if wrong[i, 0] == kept[i, 0]}
        assert (drawn and drawn[0] in mistakes) if mistakes else not set(drawn) & mistakes
        assert f"{verdict} {verdicts.count(verdict)}" in said(figure)
    assert [verdicts[i] for i in shown] == sorted(
        [verdicts[i] for i in shown], key=list(dict.fromkeys(VERDICTS.values())).index
    )


def test_the_tables_count_every_text_once():
    rng = np.random.default_rng(0)
    kept, wrong = rng.random((2, 40, 2)) < 0.5
    figure = capfilt(np.zeros((40, 4, 4)), *texts(40), rng.random((40, 2)), kept, wrong)
    numbers = [int(text) for text in said(figure) if text.isdecimal()]
    expected = [
        (
            (kept & ~wrong)[:, side].sum(),
            (kept & wrong)[:, side].sum(),
            (~kept & ~wrong)[:, side].sum(),
        )
        for side in (0, 1)
    ]
    assert numbers == [int(n) for side in expected for n in (*side, 40 - sum(side))]
    assert "found texts" in said(figure) and "written texts" in said(figure)
    assert "written texts" not in said(
        capfilt(np.zeros((40, 4, 4)), *texts(40), rng.random((40, 2)), kept, wrong[:, 0])
    )


def test_verdicts_differ_without_their_color():
    assert set(COLORS) == set(VERDICTS.values()) and len({name.split()[0] for name in COLORS}) == 3


@pytest.mark.parametrize("both", [False, True])
def test_nothing_overlaps_and_nothing_leaves_the_page(both):
    rng = np.random.default_rng(0)
    kept, wrong = rng.random((2, 30, 2)) < 0.5
    figure = capfilt(
        rng.random((30, 5, 8, 3)),
        [LONG] * 30,
        ["", LONG] * 15,
        rng.random((30, 2)),
        kept,
        wrong if both else wrong[:, 0],
    )
    figure.canvas.draw()
    spaces = [text.get_window_extent() for text in (*figure.axes[0].texts, *figure.texts)]
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
    with pytest.raises(UsageError, match="got 0; pass some that the filter has judged"):
        capfilt(np.zeros((0, 4, 4)), [], [], np.zeros((0, 2)), np.zeros((0, 2)), [])
    with pytest.raises(
        ShapeError, match=r"got 2, 2, 1, \(2, 2\), \(2, 2\), \(2,\); the found text comes first"
    ):
        capfilt(
            np.zeros((2, 4, 4)),
            ["a", "b"],
            ["c"],
            np.zeros((2, 2)),
            np.zeros((2, 2)),
            [True, False],
        )
    with pytest.raises(ShapeError, match=r"got 1, 1, 1, \(1,\), \(1, 2\), \(1,\)"):
        capfilt(np.zeros((1, 4, 4)), ["a"], ["b"], [0.5], [[True, True]], [True])
    with pytest.raises(DataError, match="got -3 to 2; pass itm_probability, not logits"):
        capfilt(np.zeros((1, 4, 4)), ["a"], ["b"], [[-3, 2]], [[True, True]], [True])
