"""The cheat sheet of masks: all seven of `layers.masks`, drawn, with who sees whom read off each."""

import html

import numpy as np

from tinymm.layers import masks
from tinymm.viz.masks.cells import ALLOWED, sentence, states
from tinymm.viz.widgets.mask_svg import marks

SIDE, LEFT, TOP = 17, 46, 40  # pixels of a cell, and before the first row and column
OPEN = 'fill="currentColor" fill-opacity=".82"', 'fill="var(--color-background-primary)"'
SHUT = 'fill="none"', 'fill="none" stroke="currentColor" stroke-opacity=".7"'
REAL = np.array([[True, True, True, False]])
WORDS, PLAIN, PATCHES = (
    ["a", "red", "ball", "[PAD]"],
    ["a", "red", "ball", "!"],
    ["p1", "p2", "p3", "pad"],
)

INTRODUCTION = """# Cheat sheet: masks

{.sheet}
Rows look, columns are looked at, **True = may attend**. ● may attend, · blocked, hatched padding; ○ on it: padding looks, and nobody reads it.
Masks are boolean, combine with `&` (both allow) and `|` (either allows) and broadcast to `(B, H, Tq, Tk)`. A row that may look at nothing gives
zeros.

"""
END = """
Padding and order at once: `causal_mask(T) & padding_mask(is_real)`, shape `{shape}`. From elsewhere: `additive == 0` of a mask that is added,
`~mask` where True means *ignore*. What a row can *know* after several layers: `reachability([mask] * layers)`. Check yours:
`check.causal_mask(fn)`, `check.qformer_masks(fn)`. To be asked: the [explorer](/explorers.md#who-may-look-at-whom).
"""


def drawn(mask: np.ndarray, rows: list[str], columns: list[str], is_real: np.ndarray | None) -> str:
    """Return a mask (Tq, Tk) as a small SVG in the page's own colors: ● on dark may attend, · is blocked, padding is hatched."""
    cells, signs = states(mask, is_real), marks(SIDE)["s"]
    out = [
        f'<text x="{LEFT - 4}" y="{TOP + i * SIDE + 12}" text-anchor="end">{html.escape(name)}</text>'
        for i, name in enumerate(rows)
    ]
    for j, name in enumerate(columns):
        x = LEFT + j * SIDE + 12
        out.append(
            f'<text x="{x}" y="{TOP - 4}" transform="rotate(-90 {x} {TOP - 4})">{html.escape(name)}</text>'
        )
    for i, j in np.ndindex(*cells.shape):
        ground, sign = OPEN if cells[i, j] == ALLOWED else SHUT
        out.append(
            f'<g transform="translate({LEFT + j * SIDE} {TOP + i * SIDE})"><rect width="{SIDE}" height="{SIDE}" stroke="currentColor" '
            f'stroke-opacity=".35" {ground}/><path d="{signs[cells[i, j]]}" {sign}/></g>'
        )
    width, height = LEFT + len(columns) * SIDE + 2, TOP + len(rows) * SIDE + 2
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-size="10.5" fill="currentColor"'
    return f'<svg {size} role="img" aria-label="{int(mask.sum())} of {mask.size} cells may attend">{"".join(out)}</svg>'


def crossing(mask: np.ndarray, rows: list[str], columns: list[str]) -> str:
    """Return in words which rows of a cross mask see which columns.

    >>> crossing(np.array([[True, True], [False, False]]), ["q0", "a"], ["p1", "p2"])
    'q0 sees p1, p2; a sees nothing.'
    """
    groups: dict[str, list[str]] = {}
    for name, row in zip(rows, mask, strict=True):
        seen = ", ".join(column for column, open_ in zip(columns, row, strict=True) if open_)
        groups.setdefault(seen or "nothing", []).append(name)
    return (
        "; ".join(
            f"{', '.join(names)} see{'s' if len(names) == 1 else ''} {seen}"
            for seen, names in groups.items()
        )
        + "."
    )


def items() -> list[tuple]:
    """Return for each mask its call, what it is for, the mask, its rows and columns, which are real, and the groups of its tokens."""
    all_real = np.concatenate([np.ones((1, 2), bool), REAL], axis=1)
    padding = np.broadcast_to(masks.padding_mask(REAL)[0, 0], (4, 4))
    cross = masks.cross_mask(np.array([[True, True, False]]), REAL)[0, 0]
    found = [
        (
            "causal_mask(T)",
            "language models, CLIP's text",
            masks.causal_mask(4),
            PLAIN,
            PLAIN,
            None,
            {"text": 4},
        ),
        (
            "padding_mask(is_real)",
            "every text of a batch",
            padding,
            WORDS,
            WORDS,
            REAL[0],
            {"text": 4},
        ),
        (
            "prefix_mask(prefix, T)",
            "a given beginning",
            masks.prefix_mask(2, 4),
            PLAIN,
            PLAIN,
            None,
            {"prefix": 2, "text": 2},
        ),
        (
            "cross_mask(may_look, is_real)",
            "queries look at a picture",
            cross,
            ["q0", "q1", "a"],
            PATCHES,
            REAL[0],
            None,
        ),
    ]
    both = ["q0", "q1", *WORDS]
    for build, use in (
        (masks.unimodal_mask, "ITC"),
        (masks.multimodal_causal_mask, "ITG"),
        (masks.bidirectional_mask, "ITM"),
    ):
        found.append(
            (
                f"{build.__name__}(Q, is_real)",
                f"BLIP-2's {use}",
                build(2, REAL)[0, 0],
                both,
                both,
                all_real[0],
                {"query": 2, "text": 4},
            )
        )
    return found


def sheet() -> str:
    """Return the page."""
    body = ""
    for call, use, mask, rows, columns, is_real, groups in items():
        said = sentence(mask, groups, is_real) if groups else crossing(mask, rows, columns)
        said = said.replace("A prefix", "A token of the prefix").replace(
            "all prefix", "all of the prefix"
        )
        caption = f"<figcaption><code>{call}</code><br>{use}</figcaption>"
        body += f"<figure>{caption}{drawn(mask, rows, columns, is_real)}<p>{html.escape(said)}</p></figure>\n"
    shape = (masks.causal_mask(4) & masks.padding_mask(REAL)).shape
    return f'{INTRODUCTION}<div class="sheet-grid">\n{body}</div>\n{END.format(shape=shape)}'
