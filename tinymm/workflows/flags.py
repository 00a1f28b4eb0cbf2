"""The flags of the training commands: one for each field of a model's settings (`tasks.settings`).

Type, default, choices and help are the field's own. What was not given is not there, so a setting
that was given is known from one that has its default.
"""

import argparse
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any

from tinymm.arrays.errors import UsageError
from tinymm.data.datasets import dataset_names
from tinymm.tasks import ModelSpec
from tinymm.training.records import from_home, read_run

from .open_model import check_kind, settings_of

#: Fields whose flags all commands share (`commands.common`).
SHARED = ("seed", "backend")


def add(parser: argparse.ArgumentParser, specs: Sequence[ModelSpec]) -> None:
    """Add a flag for each field of the settings of these specs, which one command trains."""
    names = dict.fromkeys(item.name for spec in specs for item in fields(spec.settings))
    for name in names:
        if name not in SHARED:
            _add_field(parser, name, [spec for spec in specs if name in _fields(spec)], len(specs))
    parser.add_argument(
        "--resume",
        metavar="FOLDER",
        help="go on with a run that was stopped, by its own settings",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="begin with the settings of another run's run.json; flags beside it come first",
    )


def _fields(spec: ModelSpec) -> dict[str, Any]:
    return {item.name: item for item in fields(spec.settings)}


def _add_field(parser: argparse.ArgumentParser, name: str, specs: list[ModelSpec], of: int) -> None:
    own = [_fields(spec)[name] for spec in specs]
    first, flag = own[0], "--" + name.replace("_", "-")
    about = first.metadata
    said = dict.fromkeys(item.metadata["help"] for item in own)
    if len(said) > 1:
        each = zip(specs, own, strict=True)
        text = "; ".join(f"stage {spec.stage}: {item.metadata['help']}" for spec, item in each)
    else:
        text = next(iter(said))
        text = f"stage {specs[0].stage}: {text}" if len(specs) < of else text
    text = text.replace("built-in data", dataset_names(), 1)
    if first.default is False:
        parser.add_argument(
            flag, action="store_true", default=argparse.SUPPRESS, help=text.replace("%", "%%")
        )
        return
    parser.add_argument(
        flag,
        type=_kind(specs[0].settings, name),
        default=argparse.SUPPRESS,
        choices=about["choices"],
        metavar=None if about["choices"] else _METAVARS.get(_kind(specs[0].settings, name), "NAME"),
        help=(text + _shown(specs, [item.default for item in own])).replace("%", "%%"),
    )


_METAVARS: dict[type, str] = {int: "N", float: "X"}


def _shown(specs: list[ModelSpec], defaults: list[Any]) -> str:
    """Return the default in brackets, of each stage where they differ; none where it says itself."""
    if None in defaults or MISSING in defaults:
        return ""
    if len(set(defaults)) == 1:
        return f" (default: {defaults[0]})"
    each = (f"{value} in stage {spec.stage}" for spec, value in zip(specs, defaults, strict=True))
    return f" (default: {', '.join(each)})"


def _kind(settings: type, name: str) -> type:
    """Return the type of a field, without None."""
    annotated = typing.get_type_hints(settings)[name]
    union = typing.get_origin(annotated) in (typing.Union, UnionType)
    kinds = typing.get_args(annotated) if union else (annotated,)
    return next(kind for kind in kinds if kind is not type(None))


def settings_from(spec: ModelSpec, given: Mapping[str, Any], config: str | None = None) -> Any:
    """Return a spec's settings: those of a run.json, if one is named, and those that were given.

    UsageError for a setting that the model does not have, or another model's run.json.
    """
    known = _fields(spec)
    for name in given:
        if name not in known:
            stage = f" of stage {spec.stage}" if spec.stage else ""
            raise UsageError(
                f"{spec.title} has no setting{stage} --{name.replace('_', '-')}, and "
                f"{given[name]} came; leave it out"
            )
    return spec.settings(**{**(_kept(spec, config) if config else {}), **given})


def _kept(spec: ModelSpec, config: str) -> dict[str, Any]:
    """Return the settings of a run.json, for a new run of the same model."""
    path = Path(config)
    path = path / "run.json" if path.is_dir() else path
    if not path.is_file():
        raise UsageError(f"--config is the run.json of a run, and {path} does not exist; check it")
    kept = read_run(path, "settings")
    if kept.get("model") != spec.name:
        raise UsageError(
            f"--config is the run.json of a run of {spec.title}, and {path} is one of "
            f"{kept.get('model')}; name another"
        )
    settings = settings_of(path)
    unknown = sorted(settings.keys() - _fields(spec).keys())
    if unknown:
        raise UsageError(
            f"{path} has the setting {unknown[0]}, which {spec.title} does not have; take it out"
        )
    kinds = typing.get_type_hints(spec.settings)
    for name, value in settings.items():
        check_kind(path, name, value, kinds[name])
    return settings


def refuse_beside_resume(given: Mapping[str, Any], resume: str) -> None:
    """Raise UsageError for the first flag that differs from those of the run that goes on."""
    run = Path(resume) / "run.json"
    kept = read_run(run, "settings")["settings"] if run.is_file() else {}
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if kept and name not in kept:
            raise UsageError(
                f"--resume goes on by the run's own settings, and {resume} has no {flag}, and "
                f"{value} came; leave {flag} out"
            )
        if name in kept and from_home(kept[name]) != value:
            raise UsageError(
                f"--resume goes on by the run's own settings, and {resume} has {flag} {kept[name]} "
                f"where {value} came; leave {flag} out, or begin a new run with --out"
            )


def not_used(
    settings: Any, given: Mapping[str, Any], idle: Mapping[str, Sequence[str]], say: Any
) -> None:
    """Say which flags were given and have no effect; `idle` has them by what decides instead."""
    for reason, names in idle.items():
        flags = [f"--{n.replace('_', '-')} {getattr(settings, n)}" for n in names if n in given]
        if flags:
            say(f"not used: {', '.join(flags)}; {reason}")
