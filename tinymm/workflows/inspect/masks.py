"""`masks`: who may look at whom under the objectives of ALBEF, BLIP and BLIP-2, for a sentence of your own, in the terminal and as pictures."""

import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import UsageError
from tinymm.data.text import split_words
from tinymm.viz import MaskExplorer, style
from tinymm.viz.masks.cells import apart, states
from tinymm.viz.masks.objectives import (
    FAMILIES,
    OBJECTIVES,
    Scene,
    draw_difference,
    draw_objectives,
)
from tinymm.viz.masks.text import ASCII, SYMBOLS, beside, difference_grid, grid, key

from .. import commands
from ..terminal import tell

MOST = 128  # tokens; more fit neither a terminal nor a page


def run(
    *,
    queries: int = 4,
    patches: int = 4,
    text: str = "a red ball",
    padding: int = 0,
    objective: str | None = None,
    difference: tuple[str, str] | None = None,
    layers: int = 1,
    out: str | None = None,
    html: str | None = None,
    width: int | None = None,
    symbols: str | None = None,
    say: Callable[[str], None] = tell,
) -> list[Path]:
    """Print the masks of one objective or of a model's three, or where two differ; with `out`, draw them there and return the pictures' paths.

    `objective` is one of `objectives.OBJECTIVES`, or "albef", "blip" or "all" (BLIP-2) for three of
    them. `queries` stand before BLIP-2's text; the others' text looks at a picture of `patches` and
    its class token. `layers` adds what is known after so many, the picture included. `html` is a
    file for the page that can be asked (`viz.MaskExplorer`). Masks stand side by side where `width`
    letters (those of the terminal) have room; a terminal that cannot show the signs gets ASCII.
    """
    chosen = FAMILIES.get(objective or "all") or (str(objective),)
    asked = [*(chosen if objective or not difference else ()), *(difference or ())]
    scene = _scene(queries, patches, text, padding, layers, asked)
    width = width or shutil.get_terminal_size().columns
    symbols = symbols or (SYMBOLS if _can_show(SYMBOLS) else ASCII)
    lines = []
    if objective or layers > 1 or not difference:
        lines.append(_printed(scene, chosen, layers, width, symbols))
    if difference:
        lines.append(_printed_difference(scene, *difference, width, symbols))
    for line in lines:
        say(line if symbols != ASCII else _ascii(line))
    if html is not None:
        first, other = difference or (chosen[len(chosen) // 2], None)
        explorer = MaskExplorer(
            first,
            queries=queries,
            words=scene.words,
            padding=padding,
            patches=patches,
            layers=layers,
            against=other,
        )
        say(f"page: {explorer.save(html)}")
    if out is None:
        return []
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    written = [style.save(draw_objectives(scene, chosen), folder / "masks.png")]
    if layers > 1:
        written.append(
            style.save(draw_objectives(scene, chosen, layers=layers), folder / "reachability.png")
        )
    if difference:
        written.append(style.save(draw_difference(scene, *difference), folder / "difference.png"))
    say(f"pictures: {', '.join(str(path) for path in written)}")
    return written


def _scene(
    queries: int, patches: int, text: str, padding: int, layers: int, asked: Sequence[str]
) -> Scene:
    for flag, value, least in (
        ("--queries", queries, 0),
        ("--patches", patches, 1),
        ("--padding", padding, 0),
        ("--layers", layers, 1),
    ):
        if value < least:
            raise UsageError(
                f"{flag} is at least {least}, and {value} came; leave it out for the default"
            )
    if layers > 1000:
        raise UsageError(
            f"--layers is at most 1,000, and {layers:,} came; what is known changes no more after as many layers as there are tokens"
        )
    words = split_words(text)
    if not words:
        raise UsageError(
            f"masks are shown for the words of a text, and {text!r} has none; say something, as in --text 'a red ball'"
        )
    scene = Scene(queries, words, padding, patches)
    fronts = {OBJECTIVES[name].front for name in asked}
    kinds = {
        front: queries if front == "query" else 1 + patches for front in fronts
    }  # counted, not made: they may be many
    front, before = max(kinds.items(), key=lambda item: item[1])
    count = before + len(words) + 2 + padding
    if count > MOST:
        many, flag = (
            (f"{queries} queries", "--queries")
            if front == "query"
            else (f"{before} tokens of the picture", "--patches")
        )
        raise UsageError(
            f"a mask that can be read has at most {MOST} tokens, and {count} came ({many}, {len(words)} words, 2 special tokens, "
            f"{padding} padding); shorten --text, or lower {flag} or --padding"
        )
    return scene


def _printed(scene: Scene, chosen: tuple[str, ...], layers: int, width: int, symbols: str) -> str:
    """Return the masks as text, each with a title above and a sentence below, and one line that explains the signs."""
    blocks, cells = [], []
    for name in chosen:
        panel = scene.panel(name, layers=layers)
        table = grid(
            panel.mask, panel.names, groups=panel.groups, is_real=panel.is_real, layers=layers, symbols=symbols, width=width, legend=False,
            first=panel.first,
        )  # fmt: skip
        cells.append(states(panel.mask, panel.is_real, layers)[panel.first :])
        wide = max(24, *map(len, table.splitlines()))
        blocks.append((panel.title, table, panel.note, wide))
    abreast = len(blocks) > 1 and sum(wide for *_, wide in blocks) + 2 * (len(blocks) - 1) <= width
    texts = [
        "\n".join([title, table, *textwrap.wrap(note, wide if abreast else min(width, 100))])
        for title, table, note, wide in blocks
    ]
    entries = [
        entry.replace(" ", "\xa0") for entry in key(cells, symbols, layers).split("  ")
    ]  # a sign stays with its words
    signs = textwrap.fill("  ".join(["A row looks at the columns:", *entries]), width)
    return "\n".join([beside(texts, width), "", signs.replace("\xa0", " ")])


def _printed_difference(scene: Scene, one: str, other: str, width: int, symbols: str) -> str:
    a, b = scene.pair(one, other)
    labels = OBJECTIVES[one].label, OBJECTIVES[other].label
    table = difference_grid(
        a.mask,
        b.mask,
        a.names,
        labels=labels,
        groups=a.groups,
        is_real=a.is_real,
        symbols=symbols,
        width=width,
        first=a.first,
    )
    said = textwrap.wrap(apart(a.mask, b.mask, labels, a.groups, first=a.first)[1], width)
    return "\n".join([f"From {labels[0]} to {labels[1]}", table, *said])


def _ascii(text: str) -> str:
    """Return the text in letters that every terminal has: a word's own letters that are not among them become question marks."""
    return text.replace("→", "->").replace("·", "-").encode("ascii", "replace").decode()


def _can_show(symbols: str) -> bool:
    try:
        symbols.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


# ---------------------------------------------------------------------- the command
PLACE = 60


def declare(parsers: Any) -> None:
    """Add masks."""
    said = "print who may look at whom under the objectives of ALBEF, BLIP and BLIP-2"
    masks = commands.add(parsers, "masks", said, "masks --queries 4 --text 'a red ball'", _command)
    masks.add_argument(
        "--queries", type=int, default=4, metavar="Q", help="BLIP-2's learned queries (default: 4)"
    )
    masks.add_argument(
        "--patches",
        type=int,
        default=4,
        metavar="P",
        help="patches of the picture that ALBEF's or BLIP's text sees (default: 4)",
    )
    masks.add_argument(
        "--text",
        default="a red ball",
        help="the words, between [CLS] or [DEC] and [SEP] (default: 'a red ball')",
    )
    masks.add_argument(
        "--padding",
        type=int,
        default=0,
        metavar="N",
        help="padding tokens after the text (default: 0)",
    )
    one = list(OBJECTIVES)
    several = "one mask only, or a model's three: 'albef', 'blip', or 'all' for BLIP-2's ITC, ITG and ITM (default: all)"
    objectives = [*one, *FAMILIES]
    masks.add_argument(
        "--objective",
        type=str.lower,
        choices=objectives,
        metavar="NAME",
        help=f"{several}; one of {', '.join(one)}",
    )
    masks.add_argument(
        "--difference",
        nargs=2,
        type=str.lower,
        choices=one,
        metavar=("A", "B"),
        help="where two of the masks differ",
    )
    masks.add_argument(
        "--layers",
        type=int,
        default=1,
        metavar="L",
        help="show what is known after L layers, the picture included (default: 1)",
    )
    masks.add_argument(
        "--html", metavar="FILE", help="write a page in which the masks can be asked, row by row"
    )
    said = "a folder to draw masks.png in, and reachability.png and difference.png where asked for"
    commands.common(masks, out=said, seed=False, backend=False, folder=True)


def _command(**options: Any) -> None:
    run(**options)
