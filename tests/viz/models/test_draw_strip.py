"""The strip from picture to words: what is drawn as frozen is frozen in the model, every number is counted once, and words can be read."""

import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch

from tinymm.arrays.errors import UsageError
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.tasks import losses
from tinymm.viz.models.blip2_strip import counts, strip

MODEL = BLIP2Stage2(BLIP2Stage2Config.tiny(), np.random.default_rng(0))


def test_every_number_is_counted_once_and_the_trained_ones_are_those_that_the_model_trains():
    found = counts(MODEL)
    assert sum(size for size, _ in found.values()) == sum(p.size for p in MODEL.parameters())
    assert sum(size for size, trains in found.values() if trains) == MODEL.count()


def test_gradient_arrives_exactly_where_the_drawing_says():
    losses(MODEL, np.ones((2, 16, 16, 3), np.float32), np.array([[2, 5, 6]] * 2))["lm"].backward()
    parts = MODEL.image_encoder, MODEL.qformer, MODEL.projection, MODEL.language_model
    stored = [any(p.grad is not None for p in part.parameters()) for part in parts]
    assert stored == [trains for _, trains in counts(MODEL).values()]


def test_frozen_boxes_are_hatched_and_all_words_stand_apart():
    figure = strip(MODEL)
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]
    assert [bool(box.get_hatch()) for box in boxes[:4]] == [
        not trains for _, trains in counts(MODEL).values()
    ]
    figure.canvas.draw()
    spaces = [
        text.get_window_extent()
        for text in (*figure.axes[0].texts, *figure.texts)
        if text.get_text()
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
    assert "language model (" in figure.alt and figure.alt.startswith("Of ")


def test_another_model_is_refused():
    with pytest.raises(UsageError, match="and BLIP2Stage1 came; pass 1 BLIP2Stage2"):
        strip(BLIP2Stage1(BLIP2Config.tiny(), np.random.default_rng(0)))
