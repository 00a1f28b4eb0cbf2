"""What a model retrieves, failures first: a recall of 0.7 hides the three in ten that are worth looking at.

Read a row from left to right: the query, the five candidates that score best, and at the end what
the right answer's rank was. Failures come first, worst rank first; rows that are left show the
narrowest successes, never the prettiest. Where a matching head has looked again at the best
candidates, its scores decide and are drawn; the others stand behind them in their old order,
without a number, for the two are not on one scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.viz import style

from .similarity import ranks

WIDTH, MARGIN, QUERY_WIDTH, TALL = 8.6, 0.15, 1.9, 1.12  # inches


def worst_first(scores: np.ndarray, right: np.ndarray, rows: int) -> np.ndarray:
    """Return the `rows` queries (rows of `scores`) to look at: the worst rank first, then the smallest lead over a wrong candidate.

    >>> worst_first(np.array([[0.9, 0.1], [0.6, 0.5], [0.4, 0.3]]), np.array([[1, 0], [1, 0], [0, 1]], dtype=bool), 2).tolist()
    [2, 1]
    """
    lead = np.where(right, scores, -np.inf).max(axis=1) - np.where(right, -np.inf, scores).max(
        axis=1
    )
    return np.lexsort((lead, -ranks(scores, right)))[:rows]


def best_candidates(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return all candidates of one query, the best first, a wrong one before a right one that scores the same, as `ranks` counts: all (n,)."""
    return np.lexsort((right, -scores))


def gallery(
    similarities: np.ndarray,
    pictures: np.ndarray,
    captions: Sequence[str],
    image_of_caption: np.ndarray | None = None,
    *,
    rows: int = 4,
    top: int = 5,
    title: str | None = None,
    unit: str = "cosine similarity",
    reranked: tuple[np.ndarray, np.ndarray] | None = None,
) -> Any:
    """Return a figure with the worst of both directions: captions that look for their picture, and pictures for their caption.

    `similarities` is `(N, M)` for N `pictures` `(N, h, w, c)` in [0, 1] and M captions;
    `image_of_caption` `(M,)` names each caption's picture, -1 for a distractor that belongs to none
    (by default caption i belongs to picture i). A picture may have several captions: the best
    ranked one counts. Scores are drawn as bars from zero, all to the same scale.

    `reranked` has what decides instead, in this `unit`: pictures' scores of captions `(N, M)` and
    captions' of pictures `(M, N)`, -inf for those that are not among a query's best by
    `similarities`, ITC's; of these the picture says so. ShapeError if these do not fit, DataError
    for similarities that are not finite, or if no caption has its picture.

    >>> gallery(np.eye(2), np.eye(2).reshape(2, 1, 2), ["one", "two"]).alt.splitlines()[0]
    'Captions find their picture first in 2 of 2 cases (R@1 1.00, chance 0.5). The worst rank is 1 of 2, the median 1.'
    """
    scores, right = _checked(similarities, pictures, captions, image_of_caption)
    of_texts, of_pictures = _tables(scores, reranked)
    by_caption, by_picture = right.any(axis=0), right.any(axis=1)
    texts = np.flatnonzero(by_caption)[
        worst_first(of_texts.order[by_caption], right.T[by_caption], rows)
    ]
    images = np.flatnonzero(by_picture)[
        worst_first(of_pictures.order[by_picture], right[by_picture], rows)
    ]
    height = 0.55 + 0.38 * 2 + TALL * (len(texts) + len(images)) + 0.1
    figure = style.new_figure(WIDTH, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    style.quiet(axes)
    y = _section(
        axes,
        0.55,
        f"captions look for their picture: the {len(texts)} worst of {by_caption.sum()}",
        unit,
        style.TEXT,
    )
    for i in texts:
        _text_query(axes, y, captions[i], of_texts, i, right[:, i], pictures, top)
        y += TALL
    y = _section(
        axes,
        y,
        f"pictures look for their caption: the {len(images)} worst of {by_picture.sum()}",
        unit,
        style.PICTURE,
    )
    for j in images:
        _picture_query(axes, y, pictures[j], of_pictures, j, right[j], captions, top)
        y += TALL
    figure.alt = gallery_alt(similarities, pictures, captions, image_of_caption, reranked)
    style.headline(figure, title or _finding(of_texts.order, of_pictures.order, right))
    return figure


@dataclass(frozen=True)
class _Table:
    """Queries' scores of candidates: what orders them, and what is drawn of them, NaN where there is no number in the picture's unit."""

    order: np.ndarray
    drawn: np.ndarray

    @property
    def full(self) -> float:
        return max(float(np.nanmax(self.drawn)), 1e-6)

    @property
    def left_out(self) -> str:
        return f"not among ITC's best {(~np.isnan(self.drawn)).sum(axis=1).max()}"


def _tables(
    scores: np.ndarray, reranked: tuple[np.ndarray, np.ndarray] | None
) -> tuple[_Table, _Table]:
    """Return the captions' table of pictures (M, N) and the pictures' of captions (N, M)."""
    if reranked is None:
        return _Table(scores.T, scores.T), _Table(scores, scores)
    made = []
    for before, again in ((scores.T, reranked[1]), (scores, reranked[0])):
        again = np.asarray(again, np.float64)
        if again.shape != before.shape:
            raise ShapeError(
                f"re-ranked tables are (N,M) and (M,N) of the similarities: got {again.shape} for {before.shape}; give both directions"
            )
        again = np.where(np.isneginf(again), np.nan, again)
        behind = (
            np.nanmin(again, initial=0.0) - 1 - (before.max() - before)
        )  # an order, and no number to be shown
        made.append(_Table(np.where(np.isnan(again), behind, again), again))
    return made[0], made[1]


def gallery_alt(
    similarities: np.ndarray,
    pictures: np.ndarray,
    captions: Sequence[str],
    image_of_caption: np.ndarray | None = None,
    reranked: tuple[np.ndarray, np.ndarray] | None = None,
) -> str:
    """Return in words what `gallery` shows: recall at 1 beside chance for both directions, and the worst failure of each."""
    scores, right = _checked(similarities, pictures, captions, image_of_caption)
    of_texts, of_pictures = (table.order for table in _tables(scores, reranked))
    text = []
    for way, s, r in (
        ("Captions find their picture", of_texts, right.T),
        ("Pictures find their caption", of_pictures, right),
    ):
        s, r = s[r.any(axis=1)], r[r.any(axis=1)]
        rank = ranks(s, r)
        text.append(
            f"{way} first in {(rank == 1).sum()} of {len(rank)} cases (R@1 {(rank == 1).mean():.2f}, chance {r.mean():.2g}). "
            f"The worst rank is {rank.max()} of {s.shape[1]}, the median {np.median(rank):g}."
        )
    asked = np.flatnonzero(right.any(axis=0))
    worst = asked[worst_first(of_texts[asked], right.T[asked], 1)[0]]
    return (
        "\n".join(text)
        + f"\nThe worst caption is “{captions[worst]}”, rank {ranks(of_texts, right.T)[worst]}."
    )


def _checked(
    similarities: Any, pictures: Any, captions: Any, image_of_caption: Any
) -> tuple[np.ndarray, np.ndarray]:
    scores = np.asarray(similarities, dtype=np.float64)
    owner = np.arange(len(captions)) if image_of_caption is None else np.asarray(image_of_caption)
    if scores.shape != (len(pictures), len(captions)) or owner.shape != (len(captions),):
        raise ShapeError(
            f"gallery (N,M), N pictures, M captions, (M,) owners: got {scores.shape}, {len(pictures)}, {len(captions)}, {owner.shape}; "
            "pictures are the rows of the similarities"
        )
    if not np.isfinite(scores).all():
        raise DataError(
            f"similarities are finite: {(~np.isfinite(scores)).sum()} are not; look at the model's weights first"
        )
    right = owner[None, :] == np.arange(len(pictures))[:, None]
    if not right.any():
        raise DataError(
            f"a gallery needs a caption that belongs to a picture: none of {len(captions)} does; check image_of_caption"
        )
    return scores, right


def _finding(of_texts: np.ndarray, of_pictures: np.ndarray, right: np.ndarray) -> str:
    texts, images = right.any(axis=0), right.any(axis=1)
    one = (ranks(of_texts[texts], right.T[texts]) == 1).mean()
    other = (ranks(of_pictures[images], right[images]) == 1).mean()
    chance = " and ".join(
        dict.fromkeys(f"{part.mean():.2g}" for part in (right[:, texts], right[images]))
    )
    return f"R@1: caption → picture {one:.2f}, picture → caption {other:.2f} (chance: {chance}); failures first"


def _section(axes: Any, y: float, heading: str, unit: str, color: str) -> float:
    style.write(axes, MARGIN, y + 0.14, heading, size=10, weight="bold", color=color, va="center")
    legend = f"bars: {unit}; colored: the right one"
    style.write(axes, WIDTH - MARGIN, y + 0.14, legend, size=9, ha="right", va="center")
    axes.plot([MARGIN, WIDTH - MARGIN], [y + 0.28, y + 0.28], color=style.FAINT, linewidth=0.8)
    return y + 0.38


def _verdict(axes: Any, y: float, rank: int, many: int) -> None:
    words = "right" if rank == 1 else f"rank {rank}\nof {many}"
    color = style.RIGHT if rank == 1 else style.INK
    style.write(
        axes,
        WIDTH - MARGIN,
        y,
        words,
        size=9.5,
        weight="bold",
        ha="right",
        va="center",
        color=color,
    )


def _bar(axes: Any, x: float, y: float, score: float, full: float, long: float, color: str) -> None:
    """Draw a score as a bar from zero with its number; a negative one has no length."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y - 0.045), long, 0.09, facecolor=style.FAINT, linewidth=0))
    axes.add_patch(
        Rectangle((x, y - 0.045), long * max(0.0, score) / full, 0.09, facecolor=color, linewidth=0)
    )
    style.write(
        axes,
        x + long + 0.04,
        y,
        f"{score:z.2f}".replace("-", "−"),
        size=8,
        va="center",
        color=color,
    )


def _text_query(
    axes: Any, y: float, caption: str, table: _Table, row: int, right: Any, pictures: Any, top: int
) -> None:
    style.write(
        axes,
        MARGIN,
        y + 0.42,
        style.wrapped(caption, 24, 4),
        size=9.5,
        va="center",
        color=style.TEXT,
    )
    order, scores = best_candidates(table.order[row], right), table.drawn[row]
    first_right = int(np.flatnonzero(right[order])[0])
    shown = [*order[:top], *([order[first_right]] if first_right >= top else [])]
    step = (WIDTH - QUERY_WIDTH - MARGIN - 1.2) / (top + 1)
    for place, i in enumerate(shown):
        x = MARGIN + QUERY_WIDTH + (place + 0.5) * step + (0.2 if place == top else 0)
        color = style.RIGHT if right[i] else style.PADDING
        style.thumbnail(axes, pictures[i], x, y + 0.42, 0.72, color, width=2.4 if right[i] else 0.8)
        ink = color if right[i] else style.INK
        if np.isnan(scores[i]):
            style.write(
                axes,
                x,
                y + 0.93,
                table.left_out.replace(" ITC", "\nITC"),
                size=7,
                ha="center",
                va="center",
                color=ink,
            )
        else:
            _bar(axes, x - 0.36, y + 0.93, scores[i], table.full, 0.4, ink)
        if place == top:
            style.write(axes, x - 0.52, y + 0.42, "…", size=12, ha="center", va="center")
    _verdict(axes, y + 0.42, first_right + 1, len(scores))


def _picture_query(
    axes: Any, y: float, picture: Any, table: _Table, row: int, right: Any, captions: Any, top: int
) -> None:
    style.thumbnail(axes, picture, MARGIN + 0.45, y + 0.47, 0.82, style.PICTURE, width=1.6)
    order, scores = best_candidates(table.order[row], right), table.drawn[row]
    first_right = int(np.flatnonzero(right[order])[0])
    shown = [*order[:top], *([order[first_right]] if first_right >= top else [])]
    line = (TALL - 0.12) / (top + 1)
    for place, i in enumerate(shown):
        color = style.RIGHT if right[i] else style.INK
        at = y + line * (place + 0.5)
        behind = ""
        if np.isnan(scores[i]):
            behind = f" · {table.left_out}"
        else:
            _bar(axes, MARGIN + 1.15, at, scores[i], table.full, 0.6, color)
        words = (
            ("… " if place == top else "")
            + style.wrapped(captions[i], 72 - len(behind), 1)
            + behind
        )
        style.write(
            axes,
            MARGIN + 2.2,
            at,
            words,
            size=9,
            va="center",
            color=color,
            weight="bold" if right[i] else "normal",
        )
    _verdict(axes, y + 0.47, first_right + 1, len(scores))
