"""JAX's side of the benchmark: the same CLIP as one compiled function; prints the same lines. Decoding is not run here.

Run by `bench --against jax`, or alone: `python -m tinymm.workflows.bench.jax_side W1 --workers 2`.
Nothing else in tinymm imports jax.
"""

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .cases import Case, Contrast, Loss
from .timing import main


def block_parameters(draw: Callable, D: int) -> dict[str, Any]:
    """Return a transformer block's weights."""
    shapes = {
        "gain_1": (D,),
        "bias_1": (D,),
        "qkv": (D, 3 * D),
        "qkv_bias": (3 * D,),
        "output": (D, D),
        "output_bias": (D,),
        "gain_2": (D,),
    }
    shapes |= {
        "bias_2": (D,),
        "expand": (D, 4 * D),
        "expand_bias": (4 * D,),
        "contract": (4 * D, D),
        "contract_bias": (D,),
    }
    return {name: draw(*shape) for name, shape in shapes.items()}


def parameters(case: Contrast, rng: np.random.Generator) -> dict[str, Any]:
    """Return the weights of a CLIP."""

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape) * 0.02, jnp.float32)

    D, places = case.width, (case.side // case.patch) ** 2
    norms = {name: (draw(D), draw(D)) for name in ("before", "after", "text_after")}
    blocks = {
        name: [block_parameters(draw, D) for _ in range(case.layers)]
        for name in ("image_blocks", "text_blocks")
    }
    arrays = {
        "patches": draw(3 * case.patch**2, D),
        "first": draw(D),
        "places": draw(places + 1, D),
        "tokens": draw(case.vocabulary, D),
    }
    return (
        norms
        | blocks
        | arrays
        | {
            "positions": draw(case.context, D),
            "W_i": draw(D, D),
            "W_t": draw(D, D),
            "t": jnp.float32(2.659),
        }
    )


def norm(x, gain, bias):
    """Normalize rows."""
    centered = x - x.mean(-1, keepdims=True)
    return centered / jnp.sqrt((centered**2).mean(-1, keepdims=True) + 1e-5) * gain + bias


def block(x, p, heads, causal):
    """Map (B, T, D) to (B, T, D)."""
    B, T, D = x.shape
    q, k, v = (
        (norm(x, p["gain_1"], p["bias_1"]) @ p["qkv"] + p["qkv_bias"])
        .reshape(B, T, 3, heads, D // heads)
        .transpose(2, 0, 3, 1, 4)
    )
    scores = q @ k.transpose(0, 1, 3, 2) * (D // heads) ** -0.5
    scores = jnp.where(jnp.tri(T, dtype=bool), scores, -jnp.inf) if causal else scores
    x = (
        x
        + (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(B, T, D) @ p["output"]
        + p["output_bias"]
    )
    h = norm(x, p["gain_2"], p["bias_2"]) @ p["expand"] + p["expand_bias"]
    return x + (h * jax.nn.sigmoid(1.702 * h)) @ p["contract"] + p["contract_bias"]


def image_features(p, images, case: Contrast):
    """Return the features (B, E) of pictures (B, h, w, 3)."""
    B, k, n = len(images), case.patch, case.side // case.patch
    x = (
        images.reshape(B, n, k, n, k, 3).transpose(0, 1, 3, 2, 4, 5).reshape(B, n * n, -1)
        @ p["patches"]
    )
    x = norm(
        jnp.concatenate([jnp.broadcast_to(p["first"], (B, 1, case.width)), x], 1) + p["places"],
        *p["before"],
    )
    for own in p["image_blocks"]:
        x = block(x, own, case.heads, False)
    return norm(x[:, 0], *p["after"]) @ p["W_i"]


def symmetric_loss(image, text, t):
    """Return the symmetric contrastive loss of features (n, E)."""
    image, text = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (image, text))
    logits, own = image @ text.T * jnp.exp(t), jnp.arange(len(image))
    return (
        -(
            jax.nn.log_softmax(logits, 0)[own, own].mean()
            + jax.nn.log_softmax(logits, 1)[own, own].mean()
        )
        / 2
    )


def clip_loss(p, images, ids, case: Contrast):
    """Return the loss of a batch."""
    y = p["tokens"][ids] + p["positions"]
    for own in p["text_blocks"]:
        y = block(y, own, case.heads, True)
    y = norm(y, *p["text_after"])[jnp.arange(len(ids)), ids.argmax(-1)]
    return symmetric_loss(image_features(p, images, case), y @ p["W_t"], p["t"])


def adamw(p, m, v, n, gradients):
    """Return weights and running means after a step at rate 1e-3 with decay 0.01."""
    each = jax.tree_util.tree_map
    m = each(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
    v = each(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
    step = each(
        lambda p, m, v: (
            p * (1 - 1e-5) - 1e-3 * (m / (1 - 0.9**n)) / (jnp.sqrt(v / (1 - 0.999**n)) + 1e-8)
        ),
        p,
        m,
        v,
    )
    return step, m, v


@contextlib.contextmanager
def prepare(
    case: Case, options: argparse.Namespace
) -> Iterator[tuple[dict[str, Callable[[], object]], int]]:
    """Give what to time of a case; nothing for decoding."""
    rng = np.random.default_rng(options.seed)
    yield (
        contrast(case, rng)
        if isinstance(case, Contrast)
        else loss(case, rng)
        if isinstance(case, Loss)
        else {},
        1,
    )


def contrast(case: Contrast, rng: np.random.Generator) -> dict[str, Callable[[], object]]:
    """Return a training step, the forward pass with its loss, and the image encoder alone, compiled."""
    images = jnp.asarray(rng.standard_normal((case.batch, case.side, case.side, 3)), jnp.float32)
    ids = jnp.asarray(rng.integers(1, case.vocabulary, (case.batch, case.context)))
    weights = parameters(case, rng)
    forward = jax.jit(lambda p: clip_loss(p, images, ids, case))
    image = jax.jit(lambda p: image_features(p, images, case))

    def stepped(p, m, v, n):
        return adamw(p, m, v, n, jax.grad(clip_loss)(p, images, ids, case))

    zeros = jax.tree_util.tree_map(jnp.zeros_like, weights)
    compiled, state = jax.jit(stepped), [weights, zeros, zeros]

    def step():
        state[:] = jax.block_until_ready(compiled(*state, 2.0))

    runs = {
        "step": step,
        "fwd": lambda: jax.block_until_ready(forward(weights)),
        "image": lambda: jax.block_until_ready(image(weights)),
    }
    return {what: runs[what] for what in case.what}


def loss(case: Loss, rng: np.random.Generator) -> dict[str, Callable[[], object]]:
    """Return the contrastive loss of given features with its gradient, the projections included, compiled."""
    I, T = (jnp.asarray(rng.standard_normal((case.n, case.width)), jnp.float32) for _ in range(2))
    W = jnp.eye(case.width)
    gradient = jax.jit(jax.grad(lambda I, T, t: symmetric_loss(I @ W, T @ W, t), argnums=(0, 1, 2)))
    return {"step": lambda: jax.block_until_ready(gradient(I, T, jnp.float32(2.659)))}


def hold_to(workers: int) -> None:
    """Hold XLA to so many threads, as the other sides are."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:workers])


if __name__ == "__main__":
    main("jax", prepare, hold_to)
