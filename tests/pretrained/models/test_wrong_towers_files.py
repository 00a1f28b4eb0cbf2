"""Every way in which a file of ALBEF's or BLIP's can be wrong, and its config beside it: refused by one sentence that names what."""

import json
from pathlib import Path

import numpy as np
import pytest

from tinymm import pretrained
from tinymm.arrays.errors import CheckpointError
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.blip import BLIP, BLIPConfig
from tinymm.pretrained.files.safetensors import read_safetensors, write_safetensors

REFERENCE = Path(__file__).parents[1] / "reference"
HEADS = {"image": 5, "text": 4}


def pretraining(name):
    return read_safetensors(REFERENCE / f"{name}.safetensors")


def without(key):
    return lambda arrays: {k: v for k, v in arrays.items() if k != key}


def with_(key, array):
    return lambda arrays: arrays | {key: array}


TEXT, WRITER = "text_encoder.bert", "text_decoder.bert.encoder.layer"
LAYER = f"{TEXT}.encoder.layer.2"
BEYOND = f"{TEXT}.encoder.layer.4.attention.self"  # of a layer that the model has not
BROKEN = {
    "albef": [
        (without(f"{LAYER}.crossattention.self.query.weight"), [f"missing: '{LAYER}.crossattention.self.query.weight'; "]),
        (without(f"{LAYER}.attention.self.key.bias"), [f"missing: '{LAYER}.attention.self.key.bias'; "]),
        (without("visual_encoder_m.norm.weight"), ["missing: 'visual_encoder_m.norm.weight'"]),
        (without("text_encoder_m.cls.predictions.bias"), ["missing: 'text_encoder_m.cls.predictions.bias'"]),
        (without("itm_head.bias"), ["missing: 'itm_head.bias'"]),
        (without("temp"), ["missing: 'temp'"]),
        (without("text_queue"), ["missing: 'text_queue'"]),
        (without("image_queue"), ["lacks the array for queue.images"]),
        (without("text_encoder.bert.embeddings.word_embeddings.weight"), ["lacks the array for encoders.text_encoder.embedding.words.weight"]),
        (with_("vqa_head.weight", np.ones(2)), ["unexpected: 'vqa_head.weight'"]),
        (with_("text_encoder.bert.pooler.dense.weight", np.ones((2, 2))), ["unexpected: 'text_encoder.bert.pooler.dense.weight'"]),
        (with_(f"{TEXT}.encoder.layer.0.crossattention.self.key.bias", np.ones(32)), [f"unexpected: '{TEXT}.encoder.layer.0.crossattention."]),
        (with_(f"{BEYOND}.query.weight", np.ones((32, 32))), [f"unexpected: '{BEYOND}.query.weight'; "]),
        (lambda a: a | {f"{BEYOND}.{part}.bias": np.ones(32) for part in ("key", "value")}, [f"'{BEYOND}.key.bias', '{BEYOND}.value.bias'; "]),
        (with_("temp", np.ones((2,))), ["wrong shapes (in our order of axes): 'temp (2,) for ()'"]),
        (with_("queue_ptr", np.ones(2, int)), ["queue_ptr (2,) for ()"]),
        (with_("itm_head.weight", np.ones((3, 32))), ["itm_head.weight (32, 3) for (32, 2)"]),
        (with_("visual_encoder_m.norm.weight", np.ones(41)), ["visual_encoder_m.norm.weight (41,) for (40,)"]),
        (with_("image_queue", np.ones((20, 15))), ["text_queue (16, 20) for (15, 20)"]),
        (with_(f"{LAYER}.attention.self.key.weight", np.ones((32, 31))), ["joined have one shape", f"{LAYER}.attention.self.key.weight (32, 31)"]),
        (with_("temp", np.array(True)), ["no plain numbers: 'temp (bool)'"]),
    ],
    "blip": [
        (without("text_decoder.cls.predictions.transform.dense.bias"), ["missing: 'text_decoder.cls.predictions.transform.dense.bias'"]),
        (without(f"{WRITER}.1.attention.self.query.weight"), [f"missing: '{WRITER}.1.attention.self.query.weight'"]),
        (without("text_encoder.encoder.layer.1.output.dense.bias"), ["missing: 'text_encoder.encoder.layer.1.output.dense.bias'"]),
        (with_(f"{WRITER}.2.attention.output.dense.bias", np.ones(32)), [f"unexpected: '{WRITER}.2.attention.output.dense.bias'"]),
        (with_("text_decoder.cls.predictions.bias", np.ones(65)), ["text_decoder.cls.predictions.bias (65,) for (66,)"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "name, number",
    [(name, number) for name, cases in BROKEN.items() for number in range(len(cases))],
)
def test_a_wrong_file_names_its_keys(name, number, tmp_path):
    change, said = BROKEN[name][number]
    write_safetensors(tmp_path / "w.safetensors", change(pretraining(name)))
    with pytest.raises(CheckpointError) as caught:
        pretrained.load(tmp_path / "w.safetensors", heads=HEADS)
    assert all(part in str(caught.value) for part in said), caught.value
    assert str(caught.value).startswith("w.safetensors: ")
    assert "; " in str(caught.value) and "\n" not in str(caught.value)


def setting(*path, value):
    def change(settings):
        inner = settings
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value

    return change


CONTRADICTIONS = {
    "released": [
        (setting("bert", "hidden_size", value=31), "text encoder width is 31 in the config and 32 by the arrays"),
        (setting("bert", "num_hidden_layers", value=6), "text encoder layers is 6 in the config and 4 by the arrays"),
        (setting("bert", "num_attention_heads", value=3), "share its width 32 evenly, 3 came"),
        (setting("bert", "hidden_act", value="gelu_new"), "an activation is 'gelu', 'quick_gelu' or 'relu' and 'gelu_new' came"),
        (setting("bert", "layer_norm_eps", value="1e-12"), "the text encoder's eps is a small positive number, '1e-12' came"),
        (setting("bert", value=[1]), "bert is an object of settings, a list came"),
        (setting("vit", "num_heads", value="5"), "share its width 40 evenly, '5' came"),
        (setting("vit", "eps", value=-1.0), "the image encoder's eps is a small positive number, -1.0 came"),
        (setting("image_res", value=384), "image encoder resolution is 384 in the config and 32 by the arrays"),
        (setting("embed_dim", value=256), "embed_dim is 256 in the config and 20 by the arrays"),
        (setting("queue_size", value=65536), "queue is 65536 in the config and 16 by the arrays"),
        (setting("momentum", value=1.5), "the momentum of an EMA lies in [0, 1], 1 meaning that it never moves, and 1.5 came"),
        (setting("momentum", value="slow"), "momentum is a number, 0 or more, 'slow' came"),
        (setting("alpha", value=-0.4), "alpha is a number, 0 or more, -0.4 came"),
        (setting("mlm_probability", value=0), "mlm_probability is the probability that a token is masked for MLM, in (0, 1], and 0 came"),
        (setting("mask", value=64), "mask is an id below the vocabulary 64, and 64 came"),
    ],
    "own": [
        (setting("image", value=3), "image is an object of settings, a int came"),
        (setting("image", "flavor", value=3), "the image encoder has no setting 'flavor'"),
        (setting("image", "patch", value=4), "image encoder patch is 4 in the config and 8 by the arrays"),
        (setting("text", "fusion_layer", value=0), "text encoder fusion_layer is 0 in the config and 1 by the arrays"),
        (setting("text", "context", value=77), "text encoder context is 77 in the config and 12 by the arrays"),
        (setting("text", "token_types", value=0), "text encoder token_types is 0 in the config and 2 by the arrays"),
        (setting("embed_dim", value=17), "embed_dim is 17 in the config and 16 by the arrays"),
        (setting("queue", value=12), "queue is 12 in the config and 24 by the arrays"),
        (setting("momentum", value=None), "unexpected: 'queue.ids', 'queue.next', 'queue.pushed'"),
        (setting("alpha_warmup", value=-1), "alpha_warmup is a whole number, 0 or more, -1 came"),
        (setting("mask", value="[MASK]"), "mask is a whole number, 0 or more, '[MASK]' came"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "whose, number",
    [(whose, number) for whose, cases in CONTRADICTIONS.items() for number in range(len(cases))],
)
def test_a_config_that_contradicts_the_arrays_is_refused(whose, number, tmp_path):
    change, said = CONTRADICTIONS[whose][number]
    if whose == "own":
        pretrained.save(ALBEF(ALBEFConfig.tiny(), np.random.default_rng(0)), tmp_path)
        settings = json.loads((tmp_path / "config.json").read_text())
    else:
        write_safetensors(tmp_path / "model.safetensors", pretraining("albef"))
        settings = json.loads((REFERENCE / "albef.json").read_text())
    change(settings)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError) as caught:
        pretrained.load(tmp_path)
    assert said in str(caught.value)


def test_a_config_with_a_momentum_encoder_and_a_file_without_one_are_refused(tmp_path):
    model = BLIP(BLIPConfig.tiny(momentum=None), np.random.default_rng(0))
    pretrained.save(model, tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"momentum": 0.9}))
    with pytest.raises(
        CheckpointError,
        match="it has a momentum encoder of momentum 0.9, and no array is of it; put the config.json",
    ):
        pretrained.load(tmp_path)


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"text_config": {"bos_token_id": None}}, "decode is a whole number, 0 or more, None came"),
        (
            {"text_config": {"sep_token_id": 50}},
            "end_of_text is an id below the vocabulary 50, and 50 came",
        ),
        ({"text_config": {"hidden_size": 31}}, "text encoder width is 31 in the config and 32"),
        (
            {"vision_config": {"image_size": 32}},
            "image encoder resolution is 32 in the config and 16",
        ),
        ({"vision_config": {"hidden_act": "gelu_new"}}, "'gelu_new' came"),
        ({"vision_config": 3}, "vision_config is an object of settings, a int came"),
        ({"image_text_hidden_size": 17}, "embed_dim is 17 in the config and 16 by the arrays"),
    ],
)
def test_a_hugging_face_config_that_contradicts_the_arrays_is_refused(settings, said, tmp_path):
    form = "huggingface_retrieval" if "image_text_hidden_size" in settings else "huggingface"
    pretrained.save(BLIP(BLIPConfig.tiny(), np.random.default_rng(0)), tmp_path, format=form)
    written = json.loads((tmp_path / "config.json").read_text())
    for name, value in settings.items():
        written[name] = written[name] | value if isinstance(value, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(CheckpointError) as caught:
        pretrained.load(tmp_path)
    assert said in str(caught.value)


@pytest.mark.parametrize("value", [10**10, "abc", -3, 0, 1.5, True, [16]])
def test_an_embed_dim_that_no_array_shows_is_bounded_by_those_that_do(value, tmp_path):
    pretrained.save(
        BLIP(BLIPConfig.tiny(momentum=None), np.random.default_rng(0)),
        tmp_path,
        format="huggingface",
    )
    written = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(written | {"image_text_hidden_size": value}))
    with pytest.raises(CheckpointError) as caught:
        pretrained.load(tmp_path)
    said = f"the shared embedding space has 1 to 512 numbers beside encoders of width 32, and a width of {value!r} came; correct it, or leave it out"
    assert said in str(caught.value)
    (tmp_path / "config.json").write_text(json.dumps(written | {"image_text_hidden_size": 512}))
    assert pretrained.load(tmp_path).config.embed_dim == 512


@pytest.mark.parametrize("value", ["x", 1.7, -1, 1, float("nan"), True, [0.1]])
@pytest.mark.parametrize("form", ["huggingface", "tinymm", "blip"])
def test_label_smoothing_is_a_share(value, form, tmp_path):
    pretrained.save(BLIP(BLIPConfig.tiny(), np.random.default_rng(0)), tmp_path, format=form)
    written = json.loads((tmp_path / "config.json").read_text())
    name = "smoothing" if form == "tinymm" else "label_smoothing"
    (written["text_config"] if form == "huggingface" else written)[name] = value
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(CheckpointError) as caught:
        pretrained.load(tmp_path)
    assert (
        f"the label smoothing is a share, in [0, 1), and {value!r} came; the released models have 0.1"
        in str(caught.value)
    )


def test_a_declared_width_of_0_contradicts_the_arrays(tmp_path):
    pretrained.save(BLIP(BLIPConfig.tiny(), np.random.default_rng(0)), tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(written | {"embed_dim": 0}))
    with pytest.raises(CheckpointError, match="embed_dim is 0 in the config and 16 by the arrays"):
        pretrained.load(tmp_path)
