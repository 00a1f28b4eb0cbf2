"""CLIP's key maps: OpenAI's layout, open_clip's variant of it, and Hugging Face's, each declared once and read both ways.

OpenAI's names (repository openai/CLIP, `clip/model.py`) came first. open_clip writes the same,
sometimes with the text encoder under `text.`. Hugging Face stores query, key and value apart and
both projections as Linear weights, hence transposed. Batch norm's and the attention pool's arrays
exist in the first two only: there is no ResNet in `transformers`' CLIPModel.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from ..key_maps import Rule, StateDictLayout, linear, norm


def _convolution_and_norm(ours: str, convolution: str, batch_norm: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{ours}.conv.weight", (f"{convolution}.weight",), "convolution"),
        *norm(f"{ours}.norm", batch_norm),
        Rule(f"{ours}.norm.running_mean", (f"{batch_norm}.running_mean",)),
        Rule(f"{ours}.norm.running_variance", (f"{batch_norm}.running_var",)),
        Rule(f"{ours}.norm.batches_seen", (f"{batch_norm}.num_batches_tracked",), optional=True),
    )


def _openai_blocks(ours: str, theirs: str) -> tuple[Rule, ...]:
    return (
        *norm(f"{ours}.norm_1", f"{theirs}.ln_1"),
        Rule(f"{ours}.attention.qkv.weight", (f"{theirs}.attn.in_proj_weight",), "transpose"),
        Rule(f"{ours}.attention.qkv.bias", (f"{theirs}.attn.in_proj_bias",)),
        *linear(f"{ours}.attention.output", f"{theirs}.attn.out_proj"),
        *norm(f"{ours}.norm_2", f"{theirs}.ln_2"),
        *linear(f"{ours}.mlp.fc1", f"{theirs}.mlp.c_fc"),
        *linear(f"{ours}.mlp.fc2", f"{theirs}.mlp.c_proj"),
    )


def _hugging_face_blocks(ours: str, theirs: str) -> tuple[Rule, ...]:
    heads = [f"{theirs}.self_attn.{letter}_proj" for letter in "qkv"]
    return (
        *norm(f"{ours}.norm_1", f"{theirs}.layer_norm1"),
        Rule(
            f"{ours}.attention.qkv.weight", tuple(f"{head}.weight" for head in heads), "transpose"
        ),
        Rule(f"{ours}.attention.qkv.bias", tuple(f"{head}.bias" for head in heads)),
        *linear(f"{ours}.attention.output", f"{theirs}.self_attn.out_proj"),
        *norm(f"{ours}.norm_2", f"{theirs}.layer_norm2"),
        *linear(f"{ours}.mlp.fc1", f"{theirs}.mlp.fc1"),
        *linear(f"{ours}.mlp.fc2", f"{theirs}.mlp.fc2"),
    )


_IMAGE_PROJECTION = Rule(
    "W_i", ("visual.proj",)
)  # a released ResNet has none: its attention pool projects
_VIT = (
    Rule("image_encoder.patch_embedding.weight", ("visual.conv1.weight",), "convolution"),
    Rule("image_encoder.class_embedding", ("visual.class_embedding",)),
    Rule("image_encoder.positions", ("visual.positional_embedding",)),
    *norm("image_encoder.norm_before", "visual.ln_pre"),
    *_openai_blocks("image_encoder.blocks.{}", "visual.transformer.resblocks.{}"),
    *norm("image_encoder.norm_after", "visual.ln_post"),
    _IMAGE_PROJECTION,
)


def _resnet() -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for number in (1, 2, 3):
        rules += _convolution_and_norm(
            f"image_encoder.stem.{number - 1}", f"visual.conv{number}", f"visual.bn{number}"
        )
    for stage in (1, 2, 3, 4):
        ours, theirs = f"image_encoder.stages.{stage - 1}.{{}}", f"visual.layer{stage}.{{}}"
        for number, part in enumerate(("reduce", "spatial", "expand"), 1):
            rules += _convolution_and_norm(
                f"{ours}.{part}", f"{theirs}.conv{number}", f"{theirs}.bn{number}"
            )
        rules += _convolution_and_norm(
            f"{ours}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1"
        )
    rules.append(Rule("image_encoder.pool.positions", ("visual.attnpool.positional_embedding",)))
    for part, letter in {"query": "q", "key": "k", "value": "v", "output": "c"}.items():
        rules += linear(f"image_encoder.pool.attention.{part}", f"visual.attnpool.{letter}_proj")
    return (*rules, _IMAGE_PROJECTION)


_TEXT = (
    Rule("text_encoder.token_embedding.weight", ("token_embedding.weight",)),
    Rule("text_encoder.positions", ("positional_embedding",)),
    *_openai_blocks("text_encoder.blocks.{}", "transformer.resblocks.{}"),
    *norm("text_encoder.norm_after", "ln_final"),
    Rule("W_t", ("text_projection",)),
)
_SCALE = (Rule("t", ("logit_scale",), "scalar"),)
_BIAS = (Rule("b", ("logit_bias",), "scalar"),)  # SigLIP's, which open_clip's models may have


def _openai(name: str, image: tuple[Rule, ...], wrapper: str = "") -> StateDictLayout:
    """Put an image encoder and the text encoder together, whose keys open_clip sometimes wraps."""
    text = tuple(
        replace(rule, theirs=tuple(wrapper + key for key in rule.theirs)) for rule in _TEXT
    )
    # the TorchScript archives carry three sizes along, and some files a mask that follows from the context's length
    ignorable = (
        "input_resolution",
        "context_length",
        "vocab_size",
        rf"{re.escape(wrapper)}attn_mask",
    )
    return StateDictLayout(name, (*image, *text, *_SCALE, *_BIAS), ignorable, antialias=True)


#: The image encoders share the key `visual.conv1.weight`, a patch embedding here and a stem's first
#: convolution there.
OPENAI_VIT, OPENAI_RESNET = _openai("openai", _VIT), _openai("openai", _resnet())
OPEN_CLIP_VIT, OPEN_CLIP_RESNET = (
    _openai("open_clip", _VIT, "text."),
    _openai("open_clip", _resnet(), "text."),
)

HUGGING_FACE = StateDictLayout(
    "huggingface",
    (
        Rule(
            "image_encoder.patch_embedding.weight",
            ("vision_model.embeddings.patch_embedding.weight",),
            "convolution",
        ),
        Rule("image_encoder.class_embedding", ("vision_model.embeddings.class_embedding",)),
        Rule("image_encoder.positions", ("vision_model.embeddings.position_embedding.weight",)),
        *norm("image_encoder.norm_before", "vision_model.pre_layrnorm"),  # the typo is the real key
        *_hugging_face_blocks("image_encoder.blocks.{}", "vision_model.encoder.layers.{}"),
        *norm("image_encoder.norm_after", "vision_model.post_layernorm"),
        Rule("W_i", ("visual_projection.weight",), "transpose"),
        Rule(
            "text_encoder.token_embedding.weight", ("text_model.embeddings.token_embedding.weight",)
        ),
        Rule("text_encoder.positions", ("text_model.embeddings.position_embedding.weight",)),
        *_hugging_face_blocks("text_encoder.blocks.{}", "text_model.encoder.layers.{}"),
        *norm("text_encoder.norm_after", "text_model.final_layer_norm"),
        Rule("W_t", ("text_projection.weight",), "transpose"),
        *_SCALE,
    ),
    (r"(text|vision)_model\.embeddings\.position_ids",),
)


#: Every name of ours under itself, for what no other program has: a bag of words, and whatever
#: stands beside it.
TINYMM = StateDictLayout(
    "tinymm",
    tuple(
        replace(rule, theirs=(rule.ours,), change="same")
        for rule in dict.fromkeys((*OPENAI_VIT.rules, *OPENAI_RESNET.rules))
    ),
    antialias=True,
)


def recognize(keys: Iterable[str]) -> StateDictLayout | None:
    """Return the layout of a CLIP file by its keys, or None if it is none of them.

    >>> recognize(["text_model.final_layer_norm.bias"]).name, recognize(["visual.proj", "text.ln_final.bias"]).name
    ('huggingface', 'open_clip')
    """
    keys = list(keys)
    starts = {key.split(".", 1)[0] for key in keys}
    if {"text_model", "vision_model"} & starts:
        return HUGGING_FACE
    if {"text_encoder", "image_encoder"} & starts:
        return TINYMM
    if "visual" not in starts:
        return None
    resnet = any(key.startswith(("visual.layer", "visual.attnpool")) for key in keys)
    if "text" in starts:
        return OPEN_CLIP_RESNET if resnet else OPEN_CLIP_VIT
    return OPENAI_RESNET if resnet else OPENAI_VIT
