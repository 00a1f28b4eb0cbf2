"""Rules read both ways."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import CheckpointError
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.resnet import ResNetConfig
from tinymm.pretrained.key_maps import Rule, StateDictLayout
from tinymm.pretrained.models.clip import (
    HUGGING_FACE,
    OPEN_CLIP_RESNET,
    OPEN_CLIP_VIT,
    OPENAI_RESNET,
    OPENAI_VIT,
    TINYMM,
    recognize,
)

VIT_LAYOUTS, RESNET_LAYOUTS = (
    [OPENAI_VIT, OPEN_CLIP_VIT, HUGGING_FACE, TINYMM],
    [OPENAI_RESNET, OPEN_CLIP_RESNET, TINYMM],
)
AXES = {"same": 1, "transpose": 2, "convolution": 4}


@given(
    change=st.sampled_from(sorted(AXES)),
    pieces=st.integers(1, 3),
    sizes=st.lists(st.integers(1, 4), min_size=4, max_size=4),
    numbers=st.lists(st.integers(0, 120), min_size=2, max_size=2),
)
def test_export_undoes_import(change, pieces, sizes, numbers):
    rule = Rule(
        "ours.{}.x.{}", tuple(f"theirs.{{}}.{letter}.{{}}" for letter in "qkv"[:pieces]), change
    )
    layout = StateDictLayout("test", (rule,))
    rng = np.random.default_rng(0)
    theirs = {name.format(*numbers): rng.normal(size=sizes[: AXES[change]]) for name in rule.theirs}
    found = layout.import_(dict(reversed(theirs.items())))  # a file's order of keys means nothing
    assert (
        list(found.arrays) == ["ours.{}.x.{}".format(*numbers)]
        and not found.unexpected
        and not found.incomplete
    )
    (array,) = found.arrays.values()
    assert array.flags.c_contiguous
    back, missing_keys = layout.export(found.arrays)
    assert back.keys() == theirs.keys() and not missing_keys
    for key in theirs:
        np.testing.assert_array_equal(back[key], theirs[key])


def test_what_the_rearrangements_mean():
    linear, kernel = np.arange(6.0).reshape(2, 3), np.arange(24.0).reshape(2, 3, 2, 2)
    ours = Rule("w", ("w",), "transpose").import_([linear])
    np.testing.assert_array_equal(np.ones(3) @ ours, linear @ np.ones(3))
    ours = Rule("w", ("w",), "convolution").import_([kernel])
    assert ours.shape == (2, 2, 3, 2) and all(
        ours[h, w, i, o] == kernel[o, i, h, w] for o, i, h, w in np.ndindex(kernel.shape)
    )
    joined = Rule("w", ("q", "k", "v"), "transpose").import_([linear, linear + 10, linear + 20])
    np.testing.assert_array_equal(
        joined, np.concatenate([linear.T, linear.T + 10, linear.T + 20], axis=1)
    )


@pytest.mark.parametrize(
    ("layout", "image"),
    [
        *((layout, "vit") for layout in VIT_LAYOUTS),
        *((layout, "resnet") for layout in RESNET_LAYOUTS),
    ],
)
@pytest.mark.parametrize("projected", [False, True])
def test_every_array_of_a_model_has_one_place_in_every_layout(layout, image, projected):
    config = CLIPConfig.tiny(image)
    if image == "resnet" and projected:
        config = replace(
            config,
            image=ResNetConfig(
                resolution=32, width=4, heads=4, layers=(2, 1, 1, 2), output_width=16
            ),
        )
    state = CLIP(config, np.random.default_rng(0)).state_dict()
    exported, missing_keys = layout.export(state)
    assert not missing_keys and sum(a.size for a in exported.values()) == sum(
        a.size for a in state.values()
    )
    assert recognize(exported) is layout
    found = layout.import_(exported)
    assert found.arrays.keys() == state.keys() and not found.unexpected and not found.incomplete
    for name, array in state.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.keys[name] == layout.their_names(name)


@pytest.mark.parametrize("layout", [*VIT_LAYOUTS, *RESNET_LAYOUTS], ids=lambda layout: layout.name)
def test_no_two_rules_speak_of_the_same_key(layout):
    ours = [rule.ours for rule in layout.rules]
    theirs = [key for rule in layout.rules for key in rule.theirs]
    assert len(set(ours)) == len(ours) and len(set(theirs)) == len(theirs)


def test_keys_that_belong_to_nothing():
    layout = StateDictLayout("test", (Rule("a.{}", ("x.{}", "y.{}")),), (r"z\d",))
    found = layout.import_(
        {
            "x.0": np.ones(1),
            "z1": np.ones(1),
            "x.00": np.ones(1),
            "x.1.b": np.ones(1),
            "x.٣": np.ones(1),
        }
    )
    assert found.incomplete == {"a.0": ("y.0",)} and found.ignored == ["z1"]
    assert found.unexpected == ["x.00", "x.1.b", "x.٣"]
    assert layout.export({"b": np.ones(1)}) == ({}, ["b"])
    with pytest.raises(CheckpointError, match=r"x\.0 \(1,\), y\.0 \(2,\) came"):
        layout.import_({"x.0": np.ones(1), "y.0": np.ones(2)})
    assert recognize(["model.decoder.weight"]) is None
