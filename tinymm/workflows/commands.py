"""How a command is declared: what the parsers of all commands share. `tinymm/__main__` and `commands_*` beside this file declare them."""

import argparse
import difflib
from collections.abc import Sequence
from typing import Any


class Parser(argparse.ArgumentParser):
    """A parser whose refusals offer the nearest name, and quotation marks where words of a text stand alone; its subparsers are of its kind."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            near = difflib.get_close_matches(str(value).lower(), known, n=1)
            way_out = f"did you mean {near[0]}?" if near else "choose one of these"
            raise argparse.ArgumentError(action, f"it is one of {', '.join(known)}, and {str(value)!r} came; {way_out}")

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Return the options; words that belong to none are refused, as argparse does, with the way out."""
        found, left = self.parse_known_args(args, namespace)
        if left:
            flags = any(word.startswith("-") for word in left)
            way_out = "see --help of the command for its flags" if flags else 'a text of several words stands in quotation marks: "a red ball"'
            self.error(f"unrecognized arguments: {' '.join(left)}; {way_out}")
        return found


def add(commands: Any, name: str, help_: str, example: str, command: Any) -> argparse.ArgumentParser:
    """Add a command with an example in its help, and return its parser."""
    parser = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".", epilog=f"example: python -m tinymm {example}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=command)
    return parser


def common(parser: argparse.ArgumentParser, out: str | None = None) -> None:
    """Add what nearly every command takes: seed, backend, and where the result goes."""
    parser.add_argument("--seed", type=seed, default=0, help="names the random draws; the same seed gives the same numbers (default: 0)")
    parser.add_argument("--backend", default="numpy", choices=["numpy", "cupy"], help="where the arrays live (default: numpy)")
    parser.add_argument("--out", metavar="PATH", help=out or "write the result to this JSON file too")


def invert(parser: argparse.ArgumentParser) -> None:
    """Add --invert, for pictures that are black on white."""
    said = "swap dark and light first: glyphs are white on black, scans and screenshots mostly black on white"
    parser.add_argument("--invert", action="store_true", help=said)


def seed(text: str) -> int:
    """Return the number of --seed."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 on, and {text!r} came")
    return int(text)


def model(parser: argparse.ArgumentParser) -> None:
    """Add which model, and its tokenizer."""
    parser.add_argument("--model", metavar="RUN_OR_FOLDER", help="a run, a Hugging Face folder or a file of weights (default: the last run)")
    parser.add_argument("--tokenizer", metavar="PATH", help="the tokenizer's folder, for a file of weights that brings none")
    heads = "attention heads of a file that does not tell them, such as image=12,text=8"
    parser.add_argument("--heads", metavar="PART=N", help=heads)
    activation = "its activation: quick_gelu (OpenAI's), gelu (open_clip's usual one) or relu; or image=…,text=…"
    parser.add_argument("--activation", metavar="NAME", help=activation)
    resolution = "take pictures of N × N pixels, by resizing the position embeddings (default: the model's own size)"
    parser.add_argument("--resolution", type=int, metavar="N", help=resolution)
