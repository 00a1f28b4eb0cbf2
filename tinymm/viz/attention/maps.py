"""Who does look at whom: attention weights, a small panel for each head, and their heat over the picture.

A mask says what may be looked at, these what is. They describe one layer's mixing and not the
reason for an answer: a value that is looked at may be thrown away by the next layer.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.viz import style


def effective_keys(weights: np.ndarray) -> np.ndarray:
    """Return how many columns a row of weights looks at: the exponential of its entropy, from 1 (one key) to Tk (all alike).

    >>> effective_keys(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])).round(6).tolist()
    [2.0, 1.0]
    """
    weights = np.asarray(weights, dtype=np.float64)
    logs = np.log(np.where(weights > 0, weights, 1.0))
    return np.exp(-(weights * logs).sum(axis=-1))


def attention(
    weights: np.ndarray,
    row_names: Sequence[str],
    column_names: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> Any:
    """Return a figure of weights `(H, Tq, Tk)`, one panel a head, all with the same scale from 0 to the largest weight.

    Rows look, columns are looked at, each row sums to 1 (or to 0, where its mask allows nothing).
    The title names the head that looks most sharply, by its mean number of effective keys.
    ShapeError unless the names are those of the rows and columns.

    >>> attention(np.full((2, 1, 4), 0.25), ["a"], list("wxyz")).alt.splitlines()[0]
    'Head 0 looks most sharply: at 4.0 of 4 keys on average.'
    """
    weights, rows, columns = _checked(weights, row_names, column_names)
    heads, q, k = weights.shape
    across = min(heads, 4)
    down = -(-heads // across)
    cell = max(0.02, min(0.26, 2.2 / max(q, k)))
    named = cell >= 0.1
    size = min(8.5, cell * 72 / 1.3)
    letter = size * 0.6 / 72
    left = 0.35 + letter * max(map(len, rows)) * named
    head = 0.08 + letter * max(map(len, columns)) * named
    wide, tall, gap = k * cell, q * cell, 0.25
    width, height = (
        max(6.5, left + across * (wide + gap) + 0.75),
        0.55 + head + down * tall + (down - 1) * 0.35 + 0.2,
    )
    figure = style.new_figure(width, height)
    image = None
    for number in range(heads):
        row, column = divmod(number, across)
        bottom = height - 0.55 - head - (row + 1) * tall - row * 0.35
        axes = figure.add_axes(
            ((left + column * (wide + gap)) / width, bottom / height, wide / width, tall / height)
        )
        image = axes.imshow(
            weights[number],
            cmap=style.HEAT,
            vmin=0,
            vmax=max(weights.max(), 1e-6),
            aspect="auto",
            interpolation="nearest",
        )
        axes.set_xticks([])
        axes.set_yticks([])
        if named and row == 0:
            axes.xaxis.tick_top()
            style.tick_names(
                axes, "x", columns, size=size, rotation=90 if max(map(len, columns)) > 1 else 0
            )
        if named and column == 0:
            style.tick_names(axes, "y", rows, size=size)
        axes.tick_params(length=0)
        axes.set_xlabel(
            f"head {number}: {effective_keys(weights[number]).mean():.1f} keys",
            fontsize=8.5,
            family=style.FONT,
            labelpad=2,
        )
    place = (left + across * (wide + gap) - gap + 0.12) / width
    bar = figure.colorbar(
        image,
        cax=figure.add_axes((place, 1 - (0.55 + head + tall) / height, 0.1 / width, tall / height)),
    )
    bar.set_label("attention weight\n(a row sums to 1)", fontsize=8.5, family=style.FONT)
    bar.ax.tick_params(labelsize=8)
    figure.alt = attention_alt(weights, rows, columns)
    style.headline(figure, title or figure.alt.splitlines()[0].rstrip("."), size=11)
    return figure


def attention_alt(
    weights: np.ndarray, row_names: Sequence[str], column_names: Sequence[str] | None = None
) -> str:
    """Return in words how many keys each head of weights (H, Tq, Tk) looks at, and what each row looks at most in the sharpest head."""
    weights, rows, columns = _checked(weights, row_names, column_names)
    keys = effective_keys(weights).mean(axis=1)
    sharpest = int(keys.argmin())
    lines = [
        f"Head {sharpest} looks most sharply: at {keys[sharpest]:.1f} of {len(columns)} keys on average."
    ]
    lines.append("Effective keys by head: " + ", ".join(f"{number:.1f}" for number in keys) + ".")
    for name, row in zip(rows, weights[sharpest], strict=True):
        lines.append(
            f"{name} looks most at {columns[row.argmax()]} ({row.max():.2f})."
            if row.any()
            else f"{name} looks at nothing."
        )
    return "\n".join(lines)


def over_picture(weights: np.ndarray, picture: np.ndarray, *, title: str | None = None) -> Any:
    """Return a figure of a picture `(h, w, c)` in [0, 1] beside the heat of `weights` `(P,)` of its G·G patches, row by row.

    The picture is paled where little weight lies, and each patch is a flat square: a smooth blur
    would invent places. Without the class token: `weights[1:]`.

    >>> over_picture(np.array([0.7, 0.1, 0.1, 0.1]), np.zeros((4, 4, 1))).alt
    '70% of the weight lies on the top left patch of 4 (evenly spread: 25%); half of it on 1 patch.'
    """
    heat, rgb = _square(weights), style.as_rgb(picture)
    h, w = rgb.shape[:2]
    side, tall = 2.5, 2.5 * max(0.4, min(1.6, h / w))
    width, height = 0.15 + 3 * (side + 0.15) + 0.8, 0.5 + tall + 0.35
    figure = style.new_figure(width, height)
    panels = {"picture": rgb, "picture where the weight lies": lit(heat, rgb), "weights": heat}
    image = None
    for place, (name, content) in enumerate(panels.items()):
        left = 0.15 + place * (side + 0.15)
        axes = figure.add_axes((left / width, 0.35 / height, side / width, tall / height))
        image = axes.imshow(
            content,
            cmap=style.HEAT,
            vmin=0,
            vmax=heat.max() or 1,
            interpolation="nearest",
            aspect="auto",
        )
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(name, fontsize=9.5, family=style.FONT)
    bar = figure.colorbar(
        image,
        cax=figure.add_axes(((width - 0.8) / width, 0.35 / height, 0.1 / width, tall / height)),
    )
    bar.set_label("attention weight", fontsize=9, family=style.FONT)
    bar.ax.tick_params(labelsize=8)
    figure.alt = over_picture_alt(weights)
    style.headline(figure, title or figure.alt.rstrip("."), size=11)
    return figure


def over_picture_alt(weights: np.ndarray) -> str:
    """Return in words where the weight (P,) lies: the heaviest patch, and how many patches hold half of all."""
    heat = _square(weights)
    total = heat.sum()
    falling = np.cumsum(np.sort(heat.ravel())[::-1])
    half = int(np.searchsorted(falling, total / 2 * (1 - 1e-9)) + 1)
    share = heat.max() / total if total else 0.0
    spread = f"(evenly spread: {100 / heat.size:.2g}%)"
    most = f"{share:.0%} of the weight lies on the {hottest(heat)} patch of {heat.size} {spread}"
    return f"{most}; half of it on {half} patch{'es' if half > 1 else ''}."


def hottest(heat: np.ndarray) -> str:
    """Return in words where the heaviest patch of `heat` `(rows, columns)` lies.

    >>> hottest(np.eye(3) * [1, 2, 1]), hottest(np.eye(3)[::-1] * [1, 2, 3])
    ('middle', 'top right')
    """
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    up = ("top", "middle", "bottom")[_third(int(row), len(heat))]
    across = ("left", "middle", "right")[_third(int(column), heat.shape[1])]
    return up if up == across else f"{up} {across}"


def lit(heat: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Return a picture `(h, w, 3)` in pale gray, its patches the more orange the more weight they have in `heat` `(rows, columns)`."""
    rows, columns = (
        np.arange(length) * patches // length
        for length, patches in zip(rgb.shape, heat.shape, strict=False)
    )
    share = (heat / (heat.max() or 1))[rows][:, columns, None]
    gray = rgb.mean(axis=-1, keepdims=True)
    return (0.55 + 0.45 * gray) * (1 - share) + (0.65 + 0.35 * gray) * np.array(
        [1.0, 0.6, 0.1]
    ) * share


def _third(index: int, many: int) -> int:
    """Return in which third of a side the middle of a patch lies."""
    return int(3 * (index + 0.5) / many)


def _numbers(weights: Any) -> np.ndarray:
    array = np.asarray(weights, dtype=np.float64)
    if array.size and not (np.isfinite(array).all() and array.min() >= 0):
        raise DataError(
            f"attention weights are finite and ≥ 0: the least is {array.min():.3g}; pass what softmax gives, not the scores"
        )
    return array


def _checked(
    weights: Any, row_names: Sequence[str], column_names: Sequence[str] | None
) -> tuple[np.ndarray, list[str], list[str]]:
    array = _numbers(weights)
    rows = [style.readable(name) for name in row_names]
    columns = rows if column_names is None else [style.readable(name) for name in column_names]
    if array.ndim != 3 or array.shape[1:] != (len(rows), len(columns)) or not array.size:
        raise ShapeError(
            f"attention (H,Tq,Tk), Tq and Tk names: got {array.shape}, {len(rows)}, {len(columns)}; pick a pair: weights[0]"
        )
    return array, rows, columns


def _square(weights: Any) -> np.ndarray:
    array = _numbers(weights)
    side = int(round(array.size**0.5))
    if array.ndim != 1 or side * side != array.size or not array.size:
        raise ShapeError(
            f"the heat of G·G patches is a row (P,): got {array.shape}, no square; leave the class token out: weights[1:]"
        )
    return array.reshape(side, side)
