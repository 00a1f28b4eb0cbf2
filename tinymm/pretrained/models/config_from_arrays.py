"""Sizes read off arrays under our own names: what a ViT, a BERT-like stack or an OPT must have been built with.

A config.json may be missing, and may lie; so sizes that arrays show are measured, and only what
they can't show (heads, activations, eps, special ids) is taken from the file or from the caller. A
model is built only where both agree, so that no file can ask for a terabyte.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

import numpy as np

from tinymm.arrays.errors import CheckpointError, TinymmError
from tinymm.models.opt import OFFSET

Arrays = Mapping[str, np.ndarray]
#: The heads of the ViTs and BERTs with which the papers' models were released, by their width;
#: EVA's ViT-g has heads 88 wide.
RELEASED_HEADS = {768: 12, 1024: 16, 1408: 16}


def shape_of(arrays: Arrays, name: str, axes: int) -> tuple[int, ...]:
    """Return the shape of an array that a model can't be without; CheckpointError if it is missing or has another number of axes."""
    if name not in arrays:
        raise CheckpointError(
            f"the file lacks the array for {name}, which shows the model's size; check that the file is whole"
        )
    shape = arrays[name].shape
    if len(shape) != axes or 0 in shape:
        raise CheckpointError(
            f"the array for {name} has {axes} axes, and shape {shape} came; the file is damaged or of another model"
        )
    return shape


def layers_of(arrays: Arrays, prefix: str) -> int:
    """Return how many numbers follow the prefix, as in `blocks.0.…`, `blocks.1.…`."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return len({match[1] for match in map(pattern.match, arrays) if match})


def vit_sizes(arrays: Arrays, prefix: str = "image_encoder.") -> dict[str, Any]:
    """Return the sizes of a vision transformer; CheckpointError for images that are not square."""
    patch, _, channels, width = shape_of(arrays, f"{prefix}patch_embedding.weight", 4)
    positions = shape_of(arrays, f"{prefix}positions", 2)[0]
    side = math.isqrt(positions - 1)
    if side * side != positions - 1 or side == 0:
        raise CheckpointError(
            f"positions are one and a square grid, {positions} came; pictures that are not square are not read"
        )
    return {
        "resolution": patch * side, "patch": patch, "channels": channels, "width": width, "layers": layers_of(arrays, f"{prefix}blocks"),
        "feed_forward": shape_of(arrays, f"{prefix}blocks.0.mlp.fc1.weight", 2)[1],
        "norm_before": f"{prefix}norm_before.weight" in arrays, "norm_after": f"{prefix}norm_after.weight" in arrays,
        "patch_bias": f"{prefix}patch_embedding.bias" in arrays,
    }  # fmt: skip


def qformer_sizes(arrays: Arrays, prefix: str = "qformer.") -> dict[str, Any]:
    """Return the sizes of a Q-Former; `queries` is left out where the file keeps them elsewhere.

    CheckpointError for an irregular stack of layers.
    """
    encoder_width, width = shape_of(arrays, f"{prefix}blocks.0.cross.key.weight", 2)
    layers = layers_of(arrays, f"{prefix}blocks")
    crossing = [i for i in range(layers) if f"{prefix}blocks.{i}.cross.key.weight" in arrays]
    every = crossing[1] if len(crossing) > 1 else layers
    if crossing != list(range(0, layers, every)):
        raise CheckpointError(
            f"a Q-Former looks at the picture every so many layers, and layers {crossing} of {layers} came; the file is damaged"
        )
    sizes = {
        "width": width, "layers": layers, "encoder_width": encoder_width, "cross_every": every,
        "feed_forward": shape_of(arrays, f"{prefix}blocks.0.query_mlp.fc1.weight", 2)[1],
    }  # fmt: skip
    if f"{prefix}queries" in arrays:
        sizes["queries"] = shape_of(arrays, f"{prefix}queries", 2)[0]
    if f"{prefix}embedding.words.weight" in arrays:
        sizes["vocabulary"] = shape_of(arrays, f"{prefix}embedding.words.weight", 2)[0]
        sizes["context"] = shape_of(arrays, f"{prefix}embedding.positions", 2)[0]
    return sizes


def bert_sizes(arrays: Arrays, prefix: str) -> dict[str, Any]:
    """Return the sizes of a BERT, with or without cross-attention, of which the self-attention may be missing."""
    vocabulary, width = shape_of(arrays, f"{prefix}embedding.words.weight", 2)
    layers = layers_of(arrays, f"{prefix}blocks")
    sizes = {
        "vocabulary": vocabulary, "width": width, "context": shape_of(arrays, f"{prefix}embedding.positions", 2)[0], "layers": layers,
        "feed_forward": shape_of(arrays, f"{prefix}blocks.0.mlp.fc1.weight", 2)[1],
        "token_types": len(arrays[f"{prefix}embedding.types"]) if f"{prefix}embedding.types" in arrays else 0,
    }  # fmt: skip
    crossing = [i for i in range(layers) if f"{prefix}blocks.{i}.cross.key.weight" in arrays]
    if crossing:
        sizes["fusion_layer"] = crossing[0]
        sizes["encoder_width"] = shape_of(
            arrays, f"{prefix}blocks.{crossing[0]}.cross.key.weight", 2
        )[0]
    return sizes


def opt_sizes(arrays: Arrays, prefix: str = "") -> dict[str, Any]:
    """Return the sizes of an OPT."""
    vocabulary, width = shape_of(arrays, f"{prefix}token_embedding.weight", 2)
    return {
        "vocabulary": vocabulary, "width": width, "context": shape_of(arrays, f"{prefix}positions", 2)[0] - OFFSET,
        "layers": layers_of(arrays, f"{prefix}blocks"), "feed_forward": shape_of(arrays, f"{prefix}blocks.0.mlp.fc1.weight", 2)[1],
        "tied": f"{prefix}output" not in arrays,
    }  # fmt: skip


def merge_config(
    what: str,
    measured: dict[str, Any],
    declared: Mapping[str, Any],
    heads: int | None = None,
    released: Mapping[int, int] = RELEASED_HEADS,
) -> dict[str, Any]:
    """Return measured and declared settings together; CheckpointError names the first that the file declares otherwise.

    No array shows the heads: they are those given or declared, or those of the `released` models of
    this width (width → heads).
    """
    for name, value in measured.items():
        said = declared.get(name)
        if said is not None and said != value:
            raise CheckpointError(
                f"the config and the arrays agree; {what} {name} is {said!r} in the config and {value!r} by the arrays; put the config.json "
                "of this very file beside it"
            )
    together = {name: value for name, value in declared.items() if value is not None} | measured
    said = together.get("heads")
    count = heads or said or released.get(measured["width"])
    if count is None:
        raise CheckpointError(
            f"files do not tell how many heads {what} has, and {measured['width']} is no width of a released one; pass heads=, or put its "
            "config.json beside it"
        )
    if type(count) is not int or count < 1 or measured["width"] % count:
        raise CheckpointError(
            f"the heads of {what} share its width {measured['width']} evenly, {count!r} came; files do not tell their number: pass heads="
        )
    return together | {"heads": count}


def checked_config(what: str, kind: type, settings: Mapping[str, Any]) -> Any:
    """Return a config of the class `kind`, each setting held to its field; CheckpointError names the first that it cannot be.

    A setting has the type that its field is annotated with, whole numbers count or name something
    and are not negative, others are finite and not negative either, and an eps is between 0 and 1.
    What the class itself refuses, it says in its own words.

    >>> from tinymm.models.cbow import CBOWConfig
    >>> checked_config("text encoder", CBOWConfig, {"vocabulary": 9, "context": 4, "width": "8"})
    Traceback (most recent call last):
    tinymm.arrays.errors.CheckpointError: config.json: the text encoder's width is a whole number, 0 or more, '8' came; correct it
    """
    hints = get_type_hints(kind)
    for name, value in settings.items():
        if name not in hints:
            raise CheckpointError(
                f"config.json: the {what} has no setting {name!r}; put the config.json of this very file beside it"
            )
        kinds = get_args(hints[name]) if isinstance(hints[name], UnionType) else (hints[name],)
        expected, fits = _RANGES.get(name) or next(
            (_TYPES[k] for k in kinds if k in _TYPES), (None, None)
        )
        if fits and not (fits(value) or value is None and NoneType in kinds):
            raise CheckpointError(
                f"config.json: the {what}'s {name} is {expected}, {value!r} came; correct it"
            )
    for item in fields(kind):
        if (
            item.name not in settings
            and item.default is MISSING
            and item.default_factory is MISSING
        ):
            raise CheckpointError(
                f"config.json: the {what} needs {item.name}, and neither it nor the arrays say it; put the "
                "config.json of this very file beside it"
            )
    try:
        return kind(**settings)
    except CheckpointError:
        raise
    except TinymmError as problem:
        raise CheckpointError(f"config.json: the {what} cannot be built: {problem}") from problem


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


#: By a field's type, what its values are in words, and whether a value is one.
_TYPES: dict[type, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: type(value) is bool),
    int: ("a whole number, 0 or more", lambda value: type(value) is int and 0 <= value < 2**31),
    float: ("a number, 0 or more", lambda value: _is_number(value) and 0 <= value < 2**31),
    str: ("a word", lambda value: type(value) is str),
}
_EPS = ("a small positive number", lambda value: _is_number(value) and 0 < value < 1)
#: By a field's name, where the type leaves too much.
_RANGES = {"eps": _EPS, "norm_eps": _EPS}
