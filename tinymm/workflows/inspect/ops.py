"""`check`: is an op's gradient right? The same derivation from its declaration as the tests make, for one op by name."""

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_backend
from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import generator
from tinymm.autodiff import CATALOGUE, Op, gradcheck

from .. import commands
from ..terminal import tell


def run(
    names: list[str], *, seed: int = 0, backend: str = "numpy", say: Callable[[str], None] = tell
) -> dict[str, float]:
    """Check the named ops, or all of them, at random points along random directions; print and return the largest error of each.

    UsageError for a name that is no op's.
    """
    for name in names or sorted(CATALOGUE):
        if name not in CATALOGUE:
            near = difflib.get_close_matches(name, CATALOGUE, n=1)
            hint = (
                f"did you mean {near[0]}?"
                if near
                else f"the ops are {', '.join(sorted(CATALOGUE))}"
            )
            raise UsageError(f"check takes the name of an op, and {name!r} is none; {hint}")
    errors = {}
    for name in names or sorted(CATALOGUE):
        op = CATALOGUE[name]
        found = [
            check_case(op, shapes, options, generator(seed, i), backend)
            for i, (shapes, options) in enumerate(example_cases(op))
        ]
        error = errors[name] = max(found)
        say(
            f"✓ {name:<18} {op.signature.text if op.signature else '':<32} relative error {error:.1e}"
        )
    return errors


def example_cases(op: Op) -> list[tuple[tuple, dict]]:
    """Return the declared cases, or shapes made from the signature: small different lengths for core axes, (4, 3) for loop axes."""
    if op.cases:
        return list(op.cases)
    lengths: dict[str, int] = {}
    shapes = []
    for axes in op.signature.inputs:  # type: ignore[union-attr]
        core = tuple(lengths.setdefault(axis, len(lengths) + 2) for axis in axes)
        shapes.append(core or (4, 3))
    return [(tuple(shapes), {})]


def check_case(
    op: Op, shapes: tuple, options: dict, rng: np.random.Generator, backend: str = "numpy"
) -> float:
    """Return the largest relative error of an op's gradient at random arrays of these shapes, away from its kinks; GraphError if above 1e-6."""
    arrays = [away_from(rng.uniform(*op.domain, size=shape), op.kinks) for shape in shapes]
    return gradcheck(
        lambda *inputs: op(*inputs, **options), *(to_backend(a, backend) for a in arrays), rng=rng
    )


def away_from(x: np.ndarray, kinks: tuple[float, ...], distance: float = 1e-2) -> np.ndarray:
    """Return x, its shape kept, with numbers near a kink moved off it, where a difference would straddle two slopes."""
    for kink in kinks:
        x = np.where(np.abs(x - kink) < distance, kink + 2 * distance, x)
    return x


# ---------------------------------------------------------------------- the command
PLACE = 80


def declare(parsers: Any) -> None:
    """Add check."""
    check = commands.add(
        parsers,
        "check",
        "check the gradient of ops by name (default: all)",
        "check softmax conv2d",
        _command,
    )
    check.add_argument("names", nargs="*", metavar="OP")
    commands.common(check)


def _command(out: str | None, **options: Any) -> None:
    from tinymm.training.records import write_json

    errors = run(**options)
    if out:
        write_json(out, errors)
