"""Tensors out of torch's zip archives (`.pt`, `.bin`, `.pth`), without torch.

Such a file is a zip archive: `data.pkl` describes the tensors (a slice of a storage each: offset,
shape, strides) and `data/0`, `data/1` … hold the storages' bytes. `torch.save` writes it, and so
does TorchScript, in which OpenAI released CLIP; there the description is a tree of module objects
instead of one dictionary. The description is a pickle: `pickle_reader` reads it as data.
"""

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError

from .pickle_reader import Name, Placeholder, read_pickle
from .safetensors import widen_bfloat16

_DTYPES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128",
}  # fmt: skip
#: Under which names training programs keep the weights, the likeliest first, to any depth; the
#: averages of training are the last choice.
_NESTS = (
    "state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params", "state_dict_ema", "ema_state_dict",
    "model_ema", "ema_model", "ema",
)  # fmt: skip
_MODULES = (
    100_000  # names that a TorchScript tree may have; the largest released CLIP has about 5,000
)
RESAVE = (
    'torch.save(torch.load(path, map_location="cpu"), path) in a torch that you trust the file with'
)


@dataclass(frozen=True)
class _Storage:
    dtype: str | None  # None: the tensor itself says it
    entry: str
    numbers: int


@dataclass(frozen=True)
class _Slice:
    """A tensor as the file describes it, not yet read."""

    storage: _Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _storage(identity: Any) -> _Storage:
    kind, storage_type, entry, _, numbers = identity
    if (
        kind != "storage"
        or not isinstance(storage_type, Name)
        or not isinstance(entry, str)
        or not _counts((numbers,))
    ):
        raise TypeError("persistent id")
    name = storage_type.text.removeprefix("torch.").removeprefix("storage.").removesuffix("Storage")
    if name != "Untyped" and name not in _DTYPES:
        raise CheckpointError(
            f"a storage holds numbers that NumPy knows, this file has {storage_type.text!r}; save the weights as float32"
        )
    return _Storage(_DTYPES.get(name), entry, numbers)


def _counts(numbers: object) -> bool:
    return isinstance(numbers, tuple) and all(type(n) is int and 0 <= n < 2**60 for n in numbers)


def _tensor(
    storage: object, offset: Any, shape: Any, strides: Any, *rest: object, dtype: str | None = None
) -> _Slice:
    """Stand in for `torch._utils._rebuild_tensor_v2`."""
    if not isinstance(storage, _Storage) or not (
        _counts((offset,)) and _counts(shape) and _counts(strides)
    ):
        raise TypeError("tensor")
    dtype = dtype or storage.dtype
    if (
        dtype is None
        or len(shape) != len(strides)
        or len(shape) > 32
        or math.prod(max(n, 1) for n in shape) >= 2**40
    ):
        raise TypeError("tensor")
    return _Slice(storage, dtype, offset, shape, strides)


def _tensor_with_dtype(
    storage: object, offset: Any, shape: Any, strides: Any, *rest: object
) -> _Slice:
    """Stand in for `torch._utils._rebuild_tensor_v3`, in which the tensor brings the dtype (the unsigned ones have no storage type)."""
    dtype = rest[2].text.removeprefix("torch.") if isinstance(rest[2], Name) else ""
    if dtype not in ("uint16", "uint32", "uint64"):
        raise TypeError("dtype")
    return _tensor(storage, offset, shape, strides, dtype=dtype)


def _parameter(tensor: object, *rest: object) -> object:
    return tensor


def _filled(*arguments: object) -> dict:
    """Stand in for the constructors of dictionaries; those of `torch.save` are filled by later instructions."""
    return {}


_KNOWN: dict[str, Callable[..., object]] = {
    "collections.OrderedDict": _filled,
    "collections.defaultdict": _filled,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}


def read_torch_file(
    path: str | os.PathLike, unused: list[str] | None = None
) -> dict[str, np.ndarray]:
    """Return the tensors of a torch zip archive by name; names that are tied in the file share one array.

    Opens a plain state dict, one inside `{"state_dict": …}`, `{"model": …}` and the like, to any
    depth, and TorchScript archives; whatever else the file holds (an optimizer, numbers, other
    tensors beside the nest) is not read, and its names are appended to `unused`. bfloat16 becomes
    float32, everything else keeps its dtype. Raises CheckpointError for files of before torch 1.6,
    for compressed or damaged archives, and for descriptions that reach outside their storage.
    Nothing in the file is executed, and nothing is written.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path, [] if unused is None else unused)
    except CheckpointError:
        raise
    except (
        OSError,
        zipfile.BadZipFile,
        struct.error,
        EOFError,
        ValueError,
        RuntimeError,
        OverflowError,
        zlib.error,
    ) as problem:
        raise CheckpointError(
            f"{path.name}: the archive is damaged or cut short ({problem}); copy the file again"
        ) from problem


def _read_archive(archive: zipfile.ZipFile, path: Path, unused: list[str]) -> dict[str, np.ndarray]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        if entry.filename in entries:
            raise CheckpointError(
                f"{path.name}: an archive names each entry once, {entry.filename!r} comes twice; copy the file again"
            )
        entries[entry.filename] = entry
    roots = [
        name.removesuffix("data.pkl") for name in entries if re.fullmatch(r"[^/]*/data\.pkl", name)
    ]
    if len(roots) != 1:
        raise CheckpointError(
            f"{path.name}: a torch archive has one entry NAME/data.pkl, this one has {len(roots)}; {RESAVE}"
        )
    root = roots[0]
    order = (
        _bytes(archive, entries, root + "byteorder", path)
        if root + "byteorder" in entries
        else b"little"
    )
    if order != b"little":
        raise CheckpointError(
            f"{path.name}: numbers are stored little-endian here, the file says {order[:10]!r}; {RESAVE}"
        )
    found = read_pickle(_bytes(archive, entries, root + "data.pkl", path), _KNOWN, _storage)
    slices = (
        _module_tensors(found)
        if isinstance(found, Placeholder)
        else _state_dict(found, path, unused)
    )
    return _Storages(archive, entries, root, path).read(slices)


def _bytes(
    archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], name: str, path: Path
) -> bytes:
    """Return an entry's bytes; torch never compresses tensors, so a compressed entry can only be a bomb or another program's work."""
    if name not in entries:
        raise CheckpointError(
            f"{path.name}: the archive describes a tensor in {name!r} but has no such entry; copy the file again"
        )
    entry = entries[name]
    if (
        entry.compress_type != zipfile.ZIP_STORED
        or entry.file_size != entry.compress_size
        or entry.file_size > os.path.getsize(path)
    ):
        raise CheckpointError(
            f"{path.name}: tensors are stored uncompressed, {name!r} unpacks {entry.compress_size:,} to {entry.file_size:,} bytes; {RESAVE}"
        )
    return archive.read(entry)


def _state_dict(found: object, path: Path, unused: list[str]) -> dict[str, _Slice]:
    """Return the named tensors of a dictionary, or of the one that training programs wrapped others around; name in `unused` what lies beside."""
    level, way, seen = found, "", set()
    while id(level) not in seen and (nest := _nest(level, set())):
        seen.add(id(level))
        unused += [f"{way}{key}" for key in level if key != nest]  # type: ignore[attr-defined]
        level, way = level[nest], f"{way}{nest}."  # type: ignore[index]
    tensors = (
        {str(key): value for key, value in level.items() if isinstance(value, _Slice)}
        if isinstance(level, dict)
        else {}
    )
    if tensors:
        unused += [f"{way}{key}" for key, value in level.items() if not isinstance(value, _Slice)]  # type: ignore[attr-defined]
        return tensors
    held = (
        f"a dictionary of {', '.join(map(repr, list(found)[:5])) or 'nothing'}"
        if isinstance(found, dict)
        else type(found).__name__
    )
    raise CheckpointError(
        f"{path.name}: a checkpoint maps names to tensors, by itself or under {', '.join(_NESTS[:3])} …; this file holds {held}; "
        "save the weights alone: torch.save(model.state_dict(), path)"
    )


def _nest(level: object, seen: set[int]) -> str | None:
    """Return the name under which a dictionary keeps the weights, or None if it keeps none or they are its own entries."""
    if not isinstance(level, dict) or id(level) in seen:  # a hostile dictionary can hold itself
        return None
    seen.add(id(level))
    inner = ((name, level.get(name)) for name in _NESTS)
    return next(
        (
            name
            for name, value in inner
            if isinstance(value, dict) and (_has_tensors(value) or _nest(value, seen))
        ),
        None,
    )


def _has_tensors(level: dict) -> bool:
    return any(isinstance(value, _Slice) for value in level.values())


def _module_tensors(root: Placeholder) -> dict[str, _Slice]:
    """Return the tensors of a TorchScript module tree under the dotted names that `state_dict()` would give them."""
    tensors: dict[str, _Slice] = {}
    waiting: list[tuple[str, object]] = [("", root)]
    visited = 0
    while waiting:
        prefix, module = waiting.pop()
        visited += 1
        if visited > _MODULES or prefix.count(".") > 100:
            raise CheckpointError(
                "a module tree has an end, this one contains itself; the file was not written by torch"
            )
        state = (
            module.state
            if isinstance(module, Placeholder) and isinstance(module.state, dict)
            else {}
        )
        for name, value in state.items():
            if isinstance(value, _Slice):
                tensors[f"{prefix}{name}"] = value
            elif isinstance(value, Placeholder):
                waiting.append((f"{prefix}{name}.", value))
    if not tensors:
        raise CheckpointError(
            f"the file holds an object of class {root.name!r} without tensors of its own; save torch.save(model.state_dict(), path)"
        )
    return tensors


class _Storages:
    """Reads the storages that are asked for, each once, and cuts the tensors out of them."""

    def __init__(
        self, archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], root: str, path: Path
    ) -> None:
        self.archive, self.entries, self.root, self.path = archive, entries, root, path
        self.raw: dict[str, bytes] = {}

    def read(self, slices: dict[str, _Slice]) -> dict[str, np.ndarray]:
        """Return the arrays, refusing a file that describes more numbers than it has bytes."""
        described, size = (
            sum(math.prod(s.shape) for s in slices.values()),
            os.path.getsize(self.path),
        )
        if described > max(size, 2**16):
            raise CheckpointError(
                f"{self.path.name}: the tensors have {described:,} numbers together, the file only {size:,} bytes; it was not written by torch.save"
            )
        arrays = {piece: self.cut(name, piece) for name, piece in slices.items()}
        return {name: arrays[piece] for name, piece in slices.items()}

    def cut(self, name: str, piece: _Slice) -> np.ndarray:
        """Return one tensor as a read-only view of its storage."""
        entry = f"{self.root}data/{piece.storage.entry}"
        if entry not in self.raw:
            self.raw[entry] = _bytes(self.archive, self.entries, entry, self.path)
        dtype = np.dtype(
            "uint16"
            if piece.dtype == "bfloat16"
            else "uint8"
            if piece.dtype == "bool"
            else piece.dtype
        )
        raw = self.raw[entry]
        numbers = np.frombuffer(raw, dtype, count=len(raw) // dtype.itemsize)
        last = piece.offset + sum(
            (n - 1) * step for n, step in zip(piece.shape, piece.strides, strict=True)
        )
        if math.prod(piece.shape) and last >= numbers.size:
            raise CheckpointError(
                f"{self.path.name}: tensor {name!r} reaches to number {last} of a storage that has {numbers.size}; copy the file again"
            )
        steps = tuple(
            step * dtype.itemsize if n > 1 else 0
            for n, step in zip(piece.shape, piece.strides, strict=True)
        )
        start = numbers[piece.offset :] if math.prod(piece.shape) else numbers[:0]
        array = np.lib.stride_tricks.as_strided(start, piece.shape, steps, writeable=False)
        if piece.dtype == "bfloat16":
            return widen_bfloat16(array)
        return array != 0 if piece.dtype == "bool" else array
