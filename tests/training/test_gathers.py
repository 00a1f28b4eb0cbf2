"""Gathers over ranks: the right schemes are exact, and the wrong ones wrong by as much as was found in others' code."""

import re
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.arrays.errors import UsageError
from tinymm.losses import itc_loss, l2_normalize, local_itc_loss
from tinymm.training.gathers import SCHEMES, gradient_errors, table
from tinymm.training.parallel import gather_over
from tinymm.training.ranks import shard_slice, simulate, split_sizes

RIGHT = [name for name in SCHEMES if "with gradient" in name or "summed" in name]


@settings(max_examples=8)
@given(ranks=st.integers(2, 5), pairs=st.integers(1, 4), seed=st.integers(0, 99))
def test_right_schemes_are_exact_and_wrong_ones_are_not(ranks, pairs, seed):
    found = gradient_errors(ranks, pairs, seed)
    assert len(RIGHT) == 3
    for name, one in found.items():
        assert one["scale"] < 1e-11, name
        if name in RIGHT:
            assert one["encoders"] < 1e-11, name
        else:
            assert one["encoders"] > 0.01, name


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_the_global_loss_with_its_own_slice_is_a_factor_n_short(ranks):
    one = gradient_errors(ranks, 3)["all rows on each rank, gradient through the own slice"]
    assert one["length"] == pytest.approx(1 / ranks, abs=1e-12) and one[
        "encoders"
    ] == pytest.approx(1 - 1 / ranks, abs=1e-12)


def test_detached_features_cost_half_of_the_gradient_at_four_ranks_of_three():
    errors = [
        gradient_errors(4, 3, seed)["own rows, gathered features detached"] for seed in range(5)
    ]
    assert 0.4 < np.mean([one["encoders"] for one in errors]) < 0.6 and np.mean(
        [one["length"] for one in errors]
    ) == pytest.approx(0.5, abs=0.05)


def test_the_page_has_the_computed_table():
    page = (Path(__file__).parents[2] / "docs" / "parallel.md").read_text()
    for line in table():
        assert line in page, line
    assert len(re.findall(r"exact \|\n|\d+% \|", page)) >= len(SCHEMES) - 1


@settings(max_examples=15)
@given(size=st.integers(1, 4), pairs=st.integers(2, 9), seed=st.integers(0, 99))
def test_local_losses_add_up_to_the_whole_loss_with_all_its_gradients(size, pairs, seed):
    """Ranks of unequal numbers of pairs too, where a mean over ranks of means over rows is another number."""
    rng = np.random.default_rng(seed)
    leaves = [Tensor(rng.standard_normal((pairs, 5)), requires_grad=True) for _ in range(2)] + [
        Tensor(np.array(3.0), requires_grad=True)
    ]
    whole = itc_loss(np.dot(l2_normalize(leaves[0]), l2_normalize(leaves[1]).T) * leaves[2])
    whole.backward()
    counts = split_sizes(pairs, size)

    def work(here):
        own = shard_slice(counts, here.rank)
        I, T = (Tensor(leaf.data[own].copy(), requires_grad=True) for leaf in leaves[:2])
        scale = deepcopy(leaves[2].detach())
        scale.requires_grad = True
        loss = local_itc_loss(l2_normalize(I), l2_normalize(T), scale, own.start, gather_over(here))
        loss.backward()
        return loss.item(), I.grad, T.grad, scale.grad

    if (
        min(counts) == 0
    ):  # `threads` gives such a rank nothing to do, but a loss of its own is a mean over nothing
        with pytest.raises(
            UsageError, match="of at least 1 pair and 0 came; give each rank a part of the batch"
        ):
            simulate(size, work)
        return
    found = simulate(size, work)
    assert sum(loss for loss, *_ in found) == pytest.approx(whole.item(), abs=1e-12)
    for i in (0, 1):
        np.testing.assert_allclose(
            np.concatenate([one[1 + i] for one in found]), leaves[i].grad, rtol=1e-10, atol=1e-12
        )
    np.testing.assert_allclose(sum(one[3] for one in found), leaves[2].grad, rtol=1e-10, atol=1e-12)
