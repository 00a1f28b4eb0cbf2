"""`python -m tinymm COMMAND`: parses the command line and calls one file of `workflows/`; all of the work is there."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from tinymm import __version__
from tinymm.arrays.backend import find_backend
from tinymm.arrays.errors import TinymmError, not_installed
from tinymm.data.datasets import dataset_names
from tinymm.workflows import commands, mpiexec, terminal
from tinymm.workflows.course import commands as commands_course
from tinymm.workflows.runs import commands as commands_train
from tinymm.workflows.studies import commands as commands_studies

STOPPED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 2 for input that cannot be used (with one sentence), 130 when stopped by Ctrl-C."""
    with mpiexec.one_voice():
        options = vars(build_parser().parse_args(arguments))
        with terminal.awake(), terminal.doing("at work"):
            return _run(options.pop("command"), options.pop("debug"), options)


def _run(command: Any, debug: bool, options: dict[str, Any]) -> int:
    try:
        find_backend(options.get("backend", "numpy"))  # before a second is spent on what needs it
        if options.pop("out_is_file", False):
            commands.check_out(options["out"])
        sharing = (*commands_train.SHARE_BATCHES, *commands_studies.SHARE_BATCHES)
        with _own_functions(), mpiexec.together(options, shares_batches=command in sharing) as own:
            return command(**own) or 0
    except KeyboardInterrupt as stop:
        terminal.aside("\n" + "; ".join(["stopped, and what was written is whole", *map(str, stop.args)]))
        return STOPPED
    except BrokenPipeError:  # `… | head` has read enough; Python would complain once more when it closes the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (TinymmError, OSError, ModuleNotFoundError) as problem:
        if debug:
            raise
        terminal.aside(f"tinymm: {not_installed(problem) if isinstance(problem, ModuleNotFoundError) else problem}")
        return 2


def _own_functions() -> contextlib.AbstractContextManager:
    """Put the functions of the file that TINYMM_MINE names in the place of the library's, while a command runs."""
    if not os.environ.get("TINYMM_MINE"):
        return contextlib.nullcontext()
    from tinymm.workflows.course.mine import use_mine

    return use_mine()


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands, each with an example in its --help."""
    parser = commands.Parser(prog="python -m tinymm", description="Vision-language models from scratch: train, evaluate, look inside.")
    parser.add_argument("--version", action="version", version=f"tinymm {__version__}")
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    commands_train.declare(parsers)
    commands_studies.declare(parsers)

    caption = commands.add(parsers, "caption", "say what pictures show", "caption a.png --beams 3", _caption)
    caption.add_argument("pictures", nargs="+", metavar="PICTURE")
    caption.add_argument("--prompt", metavar="TEXT", help="the beginning of the text, which the model goes on from (BLIP, and stage 2 of BLIP-2)")
    caption.add_argument("--beams", type=int, default=1, metavar="N", help="beginnings kept side by side (default: 1, greedy)")
    caption.add_argument("--nucleus", type=float, metavar="P", help="draw each word from the likeliest ones that together have this probability")
    caption.add_argument("--temperature", type=float, default=1.0, metavar="T", help="flatter (above 1) or sharper draws (default: 1)")
    caption.add_argument("--longest", type=int, metavar="N", help="most new words (default: what the model has room for)")
    commands.common(caption)
    commands.model(caption)

    evaluate = commands.add(parsers, "eval", "print a model's recall and accuracy beside chance", "eval --model runs/first", _evaluate)
    commands.common(evaluate, out="write the numbers to this JSON file too")
    commands.model(evaluate)
    evaluate.add_argument("--data", help="the name of built-in data or a path to pictures and captions (default: what the model was trained on)")

    example = "classify a.png --labels 'latin letter,digit'"
    classify = commands.add(parsers, "classify", "name a picture by the best of some labels", example, _classify)
    classify.add_argument("picture")
    classify.add_argument("--labels", required=True, metavar="A,B,C", help="the labels, separated by commas")
    classify.add_argument("--template", action="append", metavar="TEXT", help="a prompt with {} for the label; may be given several times")
    commands.invert(classify)
    commands.common(classify, seed=False)
    commands.model(classify)

    search = commands.add(parsers, "search", "find the pictures of a folder that fit some words", "search photos 'latin small letter a'", _search)
    search.add_argument("folder")
    search.add_argument("words")
    search.add_argument("--top", type=int, default=5, metavar="N", help="how many pictures to name (default: 5)")
    commands.invert(search)
    commands.common(search, seed=False)
    commands.model(search)

    said = "print who may look at whom under the objectives of ALBEF, BLIP and BLIP-2"
    masks = commands.add(parsers, "masks", said, "masks --queries 4 --text 'a red ball'", _masks)
    masks.add_argument("--queries", type=int, default=4, metavar="Q", help="BLIP-2's learned queries (default: 4)")
    masks.add_argument("--patches", type=int, default=4, metavar="P", help="patches of the picture that ALBEF's or BLIP's text sees (default: 4)")
    masks.add_argument("--text", default="a red ball", help="the words, between [CLS] or [DEC] and [SEP] (default: 'a red ball')")
    masks.add_argument("--padding", type=int, default=0, metavar="N", help="padding tokens after the text (default: 0)")
    one = ["itc", "itg", "itm", "causal", "prefix", "albef-itc", "albef-itm", "albef-mlm", "blip-itc", "blip-itm", "blip-lm"]
    several = "one mask only, or a model's three: 'albef', 'blip', or 'all' for BLIP-2's ITC, ITG and ITM (default: all)"
    objectives = [*one, "albef", "blip", "all"]
    masks.add_argument("--objective", type=str.lower, choices=objectives, metavar="NAME", help=f"{several}; one of {', '.join(one)}")
    masks.add_argument("--difference", nargs=2, type=str.lower, choices=one, metavar=("A", "B"), help="where two of the masks differ")
    masks.add_argument("--layers", type=int, default=1, metavar="L", help="show what is known after L layers, the picture included (default: 1)")
    masks.add_argument("--html", metavar="FILE", help="write a page in which the masks can be asked, row by row")
    said = "a folder to draw masks.png in, and reachability.png and difference.png where asked for"
    commands.common(masks, out=said, seed=False, backend=False, folder=True)

    data = parsers.add_parser("data", help="look at pictures and captions before training on them")
    actions = data.add_subparsers(title="actions", metavar="ACTION", required=True)
    check_data = commands.add(actions, "check", "count pairs, duplicates and broken pictures", "data check my_pictures", _data_check)
    named = f"pictures and captions, or the name of built-in data: {dataset_names()}"
    check_data.add_argument("path", help=named)
    check_data.add_argument("--tokenizer", metavar="PATH", help="say what captions are cut into by the tokenizer of this folder or file")
    said = "the same for words, or for bpe: pieces learned from the captions (default: words)"
    check_data.add_argument("--vocabulary", choices=("words", "bpe"), default="words", help=said)
    commands.common(check_data, seed=False, backend=False)
    show_data = commands.add(actions, "show", "draw a few pictures with their captions", "data show emoji digits --out samples.png", _data_show)
    show_data.add_argument("paths", nargs="+", metavar="PATH", help=named)
    show_data.add_argument("--resolution", type=int, default=64, metavar="N", help="side of the pictures in pixels (default: 64)")
    commands.common(show_data, out="the picture (default: samples.png)", backend=False)

    check = commands.add(parsers, "check", "check the gradient of ops by name (default: all)", "check softmax conv2d", _check)
    check.add_argument("names", nargs="*", metavar="OP")
    commands.common(check)

    bench = commands.add(parsers, "bench", "time training, inference and words, beside PyTorch if asked", "bench W1 W2 --against torch", _bench)
    named = "W1, W2, inference, decoding; growths: batch, width, sequence, loss (default: W1 W2)"
    bench.add_argument("workloads", nargs="*", default=["W1", "W2"], metavar="W", help=named)
    sides = "run other sides in turn and print the ratios (torch needs the extra 'parity')"
    bench.add_argument("--against", nargs="+", default=[], choices=["torch", "jax"], help=sides)
    bench.add_argument("--workers", type=int, metavar="N", help="threads, on all sides (default: the cores, up to 4)")
    commands.common(bench, out="write the numbers to this JSON file too, and a picture of them beside it")

    commands_course.declare(parsers)

    said = "compute what CLIP's own scale asks of machines: operations, memory, exchange, time"
    scale = commands.add(parsers, "arithmetic", said, "arithmetic --model ViT-L/14 --machines 256 --rate 25000", _arithmetic)
    scale.add_argument("--model", default="ViT-B/32", metavar="NAME", help="a released size, such as RN50x64 (default: ViT-B/32)")
    scale.add_argument("--batch", type=int, default=32_768, metavar="N", help="pairs a batch, over all machines (default: 32768)")
    scale.add_argument("--pairs", type=float, default=400e6, metavar="N", help="pairs of the data set (default: 400e6)")
    scale.add_argument("--epochs", type=float, default=32, metavar="N", help="times that training sees them (default: 32)")
    scale.add_argument("--machines", type=int, default=256, metavar="N", help="machines that share the batch (default: 256)")
    scale.add_argument("--memory", type=float, default=16, metavar="GB", help="memory of each (default: 16)")
    scale.add_argument("--rate", type=float, metavar="GFLOP/s", help="what each sustains (default: what this machine does, measured)")
    commands.common(scale, out="a folder to write the numbers and a picture in", folder=True)
    return parser


def _caption(out: str | None, **options: Any) -> None:
    from tinymm.training.records import write_json
    from tinymm.workflows.use import caption

    found = caption.run(**options)
    if out:
        write_json(out, found)


def _evaluate(**options: Any) -> None:
    from tinymm.workflows.use import evaluate

    evaluate.run(**options)


def _classify(picture: str, labels: str, template: list[str] | None, out: str | None, **options: Any) -> None:
    from tinymm.training.records import write_json
    from tinymm.workflows.use import classify

    shares = classify.run(picture, labels.split(","), templates=template or ("{}",), **options)
    if out:
        write_json(out, shares)


def _search(out: str | None, **options: Any) -> None:
    from tinymm.training.records import write_json
    from tinymm.workflows.use import search

    found = search.run(**options)
    if out:
        write_json(out, dict(found))


def _masks(**options: Any) -> None:
    from tinymm.workflows.inspect import masks

    masks.run(**options)


def _data_check(path: str, out: str | None, tokenizer: str | None, vocabulary: str) -> int:
    from tinymm.workflows.inspect import data

    return 0 if data.run(path, tokenizer=tokenizer, vocabulary=vocabulary, out=out) else 2


def _data_show(out: str | None, **options: Any) -> None:
    from tinymm.workflows.inspect import data

    data.show(out=out or "samples.png", **options)


def _check(out: str | None, **options: Any) -> None:
    from tinymm.training.records import write_json
    from tinymm.workflows.inspect import ops as check

    errors = check.run(**options)
    if out:
        write_json(out, errors)


def _arithmetic(**options: Any) -> None:
    from tinymm.workflows.bench import scale as arithmetic

    arithmetic.run(**options)


def _bench(**options: Any) -> None:
    from tinymm.workflows.bench import run as bench

    bench.run(**options)


if __name__ == "__main__":
    sys.exit(main())
