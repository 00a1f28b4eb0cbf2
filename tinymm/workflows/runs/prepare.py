"""What a training run begins with: its data, and a model that is new or goes on from another.

What does not fit is refused here, before there is a run folder, and before a model that is required
(BLIP-2's image encoder, its language model) is trained into it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tinymm import pretrained
from tinymm.arrays.errors import UsageError
from tinymm.data.batches import Source
from tinymm.tasks import QUEUE, ModelSpec, Requirement, Task, spec_named
from tinymm.tasks.step import whole
from tinymm.training.gradient_cache import gradient_cached
from tinymm.training.loop import TrainConfig
from tinymm.training.parallel import default_workers, threads
from tinymm.training.records import last_run

from ..open_model import LoadedModel, a, open_any, train_command
from ..sources import check_enough, fresh_source, source_for


@dataclass(frozen=True)
class Plan:
    """A run before it begins: its spec and settings, the data, and the model.

    `begins_with` are the models that it goes on from, and `parts` the required ones by the name of
    their setting. Those in `missing` are named nowhere: they are trained first, and until then a
    randomly initialized model stands for each.
    """

    spec: ModelSpec
    settings: Any
    source: Source
    model: Any
    begins_with: tuple[Path, ...] = ()
    parts: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[Requirement, ...] = ()

    @property
    def batch_size(self) -> int:
        """The pairs of a batch: no image is in a batch twice."""
        pairs = len(self.source)
        return min(self.settings.batch_size, pairs, self.settings.overfit or pairs)

    @property
    def task(self) -> Task:
        """The model's task, on the objectives that the settings name, where they name some."""
        chosen = self.objectives
        if chosen == tuple(each.name for each in self.spec.objectives):
            return self.spec.task
        return self.spec.task.with_options(objectives=chosen)

    @property
    def objectives(self) -> tuple[str, ...]:
        """The names of the losses that are summed."""
        if any(item.name == "objectives" for item in fields(self.settings)):
            return tuple(name.strip() for name in self.settings.objectives.split(","))
        return tuple(each.name for each in self.spec.objectives)

    @property
    def chances(self) -> dict[str, float]:
        """Each objective's loss of a uniform prediction."""
        every = self.spec.chance_losses(self.model, self.batch_size)
        return {name: every[name] for name in self.objectives}

    @cached_property
    def recipe(self) -> TrainConfig:
        """How long, how fast and on how many pairs at a time the model is trained."""
        settings = self.settings
        return TrainConfig(
            steps=settings.steps,
            batch_size=max(2, self.batch_size),
            learning_rate=settings.learning_rate,
            warmup=settings.warmup,
            max_grad_norm=settings.max_grad_norm or None,
            seed=settings.seed,
            workers=workers_of(settings, self.model),
            overfit=settings.overfit,
            grad_cache=settings.grad_cache,
        )


def plan(
    spec: ModelSpec,
    settings: Any,
    say: Callable[[str], None],
    *,
    words: str | None = None,
    source: Source | None = None,
    parts: Mapping[str, Any] | None = None,
) -> Plan:
    """Return what a run of these settings begins with; nothing is written.

    `words` is the folder of a run that goes on, which has its tokenizer already. `source` and
    `parts` are those of the run that this one is trained for. UsageError for what does not fit.
    """
    if settings.init and settings.vocabulary != "words":
        raise UsageError(
            "a model that is fine-tuned keeps its vocabulary, and --vocabulary "
            f"{settings.vocabulary} came; leave it out"
        )
    settings = with_last_runs(spec, settings)
    begins_with = opened_models(spec, settings)
    settings = with_data(spec, settings, begins_with, say)
    paths = tuple(opened.path for opened in begins_with.values())
    first = begins_with.get("init")
    if first is not None and first.spec is spec:
        source = spec.adapted(source or _source_of(spec, settings, first))
        check_enough(source)
        model = spec.fine_tune(settings, first.model)
        made = Plan(spec, settings, source, model, paths)
    else:
        made = _new(spec, settings, say, begins_with, words, source, dict(parts or {}))
        made = replace(made, begins_with=paths)
    if words and begins_with:
        made.source.tokenizer = pretrained.tokenizer(words, cleaning=spec.cleaning)
    made = replace(made, model=made.model.to(settings.backend))
    if QUEUE in spec.able(made.model) and made.model.queue is not None:
        made.model.queue.check_batch(made.batch_size)  # that of a fine-tuned model has its own size
    if settings.grad_cache:  # refused here, when there is no run folder yet
        gradient_cached(whole, settings.grad_cache)(made.model.train())
    return made


def _new(
    spec: ModelSpec,
    settings: Any,
    say: Callable[[str], None],
    begins_with: dict[str, LoadedModel],
    words: str | None,
    source: Source | None,
    parts: dict[str, Any],
) -> Plan:
    """Return the plan of a randomly initialized model, whose required parts are opened or new too."""
    missing = tuple(need for need in spec.requires if need.setting not in begins_with)
    for need in missing:
        if not need.same_words:
            begins_with = begins_with | {need.setting: _untrained(need, settings, say)}
    leading = next(iter(begins_with.values()), None)
    if source is None:
        source = (
            source_for(leading, settings.data, settings.seed, part_of=spec)
            if leading is not None
            else fresh_source(spec, settings, run=words)
        )
    check_enough(source)
    parts |= {name: opened.model for name, opened in begins_with.items()}
    for need in missing:
        if need.same_words:
            outer = spec_named(need.spec)
            own = outer.settings(**need.settings(settings))
            parts[need.setting] = outer.prepare(own, outer.adapted(source), parts)
    source = spec.adapted(source)
    model = spec.prepare(settings, source, parts)
    return Plan(spec, settings, source, model, parts=parts, missing=missing)


def _untrained(need: Requirement, settings: Any, say: Callable[[str], None]) -> LoadedModel:
    """Return a required model before its training: by it, what does not fit is refused at once."""
    spec = spec_named(need.spec)
    made = plan(spec, spec.settings(**need.settings(settings)), say)
    words, prepare = made.source.tokenizer, made.source.preprocess
    return LoadedModel(Path(need.setting), made.model.eval(), words, prepare, {})


def with_last_runs(spec: ModelSpec, settings: Any) -> Any:
    """Return the settings with the last runs of required models named, so that run.json keeps them.

    UsageError where there is none yet.
    """
    found = {}
    for need in spec.requires:
        if not need.last_run or getattr(settings, need.setting) is not None:
            continue
        try:
            run = last_run(holding="model.safetensors", of_model=(need.spec,))
        except UsageError:
            raise UsageError(
                f"--{need.setting} is a run of `{train_command(spec_named(need.spec))}`, and there "
                "is none under runs yet; train one first, or name one"
            ) from None
        found[need.setting] = str(run)
    return replace(settings, **found) if found else settings


def _source_of(spec: ModelSpec, settings: Any, opened: LoadedModel) -> Source:
    """Return the data of a model that is fine-tuned, in its words; a language model sees no images."""
    if getattr(opened.model.config, "image", None) is not None:
        return source_for(opened, settings.data, settings.seed)
    return fresh_source(spec, replace(settings, tokenizer=str(opened.path)))


def opened_models(spec: ModelSpec, settings: Any) -> dict[str, LoadedModel]:
    """Return the models that the settings name, by setting: the one of --init, and required ones.

    UsageError for a model of another kind than it must be.
    """
    found: dict[str, LoadedModel] = {}
    needs = {need.setting: need for need in spec.requires}
    for name in dict.fromkeys(("init", *needs)):
        path, need = getattr(settings, name), needs.get(name)
        if path and "init" in found and found["init"].spec is spec:
            raise UsageError(
                f"--init {settings.init} brings its own {name}, and --{name} {path} came too; leave "
                "one of them out"
            )
        if path is None:
            continue
        told: dict[str, Any] = {"tokenizer": settings.tokenizer}
        if name == "init" and not need:
            told |= {"heads": settings.init_heads, "activation": settings.init_activation}
            told["resolution"] = settings.resolution
        opened = open_any(path, backend=settings.backend, **told)
        allowed = ([spec] if name == "init" else []) + ([spec_named(need.spec)] if need else [])
        if opened.spec not in allowed:
            kinds = " or ".join(f"`{train_command(each)}`" for each in allowed)
            raise UsageError(
                f"--{name} is a run of {kinds}, or a checkpoint of that kind, and {path} holds "
                f"{a(opened.model)}; name another"
            )
        found[name] = opened
    return found


def with_data(
    spec: ModelSpec,
    settings: Any,
    begins_with: Mapping[str, LoadedModel],
    say: Callable[[str], None],
) -> Any:
    """Return the settings with the data named: by themselves, or as the model began with it.

    What is taken over is said. UsageError where that model does not say what it was trained on.
    """
    if settings.data is not None:
        return settings
    name, opened = next(iter(begins_with.items()), (None, None))
    if opened is None:
        return replace(settings, data="shapes")
    data = opened.settings.get("data")
    if data is None:
        raise UsageError(
            f"--{name} {opened.path} does not say what it was trained on; name the pictures and "
            "captions with --data"
        )
    say(f"data: {data}, on which {opened.path} was trained; --data names others")
    return replace(settings, data=data)


def workers_of(settings: Any, model: Any) -> int:
    """Return the number of threads that share a rank's part of a batch: the settings', or what suits.

    UsageError where the model can't be split.
    """
    # Threads share a CPU; a GPU takes the batch whole.
    on_host = settings.backend == "numpy"
    workers = settings.workers or (default_workers(model) if on_host else 1)
    with threads(workers) as split:
        split(model.train())  # refused here rather than at the first step, in a run folder
    return workers
