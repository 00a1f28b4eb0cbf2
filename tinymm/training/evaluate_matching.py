"""How good is a model that contrasts, matches, and writes or fills gaps? ALBEF, BLIP and BLIP-2 by the same questions, each answer beside chance.

Retrieval by ITC and re-ranked by ITM (ALBEF §5; BLIP §5.1; BLIP-2 §4.4), matching on the hardest negatives, words hidden or to come, captions, and
what it makes of swapped ones.
"""

import math
from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module, to_backend, to_host
from tinymm.autodiff import no_grad
from tinymm.data.batches import PairSet, Swaps
from tinymm.losses import ITM_PRIOR, itm_pairs, language_loss
from tinymm.models.albef import ALBEF
from tinymm.models.blip import BLIP, BLIPConfig  # noqa: F401 (the example)
from tinymm.models.blip2 import BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2
from tinymm.models.towers import MomentumContrast

from .evaluate import chosen_class, recalls, swap_accuracy

#: How many of the best by ITC the matching head looks at again (LAVIS: 128 of 5,000).
RERANKED = 16
_BATCH = 128
#: What looks at pictures and compares them with texts.
Matcher = BLIP2Stage1 | MomentumContrast


def on_device(model: Any, x: Any) -> Any:
    """Return the numbers where the model's weights live, on the host or on a GPU.

    >>> type(on_device(BLIP(BLIPConfig.tiny(), np.random.default_rng(0)), np.ones(2))).__name__
    'ndarray'
    """
    return to_backend(x, array_module(*(parameter.data for parameter in model.parameters()[:1])).__name__)


def image_tokens(model: Any, images: np.ndarray) -> np.ndarray:
    """Return the picture encoder's tokens of pictures (N, h, w, c), a batch at a time, on the host: (N, P+1, M)."""
    return np.concatenate(
        [
            to_host(model.image_tokens(on_device(model, images[i : i + _BATCH])))
            for i in range(0, max(1, len(images)), _BATCH)
        ]
    )


def itc_scores(model: Matcher, tokens: np.ndarray, ids: np.ndarray, is_real: np.ndarray) -> np.ndarray:
    """Return the cosine of each query of each picture with each text, without the temperature: (N, Q, M); towers have one "query"."""
    tokens = on_device(model, tokens)
    with no_grad():
        rows = model.project_queries(tokens) if isinstance(model, BLIP2Stage1) else model.towers.project_image(tokens)[:, None]
        queries = to_host(rows.data)
        texts = to_host(model.encode_text(ids, is_real).data)
    return np.einsum("nqe,me->nqm", queries, texts)


def itm_logits(model: Matcher, tokens: np.ndarray, ids: np.ndarray, is_real: np.ndarray) -> np.ndarray:
    """Return the logits of "does not match" and "matches" for aligned pictures and texts, averaged over queries: (n, 2)."""
    parts = []
    with no_grad():
        for i in range(0, max(1, len(ids)), _BATCH):
            part = slice(i, i + _BATCH)
            logits = to_host(model.match(on_device(model, tokens[part]), ids[part], is_real[part]).data)
            parts.append(logits.mean(axis=1) if logits.ndim == 3 else logits)
    return np.concatenate(parts)


def matching(
    model: Matcher, pairs: PairSet, tokenizer: Any, *, references: list[tuple[str, ...]] | None = None, thorough: bool = True
) -> dict[str, Any]:
    """Return ITC's and re-ranked recall, ITM's loss and accuracy on the hardest negatives, what the model's words are worth, and chance levels.

    Words are "itg_…" of BLIP-2's first stage, "lm_…" of BLIP (perplexity, captions) and "mlm_accuracy" of ALBEF. Each picture's first caption
    counts for them and for ITM. Re-ranking and words, which take longest, are left out unless `thorough`; captions are compared with
    `references`, by default all of the picture's own. Chance levels stand under "chance" by the same names.
    """
    model.eval()
    ids, is_real = tokenizer(list(pairs.captions))
    tokens = image_tokens(model, pairs.images)
    scores = itc_scores(model, tokens, ids, is_real).max(axis=1)
    found = {f"itc_{name}": value for name, value in recalls(scores, pairs).items()}
    chance = {"itc_r1": found.pop("itc_chance_r1")}
    if thorough:
        reranked = recalls(rerank(model, scores, tokens, ids, is_real), pairs, (1, 5))
        found |= {f"itm_reranked_{name}": value for name, value in reranked.items() if name != "chance_r1"}
        chance["itm_reranked_r1"] = chance["itc_r1"]
    owner = np.asarray(pairs.image_of_caption)
    first = np.array([int(np.flatnonzero(owner == image)[0]) for image in range(len(pairs))])
    ids, is_real = ids[first], is_real[first]
    found |= _on_the_hardest(model, scores[:, first], tokens, ids, is_real)
    chance |= {"itm_loss": ITM_PRIOR, "itm_accuracy": 2 / 3}
    if not thorough:
        return found | {"chance": chance}
    if isinstance(model, ALBEF):
        found["mlm_accuracy"] = mlm_accuracy(model, tokens, ids, is_real)
        chance["mlm_accuracy"] = mlm_accuracy(model, np.roll(tokens, len(tokens) // 2, axis=0), ids, is_real)  # beside another's picture
        return found | {"chance": chance}
    name = "lm" if isinstance(model, BLIP) else "itg"
    found[f"{name}_perplexity"], chance[f"{name}_perplexity"] = perplexity(model, tokens, ids, is_real)  # type: ignore[arg-type]
    found |= {f"{name}_captions_{key}": value for key, value in captions(model, pairs, tokenizer, references).items()}  # type: ignore[arg-type]
    chance |= {f"{name}_captions_exact": 0.0, f"{name}_captions_words_right": 0.0}
    return found | {"chance": chance}


def _on_the_hardest(model: Matcher, scores: np.ndarray, tokens: np.ndarray, ids: np.ndarray, is_real: np.ndarray) -> dict[str, float]:
    """Return ITM's loss and accuracy where each text stands with its own and its hardest picture, and each picture with its hardest text."""
    square = np.where(np.eye(len(scores), dtype=bool), -np.inf, scores)
    images, texts, labels = itm_pairs(square.argmax(axis=0), square.argmax(axis=1))
    logits = itm_logits(model, tokens[images], ids[texts], is_real[texts])
    log_p = logits - np.logaddexp(logits[:, :1], logits[:, 1:])
    loss = float(-np.take_along_axis(log_p, labels[:, None], axis=1).mean())
    return {"itm_loss": loss, "itm_accuracy": float((chosen_class(logits) == labels).mean())}


def mlm_accuracy(model: ALBEF, tokens: np.ndarray, ids: np.ndarray, is_real: np.ndarray) -> float:
    """Return how often ALBEF names a hidden word: each word of each text (B, T) is hidden alone, the first token and the last excepted.

    What `matching` calls its chance is the same model's answer beside another scene's picture: what the words around the gap tell already.
    """
    lengths = is_real.sum(axis=1)
    rows, places = np.nonzero((np.arange(ids.shape[1]) > 0) & (np.arange(ids.shape[1]) < lengths[:, None] - 1))
    right = []
    with no_grad():
        for i in range(0, len(rows), _BATCH):
            row, place = rows[i : i + _BATCH], places[i : i + _BATCH]
            hidden, each = ids[row].copy(), np.arange(len(row))
            hidden[each, place] = model.config.mask
            logits = to_host(model.towers.words(on_device(model, tokens[row]), hidden, is_real[row]).data)
            right.append(chosen_class(logits[each, place]) == ids[row, place])
    return float(np.concatenate(right).mean())


def perplexity(model: BLIP | BLIP2Stage1, tokens: np.ndarray, ids: np.ndarray, is_real: np.ndarray) -> tuple[float, float]:
    """Return among how many equally likely words each next one seems to be drawn, all texts' words alike, and that of one who knows nothing, V.

    tokens (N, P, M) are the picture encoder's, ids and is_real (N, T) the texts.
    """
    surprise, V = 0.0, 0
    with no_grad():
        for i in range(0, len(ids), _BATCH):
            part = slice(i, i + _BATCH)
            words = model.words(on_device(model, tokens[part]), ids[part], is_real[part])
            surprise += float(to_host(language_loss(words, ids[part], is_real[part]).data)) * int(is_real[part, 1:].sum())
            V = words.shape[-1]
    return math.exp(surprise / int(is_real[:, 1:].sum())), float(V)


def rerank(
    model: Matcher, scores: np.ndarray, tokens: np.ndarray, ids: np.ndarray, is_real: np.ndarray, k: int = RERANKED, *, cosine: bool = True
) -> np.ndarray:
    """Return ITC's cosines (N, M) with ITM's logit of "matches" added to the k best of each row and column, which thus stand before all others.

    So do BLIP and LAVIS; ALBEF goes by the logit alone, `cosine=False`.
    """
    near = np.zeros(scores.shape, bool)
    np.put_along_axis(near, np.argsort(-scores, axis=1)[:, :k], True, axis=1)
    np.put_along_axis(near, np.argsort(-scores, axis=0)[:k], True, axis=0)
    images, texts = np.nonzero(near)
    logit = itm_logits(model, tokens[images], ids[texts], is_real[texts])[:, 1]
    out = scores - 1e4
    out[images, texts] = (scores[images, texts] if cosine else 0) + logit
    return out


def captions(
    model: BLIP | BLIP2Stage1 | BLIP2Stage2, pairs: PairSet, tokenizer: Any, references: list[tuple[str, ...]] | None = None
) -> dict[str, float]:
    """Return the share of greedy captions that are exactly one of their picture's, and of words right in the best of these."""
    owner = np.asarray(pairs.image_of_caption)
    own = references or [tuple(pairs.captions[j] for j in np.flatnonzero(owner == i)) for i in range(len(pairs))]
    written = write_captions(model, pairs.images, tokenizer)
    exact = [text in right for text, right in zip(written, own, strict=True)]
    return {"exact": float(np.mean(exact)), "words_right": float(np.mean([words_right(t, r) for t, r in zip(written, own, strict=True)]))}


def write_captions(model: BLIP | BLIP2Stage1 | BLIP2Stage2, images: np.ndarray, tokenizer: Any, **options: Any) -> list[str]:
    """Return a caption for each of the pictures (N, h, w, c); `options` are those of `decoding.generate`."""
    written: list[list[int]] = []
    for i in range(0, len(images), _BATCH):
        written += model.caption(on_device(model, images[i : i + _BATCH]), **options)
    return [tokenizer.decode(np.array([row], int))[0] if row else "" for row in written]


def words_right(text: str, references: tuple[str, ...]) -> float:
    """Return the share of words that stand where the nearest reference has them.

    >>> words_right("a red star", ("a blue star", "a green circle"))
    0.6666666666666666
    """
    words = text.split()

    def share(reference: str) -> float:
        right = reference.split()
        return sum(a == b for a, b in zip(words, right, strict=False)) / max(len(words), len(right), 1)

    return max(share(reference) for reference in references)


def swaps(model: Matcher, swapped: dict[str, Swaps], tokenizer: Any) -> dict[str, float]:
    """Return, for each kind of mistake, how often ITC and ITM prefer the right caption: {"swap_attribute_itc": …}; chance is one half."""
    found = {}
    model.eval()
    for kind, some in swapped.items():
        tokens = image_tokens(model, some.images)
        sides = []
        for texts in (some.right, some.wrong):
            ids, is_real = tokenizer(list(texts))
            logits = itm_logits(model, tokens, ids, is_real)
            cosines = itc_scores(model, tokens, ids, is_real).max(axis=1)
            sides.append((np.diagonal(cosines), logits[:, 1] - logits[:, 0]))
        for name, right, wrong in zip(("itc", "itm"), *sides, strict=True):
            found[f"swap_{kind.replace(' ', '_')}_{name}"] = swap_accuracy(right, wrong)
    return found
