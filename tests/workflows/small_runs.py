"""What the tests of commands work on: drawn pictures with captions, and the flags of a tiny model."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import tinymm

COLORS = {
    "red": (230, 30, 30),
    "green": (30, 210, 30),
    "blue": (40, 40, 235),
    "white": (245, 245, 245),
}
SHAPES = {
    "square": (slice(8, 32), slice(12, 36)),
    "bar": (slice(16, 24), slice(2, 46)),
    "pole": (slice(2, 38), slice(20, 28)),
}
TINY = "--resolution 16 --patch 8 --width 32 --layers 1 --text-layers 1 --heads 2 --embed-dim 16 --batch-size 8 --warmup 2 --workers 1".split()


def draw(folder: Path, count=24, first=0):
    """Write `count` pictures of 40 × 48 pixels, light on dark, and captions.csv; return the folder."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng, lines = np.random.default_rng(first), ["file,caption"]
    kinds = list(itertools.product(COLORS, SHAPES))
    for i in range(first, first + count):
        color, shape = kinds[i % len(kinds)]
        pixels = rng.integers(0, 40, (40, 48, 3)).astype(np.uint8)
        pixels[SHAPES[shape]] = COLORS[color]
        Image.fromarray(pixels).save(folder / f"p{i:02}.png")
        lines.append(f"p{i:02}.png,a {color} {shape}" + (" again" if i >= len(kinds) else ""))
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return folder


def train_command(data, out, *more):
    """Return the arguments that train a tiny model."""
    return ["train", "clip", "--data", str(data), "--out", str(out), *TINY, *map(str, more)]


def half_kept(judge):
    """Return a `capfilt.judge` half of whose captions pass, in its own order, however little the filter has learned in a second."""

    def judged(*arguments):
        found = judge(*arguments)
        order = np.argsort([item.probability for item in found], kind="stable").tolist()
        return [
            replace(item, probability=(order.index(i) + 0.5) / len(found))
            for i, item in enumerate(found)
        ]

    return judged


def start(*arguments):
    """Run a command in a process of its own, which finds the package where this one found it."""
    path = os.pathsep.join(
        [str(Path(tinymm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    command = [sys.executable, "-m", "tinymm", *map(str, arguments)]
    env = os.environ | {"PYTHONPATH": path, "COLUMNS": "1000"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
