"""LAVIS's own numbers: BLIP-2's first stage by the original code, on tiny random weights: features, losses and every gradient.

`reference/lavis_stage1.*` are its weights, inputs, the hard negatives that it drew, and its results
in float64 (gradients to 36 bits of each array's largest entry). LAVIS computes ITC in two passes
without any mask and ITG over cached keys; here each is one pass with its mask.
"""

from pathlib import Path

import numpy as np
import pytest

from tinymm.layers import Cache, multimodal_causal_mask
from tinymm.losses import hard_negatives
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.qformer import QFormerConfig
from tinymm.models.vit import ViTConfig
from tinymm.pretrained.files.safetensors import read_safetensors
from tinymm.pretrained.models.blip2 import LAVIS_STAGE_1
from tinymm.tasks import losses

REFERENCE = Path(__file__).parents[1] / "reference"
TOLERANCE = {"float64": 1e-9, "float32": 2e-5}
IMAGE = ViTConfig(
    28,
    7,
    40,
    2,
    5,
    activation="gelu",
    eps=1e-6,
    feed_forward=88,
    norm_before=False,
    norm_after=False,
    patch_bias=True,
)
CONFIG = BLIP2Config(
    IMAGE,
    QFormerConfig(5, 32, 4, 4, 40, vocabulary=65, context=24, feed_forward=72),
    embed_dim=20,
    end_of_text=3,
)


@pytest.fixture(scope="module")
def right():
    with np.load(REFERENCE / "lavis_stage1.npz") as file:
        return dict(file)


def loaded(dtype):
    found = LAVIS_STAGE_1.import_(read_safetensors(REFERENCE / "lavis_stage1.safetensors"))
    assert not found.unexpected and not found.incomplete
    model = BLIP2Stage1(CONFIG, np.random.default_rng(0)).astype(dtype)
    model.load_state_dict(found.arrays)
    return model


def inputs(right, dtype):
    return (
        right["pixel_values"].transpose(0, 2, 3, 1).astype(dtype),
        right["input_ids"],
        right["attention_mask"].astype(bool),
    )


def off(found, right):
    """Return the largest difference over the largest right number."""
    return float(np.abs(np.asarray(found) - right).max() / np.abs(right).max())


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_tokens_features_logits_and_losses_agree_with_the_original_code(right, dtype):
    model, (images, ids, is_real), tolerance = loaded(dtype), inputs(right, dtype), TOLERANCE[dtype]
    tokens = model.image_tokens(images)
    assert off(model.norm_vision(tokens).data, right["image_embeds"]) < tolerance
    assert (
        off(model.qformer(model.norm_vision(tokens)).data, right["query_last_hidden"]) < tolerance
    )
    assert (
        off(
            model.qformer(ids=ids, may_attend=is_real[:, None, None, :]).data[:, 0],
            right["text_cls"],
        )
        < tolerance
    )
    words = model.lm_logits(tokens, ids, is_real).data
    assert (
        off(words[is_real], right["itg_logits"][is_real]) < tolerance
    )  # what stands at padding is nobody's business
    assert (
        off(model.itm_logits(tokens, ids, is_real).data[:, 1], right["itm_logit_pos"]) < tolerance
    )
    terms = losses(
        model,
        images,
        ids,
        is_real,
        negatives=(right["neg_image_for_text"], right["neg_text_for_image"]),
    )
    for name, theirs in {"itc": "loss_itc", "itm": "loss_itm", "itg": "loss_lm"}.items():
        assert off(terms[name].data, right[theirs]) < tolerance, name


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_all_parameter_gradients_agree_with_the_original_code(right, dtype):
    model, (images, ids, is_real) = loaded(dtype), inputs(right, dtype)
    terms = losses(
        model,
        images,
        ids,
        is_real,
        negatives=(right["neg_image_for_text"], right["neg_text_for_image"]),
    )
    (terms["itc"] + terms["itm"] + terms["itg"]).backward()
    found, missing_keys = LAVIS_STAGE_1.export(
        {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    )
    theirs = {
        key.removeprefix("gradient "): value
        for key, value in right.items()
        if key.startswith("gradient ")
    }
    assert not missing_keys and found.keys() == theirs.keys()
    largest = max(np.abs(value).max() for value in theirs.values())
    for key, value in theirs.items():
        if key.endswith(
            "key.bias"
        ):  # a softmax does not see what is added to all of its scores: zero but for rounding
            assert (
                max(np.abs(found[key]).max(), np.abs(value).max())
                < (1e-13 if dtype == "float64" else 1e-6) * largest
            ), key
        else:
            assert off(found[key], value) < TOLERANCE[dtype], key


def test_the_frozen_encoder_gets_no_gradient_and_the_norm_behind_it_does(right):
    model, (images, ids, is_real) = loaded("float64"), inputs(right, "float64")
    model.train()
    terms = losses(model, images, ids, is_real, rng=np.random.default_rng(0))
    (terms["itc"] + terms["itm"] + terms["itg"]).backward()
    assert (
        all(p.grad is None for p in model.image_encoder.parameters())
        and not model.image_encoder.training
    )
    assert np.abs(model.norm_vision.weight.grad).max() > 0


def test_itg_by_cached_keys_is_itg_by_the_mask(right):
    # What LAVIS does: queries first, remembered; then the words alone, which see the memory and themselves. Its logits, and our gradients.
    model, (images, ids, is_real) = loaded("float64"), inputs(right, "float64")
    Q, gradients = CONFIG.qformer.queries, []
    for cached in (True, False):
        tokens = model.norm_vision(model.image_tokens(images))
        if cached:
            caches = [Cache() for _ in model.qformer.blocks]
            model.qformer(tokens, caches=caches)
            x = model.qformer(
                ids=model.decoding(ids),
                may_attend=multimodal_causal_mask(Q, is_real)[:, :, Q:],
                caches=caches,
            )
        else:
            x = model.qformer(tokens, model.decoding(ids), multimodal_causal_mask(Q, is_real))[
                :, Q:
            ]
        logits = model.language_head(x, model.qformer.embedding.words)
        assert off(logits.data[is_real], right["itg_logits"][is_real]) < 1e-12
        np.sum(
            logits * (np.cos(np.arange(logits.size)).reshape(logits.shape) * is_real[..., None])
        ).backward()
        gradients.append(
            {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        )
        for p in model.parameters():
            p.grad = None
    silent = {name for name, g in gradients[1].items() if not np.any(g)}
    # The last layer's query feed-forward hears nothing of ITG: no word looks at what it gives.
    parts = (
        "mlp.fc1.weight",
        "mlp.fc1.bias",
        "mlp.fc2.weight",
        "mlp.fc2.bias",
        "norm.weight",
        "norm.bias",
    )
    assert silent == {f"qformer.blocks.3.query_{part}" for part in parts}
    for name, g in gradients[1].items():
        if name not in silent:
            np.testing.assert_allclose(gradients[0][name], g, atol=1e-11 * max(1, np.abs(g).max()))


def test_negatives_are_drawn_with_the_original_probabilities(right):
    # 20,000 draws against LAVIS's own sampling weights: 6 standard deviations of each frequency.
    model, (images, ids, is_real) = loaded("float64"), inputs(right, "float64")
    features = model.unimodal_features(model.image_tokens(images), ids, is_real)
    similarities = model.similarity(features[:, :-1], features[:, -1]) / model.temperature
    rng, n = np.random.default_rng(0), 20_000
    draws = np.array([hard_negatives(similarities.data, np.arange(5), rng) for _ in range(n)])
    for found, theirs in ((draws[:, 0], right["weights_t2i"]), (draws[:, 1], right["weights_i2t"])):
        p = theirs / theirs.sum(axis=1, keepdims=True)
        frequency = np.stack([np.bincount(column, minlength=5) for column in found.T]) / n
        assert np.all(np.abs(frequency - p) <= 6 * np.sqrt(p * (1 - p) / n) + 1e-12)
