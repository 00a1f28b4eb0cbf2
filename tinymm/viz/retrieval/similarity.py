"""The matrix that CLIP is about: every picture against every caption, with the pictures and captions themselves on the axes.

`figure_3` makes `logits` of shape (pictures, captions). The drawing is its transpose, captions down
the left and pictures along the top, because words are read from left to right: a row of the drawing
is a column of the logits.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.viz import style

MOST, MOST_NUMBERS = 40, 12  # pairs that can be drawn; pairs whose numbers can be read


def same_meaning(pictures: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """Return `(n, n)` booleans: True where picture and caption belong together, also because a caption or a picture occurs twice.

    Counting a duplicate as wrong would punish a model for being right.

    >>> same_meaning(np.eye(3).reshape(3, 1, 3), ["a", "b", "a"]).astype(int).tolist()
    [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    """
    words = np.unique([" ".join(caption.split()) for caption in captions], return_inverse=True)[1]
    pixels = np.unique(np.reshape(pictures, (len(pictures), -1)), axis=0, return_inverse=True)[
        1
    ].reshape(-1)
    return (words[:, None] == words) | (pixels[:, None] == pixels)


def ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return for each query, a row of `scores` and of booleans `right`, the rank of its best right candidate, from 1.

    A tie counts against the model: one whose scores are all equal finds nothing, as it should be.

    >>> ranks(np.array([[0.9, 0.1], [0.5, 0.5]]), np.eye(2, dtype=bool)).tolist()
    [1, 2]
    """
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    return 1 + ((scores >= best) & ~right).sum(axis=1)


def similarity(
    matrices: Mapping[str, np.ndarray],
    pictures: np.ndarray,
    captions: Sequence[str],
    *,
    title: str | None = None,
    unit: str = "cosine similarity",
) -> Any:
    """Return a figure of one or more similarity matrices of the same pairs, such as before and after training.

    `matrices` maps a panel's name to `(n, n)` numbers, pictures first as in the logits; `pictures`
    are `(n, h, w, c)` in [0, 1]. Own pairs are framed, duplicates (same caption or same pixels)
    framed with dashes and bracketed, each caption's hardest wrong picture is dotted, and all panels
    share one color scale. The title counts how many captions find their picture. UsageError for
    more pairs than can be drawn, ShapeError if they do not fit, DataError for numbers that are not
    finite.

    >>> drawing = similarity({"untrained": np.zeros((2, 2))}, np.eye(2).reshape(2, 1, 2), ["one", "two"])
    >>> print(drawing.alt.splitlines()[0])
    Untrained: 0 of 2 captions find their picture (chance: 1).
    """
    panels = _checked(matrices, pictures, captions)
    n, right = len(captions), same_meaning(pictures, captions)
    chance = right.mean(axis=0).sum()
    hits = {name: int((ranks(matrix.T, right.T) == 1).sum()) for name, matrix in panels.items()}
    cell = 0.43 if n <= MOST_NUMBERS else max(0.17, 5.6 / n)
    size = 9 if n <= MOST_NUMBERS else min(7.5, 72 * cell / 1.3)
    lines = max(1, int(cell * 72 / (size * 1.25)))
    groups = [np.flatnonzero(row) for row in np.unique(right, axis=0) if row.sum() > 1]
    room = (
        1.9 if n <= MOST_NUMBERS else 2.7
    )  # inches for a caption: two short lines, or one long one
    left, gap, bracket = room + 0.15 + 0.1 * len(groups), 0.2, 0.1 / cell
    side, head, below, above = (n + 0.1) * cell, 1.05 * cell, 0.45, 0.75
    figure = style.new_figure(
        max(7.0, left + len(panels) * (side + gap) + 0.7), below + side + head + above
    )
    width, height = figure.get_size_inches()
    low, high = min(m.min() for m in panels.values()), max(m.max() for m in panels.values())
    image = None
    for place, (name, matrix) in enumerate(panels.items()):
        box = (
            (left + place * (side + gap)) / width,
            below / height,
            side / width,
            (side + head) / height,
        )
        axes = figure.add_axes(box, xlim=(-0.55, n - 0.45), ylim=(n - 0.45, -0.55 - head / cell))
        style.quiet(axes)
        with style.steady_limits(axes):
            image = axes.imshow(
                matrix.T,
                cmap=style.HEAT,
                vmin=low,
                vmax=max(high, low + 1e-6),
                interpolation="nearest",
                aspect="auto",
            )
        _cells(axes, matrix, right, image, numbers=n <= MOST_NUMBERS)
        for j, picture in enumerate(pictures):
            style.thumbnail(axes, picture, j, -0.55 - head / cell / 2, 0.86)
        heading = name if len(panels) == 1 else f"{name}: {hits[name]} of {n} found"
        axes.set_title(
            heading, fontsize=10, family=style.FONT, color=style.INK, pad=4, parse_math=False
        )
        if place == 0:
            for i, caption in enumerate(captions):
                text = style.wrapped(caption, int(room * 72 / (size * 0.57)), lines)
                style.write(
                    axes,
                    -0.65 - bracket * len(groups),
                    i,
                    text,
                    size=size,
                    ha="right",
                    va="center",
                    color=style.TEXT,
                )
            for level, group in enumerate(groups):
                _bracket(axes, -0.62 - bracket * (level + 0.2), group, bracket * 0.6)
    place = (left + len(panels) * (side + gap) - gap + 0.08) / width
    bar = figure.colorbar(
        image,
        cax=figure.add_axes(
            (place, (below + 0.05 * cell) / height, 0.12 / width, n * cell / height)
        ),
    )
    bar.set_label(unit, fontsize=9, family=style.FONT)
    bar.ax.tick_params(labelsize=8.5)
    _legend(figure, 0.1 / width, below / height, duplicates=bool(groups))
    style.headline(figure, title or _finding(hits, n, chance))
    figure.alt = similarity_alt(panels, pictures, captions)
    return figure


def similarity_alt(
    matrices: Mapping[str, np.ndarray], pictures: np.ndarray, captions: Sequence[str]
) -> str:
    """Return in words what `similarity` shows: per panel the count, the means of right and wrong pairs, and the hardest confusion."""
    panels = _checked(matrices, pictures, captions)
    n, right = len(captions), same_meaning(pictures, captions)
    sentences = []
    for name, matrix in panels.items():
        hits = (ranks(matrix.T, right.T) == 1).sum()
        text = f"{name[:1].upper()}{name[1:]}: {hits} of {n} captions find their picture (chance: {right.mean(axis=0).sum():.3g})."
        if not right.all():
            picture, caption = divmod(int(np.where(right, -np.inf, matrix).argmax()), n)
            text += f"\nRight pairs score {matrix[right].mean():z.2f} on average, wrong ones {matrix[~right].mean():z.2f}."
            text += f"\nThe hardest wrong pair ({matrix[picture, caption]:z.2f}) is the picture of “{captions[picture]}”"
            text += f" with the caption “{captions[caption]}”."
        sentences.append(text)
    return "\n".join(sentences)


def _checked(
    matrices: Mapping[str, np.ndarray], pictures: np.ndarray, captions: Sequence[str]
) -> dict[str, np.ndarray]:
    n = len(captions)
    panels = {name: np.asarray(matrix, dtype=np.float64) for name, matrix in matrices.items()}
    if not panels or not 1 <= n <= MOST:
        raise UsageError(
            f"a similarity drawing shows 1 to {MOST} pairs in its panels: got {n} in {len(panels)}; pass a part, as S[:9, :9]"
        )
    for name, matrix in panels.items():
        if matrix.shape != (n, n) or len(pictures) != n:
            raise ShapeError(
                f"similarity (n,n), n pictures, n captions: got {name!r} {matrix.shape}, {len(pictures)} pictures, {n} captions; "
                "pass the same pairs in the same order to all three"
            )
        if not np.isfinite(matrix).all():
            bad = (~np.isfinite(matrix)).sum()
            raise DataError(
                f"similarities are finite: {name!r} holds {bad} that are not; look at the model's weights first"
            )
    return panels


def _finding(hits: Mapping[str, int], n: int, chance: float) -> str:
    names = list(hits)
    text = f"{hits[names[-1]]} of {n} captions find their picture"
    text += f" {names[-1]}; {hits[names[0]]} {names[0]}" if len(names) > 1 else ""
    return f"{text} (chance: {chance:.3g})"


def _cells(axes: Any, matrix: np.ndarray, right: np.ndarray, image: Any, *, numbers: bool) -> None:
    from matplotlib.patches import Rectangle

    n = len(matrix)
    hardest = np.where(right, -np.inf, matrix).argmax(axis=0)  # one picture for each caption
    for i in range(n):
        for j in range(n):
            bright = np.dot(image.to_rgba(matrix[j, i])[:3], [0.299, 0.587, 0.114]) > 0.5
            ink = "#111111" if bright else "#FFFFFF"
            if numbers:
                weight = "bold" if i == j else "normal"
                style.write(
                    axes,
                    j,
                    i,
                    _number(matrix[j, i]),
                    size=9,
                    ha="center",
                    va="center",
                    color=ink,
                    weight=weight,
                )
            dotted = hardest[i] == j and not right[j, i]
            if not (right[j, i] or dotted):
                continue
            kind = "solid" if i == j else (0, (3, 1.5)) if right[j, i] else (0, (0.8, 1.2))
            color, width = (style.RIGHT if right[j, i] else ink), max(0.8, min(1.8, 24 / n))
            axes.add_patch(
                Rectangle(
                    (j - 0.44, i - 0.44),
                    0.88,
                    0.88,
                    fill=False,
                    edgecolor=color,
                    linewidth=width,
                    linestyle=kind,
                )
            )


def _number(value: float) -> str:
    """Write a cosine in three letters, as .83 or −.04, and a larger number with fewer digits behind the point."""
    text = f"{value:z.2f}" if abs(value) < 9.995 else f"{value:.0f}"
    return (
        text.replace("0.", ".", 1).replace("-", "−")
        if abs(value) < 0.995
        else text.replace("-", "−")
    )


def _bracket(axes: Any, x: float, rows: np.ndarray, depth: float) -> None:
    axes.plot([x, x], [rows[0], rows[-1]], color=style.INK, linewidth=1, clip_on=False)
    for row in rows:
        axes.plot([x, x + depth], [row, row], color=style.INK, linewidth=1, clip_on=False)


def _legend(figure: Any, left: float, below: float, *, duplicates: bool) -> None:
    from matplotlib.patches import Patch

    entries: list[tuple[Any, str, str]] = [("solid", "own pair", style.RIGHT)]
    if duplicates:
        entries.append(((0, (3, 1.5)), "also right: same caption or same picture", style.RIGHT))
    entries.append(((0, (0.8, 1.2)), "hardest wrong picture of the caption", style.INK))
    patches = [
        Patch(facecolor="none", edgecolor=color, linestyle=kind, linewidth=1.4, label=name)
        for kind, name, color in entries
    ]
    letters = {"family": style.FONT, "size": 9}
    figure.legend(
        handles=patches,
        loc="upper left",
        bbox_to_anchor=(left, below),
        ncols=3,
        frameon=False,
        prop=letters,
    )
