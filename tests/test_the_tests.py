"""The checks of `op_checks` are tested themselves: every vjp of every op is broken in seven ways, and each time they must notice.

A mutant that changes no number of the gradient (a shifted constant, a transposed vector) is no
mutant and is passed over; how many remain is asserted, so that an op whose mutants are all passed
over does not go unnoticed either.
"""

import numpy as np
import op_checks
import pytest

from tinymm.arrays.errors import GraphError, ShapeError
from tinymm.autodiff import CATALOGUE

OPS = sorted(CATALOGUE)


def _drop_one(part):
    part = part.copy()
    part.flat[int(np.argmax(np.abs(part)))] = 0
    return part


MUTANTS = {
    "scale": lambda part: 1.01 * part,
    "zero": lambda part: 0 * part,
    "sign": lambda part: -part,
    "permute": lambda part: np.reshape(np.transpose(part), part.shape),
    "shift": lambda part: np.roll(part, 1),
    "drop": _drop_one,
}


def broken(op, place, how):
    """Return the op with one vjp changed; "swap" hands each of two neighbors the other's gradient."""

    def mutate(value, vjps, arrays):
        vjps = list(vjps)
        if how == "swap":
            vjps[place], vjps[place - 1] = vjps[place - 1], vjps[place]
        else:
            right = vjps[place]
            vjps[place] = lambda g: MUTANTS[how](np.asarray(right(g)))
        return value, *vjps

    return op_checks.rebuilt(op, mutate)


def delivered(op, example):
    """Return the gradients that the engine delivers under a cotangent of its own, or None if it refuses."""
    g = op_checks.cotangent(op(*example.arrays, **example.options).data, np.random.default_rng(7))
    try:
        return op_checks.gradients(op_checks._call(op, example.options), example.arrays, g)[1]
    except (ShapeError, ValueError):
        return None


def differ(right, wrong):
    """Say whether a mutant changes the gradient by more than rounding."""
    return wrong is None or any(
        np.abs(a - b).max(initial=0) > 1e-3 * np.abs(a).max(initial=0)
        for a, b in zip(right, wrong, strict=True)
    )


def places_with_gradient(op, example):
    _, *vjps = op.rule(*example.arrays, **example.options)
    return [place for place, vjp in enumerate(vjps) if vjp is not None]


@pytest.mark.parametrize("how", [*MUTANTS, "swap"])
@pytest.mark.parametrize("name", OPS)
def test_broken_vjp_is_noticed(name, how):
    op = CATALOGUE[name]
    for example in op_checks.fixed_examples(op):
        right = delivered(op, example)
        places = places_with_gradient(op, example)
        for place in places[1:] if how == "swap" else places:
            mutant = broken(op, place, how)
            if not differ(right, delivered(mutant, example)):
                continue
            with pytest.raises((GraphError, ShapeError, ValueError)):
                op_checks.check_gradient(mutant, example)


@pytest.mark.parametrize("name", OPS)
def test_every_vjp_has_mutants(name):
    """A changed scale, sign and number are real changes for every input that has a gradient, at one example or more."""
    op, real = CATALOGUE[name], {}
    for example in op_checks.fixed_examples(op):
        right = delivered(op, example)
        for place in places_with_gradient(op, example):
            for how in ("scale", "zero", "sign", "drop"):
                real[place, how] = real.get((place, how), False) or differ(
                    right, delivered(broken(op, place, how), example)
                )
    assert real and all(real.values()), [mutant for mutant, changed in real.items() if not changed]


# ---------------------------------------------------------------------- the other laws can fail too
def _into_g(part, g):
    g *= 2
    return part


PLANTED = {
    "linearity": lambda value, vjps, arrays: (
        value,
        *(lambda g, f=f: f(g) * np.abs(g).sum() for f in vjps),
    ),
    "shapes": lambda value, vjps, arrays: (value, *(lambda g, f=f: f(g)[None] for f in vjps)),
    "dtype": lambda value, vjps, arrays: (
        value,
        *(lambda g, f=f: f(g) * np.float64(1) for f in vjps),
    ),
    "device": lambda value, vjps, arrays: (value + np.zeros(value.shape), *vjps),
}


@pytest.mark.parametrize("law", PLANTED)
@pytest.mark.parametrize("name", ["tanh", "reduce_sum", "softmax", "transpose"])
def test_other_law_broken_is_noticed(name, law):
    op = CATALOGUE[name.removeprefix("reduce_")]
    example = op_checks.fixed_examples(op)[1]
    op_checks.CHECKS[law](op, example)
    with pytest.raises((AssertionError, ValueError, TypeError)):
        op_checks.CHECKS[law](op_checks.rebuilt(op, PLANTED[law]), example)


def test_writing_into_the_cotangent_is_noticed():
    op = CATALOGUE["tanh"]
    mutant = op_checks.rebuilt(
        op, lambda value, vjps, arrays: (value, lambda g: _into_g(vjps[0](g), g))
    )
    with pytest.raises(ValueError, match="read-only"):
        op_checks.check_linearity(mutant, op_checks.fixed_examples(op)[0])
    op_checks.check_linearity(op, op_checks.fixed_examples(op)[0])


def test_writing_into_an_input_is_noticed():
    op = CATALOGUE["tanh"]

    def mutate(value, vjps, arrays):
        arrays[0][...] = 0
        return value, *vjps

    with pytest.raises(ValueError, match="read-only"):
        op_checks.check_gradient(op_checks.rebuilt(op, mutate), op_checks.fixed_examples(op)[0])


def test_one_array_for_two_inputs_is_noticed():
    op = CATALOGUE["multiply"]

    def mutate(value, vjps, arrays):
        shared = []

        def vjp(g):
            shared.append(vjps[0](g) if not shared else shared[0])
            return shared[0]

        return value, vjp, vjp

    with pytest.raises(AssertionError, match="one array"):
        op_checks.check_shapes(op_checks.rebuilt(op, mutate), op_checks.fixed_examples(op)[0])


def test_cotangent_of_ones_would_miss_half_of_them():
    """Why the checks draw the cotangent: under ones, a softmax whose vjp gives zeros passes."""
    op = CATALOGUE["softmax"]
    example = op_checks.fixed_examples(op)[0]
    _, (right,) = op_checks.gradients(op, example.arrays, np.ones((3, 4)))
    np.testing.assert_allclose(right, 0, atol=1e-15)
    with pytest.raises(GraphError):
        op_checks.check_gradient(broken(op, 0, "zero"), example)
