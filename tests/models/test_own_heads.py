"""Language heads: the layers' own activation, a table of words of their own, and BERT's causal use; parts that are thawed again."""

import numpy as np
import pytest
from tiny import randomized

from tinymm import tasks
from tinymm.arrays.errors import UsageError
from tinymm.autodiff import ops
from tinymm.layers import causal_mask, padding_mask
from tinymm.models.bert import ACTIVATIONS, BertConfig, BertLanguageModel
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.models.opt import OPT, OPTConfig

IDS = np.array([[1, 7, 9, 3], [1, 8, 3, 0]])
REAL = IDS > 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_head_bends_as_the_layers_do(activation):
    model = randomized(
        BertLanguageModel(BertConfig.tiny(activation=activation), np.random.default_rng(0))
    )
    head, x = model.language_head, model.bert(IDS, REAL)
    bent = {"gelu": ops.gelu, "quick_gelu": ops.quick_gelu, "relu": ops.relu}[activation](
        head.dense(x)
    )
    right = head.norm(bent) @ model.bert.embedding.words.weight.T + head.bias
    np.testing.assert_array_equal(model(IDS, REAL).data, right.data)
    with pytest.raises(
        UsageError, match="an activation is 'gelu', 'quick_gelu', 'relu', and 'tanh' came"
    ):
        type(head)(5, 4, rng=np.random.default_rng(0), activation="tanh")


@pytest.mark.parametrize("is_real", [None, REAL])
def test_a_causal_bert_sees_what_came_before_unless_a_mask_says_otherwise(is_real):
    both, causal = (
        randomized(BertLanguageModel(BertConfig.tiny(causal=flag), np.random.default_rng(0)))
        for flag in (False, True)
    )
    causal.load_state_dict(both.state_dict())
    mask = causal_mask(4) if is_real is None else causal_mask(4) & padding_mask(is_real)
    np.testing.assert_array_equal(causal(IDS, is_real).data, both(IDS, may_attend=mask).data)
    everything = np.ones((4, 4), bool)
    np.testing.assert_array_equal(causal(IDS, may_attend=everything).data, both(IDS).data)
    assert np.abs(causal(IDS).data - both(IDS).data).max() > 1e-3


def test_words_of_its_own_are_what_the_head_looks_up_and_learns():
    for model in (
        randomized(BertLanguageModel(BertConfig.tiny(tied=False), np.random.default_rng(0))),
        randomized(OPT(OPTConfig.tiny(tied=False), np.random.default_rng(0))),
    ):
        output = getattr(model, "language_head", model).output
        before = model(IDS).data
        output.data = 2 * output.data
        bias = model.language_head.bias.data if hasattr(model, "language_head") else 0
        np.testing.assert_allclose(
            model(IDS).data - bias, 2 * (before - bias), rtol=1e-5, atol=1e-6
        )
        np.sum(model(IDS)).backward()
        assert output.grad is not None and any(
            name.endswith("output") for name in model.trainable()
        )


@pytest.mark.parametrize("kind", ["stage 1", "stage 2"])
def test_a_thawed_encoder_learns_and_a_frozen_one_does_not(kind):
    rng, images = (
        np.random.default_rng(0),
        np.random.default_rng(1).standard_normal((2, 16, 16, 3)).astype(np.float32),
    )
    model = (
        BLIP2Stage1(BLIP2Config.tiny(), rng)
        if kind == "stage 1"
        else BLIP2Stage2(BLIP2Stage2Config.tiny(), rng)
    )
    first = model.image_encoder.blocks[0].mlp.fc1.weight
    frozen = tasks.losses(model, images, IDS, REAL, rng=np.random.default_rng(2))
    sum(frozen.values()).backward()
    assert first.grad is None and "image_encoder.blocks.0.mlp.fc1.weight" not in model.trainable()
    model.image_encoder.unfreeze()
    thawed = tasks.losses(model, images, IDS, REAL, rng=np.random.default_rng(2))
    sum(thawed.values()).backward()
    assert (
        np.abs(first.grad).max() > 0
        and "image_encoder.blocks.0.mlp.fc1.weight" in model.trainable()
    )
    for name in frozen:
        np.testing.assert_array_equal(frozen[name].data, thawed[name].data)
    assert model.train().image_encoder.training and not model.image_encoder.freeze().training
