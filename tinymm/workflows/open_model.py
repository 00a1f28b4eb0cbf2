"""A model with what belongs to it, opened from a run folder or somebody else's checkpoint: weights, tokenizer, preprocessing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinymm import pretrained
from tinymm.arrays.errors import CheckpointError, UsageError
from tinymm.data.batches import Source, Tokenizer
from tinymm.data.images import Preprocess
from tinymm.data.your_data import open as your_data
from tinymm.models.albef import ALBEF
from tinymm.models.clip import CLIP
from tinymm.training.records import from_home, last_run, read_json

from .terminal import aside, tell


@dataclass(frozen=True)
class Opened:
    """A model in eval mode, its tokenizer, its preprocessing and the folder that they came from."""

    path: Path
    model: Any
    tokenizer: Tokenizer
    preprocess: Preprocess
    settings: dict[str, Any]
    fresh: tuple[str, ...] = ()  # weights that the folder has none for, which therefore know nothing
    unused: tuple[str, ...] = ()  # what else the file and its folder hold, of which nothing was made


#: What config.json calls the models that commands ask for, and what their users do.
CLIPS = ("clip", "tinymm_clip", "tinymm_clip_openai")
TOWERS, WRITER = ("tinymm_albef", "tinymm_blip"), ("tinymm_blip",)
STAGE_1, STAGE_2 = ("tinymm_blip2_stage1",), ("tinymm_blip2_stage2",)


def open_model(
    path: str | None = None,
    *,
    backend: str = "numpy",
    tokenizer: str | None = None,
    heads: str | dict[str, int] | None = None,
    activation: str | dict[str, str] | None = None,
    resolution: int | None = None,
    of_type: tuple[str, ...] | None = None,
) -> Opened:
    """Open a run folder, a folder of somebody else's or a single file; without a path, the last run with a model of one of the types.

    A file such as OpenAI's `.pt` brings no tokenizer: give the folder or file of one. `heads`, `activation` and
    `resolution` are those of `pretrained.load`, the first two also as the command line has them ("image=12,text=8").
    CheckpointError for a path where nothing is, or a model and preprocessing that differ; UsageError for a model of
    another type.
    """
    folder = Path(path) if path else last_run(holding="model.safetensors", of_type=of_type)
    if not folder.exists():
        raise CheckpointError(f"a model is a run folder, a Hugging Face folder or a file of weights, and {folder} does not exist; check the path")
    counts = _by_part(heads) if isinstance(heads, str) else heads
    bent = _by_part(activation) if isinstance(activation, str) and "=" in activation else activation
    model, report = pretrained.load_with_report(folder, heads=counts, activation=bent, resolution=resolution)
    cleaning = "albef" if isinstance(model, ALBEF) else "blip"
    words = pretrained.tokenizer(tokenizer or (folder if folder.is_dir() else folder.parent), cleaning=cleaning)
    if not hasattr(model.config, "image"):
        raise UsageError(f"this command needs a model that sees pictures, and {folder} holds {a(model)}; name another with --model")
    prepare, run = pretrained.preprocess(folder, loaded=(model, report)), folder / "run.json"
    model.to(backend)
    return Opened(folder, model, words, prepare, settings_of(run) if run.is_file() else {}, tuple(report.fresh), tuple(report.unused))


def _by_part(text: str) -> dict[str, Any]:
    """Return what "image=12,text=8" says of each part: numbers, or words."""
    pairs = [item.split("=", 1) for item in text.split(",")]
    wrong = [item for item in pairs if len(item) != 2]
    if wrong:
        raise UsageError(f"each part has a value, such as image=12,text=8, and {text!r} came")
    return {part.strip(): int(value) if value.strip().isdecimal() else value.strip() for part, value in pairs}


def clip_for(command: str, path: str | None, backend: str, tokenizer: str | None, **told: Any) -> Opened:
    """Open a CLIP for a command that compares pictures and texts in its joint space; UsageError for another kind of model.

    `told` is what else `open_model` takes: heads, activation, resolution.
    """
    opened = open_model(path, backend=backend, tokenizer=tokenizer, of_type=CLIPS, **told)
    if not isinstance(opened.model, CLIP):
        raise UsageError(f"{command} takes a CLIP, and {opened.path} holds {a(opened.model)}; name a run of `train clip` with --model")
    return opened


def a(model: Any) -> str:
    """Return the name of a model's class with its article.

    >>> class ALBEF: ...
    >>> a(ALBEF())
    'an ALBEF'
    """
    name = type(model).__name__
    return f"a{'n' * (name[0] in 'AEIO')} {name}"


def introduce(opened: Opened, asked: str | None) -> None:
    """Say which model answers, what it was trained on and for how long, beside the answer; `asked` is the given path, None for the last run."""
    settings = opened.settings
    data, steps = settings.get("data"), settings.get("steps")
    trained = f"trained on {data}" + (f" for {steps:,} steps" if steps else "") if data else "which does not say what it was trained on"
    begun = f", beginning with {settings['init']}" if settings.get("init") else ""
    aside(f"model: {opened.path}{'' if asked else ', the last run'}: {a(opened.model)}, {trained}{begun}")


def settings_of(run: Path) -> dict[str, Any]:
    """Return the settings that a run.json keeps; a path below the reader's home, which the record calls ~, is a path again."""
    return {name: from_home(value) for name, value in read_json(run)["settings"].items()}


def open_source(data: str, *, say: Callable[[str], None] = tell, **options: Any) -> Source:
    """Return data by its name or its path, as `your_data.open` does; its remarks are told."""
    return your_data.open_source(data, say=say, **options)
