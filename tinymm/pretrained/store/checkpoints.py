"""Loading, saving and exporting whole models: where files, key maps and configs come together."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_host
from tinymm.arrays.errors import CheckpointError, TinymmError, UsageError
from tinymm.arrays.files import atomic
from tinymm.arrays.random import generator  # noqa: F401 (the examples)
from tinymm.layers import Module
from tinymm.models.clip import CLIP, CLIPConfig  # noqa: F401 (the examples)

from ..files.folders import Weights, read_weights
from ..files.safetensors import write_safetensors
from ..files.unwrapped import unpacked
from ..key_maps import Imported, StateDictLayout
from ..models.clip_config import marks
from ..models.clip_sizes import check
from ..models.config_classes import unties
from ..models.families import ModelFormat, families, model_format_of
from ..models.frozen import with_frozen_parts
from ..models.positions import change_resolution

FORMATS = ("huggingface", "huggingface_retrieval", "openai", "lavis", "albef", "blip", "tinymm")
_PARTS = ("image", "text", "qformer", "language")
_ACTIVATIONS = ("quick_gelu", "gelu", "relu")
LARGEST_RESOLUTION = 4096  # pixels a side; the positions grow with its square


def load(
    path: str | os.PathLike,
    *,
    dtype: str = "float32",
    heads: Mapping[str, int] | None = None,
    activation: str | Mapping[str, str] | None = None,
    resolution: int | None = None,
    frozen: str | os.PathLike | list[str | os.PathLike] | None = None,
) -> Any:
    """Return the model that a file or folder holds, in eval mode: CLIP, ALBEF, BLIP, BLIP-2's stages, a Q-Former, an OPT, or what `save` wrote.

    `path`: a folder with config.json and weights (also a run folder), or a file: safetensors, or a
    torch zip archive, TorchScript included. CLIP comes from OpenAI, open_clip or Hugging Face;
    ALBEF from its released files (pretraining, retrieval); BLIP from its own (also captioning) or
    Hugging Face (`BlipForImageTextRetrieval`, `BlipForConditionalGeneration`); BLIP-2 from LAVIS or
    Hugging Face (`Blip2ForImageTextRetrieval`, `Blip2ForConditionalGeneration` with OPT,
    `Blip2QFormerModel`). float16 and bfloat16 are widened to `dtype`, "float32" or "float64".
    `heads`, such as `{"image": 4, "text": 2}` (also "qformer", "language"), and, for a CLIP,
    `activation` ("quick_gelu", "gelu", "relu", or one for each of `{"image": …, "text": …}`) count
    before what a description says, and are needed where a bare file tells neither. `resolution`
    resizes the position embeddings of a vision transformer for images of another size
    (`positions`), as the program of the file's layout does it. `frozen` names the files of the
    frozen parts that a LAVIS file lacks. A part of which the file has nothing, such as the matching
    head of a BLIP for captions, raises CheckpointError when it is used; `model.missing()` names its
    weights, and `model.initialize_missing()` draws them, to be trained. Raises CheckpointError,
    with every missing, unexpected or misshapen key by its original name, and UsageError for
    arguments that cannot be. Torch is not needed, and nothing in the file is executed.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save(CLIP(CLIPConfig.tiny("resnet", "cbow"), generator(0)), folder)
    ...     load(folder).config == CLIPConfig.tiny("resnet", "cbow")
    True
    """
    return load_with_report(
        path, dtype=dtype, heads=heads, activation=activation, resolution=resolution, frozen=frozen
    )[0]


def load_with_report(
    path: str | os.PathLike,
    *,
    dtype: str = "float32",
    heads: Mapping[str, int] | None = None,
    activation: str | Mapping[str, str] | None = None,
    resolution: int | None = None,
    frozen: Any = None,
) -> tuple[Any, Imported]:
    """Return `load`'s model and what was noticed.

    That is `.ignored` keys, `.tied` groups, `.keys` of each array, `.newly_initialized` arrays that
    no file holds, `.layout` the layout, and `.unused`: what else the file and its folder hold and
    nothing was made of. UsageError for arguments that cannot be, CheckpointError for a file that
    does not fit.
    """
    if str(dtype) not in ("float32", "float64"):
        raise UsageError(
            f"a model computes in float32 or float64, dtype {dtype!r} came; narrower files are widened"
        )
    if heads is not None and (
        set(heads) - set(_PARTS)
        or not all(type(count) is int and count > 0 for count in heads.values())
    ):
        names = ", ".join(f'"{part}"' for part in _PARTS)
        raise UsageError(
            f"heads is a count, 1 or more, for some of {names}, such as {{'image': 12}}, and {heads!r} came"
        )
    if resolution is not None and (
        type(resolution) is not int or not 0 < resolution <= LARGEST_RESOLUTION
    ):
        raise UsageError(
            f"a resolution is a number of pixels up to {LARGEST_RESOLUTION:,}, {resolution!r} came"
        )
    bent = _activations(activation)
    weights = read_weights(path)
    paths = (
        []
        if frozen is None
        else [frozen]
        if isinstance(frozen, (str, os.PathLike))
        else list(frozen)
    )
    left = with_frozen_parts(weights, paths)
    family, layout = _recognized(weights)
    if bent is not None and family.model is not CLIP:
        raise UsageError(
            f"activation= is for the files of a CLIP, and {weights.path.name} holds a {family.model.__name__}; leave it out"
        )
    build: Callable[..., Any] = family.build
    if bent is not None:
        build = partial(build, activation=bent)
    layout = _without(layout, weights.settings)
    try:
        found = layout.import_(weights.arrays, unties(weights.settings))
        found.tied, found.ignored = weights.tied, found.ignored + left
        found.unused, found.layout = weights.unused, layout.name
        model = build(
            found, layout, family.describe(weights, layout, found.unused), dict(heads or {})
        )
        expected = model.state_dict()
        check(found, layout, expected)
    except TinymmError as problem:
        raise CheckpointError(f"{weights.path.name}: {problem}") from None
    if str(dtype) != "float32":
        model.astype(dtype)
    found.newly_initialized = sorted(expected.keys() - found.arrays.keys())
    model.load_state_dict({name: found.arrays.get(name, expected[name]) for name in expected})
    found.resolution = getattr(getattr(model.config, "image", None), "resolution", None)
    if resolution is not None and resolution != found.resolution:
        change_resolution(model, resolution, antialias=layout.antialias)
    model.mark_missing(found.newly_initialized, weights.path.name)
    model.eval()
    return model, found


def _activations(given: str | Mapping[str, str] | None) -> dict[str, str] | None:
    """Return the activation of each encoder that the caller names one for."""
    if given is None:
        return None
    each = {"image": given, "text": given} if isinstance(given, str) else dict(given)
    if not each or set(each) - {"image", "text"} or set(each.values()) - set(_ACTIVATIONS):
        raise UsageError(
            f'activation is {", ".join(_ACTIVATIONS)}, or {{"image": …, "text": …}} with one of them each, {given!r} came'
        )
    return each


def _without(layout: StateDictLayout, settings: dict[str, Any]) -> StateDictLayout:
    """Return our own layout with the names taken out that config.json calls missing, as `save` does of a model that lacks parts."""
    missing = settings.pop("missing", None) if layout.name == "tinymm" else None
    if missing is None:
        return layout
    if not isinstance(missing, list) or not all(isinstance(name, str) for name in missing):
        raise CheckpointError(
            f"config.json: missing is a list of names, and {missing!r} came; copy the file again"
        )
    return replace(layout, missing_keys=(*layout.missing_keys, *missing))


def _recognized(weights: Weights) -> tuple[ModelFormat, Any]:
    """Return whose file it is and its layout, and leave the arrays of that model alone in `weights`."""

    def recognize(keys: Iterable[str]) -> tuple[ModelFormat, Any] | None:
        layouts = ((family, family.recognize(keys, weights.settings)) for family in families())
        return next((pair for pair in layouts if pair[1] is not None), None)

    try:
        known = unpacked(weights.arrays, recognize, weights.unused)
    except CheckpointError as problem:
        raise CheckpointError(f"{weights.path.name}: {problem}") from None
    if known:
        weights.arrays = known[1]
        return known[0]
    few = ", ".join(map(repr, list(weights.arrays)[:4]))
    raise CheckpointError(
        f"{weights.path.name}: the keys are those of no layout that is known (CLIP: OpenAI, open_clip, Hugging Face; ALBEF: its own; BLIP: its "
        f"own, Hugging Face; BLIP-2: LAVIS, Hugging Face; OPT: Hugging Face; tinymm's own), they begin with {few}; convert the file, or load "
        "another model"
    )


def export(model: Module, format: str, gradients: bool = False) -> dict[str, np.ndarray]:  # noqa: A002 - the word that users know
    """Return {original key: array} of the model's weights, or with `gradients` of the parameters' `.grad`.

    `format` is "huggingface", "openai" (CLIP), "albef", "blip", "lavis" (BLIP-2), "tinymm" (our own
    names), or, for a BLIP, which Hugging Face has two models of, "huggingface_retrieval". Exported
    arrays only move numbers about, so comparing all gradients with another program's is a
    comparison of two dictionaries. Parameters without a gradient are left out. "openai" adds the
    three sizes of OpenAI's own files (`input_resolution` …) where the model is built as theirs are:
    QuickGELU, heads of 64, the largest id read off. Raises UsageError where the layout has no word
    for a part: a bag of words exists in "tinymm" only, a ResNet not in "huggingface".

    >>> export(CLIP(CLIPConfig.tiny(), generator(0)), "openai")["visual.transformer.resblocks.1.attn.in_proj_weight"].shape
    (96, 32)
    """
    if format not in FORMATS:
        raise UsageError(f"a format is {', '.join(FORMATS)}, {format!r} came")
    layout = model_format_of(model).layout_for(model.config, format)  # type: ignore[attr-defined]
    lacking = (
        []
        if gradients or layout.name == "tinymm"
        else [name for name in model.missing() if not layout.is_missing_key(name)]
    )
    if lacking:
        raise UsageError(
            f'format "{format}" needs {lacking[0]} and {len(lacking) - 1} more, of which the file that this model came from had nothing; write '
            'it as "tinymm", or call model.initialize_missing() first'
        )
    if gradients:
        arrays = {
            name: to_host(value.grad)
            for name, value in model.named_parameters()
            if value.grad is not None
        }
    else:
        arrays = model.state_dict()
    exported, missing_keys = layout.export(arrays)
    if missing_keys:
        raise UsageError(
            f'format {format!r} has no key for {", ".join(missing_keys[:4])}; export as "tinymm"'
        )
    if not gradients:
        exported = layout.with_copies(exported)
        exported |= marks(model.config) if layout.name == "openai" else {}  # type: ignore[attr-defined]
    return exported


def best_format(model: Module) -> str:
    """Return the format in which most programs can open this model.

    >>> [best_format(CLIP(CLIPConfig.tiny(*pair), generator(0))) for pair in (("vit",), ("resnet",), ("vit", "cbow"))]
    ['huggingface', 'openai', 'tinymm']
    """
    return model_format_of(model).best_format(model.config)  # type: ignore[attr-defined]


def save(
    model: Module,
    folder: str | os.PathLike,
    format: str | None = None,  # noqa: A002
    tokenizer: Any = None,
) -> None:
    """Write `config.json` and `model.safetensors` into the folder, from which `load` returns the same model, bit for bit in its dtype.

    By default in the format that most programs can open: a CLIP of ViT and text transformer as a
    Hugging Face folder, for `CLIPModel.from_pretrained(folder)`; a ResNet under OpenAI's keys with
    a config.json of model_type "tinymm_clip_openai", which keeps the sizes and heads; what no other
    program has under our own names. Both files are written whole or not at all. The `tokenizer` of
    the model is not written, its `begin` and `pad` stand in a Hugging Face CLIP's config.json as
    `bos_token_id` and `pad_token_id`.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save(CLIP(CLIPConfig.tiny(), generator(0)), folder)
    ...     sorted(os.listdir(folder))
    ['config.json', 'model.safetensors']
    """
    format = format or best_format(model)  # noqa: A001
    arrays = export(model, format)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config: Any = model.config  # type: ignore[attr-defined]
    dtype = str(model.parameters()[0].dtype)
    settings = model_format_of(model).settings_for(config, format, dtype)
    if tokenizer is not None and settings.get("model_type") == "clip":
        settings["text_config"] |= {"bos_token_id": tokenizer.begin, "pad_token_id": tokenizer.pad}
    if format == "tinymm" and model.missing():
        settings["missing"] = model.missing()
    with atomic(folder / "config.json") as file:
        file.write(json.dumps(settings, indent=2).encode() + b"\n")
        # transformers asks for the order of the axes: "pt"
        write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})
