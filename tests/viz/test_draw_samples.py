"""A few pictures of a data set with their captions: all are drawn, in their places, and what cannot be drawn is refused."""

import numpy as np
import pytest

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.viz import style
from tinymm.viz.samples import samples

RED, GREEN = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])


def test_each_picture_is_drawn_in_its_row_with_its_caption(tmp_path):
    rows = {
        "one": (np.broadcast_to(RED, (2, 4, 4, 3)), ["a", "b $x$"]),
        "two": (np.broadcast_to(GREEN, (3, 8, 8, 3)), ["c", "d", "\u0378"]),
    }
    figure = samples(rows, "what is there")
    assert figure.alt == "Pictures with captions, in 2 rows. one: a; b $x$. two: c; d; \u0378."
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [word in texts for word in ("one", "two", "a", "b $x$", "□")] == [True] * 5
    from PIL import Image

    pixels = np.asarray(Image.open(style.save(figure, tmp_path / "s.png")).convert("RGB")).astype(
        int
    )
    places = [
        np.argwhere((pixels == (255 * color).astype(int)).all(axis=-1)) for color in (RED, GREEN)
    ]
    assert places[0][:, 0].max() < places[1][:, 0].min()  # the first row above the second
    side = 0.82 * style.DOTS_PER_INCH
    for some, count in zip(places, (2, 3), strict=True):
        assert abs(len(some) / (count * side**2) - 1) < 0.08


def test_rows_without_a_caption_each_are_refused():
    with pytest.raises(DataError, match="none came; give"):
        samples({})
    with pytest.raises(ShapeError, match="'one' has 2 with 1; give one each"):
        samples({"one": (np.zeros((2, 4, 4)), ["a"])})
    with pytest.raises(ShapeError, match="'one' has 0 with 0"):
        samples({"one": (np.zeros((0, 4, 4)), [])})
