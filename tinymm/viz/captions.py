"""What a model says of pictures, its mistakes first: a gallery in which each picture stands beside its caption and, where they differ, a true one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import ShapeError
from tinymm.data.words import among
from tinymm.viz import style

RIGHT, WRONG = "#00694C", "#B03A00"  # also told apart by the sign before the words
MOST = 18


def captions(
    pictures: np.ndarray,
    written: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    title: str | None = None,
) -> Any:
    """Return a figure of pictures `(N, h, w, c)` in [0, 1] with their captions; `references` are each picture's true ones.

    Wrong ones come first, with a true caption below; at most 18 are shown. The title counts them
    all. ShapeError unless every picture has its text and its references.

    >>> captions(np.zeros((2, 4, 4, 3)), ["a cat", "a dog"], [["a cat"], ["a cow", "a bull"]]).alt.splitlines()[0]
    '1 of 2 captions (50%) is exactly right.'
    """
    if not len(pictures) == len(written) == len(references):
        raise ShapeError(
            f"captions need a text and its references for each picture, and {len(pictures)} pictures with {len(written)} and {len(references)} came; "
            "align them"
        )
    right = [among(text, true) for text, true in zip(written, references, strict=True)]
    order = sorted(range(len(written)), key=lambda i: right[i])[:MOST]
    across, side, column, tall = 3, 0.8, 3.1, 1.0
    down = -(-len(order) // across)
    width, height = 0.2 + across * column, 0.62 + down * tall
    figure = style.new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    style.quiet(axes)
    for place, i in enumerate(order):
        row, col = divmod(place, across)
        x, y = 0.2 + col * column, 0.62 + row * tall
        style.thumbnail(axes, pictures[i], x + side / 2, y + side / 2, side)
        said = ("✓ " if right[i] else "✗ ") + (written[i] or "(nothing)")
        style.write(
            axes,
            x + side + 0.1,
            y + 0.02,
            style.wrapped(said, 30, 2),
            size=8.5,
            va="top",
            color=RIGHT if right[i] else WRONG,
        )
        if not right[i]:
            style.write(
                axes,
                x + side + 0.1,
                y + 0.42,
                style.wrapped(f"true: {references[i][0]}", 30, 2),
                size=8.5,
                va="top",
                color=style.INK,
            )
    figure.alt = captions_alt(written, references)
    style.headline(figure, title or figure.alt.splitlines()[0].rstrip("."), size=11.5)
    return figure


def captions_alt(written: Sequence[str], references: Sequence[Sequence[str]]) -> str:
    """Return in words how many captions are exactly right, and the first mistakes."""
    pairs = list(zip(written, references, strict=True))
    count = sum(among(text, true) for text, true in pairs)
    share = f" ({count / len(pairs):.0%})" if pairs else ""
    lines = [
        f"{count} of {len(pairs)} captions{share} {'is' if count == 1 else 'are'} exactly right."
    ]
    lines += [f"It says “{text}” of {true[0]}." for text, true in pairs if not among(text, true)][
        :3
    ]
    return "\n".join(lines)
