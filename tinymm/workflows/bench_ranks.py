"""How long a step takes when ranks share it: `mpiexec -n 2 python -m tinymm.workflows.bench_ranks W1 W2`, and the same without `mpiexec` for one.

The batch is always the same 64 pairs, so the ratio of two runs is the speed-up.
"""

import argparse
import time

import numpy as np

from tinymm.models.clip import CLIP
from tinymm.training.mpi import here
from tinymm.training.optimizers import AdamW
from tinymm.training.parallel import threads

from .bench_tinymm import BATCH, WORKLOADS


def step_times(name: str, workers: int, steps: int) -> list[float]:
    """Return the seconds of each step (forward, loss, backward, sums over ranks, AdamW), after three to warm up."""
    from threadpoolctl import threadpool_limits

    config, rng, ranks = WORKLOADS[name], np.random.default_rng(0), here()
    model = CLIP(config, rng)
    optimizer = AdamW(model, decay=0.01, betas=(0.9, 0.999), eps=1e-8)
    side = config.image.resolution
    images = rng.standard_normal((BATCH, side, side, 3), dtype=np.float32)
    ids = rng.integers(1, config.text.vocabulary, (BATCH, config.text.context))
    times = []
    with threadpool_limits(limits=1, user_api="blas"), threads(workers) as split:
        for _ in range(3 + steps):
            ranks.wait()
            began = time.perf_counter()
            model.losses(images, ids, split=split)["itc"].backward()
            optimizer.step(1e-3)
            times.append(time.perf_counter() - began)
    return times[3:]


def main() -> None:
    """Parse the command line, measure on all ranks, and print on the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []])
    parser.add_argument("--workers", type=int, default=1, help="threads of each rank")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    for name in options.workloads or WORKLOADS:
        times = np.array(step_times(name, options.workers, options.steps)) * 1e3
        if here().rank == 0:
            workers = f"{here().size} ranks of {options.workers} threads"
            print(f"{name} {workers}: step ms min {times.min():.1f} med {np.median(times):.1f}", flush=True)


if __name__ == "__main__":
    main()
