"""Chapter 4, the parts: the layers of a model, and the attention masks: which keys each query may attend to.

Read `module` (how parameters are found), `init`, `basic`, `convolution`, `masks`, `attention`,
`transformer`.
"""

from .attention import Cache, CrossAttention, MultiHeadAttention, attention, record_attention
from .basic import MLP, Dropout, Embedding, LayerNorm, Linear
from .convolution import BatchNorm2d, Conv2d
from .masks import (
    bidirectional_mask,
    causal_mask,
    cross_mask,
    multimodal_causal_mask,
    padding_mask,
    prefix_mask,
    reachability,
    unimodal_mask,
)
from .module import Buffer, MissingParameter, Module, Parameter
from .transformer import Block

__all__ = [
    "MLP", "BatchNorm2d", "Block", "Buffer", "Cache", "Conv2d", "CrossAttention", "Dropout", "Embedding", "LayerNorm", "Linear",
    "MissingParameter", "Module", "MultiHeadAttention", "Parameter", "attention", "bidirectional_mask", "causal_mask", "cross_mask",
    "multimodal_causal_mask", "padding_mask", "prefix_mask", "reachability", "record_attention", "unimodal_mask",
]  # fmt: skip
