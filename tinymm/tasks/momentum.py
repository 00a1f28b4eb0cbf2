"""What the steps of ALBEF and BLIP share: the state that moves between two steps, and its settings."""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from tinymm.arrays.random import generator
from tinymm.layers import MissingParameter
from tinymm.layers.init import normal
from tinymm.losses import ITM_PRIOR
from tinymm.losses.contrastive import NO_ID
from tinymm.models.bert import BertConfig
from tinymm.models.dual_encoder import DualEncoderModel
from tinymm.models.momentum import warmed_up_alpha
from tinymm.models.vit import ViTConfig

from .settings import Settings, setting
from .spec import CONTRAST, GROUND, MATCH, QUEUE, Objective
from .step import Sharded, Split

#: The learned temperature stays in this range (the released code).
TEMPERATURES = (0.001, 0.5)
#: Standard deviations of the initial embeddings of words and of image positions: inputs that are to
#: be told apart should begin apart (docs/blip2.md).
EMBEDDING_STD, POSITION_STD = 0.2, 0.5

#: How the names of the weights begin that each ability needs; some released files lack them.
TEXT = ("encoders.text_encoder.",)
CONTRAST_PARTS = {
    CONTRAST: (*TEXT, "encoders.image_projection.", "encoders.text_projection."),
    QUEUE: ("momentum_encoder.", "queue."),
}
MATCH_PARTS = {MATCH: (*TEXT, "itm_head."), GROUND: (*TEXT, "itm_head.")}


class Momentum(NamedTuple):
    """What contrast reads of the momentum encoder and its queue (ALBEF §3.2 and §3.3)."""

    encoder: Any  #: the EMA of the encoders; workers share its batch
    image_queue: Any  #: momentum features of earlier images (K, E)
    text_queue: Any  #: momentum features of earlier texts (K, E)
    column_ids: np.ndarray | None  #: which image each column of batch and queue is of, (B+K,)
    alpha: float  #: the weight of the pseudo-targets in this step


class Features(NamedTuple):
    """What `after_step` pushes into the queue: the batch's momentum features (B, E)."""

    images: Any
    texts: Any
    image_ids: np.ndarray | None


def momentum_of(
    model: DualEncoderModel, image_ids: np.ndarray | None, B: int, split: Split
) -> Momentum | None:
    """Return the model's momentum encoder and queue as a step reads them, or None if it has none.

    UsageError for a batch that the queue does not take.
    """
    if model.momentum_encoder is None or model.queue is None:
        return None
    queue, config = model.queue, model.config
    queue.check_batch(B)
    return Momentum(
        Sharded(model.momentum_encoder.model, ("image_tokens", "text_tokens", "mlm_logits"), split),
        queue.images.data,
        queue.texts.data,
        None if image_ids is None else np.concatenate([image_ids, queue.image_ids]),
        warmed_up_alpha(config.alpha, int(queue.pushed.data), config.alpha_warmup),
    )


def after_step(model: DualEncoderModel, memory: Features | None) -> None:
    """Clamp the temperature, update the momentum encoder, and enqueue the momentum features.

    The update is θ_m ← m θ_m + (1 - m) θ, with the new weights θ (`models.momentum`), and the queue
    is a ring: the newest features overwrite the oldest. The queue takes the batch in *after* its loss: before, each pair would be among its own
    negatives. Without a memory, of a step without contrast or momentum, EMA and queue stay.
    """
    if not isinstance(model.temperature, MissingParameter):
        clamped = np.clip(model.temperature.data, *TEMPERATURES)
        model.temperature.data = clamped[...]  # an array without axes; no gradient is masked
    if memory is not None and model.momentum_encoder is not None and model.queue is not None:
        model.momentum_encoder.update(model.encoders)
        model.queue.push(*memory)


def notes(model: DualEncoderModel) -> dict[str, Any]:
    """Return the temperature: before `after_step`, the one that the step has used."""
    if isinstance(model.temperature, MissingParameter):  # of a file for captioning
        return {}
    return {"temperature": model.temperature.data}


# ---------------------------------------------------------------------- what a uniform guess costs
def itc_chance(model: DualEncoderModel, B: int) -> float:
    """Return the contrastive loss of equal similarities, over the columns of batch and queue."""
    return math.log(B + (0 if model.queue is None else model.queue.size))


def itm_chance(model: DualEncoderModel, B: int) -> float:
    """Return the matching loss of the prior: one pair in three is true."""
    return ITM_PRIOR


def word_chance(model: DualEncoderModel, B: int) -> float:
    """Return the loss of a uniform guess at a token of the vocabulary."""
    return math.log(model.config.text.vocabulary)


#: The two losses that both papers have.
ITC = Objective(
    "itc",
    "image-text contrastive loss",
    "Which text of batch and queue is this image's, and which image is this text's?",
    itc_chance,
    "ln(B + K)",
    ability=CONTRAST,
)
ITM = Objective(
    "itm",
    "image-text matching loss",
    "Does this text belong to this image, or is it a hard negative?",
    itm_chance,
    "ln 3 - ⅔ ln 2",
    ability=MATCH,
)


# ---------------------------------------------------------------------- settings
@dataclass(frozen=True)
class MomentumSettings(Settings):
    """The settings that `train albef` and `train blip` share beyond the common ones.

    `queue` is in batches, `alpha_warmup` in steps. `momentum` None trains without momentum encoder
    and queue.
    """

    text_layers: int = setting(2, "layers of the text encoder", least=1, size=True)
    queue: int = setting(8, "length of the feature queue in batches", least=1, size=True)
    momentum: float | None = setting(
        0.9, "momentum of the EMA: the weight of the old in each update", least=0, most=1, size=True
    )
    alpha: float = setting(0.4, "weight of the pseudo-targets", least=0, most=1, size=True)
    alpha_warmup: int = setting(
        200, "steps over which that weight rises from 0", least=0, size=True
    )


def encoder_configs(
    settings: MomentumSettings, source: Any, **text: Any
) -> tuple[ViTConfig, BertConfig]:
    """Return the configs of the image encoder and of the text transformer for this data.

    `text` are fields of BertConfig that differ between ALBEF and BLIP, `layers` among them.
    """
    width, hidden = settings.width, settings.mlp_ratio * settings.width
    image = ViTConfig.plain(
        source.preprocess.resolution,
        settings.patch,
        width,
        settings.layers,
        settings.heads,
        channels=source.preprocess.channels,
        feed_forward=hidden,
    )
    sizes = {
        "vocabulary": len(source.tokenizer),
        "context": source.tokenizer.context,
        "width": width,
        "heads": settings.heads,
        "feed_forward": hidden,
        "encoder_width": width,
        "std": (2 / width) ** 0.5,
        "embedding_std": EMBEDDING_STD,
    }
    return image, BertConfig(**sizes, **text)


def contrast_config(settings: MomentumSettings, source: Any) -> dict[str, Any]:
    """Return the fields of a config that are about contrast; batches divide the queue."""
    settings = fitting(settings, source)
    return {
        "embed_dim": settings.embed_dim,
        "queue": settings.queue * settings.batch_size,
        "momentum": settings.momentum,
        "alpha": settings.alpha,
        "alpha_warmup": settings.alpha_warmup * settings.batch_size,
    }


def fitting(settings: MomentumSettings, source: Any) -> MomentumSettings:
    """Return the settings with a batch that this data can fill, in which no image is twice."""
    pairs = min(len(source), settings.overfit or len(source))
    return replace(settings, batch_size=min(settings.batch_size, pairs))


def fine_tune(settings: MomentumSettings, model: DualEncoderModel) -> DualEncoderModel:
    """Return the model, whose queue forgets which images its rows show.

    Their ids are those of other data: there they would be right answers for images that they do
    not show. As negatives they serve until the queue has taken in the new ones.
    """
    if model.queue is not None and not isinstance(model.queue.ids, MissingParameter):
        model.queue.ids.data = np.full(model.queue.size, NO_ID, np.int64)
    return model


def with_distinct_positions(model: Any, seed: int) -> Any:
    """Return the model with initial image positions that are far apart, its EMA beside it."""
    positions = model.image_encoder.positions
    positions.data = normal(generator(seed, 4), positions.shape, POSITION_STD)
    if model.momentum_encoder is not None:
        # As the released code, which averages before its first step: the EMA learns of the new
        # positions, and one step here computes what one step there does, to the last bit.
        model.momentum_encoder.update(model.encoders)
    return model
