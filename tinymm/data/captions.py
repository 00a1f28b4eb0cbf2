"""Every common way to write captions down: tables, JSON in three layouts, JSON lines, Flickr's token files.

Each reader yields rows (picture name, captions, split, where it stands) and knows nothing of picture files; `listing` ties the
two together. What a file lacks is said with its line and with both what was found and what was looked for.
"""

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tinymm.arrays.errors import DataError

PICTURE_COLUMNS = ("file_name", "filepath", "image", "image_path", "image_name", "filename", "file", "path", "img", "picture")
CAPTION_COLUMNS = ("text", "title", "caption", "captions", "description", "sentence", "comment", "raw")
SEPARATORS = "\t,;|"
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".token")
_TOKEN_LINE = re.compile(r"(\S+)#\d+\t(.*)")


@dataclass(frozen=True)
class Options:
    """What a reader can't always guess: the columns' names, the separator, and the folder that picture names start from."""

    picture_column: str | None = None
    caption_column: str | None = None
    separator: str | None = None
    pictures: str | os.PathLike[str] | None = None


class Row(NamedTuple):
    """One entry of a caption file, as it stands there."""

    picture: str
    captions: list[str]
    split: str
    where: str


def read(path: Path, options: Options) -> tuple[str, Iterator[Row]]:
    """Return the layout of a caption file, in words, and its rows."""
    if path.suffix == ".json":
        return _read_json(path, options)
    lines = read_lines(path)
    if path.suffix == ".jsonl":
        return "JSON lines", _json_lines(path, lines, options)
    if lines and _TOKEN_LINE.fullmatch(lines[0]):
        return "Flickr tokens", _token_lines(path, lines)
    return _read_table(path, lines, options)


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, with or without a byte-order mark; DataError for any other encoding."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as problem:
        raise DataError(f"Caption files are UTF-8 but {path} is not, from byte {problem.start}: save it as UTF-8.") from None


def _read_table(path: Path, lines: list[str], options: Options) -> tuple[str, Iterator[Row]]:
    """Sniff the separator as the one whose header names a picture column and a caption column (open_clip writes tabs into .csv)."""
    header: list[str] = []
    for separator in options.separator or SEPARATORS:
        columns = [name.strip() for name in next(csv.reader(lines[:1], delimiter=separator), [])]
        record = dict.fromkeys(columns, "x")
        if picture_of(record, options) and captions_of(record, options):
            return f"table separated by {separator!r}", _table_rows(path, lines, columns, separator, options)
        header = max(header, columns, key=len)
    raise _missing_column(path, 1, header, options)


def _table_rows(path: Path, lines: list[str], columns: list[str], separator: str, options: Options) -> Iterator[Row]:
    reader = csv.reader((line + "\n" for line in lines), delimiter=separator, strict=True)
    try:
        next(reader)
        for values in reader:
            where = f"{path.name} line {reader.line_num}"
            record: dict[str, Any] = dict(zip(columns, (value.strip() for value in values), strict=False))
            if values and any(values):
                yield Row(picture_of(record, options), captions_of(record, options), record.get("split", ""), where)
    except csv.Error as problem:
        raise DataError(f"{path} line {reader.line_num} is no row of a table ({problem}): check its quotes and separators.") from None


def _json_lines(path: Path, lines: list[str], options: Options) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError as problem:
                raise DataError(f"{path} line {number} is not JSON ({problem}): a .jsonl has one {{...}} a line.") from None
            yield _row_of(record, path, f"line {number}", options)


def _token_lines(path: Path, lines: list[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        found = _TOKEN_LINE.fullmatch(line.rstrip("\r"))
        if found:
            yield Row(found[1], [found[2]], "", f"{path.name} line {number}")
        elif line.strip():
            raise DataError(f"{path} line {number} is {line[:40]!r} but Flickr's token lines are picture.jpg#0<TAB>caption: mend the line.")


def _read_json(path: Path, options: Options) -> tuple[str, Iterator[Row]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as problem:
        raise DataError(f"{path} is not JSON ({problem}): for one record a line, name it .jsonl.") from None
    if isinstance(content, list):
        return "BLIP list", (_row_of(record, path, f"entry {number}", options) for number, record in enumerate(content))
    images = content.get("images") if isinstance(content, dict) else None
    if isinstance(images, list) and isinstance(content.get("annotations"), list):
        return "COCO captions", _coco_rows(path, images, content["annotations"])
    if isinstance(images, list) and images and all(isinstance(image, dict) and "sentences" in image for image in images):
        return "Karpathy split", _karpathy_rows(path, images)
    found = ", ".join(content) if isinstance(content, dict) else type(content).__name__
    raise DataError(f"{path} has {found} but caption files have images and annotations (COCO) or are a list (BLIP): rearrange it.")


def _coco_rows(path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Iterator[Row]:
    try:
        names = {image["id"]: str(image["file_name"]) for image in images}
        captions: dict[Any, list[str]] = {}
        for annotation in annotations:
            captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    except (KeyError, TypeError) as problem:
        raise DataError(
            f"{path} lacks {problem} in an entry, but COCO has images[id, file_name] and annotations[image_id, caption]: "
            "for captions, give captions_*.json and not instances_*.json."
        ) from None
    for number in dict.fromkeys([*names, *captions]):
        yield Row(names.get(number, ""), captions.get(number, []), "", f"{path.name} image id {number}")


def _karpathy_rows(path: Path, images: list[dict[str, Any]]) -> Iterator[Row]:
    for number, image in enumerate(images):
        captions = [sentence.get("raw", "") for sentence in image["sentences"] or [] if isinstance(sentence, dict)]
        name = "/".join(str(image[key]) for key in ("filepath", "filename") if image.get(key))
        yield Row(name, captions, str(image.get("split", "")), f"{path.name} image {number}")


def _row_of(record: Any, path: Path, where: str, options: Options) -> Row:
    found = list(record) if isinstance(record, dict) else [type(record).__name__]
    if not isinstance(record, dict) or not picture_of(record, options):
        raise _missing_column(path, where, found, options)
    captions = captions_of(record, options)
    if not captions and not any(key.rstrip("_0123456789") in CAPTION_COLUMNS for key in record):
        raise _missing_column(path, where, found, options)
    return Row(picture_of(record, options), captions, str(record.get("split", "")), f"{path.name} {where}")


def picture_of(record: dict[str, Any], options: Options) -> str:
    """Return the picture's name in a record, or an empty string."""
    columns = (options.picture_column,) if options.picture_column else PICTURE_COLUMNS
    return next((record[column] for column in columns if isinstance(record.get(column), str)), "")


def captions_of(record: dict[str, Any], options: Options) -> list[str]:
    """Return the captions of a record: a string, a list of strings, or numbered keys.

    >>> captions_of({"image": "a.png", "caption_0": "a cat", "caption_1": "an animal"}, Options())
    ['a cat', 'an animal']
    """
    for column in (options.caption_column,) if options.caption_column else CAPTION_COLUMNS:
        numbered = sorted(key for key in record if re.fullmatch(rf"{re.escape(column)}_?\d+", key))
        values = record[column] if column in record else [record[key] for key in numbered]
        values = [value for value in (values if isinstance(values, list) else [values]) if isinstance(value, str)]
        if values:
            return values
    return []


def _missing_column(path: Path, where: int | str, found: Iterable[str], options: Options) -> DataError:
    return DataError(
        f"{path} {f'line {where}' if isinstance(where, int) else where} has {', '.join(map(str, found)) or 'nothing'}, but captions need "
        f"a picture's name ({options.picture_column or ', '.join(PICTURE_COLUMNS)}) "
        f"and a caption ({options.caption_column or ', '.join(CAPTION_COLUMNS)}): rename them, or pass picture_column= and caption_column=."
    )
