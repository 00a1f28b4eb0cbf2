"""The figures and the report of a run folder, by what the model can do.

A new model gets those of its abilities: a similarity matrix and a retrieval gallery where it
contrasts, captions where it writes, the maps of its cross-attention, queries and queue.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_host
from tinymm.arrays.random import generator
from tinymm.autodiff import no_grad
from tinymm.data.batches import Batch, PairSet, Source
from tinymm.layers import record_attention
from tinymm.losses import soft_targets
from tinymm.tasks import CONTRAST, GENERATE, GROUND, MATCH, QUERIES, QUEUE, spec_of
from tinymm.training.evaluate import similarities
from tinymm.training.evaluate_matching import (
    image_tokens,
    itc_scores,
    on_device,
    rerank_both,
    write_captions,
)
from tinymm.training.loop import batch_at
from tinymm.training.records import read_metrics
from tinymm.viz import curves, style
from tinymm.viz.attention import queries
from tinymm.viz.attention.grounding import MOST, ground, word_regions
from tinymm.viz.captions import captions
from tinymm.viz.models.capfilt import capfilt
from tinymm.viz.models.queue_ring import ALPHAS, ring
from tinymm.viz.retrieval import gallery
from tinymm.viz.retrieval.similarity import similarity

from ..report import write_report

#: Pairs of the similarity matrix.
SHOWN = 10


def draw(
    path: Path, planned: Any, model: Any, before: np.ndarray | None, results: dict[str, Any]
) -> None:
    """Write the figures of a trained model, and report.html, into its run folder.

    `planned` is the run's `prepare.Plan`, and `before` are the cosines (n, n) of the shown pairs
    that the randomly initialized model gave, None for a model that does not contrast.
    """
    source: Source = planned.source
    able = spec_of(model).able(model)
    levels = chance_levels(planned, results)
    style.save(curves.losses(read_metrics(path), chance=levels), path / "loss.png")
    pairs = shown_set(source)
    if len(pairs):
        pixels = source.preprocess.denormalize(pairs.images)
        if CONTRAST in able and before is not None:
            _draw_contrast(path, model, source, pairs, pixels, before, MATCH in able)
        if GROUND in able and MATCH in able:
            style.save(_words(model, source, pairs, pixels), path / "words.png")
        if QUERIES in able:
            _draw_queries(path, model, source, pairs, pixels, CONTRAST in able)
        if GENERATE in able:
            written = write_captions(model, pairs.images, source.tokenizer)
            true = source.references(pairs)
            style.save(captions(pixels, written, true), path / "captions.png")
    if QUEUE in able and model.queue is not None:
        style.save(_queue(model, batch_at(source, planned.recipe, 0)), path / "queue.png")
    write_report(path)


def chance_levels(planned: Any, results: dict[str, Any]) -> dict[str, float]:
    """Return the chance level of each column of the curves that has one."""
    chances, count = planned.chances, max(1, len(planned.source.validation()))
    recall = results.get("chance", {}).get("validation_r1", 1 / count)
    ways = ("r1", "image_to_text_r1", "text_to_image_r1")
    levels = dict.fromkeys([f"validation_{way}" for way in ways], recall)
    return levels | {"loss": sum(chances.values()), "validation_itm_accuracy": 2 / 3} | chances


def shown_set(source: Source) -> PairSet:
    """Return the pairs that figures are drawn of: the first held-out test, or the validation."""
    tests = source.tests()
    return next(iter(tests.values())) if tests else source.validation()


def cosines_of_shown(model: Any, source: Source) -> np.ndarray:
    """Return the cosines (n, n) of the pairs of the similarity matrix, the model in eval mode."""
    model.eval()
    return _cosines(model, show_pairs(source), source)


def show_pairs(source: Source, n: int = SHOWN) -> PairSet:
    """Return a few pairs to be drawn, spread evenly, each with its first caption."""
    pairs = shown_set(source)
    images = np.linspace(0, len(pairs) - 1, min(n, len(pairs))).astype(int)
    few = [pairs.captions[_first_caption(pairs, i)] for i in images]
    return PairSet(pairs.images[images], few, np.arange(len(images)))


def _first_caption(pairs: PairSet, image: int) -> int:
    return int(np.flatnonzero(pairs.image_of_caption == image)[0])


def _cosines(model: Any, pairs: PairSet, source: Source) -> np.ndarray:
    return similarities(model, pairs.images, list(pairs.captions), source.tokenizer)


def _draw_contrast(
    path: Path,
    model: Any,
    source: Source,
    pairs: PairSet,
    pixels: np.ndarray,
    before: np.ndarray,
    matches: bool,
) -> None:
    """Write similarity.png, before and after training, and retrieval.png, failures first."""
    few = show_pairs(source)
    matrices = {"before training": before, "after training": _cosines(model, few, source)}
    small = source.preprocess.denormalize(few.images)
    style.save(similarity(matrices, small, few.captions), path / "similarity.png")
    scores = _cosines(model, pairs, source)
    options: dict[str, Any] = {}
    if matches:
        tokens, texts = image_tokens(model, pairs.images), source.tokenizer(list(pairs.captions))
        # The unit is what `rerank_both` sorts by.
        by_logit = spec_of(model).reranks_by_logit
        options["unit"] = "ITM's logit" if by_logit else "ITM's logit + ITC's cosine"
        options["reranked"] = rerank_both(model, scores, tokens, *texts)
    drawing = gallery.gallery(scores, pixels, pairs.captions, pairs.image_of_caption, **options)
    style.save(drawing, path / "retrieval.png")


def _words(model: Any, source: Source, pairs: PairSet, pixels: np.ndarray) -> Any:
    """Return where the words of the first caption look in its image, of a long one the first ones."""
    caption = pairs.captions[_first_caption(pairs, 0)]
    ids, is_real = source.tokenizer([caption])
    ids = ids[0][is_real[0]]  # (T,), [CLS] … [SEP]
    found = ground(model, pairs.images[0], ids, rng=generator(0))
    tokens = source.tokenizer.tokens(caption)  # type: ignore[attr-defined]
    words = [word.strip("[]") or "·" for word in tokens]  # in brackets they would not be drawn
    words = words[: min(MOST, len(ids) - 2)] or ["no words"]
    heats = {name: heat[: len(words) + 1] for name, heat in found.heats.items()}
    return word_regions(pixels[0], ["[CLS]", *words], heats, found.grid)


def _draw_queries(
    path: Path, model: Any, source: Source, pairs: PairSet, pixels: np.ndarray, contrasts: bool
) -> None:
    """Write attention.png, where each query attends, and queries.png, which one meets its text best."""
    tokens = image_tokens(model, pairs.images)
    if contrasts:
        words = [pairs.captions[_first_caption(pairs, i)] for i in range(len(pairs))]
        winners = itc_scores(model, tokens, *source.tokenizer(words)).argmax(axis=1)
        count = model.config.qformer.queries
        drawing = queries.winning_queries(winners, words, count, pictures=pixels)
        style.save(drawing, path / "queries.png")
    weights, grid = query_attention(model, tokens[:1])
    style.save(queries.query_heat(pixels[0], weights, grid), path / "attention.png")


def query_attention(model: Any, tokens: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Return each query's attention to the first image's patches, (Q, P), and the grid of patches.

    It is that of the last layer with cross-attention, the mean of its heads.
    """
    with no_grad(), record_attention() as maps:
        model.qformer(model.norm_vision(on_device(model, tokens[:1])))
    crossing = [m for m in maps if m.shape[-1] == tokens.shape[1]]  # the others are over queries
    side = model.config.image.resolution // model.config.image.patch
    return to_host(crossing[-1])[0].mean(axis=0)[:, 1:], (side, side)


def _queue(model: Any, batch: Batch) -> Any:
    """Return the queue's ages, and the pseudo-targets of a batch's first image for three alphas."""
    encoder, queue = model.momentum_encoder.model, model.queue
    with no_grad():
        tokens = encoder.image_tokens(on_device(model, batch.images[:1]))
        image = to_host(encoder.project_image(tokens).data)
        own = encoder.project_text(encoder.text_tokens(batch.ids, batch.is_real))
        texts = np.concatenate([to_host(own.data), to_host(queue.texts.data)])
    similarities = image @ texts.T / float(model.temperature.data)
    targets = np.concatenate([soft_targets(similarities, alpha) for alpha in ALPHAS])
    return ring(queue.ages(), queue.pointer, len(batch), targets, alphas=ALPHAS)


def draw_capfilt(path: Path, source: Any, judged: list[Any]) -> None:
    """Write capfilt.png: what was kept, dropped and rewritten, where the source knows the truth."""
    own = {item.picture: item for item in judged if not item.written}
    written = {item.picture: item for item in judged if item.written}
    chosen = sorted(own.keys() & written.keys())
    rows = [(own[i], written[i]) for i in chosen]
    true = [[source.is_true(item.picture, item.caption) for item in row] for row in rows]
    if not chosen or any(None in row for row in true):
        return
    images = source.preprocess.denormalize(source.images(np.array(chosen)))
    drawing = capfilt(
        images,
        [first.caption for first, _ in rows],
        [second.caption for _, second in rows],
        np.array([[item.probability for item in row] for row in rows]),
        np.array([[item.kept for item in row] for row in rows]),
        ~np.array(true, bool),
    )
    style.save(drawing, path / "capfilt.png")
