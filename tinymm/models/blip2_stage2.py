"""BLIP-2, stage 2: the queries' answers become soft words in front of a frozen language model (Li et al. 2023, §3.3, Figure 3).

Nothing of the language model changes; what changes is what it reads. The loss is the model's own, how surprising each next word of the
caption is, and its gradient flows back *through* the frozen model into the projection and the Q-Former.

The decoder-only variant (OPT) is here; an encoder-decoder model (T5) would take the soft words and the prompt into its encoder.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.autodiff import Tensor, no_grad
from tinymm.layers import LayerNorm, Linear, Module
from tinymm.losses import language_loss

from .blip2 import BLIP2Config, BLIP2Stage1
from .opt import OPT, OPTConfig
from .qformer import QFormer, QFormerConfig
from .text import real
from .vit import ViT, ViTConfig


@dataclass(frozen=True)
class BLIP2Stage2Config:
    """Sizes of stage 2: the picture encoder, the query half of the Q-Former, and the language model.

    ShapeError if the Q-Former looks at tokens of another width than the picture encoder's.

    >>> BLIP2Stage2Config.paper().language.width
    2560
    """

    image: ViTConfig
    qformer: QFormerConfig
    language: OPTConfig
    norm_eps: float = 1e-5  # of the norm over the frozen encoder's tokens; 1e-6 in Hugging Face's folders

    def __post_init__(self):
        if self.image.width != self.qformer.memory_width:
            raise ShapeError(
                f"the Q-Former looks at tokens of the picture encoder's width {self.image.width}, and a memory_width of "
                f"{self.qformer.memory_width} came; make them equal"
            )
        # Words are the language model's business now.
        object.__setattr__(self, "qformer", replace(self.qformer, vocabulary=None, context=QFormerConfig.context))

    @classmethod
    def tiny(cls, **changes: Any) -> "BLIP2Stage2Config":
        """Return a config for tests and first steps."""
        first = BLIP2Config.tiny()
        return replace(cls(first.image, first.qformer, OPTConfig.tiny()), **changes)

    @classmethod
    def paper(cls, **changes: Any) -> "BLIP2Stage2Config":
        """Return the paper's with OPT-2.7b."""
        first = BLIP2Config.paper()
        return replace(cls(first.image, first.qformer, OPTConfig.paper("opt-2.7b")), **changes)


class BLIP2Stage2(Module):
    """Pictures and the beginning of a text in, the rest of the text out; only the Q-Former, its norm and the projection train.

    A text is ids (B, T) of the language model's tokenizer, the begin token first. In front of it stand Q soft words.

    >>> model = BLIP2Stage2(BLIP2Stage2Config.tiny(), np.random.default_rng(0))
    >>> model(np.zeros((2, 16, 16, 3), np.float32), np.array([[2, 5, 6]] * 2)).shape[:2]
    (2, 3)
    """

    def __init__(self, config: BLIP2Stage2Config, rng: np.random.Generator, image_encoder: ViT | None = None, language_model: OPT | None = None):
        self.config = config
        self.image_encoder = (image_encoder or ViT(config.image, rng)).freeze()
        self.norm_vision = LayerNorm(config.image.width, config.norm_eps)
        self.qformer = QFormer(config.qformer, rng)
        self.projection = Linear(config.qformer.width, config.language.width, rng=rng)
        self.language_model = (language_model or OPT(config.language, rng)).freeze()

    @classmethod
    def from_stage_1(cls, first: BLIP2Stage1, language_model: OPT, rng: np.random.Generator) -> "BLIP2Stage2":
        """Return a stage 2 that begins with what stage 1 has learned; the words' half of the Q-Former and the heads stay behind."""
        config = BLIP2Stage2Config(first.config.image, first.config.qformer, language_model.config, first.config.norm_eps)
        model = cls(config, rng, first.image_encoder, language_model)
        learned = first.qformer.state_dict()
        model.norm_vision.load_state_dict(first.norm_vision.state_dict())
        model.qformer.load_state_dict({name: learned[name] for name in model.qformer.state_dict()})
        return model

    def losses(
        self,
        images: Any,
        ids: np.ndarray,
        is_real: np.ndarray | None = None,
        *,
        rng: np.random.Generator | None = None,
        image_ids: np.ndarray | None = None,
        negatives: Any = None,
        masked: Any = None,
        split: Callable[[Any], Callable] | None = None,
        is_target: np.ndarray | None = None,
    ) -> dict[str, Tensor]:
        """Return {"lm"}: images (B, h, w, c), ids and is_real (B, T).

        Every real token is a target, the begin token too, which the last soft word must foretell; `is_target` (B, T) excludes those of a
        prompt. The soft words are none. UsageError unless each picture has its text, and for padding on the left.
        """
        if len(images) != len(ids):
            raise UsageError(f"pictures and texts come in pairs, and {len(images)} pictures with {len(ids)} texts came; align the batch")
        split = split or (lambda function: function)
        is_real = real(ids, is_real)
        if not is_real[:, 0].all():
            row = int(np.argmin(is_real[:, 0]))
            raise UsageError(
                f"the last soft word foretells the first word, and row {row} of is_real begins with padding; pad training texts on the right"
            )
        logits = split(self.words)(self.look(images, split), ids, is_real)  # (B, T+1, V)
        nothing = np.zeros_like(ids[:, :1])  # stands for the last soft word, which is no target
        targets = np.concatenate([nothing.astype(bool), is_real if is_target is None else is_target & is_real], axis=1)
        return {"lm": language_loss(logits, np.concatenate([nothing, ids], axis=1), targets)}

    def image_tokens(self, images: Any, split: Callable = lambda function: function) -> Any:
        """Return the frozen encoder's tokens as plain numbers: images (B, h, w, c) -> (B, P+1, M)."""
        with no_grad():
            return split(self.image_encoder.tokens)(images).data

    def look(self, images: Any, split: Callable = lambda function: function) -> Any:
        """Return the encoder's tokens (B, P+1, M), plain numbers while it is frozen; after `image_encoder.unfreeze()` gradients reach it."""
        return self.image_tokens(images, split) if self.image_encoder.frozen else split(self.image_encoder.tokens)(images)

    def soft_words(self, tokens: Any) -> Tensor:
        """Return what stands in front of the text: tokens (B, P+1, M) -> (B, Q, W) of the language model's width W."""
        return self.projection(self.qformer(self.norm_vision(tokens)))

    def words(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the logits of the last soft word and of each token of the text, (B, T+1, V): the language model is causal over all."""
        Q, model = self.config.qformer.queries, self.language_model
        x = np.concatenate([self.soft_words(tokens), model.embed(ids)], axis=1)  # (B, Q+T, W)
        is_real = np.concatenate([np.ones((len(ids), Q), bool), is_real], axis=1)
        return model.logits(model.hidden(x, is_real)[:, Q - 1 :])

    def forward(self, images: Any, ids: np.ndarray, is_real: np.ndarray | None = None) -> Tensor:
        """Return the logits of the token after each token: images (B, h, w, c), ids (B, T) -> (B, T, V)."""
        is_real = real(ids, is_real)
        return self.words(self.look(images), ids, is_real)[:, 1:]

    def caption(self, images: Any, ids: np.ndarray | None = None, is_real: np.ndarray | None = None, **options: Any) -> list[list[int]]:
        """Return what the language model says of each picture, as ids without the prompt and the end token.

        `ids` (B, T) are a prompt, the begin token first; without one that token alone is. `options` are those of `decoding.generate`.
        """
        if ids is None:
            ids = np.full((len(images), 1), self.config.language.begin)
        with no_grad():
            soft = self.soft_words(self.image_tokens(images))
            return self.language_model.generate(ids, is_real, embeddings=soft, **options)
