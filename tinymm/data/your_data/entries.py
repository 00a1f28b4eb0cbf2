"""A picture with its captions, all of them together, and on which side of a split each stands by the data's own words.

Two words that disagree are an error, and so is a picture that nothing is said of beside others that
something is said of: a guess here is a picture trained on that should have been kept back.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tinymm.arrays.errors import DataError

from . import shards, splits
from .columns import Remarks, Row
from .fingerprint import digest
from .names import printable

_ENDS = 4096


@dataclass
class Entry:
    """A picture with all its captions; `split` is "train", "validation", "test", or "" where the data does not say.

    `name` is what people read, `key` what a drawn split is drawn by: the picture's path below its
    folder, or its key in a shard, so that neither another shard nor another spelling moves it.
    """

    name: str
    file: Path | shards.Member
    captions: list[str]
    split: str = ""
    key: str = ""

    def source(self) -> Path | bytes:
        """Return what `images.open_picture` opens: the path, or the bytes from inside an archive."""
        return self.file.read() if isinstance(self.file, shards.Member) else self.file

    def digest(self) -> bytes:
        """Return 8 bytes that tell the picture's content: of its size, its first and its last 4 KiB; none if it can't be read."""
        file = self.file
        try:
            if isinstance(file, shards.Member):
                path, start, size = file.archive, file.offset, file.size
            else:
                path, start, size = file, 0, file.stat().st_size
            with path.open("rb") as opened:
                opened.seek(start)
                first = opened.read(min(size, _ENDS))
                opened.seek(start + max(0, size - _ENDS))
                return digest(str(size).encode() + first + opened.read(min(size, _ENDS)))
        except OSError:
            return b""


@dataclass
class Listing:
    """What was found: the format in words, the entries, `(name, reason)` of everything skipped, remarks, and the files read for captions."""

    layout: str
    entries: list[Entry]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    remarks: Remarks = field(default_factory=Remarks)
    read: set[Path] = field(default_factory=set)

    def skip(self, name: str, reason: str) -> None:
        """Leave a picture or a row out, by name and with the reason."""
        self.skipped.append((printable(name), printable(reason)))


def own_splits(rows: list[Row], remarks: Remarks, place: str) -> list[str]:
    """Return the split that each row says, by the column for it or by one whose values are all words for splits.

    DataError for any other word in the column `split`, and for two columns that disagree.
    """
    columns = dict.fromkeys(column for row in rows for column in row.said)
    chosen = [splits.COLUMN] if splits.COLUMN in columns else []
    for column in columns:
        values = [row.said[column] for row in rows if row.said.get(column) not in (None, "")]
        if column != splits.COLUMN and values:
            if all(map(splits.is_word, values)):
                chosen.append(column)
            else:
                remarks.add(place, "column", [column])
    result = []
    for row in rows:
        told = {
            column: split
            for column in chosen
            if (split := splits.of_word(row.said.get(column), row.where))
        }
        if len(set(told.values())) > 1:
            raise DataError(
                f"{row.where} says {' and '.join(f'{column} {split}' for column, split in told.items())}: correct one of them."
            )
        result.append(next(iter(told.values()), ""))
    return result


def agreed(own: str, other: str, where: str, place: str) -> str:
    """Return the split that a row and the name of its place tell; DataError if they tell two."""
    if own and other and own != other:
        raise DataError(
            f"{where} says {own}, and the name of {place} or a list beside it says {other}: correct one of them."
        )
    return own or other


def split_by_folders(listing: Listing, place: str) -> None:
    """Split pictures by the folders that they stand in, if these are of several splits: all in val2017 are in one place.

    DataError for a picture in no such folder beside others.
    """
    told = [splits.of_path(Path(entry.key).parts[:-1], entry.name) for entry in listing.entries]
    if len(set(told)) == 1:
        if told[0] not in ("", splits.TRAIN):
            names = [entry.name for entry in listing.entries]
            listing.remarks.add(
                place, "picture", names, f"in folders named after {told[0]}, read as no split"
            )
        return
    for entry, split in zip(listing.entries, told, strict=True):
        if not split:
            other = next(
                entry.name for entry, split in zip(listing.entries, told, strict=True) if split
            )
            raise DataError(
                f"{entry.name} stands in no folder of a split, and {other} does: add a column split, or move it."
            )
        entry.split = split


def name_alone(listing: Listing, files: list[Path]) -> None:
    """Say that captions_val2017.json, given by itself, is data as any other: whoever gives it means all of it."""
    words = {
        file.name: [word for word in splits.words_of(file.stem) if splits.is_word(word)]
        for file in files
    }
    named = [
        name
        for name, some in words.items()
        if any(splits.of_word(word, name) != splits.TRAIN for word in some)
    ]
    listing.remarks.add(
        str(files[0].parent), "file", named, "given by name, whose own word for a split is not used"
    )


def checked(listing: Listing, path: Path) -> Listing:
    """Return a listing whose pictures all have a split or none has; DataError without any picture."""
    without = [entry for entry in listing.entries if not entry.split]
    if len(without) < len(listing.entries):
        for entry in without:
            listing.skip(entry.name, "nothing says its split, and of others it is said")
        listing.entries = [entry for entry in listing.entries if entry.split]
    if not listing.entries:
        first = (
            "; ".join(f"{name}: {reason}" for name, reason in listing.skipped[:3]) or "it is empty"
        )
        count = len(listing.skipped)
        raise DataError(
            f"{listing.layout} at {path} gives no picture with a caption, of {count} entries ({first}): check the names."
        )
    if {entry.split for entry in listing.entries} == {splits.TRAIN}:
        for entry in listing.entries:  # a part of it is kept back for validation
            entry.split = ""
    return listing
