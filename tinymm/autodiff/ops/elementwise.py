"""Elementwise ops: arithmetic, exponentials, activations, choices."""

import math

import numpy as np

from tinymm.arrays.backend import erf
from tinymm.autodiff.graph import Tensor, op


@op("(),()->()", numpy=np.add)
def add(a, b):
    """Return a + b; each input's gradient is the result's."""
    return a + b, lambda g: g, lambda g: g


@op("(),()->()", numpy=np.subtract)
def subtract(a, b):
    """Return a - b."""
    return a - b, lambda g: g, lambda g: -g


@op("(),()->()", numpy=np.multiply)
def multiply(a, b):
    """Return a · b; each input's gradient is scaled by the other."""
    return a * b, lambda g: g * b, lambda g: g * a


@op("(),()->()", numpy=np.true_divide, domain=(0.5, 3.0))
def divide(a, b):
    """Return a / b."""
    y = a / b
    return y, lambda g: g / b, lambda g: -g * y / b


@op("()->()", numpy=np.negative)
def negative(x):
    """Return -x."""
    return -x, lambda g: -g


@op("()->()", numpy=np.positive)
def positive(x):
    """Return +x."""
    return +x, lambda g: g


@op("(),()->()", numpy=np.power, domain=(0.5, 2.0))
def power(x, exponent):
    """Return x to a power; whole exponents up to 4 are products, since `x**3` takes 80 times as long as `x*x*x` in float32."""
    y = _power(x, exponent)

    def to_x(g):
        if type(exponent) in (int, float):
            return g * (exponent * _power(x, exponent - 1)) if exponent else np.zeros_like(g)
        constant = exponent == 0  # there 0 · x⁻¹ would be NaN at 0
        return np.where(
            constant, 0, g * (exponent * _power(x, np.where(constant, 1, exponent - 1)))
        )

    def to_exponent(g):
        flat = (x == 0) & (exponent >= 0)  # there 0 · ln 0 would be NaN
        return (g * y * np.log(np.where(flat, 1, x))).astype(y.dtype, copy=False)

    return y, to_x, to_exponent


def _power(x, exponent):
    if type(exponent) is int and exponent == 2:
        return np.square(x)
    if (
        type(exponent) in (int, float)
        and exponent in (2, 3, 4)
        and getattr(x, "dtype", None) is not None
        and x.dtype.kind == "f"
    ):
        square = x * x
        return square if exponent == 2 else square * (x if exponent == 3 else square)
    return np.power(x, exponent)


@op("()->()", numpy=np.square)
def square(x):
    """Return x²."""
    return np.square(x), lambda g: g * (2 * x)


@op("()->()", numpy=np.sqrt, domain=(0.2, 4.0))
def sqrt(x):
    """Return √x; the slope is 1 / 2√x."""
    y = np.sqrt(x)
    return y, lambda g: g / (2 * y)


@op("()->()", numpy=np.exp)
def exp(x):
    """Return eˣ, which is its own slope."""
    y = np.exp(x)
    return y, lambda g: g * y


@op("()->()", numpy=np.expm1)
def expm1(x):
    """Return eˣ - 1, exact near zero."""
    y = np.expm1(x)
    return y, lambda g: g * (y + 1)


@op("()->()", numpy=np.log, domain=(0.2, 4.0))
def log(x):
    """Return the natural logarithm."""
    return np.log(x), lambda g: g / x


@op("()->()", numpy=np.log1p, domain=(-0.5, 3.0))
def log1p(x):
    """Return ln(1 + x), exact near zero."""
    return np.log1p(x), lambda g: g / (1 + x)


@op("(),()->()", numpy=np.logaddexp)
def logaddexp(a, b):
    """Return ln(eᵃ + eᵇ); the slopes are the two shares, which sum to 1."""

    def share(g, mine, other):
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # e^x may become inf, and 1 / (1 + inf) is the 0 that is meant
            return g / (1 + np.exp(np.where(mine == other, 0, other - mine)))

    return np.logaddexp(a, b), lambda g: share(g, a, b), lambda g: share(g, b, a)


@op("()->()", numpy=np.sin)
def sin(x):
    """Return the sine."""
    return np.sin(x), lambda g: g * np.cos(x)


@op("()->()", numpy=np.cos)
def cos(x):
    """Return the cosine."""
    return np.cos(x), lambda g: -g * np.sin(x)


@op("()->()", numpy=np.tanh)
def tanh(x):
    """Squash every number into (-1, 1); the slope is 1 - tanh²."""
    y = np.tanh(x)
    return y, lambda g: g * (1 - y * y)


@op("()->()", floating=1)
def sigmoid(x):
    """Squash every number into (0, 1): 1 / (1 + e⁻ˣ), with the slope y(1 - y).

    Of e^-|x| nothing overflows, and what is near 0 keeps its digits: sigmoid(-100) is e^-100 and
    not 0, so that its logarithm is -100.

    >>> np.log(sigmoid(np.array([0.0, -100.0]))).data
    array([  -0.69314718, -100.        ])
    """
    y, small = _sigmoid(x)
    return y, lambda g: g * (small / (1 + small) ** 2)


def _sigmoid(x):
    """Return 1 / (1 + e⁻ˣ) and the e^-|x| of which it is made."""
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1) / (1 + small), small


@op("()->()", floating=1)
def softplus(x):
    """Return ln(1 + eˣ), a smooth ramp whose slope is the sigmoid; finite for every finite x."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), lambda g: g * _sigmoid(x)[0]


@op("()->()", kinks=(0.0,))
def relu(x):
    """Return max(x, 0); at 0 the slope is taken as 0. A NaN passes, and its gradient too."""
    return np.maximum(x, 0), lambda g: np.where(x <= 0, 0, g)


@op("()->()")
def gelu(x):
    """Return x·Φ(x), Φ the normal distribution function: the exact GELU (Hendrycks & Gimpel 2016), through erf.

    BERT, ALBEF's and BLIP's ViT use this one; CLIP uses `quick_gelu`. They differ by up to 0.02,
    and weights of one do not fit the other.
    """
    area = 0.5 * (1 + erf(x * math.sqrt(0.5)))
    return x * area, lambda g: g * (area + x * np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi)))


@op("()->()")
def quick_gelu(x):
    """Return x·sigmoid(1.702 x), CLIP's approximation of the GELU."""
    y = 0.5 * np.tanh(0.851 * x) + 0.5
    return x * y, lambda g: g * (y + 1.702 * x * y * (1 - y))


def _fabs(op_):
    def fabs(x):
        return op_(x) if x.dtype.kind == "f" else Tensor(np.fabs(x.data))

    return fabs


@op("()->()", numpy={np.absolute: lambda op_: op_, np.fabs: _fabs}, kinks=(0.0,))
def absolute(x):
    """Return |x|; at 0 the slope is taken as 0."""
    return np.abs(x), lambda g: g * np.sign(x)


@op("(),()->()", numpy=np.maximum)
def maximum(a, b):
    """Return the larger of two; equal numbers share the gradient half and half, and a NaN passes with that of both."""
    return (
        np.maximum(a, b),
        lambda g: _unless(g, a < b, a == b),
        lambda g: _unless(g, b < a, a == b),
    )


@op("(),()->()", numpy=np.minimum)
def minimum(a, b):
    """Return the smaller of two; equal numbers share the gradient half and half."""
    return (
        np.minimum(a, b),
        lambda g: _unless(g, a > b, a == b),
        lambda g: _unless(g, b > a, a == b),
    )


def _unless(g, lost, shared):
    return np.where(lost, 0, np.where(shared, 0.5 * g, g))


@op("(),(),()->()", numpy=np.where)
def where(condition, a, b):
    """Return a where the condition is true, else b; the condition has no gradient."""
    # Chosen, not multiplied by 0 and 1: what was not picked gets 0 even where g is infinite.
    return (
        np.where(condition, a, b),
        None,
        lambda g: np.where(condition, g, 0),
        lambda g: np.where(condition, 0, g),
    )


def _clip_spelling(op_):
    def clip_(x, a_min=None, a_max=None, *, min=None, max=None):  # noqa: A002 (NumPy's own names)
        return op_(x, a_min if min is None else min, a_max if max is None else max)

    return clip_


@op("(),(),()->()", numpy={np.clip: _clip_spelling})
def clip(x, low=None, high=None):
    """Return x within [low, high], either of which may be None; outside, the slope is the bound's and not x's.

    A clipped parameter stops learning: clamp it after the step.
    """
    value = +x if low is None else np.maximum(x, low)
    value = value if high is None else np.minimum(value, high)
    above_low = True if low is None else x >= low
    below_high = True if high is None else x <= high

    def to_low(g):
        return np.where((x < low) & (True if high is None else low <= high), g, 0)

    def to_high(g):  # where the bounds cross, the upper one wins, as in NumPy
        return np.where((x > high) if low is None else (np.maximum(x, low) > high), g, 0)

    return value, lambda g: np.where(above_low & below_high, g, 0), to_low, to_high


@op(
    "()->()",
    numpy={np.astype: lambda op_: lambda x, dtype, copy=True: op_(x, dtype=dtype)},
    cases=((((4, 3),), {"dtype": np.dtype("float64")}),),
)
def astype(x, dtype):
    """Return x as another kind of number; the gradient returns in the old kind, and whole numbers have none."""
    return x.astype(dtype), lambda g: g
