"""The flags of the training commands: one for each field of a workflow's `Settings`, with the field's type and default and a word on its meaning."""

import argparse
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import UsageError
from tinymm.training.records import from_home, read_run

from .opened import BUILT_IN_NAMES

#: What each field of the training commands' settings is for; the flags, types and defaults are the fields' own.
CLIP = {
    "data": f"{BUILT_IN_NAMES} or a path to pictures and captions", "image": "picture encoder: vit or resnet",
    "text": "text encoder: transformer or cbow",
    "resolution": "side of the pictures in pixels (own data, emoji and digits; default: 32 or --init's)",
    "init_heads": "attention heads of an --init that does not tell them, such as image=12,text=8",
    "init_activation": "its activation: quick_gelu (OpenAI's), gelu (open_clip's usual one) or relu",
    "patch": "side of a ViT patch", "width": "width D of both encoders",
    "expansion": "how many times wider the feed-forward layers are, F / D",
    "layers": "layers of the ViT", "text_layers": "layers of the text transformer", "heads": "attention heads",
    "joint": "width E of the joint space", "loss": "softmax (Figure 3) or sigmoid (SigLIP: each pair judged by itself)",
    "embedding_std": "standard deviation of fresh words and positions (default: the paper's, 0.01 to 0.09)",
    "steps": "training steps", "batch_size": "pairs a step, at least 2", "rate": "peak learning rate", "warmup": "steps of warm-up",
    "decay": "weight decay of matrices", "clip": "largest gradient norm, 0 for none",
    "overfit": "train on the first N pairs only, to see that the model can learn",
    "chunk": "embed N pairs at a time, each twice: a batch larger than memory, with its own gradient (docs/memory.md)",
    "init": "fine-tune this run, Hugging Face folder or file",
    "tokenizer": "folder or file of a tokenizer: of --init, where it brings none, or to train on",
    "vocabulary": "words (in scripts without spaces: characters), or bpe: pieces learned from captions",
    "checkpoint_every": "steps between checkpoints", "validate_every": "steps between validations",
    "workers": "threads that share each batch, in each rank",
}  # fmt: skip
TOWERS = {
    "data": CLIP["data"], "resolution": "side of the pictures in pixels (own data, emoji and digits)", "patch": CLIP["patch"],
    "width": "width D of all parts",
    "tokenizer": "folder or file of a tokenizer to train on", "vocabulary": CLIP["vocabulary"],
    "expansion": CLIP["expansion"], "layers": CLIP["layers"],
    "text_layers": "layers that read a text; in ALBEF (default: 2) as many again look at the picture, in BLIP (default: 3) each does both",
    "heads": CLIP["heads"],
    "joint": CLIP["joint"], "queue": "length of the queues in batches", "momentum": "how slowly the twin follows",
    "alpha": "the twin's share in the targets", "ramp": "steps over which it rises from 0", "hidden_share": "share of the words that MLM hides",
    "steps": "training steps (default: 1000 of ALBEF, 1050 of BLIP)", "batch_size": CLIP["batch_size"], "rate": CLIP["rate"],
    "warmup": CLIP["warmup"], "decay": CLIP["decay"], "clip": CLIP["clip"], "chunk": CLIP["chunk"],
    "tuning_steps": "steps by which CapFilt tunes captioner and filter",
    "checkpoint_every": CLIP["checkpoint_every"], "validate_every": CLIP["validate_every"], "workers": CLIP["workers"],
}  # fmt: skip
BLIP2 = {
    "stage": "1: the queries learn from pictures and texts; 2: they learn to speak to a language model",
    "data": CLIP["data"] + " (default: what --encoder or --init was trained on, or shapes)",
    "encoder": "stage 1: the run of `train clip` whose frozen picture encoder is used (default: train one first)",
    "init": "stage 2: the run of stage 1 to go on from (default: the last one)",
    "language": "stage 2: the run or folder of the frozen language model (default: train one first, on the training captions)",
    "tokenizer": "stage 1: that of --encoder, where it brings none, or to train the encoder on",
    "vocabulary": "stage 1, where the encoder is trained first: words, or bpe, learned from captions",
    "objectives": "stage 1: which of the three losses to train on", "queries": "number of queries Q", "width": "width D of the Q-Former",
    "expansion": CLIP["expansion"], "layers": "layers of the Q-Former",
    "cross_every": "every how many of them look at the picture (the paper: 2)", "drop": "stage 1: last layers of the encoder that are left out",
    "heads": "attention heads", "joint": CLIP["joint"], "steps": "training steps (default: 1000 in stage 1, 4000 in stage 2)",
    "batch_size": CLIP["batch_size"], "rate": "peak learning rate (default: 2e-3 in stage 1, 1e-3 in stage 2)", "warmup": CLIP["warmup"],
    "decay": CLIP["decay"], "clip": CLIP["clip"], "chunk": CLIP["chunk"], "encoder_steps": "steps of the encoder, where it is trained first",
    "language_steps": "steps of the language model, where it is trained first",
    "checkpoint_every": CLIP["checkpoint_every"], "validate_every": CLIP["validate_every"], "workers": CLIP["workers"],
}  # fmt: skip


#: Sizes of a model have fewer digits than its numbers of steps.
SIZES = ("resolution", "patch", "width", "expansion", "layers", "text_layers", "heads", "joint", "queries", "queue")


def at_least(settings: Any, lowest: Mapping[str, float]) -> None:
    """Raise UsageError, with the flag's name, for the first field that is below its lowest value, beyond reason or no number; None is left alone."""
    for name, low in lowest.items():
        value = getattr(settings, name)
        if value is not None and not low <= value < math.inf:
            reason = ": with one pair there is nothing to contrast" if low == 2 else ""
            raise UsageError(f"--{name.replace('_', '-')} is at least {low}{reason}, and {value} came; give another, or leave it out")
        most = math.inf if name == "seed" else 2**16 if name in SIZES else 2**31
        if isinstance(value, int) and value >= most:
            raise UsageError(f"--{name.replace('_', '-')} is below {most:,}, and {value} came; give another, or leave it out")


class Noted(argparse.Action):
    """Store a flag's value, and its name under `given`: what was asked for, whatever the default is."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Keep both in the namespace."""
        setattr(namespace, self.dest, values)
        namespace.given = (*getattr(namespace, "given", ()), self.dest)


def refuse_beside_resume(given: Sequence[str], options: Mapping[str, Any], resume: str) -> None:
    """Raise UsageError for the first flag that differs from the settings of the run that goes on, which are its own."""
    run = Path(resume) / "run.json"
    kept = read_run(run, "settings")["settings"] if run.is_file() else {}
    for name in given:
        flag, value = f"--{name.replace('_', '-')}", options[name]
        if name in kept and from_home(kept[name]) != value:
            raise UsageError(
                f"--resume goes on by the run's own settings, and {resume} has {flag} {kept[name]} where {value} came; leave {flag} out, or begin "
                "a new run with --out"
            )


def not_used(settings: Any, given: Sequence[str], unused: Mapping[str, Sequence[str]], say: Callable[[str], None]) -> None:
    """Say which flags were given and do nothing here; `unused` has what decides instead → the fields that it leaves without use."""
    for reason, names in unused.items():
        idle = [f"--{name.replace('_', '-')} {getattr(settings, name)}" for name in names if name in given]
        if idle:
            say(f"not used: {', '.join(idle)}; {reason}")


def add(parser: argparse.ArgumentParser, workflow: str, said: dict[str, str]) -> None:
    """Add one flag for each field of a training workflow's `Settings`, with its type and default."""
    settings = importlib.import_module(f"tinymm.workflows.{workflow}").Settings
    choices: dict[str, tuple] = {"image": ("vit", "resnet"), "text": ("transformer", "cbow"), "stage": (1, 2), "loss": ("softmax", "sigmoid")}
    choices["vocabulary"] = ("words", "bpe")
    for field in fields(settings):
        if field.name in said:
            kind = {int: int, float: float, int | None: int, float | None: float}.get(field.type, str)  # type: ignore[arg-type, call-overload]
            flag = "--" + field.name.replace("_", "-")
            shown = f" (default: {field.default})" if field.default is not None else ""
            parser.add_argument(
                flag, type=kind, default=field.default, choices=choices.get(field.name), help=said[field.name] + shown, action=Noted
            )
    parser.set_defaults(given=())
    parser.add_argument("--resume", metavar="FOLDER", help="go on with a run that was stopped, by its own settings")
