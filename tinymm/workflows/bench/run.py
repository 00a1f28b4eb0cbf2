"""`bench`: how long training steps, inference and words take, and how that grows, beside PyTorch's and JAX's in the same run if asked.

Each case runs in a process of its own, and each side twice, in turn; the shorter of its two minima
counts: what else the machine was doing then hurts all alike.
"""

import importlib.util
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import UsageError
from tinymm.training.records import write_json
from tinymm.viz import style

from .. import commands
from ..terminal import doing, tell
from .cases import CASES

LINE = re.compile(
    r"(?P<case>.+?) (?P<side>tinymm|torch|jax) "
    r"(?:(?P<what>\w+) ms min (?P<ms>[\d.]+) med [\d.]+|peak MB (?P<mb>[\d.-]+)|us per op (?P<us>[\d.]+))"
)
ROUNDS = 2
#: What each of the other sides needs: the module to be found, and how one gets it.
OTHERS = {
    "torch": "PyTorch, which is not installed here; install the extra 'parity'",
    "jax": "JAX, which is not installed here; pip install jax",
}


def run(
    workloads: Sequence[str] = ("W1", "W2"),
    *,
    against: Sequence[str] = (),
    workers: int | None = None,
    seed: int = 0,
    backend: str = "numpy",
    out: str | None = None,
    say: Callable[[str], None] = tell,
) -> dict[str, float]:
    """Print each side's lines as they come, then the ratios; return all numbers by `"W1 tinymm step"` and the like, in ms, MB and µs.

    `workers` is the number of threads of all sides; with one, the matrix library has one as well.
    `out` takes the numbers as JSON, and a picture of them beside it. UsageError for an unknown
    workload, fewer than one worker, or another library that is missing.
    """
    if unknown := [name for name in workloads if name not in CASES]:
        raise UsageError(
            f"the workloads are {', '.join(CASES)}, and {unknown[0]!r} came; see docs/benchmark.md"
        )
    for side in against:
        if importlib.util.find_spec(side) is None:
            raise UsageError(f"--against {side} needs {OTHERS[side]}, or leave --against out")
    workers = workers or min(4, os.cpu_count() or 1)
    if workers < 1:
        raise UsageError(f"at least one worker is needed and {workers} came")
    options = ["--workers", str(workers), "--seed", str(seed), "--backend", backend]
    numbers: dict[str, float] = {}
    for case in ["tape", *(case for name in workloads for case in CASES[name])]:
        sides = ["tinymm", *(() if case == "tape" else against)]
        for side in sides * (ROUNDS if against and case != "tape" else 1):
            with doing(f"measuring {case} of {side}"):
                measured = _lines(side, [case, *options], workers)
            for line in measured:
                say(line)
                _keep_best(numbers, line)
        for line in _ratios(numbers, case, sides[1:], workers):
            say(line)
    if out:
        write_json(
            out, {"workers": workers, "backend": backend, "machine": machine(), "numbers": numbers}
        )
        if against:
            from tinymm.viz.performance.benchmark import benchmark

            style.save(
                benchmark(numbers, against=against[0], workers=workers),
                Path(out).with_suffix(".png"),
            )
    return numbers


def _ratios(numbers: dict[str, float], case: str, others: Iterable[str], workers: int) -> list[str]:
    """Keep how our numbers of a case relate to those of each other side, and return them as lines."""
    lines = []
    for other in others:
        for key in [key for key in numbers if key.startswith(f"{case} tinymm ")]:
            what = key.removeprefix(f"{case} tinymm ")
            if (theirs := numbers.get(f"{case} {other} {what}")) is None:
                continue
            numbers[f"{case} {what} ratio {other}"] = numbers[key] / theirs
            lines.append(
                f"{case} {what} ratio tinymm/{other} {numbers[key] / theirs:.2f} ({workers} thread{'s' * (workers > 1)})"
            )
    return lines


def machine() -> dict[str, Any]:
    """Return what the numbers were taken on: processor, cores and versions."""
    from importlib.metadata import PackageNotFoundError, version

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    versions = {name: installed(name) for name in ("numpy", "scipy", "torch", "jax", "cupy")}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
            platform.machine(),
        )
    except OSError:
        model = platform.machine()
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{k: v for k, v in versions.items() if v},
    }


def _lines(side: str, arguments: list[str], workers: int) -> list[str]:
    # One kind of parallelism: ours is threads over shards, each with a matrix library of one thread.
    threads = {
        name: str(workers)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    }
    command = [sys.executable, "-m", f"tinymm.workflows.bench.{side}_side", *arguments]
    done = subprocess.run(
        command, env=os.environ | threads, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(
            f"the {side} side of the benchmark stopped with exit code {done.returncode}: {last}"
        )
    return done.stdout.splitlines()


def _keep_best(numbers: dict[str, float], line: str) -> None:
    found = LINE.match(line)
    if not found:
        return
    value = float(found["ms"] or found["mb"] or found["us"])
    key = f"{found['case']} {found['side']} {found['what'] or ('peak' if found['mb'] else 'us per op')}"
    numbers[key] = min(value, numbers.get(key, float("inf")))


# ---------------------------------------------------------------------- the command
PLACE = 90


def declare(parsers: Any) -> None:
    """Add bench."""
    bench = commands.add(
        parsers,
        "bench",
        "time training, inference and words, beside PyTorch if asked",
        "bench W1 W2 --against torch",
        _command,
    )
    named = "W1, W2, inference, decoding; growths: batch, width, sequence, loss (default: W1 W2)"
    bench.add_argument("workloads", nargs="*", default=["W1", "W2"], metavar="W", help=named)
    sides = "run other sides in turn and print the ratios (torch needs the extra 'parity')"
    bench.add_argument("--against", nargs="+", default=[], choices=list(OTHERS), help=sides)
    bench.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="threads, on all sides (default: the cores, up to 4)",
    )
    commands.common(
        bench, out="write the numbers to this JSON file too, and a picture of them beside it"
    )


def _command(**options: Any) -> None:
    run(**options)
