"""ITC's loss and targets beside what the published properties say: what is refused, and targets of several captions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.losses import cross_entropy_loss, itc_loss, itc_targets, max_over_queries


@pytest.mark.parametrize("I, T", [((3, 4), (2, 4)), ((3, 2, 4), (2, 5)), ((3, 2, 4), (4,)), ((3, 2, 4), (3, 2, 4))])
def test_the_best_query_needs_both_widths_alike(I, T):
    came = " with ".join(rf"\({', '.join(map(str, shape))},?\)" for shape in (I, T))
    with pytest.raises(ShapeError, match=rf"queries \(B, Q, E\) and texts \(C, E\), and {came} came; E is the joint width"):
        max_over_queries(np.ones(I), np.ones(T))


def test_a_batch_of_one_has_nothing_to_tell_apart():
    with pytest.raises(UsageError, match="needs at least 2 pairs and 1 came: with nothing to tell apart its loss is always 0; raise the batch size"):
        itc_loss(np.ones((1, 1)))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.sampled_from([0.0, 0.1, 1.0]))
def test_captions_of_one_picture_share_its_target(ids, smoothing):
    targets, ids = itc_targets(np.array(ids), smoothing), np.array(ids)
    same = ids[:, None] == ids
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(targets, targets.T, atol=1e-12)
    np.testing.assert_allclose(targets[~same], smoothing / len(ids), atol=1e-12)
    np.testing.assert_allclose(targets[same], ((1 - smoothing) / same.sum(axis=1, keepdims=True) * same + smoothing / len(ids))[same], atol=1e-12)


@given(st.integers(2, 6), st.integers(0, 9999))
def test_with_distinct_pictures_it_is_the_mean_of_two_cross_entropies(n, seed):
    S, own = np.random.default_rng(seed).standard_normal((n, n)), np.arange(n)
    halves = (cross_entropy_loss(S, own, axis=0).item() + cross_entropy_loss(S, own, axis=1).item()) / 2
    assert itc_loss(S).item() == pytest.approx(halves, abs=1e-12)
    assert itc_loss(S, 7 * own).item() == pytest.approx(halves, abs=1e-12)
