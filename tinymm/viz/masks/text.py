"""Masks in a terminal: a line for each row that looks, a column for each token that is looked at, groups framed.

A mask is a picture before it is a formula: causal is a triangle, padding is stripes, a leak is a
cell that should not be there. Where a terminal cannot show the signs, pass `symbols=ASCII`; where
it is narrow, pass its `width`, and the cells move together.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

import numpy as np

from tinymm.arrays.errors import ShapeError

from .cells import (
    ALLOWED,
    BLOCKED,
    MANY,
    ORDER,
    PADDED,
    SIDES,
    WORDS,
    apart,
    clipped,
    groups_from,
    named,
    parts,
    side_words,
    states,
)

SYMBOLS, ASCII = (
    "·■░!▒□",
    ".#_!o=",
)  # in the order of the states: blocked, allowed, padding, leak, known, idle
FRAME = "─│┌┬┐├┼┤└┴┘"


def grid(
    mask: np.ndarray,
    row_names: Sequence[str],
    column_names: Sequence[str] | None = None,
    *,
    groups: Mapping[str, int] | None = None,
    is_real: np.ndarray | None = None,
    layers: int = 1,
    symbols: str = SYMBOLS,
    width: int | None = None,
    legend: bool = True,
    first: int = 0,
) -> str:
    """Return a mask as text; `groups` of a square mask, as in `{"query": 4, "text": 5}`, are framed, `layers` adds what is known by then.

    Rows are printed from `first` on.

    >>> print(grid(np.tri(2, dtype=bool), ["a", "cat"]))  # doctest: +NORMALIZE_WHITESPACE
            a cat
      a  ■  ·
    cat  ■  ■
    ■ may attend  · blocked
    """
    flat, rows, columns = named(mask, row_names, column_names)
    cells = states(flat, is_real, layers)
    lines = _table(
        cells[first:], symbols, rows[first:], columns, _framed(groups, cells, first), width
    )
    return "\n".join([*lines, key([cells[first:]], symbols, layers)] if legend else lines)


def key(cells: Iterable[np.ndarray], symbols: str = SYMBOLS, layers: int = 1) -> str:
    """Return the line that explains the signs of the states that occur in any of the arrays.

    >>> key([np.array([[1, 0]])])
    '■ may attend  · blocked'
    """
    found = {int(state) for each in cells for state in np.unique(each)}
    return "  ".join(
        f"{symbols[state]} {WORDS[state].format(layers)}" for state in ORDER if state in found
    )


def difference_grid(
    a: np.ndarray,
    b: np.ndarray,
    row_names: Sequence[str],
    column_names: Sequence[str] | None = None,
    *,
    labels: tuple[str, str] = ("the first", "the second"),
    groups: Mapping[str, int] | None = None,
    is_real: np.ndarray | None = None,
    symbols: str = SYMBOLS,
    width: int | None = None,
    first: int = 0,
) -> str:
    """Return where two masks of the same tokens differ, as text: − where only the first allows, + where only the second does.

    >>> print(difference_grid(np.eye(2, dtype=bool), np.tri(2, dtype=bool), ["a", "b"], labels=("eye", "tri")))
       a b
    a  ■ ·
    b  + ■
    ■ both allow  + only tri allows  · both block
    """
    one, rows, columns = named(a, row_names, column_names)
    cells, _ = apart(one, named(b, row_names, column_names)[0], labels, groups, is_real, first)
    signs, words = symbols[BLOCKED] + "-+" + symbols[ALLOWED] + symbols[PADDED], side_words(labels)
    lines = _table(cells, signs, rows[first:], columns, _framed(groups, one, first), width)
    return "\n".join(
        [*lines, "  ".join(f"{signs[side]} {words[side]}" for side in SIDES if side in cells)]
    )


def beside(blocks: Sequence[str], width: int, gap: int = 2) -> str:
    """Return texts of several lines side by side where `width` letters have room for them, else below each other.

    >>> print(beside(["a" + chr(10) + "bb", "c"], width=80))
    a   c
    bb
    >>> print(beside(["a", "c"], width=3))
    a
    <BLANKLINE>
    c
    """
    wide = [max(map(len, block.splitlines())) for block in blocks]
    if sum(wide) + gap * (len(blocks) - 1) > width:
        return "\n\n".join(blocks)
    lines = zip_longest(*(block.splitlines() for block in blocks), fillvalue="")
    return "\n".join(
        (" " * gap).join(f"{part:<{w}}" for part, w in zip(line, wide, strict=True)).rstrip()
        for line in lines
    )


#: The groups of rows and of columns, as `parts` gives them.
Frames = tuple[list[tuple[str, slice]], list[tuple[str, slice]]]


def _framed(groups: Mapping[str, int] | None, mask: np.ndarray, first: int) -> Frames | None:
    if not groups:
        return None
    if mask.shape[0] != mask.shape[1]:
        raise ShapeError(
            f"groups frame the rows and columns of a square mask: got {mask.shape}; leave groups out for a cross mask"
        )
    kept = groups_from(first, groups, len(mask))
    return parts(kept, sum(kept.values())), parts(groups, len(mask))


def _table(
    cells: np.ndarray,
    signs: str,
    rows: Sequence[str],
    columns: Sequence[str],
    groups: Frames | None,
    width: int | None,
) -> list[str]:
    """Return the lines of a grid: names of columns that are too long for it stand upright, one letter a line."""
    rows, columns = (
        [clipped(name, ellipsis="~" if signs.isascii() else "…") for name in names]
        for names in (rows, columns)
    )
    left, tall = max(map(len, rows)), max(map(len, columns))
    wide = tall if tall <= 3 and not groups else 1
    tall = 1 if wide == tall else tall
    spans = [where for _, where in groups[1]] if groups else [slice(0, len(columns))]
    count = len(columns) * (wide + 1) - len(spans)
    gap = "" if width is not None and left + 3 + count + len(spans) > width else " "
    frame = (FRAME if not signs.isascii() else "-|+++++++++") if groups else " " * len(FRAME)

    def line(name: str, marks: Sequence[str], edge: str) -> str:
        middle = edge.join(gap.join(f"{mark:^{wide}}" for mark in marks[span]) for span in spans)
        return f"{name:>{left}} {edge}{middle}{edge}".rstrip()

    lines = [
        line("", [name if tall == 1 else name.rjust(tall)[k] for name in columns], " ")
        for k in range(tall)
    ]
    body = [
        line(name, [signs[state] for state in row], frame[1])
        for name, row in zip(rows, cells, strict=True)
    ]
    if not groups:
        return lines + body
    inner = [len(gap.join(" " * (span.stop - span.start))) for span in spans]
    titles = [MANY.get(name, name) for name, _ in groups[1]]
    tops = [
        (title if len(title) <= w else "").center(w, frame[0])
        for title, w in zip(titles, inner, strict=True)
    ]
    flat = [frame[0] * w for w in inner]
    kinds = ((tops, frame[2:5]), (flat, frame[5:8]), (flat, frame[8:]))
    borders = [" " * (left + 1) + ends[0] + ends[1].join(part) + ends[2] for part, ends in kinds]
    lines.append(borders[0])
    for place, (_, span) in enumerate(groups[0]):
        lines += [*([borders[1]] if place else []), *body[span]]
    return [*lines, borders[2]]
