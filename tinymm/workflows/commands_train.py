"""The commands that train: declared here, done in one file each."""

from typing import Any

from tinymm.arrays.errors import UsageError

from . import commands, flags


def declare(parsers: Any) -> None:
    """Add demo, train, ablate and compare."""
    demo = commands.add(parsers, "demo", "train a small CLIP on the built-in glyphs and evaluate it", "demo --out runs/first", _demo)
    commands.common(demo, out="the run folder (default: the next free runs/demo-N)")
    demo.add_argument("--workers", type=int, metavar="N", help="threads that share each batch (default: the cores, up to 4)")
    demo.add_argument("--steps", type=int, metavar="N", help="fewer steps for a first look (default: 1100)")

    train = parsers.add_parser("train", help="train a model on glyphs or on your own pictures and captions")
    models = train.add_subparsers(title="models", metavar="MODEL", required=True)
    clip = commands.add(models, "clip", "train CLIP", "train clip --data my_pictures --steps 2000 --image resnet --text cbow", _train_clip)
    commands.common(clip, out="the run folder (default: the next free runs/clip-N)")
    flags.add(clip, "train", flags.CLIP)

    for name, what, loss in (("albef", "ALBEF", "ITC with a slow twin and queues, ITM, MLM"), ("blip", "BLIP", "ITC, ITM and a writer")):
        towers = commands.add(models, name, f"train {what}: {loss}", f"train {name} --steps 500 --out runs/first-{name}", _train_towers)
        towers.set_defaults(model=name)
        commands.common(towers, out=f"the run folder (default: the next free runs/{name}-N)")
        others = {"hidden_share"} if name == "blip" else {"tuning_steps"}
        flags.add(towers, "towers_start", {field: said for field, said in flags.TOWERS.items() if field not in others})
        if name == "blip":
            towers.add_argument("--capfilt", action="store_true", help="clean noisy captions with a first model, and train on what is left")

    said = "train BLIP-2: the Q-Former (stage 1), then in front of a language model (stage 2)"
    blip2 = commands.add(models, "blip2", said, "train blip2 --stage 1 --out runs/queries", _train_blip2)
    commands.common(blip2, out="the run folder (default: the next free runs/blip2-stage1-N or -stage2-N)")
    flags.add(blip2, "blip2_start", flags.BLIP2)

    said = "do without parts of a model and print what that costs: BLIP-2's losses and masks, BLIP's clean captions, ALBEF's twin and negatives"
    ablate = commands.add(parsers, "ablate", said, "ablate blip2", _ablate)
    said = "blip2: its losses and masks; blip: wrong captions, CapFilt; albef: negatives, queue, twin"
    ablate.add_argument("model", choices=["blip2", "blip", "albef"], help=said)
    ablate.add_argument("--encoder", metavar="RUN", help="a run of `train clip --data shapes` (default: train one first)")
    ablate.add_argument("--steps", type=int, default=400, metavar="N", help="steps of each variant (default: 400; ALBEF's matching needs 1000)")
    ablate.add_argument("--only", action="append", metavar="ROW", help="only this row of the table; may be given several times")
    ablate.add_argument("--workers", type=int, metavar="N", help="threads that share each batch (default: the cores, up to 4)")
    commands.common(ablate)

    said = "train CLIP, ALBEF, BLIP and BLIP-2 on the same data and budget: one table, one picture"
    compare = commands.add(parsers, "compare", said, "compare --steps 400", _compare)
    compare.add_argument("--steps", type=int, default=800, metavar="N", help="training steps of each system (default: 800)")
    compare.add_argument("--batch-size", type=int, default=64, metavar="N", help="pairs a step (default: 64)")
    compare.add_argument("--workers", type=int, metavar="N", help="threads that share each batch (default: the cores, up to 4)")
    commands.common(compare, out="the folder (default: the next free runs/compare-N); systems that it holds are not trained again")


def _demo(out: str | None, **options: Any) -> None:
    from tinymm.workflows import train

    given = {name: value for name, value in options.items() if value is not None}
    path = train.run(train.Settings(**given), out, name="demo")
    _tell(path)


def _train_clip(out: str | None, resume: str | None, **options: Any) -> None:
    from tinymm.workflows import train

    path = train.run(train.Settings(**options), out, resume=resume)
    _tell(path)


def _train_towers(out: str | None, resume: str | None, **options: Any) -> None:
    from tinymm.workflows import towers_start, train_towers

    path = train_towers.run(towers_start.Settings(**options), out, resume=resume)
    _tell(path)


def _train_blip2(out: str | None, resume: str | None, **options: Any) -> None:
    from tinymm.workflows import blip2_start, train_blip2

    path = train_blip2.run(blip2_start.Settings(**options), out, resume=resume)
    _tell(path)


def _tell(path: Any) -> None:
    """Print a finished run's numbers, each beside its chance level, and where its report is."""
    from tinymm.training.records import read_json
    from tinymm.viz import fonts
    from tinymm.workflows import evaluate

    print("\n".join(evaluate.table(read_json(path / "results.json"))))
    print(f"run folder: {path} · open {path / 'report.html'}")
    if boxes := fonts.not_drawn():
        print(boxes)


def _ablate(model: str, **options: Any) -> None:
    from tinymm.workflows import ablate, ablate_albef, ablate_blip

    if model == "blip2":
        ablate.run(**options)
    elif model == "albef":
        if options.pop("encoder"):
            raise UsageError("ablate albef trains every row from scratch, and --encoder came; leave it out")
        ablate_albef.run(**options)
    elif options["encoder"] or options["only"]:
        raise UsageError("ablate blip trains its four rows from scratch, and --encoder or --only came; leave them out")
    else:
        ablate_blip.run(**{name: value for name, value in options.items() if name not in ("encoder", "only")})


def _compare(**options: Any) -> None:
    from tinymm.workflows import compare

    compare.run(**options)


#: They train on batches that ranks may share.
SHARE_BATCHES = (_demo, _train_clip, _train_towers, _train_blip2, _compare)
