"""BLIP beside transformers: tiny random models of both kinds that it has, saved there and opened here, and the other way round."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny import randomized

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tinymm import pretrained  # noqa: E402
from tinymm.autodiff import no_grad  # noqa: E402
from tinymm.models.blip import BLIP, BLIPConfig  # noqa: E402
from tinymm.tasks import losses  # noqa: E402

pytestmark = pytest.mark.parity
TOLERANCE = {"float64": 1e-9, "float32": 2e-5}
DEC, SEP, V = 28, 3, 30
# Nothing is left to transformers' defaults where theirs would be wrong here: 8 heads, [DEC] 30522,
# [SEP] 102. The eps of the vision norms is.
VISION = dict(
    hidden_size=24,
    intermediate_size=40,
    num_hidden_layers=2,
    num_attention_heads=3,
    image_size=16,
    patch_size=8,
    attention_dropout=0.0,
)
TEXT = dict(
    hidden_size=16, intermediate_size=28, num_hidden_layers=3, num_attention_heads=2, vocab_size=V, max_position_embeddings=14, bos_token_id=DEC,
    sep_token_id=SEP, eos_token_id=SEP, pad_token_id=0, is_decoder=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
IDS = np.array([[1, 7, 9, 11, SEP], [1, 8, SEP, 0, 0], [1, 12, 13, SEP, 0]])
REAL = IDS > 0


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_weights(model, seed=0):
    """Return the model in evaluation with no parameter left at its initialization: transformers' begins its vision with weights of 10⁻¹⁰."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.2 + (1.0 if p.ndim == 1 and p.mean() > 0.5 else 0.0))
    return model.eval()


def theirs_and_ours(kind, folder, dtype, **text):
    model = random_weights(
        kind(
            transformers.BlipConfig(
                text_config=TEXT | text, vision_config=VISION, image_text_hidden_size=10
            )
        )
    )
    model.save_pretrained(folder)
    return model.to(getattr(torch, dtype)), pretrained.load(folder, dtype=dtype)


def pictures(dtype, count=3):
    images = np.random.default_rng(0).standard_normal((count, 16, 16, 3)).astype(dtype)
    return images, torch.tensor(images.transpose(0, 3, 1, 2).copy())


def off(found, right):
    right = right.detach().numpy() if hasattr(right, "detach") else right
    return float(np.abs(np.asarray(found) - right).max() / np.abs(right).max())


def written(out, given, end):
    """Return what stands behind the prompt and before the end, row by row."""
    rows = [row[given:] for row in out.tolist()]
    return [row[: row.index(end)] if end in row else row for row in rows]


def check_gradients(ours, form, theirs, tolerance):
    found = pretrained.export(ours, form, gradients=True)
    right = {name: p.grad.numpy() for name, p in theirs.named_parameters() if p.grad is not None}
    assert found.keys() == right.keys()
    largest = max(np.abs(g).max() for g in right.values())
    for name, g in found.items():
        if name.endswith(
            "key.bias"
        ):  # a softmax does not see what is added to all of its scores: zero but for rounding
            assert max(np.abs(g).max(), np.abs(right[name]).max()) < 1e-6 * largest
        else:
            assert off(g, right[name]) < tolerance, (name, off(g, right[name]))


# ---------------------------------------------------------------------- retrieval
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_cosines_matching_logits_and_all_gradients(tmp_path, dtype):
    theirs, ours = theirs_and_ours(transformers.BlipForImageTextRetrieval, tmp_path, dtype)
    assert (
        isinstance(ours, BLIP)
        and ours.momentum_encoder is None
        and ours.config.encode is None
        and ours.config.image.eps == 1e-5
    )
    images, pixels = pictures(dtype)
    text = {"input_ids": torch.tensor(IDS), "attention_mask": torch.tensor(REAL).long()}
    cosines = theirs(pixel_values=pixels, **text, use_itm_head=False).itm_score
    logits = theirs(pixel_values=pixels, **text).itm_score
    tokens = ours.image_tokens(images)
    found = (ours(images, IDS, REAL), ours.itm_logits(tokens, IDS, REAL))
    assert (
        off(found[0].data, cosines) < TOLERANCE[dtype]
        and off(found[1].data, logits) < TOLERANCE[dtype]
    )
    np.testing.assert_allclose(
        ours.itm_probability(images, IDS, REAL),
        logits.softmax(-1)[:, 1].detach().numpy(),
        rtol=1e-4,
    )
    weights = [np.random.default_rng(1).standard_normal(x.shape).astype(dtype) for x in found]
    (
        (cosines * torch.tensor(weights[0])).sum() + (logits * torch.tensor(weights[1])).sum()
    ).backward()
    (np.sum(found[0] * weights[0]) + np.sum(found[1] * weights[1])).backward()
    check_gradients(ours, "huggingface_retrieval", theirs, TOLERANCE[dtype])


def test_what_a_folder_lacks_begins_anew_and_is_named(tmp_path):
    random_weights(
        transformers.BlipForImageTextRetrieval(
            transformers.BlipConfig(text_config=TEXT, vision_config=VISION)
        )
    ).save_pretrained(tmp_path)
    fresh = pretrained.load_with_report(tmp_path)[1].newly_initialized
    assert "temperature" in fresh and all(
        name == "temperature" or name.startswith("decoder.") for name in fresh
    )
    theirs_and_ours(transformers.BlipForConditionalGeneration, tmp_path, "float32")
    fresh = pretrained.load_with_report(tmp_path)[1].newly_initialized
    assert {name.split(".")[1] for name in fresh if name.startswith("encoders.")} == {
        "image_projection",
        "text_projection",
        "text_encoder",
    }
    assert {name.split(".")[0] for name in fresh} == {"encoders", "temperature", "itm_head"}
    assert all(
        ".attention." in name or ".norm_1." in name for name in fresh if "text_encoder" in name
    )


# ---------------------------------------------------------------------- captioning
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_captioning_logits_loss_and_all_gradients(tmp_path, dtype, smoothing):
    theirs, ours = theirs_and_ours(
        transformers.BlipForConditionalGeneration, tmp_path, dtype, label_smoothing=smoothing
    )
    assert ours.config.smoothing == smoothing and (ours.config.decode, ours.config.end_of_text) == (
        DEC,
        SEP,
    )
    images, pixels = pictures(dtype)
    ids = np.where(np.arange(5) == 0, DEC, IDS)
    logits = theirs(
        pixel_values=pixels, input_ids=torch.tensor(ids), attention_mask=torch.tensor(REAL).long()
    ).logits
    tokens = ours.image_tokens(images)
    assert (
        off(ours.lm_logits(tokens, IDS, REAL).data[REAL], logits[torch.tensor(REAL)])
        < TOLERANCE[dtype]
    )
    targets = torch.tensor(np.where(REAL, ids, -100))[:, 1:].reshape(-1)
    loss = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, V), targets, ignore_index=-100, label_smoothing=smoothing
    )
    mine = losses(ours, images, IDS, REAL, objectives=("lm",))["lm"]
    assert off(mine.data, loss) < TOLERANCE[dtype]
    loss.backward()
    mine.backward()
    check_gradients(ours, "huggingface", theirs, TOLERANCE[dtype])


SEARCHES = [
    {},
    {"beams": 3},
    {"beams": 3, "length_penalty": 0.0},
    {"beams": 3, "length_penalty": 2.0, "min_new_tokens": 4},
    {"min_new_tokens": 5},
]


@pytest.fixture(scope="module", params=TOLERANCE)
def writers(request, tmp_path_factory):
    """A model, there and here, whose captions are of many lengths: it likes [SEP] better than chance would have it."""
    model = random_weights(
        transformers.BlipForConditionalGeneration(
            transformers.BlipConfig(text_config=TEXT, vision_config=VISION)
        ),
        seed=9,
    )
    with torch.no_grad():
        model.text_decoder.cls.predictions.bias[SEP] += 2.0
    folder = tmp_path_factory.mktemp("decoder")
    model.save_pretrained(folder)
    return (
        model.to(getattr(torch, request.param)),
        pretrained.load(folder, dtype=request.param),
        *pictures(request.param, 6),
    )


@pytest.mark.parametrize("prompt", [(), (7, 9)])
def test_captions_are_those_of_generate(writers, prompt):
    theirs, ours, images, pixels = writers
    given, ids = {}, None
    if prompt:
        ids = np.broadcast_to(prompt, (6, len(prompt)))
        framed = np.concatenate(
            [np.full((6, 1), 1), ids, np.full((6, 1), SEP)], axis=1
        )  # [CLS] … [SEP], as their processor makes it
        given = {
            "input_ids": torch.tensor(framed),
            "attention_mask": torch.ones(framed.shape, dtype=torch.long),
        }
    found = []
    for options in SEARCHES:
        named = {
            ("num_beams" if name == "beams" else name): value for name, value in options.items()
        }
        out = theirs.generate(
            pixel_values=pixels, **given, max_new_tokens=8, do_sample=False, **named
        )
        begin = None if ids is None else framed[:, :-1]
        found.append(ours.generate(images, begin, max_new_tokens=8, **options))
        assert found[-1] == written(out, 1 + len(prompt), SEP), options
    assert len({str(captions) for captions in found}) == len(
        SEARCHES
    )  # each way of searching finds something of its own
    assert len({len(caption) for captions in found for caption in captions}) > 2


# ---------------------------------------------------------------------- ours there
@pytest.fixture(scope="module", params=TOLERANCE)
def full(request):
    """A whole BLIP of ours, twin and queue and all, with norms of another eps than theirs."""
    tiny = BLIPConfig.tiny()
    config = replace(
        tiny, image=replace(tiny.image, eps=3e-4), text=replace(tiny.text, eps=2e-5), encode=None
    )
    return randomized(BLIP(config, np.random.default_rng(0))).astype(request.param).eval()


def opened_there(kind, model, folder, form):
    pretrained.save(model, folder, format=form)
    dtype = str(model.temperature.dtype)
    there = kind.from_pretrained(folder, dtype=getattr(torch, dtype))
    for name, array in pretrained.export(model, form).items():
        assert (
            there.state_dict()[name].numpy().tobytes() == np.ascontiguousarray(array).tobytes()
        ), name
    return there.eval(), TOLERANCE[dtype], *pictures(dtype)


def test_a_retrieval_folder_of_ours_gives_the_same_numbers_there(tmp_path, full):
    theirs, tolerance, images, pixels = opened_there(
        transformers.BlipForImageTextRetrieval, full, tmp_path, "huggingface_retrieval"
    )
    text = {"input_ids": torch.tensor(IDS), "attention_mask": torch.tensor(REAL).long()}
    with no_grad(), torch.no_grad():
        assert (
            off(
                full(images, IDS, REAL).data,
                theirs(pixel_values=pixels, **text, use_itm_head=False).itm_score,
            )
            < tolerance
        )
        assert (
            off(
                full.itm_logits(full.image_tokens(images), IDS, REAL).data,
                theirs(pixel_values=pixels, **text).itm_score,
            )
            < tolerance
        )


def test_a_captioning_folder_of_ours_gives_the_same_numbers_and_captions_there(tmp_path, full):
    theirs, tolerance, images, pixels = opened_there(
        transformers.BlipForConditionalGeneration, full, tmp_path, "huggingface"
    )
    assert theirs.text_decoder.label_smoothing == full.config.smoothing == 0.1
    ids = np.where(np.arange(5) == 0, full.config.decode, IDS)
    with no_grad(), torch.no_grad():
        logits = theirs(
            pixel_values=pixels,
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor(REAL).long(),
        ).logits
        assert (
            off(
                full.lm_logits(full.image_tokens(images), IDS, REAL).data[REAL],
                logits[torch.tensor(REAL)],
            )
            < tolerance
        )
        for beams in (1, 3):
            out = theirs.generate(
                pixel_values=pixels, max_new_tokens=6, num_beams=beams, do_sample=False
            )
            assert full.generate(images, max_new_tokens=6, beams=beams) == written(
                out, 1, full.config.end_of_text
            )


@pytest.mark.parametrize("form", ["huggingface", "huggingface_retrieval"])
def test_a_folder_of_ours_is_opened_here_and_there_with_the_same_settings(tmp_path, full, form):
    pretrained.save(full, tmp_path, format=form)
    again, report = pretrained.load_with_report(tmp_path, dtype=str(full.temperature.dtype))
    mine, its = full.config, again.config
    assert (its.image, its.text, its.decode, its.end_of_text, its.smoothing) == (
        mine.image,
        mine.text,
        mine.decode,
        mine.end_of_text,
        mine.smoothing,
    )
    for name, array in full.state_dict().items():
        if (
            not name.startswith(("momentum_encoder.", "queue."))
            and name not in report.newly_initialized
        ):
            assert again.state_dict()[name].tobytes() == array.tobytes(), name
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "blip" and config["text_config"]["is_decoder"] is True
