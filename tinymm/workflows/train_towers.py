"""`train albef` and `train blip`: from data to a run folder with a trained model, its numbers and its pictures.

`train blip --capfilt` does so twice: a first model on the data as it is, in the folder `noisy`, and the run's own on what CapFilt leaves of it.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from tinymm import pretrained
from tinymm.arrays.errors import DataError
from tinymm.arrays.files import atomic
from tinymm.losses import ITM_PRIOR
from tinymm.training.checkpoint import load_checkpoint
from tinymm.training.loop import Recipe
from tinymm.training.optimizers import AdamW
from tinymm.training.records import RunFolder, next_folder, of_kind, read_results

from . import capfilt, train
from .blip2_start import keep
from .learning import learn
from .measured import measure, validated
from .opened import ONE_SIZE
from .pictures_towers import draw, draw_capfilt
from .runs import finish, finished, own_settings, remember, stopped
from .terminal import doing, tell
from .towers_start import Settings, fitting, opened, prepare
from .words import warn

COLUMNS = (
    "step", "loss", "itc", "itm", "mlm", "lm", "temperature", "learning_rate", "gradient_norm", "duplicate_captions", "validation_r1",
    "validation_itm_accuracy", "seconds",
)  # fmt: skip
#: What became of each caption, a line each.
JUDGED = "captions.jsonl"


def run(
    settings: Settings,
    out: str | None = None,
    *,
    resume: str | None = None,
    command: str | None = None,
    say: Callable[[str], None] = tell,
) -> Path:
    """Train and evaluate as the settings say and return the run folder; with `resume`, go on with that folder by its own settings.

    `command` is noted in a new folder as what made it.
    """
    stop = stopped(resume, COLUMNS) if resume else None
    if stop:
        settings = own_settings(Settings, stop)
    elif settings.capfilt and settings.data == "shapes":
        settings = replace(settings, data="web-shapes")
        say("CapFilt cleans captions, and those of shapes are all right; it runs on web-shapes, of whose captions 40 % belong to another scene")
    source: Any = opened(settings, stop.words if stop else None)
    warn(source, say)
    model = prepare(settings, source)  # sizes that do not fit are refused before there is a folder
    settings = replace(settings, workers=train.workers_of(settings, model))
    progress = stop.progress if stop else {"step": 0, "best": -1.0, "best_step": 0}
    with (
        stop.open(source, say)
        if stop
        else RunFolder.create(
            out or next_folder(settings.model),
            asdict(settings),
            COLUMNS,
            command=command or f"train {settings.model}",
        )
    ) as folder:
        if not stop or stop.anew:
            remember(folder, source, [], say)
        noisy: dict[str, Any] = {}
        if settings.capfilt:
            source, noisy = filtered(settings, source, folder.path, say)
            model = prepare(settings, source)
        recipe = recipe_of(settings, source, model)
        chances = chance_levels(model, recipe.batch_size)
        say(
            f"{source.name}: {len(source):,} training pictures · {settings.model}: {model.count():,} parameters · batch {recipe.batch_size}, "
            f"queue {model.queue.size if model.queue is not None else 'none'}"
        )
        if not (stop and stop.trained):
            optimizer = AdamW(model, decay=settings.decay, betas=(0.9, 0.98), eps=1e-8)
            if progress["step"]:
                load_checkpoint(folder.path, model, optimizer)
            learn(
                folder, model, source, optimizer, recipe, progress, chance=sum(chances.values()), checkpoint_every=settings.checkpoint_every,
                validate_every=settings.validate_every, validate=partial(validated, model, source), keep=partial(keep, folder.path, model, source),
                best_of="validation_itm_accuracy", say=say,
            )  # fmt: skip
        best = pretrained.load(folder.path).to(settings.backend)
        known = {"steps": recipe.steps, "best_step": progress["best_step"]} | noisy
        finish(folder, stop, lambda: measure(best, source) | known, lambda _: draw(folder.path, source, best, chances, recipe.batch_size))
    return folder.path


def unused(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return which fields do nothing under these settings, by what decides instead."""
    idle: dict[str, tuple[str, ...]] = {} if settings.capfilt else {"nothing is tuned without --capfilt": ("tuning_steps",)}
    return idle | ({f"{settings.data} are drawn at one size": ("resolution",)} if settings.data in ONE_SIZE else {})


def recipe_of(settings: Settings, source: Any, model: Any) -> Recipe:
    """Return how a model is trained on this data by the settings."""
    B = fitting(settings, source).batch_size
    workers = train.workers_of(settings, model)
    return Recipe(settings.steps or 1, B, settings.rate, settings.warmup, settings.clip or None, settings.seed, workers, chunk=settings.chunk)


def filtered(settings: Settings, source: Any, path: Path, say: Callable[[str], None]) -> tuple[Any, dict[str, Any]]:
    """Return the data that CapFilt leaves, and what is to stand in results.json: what the filter was worth, and the first model's numbers.

    The first model is trained into the folder `noisy`; what became of each caption is kept in captions.jsonl, so a stopped run goes on.
    """
    first = path / "noisy"
    if not finished(first):
        begun = str(first) if (first / "run.json").exists() else None
        say(f"CapFilt: a first model is trained on the data as it is, into {first}")
        run(replace(settings, capfilt=False), str(first), resume=begun, command="train blip: first model of CapFilt", say=say)
    if not (path / JUDGED).exists():
        model = pretrained.load(first).to(settings.backend)
        with doing("CapFilt captions and judges"):
            judged, _ = capfilt.clean(model, source, capfilt.tuning(recipe_of(settings, source, model), settings.tuning_steps), say)
        with atomic(path / JUDGED) as file:
            file.writelines(json.dumps(asdict(item)).encode() + b"\n" for item in judged)
    judged = judged_in(path / JUDGED, len(source))
    draw_capfilt(path, source, judged)
    found = {f"capfilt_{name}": value for name, value in capfilt.quality(source, judged).items()}
    before = {f"noisy_{name}": value for name, value in read_results(first).items() if name != "chance"}
    return capfilt.bootstrapped(source, judged), found | before


def judged_in(path: Path, pictures: int) -> list[capfilt.Judged]:
    """Return the captions that CapFilt has judged, one a line; DataError names a line that is none, or is of another picture than the data's."""
    kinds, found = {field.name: field.type for field in fields(capfilt.Judged)}, []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            said = json.loads(line.decode("utf-8"))
            if not isinstance(said, dict) or said.keys() != kinds.keys() or not all(of_kind(said[name], kind) for name, kind in kinds.items()):
                raise ValueError("no caption with its judgment")
            if not 0 <= said["picture"] < pictures:
                raise ValueError(f"picture {said['picture']} of {pictures}")
        except ValueError as problem:
            raise DataError(f"each line of {path.name} is a judged caption: line {number} of {path} is not ({problem}); delete the file") from None
        found.append(capfilt.Judged(**said))
    return found


def chance_levels(model: Any, batch_size: int) -> dict[str, float]:
    """Return what each loss is for a model that knows nothing: ln(B + K), the prior's 0.6365, and ln V."""
    words = "mlm" if hasattr(model, "mlm") else "lm"
    kept = model.queue.size if model.queue is not None else 0
    return {"itc": math.log(batch_size + kept), "itm": ITM_PRIOR, words: math.log(model.config.text.vocabulary)}
