"""ALBEF's and BLIP's configs: from what a file declares and what its arrays show, to the model's config; and back."""

from dataclasses import asdict
from typing import Any

from tinymm.arrays.errors import CheckpointError
from tinymm.arrays.random import generator
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.bert import BertConfig
from tinymm.models.blip import BLIP, BLIPConfig
from tinymm.models.vit import ViTConfig

from ..key_maps import Imported, StateDictLayout
from .albef_blip import MOMENTUM, ONLINE
from .bert import ASSUMED
from .blip2_config import VISION, tiled
from .config_classes import Key, needs_config, part_of, read_config, version_of
from .config_from_arrays import bert_sizes, checked_config, merge_config, shape_of, vit_sizes

_TEXT = {
    "hidden_size": "width", "num_hidden_layers": "layers", "num_attention_heads": "heads", "intermediate_size": "feed_forward",
    "hidden_act": "activation", "layer_norm_eps": "eps", "max_position_embeddings": "context",
}  # fmt: skip
_VIT = {"num_heads": "heads", "eps": "eps", "hidden_act": "activation"}
#: What the released code calls its habits in its own settings, and what we do.
_HABITS = {
    "momentum": "momentum", "alpha": "alpha", "alpha_warmup": "alpha_warmup", "mlm_probability": "mlm_probability", "mask": "mask", "dec": "decode",
    "enc": "encode",
    "sep": "end_of_text", "label_smoothing": "smoothing", "embed_dim": "embed_dim", "queue_size": "queue",
}  # fmt: skip
_BERT_MASK, _BERT_SEPARATOR, _BERT_WORDS = 103, 102, 30522
_WIDEST = 16  # times as wide as its encoders is the embedding space at most, where its width is only declared; the released ones are a third as wide
_IMAGE_ASSUMED = {"activation": "gelu", "eps": 1e-6}
#: What the released code's `bert` says beyond transformers' class.
_ALSO = {
    "fusion_layer": Key(ours="fusion_layer"),
    "encoder_width": Key(ours="encoder_width"),
    "is_decoder": Key(why="each use has a mask of its own"),
    "add_cross_attention": Key(why="the arrays show it"),
    "label_smoothing": Key(why="stands beside `bert`"),
    "vocab_size": Key(why="the tokenizer's length counts, which the arrays show"),
    "type_vocab_size": Key(why="the arrays show whether there are types"),
}


def declared(
    settings: dict[str, Any], layout: StateDictLayout, unused: list[str]
) -> dict[str, Any]:
    """Return what the settings beside a file declare, in our words: `image`, `text`, and the model's habits; `unused` gets unknown keys.

    Our own config.json, Hugging Face's, or the released code's: `bert` and `vit` with their
    settings, `momentum`, `alpha`, `mlm_probability`. CheckpointError for a config of another model,
    or of one that is built differently.
    """
    needs_config(settings, layout)
    if layout.name == "tinymm":
        return {"image": part_of(settings, "image"), "text": part_of(settings, "text")} | {
            name: value
            for name, value in settings.items()
            if name not in ("model_type", "image", "text")
        }
    if layout.name.startswith("huggingface"):
        version, whole = version_of(settings), read_config(settings, "blip", unused)
        vision, text = part_of(settings, "vision_config"), part_of(settings, "text_config")
        image = read_config(
            vision, "blip_vision_model", unused, where="vision_config.", version=version
        )
        said = read_config(text, "blip_text_model", unused, where="text_config.", version=version)
        habits = {name: said.pop(name) for name in ("decode", "end_of_text", "smoothing")}
        return {"image": tiled(image), "text": said, "encode": None, **habits, **whole}
    known = {*_HABITS, "bert", "vit", "image_res", "model_type", "architectures"}
    unused += [key for key in settings if key not in known]
    vit = part_of(settings, "vit")
    unused += [f"vit.{key}" for key in vit if key not in _VIT]
    image = _renamed(vit, _VIT) | _renamed(settings, {"image_res": "resolution"})
    keeps_cls = {"encode": None} if settings.get("enc", 0) is None else {}
    text = part_of(settings, "bert")
    said = (
        read_config({**text, "model_type": "bert"}, "bert", unused, where="bert.", also=_ALSO)
        if text
        else {}
    )
    return {"image": image, "text": said, **_renamed(settings, _HABITS), **keeps_cls}


def _renamed(theirs: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {ours: theirs[key] for key, ours in names.items() if theirs.get(key) is not None}


def _parts(
    found: Imported, said: dict[str, Any], heads: dict[str, int], layout: StateDictLayout
) -> dict[str, Any]:
    """Return what both configs begin with: the two encoders, the embedding width, and the queue's length where there is one."""
    arrays, own = found.arrays, layout.name == "tinymm"
    sizes = {
        "image": vit_sizes(arrays, f"{ONLINE}image_encoder."),
        "text": bert_sizes(arrays, f"{ONLINE}text_encoder."),
    }
    sizes["text"]["tied"] = not any(name.endswith("language_head.output") for name in arrays)
    assumed = {"image": _IMAGE_ASSUMED, "text": ASSUMED}
    parts: dict[str, Any] = {}
    for name, kind in (("image", ViTConfig), ("text", BertConfig)):
        declared = assumed[name] | {
            key: value for key, value in said[name].items() if value is not None
        }
        parts[name] = checked_config(
            f"{name} encoder",
            kind,
            merge_config(f"{name} encoder", sizes[name], declared, heads=heads.get(name)),
        )
    projection = f"{ONLINE}image_projection.weight"
    if projection in arrays:
        parts["embed_dim"] = _same("embed_dim", said, shape_of(arrays, projection, 2)[1])
    elif "embed_dim" in said:
        parts["embed_dim"] = _plausible_width(
            said["embed_dim"], max(sizes["image"]["width"], sizes["text"]["width"])
        )
    if any(name.startswith(MOMENTUM) for name in arrays):
        return parts | {"queue": _same("queue", said, shape_of(arrays, "queue.images", 2)[0])}
    if own and said.get("momentum") is not None:
        raise CheckpointError(
            f"the config and the arrays agree; it has a momentum encoder of momentum "
            f"{said['momentum']!r}, and no array is of it; put the config.json of this very file beside it"
        )
    return parts | {
        "queue": said.get("queue", 1),
        "momentum": None,
    }  # without momentum there is no queue


def _plausible_width(embed_dim: Any, widest: int) -> int:
    """Return the embedding width where no array shows it, since projections are missing; CheckpointError for an implausible one."""
    if type(embed_dim) is not int or not 1 <= embed_dim <= _WIDEST * widest:
        raise CheckpointError(
            f"config.json: the shared embedding space has 1 to {_WIDEST * widest} numbers beside encoders of width {widest}, and "
            f"a width of {embed_dim!r} came; correct it, or leave it out"
        )
    return embed_dim


def _same(what: str, said: dict[str, Any], measured: int) -> int:
    if said.get(what, measured) != measured:
        raise CheckpointError(
            f"the config and the arrays agree; {what} is {said[what]!r} in the config and {measured!r} by the arrays; put the config.json of this "
            "very file beside it"
        )
    return measured


def build_albef(
    found: Imported, layout: StateDictLayout, settings: dict[str, Any], heads: dict[str, int]
) -> ALBEF:
    """Return a randomly initialized ALBEF of the sizes that the arrays show; CheckpointError for settings that cannot be."""
    said = declared(settings, layout, found.unused)
    parts = _parts(found, said, heads, layout)
    vocabulary = parts["text"].vocabulary
    mask: dict[str, Any] = (
        {} if layout.name == "tinymm" else {"mask": min(_BERT_MASK, vocabulary - 1)}
    )
    return ALBEF(
        checked_config("model", ALBEFConfig, mask | _habits(said, ALBEFConfig) | parts),
        generator(0),
    )


def build_blip(
    found: Imported, layout: StateDictLayout, settings: dict[str, Any], heads: dict[str, int]
) -> BLIP:
    """Return a randomly initialized BLIP of the sizes that the arrays show; the released vocabulary ends with [DEC] and [ENC].

    CheckpointError for settings that cannot be.
    """
    said = declared(settings, layout, found.unused)
    parts = _parts(found, said, heads, layout)
    last = parts["text"].vocabulary - 1
    ids = (
        {"decode": last - 1, "encode": last, "end_of_text": min(_BERT_SEPARATOR, last)}
        if layout.name == "blip"
        else {}
    )
    return BLIP(
        checked_config("model", BLIPConfig, ids | _habits(said, BLIPConfig) | parts), generator(0)
    )


def _habits(said: dict[str, Any], config: type) -> dict[str, Any]:
    """Return what is said of a config's plain fields."""
    smoothing = said.get("smoothing", 0.0)
    if type(smoothing) not in (int, float) or not 0 <= smoothing < 1:
        raise CheckpointError(
            f"config.json: the label smoothing is a share, in [0, 1), and {smoothing!r} came; the released models have 0.1"
        )
    plain = set(config.__dataclass_fields__) - {"image", "text", "embed_dim", "queue"}  # type: ignore[attr-defined]
    return {name: value for name, value in said.items() if name in plain}


# ---------------------------------------------------------------------- writing
def settings_for(config: ALBEFConfig | BLIPConfig, name: str, dtype: str) -> dict[str, Any]:
    """Return the config.json of a model, in our own words, in Hugging Face's, or in the released code's."""
    if name == "tinymm":
        return {
            "model_type": "tinymm_albef" if isinstance(config, ALBEFConfig) else "tinymm_blip",
            **asdict(config),
        }
    vision = {theirs: getattr(config.image, ours) for theirs, ours in VISION.items()}
    text = {theirs: getattr(config.text, ours) for theirs, ours in _TEXT.items()} | {
        "vocab_size": config.text.vocabulary
    }
    if not name.startswith("huggingface"):
        habits = {
            theirs: getattr(config, ours)
            for theirs, ours in _HABITS.items()
            if hasattr(config, ours)
        }
        return {
            "bert": text,
            "vit": {theirs: getattr(config.image, ours) for theirs, ours in _VIT.items()},
            **habits,
        }
    ids: dict[str, Any] = (
        {"bos_token_id": config.decode, "sep_token_id": config.end_of_text}
        if isinstance(config, BLIPConfig)
        else {}
    )
    ids |= {
        "eos_token_id": ids.get("sep_token_id"),
        "pad_token_id": 0,
        "is_decoder": True,
        "encoder_hidden_size": config.image.width,
    }
    shared = {
        "label_smoothing": getattr(config, "smoothing", 0.0),
        "tie_word_embeddings": config.text.tied,
    }
    return {
        "architectures": ["BlipForConditionalGeneration" if name == "huggingface" else "BlipForImageTextRetrieval"],
        "model_type": "blip", "dtype": dtype, "image_text_hidden_size": config.embed_dim, **shared,
        "vision_config": {"model_type": "blip_vision_model", **vision},
        "text_config": {"model_type": "blip_text_model", **ids, **text, **shared},
    }  # fmt: skip
