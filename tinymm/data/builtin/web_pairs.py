"""Drawn scenes with captions as the web has them: one a picture, and a known share of them belongs to another scene.

The wrong captions are plausible: true of another training scene, and only a word or two away from
the right ones ("a red circle *above* a blue star"). A few pictures of each scene have been looked
at by people, and their captions are right: what COCO is to the web in BLIP (§3.3, §4.1).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError
from tinymm.arrays.random import generator

from ..batches import Batch, NoisySource
from ..datasets import DatasetSpec, register_dataset
from .shapes import RENDERINGS, Shapes, split

#: Of each scene's renderings, the first are captioned by people.
BY_PEOPLE = 2


class WebPairs(Shapes, NoisySource):
    """The training scenes of `shapes`, each picture with captions of its own, of which a share `wrong` is another scene's.

    Picture number i is rendering i % 48 of scene i // 48. `texts` holds the captions of each
    picture, none for one that was filtered out; `with_captions` gives the same pictures with
    others. Tests, swaps and validation are those of `shapes`: always right. DataError for a share
    outside [0, 1], for another number of `texts`, and for a scene that has no caption left.

    >>> web = WebPairs(wrong=0.4)
    >>> len(web.texts), round(float(np.mean([web.is_true(i, web.texts[i][0]) for i in web.web_pictures()])), 1)
    (11088, 0.6)
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        wrong: float = 0.4,
        texts: Sequence[tuple[str, ...]] | None = None,
        neighbors: bool = True,
    ) -> None:
        if not 0 <= wrong <= 1:
            raise DataError(
                f"the share of wrong captions lies in [0, 1], and {wrong} came; the default is 0.4"
            )
        super().__init__(seed, neighbors=neighbors)
        self.wrong = wrong
        self._texts = list(_texts(wrong) if texts is None else texts)
        if len(self.texts) != len(self.scenes) * RENDERINGS:
            raise DataError(
                f"{len(self.scenes) * RENDERINGS} pictures have a tuple of captions each, and {len(self.texts)} came; give () for none"
            )
        of_scene = np.array_split(np.arange(len(self.texts)), len(self.scenes))
        self._pairs = [
            [(int(i), text) for i in pictures for text in self.texts[i]] for pictures in of_scene
        ]
        if not all(self._pairs):
            scene = [len(pairs) for pairs in self._pairs].index(0)
            raise DataError(
                f"each scene stands in batches with a caption, and scene {scene} has one left for none of its pictures; filter less"
            )

    @property
    def texts(self) -> list[tuple[str, ...]]:
        """The captions of each picture, none for one that was filtered out."""
        return self._texts

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return one pair of each of these training scenes: any picture of it that has a caption, with one of its captions."""
        drawn = [self._pairs[i][rng.integers(len(self._pairs[i]))] for i in indices]
        pictures = np.array([picture for picture, _ in drawn], np.int64)
        captions = tuple(text for _, text in drawn)
        ids, is_real = self.tokenizer(captions)
        return Batch(self.images(pictures), ids, is_real, pictures, captions)

    def images(self, pictures: np.ndarray) -> np.ndarray:
        """Return these pictures, normalized: (n,) -> (n, 32, 32, 3)."""
        return self.preprocess.normalize(
            self.pictures[pictures // RENDERINGS, pictures % RENDERINGS]
        )

    def web_pictures(self) -> np.ndarray:
        """Return the numbers of the pictures whose captions are not checked."""
        every = np.arange(len(self.texts))
        return every[every % RENDERINGS >= BY_PEOPLE]

    def by_people(self) -> "WebPairs":
        """Return the same scenes with only the pairs that people have looked at."""
        kept = [text if i % RENDERINGS < BY_PEOPLE else () for i, text in enumerate(self.texts)]
        return self.with_captions(kept)

    def with_captions(self, texts: Sequence[tuple[str, ...]]) -> "WebPairs":
        """Return the same pictures with other captions, in the same words."""
        other: Any = WebPairs(self.seed, wrong=self.wrong, texts=texts, neighbors=self.neighbors)
        other.tokenizer = self.tokenizer
        return other

    def is_true(self, picture: int, caption: str) -> bool:
        """Say whether a caption is one of the two true ones of a picture's scene."""
        return caption in self.scenes[picture // RENDERINGS].captions()


@lru_cache(maxsize=4)
def _texts(wrong: float) -> tuple[tuple[str, ...], ...]:
    """Return the caption of each picture; the draw is fixed for good."""
    scenes = split()[1]
    rng = generator(4)
    near = _near(tuple(scene.captions() for scene in scenes))
    texts = []
    for scene, others in zip(scenes, near, strict=True):
        for rendering in range(RENDERINGS):
            right, is_wrong, other = (
                scene.captions()[rng.integers(2)],
                rng.random() < wrong,
                others[rng.integers(len(others))],
            )
            texts.append((other,) if is_wrong and rendering >= BY_PEOPLE else (right,))
    return tuple(texts)


def _near(captions: tuple[tuple[str, str], ...]) -> list[list[str]]:
    """Return, for each scene, the captions of other scenes that differ from one of its own in one word or two."""
    split_up = [(caption.split(), scene) for scene, both in enumerate(captions) for caption in both]
    near = []
    for scene, both in enumerate(captions):
        found = {
            " ".join(words)
            for own in both
            for words, other in split_up
            if other != scene
            and len(words) == len(own.split())
            and sum(a != b for a, b in zip(words, own.split(), strict=True)) <= 2
        }
        near.append(sorted(found - set(both)))
    return near


register_dataset(
    DatasetSpec(
        "web-shapes",
        lambda seed, _: WebPairs(seed),
        "the scenes of shapes with one caption a picture, 40 % of which are another scene's",
        one_size=True,
        place=40,
    )
)
