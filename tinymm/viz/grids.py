"""Small matrices whose numbers can be read, side by side: each step of a computation as the numbers that it makes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.viz import style
from tinymm.viz.tables import number

MOST = 12  # rows and columns whose numbers can be read
CELL = 0.5  # inches


def grids(
    panels: Mapping[str, np.ndarray],
    rows: Sequence[str],
    columns: Sequence[str] | None = None,
    *,
    title: str,
    blocked: Mapping[str, np.ndarray] | None = None,
    sums: Sequence[str] = (),
    column_sums: Sequence[str] = (),
    alt: str | None = None,
) -> Any:
    """Return a figure of matrices `{name: (rows, columns)}` with a number in each cell, darker where its size is larger within its panel.

    A panel with numbers below zero has one color for these and another for those above. `columns`
    name those of panels as wide as they are many, others are numbered. `blocked` gives booleans for
    a panel: True cells are hatched and marked with a ×. Panels named in `sums` have the sums of
    their rows beside them, those in `column_sums` the sums of their columns below. ShapeError for
    other rows than are named or too many columns; DataError for cells that are neither finite nor
    blocked.

    >>> drawn = grids({"weights": np.array([[1.0, 0.0], [0.5, 0.5]])}, ["a", "cat"], title="Rows sum to 1", sums=["weights"])
    >>> print(drawn.table)
    weights  a    cat  sum
    a        1    0    1
    cat      0.5  0.5  1
    """
    columns, blocked = list(rows if columns is None else columns), dict(blocked or {})
    data = {name: np.asarray(matrix, dtype=float) for name, matrix in panels.items()}
    for name, matrix in data.items():
        if (
            matrix.ndim != 2
            or len(matrix) != len(rows)
            or max(matrix.shape) > MOST
            or not matrix.size
        ):
            raise ShapeError(
                f"a grid has a row for each of {len(rows)} names and at most {MOST} columns, and {name!r} is {matrix.shape}; cut it"
            )
        hidden = blocked.setdefault(name, np.zeros(matrix.shape, dtype=bool))
        if hidden.shape != matrix.shape or not np.isfinite(matrix[~hidden]).all():
            raise DataError(
                f"a grid's cells are finite or blocked, and {name!r} is {matrix.shape} with {hidden.shape} blocked; pass blocked of that shape"
            )
    left, gap, named = (
        0.2 + 0.085 * max(map(len, rows)),
        0.32,
        any(len(name) > 4 for name in columns),
    )
    wide = [(matrix.shape[1] + 1.1 * (name in sums)) * CELL for name, matrix in data.items()]
    width = max(5.6, left + sum(wide) + gap * (len(data) - 1) + 0.25)
    above = (
        0.3
        + 0.2 * -(-len(title) // max(20, int(width * 10.5)))
        + (0.35 + 0.085 * max(map(len, columns)) if named else 0.62)
    )
    below = 0.15 + 0.22 * bool(column_sums)
    height = above + len(rows) * CELL + below
    figure, x = style.new_figure(width, height), left
    for place, (name, matrix) in enumerate(data.items()):
        shape = (
            x / width,
            below / height,
            matrix.shape[1] * CELL / width,
            len(rows) * CELL / height,
        )
        axes = figure.add_axes(
            shape, xlim=(-0.5, matrix.shape[1] - 0.5), ylim=(len(rows) - 0.5, -0.5)
        )
        heads = (
            columns if matrix.shape[1] == len(columns) else [str(j) for j in range(matrix.shape[1])]
        )
        _draw(axes, matrix, blocked[name], heads, named, list(rows) if place == 0 else [])
        style.write(
            axes,
            -0.5,
            -1.05 - (0.085 * max(map(len, columns)) / CELL if named else 0),
            name,
            size=10,
            weight="bold",
            va="bottom",
        )
        if name in sums:
            for i, total in enumerate(np.where(blocked[name], 0, matrix).sum(axis=1)):
                style.write(axes, matrix.shape[1] - 0.3, i, f"Σ {total:.2f}", size=8.5, va="center")
        if name in column_sums:
            for j, total in enumerate(np.where(blocked[name], 0, matrix).sum(axis=0)):
                style.write(
                    axes, j, len(rows) - 0.42, f"Σ {total:.2f}", size=8, ha="center", va="top"
                )
        x += wide[place] + gap
    style.headline(figure, title, size=11.5)
    figure.table = "\n\n".join(
        _table(name, matrix, blocked[name], rows, columns, name in sums, name in column_sums)
        for name, matrix in data.items()
    )
    figure.alt = alt or f"{title.rstrip('.')}. Numbers, panel by panel:\n{figure.table}"
    return figure


def _draw(
    axes: Any,
    matrix: np.ndarray,
    hidden: np.ndarray,
    heads: list[str],
    named: bool,
    rows: list[str],
) -> None:
    from matplotlib.patches import Rectangle

    shown = np.where(hidden, 0, matrix)
    signed = shown.min() < 0
    strength = shown / (np.abs(shown).max() or 1.0)
    image = axes.imshow(
        strength,
        cmap=style.SIGNED if signed else style.HEAT,
        vmin=-1.6 if signed else 0,
        vmax=1.6,
        aspect="auto",
    )
    image.set_zorder(0)
    for (i, j), value in np.ndenumerate(matrix):
        if hidden[i, j]:
            axes.add_patch(
                Rectangle(
                    (j - 0.5, i - 0.5),
                    1,
                    1,
                    facecolor="#F4F4F4",
                    hatch="////",
                    edgecolor="#C8C8C8",
                    linewidth=0,
                )
            )
        text = "×" if hidden[i, j] else _short(value)
        style.write(
            axes,
            j,
            i,
            text,
            size=9,
            ha="center",
            va="center",
            bbox={"facecolor": "#F4F4F4", "edgecolor": "none", "pad": 0.5}
            if hidden[i, j]
            else None,
        )
    for k in range(1, matrix.shape[1]):
        axes.axvline(k - 0.5, color="white", linewidth=1)
    for k in range(1, len(matrix)):
        axes.axhline(k - 0.5, color="white", linewidth=1)
    axes.xaxis.tick_top()
    style.tick_names(axes, "x", heads, size=8.5, rotation=90 if named else 0)
    style.tick_names(axes, "y", rows, size=9)
    if not rows:
        axes.set_yticks([])
    axes.tick_params(length=0, pad=3)


def _short(value: float) -> str:
    """Write a number in at most five letters.

    >>> _short(-0.25), _short(2.0), _short(12.34), _short(0.0)
    ('−0.25', '2', '12.3', '0')
    """
    text = f"{value:z.2f}" if abs(value) < 9.995 else f"{value:z.3g}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−")


def _table(
    name: str,
    matrix: np.ndarray,
    hidden: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    summed: bool,
    summed_down: bool,
) -> str:
    heads = columns if matrix.shape[1] == len(columns) else [str(j) for j in range(matrix.shape[1])]
    lines = [[name, *heads, *(["sum"] if summed else [])]]
    for title, row, off in zip(rows, matrix, hidden, strict=True):
        cells = ["×" if no else _short(value) for value, no in zip(row, off, strict=True)]
        lines.append(
            [
                title,
                *cells,
                *([number(round(float(np.where(off, 0, row).sum()), 3))] if summed else []),
            ]
        )
    if summed_down:
        down = [number(round(float(total), 3)) for total in np.where(hidden, 0, matrix).sum(axis=0)]
        lines.append(["sum", *down, *([""] if summed else [])])
    wide = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" for cell, w in zip(line, wide, strict=True)).rstrip()
        for line in lines
    )
