"""CapFilt as it happens: noisy captions kept, dropped and rewritten, the filter's mistakes first, and how good a judge it is (BLIP §3.3, Figure 3).

The captioner writes a second text for each picture, and the filter, which is the matching head,
drops either where it doubts. On the web nobody knows which captions were wrong; where the noise is
one's own, each verdict has a truth beside it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.viz import style

from ..captions import RIGHT, WRONG

#: What becomes of a pair by what the filter keeps, (the found text, the written one), with a sign
#: that needs no color.
VERDICTS = {
    (True, False): "✓ kept",
    (True, True): "✓ both kept",
    (False, True): "↻ rewritten",
    (False, False): "✗ dropped",
}
COLORS = {"✓ kept": RIGHT, "✓ both kept": RIGHT, "↻ rewritten": style.PICTURE, "✗ dropped": WRONG}
WIDTH, ROW, COLUMNS = (
    9.6,
    0.86,
    (0.15, 0.95, 4.3, 7.65),
)  # inches: the picture, the two texts, the verdict


def capfilt(
    pictures: np.ndarray,
    originals: Sequence[str],
    synthetic: Sequence[str],
    probabilities: np.ndarray,
    kept: np.ndarray,
    wrong: np.ndarray,
    *,
    rows: int = 2,
    title: str | None = None,
) -> Any:
    """Return a figure of up to `rows` examples of each verdict, the filter's mistakes first, and a table of verdicts against the truth.

    `pictures` are `(N, h, w, c)` in [0, 1]; `originals` and `synthetic` are the text that was found
    with each and the one that was written for it. `probabilities` and `kept` `(N, 2)` are ITM's
    probability of either and whether the filter keeps it; `wrong` `(N,)` is the truth about the
    found texts, or `(N, 2)` about both. Precision is the share of right texts among the kept,
    recall the share of kept among the right. UsageError without pairs, ShapeError if the arrays do
    not fit, DataError for probabilities outside [0, 1].

    >>> drawn = capfilt(np.zeros((2, 4, 4)), ["a cat", "a dog"], ["a cat", "a cow"], [[0.9, 0.9], [0.1, 0.8]], [[1, 0], [0, 1]], [False, True])
    >>> drawn.alt.splitlines()[0]
    'The filter keeps 1 of 1 right found texts (recall 100%), and 1 of the 1 it keeps is right (precision 100%); 1 of 2 pictures gets a new text.'
    """
    probabilities, kept, wrong = _checked(
        pictures, originals, synthetic, probabilities, kept, wrong
    )
    verdicts = [VERDICTS[bool(a), bool(b)] for a, b in kept]
    chosen = _chosen(verdicts, kept, wrong, probabilities, rows)
    alt = capfilt_alt(originals, synthetic, probabilities, kept, wrong)
    said = title or alt.splitlines()[0].rstrip(".")
    letters = int(WIDTH * 72 / (11 * 0.62))
    above, head, table = 0.2 + 0.19 * -(-len(said) // letters), 0.34, 1.75
    height = above + head + ROW * len(chosen) + table
    figure = style.new_figure(WIDTH, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    style.quiet(axes)
    headings = (
        "picture",
        "found with it · ITM's probability",
        "written for it · ITM's probability",
        "verdict",
    )
    for x, words in zip(COLUMNS, headings, strict=True):
        style.write(axes, x, above + 0.12, words, size=9, weight="bold", va="center")
    axes.plot([0.15, WIDTH - 0.15], [above + 0.26] * 2, color=style.PADDING, linewidth=0.8)
    for place, i in enumerate(chosen):
        y = above + head + place * ROW
        if place and verdicts[i] != verdicts[chosen[place - 1]]:
            axes.plot([0.15, WIDTH - 0.15], [y - 0.02] * 2, color=style.FAINT, linewidth=0.8)
        style.thumbnail(axes, pictures[i], COLUMNS[0] + 0.36, y + 0.39, 0.7)
        for side, text in enumerate((originals[i], synthetic[i])):
            known = wrong[i, side] if side < wrong.shape[1] else None
            _text(
                axes, COLUMNS[1 + side], y, text, probabilities[i, side], bool(kept[i, side]), known
            )
        erred = [
            name
            for name, missed in zip(
                ("found", "written"), wrong[i] == kept[i, : wrong.shape[1]], strict=False
            )
            if missed
        ]
        style.write(
            axes,
            COLUMNS[3],
            y + 0.28,
            verdicts[i],
            size=10,
            weight="bold",
            va="center",
            color=COLORS[verdicts[i]],
        )
        deed = (
            "as it should be"
            if not erred
            else f"erred on {'both texts' if len(erred) > 1 else f'the {erred[0]} text'}"
        )
        style.write(axes, COLUMNS[3], y + 0.5, deed, size=8.5, va="center")
    names = ("found texts", "written texts")[: wrong.shape[1]]
    for side, name in enumerate(names):
        _table(
            axes,
            (COLUMNS[1], COLUMNS[2])[side],
            height - table + 0.1,
            name,
            kept[:, side],
            wrong[:, side],
        )
    style.write(
        axes,
        COLUMNS[3],
        height - table + 0.2,
        f"of {len(kept)} pairs",
        size=9.5,
        weight="bold",
        va="center",
    )
    for line, name in enumerate(COLORS):
        y = height - table + 0.46 + 0.24 * line
        style.write(
            axes,
            COLUMNS[3],
            y,
            f"{name} {verdicts.count(name)}",
            size=9.5,
            va="center",
            color=COLORS[name],
        )
    figure.alt = alt
    style.headline(figure, said, size=11, width=letters)
    return figure


def capfilt_alt(
    originals: Sequence[str],
    synthetic: Sequence[str],
    probabilities: np.ndarray,
    kept: np.ndarray,
    wrong: np.ndarray,
) -> str:
    """Return in words how many wrong texts the filter finds, how many pairs it keeps, rewrites and drops, and its surest mistake."""
    probabilities, kept, wrong = _checked(
        originals, originals, synthetic, probabilities, kept, wrong
    )
    keeps, bad = kept[:, 0], wrong[:, 0]
    hits, N = int((keeps & ~bad).sum()), len(kept)
    new = int((kept[:, 1]).sum())
    lines = [
        f"The filter keeps {hits} of {(~bad).sum()} right found texts (recall {_share(hits, (~bad).sum())}), and {hits} of the {keeps.sum()} it "
        f"keeps {'is' if hits == 1 else 'are'} right (precision {_share(hits, keeps.sum())}); "
        f"{new} of {N} pictures {'gets' if new == 1 else 'get'} a new text."
    ]
    verdicts = [VERDICTS[bool(a), bool(b)][2:] for a, b in kept]
    lines.append(
        f"Of {N} pairs: {', '.join(f'{verdicts.count(name[2:])} {name[2:]}' for name in VERDICTS.values())}."
    )
    if wrong.shape[1] > 1:
        before, after = bad.mean(), wrong[kept].mean() if kept.any() else 0.0
        lines.append(
            f"{before:.0%} of the texts were wrong before, and {after:.0%} of those that are left."
        )
    mistakes = np.flatnonzero(keeps == bad)
    if len(mistakes):
        i = mistakes[np.abs(probabilities[mistakes, 0] - 0.5).argmax()]
        deed, truth = ("keeps", "wrong") if keeps[i] else ("drops", "right")
        lines.append(
            f"Its surest mistake: it {deed} “{originals[i]}” ({probabilities[i, 0]:.2f}), which is {truth}."
        )
    return "\n".join(lines)


def _chosen(
    verdicts: Sequence[str],
    kept: np.ndarray,
    wrong: np.ndarray,
    probabilities: np.ndarray,
    rows: int,
) -> list[int]:
    """Return up to `rows` examples of each verdict, those where the filter was wrong about the found text first, and the surest of them."""
    found: list[int] = []
    for verdict in dict.fromkeys(VERDICTS.values()):
        some = np.array([i for i, own in enumerate(verdicts) if own == verdict], dtype=int)
        mistaken = wrong[some, 0] == kept[some, 0]
        order = np.lexsort((-np.abs(probabilities[some, 0] - 0.5), ~mistaken))
        # One mistake a verdict is enough to see it; the rest shows what the verdict is for.
        first, rest = (
            some[order][: mistaken.sum()][: max(1, rows - 1)],
            some[order][mistaken.sum() :],
        )
        found += [*first, *rest][:rows]
    return found


def _text(
    axes: Any, x: float, y: float, text: str, probability: float, kept: bool, wrong: Any
) -> None:
    """Write a caption with its probability as a bar, struck out where the filter drops it, and what is true of it."""
    from matplotlib.patches import Rectangle

    color = style.INK if kept else style.PADDING
    lines = style.wrapped(text or "(nothing)", 40, 2)
    style.write(
        axes,
        x,
        y + 0.06,
        lines,
        size=9,
        va="top",
        color=style.TEXT if kept else "#6B6B6B",
        linespacing=1.15,
    )
    axes.add_patch(Rectangle((x, y + 0.5), 0.9, 0.1, facecolor=style.FAINT, linewidth=0))
    axes.add_patch(
        Rectangle((x, y + 0.5), 0.9 * float(probability), 0.1, facecolor=color, linewidth=0)
    )
    style.write(axes, x + 0.97, y + 0.55, f"{probability:.2f}", size=8.5, va="center")
    style.write(
        axes,
        x + 1.36,
        y + 0.55,
        "kept" if kept else "dropped",
        size=8.5,
        va="center",
        weight="bold" if kept else "normal",
    )
    if wrong is not None:
        words, color = ("✗ wrong in truth", WRONG) if wrong else ("✓ right in truth", RIGHT)
        style.write(axes, x + 1.98, y + 0.55, words, size=8.5, va="center", color=color)


def _table(axes: Any, x: float, y: float, name: str, kept: np.ndarray, wrong: np.ndarray) -> None:
    """Draw the filter's verdicts on one side against the truth, with precision and recall of what it keeps."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    counts = np.array(
        [
            [(kept & ~wrong).sum(), (kept & wrong).sum()],
            [(~kept & ~wrong).sum(), (~kept & wrong).sum()],
        ]
    )
    style.write(axes, x, y + 0.1, name, size=9.5, weight="bold", va="center")
    for column, truth in enumerate(("✓ right", "✗ wrong")):
        style.write(
            axes,
            x + 1.2 + column * 0.8,
            y + 0.36,
            truth,
            size=8.5,
            ha="center",
            va="center",
            color=(RIGHT, WRONG)[column],
        )
    for row, deed in enumerate(("kept", "dropped")):
        style.write(axes, x + 0.72, y + 0.64 + row * 0.36, deed, size=9, ha="right", va="center")
        for column in range(2):
            face = colormaps[style.HEAT](0.6 * counts[row, column] / max(1, counts.max()))
            good = row == column
            box = (x + 0.82 + column * 0.8, y + 0.48 + row * 0.36)
            axes.add_patch(
                Rectangle(
                    box,
                    0.76,
                    0.32,
                    facecolor=face,
                    edgecolor=style.INK if good else style.PADDING,
                    linewidth=1.4 if good else 0.5,
                )
            )
            number = {
                "size": 10,
                "ha": "center",
                "va": "center",
                "weight": "bold" if good else "normal",
            }
            style.write(axes, box[0] + 0.38, box[1] + 0.16, str(counts[row, column]), **number)
    hits = counts[0, 0]
    words = f"precision {_share(hits, counts[0].sum())}: of the kept, right\nrecall {_share(hits, counts[:, 0].sum())}: of the right, kept"
    style.write(axes, x, y + 1.32, words, size=8.5, va="top", linespacing=1.2)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "– (none)"


def _checked(
    pictures: Any, originals: Any, synthetic: Any, probabilities: Any, kept: Any, wrong: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities (N, 2), kept (N, 2) and wrong (N, 1 or 2) after a look at their shapes."""
    numbers, keeps, truth = (
        np.asarray(probabilities, dtype=np.float64),
        np.asarray(kept, dtype=bool),
        np.asarray(wrong, dtype=bool),
    )
    truth = truth[:, None] if truth.ndim == 1 else truth
    N = len(originals)
    if not N:
        raise UsageError(
            "capfilt shows pairs of pictures and texts: got 0; pass some that the filter has judged"
        )
    if (
        len(pictures) != N
        or len(synthetic) != N
        or numbers.shape != (N, 2)
        or keeps.shape != (N, 2)
        or truth.shape not in ((N, 1), (N, 2))
    ):
        raise ShapeError(
            f"capfilt N pictures, N texts of both kinds, probabilities and kept (N,2), wrong (N,) or (N,2): got {len(pictures)}, {N}, "
            f"{len(synthetic)}, {numbers.shape}, {keeps.shape}, {np.shape(wrong)}; the found text comes first, the written one second"
        )
    if not ((numbers >= 0) & (numbers <= 1)).all():
        raise DataError(
            f"probabilities lie in [0, 1]: got {np.nanmin(numbers):.3g} to {np.nanmax(numbers):.3g}; pass itm_probability, not logits"
        )
    return numbers, keeps, truth
