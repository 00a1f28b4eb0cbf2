"""`ablate blip2`: what each of stage 1's three losses, and each of its three masks, is for, by doing without it.

Every row is the same model from the same seed on the same frozen encoder for the same steps, with
one thing changed: a loss left out, one objective under another's mask, or a shared embedding space
of a few numbers only. A wrong mask is a leak: the loss falls faster, and what it was to teach is
not learned. In a narrow shared embedding space ITC must say in few numbers what ITM, which sees
picture and text together, need not say at all.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import UsageError
from tinymm.layers import bidirectional_mask, unimodal_mask
from tinymm.tasks import blip2_stage1, clip
from tinymm.training.records import write_json

from ..measure import measure
from ..run_folder import finished
from ..runs.prepare import plan
from ..runs.run import run as train
from ..runs.run import trained
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
    "embed_dim 4": ({"embed_dim": 4}, {}),
    "embed_dim 2": ({"embed_dim": 2}, {}),
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

    `encoder` is a run of `train clip --data shapes`; without one it is trained first for
    `encoder_steps`, into `runs/ablation-encoder`. UsageError for a row that is none, and for
    settings or an encoder that do not fit, before anything is trained.
    """
    base = blip2_stage1.BLIP2Stage1Settings(
        steps=steps,
        data="shapes",
        encoder=encoder,
        encoder_steps=encoder_steps,
        seed=seed,
        workers=workers,
        backend=backend,
    )
    unknown = sorted(set(only or ()) - set(VARIANTS))
    if unknown:
        raise UsageError(
            f"the rows are {', '.join(map(repr, VARIANTS))}, and {unknown[0]!r} came; correct the name"
        )
    plan(blip2_stage1.spec, base, say)
    if encoder is None:
        base = replace(base, encoder=str(_encoder(base, say)))
    names = [name for name in VARIANTS if not only or name in only]
    table: dict[str, dict[str, float]] = {}
    say(head(20, list(COLUMNS)))
    for name in names:
        with doing(f"training and measuring: {name}"):
            table[name] = _variant(name, base, say)
        say(row(20, name, table[name].values()))
        if out:
            write_json(out, {"steps": steps, "seed": seed, "rows": table})
    return table


#: Where the encoder of all rows is trained, where none is named.
ENCODER = Path("runs/ablation-encoder")


def _encoder(base: Any, say: Callable[[str], None]) -> Path:
    """Return the run of the image encoder, after training it if it is not there yet."""
    if finished(ENCODER):
        say(f"encoder: {ENCODER}, there already")
        return ENCODER
    settings = clip.CLIPSettings(**blip2_stage1.encoder_settings(base))
    begun = str(ENCODER) if (ENCODER / "run.json").exists() else None
    say(f"no --encoder is named: CLIP is trained first, for {settings.steps} steps, into {ENCODER}")
    out, command = str(ENCODER), "ablate blip2: encoder"
    return train(clip.spec, settings, out, resume=begun, command=command, say=say)


def _variant(name: str, base: Any, say: Callable[[str], None]) -> dict[str, float]:
    changed, masks = VARIANTS[name]
    planned = plan(blip2_stage1.spec, replace(base, **changed), say)
    planned.model.masks |= masks
    results: dict[str, Any] = measure(trained(planned), planned.source)
    return {column: results[key] for column, key in COLUMNS.items()}
