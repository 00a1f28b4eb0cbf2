"""BLIP-2's stage 2: the Q-Former learns to prompt a frozen language model (Li et al. 2023, §3.3).

arXiv:2301.12597, "Bootstrap Vision-to-Language Generative Learning from a Frozen LLM".
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.autodiff import Tensor
from tinymm.data.text import DEC
from tinymm.losses import language_loss
from tinymm.models.blip2 import BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.models.opt import OPT
from tinymm.models.text import real

from .settings import Settings, changed, setting
from .spec import (
    GENERATE,
    QUERIES,
    Metric,
    ModelSpec,
    Objective,
    Requirement,
    StepResult,
    Task,
    register,
)
from .step import Sharded, Split, check_pairs, whole

#: What workers share a batch in.
SHARED = ("image_tokens", "visual_prompts", "prompted_logits")


def blip2_stage2_step(
    model: Any, images: Any, ids: np.ndarray, is_real: np.ndarray, is_target: np.ndarray
) -> dict[str, Tensor]:
    """Return {"lm"} of B pairs: §3.3 of the paper, with a decoder-based language model.

    images (B, h, w, c), texts ids and is_real (B, T); is_target (B, T) are the tokens to predict.
    """
    # "we connect Q-Former (with the frozen image encoder attached) to a frozen LLM"
    image_tokens = model.image_tokens(images)  # (B, P+1, M)
    # "we use a fully-connected (FC) layer to linearly project the output query embeddings Z into the
    # same dimension as the text embedding of the LLM"
    visual_prompts = model.visual_prompts(image_tokens)  # (B, Q, W)
    # "The projected query embeddings are then prepended to the input text embeddings. They function
    # as soft visual prompts that condition the LLM on visual representation"
    logits = model.prompted_logits(visual_prompts, ids, is_real)  # (B, 1+T, V)
    # "For decoder-based LLMs, we pre-train with the language modeling loss": the last visual prompt,
    # which has no id and is no target, predicts the first token, and each token the next one
    prompt = np.zeros_like(ids[:, :1])  # (B, 1)
    ids = np.concatenate([prompt, ids], axis=1)  # (B, 1+T)
    is_target = np.concatenate([prompt.astype(bool), is_target], axis=1)  # (B, 1+T)
    return {"lm": language_loss(logits, ids, is_target)}


def step(
    model: BLIP2Stage2,
    images: Any,
    ids: np.ndarray,
    is_real: np.ndarray | None = None,
    *,
    rng: np.random.Generator | None = None,
    image_ids: np.ndarray | None = None,
    split: Split = whole,
    is_target: np.ndarray | None = None,
) -> StepResult:
    """Return {"lm"}: images (B, h, w, c), ids and is_real (B, T); nothing is drawn.

    Every real token is a target, the begin token too, which the last visual prompt predicts;
    `is_target` (B, T) excludes those of a prefix text. UsageError unless each image has its text,
    and for padding on the left.
    """
    check_pairs(images, ids, least=1)
    is_real = real(ids, is_real)
    if not is_real[:, 0].all():
        row = int(np.argmin(is_real[:, 0]))
        raise UsageError(
            f"the last visual prompt predicts the first token, and row {row} of is_real begins with "
            "padding; pad training texts on the right"
        )
    is_target = is_real if is_target is None else is_target & is_real
    sharded = Sharded(model, SHARED, split)
    return StepResult(blip2_stage2_step(sharded, images, ids, is_real, is_target))


@dataclass(frozen=True)
class BLIP2Stage2Settings(Settings):
    """The settings of stage 2: what it goes on from, and how long.

    `init` is a run of stage 1, None the last one, or a stage 2 to fine-tune; `language` is a run or
    folder of a language model, None trains one first. `data` None means what stage 1 was trained
    on. UsageError for a tokenizer or a vocabulary, which are those of stage 1.
    """

    data: str | None = changed(  # type: ignore[assignment]  # None until stage 1 is known
        Settings,
        "data",
        None,
        "built-in data, or a path to images and captions (default: what --init was trained on)",
    )
    init: str | None = changed(
        Settings, "init", None, "run of stage 1 to go on from (default: the last one)"
    )
    language: str | None = setting(
        None,
        "run or folder of the frozen language model (default: train one first, on the training "
        "captions)",
    )
    steps: int = changed(Settings, "steps", 4000)
    batch_size: int = changed(Settings, "batch_size", 32)
    #: Stage 2 goes on from what stage 1 has learned, and a higher rate would undo it.
    learning_rate: float = changed(Settings, "learning_rate", 1e-3)
    validate_every: int = changed(Settings, "validate_every", 300)
    language_steps: int = setting(
        1000, "training steps of the language model, where it is trained first", least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        begin = self.init or "stage 1"
        if self.tokenizer is not None or self.vocabulary != "words":
            flag = f"--tokenizer {self.tokenizer}"
            if self.tokenizer is None:
                flag = f"--vocabulary {self.vocabulary}"
            raise UsageError(
                f"{begin} brings its own vocabulary, and {flag} came too; leave it out"
            )


def language_settings(settings: BLIP2Stage2Settings) -> dict[str, Any]:
    """Return the settings of a language model that is trained first, on the training captions."""
    return {
        "steps": settings.language_steps,
        "checkpoint_every": settings.language_steps,
        "validate_every": settings.language_steps,
        "data": settings.data or "shapes",
        "seed": settings.seed,
        "workers": settings.workers,
        "backend": settings.backend,
    }


def prepare(settings: BLIP2Stage2Settings, source: Any, parts: dict[str, Any]) -> BLIP2Stage2:
    """Return a stage 2 with the weights of the stage 1 `parts["init"]`, before `parts["language"]`.

    UsageError for another kind of model, and for a language model of another vocabulary, or without
    room for the visual prompts and a caption.
    """
    first, language = parts["init"], parts["language"]
    if not isinstance(first, BLIP2Stage1):
        raise UsageError(
            f"--init is a run of stage 1 of BLIP-2, and {settings.init or 'it'} holds a "
            f"{type(first).__name__}; name another"
        )
    words = source.tokenizer
    if not isinstance(language, OPT) or language.config.vocabulary != len(words):
        raise UsageError(
            f"--language is an OPT of the {len(words)} tokens of the data; leave it out to train one"
        )
    queries, context = first.config.qformer.queries, language.config.context
    if queries + words.context > context:
        raise UsageError(
            f"--language has room for {queries} visual prompts and {words.context} tokens of a "
            f"caption, and its context is {context}; leave it out to train one, or train stage 1 with "
            "fewer --queries"
        )
    return BLIP2Stage2.from_stage_1(first, language, generator(settings.seed))


def idle(settings: BLIP2Stage2Settings) -> dict[str, tuple[str, ...]]:
    """Return which fields have no effect under these settings, by what decides instead."""
    sizes = ("resolution", "patch", "width", "mlp_ratio", "layers", "heads", "embed_dim")
    given = ("init_heads", "init_activation")
    found = {
        "stage 2 goes on with what its stage 1 has": sizes,
        "a run of stage 1 tells its heads and its activation itself": given,
    }
    if settings.language:
        found[f"--language {settings.language} is trained already"] = ("language_steps",)
    return found


spec = register(
    ModelSpec(
        name="blip2-stage2",
        title="BLIP-2 (stage 2)",
        paper="Li et al. 2023, arXiv:2301.12597, §3.3",
        model=BLIP2Stage2,
        config=BLIP2Stage2Config,
        task=Task(step),
        objectives=(
            Objective(
                "lm",
                "language modeling loss",
                "What is the next token, given the visual prompts and the tokens before it?",
                lambda model, B: math.log(model.config.language.vocabulary),
                "ln V",
                mask="causal_mask",
                ability=GENERATE,
            ),
        ),
        prepare=prepare,
        settings=BLIP2Stage2Settings,
        can=frozenset({GENERATE, QUERIES}),
        best="validation_captions_exact",
        metrics=(
            Metric("captions_exact", "greedy captions that are true, word for word"),
            Metric("captions_words_right", "words of these captions in their right place"),
        ),
        # A text is [CLS] … [SEP], as in stage 1: [CLS] is the language model's begin token, and [DEC]
        # keeps the ids of both stages the same.
        frame=(DEC,),
        requires=(
            Requirement("init", "blip2-stage1", last_run=True),
            Requirement("language", "language", language_settings, same_words=True),
        ),
        idle=idle,
        group="blip2",
        stage=2,
        sentence="they learn to prompt a frozen language model",
        order=4,
        released=True,
    )
)
