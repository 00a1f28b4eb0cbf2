"""How a side of the benchmark is timed, the same for all sides: warm up, repeat, print the shortest and the median."""

import argparse
import gc
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from .cases import CASES, Case, case_named
from .memory import forget_peak, peak_mb, resident_mb

#: A case is timed this often, or for so many seconds if that is less, but never less than a few
#: times.
REPEATS, SECONDS, FEW = 20, 12.0, 5
#: `prepare(case)` gives what to time by name, and how many units of work each call does (words, for
#: decoding).
Prepare = Callable[
    [Case, argparse.Namespace], AbstractContextManager[tuple[dict[str, Callable[[], object]], int]]
]


def timed(
    run: Callable[[], object], repeats: int = REPEATS, seconds: float = SECONDS
) -> tuple[float, float]:
    """Run a few times to warm up, then return the shortest and the median time in milliseconds."""
    for _ in range(3):
        run()
    times: list[float] = []
    while len(times) < FEW or len(times) < repeats and sum(times) < seconds * 1e3:
        began = time.perf_counter()
        run()
        times.append((time.perf_counter() - began) * 1e3)
    return min(times), sorted(times)[len(times) // 2]


def measure(side: str, name: str, prepare: Prepare, options: argparse.Namespace) -> None:
    """Print the times of all that one case names, and the peak memory above what was in use after the imports."""
    gc.collect()
    before = resident_mb()
    forget_peak()
    with prepare(case_named(name), options) as (runs, units):
        for what, run in runs.items():
            least, median = timed(run)
            print(
                f"{name} {side} {what} ms min {least / units:.3f} med {median / units:.3f}",
                flush=True,
            )
    print(f"{name} {side} peak MB {peak_mb() - before:.0f}", flush=True)


def main(
    side: str,
    prepare: Prepare,
    threads: Callable[[int], None] = lambda workers: None,
    **extra: Callable[[], None],
) -> None:
    """Parse the command line of a side and measure; `extra` are names beside the cases' own."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "names",
        nargs="+",
        metavar="CASE",
        choices=[*extra, *(name for group in CASES.values() for name in group)],
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    threads(options.workers)
    for name in options.names:
        if name in extra:
            extra[name]()
        else:
            measure(side, name, prepare, options)
