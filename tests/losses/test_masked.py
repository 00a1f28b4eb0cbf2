"""Hidden words and their loss: what is refused, with numbers and the way out; what they promise is asked by the published properties."""

import numpy as np
import pytest

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.losses import mask_words, masked_language_loss

IDS, SPECIAL = (
    np.array([[1, 2, 3], [1, 4, 0]]),
    np.array([[True, False, False], [True, False, True]]),
)
LOGITS, LABELS = np.zeros((2, 3, 5)), np.array([[-100, 2, -100], [-100, 4, -100]])


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    "special, kind",
    [
        (SPECIAL[:, :2], r"bool \(2, 2\)"),
        (SPECIAL[0], r"bool \(3,\)"),
        (SPECIAL.astype(int), r"int64 \(2, 3\)"),
    ],
)
def test_each_word_has_a_boolean_mark(special, kind):
    with pytest.raises(
        ShapeError,
        match=rf"takes ids \(B, T\) and a boolean mark for each, and \(2, 3\) with {kind} came",
    ):
        mask_words(IDS, special, 5, 4, 0.15, rng())


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_the_hidden_share_is_a_share(p):
    with pytest.raises(
        DataError,
        match=rf"hides a share p in \[0, 1\] of the words, and {p} came; the papers have 0.15",
    ):
        mask_words(IDS, SPECIAL, 5, 4, p, rng())


@pytest.mark.parametrize(
    "logits, labels",
    [
        ((2, 3), (2, 3)),
        ((2, 2, 5), (2, 3)),
        ((2, 3, 5), (2, 2)),
        ((3, 2, 5), (2, 3)),
        ((2, 3, 5, 1), (2, 3)),
    ],
)
def test_shapes_are_refused_with_both(logits, labels):
    came = " with ".join(rf"\({', '.join(map(str, shape))}\)" for shape in (logits, labels))
    with pytest.raises(
        ShapeError, match=rf"takes logits \(B, T, V\) and labels \(B, T\), and {came} came"
    ):
        masked_language_loss(np.zeros(logits), np.full(labels, 1))


def test_where_nothing_is_asked_there_is_no_loss():
    with pytest.raises(
        DataError,
        match="none of 6 places is asked for; hide at least one word, or leave the loss out",
    ):
        masked_language_loss(LOGITS, np.full((2, 3), -100))


@pytest.mark.parametrize("wrong, least, most", [(5, 2, 5), (-1, -1, 2), (-99, -99, 2)])
def test_labels_are_tokens_of_the_vocabulary(wrong, least, most):
    labels = LABELS.copy()
    labels[1, 1] = wrong
    with pytest.raises(
        DataError,
        match=rf"labels lie in \[0, 5\) and {least} to {most} came; use the model's own tokenizer",
    ):
        masked_language_loss(LOGITS, labels)
