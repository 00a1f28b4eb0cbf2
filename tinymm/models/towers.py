"""Two towers and momentum contrast: the part that ALBEF and BLIP have in common.

A vision transformer and a BERT, each with a way into a joint space, are aligned by contrast against a slow twin of theirs and its queues
(ALBEF §3.2 and §3.3; BLIP §3.2). What the two papers build on top stands in `albef.py` and `blip.py`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_host
from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.autodiff import Tensor, no_grad
from tinymm.layers import Linear, Module, Parameter, padding_mask
from tinymm.losses import hard_negatives, itc_loss, itc_with_queue, l2_normalize
from tinymm.losses.matching import wrong_pairs

from .bert import Bert, BertConfig, LanguageHead
from .momentum import Queue, SlowTwin, ramped
from .text import real
from .vit import ViT, ViTConfig

#: What the temperature is kept in, at the start of each training forward (the released code).
COLDEST, WARMEST = 0.001, 0.5
_WHOLE, _NUMBERS = (int, np.integer), (int, float, np.number)
#: What wraps a part of a model so that workers share its batch (`training.parallel`).
Split = Callable[[Any], Callable]


class Towers(Module):
    """What the slow twin copies: the two encoders, their projections into the joint space, and ALBEF's head that names words.

    The text is read by the first `reads` layers of its encoder, without the picture.
    """

    def __init__(self, image: ViTConfig, text: BertConfig, joint_width: int, reads: int, *, names_words: bool, rng: np.random.Generator):
        self.image_encoder = ViT(image, rng)
        self.text_encoder = Bert(text, rng)
        self.language_head = LanguageHead.of(text, rng) if names_words else None
        self.image_projection = Linear(image.width, joint_width, rng=rng)
        self.text_projection = Linear(text.width, joint_width, rng=rng)
        self.reads = reads

    def look(self, images: Any) -> Tensor:
        """Return all tokens of the pictures: (B, h, w, c) -> (B, P+1, M)."""
        return self.image_encoder.normalized_tokens(images)

    def read(self, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the texts' tokens, read without a picture: ids and is_real (B, T) -> (B, T, D)."""
        text = self.text_encoder
        x = text.norm(text.embedding(ids))  # (B, T, D)
        return text.encode(x, padding_mask(is_real), last=self.reads)  # (B, T, D)

    def words(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the logits of each place's word, given the picture and the words on both sides: (B, T, V)."""
        x = self.text_encoder(ids, is_real, memory=tokens)  # (B, T, D)
        return self.language_head(x, self.text_encoder.embedding.words)  # type: ignore[misc]

    def project_image(self, tokens: Any) -> Any:
        """Return the pictures' unit vectors, of their first tokens: (B, P+1, M) -> (B, E)."""
        return l2_normalize(self.image_projection(tokens[:, 0]))

    def project_text(self, hidden: Any) -> Any:
        """Return the texts' unit vectors, of their first tokens: (B, T, D) -> (B, E)."""
        return l2_normalize(self.text_projection(hidden[:, 0]))


class MomentumContrast(Module):
    """A model whose towers are aligned by contrast with their slow twin: the parent of ALBEF and BLIP.

    `momentum` None leaves twin and queue out: the contrast is then among the batch alone, and `alpha` has no one to ask.
    """

    def __init__(self, towers: Towers, joint_width: int, queue: int, momentum: float | None, *, rng: np.random.Generator):
        self.towers = towers
        self.temperature = Parameter(np.full((), 0.07, np.float32))
        self.twin = None if momentum is None else SlowTwin(towers, momentum)
        self.queue = None if momentum is None else Queue(queue, joint_width, rng)

    @property
    def image_encoder(self) -> ViT:
        """The vision transformer."""
        return self.towers.image_encoder

    def begin_step(self, B: int, alpha: float, ramp: int) -> float:
        """Clamp the temperature, let the twin follow, and return its share in the targets; UsageError for a batch that cannot be contrasted."""
        if B < 2:
            raise UsageError(f"ITC and ITM need wrong pairs, so at least 2 pairs, and {B} came; raise the batch size")
        if self.queue is None or self.twin is None:
            share = 0.0
        else:
            self.queue.fits(B)
            share = ramped(alpha, int(self.queue.pushed.data), ramp)
            self.twin.follow(self.towers)
        self.temperature.data = np.clip(self.temperature.data, COLDEST, WARMEST)[
            ...
        ]  # in place of the old number: no gradient is masked
        return share

    def itc(
        self,
        tokens: Any,
        hidden: Any,
        twin_tokens: Any,
        ids: np.ndarray,
        is_real: np.ndarray,
        alpha: float,
        image_ids: np.ndarray | None,
        split: Split,
    ) -> tuple[Tensor, tuple[Any, Any]]:
        """Image-text contrast: return the loss and the batch's own scaled similarities, picture → text and text → picture (B, B); fill the queue.

        The queue takes the batch in *after* the loss: before, each pair would stand among its own wrong answers.
        """
        I, T = self.towers.project_image(tokens), self.towers.project_text(hidden)  # (B, E), (B, E)
        queue = self.queue
        if queue is None or self.twin is None:
            similarities = np.dot(I, T.T) / self.temperature  # (B, B)
            return itc_loss(similarities, image_ids), (similarities, similarities.T)
        with no_grad():
            twin = self.twin.copy
            I_m = twin.project_image(twin_tokens).data  # (B, E)
            T_m = twin.project_text(split(twin.read)(ids, is_real)).data  # (B, E)
        columns = None if image_ids is None else np.concatenate([image_ids, queue.picture_ids])
        found = itc_with_queue(I, T, I_m, T_m, queue.images.data, queue.texts.data, self.temperature, alpha, image_ids, columns)
        queue.push(I_m, T_m, image_ids)
        return found

    def image_tokens(self, images: Any) -> Any:
        """Return all tokens of the pictures as plain numbers: (B, h, w, c) -> (B, P+1, M)."""
        with no_grad():
            return self.towers.look(images).data

    def twin_look(self, images: Any, split: Split) -> Any:
        """Return the twin's tokens of the pictures as plain numbers (B, P+1, M), or None where there is no twin."""
        if self.twin is None:
            return None
        with no_grad():
            return split(self.twin.copy.look)(images).data

    def draw_negatives(
        self, similarities: tuple[Any, Any], image_ids: np.ndarray | None, rng: np.random.Generator | None
    ) -> tuple[Any, Any]:
        """Draw a hard picture for each text and a hard text for each picture, by contrast's own similarities: two (B,); UsageError without `rng`."""
        check_draws(rng, None, "ITM draws hard negatives", "negatives")
        image_to_text, text_to_image = (some.data for some in similarities)
        own = np.arange(len(image_to_text)) if image_ids is None else image_ids
        return hard_negatives(image_to_text, own, rng, text_to_image)  # type: ignore[arg-type]

    # ------------------------------------------------------------------ use
    def encode_image(self, images: Any) -> Tensor:
        """Return each picture's unit vector in the joint space: (B, h, w, c) -> (B, E)."""
        return self.towers.project_image(self.towers.look(images))

    def encode_text(self, ids: np.ndarray, is_real: np.ndarray | None = None) -> Tensor:
        """Return each text's unit vector in the joint space: (B, T) -> (B, E)."""
        return self.towers.project_text(self.towers.read(ids, real(ids, is_real)))

    def forward(self, images: Any, ids: np.ndarray, is_real: np.ndarray | None = None) -> Tensor:
        """Return the cosine of each picture with each text, without the temperature: (B, h, w, c), (C, T) -> (B, C)."""
        return np.dot(self.encode_image(images), self.encode_text(ids, is_real).T)  # type: ignore[return-value]

    def match(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the logits of "does not match" and "matches" of aligned pictures' tokens (B, P+1, M) and texts (B, T): (B, 2)."""
        raise TypeError(f"{type(self).__name__} has no match of its own; define one")

    def itm_probability(self, images: Any, ids: np.ndarray, is_real: np.ndarray | None = None) -> np.ndarray:
        """Return how likely each text (B, T) is to belong to its picture (B, h, w, c): (B,)."""
        with no_grad():
            logits = to_host(self.match(self.towers.look(images), ids, real(ids, is_real)).data)
        return 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))


def check_pairs(images: Any, ids: np.ndarray) -> None:
    """Raise UsageError unless each picture (B, h, w, c) has its text, ids (B, T)."""
    if len(images) != len(ids):
        raise UsageError(f"pictures and texts come in pairs, and {len(images)} pictures with {len(ids)} texts came; align the batch")


def check_image_ids(image_ids: np.ndarray | None, pairs: int, draws: bool) -> None:
    """Raise ShapeError unless each pair has its picture's id (B,), and DataError where a wrong picture is to be drawn and all are the same."""
    if image_ids is None:
        return
    if np.shape(image_ids) != (pairs,):
        raise ShapeError(f"image_ids (B,) say which picture each of {pairs} pairs shows, and {np.shape(image_ids)} came; give one id to each pair")
    if draws:
        wrong_pairs(image_ids)


def check_draws(rng: Any, instead: Any, draws: str, name: str) -> None:
    """Raise UsageError where something is to be drawn without a generator, and nothing came instead."""
    if rng is None and instead is None:
        raise UsageError(f"{draws}, and neither rng nor {name} came; pass rng=np.random.default_rng(seed)")


def check_objectives(objectives: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raise UsageError for the name of a loss that the model does not have."""
    if not objectives or set(objectives) - set(known):
        raise UsageError(f"the objectives are some of {', '.join(known)}, and {', '.join(objectives) or 'none'} came; correct the names")


def check_habits(alpha: Any, ramp: Any, vocabulary: int, **ids: Any) -> None:
    """Raise UsageError unless alpha is a share, ramp a count of pairs, and each of the special tokens' ids one of the vocabulary."""
    if not isinstance(alpha, _NUMBERS) or not 0 <= alpha <= 1:
        raise UsageError(f"alpha is the share of the twin's opinion, in [0, 1], and {alpha!r} came; the papers have 0.4")
    if not isinstance(ramp, _WHOLE) or ramp < 0:
        raise UsageError(f"ramp counts the pairs over which alpha grows, 0 or more, and {ramp!r} came; the papers have one epoch or two")
    for name, value in ids.items():
        if not isinstance(value, _WHOLE) or not 0 <= value < vocabulary:
            raise UsageError(f"{name} is an id below the vocabulary {vocabulary}, and {value!r} came; correct it")


def check_widths(image: ViTConfig, text: BertConfig) -> None:
    """Raise ShapeError unless the text's cross-attention looks at tokens of the picture encoder's width."""
    if text.memory_width != image.width:
        raise ShapeError(
            f"the text looks at tokens of the picture encoder's width {image.width}, and a memory_width of {text.memory_width} came; make them equal"
        )
