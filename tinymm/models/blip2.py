"""BLIP-2: a Q-Former between a frozen image encoder and a frozen language model (Li et al. 2023).

arXiv:2301.12597. Stage 1 (§3.2) trains the learned queries to extract from an image what is
relevant to its text, by three losses that share the weights and differ in a self-attention mask:
contrastive learning (ITC), matching (ITM) and generation (ITG); its step is
`tasks/blip2_stage1.py`. Stage 2 (§3.3) is `blip2_stage2.py`: the queries' output becomes soft
visual prompts of a language model.
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
    Parameter,
    bidirectional_mask,
    multimodal_causal_mask,
    unimodal_mask,
)
from tinymm.losses import l2_normalize, max_over_queries

from .bert import LanguageHead
from .decoding import generate
from .qformer import QFormer, QFormerConfig
from .text import real
from .vit import ViT, ViTConfig


@dataclass(frozen=True)
class BLIP2Config:
    """Sizes of stage 1: the image encoder, the Q-Former and the width E of the shared embedding space.

    `decode` is the id of [DEC], which replaces the first token [CLS] where text is generated
    (§3.2), by default the vocabulary's last; `end_of_text` ends a generated text, by default BERT's
    [SEP], 102. `smoothing` is the label smoothing of ITC and ITG. ShapeError if the Q-Former
    attends to tokens of another width than the image encoder's; UsageError if it has no vocabulary,
    or for an id outside it.

    >>> BLIP2Config.paper().decode
    30522
    """

    image: ViTConfig
    qformer: QFormerConfig
    embed_dim: int = 256
    decode: int | None = None
    end_of_text: int = 102
    norm_eps: float = (
        1e-5  # of the norm over the frozen encoder's tokens; 1e-6 in Hugging Face's folders
    )
    smoothing: float = 0.1

    def __post_init__(self):
        if self.image.width != self.qformer.encoder_width:
            raise ShapeError(
                f"the Q-Former attends to tokens of the image encoder's width {self.image.width}, and an encoder_width of "
                f"{self.qformer.encoder_width} came; make them equal"
            )
        if self.qformer.vocabulary is None:
            raise UsageError(
                "stage 1 learns from texts, and a Q-Former without a vocabulary came; give it one"
            )
        if self.decode is None:
            object.__setattr__(self, "decode", self.qformer.vocabulary - 1)
        for name in ("decode", "end_of_text"):
            if not 0 <= getattr(self, name) < self.qformer.vocabulary:
                raise UsageError(
                    f"{name} is an id below the vocabulary {self.qformer.vocabulary}, and {getattr(self, name)} came"
                )

    @classmethod
    def tiny(cls, **changes: Any) -> "BLIP2Config":
        """Return a config for tests and first steps."""
        image = ViTConfig(resolution=16, patch=8, width=24, layers=1, heads=2, activation="gelu")
        return replace(cls(image, QFormerConfig.tiny(), embed_dim=16, end_of_text=2), **changes)

    @classmethod
    def paper(cls, **changes: Any) -> "BLIP2Config":
        """Return the paper's: EVA's ViT-g/14 without its last layer, 32 queries, BERT-base."""
        image = ViTConfig(
            resolution=224, patch=14, width=1408, layers=39, heads=16, activation="gelu", eps=1e-6, feed_forward=6144, norm_before=False,
            norm_after=False, patch_bias=True,
        )  # fmt: skip
        return replace(cls(image, QFormerConfig.paper()), **changes)


class BLIP2Stage1(Module):
    """The Q-Former with its three heads behind a frozen image encoder, whose output norm trains (§3.2).

    Texts are ids (B, T) of [CLS] … [SEP] and is_real (B, T). Every method that follows the image
    encoder takes its `image_tokens` (B, P+1, M), so that they are computed once for all losses.

    >>> model = BLIP2Stage1(BLIP2Config.tiny(), np.random.default_rng(0))
    >>> ids, is_real = np.array([[1, 5, 2]]), np.array([[True, True, True]])
    >>> model(np.zeros((2, 16, 16, 3), np.float32), ids, is_real).shape
    (2, 1)
    """

    def __init__(
        self, config: BLIP2Config, rng: np.random.Generator, image_encoder: ViT | None = None
    ):
        D, E = config.qformer.width, config.embed_dim
        self.config = config
        self.image_encoder = (image_encoder or ViT(config.image, rng)).freeze()
        self.norm_vision = LayerNorm(config.image.width, config.norm_eps)
        self.qformer = QFormer(config.qformer, rng)
        self.language_head = LanguageHead.of(config.qformer, rng)
        self.image_projection = Linear(D, E, rng=rng)
        self.text_projection = Linear(D, E, rng=rng)
        self.itm_head = Linear(D, 2, rng=rng)
        self.temperature = Parameter(np.full((), 0.07, np.float32))
        # All that tells the three objectives apart. Replace one to see what it is for.
        self.masks = {
            "itc": unimodal_mask,
            "itm": bidirectional_mask,
            "itg": multimodal_causal_mask,
        }

    # ------------------------------------------------------------------ sequences
    def image_tokens(self, images: Any) -> Tensor:
        """Return the image encoder's tokens: images (B, h, w, c) -> (B, P+1, M).

        Without a graph while the encoder is frozen; after `image_encoder.unfreeze()` with one.
        """
        if not self.image_encoder.frozen:
            return self.image_encoder.tokens(images)
        with no_grad():
            return self.image_encoder.tokens(images)

    def query_tokens(self, image_tokens: Any) -> Tensor:
        """Return the queries' output for images without a text: tokens (B, P+1, M) -> (B, Q, D)."""
        return self.qformer(self.norm_vision(image_tokens))

    def text_tokens(self, ids: np.ndarray, is_real: np.ndarray | None = None) -> Tensor:
        """Return the output for texts without an image: ids (B, T) -> (B, T, D)."""
        return self.qformer(ids=ids, may_attend=unimodal_mask(0, real(ids, is_real)))

    # ------------------------------------------------------------------ one forward pass, three masks
    def unimodal_features(self, image_tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return projected queries and text, not normalized, the text last: (B, Q+1, E).

        Under the uni-modal mask of ITC, by which queries and text do not attend to each other.
        """
        Q = self.config.qformer.queries
        mask = self.masks["itc"](Q, is_real)
        x = self.qformer(self.norm_vision(image_tokens), ids, mask)  # (B, Q+T, D)
        queries = self.image_projection(x[:, :Q])  # (B, Q, E)
        text = self.text_projection(x[:, Q : Q + 1])  # (B, 1, E)
        features: Any = np.concatenate([queries, text], axis=1)  # (B, Q+1, E)
        return features

    def query_itm_logits(self, image_tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return each query's logits of "does not match" and "matches": (B, Q, 2).

        Under the bi-directional mask of ITM, by which all queries and tokens attend to each other.
        """
        Q = self.config.qformer.queries
        mask = self.masks["itm"](Q, is_real)
        x = self.qformer(self.norm_vision(image_tokens), ids, mask)  # (B, Q+T, D)
        return self.itm_head(x[:, :Q])

    def itm_logits(self, image_tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the logits of "does not match" and "matches", averaged over queries: (B, 2)."""
        logits: Any = self.query_itm_logits(image_tokens, ids, is_real)
        return np.mean(logits, axis=1)

    def lm_logits(self, image_tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the logits of each next token, the first token being [DEC]: (B, T, V).

        Under the multimodal causal mask of ITG: a token attends to the queries and to the tokens
        before it, and queries do not attend to the text.
        """
        Q = self.config.qformer.queries
        mask = self.masks["itg"](Q, is_real)
        x = self.qformer(self.norm_vision(image_tokens), self.decoding(ids), mask)  # (B, Q+T, D)
        return self.language_head(x[:, Q:], self.qformer.embedding.words)  # type: ignore[union-attr]

    def decoding(self, ids: np.ndarray) -> np.ndarray:
        """Return ids (B, T) with [DEC] in place of [CLS], "to signal the decoding task" (§3.2)."""
        ids = ids.copy()
        ids[:, 0] = self.config.decode
        return ids

    # ------------------------------------------------------------------ the shared embedding space
    def encode_image(self, images: Any, *, normalize: bool = True) -> Tensor:
        """Return each query's features in the shared space: images (B, h, w, c) -> (B, Q, E)."""
        return self.project_image(self.image_tokens(images), normalize=normalize)

    def project_image(self, image_tokens: Any, *, normalize: bool = True) -> Tensor:
        """Return what `encode_image` does, of image tokens (B, P+1, M): (B, Q, E)."""
        features = self.image_projection(self.query_tokens(image_tokens))
        return l2_normalize(features) if normalize else features

    def encode_text(
        self, ids: np.ndarray, is_real: np.ndarray | None = None, *, normalize: bool = True
    ) -> Tensor:
        """Return the texts' features in the shared space, of their [CLS]: ids (B, T) -> (B, E)."""
        features = self.text_projection(self.text_tokens(ids, is_real)[:, 0])
        return l2_normalize(features) if normalize else features

    @staticmethod
    def similarity(image_features: Any, text_features: Any) -> Any:
        """Return the cosine of each image's best query with each text: (B, Q, E), (C, E) -> (B, C)."""
        return max_over_queries(image_features, text_features)

    def forward(self, images: Any, ids: np.ndarray, is_real: np.ndarray | None = None) -> Tensor:
        """Return the cosine of each image's best query with each text.

        images (B, h, w, c), ids (C, T) -> (B, C); without the temperature.
        """
        return self.similarity(self.encode_image(images), self.encode_text(ids, is_real))

    # ------------------------------------------------------------------ use
    def itm_probability(
        self, images: Any, ids: np.ndarray, is_real: np.ndarray | None = None
    ) -> np.ndarray:
        """Return how likely each text (B, T) is to match its image (B, h, w, c): (B,)."""
        with no_grad():
            logits = to_host(
                self.itm_logits(self.image_tokens(images), ids, real(ids, is_real)).data
            )
        return 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))

    def generate(
        self,
        images: Any,
        ids: np.ndarray | None = None,
        *,
        max_new_tokens: int | None = None,
        **options: Any,
    ) -> list[list[int]]:
        """Return a caption's ids for each image, without prompt and [SEP].

        `ids` (B, T) are prompts of one length, [CLS] first and without [SEP]; by default there are
        none. `options` are those of `decoding.generate`. The queries run once and their keys and
        values are cached; each token then runs alone. ShapeError for prompts that leave no room in
        the context.
        """
        qformer, B = self.qformer, len(images)
        prompts = np.full((B, 1), self.config.decode) if ids is None else self.decoding(ids)
        room = qformer.config.context - prompts.shape[1]
        if ids is not None and room < 1:
            raise ShapeError(
                f"a prompt leaves room for a caption, and {prompts.shape[1]} of "
                f"{qformer.config.context} positions came; shorten it"
            )
        caches = [Cache() for _ in qformer.blocks]
        with no_grad():
            qformer(self.norm_vision(self.image_tokens(images)), caches=caches)

            def advance(ids: np.ndarray, caches: list[Cache]) -> np.ndarray:
                x = qformer(ids=ids, caches=caches)  # (B, 1, D)
                return to_host(self.language_head(x[:, -1], qformer.embedding.words).data)  # type: ignore[union-attr]

            for t in range(prompts.shape[1]):
                logits = advance(prompts[:, t : t + 1], caches)  # (B, V)
            return generate(
                logits,
                caches,
                advance,
                end=self.config.end_of_text,
                max_new_tokens=room if max_new_tokens is None else min(max_new_tokens, room),
                **options,
            )
