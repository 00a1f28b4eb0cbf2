"""A model with what belongs to it, opened from a run folder or somebody else's checkpoint: weights, tokenizer, preprocessing."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tinymm import pretrained, tasks
from tinymm.arrays.errors import CheckpointError, DataError, UsageError
from tinymm.data.batches import Source, Tokenizer
from tinymm.data.your_data import open as your_data
from tinymm.training.records import FORMAT, from_home, last_run, of_kind, read_run

from .terminal import aside, tell


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, its tokenizer, its preprocessing and the folder that they came from."""

    path: Path
    model: Any
    tokenizer: Tokenizer
    preprocess: Any
    settings: dict[str, Any]
    newly_initialized: tuple[str, ...] = ()  # weights that the folder has none for
    unused: tuple[
        str, ...
    ] = ()  # what else the file and its folder hold, of which nothing was made

    @property
    def spec(self) -> tasks.ModelSpec:
        """The model's spec."""
        return tasks.spec_of(self.model)

    @property
    def able(self) -> frozenset[str]:
        """The abilities for which the model has all weights."""
        return self.spec.able(self.model)

    def lacking(self, abilities: Iterable[str]) -> list[str]:
        """Return the parts for which the file had no weights, of those that these abilities need."""
        missing = tuple(self.model.missing())
        parts = {part for ability in abilities for part in self.spec.parts.get(ability, ())}
        return sorted(part for part in parts if any(name.startswith(part) for name in missing))


def open_model(
    path: str | None = None,
    *,
    can: tuple[str, ...] = (),
    command: str = "this command",
    backend: str = "numpy",
    tokenizer: str | None = None,
    heads: str | dict[str, int] | None = None,
    activation: str | dict[str, str] | None = None,
    resolution: int | None = None,
) -> LoadedModel:
    """Open a run folder, a folder of somebody else's or a single file; without a path, the last run.

    `can` are abilities (`tasks.CONTRAST` …), one of which the `command` needs: the last run is that
    of a model with one of them, and another model is refused. A file such as OpenAI's `.pt` brings
    no tokenizer: give the folder or file of one. `heads`, `activation` and `resolution` are those
    of `pretrained.load`, the first two also as the command line has them ("image=12,text=8").
    CheckpointError for a path where nothing is, or a model and preprocessing that differ;
    UsageError for a model without such an ability.
    """
    opened = open_any(
        path or str(_last_run(can)),
        backend=backend,
        tokenizer=tokenizer,
        heads=heads,
        activation=activation,
        resolution=resolution,
    )
    if getattr(opened.model.config, "image", None) is None:
        raise UsageError(
            f"{command} needs a model that sees pictures, and {opened.path} holds {a(opened.model)}; "
            "name another with --model"
        )
    if can and not opened.able & set(can):
        raise UsageError(_cannot(opened, can, command))
    return opened


def open_any(
    path: str,
    *,
    backend: str = "numpy",
    tokenizer: str | None = None,
    heads: str | dict[str, int] | None = None,
    activation: str | dict[str, str] | None = None,
    resolution: int | None = None,
) -> LoadedModel:
    """Open any model that has a spec, such as a language model, as `open_model` does.

    CheckpointError for a path where nothing is and for weights that are not finite; UsageError for
    a model without a spec.
    """
    folder = Path(path)
    if not folder.exists():
        raise CheckpointError(
            f"a model is a run folder, a Hugging Face folder or a file of weights, and {folder} does "
            "not exist; check the path"
        )
    run = folder / "run.json"
    settings = settings_of(run) if run.is_file() else {}
    tasks.all_specs()  # with each comes the format of its files
    bent = _by_part(activation) if isinstance(activation, str) and "=" in activation else activation
    model, report = pretrained.load_with_report(
        folder,
        heads=_by_part(heads) if isinstance(heads, str) else heads,
        activation=bent,
        resolution=resolution,
    )
    for name, array in model.state_dict().items():
        if array.dtype.kind == "f" and not (fine := np.isfinite(array)).all():
            raise CheckpointError(
                f"weights are finite numbers, and {folder} has {int((~fine).sum()):,} of "
                f"{array.size:,} in {name} that are not; copy it again, or train anew with a lower "
                "--learning-rate"
            )
    spec = tasks.spec_or_none(model)
    if spec is None:
        known = ", ".join(each.title for each in tasks.all_specs())
        raise UsageError(
            f"the models that commands take are {known}, and {folder} holds {a(model)}; name another"
        )
    words = pretrained.tokenizer(
        tokenizer or (folder if folder.is_dir() else folder.parent), cleaning=spec.cleaning
    )
    prepare = None
    if getattr(model.config, "image", None) is not None:
        prepare = pretrained.preprocess(folder, loaded=(model, report))
    model.to(backend)
    newly_initialized, unused = tuple(report.newly_initialized), tuple(report.unused)
    return LoadedModel(folder, model, words, prepare, settings, newly_initialized, unused)


#: What an ability is called in a sentence: "a model that …".
ABILITIES = {
    tasks.CONTRAST: "compares pictures with texts in a shared space",
    tasks.MATCH: "judges whether a text matches a picture",
    tasks.FILL: "names masked words",
    tasks.GENERATE: "writes",
}


def _last_run(can: tuple[str, ...]) -> Path:
    specs = tasks.all_specs()
    names = tuple(spec.name for spec in specs if not can or spec.can & set(can))
    return last_run(holding="model.safetensors", of_model=names)


def _cannot(opened: LoadedModel, can: tuple[str, ...], command: str) -> str:
    """Return why a model will not do: it never had the ability, or its file lacks the weights."""
    asked = " or ".join(ABILITIES[ability] for ability in can)
    lacking = [ability for ability in can if ability in opened.spec.can]
    if lacking:
        parts = ", ".join(opened.lacking(lacking))
        return (
            f"{command} needs a model that {asked}, and {opened.path} holds {a(opened.model)} without "
            f"the weights for that ({parts}); use a file that has them"
        )
    known = ", ".join(
        f"`{train_command(spec)}`" for spec in tasks.all_specs() if spec.can & set(can)
    )
    return (
        f"{command} needs a model that {asked}, and {opened.path} holds {a(opened.model)}, which does "
        f"not; name a run of {known} with --model"
    )


def train_command(spec: tasks.ModelSpec) -> str:
    """Return the command that trains a model of this spec.

    >>> train_command(tasks.spec_named("clip"))
    'train clip'
    """
    return f"train {spec.group or spec.name}" + (f" --stage {spec.stage}" if spec.stage else "")


def _by_part(text: str) -> dict[str, Any]:
    """Return what "image=12,text=8" says of each part: numbers, or words."""
    pairs = [item.split("=", 1) for item in text.split(",")]
    wrong = [item for item in pairs if len(item) != 2]
    if wrong:
        raise UsageError(f"each part has a value, such as image=12,text=8, and {text!r} came")
    return {
        part.strip(): int(value) if value.strip().isdecimal() else value.strip()
        for part, value in pairs
    }


def a(model: Any) -> str:
    """Return the name of a model's class with its article.

    >>> class ALBEF: ...
    >>> a(ALBEF())
    'an ALBEF'
    """
    name = type(model).__name__
    return f"a{'n' * (name[0] in 'AEIO')} {name}"


def introduce(opened: LoadedModel, asked: str | None) -> None:
    """Say which model answers, what it was trained on and for how long, beside the answer; `asked` is the given path, None for the last run."""
    settings = opened.settings
    data, steps = settings.get("data"), settings.get("steps")
    trained = (
        f"trained on {data}" + (f" for {steps:,} steps" if steps else "")
        if data
        else "which does not say what it was trained on"
    )
    begun = f", beginning with {settings['init']}" if settings.get("init") else ""
    aside(
        f"model: {opened.path}{'' if asked else ', the last run'}: {a(opened.model)}, {trained}{begun}"
    )


def settings_of(run: Path) -> dict[str, Any]:
    """Return the settings that a run.json keeps; a path below the reader's home is one again.

    UsageError for a run folder of another version, whose weights have other names; DataError for a
    setting of another kind than training writes.
    """
    kept = read_run(run, "settings")
    if kept.get("format") != FORMAT:
        raise UsageError(
            f"run folders have format {FORMAT}, and {run} says {kept.get('format', 'none')}: it was "
            "written by another version of tinymm; train the model again"
        )
    settings = {name: from_home(value) for name, value in kept["settings"].items()}
    asked = {"data": str | None, "init": str | None, "steps": int | None, "seed": int | None}
    for name, kind in asked.items():
        check_kind(run, name, settings.get(name), kind)
    return settings


def check_kind(run: Path, name: str, value: Any, kind: Any) -> None:
    """Raise DataError for a setting of a run.json that is not of its kind."""
    if not of_kind(value, kind):
        names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        said = next(names[one] for one in get_args(kind) or (kind,) if one in names)
        raise DataError(
            f"{run} has the setting {name}, which is {said}, as {value!r:.60}; restore it, or start "
            "another run"
        )


def open_source(data: str, *, say: Callable[[str], None] = tell, **options: Any) -> Source:
    """Return data by its name or its path, as `your_data.open` does; its remarks are told."""
    return your_data.open_source(data, say=say, **options)
