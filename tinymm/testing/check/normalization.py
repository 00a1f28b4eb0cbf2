# ruff: noqa: D401 (a property's docstring is a statement, not a command)
"""Properties of layer normalization.

Trap: layer norm does not ignore scale; it does only if eps scales with the square (L03). And it
erases a constant shift, which makes a constant shift useless for finding leaks behind it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contract import Contract
from ..strategies import one_of, sizes
from ..suite import Suite

Array = np.ndarray
Rng = np.random.Generator
letters: dict[str, Any] = {"rows": sizes(1, 4), "D": sizes(2, 6)}
EPS = "eps belongs inside the root beside the biased variance; elsewhere, loaded weights give features that are a little off"
LARGE = "the mean of the squares minus the square of the mean is rounding alone where the mean is large, as in the residual stream of a deep model"
#: A mean beside a deviation of 1 whose square is rounded to more than the variance, and whose own
#: rounding is far below it.
LEVEL = {"float64": 1e7, "float32": 1000.0}
VJP = "mean and variance move with the input; a gradient that holds them constant still trains, to a worse place"


@dataclass
class LayerNorm(Contract):
    """`fn(x (rows, D), gain, bias, eps)` along `axis`; gradients too with `vjp(cotangent, x, gain, bias, eps)`."""

    axis: int = field(default=-1, kw_only=True)
    vjp: Callable | None = field(default=None, kw_only=True)
    choices = {"axis": (-1, 1, 0)}

    def given(self, *arrays: Array) -> tuple[Array, ...]:
        """Bring the last axis to where the contract wants it; gain and bias become columns."""
        if self.axis != 0:
            return arrays
        return tuple(array.T if array.ndim == 2 else array[:, None] for array in arrays)

    def __call__(self, x: Array, gain: Array, bias: Array, eps: float) -> Array:
        """Return the normalized rows."""
        x, gain, bias = self.given(x, gain, bias)
        return self.given(self.call("fn", x, gain, bias, eps, shape=x.shape))[0]

    def plain(self, x: Array, eps: float) -> Array:
        """Return fn with gain 1 and bias 0."""
        return self(x, np.ones(x.shape[1]), np.zeros(x.shape[1]), eps)

    def pulled(self, g: Array, x: Array, gain: Array, bias: Array, eps: float) -> Array:
        """Return the gradient for x."""
        return self.given(self.gradient(0, *self.given(g, x, gain, bias), eps))[0]


layer_norm = Suite("layer_norm", LayerNorm)


def on_a_level(normalize: LayerNorm, rng: Rng, rows: int, D: int) -> tuple[Array, Array]:
    """Return rows whose mean is large beside their deviation, as the dtype holds them, and the same without the level, exactly."""
    level = LEVEL[normalize.dtype] * rng.choice((-1, 1), size=(rows, 1))
    x = (rng.normal(size=(rows, D)) + level).astype(normalize.dtype).astype(float)
    return x, x - level


@layer_norm.property("L01a", why=EPS, **letters)
def mean_zero(normalize: LayerNorm, rng: Rng, rows: int, D: int) -> None:
    """With gain 1 and bias 0 each row has mean 0."""
    x = rng.normal(size=(rows, D)) + rng.normal(size=(rows, 1))
    normalize.agree(normalize.plain(x, 0.1).mean(axis=1), 0, "mean of a normalized row")


@layer_norm.property("L01b", why=EPS, **letters)
def mean_square(normalize: LayerNorm, rng: Rng, rows: int, D: int) -> None:
    """With gain 1 and bias 0 each row has mean square v/(v + eps), v its biased variance."""
    x = rng.normal(size=(rows, D)) + rng.normal(size=(rows, 1))
    v = x.var(axis=1)
    normalize.agree(
        (normalize.plain(x, 0.1) ** 2).mean(axis=1),
        v / (v + 0.1),
        "mean square of a normalized row, eps = 0.1",
    )


@layer_norm.property("L02", why="that is the half of layer norm that RMS norm drops", **letters)
def shifted(normalize: LayerNorm, rng: Rng, rows: int, D: int) -> None:
    """A constant added to a row changes nothing."""
    x = rng.normal(size=(rows, D))
    x[:, 0] += 1  # a row of equal numbers would be rounding alone
    shift = rng.uniform(-10, 10, size=(rows, 1)) * x.std(axis=1, keepdims=True)
    normalize.agree(
        normalize.plain(x + shift, 0.1),
        normalize.plain(x, 0.1),
        "result after a constant was added to each row",
    )


@layer_norm.property("L02b", why=LARGE, **letters)
def large_mean(normalize: LayerNorm, rng: Rng, rows: int, D: int) -> None:
    """A mean that is large beside the deviation changes nothing."""
    x, c = on_a_level(normalize, rng, rows, D)
    normalize.agree(
        normalize.plain(x, 0.1),
        normalize.plain(c, 0.1),
        f"result of rows whose mean is {LEVEL[normalize.dtype]:g}",
        3e-3,
    )


@layer_norm.property("L03", why=EPS, c=one_of(2.0, 0.25, 5.0), **letters)
def scaled(normalize: LayerNorm, rng: Rng, rows: int, D: int, c: float) -> None:
    """Scaling the input by c and eps by c² changes nothing."""
    x = rng.normal(size=(rows, D))
    normalize.agree(
        normalize.plain(c * x, c * c * 0.1),
        normalize.plain(x, 0.1),
        f"result for {c:g}·x and {c * c:g}·eps",
    )


@layer_norm.property(
    "L04", why="a stored gain of 1 read as 1 + gain doubles every feature", **letters
)
def affine(normalize: LayerNorm, rng: Rng, rows: int, D: int) -> None:
    """Gain multiplies and bias adds afterwards: fn(x; g, b) = g·fn(x; 1, 0) + b."""
    x, (gain, bias) = rng.normal(size=(rows, D)), rng.normal(size=(2, D))
    normalize.agree(
        normalize(x, gain, bias, 0.1),
        gain * normalize.plain(x, 0.1) + bias,
        "result with gain and bias",
    )


@layer_norm.property(
    "L05", why="that is batch norm's way, wrong at batch size 1", rows=sizes(2, 4), D=sizes(2, 6)
)
def rows_apart(normalize: LayerNorm, rng: Rng, rows: int, D: int) -> None:
    """Rows do not know each other."""
    x, b = rng.normal(size=(rows, D)), rng.integers(rows)
    other = rng.normal(size=(rows, D))
    other[b] = x[b]
    normalize.agree(
        normalize.plain(other, 0.1)[b],
        normalize.plain(x, 0.1)[b],
        f"row {b} after the other rows changed",
    )


@layer_norm.property(
    "L06",
    why="a blank picture has constant rows, and 0/0 there is a NaN in every weight one step later",
    D=one_of(2, 4, 8),
    level=sizes(-3, 3),
    rows=sizes(1, 4),
)
def constant_row(normalize: LayerNorm, rng: Rng, rows: int, D: int, level: int) -> None:
    """A constant row gives the bias."""
    # A power of 2 and a whole number: the mean is exact, so that only eps stands between 0/0 and the bias.
    gain, bias = rng.normal(size=(2, D))
    found = normalize(np.full((rows, D), float(level)), gain, bias, 1e-5)
    normalize.agree(found, np.broadcast_to(bias, (rows, D)), f"result of a row of {level}s")


@layer_norm.property("L07a", why=VJP, needs="vjp", **letters)
def vjp_sum(normalize: LayerNorm, rng: Rng, rows: int, D: int) -> None:
    """The gradient for x sums to 0 in every row."""
    (x, g), (gain, bias) = rng.normal(size=(2, rows, D)), rng.normal(size=(2, D))
    normalize.agree(
        normalize.pulled(g, x, gain, bias, 0.1).sum(axis=1), 0, "sum of a row of the gradient"
    )


@layer_norm.property("L07b", why=VJP, needs="vjp", **letters)
def vjp_formula(normalize: LayerNorm, rng: Rng, rows: int, D: int) -> None:
    """The gradient for x is (h − mean h − y·mean(h·y))/σ with h = gain·g."""
    (x, g), (gain, bias) = rng.normal(size=(2, rows, D)), rng.normal(size=(2, D))
    sigma = np.sqrt(x.var(axis=1, keepdims=True) + 0.1)
    y, h = (x - x.mean(axis=1, keepdims=True)) / sigma, gain * g
    expected = (h - h.mean(axis=1, keepdims=True) - y * (h * y).mean(axis=1, keepdims=True)) / sigma
    normalize.agree(
        normalize.pulled(g, x, gain, bias, 0.1), expected, "gradient for a random cotangent"
    )


@layer_norm.property("L07c", why=LARGE, needs="vjp", **letters)
def vjp_large_mean(normalize: LayerNorm, rng: Rng, rows: int, D: int) -> None:
    """A mean that is large beside the deviation does not change the gradient for x."""
    x, c = on_a_level(normalize, rng, rows, D)
    g, (gain, bias) = rng.normal(size=(rows, D)), rng.normal(size=(2, D))
    what = f"gradient for rows whose mean is {LEVEL[normalize.dtype]:g}"
    normalize.agree(
        normalize.pulled(g, x, gain, bias, 0.1), normalize.pulled(g, c, gain, bias, 0.1), what, 1e-2
    )
