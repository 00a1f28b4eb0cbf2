"""Which library an array belongs to, and what the strict stand-in refuses."""

import subprocess
import sys

import numpy as np
import pytest
import strict_array
from strict_array import StrictArray, from_host

from tinymm.arrays.backend import (
    DEVICES,
    array_module,
    device_of,
    erf,
    is_array,
    to_backend,
    to_device_like,
    to_host,
    vecdot,
)
from tinymm.arrays.errors import DeviceError
from tinymm.arrays.random import generator


def test_round_trip(backend):
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    there = to_backend(x, backend)
    assert device_of(there).name == backend and is_array(there)
    assert to_backend(there, backend) is there
    np.testing.assert_array_equal(to_host(there), x)
    assert to_host(there).dtype == np.float32


def test_array_module_creates_where_the_array_lives(backend):
    there = to_backend(np.ones(3), backend)
    zeros = array_module(there, 2.0, np.float64(1)).zeros_like(there)
    assert type(zeros) is type(there)
    array_module(there).add.at(zeros, (np.array([0, 0, 2]),), there)
    np.testing.assert_array_equal(to_host(zeros), [2.0, 0.0, 1.0])


def test_an_array_goes_beside_another(backend):
    there = to_backend(np.ones(3), backend)
    assert (
        type(to_device_like(np.arange(2), there)) is type(there)
        and to_device_like(there, there) is there
    )
    np.testing.assert_array_equal(to_device_like(there, np.ones(1)), np.ones(3))


def test_functions_that_do_not_dispatch(backend):
    a, b = np.random.default_rng(0).standard_normal((2, 4, 3))
    np.testing.assert_allclose(
        to_host(vecdot(to_backend(a, backend), to_backend(b, backend))), (a * b).sum(-1)
    )
    single = to_backend(a.astype(np.float32), backend)
    assert erf(single).dtype == np.float32 and type(erf(single)) is type(single)


def test_numbers_and_lists_are_no_arrays():
    assert not is_array(1.0) and not is_array([1.0]) and device_of("x") is None
    assert array_module() is np and array_module(2.0) is np


def test_two_devices_are_refused():
    with pytest.raises(
        DeviceError,
        match=r"argument 1 lives on strict and argument 2 on numpy; move one with to_backend\(x, 'strict'\)",
    ):
        array_module(1.0, from_host(np.ones(1)), np.ones(1))


def test_unknown_backend_is_refused():
    with pytest.raises(DeviceError, match=r"a backend is one of cupy, numpy, strict; 'tpu' came"):
        to_backend(np.ones(1), "tpu")


def test_missing_cupy_says_how_to_get_it():
    code = (
        "import sys; sys.modules['cupy'] = None\n"
        "from tinymm.arrays.backend import to_backend\n"
        "try: to_backend(1.0, 'cupy')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith("DeviceError backend 'cupy' needs CuPy") and "cuda12 or cuda13" in said


def test_streams_are_functions_of_their_numbers():
    assert generator(1, 2).random() == generator(1, 2).random()
    assert len({generator(*seed).random() for seed in ((1,), (1, 2), (2, 1), (1, 3))}) == 4


# ---------------------------------------------------------------------- the stand-in is strict
REFUSED = {
    "asarray": lambda x: np.asarray(x),
    "array of a list": lambda x: np.array([x, x]),
    "ascontiguousarray": lambda x: np.ascontiguousarray(x),
    "beside an ndarray": lambda x: x + np.ones(3),
    "ndarray beside it": lambda x: np.ones(3) * x,
    "ndarray of no axes": lambda x: x * np.array(2.0),
    "function of both": lambda x: np.concatenate([x, np.ones(3)]),
    "where": lambda x: np.where(np.ones(3, bool), x, 0.0),
    "ndarray out": lambda x: np.add(x, x, out=np.ones(3)),
    "set from the host": lambda x: x.__setitem__(slice(None), np.ones(3)),
    "into a host array": lambda x: np.ones(3).__setitem__(slice(None), x),
    "add.at of NumPy": lambda x: np.add.at(x, np.array([0]), x[:1]),
    "missing ufunc": lambda x: np.vecdot(x, x),
    "missing function": lambda x: np.put_along_axis(x, np.array([0]), x, 0),
    "stranger": lambda x: x + object(),
    "reduce": lambda x: np.add.reduce(x),
    "erf of the other": lambda x: __import__("scipy.special").special.erf(x),
    "where= of a ufunc": lambda x: np.add(x, x, where=x > 0),
    "order= of a ufunc": lambda x: np.add(x, x, order="C"),
    "where= of a sum": lambda x: np.sum(x, where=x > 0),
    "initial= of a maximum": lambda x: np.max(x, initial=0.0),
    "where= of a mean": lambda x: np.mean(x, where=x > 0),
    "where= of any": lambda x: np.any(x, where=x > 0),
    "where= of a method": lambda x: x.sum(where=x > 0),
    "initial= of a method": lambda x: x.max(initial=0.0),
    "mode= of take": lambda x: np.take(x, np.array([5]), mode="clip"),
    "clip's later names": lambda x: np.clip(x, min=0, max=1),
    "clip to nothing": lambda x: np.clip(x, None, None),
    "list in concatenate": lambda x: np.concatenate([x, [1.0]]),
    "number in stack": lambda x: np.stack([x[0], 1.0]),
    "list in where": lambda x: np.where(x > 0, x, [1.0, 1.0, 1.0]),
    "tuple in where": lambda x: np.where((True, True, False), x, x),
    "list in einsum": lambda x: np.einsum("i,i->i", x, [1.0, 1.0, 1.0]),
    "list in dot": lambda x: np.dot(x, [1.0, 1.0, 1.0]),
    "longdouble": lambda x: x.astype(np.longdouble),
    "object": lambda x: x.astype(object),
    "strings": lambda x: from_host(np.array(["a"])),
    "two masks": lambda x: (x[:, None] * x)[x > 0, x > 0],
    "two masks, set": lambda x: (x[:, None] * x).__setitem__((x > 0, x > 0), 1.0),
    "add.at on int64": lambda x: strict_array.strict.add.at(x.astype(np.int64), np.array([0]), 1),
    "add.at on bool": lambda x: strict_array.strict.add.at(x > 0, np.array([0]), True),
    "kernel of two dtypes": lambda x: kernel("b = a * c;", "T a, T c")(x, x.astype(np.float32)),
    "kernel of another parameter": lambda x: kernel("b = a;", "float a"),
    "power in a kernel": lambda x: kernel("b = a ** 2;"),
    "whole division in a kernel": lambda x: kernel("b = a * (1 / 2);"),
    "floor division in a kernel": lambda x: kernel("b = a // T(2);"),
    "temporary in a kernel": lambda x: kernel("twice = a + a; b = twice;"),
    "input set in a kernel": lambda x: kernel("a = a + a; b = a;"),
    "Python in a kernel": lambda x: kernel("b = a if a > T(0) else T(0);"),
    "unknown function in a kernel": lambda x: kernel("b = abs(a);"),
    "chained comparison in a kernel": lambda x: kernel("b = T(T(0) < a < T(1));"),
}


def kernel(code, inputs="T a"):
    return DEVICES["strict"].elementwise(inputs, "T b", code, "example")


@pytest.mark.parametrize("name", REFUSED)
def test_strict_array_refuses(name):
    with pytest.raises((TypeError, ValueError, NotImplementedError, SyntaxError)):
        REFUSED[name](from_host(np.arange(3.0)))


ALLOWED = {
    "numbers": lambda x: 2 * x + np.float64(1),
    "exp": np.exp,
    "comparison with a number of the host": lambda x: (x > np.array(1.0)).astype(float),
    "out": lambda x: np.add(x, x, out=from_like(x)),
    "in place": lambda x: x.__iadd__(1),
    "matmul with out": lambda x: np.matmul(x[None], x[:, None], out=from_like(x, (1, 1))),
    "host indices": lambda x: x[np.array([2, 0])],
    "slices": lambda x: x[::-1],
    "take": lambda x: np.take(x, np.array([1, 1])),
    "sum": lambda x: np.sum(x),
    "method": lambda x: x.mean(keepdims=True),
    "concatenate": lambda x: np.concatenate([x, x]),
    "set from its own": lambda x: x.__setitem__(slice(0, 1), x[1:2]) or x,
    "set a number": lambda x: x.__setitem__(0, 5.0) or x,
    "copyto": lambda x: np.copyto(x, -np.inf, where=x > 1) or x,
    "einsum": lambda x: np.einsum("i,i->", x, x),
    "item": lambda x: x[x.argmax().item()],
    "clip by place": lambda x: np.clip(x, 0.5, None),
    "equality of arrays": lambda x: np.array_equal(x, x),
    "closeness of arrays": lambda x: np.allclose(x, x + 1e-9),
}


def test_equality_of_arrays_is_an_array_that_waits_when_it_is_asked():
    x = from_host(np.ones(2))
    with strict_array.waits() as asked:
        same = np.array_equal(x, x)
        assert asked == [] and same
    assert [what for what, *_ in asked] == ["bool"]


def test_a_dtype_that_an_array_has_already_gives_the_array_itself():
    x = from_host(np.ones(2))
    assert x.astype(np.float64, copy=False) is x and x.astype(np.float64) is not x


def from_like(x, shape=None):
    return np.empty_like(x, shape=shape)


@pytest.mark.parametrize("name", ALLOWED)
def test_strict_array_does(name):
    x = np.arange(3.0)
    mine = ALLOWED[name](from_host(x))
    assert type(mine) is StrictArray, type(mine)
    np.testing.assert_array_equal(mine.get(), ALLOWED[name](x))


def test_strict_array_is_a_copy():
    x = np.zeros(2)
    there = from_host(x)
    there[0] = 1.0
    there.get()[1] = 1.0
    assert x.sum() == 0 and there.tolist() == [1.0, 0.0]
