"""OPT's key map and settings: Hugging Face's `OPTForCausalLM`, alone or as the language model of a BLIP-2."""

from collections.abc import Iterable
from typing import Any

from tinymm.arrays.errors import CheckpointError
from tinymm.arrays.random import generator
from tinymm.models.opt import OPT, OPTConfig

from .key_maps import Imported, Layout, Rule, linear, norm
from .measured import agreed, opt_sizes

_SETTINGS = {
    "vocab_size": "vocabulary", "max_position_embeddings": "context", "hidden_size": "width", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "ffn_dim": "feed_forward", "activation_function": "activation", "bos_token_id": "begin",
    "eos_token_id": "end",
}  # fmt: skip


def rules(prefix: str = "model.decoder.") -> tuple[Rule, ...]:
    """Return the rules of an OPT whose keys begin with that prefix."""
    layer, heads = f"{prefix}layers.{{}}", [f"{prefix}layers.{{}}.self_attn.{part}_proj" for part in "qkv"]
    return (
        Rule("token_embedding.weight", (f"{prefix}embed_tokens.weight",)),
        Rule("positions", (f"{prefix}embed_positions.weight",)),
        Rule("blocks.{}.attention.qkv.weight", tuple(f"{head}.weight" for head in heads), "transpose"),
        Rule("blocks.{}.attention.qkv.bias", tuple(f"{head}.bias" for head in heads)),
        *linear("blocks.{}.attention.output", f"{layer}.self_attn.out_proj"),
        *norm("blocks.{}.norm_1", f"{layer}.self_attn_layer_norm"),
        *linear("blocks.{}.mlp.expand", f"{layer}.fc1"),
        *linear("blocks.{}.mlp.contract", f"{layer}.fc2"),
        *norm("blocks.{}.norm_2", f"{layer}.final_layer_norm"),
        *norm("norm_after", f"{prefix}final_layer_norm"),
    )


#: The head is the table of words; files may repeat it. The released ones lack `model.`, the library's own have it.
HUGGING_FACE = Layout("huggingface", rules(), (r"lm_head\.weight",))
RELEASED = Layout("huggingface", rules("decoder."), (r"lm_head\.weight",))


def recognize(keys: Iterable[str], settings: dict[str, Any]) -> Layout | None:
    """Return the layout of an OPT's file by its keys, or None."""
    keys = set(keys)
    if "model.decoder.embed_positions.weight" in keys:
        return HUGGING_FACE
    return RELEASED if "decoder.embed_positions.weight" in keys else None


def declared(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what an OPT's settings say, in our words; CheckpointError for the variants that are built differently."""
    if settings.get("do_layer_norm_before") is False or settings.get("word_embed_proj_dim") not in (None, settings.get("hidden_size")):
        raise CheckpointError("this OPT has its norms behind the sums or a narrow table of words, as opt-350m has; load another size")
    if settings.get("activation_function") not in (None, "relu"):
        raise CheckpointError(f"an OPT's activation is relu, and {settings['activation_function']!r} came; load another model")
    return {ours: settings[theirs] for theirs, ours in _SETTINGS.items() if settings.get(theirs) is not None}


def build(found: Imported, layout: Layout, settings: dict[str, Any], heads: dict[str, int]) -> OPT:
    """Return a fresh model of the sizes that the arrays show and the settings declare."""
    return OPT(OPTConfig(**agreed("the language model", opt_sizes(found.arrays), declared(settings), heads=heads.get("language"))), generator(0))


def layout_for(config: OPTConfig, name: str) -> Layout:
    """Return the one layout in which an OPT is written."""
    return HUGGING_FACE


def settings_for(config: OPTConfig, name: str, dtype: str) -> dict[str, Any]:
    """Return the config.json of an `OPTForCausalLM`."""
    said = {theirs: getattr(config, ours) for theirs, ours in _SETTINGS.items()}
    return {
        "architectures": ["OPTForCausalLM"], "model_type": "opt", "dtype": dtype, "do_layer_norm_before": True,
        "word_embed_proj_dim": config.width, "pad_token_id": 1 if config.begin != 1 else 0, "dropout": 0.0, "attention_dropout": 0.0, **said,
    }  # fmt: skip
