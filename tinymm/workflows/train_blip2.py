"""`train blip2 --stage 1|2`: from data to a run folder with a trained stage, its numbers and its pictures.

Stage 1 needs a picture encoder, a run of `train clip` on the same data; stage 2 needs a stage 1 and a language model. What is not named is
trained first, into a folder inside of this run's (`blip2_start`).
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
from tinymm.training.checkpoint import FILE as CHECKPOINT
from tinymm.training.checkpoint import load_checkpoint
from tinymm.training.loop import Recipe
from tinymm.training.optimizers import AdamW
from tinymm.training.records import RunFolder, last_run, next_folder

from . import train
from .blip2_start import RATES, STEPS, Settings, keep, prepare_stage_1, prepare_stage_2
from .learning import learn
from .measured import measure, validated
from .opened import STAGE_1
from .pictures_blip2 import draw

COLUMNS = (
    "step", "loss", "itc", "itm", "itg", "lm", "temperature", "learning_rate", "gradient_norm", "duplicate_captions", "validation_r1",
    "validation_itm_accuracy", "validation_captions_exact", "seconds",
)  # fmt: skip
def run(settings: Settings, out: str | None = None, *, resume: str | None = None, say: Callable[[str], None] = print) -> Path:
    """Train the stage and return the run folder; with `resume`, go on with that folder by its own settings."""
    progress: dict[str, Any] = {"step": 0, "best": -1.0, "best_step": 0}
    if resume:
        folder, progress = train.resumable(Path(resume), COLUMNS)
        settings = Settings(**{key: value for key, value in folder.settings.items() if key in Settings.__dataclass_fields__})
    else:
        path = Path(out) if out else next_folder(f"blip2-stage{settings.stage}")
        rate = RATES[settings.stage] if settings.rate is None else settings.rate
        settings = replace(settings, steps=settings.steps or STEPS[settings.stage], rate=rate, workers=train.workers_of(settings))
        if settings.stage == 2 and settings.init is None:
            settings = replace(settings, init=str(last_run(holding="model.safetensors", of_type=STAGE_1)))
        folder = RunFolder.create(path, asdict(settings), COLUMNS)
    with folder:
        source, model = (prepare_stage_1 if settings.stage == 1 else prepare_stage_2)(settings, folder.path, say)
        steps, rate = settings.steps or 1, settings.rate or 0.0
        workers = train.workers_of(settings, model)
        recipe = Recipe(steps, settings.batch_size, rate, settings.warmup, settings.clip or None, settings.seed, workers, chunk=settings.chunk)
        optimizer = AdamW(model, decay=settings.decay, betas=(0.9, 0.98), eps=1e-8)
        if progress["step"]:
            load_checkpoint(folder.path, model, optimizer)
        chances = chance_levels(settings, model, source)
        say(
            f"{source.name}: {len(source):,} training pictures · stage {settings.stage}: {model.count():,} trained parameters, the rest is frozen · "
            f"batch {min(settings.batch_size, len(source))}"
        )
        learn(
            folder, model, source, optimizer, recipe, progress, chance=sum(chances.values()), checkpoint_every=settings.checkpoint_every,
            validate_every=settings.validate_every, validate=partial(validated, model, source), keep=partial(keep, folder.path, model, source),
            best_of="validation_itm_accuracy" if settings.stage == 1 else "validation_captions_exact", say=say,
            losses=partial(model.losses, objectives=tuple(settings.objectives.split(","))) if isinstance(model, BLIP2Stage1) else None,
        )  # fmt: skip
        best = pretrained.load(folder.path).to(settings.backend)
        results = measure(best, source) | {"steps": recipe.steps, "best_step": progress["best_step"]}
        folder.write_results(results)
        (folder.path / CHECKPOINT).unlink(missing_ok=True)
    draw(folder.path, source, best, chances, results)
    return folder.path


def chance_levels(settings: Settings, model: Any, source: Source) -> dict[str, float]:
    """Return what each loss is for a model that knows nothing: ln B, the prior's 0.6365, and ln V."""
    if settings.stage == 2:
        return {"lm": math.log(model.config.language.vocabulary)}
    every = {"itc": math.log(min(settings.batch_size, len(source))), "itm": ITM_PRIOR, "itg": math.log(model.config.qformer.vocabulary)}
    return {name: every[name] for name in settings.objectives.split(",")}
