"""A result and all that it was made from: values forward, gradients backward, and the order in which gradients are added.

Reverse-mode differentiation is one walk over this picture from right to left. Where two arrows
leave a number, two gradients come back to it, and they add: these arrows are drawn in the color of
their own.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_host
from tinymm.arrays.errors import UsageError
from tinymm.autodiff import Tensor
from tinymm.viz import style
from tinymm.viz.tables import number, table

#: More numbers than this are no picture any more; signs of the commonest ops.
MOST = 24
SIGNS = {
    "add": "+",
    "subtract": "−",
    "multiply": "×",
    "divide": "÷",
    "matmul": "@",
    "power": "^",
    "negative": "−",
}


def walk(
    result: Tensor,
) -> tuple[list[Tensor], dict[Tensor, float], list[tuple[Tensor, Tensor, float]]]:
    """Return the Tensors behind a result of one number, the gradient of each, and what was added to whom in order: (from, to, amount).

    The graph itself is not used up. Numbers come in the order in which they were made, the result
    last. UsageError for more than `MOST` numbers.

    >>> x = Tensor(3.0, requires_grad=True)
    >>> found, gradients, added = walk(x * x)
    >>> float(gradients[x]), [float(amount) for _, _, amount in added]
    (6.0, [3.0, 3.0])
    """
    order: list[Tensor] = []
    stack, seen = [(result, False)], set()
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack += [(node, True), *((x, False) for x, _ in reversed(links(node)))]
    if any(node.size != 1 for node in order) or len(order) > MOST:
        raise UsageError(
            f"a graph is drawn of at most {MOST} numbers, and {len(order)} Tensors came, the largest of size {max(node.size for node in order)}; "
            "take scalars, and fewer"
        )
    gradients, added = dict.fromkeys(order, 0.0), []
    gradients[result] = 1.0
    for node in reversed(order):
        for x, vjp in links(node):
            amount = float(to_host(vjp(np.full_like(node.data, gradients[node]))).sum())
            gradients[x] += amount
            added.append((node, x, amount))
    return order, gradients, added


def links(node: Tensor) -> tuple:
    """Return the (input, vjp) pairs of the op that made a Tensor, none for a leaf."""
    return tuple(node.made_by[1]) if node.made_by else ()


def graph(result: Tensor, names: Mapping[str, Tensor], *, title: str) -> Any:
    """Return a figure of a result of one number: values above, gradients below, arrows numbered in the order in which gradients are added.

    `names` are the leaves that have one. UsageError for larger Tensors or more than `MOST` of them.

    >>> a, b = Tensor(2.0, requires_grad=True), Tensor(3.0, requires_grad=True)
    >>> graph(a * b + a, {"a": a, "b": b}, title="a is used twice").alt
    'a is used twice. Added in order: 1 to ×, 1 to a, 3 to a, 2 to b. Gradients: a 4, b 2.'
    """
    order, gradients, added = walk(result)
    called = {tensor: name for name, tensor in names.items()}
    label = {
        node: called.get(node)
        or (SIGNS.get(node.made_by[0].name, node.made_by[0].name) if node.made_by else "?")
        for node in order
    }
    depth: dict[Tensor, int] = {}
    for node in order:
        depth[node] = max((depth[x] + 1 for x, _ in links(node)), default=0)
    place = _places(order, depth)
    width, height = (
        1.6 + 1.55 * max(depth.values()),
        1.3 + 1.15 * (1 + max(y for _, y in place.values())),
    )
    figure = style.new_figure(max(6.4, width), height)
    style.headline(figure, title, width=int(max(6.4, width) * 10))
    axes = figure.add_axes((0.02, 0.02, 0.96, 1 - 0.55 / height))
    axes.set(
        xlim=(-0.45, max(depth.values()) + 0.45),
        ylim=(max(y for _, y in place.values()) + 0.55, -0.55),
    )
    axes.set_axis_off()
    uses = {node: sum(x is node for _, x, _ in added) for node in order}
    for step, (node, x, amount) in enumerate(added, 1):
        color = style.RIGHT if uses[x] > 1 else style.PADDING
        twice = sum(n is node and y is x for n, y, _ in added[: step - 1])
        _arrow(axes, place[node], place[x], f"{step}: {number(amount)}", color, twice)
    for node in order:
        across, down = place[node]
        color = style.PICTURE if node in called else style.INK
        axes.plot(
            [across],
            [down],
            marker="o",
            markersize=30,
            color="white",
            markeredgecolor=color,
            markeredgewidth=1.6,
            zorder=3,
        )
        style.write(
            axes,
            across,
            down,
            label[node],
            ha="center",
            va="center",
            size=13,
            color=color,
            zorder=4,
        )
        style.write(
            axes,
            across,
            down - 0.3,
            number(node.item()),
            ha="center",
            va="bottom",
            size=9,
            zorder=4,
        )
        style.write(
            axes,
            across,
            down + 0.3,
            f"grad {number(gradients[node])}",
            ha="center",
            va="top",
            size=9,
            color=style.TEXT,
            zorder=4,
        )
    said = ", ".join(f"{number(amount)} to {label[x]}" for _, x, amount in added)
    leaves = ", ".join(
        f"{name} {number(gradients.get(tensor, 0.0))}" for name, tensor in names.items()
    )
    figure.alt = f"{title}. Added in order: {said}. Gradients: {leaves}."
    figure.table = table(
        ["added", "from", "to", "amount"],
        [[str(i), label[n], label[x], amount] for i, (n, x, amount) in enumerate(added, 1)],
    )
    return figure


def _places(order: list[Tensor], depth: Mapping[Tensor, int]) -> dict[Tensor, tuple[float, float]]:
    """Return where each number stands: leaves in a column at the left, and what is made of others at their mean height, nobody on another."""
    place: dict[Tensor, tuple[float, float]] = {}
    leaves = [node for node in order if not links(node)]
    for i, node in enumerate(leaves):
        place[node] = (0.0, float(i))
    for level in range(1, max(depth.values()) + 1):
        taken: list[float] = []
        for node in sorted(
            (n for n in order if depth[n] == level),
            key=lambda n: np.mean([place[x][1] for x, _ in links(n)]),
        ):
            y = float(np.mean([place[x][1] for x, _ in links(node)]))
            y = max(y, taken[-1] + 1) if taken else y
            taken.append(y)
            place[node] = (float(level), y)
    return place


def _arrow(
    axes: Any,
    start: tuple[float, float],
    end: tuple[float, float],
    words: str,
    color: str,
    again: int,
) -> None:
    """Draw the way of a gradient from a result to one of its inputs, with what it brings; one that passes others by bows around them."""
    far = start[0] - end[0] > 1
    bend = (-0.32 if end[1] >= start[1] - 0.5 else 0.32) if far else 0.08 + 0.3 * again
    look = {
        "arrowstyle": "-|>",
        "color": color,
        "linewidth": 1.3,
        "shrinkA": 17,
        "shrinkB": 17,
        "connectionstyle": f"arc3,rad={bend}",
    }
    axes.annotate("", end, start, arrowprops=look, zorder=1)
    (x1, y1), (x2, y2) = axes.transData.transform([start, end])
    control = np.array([(x1 + x2) / 2 + bend * (y2 - y1), (y1 + y2) / 2 - bend * (x2 - x1)])
    t = 0.42  # nearer to where it comes from: arrows meet where they arrive
    at = (1 - t) ** 2 * np.array([x1, y1]) + 2 * t * (1 - t) * control + t**2 * np.array([x2, y2])
    x, y = axes.transData.inverted().transform(at)
    style.write(
        axes,
        x,
        y,
        words,
        ha="center",
        va="center",
        size=8.5,
        color=color,
        zorder=2,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )
