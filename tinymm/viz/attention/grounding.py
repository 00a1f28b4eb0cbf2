"""Word → region: where in the picture a word found what the matching head needed, beside two controls (ALBEF §5; Grad-CAM, Selvaraju et al. 2017).

Attention says where a word looks, and much of what is looked at changes nothing. Multiplied by the
gradient of "matches", only what spoke for the pair is left. Such a heat persuades whoever sees it,
so two more stand beside it: attention alone, and the same heat of a model whose numbers were
shuffled (Adebayo et al. 2018). What it shares with these, it does not owe to what the model has
learned.
"""

from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_host
from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.autodiff import no_grad
from tinymm.layers import record_attention
from tinymm.tasks import GROUND, all_specs, spec_or_none
from tinymm.training.evaluate_matching import on_device
from tinymm.viz import style

from .maps import hottest, lit

GRADIENT, ATTENTION, SHUFFLED = "attention × gradient", "attention alone", "shuffled weights"
#: What each row shows, in the drawing.
SAID = {
    GRADIENT: "what the word found there spoke for “matches”",
    ATTENTION: "where the word looks, whether it mattered or not",
    SHUFFLED: "attention × gradient of a model that has the same numbers in other places, and knows nothing",
}
MOST = 12  # words that can be seen side by side


@dataclass(frozen=True)
class Grounded:
    """The heats `(T, P)` of a text's tokens over a picture's patches by name, the grid of patches, the layer, and the probability of a match."""

    heats: dict[str, np.ndarray]
    grid: tuple[int, int]
    layer: int
    probability: float


def ground(
    model: Any, picture: Any, ids: np.ndarray, *, layer: int | None = None, rng: np.random.Generator
) -> Grounded:
    """Return what an ALBEF or a BLIP makes of a picture `(h, w, c)`, normalized, and a text's ids `(T,)` without padding, with both controls.

    `layer` counts the text stack's layers from 0; by default the middle one of those that look at
    the picture, which is the released ALBEF's 8 of
    12. The last one is no choice: the head reads [CLS] there, and the other words' heat is zero.
    `rng` shuffles the control. UsageError for a model that does not match, or a layer that does not
    look. ShapeError for more than one picture or text.

    >>> from tinymm.models.albef import ALBEF, ALBEFConfig
    >>> model = ALBEF(ALBEFConfig.tiny(), np.random.default_rng(0))
    >>> found = ground(model, np.zeros((16, 16, 3), np.float32), np.array([1, 5, 2]), rng=np.random.default_rng(0))
    >>> found.grid, found.layer, {name: heat.shape for name, heat in found.heats.items()}[GRADIENT]
    ((2, 2), 1, (3, 4))
    """
    spec = spec_or_none(model)
    if spec is None or GROUND not in spec.can:
        able = " or ".join(spec.title for spec in all_specs() if GROUND in spec.can)
        raise UsageError(
            "words are grounded by a matching head that looks at the picture, and "
            f"{type(model).__name__} came; pass {able}"
        )
    config = model.config
    first, last = config.text.fusion_layer, config.text.layers - 1
    layer = (first + last) // 2 if layer is None else layer
    if not first <= layer <= last:
        raise UsageError(
            f"layers {first} to {last} look at the picture, and layer {layer} came; choose one of these"
        )
    if np.ndim(picture) != 3 or np.ndim(ids) != 1:
        raise ShapeError(
            f"ground takes one picture (h,w,c) and one text (T,): got {np.shape(picture)} and {np.shape(ids)}; pass images[0], ids[0]"
        )
    heat, raw, probability = _heat(model, picture, ids, layer)
    control = _heat(shuffled(model, rng), picture, ids, layer)[0]
    side = config.image.resolution // config.image.patch
    return Grounded(
        {GRADIENT: heat, ATTENTION: raw, SHUFFLED: control}, (side, side), layer, probability
    )


def shuffled(model: Any, rng: np.random.Generator) -> Any:
    """Return a copy of the model in which each parameter has its own numbers in another order: as large as before, and knowing nothing."""
    bare = copy(model)
    bare.momentum_encoder = bare.queue = None  # neither has a part in matching, and both are large
    bare = deepcopy(bare)
    arrays = bare.state_dict()
    parameters = [
        name for name, _ in bare.named_parameters() if name in arrays
    ]  # what is missing stays missing
    bare.load_state_dict(
        arrays
        | {
            name: rng.permutation(arrays[name].ravel()).reshape(arrays[name].shape)
            for name in parameters
        }
    )
    return bare


def _heat(
    model: Any, picture: Any, ids: np.ndarray, layer: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return attention × positive gradient and attention alone, each (T, P), the mean of the heads, and the probability of a match."""
    ids = np.asarray(ids)[None]
    with no_grad():
        tokens = model.image_tokens(on_device(model, picture)[None]).data
    with record_attention(as_tensors=True) as maps:
        logits = model.itm_logits(tokens, ids, np.ones(ids.shape, bool))
    gradients: dict[Any, Any] = {}  # of the parameters too, whose own `.grad` stays as it was
    np.sum(logits[:, 1]).backward(into=gradients)
    first = model.config.text.fusion_layer
    weights = maps[
        first:
    ][
        1::2
    ][
        layer - first
    ]  # below, a layer attends once, to the text; from here on twice, the second time to the picture
    raw, slope = to_host(weights.data)[0], to_host(gradients[weights])[0]
    no, yes = to_host(logits.data)[0]
    return (
        (raw * np.maximum(slope, 0)).mean(axis=0)[:, 1:],
        raw.mean(axis=0)[:, 1:],
        float(1 / (1 + np.exp(no - yes))),
    )


def word_regions(
    picture: np.ndarray,
    words: Sequence[str],
    heats: Mapping[str, np.ndarray],
    grid: tuple[int, int],
    *,
    truth: np.ndarray | None = None,
    title: str | None = None,
) -> Any:
    """Return a figure of a picture `(h, w, c)` in [0, 1] and the heat of each word over it, a row for each of `heats`, `(T, P)` by name.

    `words` names all T tokens; those in brackets, as [CLS], are not drawn. `truth` `(T, P)` says
    which patches show what a word names, with nothing for words that name none: they are framed,
    and the title says how much of the heat lies there. ShapeError unless each word has its heat,
    DataError for heat below 0, UsageError for too many words.

    >>> word_regions(np.zeros((4, 4)), ["[CLS]", "a", "cat"], {"heat": np.eye(4)[:3]}, (2, 2)).alt.splitlines()[0]
    'Two words share 0% by heat of where their heat lies (100%: every word lights the same patches).'
    """
    heats, shown, truth = _checked(words, heats, grid, truth)
    rgb, names = style.as_rgb(picture), [style.readable(words[t]) for t in shown]
    side = min(1.35, 9.6 / (len(names) + 1))
    narrow = side * 72 / (8 * 0.62) < len("bottom middle 12%")
    tall, gap, head, foot, left = (
        side * max(0.5, min(1.6, rgb.shape[0] / rgb.shape[1])),
        0.1,
        0.4,
        0.5 if narrow else 0.36,
        0.14,
    )
    width = max(6.6, 2 * left + (len(names) + 1) * (side + gap))
    alt = word_regions_alt(words, heats, grid, truth=truth)
    said, letters = (
        title or _finding(heats, shown, truth).rstrip("."),
        int(width * 72 / (11 * 0.62)),
    )
    above = 0.2 + 0.19 * -(-len(said) // letters)
    height = above + len(heats) * (head + tall + foot) + (0.32 if width > 9 else 0.46)
    figure = style.new_figure(width, height)
    letter: dict[str, Any] = {
        "family": style.FONT,
        "color": style.INK,
        "parse_math": False,
        "va": "bottom",
    }
    for row, (name, heat) in enumerate(heats.items()):
        top = above + row * (head + tall + foot)
        line = style.wrapped(
            f"{name}: {SAID[name]}" if name in SAID else name, int(width * 72 / (9 * 0.6)), 1
        )
        figure.text(
            left / width, 1 - (top + head - 0.19) / height, line, size=9, weight="bold", **letter
        )
        for column, t in enumerate([None, *shown]):
            box = (
                (left + column * (side + gap)) / width,
                1 - (top + head + tall) / height,
                side / width,
                tall / height,
            )
            axes = figure.add_axes(box)
            _panel(
                axes,
                rgb,
                None if t is None else heat[t].reshape(grid),
                None if t is None or truth is None else truth[t].reshape(grid),
            )
            label, color = (
                ("picture", style.PICTURE) if t is None else (names[column - 1], style.TEXT)
            )
            room = int(side * 72 / (8.5 * 0.62))
            short = label if len(label) <= room else f"{label[: room - 1]}…"
            style.write(
                axes, 0, 1.02, short, size=8.5, va="bottom", transform=axes.transAxes, color=color
            )
            if t is not None:
                below = _below(heat[t], grid, None if truth is None else truth[t])
                below = (
                    style.wrapped(below, int(side * 72 / (8 * 0.62)), 1 + narrow)
                    + f"\n{heat[t].sum() / (heat[shown].sum() or 1):.0%} of all"
                )
                style.write(
                    axes,
                    0,
                    -0.03,
                    below,
                    size=8,
                    va="top",
                    transform=axes.transAxes,
                    linespacing=1.1,
                )
    note = "orange: a patch's share, from none to the word's largest; of all: the word's share of its row"
    note += "" if truth is None else "; framed: what the word names"
    figure.text(
        left / width,
        0.08 / height,
        style.wrapped(note, int(width * 72 / (8.5 * 0.6)), 2),
        size=8.5,
        **letter,
    )
    figure.alt = alt
    style.headline(figure, said, size=11, width=letters)
    return figure


def word_regions_alt(
    words: Sequence[str],
    heats: Mapping[str, np.ndarray],
    grid: tuple[int, int],
    *,
    truth: np.ndarray | None = None,
) -> str:
    """Return in words what each heat's words have in common or hit, and where each word is hottest in the first."""
    heats, shown, truth = _checked(words, heats, grid, truth)
    lines = [_finding(heats, shown, truth)]
    name, heat = next(iter(heats.items()))
    for t in shown:
        part = heat[t] / (heat[t].sum() or 1)
        where = (
            f"is hottest at the {hottest(part.reshape(grid))} ({part.max():.0%})"
            if part.any()
            else "has no heat"
        )
        hit = (
            ""
            if truth is None or not truth[t].any() or not part.any()
            else f", {part[truth[t]].sum():.0%} where it belongs"
        )
        lines.append(f"{name}: “{words[t]}” {where}{hit}.")
    return "\n".join(lines)


def _finding(
    heats: Mapping[str, np.ndarray], shown: Sequence[int], truth: np.ndarray | None
) -> str:
    parts = {name: _normalized(heat[list(shown)]) for name, heat in heats.items()}
    if truth is not None:
        named = truth[list(shown)].any(axis=1)
        inside = {
            name: (part * truth[list(shown)]).sum(axis=1)[named].mean()
            for name, part in parts.items()
        }
        shares = [f"{share:.0%} of {name}" for name, share in inside.items()]
        return f"On what the words name lies {style.listed(shares)} (evenly spread: {truth[list(shown)][named].mean():.0%})."
    pairs = [(i, j) for i in range(len(shown)) for j in range(i)]
    if not pairs:
        return f"The word's hottest patch holds {style.listed([f'{part.max():.0%} of {name}' for name, part in parts.items()])}."
    shares = [
        f"{np.mean([np.minimum(part[i], part[j]).sum() for i, j in pairs]):.0%} by {name}"
        for name, part in parts.items()
    ]
    return f"Two words share {style.listed(shares)} of where their heat lies (100%: every word lights the same patches)."


def _panel(axes: Any, rgb: np.ndarray, heat: np.ndarray | None, truth: np.ndarray | None) -> None:
    """Draw the picture, or its pale self with a word's heat on it, and a frame around what the word names."""
    axes.imshow(
        rgb if heat is None else lit(heat, rgb),
        interpolation="nearest",
        aspect="auto",
        vmin=0,
        vmax=1,
    )
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(
            color=style.PICTURE if heat is None else style.PADDING,
            linewidth=1.6 if heat is None else 0.6,
        )
    if truth is None:
        return
    rows, columns = truth.shape
    high, wide = rgb.shape[0] / rows, rgb.shape[1] / columns
    inside = np.pad(truth, 1)
    for r, c in np.argwhere(truth):
        x, y = c * wide - 0.5, r * high - 0.5
        sides = {
            (0, -1): ([x, x], [y, y + high]),
            (0, 1): ([x + wide] * 2, [y, y + high]),
            (-1, 0): ([x, x + wide], [y, y]),
        }
        sides[(1, 0)] = ([x, x + wide], [y + high] * 2)
        for (down, right), line in sides.items():
            if not inside[r + 1 + down, c + 1 + right]:
                axes.plot(
                    *line,
                    color=style.RIGHT,
                    linewidth=1.5,
                    solid_capstyle="projecting",
                    scalex=False,
                    scaley=False,
                )


def _below(heat: np.ndarray, grid: tuple[int, int], truth: np.ndarray | None) -> str:
    """Return what stands below a panel: how much of the heat lies where it belongs, or where most of it lies."""
    if not heat.any():
        return "no heat"
    part = heat / heat.sum()
    most = f"{hottest(part.reshape(grid))} {part.max():.0%}"
    return most if truth is None or not truth.any() else f"inside {part[truth].sum():.0%}"


def _normalized(heat: np.ndarray) -> np.ndarray:
    """Return rows that sum to 1, or to 0 where there is no heat."""
    total = heat.sum(axis=1, keepdims=True)
    return heat / np.where(total > 0, total, 1.0)


def _checked(
    words: Any, heats: Any, grid: tuple[int, int], truth: Any
) -> tuple[dict[str, np.ndarray], list[int], np.ndarray | None]:
    """Return the heats, the tokens that are drawn, and the truth, after a look at their shapes and numbers."""
    shape = len(words), grid[0] * grid[1]
    found = {name: np.asarray(heat, dtype=np.float64) for name, heat in heats.items()}
    every = found if truth is None else found | {"truth": np.asarray(truth)}
    wrong = [f"{name} {array.shape}" for name, array in every.items() if array.shape != shape]
    if wrong or not found:
        came = ", ".join(wrong) or "no heat at all"
        raise ShapeError(
            f"word_regions (T,P), T words, P = rows · columns: got {came} for {len(words)} words and {grid[0]} · {grid[1]}; name every token"
        )
    least = min(heat.min() if np.isfinite(heat).all() else np.nan for heat in found.values())
    if not least >= 0:
        raise DataError(
            f"heats are finite and ≥ 0: the least is {least:.3g}; pass what `ground` gives, not gradients of both signs"
        )
    shown = [t for t, word in enumerate(words) if not (word.startswith("[") and word.endswith("]"))]
    if not 1 <= len(shown) <= MOST:
        raise UsageError(
            f"word_regions shows 1 to {MOST} words, tokens in brackets left out: got {len(shown)}; pass a part, as heat[:{MOST}]"
        )
    some = np.zeros(shape, bool) if truth is None else np.asarray(truth, bool)
    return found, shown, some if some[shown].any() else None
