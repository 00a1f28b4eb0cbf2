"""BERT's key map: the layers and heads that ALBEF, BLIP and the Q-Former share, under the names that all programs took over from BERT.

`BertForMaskedLM` folders are read and written whole; the pooler and the next-sentence head of older
files have no use here.
"""

from collections.abc import Iterable
from typing import Any

from tinymm.arrays.errors import CheckpointError
from tinymm.arrays.random import generator
from tinymm.models.bert import BertConfig, BertLanguageModel

from ..key_maps import Imported, Rule, StateDictLayout, linear, norm
from .config_classes import needs_config, read_config
from .config_from_arrays import bert_sizes, checked_config, merge_config

_SETTINGS = {
    "vocab_size": "vocabulary", "max_position_embeddings": "context", "hidden_size": "width", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "intermediate_size": "feed_forward", "hidden_act": "activation", "layer_norm_eps": "eps",
    "type_vocab_size": "token_types",
}  # fmt: skip
ASSUMED = {"activation": "gelu", "eps": 1e-12}  # the released code's own


def bert_embedding(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Return the rules of the tables of words and positions."""
    return (
        Rule(f"{ours}.words.weight", (f"{theirs}.word_embeddings.weight",)),
        Rule(f"{ours}.positions", (f"{theirs}.position_embeddings.weight",)),
    )


def bert_layer(ours: str, theirs: str, inner: str = "self") -> tuple[Rule, ...]:
    """Return the rules of a layer; `inner` is what a program calls the part of an attention that holds query, key and value."""
    return *self_attention(f"{ours}.attention", f"{ours}.norm_1", theirs, inner), *behind_attention(
        ours, theirs, inner
    )


def self_attention(
    attention: str, first_norm: str, theirs: str, inner: str = "self"
) -> tuple[Rule, ...]:
    """Return the rules of a layer's self-attention and its norm; query, key and value are packed into one weight here, and stand apart there."""
    heads = [f"{theirs}.attention.{inner}.{part}" for part in ("query", "key", "value")]
    return (
        Rule(f"{attention}.qkv.weight", tuple(f"{head}.weight" for head in heads), "transpose"),
        Rule(f"{attention}.qkv.bias", tuple(f"{head}.bias" for head in heads)),
        *linear(f"{attention}.output", f"{theirs}.attention.output.dense"),
        *norm(first_norm, f"{theirs}.attention.output.LayerNorm"),
    )


def behind_attention(ours: str, theirs: str, inner: str = "self") -> tuple[Rule, ...]:
    """Return the rules of the rest of a layer: cross-attention, whose query, key and value stand apart here too, and feed-forward."""
    return (
        *(
            rule
            for part in ("query", "key", "value")
            for rule in linear(f"{ours}.cross.{part}", f"{theirs}.crossattention.{inner}.{part}")
        ),
        *linear(f"{ours}.cross.output", f"{theirs}.crossattention.output.dense"),
        *norm(f"{ours}.norm_cross", f"{theirs}.crossattention.output.LayerNorm"),
        *linear(f"{ours}.mlp.fc1", f"{theirs}.intermediate.dense"),
        *linear(f"{ours}.mlp.fc2", f"{theirs}.output.dense"),
        *norm(f"{ours}.norm_2", f"{theirs}.output.LayerNorm"),
    )


def language_head(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Return the rules of the head that names words; its table is the embedding's and stands there, or `output`, one of its own."""
    return (
        *linear(f"{ours}.dense", f"{theirs}.transform.dense"),
        *norm(f"{ours}.norm", f"{theirs}.transform.LayerNorm"),
        Rule(f"{ours}.bias", (f"{theirs}.bias",)),
        Rule(f"{ours}.output", (f"{theirs}.decoder.weight",)),
    )


def tied_head(theirs: str, embeddings: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs of a head's keys and of what they repeat, unless the head is one of its own."""
    weight, bias = f"{theirs}.decoder.weight", f"{theirs}.decoder.bias"
    return (weight, f"{embeddings}.word_embeddings.weight"), (bias, f"{theirs}.bias")


HUGGING_FACE = StateDictLayout(
    "huggingface",
    (
        *bert_embedding("bert.embedding", "bert.embeddings"),
        Rule("bert.embedding.types", ("bert.embeddings.token_type_embeddings.weight",)),
        *norm("bert.norm", "bert.embeddings.LayerNorm"),
        *bert_layer("bert.blocks.{}", "bert.encoder.layer.{}"),
        *language_head("language_head", "cls.predictions"),
    ),
    # what names words asks neither the pooler nor the head that knows whether one sentence follows another
    (r"bert\.embeddings\.position_ids", r"bert\.pooler\..*", r"cls\.seq_relationship\..*"),
    tied=tied_head("cls.predictions", "bert.embeddings"),
)


def recognize(keys: Iterable[str], settings: dict[str, Any]) -> StateDictLayout | None:
    """Return the layout of a BERT's file by its keys, or None."""
    keys = set(keys)
    return (
        HUGGING_FACE
        if {"bert.embeddings.word_embeddings.weight", "cls.predictions.bias"} <= keys
        else None
    )


def build(
    found: Imported, layout: StateDictLayout, settings: dict[str, Any], heads: dict[str, int]
) -> BertLanguageModel:
    """Return a randomly initialized model of the sizes that arrays and settings say; CheckpointError where they contradict each other."""
    needs_config(settings, layout)
    sizes = bert_sizes(found.arrays, "bert.") | {"tied": "language_head.output" not in found.arrays}
    said = read_config(settings, "bert", found.unused)
    crosses, looks = said.pop("crosses"), "encoder_width" in sizes
    if crosses != looks:
        raise CheckpointError(
            f"config.json: add_cross_attention is {looks} by the arrays, and {crosses!r} came; put the config.json of this very file beside it"
        )
    return BertLanguageModel(
        checked_config(
            "BERT", BertConfig, merge_config("BERT", sizes, said, heads=heads.get("text"))
        ),
        generator(0),
    )


def settings_for(config: BertConfig, name: str, dtype: str) -> dict[str, Any]:
    """Return the config.json of a `BertForMaskedLM`."""
    said = {theirs: getattr(config, ours) for theirs, ours in _SETTINGS.items()}
    kind = "BertLMHeadModel" if config.causal else "BertForMaskedLM"
    flags = {
        "is_decoder": config.causal,
        "add_cross_attention": config.encoder_width is not None,
        "tie_word_embeddings": config.tied,
    }
    return {"architectures": [kind], "model_type": "bert", "dtype": dtype, **said, **flags}
