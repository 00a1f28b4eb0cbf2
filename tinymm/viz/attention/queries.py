"""What the learned queries are for: which one wins each pair of picture and text, and where in the picture each one looks.

A pair's score is that of its best query (BLIP-2 §3.2), so only the winner learns from the pair.
Queries that never win are dead weight, and queries that all look at the same patches are one query
in many copies; both are invisible in the loss.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.viz import style

from .maps import effective_keys, lit

MOST = 14  # pictures and captions whose winners can be read; the histogram counts all


def winning_queries(
    winners: np.ndarray,
    captions: Sequence[str],
    queries: int,
    *,
    pictures: np.ndarray | None = None,
    title: str | None = None,
) -> Any:
    """Return a figure of the winning query's number for picture b and caption c, `winners` `(B, C)` integers, and each query's share of wins.

    `queries` is Q, so that those that never win are shown. With as many pictures as captions, pair
    i is right with i: the matrix frames it, and the histogram shows the winners of right pairs
    beside those of all. The dashed line is the even share 1/Q. ShapeError unless there is a column
    a caption, DataError for a winner that is no query.

    >>> winning_queries(np.array([[0, 2], [2, 2]]), ["a cat", "a dog"], queries=4).alt.splitlines()[0]
    'Query 2 wins 75% of 4 pairs (even share: 25%); 2 of 4 queries never win.'
    """
    winners = _checked_winners(winners, captions, queries)
    share, right = _shares(winners, queries)
    shown = winners[:MOST, :MOST]
    B, C = shown.shape
    cell, room, thumb, above, below = 0.36, 2.5, 0.42 if pictures is not None else 0.24, 1.05, 0.5
    bars, edge = max(3.4, min(6.4, 0.2 * queries + 0.5)), 0.1 + room
    width, height = (
        edge + max(B * cell, 1.4) + 0.85 + bars + 0.2,
        above + thumb + max(C * cell, 1.8) + below,
    )
    figure = style.new_figure(width, height)
    box = (
        edge / width,
        1 - (above + thumb + C * cell) / height,
        B * cell / width,
        (C * cell + thumb) / height,
    )
    axes = figure.add_axes(box, xlim=(-0.5, B - 0.5), ylim=(C - 0.5, -0.5 - thumb / cell))
    _matrix(axes, shown, share, framed=right is not None)
    for c, caption in enumerate(captions[:C]):
        words = style.wrapped(caption, int(room * 72 / (8 * 0.6)), 2)
        style.write(
            axes,
            -0.65,
            c,
            words,
            size=8,
            ha="right",
            va="center",
            color=style.TEXT,
            linespacing=0.95,
        )
    for b in range(B):
        if pictures is not None:
            style.thumbnail(axes, pictures[b], b, -0.55 - thumb / cell / 2, 0.9)
        else:
            style.write(
                axes, b, -0.6, str(b), size=8, ha="center", va="bottom", color=style.PICTURE
            )
    part = (
        "winning query of each pair"
        if shown.size == winners.size
        else f"the first {B} · {C} of {winners.shape[0]} · {winners.shape[1]} pairs"
    )
    figure.text(
        0.12 / width,
        1 - 0.55 / height,
        part + "\nacross: pictures, down: captions",
        size=8.5,
        family=style.FONT,
        color=style.INK,
        va="top",
    )
    _histogram(
        figure,
        (edge + max(B * cell, 1.4) + 0.85, below, bars, height - above - below),
        share,
        right,
    )
    figure.alt = winning_queries_alt(winners, captions, queries)
    style.headline(
        figure,
        title or figure.alt.splitlines()[0].rstrip("."),
        size=11.5,
        width=int(width * 72 / (11.5 * 0.63)),
    )
    return figure


def winning_queries_alt(winners: np.ndarray, captions: Sequence[str], queries: int) -> str:
    """Return in words which query wins most, how many never win, and each query's share."""
    winners = _checked_winners(winners, captions, queries)
    share, right = _shares(winners, queries)
    best, dead = int(share.argmax()), np.flatnonzero(share == 0)
    lines = [
        f"Query {best} wins {share[best]:.0%} of {winners.size} pairs (even share: {100 / queries:.3g}%); {_dead(len(dead), queries)}."
    ]
    if right is not None:
        silent = int((right == 0).sum())
        lines.append(
            f"Of the {len(winners)} right pairs query {right.argmax()} wins {right.max():.0%}; {_dead(silent, queries)} one."
        )
    lines.append(
        "Wins by query: " + ", ".join(f"{q} {part:.0%}" for q, part in enumerate(share)) + "."
    )
    return "\n".join(lines)


def query_heat(
    picture: np.ndarray,
    weights: np.ndarray,
    grid: tuple[int, int],
    titles: Sequence[str] | None = None,
    *,
    title: str | None = None,
) -> Any:
    """Return a figure of where each query looks in a picture `(h, w, c)` in [0, 1]: `weights` `(Q, P)` over its `grid` of rows · columns patches.

    Without the class token: `weights[:, 1:]`. Each panel has its own scale, from none to the
    query's largest weight; below it stand that weight's share and the number of patches that it
    looks at, the exponential of the entropy. The title says how much the queries share. ShapeError
    unless each column has its patch and each query its title; DataError for weights below 0.

    >>> query_heat(np.zeros((4, 4, 1)), np.eye(4)[:2], (2, 2)).alt.splitlines()[0]
    'Query 0 looks most sharply, at 1.0 of 4 patches; two queries share 0% of what they look at on average (100% would be copies).'
    """
    weights = _checked_weights(weights, grid)
    rgb = style.as_rgb(picture)
    Q = len(weights)
    names = [f"query {q}" for q in range(Q)] if titles is None else [str(name) for name in titles]
    if len(names) != Q:
        raise ShapeError(
            f"query_heat has one title for each query: got {len(names)} titles for weights {weights.shape}; name every query once"
        )
    across = min(
        (3, 4, 5) if Q < 12 else (6, 7, 8, 9), key=lambda columns: (-(Q + 1) % columns, -columns)
    )  # the fullest last row
    down, side = -(-(Q + 1) // across), 1.7 if Q < 12 else 1.3
    tall = side * max(0.5, min(1.6, rgb.shape[0] / rgb.shape[1]))
    lines = 2 if max(map(len, names)) > side * 72 / (8.5 * 0.6) else 1
    above, below, gap = 0.08 + 0.15 * lines, 0.36, 0.12
    width = max(5.8, 0.24 + across * (side + gap))
    alt = query_heat_alt(weights, grid, names)
    said = title or alt.splitlines()[0].rstrip(".")
    letters = int(width * 72 / (11 * 0.62))
    head = 0.25 + 0.19 * -(-len(said) // letters)
    height = head + down * (above + tall + below) + 0.3
    figure = style.new_figure(width, height)
    keys, largest = effective_keys(_normalized(weights)), _normalized(weights).max(axis=1)
    for place in range(Q + 1):
        row, column = divmod(place, across)
        left, bottom = (
            0.12 + column * (side + gap),
            height - head - row * (above + tall + below) - above - tall,
        )
        axes = figure.add_axes((left / width, bottom / height, side / width, tall / height))
        q = place - 1
        heat = weights[q].reshape(grid)
        axes.imshow(
            rgb if q < 0 else lit(heat, rgb), interpolation="nearest", aspect="auto", vmin=0, vmax=1
        )
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(
                color=style.PICTURE if q < 0 else style.PADDING, linewidth=1.6 if q < 0 else 0.6
            )
        name = (
            "the picture" if q < 0 else style.wrapped(names[q], int(side * 72 / (8.5 * 0.6)), lines)
        )
        style.write(
            axes,
            0,
            1.03,
            name,
            size=8.5,
            va="bottom",
            transform=axes.transAxes,
            color=style.PICTURE if q < 0 else style.QUERY,
        )
        if q >= 0:
            words = (
                f"at {keys[q]:.1f} of {weights.shape[1]} patches\nlargest {largest[q]:.0%}"
                if largest[q]
                else "looks at nothing"
            )
            style.write(
                axes, 0, -0.03, words, size=8, va="top", transform=axes.transAxes, linespacing=1.1
            )
    foot = "orange: attention weight of a patch, from none to the query's largest"
    figure.text(
        0.12 / width, 0.08 / height, foot, size=8.5, family=style.FONT, color=style.INK, va="bottom"
    )
    figure.alt = alt
    style.headline(figure, said, size=11, width=letters)
    return figure


def query_heat_alt(
    weights: np.ndarray, grid: tuple[int, int], titles: Sequence[str] | None = None
) -> str:
    """Return in words which query looks most sharply, how much two of them share on average, and where each looks most."""
    weights = _checked_weights(weights, grid)
    names = [f"query {q}" for q in range(len(weights))] if titles is None else list(titles)
    parts = _normalized(weights)
    keys = np.where(parts.any(axis=1), effective_keys(parts), np.inf)
    sharpest, Q = int(keys.argmin()), len(parts)
    if not parts.any():
        first = "No query looks anywhere."
    else:
        first = f"{_capital(names[sharpest])} looks most sharply, at {keys[sharpest]:.1f} of {parts.shape[1]} patches"
        shared = [np.minimum(parts[i], parts[j]).sum() for i in range(Q) for j in range(i)]
        first += (
            f"; two queries share {np.mean(shared):.0%} of what they look at on average (100% would be copies)."
            if shared
            else "."
        )
    lines = [first]
    for name, row in zip(names, parts, strict=True):
        y, x = divmod(int(row.argmax()), grid[1])
        where = (
            f"most at row {y + 1}, column {x + 1} ({row.max():.0%})" if row.any() else "at nothing"
        )
        lines.append(f"{_capital(name)} looks {where}.")
    return "\n".join(lines)


def _shares(winners: np.ndarray, queries: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return each query's share of all wins, and of those of right pairs where pair i is right with i."""
    every = np.bincount(winners.ravel(), minlength=queries) / winners.size
    if winners.shape[0] != winners.shape[1]:
        return every, None
    return every, np.bincount(np.diagonal(winners), minlength=queries) / len(winners)


def _dead(count: int, queries: int) -> str:
    return (
        f"{count} of {queries} queries never win{'s' * (count == 1)}"
        if count
        else "every query wins"
    )


def _matrix(axes: Any, winners: np.ndarray, share: np.ndarray, *, framed: bool) -> None:
    """Draw winners `(B, C)`, pictures as columns: the darker a cell, the more pairs its query wins in all."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    colors = colormaps[style.HEAT](0.75 * share / share.max())
    for b, c in np.ndindex(winners.shape):
        color = colors[winners[b, c]]
        right = framed and b == c
        axes.add_patch(
            Rectangle((b - 0.5, c - 0.5), 1, 1, facecolor=color, edgecolor="#FFFFFF", linewidth=0.8)
        )
        if right:
            axes.add_patch(
                Rectangle(
                    (b - 0.44, c - 0.44),
                    0.88,
                    0.88,
                    fill=False,
                    edgecolor=style.RIGHT,
                    linewidth=1.5,
                )
            )
        ink = "#111111" if np.dot(color[:3], [0.299, 0.587, 0.114]) > 0.5 else "#FFFFFF"
        style.write(
            axes,
            b,
            c,
            str(winners[b, c]),
            size=8.5,
            ha="center",
            va="center",
            color=ink,
            weight="bold" if right else "normal",
        )
    style.quiet(axes)


def _histogram(
    figure: Any, box: tuple[float, float, float, float], share: np.ndarray, right: np.ndarray | None
) -> None:
    """Draw each query's share of wins as a bar, that of right pairs as a diamond, and a cross where a query never wins."""
    from matplotlib import colormaps

    width, height = figure.get_size_inches()
    queries, top = len(share), max(share.max(), 0 if right is None else right.max(), 1 / len(share))
    axes = figure.add_axes(
        (box[0] / width, box[1] / height, box[2] / width, box[3] / height),
        xlim=(-0.7, queries - 0.3),
        ylim=(0, 1.12 * top),
    )
    axes.bar(
        range(queries),
        share,
        width=0.7,
        color=colormaps[style.HEAT](0.75 * share / share.max()),
        edgecolor=style.QUERY,
        linewidth=0.8,
    )
    said = [("bar: share of all pairs", style.QUERY)]
    if right is not None:
        axes.plot(
            np.flatnonzero(right),
            right[right > 0],
            "D",
            color=style.RIGHT,
            markersize=4.5,
            clip_on=False,
            zorder=3,
        )
        said.append(("◆ of right pairs", style.RIGHT))
    axes.axhline(1 / queries, color=style.INK, linewidth=1.1, linestyle=(0, (5, 3)))
    said.append(("- - even share", style.INK))
    dead = np.flatnonzero(share == 0)
    if len(dead):
        axes.plot(
            dead,
            np.full(len(dead), 0.03 * top),
            "x",
            color=style.INK,
            markersize=6,
            markeredgewidth=1.4,
            clip_on=False,
            zorder=4,
        )
        said.append(("× never wins", style.INK))
    style.quiet(axes, keep=("left", "bottom"))
    axes.tick_params(labelsize=8, color=style.PADDING)
    axes.set_xticks(range(queries) if queries <= 32 else range(0, queries, 8))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    axes.set_ylabel("share of wins", fontsize=9, family=style.FONT)
    axes.set_xlabel("query", fontsize=9, family=style.FONT, labelpad=2)
    for place, (words, color) in enumerate(said):
        x, y = box[0] + (place % 2) * box[2] * 0.56, height - 0.55 - 0.17 * (place // 2)
        figure.text(
            x / width, y / height, words, size=8.5, family=style.FONT, color=color, va="top"
        )


def _checked_winners(winners: Any, captions: Sequence[str], queries: int) -> np.ndarray:
    array = np.asarray(winners)
    if array.ndim != 2 or array.shape[1] != len(captions) or not array.size:
        raise ShapeError(
            f"winners (B,C) have a column for each caption: got {array.shape} and {len(captions)} captions; pictures are rows"
        )
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= queries:
        came = f"{array.dtype} from {array.min()} to {array.max()}"
        raise DataError(
            f"winners are whole numbers in [0, Q={queries}): got {came}; pass the argmax over the queries"
        )
    return array


def _checked_weights(weights: Any, grid: tuple[int, int]) -> np.ndarray:
    array = np.asarray(weights, dtype=np.float64)
    rows, columns = grid
    if array.ndim != 2 or array.shape[1] != rows * columns or not array.size:
        raise ShapeError(
            f"query_heat (Q,P), P = rows · columns: got {array.shape} for {rows} · {columns}; leave the class token out: weights[:, 1:]"
        )
    if not (np.isfinite(array).all() and array.min() >= 0):
        raise DataError(
            f"attention weights are finite and ≥ 0: the least is {array.min():.3g}; pass what softmax gives, not the scores"
        )
    return array


def _normalized(weights: np.ndarray) -> np.ndarray:
    """Return rows that sum to 1 without the class token's share, or to 0 where a query looks at nothing."""
    total = weights.sum(axis=1, keepdims=True)
    return weights / np.where(total > 0, total, 1.0)


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
