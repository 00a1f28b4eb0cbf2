"""CBOW, the continuous bag of words: the mean of the word embeddings as text encoder (Figure 3: "CBOW or Text Transformer")."""

from dataclasses import dataclass

import numpy as np

from tinymm.arrays.backend import array_module, to_backend
from tinymm.autodiff import Tensor
from tinymm.layers import Embedding, LayerNorm, Module

from .text import check_ids


@dataclass(frozen=True)
class CBOWConfig:
    """Sizes of a bag of words; `end_of_text` is left out of the average like padding (id 0).

    >>> CBOWConfig(vocabulary=100, context=16, width=64).context
    16
    """

    vocabulary: int
    context: int
    width: int
    end_of_text: int | None = None
    eps: float = 1e-5


class CBOW(Module):
    """The mean of the words' embeddings, normalized: ids (B, T) -> (B, D) (Mikolov et al. 2013, continuous bag of words).

    Blind to order by construction: "red ball on blue box" and "blue ball on red box" are one text
    to it, and swapped captions score exactly one half. The paper names it in Figure 3 but no code
    was released, so the definition is ours: padding and the end token do not count.
    """

    def __init__(self, config: CBOWConfig, rng: np.random.Generator):
        self.config = config
        self.token_embedding = Embedding(config.vocabulary, config.width, rng=rng, std=0.02)
        self.norm_after = LayerNorm(config.width, config.eps)

    def forward(self, ids: np.ndarray) -> Tensor:
        """Return one feature a text: ids (B, T) -> (B, D); a text without words gives the norm's bias.

        ShapeError for other axes, or beyond the context.
        """
        check_ids(ids, self.config.context)
        B, T = ids.shape
        words = self.token_embedding(ids)  # (B, T, D)
        is_word = (ids != 0) & (
            ids != (-1 if self.config.end_of_text is None else self.config.end_of_text)
        )  # (B, T)
        share = (is_word / np.maximum(is_word.sum(axis=1, keepdims=True), 1)).astype(
            words.dtype
        )  # (B, T)
        mixed = to_backend(share[:, None], array_module(words.data).__name__) @ words  # (B, 1, D)
        return self.norm_after(np.squeeze(mixed, axis=1))  # (B, D)
