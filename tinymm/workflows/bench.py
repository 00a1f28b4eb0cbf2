"""`bench`: how long a training step takes, beside PyTorch's in the same run if asked.

Each side runs in a process of its own, twice, in turn, and the shorter of its two minima counts: what else the machine was doing then
hurts both alike.
"""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tinymm.arrays.errors import UsageError
from tinymm.training.records import write_json

from .bench_tinymm import WORKLOADS

LINE = re.compile(
    r"(?P<workload>\w+) (?P<side>tinymm|torch) "
    r"(?:(?P<what>step|fwd) ms min (?P<ms>[\d.]+)|peak MB (?P<mb>[\d.-]+)|us per op (?P<us>[\d.]+))"
)
ROUNDS = 2


def run(
    workloads: Sequence[str] = ("W1", "W2"),
    *,
    against: str | None = None,
    workers: int | None = None,
    seed: int = 0,
    backend: str = "numpy",
    out: str | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Print each side's lines as they come, then the ratios; return all numbers by `"W1 tinymm step"` and the like, in ms, MB and µs.

    `workers` is the number of threads of both sides; with one, the matrix library has one as well.
    """
    unknown = [name for name in workloads if name not in WORKLOADS]
    if unknown:
        raise UsageError(f"the workloads are {', '.join(WORKLOADS)}, and {unknown[0]!r} came; see docs/benchmark.md")
    if against == "torch" and importlib.util.find_spec("torch") is None:
        raise UsageError("--against torch needs PyTorch, which is not installed here; install the extra 'parity', or leave --against out")
    workers = workers or min(4, os.cpu_count() or 1)
    if workers < 1:
        raise UsageError(f"at least one worker is needed and {workers} came")
    sides = {"tinymm": ["--backend", backend, "--tape"]}
    if against:
        sides[against] = ["--device", "cuda" if backend == "cupy" else "cpu"]
    numbers: dict[str, float] = {}
    for _ in range(ROUNDS if against else 1):
        for side, extra in sides.items():
            for line in _lines(side, [*workloads, "--workers", str(workers), "--seed", str(seed), *extra], workers):
                say(line)
                _keep_best(numbers, line)
    for name in workloads if against else ():
        for what in ("step", "fwd", "peak"):
            ours, theirs = numbers[f"{name} tinymm {what}"], numbers[f"{name} {against} {what}"]
            say(f"{name} {what} ratio tinymm/{against} {ours / theirs:.2f} ({workers} thread{'s' * (workers > 1)})")
            numbers[f"{name} {what} ratio"] = ours / theirs
    if out:
        write_json(out, {"workers": workers, "numbers": numbers})
    return numbers


def _lines(side: str, arguments: list[str], workers: int) -> list[str]:
    # One kind of parallelism: ours is threads over shards, each with a matrix library of one thread.
    threads = {name: str(workers) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-m", f"tinymm.workflows.bench_{side}", *arguments]
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"the {side} side of the benchmark stopped with exit code {done.returncode}: {last}")
    return done.stdout.splitlines()


def _keep_best(numbers: dict[str, float], line: str) -> None:
    found = LINE.match(line)
    if not found:
        return
    value = float(found["ms"] or found["mb"] or found["us"])
    key = f"{found['workload']} {found['side']} {found['what'] or ('peak' if found['mb'] else 'us per op')}"
    numbers[key] = min(value, numbers.get(key, float("inf")))
