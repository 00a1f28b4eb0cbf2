"""The training loop: a function that yields one record a step, which the caller prints, stores or ignores."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module, to_device_like, to_host
from tinymm.arrays.errors import GraphError, UsageError
from tinymm.arrays.random import generator
from tinymm.autodiff import detect_anomaly
from tinymm.data.batches import Batch, Source, batch_indices
from tinymm.layers import Module
from tinymm.tasks import StepResult, Task, spec_of
from tinymm.tasks.step import whole

from .gradient_cache import gradient_cached
from .mpi import current_group
from .optimizers import AdamW
from .parallel import threads
from .schedules import warmup_cosine

#: A step says itself, in one sentence, where its numbers are not finite; NumPy's warnings would say
#: it first, with the paths of our files.
QUIET = partial(np.errstate, over="ignore", divide="ignore", invalid="ignore")


@dataclass(frozen=True)
class TrainConfig:
    """Hyperparameters of a training loop; CLIP's own are in Table 18 of the paper.

    `grad_cache` pairs are embedded at a time, where a batch's whole graph would not fit
    (`gradient_cache`); the gradient is the same. UsageError for a batch that has nothing to tell
    apart, or a run of no steps.

    >>> TrainConfig(steps=100).batch_size
    128
    """

    steps: int
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup: int = 60
    max_grad_norm: float | None = 1.0
    seed: int = 0
    workers: int = 1
    overfit: int | None = None
    grad_cache: int | None = None

    def __post_init__(self):
        if self.batch_size < 2:
            raise UsageError(
                f"a contrastive batch needs at least 2 pairs and {self.batch_size} came: with nothing to tell apart its loss is always 0; "
                "raise --batch-size"
            )
        if self.overfit is not None and self.overfit < 2:
            raise UsageError(
                f"overfitting needs at least 2 pairs to tell apart and {self.overfit} came; raise --overfit"
            )
        if self.steps < 1:
            raise UsageError(f"a run needs at least 1 step and {self.steps} came; raise --steps")


def train(
    model: Module,
    source: Source,
    optimizer: AdamW,
    recipe: TrainConfig,
    *,
    start: int = 0,
    task: Task | None = None,
) -> Iterator[dict[str, Any]]:
    """Train from step `start` to the recipe's last and yield a record after each step: its number, losses, scale, rate, gradient norm, seconds.

    All are of the step's forward and backward pass; so the scale, or the temperature, is what these
    losses were computed with. `task` is what the model is trained on, by default that of its spec
    (`tasks`); a changed one leaves an objective out, say.

    A step depends on (seed, step) and the state of model and optimizer alone, so a run that goes on
    from a checkpoint is bitwise the uninterrupted one. A loss or gradient that is not finite is
    computed once more with every op checked, to name the op that produced it first: GraphError,
    before any parameter has changed. UsageError for data of one pair.
    """
    if len(source) < 2:
        raise UsageError(
            f"a contrastive batch needs at least 2 pairs and the data has {len(source)}; add pictures with captions"
        )
    model.train()
    task = task or spec_of(model).task
    with threads(recipe.workers) as split:
        split = gradient_cached(split, recipe.grad_cache) if recipe.grad_cache else split
        for step in range(start, recipe.steps):
            began = time.perf_counter()
            batch = batch_at(source, recipe, step)
            with QUIET():
                result = _step(task, model, batch, generator(recipe.seed, 2, step), split)
                total = reduce(add, result.losses.values())
                total.backward()
                norm = optimizer.gradient_norm()
                losses = {name: loss.data for name, loss in result.losses.items()}
                said = _fetched(
                    {"loss": total.data, **losses, **task.notes(model), "gradient_norm": norm}
                )
            if not np.isfinite([said["loss"], said["gradient_norm"]]).all():
                _explain(task, model, batch, recipe, step)
            current_group().check_agreement(f"gradient norms at step {step + 1}", norm)
            learning_rate = warmup_cosine(
                step, recipe.steps, recipe.learning_rate, min(recipe.warmup, recipe.steps)
            )
            with QUIET():
                optimizer.step(learning_rate, recipe.max_grad_norm, norm)
                task.after_step(model, result.memory)
            yield {
                "step": step + 1,
                **said,
                "learning_rate": learning_rate,
                "duplicate_captions": len(batch.captions) - len(set(batch.captions)),
                "seconds": time.perf_counter() - began,
            }


def _fetched(numbers: dict[str, Any]) -> dict[str, float]:
    """Bring a step's numbers to the host in one transfer, its only one.

    A GPU works behind the host, which waits for it whenever it asks for a number. It asks once a
    step and here, between the backward pass and the optimizer, because a step whose numbers are not
    finite must not change a parameter; the optimizer then works while the host makes the next
    batch.
    """
    module = array_module(*numbers.values())
    together = np.stack([module.asarray(x) for x in numbers.values()])
    return dict(zip(numbers, to_host(together).tolist(), strict=True))


def batch_at(source: Source, recipe: TrainConfig, step: int) -> Batch:
    """Return the batch of a step, counted from 0: all of the data, or of the first `overfit` pairs, where that is less than a batch."""
    pairs = min(recipe.overfit or len(source), len(source))
    batch_size = min(recipe.batch_size, pairs)
    if recipe.overfit is not None:
        # The same batches with the same augmentation again and again: the question is whether the model *can* learn these pairs.
        step %= pairs // batch_size
    else:
        return source.batch(
            source.batch_indices(batch_size, step, recipe.seed), generator(recipe.seed, 1, step)
        )
    return source.batch(
        batch_indices(pairs, batch_size, step, recipe.seed), generator(recipe.seed, 1, step)
    )


def _step(
    task: Task, model: Any, batch: Batch, rng: np.random.Generator, split: Callable
) -> StepResult:
    images = to_device_like(batch.images, model.parameters()[0].data)
    return task.step(
        model, images, batch.ids, batch.is_real, rng=rng, image_ids=batch.image_ids, split=split
    )


def _explain(task: Task, model: Any, batch: Batch, recipe: TrainConfig, step: int) -> None:
    """Run the step again with anomaly detection, which raises at the op that gave the first number that is not finite."""
    split = gradient_cached(whole, recipe.grad_cache) if recipe.grad_cache else whole
    with detect_anomaly(), np.errstate(all="ignore"):
        try:
            result = _step(task, model, batch, generator(recipe.seed, 2, step), split)
            reduce(add, result.losses.values()).backward(into={})
        except GraphError as error:
            raise GraphError(f"step {step + 1} is not finite: {error}") from None
    raise GraphError(
        f"step {step + 1} was not finite and is finite when computed again op by op; numbers near the largest may have been summed: lower "
        "the learning rate"
    )
