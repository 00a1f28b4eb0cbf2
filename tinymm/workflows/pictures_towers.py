"""The pictures and the report of a run of `train albef` or `train blip`."""

from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_host
from tinymm.arrays.random import generator
from tinymm.autodiff import no_grad
from tinymm.data.text import split_words
from tinymm.losses import soft_targets
from tinymm.models.blip import BLIP
from tinymm.training.evaluate_matching import image_tokens, itc_scores, rerank, write_captions
from tinymm.training.records import read_metrics
from tinymm.viz import curves, retrieval, style
from tinymm.viz.capfilt import capfilt
from tinymm.viz.captions import captions
from tinymm.viz.grounding import ground, word_regions
from tinymm.viz.ring import ALPHAS, ring

from .capfilt import Judged
from .report import write_report


def draw(path: Path, source: Any, model: Any, chances: dict[str, float], batch_size: int) -> None:
    """Write loss.png, retrieval.png, words.png, queue.png, captions.png (BLIP) and report.html."""
    levels = chances | {"validation_itm_accuracy": 2 / 3, "validation_r1": 1 / max(1, len(source.validation()))}
    style.save(curves.losses(read_metrics(path), chance=levels), path / "loss.png")
    tests = source.tests()
    pairs = next(iter(tests.values())) if tests else source.validation()
    pixels = source.preprocess.denormalize(pairs.images)
    tokens, (ids, is_real) = image_tokens(model, pairs.images), source.tokenizer(list(pairs.captions))
    scores = itc_scores(model, tokens, ids, is_real)[:, 0]
    drawing = retrieval.gallery(rerank(model, scores, tokens, ids, is_real), pixels, pairs.captions, pairs.image_of_caption)
    style.save(drawing, path / "retrieval.png")
    first = [int(np.flatnonzero(pairs.image_of_caption == i)[0]) for i in range(len(pairs))]
    words = ["[CLS]", *split_words(pairs.captions[first[0]])][: int(is_real[first[0]].sum()) - 1] + ["[EOT]"]
    found = ground(model, pairs.images[0], ids[first[0]][is_real[first[0]]], rng=generator(0))
    style.save(word_regions(pixels[0], words, found.heats, found.grid), path / "words.png")
    if model.queue is not None:
        some = first[:batch_size]
        style.save(_queue(model, pairs.images[: len(some)], ids[some], is_real[some], batch_size), path / "queue.png")
    if isinstance(model, BLIP):
        true = source.references(pairs) if hasattr(source, "references") else [(pairs.captions[j],) for j in first]
        style.save(captions(pixels, write_captions(model, pairs.images, source.tokenizer), true), path / "captions.png")
    write_report(path)


def _queue(model: Any, images: np.ndarray, ids: np.ndarray, is_real: np.ndarray, batch_size: int) -> Any:
    """Return the ring of what the queue remembers, and a picture's targets among these pairs and the queue, by three shares of the twin's opinion."""
    twin, queue = model.twin.copy, model.queue
    with no_grad():
        picture = to_host(twin.project_image(twin.look(images[:1])).data)
        texts = np.concatenate([to_host(twin.project_text(twin.read(ids, is_real)).data), to_host(queue.texts.data)])
    similarities = picture @ texts.T / float(model.temperature.data)
    targets = np.concatenate([soft_targets(similarities, alpha) for alpha in ALPHAS])
    return ring(queue.ages(), queue.pointer, batch_size, targets, alphas=ALPHAS)


def draw_capfilt(path: Path, source: Any, judged: list[Judged]) -> None:
    """Write capfilt.png: examples of what was kept, dropped and rewritten, where the source knows the truth."""
    own = {item.picture: item for item in judged if not item.written}
    written = {item.picture: item for item in judged if item.written}
    chosen = sorted(own.keys() & written.keys())
    if not chosen or not hasattr(source, "is_true"):
        return
    rows = [(own[i], written[i]) for i in chosen]
    wrong = [[not source.is_true(item.picture, item.caption) for item in row] for row in rows]
    drawing = capfilt(
        source.preprocess.denormalize(source.images(np.array(chosen))), [a.caption for a, _ in rows], [b.caption for _, b in rows],
        np.array([[item.probability for item in row] for row in rows]), np.array([[item.kept for item in row] for row in rows]), np.array(wrong),
    )  # fmt: skip
    style.save(drawing, path / "capfilt.png")
