"""The objectives for a sentence: each model's own masks, the right tokens, and sentences that are true of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm.arrays.errors import UsageError
from tinymm.autodiff import no_grad
from tinymm.layers import (
    bidirectional_mask,
    causal_mask,
    multimodal_causal_mask,
    reachability,
    record_attention,
    unimodal_mask,
)
from tinymm.models import albef, blip
from tinymm.viz.masks.objectives import (
    ALBEF,
    BLIP,
    OBJECTIVES,
    QFORMER,
    Scene,
    draw_difference,
    draw_objectives,
    finding,
)

BUILD = {"itc": unimodal_mask, "itg": multimodal_causal_mask, "itm": bidirectional_mask}
scenes = st.builds(
    Scene,
    st.integers(0, 4),
    st.lists(st.sampled_from(["a", "red", "ball"]), min_size=1, max_size=4),
    st.integers(0, 3),
)


@given(scenes, st.sampled_from(QFORMER))
def test_the_masks_are_those_of_the_model(scene, objective):
    panel = scene.panel(objective)
    assert np.array_equal(panel.mask, BUILD[objective](scene.queries, scene.is_real[None])[0, 0])
    assert len(panel.names) == len(panel.mask) == sum(panel.groups.values()) == len(panel.is_real)
    text = panel.names[scene.queries :]
    assert text[0] == ("[DEC]" if objective == "itg" else "[CLS]")
    assert text[1 : 2 + len(scene.words)] == [*scene.words, "[SEP]"]
    assert text[2 + len(scene.words) :] == ["[PAD]"] * scene.padding


@given(scenes)
def test_causal_is_the_plain_one_without_padding(scene):
    panel = scene.panel("causal")
    assert np.array_equal(panel.mask, causal_mask(len(panel.mask)) & panel.is_real)


@given(scenes.filter(lambda scene: scene.queries), st.sampled_from(QFORMER), st.integers(2, 4))
def test_the_picture_comes_in_through_the_queries(scene, objective, layers):
    """A text token may know the picture after two layers, if it sees queries, and never sees it directly."""
    panel = scene.panel(objective, layers=layers)
    text = slice(1 + scene.queries, None)
    assert (
        panel.names[0] == "picture"
        and not panel.mask[text, 0].any()
        and panel.mask[1 : 1 + scene.queries, 0].all()
    )
    assert not panel.mask[0, 1:].any()
    known = reachability([panel.mask] * layers)[text, 0]
    assert known.all() if objective != "itc" else not known.any()
    assert np.array_equal(panel.mask[1:, 1:], scene.panel(objective).mask)


def test_who_sees_whom_in_one_sentence():
    scene = Scene(2, ["a", "cat"], 1)
    assert finding(scene) == "Queries see text under ITM; text sees queries under ITG and ITM."
    assert (
        finding(scene, layers=2)
        == "After 2 layers queries know text under ITM; text knows the picture under ITG and ITM."
    )
    assert (
        finding(scene, ["itc", "causal"])
        == "Queries see text under none of them; text sees queries under Causal."
    )
    assert (
        finding(Scene(0, ["a"]))
        == "Queries see text under none of them; text sees queries under none of them."
    )


def test_all_three_stand_in_one_figure():
    figure = draw_objectives(Scene(4, ["a", "red", "ball"], 2))
    assert (
        len(figure.axes) == 3
        and len({round(axes.get_position().y0, 3) for axes in figure.axes}) == 1
    )
    said = [text.get_text() for text in figure.texts]
    for name in QFORMER:
        assert f"{OBJECTIVES[name].name} · {OBJECTIVES[name].kind}" in said
    assert figure.alt.startswith("Queries see text under ITM;")


@settings(max_examples=4)
@given(scenes, st.sampled_from([("itc",), ("causal",), QFORMER]), st.integers(1, 3))
def test_any_scene_can_be_drawn(scene, objectives, layers):
    figure = draw_objectives(scene, objectives, layers=layers)
    figure.canvas.draw()
    assert len(figure.axes) == len(objectives)


@pytest.mark.parametrize("one, other", [("itc", "itg"), ("itm", "causal")])
def test_the_difference_names_both_first_tokens(one, other):
    scene = Scene(2, ["a"])
    assert (
        scene.pair(one, other)[0].names[2] == f"{OBJECTIVES[one].first}/{OBJECTIVES[other].first}"
    )
    a, b = scene.panel(one).mask, scene.panel(other).mask
    assert draw_difference(scene, one, other).alt.startswith(f"{(a != b).sum()} of 25 cells differ")


# ---------------------------------------------------------------------- ALBEF and BLIP
def attended(objective, scene):
    """Run the model and return which of [picture ; text] each text token of the last layer gives weight to, by what it recorded."""
    rng = np.random.default_rng(0)
    model = (
        albef.ALBEF(albef.ALBEFConfig.tiny(), rng)
        if objective in ALBEF
        else blip.BLIP(blip.BLIPConfig.tiny(), rng)
    ).eval()
    ids, is_real = np.full((1, len(scene.is_real)), 5), scene.is_real[None]
    with no_grad(), record_attention() as maps:
        tokens = model.image_tokens(rng.standard_normal((1, 16, 16, 3)).astype(np.float32))
        del maps[:]
        if objective.endswith("itc"):
            model.text_tokens(ids, is_real)
        elif objective.endswith("itm"):
            model.itm_logits(tokens, ids, is_real)
        else:
            write = model.mlm_logits if objective == "albef-mlm" else model.lm_logits
            write(tokens, ids, is_real)
    weights = [m[0].max(axis=0) for m in maps]
    if objective.endswith("itc"):
        return np.concatenate(
            [np.zeros((len(scene.is_real), tokens.shape[1]), bool), weights[-1] > 0], axis=1
        )
    return np.concatenate([weights[-1] > 0, weights[-2] > 0], axis=1)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([*ALBEF, *BLIP]),
    st.lists(st.sampled_from(["a", "red", "ball"]), min_size=1, max_size=4),
    st.integers(0, 3),
)
def test_the_masks_with_a_picture_are_what_the_models_attend_to(objective, words, padding):
    scene = Scene(0, words, padding, patches=4)
    panel = scene.panel(objective)
    assert panel.first == 5 and np.array_equal(panel.mask[5:], attended(objective, scene))
    assert np.array_equal(panel.mask[:5], np.eye(*panel.mask.shape, dtype=bool)[:5]), (
        "the picture's tokens do not look"
    )


def test_tokens_of_the_models_with_a_picture():
    scene = Scene(2, ["a", "red", "ball"], 1, patches=2)
    named = {name: scene.panel(name).names for name in (*ALBEF, *BLIP)}
    assert all(names[:3] == ["class", "p1", "p2"] for names in named.values())
    assert named["albef-mlm"][3:] == ["[CLS]", "a", "[MASK]", "ball", "[SEP]", "[PAD]"]
    assert [named[name][3] for name in BLIP] == ["[CLS]", "[ENC]", "[DEC]"]


def test_sentences_of_the_models_with_a_picture():
    scene = Scene(2, ["a", "cat"])
    assert (
        finding(scene, ALBEF)
        == "In ALBEF text sees the picture under ITM and MLM; text sees later text under ITC, ITM and MLM."
    )
    assert finding(scene, BLIP, layers=9).startswith(
        "In BLIP after 9 layers text knows the picture under ITM and LM; text knows later text"
    )
    assert finding(scene, ["albef-mlm", "blip-lm"]).endswith(
        "text sees later text under ALBEF MLM."
    )
    said = {name: scene.panel(name).note for name in (*ALBEF, *BLIP)}
    for name in ("albef-itc", "blip-itc"):
        assert said[name].startswith("A text token sees all text, but no picture.")
    for name in ("albef-itm", "albef-mlm", "blip-itm"):
        assert said[name].startswith("A text token sees the picture and all text.")
    assert said["blip-lm"].startswith("A text token sees the picture and the text up to itself.")


@settings(max_examples=4)
@given(scenes, st.sampled_from([ALBEF, BLIP, ("blip-lm",)]), st.integers(1, 2))
def test_only_the_text_looks_in_a_drawing_with_a_picture(scene, objectives, layers):
    figure = draw_objectives(scene, objectives, layers=layers)
    figure.canvas.draw()
    assert len(figure.axes) == len(objectives)
    assert (
        len(
            {
                (round(axes.get_position().y0, 6), round(axes.get_position().y1, 6))
                for axes in figure.axes
            }
        )
        == 1
    )
    for axes in figure.axes:
        T = len(scene.is_real)
        assert (
            len(axes.get_yticklabels()) == T
            and len(axes.get_xticklabels()) == scene.patches + 1 + T
        )
        assert [text.get_text() for text in axes.texts if text.get_text() == "picture"] == [
            "picture"
        ]
    assert "class looks at" not in figure.alt


def test_differences_with_a_picture_and_none_across():
    scene = Scene(2, ["a"])
    assert draw_difference(scene, "blip-itm", "blip-lm").alt.startswith(
        "3 of 24 cells differ: only BLIP ITM allows text → text (3)."
    )
    assert draw_difference(scene, "albef-itm", "albef-mlm").alt.startswith("0 of 24 cells differ.")
    with pytest.raises(
        UsageError,
        match="got itc over queries and text but blip-lm over picture and text; choose both with queries or both",
    ):
        scene.pair("itc", "blip-lm")
