"""Gradient caching (GradCache): a batch larger than memory, with exactly its gradient, by embedding each pair twice.

A contrastive loss needs the features of the whole batch at once, but not the encoders' activations.
So each chunk of the batch is embedded and its graph dropped; the loss gives each feature its
gradient; in the backward pass each chunk runs once more and propagates its features' gradient to
the parameters (Gao et al. 2021). One chunk's graph exists at a time. A step costs a forward pass
more.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinymm.arrays.errors import GraphError, UsageError
from tinymm.autodiff import Op, Tensor
from tinymm.autodiff.ops.fused import joint_vjp

from .parallel import _leaves, has_batch_statistics

#: How far the features of a chunk's two runs may differ, relative to the largest: rounding may,
#: another draw may not.
SAME = 1e-3


def gradient_cached(split: Callable[[Any], Callable], size: int) -> Callable[[Any], Callable]:
    """Return a `split` for a task's step whose encoders take `size` pairs at a time; the given one shards the batch among workers first.

    Both runs of a chunk must give the same, so an encoder may not draw at random: what a step draws
    (negatives, masked tokens) is drawn by the model before and handed to the encoder, as all models
    here do. GraphError where the runs differ; UsageError for a size below 1, and for batch
    normalization, which would see one chunk instead of the batch.

    >>> from tinymm.layers import Linear
    >>> encoder = Linear(4, 2, rng=np.random.default_rng(0))
    >>> gradient_cached(lambda encoder: encoder, 2)(encoder)(np.ones((5, 4), np.float32)).shape
    (5, 2)
    """
    if size < 1:
        raise UsageError(
            f"a chunk holds at least 1 pair and {size} came; leave --grad-cache out to take the batch whole"
        )
    return lambda encoder: split(_Chunked(encoder, size))


class _Chunked:
    """An encoder, or a method of a model, that keeps of its batch the features only: arrays (B, …) -> (B, …)."""

    def __init__(self, encoder: Any, size: int):
        module = getattr(encoder, "__self__", encoder)
        if has_batch_statistics(module) and module.training:
            raise UsageError(
                f"batch normalization normalizes over the whole batch, and chunks of {size} would each see a part; leave --grad-cache out, or use a "
                "vision transformer"
            )
        self.__self__ = (
            module  # as a method has it: who wraps this one in turn asks whose parameters it uses
        )
        self.encoder, self.size = encoder, size
        self.parameters = list(module.trainable().values())
        self.join = Op(self._run, catalogued=False)

    def __call__(self, *batch: Any) -> Tensor:
        return self.join(
            *self.parameters, *(x for x in batch if isinstance(x, Tensor)), batch=batch
        )

    def _run(self, *_: Any, batch: tuple) -> tuple:
        B = len(next(x for x in batch if x is not None))
        chunks = [
            slice(start, min(start + self.size, B)) for start in range(0, max(1, B), self.size)
        ]
        features, leaves = [], set()
        for s in chunks:
            found = self.encoder(*_cut(batch, s))
            features.append(found.data)
            leaves |= _leaves(
                found
            )  # a parameter that no loss reaches has no gradient, here as anywhere
            del found  # and with it this chunk's graph, before the next one's grows
        first, reached = features[0], [p for p in self.parameters if p in leaves]

        def backward(g):
            gradients: dict = {}
            of_made = [np.zeros_like(x.data) for x in batch if isinstance(x, Tensor)]
            for s in chunks if leaves else ():
                inputs = _cut(batch, s)
                again = self.encoder(*inputs)
                if s.start == 0:
                    _check_same(first, again.data)
                again.backward(g[s], into=gradients)
                for whole, part in zip(
                    of_made, (x for x in inputs if isinstance(x, Tensor)), strict=True
                ):
                    if part in gradients:
                        whole[s] = gradients.pop(part)
            return [gradients[p] for p in reached] + of_made

        vjps = joint_vjp(backward, len(reached) + sum(isinstance(x, Tensor) for x in batch))
        of_reached = dict(zip(reached, vjps, strict=False))
        return (
            np.concatenate(features),
            *(of_reached.get(p) for p in self.parameters),
            *vjps[len(reached) :],
        )


def _cut(batch: tuple, chunk: slice) -> list:
    """Return a chunk of each input; what another encoder has made of the batch becomes a leaf whose gradient is handed on."""
    return [
        Tensor(x.data[chunk], requires_grad=x.requires_grad)
        if isinstance(x, Tensor)
        else x
        if x is None
        else x[chunk]
        for x in batch
    ]


def _check_same(first: Any, again: Any) -> None:
    if not isinstance(first, np.ndarray):  # a GPU would have to be waited for
        return
    apart = float(np.abs(first - again).max(initial=0))
    if apart > SAME * float(np.abs(first).max(initial=0)):
        raise GraphError(
            f"a chunk runs twice, the second time for its gradient, and must give the same, but its features differ by {apart:.3g}; draw at random "
            "before the encoder, and hand it what was drawn"
        )
