"""What a run of `train blip2` starts from: its settings, the data in the encoder's words, and the frozen parts, trained first where none is named."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tinymm import pretrained
from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.data.batches import Source
from tinymm.data.sentences import Sentences
from tinymm.data.text import DEC
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2
from tinymm.models.opt import OPT, OPTConfig
from tinymm.models.qformer import QFormerConfig
from tinymm.models.vit import ViT
from tinymm.training.loop import Recipe
from tinymm.training.optimizers import AdamW
from tinymm.training.parallel import default_workers
from tinymm.training.records import RunFolder, write_json

from . import train
from .flags import at_least
from .learning import learn
from .opened import BUILT_IN, Opened, open_model, open_source
from .words import reads_any_text

OBJECTIVES = ("itc", "itm", "itg")
#: Steps and batch size of what is trained on the way, and of each stage, on `shapes`.
ENCODER = {
    "width": 128, "layers": 3, "text_layers": 2, "joint": 64, "batch_size": 64, "rate": 1e-3, "embedding_std": 0.2, "validate_every": 250,
}  # fmt: skip
STEPS = {1: 1000, 2: 4000}
#: Stage 2 goes on from what stage 1 has learned, and a higher rate would undo it.
RATES = {1: 2e-3, 2: 1e-3}
#: Of fresh words, positions and queries: what is to be told apart should begin apart. From BERT's 0.02 relations take five times as long.
EMBEDDING_STD = 0.2


@dataclass(frozen=True)
class Settings:
    """All that a run of `train blip2` depends on, as `run.json` keeps it.

    `encoder` is a run of `train clip`, `init` a run of stage 1 to go on from, `language` a language model; None trains the first and the last
    on the way, and takes the last run of stage 1. `steps` and `rate` None mean the stage's own. UsageError for a stage or an objective that is none.
    """

    stage: int = 1
    data: str = "shapes"
    tokenizer: str | None = None
    vocabulary: str = "words"
    encoder: str | None = None
    init: str | None = None
    language: str | None = None
    objectives: str = "itc,itm,itg"
    queries: int = 8
    width: int = 128
    expansion: int = 2
    layers: int = 3
    cross_every: int = 1
    drop: int = 1
    heads: int = 4
    joint: int = 64
    steps: int | None = None
    batch_size: int = 32
    rate: float | None = None
    warmup: int = 50
    decay: float = 0.05
    clip: float = 1.0
    chunk: int | None = None
    encoder_steps: int = 1000
    language_steps: int = 1000
    checkpoint_every: int = 100
    validate_every: int = 300
    seed: int = 0
    workers: int | None = None
    backend: str = "numpy"

    def __post_init__(self):
        if self.stage not in STEPS:
            raise UsageError(f"BLIP-2 has the stages 1 and 2, and --stage {self.stage} came; choose one")
        names = self.objectives.split(",")
        if not names or set(names) - set(OBJECTIVES):
            raise UsageError(f"--objectives are some of {','.join(OBJECTIVES)}, and {self.objectives!r} came; separate them by commas")
        lowest = dict.fromkeys(("queries", "width", "expansion", "layers", "cross_every", "heads", "joint", "steps"), 1)
        lowest |= {"encoder_steps": 1, "language_steps": 1}
        lowest |= dict.fromkeys(("checkpoint_every", "validate_every", "workers", "chunk"), 1) | {"batch_size": 2}
        lowest |= dict.fromkeys(("warmup", "decay", "clip", "seed", "rate", "drop"), 0)
        at_least(self, lowest)


def prepare_stage_1(settings: Settings, path: Path, say: Callable[[str], None]) -> tuple[Source, BLIP2Stage1]:
    """Return the data and a fresh stage 1 in front of the frozen picture encoder, which is trained first if none is named.

    UsageError for an encoder that is no ViT, or that would lose all its layers.
    """
    if settings.encoder and settings.vocabulary != "words":
        raise UsageError(
            f"an encoder brings its words, and --vocabulary {settings.vocabulary} came with --encoder; leave one of them out"
        )
    trained = settings.encoder or str(trained_encoder(settings, path / "encoder", say))
    opened = open_model(
        trained,
        backend=settings.backend,
        tokenizer=settings.tokenizer if settings.encoder else None,
    )
    encoder = getattr(opened.model, "image_encoder", None)
    if not isinstance(encoder, ViT):
        raise UsageError(f"--encoder is a CLIP with a vision transformer, and {opened.path} holds none; train one with `train clip --image vit`")
    if not settings.drop < encoder.config.layers:
        raise UsageError(f"--drop leaves the encoder at least one of its {encoder.config.layers} layers, and {settings.drop} came; lower it")
    source = framed_source(settings.data, settings.seed, opened)
    words: Any = source.tokenizer
    # CLIP reads off its class token alone, so what its last layer leaves in the others is nobody's; the paper drops that layer, too.
    encoder.blocks = encoder.blocks[: encoder.config.layers - settings.drop]
    encoder.config = replace(encoder.config, layers=len(encoder.blocks))
    qformer = QFormerConfig(
        settings.queries, settings.width, settings.layers, settings.heads, encoder.config.width, vocabulary=len(words), context=words.context,
        cross_every=settings.cross_every, feed_forward=settings.expansion * settings.width, std=0.02 * math.sqrt(768 / settings.width),
        embedding_std=EMBEDDING_STD,
    )  # fmt: skip
    config = BLIP2Config(encoder.config, qformer, settings.joint, decode=words.decode_token, end_of_text=words.end_of_text)
    return source, BLIP2Stage1(config, generator(settings.seed), encoder).to(settings.backend)


def trained_encoder(settings: Settings, path: Path, say: Callable[[str], None]) -> Path:
    """Return the run of `train clip` at that path, after training it if it is not there yet."""
    if (path / "results.json").exists():
        return path
    say(f"no --encoder is named: CLIP is trained first, into {path}")
    clip = train.Settings(
        **ENCODER | {"steps": settings.encoder_steps},  # type: ignore[arg-type]
        data=settings.data,
        seed=settings.seed,
        workers=settings.workers,
        backend=settings.backend,
        tokenizer=settings.tokenizer,
        vocabulary=settings.vocabulary,
    )
    resumed = str(path) if (path / "run.json").exists() else None
    return train.run(clip, str(path), resume=resumed, say=say)


def prepare_stage_2(settings: Settings, path: Path, say: Callable[[str], None]) -> tuple[Source, BLIP2Stage2]:
    """Return the data and a stage 2 that goes on from a stage 1, in front of a frozen language model, which is trained first if none is named.

    UsageError for an `init` that is no stage 1, and a language model of other words.
    """
    opened = open_model(settings.init, backend=settings.backend)
    if not isinstance(opened.model, BLIP2Stage1):
        raise UsageError(f"--init is a run of `train blip2 --stage 1`, and {opened.path} holds a {type(opened.model).__name__}; name another")
    source = framed_source(settings.data, settings.seed, opened)
    language = pretrained.load(settings.language or _trained_language_model(settings, source, opened.model, path / "language", say))
    if not isinstance(language, OPT) or language.config.vocabulary != len(source.tokenizer):  # type: ignore[arg-type]
        raise UsageError(f"--language is an OPT that speaks the {len(source.tokenizer)} words of the data; leave it out to train one")  # type: ignore[arg-type]
    return source, BLIP2Stage2.from_stage_1(opened.model, language, generator(settings.seed)).to(settings.backend)


def _trained_language_model(settings: Settings, source: Any, first: BLIP2Stage1, path: Path, say: Callable[[str], None]) -> Path:
    """Train a small OPT on the training captions alone, never those of the held-out scenes, and return its run folder."""
    if (path / "model.safetensors").exists():
        return path
    say(f"no --language is named: a language model is trained first on the training captions, into {path}")
    words = source.tokenizer
    context = max(first.config.qformer.queries, words.context) + words.context + 1
    config = OPTConfig(len(words), context, 128, 2, 4, begin=words.begin, end=words.end_of_text)
    model = OPT(config, generator(settings.seed, 5)).to(settings.backend)
    sentences = Sentences(source.captions(), words)
    recipe = Recipe(settings.language_steps, min(64, len(sentences)), 2e-3, 50, 1.0, settings.seed, settings.workers or default_workers(model))
    columns = ("step", "loss", "lm", "learning_rate", "gradient_norm", "duplicate_captions", "seconds")
    stopped = (path / "run.json").exists()
    with RunFolder.resume(path, 0) if stopped else RunFolder.create(path, asdict(settings) | {"config": asdict(config)}, columns) as folder:
        learn(
            folder, model, sentences, AdamW(model, decay=0.05, betas=(0.9, 0.98), eps=1e-8), recipe, {"step": 0, "best": -1.0, "best_step": 0},
            chance=math.log(len(words)), checkpoint_every=recipe.steps, validate_every=recipe.steps, validate=dict,
            keep=partial(keep, path, model, source), say=say,
        )  # fmt: skip
    return path


def framed_source(data: str, seed: int, opened: Opened, frame: tuple[str, ...] = (DEC,), *, to_train: bool = True) -> Source:
    """Return the data set with captions as [CLS] … [SEP], in the words and the preprocessing of the model that was opened, `frame` at hand.

    Unless it is there `to_train` a model of its own words, the model that was opened is asked about it: UsageError for built-in data of other
    words, while a tokenizer that frames captions already, as BERT's does, is taken as it is.
    """
    seen = opened.model.config.image
    given = {} if data in BUILT_IN else {"tokenizer": opened.tokenizer, "preprocess": opened.preprocess}
    source: Any = open_source(data, seed=seed, channels=seen.channels, resolution=seen.resolution, **given)
    words = getattr(opened.tokenizer, "vocabulary", None)
    if data in BUILT_IN and reads_any_text(opened.tokenizer):
        source.tokenizer = opened.tokenizer
    elif not to_train and data in BUILT_IN and source.tokenizer.vocabulary != words:
        raise UsageError(f"{opened.path} speaks other words than {data} do; evaluate it on pictures and captions of yours with --data")
    as_it_is = not to_train and getattr(source.tokenizer, "begin", None) is not None
    side, channels = source.preprocess.resolution, source.preprocess.channels
    if (side, channels) != (seen.resolution, seen.channels):
        raise UsageError(
            f"{data} has pictures of {side} × {side} × {channels}, and the encoder of {opened.path} takes {seen.resolution} × {seen.resolution} × "
            f"{seen.channels}; name one that was trained on this data"
        )
    if not as_it_is:
        source.tokenizer = source.tokenizer.with_frame(*frame)
    return source


def keep(path: Path, model: Any, source: Any) -> None:
    """Write the model with what belongs to it, each file whole or not at all."""
    pretrained.save(model, path, tokenizer=source.tokenizer)
    source.tokenizer.save(path)
    write_json(path / "preprocessor_config.json", source.preprocess.to_dict())
