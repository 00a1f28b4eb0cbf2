"""ALBEF's and BLIP's configs: from what a file declares and what its arrays show, to the model's config; and back."""

from dataclasses import asdict
from typing import Any

from tinymm.arrays.errors import CheckpointError
from tinymm.arrays.random import generator
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.bert import BertConfig
from tinymm.models.blip import BLIP, BLIPConfig
from tinymm.models.vit import ViTConfig

from .bert import ASSUMED
from .blip2_settings import VISION
from .key_maps import Imported, Layout
from .measured import agreed, bert_sizes, shape_of, vit_sizes

_TEXT = {
    "hidden_size": "width", "num_hidden_layers": "layers", "num_attention_heads": "heads", "intermediate_size": "feed_forward",
    "hidden_act": "activation", "layer_norm_eps": "eps", "max_position_embeddings": "context",
}  # fmt: skip
#: What the released code calls its habits in its own settings, and what we do.
_HABITS = {
    "momentum": "momentum", "alpha": "alpha", "mlm_probability": "hidden_share", "dec": "decode", "enc": "encode", "label_smoothing": "smoothing",
}  # fmt: skip
_BERT_MASK, _BERT_SEPARATOR, _BERT_WORDS = 103, 102, 30522
_IMAGE_ASSUMED = {"activation": "gelu", "eps": 1e-6}


def declared(settings: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """Return what the settings beside a file declare, in our words: `image`, `text`, and the model's habits.

    Our own config.json, Hugging Face's, or the released code's: `bert` and `vit` with their settings, `momentum`, `alpha`, `mlm_probability`.
    """
    if layout.name == "tinymm":
        return {name: value for name, value in settings.items() if name != "model_type"}
    if layout.name.startswith("huggingface"):
        vision, text = (settings.get(part) or {} for part in ("vision_config", "text_config"))
        if not isinstance(vision, dict) or not isinstance(text, dict):
            raise CheckpointError("config.json: vision_config and text_config are objects of settings; copy the file again")
        said = {"decode": text.get("bos_token_id", _BERT_WORDS), "encode": None, "end_of_text": text.get("sep_token_id", _BERT_SEPARATOR)}
        said["smoothing"] = settings.get("label_smoothing", 0.0)
        return {"image": _renamed(vision, VISION), "text": _renamed(text, _TEXT), **said}
    bert, vit = (part if isinstance(part := settings.get(name), dict) else {} for name in ("bert", "vit"))
    image = {"heads": vit.get("num_heads"), "eps": vit.get("eps"), "resolution": settings.get("image_res")}
    return {"image": {k: v for k, v in image.items() if v is not None}, "text": _renamed(bert, _TEXT), **_renamed(settings, _HABITS)}


def _renamed(theirs: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {ours: theirs[key] for key, ours in names.items() if theirs.get(key) is not None}


def _parts(found: Imported, said: dict[str, Any], heads: dict[str, int]) -> dict[str, Any]:
    """Return what both configs begin with: the two encoders, the joint width, and the queue's length where there is one."""
    arrays = found.arrays
    eps = _IMAGE_ASSUMED | {key: value for key, value in said.get("image", {}).items() if value is not None}
    image = ViTConfig(**agreed("image encoder", vit_sizes(arrays, "towers.image_encoder."), eps, heads=heads.get("image")))
    sizes = bert_sizes(arrays, "towers.text_encoder.")
    text = BertConfig(**agreed("text encoder", sizes, ASSUMED | said.get("text", {}), heads=heads.get("text")))
    parts: dict[str, Any] = {"image": image, "text": text}
    if "towers.image_projection.weight" in arrays:
        parts["joint_width"] = shape_of(arrays, "towers.image_projection.weight", 2)[1]
    has_twin = any(name.startswith("twin.") for name in arrays)
    return parts | ({"queue": shape_of(arrays, "queue.images", 2)[0]} if has_twin else {"queue": 1, "momentum": None})


def build_albef(found: Imported, layout: Layout, settings: dict[str, Any], heads: dict[str, int]) -> ALBEF:
    """Return a fresh ALBEF of the sizes that the arrays show."""
    said = declared(settings, layout)
    parts = _parts(found, said, heads)
    vocabulary = parts["text"].vocabulary
    mask: dict[str, Any] = {} if layout.name == "tinymm" else {"mask": min(_BERT_MASK, vocabulary - 1)}
    return ALBEF(ALBEFConfig(**mask | _habits(said, ALBEFConfig) | parts), generator(0))


def build_blip(found: Imported, layout: Layout, settings: dict[str, Any], heads: dict[str, int]) -> BLIP:
    """Return a fresh BLIP of the sizes that the arrays show; the released vocabulary ends with [DEC] and [ENC]."""
    said = declared(settings, layout)
    parts = _parts(found, said, heads)
    last = parts["text"].vocabulary - 1
    ids = {"decode": last - 1, "encode": last, "end_of_text": min(_BERT_SEPARATOR, last)} if layout.name == "blip" else {}
    return BLIP(BLIPConfig(**ids | _habits(said, BLIPConfig) | parts), generator(0))


def _habits(said: dict[str, Any], config: type) -> dict[str, Any]:
    """Return what is said of a config's plain fields."""
    plain = set(config.__dataclass_fields__) - {"image", "text", "joint_width", "queue"}  # type: ignore[attr-defined]
    return {name: value for name, value in said.items() if name in plain}


# ---------------------------------------------------------------------- writing
def settings_for(config: ALBEFConfig | BLIPConfig, name: str, dtype: str) -> dict[str, Any]:
    """Return the config.json of a model, in our own words, in Hugging Face's, or in the released code's."""
    if name == "tinymm":
        return {"model_type": "tinymm_albef" if isinstance(config, ALBEFConfig) else "tinymm_blip", **asdict(config)}
    vision = {theirs: getattr(config.image, ours) for theirs, ours in VISION.items()}
    text = {theirs: getattr(config.text, ours) for theirs, ours in _TEXT.items()} | {"vocab_size": config.text.vocabulary}
    if not name.startswith("huggingface"):
        habits = {theirs: getattr(config, ours) for theirs, ours in _HABITS.items() if hasattr(config, ours)}
        return {"bert": text, "vit": {"num_heads": config.image.heads, "eps": config.image.eps}, **habits}
    ids: dict[str, Any] = {"bos_token_id": config.decode, "sep_token_id": config.end_of_text} if isinstance(config, BLIPConfig) else {}
    ids |= {"eos_token_id": ids.get("sep_token_id"), "pad_token_id": 0, "is_decoder": True, "encoder_hidden_size": config.image.width}
    return {
        "architectures": ["BlipForConditionalGeneration" if name == "huggingface" else "BlipForImageTextRetrieval"],
        "model_type": "blip", "dtype": dtype, "image_text_hidden_size": config.joint_width, "label_smoothing": getattr(config, "smoothing", 0.0),
        "vision_config": {"model_type": "blip_vision_model", **vision},
        "text_config": {"model_type": "blip_text_model", **ids, **text},
    }  # fmt: skip
