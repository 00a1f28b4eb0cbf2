"""Descriptions beside right weights: config.json of every model, open_clip_config.json, and what
says how pictures are prepared. Keys are removed, changed, retyped, renamed, wrapped.

A key that is gone means the default of the class that the config names; a key that means something
and has another value changes the model, or is refused, or named. Which keys mean something, where
they go and what their class assumes stands in `MEANS`: facts of the published classes.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from .cases import Trial
from .checkpoints import models, safetensors
from .mutations import (
    STRANGE,
    at,
    changed_bytes,
    changed_json,
    json_text,
    near,
    parent_of,
    places,
    repeated_key,
)

#: The end of a key's path in a config -> (where the model's config has it, what the class assumes
#: of a file that lacks it). `...` as an assumption: shapes tell, and the file need not.
CLIP_MEANS = {
    "text_config/num_attention_heads": ("text/heads", 8),
    "text_config/hidden_act": ("text/activation", "quick_gelu"),
    "text_config/layer_norm_eps": ("text/eps", 1e-5),
    "text_config/eos_token_id": ("text/end_of_text", 49407),
    "vision_config/num_attention_heads": ("image/heads", 12),
    "vision_config/hidden_act": ("image/activation", "quick_gelu"),
    "vision_config/layer_norm_eps": ("image/eps", 1e-5),
}  # fmt: skip
OPT_MEANS = {
    "num_attention_heads": ("heads", 12), "bos_token_id": ("begin", 2), "eos_token_id": ("end", 2),
    "activation_function": ("activation", "relu"),
}  # fmt: skip
BERT_MEANS = {
    "num_attention_heads": ("heads", 12), "hidden_act": ("activation", "gelu"),
    "layer_norm_eps": ("eps", 1e-12),
}  # fmt: skip
BLIP_MEANS = {
    "text_config/num_attention_heads": ("text/heads", 8),
    "text_config/hidden_act": ("text/activation", "gelu"),
    "text_config/layer_norm_eps": ("text/eps", 1e-12),
    "text_config/bos_token_id": ("decode", 30522),
    "text_config/sep_token_id": ("end_of_text", 102),
    "vision_config/num_attention_heads": ("image/heads", 12),
    "vision_config/hidden_act": ("image/activation", "gelu"),
    "vision_config/layer_norm_eps": ("image/eps", 1e-5),
}  # fmt: skip
BLIP2_MEANS = {
    "vision_config/num_attention_heads": ("image/heads", 16),
    "vision_config/hidden_act": ("image/activation", "gelu"),
    "vision_config/layer_norm_eps": ("image/eps", 1e-6),
    "qformer_config/num_attention_heads": ("qformer/heads", 12),
    "qformer_config/hidden_act": ("qformer/activation", "gelu"),
    "qformer_config/layer_norm_eps": ("qformer/eps", 1e-12),
} | {f"text_config/{key}": (f"language/{ours}", usual) for key,
(ours, usual) in OPT_MEANS.items()}  # fmt: skip
QFORMER_MEANS = {
    "num_attention_heads": ("heads", 12), "hidden_act": ("activation", "gelu"),
    "layer_norm_eps": ("eps", 1e-12),
}  # fmt: skip
OPEN_CLIP_MEANS = {
    "model_cfg/text_cfg/heads": ("text/heads", 8),
    "model_cfg/vision_cfg/head_width": ("image/heads", 64),
    "model_cfg/quick_gelu": ("text/activation", False),
}  # fmt: skip
MEANS: dict[str, dict[str, tuple[str, Any]]] = {
    "clip huggingface": CLIP_MEANS, "clip open_clip": OPEN_CLIP_MEANS, "opt huggingface": OPT_MEANS,
    "bert huggingface": BERT_MEANS,
    "blip huggingface": BLIP_MEANS, "blip huggingface_retrieval": BLIP_MEANS,
    "stage 1 huggingface": BLIP2_MEANS,
    "stage 2 huggingface": BLIP2_MEANS, "q-former huggingface": QFORMER_MEANS,
}  # fmt: skip
#: Settings that change a model's numbers where they differ from what the class assumes, and have no
#: place in ours: any of them must be refused or named, unless it has the value here.
MEANT: dict[str, dict[str, tuple[Any, ...]]] = {
    "opt huggingface": {"do_layer_norm_before": (True,), "enable_bias": (True,),
    "_remove_final_layer_norm": (False,),
                        "layer_norm_elementwise_affine": (True,)},
    "bert huggingface": {"position_embedding_type": ("absolute",), "is_decoder": (False,)},
    "blip huggingface": {"text_config/is_decoder": (True,)},
    "stage 2 huggingface": {"qformer_config/position_embedding_type": ("absolute",),
    "text_config/do_layer_norm_before": (True,)},
    "q-former huggingface": {"position_embedding_type": ("absolute",)},
    "clip open_clip": {
        "model_cfg/text_cfg/no_causal_mask": (False,),
        "model_cfg/text_cfg/pool_type": ("tok", "argmax"),
        "model_cfg/vision_cfg/pool_type": ("tok",), "model_cfg/vision_cfg/no_ln_pre": (False,),
        "model_cfg/vision_cfg/attentional_pool": (False,),
        "model_cfg/text_cfg/proj_bias": (False,), "model_cfg/text_cfg/embed_cls": (False,),
        "model_cfg/text_cfg/ls_init_value": (None,), "model_cfg/vision_cfg/ls_init_value": (None,),
    },
}  # fmt: skip
_OTHER: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("relative_key", "relative_key_query"),
    "pool_type": ("last", "avg", "first", "none"),
    "ls_init_value": (0.1,),
}


@cache
def weights(name: str) -> bytes:
    """Return a model's file of weights."""
    return safetensors(models()[name][0])[0]


@cache
def facts(name: str) -> dict[str, Any]:
    """Return what the unchanged config makes, flattened."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return loaded(_folder(Path(folder), name, json.dumps(models()[name][1]).encode()))[0]


def _folder(folder: Path, name: str, config: bytes) -> Path:
    (folder / "model.safetensors").write_bytes(weights(name))
    (
        folder / ("open_clip_config.json" if name.endswith("open_clip") else "config.json")
    ).write_bytes(config)
    return folder


def loaded(folder: Path) -> tuple[dict[str, Any], Any]:
    """Return the flattened config of the model that a folder holds, and the report of its loading."""
    from tinymm import pretrained

    model, report = pretrained.load_with_report(folder)
    return flat(asdict(model.config)), report


def flat(value: dict[str, Any], lead: str = "") -> dict[str, Any]:
    """Return a nested dictionary as one of paths."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= (
            flat(inner, f"{lead}{key}/") if isinstance(inner, dict) else {f"{lead}{key}": inner}
        )
    return found


def case(rng: random.Random, folder: Path) -> Trial:
    """Return a folder whose description has a few changes, and the call that loads it."""
    if rng.random() < 0.3:
        return preparation(rng, folder)
    names = [name for name, (_, config, _) in models().items() if config]
    name = rng.choice([*names, *MEANS])
    config = json.loads(json.dumps(models()[name][1]))
    means = {key: place for key, place in MEANS.get(name, {}).items() if _has(config, key)}
    how = rng.choices(("mean", "meant", "any", "bytes", "none"), (40, 15, 35, 8, 2))[0]
    how = "any" if how == "mean" and not means or how == "meant" and name not in MEANT else how
    said, expected = name, None
    data = b""
    if how == "mean":
        key = rng.choice(list(means))
        said, expected = f"{name} {changed(rng, config, key)}", (key, means[key])
    elif how == "meant":
        key = rng.choice(list(MEANT[name]))
        last, usual = key.split("/")[-1], MEANT[name][key]
        new = rng.choice(_OTHER.get(last, (not usual[0],)))
        holder = config
        for step in key.split("/")[:-1]:
            holder = holder.setdefault(step, {})
        holder[last] = new
        said, expected = f"{name} {key} = {new!r}", (key, None)
    elif how == "any":
        said = f"{name} {changed_json(rng, config)}"
    data = json_text(rng, config)
    if how == "bytes":
        data, change = (
            repeated_key(rng, data) if rng.random() < 0.2 else changed_bytes(rng, data, 2)
        )
        said = f"{name} {change}"
    _folder(folder, name, data)
    before = facts(name)
    return Trial(
        said, lambda: loaded(folder),
        lambda found: judge(found, before, config, expected) if expected else (),
        valid=how == "none",
    )  # fmt: skip


def _has(config: Any, key: str) -> bool:
    for step in key.split("/"):
        if not isinstance(config, dict) or step not in config:
            return False
        config = config[step]
    return True


def changed(rng: random.Random, config: dict[str, Any], key: str) -> str:
    """Remove a key that means something, or give it another value, in place; return the change in words."""
    path = tuple(key.split("/"))
    holder, last = parent_of(config, path), path[-1]
    how = rng.choice(("remove", "remove", "near", "near", "strange", "null"))
    if how == "remove":
        del holder[last]
        return f"{key} gone"
    old = holder[last]
    if how == "near":
        choices = {
            "hidden_act": ("gelu", "quick_gelu", "relu", "gelu_new", "silu"),
            "activation_function": ("gelu", "relu", "silu"),
        }
        holder[last] = (
            rng.choice(choices[last])
            if last in choices
            else rng.choice((1, 2, 4, 8))
            if "heads" in last
            else near(rng, old)
        )
    else:
        holder[last] = None if how == "null" else rng.choice(STRANGE)
    return f"{key} = {str(holder[last])[:30]!r}"


def judge(
    found: Any, before: dict[str, Any], config: dict[str, Any], expected: tuple
) -> Iterator[str]:
    """Yield what is wrong with the model that a changed description made."""
    now, report = found
    key, place = expected
    last = key.split("/")[-1]
    said = " ".join(str(part) for part in vars(report).values() if isinstance(part, list))
    if last in said:
        return
    if place is None:
        if now == before:
            yield f"ignored: {key} means something, and changes nothing"
        return
    ours, usual = place
    value = at(config, tuple(key.split("/"))) if _has(config, key) else None
    wanted = usual if value is None else value
    if last == "head_width":
        wanted = 32 // wanted if isinstance(wanted, int) and wanted > 0 else wanted
    elif last == "quick_gelu":
        wanted = "quick_gelu" if wanted else "gelu"
    had = now.get(ours, now.get(ours.replace("/eps", "/norm_eps")))
    if ours.split("/")[-1] == "eps" and wanted == 0.0:
        wanted = None  # no norm divides by nothing: refused, or never asked
    if had != wanted and not (last == "eos_token_id" and wanted == 2 and had is None):
        yield f"guessed: {key} means {wanted!r} here, and {ours} is {had!r}"


# ---------------------------------------------------------------------- how pictures are prepared
CLIP_PREPARATION = {
    "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": 32},
    "resample": 3, "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32}, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "do_convert_rgb": True,
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.25],
}  # fmt: skip
#: What CLIPImageProcessor assumes of a file that lacks the key, as far as ours can say it.
ASSUMED = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711), "resample": "bicubic",
    "do_center_crop": "shorter_side",
}  # fmt: skip
FIELD = {
    "image_mean": "mean",
    "image_std": "std",
    "resample": "interpolation",
    "do_center_crop": "resize",
}
FILTERS = dict(enumerate(("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")))


def preparation(rng: random.Random, folder: Path) -> Trial:
    """Return a CLIP's folder whose preprocessor_config.json, or processor_config.json, has a change."""
    settings = json.loads(json.dumps(CLIP_PREPARATION))
    key = rng.choice(list(settings))
    how = rng.choice(("remove", "change", "any", "bytes", "none"))
    said = f"preparation {how} {key}"
    if how == "remove":
        del settings[key]
    elif how == "change":
        settings[key] = _other(rng, key, settings[key])
        said += f" {settings[key]}"
    elif how == "any":
        said += " " + changed_json(rng, settings, places(settings))
    nested = rng.random() < 0.3
    value = (
        {"image_processor": settings, "processor_class": "CLIPProcessor"} if nested else settings
    )
    data = json_text(rng, value)
    if how == "bytes":
        data, change = changed_bytes(rng, data, 2)
        said += change
    _folder(folder, "clip huggingface", json.dumps(models()["clip huggingface"][1]).encode())
    (folder / ("processor_config.json" if nested else "preprocessor_config.json")).write_bytes(data)
    words(folder)

    def act() -> Any:
        from tinymm.workflows.open_model import open_model

        return open_model(str(folder)).preprocess

    return Trial(
        f"{said}{' in processor_config.json' if nested else ''}", act,
        lambda found: prepared(found, settings) if how in ("none", "remove", "change") else (),
        valid=how == "none",
    )  # fmt: skip


def words(folder: Path) -> None:
    """Write a tokenizer of ours into the folder."""
    from tinymm.data.text import WordTokenizer

    WordTokenizer(tuple(f"w{i}" for i in range(47)), context=12).save(folder)


def _other(rng: random.Random, key: str, old: Any) -> Any:
    choices: dict[str, tuple] = {
        "size": ({"shortest_edge": 40}, 32, 40, {"height": 32, "width": 32},
        {"height": 32, "width": 40}, [32, 32], {"longest_edge": 32}),
        "crop_size": (32, {"height": 24, "width": 24}, {"height": 32, "width": 24}, [32, 32]),
        "resample": (0, 1, 2, 4, 5, "bicubic"),
        "rescale_factor": (1 / 127.5, 1.0, 0),
        "image_processor_type": ("ViTImageProcessor", "SiglipImageProcessor", "x"),
        "image_mean": ([0, 0, 0], [0.5], 0.5, [0.5, 0.5, 0.5, 0.5], ["a", "b", "c"]),
        "image_std": ([1, 1, 1], [0, 1, 1], [0.5], 0.5, [-1, 1, 1]),
    }  # fmt: skip
    return rng.choice(choices[key]) if key in choices else not old


def prepared(found: Any, settings: dict[str, Any]) -> Iterator[str]:
    """Yield where a preparation says something else than the file, or than the class assumes where the file says nothing."""
    plain = settings.get("do_rescale", True) is True and settings.get("do_normalize", True) is True
    plain = plain and settings.get("rescale_factor", 1 / 255) == 1 / 255
    for key, field in FIELD.items():
        if key.startswith("image_") and not plain:
            continue  # other numbers then say the same
        if key not in settings:
            wanted: Any = ASSUMED[key]
        elif key == "resample":
            wanted = FILTERS.get(settings[key]) if isinstance(settings[key], int) else settings[key]
        elif key == "do_center_crop":
            # both sides said, both are made so, and the crop has nothing left to cut
            size = settings.get("size")
            both = isinstance(size, list) or isinstance(size, dict) and "height" in size
            wanted = "shorter_side" if settings[key] and not both else "square"
        else:
            wanted = (
                tuple(settings[key]) if isinstance(settings[key], list) else (settings[key],) * 3
            )
        had = getattr(found, field)
        same = (
            tuple(had) == tuple(wanted)
            if isinstance(had, tuple) and isinstance(wanted, tuple)
            else had == wanted
        )
        if not same:
            yield f"guessed: {key} means {wanted!r} here, and {field} is {had!r}"
