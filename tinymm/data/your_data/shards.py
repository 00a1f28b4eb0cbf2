"""WebDataset shards: tar archives in which files of one stem are one sample, read in place and never unpacked to disk.

An uncompressed tar keeps each file's bytes in one run, so a picture is a seek and a read away:
training can shuffle freely over shards, which streaming readers can't.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

from tinymm.arrays.errors import DataError

from ..images import SUFFIXES
from .columns import Remarks
from .names import clean, printable
from .texts import decoded, lines_of, parsed

MAX_PICTURE_BYTES, MAX_TEXT_BYTES, MAX_SHARDS = 2**28, 2**20, 100_000
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
    """The files of one stem: the picture's place, lines of text, what its .json said, and why it can't be used, if so."""

    name: str
    key: str
    archive: Path
    picture: Member | None = None
    texts: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    members: set[str] = field(default_factory=set)


def is_range(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has a brace range in it, as shards/{00..09}.tar has, and is no file of that name."""
    return bool(_RANGE.search(os.fspath(path))) and not os.path.exists(path)


def expand(path: Path) -> list[Path]:
    """Return the archives that a path with brace ranges stands for; DataError for a range that counts down, or for more than `MAX_SHARDS`.

    >>> [part.name for part in expand(Path("shard-{008..010}.tar"))]
    ['shard-008.tar', 'shard-009.tar', 'shard-010.tar']
    """
    if not is_range(path):
        return [path]
    # Text, first, last, text, first, last, …, text: as many numbers as the ranges have, if they are few enough.
    texts, count, numbers = (parts := _RANGE.split(str(path)))[::3], 1, []
    for first, last in zip(parts[1::3], parts[2::3], strict=True):
        count *= int(last) - int(first) + 1
        if int(last) < int(first) or count > MAX_SHARDS:
            raise DataError(
                f"Ranges of shards count up, to at most {MAX_SHARDS:,} shards in all, but {{{first}..{last}}} came: "
                "write {00000..00009}."
            )
        numbers.append([f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)])
    return [
        Path(texts[0] + "".join(map("".join, zip(chosen, texts[1:], strict=True))))
        for chosen in product(*numbers)
    ]


def samples(
    archives: list[Path], skipped: list[tuple[str, str]], remarks: Remarks
) -> Iterator[Sample]:
    """Yield the samples that have a picture; what can't be used is added to `skipped` with its reason, or to `remarks`.

    Files of one key are one sample wherever they stand in their archive, but a kind of file that a
    key has twice may be of another sample: then nobody can tell, and the key is left out. Names
    that are absolute or climb out with `..` mark an archive made to overwrite files: it is refused,
    although nothing is unpacked here. DataError for a shard that is missing or damaged.
    """
    above = os.path.commonpath([archive.absolute().parent for archive in archives])
    for archive in archives:
        found: dict[str, Sample] = {}
        name = Path(os.path.relpath(archive.absolute(), above)).as_posix()
        try:
            with tarfile.open(archive, "r:") as tar:
                for member in tar:
                    _add(found, archive, name, member, tar, skipped, remarks)
        except FileNotFoundError:
            raise DataError(
                f"A shard is missing: {archive} is not there; check the range of numbers."
            ) from None
        except DataError:
            raise
        except (
            Exception
        ) as problem:  # headers of damaged archives make tarfile raise a dozen unrelated kinds
            if not found:
                raise DataError(
                    f"{archive} is no tar that can be read in place ({problem}): copy it whole, uncompressed."
                ) from None
            skipped.append((str(archive), f"cut off after {len(found)} samples ({problem})"))
        for sample in found.values():
            if sample.picture and not sample.problem:
                yield sample
            else:
                skipped.append(
                    (
                        sample.name,
                        sample.problem
                        or f"no picture beside its caption (one of {', '.join(SUFFIXES)})",
                    )
                )


def _add(
    found: dict[str, Sample],
    archive: Path,
    shard: str,
    member: tarfile.TarInfo,
    tar: tarfile.TarFile,
    skipped: list[tuple[str, str]],
    remarks: Remarks,
) -> None:
    place = PurePosixPath(member.name)
    if place.is_absolute() or ".." in place.parts:
        raise DataError(
            f"Names in a shard stay inside it, but {archive} has {member.name!r}: don't unpack it, and write it again."
        )
    if member.isdir():
        return
    stem, _, kind = place.name.partition(".")
    kind = "." + kind.lower()
    where = printable(f"{shard}:{place}")
    if not member.isreg() or member.issparse():
        remarks.add("the shards", "link, sparse or special file", [where])
        return
    if any(part.startswith(".") for part in place.parts):
        remarks.add("the shards", "hidden file", [where])
        return
    if kind not in (*SUFFIXES, ".txt", ".json"):
        remarks.add("the shards", f"{kind} file", [where])
        return
    key = clean(place.with_name(stem).as_posix())
    name = printable(f"{shard}:{key}")
    sample = found.setdefault(key, Sample(name, key, archive))
    sort = "picture" if kind in SUFFIXES else kind
    if sort in sample.members:
        sample.problem = (
            sample.problem
            or f"more than one {sort} of this key in the archive: two samples may be mixed"
        )
        return
    sample.members.add(sort)
    if member.size > (MAX_PICTURE_BYTES if kind in SUFFIXES else MAX_TEXT_BYTES):
        skipped.append((where, f"{member.size} bytes are too many"))
    elif kind in SUFFIXES:
        sample.picture = Member(archive, member.offset_data, member.size)
    else:
        content = tar.extractfile(member)
        try:
            text = decoded(content.read() if content else b"", where)
            if kind == ".txt":
                sample.texts = [line for line in lines_of(text) if line.strip()]
                return
            record = parsed(text, where, "a .json beside a picture has one {...}")
            if isinstance(record, dict):
                sample.record = record
            else:
                skipped.append(
                    (
                        where,
                        f"a .json beside a picture is one {{...}}, not a {type(record).__name__}",
                    )
                )
        except DataError as problem:
            skipped.append((where, str(problem)))
