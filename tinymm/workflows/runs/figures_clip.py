"""The pictures and the report of a run folder, drawn from what the folder and the model hold."""

from pathlib import Path
from typing import Any

import numpy as np

from tinymm.data.batches import PairSet, Source, Tokenizer
from tinymm.models.clip import CLIP
from tinymm.training.evaluate import embed_images, embed_texts
from tinymm.training.records import read_metrics
from tinymm.viz import curves, style
from tinymm.viz.retrieval import gallery as retrieval
from tinymm.viz.retrieval.similarity import similarity

from ..report import write_report


def show_pairs(source: Source, n: int = 10) -> PairSet:
    """Return a few pairs to be drawn: of the first honest test, or of the validation pictures, spread evenly."""
    tests = source.tests()
    pairs = next(iter(tests.values())) if tests else source.validation()
    images = np.linspace(0, len(pairs) - 1, min(n, len(pairs))).astype(int)
    captions = [pairs.captions[int(np.flatnonzero(pairs.image_of_caption == i)[0])] for i in images]
    return PairSet(pairs.images[images], captions, np.arange(len(images)))


def cosines(model: CLIP, pairs: PairSet, tokenizer: Tokenizer) -> np.ndarray:
    """Return the cosine of every picture with every caption, the model in eval mode: (N, M)."""
    model.eval()
    return embed_images(model, pairs.images) @ embed_texts(model, pairs.captions, tokenizer).T


def draw_run(path: Path, source: Source, model: CLIP, before: np.ndarray, results: dict[str, Any], chance: float) -> None:
    """Write loss.png, similarity.png, retrieval.png and report.html; `before` holds the untrained model's cosines (n, n) of the shown pairs."""
    levels = {"loss": chance, "itc": chance}
    if "validation_r1" in results["chance"]:
        ways = ("r1", "image_to_text_r1", "text_to_image_r1")
        levels |= dict.fromkeys([f"validation_{way}" for way in ways], results["chance"]["validation_r1"])
    style.save(curves.losses(read_metrics(path), chance=levels), path / "loss.png")
    shown = show_pairs(source)
    after = cosines(model, shown, source.tokenizer)
    pixels = source.preprocess.denormalize(shown.images)
    style.save(similarity({"before training": before, "after training": after}, pixels, shown.captions), path / "similarity.png")
    tests = source.tests()
    pairs = next(iter(tests.values())) if tests else source.validation()
    scores = cosines(model, pairs, source.tokenizer)
    drawing = retrieval.gallery(scores, source.preprocess.denormalize(pairs.images), pairs.captions, pairs.image_of_caption)
    style.save(drawing, path / "retrieval.png")
    write_report(path)
