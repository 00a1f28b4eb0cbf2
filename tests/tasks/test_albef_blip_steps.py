"""The steps of ALBEF and BLIP are the functions that training runs, and computing one changes nothing."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
from tiny import TinySource
from tiny_towers import NEGATIVES, THIRD, batch, masked, model_of, numbers, state, unchanged

from tinymm import tasks
from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.data.text import DEC, ENC, MASK
from tinymm.losses import ITM_PRIOR
from tinymm.tasks import albef, blip
from tinymm.training.loop import TrainConfig, train
from tinymm.training.optimizers import AdamW

TASKS = {"albef": albef, "blip": blip}
STEPS = {"albef": "albef_step", "blip": "blip_step"}
SMALL = {
    "width": 16, "layers": 1, "text_layers": 1, "heads": 2, "embed_dim": 8, "queue": 2, "alpha_warmup": 2, "batch_size": 4, "steps": 4,
}  # fmt: skip


@pytest.fixture(params=TASKS)
def kind(request):
    return request.param


def prepared(kind, **changes):
    """Return a tiny source, and the model that `train` would begin with on it."""
    source, spec = TinySource(), TASKS[kind].spec
    source.tokenizer = source.tokenizer.with_frame(*spec.frame)
    settings = spec.settings(**SMALL | changes)
    return source, spec.prepare(settings, source, {})


def records(kind, steps=3, **given):
    """Return what training yields, without the seconds."""
    source, model = prepared(kind)
    recipe = TrainConfig(steps, 4, learning_rate=1e-3, warmup=1)
    found = list(train(model, source, AdamW(model), recipe, **given))
    return [
        {name: value for name, value in record.items() if name != "seconds"} for record in found
    ]


# ---------------------------------------------------------------------- training calls it
def test_training_calls_the_paper_s_step(kind, monkeypatch):
    right, original, calls = records(kind), getattr(TASKS[kind], STEPS[kind]), []

    def spy(*given, **options):
        calls.append(given)
        losses, memory = original(*given, **options)
        return losses | {"itm": losses["itm"] * 3.0}, memory

    monkeypatch.setattr(TASKS[kind], STEPS[kind], spy)
    wrong = records(kind)
    assert len(calls) == 3
    assert wrong[0]["itm"] == pytest.approx(3 * right[0]["itm"], rel=1e-6)
    assert wrong[0]["itc"] == right[0]["itc"] and wrong[1]["itc"] != right[1]["itc"]
    assert [record["temperature"] for record in wrong] != [
        record["temperature"] for record in right
    ]


#: What each step calls, and the losses that a change of it reaches.
CALLED = {
    "itc_with_queue": {"itc"}, "hard_negatives": {"itm"}, "itm_pairs": {"itm"}, "itm_loss": {"itm"},
    "masked_language_loss": {"mlm"}, "mask_tokens": {"mlm"}, "mask_words": {"mlm"}, "language_loss": {"lm"},
}  # fmt: skip
BROKEN = {
    "itc_with_queue": lambda loss, pairs: (loss * 2.0, pairs),
    "hard_negatives": lambda image_for_text, text_for_image: (
        text_for_image[::-1],
        image_for_text[::-1],
    ),
    "itm_pairs": lambda images, texts, labels: (images, texts, 1 - labels),
    "mask_tokens": lambda ids, labels: (np.where(labels >= 0, 7, ids), labels),
    "mask_words": lambda ids, labels: (np.where(labels >= 0, 7, ids), labels),
}


@pytest.mark.parametrize("called", CALLED)
def test_a_changed_function_changes_its_loss_alone(kind, called, monkeypatch):
    if not hasattr(TASKS[kind], called):
        assert CALLED[called] & {"mlm", "lm"} == {
            "mlm" if kind == "blip" else "lm"
        }  # the other paper's
        return
    right, original = records(kind, 1)[0], getattr(TASKS[kind], called)

    def broken(*given, **options):
        found = original(*given, **options)
        return BROKEN[called](*found) if called in BROKEN else found * 2.0

    monkeypatch.setattr(TASKS[kind], called, broken)
    wrong = records(kind, 1)[0]
    changed = {name for name in ("itc", "itm", THIRD[kind]) if wrong[name] != right[name]}
    assert changed == CALLED[called]


def test_without_momentum_the_contrast_is_in_the_batch_alone(kind, monkeypatch):
    model = model_of(kind, momentum=None)
    right = tasks.losses(model, *batch(), rng=np.random.default_rng(0), objectives="itc")[
        "itc"
    ].item()
    monkeypatch.setattr(
        TASKS[kind], "itc_loss", lambda similarities, image_ids: np.mean(similarities)
    )
    found = tasks.losses(model, *batch(), rng=np.random.default_rng(0), objectives="itc")[
        "itc"
    ].item()
    cosines = model(*batch()).data
    assert found == pytest.approx((cosines / model.temperature.data).mean(), abs=1e-12) != right


def test_the_step_fits_on_a_screen(kind):
    assert len(inspect.getsource(getattr(TASKS[kind], STEPS[kind])).splitlines()) <= 75


# ---------------------------------------------------------------------- a step changes nothing
@pytest.mark.parametrize(
    "given", [{"negatives": NEGATIVES}, {"image_ids": np.array([7, 7, 8, 9])}, {}]
)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_three_calls_give_the_same_and_change_nothing(kind, given, mode):
    model, parts = getattr(model_of(kind, alpha_warmup=100), mode)(), batch()
    TASKS[kind].after_step(
        model, TASKS[kind].step(model, *parts, rng=np.random.default_rng(9)).memory
    )  # inside the warm-up
    model.temperature.data = np.full((), 3.0)  # which after_step would clamp
    before = state(model)
    found = [
        numbers(tasks.losses(model, *parts, rng=np.random.default_rng(0), **given))
        for _ in range(3)
    ]
    assert found[0] == found[1] == found[2]
    assert unchanged(model, before) and model.training == (mode == "train")
    assert all(p.grad is None for p in model.parameters())


def test_train_and_eval_compute_the_same(kind):
    model, parts = model_of(kind), batch()
    found = [
        numbers(tasks.losses(mode(), *parts, rng=np.random.default_rng(0)))
        for mode in (model.train, model.eval)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "kept",
    [
        ("itc",),
        ("itm",),
        ("third",),
        ("itc", "itm"),
        ("itm", "third"),
        ("itc", "third"),
        ("itc", "itm", "third"),
    ],
)
def test_objectives_are_a_set_whatever_holds_them(kind, kept):
    model, parts = model_of(kind), batch()
    kept = tuple(THIRD[kind] if name == "third" else name for name in kept)
    before, given = state(model), {"negatives": NEGATIVES, **masked(kind, parts[1])}
    whole = numbers(tasks.losses(model, *parts, **given))
    holders = [
        kept,
        kept[::-1],
        list(kept),
        list(kept[::-1]),
        set(kept),
        frozenset(kept),
        dict.fromkeys(kept),
    ]
    for objectives in holders + ([kept[0]] if len(kept) == 1 else []):
        result = TASKS[kind].step(model, *parts, **given, objectives=objectives)
        assert numbers(result.losses) == {
            name: whole[name] for name in ("itc", "itm", THIRD[kind]) if name in kept
        }
        assert (result.memory is None) == (kept == ("lm",))
    assert unchanged(model, before)


def test_language_modeling_alone_takes_one_pair_and_leaves_momentum_and_queue():
    model, (images, ids, is_real) = model_of("blip"), batch()
    before = state(model)
    result = blip.step(model, images[:1], ids[:1], is_real[:1], objectives=["lm"])
    blip.after_step(model, result.memory)
    assert result.memory is None and list(result.losses) == ["lm"] and unchanged(model, before)


# ---------------------------------------------------------------------- what moves after it
def test_after_step_alone_moves_momentum_encoder_queue_and_temperature(kind):
    model, parts = model_of(kind), batch()
    image_ids = np.array([7, 7, 8, 9])
    result = TASKS[kind].step(model, *parts, rng=np.random.default_rng(0), image_ids=image_ids)
    model.temperature.data = np.full((), 3.0)
    before = state(model)
    TASKS[kind].after_step(model, result.memory)
    moved = {
        name
        for name, array in model.state_dict().items()
        if array.tobytes() != before[name].tobytes()
    }
    ema = {name for name, _ in model.named_parameters() if name.startswith("momentum_encoder.")}
    queue = {f"queue.{name}" for name in ("images", "texts", "ids", "next", "pushed")}
    assert queue | {"temperature"} <= moved <= queue | {"temperature"} | ema
    assert model.temperature.data == 0.5 and model.queue.image_ids[:4].tolist() == [7, 7, 8, 9]
    np.testing.assert_array_equal(model.queue.images.data[:4], result.memory.images)
    for name in ema:
        online = name.replace("momentum_encoder.model.", "encoders.")
        expected = 0.8 * before[name] + (1 - 0.8) * before[online]
        np.testing.assert_array_equal(model.state_dict()[name], expected, err_msg=name)


def test_without_momentum_after_step_clamps_the_temperature_alone(kind):
    model = model_of(kind, momentum=None)
    result = TASKS[kind].step(model, *batch(), rng=np.random.default_rng(0))
    model.temperature.data = np.full((), 3.0)
    before = state(model)
    TASKS[kind].after_step(model, result.memory)
    assert result.memory is None and model.temperature.data == 0.5
    model.temperature.data = np.full((), 3.0)
    assert unchanged(model, before)


def test_a_record_notes_the_temperature_that_its_step_used(kind):
    source, model = prepared(kind)
    model.temperature.data = np.full((), 0.4999, np.float32)
    optimizer, recipe = AdamW(model), TrainConfig(3, 4, learning_rate=0.5, warmup=1)
    used = []
    for record in train(model, source, optimizer, recipe):
        used.append(record["temperature"])
        assert 0.001 <= model.temperature.item() <= 0.5
    assert used[0] == pytest.approx(0.4999, abs=1e-6) and len(set(used)) > 1


# ---------------------------------------------------------------------- what the specs say
def test_a_fresh_model_s_momentum_encoder_has_been_averaged_once_with_its_positions(kind):
    _, model = prepared(kind)
    online, ema = model.encoders.state_dict(), model.momentum_encoder.model.state_dict()
    for name in online.keys() - {"image_encoder.positions"}:
        np.testing.assert_allclose(ema[name], online[name], rtol=1e-6, err_msg=name)
    gap = np.abs(ema["image_encoder.positions"] - online["image_encoder.positions"])
    assert gap.max() > 0.1  # they were drawn anew, and the EMA is nine tenths of the old ones


def test_batches_fit_the_data_and_divide_the_queue(kind):
    source, model = prepared(kind, batch_size=64, alpha_warmup=5)
    assert (
        model.config.queue == 2 * 12 and model.config.alpha_warmup == 5 * 12
    )  # the source has 12 pairs
    source, model = prepared(kind)
    assert model.config.queue == 8 and model.config.alpha_warmup == 8
    model.queue.check_batch(4)


def test_special_tokens_are_the_tokenizer_s():
    source, model = prepared("albef")
    words, config = source.tokenizer, model.config
    assert config.mask == words.mask_token and albef.spec.frame == (MASK,)
    assert (
        config.text.layers == 2 and config.text.fusion_layer == 1 and config.text.token_types == 2
    )
    source, model = prepared("blip")
    words, config = source.tokenizer, model.config
    assert (config.decode, config.encode, config.end_of_text) == (
        words.decode_token,
        words.encode_token,
        words.end_of_text,
    )
    assert (
        blip.spec.frame == (DEC, ENC) and config.text.layers == 1 and config.text.fusion_layer == 0
    )


def test_the_chance_losses_are_those_of_equal_logits(kind):
    spec = TASKS[kind].spec
    for momentum, columns in ((0.8, 4 + 24), (None, 4)):
        found = spec.chance_losses(model_of(kind, momentum=momentum), 4)
        assert found == {"itc": np.log(columns), "itm": ITM_PRIOR, THIRD[kind]: np.log(50)}


def test_the_settings_of_both_papers():
    first, second = albef.spec.settings(), blip.spec.settings()
    assert (first.text_layers, first.steps, first.mlm_probability) == (2, 1000, 0.15)
    assert (second.text_layers, second.steps, second.capfilt, second.tuning_steps) == (
        3,
        1050,
        False,
        300,
    )
    for settings in (first, second):
        assert (settings.queue, settings.momentum, settings.alpha, settings.alpha_warmup) == (
            8,
            0.9,
            0.4,
            200,
        )
        assert (settings.data, settings.width, settings.layers, settings.embed_dim) == (
            "shapes",
            128,
            3,
            64,
        )
        assert (settings.batch_size, settings.learning_rate, settings.warmup) == (64, 1e-3, 50)
    assert blip.idle(second) == {"nothing is tuned without --capfilt": ("tuning_steps",)}
    assert blip.idle(replace(second, capfilt=True)) == {}
    for name in ("momentum", "alpha"):
        with pytest.raises(UsageError, match=rf"--{name} is in \[0, 1\], and 1.5 came"):
            replace(first, **{name: 1.5})


def test_a_step_is_named_by_seed_and_number(kind):
    source, model = prepared(kind)
    drawn = source.batch(np.arange(4), generator(0, 1, 0))
    found = [
        numbers(
            tasks.losses(
                model,
                drawn.images,
                drawn.ids,
                drawn.is_real,
                rng=generator(0, 2, n),
                image_ids=drawn.image_ids,
            )
        )
        for n in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]
