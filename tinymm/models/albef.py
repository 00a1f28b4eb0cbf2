"""ALBEF: align before fuse (Li et al. 2021, arXiv:2107.07651). CLIP's two towers, and on top of them a third that lets text look at the picture.

One BERT is cut in two. Its lower half reads the text alone and is aligned with the picture by contrast (ITC, §3.2); its upper half looks at the
picture, tells true pairs from hard ones (ITM) and fills in hidden words (MLM). A slow twin keeps many wrong answers in queues and softens
the right ones (§3.3): web captions are noisy.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.backend import beside
from tinymm.arrays.errors import UsageError
from tinymm.autodiff import Tensor, no_grad
from tinymm.layers import Linear, padding_mask
from tinymm.losses import itm_loss, itm_pairs, mask_words, masked_language_loss

from .bert import BertConfig
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
class ALBEFConfig:
    """Sizes and habits of an ALBEF; the text's `crosses_from` is the layer at which fusion begins.

    `mask` is the id of [MASK], None meaning the vocabulary's last; `hidden_share` that of the words which it hides, of whatever stands first none.
    `alpha` is the twin's share in the targets after `ramp` pairs (one epoch in the released code); `momentum` None leaves the twin out. UsageError
    for a fusion that begins outside of the text's layers, and for a share or an id out of range; ShapeError if the text
    looks at tokens of another width than the picture encoder's.

    >>> ALBEFConfig.paper().text.crosses_from
    6
    """

    image: ViTConfig
    text: BertConfig
    joint_width: int = 256
    queue: int = 65536
    momentum: float | None = 0.995
    alpha: float = 0.4
    ramp: int = 0
    hidden_share: float = 0.15
    mask: int | None = None

    def __post_init__(self):
        check_widths(self.image, self.text)
        if not 0 < self.text.crosses_from < self.text.layers:
            raise UsageError(
                f"fusion begins inside of the text's {self.text.layers} layers, so that one half reads and one half looks, and crosses_from "
                f"{self.text.crosses_from} came; the paper has 6 of 12"
            )
        if self.mask is None:
            object.__setattr__(self, "mask", self.text.vocabulary - 1)
        check_habits(self.alpha, self.ramp, self.text.vocabulary, mask=self.mask)
        if not isinstance(self.hidden_share, (int, float)) or not 0 < self.hidden_share <= 1:
            raise UsageError(f"hidden_share of the words are hidden for MLM, in (0, 1], and {self.hidden_share!r} came; the paper has 0.15")

    @classmethod
    def tiny(cls, **changes: Any) -> "ALBEFConfig":
        """Return a config for tests and first steps; its queue takes batches that divide 24."""
        image = ViTConfig.plain(resolution=16, patch=8, width=24, layers=1, heads=2)
        text = BertConfig.tiny(memory_width=24, crosses_from=1, token_types=2)
        return replace(cls(image, text, joint_width=16, queue=24, hidden_share=0.4), **changes)

    @classmethod
    def paper(cls, **changes: Any) -> "ALBEFConfig":
        """Return the paper's (§3.1 and §3.5): ViT-B/16 at 256 pixels, BERT-base, a queue of 65,536."""
        text = BertConfig.paper(memory_width=768, crosses_from=6, token_types=2)
        return replace(cls(ViTConfig.plain(256, 16, 768, 12, 12), text, mask=103), **changes)


class ALBEF(MomentumContrast):
    """Two encoders that agree and a third that compares: pictures (B, h, w, c) with texts ids and is_real (B, T), [CLS] … [SEP].

    >>> model = ALBEF(ALBEFConfig.tiny(), np.random.default_rng(0))
    >>> model(np.zeros((2, 16, 16, 3), np.float32), np.array([[1, 5, 2]]), np.array([[True, True, True]])).shape
    (2, 1)
    """

    def __init__(self, config: ALBEFConfig, rng: np.random.Generator):
        self.config = config
        towers = Towers(config.image, config.text, config.joint_width, config.text.crosses_from, names_words=True, rng=rng)
        super().__init__(towers, config.joint_width, config.queue, config.momentum, rng=rng)
        self.itm_head = Linear(config.text.width, 2, rng=rng)

    def losses(
        self,
        images: Any,
        ids: np.ndarray,
        is_real: np.ndarray | None = None,
        *,
        rng: np.random.Generator | None = None,
        image_ids: np.ndarray | None = None,
        negatives: tuple[np.ndarray, np.ndarray] | None = None,
        masked: tuple[np.ndarray, np.ndarray] | None = None,
        split: Split | None = None,
        objectives: tuple[str, ...] = ("itc", "itm", "mlm"),
    ) -> dict[str, Tensor]:
        """Return {"itc", "itm", "mlm"} of B ≥ 2 pairs, to be added 1 : 1 : 1, and take the twin and the queue one step on.

        images (B, h, w, c), ids and is_real (B, T). Pairs of equal `image_ids` (B,) show one picture: they, and their like in the queue, are right
        answers, and never hard negatives. `negatives` (image_for_text (B,), text_for_image (B,)) and `masked` (ids (B, T), labels (B, T)) replace
        the draws from `rng`; `objectives` leaves losses out. The order is the released code's: temperature, twin, ITC, queue, ITM, MLM. UsageError
        for a batch of one and for draws without `rng`; ShapeError for ids of other numbers.
        """
        check_pairs(images, ids)
        check_objectives(objectives, ("itc", "itm", "mlm"))
        if "itm" in objectives:  # what would be refused later is refused before the twin and the queue have gone on
            check_draws(rng, negatives, "ITM draws hard negatives", "negatives")
        if "mlm" in objectives:
            check_draws(rng, masked, "MLM draws the words that it hides", "masked")
        check_image_ids(image_ids, len(ids), draws="itm" in objectives and negatives is None)
        split, is_real = split or (lambda function: function), real(ids, is_real)
        tokens, hidden = split(self.towers.look)(images), split(self.towers.read)(ids, is_real)  # (B, P+1, M), (B, T, D)
        alpha = self.begin_step(len(ids), self.config.alpha, self.config.ramp)  # behind the encoders, which refuse what they cannot read
        twin_tokens = self.twin_look(images, split)  # (B, P+1, M)
        found = {}
        found["itc"], similarities = self.itc(tokens, hidden, twin_tokens, ids, is_real, alpha, image_ids, split)
        if "itm" in objectives:
            found["itm"] = self.itm(tokens, hidden, is_real, negatives or self.draw_negatives(similarities, image_ids, rng), split)
        if "mlm" in objectives:
            found["mlm"] = self.mlm(tokens, twin_tokens, *(masked or self.hide(ids, is_real, rng)), is_real, alpha, split)
        return {name: found[name] for name in found if name in objectives}

    def itm(self, tokens: Any, hidden: Any, is_real: np.ndarray, negatives: tuple[Any, Any], split: Split) -> Tensor:
        """Image-text matching: return the loss over the true pairs, each text with a hard picture, and each picture with a hard text."""
        images, texts, labels = itm_pairs(*negatives)
        return itm_loss(split(self.compare)(tokens[images], hidden[texts], beside(is_real, texts)[texts]), labels)

    def mlm(self, tokens: Any, twin_tokens: Any, ids: np.ndarray, labels: np.ndarray, is_real: np.ndarray, alpha: float, split: Split) -> Tensor:
        """Masked language modeling: return the surprise at the hidden words; a share of each answer is the twin's guess at the same gap."""
        logits, soft = split(self.towers.words)(tokens, ids, is_real), None
        if self.twin is not None and alpha:
            with no_grad():
                soft = split(self.twin.copy.words)(twin_tokens, ids, is_real).data  # (B, T, V)
        return masked_language_loss(logits, labels, soft, alpha)

    def hide(self, ids: np.ndarray, is_real: np.ndarray, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids, labels) with some words hidden, at least one; never padding or the first token, while the last, [SEP], may be.

        UsageError for texts without words.
        """
        check_draws(rng, None, "MLM draws the words that it hides", "masked")
        special = ~is_real
        special[:, 0] = True
        if special.all():
            raise UsageError(f"MLM hides words, and the {ids.size} tokens of this batch are padding or first ones; give texts with words in them")
        inputs, labels = mask_words(ids, special, self.config.text.vocabulary, self.config.mask, self.config.hidden_share, rng)  # type: ignore[arg-type]
        if (labels < 0).all():  # of a small batch all words may be spared; then one is hidden, for else there is nothing to ask
            place = rng.choice(np.flatnonzero(~special))  # type: ignore[union-attr]
            inputs.flat[place], labels.flat[place] = self.config.mask, ids.flat[place]
        return inputs, labels

    def compare(self, tokens: Any, hidden: Any, is_real: np.ndarray) -> Tensor:
        """Return the logits of "does not match" and "matches": the upper half lets read texts (B, T, D) look at tokens (B, P+1, M): (B, 2)."""
        x = self.towers.text_encoder.encode(hidden, padding_mask(is_real), tokens, first=self.towers.reads)  # (B, T, D)
        return self.itm_head(x[:, 0])

    def match(self, tokens: Any, ids: np.ndarray, is_real: np.ndarray) -> Tensor:
        """Return what `compare` does for texts that are not read yet: ids and is_real (B, T) -> (B, 2)."""
        return self.compare(tokens, self.towers.read(ids, is_real), is_real)
