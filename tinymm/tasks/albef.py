"""ALBEF's training step: align before fuse (Li et al. 2021, arXiv:2107.07651).

`albef_step` is §3.2, image-text contrastive learning, image-text matching and masked language
modeling, with the momentum distillation of §3.3, in the order of the released code (the paper has
masked language modeling before matching); training calls it. What moves between two steps, the
momentum encoder and its queue, is in `momentum.after_step`. All self-attention is bi-directional:
only padding is masked.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.autodiff import Tensor, no_grad
from tinymm.data.text import MASK
from tinymm.losses import (
    hard_negatives,
    itc_loss,
    itc_with_queue,
    itm_loss,
    itm_pairs,
    mask_words,
    masked_language_loss,
)
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.text import real

from .momentum import (
    CONTRAST_PARTS,
    ITC,
    ITM,
    MATCH_PARTS,
    TEXT,
    Features,
    Momentum,
    MomentumSettings,
    after_step,
    contrast_config,
    encoder_configs,
    fine_tune,
    momentum_of,
    notes,
    with_distinct_positions,
    word_chance,
)
from .settings import setting
from .spec import (
    CONTRAST,
    FILL,
    GROUND,
    MATCH,
    QUEUE,
    ModelSpec,
    Objective,
    StepResult,
    Task,
    register,
)
from .step import (
    Sharded,
    Split,
    check_draws,
    check_image_ids,
    check_objectives,
    check_pairs,
    rows,
    whole,
)

OBJECTIVES = ("itc", "itm", "mlm")


def albef_step(
    model: Any,
    momentum: Momentum | None,
    images: Any,
    ids: np.ndarray,
    is_real: np.ndarray,
    *,
    image_ids: np.ndarray | None = None,
    negatives: tuple[Any, Any] | None = None,
    masked: tuple[np.ndarray, np.ndarray] | None = None,
    rng: Any = None,
    objectives: tuple[str, ...] = OBJECTIVES,
) -> tuple[dict[str, Tensor], Features | None]:
    """Return ALBEF's losses, to be added 1 : 1 : 1, and the features that the queue takes in.

    images (B, h, w, c), ids and is_real (B, T). The comments are the paper's sections.
    """
    losses, memory = {}, None
    # §3.1 image encoder and text encoder
    v = model.image_tokens(images)  # (B, P+1, M)
    w = model.text_tokens(ids, is_real)  # (B, T, D)

    # §3.2 image-text contrastive learning: g_v(v_cls)ᵀ g_w(w_cls)
    I, T = model.project_image(v), model.project_text(w)  # (B, E), (B, E)
    if momentum is None:  # among the texts and images of the batch alone
        image_to_text = np.dot(I, T.T) / model.temperature  # (B, B)
        text_to_image = image_to_text.T
        losses["itc"] = itc_loss(image_to_text, image_ids)
    else:  # against momentum features of batch and queue; §3.3 targets: (1 - α) own + α pseudo
        with no_grad():
            v_m = momentum.encoder.image_tokens(images).data  # (B, P+1, M)
            w_m = momentum.encoder.text_tokens(ids, is_real)  # (B, T, D)
            I_m = momentum.encoder.project_image(v_m).data  # (B, E)
            T_m = momentum.encoder.project_text(w_m).data  # (B, E)
        losses["itc"], (image_to_text, text_to_image) = itc_with_queue(  # the batch's own, (B, B)
            I, T, I_m, T_m, momentum.image_queue, momentum.text_queue,
            model.temperature, momentum.alpha, image_ids, momentum.column_ids,
        )  # fmt: skip
        memory = Features(I_m, T_m, image_ids)

    # §3.2 image-text matching, of the multimodal encoder's [CLS]: true pairs, and hard negatives
    # drawn by the contrastive similarity
    if "itm" in objectives:
        own = np.arange(len(ids)) if image_ids is None else image_ids
        negatives = negatives or hard_negatives(image_to_text.data, own, rng, text_to_image.data)
        i, t, labels = itm_pairs(*negatives)  # each (3*B,)
        logits = model.fused_itm_logits(v[i], w[t], rows(is_real, t))  # (3*B, 2)
        losses["itm"] = itm_loss(logits, labels)

    # §3.2 masked language modeling; §3.3 a share α of each target is the momentum encoder's
    if "mlm" in objectives:
        masked_ids, labels = masked or mask_tokens(model.config, ids, is_real, rng)  # each (B, T)
        logits = model.mlm_logits(v, masked_ids, is_real)  # (B, T, V)
        if momentum is None or not momentum.alpha:
            losses["mlm"] = masked_language_loss(logits, labels)
        else:
            with no_grad():
                pseudo = momentum.encoder.mlm_logits(v_m, masked_ids, is_real).data  # (B, T, V)
            losses["mlm"] = masked_language_loss(logits, labels, pseudo, momentum.alpha)
    return losses, memory


def mask_tokens(
    config: ALBEFConfig, ids: np.ndarray, is_real: np.ndarray, rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (ids, labels) (B, T) with some tokens masked, at least one, as BERT masks them.

    Never padding or the first token, while the last, [SEP], may be. UsageError for texts without
    words, or without `rng`.
    """
    check_draws(rng, None, "MLM draws the tokens that it masks", "masked")
    special = ~is_real
    special[:, 0] = True
    if special.all():
        raise UsageError(
            f"MLM masks tokens, and the {ids.size} tokens of this batch are padding or first ones; "
            "give texts with words in them"
        )
    vocabulary, mask = config.text.vocabulary, config.mask
    masked_ids, labels = mask_words(ids, special, vocabulary, mask, config.mlm_probability, rng)  # type: ignore[arg-type]
    if (labels < 0).all():  # a small batch may be spared as a whole; then there is nothing to ask
        place = rng.choice(np.flatnonzero(~special))  # type: ignore[union-attr]
        masked_ids.flat[place], labels.flat[place] = mask, ids.flat[place]
    return masked_ids, labels


def step(
    model: ALBEF,
    images: Any,
    ids: np.ndarray,
    is_real: np.ndarray | None = None,
    *,
    rng: np.random.Generator | None = None,
    image_ids: np.ndarray | None = None,
    negatives: tuple[np.ndarray, np.ndarray] | None = None,
    masked: tuple[np.ndarray, np.ndarray] | None = None,
    split: Split = whole,
    objectives: Iterable[str] = OBJECTIVES,
) -> StepResult:
    """Return {"itc", "itm", "mlm"} of B ≥ 2 pairs; nothing is changed.

    images (B, h, w, c), ids and is_real (B, T). Pairs of equal `image_ids` (B,) show one image:
    they, and their like in the queue, are right answers, and never hard negatives. `negatives`
    (image_for_text (B,), text_for_image (B,)) and `masked` (ids (B, T), labels (B, T)) replace the
    draws from `rng`; `objectives` leaves losses out. UsageError for a batch of one and for draws
    without `rng`; ShapeError for ids of other numbers.
    """
    check_pairs(images, ids)
    objectives = check_objectives(objectives, OBJECTIVES)
    if "itm" in objectives:
        check_draws(rng, negatives, "ITM draws hard negatives", "negatives")
    if "mlm" in objectives:
        check_draws(rng, masked, "MLM draws the tokens that it masks", "masked")
    check_image_ids(image_ids, len(ids), draws="itm" in objectives and negatives is None)
    losses, memory = albef_step(
        Sharded(model, ("image_tokens", "text_tokens", "fused_itm_logits", "mlm_logits"), split),
        momentum_of(model, image_ids, len(ids), split),
        images,
        ids,
        real(ids, is_real),
        image_ids=image_ids,
        negatives=negatives,
        masked=masked,
        rng=rng,
        objectives=objectives,
    )
    return StepResult({name: losses[name] for name in objectives}, memory)


@dataclass(frozen=True)
class ALBEFSettings(MomentumSettings):
    """The settings of `train albef`."""

    text_layers: int = setting(
        2,
        "layers of the text encoder; the multimodal encoder has as many again",
        least=1,
        size=True,
    )
    mlm_probability: float = setting(
        0.15, "probability that a token is masked for MLM", least=0, most=1, size=True
    )


def prepare(settings: ALBEFSettings, source: Any, parts: dict[str, Any]) -> ALBEF:
    """Return a randomly initialized ALBEF for this data, whose queue takes its batches."""
    layers = settings.text_layers
    image, text = encoder_configs(
        settings, source, layers=2 * layers, fusion_layer=layers, token_types=2
    )
    config = ALBEFConfig(
        image,
        text,
        **contrast_config(settings, source),
        mlm_probability=settings.mlm_probability,
        mask=source.tokenizer.mask_token,
    )
    return with_distinct_positions(ALBEF(config, generator(settings.seed)), settings.seed)


spec = register(
    ModelSpec(
        name="albef",
        title="ALBEF",
        paper="Li et al. 2021, arXiv:2107.07651",
        model=ALBEF,
        config=ALBEFConfig,
        task=Task(step, after_step, notes),
        objectives=(
            ITC,
            ITM,
            Objective(
                "mlm",
                "masked language modeling loss",
                "Which token was masked here, given the image and the text on both sides?",
                word_chance,
                "ln V",
                ability=FILL,
            ),
        ),
        prepare=prepare,
        settings=ALBEFSettings,
        fine_tune=fine_tune,
        can=frozenset({CONTRAST, MATCH, FILL, GROUND, QUEUE}),
        best="validation_itm_accuracy",
        noted=("temperature",),
        frame=(MASK,),
        cleaning="albef",
        parts=CONTRAST_PARTS | MATCH_PARTS | {FILL: (*TEXT, "encoders.language_head")},
        reranks_by_logit=True,
        order=2,
        released=True,
    )
)
