"""BERT's key map: the layers and heads that ALBEF, BLIP and the Q-Former share, under the names that all programs took over from BERT.

`BertForMaskedLM` folders are read and written whole; the pooler and the next-sentence head of older files have no use here.
"""

from collections.abc import Iterable
from typing import Any

from tinymm.arrays.random import generator
from tinymm.models.bert import BertConfig, BertLanguageModel

from .key_maps import Imported, Layout, Rule, linear, norm
from .measured import agreed, layers_of, shape_of

_SETTINGS = {
    "vocab_size": "vocabulary", "max_position_embeddings": "context", "hidden_size": "width", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "intermediate_size": "feed_forward", "hidden_act": "activation", "layer_norm_eps": "eps",
    "type_vocab_size": "token_types",
}  # fmt: skip
_ASSUMED = {"activation": "gelu", "eps": 1e-12}


def bert_embedding(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Return the rules of the tables of words and positions."""
    return (
        Rule(f"{ours}.words.weight", (f"{theirs}.word_embeddings.weight",)),
        Rule(f"{ours}.positions", (f"{theirs}.position_embeddings.weight",)),
    )


def bert_layer(ours: str, theirs: str, inner: str = "self") -> tuple[Rule, ...]:
    """Return the rules of a layer; `inner` is what a program calls the part of an attention that holds query, key and value.

    Those three are packed into one weight in our self-attention and stand apart in cross-attention.
    """
    heads = [f"{theirs}.attention.{inner}.{part}" for part in ("query", "key", "value")]
    return (
        Rule(f"{ours}.attention.qkv.weight", tuple(f"{head}.weight" for head in heads), "transpose"),
        Rule(f"{ours}.attention.qkv.bias", tuple(f"{head}.bias" for head in heads)),
        *linear(f"{ours}.attention.output", f"{theirs}.attention.output.dense"),
        *norm(f"{ours}.norm_1", f"{theirs}.attention.output.LayerNorm"),
        *(
            rule
            for part in ("query", "key", "value")
            for rule in linear(f"{ours}.cross.{part}", f"{theirs}.crossattention.{inner}.{part}")
        ),
        *linear(f"{ours}.cross.output", f"{theirs}.crossattention.output.dense"),
        *norm(f"{ours}.norm_cross", f"{theirs}.crossattention.output.LayerNorm"),
        *linear(f"{ours}.mlp.expand", f"{theirs}.intermediate.dense"),
        *linear(f"{ours}.mlp.contract", f"{theirs}.output.dense"),
        *norm(f"{ours}.norm_2", f"{theirs}.output.LayerNorm"),
    )


def language_head(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Return the rules of the head that names words; its table is the embedding's own and stands there."""
    return (
        *linear(f"{ours}.dense", f"{theirs}.transform.dense"),
        *norm(f"{ours}.norm", f"{theirs}.transform.LayerNorm"),
        Rule(f"{ours}.bias", (f"{theirs}.bias",)),
    )


HUGGING_FACE = Layout(
    "huggingface",
    (
        *bert_embedding("bert.embedding", "bert.embeddings"),
        Rule("bert.embedding.types", ("bert.embeddings.token_type_embeddings.weight",)),
        *norm("bert.norm", "bert.embeddings.LayerNorm"),
        *bert_layer("bert.blocks.{}", "bert.encoder.layer.{}"),
        *language_head("language_head", "cls.predictions"),
    ),
    (r"bert\.embeddings\.position_ids", r"cls\.predictions\.decoder\.(weight|bias)", r"bert\.pooler\..*", r"cls\.seq_relationship\..*"),
)


def recognize(keys: Iterable[str], settings: dict[str, Any]) -> Layout | None:
    """Return the layout of a BERT's file by its keys, or None."""
    keys = set(keys)
    return HUGGING_FACE if {"bert.embeddings.word_embeddings.weight", "cls.predictions.bias"} <= keys else None


def build(found: Imported, layout: Layout, settings: dict[str, Any], heads: dict[str, int]) -> BertLanguageModel:
    """Return a fresh model of the sizes that the arrays show and the settings declare."""
    arrays = found.arrays
    vocabulary, width = shape_of(arrays, "bert.embedding.words.weight", 2)
    sizes = {
        "vocabulary": vocabulary, "width": width, "context": shape_of(arrays, "bert.embedding.positions", 2)[0],
        "layers": layers_of(arrays, "bert.blocks"), "feed_forward": shape_of(arrays, "bert.blocks.0.mlp.expand.weight", 2)[1],
        "token_types": len(arrays["bert.embedding.types"]) if "bert.embedding.types" in arrays else 0,
    }  # fmt: skip
    if "bert.blocks.0.cross.key.weight" in arrays:
        sizes["memory_width"] = shape_of(arrays, "bert.blocks.0.cross.key.weight", 2)[0]
    said = {ours: settings[theirs] for theirs, ours in _SETTINGS.items() if settings.get(theirs) is not None}
    return BertLanguageModel(BertConfig(**agreed("BERT", sizes, _ASSUMED | said, heads=heads.get("text"))), generator(0))


def settings_for(config: BertConfig, name: str, dtype: str) -> dict[str, Any]:
    """Return the config.json of a `BertForMaskedLM`."""
    said = {theirs: getattr(config, ours) for theirs, ours in _SETTINGS.items()}
    crosses = {"is_decoder": True, "add_cross_attention": True} if config.memory_width else {}
    return {"architectures": ["BertForMaskedLM"], "model_type": "bert", "dtype": dtype, **said, **crosses}
