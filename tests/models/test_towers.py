"""What ALBEF and BLIP have in common: who trains and who follows, and what each loss is, contrast against a queue above all."""

import math
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_towers import (
    KINDS,
    NEGATIVES,
    THIRD,
    advance,
    batch,
    masked,
    model_of,
    numbers,
    state,
    step,
    total,
    trained_on,
    unchanged,
)

from tinymm import tasks
from tinymm.arrays.errors import DataError
from tinymm.losses import ITM_PRIOR, l2_normalize
from tinymm.models.momentum import MomentumEncoder
from tinymm.tasks.momentum import momentum_of
from tinymm.tasks.step import whole


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


# ---------------------------------------------------------------------- who trains
def test_every_trainable_parameter_gets_a_gradient_and_the_twin_none(kind):
    model = model_of(kind).train()
    total(step(model, kind, *batch())).backward()
    silent = {
        name
        for name, p in model.trainable().items()
        if p.grad is None or not np.any(np.abs(p.grad) > 1e-15)
    }
    # A softmax does not see what is added to all of its scores, so key biases learn nothing; in a packed bias they are its middle third.
    assert silent <= {name for name in model.trainable() if name.endswith("cross.key.bias")}
    for name, p in model.trainable().items():
        if name.endswith("qkv.bias"):
            query, key, value = np.split(np.abs(p.grad), 3)
            assert key.max() < 1e-13 < min(query.max(), value.max()), name
    assert not any(name.startswith(("momentum_encoder", "queue")) for name in model.trainable())
    assert (
        all(p.grad is None for p in model.momentum_encoder.parameters())
        and not model.momentum_encoder.model.training
        and model.encoders.training
    )
    assert {name.split(".")[0] for name in model.trainable()} == {
        "encoders",
        "temperature",
        "itm_head",
    } | ({"decoder"} if kind == "blip" else set())


@pytest.mark.parametrize("left_out", ["itc", "itm", "third"])
def test_losses_can_be_left_out_and_only_what_is_theirs_falls_silent(kind, left_out):
    left_out = THIRD[kind] if left_out == "third" else left_out
    heads = ("encoders.image_projection", "encoders.text_projection", "temperature")
    theirs = {
        "itc": heads,
        "itm": ("itm_head",),
        "mlm": ("encoders.language_head",),
        "lm": ("decoder",),
    }[left_out]
    model, parts = model_of(kind), batch()
    whole = numbers(step(deepcopy(model), kind, *parts))
    kept = {name: value for name, value in whole.items() if name != left_out}
    losses = step(model, kind, *parts, objectives=tuple(kept))
    assert numbers(losses) == kept
    total(losses).backward()
    silent = {name for name, p in model.trainable().items() if p.grad is None}
    assert silent == {name for name in model.trainable() if name.startswith(theirs)}


# ---------------------------------------------------------------------- what the losses are
def test_equal_scores_give_the_chance_levels(kind):
    model = model_of(kind, momentum=1.0)
    for layer in (model.encoders.image_projection, model.encoders.text_projection):
        layer.weight.data, layer.bias.data = (
            np.zeros_like(layer.weight.data),
            np.ones_like(layer.bias.data),
        )
    head = (model.encoders if kind == "albef" else model.decoder).language_head
    head.norm.weight.data, head.norm.bias.data, head.bias.data = map(
        np.zeros_like, (head.norm.weight.data, head.norm.bias.data, head.bias.data)
    )
    model.itm_head.weight.data, model.itm_head.bias.data = (
        np.zeros_like(model.itm_head.weight.data),
        np.log([2 / 3, 1 / 3]),
    )
    model.momentum_encoder = MomentumEncoder(model.encoders, 1.0)
    for rows in (model.queue.images, model.queue.texts):
        rows.data = l2_normalize(np.ones_like(rows.data))
    losses = step(model, kind, *batch())
    assert abs(losses["itc"].item() - math.log(4 + 24)) < 1e-12
    assert abs(losses["itm"].item() - ITM_PRIOR) < 1e-12
    assert abs(losses[THIRD[kind]].item() - math.log(50)) < 1e-12


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("image_ids", [None, (7, 7, 8, 9)])
def test_itc_is_its_definition_and_the_queue_comes_after_it(kind, alpha, image_ids):
    # By hand, row by row: among the batch as the EMA encodes it, and the queue as it was *before* this batch.
    model, images, ids, is_real = model_of(kind, alpha=alpha), *batch()
    image_ids = None if image_ids is None else np.array(image_ids)
    one_of_them = np.array([8, 20, 21, 22])  # is an image of this batch, too
    trained_on(model, *batch(seed=5), rng=np.random.default_rng(0), image_ids=one_of_them)
    twin, then = deepcopy(model.momentum_encoder), deepcopy(model.queue)
    (I, T), (I_m, T_m) = (
        (
            t.project_image(t.image_tokens(images)).data,
            t.project_text(t.text_tokens(ids, is_real)).data,
        )
        for t in (model.encoders, twin.model)
    )
    own = np.eye(4, 28)
    if image_ids is not None:
        own = image_ids[:, None] == np.concatenate([image_ids, then.image_ids])
        assert own.sum(axis=1).tolist() == [2, 2, 2, 1]
    expected = 0.0
    for mine, its, other, queue in (
        (I, I_m, T_m, then.texts.data),
        (T, T_m, I_m, then.images.data),
    ):
        columns = np.concatenate([other, queue]) / model.temperature.data
        targets = alpha * np.exp(log_softmax(its @ columns.T)) + (1 - alpha) * own / own.sum(
            axis=1, keepdims=True
        )
        expected -= (targets * log_softmax(mine @ columns.T)).sum(axis=1).mean() / 2
    found = advance(model, kind, images, ids, is_real, image_ids=image_ids)["itc"]
    assert abs(found.item() - expected) < 1e-12
    np.testing.assert_allclose(model.queue.images.data[4:8], I_m, atol=1e-12)
    np.testing.assert_allclose(model.queue.texts.data[4:8], T_m, atol=1e-12)
    assert model.queue.image_ids[4:8].tolist() == (
        [-100] * 4 if image_ids is None else image_ids.tolist()
    )
    np.testing.assert_array_equal(
        np.delete(model.queue.images.data, slice(4, 8), 0),
        np.delete(then.images.data, slice(4, 8), 0),
    )


def test_itm_is_its_definition(kind):
    # By hand, pair by pair: the true ones, each text with its hard picture, each picture with its hard text.
    model, (images, ids, is_real) = model_of(kind), batch()
    pairs = (
        [(i, i, 1) for i in range(4)]
        + [(NEGATIVES[0][i], i, 0) for i in range(4)]
        + [(i, NEGATIVES[1][i], 0) for i in range(4)]
    )
    surprise = 0.0
    for picture, text, label in pairs:
        T = is_real[text].sum()  # without its padding, too
        probability = model.itm_probability(
            images[picture : picture + 1], ids[text : text + 1, :T]
        )[0]
        surprise -= math.log(probability if label else 1 - probability)
    assert abs(step(model, kind, images, ids, is_real)["itm"].item() - surprise / 12) < 1e-12


def test_without_a_twin_it_is_contrast_in_the_batch_and_alpha_asks_nobody(kind):
    model, (images, ids, is_real) = model_of(kind, momentum=None, alpha=0.9), batch()
    assert model.momentum_encoder is None and model.queue is None
    assert not any(name.startswith(("momentum_encoder", "queue")) for name in model.state_dict())
    found = step(model, kind, images, ids, is_real)["itc"].item()
    S = model(images, ids, is_real).data / model.temperature.data
    expected = -(np.diag(log_softmax(S)) + np.diag(log_softmax(S.T))).mean() / 2
    assert abs(found - expected) < 1e-12
    assert numbers(step(model_of(kind, momentum=None), kind, images, ids, is_real)) == numbers(
        step(model, kind, images, ids, is_real)
    )


def test_alpha_rises_over_the_ramp_and_begins_with_the_plain_loss(kind):
    rising, plain, parts = (
        model_of(kind, alpha_warmup=32, alpha=0.4),
        model_of(kind, alpha=0.0),
        batch(),
    )
    assert numbers(advance(rising, kind, *parts)) == numbers(advance(plain, kind, *parts))
    assert numbers(advance(rising, kind, *parts)) != numbers(
        advance(plain, kind, *parts)
    )  # 4 of the 32 pairs have come
    alphas = []
    for _ in range(8):
        alphas.append(momentum_of(rising, None, 4, whole).alpha)
        advance(rising, kind, *parts)
    np.testing.assert_allclose(alphas, [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.4], atol=1e-15)


@pytest.mark.parametrize("came, kept", [(5.0, 0.5), (1e-9, 0.001), (-1.0, 0.001), (0.2, 0.2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_temperature_is_clamped_after_a_step_and_keeps_its_gradient(kind, came, kept, dtype):
    model = model_of(kind, dtype)
    model.temperature.data = np.full((), came, dtype)
    tasks.spec_of(model).task.after_step(model, None)
    losses = step(model, kind, *batch(dtype=dtype))
    assert (
        model.temperature.data == np.dtype(dtype).type(kept)
        and model.temperature.data.shape == ()
        and model.temperature.dtype == np.dtype(dtype)
    )
    other = model_of(kind, dtype)
    other.temperature.data = np.full((), kept, dtype)
    assert numbers(losses) == numbers(step(other, kind, *batch(dtype=dtype)))
    losses["itc"].backward()
    assert np.abs(model.temperature.grad) > 0


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_a_step_moves_the_momentum_encoder_as_its_momentum_says(kind, momentum):
    model = model_of(kind, momentum=momentum)
    before, online = state(model.momentum_encoder.model), state(model.encoders)
    advance(model, kind, *batch())
    assert unchanged(
        model.momentum_encoder.model, online if momentum == 0 else before
    ) and unchanged(model.encoders, online)


@settings(max_examples=5)
@given(kind=st.sampled_from(list(KINDS)), seed=st.integers(0, 99))
def test_a_permuted_batch_permutes_the_terms(kind, seed):
    images, ids, is_real = batch(seed=seed)
    order = np.random.default_rng(seed).permutation(4)
    place, hidden = np.argsort(order), masked(kind, ids)
    one, other = model_of(kind), model_of(kind)
    first = advance(one, kind, images, ids, is_real)
    again = {"masked": tuple(part[order] for part in hidden["masked"])} if hidden else {}
    second = trained_on(
        other,
        images[order],
        ids[order],
        is_real[order],
        negatives=tuple(place[n[order]] for n in NEGATIVES),
        **again,
    )
    for name in first:
        assert abs(first[name].item() - second[name].item()) < 1e-12, name
    np.testing.assert_allclose(
        other.queue.images.data[:4], one.queue.images.data[order], atol=1e-12
    )


def test_one_generator_draws_the_same_and_another_something_else(kind):
    parts = batch()
    found = [
        numbers(tasks.losses(model_of(kind), *parts, rng=np.random.default_rng(seed)))
        for seed in (3, 3, 4)
    ]
    assert found[0] == found[1] != found[2]


def test_captions_of_one_picture_are_never_wrong_answers(kind):
    parts, objectives = batch(3), ("itm",)

    def itm(**given):
        model = model_of(kind)
        model.temperature.data = np.full((), 0.5)  # warm: all candidates have their chance
        return tasks.losses(model, *parts, objectives=objectives, **given)["itm"].item()

    # Rows 0 and 1 show one picture, so row 2 is their only wrong answer, and either of them is row 2's.
    allowed = [
        itm(negatives=(np.array([2, 2, a]), np.array([2, 2, b]))) for a in (0, 1) for b in (0, 1)
    ]
    drawn = {
        itm(rng=np.random.default_rng(seed), image_ids=np.array([7, 7, 8])) for seed in range(20)
    }
    assert drawn <= set(allowed) and len(drawn) > 1
    assert not {itm(rng=np.random.default_rng(seed)) for seed in range(20)} <= set(allowed)
    with pytest.raises(
        DataError,
        match="pair 0 has no candidate, because all 3 pictures of the batch have its id 7",
    ):
        itm(rng=np.random.default_rng(0), image_ids=np.full(3, 7))
