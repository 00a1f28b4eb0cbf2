"""Every layout through the front door, and every way in which a checkpoint can be wrong."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tinymm import pretrained
from tinymm.arrays.errors import CheckpointError, UsageError
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.resnet import ResNetConfig
from tinymm.pretrained.files.safetensors import write_safetensors

HEADS = {"image": 4, "text": 4}


def model_of(image="vit", text="transformer", seed=0):
    config = CLIPConfig.tiny(text=text)
    if image == "resnet":
        config = replace(
            config,
            image=ResNetConfig(
                resolution=64, width=4, heads=2, layers=(1, 2, 1, 1), output_width=16
            ),
        )
    if text == "transformer":
        config = replace(
            config, text=replace(config.text, end_of_text=None)
        )  # OpenAI's files take the largest id
    return CLIP(config, np.random.default_rng(seed)).eval()


def same(found, right):
    assert found.config == right.config
    theirs, ours = found.state_dict(), right.state_dict()
    assert theirs.keys() == ours.keys()
    return all(np.array_equal(theirs[name], ours[name]) for name in ours)


def wrapped(arrays):
    """Return OpenAI's arrays as open_clip's CustomTextCLIP names them."""
    return {
        key if key.startswith(("visual.", "logit_scale")) else f"text.{key}": array
        for key, array in arrays.items()
    }


@pytest.mark.parametrize("image", ["vit", "resnet"])
@pytest.mark.parametrize(
    "form", ["openai", "open_clip", "data parallel", "without counters", "with sizes"]
)
def test_a_bare_file_in_openai_s_layout(form, image, tmp_path):
    model = model_of(image)
    arrays = pretrained.export(model, "openai")
    if form == "open_clip":
        arrays = wrapped(arrays)
    if form == "data parallel":
        arrays = {f"module.{key}": array for key, array in arrays.items()}
    if form == "without counters":
        arrays = {key: array for key, array in arrays.items() if "num_batches" not in key}
    if form == "with sizes":
        arrays |= {
            "input_resolution": np.array(model.config.image.resolution),
            "context_length": np.array(12),
            "vocab_size": np.array(50),
        }
    write_safetensors(tmp_path / "w.safetensors", arrays)
    heads = HEADS if image == "vit" else {"text": 4}
    heads |= {"image": 2} if image == "resnet" else {}
    found, report = pretrained.load_with_report(
        tmp_path / "w.safetensors", heads=heads, activation="quick_gelu"
    )
    assert same(found, model)
    assert len(report.ignored) == (3 if form == "with sizes" else 0)
    bent = replace(model.config.text, activation="gelu")
    changed = pretrained.load(
        tmp_path / "w.safetensors", heads=heads, activation={"image": "quick_gelu", "text": "gelu"}
    )
    assert changed.config == replace(model.config, text=bent)


def test_float16_is_widened_and_counters_stay_whole(tmp_path):
    arrays = pretrained.export(model_of("resnet"), "openai")
    halves = {
        key: array.astype(np.float16) if array.dtype.kind == "f" else array + 300
        for key, array in arrays.items()
    }
    write_safetensors(tmp_path / "w.safetensors", halves)
    found = pretrained.load(
        tmp_path / "w.safetensors",
        heads={"image": 2, "text": 4},
        activation="quick_gelu",
        dtype="float64",
    )
    for key, array in pretrained.export(found, "openai").items():
        assert array.dtype == (np.float64 if halves[key].dtype == np.float16 else np.int64)
        np.testing.assert_array_equal(array, halves[key])


def open_clip_config(**changes):
    vision = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 8}
    text = {"context_length": 12, "vocab_size": 50, "width": 32, "heads": 4, "layers": 2}
    for part, own in (("vision_cfg", vision), ("text_cfg", text)):
        if isinstance(changes.get(part), dict):
            changes[part] = own | changes[part]
    return {
        "model_cfg": {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text} | changes,
        "preprocess_cfg": {},
    }


def test_an_open_clip_folder_uses_the_activation_and_heads_of_its_config(tmp_path):
    write_safetensors(
        tmp_path / "open_clip_model.safetensors", pretrained.export(model_of(), "openai")
    )
    for changes, activation in (({}, "gelu"), ({"quick_gelu": True}, "quick_gelu")):
        (tmp_path / "open_clip_config.json").write_text(json.dumps(open_clip_config(**changes)))
        config = pretrained.load(tmp_path).config
        assert config.image.activation == config.text.activation == activation
        assert config.image.heads == config.text.heads == 4
    for changes, said in [
        ({"text_cfg": {"hf_model_name": "roberta"}}, "hf_model_name"),
        ({"vision_cfg": {"pool_type": "avg"}}, "pool_type 'avg'"),
        ({"vision_cfg": {"act_kwargs": {"approximate": "tanh"}}}, "act_kwargs"),
        ({"text_cfg": {"act_kwargs": {"approximate": "tanh"}}}, "act_kwargs"),
        ({"text_cfg": {"norm_kwargs": {"epsilon": 1}}}, "norm_kwargs"),
        ({"text_cfg": {"flavor": 3}}, "text_cfg has the key 'flavor'"),
        ({"width": 3}, "model_cfg has the key 'width'"),
        ({"vision_cfg": {"width": 64}}, "image width is 64 in the config and 32"),
        ({"text_cfg": {"mlp_ratio": 2.0}}, "text feed_forward is 64 in the config and 128"),
        ({"vision_cfg": {"image_size": [32, 16]}}, "square here, image_size"),
        ({"vision_cfg": {"head_width": 0}}, "head_width is a count"),
        ({"vision_cfg": [1]}, "objects of settings"),
        ({"embed_dim": 17}, "embed_dim is 17 in the config and 16 by the arrays"),
    ]:
        (tmp_path / "open_clip_config.json").write_text(json.dumps(open_clip_config(**changes)))
        with pytest.raises(CheckpointError, match=said):
            pretrained.load(tmp_path)


def test_heads_follow_openai_s_rule_or_the_argument(tmp_path):
    config = CLIPConfig.tiny()
    config = replace(
        config,
        image=replace(config.image, width=128, heads=2),
        text=replace(config.text, width=64, heads=1),
    )
    write_safetensors(
        tmp_path / "w.safetensors",
        pretrained.export(CLIP(config, np.random.default_rng(0)), "openai"),
    )
    found = pretrained.load(tmp_path / "w.safetensors").config
    assert (found.image.heads, found.text.heads) == (2, 1)
    found = pretrained.load(tmp_path / "w.safetensors", heads={"image": 8}).config
    assert (found.image.heads, found.text.heads) == (8, 1)
    with pytest.raises(CheckpointError, match=r"width 128 evenly, 5 came.*pass heads="):
        pretrained.load(tmp_path / "w.safetensors", heads={"image": 5})
    for wrong in ("swish", {"image": "tanh"}, {"vision": "gelu"}, {}):
        with pytest.raises(UsageError, match="activation is"):
            pretrained.load(tmp_path / "w.safetensors", activation=wrong)
    for wrong in ({"vision": 2}, {"image": 0}, {"image": 2.0}, {"image": True}):
        with pytest.raises(UsageError, match="heads is"):
            pretrained.load(tmp_path / "w.safetensors", heads=wrong)
    write_safetensors(tmp_path / "small.safetensors", pretrained.export(model_of(), "openai"))
    for told, unknown in (
        (
            {},
            "activation of the image encoder, the activation of the text encoder, the heads of the image encoder, the heads of the text encoder",
        ),
        (
            {"heads": HEADS},
            "nothing says the activation of the image encoder, the activation of the text encoder: pass",
        ),
        (
            {"activation": "gelu", "heads": {"image": 4}},
            "nothing says the heads of the text encoder: pass",
        ),
    ):
        with pytest.raises(CheckpointError, match=unknown):
            pretrained.load(tmp_path / "small.safetensors", **told)
    with pytest.raises(UsageError, match="float32 or float64, dtype 'float16' came"):
        pretrained.load(tmp_path / "w.safetensors", dtype="float16")


def without(key):
    return lambda arrays: {k: v for k, v in arrays.items() if k != key}


def with_(key, array):
    return lambda arrays: arrays | {key: array}


BLOCK = "transformer.resblocks.1"
BROKEN = [
    (without(f"visual.{BLOCK}.ln_1.bias"), [f"missing: 'visual.{BLOCK}.ln_1.bias'"]),
    (without("text_projection"), ["missing: 'text_projection'"]),
    (without("token_embedding.weight"), ["missing: 'token_embedding.weight'"]),
    (without("visual.conv1.weight"), ["missing: 'visual.conv1.weight'"]),
    (with_("visual.extra", np.ones(2)), ["unexpected: 'visual.extra'"]),
    (with_("logit_bias", np.ones(2)), ["wrong shapes", "logit_bias (2,) for ()"]),
    (with_("ln_final.bias", np.ones(32, np.int8)), ["no plain numbers: 'ln_final.bias (int8)'"]),
    (
        with_("transformer.resblocks.5.ln_1.bias", np.ones(32)),
        ["unexpected: 'transformer.resblocks.5.ln_1.bias'", "'transformer.resblocks.2."],
    ),
    (with_("ln_final.bias", np.ones(31)), ["wrong shapes", "ln_final.bias (31,) for (32,)"]),
    (
        with_(f"{BLOCK}.mlp.c_fc.weight", np.ones((7, 32))),
        [f"{BLOCK}.mlp.c_fc.weight (32, 7) for (32, 128)"],
    ),
    (
        with_(f"{BLOCK}.mlp.c_fc.weight", np.ones(3)),
        [f"{BLOCK}.mlp.c_fc.weight (3,) for (32, 128)"],
    ),
    (with_("ln_final.bias", np.ones(32, bool)), ["no plain numbers: 'ln_final.bias (bool)'"]),
    (
        with_("positional_embedding", np.ones(32)),
        ["positional_embedding has 2 axes, shape (32,) came"],
    ),
    (with_("visual.positional_embedding", np.ones((16, 32))), ["one and a square grid, 16 came"]),
    (with_("visual.proj", np.ones((32, 15), np.float32)), ["visual.proj (32, 15) for (32, 16)"]),
    (
        with_("token_embedding.weight", np.ones((0, 32), np.float32)),
        ["token_embedding.weight has 2 axes, shape (0, 32)"],
    ),
    (
        with_("token_embedding.weight", np.ones((1, 4096 * 4), np.float32)),
        ["a model of these sizes has at least", "the file holds"],
    ),
    (
        lambda arrays: {"encoder.weight": np.ones(2)},
        ["the keys are those of no layout", "'encoder.weight'"],
    ),
    (
        lambda arrays: {"visual.proj": np.ones((2, 2))},
        ["missing: 'visual.conv1.weight', 'visual.positional_embedding'", "'text_projection'"],
    ),
    (
        lambda arrays: with_("odd", np.ones(1))(
            without("ln_final.weight")(without(f"{BLOCK}.ln_2.bias")(arrays))
        ),
        ["ln_final.weight", f"{BLOCK}.ln_2.bias", "unexpected: 'odd'"],
    ),
]


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_wrong_file_in_openai_s_layout_names_its_keys(number, tmp_path):
    change, said = BROKEN[number]
    write_safetensors(tmp_path / "w.safetensors", change(pretrained.export(model_of(), "openai")))
    with pytest.raises(CheckpointError) as caught:
        pretrained.load(tmp_path / "w.safetensors", heads=HEADS, activation="gelu")
    message = str(caught.value)
    for part in ["w.safetensors", *said]:
        assert part in message
    assert "; " in message and "\n" not in message


def hugging_face_folder(folder, change=lambda arrays: arrays, settings=lambda config: config):
    pretrained.save(model_of(), folder)
    write_safetensors(
        folder / "model.safetensors", change(pretrained.export(model_of(), "huggingface"))
    )
    (folder / "config.json").write_text(
        json.dumps(settings(json.loads((folder / "config.json").read_text())))
    )
    return folder


def setting(part, **changes):
    return lambda config: config | {part: config[part] | changes}


ATTENTION = "text_model.encoder.layers.0.self_attn"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without(f"{ATTENTION}.k_proj.weight"), [f"missing: '{ATTENTION}.k_proj.weight'; "]),
        (
            with_(f"{ATTENTION}.k_proj.weight", np.ones((32, 31), np.float32)),
            ["are joined have one shape", "k_proj.weight (32, 31)"],
        ),
        (
            with_(f"{ATTENTION}.k_proj.bias", np.ones((), np.float32)),
            ["are joined have one shape", "k_proj.bias ()"],
        ),
        (with_("vision_model.head.weight", np.ones(2)), ["unexpected: 'vision_model.head.weight'"]),
    ],
)
def test_a_wrong_file_in_hugging_face_s_layout_names_its_keys(change, said, tmp_path):
    with pytest.raises(CheckpointError) as caught:
        pretrained.load(hugging_face_folder(tmp_path, change))
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            setting("text_config", hidden_size=10**9),
            "text width is 1000000000 in the config and 32 by the arrays",
        ),
        (setting("text_config", num_hidden_layers=3), "text layers is 3 in the config and 2"),
        (
            setting("text_config", vocab_size="many"),
            "text vocabulary is 'many' in the config and 50",
        ),
        (setting("vision_config", image_size=64), "image resolution is 64 in the config and 32"),
        (setting("vision_config", image_size=[32, 48]), "square here, resolution [32, 48] came"),
        (setting("vision_config", patch_size=4), "image patch is 4 in the config and 8"),
        (setting("vision_config", num_channels=1), "image channels is 1 in the config and 3"),
        (
            setting("vision_config", intermediate_size=7),
            "image feed_forward is 7 in the config and 128",
        ),
        (setting("vision_config", num_attention_heads=5), "share its width 32 evenly, 5 came"),
        (setting("vision_config", num_attention_heads="4"), "share its width 32 evenly, '4' came"),
        (setting("vision_config", hidden_act="gelu_new"), "relu, 'gelu_new' came"),
        (setting("vision_config", hidden_act=[]), "relu, [] came"),
        (setting("vision_config", layer_norm_eps="x"), "small positive number, 'x' came"),
        (setting("vision_config", layer_norm_eps=-1.0), "small positive number, -1.0 came"),
        (
            setting("text_config", eos_token_id=[1, 2]),
            "end_of_text is a whole number, 0 or more, [1, 2] came",
        ),
        (
            setting("text_config", eos_token_id=-4),
            "end_of_text is a whole number, 0 or more, -4 came",
        ),
        (lambda config: config | {"projection_dim": 99}, "embed_dim is 99 in the config and 16"),
        (lambda config: config | {"model_type": "siglip"}, "model_type 'clip', 'siglip' came"),
        (
            lambda config: config | {"text_config": 3},
            "text_config is an object of settings, a int came",
        ),
        (lambda config: [], "a JSON object is expected, a list came"),
        (lambda config: {}, "model_type 'clip', None came"),
    ],
)
def test_a_config_that_contradicts_the_arrays_is_refused(settings, said, tmp_path):
    with pytest.raises(CheckpointError) as caught:
        pretrained.load(hugging_face_folder(tmp_path, settings=settings))
    assert said in str(caught.value)


def test_a_folder_without_its_config_says_so(tmp_path):
    hugging_face_folder(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match="model_type 'clip', None came; copy that file too"):
        pretrained.load(tmp_path)


def own(part, **changes):
    return lambda config: config | {part: config[part] | changes}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (own("text", kind="rnn"), "text needs a kind among vit, resnet, transformer, cbow"),
        (own("text", kind=["cbow"]), "text needs a kind"),
        (own("text", flavor=3), "cbow has no setting 'flavor'"),
        (own("text", width=31), "text width is 31 in the config and 32"),
        (own("image", kind="resnet"), "resnet has no setting 'activation'"),
        (own("text", context=None), "the text encoder's context"),
        (own("text", context="12"), "the text encoder's context"),
        (own("image", eps=0), "small positive number, 0 came"),
        (lambda config: {k: v for k, v in config.items() if k != "image"}, "image needs a kind"),
        (
            lambda config: config | {"model_type": "clip"},
            "a model_type of 'tinymm_clip', 'clip' came",
        ),
        (lambda config: config | {"embed_dim": 5}, "embed_dim is 5 in the config and 16"),
    ],
)
def test_our_own_config_is_checked_too(settings, said, tmp_path):
    pretrained.save(model_of(text="cbow"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "tinymm_clip"
    (tmp_path / "config.json").write_text(json.dumps(settings(config)))
    with pytest.raises(CheckpointError) as caught:
        pretrained.load(tmp_path)
    assert said in str(caught.value)


def test_the_default_format_is_the_one_most_programs_open(tmp_path):
    for (image, text), model_type in {
        ("vit", "transformer"): "clip", ("resnet", "transformer"): "tinymm_clip_openai", ("vit", "cbow"): "tinymm_clip",
        ("resnet", "cbow"): "tinymm_clip",
    }.items():  # fmt: skip
        pretrained.save(model_of(image, text), tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["model_type"] == model_type
        assert same(pretrained.load(tmp_path), model_of(image, text))


@pytest.mark.parametrize("form", ["huggingface", "openai", "tinymm"])
def test_a_vit_in_every_format(form, tmp_path):
    pretrained.save(model_of(), tmp_path, form)
    assert same(pretrained.load(tmp_path), model_of())


def test_formats_that_lack_an_encoder_say_so(tmp_path):
    for model, form, said in [
        (model_of("resnet"), "huggingface", 'has no ResNet; use "openai"'),
        (model_of(text="cbow"), "openai", "no bag of words"),
        (model_of(text="cbow"), "huggingface", "no bag of words"),
        (
            model_of(),
            "pytorch",
            "a format is huggingface, huggingface_retrieval, openai, lavis, albef, blip, tinymm, 'pytorch' came",
        ),
    ]:
        with pytest.raises(UsageError, match=said):
            pretrained.save(model, tmp_path, form)
        with pytest.raises(UsageError, match=said):
            pretrained.export(model, form)
    assert not list(tmp_path.iterdir())
    config = CLIPConfig.tiny()
    odd = CLIP(
        replace(config, text=replace(config.text, end_of_text=2)), np.random.default_rng(0)
    )  # 2 means something else there
    with pytest.raises(UsageError, match="eos_token_id 2"):
        pretrained.export(odd, "huggingface")
    pretrained.save(odd, tmp_path)
    assert pretrained.load(tmp_path).config.text.end_of_text == 2


def test_an_interrupted_save_leaves_the_old_folder_whole(tmp_path, monkeypatch):
    pretrained.save(model_of(seed=1), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinymm.pretrained.files.safetensors.os.fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        pretrained.save(model_of(seed=2), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_exported_gradients_leave_out_what_has_none():
    model = model_of()
    assert pretrained.export(model, "openai", gradients=True) == {}
    np.sum(model.encode_text(np.array([[3, 49], [4, 49]]))).backward()
    exported = pretrained.export(model, "huggingface", gradients=True)
    assert exported and not any(key.startswith("vision") for key in exported)
    assert exported["text_projection.weight"].shape == (16, 32)
