"""CuPy itself, without a GPU: what its wheel takes, what its compiler makes of our expressions, and its arrays over the host's memory.

Needs the extra `cupy-check` and no driver. That every call of the package binds to CuPy's
signatures follows from two facts: the stand-in binds all that reaches it to the stored table, and
the table is the wheel's.
"""

import ast
import ctypes
import importlib.util
import re
import sys
import warnings
from functools import cache
from pathlib import Path

import cupy_table
import numpy as np
import pytest
import strict_array

import tinymm
from tinymm import Tensor
from tinymm.arrays import backend
from tinymm.arrays.backend import array_module, device_of, find_backend, is_array, to_backend
from tinymm.arrays.errors import DeviceError, DtypeError, ShapeError
from tinymm.autodiff import ops
from tinymm.autodiff.ops import fused, gpu
from tinymm.layers import Linear
from tinymm.testing import on_cupy
from tinymm.training.optimizers import adamw_kernel

pytestmark = pytest.mark.cupy


@pytest.fixture(scope="module")
def cupy():
    return pytest.importorskip("cupy", reason="needs the extra cupy-check")


# ---------------------------------------------------------------------- what it takes
def test_the_table_is_what_the_wheel_takes(cupy):
    """Equal at the version that was written down; in others all that the table has is there, so the stand-in refuses too much at most."""
    stored, found = cupy_table.load(), cupy_table.table(cupy)
    assert set(stored["ufuncs"]) <= set(found["ufuncs"]) and set(stored["methods"]) <= set(
        found["methods"]
    )
    known = {
        name: words for name, words in found["functions"].items() if name in stored["functions"]
    }
    if cupy.__version__ == stored["version"]:
        assert known == stored["functions"]
    for name, words in stored["functions"].items():
        assert set((words or "").split()) <= set((known[name] or "").split()), name


def test_the_table_is_that_of_the_pinned_version():
    pinned = re.search(
        r"^cupy-cuda12x==(.*)$",
        (Path(__file__).parents[2] / "constraints.txt").read_text(),
        re.MULTILINE,
    )
    assert pinned[1] == cupy_table.load()["version"]


def test_what_the_stand_in_has_the_wheel_has(cupy):
    assert set(strict_array.METHODS.split()) <= set(dir(cupy.ndarray))
    assert all(
        hasattr(cupy, name) for name in [*strict_array.CREATORS.split(), "ogrid"]
    ) and hasattr(cupy.add, "at")
    assert all(
        hasattr(cupy.ndarray, name)
        for name in dir(strict_array.StrictArray)
        if not name.startswith("_")
    )


# ---------------------------------------------------------------------- what its compiler makes of the expressions
@cache
def kernels():
    """Return all expressions that the package compiles: name → (inputs, outputs, code, the inputs that are numbers), and the lines that asked."""
    found, places = {}, set()

    def made(inputs, outputs, code, name):
        frame = sys._getframe(2)
        places.add((Path(frame.f_code.co_filename).name, frame.f_lineno))
        run = strict_array._elementwise(inputs, outputs, code, name)

        def noted(*given):
            words = [part.split()[1] for part in inputs.split(",")]
            found[name] = (
                inputs,
                outputs,
                code,
                [word for word, x in zip(words, given, strict=True) if not is_array(x)],
            )
            return run(*given)

        return noted

    patch = pytest.MonkeyPatch()
    strict = backend.DEVICES["strict"]
    patch.setattr(backend, "_KERNELS", {})
    patch.setitem(backend.DEVICES, "strict", backend.Device(*list(vars(strict).values())[:6], made))

    def there(*shape):
        return Tensor(to_backend(np.ones(shape), "strict"), requires_grad=True)

    try:
        runs = [
            ops.mlp(there(2, 3), there(3, 4), there(4), there(4, 3), there(3), activation=kind)
            for kind in gpu.EXPRESSIONS
        ]
        for y in [
            *runs,
            fused.layer_norm(there(2, 3), there(3), there(3)),
            fused.self_attention(there(1, 2, 6)),
        ]:
            np.sum(y).backward()
        adamw_kernel(*(there(2).data for _ in range(4)), 1, 0.1, 0.1, 0.9, 0.98, 1e-6)
    finally:
        patch.undo()
    return found, places


def compiler():
    """Return NVRTC and the folders of headers, from the wheels."""
    found = [
        importlib.util.find_spec(f"nvidia.cuda_{part}")
        if importlib.util.find_spec("nvidia")
        else None
        for part in ("nvrtc", "runtime")
    ]
    if None in found:
        pytest.skip("needs the extra cupy-check")
    nvrtc, runtime = (Path(spec.submodule_search_locations[0]) for spec in found)
    return ctypes.CDLL(str(next((nvrtc / "lib").glob("libnvrtc.so.*")))), runtime / "include"


HEADERS = "".join(
    f"#include <cupy/{name}>\n"
    for name in ("complex.cuh", "carray.cuh", "atomics.cuh", "math_constants.h")
)


def source(name, inputs, outputs, code, numbers, dtype):
    """Return the kernel as CuPy's ElementwiseKernel writes it: arrays are read and written by element, numbers come as they are."""
    parameters, lines = [], []
    for const, side in (("const ", inputs), ("", outputs)):
        for word in (part.split()[1] for part in side.split(",")):
            if word in numbers:
                parameters.append(f"const {dtype} {word}")
            else:
                parameters.append(f"{const}CArray<{dtype}, 1, 1, 1> _raw_{word}")
                lines.append(f"{const}T &{word} = _raw_{word}[_ind.get()];")
    body = f"CUPY_FOR(i, _ind.size()) {{ _ind.set(i); {' '.join(lines)} {code}; }}"
    return f'extern "C" __global__ void {name}({", ".join(parameters)}, CIndexer<1> _ind) {{ {body} }}\n'


def compiled(text, cupy):
    """Return what the compiler said, an empty string if nothing was wrong."""
    nvrtc, runtime = compiler()
    own = Path(cupy.__file__).parent / "_core" / "include"
    folders = [
        own,
        runtime,
        *(own / "cupy" / "_cccl" / name for name in ("cub", "thrust", "libcudacxx")),
    ]
    options = [
        *(f"-I{folder}" for folder in folders),
        "--std=c++17",
        "--gpu-architecture=compute_90",
        "-DCUPY_JIT_MODE=1",
        "-ftz=true",
    ]
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    assert (
        nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None)
        == 0
    )
    failed = nvrtc.nvrtcCompileProgram(
        program,
        len(options),
        (ctypes.c_char_p * len(options))(*(option.encode() for option in options)),
    )
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return log.value.decode() if failed else ""


def test_every_line_that_makes_a_kernel_is_among_those_that_are_compiled():
    asked = set()
    for path in Path(tinymm.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "elementwise"
            ):
                asked.add((path.name, node.lineno))
    found, places = kernels()
    assert places == asked and len(found) == len(asked) + 2 * (len(gpu.EXPRESSIONS) - 1)


@pytest.mark.parametrize("dtype", ["float", "double"])
def test_every_expression_compiles(dtype, cupy):
    texts = [source(name, *kernel, dtype) for name, kernel in kernels()[0].items()]
    assert (
        len(texts) >= 11 and compiled(f"{HEADERS}typedef {dtype} T;\n{''.join(texts)}", cupy) == ""
    )


def test_what_is_no_c_does_not_compile(cupy):
    said = compiled(
        f"{HEADERS}typedef float T;\n{source('wrong', 'T a', 'T b', 'b = twice; twice = a', [], 'float')}",
        cupy,
    )
    assert 'identifier "twice" is undefined' in said


# ---------------------------------------------------------------------- its arrays, over the host's memory
HOST = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def over(cupy, host):
    """Return CuPy's array over a host array's memory: no kernel can run on it, but views, dispatch and errors are CuPy's own."""
    memory = cupy.cuda.UnownedMemory(host.ctypes.data, host.nbytes, host, 0)
    return cupy.ndarray(host.shape, host.dtype, cupy.cuda.MemoryPointer(memory, 0), host.strides)


def read(array):
    """Return the numbers that an array over the host's memory points at."""
    pointed = np.frombuffer(
        (ctypes.c_char * (HOST.ctypes.data + HOST.nbytes - array.data.ptr)).from_address(
            array.data.ptr
        ),
        np.uint8,
    )
    if any(step < 0 for step in array.strides):  # its first number is not its lowest
        start = array.data.ptr - HOST.ctypes.data
        return np.ndarray(array.shape, array.dtype, HOST, start, array.strides)
    return np.ndarray(array.shape, array.dtype, pointed, 0, array.strides)


VIEWS = {
    "reshape": lambda t: np.reshape(t, (6, 4)),
    "reshape to the same": lambda t: t.reshape(2, 3, 4),
    "reshape to one axis": lambda t: t.reshape(-1),
    "ravel": np.ravel,
    "transpose": np.transpose,
    "transpose by axes": lambda t: np.transpose(t, (1, 0, 2)),
    "swapaxes": lambda t: np.swapaxes(t, -1, -2),
    "moveaxis": lambda t: np.moveaxis(t, 0, 2),
    "expand_dims": lambda t: np.expand_dims(t, 1),
    "expand_dims of two": lambda t: np.expand_dims(t, (0, -1)),
    "squeeze": lambda t: np.squeeze(np.expand_dims(t, 0)),
    "squeeze of an axis": lambda t: np.squeeze(np.expand_dims(t, 0), axis=0),
    "broadcast_to": lambda t: np.broadcast_to(t, (5, 2, 3, 4)),
    "flip": np.flip,
    "flip of an axis": lambda t: np.flip(t, 1),
    "backwards": lambda t: t[:, ::-1],
    "new axis": lambda t: t[..., None, 0],
    "all": lambda t: t[()],
    "one": lambda t: t[1],
    "split": lambda t: np.split(t, 2, axis=2)[1],
    "T": lambda t: t.T,
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_numpys(name, cupy):
    found, right = VIEWS[name](Tensor(over(cupy, HOST), requires_grad=True)), VIEWS[name](HOST)
    assert type(found.data) is cupy.ndarray and found.shape == right.shape and found.requires_grad
    np.testing.assert_array_equal(read(found.data), right)


def test_a_tensor_beside_its_arrays_knows_where_it_is(cupy):
    x = over(cupy, HOST)
    assert device_of(x).name == "cupy" and is_array(x) and array_module(x, 2.0) is cupy
    t = Tensor(x)
    assert (np.shape(t), np.ndim(t), np.size(t), len(t), np.shape(x)) == (
        (2, 3, 4),
        3,
        24,
        2,
        (2, 3, 4),
    )
    assert [part.shape for part in t] == [(3, 4), (3, 4)] and t.detach().data.base is x.base is None
    assert t.reshape(2, 3, 4).data.base is not None  # what `_deliver` goes by


MISFITS = {
    "a product that does not fit": (
        ShapeError,
        lambda t, x, over: t @ over(np.ones((5, 2), np.float32)),
    ),
    "a linear map that does not fit": (
        ShapeError,
        lambda t, x, over: ops.linear(t, over(np.ones((5, 2))), over(np.ones(2))),
    ),
    "a mask of numbers": (DtypeError, lambda t, x, over: ops.masked_softmax(t, x)),
    "an index out of range": (IndexError, lambda t, x, over: t[np.array([0, 5])]),
    "a Python index out of range": (IndexError, lambda t, x, over: t[5]),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_refused_as_on_the_host(name, cupy):
    error, misfit = MISFITS[name]
    x = over(cupy, HOST)
    with pytest.raises(error):
        misfit(Tensor(x), x, lambda host: over(cupy, host))


@pytest.mark.parametrize("name", ["add", "multiply", "matmul"])
def test_its_operators_leave_the_answer_to_a_tensor(name, cupy):
    """CuPy's array comes first and does not know a Tensor: only the launch fails, where there is no GPU."""
    x, asked = over(cupy, HOST), []
    left = Tensor(x)
    function = getattr(np, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Tensor,
            "__array_ufunc__",
            lambda self, *given, **options: asked.append(given[0]) or "ours",
        )
        assert function(x, left) == "ours" and asked == [function]


# ---------------------------------------------------------------------- where there is no GPU
def test_without_a_gpu_every_door_is_one_sentence(cupy):
    if cupy.cuda.is_available():
        pytest.skip("there is a GPU")
    said = rf"^backend 'cupy' needs an NVIDIA GPU, and CuPy {re.escape(cupy.__version__)} is installed but cannot compute here \(\w+: .*\); .*$"
    doors = [
        lambda: find_backend("cupy"),
        lambda: to_backend(np.ones(2), "cupy"),
        lambda: to_backend(1.0, "cupy"),
        lambda: Linear(2, 2, rng=np.random.default_rng(0)).to("cupy"),
        lambda: on_cupy(np.exp),
    ]
    for door in doors:
        with pytest.raises(DeviceError, match=said):
            door()


def test_an_older_cupy_is_refused(cupy, monkeypatch):
    backend._try_cupy.cache_clear()
    monkeypatch.setattr(cupy, "__version__", "13.6.0")
    with pytest.raises(DeviceError, match="needs CuPy 14, .* and 13.6.0 came; upgrade it"):
        find_backend("cupy")


def test_its_hints_about_speed_are_no_errors(cupy):
    warnings.warn("this test raises it", cupy._util.PerformanceWarning, stacklevel=1)
