"""OPT's key map and settings: Hugging Face's `OPTForCausalLM`, alone or as the language model of a BLIP-2."""

from collections.abc import Iterable
from typing import Any

from tinymm.arrays.errors import CheckpointError
from tinymm.arrays.random import generator
from tinymm.models.opt import OPT, OPTConfig

from ..key_maps import Imported, Rule, StateDictLayout, linear, norm
from .config_classes import read_config
from .config_from_arrays import checked_config, merge_config, opt_sizes

_SETTINGS = {
    "vocab_size": "vocabulary", "max_position_embeddings": "context", "hidden_size": "width", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "ffn_dim": "feed_forward", "activation_function": "activation", "bos_token_id": "begin",
    "eos_token_id": "end",
}  # fmt: skip


def rules(prefix: str = "model.decoder.", head: str = "lm_head") -> tuple[Rule, ...]:
    """Return the rules of an OPT whose keys begin with that prefix, and of its output head."""
    layer, heads = (
        f"{prefix}layers.{{}}",
        [f"{prefix}layers.{{}}.self_attn.{part}_proj" for part in "qkv"],
    )
    return (
        Rule("token_embedding.weight", (f"{prefix}embed_tokens.weight",)),
        Rule("positions", (f"{prefix}embed_positions.weight",)),
        Rule(
            "blocks.{}.attention.qkv.weight", tuple(f"{head}.weight" for head in heads), "transpose"
        ),
        Rule("blocks.{}.attention.qkv.bias", tuple(f"{head}.bias" for head in heads)),
        *linear("blocks.{}.attention.output", f"{layer}.self_attn.out_proj"),
        *norm("blocks.{}.norm_1", f"{layer}.self_attn_layer_norm"),
        *linear("blocks.{}.mlp.fc1", f"{layer}.fc1"),
        *linear("blocks.{}.mlp.fc2", f"{layer}.fc2"),
        *norm("blocks.{}.norm_2", f"{layer}.final_layer_norm"),
        *norm("norm_after", f"{prefix}final_layer_norm"),
        Rule("output", (f"{head}.weight",)),
    )


def tied_head(prefix: str = "model.decoder.", head: str = "lm_head") -> tuple[tuple[str, str], ...]:
    """Return the pair of the head's key and of the table of words that it repeats, unless the head is one of its own."""
    return ((f"{head}.weight", f"{prefix}embed_tokens.weight"),)


#: The head is the table of words; files may repeat it. The released ones lack `model.`, the
#: library's own have it.
HUGGING_FACE = StateDictLayout("huggingface", rules(), tied=tied_head())
RELEASED = StateDictLayout("huggingface", rules("decoder."), tied=tied_head("decoder."))
#: Of the released sizes, the heads by the width: no file says them.
_RELEASED_HEADS = {768: 12, 2048: 32, 2560: 32, 4096: 32, 5120: 40, 7168: 56, 9216: 72}


def recognize(keys: Iterable[str], settings: dict[str, Any]) -> StateDictLayout | None:
    """Return the layout of an OPT's file by its keys, or None."""
    keys = set(keys)
    if "model.decoder.embed_positions.weight" in keys:
        return HUGGING_FACE
    return RELEASED if "decoder.embed_positions.weight" in keys else None


def config_of(
    found: Imported,
    settings: dict[str, Any],
    heads: dict[str, int],
    prefix: str = "",
    where: str = "",
    version: Any = None,
) -> OPTConfig:
    """Return the config of an OPT whose arrays, under our names, begin with `prefix`; without settings, that of a released one.

    CheckpointError for the variants that are built differently, and for contradictions.
    """
    if settings.get("do_layer_norm_before") is False:
        raise CheckpointError(
            "this OPT has its norms behind the sums or a narrow table of words, as opt-350m has; load another size"
        )
    said: dict[str, Any] = read_config(settings, "opt", found.unused, where=where, version=version)
    sizes = opt_sizes(found.arrays, prefix)
    width = said.get("width", sizes["width"])
    word_width = said.pop("word_width", width)
    if word_width != width:
        raise CheckpointError(
            f"words {word_width} wide in a stack of {width} are a narrow table of words, as opt-350m has; load another size"
        )
    if said["activation"] != "relu":
        raise CheckpointError(
            f"an OPT's activation is relu, and {said['activation']!r} came; load another model"
        )
    for name in ("begin", "end"):
        if type(said[name]) is list and len(said[name]) == 1:
            said[name] = said[name][0]
    if not settings:
        said.pop("heads")
    settings = merge_config(
        "the language model", sizes, said, heads=heads.get("language"), released=_RELEASED_HEADS
    )
    return checked_config("language model", OPTConfig, settings)


def build(
    found: Imported, layout: StateDictLayout, settings: dict[str, Any], heads: dict[str, int]
) -> OPT:
    """Return a randomly initialized model of the sizes that the arrays show and the settings declare."""
    return OPT(config_of(found, settings, heads), generator(0))


def layout_for(config: OPTConfig, name: str) -> StateDictLayout:
    """Return the one layout in which an OPT is written."""
    return HUGGING_FACE


def settings_for(config: OPTConfig, name: str, dtype: str) -> dict[str, Any]:
    """Return the config.json of an `OPTForCausalLM`."""
    said = {theirs: getattr(config, ours) for theirs, ours in _SETTINGS.items()}
    return {
        "architectures": ["OPTForCausalLM"], "model_type": "opt", "dtype": dtype, "do_layer_norm_before": True,
        "word_embed_proj_dim": config.width, "tie_word_embeddings": config.tied,
        "pad_token_id": 1 if config.begin != 1 else 0, "dropout": 0.0, "attention_dropout": 0.0, **said,
    }  # fmt: skip
