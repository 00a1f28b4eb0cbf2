"""The graph's picture: the numbers of the walk are those of backward, and the graph is not used up by looking."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.arrays.errors import UsageError
from tinymm.viz.graph import graph, walk


def made(rng, n):
    """Return leaves and a result of n random steps over what is there."""
    leaves = [Tensor(rng.normal(), requires_grad=True) for _ in range(3)]
    numbers = list(leaves)
    for _ in range(n):
        a, b = (numbers[i] for i in rng.integers(len(numbers), size=2))
        numbers.append((a + b, a - b, a * b)[rng.integers(3)])
    result = numbers[-1]
    return leaves, result if result.made_by else result + leaves[0]


@given(st.integers(1, 8), st.integers(0, 999))
def test_the_walk_finds_backwards_gradients_and_uses_nothing_up(n, seed):
    leaves, result = made(np.random.default_rng(seed), n)
    order, gradients, added = walk(result)
    assert len({*order}) == len(order) and order[-1] is result
    for node in order[:-1]:
        np.testing.assert_allclose(
            gradients[node], sum(amount for _, x, amount in added if x is node)
        )
    result.backward()
    for leaf in leaves:
        np.testing.assert_allclose(
            gradients.get(leaf, 0.0), 0.0 if leaf.grad is None else leaf.grad
        )


def test_the_picture_tells_every_addition():
    a, b, c = (Tensor(v, requires_grad=True) for v in (2.0, 3.0, 1.0))
    figure = graph((a * b + c) * (a - c), {"a": a, "b": b, "c": c}, title="Twice")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert {"3: 7", "7: 3", "grad 10", "a"} <= set(words) and figure.alt.endswith(
        "Gradients: a 10, b 2, c -6."
    )
    assert len(figure.table.splitlines()) == 1 + 8
    twice = {
        text.get_color() for text in figure.axes[0].texts if text.get_text() in ("3: 7", "7: 3")
    }
    assert len(twice) == 1 and twice != {
        text.get_color() for text in figure.axes[0].texts if text.get_text() == "8: 2"
    }


def test_arrays_and_crowds_are_refused():
    with pytest.raises(UsageError, match="the largest of size 3; take scalars, and fewer"):
        graph(Tensor(np.ones(3), requires_grad=True).sum(), {}, title="x")
    x = Tensor(1.0, requires_grad=True)
    for _ in range(30):
        x = x + 1.0
    with pytest.raises(UsageError, match="at most 24 numbers, and 31 Tensors came"):
        graph(x, {}, title="x")
