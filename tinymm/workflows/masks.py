"""`masks`: who may look at whom under BLIP-2's objectives, for a sentence of your own, in the terminal and as pictures."""

import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from tinymm.arrays.errors import UsageError
from tinymm.data.text import split_words
from tinymm.viz import style
from tinymm.viz.mask_cells import apart, states
from tinymm.viz.mask_text import ASCII, SYMBOLS, beside, difference_grid, grid, key
from tinymm.viz.objectives import OBJECTIVES, QFORMER, Scene, draw_difference, draw_objectives

MOST = 128  # tokens; more fit neither a terminal nor a page


def run(
    *,
    queries: int = 4,
    text: str = "a red ball",
    padding: int = 0,
    objective: str | None = None,
    difference: tuple[str, str] | None = None,
    layers: int = 1,
    out: str | None = None,
    width: int | None = None,
    symbols: str | None = None,
    say: Callable[[str], None] = print,
) -> list[Path]:
    """Print the masks of one objective or of all three, or where two differ; with `out`, draw them there and return the pictures' paths.

    `layers` adds what is known after so many, the picture included. Masks stand side by side where `width` letters (those of the terminal)
    have room; a terminal that cannot show the signs gets ASCII.
    """
    scene = _scene(queries, text, padding, layers)
    width = width or shutil.get_terminal_size().columns
    symbols = symbols or (SYMBOLS if _can_show(SYMBOLS) else ASCII)
    chosen = QFORMER if objective in (None, "all") else (str(objective),)
    lines = []
    if objective or layers > 1 or not difference:
        lines.append(_printed(scene, chosen, layers, width, symbols))
    if difference:
        lines.append(_printed_difference(scene, *difference, width, symbols))
    for line in lines:
        say(line if symbols != ASCII else _ascii(line))
    if out is None:
        return []
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    written = [style.save(draw_objectives(scene, chosen), folder / "masks.png")]
    if layers > 1:
        written.append(style.save(draw_objectives(scene, chosen, layers=layers), folder / "reachability.png"))
    if difference:
        written.append(style.save(draw_difference(scene, *difference), folder / "difference.png"))
    say(f"pictures: {', '.join(str(path) for path in written)}")
    return written


def _scene(queries: int, text: str, padding: int, layers: int) -> Scene:
    for flag, value, least in (("--queries", queries, 0), ("--padding", padding, 0), ("--layers", layers, 1)):
        if value < least:
            raise UsageError(f"{flag} is at least {least}, and {value} came; leave it out for the default")
    words = split_words(text)
    if not words:
        raise UsageError(f"masks are shown for the words of a text, and {text!r} has none; say something, as in --text 'a red ball'")
    count = queries + len(words) + 2 + padding
    if count > MOST:
        raise UsageError(
            f"a mask that can be read has at most {MOST} tokens, and {count} came ({queries} queries, {len(words)} words, 2 special tokens, "
            f"{padding} padding); shorten --text, or lower --queries or --padding"
        )
    return Scene(queries, words, padding)


def _printed(scene: Scene, chosen: tuple[str, ...], layers: int, width: int, symbols: str) -> str:
    """Return the masks as text, each with a title above and a sentence below, and one line that explains the signs."""
    blocks, cells = [], []
    for name in chosen:
        panel = scene.panel(name, layers=layers)
        table = grid(
            panel.mask, panel.names, groups=panel.groups, is_real=panel.is_real, layers=layers, symbols=symbols, width=width, legend=False
        )
        cells.append(states(panel.mask, panel.is_real, layers))
        wide = max(24, *map(len, table.splitlines()))
        blocks.append((panel.title, table, panel.note, wide))
    abreast = len(blocks) > 1 and sum(wide for *_, wide in blocks) + 2 * (len(blocks) - 1) <= width
    texts = ["\n".join([title, table, *textwrap.wrap(note, wide if abreast else min(width, 100))]) for title, table, note, wide in blocks]
    entries = [entry.replace(" ", "\xa0") for entry in key(cells, symbols, layers).split("  ")]  # a sign stays with its words
    signs = textwrap.fill("  ".join(["A row looks at the columns:", *entries]), width)
    return "\n".join([beside(texts, width), "", signs.replace("\xa0", " ")])


def _printed_difference(scene: Scene, one: str, other: str, width: int, symbols: str) -> str:
    a, b = scene.pair(one, other)
    labels = OBJECTIVES[one].name, OBJECTIVES[other].name
    table = difference_grid(
        a.mask, b.mask, a.names, labels=labels, groups=a.groups, is_real=a.is_real, symbols=symbols, width=width
    )
    said = textwrap.wrap(apart(a.mask, b.mask, labels, a.groups)[1], width)
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
