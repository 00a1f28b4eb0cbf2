"""BLIP: one text stack used three ways, and captions that clean their own data (Li et al. 2022, arXiv:2201.12086).

The stack (MED, §3.1) reads a text alone, [CLS]; reads it with the picture, [ENC]; and writes it, [DEC]. Words, cross-attention and feed-forward are
one for all three; only the writer has a self-attention of its own, since it must not look ahead. Three losses train it (§3.2):
contrast (ITC), matching (ITM) and writing (LM). What the writer and the matching head are good for
beyond is CapFilt (§3.3, `workflows/runs/capfilt.py`).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.backend import beside, to_host
from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.autodiff import Tensor, no_grad
from tinymm.layers import Cache, LayerNorm, Linear, Module, MultiHeadAttention, causal_mask, padding_mask
from tinymm.losses import itm_loss, itm_pairs, language_loss

from .bert import Bert, BertConfig, LanguageHead, check_memory
from .decoding import generate
from .text import real
from .towers import (
    MomentumContrast,
    Split,
    Towers,
    check_draws,
    check_habits,
    check_image_ids,
    check_objectives,
    check_pairs,
    check_widths,
)
from .vit import ViTConfig


@dataclass(frozen=True)
class BLIPConfig:
    """Sizes and habits of a BLIP; every text layer looks at the picture (`crosses_from` 0), and there are no token types.

    `decode` is the id of [DEC], which stands in the first place where the model writes, `encode` that of [ENC], which stands there where it
    matches: None keeps [CLS] there, as the demo class of the released code and Hugging Face do, though the model was trained with [ENC].
    `end_of_text` is what the writer stops at, [SEP]. `alpha`, `ramp` and `momentum` are as in ALBEF; the released ramp is two epochs. UsageError for
    layers that do not look, and for a share or an id out of range; ShapeError if they look at tokens of another width than the picture encoder's.

    >>> BLIPConfig.paper().decode, BLIPConfig.paper().encode
    (30522, 30523)
    """

    image: ViTConfig
    text: BertConfig
    joint_width: int = 256
    queue: int = 57600
    momentum: float | None = 0.995
    alpha: float = 0.4
    ramp: int = 0
    smoothing: float = 0.1
    decode: int = 30522
    encode: int | None = 30523
    end_of_text: int = 102

    def __post_init__(self):
        check_widths(self.image, self.text)
        if self.text.crosses_from:
            raise UsageError(f"every layer of BLIP's text stack looks at the picture, and crosses_from {self.text.crosses_from} came; leave it 0")
        encode = {} if self.encode is None else {"encode": self.encode}
        check_habits(self.alpha, self.ramp, self.text.vocabulary, decode=self.decode, end_of_text=self.end_of_text, **encode)

    @classmethod
    def tiny(cls, **changes: Any) -> "BLIPConfig":
        """Return a config for tests and first steps; its queue takes batches that divide 24."""
        image = ViTConfig.plain(resolution=16, patch=8, width=24, layers=1, heads=2)
        return replace(cls(image, BertConfig.tiny(memory_width=24), joint_width=16, queue=24, decode=48, encode=49, end_of_text=2), **changes)

    @classmethod
    def paper(cls, **changes: Any) -> "BLIPConfig":
        """Return the paper's base model (§4.1): ViT-B/16 at 224 pixels, BERT-base with two more words."""
        text = BertConfig.paper(vocabulary=30524, memory_width=768)
        return replace(cls(ViTConfig.plain(224, 16, 768, 12, 12), text), **changes)


class Writer(Module):
    """What the decoder has of its own: a self-attention with its norm for each layer of the stack, and the head that names words."""

    def __init__(self, config: BertConfig, rng: np.random.Generator):
        D, std = config.width, config.std
        self.attentions = [MultiHeadAttention(D, config.heads, rng=rng, stds=(std, std)) for _ in range(config.layers)]
        self.norms = [LayerNorm(D, config.eps) for _ in range(config.layers)]
        self.language_head = LanguageHead.of(config, rng)

    def forward(self, stack: Bert, tokens: Any, ids: np.ndarray, is_real: np.ndarray | None = None, caches: list[Cache] | None = None) -> Tensor:
        """Return the logits of each next word: a picture's tokens (B, P+1, M), ids and is_real (B, T) -> (B, T, V).

        Everything but the self-attention is the `stack`'s. `caches`, two a layer (of the words, and of the picture), remember earlier words.
        ShapeError or UsageError for tokens that do not fit.
        """
        past = caches[0].length if caches else 0
        T = ids.shape[1]
        may_attend = causal_mask(past + T)[past:]  # (T, past+T)
        if is_real is not None:
            may_attend = may_attend & padding_mask(is_real)
        x: Any = stack.norm(stack.embedding(ids, past))  # (B, T, D)
        if not (caches and caches[1].length):  # later words look at what is remembered of the picture
            check_memory(tokens, x, stack.config.memory_width)
        for i, (block, attention, norm) in enumerate(zip(stack.blocks, self.attentions, self.norms, strict=True)):
            words, picture = (caches[2 * i], caches[2 * i + 1]) if caches else (None, None)
            x = block.look_and_think(norm(x + attention(x, may_attend, words)), tokens, picture)  # (B, T, D)
        return self.language_head(x, stack.embedding.words)


class BLIP(MomentumContrast):
    """One stack that reads, compares and writes: pictures (B, h, w, c) with texts ids and is_real (B, T), [CLS] … [SEP].

    >>> model = BLIP(BLIPConfig.tiny(), np.random.default_rng(0))
    >>> model(np.zeros((2, 16, 16, 3), np.float32), np.array([[1, 5, 2]]), np.array([[True, True, True]])).shape
    (2, 1)
    """

    def __init__(self, config: BLIPConfig, rng: np.random.Generator):
        self.config = config
        towers = Towers(config.image, config.text, config.joint_width, config.text.layers, names_words=False, rng=rng)
        super().__init__(towers, config.joint_width, config.queue, config.momentum, rng=rng)
        self.itm_head = Linear(config.text.width, 2, rng=rng)
        self.writer = Writer(config.text, rng)

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
        split: Split | None = None,
        objectives: tuple[str, ...] = ("itc", "itm", "lm"),
    ) -> dict[str, Tensor]:
        """Return {"itc", "itm", "lm"} of B ≥ 2 pairs, to be added 1 : 1 : 1, and take the twin and the queue one step on.

        Arguments as of `ALBEF.losses`; nothing is masked, and `objectives` ("lm",) takes no step of the twin. UsageError for a batch of one
        and for draws without `rng`; ShapeError for ids of other numbers.
        """
        check_pairs(images, ids)
        check_objectives(objectives, ("itc", "itm", "lm"))
        if "itm" in objectives:  # what would be refused later is refused before the twin and the queue have gone on
            check_draws(rng, negatives, "ITM draws hard negatives", "negatives")
        check_image_ids(image_ids, len(ids), draws="itm" in objectives and negatives is None)
        split, is_real = split or (lambda function: function), real(ids, is_real)
        tokens = split(self.towers.look)(images)  # (B, P+1, M)
        if objectives == ("lm",):  # writing alone asks neither the twin nor the queue, which then stay as they are
            return {"lm": self.lm(tokens, ids, is_real, split)}
        hidden = split(self.towers.read)(ids, is_real)  # (B, T, D)
        alpha = self.begin_step(len(ids), self.config.alpha, self.config.ramp)  # behind the encoders, which refuse what they cannot read
        twin_tokens = self.twin_look(images, split)  # (B, P+1, M)
        found = {}
        found["itc"], similarities = self.itc(tokens, hidden, twin_tokens, ids, is_real, alpha, image_ids, split)
        if "itm" in objectives:
            found["itm"] = self.itm(tokens, ids, is_real, negatives or self.draw_negatives(similarities, image_ids, rng), split)
        if "lm" in objectives:
            found["lm"] = self.lm(tokens, ids, is_real, split)
        return {name: found[name] for name in found if name in objectives}

    def itm(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray, negatives: tuple[Any, Any], split: Split) -> Tensor:
        """Image-text matching: return the loss over the true pairs, each text with a hard picture, and each picture with a hard text."""
        images, texts, labels = itm_pairs(*negatives)
        ids, is_real = beside(ids, texts), beside(is_real, texts)  # where the texts were drawn, nobody needs to ask which ones they are
        return itm_loss(split(self.match)(tokens[images], ids[texts], is_real[texts]), labels)

    def lm(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray, split: Split) -> Tensor:
        """Language modeling: return how surprising each next word is, given the picture and the words before."""
        return language_loss(split(self.words)(tokens, ids, is_real), ids, is_real, self.config.smoothing)

    def match(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the logits of "does not match" and "matches": the stack reads ids (B, T), [ENC] first, and looks at tokens (B, P+1, M): (B, 2)."""
        x = self.towers.text_encoder(beginning(ids, self.config.encode), is_real, memory=tokens)  # (B, T, D)
        return self.itm_head(x[:, 0])

    def words(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return the logits of each next word of ids (B, T), [DEC] first, given tokens (B, P+1, M): (B, T, V)."""
        return self.writer(self.towers.text_encoder, tokens, beginning(ids, self.config.decode), is_real)

    def caption(
        self, images: Any, ids: np.ndarray | None = None, *, max_new_tokens: int | None = None, **options: Any
    ) -> list[list[int]]:
        """Return a caption's ids for each picture (B, h, w, c), without [DEC], prompt and [SEP]; `options` are those of `decoding.generate`.

        `ids` (B, T) are a prompt behind [DEC], of one length, such as "a picture of". The picture's keys and values, and those of the words that
        are written, are computed once and remembered. ShapeError where the prompt leaves no room for an answer.
        """
        B, stack, context = len(images), self.towers.text_encoder, self.config.text.context
        ids = np.zeros((B, 0), int) if ids is None else ids
        if ids.ndim != 2 or len(ids) != B or ids.shape[1] > context - 2:
            raise ShapeError(
                f"a prompt (B, T) stands behind each of {B} pictures and leaves room for [DEC] and an answer among {context} tokens, and {ids.shape} "
                "came; give one to each picture, or shorten them"
            )
        prompt = np.concatenate([np.full((B, 1), self.config.decode), ids], axis=1)
        room = context - prompt.shape[1]
        caches = [Cache() for _ in range(2 * self.config.text.layers)]
        with no_grad():
            tokens = self.towers.look(images)

            def advance(ids: np.ndarray, caches: list[Cache]) -> np.ndarray:
                return to_host(self.writer(stack, tokens, ids, caches=caches)[:, -1].data)

            most = room if max_new_tokens is None else min(max_new_tokens, room)
            return generate(advance(prompt, caches), caches, advance, end=self.config.end_of_text, max_new_tokens=most, **options)


def beginning(ids: np.ndarray, first: int | None) -> np.ndarray:
    """Return ids (B, T) with another first token, which says what the stack is to do; unchanged for None.

    >>> beginning(np.array([[1, 5, 2]]), 49).tolist()
    [[49, 5, 2]]
    """
    if first is None:
        return ids
    ids = ids.copy()
    ids[:, 0] = first
    return ids
