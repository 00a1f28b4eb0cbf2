"""NumPy's two questions, case by case: who is asked, who answers, and what is refused rather than converted without a word."""

import copy
import math
import pickle
import re
from operator import attrgetter

import numpy as np
import pytest
import strict_array

from tinymm import Tensor
from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import DeviceError, DtypeError, GraphError, ShapeError
from tinymm.autodiff import CATALOGUE
from tinymm.autodiff.answers import ANSWERS, FLAT, INSTEAD, PLAIN


class Stranger:
    """An array-like of a library that we have not heard of, which answers for itself."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return f"stranger: {ufunc.__name__}"

    def __array_function__(self, func, types, args, options):
        return f"stranger: {func.__name__}"


class Silent:
    """An array-like that does not know what to do either."""

    def __array_ufunc__(self, *_, **__):
        return NotImplemented


@pytest.fixture
def t():
    return Tensor(np.array([[1.0, 2.0], [3.0, 4.0]]), requires_grad=True)


# ---------------------------------------------------------------------- who answers
OPERATORS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "true_divide": lambda a, b: a / b,
    "power": lambda a, b: a**b,
    "matmul": lambda a, b: a @ b,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_ndarray_beside_a_tensor(name, t):
    """Tensor and ndarray meet in either order, as operators and as functions, and the result remembers."""
    x = np.array([[2.0, 3.0], [4.0, 5.0]])
    for call in (OPERATORS[name], getattr(np, name)):
        for a, b in ((t, x), (x, t), (t, t)):
            y = call(a, b)
            assert type(y) is Tensor and y.requires_grad
            np.testing.assert_array_equal(y.data, call(*(v.data if v is t else v for v in (a, b))))


@pytest.mark.parametrize(
    "number",
    [2, 2.0, np.float64(2), np.float32(2), np.int64(2), np.int8(2), np.array(2.0)],
    ids=lambda n: type(n).__name__,
)
@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "matmul"])
def test_numbers_beside_a_tensor(name, number, t):
    for a, b in ((t, number), (number, t)):
        y = OPERATORS[name](a, b)
        assert type(y) is Tensor and y.requires_grad
        np.testing.assert_allclose(
            y.data, OPERATORS[name](*(v.data if v is t else v for v in (a, b)))
        )


def test_python_numbers_keep_float32_and_numpys_do_not():
    """NEP 50: a Python number has no dtype of its own, a NumPy scalar has."""
    x = Tensor(np.ones(2, np.float32))
    assert (2 * x).dtype == (x / 3).dtype == (1.5 - x).dtype == (x**2).dtype == np.float32
    assert (np.float64(2) * x).dtype == np.float64


@pytest.mark.parametrize("name", OPERATORS)
def test_a_stranger_answers_for_itself(name, t):
    """We return NotImplemented for a type that we do not know, so that its own library may try."""
    ufunc = getattr(np, name)
    assert ufunc(t, Stranger()) == ufunc(Stranger(), t) == f"stranger: {ufunc.__name__}"
    assert OPERATORS[name](t, Stranger()) == f"stranger: {ufunc.__name__}"
    assert t.__array_ufunc__(ufunc, "__call__", t, Stranger()) is NotImplemented
    assert t.__array_function__(np.sum, (Tensor, Stranger), (), {}) is NotImplemented


def test_a_stranger_answers_functions_too(t):
    assert (
        np.concatenate([t, Stranger()])
        == np.concatenate([Stranger(), t])
        == "stranger: concatenate"
    )
    assert np.where(t, Stranger(), t) == "stranger: where"


def test_when_nobody_answers_numpy_says_so(t):
    with pytest.raises(TypeError, match="returned NotImplemented"):
        np.add(t, Silent())
    with pytest.raises(TypeError):
        t + object()


def test_dot_is_matmul_up_to_two_axes(t):
    x = np.array([1.0, -1.0])
    for a, b in ((t, t), (t, t.data), (t.data, t), (t, x), (x, t), (Tensor(x), x)):
        np.testing.assert_array_equal(
            np.dot(a, b).data, np.dot(*(v.data if isinstance(v, Tensor) else v for v in (a, b)))
        )
    with pytest.raises(
        ShapeError, match=r"up to 2 axes and \(1, 2, 2\) by \(2, 2\) came.* write a @ b"
    ):
        np.dot(t[None], t)


def test_whole_of_figure_3s_vocabulary_on_bare_arrays_and_tensors(backend):
    """The `np.` lines of the paper's figure give one number on arrays, Tensors, and Tensors of a device."""
    rng = np.random.default_rng(0)
    host = [rng.standard_normal((3, 4)), rng.standard_normal((4, 2)), np.array(0.5)]

    def lines(I_f, W_i, t):
        I_e = np.dot(I_f, W_i)
        I_e = I_e / np.linalg.norm(I_e, axis=1, keepdims=True)
        logits = np.dot(I_e, I_e.T) * np.exp(t)
        return np.sum(logits - np.max(logits, axis=0, keepdims=True))

    there = [Tensor(to_backend(x, backend), requires_grad=True) for x in host]
    y = lines(*there)
    np.testing.assert_allclose(float(to_host(y.data)), lines(*host), rtol=1e-12)
    y.backward()
    assert all(type(x.grad) is type(x.data) for x in there)


# ---------------------------------------------------------------------- devices
@pytest.mark.parametrize("name", OPERATORS)
def test_bare_device_array_beside_a_tensor_of_its_device(name, t):
    """`np.dot(cupy, Tensor)`: the device's array is asked first, does not know us, and leaves the answer to us."""
    there = Tensor(to_backend(t.data, strict_array.NAME), requires_grad=True)
    bare = there.data
    for call in (OPERATORS[name], getattr(np, name)):
        for a, b in ((there, bare), (bare, there)):
            y = call(a, b)
            assert (
                type(y) is Tensor and y.requires_grad and type(y.data) is strict_array.StrictArray
            )
    assert type(np.dot(bare, there)) is Tensor


@pytest.mark.parametrize("name", OPERATORS)
def test_two_devices_in_one_call_are_refused_with_the_way_out(name, t):
    there = Tensor(to_backend(t.data, strict_array.NAME))
    with pytest.raises(
        DeviceError,
        match=r"argument 0 lives on strict and argument 1 on numpy; move one with to_backend\(x, 'strict'\)",
    ):
        OPERATORS[name](there, t)
    with pytest.raises(DeviceError, match="argument 0 lives on numpy and argument 1 on strict"):
        OPERATORS[name](t.data, there)


def test_a_mask_on_the_host_is_refused_with_the_way_out():
    scores = Tensor(to_backend(np.ones((2, 2)), strict_array.NAME))
    with pytest.raises(DeviceError, match="argument 0 lives on strict and argument 1 on numpy"):
        CATALOGUE["masked_softmax"](scores, np.tri(2, dtype=bool))
    packed = Tensor(to_backend(np.ones((1, 2, 6)), strict_array.NAME))
    with pytest.raises(DeviceError, match="argument 0 lives on strict and argument 1 on numpy"):
        CATALOGUE["self_attention"](packed, may_attend=np.tri(2, dtype=bool), heads=1)


def test_results_without_axes_are_arrays(backend):
    x = Tensor(to_backend(np.ones(3), backend))
    for y in (np.sum(x), x @ x, np.exp(np.sum(x)), x[0], np.max(x), np.mean(x) * 2.0):
        assert type(y.data) is type(x.data) and y.shape == ()


# ---------------------------------------------------------------------- nothing is converted without a word
CONVERSIONS = {
    "asarray": np.asarray,
    "array": np.array,
    "float array": lambda t: np.asarray(t, dtype=float),
    "ascontiguousarray": np.ascontiguousarray,
    "list of Tensors": lambda t: np.array([t, t]),
    "sum of a list": lambda t: np.sum([t, t]),
    "choice": lambda t: np.random.default_rng(0).permutation(t),
    "fill": lambda t: np.zeros(2).__setitem__(slice(None), t),
    "ufunc.at": lambda t: np.add.at(np.zeros(2), [0], t),
    "where=": lambda t: np.add(1.0, 1.0, where=t),
    "out of an ndarray": lambda t: np.add(t, t, out=np.zeros((2, 2))),
    "ndarray += Tensor": lambda t: np.add(np.zeros((2, 2)), t, out=np.zeros((2, 2))),
    "Tensor of Tensors": lambda t: Tensor([t, t]),
    "Tensor of a Tensor": Tensor,
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_silent_conversion_is_refused(name, t):
    with pytest.raises(GraphError, match="; "):
        CONVERSIONS[name](t)


@pytest.mark.parametrize(
    "interface",
    [
        "__cuda_array_interface__",
        "__array_interface__",
        "__array_struct__",
        "__cupy_get_ndarray__",
        "__dlpack__",
    ],
)
def test_no_side_door(interface, t):
    """CuPy, and NumPy itself, would take the numbers through any of these and drop the gradient."""
    assert not hasattr(t, interface)


IN_PLACE = {
    "+=": lambda t: t.__iadd__(1.0),
    "-=": lambda t: t.__isub__(1.0),
    "*=": lambda t: t.__imul__(2.0),
    "/=": lambda t: t.__itruediv__(2.0),
    "**=": lambda t: t.__ipow__(2.0),
    "@=": lambda t: t.__imatmul__(t),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_is_refused(name, t):
    with pytest.raises(
        GraphError, match=r"may still need the old values; write x = x \+ y instead of x \+= y"
    ):
        IN_PLACE[name](t)


def test_item_assignment_is_refused(t):
    with pytest.raises(GraphError, match=r"not changed in place.*write np\.where\(mask, new, x\)"):
        t[0] = 1.0


def test_habits_from_elsewhere_are_told_what_to_write_here(t):
    with pytest.raises(
        AttributeError, match=r"a Tensor has no numpy, which is another library's; write t\.data"
    ):
        t.numpy()
    with pytest.raises(AttributeError, match=r"a Tensor has no gradd$"):
        t.gradd  # noqa: B018


def test_one_number_is_formatted_as_a_number():
    assert (
        f"{Tensor(3.14159):.2f} {Tensor([[2.0]]):.1f}" == "3.14 2.0"
        and f"{Tensor(1.0)}" == "Tensor(1., float64)"
    )
    with pytest.raises(
        GraphError, match=r"'.2f' is one number's, and shape \(2,\) came; reduce it first"
    ):
        f"{Tensor([1.0, 2.0]):.2f}"  # noqa: B018


@pytest.mark.parametrize(
    "call",
    [lambda t: np.add.reduce(t), lambda t: np.add.outer(t, t), lambda t: np.multiply.accumulate(t)],
)
def test_ufunc_methods_are_refused_by_name(call, t):
    with pytest.raises(
        GraphError,
        match=r"np\.\w+\.(reduce|outer|accumulate) has no gradient rule for a Tensor; use np\.sum",
    ):
        call(t)


@pytest.mark.parametrize("options", [{"where": np.array([True, False])}, {"dtype": np.float32}])
def test_ufunc_options_are_refused_by_name(options, t):
    with pytest.raises(
        GraphError, match=rf"np\.exp takes no {next(iter(options))} with a Tensor; use np\.where"
    ):
        np.exp(t, **options)


def test_a_list_beside_a_tensor_is_refused(t):
    for call in (lambda: t + [1.0, 2.0], lambda: (1.0, 2.0) * t):
        with pytest.raises(GraphError, match=r"and a (list|tuple) of 2 came; write np\.array"):
            call()


# ---------------------------------------------------------------------- plain, flat, unknown
PLAIN_CALLS = {
    "argmax": lambda t: np.argmax(t, axis=1),
    "compare": lambda t: t > 2.0,
    "both": lambda t: (t > 1.0) & (t < 3.0),
    "not": lambda t: ~(t > 1.0),
    "shape": np.shape,
    "allclose": lambda t: np.allclose(t, t),
    "array_equal": lambda t: np.array_equal(t, t),
    "zeros_like": np.zeros_like,
    "isfinite": np.isfinite,
    "any": lambda t: np.any(t > 3.0),
    "size": np.size,
    "full_like": lambda t: np.full_like(t, 2.0),
}


@pytest.mark.parametrize("name", PLAIN_CALLS)
def test_plain_functions_compute_on_the_numbers(name, t):
    y, expected = PLAIN_CALLS[name](t), PLAIN_CALLS[name](t.data)
    assert not getattr(y, "requires_grad", False)
    np.testing.assert_array_equal(y.data if isinstance(y, Tensor) else y, expected)


@pytest.mark.parametrize(
    "function",
    sorted(FLAT - {np.floor_divide, np.heaviside}, key=lambda f: f.__name__),
    ids=lambda f: f.__name__,
)
def test_flat_functions_are_refused(function, t):
    with pytest.raises(
        GraphError,
        match=r"is flat almost everywhere, so its gradient would be zero without a word; use np\.\w+\(t\.data\)",
    ):
        function(t)


def test_floor_division_is_flat_too(t):
    with pytest.raises(GraphError, match="np.floor_divide is flat"):
        t // 2


#: What the expressions of `INSTEAD` are tried on: positive numbers, so that logarithms are defined,
#: with an axis that n divides.
NUMBERS = {
    "x": np.arange(1.0, 13.0).reshape(2, 6) / 5,
    "y": np.arange(12.0, 0.0, -1.0).reshape(2, 6) / 7,
}
SETTINGS = {"n": 2, "axis": 1, "w": np.arange(12.0).reshape(2, 6)}
TAKES = {
    "np.average": lambda f, x, y: f(x, weights=SETTINGS["w"] if x.ndim == 2 else SETTINGS["w"][0]),
    **{f"np.{name}": lambda f, x, y: f((x, y)) for name in ("column_stack", "hstack", "vstack")},
    **{f"np.{name}": lambda f, x, y: f(x, 2, axis=1) for name in ("repeat", "roll")},
    **{f"np.{name}": lambda f, x, y: f(x, 2) for name in ("hsplit", "vsplit", "remainder", "tile")},
    **{f"np.{name}": lambda f, x, y: f(x, y) for name in ("append", "hypot", "inner", "outer")},
}  # fmt: skip


@pytest.mark.parametrize("name", INSTEAD)
def test_what_to_write_instead_is_the_same(name):
    """The way out of a refusal gives NumPy's numbers and has a gradient, for matrices and, where it takes them, for vectors."""
    function = attrgetter(name.removeprefix("np."))(np)
    call = TAKES.get(name, lambda f, x, y: f(x))
    for pick in (lambda a: a, lambda a: a[0]):
        arrays = {key: pick(a) for key, a in NUMBERS.items()}
        tensors = {key: Tensor(a, requires_grad=True) for key, a in arrays.items()}
        settings = SETTINGS | {"w": pick(SETTINGS["w"]), "math": math, "np": np}
        try:
            expected = call(function, *arrays.values())
        except (ValueError, IndexError):  # no function of vectors
            continue
        with pytest.raises(
            GraphError,
            match=f"{re.escape(name)} has no gradient rule for a Tensor; write {re.escape(INSTEAD[name])}, or declare",
        ):
            call(function, *tensors.values())
        found = eval(INSTEAD[name], settings, tensors)
        for a, b in zip(
            found if isinstance(found, list) else [found],
            expected if isinstance(expected, list) else [expected],
            strict=True,
        ):
            assert a.requires_grad
            np.testing.assert_allclose(a.data, b, rtol=1e-12)


@pytest.mark.parametrize(
    "name",
    ["nancumsum", "median", "linalg.inv", "linalg.det", "array_split", "prod", "arctan", "sinc"],
)
def test_where_no_other_function_means_the_same_none_is_named(name, t):
    with pytest.raises(
        GraphError,
        match=rf"np\.{re.escape(name)} has no gradient rule for a Tensor; use t\.data to compute without gradients, or",
    ):
        attrgetter(name)(np)(*((t, 2) if name == "array_split" else (t,)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda t: np.sum(t, dtype=np.float32),
            r"np\.sum of a Tensor takes \(x, axis=None, \*, keepdims=False\): got an unexpected .*'dtype'",
        ),
        (lambda t: np.sum(t, 0, np.float32), r"np\.sum of a Tensor takes .*too many positional"),
        (lambda t: np.var(t, 0, np.float32), r"np\.var of a Tensor takes .*too many positional"),
        (
            lambda t: np.mean(t, where=np.array([True, False])),
            r"np\.mean of a Tensor .*'where'; leave it out, or use t\.data",
        ),
        (lambda t: np.max(t, initial=0.0), r"np\.max of a Tensor .*'initial'"),
        (lambda t: np.reshape(t, (4,), order="F"), r"np\.reshape of a Tensor .*'order'"),
        (lambda t: np.cumsum(t), r"np\.cumsum of a Tensor .*missing a required argument: 'axis'"),
        (lambda t: np.where(t), r"np\.where of a Tensor .*missing a required argument"),
    ],
)
def test_arguments_that_numpy_takes_and_we_do_not(call, words, t):
    with pytest.raises(GraphError, match=words):
        call(t)


def test_no_function_is_in_two_tables():
    assert not (set(ANSWERS) & PLAIN or set(ANSWERS) & FLAT or PLAIN & FLAT)


# ---------------------------------------------------------------------- Python's own questions
def test_iteration_and_membership(t):
    assert [row.data.tolist() for row in t] == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(ValueError, match="ambiguous"):
        bool(t)


def test_sum_of_python_works(t):
    total = sum([t[0], t[1]])
    total.backward(np.ones(2))
    np.testing.assert_array_equal(t.grad, 1.0)


@pytest.mark.parametrize(
    "copier",
    [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_leaf_can_be_copied(copier, t):
    twin = copier(t)
    assert twin is not t and twin.requires_grad
    np.testing.assert_array_equal(twin.data, t.data)


@pytest.mark.parametrize(
    "bad",
    ["text", None, 1j, [object()], np.array(["2020-01-01"], dtype="datetime64[D]")],
    ids=lambda b: type(b).__name__,
)
def test_a_tensor_holds_real_numbers(bad):
    with pytest.raises(
        DtypeError,
        match=r"a Tensor holds real numbers or booleans and .* came; convert the data first",
    ):
        Tensor(bad)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_number_is_pythons_number(shape):
    t = Tensor(np.full(shape, 2.0), requires_grad=True)
    assert float(t) == 2.0 == t.item() and math.exp(t) == math.exp(2.0)
