"""transformers' CLIPModel and ours on the same tiny random weights: its folders opened here, ours opened there."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tinymm import pretrained, tasks
from tinymm.models.clip import CLIP, CLIPConfig

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TEXT = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 12, "eos_token_id": 49, "bos_token_id": 48, "pad_token_id": 0, "projection_dim": 20,
}  # fmt: skip
VISION = {
    "hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 3, "image_size": 24, "patch_size": 8,
    "projection_dim": 20,
}  # fmt: skip
CONFIGS = {
    "as released": ({}, {}),
    "legacy end of text": ({"eos_token_id": 2}, {}),
    "exact gelu": ({"hidden_act": "gelu"}, {"hidden_act": "gelu"}),
    "two activations": (
        {"hidden_act": "gelu"},
        {"hidden_act": "quick_gelu", "num_attention_heads": 6},
    ),
    "eps": ({"layer_norm_eps": 1e-2}, {"layer_norm_eps": 1e-6}),
    "gray pictures": (
        {"eos_token_id": 5},
        {"num_channels": 1, "patch_size": 4, "intermediate_size": 40},
    ),
}


def theirs(name, dtype=None, seed=0):
    """Return a CLIPModel of which every parameter is random: default initialization has zero biases and gains of one, which hide faults."""
    text, vision = CONFIGS[name]
    config = transformers.CLIPConfig(
        text_config=TEXT | text, vision_config=VISION | vision, projection_dim=20
    )
    model = (
        transformers.CLIPModel._from_config(config, attn_implementation="sdpa")
        .to(dtype or torch.float64)
        .eval()
    )
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            center = (
                1.0
                if key.endswith(
                    (
                        "norm1.weight",
                        "norm2.weight",
                        "layernorm.weight",
                        "layrnorm.weight",
                        "layer_norm.weight",
                    )
                )
                else 0.0
            )
            numbers = center + 0.3 * rng.normal(size=parameter.shape)
            parameter.copy_(
                torch.tensor(numbers.astype(np.float32))
            )  # the same numbers in both precisions
        model.logit_scale.fill_(1.25)
    return model


def batch(model, seed=1):
    rng = np.random.default_rng(seed)
    vision, text = model.config.vision_config, model.config.text_config
    images = rng.normal(size=(5, vision.image_size, vision.image_size, vision.num_channels))
    ids = rng.integers(6, 48, size=(5, 12))
    end = 49 if text.eos_token_id == 2 else text.eos_token_id
    for row, place in enumerate((3, 11, 0, 7, 5)):
        ids[row, place] = end
        ids[row, place + 1 :] = end if row % 2 else 0  # both ways of padding; the first end counts
    return images, ids


def features(model, images, ids):
    pixels = torch.tensor(images).permute(0, 3, 1, 2).to(model.dtype)
    image = model.get_image_features(pixel_values=pixels).pooler_output
    text = model.get_text_features(input_ids=torch.tensor(ids)).pooler_output
    return image, text, model(input_ids=torch.tensor(ids), pixel_values=pixels, return_loss=True)


def off(found, right):
    right = right.detach().double().numpy()
    return float(np.abs(found - right).max() / np.abs(right).max())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CONFIGS)
def test_features_logits_loss_and_all_gradients(name, dtype, tmp_path):
    model, tolerance = theirs(name), {"float64": 1e-9, "float32": 2e-5}[dtype]
    images, ids = batch(model)
    image, text, output = features(model, images, ids)
    output.loss.backward()
    model.save_pretrained(tmp_path)

    ours = pretrained.load(tmp_path, dtype=dtype)
    pictures = images.astype(dtype)
    assert off(ours.encode_image(pictures, normalize=False).data, image) < tolerance
    assert off(ours.encode_text(ids, normalize=False).data, text) < tolerance
    assert off(ours.logits(pictures, ids).data, output.logits_per_image) < tolerance
    loss = tasks.losses(ours, pictures, ids)["itc"]
    assert off(loss.data, output.loss) < tolerance
    loss.backward()
    found = pretrained.export(ours, "huggingface", gradients=True)
    right = {key: parameter.grad for key, parameter in model.named_parameters()}
    assert found.keys() == right.keys()
    largest = max(float(gradient.abs().max()) for gradient in right.values())
    for key, gradient in right.items():
        if key.endswith(
            "k_proj.bias"
        ):  # zero but for rounding: a softmax does not see what is added to all of its scores
            assert (
                np.abs(found[key]).max() < 1e-5 * largest
                if dtype == "float32"
                else np.abs(found[key]).max() < 1e-13 * largest
            )
        else:
            assert off(found[key], gradient) < tolerance, key


@pytest.mark.parametrize(
    "kind", ["float16", "bfloat16", "sharded", "bin", "sharded bin", "jumbled old config"]
)
def test_every_form_of_folder(kind, tmp_path):
    model = theirs("as released", torch.float32)
    images, ids = batch(model)
    if kind in ("float16", "bfloat16"):
        model = model.to(getattr(torch, kind))
    model.save_pretrained(tmp_path, **({"max_shard_size": "40KB"} if "sharded" in kind else {}))
    if "bin" in kind:
        state = model.state_dict()
        state["text_model.embeddings.position_ids"] = torch.arange(12)[None]
        (tmp_path / "model.safetensors").unlink(missing_ok=True)
        for path in tmp_path.glob("*.safetensors*"):
            path.unlink()
        if kind == "bin":
            torch.save(state, tmp_path / "pytorch_model.bin")
        else:
            halves = [dict(list(state.items())[::2]), dict(list(state.items())[1::2])]
            for number, half in enumerate(halves):
                torch.save(half, tmp_path / f"pytorch_model-{number}.bin")
            places = {
                key: f"pytorch_model-{number}.bin"
                for number, half in enumerate(halves)
                for key in half
            }
            (tmp_path / "pytorch_model.bin.index.json").write_text(
                json.dumps({"weight_map": places})
            )
    if kind == "sharded":
        assert len(list(tmp_path.glob("*.safetensors"))) > 2
    if kind == "jumbled old config":
        config = json.loads((tmp_path / "config.json").read_text())
        config["text_config_dict"], config["text_config"] = (
            config["text_config"],
            {"vocab_size": 1, "num_attention_heads": 1},
        )
        config["vision_config_dict"] = None
        (tmp_path / "config.json").write_text(json.dumps(config))
    ours, report = pretrained.load_with_report(tmp_path)
    assert report.ignored == (["text_model.embeddings.position_ids"] if "bin" in kind else [])
    image, text, _ = features(model.to(torch.float32), images, ids)
    assert off(ours.encode_image(images.astype(np.float32), normalize=False).data, image) < 2e-5
    assert off(ours.encode_text(ids, normalize=False).data, text) < 2e-5


@pytest.mark.parametrize("heads", [(8, 12), (4, 3)])
def test_settings_that_a_config_omits_are_those_that_transformers_assumes(heads, tmp_path):
    theirs("as released").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for part, count in zip(("text_config", "vision_config"), heads, strict=True):
        for key in ("hidden_act", "layer_norm_eps", "eos_token_id", "num_attention_heads"):
            config[part].pop(key, None)
        if heads == (4, 3):
            config[part]["num_attention_heads"] = count
    (tmp_path / "config.json").write_text(json.dumps(config))
    their_config = transformers.CLIPConfig.from_pretrained(tmp_path)
    ours = pretrained.load(tmp_path).config
    for mine, other in (
        (ours.text, their_config.text_config),
        (ours.image, their_config.vision_config),
    ):
        assert (mine.heads, mine.activation, mine.eps) == (
            other.num_attention_heads,
            other.hidden_act,
            other.layer_norm_eps,
        )
    assert ours.text.end_of_text == their_config.text_config.eos_token_id


OURS = {
    "tiny": {},
    "argmax": {"text": {"end_of_text": None}},
    "gelu, gray, own widths": {
        "image": {"activation": "gelu", "channels": 1, "feed_forward": 40, "eps": 1e-6},
        "text": {"activation": "relu", "feed_forward": 24, "eps": 1e-3, "heads": 8},
    },
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", OURS)
def test_transformers_opens_what_we_save(name, dtype, tmp_path):
    config = CLIPConfig.tiny()
    changes = OURS[name]
    config = replace(
        config,
        image=replace(config.image, **changes.get("image", {})),
        text=replace(config.text, **changes.get("text", {})),
    )
    rng = np.random.default_rng(3)
    ours = CLIP(config, rng).astype(dtype)
    ours.load_state_dict(
        {
            key: value + 0.3 * rng.normal(size=value.shape)
            for key, value in ours.state_dict().items()
        }
    )
    pretrained.save(ours.eval(), tmp_path)
    model, report = transformers.CLIPModel.from_pretrained(
        tmp_path, attn_implementation="sdpa", dtype=getattr(torch, dtype), output_loading_info=True
    )
    assert not any(report.values()), report
    assert transformers.CLIPModel.from_pretrained(tmp_path).dtype == getattr(torch, dtype)
    images = rng.normal(size=(4, 32, 32, config.image.channels)).astype(dtype)
    ids = np.array([[3, 4, 49, 0, 0], [5, 49, 0, 0, 0], [6, 7, 8, 9, 49], [49, 0, 0, 0, 0]])
    with torch.no_grad():
        image, text, output = features(model.eval(), images, ids)
    tolerance = {"float64": 1e-9, "float32": 2e-5}[dtype]
    assert off(ours.encode_image(images, normalize=False).data, image) < tolerance
    assert off(ours.encode_text(ids, normalize=False).data, text) < tolerance
    assert off(ours.logits(images, ids).data, output.logits_per_image) < tolerance
