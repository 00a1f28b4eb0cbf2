"""The cheat sheet of losses: formula, what it is worth to a model that says nothing, floor, gradient, and who has one.

The formulas are those of the page on the maths, where the tests hold them to the code; the levels,
and which inputs have a gradient, are found here by running the losses.
"""

import math
from typing import Any

import numpy as np

from tinymm import Tensor, losses

N, QUEUE, WIDTH, WORDS, SMOOTHING = 8, 24, 16, 32, 0.1

INTRODUCTION = f"""# Cheat sheet: losses

{{.sheet}}
In nats. The numbers are those of n = {N} pairs, a queue of K = {QUEUE}, V = {WORDS} words and random features of E = {WIDTH}; each was computed when
this page was made.

| loss | formula | gradient in the logits | says nothing | floor | has a gradient |
|---|---|---|---|---|---|
"""
END = """
A *fresh* model does not stand at ln n: 128 random pairs in 64 dimensions at scale 1/0.07 cost {fresh:.2f}, and ln 128 is {chance:.2f}. Of the
maximum over queries {winners} of the 4 queries of each pair has a gradient. Frozen weights get none and let it through; `no_grad`, `.data` and a twin
let none through. Gradients of small batches do not add up to that of a large one.

See [the maths](/losses.md); for yours, `check.contrastive_loss(fn)`, `check.itc_queue(fn)`, `check.sigmoid_loss(fn)`, `check.itm_loss(fn)` and
`check.lm_loss(fn)`.
"""


def value(loss: Any) -> str:
    """Return a loss with four digits.

    >>> value(0.63651)
    '0.6365'
    """
    return f"{float(getattr(loss, 'data', loss)) + 0.0:.4f}"


def drawn(rng: np.random.Generator, *shape: int, unit: bool = False) -> Tensor:
    """Return random numbers, or unit rows, that ask for a gradient."""
    rows = rng.normal(size=shape)
    return Tensor(
        rows / np.linalg.norm(rows, axis=-1, keepdims=True) if unit else rows, requires_grad=True
    )


def reached(loss: Any, **tensors: Tensor) -> str:
    """Return which of the tensors have a gradient after the backward pass, and which have none."""
    loss.backward()
    has = {
        name: tensor.grad is not None and bool(np.abs(tensor.grad).max() > 0)
        for name, tensor in tensors.items()
    }
    some, none = (
        [name.replace("_", "\\_") for name, found in has.items() if found == wanted]
        for wanted in (True, False)
    )
    return ", ".join(some) + (f"; none: {', '.join(none)}" if none else "")


def places(logits: Tensor) -> int:
    """Return how many places of logits (B, T, V) have a gradient."""
    return int((np.abs(logits.grad).sum(axis=-1) > 0).sum())


def in_batch(rng: np.random.Generator) -> tuple:
    """Return CLIP's row."""
    logits, doubled = drawn(rng, N, N), np.kron(np.eye(N // 2), np.ones((2, 2))) * 1e3
    return (
        "**ITC, CLIP**<br>`itc_loss`",
        r"$\frac{1}{2n}\sum_i(-\ln P^{\mathrm{row}}_{ii}-\ln P^{\mathrm{col}}_{ii})$",
        r"$\frac{P^{\mathrm{row}}+P^{\mathrm{col}}}{2n}-\frac{I}{n}$",
        rf"$\ln n$ = {value(losses.itc_loss(np.zeros((N, N))))}",
        f"{value(losses.itc_loss(np.eye(N) * 1e3))}; each caption twice {value(losses.itc_loss(doubled))}",
        f"{reached(losses.itc_loss(logits), logits=logits)}: both towers and the scale",
    )


def with_queue(rng: np.random.Generator) -> tuple:
    """Return ALBEF's row."""
    rows = {"I": N, "T": N, "I_m": N, "T_m": N, "queue_I": QUEUE, "queue_T": QUEUE}
    sides = {name: drawn(rng, count, WIDTH, unit=True) for name, count in rows.items()}
    alike = [np.ones((count, WIDTH)) / math.sqrt(WIDTH) for count in rows.values()]
    equal_twin = [sides[name].data for name in ("I", "T", "I", "T", "queue_I", "queue_T")]
    return (
        "**ITC with queue, ALBEF**<br>`itc_with_queue`",
        r"$-\sum_j q_{ij}\ln p_{ij}$ with<br>$q=\alpha\,\mathrm{softmax}(S')+(1-\alpha)e_i$",
        r"$\frac{p-q}{2n}$",
        rf"$\ln(n+K)$ = {value(losses.itc_with_queue(*alike, 0.07, 0.4)[0])}",
        f"the targets' entropy, here {value(losses.itc_with_queue(*equal_twin, 0.07, 1.0)[0])}",
        reached(losses.itc_with_queue(*sides.values(), 0.07, 0.4)[0], **sides),
    )


def sigmoid(rng: np.random.Generator) -> tuple:
    """Return SigLIP's row."""
    logits, best = drawn(rng, N, N), losses.sigmoid_loss(np.full((N, N), -math.log(N - 1)))
    return (
        "**SigLIP**<br>`sigmoid_loss`",
        r"$\frac{1}{n}\sum_{ij}\ln(1+e^{-y_{ij}S_{ij}})$",
        r"$-\frac{y}{n}\,\sigma(-yS)$",
        rf"$n\ln 2$ = {value(losses.sigmoid_loss(np.zeros((N, N))))}; at $b=-\ln(n-1)$ {value(best)}",
        value(losses.sigmoid_loss(1e3 * (2 * np.eye(N) - 1))),
        f"{reached(losses.sigmoid_loss(logits), logits=logits)}, each entry by itself",
    )


def matching(rng: np.random.Generator) -> tuple:
    """Return ITM's row."""
    draws = (np.arange(N) + 1) % N
    labels = losses.itm_pairs(draws, draws)[2]
    logits, prior = drawn(rng, len(labels), 2), np.log(np.tile([2 / 3, 1 / 3], (len(labels), 1)))
    return (
        "**ITM**<br>`itm_loss`",
        r"$\frac{1}{3n}\sum -\ln p_y$",
        r"$\frac{p-e_y}{3n}$",
        f"prior 1:2 = {value(losses.itm_loss(prior, labels))}",
        value(losses.itm_loss(1e3 * np.eye(2)[labels], labels)),
        f"{reached(losses.itm_loss(logits, labels), logits=logits)}: text stack and picture, not the draw of negatives",
    )


def hidden(rng: np.random.Generator) -> tuple:
    """Return MLM's row."""
    labels, logits = (
        np.where(np.arange(5) % 2, rng.integers(0, WORDS, (2, 5)), -100),
        drawn(rng, 2, 5, WORDS),
    )
    who = reached(losses.masked_language_loss(logits, labels), logits=logits)
    return (
        "**MLM**<br>`masked_language_loss`",
        r"$\frac{1}{M}\sum_{t\,\mathrm{hidden}}-\ln p_{t,w_t}$",
        r"$\frac{p-e_w}{M}$",
        rf"$\ln V$ = {value(losses.masked_language_loss(np.zeros((2, 5, WORDS)), labels))}",
        "what the words leave open",
        f"{who} at {places(logits)} hidden places of {labels.size}",
    )


def language(rng: np.random.Generator) -> tuple:
    """Return the language loss's row."""
    ids, is_real, logits = (
        rng.integers(0, WORDS, (2, 5)),
        np.ones((2, 5), bool),
        drawn(rng, 2, 5, WORDS),
    )
    right = np.full((2, 5, WORDS), SMOOTHING / WORDS)
    for b, t in np.ndindex(2, 4):
        right[b, t, ids[b, t + 1]] += 1 - SMOOTHING
    who = reached(losses.language_loss(logits, ids, is_real), logits=logits)
    return (
        "**LM, ITG**<br>`language_loss`",
        r"$\frac{1}{T-1}\sum_t -\ln p(w_{t+1}\mid w_{\le t})$",
        r"$\frac{p-e_w}{T-1}$",
        rf"$\ln V$ = {value(losses.language_loss(np.zeros((2, 5, WORDS)), ids, is_real))}",
        f"0; with smoothing {SMOOTHING} {value(losses.language_loss(np.log(right), ids, is_real, smoothing=SMOOTHING))}",
        f"{who} at {places(logits)} of {is_real.size} places: the last has no next",
    )


def sheet() -> str:
    """Return the page."""
    rng = np.random.default_rng(0)
    text = INTRODUCTION
    for row in (in_batch, with_queue, sigmoid, matching, hidden, language):
        text += f"| {' | '.join(row(rng))} |\n"
    fresh = [
        losses.itc_loss(
            drawn(rng, 128, 64, unit=True).data @ drawn(rng, 128, 64, unit=True).data.T / 0.07
        ).item()
        for _ in range(10)
    ]
    queries, caption = drawn(rng, N, 4, WIDTH, unit=True), drawn(rng, 1, WIDTH, unit=True)
    np.sum(losses.max_over_queries(queries, caption)).backward()
    winners = int((np.abs(queries.grad).sum(axis=-1) > 0).sum(axis=1).max())
    return text + END.format(fresh=np.mean(fresh), chance=math.log(128), winners=winners)
