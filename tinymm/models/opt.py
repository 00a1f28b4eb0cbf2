"""OPT: a decoder-only language model (Zhang et al. 2022, arXiv:2205.01068), frozen in BLIP-2's stage 2.

It is a causal pre-norm transformer with ReLU and learned positions, which begin at row 2 of their
table, a remainder of the library in which it was first written. The token embedding serves as input
and, transposed, as output, unless a model has an output of its own (`tied` False). Its training
step is `tasks/language_model.py`.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_host
from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.autodiff import Tensor, no_grad, ops
from tinymm.layers import (
    Block,
    Cache,
    Embedding,
    LayerNorm,
    Module,
    Parameter,
    causal_mask,
    padding_mask,
)
from tinymm.layers.init import normal

from .decoding import generate
from .text import check_ids

#: Rows of the position table that no token uses.
OFFSET = 2
STD = 0.02


@dataclass(frozen=True)
class OPTConfig:
    """Sizes of an OPT over `vocabulary` ids and at most `context` positions; `begin` and `end` are what a text begins with and ends at.

    The released tokenizer writes `</s>`, 2, in front of every text. BLIP-2 ends a caption with a
    line break, 50118. UsageError for one of them that is no id.

    >>> OPTConfig.paper("opt-2.7b").feed_forward
    10240
    """

    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int
    feed_forward: int | None = None  # 4 · width
    activation: str = "relu"
    eps: float = 1e-5
    begin: int = 2
    end: int = 2
    tied: bool = True  # the token embedding is the output's matrix, too

    def __post_init__(self):
        if self.feed_forward is None:
            object.__setattr__(self, "feed_forward", 4 * self.width)
        for name in ("begin", "end"):
            if not 0 <= getattr(self, name) < self.vocabulary:
                raise UsageError(
                    f"{name} is an id below the vocabulary {self.vocabulary}, and {getattr(self, name)} came; correct it"
                )

    @classmethod
    def tiny(cls, **changes: Any) -> "OPTConfig":
        """Return a config for tests and first steps."""
        return replace(cls(vocabulary=50, context=24, width=32, layers=2, heads=4), **changes)

    @classmethod
    def paper(cls, name: str, **changes: Any) -> "OPTConfig":
        """Return the config of a released model (Table 1), such as `"opt-2.7b"`; opt-350m has its norms behind the sums and is not read.

        UsageError for any other name.
        """
        sizes = {
            "opt-125m": (768, 12, 12),
            "opt-1.3b": (2048, 24, 32),
            "opt-2.7b": (2560, 32, 32),
            "opt-6.7b": (4096, 32, 32),
        }
        if name not in sizes:
            raise UsageError(
                f"the sizes are {', '.join(sizes)} (opt-350m is built differently), and {name!r} came; choose one of them"
            )
        width, layers, heads = sizes[name]
        return replace(
            cls(vocabulary=50272, context=2048, width=width, layers=layers, heads=heads), **changes
        )


class OPT(Module):
    """A language model: ids (B, T) -> logits of each next token (B, T, V).

    >>> model = OPT(OPTConfig.tiny(), np.random.default_rng(0))
    >>> model(np.array([[2, 5, 6]])).shape
    (1, 3, 50)
    """

    def __init__(self, config: OPTConfig, rng: np.random.Generator):
        D = config.width
        self.config = config
        self.token_embedding = Embedding(config.vocabulary, D, rng=rng, std=STD)
        self.positions = Parameter(normal(rng, (config.context + OFFSET, D), STD))
        self.blocks = [
            Block(
                D, config.heads, rng=rng, feed_forward=config.feed_forward, activation=config.activation, eps=config.eps,
                attention_stds=(STD, STD), mlp_stds=(STD, STD),
            )
            for _ in range(config.layers)
        ]  # fmt: skip
        for block in self.blocks:
            for linear in (block.mlp.fc1, block.mlp.fc2):
                linear.bias.data = np.zeros_like(linear.bias.data)  # type: ignore[union-attr]
        self.norm_after = LayerNorm(D, config.eps)
        self.output = None if config.tied else Parameter(normal(rng, (config.vocabulary, D), STD))

    def embed(self, ids: np.ndarray) -> Tensor:
        """Return the token embeddings of ids (B, T), without positions: (B, T, D).

        ShapeError for other axes, or beyond the context.
        """
        check_ids(ids, self.config.context)
        return self.token_embedding(ids)

    def hidden(
        self, x: Any, is_real: np.ndarray | None = None, caches: list[Cache] | None = None
    ) -> Tensor:
        """Return all rows after the last norm: token embeddings or visual prompts x (B, T, D) -> (B, T, D).

        Each row attends to itself and to the real rows before it. `is_real` (B, past + T) covers
        the rows in `caches`, one a layer, too; positions are counted over real rows only, so
        padding may be on either side. ShapeError for an `is_real` of other rows, and beyond the
        context.
        """
        B, T, _ = x.shape
        past = caches[0].length if caches else 0
        is_real = np.ones((B, past + T), bool) if is_real is None else is_real
        if is_real.shape != (B, past + T):
            raise ShapeError(
                f"is_real covers the {past} remembered rows and the {T} new ones, ({B}, {past + T}), and {is_real.shape} came; lengthen or cut it"
            )
        if past + T > self.config.context:
            raise ShapeError(
                f"a text has at most {self.config.context} tokens (the context), and {past + T} came; shorten the text or the prompt"
            )
        places = np.cumsum(is_real, axis=1) * is_real - 1 + OFFSET
        x = x + ops.embedding(self.positions, ids=places[:, past:])  # (B, T, D)
        may_attend = causal_mask(past + T)[past:] & padding_mask(is_real)  # (B, 1, T, past+T)
        for i, block in enumerate(self.blocks):
            x = block(x, may_attend, caches[i] if caches else None)  # (B, T, D)
        return self.norm_after(x)  # (B, T, D)

    def logits(self, x: Any) -> Tensor:
        """Return the logits of what follows each row: x (…, D) -> (…, V)."""
        return x @ (self.token_embedding.weight if self.output is None else self.output).T

    def forward(self, ids: np.ndarray, is_real: np.ndarray | None = None) -> Tensor:
        """Return the logits of each next token: ids (B, T) -> (B, T, V)."""
        return self.logits(self.hidden(self.embed(ids), is_real))

    def generate(
        self,
        ids: np.ndarray,
        is_real: np.ndarray | None = None,
        *,
        embeddings: Any = None,
        max_new_tokens: int | None = None,
        end: int | None = None,
        **options: Any,
    ) -> list[list[int]]:
        """Return how each prompt goes on, as ids without prompt and end token; `options` are those of `decoding.generate`.

        Prompts ids (B, T) may be of different lengths, padded on either side. `embeddings` (B, Q,
        D) are soft prompts in front of them. There are at most `max_new_tokens` more tokens, and no
        more than the context has room for behind the longest prompt. ShapeError for prompts that do
        not fit or leave no room; DataError for one without a token.
        """
        check_ids(ids, self.config.context)
        B, real = len(ids), np.ones(ids.shape, bool) if is_real is None else is_real
        if real.shape != ids.shape:
            raise ShapeError(
                f"prompts are ids and is_real of one shape, and {ids.shape} and {real.shape} came; take both from the tokenizer"
            )
        if not real.any(axis=1).all():
            row = int(np.argmin(real.any(axis=1)))
            raise DataError(
                f"a prompt has a real token or more, and row {row} of {B} has none; begin it with {self.config.begin}"
            )
        order = np.argsort(
            real, axis=1, kind="stable"
        )  # padding to the left, so that each prompt's last token stands last
        ids, real = np.take_along_axis(ids, order, axis=1), np.take_along_axis(real, order, axis=1)
        with no_grad():
            x: Any = self.embed(ids)
            if embeddings is not None:
                x = np.concatenate([embeddings, x], axis=1)
                real = np.concatenate([np.ones(embeddings.shape[:2], bool), real], axis=1)
            room = self.config.context - real.shape[1]
            if room < 1:
                raise ShapeError(
                    f"a prompt leaves room for an answer, and {real.shape[1]} of {self.config.context} positions came; shorten it"
                )
            caches = [Cache() for _ in self.blocks]
            first = to_host(self.logits(self.hidden(x, real, caches)[:, -1]).data)

            def advance(ids: np.ndarray, caches: list[Cache]) -> np.ndarray:
                prefix = np.repeat(real, len(ids) // B, axis=0)
                new = np.ones((len(ids), caches[0].length + 1 - real.shape[1]), bool)
                x = self.hidden(self.embed(ids), np.concatenate([prefix, new], axis=1), caches)
                return to_host(self.logits(x[:, -1]).data)

            most = room if max_new_tokens is None else min(max_new_tokens, room)
            return generate(
                first,
                caches,
                advance,
                end=self.config.end if end is None else end,
                max_new_tokens=most,
                **options,
            )
