"""Command lines: arguments dropped, doubled, swapped, misspelled, given strange values. Commands that
train get one step of a tiny model at the end of the line; those that take minutes a flag that is
none.
"""

import io
import json
import math
import random
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from . import accounts
from .cases import Trial

STRANGE = (
    "",
    " ",
    "0",
    "-1",
    "1",
    "2",
    "3",
    "1e999",
    "nan",
    "inf",
    "-inf",
    "0.5",
    "99999999999999999999",
    "100000",
    "1000000000",
    "x" * 5000,
    "--",
    "-",
    "-h1",
    "../x",
    "/dev/null",
    "nowhere/x",
    "data",
    "data/p0.png",
    "data/captions.csv",
    "run",
    "blip",
    "\udcff",
    "é",
    "a\x00b",
    "{}",
    "{0}",
    "{}{}",
    "{x}",
    "%s",
    "none",
    "None",
    "true",
    "glyph",
    "[1]",
    "a,b",
    ",",
    ",,a",
    "RUN",
    "~",
    "~nobody/x",
    "*",
    "\n",
    "\x1b[31m",
    "shard-{0..3}.tar",
    "numpy",
    "torch",
    "1,2",
    "1_000",
    "٣",
    "data/../data",
)
#: Values that flags may well have, so that not every change is a mistake.
USUAL = {
    "--seed": "0 1 7 2147483648", "--top": "1 2 100", "--max-new-tokens": "1 2 5", "--beams": "1 2",
    "--temperature": "0.1 1 3", "--top-p": "0.1 0.5 1",
    "--queries": "1 3", "--patches": "1 4", "--padding": "0 1", "--layers": "1 3",
    "--model": "run blip ./run run/", "--data": "data ./data data/captions.csv",
    "--labels": "red,blue red,red,blue white,ball,bar Red,BLUE", "--words": "red",
    "--template": "{} a_{}", "--wrong": "1 3", "--steps": "1", "--rate": "1e-3 1", "--learning-rate": "1e-3 1",
}  # fmt: skip  # fmt: skip
TINY = ("--resolution 16 --patch 8 --width 16 --layers 1 --text-layers 1 --heads 2 --embed-dim 8 --batch-size 4 --warmup 1 --workers 1"
        " --steps 1 --seed 0").split()  # fmt: skip
CHEAP = (
    "data check data", "data check data --out out.json", "data check data/captions.csv",
    "classify data/p0.png --labels red,blue --model run",
    "classify data/p0.png --labels red,blue --template {} --model run --out out.json",
    "search data red --model run --top 3 --out out.json",
    "search data red --model run --invert", "caption data/p0.png --model blip --max-new-tokens 3",
    "caption data/p0.png data/p1.png --model blip --beams 2",
    "caption data/p0.png --model blip --top-p 0.9 --temperature 0.5 --seed 3 --max-new-tokens 2",
    "caption data/p0.png --model run",
    "masks --queries 2 --text ball --patches 2", "masks --difference itc itm --layers 2",
    "masks --objective albef --padding 2 --html out.html",
    "check tanh", "arithmetic --rate 100 --batch 64 --machines 2 --pairs 1e5 --epochs 1 --memory 8",
    "course status data", "course quiz --answers 1a,2b",
    "course hunt causal_mask --student ada --out out --wrong 2",
    "exercises --student out --source data", "eval --model run --data data",
    "eval --model run --out out.json",
)  # fmt: skip
TRAINED = ("train clip --data data --out out", "train clip --data data --init run --out out",
           "train clip --data data --out out --loss sigmoid --image resnet --text cbow",
           "train clip --resume run")  # fmt: skip
LONG = (
    "demo --steps 3",
    "train albef --data data --out out",
    "ablate blip2 --steps 1",
    "compare --steps 1",
    "bench W1",
    "web --out out",
    "train blip2 --stage 2",
    "train blip --capfilt",
)


@cache
def world() -> dict[str, bytes]:
    """Return a folder of pictures and captions, and two runs that are open to commands, as names and bytes."""
    from tempfile import TemporaryDirectory

    from tinymm import pretrained
    from tinymm.data.images import Preprocess
    from tinymm.data.text import WordTokenizer
    from tinymm.models.bert import BertConfig
    from tinymm.models.blip import BLIP, BLIPConfig
    from tinymm.models.clip import CLIP, CLIPConfig
    from tinymm.models.text import TextConfig
    from tinymm.models.vit import ViTConfig
    from tinymm.training.records import RunFolder, write_json

    words = WordTokenizer(
        ("a", "ball", "bar", "blue", "box", "green", "pole", "red", "ring", "white"), context=8
    )
    framed = words.with_frame("[DEC]", "[ENC]", "[MASK]")
    rng = np.random.default_rng(0)
    text = TextConfig(
        len(words), words.context, width=16, layers=1, heads=2, end_of_text=words.end_of_text
    )
    clip = CLIP(CLIPConfig(8, ViTConfig(16, 8, 16, 1, 2), text), rng)
    bert = BertConfig.tiny(vocabulary=len(framed), context=framed.context, encoder_width=24)
    ids = {
        "decode": framed.decode_token,
        "encode": framed.encode_token,
        "end_of_text": framed.end_of_text,
    }
    blip = BLIP(BLIPConfig.tiny(text=bert, momentum=None, **ids), rng)
    with TemporaryDirectory() as place:
        root = Path(place)
        for name, model, speaks, style in (
            ("run", clip, words, "shorter_side"),
            ("blip", blip, framed, "square"),
        ):
            settings = {"data": "data", "seed": 0}
            RunFolder.create(root / name, settings, ("step", "loss")).close()
            pretrained.save(model, root / name)
            speaks.save(root / name)
            write_json(
                root / name / "preprocessor_config.json", Preprocess(16, resize=style).to_dict()
            )
        (root / "data").mkdir()
        lines = ["file,caption"]
        for i in range(8):
            (root / "data" / f"p{i}.png").write_bytes(accounts.picture(side=16))
            lines.append(f"p{i}.png,a {accounts.COLORS[i % 4]} {accounts.THINGS[i % 5]}")
        (root / "data" / "captions.csv").write_text("\n".join(lines) + "\n")
        return {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }


def spread(folder: Path, files: dict[str, bytes]) -> None:
    """Write files, by name, into a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def changed_words(rng: random.Random, words: list[str]) -> str:
    """Change one word of a command line in place, and return the change in words."""
    i = rng.randrange(len(words))
    hows = (
        "drop",
        "repeat",
        "swap",
        "strange",
        "strange",
        "misspell",
        "glue",
        "flag",
        "value",
        "usual",
        "usual",
        "usual",
    )
    how = rng.choice(hows)
    old = words[i]
    if how == "drop":
        del words[i]
    elif how == "repeat":
        words.insert(rng.randrange(len(words) + 1), old)
    elif how == "swap":
        j = rng.randrange(len(words))
        words[i], words[j] = words[j], words[i]
    elif how == "strange":
        words[i] = rng.choice(STRANGE)
    elif how == "misspell" and old:
        spot = rng.randrange(len(old))
        words[i] = (
            old[:spot] + rng.choice(("", "x", old[spot].upper(), old[spot] * 2)) + old[spot + 1 :]
        )
    elif how == "glue" and i + 1 < len(words):
        words[i : i + 2] = [f"{words[i]}={words[i + 1]}"]
    elif how == "usual":
        flags = [word for word in words if word in USUAL] or ["--seed"]
        flag = rng.choice(flags)
        words += [flag, rng.choice(USUAL[flag].split())]
    elif how == "flag":
        words[i:i] = [
            rng.choice(
                (
                    "--seed",
                    "--model",
                    "--top",
                    "--invert",
                    "--labels",
                    "--tokenizer",
                    "--max-new-tokens",
                    "--backend",
                )
            ),
            rng.choice(STRANGE),
        ]
    else:
        flags = [j + 1 for j, word in enumerate(words[:-1]) if word.startswith("--")]
        if flags:
            words[rng.choice(flags)] = rng.choice(STRANGE)
    return f"{how} {old[:20]!r}"


def case(rng: random.Random, folder: Path) -> Trial:
    """Return a folder with data and runs, and a command line with a few changes."""
    pool = rng.choices((CHEAP, TRAINED, LONG), (86, 6, 8))[0]
    words = rng.choice(pool).split()
    count = rng.choices((0, 1, 2, 3), (4, 56, 28, 12))[0]
    for _ in range(count):
        if words:
            changed_words(rng, words)
    words = [word for word in words if word != "--debug"]  # asks for a traceback
    outs = [
        i + 1
        for i, word in enumerate(words[:-1])
        if word in ("--out", "--html", "--student", "--csv")
    ]
    for (
        i
    ) in outs:  # nobody is kept from naming a file of his own: only names that are free, or folders
        words[i] = (
            words[i]
            if words[i][:3] == "out"
            else rng.choice(("out", "nowhere/x.json", "data", "out/x/y.json"))
        )
    if (
        pool is LONG
        or any(
            word in ("demo", "ablate", "compare", "bench", "web", "blip2", "blip", "glyphs")
            for word in words[:2]
        )
        or not words
    ):
        words += ["--stepz", "1"]
    elif "train" in words[:2]:
        words += TINY[: len(TINY) - 2 * ("albef" in words)]
    spread(folder, world())
    return Trial(
        " ".join(words)[:300], lambda: ran(words), lambda found: judge(found, folder, words), ended,
        writes=("out", "runs", "nowhere", "samples.png", *hunts(words)),
    )  # fmt: skip


def hunts(words: list[str]) -> list[str]:
    """Return how the name of a hunt begins in a folder that is there and is named by `--out`."""
    pairs = zip(words, words[1:], strict=False)
    return [f"{place}/hunt_" for word, place in pairs if word == "--out" and "hunt" in words]


def ran(words: list[str]) -> tuple[int, str, str]:
    """Run a command in this process, and return its code, what it printed, and what it complained of."""
    from tinymm.__main__ import main
    from tinymm.workflows.runs import figures

    kept = sys.stdout, sys.stderr, sys.stdin
    out, errors = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", how) for how in ("strict", "backslashreplace")
    )
    draw = figures.draw
    try:
        sys.stdout, sys.stderr, sys.stdin = out, errors, io.StringIO("")
        figures.draw = _undrawn  # figures take seconds, and nothing of the input
        try:
            code: Any = main(words)
        except SystemExit as stop:
            code = stop.code
        out.flush(), errors.flush()
        return code, out.buffer.getvalue().decode(), errors.buffer.getvalue().decode()
    finally:
        sys.stdout, sys.stderr, sys.stdin = kept
        figures.draw = draw


def _undrawn(*_: Any) -> None:
    """Draw nothing."""


def ended(found: tuple[int, str, str]) -> str:
    """Return how a command ended, in the words of outcomes."""
    return "refused" if found[0] else "named" if "skipped" in found[1] else "used"


def judge(found: tuple[int, str, str], folder: Path, words: list[str]) -> Iterator[str]:
    """Yield what is wrong with how a command ended."""
    code, out, errors = found
    if code not in (0, 2):
        yield f"the exit code is {code!r}"
    if code == 2 and not (errors + out).strip():
        yield "the exit code is 2, and nothing is said"
    if "Traceback" in out + errors:
        yield "a traceback is printed"
    if code == 0 and errors.strip() and "arning" in errors:
        yield f"succeeds with a warning: {errors[:200]}"
    fresh = sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.relative_to(folder).parts[0] in ("out", "runs", "nowhere")
    )
    written_anyway = words[:2] == [
        "data",
        "check",
    ]  # which ends with 2 where something is skipped, and still reports
    if code == 2 and fresh and not written_anyway:
        yield f"fails and leaves {', '.join(fresh[:3])}"
    for path in folder.rglob("out*.json"):
        try:
            json.loads(path.read_bytes(), parse_constant=lambda name: math.nan / 0)
        except (ValueError, ZeroDivisionError):
            yield f"{path.name} is no standard JSON"
