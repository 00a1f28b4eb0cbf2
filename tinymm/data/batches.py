"""Sources of image-caption pairs: training batches and test sets.

Arrays only, and one convention for all: pictures are channels last and already normalized, ids are
int64, and a mask says which tokens are real. Which pictures stand in a batch is a function of the
seed and the step, with no state to save.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.arrays.random import generator

from .images import Preprocess


@dataclass(frozen=True)
class Batch:
    """B pictures, each with one caption: `images (B, h, w, c)`, `ids` and `is_real (B, T)`, `image_ids (B,)`, `captions`.

    T is the longest caption of this batch, not the context: short captions make a fast step.
    `image_ids` says which rows show the same picture, which losses with several positives need.
    """

    images: np.ndarray
    ids: np.ndarray
    is_real: np.ndarray
    image_ids: np.ndarray
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class PairSet:
    """N pictures `(N, h, w, c)` and M captions; `image_of_caption (M,)` gives each caption's picture.

    A picture may have several captions; a caption of no picture is a distractor and has -1.
    ShapeError for pictures of another number of axes, or captions without their index; DataError
    for an index of no picture.

    >>> PairSet(np.zeros((1, 8, 8, 3), np.float32), ["a dot", "a line"], np.array([0, -1])).targets_of_images()
    [array([0])]
    """

    images: np.ndarray
    captions: list[str]
    image_of_caption: np.ndarray

    def __post_init__(self) -> None:
        if self.images.ndim != 4:
            raise ShapeError(
                f"PairSet needs pictures (N, h, w, c) but got {self.images.shape}: stack them on a new first axis."
            )
        if self.image_of_caption.shape != (len(self.captions),):
            raise ShapeError(
                f"PairSet needs one picture index a caption, ({len(self.captions)},), but got {self.image_of_caption.shape}: "
                "give the index of its picture, or -1 for a distractor."
            )
        if len(
            self.captions
        ) and not -1 <= self.image_of_caption.min() <= self.image_of_caption.max() < len(
            self.images
        ):
            raise DataError(
                f"PairSet's picture indices go from -1 to {len(self.images) - 1} but came as {self.image_of_caption.min()} to "
                f"{self.image_of_caption.max()}: count the {len(self.images)} pictures from 0."
            )

    def __len__(self) -> int:
        return len(self.images)

    def targets_of_images(self) -> list[np.ndarray]:
        """Return, for each picture, the indices of its captions."""
        return [np.flatnonzero(self.image_of_caption == image) for image in range(len(self.images))]


@dataclass(frozen=True)
class ZeroShot:
    """A zero-shot classification task: images `(N, h, w, c)`, `targets (N,)` index `classes`.

    Every template has one `{}` for the class (CLIP §3.1.4: several prompts a class are averaged in
    the shared embedding space). ShapeError unless each picture has its class; DataError for a
    template without one `{}`.
    """

    images: np.ndarray
    classes: tuple[str, ...]
    targets: np.ndarray
    templates: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.targets.shape != (len(self.images),):
            raise ShapeError(
                f"ZeroShot needs a class for each picture, ({len(self.images)},), but got {self.targets.shape}: add the others."
            )
        without = [template for template in self.templates if template.count("{}") != 1]
        if without or not self.templates:
            raise DataError(
                f"A prompt template has one {{}} for its class but came as {without or 'none'}: write 'picture of {{}}'."
            )

    def __len__(self) -> int:
        return len(self.images)

    def prompts(self) -> list[list[str]]:
        """Return the prompts of each class: every template with the class put in."""
        return [[template.format(name) for template in self.templates] for name in self.classes]


@dataclass(frozen=True)
class Swaps:
    """Hard-negative captions (as ARO and Winoground): images `(N, h, w, c)`, each with a `right` caption and a `wrong` one.

    ShapeError unless each
    picture has both.
    """

    images: np.ndarray
    right: list[str]
    wrong: list[str]

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.right) == len(self.wrong):
            raise ShapeError(
                f"Swaps needs a right and a wrong caption for each of {len(self.images)} pictures, and {len(self.right)} with "
                f"{len(self.wrong)} came: add the others."
            )

    def __len__(self) -> int:
        return len(self.images)


class Tokenizer(Protocol):
    """A tokenizer: texts -> `(ids (B, T) int64, is_real (B, T) bool)`, trimmed to the longest of them."""

    def __call__(self, texts: Sequence[str], /) -> tuple[np.ndarray, np.ndarray]: ...  # noqa: D102


class Record(NamedTuple):
    """The record of one image: name, captions, split, and 8 bytes that tell its content.

    There are no such bytes (b"") of a picture that is drawn.
    """

    name: str
    captions: tuple[str, ...]
    split: str
    content: bytes = b""


def digest(content: bytes) -> bytes:
    """Return the 8 bytes that tell one content from another."""
    return blake2b(content, digest_size=8).digest()


class Source(ABC):
    """A source of training batches: a data set is a subclass with a `name`, a `preprocess` and a `tokenizer`.

    Each data set defines `__len__`, `batch`, `validation` and `captions`. Everything else is a
    question that a data set may answer, and that has an honest answer here for one that knows no
    more: no tests, no wrong captions, batches of any pictures. Nobody asks whether a method exists.
    """

    name: str
    preprocess: Preprocess
    #: What makes ids of this data's captions; training may put another in its place.
    tokenizer: Tokenizer
    #: Whether captions may be wrong, so that CapFilt has something to clean: a `NoisySource`.
    noisy: bool = False
    #: The training pictures and the others, split by split, where they are files.
    splits: Mapping[str, Sequence[Any]] = MappingProxyType({})

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of training pictures."""

    @abstractmethod
    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return the training pictures of indices (B,), each with a caption drawn from `rng`."""

    @abstractmethod
    def validation(self) -> PairSet:
        """Return pairs that no step is trained on, by which a checkpoint is chosen."""

    @abstractmethod
    def captions(self) -> list[tuple[str, ...]]:
        """Return what may be said of each training picture, which a language model may read."""

    def batch_indices(self, batch_size: int, step: int, seed: int) -> np.ndarray:
        """Return the pictures (batch_size,) that stand together in batch `step`: any of them."""
        return batch_indices(len(self), batch_size, step, seed)

    def tests(self) -> dict[str, PairSet]:
        """Return by name the pairs that only the report sees, and nothing is chosen by."""
        return {}

    def zero_shot(self) -> dict[str, ZeroShot]:
        """Return by name the classifications by words."""
        return {}

    def swaps(self) -> dict[str, Swaps]:
        """Return by the kind of mistake pictures with a right and a wrong caption."""
        return {}

    def references(self, pairs: PairSet) -> list[tuple[str, ...]]:
        """Return all true captions of each picture of `pairs`: here those that stand there."""
        return [tuple(pairs.captions[i] for i in own) for own in pairs.targets_of_images()]

    def remarks(self) -> list[str]:
        """Return in sentences what of the data is not used, or odd."""
        return []

    @property
    def about(self) -> str:
        """What the pictures are and where they come from, for `data check`."""
        return ""

    def records(self) -> Iterator[Record]:
        """Yield what is remembered of every picture: here by number, as pictures have no names."""
        for number, captions in enumerate(self.captions()):
            yield Record(f"training {number}", tuple(captions), "train")
        held_out = self.validation()
        for number, own in enumerate(held_out.targets_of_images()):
            captions = tuple(held_out.captions[i] for i in own)
            content = digest(held_out.images[number].tobytes())
            yield Record(f"validation {number}", captions, "validation", content)


class NoisySource(Source):
    """A source whose captions may be wrong, and what CapFilt asks of it (BLIP, §3.3)."""

    noisy = True

    @property
    def texts(self) -> list[tuple[str, ...]]:
        """The captions of each picture, () for none: here those of the training pictures."""
        return self.captions()

    @abstractmethod
    def web_pictures(self) -> np.ndarray:
        """Return the numbers (n,) of the pictures whose captions are not checked."""

    @abstractmethod
    def images(self, pictures: np.ndarray) -> np.ndarray:
        """Return these pictures as a test sees them, normalized: (n,) -> (n, h, w, c)."""

    @abstractmethod
    def with_captions(self, texts: Sequence[tuple[str, ...]]) -> "NoisySource":
        """Return the same pictures with other captions, in the same words."""

    def by_people(self) -> "NoisySource | None":
        """Return only the pairs that people have looked at; None where there are none."""
        return None

    def is_true(self, picture: int, caption: str) -> bool | None:
        """Say whether a caption is true of a picture; None where the truth is not known."""
        return None


def batch_indices(n: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Return the `batch_size` of `n` pictures that stand in batch `step`, `(B,)` int64, none of them twice.

    Each epoch is a new permutation cut into `n // batch_size` batches; the rest of it sits out. It
    is a function of its arguments alone, so a run resumed at step 500 reads what the uninterrupted
    run read, with no state on disk. DataError for a batch of more than `n` or of none, and for a
    step below 0.

    >>> batch_indices(10, 4, step=0, seed=0)
    array([4, 6, 2, 7])
    >>> sorted(np.concatenate([batch_indices(4, 2, step, seed=0) for step in (0, 1)]).tolist())
    [0, 1, 2, 3]
    """
    if not 1 <= batch_size <= n:
        raise DataError(
            f"A batch holds no picture twice, so its size goes from 1 to the number of training pictures, {n}, "
            f"but came as {batch_size}: choose a smaller batch or give more pictures."
        )
    if step < 0:
        raise DataError(f"Steps are counted from 0 but came as {step}: start at 0.")
    epoch, place = divmod(step, n // batch_size)
    return _permutation(n, seed, epoch)[place * batch_size : (place + 1) * batch_size].copy()


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return generator(seed, epoch).permutation(n)
