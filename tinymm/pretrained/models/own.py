"""The files of a model that no other program knows: its own names, and its config as JSON.

`ModelSpec` gives one to every model that has no format of its own.
"""

import types
import typing
from collections.abc import Iterable
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from tinymm.arrays.errors import CheckpointError, UsageError
from tinymm.arrays.random import generator
from tinymm.layers import Module

from ..key_maps import Imported, Rule, StateDictLayout
from .config_from_arrays import checked_config
from .families import ModelFormat


def own_model_format(name: str, model: type[Module], config: type) -> ModelFormat:
    """Return the format of a model `name` whose files hold its own names: config.json says which.

    The model is `model(config, rng)`; its `config` is a dataclass, of numbers, texts and
    dataclasses. UsageError, when it is used, for heads that the config says, and for another
    format.
    """
    model_type = f"tinymm_{name.replace('-', '_')}"

    def recognize(keys: Iterable[str], said: dict[str, Any]) -> StateDictLayout | None:
        return _layout(keys) if said.get("model_type") == model_type else None

    def build(
        found: Imported, layout: StateDictLayout, said: dict[str, Any], heads: dict[str, int]
    ) -> Any:
        if heads:
            raise UsageError(
                f"the config.json of a {name} says its heads, {heads} came; leave it out"
            )
        given = {key: value for key, value in said.items() if key != "model_type"}
        return model(from_json(config, given), generator(0))  # type: ignore[call-arg]

    def layout_for(config: Any, format_: str) -> StateDictLayout:
        if format_ != "tinymm":
            raise UsageError(f'format {format_!r} has no {model.__name__}; use "tinymm"')
        return _layout(model(config, generator(0)).state_dict())  # type: ignore[call-arg]

    def settings_for(config: Any, format_: str, dtype: str) -> dict[str, Any]:
        return {"model_type": model_type, **asdict(config)}

    return ModelFormat(model, recognize, build, layout_for, settings_for, lambda config: "tinymm")


def _layout(keys: Iterable[str]) -> StateDictLayout:
    return StateDictLayout("tinymm", tuple(Rule(key, (key,)) for key in keys))


def from_json(kind: type, said: dict[str, Any]) -> Any:
    """Return the dataclass that `asdict` made this dictionary of; CheckpointError if it did not.

    >>> from tinymm.models.vit import ViTConfig
    >>> config = ViTConfig(16, 8, 24, 1, 2)
    >>> from_json(ViTConfig, asdict(config)) == config
    True
    """
    hints = typing.get_type_hints(kind)
    given = {name: _value(hints.get(name), value, name) for name, value in said.items()}
    return checked_config(kind.__name__, kind, given)


def _value(hint: Any, value: Any, name: str) -> Any:
    """Return a value of JSON as its field has it: a dictionary as a dataclass, a list as a tuple."""
    if isinstance(value, list):
        return tuple(value)
    if not isinstance(value, dict):
        return value
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = typing.get_args(hint) if union else (hint,)
    for kind in filter(is_dataclass, kinds):
        if value.keys() <= {item.name for item in fields(kind)}:
            return from_json(kind, value)  # type: ignore[arg-type]
    raise CheckpointError(f"config.json: {name} has other fields than it must; copy it again")
