# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of the Q-Former's three masks: who sees whom among queries and text, in ITC, ITG and ITM (BLIP-2 §3.2, Figure 2).

Trap: ITC ⊂ ITG ⊂ ITM is false, since ITC's text looks both ways and ITG's only back. True are ITC ⊂
ITM, ITG ⊂ ITM, and Q09, which finds most mistakes in one line.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..contract import never
from ..strategies import paddings, sizes
from ..suite import Suite
from .masks import TYPE, MaskContract

Array = np.ndarray
Rng = np.random.Generator
OBJECTIVES = ("itc", "itg", "itm")
drawn: dict[str, Any] = {"Q": sizes(1, 4), "is_real": paddings()}
APART = "ITC compares two descriptions; one that has seen the other is compared with itself"
WHISPER = (
    "queries that see the caption whisper the next word, and ITG learns to copy instead of to look"
)
PICTURE = "words know the picture through the queries alone: without them ITG is a language model of captions"
TOGETHER = "ITM judges a pair by its details, and can only where both sides see all of each other"
QUERIES = (
    "queries are a set: none comes before another, and what holds for two of them holds for all"
)
PADDING = "padding carries no words, only noise; its columns begin after the Q queries"
WHOLE = "a mask that differs from the others where it should not trains one stack as if it were two"


@dataclass
class QFormerMasks(MaskContract):
    """`fn(Q, is_real (B, T), objective)` broadcastable to (B, 1, Q+T, Q+T), for the objectives "itc", "itg" and "itm".

    `order` says whether rows and columns have "queries_first" or "text_first";
    `rows_of_padding="same"` if rows of padding look where a word in their place would, "any" if
    they are free.
    """

    order: str = field(default="queries_first", kw_only=True)
    rows_of_padding: str = field(default="any", kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {
        **MaskContract.choices,
        "order": ("queries_first", "text_first"),
        "rows_of_padding": ("any", "same"),
    }

    def raw(self, Q: int, is_real: Array, objective: str) -> Array:
        """Return the mask as it came."""
        return self.call("fn", Q, is_real, objective, finite=False)

    def __call__(self, Q: int, is_real: Array, objective: str) -> Array:
        """Return the mask (B, Q+T, Q+T) with queries first, as True = may attend."""
        B, T = is_real.shape
        allow = self.matrices(self.raw(Q, is_real, objective), B, Q + T)
        return allow if self.order == "queries_first" else np.roll(allow, (Q, Q), axis=(1, 2))

    def read(self, Q: int, is_real: Array) -> Array:
        """Return (B, Q+T, 1): the rows that somebody reads; what the others see is nobody's business."""
        words = is_real | (self.rows_of_padding == "same")
        return np.concatenate([np.ones((len(words), Q), bool), words], axis=1)[:, :, None]

    def seen(self, Q: int, is_real: Array, objective: str) -> Array:
        """Return where a row that is read sees a column."""
        return self(Q, is_real, objective) & self.read(Q, is_real)

    def hidden(self, Q: int, is_real: Array, objective: str) -> Array:
        """Return where a row that is read does not see a column."""
        return ~self(Q, is_real, objective) & self.read(Q, is_real)


qformer = Suite("qformer_masks", QFormerMasks)


@qformer.property("M01", why=TYPE, **drawn)
def types(mask: QFormerMasks, Q: int, is_real: Array) -> None:
    """The masks are boolean."""
    for objective in OBJECTIVES:
        mask.demand_type(mask.raw(Q, is_real, objective))


@qformer.property("Q01", why=APART, **drawn)
def itc_apart(mask: QFormerMasks, Q: int, is_real: Array) -> None:
    """ITC: queries see no text and text no queries."""
    seen = mask.seen(Q, is_real, "itc")
    never(seen[:, :Q, Q:], "ITC, caption {0}: query {1} sees token {2}")
    never(seen[:, Q:, :Q], "ITC, caption {0}: token {1} sees query {2}")


@qformer.property("Q02", why=QUERIES, **drawn)
def queries_together(mask: QFormerMasks, Q: int, is_real: Array) -> None:
    """Every query sees every query, whatever the objective."""
    for objective in OBJECTIVES:
        never(
            mask.hidden(Q, is_real, objective)[:, :Q, :Q],
            f"{objective.upper()}, caption {{0}}: query {{1}} does not see query {{2}}",
        )


@qformer.property("Q03", why=WHISPER, **drawn)
def itg_queries_blind(mask: QFormerMasks, Q: int, is_real: Array) -> None:
    """ITG: no query sees the text."""
    never(mask.seen(Q, is_real, "itg")[:, :Q, Q:], "ITG, caption {0}: query {1} sees token {2}")


@qformer.property("Q04", why=PICTURE, **drawn)
def itg_text_sees_queries(mask: QFormerMasks, Q: int, is_real: Array) -> None:
    """ITG: every real token sees every query."""
    never(
        mask.hidden(Q, is_real, "itg")[:, Q:, :Q],
        "ITG, caption {0}: token {1} does not see query {2}",
    )


@qformer.property(
    "Q05",
    why="a word that sees its own answer makes the loss wonderfully low and the model useless",
    **drawn,
)
def itg_text_causal(mask: QFormerMasks, Q: int, is_real: Array) -> None:
    """ITG: a real token sees itself and the real tokens before it."""
    allow, read = mask(Q, is_real, "itg"), mask.read(Q, is_real)
    expected = np.tri(is_real.shape[1], dtype=bool) & is_real[:, None, :]
    never(
        (allow[:, Q:, Q:] != expected) & read[:, Q:],
        "ITG, caption {0}: whether token {1} sees token {2} is not as it should be",
    )


@qformer.property("Q06", why=TOGETHER, **drawn)
def itm_open(mask: QFormerMasks, Q: int, is_real: Array) -> None:
    """ITM: queries and real tokens see all queries and all real tokens."""
    columns = np.concatenate([np.ones((len(is_real), Q), bool), is_real], axis=1)
    never(
        mask.hidden(Q, is_real, "itm") & columns[:, None, :],
        "ITM, caption {0}: row {1} does not see column {2}",
    )


@qformer.property("Q07", why=PADDING, **drawn)
def padding_hidden(mask: QFormerMasks, Q: int, is_real: Array) -> None:
    """Nobody sees padding, whatever the objective."""
    for objective in OBJECTIVES:
        seen = mask.seen(Q, is_real, objective)[:, :, Q:] & ~is_real[:, None, :]
        never(
            seen, f"{objective.upper()}, caption {{0}}: row {{1}} sees the padding in token {{2}}"
        )


@qformer.property(
    "Q08",
    why="else queries computed once and kept are not those of one pass, and captions written word by word differ",
    **drawn,
)
def same_queries(mask: QFormerMasks, Q: int, is_real: Array) -> None:
    """Queries look in ITG where they look in ITC."""
    never(
        mask(Q, is_real, "itg")[:, :Q] != mask(Q, is_real, "itc")[:, :Q],
        "caption {0}: query {1} sees column {2} in one of ITC and ITG only",
    )


@qformer.property("Q09", why=WHOLE, **drawn)
def union(mask: QFormerMasks, Q: int, is_real: Array) -> None:
    """ITC and ITG together allow what ITM allows, save that no query sees the text."""
    itc, itg, itm = (mask.seen(Q, is_real, objective) for objective in OBJECTIVES)
    itm[:, :Q, Q:] = False
    never(
        (itc | itg) != itm,
        "caption {0}: row {1} sees column {2} in ITM or in one of ITC and ITG, and not in the other",
    )


@qformer.property("Q10", why=QUERIES, **drawn)
def queries_moved(mask: QFormerMasks, rng: Rng, Q: int, is_real: Array) -> None:
    """Permuting the queries changes no mask."""
    order = np.concatenate([rng.permutation(Q), Q + np.arange(is_real.shape[1])])
    for objective in OBJECTIVES:
        seen = mask.seen(Q, is_real, objective)
        never(
            seen[:, order][:, :, order] != seen,
            f"{objective.upper()}, caption {{0}}: row {{1}}, column {{2}} changed with the queries' order",
        )


@qformer.property(
    "Q11",
    why="else a word depends on how much follows, and generating word by word differs from training",
    m=sizes(1, 5),
    **drawn,
)
def itg_cut(mask: QFormerMasks, Q: int, is_real: Array, m: int) -> None:
    """ITG: the mask of the first m tokens is the corner of the mask."""
    T = is_real.shape[1]
    is_real, m = (
        is_real | (np.arange(T) == 0),
        (m - 1) % T + 1,
    )  # the first token is real, so that what is cut is a caption
    corner, cut = (
        mask.seen(Q, is_real, "itg")[:, : Q + m, : Q + m],
        mask.seen(Q, is_real[:, :m], "itg"),
    )
    never(
        corner != cut, f"ITG, caption {{0}}: with {m} of {T} tokens row {{1}}, column {{2}} differs"
    )


@qformer.property(
    "Q12",
    why="the text's side of ITC is a text encoder; what it sees does not depend on queries that it does not see",
    **drawn,
)
def itc_text_alone(mask: QFormerMasks, Q: int, is_real: Array) -> None:
    """ITC: the text's block is the mask without queries."""
    among, alone = mask.seen(Q, is_real, "itc")[:, Q:, Q:], mask.seen(0, is_real, "itc")
    never(
        among != alone,
        f"ITC, caption {{0}}: token {{1}} sees token {{2}} with {Q} queries or without, not both",
    )


@qformer.property(
    "Q13",
    why="the class token stands first: in a causal text it would describe nothing but itself",
    **drawn,
)
def itc_text_open(mask: QFormerMasks, Q: int, is_real: Array) -> None:
    """ITC: every real token sees every real token, before and after it."""
    hidden = mask.hidden(Q, is_real, "itc")[:, Q:, Q:] & is_real[:, None, :]
    never(hidden, "ITC, caption {0}: token {1} does not see the real token {2}")
