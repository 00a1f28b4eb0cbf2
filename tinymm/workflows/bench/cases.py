"""What the benchmark measures, in sizes alone: every side reads the same list, and none of them is imported here."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Contrast:
    """A CLIP of two transformers, its loss and AdamW: pictures of `side` pixels, texts of `context` tokens, one `width` throughout.

    `what` names what is timed: a training "step", the "fwd" pass with the loss and without a
    memory, the "image" encoder alone.
    """

    side: int
    patch: int
    width: int
    layers: int
    heads: int
    context: int
    vocabulary: int
    batch: int = 64
    what: tuple[str, ...] = ("step", "fwd")


@dataclass(frozen=True)
class Loss:
    """The contrastive loss of n pairs with given features of one width, and its gradient: the part of a step that grows with n²."""

    n: int
    width: int = 128


@dataclass(frozen=True)
class Decode:
    """A language model that goes on with a prompt, greedily, word by word over remembered keys and values; times are those of one word."""

    batch: int
    width: int = 256
    layers: int = 6
    heads: int = 4
    vocabulary: int = 2000
    prompt: int = 16
    new: int = 64


Case = Contrast | Loss | Decode

W1 = Contrast(32, 4, 128, 4, 4, 16, 1000)
W2 = Contrast(64, 8, 256, 6, 4, 32, 2000)
#: OpenAI's ViT-B/32, whose text tower is not run here and is kept small.
B32 = Contrast(224, 32, 768, 12, 12, 8, 100, what=("image",))

#: Name on the command line → the cases that it stands for, each with the name of its lines. A
#: growth has one number more in each.
CASES: dict[str, dict[str, Case]] = {
    "W1": {"W1": W1},
    "W2": {"W2": W2},
    "inference": {f"ViT-B/32 x{n}": replace(B32, batch=n) for n in (1, 32)},
    "decoding": {f"decoding x{n}": Decode(n) for n in (1, 8)},
    "batch": {
        f"batch {n}": replace(W1, batch=n, what=("step",)) for n in (8, 16, 32, 64, 128, 256)
    },
    "width": {
        f"width {n}": replace(W1, width=n, batch=16, what=("step",))
        for n in (32, 64, 128, 256, 512)
    },
    "sequence": {
        f"sequence {(32 // n) ** 2 + 1}": replace(W1, patch=n, batch=16, what=("step",))
        for n in (16, 8, 4, 2)
    },
    "loss": {f"loss {n}": Loss(n) for n in (256, 512, 1024, 2048, 4096)},
}
#: What is drawn as a curve: how the time grows with one number.
GROWTHS = ("batch", "width", "sequence", "loss")


def case_named(line: str) -> Case:
    """Return the case of one name of lines, such as "W1" or "batch 128".

    >>> case_named("loss 1024")
    Loss(n=1024, width=128)
    """
    return {name: case for group in CASES.values() for name, case in group.items()}[line]
