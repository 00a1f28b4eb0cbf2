"""What is in a data set, to be looked at before anything is trained on it: a few pictures of each kind, with what is said of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.viz import style

SIDE, GAP, LABEL, WORDS = (
    0.82,
    0.14,
    1.5,
    0.52,
)  # inches: a picture, between two, the row's name, the caption below


def samples(rows: Mapping[str, tuple[np.ndarray, Sequence[str]]], title: str | None = None) -> Any:
    """Return a figure with a row of pictures for each name, every picture with its caption below.

    A row is pictures `(N, h, w, c)` in [0, 1] and N captions; rows may have different lengths and
    sizes. DataError without rows; ShapeError for a picture without a caption.

    >>> samples({"digits": (np.zeros((2, 8, 8, 1)), ["one", "two"])}).alt
    'Pictures with captions, in 1 row. digits: one; two.'
    """
    if not rows:
        raise DataError(
            "samples shows a row of pictures or more, and none came; give {'name': (pictures, captions)}"
        )
    for name, (pictures, captions) in rows.items():
        if len(pictures) != len(captions) or not len(pictures):
            raise ShapeError(
                f"samples: each picture has a caption, and {name!r} has {len(pictures)} with {len(captions)}; give one each"
            )
    longest = max(len(captions) for _, captions in rows.values())
    width, top = LABEL + longest * (SIDE + GAP) + GAP, 0.55 if title else 0.15
    height = top + len(rows) * (SIDE + WORDS)
    figure = style.new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    style.quiet(axes)
    for i, (name, (pictures, captions)) in enumerate(rows.items()):
        y = top + i * (SIDE + WORDS) + SIDE / 2
        style.write(axes, 0.12, y, style.wrapped(name, 16, 3), size=9, weight="bold", va="center")
        for j, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            x = LABEL + j * (SIDE + GAP) + SIDE / 2
            style.thumbnail(axes, picture, x, y, SIDE)
            style.write(
                axes,
                x,
                y + SIDE / 2 + 0.05,
                style.wrapped(caption, 15, 3),
                size=6.2,
                ha="center",
                va="top",
                color=style.TEXT,
            )
    if title:
        style.headline(figure, title)
    said = ". ".join(
        f"{name}: {'; '.join(map(str, captions))}" for name, (_, captions) in rows.items()
    )
    figure.alt = f"Pictures with captions, in {len(rows)} row{'s' * (len(rows) > 1)}. {said}."
    return figure
