# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of attention: weighted means of the allowed values, whatever the shapes.

Trap: a leak test with a constant shift is blind behind a layer norm, so inputs are perturbed with
random vectors; and "nothing moved" is worth little until something else did move (A13).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..contract import Contract, never
from ..strategies import random_mask, sizes
from ..suite import Suite

MEAN = "attention answers with a mean of the values it may look at; anything else invents values"
LEAK = "what is blocked must not matter, else the model reads its answer or its padding"
ORDER = "attention has no order of its own: positions come from the embeddings alone"
Array = np.ndarray
Rng = np.random.Generator


@dataclass
class Attention(Contract):
    """`fn(q (B, H, Tq, D), k (B, H, Tk, D), v (B, H, Tk, Dv), mask) -> (B, H, Tq, Dv)`; True = may attend.

    `leading` counts the axes before (T, D): 2, 1 or 0. `scaled=False` without the 1/√D. `empty_row`
    is what a row that may look at nothing gives: "zeros", "nan" or "any". Further properties run if
    given: `weights` (fn's arguments, returns the weights), `step` (q, k, v of one token and the
    cache, None at first; returns output and cache), `multihead` (q, k, v (B, T, H·Dh), mask, H;
    heads side by side, before any projection).
    """

    scaled: bool = field(default=True, kw_only=True)
    empty_row: str = field(default="zeros", kw_only=True)
    leading: int = field(default=2, kw_only=True)
    weights: Callable | None = field(default=None, kw_only=True)
    step: Callable | None = field(default=None, kw_only=True)
    multihead: Callable | None = field(default=None, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {
        "empty_row": ("zeros", "nan", "any"),
        "leading": (0, 1, 2),
        "scaled": (True, False),
    }

    def lead(self, *arrays: Array) -> tuple[Array, ...]:
        """Put as many axes of size 1 before (T, D) as the contract wants."""
        return tuple(array.reshape((1,) * self.leading + array.shape) for array in arrays)

    def __call__(
        self, q: Array, k: Array, v: Array, mask: Array, name: str = "fn", finite: bool = True
    ) -> Array:
        """Return one head's output, or its weights, as a matrix."""
        last = (len(q), v.shape[1] if name == "fn" else len(k))
        found = self.call(
            name, *self.lead(q, k, v, mask), shape=(1,) * self.leading + last, finite=finite
        )
        return found.reshape(last)


attention = Suite("attention", Attention)
letters: dict[str, Any] = {"Tq": sizes(1, 5), "Tk": sizes(2, 6), "D": sizes(1, 5)}
causal: dict[str, Any] = {"T": sizes(2, 6), "D": sizes(1, 5), "t": sizes(1, 5)}


def inputs(rng: Rng, Tq: int, Tk: int, D: int) -> tuple[Array, Array, Array, Array]:
    """Return q, k, v of one more column than D, and a mask with an open key in every row."""
    return (
        rng.normal(size=(Tq, D)),
        rng.normal(size=(Tk, D)),
        rng.normal(size=(Tk, D + 1)),
        random_mask(rng, Tq, Tk),
    )


@attention.property("A01", why=MEAN, **letters)
def within_range(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """Each output lies within the range of its allowed values."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    out = attend(q, k, v, mask)
    low, high = (np.where(mask[:, :, None], v, end * np.inf) for end in (1, -1))
    beyond = np.maximum(low.min(axis=1) - out, out - high.max(axis=1))
    never(
        beyond > attend.tolerance * 10,
        f"output row {{0}}, column {{1}} leaves the range of its values by {beyond.max():.3g}",
    )


@attention.property("A02", why=MEAN, **letters)
def equal_keys(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """Equal keys give the mean of the allowed values."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    mean = mask @ v / mask.sum(axis=1, keepdims=True)
    attend.agree(
        attend(q, np.repeat(k[:1], Tk, axis=0), v, mask),
        mean,
        "output against the mean of the allowed values",
    )


@attention.property("A03", why=MEAN, **letters)
def one_key(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """One allowed key gives exactly its value."""
    q, k, v, _ = inputs(rng, Tq, Tk, D)
    only = rng.integers(Tk, size=Tq)
    attend.agree(
        attend(q, k, v, only[:, None] == np.arange(Tk)),
        v[only],
        "output against the one allowed value",
    )


@attention.property("A04", why=LEAK, **letters)
def blocked_column(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """A column that is blocked everywhere does not matter."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    j = rng.integers(Tk)
    mask[:, j], mask[:, j - 1] = False, True
    before = attend(q, k, v, mask)
    k[j], v[j] = rng.normal(size=D), rng.normal(size=D + 1)
    attend.agree(
        attend(q, k, v, mask),
        before,
        f"output after key and value {j}, blocked everywhere, changed",
    )


@attention.property("A05", why=ORDER, **letters)
def permuted_keys(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """Permuting keys with their values and mask columns changes nothing."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    order = rng.permutation(Tk)
    attend.agree(
        attend(q, k[order], v[order], mask[:, order]),
        attend(q, k, v, mask),
        "output with keys permuted",
    )


@attention.property("A06", why=ORDER, **letters)
def permuted_queries(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """Permuting queries with their mask rows permutes the outputs."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    order = rng.permutation(Tq)
    attend.agree(
        attend(q[order], k, v, mask[order]),
        attend(q, k, v, mask)[order],
        "output with queries permuted",
    )


@attention.property(
    "A07",
    why="without 1/√D the scores of wide heads saturate the softmax and its gradient dies",
    **letters,
)
def scaled_by_width(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """Zeros that widen queries and keys from D to 4D act as halved queries (not at all if unscaled)."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    wide = attend(np.pad(q, ((0, 0), (0, 3 * D))), np.pad(k, ((0, 0), (0, 3 * D))), v, mask)
    attend.agree(
        wide,
        attend(q / 2 if attend.scaled else q, k, v, mask),
        "output at width 4D against its equal at width D",
    )


@attention.property("A08", why=MEAN, **letters)
def linear_in_values(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """The output is linear in the values."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    w = rng.normal(size=v.shape)
    sum_of_both = 2 * attend(q, k, v, mask) - attend(q, k, w, mask)
    attend.agree(
        attend(q, k, 2 * v - w, mask),
        sum_of_both,
        "output for 2v − w against 2·output(v) − output(w)",
    )


@attention.property(
    "A09",
    why="the softmax is over keys, so what they share cancels; it is why a key's bias never learns",
    **letters,
)
def shifted_keys(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """One vector added to all keys changes nothing."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    attend.agree(
        attend(q, k + rng.normal(size=D), v, mask),
        attend(q, k, v, mask),
        "output with a vector added to all keys",
    )


@attention.property("A10", why=MEAN, **letters)
def doubled_keys(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """Giving every key twice changes nothing."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    twice = attend(q, np.tile(k, (2, 1)), np.tile(v, (2, 1)), np.tile(mask, 2))
    attend.agree(twice, attend(q, k, v, mask), "output with every key given twice")


@attention.property("A11", why=LEAK, **causal)
def no_future(attend: Attention, rng: Rng, T: int, D: int, t: int) -> None:
    """Under a causal mask earlier outputs do not know later tokens."""
    (q, k, v, _), t = inputs(rng, T, T, D), min(t, T - 1)
    mask = np.tril(np.ones((T, T), dtype=bool))
    before = attend(q, k, v, mask)[:t]
    k[t:], v[t:] = rng.normal(size=(T - t, D)), rng.normal(size=(T - t, D + 1))
    attend.agree(
        attend(q, k, v, mask)[:t],
        before,
        f"outputs before token {t} after changing keys and values from there on",
    )


@attention.property("A12", why=LEAK, **causal)
def prefix_of_outputs(attend: Attention, rng: Rng, T: int, D: int, t: int) -> None:
    """Under a causal mask the outputs of a prefix are the prefix of the outputs."""
    (q, k, v, _), t = inputs(rng, T, T, D), min(t, T - 1)
    mask = np.tril(np.ones((T, T), dtype=bool))
    attend.agree(
        attend(q[:t], k[:t], v[:t], mask[:t, :t]),
        attend(q, k, v, mask)[:t],
        f"output of the first {t} tokens alone",
    )


@attention.property(
    "A13",
    why="a function that ignores its inputs passes every test of what must not matter",
    **letters,
)
def allowed_value_matters(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """An allowed value matters."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    i = rng.integers(Tq)
    j = rng.choice(np.flatnonzero(mask[i]))
    before = attend(q, k, v, mask)[i]
    v[j] += 100 * rng.normal(size=D + 1)
    moved = abs(attend(q, k, v, mask)[i] - before).max()
    never(moved <= 1e-12, f"output row {i} moved by {moved:.3g} as its allowed value {j} changed")


@attention.property(
    "A14s",
    why="a caption of padding alone turns the whole loss to NaN, or silently attends to padding",
    tier="strict",
    where={"empty_row": ("zeros", "nan")},
    **letters,
)
def empty_row(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """A row that may look at nothing gives zeros and disturbs no other row."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    i, rest = rng.integers(Tq), np.ones(Tq, dtype=bool)
    mask[i], rest[i] = False, False
    out = attend(q, k, v, mask, finite=attend.empty_row == "zeros")
    if attend.empty_row == "zeros":
        never(out[i] != 0, f"row {i} may look at nothing and gives {out[i, 0]:.3g} in column {{0}}")
    else:
        never(~np.isnan(out[i]), f"row {i} may look at nothing and is a number in column {{0}}")
    never(~np.isfinite(out[rest]), f"an empty row {i} made another row NaN at {{0}}, {{1}}")


@attention.property("A15s", why=LEAK, tier="strict", **letters)
def huge_blocked_key(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """A blocked key does not matter, however large."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    i, j = rng.integers(Tq), rng.integers(Tk)
    mask[i, j], mask[i, j - 1] = False, True
    before = attend(q, k, v, mask)[i]
    k[j] = 1e7 * q[i]
    attend.agree(
        attend(q, k, v, mask)[i], before, f"output row {i} as its blocked key {j} grew to 10⁷"
    )


@attention.property(
    "A16",
    why="a reshape that mixes batch and heads lets captions read each other, and no single example shows it",
    where={"leading": (1, 2)},
    B=sizes(2, 3),
    H=sizes(2, 3),
    **letters,
)
def batch_rows(attend: Attention, rng: Rng, B: int, H: int, Tq: int, Tk: int, D: int) -> None:
    """Row b of a batch is the batch of row b."""
    lead = (B, H)[: attend.leading]
    q, k, v = (rng.normal(size=(*lead, *shape)) for shape in ((Tq, D), (Tk, D), (Tk, D + 1)))
    mask = random_mask(rng, int(np.prod(lead)) * Tq, Tk).reshape(*lead, Tq, Tk)
    whole = attend.call("fn", q, k, v, mask, shape=(*lead, Tq, D + 1))
    for b in np.ndindex(lead):
        attend.agree(
            attend(q[b], k[b], v[b], mask[b]),
            whole[b],
            f"item {b} alone against the same in its batch",
        )


@attention.property(
    "M18",
    why="a (B, T, T) mask is read as one mask a head when B = H, and nothing complains",
    where={"leading": (2,)},
    B=sizes(1, 3),
    **letters,
)
def heads_alike(attend: Attention, rng: Rng, B: int, Tq: int, Tk: int, D: int) -> None:
    """A (B, 1, Tq, Tk) mask acts on every head alike, also when B = H."""
    q, k, v = (rng.normal(size=(B, B, *shape)) for shape in ((Tq, D), (Tk, D), (Tk, D + 1)))
    mask = random_mask(rng, B * Tq, Tk).reshape(B, 1, Tq, Tk)
    for_each_head = attend.call("fn", q, k, v, np.repeat(mask, B, axis=1), shape=(B, B, Tq, D + 1))
    attend.agree(
        attend.call("fn", q, k, v, mask, shape=(B, B, Tq, D + 1)),
        for_each_head,
        "one mask for all heads against one for each",
    )


@attention.property(
    "A17",
    why="(B, T, H·Dh) reshaped without a transpose still trains, but its heads are mixtures of tokens",
    needs="multihead",
    B=sizes(1, 3),
    H=sizes(2, 3),
    **letters,
)
def heads_apart(attend: Attention, rng: Rng, B: int, H: int, Tq: int, Tk: int, D: int) -> None:
    """A head's slice of queries, keys and values moves that head's slice of the output and no other."""
    q, k, v = (rng.normal(size=(B, T, H * D)) for T in (Tq, Tk, Tk))
    mask, h = random_mask(rng, B * Tq, Tk).reshape(B, 1, Tq, Tk), rng.integers(H)
    before = attend.call("multihead", q, k, v, mask, H, shape=q.shape).reshape(B, Tq, H, D)
    for x in (
        q,
        k,
        v,
    ):  # keys too: a symmetric pair of wrong reshapes keeps each query in its place
        x.reshape(B, -1, H, D)[:, :, h] += rng.normal(size=(B, x.shape[1], D))
    after = attend.call("multihead", q, k, v, mask, H, shape=q.shape).reshape(B, Tq, H, D)
    attend.agree(
        np.delete(after, h, axis=2),
        np.delete(before, h, axis=2),
        f"the other heads' outputs as head {h}'s inputs changed",
    )


@attention.property("A18", why="words are generated by the step", needs="step", **causal)
def stepwise(attend: Attention, rng: Rng, T: int, D: int, t: int) -> None:
    """Step by step with a cache equals all at once."""
    q, k, v, _ = inputs(rng, T, T, D)
    whole, cache = attend(q, k, v, np.tril(np.ones((T, T), dtype=bool))), None
    for i in range(T):
        out, cache = attend.result(
            "step", *attend.lead(q[i : i + 1], k[i : i + 1], v[i : i + 1]), cache
        )
        attend.agree(
            attend.numbers("step", out).reshape(-1),
            whole[i],
            f"step {i} against row {i} of all at once",
        )


@attention.property(
    "A19", memory="fn", why="scores masked in place spoil the next use of the input", **letters
)
def inputs_unchanged(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """The inputs are unchanged after the call."""
    given = attend.lead(*inputs(rng, Tq, Tk, D))
    attend.call("fn", *given)
    for name, before, after in zip(("q", "k", "v", "mask"), given, attend.passed, strict=True):
        never(
            (before.astype(after.dtype) != after).ravel(),
            f"{name} was changed in place, at number {{0}}",
        )


@attention.property("A21", why=MEAN, **letters)
def two_keys(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """Two allowed keys share a row by the logistic function of the difference of their scores."""
    q, k, v, _ = inputs(rng, Tq, Tk, D)
    i, j = rng.permutation(Tk)[:2]
    apart = q @ (k[i] - k[j]) / (np.sqrt(D) if attend.scaled else 1)
    share = (1 / (1 + np.exp(-apart)))[:, None]
    mask = np.tile(np.isin(np.arange(Tk), (i, j)), (Tq, 1))
    attend.agree(
        attend(q, k, v, mask),
        share * v[i] + (1 - share) * v[j],
        "output of two allowed keys against its closed form",
    )


@attention.property("A20a", why=MEAN, needs="weights", **letters)
def weights_blocked(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """Returned weights are zero where blocked and nowhere negative."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    found = attend(q, k, v, mask, name="weights")
    never(
        (found < 0) | ~mask & (found != 0),
        "the weight of query {0} and key {1} is negative, or not 0 though blocked",
    )


@attention.property("A20b", why=MEAN, needs="weights", **letters)
def weights_sum(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """Returned weights sum to 1 in every row."""
    attend.agree(
        attend(*inputs(rng, Tq, Tk, D), name="weights").sum(axis=1), 1, "sum of a row of weights"
    )


@attention.property("A20c", why=MEAN, needs="weights", **letters)
def weights_used(attend: Attention, rng: Rng, Tq: int, Tk: int, D: int) -> None:
    """The output is the returned weights times the values."""
    q, k, v, mask = inputs(rng, Tq, Tk, D)
    attend.agree(
        attend(q, k, v, mask, name="weights") @ v,
        attend(q, k, v, mask),
        "weights times values against the output",
    )
