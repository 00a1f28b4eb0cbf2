"""`ModelSpec`: all that the rest of the package must know of a model, declared beside its step.

Commands, flags, tables, curves and reports are derived from the specs that are registered here;
nothing outside of this chapter asks what class a model is of.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
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


def _nothing_to_note(model: Any) -> dict[str, Any]:
    """Return no numbers."""
    return {}


@dataclass(frozen=True)
class Task:
    """One training step of a model, and what moves between two steps.

    `step(model, images, ids, is_real, *, rng, image_ids, split, …) -> StepResult` computes the
    losses of images (B, h, w, c) with texts ids and is_real (B, T) and changes nothing: the same
    inputs and draws give the same numbers. `after_step(model, memory)` alone changes the model,
    after the optimizer has: the momentum encoder, the feature queue, the clamp of a temperature.
    `notes(model)` are numbers that a record keeps of the step, such as the temperature that it
    used, still on the device.
    """

    step: Callable[..., StepResult]
    after_step: Callable[[Any, Any], None] = _nothing_moves
    notes: Callable[[Any], dict[str, Any]] = _nothing_to_note

    def with_options(self, **options: Any) -> "Task":
        """Return the task whose step is always given these options, such as `objectives`."""
        return replace(self, step=partial(self.step, **options))


@dataclass(frozen=True)
class Objective:
    """One loss of a model: its short `name` ("itc"), its `title`, and what it asks in a `sentence`.

    `chance(model, B)` is the loss of a uniform prediction for a batch of B pairs and `formula` its
    formula, in which B, K and V stand for the batch, the queue and the vocabulary. `mask` names the
    attention mask under which it is computed, where the objective has one of its own; `ability` is
    what the model learns by it.
    """

    name: str
    title: str
    sentence: str
    chance: Callable[[Any, int], float]
    formula: str
    mask: str | None = None
    ability: str | None = None


@dataclass(frozen=True)
class Metric:
    """A number of results.json: the regular expression of its `key`, and what it is in `words`.

    `control` says what stands beside it: the chance level, or the run without an image.
    """

    key: str
    words: str
    control: str = "chance"


@dataclass(frozen=True)
class Requirement:
    """A trained model that another one needs: the image encoder of BLIP-2, its language model.

    `setting` is the field that names a run of it, and `spec` the name of its spec. Where the field
    is None it is the last run of that model (`last_run`), or it is trained first, into the folder
    `setting` of the run, with `settings(outer)`: what of the outer run's settings it is trained
    with, on the outer run's own source of data where it is to have the same words (`same_words`).
    """

    setting: str
    spec: str
    settings: Callable[[Any], dict[str, Any]] = lambda outer: {}
    last_run: bool = False
    same_words: bool = False


def _as_it_is(settings: Any, model: Any) -> Any:
    """Return the model itself: fine-tuning changes nothing of it beforehand."""
    return model


def _nothing_idle(settings: Any) -> dict[str, tuple[str, ...]]:
    """Return no fields: all settings have an effect."""
    return {}


#: What a model can do. Commands ask for these, never for a class.
CONTRAST, MATCH, FILL, GENERATE = "contrast", "match", "fill", "generate"
#: What of a model can be drawn: the words' cross-attention to patches, a Q-Former's queries, and
#: the queue of a momentum encoder's features.
GROUND, QUERIES, QUEUE = "ground", "queries", "queue"


def _no_scale(model: Any) -> float:
    """Return 1: similarities are compared as they are."""
    return 1.0


def _same_source(source: Any) -> Any:
    """Return the source itself: the model is trained on its images and captions."""
    return source


@dataclass(frozen=True)
class ModelSpec:
    """A model, its training step, and how it is named, built, trained, evaluated and drawn.

    - `name`: that of `train NAME`, and the beginning of its run folders' names. Specs of one
      `group` are trained by one command, `train GROUP --stage N`, where `sentence` describes the
      stage; `order` is that of the list of commands.
    - `task`, `objectives`, `noted`: its step, its losses, and the columns of `task.notes`.
    - `prepare(settings, source, parts)`: a randomly initialized model for this data, whose texts
      are framed by the special tokens `frame` (None: not framed), cleaned as the paper's code does
      (`cleaning`); `adapted(source)` is what of a source it is trained on. `parts` are the models
      that it `requires`, each under the name of its setting.
    - `fine_tune(settings, model)`: what training with `--init` begins with.
    - `can`: its abilities: CONTRAST (`encode_image`, `encode_text`, `similarity`), MATCH
      (`itm_logits`), FILL (`mlm_logits`), GENERATE (`generate`, `lm_logits`), and what of it can be
      drawn. `parts` names, for each, the beginnings of the names of the weights that it needs,
      since some files lack them.
    - `best`: the validation metric that chooses the best checkpoint, "" for the last step.
    - `metrics`: what its numbers are, in words. `scale(model)` multiplies its similarities in a
      softmax over texts. `reranks_by_logit` is ALBEF's: re-ranking goes by ITM's logit alone, where
      BLIP and BLIP-2 add the similarity.
    - `released`: whether files of other programs hold such models (`pretrained.models`); else its
      files hold its own names, and its `config` as JSON.
    - `idle(settings)`: which fields of the settings have no effect, by the reason.
    """

    name: str
    title: str
    paper: str
    model: type
    config: type
    task: Task
    objectives: tuple[Objective, ...]
    prepare: Callable[[Any, Any, dict[str, Any]], Any]
    settings: type[Settings] = Settings
    can: frozenset[str] = frozenset({CONTRAST})
    best: str = "validation_r1"
    noted: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    frame: tuple[str, ...] | None = None
    cleaning: str = "blip"
    requires: tuple[Requirement, ...] = ()
    fine_tune: Callable[[Any, Any], Any] = _as_it_is
    idle: Callable[[Any], dict[str, tuple[str, ...]]] = _nothing_idle
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    adapted: Callable[[Any], Any] = _same_source
    group: str = ""
    stage: int | None = None
    sentence: str = ""
    scale: Callable[[Any], float] = _no_scale
    order: int = 9
    reranks_by_logit: bool = False
    released: bool = False

    def able(self, model: Any) -> frozenset[str]:
        """Return the abilities for which the model has all weights: some files lack a part."""
        missing = tuple(model.missing())
        lacks = {
            ability
            for ability, parts in self.parts.items()
            if any(name.startswith(parts) for name in missing)
        }
        return self.can - lacks

    @property
    def size_settings(self) -> tuple[str, ...]:
        """The settings that say how large a new model is, which a fine-tuned one brings itself."""
        return tuple(item.name for item in fields(self.settings) if item.metadata.get("size"))

    @property
    def language_objective(self) -> str | None:
        """The name of the loss by which the model learns to write: "lm", "itg"; None without."""
        names = (each.name for each in self.objectives if each.ability == GENERATE)
        return next(names, None)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a run's metrics.csv: losses, what the training loop notes, validation."""
        losses = tuple(objective.name for objective in self.objectives)
        return ("step", "loss", *losses, *self.noted, *LOOP_COLUMNS, *self.validated, "seconds")

    @property
    def validated(self) -> tuple[str, ...]:
        """The columns that a validation adds to a record."""
        columns = list(RETRIEVAL_COLUMNS) if CONTRAST in self.can else []
        columns += ["validation_itm_accuracy"] if MATCH in self.can else []
        return tuple(dict.fromkeys([*columns, *filter(None, [self.best])]))

    def chance_losses(self, model: Any, B: int) -> dict[str, float]:
        """Return each objective's loss of a uniform prediction for a batch of B pairs."""
        return {objective.name: objective.chance(model, B) for objective in self.objectives}


#: What the training loop notes of every step, whatever the model.
LOOP_COLUMNS = ("learning_rate", "gradient_norm", "duplicate_captions")
#: What the validation of a model with the ability CONTRAST adds.
RETRIEVAL_COLUMNS = (
    "validation_r1",
    "validation_image_to_text_r1",
    "validation_text_to_image_r1",
)

_SPECS: dict[str, ModelSpec] = {}


def register(spec: ModelSpec) -> ModelSpec:
    """Make a model known to the package, and return its spec.

    UsageError for a name or a class that has one already.
    """
    for other in _SPECS.values():
        if other.model is spec.model and other.name != spec.name:
            raise UsageError(
                f"a model's class has one spec, and {spec.model.__name__} has that of "
                f"{other.name!r}; derive a class of your own for {spec.name!r}"
            )
    there = _SPECS.get(spec.name)
    if there is not None and there.model is not spec.model:
        raise UsageError(
            f"each model has a name of its own, and {spec.name!r} is that of "
            f"{there.model.__name__}; choose another"
        )
    _SPECS[spec.name] = spec
    if not spec.released:
        from tinymm.pretrained.models.families import register_model_format
        from tinymm.pretrained.models.own import own_model_format

        register_model_format(own_model_format(spec.name, spec.model, spec.config))
    return spec


def registered() -> Iterator[ModelSpec]:
    """Yield the specs that are registered so far, in their order."""
    yield from _SPECS.values()
