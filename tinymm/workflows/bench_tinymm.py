"""Our side of the benchmark: `python -m tinymm.workflows.bench_tinymm W1 W2` prints times, tape cost and peak memory."""

import argparse
import gc
import time
from collections.abc import Callable

import numpy as np

from tinymm.arrays.backend import to_backend
from tinymm.autodiff import Tensor, no_grad
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.text import TextConfig
from tinymm.models.vit import ViTConfig
from tinymm.training.optimizers import AdamW
from tinymm.training.parallel import threads

from .bench_memory import forget_peak, peak_mb, resident_mb

BATCH = 64
WORKLOADS = {
    "W1": CLIPConfig(128, ViTConfig(32, 4, 128, 4, 4), TextConfig(1000, 16, 128, 4, 4)),
    "W2": CLIPConfig(256, ViTConfig(64, 8, 256, 6, 4), TextConfig(2000, 32, 256, 6, 4)),
}


def timed(name: str, what: str, run: Callable[[], object], repeats: int = 20) -> None:
    """Run a few times to warm up, then print the shortest and the median time in milliseconds."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append((time.perf_counter() - began) * 1e3)
    print(f"{name} tinymm {what} ms min {min(times):.1f} med {np.median(times):.1f}", flush=True)


def measure(name: str, workers: int, backend: str, seed: int) -> None:
    """Print the time of a training step (forward, loss, backward, AdamW) and of a forward pass, and the peak memory above what imports took."""
    config = WORKLOADS[name]
    rng = np.random.default_rng(seed)
    gc.collect()
    before = resident_mb()
    forget_peak()
    model = CLIP(config, rng).to(backend)
    optimizer = AdamW(model, decay=0.01, betas=(0.9, 0.999), eps=1e-8)
    side = config.image.resolution
    images = to_backend(rng.standard_normal((BATCH, side, side, 3), dtype=np.float32), backend)
    ids = rng.integers(1, config.text.vocabulary, (BATCH, config.text.context))
    with threads(workers) as split:

        def step() -> None:
            model.losses(images, ids, split=split)["itc"].backward()
            optimizer.step(1e-3)

        def forward() -> None:
            with no_grad():
                model.losses(images, ids, split=split)

        timed(name, "step", step)
        timed(name, "fwd", forward)
    print(f"{name} tinymm peak MB {peak_mb() - before:.0f}", flush=True)


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


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tape", action="store_true")
    options = parser.parse_args()
    if options.tape:
        tape()
    for name in options.workloads:
        measure(name, options.workers, options.backend, options.seed)


if __name__ == "__main__":
    main()
