"""The language loss: what it refuses, with numbers and the way out; what it promises is asked by the published properties."""

import numpy as np
import pytest

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.autodiff import gradcheck
from tinymm.losses import language_loss

LOGITS, IDS = np.zeros((2, 3, 5)), np.array([[1, 2, 3], [1, 4, 0]])
REAL = np.ones((2, 3), dtype=bool)


@pytest.mark.parametrize(
    "logits, ids, is_real",
    [
        ((2, 3), (2, 3), (2, 3)),
        ((2, 2, 5), (2, 3), (2, 3)),
        ((2, 3, 5), (2, 2), (2, 3)),
        ((2, 3, 5), (2, 3), (2, 2)),
        ((3, 2, 5), (2, 3), (2, 3)),
    ],
)
def test_shapes_are_refused_with_all_three(logits, ids, is_real):
    came = ", ".join(rf"\({', '.join(map(str, shape))}\)" for shape in (logits, ids, is_real))
    with pytest.raises(
        ShapeError, match=rf"is_real \(B, T\), and {came} came; the shift by one happens inside"
    ):
        language_loss(np.zeros(logits), np.zeros(ids, int), np.ones(is_real, bool))


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, float("nan")])
def test_a_smoothing_is_a_share(smoothing):
    with pytest.raises(
        DataError, match=rf"smoothing lies in \[0, 1\] and {smoothing} came; 0 switches it off"
    ):
        language_loss(LOGITS, IDS, REAL, smoothing)


@pytest.mark.parametrize(
    "is_real, size", [(REAL & False, 6), (REAL & [True, False, False], 6), (REAL[:, :1], 2)]
)
def test_without_a_target_there_is_no_loss(is_real, size):
    T = is_real.shape[1]
    with pytest.raises(
        DataError,
        match=rf"a target is a real token after the first, and none of {size} is; check is_real, or the prompt's length",
    ):
        language_loss(LOGITS[:, :T], IDS[:, :T], is_real)


@pytest.mark.parametrize("wrong, least, most", [(5, 2, 5), (-100, -100, 4)])
def test_targets_are_tokens_of_the_vocabulary(wrong, least, most):
    ids = IDS.copy()
    ids[1, 2] = wrong
    with pytest.raises(
        DataError,
        match=rf"targets lie in \[0, 5\) and {least} to {most} came; use the model's own tokenizer",
    ):
        language_loss(LOGITS, ids, REAL)
    hidden = REAL.copy()
    hidden[1, 2] = False
    assert language_loss(LOGITS, ids, hidden).item() == pytest.approx(np.log(5)), (
        "what is not real may hold any id"
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_its_gradient_is_the_measured_slope(smoothing):
    logits, is_real = (
        np.random.default_rng(0).standard_normal((2, 3, 5)),
        np.array([[True, True, True], [True, True, False]]),
    )
    gradcheck(
        lambda x: language_loss(x, IDS, is_real, smoothing),
        logits,
        rng=np.random.default_rng(1),
        directions=2,
    )
