"""`python -m tinymm COMMAND`: parses the command line and calls one file of `workflows/`; all of the work is there."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from tinymm import __version__
from tinymm.arrays.errors import TinymmError, UsageError
from tinymm.workflows import flags, replicas

STOPPED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 2 for input that cannot be used (with one sentence), 130 when stopped by Ctrl-C."""
    with replicas.one_voice():
        options = vars(build_parser().parse_args(arguments))
        return _run(options.pop("command"), options.pop("debug"), options)


def _run(command: Any, debug: bool, options: dict[str, Any]) -> int:
    try:
        with replicas.together(options, shares_batches=command in (_demo, _train_clip, _train_towers, _train_blip2, _compare)) as own:
            return command(**own) or 0
    except KeyboardInterrupt:
        print("\nstopped; what was written is whole. A training run goes on with: python -m tinymm train MODEL --resume FOLDER", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # `… | head` has read enough; Python would complain once more when it closes the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (TinymmError, OSError) as problem:
        if debug:
            raise
        print(f"tinymm: {problem}", file=sys.stderr)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands, each with an example in its --help."""
    parser = argparse.ArgumentParser(prog="python -m tinymm", description="Vision-language models from scratch: train, evaluate, look inside.")
    parser.add_argument("--version", action="version", version=f"tinymm {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = _add(commands, "demo", "train a small CLIP on the built-in glyphs and evaluate it", "demo --out runs/first", _demo)
    _common(demo, out="the run folder (default: the next free runs/demo-N)")
    demo.add_argument("--workers", type=int, metavar="N", help="threads that share each batch (default: the cores, up to 4)")
    demo.add_argument("--steps", type=int, metavar="N", help="fewer steps for a first look (default: 1100)")

    train = commands.add_parser("train", help="train a model on glyphs or on your own pictures and captions")
    models = train.add_subparsers(title="models", metavar="MODEL", required=True)
    clip = _add(models, "clip", "train CLIP", "train clip --data my_pictures --steps 2000 --image resnet --text cbow", _train_clip)
    _common(clip, out="the run folder (default: the next free runs/clip-N)")
    flags.add(clip, "train", flags.CLIP)

    for name, what, loss in (("albef", "ALBEF", "ITC with a slow twin and queues, ITM, MLM"), ("blip", "BLIP", "ITC, ITM and a writer")):
        towers = _add(models, name, f"train {what}: {loss}", f"train {name} --steps 500 --out runs/first-{name}", _train_towers)
        towers.set_defaults(model=name)
        _common(towers, out=f"the run folder (default: the next free runs/{name}-N)")
        others = {"hidden_share"} if name == "blip" else {"tuning_steps"}
        flags.add(towers, "towers_start", {field: said for field, said in flags.TOWERS.items() if field not in others})
        if name == "blip":
            towers.add_argument("--capfilt", action="store_true", help="clean noisy captions with a first model, and train on what is left")

    said = "train BLIP-2: the Q-Former (stage 1), then in front of a language model (stage 2)"
    blip2 = _add(models, "blip2", said, "train blip2 --stage 1 --out runs/queries", _train_blip2)
    _common(blip2, out="the run folder (default: the next free runs/blip2-stage1-N or -stage2-N)")
    flags.add(blip2, "blip2_start", flags.BLIP2)

    caption = _add(commands, "caption", "say what pictures show", "caption a.png --beams 3", _caption)
    caption.add_argument("pictures", nargs="+", metavar="PICTURE")
    caption.add_argument("--prompt", metavar="TEXT", help="the beginning of the text, which the model goes on from (BLIP, and stage 2 of BLIP-2)")
    caption.add_argument("--beams", type=int, default=1, metavar="N", help="beginnings kept side by side (default: 1, greedy)")
    caption.add_argument("--nucleus", type=float, metavar="P", help="draw each word from the likeliest ones that together have this probability")
    caption.add_argument("--temperature", type=float, default=1.0, metavar="T", help="flatter (above 1) or sharper draws (default: 1)")
    caption.add_argument("--longest", type=int, metavar="N", help="most new words (default: what the model has room for)")
    _common(caption)
    _model(caption)

    said = "do without parts of a model and print what that costs: BLIP-2's losses and masks, BLIP's clean captions, ALBEF's twin and negatives"
    ablate = _add(commands, "ablate", said, "ablate blip2", _ablate)
    said = "blip2: its losses and masks; blip: wrong captions, CapFilt; albef: negatives, queue, twin"
    ablate.add_argument("model", choices=["blip2", "blip", "albef"], help=said)
    ablate.add_argument("--encoder", metavar="RUN", help="a run of `train clip --data shapes` (default: train one first)")
    ablate.add_argument("--steps", type=int, default=400, metavar="N", help="steps of each variant (default: 400; ALBEF's matching needs 1000)")
    ablate.add_argument("--only", action="append", metavar="ROW", help="only this row of the table; may be given several times")
    ablate.add_argument("--workers", type=int, metavar="N", help="threads that share each batch (default: the cores, up to 4)")
    _common(ablate)

    said = "train CLIP, ALBEF, BLIP and BLIP-2 on the same data and budget: one table, one picture"
    compare = _add(commands, "compare", said, "compare --steps 400", _compare)
    compare.add_argument("--steps", type=int, default=800, metavar="N", help="training steps of each system (default: 800)")
    compare.add_argument("--batch-size", type=int, default=64, metavar="N", help="pairs a step (default: 64)")
    compare.add_argument("--workers", type=int, metavar="N", help="threads that share each batch (default: the cores, up to 4)")
    _common(compare, out="the folder (default: the next free runs/compare-N); systems that it holds are not trained again")

    evaluate = _add(commands, "eval", "print a model's recall and accuracy beside chance", "eval --model runs/first", _evaluate)
    _common(evaluate, out="write the numbers to this JSON file too")
    _model(evaluate)
    evaluate.add_argument("--data", help="the name of built-in data or a path to pictures and captions (default: what the model was trained on)")

    classify = _add(commands, "classify", "name a picture by the best of some labels", "classify a.png --labels 'latin letter,digit'", _classify)
    classify.add_argument("picture")
    classify.add_argument("--labels", required=True, metavar="A,B,C", help="the labels, separated by commas")
    classify.add_argument("--template", action="append", metavar="TEXT", help="a prompt with {} for the label; may be given several times")
    _invert(classify)
    _common(classify)
    _model(classify)

    search = _add(commands, "search", "find the pictures of a folder that fit some words", "search photos 'latin small letter a'", _search)
    search.add_argument("folder")
    search.add_argument("words")
    search.add_argument("--top", type=int, default=5, metavar="N", help="how many pictures to name (default: 5)")
    _invert(search)
    _common(search)
    _model(search)

    said = "print who may look at whom under the objectives of ALBEF, BLIP and BLIP-2"
    masks = _add(commands, "masks", said, "masks --queries 4 --text 'a red ball'", _masks)
    masks.add_argument("--queries", type=int, default=4, metavar="Q", help="BLIP-2's learned queries (default: 4)")
    masks.add_argument("--patches", type=int, default=4, metavar="P", help="patches of the picture that ALBEF's or BLIP's text sees (default: 4)")
    masks.add_argument("--text", default="a red ball", help="the words, between [CLS] or [DEC] and [SEP] (default: 'a red ball')")
    masks.add_argument("--padding", type=int, default=0, metavar="N", help="padding tokens after the text (default: 0)")
    one = ["itc", "itg", "itm", "causal", "prefix", "albef-itc", "albef-itm", "albef-mlm", "blip-itc", "blip-itm", "blip-lm"]
    several = "one mask only, or a model's three: 'albef', 'blip', or 'all' for BLIP-2's ITC, ITG and ITM (default: all)"
    masks.add_argument("--objective", choices=[*one, "albef", "blip", "all"], metavar="NAME", help=f"{several}; one of {', '.join(one)}")
    masks.add_argument("--difference", nargs=2, choices=one, metavar=("A", "B"), help="where two of the masks differ")
    masks.add_argument("--layers", type=int, default=1, metavar="L", help="show what is known after L layers, the picture included (default: 1)")
    masks.add_argument("--html", metavar="FILE", help="write a page in which the masks can be asked, row by row")
    _common(masks, out="a folder to draw masks.png in, and reachability.png and difference.png where asked for")

    data = commands.add_parser("data", help="look at pictures and captions before training on them")
    actions = data.add_subparsers(title="actions", metavar="ACTION", required=True)
    check_data = _add(actions, "check", "count pairs, duplicates and broken pictures", "data check my_pictures", _data_check)
    check_data.add_argument("path", help="pictures and captions, or the name of built-in data")
    _common(check_data)
    show_data = _add(actions, "show", "draw a few pictures with their captions", "data show emoji digits --out samples.png", _data_show)
    show_data.add_argument("paths", nargs="+", metavar="PATH", help="pictures and captions, or names of built-in data")
    show_data.add_argument("--resolution", type=int, default=64, metavar="N", help="side of the pictures in pixels (default: 64)")
    _common(show_data, out="the picture (default: samples.png)")

    check = _add(commands, "check", "check the gradient of ops by name (default: all)", "check softmax conv2d", _check)
    check.add_argument("names", nargs="*", metavar="OP")
    _common(check)

    bench = _add(commands, "bench", "time training, inference and words, beside PyTorch if asked", "bench W1 W2 --against torch", _bench)
    named = "W1, W2, inference, decoding; growths: batch, width, sequence, loss (default: W1 W2)"
    bench.add_argument("workloads", nargs="*", default=["W1", "W2"], metavar="W", help=named)
    sides = "run other sides in turn and print the ratios (torch needs the extra 'parity')"
    bench.add_argument("--against", nargs="+", default=[], choices=["torch", "jax"], help=sides)
    bench.add_argument("--workers", type=int, metavar="N", help="threads, on all sides (default: the cores, up to 4)")
    _common(bench, out="write the numbers to this JSON file too, and a picture of them beside it")

    said = "write the students' copies of the exercises, without solutions, or nbgrader's course folder"
    exercises = _add(commands, "exercises", said, "exercises --student my_exercises", _exercises)
    exercises.add_argument("--student", metavar="OUT", help="the folder for notebooks without solutions")
    exercises.add_argument("--instructor", metavar="OUT", help="the folder for nbgrader: OUT/source/NAME/NAME.ipynb, and its settings")
    exercises.add_argument("--only", action="append", metavar="NN", help="only this notebook, by the beginning of its name; several times if wanted")
    exercises.add_argument("--source", metavar="FOLDER", help="the notebooks with solutions (default: notebooks/solutions of this checkout)")

    said = "write the exercises as a folder for a static server: they are checked in the browser, with nothing installed there"
    web = _add(commands, "web", said, "web --out exercises_page", _web)
    web.add_argument("--out", required=True, metavar="DIR", help="a new folder; served with: python -m http.server -d DIR")
    web.add_argument("--only", action="append", metavar="NN", help="only this notebook, by the beginning of its name; several times if wanted")
    web.add_argument("--source", metavar="FOLDER", help="the notebooks with solutions (default: notebooks/solutions of this checkout)")

    said = "compute what CLIP's own scale asks of machines: operations, memory, exchange, time"
    scale = _add(commands, "arithmetic", said, "arithmetic --model ViT-L/14 --machines 256 --rate 25000", _arithmetic)
    scale.add_argument("--model", default="ViT-B/32", metavar="NAME", help="a released size, such as RN50x64 (default: ViT-B/32)")
    scale.add_argument("--batch", type=int, default=32_768, metavar="N", help="pairs a batch, over all machines (default: 32768)")
    scale.add_argument("--pairs", type=float, default=400e6, metavar="N", help="pairs of the data set (default: 400e6)")
    scale.add_argument("--epochs", type=float, default=32, metavar="N", help="times that training sees them (default: 32)")
    scale.add_argument("--machines", type=int, default=256, metavar="N", help="machines that share the batch (default: 256)")
    scale.add_argument("--memory", type=float, default=16, metavar="GB", help="memory of each (default: 16)")
    scale.add_argument("--rate", type=float, metavar="GFLOP/s", help="what each sustains (default: what this machine does, measured)")
    _common(scale, out="a folder to write the numbers and a picture in")
    return parser


def _add(commands: Any, name: str, help_: str, example: str, command: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".", epilog=f"example: python -m tinymm {example}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=command)
    return parser


def _common(parser: argparse.ArgumentParser, out: str | None = None) -> None:
    parser.add_argument("--seed", type=_seed, default=0, help="names the random draws; the same seed gives the same numbers (default: 0)")
    parser.add_argument("--backend", default="numpy", choices=["numpy", "cupy"], help="where the arrays live (default: numpy)")
    parser.add_argument("--out", metavar="PATH", help=out or "write the result to this JSON file too")


def _invert(parser: argparse.ArgumentParser) -> None:
    said = "swap dark and light first: glyphs are white on black, scans and screenshots mostly black on white"
    parser.add_argument("--invert", action="store_true", help=said)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 on, and {text!r} came")
    return int(text)


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="RUN_OR_FOLDER", help="a run, a Hugging Face folder or a file of weights (default: the last run)")
    parser.add_argument("--tokenizer", metavar="PATH", help="the tokenizer's folder, for a file of weights that brings none")


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
    from tinymm.workflows import evaluate

    print("\n".join(evaluate.table(read_json(path / "results.json"))))
    print(f"run folder: {path} · open {path / 'report.html'}")


def _caption(out: str | None, **options: Any) -> None:
    from tinymm.training.records import write_json
    from tinymm.workflows import caption

    found = caption.run(**options)
    if out:
        write_json(out, found)


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


def _evaluate(**options: Any) -> None:
    from tinymm.workflows import evaluate

    evaluate.run(**options)


def _classify(picture: str, labels: str, template: list[str] | None, seed: int, out: str | None, **options: Any) -> None:
    from tinymm.training.records import write_json
    from tinymm.workflows import classify

    shares = classify.run(picture, labels.split(","), templates=template or ("{}",), **options)
    if out:
        write_json(out, shares)


def _search(seed: int, out: str | None, **options: Any) -> None:
    from tinymm.training.records import write_json
    from tinymm.workflows import search

    found = search.run(**options)
    if out:
        write_json(out, dict(found))


def _masks(seed: int, backend: str, **options: Any) -> None:
    from tinymm.workflows import masks

    masks.run(**options)


def _data_check(path: str, out: str | None, **options: Any) -> int:
    from tinymm.workflows import data

    return 0 if data.run(path, out=out) else 2


def _data_show(out: str | None, backend: str, **options: Any) -> None:
    from tinymm.workflows import data

    data.show(out=out or "samples.png", **options)


def _check(out: str | None, **options: Any) -> None:
    from tinymm.training.records import write_json
    from tinymm.workflows import check

    errors = check.run(**options)
    if out:
        write_json(out, errors)


def _exercises(**options: Any) -> None:
    from tinymm.workflows import exercises

    exercises.run(**options)


def _web(**options: Any) -> None:
    from tinymm.workflows import web

    web.run(**options)


def _arithmetic(**options: Any) -> None:
    from tinymm.workflows import arithmetic

    arithmetic.run(**options)


def _bench(**options: Any) -> None:
    from tinymm.workflows import bench

    bench.run(**options)


if __name__ == "__main__":
    sys.exit(main())
