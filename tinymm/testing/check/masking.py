# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of masked language modeling: which words are hidden, behind what, and where the model is asked (Devlin et al. 2019, §3.1; ALBEF §3.2).

Traps: a random id is the word's own once in V times and the mask's own once in V, so that a little
more than a tenth stays as it was, and a little more than eight tenths read [MASK] (K06b); the share
of words in one batch is not p, for each falls by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinymm.arrays.random import generator

from ..contract import Contract, Found, never, no_array
from ..strategies import one_of, paddings, sizes
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
drawn: dict[str, Any] = {"is_real": paddings(), "V": sizes(6, 12), "p": one_of(0.5, 0.15, 1.0)}
asked: dict[str, Any] = {"is_real": drawn["is_real"], "V": drawn["V"]}
twenty_thousand: dict[str, Any] = {"p": one_of(0.5, 0.15), "V": one_of(30, 100)}
LABELS = "the label is the word that stood there: any other, or one where nothing was asked, teaches to say what is not so"
SPECIAL = "padding and marks of a text's ends are no words: the model would spend its guesses on them and be right for nothing"
SHARE = "too few words teach slowly and too many leave nothing to guess by; the fifteen of a hundred hold for each word by itself"
REST = "a tenth stays and a tenth is random, so that the model knows words also where no [MASK] stands, as none will stand later"
REPEAT = "a run that cannot be repeated cannot be understood, and one whose words are always the same learns them by heart"
ASKED = "what nobody asked must cost nothing, and a batch in which no word fell must not end the training with NaN"


@dataclass
class MlmMasking(Contract):
    """`fn(ids (B, T), special (B, T), V, mask_id, p, rng) -> (inputs (B, T), labels (B, T))`: words that are hidden and asked for.

    A word, a place that is not `special`, is selected with probability p. Its label is its id, and
    `ignore_index` is the label of all others; its input is mask_id eight times in ten, some id in
    [0, V) once, and its own id once. A further property runs if given: `loss(logits (B, T, V),
    labels) -> ()`, the mean cross-entropy of the selected.
    """

    ignore_index: int = field(default=-100, kw_only=True)
    loss: Callable | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.kept: tuple = (None, None, None)  # what was drawn, what came, and the call

    def __call__(
        self, ids: Array, special: Array, V: int, mask_id: int, p: float, rng: Rng
    ) -> tuple[Array, Array]:
        """Return inputs and labels, whole numbers in the shape of the ids."""
        found = self.result("fn", ids, special, V, mask_id, p, rng)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise Found(
                f"fn returned {type(found).__name__} where inputs and labels belong",
                no_array("fn", found, "inputs, labels"),
            )
        inputs, labels = (self.numbers("fn", value, ids.shape) for value in found)
        for array in (inputs, labels):
            if array.dtype.kind not in "iu":
                raise Found(
                    f"fn returned {array.dtype} where whole numbers belong",
                    f"your function gave {array.dtype}; ids are whole: dtype=int",
                )
        return inputs, labels

    def words(self, rng: Rng, shape: tuple[int, ...], V: int) -> tuple[Array, int]:
        """Return ids of which none is the mask's or means "not asked", and the mask's id."""
        mask_id = int(rng.integers(V))
        return rng.choice(
            [word for word in range(V) if word not in (mask_id, self.ignore_index)], size=shape
        ), mask_id

    def many(self, rng: Rng, V: int, p: float) -> tuple[Array, Array, int, Array, Array]:
        """Return ids, special, mask_id, inputs and labels of twenty thousand tokens; three properties look at one and the same call.

        The words are of the vocabulary's lower half, so that a random id that is not from the whole
        shows.
        """
        drawn = (rng.bit_generator.state["state"]["state"], V, p)
        if self.kept[0] != drawn:
            ids, mask_id = self.words(rng, (100, 200), V // 2)
            special = rng.random(ids.shape) < 0.1
            found = (ids, special, mask_id, *self(ids, special, V, mask_id, p, rng))
            self.kept = drawn, found, self.last_call
        self.first_call = self.last_call = self.kept[2]
        return self.kept[1]


mlm_masking = Suite("mlm_masking", MlmMasking)


def unlikely(count: float, expected: float, variance: float, what: str) -> None:
    """Raise `Found` if a count is more than six standard deviations from what is expected."""
    far = abs(count - expected) / np.sqrt(variance)
    never(
        far > 6,
        f"{what}: {count:g} came where about {expected:.0f} belong, {far:.0f} standard deviations apart",
    )


@mlm_masking.property("K01a", why=LABELS, **drawn)
def labels_are_ids(mask: MlmMasking, rng: Rng, is_real: Array, V: int, p: float) -> None:
    """A label is the id that came in, or says "not asked"."""
    ids, mask_id = mask.words(rng, is_real.shape, V)
    _, labels = mask(ids, ~is_real, V, mask_id, p, rng)
    never(
        (labels != ids) & (labels != mask.ignore_index),
        f"the label at ({{0}}, {{1}}) is neither the id nor {mask.ignore_index}",
    )


@mlm_masking.property("K01b", why=LABELS, **drawn)
def others_stay(mask: MlmMasking, rng: Rng, is_real: Array, V: int, p: float) -> None:
    """Where nothing is asked the input is the id."""
    ids, mask_id = mask.words(rng, is_real.shape, V)
    inputs, labels = mask(ids, ~is_real, V, mask_id, p, rng)
    never(
        (labels == mask.ignore_index) & (inputs != ids),
        "the input at ({0}, {1}) is not the id that came, and nothing is asked there",
    )


@mlm_masking.property("K02", why=SPECIAL, **drawn)
def specials_rest(mask: MlmMasking, rng: Rng, is_real: Array, V: int, p: float) -> None:
    """Special tokens never change, and nothing is asked about them."""
    ids, mask_id = mask.words(rng, is_real.shape, V)
    inputs, labels = mask(ids, ~is_real, V, mask_id, p, rng)
    never(~is_real & (inputs != ids), "the special token at ({0}, {1}) changed")
    never(~is_real & (labels != mask.ignore_index), "the special token at ({0}, {1}) has a label")


@mlm_masking.property(
    "K03",
    memory="fn",
    why="the ids are the batch's, and other losses read them after this one: masked in place, all read [MASK]",
    **drawn,
)
def given_unchanged(mask: MlmMasking, rng: Rng, is_real: Array, V: int, p: float) -> None:
    """The arrays that were given are unchanged after the call."""
    ids, mask_id = mask.words(rng, is_real.shape, V)
    mask(ids, ~is_real, V, mask_id, p, rng)
    for name, before, after in zip(("ids", "special"), (ids, ~is_real), mask.passed, strict=False):
        never(before != after, f"{name} changed in place at ({{0}}, {{1}})")


@mlm_masking.property("K04a", why=SHARE, **asked)
def none_selected(mask: MlmMasking, rng: Rng, is_real: Array, V: int) -> None:
    """At p = 0 nothing is asked."""
    ids, mask_id = mask.words(rng, is_real.shape, V)
    _, labels = mask(ids, ~is_real, V, mask_id, 0.0, rng)
    never(labels != mask.ignore_index, "at p = 0 the place ({0}, {1}) has a label")


@mlm_masking.property("K04b", why=SHARE, **asked)
def all_selected(mask: MlmMasking, rng: Rng, is_real: Array, V: int) -> None:
    """At p = 1 every word is asked for."""
    ids, mask_id = mask.words(rng, is_real.shape, V)
    _, labels = mask(ids, ~is_real, V, mask_id, 1.0, rng)
    never(is_real & (labels == mask.ignore_index), "at p = 1 the word at ({0}, {1}) has no label")


@mlm_masking.property(
    "K05",
    why="an id outside the vocabulary ends training with an error, on the day it is drawn",
    V=drawn["V"],
)
def in_the_vocabulary(mask: MlmMasking, rng: Rng, V: int) -> None:
    """Inputs are ids of the vocabulary."""
    ids, mask_id = mask.words(rng, (4, 50), V)
    inputs, _ = mask(ids, np.zeros(ids.shape, dtype=bool), V, mask_id, 1.0, rng)
    never((inputs < 0) | (inputs >= V), f"the input at ({{0}}, {{1}}) is outside [0, {V})")


@mlm_masking.property("K06a", why=SHARE, **twenty_thousand)
def how_many(mask: MlmMasking, rng: Rng, p: float, V: int) -> None:
    """Of twenty thousand tokens the words are selected with probability p, within six standard deviations."""
    _, special, _, _, labels = mask.many(rng, V, p)
    words = (~special).sum()
    unlikely(
        (labels != mask.ignore_index).sum(),
        p * words,
        p * (1 - p) * words,
        f"selected of {words} words at p = {p:g}",
    )


@mlm_masking.property("K06b", why=REST, **twenty_thousand)
def behind_what(mask: MlmMasking, rng: Rng, p: float, V: int) -> None:
    """Of the selected eight tenths read [MASK] and a tenth stays, and a random id is either once in V times."""
    ids, _, mask_id, inputs, labels = mask.many(rng, V, p)
    selected = labels != mask.ignore_index
    for share, same, what in (
        (0.8, inputs == mask_id, "read [MASK]"),
        (0.1, inputs == ids, "unchanged"),
    ):
        q, n = share + 0.1 / V, selected.sum()
        unlikely(
            (same & selected).sum(), q * n, max(1, q * (1 - q) * n), f"{what} of {n} selected words"
        )


@mlm_masking.property("K06c", why=REST, **twenty_thousand)
def any_other(mask: MlmMasking, rng: Rng, p: float, V: int) -> None:
    """A random id comes from the whole vocabulary, each as likely."""
    ids, _, mask_id, inputs, labels = mask.many(rng, V, p)
    random = inputs[(labels != mask.ignore_index) & (inputs != mask_id) & (inputs != ids)]
    share = (V // 2 - 2) / (V - 2)  # words and mask are of the lower half
    unlikely(
        (random < V // 2).sum(),
        share * len(random),
        max(1, share * (1 - share) * len(random)),
        f"of the lower half of {V} ids",
    )


@mlm_masking.property("K07a", why=REPEAT, V=drawn["V"])
def repeatable(mask: MlmMasking, rng: Rng, V: int) -> None:
    """From one state of the generator come the same words."""
    (ids, mask_id), seed = mask.words(rng, (4, 50), V), int(rng.integers(10**6))
    special = rng.random(ids.shape) < 0.1
    first, again = (
        np.stack(mask(ids, special, V, mask_id, 0.5, same)) for same in map(generator, (seed, seed))
    )
    never(
        (first != again).any(axis=0),
        "two runs from one state of the generator differ at ({0}, {1})",
    )


@mlm_masking.property("K07b", why=REPEAT, V=drawn["V"])
def never_the_same(mask: MlmMasking, rng: Rng, V: int) -> None:
    """From the next state of the generator come others."""
    ids, mask_id = mask.words(rng, (4, 50), V)
    first, then = (
        mask(ids, np.zeros(ids.shape, dtype=bool), V, mask_id, 0.5, rng)[1] for _ in range(2)
    )
    never(
        (first == then).all(),
        "of 200 words the same were selected in two calls, one after the other",
    )


def question(mask: MlmMasking, rng: Rng, is_real: Array, V: int) -> tuple[Array, Array]:
    """Return logits, and labels at the real tokens."""
    ids = mask.words(rng, is_real.shape, V)[0]
    return rng.normal(size=(*is_real.shape, V)), np.where(is_real, ids, mask.ignore_index)


@mlm_masking.property("K08a", why=ASKED, needs="loss", **asked)
def not_asked(mask: MlmMasking, rng: Rng, is_real: Array, V: int) -> None:
    """Logits where nothing is asked do not matter."""
    logits, labels = question(mask, rng, is_real, V)
    other = np.where(is_real[:, :, None], logits, rng.normal(size=logits.shape))
    before = mask.call("loss", logits, labels, shape=())
    mask.agree(
        mask.call("loss", other, labels, shape=()),
        before,
        "loss with other logits where nothing is asked",
    )


@mlm_masking.property("K08b", why=ASKED, needs="loss", **asked)
def nothing_asked(mask: MlmMasking, rng: Rng, is_real: Array, V: int) -> None:
    """Where nothing at all is asked the loss is 0, or an error says so."""
    logits, labels = question(mask, rng, np.zeros_like(is_real), V)
    try:
        found = mask.call("loss", logits, labels, shape=())
    except Found as refused:
        if refused.__cause__ is None:
            raise
        return
    mask.agree(found, 0, "loss where nothing is asked")


@mlm_masking.property("K08c", why=ASKED, needs="loss", **asked)
def mean_of_selected(mask: MlmMasking, rng: Rng, is_real: Array, V: int) -> None:
    """The loss is the mean cross-entropy of the selected words."""
    logits, labels = question(mask, rng, is_real, V)
    chosen = logits[is_real]
    own = chosen[np.arange(len(chosen)), labels[is_real]]
    expected = (np.log(np.exp(chosen).sum(axis=-1)) - own).mean()
    mask.agree(
        mask.call("loss", logits, labels, shape=()),
        expected,
        f"loss of {len(chosen)} selected of {is_real.size} tokens",
    )
