"""Two-object scenes as a data set: held-out *scenes* of known words, and wrong captions of the very same words.

What a batch never contrasts, no loss learns. With batches of random scenes a model learns which
things a picture shows and never which one stands left, since no other scene of its batch has the
same two things. So a batch here is made of *neighbors*: the same two things in all their relations,
side by side. `neighbors=False` shows the difference.
"""

from functools import lru_cache

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator

from ..batches import Batch, PairSet, Source, Swaps
from ..datasets import DatasetSpec, register_dataset
from ..images import Preprocess
from ..text import WordTokenizer
from .scenes import RESOLUTION, Scene, all_scenes, drawn

HELD_OUT = 57
RENDERINGS = 48


def load(seed: int = 0, *, neighbors: bool = True) -> "Shapes":
    """Return the scenes as a source of training batches, a validation set, a test on held-out scenes and six kinds of swapped captions.

    The split never depends on `seed`; `seed` only chooses the validation pictures. The pictures are
    drawn on the first call (about 3 s).

    >>> shapes = load()
    >>> len(shapes), len(shapes.tests()["held_out"])
    (231, 57)
    """
    return Shapes(seed, neighbors=neighbors)


class Shapes(Source):
    """288 scenes: training has 231 of them, each drawn 48 times; 57 are never shown in training, nor are their captions.

    Index i of a batch is a training *scene*; its rendering and which of its two true captions it
    gets are drawn with `rng`.
    """

    name = "shapes"
    tokenizer: WordTokenizer

    def __init__(self, seed: int = 0, *, neighbors: bool = True) -> None:
        self.seed, self.neighbors = seed, neighbors
        self.held_out, self.scenes = split()
        self.pictures, self.held_out_pictures = _renderings()
        self.preprocess = Preprocess(
            RESOLUTION, channels=3, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        )
        self.tokenizer = WordTokenizer.from_captions(
            caption for scene in all_scenes() for caption in scene.captions()
        )
        self._groups = _groups(self.scenes)

    def __len__(self) -> int:
        return len(self.scenes)

    def batch_indices(self, batch_size: int, step: int, seed: int) -> np.ndarray:
        """Return the scenes (batch_size,) of batch `step`: whole groups of neighbors, cut at `batch_size`; any scenes with `neighbors=False`.

        UsageError for a batch of more scenes than there are.
        """
        if batch_size > len(self):
            raise UsageError(
                f"a batch holds no scene twice, and {batch_size} of {len(self)} came; lower --batch-size"
            )
        if not self.neighbors:
            return super().batch_indices(batch_size, step, seed)
        order = generator(seed, 3, step).permutation(len(self._groups))
        return np.concatenate([self._groups[i] for i in order])[:batch_size]

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return the training scenes of indices (B,), each in one of its renderings and with one of its two captions."""
        renderings = rng.integers(0, RENDERINGS, len(indices))
        wordings = rng.integers(0, 2, len(indices))
        captions = [self.scenes[i].captions()[w] for i, w in zip(indices, wordings, strict=True)]
        ids, is_real = self.tokenizer(captions)
        return Batch(
            self.preprocess.normalize(self.pictures[indices, renderings]),
            ids,
            is_real,
            np.asarray(indices, np.int64),
            tuple(captions),
        )

    def validation(self) -> PairSet:
        """Return 100 training scenes, each in a rendering that training never shows."""
        chosen = generator(self.seed).permutation(len(self))[:100]
        images = self.preprocess.normalize(self.pictures[chosen, RENDERINGS])
        return PairSet(images, [str(self.scenes[i]) for i in chosen], np.arange(len(chosen)))

    def tests(self) -> dict[str, PairSet]:
        """Return the 57 held-out scenes, new combinations of known words, each with its caption."""
        return {
            "held_out": PairSet(
                self._held_out_images(),
                [str(scene) for scene in self.held_out],
                np.arange(HELD_OUT),
            )
        }

    def swaps(self) -> dict[str, Swaps]:
        """Return, for each kind of mistake, the held-out pictures with their right captions and that mistake in them."""
        images = self._held_out_images()
        right = [str(scene) for scene in self.held_out]
        wrong = [scene.swapped() for scene in self.held_out]
        return {
            kind: Swaps(images, right, [captions[kind] for captions in wrong]) for kind in wrong[0]
        }

    def references(self, pairs: PairSet) -> list[tuple[str, ...]]:
        """Return all true captions of each picture's scene, any of which is a right answer."""
        true = {said: scene.captions() for scene in all_scenes() for said in scene.captions()}
        true |= {str(scene): scene.captions() for scene in all_scenes()}
        return [true[caption] for caption in pairs.captions]

    def captions(self) -> list[tuple[str, ...]]:
        """Return the captions of each training scene, what a language model may read."""
        return [scene.captions() for scene in self.scenes]

    def _held_out_images(self) -> np.ndarray:
        return self.preprocess.normalize(self.held_out_pictures)


@lru_cache(maxsize=1)
def split() -> tuple[tuple[Scene, ...], tuple[Scene, ...]]:
    """Return the 57 held-out and the 231 training scenes; the draw is fixed for good, so that numbers can be compared."""
    order = generator(0).permutation(len(all_scenes()))
    chosen = [all_scenes()[i] for i in order]
    return tuple(chosen[:HELD_OUT]), tuple(chosen[HELD_OUT:])


@lru_cache(maxsize=1)
def _renderings() -> tuple[np.ndarray, np.ndarray]:
    """Return the training pictures (231, 49, 32, 32, 3), the last of each for validation, and the held-out ones (57, 32, 32, 3); read-only."""
    held_out, scenes = split()
    pictures = np.array(
        [
            [drawn(scene, rng) for _ in range(RENDERINGS + 1)]
            for rng, scene in ((generator(1, i), s) for i, s in enumerate(scenes))
        ]
    )
    held_out_pictures = np.array(
        [drawn(scene, generator(2, i)) for i, scene in enumerate(held_out)]
    )
    pictures.flags.writeable = held_out_pictures.flags.writeable = False
    return pictures, held_out_pictures


def _groups(scenes: tuple[Scene, ...]) -> list[np.ndarray]:
    """Return the indices of the scenes by the two things that they show."""
    found: dict[frozenset, list[int]] = {}
    for i, scene in enumerate(scenes):
        found.setdefault(frozenset((scene.first, scene.second)), []).append(i)
    return [np.array(indices) for indices in found.values()]


register_dataset(
    DatasetSpec(
        "shapes",
        lambda seed, _: load(seed),
        "drawn scenes of two things, neighbors side by side in a batch",
        one_size=True,
        place=20,
    )
)
register_dataset(
    DatasetSpec(
        "scattered-shapes",
        lambda seed, _: load(seed, neighbors=False),
        "the scenes of shapes, any of them side by side in a batch",
        one_size=True,
        place=30,
    )
)
