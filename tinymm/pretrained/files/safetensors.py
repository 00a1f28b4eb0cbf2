"""Reading and writing `.safetensors`: eight bytes that give the header's length, the header in JSON, and the numbers.

The reader is our own because NumPy has no bfloat16, which the library's NumPy reader refuses; here
it is widened to float32, which holds every bfloat16 exactly. The header is a stranger's text: its
length is bounded, and the offsets must cover the file without gaps and without overlaps, as the
format demands.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError, DtypeError
from tinymm.arrays.files import atomic

LARGEST_HEADER = 100_000_000  # bytes, the format's own bound
LARGEST_JSON = 64 * 2**20
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|u1",
}  # fmt: skip


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Return the float32 numbers whose upper halves are these 16-bit patterns: what bfloat16 means, exactly.

    >>> float(widen_bfloat16(np.array([0x3FC0], np.uint16))[0])
    1.5
    """
    return (bits.astype(np.uint32) << 16).view(np.float32)


def parse_json(text: bytes, name: str) -> dict[str, Any]:
    """Return the object that the text holds; raise CheckpointError for anything but one JSON object with distinct keys."""

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise CheckpointError(
                    f"{name}: a key stands once in JSON, {key!r} comes twice; copy the file again"
                )
            found[key] = value
        return found

    try:
        found = json.loads(text, object_pairs_hook=distinct)
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as problem:
        raise CheckpointError(
            f"{name}: this is not JSON ({type(problem).__name__}: {str(problem)[:80]}); copy the file again"
        ) from None
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{name}: a JSON object is expected, a {type(found).__name__} came; copy the file again"
        )
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of at most 64 MiB.

    >>> read_json(Path("nowhere/config.json"))
    Traceback (most recent call last):
    tinymm.arrays.errors.CheckpointError: config.json: the file cannot be read (No such file or directory); check the path
    """
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST_JSON + 1)
    except OSError as problem:
        raise CheckpointError(
            f"{path.name}: the file cannot be read ({problem.strerror}); check the path"
        ) from None
    if len(text) > LARGEST_JSON:
        raise CheckpointError(
            f"{path.name}: a JSON file of a model has at most {LARGEST_JSON:,} bytes, this one has more; check the path"
        )
    return parse_json(text, path.name)


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Return the arrays of a safetensors file by name, in their own dtype; bfloat16 becomes float32.

    Raises CheckpointError if the header is malformed, an offset leaves the file, two tensors
    overlap, or a dtype has no NumPy kind.
    """
    path = Path(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(LARGEST_HEADER, size - 8):
            raise CheckpointError(
                f"{path.name}: the header has {length:,} bytes by the file's first number, but the file has {size:,}; copy the file again"
            )
        header = parse_json(file.read(length), path.name)
        header.pop("__metadata__", None)
        places = _places(header, size - 8 - length, path.name)
        arrays = {}
        for name, (kind, shape, start) in places.items():
            file.seek(8 + length + start)
            raw = np.fromfile(file, _DTYPES[kind], math.prod(shape)).reshape(shape)
            arrays[name] = (
                widen_bfloat16(raw) if kind == "BF16" else raw != 0 if kind == "BOOL" else raw
            )
    return arrays


def _places(
    header: dict[str, Any], available: int, file: str
) -> dict[str, tuple[str, tuple[int, ...], int]]:
    """Return kind, shape and first byte of each tensor, in the order of their names in the header."""
    places, spans = {}, []
    for name, entry in header.items():
        said = entry if isinstance(entry, dict) else {}
        kind, shape, offsets = (
            said.get("dtype"),
            said.get("shape", ()),
            said.get("data_offsets", ()),
        )
        if (
            not isinstance(kind, str)
            or not _counts(shape)
            or not _counts(offsets)
            or len(offsets) != 2
            or not _possible(shape)
        ):
            raise CheckpointError(
                f"{file}: tensor {name!r} needs dtype, shape and two data_offsets; copy the file again"
            )
        if kind not in _DTYPES:
            raise CheckpointError(
                f"{file}: tensor {name!r} is stored as {kind!r}, which NumPy cannot hold; save it as F32, F16 or BF16"
            )
        start, end = offsets
        needed = math.prod(shape) * np.dtype(_DTYPES[kind]).itemsize
        if end - start != needed or end > available:
            raise CheckpointError(
                f"{file}: tensor {name!r} of shape {tuple(shape)} and dtype {kind} needs {needed:,} bytes, its offsets give "
                f"{start:,} to {end:,} of {available:,}; copy the file again"
            )
        places[name] = (kind, tuple(shape), start)
        spans.append((start, end, name))
    reached = 0
    for start, end, name in sorted(spans):
        if start != reached:
            raise CheckpointError(
                f"{file}: tensors lie one after the other, {name!r} begins at byte {start:,} where {reached:,} is due; copy the file again"
            )
        reached = end
    if reached != available:
        raise CheckpointError(
            f"{file}: the tensors end at byte {reached:,} of {available:,}; copy the file again"
        )
    return places


def _counts(numbers: object) -> bool:
    return isinstance(numbers, list) and all(type(n) is int and 0 <= n < 2**48 for n in numbers)


def _possible(shape: list[int]) -> bool:
    return (
        len(shape) <= 32 and math.prod(max(n, 1) for n in shape) < 2**48
    )  # an empty array may still have axes too long for NumPy


def write_safetensors(
    path: str | os.PathLike,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the arrays as one safetensors file, whole or not at all; `metadata` is text for other programs' eyes.

    Raises DtypeError for numbers that the format has no name for, such as complex ones.
    """
    from safetensors.numpy import save

    # The library writes memory as it lies, so a transposed view must be laid out first.
    laid_out = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    strange = [
        f"{name} is {array.dtype}"
        for name, array in laid_out.items()
        if array.dtype.kind not in "fiub"
    ]
    if strange:
        raise DtypeError(
            f"safetensors holds real numbers, {strange[0]}; write its parts under two names"
        )
    with atomic(path) as file:
        file.write(save(laid_out, dict(metadata) if metadata else None))
