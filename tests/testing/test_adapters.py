"""A function of PyTorch is checked as it is, gradients too; tinymm imports no framework for it."""

import ast
import sys
from pathlib import Path

import pytest

import tinymm.testing
from tinymm.arrays.errors import UsageError
from tinymm.testing import PropertyFailed, check, on_torch

ALLOWED = {"ast", "collections", "contextlib", "dataclasses", "functools", "inspect", "re", "sys", "typing", "numpy", "hypothesis"}
#: What only the plugin needs: pytest is there where it is loaded.
PLUGIN = {"importlib", "pathlib", "pytest"}


def test_testing_imports_numpy_hypothesis_and_errors_only():
    for path in Path(tinymm.testing.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []  # siblings aside
            for name in names:
                allowed = ALLOWED | (PLUGIN if path.stem == "plugin" else set())
                assert name.split(".")[0] in allowed or name.startswith(("tinymm.arrays", "tinymm.testing")), (path.name, name)


def test_torch_must_be_imported_by_the_caller(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with pytest.raises(UsageError, match="import torch"):
        on_torch(lambda x: x)


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_functions_of_torch_pass_with_gradients(torch, dtype):
    functional = torch.nn.functional

    def loss(image, text, scale):
        logits = scale * functional.normalize(image, dim=-1) @ functional.normalize(text, dim=-1).T
        labels = torch.arange(len(logits))
        return (functional.cross_entropy(logits, labels) + functional.cross_entropy(logits.T, labels)) / 2

    def norm(x, gain, bias, eps):
        return functional.layer_norm(x, x.shape[-1:], gain, bias, eps)

    def attention(q, k, v, mask):
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    checked = {
        "contrastive_loss": check.contrastive_loss(on_torch(loss), dtype=dtype, examples="quick").passed,
        "softmax": check.softmax(on_torch(lambda x: torch.softmax(x, -1)), dtype=dtype, examples="quick").passed,
        "layer_norm": check.layer_norm(on_torch(norm), dtype=dtype, examples="quick").passed,
        "attention": check.attention(on_torch(attention), dtype=dtype, examples="quick", empty_row="any").passed,
    }
    for suite, key in {"contrastive_loss": "C15", "softmax": "S08c", "layer_norm": "L07b", "attention": "A16"}.items():
        assert key in checked[suite]


@pytest.mark.parity
def test_a_detached_tower_is_found(torch):
    def loss(image, text, scale):
        image, text = (torch.nn.functional.normalize(x, dim=-1) for x in (image, text.detach()))
        logits, labels = scale * image @ text.T, torch.arange(len(image))
        return (torch.nn.functional.cross_entropy(logits, labels) + torch.nn.functional.cross_entropy(logits.T, labels)) / 2

    with pytest.raises(PropertyFailed, match="C15") as failure:
        check.contrastive_loss(on_torch(loss), examples="quick")
    assert failure.value.failed == ("C15",)
    check.contrastive_loss(on_torch(loss, grad=False), examples="quick")
