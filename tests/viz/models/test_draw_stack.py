"""One stack three ways: what is drawn as shared is shared in the model, counts are the model's own, and every box can be read."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch

from tinymm.arrays.errors import UsageError
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.blip import BLIP, BLIPConfig
from tinymm.viz import style
from tinymm.viz.models.blip_stack import FILLS, LEVELS, OWN, USES, counts, stack, stack_alt

MODEL = BLIP(BLIPConfig.tiny(), np.random.default_rng(0))
PICTURES, IDS = (
    np.random.default_rng(1).standard_normal((2, 16, 16, 3)).astype(np.float32),
    np.array([[1, 5, 6, 2], [1, 7, 8, 2]]),
)
PARTS = {
    "embedding": "encoders.text_encoder.embedding.words.weight",
    "self-attention": "encoders.text_encoder.blocks.0.attention.output.weight",
    "cross-attention": "encoders.text_encoder.blocks.0.cross.output.weight",
    "feed-forward": "encoders.text_encoder.blocks.0.mlp.fc2.weight",
    "decoder's self-attention": "decoder.attentions.0.output.weight",
    "projection": "encoders.text_projection.weight",
    "matching head": "itm_head.weight",
    "language head": "decoder.language_head.dense.weight",
}


def outputs(model):
    """Return what comes of the three uses: ITC's unit vectors, ITM's logits, LM's logits."""
    real = np.ones(IDS.shape, bool)
    tokens = model.image_tokens(PICTURES).data
    return [
        model.encode_text(IDS).data,
        model.itm_logits(tokens, IDS, real).data,
        model.lm_logits(tokens, IDS, real).data,
    ]


@pytest.mark.parametrize("part", PARTS)
def test_what_is_drawn_as_shared_moves_the_uses_that_it_is_drawn_in_and_no_other(part):
    """Push one weight of a part: exactly the columns that light it up move."""
    parameters = dict(MODEL.named_parameters())
    name = (
        PARTS[part]
        if PARTS[part] in parameters
        else next(n for n in parameters if n.startswith(PARTS[part].removesuffix("fc2.weight")))
    )
    weight, before = parameters[name], outputs(MODEL)
    held, weight.data = (
        weight.data,
        weight.data + np.random.default_rng(2).standard_normal(weight.shape).astype(np.float32),
    )
    moved = [
        not np.array_equal(one, other) for one, other in zip(before, outputs(MODEL), strict=True)
    ]
    weight.data = held
    column_of = [any(keys[column] == part for _, keys, _ in LEVELS) for column in range(len(USES))]
    assert moved == column_of


def test_every_number_of_the_text_side_is_counted_once():
    text = sum(
        p.size
        for name, p in MODEL.named_parameters()
        if name.startswith(("encoders.text", "decoder", "itm_head"))
    )
    assert sum(counts(MODEL).values()) == text
    assert set(counts(MODEL)) == {key for _, keys, _ in LEVELS for key in keys if key}


def boxes(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch)]


def test_boxes_of_one_color_are_one_part_and_own_ones_have_a_thick_frame():
    figure = stack(MODEL)
    fills = [box.get_facecolor()[:3] for box in boxes(figure)]
    for name, color in FILLS.items():
        users = max(keys.count(name) for _, keys, _ in LEVELS)
        assert fills.count(to_rgb(color)) == users
    own = [box for box in boxes(figure) if box.get_facecolor()[:3] == to_rgb(OWN)]
    assert len(own) == 4 and all(
        box.get_linewidth() > 2 and box.get_edgecolor()[:3] == to_rgb(style.RIGHT) for box in own
    )
    dashed = [box for box in boxes(figure) if box.get_linestyle() not in ("solid", "-")]
    assert len(dashed) == 1, "[CLS] leaves the cross-attention out"


def test_words():
    first, *uses = stack_alt(MODEL).splitlines()
    whole = sum(counts(MODEL).values())
    assert first.startswith(
        f"Three uses of one stack have {whole / 1e3:.3g} k parameters, three stacks would have"
    )
    assert [line.split(" ")[0] for line in uses] == ["[CLS]", "[ENC]", "[DEC]"]
    assert "cross-attention" not in uses[0] and "decoder's self-attention (its own" in uses[2]
    assert "for ITC" in uses[0] and "for ITM" in uses[1] and "for LM" in uses[2]
    assert "parameters" not in stack_alt()


@pytest.mark.parametrize("model", [None, MODEL])
def test_words_stand_in_their_boxes_and_nothing_overlaps(model):
    figure = stack(model)
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
    frames = [box.get_window_extent() for box in boxes(figure)]
    for space in spaces:
        inside = [
            frame
            for frame in frames
            if frame.x0 < space.x1
            and space.x0 < frame.x1
            and frame.y0 < space.y1
            and space.y0 < frame.y1
        ]
        assert all(frame.x0 <= space.x0 and space.x1 <= frame.x1 for frame in inside), (
            "no line is wider than its box"
        )


def test_the_number_of_layers_is_the_models():
    assert "× 2 layers" in [text.get_text() for text in stack(MODEL).axes[0].texts]
    assert "× L layers" in [text.get_text() for text in stack().axes[0].texts]


def test_another_model_is_refused():
    with pytest.raises(UsageError, match="and ALBEF came; pass a BLIP, or none"):
        stack(ALBEF(ALBEFConfig.tiny(), np.random.default_rng(0)))
