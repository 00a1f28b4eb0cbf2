"""Which models there are, and for each: how its files are recognized, how it is built from one, and how it is written."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.layers import Module
from tinymm.models.albef import ALBEF
from tinymm.models.bert import BertLanguageModel
from tinymm.models.blip import BLIP
from tinymm.models.blip2 import BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.opt import OPT
from tinymm.models.qformer import QFormer

from ..files.folders import Weights
from ..key_maps import Imported, StateDictLayout
from . import albef_blip, albef_blip_config, bert, blip2, blip2_config, clip, clip_config, opt
from .clip_sizes import config_of


@dataclass(frozen=True)
class ModelFormat:
    """A kind of model and its files.

    `recognize(keys, settings)` gives the layout of a file that is of this kind, else None.
    `build(found, layout, settings, heads)` gives a randomly initialized model of the sizes that the
    arrays show. `layout_for(config, format)`, `settings_for(config, format, dtype)` and
    `best_format(config)` are for writing. `describe(weights, layout, unused)` gives the settings
    for `build`: config.json, where a family has no other description.
    """

    model: type[Module]
    recognize: Callable[[Iterable[str], dict[str, Any]], StateDictLayout | None]
    build: Callable[[Imported, StateDictLayout, dict[str, Any], dict[str, int]], Any]
    layout_for: Callable[[Any, str], StateDictLayout]
    settings_for: Callable[[Any, str, str], dict[str, Any]]
    best_format: Callable[[Any], str]
    describe: Callable[[Weights, StateDictLayout, list[str]], dict[str, Any]] = (
        lambda weights, layout, unused: weights.settings
    )


_REGISTERED: list[ModelFormat] = []


def register_model_format(family: ModelFormat) -> None:
    """Make the files of a further model known; one that is registered again takes the place of the first."""
    _REGISTERED[:] = [other for other in _REGISTERED if other.model is not family.model] + [family]


def families() -> tuple[ModelFormat, ...]:
    """Return the kinds of models that files may hold: those that were registered first."""
    return (*_REGISTERED, *FAMILIES)


def model_format_of(model: Module) -> ModelFormat:
    """Return the family that a model belongs to; UsageError if it has none."""
    for family in families():
        if type(model) is family.model:
            return family
    raise UsageError(
        f"models with files of their own are {', '.join(f.model.__name__ for f in families())}, and {type(model).__name__} came"
    )


# ---------------------------------------------------------------------- CLIP
def _build_clip(
    found: Imported,
    layout: StateDictLayout,
    declared: dict[str, Any],
    heads: dict[str, int],
    activation: dict[str, str] | None = None,
) -> CLIP:
    return CLIP(config_of(found, layout, declared, heads, activation), generator(0))


def _clip_layout(config: CLIPConfig, name: str) -> StateDictLayout:
    image, text = clip_config.kind_of(config.image), clip_config.kind_of(config.text)
    if name not in ("huggingface", "openai", "tinymm"):
        raise UsageError(
            f'format "{name}" has no CLIP in it; write a CLIP as "huggingface", "openai" or "tinymm"'
        )
    if name != "tinymm" and text == "cbow":
        raise UsageError(f'format {name!r} has no bag of words as text encoder; use "tinymm"')
    if name == "huggingface" and config.loss == "sigmoid":
        raise UsageError(
            f'format {name!r} has no place for the bias of the sigmoid loss; use "tinymm" or "openai"'
        )
    if name == "huggingface" and not clip_config.fits_hugging_face(config):
        reason = (
            "has no ResNet"
            if image == "resnet"
            else 'reads eos_token_id 2 as "the largest id", which this model does not mean'
        )
        raise UsageError(f'format "huggingface" {reason}; use "openai"')
    if name == "openai":
        return clip.OPENAI_RESNET if image == "resnet" else clip.OPENAI_VIT
    return clip.HUGGING_FACE if name == "huggingface" else clip.TINYMM


def _best_clip_format(config: CLIPConfig) -> str:
    if clip_config.kind_of(config.text) == "cbow" or config.loss == "sigmoid":
        return "tinymm"
    return "huggingface" if clip_config.fits_hugging_face(config) else "openai"


# ---------------------------------------------------------------------- BLIP-2
def _blip2(
    model: type[Module], kind: str, build: Callable, layouts: dict[str, StateDictLayout]
) -> ModelFormat:
    def recognize(keys: Iterable[str], said: dict[str, Any]) -> StateDictLayout | None:
        found = blip2.recognize(keys)
        return found[1] if found and found[0] == kind else None

    def layout_for(config: Any, name: str) -> StateDictLayout:
        if name not in layouts:
            raise UsageError(f"format {name!r} has no {model.__name__}; use {', '.join(layouts)}")
        if (
            name in ("huggingface", "lavis")
            and hasattr(config, "image")
            and not blip2_config.fits_hugging_face(config.image)
        ):
            raise UsageError(
                f"format {name!r} knows EVA's kind of ViT only, and this encoder has the norms of CLIP's; use \"tinymm\""
            )
        return layouts[name]

    def best_format(config: Any) -> str:
        second = (
            "tinymm" not in layouts
            or model is BLIP2Stage2
            and blip2_config.fits_hugging_face(config.image)
        )
        return (
            "huggingface" if second else "tinymm"
        )  # Hugging Face's stage 1 lacks what training and captions need

    return ModelFormat(model, recognize, build, layout_for, blip2_config.settings_for, best_format)


# ---------------------------------------------------------------------- ALBEF and BLIP
def _albef_blip(
    model: type[Module], build: Callable, layouts: dict[str, StateDictLayout]
) -> ModelFormat:
    def recognize(keys: Iterable[str], said: dict[str, Any]) -> StateDictLayout | None:
        found = albef_blip.recognize(keys, said)
        return found[1] if found and found[0] == model.__name__ else None

    def layout_for(config: Any, name: str) -> StateDictLayout:
        if name not in layouts:
            raise UsageError(f"format {name!r} has no {model.__name__}; use {', '.join(layouts)}")
        if name != "tinymm" and (
            config.image.norm_before or not config.image.norm_after or not config.image.patch_bias
        ):
            raise UsageError(
                f'format {name!r} knows the original ViT only, and this one is built as CLIP\'s; use "tinymm"'
            )
        return layouts[name]

    return ModelFormat(
        model, recognize, build, layout_for, albef_blip_config.settings_for, lambda config: "tinymm"
    )


FAMILIES = (
    _blip2(
        BLIP2Stage1, "stage 1", blip2_config.build_stage_1,
        {"lavis": blip2.LAVIS_STAGE_1, "huggingface": blip2.HF_RETRIEVAL, "tinymm": blip2.TINYMM_STAGE_1},
    ),
    _blip2(
        BLIP2Stage2, "stage 2", blip2_config.build_stage_2,
        {"lavis": blip2.LAVIS_STAGE_2, "huggingface": blip2.HF_GENERATION, "tinymm": blip2.TINYMM_STAGE_2},
    ),
    _blip2(QFormer, "Q-Former", blip2_config.build_qformer, {"huggingface": blip2.HF_QFORMER}),
    _albef_blip(ALBEF, albef_blip_config.build_albef, {"albef": albef_blip.ALBEF_PRETRAINING, "tinymm": albef_blip.TINYMM_ALBEF}),
    _albef_blip(
        BLIP, albef_blip_config.build_blip,
        {
            "blip": albef_blip.BLIP_PRETRAINING, "huggingface": albef_blip.HF_CAPTIONING, "huggingface_retrieval": albef_blip.HF_RETRIEVAL,
            "tinymm": albef_blip.TINYMM_BLIP,
        },
    ),
    ModelFormat(BertLanguageModel, bert.recognize, bert.build, lambda config, name: bert.HUGGING_FACE, bert.settings_for,
    lambda config: "huggingface"),
    ModelFormat(OPT, opt.recognize, opt.build, opt.layout_for, opt.settings_for, lambda config: "huggingface"),
    ModelFormat(
        CLIP, lambda keys, said: clip.recognize(keys), _build_clip, _clip_layout,
        clip_config.write_settings, _best_clip_format, clip_config.describe,
    ),
)  # fmt: skip
