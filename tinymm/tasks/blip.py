"""BLIP's training step: one text transformer used three ways (Li et al. 2022, arXiv:2201.12086).

`blip_step` is §3.2, the three objectives of the multimodal mixture of encoder-decoder (§3.1);
training calls it. Encoder and decoder share all weights but those of self-attention, whose mask is
bi-directional in the encoders and causal in the decoder. What moves between two steps, the momentum
encoder and its queue, is in `momentum.after_step`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymm.arrays.random import generator
from tinymm.autodiff import Tensor, no_grad
from tinymm.data.text import DEC, ENC
from tinymm.losses import (
    hard_negatives,
    itc_loss,
    itc_with_queue,
    itm_loss,
    itm_pairs,
    language_loss,
)
from tinymm.models.blip import BLIP, BLIPConfig
from tinymm.models.text import real

from .momentum import (
    CONTRAST_PARTS,
    ITC,
    ITM,
    MATCH_PARTS,
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
from .settings import Settings, changed, setting
from .spec import (
    CONTRAST,
    GENERATE,
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

OBJECTIVES = ("itc", "itm", "lm")


def blip_step(
    model: Any,
    momentum: Momentum | None,
    images: Any,
    ids: np.ndarray,
    is_real: np.ndarray,
    *,
    image_ids: np.ndarray | None = None,
    negatives: tuple[Any, Any] | None = None,
    rng: Any = None,
    objectives: tuple[str, ...] = OBJECTIVES,
) -> tuple[dict[str, Tensor], Features | None]:
    """Return BLIP's losses, to be added 1 : 1 : 1, and the features that the queue takes in.

    images (B, h, w, c), ids and is_real (B, T). The comments are the paper's sections.
    """
    losses, memory = {}, None
    # §3.2 one forward pass of the image encoder serves all three objectives
    v = model.image_tokens(images)  # (B, P+1, M)

    # §3.2 ITC activates the unimodal encoder: [CLS] text [SEP], bi-directional self-attention
    if "itc" in objectives or "itm" in objectives:  # ITM draws its negatives by ITC's similarity
        w = model.text_tokens(ids, is_real)  # (B, T, D)
        I, T = model.project_image(v), model.project_text(w)  # (B, E), (B, E)
        if momentum is None:  # in the batch alone
            image_to_text = np.dot(I, T.T) / model.temperature  # (B, B)
            text_to_image = image_to_text.T
            losses["itc"] = itc_loss(image_to_text, image_ids)
        else:  # as ALBEF: features and soft labels of a momentum encoder, and a queue
            with no_grad():
                v_m = momentum.encoder.image_tokens(images)  # (B, P+1, M)
                w_m = momentum.encoder.text_tokens(ids, is_real)  # (B, T, D)
                I_m = momentum.encoder.project_image(v_m).data  # (B, E)
                T_m = momentum.encoder.project_text(w_m).data  # (B, E)
            losses["itc"], (image_to_text, text_to_image) = itc_with_queue(  # own, (B, B)
                I, T, I_m, T_m, momentum.image_queue, momentum.text_queue,
                model.temperature, momentum.alpha, image_ids, momentum.column_ids,
            )  # fmt: skip
            memory = Features(I_m, T_m, image_ids)

    # §3.2 ITM activates the image-grounded text encoder: [ENC] text [SEP], bi-directional
    if "itm" in objectives:
        own = np.arange(len(ids)) if image_ids is None else image_ids
        negatives = negatives or hard_negatives(image_to_text.data, own, rng, text_to_image.data)
        i, t, labels = itm_pairs(*negatives)  # each (3*B,)
        logits = model.itm_logits(v[i], rows(ids, t), rows(is_real, t))  # (3*B, 2)
        losses["itm"] = itm_loss(logits, labels)

    # §3.2 LM activates the image-grounded text decoder: [DEC] text [SEP], causal self-attention,
    # label smoothing
    if "lm" in objectives:
        logits = model.lm_logits(v, ids, is_real)  # (B, T, V)
        losses["lm"] = language_loss(logits, ids, is_real, model.config.smoothing)
    return losses, memory


def step(
    model: BLIP,
    images: Any,
    ids: np.ndarray,
    is_real: np.ndarray | None = None,
    *,
    rng: np.random.Generator | None = None,
    image_ids: np.ndarray | None = None,
    negatives: tuple[np.ndarray, np.ndarray] | None = None,
    split: Split = whole,
    objectives: Iterable[str] = OBJECTIVES,
) -> StepResult:
    """Return {"itc", "itm", "lm"} of B ≥ 2 pairs; nothing is changed.

    Arguments as of ALBEF's step; nothing is masked. The objective "lm" alone reads neither
    momentum encoder nor queue, and one pair suffices. UsageError for a batch of one and for draws
    without `rng`; ShapeError for ids of other numbers.
    """
    objectives = check_objectives(objectives, OBJECTIVES)
    contrasts = objectives != ("lm",)
    check_pairs(images, ids, least=2 if contrasts else 1)
    if "itm" in objectives:
        check_draws(rng, negatives, "ITM draws hard negatives", "negatives")
    check_image_ids(image_ids, len(ids), draws="itm" in objectives and negatives is None)
    losses, memory = blip_step(
        Sharded(model, ("image_tokens", "text_tokens", "itm_logits", "lm_logits"), split),
        momentum_of(model, image_ids, len(ids), split) if contrasts else None,
        images,
        ids,
        real(ids, is_real),
        image_ids=image_ids,
        negatives=negatives,
        rng=rng,
        objectives=objectives,
    )
    return StepResult({name: losses[name] for name in objectives}, memory)


@dataclass(frozen=True)
class BLIPSettings(MomentumSettings):
    """The settings of `train blip`.

    `capfilt` trains a first BLIP, cleans the captions with it, tuned for `tuning_steps`, and trains
    on those.
    """

    text_layers: int = setting(
        3, "layers of the text transformer, each for all three uses", least=1, size=True
    )
    steps: int = changed(Settings, "steps", 1050)
    capfilt: bool = setting(
        False, "clean noisy captions with a first model, and train on what is left"
    )
    tuning_steps: int = setting(300, "steps by which CapFilt tunes captioner and filter", least=1)


def prepare(settings: BLIPSettings, source: Any, parts: dict[str, Any]) -> BLIP:
    """Return a randomly initialized BLIP for this data, whose queue takes its batches."""
    image, text = encoder_configs(settings, source, layers=settings.text_layers)
    words = source.tokenizer
    config = BLIPConfig(
        image,
        text,
        **contrast_config(settings, source),
        decode=words.decode_token,
        encode=words.encode_token,
        end_of_text=words.end_of_text,
    )
    return with_distinct_positions(BLIP(config, generator(settings.seed)), settings.seed)


def idle(settings: BLIPSettings) -> dict[str, tuple[str, ...]]:
    """Return which fields have no effect under these settings, by what decides instead."""
    return {} if settings.capfilt else {"nothing is tuned without --capfilt": ("tuning_steps",)}


spec = register(
    ModelSpec(
        name="blip",
        title="BLIP",
        paper="Li et al. 2022, arXiv:2201.12086",
        model=BLIP,
        config=BLIPConfig,
        task=Task(step, after_step, notes),
        objectives=(
            ITC,
            ITM,
            Objective(
                "lm",
                "language modeling loss",
                "Which token comes next, given the image and the text before it?",
                word_chance,
                "ln V",
                ability=GENERATE,
            ),
        ),
        prepare=prepare,
        settings=BLIPSettings,
        fine_tune=fine_tune,
        can=frozenset({CONTRAST, MATCH, GENERATE, GROUND, QUEUE}),
        best="validation_itm_accuracy",
        noted=("temperature",),
        frame=(DEC, ENC),
        cleaning="blip",
        parts=CONTRAST_PARTS | MATCH_PARTS | {GENERATE: ("decoder.",)},
        idle=idle,
        order=3,
        released=True,
    )
)
