"""Linear layer, embedding, layer normalization, dropout, and the two-layer MLP."""

from typing import Any

import numpy as np

from tinymm.arrays.backend import array_module, to_backend
from tinymm.arrays.errors import UsageError
from tinymm.arrays.random import check_generator
from tinymm.autodiff import Tensor, ops

from .init import normal, uniform_fan_in
from .module import Module, Parameter


class Linear(Module):
    """A linear map of the last axis: x (…, n) @ weight (n, m) + bias (m) -> (…, m).

    The weight is (in, out) as Figure 3's `W_i`; PyTorch stores the transpose. Both begin uniform
    within 1/√n, PyTorch's default, or the weight as N(0, std²).

    >>> Linear(3, 2, rng=np.random.default_rng(0))(np.ones((4, 3), np.float32)).shape
    (4, 2)
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        *,
        rng: np.random.Generator,
        bias: bool = True,
        std: float | None = None,
    ):
        shape = (width_in, width_out)
        self.weight = Parameter(
            uniform_fan_in(rng, shape, width_in) if std is None else normal(rng, shape, std)
        )
        self.bias = Parameter(uniform_fan_in(rng, (width_out,), width_in)) if bias else None

    def forward(self, x: Any) -> Tensor:
        """Map x (…, n) to (…, m)."""
        return x @ self.weight if self.bias is None else ops.linear(x, self.weight, self.bias)


class Embedding(Module):
    """A learned row for each id: ids (…) in [0, V) -> (…, D).

    >>> Embedding(10, 4, rng=np.random.default_rng(0))(np.array([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    def __init__(self, vocabulary: int, width: int, *, rng: np.random.Generator, std: float = 0.02):
        self.weight = Parameter(normal(rng, (vocabulary, width), std))

    def forward(self, ids: np.ndarray) -> Tensor:
        """Look up ids (…) -> (…, D); DataError names an id outside the table."""
        return ops.embedding(self.weight, ids=ids)


class LayerNorm(Module):
    """Layer normalization: each row to mean 0 and variance 1, then a learned weight and bias (Ba et al. 2016): (…, D) -> (…, D).

    `eps` is 1e-5 in CLIP, 1e-6 in the other papers' ViTs and 1e-12 in BERT; a checkpoint's outputs
    depend on it.
    """

    def __init__(self, width: int, eps: float = 1e-5):
        self.weight = Parameter(np.ones(width, np.float32))
        self.bias = Parameter(np.zeros(width, np.float32))
        self.eps = eps

    def forward(self, x: Any) -> Tensor:
        """Normalize the last axis."""
        return ops.layer_norm(x, self.weight, self.bias, eps=self.eps)


class Dropout(Module):
    """Dropout: in training, zero each number with probability `p` and scale up the rest (Srivastava et al. 2014).

    UsageError for a p outside [0, 1).

    >>> Dropout(0.5).eval()(np.ones(3))
    array([1., 1., 1.])
    """

    def __init__(self, p: float):
        if not 0 <= p < 1:
            raise UsageError(f"dropout's p lies in [0, 1) and {p} came; 0 switches it off")
        self.p = p

    def forward(self, x: Any, rng: np.random.Generator | None = None) -> Any:
        """Return x with numbers dropped by `rng`, which training must hand in, since randomness is an argument: UsageError without it."""
        if not self.training or not self.p:
            return x
        if rng is None:
            raise UsageError(
                f"dropout of {self.p} in training mode draws numbers and no rng came; pass rng=, or call model.eval()"
            )
        keep = check_generator(rng).random(x.shape, dtype=np.float32) >= self.p
        keep = to_backend(keep, array_module(x.data if isinstance(x, Tensor) else x).__name__)
        return np.where(keep, x, 0.0) * (1 / (1 - self.p))


class MLP(Module):
    """The feed-forward network (MLP) of a transformer block: linear, activation, linear, D -> F -> D (Vaswani et al. 2017, §3.3).

    `activation` is `"quick_gelu"` (CLIP), `"gelu"` (exact; ALBEF, BLIP, BERT) or `"relu"` (OPT):
    weights of one give wrong features under another. UsageError for an activation that is none of
    these.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: str,
        *,
        rng: np.random.Generator,
        stds: tuple[float, float] | None = None,
    ):
        if activation not in ("gelu", "quick_gelu", "relu"):
            raise UsageError(
                f"an activation is 'gelu', 'quick_gelu' or 'relu' and {activation!r} came; see the checkpoint's config"
            )
        first, second = stds or (None, None)
        self.fc1 = Linear(width, hidden, rng=rng, std=first)
        self.fc2 = Linear(hidden, width, rng=rng, std=second)
        self.activation = activation

    def forward(self, x: Any) -> Tensor:
        """Map (…, D) to (…, D)."""
        first, second = self.fc1, self.fc2
        return ops.mlp(
            x, first.weight, first.bias, second.weight, second.bias, activation=self.activation
        )
