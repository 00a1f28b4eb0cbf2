"""The published properties of a model with a mask, and of a gradient, asked of our blocks, of BERT's stack, and of functions through our engine."""

import numpy as np
import pytest
from tiny import randomized

from tinymm import Tensor, no_grad
from tinymm.autodiff import ops
from tinymm.layers.transformer import Block
from tinymm.losses.contrastive import itc_loss
from tinymm.models.bert import Bert, BertConfig
from tinymm.testing import PropertyFailed, check


def blocks(dtype, *, leak=False):
    """Return two blocks as a function of arrays; with `leak` the second looks one token ahead."""
    stack = [
        randomized(Block(8, 2, rng=np.random.default_rng(seed))).astype(dtype) for seed in (0, 1)
    ]

    def run(x, mask):
        with no_grad():
            for i, block in enumerate(stack):
                x = block(x, mask | np.eye(mask.shape[-1], k=1, dtype=bool) if leak and i else mask)
        return x.data

    return run


def bert(dtype):
    model = randomized(Bert(BertConfig.tiny(), np.random.default_rng(0))).astype(dtype)

    def run(x, mask):
        with no_grad():
            return model.encode(x, mask).data

    return run, len(model.blocks), model.config.width


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_our_blocks_let_nothing_through_that_their_mask_closes(dtype):
    report = check.no_leak(blocks(dtype), layers=2, dtype=dtype, examples="quick")
    assert set(report.passed) == set(check.no_leak.suite.properties)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_berts_stack_lets_nothing_through_either(dtype):
    run, layers, width = bert(dtype)
    assert not check.no_leak(run, layers=layers, width=width, dtype=dtype, examples="quick").not_run


def test_a_leak_in_the_second_layer_is_found_from_outside():
    with pytest.raises(PropertyFailed, match="which it cannot reach") as failure:
        check.no_leak(blocks("float64", leak=True), layers=2, examples="quick")
    assert failure.value.failed == ("W01", "W04", "W05s")


def pulled(fn):
    """Return the vjp that our engine records for a function of Tensors."""

    def vjp(g, *arrays):
        inputs = [Tensor(x, requires_grad=True) for x in arrays]
        fn(*inputs).backward(np.asarray(g))
        return tuple(x.grad for x in inputs)

    return vjp


def valued(fn):
    def value(*arrays):
        with no_grad():
            return fn(*map(Tensor, arrays)).data

    return value


FUNCTIONS = {
    "softmax": (lambda x: ops.softmax(x), "(m,n)"),
    # A row of nearly equal numbers is divided by almost nothing: differences in float32 see no slope there, so eps is large.
    "layer norm": (lambda x, gain, bias: ops.layer_norm(x, gain, bias, eps=0.5), "(m,n),(n),(n)"),
    "a shared input": (lambda x, y: (x * y + np.tanh(x)) @ x.T, "(m,n),(m,n)"),
    "Figure 3's loss": (lambda S: itc_loss(S), "(3,3)"),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_our_engine_keep_every_property(name, dtype):
    fn, signature = FUNCTIONS[name]
    report = check.vjp(valued(fn), pulled(fn), signature=signature, dtype=dtype, examples="quick")
    assert set(report.passed) == set(check.vjp.suite.properties)
