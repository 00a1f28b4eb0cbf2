"""What stands at a path: pictures tied to their captions, whichever way both were stored.

`find` looks at a folder, chooses the readers and ties each row to a picture file. Whatever can't be used is kept with its
reason, because a silent skip is a wrong count.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tinymm.arrays.errors import DataError
from tinymm.data import captions, shards

from .captions import Options
from .fingerprint import digest
from .images import SUFFIXES

_SPLITS = {"train": "train", "restval": "train", "val": "validation", "validation": "validation", "valid": "validation",
           "dev": "validation", "test": "test"}  # fmt: skip
_ENDS = 4096
LOOKED_FOR = (
    "captions or metadata in .csv, .tsv, .jsonl or .json (COCO, BLIP or Karpathy layout), a Flickr .token file, captions.txt, "
    "WebDataset .tar shards, a .txt beside each picture"
)


@dataclass
class Entry:
    """A picture with all its captions; `split` is "train", "validation", "test", or "" where the data does not say."""

    name: str
    file: Path | shards.Member
    captions: list[str]
    split: str = ""

    def source(self) -> Path | bytes:
        """Return what `images.open_picture` opens: the path, or the bytes from inside an archive."""
        return self.file.read() if isinstance(self.file, shards.Member) else self.file

    def digest(self) -> bytes:
        """Return 8 bytes that tell the picture's content: of its size, its first and its last 4 KiB; none if it can't be read."""
        whole = self.file if isinstance(self.file, shards.Member) else None
        try:
            start, size = (whole.offset, whole.size) if whole else (0, os.path.getsize(self.file))
            with open(whole.archive if whole else self.file, "rb") as file:
                file.seek(start)
                first = file.read(min(size, _ENDS))
                file.seek(start + max(0, size - _ENDS))
                return digest(str(size).encode() + first + file.read(min(size, _ENDS)))
        except OSError:
            return b""


@dataclass
class Listing:
    """What was found: the format in words, the entries, and `(name, reason)` of everything that was skipped."""

    layout: str
    entries: list[Entry]
    skipped: list[tuple[str, str]] = field(default_factory=list)


def find(path: str | os.PathLike[str], options: Options | None = None) -> Listing:
    """Return the pictures and captions at a path: a caption file, a folder, a .tar or a brace range of them.

    A folder is searched in the order of `LOOKED_FOR`; a file is read as what it is. Names are tried from the folder of the
    caption file (or `options.pictures`), then by their last part anywhere below it. DataError for a path where nothing is.
    """
    options = options or Options()
    path = Path(path)
    if "{" in path.name or path.suffix == ".tar":
        return _from_shards(shards.expand(path), options)
    if path.is_file():
        return _collect([(path, "")], path.parent, options)
    if not path.is_dir():
        raise DataError(f"Pictures and captions are read from a folder or a caption file, but {path} is not there: check the path.")
    return _find_in_folder(path, options)


def _find_in_folder(folder: Path, options: Options) -> Listing:
    files = sorted(file for place in (folder, folder / "annotations") if place.is_dir() for file in place.iterdir() if file.is_file())
    tables = [file for file in files if file.suffix in captions.SUFFIXES and file.suffix != ".txt"]
    named = [file for file in tables if file.name.startswith(("captions", "metadata"))]
    flickr = [file for file in files if file.name.endswith((".token", ".token.txt")) and ".lemma." not in file.name]
    named = named or flickr or [file for file in files if file.name == "captions.txt"]
    if named:
        return _from_files(named, folder, options)
    if archives := [file for file in files if file.suffix == ".tar"]:
        return _from_shards(archives, options)
    pictures = [file for file in _walk(folder) if file.suffix.lower() in SUFFIXES]
    if any(file.with_suffix(".txt").is_file() for file in pictures):
        return _beside(folder, pictures)
    if tables:
        return _from_files(tables, folder, options)
    if parts := [place for place in sorted(folder.iterdir()) if place.is_dir() and place.name in _SPLITS]:
        return _merged([(_find_in_folder(part, options), _SPLITS[part.name]) for part in parts])
    kinds = Counter(file.suffix.lower() or "no suffix" for file in _walk(folder)).most_common(6)
    found = ", ".join(f"{count} x {kind}" for kind, count in kinds) or "no file"
    raise DataError(f"{folder} has no captions that can be read: found {found}; looked for {LOOKED_FOR}.")


def _from_files(files: list[Path], folder: Path, options: Options) -> Listing:
    splits = [_split_of(file.stem) for file in files]
    if max(Counter(splits).values()) > 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"A folder has one caption file, or one a split, but {folder} has {names}: give the file instead.")
    return _collect(list(zip(files, splits, strict=True)), folder, options)


def _beside(folder: Path, pictures: list[Path]) -> Listing:
    listing = Listing("a .txt beside each picture", [])
    for file in pictures:
        name, text = str(file.relative_to(folder)), file.with_suffix(".txt")
        lines = [line.strip() for line in captions.read_lines(text)] if text.is_file() else []
        if any(lines):
            split = _SPLITS.get(Path(name).parts[0], "") if len(Path(name).parts) > 1 else ""
            listing.entries.append(Entry(name, file, [line for line in lines if line], split))
        else:
            listing.skipped.append((name, f"no caption in {text.name}"))
    return _checked(listing, folder)


def _from_shards(archives: list[Path], options: Options) -> Listing:
    listing = Listing(f"WebDataset, {len(archives)} shard{'s' * (len(archives) > 1)}", [])
    for sample in shards.samples(archives, listing.skipped):
        texts = [line.strip() for text in sample.texts for line in text.splitlines() if line.strip()]
        texts = texts or [text.strip() for text in captions.captions_of(sample.record, options) if text.strip()]
        if texts and sample.picture:
            listing.entries.append(Entry(sample.name, sample.picture, texts, _split_of(sample.picture.archive.stem)))
        else:
            listing.skipped.append((sample.name, "no caption: a .txt, or a .json with one of " + ", ".join(captions.CAPTION_COLUMNS)))
    return _checked(listing, archives[0])


def _merged(parts: list[tuple[Listing, str]]) -> Listing:
    merged = Listing(" and ".join(sorted({part.layout for part, _ in parts})), [])
    for part, split in parts:
        for entry in part.entries:
            entry.name, entry.split = f"{split}/{entry.name}", split
        merged.entries += part.entries
        merged.skipped += part.skipped
    return merged


def _collect(files: list[tuple[Path, str]], folder: Path, options: Options) -> Listing:
    """Return the rows of caption files as entries: captions of one picture together, each name tied to its file."""
    folder = folder.parent if folder.name == "annotations" else folder
    pictures = _Pictures(Path(options.pictures) if options.pictures else folder)
    in_lists = _flickr_splits(folder)
    listing = Listing("", [])
    layouts = []
    entries: dict[Path, Entry] = {}
    for path, split in files:
        layout, rows = captions.read(path, options)
        layouts.append(f"{path.name}: {layout}")
        for row in rows:
            file = pictures.find(row.picture) if row.picture else None
            texts = [text.strip() for text in row.captions if isinstance(text, str) and text.strip()]
            if file is None or not texts:
                reason = "no caption" if file else f"no such picture below {pictures.folder}" if row.picture else "no picture's name"
                listing.skipped.append((row.picture or row.where, f"{reason} ({row.where})"))
                continue
            belongs = _SPLITS.get(row.split, "") or in_lists.get(file.name, "") or split
            entries.setdefault(file, Entry(row.picture, file, [], belongs)).captions.extend(texts)
    listing.layout, listing.entries = ", ".join(layouts), list(entries.values())
    return _checked(listing, files[0][0])


def _checked(listing: Listing, path: Path) -> Listing:
    if not listing.entries:
        first = "; ".join(f"{name}: {reason}" for name, reason in listing.skipped[:3]) or "it is empty"
        count = len(listing.skipped)
        raise DataError(f"{path} gives no picture with a caption, of {count} entries ({first}): check the names, or pass pictures=.")
    if len({entry.split for entry in listing.entries}) == 1:
        # captions_val2017.json alone is data to train on, not a split of something larger.
        for entry in listing.entries:
            entry.split = ""
    return listing


class _Pictures:
    """The files that picture names may mean; the tree is walked only when a name is not where it says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._below: dict[str, list[Path]] | None = None

    def find(self, name: str) -> Path | None:
        direct = self.folder / name
        if os.path.isfile(direct):  # unlike Path.is_file, it bears a name that is too long: a caption in the wrong column
            return direct
        if self._below is None:
            self._below = {}
            for file in _walk(self.folder):
                if file.suffix.lower() in SUFFIXES:
                    self._below.setdefault(file.name, []).append(file)
        candidates = self._below.get(Path(name).name, [])
        return candidates[0] if len(candidates) == 1 else None


def _walk(folder: Path) -> list[Path]:
    """Return all files below a folder in an order that no file system decides."""
    return sorted(Path(place, name) for place, _, names in os.walk(folder) for name in names)


def _split_of(stem: str) -> str:
    """Return the split that a file's name tells, as captions_val2017 does."""
    return next((_SPLITS[word] for word in re.findall("[a-z]+", stem.lower()) if word in _SPLITS), "")


def _flickr_splits(folder: Path) -> dict[str, str]:
    """Return the split of each picture listed in Flickr8k's Flickr_8k.trainImages.txt and its two siblings."""
    lists = [(file, split) for split in ("train", "dev", "test") for file in folder.glob(f"*.{split}Images.txt")]
    return {name.strip(): _SPLITS[split] for file, split in lists for name in captions.read_lines(file)}
