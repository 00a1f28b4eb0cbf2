"""Which library an array belongs to, and what the strict stand-in refuses."""

import subprocess
import sys

import numpy as np
import pytest
import strict_array
from strict_array import StrictArray, from_host

from tinymm.arrays.backend import array_module, beside, device_of, erf, is_array, to_backend, to_host, vecdot
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
    assert type(beside(np.arange(2), there)) is type(there) and beside(there, there) is there
    np.testing.assert_array_equal(beside(there, np.ones(1)), np.ones(3))


def test_functions_that_do_not_dispatch(backend):
    a, b = np.random.default_rng(0).standard_normal((2, 4, 3))
    np.testing.assert_allclose(to_host(vecdot(to_backend(a, backend), to_backend(b, backend))), (a * b).sum(-1))
    single = to_backend(a.astype(np.float32), backend)
    assert erf(single).dtype == np.float32 and type(erf(single)) is type(single)


def test_numbers_and_lists_are_no_arrays():
    assert not is_array(1.0) and not is_array([1.0]) and device_of("x") is None
    assert array_module() is np and array_module(2.0) is np


def test_two_devices_are_refused():
    with pytest.raises(DeviceError, match=r"argument 1 lives on strict and argument 2 on numpy; move one with to_backend\(x, 'strict'\)"):
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
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("DeviceError backend 'cupy' needs CuPy") and "cuda12 or cuda13" in said


@pytest.mark.gpu
def test_strict_lacks_what_cupy_lacks():
    """The list in `strict_array` is the difference of the two namespaces; needs CuPy's wheel and no GPU."""
    cupy = pytest.importorskip("cupy")
    present = {name for name in strict_array.CUPY_LACKS if hasattr(cupy, name)}
    assert not present, f"this CuPy has {sorted(present)}"


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
}


@pytest.mark.parametrize("name", REFUSED)
def test_strict_array_refuses(name):
    with pytest.raises(TypeError):
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
}


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
