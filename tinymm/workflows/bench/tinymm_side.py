"""Our side of the benchmark: `python -m tinymm.workflows.bench.tinymm_side W1 "batch 128"` prints times, peak memory and what the tape costs."""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np

from tinymm.arrays.backend import to_backend
from tinymm.autodiff import Tensor, no_grad
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.opt import OPT, OPTConfig
from tinymm.models.text import TextConfig
from tinymm.models.vit import ViTConfig
from tinymm.tasks import losses
from tinymm.tasks.clip import figure_3
from tinymm.training.optimizers import AdamW
from tinymm.training.parallel import threads

from .cases import Case, Contrast, Decode, Loss
from .timing import main

Runs = tuple[dict[str, Callable[[], object]], int]


@contextlib.contextmanager
def prepare(case: Case, options: argparse.Namespace) -> Iterator[Runs]:
    """Give what to time of a case."""
    rng = np.random.default_rng(options.seed)
    with threads(options.workers) as split:
        if isinstance(case, Contrast):
            yield contrast(case, options.backend, rng, split), 1
        elif isinstance(case, Loss):
            yield loss(case, options.backend, rng), 1
        else:
            yield decode(case, options.backend, rng), case.new


def clip_config(case: Contrast) -> CLIPConfig:
    """Return the config of a case's CLIP."""
    image = ViTConfig(case.side, case.patch, case.width, case.layers, case.heads)
    return CLIPConfig(
        case.width,
        image,
        TextConfig(case.vocabulary, case.context, case.width, case.layers, case.heads),
    )


def contrast(
    case: Contrast, backend: str, rng: np.random.Generator, split: Callable
) -> dict[str, Callable[[], object]]:
    """Return a training step (forward, loss, backward, AdamW), the forward pass with its loss, and the image encoder alone."""
    model = CLIP(clip_config(case), rng).to(backend)
    optimizer = (
        AdamW(model, weight_decay=0.01, betas=(0.9, 0.999), eps=1e-8)
        if "step" in case.what
        else None
    )
    images = to_backend(
        rng.standard_normal((case.batch, case.side, case.side, 3), dtype=np.float32), backend
    )
    ids = rng.integers(1, case.vocabulary, (case.batch, case.context))

    def step() -> None:
        losses(model, images, ids, split=split)["itc"].backward()
        optimizer.step(1e-3)  # type: ignore[union-attr]

    def forward() -> None:
        with no_grad():
            losses(model, images, ids, split=split)

    def image() -> None:
        with no_grad():
            split(model.image_encoder)(images) @ model.W_i

    runs = {"step": step, "fwd": forward, "image": image}
    return {what: runs[what] for what in case.what}


def loss(case: Loss, backend: str, rng: np.random.Generator) -> dict[str, Callable[[], object]]:
    """Return Figure 3 on given features with its gradient, the projections included."""
    n, E = case.n, case.width
    I, T = (
        Tensor(
            to_backend(rng.standard_normal((n, E), dtype=np.float32), backend), requires_grad=True
        )
        for _ in range(2)
    )
    W = to_backend(np.eye(E, dtype=np.float32), backend)
    t = Tensor(
        to_backend(np.float32(2.659) + np.zeros((), np.float32), backend), requires_grad=True
    )

    def step() -> None:
        figure_3(lambda x: x, lambda x: x, I, T, W, W, t)[0].backward(into={})

    return {"step": step}


def decode(case: Decode, backend: str, rng: np.random.Generator) -> dict[str, Callable[[], object]]:
    """Return the greedy continuation of prompts."""
    config = OPTConfig(
        vocabulary=case.vocabulary,
        context=case.prompt + case.new,
        width=case.width,
        layers=case.layers,
        heads=case.heads,
    )
    model = OPT(config, rng).to(backend)
    ids = rng.integers(5, case.vocabulary, (case.batch, case.prompt))
    return {"word": lambda: model.generate(ids, max_new_tokens=case.new, min_new_tokens=case.new)}


def tape(repeats: int = 300) -> None:
    """Print what remembering costs an op: forward and backward of a chain of 100 adds of 4 × 4, less the raw NumPy calls."""
    a, b = np.ones((4, 4), np.float32), np.ones((4, 4), np.float32)
    x, constant = Tensor(a, requires_grad=True), Tensor(b)

    def recorded() -> None:
        y = x
        for _ in range(100):
            y = y + constant
        y.backward(a)

    def raw() -> None:
        y = a
        for _ in range(100):
            y = y + b

    best = {}
    for run in (recorded, raw):
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
        best[run] = min(times)
    print(f"tape tinymm us per op {(best[recorded] - best[raw]) * 1e4:.2f}", flush=True)


if __name__ == "__main__":
    main("tinymm", prepare, tape=tape)
