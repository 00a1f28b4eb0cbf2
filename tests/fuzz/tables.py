"""Caption tables: CSV, TSV and other separators, JSON lines, Flickr's token files, `metadata.*`.

Cells are removed, emptied, moved, retyped; columns renamed, repeated, left out; rows get too many
or too few cells; quotation marks go; splits get other words; lines end otherwise; bytes change.
"""

import csv
import io
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import accounts
from .cases import Trial
from .mutations import STRANGE, changed_bytes, near, repeated_key

PICTURES = ("file_name", "filepath", "image", "filename", "img")
PICTURE, HEAD = re.compile(r"\bp\d\.png\b"), re.compile(r"[,;|\t]")
CAPTIONS = ("text", "title", "caption", "description", "comment")


def records(rng: random.Random) -> list[dict[str, Any]]:
    """Return eight records of a table, each with one or more captions."""
    picture, text = rng.choice(PICTURES), rng.choice(CAPTIONS)
    several, split = rng.random() < 0.3, rng.random() < 0.5
    rows: list[dict[str, Any]] = []
    for i in range(8):
        row: dict[str, Any] = {picture: f"p{i}.png"}
        if several:
            row |= {f"{text}_{j}": accounts.caption(rng, 10 * i + j) for j in range(2)}
        else:
            row |= {text: accounts.caption(rng, 10 * i)}
        if split:
            row["split"] = ("train", "train", "train", "val", "test")[i % 5]
        if rng.random() < 0.2:
            row["note"] = "x"
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    if rng.random() < 0.3:
        rng.shuffle(names)
    return [{name: row.get(name, "") for name in names} for row in rows]


def changed_rows(rng: random.Random, rows: list[dict[str, Any]]) -> str:
    """Change one cell, row or column in place, and return the change in words."""
    i = rng.randrange(len(rows))
    row = rows[i]
    if not row:
        return "an empty row"
    name = rng.choice(list(row))
    how = rng.choice(
        (
            "empty",
            "near",
            "strange",
            "drop row",
            "repeat row",
            "rename",
            "gone",
            "split",
            "path",
            "twice",
        )
    )
    if how == "empty":
        row[name] = rng.choice(("", " ", "\t", "\u00a0"))
    elif how == "near":
        row[name] = near(rng, row[name])
    elif how == "strange":
        row[name] = rng.choice(STRANGE)
    elif how == "drop row":
        del rows[i]
    elif how == "repeat row":
        rows.insert(rng.randrange(len(rows) + 1), dict(row))
    elif how == "rename":
        other = rng.choice(
            ("Caption", name.upper(), "captions", "text", "image", "label", f"{name}_0", " " + name)
        )
        for each in rows:
            if name in each and other not in each:
                each[other] = each.pop(name)
    elif how == "gone":
        for each in rows:
            each.pop(name, None)
    elif how == "split":
        for each in rng.sample(rows, rng.randint(1, len(rows))):
            each["split"] = rng.choice(list(accounts.SPLITS))
        for each in rows:
            each.setdefault("split", "train")
    elif how == "path":
        first = next((key for key in row if key in PICTURES), name)
        row[first] = rng.choice(
            (
                f"./p{i}.png",
                f"images\\p{i}.png",
                f"images/p{i}.png",
                f"../in/p{i}.png",
                f"P{i}.PNG",
                f"p{i}",
                "no.png",
            )
        )
    else:
        extra = rng.choice(CAPTIONS)
        for j, each in enumerate(rows):
            each.setdefault(extra, f"k{10 * j + 7}s more k{10 * j + 7}e")
    return f"row {i} {name}: {how}"


def written(rng: random.Random, rows: list[dict[str, Any]], separator: str, end: str) -> str:
    """Return the rows as a table."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["x"]
    out = io.StringIO()
    table = csv.writer(out, delimiter=separator, lineterminator=end, quoting=rng.choice((0, 0, 1)))
    table.writerow(names)
    for row in rows:
        table.writerow(
            ["" if row.get(name) is None else _cell(row.get(name, "")) for name in names]
        )
    return out.getvalue()


def _cell(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode()


def changed_text(rng: random.Random, text: str, separator: str) -> tuple[str, str]:
    """Return the table's text with one change in its lines or signs."""
    lines = text.splitlines(keepends=True)
    if len(lines) < 2:
        return text, "too short"
    i = rng.randrange(len(lines))
    how = rng.choice(
        (
            "unquote",
            "surplus",
            "short",
            "quote",
            "blank",
            "cut",
            "header twice",
            "no header",
            "separator",
            "join",
        )
    )
    if how == "unquote":
        lines[i] = lines[i].replace('"', "")
    elif how == "surplus":
        i = max(1, i)
        lines[i] = lines[i].rstrip("\r\n") + f"{separator} k{880 + i}s more k{880 + i}e\n"
    elif how == "short":
        lines[i] = lines[i].split(separator)[0] + "\n"
    elif how == "quote":
        spot = rng.randrange(len(lines[i]))
        lines[i] = lines[i][:spot] + '"' + lines[i][spot:]
    elif how == "blank":
        lines.insert(i, rng.choice(("\n", "  \n", separator + "\n", "#x\n")))
    elif how == "cut":
        lines = lines[:i] + [lines[i][: len(lines[i]) // 2]]
    elif how == "header twice":
        lines.insert(i, lines[0])
    elif how == "no header":
        del lines[0]
    elif how == "separator":
        lines[i] = lines[i].replace(separator, rng.choice(",;|\t"))
    else:
        lines[i] = lines[i].rstrip("\r\n")
    return "".join(lines), f"line {i}: {how}"


def pictures_of(rng: random.Random, folder: Path, count: int = 8) -> None:
    """Write the pictures that the captions are of, here or in a folder below."""
    place = folder if rng.random() < 0.8 else folder / "images"
    place.mkdir(exist_ok=True)
    for i in range(count):
        (place / f"p{i}.png").write_bytes(accounts.picture())
    if rng.random() < 0.1:
        (place / f"p{rng.randrange(count)}.png").unlink()


def case(rng: random.Random, folder: Path) -> Trial:
    """Return a table with a few changes, and the call that loads it."""
    style = rng.choice(("csv", "csv", "tsv", "semicolon", "bar", "jsonl", "token", "metadata"))
    rows, said, byte_level = records(rng), [style], False
    count = rng.choices((0, 1, 2, 3), (3, 55, 30, 12))[0]
    separator = {"tsv": "\t", "semicolon": ";", "bar": "|"}.get(style, ",")
    kinds = [rng.choice(("rows", "rows", "text", "text", "bytes")) for _ in range(count)]
    said += [changed_rows(rng, rows) for kind in kinds if kind == "rows" and rows]
    if style == "jsonl":
        text = "\n".join(json.dumps(row) for row in rows) + "\n"
    elif style == "token":
        texts = [
            value for row in rows for value in map(str, row.values()) if accounts.TOKEN.match(value)
        ]
        lines = (
            f"p{int(accounts.TOKEN.findall(text)[0][0]) // 10}.png#{j}\t{text}"
            for j, text in enumerate(texts)
        )
        text = "\n".join(line.replace("\n", " ") for line in lines) + "\n"
    else:
        text = written(rng, rows, separator, rng.choice(("\n", "\n", "\r\n")))
    for _ in range(kinds.count("text")):
        text, change = changed_text(rng, text, "\t" if style == "token" else separator)
        said.append(change)
    data = text.encode("utf-8", "surrogatepass" if "\ud800" in text else "strict")
    if style == "jsonl" and rng.random() < 0.05 and count:
        data, change = repeated_key(rng, data)
        said.append(change)
        byte_level = True
    if rng.random() < 0.1:
        data = b"\xef\xbb\xbf" + data
    if rng.random() < 0.04 and count:
        data = data.decode("utf-8", "replace").encode(
            rng.choice(("latin-1", "utf-16", "cp1252")), "replace"
        )
        said.append("another encoding")
        byte_level = True
    for _ in range(kinds.count("bytes")):
        data, change = changed_bytes(rng, data, 2)
        said.append(change)
        byte_level = True
    suffix = {"semicolon": "csv", "bar": "csv"}.get(style, style)
    name = {"token": "results.token", "metadata": "metadata.csv"}.get(style, f"captions.{suffix}")
    (folder / name).write_bytes(data)
    pictures = random.Random(rng.random())
    pictures_of(pictures, folder)
    splits = (
        split_words(rows) if not byte_level and "text" not in kinds and style != "token" else {}
    )
    words = " ".join(said).split()
    whole = not byte_level and not {"cut", "join", "quote", "near", "header", "separator"} & {
        word.strip(";") for word in words
    }
    path = folder if rng.random() < 0.7 else folder / name
    return Trial(
        "; ".join(said),
        accounts.loader(path),
        lambda found: judge(found, data, [] if byte_level else rows, splits, whole),
        accounts.status,
        valid=not count
        and style != "metadata"
        and all((folder / f"p{i}.png").exists() for i in range(8)),
    )


def split_words(rows: list[dict[str, Any]]) -> dict[int, str]:
    """Return the word for its split by the number of the picture, where no picture has two."""
    found: dict[int, set[str]] = {}
    for row in rows:
        for value in row.values():
            for number, _ in accounts.TOKEN.findall(str(value)):
                found.setdefault(int(number) // 10, set()).add(str(row.get("split", "")))
    return {number: words.pop() for number, words in found.items() if len(words) == 1}


def judge(
    found: Any, data: bytes, rows: list[dict[str, Any]], splits: dict[int, str], whole: bool
) -> Iterator[str]:
    """Yield what is wrong with what was made of a table."""
    text = data.decode("utf-8", "replace")
    lines = text.split("\n")
    names = {name.strip() for row in rows for name in row}
    stand = [name in lines[0] for name in names]
    hit = "{" not in lines[0] and any(stand) and (not all(stand) or accounts.tokens_in(lines[0]))

    def mentions(number: int) -> list[str]:
        at = [
            i for i, line in enumerate(lines, 1) if f"k{number}s" in line or f"k{number}e" in line
        ]
        lines_near = [f"line {i + more}" for i in at for more in range(-1, 4)]
        lines_near += [f"{name}: " for i in at for name in PICTURE.findall(lines[i - 1])]
        if not rows or hit:  # the columns' names may be others now
            return [*lines_near, "not used ("]
        columns = {name for row in rows for name, cell in row.items() if f"k{number}s" in str(cell)}
        # A quotation mark that came to a column's name belongs to the name.
        cells = [cell.strip() for cell in HEAD.split(lines[0])]
        cells += [cell[1:-1].replace('""', '"') for cell in cells if cell[:1] == cell[-1:] == '"']
        columns |= {cell for cell in cells for name in columns if name in cell}
        called = (
            row[key]
            for row in rows if f"k{number}s" in str(row)
            for key in row if key in PICTURES and str(row[key]).strip()
        )  # fmt: skip
        return [
            *lines_near,
            *(f"{name}: " for name in called),
            *(f"{a}{name.strip()}{b}" for name in columns for a in " (" for b in ",)"),
        ]

    yield from accounts.audit(found, accounts.tokens_in(data), mentions, whole=whole)
    yield from accounts.held_out(found, splits)
    yield from mixed(found, lines)


def mixed(found: Any, lines: list[str]) -> Iterator[str]:
    """Yield a complaint for each caption whose line does not name its picture."""
    for _, entry in accounts.entries(found):
        name = entry.name.replace("\\", "/").split("/")[-1]
        for text in entry.captions:
            for number, _ in accounts.TOKEN.findall(text):
                near_it = [
                    i
                    for i, line in enumerate(lines)
                    if f"k{number}s" in line or f"k{number}e" in line
                ]
                around = "".join("".join(lines[max(0, i - 3) : i + 4]) for i in near_it)
                if near_it and name not in around:
                    yield f"mixed: {text[:40]!r} is the caption of {name}, which stands elsewhere"
