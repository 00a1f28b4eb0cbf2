"""The transformer block, in its two orders of normalization (Vaswani et al. 2017, §3.1; Xiong et al. 2020, Figure 1)."""

from typing import Any

import numpy as np

from tinymm.autodiff import Tensor

from .attention import Cache, MultiHeadAttention
from .basic import MLP, LayerNorm
from .module import Module


class Block(Module):
    """Pre-norm transformer block: self-attention, then feed-forward, each with a residual connection: (B, T, D) -> (B, T, D).

    x + attention(norm(x)), then x + mlp(norm(x)), as in CLIP and ViT: gradients pass the residual
    path unchanged, and deep stacks train stably. With `post_norm` each norm is applied to the sum,
    norm(x + attention(x)), as in the original transformer and BERT.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        rng: np.random.Generator,
        feed_forward: int | None = None,
        activation: str = "quick_gelu",
        eps: float = 1e-5,
        post_norm: bool = False,
        attention_stds: tuple[float, float] | None = None,
        mlp_stds: tuple[float, float] | None = None,
    ):
        self.norm_1 = LayerNorm(width, eps)
        self.attention = MultiHeadAttention(width, heads, rng=rng, stds=attention_stds)
        self.norm_2 = LayerNorm(width, eps)
        self.mlp = MLP(width, feed_forward or 4 * width, activation, rng=rng, stds=mlp_stds)
        self.post_norm = post_norm

    def forward(self, x: Any, may_attend: Any = None, cache: Cache | None = None) -> Tensor:
        """Return x (B, T, D) after self-attention (under a mask that broadcasts to (B, H, T, T), see `attention`) and feed-forward."""
        if self.post_norm:
            x = self.norm_1(x + self.attention(x, may_attend, cache))
            return self.norm_2(x + self.mlp(x))
        x = x + self.attention(self.norm_1(x), may_attend, cache)
        return x + self.mlp(self.norm_2(x))
