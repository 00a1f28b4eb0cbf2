"""Evaluation of ALBEF, BLIP and BLIP-2: retrieval, re-ranking by ITM, matching, masked tokens, captions, each with its chance level.

Retrieval by ITC and re-ranked by ITM (ALBEF §5; BLIP §5.1; BLIP-2 §4.4), matching on the hardest
negatives, masked or next tokens, captions, and hard-negative captions.
"""

import math
from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module, to_backend, to_host
from tinymm.autodiff import no_grad
from tinymm.data.batches import PairSet, Swaps
from tinymm.data.words import among, split_words
from tinymm.losses import ITM_PRIOR, itm_pairs, language_loss
from tinymm.tasks import CONTRAST, FILL, GENERATE, MATCH, spec_of, spec_or_none

from .evaluate import chosen_class, recalls, swap_accuracy

#: How many of the best by ITC are re-ranked by the matching head (LAVIS: 128 of 5,000).
RERANKED = 16
_BATCH = 128


def on_device(model: Any, x: Any) -> Any:
    """Return the numbers on the model's device, the host or a GPU.

    >>> from tinymm.models.blip import BLIP, BLIPConfig
    >>> type(on_device(BLIP(BLIPConfig.tiny(), np.random.default_rng(0)), np.ones(2))).__name__
    'ndarray'
    """
    return to_backend(
        x, array_module(*(parameter.data for parameter in model.parameters()[:1])).__name__
    )


def image_tokens(model: Any, images: np.ndarray) -> np.ndarray:
    """Return the image encoder's tokens of images (N, h, w, c), a batch at a time, on the host: (N, P+1, M)."""
    with no_grad():
        return np.concatenate(
            [
                to_host(model.image_tokens(on_device(model, images[i : i + _BATCH])).data)
                for i in range(0, max(1, len(images)), _BATCH)
            ]
        )


def itc_scores(model: Any, tokens: np.ndarray, ids: np.ndarray, is_real: np.ndarray) -> np.ndarray:
    """Return the cosine of each query of each image with each text, without the temperature: (N, Q, M); most models have one "query"."""
    with no_grad():
        features = to_host(model.project_image(on_device(model, tokens)).data)
        queries = features[:, None] if features.ndim == 2 else features
        texts = to_host(model.encode_text(ids, is_real).data)
    return np.einsum("nqe,me->nqm", queries, texts)


def itm_logits(model: Any, tokens: np.ndarray, ids: np.ndarray, is_real: np.ndarray) -> np.ndarray:
    """Return the logits of "does not match" and "matches" for aligned images and texts, averaged over queries: (n, 2)."""
    parts = []
    with no_grad():
        for i in range(0, max(1, len(ids)), _BATCH):
            part = slice(i, i + _BATCH)
            logits = model.itm_logits(on_device(model, tokens[part]), ids[part], is_real[part])
            parts.append(to_host(logits.data))
    return np.concatenate(parts)


def matching(
    model: Any,
    pairs: PairSet,
    tokenizer: Any,
    *,
    references: list[tuple[str, ...]] | None = None,
    thorough: bool = True,
) -> dict[str, Any]:
    """Return ITC's and re-ranked recall, ITM's loss and accuracy on the hardest negatives, what the model's words are worth, and chance levels.

    Words are "itg_…" of BLIP-2's first stage, "lm_…" of BLIP (perplexity, captions) and
    "mlm_accuracy" of ALBEF. Each image's first caption counts for them and for ITM. Re-ranking and
    words, which take longest, are left out unless `thorough`, and whatever needs weights that the
    model's file did not have always is; captions are compared with `references`, by default all of
    the image's own. Chance levels stand under "chance" by the same names.
    """
    model.eval()
    ids, is_real = tokenizer(list(pairs.captions))
    tokens = image_tokens(model, pairs.images)
    owner = np.asarray(pairs.image_of_caption)
    first = np.array([int(np.flatnonzero(owner == image)[0]) for image in range(len(pairs))])
    found: dict[str, Any] = {}
    chance: dict[str, Any] = {}
    able = spec_of(model).able(model)
    if CONTRAST in able:
        scores = itc_scores(model, tokens, ids, is_real).max(axis=1)
        found = {f"itc_{name}": value for name, value in recalls(scores, pairs).items()}
        chance = {"itc_r1": found.pop("itc_chance_r1")}
    if {CONTRAST, MATCH} <= able:
        matched, levels = _matched(model, pairs, scores, tokens, ids, is_real, first, thorough)
        found, chance = found | matched, chance | levels
    if thorough and able & {FILL, GENERATE}:
        named, levels = _named(
            model, pairs, tokenizer, tokens, ids[first], is_real[first], references
        )
        found, chance = found | named, chance | levels
    return found | {"chance": chance}


def _matched(
    model: Any,
    pairs: PairSet,
    scores: np.ndarray,
    tokens: np.ndarray,
    ids: np.ndarray,
    is_real: np.ndarray,
    first: np.ndarray,
    thorough: bool,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ITM's numbers and their chance levels: re-ranked recall if `thorough`, loss and accuracy on the hardest negatives."""
    found: dict[str, Any] = {}
    chance: dict[str, Any] = {}
    if thorough:
        to_texts, to_images = rerank_both(model, scores, tokens, ids, is_real)
        reranked = recalls(to_texts, pairs, (1, 5), to_images=to_images)
        found |= {
            f"itm_reranked_{name}": value for name, value in reranked.items() if name != "chance_r1"
        }
        chance["itm_reranked_r1"] = reranked["chance_r1"]
    found |= _on_the_hardest(model, scores[:, first], tokens, ids[first], is_real[first])
    return found, chance | {"itm_loss": ITM_PRIOR, "itm_accuracy": 2 / 3}


def _named(
    model: Any,
    pairs: PairSet,
    tokenizer: Any,
    tokens: np.ndarray,
    ids: np.ndarray,
    is_real: np.ndarray,
    references: Any,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the model's words are worth, and their chance levels; ids and is_real (N, T) are each image's first caption."""
    spec = spec_of(model)
    if FILL in spec.can:
        others = np.roll(tokens, len(tokens) // 2, axis=0)  # beside another's image
        found = {"mlm_accuracy": mlm_accuracy(model, tokens, ids, is_real)}
        return found, {"mlm_accuracy": mlm_accuracy(model, others, ids, is_real)}
    name = spec.language_objective
    measured, level = perplexity(model, tokens, ids, is_real)
    written = captions(model, pairs, tokenizer, references)
    found = {
        f"{name}_perplexity": measured,
        **{f"{name}_captions_{key}": value for key, value in written.items()},
    }
    return found, {
        f"{name}_perplexity": level,
        f"{name}_captions_exact": 0.0,
        f"{name}_captions_words_right": 0.0,
    }


def _on_the_hardest(
    model: Any, scores: np.ndarray, tokens: np.ndarray, ids: np.ndarray, is_real: np.ndarray
) -> dict[str, float]:
    """Return ITM's loss and accuracy where each text stands with its own and its hardest image, and each image with its hardest text."""
    square = np.where(np.eye(len(scores), dtype=bool), -np.inf, scores)
    images, texts, labels = itm_pairs(square.argmax(axis=0), square.argmax(axis=1))
    logits = itm_logits(model, tokens[images], ids[texts], is_real[texts])
    log_p = logits - np.logaddexp(logits[:, :1], logits[:, 1:])
    loss = float(-np.take_along_axis(log_p, labels[:, None], axis=1).mean())
    return {"itm_loss": loss, "itm_accuracy": float((chosen_class(logits) == labels).mean())}


def mlm_accuracy(model: Any, tokens: np.ndarray, ids: np.ndarray, is_real: np.ndarray) -> float:
    """Return ALBEF's MLM accuracy: each token of each text (B, T) is masked alone, the first and the last excepted.

    What `matching` calls its chance is the same model's answer beside another scene's image: what
    the words around the gap tell already.
    """
    lengths = is_real.sum(axis=1)
    rows, places = np.nonzero(
        (np.arange(ids.shape[1]) > 0) & (np.arange(ids.shape[1]) < lengths[:, None] - 1)
    )
    right = []
    with no_grad():
        for i in range(0, len(rows), _BATCH):
            row, place = rows[i : i + _BATCH], places[i : i + _BATCH]
            hidden, each = ids[row].copy(), np.arange(len(row))
            hidden[each, place] = model.config.mask
            logits = to_host(
                model.mlm_logits(on_device(model, tokens[row]), hidden, is_real[row]).data
            )
            right.append(chosen_class(logits[each, place]) == ids[row, place])
    return float(np.concatenate(right).mean())


def perplexity(
    model: Any, tokens: np.ndarray, ids: np.ndarray, is_real: np.ndarray
) -> tuple[float, float]:
    """Return the perplexity per token over all texts, and that of a uniform prediction, V.

    tokens (N, P, M) are the image encoder's, ids and is_real (N, T) the texts.
    """
    nats, V = 0.0, 0
    with no_grad():
        for i in range(0, len(ids), _BATCH):
            part = slice(i, i + _BATCH)
            words = model.lm_logits(on_device(model, tokens[part]), ids[part], is_real[part])
            nats += float(to_host(language_loss(words, ids[part], is_real[part]).data)) * int(
                is_real[part, 1:].sum()
            )
            V = words.shape[-1]
    return math.exp(nats / int(is_real[:, 1:].sum())), float(V)


def candidates(scores: np.ndarray, k: int = RERANKED) -> np.ndarray:
    """Return which columns are among the k best of their row, (N, M) boolean: the candidates that ITM re-ranks, from ITC's scores (N, M).

    >>> candidates(np.array([[0.1, 0.9, 0.5]]), 2)
    array([[False,  True,  True]])
    """
    near = np.zeros(scores.shape, bool)
    np.put_along_axis(near, np.argsort(-scores, axis=1)[:, :k], True, axis=1)
    return near


def rerank(
    model: Any,
    scores: np.ndarray,
    tokens: np.ndarray,
    ids: np.ndarray,
    is_real: np.ndarray,
    k: int = RERANKED,
    *,
    cosine: bool | None = None,
) -> np.ndarray:
    """Return the images' scores of texts (N, M): ITM's logit of "matches" for the k texts that ITC likes best for each, and -inf for all others.

    By default ITC's cosine is added, as BLIP and LAVIS do (`evaluation` in train_retrieval.py), but
    for ALBEF, whose code goes by the logit alone. The texts look for their images among k of their
    own: `rerank_both`.
    """
    return rerank_both(model, scores, tokens, ids, is_real, k, cosine=cosine, to_images=False)[0]


def rerank_both(
    model: Any,
    scores: np.ndarray,
    tokens: np.ndarray,
    ids: np.ndarray,
    is_real: np.ndarray,
    k: int = RERANKED,
    *,
    cosine: bool | None = None,
    to_images: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the two tables of the published evaluation: images' scores of texts (N, M) as `rerank`, and texts' of images (M, N).

    A text that is a candidate of no image can still have its image among its own candidates: the
    tables are not each other's transpose. Without `to_images` the second one holds -inf only.
    """
    to_texts = candidates(scores, k)
    of_texts = candidates(scores.T, k) if to_images else np.zeros(scores.T.shape, bool)
    near = to_texts | of_texts.T
    images, texts = np.nonzero(near)  # a pair that both sides ask about is looked at once
    found = np.full(scores.shape, -np.inf, np.result_type(scores, np.float32))
    found[near] = itm_logits(model, tokens[images], ids[texts], is_real[texts])[:, 1]
    if cosine is None:
        spec = spec_or_none(model)
        cosine = spec is None or not spec.reranks_by_logit
    if cosine:
        found = found + scores
    return np.where(to_texts, found, -np.inf), np.where(of_texts, found.T, -np.inf)


def captions(
    model: Any, pairs: PairSet, tokenizer: Any, references: list[tuple[str, ...]] | None = None
) -> dict[str, float]:
    """Return the share of greedy captions that are exactly one of their image's, and of words right in the best of these."""
    owner = np.asarray(pairs.image_of_caption)
    own = references or [
        tuple(pairs.captions[j] for j in np.flatnonzero(owner == i)) for i in range(len(pairs))
    ]
    written = write_captions(model, pairs.images, tokenizer)
    exact = [among(text, right) for text, right in zip(written, own, strict=True)]
    return {
        "exact": float(np.mean(exact)),
        "words_right": float(
            np.mean([words_right(t, r) for t, r in zip(written, own, strict=True)])
        ),
    }


def write_captions(model: Any, images: np.ndarray, tokenizer: Any, **options: Any) -> list[str]:
    """Return a caption for each of the images (N, h, w, c); `options` are those of `decoding.generate`."""
    written: list[list[int]] = []
    for i in range(0, len(images), _BATCH):
        written += model.generate(on_device(model, images[i : i + _BATCH]), **options)
    return [tokenizer.decode(np.array([row], int))[0] if row else "" for row in written]


def words_right(text: str, references: tuple[str, ...]) -> float:
    """Return the share of words that stand where the nearest reference has them.

    >>> words_right("a red star", ("a blue star", "a green circle"))
    0.6666666666666666
    """
    words = split_words(text)

    def share(reference: str) -> float:
        right = split_words(reference)
        return sum(a == b for a, b in zip(words, right, strict=False)) / max(
            len(words), len(right), 1
        )

    return max(share(reference) for reference in references)


def swaps(model: Any, swapped: dict[str, Swaps], tokenizer: Any) -> dict[str, float]:
    """Return, for each kind of mistake, how often ITC and ITM prefer the right caption: {"swap_attribute_itc": …}; chance is one half.

    Nothing of a model whose file lacked what either of them needs.
    """
    found: dict[str, float] = {}
    model.eval()
    if not {CONTRAST, MATCH} <= spec_of(model).able(model):
        return found
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
