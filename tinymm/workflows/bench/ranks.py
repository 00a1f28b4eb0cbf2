"""How long a step takes when ranks share it: `mpiexec -n 2 python -m tinymm.workflows.bench.ranks W1 W2`, and the same without `mpiexec` for one.

The batch is always the same 64 pairs, so the ratio of two runs is the speed-up.
"""

import argparse
import time

import numpy as np

from tinymm.training.mpi import current_group
from tinymm.training.parallel import threads

from . import cases as bench_cases
from .tinymm_side import contrast


def step_times(case: bench_cases.Contrast, workers: int, steps: int) -> list[float]:
    """Return the seconds of each step (forward, loss, backward, sums over ranks, AdamW), after three to warm up; all ranks take as many."""
    from threadpoolctl import threadpool_limits

    times = []
    with threadpool_limits(limits=1, user_api="blas"), threads(workers) as split:
        step = contrast(case, "numpy", np.random.default_rng(0), split)["step"]
        for _ in range(3 + steps):
            current_group().wait()
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
    return times[3:]


def main() -> None:
    """Parse the command line, measure on all ranks, and print on the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", metavar="CASE", choices=["W1", "W2"])
    parser.add_argument("--workers", type=int, default=1, help="threads of each rank")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    for name in options.names:
        times = (
            np.array(step_times(getattr(bench_cases, name), options.workers, options.steps)) * 1e3
        )
        if current_group().rank == 0:
            print(
                f"{name} ranks {current_group().size} threads {options.workers}: step ms min {times.min():.1f} med {np.median(times):.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
