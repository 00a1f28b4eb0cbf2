"""What all training runs do at every step: log the record, validate and keep the model, write a checkpoint, tell the reader how it goes."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tinymm.data.batches import Source
from tinymm.tasks import Task
from tinymm.training.checkpoint import save_checkpoint
from tinymm.training.loop import TrainConfig, train
from tinymm.training.optimizers import AdamW
from tinymm.training.records import RunFolder

from .terminal import doing


def learn(
    folder: RunFolder,
    model: Any,
    source: Source,
    optimizer: AdamW,
    recipe: TrainConfig,
    progress: dict[str, Any],
    *,
    chance: float,
    checkpoint_every: int,
    validate_every: int,
    validate: Callable[[], dict[str, float]],
    keep: Callable[[], None],
    say: Callable[[str], None],
    best_of: str = "validation_r1",
    task: Task | None = None,
) -> None:
    """Run the loop from `progress["step"]` on; update `progress` in place.

    `validate()` gives columns of the record; `keep()` writes the model whenever its `best_of` is
    the best so far (later ones win a tie), and at the end if it never was. `chance` is the loss of
    a uniform prediction, said beside the loss; `task` replaces the model's own, as in `train`.
    """
    from tqdm import tqdm

    duplicates, recent = 0, []
    bar = tqdm(
        total=recipe.steps,
        initial=progress["step"],
        unit="step",
        mininterval=1.0,
        dynamic_ncols=True,
        disable=None,
    )
    name = best_of.removeprefix("validation_").replace("_", " ").replace("r1", "R@1")
    state = f"training, from step {progress['step']} of {recipe.steps}"
    with bar, doing((lambda: state) if bar.disable or not sys.stdout.isatty() else None):
        for record in train(model, source, optimizer, recipe, start=progress["step"], task=task):
            step = record["step"]
            progress["step"] = step
            state = (
                f"step {step}/{recipe.steps}  loss {record['loss']:.3f} (equal scores {chance:.3f})"
            )
            duplicates += record["duplicate_captions"]
            recent.append(record["loss"])
            last = step == recipe.steps
            if step % validate_every == 0 or last:
                found = validate()
                model.train()
                record |= found
                if best_of in found:
                    if found[best_of] >= progress["best"]:
                        progress |= {"best": found[best_of], "best_step": step}
                        keep()
                    if bar.disable:
                        say(f"{state}  validation {name} {found[best_of]:.3f}")
            folder.append({key: value for key, value in record.items() if key in folder.columns})
            bar.update()
            best = f", best {name} {progress['best']:.3f}" if progress["best_step"] else ""
            bar.set_postfix_str(
                f"loss {record['loss']:.3f} (equal scores {chance:.3f}){best}", refresh=False
            )
            if step % checkpoint_every == 0 and not last:
                save_checkpoint(folder.path, model, optimizer, progress)
            if len(recent) == step == 50 and np.mean(recent[-20:]) > chance - 0.05:
                say(
                    f"the loss is still that of equal scores, {chance:.2f}: try another --learning-rate, or --overfit 64 first"
                )
    if progress["best_step"] == 0:
        keep()
    _warn(duplicates, len(recent), source, say)


def _warn(duplicates: int, steps: int, source: Any, say: Callable[[str], None]) -> None:
    if duplicates >= max(1, steps):
        say(
            f"{duplicates / steps:.1f} captions of a batch stand in it more than once: they are each other's wrong answers, so the loss "
            "can't reach 0; give pictures captions of their own, or lower --batch-size"
        )
    if cut := getattr(source.tokenizer, "cut", 0):
        say(
            f"captions longer than {source.tokenizer.context} tokens lost their end, {cut:,} times in all; shorten them"
        )
