"""The AdamW optimizer (Loshchilov & Hutter 2019, Algorithm 2)."""

import math
from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module, elementwise, to_backend, to_host
from tinymm.arrays.errors import CheckpointError, UsageError
from tinymm.layers import Module

#: Numbers updated at once: four arrays of this size stay in a core's second-level cache.
BLOCK = 64 * 1024
#: The step of one number, for a GPU.
ADAMW = "mean = b1 * m + (T(1) - b1) * g; square = b2 * v + (T(1) - b2) * g * g; to = keep * p - first * mean / (sqrt(square) * second + eps);"


def adamw_definition(p, g, m, v, step, learning_rate, weight_decay, beta_1, beta_2, eps):
    """Return (p, m, v) after one step of AdamW: running means of the gradient and of its square, both bias-corrected."""
    m = beta_1 * m + (1 - beta_1) * g
    v = beta_2 * v + (1 - beta_2) * g * g
    unbiased_m, unbiased_v = m / (1 - beta_1**step), v / (1 - beta_2**step)
    return p - learning_rate * (weight_decay * p + unbiased_m / (np.sqrt(unbiased_v) + eps)), m, v


def adamw_kernel(p, g, m, v, step, learning_rate, weight_decay, beta_1, beta_2, eps):
    """Return what `adamw_definition` does, with m and v updated in place, in blocks that stay in the cache; on a GPU, in one launch."""
    if not isinstance(p, np.ndarray):
        launch = elementwise(
            p,
            "T p, T g, T m, T v, T b1, T b2, T first, T second, T eps, T keep",
            "T to, T mean, T square",
            ADAMW,
            "tinymm_adamw",
        )
        first, second = learning_rate / (1 - beta_1**step), 1 / math.sqrt(1 - beta_2**step)
        new = launch(
            p, g, m, v, beta_1, beta_2, first, second, eps, 1 - learning_rate * weight_decay
        )
        return tuple(
            after.astype(before.dtype, copy=False)
            for after, before in zip(new, (p, m, v), strict=True)
        )
    new = np.empty_like(p, order="C")
    parts = [x.reshape(-1) for x in (p, g, m, v, new)]
    first, second = 1 / (1 - beta_1**step), 1 / math.sqrt(1 - beta_2**step)
    for start in range(0, p.size, BLOCK):
        a, b, mean, square, out = (x[start : start + BLOCK] for x in parts)
        mean *= beta_1
        mean += np.multiply(b, 1 - beta_1, out=out)
        square *= beta_2
        np.multiply(b, b, out=out)
        out *= 1 - beta_2
        square += out
        np.sqrt(square, out=out)
        out *= second
        out += eps
        np.divide(mean, out, out=out)
        out *= -learning_rate * first
        out += a * (1 - learning_rate * weight_decay)
    return new, m, v


class AdamW:
    """Adam with decoupled weight decay over a model's parameters.

    Matrices decay, vectors and numbers (norms' weights, biases, the temperature) do not, as in CLIP
    (Table 18): pulling a norm's weight toward 0 or the scale toward 1 would fight the loss.
    Parameters get new arrays, never new numbers in the old ones, so arrays that a graph still holds
    stay true. UsageError for betas outside [0, 1), a negative decay, and for anything but a module,
    such as a list of parameters.
    """

    def __init__(
        self,
        model: Module,
        *,
        weight_decay: float = 0.2,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
    ):
        if not (0 <= betas[0] < 1 and 0 <= betas[1] < 1) or weight_decay < 0:
            raise UsageError(
                f"AdamW needs betas in [0, 1) and a decay of at least 0; betas {betas} and decay {weight_decay} came"
            )
        if not isinstance(model, Module):
            raise UsageError(
                "AdamW takes the model itself, since it finds its means by the parameters' "
                f"names, and a {type(model).__name__} came; "
                "write AdamW(model)"
            )
        self.parameters = model.trainable()
        self.means = {name: np.zeros_like(p.data, order="C") for name, p in self.parameters.items()}
        self.squares = {
            name: np.zeros_like(p.data, order="C") for name, p in self.parameters.items()
        }
        self.weight_decay, self.betas, self.eps = weight_decay, betas, eps
        self.steps = 0

    def gradient_norm(self) -> Any:
        """Return the gradient norm: the L2 norm of all gradients together, as a number on the device."""
        total = 0.0
        for p in self.parameters.values():
            if p.grad is not None:
                total = total + np.vdot(p.grad, p.grad)
        return np.sqrt(total)

    def step(
        self, learning_rate: float, max_grad_norm: float | None = None, norm: Any = None
    ) -> Any:
        """Take one step at a learning rate, drop the gradients and return their norm before clipping.

        With `max_grad_norm`, gradients of a larger norm are scaled down to it as one vector, which
        bounds a step and keeps its direction. A caller that has the norm already hands it in as
        `norm`.
        """
        self.steps += 1
        norm = self.gradient_norm() if norm is None else norm
        scale = None if max_grad_norm is None else np.minimum(1.0, max_grad_norm / (norm + 1e-6))
        for name, p in self.parameters.items():
            if p.grad is None:
                continue
            g = p.grad if scale is None else p.grad * scale.astype(p.grad.dtype)
            weight_decay = self.weight_decay if p.ndim > 1 else 0.0
            state = (self.means[name], self.squares[name])
            p.data, self.means[name], self.squares[name] = adamw_kernel(
                p.data, g, *state, self.steps, learning_rate, weight_decay, *self.betas, self.eps
            )
            p.grad = None
        return norm

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of the running means as host arrays under `mean.…` and `square.…`, and the number of steps."""
        arrays = {f"mean.{name}": np.array(to_host(m)) for name, m in self.means.items()}
        arrays |= {f"square.{name}": np.array(to_host(v)) for name, v in self.squares.items()}
        return arrays | {"steps": np.array(self.steps)}

    def load_state_dict(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `state_dict` gave; CheckpointError if it belongs to another model."""
        own = self.state_dict()
        if own.keys() != arrays.keys() or any(
            own[name].shape != arrays[name].shape for name in own
        ):
            odd = sorted(own.keys() ^ arrays.keys())
            said = f"{odd[0]}{f' and {len(odd) - 1} more' if odd[1:] else ''}" if odd else "shapes"
            raise CheckpointError(
                f"the optimizer's state belongs to another model ({said} differ); resume with the settings of the run"
            )
        for kind, target in (("mean", self.means), ("square", self.squares)):
            for name, p in self.parameters.items():
                backend = array_module(p.data).__name__
                target[name] = to_backend(np.array(arrays[f"{kind}.{name}"]), backend)
        self.steps = int(arrays["steps"])
