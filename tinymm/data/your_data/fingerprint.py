"""A fingerprint of a run's data: enough to name what has changed when the run is resumed or evaluated later.

Whoever resumes on other captions goes on with another task, and whoever evaluates on another split
may call trained pictures "kept back". A fingerprint keeps every picture's name, and of its captions
and of its bytes 8 bytes each: about 3 MB for 100,000 pictures, so a run folder can hold it and both
can be told by name.
"""

import base64
import zlib
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from tinymm.arrays.errors import DataError

from ..batches import Record, digest

__all__ = ["SPLITS", "Record", "difference", "digest", "fingerprint", "trained_on"]

SPLITS = ("train", "validation", "test")
_WIDTH, _MOST_BYTES, _EXAMPLES = 8, 2**30, 3


def fingerprint(source: Any) -> dict[str, Any]:
    """Return what is remembered of a source, ready for JSON: counts, a digest of everything, and the packed records.

    >>> class Two:
    ...     def records(self):
    ...         return [Record("a.png", ("a cat",), "train"), Record("b.png", ("a dog",), "validation")]
    >>> {key: value for key, value in fingerprint(Two()).items() if key in ("pictures", "captions", "splits")}
    {'pictures': 2, 'captions': 2, 'splits': {'train': 1, 'validation': 1}}
    """
    records = sorted(source.records(), key=lambda record: record.name)
    names = "\0".join(record.name for record in records).encode("utf-8", "surrogateescape")
    marks = b"".join(
        bytes([SPLITS.index(record.split)])
        + digest("\0".join(record.captions).encode())
        + record.content.ljust(_WIDTH, b"\0")
        for record in records
    )
    return {
        "pictures": len(records),
        "captions": sum(len(record.captions) for record in records),
        "splits": dict(Counter(record.split for record in records)),
        "digest": blake2b(names + b"\0" + marks, digest_size=16).hexdigest(),
        "names": base64.b64encode(zlib.compress(names, 9)).decode(),
        "marks": base64.b64encode(marks).decode(),
    }


def difference(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """Return what differs between two fingerprints in one phrase with examples, or None where nothing does.

    DataError for a fingerprint that is damaged.

    >>> class One:
    ...     def __init__(self, caption): self.caption = caption
    ...     def records(self): return [Record("a.png", (self.caption,), "train")]
    >>> difference(*(fingerprint(One(caption)) for caption in ("a cat", "a dog")))
    'the captions of 1 picture have changed (a.png)'
    """
    if old.get("digest") == new.get("digest"):
        return None
    before, after = _unpacked(old), _unpacked(new)
    both = [name for name in after if name in before]
    moves: dict[tuple[str, str], list[str]] = {}
    for name in both:
        if before[name].split != after[name].split:
            moves.setdefault((before[name].split, after[name].split), []).append(name)
    found = [
        _counted(
            [name for name in after if name not in before], "has been added", "have been added"
        ),
        _counted([name for name in before if name not in after], "is gone", "are gone"),
        *(
            _counted(names, *[f"{verb} moved from {a} to {b}" for verb in ("has", "have")])
            for (a, b), names in moves.items()
        ),
        _counted(
            [name for name in both if before[name].captions != after[name].captions],
            front="the captions of ",
        ),
        _counted(
            [name for name in both if before[name].content != after[name].content],
            front="the bytes of ",
        ),
    ]
    return ", ".join(part for part in found if part) or "names that stand there twice"


def trained_on(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the pictures outside `new`'s training split that `old`'s training split holds, by name or as the same bytes.

    Here `old` is what a model was trained on and `new` what it is judged by; DataError for a
    fingerprint that is damaged.
    """
    seen = {name: mark for name, mark in _unpacked(old).items() if mark.split == "train"}
    contents = {mark.content for mark in seen.values()} - {bytes(_WIDTH)}
    return [
        name
        for name, mark in _unpacked(new).items()
        if mark.split != "train" and (name in seen or mark.content in contents)
    ]


class _Mark(NamedTuple):
    split: str
    captions: bytes
    content: bytes


def _unpacked(packed: dict[str, Any]) -> dict[str, _Mark]:
    try:
        unzip = zlib.decompressobj()
        raw = unzip.decompress(base64.b64decode(packed["names"], validate=True), _MOST_BYTES)
        names = raw.decode("utf-8", "surrogateescape").split("\0") if packed["pictures"] else []
        marks = np.frombuffer(base64.b64decode(packed["marks"], validate=True), np.uint8).reshape(
            len(names), 1 + 2 * _WIDTH
        )
        splits = [SPLITS[split] for split in marks[:, 0]]
    except (KeyError, TypeError, ValueError, IndexError, zlib.error) as problem:
        raise DataError(
            f"A fingerprint has the names and marks of its pictures, but this one is damaged ({problem}): restore it."
        ) from None
    rows = (row.tobytes() for row in marks)
    return {
        name: _Mark(split, row[1 : 1 + _WIDTH], row[1 + _WIDTH :])
        for name, split, row in zip(names, splits, rows, strict=True)
    }


def _counted(
    names: Iterable[str],
    one: str = "has changed",
    several: str = "have changed",
    *,
    front: str = "",
) -> str:
    names = list(names)
    if not names:
        return ""
    shown = ", ".join(names[:_EXAMPLES]) + ", …" * (len(names) > _EXAMPLES)
    verb = "have changed" if front else one if len(names) == 1 else several
    return f"{front}{len(names):,} picture{'s' * (len(names) > 1)} {verb} ({shown})"
