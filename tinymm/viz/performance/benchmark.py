"""How fast, beside another library: every ratio on one line where 1 means equal, and how times grow with a size.

A single fast number hides where a library is slow. So all cases share one axis of ratios, and each
growth has a panel of its own in which both sides are drawn over the size: parallel lines are a
constant factor, and a steeper line is a cost that will overtake.
"""

import re
from collections.abc import Mapping
from typing import Any

from tinymm.arrays.errors import DataError
from tinymm.viz import style

#: Names of sides in words.
SIDES = {"tinymm": "tinymm", "torch": "PyTorch", "jax": "JAX"}
WORDS = {
    "step": "training step",
    "fwd": "forward",
    "image": "image features",
    "word": "per word",
    "peak": "peak memory",
}
GROWTH = re.compile(r"(batch|width|sequence|loss) (\d+) (\w+) step")
TITLES = {
    "batch": "pairs a batch, W1",
    "width": "width D, 16 pairs",
    "sequence": "image tokens, 16 pairs",
    "loss": "pairs n of the loss alone",
}


def ratios(numbers: Mapping[str, float], against: str) -> dict[str, float]:
    """Return our number over theirs by case and what was measured, growths left out.

    >>> ratios({"W1 step ratio torch": 0.9, "batch 8 step ratio torch": 0.5}, "torch")
    {'W1 training step': 0.9}
    """
    found = {}
    for key, value in numbers.items():
        case, _, what = key.removesuffix(f" ratio {against}").rpartition(" ")
        if key.endswith(f" ratio {against}") and not GROWTH.match(f"{case} tinymm step"):
            found[f"{case} {WORDS.get(what, what)}"] = value
    return found


def growths(numbers: Mapping[str, float]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Return the (size, milliseconds) of a step for each growth and side.

    >>> growths({"batch 8 tinymm step": 4.0, "batch 16 tinymm step": 7.0})
    {'batch': {'tinymm': [(8, 4.0), (16, 7.0)]}}
    """
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for key, value in numbers.items():
        if made := GROWTH.fullmatch(key):
            growth, size, side = made.groups()
            found.setdefault(growth, {}).setdefault(side, []).append((int(size), value))
    return {
        growth: {side: sorted(points) for side, points in sides.items()}
        for growth, sides in found.items()
    }


def benchmark(numbers: Mapping[str, float], *, against: str = "torch", workers: int = 1) -> Any:
    """Return a figure of `bench`'s numbers: ratios to the other side `against`, and the growths of all sides.

    DataError if nothing was measured on both sides.

    >>> benchmark({"W1 step ratio torch": 0.9}).alt
    'tinymm needs 0.90 of what PyTorch needs, 1 core: W1 training step 0.90.'
    """
    found, curves = ratios(numbers, against), growths(numbers)
    if not found and not curves:
        raise DataError(
            f"a benchmark's picture needs numbers of two sides, and none of {len(numbers)} is a ratio to {against}; run bench --against"
        )
    alt = benchmark_alt(numbers, against=against, workers=workers)
    tall = 0.24 * len(found) + 0.75 if found else 0
    rows = -(-len(curves) // 2)
    height = 0.75 + tall + 2.5 * rows
    figure = style.new_figure(7.2, height)
    style.headline(figure, alt.split(": ")[0], width=74)
    if found:
        _ratios(
            figure.add_axes((0.36, 1 - (0.55 + tall - 0.42) / height, 0.58, (tall - 0.5) / height)),
            found,
            against,
        )
    for i, (growth, sides) in enumerate(curves.items()):
        bottom = 1 - (0.6 + tall + 2.5 * (i // 2) + 1.95) / height
        _growth(
            figure.add_axes((0.11 + 0.49 * (i % 2), bottom, 0.36, 1.55 / height)), growth, sides
        )
    figure.alt = alt
    return figure


def benchmark_alt(numbers: Mapping[str, float], *, against: str = "torch", workers: int = 1) -> str:
    """Return the ratios and the growths in words."""
    found, cores = ratios(numbers, against), f"{workers} core{'s' * (workers > 1)}"
    lines = []
    if found:
        low, high = min(found.values()), max(found.values())
        span = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
        each = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
        lines.append(f"tinymm needs {span} of what {SIDES[against]} needs, {cores}: {each}.")
    for growth, sides in growths(numbers).items():
        each = "; ".join(
            f"{SIDES[side]} {', '.join(f'{size}: {ms:.3g} ms' for size, ms in points)}"
            for side, points in sides.items()
        )
        lines.append(f"Step against {TITLES[growth]}, {cores}: {each}.")
    return "\n".join(lines)


def _ratios(axes: Any, found: Mapping[str, float], against: str) -> None:
    """Draw each ratio as a dot beside the line of equality."""
    style.quiet(axes, keep=("bottom",))
    axes.set(
        ylim=(len(found) - 0.5, -0.7), xlim=(0, max(1.3, 1.12 * max(found.values()))), yticks=[]
    )
    axes.axvline(1, color=style.INK, linewidth=1.1, linestyle=(0, (5, 3)))
    for i, (name, value) in enumerate(found.items()):
        color, marker = (style.PICTURE, "o") if value <= 1 else (style.TEXT, "D")
        axes.plot([0, value], [i, i], color=color, linewidth=0.9, alpha=0.5)
        axes.plot([value], [i], color=color, marker=marker, markersize=5.5)
        style.write(axes, -0.02, i, name, ha="right", va="center", size=8.5)
        box = {
            "facecolor": "white",
            "edgecolor": "none",
            "pad": 0.4,
        }  # so that the line of equality does not run through it
        style.write(
            axes, value + 0.03, i, f"{value:.2f}", va="center", size=8.5, color=color, bbox=box
        )
    style.write(axes, 1, -0.75, f"as {SIDES[against]}", ha="center", va="bottom", size=8)
    axes.tick_params(labelsize=8)
    axes.set_xlabel(
        "time or memory, ours over theirs (less is better)", fontsize=8, family=style.FONT
    )


def _growth(axes: Any, growth: str, sides: Mapping[str, list[tuple[int, float]]]) -> None:
    """Draw milliseconds over a size, both on logarithmic axes, a line a side."""
    looks = {
        "tinymm": (style.PICTURE, "o", "-"),
        "torch": (style.TEXT, "D", "--"),
        "jax": (style.QUERY, "s", ":"),
    }
    for side, points in sides.items():
        color, marker, line = looks[side]
        axes.plot(
            *zip(*points, strict=True),
            color=color,
            marker=marker,
            linestyle=line,
            markersize=4,
            label=SIDES[side],
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    sizes = sorted({size for points in sides.values() for size, _ in points})
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.tick_params(labelsize=8)
    axes.grid(color=style.FAINT, linewidth=0.6)
    axes.set_xlabel(TITLES[growth], fontsize=8.5, family=style.FONT)
    axes.set_ylabel("ms a step", fontsize=8.5, family=style.FONT)
    axes.legend(frameon=False, prop={"family": style.FONT, "size": 8})
