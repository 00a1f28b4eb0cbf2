"""The model's config out of the arrays themselves: what they show is measured, what they can't show is declared or passed.

Measuring has two uses. OpenAI's files bring no config at all; and where one is there, a model is
built only if the arrays agree with it, so that a wrong or hostile config.json fails with a sentence
instead of asking for a terabyte.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError
from tinymm.models.clip import CLIPConfig
from tinymm.models.resnet import ResNetConfig
from tinymm.models.text import TextConfig

from ..key_maps import Imported, StateDictLayout
from .clip_config import KINDS
from .config_from_arrays import checked_config


def config_of(
    found: Imported,
    layout: StateDictLayout,
    declared: dict[str, Any],
    heads: dict[str, int] | None = None,
    activation: dict[str, str] | None = None,
) -> CLIPConfig:
    """Return the config of the model that fits the arrays; CheckpointError names whatever contradicts, or is known from nowhere.

    Heads and activation are in no array: `heads` and `activation` if given, else what is declared.
    """
    ruler = _Ruler(found, layout)
    embed_dim = ruler.shape["W_t"][1]
    _agree("embed_dim", declared.get("embed_dim"), embed_dim)
    parts = {}
    for encoder, sizes in (("image", ruler.image()), ("text", ruler.text())):
        said = declared.get(encoder, {})
        for key, value in sizes.items():
            _agree(f"{encoder} {key}", said.get(key), value)
        usual = sizes.get("feed_forward") == 4 * sizes["width"]
        told = {"heads": (heads or {}).get(encoder), "activation": (activation or {}).get(encoder)}
        said = said | {
            key: value
            for key, value in told.items()
            if value is not None and (key != "activation" or sizes["kind"] != "resnet")
        }
        parts[encoder] = said | sizes | ({"feed_forward": None} if usual else {})
    _check_known(parts)
    parts = {encoder: _build(encoder, part) for encoder, part in parts.items()}
    config = CLIPConfig(
        embed_dim=embed_dim,
        image=parts["image"],
        text=parts["text"],
        loss="sigmoid" if "b" in found.arrays else "softmax",
    )
    needed, present = _least_numbers(config), sum(array.size for array in found.arrays.values())
    if needed > 2 * present + 10**6:
        raise CheckpointError(
            f"a model of these sizes has at least {needed:,} numbers, the file holds {present:,}; the file is cut short or its shapes lie"
        )
    return config


def _least_numbers(config: CLIPConfig) -> int:
    """Return a lower bound of the model's size, so that a file of a few bytes cannot have a giant built before the keys are compared."""
    image, text = config.image, config.text
    if isinstance(image, ResNetConfig):
        numbers = 4 * image.features**2 + sum(
            depth * 17 * (image.width * 2**stage) ** 2 for stage, depth in enumerate(image.layers)
        )
    else:
        numbers = (
            image.layers
            * image.width
            * (4 * image.width + 2 * (image.feed_forward or 4 * image.width))
        )
    if isinstance(text, TextConfig):
        numbers += (
            text.layers * text.width * (4 * text.width + 2 * (text.feed_forward or 4 * text.width))
        )
    return numbers


def _agree(what: str, declared: Any, measured: Any) -> None:
    declared = tuple(declared) if isinstance(declared, list) else declared
    if declared is not None and declared != measured:
        raise CheckpointError(
            f"the config and the arrays agree; {what} is {declared!r} in the config and {measured!r} by the arrays; put the config.json of "
            "this very file beside it"
        )


def _check_known(parts: dict[str, dict[str, Any]]) -> None:
    """Raise CheckpointError for heads and activations that neither the file, nor a description, nor the caller tells."""
    unknown = [
        f"the {what} of the {encoder} encoder"
        for what, kinds in (
            ("activation", ("vit", "transformer")),
            ("heads", ("vit", "transformer", "resnet")),
        )
        for encoder, part in parts.items()
        if part["kind"] in kinds
        and not {what, "head_width" if what == "heads" else what} & part.keys()
    ]
    if unknown:
        raise CheckpointError(
            f"no array shows the activation and the heads, and other ones give other features without an error; nothing says {', '.join(unknown)}: "
            'pass activation="quick_gelu" (OpenAI\'s) or "gelu" (open_clip\'s usual one) and heads={"image": …, "text": …} (on the command '
            "line --activation and --heads, of train --init-activation and --init-heads), or put the open_clip_config.json or config.json of "
            "this very file beside it"
        )


def _build(encoder: str, settings: dict[str, Any]) -> Any:
    """Return the encoder's config, whose heads may be declared by their width."""
    kind, head_width = settings.pop("kind"), settings.pop("head_width", None)
    if kind != "cbow":
        width = settings["width"] * (
            32 if kind == "resnet" else 1
        )  # the attention pool sees 32 times the first width
        if settings.get("heads") is None and (type(head_width) is not int or head_width < 1):
            raise CheckpointError(
                f"the {encoder} encoder's head_width is a count, {head_width!r} came; copy the description again"
            )
        settings.setdefault("heads", width // (head_width or 1))
        count = settings["heads"]
        if type(count) is not int or count < 1 or width % count:
            raise CheckpointError(
                f"the heads of the {encoder} encoder share its width {width} evenly, {count!r} came; files do not tell their number: pass "
                'heads={"image": …, "text": …}'
            )
    elif type(settings.get("context")) is not int or settings["context"] < 1:
        raise CheckpointError(
            f"the {encoder} encoder's context is a count of tokens, {settings.get('context')!r} came; correct config.json"
        )
    if settings.get("activation", "gelu") not in ("quick_gelu", "gelu", "relu"):
        raise CheckpointError(
            f"the {encoder} encoder's activation is quick_gelu, gelu or relu, {settings['activation']!r} came; weights of another "
            "activation would give wrong features, load another model"
        )
    return checked_config(f"{encoder} encoder", KINDS[kind], settings)


_SHOWN = {  # the arrays that show an encoder's sizes, with their numbers of axes
    "vit": {
        "image_encoder.patch_embedding.weight": 4,
        "image_encoder.positions": 2,
        "image_encoder.blocks.0.mlp.fc1.weight": 2,
    },
    "resnet": {
        "image_encoder.stem.0.conv.weight": 4,
        "image_encoder.stem.2.conv.weight": 4,
        "image_encoder.pool.positions": 2,
        "image_encoder.pool.attention.output.weight": 2,
    },
    "transformer": {
        "text_encoder.token_embedding.weight": 2,
        "text_encoder.positions": 2,
        "text_encoder.blocks.0.mlp.fc1.weight": 2,
    },
    "cbow": {"text_encoder.token_embedding.weight": 2},
}


class _Ruler:
    """Reads sizes off the shapes of our arrays; complains in the file's own words."""

    def __init__(self, found: Imported, layout: StateDictLayout) -> None:
        self.found = found
        self.image_kind = (
            "resnet"
            if any(name.startswith("image_encoder.stem.") for name in found.arrays)
            else "vit"
        )
        bag = layout.name == "tinymm" and "text_encoder.positions" not in found.arrays
        self.text_kind = "cbow" if bag else "transformer"
        needed = {**_SHOWN[self.image_kind], **_SHOWN[self.text_kind], "W_t": 2}
        absent = [name for name in needed if name not in found.arrays]
        if absent:
            raise_mismatch(found, layout, dict.fromkeys([*absent, *found.incomplete]), {})
        self.shape = {name: found.arrays[name].shape for name in needed}
        for name, axes in needed.items():
            shape = self.shape[name]
            if len(shape) != axes or 0 in shape:
                keys = ", ".join(layout.their_names(name))
                raise CheckpointError(
                    f"{keys} has {axes} axes, shape {shape} came (in our order of axes); the file is no CLIP or damaged"
                )

    def image(self) -> dict[str, Any]:
        """Return the sizes of the image encoder."""
        if self.image_kind == "resnet":
            return self._resnet()
        patch, _, channels, width = self.shape["image_encoder.patch_embedding.weight"]
        resolution = patch * self._side("image_encoder.positions")
        return {
            "kind": "vit",
            "resolution": resolution,
            "patch": patch,
            "channels": channels,
            **self._blocks("image_encoder", width),
        }

    def _resnet(self) -> dict[str, Any]:
        return {
            "kind": "resnet",
            "resolution": 32 * self._side("image_encoder.pool.positions"),
            "width": self.shape["image_encoder.stem.2.conv.weight"][3],
            "layers": tuple(self._count(f"image_encoder.stages.{stage}") for stage in range(4)),
            "output_width": None
            if "W_i" in self.found.arrays
            else self.shape["image_encoder.pool.attention.output.weight"][1],
            "channels": self.shape["image_encoder.stem.0.conv.weight"][2],
        }

    def text(self) -> dict[str, Any]:
        """Return the sizes of the text encoder."""
        vocabulary, width = self.shape["text_encoder.token_embedding.weight"]
        if self.text_kind == "cbow":
            return {"kind": "cbow", "vocabulary": vocabulary, "width": width}
        context = self.shape["text_encoder.positions"][0]
        return {
            "kind": "transformer",
            "vocabulary": vocabulary,
            "context": context,
            **self._blocks("text_encoder", width),
        }

    def _blocks(self, encoder: str, width: int) -> dict[str, Any]:
        hidden = self.shape[f"{encoder}.blocks.0.mlp.fc1.weight"][1]
        return {"width": width, "layers": self._count(f"{encoder}.blocks"), "feed_forward": hidden}

    def _count(self, prefix: str) -> int:
        pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
        return len({match[1] for match in map(pattern.match, self.found.arrays) if match})

    def _side(self, name: str) -> int:
        """Return the side of a square grid of positions, of which one belongs to the class token or the mean."""
        positions = self.shape[name][0]
        side = math.isqrt(positions - 1)
        if side * side != positions - 1 or side == 0:
            raise CheckpointError(
                f"positions are one and a square grid, {positions} came; pictures that are not square are not read"
            )
        return side


def _few(keys: list[str], most: int = 8) -> str:
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(map(repr, keys[:most])) + more


def check(found: Imported, layout: StateDictLayout, expected: dict[str, np.ndarray]) -> None:
    """Raise one CheckpointError that names every key which is missing, unexpected, or of a wrong shape or kind of number."""
    absent = [
        name for name in expected if name not in found.arrays and not layout.is_optional(name)
    ]
    shared = [name for name in expected if name in found.arrays]
    wrong = [
        f"{', '.join(found.keys[name])} {found.arrays[name].shape} for {expected[name].shape}"
        for name in shared
        if found.arrays[name].shape != expected[name].shape
    ]
    kinds = {
        name: "f" if expected[name].dtype.kind == "f" else "fiu" for name in shared
    }  # whole numbers for weights are those of a quantizer
    strange = [
        f"{found.keys[name][0]} ({found.arrays[name].dtype})"
        for name in shared
        if found.arrays[name].dtype.kind not in kinds[name]
    ]
    surplus = [key for name in found.arrays if name not in expected for key in found.keys[name]]
    parts = {name: lacking for name, lacking in found.incomplete.items() if name not in expected}
    surplus += [
        key
        for name, lacking in parts.items()
        for key in layout.their_names(name)
        if key not in lacking
    ]
    raise_mismatch(
        found,
        layout,
        absent,
        {
            "unexpected": surplus,
            "wrong shapes (in our order of axes)": wrong,
            "no plain numbers": strange,
        },
    )


def raise_mismatch(
    found: Imported, layout: StateDictLayout, absent: Iterable[str], also: dict[str, list[str]]
) -> None:
    """Raise CheckpointError if anything is absent, unexpected or listed in `also`, in one sentence and in the file's own words."""
    missing = [
        key for name in absent for key in found.incomplete.get(name, layout.their_names(name))
    ]
    parts = {
        "missing": missing,
        **also,
        "unexpected": also.get("unexpected", []) + found.unexpected,
    }
    said = [f"{what}: {_few(keys)}" for what, keys in parts.items() if keys]
    if said:
        raise CheckpointError(
            f"a checkpoint in the layout {layout.name!r} fits the model key by key; {'; '.join(said)}; check that the file is whole and "
            "that its config.json belongs to it"
        )
