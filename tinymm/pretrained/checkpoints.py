"""Loading, saving and exporting whole models: where files, key maps and configs come together."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tinymm.arrays.backend import to_host
from tinymm.arrays.errors import CheckpointError, TinymmError, UsageError
from tinymm.arrays.files import atomic
from tinymm.arrays.random import generator
from tinymm.models.clip import CLIP, CLIPConfig

from . import clip
from .folders import read_weights
from .key_maps import Imported, Layout
from .safetensors_files import write_safetensors
from .settings import fits_hugging_face, kind_of, read_settings, write_settings
from .sizes import check, config_of

FORMATS = ("huggingface", "openai", "tinymm")


def load(path: str | os.PathLike, *, dtype: str = "float32", heads: Mapping[str, int] | None = None) -> CLIP:
    """Return the CLIP that a file or folder holds, in eval mode: OpenAI's, open_clip's, Hugging Face's, or one that `save` wrote.

    `path`: a folder with config.json and weights (also a run folder), or a file: safetensors, or a torch zip archive, TorchScript
    included. float16 and bfloat16 are widened to `dtype`, "float32" or "float64". `heads`, such as `{"image": 4, "text": 2}`, counts
    where no config does; OpenAI's files don't tell, and width / 64 is right for all that were released. Raises CheckpointError, with
    every missing, unexpected or misshapen key by its original name. Torch is not needed, and nothing in the file is executed.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save(CLIP(CLIPConfig.tiny("resnet", "cbow"), generator(0)), folder)
    ...     load(folder).config == CLIPConfig.tiny("resnet", "cbow")
    True
    """
    return load_with_report(path, dtype=dtype, heads=heads)[0]


def load_with_report(path: str | os.PathLike, *, dtype: str = "float32", heads: Mapping[str, int] | None = None) -> tuple[CLIP, Imported]:
    """Return `load`'s model and what was noticed on the way: `.ignored` keys, `.tied` groups of keys, `.keys` that each array came from."""
    if str(dtype) not in ("float32", "float64"):
        raise UsageError(f"a model computes in float32 or float64, dtype {dtype!r} came; narrower files are widened")
    if heads is not None and (set(heads) - {"image", "text"} or not all(type(count) is int and count > 0 for count in heads.values())):
        raise UsageError(f'heads is {{"image": count, "text": count}} or one of the two, {heads!r} came')
    weights = read_weights(path)
    layout = clip.recognize(weights.arrays)
    if layout is None:
        few = ", ".join(map(repr, list(weights.arrays)[:4]))
        raise CheckpointError(
            f"{weights.path.name}: the keys are those of no layout of CLIP's (OpenAI, open_clip, Hugging Face, tinymm), they begin with "
            f"{few}; convert the file, or load another model"
        )
    found = layout.import_(weights.arrays)
    found.tied = weights.tied
    try:
        config = config_of(found, layout, read_settings(weights.settings, layout.name), dict(heads or {}))
        model = CLIP(config, generator(0))
        expected = model.state_dict()
        check(found, layout, expected)
    except TinymmError as problem:
        raise CheckpointError(f"{weights.path.name}: {problem}") from None
    if str(dtype) != str(model.t.dtype):
        model.astype(dtype)
    model.load_state_dict({name: found.arrays.get(name, expected[name]) for name in expected})
    model.eval()
    return model, found


def export(model: CLIP, format: str, gradients: bool = False) -> dict[str, np.ndarray]:  # noqa: A002 - the word that users know
    """Return {original key: array} of the model's weights, or with `gradients` of the parameters' `.grad`.

    `format` is "openai", "huggingface" or "tinymm" (our own names). Exported arrays only move numbers about, so comparing all gradients
    with another program's is a comparison of two dictionaries. Parameters without a gradient are left out. Raises UsageError where the
    layout has no word for an encoder: a bag of words exists in "tinymm" only, a ResNet not in "huggingface".

    >>> export(CLIP(CLIPConfig.tiny(), generator(0)), "openai")["visual.transformer.resblocks.1.attn.in_proj_weight"].shape
    (96, 32)
    """
    layout = _layout(model.config, format)
    if gradients:
        arrays = {name: to_host(value.grad) for name, value in model.named_parameters() if value.grad is not None}
    else:
        arrays = model.state_dict()
    exported, homeless = layout.export(arrays)
    if homeless:
        raise UsageError(f'format {format!r} has no key for {", ".join(homeless[:4])}; export as "tinymm"')
    return exported


def _layout(config: CLIPConfig, name: str) -> Layout:
    if name not in FORMATS:
        raise UsageError(f"a format is {', '.join(FORMATS)}, {name!r} came")
    image, text = kind_of(config.image), kind_of(config.text)
    if name != "tinymm" and text == "cbow":
        raise UsageError(f'format {name!r} has no bag of words as text encoder; use "tinymm"')
    if name == "huggingface" and not fits_hugging_face(config):
        reason = "has no ResNet" if image == "resnet" else 'reads eos_token_id 2 as "the largest id", which this model does not mean'
        raise UsageError(f'format "huggingface" {reason}; use "openai"')
    if name == "openai":
        return clip.OPENAI_RESNET if image == "resnet" else clip.OPENAI_VIT
    return clip.HUGGING_FACE if name == "huggingface" else clip.TINYMM


def best_format(config: CLIPConfig) -> str:
    """Return the format in which most programs can open a model of this config.

    >>> best_format(CLIPConfig.tiny("vit")), best_format(CLIPConfig.tiny("resnet")), best_format(CLIPConfig.tiny("vit", "cbow"))
    ('huggingface', 'openai', 'tinymm')
    """
    if kind_of(config.text) == "cbow":
        return "tinymm"
    return "huggingface" if fits_hugging_face(config) else "openai"


def save(model: CLIP, folder: str | os.PathLike, format: str | None = None) -> None:  # noqa: A002
    """Write `config.json` and `model.safetensors` into the folder, from which `load` returns the same model, bit for bit in its dtype.

    By default in the format that most programs can open: a ViT with a text transformer as a Hugging Face folder, for
    `CLIPModel.from_pretrained(folder)`; a ResNet under OpenAI's keys with a config.json of model_type "tinymm_clip_openai", which keeps
    the sizes and heads; a bag of words under our own names ("tinymm_clip"). Both files are written whole or not at all.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save(CLIP(CLIPConfig.tiny(), generator(0)), folder)
    ...     sorted(os.listdir(folder))
    ['config.json', 'model.safetensors']
    """
    format = format or best_format(model.config)  # noqa: A001
    arrays = export(model, format)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = write_settings(model.config, format, str(model.t.dtype))
    with atomic(folder / "config.json") as file:
        file.write(json.dumps(settings, indent=2).encode() + b"\n")
        write_safetensors(folder / "model.safetensors", arrays, {"format": "pt"})  # "pt": transformers asks for the axes' order
