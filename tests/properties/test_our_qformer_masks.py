"""The published properties of the Q-Former's masks and of its best query, asked of ours, and of PyTorch's words for the same."""

import numpy as np
import pytest
from tiny_arrays import OfArrays

from tinymm.layers import masks
from tinymm.layers.masks import bidirectional_mask, multimodal_causal_mask, unimodal_mask
from tinymm.losses import itc_loss, max_over_queries
from tinymm.testing import PropertyFailed, check, on_torch

OURS = {"itc": unimodal_mask, "itg": multimodal_causal_mask, "itm": bidirectional_mask}
DTYPES = ["float64", "float32"]


def mask(Q, is_real, objective):
    return OURS[objective](Q, is_real)


@pytest.mark.parametrize("examples", ["ci", pytest.param("deep", marks=pytest.mark.slow)])
@pytest.mark.parametrize("rows", ["same", "any"])
def test_our_masks_keep_every_property(rows, examples):
    report = check.qformer_masks(mask, rows_of_padding=rows, examples=examples)
    assert set(report.passed) == set(check.qformer_masks.suite.properties) and not report.not_run


@pytest.mark.parametrize(
    "name, broken, caught",
    [
        ("prefix_mask", lambda prefix, T: np.tri(T, dtype=bool), "Q02"),
        (
            "prefix_mask",
            lambda prefix, T: np.tri(T, k=1, dtype=bool) | (np.arange(T) < prefix),
            "Q03",
        ),
        ("prefix_mask", lambda prefix, T: np.ones((T, T), dtype=bool), "Q05"),
        ("padding_mask", lambda is_real: np.roll(is_real, 1, axis=1)[:, None, None, :], "Q07"),
        (
            "padding_mask",
            lambda is_real: np.ones((len(is_real), 1, 1, is_real.shape[1]), dtype=bool),
            "Q07",
        ),
        (
            "padding_mask",
            lambda is_real: is_real[:, None, :, None] & np.ones(is_real.shape[1], dtype=bool),
            "Q07",
        ),
    ],
)
def test_breaking_what_the_masks_are_made_of_breaks_a_property(name, broken, caught, monkeypatch):
    monkeypatch.setattr(masks, name, broken)
    with pytest.raises(PropertyFailed) as failure:
        check.qformer_masks(mask, rows_of_padding="same", examples="quick")
    assert caught in failure.value.failed


@pytest.mark.parametrize("examples", ["quick", pytest.param("deep", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_best_query_speaks_for_its_picture(dtype, examples):
    report = check.max_over_queries(OfArrays(max_over_queries), dtype=dtype, examples=examples)
    assert set(report.passed) == set(check.max_over_queries.suite.properties)


@pytest.mark.parametrize("dtype", DTYPES)
def test_with_one_query_itc_is_a_contrastive_loss(dtype):
    """ITC has CLIP's properties, gradients included; a batch of one, which it refuses, costs nothing here."""

    def loss(I, T, scale):
        similarities = scale * max_over_queries(np.reshape(I, (len(I), 1, -1)), T)
        return itc_loss(similarities) if len(I) > 1 else np.sum(0 * similarities)

    report = check.contrastive_loss(OfArrays(loss), dtype=dtype, examples="quick")
    assert {"C02", "C08", "C11", "C15"} <= set(report.passed)


@pytest.mark.parity
def test_the_masks_of_a_two_dimensional_attention_mask_pass(torch):
    """The original builds its masks of the tokenizer's 0/1 numbers, and lets the queries look from a cache that never saw the text."""

    def made(Q, is_real, objective):
        B, T = is_real.shape
        here = (
            torch.cat([torch.ones(B, Q, dtype=torch.bool), is_real], dim=1)[:, None, None, :]
            .expand(B, 1, Q + T, Q + T)
            .clone()
        )
        if objective != "itm":
            here[:, :, :Q, Q:] = False
        if objective == "itc":
            here[:, :, Q:, :Q] = False
        if objective == "itg":
            here[:, :, Q:, Q:] &= torch.ones(T, T, dtype=torch.bool).tril()
        return here

    assert not check.qformer_masks(on_torch(made), rows_of_padding="same").not_run


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_best_query_of_torch_passes_with_its_gradient(torch, dtype):
    def scores(image, text):
        image, text = (torch.nn.functional.normalize(x, dim=-1) for x in (image, text))
        return torch.einsum("bqe,ce->bqc", image, text).max(dim=1).values

    assert "X10" in check.max_over_queries(on_torch(scores), dtype=dtype, examples="quick").passed
