"""The published properties of CLIP's loss and of its temperature, asked of Figure 3's own lines with encoders that do nothing."""

import math

import numpy as np
import pytest
from tiny import tiny_clip
from tiny_arrays import OfArrays

from tinymm import Tensor
from tinymm.layers import Module
from tinymm.losses import blockwise, blockwise_contrastive_loss, cross_entropy_loss, l2_normalize
from tinymm.models.clip import INITIAL_SCALE
from tinymm.tasks import clip
from tinymm.tasks.clip import LARGEST_SCALE, figure_3
from tinymm.testing import PropertyFailed, check
from tinymm.training.gradient_cache import gradient_cached

DTYPES = ["float64", "float32"]


def same(x):
    return x


def loss(I, T, t):
    one = np.eye(I.shape[1], dtype=I.dtype)
    return figure_3(same, same, I, T, one, one, t)[0]


def projected(I, T, t):
    """The same with the rows in the projections: the pictures' features are one-hot."""
    one = np.eye(len(I), dtype=I.dtype)
    return figure_3(same, same, one, one, I, T, t)[0]


def blocked(I, T, t):
    """The same by blocks of two pictures and three texts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blockwise, "ROWS", 2)
        patch.setattr(blockwise, "COLUMNS", 3)
        return blockwise_contrastive_loss(l2_normalize(I), l2_normalize(T), np.exp(t)).data


class Itself(Module):
    """An encoder that leaves features as they are."""

    def forward(self, x):
        return x * 1.0


def cached(I, T, t):
    """Return the gradients of a step that embeds two rows at a time, and each of them twice."""
    one, inputs = (
        np.eye(I.shape[1], dtype=I.dtype),
        [Tensor(x, requires_grad=True) for x in (I, T, t)],
    )
    encoder = gradient_cached(same, 2)(Itself())
    figure_3(encoder, encoder, *inputs[:2], one, one, inputs[2])[0].backward()
    return [x.grad for x in inputs]


def half(logits, axis):
    return cross_entropy_loss(logits, np.arange(logits.shape[1 - axis]), axis=axis).item()


def shard(logits, rank):
    return cross_entropy_loss(logits, rank * len(logits) + np.arange(len(logits)), axis=1).item()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fn", [loss, projected])
def test_figure_3_keeps_every_property_of_a_contrastive_loss(fn, dtype):
    report = check.contrastive_loss(
        OfArrays(fn),
        scale="log",
        half=half,
        shard=shard,
        blocked=blocked,
        cached=cached,
        dtype=dtype,
        examples="quick",
    )
    assert set(report.not_run) == {"C17b", "C17c", "C20b", "C20c"}  # of logits and soft targets


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_figure_3_keeps_them_in_two_thousand_cases(dtype):
    check.contrastive_loss(
        OfArrays(loss), scale="log", half=half, shard=shard, dtype=dtype, examples="deep"
    )


@pytest.mark.parametrize(
    "name, broken, caught",
    [
        ("l2_normalize", lambda x, axis: x, "C08"),
        ("l2_normalize", lambda x, axis: x / np.linalg.norm(x, axis=0, keepdims=True), "C09"),
        (
            "cross_entropy_loss",
            lambda logits, labels, axis: cross_entropy_loss(logits, labels, axis=1),
            "C02",
        ),
        (
            "cross_entropy_loss",
            lambda logits, labels, axis: cross_entropy_loss(logits, np.roll(labels, 1), axis=axis),
            "C04",
        ),
    ],
)
def test_breaking_a_line_s_helper_breaks_its_property(name, broken, caught, monkeypatch):
    monkeypatch.setattr(clip, name, broken)
    with pytest.raises(PropertyFailed) as failure:
        check.contrastive_loss(OfArrays(loss), scale="log", half=half, shard=shard, examples=8)
    assert caught in failure.value.failed


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_temperature_keeps_every_property(dtype, monkeypatch):
    monkeypatch.setattr(clip, "l2_normalize", lambda x, axis: x)  # the cosines come ready made

    def of_cosines(cosines, t):
        one = np.eye(len(cosines), dtype=cosines.dtype)
        return figure_3(same, same, cosines, one, one, one, t)[0]

    def clamp(t):
        model = tiny_clip(dtype=dtype)
        model.t.data = t
        clip.after_step(model)
        return model.t.data

    def scores(I, T):
        model, one = tiny_clip(dtype=dtype), np.eye(I.shape[1], dtype=I.dtype)
        model.image_encoder = model.text_encoder = same
        model.W_i = model.W_t = Tensor(one)
        return model(I, T).data

    initial = math.log(INITIAL_SCALE) if dtype == "float64" else tiny_clip().t.data
    report = check.temperature(
        OfArrays(of_cosines),
        initial=initial,
        clamp=clamp,
        scores=scores,
        dtype=dtype,
        examples="quick",
    )
    assert set(report.not_run) == {"P01b", "P06"}  # of a divisor, which CLIP has not
    assert LARGEST_SCALE == 100
