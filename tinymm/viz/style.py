"""One look for every picture: four colors that always mean the same, letters that can be read, files that are never half-written.

The colors are Okabe and Ito's, which stay apart for all common kinds of color vision, and no
meaning is carried by color alone: padding is hatched, the right answer framed, the hardest wrong
one dotted.
"""

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.arrays.files import atomic

from . import fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

PICTURE, TEXT, QUERY, PADDING = "#0072B2", "#C14E00", "#00805D", "#8C8C8C"
RIGHT, INK, FAINT = "#D81B72", "#222222", "#D9D9D9"
COLORS = {"picture": PICTURE, "text": TEXT, "query": QUERY, "padding": PADDING}
HEAT = "GnBu"  # pale to dark in every kind of vision, and in gray; most cells stay pale enough for numbers
SIGNED = "PuOr"  # orange below zero, purple above: apart in every common kind of vision; in gray the sign is read from the number
FONT = fonts.FAMILIES  # DejaVu Sans, which comes with Matplotlib: the same letters on every machine; others for what it lacks
DOTS_PER_INCH = 144
_FILL = "\ue000"  # the second half of a wide letter, while lines are counted


@cache
def drawing_class() -> type:
    """Return a Matplotlib Figure that knows its `alt` text and its numbers as a `table`, and shows itself in a notebook, without pyplot's state.

    As text it is its alt text; the PNG of a notebook names no version and no date, so that one
    drawing has one file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class Drawing(Figure):
        alt: str = ""
        table: str = ""

        def __init__(self, width: float, height: float) -> None:
            super().__init__(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white")
            FigureCanvasAgg(self)

        def __repr__(self) -> str:
            return f"Figure: {self.alt}" if self.alt else super().__repr__()

        def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
            from io import BytesIO

            out = BytesIO()
            self.savefig(out, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
            width, height = self.get_size_inches() * 96
            return out.getvalue(), {"width": int(width), "height": int(height), "alt": self.alt}

    return Drawing


def new_figure(width: float, height: float) -> Any:
    """Return an empty white figure of `width` by `height` inches; set its `.alt` before you hand it out."""
    return drawing_class()(width, height)


def save(figure: Any, path: str | Path) -> Path:
    """Write the figure, atomically, in the format of the name's ending; a PNG carries the alt text as its "Description".

    DataError for an ending other than .png, .svg or .pdf.

    >>> save(new_figure(1, 1), getfixture("tmp_path") / "empty.png").name
    'empty.png'
    """
    path = Path(path)
    kind = path.suffix.lstrip(".").lower()
    if kind not in figure.canvas.get_supported_filetypes():
        raise DataError(
            f"a picture's name ends in its format: got {path.name!r}; use .png, .svg or .pdf"
        )
    alt = getattr(figure, "alt", "")
    named = {
        "png": {"Description": alt},
        "svg": {"Description": alt, "Date": None},
        "pdf": {"Subject": alt, "CreationDate": None},
    }
    with atomic(path) as file:
        figure.savefig(file, format=kind, dpi=DOTS_PER_INCH, metadata=named.get(kind))
    return path


def readable(text: object) -> str:
    """Return `text` on one line, with □ for each character that no font of this machine has.

    Matplotlib would warn and draw a box of its own; a caption may hold any character.
    `fonts.not_drawn` says which were no luck.

    >>> readable("two" + chr(10) + "lines " + chr(0x378))
    'two lines □'
    """
    return "".join(letter if fonts.has(letter) else "□" for letter in " ".join(str(text).split()))


def in_lines(text: object, width: int, **how: Any) -> list[str]:
    r"""Return `text` in lines of at most `width` letters, of which wide ones, as Chinese has, count as two.

    >>> in_lines("\u26a1\u26a1\u26a1", 4), in_lines("a red cat", 5)
    (['⚡⚡', '⚡'], ['a red', 'cat'])
    """
    filled = "".join(
        letter + _FILL * (unicodedata.east_asian_width(letter) in "WF") for letter in readable(text)
    )
    return [line.replace(_FILL, "") for line in textwrap.wrap(filled, width, **how)]


def wrapped(text: object, width: int, lines: int) -> str:
    """Return `text` in at most `lines` lines of at most `width` letters; what does not fit ends in an ellipsis.

    >>> print(wrapped("latin small letter a with ring below", 16, 2))
    latin small
    letter a with …
    """
    return "\n".join(in_lines(text, width, max_lines=lines, placeholder=" …")) or " "


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists them.

    >>> listed(["red", "green", "blue"]), listed(["red"])
    ('red, green and blue', 'red')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def write(axes: Any, x: float, y: float, text: str, **how: Any) -> "Text":
    """Write `text` as it stands: no mathematics between dollar signs, which captions may hold, and always in the same font."""
    return axes.text(x, y, text, **({"family": FONT, "color": INK, "parse_math": False} | how))


def headline(figure: Any, finding: str, *, size: float = 12, width: int | None = None) -> None:
    """Write the finding at the top left of the figure: what the reader should take home, in one sentence or two lines."""
    inches = figure.get_size_inches()
    letters = width or max(20, int(inches[0] * 72 / (size * 0.56)))
    text = figure.text(
        0.12 / inches[0],
        1 - 0.1 / inches[1],
        "",
        size=size,
        weight="bold",
        va="top",
        family=FONT,
        color=INK,
        parse_math=False,
    )
    while True:
        text.set_text("\n".join(in_lines(finding, letters)))
        if text.get_window_extent().x1 <= figure.bbox.x1 or letters <= 10:
            return
        letters -= 2  # letters differ in width: these are wide ones


def tick_names(
    axes: "Axes", which: str, names: Sequence[str], *, size: float = 8, **how: Any
) -> None:
    """Name the places 0, 1, … along the "x" or "y" axis."""
    axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
    axis.set_ticks(
        range(len(names)),
        [readable(name) for name in names],
        fontsize=size,
        family=FONT,
        parse_math=False,
        **how,
    )


def quiet(axes: "Axes", *, keep: Sequence[str] = ()) -> None:
    """Take away the frame, but for the sides named in `keep`, and all ticks where none is kept."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in keep)
        spine.set_color(PADDING)
    if not keep:
        axes.set(xticks=[], yticks=[])


def as_rgb(picture: np.ndarray) -> np.ndarray:
    """Return a picture `(h, w)`, `(h, w, 1)` or `(h, w, 3)` with values in [0, 1] as `(h, w, 3)`; outside is cut off.

    ShapeError for any other shape.
    """
    array = np.asarray(picture, dtype=np.float32)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[-1] not in (1, 3):
        raise ShapeError(
            f"a picture is (h, w), (h, w, 1) or (h, w, 3): got {np.shape(picture)}; channels come last, one picture at a time"
        )
    return np.broadcast_to(np.clip(np.nan_to_num(array), 0, 1), (*array.shape[:2], 3))


def thumbnail(
    axes: "Axes",
    picture: np.ndarray,
    x: float,
    y: float,
    side: float,
    color: str = PICTURE,
    *,
    width: float = 1.2,
) -> None:
    """Draw a picture centered at `(x, y)` of the axes' data, its longer side `side`, framed in `color`."""
    from matplotlib.patches import Rectangle

    rgb = as_rgb(picture)
    half_h, half_w = np.array(rgb.shape[:2]) / max(rgb.shape[:2]) * side / 2
    down = axes.yaxis_inverted()
    bottom, top = (y + half_h, y - half_h) if down else (y - half_h, y + half_h)
    with steady_limits(axes):
        axes.imshow(
            rgb,
            extent=(x - half_w, x + half_w, bottom, top),
            interpolation="antialiased",
            aspect="auto",
            zorder=2,
        )
    axes.add_patch(
        Rectangle(
            (x - half_w, y - half_h),
            2 * half_w,
            2 * half_h,
            fill=False,
            edgecolor=color,
            linewidth=width,
            zorder=3,
        )
    )


@contextmanager
def steady_limits(axes: "Axes") -> Iterator[None]:
    """Keep the limits of the axes while something is drawn: `imshow` resets them."""
    limits = axes.get_xlim(), axes.get_ylim()
    yield
    axes.set(xlim=limits[0], ylim=limits[1])
