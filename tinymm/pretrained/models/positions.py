"""Position embeddings for images of another size: the grid is resampled bicubically, as every program does that fine-tunes at a higher resolution.

Two kernels are in use, and which one belongs to a file its layout tells. transformers
(`interpolate_pos_encoding`), ALBEF, BLIP and LAVIS interpolate with a = -0.75 and repeat the
border; open_clip (`resize_pos_embed`) antialiases, which is Pillow's filter: a = -0.5, as much
wider as the grid shrinks, and normalized at the border. Both put the outer edges of the two grids
on one another (align_corners=False).
"""

from dataclasses import replace
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_host
from tinymm.arrays.errors import UsageError
from tinymm.layers import Module, Parameter
from tinymm.models.vit import ViTConfig


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Return Keys's convolution kernel (1981): 1 at 0, 0 at the other whole numbers and from 2 on."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def bicubic_matrix(old: int, new: int, *, antialias: bool) -> np.ndarray:
    """Return the weights (new, old) that resample a row of `old` numbers to `new`; every row sums to 1.

    >>> bicubic_matrix(4, 2, antialias=False)
    array([[ 0.5    ,  0.59375, -0.09375,  0.     ],
           [ 0.     , -0.09375,  0.59375,  0.5    ]])
    """
    scale = old / new
    centers = (np.arange(new) + 0.5) * scale - 0.5  # (new,), in the old grid
    if antialias:
        stretch = max(scale, 1.0)
        # places whose middle is at most two stretched steps away; the sum is 1 again after cutting
        # at the border
        distance = np.arange(old)[None] - centers[:, None]
        first = np.maximum(np.floor(centers + 0.5 - 2 * stretch + 0.5).astype(int), 0)
        last = np.minimum(np.floor(centers + 0.5 + 2 * stretch + 0.5).astype(int), old)
        inside = (np.arange(old) >= first[:, None]) & (np.arange(old) < last[:, None])
        weights = np.where(inside, _cubic(distance / stretch, -0.5), 0.0)
        return weights / weights.sum(axis=1, keepdims=True)
    below = np.floor(centers).astype(int)
    weights = np.zeros((new, old))
    for step in (-1, 0, 1, 2):
        places = np.clip(below + step, 0, old - 1)  # beyond the border stands the border again
        np.add.at(weights, (np.arange(new), places), _cubic(below + step - centers, -0.75))
    return weights


def resized_positions(positions: np.ndarray, side: int, *, antialias: bool) -> np.ndarray:
    """Return position embeddings for a grid of side × side patches: (1 + n · n, D) -> (1 + side · side, D), the class token's own first.

    With `antialias` as open_clip does it, without as transformers. UsageError for positions that
    are no class token and a square grid.

    >>> resized_positions(np.ones((1 + 4 * 4, 2)), 3, antialias=True).shape
    (10, 2)
    """
    old = round(max(len(positions) - 1, 0) ** 0.5)
    if old < 1 or old * old + 1 != len(positions):
        raise UsageError(
            f"position embeddings are those of a class token and of a square grid, {len(positions)} came"
        )
    if old == side:
        return positions
    weights = bicubic_matrix(old, side, antialias=antialias)
    grid = positions[1:].astype(np.float64).reshape(old, old, -1)
    grid = np.einsum("ai,bj,ijd->abd", weights, weights, grid, optimize=True).reshape(
        side * side, -1
    )
    return np.concatenate([positions[:1], grid.astype(positions.dtype)])


def _takes_patches(module: Any) -> bool:
    """Say whether a module is built of a vision transformer's config."""
    return isinstance(getattr(module, "config", None), ViTConfig)


def change_resolution(model: Module, resolution: int, *, antialias: bool) -> None:
    """Resize the positions of a model's vision transformers for images of another resolution.

    That of a momentum encoder is changed, too. `antialias` is what the layout of the file says.
    UsageError for a model without a vision transformer or a resolution that its patches do not
    tile.
    """
    config: Any = getattr(model, "config", None)
    encoders: list[Any] = [each for each in model.modules() if _takes_patches(each)]
    if not encoders or not isinstance(getattr(config, "image", None), ViTConfig):
        raise UsageError(
            f"resolution= resizes the positions of a vision transformer, and this {type(model).__name__} has none; leave it out"
        )
    patch = encoders[0].config.patch
    if resolution % patch or resolution < patch:
        raise UsageError(
            f"patches of {patch} pixels tile the picture, and resolution={resolution} came; take a multiple of {patch}"
        )
    for encoder in encoders:
        positions = resized_positions(
            to_host(encoder.positions.data), resolution // patch, antialias=antialias
        )
        changed = Parameter(positions)
        changed.requires_grad = encoder.positions.requires_grad
        encoder.positions, encoder.config = changed, replace(encoder.config, resolution=resolution)
    model.config = replace(config, image=replace(config.image, resolution=resolution))  # type: ignore[attr-defined]
