"""The cells of a mask as an SVG with a role for each part, so that pointer, keyboard and screen reader find rows, columns and cells.

A state has a sign, a shade and a hatching: no meaning hangs on color. The signs are paths, the same
on every machine, and a script can change a cell's state by changing its class and its path.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from tinymm.viz import style

from ..masks.cells import (
    ALLOWED,
    BLOCKED,
    BOTH,
    FIRST,
    IDLE,
    KNOWN,
    LEAK,
    MANY,
    NEITHER,
    ORDER,
    OUTSIDE,
    PADDED,
    SECOND,
    SIDES,
    groups_from,
    parts,
)
from .explorer import letters, svg, text, write

GAP = 7  # pixels between groups
DASHES = {
    "text": "9 2.5",
    "picture": "2.5 2",
}  # of a group's strip: told apart without its color, too


def side(rows: int, columns: int) -> int:
    """Return how many pixels wide a cell is where there are so many rows and columns."""
    count = max(rows, columns)
    return 26 if count <= 24 else 20 if count <= 40 else 16


def marks(s: float) -> dict[str, list[str]]:
    """Return the sign of each state in a cell of side `s`, as SVG paths: of `states` under "s", of `apart` under "d"."""

    def circle(r: float) -> str:
        return f"M{s / 2 - r:g} {s / 2:g}a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0z"

    a, b, h = round(0.28 * s, 2), round(0.72 * s, 2), s / 2
    hatch, minus = f"M0 {h:g}L{h:g} 0M0 {s:g}L{s:g} 0M{h:g} {s:g}L{s:g} {h:g}", f"M{a} {h:g}H{b}"
    dot, disk, ring = circle(0.5), circle(round(0.18 * s, 2)), circle(round(0.2 * s, 2))
    by_state = {
        BLOCKED: dot,
        ALLOWED: disk,
        PADDED: hatch,
        LEAK: f"M{a} {a}L{b} {b}M{a} {b}L{b} {a}",
        KNOWN: ring,
        IDLE: hatch + ring,
    }
    by_side = {
        NEITHER: dot,
        FIRST: minus,
        SECOND: f"{minus}M{h:g} {a}V{b}",
        BOTH: disk,
        OUTSIDE: hatch,
    }
    return {
        "s": [by_state[key] for key in sorted(by_state)],
        "d": [by_side[key] for key in sorted(by_side)],
    }


def places(count: int, groups: Mapping[str, int] | None, s: float) -> list[float]:
    """Return where each token's cell begins: groups stand a little apart.

    >>> places(3, {"query": 1, "text": 2}, 10)
    [0, 17, 27]
    """
    spans = [span for _, span in parts(groups, count)] or [slice(0, count)]
    return [
        s * i + GAP * number
        for number, span in enumerate(spans)
        for i in range(span.start, span.stop)
    ]


def draw(
    cells: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    groups: Mapping[str, int] | None,
    first: int,
    words: Sequence[str],
    longest: str,
    difference: bool,
) -> str:
    """Return an SVG of `cells` `(Tq, Tk)`, whose states `words` describe; `longest` is the longest name that a script may write.

    `groups` are those of all tokens, rows begin with token `first`.
    """
    s, kind = side(*cells.shape), "d" if difference else "s"
    size, shapes = (12 if s > 20 else 10.5), marks(s)[kind]
    left = top = letters(longest) * size * 0.62 + 14
    xs, ys = (
        places(len(columns), groups, s),
        places(len(rows), groups_from(first, groups, len(columns)), s),
    )
    names = (
        write(left + x + s / 2 + size / 3, top - 9, name, size=size, kind="tm-column", turned=True)
        for x, name in zip(xs, columns, strict=True)
    )
    out = ['<g role="row">', *(f'<g role="columnheader">{name}</g>' for name in names), "</g>"]
    for y, row, states in zip(ys, rows, cells.tolist(), strict=True):
        name = write(left - 9, top + y + s / 2 + size / 3, row, size=size, kind="tm-name", end=True)
        out.append(f'<g role="row"><g role="rowheader">{name}</g>')
        for x, column, state in zip(xs, columns, states, strict=True):
            out.append(
                f'<g role="gridcell" class="tm-cell tm-{kind}{state}" transform="translate({left + x:g} {top + y:g})">'
                f"<title>{text(f'{row} → {column}: {words[state]}')}</title>"
                f'<rect width="{s}" height="{s}"/><path d="{shapes[state]}"/></g>'
            )
        out.append("</g>")
    out += _strips(left, top, xs, ys, s, groups, first)
    out.append(f'<rect class="tm-row" x="-2" y="-2" width="{xs[-1] + s + 4:g}" height="{s + 4}"/>')
    out.append(f'<rect class="tm-here" x="1" y="1" width="{s - 2}" height="{s - 2}"/>')
    return svg(
        left + xs[-1] + s + 4,
        top + ys[-1] + s + 4,
        out,
        role="grid",
        aria_label="rows look at columns",
    )


def _strips(
    left: float,
    top: float,
    xs: Sequence[float],
    ys: Sequence[float],
    s: int,
    groups: Mapping[str, int] | None,
    first: int,
) -> Iterator[str]:
    """Yield the strip of each group, above its columns and beside its rows."""
    for name, span in parts(groups, len(xs)):
        yield _strip(
            name, f"M{left + xs[span.start]:g} {top - 4:g}H{left + xs[span.stop - 1] + s:g}"
        )
        if span.stop > first:
            yield _strip(
                name,
                f"M{left - 4:g} {top + ys[max(0, span.start - first)]:g}V{top + ys[span.stop - 1 - first] + s:g}",
            )


def _strip(name: str, path: str) -> str:
    dashes = f' stroke-dasharray="{DASHES[name]}"' if name in DASHES else ""
    return f'<path d="{path}" fill="none" stroke="{style.COLORS.get(name, style.PADDING)}" stroke-width="4"{dashes}/>'


def legend(
    found: Collection[int],
    words: Sequence[str],
    side_words: Sequence[str] | None,
    groups: Mapping[str, int] | None,
    difference: bool,
) -> str:
    """Return the key to the states in `found`, and, where masks can be compared, to the sides of a difference; a script shows either."""
    shapes, items = marks(16), [("s", state, words[state]) for state in ORDER if state in found]
    items += [("d", side_, side_words[side_]) for side_ in SIDES] if side_words else []
    out = ["<li>A row looks at the columns:</li>"]
    for kind, state, said in items:
        hidden = "" if (kind == "d") == difference else ' style="display:none"'
        cell = f'<g class="tm-cell tm-{kind}{state}"><rect width="16" height="16"/><path d="{shapes[kind][state]}"/></g>'
        sample = f'<svg width="16" height="16" aria-hidden="true">{cell}</svg>'
        out.append(f'<li data-key="{kind}{state}"{hidden}>{sample}<span>{text(said)}</span></li>')
    for name in groups or {}:
        strip = _strip(name, "M0 3H26")
        out.append(
            f'<li><svg width="26" height="6" aria-hidden="true">{strip}</svg><span>{text(MANY.get(name, name))}</span></li>'
        )
    return f'<ul class="tm-legend">{"".join(out)}</ul>'
