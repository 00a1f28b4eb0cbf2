"""BLIP-2's stage 1: one Q-Former, three losses, three masks (Li et al. 2023, §3.2, Figure 2).

arXiv:2301.12597. The queries learn "to extract visual representation that is most informative of
the text". The three objectives share inputs and weights, and "each objective employs a different
attention masking strategy between queries and text to control their interaction".
"""

import math
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.autodiff import Tensor
from tinymm.data.text import DEC
from tinymm.losses import (
    ITM_PRIOR,
    hard_negatives,
    itc_loss,
    itm_loss,
    itm_pairs,
    language_loss,
    max_over_queries,
)
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.qformer import QFormerConfig
from tinymm.models.text import real
from tinymm.models.vit import ViT

from .settings import Settings, changed, setting
from .spec import (
    CONTRAST,
    GENERATE,
    MATCH,
    QUERIES,
    Metric,
    ModelSpec,
    Objective,
    Requirement,
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

#: The losses, which are added 1 : 1 : 1.
OBJECTIVES = ("itc", "itm", "itg")
#: What workers share a batch in.
SHARED = ("image_tokens", "unimodal_features", "itm_logits", "lm_logits")


def blip2_stage1_step(
    model: Any,
    images: Any,
    ids: np.ndarray,
    is_real: np.ndarray,
    image_ids: np.ndarray,
    *,
    negatives: tuple[Any, Any] | None = None,
    rng: Any = None,
    objectives: tuple[str, ...] = OBJECTIVES,
) -> dict[str, Tensor]:
    """Return {"itc", "itm", "itg"} of B pairs: §3.2 of the paper, in the order of its code.

    images (B, h, w, c), texts ids and is_real (B, T); pairs of equal image_ids (B,) have one image.
    The hard `negatives` of ITM, an image for each text and a text for each image, are drawn from
    `rng` where they are None.
    """
    Q, smoothing, losses = model.config.qformer.queries, model.config.smoothing, {}
    # "we connect Q-Former to a frozen image encoder"
    image_tokens = model.image_tokens(images)  # (B, P+1, M)

    # Image-Text Contrastive Learning: "we employ a unimodal self-attention mask, where the queries
    # and text are not allowed to see each other"
    features = model.unimodal_features(image_tokens, ids, is_real)  # (B, Q+1, E)
    Z, t = features[:, :Q], features[:, Q]  # (B, Q, E), (B, E)
    # "we first compute the pairwise similarity between each query output and t, and then select the
    # highest one as the image-text similarity"
    similarity = max_over_queries(Z, t) / model.temperature  # (B, B)
    if "itc" in objectives:
        losses["itc"] = itc_loss(similarity, image_ids, smoothing)

    # Image-Text Matching: "we use a bi-directional self-attention mask where all queries and texts
    # can attend to each other", and "adopt the hard negative mining strategy" of ALBEF and BLIP
    if "itm" in objectives:
        negatives = negatives or hard_negatives(similarity.data, image_ids, rng)  # (B,), (B,)
        i, j, is_match = itm_pairs(*negatives)  # (3B,) each: true, wrong image, wrong text
        # "feed each output query embedding into a two-class linear classifier to obtain a logit, and
        # average the logits across all queries as the output matching score"
        logits = model.itm_logits(image_tokens[i], rows(ids, j), rows(is_real, j))  # (3B, 2)
        losses["itm"] = itm_loss(logits, is_match)

    # Image-grounded Text Generation: "we employ a multimodal causal self-attention mask", where
    # "the queries can attend to each other but not the text tokens. Each text token can attend to
    # all queries and its previous text tokens"; "we also replace the [CLS] token with a new [DEC]"
    if "itg" in objectives:
        logits = model.lm_logits(image_tokens, ids, is_real)  # (B, T, V)
        losses["itg"] = language_loss(logits, ids, is_real, smoothing)
    return losses


def step(
    model: BLIP2Stage1,
    images: Any,
    ids: np.ndarray,
    is_real: np.ndarray | None = None,
    *,
    rng: np.random.Generator | None = None,
    image_ids: np.ndarray | None = None,
    negatives: tuple[Any, Any] | None = None,
    split: Split = whole,
    objectives: Any = OBJECTIVES,
) -> StepResult:
    """Return {"itc", "itm", "itg"} of B ≥ 2 pairs, to be added 1 : 1 : 1: images (B, h, w, c), ids (B, T).

    Pairs of equal `image_ids` (B,) show one image: none is the other's negative. `negatives`
    (image_for_text (B,), text_for_image (B,)) replaces the draw of ITM's hard negatives from `rng`.
    `split` lets workers share the batch, `objectives` leaves losses out. UsageError for a batch of
    one pair, for images without texts, for an unknown objective, and without a generator where ITM
    draws; DataError where all pairs have one image, and ShapeError for other `image_ids`.
    """
    check_pairs(images, ids)
    objectives = check_objectives(objectives, OBJECTIVES)
    draws = "itm" in objectives and negatives is None
    if draws:
        check_draws(rng, negatives, "ITM draws hard negatives", "negatives")
    check_image_ids(image_ids, len(ids), draws=draws)
    sharded = Sharded(model, SHARED, split)
    is_real = real(ids, is_real)
    losses = blip2_stage1_step(
        sharded,
        images,
        ids,
        is_real,
        np.arange(len(ids)) if image_ids is None else image_ids,
        negatives=negatives,
        rng=rng,
        objectives=objectives,
    )
    return StepResult(losses)


def notes(model: BLIP2Stage1) -> dict[str, Any]:
    """Return the temperature that the step used.

    It is learned, and the paper's code never clamps it.
    """
    return {"temperature": model.temperature.data}


@dataclass(frozen=True)
class BLIP2Stage1Settings(Settings):
    """The settings of stage 1: a Q-Former of `layers` of `width`, behind the image encoder of a CLIP.

    `encoder` is a run of `train clip`; None trains one first. `data` None means what that encoder
    was trained on, and `shapes` where none is named. `init` is a stage 1 to fine-tune, which brings
    its image encoder. UsageError for an unknown objective, and for an encoder and a vocabulary.
    """

    data: str | None = changed(  # type: ignore[assignment]  # None until the encoder is known
        Settings,
        "data",
        None,
        "built-in data, or a path to images and captions (default: what --encoder or --init was "
        "trained on, or shapes)",
    )
    tokenizer: str | None = changed(
        Settings,
        "tokenizer",
        None,
        "that of --encoder, where it brings none, or to train the encoder on",
    )
    vocabulary: str = changed(
        Settings,
        "vocabulary",
        "words",
        "where the encoder is trained first: words, or bpe, learned from captions",
    )
    encoder: str | None = setting(
        None, "run of `train clip` whose image encoder is used, frozen (default: train one first)"
    )
    objectives: str = setting("itc,itm,itg", "which of the three losses to train on")
    queries: int = setting(8, "number of queries Q", least=1, size=True)
    width: int = changed(Settings, "width", 128, "width D of the Q-Former")
    layers: int = changed(Settings, "layers", 3, "layers of the Q-Former")
    cross_every: int = setting(
        1,
        "every how many of its layers have cross-attention to the image (the paper: 2)",
        least=1,
        size=True,
    )
    drop: int = setting(1, "last layers of the image encoder that are left out", least=0, size=True)
    batch_size: int = changed(Settings, "batch_size", 32)
    learning_rate: float = changed(Settings, "learning_rate", 2e-3)
    validate_every: int = changed(Settings, "validate_every", 300)
    encoder_steps: int = setting(
        1000, "training steps of the encoder, where it is trained first", least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_objectives([name.strip() for name in self.objectives.split(",")], OBJECTIVES)
        if self.encoder is not None and self.vocabulary != "words":
            raise UsageError(
                f"{self.encoder} brings its own vocabulary, and --vocabulary {self.vocabulary} came "
                "too; leave one of them out"
            )


#: How the encoder is trained where none is named, on the data and with the seed of the stage.
ENCODER = {
    "width": 128,
    "layers": 3,
    "text_layers": 2,
    "embed_dim": 64,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "embedding_std": 0.2,
    "validate_every": 250,
}
#: Of initial token, position and query embeddings: what is to be told apart begins apart. From
#: BERT's 0.02, relations between objects take five times as many steps.
EMBEDDING_STD = 0.2


def encoder_settings(settings: BLIP2Stage1Settings) -> dict[str, Any]:
    """Return the settings of the `train clip` that gives the image encoder, where none is named."""
    return ENCODER | {
        "steps": settings.encoder_steps,
        "data": settings.data or "shapes",
        "seed": settings.seed,
        "workers": settings.workers,
        "backend": settings.backend,
        "tokenizer": settings.tokenizer,
        "vocabulary": settings.vocabulary,
    }


def prepare(settings: BLIP2Stage1Settings, source: Any, parts: dict[str, Any]) -> BLIP2Stage1:
    """Return a randomly initialized stage 1 behind the image encoder of the CLIP `parts["encoder"]`.

    UsageError for an encoder that is no ViT, or that would lose all its layers.
    """
    encoder = getattr(parts["encoder"], "image_encoder", None)
    if not isinstance(encoder, ViT):
        raise UsageError(
            f"--encoder is a CLIP with a vision transformer, and {settings.encoder or 'it'} holds "
            "none; train one with `train clip --image vit`"
        )
    layers = encoder.config.layers - settings.drop
    if layers < 1:
        raise UsageError(
            f"--drop leaves the encoder at least one of its {encoder.config.layers} layers, and "
            f"{settings.drop} came; lower it"
        )
    # §3.4: "we remove the last layer of the ViT and use the second last layer's output features".
    # CLIP's loss reaches the class token alone, so its last layer trains no other token's output.
    encoder = copy(encoder)
    encoder.blocks = encoder.blocks[:layers]
    encoder.config = replace(encoder.config, layers=layers)
    words = source.tokenizer
    qformer = QFormerConfig(
        settings.queries,
        settings.width,
        settings.layers,
        settings.heads,
        encoder.config.width,
        vocabulary=len(words),
        context=words.context,
        cross_every=settings.cross_every,
        feed_forward=settings.mlp_ratio * settings.width,
        std=0.02 * math.sqrt(768 / settings.width),
        embedding_std=EMBEDDING_STD,
    )
    config = BLIP2Config(
        encoder.config,
        qformer,
        settings.embed_dim,
        decode=words.decode_token,
        end_of_text=words.end_of_text,
    )
    return BLIP2Stage1(config, generator(settings.seed), encoder)


def idle(settings: BLIP2Stage1Settings) -> dict[str, tuple[str, ...]]:
    """Return which fields have no effect under these settings, by what decides instead."""
    found: dict[str, tuple[str, ...]] = {
        "the size of the images and of their patches is the encoder's": ("resolution", "patch")
    }
    for name in ("encoder", "init"):
        if path := getattr(settings, name):
            found[f"the image encoder of --{name} {path} is trained already"] = ("encoder_steps",)
    return found


spec = register(
    ModelSpec(
        name="blip2-stage1",
        title="BLIP-2 (stage 1)",
        paper="Li et al. 2023, arXiv:2301.12597, §3.2",
        model=BLIP2Stage1,
        config=BLIP2Config,
        task=Task(step, notes=notes),
        objectives=(
            Objective(
                "itc",
                "image-text contrastive loss",
                "Which text of the batch is this image's, by the query that is nearest to it, and "
                "which image is this text's?",
                lambda model, B: math.log(B),
                "ln B",
                mask="unimodal_mask",
                ability=CONTRAST,
            ),
            Objective(
                "itm",
                "image-text matching loss",
                "Do this image and this text belong together, or is one of them a hard negative?",
                lambda model, B: ITM_PRIOR,
                "ln 3 - ⅔ ln 2",
                mask="bidirectional_mask",
                ability=MATCH,
            ),
            Objective(
                "itg",
                "image-grounded text generation loss",
                "What is the next token, given the queries and the tokens before it?",
                lambda model, B: math.log(model.config.qformer.vocabulary),
                "ln V",
                mask="multimodal_causal_mask",
                ability=GENERATE,
            ),
        ),
        prepare=prepare,
        settings=BLIP2Stage1Settings,
        can=frozenset({CONTRAST, MATCH, GENERATE, QUERIES}),
        best="validation_itm_accuracy",
        noted=("temperature",),
        metrics=(
            Metric("_itm_reranked_", "ITC's best 16, re-ranked by ITM"),
            Metric("_itm_accuracy", "true pairs told from the hardest negatives", "class prior"),
            Metric("_itm_loss", "ITM's loss on these", "class prior"),
            Metric(
                "_itg_perplexity",
                "equally likely next tokens that are left; smaller is better",
                "uniform prediction over the vocabulary",
            ),
            Metric("_captions_exact", "greedy captions that are true, word for word"),
            Metric("_words_right", "words of these captions in their right place"),
        ),
        # A text is [CLS] … [SEP], and [DEC], which replaces [CLS] for ITG, is at hand.
        frame=(DEC,),
        requires=(Requirement("encoder", "clip", encoder_settings),),
        idle=idle,
        parts={
            CONTRAST: ("image_projection", "text_projection", "qformer"),
            MATCH: ("itm_head", "qformer"),
            GENERATE: ("language_head", "qformer"),
        },
        group="blip2",
        stage=1,
        sentence="the queries learn from images and texts",
        order=4,
        released=True,
    )
)
