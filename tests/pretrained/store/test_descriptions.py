"""Whose description counts, and what is left aside is named: the same folders without any other program installed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tinymm import pretrained
from tinymm.arrays.errors import CheckpointError, TinymmError, UsageError
from tinymm.arrays.random import generator
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.pretrained.files.safetensors import write_safetensors
from tinymm.pretrained.files.unwrapped import plain_keys
from tinymm.workflows.open_model import open_model

VISION = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 8}
TEXT = {"context_length": 12, "vocab_size": 50, "width": 32, "heads": 4, "layers": 2}
SAID = {"model_cfg": {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}}
HUGGING_FACE = {
    "model_type": "clip",
    "projection_dim": 16,
    "vision_config": {"num_attention_heads": 2},
    "text_config": {},
}


def write(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path):
    config = CLIPConfig.tiny()
    parts = {part: replace(getattr(config, part), activation="gelu") for part in ("image", "text")}
    model = CLIP(replace(config, **parts), generator(0))
    write_safetensors(tmp_path / "open_clip_model.safetensors", pretrained.export(model, "openai"))
    return tmp_path


def test_the_layout_chooses_the_description_and_the_other_is_named(folder):
    write(folder, open_clip_config=SAID, config=HUGGING_FACE)
    for path in (folder, folder / "open_clip_model.safetensors"):
        model, report = pretrained.load_with_report(path)
        assert (model.config.image.activation, model.config.image.heads) == ("gelu", 4)
        (said,) = report.unused
        assert (
            "config.json (" in said and "image heads 2 for 4" not in said
        )  # open_clip declares the width of a head
        assert "image activation 'quick_gelu' for 'gelu'" in said and "text heads 8 for 4" in said
    pretrained.save(
        model, folder
    )  # transformers' own layout beside open_clip's: its config.json counts now
    model, report = pretrained.load_with_report(folder)
    assert report.layout == "huggingface" and report.unused == ["open_clip_config.json"]


def test_transformers_description_serves_where_open_clip_s_lacks(folder):
    write(
        folder,
        config=HUGGING_FACE
        | {"text_config": {"num_attention_heads": 2, "hidden_act": "relu", "eos_token_id": 49}},
    )
    config = pretrained.load(folder).config
    assert (config.image.heads, config.image.activation) == (2, "quick_gelu")
    assert (config.text.heads, config.text.activation, config.text.end_of_text) == (2, "relu", 49)
    write(folder, config={"model_type": "bert"})
    with pytest.raises(CheckpointError, match="nothing says the activation"):
        pretrained.load(folder)
    report = pretrained.load_with_report(folder, activation="gelu", heads={"image": 4, "text": 4})[
        1
    ]
    assert report.unused == ["config.json (model_type 'bert')"]


def test_unknown_keys_of_transformers_are_named(tmp_path):
    pretrained.save(CLIP(CLIPConfig.tiny(), generator(0)), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert pretrained.load_with_report(tmp_path)[1].unused == []
    config["text_config"]["wave"] = config["tide"] = 3
    write(tmp_path, config=config)
    assert pretrained.load_with_report(tmp_path)[1].unused == [
        "config.json: text_config.wave",
        "config.json: tide",
    ]


def test_an_old_config_that_says_no_end_meant_the_largest_id(tmp_path):
    model = CLIP(CLIPConfig.tiny(), generator(0))
    pretrained.save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["text_config"]["eos_token_id"]
    for version, end in (
        ("4.30.2", None),
        ("4.31.0", 49407),
        ("4.47.1", 49407),
        ("5.0.0rc1", 49407),
        (None, 49407),
    ):
        write(tmp_path, config=config | {"transformers_version": version})
        assert pretrained.load(tmp_path).config.text.end_of_text == end


def test_marks_tell_and_a_description_counts_before_them(tmp_path):
    config = CLIPConfig.tiny()
    image = replace(config.image, width=128, heads=2, feed_forward=512)
    text = replace(config.text, width=64, heads=1, feed_forward=256, end_of_text=None)
    model = CLIP(replace(config, image=image, text=text), generator(0))
    arrays = pretrained.export(model, "openai")
    assert {"input_resolution", "context_length", "vocab_size"} <= arrays.keys()
    write_safetensors(tmp_path / "w.safetensors", arrays)
    found, report = pretrained.load_with_report(tmp_path / "w.safetensors")
    assert found.config == model.config and report.unused == []
    for mark in ("input_resolution", "context_length", "vocab_size"):
        write_safetensors(tmp_path / "w.safetensors", arrays | {mark: np.array(7)})
        with pytest.raises(CheckpointError, match="by the arrays"):
            pretrained.load(tmp_path / "w.safetensors")
        write_safetensors(
            tmp_path / "w.safetensors", {key: array for key, array in arrays.items() if key != mark}
        )
        with pytest.raises(CheckpointError, match="nothing says"):
            pretrained.load(tmp_path / "w.safetensors")
    write_safetensors(tmp_path / "w.safetensors", arrays)
    described = {
        "vision_cfg": VISION | {"width": 128, "head_width": 32},
        "text_cfg": TEXT | {"width": 64},
    }
    write(tmp_path, open_clip_config={"model_cfg": {"embed_dim": 16} | described})
    found, report = pretrained.load_with_report(tmp_path)
    assert (found.config.image.activation, found.config.image.heads, found.config.text.heads) == (
        "gelu",
        4,
        4,
    )
    assert "OpenAI's marks (image activation 'quick_gelu' for 'gelu')" in report.unused
    for changed in (
        {"activation": "gelu"},
        {"heads": 4},
        {"eps": 1e-6},
    ):  # not built as OpenAI's: no marks
        other = CLIP(replace(model.config, image=replace(image, **changed)), generator(0))
        assert "input_resolution" not in pretrained.export(other, "openai")


def test_what_lies_beside_the_weights_is_named(folder):
    arrays = pretrained.export(
        pretrained.load(folder, activation="gelu", heads={"image": 4, "text": 4}), "openai"
    )
    write(folder, open_clip_config=SAID)
    beside = {
        "n_averaged": np.array(3),
        "cuda_rng_state": np.zeros(4, np.uint8),
        "best_acc1": np.array(0.5),
    }
    write_safetensors(
        folder / "open_clip_model.safetensors",
        {f"_orig_mod.{key}": array for key, array in arrays.items()} | beside,
    )
    assert sorted(pretrained.load_with_report(folder)[1].unused) == [
        "best_acc1",
        "cuda_rng_state",
        "n_averaged",
    ]
    whole = {f"clip.{key}": array for key, array in arrays.items()} | {"head.weight": np.ones(3)}
    write_safetensors(folder / "open_clip_model.safetensors", whole)
    assert pretrained.load_with_report(folder)[1].unused == ["head.weight"]
    for wrong in (
        {"student." + key: array for key, array in arrays.items()}
        | {"teacher." + key: array for key, array in arrays.items()},
    ):
        write_safetensors(folder / "open_clip_model.safetensors", wrong)
        with pytest.raises(
            CheckpointError, match="more than once, under 'student.' and 'teacher.'"
        ):
            pretrained.load(folder)
    with pytest.raises(CheckpointError, match="their numbers differ"):
        plain_keys({"module.W": np.ones(2), "W": np.zeros(2)}, [])
    nan = np.full(2, np.nan)
    assert plain_keys({"module.W": nan, "W": nan.copy()}, []).keys() == {"W"}


def test_siglip_s_bias_goes_both_ways(tmp_path):
    model = CLIP(replace(CLIPConfig.tiny(), loss="sigmoid"), generator(0)).eval()
    arrays = pretrained.export(model, "openai")
    assert arrays["logit_bias"] == model.b.data
    axis = {
        key: array.reshape(1) if key.startswith("logit_") else array
        for key, array in arrays.items()
    }
    write_safetensors(tmp_path / "w.safetensors", axis)
    found = pretrained.load(
        tmp_path / "w.safetensors", activation="quick_gelu", heads={"image": 4, "text": 4}
    )
    assert (
        found.config.loss == "sigmoid"
        and found.b.shape == found.t.shape == ()
        and found.b.data == model.b.data
    )
    pretrained.save(model, tmp_path / "own", "openai")
    assert pretrained.load(tmp_path / "own").config == model.config
    with pytest.raises(UsageError, match="sigmoid"):
        pretrained.export(model, "huggingface")


def test_preprocessing_follows_the_layout(folder):
    write(
        folder,
        open_clip_config=SAID
        | {"preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3, "resize_mode": "squash"}},
    )
    write(
        folder,
        preprocessor_config={
            "image_processor_type": "CLIPImageProcessor",
            "size": 32,
            "crop_size": 32,
            "image_mean": [0.1] * 3,
        },
    )
    found = pretrained.preprocess(folder)
    assert (found.mean, found.std, found.resize) == ((0.5,) * 3, (0.25,) * 3, "square")
    pretrained.save(
        pretrained.load(folder), folder
    )  # model.safetensors in transformers' layout is found first
    assert pretrained.preprocess(folder).mean == (0.1,) * 3
    for name in ("preprocessor_config", "config"):
        (folder / f"{name}.json").unlink()
    (folder / "model.safetensors").unlink()
    write(folder, open_clip_config=SAID | {"preprocess_cfg": {"mean": [0.5] * 3, "brightness": 2}})
    with pytest.raises(CheckpointError, match="'brightness' is not"):
        pretrained.preprocess(folder)
    write(
        folder,
        open_clip_config=SAID,
        preprocessor_config={"size": 32, "crop_size": 32, "image_std": [0.1] * 3},
    )
    assert pretrained.preprocess(folder).std == (0.1,) * 3  # the only one that says something
    write(folder, preprocessor_config={"size": 64, "crop_size": 64})
    with pytest.raises(
        CheckpointError, match="sees 32 × 32 × 3 and the preprocessing beside it makes 64"
    ):
        pretrained.preprocess(folder)


def test_commands_say_what_a_file_does_not(folder):
    path, told = (
        str(folder / "open_clip_model.safetensors"),
        {"heads": "image=4,text=4", "activation": "image=gelu,text=gelu"},
    )
    for wrong in (
        {"heads": "4", "activation": "gelu"},
        {"heads": "image=4,text", "activation": "gelu"},
        {"heads": "image=x,text=4"},
    ):
        with pytest.raises(TinymmError, match="image=12,text=8|heads is"):
            open_model(path, **wrong)
    with pytest.raises(
        CheckpointError, match="a tokenizer is"
    ):  # the model is open; only words lack
        open_model(path, **told, resolution=64)


def test_an_adapter_beside_is_not_overlooked(tmp_path):
    pretrained.save(CLIP(CLIPConfig.tiny(), generator(0)), tmp_path)
    write(tmp_path, adapter_config={"r": 8})
    with pytest.raises(CheckpointError, match="merge them first"):
        pretrained.load(tmp_path)
    assert pretrained.load(tmp_path / "model.safetensors").config == CLIPConfig.tiny()
