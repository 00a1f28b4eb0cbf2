"""Every error that the engine raises on purpose says what came, in numbers, and the way out; the source is searched for others."""

# ruff: noqa: E501 (a table reads better in long lines)
import ast
import copy
import re
from pathlib import Path

import numpy as np
import pytest
import strict_array

import tinymm
from tinymm import Tensor, no_grad
from tinymm.arrays import errors
from tinymm.arrays.backend import array_module, to_backend
from tinymm.arrays.errors import (
    DataError,
    DeviceError,
    DtypeError,
    GraphError,
    ShapeError,
    UsageError,
)
from tinymm.arrays.random import check_generator
from tinymm.autodiff import CATALOGUE, Op, detect_anomaly, gradcheck, ops
from tinymm.autodiff.signature import sum_to

ROOT = Path(tinymm.__file__).parent


def ones(*shape, dtype=float):
    return Tensor(np.ones(shape, dtype), requires_grad=True)


def twice():
    x = ones(2)
    y = np.sum(x)
    y.backward()
    y.backward()


def without_recording():
    with no_grad():
        np.sum(ones(2)).backward()


def born(x, function):
    with np.errstate(all="ignore"), detect_anomaly():
        function(x).backward()


def wrong_vjp(signature):
    rule = Op(lambda x: (x + 1, lambda g: np.ones((7,))), signature, catalogued=False)
    np.sum(rule(ones(3))).backward()


def changed():
    x = ones(2)
    with detect_anomaly():
        y = np.sum(x * 2.0)
        x.data[0] = 3.0
        y.backward()


def declared_twice(**declaration):
    def tanh(x):
        return x, lambda g: g

    Op(tanh, "()->()", **declaration)


def rng():
    return np.random.default_rng(0)


picture, weight = np.ones((1, 4, 4, 3)), np.ones((3, 3, 2, 5))
strict = to_backend(np.ones(2), strict_array.NAME)

#: What goes wrong → (how, error, what came with its numbers, the way out).
MESSAGES = {
    "axis": (lambda: ones(4, 3) @ ones(5, 2), ShapeError, r"axis k is 3 in argument 0 (4, 3) but 5 in argument 1 (5, 2)", "transpose or"),
    "rule": (lambda: ones(4, 3) @ ones(5, 2), ShapeError, "matmul (m?,k),(k,n?)->(m?,n?): ", "reshape one of them"),
    "too few axes": (lambda: ones(3) @ 2.0, ShapeError, "argument 1 needs an axis and () has 0", "add one with x[None]"),
    "too many axes": (lambda: ops.linear(ones(2, 3), ones(1, 3, 4), ones(4)), ShapeError, "argument 1 needs 2 axes and (1, 3, 4) has 3", "reshape it"),
    "broadcast": (lambda: ones(4, 3) + ones(5, 2), ShapeError, "add (),()->(): the leading axes of (4, 3) and (5, 2) do not broadcast", "x[:, None] or reshape"),
    "batch axes": (lambda: ones(2, 4, 3) @ ones(3, 3, 2), ShapeError, "leading axes of (2, 4, 3) and (3, 3, 2)", "reshape"),
    "np.dot": (lambda: np.dot(ones(2, 2, 2), ones(2, 2)), ShapeError, "up to 2 axes and (2, 2, 2) by (2, 2) came", "write a @ b"),
    "einsum": (lambda: np.einsum("ij,jk", ones(2, 2), ones(2, 2)), ShapeError, "'ij,jk' came", "with the result written out as in 'ij,jk->ik'"),
    "diagonal": (lambda: np.diag(ones(3)), ShapeError, "and (3,) came", "take one matrix"),
    "split": (lambda: np.split(ones(5, 2), 2), ShapeError, "2 equal parts along axis 0 of (5, 2)", "choose a divisor of 5, or the cuts"),
    "channels": (lambda: ops.conv2d(picture, weight), ShapeError, "has 3 channels (1, 4, 4, 3) and the weight 2 (3, 3, 2, 5)", "channels come last"),
    "window": (lambda: ops.max_pool2d(picture, size=7), ShapeError, "window of 7 × 7 with stride 7 and padding 0 does not fit a picture of 4 × 4", "use a smaller window"),
    "no batch": (lambda: ops.avg_pool2d(picture[0], size=2), ShapeError, "pictures (B, h, w, c) and (4, 4, 3) came", "add a batch axis with x[None]"),
    "mask stretches": (lambda: ops.masked_softmax(np.ones((3, 4)), np.ones((2, 3, 4), bool)), ShapeError, "the scores (3, 4) and (2, 3, 4) came", "leading axes"),
    "mask of numbers": (lambda: ops.masked_softmax(np.ones((2, 2)), np.ones((2, 2))), DtypeError, "and float64 came", "write mask.astype(bool)"),
    "fused mask of numbers": (lambda: ops.self_attention(np.ones((1, 2, 6)), may_attend=np.ones((2, 2), int)), DtypeError, "and int64 came", "write mask.astype(bool)"),
    "no real numbers": (lambda: Tensor("a"), DtypeError, "<U1 came", "convert the data first"),
    "whole numbers": (lambda: Tensor([1, 2], requires_grad=True), GraphError, "int64 came", "use data.astype('float32')"),
    "ids too large": (lambda: ops.embedding(np.ones((4, 2)), ids=np.array([1, 4])), DataError, "[0, 4) and 4 came", "use the tokenizer that belongs"),
    "ids of floats": (lambda: ops.embedding(np.ones((4, 2)), ids=np.ones(2)), DataError, "float64 came", "tokenize first, or use ids.astype(int)"),
    "pad": (lambda: np.pad(ones(2), 1, mode="wrap"), UsageError, "mode='wrap' came", "leave it out, or np.concatenate"),
    "norm": (lambda: np.linalg.norm(ones(2, 3), 1), UsageError, "ord=1, axis=None of (2, 3) came", "leave ord out"),
    "two devices": (lambda: Tensor(strict) + np.ones(2), DeviceError, "argument 0 lives on strict and argument 1 on numpy", "move one with to_backend(x, 'strict')"),
    "two devices, by hand": (lambda: array_module(np.ones(2), strict), DeviceError, "argument 0 lives on numpy and argument 1 on strict", "to_backend(x, 'numpy')"),
    "an index behind a slice on a device": (
        lambda: Tensor(to_backend(np.ones((2, 2)), "strict"))[:, to_backend(np.zeros(1, int), "strict")],
        DeviceError,
        "behind a slice",
        "use np.moveaxis before",
    ),
    "no such device": (lambda: to_backend(np.ones(2), "abacus"), DeviceError, "'abacus' came", "a backend is one of cupy, numpy, strict"),
    "gradient elsewhere": (lambda: ones(2).backward(strict), DeviceError, "argument 0 lives on numpy and argument 1 on strict", "to_backend"),
    "backward of many": (lambda: ones(4, 3).backward(), GraphError, "this Tensor has shape (4, 3)", "reduce it first (np.mean, np.sum) or pass gradient="),
    "gradient's shape": (lambda: ones(4, 3).backward(np.ones(3)), GraphError, "shape (4, 3), and (3,) came", "broadcast or reshape it first"),
    "gradient of no array": (lambda: ones(4).backward(1.0), GraphError, "shape (4,), and float came", "broadcast or reshape it first"),
    "second backward": (twice, GraphError, "already used by backward(), to its end or until an error stopped it", "run the forward pass again"),
    "nothing to go back to": (without_recording, GraphError, "no Tensor with requires_grad=True", "made under no_grad(), perhaps"),
    "conversion": (lambda: np.asarray(ones(2)), GraphError, "would be lost without a word", "write t.data for the numbers, or np.stack([t, u])"),
    "Tensor of a Tensor": (lambda: Tensor(ones(2)), GraphError, "a Tensor came", "use t.detach() to cut the graph, or t itself"),
    "in place": (lambda: ones(2).__iadd__(1), GraphError, "np.add was asked to write into an existing array", "write x = x + y instead of x += y"),
    "item assignment": (lambda: ones(2).__setitem__(0, 1), GraphError, "not changed in place", "write np.where(mask, new, x)"),
    "format of many": (lambda: f"{ones(2):.2f}", GraphError, "'.2f' is one number's, and shape (2,) came", "reduce it first"),
    "ufunc method": (lambda: np.add.reduce(ones(2)), GraphError, "np.add.reduce has no gradient rule", "use np.sum, np.max or indexing instead"),
    "ufunc option": (lambda: np.exp(ones(2), where=np.ones(2, bool)), GraphError, "np.exp takes no where with a Tensor", "use np.where(condition, x, y)"),
    "list": (lambda: ones(2) + [1, 2], GraphError, "a list of 2 came", "write np.array(…) around it"),
    "flat": (lambda: np.floor(ones(2)), GraphError, "np.floor is flat almost everywhere", "use np.floor(t.data)"),
    "no rule": (lambda: np.nancumsum(ones(2)), GraphError, "np.nancumsum has no gradient rule", "use t.data to compute without gradients, or declare one"),
    "another way": (
        lambda: np.std(ones(2)), GraphError, "np.std has no gradient rule", "write np.sqrt(np.var(x)), or declare",
    ),
    "subclass": (
        lambda: Tensor(np.ma.ones(2)), DtypeError, "MaskedArray came, whose numbers mean something else",
        "write x.filled(value)",
    ),
    "seed": (lambda: check_generator(7), UsageError, "and 7 came", "write rng=np.random.default_rng(0)"),
    "fill": (
        lambda: np.full_like(ones(2), ones()), GraphError, "a Tensor that requires a gradient came as the value",
        "write np.broadcast_to(value, t.shape)",
    ),
    "no place for a gradient": (
        lambda: ops.layer_norm(ones(2), ones(2), ones(2), ones()), GraphError, "argument 3 of layer_norm has no gradient rule",
        "write t.data for its numbers, or compose",
    ),
    "kind of the result": (
        lambda: ones(2).astype(complex), DtypeError, "astype gave complex128", "convert t.data instead",
    ),
    "changed": (
        changed, GraphError, "an array that multiply had read or made was changed", "or hand in a copy",
    ),
    "packed": (
        lambda: ops.self_attention(ones(2, 3, 10), heads=2), ShapeError, "and (2, 3, 10) with 2 heads came",
        "choose a divisor of D",
    ),
    "pad by name": (lambda: np.pad(ones(2), {0: 1}), UsageError, "a dict of 1 came", "write ((before, after), …)"),
    "einsum of lists": (lambda: np.einsum(ones(2), [0]), ShapeError, "and a Tensor came", "write them out"),
    "copied": (
        lambda: copy.deepcopy(ones(2) * 2), GraphError, "a result is not copied or pickled", "copy t.detach()",
    ),
    "gradient of a gradient": (
        lambda: (ones(2) * 2).backward(ones(2)), GraphError, "gradient= has no gradient of its own", "write gradient.data",
    ),
    "unknown argument": (lambda: np.sum(ones(2), dtype=int), GraphError, "np.sum of a Tensor takes (x, axis=None, *, keepdims=False)", "leave it out, or use t.data"),
    "answered twice": (lambda: declared_twice(numpy=np.tanh), GraphError, "is answered twice; op tanh came second", "drop it from one numpy= list"),
    "declared twice": (declared_twice, GraphError, "an op named tanh exists already", "choose another name"),
    "wrong vjp": (lambda: wrong_vjp(None), ShapeError, "returned shape (7,) for an input of shape (3,)", "its rule is wrong"),
    "wrong stretched vjp": (lambda: wrong_vjp("()->()"), ShapeError, "returned shape (7,) for an input of shape (3,)", "the rule of that op is wrong"),
    "wrong vjp of fewer axes": (lambda: sum_to(np.ones(3), (2, 3)), ShapeError, "returned shape (3,) for an input of shape (2, 3)", "rule of that op is wrong"),
    "NaN forward": (lambda: born(ones(2), lambda x: np.sum(np.log(x - 1.0))), GraphError, "log gave a value that is not finite from argument 0 (2,) with largest magnitude 0", "lower the learning rate or clip"),
    "NaN backward": (lambda: born(ones(1), lambda x: np.sqrt(x - 1.0)), GraphError, "the gradient of sqrt is not finite", "keep its input away"),
    "gradcheck of float32": (lambda: gradcheck(np.tanh, np.ones(2, np.float32), rng=rng()), GraphError, "float32 came", "use x.astype('float64')"),
    "gradcheck fails": (lambda: gradcheck(Op(lambda x: (x, lambda g: 2 * g), "()->()", catalogued=False), np.ones(2), rng=rng()), GraphError, "differs from the measured slope by 0.5, above 1e-06", "look at the vjp, or move the point off a kink"),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_message_has_numbers_and_a_way_out(name):
    call, kind, came, way_out = MESSAGES[name]
    with pytest.raises(errors.TinymmError) as caught:
        call()
    said = str(caught.value)
    assert type(caught.value) is kind
    assert came in said and way_out in said, said
    assert (
        "\n" not in said
        and not said.endswith(".")
        and (said[0].islower() or said.startswith("matmul"))
    ), said


def _raised(path):
    """Yield (line, the longest constant piece of the message) for every `raise SomeError(...)` of the package's own errors."""
    names = {name for name in vars(errors) if name.endswith("Error")}
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and getattr(node.exc.func, "id", None) in names
        ):
            pieces = [
                n.value
                for n in ast.walk(node.exc)
                if isinstance(n, ast.Constant) and isinstance(n.value, str)
            ]
            yield node.lineno, max(pieces, key=len)


#: Tested where CuPy is missing (`test_backend.py`) or cannot compute (`test_cupy_wheel.py`), since
#: it may be installed where the tests run.
ELSEWHERE = {
    "backend 'cupy' needs CuPy, which does not import here",
    "backend 'cupy' needs CuPy 14, whose results",
    "); look at the driver with nvidia-smi",
}


@pytest.fixture(scope="module")
def everything_said():
    said = []
    for call, *_ in MESSAGES.values():
        try:
            call()
        except errors.TinymmError as error:
            said.append(str(error))
    return "\n".join(said)


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "arrays").glob("*.py"), *(ROOT / "autodiff").rglob("*.py")]),
    ids=lambda p: p.stem,
)
def test_no_message_without_a_test(path, everything_said):
    for line, piece in _raised(path):
        words = re.sub(r"\s+", " ", piece).strip()[:25]
        assert words in everything_said or any(
            known.startswith(words[:20]) or words in known for known in ELSEWHERE
        ), f"{path.name}:{line} raises “{piece}” and no entry of MESSAGES provokes it"


def test_every_error_is_one_of_ours_and_one_of_pythons():
    """`except ValueError` keeps working for those who do not know the package."""
    for name, kind in vars(errors).items():
        if name.endswith("Error") and kind is not errors.TinymmError:
            assert issubclass(kind, errors.TinymmError) and issubclass(
                kind, (ValueError, TypeError, RuntimeError)
            ), name


def test_ops_of_the_catalogue_are_named_in_their_errors():
    """Whatever the op, arrays that do not broadcast are refused in its name."""
    for name, op in CATALOGUE.items():
        if op.signature is not None and len(op.signature.inputs) > 1 and not op.has_core_axes:
            arrays = [np.ones((2, 3)), *(np.ones((4, 3)) for _ in op.signature.inputs[1:])]
            with pytest.raises(ShapeError, match=rf"^{name} .*\(2, 3\) and \(4, 3\)"):
                op(*arrays)
