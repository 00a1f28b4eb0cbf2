"""A loss beside what it would be if the model knew nothing.

A loss of 4.2 says nothing by itself. Beside the line of equal scores it does: a contrastive loss
over N pairs is ln N for *any* model that scores all pairs alike, collapsed ones included. A fresh
CLIP starts above that line, because its scale 1/0.07 turns small random differences into confident
wrong answers; falling *to* the line is only learning to be unsure, and below it the pictures begin
to matter.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.viz import style

LOSSES = ("loss", "itc", "itm", "mlm", "lm", "itg")
# What knowing nothing is called, by loss: in the drawing, and in words.
NOTHING = {
    "itc": ("equal scores: ln N = {}\n(says nothing)", "equal scores give {} and say nothing"),
    "itm": ("guessing by the prior: {}", "the share of right pairs alone gives {}"),
    "itg": ("equal words: ln V = {}", "equal chances for all words give {}"),
}
NOTHING |= {"lm": NOTHING["itg"], "mlm": NOTHING["itg"]}
LINES = ("#0072B2", "#C14E00", "#00805D", "#A3469B", "#7A6400", "#4D4D4D")
SMALL = {
    "learning_rate": "learning rate",
    "scale": "scale of the logits",
    "temperature": "temperature",
    "gradient_norm": "gradient norm",
}


def series(records: Iterable[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return `(steps, values)` of one column, without the records that lack it or hold no finite number.

    >>> series([{"step": 1, "loss": 3.0}, {"step": 2, "loss": None}, {"step": 3, "loss": 2.0}], "loss")
    (array([1., 3.]), array([3., 2.]))
    """
    points = [
        (record["step"], record[name])
        for record in records
        if isinstance(record.get(name), int | float | np.number)
    ]
    steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
    return steps[np.isfinite(values)], values[np.isfinite(values)]


def smoothed(values: np.ndarray, radius: int) -> np.ndarray:
    """Return the moving average over `radius` neighbors on both sides, fewer where the curve begins and ends.

    The window stays symmetric at the steep beginning, so a straight line stays where it is. The
    usual exponential average looks back only: it lags, and would cross the line of equal scores
    later than the loss did.

    >>> smoothed(np.array([4.0, 3.0, 2.0, 1.0, 3.0]), radius=1)
    array([4., 3., 2., 2., 2.])
    """
    total = np.concatenate([[0.0], np.cumsum(values)])
    here = np.arange(len(values))
    left = np.minimum(radius, here)
    first, last = here - left, np.minimum(here + left, len(values) - 1)
    return (total[last + 1] - total[first]) / (last + 1 - first)


def losses(
    records: Sequence[Mapping[str, Any]],
    *,
    chance: Mapping[str, float] | None = None,
    title: str | None = None,
) -> Any:
    """Return a figure of a run's records: losses with their lines of equal scores, validation, and what the optimizer did.

    `records` are dicts with `step` and any of `loss itc itm mlm lm itg`, `validation_…` (recalls
    and such, in [0, 1]), `learning_rate`, `scale`, `temperature`, `gradient_norm`; missing values
    and None are gaps. `chance` gives the value that knowing nothing would have, by the same keys,
    such as `{"itc": np.log(128), "validation_r1": 1 / 150}`. Faint is each step, strong the moving
    average. The title is the alt text's first sentence that has such a value.

    >>> losses([{"step": 1, "itc": 4.9}, {"step": 2, "itc": 2.0}], chance={"itc": np.log(128)}).alt
    'ITC fell from 4.90 to 2.00 in 2 steps; equal scores give 4.85 and say nothing.'
    """
    chance = dict(chance or {})
    names = _loss_names(records)
    validation = sorted(
        {
            name
            for record in records
            for name in record
            if name.startswith("validation_") and len(series(records, name)[0])
        }
    )
    small = [name for name in SMALL if len(series(records, name)[0])]
    heights = [3.1, *([2.1] if validation else []), *([1.25] if small else [])]
    alt = losses_alt(records, chance=chance)
    finding = (title or _finding(records, chance, alt)).rstrip(".")
    above, below, between = 0.5 if len(finding) < 78 else 0.68, 0.3 if small else 0.5, 0.72
    figure = style.new_figure(8.0, above + sum(heights) + between * (len(heights) - 1) + below)
    width, height = figure.get_size_inches()
    edge = height - above
    panels = []
    for tall in heights:
        panels.append((edge - tall) / height)
        edge -= tall + between
    box = (0.75 / width, (width - 0.75 - 1.95) / width)
    axes = figure.add_axes((box[0], panels[0], box[1], heights[0] / height))
    _draw(axes, records, names, chance, equal="equal scores", limits=(0, None))
    axes.set_ylabel("loss (nats)", fontsize=9.5, family=style.FONT)
    axes.set_xlabel("step", fontsize=9.5, family=style.FONT)
    span = axes.get_xlim()
    if validation:
        top = 1 if all(series(records, name)[1].max() <= 1 for name in validation) else None
        axes = figure.add_axes((box[0], panels[1], box[1], heights[1] / height))
        _draw(axes, records, validation, chance, equal="chance", limits=(0, top), marker="o")
        axes.set_ylabel("validation", fontsize=9.5, family=style.FONT)
        axes.set_xlabel("step", fontsize=9.5, family=style.FONT)
        axes.set_xlim(span)
    for place, name in enumerate(small):
        share = (width - 0.75 - 0.2) / len(small)
        axes = figure.add_axes(
            (
                (0.75 + place * share) / width,
                panels[-1],
                (share - 0.62) / width,
                heights[-1] / height,
            )
        )
        axes.plot(*series(records, name), color=style.INK, linewidth=1)
        axes.set_title(SMALL[name], fontsize=9, family=style.FONT, loc="left", pad=3)
        _furnish(axes)
        axes.set_ylim(0, None)
        axes.locator_params(axis="x", nbins=3)
        axes.locator_params(axis="y", nbins=4)
    figure.alt = alt
    style.headline(figure, finding, size=11.5)
    return figure


def losses_alt(
    records: Sequence[Mapping[str, Any]], *, chance: Mapping[str, float] | None = None
) -> str:
    """Return in words where each loss and each validation number began and ended, beside its chance level."""
    chance = chance or {}
    sentences = []
    for name in _loss_names(records):
        steps, values = series(records, name)
        first, last = _ends(values)
        way = (
            f"{'fell' if last < first else 'rose'} from {first:.2f} to {last:.2f}"
            if last != first
            else f"stayed at {last:.2f}"
        )
        text = f"{_words(name).replace('loss', 'Loss')} {way} in {int(steps[-1])} step{'s'[: int(steps[-1] != 1)]}"
        sentences.append(
            text
            + (f"; {_nothing(name)[1].format(f'{chance[name]:.2f}')}." if name in chance else ".")
        )
    for name in sorted(
        {key for record in records for key in record if key.startswith("validation_")}
    ):
        values = series(records, name)[1]
        if len(values):
            text = f"{_words(name).replace('validation', 'Validation', 1)} ended at {values[-1]:.3f}, best {values.max():.3f}"
            sentences.append(text + (f" (chance: {chance[name]:.3g})." if name in chance else "."))
    return "\n".join(sentences)


def _loss_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [name for name in LOSSES if len(series(records, name)[0])]
    if not names:
        raise UsageError(
            f"a loss curve needs records with one of {', '.join(LOSSES)}: got {len(records)} records without; train first"
        )
    if "loss" in names and any(
        np.array_equal(series(records, "loss"), series(records, name)) for name in names[1:]
    ):
        names.remove("loss")  # one term only: the sum is the same curve
    return names


def _nothing(name: str) -> tuple[str, str]:
    return NOTHING.get(name, ("equal scores: {}", "equal scores give {} and say nothing"))


def _finding(records: Sequence[Mapping[str, Any]], chance: Mapping[str, float], alt: str) -> str:
    """Return the sentence of the one loss that has a line, or which of several ended below theirs."""
    names = [name for name in _loss_names(records) if name in chance and name != "loss"]
    if len(names) < 2:
        sentences = alt.splitlines()
        return next((text for text in sentences if "equal scores" in text), sentences[0])
    below: list[str] = []
    rest: list[str] = []
    for name in names:
        last = _ends(series(records, name)[1])[1]
        (below if last < chance[name] else rest).append(
            f"{_words(name)} ({last:.2f} {'<' if last < chance[name] else '≥'} {chance[name]:.2f})"
        )
    sides = (
        ("below knowing nothing", below),
        ("not below" if below else "not below knowing nothing", rest),
    )
    text = "; ".join(f"{which}: {', '.join(found)}" for which, found in sides if found)
    return text[0].upper() + text[1:] + "."


def _ends(values: np.ndarray) -> tuple[float, float]:
    """Return the first value and the mean of the last twentieth: single steps jump about."""
    return float(values[0]), float(values[-max(1, len(values) // 20) :].mean())


def _words(name: str) -> str:
    if name in LOSSES[1:]:
        return name.upper()
    return re.sub(r"\br(?:ecall)?(?: at)? ?(\d+)\b", r"R@\1", name.replace("_", " "))


def _draw(
    axes: Any,
    records: Any,
    names: Sequence[str],
    chance: Mapping[str, float],
    *,
    equal: str,
    limits: Any,
    marker: str = "",
) -> None:
    ends: list[float] = []
    labels: list[tuple[str, str]] = []
    for color, name in zip(LINES * len(names), names, strict=False):
        steps, values = series(records, name)
        if marker:
            curve = values
            axes.plot(steps, values, color=color, linewidth=1.4, marker=marker, markersize=3.5)
        else:
            curve = smoothed(values, len(values) // 60)
            axes.plot(steps, values, color=color, linewidth=0.8, alpha=0.3)
            axes.plot(
                steps, curve, color=color, linewidth=1.8, marker="o" if len(values) == 1 else ""
            )
        ends.append(float(curve[-1]))
        labels.append(
            (
                f"{_words(name).removeprefix('validation ')} {values[-1] if marker else _ends(values)[1]:.2f}",
                color,
            )
        )
        if name in chance:
            color = style.INK if marker else color
            axes.axhline(chance[name], color=color, linewidth=1.2, linestyle=(0, (5, 3)))
            if chance[name] in [chance.get(earlier) for earlier in names[: names.index(name)]]:
                continue  # one line, one label
            number = f"{chance[name]:.2f}" if chance[name] >= 0.1 else f"{chance[name]:.2g}"
            labels.append(
                (f"{equal}: {number}" if marker else _nothing(name)[0].format(number), color)
            )
            ends.append(float(chance[name]))
    _furnish(axes)
    axes.set_ylim(*limits)
    label_ends(axes, ends, labels)


def label_ends(axes: Any, ends: Sequence[float], labels: Sequence[tuple[str, str]]) -> None:
    """Write each line's name at its right end, moved apart where two would overlap: no legend to look up."""
    low, high = axes.get_ylim()
    inches = axes.get_position().height * axes.figure.get_size_inches()[1]
    order = np.argsort(ends)
    spaces = (
        np.array([(labels[i][0].count("\n") + 1) * 0.165 for i in order]) * (high - low) / inches
    )
    places = np.array([ends[i] for i in order])
    apart = (spaces[1:] + spaces[:-1]) / 2
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + apart[k - 1])
    places[-1] = min(
        places[-1], high - spaces[-1] / 2
    )  # and down again, where they would leave at the top
    for k in range(len(places) - 2, -1, -1):
        places[k] = min(places[k], places[k + 1] - apart[k])
    for i, place in zip(order, places, strict=True):
        words, color = labels[i]
        style.write(
            axes,
            1.012,
            (place - low) / (high - low),
            words,
            color=color,
            size=9,
            va="center",
            transform=axes.transAxes,
        )


def _furnish(axes: Any) -> None:
    style.quiet(axes, keep=("left", "bottom"))
    axes.tick_params(labelsize=8.5, color=style.PADDING)
    axes.grid(axis="y", color=style.FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    axes.locator_params(axis="x", integer=True)
