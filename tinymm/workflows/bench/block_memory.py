"""What is never held: time and peak memory by blocks and at once, as sizes grow.

`python -m tinymm.workflows.bench.block_memory attention loss` prints them.

Each number comes from a process of its own, forward and backward in float32 on one thread, in
seconds of processor time, so that other work on the machine counts for little. What would not fit
into free memory is left out.
"""

import argparse
import gc
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.memory import keep_freed_memory
from tinymm.autodiff import Tensor, ops
from tinymm.losses import blockwise_contrastive_loss, l2_normalize
from tinymm.tasks.clip import figure_3

from .memory import forget_peak, peak_mb, resident_mb

#: What W1 has: heads of a picture, width of a head, embedding width.
HEADS, WIDTH, JOINT = 4, 32, 128
SIZES = {"attention": (1024, 2048, 4096, 16384), "loss": (1024, 2048, 4096, 8192, 16384, 32768)}
#: How many n × n matrices are held at once: each head's weights and their gradient, Figure 3's
#: logits and what becomes of them.
HELD = {"attention": 2 * HEADS, "loss": 7}


def attention(n: int, in_blocks: bool) -> None:
    """Let a sequence of n tokens look at itself, and walk back."""
    qkv = np.random.default_rng(0).standard_normal((3, 1, HEADS, n, WIDTH), dtype=np.float32)
    if in_blocks:
        y = ops.blockwise_attention(*(Tensor(x, requires_grad=True) for x in qkv))
    else:
        packed = qkv.transpose(1, 3, 0, 2, 4).reshape(1, n, 3 * HEADS * WIDTH)
        y = ops.self_attention(Tensor(packed, requires_grad=True), heads=HEADS)
    y.backward(np.ones_like(y.data))


def loss(n: int, in_blocks: bool) -> None:
    """Tell n pairs apart, and walk back."""
    I, T = (
        Tensor(x, requires_grad=True)
        for x in np.random.default_rng(0).standard_normal((2, n, JOINT), dtype=np.float32)
    )
    t, one = (
        Tensor(np.full((), 2.659, np.float32), requires_grad=True),
        np.eye(JOINT, dtype=np.float32),
    )
    if in_blocks:
        blockwise_contrastive_loss(l2_normalize(I), l2_normalize(T), np.exp(t)).backward()
    else:
        figure_3(lambda x: x, lambda x: x, I, T, one, one, t)[0].backward()


CASES: dict[str, Callable[[int, bool], None]] = {"attention": attention, "loss": loss}


def measure(case: str, n: int, in_blocks: bool, repeats: int = 2) -> tuple[float, float]:
    """Return the shortest processor time in seconds, and the peak memory in MB above what was held before; the inputs count."""
    from threadpoolctl import threadpool_limits

    keep_freed_memory()  # as in training
    gc.collect()
    before = resident_mb()
    forget_peak()
    times = []
    with threadpool_limits(limits=1, user_api="blas"):
        for _ in range(repeats):
            began = time.process_time()
            CASES[case](n, in_blocks)
            times.append(time.process_time() - began)
    return min(times), peak_mb() - before


def free_mb() -> float:
    """Return how much memory programs may still ask for, in MB; infinity where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    return next(
        (int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:")),
        float("inf"),
    )


def main(arguments: Any = None) -> None:
    """Parse the command line; measure one side of one case here, or all of them in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []])
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        metavar="N",
        help="tokens or pairs (default: 1,024 to 16,384 and to 32,768)",
    )
    parser.add_argument(
        "--side", choices=("blocks", "whole"), help="measure this side alone, in this process"
    )
    options = parser.parse_args(arguments)
    for case in options.cases or CASES:
        for n in options.sizes or SIZES[case]:
            for side in (options.side,) if options.side else ("blocks", "whole"):
                need = HELD[case] * 4 * n * n / 2**20
                if side == "whole" and need > 0.8 * free_mb():
                    print(
                        f"{case} {n} whole does not fit: {need:,.0f} MB of {free_mb():,.0f} that are free",
                        flush=True,
                    )
                elif options.side:
                    seconds, peak = measure(case, n, side == "blocks")
                    print(f"{case} {n} {side} s {seconds:.3f} peak MB {peak:.0f}", flush=True)
                else:
                    command = [
                        sys.executable,
                        "-m",
                        "tinymm.workflows.bench.block_memory",
                        case,
                        "--sizes",
                        str(n),
                        "--side",
                        side,
                    ]
                    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
