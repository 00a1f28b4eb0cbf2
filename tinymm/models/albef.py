"""ALBEF: align before fuse (Li et al. 2021, arXiv:2107.07651). An image, a text and a multimodal encoder.

One BERT is cut in two. Its lower layers are the text encoder, aligned with the image encoder by
contrast; its upper layers, with cross-attention to the image's tokens, are the multimodal encoder
(§3.1). The training step, ITC, ITM and MLM with momentum distillation, is in `tasks/albef.py`.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.autodiff import Tensor
from tinymm.layers import Linear, padding_mask

from .bert import BertConfig
from .dual_encoder import (
    DualEncoder,
    DualEncoderModel,
    check_token_ids,
    check_widths,
    initial_temperature,
)
from .momentum import FeatureQueue, MomentumEncoder, check_distillation
from .text import real
from .vit import ViTConfig


@dataclass(frozen=True)
class ALBEFConfig:
    """Sizes of an ALBEF and the constants of its training; fusion begins at the text's `fusion_layer`.

    `mask` is the id of [MASK], None meaning the vocabulary's last; `mlm_probability` is the
    probability that a token is masked for MLM, never the first. `alpha` is the weight of the
    pseudo-targets after a warm-up of `alpha_warmup` pairs (one epoch in the released code);
    `momentum` None leaves momentum encoder and queue out. UsageError for a fusion that begins
    outside of the text's layers, and for a probability or an id out of range; ShapeError if the
    text attends to tokens of another width than the image encoder's.

    >>> ALBEFConfig.paper().text.fusion_layer
    6
    """

    image: ViTConfig
    text: BertConfig
    embed_dim: int = 256
    queue: int = 65536
    momentum: float | None = 0.995
    alpha: float = 0.4
    alpha_warmup: int = 0
    mlm_probability: float = 0.15
    mask: int | None = None

    def __post_init__(self):
        check_widths(self.image, self.text)
        if not 0 < self.text.fusion_layer < self.text.layers:
            raise UsageError(
                f"fusion begins inside of the text's {self.text.layers} layers, between text encoder "
                f"and multimodal encoder, and fusion_layer {self.text.fusion_layer} came; the paper "
                "has 6 of 12"
            )
        if self.mask is None:
            object.__setattr__(self, "mask", self.text.vocabulary - 1)
        check_distillation(self.alpha, self.alpha_warmup)
        check_token_ids(self.text.vocabulary, mask=self.mask)
        if not isinstance(self.mlm_probability, (int, float)) or not 0 < self.mlm_probability <= 1:
            raise UsageError(
                "mlm_probability is the probability that a token is masked for MLM, in (0, 1], and "
                f"{self.mlm_probability!r} came; the paper has 0.15"
            )

    @classmethod
    def tiny(cls, **changes: Any) -> "ALBEFConfig":
        """Return a config for tests and first steps; its queue takes batches that divide 24."""
        image = ViTConfig.plain(resolution=16, patch=8, width=24, layers=1, heads=2)
        text = BertConfig.tiny(encoder_width=24, fusion_layer=1, token_types=2)
        return replace(cls(image, text, embed_dim=16, queue=24, mlm_probability=0.4), **changes)

    @classmethod
    def paper(cls, **changes: Any) -> "ALBEFConfig":
        """Return the paper's (§3.1 and §3.5): ViT-B/16 at 256 pixels, BERT-base, a queue of 65,536."""
        text = BertConfig.paper(encoder_width=768, fusion_layer=6, token_types=2)
        return replace(cls(ViTConfig.plain(256, 16, 768, 12, 12), text, mask=103), **changes)


class ALBEF(DualEncoderModel):
    """Image encoder, text encoder and multimodal encoder: (B, h, w, c) with ids, is_real (B, T).

    `encoders` holds all three, since the upper layers of its BERT are the multimodal encoder;
    `momentum_encoder` is their EMA, `queue` its features of the last K pairs.

    >>> model = ALBEF(ALBEFConfig.tiny(), np.random.default_rng(0))
    >>> ids, is_real = np.array([[1, 5, 2]]), np.array([[True, True, True]])
    >>> model(np.zeros((2, 16, 16, 3), np.float32), ids, is_real).shape
    (2, 1)
    """

    def __init__(self, config: ALBEFConfig, rng: np.random.Generator):
        E, fusion = config.embed_dim, config.text.fusion_layer
        self.config = config
        self.encoders = DualEncoder(
            config.image, config.text, E, fusion, masked_language=True, rng=rng
        )
        self.temperature = initial_temperature()
        self.momentum_encoder = self.queue = None
        if config.momentum is not None:
            self.momentum_encoder = MomentumEncoder(self.encoders, config.momentum)
            self.queue = FeatureQueue(config.queue, E, rng)
        self.itm_head = Linear(config.text.width, 2, rng=rng)

    def multimodal_tokens(self, image_tokens: Any, text_tokens: Any, is_real: np.ndarray) -> Tensor:
        """Fuse image and text: image_tokens (B, P+1, M), text_tokens (B, T, D) -> (B, T, D)."""
        text, first = self.encoders.text_encoder, self.encoders.unimodal_layers
        return text.encode(text_tokens, padding_mask(is_real), image_tokens, first=first)

    def fused_itm_logits(self, image_tokens: Any, text_tokens: Any, is_real: np.ndarray) -> Tensor:
        """Return ITM's logits of texts that are encoded already, text_tokens (B, T, D): (B, 2)."""
        x = self.multimodal_tokens(image_tokens, text_tokens, is_real)  # (B, T, D)
        return self.itm_head(x[:, 0])

    def itm_logits(
        self, image_tokens: Any, ids: np.ndarray, is_real: np.ndarray | None = None
    ) -> Tensor:
        """Return the logits of "does not match" and "matches" of aligned images and texts.

        image_tokens (B, P+1, M), ids and is_real (B, T) -> (B, 2).
        """
        is_real = real(ids, is_real)
        return self.fused_itm_logits(image_tokens, self.text_tokens(ids, is_real), is_real)

    def mlm_logits(
        self, image_tokens: Any, ids: np.ndarray, is_real: np.ndarray | None = None
    ) -> Tensor:
        """Return the logits of each token, given the image and the text on both sides.

        image_tokens (B, P+1, M), ids and is_real (B, T) -> (B, T, V).
        """
        return self.encoders.mlm_logits(image_tokens, ids, real(ids, is_real))
