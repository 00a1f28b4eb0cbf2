"""Reverse-mode automatic differentiation (backpropagation): one loop from a result back to its leaves.

Each Tensor that an op made holds links, pairs of (input, vjp). The loop hands a node's gradient
through its vjps to its inputs. A node may hand its gradient on only when all its users have handed
theirs to it: with b = a + a, c = b + b, walking on at the first arrival would visit b twice and a
four times, or forget some. So uses are counted first.
"""

from typing import Any

import numpy as np

from tinymm.arrays.errors import GraphError

#: Stands in `made_by` after a backward pass has used and freed the links.
SPENT: tuple = ("spent", ())


def backward(result: Any, gradient: Any, into: dict[Any, Any] | None, finite: bool = False) -> None:
    """Add the gradients of `result`, whose own gradient is given, to `.grad` of the leaves or to the dict `into`; see `Tensor.backward`.

    With `finite`, raise GraphError at the first gradient that is not, and name the op. An error on
    the way delivers nothing: no leaf then has a
    part of its gradient.
    """
    uses = _count_uses(result)
    arrived: dict[Any, Any] = {result: gradient}
    ours = set()  # holders of a sum that we made ourselves and may therefore add into
    borrowed = {result}  # holders of an array that belongs to somebody else
    ready = [result]
    found: dict[Any, Any] = {}
    while ready:
        node = ready.pop()
        g = arrived.pop(node)
        if node.made_by is None:
            found[node] = _own(g, node in borrowed)
            continue
        maker, links = node.made_by
        node.made_by = SPENT
        for x, vjp in links:
            part = vjp(g)
            if finite and not np.isfinite(part).all():
                raise GraphError(
                    f"the gradient of {maker.name} is not finite; keep its input away from where the slope is infinite"
                )
            data = x.data
            if part.shape != data.shape:
                part = maker.unstretch(part, data.shape)
            if part.dtype is not data.dtype:
                part = part.astype(data.dtype, copy=False)
            if x not in arrived:
                arrived[x] = part
                if part is g:
                    borrowed.add(x)
            elif x in ours:
                arrived[x] += part
            else:
                arrived[x] = arrived[x] + part
                ours.add(x)
            if uses[x] > 1:
                uses[x] -= 1
            else:
                del uses[x]  # so that the node's numbers are freed as soon as the walk has passed
                ready.append(x)
    for leaf, g in found.items():
        held = leaf.grad if into is None else into.get(leaf)
        g = g if held is None else np.asarray(held + g) if isinstance(g, np.ndarray) else held + g
        if into is None:
            leaf.grad = g
        else:
            into[leaf] = g


def _count_uses(result: Any) -> dict[Any, int]:
    uses = {result: 0}
    stack = [result]
    while stack:
        made_by = stack.pop().made_by
        if made_by is None:
            continue
        if made_by is SPENT:
            raise GraphError(
                "this graph was already used by backward(), to its end or until an error stopped "
                "it, and then freed; run the forward pass again"
            )
        for x, _ in made_by[1]:
            if x in uses:
                uses[x] += 1
            else:
                uses[x] = 1
                stack.append(x)
    return uses


def _own(g: Any, is_borrowed: bool) -> Any:
    """Return a leaf's gradient as an array of its own: one that two leaves share, or a view, is a trap for whoever scales it in place."""
    if is_borrowed or g.base is not None:
        g = g.copy()
    return np.asarray(g) if isinstance(g, np.generic) else g
