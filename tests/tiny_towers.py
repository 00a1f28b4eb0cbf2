"""A tiny ALBEF and a tiny BLIP, a batch for both, and a step of training whose draws are given."""

import numpy as np
from tiny import randomized

from tinymm import tasks
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.blip import BLIP, BLIPConfig

KINDS = {"albef": (ALBEF, ALBEFConfig), "blip": (BLIP, BLIPConfig)}
THIRD = {"albef": "mlm", "blip": "lm"}
NEGATIVES = (np.array([1, 2, 3, 0]), np.array([3, 0, 1, 2]))
HIDDEN = np.zeros((4, 6), bool)
HIDDEN[[0, 1, 2, 3], [1, 2, 3, 1]] = True


def model_of(kind, dtype="float64", **changes):
    """Return a tiny model without a parameter at its initialization, and an EMA that is somewhere else."""
    model, config = KINDS[kind]
    return randomized(
        model(config.tiny(**{"momentum": 0.8} | changes), np.random.default_rng(0))
    ).astype(dtype)


def batch(pairs=4, seed=0, dtype="float64"):
    """Return pictures, and texts of different lengths, [CLS] 1, [SEP] 2, padded with zeros."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((pairs, 16, 16, 3)).astype(dtype)
    ids = rng.integers(3, 48, (pairs, 6))
    ids[:, 0] = 1
    is_real = np.arange(6) < np.array([6, 4, 5, 3] * pairs)[:pairs, None]
    ids[np.arange(pairs), is_real.sum(axis=1) - 1] = 2
    ids[~is_real] = 0
    return images, ids, is_real


def masked(kind, ids):
    """Return the draw of hidden words that is the same for all, where the model hides any."""
    return (
        {"masked": (np.where(HIDDEN, 49, ids), np.where(HIDDEN, ids, -100))}
        if kind == "albef"
        else {}
    )


def step(model, kind, images, ids, is_real, **given):
    """Return the losses of a step whose draws are made already."""
    return tasks.losses(
        model, images, ids, is_real, **{"negatives": NEGATIVES, **masked(kind, ids)} | given
    )


def advance(model, kind, images, ids, is_real, **given):
    """Return the losses of such a step, and move EMA and queue after it, as training does."""
    given = {"negatives": NEGATIVES, **masked(kind, ids)} | given
    return trained_on(model, images, ids, is_real, **given)


def trained_on(model, images, ids, is_real, **given):
    """Return the losses of a step whose draws are the generator's or given, and move EMA and queue after it."""
    task = tasks.spec_of(model).task
    result = task.step(model, images, ids, is_real, **given)
    task.after_step(model, result.memory)
    return result.losses


def total(losses):
    """Return the sum, as it is trained on."""
    return sum(losses.values())


def numbers(losses):
    """Return the losses as numbers."""
    return {name: loss.item() for name, loss in losses.items()}


def state(model):
    """Return copies of all numbers of a model."""
    return {name: np.array(array) for name, array in model.state_dict().items()}


def unchanged(model, before):
    """Say whether all numbers of a model are, bit by bit, what they were."""
    return [
        name
        for name, array in model.state_dict().items()
        if array.tobytes() != before[name].tobytes()
    ] == []
