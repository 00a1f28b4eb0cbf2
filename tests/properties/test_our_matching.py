"""The published properties of hard negatives, of ITM's pairs and of its loss, asked of ours and of PyTorch's words for the same."""

import numpy as np
import pytest
from tiny_arrays import OfArrays

from tinymm.losses import ITM_PRIOR, hard_negatives, itm_loss, itm_pairs, matching
from tinymm.testing import PropertyFailed, check, on_torch

DTYPES = ["float64", "float32"]
EXAMPLES = ["ci", pytest.param("deep", marks=pytest.mark.slow)]


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_our_hard_negatives_keep_every_property(dtype, examples):
    report = check.hard_negatives(hard_negatives, dtype=dtype, examples=examples)
    assert set(report.passed) == set(check.hard_negatives.suite.properties), "the strict tier ran"


@pytest.mark.parametrize("examples", EXAMPLES)
def test_our_pairs_keep_every_property(examples):
    assert check.itm_pairs(itm_pairs, examples=examples).passed == ("N07", "N08", "N09")


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_our_loss_keeps_every_property_with_queries_and_without(dtype, examples):
    assert not check.itm_loss(OfArrays(itm_loss), dtype=dtype, examples=examples).not_run
    assert set(
        check.itm_loss(OfArrays(itm_loss), queries=False, dtype=dtype, examples=examples).not_run
    ) == {"N10b"}


def test_the_prior_is_the_loss_of_one_in_three():
    assert ITM_PRIOR == pytest.approx(-(np.log(1 / 3) + 2 * np.log(2 / 3)) / 3, abs=1e-15)


@pytest.mark.parametrize(
    "broken, caught",
    [
        (lambda logits, rng: logits.argmax(axis=1), "N13"),
        (lambda logits, rng: np.argmax(logits / 2 + rng.gumbel(size=logits.shape), axis=1), "N13"),
        (
            lambda logits, rng: np.argmax(
                logits + np.random.default_rng(0).gumbel(size=logits.shape), axis=1
            ),
            "N13",
        ),
        (lambda logits, rng: np.argmax(rng.gumbel(size=logits.shape), axis=1), "N01"),
        (lambda logits, rng: np.argmax(logits.T + rng.gumbel(size=logits.shape), axis=1), "N03"),
    ],
)
def test_breaking_the_draw_breaks_a_property(broken, caught, monkeypatch):
    monkeypatch.setattr(matching, "_draw", broken)
    with pytest.raises(PropertyFailed) as failure:
        check.hard_negatives(hard_negatives, examples="quick")
    assert caught in failure.value.failed


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
def test_multinomial_draws_of_torch_pass(torch, dtype):
    def drawn(S, ids, rng):
        same = ids[:, None] == ids
        if same.all():
            raise ValueError("row 0 has no candidate")
        dice = torch.Generator().manual_seed(int(rng.integers(2**31)))
        weights = (scores.masked_fill(same, -torch.inf).softmax(dim=1) for scores in (S.T, S))
        return tuple(torch.multinomial(w, 1, generator=dice)[:, 0] for w in weights)

    assert not check.hard_negatives(on_torch(drawn), dtype=dtype, examples="quick").not_run


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_of_torch_s_mean_logits_passes(torch, dtype):
    def loss(logits, labels):
        return torch.nn.functional.cross_entropy(logits.mean(dim=1), labels)

    assert not check.itm_loss(on_torch(loss), dtype=dtype, examples="quick").not_run
