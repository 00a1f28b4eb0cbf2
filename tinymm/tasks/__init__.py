"""Chapter 8, what each paper asks of its model in one training step.

One file a paper: `clip` (Figure 3), `albef` (ITC with momentum distillation, ITM, MLM), `blip`
(ITC, ITM, LM), `blip2_stage1` (ITC, ITM, ITG under their masks) and `blip2_stage2` (visual prompts
before a language model, which `language_model` trains). Each begins with the paper's step as one
function to lay beside the paper's section; training calls exactly that function. Below it the file
declares a `ModelSpec` (`spec`), from which commands, flags, tables, curves and reports are derived,
and the settings that differ from the common ones (`settings`). `step` has what all steps check, and
`momentum` what moves between two steps of ALBEF and BLIP.

A model of your own is one such file, or a test that calls `register`.
"""

import importlib
import pkgutil
from typing import Any

from tinymm.arrays.errors import UsageError

from .spec import (
    CONTRAST,
    FILL,
    GENERATE,
    GROUND,
    MATCH,
    QUERIES,
    QUEUE,
    Metric,
    ModelSpec,
    Objective,
    Requirement,
    StepResult,
    Task,
    register,
    registered,
)

__all__ = [
    "CONTRAST",
    "FILL",
    "GENERATE",
    "GROUND",
    "MATCH",
    "QUERIES",
    "QUEUE",
    "Metric",
    "ModelSpec",
    "Objective",
    "Requirement",
    "StepResult",
    "Task",
    "all_specs",
    "losses",
    "register",
    "spec_named",
    "spec_of",
    "spec_or_none",
]


def all_specs() -> list[ModelSpec]:
    """Return the specs of all models: those of this chapter's files, then those of users.

    >>> [spec.name for spec in all_specs()][:2]
    ['albef', 'blip']
    """
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(registered(), key=lambda spec: spec.name)


def spec_named(name: str) -> ModelSpec:
    """Return the spec of that name; UsageError where there is none."""
    for spec in all_specs():
        if spec.name == name:
            return spec
    known = ", ".join(spec.name for spec in all_specs())
    raise UsageError(f"the models are {known}, and {name!r} came; choose one, or register yours")


def spec_or_none(model: Any) -> ModelSpec | None:
    """Return the spec of a model, by its class or the one that this is derived from, or None."""
    for specs in (registered, all_specs):
        known = {spec.model: spec for spec in specs()}
        for kind in type(model).__mro__:
            if kind in known:
                return known[kind]
    return None


def spec_of(model: Any) -> ModelSpec:
    """Return the spec of a model, by its class; UsageError for a model that has none."""
    spec = spec_or_none(model)
    if spec is not None:
        return spec
    raise UsageError(
        f"a model that is trained has a spec with its step, and {type(model).__name__} has none; "
        "declare one with tinymm.tasks.register"
    )


def losses(
    model: Any, images: Any, ids: Any, is_real: Any = None, **options: Any
) -> dict[str, Any]:
    """Return the losses of one training step of any model that has a spec; nothing is changed.

    images (B, h, w, c), ids and is_real (B, T). `options` are those of the model's step, such as
    `rng`, `negatives` or `objectives`.

    >>> import numpy as np
    >>> from tinymm.models.clip import CLIP, CLIPConfig
    >>> model = CLIP(CLIPConfig.tiny(), np.random.default_rng(0))
    >>> batch = np.zeros((2, 32, 32, 3), np.float32), np.array([[5, 49], [6, 49]])
    >>> list(losses(model, *batch))
    ['itc']
    """
    return spec_of(model).task.step(model, images, ids, is_real, **options).losses
