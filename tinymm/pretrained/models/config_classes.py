"""What transformers' config classes mean: for each key of each class its default, and what it becomes here.

A config.json leaves out what its class has as default (nested parts of 4.45 to 4.49 leave out all
of it), so an absent key means that default, in the version that wrote the file. A key is *used* (it
has a name of ours), *fixed* (built in one way only, any other value is refused), or *free*: no
number of a loaded model depends on it, and the table says why. Keys that stand in no table are
listed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinymm.arrays.errors import CheckpointError


@dataclass(frozen=True)
class Key:
    """One key: its `default`, `ours` if it is used, `only` (the values that are built) if it is fixed, and why otherwise it is free.

    `before` lists (version, default) pairs of older files, the oldest first: the default until that
    version.
    """

    default: Any = None
    ours: str | None = None
    only: tuple[Any, ...] | None = None
    why: str = ""
    before: tuple[tuple[tuple[int, int], Any], ...] = ()

    def default_of(self, version: tuple[int, int] | None) -> Any:
        """Return what an absent key means in a file of that version, None being today's."""
        older = (
            default for until, default in self.before if version is not None and version < until
        )
        return next(older, self.default)


def _used(default: Any, ours: str, **more: Any) -> Key:
    return Key(default, ours, **more)


def _fixed(*only: Any, why: str) -> Key:
    return Key(only[0], only=only, why=why)


def _free(why: str) -> Key:
    return Key(why=why)


_TRAINED, _SPED, _OTHER_MODEL = (
    "only training asks for it",
    "says how, and not what, is computed",
    "of another model that has the same config",
)
_SHOWN, _WRITING, _PADDED = (
    "the arrays show it",
    "what `generate` does by default",
    "is_real says what is padding",
)
_TIED = _free("compared with the arrays when they are read, see `unties`")
_DROPOUT = dict.fromkeys(
    ("hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "dropout", "activation_dropout", "layerdrop", "classifier_dropout"),
    _free(_TRAINED),
)  # fmt: skip
_INITIAL = dict.fromkeys(("initializer_range", "initializer_factor", "init_std"), _free(_TRAINED))
#: Keys that every class has.
COMMON: dict[str, Key] = {
    **dict.fromkeys(
        ("architectures", "model_type", "transformers_version", "_name_or_path", "name_or_path", "_commit_hash", "finetuning_task", "id2label",
         "label2id", "num_labels", "problem_type", "task_specific_params", "tokenizer_class", "prefix", "auto_map", "base_model_tp_plan"),
        _free("a name, no setting"),
    ),
    **dict.fromkeys(("dtype", "torch_dtype"), _free("of the file; `load` widens to its own dtype")),
    **dict.fromkeys(
        ("return_dict", "output_hidden_states", "output_attentions", "torchscript", "use_bfloat16", "use_cache", "chunk_size_feed_forward",
         "attn_implementation", "_attn_implementation", "_attn_implementation_autoset", "attn_implementation_internal",
         "gradient_checkpointing", "tf_legacy_loss"),
        _free(_SPED),
    ),
    **dict.fromkeys(
        ("max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k",
         "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
         "num_return_sequences", "output_scores", "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id",
         "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "decoder_start_token_id"),
        _free(_WRITING),
    ),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id"), _free("the tokenizer's")),
    "tie_word_embeddings": _TIED,
    "is_encoder_decoder": _fixed(False, why="one stack reads or writes"),
    "tie_encoder_decoder": _free("the arrays show what is shared"),
    "cross_attention_hidden_size": _free(_SHOWN),
    "add_cross_attention": _free(_SHOWN),
    "is_decoder": _free("each use has a mask of its own"),
    "pruned_heads": Key({}, only=({}, None), why="all heads are there"),
    "quantization_config": Key(only=(None,), why="weights are plain numbers"),
    "position_embedding_type": _fixed("absolute", why="positions are a table"),
}  # fmt: skip
_SIZES = {
    "hidden_size": _used(None, "width"), "num_hidden_layers": _used(None, "layers"), "intermediate_size": _used(None, "feed_forward"),
    "layer_norm_eps": _used(1e-12, "eps"), "hidden_act": _used("gelu", "activation"),
}  # fmt: skip
_WORDS = {
    "vocab_size": _used(None, "vocabulary"),
    "max_position_embeddings": _used(None, "context"),
}
_PICTURE = {
    "image_size": _used(None, "resolution"),
    "patch_size": _used(None, "patch"),
    "num_channels": _used(None, "channels"),
}

#: Sizes have no default here: the arrays show them, and where a config says them, too, both must
#: agree.
CLASSES: dict[str, dict[str, Key]] = {
    "bert": {
        **_SIZES, **_WORDS, **_DROPOUT, **_INITIAL,
        "num_attention_heads": _used(12, "heads"),
        "type_vocab_size": _used(None, "token_types"),
        "is_decoder": _used(False, "causal"),
        "add_cross_attention": _used(False, "crosses"),
    },
    "blip_text_model": {
        **_SIZES, **_WORDS, **_DROPOUT, **_INITIAL,
        "num_attention_heads": _used(8, "heads"),
        "encoder_hidden_size": _free("the outer config sets it to the image encoder's width"),
        "projection_dim": _free(_OTHER_MODEL),
        "bos_token_id": _used(30522, "decode"),
        "sep_token_id": _used(102, "end_of_text"),
        "eos_token_id": _free("writing ends at sep_token_id"),
        "is_decoder": _fixed(True, why="its layers look at the picture"),
        "label_smoothing": _used(0.0, "smoothing", before=(((4, 38), 0.1),)),
    },
    "blip_vision_model": {
        **_SIZES, **_PICTURE, **_DROPOUT, **_INITIAL,
        "num_attention_heads": _used(12, "heads"),
        "layer_norm_eps": _used(1e-5, "eps"),
        "projection_dim": _free(_OTHER_MODEL),
    },
    "blip": {
        **_INITIAL,
        "text_config": _free("a class of its own"), "vision_config": _free("a class of its own"),
        "projection_dim": _free(_OTHER_MODEL), "logit_scale_init_value": _free(_OTHER_MODEL),
        "image_text_hidden_size": _used(256, "embed_dim"),
        "label_smoothing": _free("the decoder asks the text's own"),
    },
    "blip_2_vision_model": {
        **_SIZES, **_PICTURE, **_DROPOUT, **_INITIAL,
        "num_attention_heads": _used(16, "heads"),
        "layer_norm_eps": _used(1e-6, "eps", before=(((4, 34), 1e-5),)),
        "qkv_bias": _fixed(True, why="attention has biases"),
        "projection_dim": _free(_OTHER_MODEL),
    },
    "blip_2_qformer": {
        **_SIZES, **_WORDS, **_DROPOUT, **_INITIAL,
        "num_attention_heads": _used(12, "heads"),
        "encoder_hidden_size": _used(None, "encoder_width"),
        "cross_attention_frequency": _used(2, "cross_every"),
        "use_qformer_text_input": _free(_SHOWN),
    },
    "blip-2": {
        **_INITIAL,
        "text_config": _free("a class of its own"), "vision_config": _free("a class of its own"), "qformer_config": _free("a class of its own"),
        "num_query_tokens": _used(None, "queries"),
        "image_text_hidden_size": _used(None, "embed_dim"),
        "image_token_index": _free("the processor's"), "image_token_id": _free("the processor's"),
        "use_decoder_only_language_model": _fixed(True, why="the language model is an OPT"),
    },
    "opt": {
        **_WORDS, **_DROPOUT, **_INITIAL,
        "hidden_size": _used(None, "width"), "num_hidden_layers": _used(None, "layers"), "ffn_dim": _used(None, "feed_forward"),
        "num_attention_heads": _used(12, "heads"),
        "activation_function": _used("relu", "activation"),
        "bos_token_id": _used(2, "begin"), "eos_token_id": _used(2, "end"),
        "do_layer_norm_before": _fixed(True, why="norms stand before the sums; opt-350m's stand behind them"),
        "_remove_final_layer_norm": _fixed(False, why="a norm stands before the words"),
        "enable_bias": _fixed(True, why="linear maps have biases"),
        "layer_norm_elementwise_affine": _fixed(True, why="norms have gains"),
        "scale_embedding": _fixed(False, why="words are added to places as they are"),
        "word_embed_proj_dim": _used(None, "word_width"),
    },
}  # fmt: skip
#: Settings for which a config may say null on purpose.
_IDS = ("bos_token_id", "sep_token_id", "eos_token_id")


def version_of(settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return which transformers wrote the settings, or None where they don't say it.

    >>> version_of({"transformers_version": "4.26.0.dev0"}), version_of({})
    ((4, 26), None)
    """
    said = re.match(r"(\d{1,4})\.(\d{1,4})", str(settings.get("transformers_version") or ""))
    return (int(said[1]), int(said[2])) if said else None


def part_of(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return one part's settings, none where there are none; CheckpointError unless they are an object."""
    part = settings.get(name) or {}
    if not isinstance(part, dict):
        raise CheckpointError(
            f"config.json: {name} is an object of settings, a {type(part).__name__} came; copy the file again"
        )
    return part


def read_config(
    settings: Mapping[str, Any],
    kind: str,
    unused: list[str],
    *,
    where: str = "",
    version: tuple[int, int] | None = None,
    also: Mapping[str, Key] | None = None,
) -> dict[str, Any]:
    """Return what settings of the class `kind` say, in our words, absent keys with the class's default.

    Keys that no table has are added to `unused`, with `where` (such as "text_config.") in front;
    `also` are keys that a program adds to the class's. CheckpointError for another class, and for a
    value that is not built.

    >>> read_config({"num_hidden_layers": 2, "flavor": 1}, "blip_vision_model", unused := [])["heads"], unused
    (12, ['flavor'])
    """
    if settings.get("model_type", kind) != kind:
        raise CheckpointError(
            f"config.json: {where}model_type is {kind!r} by the arrays, and {settings['model_type']!r} came; put the config.json "
            "of this very file beside it"
        )
    table = COMMON | CLASSES[kind] | dict(also or {})
    version = version_of(settings) or version
    unused += [f"{where}{key}" for key in settings if key not in table]
    said: dict[str, Any] = {}
    for key, known in table.items():
        value = settings.get(key)
        if value is None and not (key in _IDS and key in settings):
            value = known.default_of(version)
        if known.only is not None and not any(
            type(value) is type(only) and value == only for only in known.only
        ):
            raise CheckpointError(
                f"config.json: {where}{key} is {known.only[0]!r} here ({known.why}), and {value!r} came; load another model"
            )
        if known.ours is not None and (value is not None or key in _IDS):
            said[known.ours] = _one_side(value) if key in _PICTURE else value
    return said


def _one_side(value: Any) -> Any:
    """Return the side of a square that is written as two, and anything else as it is, to be compared with the arrays."""
    return (
        value[0] if isinstance(value, list) and len(value) == 2 and value[0] == value[1] else value
    )


def needs_config(settings: Mapping[str, Any], layout: Any) -> None:
    """Raise CheckpointError where a file in Hugging Face's layout comes without its config.json, which alone knows heads and activations."""
    if layout.name.startswith("huggingface") and not settings:
        raise CheckpointError(
            "no array shows the heads and the activation of these weights, and no config.json lies beside them; copy that file too"
        )


def unties(settings: Mapping[str, Any]) -> bool:
    """Say whether the settings, or those of their texts, give the output a table of words of its own.

    >>> unties({"text_config": {"tie_word_embeddings": False}}), unties({})
    (True, False)
    """
    parts = [settings, *(settings.get(name) for name in ("text_config", "bert"))]
    return any(
        isinstance(part, Mapping) and part.get("tie_word_embeddings") is False for part in parts
    )
