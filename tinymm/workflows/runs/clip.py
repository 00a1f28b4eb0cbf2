"""`train clip` and `demo`: from data to a run folder with a trained model, its numbers and its pictures."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinymm import pretrained
from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.data.batches import PairSet, Source
from tinymm.data.datasets import datasets, is_drawn_at_one_size
from tinymm.layers.init import normal
from tinymm.models.cbow import CBOWConfig
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.resnet import ResNetConfig
from tinymm.models.text import TextConfig
from tinymm.models.vit import ViTConfig
from tinymm.training.checkpoint import load_checkpoint
from tinymm.training.chunks import in_chunks
from tinymm.training.evaluate import embed_images, embed_texts, linear_probe, retrieval, swap_accuracy, zero_shot
from tinymm.training.loop import Recipe, batch_at
from tinymm.training.optimizers import AdamW
from tinymm.training.parallel import default_workers, threads
from tinymm.training.records import RunFolder, next_folder, write_json

from .. import words as vocabularies
from ..flags import at_least
from ..open_model import clip_for, open_source
from ..run_folder import finish, own_settings, remember, stopped
from ..run_loop import learn
from ..terminal import tell
from .figures_clip import cosines, draw_run, show_pairs

COLUMNS = (
    "step", "loss", "itc", "scale", "learning_rate", "gradient_norm", "duplicate_captions", "validation_r1",
    "validation_image_to_text_r1", "validation_text_to_image_r1", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """All that a run depends on, as `run.json` keeps it; the defaults are those of `demo`.

    `data` is the name of built-in data, one of `datasets()`, or a path. `vocabulary` is "words" or "bpe", learned from
    the captions. Sizes are ignored with `init`, which brings its own, as it does its loss; but a `resolution` that is
    given resizes its position embeddings, and `init_heads` and `init_activation` say what a bare file does not.
    Without `init`, no `resolution` means 32. `workers` None means the machine's cores, up to four.
    """

    data: str = "glyphs"
    image: str = "vit"
    text: str = "transformer"
    resolution: int | None = None
    patch: int = 8
    width: int = 128
    expansion: int = 4
    layers: int = 3
    text_layers: int = 1
    heads: int = 4
    joint: int = 128
    embedding_std: float | None = None
    loss: str = "softmax"
    steps: int = 1100
    batch_size: int = 128
    rate: float = 2e-3
    warmup: int = 60
    decay: float = 0.05
    clip: float = 1.0
    overfit: int | None = None
    chunk: int | None = None
    init: str | None = None
    tokenizer: str | None = None
    vocabulary: str = "words"
    init_heads: str | None = None
    init_activation: str | None = None
    checkpoint_every: int = 100
    validate_every: int = 220
    seed: int = 0
    workers: int | None = None
    backend: str = "numpy"

    def __post_init__(self):
        lowest = dict.fromkeys(("resolution", "patch", "width", "expansion", "layers", "text_layers", "heads", "joint", "steps"), 1)
        lowest |= dict.fromkeys(("checkpoint_every", "validate_every", "workers", "chunk"), 1) | {"batch_size": 2, "overfit": 2}
        lowest |= dict.fromkeys(("warmup", "decay", "clip", "seed", "rate", "embedding_std"), 0)
        at_least(self, lowest)


def run(
    settings: Settings,
    out: str | None = None,
    *,
    resume: str | None = None,
    name: str = "clip",
    command: str = "train clip",
    say: Callable[[str], None] = tell,
) -> Path:
    """Train and evaluate as the settings say and return the run folder; with `resume`, go on with that folder by its own settings.

    The folder is whole at every moment: Ctrl-C or a kill loses at most the steps since the last checkpoint, and `resume` then continues
    bitwise as if nothing had happened (on the same machine, with the same number of workers, on the same data). What cannot work is refused
    before there is a folder. `command` is noted there as what made it.
    """
    stop = stopped(resume, COLUMNS) if resume else None
    if stop:
        settings = own_settings(Settings, stop)
    source, model = prepare(settings, stop.words if stop else None)
    workers = workers_of(settings, model)
    settings = replace(settings, workers=workers)
    recipe = Recipe(
        steps=settings.steps, batch_size=settings.batch_size, rate=settings.rate, warmup=settings.warmup, clip=settings.clip or None,
        seed=settings.seed, workers=workers, overfit=settings.overfit, chunk=settings.chunk,
    )  # fmt: skip
    if settings.chunk:
        in_chunks(lambda encoder: encoder, settings.chunk)(model.train())  # refused here, when there is no run folder yet
    pairs = min(settings.batch_size, len(source), settings.overfit or len(source))
    chance, words = equal_scores(model, pairs)
    say(
        f"{source.name}: {len(source):,} training pictures · model: {model.count():,} parameters · batch {pairs}, "
        f"equal scores: {words} = {chance:.3f}"
    )
    if len(source) < settings.batch_size:
        say(f"the data has {len(source):,} pairs, fewer than --batch-size {settings.batch_size:,}: every step sees all of them")
    vocabularies.warn(source, say)
    before = cosines(model, show_pairs(source), source.tokenizer)
    optimizer = AdamW(model, decay=settings.decay, betas=(0.9, 0.98), eps=1e-8)
    progress = stop.progress if stop else {"step": 0, "best": -1.0, "best_step": 0}
    with (
        stop.open(source, say)
        if stop
        else RunFolder.create(out or next_folder(name), asdict(settings), COLUMNS, command=command)
    ) as folder:
        if not stop or stop.anew:
            began_with = [Path(settings.init)] if settings.init else []
            remember(folder, source, began_with, say)
        if not (stop and stop.trained):
            if progress["step"]:
                load_checkpoint(folder.path, model, optimizer)
            validation = source.validation()
            learn(
                folder, model, source, optimizer, recipe, progress, chance=chance, checkpoint_every=settings.checkpoint_every,
                validate_every=settings.validate_every, keep=lambda: _keep(folder.path, model, source), say=say,
                validate=lambda: _validated(model, validation, source) if len(validation) > 1 else {},
            )  # fmt: skip
        best = pretrained.load(folder.path).to(settings.backend)
        known = {"steps": settings.steps, "best_step": progress["best_step"], "chance_loss": chance}
        finish(
            folder, stop, lambda: measure(best, source, settings) | known,
            lambda results: draw_run(folder.path, source, best, before, results, chance),
        )  # fmt: skip
    return folder.path


def unused(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return which fields do nothing under these settings, by what decides instead."""
    idle: dict[str, tuple[str, ...]] = {}
    if settings.init:
        sizes = ("image", "text", "patch", "width", "expansion", "layers", "text_layers", "heads", "joint", "embedding_std")
        return {f"the model of --init {settings.init} brings its own": sizes}
    if settings.image == "resnet":
        idle["a ResNet is not cut into patches and has stages of its own"] = ("patch", "layers")
    if settings.text == "cbow":
        idle["a mean of words has no layers"] = ("text_layers",)
    if is_drawn_at_one_size(settings.data):
        idle[f"{settings.data} are drawn at one size"] = ("resolution",)
    return idle


def equal_scores(model: CLIP, pairs: int) -> tuple[float, str]:
    """Return the least loss of a model that scores all pairs of a batch alike, and its formula.

    The softmax has ln n. The sigmoid is sure of nothing but the share 1/n of true pairs, n times the entropy of that coin, about 1 + ln n.
    """
    if model.config.loss == "softmax":
        return math.log(pairs), f"ln {pairs}"
    return pairs * math.log(pairs) - (pairs - 1) * math.log(pairs - 1), f"{pairs} ln {pairs} - {pairs - 1} ln {pairs - 1}"


def workers_of(settings: Any, model: Any = None) -> int:
    """Return the number of threads that share a rank's part of a batch: the settings', or what suits; UsageError where the model can't be split."""
    # Threads share a CPU; a GPU takes the batch whole.
    workers = settings.workers or (default_workers(model) if settings.backend == "numpy" else 1)
    with threads(workers) as split:
        if model is not None:  # refused here rather than at the first step, when the run folder is already there
            split(model.train())
    return workers


def prepare(settings: Settings, run: str | None = None) -> tuple[Source, CLIP]:
    """Return the data and the fresh model of these settings; with `init`, the model to be fine-tuned and data prepared as it expects.

    A `run` that goes on has its words already.
    UsageError for an `init` of another loss, or of other words than the data's.
    """
    if settings.init:
        if settings.vocabulary != "words":
            raise UsageError(f"a model that is fine-tuned keeps its words, and --vocabulary {settings.vocabulary} came; leave it out")
        opened = clip_for(
            "train clip", settings.init, settings.backend, settings.tokenizer, heads=settings.init_heads,
            activation=settings.init_activation, resolution=settings.resolution,
        )  # fmt: skip
        words = pretrained.tokenizer(run) if run else opened.tokenizer
        if settings.loss != "softmax" and settings.loss != opened.model.config.loss:  # softmax is also what stands there when nothing was said
            raise UsageError(
                f"a model goes on with the loss that it was trained on; --loss is {settings.loss} and that of {settings.init} "
                f"{opened.model.config.loss}; leave --loss out, or train a model anew without --init"
            )
        if settings.data in datasets():
            source = open_source(settings.data, seed=settings.seed, resolution=opened.model.config.image.resolution)
            if not vocabularies.shared(source, words):
                raise UsageError(
                    f"{settings.init} speaks other words than {settings.data}; fine-tune it with --data on your own pictures and captions"
                )
        else:
            seen = opened.model.config.image
            source = open_source(
                settings.data, seed=settings.seed, channels=seen.channels, resolution=seen.resolution, tokenizer=words,
                preprocess=opened.preprocess,
            )  # fmt: skip
        return source, opened.model
    own: dict[str, Any] = {"tokenizer": pretrained.tokenizer(run)} if run and settings.data not in datasets() else {}
    source = open_source(settings.data, seed=settings.seed, resolution=settings.resolution or 32, **own)
    channels = source.preprocess.channels
    width = settings.width
    tokenizer: Any = vocabularies.choose(source, settings.tokenizer, settings.vocabulary, run=run)
    source.tokenizer = tokenizer  # type: ignore[misc]
    image: Any = None
    if settings.image == "vit":
        image = ViTConfig(
            source.preprocess.resolution, settings.patch, width, settings.layers, settings.heads, channels, feed_forward=settings.expansion * width
        )
    else:
        image = ResNetConfig(source.preprocess.resolution, width // 8, settings.heads, layers=(1, 1, 1, 1), channels=channels)
    sizes = {"vocabulary": len(tokenizer), "context": tokenizer.context, "width": width, "end_of_text": tokenizer.end_of_text}
    text = CBOWConfig(**sizes) if settings.text == "cbow" else TextConfig(
        **sizes, layers=settings.text_layers, heads=settings.heads, feed_forward=settings.expansion * width
    )
    model = CLIP(CLIPConfig(settings.joint, image, text, settings.loss), generator(settings.seed))
    if settings.embedding_std is not None:
        rng = generator(settings.seed, 4)
        for name, parameter in model.named_parameters():
            if name in ("image_encoder.positions", "text_encoder.positions", "text_encoder.token_embedding.weight"):
                parameter.data = normal(rng, parameter.shape, settings.embedding_std)
    return source, model.to(settings.backend)


def _validated(model: CLIP, validation: PairSet, source: Source) -> dict[str, float]:
    found = retrieval(model, validation, source.tokenizer)
    return {f"validation_{name}": found[name] for name in ("r1", "image_to_text_r1", "text_to_image_r1")}


def _keep(path: Path, model: CLIP, source: Source) -> None:
    """Write the model as the best so far: config.json, model.safetensors, tokenizer and preprocessing, each whole or not at all."""
    pretrained.save(model, path, tokenizer=source.tokenizer)
    source.tokenizer.save(path)  # type: ignore[attr-defined]
    write_json(path / "preprocessor_config.json", source.preprocess.to_dict())


def measure(model: CLIP, source: Source, settings: Settings | None = None) -> dict[str, Any]:
    """Return what results.json holds: validation, the honest tests, zero-shot tasks and a linear probe, and the chance levels under `chance`.

    The same model gives the same numbers; nothing here depends on the time.
    """
    results: dict[str, Any] = {}
    chance: dict[str, float] = {}
    sets = {"validation": source.validation(), **source.tests()}
    if settings is not None and settings.overfit:
        recipe = Recipe(1, batch_size=settings.batch_size, seed=settings.seed, overfit=settings.overfit)
        count = min(settings.overfit, len(source))
        batches = [batch_at(source, recipe, step) for step in range(count // min(settings.batch_size, count))]
        captions = [caption for batch in batches for caption in batch.captions]
        sets["overfit"] = PairSet(np.concatenate([batch.images for batch in batches]), captions, np.arange(len(captions)))
    for name, pairs in sets.items():
        if len(pairs) < 2:
            continue
        found = retrieval(model, pairs, source.tokenizer)
        results |= {f"{name}_{key}": value for key, value in found.items() if not key.startswith("chance")}
        chance[f"{name}_r1"] = found["chance_r1"]
    for kind, swapped in source.swaps().items():
        features = embed_images(model, swapped.images)
        sides = [np.sum(features * embed_texts(model, list(texts), source.tokenizer), axis=1) for texts in (swapped.right, swapped.wrong)]
        results[f"swap_{kind.replace(' ', '_')}"] = swap_accuracy(*sides)
        chance[f"swap_{kind.replace(' ', '_')}"] = 0.5
    for name, task in source.zero_shot().items():
        found = zero_shot(model, task, source.tokenizer)
        results[f"zero_shot_{name}"] = found["mean_class_accuracy"]
        chance[f"zero_shot_{name}"] = found["chance"]
        features = embed_images(model, task.images)
        fold = np.arange(len(features)) % 2 == 0
        results[f"probe_{name}"] = linear_probe(features[fold], task.targets[fold], features[~fold], task.targets[~fold])
        chance[f"probe_{name}"] = float(np.bincount(task.targets[~fold]).max() / (~fold).sum())
    return results | {"chance": chance}
