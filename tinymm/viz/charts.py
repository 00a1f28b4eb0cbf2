"""Curves and bars of a lesson, each with the lines that give a number its meaning (chance, a control, a floor), its alt text and its table.

Curves differ in color and marker, and every one is named where it ends; a bar has its number beside
it. `.table` of the figure holds the same numbers as text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, UsageError
from tinymm.viz import style
from tinymm.viz.tables import number, table

LINES = (
    ("#0072B2", "o"),
    ("#C14E00", "D"),
    ("#00805D", "s"),
    ("#A3469B", "^"),
    ("#7A6400", "v"),
    ("#4D4D4D", "P"),
)
MOST_ROWS = 12  # of a curve's table
MOST_TICKS = 9  # of an axis with a tick at each point
WIDTH, LEFT, RIGHT = 7.6, 0.85, 1.95  # inches


def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    x: str,
    y: str,
    references: Mapping[str, float] | None = None,
    log: str = "",
    marked: bool = False,
    height: float = 3.4,
    alt: str | None = None,
) -> Any:
    """Return a figure of curves `{name: (xs, ys)}` with horizontal `references` `{name: value}`, dashed; `log` is "", "x", "y" or "xy".

    `title` is the finding. With `marked` every point has a marker, as fits few points. The alt text
    says where each curve begins, ends and is lowest. UsageError for no curve or too many; DataError
    for values that are not finite, or not as many as places.

    >>> drawn = lines({"loss": ([1, 2, 3], [3.0, 2.0, 2.5])}, title="It falls", x="step", y="loss (nats)", references={"ln 8": np.log(8)})
    >>> drawn.alt
    'It falls. loss: 3 at step 1, 2.5 at step 3; lowest 2 at step 2. Dashed: ln 8 = 2.079.'
    """
    data = {
        name: (np.asarray(xs, dtype=float), np.asarray(ys, dtype=float))
        for name, (xs, ys) in curves.items()
    }
    references = dict(references or {})
    if not 1 <= len(data) <= len(LINES):
        raise UsageError(
            f"a chart has 1 to {len(LINES)} curves, and {len(data)} came; leave some out"
        )
    for name, (xs, ys) in data.items():
        if xs.ndim != 1 or xs.shape != ys.shape or not len(xs) or not np.isfinite(ys).all():
            raise DataError(
                f"a curve has as many finite values as places, and {name!r} has {ys.shape} at {xs.shape}; cut it where it ends"
            )
    figure, axes = _sheet(title, height, RIGHT)
    ends = []
    for (name, (xs, ys)), (color, marker) in zip(data.items(), LINES, strict=False):
        every = 1 if marked else max(1, len(xs) // 8)
        axes.plot(
            xs,
            ys,
            color=color,
            linewidth=1.6,
            marker=marker,
            markevery=every,
            markersize=5,
            zorder=3,
        )
        ends.append((ys[-1], name, color))
    for name, value in references.items():
        axes.axhline(value, color=style.INK, linewidth=1.1, linestyle=(0, (5, 3)), zorder=2)
        ends.append((value, f"{name}: {number(value)}", style.INK))
    axes.set_xscale("log" if "x" in log else "linear")
    places = np.unique(np.concatenate([xs for xs, _ in data.values()]))
    if marked and len(places) <= MOST_TICKS:
        axes.set_xticks(places, [number(place) for place in places], family=style.FONT)
        axes.minorticks_off()
    axes.set_yscale("log" if "y" in log else "linear")
    axes.set_xlabel(x, fontsize=9.5, family=style.FONT)
    axes.set_ylabel(y, fontsize=9.5, family=style.FONT)
    _name_ends(axes, ends)
    said = [
        f"{name}: {number(ys[0])} at {x} {number(xs[0])}, {number(ys[-1])} at {x} {number(xs[-1])}"
        + _lowest(xs, ys, x)
        for name, (xs, ys) in data.items()
    ]
    figure.alt = alt or _sentences(title, *said, _dashed(references))
    figure.table = _curve_table(data, references, x)
    return figure


def bars(
    values: Mapping[str, float | Mapping[str, float]],
    *,
    title: str,
    unit: str,
    references: Mapping[str, float] | None = None,
    log: bool = False,
    alt: str | None = None,
) -> Any:
    """Return a figure of lying bars `{name: value}`, or of groups of them `{name: {series: value}}`; `references` are dashed lines.

    DataError for more series than there are colors, and for values that cannot be drawn.

    >>> bars({"right": 0.5, "leaking": 0.25}, title="Less", unit="accuracy", references={"chance": 0.01}).alt
    'Less. Accuracy: right 0.5, leaking 0.25. Dashed: chance = 0.01.'
    """
    from matplotlib.transforms import offset_copy

    groups = {
        name: dict(value) if isinstance(value, Mapping) else {"": value}
        for name, value in values.items()
    }
    series = list(dict.fromkeys(key for group in groups.values() for key in group))
    references = dict(references or {})
    flat = [float(value) for group in groups.values() for value in group.values()]
    if (
        not groups
        or len(series) > len(LINES)
        or not np.isfinite(flat).all()
        or (log and min(flat) <= 0)
    ):
        raise DataError(
            f"bars are finite numbers in at most {len(LINES)} series, above 0 on a log scale, and {flat} came; correct them"
        )
    rows = len(groups) * len(series) + 0.6 * (len(groups) - 1) * (len(series) > 1)
    figure, axes = _sheet(
        title,
        0.36 * rows + 0.75 + 0.25 * bool(references),
        0.35,
        left=0.35 + 0.08 * max(map(len, groups)),
    )
    ticks, place, most = [], 0.0, max([*flat, *references.values(), 1e-12])
    least = min([*flat, *references.values()])
    beside = offset_copy(axes.transData, fig=figure, x=6, units="points")
    ground = {
        "facecolor": "white",
        "edgecolor": "none",
        "pad": 0.8,
    }  # a number is read where a dashed line crosses it
    for group in groups.values():
        ticks.append(place + (len(group) - 1) / 2)
        for key, value in group.items():
            color = LINES[series.index(key)][0]
            axes.barh(
                place,
                value,
                height=0.72,
                color=color,
                hatch=("", "///", "...", "xx", "\\\\", "++")[series.index(key)],
                edgecolor="white",
                zorder=2,
            )
            said = number(value) + (f"  {key}" if key else "")
            style.write(
                axes,
                value,
                place,
                said,
                size=9,
                va="center",
                color=style.INK,
                zorder=4,
                transform=beside,
                bbox=ground,
            )
            place += 1
        place += 0.6 * (len(series) > 1)
    bottom = -0.5 - 0.9 * bool(references)
    axes.set(
        ylim=(place - 0.4, bottom),
        xlim=(least / 3, most * 12) if log else (min(0, least), most * 1.35),
    )
    axes.set_xscale("log" if log else "linear")
    for name, value in references.items():
        axes.axvline(value, color=style.INK, linewidth=1.1, linestyle=(0, (5, 3)), zorder=3)
        style.write(axes, value, bottom + 0.45, f" {name}: {number(value)}", size=8.5, va="center")
    style.tick_names(axes, "y", list(groups), size=9.5)
    axes.set_yticks(ticks, list(groups))
    axes.grid(False)
    if not log:
        axes.set_xticks([tick for tick in axes.get_xticks() if min(0, least) <= tick <= most])
    axes.set_xlabel(unit, fontsize=9.5, family=style.FONT)
    named = ", ".join(
        f"{name} {key} {number(value)}".replace("  ", " ")
        for name, group in groups.items()
        for key, value in group.items()
    )
    figure.alt = alt or _sentences(
        title, f"{unit[:1].upper()}{unit[1:]}: {named}", _dashed(references)
    )
    heads = [key or unit for key in series]
    body = [[name, *(group.get(key) for key in series)] for name, group in groups.items()]
    figure.table = table(
        ["", *heads],
        [*body, *([name, *[value] * len(series)] for name, value in references.items())],
    )
    return figure


def _sheet(title: str, height: float, right: float, left: float = LEFT) -> tuple[Any, Any]:
    above = 0.28 + 0.2 * -(-len(title) // 74)
    figure = style.new_figure(WIDTH, height + above)
    axes = figure.add_axes(
        (
            left / WIDTH,
            0.55 / (height + above),
            (WIDTH - left - right) / WIDTH,
            (height - 0.55) / (height + above),
        )
    )
    style.quiet(axes, keep=("left", "bottom"))
    axes.tick_params(labelsize=8.5, color=style.PADDING)
    axes.grid(axis="y", color=style.FAINT, linewidth=0.6)
    style.headline(figure, title, size=11.5)
    return figure, axes


def _name_ends(axes: Any, ends: list[tuple[float, str, str]]) -> None:
    """Write names at the right of the axes at the height where their curves end, pushed apart where they would meet."""
    figure = axes.figure
    figure.canvas.draw()
    tall = axes.get_window_extent().height / figure.dpi
    at = sorted(
        (
            axes.transAxes.inverted().transform(
                axes.transData.transform((axes.get_xlim()[0], value))
            )[1],
            name,
            color,
        )
        for value, name, color in ends
    )
    heights = [place for place, _, _ in at]
    wraps = [style.wrapped(name, 26, 2) for _, name, _ in at]
    need = [(0.17 * (1 + text.count("\n"))) / tall for text in wraps]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + (need[i] + need[i - 1]) / 2)
    over = max(0.0, heights[-1] - 1)
    for i in range(len(heights) - 1, -1, -1):
        heights[i] = (
            min(
                heights[i],
                (1.0 if i == len(heights) - 1 else heights[i + 1] - (need[i] + need[i + 1]) / 2),
            )
            if over
            else heights[i]
        )
    for height, text, (_, _, color) in zip(heights, wraps, at, strict=True):
        style.write(
            axes,
            1.015,
            height,
            text,
            size=8.5,
            va="center",
            color=color,
            transform=axes.transAxes,
            linespacing=1.1,
        )


def _curve_table(
    data: Mapping[str, tuple[np.ndarray, np.ndarray]], references: Mapping[str, float], x: str
) -> str:
    places = np.unique(np.concatenate([xs for xs, _ in data.values()]))
    chosen = places[
        np.unique(np.linspace(0, len(places) - 1, min(MOST_ROWS, len(places))).round().astype(int))
    ]
    rows: list[list[Any]] = [
        [number(place), *(_at(xs, ys, place) for xs, ys in data.values())] for place in chosen
    ]
    rows += [[name, *[value] * len(data)] for name, value in references.items()]
    return table([x, *data], rows)


def _at(xs: np.ndarray, ys: np.ndarray, place: float) -> float | None:
    here = np.flatnonzero(xs == place)
    return float(ys[here[0]]) if len(here) else None


def _lowest(xs: np.ndarray, ys: np.ndarray, x: str) -> str:
    low = int(ys.argmin())
    return f"; lowest {number(ys[low])} at {x} {number(xs[low])}" if 0 < low < len(ys) - 1 else ""


def _dashed(references: Mapping[str, float]) -> str:
    return (
        "Dashed: " + ", ".join(f"{name} = {number(value)}" for name, value in references.items())
        if references
        else ""
    )


def _sentences(*said: str) -> str:
    return " ".join(f"{sentence.rstrip('.')}." for sentence in said if sentence)
