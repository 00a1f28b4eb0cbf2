"""Data parallelism: each worker encodes its shard of a batch, the loss gets all features, and gradients are summed.

Workers are the threads of a process, and the ranks of `mpiexec -n N` with their threads. Figure 3
does not change: the splitting happens inside the encoders that it is given, and everything else is
computed by every rank alike, from the same batch and the same draws. A shard's graph ends in
features; the loss gives these their gradients, and each thread walks its own graph into its own
dict, since the shards share their leaves.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import numpy as np

from tinymm.arrays.errors import UsageError
from tinymm.arrays.memory import keep_freed_memory
from tinymm.autodiff import Op, Tensor
from tinymm.autodiff.ops.fused import joint_vjp
from tinymm.layers import BatchNorm2d, Module

from .mpi import current_group
from .ranks import Communicator, shard_slice, split_sizes

#: Stands in a batch where what another encoder has made will be put.
_MADE = object()


def default_workers(model: Module | None = None) -> int:
    """Return how many threads suit a rank: its share of the machine's cores, up to 4; one under batch normalization."""
    return 1 if model is not None and has_batch_statistics(model) else min(4, current_group().cores)


def has_batch_statistics(model: Module) -> bool:
    """Say whether an image's features depend on its batch, as under batch normalization."""
    return any(isinstance(module, BatchNorm2d) for module in model.modules())


@contextlib.contextmanager
def threads(
    workers: int, ranks: Communicator | None = None
) -> Iterator[Callable[[Module], Callable]]:
    """Give a `split` for `model.losses`: it wraps an encoder so that the ranks, with `workers` threads each, share each batch.

    `ranks` are those that were started together with this process, unless it is said. The matrix
    library is held to one thread meanwhile, because its own threads spin between products and fight
    with ours. One worker in all means no splitting, with the matrix library as it is. UsageError
    for fewer than one worker.

    >>> with threads(1) as split:
    ...     split(len)
    <built-in function len>
    """
    if workers < 1:
        raise UsageError(
            f"at least one worker is needed and {workers} came; leave --workers out for a good default"
        )
    ranks = ranks or current_group()
    keep_freed_memory()
    if workers == ranks.size == 1:
        yield lambda encoder: encoder
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        yield lambda encoder: _Sharded(encoder, pool, workers, ranks)


def gather_over(ranks: Communicator) -> Callable[[Any], Tensor]:
    """Return a `gather` for losses that are computed rank by rank: each rank's rows (b, …) -> the rows of all (B, …), with gradient.

    A row was used by all ranks, so its gradient is the sum over them: the backward pass of a gather
    is a reduce-scatter. All ranks must walk back through it, as all have gathered.
    """

    def gathered(x: Any) -> tuple:
        counts = ranks.all_gather(np.array([len(x)]), [1] * ranks.size).tolist()
        return ranks.all_gather(x, counts), lambda g: ranks.reduce_scatter(g, counts)

    return Op(gathered, catalogued=False)


class _Sharded:
    """An encoder, or a method of a model, that cuts its batch into shards: arrays (B, …) -> (B, …), equal to its own result to rounding."""

    def __init__(self, encoder: Any, pool: ThreadPoolExecutor, workers: int, ranks: Communicator):
        module = getattr(encoder, "__self__", encoder)
        if has_batch_statistics(module) and module.training:
            raise UsageError(
                f"batch normalization normalizes over the whole batch, and {workers * ranks.size} workers would each see a part; use --workers 1 "
                "in one process (the matrix library then uses all cores), or a vision transformer"
            )
        self.encoder, self.pool, self.workers, self.ranks = encoder, pool, workers, ranks
        self.parameters = list(module.trainable().values())
        # The shards' sum is an op like any other, except that its inputs are the leaves that all shards share.
        self.join = Op(self._run, catalogued=False)

    def __call__(self, *batch: Any) -> Tensor:
        # What another encoder has made of the batch comes as a Tensor, and wants its gradient unless that encoder is frozen; the rest are plain
        # arrays.
        batch = tuple(x.data if isinstance(x, Tensor) and not x.requires_grad else x for x in batch)
        made = [x for x in batch if isinstance(x, Tensor)]
        return self.join(
            *self.parameters,
            *made,
            batch=tuple(_MADE if isinstance(x, Tensor) else x for x in batch),
        )

    def _run(self, *inputs: Any, batch: tuple) -> tuple:
        made, ranks = inputs[len(self.parameters) :], self.ranks
        counts, own, shards = self._plan(
            len(next(x for x in (*made, *batch) if x is not _MADE and x is not None))
        )
        cut = [[Tensor(x[s], requires_grad=True) for x in made] for s in shards]
        # Each thread inherits no_grad() or detect_anomaly() through a copy of the context.
        tasks = [
            self.pool.submit(copy_context().run, self.encoder, *_merged(batch, mine, s))
            for s, mine in zip(shards, cut, strict=True)
        ]
        features = [task.result() for task in tasks]
        # A loss that leaves a part of the model out must leave its parameters without a gradient, here as anywhere.
        leaves = set().union(*(_leaves(f) for f in features))
        reached = [p for p in self.parameters if p in leaves]

        def backward(g):
            gradients: list[dict] = [{} for _ in shards]
            if counts[ranks.rank]:
                walks = [
                    (f, g[s], into)
                    for f, s, into in zip(features, shards, gradients, strict=True)
                    if f.requires_grad
                ]
                for task in [
                    self.pool.submit(copy_context().run, f.backward, part, into)
                    for f, part, into in walks
                ]:
                    task.result()
            # Each rank has walked its own rows: parameters need the sum over ranks, and what was made needs the rows of all.
            of_parameters = ranks.all_reduce(
                [_sum([into[p] for into in gradients if p in into], p) for p in reached]
            )
            of_made = [
                ranks.all_gather(
                    np.concatenate(
                        [
                            into.get(x, np.zeros_like(x.data))
                            for into, x in zip(gradients, parts, strict=True)
                        ]
                    )[:own],
                    counts,
                )
                for parts in zip(*cut, strict=True)
            ]
            return of_parameters + of_made

        vjps = joint_vjp(backward, len(reached) + len(made))
        of_reached = dict(zip(reached, vjps, strict=False))
        value = ranks.all_gather(np.concatenate([f.data for f in features])[:own], counts)
        return value, *(of_reached.get(p) for p in self.parameters), *vjps[len(reached) :]

    def _plan(self, rows: int) -> tuple[list[int], int, list[slice]]:
        """Return how many rows each rank has, how many are this one's, and the shards that it looks at.

        A rank without rows looks at the first one, if there is one, to know what kind of thing the
        encoder gives, and keeps nothing of it.
        """
        counts = split_sizes(rows, self.ranks.size)
        first, own = shard_slice(counts, self.ranks.rank).start, counts[self.ranks.rank]
        parts = split_sizes(own, min(self.workers, own)) if own else [min(1, rows)]
        starts = [(first if own else 0) + shard_slice(parts, i).start for i in range(len(parts))]
        return (
            counts,
            own,
            [slice(start, start + n) for start, n in zip(starts, parts, strict=True)],
        )


def _merged(batch: tuple, made: list, shard: slice) -> list:
    """Return a shard of each input in its place; None, which says that something is left out, is left out of every shard."""
    waiting = iter(made)
    return [next(waiting) if x is _MADE else None if x is None else x[shard] for x in batch]


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
