"""Text generation: greedy decoding, nucleus (top-p) sampling and beam search, with any model that can take one more token.

The model has read its prefix (an image, soft visual prompts, a prompt) into caches and knows the
logits of the first new token; from there on `advance` takes one token a row. Nothing here knows
what the model is.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.autodiff import no_grad
from tinymm.layers import Cache

#: `advance(ids (N, 1), caches) -> logits (N, V)`: remembers the tokens in the caches and says what
#: may follow.
Advance = Callable[[np.ndarray, list[Cache]], np.ndarray]


def generate(
    logits: np.ndarray,
    caches: list[Cache],
    advance: Advance,
    *,
    end: int,
    max_new_tokens: int,
    min_new_tokens: int = 0,
    beams: int = 1,
    length_penalty: float = 1.0,
    top_p: float | None = None,
    temperature: float = 1.0,
    rng: np.random.Generator | None = None,
) -> list[list[int]]:
    """Return the new tokens of each row, without the `end` token: logits (B, V) of the first one, caches of B rows.

    By default each token is the likeliest (greedy). `top_p` draws it from the smallest set of
    tokens that has at least the probability p (Holtzman et al. 2020, §3.1), at a `temperature`, by
    `rng`. `beams` > 1 keeps that many beginnings side by side and returns the one of the largest
    log-probability over length ** `length_penalty`; then N = B · beams rows, those of one text next
    to each other, are advanced. UsageError for settings that contradict each other or lie outside
    their range.

    >>> bigram = np.log(np.array([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]))
    >>> generate(bigram[:1], [], lambda ids, caches: bigram[ids[:, 0]], end=0, max_new_tokens=5)
    [[1, 2]]
    """
    if max_new_tokens < 1 or not 0 <= min_new_tokens <= max_new_tokens or beams < 1:
        raise UsageError(
            f"generate writes 1 to max_new_tokens tokens, with at least 1 beam, and max_new_tokens {max_new_tokens}, min_new_tokens "
            f"{min_new_tokens}, beams {beams} came; correct them"
        )
    if top_p is not None and (not 0 < top_p <= 1 or rng is None or beams > 1):
        raise UsageError(
            f"top_p {top_p} draws tokens: it lies in (0, 1], needs rng= and one beam, and rng {rng} with {beams} beams came"
        )
    if not temperature > 0:
        raise UsageError(
            f"a temperature is above 0 and {temperature} came; near 0 is greedy, 1 the model's own"
        )
    with no_grad():
        if beams > 1:
            return _beam_search(
                logits, caches, advance, end, max_new_tokens, min_new_tokens, beams, length_penalty
            )

        def choose(logits: np.ndarray) -> np.ndarray:
            if top_p is None:
                return logits.argmax(axis=-1)
            return sample_top_p(logits / temperature, top_p, rng)  # type: ignore[arg-type]

        return _one_by_one(logits, caches, advance, end, max_new_tokens, min_new_tokens, choose)


def _one_by_one(
    logits: Any,
    caches: list[Cache],
    advance: Advance,
    end: int,
    most: int,
    least: int,
    choose: Callable,
) -> list[list[int]]:
    """Choose token after token; the output of a row that has ended is ignored until all have."""
    texts: list[list[int]] = [[] for _ in logits]
    writing = np.ones(len(logits), bool)
    for n in range(most):
        tokens = choose(_without(logits, end) if n < least else logits)
        writing &= tokens != end
        for row in np.flatnonzero(writing):
            texts[row].append(int(tokens[row]))
        if not writing.any() or n + 1 == most:
            break
        logits = advance(tokens[:, None], caches)
    return texts


def sample_top_p(logits: np.ndarray, top_p: float, rng: np.random.Generator) -> np.ndarray:
    """Draw one token a row from the likeliest ones that together reach the probability `top_p`: logits (B, V) -> (B,).

    >>> sample_top_p(np.log(np.array([[0.5, 0.4, 0.1]])), 0.5, np.random.default_rng(0))
    array([0])
    """
    p = np.exp(log_softmax(logits))
    order = np.argsort(-p, axis=-1, kind="stable")
    falling = np.take_along_axis(p, order, axis=-1)
    before = np.cumsum(falling, axis=-1) - falling
    falling = np.where(before < top_p, falling, 0)
    reach = np.cumsum(falling, axis=-1)
    place = np.sum(reach <= rng.random((len(p), 1)) * reach[:, -1:], axis=-1)
    return np.take_along_axis(order, place[:, None], axis=-1)[:, 0]


def _beam_search(
    logits: Any,
    caches: list[Cache],
    advance: Advance,
    end: int,
    most: int,
    least: int,
    beams: int,
    penalty: float,
) -> list[list[int]]:
    """Keep the `beams` likeliest beginnings of each text; stop when none can still beat the worst of as many finished ones."""
    B, V = logits.shape
    caches = [cache.reorder(np.repeat(np.arange(B), beams)) for cache in caches]
    logits = np.repeat(logits, beams, axis=0)
    scores = np.where(np.arange(beams) == 0, 0.0, -np.inf) * np.ones(
        (B, 1)
    )  # at first all beams are one and the same
    running: list[list[list[int]]] = [[[] for _ in range(beams)] for _ in range(B)]
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in range(B)]
    done = np.zeros(B, bool)
    for n in range(1, most + 1):
        log_p = log_softmax(logits)
        if (
            n <= least
        ):  # what the end would have been worth is lost, not shared out: beams stay comparable
            log_p = _without(log_p, end)
        totals = (scores[:, :, None] + log_p.reshape(B, beams, V)).reshape(B, beams * V)
        parents, tokens = np.zeros((B, beams), int), np.full((B, beams), end)
        for row in np.flatnonzero(~done):
            # Twice as many candidates as beams, since up to half of them may end here.
            best = np.argsort(-totals[row], kind="stable")[: 2 * beams]
            kept: list[int] = []
            for rank, candidate in enumerate(best.tolist()):
                parent, token = divmod(candidate, V)
                if token == end or n == most:
                    if rank < beams and totals[row, candidate] > -np.inf:
                        text = running[row][parent] + ([token] if token != end else [])
                        finished[row].append((totals[row, candidate] / n**penalty, text))
                elif len(kept) < beams:
                    kept.append(candidate)
            finished[row] = sorted(finished[row], key=lambda pair: -pair[0])[:beams]
            if n == most or not kept:
                done[row] = True
                continue
            kept += kept[-1:] * (beams - len(kept))
            parents[row], tokens[row] = np.divmod(kept, V)
            scores[row] = totals[row, kept]
            running[row] = [
                running[row][parent] + [int(token)]
                for parent, token in zip(parents[row], tokens[row], strict=True)
            ]
            done[row] = (
                len(finished[row]) == beams and finished[row][-1][0] >= scores[row, 0] / n**penalty
            )
        if done.all():
            break
        places = (np.arange(B)[:, None] * beams + parents).reshape(-1)
        caches = [cache.reorder(places) for cache in caches]
        logits = advance(tokens.reshape(-1, 1), caches)
    return [pairs[0][1] for pairs in finished]


def _without(logits: np.ndarray, end: int) -> np.ndarray:
    """Return the logits with the end forbidden, for a text that is still too short."""
    logits = logits.copy()
    logits[:, end] = -np.inf
    return logits


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the log-probabilities of each row: logits (..., V) -> (..., V)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
