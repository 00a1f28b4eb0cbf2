"""Captions without their pictures: what a language model reads before it has seen anything."""

from collections.abc import Sequence

import numpy as np

from tinymm.arrays.errors import DataError

from .batches import Batch, PairSet, Tokenizer, ZeroShot
from .images import Preprocess


class Sentences:
    """A source of texts alone, for training a language model: its pictures are single black pixels that nobody looks at.

    >>> from .text import WordTokenizer
    >>> source = Sentences(["red cat", "blue dog"], WordTokenizer(("blue", "cat", "dog", "red"), 4))
    >>> source.batch(np.array([1]), np.random.default_rng(0)).captions
    ('blue dog',)
    """

    name = "sentences"

    def __init__(self, captions: Sequence[str], tokenizer: Tokenizer) -> None:
        self.sentences = tuple(dict.fromkeys(captions))
        if len(self.sentences) < 2:
            raise DataError(f"a language model learns from at least 2 different captions, and {len(self.sentences)} came; add captions")
        self.tokenizer = tokenizer
        self.preprocess = Preprocess(1, channels=1, mean=(0.0,), std=(1.0,))

    def __len__(self) -> int:
        return len(self.sentences)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return these texts."""
        texts = tuple(self.sentences[i] for i in indices)
        ids, is_real = self.tokenizer(texts)
        return Batch(np.zeros((len(texts), 1, 1, 1), np.float32), ids, is_real, np.asarray(indices, np.int64), texts)

    def validation(self) -> PairSet:
        """Return nothing: what matters is measured behind the pictures."""
        return PairSet(np.zeros((0, 1, 1, 1), np.float32), [], np.zeros(0, np.int64))

    def tests(self) -> dict[str, PairSet]:
        """Return nothing."""
        return {}

    def zero_shot(self) -> dict[str, ZeroShot]:
        """Return nothing."""
        return {}
