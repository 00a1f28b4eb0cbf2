"""The queue as a ring: arcs are the queue's own ages, the arrow is its pointer, targets add up, and words say the numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import Wedge

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.losses import l2_normalize
from tinymm.models.momentum import FeatureQueue
from tinymm.viz import style
from tinymm.viz.models.queue_ring import arcs, ring, ring_alt, steps_ago

DRIFT = {
    0.0: (np.arange(4), np.array([1.0, 0.6, 0.4, 0.3])),
    0.995: (np.arange(6), np.linspace(1, 0.95, 6)),
}
queues = st.tuples(
    st.integers(1, 4), st.integers(1, 6), st.integers(0, 15)
)  # rows a step, steps that fit, steps made


def filled(batch, fits, pushes):
    queue = FeatureQueue(batch * fits, 4, np.random.default_rng(0))
    for _ in range(pushes):
        rows = l2_normalize(np.random.default_rng(1).standard_normal((batch, 4)))
        queue.push(rows, rows)
    return queue


def targets(batch, K, alphas=(0, 0.4, 1)):
    """ALBEF's: a share of one-hot, a share of a softmax over the batch and the queue."""
    soft = np.exp(np.random.default_rng(2).standard_normal(batch + K))
    return np.stack([(1 - a) * (np.arange(batch + K) == 0) + a * soft / soft.sum() for a in alphas])


@given(queues)
def test_ages_in_steps_are_those_of_a_deque(case):
    batch, fits, pushes = case
    queue, kept = filled(*case), [-1] * fits
    for step in range(pushes):
        kept[step % fits] = step
    expected = np.repeat([pushes - 1 - step if step >= 0 else -1 for step in kept], batch)
    np.testing.assert_array_equal(steps_ago(queue.ages(), batch), expected)


@given(st.lists(st.integers(-1, 2), min_size=1, max_size=12).map(np.array))
def test_arcs_tile_the_ring(steps):
    found = arcs(steps)
    assert np.array_equal(
        np.concatenate([np.full(behind - first, age) for first, behind, age in found]), steps
    )
    assert [first for first, _, _ in found[1:]] == [behind for _, behind, _ in found[:-1]]
    assert all(one[2] != other[2] for one, other in zip(found, found[1:], strict=False))


@settings(max_examples=10)
@given(queues)
def test_each_arc_stands_where_its_slots_are_and_the_arrow_at_the_pointer(case):
    batch, fits, _ = case
    queue = filled(*case)
    K = queue.size
    figure = ring(queue.ages(), queue.pointer, batch, targets(batch, K))
    axes = figure.axes[0]
    wedges = [patch for patch in axes.patches if isinstance(patch, Wedge)]
    drawn, (mark,) = [w for w in wedges if w.r == 1], [w for w in wedges if w.r > 1]
    for wedge, (first, behind, age) in zip(
        drawn, arcs(steps_ago(queue.ages(), batch)), strict=True
    ):
        assert (90 - wedge.theta2) * K / 360 == pytest.approx(first) and (
            90 - wedge.theta1
        ) * K / 360 == pytest.approx(behind)
        assert (wedge.get_hatch() is not None) == (age < 0)
    assert (90 - mark.theta2) * K / 360 == pytest.approx(
        queue.pointer
    ) and mark.theta2 - mark.theta1 == pytest.approx(360 / fits)
    arrow = next(text for text in axes.texts if getattr(text, "arrow_patch", None))
    turn = np.arctan2(*arrow.xy) / (2 * np.pi) % 1
    assert min(abs(turn - queue.pointer / K), 1 - abs(turn - queue.pointer / K)) < 1e-9


def test_words_of_a_full_an_unfilled_and_an_empty_queue():
    said = {
        pushes: ring_alt(
            filled(2, 4, pushes).ages(), filled(2, 4, pushes).pointer, 2, targets(2, 8)
        ).splitlines()
        for pushes in (0, 3, 9)
    }
    assert said[9][0].startswith(
        "The next batch overwrites slots 2 to 3, whose features are 3 steps old; at α = 0.4 the right pair keeps"
    )
    assert said[3][0].startswith("The next batch overwrites slots 6 to 7, which hold nothing yet")
    assert said[0][0].startswith("The next batch overwrites slots 0 to 1, which hold nothing yet")
    assert (
        said[9][1]
        == "α = 0: the right pair has 1.00 of the target, the rest of its batch 0.00, the queue 0.00."
    )


@given(st.integers(1, 5), st.integers(0, 9), st.floats(0, 1))
def test_shares_of_the_target_add_up(batch, queued, alpha):
    rows = targets(batch, queued, (alpha,))
    line = ring_alt(np.zeros(batch, int), 0, batch, rows, alphas=(alpha,)).splitlines()[1]
    numbers = [float(word.strip(",.")) for word in line.split(": ")[1].split() if word[0].isdigit()]
    assert sum(numbers) == pytest.approx(1, abs=0.016)
    assert numbers[0] == pytest.approx(rows[0, 0], abs=0.006) and numbers[2] == pytest.approx(
        rows[0, batch:].sum(), abs=0.006
    )


def test_drift_is_drawn_named_at_its_end_and_compared_at_an_age_that_all_have():
    queue = filled(2, 4, 9)
    figure = ring(queue.ages(), queue.pointer, 2, targets(2, 8), drift=DRIFT)
    said = "After 3 steps a stored feature has cosine 0.30 at momentum 0 and 0.97 at momentum 0.995 with what it would be now."
    assert figure.alt.splitlines()[-1] == said
    assert " ".join(figure.texts[-1].get_text().split()) == said.rstrip(".")
    axes = next(axes for axes in figure.axes if axes.get_title(loc="left").startswith("cosine"))
    for line, (x, y) in zip(axes.lines, DRIFT.values(), strict=True):
        assert np.array_equal(line.get_xdata(), x) and np.array_equal(line.get_ydata(), y)
    assert [text.get_text() for text in axes.texts] == ["m = 0", "m = 0.995"]
    assert len({(line.get_marker(), line.get_linestyle()) for line in axes.lines}) == 2, (
        "told apart without color"
    )


def test_targets_are_drawn_to_one_scale_with_the_right_pair_in_its_color():
    figure = ring(filled(2, 4, 9).ages(), 2, 2, targets(2, 8), right=1)
    rows = [
        axes
        for axes in figure.axes
        if axes.collections and len(axes.collections[0].get_segments()) == 10
    ]
    assert len(rows) == 3 and {axes.get_ylim() for axes in rows} == {(0, 1.02)}
    for axes, expected in zip(rows, targets(2, 8), strict=True):
        heights = [segment[1, 1] for segment in axes.collections[0].get_segments()]
        np.testing.assert_allclose(np.square(heights), expected, atol=1e-12)
        assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "0.1", "0.5", "1"]
        colors = axes.collections[0].get_colors()
        assert colors[1].tolist() != colors[0].tolist() and np.allclose(
            colors[1][:3], [int(style.RIGHT[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        )


@settings(max_examples=8)
@given(queues, st.sampled_from([None, DRIFT]))
def test_no_words_overlap_or_leave_the_page(case, drift):
    queue = filled(*case)
    figure = ring(queue.ages(), queue.pointer, case[0], targets(case[0], queue.size), drift=drift)
    figure.canvas.draw()
    spaces = [text.get_window_extent() for text in figure.texts]
    spaces += [
        text.get_window_extent() for axes in figure.axes for text in axes.texts if text.get_text()
    ]
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


def test_thousands_of_slots_are_drawn_in_a_moment():
    queue = filled(64, 128, 130)
    figure = ring(queue.ages(), queue.pointer, 64, targets(64, queue.size))
    assert "whose features are 127 steps old" in figure.alt
    assert not [text for text in figure.axes[0].texts if text.get_text().isdecimal()], (
        "no number that could not be read"
    )


def test_errors():
    ages, rows = np.zeros(4, int), targets(2, 4)
    for pointer, batch in ((4, 2), (-1, 2), (0, 0), (0, 5)):
        with pytest.raises(
            UsageError, match=rf"got \(4,\), {pointer}, {batch}; pass one queue's own"
        ):
            ring(ages, pointer, batch, rows)
    with pytest.raises(
        ShapeError, match=r"got \(2, 6\) with the right one at 0; put the queue's columns behind"
    ):
        ring(ages, 0, 2, rows[:2])
    with pytest.raises(ShapeError, match=r"got \(3, 6\) with the right one at 2"):
        ring(ages, 0, 2, rows, right=2)
    with pytest.raises(DataError, match="the rows sum to 2, 2 and 2; pass what softmax gives"):
        ring(ages, 0, 2, 2 * rows)
    with pytest.raises(ShapeError, match=r"got \(3,\) and \(2,\) for momentum 0.9; align them"):
        ring(ages, 0, 2, rows, drift={0.9: (np.arange(3), np.ones(2))})
    with pytest.raises(DataError, match="momentum 0.9 has 1 to 3; normalize both"):
        ring(ages, 0, 2, rows, drift={0.9: (np.arange(3), np.arange(1, 4))})
