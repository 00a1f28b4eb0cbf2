"""The catalogue of ops, each declared in one place with its value, its vjps, its NumPy spelling and what its tests need.

Read `elementwise`, `shape`, `indexing`, `reduce`, `linear`, `window`, then `fused` with its
`kernels`, `gpu` (the same where launches are what is scarce) and `long_attention`. Where NumPy has
a name for an op, write NumPy's (`np.exp(t)`); the others are imported from here.
"""

from . import gpu as gpu  # rules of `fused` for another device
from . import shape as shape  # all its ops have NumPy names
from .elementwise import gelu, quick_gelu, relu, sigmoid, softplus
from .fused import attention_definition, layer_norm, mlp, self_attention
from .indexing import embedding
from .linear import linear
from .long_attention import blockwise_attention
from .reduce import log_softmax, logsumexp, masked_softmax, softmax
from .window import avg_pool2d, conv2d, max_pool2d

__all__ = [
    "attention_definition", "avg_pool2d", "blockwise_attention", "conv2d", "embedding", "gelu", "layer_norm", "linear", "log_softmax", "logsumexp",
    "masked_softmax", "max_pool2d", "mlp", "quick_gelu", "relu", "self_attention", "sigmoid", "softmax", "softplus",
]  # fmt: skip
