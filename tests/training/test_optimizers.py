"""AdamW: the kernel is its definition and PyTorch's; what decays, what is clipped, what is left alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_batch, tiny_clip

from tinymm import tasks
from tinymm.arrays.backend import to_backend, to_host
from tinymm.arrays.errors import CheckpointError, UsageError
from tinymm.layers import Buffer, Module, Parameter
from tinymm.training import optimizers
from tinymm.training.optimizers import AdamW, adamw_definition, adamw_kernel

rng = np.random.default_rng
seeds = st.integers(0, 9999)
shapes = st.lists(st.integers(1, 5), max_size=3).map(tuple)


class Weights(Module):
    """A matrix, a vector, a number and a buffer."""

    def __init__(self, seed=0, dtype="float64"):
        draws = rng(seed)
        self.matrix = Parameter(draws.standard_normal((3, 4)).astype(dtype))
        self.vector = Parameter(draws.standard_normal(4).astype(dtype))
        self.number = Parameter(np.array(draws.standard_normal()).astype(dtype))
        self.count = Buffer(np.ones(2))

    def give(self, gradient):
        for parameter in self.parameters():
            parameter.grad = np.asarray(gradient(parameter.data)).astype(parameter.dtype)


@given(
    shapes,
    st.integers(1, 4),
    st.sampled_from([1, 7, 64 * 1024]),
    st.sampled_from(["float64", "float32"]),
    st.booleans(),
    seeds,
)
def test_the_kernel_takes_the_steps_of_the_definition(shape, steps, block, dtype, transposed, seed):
    draws = rng(seed)
    p, m, v = (
        draws.standard_normal(shape).astype(dtype),
        np.zeros(shape, dtype),
        np.zeros(shape, dtype),
    )
    ours, theirs = (p, m.copy(), v.copy()), (p, m, v)
    before, optimizers.BLOCK = (
        optimizers.BLOCK,
        block,
    )  # by hand, because Hypothesis runs many examples under one fixture
    try:
        for step in range(1, steps + 1):
            g = np.asarray(
                draws.standard_normal(shape[::-1] if transposed else shape).astype(dtype)
            )
            g = g.T if transposed else g
            rest = (step, 0.1, 0.3, 0.9, 0.98, 1e-6)
            held = ours[0].copy()
            new = adamw_kernel(ours[0], g, ours[1], ours[2], *rest)
            np.testing.assert_array_equal(ours[0], held)  # the old numbers stay true
            ours, theirs = new, adamw_definition(theirs[0], g, theirs[1], theirs[2], *rest)
            for a, b in zip(ours, theirs, strict=True):
                assert a.shape == shape and a.dtype == np.dtype(dtype)
                np.testing.assert_allclose(
                    a,
                    b,
                    rtol=1e-5 if dtype == "float32" else 1e-12,
                    atol=1e-6 if dtype == "float32" else 1e-13,
                )
    finally:
        optimizers.BLOCK = before


@given(shapes, st.integers(1, 3), st.sampled_from(["float64", "float32"]), seeds)
def test_on_a_gpu_one_launch_takes_the_same_steps(shape, steps, dtype, seed):
    draws = rng(seed)
    theirs = tuple(
        x.astype(dtype) for x in (draws.standard_normal(shape), np.zeros(shape), np.zeros(shape))
    )
    ours = tuple(to_backend(np.asarray(x), "strict") for x in theirs)
    for step in range(1, steps + 1):
        g, rest = (
            np.asarray(draws.standard_normal(shape).astype(dtype)),
            (step, 0.1, 0.3, 0.9, 0.98, 1e-6),
        )
        ours, theirs = (
            adamw_kernel(ours[0], to_backend(g, "strict"), *ours[1:], *rest),
            adamw_definition(theirs[0], g, *theirs[1:], *rest),
        )
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == np.dtype(dtype)
            np.testing.assert_allclose(
                to_host(a),
                b,
                rtol=1e-4 if dtype == "float32" else 1e-12,
                atol=1e-6 if dtype == "float32" else 1e-13,
            )


@given(st.floats(1e-3, 1e3), seeds)
def test_the_first_step_has_the_length_of_the_rate_whatever_the_gradient_s_size(scale, seed):
    model = Weights(seed)
    start = {name: p.data for name, p in model.named_parameters()}
    draws = rng(seed + 1)
    model.give(lambda p: scale * (1 + draws.random(p.shape)))
    AdamW(model, weight_decay=0.0, eps=1e-12).step(0.01)
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(start[name] - parameter.data, 0.01, rtol=1e-6)


def test_matrices_decay_and_vectors_and_numbers_do_not():
    model = Weights()
    start = {name: p.data for name, p in model.named_parameters()}
    model.give(np.zeros_like)
    AdamW(model, weight_decay=0.5).step(0.1)
    np.testing.assert_allclose(model.matrix.data, start["matrix"] * 0.95, rtol=1e-12)
    for name in ("vector", "number"):
        np.testing.assert_array_equal(dict(model.named_parameters())[name].data, start[name])


def test_in_clip_gains_biases_and_the_scale_do_not_decay():
    model = tiny_clip("resnet", "transformer")
    decaying = {name for name, p in model.named_parameters() if p.ndim > 1}
    assert not any(name.endswith("bias") or "norm" in name or name == "t" for name in decaying)
    assert {"W_t", "W_i", "text_encoder.positions", "image_encoder.stem.0.conv.weight"} <= decaying
    start = {name: p.data for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = np.zeros_like(parameter.data)
    AdamW(model, weight_decay=0.5).step(0.1)
    moved = {
        name for name, p in model.named_parameters() if not np.array_equal(p.data, start[name])
    }
    assert moved == decaying


@given(st.floats(0.01, 10), seeds)
def test_clipping_scales_all_gradients_as_one_vector_and_returns_their_length_before(
    max_grad_norm, seed
):
    clipped, scaled = Weights(seed), Weights(seed)
    draws = rng(seed + 1)
    gradients = [draws.standard_normal(p.shape) for p in clipped.parameters()]
    length = np.sqrt(sum((g**2).sum() for g in gradients))
    for model, factor in ((clipped, 1), (scaled, min(1.0, max_grad_norm / (length + 1e-6)))):
        for parameter, g in zip(model.parameters(), gradients, strict=True):
            parameter.grad = np.asarray(g * factor)
    # A large eps, because Adam hides the size of its gradients otherwise.
    assert AdamW(clipped, eps=1.0).step(0.1, max_grad_norm) == pytest.approx(length, rel=1e-12)
    AdamW(scaled, eps=1.0).step(0.1)
    for a, b in zip(clipped.parameters(), scaled.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


def test_parameters_without_a_gradient_stay_and_the_others_lose_theirs():
    model = Weights()
    model.give(np.ones_like)
    model.vector.grad = None
    before = model.vector.data
    AdamW(model).step(0.1)
    assert model.vector.data is before and all(p.grad is None for p in model.parameters())


def test_a_state_that_is_saved_and_loaded_goes_on_bitwise(backend):
    models = [Weights(0, "float32").to(backend) for _ in range(2)]
    first, second = (AdamW(model) for model in models)

    def step(model, optimizer, seed):
        draws = rng(seed)
        for parameter in model.parameters():
            parameter.grad = to_backend(
                np.asarray(draws.standard_normal(parameter.shape), np.float32), backend
            )
        optimizer.step(0.1, 1.0)

    for seed in range(3):
        step(models[0], first, seed)
    models[1].load_state_dict(models[0].state_dict())
    second.load_state_dict({name: array.copy() for name, array in first.state_dict().items()})
    for model, optimizer in zip(models, (first, second), strict=True):
        step(model, optimizer, 9)
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        np.testing.assert_array_equal(to_host(a.data), to_host(b.data))
    assert second.steps == 4


def test_a_state_of_another_model_is_refused():
    optimizer = AdamW(Weights())
    state = optimizer.state_dict()
    with pytest.raises(CheckpointError, match=r"\(mean.vector differ\)"):
        optimizer.load_state_dict(
            {name: array for name, array in state.items() if name != "mean.vector"}
        )
    with pytest.raises(CheckpointError, match="shapes differ"):
        optimizer.load_state_dict(state | {"mean.vector": np.ones(5)})


@pytest.mark.parametrize(
    "options", [{"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"weight_decay": -0.1}]
)
def test_settings_outside_their_range_are_refused(options):
    with pytest.raises(UsageError, match=r"betas in \[0, 1\) and a decay of at least 0"):
        AdamW(Weights(), **options)


@pytest.mark.parity
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-6)])
def test_it_is_pytorch_s_adamw_with_its_two_groups(dtype, tolerance):
    torch = pytest.importorskip("torch")
    model = tiny_clip(dtype=dtype)
    images, ids = tiny_batch(model)
    theirs = {
        name: torch.nn.Parameter(torch.tensor(p.data)) for name, p in model.named_parameters()
    }
    groups = [
        {"params": [p for p in theirs.values() if (p.ndim > 1) == many], "weight_decay": 0.2 * many}
        for many in (True, False)
    ]
    ours, other = (
        AdamW(model, weight_decay=0.2),
        torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.98), eps=1e-6),
    )
    for step in range(3):
        tasks.losses(model, images, ids)["itc"].backward()
        for name, parameter in model.named_parameters():
            # Gradients of rounding alone have no direction in which the two could agree.
            parameter.grad = np.where(np.abs(parameter.grad) < 1e-6, 0, parameter.grad).astype(
                dtype
            )
            theirs[name].grad = torch.tensor(parameter.grad)
        length = torch.nn.utils.clip_grad_norm_(list(theirs.values()), 0.5)
        assert ours.step(0.01, max_grad_norm=0.5) == pytest.approx(float(length), rel=1e-5)
        other.step()
        for name, parameter in model.named_parameters():
            right = theirs[name].detach().numpy()
            np.testing.assert_allclose(
                parameter.data,
                right,
                rtol=0,
                atol=tolerance * (step + 1) * max(1, np.abs(right).max()),
                err_msg=name,
            )
            parameter.data = right.copy()
