"""Image decoding and preprocessing: files to arrays, with the resizing that the released models were trained with.

Preprocessing is part of a model: the same picture through another bicubic filter, or cropped a
pixel aside, gives other features. So this is Pillow's own filter (a = -0.5, antialiased, rounded to
8 bits), as in the original code. Before Pillow 13 the pixels of tall pictures differ from today's
by up to 2 of 255: rows were shrunk first, and are now second.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from tinymm.arrays.errors import DataError

from .processors import OPENAI_MEAN, OPENAI_STD, RESAMPLE, from_hugging_face

if TYPE_CHECKING:
    from PIL import Image

Picture: TypeAlias = Union[str, "os.PathLike[str]", bytes, np.ndarray, "Image.Image"]

# A 64 MB photograph is the most a caption needs; a few kilobytes of PNG can unpack to gigabytes,
# and the buffers for one row of all those pixels, or for their pointers if they are one column,
# take more than the picture.
MAX_PIXELS, MAX_SIDE = 2**26, 2**17
# Not all of Pillow's: its EPS reader, for one, starts another program.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
# Of a picture longer than so many times its shorter side the middle is used.
LONGEST = 16
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
_FAR = 1e6
_FAMILIES = {"clip": "shorter_side", "albef": "square", "blip": "square", "blip2": "square"}


def read(path: str | os.PathLike[str] | bytes, name: str | None = None) -> np.ndarray:
    """Return a picture file, or its bytes, as `(h, w, 3)` uint8, turned upright as its EXIF entry says.

    Transparency is dropped, as in the original code. A file that is missing, truncated, of a kind
    not in `FORMATS`, or larger than `MAX_PIXELS` raises a DataError that names it.
    """
    return np.asarray(_converted(open_picture(path, name), "RGB", name or "a picture"))


def open_picture(path: str | os.PathLike[str] | bytes, name: str | None = None) -> "Image.Image":
    """Return the decoded Pillow image of a file or its bytes, upright and 8 bits a channel; DataError as in `read`."""
    file, name = _header(path, name)
    with file:
        return _upright(file, name)


def _upright(image: "Image.Image", name: str) -> "Image.Image":
    """Return an opened image decoded, turned as its EXIF entry says, and of 8 bits a channel: the one way in, whoever opened it."""
    from PIL import ImageOps

    _check_size(image, name)
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    try:
        with _quiet():
            image.load()
            image = ImageOps.exif_transpose(image)
        if image.mode == "F" or image.mode.startswith("I"):
            image = _eight_bits(image, name, sixteen)
    except DataError:
        raise
    except Exception as problem:  # Pillow's decoders raise a dozen unrelated kinds on damaged bytes
        raise DataError(
            f"{name} is damaged or cut off ({_first_line(problem)}): copy it again or leave it out."
        ) from problem
    return image


def _eight_bits(image: "Image.Image", name: str, sixteen: bool) -> "Image.Image":
    """Return grays of 16 bits in 8, which convert("RGB") would clip to white; those of 32 bits too, where only one scale can be meant.

    Pillow hands out 16 bits as whole numbers of 32 (of a PGM, for one) and a skimage picture as
    floats from 0 to 1. Whole numbers up to 255 may be of 8 bits or of 16, and floats beyond 1 of
    any scale: these are refused.
    """
    from PIL import Image

    w, h = image.size
    rows = max(
        1, 2**22 // w
    )  # at a time: as one array of floats, a large picture would take a gigabyte

    def bands() -> Iterator[np.ndarray]:
        return (
            np.asarray(image.crop((0, top, w, min(h, top + rows)))) for top in range(0, h, rows)
        )

    low, high = (
        float(value)
        for value in (
            np.min([band.min() for band in bands()]),
            np.max([band.max() for band in bands()]),
        )
    )
    if image.mode == "F" and 0 <= low <= high <= 1:
        return Image.fromarray(
            np.concatenate([np.rint(band * 255).astype(np.uint8) for band in bands()])
        )
    if image.mode != "F" and (sixteen or (0 <= low and 255 < high < 2**16)):
        return Image.fromarray(np.concatenate([(band >> 8).astype(np.uint8) for band in bands()]))
    raise DataError(
        f"Pictures have 8 or 16 bits a channel but {name} has 32 (mode {image.mode}), from {low:g} to {high:g}: "
        "scale it to 0 to 255 of uint8 first."
    )


def _converted(image: "Image.Image", mode: str, name: str) -> "Image.Image":
    if image.mode == mode:
        return image
    try:
        with _quiet():  # that a palette's transparency is dropped, as everywhere here
            return image.convert(mode)
    except ValueError as problem:
        raise DataError(
            f"{name} has colors that can't be read as {mode} ({_first_line(problem)}): save it as RGB."
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's warnings of odd metadata to ourselves: what is read is right without it, or refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_header(path: str | os.PathLike[str] | bytes, name: str | None = None) -> tuple[int, int]:
    """Return `(h, w)` from a picture's first bytes, without decoding it; the quick half of `read`'s checks."""
    image, _ = _header(path, name)
    image.close()
    return image.height, image.width


def frames_of(path: str | os.PathLike[str] | bytes) -> int:
    """Return how many pictures a file holds, of which the first is read: an animation, the pages of a TIFF. DataError as in `read`."""
    image, name = _header(path, None)
    with image:
        try:
            with _quiet():
                return int(getattr(image, "n_frames", 1))
        except Exception as problem:  # as in _upright
            raise DataError(
                f"{name} is damaged or cut off ({_first_line(problem)}): copy it again or leave it out."
            ) from problem


def _header(path: str | os.PathLike[str] | bytes, name: str | None) -> tuple["Image.Image", str]:
    from PIL import Image

    name = name or ("a picture" if isinstance(path, bytes) else os.fspath(path))
    Image.init()
    try:
        with _quiet():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            formats = [kind for kind in FORMATS if kind in Image.OPEN]
            image = Image.open(BytesIO(path) if isinstance(path, bytes) else path, formats=formats)
    except FileNotFoundError:
        raise DataError(f"{name} is not there: check the path.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
        raise DataError(
            f"A picture has at most {MAX_PIXELS} pixels but {name} has more ({_first_line(problem)}): shrink it."
        ) from None
    except Exception as problem:
        raise DataError(
            f"{name} is no picture that can be read ({_first_line(problem)}): pictures are {', '.join(FORMATS)}."
        ) from problem
    try:
        _check_size(image, name)
    except DataError:
        image.close()
        raise
    return image, name


def _check_size(image: "Image.Image", name: str) -> None:
    if not 0 < image.width * image.height <= MAX_PIXELS:
        raise DataError(
            f"A picture has at most {MAX_PIXELS} pixels but {name} has {image.width} x {image.height}: shrink it."
        )
    if max(image.size) > MAX_SIDE:
        raise DataError(
            f"A picture's sides have at most {MAX_SIDE} pixels but {name} has {image.width} x {image.height}: cut it."
        )


def _first_line(problem: Exception) -> str:
    return (str(problem) or type(problem).__name__).splitlines()[0]


@dataclass(frozen=True)
class Preprocess:
    """A model's preprocessing: `preprocess(picture) -> (resolution, resolution, channels)` float32, normalized.

    `resize` is "shorter_side" (then the center is cropped; CLIP) or "square" (the aspect ratio is
    given up; ALBEF, BLIP, BLIP-2). `shorter_side` is the shorter side before the crop if it is
    longer than that; halves of a margin are rounded to "even" numbers (OpenAI's, torchvision's) or
    "down" (transformers') by `crop_rounding`. A picture is a path, its bytes, a Pillow image, or an
    array `(h, w)`, `(h, w, 1)` or `(h, w, 3)` of uint8 or uint16, and whichever it is, the numbers
    are the same. DataError for settings of another kind.

    >>> Preprocess(4)(np.full((6, 9, 3), 255, np.uint8)).shape
    (4, 4, 3)
    """

    resolution: int
    channels: int = 3
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD
    resize: str = "shorter_side"
    interpolation: str = "bicubic"
    shorter_side: int | None = None
    crop_rounding: str = "even"

    def __post_init__(self) -> None:
        if self.resolution < 1 or self.channels not in (1, 3):
            raise DataError(
                f"Preprocess makes squares of 1 or 3 channels, not {self.resolution} pixels of {self.channels} channels: choose one."
            )
        fits = len(self.mean) == len(self.std) == self.channels and all(
            abs(mean) < _FAR for mean in self.mean
        )
        if not fits or not all(
            1 / _FAR < std < _FAR for std in self.std
        ):  # so that no float32 overflows; NaN is in no range
            raise DataError(
                f"Preprocess needs a finite mean and a positive std for {self.channels} channels but got {self.mean}, {self.std}."
            )
        if (self.shorter_side or self.resolution) < self.resolution or (
            self.shorter_side and self.resize == "square"
        ):
            raise DataError(
                f"A square of {self.resolution} is cropped out of a picture whose shorter side is {self.shorter_side}: enlarge it."
            )
        if self.crop_rounding not in ("even", "down"):
            raise DataError(
                f"A crop's margin is rounded to 'even' numbers or 'down' but {self.crop_rounding!r} was asked for."
            )
        if self.resize not in ("shorter_side", "square") or self.interpolation not in RESAMPLE:
            raise DataError(
                f"Preprocess resizes by 'shorter_side' or 'square' with one of {', '.join(RESAMPLE)} "
                f"but got {self.resize!r} and {self.interpolation!r}."
            )

    def __call__(self, picture: Picture) -> np.ndarray:
        """Return the picture resized, cropped and normalized."""
        return self.normalize(self.pixels(picture))

    def pixels(self, picture: Picture) -> np.ndarray:
        """Return the resized and cropped picture before normalization, `(resolution, resolution, channels)` uint8."""
        n, whole = self.resolution, self.resized(picture)
        # Python rounds halves to even, and so does OpenAI's crop; transformers rounds them down.
        top, left = (
            (side - n) // 2 if self.crop_rounding == "down" else int(round((side - n) / 2))
            for side in whole.shape[:2]
        )
        return whole[top : top + n, left : left + n]

    def resized(self, picture: Picture, resolution: int | None = None) -> np.ndarray:
        """Return the picture resized, by default to this resolution, but not cropped: `(h, w, channels)` uint8."""
        from PIL import Image

        image = _converted(_as_image(picture), "RGB" if self.channels == 3 else "L", "a picture")
        n = resolution or self.shorter_side or self.resolution
        if self.resize != "square":
            image = _not_too_long(image)
        short = min(image.size)
        # The longer side is cut down, not rounded: int(n * side / short), OpenAI's own pixels.
        w, h = (
            n if self.resize == "square" or side == short else int(n * side / short)
            for side in image.size
        )
        return np.asarray(
            image.resize((w, h), Image.Resampling(RESAMPLE[self.interpolation]))
        ).reshape(h, w, self.channels)

    def normalize(self, pixels: np.ndarray) -> np.ndarray:
        """Return `(pixels / 255 - mean) / std` as float32, over any leading axes of uint8 pixels."""
        scale = 1 / (255 * np.array(self.std, np.float64))
        shift = np.array(self.mean) / np.array(self.std)
        return np.multiply(pixels, scale.astype(np.float32), dtype=np.float32) - shift.astype(
            np.float32
        )

    def denormalize(self, images: np.ndarray) -> np.ndarray:
        """Return normalized pictures as they are seen, between 0 and 1, over any leading axes."""
        return np.clip(
            images * np.array(self.std, np.float32) + np.array(self.mean, np.float32), 0, 1
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings under Hugging Face's names, for `preprocessor_config.json`."""
        square = {"height": self.resolution, "width": self.resolution}
        cropped = self.resize == "shorter_side"
        settings: dict[str, Any] = {
            "image_processor_type": "CLIPImageProcessor" if cropped else "BlipImageProcessor",
            "do_convert_rgb": self.channels == 3, "do_resize": True, "resample": RESAMPLE[self.interpolation],
            "size": {"shortest_edge": self.shorter_side or self.resolution} if cropped else square, "do_center_crop": cropped,
            "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
            "image_mean": list(self.mean), "image_std": list(self.std),
        }  # fmt: skip
        return settings | (
            {"crop_size": square, "crop_rounding": self.crop_rounding} if cropped else {}
        )

    @classmethod
    def from_dict(
        cls, settings: dict[str, Any], default: str = "CLIPImageProcessor"
    ) -> "Preprocess":
        """Return the preprocessing that a `preprocessor_config.json` or a `processor_config.json` describes.

        What it leaves out is what the class that it names assumes, or `default` where it names
        none. DataError names settings beyond these.
        """
        return cls(**from_hugging_face(settings, default))


def preprocess(family: str, resolution: int) -> Preprocess:
    """Return the evaluation preprocessing of "clip", "albef", "blip" or "blip2" at a resolution.

    All four share OpenAI's mean and std; CLIP keeps the aspect ratio and crops, the others squeeze
    into a square. DataError for another family.

    >>> preprocess("blip", 384).resize
    'square'
    """
    if family not in _FAMILIES:
        raise DataError(
            f"Preprocessing is known for {', '.join(_FAMILIES)} but {family!r} was asked for."
        )
    return Preprocess(resolution, resize=_FAMILIES[family])


def _not_too_long(image: "Image.Image") -> "Image.Image":
    """Return a picture, or, if it is longer than `LONGEST` times its shorter side, its middle.

    Twice the shorter side, or a multiple of that, goes from both ends. Resized it would be an even
    number of pixels, so those around the center stay where they were, half pixels too, which Python
    rounds to even ones. Without it 88 bytes of PNG, 3,000 × 1, would be enlarged to 150 million
    pixels.
    """
    w, h = image.size
    short, long = sorted(image.size)
    cut = 2 * short * -(-max(0, long - LONGEST * short) // (4 * short))
    if not cut:
        return image
    return image.crop((cut, 0, w - cut, h) if w > h else (0, cut, w, h - cut))


def _as_image(picture: Picture) -> "Image.Image":
    from PIL import Image

    if isinstance(picture, Image.Image):
        return _upright(picture, getattr(picture, "filename", "") or "a picture")
    if isinstance(picture, str | os.PathLike | bytes):
        return open_picture(Path(picture) if isinstance(picture, str) else picture)
    if not isinstance(picture, np.ndarray) or isinstance(picture, np.ma.MaskedArray):
        raise DataError(
            f"A picture is a path, the bytes of a file, a Pillow image or an array, but a {type(picture).__name__} came: give one of these."
        )
    if picture.dtype == np.uint16:  # as 16 bits come out of a file
        picture = (picture >> 8).astype(np.uint8)
    if (
        picture.dtype != np.uint8
        or picture.shape[2:] not in ((), (1,), (3,))
        or picture.ndim < 2
        or not picture.size
    ):
        raise DataError(
            f"A picture array is (h, w), (h, w, 1) or (h, w, 3) of uint8 but came as {picture.shape} of {picture.dtype}: "
            "give one picture at a time, its values 0 to 255."
        )
    image = Image.fromarray(np.asarray(picture[:, :, 0] if picture.shape[2:] == (1,) else picture))
    _check_size(image, "a picture array")
    return image
