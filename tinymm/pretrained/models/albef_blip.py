"""ALBEF's and BLIP's key maps: the released code's layouts and Hugging Face's two models of BLIP, each declared once and read both ways.

A released file of pretraining holds everything, the momentum encoder (`…_m`) and the queues too.
One of retrieval lacks what names words, one of captioning all but the image encoder and the
decoder; what a file lacks raises when it is used, or is left out, as momentum encoder and queues
are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..key_maps import Rule, StateDictLayout, linear, norm
from .bert import (
    behind_attention,
    bert_embedding,
    bert_layer,
    language_head,
    self_attention,
    tied_head,
)
from .blip2 import under, vision

#: How the names of our encoders begin, and those of their EMA.
ONLINE, MOMENTUM = "encoders.", "momentum_encoder.model."
_LAYER = "encoder.layer.{}"
_RELEASED_VISION = (
    "patch_embed.proj", "cls_token", "pos_embed", "blocks.{}", ("attn.qkv", "attn.proj", "norm1", "norm2"), "blocks.{}.attn.qkv.bias", "norm",
)  # fmt: skip
_HF_VISION = (
    "embeddings.patch_embedding", "embeddings.class_embedding", "embeddings.position_embedding", "encoder.layers.{}",
    ("self_attn.qkv", "self_attn.projection", "layer_norm1", "layer_norm2"), "encoder.layers.{}.self_attn.qkv.bias", "post_layernorm",
)  # fmt: skip


def _image(theirs: str, words: tuple = _RELEASED_VISION) -> tuple[Rule, ...]:
    """Return the rules of the image encoder."""
    patches, first, positions, blocks, names, biases, last = words
    packed = Rule("image_encoder.blocks.{}.attention.qkv.bias", (f"{theirs}.{biases}",))
    patches, first, positions, blocks = (
        f"{theirs}.{part}" for part in (patches, first, positions, blocks)
    )
    return *vision(patches, first, positions, blocks, names, packed), *norm(
        "image_encoder.norm_after", f"{theirs}.{last}"
    )


def _text(theirs: str, layer: tuple[Rule, ...] | None = None) -> tuple[Rule, ...]:
    """Return the rules of a BERT, whose layers are whole unless others are given."""
    return under(
        "text_encoder.",
        (
            *bert_embedding("embedding", f"{theirs}embeddings"),
            Rule(
                "embedding.types",
                (f"{theirs}embeddings.token_type_embeddings.weight",),
                optional=True,
            ),
            *norm("norm", f"{theirs}embeddings.LayerNorm"),
            *(layer or bert_layer("blocks.{}", f"{theirs}{_LAYER}")),
        ),
    )


def _encoders(momentum: str, text: str, *more: Rule) -> tuple[Rule, ...]:
    """Return the rules of the encoders, or with `_m` of their EMA; `text` is what stands between `text_encoder` and BERT's own words."""
    return under(
        MOMENTUM if momentum else ONLINE,
        (
            *_image(f"visual_encoder{momentum}"),
            *_text(f"text_encoder{momentum}.{text}"),
            *(
                replace(rule, theirs=tuple(name.replace("{m}", momentum) for name in rule.theirs))
                for rule in more
            ),
            *linear("image_projection", f"vision_proj{momentum}"),
            *linear("text_projection", f"text_proj{momentum}"),
        ),
    )


def _released(text: str, pointer: str, *more: Rule) -> tuple[Rule, ...]:
    """Return the rules of a released file with encoders, momentum encoder and queues."""
    both = (rule for momentum in ("", "_m") for rule in _encoders(momentum, text, *more))
    return (
        *both,
        *linear("itm_head", "itm_head"),
        Rule("temperature", ("temp",)),
        Rule("queue.images", ("image_queue",), "transpose"),
        Rule("queue.texts", ("text_queue",), "transpose"),
        Rule("queue.next", (pointer,), "one leading axis"),
    )


_IDS = Rule("queue.ids", ("idx_queue",), "one leading axis")
_IGNORED = (r"(text_encoder|text_decoder)(_m)?\.(bert\.)?embeddings\.position_ids",)
_HEAD = tuple(language_head("language_head", "text_encoder{m}.cls.predictions"))
#: In ours only: how many pairs a queue has seen, and in pretraining of which images they are.
_OURS = ("queue.pushed",)
_LANGUAGE_HEADS = tuple(rule.ours for each in (ONLINE, MOMENTUM) for rule in under(each, _HEAD))

_ALBEF_TIED = tuple(
    pair
    for m in ("", "_m")
    for pair in tied_head(f"text_encoder{m}.cls.predictions", f"text_encoder{m}.bert.embeddings")
)
ALBEF_PRETRAINING = StateDictLayout(
    "albef",
    _released("bert.", "queue_ptr", *_HEAD),
    _IGNORED,
    missing_keys=(*_OURS, "queue.ids"),
    tied=_ALBEF_TIED,
)
#: Fine-tuned for retrieval: without the prefix, and without the head that names words.
ALBEF_RETRIEVAL = StateDictLayout(
    "albef", (*_released("", "queue_ptr"), _IDS), _IGNORED, missing_keys=(*_OURS, *_LANGUAGE_HEADS)
)


def _decoder(theirs: str) -> tuple[Rule, ...]:
    """Return the rules of what BLIP's decoder has of its own."""
    layers = self_attention("attentions.{}", "norms.{}", f"{theirs}bert.{_LAYER}")
    return under("decoder.", (*layers, *language_head("language_head", f"{theirs}cls.predictions")))


def _encoder_of_a_decoder(theirs: str) -> tuple[Rule, ...]:
    """Return the rules of the shared stack where a file has the decoder only."""
    return _text(f"{theirs}bert.", behind_attention("blocks.{}", f"{theirs}bert.{_LAYER}"))


def _ours(*rules: Rule) -> tuple[str, ...]:
    return tuple(rule.ours for rule in rules)


_DECODER = _decoder("text_decoder.")
_TIED = tied_head("text_decoder.cls.predictions", "text_decoder.bert.embeddings")
#: What captioning never trains: the projections into the shared embedding space, the matching head,
#: and the self-attention that reads.
_NOT_IN_CAPTIONING = _ours(
    *linear(f"{ONLINE}image_projection", ""), *linear(f"{ONLINE}text_projection", ""), *linear("itm_head", ""), Rule("temperature", ()),
    *under(f"{ONLINE}text_encoder.", self_attention("blocks.{}.attention", "blocks.{}.norm_1", "")),
)  # fmt: skip

#: Words, cross-attention and feed-forward stand in the file twice, as the encoder's and as the
#: decoder's.
BLIP_PRETRAINING = StateDictLayout(
    "blip", (*_released("", "queue_ptr"), *_DECODER), _IGNORED, missing_keys=(*_OURS, "queue.ids"),
    copies=(
        r"text_encoder\.(embeddings\.(?!position_ids).*|encoder\.layer\.\d+\.(?:crossattention|intermediate|output)\..*)",
        r"text_decoder.bert.\1",
    ),
    tied=(*_TIED, (_TIED[0][0], "text_encoder.embeddings.word_embeddings.weight")),
)  # fmt: skip
BLIP_RETRIEVAL = StateDictLayout(
    "blip", (*_released("", "ptr_queue"), _IDS), _IGNORED, missing_keys=(*_OURS, *_ours(*_DECODER))
)
BLIP_CAPTIONING = StateDictLayout(
    "blip", (*under(ONLINE, (*_image("visual_encoder"), *_encoder_of_a_decoder("text_decoder."))), *_DECODER), _IGNORED,
    missing_keys=_NOT_IN_CAPTIONING, tied=_TIED,
)  # fmt: skip
#: What is left behind where a whole BLIP is written for Hugging Face, whose models train without
#: momentum.
_MOMENTUM = (
    *_ours(*_encoders("_m", "")),
    "queue.images",
    "queue.texts",
    "queue.ids",
    "queue.next",
    "queue.pushed",
)
#: `BlipForImageTextRetrieval` and `BlipForConditionalGeneration`.
HF_RETRIEVAL = StateDictLayout(
    "huggingface_retrieval",
    (
        *under(ONLINE, (*_image("vision_model", _HF_VISION), *_text("text_encoder."))),
        *linear(f"{ONLINE}image_projection", "vision_proj"),
        *linear(f"{ONLINE}text_projection", "text_proj"),
        *linear("itm_head", "itm_head"),
    ),
    _IGNORED,
    missing_keys=("temperature", *_ours(*_DECODER), *_MOMENTUM),
)
HF_CAPTIONING = StateDictLayout(
    "huggingface",
    (
        *under(
            ONLINE, (*_image("vision_model", _HF_VISION), *_encoder_of_a_decoder("text_decoder."))
        ),
        *_DECODER,
    ),
    _IGNORED,
    missing_keys=(*_NOT_IN_CAPTIONING, *_MOMENTUM),
    tied=_TIED,
)


def _own(layout: StateDictLayout) -> StateDictLayout:
    built_as_clip = _ours(
        *(
            rule
            for each in (ONLINE, MOMENTUM)
            for rule in norm(f"{each}image_encoder.norm_before", "")
        )
    )
    names = dict.fromkeys((*_ours(*layout.rules), *layout.missing_keys, *built_as_clip))
    return StateDictLayout("tinymm", tuple(Rule(name, (name,)) for name in names))


TINYMM_ALBEF, TINYMM_BLIP = _own(ALBEF_PRETRAINING), _own(BLIP_PRETRAINING)


def recognize(
    keys: Iterable[str], settings: Mapping[str, Any] | None = None
) -> tuple[str, StateDictLayout] | None:
    """Return whether a file holds an "ALBEF" or a "BLIP", and its layout, or None if neither; of our own the settings say it, too.

    >>> recognize(["vision_model.post_layernorm.bias", "text_decoder.cls.predictions.bias"])[0]
    'BLIP'
    """
    keys = set(keys)
    starts = {key.split(".", 1)[0] for key in keys}
    if "encoders" in starts:
        # a BLIP without its decoder is still one
        blip = "decoder" in starts or (settings or {}).get("model_type") == "tinymm_blip"
        return ("BLIP", TINYMM_BLIP) if blip else ("ALBEF", TINYMM_ALBEF)
    if "vision_model" in starts and starts & {"text_encoder", "text_decoder"}:
        return ("BLIP", HF_CAPTIONING if "text_decoder" in starts else HF_RETRIEVAL)
    if "visual_encoder" not in starts or "text_encoder" not in starts:
        return ("BLIP", BLIP_CAPTIONING) if starts >= {"visual_encoder", "text_decoder"} else None
    if any(key.startswith("text_encoder.bert.") for key in keys):
        return "ALBEF", ALBEF_PRETRAINING
    if "text_decoder" in starts:
        return "BLIP", BLIP_PRETRAINING
    looks_at_once = any(
        key.startswith("text_encoder.encoder.layer.0.crossattention.") for key in keys
    )
    return ("BLIP", BLIP_RETRIEVAL) if looks_at_once else ("ALBEF", ALBEF_RETRIEVAL)
