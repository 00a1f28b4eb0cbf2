"""BERT beside transformers: its masked-language model both ways, under a causal mask, and looking at a picture."""

import numpy as np
import pytest

from tinymm import pretrained
from tinymm.layers import causal_mask, padding_mask
from tinymm.models.bert import BertLanguageModel

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity
TOLERANCE = {"float64": 1e-9, "float32": 2e-5}
SIZES = dict(
    vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=36, max_position_embeddings=12,
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, type_vocab_size=2,
)  # fmt: skip
IDS = np.array([[5, 7, 9, 11, 3], [5, 8, 3, 0, 0]])
REAL = IDS > 0


def theirs(kind, dtype, **more):
    torch.manual_seed(0)
    model = (
        kind._from_config(transformers.BertConfig(**SIZES, **more), attn_implementation="sdpa")
        .to(getattr(torch, dtype))
        .eval()
    )
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.2 + (1.0 if p.ndim == 1 and p.mean() > 0.5 else 0.0))
    return model


def off(found, right):
    right = right.detach().numpy() if hasattr(right, "detach") else right
    return float(np.abs(np.asarray(found) - right).max() / np.abs(right).max())


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_masked_language_model_and_all_gradients(tmp_path, dtype):
    model = theirs(transformers.BertForMaskedLM, dtype)
    model.save_pretrained(tmp_path)
    ours = pretrained.load(tmp_path, dtype=dtype)
    assert isinstance(ours, BertLanguageModel) and ours.config.token_types == 2
    logits = model(input_ids=torch.tensor(IDS), attention_mask=torch.tensor(REAL).long()).logits
    found = ours(IDS, REAL)
    assert off(found.data[REAL], logits[torch.tensor(REAL)]) < TOLERANCE[dtype]
    weights = np.cos(np.arange(found.size)).reshape(found.shape) * REAL[..., None]
    (logits * torch.tensor(weights.astype(dtype))).sum().backward()
    np.sum(found * weights.astype(dtype)).backward()
    gradients = pretrained.export(ours, "huggingface", gradients=True)
    right = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == right.keys() - {"cls.predictions.decoder.bias"}
    largest = max(np.abs(g).max() for g in right.values())
    for name, g in gradients.items():
        if name.endswith("key.bias"):
            assert np.abs(g - right[name]).max() < 1e-6 * largest
        else:
            assert off(g, right[name]) < TOLERANCE[dtype] * (1 if dtype == "float64" else 3), name


@pytest.mark.parametrize("crosses", [False, True])
def test_causal_use_with_and_without_a_picture(tmp_path, crosses):
    more = {"is_decoder": True, "add_cross_attention": crosses}
    model = theirs(transformers.BertLMHeadModel, "float64", **more)
    model.save_pretrained(tmp_path)
    ours = pretrained.load(tmp_path, dtype="float64")
    assert (ours.config.encoder_width is None) != crosses
    memory = np.random.default_rng(0).standard_normal((2, 4, 24)) if crosses else None
    options = {"encoder_hidden_states": torch.tensor(memory)} if crosses else {}
    logits = model(
        input_ids=torch.tensor(IDS), attention_mask=torch.tensor(REAL).long(), **options
    ).logits
    found = ours(IDS, may_attend=causal_mask(5) & padding_mask(REAL), memory=memory).data
    assert off(found[REAL], logits[torch.tensor(REAL)]) < 1e-9


def test_what_we_save_opens_there(tmp_path):
    model = theirs(transformers.BertForMaskedLM, "float32")
    model.save_pretrained(tmp_path / "a")
    pretrained.save(pretrained.load(tmp_path / "a"), tmp_path / "b")
    again = transformers.BertForMaskedLM.from_pretrained(tmp_path / "b").eval()
    for name, array in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], array), name
