"""The matrix that CLIP is about, to be asked: each picture against each caption, before and after training, at any temperature.

Captions stand down the left and pictures along the top, as in `similarity`. Beside each row stands
the probability that its caption gives to its own picture, below each column the one that the
picture gives to its own caption: the two softmaxes of Figure 3. The slider goes from a scale of 0,
where all are alike, to one where the largest takes all; the loss below is Figure 3's own, beside
the ln n of equal scores.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.losses import itc_loss, l2_normalize

from ..retrieval.similarity import MOST_NUMBERS, ranks, same_meaning, similarity_alt
from .explorer import (
    Explorer,
    choice,
    clean,
    level,
    palette,
    png,
    rounded,
    share,
    slider,
    svg,
    text,
    wrap,
    write,
)

SCALES = (
    0,
    1,
    2,
    3,
    5,
    7,
    10,
    20,
    30,
    50,
    70,
    100,
    200,
    500,
    1000,
    3000,
)  # stops of the slider, beside the model's own
START = 1 / 0.07  # CLIP's scale at the start of training (§2.5)
NAMES = 186  # pixels for a caption


class SimilarityExplorer(Explorer):
    """An explorer of n pictures `(n, h, w, c)` in [0, 1] against n captions, pair i belonging together (CLIP, Figure 3).

    `similarities` are `(n, n)` cosines with pictures in rows, or the features of pictures `(n, E)`
    and of captions `(n, E)`, of which the cosines are taken; `before` is the same before training.
    `scale` multiplies them before the softmax, 1/0.07 unless said otherwise. They are rounded to
    six digits. UsageError for fewer than 2 or more than 40 pairs, ShapeError for shapes that do not
    fit, DataError for numbers that are not finite.

    >>> explorer = SimilarityExplorer(np.eye(2).reshape(2, 1, 2), ["one", "two"], np.eye(2), scale=1)
    >>> print(explorer.alt().splitlines()[0])
    2 of 2 captions find their picture (chance: 1).
    >>> print(explorer.cell(0, 1))  # doctest: +ELLIPSIS
    “one” and the picture of “two”: cosine 0.00. At scale 1 the caption gives the picture 26.9%, and ... Hardest wrong picture of the caption.
    """

    kind = "similarity"
    help = "Arrow keys move from cell to cell, Enter pins one, Escape frees it."

    def __init__(
        self,
        pictures: np.ndarray,
        captions: Sequence[str],
        similarities: np.ndarray | tuple[np.ndarray, np.ndarray],
        *,
        before: np.ndarray | tuple[np.ndarray, np.ndarray] | None = None,
        scale: float | None = None,
    ) -> None:
        self.pictures, self.captions = (
            np.asarray(pictures),
            [clean(caption) for caption in captions],
        )
        panels = {"before": before, "after": similarities}
        self.matrices = {
            name: _cosines(given) for name, given in panels.items() if given is not None
        }
        if len(self.captions) < 2:
            raise UsageError(
                f"a similarity explorer compares 2 to 40 pairs, and {len(self.captions)} came; pass more, or look at the number itself"
            )
        self._alt = similarity_alt(
            self.matrices, self.pictures, self.captions
        )  # refuses what does not fit
        self.scale = START if scale is None else float(scale)
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise DataError(
                f"a scale is finite and ≥ 0, and {scale} came; pass exp(t), as in np.exp(model.t.data)"
            )
        self.right = same_meaning(self.pictures, self.captions)
        self.scales = sorted({round(float(each), 6) for each in (*SCALES, self.scale)})
        self.scale = round(self.scale, 6)

    def scores(self, which: str = "after") -> np.ndarray:
        """Return the matrix as it is drawn: a caption in each row, a picture in each column, `(n, n)`."""
        return self.matrices[which].T

    def probabilities(
        self, which: str = "after", scale: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what each caption gives to each picture, rows of which sum to 1, and what pictures give to captions: columns do."""
        scores = self.scores(which) * (self.scale if scale is None else scale)
        return _softmax(scores, 1), _softmax(scores, 0)

    def loss(self, which: str = "after", scale: float | None = None) -> float:
        """Return Figure 3's loss, the mean of both directions; where all scores are equal it is ln n."""
        return float(
            itc_loss(self.matrices[which] * (self.scale if scale is None else scale)).item()
        )

    def hardest(self, which: str = "after") -> np.ndarray:
        """Return for each caption the wrong picture with the largest score, -1 where all are right."""
        found = np.where(self.right, -np.inf, self.scores(which)).argmax(axis=1)
        return np.where(self.right.all(axis=1), -1, found)

    def cell(self, caption: int, picture: int, which: str = "after") -> str:
        """Return in words how a caption and a picture meet."""
        rows, columns = self.probabilities(which)
        said = f"“{self.captions[caption]}” and the picture of “{self.captions[picture]}”: cosine {rounded(self.scores(which)[caption, picture], 2)}."
        said += f" At scale {self.scale:.4g} the caption gives the picture {share(rows[caption, picture])}"
        said += f", and the picture gives the caption {share(columns[caption, picture])}."
        return said + KIND_WORDS[self._kind(caption, picture, which)]

    def _kind(self, caption: int, picture: int, which: str = "after") -> str:
        if caption == picture:
            return "own"
        if self.right[caption, picture]:
            return "also"
        return "hard" if self.hardest(which)[caption] == picture else "wrong"

    def alt(self) -> str:
        """Return how many captions find their picture, means of right and wrong pairs, the worst confusion, and the loss."""
        n = len(self.captions)
        hits = {
            name: int((ranks(matrix.T, self.right.T) == 1).sum())
            for name, matrix in self.matrices.items()
        }
        said = f"{hits['after']} of {n} captions find their picture (chance: {self.right.mean(axis=0).sum():.3g})"
        said += f"; {hits['before']} before training." if "before" in hits else "."
        return "\n".join([said, self._loss_words("after"), *self._alt.splitlines()])

    def _loss_words(self, which: str) -> str:
        n = len(self.captions)
        return f"Loss {rounded(self.loss(which), 3)} at scale {self.scale:.4g}; equal scores cost ln {n} = {rounded(math.log(n), 3)}."

    def table(self) -> str:
        """Return the cosines, the probability of each own pair in both directions, and the loss, as text."""
        out = []
        for which in self.matrices:
            rows, columns = self.probabilities(which)
            title = f"{which} training" if len(self.matrices) > 1 else "cosines"
            out.append(
                f"{title:<24}" + "".join(f"{j:>7}" for j in range(len(rows))) + "   own picture"
            )
            for i, (caption, line) in enumerate(
                zip(self.captions, self.scores(which), strict=True)
            ):
                numbers = "".join(f"{rounded(value, 2):>7}" for value in line)
                out.append(f"{i:>2} {wrap(caption, 20, 1)[0]:<21}{numbers}{share(rows[i, i]):>14}")
            out += [
                f"{'own caption':<24}"
                + "".join(f"{share(columns[j, j]):>7}" for j in range(len(rows))),
                self._loss_words(which),
                "",
            ]
        return "\n".join(out).rstrip()

    def _data(self) -> dict[str, Any]:
        low, high = self._range()
        colors, inks = palette()
        kinds = np.where(
            np.eye(len(self.captions), dtype=bool), 0, np.where(self.right, 1, 2)
        ).tolist()  # own, also right, wrong
        return {
            "matrices": {name: matrix.T.tolist() for name, matrix in self.matrices.items()}, "captions": self.captions, "kinds": kinds,
            "hardest": {name: self.hardest(name).tolist() for name in self.matrices}, "scales": self.scales, "at": self.scales.index(self.scale),
            "said": [_scale_words(scale) for scale in self.scales], "names": [f"{scale:.4g}" for scale in self.scales],
            "low": low, "high": high, "colors": colors, "inks": inks, "words": KIND_WORDS,
            "overall": {name: self._overall(name) for name in self.matrices},
        }  # fmt: skip

    def _range(self) -> tuple[float, float]:
        return min(m.min() for m in self.matrices.values()), max(
            m.max() for m in self.matrices.values()
        )

    # ------------------------------------------------------------------ drawing
    def _say(self) -> str:
        return self._overall("after")

    def _overall(self, which: str) -> str:
        lines = similarity_alt(
            {which: self.matrices[which]}, self.pictures, self.captions
        ).splitlines()
        return " ".join(lines[1:] or lines)

    def _beside(self) -> str:
        return '<img class="tm-live" alt="" hidden>'

    def _body(self) -> str:
        shown = [
            ("cosine", "cosine"),
            ("rows", "caption picks a picture"),
            ("columns", "picture picks a caption"),
        ]
        controls = [choice("shown", "numbers", shown, "cosine")]
        if "before" in self.matrices:
            controls.append(
                choice("which", "training", [("before", "before"), ("after", "after")], "after")
            )
        at = self.scales.index(self.scale)
        controls.append(
            slider("scale", "softmax at", len(self.scales) - 1, at, _scale_words(self.scale))
        )
        legend = [
            ('<rect x="2" y="2" width="14" height="14" fill="none" stroke="#D81B72" stroke-width="2.2"/>', "own pair"),
            ('<rect x="2" y="2" width="14" height="14" fill="none" stroke="#D81B72" stroke-width="2.2" stroke-dasharray="4 2.5"/>',
             "also right: same caption or same picture (bracketed)"),
            ('<rect x="2" y="2" width="14" height="14" fill="none" stroke="currentColor" stroke-width="2.2" stroke-dasharray="1.5 2"/>',
             "hardest wrong picture of the caption"),
        ]  # fmt: skip
        if self.right.sum() == len(self.right):
            del legend[1]
        items = "".join(
            f'<li><svg width="18" height="18" aria-hidden="true">{shape}</svg><span>{words}</span></li>'
            for shape, words in legend
        )
        return "\n".join([
            f'<p class="tm-title">{text(self.alt().splitlines()[0])}</p>', f'<div class="tm-controls tm-live">{"".join(controls)}</div>',
            self._picture(), f'<ul class="tm-legend">{items}</ul>', f'<p class="tm-loss" role="status">{text(self._loss_words("after"))}</p>',
        ])  # fmt: skip

    def _picture(self) -> str:
        n, scores, hardest = len(self.captions), self.scores(), self.hardest()
        s, size = (46, 12) if n <= MOST_NUMBERS else (38, 9.5)
        groups = [
            np.flatnonzero(row).tolist() for row in np.unique(self.right, axis=0) if row.sum() > 1
        ]
        left, top = NAMES + 9 * len(groups) + 6, s + 6
        (low, high), (colors, inks), (rows, columns) = (
            self._range(),
            palette(),
            self.probabilities(),
        )
        out = ['<g role="row">']
        for j, picture in enumerate(self.pictures):
            where = f'x="{left + j * s + 2}" y="2" width="{s - 4}" height="{s - 4}"'
            label = text(f"picture of “{self.captions[j]}”")
            out.append(
                f'<g role="columnheader" aria-label="{label}"><image {where} href="{png(picture)}"/></g>'
            )
        out.append(write(left + n * s + 8, top - 6, "own picture", size=11) + "</g>")
        for i, caption in enumerate(self.captions):
            y = top + i * s
            lines = wrap(caption, int(NAMES / (size * 0.6)), 2)
            start = y + s / 2 + size * 0.35 - (len(lines) - 1) * size * 0.6
            said = "".join(
                write(NAMES - 4, start + k * size * 1.2, line, size=size, end=True)
                for k, line in enumerate(lines)
            )
            out.append(
                f'<g role="row"><g role="rowheader"><title>{text(caption)}</title>{said}</g>'
            )
            for j in range(n):
                step, kind = level(scores[i, j], low, high), self._kind(i, j)
                frame = f'<rect class="tm-frame" x="2.5" y="2.5" width="{s - 5}" height="{s - 5}"/>'
                out.append(
                    f'<g role="gridcell" class="tm-number tm-{kind if j != hardest[i] else "hard"}" transform="translate({left + j * s} {y})" '
                    f'style="color:{inks[step]}"><title>{text(self.cell(i, j))}</title><rect width="{s}" height="{s}" fill="{colors[step]}"/>'
                    f"{frame * (1 if kind in ('hard', 'wrong') else 2)}"
                    f'<text x="{s / 2:g}" y="{s / 2 + size * 0.35:g}" font-size="{size}">{rounded(scores[i, j], 2)}</text></g>'
                )
            out.append("</g>" + _bar(left + n * s + 8, y + s / 2, rows[i, i], "tm-p-row"))
        bottom = top + n * s
        out.append(write(left - 8, bottom + 18, "own caption", size=11, end=True))
        out += [
            _bar(left + j * s + 4, bottom + 14, columns[j, j], "tm-p-column", s - 8)
            for j in range(n)
        ]
        for depth, group in enumerate(groups):
            x, ends = NAMES + 3 + 9 * depth, [top + i * s + s / 2 for i in group]
            ticks = "".join(f"M{x} {y:g}h6" for y in ends)
            out.append(
                f'<path d="M{x} {ends[0]:g}V{ends[-1]:g}{ticks}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
            )
        out.append(f'<rect class="tm-here" x="-1" y="-1" width="{s + 2}" height="{s + 2}"/>')
        return svg(
            left + n * s + 112,
            bottom + 34,
            out,
            role="grid",
            aria_label="captions in rows, pictures in columns",
        )


#: What is added to a cell's sentence.
KIND_WORDS = {
    "own": " They are a pair.", "also": " Also right: the same caption or the same picture.",
    "hard": " Hardest wrong picture of the caption.", "wrong": "",
}  # fmt: skip


def _bar(x: float, y: float, value: float, kind: str, wide: int = 50) -> str:
    below = kind == "tm-p-column"
    number = write(
        x if below else x + wide + 6,
        y + (15 if below else 4),
        share(value),
        size=11 if wide >= 38 else 9,
    )
    box = f'x="{x:g}" y="{y - 5:g}" height="{6 if below else 10}"'
    return (
        f'<g class="{kind}" data-wide="{wide}"><rect {box} width="{wide}" fill="none" stroke="currentColor" stroke-opacity=".5"/>'
        f'<rect {box} width="{wide * value:.2f}" fill="currentColor" fill-opacity=".7"/>{number}</g>'
    )


def _scale_words(scale: float) -> str:
    return f"scale {scale:.4g} (temperature {1 / scale:.3g})" if scale else "scale 0 (all alike)"


def _softmax(scores: np.ndarray, axis: int) -> np.ndarray:
    shifted = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


def _cosines(given: Any) -> np.ndarray:
    if isinstance(given, tuple):
        if len(given) != 2 or np.ndim(given[0]) != 2 or np.shape(given[0]) != np.shape(given[1]):
            came = " and ".join(str(np.shape(each)) for each in given)
            raise ShapeError(
                f"features are those of pictures (n,E) and of captions (n,E): got {came}; pass the same pairs in the same order"
            )
        pictures, captions = (l2_normalize(np.asarray(each, dtype=np.float64)) for each in given)
        given = pictures @ captions.T
    return np.round(np.asarray(given, dtype=np.float64), 6) + 0.0  # no -0
