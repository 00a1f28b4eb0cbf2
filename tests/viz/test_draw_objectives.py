"""BLIP-2's objectives for a sentence: the model's own masks, the right tokens, and sentences that are true of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm.layers import bidirectional_mask, causal_mask, multimodal_causal_mask, reachability, unimodal_mask
from tinymm.viz.objectives import OBJECTIVES, QFORMER, Scene, draw_difference, draw_objectives, finding

BUILD = {"itc": unimodal_mask, "itg": multimodal_causal_mask, "itm": bidirectional_mask}
scenes = st.builds(Scene, st.integers(0, 4), st.lists(st.sampled_from(["a", "red", "ball"]), min_size=1, max_size=4), st.integers(0, 3))


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
    assert panel.names[0] == "picture" and not panel.mask[text, 0].any() and panel.mask[1 : 1 + scene.queries, 0].all()
    assert not panel.mask[0, 1:].any()
    known = reachability([panel.mask] * layers)[text, 0]
    assert known.all() if objective != "itc" else not known.any()
    assert np.array_equal(panel.mask[1:, 1:], scene.panel(objective).mask)


def test_who_sees_whom_in_one_sentence():
    scene = Scene(2, ["a", "cat"], 1)
    assert finding(scene) == "Queries see text under ITM; text sees queries under ITG and ITM."
    assert finding(scene, layers=2) == "After 2 layers queries know text under ITM; text knows the picture under ITG and ITM."
    assert finding(scene, ["itc", "causal"]) == "Queries see text under none of them; text sees queries under Causal."
    assert finding(Scene(0, ["a"])) == "Queries see text under none of them; text sees queries under none of them."


def test_all_three_stand_in_one_figure():
    figure = draw_objectives(Scene(4, ["a", "red", "ball"], 2))
    assert len(figure.axes) == 3 and len({round(axes.get_position().y0, 3) for axes in figure.axes}) == 1
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
    assert scene.pair(one, other)[0].names[2] == f"{OBJECTIVES[one].first}/{OBJECTIVES[other].first}"
    a, b = scene.panel(one).mask, scene.panel(other).mask
    assert draw_difference(scene, one, other).alt.startswith(f"{(a != b).sum()} of 25 cells differ")
