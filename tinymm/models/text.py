"""CLIP's text encoder: a causal transformer, read off at the end-of-text token (§2.4)."""

from dataclasses import dataclass

import numpy as np

from tinymm.arrays.errors import DataError, DtypeError, ShapeError
from tinymm.autodiff import Tensor
from tinymm.layers import Block, Embedding, LayerNorm, Module, Parameter, causal_mask
from tinymm.layers.init import normal


@dataclass(frozen=True)
class TextConfig:
    """Sizes of a text transformer over `vocabulary` ids and at most `context` tokens.

    `end_of_text` is the id that is read off; None means "the largest id of the row", as the
    released code finds it.

    >>> TextConfig(vocabulary=100, context=16, width=64, layers=2, heads=4).activation
    'quick_gelu'
    """

    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int
    activation: str = "quick_gelu"
    eps: float = 1e-5
    feed_forward: int | None = None  # 4 · width
    end_of_text: int | None = None

    def __post_init__(self):
        if self.feed_forward is None:
            object.__setattr__(self, "feed_forward", 4 * self.width)


def end_positions(ids: np.ndarray, end_of_text: int | None) -> np.ndarray:
    """Return where each row ends: the first place of `end_of_text`, or of the largest id if it is None: ids (B, T) -> (B,).

    "Largest" breaks as soon as tokens with larger ids are added to the vocabulary, so give the id
    where it is known. A row without it is a DataError: the released code would silently read off
    its first token.

    >>> end_positions(np.array([[5, 9, 0], [9, 0, 0]]), 9)
    array([1, 0])
    """
    if end_of_text is None:
        return ids.argmax(axis=-1)
    ends = ids == end_of_text
    if not ends.any(axis=-1).all():
        row = int(np.argmin(ends.any(axis=-1)))
        raise DataError(
            f"every text ends with the token {end_of_text}, and row {row} {ids[row].tolist()} has none; use the model's own tokenizer"
        )
    return ends.argmax(axis=-1)


class TextTransformer(Module):
    """The causal transformer of CLIP: ids (B, T) -> (B, D), the end-of-text token's row after the final norm.

    A token sees itself and those before it. Padding stands behind the end of the text, so causality
    alone keeps it out and no padding mask is needed. Initialization as released: output projections
    shrink with depth, 1/√(2·layers), so that the residual path keeps its scale.
    """

    def __init__(self, config: TextConfig, rng: np.random.Generator):
        D = config.width
        self.config = config
        narrow = D**-0.5 * (2 * config.layers) ** -0.5
        self.token_embedding = Embedding(config.vocabulary, D, rng=rng, std=0.02)
        self.positions = Parameter(normal(rng, (config.context, D), 0.01))
        self.blocks = [
            Block(
                D,
                config.heads,
                rng=rng,
                feed_forward=config.feed_forward,
                activation=config.activation,
                eps=config.eps,
                attention_stds=(D**-0.5, narrow),
                mlp_stds=((2 * D) ** -0.5, narrow),
            )
            for _ in range(config.layers)
        ]
        self.norm_after = LayerNorm(D, config.eps)

    def tokens(self, ids: np.ndarray) -> Tensor:
        """Return all tokens after the final norm: ids (B, T) -> (B, T, D).

        ShapeError for other axes, or beyond the context.
        """
        check_ids(ids, self.config.context)
        B, T = ids.shape
        x = self.token_embedding(ids) + self.positions[:T]  # (B, T, D)
        may_attend = causal_mask(T)  # (T, T)
        for block in self.blocks:
            x = block(x, may_attend)  # (B, T, D)
        return self.norm_after(x)  # (B, T, D)

    def forward(self, ids: np.ndarray) -> Tensor:
        """Return one feature a text: ids (B, T) -> (B, D)."""
        B = len(ids)
        x = self.tokens(ids)[np.arange(B), end_positions(ids, self.config.end_of_text)]  # (B, D)
        return x  # (B, D)


def check_ids(ids: np.ndarray, context: int) -> None:
    """Raise ShapeError unless ids are (B, T) with T from 1 to the context; DtypeError for a text that is no ids yet."""
    _check_array(ids)
    if ids.ndim != 2:
        raise ShapeError(f"ids are (B, T) and {ids.shape} came; for one text write ids[None]")
    if not 1 <= ids.shape[1] <= context:
        raise ShapeError(
            f"a text has 1 to {context} tokens (the context) and {ids.shape[1]} came; cut the text or use the model's tokenizer"
        )


def real(ids: np.ndarray, is_real: np.ndarray | None) -> np.ndarray:
    """Return `is_real`, or marks that say that every token of ids (B, T) is; DtypeError for a text that is no ids yet.

    >>> real(np.array([[5, 9]]), None)
    array([[ True,  True]])
    """
    _check_array(ids)
    return np.ones(ids.shape, bool) if is_real is None else is_real


def _check_array(ids: np.ndarray) -> None:
    if not hasattr(ids, "shape"):
        raise DtypeError(
            f"ids are an array (B, T) of whole numbers, and a {type(ids).__name__} came; write "
            "ids, is_real = tokenizer([text])"
        )
