"""Accounts of captions: every one that went in is used, whole and with its own picture, or is named.

Each caption begins and ends with a token of its own, `k12s … k12e`, and stands for picture `p1`
(the number's tens). So one can look for it in whatever the input became, and in what was made of
it, without a reader of one's own.
"""

import io
import random
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

#: A number with a zero in front, or a digit behind the end, is none of ours: bytes have changed
#: there.
TOKEN = re.compile(r"k(0|[1-9]\d*)([se])(?![a-z\d])")
COLORS, THINGS = ("red", "green", "blue", "white"), ("ball", "bar", "box", "pole", "ring")
#: Words for splits, and whether what bears them may be trained on; None: nobody can know.
SPLITS = {
    "train": True, "Train": True, "TRAIN": True, "training": True, "restval": True,
    "val": False, "VAL": False, "valid": False, "validation": False, "dev": False, "eval": False,
    "test": False, "Test": False, "testing": False, "holdout": False, "val2017": False,
    "test2014": False,
    "tset": None, "fold3": None, "7": None, "kept apart": None,
}  # fmt: skip


def may_train(word: str) -> bool | None:
    """Return whether a picture with this word for its split may be trained on; None: nobody can know.

    >>> may_train("TEST"), may_train("restval"), may_train("tset")
    (False, True, None)
    """
    return SPLITS.get(word, SPLITS.get(word.casefold()))


def caption(rng: random.Random, number: int) -> str:
    """Return a caption with its number at both ends, now and then with signs that readers split at."""
    inner = f"a {rng.choice(COLORS)} {rng.choice(THINGS)}"
    if rng.random() < 0.3:
        more = (
            "one, two",
            "so; what",
            'called "it"',
            "it's",
            "a\tb",
            "ein Bär",
            "“so”",
            "x | y",
            "#1",
        )
        inner += " " + rng.choice(more)
    return f"k{number}s {inner} k{number}e"


@cache
def picture(kind: str = "PNG", side: int = 8) -> bytes:
    """Return the bytes of a small picture."""
    from PIL import Image

    pixels = np.random.default_rng(side).integers(0, 255, (side, side + 2, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def loader(path: Path, **options: Any) -> Any:
    """Return the call that reads pictures and captions as training does, a batch and the tests' too."""
    from tinymm.data.your_data import pairs

    def act() -> Any:
        found = pairs.load(path, resolution=8, **options)
        found.batch(np.arange(min(4, len(found))), np.random.default_rng(0))
        found.validation()
        return found

    return act


def named(found: Any) -> str:
    """Return all that a source says of what it does not use."""
    remarks = found.remarks() if hasattr(found, "remarks") else []
    return "\n".join([*(f"{name}: {reason}" for name, reason in found.skipped), *remarks])


def status(found: Any) -> str:
    """Return whether a source names anything that it does not use."""
    return "named" if found.skipped or "not used" in named(found) else "used"


def entries(found: Any) -> Iterator[tuple[str, Any]]:
    """Yield (split, entry) of all that a source uses, whether its picture turned out readable or not."""
    for split, some in found.splits.items():
        yield from ((split, entry) for entry in some)


def audit(
    found: Any, went_in: Iterable[str], mentions: Any = None, *, whole: bool = True
) -> Iterator[str]:
    """Yield a complaint for each token that is neither used nor named, and for each caption that is cut.

    `mentions(number)` are words of which one in the list of what was skipped is enough, beside the
    caption itself and its picture's name. `whole` asks that each caption used has both its ends.
    """
    # A picture that stands about is no account of the row that names it.
    said = re.sub(r".* \.(png|jpg) files? not used.*", "", named(found))
    used: set[str] = set()
    for _, entry in entries(found):
        for text in entry.captions:
            tokens = TOKEN.findall(text)
            used |= {f"k{number}{end}" for number, end in tokens}
            starts = {number for number, end in tokens if end == "s"}
            ends = {number for number, end in tokens if end == "e"}
            if whole and starts != ends:
                yield f"cut: caption {text[:80]!r}"
    for token in sorted(set(went_in) - used):
        number = int(token[1:-1])
        also = list(mentions(number)) if mentions else []
        words = [f"k{number}", f"p{number // 10}.", f"p{number // 10}#", *also]
        if not any(word in said for word in words):
            yield f"dropped: {token} ({'|'.join(also[:2])}; skipped: {said[:80]!r})"


def tokens_in(text: bytes | str) -> list[str]:
    """Return the tokens of a text, in any of the encodings that the kinds write."""
    if isinstance(text, bytes):
        wide = max(text[::2].count(0), text[1::2].count(0)) > len(text) // 3  # every second byte
        text = (
            text.replace(b"\x00", b"").decode("latin-1")
            if wide
            else text.decode("utf-8", "replace")
        )
    return [f"k{number}{end}" for number, end in TOKEN.findall(text)]


def held_out(found: Any, split_of: dict[int, str]) -> Iterator[str]:
    """Yield a complaint for each record that is trained on though its own word for a split forbids that.

    `split_of` has that word by picture. Data in one split only is data to train on.
    """
    said = named(found)
    if len({may_train(word) for word in split_of.values()}) < 2:
        return
    for split, entry in entries(found):
        numbers = {
            int(number) // 10 for text in entry.captions for number, _ in TOKEN.findall(text)
        }
        for word in {split_of[number] for number in numbers if number in split_of}:
            if may_train(word) is None and word.strip() and f"{word}" not in said:
                yield f"split: an unknown word, {word!r}, is used as {split}"
            if may_train(word) is False and split == "train":
                yield f"split: a picture of {word!r} is trained on"
