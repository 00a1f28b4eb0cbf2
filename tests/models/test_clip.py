"""CLIP as a whole, for all four pairs of encoders: gradients, symmetries, learning, and what it refuses."""

import math

import numpy as np
import pytest
from tiny import PAIRS, randomized, tiny_batch, tiny_clip

from tinymm import no_grad, tasks
from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import DataError, DtypeError, ShapeError, UsageError
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.resnet import ResNetConfig
from tinymm.models.vit import ViTConfig
from tinymm.tasks import clip
from tinymm.training.optimizers import AdamW

rng = np.random.default_rng


def gradients(model, seed=0):
    images, ids = tiny_batch(model, seed=seed)
    tasks.losses(model, images, ids)["itc"].backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def is_silent(name):
    """Say whether a fresh ResNet's branch ends in a weight of 0 after this parameter: then nothing reaches it (models.md, 1.8)."""
    in_branch = ".stages." in name and any(
        part in name for part in (".reduce.", ".spatial.", ".expand.conv.")
    )
    return in_branch


def is_key_bias(name):
    """Say whether this shifts all scores of a row alike, which a softmax does not see; in the packed ones it is the middle third."""
    return name.endswith("pool.attention.key.bias")


@pytest.mark.parametrize("image, text", PAIRS)
def test_every_parameter_of_a_fresh_model_has_a_gradient_but_for_silent_branches_and_key_biases(
    image, text
):
    for name, gradient in gradients(tiny_clip(image, text, dtype="float64")).items():
        largest = np.abs(gradient).max()
        if is_silent(name):
            assert largest == 0, name
        elif is_key_bias(name):
            assert largest < 1e-12, name
        else:
            assert largest > 1e-7, name


@pytest.mark.parametrize("image, text", PAIRS)
def test_away_from_initialization_only_key_biases_have_none(image, text):
    for name, gradient in gradients(randomized(tiny_clip(image, text, dtype="float64"))).items():
        if name.endswith("attention.qkv.bias"):
            queries, keys, values = np.split(np.abs(gradient), 3)
            assert keys.max() < 1e-10 and min(queries.max(), values.max()) > 1e-7, name
        else:
            assert (np.abs(gradient).max() < 1e-10) == is_key_bias(name), name


@pytest.mark.parametrize("image, text", PAIRS)
def test_the_sigmoid_loss_is_of_the_logits_with_their_bias(image, text):
    model = randomized(CLIP(CLIPConfig.tiny(image, text, loss="sigmoid"), rng(0)).astype("float64"))
    images, ids = tiny_batch(model)
    loss = tasks.losses(model, images, ids)["itc"]
    S = model.logits(images, ids).data
    raw = model.encode_image(images, normalize=False), model.encode_text(ids, normalize=False)
    I, T = (
        features.data / np.linalg.norm(features.data, axis=1, keepdims=True) for features in raw
    )
    for features, unit in ((model.encode_image(images), I), (model.encode_text(ids), T)):
        np.testing.assert_allclose(features.data, unit, atol=1e-12)
    np.testing.assert_allclose(model(images, ids).data, I @ T.T, atol=1e-12)
    np.testing.assert_allclose(S, np.exp(model.t.data) * I @ T.T + model.b.data, atol=1e-12)
    assert loss.item() == pytest.approx(
        np.log1p(np.exp(-S * (2 * np.eye(len(S)) - 1))).sum() / len(S), abs=1e-12
    )
    loss.backward()
    assert model.b.grad is not None and np.abs(model.b.grad) > 1e-7
    with pytest.raises(
        UsageError, match="a CLIP's loss is 'softmax' or 'sigmoid', and 'hinge' came; choose one"
    ):
        CLIPConfig.tiny(loss="hinge")


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
@pytest.mark.parametrize("image, text", PAIRS)
def test_of_many_pairs_the_loss_is_taken_in_blocks_and_is_the_same(image, text, loss, monkeypatch):
    model = randomized(
        CLIP(CLIPConfig.tiny(image, text, loss=loss), rng(0)).astype("float64")
    ).eval()
    images, ids = tiny_batch(model, pairs=5)
    found, taken = [], []
    for right in (clip.blockwise_contrastive_loss, clip.blockwise_sigmoid_loss):
        monkeypatch.setattr(
            clip, right.__name__, lambda *x, right=right: taken.append(right.__name__) or right(*x)
        )
    for many in (6, 5):
        monkeypatch.setattr(clip, "BLOCKWISE_FROM", many)
        tasks.losses(model, images, ids)["itc"].backward()
        found.append([parameter.grad for parameter in model.parameters()])
        for parameter in model.parameters():
            parameter.grad = None
    assert taken == [
        "blockwise_contrastive_loss" if loss == "softmax" else "blockwise_sigmoid_loss"
    ]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12 * max(1, np.abs(a).max()))


@pytest.mark.parametrize("image, text", PAIRS)
def test_permuting_the_batch_permutes_the_logits_and_leaves_loss_and_gradients(image, text):
    model = randomized(
        tiny_clip(image, text, dtype="float64")
    )  # in training mode: the batch's statistics do not know an order
    images, ids = tiny_batch(model, pairs=5)
    rows, columns = rng(1).permutation(5), rng(2).permutation(5)
    logits = model(images, ids).data
    np.testing.assert_allclose(
        model(images[rows], ids[columns]).data, logits[rows][:, columns], atol=1e-9
    )
    found = []
    for order in (np.arange(5), rows):
        loss = tasks.losses(model, images[order], ids[order])["itc"]
        loss.backward()
        found.append([loss.data, *(parameter.grad for parameter in model.parameters())])
        for parameter in model.parameters():
            parameter.grad = None
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9 * max(1, np.abs(a).max()))


@pytest.mark.parametrize("image, text", PAIRS)
def test_in_evaluation_a_pair_does_not_depend_on_its_batch(image, text):
    model = randomized(tiny_clip(image, text, dtype="float64")).eval()
    images, ids = tiny_batch(model, pairs=4)
    with no_grad():
        np.testing.assert_allclose(
            model.encode_image(images[:1]).data, model.encode_image(images).data[:1], atol=1e-10
        )
        np.testing.assert_allclose(
            model.encode_text(ids[:1]).data, model.encode_text(ids).data[:1], atol=1e-10
        )
        assert model(images[:1], ids).shape == (1, 4)


@pytest.mark.parametrize("image, text", PAIRS)
def test_four_pairs_can_be_learned_by_heart(image, text):
    model = tiny_clip(image, text)
    images, ids = tiny_batch(model)
    optimizer = AdamW(model, weight_decay=0.0)
    start = tasks.losses(model, images, ids)["itc"].item()
    for _ in range(30):
        loss = tasks.losses(model, images, ids)["itc"]
        loss.backward()
        optimizer.step(5e-3, max_grad_norm=1.0)
        clip.after_step(model)
    assert loss.item() < 0.1 < start
    assert (model(images, ids).data.argmax(axis=1) == np.arange(4)).all()


@pytest.mark.parametrize("image, text", PAIRS)
def test_a_training_step_is_the_same_wherever_arrays_live(image, text, backend):
    models = [randomized(tiny_clip(image, text, dtype="float64")) for _ in range(2)]
    models[1].to(backend)
    found = []
    for model, home in zip(models, ("numpy", backend), strict=True):
        images, ids = tiny_batch(models[0])
        optimizer = AdamW(model)
        loss = tasks.losses(model, to_backend(images, home), ids)["itc"]
        loss.backward()
        norm = optimizer.step(1e-3, max_grad_norm=1.0)
        clip.after_step(model)
        found.append({"loss": to_host(loss.data), "norm": to_host(norm), **model.state_dict()})
    for name, array in found[0].items():
        if name.endswith(("key.bias", "qkv.bias")):
            continue  # a gradient of rounding alone: Adam makes whole steps of it
        np.testing.assert_allclose(found[1][name], array, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    "scale, after",
    [(math.log(100) + 0.3, math.log(100)), (math.log(100), math.log(100)), (2.0, 2.0)],
)
def test_the_scale_is_clamped_after_the_step_and_not_inside_the_loss(scale, after, backend):
    model = tiny_clip().to(backend)
    model.t.data = to_backend(np.array(scale, np.float32), backend)
    images, ids = tiny_batch(tiny_clip())
    logits = to_host(model.logits(to_backend(images, backend), ids).data)
    clip.after_step(model)
    assert (
        model.t.item() == pytest.approx(after, rel=1e-6)
        and model.t.shape == ()
        and model.t.dtype == np.float32
    )
    clamped = to_host(model.logits(to_backend(images, backend), ids).data)
    np.testing.assert_allclose(logits * math.exp(after - scale), clamped, rtol=1e-3)


@pytest.mark.parametrize(
    "spoil, error, message",
    [
        (
            lambda x, ids: (x[:, :-1], ids),
            ShapeError,
            r"\(B, 32, 32, 3\) with channels last, and \(4, 31, 32, 3\) came",
        ),
        (
            lambda x, ids: (x.transpose(0, 3, 1, 2), ids),
            ShapeError,
            r"channels last, and \(4, 3, 32, 32\) came; use the preprocess",
        ),
        (
            lambda x, ids: ((99 * x).astype(np.uint8), ids),
            DtypeError,
            "normalized floating-point numbers, and uint8 came; use the preprocess",
        ),
        (lambda x, ids: (x, ids[:, :0]), ShapeError, r"1 to 12 tokens \(the context\) and 0 came"),
        (
            lambda x, ids: (x, np.repeat(ids, 2, axis=1)),
            ShapeError,
            r"1 to 12 tokens \(the context\) and 14 came; cut the text",
        ),
        (
            lambda x, ids: (x, ids[:, 0]),
            ShapeError,
            r"ids are \(B, T\) and \(4,\) came; for one text write ids\[None\]",
        ),
        (
            lambda x, ids: (x, ids.astype(float)),
            DataError,
            "whole-number ids and float64 came; tokenize first",
        ),
        (
            lambda x, ids: (x, np.where(ids == 49, 50, ids)),
            DataError,
            r"\[0, 50\) and 50 came; use the tokenizer",
        ),
        (lambda x, ids: (x, ids - 1), DataError, r"\[0, 50\) and -1 came; use the tokenizer"),
        (
            lambda x, ids: (x, np.where(ids == 49, 3, ids)),
            DataError,
            "ends with the token 49, and row 0 .* has none; use the model's own tokenizer",
        ),
        (lambda x, ids: (x[:3], ids), UsageError, "3 pictures with 4 texts came; align the batch"),
        (
            lambda x, ids: (x[:1], ids[:1]),
            UsageError,
            "at least 2 pairs and 1 came: .* raise the batch size",
        ),
    ],
)
def test_bad_batches_are_refused_with_what_came_and_the_way_out(spoil, error, message):
    model = tiny_clip()
    with pytest.raises(error, match=message):
        tasks.losses(model, *spoil(*tiny_batch(model)))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ViTConfig(30, 8, 32, 1, 4), "30 over 8 came; choose a divisor"),
        (lambda: ResNetConfig(48, 4, 4), "48 pixels came; choose a multiple of 32"),
        (lambda: ResNetConfig(64, 5, 4), "the width 5 came; choose an even number"),
        (
            lambda: CLIPConfig.tiny("vgg"),
            "vit or resnet with transformer or cbow; 'vgg' and 'transformer' came",
        ),
        (lambda: CLIPConfig.paper("ViT-B/64"), "RN50, .*; 'ViT-B/64' came"),
        (
            lambda: CLIP(
                CLIPConfig(8, ResNetConfig(32, 4, 4, output_width=16), CLIPConfig.tiny().text),
                rng(0),
            ),
            "embedding width 8, and 16 came",
        ),
    ],
)
def test_sizes_that_cannot_work_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
