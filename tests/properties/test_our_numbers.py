"""The published properties of attention, the softmax family and layer norm, asked of our ops and layers in both precisions."""

import sys

import numpy as np
import pytest
from tiny_arrays import OfArrays

from tinymm.autodiff import ops
from tinymm.autodiff.ops.fused import layer_norm_definition
from tinymm.layers import CrossAttention, LayerNorm, attention, record_attention
from tinymm.testing import check


def weights(q, k, v, mask):
    with record_attention() as maps:
        attention(q, k, v, mask)
    return maps[0]


def step(q, k, v, cache):
    keys, values = (
        (k, v)
        if cache is None
        else (np.concatenate(pair, axis=-2) for pair in zip(cache, (k, v), strict=True))
    )
    return attention(q, keys, values, np.ones((1, keys.shape[-2]), bool)).data, (keys, values)


def multihead(q, k, v, mask, H):
    """Run our layer with projections that leave things as they are: keys and values come side by side as its memory."""
    W = q.shape[-1]
    layer = CrossAttention(W, H, rng=np.random.default_rng(0), encoder_width=2 * W)
    one, nothing = np.eye(W, dtype=q.dtype), np.zeros((W, W), q.dtype)
    for linear, weight in (
        (layer.query, one), (layer.key, np.concatenate([one, nothing])), (layer.value, np.concatenate([nothing, one])), (layer.output, one)
    ):  # fmt: skip
        linear.weight.data, linear.bias.data = weight, np.zeros(W, q.dtype)
    return layer(q, np.concatenate([k, v], axis=-1), mask).data


def in_blocks(q, k, v, mask):
    """Attend two queries and three keys at a time."""
    kernel = sys.modules["tinymm.autodiff.ops.long_attention"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "SCORES", 6)
        patch.setattr(kernel, "QUERIES", 2)
        return ops.blockwise_attention(q, k, v, may_attend=mask)


def layer(x, gain, bias, eps):
    norm = LayerNorm(x.shape[-1], eps)
    norm.weight, norm.bias = gain, bias
    return norm(x)


CASES = {
    "attention": (
        check.attention,
        OfArrays(attention),
        {"weights": weights, "step": step, "multihead": multihead},
    ),
    "attention of matrices": (check.attention, OfArrays(attention), {"leading": 0}),
    "attention in blocks": (check.attention, OfArrays(in_blocks), {}),
    "softmax": (check.softmax, OfArrays(ops.softmax), {}),
    "softmax of columns": (check.softmax, OfArrays(lambda x: ops.softmax(x, axis=0)), {"axis": 0}),
    "log_softmax": (check.log_softmax, OfArrays(ops.log_softmax), {}),
    "masked_softmax": (
        check.masked_softmax,
        OfArrays(lambda x, mask: ops.masked_softmax(x, may_attend=mask)),
        {},
    ),
    "layer norm": (
        check.layer_norm,
        OfArrays(lambda x, gain, bias, eps: ops.layer_norm(x, gain, bias, eps=eps)),
        {},
    ),
    "layer norm, defined": (check.layer_norm, OfArrays(layer_norm_definition), {}),
    "layer norm, the layer": (check.layer_norm, OfArrays(layer), {}),
}
#: What is not run, because the contract says otherwise or we have no such function.
OTHERS = {"A17", "A18", "A20a", "A20b", "A20c"}
NOT_RUN = {"attention of matrices": {"A16", "M18", *OTHERS}, "attention in blocks": OTHERS}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_our_functions_keep_every_property(name, dtype):
    suite, fn, contract = CASES[name]
    report = suite(fn, dtype=dtype, examples="quick", **contract)
    assert set(report.not_run) == NOT_RUN.get(name, set())
    assert {key for key in suite.suite.properties if key.endswith("s")} <= set(report.passed), (
        "the strict tier ran"
    )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_they_keep_them_in_two_thousand_cases(name, dtype):
    suite, fn, contract = CASES[name]
    suite(fn, dtype=dtype, examples="deep", **contract)
