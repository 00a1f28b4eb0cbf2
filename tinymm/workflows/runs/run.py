"""`train` and `demo`: from data to a run folder with a trained model, its numbers and its figures.

There is one training run for all models: what differs is declared in their specs (`tasks`).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from tinymm import pretrained
from tinymm.data.batches import Source
from tinymm.tasks import CONTRAST, ModelSpec, Task, spec_named
from tinymm.training.checkpoint import load_checkpoint
from tinymm.training.loop import train
from tinymm.training.optimizers import AdamW
from tinymm.training.records import RunFolder, next_folder, read_metrics, write_json

from .. import words as vocabularies
from ..measure import measure, validated
from ..run_folder import Stopped, finish, finished, own_settings, remember, stopped
from ..run_loop import learn
from ..terminal import tell
from . import figures
from .capfilt import filtered, filters, with_noise
from .prepare import Plan, plan, workers_of

#: AdamW's constants in all of the papers' recipes but its weight decay.
ADAMW: dict[str, Any] = {"betas": (0.9, 0.98), "eps": 1e-8}


def run(
    spec: ModelSpec,
    settings: Any,
    out: str | None = None,
    *,
    resume: str | None = None,
    name: str | None = None,
    command: str | None = None,
    source: Source | None = None,
    parts: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = tell,
) -> Path:
    """Train and evaluate as the settings say and return the run folder; `resume` goes on with one.

    The folder is whole at every moment: Ctrl-C or a kill loses at most the steps since the last
    checkpoint, and `resume` then continues bitwise as if nothing had happened (on the same machine,
    with the same number of workers, on the same data), by the run's own settings. What cannot work
    is refused before there is a folder. `command` is noted there as what made it, and `name` begins
    its name. `source` and `parts` are those of the run that this one is trained for.
    """
    stop = stopped(resume, spec.name) if resume else None
    if stop:
        settings = own_settings(spec.settings, stop)
    else:
        settings = with_noise(settings, say)
    words = stop.words if stop else None
    planned = plan(spec, settings, say, words=words, source=source, parts=parts)
    workers = workers_of(planned.settings, planned.model)
    settings = replace(planned.settings, workers=workers)
    planned = replace(planned, settings=settings)
    filtering = filters(planned)
    vocabularies.warn(planned.source, say)
    with (
        stop.open(planned.source, say)
        if stop
        else RunFolder.create(
            out or next_folder(name or spec.name),
            asdict(settings),
            spec.columns,
            command=command or f"train {spec.group or spec.name}",
            model=spec.name,
        )
    ) as folder:
        if not stop or stop.anew:
            remember(folder, planned.source, planned.begins_with, say)
        planned = _with_required(planned, folder.path, stop, say)
        notes: dict[str, Any] = {}
        if filtering:
            source, notes = filtered(planned, folder.path, partial(run, spec), say)
            planned = plan(spec, settings, say, source=source)
        _trained(planned, folder, stop, notes, say)
    return folder.path


def _with_required(
    planned: Plan, path: Path, stop: Stopped | None, say: Callable[[str], None]
) -> Plan:
    """Return the plan with the required models trained that are named nowhere, in the run's folder."""
    for need in planned.missing:
        spec, folder = spec_named(need.spec), path / need.setting
        there: dict[str, Any] = {"source": planned.source, "parts": planned.parts}
        if finished(folder):
            say(f"{need.setting}: {folder}, there already")
        else:
            say(
                f"no --{need.setting} is named: {spec.title} is trained first, for "
                f"{need.settings(planned.settings)['steps']} steps, into {folder}"
            )
            begun = (folder / "run.json").exists()
            run(
                spec,
                spec.settings(**need.settings(planned.settings)),
                str(folder),
                resume=str(folder) if begun else None,
                command=f"train {planned.spec.group or planned.spec.name}: {need.setting}",
                say=say,
                **there if need.same_words else {},
            )
    if not planned.missing:
        return planned
    found = {need.setting: str(path / need.setting) for need in planned.missing}
    # what was to be learned of the captions has been, by the model that was trained first
    whole = replace(planned.settings, vocabulary="words", **found)
    made = plan(planned.spec, whole, say, words=stop.words if stop else None)
    return replace(made, settings=planned.settings)


def _trained(
    planned: Plan,
    folder: RunFolder,
    stop: Stopped | None,
    notes: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    """Train the model into the open folder, then measure it and draw the figures."""
    spec, settings, source, model = planned.spec, planned.settings, planned.source, planned.model
    chance = sum(planned.chances.values())
    say(introduction(planned))
    if len(source) < settings.batch_size:
        say(
            f"the data has {len(source):,} pairs, fewer than --batch-size {settings.batch_size:,}: "
            "every step sees all of them"
        )
    before = figures.cosines_of_shown(model, source) if CONTRAST in spec.able(model) else None
    progress = stop.progress if stop else {"step": 0, "best": -1.0, "best_step": 0}
    if not (stop and stop.trained):
        optimizer = AdamW(model, weight_decay=settings.weight_decay, **ADAMW)
        if progress["step"]:
            load_checkpoint(folder.path, model, optimizer)
        learn(
            folder,
            model,
            source,
            optimizer,
            planned.recipe,
            progress,
            task=planned.task,
            chance=chance,
            checkpoint_every=settings.checkpoint_every,
            validate_every=settings.validate_every,
            validate=partial(validated, model, source),
            keep=partial(keep, folder.path, model, source),
            best_of=spec.best,
            say=say,
        )
    best = pretrained.load(folder.path).to(settings.backend)
    known = {"steps": settings.steps, "best_step": progress["best_step"], "chance_loss": chance}
    finish(
        folder,
        stop,
        lambda: _measured(planned, folder, best) | known | notes,
        lambda results: figures.draw(folder.path, planned, best, before, results),
    )


def _measured(planned: Plan, folder: RunFolder, model: Any) -> dict[str, Any]:
    """Return what is measured, and of a model that is never validated its losses at the end."""
    results = measure(model, planned.source, planned.settings)
    if not planned.spec.validated:
        last = read_metrics(folder.path)[-1]
        results |= {name: last[name] for name in planned.chances}
        results["chance"] |= planned.chances
    return results


def trained(planned: Plan, task: Task | None = None) -> Any:
    """Return the plan's model in eval mode after training, without a run folder, as studies do.

    `task` replaces that of the plan.
    """
    model, settings = planned.model, planned.settings
    optimizer = AdamW(model, weight_decay=settings.weight_decay, **ADAMW)
    for _ in train(model, planned.source, optimizer, planned.recipe, task=task or planned.task):
        pass
    return model.eval()


def introduction(planned: Plan) -> str:
    """Return in one sentence what is trained on what, and what a uniform prediction costs."""
    model, spec = planned.model, planned.spec
    formulas = {each.name: each.formula for each in spec.objectives}
    levels = [f"{name} {formulas[name]} = {level:.3f}" for name, level in planned.chances.items()]
    trained = model.count()
    frozen = sum(parameter.size for parameter in model.parameters()) - trained
    return (
        f"{planned.source.name}: {len(planned.source):,} training pictures · {spec.title}: "
        f"{trained:,} trained parameters{f', {frozen:,} frozen' if frozen else ''} · batch "
        f"B = {planned.batch_size} · loss of a uniform prediction: {', '.join(levels)}"
    )


def keep(path: Path, model: Any, source: Any) -> None:
    """Write the model as the best so far with what belongs to it, each file whole or not at all."""
    pretrained.save(model, path, tokenizer=source.tokenizer)
    source.tokenizer.save(path)
    write_json(path / "preprocessor_config.json", source.preprocess.to_dict())
