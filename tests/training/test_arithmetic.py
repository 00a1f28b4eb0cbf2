"""The paper's scale by arithmetic: its counts are those of runs that are small enough to be watched, and its laws hold at any size."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_batch, tiny_clip

from tinymm import Tensor
from tinymm.arrays.errors import UsageError
from tinymm.models.clip import CLIP, RELEASED, CLIPConfig
from tinymm.models.cost import pair_cost
from tinymm.tasks import losses
from tinymm.tasks.clip import figure_3
from tinymm.training.arithmetic import (
    FIGURE_3,
    LEAST,
    PAPER,
    Run,
    largest_batch,
    machines_needed,
    sustained_rate,
    training_days,
    training_operations,
)
from tinymm.training.optimizers import AdamW

B32 = CLIPConfig.paper("ViT-B/32")
configs = st.sampled_from(sorted(RELEASED)).map(CLIPConfig.paper)
shared = st.integers(1, 9).flatmap(
    lambda k: st.tuples(st.integers(1, 64), st.integers(1, 64)).map(
        lambda t: (2 * k * t[0] * t[1], t[1])
    )
)


def peak(work):
    """Return the most bytes that were allocated at once while something ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# ---------------------------------------------------------------------- measured
@pytest.mark.parametrize("image, pairs", [("vit", 64), ("resnet", 32)])
def test_a_step_takes_the_memory_that_is_computed(image, pairs):
    config = replace(tiny_clip(image).config, loss="softmax")
    images, ids = tiny_batch(tiny_clip(image), pairs)
    ids = np.concatenate([ids, np.zeros((pairs, config.text.context - ids.shape[1]), int)], axis=1)

    def step():
        model = CLIP(config, np.random.default_rng(0))
        optimizer = AdamW(model)
        losses(model, images, ids)["itc"].backward()
        return optimizer

    step()  # what is imported and cached at the first time is not the step's
    assert peak(step) == pytest.approx(Run(config, pairs).memory_bytes(), rel=0.05)


def test_figure_3_holds_seven_matrices_at_once():
    n, rng = 768, np.random.default_rng(0)
    I, T = (
        Tensor(rng.standard_normal((n, 2), dtype=np.float32), requires_grad=True) for _ in range(2)
    )
    W, t = Tensor(np.eye(2, dtype=np.float32)), Tensor(np.float32(1).reshape(()))
    used = peak(lambda: figure_3(lambda x: x, lambda x: x, I, T, W, W, t)[0].backward())
    assert used / (4 * n * n) == pytest.approx(FIGURE_3, rel=0.02)


def test_the_blocks_of_the_local_loss_are_counted():
    """Each machine's products, done in NumPy: its pictures with all texts, its texts with all pictures."""
    run = Run(replace(tiny_clip().config, embed_dim=3), batch=12, machines=4, local_loss=True)
    I, T = np.ones((12, 3), np.float32), np.ones((12, 3), np.float32)
    blocks = [I[:3] @ T.T, T[:3] @ I.T]
    assert run.matrix_bytes(1) == sum(block.nbytes for block in blocks)
    assert run.loss_operations() == sum(block.size * 3 for block in blocks)
    assert run.gathered_bytes() == I[3:].nbytes + T[3:].nbytes == run.scattered_bytes()


# ---------------------------------------------------------------------- laws
@given(configs, shared)
def test_machines_share_the_encoders_and_the_local_loss_but_not_the_global_one(config, sizes):
    batch, machines = sizes
    one, all_, cut = (
        Run(config, batch),
        Run(config, batch, machines),
        Run(config, batch, machines, local_loss=True),
    )
    assert (
        all_.kept_bytes() * machines == one.kept_bytes() and all_.state_bytes() == one.state_bytes()
    )
    assert (
        all_.matrix_bytes() == one.matrix_bytes()
        and all_.loss_operations() == one.loss_operations()
    )
    if machines > 1:
        assert (
            cut.matrix_bytes() * machines == 2 * one.matrix_bytes()
            and cut.loss_operations() * machines == 2 * one.loss_operations()
        )
    assert all_.gathered_bytes() == cut.gathered_bytes() and all_.scattered_bytes() == 0
    assert (cut.scattered_bytes() > 0) == (machines > 1) and (cut.reduced_bytes() > 0) == (
        machines > 1
    )
    assert 0 < cut.loss_share() and all_.loss_share() < 1


@given(st.floats(1e6, 1e12), st.sampled_from([1, LEAST, FIGURE_3]), st.sampled_from([1, 2, 64]))
def test_the_largest_batch_fits_and_one_more_does_not(memory, arrays, machines):
    n = largest_batch(memory, arrays, machines)

    def taken(n):
        return arrays * 4 * n * n * (2 / machines if machines > 1 else 1)

    assert taken(n) <= memory < taken(n + 1) * (1 + 1e-9)


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("batch", [4096, 32768])
def test_the_machines_that_are_needed_are_the_fewest(batch, local):
    needed = machines_needed(B32, batch, 16e9, local=local)
    fits = [
        N
        for N in range(1, batch + 1)
        if batch % N == 0 and Run(B32, batch, N, local).memory_bytes() <= 16e9
    ]
    assert needed == fits[0]


def test_no_number_of_machines_helps_a_global_matrix_that_is_too_large():
    assert (
        machines_needed(B32, 65536, 16e9, local=False) is None
        and machines_needed(B32, 65536, 16e9, local=True) == 512
    )


def test_days_and_rate_are_two_sides_of_the_same():
    for name, (machines, days) in PAPER.items():
        config = CLIPConfig.paper(name)
        rate = sustained_rate(config, machines, days)
        assert machines * rate * days * 86400 == pytest.approx(training_operations(config))
        run = Run(config, 256 * machines, machines, local_loss=True)
        beside = 1 - run.loss_share()  # the loss comes on top of the encoders
        assert training_days(run, rate) == pytest.approx(days / beside)
        assert 15e12 < rate < 125e12, "below what a V100's data sheet says, above its float32"


def test_operations_of_a_training_are_pairs_times_epochs():
    assert training_operations(B32, 1000, 2) == 2 * 2000 * pair_cost(B32).step


@pytest.mark.parametrize("batch, machines", [(10, 4), (1, 1), (8, 0)])
def test_a_batch_is_shared_evenly(batch, machines):
    with pytest.raises(
        UsageError, match=f"evenly, and {batch} over {machines} came; choose a divisor of the batch"
    ):
        Run(B32, batch, machines)
