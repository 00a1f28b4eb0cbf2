"""Your own pictures and captions as a source: split by picture, decoded when first needed, broken files skipped and named.

>>> pairs = load("holiday")                                       # doctest: +SKIP
>>> batch = pairs.batch(np.arange(32), np.random.default_rng(0))  # doctest: +SKIP
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinymm.arrays.errors import DataError, UsageError

from ..augment import random_crop
from ..batches import Batch, NoisySource, PairSet, Record, Tokenizer
from ..images import Preprocess, check_header
from ..text import WordTokenizer, split_words
from . import splits
from .check import VALIDATION_SHARE, Report, check
from .columns import Options
from .listing import Entry, Listing, find

__all__ = ["Pairs", "Report", "check", "load"]

# Recall@1 among n pictures falls with n, and 1,000 is the customary n; above this many bytes the
# set would not fit.
VALIDATION_PICTURES, VALIDATION_BYTES = 1000, 2**28
LARGE_VOCABULARY, LONGEST_CONTEXT = 2000, 77


def load(
    path: str | os.PathLike[str],
    *,
    resolution: int = 224,
    channels: int = 3,
    picture_column: str | None = None,
    caption_column: str | None = None,
    separator: str | None = None,
    pictures: str | os.PathLike[str] | None = None,
    validation_share: float = VALIDATION_SHARE,
    seed: int = 0,
    tokenizer: Tokenizer | None = None,
    preprocess: Preprocess | None = None,
    smallest_crop: float | None = 0.9,
    flip: bool = False,
    cache_bytes: int = 2**30,
) -> "Pairs":
    """Return the pictures and captions at `path`, in any layout that `listing.find` knows, as a source.

    A model that is fine-tuned brings its `tokenizer` and `preprocess`; without them the vocabulary
    is the training captions' own words, and pictures are cropped to the center of the shorter side.
    The split is the data's own where it has one; otherwise about `validation_share` of the pictures
    are kept back, drawn by each one's name and the `seed` alone, so that none moves when others
    come or go. Captions of one picture stay on one side. Training pictures are cropped to
    `smallest_crop` to 1 of their area (None: the center crop); `flip` mirrors half of them and is
    off, since captions say left and right. UsageError for a share or a crop outside its range;
    DataError for data that can't be read.
    """
    if not 0 < validation_share <= 0.5:
        raise UsageError(
            f"validation_share is above 0 and at most 0.5, but came as {validation_share}: try 0.1."
        )
    if smallest_crop is not None and not 0 < smallest_crop <= 1:
        raise UsageError(
            f"smallest_crop is a share of the area, above 0 and at most 1, but came as {smallest_crop}: try 0.9."
        )
    listing = find(path, Options(picture_column, caption_column, separator, pictures))
    if preprocess is None:
        preprocess = (
            Preprocess(resolution, 1, (0.5,), (0.25,))
            if channels == 1
            else Preprocess(resolution, channels)
        )
    listing.entries = list(_with_headers(listing))
    return Pairs(
        listing, preprocess, tokenizer, validation_share, seed, smallest_crop, flip, cache_bytes
    )


def _with_headers(listing: Listing) -> Iterable[Entry]:
    for entry in listing.entries:
        try:
            if isinstance(
                entry.file, Path
            ):  # inside an archive it would cost reading the whole archive
                check_header(entry.file, entry.name)
            yield entry
        except DataError as problem:
            listing.skip(entry.name, str(problem))


class Pairs(NoisySource):
    """Pictures with one or more captions each, as training reads them; built by `load`. DataError without any to train on.

    `skipped` lists `(file, reason)` of everything left out. Headers are checked when loading,
    pixels only when they are first decoded: a picture that turns out damaged joins the list, and
    the next good one that is not in the batch takes its place, the same one in every run.
    """

    name = "pairs"

    def __init__(
        self,
        listing: Listing,
        preprocess: Preprocess,
        tokenizer: Tokenizer | None,
        validation_share: float,
        seed: int,
        smallest_crop: float | None,
        flip: bool,
        cache_bytes: int,
    ) -> None:
        self.layout, self.skipped, self.preprocess = listing.layout, listing.skipped, preprocess
        self.smallest_crop, self.flip = smallest_crop, flip
        self.splits, told = splits.sides(listing.entries, validation_share, seed)
        self._told = listing.remarks.lines() + told
        self.training = self.splits["train"]
        if not self.training and tokenizer is None:
            raise DataError(
                f"Training needs pictures of its split, but all of these are {' or '.join(name for name in self.splits if self.splits[name])}: "
                "give the folder or the file of one split itself, or take the word for it away, to train on it; eval takes it as it is."
            )
        self.tokenizer = tokenizer or vocabulary_of(
            caption for entry in self.training for caption in entry.captions
        )
        self._cache: dict[int, np.ndarray] = {}
        self._room = cache_bytes
        self._broken: set[int] = set()

    def __len__(self) -> int:
        return len(self.training)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return these training pictures, cropped at random, each with one of its captions."""
        draws = rng.random((len(indices), 2))
        indices, pictures = self._readable(indices)
        images = np.stack(
            [
                self._augmented(picture, mirror < 0.5, rng)
                for picture, (_, mirror) in zip(pictures, draws, strict=True)
            ]
        )
        entries = [self.training[i] for i in indices]
        captions = [
            entry.captions[int(which * len(entry.captions))]
            for entry, (which, _) in zip(entries, draws, strict=True)
        ]
        ids, is_real = trimmed(*self.tokenizer(captions))
        return Batch(
            self.preprocess.normalize(images),
            ids,
            is_real,
            indices.astype(np.int64),
            tuple(captions),
        )

    def validation(self) -> PairSet:
        """Return the validation pictures, at most 1,000, with all their captions; none of them is trained on.

        There are none where the data says test and no more.
        """
        return self._pair_set("validation")

    def tests(self) -> dict[str, PairSet]:
        """Return the data's own test split as `test`, or nothing where it has none."""
        return {"test": self._pair_set("test")} if self.splits["test"] else {}

    def captions(self) -> list[tuple[str, ...]]:
        """Return the captions of each training picture, what a language model may read."""
        return [tuple(entry.captions) for entry in self.training]

    def remarks(self) -> list[str]:
        """Return in sentences what was skipped, what the data holds beyond pictures and captions, and how the split came about."""
        limit = self._most()
        kept = [f"{len(self.splits[name]):,} {name} pictures, of which the first {limit:,} are measured"
                for name in ("validation", "test") if len(self.splits[name]) > limit]  # fmt: skip
        shown = "; ".join(f"{name}: {reason}" for name, reason in self.skipped[:3]) + "; …" * (
            len(self.skipped) > 3
        )
        return (
            ([f"{len(self.skipped):,} skipped ({shown})"] if self.skipped else [])
            + self._told
            + kept
        )

    def records(self) -> Iterator[Record]:
        """Yield what is remembered of every picture, split by split: name, captions, split and what tells its bytes."""
        for name, entries in self.splits.items():
            for entry in entries:
                yield Record(entry.name, tuple(entry.captions), name, entry.digest())

    # ------------------------------------------------------------------ what CapFilt reads and writes
    def web_pictures(self) -> np.ndarray:
        """Return the numbers of the training pictures that can be read: nobody has looked at any of their captions."""
        return np.array(
            [i for i in range(len(self.training)) if self._attempt(i) is not None], np.int64
        )

    def images(self, pictures: np.ndarray) -> np.ndarray:
        """Return these training pictures as a test sees them, normalized: (n,) -> (n, h, w, c)."""
        return np.stack([self.preprocess(self.training[i].source()) for i in pictures])

    def with_captions(self, texts: Sequence[tuple[str, ...]]) -> "Pairs":
        """Return the same data with other captions for the training pictures, in the same words; a picture without one is left out.

        DataError if fewer than 2 pictures keep one.
        """
        other = copy(self)
        other.training = [
            replace(entry, captions=list(own))
            for entry, own in zip(self.training, texts, strict=True)
            if own
        ]
        if len(other.training) < 2:
            raise DataError(
                f"training needs 2 pictures with captions, and {len(other.training)} of {len(texts)} have one left; filter less"
            )
        other.splits = {**self.splits, "train": other.training}
        other._cache, other._broken = {}, set()
        return other

    def _most(self) -> int:
        return min(
            VALIDATION_PICTURES,
            VALIDATION_BYTES // (4 * self.preprocess.channels * self.preprocess.resolution**2),
        )

    def _pair_set(self, name: str) -> PairSet:
        limit, n = self._most(), self.preprocess.resolution
        if not self.splits[name]:
            return PairSet(
                np.zeros((0, n, n, self.preprocess.channels), np.float32), [], np.zeros(0, np.int64)
            )
        images: list[np.ndarray] = []
        captions: list[str] = []
        owners: list[int] = []
        for entry in self.splits[name]:
            if len(images) == limit:
                break
            try:
                images.append(self.preprocess(entry.source()))
            except (DataError, OSError) as problem:
                self._skip(entry.name, problem)
                continue
            captions += entry.captions
            owners += [len(images) - 1] * len(entry.captions)
        if not images:
            raise DataError(
                f"None of the {len(self.splits[name])} {name} pictures can be read: run python -m tinymm data check."
            )
        return PairSet(np.stack(images), captions, np.array(owners, np.int64))

    def _augmented(self, picture: np.ndarray, mirror: bool, rng: np.random.Generator) -> np.ndarray:
        from PIL import Image

        n = self.preprocess.resolution
        if self.smallest_crop is not None:
            box = random_crop(picture.shape[:2], rng, self.smallest_crop)
            image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
            picture = np.asarray(image.resize((n, n), Image.Resampling.BICUBIC, box=box)).reshape(
                n, n, -1
            )
        return picture[:, ::-1] if self.flip and mirror else picture

    def _picture(self, index: int) -> np.ndarray:
        """Return a decoded training picture, from memory if there was room; with room to crop from, where crops are drawn.

        Nothing is ever dropped from the cache: each epoch reads everything once, so the least
        recently used picture is the next one needed.
        """
        if index not in self._cache:
            data = self.training[index].source()
            roomy = round(self.preprocess.resolution * 1.125)
            picture = (
                self.preprocess.pixels(data)
                if self.smallest_crop is None
                else self.preprocess.resized(data, roomy)
            )
            if picture.nbytes > self._room:
                return picture
            self._room -= picture.nbytes
            self._cache[index] = picture
        return self._cache[index]

    def _readable(self, indices: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the indices and their pictures, each damaged one replaced by the next good one that the batch does not hold."""
        result, count = np.array(indices, dtype=np.int64), len(self.training)
        pictures = []
        for place, index in enumerate(result.tolist()):
            others = set(result.tolist())
            candidates = (
                i % count
                for i in range(index, index + count)
                if i == index or i % count not in others
            )
            found = next(
                ((i, picture) for i in candidates if (picture := self._attempt(i)) is not None),
                None,
            )
            if found is None:
                raise DataError(
                    f"{len(self._broken)} of {count} training pictures are damaged: too few for a batch of {len(result)}."
                )
            result[place] = found[0]
            pictures.append(found[1])
        return result, pictures

    def _attempt(self, index: int) -> np.ndarray | None:
        if index in self._broken:
            return None
        try:
            return self._picture(index)
        except (DataError, OSError) as problem:
            self._broken.add(index)
            self._skip(self.training[index].name, problem)
            return None

    def _skip(self, name: str, problem: Exception) -> None:
        if name not in dict(self.skipped):
            self.skipped.append((name, str(problem)))


def vocabulary_of(captions: Iterable[str]) -> WordTokenizer:
    """Return a word tokenizer of the training captions.

    In a large vocabulary the words seen once become UNK: one picture can't teach a word, and UNK
    must be seen in training to mean anything later. In a small one they stay, for they are half of
    what there is.
    """
    captions = list(captions)
    counts = Counter(word for caption in captions for word in split_words(caption))
    longest = max(len(split_words(caption)) for caption in captions)
    return WordTokenizer.from_captions(
        captions,
        context=max(2, min(longest + 1, LONGEST_CONTEXT)),
        at_least=2 if len(counts) > LARGE_VOCABULARY else 1,
    )


def trimmed(ids: np.ndarray, is_real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ids (B, T) and `is_real` (B, T) without the columns that are padding in every row, which some tokenizers hand out."""
    longest = int(is_real.sum(axis=1).max(initial=1))
    return ids[:, :longest], is_real[:, :longest]
