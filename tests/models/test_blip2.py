"""BLIP-2's two stages: what trains and what is frozen, what each loss needs, and what they refuse."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import randomized

from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.layers import bidirectional_mask
from tinymm.losses import ITM_PRIOR, l2_normalize
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.models.opt import OPT, OPTConfig
from tinymm.tasks import losses
from tinymm.training.optimizers import AdamW

NEGATIVES = (np.array([1, 2, 0]), np.array([2, 0, 1]))


def stage_1(dtype="float64", **changes):
    return randomized(BLIP2Stage1(BLIP2Config.tiny(**changes), np.random.default_rng(0))).astype(
        dtype
    )


def stage_2(dtype="float64"):
    return randomized(BLIP2Stage2(BLIP2Stage2Config.tiny(), np.random.default_rng(0))).astype(dtype)


def batch(pairs=3, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((pairs, 16, 16, 3)).astype(dtype)
    ids = rng.integers(3, 48, (pairs, 6))
    ids[:, 0] = 1
    is_real = np.arange(6) < np.array([6, 4, 5] * pairs)[:pairs, None]
    ids[np.arange(pairs), is_real.sum(axis=1) - 1] = 2
    ids[~is_real] = 0
    return images, ids, is_real


def total(terms):
    return sum(terms.values())


# ---------------------------------------------------------------------- stage 1
def test_every_trainable_parameter_gets_a_gradient_and_no_frozen_one_does():
    model = stage_1().train()
    total(losses(model, *batch(), negatives=NEGATIVES)).backward()
    silent = {name for name, p in model.trainable().items() if not np.any(np.abs(p.grad) > 1e-15)}
    # A softmax does not see what is added to all scores, so key biases learn nothing; in a packed bias they are its middle third.
    assert silent <= {f"qformer.blocks.{i}.cross.key.bias" for i in range(2)}
    assert not any(name.startswith("image_encoder") for name in model.trainable())
    assert (
        all(p.grad is None for p in model.image_encoder.parameters())
        and not model.image_encoder.training
    )


@pytest.mark.parametrize("left_out", ["itc", "itm", "itg"])
def test_objectives_can_be_left_out_and_only_their_own_heads_fall_silent(left_out):
    heads = {
        "itc": ("image_projection", "text_projection", "temperature"),
        "itm": ("itm_head",),
        "itg": ("language_head",),
    }
    model = stage_1()
    kept = tuple(name for name in heads if name != left_out)
    terms = losses(model, *batch(), negatives=NEGATIVES, objectives=kept)
    assert tuple(terms) == kept
    total(terms).backward()
    without = {name.split(".")[0] for name, p in model.trainable().items() if p.grad is None}
    assert without == set(heads[left_out])


def test_equal_scores_give_the_chance_levels():
    model = stage_1()
    for layer in (model.image_projection, model.text_projection):
        layer.weight.data = np.zeros_like(layer.weight.data)
        layer.bias.data = np.ones_like(layer.bias.data)
    model.itm_head.weight.data = np.zeros_like(model.itm_head.weight.data)
    model.itm_head.bias.data = np.log([2 / 3, 1 / 3])
    model.language_head.norm.weight.data = np.zeros_like(model.language_head.norm.weight.data)
    model.language_head.norm.bias.data = np.zeros_like(model.language_head.norm.bias.data)
    model.language_head.bias.data = np.zeros_like(model.language_head.bias.data)
    terms = losses(model, *batch(), negatives=NEGATIVES)
    assert abs(terms["itc"].item() - math.log(3)) < 1e-12
    assert abs(terms["itm"].item() - ITM_PRIOR) < 1e-12
    assert abs(terms["itg"].item() - math.log(50)) < 1e-12


def test_four_pairs_can_be_learned_by_heart():
    model = stage_1("float32", smoothing=0.0).train()
    images, ids, is_real = batch(4, dtype="float32")
    negatives = (np.array([1, 2, 3, 0]), np.array([3, 0, 1, 2]))
    optimizer = AdamW(model, weight_decay=0.0)
    for _step in range(150):
        terms = losses(model, images, ids, is_real, negatives=negatives)
        total(terms).backward()
        optimizer.step(3e-3, 1.0)
    assert terms["itc"].item() < 0.1 and terms["itm"].item() < 0.1 and terms["itg"].item() < 0.2, {
        k: v.item() for k, v in terms.items()
    }
    model.eval()
    assert model.generate(images) == [
        row[1 : real.sum() - 1].tolist() for row, real in zip(ids, is_real, strict=True)
    ]


def test_itg_would_be_trivial_if_queries_or_words_saw_what_comes():
    # The same weights under ITM's mask: each logit may look at its own answer; under the causal mask, what comes moves nothing before it.
    model, (images, ids, is_real) = stage_1(), batch()
    other = ids.copy()
    other[:, 3] = 3 + (ids[:, 3] + 1) % 40
    tokens = model.image_tokens(images)
    causal = (
        model.lm_logits(tokens, ids, is_real).data - model.lm_logits(tokens, other, is_real).data
    )
    assert not causal[:, :3].any() or np.abs(causal[:, :3]).max() < 1e-12
    model.masks["itg"] = bidirectional_mask
    leaking = (
        model.lm_logits(tokens, ids, is_real).data - model.lm_logits(tokens, other, is_real).data
    )
    assert np.abs(leaking[:, :3]).max() > 1e-6


@given(seed=st.integers(0, 99))
def test_a_permuted_batch_permutes_the_terms(seed):
    model, (images, ids, is_real) = MODEL, batch(3, seed)
    order = np.random.default_rng(seed).permutation(3)
    place = np.argsort(order)
    negatives = tuple(place[n[order]] for n in NEGATIVES)
    one = losses(model, images, ids, is_real, negatives=NEGATIVES)
    other = losses(model, images[order], ids[order], is_real[order], negatives=negatives)
    for name in one:
        assert abs(one[name].item() - other[name].item()) < 1e-12, name


MODEL = stage_1()


def test_captions_of_one_picture_are_no_wrong_answers():
    model, (images, ids, is_real) = MODEL, batch()
    image_ids = np.array([7, 7, 8])
    drawn = [
        losses(model, images, ids, is_real, rng=np.random.default_rng(s), image_ids=image_ids)[
            "itm"
        ].item()
        for s in range(3)
    ]
    # Rows 0 and 1 show one picture, so row 2 is their only wrong answer, and either of them is row 2's.
    draws = [(np.array([2, 2, a]), np.array([2, 2, b])) for a in (0, 1) for b in (0, 1)]
    allowed = {
        losses(model, images, ids, is_real, negatives=negatives)["itm"].item()
        for negatives in draws
    }
    assert all(min(abs(d - a) for a in allowed) < 1e-12 for d in drawn)
    same, alone = (
        losses(model, images, ids, is_real, negatives=NEGATIVES, image_ids=i)["itc"].item()
        for i in (image_ids, None)
    )
    assert same != alone


def test_the_same_generator_draws_the_same_negatives():
    model, parts = MODEL, batch()
    draws = [total(losses(model, *parts, rng=np.random.default_rng(3))).item() for _ in range(2)]
    assert draws[0] == draws[1]


def test_use_agrees_with_the_losses_views():
    model, (images, ids, is_real) = MODEL, batch()
    features = model.unimodal_features(model.image_tokens(images), ids, is_real).data
    np.testing.assert_allclose(
        model.encode_image(images).data, l2_normalize(features[:, :-1]), atol=1e-12
    )
    np.testing.assert_allclose(
        model.encode_text(ids, is_real).data, l2_normalize(features[:, -1]), atol=1e-12
    )
    assert model(images, ids[:1], is_real[:1]).shape == (3, 1) and model(
        images[:1], ids[:1], is_real[:1]
    ).shape == (1, 1)
    logits = model.itm_logits(model.image_tokens(images), ids, is_real).data
    np.testing.assert_allclose(
        model.itm_probability(images, ids, is_real),
        np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1),
        atol=1e-12,
    )


def test_greedy_captions_are_what_the_whole_pass_says_word_by_word():
    model, (images, _, _) = stage_1(), batch()
    written = model.generate(images, max_new_tokens=5, min_new_tokens=5)
    tokens, ids = model.image_tokens(images), np.full((3, 1), model.config.decode)
    for _ in range(5):
        logits = model.lm_logits(tokens, ids, np.ones(ids.shape, bool)).data[:, -1]
        logits[:, model.config.end_of_text] = -np.inf
        ids = np.concatenate([ids, logits.argmax(axis=1)[:, None]], axis=1)
    assert written == ids[:, 1:].tolist()


def test_a_caption_goes_on_from_a_prompt_as_the_whole_pass_does():
    model, (images, ids, _) = stage_1(), batch()
    prompt = ids[:, :3]
    written = model.generate(images, prompt, max_new_tokens=4, min_new_tokens=4)
    tokens, text = model.image_tokens(images), prompt
    for _ in range(4):
        logits = model.lm_logits(tokens, text, np.ones(text.shape, bool)).data[:, -1]
        logits[:, model.config.end_of_text] = -np.inf
        text = np.concatenate([text, logits.argmax(axis=1)[:, None]], axis=1)
    assert written == text[:, 3:].tolist()
    assert model.generate(images, ids[:, :1]) == model.generate(images)
    with pytest.raises(ShapeError, match="12 of 12 positions came; shorten it"):
        model.generate(images, np.ones((3, 12), int))


def test_matching_is_the_mean_of_the_queries_logits_and_frozen_tokens_have_no_graph():
    model, (images, ids, is_real) = stage_1(), batch()
    tokens = model.image_tokens(images)
    assert not tokens.requires_grad and not stage_2().image_tokens(images).requires_grad
    of_queries = model.query_itm_logits(tokens, ids, is_real).data
    assert of_queries.shape == (3, 4, 2)
    np.testing.assert_allclose(
        model.itm_logits(tokens, ids, is_real).data, of_queries.mean(axis=1), atol=1e-14
    )
    model.image_encoder.unfreeze()
    assert model.image_tokens(images).requires_grad


def test_raw_features_are_those_that_are_normalized():
    model, (images, ids, is_real) = MODEL, batch()
    for call in (
        lambda **o: model.encode_image(images, **o),
        lambda **o: model.encode_text(ids, is_real, **o),
    ):
        np.testing.assert_allclose(
            call().data, l2_normalize(call(normalize=False).data), atol=1e-14
        )
    assert model.text_tokens(ids, is_real).shape == (3, 6, 32)
    assert model.query_tokens(model.image_tokens(images)).shape == (3, 4, 32)


@pytest.mark.parametrize(
    "error, call, said",
    [
        (
            UsageError,
            lambda m, i, t, r: losses(m, i[:1], t[:1], r[:1]),
            "at least 2 pairs and 1 came.*raise the batch size",
        ),
        (UsageError, lambda m, i, t, r: losses(m, i, t[:2], r[:2]), "3 pictures with 2 texts came"),
        (
            UsageError,
            lambda m, i, t, r: losses(m, i, t, r),
            "neither rng nor negatives came; pass rng=",
        ),
        (
            UsageError,
            lambda m, i, t, r: losses(m, i, t, r, objectives=("itx",)),
            "some of itc, itm, itg, and itx came",
        ),
        (
            DataError,
            lambda m, i, t, r: losses(
                m, i, t, r, image_ids=np.zeros(3), rng=np.random.default_rng(0)
            ),
            "no candidate, because all 3",
        ),
        (
            DataError,
            lambda m, i, t, r: losses(m, i, t + 50, r, negatives=NEGATIVES),
            r"ids must lie in \[0, 50\)",
        ),
        (
            ShapeError,
            lambda m, i, t, r: losses(
                m, i, np.ones((3, 13), int), np.ones((3, 13), bool), negatives=NEGATIVES
            ),
            "1 to 12 tokens .* 13 came",
        ),
    ],
)
def test_what_does_not_fit_is_named(error, call, said):
    with pytest.raises(error, match=said):
        call(MODEL, *batch())


def test_configs_that_do_not_fit_are_named():
    tiny = BLIP2Config.tiny()
    with pytest.raises(
        ShapeError, match="width 24, and an encoder_width of 25 came; make them equal"
    ):
        BLIP2Config.tiny(qformer=replace(tiny.qformer, encoder_width=25))
    with pytest.raises(
        UsageError, match="end_of_text is an id below the vocabulary 50, and 50 came"
    ):
        BLIP2Config.tiny(end_of_text=50)
    with pytest.raises(UsageError, match="without a vocabulary"):
        BLIP2Config.tiny(qformer=replace(tiny.qformer, vocabulary=None))


def test_the_papers_sizes():
    # The counts of the published checkpoints (transformers' Q-Former has 161,825,280 with its text half).
    config = BLIP2Config.paper()
    D, F, M, L = 768, 3072, 1408, 12
    attention, mlp, norm = 4 * (D * D + D), 2 * D * F + F + D, 2 * D
    cross = 2 * (D * D + D) + 2 * (M * D + D) + norm
    assert L * (attention + norm + 2 * (mlp + norm)) + L // 2 * cross + norm == 161_825_280
    assert (config.image.patches, config.qformer.queries, config.decode, config.embed_dim) == (
        256,
        32,
        30522,
        256,
    )


# ---------------------------------------------------------------------- stage 2
def test_gradients_flow_through_the_frozen_language_model_and_stop_there():
    model = stage_2().train()
    total(losses(model, *batch())).backward()
    assert all(
        p.grad is None
        for part in (model.image_encoder, model.language_model)
        for p in part.parameters()
    )
    silent = {name for name, p in model.trainable().items() if not np.any(np.abs(p.grad) > 1e-15)}
    assert silent <= {f"qformer.blocks.{i}.cross.key.bias" for i in range(2)}
    assert {name.split(".")[0] for name in model.trainable()} == {
        "norm_vision",
        "qformer",
        "projection",
    }


def test_stage_2_begins_with_what_stage_1_has_learned():
    first, language = stage_1("float32"), OPT(OPTConfig.tiny(), np.random.default_rng(3))
    second = BLIP2Stage2.from_stage_1(first, language, np.random.default_rng(4))
    images = batch(dtype="float32")[0]
    np.testing.assert_array_equal(
        second.qformer(second.norm_vision(second.image_tokens(images))).data,
        first.qformer(first.norm_vision(first.image_tokens(images))).data,
    )
    assert second.language_model is language and second.qformer.embedding is None


def test_only_what_is_before_a_token_predicts_it():
    model, (images, ids, is_real) = stage_2(), batch()
    prompts = model.visual_prompts(model.image_tokens(images))
    before = model.prompted_logits(prompts, ids, is_real).data
    other = ids.copy()
    other[:, 3] = 3 + (ids[:, 3] + 1) % 40
    after = model.prompted_logits(prompts, other, is_real).data
    np.testing.assert_array_equal(
        before[:, :4], after[:, :4]
    )  # the last visual prompt and the tokens 0, 1, 2
    assert np.abs(before[:, 4] - after[:, 4]).max() > 1e-6


def test_a_prompt_and_padding_are_no_targets():
    model, (images, ids, is_real) = stage_2(), batch()
    target = is_real & (np.arange(6) >= 2)
    prompts = model.visual_prompts(model.image_tokens(images))
    logits = model.prompted_logits(prompts, ids, is_real).data[:, :-1]
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = -np.take_along_axis(log_p, ids[..., None], axis=-1)[..., 0]
    assert (
        abs(
            losses(model, images, ids, is_real, is_target=target)["lm"].item()
            - expected[target].mean()
        )
        < 1e-12
    )
    assert abs(losses(model, images, ids, is_real)["lm"].item() - expected[is_real].mean()) < 1e-12


def test_training_texts_are_padded_on_the_right():
    images, ids, is_real = batch()
    with pytest.raises(
        UsageError, match="row 1 of is_real begins with padding; pad training texts on the right"
    ):
        losses(stage_2(), images, ids, is_real[:, ::-1])


def test_captions_go_on_from_a_prompt_as_the_whole_pass_does():
    model, (images, ids, _) = stage_2(), batch()
    prompt = ids[:, :2]
    written = model.generate(images, prompt, max_new_tokens=4, min_new_tokens=4)
    tokens, text = model.image_tokens(images), prompt
    for _ in range(4):
        logits = model.lm_logits(tokens, text, np.ones(text.shape, bool)).data[:, -1]
        logits[:, model.config.language.end] = -np.inf
        text = np.concatenate([text, logits.argmax(axis=1)[:, None]], axis=1)
    assert written == text[:, 2:].tolist()
    assert all(isinstance(row, list) for row in model.generate(images, beams=2, max_new_tokens=3))


# ---------------------------------------------------------------------- wherever arrays live
@pytest.mark.parametrize("stage", [stage_1, stage_2])
def test_a_training_step_and_a_caption_are_the_same_wherever_arrays_live(stage, backend):
    models, found = [stage(), stage().to(backend)], []
    for model, home in zip(models, ("numpy", backend), strict=True):
        images, ids, is_real = batch()
        optimizer = AdamW(model)
        terms = losses(model, to_backend(images, home), ids, is_real, rng=np.random.default_rng(0))
        total(terms).backward()
        norm = optimizer.step(1e-3, 1.0)
        written = model.generate(to_backend(images, home), beams=2, max_new_tokens=3)
        found.append(
            {
                "norm": to_host(norm),
                **{name: to_host(loss.data) for name, loss in terms.items()},
                **model.state_dict(),
            }
            | {"text": written}
        )
    assert found[0].pop("text") == found[1].pop("text")
    for name, array in found[0].items():
        if not name.endswith(
            ("key.bias", "qkv.bias")
        ):  # a gradient of rounding alone: Adam makes whole steps of it
            np.testing.assert_allclose(found[1][name], array, rtol=1e-9, atol=1e-9, err_msg=name)
