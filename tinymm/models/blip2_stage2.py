"""BLIP-2, stage 2: soft visual prompts for a frozen language model (Li et al. 2023, §3.3, Figure 3).

The queries' output is projected to the width of the language model and prepended to the text. The
language model is frozen; the gradient of its loss flows back *through* it into the projection and
the Q-Former. The step is `tasks/blip2_stage2.py`. The decoder-only variant (OPT) is here; an
encoder-decoder model (T5) would take the visual prompts and the prefix text into its encoder.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.errors import ShapeError
from tinymm.autodiff import Tensor, no_grad
from tinymm.layers import LayerNorm, Linear, Module

from .blip2 import BLIP2Config, BLIP2Stage1
from .opt import OPT, OPTConfig
from .qformer import QFormer, QFormerConfig
from .text import real
from .vit import ViT, ViTConfig


@dataclass(frozen=True)
class BLIP2Stage2Config:
    """Sizes of stage 2: the image encoder, the Q-Former without its text half, the language model.

    ShapeError if the Q-Former attends to tokens of another width than the image encoder's.

    >>> BLIP2Stage2Config.paper().language.width
    2560
    """

    image: ViTConfig
    qformer: QFormerConfig
    language: OPTConfig
    norm_eps: float = (
        1e-5  # of the norm over the frozen encoder's tokens; 1e-6 in Hugging Face's folders
    )

    def __post_init__(self):
        if self.image.width != self.qformer.encoder_width:
            raise ShapeError(
                f"the Q-Former attends to tokens of the image encoder's width {self.image.width}, and an encoder_width of "
                f"{self.qformer.encoder_width} came; make them equal"
            )
        # Texts are the language model's business now.
        object.__setattr__(
            self, "qformer", replace(self.qformer, vocabulary=None, context=QFormerConfig.context)
        )

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
    """A language model that is prompted by images; only the Q-Former, its norm and the projection train.

    A text is ids (B, T) of the language model's tokenizer, the begin token first. Q soft visual
    prompts precede it.

    >>> model = BLIP2Stage2(BLIP2Stage2Config.tiny(), np.random.default_rng(0))
    >>> model(np.zeros((2, 16, 16, 3), np.float32), np.array([[2, 5, 6]] * 2)).shape[:2]
    (2, 3)
    """

    def __init__(
        self,
        config: BLIP2Stage2Config,
        rng: np.random.Generator,
        image_encoder: ViT | None = None,
        language_model: OPT | None = None,
    ):
        self.config = config
        self.image_encoder = (image_encoder or ViT(config.image, rng)).freeze()
        self.norm_vision = LayerNorm(config.image.width, config.norm_eps)
        self.qformer = QFormer(config.qformer, rng)
        self.projection = Linear(config.qformer.width, config.language.width, rng=rng)
        self.language_model = (language_model or OPT(config.language, rng)).freeze()

    @classmethod
    def from_stage_1(
        cls, first: BLIP2Stage1, language_model: OPT, rng: np.random.Generator
    ) -> "BLIP2Stage2":
        """Return a stage 2 with the weights of stage 1, without its text half and its heads."""
        qformer, norm_eps = first.config.qformer, first.config.norm_eps
        config = BLIP2Stage2Config(first.config.image, qformer, language_model.config, norm_eps)
        model = cls(config, rng, first.image_encoder, language_model)
        learned = first.qformer.state_dict()
        model.norm_vision.load_state_dict(first.norm_vision.state_dict())
        model.qformer.load_state_dict({name: learned[name] for name in model.qformer.state_dict()})
        return model

    def image_tokens(self, images: Any) -> Tensor:
        """Return the image encoder's tokens: images (B, h, w, c) -> (B, P+1, M).

        Without a graph while the encoder is frozen; after `image_encoder.unfreeze()` with one.
        """
        if not self.image_encoder.frozen:
            return self.image_encoder.tokens(images)
        with no_grad():
            return self.image_encoder.tokens(images)

    def query_tokens(self, image_tokens: Any) -> Tensor:
        """Return the queries' output: image tokens (B, P+1, M) -> (B, Q, D)."""
        return self.qformer(self.norm_vision(image_tokens))

    def visual_prompts(self, image_tokens: Any) -> Tensor:
        """Return what precedes the text, in the language model's width W: (B, P+1, M) -> (B, Q, W)."""
        return self.projection(self.query_tokens(image_tokens))

    def prompted_logits(self, visual_prompts: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the logits after the last visual prompt and after each token of the text.

        Visual prompts (B, Q, W), ids (B, T) -> (B, T+1, V). The language model's causal mask is
        over both: each row attends to the real rows before it.
        """
        B, Q, _ = visual_prompts.shape
        model = self.language_model
        x = np.concatenate([visual_prompts, model.embed(ids)], axis=1)  # (B, Q+T, W)
        is_real = np.concatenate([np.ones((B, Q), bool), is_real], axis=1)  # (B, Q+T)
        return model.logits(model.hidden(x, is_real)[:, Q - 1 :])

    def lm_logits(self, image_tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the logits of each next token: image tokens (B, P+1, M), ids (B, T) -> (B, T, V)."""
        return self.prompted_logits(self.visual_prompts(image_tokens), ids, is_real)[:, 1:]

    def forward(self, images: Any, ids: np.ndarray, is_real: np.ndarray | None = None) -> Tensor:
        """Return the logits of each next token: images (B, h, w, c), ids (B, T) -> (B, T, V)."""
        return self.lm_logits(self.image_tokens(images), ids, real(ids, is_real))

    def generate(
        self,
        images: Any,
        ids: np.ndarray | None = None,
        is_real: np.ndarray | None = None,
        **options: Any,
    ) -> list[list[int]]:
        """Return the language model's text for each image, as ids without prompt and end token.

        `ids` (B, T) are prompts, the begin token first; without any that token alone is the prompt.
        `options` are those of `decoding.generate`.
        """
        if ids is None:
            ids = np.full((len(images), 1), self.config.language.begin)
        with no_grad():
            prompts = self.visual_prompts(self.image_tokens(images))
            return self.language_model.generate(ids, is_real, embeddings=prompts, **options)
