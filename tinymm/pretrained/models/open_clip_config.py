"""What open_clip_config.json says of a model (`model_cfg`), in our words: every key is used, known not to matter, or refused by name.

Keys and defaults are those of open_clip 3 (`open_clip/model.py`: CLIPVisionCfg, CLIPTextCfg, CLIP).
A key that is left out has its default there.
"""

from pathlib import Path
from typing import Any

from tinymm.arrays.errors import CheckpointError

from ..files.safetensors import read_json

_NAME = "open_clip_config.json"
_CUSTOM = dict.fromkeys(
    ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"),
    (False, None),
)
# Key → the values that ask for nothing else than CLIP's own encoders.
_MODEL_PLAIN: dict[str, tuple] = {"multimodal_cfg": (None,)}
_VISION_PLAIN: dict[str, tuple] = _CUSTOM | {
    "timm_model_name": (None, ""), "ls_init_value": (None,), "attentional_pool": (False, None), "no_ln_pre": (False,),
    "pos_embed_type": ("learnable", "sin_cos_2d"), "pool_type": ("tok",), "block_type": (None, "default", "custom"),
}  # fmt: skip
_TEXT_PLAIN: dict[str, tuple] = _CUSTOM | {
    "hf_model_name": (None, ""), "ls_init_value": (None,), "embed_cls": (False, None), "no_causal_mask": (False, None),
    "proj_bias": (False, None), "proj_type": ("linear",), "pool_type": ("argmax", "eos"), "block_type": (None, "default", "custom"),
}  # fmt: skip
# Used below.
_MODEL_USED = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
_VISION_USED = {
    "layers",
    "width",
    "head_width",
    "mlp_ratio",
    "patch_size",
    "image_size",
    "act_kwargs",
    "norm_kwargs",
}
_TEXT_USED = {
    "context_length",
    "vocab_size",
    "width",
    "heads",
    "layers",
    "mlp_ratio",
    "eos_id",
    "act_kwargs",
    "norm_kwargs",
}
# They change no feature: beginnings, what only training or another class sees, the order of a norm
# and the choice of one token; the tokenizer's own settings are read with the tokenizer.
_MODEL_HARMLESS = {
    "init_logit_scale",
    "init_logit_bias",
    "nonscalar_logit_scale",
    "custom_text",
    "cast_dtype",
    "output_dict",
}
_VISION_HARMLESS = {
    "patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "final_ln_after_pool", "output_tokens", "timm_model_pretrained", "timm_pool",
    "timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path",
}  # fmt: skip
_TEXT_HARMLESS = {
    "pad_id", "final_ln_after_pool", "output_tokens", "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs", "hf_model_pretrained",
    "hf_proj_type", "hf_pooler_type",
}  # fmt: skip


def model_cfg(description: dict[str, Any]) -> dict[str, Any]:
    """Return the model's part of the file, which may also be one of open_clip's own model configs; CheckpointError if it is neither."""
    found = description.get("model_cfg", description if "vision_cfg" in description else None)
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{_NAME}: model_cfg is an object of settings, {type(found).__name__} came; copy the file again"
        )
    return found


def from_open_clip(description: dict[str, Any]) -> dict[str, Any]:
    """Return what an open_clip_config.json declares in the words of `clip_config`: exact GELU unless it says otherwise, heads by their width.

    CheckpointError for a key that open_clip does not have, and for one that asks for what CLIP's
    encoders do not do.
    """
    model = model_cfg(description)
    vision, text = model.get("vision_cfg") or {}, model.get("text_cfg") or {}
    if not isinstance(vision, dict) or not isinstance(text, dict):
        raise CheckpointError(
            f"{_NAME}: vision_cfg and text_cfg are objects of settings; copy the file again"
        )
    _check("model_cfg", model, _MODEL_USED | _MODEL_HARMLESS, _MODEL_PLAIN)
    _check("vision_cfg", vision, _VISION_USED | _VISION_HARMLESS, _VISION_PLAIN)
    _check("text_cfg", text, _TEXT_USED | _TEXT_HARMLESS, _TEXT_PLAIN)
    quick = bool(model.get("quick_gelu", False))
    layers, resnet = vision.get("layers", 12), isinstance(vision.get("layers"), list)
    image: dict[str, Any] = {
        "kind": "resnet" if resnet else "vit", "resolution": _square(vision.get("image_size", 224), "image_size"), "width": vision.get("width", 768),
        "layers": layers, "head_width": vision.get("head_width", 64),
    }  # fmt: skip
    if not resnet:
        image["patch"] = _square(vision.get("patch_size", 16), "patch_size")
        image |= _block(vision, 768, quick)
        if type(image["resolution"]) is int and type(image["patch"]) is int and image["patch"] > 0:
            image["resolution"] -= (
                image["resolution"] % image["patch"]
            )  # a patch convolution ignores what is left at the border
    sizes = {
        "context_length": ("context", 77),
        "vocab_size": ("vocabulary", 49408),
        "width": ("width", 512),
        "layers": ("layers", 12),
    }
    words = {ours: text.get(theirs, default) for theirs, (ours, default) in sizes.items()}
    words |= {"kind": "transformer", "heads": text.get("heads", 8), **_block(text, 512, quick)}
    if text.get("pool_type") == "eos":
        words["end_of_text"] = text.get("eos_id", 2)
    return {"embed_dim": model.get("embed_dim"), "image": image, "text": words}


def _check(part: str, said: dict[str, Any], known: set[str], plain: dict[str, tuple]) -> None:
    for key, value in said.items():
        if key in plain:
            if not any(value is right or value == right for right in plain[key]):
                raise CheckpointError(
                    f"{_NAME}: {part} has {key} {value!r}, which asks for an encoder that CLIP's paper does not have; load another"
                )
        elif key not in known:
            raise CheckpointError(
                f"{_NAME}: {part} has the key {key!r}, which open_clip 3 does not have; remove it if it changes no number"
            )


def _block(part: dict[str, Any], width: int, quick: bool) -> dict[str, Any]:
    """Return activation, eps and inner width of an encoder's blocks."""
    bend, norm = part.get("act_kwargs") or {}, part.get("norm_kwargs") or {}
    if bend not in ({}, {} if quick else {"approximate": "none"}):
        raise CheckpointError(
            f"{_NAME}: act_kwargs {bend!r} make an activation that is not here (quick_gelu, gelu, relu are); load another model"
        )
    plain = isinstance(norm, dict) and all(
        key == "eps" or key in ("elementwise_affine", "bias") and norm[key] is True for key in norm
    )
    if not plain:
        raise CheckpointError(
            f"{_NAME}: norm_kwargs is {{'eps': number}} here, {norm!r} came; load another model"
        )
    width, ratio = part.get("width", width), part.get("mlp_ratio", 4.0)
    numbers = type(width) is int and type(ratio) in (int, float) and 0 < ratio < 1e6
    if not numbers:
        raise CheckpointError(
            f"{_NAME}: width and mlp_ratio are positive numbers, {width!r} and {ratio!r} came; copy the file again"
        )
    return {
        "activation": "quick_gelu" if quick else "gelu",
        "eps": float(norm.get("eps", 1e-5)),
        "feed_forward": int(width * ratio),
    }


def _square(size: Any, name: str) -> Any:
    """Return the side of a size that may be given as height and width."""
    if not isinstance(size, list):
        return size
    if not size or len(size) > 2 or size[0] != size[-1]:
        raise CheckpointError(
            f"{_NAME}: pictures and patches are square here, {name} {size} came; load another model"
        )
    return size[0]


def context_of(folder: Path) -> int | None:
    """Return the tokens of a text that an open_clip_config.json in the folder says, None without one.

    CheckpointError where it has texts prepared in another way than CLIP's.
    """
    if not (folder / _NAME).is_file():
        return None
    text = model_cfg(read_json(folder / _NAME)).get("text_cfg") or {}
    kwargs = text.get("tokenizer_kwargs") or {} if isinstance(text, dict) else None
    if not isinstance(kwargs, dict):
        raise CheckpointError(
            f"{_NAME}: text_cfg and tokenizer_kwargs are objects of settings; copy the file again"
        )
    other = {
        key: value
        for key, value in kwargs.items()
        if value not in ((None, "lower") if key == "clean" else (None, "", []))
    }
    if other:
        raise CheckpointError(
            f"{_NAME}: texts are cleaned and cut as CLIP's are, tokenizer_kwargs {str(other)[:80]} came; load another model"
        )
    return text.get("context_length", 77)
