"""The filmstrip's margins are what Figure 3's loss reads, its marks lie on them, and nothing leaves the sheet."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.losses import l2_normalize
from tinymm.tasks.clip import figure_3
from tinymm.viz.retrieval.filmstrip import filmstrip, probabilities

PIXELS = np.arange(4 * 2 * 2).reshape(4, 2, 2, 1) / 16
WORDS = ["one", "two", "three", "four"]


@given(st.integers(0, 9), st.sampled_from([0.0, 1.0, 14.3, 100.0]))
def test_loss_of_figure_3_is_the_mean_of_minus_ln_of_the_margins(seed, scale):
    I, T = np.random.default_rng(seed).normal(size=(2, 4, 6))
    of_pictures, of_captions = probabilities(l2_normalize(I) @ l2_normalize(T).T, scale)
    with np.errstate(divide="ignore"):
        t = np.log(scale)
    loss, _ = figure_3(lambda x: x, lambda x: x, I, T, np.eye(6), np.eye(6), t)
    assert np.isclose(
        -np.log(np.concatenate([of_pictures, of_captions])).mean(), loss.item(), rtol=1e-9
    )


def test_a_pictures_margin_stands_below_it_and_a_captions_beside_it():
    """Picture 0 meets no caption but its own less well than caption 1: its column loses, and so does caption 1's row."""
    cosines = np.eye(4)
    cosines[0, 1] = 2.0
    drawn = filmstrip(
        {5: (cosines, 10.0)}, PIXELS, WORDS, {"loss": ([0, 5], [3.0, 2.0])}, title="One is lost"
    )
    np.testing.assert_array_equal(drawn.axes[0].images[0].get_array(), cosines.T)
    margins = {text.get_position(): text.get_text() for text in drawn.axes[0].texts}
    assert [margins[i, 4.25] for i in range(4)] == [".00", "1", "1", "1"]
    assert [margins[4.25, i] for i in range(4)] == ["1", ".00", "1", "1"]
    assert "3 of 4 captions find their picture" in drawn.alt


def test_frames_share_one_scale_and_curves_have_the_line_of_equal_scores():
    frames = {0: (np.zeros((4, 4)), 14.0), 9: (2 * np.eye(4) - 1, 14.0)}
    drawn = filmstrip(
        frames,
        PIXELS,
        WORDS,
        {"right": ([0, 9], [1.4, 0.1]), "shuffled": ([0, 9], [1.4, 1.4])},
        title="It fills",
    )
    assert [axes.images[0].get_clim() for axes in drawn.axes[:2]] == [(-1, 1), (-1, 1)]
    lines = drawn.axes[-1].get_lines()
    assert np.allclose(lines[0].get_ydata(), np.log(4))
    assert np.allclose(lines[2].get_xydata(), [[0, np.log(4)], [9, np.log1p(3 * np.exp(-28))]])
    assert drawn.alt == "It fills. Step 0: loss 1.386, 0 of 4 captions find their picture. " + (
        "Step 9: loss 2.1e-12, 4 of 4 captions find their picture. Dashed: ln 4 = 1.386."
    )
    assert drawn.table.splitlines()[2].split()[3:] == ["4", "1", "-1"]


def test_nothing_is_drawn_outside_the_figure():
    frames = {step: (np.eye(4), 1.0) for step in range(6)}
    words = ["latin small letter a with ring below and more", "b", "c", "d"]
    drawn = filmstrip(
        frames,
        PIXELS,
        words,
        {"pairs shuffled anew": ([0, 9], [1.4, 0.1])},
        title="A title of about this length fits",
    )
    drawn.canvas.draw()
    for axes in drawn.axes:
        for text in axes.texts:
            box = text.get_window_extent()
            assert (
                drawn.bbox.x0 <= box.x0
                and box.x1 <= drawn.bbox.x1
                and drawn.bbox.y0 <= box.y0
                and box.y1 <= drawn.bbox.y1
            )


def test_errors_say_the_numbers_and_the_way_out():
    curve = {"loss": ([0], [1.0])}
    with pytest.raises(ShapeError, match=r"\(4, 3\) at step 7, 4 pictures, 4 captions.*same order"):
        filmstrip({7: (np.zeros((4, 3)), 1.0)}, PIXELS, WORDS, curve, title="x")
    with pytest.raises(
        UsageError, match="1 to 6 frames of 1 to 10 pairs, and 7 of 4 came; leave some out"
    ):
        filmstrip({step: (np.eye(4), 1.0) for step in range(7)}, PIXELS, WORDS, curve, title="x")
    with pytest.raises(DataError, match="2 of step 3 are not; look at the model's weights first"):
        filmstrip(
            {3: (np.where(np.eye(4) * np.arange(4) == 3, np.nan, 0), np.inf)},
            PIXELS,
            WORDS,
            curve,
            title="x",
        )
