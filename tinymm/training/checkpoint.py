"""Training checkpoints: parameters, optimizer and step in one file, from which a run resumes bitwise. Replaced atomically.

Nothing random is kept: batches and augmentation are functions of (seed, step), see `arrays.random`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError
from tinymm.layers import Module
from tinymm.pretrained.files.safetensors import write_safetensors

from .optimizers import AdamW
from .records import of_kind

FILE = "checkpoint.safetensors"


def save_checkpoint(
    folder: Path, model: Module, optimizer: AdamW, progress: dict[str, Any]
) -> None:
    """Write `checkpoint.safetensors` into the run folder; a crash in the middle leaves the former one whole."""
    arrays = {f"model.{name}": a for name, a in model.state_dict().items()}
    arrays |= {f"optimizer.{name}": a for name, a in optimizer.state_dict().items()}
    write_safetensors(folder / FILE, arrays, {"progress": json.dumps(progress)})


def load_checkpoint(folder: Path, model: Module, optimizer: AdamW) -> None:
    """Take model and optimizer back to where the checkpoint was written; CheckpointError if there is none or it is another model's."""
    arrays, _ = _read(folder)
    parts: dict[str, dict] = {"model": {}, "optimizer": {}}
    for name, array in arrays.items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise CheckpointError(
                f"{folder / FILE} is no checkpoint of a run (it holds {name!r}); start a new run"
            )
        parts[part][rest] = array
    optimizer.load_state_dict(parts["optimizer"])
    model.load_state_dict(parts["model"])


def read_progress(folder: Path) -> dict[str, Any]:
    """Return what was known when the checkpoint was written: the step, the best validation so far and its step."""
    return _read(folder)[1]


def _read(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.exists():
        raise CheckpointError(
            f"{folder} holds no {FILE} to resume from; start a new run, or give the folder of one that was stopped"
        )
    try:
        with safe_open(path, "np") as stored:
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
            progress = json.loads(stored.metadata()["progress"])
            kinds = {"step": int, "best": float, "best_step": int}
            for name, kind in kinds.items():
                if name in progress and not of_kind(progress[name], kind):
                    raise TypeError(f"its {name} is {progress[name]!r}")
            return arrays, progress
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path} is no checkpoint of a run ({error}); start a new run"
        ) from None
