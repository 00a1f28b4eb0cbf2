"""Every op of the catalogue keeps the laws of `op_checks`; nothing is listed by hand: a new op is tested the moment it is declared."""

import inspect

import numpy as np
import op_checks
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.autodiff import CATALOGUE

OPS = sorted(CATALOGUE)
APART = (
    np.split,
    np.diag,
    np.diagonal,
    np.trace,
)  # what they pick is no argument of theirs: see test_values
SPELLINGS = [
    (name, f) for name in OPS for f in CATALOGUE[name].answers if callable(f) and f not in APART
]


@pytest.mark.parametrize("name", OPS)
@given(data=st.data())
def test_laws(name, data):
    op = CATALOGUE[name]
    example = data.draw(op_checks.examples(op))
    for check in op_checks.CHECKS.values():
        check(op, example)


@pytest.mark.parametrize("name", OPS)
def test_value_and_gradients_are_numpys_wherever_arrays_live(name, backend):
    """The catalogue on a real GPU, where one is (`pytest -m gpu`); elsewhere on the strict stand-in."""
    for example in op_checks.fixed_examples(CATALOGUE[name]):
        op_checks.check_device(CATALOGUE[name], example, backend)


@pytest.mark.parametrize(
    ("name", "function"), SPELLINGS, ids=[f"{f.__name__}" for _, f in SPELLINGS]
)
def test_numpy_spelling(name, function):
    """`np.tanh(t)` is the op, and NumPy's own result on the bare arrays, in value and gradient."""
    op, found = CATALOGUE[name], 0
    for example in op_checks.fixed_examples(op):
        call = op_checks._call(op, example.options)
        value = call(*example.arrays).data
        way = op_checks.spelled(function, example, value)
        if way is None:
            continue
        found += 1
        g = op_checks.cotangent(value, example.rng)
        expected, spelled = (
            op_checks.gradients(call, example.arrays, g),
            op_checks.gradients(way, example.arrays, g),
        )
        np.testing.assert_array_equal(spelled[0], expected[0])
        for a, b in zip(spelled[1], expected[1], strict=True):
            np.testing.assert_array_equal(a, b)
    assert found, f"no example of {name} is a call that np.{function.__name__} understands"


@pytest.mark.parametrize("name", OPS)
def test_declaration_can_be_tested(name):
    """An op has shapes to test with, from a signature or from cases, and one sentence of documentation."""
    op = CATALOGUE[name]
    assert op.signature is not None or op.cases, f"{name} needs a signature or cases"
    assert inspect.getdoc(op).split("\n")[0].endswith((".", ":", ","))
    assert repr(op).startswith(f"<op {name}")


@pytest.mark.parametrize("name", OPS)
def test_constant_result_is_remembered_by_nobody(name):
    """Without a Tensor that asks for a gradient, an op leaves no trace."""
    op = CATALOGUE[name]
    example = op_checks.fixed_examples(op)[0]
    y = op(*example.arrays, **example.options)
    assert type(y) is Tensor and y.made_by is None and not y.requires_grad
