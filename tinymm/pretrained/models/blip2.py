"""BLIP-2's key maps: LAVIS's layout, in which the paper's code saves, and Hugging Face's models, each declared once and read both ways.

LAVIS files hold what was trained and lack the frozen parts. Hugging Face has no place for the
language head of stage 1 nor for the temperature: those cannot be written there, and in a model from
there they are missing.
"""

from collections.abc import Iterable
from dataclasses import replace

from ..key_maps import Rule, StateDictLayout, linear, norm
from . import opt
from .bert import bert_embedding, bert_layer, language_head, tied_head
from .clip import HUGGING_FACE as HUGGING_FACE_CLIP


def under(prefix: str, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Return the rules with a prefix before our names, for a model that is a part of another."""
    return tuple(replace(rule, ours=prefix + rule.ours) for rule in rules)


def vision(
    patches: str, first: str, positions: str, blocks: str, names: tuple[str, ...], biases: Rule
) -> tuple[Rule, ...]:
    """Return the rules of a ViT of ALBEF, BLIP or EVA; programs differ in words only, and in how the attention's biases are stored."""
    qkv, output, norm_1, norm_2 = names
    ours = "image_encoder.blocks.{}"
    return (
        Rule("image_encoder.patch_embedding.weight", (f"{patches}.weight",), "convolution"),
        Rule("image_encoder.patch_embedding.bias", (f"{patches}.bias",)),
        Rule("image_encoder.class_embedding", (first,), "two leading axes"),
        Rule("image_encoder.positions", (positions,), "one leading axis"),
        *norm(f"{ours}.norm_1", f"{blocks}.{norm_1}"),
        Rule(f"{ours}.attention.qkv.weight", (f"{blocks}.{qkv}.weight",), "transpose"),
        biases,
        *linear(f"{ours}.attention.output", f"{blocks}.{output}"),
        *norm(f"{ours}.norm_2", f"{blocks}.{norm_2}"),
        *linear(f"{ours}.mlp.fc1", f"{blocks}.mlp.fc1"),
        *linear(f"{ours}.mlp.fc2", f"{blocks}.mlp.fc2"),
    )


def _layers(theirs: str, inner: str) -> tuple[Rule, ...]:
    """Return the rules of the Q-Former's layers: BERT's, and a feed-forward of the queries' own."""
    ours = "blocks.{}"
    return (
        *bert_layer(ours, theirs, inner),
        *linear(f"{ours}.query_mlp.fc1", f"{theirs}.intermediate_query.dense"),
        *linear(f"{ours}.query_mlp.fc2", f"{theirs}.output_query.dense"),
        *norm(f"{ours}.query_norm", f"{theirs}.output_query.LayerNorm"),
    )


_LAVIS_BIASES = ("visual_encoder.blocks.{}.attn.q_bias", "visual_encoder.blocks.{}.attn.v_bias")
_LAVIS = (
    *vision(
        "visual_encoder.patch_embed.proj", "visual_encoder.cls_token", "visual_encoder.pos_embed", "visual_encoder.blocks.{}",
        ("attn.qkv", "attn.proj", "norm1", "norm2"), Rule("image_encoder.blocks.{}.attention.qkv.bias", _LAVIS_BIASES, "no key bias"),
    ),
    *norm("norm_vision", "ln_vision"),
    Rule("qformer.queries", ("query_tokens",), "one leading axis"),
    *under("qformer.", bert_embedding("embedding", "Qformer.bert.embeddings")),
    *norm("qformer.norm", "Qformer.bert.embeddings.LayerNorm"),
    *under("qformer.", _layers("Qformer.bert.encoder.layer.{}", "self")),
)  # fmt: skip
_POSITIONS = r"Qformer\.bert\.embeddings\.position_ids"

#: The paper's code: stage 1 (`Blip2Qformer`) and stage 2 with an OPT (`Blip2OPT`).
LAVIS_STAGE_1 = StateDictLayout(
    "lavis",
    (
        *_LAVIS,
        *language_head("language_head", "Qformer.cls.predictions"),
        *linear("image_projection", "vision_proj"),
        *linear("text_projection", "text_proj"),
        *linear("itm_head", "itm_head"),
        Rule("temperature", ("temp",)),
    ),
    (_POSITIONS,),
    tied=tied_head("Qformer.cls.predictions", "Qformer.bert.embeddings"),
)
LAVIS_STAGE_2 = StateDictLayout(
    "lavis",
    (
        *_LAVIS,
        *linear("projection", "opt_proj"),
        *under("language_model.", opt.rules("opt_model.model.decoder.", "opt_model.lm_head")),
    ),
    (_POSITIONS,),
    tied=opt.tied_head("opt_model.model.decoder.", "opt_model.lm_head"),
)

_HF_VISION = (
    *vision(
        "vision_model.embeddings.patch_embedding", "vision_model.embeddings.class_embedding", "vision_model.embeddings.position_embedding",
        "vision_model.encoder.layers.{}", ("self_attn.qkv", "self_attn.projection", "layer_norm1", "layer_norm2"),
        Rule("image_encoder.blocks.{}.attention.qkv.bias", ("vision_model.encoder.layers.{}.self_attn.qkv.bias",)),
    ),
    *norm("norm_vision", "vision_model.post_layernorm"),
    Rule("qformer.queries", ("query_tokens",), "one leading axis"),
)  # fmt: skip


def _hugging_face(prefix: str) -> tuple[Rule, ...]:
    return *norm("norm", f"{prefix}layernorm"), *_layers(f"{prefix}encoder.layer.{{}}", "attention")


#: `Blip2QFormerModel`: the stack alone. Its queries stand outside of it, and so do the words.
HF_QFORMER = StateDictLayout(
    "huggingface",
    _hugging_face(""),
    missing_keys=("queries", "embedding.words.weight", "embedding.positions"),
)
#: `Blip2ForImageTextRetrieval`: stage 1 without what only its training needs, the language head and
#: the temperature.
HF_RETRIEVAL = StateDictLayout(
    "huggingface",
    (
        *_HF_VISION,
        *under("qformer.", _hugging_face("qformer.")),
        *under("qformer.", bert_embedding("embedding", "embeddings")),
        *linear("image_projection", "vision_projection"),
        *linear("text_projection", "text_projection"),
        *linear("itm_head", "itm_head"),
    ),
    (r"embeddings\.position_ids",),
    missing_keys=("temperature", *(rule.ours for rule in language_head("language_head", ""))),
)
#: `Blip2ForConditionalGeneration` with an OPT: stage 2.
HF_GENERATION = StateDictLayout(
    "huggingface",
    (
        *_HF_VISION,
        *under("qformer.", _hugging_face("qformer.")),
        *linear("projection", "language_projection"),
        *under(
            "language_model.", opt.rules("language_model.model.decoder.", "language_model.lm_head")
        ),
    ),
    tied=opt.tied_head("language_model.model.decoder.", "language_model.lm_head"),
)


def own(*layouts: StateDictLayout) -> StateDictLayout:
    """Return the layout of our own names, for models that no other program has: every array under itself.

    >>> own(HF_QFORMER).their_names("queries")
    ('queries',)
    """
    names = dict.fromkeys(rule.ours for layout in layouts for rule in layout.rules)
    return StateDictLayout("tinymm", tuple(Rule(name, (name,)) for name in names))


_CLIPS_VIT = own(
    HUGGING_FACE_CLIP
)  # a frozen encoder that `train clip` made has norms that EVA's lacks
TINYMM_STAGE_1, TINYMM_STAGE_2 = own(LAVIS_STAGE_1, _CLIPS_VIT), own(LAVIS_STAGE_2, _CLIPS_VIT)


def recognize(keys: Iterable[str]) -> tuple[str, StateDictLayout] | None:
    """Return which of "stage 1", "stage 2" and "Q-Former" a file holds, and its layout, or None if it is no BLIP-2.

    >>> recognize(["query_tokens", "qformer.layernorm.bias", "itm_head.bias"])[0]
    'stage 1'
    """
    keys = set(keys)
    starts = {key.split(".", 1)[0] for key in keys}
    if "Qformer" in starts:
        return (
            ("stage 2", LAVIS_STAGE_2) if "opt_proj.weight" in keys else ("stage 1", LAVIS_STAGE_1)
        )
    if "query_tokens" in keys and "qformer" in starts:
        return (
            ("stage 2", HF_GENERATION)
            if "language_projection" in starts
            else ("stage 1", HF_RETRIEVAL)
        )
    if "qformer.queries" in keys:
        return (
            ("stage 2", TINYMM_STAGE_2)
            if "projection.weight" in keys
            else ("stage 1", TINYMM_STAGE_1)
        )
    if "layernorm.weight" in keys and any("intermediate_query" in key for key in keys):
        return "Q-Former", HF_QFORMER
    return None
