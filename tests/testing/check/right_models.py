"""Right gradients and right models with masks, in plain NumPy."""

import numpy as np
import right

RNG = np.random.default_rng(5)
WIDTH, LAYERS = 8, 3
WEIGHTS = RNG.normal(size=(LAYERS, 4, WIDTH, WIDTH)) / np.sqrt(WIDTH)
POSITIONS = RNG.normal(size=(6, WIDTH))


def product(a, b):
    return a @ b


def product_vjp(g, a, b):
    return g @ b.T, a.T @ g


def ramp(x):
    return np.maximum(x, 0)


def ramp_vjp(g, x):
    return np.where(x > 0, g, 0)


def biased(x, b):
    return x * np.tanh(b)


def biased_vjp(g, x, b):
    return g * np.tanh(b), (g * x).sum(axis=0) * (1 - np.tanh(b) ** 2)


def norm(x):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + np.asarray(1e-5, x.dtype))


def attend(x, mask, weights, attention=right.attention):
    q, k, v, out = (w.astype(x.dtype) for w in weights)
    return attention((x @ q)[:, None], (x @ k)[:, None], (x @ v)[:, None], mask)[:, 0] @ out


def model(x, mask, layers=1, residual=True, attention=right.attention, masks=None, positions=False):
    """A stack of pre-norm attention layers; `masks` may give each layer one of its own."""
    if positions:
        x = x + POSITIONS[: x.shape[1]].astype(x.dtype)
    for layer in range(layers):
        given = mask if masks is None else masks(mask, layer)
        x = (x if residual else 0) + attend(norm(x), given, WEIGHTS[layer], attention)
    return x
