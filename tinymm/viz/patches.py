"""A picture as a vision transformer gets it: cut into squares, and each square laid out as one row of numbers."""

from typing import Any

import numpy as np

from tinymm.arrays.errors import ShapeError
from tinymm.viz import style


def cut(picture: np.ndarray, patch: int) -> np.ndarray:
    """Return the patches of a picture (h, w, c), row by row, each flattened: (P, patch · patch · c). ShapeError if they do not tile it.

    >>> cut(np.arange(16.0).reshape(4, 4, 1), 2).astype(int).tolist()[1]
    [2, 3, 6, 7]
    """
    h, w, c = picture.shape
    if h % patch or w % patch:
        raise ShapeError(
            f"patches tile the picture, and {h} × {w} over {patch} came; choose a divisor of both"
        )
    return (
        picture.reshape(h // patch, patch, w // patch, patch, c)
        .transpose(0, 2, 1, 3, 4)
        .reshape(-1, patch * patch * c)
    )


def joined(patches: np.ndarray, height: int, width: int, patch: int) -> np.ndarray:
    """Return the picture (height, width, c) of patches (P, patch · patch · c): the way back of `cut`."""
    rows, columns = height // patch, width // patch
    return (
        patches.reshape(rows, columns, patch, patch, -1)
        .transpose(0, 2, 1, 3, 4)
        .reshape(height, width, -1)
    )


def patches(picture: np.ndarray, patch: int, *, order: np.ndarray | None = None, title: str) -> Any:
    """Return a figure of a picture (h, w, c) with its patches numbered, of their rows, and of the picture with the patches in another `order`.

    >>> patches(np.zeros((4, 4, 1)), 2, title="Four rows").alt
    'Four rows. A picture of 4 × 4 pixels is 4 patches of 2 × 2, rows of 4 numbers each.'
    """
    rows = cut(picture, patch)
    h, w, c = picture.shape
    panels = 2 + (order is not None)
    figure = style.new_figure(2.4 * panels + 0.6, 2.9)
    style.headline(figure, title, width=int((2.4 * panels + 0.6) * 10))
    views = {
        "the picture, cut": picture,
        f"its rows: {len(rows)} × {rows.shape[1]}": rows.reshape(len(rows), -1, 1),
    }
    if order is not None:
        views["the same rows, shuffled"] = joined(rows[order], h, w, patch)
    for i, (name, view) in enumerate(views.items()):
        axes = figure.add_axes(
            ((0.15 + 2.4 * i + 0.15) / (2.4 * panels + 0.6), 0.06, 2.1 / (2.4 * panels + 0.6), 0.68)
        )
        low, high = float(view.min()), float(view.max())
        axes.imshow(
            (view[..., 0] - low) / ((high - low) or 1),
            cmap="gray",
            vmin=0,
            vmax=1,
            aspect="auto" if i == 1 else "equal",
            interpolation="nearest",
        )
        axes.set(xticks=[], yticks=[])
        axes.set_title(style.readable(name), fontsize=9.5, family=style.FONT)
        if i != 1:
            _numbered(axes, np.arange(len(rows)) if i == 0 else order, h, w, patch)
    figure.alt = f"{title}. A picture of {h} × {w} pixels is {len(rows)} patches of {patch} × {patch}, rows of {rows.shape[1]} numbers each."
    figure.table = ""
    return figure


def _numbered(axes: Any, order: Any, h: int, w: int, patch: int) -> None:
    """Draw the cuts, and write the number of each patch into its corner."""
    for y in range(0, h + 1, patch):
        axes.axhline(y - 0.5, color=style.PICTURE, linewidth=1.2)
    for x in range(0, w + 1, patch):
        axes.axvline(x - 0.5, color=style.PICTURE, linewidth=1.2)
    for place, number in enumerate(order):
        y, x = divmod(place, w // patch)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
        style.write(
            axes,
            x * patch,
            y * patch,
            str(int(number)),
            size=7.5,
            ha="left",
            va="top",
            color=style.INK,
            bbox=box,
        )
