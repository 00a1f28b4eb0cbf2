"""`demo` and `train MODEL`: the commands that train, derived from the specs of all models."""

import argparse
from typing import Any

from tinymm.arrays.errors import UsageError
from tinymm.data.datasets import is_drawn_at_one_size
from tinymm.tasks import ModelSpec, all_specs, spec_named
from tinymm.training.records import read_json
from tinymm.viz import fonts

from .. import commands, flags
from ..report import table
from ..run_folder import model_of
from ..terminal import tell
from . import run

#: Where they stand in --help.
PLACE = 10


def declare(parsers: Any) -> None:
    """Add demo and train."""
    demo = commands.add(
        parsers,
        "demo",
        "train a small CLIP on the built-in glyphs and evaluate it",
        "demo --out runs/first",
        _demo,
        shares_batches=True,
    )
    free = "the run folder (default: the next free runs/demo-N)"
    commands.common(demo, out=free, folder=True, only_given=True)
    demo.add_argument(
        "--workers",
        type=int,
        metavar="N",
        default=argparse.SUPPRESS,
        help="threads that share each batch (default: the cores, up to 4)",
    )
    demo.add_argument(
        "--steps",
        type=int,
        metavar="N",
        default=argparse.SUPPRESS,
        help="fewer steps for a first look (default: 1100)",
    )
    said = "train a model on built-in data or on your own pictures and captions"
    models = parsers.add_parser("train", help=said)
    models = models.add_subparsers(title="models", metavar="MODEL", required=True)
    for name, specs in trained_by_one_command().items():
        titles = ", then ".join(spec.title for spec in specs)
        losses = ", ".join(dict.fromkeys(o.name.upper() for s in specs for o in s.objectives))
        example = f"train {name} --steps 500 --out runs/first-{name}"
        said = f"train {titles}: {losses}"
        one = commands.add(models, name, said, example, _train, shares_batches=True)
        one.set_defaults(group=name)
        free = " or ".join(f"runs/{spec.name}-N" for spec in specs)
        out = f"the run folder (default: the next free {free})"
        commands.common(one, out=out, folder=True, only_given=True)
        if len(specs) > 1:
            stages = [spec.stage for spec in specs]
            one.add_argument("--stage", type=int, choices=stages, default=None, help=_stages(specs))
        flags.add(one, specs)


def trained_by_one_command() -> dict[str, list[ModelSpec]]:
    """Return the specs by the command that trains them, `train NAME`, CLIP first."""
    groups: dict[str, list[ModelSpec]] = {}
    for spec in sorted(all_specs(), key=lambda spec: (spec.order, spec.name)):
        groups.setdefault(spec.group or spec.name, []).append(spec)
    return groups


def _stages(specs: list[ModelSpec]) -> str:
    named = "; ".join(f"{spec.stage}: {spec.sentence}" for spec in specs)
    return f"{named} (default: {specs[0].stage})"


def _demo(out: str | None, **given: Any) -> None:
    spec = spec_named("clip")
    path = run.run(spec, flags.settings_from(spec, given), out, name="demo", command="demo")
    _tell(path)


def _train(
    group: str,
    out: str | None,
    resume: str | None,
    config: str | None,
    stage: int | None = None,
    **given: Any,
) -> None:
    if resume and (out or config):
        beside = f"--out {out}" if out else f"--config {config}"
        raise UsageError(
            f"--resume goes on in its own folder, {resume}, by its own settings, and {beside} came "
            "too; leave one out"
        )
    spec = _chosen(trained_by_one_command()[group], stage, resume, config)
    if resume:
        flags.refuse_beside_resume(given, resume)
        _tell(run.run(spec, spec.settings(), None, resume=resume))
        return
    settings = flags.settings_from(spec, given, config)
    flags.not_used(settings, given, _idle(spec, settings), tell)
    _tell(run.run(spec, settings, out))


def _chosen(
    specs: list[ModelSpec], stage: int | None, resume: str | None, config: str | None
) -> ModelSpec:
    """Return the spec that is trained: of the stage, or of the run that is named."""
    run_of = resume or config
    named = model_of(run_of) if run_of else None
    for spec in specs:
        if spec.name == named and stage in (None, spec.stage):
            return spec
    wanted = stage or specs[0].stage
    return next(spec for spec in specs if spec.stage == wanted)


def _idle(spec: ModelSpec, settings: Any) -> dict[str, tuple[str, ...]]:
    """Return the fields that have no effect under these settings, by what decides instead."""
    found = dict(spec.idle(settings))
    if settings.init is None:
        found["there is no --init"] = ("init_heads", "init_activation")
    if settings.init and not any(need.setting == "init" for need in spec.requires):
        own = spec.size_settings
        found = {reason: tuple(n for n in names if n not in own) for reason, names in found.items()}
        found[f"the model of --init {settings.init} brings its own"] = own
    elif is_drawn_at_one_size(settings.data or ""):
        found[f"{settings.data} are drawn at one size"] = ("resolution",)
    return found


def _tell(path: Any) -> None:
    """Print a finished run's numbers, each beside its chance level, and where its report is."""
    tell("\n".join(table(read_json(path / "results.json"))))
    tell(f"run folder: {path} · open {path / 'report.html'}")
    if boxes := fonts.not_drawn():
        tell(boxes)
