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
from tinymm.data.builtin.sentences import Sentences
from tinymm.data.datasets import datasets
from tinymm.data.text import DEC
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2
from tinymm.models.opt import OPT, OPTConfig
from tinymm.models.qformer import QFormerConfig
from tinymm.models.vit import ViT
from tinymm.training.loop import Recipe
from tinymm.training.optimizers import AdamW
from tinymm.training.parallel import default_workers
from tinymm.training.records import RunFolder, last_run, read_metrics, write_json

from ..flags import at_least
from ..open_model import STAGE_1, Opened, a, open_model, open_source, settings_of
from ..run_folder import finished
from ..run_loop import learn
from ..words import reads_any_text
from . import clip as train

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
    on the way, and takes the last run of stage 1. `data` None means what that encoder or stage 1 was trained on, and `shapes` where neither is
    named. `steps` and `rate` None mean the stage's own. UsageError for a stage or an objective that is none.
    """

    stage: int = 1
    data: str | None = None
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


def complete(settings: Settings, say: Callable[[str], None]) -> Settings:
    """Return the settings with all that is left to be found filled in: steps, rate, the last stage 1, and the data.

    The data are those of the model that is gone on from, which is said. UsageError where it does not say what they were, and for a model
    that the other stage takes.
    """
    for name in ("init", "language") if settings.stage == 1 else ("encoder", "tokenizer"):
        if getattr(settings, name) is not None:
            raise UsageError(f"stage {settings.stage} takes no --{name}, and {getattr(settings, name)} came; leave it out, or give the other --stage")
    begin = settings.encoder if settings.stage == 1 else settings.init or "stage 1"
    if begin and settings.vocabulary != "words":
        raise UsageError(f"{begin} brings its own vocabulary, and --vocabulary {settings.vocabulary} came too; leave one of them out")
    steps, rate = settings.steps or STEPS[settings.stage], settings.rate
    settings = replace(settings, steps=steps, rate=RATES[settings.stage] if rate is None else rate)
    if settings.stage == 2 and settings.init is None:
        settings = replace(settings, init=str(last_run(holding="model.safetensors", of_type=STAGE_1)))
    if settings.data is not None:
        return settings
    flag, begin = ("--init", settings.init) if settings.stage == 2 else ("--encoder", settings.encoder)
    if begin is None:
        return replace(settings, data="shapes")
    run = Path(begin) / "run.json"
    data = settings_of(run).get("data") if run.is_file() else None
    if data is None:
        raise UsageError(f"{flag} {begin} does not say what it was trained on; name the pictures and captions with --data")
    say(f"data: {data}, on which {begin} was trained; --data names others")
    return replace(settings, data=data)


def prepare_stage_1(settings: Settings, opened: Opened) -> tuple[Source, BLIP2Stage1]:
    """Return the data and a fresh stage 1 in front of the frozen picture encoder of the CLIP that was opened.

    UsageError for an encoder that is no ViT, or that would lose all its layers.
    """
    encoder = getattr(opened.model, "image_encoder", None)
    if not isinstance(encoder, ViT):
        raise UsageError(f"--encoder is a CLIP with a vision transformer, and {opened.path} holds none; train one with `train clip --image vit`")
    if not settings.drop < encoder.config.layers:
        raise UsageError(f"--drop leaves the encoder at least one of its {encoder.config.layers} layers, and {settings.drop} came; lower it")
    source = framed_source(settings.data or "shapes", settings.seed, opened)
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


def encoder_settings(settings: Settings) -> train.Settings:
    """Return how the picture encoder is trained where none is named."""
    return train.Settings(
        **ENCODER | {"steps": settings.encoder_steps},  # type: ignore[arg-type]
        data=settings.data or "shapes",
        seed=settings.seed,
        workers=settings.workers,
        backend=settings.backend,
        tokenizer=settings.tokenizer,
        vocabulary=settings.vocabulary,
    )


def untrained_encoder(settings: Settings) -> Opened:
    """Return the CLIP as it is before its training: by it all that does not fit is refused before an hour is spent."""
    source, model = train.prepare(encoder_settings(settings))
    return Opened(Path("encoder"), model, source.tokenizer, source.preprocess, {})


def trained_encoder(settings: Settings, path: Path, command: str, say: Callable[[str], None]) -> Path:
    """Return the run of `train clip` at that path, after training it if it is not there yet; `command` is what it is made for."""
    if finished(path):
        there = settings_of(path / "run.json")
        say(f"encoder: {path}, there already: {there.get('steps')} steps on {there.get('data')}, seed {there.get('seed')}")
        return path
    say(f"no --encoder is named: CLIP is trained first, for {settings.encoder_steps} steps (--encoder-steps), into {path}")
    resumed = str(path) if (path / "run.json").exists() else None
    return train.run(encoder_settings(settings), str(path), resume=resumed, command=f"{command}: encoder", say=say)


def opened_stage_1(settings: Settings) -> Opened:
    """Open the run of stage 1 that stage 2 goes on from; UsageError for another kind of model."""
    opened = open_model(settings.init, backend=settings.backend)
    if not isinstance(opened.model, BLIP2Stage1):
        raise UsageError(f"--init is a run of `train blip2 --stage 1`, and {opened.path} holds {a(opened.model)}; name another")
    return opened


def prepare_stage_2(settings: Settings, opened: Opened, language: OPT | None = None) -> tuple[Source, BLIP2Stage2]:
    """Return the data and a stage 2 that goes on from the stage 1 that was opened, in front of a language model, by default an untrained one.

    UsageError for a language model of other words.
    """
    source: Any = framed_source(settings.data or "shapes", settings.seed, opened)
    language = language or untrained_language_model(settings, source, opened.model)
    if not isinstance(language, OPT) or language.config.vocabulary != len(source.tokenizer):
        raise UsageError(f"--language is an OPT that speaks the {len(source.tokenizer)} words of the data; leave it out to train one")
    return source, BLIP2Stage2.from_stage_1(opened.model, language, generator(settings.seed)).to(settings.backend)


def untrained_language_model(settings: Settings, source: Any, first: BLIP2Stage1) -> OPT:
    """Return a small OPT with room for a stage 1's queries and a caption."""
    words = source.tokenizer
    context = max(first.config.qformer.queries, words.context) + words.context + 1
    config = OPTConfig(len(words), context, 128, 2, 4, begin=words.begin, end=words.end_of_text)
    return OPT(config, generator(settings.seed, 5)).to(settings.backend)


def trained_language_model(settings: Settings, source: Any, first: BLIP2Stage1, path: Path, say: Callable[[str], None]) -> Path:
    """Train a small OPT on the training captions alone, never those of the held-out scenes, and return its run folder."""
    if (path / "results.json").exists():
        return path
    say(f"no --language is named: a language model is trained first on the training captions, into {path}")
    model, words = untrained_language_model(settings, source, first), source.tokenizer
    sentences = Sentences(source.captions(), words)
    recipe = Recipe(settings.language_steps, min(64, len(sentences)), 2e-3, 50, 1.0, settings.seed, settings.workers or default_workers(model))
    columns = ("step", "loss", "lm", "learning_rate", "gradient_norm", "duplicate_captions", "seconds")
    chance = math.log(len(words))
    kept = asdict(settings) | {"config": asdict(model.config)}
    begun = (path / "run.json").exists()
    command = "train blip2: language model"
    with RunFolder.resume(path, 0) if begun else RunFolder.create(path, kept, columns, command=command) as folder:
        learn(
            folder, model, sentences, AdamW(model, decay=0.05, betas=(0.9, 0.98), eps=1e-8), recipe, {"step": 0, "best": -1.0, "best_step": 0},
            chance=chance, checkpoint_every=recipe.steps, validate_every=recipe.steps, validate=dict,
            keep=partial(keep, path, model, source), say=say,
        )  # fmt: skip
        folder.write_results({"lm": read_metrics(path)[-1]["lm"], "chance": {"lm": chance}})
    return path


def framed_source(data: str, seed: int, opened: Opened, frame: tuple[str, ...] = (DEC,), *, to_train: bool = True) -> Source:
    """Return the data set with captions as [CLS] … [SEP], in the words and the preprocessing of the model that was opened, `frame` at hand.

    Unless it is there `to_train` a model of its own words, the model that was opened is asked about it: UsageError for built-in data of other
    words, while a tokenizer that frames captions already, as BERT's does, is taken as it is.
    """
    seen = opened.model.config.image
    given: dict[str, Any] = {} if data in datasets() else {"tokenizer": opened.tokenizer, "preprocess": opened.preprocess}
    source: Any = open_source(data, seed=seed, channels=seen.channels, resolution=seen.resolution, **given)
    words = getattr(opened.tokenizer, "vocabulary", None)
    if data in datasets() and reads_any_text(opened.tokenizer):
        source.tokenizer = opened.tokenizer
    elif not to_train and data in datasets() and source.tokenizer.vocabulary != words:
        raise UsageError(f"{opened.path} speaks other words than {data} do; evaluate it on pictures and captions of yours with --data")
    as_it_is = not to_train and getattr(source.tokenizer, "begin", None) is not None
    side, channels = source.preprocess.resolution, source.preprocess.channels
    if (side, channels) != (seen.resolution, seen.channels):
        raise UsageError(
            f"{data} has pictures of {side} × {side} × {channels}, and the encoder of {opened.path} takes {seen.resolution} × {seen.resolution} × "
            f"{seen.channels}; {_way_out(opened)}"
        )
    if not as_it_is:
        source.tokenizer = source.tokenizer.with_frame(*frame)
    return source


def _way_out(opened: Opened) -> str:
    trained_on = opened.settings.get("data")
    return f"name its own data with --data {trained_on}" if trained_on else "name the data that it was trained on with --data"


def keep(path: Path, model: Any, source: Any) -> None:
    """Write the model with what belongs to it, each file whole or not at all."""
    pretrained.save(model, path, tokenizer=source.tokenizer)
    source.tokenizer.save(path)
    write_json(path / "preprocessor_config.json", source.preprocess.to_dict())
