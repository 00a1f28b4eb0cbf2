"""ALBEF's queue as the ring that it is, what its columns do to the targets, and how far its old features have drifted (§3.2 and §3.3; MoCo).

A queue gives more wrong answers than a batch holds, at the price of age: what is stored was
computed by the twin as it was then. The slower the twin moves, the longer a stored feature stays
what it would be today; a twin that follows at once makes old columns lie.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.viz import style

from ..curves import label_ends

ALPHAS = (0.0, 0.4, 1.0)
COLORS = "YlGnBu_r"  # young is dark, old pale, and what never was is hatched
LINES = (
    ("#0072B2", "o", "-"),
    ("#C14E00", "s", "--"),
    ("#00805D", "^", "-."),
    ("#A3469B", "D", ":"),
)
MOST_NUMBERS = 28  # arcs whose ages can be read


def steps_ago(ages: np.ndarray, batch: int) -> np.ndarray:
    """Return how many pushes of `batch` rows came after each slot's own, from `Queue.ages()`; -1 where nothing has come yet.

    >>> steps_ago(np.array([3, 2, 1, 0, -1, -1]), 2).tolist()
    [1, 1, 0, 0, -1, -1]
    """
    ages = np.asarray(ages)
    return np.where(ages < 0, -1, ages // batch)


def arcs(steps: np.ndarray) -> list[tuple[int, int, int]]:
    """Return the runs of neighboring slots that came together, as (first, behind the last, steps ago).

    >>> arcs(np.array([1, 1, 0, 0, -1, -1]))
    [(0, 2, 1), (2, 4, 0), (4, 6, -1)]
    """
    edges = [0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]
    return [
        (first, behind, int(steps[first])) for first, behind in zip(edges, edges[1:], strict=False)
    ]


def ring(
    ages: np.ndarray,
    pointer: int,
    batch: int,
    targets: np.ndarray,
    *,
    alphas: Sequence[float] = ALPHAS,
    drift: Mapping[float, tuple[np.ndarray, np.ndarray]] | None = None,
    right: int = 0,
    title: str | None = None,
) -> Any:
    """Return a figure of a queue of K slots, of one pair's soft targets under it, and of what age does to features, where that is given.

    `ages` `(K,)` are `Queue.ages()`, `pointer` the slot that is overwritten next, `batch` how many
    rows come at a time. `targets` `(len(alphas), C)` are one row of targets for each share of the
    twin's opinion; the first `batch` of the C columns are the batch's own, the rest the queue's,
    and `right` is the pair's own. `drift` maps a momentum to (ages in steps, cosine of a stored
    feature with what it would be now). UsageError for ages, pointer and batch of no queue,
    ShapeError for targets or drift that do not fit, DataError for those that are no shares or no
    cosines.

    >>> drawing = ring(np.array([1, 0, -1, -1]), 2, 2, np.array([[1.0, 0, 0, 0], [0.7, 0.2, 0.1, 0], [0.2, 0.5, 0.2, 0.1]]))
    >>> drawing.alt.splitlines()[0]
    'The next batch overwrites slots 2 to 3, which hold nothing yet; at α = 0.4 the right pair keeps 0.70 of its target.'
    """
    ages, targets, curves = _checked(ages, pointer, batch, targets, alphas, right, drift)
    wide, side, below, line = 8.6, 3.5, 0.32, 0.86
    lines = ring_alt(ages, pointer, batch, targets, alphas=alphas, drift=curves, right=right)
    said = title or (lines.splitlines()[-1 if curves else 0]).rstrip(".")
    letters = int(wide * 72 / (11 * 0.62))
    above = 0.12 + 0.19 * -(-len(said) // letters)
    height = above + side + 0.4 + line * len(alphas) + below
    figure = style.new_figure(wide, height)
    left = 0.1 if curves else 1.6
    axes = figure.add_axes(
        (left / wide, 1 - (above + side) / height, side / wide, side / height),
        xlim=(-1.3, 1.3),
        ylim=(-1.3, 1.3),
    )
    image = _draw_ring(axes, ages, pointer, batch)
    if image is not None:
        box = (
            (left + side + 0.1) / wide,
            1 - (above + side - 0.5) / height,
            0.1 / wide,
            (side - 1.0) / height,
        )
        bar = figure.colorbar(image, cax=figure.add_axes(box))
        bar.set_label("age of a feature (steps)", fontsize=8.5, family=style.FONT)
        bar.ax.tick_params(labelsize=8)
        bar.ax.invert_yaxis()
        bar.locator = _whole()
        bar.update_ticks()
    if curves:
        _draw_drift(
            figure,
            (5.0 / wide, 1 - (above + side - 0.55) / height, 2.75 / wide, (side - 0.95) / height),
            curves,
        )
    top = above + side + 0.4
    _draw_targets(figure, targets, alphas, batch, right, top, line)
    figure.alt = lines
    style.headline(figure, said, size=11, width=letters)
    return figure


def ring_alt(
    ages: np.ndarray,
    pointer: int,
    batch: int,
    targets: np.ndarray,
    *,
    alphas: Sequence[float] = ALPHAS,
    drift: Mapping[float, tuple[np.ndarray, np.ndarray]] | None = None,
    right: int = 0,
) -> str:
    """Return in words what is overwritten next and how old it is, where each row of targets puts its weight, and what age does to features."""
    ages, targets, curves = _checked(ages, pointer, batch, targets, alphas, right, drift)
    K, steps = len(ages), steps_ago(ages, batch)
    next_ones = steps[(pointer + np.arange(batch)) % K]
    old = (
        "which hold nothing yet"
        if (next_ones < 0).all()
        else f"whose features are {next_ones.max()} steps old"
    )
    shares = _weights(targets, batch, right)
    between = [
        (alpha, own) for alpha, (own, _, _) in zip(alphas, shares, strict=True) if 0 < alpha < 1
    ]
    soft = "".join(
        f"; at α = {alpha:g} the right pair keeps {own:.2f} of its target"
        for alpha, own in between[:1]
    )
    lines = [
        f"The next batch overwrites slots {pointer} to {(pointer + batch - 1) % K}, {old}{soft}."
    ]
    for alpha, (own, rest, queued) in zip(alphas, shares, strict=True):
        lines.append(
            f"α = {alpha:g}: the right pair has {own:.2f} of the target, the rest of its batch {rest:.2f}, the queue {queued:.2f}."
        )
    if curves:
        age = min(x.max() for x, _ in curves.values())
        left = [
            f"{np.interp(age, x, y):.2f} at momentum {momentum:g}"
            for momentum, (x, y) in curves.items()
        ]
        lines.append(
            f"After {age:g} steps a stored feature has cosine {style.listed(left)} with what it would be now."
        )
    return "\n".join(lines)


def _draw_ring(axes: Any, ages: np.ndarray, pointer: int, batch: int) -> Any:
    """Draw an arc for each push that is kept, slot 0 at the top and on clockwise; return what a color bar needs, or None for an empty queue."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Circle, Wedge

    K, steps = len(ages), steps_ago(ages, batch)
    style.quiet(axes)
    axes.set_aspect("equal")
    colors, full = colormaps[COLORS], max(1, int(steps.max()))
    image = ScalarMappable(Normalize(0, full), colors)
    runs, line = arcs(steps), min(1.2, 60 / len(arcs(steps)) ** 1.5)
    for first, behind, age in runs:
        face: Any = colors(age / full) if age >= 0 else "#FFFFFF"
        look = {
            "facecolor": face,
            "edgecolor": "#FFFFFF" if age >= 0 else style.PADDING,
            "hatch": None if age >= 0 else "///",
        }
        axes.add_patch(
            Wedge(
                (0, 0),
                1,
                90 - 360 * behind / K,
                90 - 360 * first / K,
                width=0.32,
                linewidth=line,
                **look,
            )
        )
        if age >= 0 and len(runs) <= MOST_NUMBERS:
            ink = "#111111" if np.dot(face[:3], [0.299, 0.587, 0.114]) > 0.5 else "#FFFFFF"
            style.write(
                axes,
                *_at((first + behind) / 2 / K, 0.84),
                str(age),
                size=8.5,
                ha="center",
                va="center",
                color=ink,
            )
    for radius in (0.68, 1):
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=style.PADDING, linewidth=0.7))
    next_arc: dict[str, Any] = {"width": 0.05, "facecolor": style.RIGHT, "edgecolor": "none"}
    axes.add_patch(
        Wedge((0, 0), 1.08, 90 - 360 * (pointer + batch) / K, 90 - 360 * pointer / K, **next_arc)
    )
    tip, tail = _at(pointer / K, 0.66), _at(pointer / K, 0.38)
    arrow = {
        "arrowstyle": "-|>",
        "color": style.RIGHT,
        "linewidth": 2,
        "mutation_scale": 14,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    axes.annotate("", tip, tail, arrowprops=arrow)
    words = f"{K} slots\n{batch} a step\nclockwise" + (
        "\nhatched: empty" if (steps < 0).any() else ""
    )
    style.write(
        axes,
        *_at(pointer / K + 0.5, 0.1),
        words,
        size=8.5,
        ha="center",
        va="center",
        linespacing=1.2,
    )
    middle = _at((pointer + batch / 2) / K, 1.13)
    across = "left" if middle[0] > 0.2 else "right" if middle[0] < -0.2 else "center"
    up = "bottom" if middle[1] > 0.2 else "top" if middle[1] < -0.2 else "center"
    style.write(axes, *middle, "next", size=8.5, ha=across, va=up, color=style.RIGHT, weight="bold")
    return image if (steps >= 0).any() else None


def _draw_drift(
    figure: Any, box: tuple[float, ...], curves: Mapping[float, tuple[np.ndarray, np.ndarray]]
) -> None:
    lowest = min(float(y.min()) for _, y in curves.values())
    low = (
        min(0.0, lowest - 0.05) if lowest < 0.5 else np.floor(10 * lowest - 0.5) / 10
    )  # lines may begin where they are, unlike bars
    axes = figure.add_axes(box, ylim=(low, 1 + 0.04 * (1 - low)))
    ends, labels = [], []
    for (color, marker, dashes), (momentum, (x, y)) in zip(
        LINES * len(curves), curves.items(), strict=False
    ):
        axes.plot(x, y, color=color, marker=marker, linestyle=dashes, markersize=4, linewidth=1.4)
        ends.append(float(y[-1]))
        labels.append((f"m = {momentum:g}", color))
    style.quiet(axes, keep=("left", "bottom"))
    axes.tick_params(labelsize=8, color=style.PADDING)
    axes.grid(axis="y", color=style.FAINT, linewidth=0.6)
    axes.xaxis.set_major_locator(_whole())
    axes.set_xlabel("age of a stored feature (steps)", fontsize=8.5, family=style.FONT)
    axes.set_title(
        "cosine with what it would be now",
        fontsize=9,
        family=style.FONT,
        loc="left",
        pad=5,
        color=style.INK,
    )
    label_ends(axes, ends, labels)


def _draw_targets(
    figure: Any,
    targets: np.ndarray,
    alphas: Sequence[float],
    batch: int,
    right: int,
    top: float,
    line: float,
) -> None:
    """Draw one pair's targets, a row for each share of the twin's opinion, all to the same scale from 0 to 1."""
    width, height = figure.get_size_inches()
    words: dict[str, Any] = {"family": style.FONT, "color": style.INK, "parse_math": False}
    heading = "one pair's targets: the share of the answer that each column is given (height: its square root)"
    figure.text(
        0.12 / width, 1 - (top - 0.1) / height, heading, size=9, weight="bold", va="bottom", **words
    )
    C = targets.shape[1]
    colors = np.array([style.INK] * batch + [style.PADDING] * (C - batch), dtype=object)
    colors[right] = style.RIGHT
    wide = np.full(C, max(0.5, min(6.0, 0.7 * 5.6 * 72 / C)))
    wide[right] = max(wide[right], 1.5)
    for row, (alpha, target, (own, rest, queued)) in enumerate(
        zip(alphas, targets, _weights(targets, batch, right), strict=True)
    ):
        y = 1 - (top + (row + 1) * line - 0.14) / height
        axes = figure.add_axes(
            (1.15 / width, y, 5.6 / width, (line - 0.24) / height),
            xlim=(-0.012 * C - 0.8, C - 0.2),
            ylim=(0, 1.02),
        )
        axes.vlines(
            np.arange(C), 0, np.sqrt(target), colors=colors.tolist(), linewidths=wide.tolist()
        )
        axes.axvline(batch - 0.5, color=style.PADDING, linewidth=0.8, linestyle=(0, (4, 3)))
        style.quiet(axes, keep=("left", "bottom"))
        axes.set_xticks([])
        axes.set_yticks(np.sqrt([0, 0.1, 0.5, 1]), ["0", "0.1", "0.5", "1"], family=style.FONT)
        axes.tick_params(labelsize=7.5, color=style.PADDING)
        figure.text(
            0.12 / width,
            y + (line - 0.24) / 2 / height,
            f"α = {alpha:g}",
            size=10,
            va="center",
            **words,
        )
        said = f"right pair {own:.2f}\nrest of batch {rest:.2f}\nqueue {queued:.2f}"
        figure.text(
            6.88 / width,
            y + (line - 0.24) / 2 / height,
            said,
            size=8.5,
            va="center",
            linespacing=1.25,
            **words,
        )
    edge = 1.15 + 5.6 * (batch + 0.3) / (C + 0.6)
    y = 1 - (top + len(alphas) * line - 0.06) / height
    figure.text(1.15 / width, y, f"own batch ({batch})", size=8.5, va="top", **words)
    if C > batch:
        figure.text(
            max(edge, 2.4) / width,
            y,
            f"the queue ({C - batch}), from slot 0 on",
            size=8.5,
            va="top",
            **words,
        )


def _weights(targets: np.ndarray, batch: int, right: int) -> list[tuple[float, float, float]]:
    """Return for each row of targets what the right pair has, the rest of its batch, and the queue."""
    return [
        (float(row[right]), float(row[:batch].sum() - row[right]), float(row[batch:].sum()))
        for row in targets
    ]


def _at(turn: float, radius: float) -> tuple[float, float]:
    """Return the place at this share of a turn, clockwise from the top."""
    return radius * float(np.sin(2 * np.pi * turn)), radius * float(np.cos(2 * np.pi * turn))


def _whole() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, integer=True)


def _checked(
    ages: Any,
    pointer: int,
    batch: int,
    targets: Any,
    alphas: Sequence[float],
    right: int,
    drift: Any,
) -> tuple[np.ndarray, np.ndarray, dict[float, tuple[np.ndarray, np.ndarray]]]:
    ages, targets = np.asarray(ages), np.asarray(targets, dtype=np.float64)
    K = len(ages) if ages.ndim == 1 else 0
    if not (0 <= pointer < K and 1 <= batch <= K):
        came = f"{ages.shape}, {pointer}, {batch}"
        raise UsageError(
            f"a ring has ages (K,), a pointer in [0, K) and batches of 1 to K: got {came}; pass one queue's own"
        )
    if (
        targets.ndim != 2
        or len(targets) != len(alphas)
        or targets.shape[1] < batch
        or not 0 <= right < batch
    ):
        raise ShapeError(
            f"targets ({len(alphas)},C) have a row for each α and begin with the batch's {batch} columns, the right one among them: got "
            f"{targets.shape} with the right one at {right}; put the queue's columns behind"
        )
    if not (
        np.isfinite(targets).all()
        and targets.min() >= 0
        and np.allclose(targets.sum(axis=1), 1, atol=1e-3)
    ):
        sums = style.listed([f"{total:.3g}" for total in targets.sum(axis=1)])
        raise DataError(
            f"targets are shares of one answer, none below 0: the rows sum to {sums}; pass what softmax gives"
        )
    curves = {
        momentum: (np.asarray(x, float), np.asarray(y, float))
        for momentum, (x, y) in (drift or {}).items()
    }
    for momentum, (x, y) in curves.items():
        if x.ndim != 1 or x.shape != y.shape or not len(x):
            raise ShapeError(
                f"drift has an age for each cosine, (n,) both: got {x.shape} and {y.shape} for momentum {momentum:g}; align them"
            )
        if not (np.isfinite(y).all() and np.abs(y).max() <= 1 + 1e-3):
            raise DataError(
                f"cosines lie in [-1, 1]: momentum {momentum:g} has {y.min():.3g} to {y.max():.3g}; normalize both features"
            )
    return ages, targets, curves
