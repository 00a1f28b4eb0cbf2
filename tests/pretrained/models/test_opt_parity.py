"""OPT beside transformers: logits, loss, gradients and texts of tiny random models, and every form in which its files come."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tinymm import pretrained  # noqa: E402
from tinymm.arrays.errors import CheckpointError  # noqa: E402
from tinymm.models.decoding import sample_top_p  # noqa: E402
from tinymm.models.opt import OPT, OPTConfig  # noqa: E402
from tinymm.pretrained.key_maps import StateDictLayout  # noqa: E402
from tinymm.pretrained.models.opt import HUGGING_FACE, RELEASED, recognize, rules  # noqa: E402
from tinymm.tasks import losses  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("torch")]
TOLERANCE = {"float64": 1e-9, "float32": 2e-5}
V, CONTEXT, PAD, END = 12, 30, 1, 3
SIZES = dict(
    vocab_size=V, max_position_embeddings=CONTEXT, hidden_size=24, word_embed_proj_dim=24, num_hidden_layers=2, num_attention_heads=2,
    ffn_dim=40, dropout=0.0, attention_dropout=0.0, pad_token_id=PAD, bos_token_id=2, eos_token_id=END, attn_implementation="sdpa",
)  # fmt: skip
CONFIGS = {
    "as released": {"ffn_dim": 96},
    "own feed-forward": {},
    "many heads": {"num_attention_heads": 8, "num_hidden_layers": 3},
}


def theirs(places=0.3, **changes):
    """Return a model of which every parameter is random: zero biases and gains of one hide faults."""
    model = transformers.OPTForCausalLM(transformers.OPTConfig(**(SIZES | changes))).eval()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            center, std = (
                1.0 if name.endswith("layer_norm.weight") else 0.0,
                places if "positions" in name else 0.3,
            )
            parameter.copy_(torch.tensor(center + std * rng.standard_normal(parameter.shape)))
    return model


def both(folder, dtype="float64", **changes):
    """Return their model in a precision, and ours of the folder that it was saved to."""
    model = theirs(**changes)
    model.save_pretrained(folder)
    ours = pretrained.load(folder, dtype=dtype)
    assert isinstance(ours, OPT) and not ours.training
    return model.to(getattr(torch, dtype)), ours


def off(found, right):
    right = right.detach().numpy()
    return float(np.abs(found - right).max() / np.abs(right).max())


def batch(side):
    """Return texts of 7, 4 and 5 tokens, padded on one side."""
    ids = np.random.default_rng(1).integers(4, V, (3, 7))
    real = np.arange(7) < np.array([7, 4, 5])[:, None]
    if side == "left":
        real = real[:, ::-1].copy()
    return np.where(real, ids, PAD), real


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_loss_and_all_gradients(name, side, dtype, tmp_path):
    model, ours = both(tmp_path, dtype, **CONFIGS[name])
    ids, real = batch(side)
    logits = model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(real).long()).logits
    assert off(ours(ids, real).data[real], logits[torch.tensor(real)]) < TOLERANCE[dtype]

    # Theirs would be in float32, and would ask the padding on the left for the first word.
    follows = np.concatenate([np.zeros((3, 1), bool), real[:, 1:] & real[:, :-1]], axis=1)
    targets = torch.tensor(np.where(follows, ids, -100))[:, 1:]
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, V), targets.reshape(-1), ignore_index=-100
    )
    mine = losses(ours, None, ids, real)["lm"]
    assert off(mine.data, loss) < TOLERANCE[dtype]

    loss.backward()
    mine.backward()
    found = pretrained.export(ours, "huggingface", gradients=True)
    right = {key: parameter.grad for key, parameter in model.named_parameters()}
    assert found.keys() == right.keys()
    largest = max(float(gradient.abs().max()) for gradient in right.values())
    for key, gradient in right.items():
        if key.endswith(
            "k_proj.bias"
        ):  # zero but for rounding: a softmax does not see what is added to all of its scores
            assert np.abs(found[key]).max() < largest * {"float64": 1e-13, "float32": 1e-5}[dtype]
        else:
            assert off(found[key], gradient) < TOLERANCE[dtype], key


# ---------------------------------------------------------------------- texts
@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return both(
        tmp_path_factory.mktemp("opt"), places=2.0
    )  # louder than the words, which would repeat themselves for ever


def cut(row, end=END):
    """Return a text without its end and what stands behind."""
    return row[: row.index(end)] if end in row else row


PROMPTS = [[2, 5, 6, 7], [2, 9], [2, 10, 11]]


def padded(side):
    rows = [
        [PAD] * (4 - len(p)) + p if side == "left" else p + [PAD] * (4 - len(p)) for p in PROMPTS
    ]
    return np.array(rows), np.array([[token != PAD for token in row] for row in rows])


@pytest.mark.parametrize("least", [0, 4])
@pytest.mark.parametrize(
    "beams, penalty", [(1, 1.0), (2, 1.0), (4, 1.0), (3, 0.0), (3, -1.0), (3, 2.0)]
)
def test_prompts_go_on_with_the_same_ids(beams, penalty, least, pair):
    model, ours = pair
    ids, real = padded("left")
    lengths = []
    for end in range(2, V):  # some of these tokens are likely, so that texts end at every length
        out = model.generate(
            torch.tensor(ids), attention_mask=torch.tensor(real).long(), max_new_tokens=9, min_new_tokens=least, num_beams=beams,
            length_penalty=penalty, do_sample=False, eos_token_id=end,
        )  # fmt: skip
        right = [cut(row[4:], end) for row in out.tolist()]
        for side in ("left", "right"):
            options = {
                "max_new_tokens": 9,
                "min_new_tokens": least,
                "beams": beams,
                "length_penalty": penalty,
            }
            assert ours.generate(*padded(side), end=end, **options) == right
        lengths += map(len, right)
    assert min(lengths) >= least and len(set(lengths)) > 1, lengths


@pytest.mark.parametrize("beams", [1, 3])
def test_prompts_behind_soft_words_go_on_with_the_same_ids(beams, pair):
    model, ours = pair
    soft = np.random.default_rng(2).standard_normal((3, 5, 24))
    ids, real = padded("left")
    for row in range(3):  # one by one: their padding would stand between soft words and prompt
        prompt = ids[row, real[row]][None]
        x = torch.cat(
            [torch.tensor(soft[row : row + 1]), model.get_input_embeddings()(torch.tensor(prompt))],
            dim=1,
        )
        (right,) = model.generate(
            inputs_embeds=x, max_new_tokens=8, num_beams=beams, do_sample=False
        ).tolist()
        assert ours.generate(
            prompt, embeddings=soft[row : row + 1], max_new_tokens=8, beams=beams
        ) == [cut(right)]


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 1.0])
def test_the_nucleus_has_the_same_tokens(top_p):
    logits = 2 * np.random.default_rng(3).standard_normal((20, V))
    right = torch.isfinite(transformers.TopPLogitsWarper(top_p)(None, torch.tensor(logits))).numpy()
    rng = np.random.default_rng(4)
    drawn = sample_top_p(np.repeat(logits, 3000, axis=0), top_p, rng).reshape(20, 3000)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row in range(20):
        seen = np.bincount(drawn[row], minlength=V) > 0
        assert not (seen & ~right[row]).any() and seen[right[row] & (p[row] > 0.01)].all()


# ---------------------------------------------------------------------- files
@pytest.mark.parametrize(
    "kind",
    ["float16", "sharded", "bin", "sharded bin", "head repeated", "released keys", "no config"],
)
def test_every_form_of_folder(kind, tmp_path):
    model = theirs().to(torch.float16 if kind == "float16" else torch.float32)
    model.save_pretrained(tmp_path, **({"max_shard_size": "8KB"} if kind == "sharded" else {}))
    state = {key: value for key, value in model.state_dict().items()}
    if kind not in ("float16", "sharded", "no config"):
        (tmp_path / "model.safetensors").unlink()
    if kind == "bin":
        del state["lm_head.weight"]
    if kind == "released keys":  # as facebook/opt-125m was uploaded: no "model.", and no head
        state = {
            key.removeprefix("model."): value
            for key, value in state.items()
            if key != "lm_head.weight"
        }
    if kind == "sharded bin":
        parts = [dict(list(state.items())[::2]), dict(list(state.items())[1::2])]
        for number, part in enumerate(parts):
            torch.save(part, tmp_path / f"pytorch_model-{number}.bin")
        places = {
            key: f"pytorch_model-{number}.bin" for number, part in enumerate(parts) for key in part
        }
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    elif not list(tmp_path.glob("*.safetensors*")):
        torch.save(state, tmp_path / "pytorch_model.bin")
    if kind == "sharded":
        assert len(list(tmp_path.glob("*.safetensors"))) > 2
    if kind == "no config":
        (tmp_path / "config.json").unlink()
    ours, report = pretrained.load_with_report(
        tmp_path, heads={"language": 2} if kind == "no config" else None
    )
    assert report.ignored in ([], ["lm_head.weight"]) and not report.newly_initialized
    ids, real = batch("right")
    right = model.float()(
        input_ids=torch.tensor(ids), attention_mask=torch.tensor(real).long()
    ).logits
    assert off(ours(ids, real).data[real], right[torch.tensor(real)]) < TOLERANCE["float32"]
    assert (ours.config.end, ours.config.begin) == (2 if kind == "no config" else END, 2)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_transformers_opens_what_we_save(dtype, tmp_path):
    rng = np.random.default_rng(3)
    ours = OPT(OPTConfig.tiny(feed_forward=40, end=9), rng).astype(dtype).eval()
    ours.load_state_dict(
        {
            key: value + 0.3 * rng.standard_normal(value.shape)
            for key, value in ours.state_dict().items()
        }
    )
    pretrained.save(ours, tmp_path)
    model, report = transformers.OPTForCausalLM.from_pretrained(
        tmp_path, attn_implementation="sdpa", dtype=getattr(torch, dtype), output_loading_info=True
    )
    assert not any(report.values()), report
    assert (model.config.eos_token_id, model.config.bos_token_id, model.dtype) == (
        9,
        2,
        getattr(torch, dtype),
    )
    ids, real = batch("right")
    logits = model.eval()(
        input_ids=torch.tensor(ids), attention_mask=torch.tensor(real).long()
    ).logits
    assert off(ours(ids, real).data[real], logits[torch.tensor(real)]) < TOLERANCE[dtype]
    again = pretrained.load(tmp_path, dtype=dtype)
    assert again.config == ours.config
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)


@pytest.mark.parametrize("name", ["opt-125m", "opt-1.3b", "opt-2.7b", "opt-6.7b"])
def test_the_sizes_are_theirs(name):
    ours = OPTConfig.paper(name)
    config = transformers.OPTConfig(
        vocab_size=ours.vocabulary, max_position_embeddings=ours.context, hidden_size=ours.width, word_embed_proj_dim=ours.width,
        num_hidden_layers=ours.layers, num_attention_heads=ours.heads, ffn_dim=ours.feed_forward,
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.OPTForCausalLM(config)
    model.tie_weights()
    expected = {
        "opt-125m": 125_239_296,
        "opt-1.3b": 1_315_758_080,
        "opt-2.7b": 2_651_596_800,
        "opt-6.7b": 6_658_473_984,
    }
    assert sum(parameter.numel() for parameter in model.parameters()) == expected[name]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"do_layer_norm_before": False},
            "this OPT has its norms behind the sums or a narrow table of words, as opt-350m has; load another size",
        ),
        (
            {"word_embed_proj_dim": 12},
            "a narrow table of words, as opt-350m has; load another size",
        ),
        (
            {"activation_function": "gelu"},
            "an OPT's activation is relu, and 'gelu' came; load another model",
        ),
    ],
)
def test_models_that_are_built_differently_are_refused(changes, said, tmp_path):
    theirs(**changes).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        pretrained.load(tmp_path)
    assert said in str(caught.value)


@pytest.mark.parametrize("prefix", ["model.decoder.", "decoder.", "language_model.model.decoder."])
def test_every_array_has_one_key_under_every_prefix(prefix):
    ours = OPT(OPTConfig.tiny(), np.random.default_rng(0)).state_dict()
    layout = StateDictLayout("test", rules(prefix))
    exported, missing_keys = layout.export(ours)
    assert not missing_keys and all(key.startswith(prefix) for key in exported)
    with torch.device("meta"):
        right = {
            key
            for key, _ in transformers.OPTForCausalLM(
                transformers.OPTConfig(**SIZES)
            ).named_parameters()
        }
    assert {key.replace(prefix, "model.decoder.", 1) for key in exported} == right
    found = layout.import_(exported)
    assert not found.unexpected and not found.incomplete
    for name, array in ours.items():
        np.testing.assert_array_equal(found.arrays[name], array)
    known = {"model.decoder.": HUGGING_FACE, "decoder.": RELEASED}
    assert recognize(exported, {}) is known.get(prefix)
