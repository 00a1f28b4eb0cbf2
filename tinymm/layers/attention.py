"""Scaled dot-product attention, multi-head attention and cross-attention, with masks and a cache of keys and values."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from tinymm.arrays.backend import DEVICES, device_of, to_backend, to_host
from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.autodiff import Tensor, ops

from .basic import Linear
from .init import xavier_uniform
from .masks import check_mask
from .module import Module

#: From this many scores a head on, Tq · Tk, attention goes block by block and its weights are never
#: held: 4 MB of float32 for each head of each image, which no cache keeps and which soon outweigh
#: all else that a layer remembers. Blocks take a tenth longer there, half as long at 16,384 tokens
#: (docs/memory.md).
LONG = 1024 * 1024

#: Where the weights go while they are recorded, and whether as Tensors.
_maps: ContextVar[tuple[list, bool] | None] = ContextVar("attention maps", default=None)


@contextlib.contextmanager
def record_attention(*, as_tensors: bool = False) -> Iterator[list]:
    """Collect the weights (B, H, Tq, Tk) of every attention that runs inside, in order, as host arrays.

    No flag goes through the models for this; inside, attention takes its readable definition, which
    is slower and equal. With `as_tensors` each is a Tensor that gets its gradient from a later
    `backward`, as a leaf does, though the model's own gradients flow on through it.

    >>> with record_attention() as maps:
    ...     _ = attention(np.ones((1, 2, 4)), np.ones((1, 3, 4)), np.ones((1, 3, 4)))
    >>> maps[0].shape
    (1, 2, 3)
    >>> with record_attention(as_tensors=True) as maps:
    ...     mixed = attention(np.ones((1, 1, 2)), np.zeros((1, 2, 2)), np.array([[[3.0], [5.0]]]))
    >>> mixed.backward(np.ones(mixed.shape))
    >>> maps[0].data, maps[0].grad
    (array([[[0.5, 0.5]]]), array([[[3., 5.]]]))
    """
    maps: list = []
    token = _maps.set((maps, as_tensors))
    try:
        yield maps
    finally:
        _maps.reset(token)


def attention(q: Any, k: Any, v: Any, may_attend: Any = None) -> Tensor:
    """Return scaled dot-product attention, softmax(q kᵀ / √Dh) v (Vaswani et al. 2017, eq. 1): q (…, Tq, Dh), k and v (…, Tk, Dh) -> (…, Tq, Dh).

    `may_attend` is boolean and broadcasts to (…, Tq, Tk); a query without any allowed key gives
    zeros. Without the scale 1/√Dh the scores of wide heads grow until the softmax picks one key and
    its gradient dies. Long sequences are taken in blocks (`LONG`), with the same result.
    """
    if may_attend is not None:
        may_attend = _ready(may_attend, (*q.shape[:-1], k.shape[-2]), q)
    recording = _maps.get()
    if recording is None and q.shape[-2] * k.shape[-2] >= LONG:
        return ops.blockwise_attention(q, k, v, may_attend=may_attend)
    mixed, weights = ops.attention_definition(q, k, v, may_attend)
    if recording is not None:
        maps, as_tensors = recording
        maps.append(
            Tensor(weights.data, requires_grad=True) if as_tensors else to_host(weights.data)
        )
        if as_tensors:  # what is added is exactly zero, and its gradient that of the weights
            mixed = mixed + (maps[-1] - weights.data) @ v
    return mixed


class Cache:
    """A key-value cache of one attention layer, (B, H, Tk, Dh) each: later positions need not compute them again.

    They are Tensors with their graph: gradients of later positions flow back through them. One
    cache a layer, for one sequence.

    >>> cache = Cache()
    >>> cache.extend(Tensor(np.ones((1, 2, 3, 4))), Tensor(np.ones((1, 2, 3, 4))))[0].shape
    (1, 2, 3, 4)
    >>> cache.extend(Tensor(np.ones((1, 2, 1, 4))), Tensor(np.ones((1, 2, 1, 4))))[0].shape, cache.length
    ((1, 2, 4, 4), 4)
    """

    def __init__(self, keys: Any = None, values: Any = None):
        self.keys, self.values = keys, values

    @property
    def length(self) -> int:
        """The number of cached positions."""
        return 0 if self.keys is None else self.keys.shape[2]

    def extend(self, k: Any, v: Any) -> tuple[Any, Any]:
        """Append the keys and values of new positions and return all of them."""
        if self.keys is not None:
            k, v = np.concatenate([self.keys, k], axis=2), np.concatenate([self.values, v], axis=2)
        self.keys, self.values = k, v
        return k, v

    def reorder(self, rows: np.ndarray) -> "Cache":
        """Return the cache of these rows of the batch, in this order, as beam search reorders them."""
        return Cache(np.take(self.keys, rows, axis=0), np.take(self.values, rows, axis=0))


class MultiHeadAttention(Module):
    """Multi-head self-attention (Vaswani et al. 2017, §3.2.2): (B, T, D) -> (B, T, D).

    One packed projection makes queries, keys and values, in this order, as the released files store
    them. `stds` sets the normal initialization of (qkv, output); without it qkv is Xavier-uniform
    and biases are 0, PyTorch's default.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        rng: np.random.Generator,
        stds: tuple[float, float] | None = None,
    ):
        _check_heads(width, heads)
        first, second = stds or (None, None)
        self.qkv = Linear(width, 3 * width, rng=rng, std=first)
        self.output = Linear(width, width, rng=rng, std=second)
        if stds is None:
            self.qkv.weight.data = xavier_uniform(rng, (width, 3 * width))
        for linear in (self.qkv, self.output):
            linear.bias.data = np.zeros_like(linear.bias.data)  # type: ignore[union-attr]
        self.heads = heads

    def forward(self, x: Any, may_attend: Any = None, cache: Cache | None = None) -> Tensor:
        """Return self-attention over x (B, T, D) under a mask that broadcasts to (B, H, T, T), or (B, H, T, Tk) with Tk - T cached positions."""
        H = self.heads
        qkv = self.qkv(x)  # (B, T, 3*D)
        if cache is None and _maps.get() is None and x.shape[1] ** 2 < LONG:
            if may_attend is not None:
                may_attend = _ready(may_attend, (len(x), H, x.shape[1], x.shape[1]), qkv)
            return self.output(ops.self_attention(qkv, may_attend=may_attend, heads=H))  # (B, T, D)
        B, T, D = x.shape
        q, k, v = np.transpose(
            np.reshape(qkv, (B, T, 3, H, D // H)), (2, 0, 3, 1, 4)
        )  # each (B, H, T, Dh)
        if cache is not None:
            k, v = cache.extend(k, v)  # each (B, H, Tk, Dh)
        mixed = np.swapaxes(attention(q, k, v, may_attend), 1, 2)  # (B, T, H, Dh)
        return self.output(np.reshape(mixed, (B, T, D)))  # (B, T, D)


class CrossAttention(Module):
    """Cross-attention: queries from x (B, Tq, D), keys and values from memory (B, Tk, M) -> (B, Tq, output width)."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        rng: np.random.Generator,
        encoder_width: int | None = None,
        output_width: int | None = None,
        std: float | None = None,
    ):
        _check_heads(width, heads)
        self.query = Linear(width, width, rng=rng, std=std)
        self.key = Linear(encoder_width or width, width, rng=rng, std=std)
        self.value = Linear(encoder_width or width, width, rng=rng, std=std)
        self.output = Linear(width, output_width or width, rng=rng, std=std)
        self.heads = heads

    def forward(
        self, x: Any, memory: Any, may_attend: Any = None, cache: Cache | None = None
    ) -> Tensor:
        """Return the cross-attention of x (B, Tq, D) to memory (B, Tk, M) under a mask that broadcasts to (B, H, Tq, Tk).

        A `cache` keeps the memory's keys and values at the first call; later calls use these, and
        the memory no more.
        """
        q = self._heads(self.query(x))  # (B, H, Tq, Dh)
        if cache is not None and cache.length:
            k, v = cache.keys, cache.values  # each (B, H, Tk, Dh)
        else:
            k, v = (
                self._heads(self.key(memory)),
                self._heads(self.value(memory)),
            )  # each (B, H, Tk, Dh)
            if cache is not None:
                cache.extend(k, v)
        mixed = np.swapaxes(attention(q, k, v, may_attend), 1, 2)  # (B, Tq, H, Dh)
        return self.output(np.reshape(mixed, (*mixed.shape[:2], q.shape[1] * q.shape[3])))

    def _heads(self, x: Any) -> Any:
        B, T, D = x.shape
        H = self.heads
        return x.reshape(B, T, H, D // H).swapaxes(1, 2)  # (B, H, T, Dh)


def _ready(may_attend: Any, shape: tuple[int, ...], x: Any) -> Any:
    """Check a mask's dtype and shape, and return it on x's device: masks are made on the host, since they follow from lengths alone."""
    device = device_of(x.data if isinstance(x, Tensor) else x) or DEVICES["numpy"]
    return to_backend(check_mask(may_attend, shape), device.name)


def _check_heads(width: int, heads: int) -> None:
    if heads < 1 or width % heads:
        raise (UsageError if heads < 1 else ShapeError)(
            f"the heads share the width evenly, and {width} over {heads} heads came; choose a divisor of {width}"
        )
