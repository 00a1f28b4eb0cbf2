"""BERT's key map: the layers and heads that ALBEF, BLIP and the Q-Former share, under the names that all programs took over from BERT."""

from .key_maps import Rule, linear, norm


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
