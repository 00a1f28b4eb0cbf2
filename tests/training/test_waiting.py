"""Inside a training step the host never waits for the device: it asks for no number, and so can be ahead with what comes next.

On the strict stand-in every question is seen: a number made of an array, a copy to the host, an
index by truth. Copies to the device do not wait.
"""

import numpy as np
import pytest
import strict_array
from tiny import PAIRS, TinySource, clip_for, randomized, tiny_batch, tiny_clip
from tiny_towers import batch, model_of

from tinymm import tasks
from tinymm.arrays.backend import to_backend, to_host
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.training import loop
from tinymm.training.loop import TrainConfig, train
from tinymm.training.optimizers import AdamW

KINDS = [
    *(f"clip {image} {text}" for image, text in PAIRS),
    "albef",
    "blip",
    "albef alone",
    "blip alone",
    "stage 1",
    "stage 2",
]
IMAGE_IDS = np.array([3, 3, 5, 9])


def built(kind):
    """Return (model, images, ids, is_real, image_ids), all in float64 on the host."""
    if kind.startswith("clip"):
        model = tiny_clip(*kind.split()[1:], dtype="float64")
        images, ids = tiny_batch(model)
        return model, images, ids, ids != 0, IMAGE_IDS
    images, ids, is_real = batch()
    if kind.startswith("stage"):
        model, config = {
            "stage 1": (BLIP2Stage1, BLIP2Config),
            "stage 2": (BLIP2Stage2, BLIP2Stage2Config),
        }[kind]
        return (
            randomized(model(config.tiny(), np.random.default_rng(0))).astype("float64"),
            images,
            ids,
            is_real,
            IMAGE_IDS,
        )
    name, *alone = kind.split()
    return (
        model_of(name, **({"momentum": None} if alone else {"alpha_warmup": 8})),
        images,
        ids,
        is_real,
        IMAGE_IDS,
    )


def one_step(model, optimizer, images, ids, is_real, image_ids):
    """Take a step with everything that belongs to it and return its losses."""
    task = tasks.spec_of(model).task
    result = task.step(
        model, images, ids, is_real, rng=np.random.default_rng(7), image_ids=image_ids
    )
    sum(result.losses.values()).backward()
    optimizer.step(1e-2, max_grad_norm=1.0)
    task.after_step(model, result.memory)
    return result.losses


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_waits(kind):
    model, images, *rest = built(kind)
    model.to(strict_array.NAME).train()
    optimizer, images = AdamW(model), to_backend(images, strict_array.NAME)
    with strict_array.waits() as asked:
        for _ in range(2):
            one_step(model, optimizer, images, *rest)
    assert asked == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_the_same_wherever_arrays_live(kind, backend):
    """One step of each model: the losses, what they draw, and every number of the model after it."""
    here, images, *rest = built(kind)
    there = built(kind)[0].to(backend).train()
    right = one_step(here.train(), AdamW(here), images, *rest)
    found = one_step(there, AdamW(there), to_backend(images, backend), *rest)
    for name, loss in right.items():
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-9), name
    numbers = there.state_dict()
    for name, array in here.state_dict().items():
        np.testing.assert_allclose(numbers[name], array, rtol=1e-6, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("kind", ["albef", "blip", "stage 1"])
def test_hard_negatives_are_drawn_where_the_similarities_are_and_are_the_same(
    kind, backend, monkeypatch
):
    from tinymm.tasks import albef, blip, blip2_stage1

    drawn = []
    for module in (albef, blip, blip2_stage1):
        draw = module.hard_negatives
        monkeypatch.setattr(
            module,
            "hard_negatives",
            lambda *given, draw=draw: drawn.append(draw(*given)) or drawn[-1],
        )
    for where in ("numpy", backend):
        model, images, *rest = built(kind)
        one_step(model.to(where), AdamW(model), to_backend(images, where), *rest)
    for mine, theirs in zip(*drawn, strict=True):
        assert type(theirs) is type(to_backend(images, backend))
        np.testing.assert_array_equal(to_host(theirs), mine)


def test_the_loop_asks_once_a_step_between_backward_and_optimizer(monkeypatch):
    source, said = TinySource(), []
    model = clip_for(source).to(strict_array.NAME)
    optimizer = AdamW(model)
    for name in ("gradient_norm", "step"):
        method = getattr(optimizer, name)
        monkeypatch.setattr(
            optimizer,
            name,
            lambda *given, name=name, method=method: said.append(name) or method(*given),
        )
    fetch = loop._fetched
    monkeypatch.setattr(loop, "_fetched", lambda numbers: said.append("fetch") or fetch(numbers))
    with strict_array.waits() as asked:
        records = list(train(model, source, optimizer, TrainConfig(3, batch_size=4)))
    assert (
        asked == [("get", "loop", "_fetched")] * 3
        and said == ["gradient_norm", "fetch", "step"] * 3
    )
    assert all(np.isfinite(record["loss"]) and record["scale"] > 1 for record in records)


# ---------------------------------------------------------------------- the watch itself
ASKS = {
    "bool": lambda x: bool(x[0] > 0),
    "int": lambda x: int(x[0]),
    "float": lambda x: float(x[0]),
    "item": lambda x: x[0].item(),
    "tolist": lambda x: x.tolist(),
    "get": to_host,
    "mask": lambda x: x[x > 0],
    "nonzero": lambda x: np.nonzero(x),
    "where": lambda x: np.where(x > 0),
    "unique": lambda x: np.unique(x),
}


@pytest.mark.parametrize("what", ASKS)
def test_each_question_is_seen(what):
    x = strict_array.from_host(np.arange(3.0))
    with strict_array.waits() as asked:
        ASKS[what](x)
    assert [kind for kind, *_ in asked] == [what]


@pytest.mark.parametrize(
    "mask", [np.array([True, False, True]), strict_array.from_host(np.array([True, False, True]))]
)
def test_rows_set_by_truth_are_counted_first_and_one_number_is_not(mask):
    x = strict_array.from_host(np.arange(3.0))
    with strict_array.waits() as asked:
        x[mask] = 1.0
        assert asked == []
        x[mask] = x[:2]
    assert [kind for kind, *_ in asked] == ["mask"]


def test_a_question_in_a_model_is_found_where_it_is_asked():
    model, images, *rest = built("albef")
    model.to(strict_array.NAME)
    model.queue.next.data = to_backend(
        model.queue.next.data, strict_array.NAME
    )  # which stays on the host by itself
    with strict_array.waits() as asked:
        one_step(model, AdamW(model), to_backend(images, strict_array.NAME), *rest)
    assert asked and set(asked) == {("int", "momentum", "pointer")}
