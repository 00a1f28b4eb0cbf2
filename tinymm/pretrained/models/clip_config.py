"""What a description beside the weights says, in each program's words, and the same in ours; the layout decides which description counts.

`declared` is our side: `{"embed_dim": E, "image": {…}, "text": {…}}` with the field names of the
models' configs and a `kind` per encoder. Only what a file says (or what its program assumes when it
says nothing) stands in it; the arrays know the rest.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError
from tinymm.models.cbow import CBOWConfig
from tinymm.models.clip import CLIPConfig
from tinymm.models.resnet import ResNetConfig
from tinymm.models.text import TextConfig
from tinymm.models.vit import ViTConfig

from ..files.folders import Weights
from ..key_maps import StateDictLayout
from .open_clip_config import from_open_clip

KINDS: dict[str, Any] = {
    "vit": ViTConfig,
    "resnet": ResNetConfig,
    "transformer": TextConfig,
    "cbow": CBOWConfig,
}
OWN_TYPES = {"tinymm": "tinymm_clip", "openai": "tinymm_clip_openai"}
#: Until 2023 every published config said 2, which is no token's end; `transformers` takes it as
#: "the largest id" ever since.
_LEGACY_END = 2
#: Since this version of transformers a config that says no end of text means CLIP's own, 49407;
#: before, it meant the old 2.
_END_OF_ITS_OWN = (4, 31)
#: What OpenAI's files hold beside the weights, and open_clip's do not.
OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")
HEAD_WIDTH = 64  # what OpenAI's models have throughout (clip/model.py)

# Theirs → ours, and what CLIPTextConfig and CLIPVisionConfig assume of the settings that no array
# shows.
_TEXT = {
    "vocab_size": "vocabulary", "max_position_embeddings": "context", "hidden_size": "width", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "intermediate_size": "feed_forward", "hidden_act": "activation", "layer_norm_eps": "eps",
    "eos_token_id": "end_of_text",
}  # fmt: skip
_VISION = {
    "image_size": "resolution", "patch_size": "patch", "num_channels": "channels", "hidden_size": "width", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "intermediate_size": "feed_forward", "hidden_act": "activation", "layer_norm_eps": "eps",
}  # fmt: skip
# They change no feature: beginnings, dropout (which is not done here), generation, names, and what
# a program is to hand out.
_HARMLESS = frozenset(
    "_attn_implementation_autoset _commit_hash _name_or_path architectures attention_dropout auto_map bad_words_ids begin_suppress_tokens "
    "bos_token_id chunk_size_feed_forward cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample dropout dtype "
    "early_stopping encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty finetuning_task forced_bos_token_id "
    "forced_eos_token_id id2label initializer_factor initializer_range is_composition label2id length_penalty logit_scale_init_value "
    "max_length min_length model_type no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions "
    "output_hidden_states output_scores pad_token_id prefix problem_type projection_dim pruned_heads remove_invalid_values "
    "repetition_penalty return_dict return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss "
    "tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p torch_dtype torchscript transformers_version typical_p use_bfloat16 "
    "use_cache".split()
)
_TEXT_ASSUMED = {
    "num_attention_heads": 8,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
_VISION_ASSUMED = {"num_attention_heads": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}


def describe(weights: Weights, layout: StateDictLayout, unused: list[str]) -> dict[str, Any]:
    """Return what is said of a file of this layout, in our words, by the description that belongs to the layout; nothing if nothing is.

    Files with OpenAI's keys are described by a config.json of ours, by open_clip_config.json, by
    the config.json of a CLIPModel, or by the marks in OpenAI's own files, in this order; what
    another one says differently is named in `unused`. CheckpointError for a description that cannot
    be followed.
    """
    theirs, open_clip = weights.settings, weights.open_clip
    if layout.name not in ("openai", "open_clip") or theirs.get("model_type") in OWN_TYPES.values():
        unused += ["open_clip_config.json"] if open_clip else []
        return read_settings(theirs, layout.name, unused)
    marked = _marks(weights.arrays)
    if open_clip:
        declared = from_open_clip(open_clip)
        unused += [_left_aside(theirs, declared)] if theirs else []
    elif theirs.get("model_type") == "clip":
        declared = from_hugging_face(theirs, unused)
    else:
        unused += [f"config.json (model_type {theirs.get('model_type')!r})"] if theirs else []
        return marked
    pairs = [
        (f"{part} {key}", value, declared[part].get(key))
        for part, said in marked.items()
        for key, value in said.items()
    ]
    unused += [
        f"OpenAI's marks ({what} {value!r} for {told!r})"
        for what, value, told in pairs
        if told is not None and told != value
    ]
    return declared


def marks(config: CLIPConfig) -> dict[str, np.ndarray]:
    """Return the sizes by which OpenAI's own files are told from others of their layout; none for a model that is not built as theirs."""
    image, text = config.image, config.text
    wide = image.width * (32 if isinstance(image, ResNetConfig) else 1)
    bent = {getattr(part, "activation", "quick_gelu") for part in (image, text)} == {"quick_gelu"}
    plain = (
        bent
        and {getattr(part, "eps", 1e-5) for part in (image, text)} == {1e-5}
        and text.end_of_text in (None, text.vocabulary - 1)
    )
    if not plain or (wide // HEAD_WIDTH, text.width // HEAD_WIDTH) != (
        image.heads,
        getattr(text, "heads", None),
    ):
        return {}
    return {
        mark: np.array(size)
        for mark, size in zip(
            OPENAI_MARKS, (image.resolution, text.context, text.vocabulary), strict=True
        )
    }


def _marks(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return what OpenAI's own files tell: three sizes stand among the arrays, and then the activation and the heads are OpenAI's."""
    if not all(
        mark in arrays and arrays[mark].size == 1 and arrays[mark].dtype.kind in "iu"
        for mark in OPENAI_MARKS
    ):
        return {}
    resolution, context, vocabulary = (int(arrays[mark].reshape(())) for mark in OPENAI_MARKS)
    patches = "visual.class_embedding" in arrays and "visual.conv1.weight" in arrays
    patch = (
        arrays["visual.conv1.weight"].shape[-1]
        if patches and arrays["visual.conv1.weight"].ndim == 4
        else 32
    )
    image = {"resolution": resolution - resolution % max(patch, 1), "head_width": HEAD_WIDTH}
    bent = {"activation": "quick_gelu"}
    return {
        "image": image | (bent if patches else {}),
        "text": {"context": context, "vocabulary": vocabulary, "head_width": HEAD_WIDTH} | bent,
    }


def _left_aside(theirs: dict[str, Any], declared: dict[str, Any]) -> str:
    """Return the name of the config.json that did not count, with what it says differently."""
    try:
        other = from_hugging_face(theirs, [])
    except (CheckpointError, TypeError, ValueError):
        return "config.json"
    pairs = [
        (f"{part} {key}", other[part].get(key), value)
        for part in ("image", "text")
        for key, value in declared[part].items()
    ]
    different = [
        f"{what} {said!r} for {value!r}"
        for what, said, value in pairs
        if said is not None and said != value
    ]
    return f"config.json ({', '.join(different)})" if different else "config.json"


def read_settings(settings: dict[str, Any], layout: str, unused: list[str]) -> dict[str, Any]:
    """Return what the config.json of a folder of ours or of Hugging Face's declares, in our words; unknown keys are named in `unused`.

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
    if model_type != "clip":
        raise CheckpointError(
            f"a CLIPModel's config.json has model_type 'clip', {model_type!r} came; copy that file too"
        )
    return from_hugging_face(settings, unused)


def from_hugging_face(settings: dict[str, Any], unused: list[str]) -> dict[str, Any]:
    """Return what a CLIPModel's config.json declares; heads, activation, eps and end of text that it leaves out are those of its class.

    Keys that neither count nor are known to change nothing are named in `unused`. CheckpointError
    for images or patches that are not square, and for keys that ask for what is not done here.
    """
    version = _version(settings.get("transformers_version"))
    text_assumed = _TEXT_ASSUMED | (
        {"eos_token_id": _LEGACY_END} if version < _END_OF_ITS_OWN else {}
    )
    image = _renamed(_part(settings, "vision_config", unused), _VISION, _VISION_ASSUMED)
    text = _renamed(_part(settings, "text_config", unused), _TEXT, text_assumed)
    _unknown(
        "",
        settings,
        {"text_config", "vision_config", "text_config_dict", "vision_config_dict"},
        unused,
    )
    for side in ("resolution", "patch"):
        value = image.get(side)
        if isinstance(value, list):
            if len(set(value)) != 1:
                raise CheckpointError(
                    f"pictures and patches are square here, {side} {value} came; load another model"
                )
            image[side] = value[0]
    if (
        isinstance(image.get("resolution"), int)
        and isinstance(image.get("patch"), int)
        and image["patch"] > 0
    ):
        image["resolution"] -= (
            image["resolution"] % image["patch"]
        )  # a patch convolution ignores what is left at the border
    text["end_of_text"] = None if text["end_of_text"] == _LEGACY_END else text["end_of_text"]
    declared = {"image": image | {"kind": "vit"}, "text": text | {"kind": "transformer"}}
    return (
        declared | {"embed_dim": settings["projection_dim"]}
        if settings.get("projection_dim") is not None
        else declared
    )


def _part(settings: dict[str, Any], name: str, unused: list[str]) -> dict[str, Any]:
    """Return one encoder's settings; files of 2022 repeat them under NAME_dict, which then counts, with its class's defaults."""
    first, second = settings.get(name), settings.get(f"{name}_dict")
    said = (first or {}) if second is None else second
    if not isinstance(said, dict):
        raise CheckpointError(
            f"config.json: {name} is an object of settings, a {type(said).__name__} came; copy the file again"
        )
    if said.get("model_type") not in (None, "clip", f"clip_{name.removesuffix('_config')}_model"):
        raise CheckpointError(
            f"config.json: {name} is that of a CLIPModel, model_type {said['model_type']!r} came; load another model"
        )
    _unknown(f"{name}.", said, set(_TEXT if name == "text_config" else _VISION), unused)
    return said


def _unknown(prefix: str, said: dict[str, Any], used: set[str], unused: list[str]) -> None:
    """Name the keys that nothing is made of and that may matter; CheckpointError for those that do."""
    for key, value in said.items():
        if key in ("quantization_config", "pruned_heads") and value:
            raise CheckpointError(
                f"config.json: {prefix}{key} {str(value)[:60]} asks for what is not done here; load the plain weights"
            )
        if (
            key not in used
            and key not in _HARMLESS
            and not (value is None or value is False or value == [])
        ):
            unused.append(f"config.json: {prefix}{key}")


def _renamed(
    theirs: dict[str, Any], names: dict[str, str], assumed: dict[str, Any]
) -> dict[str, Any]:
    empty = [
        key
        for key in assumed
        if key in theirs and theirs[key] is None and assumed[key] != _LEGACY_END
    ]
    if empty:
        raise CheckpointError(
            f"config.json: {empty[0]} is null, which no CLIPModel can be built with; write the number, or leave the key out"
        )
    said = {key: value for key, value in theirs.items() if value is not None}
    return {names[key]: value for key, value in (assumed | said).items() if key in names}


def _version(text: object) -> tuple[int, int]:
    """Return the version of transformers that wrote a file, the newest if it does not say."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", text) if isinstance(text, str) else None
    return (int(found[1]), int(found[2])) if found else (10**4, 0)


def _from_own(settings: dict[str, Any]) -> dict[str, Any]:
    declared: dict[str, Any] = {"embed_dim": settings.get("embed_dim")}
    for encoder in ("image", "text"):
        part = settings.get(encoder)
        kind = part.get("kind") if isinstance(part, dict) else None
        if not isinstance(part, dict) or not isinstance(kind, str) or kind not in KINDS:
            raise CheckpointError(
                f"config.json: {encoder} needs a kind among {', '.join(KINDS)}; copy the file again"
            )
        strange = sorted(set(part) - {"kind"} - {field.name for field in fields(KINDS[kind])})
        if strange:
            raise CheckpointError(
                f"config.json: {kind} has no setting {strange[0]!r}; a newer tinymm wrote it, or a typing error"
            )
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
        parts = {
            name: {"kind": kind_of(part), **asdict(part)}
            for name, part in (("image", config.image), ("text", config.text))
        }
        return {"model_type": OWN_TYPES[layout], "embed_dim": config.embed_dim, **parts}
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
        "projection_dim": config.embed_dim,
        "text_config": {
            "model_type": "clip_text_model",
            "projection_dim": config.embed_dim,
            **text_config,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "projection_dim": config.embed_dim,
            **vision_config,
        },
    }
