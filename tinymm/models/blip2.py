"""BLIP-2: a frozen picture encoder, a frozen language model, and a Q-Former that learns to stand between them (Li et al. 2023, arXiv:2301.12597).

Stage 1 (§3.2) teaches the queries to draw from a picture what a text speaks of, by three losses that differ in a mask: contrast (ITC),
generation (ITG) and matching (ITM). Stage 2 (§3.3) is `blip2_stage2.py`: it lays the queries' answers before a language model as soft words.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.backend import beside, to_host
from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.autodiff import Tensor, no_grad
from tinymm.layers import Cache, LayerNorm, Linear, Module, Parameter, bidirectional_mask, multimodal_causal_mask, unimodal_mask
from tinymm.losses import hard_negatives, itc_loss, itm_loss, itm_pairs, l2_normalize, language_loss, max_over_queries

from .bert import LanguageHead
from .decoding import generate
from .qformer import QFormer, QFormerConfig
from .text import real
from .vit import ViT, ViTConfig


@dataclass(frozen=True)
class BLIP2Config:
    """Sizes of stage 1: the picture encoder, the Q-Former and the joint width E.

    `decode` is the id of [DEC], which stands in the place of the first token where the model writes, and `end_of_text` that of the token at
    which it stops; None means the vocabulary's last id, and BERT's [SEP], 102. ShapeError if the Q-Former looks at tokens of another
    width than the picture encoder's; UsageError if it has no vocabulary, or an id lies outside of it.

    >>> BLIP2Config.paper().decode
    30522
    """

    image: ViTConfig
    qformer: QFormerConfig
    joint_width: int = 256
    decode: int | None = None
    end_of_text: int = 102
    norm_eps: float = 1e-5  # of the norm over the frozen encoder's tokens; 1e-6 in Hugging Face's folders
    smoothing: float = 0.1

    def __post_init__(self):
        if self.image.width != self.qformer.memory_width:
            raise ShapeError(
                f"the Q-Former looks at tokens of the picture encoder's width {self.image.width}, and a memory_width of "
                f"{self.qformer.memory_width} came; make them equal"
            )
        if self.qformer.vocabulary is None:
            raise UsageError("stage 1 learns from texts, and a Q-Former without a vocabulary came; give it one")
        if self.decode is None:
            object.__setattr__(self, "decode", self.qformer.vocabulary - 1)
        for name in ("decode", "end_of_text"):
            if not 0 <= getattr(self, name) < self.qformer.vocabulary:
                raise UsageError(f"{name} is an id below the vocabulary {self.qformer.vocabulary}, and {getattr(self, name)} came")

    @classmethod
    def tiny(cls, **changes: Any) -> "BLIP2Config":
        """Return a config for tests and first steps."""
        image = ViTConfig(resolution=16, patch=8, width=24, layers=1, heads=2, activation="gelu")
        return replace(cls(image, QFormerConfig.tiny(), joint_width=16, end_of_text=2), **changes)

    @classmethod
    def paper(cls, **changes: Any) -> "BLIP2Config":
        """Return the paper's: EVA's ViT-g/14 without its last layer, 32 queries, BERT-base."""
        image = ViTConfig(
            resolution=224, patch=14, width=1408, layers=39, heads=16, activation="gelu", eps=1e-6, feed_forward=6144, norm_before=False,
            norm_after=False, patch_bias=True,
        )  # fmt: skip
        return replace(cls(image, QFormerConfig.paper()), **changes)


class BLIP2Stage1(Module):
    """Queries that learn what a text will ask of a picture (§3.2). The picture encoder is frozen; the norm over its tokens trains.

    Texts are ids (B, T) of [CLS] … [SEP] and is_real (B, T). For speed and clarity everything that trains starts from `image_tokens`, plain
    numbers (B, P+1, M) that the frozen encoder has computed.

    >>> model = BLIP2Stage1(BLIP2Config.tiny(), np.random.default_rng(0))
    >>> model(np.zeros((2, 16, 16, 3), np.float32), np.array([[1, 5, 2]]), np.array([[True, True, True]])).shape
    (2, 1)
    """

    def __init__(self, config: BLIP2Config, rng: np.random.Generator, image_encoder: ViT | None = None):
        D, E = config.qformer.width, config.joint_width
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
        self.masks = {"itc": unimodal_mask, "itm": bidirectional_mask, "itg": multimodal_causal_mask}

    # ------------------------------------------------------------------ the three losses
    def losses(
        self,
        images: Any,
        ids: np.ndarray,
        is_real: np.ndarray | None = None,
        *,
        rng: np.random.Generator | None = None,
        image_ids: np.ndarray | None = None,
        negatives: tuple[np.ndarray, np.ndarray] | None = None,
        masked: Any = None,
        split: Callable[[Any], Callable] | None = None,
        objectives: tuple[str, ...] = ("itc", "itm", "itg"),
    ) -> dict[str, Tensor]:
        """Return {"itc", "itm", "itg"} of B ≥ 2 pairs, to be added 1 : 1 : 1: images (B, h, w, c), ids and is_real (B, T).

        Pairs of equal `image_ids` (B,) show one picture: none is the other's wrong answer. `negatives` (image_for_text (B,), text_for_image
        (B,)) replaces the draw of ITM's hard negatives from `rng`. `split` lets workers share the batch (`training.parallel`), `objectives`
        leaves losses out. UsageError for a batch of one, which has nothing to contrast.
        """
        B = len(ids)
        if len(images) != B:
            raise UsageError(f"pictures and texts come in pairs, and {len(images)} pictures with {B} texts came; align the batch")
        if B < 2:
            raise UsageError(f"ITC and ITM need wrong pairs, so at least 2 pairs, and {B} came; raise the batch size")
        if unknown := set(objectives) - {"itc", "itm", "itg"}:
            raise UsageError(f"the objectives are itc, itm and itg, and {sorted(unknown)[0]!r} came; correct the name")
        split = split or (lambda function: function)
        is_real = real(ids, is_real)
        image_ids = np.arange(B) if image_ids is None else image_ids
        tokens = self.look(images, split)
        found = {}
        itc, similarities = self.itc(tokens, ids, is_real, image_ids, split)
        if "itc" in objectives:
            found["itc"] = itc
        if "itm" in objectives:
            if negatives is None:
                if rng is None:
                    raise UsageError("ITM draws hard negatives, and neither rng nor negatives came; pass rng=np.random.default_rng(seed)")
                negatives = hard_negatives(similarities.data, image_ids, rng)
            found["itm"] = self.itm(tokens, ids, is_real, negatives, split)
        if "itg" in objectives:
            found["itg"] = self.itg(tokens, ids, is_real, split)
        return found

    def itc(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray, image_ids: np.ndarray, split: Callable) -> tuple[Tensor, Tensor]:
        """Image-text contrast: return the loss and the scaled similarities (B, B), of each picture's best query with each text."""
        Q = self.config.qformer.queries
        features = split(self.features)(tokens, ids, is_real)  # (B, Q+1, E)
        similarities = max_over_queries(features[:, :Q], features[:, Q]) / self.temperature  # (B, B)
        return itc_loss(similarities, image_ids, self.config.smoothing), similarities

    def itm(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray, negatives: tuple[Any, Any], split: Callable) -> Tensor:
        """Image-text matching: return the loss over the true pairs, each text with a hard picture, and each picture with a hard text."""
        images, texts, labels = itm_pairs(*negatives)
        ids, is_real = beside(ids, texts), beside(is_real, texts)  # where the texts were drawn, nobody needs to ask which ones they are
        return itm_loss(split(self.match)(tokens[images], ids[texts], is_real[texts]), labels)

    def itg(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray, split: Callable) -> Tensor:
        """Image-grounded text generation: return how surprising each next word is, given the picture and the words before."""
        return language_loss(split(self.words)(tokens, ids, is_real), ids, is_real, self.config.smoothing)

    # ------------------------------------------------------------------ one forward, three masks
    def image_tokens(self, images: Any, split: Callable = lambda function: function) -> Any:
        """Return the frozen encoder's tokens as plain numbers: images (B, h, w, c) -> (B, P+1, M)."""
        with no_grad():
            return split(self.image_encoder.tokens)(images).data

    def look(self, images: Any, split: Callable = lambda function: function) -> Any:
        """Return the encoder's tokens (B, P+1, M), plain numbers while it is frozen; after `image_encoder.unfreeze()` gradients reach it."""
        return self.image_tokens(images, split) if self.image_encoder.frozen else split(self.image_encoder.tokens)(images)

    def features(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return queries and text in the joint space, not normalized, under the uni-modal mask: (B, Q+1, E), the text last."""
        Q = self.config.qformer.queries
        x = self.qformer(self.norm_vision(tokens), ids, self.masks["itc"](Q, is_real))  # (B, Q+T, D)
        both: Any = np.concatenate([self.image_projection(x[:, :Q]), self.text_projection(x[:, Q : Q + 1])], axis=1)  # (B, Q+1, E)
        return both

    def words(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the logits of each next word under the multimodal causal mask, the first token being [DEC]: (B, T, V)."""
        Q = self.config.qformer.queries
        x = self.qformer(self.norm_vision(tokens), self.decoding(ids), self.masks["itg"](Q, is_real))  # (B, Q+T, D)
        return self.language_head(x[:, Q:], self.qformer.embedding.words)  # type: ignore[union-attr]

    def match(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return every query's logits of "does not match" and "matches" under the bi-directional mask: (B, Q, 2)."""
        Q = self.config.qformer.queries
        x = self.qformer(self.norm_vision(tokens), ids, self.masks["itm"](Q, is_real))  # (B, Q+T, D)
        return self.itm_head(x[:, :Q])

    def decoding(self, ids: np.ndarray) -> np.ndarray:
        """Return ids (B, T) with [DEC] in the first place: it says "write", where [CLS] says "sum up"."""
        ids = ids.copy()
        ids[:, 0] = self.config.decode
        return ids

    # ------------------------------------------------------------------ use
    def encode_image(self, images: Any) -> Tensor:
        """Return each query's unit vector in the joint space: (B, h, w, c) -> (B, Q, E)."""
        return self.project_queries(self.look(images))

    def project_queries(self, tokens: Any) -> Tensor:
        """Return what `encode_image` does, of tokens (B, P+1, M) that are there already."""
        return l2_normalize(self.image_projection(self.qformer(self.norm_vision(tokens))))

    def encode_text(self, ids: np.ndarray, is_real: np.ndarray | None = None) -> Tensor:
        """Return each text's unit vector in the joint space: (B, T) -> (B, E)."""
        is_real = real(ids, is_real)
        return l2_normalize(self.text_projection(self.qformer(ids=ids, may_attend=unimodal_mask(0, is_real))[:, 0]))

    def forward(self, images: Any, ids: np.ndarray, is_real: np.ndarray | None = None) -> Tensor:
        """Return the cosine of each picture's best query with each text, without the temperature: (B, h, w, c), (C, T) -> (B, C)."""
        return max_over_queries(self.encode_image(images), self.encode_text(ids, is_real))

    def itm_probability(self, images: Any, ids: np.ndarray, is_real: np.ndarray | None = None) -> np.ndarray:
        """Return how likely each text (B, T) is to belong to its picture (B, h, w, c): (B,)."""
        is_real = real(ids, is_real)
        with no_grad():
            logits = to_host(np.mean(self.match(self.image_tokens(images), ids, is_real), axis=1).data)
        return 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))

    def caption(self, images: Any, *, max_new_tokens: int | None = None, **options: Any) -> list[list[int]]:
        """Return a caption's ids for each picture, without [DEC] and [SEP]; `options` are those of `decoding.generate`.

        The queries run once and are remembered; each word then runs alone, over the remembered keys and values.
        """
        qformer, B = self.qformer, len(images)
        caches = [Cache() for _ in qformer.blocks]
        with no_grad():
            qformer(self.norm_vision(self.image_tokens(images)), caches=caches)

            def advance(ids: np.ndarray, caches: list[Cache]) -> np.ndarray:
                x = qformer(ids=ids, caches=caches)
                return to_host(self.language_head(x[:, -1], qformer.embedding.words).data)  # type: ignore[union-attr]

            first = advance(np.full((B, 1), self.config.decode), caches)
            room = qformer.config.context - 1
            most = room if max_new_tokens is None else min(max_new_tokens, room)
            return generate(
                first, caches, advance, end=self.config.end_of_text, max_new_tokens=most, **options
            )
