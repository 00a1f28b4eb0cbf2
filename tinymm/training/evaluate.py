"""Evaluation: retrieval recall, zero-shot classification and linear probe, each with its chance level (CLIP, §3.1 and §3.2)."""

from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module, to_backend, to_host
from tinymm.arrays.errors import DataError, ShapeError
from tinymm.autodiff import no_grad
from tinymm.data.batches import PairSet, ZeroShot


def recall_at_k(
    scores: np.ndarray, k: int, is_match: np.ndarray | None = None, ties: str = "against"
) -> float:
    """Return recall@k, the share of rows with a match among their k best columns: scores (N, M), is_match (N, M) boolean or None for the diagonal.

    Equal scores count against the model, or for half of it in the long run with `ties="expected"`:
    a collapsed model that scores everything alike must not get 100 %, nor one whose scores are NaN.
    Rows without any match are left out. ShapeError unless scores are a matrix; DataError for a k
    outside [1, M], or if no row has a match.

    >>> recall_at_k(np.array([[2.0, 1.0], [3.0, 0.0]]), 1)
    0.5
    """
    scores = np.asarray(scores)
    if scores.ndim != 2:
        raise ShapeError(
            f"recall_at_k takes scores (N, M) and {scores.shape} came; compute all pairs first"
        )
    if is_match is None:
        is_match = np.eye(*scores.shape, dtype=bool)
    if not 1 <= k <= scores.shape[1]:
        raise DataError(
            f"recall_at_k: k lies in [1, {scores.shape[1]}], the number of columns, and {k} came; lower k"
        )
    rows = is_match.any(axis=1)
    if not rows.any():
        raise DataError(
            "recall_at_k: no row has a match, so there is nothing to recall; check which caption belongs to which picture"
        )
    scores, is_match = scores[rows], is_match[rows]
    best = np.max(np.where(is_match, scores, -np.inf), axis=1, keepdims=True)
    if ties == "against":
        return float(np.mean((~(scores < best) & ~is_match).sum(axis=1) < k))
    better = (~(scores <= best) & ~is_match).sum(axis=1)
    equal = ((scores == best) & ~is_match).sum(axis=1)
    mine = ((scores == best) & is_match).sum(axis=1)
    return float(
        np.mean([_chance_of_hit(k - b, m, e) for b, m, e in zip(better, mine, equal, strict=True)])
    )


def _chance_of_hit(places: int, mine: int, others: int) -> float:
    """Return the chance that a random order of equal scores puts one of `mine` among the first `places`."""
    miss = 1.0
    for i in range(max(0, min(places, mine + others))):
        miss *= max(0, others - i) / (mine + others - i)
    return 1.0 - miss


def embed(encode: Any, inputs: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Return what `encode` makes of images or ids, a batch at a time and without a graph: (N, …) -> (N, E) on the host."""
    parts = []
    with no_grad():
        for start in range(
            0, max(1, len(inputs)), batch_size
        ):  # nothing at all has features too, of their width
            parts.append(to_host(encode(inputs[start : start + batch_size]).data))
    return np.concatenate(parts)


def embed_images(model: Any, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Return unit features of normalized images (N, h, w, c) -> (N, E), on the model's device and back."""
    backend = array_module(model.parameters()[0].data).__name__
    return embed(lambda part: model.encode_image(to_backend(part, backend)), images, batch_size)


def embed_texts(model: Any, texts: list[str], tokenizer: Any, batch_size: int = 256) -> np.ndarray:
    """Return unit features of texts -> (N, E)."""
    parts = []
    with no_grad():
        for start in range(0, max(1, len(texts)), batch_size):
            features = model.encode_text(*tokenizer(texts[start : start + batch_size]))
            parts.append(to_host(features.data))
    return np.concatenate(parts)


def similarities(model: Any, images: np.ndarray, texts: list[str], tokenizer: Any) -> np.ndarray:
    """Return the cosine of each image (N, h, w, c) with each of M texts: (N, M)."""
    features = embed_images(model, images), embed_texts(model, texts, tokenizer)
    return np.asarray(model.similarity(*features))


def retrieval(
    model: Any, pairs: PairSet, tokenizer: Any, ks: tuple[int, ...] = (1, 5, 10)
) -> dict[str, float]:
    """Return recall at each k both ways, its chance level at 1, and the mean of both ways at 1 as `r1`; the model is put in eval mode.

    An image with several captions is found by any of them; a caption without an image is a
    distractor that images must not choose.
    """
    model.eval()
    return recalls(similarities(model, pairs.images, list(pairs.captions), tokenizer), pairs, ks)


def recalls(
    scores: np.ndarray,
    pairs: PairSet,
    ks: tuple[int, ...] = (1, 5, 10),
    *,
    to_images: np.ndarray | None = None,
) -> dict[str, float]:
    """Return what `retrieval` does for scores (N images, M captions) that are there already.

    `to_images` (M, N) are the captions' scores of images where these are a table of their own, as
    after re-ranking.
    """
    to_images = scores.T if to_images is None else to_images
    owner = np.asarray(pairs.image_of_caption)
    is_match = owner[None, :] == np.arange(len(pairs.images))[:, None]
    results = {}
    for k in ks:
        if k <= scores.shape[1]:
            results[f"image_to_text_r{k}"] = recall_at_k(scores, k, is_match)
        if k <= scores.shape[0]:
            results[f"text_to_image_r{k}"] = recall_at_k(to_images, k, is_match.T)
    results["r1"] = (results["image_to_text_r1"] + results["text_to_image_r1"]) / 2
    captions_each = is_match.sum(axis=1)
    results["chance_r1"] = (
        captions_each[captions_each > 0].mean() / scores.shape[1] + 1 / scores.shape[0]
    ) / 2
    return results


def swap_accuracy(right: np.ndarray, wrong: np.ndarray) -> float:
    """Return how often an image's right caption scores above a wrong one: right (N,), wrong (N,); a tie within rounding counts one half.

    A bag of words gives both captions of a swap the same score but for rounding, and so gets
    exactly one half.

    >>> swap_accuracy(np.array([1.0, 2.0]), np.array([0.0, 2.0]))
    0.75
    """
    tie = np.isclose(right, wrong, rtol=1e-5, atol=1e-6)
    return float(np.mean(np.where(tie, 0.5, right > wrong)))


def classifier_weights(
    model: Any, classes: tuple[str, ...], templates: tuple[str, ...], tokenizer: Any
) -> np.ndarray:
    """Return one unit vector a class: the mean of its prompts' features over the templates, normalized (§3.1.4): -> (C, E)."""
    prompts = [template.format(name) for name in classes for template in templates]
    features = (
        embed_texts(model, prompts, tokenizer)
        .reshape(len(classes), len(templates), -1)
        .mean(axis=1)
    )
    return features / np.linalg.norm(features, axis=-1, keepdims=True)


def chosen_class(scores: np.ndarray) -> np.ndarray:
    """Return the class of the highest score of each row, (N, C) -> (N,), and -1 for a row with a NaN.

    >>> chosen_class(np.array([[0.1, 0.7], [np.nan, 0.3]]))
    array([ 1, -1])
    """
    return np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))


def zero_shot(model: Any, task: ZeroShot, tokenizer: Any) -> dict[str, float]:
    """Return the accuracy of naming each image's class by its nearest prompt, beside the share of the most frequent class and 1/C.

    A NaN counts against the model, as in `recall_at_k`.
    """
    model.eval()
    weights = classifier_weights(model, task.classes, task.templates, tokenizer)
    chosen = chosen_class(np.asarray(model.similarity(embed_images(model, task.images), weights)))
    largest = np.bincount(task.targets, minlength=len(task.classes)).max() / len(task.targets)
    recalls = [np.mean(chosen[task.targets == c] == c) for c in np.unique(task.targets)]
    return {
        "accuracy": float(np.mean(chosen == task.targets)),
        "mean_class_accuracy": float(np.mean(recalls)),
        "largest_class": float(largest),
        "chance": 1 / len(task.classes),
    }


def linear_probe(
    features: np.ndarray,
    targets: np.ndarray,
    test_features: np.ndarray,
    test_targets: np.ndarray,
    penalty: float = 1e-3,
) -> float:
    """Return the test accuracy of a linear classifier on frozen features (N, E), trained by L-BFGS on cross-entropy (§3.2, Appendix A.3).

    DataError for features that are not finite: a fit to them means nothing.
    """
    from scipy.optimize import minimize

    for name, some in (("features", features), ("test features", test_features)):
        if rows_off := int((~np.isfinite(some).all(axis=1)).sum()):
            raise DataError(
                f"a linear probe fits finite features, and {rows_off} of {len(some)} {name} are "
                "not; look where the model's NaN is born"
            )
    classes = int(max(targets.max(), test_targets.max())) + 1
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    x = np.concatenate([(features - mean) / deviation, np.ones((len(features), 1))], axis=1).astype(
        np.float64
    )
    rows = np.arange(len(x))

    def loss_and_gradient(flat):
        w = flat.reshape(x.shape[1], classes)
        z = x @ w
        z -= z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        d = np.exp(log_p)
        d[rows, targets] -= 1
        return -log_p[rows, targets].mean() + penalty * np.sum(w * w), (
            x.T @ d / len(x) + 2 * penalty * w
        ).ravel()

    found = minimize(
        loss_and_gradient,
        np.zeros(x.shape[1] * classes),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 200},
    )
    test = np.concatenate(
        [(test_features - mean) / deviation, np.ones((len(test_features), 1))], axis=1
    )
    return float(np.mean(chosen_class(test @ found.x.reshape(x.shape[1], classes)) == test_targets))
