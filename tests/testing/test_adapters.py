"""A function of PyTorch, JAX or CuPy is checked as it is, gradients too where there are any; tinymm imports no framework for it."""

import ast
import contextlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import strict_array

import tinymm.testing
from tinymm.arrays.backend import DEVICES
from tinymm.arrays.errors import UsageError
from tinymm.testing import PropertyFailed, check, on_cupy, on_jax, on_torch

ALLOWED = {
    "ast",
    "collections",
    "contextlib",
    "dataclasses",
    "functools",
    "inspect",
    "re",
    "sys",
    "traceback",
    "typing",
    "numpy",
    "hypothesis",
}
#: What only the plugin needs: pytest is there where it is loaded.
PLUGIN = {"importlib", "pathlib", "pytest"}
#: What only an adapter needs, when it is asked for: the engine finds the gradients that CuPy does
#: not.
ADAPTERS = {"tinymm.autodiff"}
#: What the door finds the suites with.
DOOR = {"importlib", "pkgutil", "types"}


def test_testing_imports_numpy_hypothesis_and_errors_only():
    for path in Path(tinymm.testing.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += (
                [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            )  # siblings aside
            for name in names:
                allowed = ALLOWED | (PLUGIN if path.parent.name == "pytest_plugin" else set())
                allowed = allowed | (
                    DOOR if (path.parent.name, path.stem) == ("check", "__init__") else set()
                )
                ours = (
                    name.startswith(("tinymm.arrays", "tinymm.testing"))
                    or path.stem == "adapters"
                    and name in ADAPTERS
                )
                assert name.split(".")[0] in allowed or ours, (path.name, name)


@pytest.mark.parametrize(
    ("adapter", "library"), [(on_torch, "torch"), (on_jax, "jax"), (on_cupy, "cupy")]
)
def test_a_library_must_be_imported_by_the_caller(adapter, library, monkeypatch):
    monkeypatch.delitem(sys.modules, library, raising=False)
    with pytest.raises(
        UsageError, match=f"on_{library}: .* in sys.modules; `import {library}` first"
    ):
        adapter(lambda x: x)


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_functions_of_torch_pass_with_gradients(torch, dtype):
    functional = torch.nn.functional

    def loss(image, text, scale):
        logits = scale * functional.normalize(image, dim=-1) @ functional.normalize(text, dim=-1).T
        labels = torch.arange(len(logits))
        return (
            functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)
        ) / 2

    def norm(x, gain, bias, eps):
        return functional.layer_norm(x, x.shape[-1:], gain, bias, eps)

    def attention(q, k, v, mask):
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    checked = {
        "contrastive_loss": check.contrastive_loss(
            on_torch(loss), dtype=dtype, examples="quick"
        ).passed,
        "softmax": check.softmax(
            on_torch(lambda x: torch.softmax(x, -1)), dtype=dtype, examples="quick"
        ).passed,
        "layer_norm": check.layer_norm(on_torch(norm), dtype=dtype, examples="quick").passed,
        "attention": check.attention(
            on_torch(attention), dtype=dtype, examples="quick", empty_row="any"
        ).passed,
    }
    for suite, key in {
        "contrastive_loss": "C15",
        "softmax": "S08c",
        "layer_norm": "L07b",
        "attention": "A16",
    }.items():
        assert key in checked[suite]


@pytest.mark.parity
def test_a_detached_tower_is_found(torch):
    def loss(image, text, scale):
        image, text = (torch.nn.functional.normalize(x, dim=-1) for x in (image, text.detach()))
        logits, labels = scale * image @ text.T, torch.arange(len(image))
        return (
            torch.nn.functional.cross_entropy(logits, labels)
            + torch.nn.functional.cross_entropy(logits.T, labels)
        ) / 2

    with pytest.raises(PropertyFailed, match="C15") as failure:
        check.contrastive_loss(on_torch(loss), examples="quick")
    assert failure.value.failed == ("C15",)
    check.contrastive_loss(on_torch(loss, grad=False), examples="quick")


@pytest.mark.parity
def test_lists_and_tuples_of_arrays_are_tensors_for_torch(torch):
    halves = on_torch(lambda both, share: (both[0] * share, both[1].sum()), dtype="float32")(
        [np.ones(2), np.arange(3)], 0.5
    )
    assert [(half.dtype, half.tolist()) for half in halves] == [
        (np.float32, [0.5, 0.5]),
        (np.int64, 3),
    ]


# ---------------------------------------------------------------------- what a function of torch does to its arguments
def scribbles(torch):
    """Return planted mistakes about memory by property: (check, function, options)."""

    def attention(q, k, v, mask):
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        k.zero_(), mask.fill_(True)
        return out

    def masking(ids, special, V, mask_id, p, rng):
        ids[~special] = mask_id
        return ids, ids.clone()

    def rule(g, x):
        out = g * 2 * x
        g.zero_()
        return out

    def masked(S, ids, rng):
        S.fill_diagonal_(-1e4)
        return (torch.arange(len(ids)).roll(1),) * 2

    return {
        "A19": (check.attention, on_torch(attention), {"empty_row": "any"}),
        "E02b": (
            check.ema,
            on_torch(lambda twin, online, m: online if m == 0 else m * twin + (1 - m) * online),
            {},
        ),
        "E04": (
            check.ema,
            on_torch(lambda twin, online, m: m * twin + (1 - m) * online.mul_(2) / 2),
            {},
        ),
        "K03": (check.mlm_masking, on_torch(masking), {}),
        "N14": (check.hard_negatives, on_torch(masked), {}),
        "V04": (check.vjp, on_torch(lambda x: x * x), {"vjp": on_torch(rule)}),
    }


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("key", ["A19", "E02b", "E04", "K03", "N14", "V04"])
def test_a_function_of_torch_that_writes_into_its_arguments_is_found(key, dtype, torch):
    one, fn, options = scribbles(torch)[key]
    with pytest.raises(PropertyFailed, match=key):
        one(fn, **options, dtype=dtype, examples=10, only=key)


@pytest.mark.parity
def test_what_copies_hide_is_not_said_to_hold(torch):
    for key, (one, fn, options) in scribbles(torch).items():
        hidden = {
            **options,
            **({"vjp": on_torch(fn.fn, dtype="float64")} if "vjp" in options else {}),
        }
        report = one(on_torch(fn.fn, dtype="float64"), **hidden, examples=3, only=key)
        assert (
            report.passed == ()
            and report.not_run[key] == "on_torch hands over copies for dtype='float64'"
        )


@pytest.mark.parity
def test_what_torch_writes_in_place_on_purpose_arrives(torch):
    assert (
        "E01"
        in check.ema(
            on_torch(lambda twin, online, m: twin.mul_(m).add_(online, alpha=1 - m)),
            in_place=True,
            examples=10,
        ).passed
    )


@pytest.mark.parity
def test_arrays_that_torch_cannot_share_are_copied(torch):
    twice = on_torch(lambda x: 2 * x)
    for x in (
        np.arange(3.0)[::-1],
        np.broadcast_to(1.0, (2, 2)),
        np.array(1.5),
        np.arange(6.0).reshape(2, 3).T,
    ):
        np.testing.assert_array_equal(twice(x), 2 * x)


@pytest.mark.parity
def test_who_forgot_the_adapter_is_told_its_name(torch):
    causes = {}
    wrong = {
        "softmax": lambda x: torch.softmax(x, -1),
        "method": lambda x: x.unsqueeze(0),
        "returned": lambda x: torch.tensor(x, requires_grad=True),
    }
    for name, fn in wrong.items():
        with pytest.raises(PropertyFailed) as failure:
            check.softmax(fn, examples=3)
        causes[name] = str(failure.value).splitlines()[4]
    assert all("wrap it, on_torch(fn)" in cause for cause in causes.values()), causes
    with pytest.raises(PropertyFailed, match="no attribute 'expp'") as failure:
        check.softmax(lambda x: x.expp(), examples=3)
    assert "on_torch" not in str(failure.value)


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_dropout_that_is_left_on_is_called_so(torch, dtype):
    layer = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5)).to(
        getattr(torch, dtype)
    )
    with pytest.raises(PropertyFailed, match=r"two calls differ: eval\(\)\?") as failure:
        check.no_leak(on_torch(lambda x, mask: layer(x), grad=False), dtype=dtype, examples=10)
    assert "two calls differ" in str(failure.value).splitlines()[4]
    with pytest.raises(PropertyFailed) as failure:
        check.no_leak(
            on_torch(lambda x, mask: layer.eval()(x), grad=False), dtype=dtype, examples=10
        )
    assert failure.value.failed == ("W02",) and "two calls" not in str(failure.value)


@pytest.mark.parity
def test_float32_inside_is_called_so(torch):
    with pytest.raises(
        PropertyFailed,
        match="[0-9]e-0[0-9] apart.*\n(.*\n)*likely cause: .*float32 somewhere inside\\? say dtype='float32'",
    ):
        check.softmax(on_torch(lambda x: torch.softmax(x.float(), -1).double()), examples=10)


# ---------------------------------------------------------------------- JAX
@pytest.fixture
def jax():
    return pytest.importorskip("jax")


def jax_loss(jax, before=lambda text: text, directions=(0, 1)):
    def loss(image, text, scale):
        image, text = (
            x / jax.numpy.linalg.norm(x, axis=-1, keepdims=True) for x in (image, before(text))
        )
        logits = scale * image @ text.T
        return -sum(
            jax.numpy.diag(jax.nn.log_softmax(logits, axis)).mean() for axis in directions
        ) / len(directions)

    return loss


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_functions_of_jax_pass_with_gradients(jax, dtype):
    jnp = jax.numpy

    def norm(x, gain, bias, eps):
        return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(
            x.var(-1, keepdims=True) + eps
        ) * gain + bias

    checked = {
        "C15": check.contrastive_loss(on_jax(jax.jit(jax_loss(jax))), dtype=dtype, examples=5),
        "S08c": check.softmax(on_jax(lambda x: jax.nn.softmax(x, -1)), dtype=dtype, examples=5),
        "L07b": check.layer_norm(on_jax(jax.jit(norm)), dtype=dtype, examples=5),
        "V06s": check.vjp(on_jax(jnp.matmul), signature="(m,k),(k,n)", dtype=dtype, examples=5),
    }
    for key, report in checked.items():
        assert key in report.passed
    assert checked["V06s"].not_run["V04"] == "JAX's arrays cannot be written into"
    assert jnp.ones(2).dtype == jnp.float32, "JAX is left set as it was"


def test_wrong_losses_of_jax_are_found(jax):
    with pytest.raises(PropertyFailed, match="C02"):
        check.contrastive_loss(
            on_jax(jax.jit(jax_loss(jax, directions=(1,)))), examples=5, only="C02"
        )
    detached = jax.jit(jax_loss(jax, before=jax.lax.stop_gradient))
    with pytest.raises(PropertyFailed) as failure:
        check.contrastive_loss(on_jax(detached), examples=5)
    assert failure.value.failed == ("C15",)
    assert "C15" in check.contrastive_loss(on_jax(detached, grad=False), examples=5).not_run


def test_what_is_no_array_of_real_numbers_has_no_gradient_in_jax(jax):
    taken = on_jax(lambda x, places, times: x[places] * times)
    assert [
        g.tolist()
        for g in taken.vjp(np.ones(2, np.float32), np.ones(3, np.float32), np.array([0, 2]), 2.0)
    ] == [[2, 0, 2], [0, 0], 0]
    assert taken(np.ones(3), np.array([0]), 2).dtype == np.float64
    assert on_jax(lambda x: x * 2, dtype="float32")(np.ones(3)).dtype == np.float32


# ---------------------------------------------------------------------- CuPy, of which the strict array has the manners
@pytest.fixture
def cupy(monkeypatch):
    """A module with what the adapter calls; entered are the GPUs that were chosen."""
    fake = types.ModuleType("cupy")
    fake.ndarray, fake.asarray, fake.asnumpy, fake.entered = (
        strict_array.StrictArray,
        strict_array.from_host,
        strict_array.to_host,
        [],
    )
    fake.cuda = types.SimpleNamespace(
        Device=lambda number: contextlib.nullcontext(fake.entered.append(number))
    )
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setitem(DEVICES, "cupy", DEVICES[strict_array.NAME])
    return fake


def strict_loss(image, text, scale):
    image, text = (x / np.sqrt(np.sum(x * x, axis=-1, keepdims=True)) for x in (image, text))
    logits, own = image @ text.T * scale, np.sum(image * text, axis=-1) * scale

    def surprise(axis):
        largest = np.max(logits, axis=axis, keepdims=True)
        return np.mean(
            np.log(np.sum(np.exp(logits - largest), axis=axis)) + np.max(logits, axis=axis) - own
        )

    return (surprise(0) + surprise(1)) / 2


def test_functions_of_cupy_pass_without_gradients(cupy):
    met = []

    def loss(*given):
        met.extend(type(one) for one in given)
        return strict_loss(*given)

    report = check.contrastive_loss(on_cupy(loss, device=1), examples=10)
    assert "C02" in report.passed and "C15" in report.not_run
    assert set(met) == {strict_array.StrictArray} and set(cupy.entered) == {1}
    assert (
        check.ema(on_cupy(lambda twin, online, m: m * twin + (1 - m) * online), examples=3).not_run[
            "E04"
        ]
        == "on_cupy hands over copies"
    )
    assert on_cupy(lambda x, masks: (x * masks[0], 3), dtype="float32")(
        np.ones(2), [np.array([True, False])]
    )[0].tolist() == [1, 0]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_functions_that_tensors_run_through_have_gradients_on_cupy(cupy, dtype):
    assert (
        "C15"
        in check.contrastive_loss(on_cupy(strict_loss, grad=True), dtype=dtype, examples=10).passed
    )
    assert (
        "V06s"
        in check.vjp(
            on_cupy(np.matmul, grad=True), signature="(m,k),(k,n)", dtype=dtype, examples=10
        ).passed
    )
    with pytest.raises(PropertyFailed) as failure:
        detached = on_cupy(
            lambda image, text, scale: strict_loss(
                image, getattr(text, "detach", lambda: text)(), scale
            ),
            grad=True,
        )
        check.contrastive_loss(detached, dtype=dtype, examples=10)
    assert failure.value.failed == ("C15",)
