"""Image-text matching: what it refuses, with numbers and the way out; what it promises is asked by the published properties."""

import numpy as np
import pytest

from tinymm.arrays.errors import DataError, ShapeError
from tinymm.autodiff import gradcheck
from tinymm.losses import hard_negatives, itm_loss, itm_pairs


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    "similarities, ids", [((3, 4), 3), ((3, 3), 4), ((4, 3), 3), ((3,), 3), ((3, 3, 1), 3)]
)
def test_hard_negatives_need_a_square_and_an_id_for_each_pair(similarities, ids):
    shapes = rf"similarities \(B, B\) and image_ids \(B,\), and \({', '.join(map(str, similarities))},?\) with \({ids},\) came; one of each"
    with pytest.raises(ShapeError, match=shapes):
        hard_negatives(np.zeros(similarities), np.arange(ids), rng())


@pytest.mark.parametrize("ids", [[5], [5, 5, 5]])
def test_a_batch_of_one_picture_has_no_negatives(ids):
    row = rf"pair 0 has no candidate, because all {len(ids)} pictures of the batch have its id 5; make batches of at least two different"
    with pytest.raises(DataError, match=row):
        hard_negatives(np.zeros((len(ids), len(ids))), np.array(ids), rng())


def test_rows_that_nobody_knows_are_two_pictures():
    ids, similarities = np.array([-100, -100, 3, 3]), np.full((4, 4), -30.0)
    similarities[:2, :2] = similarities[2:, 2:] = 30.0
    for image_for_text, text_for_image in (
        hard_negatives(similarities, ids, np.random.default_rng(seed)) for seed in range(5)
    ):
        assert (
            image_for_text[:2].tolist() == text_for_image[:2].tolist() == [1, 0]
        )  # each is the other's likeliest wrong answer
        assert {*image_for_text[2:], *text_for_image[2:]} <= {0, 1}
    assert sorted(hard_negatives(np.zeros((2, 2)), np.array([-100, -100]), rng())[0]) == [0, 1]


def test_pairs_need_both_draws():
    with pytest.raises(
        ShapeError,
        match=r"a text for each picture, and \(3,\) with \(2,\) came; draw both for the same batch",
    ):
        itm_pairs(np.array([1, 2, 0]), np.array([1, 0]))


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 1), (2,), (4, 1, 5, 2)])
def test_the_head_has_two_outputs(shape):
    came = rf"logits \(n, 2\) or \(n, Q, 2\), and \({', '.join(map(str, shape))},?\) came; the head has two outputs"
    with pytest.raises(ShapeError, match=came):
        itm_loss(np.zeros(shape), np.zeros(4, int))


def test_labels_are_checked_by_the_cross_entropy():
    with pytest.raises(
        ShapeError, match=r"need labels \(4,\) and \(3,\) came; give one label for each row"
    ):
        itm_loss(np.zeros((4, 5, 2)), np.zeros(3, int))
    with pytest.raises(
        DataError, match=r"labels lie in \[0, 2\) and 0 to 2 came; check the class list"
    ):
        itm_loss(np.zeros((3, 2)), np.array([0, 1, 2]))
    with pytest.raises(
        DataError, match=r"numbers of classes, and float64 came; write labels.astype\(int\)"
    ):
        itm_loss(np.zeros((3, 2)), np.array([0.0, 1.0, 1.0]))


@pytest.mark.parametrize("shape", [(4, 2), (4, 3, 2)])
def test_its_gradient_is_the_measured_slope(shape):
    gradcheck(
        lambda x: itm_loss(x, np.array([1, 0, 0, 1])),
        rng().standard_normal(shape),
        rng=rng(),
        directions=2,
    )
