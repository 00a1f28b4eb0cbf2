"""Which description of preprocessing belongs to a model: that of the program whose layout its weights have.

transformers 5 writes processor_config.json with the image processor inside, older ones and we
preprocessor_config.json; open_clip's stands in open_clip_config.json. Where nothing is described,
the family's own is meant, at the model's resolution.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import CheckpointError, DataError, UsageError
from tinymm.data.images import Preprocess
from tinymm.data.images import preprocess as usual
from tinymm.data.processors import from_open_clip
from tinymm.models.albef import ALBEF
from tinymm.models.blip import BLIP
from tinymm.models.clip import CLIP

from ..files.safetensors import read_json
from ..key_maps import Imported
from .checkpoints import load_with_report

#: Whose preprocessing a model has that brings none, and what its image processor is called; all
#: others have BLIP-2's.
FAMILY: dict[type, str] = {CLIP: "clip", ALBEF: "albef", BLIP: "blip"}
_HUGGING_FACE = ("processor_config.json", "preprocessor_config.json")


def preprocess(
    path: str | os.PathLike, *, loaded: tuple[Any, Imported] | None = None, **options: Any
) -> Preprocess:
    """Return the preprocessing of a model's folder or file, a callable: image -> normalized `(resolution, resolution, channels)`.

    The weights tell which description counts, and the resolution; they are loaded with `options` as
    `load` takes them, unless `loaded` is what `load_with_report` returned. For another `resolution`
    than the file's the description is taken to that one. CheckpointError for a path or a
    description that cannot be read, for two that differ, and for one that does not fit the model;
    UsageError for a model without images.

    >>> from tempfile import TemporaryDirectory
    >>> from tinymm.arrays.random import generator
    >>> from tinymm.models.clip import CLIPConfig
    >>> from tinymm.pretrained import save
    >>> with TemporaryDirectory() as folder:
    ...     save(CLIP(CLIPConfig.tiny(), generator(0)), folder)
    ...     preprocess(folder).resolution, preprocess(folder, resolution=64).resolution
    (32, 64)
    """
    path = Path(path)
    model, report = loaded or load_with_report(path, **options)
    image = getattr(model.config, "image", None)
    if image is None:
        raise UsageError(
            f"pictures are prepared for a model that sees, and {str(path)!r} holds a {type(model).__name__}"
        )
    folder, native = path if path.is_dir() else path.parent, report.resolution or image.resolution
    family = next((name for kind, name in FAMILY.items() if isinstance(model, kind)), "blip2")
    prepare = _described(folder, report.layout, family, native) or usual(family, native)
    if (prepare.resolution, prepare.channels) != (native, image.channels):
        raise CheckpointError(
            f"{folder}: the model sees {native} × {native} × {image.channels} and the preprocessing beside it makes {prepare.resolution} × "
            f"{prepare.resolution} × {prepare.channels}; restore the file that belongs to the model"
        )
    if image.resolution == native:
        return prepare
    shorter = prepare.shorter_side and round(prepare.shorter_side * image.resolution / native)
    return replace(prepare, resolution=image.resolution, shorter_side=shorter)


def _described(folder: Path, layout: str, family: str, resolution: int) -> Preprocess | None:
    """Return the preprocessing that a folder describes, or None if it says nothing."""
    open_clip = folder / "open_clip_config.json"
    said = read_json(open_clip).get("preprocess_cfg") if open_clip.is_file() else None
    default = "CLIPImageProcessor" if family == "clip" else "BlipImageProcessor"
    try:
        theirs = {
            name: Preprocess.from_dict(settings, default)
            for name in _HUGGING_FACE
            if (settings := _image_processor(folder / name))
        }
        if (
            isinstance(said, dict)
            and family == "clip"
            and (layout in ("openai", "open_clip") or not theirs)
        ):
            return Preprocess(**from_open_clip(said, resolution))
    except DataError as problem:
        raise CheckpointError(f"{folder}: {problem}") from None
    found = list(theirs.values())
    if len(found) == 2 and found[0] != found[1]:
        raise CheckpointError(
            f"{folder}: {' and '.join(theirs)} describe different preprocessing ({found[0]} and {found[1]}), and programs differ in which they "
            "read; remove the one that does not belong to the weights"
        )
    return found[0] if found else None


def _image_processor(file: Path) -> dict[str, Any] | None:
    """Return the settings of the image processor in a file of settings, or None; a processor's file may be of its texts alone."""
    settings = read_json(file) if file.is_file() else {}
    nested = settings.get("image_processor")
    if file.name == "processor_config.json" or isinstance(nested, dict):
        return nested if isinstance(nested, dict) else None
    return settings or None
