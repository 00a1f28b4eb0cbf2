"""BLIP-2's three objectives as masks over one sequence, [queries ; text] (BLIP-2 §3.1, Figure 2), for a sentence of your own.

One Q-Former, the same weights; what differs is who may look at whom, and the first token: [CLS] where the text is read, [DEC] where it is
written. Beside them a plain causal mask, as a language model reads the same sequence in stage 2.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.data.text import CLS, DEC, PAD
from tinymm.layers import bidirectional_mask, causal_mask, multimodal_causal_mask, padding_mask, unimodal_mask

from .mask_cells import MANY, parts, reachable, sentence
from .masks import Panel, difference, draw, side_by_side

SEP = "[SEP]"


@dataclass(frozen=True)
class Objective:
    """A mask of [queries ; text] by name: how it is built from Q and is_real, the text's first token, and why it is so."""

    name: str
    kind: str
    first: str
    build: Callable[[int, np.ndarray], np.ndarray]
    why: str


def _causal(Q: int, is_real: np.ndarray) -> np.ndarray:
    real = np.concatenate([np.ones((len(is_real), Q), dtype=bool), is_real], axis=1)
    return causal_mask(Q + is_real.shape[1]) & padding_mask(real)


OBJECTIVES: Mapping[str, Objective] = {
    "itc": Objective("ITC", "uni-modal", CLS, unimodal_mask, "Each side is described by itself, since the two are then compared."),
    "itg": Objective("ITG", "multimodal causal", DEC, multimodal_causal_mask, "What the text knows of the picture comes through the queries."),
    "itm": Objective("ITM", "bi-directional", CLS, bidirectional_mask, "Whether a pair belongs together is judged with both in view."),
    "causal": Objective("Causal", "a language model", "[BOS]", _causal, "Every token is predicted from what comes before it."),
}
QFORMER = ("itc", "itg", "itm")


@dataclass(frozen=True)
class Scene:
    """The sequence that masks are shown for: Q queries, the words of a text between its two special tokens, and padding."""

    queries: int
    words: Sequence[str]
    padding: int = 0

    @property
    def is_real(self) -> np.ndarray:
        """Return (T,) booleans of the text: False marks padding."""
        return np.arange(len(self.words) + 2 + self.padding) < len(self.words) + 2

    def panel(self, objective: str, *, layers: int = 1) -> Panel:
        """Return an objective's mask with its tokens' names and a sentence that is read off the mask.

        With `layers` above 1, the picture comes first as one token, which the Q-Former's queries see by cross-attention: the sentence then says
        who knows what after so many layers.

        >>> Scene(2, ["a", "cat"]).panel("itg").names
        ['q0', 'q1', '[DEC]', 'a', 'cat', '[SEP]']
        """
        chosen = OBJECTIVES[objective]
        mask = chosen.build(self.queries, self.is_real[None])[0, 0]
        names = [*(f"q{i}" for i in range(self.queries)), chosen.first, *self.words, SEP, *[PAD] * self.padding]
        groups = {"query": self.queries, "text": len(self.is_real)}
        is_real = np.concatenate([np.ones(self.queries, dtype=bool), self.is_real])
        if layers > 1 and objective in QFORMER:
            mask, names, groups = _with_picture(mask, self.queries), ["picture", *names], {"picture": 1} | groups
            is_real = np.concatenate([[True], is_real])
        title = f"{chosen.name} · {chosen.kind}"
        if layers == 1:
            return Panel(mask, names, groups, is_real, title, f"{sentence(mask, groups, is_real)} {chosen.why}")
        known = sentence(reachable(mask, layers), groups, is_real, verb="knows")
        return Panel(mask, names, groups, is_real, title, f"After {layers} layers {known[0].lower()}{known[1:]}")

    def pair(self, one: str, other: str) -> tuple[Panel, Panel]:
        """Return two objectives' masks with names that fit both: where the tokens differ, "[CLS]/[DEC]".

        >>> Scene(1, ["cat"]).pair("itc", "itg")[0].names
        ['q0', '[CLS]/[DEC]', 'cat', '[SEP]']
        """
        a, b = self.panel(one), self.panel(other)
        names = [x if x == y else f"{x}/{y}" for x, y in zip(a.names, b.names, strict=True)]
        return replace(a, names=names), replace(b, names=names)


def finding(scene: Scene, objectives: Sequence[str] = QFORMER, *, layers: int = 1) -> str:
    """Return in one sentence under which objectives queries see text and text sees queries, or who knows what after several layers.

    >>> finding(Scene(2, ["a", "cat"]))
    'Queries see text under ITM; text sees queries under ITG and ITM.'
    """
    pairs = [("query", "text"), ("text", "query")] if layers == 1 else [("query", "text"), ("text", "picture")]
    clauses = []
    for who, whom in pairs:
        open_ = [OBJECTIVES[name].name for name in objectives if _any(scene.panel(name, layers=layers), who, whom, layers)]
        verb = ("see" if layers == 1 else "know") + "s" * (who == "text")
        which = " and ".join([", ".join(open_[:-1]), open_[-1]] if len(open_) > 1 else open_) or "none of them"
        clauses.append(f"{MANY[who]} {verb} {'the ' * (whom == 'picture')}{MANY[whom]} under {which}")
    text = ("" if layers == 1 else f"After {layers} layers ") + "; ".join(clauses) + "."
    return text[0].upper() + text[1:]


def draw_objectives(scene: Scene, objectives: Sequence[str] = QFORMER, *, layers: int = 1) -> Any:
    """Return a figure of the objectives' masks side by side, by default ITC, ITG and ITM, each with a sentence on who sees whom.

    With `layers` above 1 a second shade shows what is known by then, the picture included, which comes in through the queries.

    >>> draw_objectives(Scene(2, ["a", "cat"]), layers=2).alt.splitlines()[0]
    'After 2 layers queries know text under ITM; text knows the picture under ITG and ITM.'
    """
    panels = [scene.panel(name, layers=layers) for name in objectives]
    if len(panels) == 1:
        return draw(panels[0].mask, panels[0].names, panels[0].groups, panels[0].is_real, layers=layers)
    said = finding(scene, objectives, layers=layers)
    figure = side_by_side(panels, layers=layers, title=said.rstrip("."))
    figure.alt = f"{said}\n{figure.alt}"
    return figure


def draw_difference(scene: Scene, one: str, other: str) -> Any:
    """Return a figure of where two objectives' masks of the same sequence differ.

    >>> draw_difference(Scene(2, ["a", "cat"]), "itg", "itm").alt.splitlines()[0]
    '14 of 36 cells differ: only ITM allows queries → text (8), text → text (6).'
    """
    a, b = scene.pair(one, other)
    return difference(a.mask, b.mask, a.names, labels=(OBJECTIVES[one].name, OBJECTIVES[other].name), groups=a.groups, is_real=a.is_real)


def _any(panel: Panel, who: str, whom: str, layers: int) -> bool:
    """Return whether any real token of one group sees, or after several layers knows, any real one of another."""
    seen = reachable(panel.mask, layers)
    real = np.asarray(panel.is_real)
    where = dict(parts(panel.groups, len(real)))
    if who not in where or whom not in where:
        return False
    return bool(seen[where[who], where[whom]][real[where[who]]][:, real[where[whom]]].any())


def _with_picture(mask: np.ndarray, Q: int) -> np.ndarray:
    """Return the mask with the picture as one more token in front, which sees itself and is seen by the queries alone."""
    wider = np.zeros((len(mask) + 1, len(mask) + 1), dtype=bool)
    wider[: Q + 1, 0] = True
    wider[1:, 1:] = mask
    return wider
