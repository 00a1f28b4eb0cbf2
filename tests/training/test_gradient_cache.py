"""A batch in chunks that are run twice: the loss and gradients of the whole batch at once, for every model, with threads and without."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_parallel import made
from tiny import randomized, tiny_batch, tiny_clip
from tiny_towers import batch, model_of, step, total

from tinymm import Tensor, no_grad, tasks
from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import GraphError, UsageError
from tinymm.layers import Linear, Module, record_attention
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.tasks import clip
from tinymm.training.gradient_cache import gradient_cached
from tinymm.training.parallel import threads

MODELS = {
    text: randomized(tiny_clip("vit", text, dtype="float64")) for text in ("transformer", "cbow")
}


def plain(encoder):
    return encoder


def gradients(model, losses):
    """Return the loss and each parameter's gradient, None where there is none."""
    for parameter in model.parameters():
        parameter.grad = None
    loss = losses()
    loss.backward()
    return {"loss": loss.data} | {
        name: parameter.grad for name, parameter in model.named_parameters()
    }


def assert_same(found, expected, tolerance=1e-12):
    for name, right in expected.items():
        if right is None:
            assert found[name] is None, name
        else:
            np.testing.assert_allclose(
                found[name],
                right,
                rtol=0,
                atol=tolerance * max(1, np.abs(right).max()),
                err_msg=name,
            )


# ---------------------------------------------------------------------- every model
@settings(max_examples=20)
@given(
    st.sampled_from(list(MODELS)),
    st.integers(2, 9),
    st.integers(1, 10),
    st.sampled_from([1, 2, 3]),
    st.booleans(),
    st.integers(0, 99),
)
def test_clip_in_chunks_has_the_gradient_of_the_whole(text, pairs, size, workers, many, seed):
    model = MODELS[text]
    images, ids = tiny_batch(model, pairs, seed)
    whole = gradients(model, lambda: tasks.losses(model, images, ids)["itc"])
    with threads(workers) as split, pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip, "BLOCKWISE_FROM", 2 if many else 1024)
        assert_same(
            gradients(
                model,
                lambda: tasks.losses(model, images, ids, split=gradient_cached(split, size))["itc"],
            ),
            whole,
        )


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["albef", "blip"])
def test_towers_in_chunks_have_the_gradient_of_the_whole(kind, workers):
    """Hard pictures, hard texts and hidden words are drawn once, outside of what runs twice; the twin and the queue take one step."""
    found = []
    for size in (None, 3):
        model = model_of(kind)
        given = {"rng": np.random.default_rng(7), "negatives": None} | (
            {"masked": None} if kind == "albef" else {}
        )
        with threads(workers) as split:
            chunked = split if size is None else gradient_cached(split, size)
            found.append(
                gradients(
                    model,
                    lambda: total(step(model, kind, *batch(4), **given, split=chunked)),  # noqa: B023
                )
            )  # noqa: B023
        found[-1] |= model.state_dict()
    assert_same(found[1], found[0])


def test_both_stages_of_blip2_in_chunks_have_the_gradient_of_the_whole():
    rng = np.random.default_rng(0)
    first, second = (
        randomized(BLIP2Stage1(BLIP2Config.tiny(), rng)),
        randomized(BLIP2Stage2(BLIP2Stage2Config.tiny(), rng)),
    )
    images, ids = rng.standard_normal((5, 16, 16, 3)), rng.integers(3, 20, (5, 4))
    for model in (first.astype("float64"), second.astype("float64")):
        whole, parts = (
            gradients(
                model,
                lambda: sum(
                    tasks.losses(
                        model,  # noqa: B023
                        images,
                        ids,
                        rng=np.random.default_rng(3),
                        split=split,  # noqa: B023
                    ).values()
                ),
            )  # noqa: B023
            for split in (plain, gradient_cached(plain, 2))
        )
        assert_same(parts, whole)


# ---------------------------------------------------------------------- what another encoder has made
@given(
    pairs=st.integers(1, 7),
    size=st.integers(1, 8),
    workers=st.sampled_from([1, 2]),
    frozen=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_gradient_of_what_comes_with_a_graph_is_that_of_the_whole(
    pairs, size, workers, frozen, seed
):
    found = []
    for chunked in (False, True):
        x, rows, first, one, other = made(pairs, seed)
        if frozen:
            other.freeze()
        with threads(workers) as split:
            split = gradient_cached(split, size) if chunked else split
            hidden = split(first)(x)
            value = (
                np.tanh(split(one)(rows, hidden)) * split(other)(rows + 1, hidden, hidden)
            ).sum() + (hidden * hidden).sum()
            value.backward()
        named = {"x": x} | {
            f"{i} {name}": p
            for i, module in enumerate((first, one, other))
            for name, p in module.named_parameters()
        }
        found.append({"value": value.data} | {name: p.grad for name, p in named.items()})
    assert_same(found[1], found[0])
    assert found[1]["1 idle.weight"] is None  # no loss reaches it


def test_an_input_that_is_left_out_is_left_out_of_every_chunk():
    x, rows, first, one, _ = made(5)
    one.forward = lambda rows, x, again=None: one.linear(
        x * rows[:, None] if again is None else again
    )
    with no_grad():
        hidden = first(x)
    found = gradient_cached(plain, 2)(one)(rows, hidden, None)
    np.testing.assert_allclose(found.data, one(rows, hidden, None).data, atol=1e-12)
    found.sum().backward()
    assert one.linear.weight.grad is not None


def test_what_an_encoder_does_not_look_at_gets_zeros():
    x, rows, first, one, _ = made(5)
    one.freeze()
    one.forward = lambda rows, x: Tensor(np.ones((len(rows), 3)))
    hidden = first(x)
    (gradient_cached(plain, 2)(one)(rows, hidden).sum() + 0.0 * hidden.sum()).backward()
    assert (x.grad == 0).all()


def test_a_parameter_that_only_some_chunks_reach_has_their_gradient():
    """Of what is below zero another map is made; the batch's last chunk has none of it, the middle one nothing else."""
    x, _, first, one, _ = made(5)
    first.forward = lambda x: (
        x @ first.weight + first.bias
        if (x > 0).any()
        else one.linear(np.concatenate([x, x[:, :1]], axis=1)) @ np.ones((3, 5))
    )
    first.one = one
    x = np.abs(x.data) * np.array([1, 1, -1, -1, 1])[:, None]
    found = gradients(first, lambda: gradient_cached(plain, 2)(first)(x).sum())
    parts = [
        gradients(first, lambda: first(x[s]).sum())  # noqa: B023
        for s in (slice(0, 2), slice(2, 4), slice(4, 5))  # noqa: B023
    ]  # noqa: B023
    for name in found:
        there = [part[name] for part in parts if part[name] is not None]
        assert (found[name] is None) == (not there) and (
            not there or np.allclose(found[name], sum(there))
        ), name
    assert (
        parts[2]["one.linear.weight"] is None
        and parts[1]["weight"] is None
        and found["weight"] is not None
    )


# ---------------------------------------------------------------------- what is remembered, and what is run
class Spy(Module):
    """A linear map that counts its runs and keeps weak references to what it has made."""

    def __init__(self):
        self.linear = Linear(3, 2, rng=np.random.default_rng(0))
        self.seen, self.made, self.alive = [], [], []

    def forward(self, x):
        gc.collect()
        self.alive.append(sum(reference() is not None for reference in self.made))
        self.seen.append(len(x))
        y = np.tanh(self.linear(x))
        self.made.append(weakref.ref(y))
        return y * 1.0


def test_each_chunk_runs_twice_and_the_one_before_is_forgotten():
    spy = Spy()
    y = gradient_cached(plain, 2)(spy)(np.ones((5, 3), np.float32))
    gc.collect()
    assert spy.seen == [2, 2, 1] and all(reference() is None for reference in spy.made)
    y.sum().backward()
    assert spy.seen == [2, 2, 1] * 2 and spy.alive == [0] * 6


def test_without_gradients_nothing_is_remembered_and_nothing_runs_twice():
    spy = Spy()
    with no_grad():
        y = gradient_cached(plain, 2)(spy)(np.ones((5, 3), np.float32))
    assert not y.requires_grad and y.made_by is None and spy.seen == [2, 2, 1]


def test_memory_is_that_of_a_chunk():
    """Four times the batch in chunks of one size takes little more; at once it takes four times as much."""
    model, peaks = tiny_clip(), {}
    for split in (plain, gradient_cached(plain, 8)):
        for pairs in (16, 64):
            images, ids = tiny_batch(model, pairs)
            tracemalloc.start()
            gradients(model, lambda: tasks.losses(model, images, ids, split=split)["itc"])  # noqa: B023
            peaks[split is plain, pairs] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    assert peaks[False, 64] < 1.4 * peaks[False, 16] and peaks[True, 64] > 3 * peaks[True, 16]


def test_it_runs_where_the_arrays_live(backend):
    model = tiny_clip(dtype="float64")
    images, ids = tiny_batch(model, 5)
    whole = gradients(model, lambda: tasks.losses(model, images, ids)["itc"])
    model.to(backend)
    there = to_backend(images, backend)
    found = gradients(
        model, lambda: tasks.losses(model, there, ids, split=gradient_cached(plain, 2))["itc"]
    )
    assert_same({name: to_host(x) for name, x in found.items()}, whole)


def test_maps_of_attention_are_recorded_chunk_by_chunk():
    model = MODELS["cbow"]
    images, ids = tiny_batch(model, 3)
    with record_attention() as maps, no_grad():
        gradient_cached(plain, 2)(model.image_encoder)(images)
    assert [len(m) for m in maps] == [2, 2, 1, 1]


# ---------------------------------------------------------------------- what is refused
class Dropping(Module):
    """An encoder that draws at random by itself."""

    def __init__(self):
        self.linear, self.rng = Linear(3, 2, rng=np.random.default_rng(0)), np.random.default_rng(0)

    def forward(self, x):
        return self.linear(x * (self.rng.random(x.shape) < 0.5))


def test_an_encoder_that_draws_at_random_is_refused():
    y = gradient_cached(plain, 2)(Dropping())(np.ones((4, 3)))
    with pytest.raises(
        GraphError,
        match=r"runs twice.* must give the same, but its features differ by \d.* draw at random before the encoder",
    ):
        y.sum().backward()


def test_a_draw_that_is_handed_over_is_the_same_in_both_runs():
    dropping = Dropping()
    dropping.forward = lambda x, kept: dropping.linear(x * kept)
    kept = np.random.default_rng(1).random((4, 3)) < 0.5
    whole, parts = (
        gradients(dropping, lambda: split(dropping)(np.ones((4, 3)), kept).sum())  # noqa: B023
        for split in (plain, gradient_cached(plain, 3))
    )  # noqa: B023
    assert_same(parts, whole, 1e-6)


def test_batch_statistics_are_refused_with_the_reason_and_allowed_in_evaluation():
    model = tiny_clip("resnet", dtype="float64")
    images, ids = tiny_batch(model)
    with pytest.raises(
        UsageError,
        match="normalizes over the whole batch, and chunks of 2 would each see a part; leave --grad-cache out",
    ):
        tasks.losses(model, images, ids, split=gradient_cached(plain, 2))
    model.eval()
    assert_same(
        *(
            gradients(model, lambda: tasks.losses(model, images, ids, split=split)["itc"])  # noqa: B023
            for split in (gradient_cached(plain, 3), plain)
        )
    )  # noqa: B023


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(
        UsageError,
        match="at least 1 pair and 0 came; leave --grad-cache out to take the batch whole",
    ):
        gradient_cached(plain, 0)
