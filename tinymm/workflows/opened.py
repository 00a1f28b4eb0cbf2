"""A model with what belongs to it, opened from a run folder or somebody else's checkpoint: weights, tokenizer, preprocessing."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tinymm import pretrained
from tinymm.arrays.errors import CheckpointError, UsageError
from tinymm.data import digits, emoji, glyphs, pairs, shapes
from tinymm.data.batches import Source, Tokenizer
from tinymm.data.images import Preprocess, preprocess
from tinymm.data.web_pairs import WebPairs
from tinymm.models.albef import ALBEF
from tinymm.models.blip import BLIP
from tinymm.models.clip import CLIP
from tinymm.training.records import from_home, last_run, read_json

from .terminal import aside

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


#: What config.json calls the models that commands ask for, and what their users do.
CLIPS = ("clip", "tinymm_clip", "tinymm_clip_openai")
TOWERS, WRITER = ("tinymm_albef", "tinymm_blip"), ("tinymm_blip",)
STAGE_1, STAGE_2 = ("tinymm_blip2_stage1",), ("tinymm_blip2_stage2",)
#: Whose preprocessing a model has that brings none; all others have BLIP-2's.
FAMILY: dict[type, str] = {CLIP: "clip", ALBEF: "albef", BLIP: "blip"}


def open_model(
    path: str | None = None,
    *,
    backend: str = "numpy",
    tokenizer: str | None = None,
    heads: dict[str, int] | None = None,
    of_type: tuple[str, ...] | None = None,
) -> Opened:
    """Open a run folder, a folder of somebody else's or a single file; without a path, the last run with a model of one of the types.

    A file such as OpenAI's `.pt` brings no tokenizer: give the folder or file of one. CheckpointError for a path where nothing is, or a model and
    preprocessing that differ; UsageError for a model of another type.
    """
    folder = Path(path) if path else last_run(holding="model.safetensors", of_type=of_type)
    if not folder.exists():
        raise CheckpointError(f"a model is a run folder, a Hugging Face folder or a file of weights, and {folder} does not exist; check the path")
    model, report = pretrained.load_with_report(folder, heads=heads)
    model.to(backend)
    family = next((name for kind, name in FAMILY.items() if isinstance(model, kind)), "blip2")
    cleaning = "albef" if family == "albef" else "blip"
    words = pretrained.tokenizer(tokenizer or (folder if folder.is_dir() else folder.parent), cleaning=cleaning)
    if not hasattr(model.config, "image"):
        raise UsageError(f"this command needs a model that sees pictures, and {folder} holds {a(model)}; name another with --model")
    described, run = folder / "preprocessor_config.json", folder / "run.json"
    resolution, channels = model.config.image.resolution, model.config.image.channels
    prepare = Preprocess.from_dict(read_json(described)) if described.is_file() else preprocess(family, resolution)
    if (prepare.resolution, prepare.channels) != (resolution, channels):
        raise CheckpointError(
            f"{folder}: the model sees {resolution} × {resolution} × {channels} and preprocessor_config.json makes {prepare.resolution} × "
            f"{prepare.resolution} × {prepare.channels}; restore the file that belongs to the model"
        )
    return Opened(folder, model, words, prepare, settings_of(run) if run.is_file() else {}, tuple(report.fresh))


def clip_for(command: str, path: str | None, backend: str, tokenizer: str | None) -> Opened:
    """Open a CLIP for a command that compares pictures and texts in its joint space; UsageError for another kind of model."""
    opened = open_model(path, backend=backend, tokenizer=tokenizer, of_type=CLIPS)
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


def open_source(data: str, *, seed: int = 0, channels: int = 3, resolution: int = 64, **given: Any) -> Source:
    """Return the built-in data of that name, or the pairs of pictures and captions at that path; UsageError for neither."""
    if data in BUILT_IN:
        return BUILT_IN[data](seed, resolution)
    if not Path(data).exists():
        near = difflib.get_close_matches(data, BUILT_IN, n=1)
        hint = f"did you mean {near[0]}?" if near else "check the path"
        raise UsageError(f"--data is {BUILT_IN_NAMES} or a path to your pictures and captions, and {data!r} is none of these; {hint}")
    return pairs.load(data, resolution=resolution, channels=channels, seed=seed, **given)
