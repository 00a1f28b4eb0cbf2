"""The objectives of ALBEF, BLIP and BLIP-2 as masks, for a sentence of your own: who may look at whom while each loss is computed.

In all of them the text reads or writes itself, and what differs is how it comes to the picture.
ALBEF's and BLIP's text looks at the picture's tokens by cross-attention, or leaves them out (ALBEF
§3.1, BLIP §3.1). BLIP-2's looks at a few queries in one sequence with it, [queries ; text] (BLIP-2
§3.2, Figure 2). Beside them a plain causal mask, as a language model reads the same sequence in
stage 2.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.data.text import CLS, DEC, ENC, MASK, PAD
from tinymm.layers import (
    bidirectional_mask,
    causal_mask,
    multimodal_causal_mask,
    padding_mask,
    prefix_mask,
    unimodal_mask,
)
from tinymm.viz import style

from .cells import MANY, Panel, parts, reachable, sentence
from .figure import difference, draw, side_by_side

SEP = "[SEP]"


@dataclass(frozen=True)
class Objective:
    """A mask by name: how it is built from Q and is_real, the text's first token, why it is so, and what stands in front of the text.

    `front` is "query" for [queries ; text], or "picture": then the first tokens are looked at by
    cross-attention, and only the text looks.
    """

    name: str
    kind: str
    first: str
    build: Callable[[int, np.ndarray], np.ndarray]
    why: str
    model: str = ""
    front: str = "query"

    @property
    def label(self) -> str:
        """Return the name with its model's, where that is not BLIP-2."""
        return f"{self.model} {self.name}".strip()


def _causal(Q: int, is_real: np.ndarray) -> np.ndarray:
    real = np.concatenate([np.ones((len(is_real), Q), dtype=bool), is_real], axis=1)
    return causal_mask(Q + is_real.shape[1]) & padding_mask(real)


def _prefix(Q: int, is_real: np.ndarray) -> np.ndarray:
    real = np.concatenate([np.ones((len(is_real), Q), dtype=bool), is_real], axis=1)
    given = Q + int(is_real.sum(axis=1).max()) // 2  # the queries and the first half of the text
    return prefix_mask(given, Q + is_real.shape[1]) & padding_mask(real)


def _beside(sees: bool, causal: bool = False) -> Callable[[int, np.ndarray], np.ndarray]:
    """Return how to build (B, 1, P+T, P+T) of [picture ; text], in which the text sees real text, or what came before, and the picture or not."""

    def build(P: int, is_real: np.ndarray) -> np.ndarray:
        B, T = is_real.shape
        mask = np.zeros((B, 1, P + T, P + T), dtype=bool)
        mask[..., :P, :P] = np.eye(
            P, dtype=bool
        )  # a picture's token is what it is: it does not look here
        mask[..., P:, :P] = sees
        mask[..., P:, P:] = padding_mask(is_real) & (causal_mask(T) if causal else True)
        return mask

    return build


_ALONE, _WITH = _beside(sees=False), _beside(sees=True)
_APART = "The picture and the text each have a softmax of their own."
OBJECTIVES: Mapping[str, Objective] = {
    "itc": Objective(
        "ITC",
        "uni-modal",
        CLS,
        unimodal_mask,
        "Each side is described by itself, since the two are then compared.",
    ),
    "itg": Objective(
        "ITG",
        "multimodal causal",
        DEC,
        multimodal_causal_mask,
        "What the text knows of the picture comes through the queries.",
    ),
    "itm": Objective(
        "ITM",
        "bi-directional",
        CLS,
        bidirectional_mask,
        "Whether a pair belongs together is judged with both in view.",
    ),
    "causal": Objective(
        "Causal",
        "a language model",
        "[BOS]",
        _causal,
        "Every token is predicted from what comes before it.",
    ),
    "prefix": Objective(
        "Prefix",
        "half is given",
        "[BOS]",
        _prefix,
        "What is given is read from both sides, and the rest is predicted after it.",
    ),
    "albef-itc": Objective(
        "ITC",
        "lower layers",
        CLS,
        _ALONE,
        "The text is read alone, since it is then compared.",
        "ALBEF",
        "picture",
    ),
    "albef-itm": Objective(
        "ITM",
        "upper layers",
        CLS,
        _WITH,
        f"They take over what the lower ones read. {_APART}",
        "ALBEF",
        "picture",
    ),
    "albef-mlm": Objective(
        "MLM",
        "upper layers",
        CLS,
        _WITH,
        "The hidden word is guessed from both sides.",
        "ALBEF",
        "picture",
    ),
    "blip-itc": Objective(
        "ITC",
        "[CLS] reads",
        CLS,
        _ALONE,
        "The text is read alone, since it is then compared.",
        "BLIP",
        "picture",
    ),
    "blip-itm": Objective(
        "ITM",
        "[ENC] compares",
        ENC,
        _WITH,
        f"The same weights read once more. {_APART}",
        "BLIP",
        "picture",
    ),
    "blip-lm": Objective(
        "LM",
        "[DEC] writes",
        DEC,
        _beside(True, True),
        "It has a self-attention of its own, which foretells.",
        "BLIP",
        "picture",
    ),
}
QFORMER, ALBEF, BLIP = (
    ("itc", "itg", "itm"),
    ("albef-itc", "albef-itm", "albef-mlm"),
    ("blip-itc", "blip-itm", "blip-lm"),
)
#: What can be drawn side by side, by one name.
FAMILIES = {"all": QFORMER, "albef": ALBEF, "blip": BLIP}


@dataclass(frozen=True)
class Scene:
    """What masks are shown for: Q queries or a picture of some patches, the words of a text between its two special tokens, and padding."""

    queries: int
    words: Sequence[str]
    padding: int = 0
    patches: int = 4

    @property
    def is_real(self) -> np.ndarray:
        """Return (T,) booleans of the text: False marks padding."""
        return np.arange(len(self.words) + 2 + self.padding) < len(self.words) + 2

    def front(self, objective: str) -> list[str]:
        """Return the names of what stands before the text: queries, or the picture's class token and its patches.

        >>> Scene(2, ["a"], patches=2).front("itm"), Scene(2, ["a"], patches=2).front("blip-lm")
        (['q0', 'q1'], ['class', 'p1', 'p2'])
        """
        if OBJECTIVES[objective].front == "query":
            return [f"q{i}" for i in range(self.queries)]
        return ["class", *(f"p{i + 1}" for i in range(self.patches))]

    def panel(self, objective: str, *, layers: int = 1, picture: bool | None = None) -> Panel:
        """Return an objective's mask with its tokens' names and a sentence that is read off the mask.

        With `layers` above 1, the picture comes first as one token, which the Q-Former's queries
        see by cross-attention: the sentence then says who knows what after so many layers.
        `picture` says whether it comes, whatever the layers.

        >>> Scene(2, ["a", "cat"]).panel("itg").names
        ['q0', 'q1', '[DEC]', 'a', 'cat', '[SEP]']
        """
        chosen, front = OBJECTIVES[objective], self.front(objective)
        mask = chosen.build(len(front), self.is_real[None])[0, 0]
        words = list(self.words)
        if objective == "albef-mlm":
            words[len(words) // 2] = MASK
        names = [*front, chosen.first, *words, SEP, *[PAD] * self.padding]
        groups = {chosen.front: len(front), "text": len(self.is_real)}
        is_real = np.concatenate([np.ones(len(front), dtype=bool), self.is_real])
        if (
            layers > 1 and objective in QFORMER
            if picture is None
            else picture and chosen.front == "query"
        ):
            mask, names, groups = (
                _with_picture(mask, self.queries),
                ["picture", *names],
                {"picture": 1} | groups,
            )
            is_real = np.concatenate([[True], is_real])
        first = len(front) if chosen.front == "picture" else 0
        if layers == 1:
            note = f"{sentence(mask, groups, is_real)} {chosen.why}"
        else:
            known = sentence(reachable(mask, layers), groups, is_real, verb="knows")
            note = f"After {layers} layers {known[0].lower()}{known[1:]}"
        return Panel(mask, names, groups, is_real, f"{chosen.label} · {chosen.kind}", note, first)

    def pair(self, one: str, other: str) -> tuple[Panel, Panel]:
        """Return two objectives' masks with names that fit both: where the tokens differ, "[CLS]/[DEC]".

        UsageError for tokens that have no name in common.

        >>> Scene(1, ["cat"]).pair("itc", "itg")[0].names
        ['q0', '[CLS]/[DEC]', 'cat', '[SEP]']
        """
        fronts = [OBJECTIVES[name].front for name in (one, other)]
        if fronts[0] != fronts[1]:
            tokens = [
                f"{name} over {MANY[front]} and text"
                for name, front in zip((one, other), fronts, strict=True)
            ]
            raise UsageError(
                f"two masks differ over the same tokens: got {' but '.join(tokens)}; choose both with queries or both with a picture"
            )
        a, b = self.panel(one), self.panel(other)
        names = [x if x == y else f"{x}/{y}" for x, y in zip(a.names, b.names, strict=True)]
        return replace(a, names=names), replace(b, names=names)


def finding(scene: Scene, objectives: Sequence[str] = QFORMER, *, layers: int = 1) -> str:
    """Return in one sentence under which objectives who sees what stands before the text, or knows it after several layers.

    >>> finding(Scene(2, ["a", "cat"]))
    'Queries see text under ITM; text sees queries under ITG and ITM.'
    >>> finding(Scene(2, ["a", "cat"]), BLIP)
    'In BLIP text sees the picture under ITM and LM; text sees later text under ITC and ITM.'
    """
    pairs = (
        [("query", "text"), ("text", "query")]
        if layers == 1
        else [("query", "text"), ("text", "picture")]
    )
    models = {OBJECTIVES[name].model for name in objectives}
    if all(OBJECTIVES[name].front == "picture" for name in objectives):
        pairs = [("text", "picture"), ("text", "later text")]
    clauses = []
    for who, whom in pairs:
        panels = {name: scene.panel(name, layers=layers) for name in objectives}
        open_ = [
            OBJECTIVES[n].name if len(models) == 1 else OBJECTIVES[n].label
            for n, panel in panels.items()
            if _any(panel, who, whom, layers)
        ]
        verb = ("see" if layers == 1 else "know") + "s" * (who == "text")
        which = style.listed(open_) or "none of them"
        clauses.append(
            f"{MANY[who]} {verb} {'the ' * (whom == 'picture')}{MANY.get(whom, whom)} under {which}"
        )
    text = ("" if layers == 1 else f"After {layers} layers ") + "; ".join(clauses) + "."
    model = models.pop() if len(models) == 1 else ""
    text = f"In {model} {text[0].lower()}{text[1:]}" if model else text
    return text[0].upper() + text[1:]


def draw_objectives(scene: Scene, objectives: Sequence[str] = QFORMER, *, layers: int = 1) -> Any:
    """Return a figure of the objectives' masks side by side, by default ITC, ITG and ITM, each with a sentence on who sees whom.

    With `layers` above 1 a second shade shows what is known by then, the picture included, which
    comes in through the queries.

    >>> draw_objectives(Scene(2, ["a", "cat"]), layers=2).alt.splitlines()[0]
    'After 2 layers queries know text under ITM; text knows the picture under ITG and ITM.'
    """
    panels = [scene.panel(name, layers=layers) for name in objectives]
    if len(panels) == 1:
        return draw(
            panels[0].mask,
            panels[0].names,
            panels[0].groups,
            panels[0].is_real,
            layers=layers,
            first=panels[0].first,
        )
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
    labels = OBJECTIVES[one].label, OBJECTIVES[other].label
    return difference(
        a.mask, b.mask, a.names, labels=labels, groups=a.groups, is_real=a.is_real, first=a.first
    )


def _any(panel: Panel, who: str, whom: str, layers: int) -> bool:
    """Return whether any real token of one group sees, or after several layers knows, any real one of another; "later text" stands behind it."""
    seen = reachable(panel.mask, layers)
    real = np.asarray(panel.is_real)
    where = dict(parts(panel.groups, len(real)))
    if whom == "later text":
        seen, whom = np.triu(seen, k=1), "text"
    if who not in where or whom not in where:
        return False
    return bool(seen[where[who], where[whom]][real[where[who]]][:, real[where[whom]]].any())


def _with_picture(mask: np.ndarray, Q: int) -> np.ndarray:
    """Return the mask with the picture as one more token in front, which sees itself and is seen by the queries alone."""
    wider = np.zeros((len(mask) + 1, len(mask) + 1), dtype=bool)
    wider[: Q + 1, 0] = True
    wider[1:, 1:] = mask
    return wider
