"""Encoder, connector, language model: the frame of vision-language models, with four papers in it.

A vision encoder's features are joined with text, and go into a language model. What differs is how
they are joined: by a similarity (CLIP), by cross-attention (ALBEF, BLIP) or by a few queries
(BLIP-2).
"""

from typing import Any

from tinymm.viz import style

#: Model → what it has in each column, and what it is trained on. A part in brackets is frozen.
ROWS = {
    "CLIP": ("image encoder", "cosine similarity", "text encoder", "contrastive loss"),
    "ALBEF": ("image encoder", "cross-attention", "multimodal encoder", "ITC, ITM, MLM"),
    "BLIP": ("image encoder", "cross-attention", "text decoder", "ITC, ITM, LM"),
    "BLIP-2": ("[image encoder]", "Q-Former", "[language model]", "ITC, ITM, ITG; then LM"),
}
COLUMNS = ("vision encoder", "connector", "language model", "trained on")
FILLS = ("#C3DCF0", "#A9DEC9", "#F7CDA6")
FROZEN = "#E4E4E4"
LEFT, WIDE, TALL, BETWEEN, ABOVE = 0.95, 1.75, 0.5, 0.42, 0.18  # inches


def architecture(*, title: str | None = None) -> Any:
    """Return a figure of the frame: a row for each of the four papers, a column for each part.

    >>> architecture().alt.splitlines()[0]
    'Four papers, one frame: vision encoder, connector, language model.'
    """
    said = title or "Four papers, one frame: vision encoder, connector, language model"
    width = LEFT + 4 * WIDE + 3 * BETWEEN + 0.1
    height = 1.05 + len(ROWS) * (TALL + ABOVE) + 0.25
    figure = style.new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    style.quiet(axes)
    xs = [LEFT + column * (WIDE + BETWEEN) for column in range(4)]
    top = height - 0.85
    for name, x in zip(COLUMNS, xs, strict=True):
        style.write(axes, x + WIDE / 2, top + 0.08, name, size=9.5, ha="center", va="bottom")
    for row, (name, cells) in enumerate(ROWS.items()):
        y = top - (row + 1) * (TALL + ABOVE) + ABOVE
        style.write(
            axes, LEFT - 0.15, y + TALL / 2, name, size=11, weight="bold", ha="right", va="center"
        )
        for column, (x, cell) in enumerate(zip(xs, cells, strict=True)):
            _cell(axes, x, y, cell, column)
        for left, right in zip(xs[:2], xs[1:3], strict=True):
            both = name == "CLIP" and right == xs[2]
            arrow = {"arrowstyle": "<|-" if both else "-|>", "color": style.TEXT, "linewidth": 1.1}
            ends = (right - 0.03, y + TALL / 2), (left + WIDE + 0.03, y + TALL / 2)
            axes.annotate("", xy=ends[0], xytext=ends[1], arrowprops=arrow)
    note = "gray, dashed: frozen · BLIP-2 trains the Q-Former alone, then before the language model"
    style.write(axes, 0.1, 0.08, note, size=8.5, va="bottom")
    figure.alt = architecture_alt()
    style.headline(figure, said, size=12, width=int(width * 72 / (12 * 0.62)))
    return figure


def _cell(axes: Any, x: float, y: float, cell: str, column: int) -> None:
    """Draw one part as a box, or what the model is trained on as text."""
    from matplotlib.patches import FancyBboxPatch

    if column == 3:
        style.write(axes, x + WIDE / 2, y + TALL / 2, cell, size=9.5, ha="center", va="center")
        return
    frozen = cell.startswith("[")
    box = FancyBboxPatch(
        (x, y),
        WIDE,
        TALL,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=FROZEN if frozen else FILLS[column],
        edgecolor="#555555",
        linewidth=1.0,
        linestyle="--" if frozen else "-",
    )
    axes.add_patch(box)
    style.write(
        axes, x + WIDE / 2, y + TALL / 2, cell.strip("[]"), size=10, ha="center", va="center"
    )


def architecture_alt() -> str:
    """Return the rows in words, the frozen parts named."""
    lines = ["Four papers, one frame: vision encoder, connector, language model."]
    for name, (encoder, connector, language, losses) in ROWS.items():
        parts = [
            f"frozen {p.strip('[]')}" if p.startswith("[") else p
            for p in (encoder, connector, language)
        ]
        lines.append(f"{name}: {', '.join(parts)}; trained on {losses}.")
    return "\n".join(lines)
