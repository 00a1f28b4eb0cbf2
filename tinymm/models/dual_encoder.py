"""An image encoder and a text encoder with a shared embedding space (ALBEF §3.1; BLIP §3.1).

`DualEncoder` is what the momentum encoder copies (`momentum`). `DualEncoderModel` is how a model
that has one is used: features, cosines and the probability of a match.
"""

from typing import Any

import numpy as np

from tinymm.arrays.backend import to_host
from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.autodiff import Tensor, no_grad
from tinymm.layers import Linear, Module, Parameter, padding_mask
from tinymm.losses import l2_normalize

from .bert import Bert, BertConfig, LanguageHead
from .momentum import FeatureQueue, MomentumEncoder
from .text import real
from .vit import ViT, ViTConfig

#: The temperature that contrast begins with (ALBEF §3.2; BLIP's code).
INITIAL_TEMPERATURE = 0.07


class DualEncoder(Module):
    """A vision transformer and a BERT, each with a projection into the shared embedding space.

    The first `unimodal_layers` of the BERT encode a text without the image. With
    `masked_language` there is a head that predicts masked tokens, as in ALBEF.
    """

    def __init__(
        self,
        image: ViTConfig,
        text: BertConfig,
        embed_dim: int,
        unimodal_layers: int,
        *,
        masked_language: bool,
        rng: np.random.Generator,
    ):
        self.image_encoder = ViT(image, rng)
        self.text_encoder = Bert(text, rng)
        self.language_head = LanguageHead.of(text, rng) if masked_language else None
        self.image_projection = Linear(image.width, embed_dim, rng=rng)
        self.text_projection = Linear(text.width, embed_dim, rng=rng)
        self.unimodal_layers = unimodal_layers

    def image_tokens(self, images: Any) -> Tensor:
        """Return the image encoder's tokens: (B, h, w, c) -> (B, P+1, M)."""
        return self.image_encoder.normalized_tokens(images)

    def text_tokens(self, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the texts' tokens, encoded without an image: ids and is_real (B, T) -> (B, T, D)."""
        text = self.text_encoder
        x = text.norm(text.embedding(ids))  # (B, T, D)
        return text.encode(x, padding_mask(is_real), last=self.unimodal_layers)  # (B, T, D)

    def mlm_logits(self, image_tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the logits of each token, given the image and the text on both sides.

        image_tokens (B, P+1, M), ids and is_real (B, T) -> (B, T, V).
        """
        x = self.text_encoder(ids, is_real, memory=image_tokens)  # (B, T, D)
        return self.language_head(x, self.text_encoder.embedding.words)  # type: ignore[misc]

    def project_image(self, image_tokens: Any, *, normalize: bool = True) -> Any:
        """Return the images' features, of their first tokens: (B, P+1, M) -> unit vectors (B, E)."""
        features = self.image_projection(image_tokens[:, 0])
        return l2_normalize(features) if normalize else features

    def project_text(self, text_tokens: Any, *, normalize: bool = True) -> Any:
        """Return the texts' features, of their first tokens: (B, T, D) -> unit vectors (B, E)."""
        features = self.text_projection(text_tokens[:, 0])
        return l2_normalize(features) if normalize else features


class DualEncoderModel(Module):
    """A model whose `encoders` are a DualEncoder: how ALBEF and BLIP are used.

    Its parts for momentum contrast are None where it is trained without.
    """

    config: Any
    encoders: DualEncoder
    temperature: Parameter
    momentum_encoder: MomentumEncoder | None
    queue: FeatureQueue | None

    @property
    def image_encoder(self) -> ViT:
        """The vision transformer."""
        return self.encoders.image_encoder

    def image_tokens(self, images: Any) -> Tensor:
        """Return the image encoder's tokens: (B, h, w, c) -> (B, P+1, M)."""
        return self.encoders.image_tokens(images)

    def text_tokens(self, ids: np.ndarray, is_real: np.ndarray | None = None) -> Tensor:
        """Return the texts' tokens, encoded without an image: ids and is_real (B, T) -> (B, T, D)."""
        return self.encoders.text_tokens(ids, real(ids, is_real))

    def project_image(self, image_tokens: Any) -> Any:
        """Return the images' features in the shared space: (B, P+1, M) -> unit vectors (B, E)."""
        return self.encoders.project_image(image_tokens)

    def project_text(self, text_tokens: Any) -> Any:
        """Return the texts' features in the shared space: (B, T, D) -> unit vectors (B, E)."""
        return self.encoders.project_text(text_tokens)

    def encode_image(self, images: Any, *, normalize: bool = True) -> Tensor:
        """Return the images' features in the shared space: (B, h, w, c) -> unit vectors (B, E).

        Without `normalize` they are as projected.
        """
        tokens = self.image_tokens(images)  # (B, P+1, M)
        return self.encoders.project_image(tokens, normalize=normalize)

    def encode_text(
        self, ids: np.ndarray, is_real: np.ndarray | None = None, *, normalize: bool = True
    ) -> Tensor:
        """Return the texts' features in the shared space: ids (B, T) -> unit vectors (B, E).

        Without `normalize` they are as projected.
        """
        tokens = self.text_tokens(ids, is_real)  # (B, T, D)
        return self.encoders.project_text(tokens, normalize=normalize)

    @staticmethod
    def similarity(images: Any, texts: Any) -> Any:
        """Return the cosine of each image with each text: unit vectors (B, E), (C, E) -> (B, C)."""
        return np.dot(images, texts.T)

    def forward(self, images: Any, ids: np.ndarray, is_real: np.ndarray | None = None) -> Tensor:
        """Return the cosine of each image with each text: (B, h, w, c), ids (C, T) -> (B, C)."""
        return self.similarity(self.encode_image(images), self.encode_text(ids, is_real))

    def itm_logits(self, image_tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the logits of "does not match" and "matches" of aligned images and texts.

        image_tokens (B, P+1, M), ids and is_real (B, T) -> (B, 2). Each model has its own.
        """
        raise TypeError(f"{type(self).__name__} has no itm_logits of its own; define them")

    def itm_probability(
        self, images: Any, ids: np.ndarray, is_real: np.ndarray | None = None
    ) -> np.ndarray:
        """Return how likely each text (B, T) is to belong to its image (B, h, w, c): (B,)."""
        with no_grad():
            logits = self.itm_logits(self.image_tokens(images), ids, real(ids, is_real))
        no, yes = to_host(logits.data).T
        return 1 / (1 + np.exp(no - yes))


def initial_temperature() -> Parameter:
    """Return the learned temperature at its start: a number without axes."""
    return Parameter(np.full((), INITIAL_TEMPERATURE, np.float32))


def check_widths(image: ViTConfig, text: BertConfig) -> None:
    """Raise ShapeError unless the cross-attention takes tokens of the image encoder's width."""
    if text.encoder_width != image.width:
        raise ShapeError(
            f"the text encoder attends to tokens of the image encoder's width {image.width}, and an "
            f"encoder_width of {text.encoder_width} came; make them equal"
        )


def check_token_ids(vocabulary: int, **ids: Any) -> None:
    """Raise UsageError unless the id of each special token is one of the vocabulary."""
    for name, value in ids.items():
        if not isinstance(value, (int, np.integer)) or not 0 <= value < vocabulary:
            raise UsageError(
                f"{name} is an id below the vocabulary {vocabulary}, and {value!r} came; correct it"
            )
