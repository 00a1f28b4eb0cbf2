"""Masks to be asked: choose a row, and see what it sees now and what it can know after some layers, in cells and in a sentence.

The chosen objective is drawn in full; the script changes between the objectives of the same tokens,
sets the number of layers, and shows where two of them differ. BLIP-2's queries see the picture by
cross-attention, here a column in front, so that one finds how a word comes to know of it. What is
known is read off the masks (`layers.reachability`), never off their names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.data.text import split_words

from ..masks.cells import (
    ALLOWED,
    BOTH,
    FIRST,
    IDLE,
    KNOWN,
    LEAK,
    SECOND,
    WORDS,
    apart,
    clipped,
    depth,
    named,
    parts,
    reachable,
    sentence,
    side_words,
)
from ..masks.cells import states as states_of
from ..masks.figure import draw_alt
from ..masks.objectives import OBJECTIVES, Scene
from ..masks.text import difference_grid, grid
from .explorer import Explorer, choice, clean, letters, runs, slider, text
from .mask_svg import draw, legend, marks, side

MOST, MOST_MASKS, MOST_LAYERS = 64, 12, 48


@dataclass(frozen=True)
class Sheet:
    """One mask `(Tq, Tk)` with the names of its tokens, and what is said of it for each number of layers, from 1."""

    label: str
    title: str
    mask: np.ndarray
    rows: Sequence[str]
    columns: Sequence[str]
    notes: Sequence[str]


class MaskExplorer(Explorer):
    """An explorer of who may look at whom, and who knows whom after some layers, for an objective of ALBEF, BLIP or BLIP-2.

    `objective` is a name of `objectives.OBJECTIVES`; with `queries` [queries ; text] it can be
    changed among ITC, ITG, ITM, causal and prefix, with a picture's `patches` among those of ALBEF
    and BLIP. `words` are a text or its words, `padding` tokens follow. `layers` are shown at first,
    and `against` names an objective to tell the difference from. UsageError beyond 64 tokens. For
    masks of your own: `from_masks`.

    >>> print(MaskExplorer("itg", queries=2, words=["a", "cat"]).row("cat"))
    cat sees q0, q1, [DEC], a and cat. After 2 layers it also knows picture.
    """

    kind = "masks"
    help = "Arrow keys move from cell to cell, Enter pins a row, Escape frees it."

    def __init__(
        self,
        objective: str = "itg",
        *,
        queries: int = 4,
        words: str | Sequence[str] = ("a", "red", "ball"),
        padding: int = 0,
        patches: int = 4,
        layers: int = 2,
        against: str | None = None,
    ) -> None:
        for name in (objective, against):
            if name is not None and name not in OBJECTIVES:
                raise UsageError(
                    f"an objective is one of {', '.join(OBJECTIVES)}, and {name!r} came; for a mask of yours use from_masks"
                )
        scene = Scene(
            queries, split_words(words) if isinstance(words, str) else list(words), padding, patches
        )
        front = OBJECTIVES[objective].front
        _bounded(count := len(scene.front(objective)) + len(scene.is_real), count)
        many = [name for name, other in OBJECTIVES.items() if other.front == front]
        if against is not None and against not in many:
            came = f"{objective!r} and {against!r} came"
            raise UsageError(
                f"two masks differ over the same tokens, and {came}; compare {objective!r} with one of {', '.join(many)}"
            )
        picture = front == "query" and queries > 0
        panels = {name: scene.panel(name, picture=picture) for name in many}
        first = 1 if picture else panels[objective].first
        masks = {name: panel.mask for name, panel in panels.items()}
        names = {name: panel.names for name, panel in panels.items()}
        labels = {
            name: (OBJECTIVES[name].label, panel.title, OBJECTIVES[name].why)
            for name, panel in panels.items()
        }
        self._set(
            masks,
            names,
            None,
            panels[objective].groups,
            panels[objective].is_real,
            first,
            labels,
            layers,
            objective,
            against,
        )

    @classmethod
    def from_masks(
        cls,
        masks: np.ndarray | Mapping[str, np.ndarray],
        names: Sequence[str],
        *,
        column_names: Sequence[str] | None = None,
        groups: Mapping[str, int] | None = None,
        is_real: np.ndarray | None = None,
        layers: int | None = None,
        against: str | None = None,
    ) -> "MaskExplorer":
        """Return an explorer of one mask `(Tq, Tk)`, or of several by name, over tokens with these `names`; the first is shown.

        `groups` counts tokens as in `{"query": 2, "text": 3}`, `is_real` `(Tk,)` marks padding, and
        `column_names` are those of a cross mask, which has one layer only.

        >>> print(MaskExplorer.from_masks(np.eye(3, k=-1, dtype=bool), ["a", "b", "c"]).row("c"))
        c sees b. After 2 layers it also knows a and c.
        """
        several = dict(masks) if isinstance(masks, Mapping) else {"mask": masks}
        if not 1 <= len(several) <= MOST_MASKS or (against is not None and against not in several):
            came = f"{len(several)} masks, {', '.join(several) or 'none'}, against {against!r}"
            raise UsageError(
                f"an explorer holds 1 to {MOST_MASKS} masks, compared by name: got {came}; name those to be shown"
            )
        _bounded(len(names), len(names if column_names is None else column_names))
        self = cls.__new__(cls)
        labels = {name: (name, name, "") for name in several}
        flat = {name: named(mask, names, column_names)[0] for name, mask in several.items()}
        rows = dict.fromkeys(several, names)
        self._set(
            flat,
            rows,
            column_names,
            groups,
            is_real,
            0,
            labels,
            layers,
            next(iter(several)),
            against,
        )
        return self

    def _set(
        self,
        masks: Any,
        names: Any,
        column_names: Any,
        groups: Any,
        is_real: Any,
        first: int,
        labels: Any,
        layers: Any,
        shown: str,
        against: Any,
    ) -> None:
        square = column_names is None
        count = len(next(iter(masks.values()))[0])
        self.shown, self.against, self.first, self.square = shown, against, first, square
        self.edges = [span.start for _, span in parts(groups, count)] if square else []
        self.groups, self.is_real = (
            groups if square else None,
            np.ones(count, bool) if is_real is None else np.asarray(is_real),
        )
        depths = {
            name: depth(mask, MOST_LAYERS) if square else mask.astype(int)
            for name, mask in masks.items()
        }
        deepest = (
            min(MOST_LAYERS, max(int(each.max(initial=1)) for each in depths.values()))
            if square
            else 1
        )
        self.layers = min(2, deepest) if layers is None else layers
        if not 1 <= self.layers <= (MOST_LAYERS if square else 1):
            raise UsageError(
                f"layers lie in [1, {MOST_LAYERS if square else 1}], and {self.layers} came; a cross mask has 1, other masks more"
            )
        self.most = max(self.layers, deepest)
        self.depths, self.sheets = depths, {}
        for name, mask in masks.items():
            rows = [clean(clipped(each)) for each in names[name]]
            columns = rows if square else [clean(clipped(each)) for each in column_names]
            label, title, why = labels[name]
            notes = [
                f"{self._note(mask, rows, columns, L)} {why if L == 1 else ''}".strip()
                for L in range(1, self.most + 1)
            ]
            self.sheets[name] = Sheet(clean(label), clean(title), mask, rows, columns, notes)

    def _note(
        self, mask: np.ndarray, rows: Sequence[str], columns: Sequence[str], layers: int
    ) -> str:
        if not self.groups:
            lines = draw_alt(
                mask, rows, self.is_real, column_names=columns, layers=layers, first=self.first
            ).splitlines()
            return f"{lines[0]} {lines[-1]}" if layers > 1 else lines[0]
        known = layers > 1
        said = sentence(
            reachable(mask, layers) if known else mask,
            self.groups,
            self.is_real,
            verb="knows" if known else "sees",
        )
        return f"After {layers} layers {said[0].lower()}{said[1:]}" if known else said

    # ------------------------------------------------------------------ what is shown
    def cells(self) -> np.ndarray:
        """Return the state of each cell as it is drawn: those of `cells.states`, or of `cells.apart` for a difference."""
        one = self.sheets[self.shown]
        if self.against is not None:
            return apart(
                one.mask, self.sheets[self.against].mask, is_real=self.is_real, first=self.first
            )[0]
        return states_of(one.mask, self.is_real, self.layers)[self.first :]

    def _names(self) -> tuple[list[str], list[str]]:
        one, other = self.sheets[self.shown], self.sheets[self.against or self.shown]
        rows, columns = (
            [x if x == y else f"{x}/{y}" for x, y in zip(*pair, strict=True)]
            for pair in ((one.rows, other.rows), (one.columns, other.columns))
        )
        return rows[self.first :], columns

    def row(self, name: str | int) -> str:
        """Return in words what a row, by its name or its place, sees and comes to know; or what either of two masks lets it see."""
        rows, columns = self._names()
        i = rows.index(name) if isinstance(name, str) else name
        state, name = self.cells()[i], rows[i]

        def where(*wanted: int) -> str:
            return runs(columns, np.flatnonzero(np.isin(state, wanted)).tolist(), self.edges)

        if self.against is not None:
            words = side_words((self.sheets[self.shown].label, self.sheets[self.against].label))
            said = "; ".join(
                f"{words[side]} {where(side)}" for side in (BOTH, FIRST, SECOND) if side in state
            )
            return f"{name}: {said or 'both block all'}."
        if self.square and not self.is_real[self.first + i]:
            return f"{name} is padding: it may look at {where(IDLE)}, and nobody reads it."
        said = f"{name} sees {where(ALLOWED, LEAK)}." + (
            f" {where(LEAK)} is padding!" if LEAK in state else ""
        )
        if self.layers > 1:
            said += f" After {self.layers} layers it " + (
                f"also knows {where(KNOWN)}." if KNOWN in state else "knows no more."
            )
        return said

    def alt(self) -> str:
        """Return what the mask allows, or how two differ, in a sentence that is read off the cells."""
        one = self.sheets[self.shown]
        if self.against is not None:
            other = self.sheets[self.against]
            said = apart(
                one.mask,
                other.mask,
                (one.label, other.label),
                self.groups,
                self.is_real,
                self.first,
            )[1]
            return f"From {one.label} to {other.label}: {said}"
        lines = draw_alt(
            one.mask,
            one.rows,
            self.is_real,
            column_names=one.columns,
            layers=self.layers,
            first=self.first,
        ).splitlines()
        said = f"{one.title}: {one.notes[self.layers - 1]}"
        return "\n".join([said, lines[0], *lines[-1:][: self.layers > 1]])

    def table(self) -> str:
        """Return the mask as `viz.masks.text` prints it, and a sentence for each row."""
        one, (rows, columns) = self.sheets[self.shown], self._names()
        names = [*one.rows[: self.first], *rows]
        how: dict[str, Any] = {"groups": self.groups, "is_real": self.is_real, "first": self.first}
        if self.against is not None:
            other = self.sheets[self.against]
            printed = difference_grid(
                one.mask, other.mask, names, columns, labels=(one.label, other.label), **how
            )
        else:
            printed = grid(one.mask, names, columns, layers=self.layers, **how)
        return "\n".join([printed, "", *(self.row(i) for i in range(len(rows)))])

    def _data(self) -> dict[str, Any]:
        sheets = {}
        for name, sheet in self.sheets.items():
            cells, deep = (
                states_of(sheet.mask, self.is_real)[self.first :],
                self.depths[name][self.first :],
            )
            sheets[name] = {
                "label": sheet.label, "title": sheet.title, "rows": sheet.rows[self.first :], "columns": sheet.columns, "notes": sheet.notes,
                "states": ["".join(map(str, row)) for row in cells.tolist()], "depth": deep.tolist(),
            }  # fmt: skip
        pairs = {
            f"{a} {b}": apart(x.mask, y.mask, (x.label, y.label), self.groups, self.is_real, self.first)[1]
            for a, x in self.sheets.items() for b, y in self.sheets.items() if a != b
        }  # fmt: skip
        padding = [
            i
            for i in range(len(self._names()[0]))
            if self.square and not self.is_real[self.first + i]
        ]
        return {
            "sheets": sheets, "shown": self.shown, "against": self.against, "layers": self.layers, "words": WORDS, "padding": padding,
            "edges": self.edges, "apart": pairs, "sides": side_words(("{a}", "{b}")), "marks": marks(side(*self.sheets[self.shown].mask.shape)),
        }  # fmt: skip

    def _body(self) -> str:
        one, several = (
            self.sheets[self.shown],
            [(name, sheet.label) for name, sheet in self.sheets.items()],
        )
        controls = []
        if len(several) > 1:
            controls.append(choice("shown", "mask", several, self.shown))
            controls.append(
                choice("against", "compare with", [("", "none"), *several], self.against or "")
            )
        if self.most > 1:
            said = f"{self.layers} layer{'s' * (self.layers > 1)}"
            controls.append(slider("layers", "known after", self.most, self.layers, said, least=1))
        title = (
            one.title
            if self.against is None
            else f"From {one.label} to {self.sheets[self.against].label}"
        )
        (rows, columns), difference = self._names(), self.against is not None
        words, sides = (
            [word.format(self.layers) for word in WORDS],
            side_words((one.label, self.sheets[self.against or self.shown].label)),
        )
        masks = [sheet.mask for sheet in self.sheets.values()]
        found = {
            state
            for mask in masks
            for L in (1, self.most)
            for state in states_of(mask, self.is_real, L)[self.first :].ravel().tolist()
        }
        longest = max(
            (
                name
                for sheet in self.sheets.values()
                for name in (*sheet.rows, *sheet.columns, *rows)
            ),
            key=letters,
        )
        return "\n".join([
            f'<p class="tm-title">{text(title)}</p>', f'<div class="tm-controls tm-live">{"".join(controls)}</div>' if controls else "",
            draw(self.cells(), rows, columns, self.groups, self.first, sides if difference else words, longest, difference),
            legend(found, words, sides if len(several) > 1 else None, self.groups, difference),
        ])  # fmt: skip


def _bounded(rows: int, columns: int) -> None:
    if not (1 <= rows <= MOST and 1 <= columns <= MOST):
        raise UsageError(
            f"a mask explorer shows 1 to {MOST} tokens each way, and {rows} by {columns} came; pass a part, as mask[:{MOST}, :{MOST}] and "
            f"names[:{MOST}], or draw it whole with viz.masks.figure.draw"
        )
