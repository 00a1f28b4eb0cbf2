"""A batch over several workers: the same loss and gradients as in one, for every batch size, or a refusal with its reason."""

import threading
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import randomized, tiny_batch, tiny_clip

from tinymm import Tensor, no_grad, tasks
from tinymm.arrays.errors import DataError, UsageError
from tinymm.autodiff.tensor import MODE
from tinymm.layers import Linear, Module
from tinymm.training.parallel import default_workers, threads
from tinymm.training.ranks import simulate

MODELS = {
    text: randomized(tiny_clip("vit", text, dtype="float64")) for text in ("transformer", "cbow")
}


def loss_and_gradients(model, images, ids, workers, ranks=None):
    for parameter in model.parameters():
        parameter.grad = None
    with threads(workers, ranks) as split:
        loss = tasks.losses(model, images, ids, split=split)["itc"]
        loss.backward()
    return [loss.data, *(parameter.grad for parameter in model.parameters())]


@settings(max_examples=8)
@given(
    st.sampled_from(list(MODELS)), st.integers(2, 9), st.sampled_from([2, 3]), st.integers(0, 99)
)
def test_shards_give_the_loss_and_gradients_of_the_whole(text, pairs, workers, seed):
    model = MODELS[text]
    images, ids = tiny_batch(model, pairs, seed)
    whole, parts = (loss_and_gradients(model, images, ids, n) for n in (1, workers))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-12 * max(1, np.abs(a).max()))


def on_ranks(model, images, ids, workers, size):
    """Return what each of `size` ranks with a model of its own finds."""
    return simulate(
        size, lambda ranks: loss_and_gradients(deepcopy(model), images, ids, workers, ranks)
    )


@settings(max_examples=12)
@given(
    st.sampled_from(list(MODELS)),
    st.integers(2, 9),
    st.integers(1, 3),
    st.integers(2, 4),
    st.integers(0, 99),
)
def test_ranks_with_threads_give_the_loss_and_gradients_of_the_whole_and_the_same_bits_to_all(
    text, pairs, workers, size, seed
):
    """Shares of unequal numbers of pairs, and ranks without any, are among them."""
    model = MODELS[text]
    images, ids = tiny_batch(model, pairs, seed)
    whole, found = (
        loss_and_gradients(model, images, ids, 1),
        on_ranks(model, images, ids, workers, size),
    )
    for rank in found:
        for a, b, first in zip(whole, rank, found[0], strict=True):
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-12 * max(1, np.abs(a).max()))
            np.testing.assert_array_equal(b, first)


def test_ranks_repeat_themselves_bitwise():
    images, ids = tiny_batch(MODELS["cbow"], 7)
    for a, b in zip(
        *(on_ranks(MODELS["cbow"], images, ids, 2, 3)[0] for _ in range(2)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("workers", [2, 3])
def test_a_run_is_bitwise_its_repetition(workers):
    images, ids = tiny_batch(MODELS["transformer"], 7)
    for a, b in zip(
        *(loss_and_gradients(MODELS["transformer"], images, ids, workers) for _ in range(2)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_more_workers_than_pairs_leave_some_idle():
    model = MODELS["transformer"]
    images, ids = tiny_batch(model, 2)
    loss = loss_and_gradients(model, images, ids, 4)[0]
    np.testing.assert_allclose(loss, loss_and_gradients(model, images, ids, 1)[0], atol=1e-12)


def test_the_encoder_runs_in_other_threads_and_inherits_no_grad():
    model, seen = MODELS["transformer"], []

    def spy(ids):
        seen.append((threading.get_ident(), len(ids), MODE.get()))
        return model.text_encoder(ids)

    spy.training, spy.modules, spy.trainable = (
        True,
        model.text_encoder.modules,
        model.text_encoder.trainable,
    )
    _, ids = tiny_batch(model, 5)
    with threads(2) as split, no_grad():
        features = split(spy)(ids)
    assert not features.requires_grad and features.shape == (5, 32)
    assert sorted(n for _, n, _ in seen) == [2, 3] and {mode for *_, mode in seen} == {0}
    assert threading.get_ident() not in {thread for thread, *_ in seen}


def test_the_matrix_library_is_held_to_one_thread_meanwhile_and_released_after():
    from threadpoolctl import threadpool_info

    def blas():
        return [
            library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"
        ]

    before = blas()
    with threads(2):
        assert set(blas()) == {1}
    assert blas() == before


def test_batch_statistics_are_refused_with_the_reason_and_allowed_in_evaluation():
    model = tiny_clip("resnet", dtype="float64")
    images, ids = tiny_batch(model)
    assert default_workers(model) == 1 <= default_workers(MODELS["cbow"]) <= 4
    with (
        threads(2) as split,
        pytest.raises(
            UsageError,
            match="normalizes over the whole batch, and 2 workers would .* use --workers 1",
        ),
    ):
        tasks.losses(model, images, ids, split=split)
    with pytest.raises(
        UsageError, match="normalizes over the whole batch, and 3 workers would .* in one process"
    ):
        on_ranks(model, images, ids, 1, 3)
    model.eval()
    whole = tasks.losses(model, images, ids)["itc"].item()
    with threads(2) as split:
        assert tasks.losses(model, images, ids, split=split)["itc"].item() == pytest.approx(
            whole, abs=1e-12
        )


def test_an_error_in_a_thread_is_the_error_of_the_call():
    model = MODELS["transformer"]
    images, ids = tiny_batch(model)
    with threads(2) as split, pytest.raises(DataError, match="99 came; use the tokenizer"):
        tasks.losses(model, images, np.where(ids == 49, 99, ids), split=split)


# ---------------------------------------------------------------------- what another encoder has made
class Fused(Module):
    """Looks at what another encoder has made of each pair, x (B, E), beside plain numbers of the pair, rows (B,)."""

    def __init__(self, rng):
        self.linear, self.idle = Linear(5, 3, rng=rng), Linear(2, 2, rng=rng)

    def forward(self, rows, x, again=None):
        mixed = self.linear(x * rows[:, None])
        return mixed if again is None else np.tanh(mixed) * self.linear(again)


def made(pairs, seed=0):
    rng = np.random.default_rng(seed)
    first, one, other = Linear(4, 5, rng=rng), Fused(rng), Fused(rng)
    x, rows = (
        Tensor(rng.standard_normal((pairs, 4)), requires_grad=True),
        rng.standard_normal(pairs),
    )
    for module in (first, one, other):
        module.astype("float64")
    return x, rows, first, one, other


def shared(pairs, workers, seed=0, frozen=False, ranks=None):
    """Return the value and all gradients where two split functions look at what a third has made of the batch."""
    x, rows, first, one, other = made(pairs, seed)
    if frozen:
        other.freeze()
    with threads(workers, ranks) as split:
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
    return {"value": value.data} | {name: p.grad for name, p in named.items()}


@given(
    pairs=st.integers(1, 7),
    workers=st.sampled_from([2, 3, 4]),
    seed=st.integers(0, 99),
    frozen=st.booleans(),
)
def test_the_gradient_of_what_comes_with_a_graph_is_that_of_the_whole(pairs, workers, seed, frozen):
    whole, parts = (shared(pairs, n, seed, frozen) for n in (1, workers))
    for name, array in whole.items():
        if "idle" in name or (frozen and name.startswith("2")):
            assert array is None and parts[name] is None, (
                name
            )  # no loss reaches it, so there is no gradient either, not even of zeros
        else:
            np.testing.assert_allclose(parts[name], array, rtol=1e-12, atol=1e-12, err_msg=name)


@settings(max_examples=20)
@given(
    pairs=st.integers(1, 7),
    workers=st.integers(1, 3),
    size=st.integers(2, 4),
    seed=st.integers(0, 99),
    frozen=st.booleans(),
)
def test_every_rank_has_the_whole_gradient_of_what_comes_with_a_graph(
    pairs, workers, size, seed, frozen
):
    whole = shared(pairs, 1, seed, frozen)
    for parts in simulate(size, lambda ranks: shared(pairs, workers, seed, frozen, ranks)):
        for name, array in whole.items():
            if array is None:
                assert parts[name] is None, name
            else:
                np.testing.assert_allclose(parts[name], array, rtol=1e-12, atol=1e-12, err_msg=name)


def test_what_was_made_is_cut_like_the_rest_and_each_row_keeps_its_place():
    x, rows, first, one, _ = made(5)
    with threads(2) as split:
        hidden = split(first)(x)
        parts = split(one)(rows, hidden)
        parts[3].sum().backward()
    np.testing.assert_allclose(parts.data, one(rows, first(x)).data, atol=1e-12)
    assert np.flatnonzero(np.abs(x.grad).sum(axis=1)).tolist() == [3]


def test_what_an_encoder_does_not_look_at_gets_no_slope_from_it():
    x, rows, first, one, _ = made(5)
    one.forward = lambda rows, x: one.linear(np.ones((len(rows), 5)) * rows[:, None])
    with threads(2) as split:
        hidden = split(first)(x)
        (split(one)(rows, hidden).sum() + hidden.sum()).backward()
    np.testing.assert_allclose(x.grad, np.ones((5, 5)) @ first.weight.data.T, atol=1e-12)


def test_a_tensor_without_a_graph_is_a_batch_like_any():
    x, rows, first, one, _ = made(5)
    constant = Tensor(first(x).data)
    with threads(3) as split:
        found = split(one)(rows, constant)
        found.sum().backward()
    np.testing.assert_allclose(found.data, one(rows, constant).data, atol=1e-12)
    assert constant.grad is None and x.grad is None and np.abs(one.linear.weight.grad).sum() > 0


def test_without_gradients_nothing_is_remembered():
    x, rows, first, one, _ = made(5)
    with threads(2) as split, no_grad():
        found = split(one)(rows, split(first)(x))
    assert not found.requires_grad and found.made_by is None
    with threads(2) as split:
        hidden = split(first)(x)
        with no_grad():
            assert not split(one)(
                rows, hidden
            ).requires_grad  # as the twin looks at what the model has made
    np.testing.assert_allclose(found.data, one(rows, first(x)).data, atol=1e-12)


def test_none_is_handed_on_as_none_and_not_taken_for_a_tensor():
    x, rows, first, one, _ = made(5)
    for ranks in (1, 2):

        def work(here):
            with threads(2, here) as split:
                return split(one)(rows, first(x), None).data  # noqa: B023 (called at once)

        for found in simulate(ranks, work):
            np.testing.assert_allclose(found, one(rows, first(x)).data, atol=1e-12)


def test_no_workers_are_refused():
    with pytest.raises(UsageError, match="at least one worker is needed and 0 came"), threads(0):
        pass
