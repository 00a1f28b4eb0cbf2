"""A model with what belongs to it, opened from a run folder or somebody else's checkpoint: weights, tokenizer, preprocessing."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tinymm import pretrained
from tinymm.arrays.errors import CheckpointError, DataError, UsageError
from tinymm.data import digits, emoji, glyphs, pairs, shapes
from tinymm.data.batches import Source, Tokenizer
from tinymm.data.images import Preprocess
from tinymm.data.listing import is_there
from tinymm.data.web_pairs import WebPairs
from tinymm.models.albef import ALBEF
from tinymm.models.clip import CLIP
from tinymm.training.records import from_home, last_run, of_kind, read_run

from .terminal import aside, tell

#: Data that is there without a download, by name: what makes it of a seed and of the pictures' side, which those that are drawn at one size ignore.
BUILT_IN: dict[str, Callable[[int, int], Source]] = {
    "glyphs": lambda seed, _: glyphs.load(seed), "shapes": lambda seed, _: shapes.load(seed),
    "scattered-shapes": lambda seed, _: shapes.load(seed, neighbors=False), "web-shapes": lambda seed, _: WebPairs(seed),
    "digits": digits.load, "emoji": emoji.load, **{f"emoji-{code}": partial(emoji.load, language=code) for code in emoji.OTHER_LANGUAGES},
}  # fmt: skip
#: The same as a reader needs it in a sentence.
BUILT_IN_NAMES = ", ".join(repr(name) for name in BUILT_IN if not name.startswith("emoji-")) + " (or 'emoji-de', 'emoji-zh' …)"

#: Built-in data that is drawn at one size.
ONE_SIZE = ("glyphs", "shapes", "scattered-shapes", "web-shapes")


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
    for name, array in model.state_dict().items():
        if array.dtype.kind == "f" and not (fine := np.isfinite(array)).all():
            raise CheckpointError(
                f"weights are finite numbers, and {folder} has {int((~fine).sum()):,} of {array.size:,} in {name} that are not; copy it again, or "
                "train anew with a lower --rate"
            )
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
    """Return the settings that a run.json keeps; a path below the reader's home, which the record calls ~, is a path again.

    DataError where one that commands ask for is of another kind than training writes.
    """
    settings = {name: from_home(value) for name, value in read_run(run, "settings")["settings"].items()}
    for name, kind in (("data", str | None), ("init", str | None), ("steps", int | None), ("seed", int | None)):
        check_kind(run, name, settings.get(name), kind)
    return settings


def check_kind(run: Path, name: str, value: Any, kind: Any) -> None:
    """Raise DataError for a setting of a run.json that is not of its kind."""
    if not of_kind(value, kind):
        names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        said = next(names[one] for one in get_args(kind) or (kind,) if one in names)
        raise DataError(f"{run} has the setting {name}, which is {said}, as {value!r:.60}; restore it, or start another run")


def open_source(
    data: str, *, seed: int = 0, channels: int = 3, resolution: int = 64, say: Callable[[str], None] = tell, **given: Any
) -> Source:
    """Return the built-in data of that name, or the pairs of pictures and captions at that path; UsageError for neither.

    What such data holds and is not used goes to `say`, line by line.
    """
    if data in BUILT_IN:
        return BUILT_IN[data](seed, resolution)
    if not is_there(data):
        near = difflib.get_close_matches(data, BUILT_IN, n=1)
        hint = f"did you mean {near[0]}?" if near else "check the path"
        raise UsageError(f"--data is {BUILT_IN_NAMES} or a path to your pictures and captions, and {data!r} is none of these; {hint}")
    source = pairs.load(data, resolution=resolution, channels=channels, seed=seed, **given)
    for remark in source.remarks():
        say(f"{data}: {remark}")
    return source
