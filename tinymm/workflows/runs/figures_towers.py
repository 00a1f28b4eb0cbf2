"""The pictures and the report of a run of `train albef` or `train blip`."""

from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_host
from tinymm.arrays.random import generator
from tinymm.autodiff import no_grad
from tinymm.data.batches import Batch
from tinymm.losses import soft_targets
from tinymm.models.albef import ALBEF
from tinymm.models.blip import BLIP
from tinymm.training.evaluate_matching import image_tokens, itc_scores, on_device, rerank_both, write_captions
from tinymm.training.loop import Recipe, batch_at
from tinymm.training.records import read_metrics
from tinymm.viz import curves, style
from tinymm.viz.attention.grounding import MOST, ground, word_regions
from tinymm.viz.captions import captions
from tinymm.viz.models.capfilt import capfilt
from tinymm.viz.models.queue_ring import ALPHAS, ring
from tinymm.viz.retrieval import gallery as retrieval

from ..report import write_report
from .capfilt import Judged


def draw(path: Path, source: Any, model: Any, chances: dict[str, float], batch_size: int) -> None:
    """Write loss.png, retrieval.png, words.png, queue.png, captions.png (BLIP) and report.html."""
    levels = chances | {"validation_itm_accuracy": 2 / 3, "validation_r1": 1 / max(1, len(source.validation()))}
    style.save(curves.losses(read_metrics(path), chance=levels), path / "loss.png")
    tests = source.tests()
    pairs = next(iter(tests.values())) if tests else source.validation()
    pixels = source.preprocess.denormalize(pairs.images)
    tokens, (ids, is_real) = image_tokens(model, pairs.images), source.tokenizer(list(pairs.captions))
    scores = itc_scores(model, tokens, ids, is_real)[:, 0]
    unit = "ITM's logit" if isinstance(model, ALBEF) else "ITM's logit + ITC's cosine"  # what `rerank_both` sorts by
    again = rerank_both(model, scores, tokens, ids, is_real)
    drawing = retrieval.gallery(scores, pixels, pairs.captions, pairs.image_of_caption, unit=unit, reranked=again)
    style.save(drawing, path / "retrieval.png")
    first = [int(np.flatnonzero(pairs.image_of_caption == i)[0]) for i in range(len(pairs))]
    words, read = (
        source.tokenizer.tokens(pairs.captions[first[0]]),
        ids[first[0]][is_real[first[0]]],
    )
    style.save(_words(model, pairs.images[0], pixels[0], words, read), path / "words.png")
    if model.queue is not None:
        style.save(_queue(model, batch_at(source, Recipe(1, batch_size), 0)), path / "queue.png")
    if isinstance(model, BLIP):
        true = source.references(pairs)
        style.save(captions(pixels, write_captions(model, pairs.images, source.tokenizer), true), path / "captions.png")
    write_report(path)


def _words(
    model: Any, image: np.ndarray, pixels: np.ndarray, tokens: list[str], ids: np.ndarray
) -> Any:
    """Return where a picture's words look, of a long caption the first that have room; ids (T,) are the whole caption's, [CLS] … [EOT]."""
    found = ground(model, image, ids, rng=generator(0))
    words = [word.strip("[]") or "·" for word in tokens]  # in brackets they would not be drawn
    words = words[: min(MOST, len(ids) - 2)] or ["no words"]
    heats = {name: heat[: len(words) + 1] for name, heat in found.heats.items()}
    return word_regions(pixels, ["[CLS]", *words], heats, found.grid)


def _queue(model: Any, batch: Batch) -> Any:
    """Return the ring of what the queue remembers, and the targets of a batch's first picture by three shares of the twin's opinion."""
    twin, queue = model.twin.copy, model.queue
    with no_grad():
        picture = to_host(twin.project_image(twin.look(on_device(model, batch.images[:1]))).data)
        texts = np.concatenate([to_host(twin.project_text(twin.read(batch.ids, batch.is_real)).data), to_host(queue.texts.data)])
    similarities = picture @ texts.T / float(model.temperature.data)
    targets = np.concatenate([soft_targets(similarities, alpha) for alpha in ALPHAS])
    return ring(queue.ages(), queue.pointer, len(batch), targets, alphas=ALPHAS)


def draw_capfilt(path: Path, source: Any, judged: list[Judged]) -> None:
    """Write capfilt.png: examples of what was kept, dropped and rewritten, where the source knows the truth."""
    own = {item.picture: item for item in judged if not item.written}
    written = {item.picture: item for item in judged if item.written}
    chosen = sorted(own.keys() & written.keys())
    if not chosen or source.is_true(chosen[0], own[chosen[0]].caption) is None:
        return
    rows = [(own[i], written[i]) for i in chosen]
    wrong = [[not source.is_true(item.picture, item.caption) for item in row] for row in rows]
    drawing = capfilt(
        source.preprocess.denormalize(source.images(np.array(chosen))), [a.caption for a, _ in rows], [b.caption for _, b in rows],
        np.array([[item.probability for item in row] for row in rows]), np.array([[item.kept for item in row] for row in rows]), np.array(wrong),
    )  # fmt: skip
    style.save(drawing, path / "capfilt.png")
