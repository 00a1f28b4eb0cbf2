"""Columns of a caption file: which hold the image's name, its captions, its split, and which are unused.

Whatever an input holds is used, or named by `Remarks`, or refused: a column that silently goes
nowhere may be the one that said "test".
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from tinymm.arrays.errors import DataError

from . import splits
from .names import printable

PICTURE_COLUMNS = (
    "file_name",
    "filepath",
    "image",
    "image_path",
    "image_name",
    "filename",
    "file",
    "path",
    "img",
    "picture",
)
CAPTION_COLUMNS = (
    "text",
    "title",
    "caption",
    "captions",
    "description",
    "sentence",
    "comment",
    "raw",
)
MAX_CAPTION, MAX_COLUMNS = 2**16, 10_000
_SHOWN, _MOST = 3, 100_000


class NotCaptions(DataError):
    """A file that is well formed and no caption file: something else may stand beside it."""


@dataclass(frozen=True)
class Options:
    """What a reader can't always guess: the columns' names, the separator, and the folder that picture names start from."""

    picture_column: str | None = None
    caption_column: str | None = None
    separator: str | None = None
    pictures: Any = None


class Row(NamedTuple):
    """One entry of a caption file as it stands there; `said` is what its split columns say, `problem` why a caption is left out."""

    picture: str
    captions: list[str]
    said: dict[str, Any]
    where: str
    problem: str = ""


@dataclass
class Remarks:
    """What inputs hold and nothing is made of, or something else than they say: by place and kind the items, each once."""

    found: dict[tuple[str, str, str], dict[str, None]] = field(default_factory=dict)

    def add(self, place: str, kind: str, items: Iterable[str], said: str = "not used") -> None:
        """Remember items of a kind, such as a column or a .md file, at a place, and what is said of them."""
        for item in items:
            named = self.found.setdefault((place, kind, said), {})
            if len(named) < _MOST:
                named[item] = None

    def lines(self) -> list[str]:
        """Return a line for each place and kind, with a few examples.

        >>> remarks = Remarks()
        >>> remarks.add("a.csv", "column", ["url", "width"])
        >>> remarks.lines()
        ['a.csv: 2 columns not used (url, width)']
        """
        result = []
        for (place, kind, said), items in self.found.items():
            shown = ", ".join(printable(item)[:160] for item in list(items)[:_SHOWN]) + ", …" * (
                len(items) > _SHOWN
            )
            count = f"{len(items):,}" + " or more" * (len(items) == _MOST)
            result.append(f"{place}: {count} {kind}{'s' * (len(items) > 1)} {said} ({shown})")
        return result


class _Plan(NamedTuple):
    """What the keys of a record mean: pictures and groups of caption keys in order of preference, the columns of splits."""

    pictures: list[str]
    captions: list[list[str]]
    splits: dict[str, str]


@lru_cache(maxsize=256)
def _plan(keys: tuple[str, ...], options: Options) -> _Plan:
    plain = {key: re.sub(r"[\s-]+", "_", key.strip()).casefold() for key in keys}
    numbered = {key: re.sub(r"_?\d+$", "", name) for key, name in plain.items()}

    def meaning(
        names: dict[str, str], wanted: str | None, usual: tuple[str, ...]
    ) -> list[list[str]]:
        if wanted is not None:
            return [
                [key for key in keys if key == wanted]
                or [key for key in keys if re.fullmatch(rf"{re.escape(wanted)}_?\d+", key)]
            ]
        return [[key for key in keys if names[key] == name] for name in usual]

    pictures = [
        key for group in meaning(plain, options.picture_column, PICTURE_COLUMNS) for key in group
    ]
    groups = []
    whole, parts = (
        meaning(names, options.caption_column, CAPTION_COLUMNS) for names in (plain, numbered)
    )
    for group, rest in zip(whole, parts, strict=True):
        group = group or sorted(rest, key=lambda key: (len(key), key))
        groups += [group] if group else []
    return _Plan(
        pictures,
        groups,
        {key: name for key, name in plain.items() if name in (splits.COLUMN, *splits.PERHAPS)},
    )


def has_both(keys: Iterable[str], options: Options) -> bool:
    """Return whether these columns hold a picture's name and a caption."""
    plan = _plan(tuple(keys), options)
    return bool(plan.pictures and plan.captions)


def caption_keys(keys: Iterable[str], options: Options) -> set[str]:
    """Return the columns that captions may stand in."""
    return {key for group in _plan(tuple(keys), options).captions for key in group}


def row_of(
    record: dict[str, Any],
    where: str,
    options: Options,
    remarks: Remarks,
    *,
    place: str,
    kind: str = "key",
) -> Row:
    """Return a record as a row: the first column with a name, the first with captions, and the others named in `remarks`."""
    plan = _plan(tuple(record), options)
    picture = next(
        (key for key in plan.pictures if isinstance(record[key], str) and record[key].strip()), None
    )
    captions: list[str] = []
    problem = ""
    used = set(plan.splits) | ({picture} if picture is not None else set())
    for group in plan.captions:
        for key in group:
            captions, problem = _captions(record[key], captions, problem)
        if captions or problem:
            used |= set(group)
            break
    remarks.add(
        place,
        kind,
        (
            key.strip() or "without a name"
            for key in record
            if key not in used and not _empty(record[key])
        ),
    )
    said = {name: record[key] for key, name in plan.splits.items()}
    return Row(record[picture] if picture is not None else "", captions, said, where, problem)


def _captions(value: Any, captions: list[str], problem: str) -> tuple[list[str], str]:
    found = [checked_caption(text) for text in (value if isinstance(value, list) else [value])]
    wrong = [problem, *(reason for _, reason in found)]
    return captions + [text for text, _ in found if text], "; ".join(filter(None, wrong))


def checked_caption(text: Any) -> tuple[str, str]:
    """Return a caption without the space around it, or nothing and what is wrong with it.

    >>> checked_caption(" a cat "), checked_caption(3)
    (('a cat', ''), ('', 'a caption is text, and 3 is none'))
    """
    if text is None:
        return "", ""
    if not isinstance(text, str):
        return "", f"a caption is text, and {_short(text)} is none"
    if len(text) > MAX_CAPTION:
        return "", f"a caption of {len(text):,} characters, more than {MAX_CAPTION:,}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "", f"a caption with half a character: {printable(_short(text))}"
    return text.strip(), ""


def missing_column(path: Path, where: str, found: Iterable[str], options: Options) -> NotCaptions:
    """Return the error for columns without a picture's name or without a caption."""
    columns = [str(column) for column in found]
    shown = ", ".join(printable(column)[:60] for column in columns[:12]) + ", …" * (
        len(columns) > 12
    )
    return NotCaptions(
        f"{path} {where} has {shown or 'nothing'}, but captions need "
        f"a picture's name ({options.picture_column or ', '.join(PICTURE_COLUMNS)}) "
        f"and a caption ({options.caption_column or ', '.join(CAPTION_COLUMNS)}): name the columns so in its first line or its "
        "records; in Python, or pass picture_column= and caption_column=."
    )


def _empty(value: Any) -> bool:
    return value is None or value == "" or value == []


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
