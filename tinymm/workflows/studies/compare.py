"""`compare`: CLIP, ALBEF, BLIP and BLIP-2 trained on the same scenes and budget, in one table and one picture.

The budget is the number of pairs that each system sees: `steps` batches of one size. BLIP-2 stands
in front of a frozen encoder, which is that of the CLIP of this very comparison; its seconds contain
CLIP's. Nothing else is shared. ALBEF and BLIP are what their own `train` makes of `steps` and
`batch_size`; CLIP has the sizes and the rate of BLIP-2's picture encoder (`blip2_setup.ENCODER`),
which are not those of `train clip`; and BLIP-2's first stage sees as large batches as the others,
64 pairs, where its own `train` has 32.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tinymm import pretrained
from tinymm.arrays.errors import DataError, UsageError
from tinymm.tasks import albef, blip, blip2_stage1, clip
from tinymm.training.records import next_folder, of_kind, read_json, read_results, write_json
from tinymm.viz import style
from tinymm.viz.models.systems import systems

from ..open_model import settings_of
from ..report import write_report
from ..run_folder import finished
from ..runs.run import run as train
from ..terminal import doing, tell

#: Row of the table → name of the panel and series, and the results that it is read from, the first
#: that a system has.
METRICS = {
    "R@1, ITC": ("held_out_itc_r1", "held_out_r1"), "R@1, ITM": ("held_out_itm_reranked_r1",),
    "right on hard negatives, ITM": ("held_out_itm_accuracy",),
    "attribute swaps, ITC": ("swap_attribute_itc", "swap_attribute"), "attribute swaps, ITM": ("swap_attribute_itm",),
    "relation swaps, ITC": ("swap_relation_itc", "swap_relation"), "relation swaps, ITM": ("swap_relation_itm",),
    "captions exactly right": ("held_out_lm_captions_exact", "held_out_itg_captions_exact"),
}  # fmt: skip
#: What the systems have in common.
BUDGET = ("data", "steps", "batch_size", "seed")
CHANCE = {
    "right on hard negatives": 2 / 3,
    "attribute swaps": 0.5,
    "relation swaps": 0.5,
    "captions exactly right": 0.0,
}


def run(
    *,
    steps: int = 800,
    batch_size: int = 64,
    data: str = "shapes",
    seed: int = 0,
    workers: int | None = None,
    backend: str = "numpy",
    out: str | None = None,
    say: Callable[[str], None] = tell,
) -> Path:
    """Train the four systems into a folder, print the table, draw systems.png there, and return the folder.

    `data` is 'shapes', 'scattered-shapes' or 'web-shapes'. A system that the folder holds already
    is not trained again, and one that was stopped goes on; UsageError for one of another budget,
    DataError for a damaged record of it.
    """
    path = Path(out) if out else next_folder("compare")
    common: dict[str, Any] = {
        "data": data, "steps": steps, "batch_size": batch_size, "seed": seed, "workers": workers, "backend": backend, "validate_every": steps,
    }  # fmt: skip
    encoder = {**blip2_stage1.ENCODER, **common}
    queries = blip2_stage1.BLIP2Stage1Settings(**common, encoder=str(path / "clip"))
    trainings: dict[str, Callable[..., Any]] = {
        "CLIP": partial(train, clip.spec, clip.CLIPSettings(**encoder)),
        "ALBEF": partial(train, albef.spec, albef.ALBEFSettings(**common)),
        "BLIP": partial(train, blip.spec, blip.BLIPSettings(**common)),
        "BLIP-2": partial(train, blip2_stage1.spec, queries),
    }
    for name in trainings:
        same_budget(path / name.lower(), name, {key: common[key] for key in BUDGET})
    rows: dict[str, dict[str, float | None]] = {}
    for name, training in trainings.items():
        folder = path / name.lower()
        if not finished(folder):
            trained(partial(training, command=f"compare: {name}"), folder, say)
        rows[name] = _row(folder)
    parts = [rows[name]["seconds"] for name in ("CLIP", "BLIP-2")]
    rows["BLIP-2"]["seconds"] = None if None in parts else sum(parts)  # type: ignore[arg-type]
    level = read_results(path / "clip").get("chance", {}).get("held_out_r1")
    if not of_kind(level, float):
        raise DataError(
            f"{path / 'clip' / 'results.json'} has no chance level of held_out_r1, which the others are compared with; restore it"
        )
    chance = CHANCE | {"R@1": level}
    for line in table(rows, chance):
        say(line)
    write_json(
        path / "results.json", {**rows, "chance": chance, "steps": steps, "batch_size": batch_size}
    )
    with doing("drawing the pictures"):
        style.save(systems(rows, chance), path / "systems.png")
        for name in rows:
            write_report(path / name.lower())
    say(f"folder: {path} · see {path / 'systems.png'}")
    return path


def same_budget(folder: Path, name: str, asked: dict[str, Any]) -> None:
    """Raise UsageError if the folder holds a system that was trained, or begun, with other settings than those `asked` for."""
    there = settings_of(folder / "run.json") if (folder / "run.json").exists() else {}
    for key, value in asked.items():
        if key in there and there[key] != value:
            raise UsageError(
                f"systems are compared on one budget; the {name} in {folder} has {key} {there[key]} and {value} is asked for; compare them by "
                f"--{key.replace('_', '-')} {there[key]}, or in another folder with --out"
            )


def trained(training: Callable[..., Any], folder: Path, say: Callable[[str], None]) -> None:
    """Train a system into the folder, or go on where it was stopped, and keep how many seconds that has taken in all."""
    kept = folder / "seconds.json"
    before, began = seconds_in(kept) or 0.0, time.perf_counter()
    try:
        training(
            str(folder), resume=str(folder) if (folder / "run.json").exists() else None, say=say
        )
    except KeyboardInterrupt as stop:
        if folder.exists():
            stop.args = (f"it goes on when the same command is given with --out {folder.parent}",)
        raise
    finally:
        if folder.exists():  # not where the settings were refused
            write_json(kept, before + time.perf_counter() - began)


def _row(folder: Path) -> dict[str, float | None]:
    results, model = read_results(folder), pretrained.load(folder)
    odd = [
        key
        for keys in METRICS.values()
        for key in keys
        if not of_kind(results.get(key), float | None)
    ]
    if odd:
        raise DataError(
            f"{folder / 'results.json'} has {odd[0]}, which is a number, as {results[odd[0]]!r:.60}; restore it"
        )
    found: dict[str, float | None] = {
        name: next((results[key] for key in keys if key in results), None)
        for name, keys in METRICS.items()
    }
    # a momentum encoder is a copy, which is not needed any more
    own = [x for name, x in model.named_parameters() if not name.startswith("momentum_encoder.")]
    found["parameters"] = float(sum(parameter.size for parameter in own))
    found["seconds"] = seconds_in(folder / "seconds.json")
    return found


def seconds_in(file: Path) -> float | None:
    """Return how long a system has been trained, None where no file says so; DataError where it says no number."""
    found = read_json(file) if file.exists() else None
    if not of_kind(found, float | None):
        raise DataError(
            f"the seconds of a training are a number, and {file} has {found!r:.60}; delete it"
        )
    return found


def table(rows: dict[str, dict[str, float | None]], chance: dict[str, float]) -> list[str]:
    """Return the table as lines, a system a column.

    >>> table({"CLIP": {"R@1, ITC": 0.5, "seconds": 80.0}, "BLIP": {"R@1, ITC": None, "seconds": 90.0}}, {"R@1": 0.02})[1].split()
    ['R@1,', 'ITC', '0.500', '–', '0.020']
    """
    lines = [f"{'':<30}" + "".join(f"{name:>10}" for name in [*rows, "chance"])]
    for metric in dict.fromkeys(name for row in rows.values() for name in row):
        cells = [_written(metric, row.get(metric)) for row in rows.values()]
        level = chance.get(metric, chance.get(metric.split(", ")[0]))
        lines.append(
            (
                f"{metric:<30}"
                + "".join(
                    f"{cell:>10}" for cell in [*cells, "" if level is None else f"{level:.3f}"]
                )
            ).rstrip()
        )
    return lines


def _written(metric: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if metric in ("parameters", "seconds") else f"{value:.3f}"
