"""Pictures with a text beside each, 001.jpg and 001.txt: one bad text is skipped by name, and ends nothing."""

import os
from collections import Counter
from pathlib import Path

from tinymm.arrays.errors import DataError

from ..images import SUFFIXES
from . import splits
from .columns import NotCaptions, checked_caption
from .entries import Entry, Listing
from .names import clean, is_hidden, printable, walk
from .shards import MAX_TEXT_BYTES
from .texts import read_lines


class Nothing(NotCaptions):
    """A folder without any captions."""


def beside(folder: Path) -> Listing:
    """Return the pictures below a folder that have a text of their own name beside them, and skip those that have none by name.

    Nothing, a DataError, where no picture has one; DataError for a folder without a split among
    folders of splits.
    """
    listing = Listing("a .txt beside each picture", [])
    files = [file for file in walk(folder) if not is_hidden(file, folder)]
    pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
    texts: dict[Path, list[Path]] = {}
    for file in files:
        if file.suffix.lower() == ".txt":
            texts.setdefault(file.with_suffix(""), []).append(file)
    if not any(file.with_suffix("") in texts for file in pictures):
        raise Nothing(f"{folder} has no .txt beside a picture.")
    owners = Counter(file.with_suffix("") for file in pictures)
    for file in pictures:
        stem, name = file.with_suffix(""), clean(file.relative_to(folder).as_posix())
        texts_beside = texts.get(stem, [file.with_suffix(".txt")])
        listing.read.update(texts_beside)
        if owners[stem] > 1 or len(texts_beside) > 1:
            listing.skip(
                name,
                f"{owners[stem]} pictures and {len(texts_beside)} texts are called {stem.name}: give each pair a name of its own",
            )
            continue
        found, reason = _texts_of(texts_beside[0])
        if found:
            listing.entries.append(
                Entry(
                    printable(name), file, found, splits.of_path(Path(name).parts[:-1], name), name
                )
            )
        if reason:
            listing.skip(name, reason)
    told = sorted({Path(entry.key).parent.as_posix() for entry in listing.entries if entry.split})
    for entry in [entry for entry in listing.entries if told and not entry.split]:
        if "/" in entry.key:
            raise DataError(
                f"{folder} has folders of splits ({', '.join(told[:4])}), and {entry.name} stands in none of them: "
                "rename its folder, or move it away."
            )
        listing.entries.remove(entry)
        listing.skip(
            entry.name,
            f"stands beside the folders of splits ({', '.join(told[:4])}) and in none of them",
        )
    return listing


def _texts_of(file: Path) -> tuple[list[str], str]:
    """Return the captions in a text beside a picture, one a line, and what can't be used."""
    if not os.path.lexists(file):
        return [], f"no caption in {file.name}"
    try:
        found = [checked_caption(line) for line in read_lines(file, MAX_TEXT_BYTES)]
    except DataError as problem:
        return [], str(problem)
    texts, reasons = [text for text, _ in found if text], [reason for _, reason in found if reason]
    return texts, "; ".join(reasons) or ("" if texts else f"no caption in {file.name}")
