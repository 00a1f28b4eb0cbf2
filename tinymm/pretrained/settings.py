"""What `config.json` says, in each program's words, and the same in ours.

`declared` is our side: `{"joint_width": E, "image": {…}, "text": {…}}` with the field names of the models' configs and a `kind` per
encoder. Only what a file says (or what its program assumes when it says nothing) stands in it; the arrays know the rest.
"""

from dataclasses import asdict, fields
from typing import Any

from tinymm.arrays.errors import CheckpointError
from tinymm.models.cbow import CBOWConfig
from tinymm.models.clip import CLIPConfig
from tinymm.models.resnet import ResNetConfig
from tinymm.models.text import TextConfig
from tinymm.models.vit import ViTConfig

KINDS: dict[str, Any] = {"vit": ViTConfig, "resnet": ResNetConfig, "transformer": TextConfig, "cbow": CBOWConfig}
OWN_TYPES = {"tinymm": "tinymm_clip", "openai": "tinymm_clip_openai"}
#: Until 2023 every published config said 2, which is no token's end; `transformers` takes it as "the largest id" ever since.
_LEGACY_END = 2
_ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu", "relu": "relu"}

# Theirs → ours, and what CLIPTextConfig and CLIPVisionConfig assume of the settings that no array shows.
_TEXT = {
    "vocab_size": "vocabulary", "max_position_embeddings": "context", "hidden_size": "width", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "intermediate_size": "feed_forward", "hidden_act": "activation", "layer_norm_eps": "eps",
    "eos_token_id": "end_of_text",
}  # fmt: skip
_VISION = {
    "image_size": "resolution", "patch_size": "patch", "num_channels": "channels", "hidden_size": "width", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "intermediate_size": "feed_forward", "hidden_act": "activation", "layer_norm_eps": "eps",
}  # fmt: skip
_TEXT_ASSUMED = {"num_attention_heads": 8, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 49407}
_VISION_ASSUMED = {"num_attention_heads": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}


def read_settings(settings: dict[str, Any], layout: str) -> dict[str, Any]:
    """Return what the settings beside a file of this layout declare, in our words; nothing for no settings.

    CheckpointError for another model_type than the layout's.
    """
    model_type = settings.get("model_type")
    if model_type in OWN_TYPES.values():
        return _from_own(settings)
    if layout == "tinymm":
        raise CheckpointError(
            f"arrays under our own names need the config.json of their folder with a model_type of {OWN_TYPES['tinymm']!r}, "
            f"{model_type!r} came; copy that file too"
        )
    if layout == "huggingface":
        if model_type != "clip":
            raise CheckpointError(f"a CLIPModel's config.json has model_type 'clip', {model_type!r} came; copy that file too")
        return from_hugging_face(settings)
    return _from_open_clip(settings["model_cfg"]) if isinstance(settings.get("model_cfg"), dict) else {}


def from_hugging_face(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what a CLIPModel's config.json declares; heads, activation, eps and end of text are assumed as transformers does.

    CheckpointError for pictures or patches that are not square.
    """
    image = _renamed(_part(settings, "vision_config"), _VISION, _VISION_ASSUMED)
    text = _renamed(_part(settings, "text_config"), _TEXT, _TEXT_ASSUMED)
    for side in ("resolution", "patch"):
        value = image.get(side)
        if isinstance(value, list):
            if len(set(value)) != 1:
                raise CheckpointError(f"pictures and patches are square here, {side} {value} came; resize the position embeddings first")
            image[side] = value[0]
    if isinstance(image.get("resolution"), int) and isinstance(image.get("patch"), int) and image["patch"] > 0:
        image["resolution"] -= image["resolution"] % image["patch"]  # a patch convolution ignores what is left at the border
    text["end_of_text"] = None if text["end_of_text"] == _LEGACY_END else text["end_of_text"]
    declared = {"image": image | {"kind": "vit"}, "text": text | {"kind": "transformer"}}
    return declared | {"joint_width": settings["projection_dim"]} if settings.get("projection_dim") is not None else declared


def _part(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """Return one encoder's settings; files of 2022 repeat them under NAME_dict, which then counts."""
    first, second = settings.get(name) or {}, settings.get(f"{name}_dict") or {}
    if not isinstance(first, dict) or not isinstance(second, dict):
        raise CheckpointError(f"config.json: {name} is an object of settings, a {type(first).__name__} came; copy the file again")
    return first | second


def _renamed(theirs: dict[str, Any], names: dict[str, str], assumed: dict[str, Any]) -> dict[str, Any]:
    said = {key: value for key, value in theirs.items() if value is not None}
    return {names[key]: value for key, value in (assumed | said).items() if key in names}


def _from_open_clip(model: dict[str, Any]) -> dict[str, Any]:
    """Return what an open_clip_config.json declares: exact GELU unless it says otherwise, heads by their width in the image encoder."""
    vision, text = model.get("vision_cfg") or {}, model.get("text_cfg") or {}
    if not isinstance(vision, dict) or not isinstance(text, dict):
        raise CheckpointError("open_clip_config.json: vision_cfg and text_cfg are objects of settings; copy the file again")
    for part in (vision, text):
        strange = [key for key in ("timm_model_name", "hf_model_name", "no_causal_mask") if part.get(key)]
        if strange or part.get("pool_type") not in (None, "tok", "argmax"):
            asked = strange[0] if strange else f"pool_type {part['pool_type']!r}"
            raise CheckpointError(f"open_clip_config.json: {asked} asks for an encoder that CLIP's paper does not have; load another")
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    width, resnet = vision.get("width", 768), isinstance(vision.get("layers"), list)
    try:
        heads = width * (32 if resnet else 1) // vision.get("head_width", 64)
    except (TypeError, ZeroDivisionError):
        raise CheckpointError(
            f"open_clip_config.json: width and head_width are counts, {width!r} and {vision.get('head_width')!r} came; copy the file again"
        ) from None
    image: dict[str, Any] = {"kind": "resnet" if resnet else "vit", "heads": heads, "resolution": vision.get("image_size", 224)}
    image |= {} if resnet else {"activation": activation, "eps": (vision.get("norm_kwargs") or {}).get("eps", 1e-5)}
    return {
        "joint_width": model.get("embed_dim"),
        "image": image,
        "text": {
            "kind": "transformer",
            "heads": text.get("heads", 8),
            "context": text.get("context_length", 77),
            "activation": activation,
            "eps": (text.get("norm_kwargs") or {}).get("eps", 1e-5),
        },
    }


def _from_own(settings: dict[str, Any]) -> dict[str, Any]:
    declared: dict[str, Any] = {"joint_width": settings.get("joint_width")}
    for encoder in ("image", "text"):
        part = settings.get(encoder)
        kind = part.get("kind") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(kind, str) or kind not in KINDS:
            raise CheckpointError(f"config.json: {encoder} needs a kind among {', '.join(KINDS)}; copy the file again")
        strange = sorted(set(part) - {"kind"} - {field.name for field in fields(KINDS[kind])})
        if strange:
            raise CheckpointError(f"config.json: {kind} has no setting {strange[0]!r}; a newer tinymm wrote it, or a typing error")
        declared[encoder] = dict(part)
    return declared


def kind_of(encoder: object) -> str:
    """Return the short name of an encoder's config.

    >>> kind_of(CBOWConfig(vocabulary=9, context=4, width=8))
    'cbow'
    """
    return next(name for name, kind in KINDS.items() if type(encoder) is kind)


def fits_hugging_face(config: CLIPConfig) -> bool:
    """Say whether `transformers` has this architecture: ViT and text transformer, no bias of SigLIP's, and no token 2 as the end of the text."""
    plain = config.loss == "softmax" and config.text.end_of_text != _LEGACY_END
    return plain and kind_of(config.image) == "vit" and kind_of(config.text) == "transformer"


def write_settings(config: CLIPConfig, layout: str, dtype: str) -> dict[str, Any]:
    """Return the config.json of a model in one of the layouts that `save` knows."""
    if layout != "huggingface":
        parts = {name: {"kind": kind_of(part), **asdict(part)} for name, part in (("image", config.image), ("text", config.text))}
        return {"model_type": OWN_TYPES[layout], "joint_width": config.joint_width, **parts}
    image, text = asdict(config.image), asdict(config.text)
    for part in (image, text):
        part["feed_forward"] = part["feed_forward"] or 4 * part["width"]
    end = text["end_of_text"]
    text["end_of_text"] = _LEGACY_END if end is None else end
    vision_config = {theirs: image[ours] for theirs, ours in _VISION.items()}
    text_config = {theirs: text[ours] for theirs, ours in _TEXT.items()}
    text_config |= {"bos_token_id": 0, "pad_token_id": 0}  # neither has a part in the features
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": dtype,
        "projection_dim": config.joint_width,
        "text_config": {"model_type": "clip_text_model", "projection_dim": config.joint_width, **text_config},
        "vision_config": {"model_type": "clip_vision_model", "projection_dim": config.joint_width, **vision_config},
    }
