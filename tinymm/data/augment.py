"""Data augmentation of a batch of images: affine distortion, stroke weight, crops and color jitter, drawn from a given generator.

A model that has seen each letter in five fonts learns five bitmaps; one that has seen it lean,
swell and thin learns the letter. Everything here takes and returns `(B, h, w, c)` floats and is a
function of its inputs and `rng` alone.
"""

import numpy as np

from tinymm.arrays.errors import ShapeError


def random_affine(
    images: np.ndarray, rng: np.random.Generator, strength: float = 1.0
) -> np.ndarray:
    """Return the pictures (B, h, w, c) drawn with another pen on tilted paper: stroke weight, then a mild affine map.

    At strength 1: strokes up to 70 % towards one pixel thicker or thinner, ±0.1 rad, ±15 % size,
    ±0.25 shear, ±10 % shift; at 0 the pictures come back as they are.
    """
    if strength == 0:
        return images
    return affine(
        stroke_weight(images, rng, min(1.0, 0.7 * strength)),
        draw_affine(len(images), rng, strength),
    )


def draw_affine(count: int, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Return random maps `(count, 2, 3)` for `affine`: rotation, scale, shear and translation around the identity."""
    turn, width, height, shear, right, down = (
        rng.random((6, count), dtype=np.float32) - 0.5
    ) * strength
    cosine, sine = np.cos(0.2 * turn), np.sin(0.2 * turn)
    rows = [
        (1 + 0.3 * width) * cosine,
        0.5 * shear - sine,
        0.2 * right,
        sine,
        (1 + 0.3 * height) * cosine,
        0.2 * down,
    ]
    return np.stack(rows, axis=-1).reshape(count, 2, 3)


def affine(images: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Return pictures resampled through `maps (B, 2, 3)`: the pixel at position p shows what was at `map @ (p, 1)`.

    Positions go from -1 to 1 between the outer edges, x first; sampling is bilinear and the outside
    is 0 (torch's `grid_sample(..., align_corners=False)`, so that maps can be carried over;
    Jaderberg et al. 2015, eq. 1 and 5). ShapeError unless there is one map a picture.

    >>> picture = np.arange(9.0, dtype=np.float32).reshape(1, 3, 3, 1)
    >>> affine(picture, np.array([[[1, 0, 2 / 3], [0, 1, 0]]], np.float32))[0, :, :, 0].tolist()
    [[1.0, 2.0, 0.0], [4.0, 5.0, 0.0], [7.0, 8.0, 0.0]]
    """
    B, h, w, c = images.shape
    if maps.shape != (B, 2, 3):
        raise ShapeError(
            f"affine needs one map a picture, ({B}, 2, 3), but argument 1 is {maps.shape}: stack {B} maps."
        )
    x = ((2 * np.arange(w) + 1) / w - 1).astype(np.float32)
    y = ((2 * np.arange(h) + 1) / h - 1).astype(np.float32)[:, None]
    maps = maps.astype(np.float32)[..., None, None]
    # One pixel of zeros all round, so that a clipped position needs no test: outside, all four neighbors are 0.
    padded = np.zeros((B, h + 2, w + 2, c), images.dtype)
    padded[:, 1:-1, 1:-1] = images
    column = _position(maps[:, 0], x, y, w)
    row = _position(maps[:, 1], x, y, h)
    left, top = np.minimum(column, w).astype(np.int32), np.minimum(row, h).astype(np.int32)
    column -= left
    row -= top
    corner = (
        top * (w + 2) + left + (np.arange(B, dtype=np.int32) * ((h + 2) * (w + 2)))[:, None, None]
    ).astype(np.intp)
    flat = padded.reshape(-1, c) if c > 1 else padded.reshape(-1)
    if c > 1:
        column, row = column[..., None], row[..., None]
    upper = _between(flat, corner, column)
    lower = _between(flat, corner + (w + 2), column)
    return (upper + (lower - upper) * row).astype(images.dtype, copy=False).reshape(images.shape)


def _position(rows: np.ndarray, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """Return where to look, (B, h, w), as a pixel number in the padded picture."""
    position = (rows[:, 0] * x + (rows[:, 1] * y + rows[:, 2])) * (size / 2)
    position += size / 2 + 0.5
    return np.clip(position, 0, size + 1, out=position)


def _between(flat: np.ndarray, corner: np.ndarray, share: np.ndarray) -> np.ndarray:
    start = flat[corner]
    return start + (flat[corner + 1] - start) * share


def stroke_weight(images: np.ndarray, rng: np.random.Generator, amount: float = 0.7) -> np.ndarray:
    """Return pictures (B, h, w, c), bright strokes on dark ground made bolder (a third of them), lighter (a third) or left alone.

    Bolder blends with the largest of 3 × 3 neighbors, lighter with the smallest of 2 × 2, each by a
    random share up to `amount`.
    """
    kind, share = rng.random((2, len(images)), dtype=np.float32)
    share = share * np.float32(amount)
    result = images.copy()
    bolder, lighter = kind < 1 / 3, (kind >= 1 / 3) & (kind < 2 / 3)
    for chosen, neighbors in ((bolder, _dilated), (lighter, _eroded)):
        some = images[chosen]
        result[chosen] = some + (neighbors(some) - some) * share[chosen, None, None, None]
    return result


def _dilated(images: np.ndarray) -> np.ndarray:
    tall = images.copy()
    np.maximum(tall[:, 1:], images[:, :-1], out=tall[:, 1:])
    np.maximum(tall[:, :-1], images[:, 1:], out=tall[:, :-1])
    wide = tall.copy()
    np.maximum(wide[:, :, 1:], tall[:, :, :-1], out=wide[:, :, 1:])
    np.maximum(wide[:, :, :-1], tall[:, :, 1:], out=wide[:, :, :-1])
    return wide


def _eroded(images: np.ndarray) -> np.ndarray:
    result = np.zeros_like(images)
    tall = np.minimum(images[:, 1:], images[:, :-1])
    np.minimum(tall[:, :, 1:], tall[:, :, :-1], out=result[:, :-1, :-1])
    return result


def random_crop(
    size: tuple[int, int], rng: np.random.Generator, smallest: float
) -> tuple[int, int, int, int]:
    """Return a box `(left, top, right, bottom)` inside a picture of `size` (h, w): `smallest` to 1 of its area.

    The width-to-height ratio is 3:4 to 4:3 of the picture's own square, the usual random resized
    crop (Szegedy et al. 2015, §6).

    >>> random_crop((8, 8), np.random.default_rng(0), smallest=1.0)
    (0, 0, 8, 8)
    """
    h, w = size
    short = min(h, w)
    area = rng.uniform(smallest, 1.0)
    stretch = np.exp(rng.uniform(-1, 1) * min(np.log(4 / 3), -np.log(area)))
    wide = min(w, max(1, round(short * np.sqrt(area * stretch))))
    tall = min(h, max(1, round(short * np.sqrt(area / stretch))))
    left, top = int(rng.integers(w - wide + 1)), int(rng.integers(h - tall + 1))
    return left, top, left + wide, top + tall


def color_jitter(images: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Return pictures (B, h, w, 3) in [0, 1] with fuller or paler paint.

    At strength 1 each color channel gets up to 15 % and all of them up to 25 % more or less. Hues
    move little, since captions name them; 0 stays 0, which is paper where the negative is passed.
    """
    if strength == 0:
        return images
    draws = rng.random((len(images), 4), dtype=np.float32) - np.float32(0.5)
    gains = (1 + np.float32(0.3 * strength) * draws[:, :3]) * (
        1 + np.float32(0.5 * strength) * draws[:, 3:]
    )
    return np.clip(images * gains[:, None, None, :], 0, 1)
