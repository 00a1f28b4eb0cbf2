"""BLIP-2's second stage as a strip from picture to words: what is frozen, what trains, and how far back the gradient goes (§3.3, Figure 3).

Frozen boxes are gray and hatched. Frozen means that no weight of theirs moves, not that nothing
passes: the gradient of the words goes *through* the language model into the projection and the
Q-Former, and ends before the picture encoder, which nobody asks.
"""

from typing import Any

from tinymm.arrays.errors import UsageError
from tinymm.tasks import blip2_stage2, spec_or_none
from tinymm.viz import style

from ..tables import table
from .systems import written

FROZEN, TRAINED = "#E4E4E4", "#A9DEC9"
WIDE, TALL, BETWEEN, LEFT = (
    1.72,
    1.0,
    0.62,
    1.05,
)  # inches of a box, of the room between two, and of that before the first


def counts(model: Any) -> dict[str, tuple[int, bool]]:
    """Return for each part how many numbers it has, and whether they train; UsageError for anything but a stage 2.

    >>> import numpy as np
    >>> from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
    >>> counts(BLIP2Stage2(BLIP2Stage2Config.tiny(), np.random.default_rng(0)))["projection"]
    (1056, True)
    """
    if spec_or_none(model) is not blip2_stage2.spec:
        raise UsageError(
            f"the strip shows BLIP-2's stage 2, and {type(model).__name__} came; pass 1 BLIP2Stage2"
        )
    parts: dict[str, list[Any]] = {
        "picture encoder": [model.image_encoder],
        "Q-Former": [model.norm_vision, model.qformer],
        "projection": [model.projection],
        "language model": [model.language_model],
    }
    every = {name: [p for part in some for p in part.parameters()] for name, some in parts.items()}
    return {
        name: (sum(p.size for p in some), any(part.trainable() for part in parts[name]))
        for name, some in every.items()
    }


def strip(model: Any, *, title: str | None = None) -> Any:
    """Return a figure of the parts from left to right, with the shapes that pass between them, and the gradient's way back below.

    >>> import numpy as np
    >>> from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
    >>> print(strip(BLIP2Stage2(BLIP2Stage2Config.tiny(), np.random.default_rng(0))).table.splitlines()[1])
    picture encoder    12072  frozen
    """
    sizes, config = counts(model), model.config
    Q, M, W = config.qformer.queries, config.image.width, config.language.width
    trained, whole = sum(n for n, on in sizes.values() if on), sum(n for n, _ in sizes.values())
    said = (
        title
        or f"Of {written('parameters', whole)} numbers {written('parameters', trained)} train; the gradient passes through frozen ones"
    )
    between = [
        f"{config.image.patches + 1} × {M}",
        f"{Q} × {config.qformer.width}",
        f"{Q} × {W}\nvisual prompts",
    ]
    width, height = LEFT + 4 * WIDE + 3 * BETWEEN + 1.15, 2.75
    figure = style.new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    style.quiet(axes)
    y, xs = 1.05, [LEFT + k * (WIDE + BETWEEN) for k in range(4)]
    for x, (name, (size, on)) in zip(xs, sizes.items(), strict=True):
        _box(axes, x, y, name, written("parameters", size), on)
    style.write(
        axes,
        LEFT / 2 - 0.12,
        y + TALL / 2,
        "picture",
        size=9.5,
        ha="center",
        va="center",
        color=style.PICTURE,
        weight="bold",
    )
    style.write(
        axes,
        width - 0.42,
        y + TALL / 2,
        "words",
        size=9.5,
        ha="center",
        va="center",
        color=style.TEXT,
        weight="bold",
    )
    _arrow(axes, LEFT - 0.3, LEFT, y + TALL / 2, style.PICTURE)
    for x, shape in zip(xs[:3], between, strict=True):
        _arrow(axes, x + WIDE, x + WIDE + BETWEEN, y + TALL / 2, style.QUERY)
        style.write(
            axes,
            x + WIDE + BETWEEN / 2,
            y + TALL / 2 + 0.08,
            shape,
            size=8,
            ha="center",
            va="bottom",
            color=style.INK,
        )
    _arrow(axes, xs[3] + WIDE, width - 0.72, y + TALL / 2, style.TEXT)
    style.write(
        axes,
        xs[3] + WIDE / 2,
        y + TALL + 0.12,
        "↓ the text before, as words",
        size=8.5,
        ha="center",
        va="bottom",
        color=style.TEXT,
    )
    _arrow(axes, width - 0.72, xs[1], y - 0.3, style.RIGHT, linestyle=(0, (5, 2)))
    axes.plot([xs[1], xs[1]], [y - 0.42, y - 0.18], color=style.RIGHT, linewidth=2.2)
    way = "gradient of the words: through the frozen model, into what trains"
    style.write(axes, xs[1] + 0.1, y - 0.4, way, size=8.5, va="top", color=style.RIGHT)
    style.write(
        axes,
        0.12,
        0.1,
        "gray, hatched: frozen, no weight moves · green: trains",
        size=8.5,
        va="bottom",
    )
    rows = [[name, size, "trains" if on else "frozen"] for name, (size, on) in sizes.items()]
    figure.table = table(["", "numbers", ""], rows)
    listed = ", ".join(f"{name} ({size:,}, {state})" for name, size, state in rows)
    figure.alt = f"{said}. From picture to words: {listed}. The gradient goes back from the words to the Q-Former, and not into the picture encoder."
    style.headline(figure, said, size=11.5)
    return figure


def _box(axes: Any, x: float, y: float, name: str, size: str, trains: bool) -> None:
    from matplotlib.patches import FancyBboxPatch

    look: dict[str, Any] = {
        "facecolor": TRAINED if trains else FROZEN,
        "edgecolor": style.INK if trains else "#BDBDBD",
        "linewidth": 1.0,
    }
    look |= {
        "boxstyle": "round,pad=0,rounding_size=0.06",
        "hatch": None if trains else "////",
        "zorder": 2,
    }
    axes.add_patch(FancyBboxPatch((x, y), WIDE, TALL, **look))
    paper = {"facecolor": look["facecolor"], "edgecolor": "none", "pad": 1.5}
    for k, (line, weight) in enumerate(
        ((name, "bold"), (size, "normal"), ("trains" if trains else "frozen", "normal"))
    ):
        at = y + TALL / 2 + (1 - k) * 0.24
        style.write(
            axes,
            x + WIDE / 2,
            at,
            line,
            size=9.5 if k == 0 else 8.5,
            weight=weight,
            ha="center",
            va="center",
            bbox=paper,
            zorder=3,
        )


def _arrow(axes: Any, start: float, end: float, y: float, color: str, **line: Any) -> None:
    look = {
        "arrowstyle": "-|>",
        "color": color,
        "linewidth": 1.6,
        "shrinkA": 0,
        "shrinkB": 0,
    } | line
    axes.annotate("", (end, y), (start, y), arrowprops=look, zorder=4)
