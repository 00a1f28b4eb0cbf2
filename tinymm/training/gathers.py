"""Ways of gathering features over ranks, the right ones and the wrong ones: how far each gradient is from that of the whole batch.

Frameworks give a rank the loss of its own pairs (CLIP §2.5) and then average the parameters'
gradients over ranks. Whether the average is the gradient of the whole batch depends on what the
gather lets through; the loss looks the same in all of them. `python -m tinymm.training.gathers`
prints the table.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinymm.autodiff import Tensor
from tinymm.layers import Linear, Module, Parameter
from tinymm.losses import l2_normalize, local_itc_loss

from .parallel import gather_over
from .ranks import Communicator, simulate


class Scheme(NamedTuple):
    """What a rank computes: the rows that its loss asks about, which gathered rows let a gradient through, and what becomes of the gradients."""

    asks: str  # "own" rows, or "all"
    through: str  # gradient through "none", "own" rows, or "all" with a sum over ranks
    encoders: str  # "averaged" over ranks, or "summed"


#: Name → scheme. The last is that of `parallel.threads`: what all ranks compute alike is left, and
#: what each computes for itself is summed.
SCHEMES = {
    "own rows, gathered features detached": Scheme("own", "none", "averaged"),
    "own rows, gradient through the own slice": Scheme("own", "own", "averaged"),
    "own rows, gather with gradient": Scheme("own", "all", "averaged"),
    "all rows on each rank, gradient through the own slice": Scheme("all", "own", "averaged"),
    "all rows on each rank, gather with gradient": Scheme("all", "all", "averaged"),
    "all rows on each rank, own slice, summed": Scheme("all", "own", "summed"),
}


class _Encoders(Module):
    """Two linear encoders and a scale, a CLIP without depth."""

    def __init__(self, rng: np.random.Generator, width: int):
        self.image, self.text = (
            Linear(width, width, bias=False, rng=rng),
            Linear(width, width, bias=False, rng=rng),
        )
        self.scale = Parameter(np.full((), 5.0))
        self.astype("float64")

    def forward(self, images: np.ndarray, texts: np.ndarray) -> tuple[Any, Any]:
        return l2_normalize(self.image(images)), l2_normalize(self.text(texts))


def gradient_errors(ranks: int = 4, pairs: int = 3, seed: int = 0) -> dict[str, dict[str, float]]:
    """Return of each scheme, with `ranks` ranks of so many `pairs`, the relative errors of the gradients of "encoders" and "scale".

    "length" is how long the encoders' gradient is along the true one: 1 where it is right.
    """
    rng = np.random.default_rng(seed)
    images, texts = rng.standard_normal((2, ranks * pairs, 6))

    def whole() -> dict[str, np.ndarray]:
        model = _Encoders(np.random.default_rng(seed), 6)
        I, T = model(images, texts)
        local_itc_loss(I, T, model.scale).backward()
        return _flat(model)

    true, found = whole(), {}
    for name, scheme in SCHEMES.items():
        step = simulate(ranks, partial(_step, scheme, images, texts, seed))[0]
        found[name] = {
            part: float(np.linalg.norm(step[part] - true[part]) / np.linalg.norm(true[part]))
            for part in true
        }
        found[name]["length"] = float(
            step["encoders"] @ true["encoders"] / (true["encoders"] @ true["encoders"])
        )
    return found


def _step(
    scheme: Scheme, images: np.ndarray, texts: np.ndarray, seed: int, ranks: Communicator
) -> dict[str, np.ndarray]:
    """Return the gradients that a rank is left with."""
    model = _Encoders(np.random.default_rng(seed), 6)
    b = len(images) // ranks.size
    first = ranks.rank * b
    own = slice(first, first + b)
    I, T = model(images[own], texts[own])
    gather = _gather(scheme, ranks, own)
    if (
        scheme.asks == "own"
    ):  # a rank's loss is the mean over its own rows, size times its share of the whole
        loss = local_itc_loss(I, T, model.scale, first, gather) * ranks.size
    else:
        loss = local_itc_loss(gather(I), gather(T), model.scale)
    loss.backward()
    gradients = _flat(model)
    summed = dict(zip(gradients, ranks.all_reduce(list(gradients.values())), strict=True))
    mean = {part: total / ranks.size for part, total in summed.items()}
    return mean if scheme.encoders == "averaged" else mean | {"encoders": summed["encoders"]}


def _gather(scheme: Scheme, ranks: Communicator, own: slice) -> Callable[[Any], Any]:
    with_gradient = gather_over(ranks)

    def gather(x: Any) -> Any:
        if scheme.through == "all":
            return with_gradient(x)
        everyone = Tensor(with_gradient(x).data)
        return (
            everyone
            if scheme.through == "none"
            else np.concatenate([everyone[: own.start], x, everyone[own.stop :]])
        )

    return gather


def _flat(model: _Encoders) -> dict[str, np.ndarray]:
    return {
        "encoders": np.concatenate(
            [model.image.weight.grad.ravel(), model.text.weight.grad.ravel()]
        ),
        "scale": model.scale.grad.reshape(1),
    }


def table(ranks: int = 4, pairs: int = 3) -> list[str]:
    """Return the table as the lines of a page, errors as percentages of the true gradient's length."""
    lines = [
        f"| {ranks} ranks of {pairs} pairs | error, encoders | length, encoders | error, scale |",
        "|---|---|---|---|",
    ]
    for name, one in gradient_errors(ranks, pairs).items():
        cells = [
            "exact" if one[part] < 1e-12 else f"{one[part]:.0%}" for part in ("encoders", "scale")
        ]
        lines.append(f"| {name} | {cells[0]} | {one['length']:.3f} | {cells[1]} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
