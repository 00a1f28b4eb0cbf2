"""Language modeling: a decoder predicts each next token (Zhang et al. 2022, §2, arXiv:2205.01068).

What BLIP-2's stage 2 needs a language model for is trained here, on captions alone, so that it can
be frozen there.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymm.arrays.random import generator
from tinymm.autodiff import Tensor
from tinymm.data.builtin.sentences import Sentences
from tinymm.data.text import DEC
from tinymm.losses import language_loss
from tinymm.models.opt import OPT, OPTConfig
from tinymm.models.text import real

from .settings import Settings, changed
from .spec import ModelSpec, Objective, StepResult, Task, register
from .step import Split, whole


def language_model_step(model: Any, ids: np.ndarray, is_real: np.ndarray) -> dict[str, Tensor]:
    """Return {"lm"}, the mean cross-entropy of each next token: texts ids and is_real (B, T)."""
    logits = model(ids, is_real)  # (B, T, V), each from the tokens before and its own
    # a text's first token is no target (`language_loss` shifts by one), nor is the first real one
    # after padding on the left
    has_past = np.concatenate([is_real[:, :1], is_real[:, :-1]], axis=1)  # (B, T)
    return {"lm": language_loss(logits, ids, is_real & has_past)}


def step(
    model: OPT,
    images: Any,
    ids: np.ndarray,
    is_real: np.ndarray | None = None,
    *,
    rng: np.random.Generator | None = None,
    image_ids: np.ndarray | None = None,
    split: Split = whole,
) -> StepResult:
    """Return {"lm"} of texts ids and is_real (B, T); nothing is drawn, and images are not used."""
    return StepResult(language_model_step(split(model), ids, real(ids, is_real)))


@dataclass(frozen=True)
class LanguageSettings(Settings):
    """The settings of the small OPT that is trained on the training captions of the data."""

    width: int = changed(Settings, "width", 128, "width D of the transformer")
    mlp_ratio: int = changed(Settings, "mlp_ratio", 4)
    layers: int = changed(Settings, "layers", 2, "layers of the transformer")
    learning_rate: float = changed(Settings, "learning_rate", 2e-3)
    checkpoint_every: int = changed(Settings, "checkpoint_every", 1000)
    validate_every: int = changed(Settings, "validate_every", 1000)


def prepare(settings: LanguageSettings, source: Any, parts: dict[str, Any]) -> OPT:
    """Return a randomly initialized OPT for two captions in a row, or visual prompts and a caption.

    Where it is trained for a stage 2 of BLIP-2, `parts["init"]` is the stage 1 that this goes on
    from, whose queries must have room before a caption.
    """
    words, first = source.tokenizer, parts.get("init")
    queries = first.config.qformer.queries if first is not None else 0
    config = OPTConfig(
        len(words),
        max(queries, words.context) + words.context + 1,
        settings.width,
        settings.layers,
        settings.heads,
        settings.mlp_ratio * settings.width,
        begin=words.begin,
        end=words.end_of_text,
    )
    return OPT(config, generator(settings.seed, 5))


def captions_alone(source: Any) -> Sentences:
    """Return the source of texts that the model is trained on: the captions, two of an image in a row."""
    return Sentences(source.captions(), source.tokenizer)


def idle(settings: LanguageSettings) -> dict[str, tuple[str, ...]]:
    """Return which fields have no effect: those of images, and of a shared space."""
    return {"a language model sees no images": ("resolution", "patch", "embed_dim")}


spec = register(
    ModelSpec(
        name="language",
        title="language model (OPT)",
        paper="Zhang et al. 2022, arXiv:2205.01068",
        model=OPT,
        config=OPTConfig,
        task=Task(step),
        objectives=(
            Objective(
                "lm",
                "language modeling loss",
                "What is the next token, given the tokens before it?",
                lambda model, B: math.log(model.config.vocabulary),
                "ln V",
                mask="causal_mask",
            ),
        ),
        prepare=prepare,
        settings=LanguageSettings,
        can=frozenset(),
        # There is no validation on captions alone: the last step's weights are kept.
        best="",
        # A text is [CLS] … [SEP], which are its begin and end token; [DEC] is there so that ids are
        # those of BLIP-2's two stages.
        frame=(DEC,),
        idle=idle,
        adapted=captions_alone,
        released=True,
    )
)
