"""How a command is declared: in the file that does it, by a function `declare(parsers)`.

`add` adds a command with its example, `group` a command of several actions; the others add flags
that several commands have. `PLACE` of such a file is where its commands stand in --help. Files of
the sub-folders are found; `register` takes a `declare` from anywhere else. Whatever a command alone
needs and is slow to import is imported by the function that does it, since --help asks all files.
"""

import argparse
import difflib
import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tinymm import __version__
from tinymm.arrays.errors import UsageError

#: What flags are called elsewhere → what they are called here, the first that the command has.
ELSEWHERE = {
    "--lr": ["--learning-rate"], "--epochs": ["--steps"], "--num-epochs": ["--steps"], "--max-steps": ["--steps"],
    "--iterations": ["--steps"], "--device": ["--backend"], "--gpu": ["--backend"], "--cuda": ["--backend"], "--batch": ["--batch-size"],
    "--bs": ["--batch-size"], "--threads": ["--workers"], "--num-workers": ["--workers"], "--output": ["--out"], "--output-dir": ["--out"],
    "--wd": ["--weight-decay"], "--grad-clip": ["--max-grad-norm"], "--dataset": ["--data"],
    "--train-data": ["--data"], "--pretrained": ["--init", "--model"], "--checkpoint": ["--resume", "--model"], "--image-size": ["--resolution"],
    "--size": ["--resolution"], "--patch-size": ["--patch"], "--dim": ["--width"], "--hidden-size": ["--width"], "--depth": ["--layers"],
    "--num-beams": ["--beams"],
    "--max-length": ["--max-new-tokens"], "--top-k": ["--top"], "--classes": ["--labels"], "--prompt": ["--template"],
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """A parser whose refusals offer the nearest name, and quotation marks where words of a text stand alone; its subparsers are of its kind.

    Flags are written in full: half of a name could be another flag tomorrow.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **options})

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            near = difflib.get_close_matches(str(value).lower(), known, n=1)
            way_out = f"did you mean {near[0]}?" if near else "choose one of these"
            raise argparse.ArgumentError(
                action, f"it is one of {', '.join(known)}, and {str(value)!r} came; {way_out}"
            )

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Return the options; words that belong to none are refused, as argparse does, with the way out."""
        found, left = self.parse_known_args(args, namespace)
        command = getattr(found, "parser", self)
        if hasattr(found, "parser"):
            del found.parser
        if left:
            command.error(f"unrecognized arguments: {' '.join(left)}; {command.way_out(left)}")
        return found

    def way_out(self, left: Sequence[str]) -> str:
        """Return what to write in place of words that belong to no flag of this command."""
        flags = [word.split("=")[0] for word in left if word.startswith("-")]
        if not flags:
            taken = [
                str(action.metavar or action.dest)
                for action in self._actions
                if not action.option_strings
            ]
            several = 'a text of several words stands in quotation marks: "a red ball"'
            return (
                f"{self.prog.split()[-1]} takes {' and '.join(taken)}, and {several}"
                if taken
                else several
            )
        known = self._option_string_actions
        meant = [name for name in ELSEWHERE.get(flags[0], ()) if name in known]
        near = meant or difflib.get_close_matches(flags[0], known, n=1, cutoff=0.75)
        return f"did you mean {near[0]}?" if near else "see --help of the command for its flags"


#: By the function's module and name: where its commands stand in --help, and what adds them.
_DECLARED: dict[str, tuple[int, Callable[[Any], None]]] = {}
_DECLARES = re.compile(r"^def declare\(", re.M)


def register(declare: Callable[[Any], None], place: int = 100) -> Callable[[Any], None]:
    """Let `declare(parsers)` add its commands to the command line, and return it.

    Commands stand in --help by their `place`; a function of the same file and name is replaced.
    """
    _DECLARED[f"{declare.__module__}.{declare.__qualname__}"] = place, declare
    return declare


@cache
def _discover() -> None:
    """Register each `declare` of the files in this chapter's sub-folders.

    Files are searched for it and only those that have one are imported, as the others are slow.
    """
    package = importlib.import_module(__package__)
    for folder in pkgutil.iter_modules(package.__path__, f"{__package__}."):
        if not folder.ispkg:
            continue
        for file in pkgutil.iter_modules(importlib.import_module(folder.name).__path__):
            spec: Any = importlib.util.find_spec(f"{folder.name}.{file.name}")
            if not file.ispkg and _DECLARES.search(spec.loader.get_source(spec.name)):
                module = importlib.import_module(spec.name)
                register(module.declare, module.PLACE)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands, each with an example in its --help."""
    said = "Vision-language models from scratch: train, evaluate, look inside."
    parser = Parser(prog="python -m tinymm", description=said)
    parser.add_argument("--version", action="version", version=f"tinymm {__version__}")
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _discover()
    for name in sorted(_DECLARED, key=lambda name: (_DECLARED[name][0], name)):
        _DECLARED[name][1](parsers)
    return parser


def group(parsers: Any, name: str, help_: str) -> Any:
    """Return the actions of a command, such as `course`, which the first of their files adds."""
    if name not in parsers.choices:
        parser = parsers.add_parser(name, help=help_)
        parser.actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    return parsers.choices[name].actions


def add(
    commands: Any,
    name: str,
    help_: str,
    example: str,
    command: Any,
    *,
    shares_batches: bool = False,
) -> argparse.ArgumentParser:
    """Add a command with an example in its help, and return its parser.

    `shares_batches`: it trains on batches that ranks may share (`mpiexec`).
    """
    parser = commands.add_parser(
        name,
        help=help_,
        description=help_[0].upper() + help_[1:] + ".",
        epilog=f"example: python -m tinymm {example}",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=command, parser=parser, shares_batches=shares_batches)
    return parser


def common(
    parser: argparse.ArgumentParser,
    out: str | None = None,
    *,
    seed: bool = True,
    backend: bool = True,
    folder: bool = False,
    only_given: bool = False,
) -> None:
    """Add what most commands take: seed, backend, and where the result goes, a file or a `folder`.

    What does nothing is left out. With `only_given`, seed and backend are among the options only
    where they were given.
    """
    parser.set_defaults(out_is_file=not folder)
    if seed:
        said = "names the random draws; the same seed gives the same numbers (default: 0)"
        default = argparse.SUPPRESS if only_given else 0
        parser.add_argument("--seed", type=seed_number, default=default, help=said)
    if backend:
        parser.add_argument(
            "--backend",
            default=argparse.SUPPRESS if only_given else "numpy",
            choices=["numpy", "cupy"],
            help="where the arrays live (default: numpy)",
        )
    parser.add_argument(
        "--out", metavar="PATH", help=out or "write the result to this JSON file too"
    )


def check_out(out: str | None) -> None:
    """Raise UsageError where a result could not be written, before the work that it takes: --out is in no folder, or is one."""
    if out and Path(out).is_dir():
        raise UsageError(f"--out is a file here, and {out} is a folder; name a file in it")
    if out and not Path(out).parent.is_dir():
        raise UsageError(
            f"--out is a file in a folder, and {Path(out).parent} is none; make it first, or name another"
        )


def invert(parser: argparse.ArgumentParser) -> None:
    """Add --invert, for pictures that are black on white."""
    said = "swap dark and light first: glyphs are white on black, scans and screenshots mostly black on white"
    parser.add_argument("--invert", action="store_true", help=said)


def seed_number(text: str) -> int:
    """Return the number of --seed."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 on, and {text!r} came")
    return int(text)


def model(parser: argparse.ArgumentParser) -> None:
    """Add which model, and its tokenizer."""
    parser.add_argument(
        "--model",
        metavar="RUN_OR_FOLDER",
        help="a run, a Hugging Face folder or a file of weights (default: the last run)",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="PATH",
        help="the tokenizer's folder, for a file of weights that brings none",
    )
    heads = "attention heads of a file that does not tell them, such as image=12,text=8"
    parser.add_argument("--heads", metavar="PART=N", help=heads)
    activation = "its activation: quick_gelu (OpenAI's), gelu (open_clip's usual one) or relu; or image=…,text=…"
    parser.add_argument("--activation", metavar="NAME", help=activation)
    resolution = "take pictures of N × N pixels, by resizing the position embeddings (default: the model's own size)"
    parser.add_argument("--resolution", type=int, metavar="N", help=resolution)
