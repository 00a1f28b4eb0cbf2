"""The published properties of retrieval metrics, asked of `recall_at_k` and, with captions and distractors, of `retrieval` as a whole."""

from types import SimpleNamespace

import numpy as np
import pytest

from tinymm import Tensor
from tinymm.data.batches import PairSet
from tinymm.models.clip import CLIP
from tinymm.testing import PropertyFailed, check
from tinymm.training.evaluate import recall_at_k, retrieval


def captions(scores, image_of_caption, k):
    """Run `retrieval` with a model whose cosines are these scores, up to one positive factor."""
    N, M = scores.shape
    length = np.sqrt((scores**2).sum(axis=1).max()) + 1
    rest = np.sqrt(length**2 - (scores**2).sum(axis=1, keepdims=True))
    features = np.concatenate([scores, rest], axis=1) / length
    model = SimpleNamespace(
        eval=lambda: None,
        parameters=lambda: [Tensor(features)],
        encode_image=lambda images: Tensor(features[images[:, 0, 0, 0].astype(int)]),
        encode_text=lambda ids, is_real: Tensor(np.eye(M, M + 1)[ids[:, 0]]),
        similarity=CLIP.similarity,
    )
    images = np.arange(N, dtype=np.float32).reshape(N, 1, 1, 1)
    pairs = PairSet(images, [str(j) for j in range(M)], image_of_caption)
    found = retrieval(
        model, pairs, lambda texts: (np.array([[int(text)] for text in texts]), None), ks=(1, k)
    )
    return found[f"image_to_text_r{k}"], found[f"text_to_image_r{k}"]


def test_recall_keeps_every_property():
    report = check.recall(recall_at_k, captions=captions)
    assert set(report.not_run) == {
        "R10a",
        "R10b",
        "R11d",
    }  # swap accuracy comes with the models that read word order


def test_with_expected_ties_too():
    check.recall(lambda scores, k: recall_at_k(scores, k, ties="expected"), ties="expected")


@pytest.mark.parametrize(
    "broken, caught",
    [
        (lambda scores, k: recall_at_k(-scores, k), "R01"),
        (lambda scores, k: recall_at_k(scores.T, k), "R03"),
        (lambda scores, k: recall_at_k(scores, min(k + 1, len(scores))), "R06"),
        (lambda scores, k: recall_at_k(scores + 1e-9 * np.eye(len(scores)), k), "R05"),
    ],
)
def test_wrong_ones_are_caught(broken, caught):
    with pytest.raises(PropertyFailed) as failure:
        check.recall(broken)
    assert caught in failure.value.failed
