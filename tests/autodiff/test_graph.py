"""Backward, recording and what a Tensor is, apart from any single op."""

import contextvars
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm import Tensor, no_grad
from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import GraphError
from tinymm.autodiff import CATALOGUE, Op, detect_anomaly, gradcheck


def leaf(*numbers):
    return Tensor(np.array(numbers, float), requires_grad=True)


# ---------------------------------------------------------------------- backward
def test_an_input_used_twice_gets_both_shares():
    a = leaf(3.0, -1.0)
    (a * a).backward(np.ones(2))
    np.testing.assert_array_equal(a.grad, 2 * a.data)


def test_diamonds_are_visited_once():
    """b = a + a, c = b + b, …: 2⁴⁰ paths, 40 steps."""
    a = leaf(1.0)
    y = a
    for _ in range(40):
        y = y + y
    y.backward()
    assert a.grad == 2.0**40


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),
            st.integers(0, 9),
            st.sampled_from(["add", "multiply", "maximum", "tanh"]),
        ),
        max_size=12,
    ),
    st.integers(0, 99),
)
def test_random_graphs(steps, seed):
    """Any way of wiring ops together has the gradient that differences measure."""

    def run(*leaves):
        values = list(leaves)
        for i, j, name in steps:
            arguments = (
                (values[i % len(values)],)
                if name == "tanh"
                else (values[i % len(values)], values[j % len(values)])
            )
            values.append(
                np.tanh(CATALOGUE[name](*arguments).data)
                if not isinstance(arguments[0], Tensor)
                else np.tanh(CATALOGUE[name](*arguments))
            )
        return sum(np.sum(v * (k + 1)) for k, v in enumerate(values))

    rng = np.random.default_rng(seed)
    gradcheck(run, rng.standard_normal(3), rng.standard_normal((2, 3)), rng=rng, tolerance=1e-5)


def test_a_graph_of_20000_ops_needs_no_recursion():
    x = leaf(1.0)
    y = x
    for _ in range(20_000):
        y = y + 1.0
    y.backward()
    assert x.grad == 1.0
    del y
    gc.collect()


def test_a_graph_that_nobody_walks_is_freed_without_recursion():
    y = leaf(1.0)
    for _ in range(20_000):
        y = y + 1.0
    del y
    gc.collect()


def test_gradients_accumulate_over_passes():
    x = leaf(1.0, 2.0)
    np.sum(x * x).backward()
    np.sum(x).backward()
    np.testing.assert_array_equal(x.grad, 2 * x.data + 1)


def test_inner_results_have_no_grad():
    x = leaf(1.0)
    y = x * 2.0
    z = y * 3.0
    z.backward()
    assert y.grad is None and z.grad is None and x.grad == 6.0


def test_frozen_inputs_get_nothing():
    x, frozen = leaf(2.0), Tensor([3.0])
    (x * frozen).backward()
    assert x.grad == 3.0 and frozen.grad is None


def test_gradient_can_be_given():
    x = leaf(1.0, 2.0)
    (x * 2.0).backward(np.array([1.0, 10.0]))
    np.testing.assert_array_equal(x.grad, [2.0, 20.0])


def test_a_leaf_is_its_own_gradient():
    x, g = leaf(1.0, 2.0), np.array([3.0, 4.0])
    x.backward(g)
    np.testing.assert_array_equal(x.grad, g)
    assert x.grad is not g


def test_every_gradient_is_an_array_of_its_own():
    """Two leaves of a sum, or all entries of one, share no memory: scaling one gradient in place leaves the others alone."""
    a, b, c = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0)
    g = np.ones(2)
    (a + b).backward(g)
    np.sum(c).backward()
    a.grad *= 10
    c.grad *= 10
    np.testing.assert_array_equal(b.grad, [1.0, 1.0])
    np.testing.assert_array_equal(g, [1.0, 1.0])
    assert c.grad == 10.0


@pytest.mark.parametrize("name", ["into", "grad"])
def test_gradient_of_one_number_is_an_array(name, backend):
    x = Tensor(to_backend(np.array(2.0, np.float32), backend), requires_grad=True)
    store = {} if name == "into" else None
    (x * x).backward(into=store)
    grad = x.grad if store is None else store[x]
    assert (
        type(grad) is type(x.data)
        and grad.shape == ()
        and grad.dtype == np.float32
        and float(to_host(grad)) == 4.0
    )


def test_gradient_has_the_leafs_dtype():
    x, y = (
        Tensor(np.ones(3, np.float32), requires_grad=True),
        Tensor(np.ones(3), requires_grad=True),
    )
    np.sum(x * y).backward()
    assert (x.grad.dtype, y.grad.dtype) == (np.float32, np.float64)
    x.grad = None
    np.astype(x, np.dtype("float64")).backward(np.ones(3, np.float32))
    assert x.grad.dtype == np.float32


def test_second_pass_is_refused_also_through_a_shared_part():
    x = leaf(1.0)
    shared = x * 2.0
    (shared + 1.0).backward()
    with pytest.raises(GraphError, match="already used by backward.* run the forward pass again"):
        (shared * 3.0).backward()


def test_backward_frees_the_graph_as_it_goes():
    """The numbers of a step are gone when the walk has passed it, although the result is still held."""
    x = leaf(1.0, 2.0)
    middle = np.exp(x)
    alive = weakref.ref(middle)
    seen = []

    def rule(a):
        return a * 2.0, lambda g: seen.append(alive()) or g * 2.0

    first = Op(rule, catalogued=False)
    y = np.sum(np.tanh(np.exp(first(x)))) + np.sum(middle)
    middle = None
    y.backward()
    assert len(seen) == 1 and x.grad is not None
    gc.collect()
    assert alive() is None and y.data is not None


# ---------------------------------------------------------------------- threads
def test_shards_share_their_leaves_in_threads():
    """Two threads walk two graphs over one leaf, each into a dict of its own; the sum is the gradient of the whole."""
    w = Tensor(np.random.default_rng(0).standard_normal((6, 5)), requires_grad=True)
    x = np.random.default_rng(1).standard_normal((40, 6))

    def shard(rows):
        found = {}
        for _ in range(20):
            np.sum(np.tanh(rows @ w)).backward(into=found)
        return found

    with ThreadPoolExecutor(2) as pool:
        left, right = pool.map(shard, [x[:17], x[17:]])
    assert w.grad is None
    np.sum(np.tanh(x @ w)).backward()
    np.testing.assert_allclose((left[w] + right[w]) / 20, w.grad, rtol=1e-12)


def test_into_accumulates_and_leaves_grad_alone():
    a, store = leaf(1.0), {}
    (a * 2.0).backward(into=store)
    (a * 3.0).backward(into=store)
    assert store == {a: 5.0} and a.grad is None


def test_no_grad_reaches_worker_threads_by_a_copied_context():
    x = leaf(1.0)

    def remembers():
        return (x * 2.0).requires_grad

    results = {}
    with no_grad():
        context = contextvars.copy_context()
        workers = [
            threading.Thread(target=lambda: results.update(copied=context.run(remembers))),
            threading.Thread(target=lambda: results.update(fresh=remembers())),
        ]
        for worker in workers:
            worker.start()
            worker.join()
        assert not remembers()
    assert results == {"copied": False, "fresh": True} and remembers()


def test_no_grad_ends_with_an_error_too():
    x = leaf(1.0)
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * 1.0).requires_grad


# ---------------------------------------------------------------------- looking for NaN
def test_checking_names_the_op_and_its_inputs():
    x = leaf(1.0, -1.0)
    with (
        np.errstate(all="ignore"),
        detect_anomaly(),
        pytest.raises(GraphError, match=r"^log gave .* argument 0 \(2,\) with largest magnitude 1"),
    ):
        np.sum(np.log(x - 0.0))


def test_checking_names_the_op_of_a_gradient():
    x = leaf(0.0)
    with np.errstate(all="ignore"), detect_anomaly():
        y = np.sqrt(x)
        with pytest.raises(GraphError, match="gradient of sqrt is not finite; keep its input away"):
            y.backward()


def test_checking_lets_whole_numbers_and_finite_ones_pass():
    with detect_anomaly():
        (leaf(1.0) * 2.0).backward()
        assert np.max(Tensor([1, 2])).item() == 2


# ---------------------------------------------------------------------- Tensor
def test_tensor_has_ndarrays_attributes():
    x = Tensor(np.zeros((2, 3), np.float32))
    assert (x.shape, x.ndim, x.size, x.dtype, len(x), x.T.shape) == (
        (2, 3),
        2,
        6,
        np.float32,
        2,
        (3, 2),
    )
    assert x.reshape(3, 2).shape == x.reshape((3, 2)).shape == (3, 2)
    assert (
        x.transpose(1, 0).shape
        == x.transpose((1, 0)).shape
        == x.transpose().shape
        == x.swapaxes(0, 1).shape
        == (3, 2)
    )
    assert x.sum(axis=0).shape == x.mean(axis=0).shape == x.max(axis=0).shape == (3,)
    assert x.sum(axis=0, keepdims=True).shape == (1, 3) and x.astype("float64").dtype == np.float64
    assert (
        float(Tensor(2.5)) == Tensor(2.5).item() == 2.5
        and bool(Tensor(1.0))
        and not bool(Tensor(0.0))
    )


def test_detach_cuts():
    x = leaf(1.0)
    y = (x * 2.0).detach()
    assert not y.requires_grad and y.made_by is None and y.data == 2.0


def test_repr_says_what_made_it():
    x = leaf(1.0, 2.0)
    assert repr(x) == "Tensor([1., 2.], float64, requires_grad=True)"
    assert "made by <op multiply (),()->()>" in repr(x * 2.0)
    assert "Tensor([1., 2.], float64)" == repr(x.detach())


def test_tensors_are_hashed_by_identity():
    a, b = leaf(1.0), leaf(1.0)
    assert len({a, b}) == 2 and {a: 1}[a] == 1


def test_a_subclass_is_a_tensor():
    class Weight(Tensor):
        __slots__ = ()

    w = Weight(np.ones((3, 2)), requires_grad=True)
    y = np.sum(np.ones((4, 3)) @ w + 2.0 * w[0])
    assert type(y) is Tensor
    y.backward()
    np.testing.assert_array_equal(w.grad, [[12.0, 12.0], [4.0, 4.0], [4.0, 4.0]])


def test_declaring_an_op_is_one_place():
    """A rule of two lines is an op with its NumPy spelling, its shape check and its gradient."""
    op = Op(
        lambda x: (np.cbrt(x), lambda g: g / (3 * np.cbrt(x) ** 2)),
        "()->()",
        numpy=np.cbrt,
        catalogued=False,
    )
    try:
        gradcheck(np.cbrt, np.array([0.5, 2.0]), rng=np.random.default_rng(0))
        assert np.cbrt(leaf(8.0)).data == 2.0
        assert op.answers
    finally:
        from tinymm.autodiff.answers import ANSWERS

        del ANSWERS[np.cbrt]


def test_gradcheck_finds_a_wrong_rule_and_says_by_how_much():
    wrong = Op(lambda x: (x * x, lambda g: g * x), "()->()", catalogued=False)
    with pytest.raises(
        GraphError,
        match=r"differs from the measured slope by 0\.5\d*, above 1e-06; look at the vjp",
    ):
        gradcheck(wrong, np.array([1.0, 2.0]), rng=np.random.default_rng(0))


def test_gradcheck_reaches_inputs_that_are_no_arrays_of_floats(backend):
    ids = np.array([1, 0, 1])
    table = to_backend(np.random.default_rng(0).standard_normal((2, 3)), backend)
    assert gradcheck(CATALOGUE["embedding"], table, ids, rng=np.random.default_rng(0)) < 1e-6
