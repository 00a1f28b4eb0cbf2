"""BERT: a bidirectional text encoder, with cross-attention to image tokens where asked (Devlin et al. 2019; ALBEF, BLIP, Q-Former).

The norm follows each sum ("post-norm"), as in the first transformers. One stack serves three ways:
without an image it encodes text; with one it fuses the two; under a causal mask, with the language
head, it writes.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.autodiff import Tensor, ops
from tinymm.layers import (
    MLP,
    Cache,
    CrossAttention,
    Embedding,
    LayerNorm,
    Linear,
    Module,
    MultiHeadAttention,
    Parameter,
    causal_mask,
    padding_mask,
)
from tinymm.layers.init import normal

from .text import check_ids

#: BERT draws every weight of its linear maps and tables from N(0, 0.02²).
STD = 0.02
ACTIVATIONS = {"gelu": ops.gelu, "quick_gelu": ops.quick_gelu, "relu": ops.relu}


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT over `vocabulary` ids and at most `context` tokens.

    `encoder_width` is that of the image's tokens and None where there is no cross-attention;
    `fusion_layer` is the first layer that has it (6 of 12 in ALBEF, 0 in BLIP). `token_types`
    counts BERT's sentence types, of which only the first is used (ALBEF has 2, the others none).
    `activation` is that of the layers and of the language head.

    >>> BertConfig.paper().feed_forward
    3072
    """

    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int
    feed_forward: int | None = None  # 4 · width
    activation: str = "gelu"
    eps: float = 1e-12
    encoder_width: int | None = None
    fusion_layer: int = 0
    token_types: int = 0
    causal: bool = False  # `is_decoder` of transformers: a token that is given no mask sees itself and those before it
    tied: bool = True  # the language head's table of words is the embedding's own
    std: float = STD  # of the layers' randomly initialized weights; a narrow model learns sooner from larger ones, √(768 / width) times as large
    embedding_std: float | None = None  # of randomly initialized words and positions; the same

    def __post_init__(self):
        if self.feed_forward is None:
            object.__setattr__(self, "feed_forward", 4 * self.width)
        if self.embedding_std is None:
            object.__setattr__(self, "embedding_std", self.std)

    @classmethod
    def tiny(cls, **changes: Any) -> "BertConfig":
        """Return a config for tests and first steps."""
        return replace(cls(vocabulary=50, context=12, width=32, layers=2, heads=4), **changes)

    @classmethod
    def paper(cls, **changes: Any) -> "BertConfig":
        """Return BERT-base, uncased."""
        return replace(
            cls(vocabulary=30522, context=512, width=768, layers=12, heads=12), **changes
        )


class BertLayer(Module):
    """Post-norm transformer layer: self-attention, cross-attention to the image tokens, feed-forward: (B, T, D) -> (B, T, D)."""

    def __init__(self, config: BertConfig, crosses: bool, *, rng: np.random.Generator):
        D, eps, std = config.width, config.eps, config.std
        self.attention = MultiHeadAttention(D, config.heads, rng=rng, stds=(std, std))
        self.norm_1 = LayerNorm(D, eps)
        self.cross = (
            CrossAttention(D, config.heads, rng=rng, encoder_width=config.encoder_width, std=std)
            if crosses
            else None
        )
        self.norm_cross: Any = LayerNorm(D, eps) if crosses else None
        self.mlp = MLP(D, config.feed_forward or 4 * D, config.activation, rng=rng, stds=(std, std))
        self.norm_2 = LayerNorm(D, eps)

    def forward(
        self, x: Any, may_attend: Any = None, memory: Any = None, cache: Cache | None = None
    ) -> Tensor:
        """Return x (B, T, D) after the layer; without `memory` (B, Tk, M) the cross-attention is left out."""
        return self.look_and_think(
            self.norm_1(x + self.attention(x, may_attend, cache)), memory
        )  # (B, T, D)

    def look_and_think(self, x: Any, memory: Any = None, cache: Cache | None = None) -> Tensor:
        """Return x (B, T, D) after cross-attention and feed-forward, which BLIP's decoder shares; `cache` keeps the image's keys and values."""
        if self.cross is not None and memory is not None:
            x = self.norm_cross(x + self.cross(x, memory, cache=cache))  # (B, T, D)
        return self.norm_2(x + self.mlp(x))  # (B, T, D)


class TextEmbedding(Module):
    """Token and position embeddings, added: ids (B, T) -> (B, T, D).

    Its owner has the norm, since the Q-Former shares it with queries.
    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        width: int,
        token_types: int = 0,
        *,
        rng: np.random.Generator,
        std: float = STD,
    ):
        self.words = Embedding(vocabulary, width, rng=rng, std=std)
        self.positions = Parameter(normal(rng, (context, width), std))
        self.types = Parameter(normal(rng, (token_types, width), std)) if token_types else None

    def forward(self, ids: np.ndarray, start: int = 0) -> Tensor:
        """Embed tokens at the positions from `start` on; ShapeError for other axes, or beyond the context."""
        check_ids(ids, len(self.positions) - start)
        x = self.words(ids) + self.positions[start : start + ids.shape[1]]
        return x if self.types is None else x + self.types[0]


class Bert(Module):
    """The transformer: ids (B, T) -> (B, T, D); the first token's row represents the text.

    >>> model = Bert(BertConfig.tiny(), np.random.default_rng(0))
    >>> model(np.array([[1, 5, 2]]), np.array([[True, True, True]])).shape
    (1, 3, 32)
    """

    def __init__(self, config: BertConfig, rng: np.random.Generator):
        self.config = config
        std = config.embedding_std or config.std
        self.embedding = TextEmbedding(
            config.vocabulary, config.context, config.width, config.token_types, rng=rng, std=std
        )
        self.norm = LayerNorm(config.width, config.eps)
        crosses = [
            config.encoder_width is not None and i >= config.fusion_layer
            for i in range(config.layers)
        ]
        self.blocks = [BertLayer(config, cross, rng=rng) for cross in crosses]

    def forward(
        self,
        ids: np.ndarray,
        is_real: np.ndarray | None = None,
        may_attend: Any = None,
        memory: Any = None,
        caches: list[Cache] | None = None,
    ) -> Tensor:
        """Return all tokens after the last layer: ids (B, T) -> (B, T, D).

        Tokens see the real ones, `is_real` (B, T), of which a `causal` model sees those that came
        before, or what the mask `may_attend` says; `memory` (B, Tk, M) is what the cross-attention
        looks at, and `caches`, one a layer, remember the tokens that came before.
        """
        past, T = caches[0].length if caches else 0, ids.shape[-1]
        if may_attend is None:
            may_attend = causal_mask(past + T)[past:] if self.config.causal else None  # (T, past+T)
            if is_real is not None:
                real = padding_mask(is_real)  # (B, 1, 1, past+T)
                may_attend = real if may_attend is None else may_attend & real
        x = self.norm(self.embedding(ids, past))  # (B, T, D)
        return self.encode(x, may_attend, memory, caches=caches)  # (B, T, D)

    def encode(
        self,
        x: Any,
        may_attend: Any = None,
        memory: Any = None,
        *,
        first: int = 0,
        last: int | None = None,
        caches: Any = None,
    ) -> Tensor:
        """Run the layers from `first` to before `last` on hidden states x (B, T, D): ALBEF reads a text with half of them and fuses with the rest.

        ShapeError or UsageError for a memory that does not fit, or that no layer looks at.
        """
        check_memory(memory, x, self.config.encoder_width)
        for i, block in list(enumerate(self.blocks))[first:last]:
            x = block(x, may_attend, memory, caches[i] if caches else None)  # (B, T, D)
        return x


def check_memory(memory: Any, x: Any, width: int | None) -> None:
    """Raise ShapeError or UsageError unless the image's tokens are (B, Tk, width), one image for each row of x."""
    if memory is None:
        return
    if width is None:
        raise UsageError(
            f"a text encoder without encoder_width has no cross-attention, and memory {memory.shape} came; set encoder_width"
        )
    if memory.ndim != 3 or memory.shape[-1] != width:
        raise ShapeError(
            f"cross-attention takes (B, tokens, {width}) and {memory.shape} came; use the image encoder it was built for"
        )
    if len(memory) != len(x):
        raise ShapeError(
            f"each row looks at a picture of its own, and {len(x)} rows with {len(memory)} pictures came; repeat the pictures"
        )


class BertLanguageModel(Module):
    """BERT with its language head: ids (B, T) -> logits (B, T, V).

    Looking both ways it fills gaps (masked language modeling, Devlin et al. 2019, §3.1); under a
    causal mask it writes.

    >>> model = BertLanguageModel(BertConfig.tiny(), np.random.default_rng(0))
    >>> model(np.array([[1, 5, 2]]), np.array([[True, True, True]])).shape
    (1, 3, 50)
    """

    def __init__(self, config: BertConfig, rng: np.random.Generator):
        self.config = config
        self.bert = Bert(config, rng)
        self.language_head = LanguageHead.of(config, rng)

    def forward(
        self,
        ids: np.ndarray,
        is_real: np.ndarray | None = None,
        may_attend: Any = None,
        memory: Any = None,
    ) -> Tensor:
        """Return the logits of each token's word; arguments as of `Bert`."""
        return self.language_head(
            self.bert(ids, is_real, may_attend, memory), self.bert.embedding.words
        )


class LanguageHead(Module):
    """From hidden states to words (BERT's masked-language head): x (B, T, D) -> logits (B, T, V).

    A linear map, the layers' own activation (the released `BertPredictionHeadTransform`), a norm,
    and then the word table itself, transposed: what a word means as input is what it must look like
    as output. One that is not `tied` has a table of its own, `output` (V, D). UsageError for an
    activation that is none.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        eps: float = 1e-12,
        *,
        rng: np.random.Generator,
        activation: str = "gelu",
        tied: bool = True,
    ):
        if activation not in ACTIVATIONS:
            raise UsageError(
                f"an activation is {', '.join(map(repr, ACTIVATIONS))}, and {activation!r} came; see the checkpoint's config"
            )
        self.dense = Linear(width, width, rng=rng, std=STD)
        self.norm = LayerNorm(width, eps)
        self.bias = Parameter(np.zeros(vocabulary, np.float32))
        self.output = None if tied else Parameter(normal(rng, (vocabulary, width), STD))
        self.activation = activation

    @classmethod
    def of(cls, config: Any, rng: np.random.Generator) -> "LanguageHead":
        """Return the head of a model with such a config, a BERT's or a Q-Former's."""
        tied = getattr(config, "tied", True)
        return cls(
            config.vocabulary,
            config.width,
            config.eps,
            rng=rng,
            activation=config.activation,
            tied=tied,
        )

    def forward(self, x: Any, words: Embedding) -> Tensor:
        """Return the logits of x (…, D) over the words of that table (V, D), or of the head's own."""
        table = words.weight if self.output is None else self.output
        return self.norm(ACTIVATIONS[self.activation](self.dense(x))) @ table.T + self.bias
