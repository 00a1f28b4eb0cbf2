"""Image processor configs: Hugging Face's `preprocessor_config.json` of every version, and open_clip's `preprocess_cfg`.

A key that is left out means the default of the class that the file names; null is off for what is
done or not, and no number. Every other key is used, known to change nothing, or refused by name.
What comes back are the fields of `images.Preprocess`.
"""

from typing import Any

from tinymm.arrays.errors import DataError

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
#: Pillow's filters, under its numbers.
RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
_HALF = (0.5, 0.5, 0.5)

# Class → its defaults (transformers, `image_processing_*.py`); `edge` is what a size that is one
# number means: the shorter side, or a square.
_CLIP: dict[str, Any] = {
    "do_resize": True, "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": True, "crop_size": 224, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": OPENAI_MEAN, "image_std": OPENAI_STD, "edge": "shortest_edge",
}  # fmt: skip
_BLIP = _CLIP | {"size": {"height": 384, "width": 384}, "do_center_crop": False, "edge": "square"}
_VIT = _BLIP | {
    "size": {"height": 224, "width": 224},
    "resample": 2,
    "image_mean": _HALF,
    "image_std": _HALF,
}
_CLASSES: dict[str, dict[str, Any]] = {
    "CLIP": _CLIP, "ChineseCLIP": _CLIP, "Bit": _CLIP, "Blip": _BLIP, "ViT": _VIT,
    "Siglip": _VIT | {"resample": 3, "edge": "shortest_edge"},
    "DeiT": _VIT | {"size": {"height": 256, "width": 256}, "resample": 3, "do_center_crop": True},
}  # fmt: skip
_SUFFIXES = ("Pil", "Fast", "ImageProcessor", "FeatureExtractor", "Processor")
# Whose they are, where the numbers lie, how many pictures are worked on at once (squares of one
# size need no pad, whatever it is to divide the sides by); gray pictures are known
_HARMLESS = frozenset(
    "image_processor_type feature_extractor_type processor_class tokenizer_class auto_map _valid_processor_keys data_format "
    "input_data_format device return_tensors disable_grouping do_convert_rgb default_to_square image_seq_length model_input_names "
    "num_channels backend do_pad size_divisor crop_rounding transformers_version _name_or_path name_or_path".split()
)


def from_hugging_face(
    settings: dict[str, Any], default: str = "CLIPImageProcessor"
) -> dict[str, Any]:
    """Return the fields of the `Preprocess` that a preprocessor_config.json describes, or a processor_config.json with one in it.

    `default` is the class where the file names none. DataError for what cannot be read so, by name:
    pictures that do not become squares, pads, keys that are not known.

    >>> from_hugging_face({"image_processor_type": "CLIPImageProcessor", "size": 256})["shorter_side"]
    256
    """
    nested = settings.get("image_processor")
    settings = nested if isinstance(nested, dict) else settings
    name = settings.get("image_processor_type") or settings.get("feature_extractor_type") or default
    short = str(name)
    for suffix in _SUFFIXES:
        short = short.removesuffix(suffix)
    if short not in _CLASSES:
        raise DataError(
            f"Image processors that are known are {', '.join(_CLASSES)} but the settings name {name!r}: build a Preprocess by hand."
        )
    said = {
        key: False if value is None and key.startswith("do_") else value
        for key, value in settings.items()
    }
    said = {key: value for key, value in said.items() if value is not None or key in _CLIP}
    if short == "CLIP" and said.pop("use_square_size", False):
        said["size"] = {"height": 224, "width": 224}
    for key, value in said.items():
        if (
            key not in _CLIP
            and key not in _HARMLESS
            and value is not False
            and value != []
            and value != {}
        ):
            raise DataError(
                f"Settings of {name} are known by name but {key!r} ({str(value)[:40]!r}) is not: remove it if it changes no number."
            )
    used = _CLASSES[short] | said
    if "default_to_square" in said:
        used["edge"] = "square" if said["default_to_square"] else "shortest_edge"
    if not used["do_resize"]:
        raise DataError(
            "Preprocess makes pictures of one size but do_resize is off: resize them beforehand, or build a Preprocess by hand."
        )
    resize, before = _size(used["size"], used["edge"])
    side = before
    if used["do_center_crop"]:
        crop, side = _size(used["crop_size"], "square")
        if crop != "square" or side > before or (resize == "square" and side != before):
            raise DataError(
                f"Preprocess crops a square out of a larger one's middle but size is {used['size']} and crop_size {used['crop_size']}."
            )
    elif resize != "square":
        raise DataError(
            f"Preprocess makes squares but size {used['size']} without do_center_crop keeps the aspect ratio: crop, or build it by hand."
        )
    mean, std = _scaled(used)
    rounding = settings.get(
        "crop_rounding", "down"
    )  # transformers' own; ours is written down where it is another
    return {
        "resolution": side, "channels": len(mean), "mean": mean, "std": std, "resize": resize, "interpolation": _filter(used["resample"]),
        "shorter_side": None if side == before else before, "crop_rounding": rounding if resize == "shorter_side" else "even",
    }  # fmt: skip


def from_open_clip(settings: dict[str, Any], resolution: int) -> dict[str, Any]:
    """Return the fields of the `Preprocess` that open_clip's `preprocess_cfg` describes, for the resolution of the model, which counts there.

    DataError for a key that open_clip does not have and for pictures that are padded (resize_mode
    "longest").

    >>> from_open_clip({"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}, 32)["resize"]
    'square'
    """
    said = {key: value for key, value in settings.items() if value is not None}
    strange = sorted(
        set(said) - {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}
    )
    mode, resize, filter_ = (
        said.get("mode", "RGB"),
        said.get("resize_mode", "shortest"),
        said.get("interpolation", "bicubic"),
    )
    if strange or mode != "RGB":
        what = f"{strange[0]!r} is not" if strange else f"mode {mode!r} is no way of these pictures"
        raise DataError(
            f"Keys of preprocess_cfg are known by name but {what}: remove it if it changes no number."
        )
    modes = {"shortest": "shorter_side", "squash": "square"}
    if (
        not isinstance(resize, str)
        or resize not in modes
        or filter_ not in ("bicubic", "bilinear", "random")
    ):
        raise DataError(
            f"Pictures are cropped ('shortest') or squeezed ('squash'), bicubic or bilinear, but preprocess_cfg says {resize!r} and "
            f"{filter_!r}: build a Preprocess by hand."
        )
    mean, std = (
        _numbers(said.get(key) or usual, key)
        for key, usual in (("mean", OPENAI_MEAN), ("std", OPENAI_STD))
    )
    return {
        "resolution": resolution, "mean": mean, "std": std, "resize": modes[resize],
        "interpolation": "bilinear" if filter_ == "bilinear" else "bicubic",  # "random" is bicubic when nothing is trained
    }  # fmt: skip


def _size(size: Any, edge: str) -> tuple[str, int]:
    """Return how a picture is resized and to how many pixels: a number, [height, width], or an object of sides."""
    sides = size if isinstance(size, dict) else {}
    if isinstance(size, (list, tuple)) and len(size) == 2:
        sides = {"height": size[0], "width": size[1]}
    elif isinstance(size, (list, tuple)) and len(size) == 1:
        sides = {"height": size[0], "width": size[0]}
    elif not isinstance(size, dict):
        sides = (
            {"shortest_edge": size} if edge == "shortest_edge" else {"height": size, "width": size}
        )
    sides = {key: value for key, value in sides.items() if value is not None}
    whole = all(type(side) is int and side > 0 for side in sides.values())
    if whole and sides.keys() == {"shortest_edge"}:
        return "shorter_side", sides["shortest_edge"]
    if whole and sides.keys() == {"height", "width"} and sides["height"] == sides["width"]:
        return "square", sides["height"]
    raise DataError(
        f"Preprocess resizes the shorter side or to a square but the settings say {size!r}: build a Preprocess by hand."
    )


def _filter(resample: Any) -> str:
    numbers = {number: name for name, number in RESAMPLE.items()}
    name = (
        numbers.get(resample)
        if isinstance(resample, int) and resample is not True
        else str(resample).lower()
    )
    if name not in RESAMPLE:
        raise DataError(
            f"Filters are Pillow's, {', '.join(f'{n} {name}' for name, n in RESAMPLE.items())}, but resample is {resample!r}."
        )
    return name


def _scaled(used: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of pixels / 255 that give what the settings give: another factor, or none, goes into both."""
    factor = used["rescale_factor"] if used["do_rescale"] else 1.0
    if type(factor) not in (int, float) or not 0 < factor < 1e6:
        raise DataError(
            f"rescale_factor is what pixels are multiplied by, a positive number, but it is {factor!r}."
        )
    plain = {"image_mean": 0.0, "image_std": 1.0}
    mean, std = (_numbers(used[key] if used["do_normalize"] else plain[key], key) for key in plain)
    if abs(factor * 255 - 1) < 1e-6:  # 0.00392156862745098, as it is usually written
        return mean, std
    return tuple(m / (255 * factor) for m in mean), tuple(s / (255 * factor) for s in std)


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    values = [value] * 3 if type(value) in (int, float) else value
    if (
        not isinstance(values, (list, tuple))
        or not all(type(number) in (int, float) for number in values)
        or not values
    ):
        raise DataError(
            f"{name} is one number, or one for each channel, but it is {str(value)[:60]!r}."
        )
    return tuple(map(float, values))
