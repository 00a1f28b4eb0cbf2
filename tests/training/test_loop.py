"""The loop: bitwise the same for the same seed, bitwise the same when it goes on from a checkpoint, and honest when numbers break."""

import numpy as np
import pytest
from tiny import PAIRS, TinySource, clip_for

from tinymm import Tensor
from tinymm.arrays.backend import to_host
from tinymm.arrays.errors import GraphError, UsageError
from tinymm.layers import Module, Parameter
from tinymm.tasks import StepResult, Task
from tinymm.training.checkpoint import load_checkpoint, save_checkpoint
from tinymm.training.loop import TrainConfig, batch_at, train
from tinymm.training.optimizers import AdamW

KEYS = {
    "step",
    "loss",
    "itc",
    "scale",
    "learning_rate",
    "gradient_norm",
    "duplicate_captions",
    "seconds",
}


def source_of(image):
    return TinySource(resolution=32 if image == "resnet" else 16)


def learn(
    image="vit",
    text="transformer",
    *,
    steps=6,
    start=0,
    seed=0,
    state=None,
    until=None,
    folder=None,
    **options,
):
    """Train, and return (model, records); `until` stops there and leaves a checkpoint in the folder, `state` begins from one."""
    source = options.pop("source", None) or source_of(image)
    model = clip_for(source, image, text)
    optimizer = AdamW(model, weight_decay=0.1)
    if state:
        load_checkpoint(state, model, optimizer)
    records = []
    for record in train(
        model,
        source,
        optimizer,
        TrainConfig(steps, **{"batch_size": 4, "warmup": 2, "seed": seed, **options}),
        start=start,
    ):
        records.append({key: value for key, value in record.items() if key != "seconds"})
        if record["step"] == until:
            save_checkpoint(folder, model, optimizer, {"step": until})
            break
    return model, records


def same(a, b):
    left, right = a.state_dict(), b.state_dict()
    return all(np.array_equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("image, text", PAIRS)
def test_one_seed_gives_one_model_bit_for_bit_and_another_another(image, text):
    (first, records), (second, again), (third, _) = (
        learn(image, text, steps=3, seed=seed) for seed in (0, 0, 1)
    )
    assert same(first, second) and records == again and not same(first, third)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stopped", [1, 4, 5])
def test_a_run_that_goes_on_is_bitwise_the_uninterrupted_one(stopped, workers, tmp_path):
    whole, records = learn(workers=workers)
    _, first = learn(workers=workers, until=stopped, folder=tmp_path)
    resumed, rest = learn(workers=workers, start=stopped, state=tmp_path)
    assert same(whole, resumed) and records == first + rest


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_in_chunks_is_the_run_to_rounding_and_bitwise_its_own_continuation(workers, tmp_path):
    _, records = learn()
    whole, chunked = learn(workers=workers, grad_cache=3)
    for record, other in zip(records, chunked, strict=True):
        assert record == pytest.approx(other, rel=1e-4)
    learn(workers=workers, grad_cache=3, until=4, folder=tmp_path)
    assert same(whole, learn(workers=workers, grad_cache=3, start=4, state=tmp_path)[0])


def test_batch_statistics_go_on_too(tmp_path):
    whole, _ = learn("resnet", steps=4)
    learn("resnet", steps=4, until=2, folder=tmp_path)
    resumed, _ = learn("resnet", steps=4, start=2, state=tmp_path)
    assert same(whole, resumed) and whole.image_encoder.stem[0].norm.batches_seen.data == 4


def test_a_record_says_what_happened():
    _, records = learn(steps=3)
    assert [record["step"] for record in records] == [1, 2, 3] and all(
        set(record) == KEYS - {"seconds"} for record in records
    )
    assert all(np.isfinite(value) for record in records for value in record.values())
    assert records[0]["loss"] == records[0]["itc"] and records[0]["duplicate_captions"] == 0
    assert [record["learning_rate"] for record in records] == pytest.approx([1e-3, 2e-3, 1e-3])
    assert records[0]["scale"] == pytest.approx(1 / 0.07, rel=0.01)


def test_the_loss_falls_and_overfitting_repeats_its_batches():
    _, records = learn(steps=40, overfit=4, learning_rate=1e-2)
    assert records[-1]["loss"] < 0.2 < records[0]["loss"]
    _, still = learn(steps=3, overfit=4, learning_rate=0.0)
    assert len({record["loss"] for record in still}) == 1
    _, moving = learn(steps=3, learning_rate=0.0)
    assert len({record["loss"] for record in moving}) == 3


def test_a_picture_that_comes_again_is_augmented_anew_unless_it_is_to_be_overfitted():
    source = source_of("vit")

    def noise(recipe, step):
        batch = batch_at(source, recipe, step)
        return (batch.images - source.pictures[batch.image_ids])[np.argsort(batch.image_ids)]

    once, again = (noise(TrainConfig(9, batch_size=12), step) for step in (0, 1))  # an epoch each
    assert not np.allclose(np.sort(once, axis=0), np.sort(again, axis=0), atol=1e-5)
    np.testing.assert_array_equal(
        *(noise(TrainConfig(9, batch_size=2, overfit=4), step) for step in (1, 3))
    )
    assert set(batch_at(source, TrainConfig(9, batch_size=4, overfit=4), 5).image_ids) == {
        0,
        1,
        2,
        3,
    }


def test_duplicate_captions_are_counted():
    _, records = learn(steps=1, source=TinySource(repeated_caption=True))
    assert records[0]["duplicate_captions"] == 3
    assert records[0]["loss"] >= np.log(4) - 1e-6, (
        "with one caption for all nothing can be told apart"
    )


def test_the_scale_is_clamped_after_the_step():
    source = source_of("vit")
    model = clip_for(source)
    model.t.data = np.array(np.log(100) + 1, np.float32)
    first, second = train(model, source, AdamW(model), TrainConfig(2, batch_size=4))
    assert first["scale"] == pytest.approx(100 * np.e, rel=1e-5), (
        "the scale that this loss was computed with"
    )
    assert second["scale"] == pytest.approx(100, rel=1e-5)


class Broken(Module):
    """A model whose loss or gradient is not a finite number from the second step on, and its task."""

    def __init__(self, kind):
        self.kind, self.weight, self.calls = kind, Parameter(np.ones(3)), 0

    def task(self):
        return Task(lambda model, *batch, **options: StepResult(model.broken_losses()))

    def broken_losses(self):
        self.calls += 1
        if self.calls > 1 and self.kind == "loss":
            return {"itc": np.sum(np.log(self.weight - 5.0))}
        root = (
            np.sqrt(np.sum((self.weight - self.weight.data) ** 2))
            if self.calls > 1 and self.kind == "gradient"
            else 0.0
        )
        return {"itc": np.sum(self.weight * 0.5), "other": np.sum(self.weight * 2.0) + root}


@pytest.mark.parametrize(
    "kind, message", [("loss", "log gave a value"), ("gradient", "the gradient of sqrt")]
)
@pytest.mark.filterwarnings(
    "ignore:invalid value:RuntimeWarning", "ignore:divide by zero:RuntimeWarning"
)
def test_numbers_that_are_not_finite_name_their_op_before_anything_has_changed(kind, message):
    model, source = Broken(kind), source_of("vit")
    steps = train(model, source, AdamW(model), TrainConfig(5, batch_size=4), task=model.task())
    first = next(steps)
    assert first["loss"] == first["itc"] + first["other"] == 7.5
    held = model.weight.data
    with pytest.raises(GraphError, match=f"step 2 is not finite: {message}"):
        next(steps)
    assert model.weight.data is held and np.isfinite(held).all()


def test_a_step_that_is_looked_at_again_is_taken_in_chunks_again():
    """What does not fit at once does not fit while looking for the mistake."""
    source, chunks = source_of("vit"), []
    model = clip_for(source)
    model.t.data = np.full_like(model.t.data, np.nan)
    forward = model.image_encoder.forward
    model.image_encoder.forward = lambda images: chunks.append(len(images)) or forward(images)
    with pytest.raises(
        GraphError, match="step 1 is not finite: exp gave a value that is not finite"
    ):
        next(train(model, source, AdamW(model), TrainConfig(5, batch_size=5, grad_cache=2)))
    assert chunks == [2, 2, 1] * 3  # forward, backward, and the look


def test_a_loss_that_is_finite_when_repeated_says_so():
    class Once(Broken):
        def broken_losses(self):
            self.calls += 1
            return {"itc": np.sum(self.weight) * (np.inf if self.calls == 1 else 1.0)}

    model = Once("once")
    with pytest.raises(GraphError, match="step 1 was not finite and is finite when computed again"):
        next(
            train(
                model,
                source_of("vit"),
                AdamW(model),
                TrainConfig(5, batch_size=4),
                task=model.task(),
            )
        )


@pytest.mark.parametrize("image, text", [("vit", "transformer"), ("resnet", "cbow")])
def test_it_runs_where_the_model_lives(image, text, backend):
    source = source_of(image)
    models = [clip_for(source, image, text).astype("float64") for _ in range(2)]
    models[1].to(backend)
    records = [
        list(train(model, source, AdamW(model), TrainConfig(2, batch_size=4))) for model in models
    ]
    for a, b in zip(*records, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-8) and b[
            "gradient_norm"
        ] == pytest.approx(a["gradient_norm"], abs=1e-7)
    np.testing.assert_allclose(to_host(models[1].W_t.data), models[0].W_t.data, atol=1e-8)


@pytest.mark.parametrize(
    "recipe, message",
    [
        (
            {"batch_size": 1},
            "at least 2 pairs and 1 came: with nothing to tell apart its loss is always 0; raise --batch-size",
        ),
        ({"steps": 0}, "at least 1 step and 0 came; raise --steps"),
        ({"overfit": 1}, "at least 2 pairs to tell apart and 1 came; raise --overfit"),
    ],
)
def test_recipes_that_cannot_work_are_refused(recipe, message):
    with pytest.raises(UsageError, match=message):
        TrainConfig(**{"steps": 3, **recipe})


def test_data_of_one_pair_is_refused_and_a_batch_larger_than_the_data_is_all_of_it():
    source = TinySource(pairs=1)
    model = clip_for(source)
    with pytest.raises(UsageError, match="the data has 1; add pictures with captions"):
        next(train(model, source, AdamW(model), TrainConfig(3)))
    source = TinySource(pairs=3)
    assert isinstance(
        Tensor(next(train(clip_for(source), source, AdamW(model), TrainConfig(3)))["loss"]), Tensor
    )
