"""BLIP: one text transformer used three ways (Li et al. 2022, arXiv:2201.12086).

The multimodal mixture of encoder-decoder (MED, §3.1) is a unimodal encoder of texts, [CLS]; an
image-grounded text encoder, [ENC]; and an image-grounded text decoder, [DEC]. They share
embeddings, cross-attention and feed-forward; only the decoder has a self-attention of its own,
since it is causal. The training step, ITC, ITM and LM, is in `tasks/blip.py`. Decoder and matching
head also clean captions: CapFilt (§3.3, `workflows/runs/capfilt.py`).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_host
from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.autodiff import Tensor, no_grad
from tinymm.layers import (
    Cache,
    LayerNorm,
    Linear,
    Module,
    MultiHeadAttention,
    causal_mask,
    padding_mask,
)

from .bert import Bert, BertConfig, LanguageHead, check_memory
from .decoding import generate
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
class BLIPConfig:
    """Sizes of a BLIP and the constants of its training; every text layer has cross-attention.

    `decode` is the id of [DEC], the first token of the decoder; `encode` that of [ENC], the first
    token of the image-grounded text encoder: None keeps [CLS] there, as the demo class of the
    released code and Hugging Face do, though the model was trained with [ENC]. The decoder ends at
    `end_of_text`, [SEP]. `alpha`, `alpha_warmup` and `momentum` are as in ALBEF; the released
    warm-up is two epochs. UsageError for layers without cross-attention, and for a weight or an id
    out of range; ShapeError if they attend to tokens of another width than the image encoder's.

    >>> BLIPConfig.paper().decode, BLIPConfig.paper().encode
    (30522, 30523)
    """

    image: ViTConfig
    text: BertConfig
    embed_dim: int = 256
    queue: int = 57600
    momentum: float | None = 0.995
    alpha: float = 0.4
    alpha_warmup: int = 0
    smoothing: float = 0.1
    decode: int = 30522
    encode: int | None = 30523
    end_of_text: int = 102

    def __post_init__(self):
        check_widths(self.image, self.text)
        if self.text.fusion_layer:
            raise UsageError(
                "every layer of BLIP's text transformer has cross-attention to the image, and "
                f"fusion_layer {self.text.fusion_layer} came; leave it 0"
            )
        check_distillation(self.alpha, self.alpha_warmup)
        special = {"decode": self.decode, "end_of_text": self.end_of_text}
        special |= {} if self.encode is None else {"encode": self.encode}
        check_token_ids(self.text.vocabulary, **special)

    @classmethod
    def tiny(cls, **changes: Any) -> "BLIPConfig":
        """Return a config for tests and first steps; its queue takes batches that divide 24."""
        image = ViTConfig.plain(resolution=16, patch=8, width=24, layers=1, heads=2)
        return replace(
            cls(
                image,
                BertConfig.tiny(encoder_width=24),
                embed_dim=16,
                queue=24,
                decode=48,
                encode=49,
                end_of_text=2,
            ),
            **changes,
        )

    @classmethod
    def paper(cls, **changes: Any) -> "BLIPConfig":
        """Return the paper's base model (§4.1): ViT-B/16 at 224 pixels, BERT-base with two more words."""
        text = BertConfig.paper(vocabulary=30524, encoder_width=768)
        return replace(cls(ViTConfig.plain(224, 16, 768, 12, 12), text), **changes)


class TextDecoder(Module):
    """What the image-grounded text decoder does not share with the encoder (§3.1).

    A causal self-attention with its norm for each layer, and the head that predicts the next token.
    """

    def __init__(self, config: BertConfig, rng: np.random.Generator):
        D, std = config.width, config.std
        self.attentions = [
            MultiHeadAttention(D, config.heads, rng=rng, stds=(std, std))
            for _ in range(config.layers)
        ]
        self.norms = [LayerNorm(D, config.eps) for _ in range(config.layers)]
        self.language_head = LanguageHead.of(config, rng)

    def forward(
        self,
        encoder: Bert,
        image_tokens: Any,
        ids: np.ndarray,
        is_real: np.ndarray | None = None,
        caches: list[Cache] | None = None,
    ) -> Tensor:
        """Return the logits of each next token: image_tokens (B, P+1, M), ids (B, T) -> (B, T, V).

        Everything but the self-attention is that of the text `encoder`. `caches`, two a layer (of
        tokens, and of the image), hold keys and values of earlier tokens. ShapeError or UsageError
        for tokens that do not fit.
        """
        past = caches[0].length if caches else 0
        T = ids.shape[1]
        may_attend = causal_mask(past + T)[past:]  # (T, past+T)
        if is_real is not None:
            may_attend = may_attend & padding_mask(is_real)
        x: Any = encoder.norm(encoder.embedding(ids, past))  # (B, T, D)
        if not (caches and caches[1].length):  # later tokens attend to the image's cached ones
            check_memory(image_tokens, x, encoder.config.encoder_width)
        for i, block in enumerate(encoder.blocks):
            of_text, of_image = (caches[2 * i], caches[2 * i + 1]) if caches else (None, None)
            attended = self.attentions[i](x, may_attend, of_text)  # (B, T, D)
            x = self.norms[i](x + attended)  # (B, T, D)
            x = block.look_and_think(x, image_tokens, of_image)  # (B, T, D)
        return self.language_head(x, encoder.embedding.words)


class BLIP(DualEncoderModel):
    """Unimodal encoders, image-grounded text encoder and decoder: (B, h, w, c), ids (B, T).

    `encoders` holds the image encoder and the text transformer, which is the unimodal and the
    image-grounded encoder; `decoder` what the image-grounded text decoder has of its own.
    `momentum_encoder` is the EMA of `encoders`, `queue` its features of the last K pairs.

    >>> model = BLIP(BLIPConfig.tiny(), np.random.default_rng(0))
    >>> ids, is_real = np.array([[1, 5, 2]]), np.array([[True, True, True]])
    >>> model(np.zeros((2, 16, 16, 3), np.float32), ids, is_real).shape
    (2, 1)
    """

    def __init__(self, config: BLIPConfig, rng: np.random.Generator):
        E, layers = config.embed_dim, config.text.layers
        self.config = config
        self.encoders = DualEncoder(
            config.image, config.text, E, layers, masked_language=False, rng=rng
        )
        self.temperature = initial_temperature()
        self.momentum_encoder = self.queue = None
        if config.momentum is not None:
            self.momentum_encoder = MomentumEncoder(self.encoders, config.momentum)
            self.queue = FeatureQueue(config.queue, E, rng)
        self.itm_head = Linear(config.text.width, 2, rng=rng)
        self.decoder = TextDecoder(config.text, rng)

    def itm_logits(
        self, image_tokens: Any, ids: np.ndarray, is_real: np.ndarray | None = None
    ) -> Tensor:
        """Return the image-grounded text encoder's logits of "does not match" and "matches".

        Of aligned images and texts, [ENC] first: image_tokens (B, P+1, M), ids (B, T) -> (B, 2).
        """
        is_real = real(ids, is_real)
        ids = beginning(ids, self.config.encode)
        x = self.encoders.text_encoder(ids, is_real, memory=image_tokens)  # (B, T, D)
        return self.itm_head(x[:, 0])

    def lm_logits(
        self, image_tokens: Any, ids: np.ndarray, is_real: np.ndarray | None = None
    ) -> Tensor:
        """Return the image-grounded text decoder's logits of each next token, [DEC] first.

        image_tokens (B, P+1, M), ids and is_real (B, T) -> (B, T, V).
        """
        ids = beginning(ids, self.config.decode)
        return self.decoder(self.encoders.text_encoder, image_tokens, ids, is_real)

    def generate(
        self,
        images: Any,
        ids: np.ndarray | None = None,
        *,
        max_new_tokens: int | None = None,
        **options: Any,
    ) -> list[list[int]]:
        """Return a caption's ids for each image (B, h, w, c), without prompt and [SEP].

        `ids` (B, T) are prompts of one length, such as "[CLS] a picture of"; `options` are those of
        `decoding.generate`. Keys and values of the image and of earlier tokens are computed once
        and cached. ShapeError where the prompt leaves no room for an answer.
        """
        B, context = len(images), self.config.text.context
        ids = np.full((B, 1), self.config.decode) if ids is None else ids
        if ids.ndim != 2 or len(ids) != B or not 1 <= ids.shape[1] < context:
            raise ShapeError(
                f"a prompt (B, T), [CLS] first, for each of {B} images leaves room for an answer among "
                f"{context} tokens, and {ids.shape} came; give one to each image, or shorten them"
            )
        prompt = beginning(ids, self.config.decode)
        room = context - prompt.shape[1]
        most = room if max_new_tokens is None else min(max_new_tokens, room)
        caches = [Cache() for _ in range(2 * self.config.text.layers)]
        with no_grad():
            tokens = self.image_tokens(images)  # (B, P+1, M)

            def advance(ids: np.ndarray, caches: list[Cache]) -> np.ndarray:
                logits = self.decoder(self.encoders.text_encoder, tokens, ids, caches=caches)
                return to_host(logits[:, -1].data)

            options |= {"end": self.config.end_of_text, "max_new_tokens": most}
            return generate(advance(prompt, caches), caches, advance, **options)


def beginning(ids: np.ndarray, first: int | None) -> np.ndarray:
    """Return ids (B, T) with another first token, which tells the use; unchanged for None.

    >>> beginning(np.array([[1, 5, 2]]), 49).tolist()
    [[49, 5, 2]]
    """
    if first is None:
        return ids
    ids = ids.copy()
    ids[:, 0] = first
    return ids
