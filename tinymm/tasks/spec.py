"""`ModelSpec`: all that the rest of the package must know of a model, declared beside its step.

Commands, flags, tables, curves and reports are derived from the specs that are registered here;
nothing outside of this chapter asks what class a model is of.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tinymm.arrays.errors import UsageError
from tinymm.autodiff import Tensor

from .settings import Settings


@dataclass(frozen=True)
class StepResult:
    """What a training step computed: named `losses`, whose sum is minimized, and a `memory`.

    The memory is what `Task.after_step` needs to know of the step, such as the momentum features
    that go into ALBEF's queue; None where nothing moves between steps.
    """

    losses: dict[str, Tensor]
    memory: Any = None


def _nothing_moves(model: Any, memory: Any) -> None:
    """Do nothing: no state moves between steps."""


@dataclass(frozen=True)
class Task:
    """One training step of a model, and what moves between two steps.

    `step(model, images, ids, is_real, *, rng, image_ids, split, …) -> StepResult` computes the
    losses of images (B, h, w, c) with texts ids and is_real (B, T) and changes nothing: the same
    inputs and draws give the same numbers. `after_step(model, memory)` alone changes the model,
    after the optimizer has: the momentum encoder, the feature queue, the clamp of a temperature.
    """

    step: Callable[..., StepResult]
    after_step: Callable[[Any, Any], None] = _nothing_moves

    def with_options(self, **options: Any) -> "Task":
        """Return the task whose step is always given these options, such as `objectives`."""
        return replace(self, step=partial(self.step, **options))


@dataclass(frozen=True)
class Objective:
    """One loss of a model: its short `name` ("itc"), its `title`, and what it asks in a `sentence`.

    `chance(model, B)` is the loss of a uniform prediction for a batch of B pairs and `formula` its
    formula, in which B, K and V stand for the batch, the queue and the vocabulary. `mask` names the
    attention mask under which it is computed, where the objective has one of its own.
    """

    name: str
    title: str
    sentence: str
    chance: Callable[[Any, int], float]
    formula: str
    mask: str | None = None


@dataclass(frozen=True)
class Metric:
    """A number of results.json: the regular expression of its `key`, and what it is in `words`.

    `control` says what stands beside it: the chance level, or the run without an image.
    """

    key: str
    words: str
    control: str = "chance"


#: What a model can do. Commands ask for these, never for a class.
CONTRAST, MATCH, FILL, GENERATE = "contrast", "match", "fill", "generate"


@dataclass(frozen=True)
class ModelSpec:
    """A model, its training step, and how it is named, built, trained, evaluated and drawn.

    `name` is that of `train NAME` and `model_type` what config.json calls it. `can` are its
    abilities: CONTRAST (`encode_image`, `encode_text`, `similarity`), MATCH (`itm_logits`), FILL
    (`mlm_logits`) and GENERATE (`generate`, `lm_logits`). `prepare(settings, source)` returns a
    randomly initialized model for this data, whose texts are framed by the special tokens `frame`
    and cleaned as the paper's code does (`cleaning`). `best` is the validation metric by which the
    best checkpoint is chosen. `idle(settings)` returns which fields of the settings have no effect,
    by the reason.
    """

    name: str
    title: str
    paper: str
    model: type
    config: type
    model_type: str
    task: Task
    objectives: tuple[Objective, ...]
    prepare: Callable[[Any, Any], Any]
    settings: type[Settings] = Settings
    can: frozenset[str] = frozenset({CONTRAST})
    best: str = "validation_r1"
    metrics: tuple[Metric, ...] = ()
    frame: tuple[str, ...] = ()
    cleaning: str = "blip"
    idle: Callable[[Any], dict[str, tuple[str, ...]]] = field(default=lambda settings: {})

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a run's metrics.csv: losses, what the training loop notes, validation."""
        losses = tuple(objective.name for objective in self.objectives)
        return ("step", "loss", *losses, *LOOP_COLUMNS, *self.validation_columns, "seconds")

    @property
    def validation_columns(self) -> tuple[str, ...]:
        """What a validation adds to a record."""
        columns = ["validation_r1"] if CONTRAST in self.can else []
        columns += ["validation_itm_accuracy"] if MATCH in self.can else []
        return tuple(dict.fromkeys((*columns, self.best)))

    def chance_losses(self, model: Any, B: int) -> dict[str, float]:
        """Return each objective's loss of a uniform prediction for a batch of B pairs."""
        return {objective.name: objective.chance(model, B) for objective in self.objectives}


#: What the training loop notes of every step, whatever the model.
LOOP_COLUMNS = ("temperature", "learning_rate", "gradient_norm", "duplicate_captions")

_SPECS: dict[str, ModelSpec] = {}


def register(spec: ModelSpec) -> ModelSpec:
    """Make a model known to the package, and return its spec; UsageError for a name that is taken."""
    there = _SPECS.get(spec.name)
    if there is not None and there.model is not spec.model:
        raise UsageError(
            f"each model has a name of its own, and {spec.name!r} is that of "
            f"{there.model.__name__}; choose another"
        )
    _SPECS[spec.name] = spec
    return spec


def registered() -> Iterator[ModelSpec]:
    """Yield the specs that are registered so far, in their order."""
    yield from _SPECS.values()
