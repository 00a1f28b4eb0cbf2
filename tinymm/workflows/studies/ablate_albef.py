"""`ablate albef`: what hard negatives, momentum encoder, queue and pseudo-targets are for, by doing without each.

Every row is the same model from the same seed on the same batches of shapes for the same steps,
with one thing changed. Wrong pairs that are drawn at random differ in most things, so matching
learns from them what contrast knows already; the swaps, which differ in one thing, tell.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.losses import hard_negatives
from tinymm.models.albef import ALBEF
from tinymm.tasks import StepResult, Task, albef
from tinymm.training.records import write_json

from ..measure import measure
from ..runs.prepare import plan
from ..runs.run import trained
from ..terminal import doing, head, row, tell

#: Column → the result that it is made of; larger is better.
COLUMNS = {
    "ITC R@1": "held_out_itc_r1", "re-ranked R@1": "held_out_itm_reranked_r1", "ITM, hardest": "held_out_itm_accuracy",
    "attribute swaps, ITM": "swap_attribute_itm", "relation swaps, ITM": "swap_relation_itm", "object swaps, ITM": "swap_object_itm",
    "MLM": "held_out_mlm_accuracy",
}  # fmt: skip


def with_random_negatives(
    model: ALBEF, images: Any, ids: np.ndarray, is_real: np.ndarray, **options: Any
) -> StepResult:
    """Return ALBEF's step with negatives drawn evenly from the batch, whatever the similarity is."""
    alike = np.zeros((len(ids), len(ids)))
    negatives = hard_negatives(alike, options["image_ids"], options["rng"])
    return albef.step(model, images, ids, is_real, negatives=negatives, **options)


#: What is changed → (settings changed, the task in place of the spec's).
ROWS: dict[str, tuple[dict[str, Any], Task | None]] = {
    "ALBEF": ({}, None),
    "random negatives": ({}, replace(albef.spec.task, step=with_random_negatives)),
    "one-hot targets": ({"alpha": 0.0}, None),
    "queue of one batch": ({"queue": 1}, None),
    "momentum of 0": ({"momentum": 0.0}, None),
    "no momentum encoder": ({"momentum": None}, None),
    "without MLM": ({}, albef.spec.task.with_options(objectives=("itc", "itm"))),
}


def run(
    out: str | None = None,
    *,
    steps: int = 1000,
    only: list[str] | None = None,
    seed: int = 0,
    workers: int | None = None,
    backend: str = "numpy",
    say: Callable[[str], None] = tell,
) -> dict[str, Any]:
    """Train each row for `steps`, print the table as it grows, and return it with its chance levels; write it to the JSON file `out` if given.

    Raises `UsageError` for the name of a row that there is not.
    """
    unknown = sorted(set(only or ()) - set(ROWS))
    if unknown:
        raise UsageError(
            f"the rows are {', '.join(map(repr, ROWS))}, and {unknown[0]!r} came; correct the name"
        )
    base: dict[str, Any] = {"steps": steps, "seed": seed, "workers": workers, "backend": backend}
    found: dict[str, Any] = {"settings": asdict(albef.ALBEFSettings(**base)), "rows": {}}
    say(head(20, list(COLUMNS)))
    for name, (changed, task) in ROWS.items():
        if only and name not in only:
            continue
        planned = plan(albef.spec, albef.ALBEFSettings(**base | changed), say)
        with doing(f"training and measuring: {name}"):
            results = measure(trained(planned, task), planned.source)
        found["rows"][name] = {column: results.get(key) for column, key in COLUMNS.items()}
        if (
            "chance" not in found
        ):  # for MLM it is the same model beside another picture, so that of the first row
            found["chance"] = {
                column: results["chance"].get(key) for column, key in COLUMNS.items()
            }
        say(row(20, name, found["rows"][name].values()))
        if out:
            write_json(out, found)
    say(row(20, "chance level", found["chance"].values()))
    return found
