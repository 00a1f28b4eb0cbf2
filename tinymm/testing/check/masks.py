# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of masks: causal, padding, prefix, their algebra, and what many layers let through.

A mask is boolean and true where a row may attend to a column. Rows of padding are free: nobody
reads them.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..contract import Contract, Found, never
from ..strategies import one_of, pad_to, paddings, random_mask, sizes
from ..suite import Suite

LEAK = "a row that sees its own answer makes the loss wonderfully low and the model useless"
EMPTY = "a row that may look at nothing is 0/0 in the softmax, and a token that misses its past has less to learn from"
TYPE = "np.where and & need booleans; a 0/1 mask that is later added blocks nothing"
FREE = (
    "is_real alone decides: an assumption about where padding stands breaks with the next tokenizer"
)


@dataclass
class MaskContract(Contract):
    """A mask in somebody's convention: `true_means` "attend" or "ignore"; `additive` for 0 and −1000 or less."""

    true_means: str = field(default="attend", kw_only=True)
    additive: bool = field(default=False, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {
        "true_means": ("attend", "ignore"),
        "additive": (False, True),
    }

    def allow(self, raw: np.ndarray) -> np.ndarray:
        """Return a mask of the contract's convention as True = may attend."""
        if self.additive:
            return raw > -500
        return raw.astype(bool) if self.true_means == "attend" else ~raw.astype(bool)

    def disguise(self, allow: np.ndarray) -> np.ndarray:
        """Return True = may attend in the contract's convention."""
        if self.additive:
            return np.where(allow, 0.0, -np.inf)
        return allow if self.true_means == "attend" else ~allow

    def matrices(self, raw: np.ndarray, B: int, T: int) -> np.ndarray:
        """Return a mask that broadcasts to (B, 1, T, T) as (B, T, T), True = may attend."""
        try:
            return self.allow(np.broadcast_to(raw, (B, 1, T, T))[:, 0])
        except ValueError:
            said = f"fn returned shape {raw.shape}, which does not broadcast to {(B, 1, T, T)}"
            cause = f"your function returned shape {raw.shape}; a mask of a batch broadcasts to (B, 1, T, T), as is_real[:, None, None, :] does"
            raise Found(said, cause) from None

    def demand_type(self, raw: np.ndarray) -> None:
        """Demand booleans, or 0 and very negative numbers of an additive mask."""
        if self.additive:
            never(
                (raw != 0) & ~(raw <= -1000),
                f"an additive mask holds 0 or at most -1000, not {float(raw.flat[0])}, at one place",
            )
        elif raw.dtype != bool:
            added = (
                raw.dtype.kind == "f" and not (raw > 0).any()
            )  # one that multiplies has a 1 somewhere
            way_out = "an additive mask? say additive=True" if added else "dtype=bool"
            raise Found(
                f"fn returned {raw.dtype} where bool belongs",
                f"your function gave {raw.dtype}; a mask is boolean: {way_out}",
            )


@dataclass
class CausalMask(MaskContract):
    """`fn(n) -> (n, n)`: token i may look at tokens 0 … i; `window=True` for one that forgets the far past."""

    window: bool = field(default=False, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {**MaskContract.choices, "window": (False, True)}

    def raw(self, n: int) -> np.ndarray:
        """Return the mask as it came."""
        return self.call("fn", n, shape=(n, n), finite=False)

    def __call__(self, n: int) -> np.ndarray:
        """Return the mask as True = may attend."""
        return self.allow(self.raw(n))


causal = Suite("causal_mask", CausalMask)


@causal.property("M01", why=TYPE, n=sizes(1, 8))
def causal_type(mask: CausalMask, n: int) -> None:
    """The mask is a boolean (n, n) array."""
    mask.demand_type(mask.raw(n))


@causal.property("M02", why=LEAK, n=sizes(2, 8))
def causal_future(mask: CausalMask, n: int) -> None:
    """No token sees a later one."""
    never(np.triu(mask(n), 1), "token {0} sees the later token {1}")


@causal.property("M03", why=EMPTY, n=sizes(1, 8))
def causal_self(mask: CausalMask, n: int) -> None:
    """Every token sees itself."""
    never(~mask(n).diagonal(), "token {0} does not see itself")


@causal.property("M04", why=EMPTY, where={"window": (False,)}, n=sizes(1, 8))
def causal_past(mask: CausalMask, n: int) -> None:
    """Every token sees all earlier ones."""
    never(np.tril(~mask(n)), "token {0} does not see token {1}")


@causal.property(
    "M05",
    why="else a word's meaning depends on how much follows, and generating word by word differs from training",
    n=sizes(1, 8),
    m=sizes(1, 8),
)
def causal_corner(mask: CausalMask, n: int, m: int) -> None:
    """The mask of a prefix is the corner of the mask: fn(n)[:m, :m] = fn(m)."""
    n, m = max(n, m), min(n, m)
    never(mask(n)[:m, :m] != mask(m), f"fn({n}) and fn({m}) differ at ({{0}}, {{1}})")


@causal.property(
    "M06",
    why="what leaks one token a layer leaks twelve tokens in twelve layers",
    where={"window": (False,)},
    n=sizes(1, 8),
)
def causal_depth(mask: CausalMask, n: int) -> None:
    """A second layer opens nothing: M∘M = M."""
    once = mask(n)
    never(
        (once @ once) != once,
        "one layer and two layers differ in whether token {0} knows token {1}",
    )


@dataclass
class PaddingMask(MaskContract):
    """`fn(is_real (B, T))` broadcastable to (B, 1, T, T): nobody looks at padding.

    `rows="same"` if rows of padding look at the real tokens as well, "any" if they are free;
    `pad_side="right"` if padding always stands on the right, "any" if it may stand anywhere.
    """

    rows: str = field(default="any", kw_only=True)
    pad_side: str = field(default="any", kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {
        **MaskContract.choices,
        "rows": ("any", "same"),
        "pad_side": ("any", "right"),
    }

    def real(self, is_real: np.ndarray) -> np.ndarray:
        """Return a drawn padding as this contract allows it."""
        return is_real if self.pad_side == "any" else pad_to(is_real, "right")

    def __call__(self, is_real: np.ndarray) -> np.ndarray:
        """Return the mask as True = may attend."""
        return self.matrices(self.call("fn", is_real, finite=False), *is_real.shape)


padding = Suite("padding_mask", PaddingMask)
TOKENS = paddings()


@padding.property("M01", why=TYPE, is_real=TOKENS)
def padding_type(mask: PaddingMask, is_real: np.ndarray) -> None:
    """The mask is boolean."""
    mask.demand_type(mask.call("fn", mask.real(is_real), finite=False))


@padding.property("M07", why="padding carries no words, only noise", is_real=TOKENS)
def padding_hidden(mask: PaddingMask, is_real: np.ndarray) -> None:
    """No row sees a token of padding."""
    is_real = mask.real(is_real)
    never(
        mask(is_real) & ~is_real[:, None, :],
        "in caption {0} row {1} sees the padding in column {2}",
    )


@padding.property("M08", why=EMPTY, is_real=TOKENS)
def padding_open(mask: PaddingMask, is_real: np.ndarray) -> None:
    """Every real token sees every real token."""
    is_real = mask.real(is_real)
    looks = is_real[:, :, None] | (mask.rows == "same")
    never(
        looks & is_real[:, None, :] & ~mask(is_real),
        "in caption {0} row {1} does not see the real token {2}",
    )


@padding.property(
    "M09",
    why="a (B, T) mask broadcasts as (T, T) without a word when B = T, and captions then hide each other's tokens",
    is_real=TOKENS,
    chosen=sizes(0, 3),
)
def padding_alone(
    mask: PaddingMask, rng: np.random.Generator, is_real: np.ndarray, chosen: int
) -> None:
    """The mask of a caption depends on that caption alone."""
    b = chosen % len(is_real)
    other = rng.random(is_real.shape) < 0.5
    other[:, -1] = True
    other[b] = is_real[b]
    never(
        mask(mask.real(is_real))[b] != mask(mask.real(other))[b],
        f"caption {b}'s mask moved at ({{0}}, {{1}}) as the others changed",
    )


@padding.property("M10", why=FREE, where={"pad_side": ("any",)}, is_real=TOKENS)
def padding_moved(mask: PaddingMask, rng: np.random.Generator, is_real: np.ndarray) -> None:
    """Moving tokens moves their rows and columns."""
    order = rng.permutation(is_real.shape[1])
    moved = mask(is_real)[:, order][:, :, order]
    never(
        mask(is_real[:, order]) != moved,
        "caption {0}: after moving the tokens, row {1} and column {2} differ",
    )


@dataclass
class PrefixMask(MaskContract):
    """`fn(p, n) -> (n, n)`: p tokens that see each other, then n − p that see the prefix and their own past."""

    def raw(self, p: int, n: int) -> np.ndarray:
        """Return the mask as it came."""
        return self.call("fn", p, n, shape=(n, n), finite=False)

    def __call__(self, p: int, n: int) -> np.ndarray:
        """Return the mask as True = may attend."""
        return self.allow(self.raw(min(p, n), n))


prefix = Suite("prefix_mask", PrefixMask)


@prefix.property("M01", why=TYPE, p=sizes(0, 6), n=sizes(1, 7))
def prefix_type(mask: PrefixMask, p: int, n: int) -> None:
    """The mask is a boolean (n, n) array."""
    mask.demand_type(mask.raw(min(p, n), n))


@prefix.property("M11", why="a picture's parts have no order", p=sizes(0, 6), n=sizes(1, 7))
def prefix_full(mask: PrefixMask, p: int, n: int) -> None:
    """The prefix sees the whole prefix."""
    never(~mask(p, n)[:p, :p], "prefix row {0} does not see prefix column {1}")


@prefix.property("M12", why=LEAK, p=sizes(0, 6), n=sizes(1, 7))
def prefix_closed(mask: PrefixMask, p: int, n: int) -> None:
    """The prefix does not see the suffix."""
    never(mask(p, n)[:p, p:], "prefix row {0} sees column {1} of the suffix")


@prefix.property(
    "M13", why="words that do not see the picture ignore it", p=sizes(0, 6), n=sizes(1, 7)
)
def prefix_seen(mask: PrefixMask, p: int, n: int) -> None:
    """The suffix sees the whole prefix."""
    never(~mask(p, n)[p:, :p], "row {0} of the suffix does not see prefix column {1}")


@prefix.property("M14", why=LEAK, p=sizes(0, 6), n=sizes(1, 7))
def prefix_causal(mask: PrefixMask, p: int, n: int) -> None:
    """The suffix is causal, and without a prefix the whole mask is."""
    rest = mask(p, n)[p:, p:]
    never(
        rest != np.tril(np.ones_like(rest)),
        "suffix row {0} and suffix column {1} are not as in a causal mask",
    )


@dataclass
class MaskAlgebra(MaskContract):
    """`fn(a, b)`: what both masks allow; shapes broadcast."""

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return what the combination allows."""
        return self.allow(
            self.call(
                "fn",
                self.disguise(a),
                self.disguise(b),
                shape=np.broadcast_shapes(a.shape, b.shape),
                finite=False,
            )
        )


algebra = Suite("mask_algebra", MaskAlgebra)
COMBINED = "a combination that opens what one mask closed leaks through the other"


@algebra.property("M15", why=COMBINED, n=sizes(), m=sizes(), rows=one_of(1, 2))
def combined_both(
    combine: MaskAlgebra, rng: np.random.Generator, n: int, m: int, rows: int
) -> None:
    """The combination allows only what both allow."""
    a, b = random_mask(rng, n, m), random_mask(rng, 1 if rows == 1 else n, m)
    never(
        combine(a, b) & ~(a & b), "the combination allows ({0}, {1}), which one of the masks blocks"
    )


@algebra.property("M16a", why=COMBINED, n=sizes(), m=sizes())
def combined_open(combine: MaskAlgebra, rng: np.random.Generator, n: int, m: int) -> None:
    """Combining with an open mask changes nothing."""
    a = random_mask(rng, n, m)
    never(combine(a, np.ones_like(a)) != a, "with an open mask, ({0}, {1}) changed")


@algebra.property("M16b", why=COMBINED, n=sizes(), m=sizes())
def combined_twice(combine: MaskAlgebra, rng: np.random.Generator, n: int, m: int) -> None:
    """Combining a mask with itself changes nothing."""
    a = random_mask(rng, n, m)
    never(combine(a, a) != a, "with itself, ({0}, {1}) changed")


@dataclass
class Reachability(Contract):
    """`fn(masks) -> (T, T)`: what row i can know of row j after layers with these masks (T, T), the first layer's first.

    `residual=True` where every layer adds its input to its output, so that a row always knows
    itself.
    """

    residual: bool = field(default=True, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {"residual": (True, False)}

    def __call__(self, masks: list[np.ndarray]) -> np.ndarray:
        """Return who can know whom."""
        return self.call("fn", masks, shape=masks[0].shape).astype(bool)


reach = Suite("reachability", Reachability)
DEPTH = "a stack lets through what no single layer shows: a mask is judged by what its rows can know in the end"
stack: dict[str, Any] = {"T": sizes(1, 5), "layers": sizes(1, 3)}


def drawn_masks(rng: np.random.Generator, layers: int, T: int) -> list[np.ndarray]:
    """Return a thin random mask for each layer."""
    return list(rng.random((layers, T, T)) < 0.35)


@reach.property("M17a", why=DEPTH, where={"residual": (True,)}, **stack)
def reach_grows(knows: Reachability, rng: np.random.Generator, T: int, layers: int) -> None:
    """One more layer closes nothing."""
    masks = drawn_masks(rng, layers + 1, T)
    never(
        knows(masks[:-1]) & ~knows(masks),
        f"row {{0}} knows {{1}} after {layers} layers, not after one more",
    )


@reach.property("M17b", why=DEPTH, T=sizes(1, 5))
def reach_once(knows: Reachability, rng: np.random.Generator, T: int) -> None:
    """One layer lets through its mask, and a residual path the row itself."""
    (mask,) = drawn_masks(rng, 1, T)
    never(
        knows([mask]) != (mask | (np.eye(T, dtype=bool) & knows.residual)),
        "after one layer ({0}, {1}) is not as the mask says",
    )


@reach.property("M17c", why=DEPTH, more=sizes(1, 3), **stack)
def reach_composes(
    knows: Reachability, rng: np.random.Generator, T: int, layers: int, more: int
) -> None:
    """A row knows what it knows of the rows that the layers before had."""
    masks = drawn_masks(rng, layers + more, T)
    both = knows(masks[layers:]) @ knows(masks[:layers])
    never(
        knows(masks) != both,
        f"({{0}}, {{1}}) after {layers + more} layers is not the first {layers} followed by the rest",
    )
