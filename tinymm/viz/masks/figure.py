"""Masks on paper: who may look at whom, one mask, several side by side, and where two of them differ.

Rows look, columns are looked at, True = may attend. Groups of tokens are framed and have the colors
they have everywhere, padding is hatched. With `layers`, a second shade shows what a row can *know*
after so many layers though it does not see it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.viz import style

from .cells import (
    LEAK,
    MANY,
    ORDER,
    WORDS,
    Panel,
    apart,
    clipped,
    groups_from,
    named,
    parts,
    reachable,
    sentence,
    side_words,
    states,
)
from .cells import SIDES as SIDE_ORDER

# Colors and hatchings of may attend, known, blocked, leak, padding, idle; and of two masks: both,
# the first, the second, neither, padding.
LOOKS = dict(
    zip(
        ORDER,
        (
            ("#46525E", ""),
            ("#A9C3D9", "..."),
            ("#FFFFFF", ""),
            (style.RIGHT, "xx"),
            ("#EDEDED", "////"),
            ("#9AA2AA", "////"),
        ),
        strict=True,
    )
)
SIDES = dict(
    zip(
        SIDE_ORDER,
        (
            ("#D5DADF", ""),
            ("#8C6BB1", "///"),
            ("#E69F00", "\\\\\\"),
            ("#FFFFFF", ""),
            ("#EDEDED", "////"),
        ),
        strict=True,
    )
)
# Inches: masks that need more than WIDEST get smaller cells, and stand below each other where those
# would be unreadable.
WIDEST, SMALLEST, MARGIN = 17.5, 0.12, 0.12


def draw(
    mask: np.ndarray,
    names: Sequence[str],
    groups: Mapping[str, int] | None = None,
    is_real: np.ndarray | None = None,
    *,
    column_names: Sequence[str] | None = None,
    column_groups: Mapping[str, int] | None = None,
    layers: int = 1,
    first: int = 0,
    title: str | None = None,
) -> Any:
    """Return a figure of a mask `(Tq, Tk)`, or one whose other axes are 1; rows look, columns are looked at.

    `groups` maps names such as "query" and "text" to how many tokens they have, in order: they get
    the colors they have everywhere, and the title says who sees whom. Columns are named like the
    rows unless said otherwise; `is_real` `(Tk,)` hatches padding; rows are drawn from `first` on.
    """
    flat, rows, columns = named(mask, names, column_names)
    alt = draw_alt(mask, names, is_real, column_names=column_names, layers=layers, first=first)
    finding = alt.splitlines()[0]
    if groups and column_names is None:
        known = layers > 1
        finding = sentence(
            reachable(flat, layers) if known else flat,
            groups,
            is_real,
            verb="knows" if known else "sees",
        )
        finding = f"After {layers} layers {finding[0].lower()}{finding[1:]}" if known else finding
        alt = f"{finding}\n{alt}"
    shown = groups_from(first, groups, len(rows))
    sheet = _Sheet(
        states(flat, is_real, layers)[first:],
        rows[first:],
        columns,
        shown,
        groups if column_names is None else column_groups,
    )
    return _figure(
        [sheet], LOOKS, [word.format(layers) for word in WORDS], title or finding.rstrip("."), alt
    )


def draw_alt(
    mask: np.ndarray,
    names: Sequence[str],
    is_real: np.ndarray | None = None,
    *,
    column_names: Sequence[str] | None = None,
    layers: int = 1,
    first: int = 0,
) -> str:
    """Return a mask in words: how much is open, whether it leaks into padding, and one line for each row that looks.

    >>> print(draw_alt(np.tri(2, dtype=bool), ["a", "cat"]).splitlines()[0])
    3 of 4 cells may attend.
    """
    flat, rows, columns = named(mask, names, column_names)
    count = f"{flat[first:].sum()} of {flat[first:].size} cells may attend"
    if leaks := (states(flat, is_real)[first:] == LEAK).sum():
        count += f"; {leaks} of them look at padding"
    lines = [count + "."]
    for name, row in zip(rows[first:], flat[first:], strict=True):
        seen = [column for column, open_ in zip(columns, row, strict=True) if open_]
        lines.append(f"{name} looks at {', '.join(seen) if seen else 'nothing'}.")
    if layers > 1:
        lines.append(
            f"After {layers} layers {reachable(flat, layers)[first:].sum()} of {flat[first:].size} pairs are known."
        )
    return "\n".join(lines)


def side_by_side(panels: Sequence[Panel], *, layers: int = 1, title: str | None = None) -> Any:
    """Return a figure of several masks, each with its title and a note, to one scale; below each other where they are too wide.

    UsageError without any.

    >>> pair = [Panel(np.tri(2, dtype=bool), ["a", "cat"], title=name) for name in ("one", "other")]
    >>> side_by_side(pair).alt.splitlines()[0]
    'one: 3 of 4 cells may attend.'
    """
    if not panels:
        raise UsageError("masks side by side need at least one panel: got 0; pass a list of Panel")
    sheets, alts = [], []
    for panel in panels:
        flat, rows, columns = named(panel.mask, panel.names)
        cells, first = states(flat, panel.is_real, layers), panel.first
        shown = groups_from(first, panel.groups, len(rows))
        sheets.append(
            _Sheet(
                cells[first:], rows[first:], columns, shown, panel.groups, panel.title, panel.note
            )
        )
        alts.append(
            f"{panel.title}: {f'{panel.note} {draw_alt(flat, panel.names, panel.is_real, layers=layers, first=first)}'.strip()}"
        )
    words = [word.format(layers) for word in WORDS]
    return _figure(
        sheets,
        LOOKS,
        words,
        title or f"{len(panels)} masks: what each row may look at",
        "\n".join(alts),
    )


def difference(
    a: np.ndarray,
    b: np.ndarray,
    names: Sequence[str] | None = None,
    *,
    column_names: Sequence[str] | None = None,
    labels: tuple[str, str] = ("the first", "the second"),
    groups: Mapping[str, int] | None = None,
    is_real: np.ndarray | None = None,
    first: int = 0,
) -> Any:
    """Return a figure of where two masks (Tq, Tk) of the same tokens differ, each side in a color and a hatching of its own."""
    names = names or [str(i) for i in range(np.shape(a)[-2])]
    one, rows, columns = named(a, names, column_names)
    other = named(b, names, column_names)[0]
    cells, finding = apart(one, other, labels, groups, is_real, first)
    where = [
        f"{rows[i]} → {columns[j]}: only {labels[0] if one[i, j] else labels[1]}."
        for i, j in np.argwhere(one != other)
    ]
    shown = groups_from(first, groups, len(rows))
    sheet = _Sheet(cells, rows[first:], columns, shown, groups if column_names is None else None)
    return _figure(
        [sheet], SIDES, side_words(labels), finding.rstrip("."), "\n".join([finding, *where])
    )


class _Sheet:
    """One mask's cells, and how many inches it needs for cells, names and the words above."""

    def __init__(
        self,
        cells: Any,
        rows: Any,
        columns: Any,
        groups: Any,
        column_groups: Any,
        title: str = "",
        note: str = "",
    ) -> None:
        self.cells, self.title, self.said = cells, title, style.readable(note)
        self.rows, self.columns = (
            [style.readable(clipped(name)) for name in names] for names in (rows, columns)
        )
        self.groups, self.column_groups = (
            parts(groups, len(rows)),
            parts(column_groups, len(columns)),
        )
        self.scale(0.34)

    def scale(self, most: float) -> None:
        """Set the side of a cell to `most` inches, or less where there are many, and all that follows from it."""
        self.cell = max(SMALLEST, min(most, 7 / max(self.cells.shape)))
        self.size = min(9.5, self.cell * 72 / 1.3)
        letter, longest = self.size * 0.62 / 72, max(map(len, self.columns))
        self.left = (0.42 if self.groups else 0.12) + letter * max(map(len, self.rows))
        self.top = (0.42 if self.column_groups else 0.12) + letter * (
            longest if longest > 2 else 1.5
        )
        self.wide, self.tall = self.cells.shape[1] * self.cell, self.cells.shape[0] * self.cell
        self.width = self.left + max(self.wide, 2.2 if self.title else 0)
        self.note = (
            style.in_lines(self.said, max(24, int((self.width - 0.2) * 72 / (9 * 0.56))))
            if self.said
            else []
        )
        self.words = (
            (0.24 if self.title else 0) + 0.165 * len(self.note) + (0.08 if self.title else 0)
        )

    def place(
        self, figure: Any, x: float, y: float, words: float, looks: Mapping[int, tuple[str, str]]
    ) -> None:
        """Draw with the top left corner at `(x, y)` inches from the figure's; `words` inches are kept for title and note."""
        width, height = figure.get_size_inches()
        style_ = {"family": style.FONT, "va": "top", "parse_math": False, "color": style.INK}
        if self.title:
            figure.text(
                (x + MARGIN) / width, 1 - y / height, self.title, size=11, weight="bold", **style_
            )
            figure.text(
                (x + MARGIN) / width,
                1 - (y + 0.24) / height,
                "\n".join(self.note),
                size=9,
                linespacing=1.25,
                **style_,
            )
        box = (
            (x + self.left) / width,
            1 - (y + words + self.top + self.tall) / height,
            self.wide / width,
            self.tall / height,
        )
        axes = figure.add_axes(
            box, xlim=(-0.5, self.cells.shape[1] - 0.5), ylim=(self.cells.shape[0] - 0.5, -0.5)
        )
        _fill(axes, self.cells, looks, thin=self.cell < 0.2)
        axes.xaxis.tick_top()
        upright = max(map(len, self.columns)) > 2
        style.tick_names(axes, "x", self.columns, size=self.size, rotation=90 if upright else 0)
        style.tick_names(axes, "y", self.rows, size=self.size)
        axes.tick_params(length=0, pad=3)
        style.quiet(axes, keep=("left", "bottom", "right", "top"))
        for spine in axes.spines.values():
            spine.set(color=style.INK, linewidth=1.4)
        self._name_groups(axes)

    def _name_groups(self, axes: Any) -> None:
        """Frame the groups, color their names, and write what they are outside of the tokens' own."""
        out = (self.left - 0.17) / self.cell, (self.top - 0.13) / self.cell
        for labels, groups, line, vertical in (
            (axes.get_yticklabels(), self.groups, axes.axhline, True),
            (axes.get_xticklabels(), self.column_groups, axes.axvline, False),
        ):
            for name, span in groups:
                color = style.COLORS.get(name, style.INK)
                for label in labels[span]:
                    label.set_color(color)
                if span.stop < len(labels):
                    line(span.stop - 0.5, color=style.INK, linewidth=1.4)
                middle, word = (span.start + span.stop - 1) / 2, MANY.get(name, name)
                if len(word) * 0.085 > (span.stop - span.start) * self.cell + 0.1:
                    continue  # no room: the tokens' own names must do
                at = (-0.5 - out[0], middle) if vertical else (middle, -0.5 - out[1])
                style.write(
                    axes,
                    *at,
                    word,
                    color=color,
                    size=9,
                    weight="bold",
                    ha="center",
                    va="center",
                    rotation=90 if vertical else 0,
                )


def _fill(
    axes: Any, cells: np.ndarray, looks: Mapping[int, tuple[str, str]], *, thin: bool
) -> None:
    """Draw all cells of one state as one collection: thousands of single patches would take seconds."""
    from matplotlib.collections import PolyCollection

    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    for state, (color, hatch) in looks.items():
        where = np.argwhere(cells == state)[:, None, ::-1]
        if len(where):
            line = 0.25 if thin else 0.5
            squares = PolyCollection(
                where + corners,
                facecolors=color,
                hatch=hatch or None,
                edgecolors="#B4B4B4",
                linewidths=line,
            )
            axes.add_collection(squares, autolim=False)


def _figure(
    sheets: Sequence[_Sheet],
    looks: Mapping[int, tuple[str, str]],
    words: Sequence[str],
    title: str,
    alt: str,
) -> Any:
    from matplotlib.patches import Patch

    gap = 0.35
    for most in (0.34, 0.3, 0.26, 0.22, 0.18, 0.34):
        for sheet in sheets:
            sheet.scale(most)
        abreast = sum(sheet.width for sheet in sheets) + gap * (len(sheets) - 1)
        if beside := abreast + 2 * MARGIN <= WIDEST:
            highest = max(sheet.top for sheet in sheets)
            for sheet in sheets:
                sheet.top = highest  # so that grids beside each other begin at one height
            break
    width = max(
        5.6, (abreast if beside else max(sheet.width for sheet in sheets)) + 2 * MARGIN + 0.1
    )
    size, tops = (
        11.5,
        [max(sheet.words for sheet in sheets)] * len(sheets)
        if beside
        else [sheet.words for sheet in sheets],
    )
    letters = int((width - 2 * MARGIN) * 72 / (size * 0.63))
    head = 0.2 + 0.19 * len(style.in_lines(title, letters))
    heights = [top + sheet.top + sheet.tall for top, sheet in zip(tops, sheets, strict=True)]
    seen = [state for state in looks if any((sheet.cells == state).any() for sheet in sheets)]
    across = max(
        1, min(len(seen), int(width / (0.55 + 0.075 * max(len(words[state]) for state in seen))))
    )
    body = max(heights) if beside else sum(heights) + gap * (len(sheets) - 1)
    figure = style.new_figure(width, head + body + 0.5 + 0.22 * -(-len(seen) // across))
    x = y = 0.0
    for sheet, top, tall in zip(sheets, tops, heights, strict=True):
        sheet.place(figure, x, head + y, top, looks)
        x, y = (x + sheet.width + gap, 0.0) if beside else (0.0, y + tall + gap)
    height = figure.get_size_inches()[1]
    said = "a row looks at the columns:"
    figure.text(
        MARGIN / width,
        1 - (head + body + 0.1) / height,
        said,
        size=9,
        family=style.FONT,
        color=style.INK,
        va="top",
    )
    patches = [
        Patch(
            facecolor=looks[s][0],
            hatch=looks[s][1],
            edgecolor="#8C8C8C",
            linewidth=0.6,
            label=words[s],
        )
        for s in seen
    ]
    corner, font = (0.0, 1 - (head + body + 0.22) / height), {"family": style.FONT, "size": 9}
    figure.legend(
        handles=patches,
        loc="upper left",
        bbox_to_anchor=corner,
        frameon=False,
        prop=font,
        ncols=across,
        labelspacing=0.35,
    )
    figure.alt = alt
    style.headline(figure, title, size=size, width=letters)
    return figure
