"""Every common way to write captions down: tables, JSON in three layouts, JSON lines, Flickr's token files.

Each reader yields rows (picture name, captions, split, where it stands) and knows nothing of
picture files; `listing` ties the two together. What a file lacks is said with its line and with
both what was found and what was looked for.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import DataError

from .columns import (
    MAX_COLUMNS,
    NotCaptions,
    Options,
    Remarks,
    Row,
    caption_keys,
    has_both,
    missing_column,
    row_of,
)
from .splits import COLUMN
from .texts import parsed, read_lines, text_of

SEPARATORS = "\t,;|"
SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".token")
MAX_TABLE_BYTES = 2**31
_TOKEN_LINE = re.compile(r"([^\t]+)#\d+\t(.*)")


def read(path: Path, options: Options, remarks: Remarks) -> tuple[str, Iterator[Row]]:
    """Return the layout of a caption file, in words, and its rows; what no row has used is named in `remarks`.

    DataError for a file that can't be read, or a line that may mean two things; NotCaptions for one
    that holds no captions.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _read_json(path, options, remarks)
    lines = read_lines(path, MAX_TABLE_BYTES)
    if suffix == ".jsonl":
        return "JSON lines", _records(path, _json_lines(path, lines), options, remarks)
    if lines and _TOKEN_LINE.fullmatch(lines[0]):
        return "Flickr tokens", _token_lines(path, lines)
    return _read_table(path, lines, options, remarks)


# ---------------------------------------------------------------------- tables
def _read_table(
    path: Path, lines: list[str], options: Options, remarks: Remarks
) -> tuple[str, Iterator[Row]]:
    """Sniff the separator as the one whose header names a picture column and a caption column (open_clip writes tabs into .csv)."""
    header: list[str] = []
    for separator in options.separator or SEPARATORS:
        try:
            columns = [
                name.strip() for name in next(csv.reader(lines[:1], delimiter=separator), [])
            ]
        except csv.Error:  # a field beyond the reader's limit: no header
            continue
        if len(columns) <= MAX_COLUMNS and has_both(columns, options):
            named = [name for name in columns if name]
            if len(set(named)) < len(named):
                twice = next(name for place, name in enumerate(named) if name in named[:place])
                raise DataError(
                    f"{path} line 1 has the column {twice!r} twice: give each a name of its own."
                )
            return f"table separated by {separator!r}", _table_rows(
                path, lines, columns, separator, options, remarks
            )
        header = max(header, columns, key=len)
    raise missing_column(path, "line 1", header, options)


def _table_rows(
    path: Path,
    lines: list[str],
    columns: list[str],
    separator: str,
    options: Options,
    remarks: Remarks,
) -> Iterator[Row]:
    reader = csv.reader((line + "\n" for line in lines), delimiter=separator, strict=True)
    # A column without a name is an index that pandas has written, or nothing at all.
    keys = [name or " " * (place + 1) for place, name in enumerate(columns)]
    texts = caption_keys(keys, options)
    try:
        next(reader)
        start, widest = reader.line_num, 0
        for values in reader:
            line, start = (
                (lines[start], reader.line_num)
                if reader.line_num == start + 1
                else ("", reader.line_num)
            )
            values = [value.strip() for value in values]
            widest = max(widest, len(values))
            if len(values) > len(columns):
                values = _unquoted(line, keys, texts, separator)
                if not values:
                    raise DataError(
                        f"{path} line {reader.line_num} has more fields than the {len(columns)} columns of its first line: "
                        f"put captions with a {separator!r} in them into quotation marks, or name the columns."
                    )
                remarks.add(
                    path.name,
                    "line",
                    [f"line {start}"],
                    f"with {separator!r} in a caption without quotation marks, read whole",
                )
            if any(values):
                where = f"{path.name} line {reader.line_num}"
                record: dict[str, Any] = dict(zip(keys, values, strict=False))
                yield row_of(record, where, options, remarks, place=path.name, kind="column")
        # Where the first line has lost its end, the first row stands behind the names.
        remarks.add(
            path.name,
            "column",
            filter(None, columns[widest:]),
            "that no row has a cell for, not used",
        )
    except csv.Error as problem:
        raise DataError(
            f"{path} line {reader.line_num} is no row of a table ({problem}): check its quotes and separators."
        ) from None


def _unquoted(line: str, keys: list[str], texts: set[str], separator: str) -> list[str]:
    """Return the fields of a line whose caption has commas and no quotation marks, or nothing if another reading is possible.

    In prose a comma is followed by a space, between fields it is not: taken so, the line must have
    one field a column, and only captions a comma.
    """
    if separator not in ",;" or '"' in line:
        return []
    values = [value.strip() for value in re.split(f"{separator}(?! )", line)]
    fits = len(values) == len(keys) and all(
        separator not in value or key in texts for key, value in zip(keys, values, strict=True)
    )
    return values if fits else []


# ---------------------------------------------------------------------- JSON
def _json_lines(path: Path, lines: list[str]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield (
                f"line {number}",
                parsed(line, f"{path} line {number}", "a .jsonl has one {...} a line"),
            )


def _records(
    path: Path, records: Iterator[tuple[str, Any]], options: Options, remarks: Remarks
) -> Iterator[Row]:
    """Yield records as rows; one without the keys of captions is left out by name, unless it is the first: then nothing is a caption."""
    first = True
    for where, record in records:
        if isinstance(record, dict) and has_both(record, options):
            yield row_of(record, f"{path.name} {where}", options, remarks, place=path.name)
        elif first:
            raise missing_column(
                path,
                where,
                record if isinstance(record, dict) else [type(record).__name__],
                options,
            )
        else:
            found = (
                ", ".join(list(record)[:6]) or "nothing"
                if isinstance(record, dict)
                else type(record).__name__
            )
            yield Row(
                "",
                [],
                {},
                f"{path.name} {where}",
                f"no picture's name and caption in a record that has {found}",
            )
        first = False


def _read_json(path: Path, options: Options, remarks: Remarks) -> tuple[str, Iterator[Row]]:
    content = parsed(
        text_of(path, MAX_TABLE_BYTES), str(path), "for one record a line, name it .jsonl"
    )
    if isinstance(content, list):
        return "BLIP list", _records(
            path,
            ((f"entry {number}", record) for number, record in enumerate(content)),
            options,
            remarks,
        )
    images = content.get("images") if isinstance(content, dict) else None
    if isinstance(images, list) and isinstance(content.get("annotations"), list):
        remarks.add(path.name, "key", sorted(set(content) - {"images", "annotations"}))
        return "COCO captions", _coco_rows(path, images, content["annotations"], remarks)
    if (
        isinstance(images, list)
        and images
        and all(isinstance(image, dict) and "sentences" in image for image in images)
    ):
        remarks.add(path.name, "key", sorted(set(content) - {"images"}))
        return "Karpathy split", _karpathy_rows(path, images, remarks)
    found = ", ".join(list(content)[:12]) if isinstance(content, dict) else type(content).__name__
    raise NotCaptions(
        f"{path} has {found} but caption files have images and annotations (COCO) or are a list (BLIP): rearrange it."
    )


def _coco_rows(
    path: Path, images: list[Any], annotations: list[Any], remarks: Remarks
) -> Iterator[Row]:
    captions: dict[Any, list[Any]] = {}
    known: dict[Any, dict[str, Any]] = {}
    try:
        for image in images:
            before = known.setdefault(image["id"], image)
            if before["file_name"] != image["file_name"]:
                raise DataError(
                    f"{path} gives the id {image['id']!r} to {before['file_name']!r} and {image['file_name']!r}: number them anew."
                )
            remarks.add(
                path.name,
                "key",
                (f"images.{key}" for key in image if key not in ("id", "file_name", COLUMN)),
            )
        for annotation in annotations:
            captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
            remarks.add(
                path.name,
                "key",
                (
                    f"annotations.{key}"
                    for key in annotation
                    if key not in ("id", "image_id", "caption")
                ),
            )
    except (KeyError, TypeError, AttributeError) as problem:
        raise NotCaptions(
            f"{path} lacks {problem} in an entry, but COCO has images[id, file_name] and annotations[image_id, caption]: "
            "for captions, give captions_*.json and not instances_*.json."
        ) from None
    for number in dict.fromkeys([*known, *captions]):
        image = known.get(number, {})
        missing = "" if number in captions else f"no annotation has the image_id {number!r}"
        missing = missing or (
            ""
            if number in known
            else f"no image has the id {number!r}, which {len(captions[number])} annotations name"
        )
        record = {
            "file_name": str(image.get("file_name", "")),
            "caption": captions.get(number, []),
            COLUMN: image.get(COLUMN),
        }
        row = row_of(
            record, f"{path.name} image id {number!r}", Options(), remarks, place=path.name
        )
        yield row._replace(problem=row.problem or missing)


def _karpathy_rows(path: Path, images: list[dict[str, Any]], remarks: Remarks) -> Iterator[Row]:
    for number, image in enumerate(images):
        sentences = (
            image["sentences"] if isinstance(image["sentences"], list) else [image["sentences"]]
        )
        captions = [
            sentence.get("raw") if isinstance(sentence, dict) else sentence
            for sentence in sentences
        ]
        name = "/".join(str(image[key]) for key in ("filepath", "filename") if image.get(key))
        remarks.add(
            path.name,
            "key",
            (key for key in image if key not in ("filepath", "filename", "sentences", COLUMN)),
        )
        inner = (key for sentence in sentences if isinstance(sentence, dict) for key in sentence)
        remarks.add(path.name, "key", (f"sentences.{key}" for key in inner if key != "raw"))
        record = {"file_name": name, "caption": captions, COLUMN: image.get(COLUMN)}
        yield row_of(record, f"{path.name} image {number}", Options(), remarks, place=path.name)


# ---------------------------------------------------------------------- Flickr
def _token_lines(path: Path, lines: list[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        found = _TOKEN_LINE.fullmatch(line)
        if found:
            yield Row(found[1], [found[2]], {}, f"{path.name} line {number}")
        elif line.strip():
            raise DataError(
                f"{path} line {number} is {line[:40]!r} but Flickr's token lines are picture.jpg#0<TAB>caption: mend the line."
            )
