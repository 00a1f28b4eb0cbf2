"""BLIP-2's two steps and the language model's: training calls them, their parts count, and they change nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest
from tiny import TinySource, randomized

from tinymm.arrays.errors import DataError, ShapeError, UsageError
from tinymm.data.text import DEC
from tinymm.layers import bidirectional_mask, multimodal_causal_mask, unimodal_mask
from tinymm.losses import ITM_PRIOR
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.opt import OPT, OPTConfig
from tinymm.tasks import all_specs, blip2_stage1, blip2_stage2, language_model, losses, spec_of
from tinymm.training.loop import TrainConfig, train
from tinymm.training.optimizers import AdamW

MODELS = {
    "stage 1": (BLIP2Stage1, BLIP2Config),
    "stage 2": (BLIP2Stage2, BLIP2Stage2Config),
    "language": (OPT, OPTConfig),
}
STEPS = {
    "stage 1": (blip2_stage1, "blip2_stage1_step"),
    "stage 2": (blip2_stage2, "blip2_stage2_step"),
    "language": (language_model, "language_model_step"),
}
IMAGE_IDS = np.array([7, 7, 8, 9])


def built(name, dtype="float64"):
    model, config = MODELS[name]
    return randomized(model(config.tiny(), np.random.default_rng(0))).astype(dtype)


def batch(seed=0):
    rng = np.random.default_rng(seed)
    ids, is_real = rng.integers(3, 48, (4, 6)), np.arange(6) < np.array([6, 4, 5, 3])[:, None]
    return rng.standard_normal((4, 16, 16, 3)), np.where(is_real, ids, 0), is_real


class Colored(TinySource):
    """Images of three channels."""

    def batch(self, indices, rng):
        found = super().batch(indices, rng)
        return replace(found, images=np.repeat(found.images, 3, axis=-1))


def numbers(model, **options):
    """Return the losses of one step, whose draws are those of one generator."""
    given = {"rng": np.random.default_rng(0), "image_ids": IMAGE_IDS} | options
    return {name: loss.item() for name, loss in losses(model, *batch(), **given).items()}


# ---------------------------------------------------------------------- training calls the paper's step
@pytest.mark.parametrize("name", STEPS)
def test_training_calls_the_paper_s_step(name, monkeypatch):
    module, step = STEPS[name]
    paper = getattr(module, step)

    def records():
        source, model = Colored(), built(name, "float32")
        optimizer = AdamW(model)
        return [
            record["loss"]
            for record in train(model, source, optimizer, TrainConfig(2, 4, 1e-3, workers=1))
        ]

    right = records()
    monkeypatch.setattr(
        module,
        step,
        lambda *given, **more: {n: 3 * loss for n, loss in paper(*given, **more).items()},
    )
    assert records()[0] == pytest.approx(3 * right[0], rel=1e-5)


@pytest.mark.parametrize(
    "mask, objective, other",
    [
        ("itc", "itc", bidirectional_mask),
        ("itm", "itm", unimodal_mask),
        ("itm", "itm", multimodal_causal_mask),
        ("itg", "itg", bidirectional_mask),
        ("itg", "itg", unimodal_mask),
    ],
)
def test_each_mask_is_its_own_objective_s(mask, objective, other):
    model, negatives = built("stage 1"), (np.array([2, 3, 0, 1]), np.array([3, 2, 1, 0]))
    right = numbers(model, negatives=negatives)
    model.masks[mask] = other
    wrong = numbers(model, negatives=negatives)
    assert {n for n in right if abs(right[n] - wrong[n]) > 1e-9} == {objective}


def test_each_objective_names_the_mask_that_the_model_uses():
    model = built("stage 1")
    assert {o.name: o.mask for o in blip2_stage1.spec.objectives} == {
        n: mask.__name__ for n, mask in model.masks.items()
    }


@pytest.mark.parametrize(
    "name, part, broken, changes",
    [
        ("stage 1", "itc_loss", lambda *given: 0 * given[0].sum(), {"itc"}),
        ("stage 1", "itm_loss", lambda logits, labels: logits.sum(), {"itm"}),
        ("stage 1", "language_loss", lambda logits, *given: logits.sum(), {"itg"}),
        ("stage 1", "max_over_queries", lambda Z, t: np.dot(Z[:, 0], t.T), {"itc", "itm"}),
        (
            "stage 1",
            "hard_negatives",
            lambda *given: (np.array([2, 2, 3, 0]), np.array([3, 3, 0, 1])),
            {"itm"},
        ),
        (
            "stage 1",
            "itm_pairs",
            lambda *given: (np.arange(4), np.arange(4), np.ones(4, int)),
            {"itm"},
        ),
        ("stage 2", "language_loss", lambda logits, *given: logits.sum(), {"lm"}),
        ("language", "language_loss", lambda logits, *given: logits.sum(), {"lm"}),
    ],
)
def test_a_replaced_part_changes_the_losses_that_it_is_for(
    name, part, broken, changes, monkeypatch
):
    model = built(name)
    right = numbers(model)
    monkeypatch.setattr(STEPS[name][0], part, broken)
    wrong = numbers(model)
    assert {n for n in right if abs(right[n] - wrong[n]) > 1e-9} == changes


@pytest.mark.parametrize("method", blip2_stage2.SHARED)
def test_a_replaced_method_of_stage_2_changes_its_loss(method):
    model = built("stage 2")
    right, own = numbers(model)["lm"], getattr(model, method)
    setattr(model, method, lambda *given: own(*given) * 1.5)
    assert abs(numbers(model)["lm"] - right) > 1e-9


def test_workers_share_what_the_steps_name():
    for name, shared in (("stage 1", blip2_stage1.SHARED), ("stage 2", blip2_stage2.SHARED)):
        split = []
        numbers(built(name), split=lambda method: split.append(method.__name__) or method)  # noqa: B023
        assert split == list(shared)


# ---------------------------------------------------------------------- a step changes nothing
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_changes_nothing(name, training):
    model = built(name).train(training)
    before = {key: array.tobytes() for key, array in model.state_dict().items()}
    found = [numbers(model) for _ in range(3)]
    assert found[0] == found[1] == found[2]
    assert {key: array.tobytes() for key, array in model.state_dict().items()} == before
    task = spec_of(model).task
    task.after_step(model, task.step(model, *batch(), rng=np.random.default_rng(0)).memory)
    assert {
        key: array.tobytes() for key, array in model.state_dict().items()
    } == before  # BLIP-2 has no momentum


@pytest.mark.parametrize("kind", [tuple, list, set, frozenset, iter])
def test_objectives_may_be_any_collection(kind):
    model, right = built("stage 1"), numbers(built("stage 1"))
    for names in (("itc",), ("itm", "itg"), ("itg", "itc", "itm")):
        found = numbers(model, objectives=kind(names))
        assert found == {name: right[name] for name in ("itc", "itm", "itg") if name in names}


def test_one_objective_may_be_a_name():
    assert numbers(built("stage 1"), objectives="itg") == {"itg": numbers(built("stage 1"))["itg"]}


def test_a_task_with_fewer_objectives_trains_on_these():
    model = built("stage 1", "float32")
    task = spec_of(model).task.with_options(objectives=("itc", "itg"))
    (record,) = train(model, Colored(), AdamW(model), TrainConfig(1, 4, 1e-3, workers=1), task=task)
    assert "itm" not in record and record["loss"] == pytest.approx(
        record["itc"] + record["itg"], rel=1e-6
    )
    assert record["temperature"] == pytest.approx(built("stage 1").temperature.data, rel=1e-6)


# ---------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    "change, error, said",
    [
        ({"objectives": ()}, UsageError, "and none came"),
        ({"objectives": "itx"}, UsageError, "and itx came"),
        ({"rng": None}, UsageError, "ITM draws hard negatives, and neither rng nor negatives came"),
        ({"image_ids": np.zeros(4, int)}, DataError, "no candidate, because all 4"),
        ({"image_ids": np.arange(3)}, ShapeError, r"\(3,\) came; give one id to each pair"),
    ],
)
def test_stage_1_refuses(change, error, said):
    with pytest.raises(error, match=said):
        numbers(built("stage 1"), **change)


def test_nothing_is_drawn_where_itm_is_left_out():
    assert (
        len(
            numbers(
                built("stage 1"), rng=None, image_ids=np.zeros(4, int), objectives=("itc", "itg")
            )
        )
        == 2
    )


# ---------------------------------------------------------------------- the specs
@pytest.mark.parametrize("name", MODELS)
def test_a_spec_has_the_columns_and_the_chance_losses_of_its_step(name):
    model = built(name)
    spec = spec_of(model)
    assert (
        set(spec.chance_losses(model, 4)) == set(numbers(model)) <= set(spec.columns)
        and "" not in spec.columns
    )
    assert set(spec.noted) == set(spec.task.notes(model)) and spec in all_specs()


def test_chance_losses_are_those_of_uniform_predictions():
    V = math.log(50)
    assert blip2_stage1.spec.chance_losses(built("stage 1"), 4) == {
        "itc": math.log(4),
        "itm": ITM_PRIOR,
        "itg": V,
    }
    assert blip2_stage2.spec.chance_losses(built("stage 2"), 4) == {"lm": V}
    assert language_model.spec.chance_losses(built("language"), 4) == {"lm": V}


def framed(**changes):
    source = TinySource(**changes)
    source.tokenizer = source.tokenizer.with_frame(DEC)
    return source


def clip(**changes):
    return CLIP(CLIPConfig.tiny(**changes), np.random.default_rng(0))


def test_both_stages_are_prepared_from_what_they_require():
    source, encoder = framed(), clip()
    words = source.tokenizer
    settings = blip2_stage1.BLIP2Stage1Settings(queries=3, width=16, heads=2, layers=2, embed_dim=8)
    first = blip2_stage1.prepare(settings, source, {"encoder": encoder})
    assert (
        len(first.image_encoder.blocks)
        == first.config.image.layers
        == len(encoder.image_encoder.blocks) - 1
    )
    assert first.config.decode == words.decode_token and first.config.qformer.queries == 3
    again = blip2_stage1.prepare(
        settings, source, {"encoder": encoder}
    )  # the encoder that was given is whole
    assert all(
        np.array_equal(a, b)
        for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    )
    language = language_model.prepare(
        language_model.LanguageSettings(width=16), source, {"init": first}
    )
    assert (language.config.begin, language.config.end) == (words.begin, words.end_of_text)
    assert language.config.context == 2 * words.context + 1 and language.config.feed_forward == 64
    second = blip2_stage2.prepare(
        blip2_stage2.BLIP2Stage2Settings(), source, {"init": first, "language": language}
    )
    assert second.language_model is language and second.config.qformer.queries == 3
    many = blip2_stage1.prepare(replace(settings, queries=40), source, {"encoder": encoder})
    roomy = language_model.prepare(
        language_model.LanguageSettings(width=16), source, {"init": many}
    )
    assert roomy.config.context == 40 + words.context + 1
    blip2_stage2.prepare(
        blip2_stage2.BLIP2Stage2Settings(), source, {"init": many, "language": roomy}
    )
    with pytest.raises(
        UsageError, match=f"room for 40 visual prompts and {words.context} tokens .* its context is"
    ):
        blip2_stage2.prepare(
            blip2_stage2.BLIP2Stage2Settings(), source, {"init": many, "language": language}
        )


def test_what_cannot_be_prepared_is_refused():
    source, first = framed(), built("stage 1")
    stage_1, stage_2 = blip2_stage1.BLIP2Stage1Settings, blip2_stage2.BLIP2Stage2Settings
    with pytest.raises(
        UsageError, match="runs/it holds none; train one with `train clip --image vit`"
    ):
        blip2_stage1.prepare(stage_1(encoder="runs/it"), source, {"encoder": clip(image="resnet")})
    with pytest.raises(UsageError, match="one of its 2 layers, and 2 came; lower it"):
        blip2_stage1.prepare(stage_1(drop=2), source, {"encoder": clip()})
    with pytest.raises(
        UsageError, match="--init is a run of stage 1 of BLIP-2, and runs/it holds a CLIP"
    ):
        blip2_stage2.prepare(
            stage_2(init="runs/it"), source, {"init": clip(), "language": built("language")}
        )
    for other in (built("language"), first):
        with pytest.raises(
            UsageError, match=f"an OPT of the {len(source.tokenizer)} tokens of the data"
        ):
            blip2_stage2.prepare(stage_2(), source, {"init": first, "language": other})


@pytest.mark.parametrize(
    "settings, given, said",
    [
        (blip2_stage1.BLIP2Stage1Settings, {"objectives": "itc,itx"}, "and itc, itx came"),
        (blip2_stage1.BLIP2Stage1Settings, {"objectives": ""}, "some of itc, itm, itg"),
        (
            blip2_stage1.BLIP2Stage1Settings,
            {"encoder": "runs/a", "vocabulary": "bpe"},
            "brings its own vocabulary",
        ),
        (blip2_stage1.BLIP2Stage1Settings, {"queries": 0}, "--queries is at least 1"),
        (
            blip2_stage2.BLIP2Stage2Settings,
            {"vocabulary": "bpe"},
            "stage 1 brings its own vocabulary, and --vocabulary bpe",
        ),
        (
            blip2_stage2.BLIP2Stage2Settings,
            {"tokenizer": "words"},
            "its own vocabulary, and --tokenizer words",
        ),
        (blip2_stage2.BLIP2Stage2Settings, {"language_steps": 0}, "--language-steps is at least 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, given, said):
    with pytest.raises(UsageError, match=said):
        settings(**given)


def test_what_is_trained_first_has_settings_that_there_are():
    outer = blip2_stage1.BLIP2Stage1Settings(encoder_steps=7, seed=3)
    clip_settings = next(spec for spec in all_specs() if spec.name == "clip").settings
    inner = clip_settings(**blip2_stage1.spec.requires[0].settings(outer))
    assert (inner.steps, inner.seed, inner.data, inner.width, inner.embed_dim) == (
        7,
        3,
        "shapes",
        128,
        64,
    )
    stage_2 = blip2_stage2.BLIP2Stage2Settings(language_steps=9)
    language = blip2_stage2.spec.requires[1]
    inner = language_model.LanguageSettings(**language.settings(stage_2))
    assert (
        inner.steps,
        inner.batch_size,
        inner.learning_rate,
        inner.warmup,
        inner.validate_every,
    ) == (9, 64, 2e-3, 50, 9)
    assert blip2_stage2.spec.requires[0].last_run and language.same_words


def test_idle_fields_are_fields_and_depend_on_what_is_given():
    for module, settings in (
        (blip2_stage1, blip2_stage1.BLIP2Stage1Settings),
        (blip2_stage2, blip2_stage2.BLIP2Stage2Settings),
        (language_model, language_model.LanguageSettings),
    ):
        idle = [name for names in module.idle(settings()).values() for name in names]
        assert all(hasattr(settings(), name) for name in idle) and not {
            "encoder_steps",
            "language_steps",
        } & set(idle)
    assert ("encoder_steps",) in blip2_stage1.idle(
        blip2_stage1.BLIP2Stage1Settings(encoder="runs/a")
    ).values()
    assert ("language_steps",) in blip2_stage2.idle(
        blip2_stage2.BLIP2Stage2Settings(language="runs/a")
    ).values()
