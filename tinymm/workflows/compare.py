"""`compare`: CLIP, ALBEF, BLIP and BLIP-2 trained on the same scenes and budget, in one table and one picture.

The budget is the number of pairs that each system sees: `steps` batches of one size. BLIP-2 stands in front of a frozen encoder, which is that of
the CLIP of this very comparison; its seconds contain CLIP's. Nothing else is shared, and each system's recipe is that of its own `train`.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinymm import pretrained
from tinymm.training.records import next_folder, read_json, write_json
from tinymm.viz import style
from tinymm.viz.systems import systems

from . import blip2_start, towers_start, train, train_blip2, train_towers
from .report import write_report

#: Row of the table → name of the panel and series, and the results that it is read from, the first that a system has.
METRICS = {
    "R@1, ITC": ("held_out_itc_r1", "held_out_r1"), "R@1, ITM": ("held_out_itm_reranked_r1",),
    "right on hard negatives, ITM": ("held_out_itm_accuracy",),
    "attribute swaps, ITC": ("swap_attribute_itc", "swap_attribute"), "attribute swaps, ITM": ("swap_attribute_itm",),
    "relation swaps, ITC": ("swap_relation_itc", "swap_relation"), "relation swaps, ITM": ("swap_relation_itm",),
    "captions exactly right": ("held_out_lm_captions_exact", "held_out_itg_captions_exact"),
}  # fmt: skip
CHANCE = {"right on hard negatives": 2 / 3, "attribute swaps": 0.5, "relation swaps": 0.5, "captions exactly right": 0.0}


def run(
    *,
    steps: int = 800,
    batch_size: int = 64,
    data: str = "shapes",
    seed: int = 0,
    workers: int | None = None,
    backend: str = "numpy",
    out: str | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Train the four systems into a folder, print the table, draw systems.png there, and return the folder.

    A system that the folder holds already is not trained again.
    """
    path = Path(out) if out else next_folder("compare")
    path.mkdir(parents=True, exist_ok=True)
    common: dict[str, Any] = {
        "data": data, "steps": steps, "batch_size": batch_size, "seed": seed, "workers": workers, "backend": backend, "validate_every": steps,
    }  # fmt: skip
    clip = train.Settings(**{**blip2_start.ENCODER, **common})  # type: ignore[arg-type]
    queries = replace(blip2_start.Settings(**common, rate=blip2_start.RATES[1]), encoder=str(path / "clip"))
    trainings: dict[str, Callable[[str], Any]] = {
        "CLIP": lambda out: train.run(clip, out, say=say),
        "ALBEF": lambda out: train_towers.run(towers_start.Settings(model="albef", **common), out, say=say),
        "BLIP": lambda out: train_towers.run(towers_start.Settings(model="blip", **common), out, say=say),
        "BLIP-2": lambda out: train_blip2.run(queries, out, say=say),
    }
    rows: dict[str, dict[str, float | None]] = {}
    for name, training in trainings.items():
        folder = path / name.lower()
        if not (folder / "seconds.json").exists():
            began = time.perf_counter()
            training(str(folder))
            write_json(folder / "seconds.json", time.perf_counter() - began)
        rows[name] = _row(folder)
    rows["BLIP-2"]["seconds"] += rows["CLIP"]["seconds"]  # type: ignore[operator]
    chance = CHANCE | {"R@1": read_json(path / "clip" / "results.json")["chance"]["held_out_r1"]}
    for line in table(rows, chance):
        say(line)
    write_json(path / "results.json", {**rows, "chance": chance, "steps": steps, "batch_size": batch_size})
    style.save(systems(rows, chance), path / "systems.png")
    for name in rows:
        write_report(path / name.lower())
    say(f"folder: {path} · see {path / 'systems.png'}")
    return path


def _row(folder: Path) -> dict[str, float | None]:
    results, model = read_json(folder / "results.json"), pretrained.load(folder)
    found: dict[str, float | None] = {
        name: next((results[key] for key in keys if key in results), None) for name, keys in METRICS.items()
    }
    model.twin = None  # a copy, which is not needed any more
    return found | {"parameters": float(sum(p.size for p in model.parameters())), "seconds": read_json(folder / "seconds.json")}


def table(rows: dict[str, dict[str, float | None]], chance: dict[str, float]) -> list[str]:
    """Return the table as lines, a system a column.

    >>> table({"CLIP": {"R@1, ITC": 0.5, "seconds": 80.0}, "BLIP": {"R@1, ITC": None, "seconds": 90.0}}, {"R@1": 0.02})[1].split()
    ['R@1,', 'ITC', '0.500', '–', '0.020']
    """
    lines = [f"{'':<30}" + "".join(f"{name:>10}" for name in [*rows, "chance"])]
    for metric in dict.fromkeys(name for row in rows.values() for name in row):
        cells = [_written(metric, row.get(metric)) for row in rows.values()]
        level = chance.get(metric, chance.get(metric.split(", ")[0]))
        lines.append((f"{metric:<30}" + "".join(f"{cell:>10}" for cell in [*cells, "" if level is None else f"{level:.3f}"])).rstrip())
    return lines


def _written(metric: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if metric in ("parameters", "seconds") else f"{value:.3f}"
