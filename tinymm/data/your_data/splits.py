"""Train and validation splits: the data's own, or a draw that depends on each image's name alone.

A word that means nothing here is an error, for whatever it means, its pictures may be somebody's
test. A draw by rank or by count would move when a picture comes, goes or can't be read, and what
was trained on yesterday would be "kept back" today.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

from tinymm.arrays.errors import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
#: Letters only and small: Val_2017 and HELD-OUT are val and heldout. Karpathy's restval is what he
#: adds to training.
WORDS = {
    TRAIN: "train training trainset trn restval",
    VALIDATION: "val valid validation validate validating valset validset validationset minival dev devel development devset eval evaluation",
    TEST: "test testing testset tst testdev holdout heldout holdoutset",
}  # fmt: skip
_SPLIT_OF = {word: split for split, words in WORDS.items() for word in words.split()}
#: What a folder's name says beside its split, as test_images does.
_NEUTRAL = set(
    "annotations captions data dataset image images img imgs photos pics picture pictures set split".split()
)
COLUMN = "split"
#: Columns that tell the split if all their values are words for one, and are something else if not.
PERHAPS = (
    "splits",
    "subset",
    "partition",
    "set",
    "phase",
    "usage",
    "data_split",
    "dataset_split",
    "split_name",
)
FEWEST = 2
T = TypeVar("T")


class _Listed(Protocol):
    key: str
    split: str


E = TypeVar("E", bound=_Listed)


def of_word(word: Any, where: str) -> str:
    """Return the split that a word of the data means, or "" for no word; DataError names any other word and where it stands.

    >>> [of_word(word, "line 2") for word in ("Train", "VAL", "val2017", "held-out", " ")]
    ['train', 'validation', 'validation', 'test', '']
    """
    if word is None or (isinstance(word, str) and not word.strip()):
        return ""
    letters = _letters(word) if isinstance(word, str) else ""
    if letters not in _SPLIT_OF:
        known = "; ".join(f"{split}: {', '.join(words.split())}" for split, words in WORDS.items())
        raise DataError(
            f"A split is a word for training, validation or test, but {where} says {word!r}: write one of {known}."
        )
    return _SPLIT_OF[letters]


def is_word(word: Any) -> bool:
    """Return whether a value is a word for a split."""
    return isinstance(word, str) and _letters(word) in _SPLIT_OF


def of_file(stem: str) -> str:
    """Return the split that a file's name tells, or ""; DataError if it tells two.

    >>> of_file("captions_val2017"), of_file("FlickrTrain"), of_file("captions")
    ('validation', 'train', '')
    """
    found = {_SPLIT_OF[word] for word in words_of(stem) if word in _SPLIT_OF}
    if len(found) > 1:
        raise DataError(
            f"A file belongs to one split, but the name {stem} tells {' and '.join(sorted(found))}: rename it."
        )
    return next(iter(found), "")


def of_folder(name: str) -> str:
    """Return the split that a folder is named after, or ""; test_images is, contest and train_station are not.

    >>> of_folder("Test"), of_folder("val2017"), of_folder("test_images"), of_folder("train_station")
    ('test', 'validation', 'test', '')
    """
    words = [word for word in words_of(name) if word not in _NEUTRAL]
    return _SPLIT_OF.get("".join(words), "")


def of_path(folders: Iterable[str], where: str) -> str:
    """Return the split of the folders that a picture stands in, or ""; DataError if they tell two."""
    found = {split for folder in folders if (split := of_folder(folder))}
    if len(found) > 1:
        raise DataError(
            f"A picture belongs to one split, but the folders of {where} tell {' and '.join(sorted(found))}: move it."
        )
    return next(iter(found), "")


def share_of(name: str, seed: int) -> float:
    """Return the number in [0, 1) that decides on which side of a drawn split a picture of this name stands, keyed by the seed."""
    name = unicodedata.normalize("NFC", name)
    mark = blake2b(
        name.encode("utf-8", "surrogatepass"),
        digest_size=8,
        key=str(seed).encode()[:64],
        person=b"tinymm split",
    )
    return int.from_bytes(mark.digest(), "big") / 2**64


def drawn(named: Sequence[tuple[str, T]], share: float, seed: int) -> tuple[list[T], list[T], bool]:
    """Return training and validation of (name, picture) pairs, and whether the names alone have decided.

    About `share` of the pictures are validation: those whose `share_of` is below it, whatever else
    is there. Where that leaves fewer than two on a side, the nearest fill it up; then, and only
    then, another picture may move a split. DataError where that is not to be had.
    """
    shares = [share_of(name, seed) for name, _ in named]
    ranked = sorted(shares)
    by_name = sum(value < share for value in shares)
    count = min(max(by_name, FEWEST), len(named) - FEWEST)
    limit = ranked[count - 1] if count > 0 else -1.0  # pictures of one name stand on one side
    sides = [
        [
            picture
            for (_, picture), value in zip(named, shares, strict=True)
            if (value <= limit) is side
        ]
        for side in (False, True)
    ]
    if min(map(len, sides)) < FEWEST:
        raise DataError(
            f"Training and validation need 2 pictures each but {len(named)} can be read: add pictures."
        )
    return sides[0], sides[1], len(sides[1]) == by_name


def sides(entries: Sequence[E], share: float, seed: int) -> tuple[dict[str, list[E]], list[str]]:
    """Return listed pictures by split, and what is to be said of it: the data's own where it names them, otherwise drawn.

    Without a validation of its own, training gives a share for it. DataError if fewer than 2 are
    left on a side.
    """
    found = {
        name: [entry for entry in entries if (entry.split or TRAIN) == name] for name in SPLITS
    }
    if found[VALIDATION] or not found[TRAIN]:
        return found, []
    train, validation, by_name = drawn([(entry.key, entry) for entry in found[TRAIN]], share, seed)
    told = (
        f"{len(validation)} of {len(train) + len(validation)} pictures are kept back, those that come nearest to a share of {share:g} "
        "by their names: with so few, another picture may move one of them; a column split would fix it"
    )
    return found | {TRAIN: train, VALIDATION: validation}, [] if by_name else [told]


def _letters(word: str) -> str:
    return re.sub(r"[\W_\d]+", "", unicodedata.normalize("NFKC", word)).casefold()


def words_of(name: str) -> list[str]:
    """Return the words of a name, small; held-out and test-dev are one.

    >>> words_of("captionsVal2017_held-out")
    ['captions', 'val', 'heldout']
    """
    words = [
        word.casefold()
        for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", unicodedata.normalize("NFKC", name))
    ]
    for first, second in (("held", "out"), ("hold", "out"), ("test", "dev")):
        for place in range(len(words) - 1):
            if words[place : place + 2] == [first, second]:
                words[place : place + 2] = [first + second, ""]
    return [word for word in words if word]
