"""`ablate albef`: what the hard negatives, the slow twin, its queue and its soft targets are for, by doing without each.

Every row is the same model from the same seed on the same batches of shapes for the same steps, with one thing changed. Wrong pairs that are drawn
at random differ in most things, so matching learns from them what contrast knows already; the swaps, which differ in one thing, tell.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.autodiff import Tensor
from tinymm.losses import hard_negatives
from tinymm.models.albef import ALBEF
from tinymm.training.records import write_json

from ..measure import measure
from ..runs.towers_setup import Settings, opened
from ..terminal import doing, head, row, tell
from .ablate_blip import trained

#: Column → the result that it is made of; larger is better.
COLUMNS = {
    "ITC R@1": "held_out_itc_r1", "re-ranked R@1": "held_out_itm_reranked_r1", "ITM, hardest": "held_out_itm_accuracy",
    "attribute swaps, ITM": "swap_attribute_itm", "relation swaps, ITM": "swap_relation_itm", "object swaps, ITM": "swap_object_itm",
    "MLM": "held_out_mlm_accuracy",
}  # fmt: skip


def with_random_negatives(model: ALBEF, images: Any, ids: np.ndarray, is_real: np.ndarray, **options: Any) -> dict[str, Tensor]:
    """Return the losses (B pairs) with each wrong pair drawn evenly: any picture, any text of the batch but the own, whatever contrast says."""
    alike = np.zeros((len(ids), len(ids)))
    return model.losses(images, ids, is_real, negatives=hard_negatives(alike, options["image_ids"], options["rng"]), **options)


def with_objectives(model: ALBEF, *arguments: Any, objectives: tuple[str, ...], **options: Any) -> dict[str, Tensor]:
    """Return the losses of these objectives only."""
    return model.losses(*arguments, objectives=objectives, **options)


#: What is changed → (settings changed, what replaces the model's losses).
ROWS: dict[str, tuple[dict[str, Any], Callable | None]] = {
    "ALBEF": ({}, None),
    "random negatives": ({}, with_random_negatives),
    "one-hot targets": ({"alpha": 0.0}, None),
    "queue of one batch": ({"queue": 1}, None),
    "twin copies at once": ({"momentum": 0.0}, None),
    "no twin, no queue": ({"momentum": None}, None),
    "without MLM": ({}, partial(with_objectives, objectives=("itc", "itm"))),
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
        raise UsageError(f"the rows are {', '.join(map(repr, ROWS))}, and {unknown[0]!r} came; correct the name")
    base: dict[str, Any] = {"model": "albef", "steps": steps, "seed": seed, "workers": workers, "backend": backend}
    found: dict[str, Any] = {"settings": asdict(Settings(**base)), "rows": {}}
    say(head(20, list(COLUMNS)))
    for name, (changed, losses) in ROWS.items():
        if only and name not in only:
            continue
        settings = Settings(**base | changed)
        source = opened(settings)
        with doing(f"training and measuring: {name}"):
            model, _ = trained(settings, source, losses)
            results = measure(model, source)
        found["rows"][name] = {column: results.get(key) for column, key in COLUMNS.items()}
        if "chance" not in found:  # for MLM it is the same model beside another picture, so that of the first row
            found["chance"] = {column: results["chance"].get(key) for column, key in COLUMNS.items()}
        say(row(20, name, found["rows"][name].values()))
        if out:
            write_json(out, found)
    say(row(20, "knowing nothing", found["chance"].values()))
    return found
