"""Handwritten digits with captions: the smallest zero-shot classification, and a data set in which captions repeat on purpose.

1,797 pictures share ten classes, so about 13 of 128 pictures in a batch show the same digit, and
the caption of each is a wrong answer for the other 12. Figure 3's loss cannot fall far below ln 13
= 2.6 there, as training warns, and yet the model learns to name digits.
"""

from functools import lru_cache

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator

from ..augment import random_affine
from ..batches import Batch, PairSet, Source, ZeroShot
from ..datasets import DatasetSpec, register_dataset
from ..images import Preprocess
from ..text import WordTokenizer

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = (
    "a photo of the digit {}",
    "the number {}",
    "a handwritten {}",
    "{}",
    "someone wrote the digit {} by hand",
)
TEST, HELD_BACK = 360, 180
SMALLEST, LARGEST = 8, 128


def load(seed: int = 0, resolution: int = 32, *, strength: float = 0.5) -> "Digits":
    """Return scikit-learn's digits as a source: 1,257 for training, the others for validation and for the zero-shot test.

    The split never depends on `seed`, which only chooses the ten pictures of validation.

    >>> digits = load()
    >>> len(digits), digits.batch(np.array([0]), np.random.default_rng(1)).captions
    (1257, ('the number zero',))
    """
    return Digits(seed, resolution, strength=strength)


class Digits(Source):
    """Pictures of 8 × 8 gray values enlarged to the model's resolution; a caption is a digit's word in one of five templates.

    There is no retrieval test: a caption that fits 36 pictures has no right one.

    Distortion is half as strong as for glyphs, and nothing is mirrored or turned far: a six on its
    head is a nine. UsageError for a negative `strength`.
    """

    name = "digits"

    def __init__(self, seed: int = 0, resolution: int = 32, *, strength: float = 0.5) -> None:
        if strength < 0:
            raise UsageError(f"digits need a strength from 0 on, but got {strength}: try 0.5.")
        self.seed, self.strength = seed, strength
        pictures, self.targets = enlarged(resolution)
        self.test, self.held_back, self.trained = split(len(pictures))
        self.pictures = pictures
        self.preprocess = Preprocess(resolution, channels=1, mean=(0.3,), std=(0.38,))
        self.tokenizer = WordTokenizer.from_captions(
            template.format(word) for word in CLASSES for template in TEMPLATES
        )

    def __len__(self) -> int:
        return len(self.trained)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return the training pictures of these indices (B,), distorted, each with its digit in one of the templates."""
        chosen = self.trained[indices]
        ink = random_affine(self.pictures[chosen] * np.float32(1 / 255), rng, self.strength)
        images = (ink - np.float32(self.preprocess.mean[0])) / np.float32(self.preprocess.std[0])
        which = rng.integers(0, len(TEMPLATES), len(chosen))
        captions = [
            TEMPLATES[t].format(CLASSES[target])
            for t, target in zip(which, self.targets[chosen], strict=True)
        ]
        ids, is_real = self.tokenizer(captions)
        return Batch(images, ids, is_real, np.asarray(chosen, np.int64), tuple(captions))

    def validation(self) -> PairSet:
        """Return ten held-out pictures, one of each digit, so that each caption belongs to one of them: chance is 0.1."""
        rng = generator(self.seed)
        chosen = [
            rng.choice(self.held_back[self.targets[self.held_back] == target])
            for target in range(len(CLASSES))
        ]
        captions = [TEMPLATES[0].format(word) for word in CLASSES]
        return PairSet(
            self.preprocess.normalize(self.pictures[chosen]), captions, np.arange(len(CLASSES))
        )

    def zero_shot(self) -> dict[str, ZeroShot]:
        """Return the task digit: 360 pictures that are in no batch, to be named by prompts alone; chance is 0.1."""
        return {
            "digit": ZeroShot(
                self.preprocess.normalize(self.pictures[self.test]),
                CLASSES,
                self.targets[self.test],
                TEMPLATES,
            )
        }

    def captions(self) -> list[tuple[str, ...]]:
        """Return what may be said of each training picture."""
        return [
            tuple(template.format(CLASSES[target]) for template in TEMPLATES)
            for target in self.targets[self.trained]
        ]

    @property
    def about(self) -> str:
        """Where the pictures come from, for `data check`."""
        return f"scikit-learn's digits, 8 × 8 gray values; {len(self.test)} of them only for the zero-shot test"


@lru_cache(maxsize=2)
def enlarged(resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all pictures `(1797, resolution, resolution, 1)` uint8, white on black and read-only, and their digits `(1797,)`.

    UsageError for a resolution out of range, or where scikit-learn is missing.
    """
    if not SMALLEST <= resolution <= LARGEST:
        raise UsageError(
            f"digits are 8 × 8 gray values enlarged to at most {LARGEST} pixels, and {resolution} came; change --resolution"
        )
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UsageError(
            "--data digits needs the package scikit-learn, which is not installed; pip install -e '.[data]' brings it"
        ) from None
    from PIL import Image

    found = load_digits()
    small = np.round(found.images * (255 / 16)).astype(np.uint8)
    size = (resolution, resolution)
    pictures = np.array(
        [
            np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
            for picture in small
        ]
    )[..., None]
    pictures.flags.writeable = False
    return pictures, found.target.astype(np.int64)


def split(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices (n,) of the test, of validation and of training; the draw is fixed for good."""
    order = generator(0).permutation(count)
    return (
        np.sort(order[:TEST]),
        np.sort(order[TEST : TEST + HELD_BACK]),
        np.sort(order[TEST + HELD_BACK :]),
    )


register_dataset(
    DatasetSpec("digits", load, "handwritten digits, named by words in five templates", place=50)
)
