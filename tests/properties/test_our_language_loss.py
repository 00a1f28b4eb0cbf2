"""The published properties of a language loss, asked of ours and of PyTorch's cross-entropy with its smoothing and its −100."""

import numpy as np
import pytest
from tiny_arrays import OfArrays

from tinymm.autodiff import ops
from tinymm.losses import language, language_loss
from tinymm.testing import PropertyFailed, check, on_torch

DTYPES = ["float64", "float32"]


@pytest.mark.parametrize("examples", ["ci", pytest.param("deep", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_our_loss_keeps_every_property(dtype, examples):
    report = check.lm_loss(OfArrays(language_loss), dtype=dtype, examples=examples)
    assert set(report.passed) == set(check.lm_loss.suite.properties)


@pytest.mark.parametrize(
    "broken, caught",
    [
        (lambda x: x, "T09"),
        (lambda x: ops.log_softmax(x, axis=0), "T11"),
        (lambda x: ops.log_softmax(x / 2), "T11"),
        (ops.softmax, "T01"),
    ],
)
def test_breaking_its_softmax_breaks_a_property(broken, caught, monkeypatch):
    monkeypatch.setattr(language.ops, "log_softmax", broken)
    with pytest.raises(PropertyFailed) as failure:
        check.lm_loss(OfArrays(language_loss), examples="quick")
    assert caught in failure.value.failed


@pytest.mark.parametrize(
    "broken, caught",
    [
        (
            lambda logits, ids, is_real, e: language_loss(
                logits[:, :-1], ids[:, 1:], is_real[:, 1:], e
            ),
            "T03",
        ),
        (lambda logits, ids, is_real, e: language_loss(logits, ids, is_real | True, e), "T05a"),
        (lambda logits, ids, is_real, e: language_loss(logits, ids, is_real, e / 2), "T08"),
    ],
)
def test_calling_it_wrongly_breaks_a_property(broken, caught):
    with pytest.raises(PropertyFailed) as failure:
        check.lm_loss(OfArrays(broken), examples="quick")
    assert caught in failure.value.failed


@pytest.mark.parity
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ignore_index", [-100, 0])
def test_cross_entropy_of_torch_passes(torch, ignore_index, dtype):
    """The common way: labels are ids, −100 where nothing is to be learned, and the function shifts."""

    def loss(logits, ids, is_real, smoothing):
        labels = ids[:, 1:].masked_fill(~is_real[:, 1:], -100)
        return torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels.flatten(), label_smoothing=smoothing
        )

    report = check.lm_loss(on_torch(loss), dtype=dtype, ignore_index=ignore_index, examples="quick")
    assert set(report.not_run) == {"T05a"}


@pytest.mark.parity
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_its_value_and_gradient_are_pytorch_s(torch, smoothing):
    rng = np.random.default_rng(0)
    logits, ids, is_real = (
        rng.standard_normal((3, 5, 7)),
        rng.integers(7, size=(3, 5)),
        np.arange(5) < np.array([[5], [2], [4]]),
    )
    theirs = torch.tensor(logits, requires_grad=True)
    labels = torch.tensor(np.where(is_real, ids, -100)[:, 1:].ravel())
    expected = torch.nn.functional.cross_entropy(
        theirs[:, :-1].flatten(0, 1), labels, label_smoothing=smoothing
    )
    expected.backward()
    ours = OfArrays(language_loss)
    assert float(ours(logits, ids, is_real, smoothing)) == pytest.approx(expected.item(), abs=1e-12)
    np.testing.assert_allclose(
        ours.vjp(1.0, logits, ids, is_real, smoothing)[0], theirs.grad.numpy(), atol=1e-12
    )
