"""The published properties of masks, asked of our masks."""

import operator

import pytest

from tinymm.layers import causal_mask, padding_mask, prefix_mask, reachability
from tinymm.testing import check

CASES = {
    "causal": (check.causal_mask, causal_mask, {}),
    "padding": (check.padding_mask, padding_mask, {"rows": "same", "pad_side": "any"}),
    "prefix": (check.prefix_mask, prefix_mask, {}),
    "algebra": (check.mask_algebra, operator.and_, {}),
    "reachability": (check.reachability, reachability, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_our_masks_keep_every_property(name):
    suite, fn, contract = CASES[name]
    report = suite(fn, **contract)
    assert set(report.passed) == set(suite.suite.properties) and not report.not_run
