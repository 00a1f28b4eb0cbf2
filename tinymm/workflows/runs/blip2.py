"""`train blip2 --stage 1|2`: from data to a run folder with a trained stage, its numbers and its pictures.

Stage 1 needs a picture encoder, a run of `train clip` on the same data; stage 2 needs a stage 1 and a language model. What is not named is
trained first, into a folder inside of this run's (`blip2_setup`).
"""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from tinymm import pretrained
from tinymm.data.batches import Source
from tinymm.losses import ITM_PRIOR
from tinymm.models.blip2 import BLIP2Stage1
from tinymm.training.checkpoint import load_checkpoint
from tinymm.training.loop import Recipe
from tinymm.training.optimizers import AdamW
from tinymm.training.records import RunFolder, next_folder

from ..measure import measure, validated
from ..open_model import open_model
from ..run_folder import finish, own_settings, remember, stopped
from ..run_loop import learn
from ..terminal import tell
from . import clip as train
from .blip2_setup import (
    Settings,
    complete,
    keep,
    opened_stage_1,
    prepare_stage_1,
    prepare_stage_2,
    trained_encoder,
    trained_language_model,
    untrained_encoder,
)  # fmt: skip
from .figures_blip2 import draw

COLUMNS = (
    "step", "loss", "itc", "itm", "itg", "lm", "temperature", "learning_rate", "gradient_norm", "duplicate_captions", "validation_r1",
    "validation_itm_accuracy", "validation_captions_exact", "seconds",
)  # fmt: skip


def run(
    settings: Settings,
    out: str | None = None,
    *,
    resume: str | None = None,
    command: str = "train blip2",
    say: Callable[[str], None] = tell,
) -> Path:
    """Train the stage and return the run folder; with `resume`, go on with that folder by its own settings.

    All that does not fit is refused before there is a folder, and before an encoder or a language model is trained into it. `command` is
    noted in a new folder as what made it.
    """
    stop = stopped(resume, COLUMNS) if resume else None
    settings = own_settings(Settings, stop) if stop else complete(settings, say)
    source, model = _prepared(settings)
    if not stop:
        train.workers_of(settings, model)
        settings = replace(settings, workers=train.workers_of(settings))
    progress = stop.progress if stop else {"step": 0, "best": -1.0, "best_step": 0}
    with (
        stop.open(source, say)
        if stop
        else RunFolder.create(out or next_folder(f"blip2-stage{settings.stage}"), asdict(settings), COLUMNS, command=command)
    ) as folder:
        if not stop or stop.anew:
            remember(folder, source, [Path(begin) for begin in (settings.encoder, settings.init) if begin], say)
        if settings.stage == 1 and settings.encoder is None:
            encoder = trained_encoder(settings, folder.path / "encoder", "train blip2", say)
            source, model = _prepared(replace(settings, encoder=str(encoder)))
        if settings.stage == 2 and settings.language is None:
            first = opened_stage_1(settings).model
            language = trained_language_model(settings, source, first, folder.path / "language", say)
            source, model = _prepared(replace(settings, language=str(language)))
        if stop and stop.words:
            source.tokenizer = pretrained.tokenizer(stop.words)
        steps, rate = settings.steps or 1, settings.rate or 0.0
        workers = train.workers_of(settings, model)
        recipe = Recipe(steps, settings.batch_size, rate, settings.warmup, settings.clip or None, settings.seed, workers, chunk=settings.chunk)
        chances = chance_levels(settings, model, source)
        say(
            f"{source.name}: {len(source):,} training pictures · stage {settings.stage}: {model.count():,} trained parameters, the rest is frozen · "
            f"batch {min(settings.batch_size, len(source))}"
        )
        if not (stop and stop.trained):
            optimizer = AdamW(model, decay=settings.decay, betas=(0.9, 0.98), eps=1e-8)
            if progress["step"]:
                load_checkpoint(folder.path, model, optimizer)
            learn(
                folder, model, source, optimizer, recipe, progress, chance=sum(chances.values()), checkpoint_every=settings.checkpoint_every,
                validate_every=settings.validate_every, validate=partial(validated, model, source), keep=partial(keep, folder.path, model, source),
                best_of="validation_itm_accuracy" if settings.stage == 1 else "validation_captions_exact", say=say,
                losses=partial(model.losses, objectives=tuple(settings.objectives.split(","))) if isinstance(model, BLIP2Stage1) else None,
            )  # fmt: skip
        best = pretrained.load(folder.path).to(settings.backend)
        known = {"steps": recipe.steps, "best_step": progress["best_step"]}
        finish(folder, stop, lambda: measure(best, source) | known, lambda results: draw(folder.path, source, best, chances, results))
    return folder.path


def unused(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return which fields do nothing under these settings, by what decides instead."""
    if settings.stage == 1:
        idle: dict[str, tuple[str, ...]] = {"stage 1 has no language model": ("language_steps",)}
        return idle | ({f"--encoder {settings.encoder} is trained already": ("encoder_steps",)} if settings.encoder else {})
    sizes = ("encoder_steps", "objectives", "queries", "width", "expansion", "layers", "cross_every", "drop", "heads", "joint")
    idle = {"stage 2 goes on with what its stage 1 has": sizes}
    return idle | ({f"--language {settings.language} is trained already": ("language_steps",)} if settings.language else {})


def _prepared(settings: Settings) -> tuple[Any, Any]:
    """Return the data and the fresh stage; what is not named yet, an encoder or a language model, is an untrained one."""
    if settings.stage == 1:
        if settings.encoder:
            encoder = open_model(settings.encoder, backend=settings.backend, tokenizer=settings.tokenizer)
        else:
            encoder = untrained_encoder(settings)
        return prepare_stage_1(settings, encoder)
    language = pretrained.load(settings.language) if settings.language else None
    return prepare_stage_2(settings, opened_stage_1(settings), language)  # type: ignore[arg-type]


def chance_levels(settings: Settings, model: Any, source: Source) -> dict[str, float]:
    """Return what each loss is for a model that knows nothing: ln B, the prior's 0.6365, and ln V."""
    if settings.stage == 2:
        return {"lm": math.log(model.config.language.vocabulary)}
    every = {"itc": math.log(min(settings.batch_size, len(source))), "itm": ITM_PRIOR, "itg": math.log(model.config.qformer.vocabulary)}
    return {name: every[name] for name in settings.objectives.split(",")}
