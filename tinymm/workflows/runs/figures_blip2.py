"""The pictures and the report of a run of `train blip2`: each loss beside its chance line, and what the queries do."""

from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_host
from tinymm.autodiff import no_grad
from tinymm.data.batches import PairSet, Source
from tinymm.layers import record_attention
from tinymm.models.blip2 import BLIP2Stage1
from tinymm.training.evaluate_matching import image_tokens, itc_scores, on_device, write_captions
from tinymm.training.records import read_metrics
from tinymm.viz import curves, style
from tinymm.viz.attention import queries
from tinymm.viz.captions import captions

from ..report import write_report


def draw(path: Path, source: Any, model: Any, chances: dict[str, float], results: dict[str, Any]) -> None:
    """Write loss.png, queries.png (stage 1), attention.png, captions.png and report.html."""
    levels = dict(chances)
    if isinstance(model, BLIP2Stage1):
        levels |= {"validation_itm_accuracy": 2 / 3, "validation_r1": 1 / max(1, len(source.validation()))}
    style.save(curves.losses(read_metrics(path), chance=levels), path / "loss.png")
    tests = source.tests()
    pairs = next(iter(tests.values())) if tests else source.validation()
    pixels = source.preprocess.denormalize(pairs.images)
    tokens = image_tokens(model, pairs.images)
    if isinstance(model, BLIP2Stage1):
        style.save(_winners(model, source, pairs, tokens, pixels), path / "queries.png")
    weights, grid = query_attention(model, tokens[:1])
    style.save(queries.query_heat(pixels[0], weights, grid), path / "attention.png")
    true = source.references(pairs)
    style.save(captions(pixels, write_captions(model, pairs.images, source.tokenizer), true), path / "captions.png")
    write_report(path)


def _winners(model: BLIP2Stage1, source: Source, pairs: PairSet, tokens: np.ndarray, pixels: np.ndarray) -> Any:
    first = [int(np.flatnonzero(pairs.image_of_caption == i)[0]) for i in range(len(pairs))]
    words = [pairs.captions[j] for j in first]
    ids, is_real = source.tokenizer(words)
    winners = itc_scores(model, tokens, ids, is_real).argmax(axis=1)
    return queries.winning_queries(winners, words, model.config.qformer.queries, pictures=pixels)


def query_attention(model: Any, tokens: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Return where each query of the first picture looks in the last layer that looks, (Q, P), the mean of its heads, and the grid of patches."""
    with no_grad(), record_attention() as maps:
        model.qformer(model.norm_vision(on_device(model, tokens[:1])))
    looking = [m for m in maps if m.shape[-1] == tokens.shape[1]]  # the others are over queries
    side = model.config.image.resolution // model.config.image.patch
    return to_host(looking[-1])[0].mean(axis=0)[:, 1:], (side, side)
