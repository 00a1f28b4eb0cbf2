"""`arithmetic`: what CLIP's own scale asks of machines, computed from the sizes of a model and a rate that is given or measured here."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.cost import Cost, image_cost, pair_cost, projection, text_cost
from tinymm.tasks import losses
from tinymm.training import arithmetic
from tinymm.training.arithmetic import BATCH, EPOCHS, FIGURE_3, LEAST, PAIRS, PAPER, Run
from tinymm.training.optimizers import AdamW
from tinymm.training.records import write_json

from .. import commands
from ..terminal import doing, tell
from .cases import W1

#: What is timed: a product of two square matrices, and steps of the benchmark's smaller CLIP.
SIDE, SMALL_BATCH = 1024, 32


def run(
    model: str = "ViT-B/32",
    *,
    batch: int = BATCH,
    pairs: float = PAIRS,
    epochs: float = EPOCHS,
    machines: int = 256,
    memory: float = 16.0,
    rate: float | None = None,
    seed: int = 0,
    backend: str = "numpy",
    out: str | None = None,
    say: Callable[[str], None] = tell,
) -> dict[str, Any]:
    """Print and return operations, memory, exchange and time of a training on paper; without a rate (GFLOP/s a machine) this one's is measured.

    `memory` is a machine's, in GB of 10⁹ bytes. With `out`, a folder, the numbers are written there
    with a picture of memory and time over the batch size. UsageError for a model, a batch or a
    number that makes no sense.
    """
    for name, value in (
        ("pairs", pairs),
        ("epochs", epochs),
        ("memory", memory),
        ("rate", 1.0 if rate is None else rate),
    ):
        if not value > 0:
            raise UsageError(f"--{name} is above 0, and {value} came; leave it out for its default")
    config = CLIPConfig.paper(model)
    runs = {local: Run(config, batch, machines, local) for local in (False, True)}
    if rate is None:
        with doing("measuring this machine (--rate names a rate instead)"):
            rate = _measured(seed, backend, say)
    for line in table(model, runs, pairs, epochs, memory * 1e9, rate * 1e9):
        say(line)
    found = numbers(runs, pairs, epochs, memory * 1e9, rate * 1e9)
    if out:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(
            folder / "arithmetic.json",
            {"model": model, "batch": batch, "machines": machines, "rate": rate * 1e9, **found},
        )
        picture(folder / "arithmetic.png", model, machines, memory * 1e9, rate * 1e9)
        say(f"numbers and picture: {folder}")
    return found


# ---------------------------------------------------------------------- this machine's own rate
def _measured(seed: int, backend: str, say: Callable[[str], None]) -> float:
    product, step = matrix_rate(seed, backend), step_rate(seed, backend)
    say(
        f"this machine: a product of {SIDE} × {SIDE} numbers {product:,.0f} GFLOP/s; steps of a small CLIP {step:,.0f} GFLOP/s, which counts here"
    )
    say("")
    return step


def shortest(work: Callable[[], Any], times: int = 5) -> float:
    """Return the seconds of the fastest of a few runs, each until its result is on the host; one more runs first to warm up."""
    seconds = []
    for _ in range(times + 1):
        began = time.perf_counter()
        to_host(work())
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def matrix_rate(seed: int = 0, backend: str = "numpy") -> float:
    """Return GFLOP/s of a product of two square matrices in float32: what a machine can do at best."""
    a, b = (
        to_backend(generator(seed, i).standard_normal((SIDE, SIDE), dtype=np.float32), backend)
        for i in range(2)
    )
    return 2 * SIDE**3 / shortest(lambda: (a @ b)[0, 0]) / 1e9


def small_clip() -> CLIPConfig:
    """Return the benchmark's smaller CLIP."""
    from .tinymm_side import clip_config

    return clip_config(W1)


def step_rate(seed: int = 0, backend: str = "numpy") -> float:
    """Return GFLOP/s of training steps of a small CLIP, counting products of matrices only: what is left of the best beside all the rest."""
    rng, small = generator(seed, 2), small_clip()
    model = CLIP(small, rng).to(backend)
    optimizer = AdamW(model)
    side, text = small.image.resolution, small.text
    images = to_backend(
        rng.standard_normal((SMALL_BATCH, side, side, 3), dtype=np.float32), backend
    )
    ids = rng.integers(1, text.vocabulary, (SMALL_BATCH, text.context))

    def step() -> Any:
        losses(model, images, ids)["itc"].backward()
        optimizer.step(1e-3)
        return model.t.data

    return 2 * Run(small, SMALL_BATCH).step_operations() / shortest(step) / 1e9


# ---------------------------------------------------------------------- what is printed
def table(
    model: str, runs: dict[bool, Run], pairs: float, epochs: float, memory: float, rate: float
) -> list[str]:
    """Return the lines of the whole table; `memory` in bytes, `rate` in operations a second, `runs` with the global and the local loss."""
    batch, machines = runs[False].batch, runs[False].machines
    return [
        f"{model}: {batch:,} pairs a batch, {pairs:,.0f} pairs seen {epochs:g} times, {_machines(machines, memory)}, {_rate(rate)} each",
        "",
        *_operations(runs, pairs, epochs),
        "",
        *_memory(runs, memory),
        "",
        *_exchange(runs),
        "",
        *_time(runs, pairs, epochs, rate),
        "",
        *_paper(),
    ]


def _operations(runs: dict[bool, Run], pairs: float, epochs: float) -> list[str]:
    run, config = runs[False], runs[False].config
    image, text = projection(config)
    costs = {
        "a picture": image_cost(config.image) + image,
        "its text": text_cost(config.text) + text,
    }
    lines = [_row("multiply-adds", "forward", "step")]
    lines += [
        _row(f"  {name}", _count(cost.operations), _count(cost.step))
        for name, cost in costs.items()
    ]
    whole = sum(costs.values(), Cost())
    n, E = run.batch, config.embed_dim
    lines += [
        _row("  the n × n product, a pair's part", _count(n * E), _count(3 * n * E)),
        _row(
            "  the batch",
            _count(n * (whole.operations + n * E)),
            _count(n * (whole.step + 3 * n * E)),
        ),
        _row("  the whole training", "", _count(pairs * epochs * (whole.step + 3 * n * E))),
        _row(
            "the loss's share of a machine's step",
            f"{runs[False].loss_share():.1%} global",
            f"{runs[True].loss_share():.2%} local",
        ),
    ]
    return lines


def _memory(runs: dict[bool, Run], memory: float) -> list[str]:
    both = list(runs.values())
    config, batch, machines = both[0].config, both[0].batch, both[0].machines
    needed = [arithmetic.machines_needed(config, batch, memory, local=local) for local in runs]
    fits = ["fits" if run.memory_bytes() <= memory else "too much" for run in both]
    alone = [
        arithmetic.largest_batch(memory, arrays, share)
        for arrays in (LEAST, FIGURE_3)
        for share in (1, machines)
    ]
    return [
        _row("memory of a machine", "global loss", "local loss"),
        _row(
            f"  {pair_cost(config).parameters / 1e6:,.1f} M weights, gradients, two means",
            *(_bytes(run.state_bytes()) for run in both),
        ),
        _row(
            f"  kept of {both[0].pairs_each:,} pairs for the way back",
            *(_bytes(run.kept_bytes()) for run in both),
        ),
        _row(
            f"  n × n, {LEAST} arrays: logits and gradient",
            *(_bytes(run.matrix_bytes()) for run in both),
        ),
        _row(
            f"  n × n, {FIGURE_3} arrays: Figure 3 as it stands",
            *(_bytes(run.matrix_bytes(FIGURE_3)) for run in both),
        ),
        _row(f"  all, with {LEAST} arrays", *(_bytes(run.memory_bytes()) for run in both)),
        _row("", *fits),
        _row("  machines that would do", *(f"{N:,}" if N else "no number" for N in needed)),
        _row(f"  {LEAST} arrays alone fill it at n =", *(f"{n:,}" for n in alone[:2])),
        _row(f"  {FIGURE_3} arrays alone fill it at n =", *(f"{n:,}" for n in alone[2:])),
    ]


def _exchange(runs: dict[bool, Run]) -> list[str]:
    both = list(runs.values())
    return [
        _row("received by a machine a step", "global loss", "local loss"),
        _row(
            "  embeddings of the others, forward", *(_bytes(run.gathered_bytes()) for run in both)
        ),
        _row("  gradients of its own, backward", *(_bytes(run.scattered_bytes()) for run in both)),
        _row("  gradients of the weights", *(_bytes(run.reduced_bytes()) for run in both)),
    ]


def _time(runs: dict[bool, Run], pairs: float, epochs: float, rate: float) -> list[str]:
    both = list(runs.values())
    return [
        _row("time, if nothing ever waits", "global loss", "local loss"),
        _row("  a step", *(f"{2 * run.step_operations() / rate:,.2f} s" for run in both)),
        _row(
            "  the whole training",
            *(
                f"{arithmetic.training_days(run, rate, int(pairs), epochs):,.1f} days"
                for run in both
            ),
        ),
    ]


def _paper() -> list[str]:
    lines = [_row("what the paper says (§2.5)", "operations", "so each did")]
    for name, (machines, days) in PAPER.items():
        done = arithmetic.training_operations(CLIPConfig.paper(name))
        each = arithmetic.sustained_rate(CLIPConfig.paper(name), machines, days)
        lines.append(
            _row(f"  {name}: {days:g} days on {machines} V100", f"{done:.1e}", _rate(each))
        )
    return lines


def numbers(
    runs: dict[bool, Run], pairs: float, epochs: float, memory: float, rate: float
) -> dict[str, Any]:
    """Return the same numbers by name, in operations, bytes, seconds and days."""
    found: dict[str, Any] = {}
    for local, run in runs.items():
        found["local" if local else "global"] = {
            "step_operations": run.step_operations(), "loss_share": run.loss_share(), "state_bytes": run.state_bytes(),
            "kept_bytes": run.kept_bytes(), "matrix_bytes": run.matrix_bytes(), "gathered_bytes": run.gathered_bytes(),
            "scattered_bytes": run.scattered_bytes(), "reduced_bytes": run.reduced_bytes(),
            "machines_needed": arithmetic.machines_needed(run.config, run.batch, memory, local=local),
            "days": arithmetic.training_days(run, rate, int(pairs), epochs),
        }  # fmt: skip
    return found


def picture(path: Path, model: str, machines: int, memory: float, rate: float) -> None:
    """Draw memory and time of one machine over the batch size, where the machines' number stays: n from two pairs a machine on."""
    from tinymm.viz import style
    from tinymm.viz.performance import batch_size

    sizes = np.array([machines * 2**i for i in range(1, 13)])
    runs = {
        local: [Run(CLIPConfig.paper(model), int(n), machines, local) for n in sizes]
        for local in (False, True)
    }
    whole = {
        "n × n, Figure 3 as it stands": [run.matrix_bytes(FIGURE_3) for run in runs[False]],
        "n × n, logits and gradient": [run.matrix_bytes() for run in runs[False]],
        "kept by the encoders": [run.kept_bytes() for run in runs[False]],
        "n × n, local loss": [run.matrix_bytes() for run in runs[True]],
    }
    spent = {
        "global loss, with its n × n product": [
            2 * run.step_operations() / rate for run in runs[False]
        ],
        "local loss": [2 * run.step_operations() / rate for run in runs[True]],
    }
    title = f"{model} on {_machines(machines, memory)}"
    figure = batch_size.memory_and_time(sizes, whole, spent, limit=memory, title=title)
    style.save(figure, path)


def _row(name: str, first: str, second: str) -> str:
    return f"{name:<42}{first:>16}{second:>16}".rstrip()


def _count(x: float) -> str:
    """Return a count in the unit that leaves one to three digits in front of the point."""
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if size <= x < 1000 * size:
            return f"{x / size:,.2f} {unit}"
    return f"{x:.2e}" if x >= 1e18 else f"{x:,.0f}"


def _bytes(x: float) -> str:
    """Return bytes in MB or GB, of 10⁶ and 10⁹."""
    return f"{x / 1e9:,.1f} GB" if x >= 1e9 else f"{x / 1e6:,.1f} MB"


def _machines(count: int, memory: float) -> str:
    return f"{count:,} machine{'s' * (count > 1)} of {memory / 1e9:g} GB"


def _rate(x: float) -> str:
    return f"{x / 1e12:,.1f} TFLOP/s" if x >= 1e12 else f"{x / 1e9:,.0f} GFLOP/s"


# ---------------------------------------------------------------------- the command
PLACE = 130


def declare(parsers: Any) -> None:
    """Add arithmetic."""
    said = "compute what CLIP's own scale asks of machines: operations, memory, exchange, time"
    scale = commands.add(
        parsers,
        "arithmetic",
        said,
        "arithmetic --model ViT-L/14 --machines 256 --rate 25000",
        _command,
    )
    scale.add_argument(
        "--model",
        default="ViT-B/32",
        metavar="NAME",
        help="a released size, such as RN50x64 (default: ViT-B/32)",
    )
    scale.add_argument(
        "--batch",
        type=int,
        default=32_768,
        metavar="N",
        help="pairs a batch, over all machines (default: 32768)",
    )
    scale.add_argument(
        "--pairs",
        type=float,
        default=400e6,
        metavar="N",
        help="pairs of the data set (default: 400e6)",
    )
    scale.add_argument(
        "--epochs",
        type=float,
        default=32,
        metavar="N",
        help="times that training sees them (default: 32)",
    )
    scale.add_argument(
        "--machines",
        type=int,
        default=256,
        metavar="N",
        help="machines that share the batch (default: 256)",
    )
    scale.add_argument(
        "--memory", type=float, default=16, metavar="GB", help="memory of each (default: 16)"
    )
    scale.add_argument(
        "--rate",
        type=float,
        metavar="GFLOP/s",
        help="what each sustains (default: what this machine does, measured)",
    )
    commands.common(scale, out="a folder to write the numbers and a picture in", folder=True)


def _command(**options: Any) -> None:
    run(**options)
