"""Attention to be asked: which layer, which head, which token looks; and its weights over the picture's patches or the text's tokens.

The maps are those of `record_attention`. Weights describe the mixing of one layer and are no reason
for an answer (see `attention`). They are kept to a hundredth of a percent, so that what is printed,
drawn and said by the script are the same numbers.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinymm.arrays.errors import DataError, ShapeError, UsageError

from ..attention.maps import effective_keys
from .explorer import (
    Explorer,
    choice,
    clean,
    letters,
    level,
    palette,
    png,
    rounded,
    share,
    svg,
    text,
    write,
)

MOST_TOKENS, MOST_KEYS, MOST_WEIGHTS = 64, 257, 120_000
WIDEST = 640  # pixels of a row of tokens
WHOLE = 10_000


class AttentionExplorer(Explorer):
    """An explorer of attention weights: `maps` are `(B, H, Tq, Tk)` or `(H, Tq, Tk)`, a layer each, as `record_attention` collects them.

    `tokens` name the Tq that look. What is looked at are a `picture`'s patches, `(h, w, c)` in [0,
    1], in the rows and columns of `grid` (a square unless said otherwise) after its class token if
    there is one more; or `keys`, Tk names; or the tokens themselves. `pair` picks one of the batch;
    `layer`, `head` (None is their mean) and `query` are shown at first. ShapeError for maps of
    several sizes and for names that do not fit, UsageError beyond 64 tokens or 120,000 weights.

    >>> explorer = AttentionExplorer([np.full((2, 3, 4), 0.25)], ["a", "red", "ball"], picture=np.zeros((8, 8, 3)))
    >>> print(explorer.sentence("red"))
    red looks at 4.0 of 4 keys in layer 1, mean of heads: most at row 1, column 1 (25.0%), then row 1, column 2 (25.0%).
    """

    kind = "attention"
    help = "Arrow keys move among the tokens that look, and among what is looked at; Enter pins one, Escape frees it."

    def __init__(
        self,
        maps: Sequence[np.ndarray],
        tokens: Sequence[str],
        *,
        picture: np.ndarray | None = None,
        keys: Sequence[str] | None = None,
        grid: tuple[int, int] | None = None,
        pair: int = 0,
        layer: int = -1,
        head: int | None = None,
        query: int | str = 0,
    ) -> None:
        weights = _stacked(maps, pair)
        self.tokens, self.picture = [clean(token) for token in tokens], picture
        L, H, q, k = weights.shape
        if not (
            len(self.tokens) <= MOST_TOKENS
            and k <= MOST_KEYS
            and L * (H + 1) * q * k <= MOST_WEIGHTS
        ):
            came = f"{len(self.tokens)} tokens, {k} keys, {L * (H + 1) * q * k:,} weights with the heads' means"
            limits = f"{MOST_TOKENS} tokens, {MOST_KEYS} keys and {MOST_WEIGHTS:,} weights"
            way_out = "pass fewer layers or rows, as [m[:, :, :16] for m in maps[-2:]]"
            raise UsageError(
                f"an attention explorer holds at most {limits}, and {came} came; {way_out}"
            )
        self.grid = _grid(k, grid) if picture is not None else None
        places = (
            _patches(k, self.grid)
            if self.grid
            else self.tokens
            if keys is None
            else [clean(key) for key in keys]
        )
        if len(self.tokens) != q or len(places) != k:
            raise ShapeError(
                f"attention (H,Tq,Tk), Tq tokens that look, Tk that are looked at: got {weights.shape[1:]}, {len(self.tokens)}, {len(places)}; "
                "name every token once, with keys= if others are looked at"
            )
        self.keys = places
        mean = weights.mean(axis=1, keepdims=True)
        self.weights = np.floor(WHOLE * np.concatenate([mean, weights], axis=1) + 0.5).astype(int)
        self.layer, self.head = range(L)[layer], 0 if head is None else 1 + range(H)[head]
        self.query = self.tokens.index(clean(query)) if isinstance(query, str) else range(q)[query]

    def shown(self, query: int | str | None = None) -> np.ndarray:
        """Return the weights `(Tk,)` of one token in the layer and head that are shown, as they are printed: rounded to 0.0001."""
        place = (
            self.query
            if query is None
            else self.tokens.index(query)
            if isinstance(query, str)
            else query
        )
        return self.weights[self.layer, self.head, place] / WHOLE

    def sentence(self, query: int | str | None = None) -> str:
        """Return in words how sharply a token looks, and where most."""
        row = self.shown(query)
        name = (
            self.tokens[self.query]
            if query is None
            else query
            if isinstance(query, str)
            else self.tokens[query]
        )
        if not row.any():
            return f"{name} looks at nothing in {self._where()}."
        first, *others = np.argsort(-row, kind="stable")[:2]
        said = f"{name} looks at {rounded(float(effective_keys(row)), 1)} of {len(row)} keys in {self._where()}: most at {self.keys[first]}"
        said += f" ({share(row[first])})"
        return said + (
            f", then {self.keys[others[0]]} ({share(row[others[0]])})."
            if others and row[others[0]]
            else "."
        )

    def _where(self) -> str:
        return f"layer {self.layer + 1}, " + (
            f"head {self.head - 1}" if self.head else "mean of heads"
        )

    def alt(self) -> str:
        """Return where the chosen token looks, and how many keys are looked at in each layer on average."""
        keys = effective_keys(self.weights[:, 0] / WHOLE).mean(axis=1)
        said = ", ".join(
            f"{rounded(number, 1)} in layer {L + 1}" for L, number in enumerate(keys.tolist())
        )
        return f"{self.sentence()}\nKeys that a token looks at on average: {said}, of {len(self.keys)}."

    def table(self) -> str:
        """Return where each token looks in the layer and head that are shown, and all weights of the chosen one."""
        row = self.shown()
        out = [
            *(self.sentence(i) for i in range(len(self.tokens))),
            "",
            f"{self.tokens[self.query]}, {self._where()}:",
        ]
        if self.grid is None:
            return "\n".join(
                [
                    *out,
                    *(
                        f"{share(value):>7} {key}"
                        for key, value in zip(self.keys, row, strict=True)
                    ),
                ]
            )
        rows, columns = self.grid
        heat = row[-rows * columns :].reshape(rows, columns)
        out += [f"class {share(row[0])}"] * (len(row) > heat.size)
        return "\n".join(
            [*out, *("".join(f"{share(value):>7}" for value in line) for line in heat)]
        )

    def _data(self) -> dict[str, Any]:
        colors, inks = palette()
        return {
            "weights": self.weights.tolist(), "tokens": self.tokens, "keys": self.keys, "layer": self.layer, "head": self.head, "query": self.query,
            "digits": self._digits(), "colors": colors, "inks": inks,
        }  # fmt: skip

    # ------------------------------------------------------------------ drawing
    def _side(self) -> int:
        longest = max(self.grid or (1,))
        return 48 if longest <= 4 else 36 if longest <= 8 else 26

    def _digits(self) -> int:
        return 1 if self.grid is None or self._side() > 30 else 0

    def _body(self) -> str:
        L, H = self.weights.shape[:2]
        controls = []
        if L > 1:
            controls.append(
                choice("layer", "layer", [(str(i), str(i + 1)) for i in range(L)], str(self.layer))
            )
        if H > 2:
            controls.append(
                choice(
                    "head",
                    "head",
                    [("0", "mean"), *((str(i), str(i - 1)) for i in range(1, H))],
                    str(self.head),
                )
            )
        sides = [self._over_picture(), self._patch_numbers()] if self.grid else [self._text()]
        seen = "looked at: " + (
            "the picture, veiled where little weight lies; weights in percent"
            if self.grid
            else "weights in percent"
        )
        return "\n".join([
            f'<div class="tm-controls tm-live">{"".join(controls)}</div>' if controls else "",
            '<p class="tm-head">who looks, and at how many keys</p>', self._lookers(),
            f'<p class="tm-head">{seen}</p>', f'<div class="tm-sides">{"".join(sides)}</div>',
        ])  # fmt: skip

    def _lookers(self) -> str:
        """Return the tokens that look as boxes in rows, the chosen one with a thick frame; below each how many keys it looks at."""
        keys = effective_keys(self.weights[self.layer, self.head] / WHOLE)
        any_ = self.weights[self.layer, self.head].any(axis=1)
        out, row = ['<g role="row">'], 0.0
        for i, (x, y, wide) in enumerate(flow(self.tokens, 52)):
            if y > row:
                out, row = [*out, '</g><g role="row">'], y
            chosen = str(i == self.query).lower()
            out.append(
                f'<g role="gridcell" class="tm-look" aria-selected="{chosen}" transform="translate({x:g} {y:g})">'
                f'<rect x="1.5" y="1.5" width="{wide - 3:g}" height="37"/>{write(wide / 2, 17, self.tokens[i])}'
                f"{write(wide / 2, 32, rounded(keys[i], 1) if any_[i] else 'none', size=11)}</g>"
            )
        out.append('</g><rect class="tm-here" width="10" height="40"/>')
        return svg(WIDEST, row + 42, out, role="grid", aria_label="tokens that look")

    def _over_picture(self) -> str:
        """Return the picture under a gray veil that opens where the weight lies."""
        assert self.grid is not None and self.picture is not None
        (rows, columns), s = self.grid, self._side()
        heat = self.shown()[-rows * columns :]
        out = [
            f'<image width="{columns * s}" height="{rows * s}" preserveAspectRatio="none" href="{png(self.picture, 256)}"/>'
        ]
        for i, value in enumerate(heat.tolist()):
            where = f'x="{i % columns * s}" y="{i // columns * s}" width="{s}" height="{s}"'
            out.append(f'<rect class="tm-veil" {where} fill-opacity="{veil(value, heat.max())}"/>')
        return svg(
            columns * s,
            rows * s,
            out,
            role="img",
            aria_label="the picture, veiled where little weight lies",
        )

    def _patch_numbers(self) -> str:
        assert self.grid is not None
        (rows, columns), s, row = self.grid, self._side(), self.shown()
        head, size = len(row) - rows * columns, 12 if s > 40 else 11 if s > 30 else 9.5
        out, top = [], 30 * head
        if head:
            out += [
                '<g role="row">',
                self._key(0, 0, 0, columns * s, 26, f"class {rounded(100 * row[0], 1)}", 12),
                "</g>",
            ]
        for y in range(rows):
            out.append('<g role="row">')
            for x in range(columns):
                i = head + y * columns + x
                out.append(
                    self._key(
                        i, x * s, top + y * s, s, s, rounded(100 * row[i], self._digits()), size
                    )
                )
            out.append("</g>")
        out.append('<rect class="tm-here" width="10" height="10"/>')
        return svg(
            columns * s, top + rows * s, out, role="grid", aria_label="patches that are looked at"
        )

    def _text(self) -> str:
        row, out, line = self.shown(), ['<g role="row">'], 0.0
        for i, (x, y, wide) in enumerate(flow(self.keys, 52)):
            if y > line:
                out, line = [*out, '</g><g role="row">'], y
            out.append(self._key(i, x, y, wide - 2, 40, rounded(100 * row[i], 1), 11, self.keys[i]))
        out.append('</g><rect class="tm-here" width="10" height="40"/>')
        return svg(WIDEST, line + 42, out, role="grid", aria_label="tokens that are looked at")

    def _key(
        self,
        i: int,
        x: float,
        y: float,
        wide: float,
        tall: float,
        words: str,
        size: float,
        name: str = "",
    ) -> str:
        row, (colors, inks) = self.shown(), palette()
        step = level(row[i], 0, row.max())
        said = write(wide / 2, 17, name) if name else ""
        return (
            f'<g role="gridcell" class="tm-key" transform="translate({x:g} {y:g})" style="color:{inks[step]}">'
            f'<title>{text(f"{self.keys[i]}: {share(row[i])}")}</title><rect width="{wide:g}" height="{tall:g}" fill="{colors[step]}"/>{said}'
            f"{write(wide / 2, 32 if name else tall / 2 + size * 0.36, words, size=size)}</g>"
        )


def flow(names: Sequence[str], least: float) -> Iterator[tuple[float, float, float]]:
    """Yield where each name's box stands and how wide it is, in rows as text flows."""
    x = y = 0.0
    for name in names:
        wide = min(WIDEST, max(least, letters(name) * 7.4 + 16))
        if x + wide > WIDEST:
            x, y = 0.0, y + 44
        yield x, y, wide
        x += wide


def veil(value: float, most: float) -> str:
    """Return how opaque the veil over a patch is: gone where the weight is largest."""
    return rounded(0.9 * (1 - value / most), 2) if most else "0.9"


def _grid(count: int, grid: tuple[int, int] | None) -> tuple[int, int]:
    if grid is None:
        side = int(count**0.5)
        grid = side, side
    if count - grid[0] * grid[1] not in (0, 1):
        raise ShapeError(
            f"a picture's {count} keys are rows · columns of patches, or one more: got {grid}; pass grid=(rows, columns)"
        )
    return grid


def _patches(count: int, grid: tuple[int, int]) -> list[str]:
    names = [f"row {y + 1}, column {x + 1}" for y in range(grid[0]) for x in range(grid[1])]
    return ["class"] * (count - len(names)) + names


def _stacked(maps: Sequence[np.ndarray], pair: int) -> np.ndarray:
    """Return the maps of one pair as `(L, H, Tq, Tk)`."""
    arrays = [np.asarray(each, dtype=np.float64) for each in maps]
    shapes = sorted({each.shape for each in arrays})
    if len(shapes) != 1 or len(shapes[0]) not in (3, 4) or not arrays[0].size:
        came = ", ".join(map(str, shapes)) or "none"
        way_out = "pick those of one tower, as [m for m in maps if m.shape[-1] == 17]"
        raise ShapeError(
            f"maps are (B,H,Tq,Tk) or (H,Tq,Tk), all of one size: got {came}; {way_out}"
        )
    if arrays[0].ndim == 4:
        if not -len(arrays[0]) <= pair < len(arrays[0]):
            raise UsageError(
                f"a pair is one of the batch's {len(arrays[0])}, and {pair} came; count from 0"
            )
        arrays = [each[pair] for each in arrays]
    weights = np.stack(arrays)
    if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.max() <= 1 + 1e-5):
        raise DataError(
            f"attention weights lie in [0, 1]: got {weights.min():.3g} to {weights.max():.3g}; pass what softmax gives, not the scores"
        )
    return weights
