"""What stands at a path: pictures tied to their captions, whichever way both were stored.

`find` looks at a folder, chooses the readers and ties each row to a picture file. Whatever can't be used is kept with its
reason, because a silent skip is a wrong count; whatever is not even looked at is named too, because it may be what was meant.
"""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tinymm.arrays.errors import DataError

from . import captions, shards, splits
from .columns import CAPTION_COLUMNS, NotCaptions, Options, Remarks, Row, checked_caption, row_of
from .fingerprint import digest
from .images import SUFFIXES
from .names import Pictures, clean, is_hidden, printable, walk

_ENDS = 4096
LOOKED_FOR = (
    "captions or metadata in .csv, .tsv, .jsonl or .json (COCO, BLIP or Karpathy layout), a Flickr .token file, captions.txt, "
    "WebDataset .tar shards, a .txt beside each picture"
)


@dataclass
class Entry:
    """A picture with all its captions; `split` is "train", "validation", "test", or "" where the data does not say.

    `name` is what people read, `key` what a drawn split is drawn by: the picture's path below its folder, or its key in a
    shard, so that neither another shard nor another spelling moves it.
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


def is_there(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a file, a folder or a brace range of shards, which `find` then reads or refuses by name."""
    return os.path.exists(path) or shards.is_range(path)


def find(path: str | os.PathLike[str], options: Options | None = None) -> Listing:
    """Return the pictures and captions at a path: a caption file, a folder, a .tar or a brace range of them.

    In a folder whatever is found first does not decide: folders named after splits are read before stray files, a table that
    holds no captions is passed over and named, and so is everything that no caption belongs to. Names are tried from the
    folder of the caption file (or `options.pictures`), then by their last part anywhere below it. DataError for a path where
    nothing is, and for words that name no split.
    """
    options = options or Options()
    path = Path(path)
    if shards.is_range(path) or path.suffix.lower() == ".tar" and not path.is_dir():
        return _checked(_from_shards(shards.expand(path), options, given=True), path)
    if path.is_file():
        listing = _collect([(path, "")], path.parent, options)
        _name_alone(listing, [path])
        return _checked(listing, path)
    if not path.is_dir():
        raise DataError(f"Pictures and captions are read from a folder or a caption file, but {path} is not there: check the path.")
    listing = _find_in_folder(path, options)
    _name_the_rest(listing, path)
    return _checked(listing, path)


# ---------------------------------------------------------------------- a folder
def _find_in_folder(folder: Path, options: Options) -> Listing:
    places = [folder, *(place for place in _below(folder) if place.is_dir() and place.name.lower() == "annotations")]
    files = sorted(file for place in places for file in _below(place) if file.is_file())
    tables = [file for file in files if file.suffix.lower() in captions.SUFFIXES and file.suffix.lower() != ".txt"]
    named = [file for file in tables if file.name.lower().startswith(("captions", "metadata"))]
    flickr = [file for file in files if file.name.lower().endswith((".token", ".token.txt")) and ".lemma." not in file.name.lower()]
    plain = [file for file in files if file.name.lower() == "captions.txt"]
    archives = [file for file in files if file.suffix.lower() == ".tar"]
    parts = [place for place in _below(folder) if place.is_dir() and splits.of_folder(place.name)]
    readers: list[tuple[bool, Callable[[], Listing]]] = [
        (bool(named), lambda: _from_files(named, folder, options)),
        (bool(flickr), lambda: _from_files(flickr, folder, options)),
        (bool(plain), lambda: _from_files(plain, folder, options)),
        (bool(parts), lambda: _from_parts(folder, parts, options)),
        (bool(archives), lambda: _from_shards(archives, options)),
        (True, lambda: _beside(folder)),
        (bool(tables), lambda: _from_files(tables, folder, options)),
    ]
    problems: list[NotCaptions] = []
    for is_possible, reader in readers:
        try:
            if is_possible:
                listing = reader()
                others = (str(other) for other in problems if not isinstance(other, _Nothing))
                listing.remarks.add(str(folder), "file", others, "passed over")
                return listing
        except NotCaptions as problem:
            problems.append(problem)
    for told in problems:
        if not isinstance(told, _Nothing):
            raise told
    kinds = Counter(file.suffix.lower() or "no suffix" for file in walk(folder) if not is_hidden(file, folder)).most_common(6)
    found = ", ".join(f"{count} x {kind}" for kind, count in kinds) or "no file"
    raise _Nothing(f"{folder} has no captions that can be read: found {found}; looked for {LOOKED_FOR}.")


class _Nothing(NotCaptions):
    """A folder without any captions."""


def _below(folder: Path) -> list[Path]:
    """Return what stands in a folder and is not hidden."""
    try:
        return [place for place in sorted(folder.iterdir()) if not place.name.startswith(".")]
    except OSError as problem:
        raise DataError(f"{folder} can't be read ({problem.strerror or problem}): give a folder that can.") from None


def _from_files(files: list[Path], folder: Path, options: Options) -> Listing:
    told = [(file, splits.of_file(file.stem)) for file in files]
    if len(files) > 1 and (max(Counter(split for _, split in told).values()) > 1 or not all(split for _, split in told)):
        # A file that is no caption file takes no part: a stray classes.csv does not stand beside captions.
        told = [(file, split) for file, split in told if _is_captions(file, options)] or told
        counts = Counter(split for _, split in told)
        if len(told) > 1 and (max(counts.values()) > 1 or counts[""]):
            names = ", ".join(file.name for file, _ in told)
            raise DataError(f"A folder has one caption file, or one a split, but {folder} has {names}: give the file instead.")
    return _collect(told, folder, options)


def _is_captions(file: Path, options: Options) -> bool:
    try:
        next(captions.read(file, options, Remarks())[1], None)
        return True
    except DataError:
        return False


def _from_parts(folder: Path, parts: list[Path], options: Options) -> Listing:
    """Return the captions of folders named after splits; a folder of captions beside them that is not is an error."""
    found: list[tuple[Path, Listing]] = []
    merged = Listing("", [])
    for part in parts:
        try:
            found.append((part, _find_in_folder(part, options)))
        except NotCaptions as problem:
            merged.remarks.add(str(folder), "folder", [f"{part.name}: {problem}"], "without captions that can be read")
    if not found:
        raise _Nothing(f"{', '.join(part.name for part in parts)} have no captions that can be read.")
    for place in _below(folder):
        if place.is_dir() and place not in parts and place.name.lower() != "annotations":
            try:
                _find_in_folder(place, options)
            except DataError:
                continue
            names = ", ".join(part.name for part in parts)
            raise DataError(f"{folder} has the folders {names}, and {place.name} names no split beside them: rename it, or move it away.")
    merged.layout = " and ".join(sorted({listing.layout for _, listing in found}))
    for part, listing in found:
        split = splits.of_folder(part.name)
        for entry in listing.entries:
            if entry.split not in ("", split):
                raise DataError(f"{entry.name} is {entry.split} by its own words and {split} by its folder {part}: correct one of them.")
            entry.name, entry.split, entry.key = f"{part.name}/{entry.name}", split, f"{part.name}/{entry.key}"
        merged.entries += listing.entries
        merged.skipped += [(f"{part.name}/{name}", reason) for name, reason in listing.skipped]
        merged.remarks.found |= listing.remarks.found
        merged.read |= listing.read
    return merged


def _beside(folder: Path) -> Listing:
    listing = Listing("a .txt beside each picture", [])
    files = [file for file in walk(folder) if not is_hidden(file, folder)]
    pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
    texts: dict[Path, list[Path]] = {}
    for file in files:
        if file.suffix.lower() == ".txt":
            texts.setdefault(file.with_suffix(""), []).append(file)
    if not any(file.with_suffix("") in texts for file in pictures):
        raise _Nothing(f"{folder} has no .txt beside a picture.")
    owners = Counter(file.with_suffix("") for file in pictures)
    for file in pictures:
        stem, name = file.with_suffix(""), clean(file.relative_to(folder).as_posix())
        beside = texts.get(stem, [file.with_suffix(".txt")])
        listing.read.update(beside)
        if owners[stem] > 1 or len(beside) > 1:
            listing.skip(name, f"{owners[stem]} pictures and {len(beside)} texts are called {stem.name}: give each pair a name of its own")
            continue
        found, reason = _texts_of(beside[0])
        if found:
            listing.entries.append(Entry(printable(name), file, found, splits.of_path(Path(name).parts[:-1], name), name))
        if reason:
            listing.skip(name, reason)
    told = sorted({Path(entry.key).parent.as_posix() for entry in listing.entries if entry.split})
    for entry in [entry for entry in listing.entries if told and not entry.split]:
        if "/" in entry.key:
            raise DataError(
                f"{folder} has folders of splits ({', '.join(told[:4])}), and {entry.name} stands in none of them: "
                "rename its folder, or move it away."
            )
        listing.entries.remove(entry)
        listing.skip(entry.name, f"stands beside the folders of splits ({', '.join(told[:4])}) and in none of them")
    return listing


def _texts_of(file: Path) -> tuple[list[str], str]:
    """Return the captions in a text beside a picture, one a line, and what can't be used."""
    if not os.path.lexists(file):
        return [], f"no caption in {file.name}"
    try:
        found = [checked_caption(line) for line in captions.read_lines(file, shards.MAX_TEXT_BYTES)]
    except DataError as problem:
        return [], str(problem)
    texts, reasons = [text for text, _ in found if text], [reason for _, reason in found if reason]
    return texts, "; ".join(reasons) or ("" if texts else f"no caption in {file.name}")


def _name_the_rest(listing: Listing, folder: Path) -> None:
    """Name what stands in a folder and has gone nowhere: files by their kinds, hidden ones as such."""
    used = listing.read | {file for entry in listing.entries for file in _files_of(entry)}
    told = {name.split(":", 1)[0] for name, _ in listing.skipped}
    hidden = []
    for file in walk(folder, lambda problem: listing.skip(str(problem.filename), f"can't be read ({problem.strerror})")):
        name = clean(file.relative_to(folder).as_posix())
        if file in used or name in told:
            continue
        if is_hidden(file, folder):
            hidden.append(name)
        else:
            listing.remarks.add(str(folder), f"{file.suffix.lower()} file".strip(), [name])
    listing.remarks.add(str(folder), "hidden file", hidden)


def _files_of(entry: Entry) -> tuple[Path, ...]:
    return () if isinstance(entry.file, shards.Member) else (entry.file,)


# ---------------------------------------------------------------------- shards
def _from_shards(archives: list[Path], options: Options, *, given: bool = False) -> Listing:
    listing = Listing(f"WebDataset, {len(archives)} shard{'s' * (len(archives) > 1)}", [], read=set(archives))
    told = {archive: splits.of_file(archive.stem) for archive in archives}
    if given and len(set(told.values())) == 1:
        _name_alone(listing, archives)
        told = dict.fromkeys(archives, "")
    without = next((archive for archive, split in told.items() if not split), None)
    if without is not None and any(told.values()):
        other = next(archive for archive, split in told.items() if split)
        raise DataError(f"{without.name} names no split beside {other.name}: rename it, or give the shards of one split.")
    rows: list[tuple[Row, shards.Sample]] = []
    for sample in shards.samples(archives, listing.skipped, listing.remarks):
        row = row_of(sample.record, sample.name, options, listing.remarks, place="the shards' .json")
        texts = [checked_caption(line) for line in sample.texts]
        for reason in (reason for _, reason in texts if reason):
            listing.skip(sample.name, reason)
        written = [text for text, _ in texts if text]
        if written and row.captions and row.captions != written:
            listing.remarks.add("the shards' .json", "caption", [sample.name], "differing from the .txt, which is used,")
        rows.append((row._replace(captions=written or row.captions, problem="" if written else row.problem), sample))
    own = _own_splits([row for row, _ in rows], listing.remarks, "the shards' .json")
    for (row, sample), split in zip(rows, own, strict=True):
        if not row.captions:
            listing.skip(sample.name, row.problem or "no caption: a .txt, or a .json with one of " + ", ".join(CAPTION_COLUMNS))
            continue
        assert sample.picture is not None
        split = _agreed(split, told[sample.archive], row.where, sample.archive.name)
        listing.entries.append(Entry(sample.name, sample.picture, row.captions, split, sample.key))
    if not any(entry.split for entry in listing.entries):
        _split_by_folders(listing, "the shards")
    return listing


# ---------------------------------------------------------------------- caption files
def _collect(files: list[tuple[Path, str]], folder: Path, options: Options) -> Listing:
    """Return the rows of caption files as entries: captions of one picture together, each name tied to its file."""
    folder = folder.parent if folder.name.lower() == "annotations" else folder
    pictures = Pictures(Path(options.pictures) if options.pictures else folder)
    listing = Listing("", [], read={path for path, _ in files})
    in_lists = _flickr_splits(folder, listing)
    layouts = []
    entries: dict[Path, Entry] = {}
    said_in: dict[Path, str] = {}
    for path, of_file in files:
        layout, found = captions.read(path, options, listing.remarks)
        layouts.append(f"{path.name}: {layout}")
        rows = list(found)
        for row, own in zip(rows, _own_splits(rows, listing.remarks, path.name), strict=True):
            file, reason = pictures.find(row.picture) if row.picture else (None, "" if row.problem else "no picture's name")
            reasons = [reason, row.problem or "" if file is None or row.captions else row.problem or "no caption"]
            if any(reasons):
                listing.skip(row.picture or row.where, f"{'; '.join(filter(None, reasons))} ({row.where})")
            if file is None or not row.captions:
                continue
            split = _agreed(own, in_lists.get(file.name, "") or of_file, row.where, path.name)
            key = clean(os.path.relpath(file, pictures.folder))
            entry = entries.setdefault(file, Entry(printable(clean(row.picture)), file, [], split, key))
            if entry.split != split:
                raise DataError(
                    f"A picture stands on one side of a split, but {entry.name} is {entry.split or 'without a split'} in "
                    f"{said_in[file]} and {split or 'without one'} in {row.where}: correct one of them."
                )
            said_in.setdefault(file, row.where)
            entry.captions.extend(row.captions)
    listing.layout, listing.entries = ", ".join(layouts), list(entries.values())
    if not any(entry.split for entry in listing.entries):
        _split_by_folders(listing, str(pictures.folder))
    return listing


def _own_splits(rows: list[Row], remarks: Remarks, place: str) -> list[str]:
    """Return the split that each row says, by the column for it or by one whose values are all words for splits."""
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
        told = {column: split for column in chosen if (split := splits.of_word(row.said.get(column), row.where))}
        if len(set(told.values())) > 1:
            raise DataError(f"{row.where} says {' and '.join(f'{column} {split}' for column, split in told.items())}: correct one of them.")
        result.append(next(iter(told.values()), ""))
    return result


def _agreed(own: str, other: str, where: str, place: str) -> str:
    if own and other and own != other:
        raise DataError(f"{where} says {own}, and the name of {place} or a list beside it says {other}: correct one of them.")
    return own or other


def _split_by_folders(listing: Listing, place: str) -> None:
    """Split pictures by the folders that they stand in, if these are of several splits: all in val2017 are in one place, not on one side."""
    told = [splits.of_path(Path(entry.key).parts[:-1], entry.name) for entry in listing.entries]
    if len(set(told)) == 1:
        if told[0] not in ("", splits.TRAIN):
            names = [entry.name for entry in listing.entries]
            listing.remarks.add(place, "picture", names, f"in folders named after {told[0]}, read as no split")
        return
    for entry, split in zip(listing.entries, told, strict=True):
        if not split:
            other = next(entry.name for entry, split in zip(listing.entries, told, strict=True) if split)
            raise DataError(f"{entry.name} stands in no folder of a split, and {other} does: add a column split, or move it.")
        entry.split = split


def _name_alone(listing: Listing, files: list[Path]) -> None:
    """Say that captions_val2017.json, given by itself, is data as any other: whoever gives it means all of it."""
    words = {file.name: [word for word in splits.words_of(file.stem) if splits.is_word(word)] for file in files}
    named = [name for name, some in words.items() if any(splits.of_word(word, name) != splits.TRAIN for word in some)]
    listing.remarks.add(str(files[0].parent), "file", named, "given by name, whose own word for a split is not used")


def _checked(listing: Listing, path: Path) -> Listing:
    without = [entry for entry in listing.entries if not entry.split]
    if len(without) < len(listing.entries):
        for entry in without:
            listing.skip(entry.name, "nothing says its split, and of others it is said")
        listing.entries = [entry for entry in listing.entries if entry.split]
    if not listing.entries:
        first = "; ".join(f"{name}: {reason}" for name, reason in listing.skipped[:3]) or "it is empty"
        count = len(listing.skipped)
        raise DataError(f"{listing.layout} at {path} gives no picture with a caption, of {count} entries ({first}): check the names.")
    if {entry.split for entry in listing.entries} == {splits.TRAIN}:
        for entry in listing.entries:  # a part of it is kept back for validation
            entry.split = ""
    return listing


def _flickr_splits(folder: Path, listing: Listing) -> dict[str, str]:
    """Return the split of each picture listed in Flickr8k's Flickr_8k.trainImages.txt and its two siblings."""
    lists = [(file, split) for split in ("train", "dev", "test") for file in folder.glob(f"*.{split}Images.txt")]
    found: dict[str, str] = {}
    for file, word in lists:
        listing.read.add(file)
        for name in captions.read_lines(file, shards.MAX_TEXT_BYTES):
            split = splits.of_word(word, file.name)
            if name.strip() and found.setdefault(name.strip(), split) != split:
                raise DataError(f"A picture stands on one side of a split, but {name.strip()} stands in {file.name} and in another list.")
    return found
