"""Tar shards of WebDataset: links, names that climb out, compressed and cut archives, headers of
other kinds, samples without a picture, two of one name, members of unknown kinds, damaged bytes."""

import io
import json
import random
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import accounts
from .cases import Trial
from .mutations import changed_bytes, changed_json


def members(rng: random.Random, first: int, count: int) -> list[tuple[str, bytes]]:
    """Return the files of a shard, sample by sample."""
    style, found = rng.choice(("txt", "txt", "json", "both")), []
    for i in range(first, first + count):
        lead = rng.choice(("", "", "a/"))
        kind = rng.choice(("png", "png", "jpg"))
        found.append((f"{lead}p{i}.{kind}", accounts.picture("JPEG" if kind == "jpg" else "PNG")))
        if style != "json":
            found.append((f"{lead}p{i}.txt", accounts.caption(rng, 10 * i).encode()))
        if style != "txt":
            other = style == "json" or rng.random() < 0.05
            text = (
                accounts.caption(rng, 10 * i + (style != "json"))
                if other
                else found[-1][1].decode()
            )
            record = {"caption": text, "url": f"http://example.org/{i}", "width": 8}
            found.append((f"{lead}p{i}.json", json.dumps(record).encode()))
    return found


def packed(
    rng: random.Random, files: list[tuple[str, bytes]], special: list[tarfile.TarInfo]
) -> bytes:
    """Return the files as an uncompressed tar of one of three formats."""
    out = io.BytesIO()
    form = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
            if special and rng.random() < 0.3:
                tar.addfile(special.pop())
        for entry in special:
            tar.addfile(entry)
    return out.getvalue()


def changed_files(
    rng: random.Random, files: list[tuple[str, bytes]], special: list[tarfile.TarInfo]
) -> str:
    """Change one member in place, and return the change in words."""
    i = rng.randrange(len(files))
    name, data = files[i]
    how = rng.choice(
        (
            "climb",
            "absolute",
            "link",
            "hard link",
            "device",
            "gone",
            "twice",
            "rename",
            "kind",
            "bytes",
            "json",
            "move",
            "empty",
            "encoding",
            "dots",
            "unknown",
        )
    )
    if how in ("climb", "absolute"):
        files[i] = (("../canary" if how == "climb" else "/tmp/canary") + Path(name).suffix, data)
    elif how in ("link", "hard link", "device"):
        entry = tarfile.TarInfo(rng.choice(("p0.txt", "p99.png", "link.txt")))
        entry.type = {"link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE}.get(
            how, tarfile.CHRTYPE
        )
        entry.linkname = rng.choice(("/etc/passwd", "../canary", "p1.txt"))
        special.append(entry)
    elif how == "gone":
        del files[i]
    elif how == "twice":
        files.insert(rng.randrange(len(files) + 1), (name, data))
    elif how == "rename":
        files[i] = (f"q{i}{Path(name).suffix}", data)
    elif how == "kind":
        files[i] = (
            Path(name).stem + rng.choice((".jpg", ".txt", ".JPG", ".png", ".json", ".gif")),
            data,
        )
    elif how == "bytes":
        files[i] = (name, changed_bytes(rng, data, 2)[0])
    elif how == "json" and name.endswith(".json"):
        try:
            value = json.loads(data)
        except ValueError:
            return f"{name}: no json"
        said = changed_json(rng, value)
        files[i] = (name, json.dumps(value).encode())
        return f"{name}: {said}"
    elif how == "move":
        files.insert(rng.randrange(len(files)), files.pop(i))
    elif how == "empty":
        files[i] = (name, b"")
    elif how == "encoding":
        files[i] = (name, "Bär ä ".encode("latin-1") + data)
    elif how == "dots":
        files[i] = (f"{Path(name).stem}.seg{Path(name).suffix}", data)
    else:
        suffix = rng.choice((".cls", ".npy", ".jpg.gz", ".txt.bak", ".caption", ".mp4", ""))
        files.insert(i, (Path(name).stem + suffix, b"k%ds x k%de" % (950 + i, 950 + i)))
    return f"{name}: {how}"


def case(rng: random.Random, folder: Path) -> Trial:
    """Return one or two shards with a few changes, and the call that loads them."""
    shards, said = rng.choice((1, 1, 2)), []
    count = rng.choices((0, 1, 2, 3), (3, 57, 28, 12))[0]
    listing: dict[str, list[tuple[str, bytes]]] = {}
    changes, damaged = (
        [rng.choice(("member", "member", "member", "archive")) for _ in range(count)],
        False,
    )
    for number in range(shards):
        files, special = members(rng, 8 * number // shards, 8 // shards), []
        for change in changes:
            if change == "member" and rng.randrange(shards) == 0 and files:
                said.append(changed_files(rng, files, special))
        name = f"shard-{number:03}.tar"
        data = packed(rng, files, special)
        if "archive" in changes and number == 0:
            data, change = changed_archive(rng, data)
            said.append(change)
            damaged = True
        listing[name] = files
        (folder / name).write_bytes(data)
    path = rng.choice((folder, folder / f"shard-{{000..{shards - 1:03}}}.tar"))
    if rng.random() < 0.03 and count:
        path = folder / rng.choice(
            (
                "shard-{000..005}.tar",
                "shard-{5..0}.tar",
                "shard-{0..}.tar",
                "shard-{a..b}.tar",
                "{0..9}{0..9}.tar",
            )
        )
        said.append(path.name)
    return Trial(
        "; ".join(said) or "valid", accounts.loader(path),
        lambda found: judge(found, listing, damaged), accounts.status, valid=not count,
    )  # fmt: skip


def changed_archive(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    """Return an archive whose own bytes are changed."""
    import bz2
    import gzip

    how = rng.choice(
        ("bytes", "bytes", "cut", "gzip", "bzip2", "header", "size", "nothing", "text")
    )
    spot = 512 * rng.randrange(max(1, len(data) // 512))
    if how == "bytes":
        return changed_bytes(rng, data, 3)
    if how == "cut":
        return data[: rng.randrange(len(data))], how
    if how == "header":
        return data[:spot] + bytes(rng.randrange(256) for _ in range(512)) + data[spot + 512 :], how
    if how == "size":  # a size that is larger than the file, or is none
        size = rng.choice(
            (b"77777777777\x00", b"\x80" + b"\xff" * 11, b"-0000000001\x00", b"zzzzzzzzzzz\x00")
        )
        return data[:124] + size + data[136:], how
    return {
        "gzip": gzip.compress(data),
        "bzip2": bz2.compress(data),
        "nothing": b"",
        "text": b"a tar?",
    }[how], how


def judge(found: Any, listing: dict[str, list[tuple[str, bytes]]], damaged: bool) -> Iterator[str]:
    """Yield what is wrong with what was made of the shards; of a damaged one only that nothing is mixed."""
    said = accounts.named(found)
    used = " ".join(entry.name for _, entry in accounts.entries(found))
    owner: dict[str, set[str]] = {}
    went_in: list[str] = []
    for shard, files in listing.items():
        for name, data in files:
            tokens = accounts.tokens_in(data) if not name.endswith((".png", ".jpg")) else []
            for token in tokens:
                owner.setdefault(token, set()).add(name)
            went_in += tokens
            stem = Path(name).name.split(".")[0]
            if not damaged and stem not in said and stem not in used:
                yield f"dropped: the member {shard}:{name} is neither used nor named"

    # Captions of a .json beside a .txt are counted, and three of them named.
    told = re.search(r": ([\d,]+) captions? differing from the .txt", said)
    everything = " ".join(text for _, entry in accounts.entries(found) for text in entry.captions)
    names_of = {name for files in listing.values() for name, _ in files}
    left = {
        name for token, names in owner.items() for name in names
        if name.endswith(".json") and f"{name[:-5]}.txt" in names_of and token not in everything
        and not any(one.endswith(f":{name[:-5]}") for one, _ in found.skipped)
    }  # fmt: skip
    counted = left if told and int(told[1].replace(",", "")) == len(left) else set()

    def mentions(number: int) -> list[str]:
        names = {name for token in (f"k{number}s", f"k{number}e") for name in owner.get(token, ())}
        return [*([" differing from the .txt"] if names and names <= counted else [])] + [
            word
            for name in names
            for word in (f":{name}", *(f":{name.split('.')[0]}{sign}" for sign in ":,)"))
        ]

    if not damaged:
        yield from accounts.audit(found, went_in, mentions, whole=False)
    for _, entry in accounts.entries(found):
        stem = entry.name.split("/")[-1].split(":")[-1]
        for text in entry.captions:
            for number, end in accounts.TOKEN.findall(text):
                names = owner.get(f"k{number}{end}", set())
                stems = {Path(name).name.split(".")[0] for name in names}
                if names and not damaged and stem.split(".")[0] not in stems:
                    yield f"mixed: {text[:40]!r} of {sorted(names)[0]} is the caption of {entry.name}"
