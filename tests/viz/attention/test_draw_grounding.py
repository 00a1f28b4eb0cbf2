"""Word → region: the heat is attention times its true gradient, the controls are controls, and the drawing shows them where they are."""

from dataclasses import replace

import numpy as np
import pytest

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.autodiff import no_grad
from tinymm.layers import record_attention
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.bert import BertConfig
from tinymm.models.blip import BLIP, BLIPConfig
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.viz.attention.grounding import (
    ATTENTION,
    GRADIENT,
    MOST,
    SHUFFLED,
    ground,
    shuffled,
    word_regions,
    word_regions_alt,
)

rng = np.random.default_rng(0)
PICTURE, IDS = rng.standard_normal((16, 16, 3)), np.array([1, 5, 6, 2])
LONG = ["[CLS]", *(f"extraordinary{i}" for i in range(MOST)), "[SEP]"]


def model_of(kind):
    """Return a model in float64 whose weights are far from where initialization puts them; ALBEF's text has 2 layers alone and 3 with the picture."""
    draws = np.random.default_rng(1)
    if kind == "albef":
        config = ALBEFConfig.tiny(
            text=BertConfig.tiny(layers=5, encoder_width=24, fusion_layer=2, token_types=2)
        )
        model = ALBEF(config, draws)
    else:
        model = BLIP(
            replace(BLIPConfig.tiny(), text=BertConfig.tiny(layers=3, encoder_width=24)), draws
        )
    model = model.astype("float64")
    for parameter in model.encoders.parameters():
        parameter.data = parameter.data + 0.2 * draws.standard_normal(parameter.shape)
    return model


MODELS = {kind: model_of(kind) for kind in ("albef", "blip")}


@pytest.mark.parametrize("kind, layers, middle", [("albef", range(2, 5), 3), ("blip", range(3), 1)])
def test_the_layer_is_the_one_that_is_asked_for_and_the_middle_by_default(kind, layers, middle):
    """Attention alone is what is recorded of that layer's look at the picture, its class token left out."""
    model = MODELS[kind]
    with no_grad(), record_attention() as maps:
        tokens = model.image_tokens(PICTURE[None])
        del maps[:]
        model.itm_logits(tokens, IDS[None], np.ones((1, 4), bool))
    looks = [
        m for m in maps if m.shape[-1] == 5
    ]  # the picture has 2 · 2 patches and a class token, the text 4 tokens
    for layer, look in zip(layers, looks, strict=True):
        found = ground(model, PICTURE, IDS, layer=layer, rng=np.random.default_rng(0))
        np.testing.assert_allclose(found.heats[ATTENTION], look[0].mean(axis=0)[:, 1:], rtol=1e-12)
    assert ground(model, PICTURE, IDS, rng=np.random.default_rng(0)).layer == middle
    assert ground(model, PICTURE, IDS, rng=np.random.default_rng(0)).probability == pytest.approx(
        model.itm_probability(PICTURE[None], IDS[None])[0]
    )


def test_the_papers_layer_is_the_default():
    """The released ALBEF takes layer 8 of 12 (counted from 0), the third of those that look."""
    text = ALBEFConfig.paper().text
    assert (text.fusion_layer + text.layers - 1) // 2 == 8


@pytest.mark.parametrize("kind", MODELS)
def test_the_heat_is_attention_times_its_positive_gradient(kind):
    """The gradient of the logit, by finite differences on the weights of the chosen layer, one head, word and patch at a time."""
    from tinymm.autodiff import ops

    model, layer = MODELS[kind], {"albef": 3, "blip": 1}[kind]
    config = model.config.text
    call = (
        layer + (layer - config.fusion_layer) + 1
    )  # one attention a layer below, two from there on
    definition = ops.attention_definition
    with no_grad():
        tokens = model.image_tokens(PICTURE[None]).data

    def logit(push):
        calls = iter(range(99))

        def pushing(q, k, v, may_attend=None):
            mixed, weights = definition(q, k, v, may_attend)
            return (mixed + push @ v if next(calls) == call else mixed), weights

        with pytest.MonkeyPatch.context() as patch, no_grad(), record_attention() as maps:
            patch.setattr(ops, "attention_definition", pushing)
            return model.itm_logits(tokens, IDS[None], np.ones((1, 4), bool)).data[0, 1], maps[call]

    weights = logit(np.zeros((1, config.heads, 4, 5)))[1]
    slope = np.zeros_like(weights)
    for place in np.ndindex(weights.shape):
        push = np.zeros_like(weights)
        push[place] = 1e-5
        slope[place] = (logit(push)[0] - logit(-push)[0]) / 2e-5
    expected = (weights * np.maximum(slope, 0))[0].mean(axis=0)[:, 1:]
    assert expected.any()
    found = ground(model, PICTURE, IDS, layer=layer, rng=np.random.default_rng(0))
    np.testing.assert_allclose(found.heats[GRADIENT], expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("kind", MODELS)
def test_in_the_last_layer_only_the_first_token_speaks_to_the_head(kind):
    model = MODELS[kind]
    heat = ground(
        model, PICTURE, IDS, layer=model.config.text.layers - 1, rng=np.random.default_rng(0)
    ).heats[GRADIENT]
    assert heat[0].any() and not heat[1:].any()


@pytest.mark.parametrize("kind", MODELS)
def test_nothing_of_the_model_is_changed(kind):
    model = MODELS[kind]
    before = model.state_dict()
    ground(model, PICTURE, IDS, rng=np.random.default_rng(0))
    assert (
        all(parameter.grad is None for parameter in model.parameters())
        and model.momentum_encoder is not None
        and model.queue is not None
    )
    after = model.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_shuffled_weights_are_the_same_numbers_in_other_places():
    model = MODELS["albef"]
    other = shuffled(model, np.random.default_rng(3))
    for name, parameter in other.named_parameters():
        own = dict(model.named_parameters())[name].data
        np.testing.assert_array_equal(np.sort(own, axis=None), np.sort(parameter.data, axis=None))
    assert not np.array_equal(
        other.encoders.text_encoder.embedding.words.weight.data,
        model.encoders.text_encoder.embedding.words.weight.data,
    )
    one, same, third = (
        ground(model, PICTURE, IDS, rng=np.random.default_rng(seed)).heats for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one[SHUFFLED], same[SHUFFLED])
    assert not np.array_equal(one[SHUFFLED], third[SHUFFLED]) and np.array_equal(
        one[GRADIENT], third[GRADIENT]
    )


# ---------------------------------------------------------------------- the drawing
def heats(T, P, count=3):
    return dict(
        zip(
            (GRADIENT, ATTENTION, SHUFFLED),
            np.random.default_rng(T).random((count, T, P)),
            strict=False,
        )
    )


@pytest.mark.parametrize("patch", range(6))
def test_the_heat_lies_on_the_right_patch(patch):
    figure = word_regions(
        np.zeros((8, 9, 1)), ["[CLS]", "cat"], {GRADIENT: np.eye(6)[[0, patch]]}, (2, 3)
    )
    shown = figure.axes[1].images[0].get_array()
    orange = np.argwhere(shown[..., 0] - shown[..., 2] > 0.1).mean(axis=0) / [8, 9]
    np.testing.assert_array_equal((orange * [2, 3]).astype(int), divmod(patch, 3))
    word = ("top", "bottom")[patch // 3], ("left", "middle", "right")[patch % 3]
    assert f"“cat” is hottest at the {' '.join(word)} (100%)." in figure.alt


def test_a_row_for_each_heat_and_a_panel_for_each_word_but_those_in_brackets():
    figure = word_regions(np.zeros((4, 4)), ["[CLS]", "a", "cat", "[SEP]"], heats(4, 4), (2, 2))
    assert len(figure.axes) == 3 * (1 + 2)
    names = [axes.texts[0].get_text() for axes in figure.axes]
    assert names == ["picture", "a", "cat"] * 3
    written = [text.get_text() for text in figure.texts]
    assert all(
        any(line.startswith(name) for line in written) for name in (GRADIENT, ATTENTION, SHUFFLED)
    )


def test_words_that_share_everything_or_nothing():
    assert word_regions_alt(["a", "b"], {"heat": np.ones((2, 4))}, (2, 2)).startswith(
        "Two words share 100% by heat"
    )
    assert word_regions_alt(["a", "b"], {"heat": np.eye(4)[:2]}, (2, 2)).startswith(
        "Two words share 0% by heat"
    )
    assert word_regions_alt(["a"], {"heat": np.eye(4)[:1]}, (2, 2)).startswith(
        "The word's hottest patch holds 100% of heat."
    )
    assert "“a” has no heat." in word_regions_alt(["a", "b"], {"heat": np.zeros((2, 4))}, (2, 2))


def test_with_the_truth_the_title_counts_what_lies_on_it():
    truth = np.zeros((3, 4), bool)
    truth[1, 0] = truth[2, 2:] = True
    heat = np.array([[1, 1, 1, 1], [3, 1, 0, 0], [0, 0, 2, 2]])
    figure = word_regions(
        np.zeros((4, 4)),
        ["of", "cat", "dog"],
        {"heat": heat, "raw": np.ones((3, 4))},
        (2, 2),
        truth=truth,
    )
    assert (
        figure.alt.splitlines()[0]
        == "On what the words name lies 88% of heat and 38% of raw (evenly spread: 38%)."
    )
    assert (
        "“cat” is hottest at the top left (75%), 75% where it belongs." in figure.alt
        and "“of” is hottest at the top left (25%)." in figure.alt
    )
    frames = [len(axes.lines) for axes in figure.axes]
    assert frames == [0, 0, 4, 6] * 2, (
        "a frame of 1 patch has 4 sides, of two beside each other 6, and a word that names nothing none"
    )
    assert word_regions_alt(
        ["a", "b"], {"heat": np.eye(4)[:2]}, (2, 2), truth=np.zeros((2, 4), bool)
    ).startswith("Two words share")


@pytest.mark.parametrize(
    "count, framed, shape",
    [(1, True, (8, 8)), (5, False, (6, 14)), (8, True, (14, 6)), (MOST, True, (8, 8))],
)
def test_nothing_overlaps_and_nothing_leaves_the_page(count, framed, shape):
    words = LONG[: count + 1]
    truth = np.arange(len(words))[:, None] % 3 == np.arange(49) % 3 if framed else None
    figure = word_regions(np.zeros(shape), words, heats(len(words), 49, 2), (7, 7), truth=truth)
    figure.canvas.draw()
    spaces = [text.get_window_extent() for axes in figure.axes for text in axes.texts] + [
        axes.get_window_extent() for axes in figure.axes
    ]
    spaces += [text.get_window_extent() for text in figure.texts]
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
    clip = CLIP(CLIPConfig.tiny("vit", "transformer"), np.random.default_rng(0))
    with pytest.raises(UsageError, match="and CLIP came; pass ALBEF or BLIP"):
        ground(clip, PICTURE, IDS, rng=rng)
    with pytest.raises(
        UsageError, match="layers 2 to 4 look at the picture, and layer 1 came; choose one of these"
    ):
        ground(MODELS["albef"], PICTURE, IDS, layer=1, rng=rng)
    with pytest.raises(
        ShapeError, match=r"got \(1, 16, 16, 3\) and \(4,\); pass images\[0\], ids\[0\]"
    ):
        ground(MODELS["albef"], PICTURE[None], IDS, rng=rng)
    with pytest.raises(
        ShapeError, match=r"got heat \(2, 5\) for 2 words and 2 · 2; name every token"
    ):
        word_regions(np.zeros((4, 4)), ["a", "b"], {"heat": np.ones((2, 5))}, (2, 2))
    with pytest.raises(ShapeError, match="got no heat at all"):
        word_regions(np.zeros((4, 4)), ["a", "b"], {}, (2, 2))
    with pytest.raises(DataError, match="the least is -1; pass what `ground` gives"):
        word_regions(np.zeros((4, 4)), ["a"], {"heat": -np.ones((1, 4))}, (2, 2))
    with pytest.raises(DataError, match="the least is nan"):
        word_regions(np.zeros((4, 4)), ["a"], {"heat": np.full((1, 4), np.nan)}, (2, 2))
    with pytest.raises(UsageError, match="1 to 12 words, tokens in brackets left out: got 13"):
        word_regions(np.zeros((4, 4)), ["a"] * 13, {"heat": np.ones((13, 4))}, (2, 2))
