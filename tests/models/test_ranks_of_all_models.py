"""ALBEF, BLIP and BLIP-2 on ranks with threads: the step of one process, with its draws, its momentum encoder and its queue."""

from copy import deepcopy

import numpy as np
import pytest
from tiny import randomized
from tiny_towers import batch, model_of, state, total

from tinymm import tasks
from tinymm.losses import matching
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.training.optimizers import AdamW
from tinymm.training.parallel import threads
from tinymm.training.ranks import simulate


def blip2(kind, config):
    return lambda: randomized(kind(config.tiny(), np.random.default_rng(0))).astype("float64")


MODELS = {
    "albef": lambda: model_of("albef"), "blip": lambda: model_of("blip"), "blip2-stage1": blip2(BLIP2Stage1, BLIP2Config),
    "blip2-stage2": blip2(BLIP2Stage2, BLIP2Stage2Config),
}  # fmt: skip


def two_steps(model, workers, ranks=None):
    """Return all numbers of a model and its gradients after two steps, whose draws are named by the step."""
    optimizer, found = AdamW(model, weight_decay=0.1), {}
    with threads(workers, ranks) as split:
        for n in range(2):
            task, image_ids = tasks.spec_of(model).task, np.array([n, n, n + 1, n + 2])
            result = task.step(
                model,
                *batch(seed=n),
                rng=np.random.default_rng(n),
                image_ids=image_ids,
                split=split,
            )
            losses = result.losses
            total(losses).backward()
            found |= {f"step {n} {name}": loss.data for name, loss in losses.items()}
            found |= {
                f"step {n} gradient of {name}": p.grad
                for name, p in model.trainable().items()
                if p.grad is not None
            }
            optimizer.step(1e-3, 1.0)
            task.after_step(model, result.memory)
    return found | state(model)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("size", "workers"), [(2, 1), (3, 2), (5, 1)], ids=["2x1", "3x2", "5 ranks of 4 pairs"]
)
def test_ranks_take_the_same_steps(name, size, workers):
    model = MODELS[name]()
    whole = two_steps(deepcopy(model), 1)
    assert sum("gradient" in key for key in whole) > 20
    found = simulate(size, lambda ranks: two_steps(deepcopy(model), workers, ranks))
    for rank in found:
        assert rank.keys() == whole.keys()
        for key, array in whole.items():
            if "gradient" in key or key.startswith("step"):
                np.testing.assert_allclose(
                    rank[key], array, rtol=0, atol=1e-12 * max(1, np.abs(array).max()), err_msg=key
                )
            else:  # Adam divides by the size of a gradient, rounding errors of tiny ones too
                np.testing.assert_allclose(rank[key], array, rtol=1e-6, atol=1e-8, err_msg=key)
            assert rank[key].tobytes() == found[0][key].tobytes(), key


@pytest.mark.parametrize("name", ["albef", "blip2-stage1"])
def test_the_number_of_workers_changes_no_draw(name, monkeypatch):
    """Hard negatives and hidden words are drawn from the step's generator, by all ranks alike, whatever the number of shards."""
    drawn, draw = [], matching._draw

    def spy(logits, rng):
        found = draw(logits, rng)
        drawn.append(found.tolist())
        return found

    monkeypatch.setattr(matching, "_draw", spy)
    model = MODELS[name]()

    def draws(size, workers):
        drawn.clear()
        simulate(size, lambda ranks: two_steps(deepcopy(model), workers, ranks))
        return sorted(drawn)

    alone = draws(1, 1)
    assert len(alone) == 4  # two directions of two steps
    for workers in (2, 3):
        assert draws(1, workers) == alone
        assert draws(workers, 1) == sorted(alone * workers)
