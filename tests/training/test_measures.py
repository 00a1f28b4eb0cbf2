"""Recall, zero-shot classification and the linear probe, with the captions, distractors and failures of real data."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import TinySource, clip_for

from tinymm import Tensor
from tinymm.arrays.errors import DataError, ShapeError
from tinymm.data.batches import PairSet, ZeroShot
from tinymm.losses import l2_normalize
from tinymm.training.evaluate import (
    classifier_weights,
    embed,
    embed_images,
    embed_texts,
    linear_probe,
    recall_at_k,
    retrieval,
    zero_shot,
)

seeds = st.integers(0, 9999)


@given(st.integers(1, 5), st.integers(1, 6), seeds)
def test_recall_is_the_share_of_rows_whose_best_match_is_ranked_high_enough(N, M, seed):
    rng = np.random.default_rng(seed)
    scores, is_match = rng.permutation(N * M).reshape(N, M).astype(float), rng.random((N, M)) < 0.4
    is_match[0, 0] = True
    for k in range(1, M + 1):
        hits = [
            set(np.argsort(-row)[:k]) & set(np.flatnonzero(match))
            for row, match in zip(scores, is_match, strict=True)
            if match.any()
        ]
        assert recall_at_k(scores, k, is_match) == pytest.approx(
            np.mean([bool(hit) for hit in hits])
        )
        assert recall_at_k(scores, k, is_match, ties="expected") == pytest.approx(
            np.mean([bool(hit) for hit in hits])
        )


@given(st.integers(2, 6), st.integers(1, 6))
def test_a_collapsed_model_gets_chance_at_most(n, k):
    k = min(k, n)
    for value in (0.0, np.nan):
        scores = np.full((n, n), value)
        assert recall_at_k(scores, k) == (k == n)
    assert recall_at_k(np.zeros((n, n)), k, ties="expected") == pytest.approx(k / n)


@pytest.mark.parametrize(
    "row, hit", [([np.nan, 1.0, 0.0], 0.0), ([2.0, np.nan, 0.0], 0.0), ([2.0, 1.0, 0.0], 1.0)]
)
def test_a_score_that_is_no_number_never_helps(row, hit):
    assert recall_at_k(np.array([row]), 1, np.array([[True, False, False]])) == hit


def test_impossible_questions_are_refused():
    with pytest.raises(ShapeError, match=r"\(3,\) came; compute all pairs first"):
        recall_at_k(np.zeros(3), 1)
    with pytest.raises(DataError, match=r"k lies in \[1, 3\], the number of columns, and 4 came"):
        recall_at_k(np.zeros((3, 3)), 4)
    with pytest.raises(DataError, match="no row has a match"):
        recall_at_k(np.zeros((2, 2)), 1, np.zeros((2, 2), bool))


def by_features(images, texts):
    """Return a model whose features are given: a picture's number is its pixel, a text is its number in words."""
    return SimpleNamespace(
        eval=lambda: None,
        parameters=lambda: [Tensor(images)],
        encode_image=lambda pixels: l2_normalize(Tensor(images[pixels[:, 0, 0, 0].astype(int)])),
        encode_text=lambda ids, is_real: l2_normalize(Tensor(texts[ids[:, 0]])),
        similarity=lambda images, texts: images @ texts.T,
    )


def numbered(n):
    return np.arange(n, dtype=np.float32).reshape(n, 1, 1, 1)


def tokenizer(texts):
    return np.array([[int(text)] for text in texts]), None


def test_several_captions_help_a_picture_and_a_distractor_only_harms_it():
    angles = np.array([0.0, 2.0])
    images = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    texts = [(0.4, 0), (0.1, 0), (2.5, 1), (1.9, -1)]  # angle and owner
    features = np.array([(np.cos(a), np.sin(a)) for a, _ in texts])
    owners = np.array([owner for _, owner in texts])
    pairs = PairSet(numbered(2), ["0", "1", "2", "3"], owners)
    found = retrieval(by_features(images, features), pairs, tokenizer, ks=(1, 2))
    assert found["image_to_text_r1"] == 0.5 and found["image_to_text_r2"] == 1.0, (
        "picture 1 prefers the distractor"
    )
    assert found["text_to_image_r1"] == 1.0, "a caption of no picture is no query"
    assert found["r1"] == 0.75
    assert found["chance_r1"] == pytest.approx((1.5 / 4 + 1 / 2) / 2), (
        "two captions are easier to hit than one"
    )
    without = retrieval(
        by_features(images, features[:3]),
        PairSet(numbered(2), ["0", "1", "2"], owners[:3]),
        tokenizer,
    )
    assert without["image_to_text_r1"] == without["r1"] == 1.0 and "image_to_text_r5" not in without


def test_chance_is_what_random_features_reach():
    rng, pictures, each = np.random.default_rng(0), 6, 3
    owners = np.repeat(np.arange(pictures), each)
    found = []
    for _ in range(300):
        model = by_features(
            rng.standard_normal((pictures, 8)), rng.standard_normal((pictures * each, 8))
        )
        found.append(
            retrieval(
                model,
                PairSet(numbered(pictures), [str(i) for i in range(pictures * each)], owners),
                tokenizer,
                ks=(1,),
            )
        )
    assert np.mean([one["r1"] for one in found]) == pytest.approx(found[0]["chance_r1"], abs=0.02)


def test_embeddings_are_unit_rows_without_a_graph_and_do_not_depend_on_the_batch_size():
    source = TinySource()
    model = clip_for(source).eval()
    images = source.pictures
    rows = embed_images(model, images, batch_size=4)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(rows, embed_images(model, images), atol=1e-6)
    texts = [source.sentences[0], *source.sentences[:7]]
    found = embed_texts(model, texts, source.tokenizer, batch_size=3)
    np.testing.assert_allclose(found, embed_texts(model, texts, source.tokenizer), atol=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert embed(lambda x: Tensor(x) * model.t, np.ones((3, 2), np.float32)).dtype == np.float32


def test_zero_shot_names_the_class_of_the_nearest_mean_prompt():
    classes = 3
    texts = np.concatenate(
        [np.eye(classes), np.eye(classes) + 0.3]
    )  # one feature a prompt: number, or its second template
    images = np.repeat(np.eye(classes), [5, 2, 1], axis=0)
    images[0] = images[-1]  # a picture of class 0 that looks like class 2
    targets = np.repeat(np.arange(classes), [5, 2, 1])
    task = ZeroShot(numbered(8), ("0", "1", "2"), targets, ("{}", "{}"))
    model = by_features(images, texts)
    weights = classifier_weights(model, task.classes, ("{}",), tokenizer)
    np.testing.assert_allclose(weights, np.eye(3), atol=1e-12)
    found = zero_shot(model, task, tokenizer)
    assert found == {
        "accuracy": 7 / 8,
        "mean_class_accuracy": pytest.approx((4 / 5 + 1 + 1) / 3),
        "largest_class": 5 / 8,
        "chance": pytest.approx(1 / 3),
    }


def test_prompts_of_a_class_are_averaged_as_unit_vectors():
    texts = np.array([[2.0, 0.0], [0.0, 1.0]])
    weights = classifier_weights(
        by_features(texts, texts),
        ("0",),
        ("{}", "1{}"),
        lambda prompts: (np.array([[len(p) - 1] for p in prompts]), None),
    )
    np.testing.assert_allclose(weights, [[0.5**0.5, 0.5**0.5]], atol=1e-12)


@pytest.mark.parametrize("shift, low, high", [(4.0, 0.99, 1.0), (0.0, 0.15, 0.55)])
def test_the_linear_probe_separates_what_is_separable_and_no_more(shift, low, high):
    rng = np.random.default_rng(0)
    targets = np.arange(120) % 3
    features = rng.standard_normal((120, 5)) * 10 + 7
    features[:, :3] += 10 * shift * np.eye(3)[targets]
    assert low <= linear_probe(features[:60], targets[:60], features[60:], targets[60:]) <= high
