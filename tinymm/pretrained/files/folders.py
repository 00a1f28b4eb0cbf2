"""From a path to arrays: which file of a folder holds the weights, of what kind it is, and which settings lie beside it."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError

from ..key_maps import tied_keys
from .safetensors import read_json, read_safetensors
from .torch import RESAVE, read_torch_file
from .unwrapped import plain_keys

_WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "open_clip_model.safetensors", "open_clip_pytorch_model.bin",
)  # fmt: skip


@dataclass
class Weights:
    """What lies on the disk: arrays by their keys, keys that share one array, and the descriptions beside them (empty if there are none).

    `settings` is config.json, `open_clip` is open_clip_config.json; which of them counts, the
    layout of the keys decides. `unused` names what else the file holds.
    """

    path: Path
    arrays: dict[str, np.ndarray]
    settings: dict[str, Any] = field(default_factory=dict)
    open_clip: dict[str, Any] = field(default_factory=dict)
    tied: list[tuple[str, ...]] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def read_weights(path: str | os.PathLike) -> Weights:
    """Return the arrays and settings of a model's folder, or of a file of weights and the settings beside it.

    In a folder, `model.safetensors`, its sharded form, `pytorch_model.bin`, its sharded form and
    open_clip's two names are looked for in this order, then the only file that ends in
    .safetensors, .pt, .pth or .bin. Files are told apart by their first bytes. What training
    programs wrap around keys is taken off. CheckpointError for a path where nothing is, for a file
    without arrays, and for a folder whose adapter (LoRA) other programs would add to the weights.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(
            f"a model is a folder or a file of weights, {str(path)!r} does not exist; check the path"
        )
    weights = _find(path) if path.is_dir() else path
    if path.is_dir() and (path / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{str(path)!r} holds adapter_config.json: weights that are added to those of the model, which is not done here; merge them first "
            "(merge_and_unload in peft), or name the file of the model's own weights"
        )
    unused: list[str] = []
    arrays = (
        _read_shards(weights, unused)
        if weights.name.endswith(".index.json")
        else read_arrays(weights, unused)
    )
    if not arrays:
        raise CheckpointError(
            f"{weights.name}: a file of weights names at least one array, this one names none; copy the file again"
        )
    try:
        arrays = plain_keys(arrays, unused)
    except CheckpointError as problem:
        raise CheckpointError(f"{weights.name}: {problem}") from None
    described = [weights.parent / name for name in ("config.json", "open_clip_config.json")]
    settings, open_clip = (read_json(file) if file.is_file() else {} for file in described)
    if not isinstance(settings.get("model_type"), str | None):
        raise CheckpointError(
            f"config.json: model_type is a name, {settings['model_type']!r} came; copy the file again"
        )
    return Weights(weights, arrays, settings, open_clip, tied_keys(arrays), unused)


def _find(folder: Path) -> Path:
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    files = sorted(p for p in folder.iterdir() if p.is_file())
    single = [p for p in files if p.suffix in (".safetensors", ".pt", ".pth", ".bin")]
    if len(single) == 1:
        return single[0]
    held = ", ".join(p.name for p in (single or files)[:5]) or "no file"
    raise CheckpointError(
        f"a model's folder holds {_WEIGHTS[0]}, {_WEIGHTS[2]} or one single file of weights; {str(folder)!r} holds {held}; name the file itself"
    )


def read_arrays(path: Path, unused: list[str] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of one file, safetensors or torch's zip archive; its first bytes tell which. CheckpointError for any other file.

    What else it holds is named in `unused`.
    """
    with open(path, "rb") as file:
        start = file.read(16)
    if start[:4] == b"PK\x03\x04":
        return read_torch_file(path, unused)
    if start[8:9] == b"{":
        return read_safetensors(path)
    if start[:1] == b"\x80":
        raise CheckpointError(
            f"{path.name}: a torch file is a zip archive since torch 1.6, this one is a bare pickle of before, which is never opened "
            f"here; save it anew with {RESAVE}"
        )
    if start.startswith(b"version https://"):
        raise CheckpointError(
            f"{path.name}: this is a pointer of Git LFS and not the weights; fetch them with `git lfs pull`"
        )
    raise CheckpointError(
        f"{path.name}: weights are a safetensors file or a torch zip archive, this file begins with {start[:8]!r}; copy the file again"
    )


def _read_shards(index: Path, unused: list[str]) -> dict[str, np.ndarray]:
    """Return the arrays of all the files that an index names; it may name files of its own folder only."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(
            f"{index.name}: an index maps keys to file names under 'weight_map'; copy the file again"
        )
    arrays: dict[str, np.ndarray] = {}
    for name in sorted(set(places.values())):
        shard = index.parent / name
        if not re.fullmatch(r"[\w-][\w.-]*", name, re.ASCII):
            raise CheckpointError(
                f"{index.name}: an index names files of its own folder, {name!r} is no plain name; edit the index"
            )
        if not shard.is_file():
            raise CheckpointError(
                f"{index.name}: the index names {name!r}, which is not in {str(index.parent)!r}; copy that file too"
            )
        for key, array in read_arrays(shard, unused).items():
            if places.get(key) != name:
                raise CheckpointError(
                    f"{index.name}: {name!r} holds {key!r}, which the index puts in {places.get(key)!r}; copy both again"
                )
            arrays[key] = array
    absent = [key for key in places if key not in arrays]
    if absent:
        few = ", ".join(map(repr, absent[:5]))
        raise CheckpointError(
            f"{index.name}: no file holds {few} ({len(absent)} keys in all); copy the files again"
        )
    return arrays
