"""What stands at a path: pictures tied to their captions, whichever way both were stored.

`find` looks at a folder, chooses the readers and ties each row to a picture file. Whatever can't be
used is kept with its reason, because a silent skip is a wrong count; whatever is not even looked at
is named too, because it may be what was meant.
"""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tinymm.arrays.errors import DataError

from . import captions, shards, splits
from .beside import Nothing, beside
from .columns import CAPTION_COLUMNS, NotCaptions, Options, Remarks, Row, checked_caption, row_of
from .entries import Entry, Listing, agreed, checked, name_alone, own_splits, split_by_folders
from .names import Pictures, clean, is_hidden, printable, walk
from .texts import read_lines

LOOKED_FOR = (
    "captions or metadata in .csv, .tsv, .jsonl or .json (COCO, BLIP or Karpathy layout), a Flickr .token file, captions.txt, "
    "WebDataset .tar shards, a .txt beside each picture"
)


def is_there(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a file, a folder or a brace range of shards, which `find` then reads or refuses by name."""
    return os.path.exists(path) or shards.is_range(path)


def find(path: str | os.PathLike[str], options: Options | None = None) -> Listing:
    """Return the pictures and captions at a path: a caption file, a folder, a .tar or a brace range of them.

    In a folder whatever is found first does not decide: folders named after splits are read before
    stray files, a table that holds no captions is passed over and named, and so is everything that
    no caption belongs to. Names are tried from the folder of the caption file (or
    `options.pictures`), then by their last part anywhere below it. DataError for a path where
    nothing is, and for words that name no split.
    """
    options = options or Options()
    path = Path(path)
    if shards.is_range(path) or path.suffix.lower() == ".tar" and not path.is_dir():
        return checked(_from_shards(shards.expand(path), options, given=True), path)
    if path.is_file():
        listing = _collect([(path, "")], path.parent, options)
        name_alone(listing, [path])
        return checked(listing, path)
    if not path.is_dir():
        raise DataError(
            f"Pictures and captions are read from a folder or a caption file, but {path} is not there: check the path."
        )
    listing = _find_in_folder(path, options)
    _name_the_rest(listing, path)
    return checked(listing, path)


# ---------------------------------------------------------------------- a folder
def _find_in_folder(folder: Path, options: Options) -> Listing:
    places = [
        folder,
        *(
            place
            for place in _below(folder)
            if place.is_dir() and place.name.lower() == "annotations"
        ),
    ]
    files = sorted(file for place in places for file in _below(place) if file.is_file())
    tables = [
        file
        for file in files
        if file.suffix.lower() in captions.SUFFIXES and file.suffix.lower() != ".txt"
    ]
    named = [file for file in tables if file.name.lower().startswith(("captions", "metadata"))]
    flickr = [
        file
        for file in files
        if file.name.lower().endswith((".token", ".token.txt"))
        and ".lemma." not in file.name.lower()
    ]
    plain = [file for file in files if file.name.lower() == "captions.txt"]
    archives = [file for file in files if file.suffix.lower() == ".tar"]
    parts = [place for place in _below(folder) if place.is_dir() and splits.of_folder(place.name)]
    readers: list[tuple[bool, Callable[[], Listing]]] = [
        (bool(named), lambda: _from_files(named, folder, options)),
        (bool(flickr), lambda: _from_files(flickr, folder, options)),
        (bool(plain), lambda: _from_files(plain, folder, options)),
        (bool(parts), lambda: _from_parts(folder, parts, options)),
        (bool(archives), lambda: _from_shards(archives, options)),
        (True, lambda: beside(folder)),
        (bool(tables), lambda: _from_files(tables, folder, options)),
    ]
    problems: list[NotCaptions] = []
    for is_possible, reader in readers:
        try:
            if is_possible:
                listing = reader()
                others = (str(other) for other in problems if not isinstance(other, Nothing))
                listing.remarks.add(str(folder), "file", others, "passed over")
                return listing
        except NotCaptions as problem:
            problems.append(problem)
    for told in problems:
        if not isinstance(told, Nothing):
            raise told
    kinds = Counter(
        file.suffix.lower() or "no suffix" for file in walk(folder) if not is_hidden(file, folder)
    ).most_common(6)
    found = ", ".join(f"{count} x {kind}" for kind, count in kinds) or "no file"
    raise Nothing(
        f"{folder} has no captions that can be read: found {found}; looked for {LOOKED_FOR}."
    )


def _below(folder: Path) -> list[Path]:
    """Return what stands in a folder and is not hidden."""
    try:
        return [place for place in sorted(folder.iterdir()) if not place.name.startswith(".")]
    except OSError as problem:
        raise DataError(
            f"{folder} can't be read ({problem.strerror or problem}): give a folder that can."
        ) from None


def _from_files(files: list[Path], folder: Path, options: Options) -> Listing:
    told = [(file, splits.of_file(file.stem)) for file in files]
    if len(files) > 1 and (
        max(Counter(split for _, split in told).values()) > 1 or not all(split for _, split in told)
    ):
        # A file that is no caption file takes no part: a stray classes.csv does not stand beside captions.
        told = [(file, split) for file, split in told if _is_captions(file, options)] or told
        counts = Counter(split for _, split in told)
        if len(told) > 1 and (max(counts.values()) > 1 or counts[""]):
            names = ", ".join(file.name for file, _ in told)
            raise DataError(
                f"A folder has one caption file, or one a split, but {folder} has {names}: give the file instead."
            )
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
            merged.remarks.add(
                str(folder),
                "folder",
                [f"{part.name}: {problem}"],
                "without captions that can be read",
            )
    if not found:
        raise Nothing(
            f"{', '.join(part.name for part in parts)} have no captions that can be read."
        )
    for place in _below(folder):
        if place.is_dir() and place not in parts and place.name.lower() != "annotations":
            try:
                _find_in_folder(place, options)
            except DataError:
                continue
            names = ", ".join(part.name for part in parts)
            raise DataError(
                f"{folder} has the folders {names}, and {place.name} names no split beside them: rename it, or move it away."
            )
    merged.layout = " and ".join(sorted({listing.layout for _, listing in found}))
    for part, listing in found:
        split = splits.of_folder(part.name)
        for entry in listing.entries:
            if entry.split not in ("", split):
                raise DataError(
                    f"{entry.name} is {entry.split} by its own words and {split} by its folder {part}: correct one of them."
                )
            entry.name, entry.split, entry.key = (
                f"{part.name}/{entry.name}",
                split,
                f"{part.name}/{entry.key}",
            )
        merged.entries += listing.entries
        merged.skipped += [(f"{part.name}/{name}", reason) for name, reason in listing.skipped]
        merged.remarks.found |= listing.remarks.found
        merged.read |= listing.read
    return merged


def _name_the_rest(listing: Listing, folder: Path) -> None:
    """Name what stands in a folder and has gone nowhere: files by their kinds, hidden ones as such."""
    used = listing.read | {file for entry in listing.entries for file in _files_of(entry)}
    told = {name.split(":", 1)[0] for name, _ in listing.skipped}
    hidden = []
    for file in walk(
        folder,
        lambda problem: listing.skip(str(problem.filename), f"can't be read ({problem.strerror})"),
    ):
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
    listing = Listing(
        f"WebDataset, {len(archives)} shard{'s' * (len(archives) > 1)}", [], read=set(archives)
    )
    told = {archive: splits.of_file(archive.stem) for archive in archives}
    if given and len(set(told.values())) == 1:
        name_alone(listing, archives)
        told = dict.fromkeys(archives, "")
    without = next((archive for archive, split in told.items() if not split), None)
    if without is not None and any(told.values()):
        other = next(archive for archive, split in told.items() if split)
        raise DataError(
            f"{without.name} names no split beside {other.name}: rename it, or give the shards of one split."
        )
    rows: list[tuple[Row, shards.Sample]] = []
    for sample in shards.samples(archives, listing.skipped, listing.remarks):
        row = row_of(
            sample.record, sample.name, options, listing.remarks, place="the shards' .json"
        )
        texts = [checked_caption(line) for line in sample.texts]
        for reason in (reason for _, reason in texts if reason):
            listing.skip(sample.name, reason)
        written = [text for text, _ in texts if text]
        if written and row.captions and row.captions != written:
            listing.remarks.add(
                "the shards' .json",
                "caption",
                [sample.name],
                "differing from the .txt, which is used,",
            )
        rows.append(
            (
                row._replace(
                    captions=written or row.captions, problem="" if written else row.problem
                ),
                sample,
            )
        )
    own = own_splits([row for row, _ in rows], listing.remarks, "the shards' .json")
    for (row, sample), split in zip(rows, own, strict=True):
        if not row.captions:
            listing.skip(
                sample.name,
                row.problem
                or "no caption: a .txt, or a .json with one of " + ", ".join(CAPTION_COLUMNS),
            )
            continue
        assert sample.picture is not None
        split = agreed(split, told[sample.archive], row.where, sample.archive.name)
        listing.entries.append(Entry(sample.name, sample.picture, row.captions, split, sample.key))
    if not any(entry.split for entry in listing.entries):
        split_by_folders(listing, "the shards")
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
        for row, own in zip(rows, own_splits(rows, listing.remarks, path.name), strict=True):
            file, reason = (
                pictures.find(row.picture)
                if row.picture
                else (None, "" if row.problem else "no picture's name")
            )
            reasons = [
                reason,
                row.problem or "" if file is None or row.captions else row.problem or "no caption",
            ]
            if any(reasons):
                listing.skip(
                    row.picture or row.where, f"{'; '.join(filter(None, reasons))} ({row.where})"
                )
            if file is None or not row.captions:
                continue
            split = agreed(own, in_lists.get(file.name, "") or of_file, row.where, path.name)
            key = clean(os.path.relpath(file, pictures.folder))
            entry = entries.setdefault(
                file, Entry(printable(clean(row.picture)), file, [], split, key)
            )
            if entry.split != split:
                raise DataError(
                    f"A picture stands on one side of a split, but {entry.name} is {entry.split or 'without a split'} in "
                    f"{said_in[file]} and {split or 'without one'} in {row.where}: correct one of them."
                )
            said_in.setdefault(file, row.where)
            entry.captions.extend(row.captions)
    listing.layout, listing.entries = ", ".join(layouts), list(entries.values())
    if not any(entry.split for entry in listing.entries):
        split_by_folders(listing, str(pictures.folder))
    return listing


def _flickr_splits(folder: Path, listing: Listing) -> dict[str, str]:
    """Return the split of each picture listed in Flickr8k's Flickr_8k.trainImages.txt and its two siblings."""
    lists = [
        (file, split)
        for split in ("train", "dev", "test")
        for file in folder.glob(f"*.{split}Images.txt")
    ]
    found: dict[str, str] = {}
    for file, word in lists:
        listing.read.add(file)
        for name in read_lines(file, shards.MAX_TEXT_BYTES):
            split = splits.of_word(word, file.name)
            if name.strip() and found.setdefault(name.strip(), split) != split:
                raise DataError(
                    f"A picture stands on one side of a split, but {name.strip()} stands in {file.name} and in another list."
                )
    return found
