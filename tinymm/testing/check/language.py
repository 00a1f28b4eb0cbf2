# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of the language modeling loss, the cross-entropy of each next token: BLIP's LM, BLIP-2's ITG, any language model.

Traps: a smoothed loss never reaches 0, its least value is the entropy of the smoothed target (T10);
equal logits give ln V at any smoothing, and most mistakes with the shift or the padding pass that
test (T01).
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..contract import Contract, never
from ..strategies import one_of, paddings, sizes
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
LEVEL = "without the right level, losses of two vocabularies or two batches cannot be compared"
SHIFT = "a model asked for the token that it sees learns to copy; asked for the one after the next, it cannot learn to write"
PADDING = "padding carries no words: scored, it is easy to guess, the loss looks low and captions never end"
SMOOTHING = "smoothing moves e of each target to all V tokens alike; otherwise the same e means another thing"


@dataclass
class LmLoss(Contract):
    """`fn(logits (B, T, V), ids (B, T), is_real (B, T), smoothing) -> ()`: the mean cross-entropy of each real next token, the shift inside.

    With `shift="outside"` the caller shifts: logits of the first T − 1 tokens, ids and is_real of
    the last. `mean` is over all "tokens", or over "sequences" of which each has its own.
    `ignore_index` is the number in ids where is_real is False, if there is one (−100).
    `smoothing=False` for `fn(logits, ids, is_real)`. A target is worth 1 − e, and all V tokens
    share e.
    """

    shift: str = field(default="inside", kw_only=True)
    mean: str = field(default="tokens", kw_only=True)
    ignore_index: int | None = field(default=None, kw_only=True)
    smoothing: bool = field(default=True, kw_only=True)
    choices: ClassVar[dict[str, tuple]] = {
        "shift": ("inside", "outside"),
        "mean": ("tokens", "sequences"),
        "smoothing": (True, False),
    }

    def __call__(self, logits: Array, ids: Array, is_real: Array, e: float = 0.0) -> float:
        """Return the loss at a smoothing, none if the function has none."""
        if self.ignore_index is not None:
            ids = np.where(is_real, ids, self.ignore_index)
        if self.shift == "outside":
            logits, ids, is_real = logits[:, :-1], ids[:, 1:], is_real[:, 1:]
        return float(
            self.call("fn", logits, ids, is_real, *([e] if self.smoothing else []), shape=())
        )


lm = Suite("lm_loss", LmLoss)


def with_first_token(is_real: Array) -> Array:
    """Put a real token in front of each caption, so that each has a target."""
    return np.concatenate([np.ones((len(is_real), 1), bool), is_real], axis=1)


drawn: dict[str, Any] = {
    "is_real": paddings(batch=3, tokens=4, side="right").map(with_first_token),
    "V": sizes(2, 5),
}
smoothed: dict[str, Any] = {**drawn, "e": one_of(0.0, 0.1, 0.5, 1.0)}


def case(rng: Rng, is_real: Array, V: int) -> tuple[Array, Array]:
    """Return logits and ids for drawn captions."""
    return 2 * rng.normal(size=(*is_real.shape, V)), rng.integers(V, size=is_real.shape)


def next_tokens(ids: Array, V: int) -> Array:
    """Return (B, T, V): 1 at each place's next token, 0 elsewhere and at the last place."""
    return np.concatenate([np.eye(V)[ids[:, 1:]], np.zeros((len(ids), 1, V))], axis=1)


def token_losses(logits: Array, ids: Array) -> Array:
    """Return (B, T − 1): minus the logarithm of each next token's probability."""
    top = logits.max(axis=-1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
    return -(log_p * next_tokens(ids, logits.shape[-1])).sum(axis=-1)[:, :-1]


@lm.property("T01", why=LEVEL, **smoothed)
def equal_logits(loss: LmLoss, rng: Rng, is_real: Array, V: int, e: float) -> None:
    """Equal logits cost ln V at any smoothing."""
    logits, ids = case(rng, is_real, V)
    loss.agree(loss(0 * logits, ids, is_real, e), np.log(V), f"loss of equal logits against ln {V}")


@lm.property("T02", why=SHIFT, where={"shift": ("inside",)}, **drawn)
def ends(loss: LmLoss, rng: Rng, is_real: Array, V: int) -> None:
    """The first token is no target, and nothing follows the last."""
    logits, ids = case(rng, is_real, V)
    other_logits, other_ids = logits.copy(), ids.copy()
    other_logits[:, -1], other_ids[:, 0] = rng.normal(size=(len(ids), V)), (ids[:, 0] + 1) % V
    loss.agree(
        loss(other_logits, ids, is_real),
        loss(logits, ids, is_real),
        "loss after the last token's logits changed",
    )
    loss.agree(
        loss(logits, other_ids, is_real),
        loss(logits, ids, is_real),
        "loss after the first ids changed",
    )


@lm.property("T03", why=SHIFT, **drawn)
def knows_the_next(loss: LmLoss, rng: Rng, is_real: Array, V: int) -> None:
    """Logits that know the next token cost nothing."""
    _, ids = case(rng, is_real, V)
    loss.agree(
        loss(1000 * next_tokens(ids, V), ids, is_real),
        0,
        "loss of a model that knows the next token",
    )


@lm.property("T04", why=PADDING, more=sizes(1, 3), **smoothed)
def more_padding(loss: LmLoss, rng: Rng, is_real: Array, V: int, e: float, more: int) -> None:
    """More padding changes nothing."""
    longer = np.pad(is_real, ((0, 0), (0, more)))
    logits, ids = case(rng, longer, V)
    T = is_real.shape[1]
    loss.agree(
        loss(logits, ids, longer, e),
        loss(logits[:, :T], ids[:, :T], is_real, e),
        f"loss with {more} more places of padding",
    )


@lm.property("T05a", why=PADDING, where={"ignore_index": (None,)}, **smoothed)
def ids_of_padding(loss: LmLoss, rng: Rng, is_real: Array, V: int, e: float) -> None:
    """The ids under padding do not matter."""
    logits, ids = case(rng, is_real, V)
    other = np.where(is_real, ids, (ids + 1) % V)
    loss.agree(
        loss(logits, other, is_real, e),
        loss(logits, ids, is_real, e),
        "loss with other ids under padding",
    )


@lm.property("T05b", why=PADDING, **smoothed)
def logits_before_padding(loss: LmLoss, rng: Rng, is_real: Array, V: int, e: float) -> None:
    """Logits that no real token follows do not matter."""
    logits, ids = case(rng, is_real, V)
    followed = np.pad(is_real[:, 1:], ((0, 0), (0, 1)))[:, :, None]
    other = np.where(followed, logits, rng.normal(size=logits.shape))
    loss.agree(
        loss(other, ids, is_real, e),
        loss(logits, ids, is_real, e),
        "loss with other logits where padding follows",
    )


@lm.property(
    "T06",
    why="weighted otherwise, a word of a short caption counts more than one of a long caption, or less",
    **smoothed,
)
def rows(loss: LmLoss, rng: Rng, is_real: Array, V: int, e: float) -> None:
    """The loss of a batch is the mean of its captions' losses, weighted by their targets, or equally with mean="sequences"."""
    logits, ids = case(rng, is_real, V)
    whole = loss(logits, ids, is_real, e)
    each = [loss(logits[[b]], ids[[b]], is_real[[b]], e) for b in range(len(ids))]
    weights = is_real[:, 1:].sum(axis=1) if loss.mean == "tokens" else None
    loss.agree(
        whole,
        np.average(each, weights=weights),
        f"loss of {len(ids)} captions against the mean of their losses",
    )


@lm.property("T07", why=SMOOTHING, where={"smoothing": (True,)}, **smoothed)
def affine(loss: LmLoss, rng: Rng, is_real: Array, V: int, e: float) -> None:
    """The loss at e is (1 − e) of that without smoothing and e of that at 1."""
    logits, ids = case(rng, is_real, V)
    sharp, flat = loss(logits, ids, is_real, 0.0), loss(logits, ids, is_real, 1.0)
    loss.agree(
        loss(logits, ids, is_real, e), (1 - e) * sharp + e * flat, f"loss at smoothing {e:g}"
    )


@lm.property("T08", why=SMOOTHING, where={"smoothing": (True,)}, **drawn)
def all_alike(loss: LmLoss, rng: Rng, is_real: Array, V: int) -> None:
    """At smoothing 1 the targets do not matter."""
    logits, ids = case(rng, is_real, V)
    other = rng.integers(V, size=ids.shape)
    loss.agree(
        loss(logits, other, is_real, 1.0),
        loss(logits, ids, is_real, 1.0),
        "loss at smoothing 1 with other targets",
    )


@lm.property(
    "T09",
    why="only differences of logits are probabilities; a term of raw logits rewards making them all large",
    **smoothed,
)
def constants(loss: LmLoss, rng: Rng, is_real: Array, V: int, e: float) -> None:
    """A constant added to a place's logits changes nothing."""
    logits, ids = case(rng, is_real, V)
    moved = logits + 5 * rng.normal(size=(*is_real.shape, 1))
    loss.agree(
        loss(moved, ids, is_real, e),
        loss(logits, ids, is_real, e),
        "loss after a constant was added at each place",
    )


@lm.property("T10", why=SMOOTHING, **smoothed)
def least(loss: LmLoss, rng: Rng, is_real: Array, V: int, e: float) -> None:
    """No logits cost less than the entropy of the smoothed target."""
    _, ids = case(rng, is_real, V)
    e = e if loss.smoothing else 0.0
    target = np.where(np.arange(V) == 0, 1 - e + e / V, e / V)
    entropy = -(target * np.log(np.where(target > 0, target, 1))).sum()
    found = loss(rng.uniform(0, 8) * next_tokens(ids, V), ids, is_real, e)
    never(
        found < entropy - 10 * loss.tolerance,
        f"the loss {found:.6g} is below the entropy {entropy:.6g} of a target at smoothing {e:g}",
    )


@lm.property("T11", why=LEVEL, **drawn)
def cross_entropy(loss: LmLoss, rng: Rng, is_real: Array, V: int) -> None:
    """Without smoothing it is the mean cross-entropy of the real next tokens."""
    logits, ids = case(rng, is_real, V)
    scored = is_real[:, 1:]
    each = token_losses(logits, ids) * scored
    expected = (
        each.sum() / scored.sum()
        if loss.mean == "tokens"
        else (each.sum(axis=1) / scored.sum(axis=1)).mean()
    )
    loss.agree(loss(logits, ids, is_real), expected, "loss against cross-entropy")


@lm.property(
    "T12",
    why="a prompt is given, not written: scored, the model learns to ask the question",
    prompt=sizes(1, 3),
    **smoothed,
)
def prompted(loss: LmLoss, rng: Rng, is_real: Array, V: int, e: float, prompt: int) -> None:
    """A prompt in front, not real, does not matter."""
    after = np.pad(is_real, ((0, 0), (prompt, 0)))
    logits, ids = case(rng, after, V)
    other_logits, other_ids = logits.copy(), ids.copy()
    other_logits[:, : prompt - 1] = rng.normal(
        size=(len(ids), prompt - 1, V)
    )  # its last logits are about the first token to write
    other_ids[:, :prompt] = rng.integers(V, size=(len(ids), prompt))
    loss.agree(
        loss(other_logits, other_ids, after, e),
        loss(logits, ids, after, e),
        f"loss after {prompt} places of the prompt changed",
    )
    begins = after | (
        np.arange(after.shape[1]) == prompt - 1
    )  # a first token is no target, be it given or written
    unprompted = loss(logits[:, prompt - 1 :], ids[:, prompt - 1 :], begins[:, prompt - 1 :], e)
    loss.agree(
        loss(logits, ids, after, e),
        unprompted,
        "loss with a prompt against that of what follows its last token",
    )
