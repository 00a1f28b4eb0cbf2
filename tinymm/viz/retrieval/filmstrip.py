"""A similarity matrix at several steps of a training, with what the loss reads off it at its margins.

Each frame has captions down the left and pictures along the top, as `similarity` draws them. To the
right of a caption stands the probability that the softmax over pictures gives to its own; below a
picture, the probability that the softmax over captions gives to its own. The loss of Figure 3 is
the mean of -ln of these 2n numbers, so it can be checked by eye: it falls where the margins darken.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.viz import style

from ..charts import LINES
from ..curves import label_ends
from ..tables import number, table

MOST_FRAMES, MOST_PAIRS, ACROSS = 6, 10, 3
CELL, LEFT, GAP, HEAD, CURVE, ABOVE = 0.27, 1.55, 0.26, 0.52, 1.7, 0.4  # inches


def probabilities(cosines: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what each picture gives to its own caption, and each caption to its own picture: cosines (n, n), pictures first -> (n,), (n,).

    >>> [p.round(3).tolist() for p in probabilities(np.eye(2), np.log(3.0))]
    [[0.75, 0.75], [0.75, 0.75]]
    """
    logits = scale * np.asarray(cosines, dtype=np.float64)
    raised = [np.exp(logits - logits.max(axis=axis, keepdims=True)) for axis in (1, 0)]
    of_pictures, of_captions = (
        np.diag(e / e.sum(axis=axis, keepdims=True)) for e, axis in zip(raised, (1, 0), strict=True)
    )
    return of_pictures, of_captions


def filmstrip(
    frames: Mapping[int, tuple[np.ndarray, float]],
    pictures: np.ndarray,
    captions: Sequence[str],
    losses: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
) -> Any:
    """Return a figure of `frames` `{step: (cosines (n, n), scale)}` of n pairs, pictures first, over curves `{name: (steps, values)}` of the loss.

    The first curve has a mark at each frame; dashed is ln n, the loss of equal scores. All frames
    share one color scale of cosines, all margins one of probabilities. UsageError for too many
    frames or pairs, ShapeError if they do not fit, DataError for numbers that are not finite.

    >>> drawn = filmstrip({0: (np.zeros((2, 2)), 1.0)}, np.zeros((2, 4, 4)), ["one", "two"], {"loss": ([0, 1], [0.7, 0.6])}, title="It begins")
    >>> drawn.alt
    'It begins. Step 0: loss 0.693, 0 of 2 captions find their picture. Dashed: ln 2 = 0.693.'
    """
    data = _checked(frames, pictures, captions)
    n, deep = len(captions), -(-len(data) // ACROSS)
    side = (n + 1.25) * CELL
    width, height = (
        LEFT + ACROSS * (side + GAP) + 0.05,
        ABOVE + deep * (side + HEAD + GAP) + CURVE + 0.7,
    )
    figure = style.new_figure(width, height)
    low, high = (
        min(cosines.min() for cosines, _ in data.values()),
        max(cosines.max() for cosines, _ in data.values()),
    )
    for place, (step, (cosines, scale)) in enumerate(data.items()):
        row, column = divmod(place, ACROSS)
        x, y = (
            LEFT + column * (side + GAP),
            height - ABOVE - row * (side + HEAD + GAP) - side - HEAD,
        )
        axes = figure.add_axes(
            (x / width, y / height, side / width, (side + HEAD) / height),
            xlim=(-0.5, n + 0.75),
            ylim=(n + 0.75, -0.5 - HEAD / CELL),
        )
        _frame(
            axes,
            cosines,
            scale,
            pictures,
            captions if column == 0 else [],
            (low, max(high, low + 1e-6)),
        )
        style.write(
            axes,
            -0.5,
            -1.62,
            f"step {step} · loss {_loss(cosines, scale):.2f}",
            size=9.5,
            weight="bold",
            va="bottom",
        )
    key = f"cells: cosine, pale {low:z.2f} to dark {high:z.2f}"
    key += " · gray: share of the softmax that goes to the own picture (right), the own caption (below)"
    figure.text(
        0.12 / width,
        (CURVE + 0.62) / height,
        key.replace("-", "−"),
        size=8.5,
        family=style.FONT,
        color=style.INK,
    )
    _curves(
        figure,
        (LEFT / width, 0.42 / height, (width - LEFT - 1.75) / width, CURVE / height),
        losses,
        data,
        n,
    )
    style.headline(figure, title, size=11.5)
    figure.alt = _alt(title, data, n)
    figure.table = _table(data, n)
    return figure


def _frame(
    axes: Any,
    cosines: np.ndarray,
    scale: float,
    pictures: np.ndarray,
    captions: Sequence[str],
    span: tuple[float, float],
) -> None:
    from matplotlib.patches import Rectangle

    n = len(cosines)
    style.quiet(axes)
    with style.steady_limits(axes):
        axes.imshow(
            cosines.T,
            cmap=style.HEAT,
            vmin=span[0],
            vmax=span[1],
            interpolation="nearest",
            aspect="auto",
        )
    for i in range(n):
        axes.add_patch(
            Rectangle(
                (i - 0.43, i - 0.43), 0.86, 0.86, fill=False, edgecolor=style.RIGHT, linewidth=1.1
            )
        )
        style.thumbnail(axes, pictures[i], i, -1.05, 0.86, width=0.7)
    for i, caption in enumerate(captions):
        style.write(
            axes,
            -0.7,
            i,
            style.wrapped(caption, 24, 1),
            size=8,
            ha="right",
            va="center",
            color=style.TEXT,
        )
    of_pictures, of_captions = probabilities(cosines, scale)
    for i in range(n):
        _margin(axes, n + 0.25, i, of_captions[i])
        _margin(axes, i, n + 0.25, of_pictures[i])


def _margin(axes: Any, x: float, y: float, probability: float) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    color = colormaps["Greys"](0.75 * probability)
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=color, linewidth=0, zorder=2))
    words = "1" if probability > 0.995 else f"{probability:.2f}".lstrip("0")
    ink = "#FFFFFF" if probability > 0.7 else "#111111"
    style.write(axes, x, y, words, size=6.5, ha="center", va="center", color=ink, zorder=3)


def _curves(
    figure: Any,
    box: tuple,
    losses: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    frames: Mapping,
    n: int,
) -> None:
    axes = figure.add_axes(box)
    style.quiet(axes, keep=("left", "bottom"))
    axes.tick_params(labelsize=8.5, color=style.PADDING)
    ends, labels = (
        [float(np.log(n))],
        [(f"equal scores: ln {n} = {np.log(n):.2f}\n(says nothing)", style.INK)],
    )
    axes.axhline(np.log(n), color=style.INK, linewidth=1.1, linestyle=(0, (5, 3)))
    for place, ((name, (steps, values)), (color, marker)) in enumerate(
        zip(losses.items(), LINES, strict=False)
    ):
        axes.plot(steps, values, color=color, linewidth=1.4)
        if place == 0:
            axes.plot(
                list(frames),
                [_loss(*frame) for frame in frames.values()],
                linestyle="",
                marker=marker,
                color=color,
                markersize=5,
            )
        last = max(1, len(values) // 20)
        ends.append(float(np.mean(values[-last:])))
        labels.append(
            (
                f"{name}:\n{number(ends[-1])}, mean of the last {last}"
                if last > 1
                else f"{name}: {number(ends[-1])}",
                color,
            )
        )
    axes.set_ylim(0, None)
    axes.set_ylabel("loss (nats)", fontsize=9.5, family=style.FONT)
    axes.set_xlabel("step", fontsize=9.5, family=style.FONT)
    label_ends(axes, ends, labels)


def _checked(
    frames: Mapping[int, tuple], pictures: np.ndarray, captions: Sequence[str]
) -> dict[int, tuple[np.ndarray, float]]:
    n = len(captions)
    data = {
        step: (np.asarray(cosines, dtype=np.float64), float(scale))
        for step, (cosines, scale) in frames.items()
    }
    if not 1 <= len(data) <= MOST_FRAMES or not 1 <= n <= MOST_PAIRS:
        raise UsageError(
            f"a filmstrip has 1 to {MOST_FRAMES} frames of 1 to {MOST_PAIRS} pairs, and {len(data)} of {n} came; leave some out"
        )
    for step, (cosines, scale) in data.items():
        if cosines.shape != (n, n) or len(pictures) != n:
            raise ShapeError(
                f"filmstrip (n,n), n pictures, n captions: got {cosines.shape} at step {step}, {len(pictures)} pictures, {n} captions; "
                "pass the same pairs in the same order to all three"
            )
        if not np.isfinite(cosines).all() or not np.isfinite(scale):
            bad = (~np.isfinite(cosines)).sum() + (not np.isfinite(scale))
            raise DataError(
                f"a filmstrip's cosines and scales are finite, and {bad} of step {step} are not; look at the model's weights first"
            )
    return data


def _loss(cosines: np.ndarray, scale: float) -> float:
    return float(-np.log(np.maximum(np.concatenate(probabilities(cosines, scale)), 1e-300)).mean())


def _found(cosines: np.ndarray) -> int:
    """Return how many captions score their own picture above every other."""
    return int(
        (
            np.where(np.eye(len(cosines), dtype=bool), -np.inf, cosines).max(axis=0)
            < np.diag(cosines)
        ).sum()
    )


def _alt(title: str, data: Mapping[int, tuple[np.ndarray, float]], n: int) -> str:
    said = [
        f"Step {step}: loss {number(_loss(*frame))}, {_found(frame[0])} of {n} captions find their picture."
        for step, frame in data.items()
    ]
    return " ".join(
        [f"{title.rstrip('.')}.", *said, f"Dashed: ln {n} = {number(float(np.log(n)))}."]
    )


def _table(data: Mapping[int, tuple[np.ndarray, float]], n: int) -> str:
    own = np.eye(n, dtype=bool)
    rows = [
        [
            str(step),
            scale,
            _loss(cosines, scale),
            _found(cosines),
            cosines[own].mean(),
            cosines[~own].mean() if n > 1 else None,
        ]
        for step, (cosines, scale) in data.items()
    ]
    return table(["step", "scale", "loss", f"found of {n}", "own cosine", "wrong cosine"], rows)
