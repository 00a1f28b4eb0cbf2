"""Pictures that are already on every machine: the DejaVu fonts inside matplotlib, and Unicode's name of each character.

`latin small letter a with ring below` says what one sees, in words that return in a hundred other
names. That makes the characters of a font a caption data set: real, tiny, multilingual and
compositional.
"""

import math
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinymm.arrays.errors import DataError

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSansMono",
    "DejaVuSerif-Bold",
)
RESOLUTION, POINTS = 32, 24
_EXCLUDED = (
    "combining",
    "modifier",
    "space",
    "form",
    "box",
)  # in a name: marks that need a neighbor, blanks, box-drawing tiles


@lru_cache(maxsize=1)
def named_pictures() -> tuple[tuple[int, ...], tuple[str, ...], np.ndarray]:
    """Return the code points, the names and the pictures `(fonts, N, 32, 32)` uint8 of all distinct named characters.

    A character counts when all six fonts have it and it is a letter, number, punctuation mark or
    symbol. Where several look exactly alike in the first font (Latin A, Greek Alpha, Cyrillic A),
    only the first code point stays: two right answers to one picture cannot be told apart by any
    model. The pictures are shared by all callers and read-only.

    >>> characters, names, pictures = named_pictures()
    >>> len(characters), names[0], pictures.shape
    (1881, 'exclamation mark', (6, 1881, 32, 32))
    """
    fonts = [_Font(_folder() / f"{font}.ttf") for font in FONTS]
    names = {}
    for character in sorted(set.intersection(*(font.characters for font in fonts))):
        name = unicodedata.name(chr(character), "").lower()
        if (
            name
            and unicodedata.category(chr(character))[0] in "LNPS"
            and not any(word in name for word in _EXCLUDED)
        ):
            names[character] = name
    seen: dict[bytes, tuple[int, np.ndarray]] = {}
    for character in names:
        picture = fonts[0].draw(character)
        seen.setdefault(picture.tobytes(), (character, picture))
    characters = tuple(character for character, _ in seen.values())
    others = [[font.draw(character) for character in characters] for font in fonts[1:]]
    pictures = np.array([[picture for _, picture in seen.values()], *others])
    pictures.flags.writeable = False
    return characters, tuple(names[character] for character in characters), pictures


def _folder() -> Path:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    missing = [font for font in FONTS if not (folder / f"{font}.ttf").is_file()]
    if missing:
        raise DataError(
            f"glyphs are drawn with the {len(FONTS)} DejaVu fonts of matplotlib's wheel, but {folder} lacks {', '.join(missing)}: "
            "install matplotlib from its wheel (pip install --force-reinstall matplotlib)."
        )
    return folder


class _Font:
    """A font file at one size, drawing single characters in the middle of a square."""

    def __init__(self, path: Path) -> None:
        from matplotlib.ft2font import FT2Font
        from PIL import ImageFont

        self.outlines = FT2Font(str(path))
        self.outlines.set_size(POINTS, 72)
        self.characters = set(self.outlines.get_charmap())
        self.font: FreeTypeFont = ImageFont.truetype(
            path, POINTS, layout_engine=ImageFont.Layout.BASIC
        )

    def draw(self, character: int) -> np.ndarray:
        """Return the character, white on black and centered by its advance width, as `(32, 32)` uint8."""
        from PIL import Image, ImageDraw

        image = Image.new("L", (RESOLUTION, RESOLUTION), 0)
        left = math.ceil(RESOLUTION / 2 - self._advance(character) / 2 - 0.5)
        ImageDraw.Draw(image).text(
            (left, RESOLUTION / 2), chr(character), font=self.font, fill=255, anchor="lm"
        )
        return np.asarray(image)

    def _advance(self, character: int) -> float:
        """Return the unhinted width in pixels, to 1/64.

        Pillow centers by this width only where the machine has its text-shaping library, and by a
        rounded one elsewhere. Asking the outlines gives every machine the same pixels, and so the
        same look-alikes and the same test.
        """
        from matplotlib.ft2font import LoadFlags

        glyph = self.outlines.load_char(character, flags=LoadFlags.NO_HINTING)
        return math.floor(glyph.linearHoriAdvance / 1024 + 0.5) / 64
