"""ALBEF's and BLIP's own numbers: pretraining by the original code, on tiny random weights: losses, queues, EMA, draws and every gradient.

`reference/albef.*` and `blip.*` are its weights, settings, inputs, the words that it hid and the
hard negatives that it drew, and its results in float64 (gradients as whole numbers of 2⁻³¹ of each
array's largest entry). ALBEF went two steps, on two batches, without an optimizer between. The
original moves the EMA before each forward pass and ours after each step, so ours moves once before
the first.
"""

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tinymm import pretrained
from tinymm.models.albef import ALBEF
from tinymm.models.blip import BLIP
from tinymm.tasks import albef, blip

REFERENCE = Path(__file__).parents[1] / "reference"
MODELS = {"albef": ALBEF, "blip": BLIP}
TASKS = {"albef": albef, "blip": blip}
STEPS = {"albef": ("0", "1"), "blip": ("",)}
LOSSES = {
    "albef": {"itc": "ita", "itm": "itm", "mlm": "mlm"},
    "blip": {"itc": "ita", "itm": "itm", "lm": "lm"},
}
TOLERANCE = {"float64": 1e-9, "float32": 2e-5}


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    """A folder as a user makes it: the file of weights and, beside it, the settings that it was trained with."""
    folder = tmp_path_factory.mktemp(name)
    shutil.copy(REFERENCE / f"{name}.safetensors", folder / "model.safetensors")
    shutil.copy(REFERENCE / f"{name}.json", folder / "config.json")
    return folder


@cache
def right(name):
    with np.load(REFERENCE / f"{name}.npz") as file:
        return {
            key: array.astype(int) if array.dtype == np.int16 else array
            for key, array in file.items()
        }


def inputs(name, n, dtype):
    theirs = right(name)
    return (
        theirs[f"pixel_values{n}"].transpose(0, 2, 3, 1).astype(dtype),
        theirs[f"input_ids{n}"],
        theirs[f"attention_mask{n}"].astype(bool),
    )


def step(model, name, n, dtype):
    """Compute one step with the original's draws."""
    theirs = right(name)
    masked = (
        {"masked": (theirs[f"mlm_input_ids{n}"], theirs[f"mlm_labels{n}"])}
        if name == "albef"
        else {}
    )
    negatives = theirs[f"neg_image_for_text{n}"], theirs[f"neg_text_for_image{n}"]
    return TASKS[name].step(model, *inputs(name, n, dtype), negatives=negatives, **masked)


def off(found, right):
    """Return the largest difference over the largest right number."""
    return float(np.abs(np.asarray(found) - right).max() / np.abs(right).max())


def check_losses(found, name, n, tolerance):
    assert found.keys() == LOSSES[name].keys()
    for ours, its in LOSSES[name].items():
        assert off(found[ours].data, right(name)[f"loss_{its}{n}"]) < tolerance, (ours, n)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_steps_of_training_agree_with_the_original_code(name, folder, dtype):
    model, tolerance, theirs = pretrained.load(folder, dtype=dtype), TOLERANCE[dtype], right(name)
    model.momentum_encoder.update(model.encoders)
    for n in STEPS[name]:
        for parameter in model.parameters():
            parameter.grad = None
        found = step(model, name, n, dtype)
        check_losses(found.losses, name, n, tolerance)
        sum(found.losses.values()).backward()
        check_gradients(pretrained.export(model, name, gradients=True), name, n, dtype)
        if name == "albef":
            ema = model.momentum_encoder.model.image_projection.weight.data
            assert off(ema.T, theirs[f"vision_proj_m{n}"]) < tolerance
        TASKS[name].after_step(model, found.memory)
        assert off(model.queue.images.data.T, theirs[f"image_queue{n}"]) < tolerance
        assert off(model.queue.texts.data.T, theirs[f"text_queue{n}"]) < tolerance
        assert [model.queue.pointer] == theirs[f"queue_ptr{n}"].tolist()


def check_gradients(found, name, n, dtype):
    theirs, start = right(name), 0
    assert sorted(found) == theirs["keys"].tolist()
    for key, largest in zip(theirs["keys"].tolist(), theirs[f"largest{n}"], strict=True):
        stop = start + found[key].size
        value = theirs[f"gradients{n}"][start:stop] * (largest / (2**31 - 1))
        start = stop
        if key.endswith(
            "key.bias"
        ):  # a softmax does not see what is added to all of its scores: zero but for rounding
            assert (
                max(np.abs(found[key]).max(), largest)
                < (1e-13 if dtype == "float64" else 1e-6) * theirs[f"largest{n}"].max()
            ), key
        else:
            assert off(found[key].ravel(), value) < TOLERANCE[dtype], (
                key,
                n,
                off(found[key].ravel(), value),
            )
    assert start == len(theirs[f"gradients{n}"])


def test_what_the_settings_tell_is_taken_and_what_the_file_lacks_is_named(name, folder):
    model, report = pretrained.load_with_report(folder)
    assert isinstance(model, MODELS[name]) and not model.training and not report.unexpected
    assert report.newly_initialized == ["queue.ids", "queue.pushed"]
    assert all(
        key.endswith("position_ids") or ".decoder." in key or key.startswith("text_decoder.bert.")
        for key in report.ignored
    )
    config = model.config
    assert (config.momentum, config.alpha, config.queue, config.embed_dim) == (0.9, 0.4, 16, 20)
    assert (config.image.heads, config.text.heads, config.image.eps, config.text.eps) == (
        5,
        4,
        1e-6,
        1e-12,
    )
    if name == "albef":
        assert (config.mlm_probability, config.text.fusion_layer, config.text.token_types) == (
            0.4,
            2,
            2,
        )
        assert config.mask == 63  # the last of these few words; of BERT's it is 103
    else:
        assert (config.decode, config.encode, config.smoothing, config.text.token_types) == (
            64,
            65,
            0.1,
            0,
        )


def test_a_bare_file_needs_only_the_heads(name):
    model = pretrained.load(
        REFERENCE / f"{name}.safetensors", dtype="float64", heads={"image": 5, "text": 4}
    )
    assert model.config.momentum == 0.995
    model.momentum_encoder.momentum = 0.9  # which no array tells
    model.momentum_encoder.update(model.encoders)
    check_losses(step(model, name, STEPS[name][0], "float64").losses, name, STEPS[name][0], 1e-9)


def test_negatives_are_drawn_with_the_original_probabilities(name, folder, monkeypatch):
    model, n = pretrained.load(folder, dtype="float64"), STEPS[name][0]
    model.momentum_encoder.update(model.encoders)
    hard_negatives, count, draws, similarities = TASKS[name].hard_negatives, 20_000, [], []

    def draw_often(image_to_text, ids, rng, text_to_image):
        similarities.extend((image_to_text, text_to_image))
        draws.extend(hard_negatives(image_to_text, ids, rng, text_to_image) for _ in range(count))
        return draws[0]

    monkeypatch.setattr(TASKS[name], "hard_negatives", draw_often)
    TASKS[name].step(
        model, *inputs(name, n, "float64"), rng=np.random.default_rng(0), objectives=("itc", "itm")
    )
    draws = np.array(draws)
    for side, which in enumerate(("t2i", "i2t")):
        p = np.exp(similarities[1 - side])
        p = np.where(np.eye(len(p)), 0, p / p.sum(axis=1, keepdims=True))
        # BLIP adds 10⁻⁴ to each, for rows whose others have all become zeros; ours are masked before the softmax, which leaves none such.
        assert (
            off(
                p if name == "albef" else np.where(np.eye(len(p)), 0, p + 1e-4),
                right(name)[f"weights_{which}{n}"],
            )
            < 1e-9
        ), which
        p = p / p.sum(axis=1, keepdims=True)
        frequency = (
            np.stack([np.bincount(column, minlength=len(p)) for column in draws[:, side].T]) / count
        )
        assert np.all(np.abs(frequency - p) <= 6 * np.sqrt(p * (1 - p) / count) + 1e-12), (
            which
        )  # 6 standard deviations
