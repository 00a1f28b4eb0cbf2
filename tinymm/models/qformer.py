"""The Q-Former: learned query embeddings that cross-attend to a frozen image encoder (BLIP-2, Li et al. 2023, §3.1, Figure 2).

One stack, two kinds of rows. Queries and words share self-attention, and the mask alone decides who
sees whom: `unimodal_mask` for ITC, `multimodal_causal_mask` for ITG, `bidirectional_mask` for ITM.
Only queries cross-attend to the image, in every second layer; so text gets the image through the
queries only. Queries and words have feed-forwards of their own.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.autodiff import Tensor
from tinymm.layers import (
    MLP,
    Cache,
    CrossAttention,
    LayerNorm,
    Module,
    MultiHeadAttention,
    Parameter,
)
from tinymm.layers.init import normal

from .bert import STD, TextEmbedding, check_memory


@dataclass(frozen=True)
class QFormerConfig:
    """Sizes of a Q-Former with Q `queries` that look at tokens of `encoder_width` in every `cross_every`-th layer, from the first on.

    `vocabulary` None leaves the text half out, as stage 2 does. UsageError for counts below 1.

    >>> QFormerConfig.paper().queries
    32
    """

    queries: int
    width: int
    layers: int
    heads: int
    encoder_width: int
    vocabulary: int | None = None
    context: int = 512
    feed_forward: int | None = None  # 4 · width
    activation: str = "gelu"
    eps: float = 1e-12
    cross_every: int = 2
    std: float = STD  # of the randomly initialized weights; a narrow model learns sooner from larger ones, √(768 / width) times as large
    embedding_std: float | None = (
        None  # of randomly initialized queries, words and positions; the same
    )

    def __post_init__(self):
        if self.queries < 1 or self.cross_every < 1:
            raise UsageError(
                f"a Q-Former has at least 1 query and looks every cross_every ≥ 1 layers, and {self.queries} and {self.cross_every} came"
            )
        if self.feed_forward is None:
            object.__setattr__(self, "feed_forward", 4 * self.width)
        if self.embedding_std is None:
            object.__setattr__(self, "embedding_std", self.std)

    @classmethod
    def tiny(cls, **changes: Any) -> "QFormerConfig":
        """Return a config for tests and first steps."""
        return replace(
            cls(
                queries=4, width=32, layers=2, heads=4, encoder_width=24, vocabulary=50, context=12
            ),
            **changes,
        )

    @classmethod
    def paper(cls, **changes: Any) -> "QFormerConfig":
        """Return the paper's: BERT-base with 32 queries over EVA's ViT-g; the vocabulary is BERT's and [DEC]."""
        return replace(
            cls(queries=32, width=768, layers=12, heads=12, encoder_width=1408, vocabulary=30523),
            **changes,
        )


class QFormerLayer(Module):
    """A layer over [queries ; words]: joint self-attention, cross-attention of the queries, a feed-forward for each of the two."""

    def __init__(self, config: QFormerConfig, crosses: bool, *, rng: np.random.Generator):
        D, eps, F, std = (
            config.width,
            config.eps,
            config.feed_forward or 4 * config.width,
            config.std,
        )
        self.attention = MultiHeadAttention(D, config.heads, rng=rng, stds=(std, std))
        self.norm_1 = LayerNorm(D, eps)
        self.cross = (
            CrossAttention(D, config.heads, rng=rng, encoder_width=config.encoder_width, std=std)
            if crosses
            else None
        )
        self.norm_cross: Any = LayerNorm(D, eps) if crosses else None
        self.query_mlp, self.query_norm = (
            MLP(D, F, config.activation, rng=rng, stds=(std, std)),
            LayerNorm(D, eps),
        )
        self.mlp: Any = None
        self.norm_2: Any = None
        if config.vocabulary is not None:
            self.mlp, self.norm_2 = (
                MLP(D, F, config.activation, rng=rng, stds=(std, std)),
                LayerNorm(D, eps),
            )

    def forward(
        self, x: Any, Q: int, may_attend: Any, memory: Any, cache: Cache | None = None
    ) -> Tensor:
        """Return x (B, Q+T, D) after the layer; the first Q rows are queries."""
        x = self.norm_1(x + self.attention(x, may_attend, cache))  # (B, Q+T, D)
        queries, words = x[:, :Q], x[:, Q:]
        parts: list[Any] = []
        if Q:
            if self.cross is not None:
                queries = self.norm_cross(queries + self.cross(queries, memory))  # (B, Q, D)
            parts.append(self.query_norm(queries + self.query_mlp(queries)))
        if words.shape[1]:
            parts.append(self.norm_2(words + self.mlp(words)))
        x = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)  # (B, Q+T, D)
        return x  # (B, Q+T, D)


class QFormer(Module):
    """The Q-Former: queries and words in one transformer under one mask: image tokens (B, P, M) and ids (B, T) -> (B, Q+T, D), queries first.

    >>> qformer = QFormer(QFormerConfig.tiny(), np.random.default_rng(0))
    >>> qformer(np.ones((2, 9, 24), np.float32)).shape
    (2, 4, 32)
    """

    def __init__(self, config: QFormerConfig, rng: np.random.Generator):
        self.config = config
        D, std = config.width, config.embedding_std or config.std
        # From zero all queries would stay one and the same forever; the paper's code draws them.
        self.queries = Parameter(normal(rng, (config.queries, D), std))
        self.embedding = (
            None
            if config.vocabulary is None
            else TextEmbedding(config.vocabulary, config.context, D, rng=rng, std=std)
        )
        self.norm = LayerNorm(D, config.eps)
        self.blocks = [
            QFormerLayer(config, i % config.cross_every == 0, rng=rng) for i in range(config.layers)
        ]
        self._copy_text_half()

    def _copy_text_half(self) -> None:
        """Let the queries' feed-forwards begin as copies of the words', as the original does: there, both come from BERT's one."""
        for block in self.blocks:
            if block.mlp is not None:
                block.query_mlp.load_state_dict(block.mlp.state_dict())

    def forward(
        self,
        memory: Any = None,
        ids: np.ndarray | None = None,
        may_attend: Any = None,
        caches: list[Cache] | None = None,
        queries: Any = None,
    ) -> Tensor:
        """Return [queries ; words] after the last layer, (B, Q+T, D): queries if `memory` (B, P, M) is given, words if `ids` (B, T) are.

        `may_attend` (B, 1, Q+T, Q+T) says who sees whom and must be given where both kinds stand
        side by side. `caches`, one a layer, remember rows for later ones: run the queries with
        them, then words without `memory`, under the mask's rows of the words, and the words see the
        queries' remembered keys and values. That is how the original code computes ITG; one pass
        with the mask is equal. `queries` (Q, D) or (B, Q, D) stand in for the learned ones, which a
        Q-Former's own folder does not hold. UsageError where the mask is missing. ShapeError for a
        memory or queries that do not fit.
        """
        past = caches[0].length if caches else 0
        x = self._embed(memory, ids, past, queries)
        Q = 0 if memory is None else (self.queries if queries is None else queries).shape[-2]
        check_memory(memory, x, self.config.encoder_width)
        if may_attend is None and memory is not None and ids is not None:
            raise UsageError(
                f"a Q-Former with {Q} queries and {ids.shape[1]} words needs a mask, which is all that tells ITC, ITG and ITM apart; pass "
                "unimodal_mask, multimodal_causal_mask or bidirectional_mask"
            )
        for i, block in enumerate(self.blocks):
            x = block(x, Q, may_attend, memory, caches[i] if caches else None)  # (B, Q+T, D)
        return x  # (B, Q+T, D)

    def _embed(self, memory: Any, ids: np.ndarray | None, past: int, queries: Any = None) -> Any:
        """Return the rows before the first layer, under one norm; queries have no positions, and words count theirs from 0."""
        asked = self.queries if queries is None else queries
        Q, D = asked.shape[-2:]
        parts: list[Any] = []
        if memory is not None:
            if (
                D != self.config.width
                or asked.ndim not in (2, 3)
                or asked.ndim == 3
                and len(asked) != len(memory)
            ):
                raise ShapeError(
                    f"queries are (Q, {self.config.width}), or one set for each of {len(memory)} pictures, and {asked.shape} came"
                )
            parts.append(np.broadcast_to(asked, (len(memory), Q, D)))
        if ids is not None:
            if self.embedding is None:
                raise UsageError(
                    f"this Q-Former has no text half and ids {ids.shape} came; give the config a vocabulary, or pass pictures only"
                )
            parts.append(self.embedding(ids, max(past - Q, 0) if memory is None else 0))
        if not parts:
            raise UsageError("a Q-Former needs a picture's tokens, ids or both, and neither came")
        if len(parts) == 2 and len(parts[0]) != len(parts[1]):
            raise UsageError(
                f"pictures and texts come in pairs, and {len(parts[0])} pictures with {len(parts[1])} texts came; align the batch"
            )
        return self.norm(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))
