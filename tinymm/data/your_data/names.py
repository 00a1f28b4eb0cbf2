"""Names of files as people and programs write them, and the file that each may mean.

A Mac decomposes its accents, Windows writes backslashes, and a word processor turns quotation
marks: names are compared after all three, and a name that then fits two files fits none.
"""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

from ..images import SUFFIXES

#: Quotation marks, dashes and spaces as word processors set them, and what the keyboard has.
_TYPED = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032", "'") | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-") | {"\u00a0": " ", "\u202f": " "}
)  # fmt: skip


def clean(name: str) -> str:
    r"""Return a picture's name in one form: composed (NFC), with slashes, and without the ./ of its own folder.

    >>> clean(".\\dogs\\cafe\u0301.png")
    'dogs/café.png'
    """
    name = unicodedata.normalize("NFC", name.strip()).replace("\\", "/")
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def printable(name: str) -> str:
    r"""Return a name that any terminal and any JSON file can hold: what is no character, and controls, are written as escapes.

    >>> print(printable("a\nb.png"))
    a\nb.png
    """
    if name.isprintable():
        return name
    kept = (
        char if char.isprintable() or char == " " else char.encode("unicode_escape").decode()
        for char in name
    )
    return "".join(kept)


def is_hidden(path: Path, folder: Path) -> bool:
    """Return whether a file or a folder above it, below `folder`, begins with a dot, as AppleDouble's ._001.jpg does."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def walk(
    folder: Path, unreadable: Callable[[OSError], object] = lambda problem: None
) -> list[Path]:
    """Return all files below a folder, hidden ones too, in an order that no file system decides."""
    return sorted(
        Path(place, name)
        for place, _, names in os.walk(folder, onerror=unreadable)
        for name in names
    )


class Pictures:
    """The picture files below a folder that names in a caption file may mean."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_path: dict[str, list[Path]] | None = None
        self._by_name: dict[str, list[Path]] = {}
        self._found: dict[str, tuple[Path | None, str]] = {}

    def find(self, name: str) -> tuple[Path | None, str]:
        """Return the file of a name, or None and the reason: tried where the name says, then in one form, then by its last part."""
        if name not in self._found:
            self._found[name] = self._look(name)
        return self._found[name]

    def _look(self, name: str) -> tuple[Path | None, str]:
        # Unlike Path.is_file, os.path's bears a name that is too long: a caption in the wrong column.
        direct = self.folder / name
        if os.path.isfile(direct):
            return Path(os.path.normpath(direct)), ""
        if self._by_path is None:
            self._read()
        assert self._by_path is not None
        last = clean(name).rsplit("/", 1)[-1]
        for table, key in (
            (self._by_path, clean(name)),
            (self._by_path, _folded(name)),
            (self._by_name, last),
            (self._by_name, _folded(last)),
        ):
            candidates = table.get(key, [])
            if len(candidates) == 1:
                return candidates[0], ""
            if candidates:
                where = ", ".join(
                    printable(str(file.relative_to(self.folder))) for file in candidates[:3]
                )
                return None, f"{len(candidates)} pictures of that name below {self.folder}: {where}"
        return None, f"no such picture below {self.folder}"

    def _read(self) -> None:
        self._by_path = {}
        for file in walk(self.folder):
            if file.suffix.lower() in SUFFIXES and not is_hidden(file, self.folder):
                whole = file.relative_to(self.folder).as_posix()
                for table, name in ((self._by_path, whole), (self._by_name, file.name)):
                    for key in {clean(name), _folded(name)}:
                        table.setdefault(key, []).append(file)


def _folded(name: str) -> str:
    return clean(name).translate(_TYPED)
