"""BLIP's text stack three times: what [CLS], [ENC] and [DEC] each light up, which weights they share, and what each has of its own (§3.1, Figure 2).

The three are not three models. Boxes of one color are the very same weights, so a step on one loss
moves what the others read with; what is pale and dashed is there and not used. Only the
image-grounded text decoder, which is causal, has a self-attention of its own.
"""

from typing import Any

from tinymm.arrays.errors import UsageError
from tinymm.tasks import blip, spec_or_none
from tinymm.viz import style

from .systems import written

USES = (
    ("[CLS]", "reads the text alone", "ITC"),
    ("[ENC]", "reads it with the picture", "ITM"),
    ("[DEC]", "writes it with the picture", "LM"),
)
# From the bottom up: a level's name, what each use has there (None: not used), and a word on what
# it does there.
LEVELS = (
    ("words and positions", ("embedding", "embedding", "embedding"), ("", "", "")),
    (
        "self-attention",
        ("self-attention", "self-attention", "decoder's self-attention"),
        ("sees both ways", "sees both ways", "sees what came before"),
    ),
    (
        "cross-attention",
        (None, "cross-attention", "cross-attention"),
        ("not used", "sees the picture", "sees the picture"),
    ),
    ("feed-forward", ("feed-forward", "feed-forward", "feed-forward"), ("", "", "")),
    (
        "head",
        ("projection", "matching head", "language head"),
        ("unit vector to compare", "matches, or not", "the next word"),
    ),
)
FILLS = {
    "embedding": "#C3DCF0",
    "self-attention": "#F7CDA6",
    "cross-attention": "#A9DEC9",
    "feed-forward": "#DCC8EA",
}
OWN = "#FFF6C2"
SHARED = {1: "its own", 2: "shared by two", 3: "shared by all three"}
TALL, GAP, WIDE, BETWEEN = 0.62, 0.16, 2.35, 0.42  # inches of a box, and of the room between two


def counts(model: Any) -> dict[str, int]:
    """Return how many numbers each part of a BLIP's text side has, frozen ones included; the language head's table is the embedding's.

    UsageError for another model.

    >>> import numpy as np
    >>> from tinymm.models.blip import BLIP, BLIPConfig
    >>> counts(BLIP(BLIPConfig.tiny(), np.random.default_rng(0)))["matching head"]
    66
    """
    if spec_or_none(model) is not blip.spec:
        raise UsageError(
            f"one stack serves three ways in BLIP, and {type(model).__name__} came; pass a BLIP, or none for the drawing alone"
        )
    stack, decoder = model.encoders.text_encoder, model.decoder
    found: dict[str, list[Any]] = {
        "embedding": [stack.embedding, stack.norm],
        "self-attention": [
            part for block in stack.blocks for part in (block.attention, block.norm_1)
        ],
        "cross-attention": [
            part for block in stack.blocks for part in (block.cross, block.norm_cross)
        ],
        "feed-forward": [part for block in stack.blocks for part in (block.mlp, block.norm_2)],
        "decoder's self-attention": [*decoder.attentions, *decoder.norms],
        "projection": [model.encoders.text_projection],
        "matching head": [model.itm_head],
        "language head": [decoder.language_head],
    }
    return {
        name: sum(p.size for part in parts for p in part.parameters())
        for name, parts in found.items()
    }


def stack(model: Any = None, *, title: str | None = None) -> Any:
    """Return a figure of the stack's three uses side by side; with a model, each part says how many parameters it has.

    >>> stack().alt.splitlines()[0]
    'One stack three ways: 2 of its parts serve all three uses, 2 serve two, and only [DEC] has a self-attention of its own.'
    """
    sizes = counts(model) if model is not None else {}
    alt = stack_alt(model)
    said = title or alt.splitlines()[0].rstrip(".")
    left, foot, top = 2.05, 0.45, 0.6
    width = left + 3 * WIDE + 2 * BETWEEN + 0.15
    letters = int(width * 72 / (11 * 0.62))
    above = 0.2 + 0.19 * -(-len(said) // letters)
    height = above + top + len(LEVELS) * (TALL + GAP) + 0.1 + foot + 0.3
    figure = style.new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    style.quiet(axes)
    bottom = foot + 0.3
    xs = [left + column * (WIDE + BETWEEN) for column in range(3)]
    ys = [bottom + level * (TALL + GAP) for level in range(len(LEVELS))]
    _layer_frames(axes, xs, ys, None if model is None else len(model.encoders.text_encoder.blocks))
    _picture(axes, xs, ys[2])
    for (_, keys, _), y in zip(LEVELS, ys, strict=True):
        _links(axes, xs, y, keys)
    for column, ((first, does, loss), x) in enumerate(zip(USES, xs, strict=True)):
        style.write(
            axes,
            x + WIDE / 2,
            ys[-1] + TALL + 0.42,
            f"{first} {does}",
            size=10,
            weight="bold",
            ha="center",
            va="center",
        )
        style.write(
            axes, x + WIDE / 2, ys[-1] + TALL + 0.17, f"↑ {loss}", size=10, ha="center", va="center"
        )
        style.write(
            axes,
            x + WIDE / 2,
            bottom - 0.2,
            f"{first} a red ball [SEP]",
            size=9.5,
            ha="center",
            va="center",
            color=style.TEXT,
        )
        for (name, keys, words), y in zip(LEVELS, ys, strict=True):
            _box(
                axes,
                x,
                y,
                keys[column] or name,
                words[column],
                _users(keys[column]),
                sizes.get(keys[column] or ""),
            )
    note = (
        "joined boxes: the same weights · thick frame: nobody else's · dashed: there, and not used"
    )
    note += " · numbers: of all layers together" if sizes else ""
    style.write(axes, 0.12, 0.1, note, size=8.5, va="bottom")
    figure.alt = alt
    style.headline(figure, said, size=11, width=letters)
    return figure


def stack_alt(model: Any = None) -> str:
    """Return in words what the three uses share, what they would cost apart, and what each lights up."""
    sizes = counts(model) if model is not None else {}
    users = {key: _users(key) for _, keys, _ in LEVELS for key in keys if key}
    if sizes:
        apart = sum(sizes[key] * count for key, count in users.items())
        whole, own = sum(sizes.values()), sizes["decoder's self-attention"]
        lines = [
            f"Three uses of one stack have {_short(whole)} parameters, three stacks would have {_short(apart)}; only [DEC] has a self-attention of "
            f"its own ({_short(own)})."
        ]
    else:
        shared = [sum(count == n for key, count in users.items() if key in FILLS) for n in (3, 2)]
        counted = f"{shared[0]} of its parts serve all three uses, {shared[1]} serve two"
        lines = [
            f"One stack three ways: {counted}, and only [DEC] has a self-attention of its own."
        ]
    for column, (first, does, loss) in enumerate(USES):
        some = [key for _, keys, _ in LEVELS if (key := keys[column])]
        parts = [
            f"{key} ({SHARED[users[key]]}{f', {_short(sizes[key])}' if sizes else ''})"
            for key in some
        ]
        lines.append(f"{first} {does}, for {loss}: {style.listed(parts)}.")
    return "\n".join(lines)


def _users(key: str | None) -> int:
    """Return how many of the three uses have a part."""
    return max(keys.count(key) for _, keys, _ in LEVELS) if key else 0


def _short(count: int) -> str:
    return written("parameters", count)


def _box(
    axes: Any, x: float, y: float, name: str, words: str, users: int, size: int | None
) -> None:
    from matplotlib.patches import FancyBboxPatch

    look: dict[str, Any] = {
        "facecolor": FILLS.get(name, OWN),
        "edgecolor": style.INK,
        "linewidth": 0.8,
    }
    if not users:
        look = {
            "facecolor": "#FFFFFF",
            "edgecolor": style.PADDING,
            "linewidth": 1.0,
            "linestyle": (0, (4, 3)),
        }
    elif users == 1:
        look |= {"edgecolor": style.RIGHT, "linewidth": 2.2}
    axes.add_patch(
        FancyBboxPatch(
            (x, y), WIDE, TALL, boxstyle="round,pad=0,rounding_size=0.06", zorder=3, **look
        )
    )
    ink = style.INK if users else "#6B6B6B"
    lower = " · ".join(filter(None, [words, *([SHARED[users]] if users else [])]))
    lines = [
        (name, "bold"),
        (lower, "normal"),
        *([(f"{_short(size)} parameters", "normal")] if size and users else []),
    ]
    for k, (line, weight) in enumerate(lines):
        at = y + TALL / 2 + ((len(lines) - 1) / 2 - k) * 0.175
        style.write(
            axes,
            x + WIDE / 2,
            at,
            line,
            size=9 if k == 0 else 8,
            weight=weight,
            ha="center",
            va="center",
            color=ink,
            zorder=4,
        )


def _links(axes: Any, xs: list[float], y: float, keys: tuple[str | None, ...]) -> None:
    """Draw a band between neighbors that have the same weights."""
    from matplotlib.patches import Rectangle

    for column in range(len(xs) - 1):
        if keys[column] and keys[column] == keys[column + 1]:
            band: dict[str, Any] = {
                "facecolor": FILLS.get(keys[column] or "", OWN),
                "edgecolor": style.INK,
                "linewidth": 0.5,
                "zorder": 2,
            }
            axes.add_patch(
                Rectangle(
                    (xs[column] + WIDE - 0.05, y + TALL / 2 - 0.09), BETWEEN + 0.1, 0.18, **band
                )
            )


def _layer_frames(axes: Any, xs: list[float], ys: list[float], layers: int | None) -> None:
    """Frame what is repeated in every layer, and say how often."""
    from matplotlib.patches import Rectangle

    for x in xs:
        box = ((x - 0.1, ys[1] - 0.08), WIDE + 0.2, ys[3] + TALL + 0.16 - ys[1])
        axes.add_patch(
            Rectangle(*box, fill=False, edgecolor=style.PADDING, linewidth=0.8, zorder=1)
        )
    style.write(
        axes,
        xs[0] - 0.16,
        ys[1] + 0.1,
        f"× {layers or 'L'} layers",
        size=9,
        ha="right",
        va="center",
    )


def _picture(axes: Any, xs: list[float], y: float) -> None:
    """Draw the picture's tokens on the left, and their way into the cross-attention of those who look."""
    from matplotlib.patches import FancyBboxPatch

    middle = y + TALL / 2
    look: dict[str, Any] = {
        "facecolor": "#FFFFFF",
        "edgecolor": style.PICTURE,
        "linewidth": 1.6,
        "boxstyle": "round,pad=0,rounding_size=0.06",
    }
    axes.add_patch(FancyBboxPatch((0.15, y), 1.3, TALL, **look))
    style.write(
        axes,
        0.8,
        middle,
        "picture\n→ its tokens",
        size=9,
        ha="center",
        va="center",
        color=style.PICTURE,
    )
    road = y + TALL + GAP / 2  # above the first use's cross-attention, which is not used
    axes.plot(
        [1.45, 1.62, 1.62, xs[2] - 0.26],
        [middle, middle, road, road],
        color=style.PICTURE,
        linewidth=1.6,
        zorder=5,
    )
    for x in xs[1:]:
        axes.plot(
            [x - 0.26, x - 0.26],
            [road, y + TALL - 0.12],
            color=style.PICTURE,
            linewidth=1.6,
            zorder=5,
        )
        arrow = {
            "arrowstyle": "-|>",
            "color": style.PICTURE,
            "linewidth": 1.6,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        axes.annotate(
            "", (x, y + TALL - 0.12), (x - 0.26, y + TALL - 0.12), arrowprops=arrow, zorder=5
        )
