"""Check a caption data set: its contents and its problems, before training."""

import os
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from tinymm.arrays.errors import DataError

from ..batches import Source
from ..images import frames_of, open_picture
from ..text import split_words
from . import splits
from .columns import Options
from .listing import Entry, find
from .reading import reading

#: The share of the pictures that training keeps back for validation, if the data has none of its
#: own.
VALIDATION_SHARE = 0.1


@dataclass
class Report:
    """What `check` found; `lines()` says it."""

    path: str
    layout: str
    pictures: int
    captions: int
    splits: dict[str, int]
    skipped: list[tuple[str, str]]
    duplicate_captions: list[tuple[str, int]]
    identical_pictures: list[list[str]]
    longest: tuple[int, str, str]
    words: int
    words_seen_once: list[str]
    unknown: dict[str, int] | None = None
    remarks: list[str] = field(default_factory=list)
    drawn: bool = False
    reading: list[str] = field(default_factory=list)

    def lines(self, at_most: int = 10) -> list[str]:
        """Return the report as lines of text, naming at most so many of each kind."""
        splits = ", ".join(f"{count} {name}" for name, count in self.splits.items())
        words, caption, picture = self.longest
        result = [
            f"{self.path}: {self.layout}",
            f"{self.pictures} pictures, {self.captions} captions ({self.captions / max(1, self.pictures):.1f} a picture)"
            + f"; splits: {splits}" * bool(splits)
            + " (validation drawn by name, as training does)" * self.drawn,
            f"longest caption: {words} words, of {picture}: {_short(caption)}",
            f"{self.words} different words, {len(self.words_seen_once)} of them once{_some(self.words_seen_once, at_most)}",
            *self.reading,
        ]
        listed: list[tuple[str, list[str]]] = [
            (
                "captions of several pictures",
                [f"{_short(caption)} ({count})" for caption, count in self.duplicate_captions],
            ),
            (
                "pictures that are the same file",
                [" = ".join(names) for names in self.identical_pictures],
            ),
            ("skipped", [f"{name}: {reason}" for name, reason in self.skipped]),
            *([("remarks", self.remarks)] if self.remarks else []),
        ]
        if self.unknown is not None:
            listed.insert(
                0,
                (
                    "words unknown to the tokenizer",
                    [f"{word} ({count})" for word, count in self.unknown.items()],
                ),
            )
        for title, items in listed:
            result.append(f"{title}: {len(items)}")
            result += [f"  {item}" for item in items[:at_most]]
            result += [f"  and {len(items) - at_most} more"] if len(items) > at_most else []
        return result


def check(
    path: str | os.PathLike[str],
    *,
    picture_column: str | None = None,
    caption_column: str | None = None,
    separator: str | None = None,
    pictures: str | os.PathLike[str] | None = None,
    tokenizer: Any = None,
) -> Report:
    """Return what stands at a path, every picture decoded once.

    Captions shared by several pictures matter because contrastive training counts each of them as
    wrong for all pictures but one; identical pictures because they may straddle the split. A
    `tokenizer` with a method `unknown` adds the words that it does not know; with a method `tokens`
    it says what captions are cut into, which is words otherwise.
    """
    listing = find(path, Options(picture_column, caption_column, separator, pictures))
    hashes: dict[str, list[Entry]] = {}
    good = []
    for entry in listing.entries:
        try:
            source = entry.source()
            open_picture(source, entry.name)
            content = source if isinstance(source, bytes) else source.read_bytes()
            if (frames := frames_of(source)) > 1:
                listing.remarks.add(
                    str(path),
                    "picture",
                    [f"{entry.name}: {frames}"],
                    "of several frames, the first of which is used",
                )
        except (DataError, OSError) as problem:
            listing.skip(entry.name, str(problem))
            continue
        good.append(entry)
        hashes.setdefault(sha256(content).hexdigest(), []).append(entry)
    texts = [(caption, entry.name) for entry in good for caption in entry.captions]
    counts = Counter(word for caption, _ in texts for word in split_words(caption))
    written = {
        " ".join(split_words(caption)): caption for caption, _ in reversed(texts)
    }  # the first spelling of each
    owners = Counter(
        words
        for entry in good
        for words in {" ".join(split_words(caption)) for caption in entry.captions}
    )
    unknown = getattr(tokenizer, "unknown", None)
    try:
        sides, told = splits.sides(good, VALIDATION_SHARE, seed=0)
    except DataError as problem:
        sides, told = {}, [str(problem)]
    side_of = {id(entry): side for side, some in sides.items() for entry in some}
    names = [
        " = ".join(entry.name for entry in same)
        for same in hashes.values()
        if len({side_of.get(id(entry)) for entry in same}) > 1
    ]
    listing.remarks.add(str(path), "picture", names, "as the same file on both sides of the split")
    return Report(
        path=str(path),
        layout=listing.layout,
        pictures=len(good),
        captions=len(texts),
        splits={side: len(some) for side, some in sides.items() if some},
        skipped=listing.skipped,
        duplicate_captions=[
            (written[words], count) for words, count in owners.most_common() if count > 1
        ],
        identical_pictures=[
            [entry.name for entry in same] for same in hashes.values() if len(same) > 1
        ],
        longest=max(
            ((len(split_words(caption)), caption, name) for caption, name in texts),
            default=(0, "", "no picture"),
        ),
        words=len(counts),
        words_seen_once=sorted(word for word, count in counts.items() if count == 1),
        unknown=unknown(caption for caption, _ in texts) if unknown else None,
        remarks=listing.remarks.lines() + told,
        drawn=bool(sides)
        and not any(entry.split == splits.VALIDATION for entry in good)
        and bool(sides[splits.VALIDATION]),
        reading=reading(
            [caption for caption, _ in texts], getattr(tokenizer, "tokens", split_words)
        ),
    )


def check_source(source: Source, tokenizer: Any = None, about: str = "built in") -> Report:
    """Return the same about any source, such as data that is built in: there is no file that could be broken.

    `about` says what it is where the source itself does not.
    """
    captions = source.captions()
    sets: dict[str, Any] = {
        "validation": source.validation(),
        **source.tests(),
        **source.zero_shot(),
    }
    texts = [caption for some in captions for caption in some]
    counts = Counter(word for caption in texts for word in split_words(caption))
    owners = Counter(caption for some in captions for caption in set(some))
    length, caption = max((len(split_words(caption)), caption) for caption in texts)
    return Report(
        path=source.name,
        layout=source.about or about,
        pictures=len(captions),
        captions=len(texts),
        splits={"train": len(source), **{name: len(pairs) for name, pairs in sets.items()}},
        skipped=[],
        duplicate_captions=[
            (caption, count) for caption, count in owners.most_common() if count > 1
        ],
        identical_pictures=[],
        longest=(length, caption, "training"),
        words=len(counts),
        words_seen_once=sorted(word for word, count in counts.items() if count == 1),
        reading=reading(texts, getattr(tokenizer, "tokens", split_words)),
    )


def _short(text: str, length: int = 60) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _some(words: list[str], at_most: int) -> str:
    return f" ({', '.join(words[:at_most])}{', …' * (len(words) > at_most)})" if words else ""
