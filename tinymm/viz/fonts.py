"""Letters that DejaVu Sans lacks: an installed font that has them, or a word that there is none."""

import logging
import unicodedata
from functools import cache
from pathlib import Path

#: The families to draw with, for Matplotlib's `family=`: what comes with it, the same on every
#: machine, then what was found on this one.
FAMILIES = ["DejaVu Sans"]
#: Parts of names of fonts that have many scripts, or one that others lack: these are opened first,
#: and others after them.
_LIKELY = (
    "notosanscjk notoserifcjk wqy droidsansfallback sourcehansans takao ipag unifont arialuni msyh "
    "simsun pingfang hiragino yugoth malgun nanum batang uming ukai loma garuda waree thai tlwg khmer "
    "padauk myanmar lao tibetan jomolhari symbola emoji notosans"
).split()
#: Not looked at: other weights and slants of a font have no more letters than its plain one.
_STYLED = ("bold", "italic", "oblique", "light", "black", "thin", "dejavu")
#: Files that are opened at most for one text: a machine may have thousands.
_MOST = 300
_missing: dict[str, None] = {}


@cache
def _own() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family=FAMILIES[0]))).get_charmap())


@cache
def _installed() -> list[tuple[str, dict[str, object]]]:
    """Return this machine's font files, likely ones first, each with a place for what it has."""
    from matplotlib.font_manager import findSystemFonts

    def order(path: str) -> tuple[int, bool, str]:
        name = Path(path).name.lower().replace("_", "")
        return (
            next((i for i, part in enumerate(_LIKELY) if part in name), len(_LIKELY)),
            "mono" in name or "type" in name,
            path,
        )

    files = sorted(
        (
            path
            for path in findSystemFonts()
            if not any(word in Path(path).name.lower() for word in _STYLED)
        ),
        key=order,
    )
    return [(path, {}) for path in files[:_MOST]]


_found: dict[str, bool] = {}


def has(letter: str) -> bool:
    """Say whether a letter can be drawn, by a font that is added to `FAMILIES` if need be."""
    if ord(letter) in _own():
        return True
    if letter not in _found:
        _found[letter] = _add_font_for(letter)
        if not _found[letter]:
            _missing[script(letter)] = None
    return _found[letter]


def _add_font_for(letter: str) -> bool:
    from matplotlib.font_manager import fontManager, get_font

    for path, known in _installed():
        if "letters" not in known:
            try:
                font = get_font(path)
                known["letters"] = (
                    frozenset(font.get_charmap()) if font.scalable else frozenset()
                )  # pictures of color cannot be drawn
                known["family"] = font.family_name
            except (
                OSError,
                RuntimeError,
                ValueError,
            ):  # a broken file, or a kind that Matplotlib does not open
                known["letters"] = frozenset()
        if ord(letter) in known["letters"]:  # type: ignore[operator]
            family = str(known["family"])
            if family not in FAMILIES:
                logging.getLogger("matplotlib.font_manager").setLevel(
                    logging.ERROR
                )  # it would tell of each weight that the font lacks
                fontManager.addfont(path)
                FAMILIES.append(family)
            return True
    return False


def script(letter: str) -> str:
    r"""Return the name of the script that a letter belongs to, as Unicode's names begin.

    >>> script("\u732b"), script("\u0e41"), script("\U0001f600")
    ('Chinese characters', 'Thai', 'emoji')
    """
    name = unicodedata.name(letter, "")
    if unicodedata.category(letter) == "So":
        return "emoji"
    return (
        "Chinese characters"
        if name.startswith("CJK")
        else name.split(" ")[0].capitalize()
        if name
        else "letters without a name"
    )


def not_drawn() -> str | None:
    """Return a sentence on the scripts shown as boxes since it was asked last; None if there were none."""
    if not _missing:
        return None
    names = ", ".join(_missing)
    _missing.clear()
    return (
        f"no font on this machine has {names}: pictures show □ in their place; install one (on Debian "
        "and Ubuntu: apt-get install fonts-noto-core fonts-noto-cjk fonts-symbola) and draw again"
    )
