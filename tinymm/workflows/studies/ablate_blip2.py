"""`ablate blip2`: what each of stage 1's three losses, and each of its three masks, is for, by doing without it.

Every row is the same model from the same seed on the same frozen encoder for the same steps, with one thing changed: a loss left out, one
objective under another's mask, or a joint space of a few numbers only. A wrong mask is a leak: the loss falls faster, and what it was to teach
is not learned. In a narrow joint space ITC must say in few numbers what ITM, which sees picture and text together, need not say at all.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import UsageError
from tinymm.layers import bidirectional_mask, unimodal_mask
from tinymm.training.loop import Recipe, train
from tinymm.training.optimizers import AdamW
from tinymm.training.parallel import default_workers
from tinymm.training.records import write_json

from .. import measure as measured
from ..open_model import open_model
from ..runs.blip2_setup import RATES, Settings, prepare_stage_1, trained_encoder, untrained_encoder
from ..terminal import doing, head, row, tell

#: What is changed → (settings changed, masks replaced).
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Callable]]] = {
    "all three": ({}, {}),
    "without ITC": ({"objectives": "itm,itg"}, {}),
    "without ITM": ({"objectives": "itc,itg"}, {}),
    "without ITG": ({"objectives": "itc,itm"}, {}),
    "ITC under ITM's mask": ({}, {"itc": bidirectional_mask}),
    "ITG under ITM's mask": ({}, {"itg": bidirectional_mask}),
    "ITM under ITC's mask": ({}, {"itm": unimodal_mask}),
    "joint space of 4": ({"joint": 4}, {}),
    "joint space of 2": ({"joint": 2}, {}),
}
#: Column → the results that it is made of.
COLUMNS = {
    "ITC R@1": "held_out_itc_r1", "ITM re-ranked R@1": "held_out_itm_reranked_r1", "ITM accuracy": "held_out_itm_accuracy",
    "ITG perplexity": "held_out_itg_perplexity",
    "captions exact": "held_out_itg_captions_exact", "attribute swaps, ITC": "swap_attribute_itc", "attribute swaps, ITM": "swap_attribute_itm",
    "relation swaps, ITC": "swap_relation_itc", "relation swaps, ITM": "swap_relation_itm",
}  # fmt: skip


def run(
    encoder: str | None = None,
    out: str | None = None,
    *,
    steps: int = 400,
    encoder_steps: int = 1000,
    only: list[str] | None = None,
    seed: int = 0,
    workers: int | None = None,
    backend: str = "numpy",
    say: Callable[[str], None] = tell,
) -> dict[str, dict[str, float]]:
    """Train every variant for `steps` on shapes, print the table as it grows, and return it; write it to the JSON file `out` if given.

    `encoder` is a run of `train clip --data shapes`; without one it is trained first for `encoder_steps`, into `runs/ablation-encoder`.
    UsageError for a row that is none, and for settings or an encoder that do not fit, before anything is trained.
    """
    base = Settings(
        steps=steps, rate=RATES[1], data="shapes", encoder=encoder, encoder_steps=encoder_steps, seed=seed, workers=workers, backend=backend
    )
    unknown = sorted(set(only or ()) - set(VARIANTS))
    if unknown:
        raise UsageError(f"the rows are {', '.join(map(repr, VARIANTS))}, and {unknown[0]!r} came; correct the name")
    prepare_stage_1(base, open_model(encoder, backend=backend) if encoder else untrained_encoder(base))
    if encoder is None:
        base = replace(base, encoder=str(trained_encoder(base, Path("runs/ablation-encoder"), "ablate blip2", say)))
    names = [name for name in VARIANTS if not only or name in only]
    table: dict[str, dict[str, float]] = {}
    say(head(20, list(COLUMNS)))
    for name in names:
        with doing(f"training and measuring: {name}"):
            table[name] = _variant(name, base)
        say(row(20, name, table[name].values()))
        if out:
            write_json(out, {"steps": steps, "seed": seed, "rows": table})
    return table


def _variant(name: str, base: Settings) -> dict[str, float]:
    changed, masks = VARIANTS[name]
    settings = replace(base, **changed)
    objectives = tuple(settings.objectives.split(","))
    source, model = prepare_stage_1(settings, open_model(settings.encoder, backend=settings.backend))
    model.masks |= masks
    workers = settings.workers or (default_workers(model) if settings.backend == "numpy" else 1)
    recipe = Recipe(settings.steps or 1, settings.batch_size, settings.rate or 0.0, settings.warmup, settings.clip, settings.seed, workers)
    optimizer = AdamW(model, decay=settings.decay, betas=(0.9, 0.98), eps=1e-8)
    for _ in train(model, source, optimizer, recipe, losses=partial(model.losses, objectives=objectives)):
        pass
    results: dict[str, Any] = measured.measure(model, source)
    return {column: results[key] for column, key in COLUMNS.items()}
