"""CLIP, ALBEF, BLIP and BLIP-2 side by side: what each can do, beside chance, and what that costs.

One number ranks systems, and hides what they are for. Here each question has a panel of its own;
where contrast and the matching head both answer it they stand in one, since the distance between
the two is what the later papers add to CLIP. A dash says that a system has no such number.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, UsageError
from tinymm.viz import style

MARKS = (("#0072B2", "o"), ("#C14E00", "D"), ("#00805D", "s"), ("#A3469B", "^"))
ABREAST, LINE = 4, 0.2  # panels in a row; inches for a number
#: Panels of what is paid rather than reached: less is better.
COSTS = ("parameters", "seconds")

Rows = Mapping[str, Mapping[str, float | None]]


def panels(rows: Rows) -> dict[str, list[str]]:
    """Return the panels that the metrics make, and the series of each: "R@1, ITC" and "R@1, ITM" share one, "seconds" stands alone.

    >>> panels({"CLIP": {"R@1, ITC": 0.5}, "ALBEF": {"R@1, ITC": 0.6, "R@1, ITM": 0.8, "seconds": 90}})
    {'R@1': ['ITC', 'ITM'], 'seconds': ['']}
    """
    found: dict[str, list[str]] = {}
    for metric in dict.fromkeys(name for row in rows.values() for name in row):
        panel, series = _cut(metric)
        found.setdefault(panel, []).append(series)
    return dict(sorted(found.items(), key=lambda item: item[0] in COSTS))  # what is paid comes last


def systems(
    rows: Rows, chance: Mapping[str, float] | None = None, *, title: str | None = None
) -> Any:
    """Return a figure of several systems' numbers, `{system: {metric: value}}`, a panel for each question with a line for each system.

    A metric is "panel, series", as in "relation swaps, ITM", or a panel alone; a missing value or
    None is drawn as a dash. `chance` gives a panel's or a metric's chance level, a dashed line.
    "parameters" and "seconds" are drawn as bars from zero. UsageError for no number, or a chance of
    no panel; DataError for one that is not finite or below 0.

    >>> rows = {"CLIP": {"R@1, ITC": 0.5}, "ALBEF": {"R@1, ITC": 0.6, "R@1, ITM": 0.8}}
    >>> systems(rows, {"R@1": 0.02}).alt.splitlines()[0]
    'At best: R@1 ITC 0.60 → ITM 0.80 (chance: 0.02).'
    """
    found, chance = _checked(rows, chance), dict(chance or {})
    across = min(ABREAST, len(found))
    down, band = -(-len(found) // across), 0.6
    names = [style.readable(name) for name in rows]
    most = max(len(series) for series in found.values())
    tall = len(rows) * (LINE * most + 0.12)
    left, wide, gap = 0.3 + 0.085 * max(map(len, names)), 1.7, 0.28
    width = max(6.6, left + across * (wide + gap) + 0.1)
    alt = systems_alt(rows, chance)
    said = title or alt.splitlines()[0].rstrip(".")
    letters = int(width * 72 / (11 * 0.62))
    above = 0.2 + 0.19 * -(-len(said) // letters)
    height = above + down * (band + tall + 0.12) + 0.35
    figure = style.new_figure(width, height)
    marks = {
        name: mark
        for name, mark in zip(
            dict.fromkeys(s for series in found.values() for s in series if s),
            MARKS * 9,
            strict=False,
        )
    }
    for place, (panel, series) in enumerate(found.items()):
        row, column = divmod(place, across)
        x, y = left + column * (wide + gap), above + row * (band + tall + 0.12) + band
        axes = figure.add_axes(
            (x / width, 1 - (y + tall) / height, wide / width, tall / height),
            ylim=(len(rows) - 0.5, -0.5),
        )
        _panel(axes, rows, panel, series, chance, marks, tall)
        style.write(
            axes,
            0,
            1 + 0.27 / tall,
            style.wrapped(panel, 26, 1),
            size=9.5,
            weight="bold",
            va="bottom",
            transform=axes.transAxes,
        )
        if column == 0:
            for i, name in enumerate(names):
                style.write(
                    axes,
                    -0.08 / wide,
                    i,
                    name,
                    size=9.5,
                    ha="right",
                    va="center",
                    transform=axes.get_yaxis_transform(),
                )
    _legend(
        figure,
        marks,
        dashes=any(
            row.get(_joined(p, s)) is None
            for row in rows.values()
            for p, own in found.items()
            for s in own
        ),
    )
    figure.alt = alt
    style.headline(figure, said, size=11, width=letters)
    return figure


def systems_alt(rows: Rows, chance: Mapping[str, float] | None = None) -> str:
    """Return in words the best by each way of answering, and all numbers of each panel with their chance level."""
    found, chance = _checked(rows, chance), dict(chance or {})
    lines, gains = [], []
    for panel, series in found.items():
        values = [[row.get(_joined(panel, s)) for row in rows.values()] for s in series]
        level = chance.get(panel, chance.get(_joined(panel, series[0])))
        beside = "" if level is None else f" (chance: {level:.2g})"
        if len(series) > 1 and panel not in COSTS:
            best = [
                max((value for value in own if value is not None), default=None) for own in values
            ]
            gains.append(
                f"{panel} {' → '.join(f'{s} {written(panel, value)}' for s, value in zip(series, best, strict=True))}{beside}"
            )
        of = [
            ", ".join(
                f"{s} {written(panel, own[i])}".strip()
                for s, own in zip(series, values, strict=True)
            )
            for i in range(len(rows))
        ]
        lines.append(
            f"{panel[:1].upper()}{panel[1:]}: {'; '.join(f'{name} {numbers}' for name, numbers in zip(rows, of, strict=True))}{beside}."
        )
    if gains:
        return "\n".join([f"At best: {'; '.join(gains)}.", *lines])
    counts = [
        f"{count} {word}{'s' * (count != 1)}"
        for count, word in ((len(rows), "system"), (len(found), "question"))
    ]
    return "\n".join([f"{counts[0]}, {counts[1]}.", *lines])


def written(panel: str, value: float | None) -> str:
    """Return a number as a panel writes it, a dash for none.

    >>> written("R@1", 0.5), written("parameters", 1_130_000), written("seconds", 754), written("R@1", None)
    ('0.50', '1.13 M', '12.6 min', '–')
    """
    if value is None:
        return "–"
    if panel == "seconds":
        scale, unit = next(
            ((s, u) for s, u in ((3600.0, "h"), (60.0, "min")) if value >= 10 * s), (1.0, "s")
        )
        return f"{value / scale:.{3 if value >= 10 else 2}g} {unit}"
    if panel == "parameters":
        scale, unit = next(
            ((s, u) for s, u in ((1e9, " G"), (1e6, " M"), (1e3, " k")) if value >= s), (1.0, "")
        )
        return f"{value / scale:.3g}{unit}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.3g}"


def _panel(
    axes: Any,
    rows: Rows,
    panel: str,
    series: list[str],
    chance: Mapping[str, float],
    marks: Mapping[str, Any],
    tall: float,
) -> None:
    """Draw one question, `tall` inches: a line for each system, a mark for each way of answering, and the chance level behind them."""
    values = [
        v for row in rows.values() for s in series if (v := row.get(_joined(panel, s))) is not None
    ]
    levels = dict.fromkeys(
        level
        for s in series
        if (level := chance.get(_joined(panel, s), chance.get(panel))) is not None
    )
    full = (
        1.0
        if max(values + list(levels), default=0) <= 1 and panel not in COSTS
        else max(values + list(levels), default=1)
    )
    axes.set_xlim(0, (1.5 if panel in COSTS else 1.36) * (full or 1))
    style.quiet(axes, keep=("left",))
    axes.set(xticks=[], yticks=[])
    for i in range(len(rows) - 1):
        axes.axhline(i + 0.5, color=style.FAINT, linewidth=0.6)
    for level in levels:
        axes.axvline(level, color=style.INK, linewidth=1.1, linestyle=(0, (5, 3)), zorder=1)
    if levels:
        words = f"- - chance {' and '.join(f'{level:.2g}' for level in levels)}"
        style.write(axes, 0, 1 + 0.05 / tall, words, size=8, va="bottom", transform=axes.transAxes)
    step = LINE / (tall / len(rows))
    for i, row in enumerate(rows.values()):
        for k, s in enumerate(series):
            value, y = row.get(_joined(panel, s)), i + (k - (len(series) - 1) / 2) * step
            color, marker = marks.get(s, (style.INK, "o"))
            if value is None:
                style.write(axes, 0.05 * full, y, "–", size=9.5, va="center", color=color)
                continue
            if panel in COSTS:
                axes.barh(y, value, height=0.6 * step, color=style.PADDING)
            else:
                axes.plot([0, value], [y, y], color=color, linewidth=0.8, alpha=0.5, zorder=2)
                axes.plot(
                    [value],
                    [y],
                    marker=marker,
                    color=color,
                    markersize=5.5,
                    zorder=3,
                    clip_on=False,
                )
            box = {
                "facecolor": "white",
                "edgecolor": "none",
                "pad": 0.6,
            }  # so that a chance line does not run through it
            place = {"size": 8.5, "va": "center", "color": color, "bbox": box, "zorder": 2}
            style.write(axes, value + 0.06 * full, y, written(panel, value), **place)


def _legend(figure: Any, marks: Mapping[str, tuple[str, str]], *, dashes: bool) -> None:
    from matplotlib.lines import Line2D

    signs = [*marks.items(), *([("has no such number", (style.INK, "$–$"))] if dashes else [])]
    handles = [
        Line2D([], [], color=c, marker=m, linestyle="", markersize=5.5, label=style.readable(name))
        for name, (c, m) in signs
    ]
    if not handles:
        return
    letters = {"family": style.FONT, "size": 8.5}
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 0),
        ncols=len(handles),
        frameon=False,
        prop=letters,
    )


def _cut(metric: str) -> tuple[str, str]:
    panel, comma, series = metric.rpartition(", ")
    return (panel, series) if comma else (metric, "")


def _joined(panel: str, series: str) -> str:
    return f"{panel}, {series}" if series else panel


def _checked(rows: Rows, chance: Mapping[str, float] | None) -> dict[str, list[str]]:
    found = panels(rows)
    if not found:
        raise UsageError(
            f"systems are compared by their numbers: got {len(rows)} systems and no number; pass {{'CLIP': {{'R@1': 0.5}}}}"
        )
    for name, row in rows.items():
        bad = {
            metric: value
            for metric, value in row.items()
            if value is not None and not (np.isfinite(value) and value >= 0)
        }
        if bad:
            raise DataError(
                f"a system's numbers are finite and ≥ 0, or None: {name} has {bad}; leave out what was not measured"
            )
    unknown = sorted(
        set(chance or ())
        - set(found)
        - {_joined(panel, s) for panel, series in found.items() for s in series}
    )
    if unknown:
        raise UsageError(
            f"chance is given for panels or metrics, {', '.join(found)}: got {', '.join(unknown)}; correct the name"
        )
    return found
