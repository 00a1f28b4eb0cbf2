"""The pictures and the report of a run of `train albef` or `train blip`."""

from pathlib import Path
from typing import Any

import numpy as np

from tinymm.models.blip import BLIP
from tinymm.training.evaluate_matching import image_tokens, itc_scores, rerank, write_captions
from tinymm.training.records import read_metrics
from tinymm.viz import curves, retrieval, style
from tinymm.viz.captions import captions

from .report import write_report


def draw(path: Path, source: Any, model: Any, chances: dict[str, float], results: dict[str, Any]) -> None:
    """Write loss.png, retrieval.png, captions.png (BLIP) and report.html."""
    levels = chances | {"validation_itm_accuracy": 2 / 3, "validation_r1": 1 / max(1, len(source.validation()))}
    style.save(curves.losses(read_metrics(path), chance=levels), path / "loss.png")
    tests = source.tests()
    pairs = next(iter(tests.values())) if tests else source.validation()
    pixels = source.preprocess.denormalize(pairs.images)
    tokens, (ids, is_real) = image_tokens(model, pairs.images), source.tokenizer(list(pairs.captions))
    scores = rerank(model, itc_scores(model, tokens, ids, is_real)[:, 0], tokens, ids, is_real)
    style.save(retrieval.gallery(scores, pixels, pairs.captions, pairs.image_of_caption), path / "retrieval.png")
    if isinstance(model, BLIP):
        first = [int(np.flatnonzero(pairs.image_of_caption == i)[0]) for i in range(len(pairs))]
        true = source.references(pairs) if hasattr(source, "references") else [(pairs.captions[j],) for j in first]
        style.save(captions(pixels, write_captions(model, pairs.images, source.tokenizer), true), path / "captions.png")
    write_report(path)
