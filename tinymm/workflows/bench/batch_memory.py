"""One step of a batch larger than memory, with its time and its peak memory.

`python -m tinymm.workflows.bench.batch_memory --batch 8192 --grad-cache 64` prints them.

`--check 512` compares the gradient in chunks with that of the batch at once, at a size where both
fit, in both precisions.
"""

import argparse
import gc
import time
from typing import Any

import numpy as np

from tinymm.models.clip import CLIP
from tinymm.tasks import losses
from tinymm.training.gradient_cache import gradient_cached
from tinymm.training.optimizers import AdamW
from tinymm.training.parallel import threads

from .cases import W1, W2
from .memory import forget_peak, peak_mb, resident_mb
from .tinymm_side import clip_config

WORKLOADS = {"W1": clip_config(W1), "W2": clip_config(W2)}


def pairs_of(config: Any, batch: int, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Return random pictures (B, h, w, c) and ids (B, T) of a workload's sizes."""
    rng, side = np.random.default_rng(0), config.image.resolution
    images = rng.standard_normal((batch, side, side, config.image.channels), dtype=dtype)
    return images, rng.integers(1, config.text.vocabulary, (batch, config.text.context))


def measure(name: str, batch: int, chunk: int | None, workers: int) -> tuple[float, float, float]:
    """Return the seconds of one training step (forward, loss, backward, AdamW), by the clock and of processors, and its peak memory in MB.

    The peak is what the process held at most, model and data too, less what imports took. Every
    worker has a matrix library of one thread.
    """
    from threadpoolctl import threadpool_limits

    gc.collect()
    before = resident_mb()
    forget_peak()
    model = CLIP(WORKLOADS[name], np.random.default_rng(0))
    optimizer = AdamW(model, weight_decay=0.01, betas=(0.9, 0.999), eps=1e-8)
    images, ids = pairs_of(WORKLOADS[name], batch)
    with threadpool_limits(limits=1, user_api="blas"), threads(workers) as split:
        began, worked = time.perf_counter(), time.process_time()
        losses(model, images, ids, split=gradient_cached(split, chunk) if chunk else split)[
            "itc"
        ].backward()
        optimizer.step(1e-3)
        seconds, processors = time.perf_counter() - began, time.process_time() - worked
    return seconds, processors, peak_mb() - before


def difference(name: str, batch: int, chunk: int, workers: int, dtype: str) -> float:
    """Return the largest difference of a parameter's gradient in chunks from that of the batch at once, relative to the largest of that parameter."""
    model = CLIP(WORKLOADS[name], np.random.default_rng(0)).astype(dtype)
    images, ids = pairs_of(WORKLOADS[name], batch, np.dtype(dtype))
    found = []
    for size in (None, chunk):
        with threads(workers) as split:
            gradients: dict = {}
            losses(model, images, ids, split=gradient_cached(split, size) if size else split)[
                "itc"
            ].backward(into=gradients)
            found.append(gradients)
    whole, parts = found
    return max(
        float(np.abs(parts[p] - g).max() / np.abs(g).max()) for p, g in whole.items() if g.any()
    )


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", default="W1", choices=list(WORKLOADS))
    parser.add_argument(
        "--batch", type=int, default=8192, metavar="N", help="pairs in the batch (default: 8192)"
    )
    parser.add_argument(
        "--grad-cache",
        type=int,
        metavar="N",
        help="pairs that are embedded at a time (default: all at once)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="threads that share the batch (default: 1)",
    )
    parser.add_argument(
        "--check", type=int, metavar="N", help="compare gradients at this batch size instead"
    )
    options = parser.parse_args()
    where = f"{options.workload} tinymm batch {options.check or options.batch} chunk {options.grad_cache or 'none'} workers {options.workers}"
    if options.check:
        for dtype in ("float64", "float32"):
            apart = difference(
                options.workload, options.check, options.grad_cache or 64, options.workers, dtype
            )
            print(f"{where} {dtype} gradient differs by {apart:.1e}", flush=True)
        return
    seconds, processors, peak = measure(
        options.workload, options.batch, options.grad_cache, options.workers
    )
    print(f"{where} step s {seconds:.1f} cpu s {processors:.1f} peak MB {peak:.0f}", flush=True)


if __name__ == "__main__":
    main()
