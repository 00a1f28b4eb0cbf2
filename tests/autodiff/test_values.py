"""What the ops compute, beside NumPy's own result (`test_ops.py`): formulas for those that NumPy lacks, and the corners of the others."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm import Tensor
from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.autodiff import CATALOGUE, gradcheck
from tinymm.autodiff import ops as tinymm_ops

xs = np.linspace(-6, 6, 41)
FORMULAS = {
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "softplus": lambda x: math.log(1 + math.exp(x)),
    "relu": lambda x: max(x, 0.0),
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "quick_gelu": lambda x: x / (1 + math.exp(-1.702 * x)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formula(name):
    np.testing.assert_allclose(
        CATALOGUE[name](xs).data, [FORMULAS[name](x) for x in xs], rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("name", FORMULAS)
def test_large_numbers_give_no_warning(name):
    """±10⁴ in float32 neither overflow nor give NaN, in value and slope (warnings are errors)."""
    x = Tensor(np.array([-1e4, 1e4], np.float32), requires_grad=True)
    y = CATALOGUE[name](x)
    y.backward(np.ones_like(y.data))
    assert np.isfinite(y.data).all() and np.isfinite(x.grad).all()


@given(st.integers(0, 9999), st.sampled_from([(4,), (3, 4), (2, 3, 4)]))
def test_softmax_family_is_one_family(seed, shape):
    x = 10 * np.random.default_rng(seed).standard_normal(shape)
    total = tinymm_ops.logsumexp(x, axis=-1, keepdims=True).data
    np.testing.assert_allclose(total, np.log(np.exp(x).sum(-1, keepdims=True)), rtol=1e-12)
    np.testing.assert_allclose(tinymm_ops.log_softmax(x).data, x - total, atol=1e-12)
    np.testing.assert_allclose(tinymm_ops.softmax(x).data, np.exp(x - total), atol=1e-14)
    np.testing.assert_array_equal(
        tinymm_ops.masked_softmax(x, np.ones(shape, bool)).data, tinymm_ops.softmax(x).data
    )


def test_mask_may_not_stretch_the_scores():
    with pytest.raises(
        ShapeError, match=r"the scores \(3, 4\) and \(2, 3, 4\) came; give the scores"
    ):
        tinymm_ops.masked_softmax(np.ones((3, 4)), np.ones((2, 3, 4), bool))


def test_equal_numbers_share_the_gradient():
    x = Tensor([[2.0, 2.0, 1.0]], requires_grad=True)
    np.max(x).backward()
    np.testing.assert_array_equal(x.grad, [[0.5, 0.5, 0.0]])
    a, b = Tensor([1.0, 2.0], requires_grad=True), Tensor([1.0, 1.0], requires_grad=True)
    np.maximum(a, b).backward(np.array([1.0, 1.0]))
    np.testing.assert_array_equal([a.grad, b.grad], [[0.5, 1.0], [0.5, 0.0]])
    picture = Tensor(np.ones((1, 2, 2, 1)), requires_grad=True)
    tinymm_ops.max_pool2d(picture, size=2).backward(np.ones((1, 1, 1, 1)))
    np.testing.assert_array_equal(picture.grad.ravel(), [0.25] * 4)


def test_what_was_not_chosen_gets_nothing_even_of_infinity():
    a, b = Tensor([1.0, 1.0], requires_grad=True), Tensor([2.0, 2.0], requires_grad=True)
    np.where(np.array([True, False]), a, b).backward(np.array([np.inf, 1.0]))
    np.testing.assert_array_equal(a.grad, [np.inf, 0.0])
    np.testing.assert_array_equal(b.grad, [0.0, 1.0])


def test_length_of_zeros_has_no_direction():
    x = Tensor(np.zeros((2, 3)), requires_grad=True)
    np.linalg.norm(x, axis=1).backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, 0)


@pytest.mark.parametrize("exponent", [1, 2, 3, 4, -1, 0.5, 2.5])
def test_powers(exponent):
    x = np.array([0.5, 1.5, 2.0])
    np.testing.assert_allclose((Tensor(x) ** exponent).data, x**exponent, rtol=1e-14)
    gradcheck(lambda t: t**exponent, x, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("shape_a", "shape_b"),
    [
        ((4,), (4,)), ((4,), (4, 3)), ((2, 4), (4,)), ((5, 2, 4), (4, 3)), ((5, 2, 4), (4,)), ((4,), (5, 4, 3)),
        ((5, 1, 2, 4), (3, 4, 2)), ((1, 1), (1, 1)),
    ],
)  # fmt: skip
def test_matmul_is_numpys(shape_a, shape_b):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(shape_a), rng.standard_normal(shape_b)
    np.testing.assert_array_equal((Tensor(a) @ b).data, a @ b)
    np.testing.assert_array_equal((a @ Tensor(b)).data, a @ b)
    gradcheck(lambda t, u: t @ u, a, b, rng=rng)


INDICES = [
    2, -1, slice(None, None, -1), Ellipsis, None, (slice(1, 3), 0), [0, 0, 3], np.array([1, 1]), (np.array([[0], [1]]), np.array([0, 2])),
    np.array([True, False, True, True]), np.int64(1), (np.array([0, 0]), slice(None)), (Ellipsis, np.array([2, 2])),
    (None, 0, slice(1, None)), (),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_getitem_is_numpys(index):
    x = np.random.default_rng(0).standard_normal((4, 3))
    np.testing.assert_array_equal(Tensor(x)[index].data, x[index])
    gradcheck(
        lambda t: t[index] if isinstance(t, Tensor) else Tensor(t)[index],
        x,
        rng=np.random.default_rng(1),
    )


def test_index_may_be_a_tensor():
    x = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    np.testing.assert_array_equal(x[np.argmax(x, axis=0)].data[:, 0], [3, 3, 3])
    np.testing.assert_array_equal(
        np.take_along_axis(x, np.argmax(x, axis=1)[:, None], axis=1).data, [[2], [5]]
    )


@pytest.mark.parametrize("shape", [(4, 2), (1, 2), (4, 1)])
def test_take_along_axis_broadcasts_as_numpys(shape):
    x, indices = np.random.default_rng(0).standard_normal((4, 5)), np.zeros(shape, int) + 3
    expected = np.take_along_axis(x, indices, axis=1)
    np.testing.assert_array_equal(np.take_along_axis(Tensor(x), indices, axis=1).data, expected)
    gradcheck(
        lambda t: np.take_along_axis(
            Tensor(t) if isinstance(t, np.ndarray) else t, indices, axis=1
        ),
        x,
        rng=np.random.default_rng(1),
    )


@pytest.mark.parametrize(("sections", "axis"), [(2, 0), (3, -1), ([1, 3], 0), ([2], 1)])
def test_split_is_numpys(sections, axis):
    x = np.random.default_rng(0).standard_normal((4, 3))
    parts = np.split(Tensor(x), sections, axis=axis)
    for mine, numpys in zip(parts, np.split(x, sections, axis=axis), strict=True):
        np.testing.assert_array_equal(mine.data, numpys)

    def scaled(t):
        return np.concatenate(
            [part * (i + 1) for i, part in enumerate(np.split(t, sections, axis=axis))], axis=axis
        )

    gradcheck(scaled, x, rng=np.random.default_rng(1))


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2)])
@pytest.mark.parametrize("k", [-3, -1, 0, 2, 5])
def test_diagonals_are_numpys(shape, k):
    x = np.random.default_rng(0).standard_normal(shape)
    for name, options in (
        (np.diag, {"k": k}),
        (np.diagonal, {"offset": k}),
        (np.trace, {"offset": k}),
    ):
        np.testing.assert_array_equal(name(Tensor(x), **options).data, name(x, **options))
        gradcheck(
            lambda t, name=name, options=options: name(t * t, **options),
            x,
            rng=np.random.default_rng(1),
        )


def test_diagonals_live_where_their_arrays_do(backend):
    x = np.random.default_rng(0).standard_normal((3, 4))
    t = Tensor(to_backend(x, backend), requires_grad=True)
    np.diag(t, 1).backward(to_backend(np.arange(3.0), backend))
    np.testing.assert_array_equal(to_host(t.grad), np.eye(3, 4, k=1) * np.arange(3)[:, None])


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, {"padding": 1}, {"stride": 3, "padding": 2}]
)
def test_conv2d_is_a_sliding_sum(options):
    """Against the definition, written with loops."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 6, 5, 3)), rng.standard_normal((3, 2, 3, 4))
    stride, p = options.get("stride", 1), options.get("padding", 0)
    padded = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    y = tinymm_ops.conv2d(x, w, **options).data
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            window = padded[:, i * stride : i * stride + 3, j * stride : j * stride + 2]
            np.testing.assert_allclose(
                y[:, i, j], np.einsum("bhwc,hwco->bo", window, w), rtol=1e-12
            )
    assert y.shape[1:3] == ((6 + 2 * p - 3) // stride + 1, (5 + 2 * p - 2) // stride + 1)


def test_embedding_adds_the_rows_of_equal_ids():
    table = Tensor(np.zeros((4, 2)), requires_grad=True)
    ids = np.array([[1, 1, 3], [1, 0, 3]])
    g = np.random.default_rng(0).standard_normal((2, 3, 2))
    tinymm_ops.embedding(table, ids=ids).backward(g)
    expected = np.zeros((4, 2))
    np.add.at(expected, ids, g)
    np.testing.assert_allclose(table.grad, expected, atol=1e-15)


@pytest.mark.parametrize(
    ("ids", "error", "words"),
    [
        (np.array([0, 4]), DataError, r"\[0, 4\) and 4 came; use the tokenizer"),
        (np.array([-1]), DataError, r"\[0, 4\) and -1 came"),
        (np.array([0.0]), DataError, r"whole-number ids and float64 came; tokenize first"),
    ],
)
def test_embedding_refuses(ids, error, words):
    with pytest.raises(error, match=words):
        tinymm_ops.embedding(np.zeros((4, 2)), ids=ids)


def test_pad_takes_zeros_only():
    with pytest.raises(UsageError, match=r"mode='edge' came; leave it out"):
        np.pad(Tensor(np.ones(3)), 1, mode="edge")


@pytest.mark.parametrize(
    "options", [{"ord": 1, "axis": 0}, {"ord": "fro"}, {"ord": 2}, {"axis": (0, 1)}]
)
def test_other_norms_are_refused_rather_than_miscomputed(options):
    with pytest.raises(
        UsageError,
        match=r"Euclidean length along one axis or all, and ord=.* of \(2, 3\) came; leave ord out",
    ):
        np.linalg.norm(Tensor(np.ones((2, 3))), **options)
