"""The engine's edges: what is empty, has no axes, is infinite, is no plain array of real numbers, or changes while it is looked at."""

import copy
import pickle
import warnings

import numpy as np
import op_checks
import pytest

from tinymm import Tensor
from tinymm.arrays.errors import DtypeError, GraphError, ShapeError, UsageError
from tinymm.autodiff import CATALOGUE, Op, detect_anomaly, gradcheck, ops
from tinymm.autodiff.ops.fused import attention_definition, layer_norm_definition, mlp_definition

SIGNED = sorted(name for name in CATALOGUE if CATALOGUE[name].signature and name != "astype")


def leaf(x):
    return Tensor(np.array(x, float), requires_grad=True)


def slopes(function, *arrays):
    """Return the gradients of the sum of a function's result."""
    leaves = [leaf(x) for x in arrays]
    np.sum(function(*leaves)).backward()
    return [x.grad.tolist() for x in leaves]


# ---------------------------------------------------------------------- no gradient is lost
@pytest.mark.parametrize(
    "call",
    [
        lambda x, t: ops.layer_norm(x, np.ones(3), np.zeros(3), t),
        lambda x, t: ops.layer_norm(x, np.ones(3), np.zeros(3), eps=t),
        lambda x, t: np.full_like(x, t),
        lambda x, t: np.full_like(x, fill_value=t),
        lambda x, t: Op(lambda a, b: (a * b, lambda g: g), catalogued=False)(x, t),
        lambda x, t: (x * 1.0).backward(t * np.ones(3)),
    ],
)
def test_a_gradient_is_not_lost_where_no_rule_is(call):
    with pytest.raises(GraphError, match="a Tensor that requires (a gradient|one) came"):
        call(leaf([0.0, 1.0, 3.0]), leaf(0.1))


def test_a_tensor_without_a_gradient_may_stand_anywhere():
    x = leaf([[0.0, 1.0, 3.0]])
    mask = Tensor(np.array([True, True, False]))
    np.testing.assert_allclose(ops.masked_softmax(x, may_attend=mask).data.sum(), 1)
    np.testing.assert_allclose(
        ops.layer_norm(x, np.ones(3), np.zeros(3), eps=Tensor(0.1)).data.mean(), 0, atol=1e-15
    )
    assert x[Tensor(0), Tensor(np.array([2, 2]))].data.tolist() == [3.0, 3.0]
    assert np.take(x, Tensor(np.array([1])), axis=1).data.tolist() == [[1.0]]
    (x * 2).backward(Tensor(np.ones((1, 3))))
    assert x.grad.tolist() == [[2.0] * 3]


def test_bounds_of_clip_have_gradients():
    x, low, high = [-2.0, 0.0, 3.0], [-1.0] * 3, [1.0] * 3
    assert slopes(np.clip, x, low, high) == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert slopes(lambda low: np.clip(np.array(x), low, None), low) == [[1, 0, 0]]
    assert slopes(np.clip, [0.0], [2.0], [1.0]) == [
        [0],
        [0],
        [1],
    ]  # bounds that cross: the upper one wins


@pytest.mark.parametrize("kind", ["int64", "int8", "bool"])
def test_whole_numbers_have_no_slope(kind):
    y = leaf([1.7, 2.2]).astype(kind)
    assert y.dtype == kind and not y.requires_grad and y.made_by is None


@pytest.mark.parametrize(
    "copier", [copy.copy, copy.deepcopy, pickle.dumps, lambda y: copy.deepcopy({"kept": [y]})]
)
def test_a_result_is_not_copied(copier):
    y = leaf([1.0])
    for _ in range(3000):  # nor is its history walked
        y = y + 1.0
    with pytest.raises(GraphError, match="a result is not copied or pickled, .* copy t.detach"):
        copier(y)
    assert copy.deepcopy(y.detach()).data == 3001.0


def test_a_tensor_without_axes_has_no_rows():
    for call in (list, sum, len, lambda t: [*t]):
        with pytest.raises(TypeError, match=r"without axes has no (rows|length).*write t\."):
            call(leaf(3.0))


def test_an_error_on_the_way_back_delivers_nothing():
    x, z = leaf([1.0]), leaf([2.0])

    def broken(g):
        raise KeyError("planted")

    y = np.sum(z * 3.0 + Op(lambda a: (a * 1.0, broken), catalogued=False)(x) + z)
    with pytest.raises(KeyError):
        y.backward()
    assert x.grad is None and z.grad is None
    with pytest.raises(
        GraphError, match="used by backward.*, to its end or until an error stopped it"
    ):
        y.backward()


# ---------------------------------------------------------------------- what may enter
STRANGE = {
    "matrix": np.ones((1, 2)).view(np.matrix),
    "masked": np.ma.array([[1.0, 2.0]], mask=[[True, False]]),
    "record": np.ones((1, 2)).view(np.recarray),
    "complex": np.ones((1, 2), complex),
}
DOORS = {
    "Tensor": Tensor,
    "beside": lambda a: leaf([[1.0, 2.0]]) * a,
    "function": lambda a: np.maximum(a, leaf([[1.0, 2.0]])),
    "op": ops.softmax,
    "kernel": lambda a: ops.layer_norm(leaf([[1.0, 2.0]]), a.reshape(2), np.zeros(2)),
    "joined": lambda a: np.concatenate([a, leaf([[1.0, 2.0]])]),
    "compared": lambda a: leaf([[1.0, 2.0]]) == a if not np.iscomplexobj(a) else leaf([[1.0]]) + a,
    "gradient": lambda a: (leaf([[1.0, 2.0]]) * 2).backward(a),
    "mask": lambda a: ops.masked_softmax(
        leaf([[1.0, 2.0]]), may_attend=a > 0 if not np.iscomplexobj(a) else a
    ),
    "index": lambda a: (
        leaf([1.0, 2.0])[a.astype(int) - 1] if not np.iscomplexobj(a) else leaf([[1.0]]) * a
    ),
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("door", DOORS)
def test_only_plain_arrays_of_real_numbers_enter(door, strange):
    with pytest.raises(
        DtypeError,
        match=r"arrays are plain ones, and a numpy|holds real numbers or booleans and complex|a mask is boolean",
    ):
        DOORS[door](STRANGE[strange])


def test_complex_numbers_do_not_enter_or_come_out():
    for call in (
        lambda t: t * 1j,
        lambda t: 1j * t,
        lambda t: t + np.complex128(1),
        lambda t: t.astype(complex),
    ):
        with pytest.raises(DtypeError, match="real numbers or booleans"):
            call(leaf([1.0]))


def test_a_memory_map_is_the_array_that_it_is(tmp_path):
    kept = np.memmap(tmp_path / "x", np.float32, "w+", shape=(2,))
    kept[:] = [1, 2]
    assert type(Tensor(kept).data) is np.ndarray and (leaf([1.0, 1.0]) * kept).data.tolist() == [
        1.0,
        2.0,
    ]


def test_lists_are_arrays_where_numpy_takes_them():
    t = leaf([1.0, 2.0])
    assert np.concatenate([t, [3.0]]).data.tolist() == [1, 2, 3] and np.where(
        [True, False], t, 0.0
    ).data.tolist() == [1, 0]
    assert (
        np.stack([t, (3.0, 4.0)]).shape
        == np.transpose(t[None] + np.zeros((2, 1)), (1, 0)).shape
        == (2, 2)
    )
    assert np.sum(t[None], (0, 1)).data == np.sum(t[None], (-1, 0)).data == 3 and ops.softmax(
        [0.0, 0.0]
    ).data.tolist() == [0.5, 0.5]
    assert slopes(lambda t: np.dot(t, [3.0, 4.0]), [1.0, 2.0]) == [[3, 4]] and np.dot(
        2.0, t
    ).data.tolist() == [2, 4]


# ---------------------------------------------------------------------- whole numbers
@pytest.mark.parametrize("kind", [np.int64, np.int8, np.uint8])
def test_whole_numbers_are_computed_with_as_floats(kind):
    x = np.array([[[1, 2, 3, 1, 2, 3], [4, 5, 6, 6, 5, 4]]], kind)
    mask = np.tri(2, dtype=bool)
    for call in (
        ops.softmax, ops.log_softmax, ops.logsumexp, ops.sigmoid, ops.softplus, np.linalg.norm, lambda x: ops.max_pool2d(x[..., None], 1, padding=1),
        lambda x: ops.masked_softmax(x, (x > 1).data), lambda x: ops.self_attention(x, mask, heads=2),
        lambda x: ops.layer_norm(x, np.ones(6), x[0, 0]), lambda x: ops.mlp(x, x[0].T, x[0, 0, :2], x[0], x[0, 0]),
        lambda x: ops.blockwise_attention(x, x, x),
    ):  # fmt: skip
        y, expected = (call(Tensor(a)) for a in (x, x.astype(float)))
        assert y.dtype == np.float64
        np.testing.assert_allclose(y.data, expected.data, rtol=1e-12)


@pytest.mark.parametrize("exponent", [2, 2.0, 3.0, 4, np.array([2.0])])
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, np.bool_])
def test_powers_of_whole_numbers_are_numpys(kind, exponent):
    x = np.array([0, 1, 100]).astype(kind)
    for function in (np.square, np.fabs, lambda x: x**exponent):
        try:
            expected = function(x)
        except TypeError:  # no such loop for booleans
            continue
        y = function(Tensor(x))
        assert y.dtype == expected.dtype
        np.testing.assert_array_equal(y.data, expected)


# ---------------------------------------------------------------------- nothing at all
@pytest.mark.parametrize("name", SIGNED)
@pytest.mark.parametrize("length", [0, 1])
def test_axes_of_length_zero_and_one(name, length):
    """Whatever axis is empty or of length 1, there is a value and a gradient of each input's shape; core axes must fit and not more."""
    op = CATALOGUE[name]
    letters = sorted({letter.rstrip("?") for axes in op.signature.inputs for letter in axes})
    for short in [None, *letters]:
        sizes = {letter: length if letter == short else 3 for letter in letters}
        for front in ((), (length,), (2, length), (length, 2)):
            shapes = [
                (*(front if leads else ()), *(sizes[letter.rstrip("?")] for letter in axes))
                for axes, leads in zip(op.signature.inputs, op.signature.leads, strict=True)
            ]
            example = op_checks.fill(op, shapes, {}, 0, np.float64)
            y = op(*example.arrays)
            g = op_checks.cotangent(y.data, example.rng)
            _, grads = op_checks.gradients(op, example.arrays, g)
            assert [x.shape for x in grads] == [
                a.shape for a in example.arrays if a.dtype.kind == "f"
            ]


@pytest.mark.parametrize(
    ("kernel", "definition", "shapes"),
    [
        (ops.layer_norm, layer_norm_definition, ((0, 4), (4,), (4,))),
        (ops.layer_norm, layer_norm_definition, ((2, 0, 4), (4,), (4,))),
        (ops.mlp, mlp_definition, ((0, 2, 4), (4, 8), (8,), (8, 4), (4,))),
        (ops.mlp, mlp_definition, ((2, 4), (4, 0), (0,), (0, 3), (3,))),
        (
            ops.blockwise_attention,
            lambda q, k, v: attention_definition(q, k, v)[0],
            ((2, 0, 4), (2, 3, 4), (2, 3, 5)),
        ),
        (
            ops.blockwise_attention,
            lambda q, k, v: attention_definition(q, k, v)[0],
            ((2, 3, 4), (2, 0, 4), (2, 0, 5)),
        ),
        (ops.linear, lambda x, w, b: x @ w + b, ((0, 2, 3), (3, 4), (4,))),
        (ops.linear, lambda x, w, b: x @ w + b, ((2, 2, 0), (0, 4), (4,))),
    ],
)
def test_kernels_of_nothing_are_their_definitions(kernel, definition, shapes):
    arrays = [np.random.default_rng(0).standard_normal(shape) for shape in shapes]
    (y, grads), (expected, others) = (
        op_checks.gradients(function, arrays, np.ones(definition(*map(Tensor, arrays)).shape))
        for function in (kernel, definition)
    )
    for a, b in zip([y, *grads], [expected, *others], strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("shape", [(0, 3, 12), (2, 0, 12), (2, 3, 0), (0, 0, 0)])
def test_self_attention_of_nothing(shape):
    x = Tensor(np.zeros(shape), requires_grad=True)
    y = ops.self_attention(x, heads=2)
    y.backward(np.ones(y.shape))
    assert y.shape == (*shape[:2], shape[2] // 3) and x.grad.shape == shape


def test_heads_that_do_not_fit_are_refused():
    for shape, heads in (((2, 3, 10), 2), ((2, 3, 12), 0), ((3, 12), 2)):
        with pytest.raises(ShapeError, match=r"packed queries, keys and values \(B, T, 3D\)"):
            ops.self_attention(np.ones(shape), heads=heads)


@pytest.mark.parametrize("function", [np.sum, np.mean, np.var, np.max, np.min])
@pytest.mark.parametrize("axis", [None, 0, -1, ()])
def test_reductions_of_no_axes(function, axis):
    x = leaf(2.0)
    try:
        expected = function(x.data, axis=axis)
    except np.exceptions.AxisError:
        with pytest.raises(np.exceptions.AxisError):
            function(x, axis=axis)
        return
    y = function(x, axis=axis)
    assert y.shape == () and y.data == expected
    y.backward()
    assert x.grad == (0.0 if function is np.var else 1.0)


def test_softmax_of_no_axes_and_of_none():
    assert (
        ops.softmax(leaf(2.0)).data == 1.0
        and ops.log_softmax(leaf(2.0)).data == 0.0
        and np.cumsum(leaf(2.0), axis=0).shape == (1,)
    )
    for op in (ops.softmax, ops.log_softmax):
        assert op(np.zeros((2, 0))).shape == (2, 0)
    assert ops.logsumexp(np.zeros((2, 0)), axis=1).data.tolist() == [-np.inf] * 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_statistics_of_nothing_are_numpys():
    for call in (
        np.mean,
        lambda x: np.mean(x, axis=0),
        lambda x: np.var(x, ddof=1, axis=0),
        lambda x: np.var(x, ddof=3, axis=0),
        np.var,
    ):
        for x in (np.zeros((0, 3)), np.ones((1, 3)), np.arange(6.0).reshape(2, 3)):
            np.testing.assert_array_equal(call(Tensor(x)).data, call(x))
            t = Tensor(x, requires_grad=True)
            np.sum(call(t)).backward()
            assert t.grad.shape == x.shape


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ij,ij->ij", ((3, 1), (3, 4))),
        ("i,i->", ((3,), (1,))),
        ("bij,bjk->bik", ((1, 2, 3), (4, 3, 2))),
        ("ij,jk->ik", ((2, 1), (4, 3))),
        ("i,i->i", ((0,), (1,))),
    ],
)
def test_einsum_stretches_axes_of_length_one(subscripts, shapes):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    if all(a.size for a in arrays):
        gradcheck(lambda a, b: np.einsum(subscripts, a, b), *arrays, rng=rng)
    a, b = (Tensor(x, requires_grad=True) for x in arrays)
    np.sum(np.einsum(subscripts, a, b)).backward()
    assert (a.grad.shape, b.grad.shape) == shapes


# ---------------------------------------------------------------------- spellings with NumPy's own
# numbers
def test_numpy_integers_and_none_are_taken_where_numpy_takes_them():
    t = leaf([1.0, 2.0])
    assert [part.data.tolist() for part in np.split(t, np.int64(2))] == [[1.0], [2.0]]
    assert np.broadcast_to(t, np.array([3, 2])).shape == (3, 2) and np.broadcast_to(
        leaf([1.0]), np.int64(3)
    ).shape == (3,)
    assert [part.shape for part in np.split(leaf(np.zeros(0)), 2)] == [(0,), (0,)]
    assert slopes(
        lambda a, b: np.concatenate([a, b], axis=None) * np.arange(3.0), [[1.0, 1.0]], [1.0]
    ) == [[[0, 1]], [2]]
    assert slopes(lambda t: np.take_along_axis(t, np.array([1, 1]), axis=None), [[1.0], [2.0]]) == [
        [[0], [2]]
    ]


def test_what_is_not_taken_is_said():
    t = leaf([[1.0, 2.0]])
    for call, error, words in (
        (
            lambda: np.einsum(t, [0, 1], [1, 0]),
            ShapeError,
            "einsum of a Tensor takes its letters first",
        ),
        (
            lambda: np.pad(t, {0: 1}),
            UsageError,
            "takes widths in order of the axes, and a dict of 1 came",
        ),
        (lambda: np.split(t, 0), ShapeError, "into 0 equal parts"),
    ):
        with pytest.raises(error, match=words):
            call()


# ---------------------------------------------------------------------- infinity and NaN
def test_powers_at_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert slopes(lambda x: x**0, [0.0, 2.0]) == [[0, 0]]
        assert slopes(lambda x: x ** np.arange(3.0), [0.0, 0.0, 0.0]) == [[0, 1, 0]]
        assert (
            slopes(lambda e: np.array([0.0, 0.0]) ** e, [1.0, 2.0])
            == slopes(lambda e: 0.0**e, [1.0, 2.0])
            == [[0, 0]]
        )
        assert slopes(np.power, [0.0], [2.0]) == [[0], [0]]


def test_logarithms_of_sums_of_infinities():
    inf = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ops.logsumexp(np.array([[-inf, -inf], [0.0, inf]]), axis=1).data.tolist() == [
            -inf,
            inf,
        ]
        assert slopes(lambda x: ops.logsumexp(x, axis=1), [[-inf, -inf], [0.0, -inf]]) == [
            [[0, 0], [1, 0]]
        ]
        assert slopes(np.logaddexp, [inf, -inf, 0.0, 800.0], [-inf, inf, -inf, 0.0]) == [
            [1, 0, 1, 1],
            [0, 1, 0, 0],
        ]


@pytest.mark.parametrize("size", [1.0, 1e5, 1e7, 1e30])
def test_shares_of_logaddexp_do_not_depend_on_the_size(size):
    a, b = (Tensor(np.array([size], np.float32), requires_grad=True) for _ in range(2))
    np.sum(np.logaddexp(a, b)).backward()
    assert a.grad == b.grad == 0.5


def test_what_is_near_zero_keeps_its_digits():
    x = np.array([-700.0, -40.0, 40.0, 700.0])
    np.testing.assert_allclose(ops.sigmoid(x).data, [np.exp(-700), np.exp(-40), 1, 1], rtol=1e-15)
    np.testing.assert_allclose(
        slopes(ops.sigmoid, x)[0], np.exp([-700.0, -40.0, -40.0, -700.0]), rtol=1e-15
    )
    np.testing.assert_allclose(
        slopes(ops.softplus, x)[0], [np.exp(-700), np.exp(-40), 1, 1], rtol=1e-15
    )


@pytest.mark.parametrize("D", [1, 3, 512, 768, 777, 1408])
@pytest.mark.parametrize("value", [0.1, 123.456, 1e5, -1e30])
def test_layer_norm_of_equal_numbers_is_the_bias(D, value):
    x = np.full((3, D), value, np.float32)
    x[1] = np.arange(D)  # beside an ordinary row
    bias = np.arange(D, dtype=np.float32)
    for function in (ops.layer_norm, layer_norm_definition):
        y = function(Tensor(x), np.full(D, 2, np.float32), bias).data
        np.testing.assert_array_equal(y[[0, 2]], [bias, bias])
        assert D == 1 or np.abs(y[1] - bias).max() > 1


def test_layer_norm_of_nearly_equal_numbers():
    x = np.float32(1e5) + np.arange(-4, 4, dtype=np.float32)
    y = ops.layer_norm(x, np.ones(8, np.float32), np.zeros(8, np.float32)).data
    np.testing.assert_allclose(y, (np.arange(8) - 3.5) / np.sqrt(5.25), rtol=1e-5)


@pytest.mark.parity
def test_infinite_and_other_edges_are_pytorchs():
    """Values and gradients of unary and binary functions at 0, ±∞ and NaN, but for the kinks and limits where PyTorch says NaN and we do not."""
    torch = pytest.importorskip("torch")
    edge = [np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0, 2.0, 0.5, 1e30, -1e30]
    pairs = [list(side) for side in zip(*[(a, b) for a in edge for b in edge], strict=True)]
    table = [(lambda x, n=n: x**n, lambda x, n=n: x**n, 1) for n in (0, 1, 2, 3, -1)]
    table += [
        (ops.relu, torch.relu, 1),
        (ops.sigmoid, torch.sigmoid, 1),
        (np.sqrt, torch.sqrt, 1),
        (lambda x: np.clip(x, -1, 1), lambda x: torch.clamp(x, -1, 1), 1),
    ]
    table += [
        (np.maximum, torch.maximum, 2),
        (np.minimum, torch.minimum, 2),
        (np.power, torch.pow, 2),
        (np.multiply, torch.mul, 2),
        (np.divide, torch.div, 2),
    ]
    for ours, theirs, count in table:
        arrays = [np.array(edge)] if count == 1 else list(map(np.array, pairs))
        here, there = (
            [Tensor(a, requires_grad=True) for a in arrays],
            [torch.tensor(a, requires_grad=True) for a in arrays],
        )
        with np.errstate(all="ignore"):
            y = ours(*here)
            np.sum(y).backward()
        z = theirs(*there)
        z.sum().backward()
        np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-12)
        for a, b in zip(here, there, strict=True):
            np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-12)


def test_activations_of_a_kernel_pass_a_nan():
    for activation in ("relu", "gelu", "quick_gelu"):
        arrays = [np.array([[np.nan]]), *(np.ones(shape) for shape in ((1, 1), (1,), (1, 1), (1,)))]
        with np.errstate(all="ignore"):
            _, grads = op_checks.gradients(
                lambda *xs, a=activation: ops.mlp(*xs, activation=a), arrays, np.ones((1, 1))
            )
            _, others = op_checks.gradients(
                lambda *xs, a=activation: mlp_definition(*xs, a), arrays, np.ones((1, 1))
            )
        for a, b in zip(grads, others, strict=True):
            np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------------- what changes behind our
# back
@pytest.mark.parametrize(
    "pick",
    [
        lambda x, i: x[i],
        lambda x, i: x[i, np.zeros(2, int)],
        lambda x, i: np.take(x, i, axis=0),
        lambda x, i: np.take_along_axis(x, i[:, None], axis=0),
        lambda x, i: ops.embedding(x, ids=i),
    ],
)
def test_an_index_may_change_after_the_forward_pass(pick):
    x, index = leaf([[1.0], [2.0], [3.0]]), np.array([0, 1])
    y = pick(x, index)
    index[0] = 2
    np.sum(y).backward()
    assert x.grad.tolist() == [[1.0], [1.0], [0.0]]


@pytest.mark.parametrize("change", ["input", "value", "mask"])
def test_checking_notices_numbers_that_changed(change):
    x, mask = leaf([[1.0, 2.0]]), np.array([True, True])
    with detect_anomaly():
        y = ops.masked_softmax(x, may_attend=mask)
        {"input": x.data[0], "value": y.data[0], "mask": mask}[change][0] = 0
        with pytest.raises(
            GraphError,
            match=r"masked_softmax had read or made was changed before backward\(\) came",
        ):
            np.sum(y).backward()
    with detect_anomaly():
        np.sum(ops.masked_softmax(x, may_attend=mask)).backward()
