"""Captions without images: the training data of a language model."""

from collections.abc import Sequence

import numpy as np

from tinymm.arrays.errors import DataError

from ..batches import Batch, PairSet, Source, Tokenizer
from ..images import Preprocess

#: Captions of one picture that stand behind each other in a text.
TOGETHER = 2


class Sentences(Source):
    """A source of texts alone, for training a language model: its images are single black pixels, which are not used.

    A text is two captions of one picture, one behind the other; where a picture has one only, that
    of another follows. A model of single sentences would learn that nothing before a sentence
    matters, and would then ignore the soft visual prompts that BLIP-2 puts there. DataError for
    fewer than 2 different pictures' captions.

    >>> from tinymm.data.text import WordTokenizer
    >>> source = Sentences([("red cat",), ("blue dog",)], WordTokenizer(("blue", "cat", "dog", "red"), 4))
    >>> source.batch(np.array([1]), np.random.default_rng(0)).captions
    ('blue dog / red cat',)
    """

    name = "sentences"

    def __init__(self, captions: Sequence[Sequence[str]], tokenizer: Tokenizer) -> None:
        self.texts = [tuple(dict.fromkeys(some)) for some in captions]
        different = {text for some in self.texts for text in some}
        if len(different) < 2 or len(self.texts) < 2:
            raise DataError(
                f"a language model learns from at least 2 pictures' captions, and {len(different)} different ones came; add captions"
            )
        self.tokenizer = tokenizer
        self.preprocess = Preprocess(1, channels=1, mean=(0.0,), std=(1.0,))

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return a text for each of these pictures, its captions in random order."""
        texts = []
        for i in indices:
            own = [self.texts[i][j] for j in rng.permutation(len(self.texts[i]))][:TOGETHER]
            while len(own) < TOGETHER:
                other = self.texts[(i + 1 + rng.integers(len(self) - 1)) % len(self)]
                own.append(other[rng.integers(len(other))])
            texts.append(own)
        parts = [self.tokenizer([text[k] for text in texts]) for k in range(TOGETHER)]
        rows = [
            np.concatenate([ids[row][real[row]] for ids, real in parts])
            for row in range(len(texts))
        ]
        is_real = np.arange(max(map(len, rows))) < np.array([[len(row)] for row in rows])
        ids = np.zeros(is_real.shape, np.int64)
        ids[is_real] = np.concatenate(rows)
        images = np.zeros((len(texts), 1, 1, 1), np.float32)
        return Batch(
            images,
            ids,
            is_real,
            np.asarray(indices, np.int64),
            tuple(" / ".join(text) for text in texts),
        )

    def validation(self) -> PairSet:
        """Return nothing: what matters is measured behind the pictures."""
        return PairSet(np.zeros((0, 1, 1, 1), np.float32), [], np.zeros(0, np.int64))

    def captions(self) -> list[tuple[str, ...]]:
        """Return the different captions of each picture."""
        return self.texts
