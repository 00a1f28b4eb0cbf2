"""The laws that every op keeps, derived from its declaration: `test_ops.py` holds the ops to them, `test_the_tests.py` breaks the ops.

Each check takes an op and an example (arrays, options) and raises if the law does not hold. Arrays
and cotangents are handed over read-only, so that a rule which writes into what it was given fails
in all of them.
"""

import inspect
from typing import NamedTuple

import numpy as np
import strict_array
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from tinymm import Tensor
from tinymm.arrays.backend import DEVICES, to_backend, to_host
from tinymm.autodiff import Op, gradcheck

seeds = st.integers(0, 2**32 - 1)


class Example(NamedTuple):
    """What an op is called with, and a generator for the rest (directions, cotangents)."""

    arrays: list
    options: dict
    rng: np.random.Generator

    def __repr__(self):
        return f"Example({', '.join(f'{a.dtype}{a.shape}' for a in self.arrays)}, {self.options})"


# ---------------------------------------------------------------------- examples from a declaration
@st.composite
def examples(draw, op: Op, dtype=np.float64) -> Example:
    """Draw arrays and options that fit the op: its cases, or shapes from its signature with axes of length 1 and broadcasting."""
    if op.cases:
        shapes, options = draw(st.sampled_from(op.cases))
    else:
        shapes, options = draw(_shapes(op)), {}
    return fill(op, shapes, options, draw(seeds), dtype)


def _shapes(op: Op):
    text = op.signature.text.replace("...,", "").replace("...", "")
    drawn = mutually_broadcastable_shapes(signature=text, max_dims=2, max_side=3)
    core = [len(axes) for axes in op.signature.inputs]

    def bare(shapes):  # a weight of a linear map takes no axes in front
        return tuple(
            s if leads else s[len(s) - n :]
            for s, n, leads in zip(shapes.input_shapes, core, op.signature.leads, strict=True)
        )

    return drawn.map(bare)


def fixed_examples(op: Op, count: int = 4, dtype=np.float64) -> list[Example]:
    """Return a few examples without Hypothesis: every case, or shapes of some size from the signature."""
    if op.cases:
        return [
            fill(op, shapes, options, seed, dtype)
            for seed, (shapes, options) in enumerate(op.cases)
        ]
    found = []
    for seed in range(count):
        sizes = dict(
            zip(
                sorted({a for axes in op.signature.inputs for a in axes}),
                (3, 4, 2, 5),
                strict=False,
            )
        )
        shapes = []
        for place, (axes, leads) in enumerate(
            zip(op.signature.inputs, op.signature.leads, strict=True)
        ):
            front = (
                [(3, 4), (4,), (), (2, 1)][(seed + (place if seed > 1 else 0)) % 4] if leads else ()
            )
            shapes.append((*front, *(sizes[a] for a in axes)))
        try:
            np.broadcast_shapes(
                *(
                    s[: len(s) - len(axes)]
                    for s, axes in zip(shapes, op.signature.inputs, strict=True)
                )
            )
        except ValueError:
            shapes = [tuple(sizes[a] for a in axes) for axes in op.signature.inputs]
        found.append(fill(op, shapes, {}, seed, dtype))
    return found


def fill(op: Op, shapes, options: dict, seed: int, dtype) -> Example:
    """Fill shapes with numbers of the op's domain, away from its kinks; an input without a vjp gets booleans.

    All numbers of an example differ clearly, since equal ones are kinks of maxima and pooling: each
    comes from a cell of its own.
    """
    rng = np.random.default_rng(seed)
    sizes = [int(np.prod(shape)) for shape in shapes]
    low, high = op.domain
    cells = rng.permutation(sum(sizes)) + rng.uniform(0.25, 0.75, sum(sizes))
    x = low + (high - low) * cells / max(1, sum(sizes))
    for kink in op.kinks:
        x = np.where(np.abs(x - kink) < 0.05, kink + np.where(x < kink, -0.1, 0.1), x)
    arrays = [
        part.reshape(shape).astype(dtype)
        for part, shape in zip(np.split(x, np.cumsum(sizes)[:-1]), shapes, strict=True)
    ]
    _, *vjps = op.rule(*arrays, **options)
    arrays = [
        np.asarray(rng.random(a.shape) < 0.5) if vjp is None else a
        for a, vjp in zip(arrays, vjps, strict=True)
    ]
    for array in arrays:
        array.flags.writeable = False
    return Example(arrays, options, rng)


def cotangent(value, rng):
    """Return a random read-only cotangent of the value's shape and dtype."""
    g = np.asarray(rng.standard_normal(value.shape)).astype(value.dtype)
    g.flags.writeable = False
    return g


def gradients(call, arrays, g):
    """Run a call on Tensors of the arrays and return (value, one gradient an input that has one) as the engine delivers them."""
    inputs = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    y = call(*inputs)
    y.backward(g)
    return y.data, [x.grad for x in inputs if x.requires_grad]


def pull(op: Op, example: Example, g):
    """Run the rule itself on bare arrays and return (input, what its vjp gave back) for each input that has one."""
    _, *vjps = op.rule(*example.arrays, **example.options)
    return [(x, vjp(g)) for x, vjp in zip(example.arrays, vjps, strict=True) if vjp is not None]


# ---------------------------------------------------------------------- the laws
def check_gradient(op: Op, example: Example) -> None:
    """The recorded slope is the measured one: random point, random direction, random cotangent."""
    gradcheck(
        lambda *xs: op(*xs, **example.options), *example.arrays, rng=example.rng, directions=1
    )


def check_linearity(op: Op, example: Example) -> None:
    """A vjp is linear in the cotangent."""
    value = op.rule(*example.arrays, **example.options)[0]
    a, b = cotangent(np.asarray(value), example.rng), cotangent(np.asarray(value), example.rng)
    both = 2 * a - 3 * b
    for (_, whole), (_, left), (_, right) in zip(
        pull(op, example, both), pull(op, example, a), pull(op, example, b), strict=True
    ):
        np.testing.assert_allclose(whole, 2 * left - 3 * right, rtol=1e-9, atol=1e-9)


def check_shapes(op: Op, example: Example) -> None:
    """A vjp gives back its input's shape, stretched only where the input was; two inputs never get the same memory."""
    value = np.asarray(op.rule(*example.arrays, **example.options)[0])
    g = cotangent(value, example.rng)
    parts = pull(op, example, g)
    for place, (x, part) in enumerate(parts):
        if op.signature is None:
            assert part.shape == x.shape, (place, part.shape, x.shape)
        else:
            assert np.broadcast_shapes(x.shape, part.shape) == part.shape, (
                place,
                part.shape,
                x.shape,
            )
            if (
                len(
                    {
                        s.shape[: s.ndim - len(axes)]
                        for s, axes in zip(example.arrays, op.signature.inputs, strict=True)
                    }
                )
                == 1
            ):
                assert part.shape == x.shape, (place, part.shape, x.shape)
        for _, other in parts[:place]:
            assert part is g or other is g or not np.shares_memory(part, other), (
                "two inputs got one array"
            )
    _, grads = gradients(lambda *xs: op(*xs, **example.options), example.arrays, g)
    for (x, _), grad in zip(parts, grads, strict=True):
        assert type(grad) is np.ndarray and grad.shape == x.shape and grad.flags.writeable


def check_dtype(op: Op, example: Example) -> None:
    """float32 in, float32 out, in value and gradient; so too with Python numbers, which have no dtype of their own."""
    arrays = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in example.arrays]
    calls = [arrays]
    if op.signature is not None and not op.has_core_axes:
        floats = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
        if len(floats) > 1:
            calls += [
                [float(np.mean(a)) if i == k else a for i, a in enumerate(arrays)] for k in floats
            ]
    for inputs in calls:
        value, *vjps = op.rule(*inputs, **example.options)
        assert value.dtype == example.options.get("dtype", np.float32), (
            f"the value is {value.dtype}"
        )
        g = cotangent(np.asarray(value), example.rng)
        for x, vjp in zip(inputs, vjps, strict=True):
            if vjp is not None and isinstance(x, np.ndarray) and "dtype" not in example.options:
                assert vjp(g).dtype == np.float32, f"a gradient is {vjp(g).dtype}"
    _, grads = gradients(
        _call(op, example.options),
        arrays,
        cotangent(op(*arrays, **example.options).data, example.rng),
    )
    assert all(grad.dtype == np.float32 for grad in grads)


def check_device(op: Op, example: Example, device: str = strict_array.NAME) -> None:
    """On the strict device, or on a real one, the op runs without a host array in between and gives the same numbers."""
    call, moved = (
        _call(op, example.options),
        _call(op, {name: _mask_to(value, device) for name, value in example.options.items()}),
    )
    value = call(*example.arrays).data
    g = cotangent(value, example.rng)
    _, grads = gradients(call, example.arrays, g)
    there, there_grads = gradients(
        moved, [to_backend(a, device) for a in example.arrays], to_backend(g, device)
    )
    for here, x in zip([value, *grads], [there, *there_grads], strict=True):
        assert type(x) is DEVICES[device].array_type, f"{type(x)} came from {device}"
        assert x.dtype == here.dtype
        np.testing.assert_allclose(to_host(x), here, rtol=1e-9, atol=1e-12)


def _call(op, options):
    return lambda *xs: op(*xs, **options)


def _mask_to(value, device):
    """Masks live beside the numbers; indices may stay on the host."""
    return (
        to_backend(value, device)
        if isinstance(value, np.ndarray) and value.dtype.kind == "b"
        else value
    )


#: The laws by name. The NumPy spelling is apart, since not every op has one.
CHECKS = {
    "gradient": check_gradient,
    "linearity": check_linearity,
    "shapes": check_shapes,
    "dtype": check_dtype,
    "device": check_device,
}


def spelled(function, example: Example, value):
    """Return how NumPy's own function takes this example, as a function of arrays, or None if none of the usual ways gives the value."""
    options = example.options
    ways = (
        lambda *xs: function(*xs, **options),
        lambda *xs: function(*xs, *options.values()),
        lambda *xs: function(xs, **options),
        lambda *xs: function(*options.values(), *xs),
    )
    for way in ways:
        try:
            found = way(*example.arrays)
        except (TypeError, ValueError, AttributeError):
            continue
        if np.shape(found) == value.shape and np.allclose(found, value, rtol=1e-12, atol=1e-12):
            return way
    return None


def rebuilt(op: Op, mutate) -> Op:
    """Return the op with a rule whose result passes through `mutate(value, vjps, arrays)`, outside the catalogue."""

    def rule(*arrays, **options):
        value, *vjps = op.rule(*arrays, **options)
        return mutate(value, vjps, arrays)

    rule.__name__, rule.__signature__ = op.name, inspect.signature(op.rule)
    return Op(
        rule, op.signature.text if op.signature else None, domain=op.domain, kinks=op.kinks, cases=op.cases, catalogued=False
    )  # fmt: skip
