"""Folders of pictures with a text beside each: encodings, stray and hidden files, split folders,
capital letters, two pictures of one name, texts without a picture, lines that end otherwise."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import accounts
from .cases import Trial
from .mutations import changed_bytes

SIGNS = ("\r", "\x0b", "\x0c", "\x85", "\u2028", "\x00", "\ufeff", "\u200b", "\ud7ff", "\U0001f600")

HOWS = (
    "encoding", "empty", "gone", "alone", "apple", "capital", "twin", "signs", "bytes", "folder",
    "table", "long", "crlf", "bom", "stray",
    "hidden",
)  # fmt: skip


def case(rng: random.Random, folder: Path) -> Trial:
    """Return such a folder with a few changes, and the call that loads it."""
    below = rng.choice(("", "", "", "splits", "deep"))
    files: dict[str, bytes] = {}
    places = ("train", "train", "train", "val", "test") if below == "splits" else ("",)
    for i in range(10):
        place = {"deep": f"a/b{i % 2}", "splits": places[i % len(places)]}.get(below, "")
        lead = f"{place}/" if place else ""
        lines = [accounts.caption(rng, 10 * i + j) for j in range(rng.choice((1, 1, 2)))]
        files[f"{lead}p{i}.png"] = accounts.picture()
        files[f"{lead}p{i}.txt"] = ("\n".join(lines) + rng.choice(("", "\n"))).encode()
    count, said = rng.choices((0, 1, 2, 3), (3, 57, 28, 12))[0], [below or "flat"]
    said += [changed_files(rng, files) for _ in range(count)]
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return Trial(
        "; ".join(said), accounts.loader(folder),
        lambda found: judge(found, files, "bytes" not in " ".join(said)),
        accounts.status, valid=not count,
    )  # fmt: skip


def changed_files(rng: random.Random, files: dict[str, bytes]) -> str:
    """Change one file of the folder, and return the change in words."""
    texts = [name for name in files if name.endswith(".txt") and "/._" not in "/" + name]
    if not texts:
        return "no text left"
    name = rng.choice(texts)
    stem = name.removesuffix(".txt")
    number = int(stem.split("/")[-1].split("p")[-1][:1] or 0) if "p" in stem else 0
    how = rng.choice(HOWS)
    if how == "encoding":
        text = files[name].decode("utf-8", "replace").replace("a ", "ä ")
        files[name] = text.encode(rng.choice(("latin-1", "utf-16", "cp1252", "utf-32")), "replace")
    elif how == "empty":
        files[name] = rng.choice((b"", b"\n\n", b"   ", b"\xef\xbb\xbf"))
    elif how == "gone":
        del files[name]
    elif how == "alone":
        files.pop(f"{stem}.png", None)
    elif how == "apple":
        parts = name.rsplit("/", 1)
        files["/".join([*parts[:-1], "._" + parts[-1]])] = (
            b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(40)
        )
        files["/".join([*parts[:-1], "._" + parts[-1]]).replace(".txt", ".png")] = (
            b"\x00\x05\x16\x07" + bytes(40)
        )
    elif how == "capital":
        files[stem + rng.choice((".TXT", ".Txt"))] = files.pop(name)
    elif how == "twin":
        files[f"{stem}.jpg"] = accounts.picture("JPEG")
    elif how == "signs":
        files[name] = files[name].replace(b" ", f" {rng.choice(SIGNS)} ".encode(), 1)
    elif how == "bytes":
        files[name], change = changed_bytes(rng, files[name], 2)
        return f"{name}: {change}"
    elif how == "folder":
        place = rng.choice(("Train", "TEST", "valid", "holdout", "val2017", "fold3", "testing"))
        for suffix in (".txt", ".png"):
            if stem + suffix in files:
                files[f"{place}/p{number}{suffix}"] = files.pop(stem + suffix)
        return f"{name} in {place}"
    elif how == "table":
        files["notes.csv"] = b"a,b\n1,2\n"
    elif how == "long":
        files[name] = files[name] + b" " + b"word " * rng.choice((1000, 100_000))
    elif how == "crlf":
        files[name] = files[name].replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\r")))
    elif how == "bom":
        files[name] = b"\xef\xbb\xbf" + files[name]
    elif how == "stray":
        files[f"{rng.choice(('', 'train/', 'x/'))}p{number}9.png"] = accounts.picture()
    else:
        files[f".hidden/p{number}.png"] = accounts.picture()
        files[f".hidden/p{number}.txt"] = f"k{970 + number}s hidden k{970 + number}e".encode()
    return f"{name}: {how}"


def counted_only(found: Any, files: dict[str, bytes]) -> set[str]:
    """Return the files that remarks count without their names: three are shown of "7 .txt files not used".

    Only where as many are counted as nothing was made of.
    """
    used = {Path(entry.name).stem for _, entry in accounts.entries(found)}
    skipped = " ".join(f"{name} {reason}" for name, reason in found.skipped)
    told = re.findall(r": ([\d,]+) (\.\w+) files? not used", accounts.named(found))
    counts = {suffix: int(count.replace(",", "")) for count, suffix in told}
    gone = [
        name for name in files
        if Path(name).stem not in used and "/." not in f"/{name}" and name not in skipped
    ]  # fmt: skip
    of = {kind: {name for name in gone if Path(name).suffix.lower() == kind} for kind in counts}
    return {name for kind, names in of.items() if counts[kind] == len(names) for name in names}


def judge(found: Any, files: dict[str, bytes], readable: bool) -> Iterator[str]:
    """Yield what is wrong with what was made of the folder."""
    texts = {name: data for name, data in files.items() if name.lower().endswith(".txt")}
    whole = readable and not any(
        b"\r" in data.replace(b"\r\n", b"") or b"\x00" in data for data in texts.values()
    )
    went_in = [token for data in texts.values() for token in accounts.tokens_in(data)]
    owner = {token: name for name, data in texts.items() for token in accounts.tokens_in(data)}
    counted = counted_only(found, files)

    def mentions(number: int) -> list[str]:
        names = [owner[token] for token in (f"k{number}s", f"k{number}e") if token in owner]
        more = ["hidden file"] if any("/." in f"/{name}" for name in names) else []
        return [*names, *more, *([" .txt files not used"] if counted.issuperset(names) else [])]

    yield from accounts.audit(found, went_in, mentions, whole=whole)
    splits: dict[int, str] = {}
    for token, name in owner.items():
        splits[int(token[1:-1]) // 10 if token[1] != "0" or len(token) == 3 else -1] = (
            name.split("/")[0] if "/" in name else ""
        )
    if readable and all(word in accounts.SPLITS for word in splits.values()):
        yield from accounts.held_out(found, splits)
    for split, entry in accounts.entries(found):
        if split == "train" and accounts.may_train(entry.name.split("/")[0]) is False:
            yield f"split: {entry.name} is trained on"
    said, used = (
        accounts.named(found),
        {Path(entry.name).name for _, entry in accounts.entries(found)},
    )
    for name in files:
        if (
            name.endswith((".png", ".jpg"))
            and Path(name).name not in used
            and Path(name).stem not in said
            and not ("/." in f"/{name}" and "hidden file" in said)
            and name not in counted
        ):
            yield f"dropped: the picture {name} is neither used nor named"
    for _, entry in accounts.entries(found):
        stem = Path(entry.name).stem
        for text in entry.captions:
            for number, end in accounts.TOKEN.findall(text):
                where = owner.get(f"k{number}{end}", "")
                if where and readable and Path(where).stem != stem:
                    yield f"mixed: {text[:40]!r} of {where} is the caption of {entry.name}"
