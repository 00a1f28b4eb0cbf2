"""BLIP-2's configs: from what a file declares and what its arrays show, to the config of stage 1, of stage 2, or of a Q-Former alone; and back."""

from dataclasses import asdict
from typing import Any

from tinymm.arrays.errors import CheckpointError
from tinymm.arrays.random import generator
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.models.opt import OPTConfig
from tinymm.models.qformer import QFormer, QFormerConfig
from tinymm.models.vit import ViTConfig

from ..key_maps import Imported, StateDictLayout
from . import opt
from .config_classes import needs_config, part_of, read_config, version_of
from .config_from_arrays import (
    checked_config,
    merge_config,
    opt_sizes,
    qformer_sizes,
    shape_of,
    vit_sizes,
)

OWN_TYPES = {"tinymm_blip2_stage1": BLIP2Stage1, "tinymm_blip2_stage2": BLIP2Stage2}

VISION = {
    "image_size": "resolution", "patch_size": "patch", "hidden_size": "width", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "intermediate_size": "feed_forward", "hidden_act": "activation", "layer_norm_eps": "eps",
}  # fmt: skip
_QFORMER = {
    "hidden_size": "width", "num_hidden_layers": "layers", "num_attention_heads": "heads", "intermediate_size": "feed_forward",
    "hidden_act": "activation", "layer_norm_eps": "eps", "encoder_hidden_size": "encoder_width", "cross_attention_frequency": "cross_every",
}  # fmt: skip
_WORDS = {"vocab_size": "vocabulary", "max_position_embeddings": "context"}
# What the paper's code has of what no array shows.
_VISION_ASSUMED = {"activation": "gelu", "eps": 1e-6}
_QFORMER_ASSUMED = {"activation": "gelu", "eps": 1e-12}
_BERT_SEPARATOR = 102


def declared(
    settings: dict[str, Any], layout: StateDictLayout, unused: list[str]
) -> dict[str, Any]:
    """Return what the settings beside a file declare, in our words: `image`, `qformer`, and what belongs to the whole; `unused` gets the rest.

    CheckpointError for a language model other than OPT, and for a config of another model.
    """
    needs_config(settings, layout)
    if settings.get("model_type") in OWN_TYPES:
        parts = {
            name: part_of(settings, name)
            for name in ("image", "qformer", "language")
            if name in settings
        }
        return {name: value for name, value in settings.items() if name != "model_type"} | parts
    if layout.name != "huggingface":
        unused += [key for key in settings if key != "text_config"]
        return {}
    if settings.get("model_type") == "blip_2_qformer":
        return {"qformer": read_config(settings, "blip_2_qformer", unused)}
    version, whole = version_of(settings), read_config(settings, "blip-2", unused)
    vision, qformer = part_of(settings, "vision_config"), part_of(settings, "qformer_config")
    image = read_config(
        vision, "blip_2_vision_model", unused, where="vision_config.", version=version
    )
    said = read_config(qformer, "blip_2_qformer", unused, where="qformer_config.", version=version)
    said.pop("encoder_width", None)  # the outer config sets it to the image encoder's width
    language = part_of(settings, "text_config").get("model_type", "opt")
    if language != "opt":
        raise CheckpointError(
            f"BLIP-2's language model is an OPT here, and {language!r} came; load a folder with OPT"
        )
    if "queries" in whole:
        said["queries"] = whole.pop("queries")
    return {"image": tiled(image), "qformer": said, "norm_eps": image["eps"], **whole}


def tiled(image: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an image encoder with the border left out that its patches do not cover."""
    side, patch = image.get("resolution"), image.get("patch")
    tiles = type(side) is int and type(patch) is int and patch > 0
    return image | {"resolution": side - side % patch} if tiles else image  # type: ignore[operator]


def _ask_for_frozen_parts(found: Imported, layout: StateDictLayout) -> None:
    """Raise CheckpointError, with the way out, where a LAVIS file lacks the parts that were not trained."""
    lacking = []
    if "image_encoder.patch_embedding.weight" not in found.arrays:
        lacking.append("the frozen image encoder (visual_encoder.…; the file of EVA's ViT-g)")
    if "projection.weight" in found.arrays and "language_model.positions" not in found.arrays:
        lacking.append("the frozen language model (opt_model.…; the folder of its OPT)")
    if layout.name == "lavis" and lacking:
        raise CheckpointError(
            f"LAVIS keeps what was trained, and {len(found.arrays)} arrays came without {' and '.join(lacking)}; name these files too: frozen=[…]"
        )


def build_stage_1(
    found: Imported, layout: StateDictLayout, settings: dict[str, Any], heads: dict[str, int]
) -> BLIP2Stage1:
    """Return a randomly initialized stage 1 of the sizes that the arrays show; CheckpointError for a config that contradicts them."""
    _ask_for_frozen_parts(found, layout)
    said, arrays = declared(settings, layout, found.unused), found.arrays
    embed_dim = shape_of(arrays, "image_projection.weight", 2)[1]
    if said.get("embed_dim", embed_dim) != embed_dim:
        raise CheckpointError(
            f"the config and the arrays agree; embed_dim is {said['embed_dim']!r} in the config and {embed_dim!r} by the arrays; put the "
            "config.json of this very file beside it"
        )
    qformer = _qformer(arrays, said, heads)
    if layout.name == "tinymm":
        rest = _rest(said, "decode", "end_of_text", "norm_eps", "smoothing")
    else:
        rest = {
            "end_of_text": min(_BERT_SEPARATOR, (qformer.vocabulary or 1) - 1),
            "norm_eps": said.get("norm_eps", 1e-5),
        }
    parts = {"image": _image(arrays, said, heads), "qformer": qformer, "embed_dim": embed_dim}
    return BLIP2Stage1(checked_config("model", BLIP2Config, rest | parts), generator(0))


def build_stage_2(
    found: Imported, layout: StateDictLayout, settings: dict[str, Any], heads: dict[str, int]
) -> BLIP2Stage2:
    """Return a randomly initialized stage 2 of the sizes that the arrays show; CheckpointError for settings that cannot be."""
    _ask_for_frozen_parts(found, layout)
    said, arrays = declared(settings, layout, found.unused), found.arrays
    if "language" in said:  # our own words
        sizes = opt_sizes(arrays, "language_model.")
        language = checked_config(
            "language model",
            OPTConfig,
            merge_config("language model", sizes, said["language"], heads=heads.get("language")),
        )
    else:
        text, version = part_of(settings, "text_config"), version_of(settings)
        if layout.name == "huggingface":
            text = {"model_type": "opt", **text}  # Blip2Config's own default
        language = opt.config_of(found, text, heads, "language_model.", "text_config.", version)
    parts = {
        "image": _image(arrays, said, heads),
        "qformer": _qformer(arrays, said, heads),
        "language": language,
    }
    return BLIP2Stage2(
        checked_config("model", BLIP2Stage2Config, _rest(said, "norm_eps") | parts), generator(0)
    )


def build_qformer(
    found: Imported, layout: StateDictLayout, settings: dict[str, Any], heads: dict[str, int]
) -> QFormer:
    """Return a randomly initialized Q-Former; its queries and words, which the file keeps elsewhere, are missing."""
    said = declared(settings, layout, found.unused)
    said["qformer"] = {"queries": 32} | said["qformer"]
    if not settings.get("use_qformer_text_input") and not any(
        ".mlp." in name and "query" not in name for name in found.arrays
    ):
        said["qformer"].pop("vocabulary", None)
    return QFormer(_qformer(found.arrays, said, heads), generator(0))


def _image(arrays: dict[str, Any], said: dict[str, Any], heads: dict[str, int]) -> ViTConfig:
    settings = merge_config(
        "image encoder",
        vit_sizes(arrays),
        _VISION_ASSUMED | said.get("image", {}),
        heads=heads.get("image"),
    )
    return checked_config("image encoder", ViTConfig, settings)


def _qformer(arrays: dict[str, Any], said: dict[str, Any], heads: dict[str, int]) -> QFormerConfig:
    prefix = "qformer." if any(name.startswith("qformer.") for name in arrays) else ""
    sizes, spoken = qformer_sizes(arrays, prefix), dict(said.get("qformer", {}))
    if prefix and "vocabulary" not in sizes:
        (
            spoken.pop("vocabulary", None),
            spoken.pop("context", None),
        )  # stage 2 drops the words' half, whatever its config says
    if sizes["layers"] <= 1 or sizes["cross_every"] == sizes["layers"]:
        sizes["cross_every"] = spoken.get("cross_every", sizes["cross_every"])
    settings = merge_config(
        "Q-Former", sizes, _QFORMER_ASSUMED | spoken, heads=heads.get("qformer")
    )
    return checked_config("Q-Former", QFormerConfig, settings)


def _rest(said: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: said[name] for name in names if said.get(name) is not None}


# ---------------------------------------------------------------------- writing
def fits_hugging_face(image: ViTConfig) -> bool:
    """Say whether transformers' BLIP-2 has this image encoder: EVA's kind of ViT, which is not CLIP's."""
    return (
        image.patch_bias and not image.norm_before and not image.norm_after and image.channels == 3
    )


def settings_for(config: BLIP2Config | BLIP2Stage2Config, name: str, dtype: str) -> dict[str, Any]:
    """Return the config.json of either stage, in our own words or in Hugging Face's."""
    second = isinstance(config, BLIP2Stage2Config)
    if name != "huggingface":
        return {
            "model_type": "tinymm_blip2_stage2" if second else "tinymm_blip2_stage1",
            **asdict(config),
        }
    vision = {theirs: getattr(config.image, ours) for theirs, ours in VISION.items()}
    qformer = {
        theirs: getattr(config.qformer, ours) for theirs, ours in (_QFORMER | _WORDS).items()
    }
    qformer = {key: value for key, value in qformer.items() if value is not None}
    language = (
        opt.settings_for(config.language, name, dtype)
        if isinstance(config, BLIP2Stage2Config)
        else {"model_type": "opt"}
    )
    return {
        "architectures": ["Blip2ForConditionalGeneration" if second else "Blip2ForImageTextRetrieval"],
        "model_type": "blip-2", "dtype": dtype, "num_query_tokens": config.qformer.queries,
        "vision_config": {"model_type": "blip_2_vision_model", "qkv_bias": True, **vision, "layer_norm_eps": config.norm_eps},
        "qformer_config": {"model_type": "blip_2_qformer", "use_qformer_text_input": not second, **qformer},
        "text_config": language, "tie_word_embeddings": language.get("tie_word_embeddings", True),
        **({} if second else {"image_text_hidden_size": config.embed_dim}),  # type: ignore[union-attr]
    }  # fmt: skip
