"""Who may look at whom: a mask printed in a terminal, drawn on paper, and beside another one.

Rows look, columns are looked at, True = may attend. A mask is a picture before it is a formula: causal is a triangle, padding
is stripes, a leak is a cell that should not be there. With `layers`, the drawing shows in a second shade what a row can *know* after
several layers: a forbidden cell is no secret if a third token may look at it and be looked at.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import DtypeError, ShapeError
from tinymm.viz import style

BLOCKED, ALLOWED, PADDED, LEAK, KNOWN = range(5)
WORDS = ("blocked", "may attend", "padding", "attends to padding!", "not seen, but known after {} layers")
LOOKS = {
    BLOCKED: ("#FFFFFF", ""),
    ALLOWED: ("#3B6FA0", ""),
    PADDED: ("#EDEDED", "////"),
    LEAK: (style.RIGHT, "xx"),
    KNOWN: ("#BBD6EC", ".."),
}
SYMBOLS = "·■░!"  # pass "._ !" or the like where a terminal cannot show them


def states(mask: np.ndarray, is_real: np.ndarray | None = None) -> np.ndarray:
    """Return for each cell BLOCKED, ALLOWED, PADDED (a padding column or row, and blocked) or LEAK (a real row attends to padding).

    In a square mask rows and columns are the same tokens, so that `is_real` marks rows too; what a padding row sees harms nobody.

    >>> states(np.array([[True, False], [True, True]]), np.array([True, False])).tolist()
    [[1, 2], [1, 1]]
    """
    cells = _flat(mask).astype(int)
    if is_real is None:
        return cells
    real = np.asarray(is_real)
    if real.dtype != bool or real.shape != (cells.shape[1],):
        raise ShapeError(f"is_real (Tk,) is boolean, one a column: got {real.dtype} {real.shape} for {cells.shape}; pass one pair's row")
    square = cells.shape[0] == cells.shape[1]
    real_row = real if square else np.ones(len(cells), dtype=bool)
    padded = ~real[None, :] | ~real_row[:, None]
    cells[padded & (cells == BLOCKED)] = PADDED
    cells[real_row[:, None] & ~real[None, :] & (cells == ALLOWED)] = LEAK
    return cells


def reachable(mask: np.ndarray, layers: int) -> np.ndarray:
    """Return `(T, T)` booleans: which inputs can influence which outputs after `layers` layers, the residual path included.

    >>> reachable(np.eye(3, k=-1, dtype=bool), layers=2).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    step = _flat(mask) | np.eye(*_flat(mask).shape, dtype=np.bool_)
    if step.shape[0] != step.shape[1]:
        raise ShapeError(f"what is known after several layers needs rows = columns: got {step.shape}; use layers=1 for a cross mask")
    known = np.eye(len(step), dtype=np.bool_)
    for _ in range(layers):
        known = step @ known
    return known


def grid(
    mask: np.ndarray,
    row_names: Sequence[str],
    column_names: Sequence[str] | None = None,
    *,
    is_real: np.ndarray | None = None,
    symbols: str = SYMBOLS,
) -> str:
    """Return a mask as text for a terminal: a line for each row that looks, a column for each token that is looked at.

    >>> print(grid(np.tri(2, dtype=bool), ["a", "cat"]))  # doctest: +NORMALIZE_WHITESPACE
            a cat
      a  ■  ·
    cat  ■  ■
    ■ may attend  · blocked
    """
    rows, columns = _names(mask, row_names, column_names)
    cells = states(np.broadcast_to(_flat(mask), (len(rows), len(columns))), is_real)
    wide = max(max(len(name) for name in columns), 1)
    left = max(len(name) for name in rows)
    lines = []
    if wide <= 3:
        lines.append(" " * left + " " + "".join(f" {name:^{wide}}" for name in columns))
    else:  # longer names stand upright, one letter a line
        wide = 1
        tall = max(len(name) for name in columns)
        lines += [" " * left + " " + "".join(" " + name.rjust(tall)[k] for name in columns) for k in range(tall)]
    for name, row in zip(rows, cells, strict=True):
        lines.append(f"{name:>{left}} " + "".join(f" {symbols[state]:^{wide}}" for state in row))
    seen = [state for state in (ALLOWED, BLOCKED, PADDED, LEAK) if (cells == state).any()]
    lines.append("  ".join(f"{symbols[state]} {WORDS[state]}" for state in seen))
    return "\n".join(line.rstrip() for line in lines)


def draw(
    mask: np.ndarray,
    names: Sequence[str],
    groups: Mapping[str, int] | None = None,
    is_real: np.ndarray | None = None,
    *,
    column_names: Sequence[str] | None = None,
    column_groups: Mapping[str, int] | None = None,
    layers: int = 1,
    title: str | None = None,
) -> Any:
    """Return a figure of a mask `(Tq, Tk)`, or one whose other axes are 1; rows look, columns are looked at.

    `groups` maps names such as "query" and "text" to how many tokens they have, in order: they get the colors they have everywhere.
    Columns are named like the rows unless said otherwise; `is_real` `(Tk,)` hatches padding.
    """
    rows, columns = _names(mask, names, column_names)
    flat = np.broadcast_to(_flat(mask), (len(rows), len(columns)))
    cells = states(flat, is_real)
    if layers > 1:
        cells[reachable(flat, layers) & (cells == BLOCKED)] = KNOWN
    words = [word.format(layers) for word in WORDS]
    figure = _figure(cells, rows, columns, groups, groups if column_names is None else column_groups, words, LOOKS)
    figure.alt = draw_alt(mask, names, is_real, column_names=column_names, layers=layers)
    style.headline(figure, title or figure.alt.splitlines()[0].rstrip("."), size=11)
    return figure


def draw_alt(
    mask: np.ndarray,
    names: Sequence[str],
    is_real: np.ndarray | None = None,
    *,
    column_names: Sequence[str] | None = None,
    layers: int = 1,
) -> str:
    """Return a mask in words: how much is open, whether it leaks into padding, and one line for each row that looks.

    >>> print(draw_alt(np.tri(2, dtype=bool), ["a", "cat"]).splitlines()[0])
    3 of 4 cells may attend.
    """
    rows, columns = _names(mask, names, column_names)
    flat = np.broadcast_to(_flat(mask), (len(rows), len(columns)))
    cells = states(flat, is_real)
    first = f"{flat.sum()} of {flat.size} cells may attend"
    if leaks := (cells == LEAK).sum():
        first += f"; {leaks} of them look at padding"
    lines = [first + "."]
    for name, row in zip(rows, flat, strict=True):
        seen = [column for column, open_ in zip(columns, row, strict=True) if open_]
        lines.append(f"{name} looks at {', '.join(seen) if seen else 'nothing'}.")
    if layers > 1:
        lines.append(f"After {layers} layers {reachable(flat, layers).sum()} of {flat.size} pairs are known.")
    return "\n".join(lines)


def difference(
    a: np.ndarray,
    b: np.ndarray,
    names: Sequence[str] | None = None,
    *,
    column_names: Sequence[str] | None = None,
    labels: tuple[str, str] = ("the first", "the second"),
    groups: Mapping[str, int] | None = None,
) -> Any:
    """Return a figure of where two masks of the same tokens differ, each side in a color and a hatching of its own."""
    one, other = np.broadcast_arrays(_flat(a), _flat(b))
    rows, columns = _names(one, names or [str(i) for i in range(len(one))], column_names)
    cells = one.astype(int) + 2 * other
    words = ["both block", f"only {labels[0]} allows", f"only {labels[1]} allows", "both allow"]
    looks = {0: ("#FFFFFF", ""), 1: (style.PICTURE, "//"), 2: ("#E69F00", "\\\\"), 3: ("#D5DADF", "")}
    figure = _figure(cells, rows, columns, groups, groups if column_names is None else None, words, looks)
    apart = (one != other).sum()
    counts = f"{(one & ~other).sum()} only {labels[0]} allows, {(other & ~one).sum()} only {labels[1]} allows"
    head = f"{apart} of {one.size} cells differ: {counts}."
    where = [f"{rows[i]} → {columns[j]}: only {labels[0] if one[i, j] else labels[1]}." for i, j in np.argwhere(one != other)]
    figure.alt = "\n".join([head, *where])
    style.headline(figure, head.rstrip("."), size=11)
    return figure


def _flat(mask: np.ndarray) -> np.ndarray:
    """Return the mask as `(Tq, Tk)`; axes of pairs and heads must be 1, because one drawing shows one of them."""
    array = np.asarray(mask)
    if array.dtype != bool:
        raise DtypeError(f"a mask is boolean, True = may attend: got {array.dtype}; compare first, as in mask > 0 or additive == 0")
    if array.ndim < 2 or any(length != 1 for length in array.shape[:-2]):
        raise ShapeError(f"a mask drawing shows one (Tq, Tk): got {array.shape}; pick a pair and a head, as in mask[0, 0]")
    return array.reshape(array.shape[-2:])


def _names(mask: np.ndarray, names: Sequence[str], column_names: Sequence[str] | None) -> tuple[list[str], list[str]]:
    rows, columns = list(names), list(names if column_names is None else column_names)
    shape = _flat(mask).shape
    if shape[0] not in (1, len(rows)) or shape[1] not in (1, len(columns)) or not rows or not columns:
        raise ShapeError(f"mask (Tq,Tk), Tq row names, Tk column names: got {shape}, {len(rows)}, {len(columns)}; name every token once")
    return [style.readable(name) for name in rows], [style.readable(name) for name in columns]


def _figure(cells: np.ndarray, rows: Any, columns: Any, groups: Any, column_groups: Any, words: Any, looks: Any) -> Any:
    from matplotlib.patches import Patch, Rectangle

    many = max(cells.shape)
    cell = max(0.17, min(0.36, 7 / many))
    size = min(9.5, cell * 72 / 1.35)
    letter = size * 0.6 / 72
    left, above = 0.55 + letter * max(map(len, rows)), 0.75 + letter * max(map(len, columns))
    seen = [state for state in looks if (cells == state).any()]
    wide, tall = cells.shape[1] * cell, cells.shape[0] * cell
    width, height = max(left + wide + 0.2, 5.6), above + tall + 0.15 + 0.24 * len(seen)
    figure = style.new_figure(width, height)
    box = (left / width, 1 - (above + tall) / height, wide / width, tall / height)
    axes = figure.add_axes(box, xlim=(-0.5, cells.shape[1] - 0.5), ylim=(cells.shape[0] - 0.5, -0.5))
    for i, j in np.ndindex(cells.shape):
        color, hatch = looks[int(cells[i, j])]
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=color, hatch=hatch, edgecolor="#B8B8B8", linewidth=0.5))
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    style.tick_names(axes, "x", columns, size=size, rotation=90 if max(map(len, columns)) > 2 else 0)
    style.tick_names(axes, "y", rows, size=size)
    axes.set_xlabel("is looked at →", fontsize=9, family=style.FONT, loc="left")
    axes.set_ylabel("← looks", fontsize=9, family=style.FONT, loc="top")
    axes.tick_params(length=0)
    style.quiet(axes, keep=("left", "bottom", "right", "top"))
    for labels, parts, line in ((axes.get_yticklabels(), groups, axes.axhline), (axes.get_xticklabels(), column_groups, axes.axvline)):
        _group(labels, parts, line)
    patches = [Patch(facecolor=looks[s][0], hatch=looks[s][1], edgecolor="#8C8C8C", linewidth=0.6, label=words[s]) for s in seen]
    letters = {"family": style.FONT, "size": 9}
    corner = (0.1 / width, box[1] - 0.05 / height)
    figure.legend(handles=patches, loc="upper left", bbox_to_anchor=corner, frameon=False, prop=letters, labelspacing=0.35)
    return figure


def _group(labels: Sequence[Any], parts: Mapping[str, int] | None, line: Any) -> None:
    if not parts:
        return
    if sum(parts.values()) != len(labels):
        raise ShapeError(f"groups count each token once: got {dict(parts)}, {sum(parts.values())} in all, for {len(labels)} names; recount")
    start = 0
    for name, count in parts.items():
        for label in labels[start : start + count]:
            label.set_color(style.COLORS.get(name, style.INK))
        start += count
        if start < len(labels):
            line(start - 0.5, color=style.INK, linewidth=1.6)
