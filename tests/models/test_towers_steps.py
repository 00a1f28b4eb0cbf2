"""A step of ALBEF or BLIP by other ways, on several workers, on another device, after a stop: the same step; and those that are refused."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import randomized
from tiny_towers import (
    KINDS,
    NEGATIVES,
    batch,
    model_of,
    numbers,
    state,
    total,
    trained_on,
    unchanged,
)

from tinymm import tasks
from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import DataError, DtypeError, ShapeError, UsageError
from tinymm.tasks import losses
from tinymm.training.checkpoint import load_checkpoint, save_checkpoint
from tinymm.training.optimizers import AdamW
from tinymm.training.parallel import threads


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


# ---------------------------------------------------------------------- the same by other ways
def test_two_workers_take_the_same_step(kind):
    found = []
    for workers in (1, 2, 3):
        model, (images, ids, is_real) = model_of(kind), batch()
        with threads(workers) as split:
            losses = trained_on(
                model, images, ids, is_real, rng=np.random.default_rng(0), split=split
            )
            total(losses).backward()
        found.append(
            numbers(losses)
            | state(model)
            | {f"gradient of {name}": p.grad for name, p in model.trainable().items()}
        )
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, array in found[0].items():
            np.testing.assert_allclose(other[name], array, rtol=1e-11, atol=1e-13, err_msg=name)


def trained(model, optimizer, kind, steps):
    """Train on as many batches of a stream, all of whose draws are named by the number of the step."""
    for n in steps:
        task, image_ids = tasks.spec_of(model).task, np.array([n, n, n + 1, n + 2])
        result = task.step(
            model,
            *batch(seed=n, dtype="float32"),
            rng=np.random.default_rng(n),
            image_ids=image_ids,
        )
        total(result.losses).backward()
        optimizer.step(1e-3, 1.0)
        task.after_step(model, result.memory)
    return numbers(result.losses)


def test_a_training_that_was_stopped_goes_on_bitwise(kind, tmp_path):
    through, stopped = (model_of(kind, "float32", alpha_warmup=30) for _ in range(2))
    first = AdamW(through)
    losses = trained(through, first, kind, range(6))
    second = AdamW(stopped)
    trained(stopped, second, kind, range(3))
    save_checkpoint(tmp_path, stopped, second, {"step": 3})
    resumed = randomized(model_of(kind, "float32", alpha_warmup=30), seed=9)
    third = AdamW(resumed)
    load_checkpoint(tmp_path, resumed, third)
    assert trained(resumed, third, kind, range(3, 6)) == losses
    assert (
        unchanged(resumed, state(through))
        and resumed.queue.pointer == 0
        and int(resumed.queue.pushed.data) == 24
    )


def test_padding_moves_nothing(kind):
    model, (images, ids, is_real) = model_of(kind), batch()
    junk = np.where(is_real, ids, np.random.default_rng(1).integers(0, 50, ids.shape))
    longer = np.concatenate([junk, junk[:, :3]], axis=1)
    real = np.concatenate([is_real, np.zeros((4, 3), bool)], axis=1)
    tokens = model.image_tokens(images)
    np.testing.assert_allclose(
        model.encode_text(longer, real).data, model.encode_text(ids, is_real).data, atol=1e-12
    )
    np.testing.assert_allclose(
        model.itm_logits(tokens, longer, real).data,
        model.itm_logits(tokens, ids, is_real).data,
        atol=1e-12,
    )
    words = model.lm_logits if kind == "blip" else model.mlm_logits
    np.testing.assert_allclose(
        words(tokens, longer, real).data[:, :6][is_real],
        words(tokens, ids, is_real).data[is_real],
        atol=1e-12,
    )


def test_use_agrees_with_what_the_losses_look_at(kind):
    model, (images, ids, is_real) = model_of(kind), batch()
    I, T = model.encode_image(images).data, model.encode_text(ids, is_real).data
    np.testing.assert_allclose(
        [np.linalg.norm(I, axis=1), np.linalg.norm(T, axis=1)], 1, atol=1e-12
    )
    np.testing.assert_allclose(
        model(images, ids[:1], is_real[:1]).data, I @ T[:1].T, atol=1e-12
    )  # cosines, without the temperature
    np.testing.assert_allclose(
        model.encode_text(ids[:, :3]).data,
        model.encode_text(ids[:, :3], np.ones((4, 3), bool)).data,
    )
    logits = model.itm_logits(model.image_tokens(images), ids, is_real).data
    np.testing.assert_allclose(
        model.itm_probability(images, ids, is_real),
        np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1),
        atol=1e-12,
    )
    raw = (
        model.encode_image(images, normalize=False).data,
        model.encode_text(ids, is_real, normalize=False).data,
    )
    for features, unit in zip(raw, (I, T), strict=True):
        np.testing.assert_allclose(
            features / np.linalg.norm(features, axis=1, keepdims=True), unit, atol=1e-12
        )
    np.testing.assert_array_equal(model.similarity(I, T), I @ T.T)


def test_a_step_is_the_same_wherever_arrays_live(kind, backend):
    found = []
    for home in ("numpy", backend):
        model, (images, ids, is_real) = model_of(kind, alpha=0.3).to(home), batch()
        optimizer = AdamW(model)
        for n in range(2):
            losses = trained_on(
                model,
                to_backend(images, home),
                ids,
                is_real,
                rng=np.random.default_rng(n),
                image_ids=np.array([1, 1, 2, 3]),
            )
            total(losses).backward()
            norm = optimizer.step(1e-3, 1.0)
        found.append(
            {
                "norm": to_host(norm),
                **{name: to_host(loss.data) for name, loss in losses.items()},
                **state(model),
            }
        )
    for name, array in found[0].items():
        if not name.endswith(
            ("key.bias", "qkv.bias")
        ):  # a gradient of rounding alone: Adam makes whole steps of it
            np.testing.assert_allclose(found[1][name], array, rtol=1e-9, atol=1e-9, err_msg=name)


# ---------------------------------------------------------------------- what is refused
REFUSED = {
    "a batch of one": (UsageError, lambda m, i, t, r: losses(m, i[:1], t[:1], r[:1], rng=rng()), "at least 2 pairs and 1 came: .* raise"),
    "other texts": (UsageError, lambda m, i, t, r: losses(m, i, t[:3], r[:3], rng=rng()), "4 pictures with 3 texts came; align the batch"),
    "no draws": (UsageError, lambda m, i, t, r: losses(m, i, t, r), "ITM draws hard negatives, and neither rng nor negatives came; pass rng="),
    "a queue": (UsageError, lambda m, i, t, r: losses(m, *batch(5), rng=rng()), "a queue of 24 takes batches that divide it, .* and 5 rows came"),
    "a loss": (UsageError, lambda m, i, t, r: losses(m, i, t, r, rng=rng(), objectives=("itx",)), "are some of itc, itm, .* and itx came; correct"),
    "picture ids": (ShapeError, lambda m, i, t, r: losses(m, i, t, r, rng=rng(), image_ids=np.arange(3)), r"4 pairs shows, and \(3,\) came"),
    "one picture": (DataError, lambda m, i, t, r: losses(m, i, t, r, rng=rng(), image_ids=np.full(4, 7)), "all 4 pictures .* have its id 7"),
    "an id": (DataError, lambda m, i, t, r: losses(m, i, t + 48, r, rng=rng()), r"ids must lie in \[0, 50\) and 9\d came; use the tokenizer"),
    "context": (ShapeError, lambda m, i, t, r: losses(m, i, np.ones((4, 13), int), rng=rng()), r"1 to 12 tokens \(the context\) and 13 came; cut"),
    "pictures": (ShapeError, lambda m, i, t, r: losses(m, i[:, :8], t, r, rng=rng()), r"16, 16, 3\) with channels last, and \(4, 8, .* came"),
    "numbers for is_real": (DtypeError, lambda m, i, t, r: losses(m, i, t, r.astype(int), rng=rng()), "is_real is boolean .* int64 came; write ids"),
}  # fmt: skip


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_named(kind, name):
    error, call, said = REFUSED[name]
    model = model_of(kind)
    before = state(model)
    with pytest.raises(error, match=said):
        call(model, *batch())
    assert unchanged(model, before)  # neither momentum encoder nor queue


def test_pairs_of_one_picture_are_contrasted_where_no_wrong_one_is_drawn(kind):
    same, (images, ids, is_real) = np.full(4, 7), batch()
    for given in ({"objectives": ("itc",)}, {"negatives": NEGATIVES, "rng": rng()}):
        losses = tasks.losses(model_of(kind), images, ids, is_real, image_ids=same, **given)
        assert all(np.isfinite(loss.item()) for loss in losses.values())


@pytest.mark.parametrize(
    "change, said",
    [
        (
            {"alpha": 1.1},
            r"alpha is the weight of the pseudo-targets, in \[0, 1\], and 1.1 came; the papers have 0.4",
        ),
        ({"alpha": None}, r"alpha is the weight of the pseudo-targets, in \[0, 1\], and None came"),
        (
            {"alpha_warmup": -1},
            "alpha_warmup counts the pairs over which alpha grows, 0 or more, and -1 came",
        ),
        (
            {"alpha_warmup": 0.5},
            "alpha_warmup counts the pairs over which alpha grows, 0 or more, and 0.5 came",
        ),
    ],
)
def test_habits_that_make_no_sense_are_named(kind, change, said):
    with pytest.raises(UsageError, match=said):
        KINDS[kind][1].tiny(**change)


def test_encoders_that_do_not_meet_are_named(kind):
    config = KINDS[kind][1].tiny()
    with pytest.raises(
        ShapeError,
        match="tokens of the image encoder's width 24, and an encoder_width of 25 came; make them equal",
    ):
        KINDS[kind][1].tiny(text=replace(config.text, encoder_width=25))
