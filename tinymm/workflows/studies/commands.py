"""The commands that train: declared here, done in one file each."""

from typing import Any

from tinymm.arrays.errors import UsageError

from .. import commands, flags
from ..terminal import tell

#: Where they stand in --help.
PLACE = 10


def declare(parsers: Any) -> None:
    """Add demo, train, ablate and compare."""
    said = "train a small CLIP on the built-in glyphs and evaluate it"
    demo = commands.add(parsers, "demo", said, "demo --out runs/first", _demo, shares_batches=True)
    commands.common(demo, out="the run folder (default: the next free runs/demo-N)", folder=True)
    demo.add_argument("--workers", type=int, metavar="N", help="threads that share each batch (default: the cores, up to 4)")
    demo.add_argument("--steps", type=int, metavar="N", help="fewer steps for a first look (default: 1100)")

    train = parsers.add_parser("train", help="train a model on glyphs or on your own pictures and captions")
    models = train.add_subparsers(title="models", metavar="MODEL", required=True)
    example = "train clip --data my_pictures --steps 2000 --image resnet --text cbow"
    clip = commands.add(models, "clip", "train CLIP", example, _train_clip, shares_batches=True)
    commands.common(clip, out="the run folder (default: the next free runs/clip-N)", folder=True)
    flags.add(clip, "runs.clip", flags.CLIP)

    for name, what, loss in (("albef", "ALBEF", "ITC with a slow twin and queues, ITM, MLM"), ("blip", "BLIP", "ITC, ITM and a writer")):
        example = f"train {name} --steps 500 --out runs/first-{name}"
        towers = commands.add(models, name, f"train {what}: {loss}", example, _train_towers, shares_batches=True)
        towers.set_defaults(model=name)
        commands.common(towers, out=f"the run folder (default: the next free runs/{name}-N)", folder=True)
        others = {"hidden_share"} if name == "blip" else {"tuning_steps"}
        flags.add(towers, "runs.towers_setup", {field: said for field, said in flags.TOWERS.items() if field not in others})
        if name == "blip":
            towers.add_argument("--capfilt", action="store_true", help="clean noisy captions with a first model, and train on what is left")

    said = "train BLIP-2: the Q-Former (stage 1), then in front of a language model (stage 2)"
    blip2 = commands.add(models, "blip2", said, "train blip2 --stage 1 --out runs/queries", _train_blip2, shares_batches=True)
    commands.common(blip2, out="the run folder (default: the next free runs/blip2-stage1-N or -stage2-N)", folder=True)
    flags.add(blip2, "runs.blip2_setup", flags.BLIP2)

    _declare_ablate(parsers)

    said = "train CLIP, ALBEF, BLIP and BLIP-2 on the same data and budget: one table, one picture"
    compare = commands.add(parsers, "compare", said, "compare --steps 400", _compare, shares_batches=True)
    compare.add_argument("--steps", type=int, default=800, metavar="N", help="training steps of each system (default: 800)")
    compare.add_argument("--batch-size", type=int, default=64, metavar="N", help="pairs a step (default: 64)")
    compare.add_argument("--workers", type=int, metavar="N", help="threads that share each batch (default: the cores, up to 4)")
    commands.common(compare, out="the folder (default: the next free runs/compare-N); systems that it holds are not trained again", folder=True)


def _declare_ablate(parsers: Any) -> None:
    from tinymm.workflows.studies import ablate_albef
    from tinymm.workflows.studies import ablate_blip2 as ablate

    said = "do without parts of a model and print what that costs: BLIP-2's losses and masks, BLIP's clean captions, ALBEF's twin and negatives"
    models = parsers.add_parser("ablate", help=said).add_subparsers(title="models", metavar="MODEL", required=True)
    every = {
        "blip2": ("BLIP-2 without one of its losses, or under another mask", 400, tuple(ablate.VARIANTS)),
        "albef": ("ALBEF without its hard negatives, its queue or its twin", 1000, tuple(ablate_albef.ROWS)),
        "blip": ("BLIP on true captions, wrong ones, and what CapFilt makes of these", 500, ()),
    }
    for name, (said, steps, rows) in every.items():
        one = commands.add(models, name, said, f"ablate {name} --steps {steps}", _ablate)
        one.set_defaults(model=name)
        one.add_argument("--steps", type=int, default=steps, metavar="N", help=f"steps of each row (default: {steps})")
        if rows:
            said = f"only this row; may be given several times. The rows: {', '.join(rows)}"
            one.add_argument("--only", action="append", metavar="ROW", choices=rows, help=said)
        if name == "blip2":
            one.add_argument("--encoder", metavar="RUN", help="a run of `train clip --data shapes` (default: train one first)")
            said = "steps of the encoder, where it is trained first (default: 1000)"
            one.add_argument("--encoder-steps", type=int, default=1000, metavar="N", help=said)
        one.add_argument("--workers", type=int, metavar="N", help="threads that share each batch (default: the cores, up to 4)")
        commands.common(one)


def _demo(out: str | None, **options: Any) -> None:
    from tinymm.workflows.runs import clip as train

    given = {name: value for name, value in options.items() if value is not None}
    path = train.run(train.Settings(**given), out, name="demo", command="demo")
    _tell(path)


def _train_clip(**options: Any) -> None:
    from tinymm.workflows.runs import clip as train

    _train(train, train.Settings, **options)


def _train_towers(**options: Any) -> None:
    from tinymm.workflows.runs import towers as train_towers
    from tinymm.workflows.runs import towers_setup as towers_start

    _train(train_towers, towers_start.Settings, **options)


def _train_blip2(**options: Any) -> None:
    from tinymm.workflows.runs import blip2 as train_blip2
    from tinymm.workflows.runs import blip2_setup as blip2_start

    _train(train_blip2, blip2_start.Settings, **options)


def _train(workflow: Any, kind: Any, out: str | None, resume: str | None, given: tuple[str, ...], **options: Any) -> None:
    if resume and out:
        raise UsageError(f"--resume goes on in its own folder, {resume}, and --out {out} came too; leave one out")
    if resume:
        flags.refuse_beside_resume(given, options, resume)
    settings = kind(**options)
    if not resume:
        flags.not_used(settings, given, workflow.unused(settings), tell)
    _tell(workflow.run(settings, out, resume=resume))


def _tell(path: Any) -> None:
    """Print a finished run's numbers, each beside its chance level, and where its report is."""
    from tinymm.training.records import read_json
    from tinymm.viz import fonts
    from tinymm.workflows.report import table

    tell("\n".join(table(read_json(path / "results.json"))))
    tell(f"run folder: {path} · open {path / 'report.html'}")
    if boxes := fonts.not_drawn():
        tell(boxes)


def _ablate(model: str, **options: Any) -> None:
    from tinymm.workflows.studies import ablate_albef, ablate_blip
    from tinymm.workflows.studies import ablate_blip2 as ablate

    {"blip2": ablate, "albef": ablate_albef, "blip": ablate_blip}[model].run(**options)


def _compare(**options: Any) -> None:
    from tinymm.workflows.studies import compare

    compare.run(**options)
