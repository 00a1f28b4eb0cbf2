"""What grows with the batch size and what with its square: memory and time of one machine, and where a line leaves what the machine has."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import ShapeError
from tinymm.viz import style

LINES = ((style.RIGHT, "-"), (style.TEXT, "-"), (style.PICTURE, "--"), (style.QUERY, "-."))


def memory_and_time(
    sizes: Sequence[int] | np.ndarray,
    memory: Mapping[str, Sequence[float]],
    seconds: Mapping[str, Sequence[float]],
    *,
    limit: float,
    title: str,
) -> Any:
    """Return a figure of two panels over the batch sizes: lines of `memory` in bytes with the `limit` across, and `seconds` a step.

    Both scales are logarithmic, so n is a slope of 1 and n² one of 2. Where a line of memory
    crosses the limit there is a point with its batch size. ShapeError for a line that is not as
    long as `sizes`; at most four lines a panel.

    >>> memory_and_time([2, 4], {"n × n": [16, 64]}, {"step": [1.0, 2.0]}, limit=32, title="Four").alt
    'Four. Memory of 32 bytes is full at n = 2 by n × n.'
    """
    for name, line in {**memory, **seconds}.items():
        if len(line) != len(sizes):
            raise ShapeError(
                f"a line has a value for each of the {len(sizes)} batch sizes, and {name!r} has {len(line)}; give the rest"
            )
    figure = style.new_figure(11.0, 4.6)
    left, right = (
        figure.add_axes((0.075, 0.13, 0.4, 0.74)),
        figure.add_axes((0.575, 0.13, 0.4, 0.74)),
    )
    full = {name: crossing(sizes, line, limit) for name, line in memory.items()}
    named = {
        name if n is None else f"{name}: full at n = {n:,}": np.asarray(memory[name]) / 1e9
        for name, n in full.items()
    }
    _lines(left, sizes, named, "memory of a machine (GB)")
    left.axhline(limit / 1e9, color=style.INK, linewidth=1, linestyle=":")
    style.write(
        left, sizes[0], limit / 1e9 * 1.2, f"a machine's {limit / 1e9:g} GB", size=8.5, va="bottom"
    )
    for (color, _), n in zip(LINES, full.values(), strict=False):
        if n is not None:
            left.plot([n], [limit / 1e9], "o", color=color, markersize=6, zorder=4)
    _lines(right, sizes, seconds, "seconds a step")
    figure.alt = f"{title}. {_sentence(full, limit)}"
    style.headline(figure, f"{title}: {_finding(full)}", size=12)
    return figure


def crossing(sizes: Sequence[int] | np.ndarray, line: Sequence[float], limit: float) -> int | None:
    """Return the largest batch size for which a rising line is below the limit, straight between its points on logarithmic scales.

    None where the line does not meet the limit.

    >>> crossing([100, 400], [1.0, 16.0], 4.1)
    202
    """
    if not line[0] <= limit <= line[-1]:
        return None
    return int(
        np.exp(
            np.interp(
                np.log(limit), np.log(np.asarray(line, float)), np.log(np.asarray(sizes, float))
            )
        )
        + 1e-6
    )


def _lines(axes: Any, sizes: Any, lines: Mapping[str, Any], label: str) -> None:
    for (name, line), (color, dash) in zip(lines.items(), LINES, strict=False):
        axes.plot(sizes, line, color=color, linestyle=dash, linewidth=1.8, label=name)
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("batch size n", fontsize=9.5, family=style.FONT)
    axes.set_ylabel(label, fontsize=9.5, family=style.FONT)
    axes.tick_params(labelsize=8.5)
    axes.grid(color=style.FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    style.quiet(axes, keep=("left", "bottom"))
    axes.legend(
        prop={"family": style.FONT, "size": 8.5}, frameon=False, loc="upper left", handlelength=2.4
    )


def _finding(full: Mapping[str, float | None]) -> str:
    first = min(((n, name) for name, n in full.items() if n is not None), default=None)
    return (
        "everything fits"
        if first is None
        else f"{first[1]} fills the memory first, at n = {first[0]:,}"
    )


def _sentence(full: Mapping[str, float | None], limit: float) -> str:
    said = f"{limit / 1e9:g} GB" if limit >= 1e8 else f"{limit:g} bytes"
    reached = [f"n = {n:,} by {name}" for name, n in full.items() if n is not None]
    never = [name for name, n in full.items() if n is None]
    text = (
        f"Memory of {said} is full at {style.listed(reached)}."
        if reached
        else f"Memory of {said} is never full."
    )
    return text + (
        f" {style.listed(never)} stays below it at all sizes." if never and reached else ""
    )
