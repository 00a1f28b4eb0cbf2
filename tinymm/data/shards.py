"""WebDataset shards: tar archives in which files of one stem are one sample, read in place and never unpacked to disk.

An uncompressed tar keeps each file's bytes in one run, so a picture is a seek and a read away: training can shuffle freely
over shards, which streaming readers can't.
"""

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tinymm.arrays.errors import DataError

from .images import SUFFIXES

MAX_PICTURE_BYTES, MAX_TEXT_BYTES = 2**28, 2**20
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True)
class Member:
    """A file inside an archive: where its bytes start and how many they are."""

    archive: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the file's bytes."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass
class Sample:
    """The files of one stem: the picture's place, lines of text, and what its .json said."""

    name: str
    picture: Member | None = None
    texts: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)


def expand(path: Path) -> list[Path]:
    """Return the archives that a path with brace ranges stands for.

    >>> [part.name for part in expand(Path("shard-{008..010}.tar"))]
    ['shard-008.tar', 'shard-009.tar', 'shard-010.tar']
    """
    found = _RANGE.search(str(path))
    if not found:
        return [path]
    first, last = found.groups()
    numbers = range(int(first), int(last) + 1)
    start, end = str(path)[: found.start()], str(path)[found.end() :]
    return [part for number in numbers for part in expand(Path(f"{start}{number:0{len(first)}d}{end}"))]


def samples(archives: list[Path], skipped: list[tuple[str, str]]) -> Iterator[Sample]:
    """Yield the samples that have a picture; what can't be used is added to `skipped` with its reason.

    Names that are absolute or climb out with `..` mark an archive made to overwrite files: it is refused, although nothing
    is unpacked here. DataError for a shard that is missing or damaged.
    """
    for archive in archives:
        found: dict[str, Sample] = {}
        try:
            with tarfile.open(archive, "r:") as tar:
                for member in tar:
                    _add(found, archive, member, tar, skipped)
        except FileNotFoundError:
            raise DataError(f"A shard is missing: {archive} is not there; check the range of numbers.") from None
        except (tarfile.TarError, OSError, EOFError) as problem:
            if not found:
                raise DataError(f"{archive} is no tar that can be read in place ({problem}): copy it whole, uncompressed.") from None
            skipped.append((str(archive), f"cut off after {len(found)} samples ({problem})"))
        for sample in found.values():
            if sample.picture:
                yield sample
            else:
                skipped.append((sample.name, f"no picture beside its caption (one of {', '.join(SUFFIXES)})"))


def _add(found: dict[str, Sample], archive: Path, member: tarfile.TarInfo, tar: tarfile.TarFile, skipped: list[tuple[str, str]]) -> None:
    place = PurePosixPath(member.name)
    if place.is_absolute() or ".." in place.parts:
        raise DataError(f"Names in a shard stay inside it, but {archive} has {member.name!r}: don't unpack it, and write it again.")
    stem, _, kind = place.name.partition(".")
    kind = "." + kind.lower()
    if not member.isreg() or kind not in (*SUFFIXES, ".txt", ".json"):
        return
    name = f"{archive.name}:{place.with_name(stem)}"
    sample = found.setdefault(name, Sample(name))
    if member.size > (MAX_PICTURE_BYTES if kind in SUFFIXES else MAX_TEXT_BYTES):
        skipped.append((f"{archive.name}:{place}", f"{member.size} bytes are too many"))
    elif kind in SUFFIXES:
        sample.picture = Member(archive, member.offset_data, member.size)
    else:
        content = tar.extractfile(member)
        text = content.read().decode("utf-8", errors="replace") if content else ""
        try:
            sample.texts += [text] if kind == ".txt" else []
            record = json.loads(text) if kind == ".json" else {}
            sample.record |= record if isinstance(record, dict) else {}
        except ValueError as problem:
            skipped.append((f"{archive.name}:{place}", f"not JSON ({problem})"))
