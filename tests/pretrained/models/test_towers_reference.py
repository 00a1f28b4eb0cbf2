"""ALBEF's and BLIP's own numbers: pretraining by the original code, on tiny random weights: losses, queues, the twin, draws and every gradient.

`reference/albef.*` and `blip.*` are its weights, settings, inputs, the words that it hid and the hard negatives that it drew, and its results in
float64 (gradients as whole numbers of 2⁻³¹ of each array's largest entry). ALBEF went two steps, on two batches, without an optimizer between.
"""

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tinymm import pretrained
from tinymm.models.albef import ALBEF
from tinymm.models.blip import BLIP

REFERENCE = Path(__file__).parents[1] / "reference"
MODELS = {"albef": ALBEF, "blip": BLIP}
STEPS = {"albef": ("0", "1"), "blip": ("",)}
LOSSES = {"albef": {"itc": "ita", "itm": "itm", "mlm": "mlm"}, "blip": {"itc": "ita", "itm": "itm", "lm": "lm"}}
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
        return {key: array.astype(int) if array.dtype == np.int16 else array for key, array in file.items()}


def inputs(name, n, dtype):
    theirs = right(name)
    return theirs[f"pixel_values{n}"].transpose(0, 2, 3, 1).astype(dtype), theirs[f"input_ids{n}"], theirs[f"attention_mask{n}"].astype(bool)


def losses(model, name, n, dtype):
    """Take one step with the original's draws."""
    theirs = right(name)
    masked = {"masked": (theirs[f"mlm_input_ids{n}"], theirs[f"mlm_labels{n}"])} if name == "albef" else {}
    return model.losses(*inputs(name, n, dtype), negatives=(theirs[f"neg_image_for_text{n}"], theirs[f"neg_text_for_image{n}"]), **masked)


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
    for n in STEPS[name]:
        for parameter in model.parameters():
            parameter.grad = None
        found = losses(model, name, n, dtype)
        check_losses(found, name, n, tolerance)
        sum(found.values()).backward()
        check_gradients(pretrained.export(model, name, gradients=True), name, n, dtype)
        assert off(model.queue.images.data.T, theirs[f"image_queue{n}"]) < tolerance
        assert off(model.queue.texts.data.T, theirs[f"text_queue{n}"]) < tolerance
        assert [model.queue.pointer] == theirs[f"queue_ptr{n}"].tolist()
        if name == "albef":
            assert off(model.twin.copy.image_projection.weight.data.T, theirs[f"vision_proj_m{n}"]) < tolerance


def check_gradients(found, name, n, dtype):
    theirs, start = right(name), 0
    assert sorted(found) == theirs["keys"].tolist()
    for key, largest in zip(theirs["keys"].tolist(), theirs[f"largest{n}"], strict=True):
        stop = start + found[key].size
        value = theirs[f"gradients{n}"][start:stop] * (largest / (2**31 - 1))
        start = stop
        if key.endswith("key.bias"):  # a softmax does not see what is added to all of its scores: zero but for rounding
            assert max(np.abs(found[key]).max(), largest) < (1e-13 if dtype == "float64" else 1e-6) * theirs[f"largest{n}"].max(), key
        else:
            assert off(found[key].ravel(), value) < TOLERANCE[dtype], (key, n, off(found[key].ravel(), value))
    assert start == len(theirs[f"gradients{n}"])


def test_what_the_settings_tell_is_taken_and_what_the_file_lacks_is_named(name, folder):
    model, report = pretrained.load_with_report(folder)
    assert isinstance(model, MODELS[name]) and not model.training and not report.unexpected
    assert report.fresh == ["queue.ids", "queue.pushed"]
    assert all(key.endswith("position_ids") or ".decoder." in key or key.startswith("text_decoder.bert.") for key in report.ignored)
    config = model.config
    assert (config.momentum, config.alpha, config.queue, config.joint_width) == (0.9, 0.4, 16, 20)
    assert (config.image.heads, config.text.heads, config.image.eps, config.text.eps) == (5, 4, 1e-6, 1e-12)
    if name == "albef":
        assert (config.hidden_share, config.text.crosses_from, config.text.token_types) == (0.4, 2, 2)
        assert config.mask == 63  # the last of these few words; of BERT's it is 103
    else:
        assert (config.decode, config.encode, config.smoothing, config.text.token_types) == (64, 65, 0.1, 0)


def test_a_bare_file_needs_only_the_heads(name):
    model = pretrained.load(REFERENCE / f"{name}.safetensors", dtype="float64", heads={"image": 5, "text": 4})
    assert model.config.momentum == 0.995
    model.twin.momentum = 0.9  # which no array tells
    check_losses(losses(model, name, STEPS[name][0], "float64"), name, STEPS[name][0], 1e-9)


def test_negatives_are_drawn_with_the_original_probabilities(name, folder):
    model, n = pretrained.load(folder, dtype="float64"), STEPS[name][0]
    (images, ids, is_real), one = inputs(name, n, "float64"), lambda function: function
    alpha = model.begin_step(len(ids), model.config.alpha, model.config.ramp)
    twin_tokens = model.twin_look(images, one)
    _, similarities = model.itc(model.towers.look(images), model.towers.read(ids, is_real), twin_tokens, ids, is_real, alpha, None, one)
    rng, count = np.random.default_rng(0), 20_000
    draws = np.array([model.draw_negatives(similarities, None, rng) for _ in range(count)])
    for side, which in enumerate(("t2i", "i2t")):
        p = np.exp(similarities[1 - side].data)
        p = np.where(np.eye(len(p)), 0, p / p.sum(axis=1, keepdims=True))
        # BLIP adds 10⁻⁴ to each, for rows whose others have all become zeros; ours are masked before the softmax, which leaves none such.
        assert off(p if name == "albef" else np.where(np.eye(len(p)), 0, p + 1e-4), right(name)[f"weights_{which}{n}"]) < 1e-9, which
        p = p / p.sum(axis=1, keepdims=True)
        frequency = np.stack([np.bincount(column, minlength=len(p)) for column in draws[:, side].T]) / count
        assert np.all(np.abs(frequency - p) <= 6 * np.sqrt(p * (1 - p) / count) + 1e-12), which  # 6 standard deviations
