"""What all explorers share: a picture that is complete by itself, and a little script that lets it be asked.

`_repr_html_` returns one piece of HTML with everything inside: style, an SVG with its numbers, the
same as text, the data, the script. Nothing is fetched, nothing needs a kernel, so it works in a
notebook, in saved pages and in the docs, and where scripts are stripped the picture stays. There
are no ids and no names in it: several explorers, or one of them twice, stand on a page without a
clash, and equal objects give equal bytes. The scripts only change classes, attributes and text of
what is there; the words of others are never read as HTML.
"""

import base64
import html
import io
import json
import math
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.files import atomic
from tinymm.viz import style

LEVELS = 64  # shades of a magnitude
#: No request can leave a saved page: the browser itself is told to refuse.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
PAGE = """:root { color-scheme: light dark } body { max-width: 62rem; margin: 0 auto; padding: 1rem; font: 16px/1.5 system-ui, sans-serif }
body { background: #fff; color: #222 } @media (prefers-color-scheme: dark) { body { background: #16191c; color: #e8e8e8 } }"""
#: Characters that would end a line, steer the terminal or turn the direction of what follows.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


class Explorer(ABC):
    """A picture to be asked with pointer or keyboard; `alt()` says in words what it shows, `table()` prints the same numbers."""

    kind = ""
    help = ""

    @abstractmethod
    def alt(self) -> str:
        """Return in words what the picture shows, computed from its numbers."""

    @abstractmethod
    def table(self) -> str:
        """Return the numbers of the picture as text."""

    @abstractmethod
    def _body(self) -> str:
        """Return the HTML between the title and the text: controls, SVG, legend."""

    @abstractmethod
    def _data(self) -> dict[str, Any]:
        """Return what the script needs to know, as JSON has it."""

    def _say(self) -> str:
        """Return the sentence below the picture while nothing is chosen."""
        return self.alt().splitlines()[0]

    def _beside(self) -> str:
        """Return the HTML beside the sentence."""
        return ""

    def _repr_html_(self) -> str:
        alt = self.alt().splitlines()
        return (
            f'<div class="tm-x" data-kind="{self.kind}" role="figure" aria-label="{text(" ".join(alt))}" data-lm-suppress-shortcuts="true">\n'
            f"<style>{source('explorer.css')}</style>\n{self._body()}\n"
            f'<div class="tm-detail">{self._beside()}<p class="tm-say" role="status" aria-live="polite">{text(self._say())}</p></div>\n'
            f'<p class="tm-help tm-live">{self.help}</p>\n'
            f"<details><summary>The same as text</summary><pre>{text(self.table(), lines=True)}</pre></details>\n"
            f'<script type="application/json">{as_json(self._data())}</script>\n'
            f"<script>(() => {{\n{source('explorer.js')}\n{source(f'{self.kind}.js')}\n"
            f'awake("{self.kind}", {self.kind})\n}})()</script>\n</div>'
        )

    def __repr__(self) -> str:
        return " ".join(
            self.alt().split()
        )  # what is left of it where only text is shown; no address, so notebooks build repeatably

    def save(self, path: str | Path) -> Path:
        """Write the explorer as one HTML file, atomically; opened anywhere, it asks the network for nothing."""
        path = Path(path)
        title = text(self.alt().splitlines()[0])
        page = (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            f"<title>{title}</title>\n<style>{PAGE}</style>\n</head>\n<body>\n<main>\n{self._repr_html_()}\n</main>\n</body>\n</html>\n"
        )
        with atomic(path) as out:
            out.write(page.encode("utf-8"))
        return path


# ---------------------------------------------------------------------- text
@cache
def source(name: str) -> str:
    """Return a style or script that lies beside this file."""
    return files("tinymm.viz.widgets").joinpath(name).read_text(encoding="utf-8").strip()


def clean(words: object) -> str:
    """Return anybody's words on one line, with □ for what is no letter and steers the display.

    >>> clean("a  red" + chr(0x202E) + "ball")
    'a red□ball'
    """
    return UNPRINTABLE.sub("□", " ".join(str(words).split()))


def text(words: object, *, lines: bool = False) -> str:
    """Return words that may stand in HTML, between tags and inside quotes.

    >>> text('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(
        "\n".join(UNPRINTABLE.sub("□", line) for line in str(words).split("\n"))
        if lines
        else clean(words)
    )


def as_json(data: Any) -> str:
    """Return data as JSON that may stand inside a script element: no character in it can end that."""
    said = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return (
        UNPRINTABLE.sub("□", said)
        .replace("&", "\\u0026")
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
    )


def letters(words: str) -> int:
    """Return how many narrow letters wide the words are: Chinese signs and emoji count two.

    >>> letters("ab"), letters("球")
    (2, 2)
    """
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in words
    )


def wrap(words: object, width: int, lines: int) -> list[str]:
    """Return words in at most `lines` lines of at most `width` letters; what does not fit ends in an ellipsis.

    >>> wrap("latin small letter a with ring below", 16, 2)
    ['latin small', 'letter a with r…']
    """
    rest, rows = clean(words), list[str]()
    while rest and len(rows) < lines:
        end = len(rest)
        while letters(rest[:end]) > width:
            end -= 1
        if end < len(rest) and len(rows) == lines - 1:
            while letters(rest[:end]) > width - 1:
                end -= 1
            return [*rows, rest[:end].rstrip() + "…"]
        if end < len(rest) and (space := rest.rfind(" ", 0, end + 1)) > 0:
            end = space
        rows.append(rest[:end])
        rest = rest[end:].lstrip()
    return rows or [" "]


def runs(names: Sequence[str], where: Iterable[int], edges: Collection[int] = ()) -> str:
    """Return the names at some places as a sentence lists them, four or more neighbors by the first and the last; none go across `edges`.

    >>> runs(["q0", "q1", "q2", "q3", "a", "b"], [0, 1, 2, 3, 5])
    'q0 to q3 and b'
    """
    groups: list[list[int]] = []
    for place in where:
        if groups and groups[-1][-1] == place - 1 and place not in edges:
            groups[-1].append(place)
        else:
            groups.append([place])
    said: list[str] = []
    for group in groups:
        said += (
            [f"{names[group[0]]} to {names[group[-1]]}"]
            if len(group) > 3
            else [names[place] for place in group]
        )
    return style.listed(said) if said else "nothing"


def rounded(value: float, digits: int) -> str:
    """Return a number with so many digits behind the point, halves up, as the scripts write it.

    >>> rounded(0.125, 2), rounded(-0.001, 2)
    ('0.13', '0.00')
    """
    return f"{math.floor(value * 10**digits + 0.5) / 10**digits:.{digits}f}"


def share(value: float) -> str:
    """Return a share of 1 as a percentage.

    >>> share(0.0625)
    '6.3%'
    """
    return rounded(100 * value, 1) + "%"


# ---------------------------------------------------------------------- parts of the page
def choice(name: str, label: str, options: Sequence[tuple[str, str]], chosen: str) -> str:
    """Return a row of buttons of which one is pressed; `options` are values and words."""
    buttons = "".join(
        f'<button type="button" data-value="{text(value)}" aria-pressed="{str(value == chosen).lower()}">{text(words)}</button>'
        for value, words in options
    )
    return f'<div class="tm-choice" role="group" aria-label="{text(label)}" data-name="{name}"><span>{text(label)}</span>{buttons}</div>'


def slider(name: str, label: str, most: int, value: int, said: str, *, least: int = 0) -> str:
    """Return a slider over whole numbers, with what its place means beside it."""
    return (
        f'<label class="tm-choice"><span>{text(label)}</span><input type="range" data-name="{name}" min="{least}" max="{most}" step="1" '
        f'value="{value}" aria-valuetext="{text(said)}"><output>{text(said)}</output></label>'
    )


def svg(width: float, height: float, content: Iterable[str], **attributes: str) -> str:
    """Return an SVG of so many pixels, in a box that scrolls where the page is narrower."""
    said = "".join(
        f' {name.replace("_", "-")}="{text(value)}"' for name, value in attributes.items()
    )
    inside = "\n".join(content)
    return f'<div class="tm-scroll"><svg width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"{said}>\n{inside}\n</svg></div>'


def write(
    x: float,
    y: float,
    words: object,
    *,
    size: float = 12,
    kind: str = "",
    turned: bool = False,
    end: bool = False,
) -> str:
    """Return an SVG text that begins at, or with `end` ends at, `(x, y)`; `turned` reads upwards."""
    anchor = ' text-anchor="end"' if end else ""
    turn = f' transform="rotate(-90 {x:g} {y:g})"' if turned else ""
    name = f' class="{kind}"' if kind else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}"{anchor}{turn}{name}>{text(words)}</text>'
    )


def png(picture: np.ndarray, most: int = 96) -> str:
    """Return a picture (h, w, c) in [0, 1] as PNG data that may stand in a page, its longer side at most `most` pixels."""
    from PIL import Image

    pixels = np.floor(style.as_rgb(picture) * 255 + 0.5).astype(np.uint8)
    image = Image.fromarray(pixels)
    if max(image.size) > most:
        image.thumbnail((most, most), Image.Resampling.BOX)
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


@cache
def palette() -> tuple[list[str], list[str]]:
    """Return cividis in LEVELS steps, dark to light, and the ink, black or white, that is read best on each."""
    from matplotlib import colormaps

    colors = colormaps["cividis"](np.linspace(0, 1, LEVELS))[:, :3]
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]
    inks = np.where((linear + 0.05) / 0.05 >= 1.05 / (linear + 0.05), "#000000", "#ffffff")
    return [
        "#" + "".join(f"{round(255 * part):02x}" for part in color) for color in colors.tolist()
    ], inks.tolist()


def level(value: float, low: float, high: float) -> int:
    """Return which step of the palette a value has between `low` and `high`."""
    return math.floor((LEVELS - 1) * min(1.0, max(0.0, (value - low) / (high - low or 1.0))) + 0.5)
