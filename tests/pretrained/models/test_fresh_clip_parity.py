"""Fresh random CLIPs of transformers and open_clip in every form that people save them in: agree, or a sentence; never something else in silence.

`python tests/pretrained/models/test_fresh_clip_parity.py` prints the counts. Three seeds, float64
(1e-9) and float32 (5e-5); quantities are the features of pictures and of texts, and the logits.
open_clip's cases need open_clip_torch 3.3.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tinymm import pretrained
from tinymm.arrays.errors import TinymmError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
try:
    from open_clip import model as open_clip
except (ImportError, RuntimeError):
    open_clip = None
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
SEEDS, TOLERANCE = (0, 1, 2), {"float64": 1e-9, "float32": 5e-5}
END, VOCABULARY, CONTEXT = 49, 50, 12


def randomized(model, seed):
    """Return the model with every number random: fresh biases and gains hide faults."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for key, value in [
            *model.named_parameters(),
            *(pair for pair in model.named_buffers() if "running" in pair[0]),
        ]:
            if value.dtype.is_floating_point and value.ndim:
                center = (
                    1.0
                    if "norm" in key
                    or "ln_" in key
                    or "bn" in key
                    or "downsample.1" in key
                    or "running_var" in key
                    else 0.0
                )
                numbers = center + 0.3 * rng.normal(size=value.shape)
                value.copy_(
                    torch.tensor(np.abs(numbers) if "running_var" in key else numbers).float()
                )
    return model.double().eval()


def batch(side, channels, seed, end=END):
    rng = np.random.default_rng(100 + seed)
    ids = rng.integers(3, END - 1, (3, CONTEXT))
    for row, place in enumerate((4, CONTEXT - 1, 2)):
        ids[row, place], ids[row, place + 1 :] = end, 0
    return rng.normal(size=(3, side, side, channels)).astype(np.float32), ids


def outcome(path, right, images, ids, dtype, **options):
    """Return "agrees", "refused" or "wrong" for each quantity of a file."""
    try:
        ours = pretrained.load(path, dtype=dtype, **options)
        pictures = images[:, : ours.config.image.resolution, : ours.config.image.resolution].astype(
            dtype
        )
        found = [
            ours.encode_image(pictures, normalize=False).data,
            ours.encode_text(ids, normalize=False).data,
            ours.logits(pictures, ids).data,
        ]
    except TinymmError as problem:
        assert "\n" not in str(problem) and len(str(problem)) > 20
        return ["refused"] * len(right)
    close = (
        float(np.abs(a - b).max() / np.abs(b).max()) < TOLERANCE[dtype]
        for a, b in zip(found, right, strict=True)
    )
    return ["agrees" if near else "wrong" for near in close]


# ---------------------------------------------------------------------- transformers
def hugging_face(seed, **changes):
    """Return a random CLIPModel, its numbers on a batch, and the batch."""
    rng = np.random.default_rng(seed)
    heads, patch = int(rng.integers(1, 5)), int(rng.choice([4, 8]))
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 8 * 5,
        "intermediate_size": 72,
        "num_hidden_layers": int(rng.integers(1, 4)),
        "num_attention_heads": int(rng.choice([1, 2, 4, 8])),
        "max_position_embeddings": CONTEXT,
        "eos_token_id": [END, END, 2][seed % 3],
        "bos_token_id": 1,
        "pad_token_id": 0,
        "hidden_act": str(rng.choice(["gelu", "quick_gelu", "relu"])),
        "layer_norm_eps": 1e-3,
    }
    vision = {
        "hidden_size": 12 * heads,
        "intermediate_size": 50,
        "num_hidden_layers": int(rng.integers(1, 4)),
        "num_attention_heads": heads,
        "image_size": 24 + seed,
        "patch_size": patch,
        "num_channels": 3,
        "hidden_act": str(rng.choice(["gelu", "quick_gelu", "relu"])),
    }
    text, vision = text | changes.get("text", {}), vision | changes.get("vision", {})
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    model = randomized(
        transformers.CLIPModel._from_config(config, attn_implementation="sdpa"), seed
    )
    images, ids = batch(config.vision_config.image_size, config.vision_config.num_channels, seed)
    with torch.no_grad():
        pixels = torch.tensor(images).double().permute(0, 3, 1, 2)
        out = model(input_ids=torch.tensor(ids), pixel_values=pixels)
        right = [
            model.get_image_features(pixel_values=pixels),
            model.get_text_features(input_ids=torch.tensor(ids)),
        ]
        right = [getattr(value, "pooler_output", value).numpy() for value in right] + [
            out.logits_per_image.numpy()
        ]
    return model, right, images, ids


def prefixed(*parts):
    return lambda state: {
        "".join(f"{part}." for part in parts) + key: value for key, value in state.items()
    }


def half_prefixed(state):
    return {
        (f"module.{key}" if number % 2 else key): value
        for number, (key, value) in enumerate(state.items())
    }


WRAPPERS = {
    "plain": lambda state: state,
    "module": prefixed("module"),
    "_orig_mod": prefixed("_orig_mod"),
    "module._orig_mod": prefixed("module", "_orig_mod"),
    "_orig_mod.module": prefixed("_orig_mod", "module"),
    "model": prefixed("model"),
    "model.module": prefixed("model", "module"),
    "module.model._orig_mod": prefixed("module", "model", "_orig_mod"),
    "half of the keys": half_prefixed,
    "a compiled part": lambda state: {
        key.replace("text_model.", "text_model._orig_mod."): value for key, value in state.items()
    },
    "averaged": lambda state: {"n_averaged": torch.tensor(5), **prefixed("module")(state)},
    "state_dict": lambda state: {
        "epoch": 3,
        "best_acc1": torch.tensor(77.3),
        "state_dict": state,
        "optimizer": {"state": {0: torch.zeros(3)}},
    },
    "model.state_dict": lambda state: {
        "rng_state": torch.zeros(16, dtype=torch.uint8),
        "model": {"state_dict": prefixed("module")(state), "step": 1},
    },
    "averages beside": lambda state: {
        "state_dict": state,
        "ema": {key: 2 * value for key, value in state.items()},
    },
    "averages alone": lambda state: {
        "ema_state_dict": {"num_updates": torch.tensor(3), **prefixed("module")(state)}
    },
}


def cases_of_hugging_face(seed, folder):
    """Yield (what, outcome must be "agrees", "refused" or either, path, options, right, images, ids)."""
    model, right, images, ids = hugging_face(seed)
    model.save_pretrained(folder / "folder")
    config = json.loads((folder / "folder" / "config.json").read_text())
    state = model.state_dict()
    known = {
        "image": model.config.vision_config.num_attention_heads,
        "text": model.config.text_config.num_attention_heads,
    }

    def written(name, content, said=config, file="pytorch_model.bin", **beside):
        place = folder / name.replace(" ", "-").replace("/", "-")
        place.mkdir(exist_ok=True)
        torch.save(content, place / file)
        if said is not None:
            (place / "config.json").write_text(json.dumps(said))
        for other, text in beside.items():
            (place / f"{other}.json").write_text(json.dumps(text))
        return place

    yield "safetensors", "agrees", folder / "folder", {}, right, images, ids
    model.save_pretrained(folder / "sharded", max_shard_size="20KB")
    yield "sharded", "agrees", folder / "sharded", {}, right, images, ids
    for name, wrap in WRAPPERS.items():
        place = written(name, wrap(dict(state)))
        yield f"bin, {name}", "agrees", place, {}, right, images, ids
        yield f"file, {name}", "agrees", place / "pytorch_model.bin", {}, right, images, ids
    open_clip_says = {
        "model_cfg": {"embed_dim": 3, "vision_cfg": {"width": 7}, "text_cfg": {}},
        "preprocess_cfg": {"mean": [0.5] * 3},
    }
    yield (
        "open_clip's description beside",
        "agrees",
        written("beside", state, open_clip_config=open_clip_says),
        {},
        right,
        images,
        ids,
    )
    yield (
        "no config",
        "refused",
        written("bare", state, None),
        {"heads": known, "activation": "gelu"},
        right,
        images,
        ids,
    )
    doubled = state | {f"module.{key}": 2 * value for key, value in state.items()}
    yield "two models in one", "refused", written("doubled", doubled), {}, right, images, ids
    twice = prefixed("student")(state) | prefixed("teacher")(
        {key: 2 * value for key, value in state.items()}
    )
    yield "two parts", "refused", written("twice", twice), {}, right, images, ids
    yield (
        "one part of more",
        "agrees",
        written("part", prefixed("clip")(state) | {"head.weight": torch.ones(2, 2)}),
        {},
        right,
        images,
        ids,
    )
    for part, key, value in (
        ("text_config", "hidden_act", "gelu_new"),
        ("vision_config", "hidden_act", "silu"),
        ("text_config", "num_attention_heads", None),
        ("text_config", "model_type", "siglip_text_model"),
        ("vision_config", "model_type", "siglip_vision_model"),
        ("text_config", "eos_token_id", [END, 3]),
        ("vision_config", "image_size", [24, 16]),
        ("text_config", "pruned_heads", {"0": [1]}),
        ("vision_config", "hidden_size", 1),
        ("text_config", "layer_norm_eps", None),
    ):
        said = config | {part: config[part] | {key: value}}
        yield (
            f"{part} {key} {value}",
            "refused",
            written(f"{part}{key}", state, said),
            {},
            right,
            images,
            ids,
        )
    yield (
        "quantized",
        "refused",
        written("quantized", state, config | {"quantization_config": {"load_in_8bit": True}}),
        {},
        right,
        images,
        ids,
    )
    yield (
        "another model_type",
        "refused",
        written("type", state, config | {"model_type": "siglip"}),
        {},
        right,
        images,
        ids,
    )
    yield (
        "an adapter",
        "refused",
        written("adapter", state, adapter_config={"r": 8}),
        {},
        right,
        images,
        ids,
    )
    whole = {
        key: (value * 10).to(torch.int8) if key.endswith("fc1.weight") else value
        for key, value in state.items()
    }
    yield "whole numbers", "refused", written("whole", whole), {}, right, images, ids


def cases_of_defaults(seed, folder):
    """Yield folders whose config.json leaves out what its classes assume, as transformers opens them."""
    for number, (text, vision) in enumerate(
        (({}, {}), ({"hidden_act": "gelu"}, {"layer_norm_eps": 1e-4}))
    ):
        model, right, images, ids = hugging_face(
            seed,
            text={
                "num_attention_heads": 8,
                "hidden_size": 64,
                "hidden_act": "quick_gelu",
                "layer_norm_eps": 1e-5,
                "eos_token_id": END,
            }
            | text,
            vision={
                "num_attention_heads": 12,
                "hidden_size": 48,
                "hidden_act": "quick_gelu",
                "layer_norm_eps": 1e-5,
            }
            | vision,
        )
        place = folder / f"defaults-{number}"
        model.save_pretrained(place)
        config = json.loads((place / "config.json").read_text())
        for part, kept in (("text_config", text), ("vision_config", vision)):
            for key in ("num_attention_heads", "hidden_act", "layer_norm_eps"):
                if key not in kept:
                    config[part].pop(key, None)
        for version in ("4.20.0", "4.47.1", "5.23.0"):
            (place / "config.json").write_text(
                json.dumps(config | {"transformers_version": version})
            )
            yield f"defaults of {version}", "agrees", place, {}, right, images, ids
        repeated = config | {
            "text_config_dict": config["text_config"],
            "text_config": {"hidden_act": "relu", "num_attention_heads": 2},
        }
        (place / "config.json").write_text(json.dumps(repeated))
        yield "text_config_dict", "agrees", place, {}, right, images, ids


def cases_of_resolutions(seed, folder):
    """Yield models that are opened for pictures of another size, beside interpolate_pos_encoding."""
    model, _, _, _ = hugging_face(seed, vision={"image_size": 24, "patch_size": 4})
    model.save_pretrained(folder / "resized")
    for side in (12, 20, 32, 48):
        images, ids = batch(side, 3, seed)
        with torch.no_grad():
            pixels = torch.tensor(images).double().permute(0, 3, 1, 2)
            image = model.get_image_features(pixel_values=pixels, interpolate_pos_encoding=True)
            text = model.get_text_features(input_ids=torch.tensor(ids))
            out = model(
                input_ids=torch.tensor(ids), pixel_values=pixels, interpolate_pos_encoding=True
            )
        right = [getattr(value, "pooler_output", value).numpy() for value in (image, text)] + [
            out.logits_per_image.numpy()
        ]
        yield (
            f"resolution {side}",
            "agrees",
            folder / "resized",
            {"resolution": side},
            right,
            images,
            ids,
        )


# ---------------------------------------------------------------------- open_clip
PLAIN = {
    "as it comes": {},
    "QuickGELU": {"quick_gelu": True},
    "own text tower": {"custom_text": True},
    "SigLIP's bias": {"init_logit_bias": -10.0},
    "bias with an axis": {
        "init_logit_bias": -10.0,
        "nonscalar_logit_scale": True,
        "custom_text": True,
    },
    "scale with an axis": {"nonscalar_logit_scale": True},
    "list of sides": {"vision": {"image_size": [32, 32]}},
    "eps": {"vision": {"norm_kwargs": {"eps": 1e-3}}, "text": {"norm_kwargs": {"eps": 1e-2}}},
    "eos": {"text": {"pool_type": "eos", "eos_id": END}},
    "exact GELU said": {"vision": {"act_kwargs": {"approximate": "none"}}},
    "narrow layers": {"vision": {"mlp_ratio": 2.5}, "text": {"mlp_ratio": 1.5}},
    "patch dropout": {"vision": {"patch_dropout": 0.5}},
    "norm after pooling": {"vision": {"final_ln_after_pool": True}},
    "sine positions": {"vision": {"pos_embed_type": "sin_cos_2d"}},
    "their other block": {"vision": {"block_type": "custom"}, "text": {"block_type": "custom"}},
    "ResNet": {"vision": {"layers": [1, 2, 1, 1], "width": 16, "head_width": 64}},
    "ResNet, QuickGELU": {
        "quick_gelu": True,
        "vision": {"layers": [1, 1, 1, 1], "width": 16, "head_width": 32},
    },
}
OTHER = {
    "tanh in pictures": {"vision": {"act_kwargs": {"approximate": "tanh"}}},
    "tanh in texts": {"text": {"act_kwargs": {"approximate": "tanh"}}},
    "no norm before": {"vision": {"no_ln_pre": True}},
    "layer scale": {"vision": {"ls_init_value": 0.1}},
    "layer scale of texts": {"text": {"ls_init_value": 0.1}},
    "mean of patches": {"vision": {"pool_type": "avg"}},
    "mean, then norm": {"vision": {"pool_type": "avg", "final_ln_after_pool": True}},
    "attention pool": {
        "vision": {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2}
    },
    "norms of queries": {"vision": {"qk_norm": True}},
    "scaled heads": {"vision": {"scale_heads": True}},
    "norm inside": {"text": {"scale_attn_inner": True}},
    "norm behind": {"text": {"scale_attn": True}},
    "norm in the MLP": {"vision": {"scale_fc": True}},
    "no causal mask": {"text": {"no_causal_mask": True}},
    "first token": {"text": {"pool_type": "first"}},
    "last token": {"text": {"pool_type": "last"}},
    "class token of texts": {"custom_text": True, "text": {"embed_cls": True}},
    "biased projection": {"custom_text": True, "text": {"proj_bias": True}},
    "another eos": {"text": {"pool_type": "eos", "eos_id": 48}},
}


def their_clip(seed, changes):
    """Return a random open_clip model, its model_cfg, its numbers on a batch, and the batch."""
    rng = np.random.default_rng(seed)
    vision = {
        "image_size": 32,
        "layers": int(rng.integers(1, 4)),
        "width": 64,
        "patch_size": 8,
        "head_width": int(rng.choice([8, 16, 32])),
    }
    text = {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": 48,
        "heads": int(rng.choice([1, 2, 4])),
        "layers": int(rng.integers(1, 4)),
    }
    config = {
        "embed_dim": 20,
        "vision_cfg": vision | changes.get("vision", {}),
        "text_cfg": text | changes.get("text", {}),
    }
    config |= {key: value for key, value in changes.items() if key not in ("vision", "text")}
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    built = {key: value for key, value in config.items() if key != "custom_text"}
    model = randomized(kind(**json.loads(json.dumps(built))), seed)
    images, ids = batch(32, 3, seed)
    return model, config, numbers_of(model, images, ids), images, ids


def numbers_of(model, images, ids):
    with torch.no_grad():
        pixels = torch.tensor(images).double().permute(0, 3, 1, 2)
        image, text = model.encode_image(pixels), model.encode_text(torch.tensor(ids))
        return [
            value.numpy() for value in (image, text, model.get_logits(pixels, torch.tensor(ids))[0])
        ]


def cases_of_open_clip(seed, folder):
    for number, (name, changes) in enumerate([*PLAIN.items(), *OTHER.items()]):
        model, config, right, images, ids = their_clip(seed, changes)
        must = "agrees" if name in PLAIN else "refused"
        place = folder / f"open-{number}"
        place.mkdir()
        torch.save(
            {"epoch": 3, "name": "x", "state_dict": prefixed("module")(model.state_dict())},
            place / "epoch_3.pt",
        )
        bent = "quick_gelu" if config.get("quick_gelu") else "gelu"
        resnet = isinstance(config["vision_cfg"]["layers"], list)
        width = config["vision_cfg"]["width"] * (32 if resnet else 1)
        told = {
            "activation": bent,
            "heads": {
                "image": width // config["vision_cfg"]["head_width"],
                "text": config["text_cfg"]["heads"],
            },
        }
        yield f"{name}, bare", "refused", place / "epoch_3.pt", {}, right, images, ids
        if name in (
            "as it comes",
            "QuickGELU",
            "own text tower",
            "SigLIP's bias",
            "ResNet",
            "scale with an axis",
            "bias with an axis",
        ):
            yield f"{name}, bare and told", "agrees", place / "epoch_3.pt", told, right, images, ids
        (place / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": config, "preprocess_cfg": {}})
        )
        yield f"{name}, described", must, place, {}, right, images, ids
        yield f"{name}, file", must, place / "epoch_3.pt", {}, right, images, ids
        theirs = {
            "model_type": "clip",
            "projection_dim": 20,
            "vision_config": {"num_attention_heads": 1},
            "text_config": {},
        }
        (place / "config.json").write_text(json.dumps(theirs))
        yield f"{name}, another description beside", must, place, {}, right, images, ids
        if name in ("as it comes", "QuickGELU"):
            for side in (16, 24, 48, 64):
                larger = {**config, "vision_cfg": {**config["vision_cfg"], "image_size": side}}
                resized = open_clip.CLIP(**larger).double().eval()
                state = dict(model.state_dict())
                open_clip.resize_pos_embed(state, resized)
                resized.load_state_dict(state)
                pictures, words = batch(side, 3, seed)
                yield (
                    f"{name}, resolution {side}",
                    "agrees",
                    place,
                    {"resolution": side},
                    numbers_of(resized, pictures, words),
                    pictures,
                    words,
                )
            (place / "open_clip_config.json").unlink()
            heads = {"image": told["heads"]["image"], "text": told["heads"]["text"]}
            theirs["vision_config"] = {"num_attention_heads": heads["image"], "hidden_act": bent}
            theirs["text_config"] = {
                "num_attention_heads": heads["text"],
                "hidden_act": bent,
                "eos_token_id": END,
            }
            (place / "config.json").write_text(json.dumps(theirs))
            yield f"{name}, transformers' description only", "agrees", place, {}, right, images, ids
    misspelled = {"model_cfg": {**config, "vision_cfg": {**config["vision_cfg"], "head_with": 8}}}
    (place / "open_clip_config.json").write_text(json.dumps(misspelled))
    yield "a misspelled key", "refused", place, {}, right, images, ids


GROUPS = [cases_of_hugging_face, cases_of_defaults, cases_of_resolutions] + (
    [cases_of_open_clip] if open_clip else []
)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "group", GROUPS, ids=lambda group: group.__name__.removeprefix("cases_of_")
)
def test_agrees_or_is_refused(group, seed, tmp_path):
    for name, must, path, options, right, images, ids in group(seed, tmp_path):
        for dtype in TOLERANCE:
            assert outcome(path, right, images, ids, dtype, **options) == [must] * len(right), (
                name,
                dtype,
            )


if __name__ == "__main__":
    counts: Counter = Counter()
    for group in GROUPS:
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                for name, must, path, options, right, images, ids in group(seed, Path(folder)):
                    for dtype in TOLERANCE:
                        found = outcome(path, right, images, ids, dtype, **options)
                        counts.update((group.__name__, kind) for kind in found)
                        if found != [must] * len(right):
                            print(
                                f"{group.__name__} seed {seed} {dtype}: {name}: {found}, and {must} is due"
                            )
    for (group, kind), count in sorted(counts.items()):
        print(f"{group:26} {kind:8} {count:6,}")
    totals = {
        kind: sum(count for (_, found), count in counts.items() if found == kind)
        for kind in ("agrees", "refused", "wrong")
    }
    print(", ".join(f"{kind}: {count:,}" for kind, count in totals.items()))
    sys.exit(totals["wrong"] > 0)
