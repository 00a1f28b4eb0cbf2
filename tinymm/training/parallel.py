"""One batch over several threads: each runs the encoder on its shard, the joint loss sees all features, and gradients are summed.

Figure 3 does not change: the splitting happens inside the encoders that it is given. A shard's graph ends in features; their gradients come
back from the joint loss and each thread walks its own graph into its own dict, since the shards share their leaves.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.memory import keep_freed_memory
from tinymm.autodiff import Op, Tensor
from tinymm.autodiff.ops.fused import together
from tinymm.layers import BatchNorm2d, Module


def default_workers(model: Module) -> int:
    """Return how many threads suit this machine and model: its cores, up to 4; one where batch statistics tie the pictures together."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if has_batch_statistics(model) else min(4, cores)


def has_batch_statistics(model: Module) -> bool:
    """Say whether a picture's features depend on its batch, as under batch normalization."""
    return any(isinstance(module, BatchNorm2d) for module in model.modules())


@contextlib.contextmanager
def threads(workers: int) -> Iterator[Callable[[Module], Callable]]:
    """Give a `split` for `model.losses`: it wraps an encoder so that `workers` threads share each batch.

    The matrix library is held to one thread meanwhile, because its own threads spin between products and fight with ours. One worker
    means no splitting, with the matrix library as it is.

    >>> with threads(1) as split:
    ...     split(len)
    <built-in function len>
    """
    if workers < 1:
        raise UsageError(f"at least one worker is needed and {workers} came; leave --workers out for a good default")
    keep_freed_memory()
    if workers == 1:
        yield lambda encoder: encoder
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        yield lambda encoder: _Sharded(encoder, pool, workers)


class _Sharded:
    """An encoder, or a method of a model, that cuts its batch into shards: arrays (B, …) -> (B, …), equal to its own result to rounding."""

    def __init__(self, encoder: Any, pool: ThreadPoolExecutor, workers: int):
        module = getattr(encoder, "__self__", encoder)
        if has_batch_statistics(module) and module.training:
            raise UsageError(
                f"batch normalization normalizes over the whole batch, and {workers} workers would each see a part; use --workers 1 "
                "(the matrix library then uses all cores), or a vision transformer"
            )
        self.encoder, self.pool, self.workers = encoder, pool, workers
        self.parameters = list(module.trainable().values())
        # The shards' sum is an op like any other, except that its inputs are the leaves that all shards share.
        self.join = Op(self._run, catalogued=False)

    def __call__(self, *batch: Any) -> Tensor:
        # What another encoder has made of the batch comes as a Tensor, and wants its gradient; the rest are plain arrays.
        made = [x for x in batch if isinstance(x, Tensor)]
        return self.join(*self.parameters, *made, batch=tuple(None if isinstance(x, Tensor) else x for x in batch))

    def _run(self, *inputs: Any, batch: tuple) -> tuple:
        made = inputs[len(self.parameters) :]
        B = len(next(x for x in (*made, *batch) if x is not None))
        shards = [slice(s[0], s[-1] + 1) for s in np.array_split(np.arange(B), min(self.workers, B))]
        cut = [[Tensor(x[s], requires_grad=True) for x in made] for s in shards]
        # Each thread inherits no_grad() or checking() through a copy of the context.
        tasks = [self.pool.submit(copy_context().run, self.encoder, *_merged(batch, own, s)) for s, own in zip(shards, cut, strict=True)]
        features = [task.result() for task in tasks]
        # A loss that leaves a part of the model out must leave its parameters without a gradient, here as anywhere.
        reached = set().union(*(_leaves(f) for f in features))

        def backward(g):
            gradients: list[dict] = [{} for _ in shards]
            tasks = [
                self.pool.submit(f.backward, g[s], into) for f, s, into in zip(features, shards, gradients, strict=True) if f.requires_grad
            ]
            for task in tasks:
                task.result()
            of_made = [
                np.concatenate([into.get(part, np.zeros_like(part.data)) for into, part in zip(gradients, parts, strict=True)])
                for parts in zip(*cut, strict=True)
            ]
            return [_sum([into[p] for into in gradients if p in into], p) for p in self.parameters if p in reached] + of_made

        count = sum(p in reached for p in self.parameters)
        vjps = together(backward, count + len(made))
        of_parameters = iter(vjps[:count])
        return (
            np.concatenate([f.data for f in features]),
            *(next(of_parameters) if p in reached else None for p in self.parameters),
            *vjps[count:],
        )


def _merged(batch: tuple, made: list, shard: slice) -> list:
    """Return a shard of each input in its place."""
    waiting = iter(made)
    return [next(waiting) if x is None else x[shard] for x in batch]


def _leaves(result: Tensor) -> set[Tensor]:
    """Return the parameters that a result was made from."""
    seen, stack = {result}, [result]
    while stack:
        made_by = stack.pop().made_by
        for x, _ in made_by[1] if made_by else ():
            if x not in seen:
                seen.add(x)
                stack.append(x)
    return {x for x in seen if x.made_by is None and x.requires_grad}


def _sum(parts: list, parameter: Tensor) -> Any:
    if not parts:
        return np.zeros_like(parameter.data)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
