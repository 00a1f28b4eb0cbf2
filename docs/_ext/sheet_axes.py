"""The cheat sheet of NumPy's axes: each line is evaluated, and so are the mistakes."""

import html

import numpy as np

from tinymm import Tensor

#: Lines and what is to be said of them.
LINES = {
    "x.sum()": "all axes go", "x.sum(axis=0)": "the one that is named", "x.sum(axis=-1)": "the last one", "x.sum(axis=(0, 1))": "two of them",
    "x.mean(axis=-1, keepdims=True)": "stays as 1, and broadcasts back", "x.argmax(axis=-1)": "where, not how much", "np.sort(x, axis=1)": "",
    "x[0]": "a number takes an axis away", "x[:, None]": "`None` brings one of 1", "x[..., 0]": "", "x[:, 1:]": "a slice keeps it", "x[:, ::-1]": "",
    "x[x > 0]": "flat, as many as are true", "x[[0, 1, 1]]": "rows by number, also twice", "x.reshape(6, 4)": "the same numbers in order",
    "x.reshape(2, -1)": "−1: what is left",
    "x.swapaxes(-1, -2)": "a transpose for each of a batch", "np.moveaxis(x, -1, 0)": "channels to the front",
    "np.stack([x, x])": "a new axis", "np.concatenate([x, x], axis=1)": "an old one, longer", "x + y": "aligned from the right",
    "x * y[None, :]": "the same, written out", "x @ y": "the last axis goes", "x @ w": "last with last but one",
    "x @ x.swapaxes(-1, -2)": "who looks at whom", "np.einsum('btd,de->bte', x, w)": "d goes, e comes",
    "np.take_along_axis(x, i, axis=-1)": "one of each row", "np.broadcast_to(y, x.shape)": "nothing is copied",
    "np.linalg.norm(x, axis=-1)": "lengths of rows", "x.reshape(2, 3, 2, 2).swapaxes(1, 2)": "(B, T, D) to (B, H, T, Dh)",
}  # fmt: skip
MISTAKES = ("x + w", "w @ x", "x.reshape(5, 5)", "np.concatenate([x, y], axis=0)")

INTRODUCTION = """# Cheat sheet: NumPy's axes

{.sheet}
`x` is (2, 3, 4), `y` (4,), `w` (4, 5), `i` (2, 3, 1). An axis counts from 0, or from the end as −1; shapes are aligned **from the right**, and a
length of 1 stretches. Every line was run when this page was made.

| code | gives | | code | gives | |
|---|---|---|---|---|---|
"""
END = """
Backward, what was stretched is summed: in `np.sum(x + y)` the gradient of `y` has its shape, `{shape}`, and each entry is {entry:g} = 2 · 3. An op's
axes here are in NumPy's own notation, `(m,k),(k,n)->(m,n)`. Pictures are (B, h, w, c), texts (B, T), rows of features (B, T, D).
"""


def sheet() -> str:
    """Return the page."""
    rng = np.random.default_rng(0)
    names = {
        "np": np,
        "x": rng.normal(size=(2, 3, 4)),
        "y": rng.normal(size=(4,)),
        "w": rng.normal(size=(4, 5)),
        "i": np.zeros((2, 3, 1), int),
    }
    cells = [
        f"`{line}` | `{np.shape(eval(line, dict(names)))}` | {said}" for line, said in LINES.items()
    ]  # noqa: S307 (our own lines)
    half = len(cells) // 2
    text = INTRODUCTION + "".join(
        f"| {left} | {right} |\n" for left, right in zip(cells[:half], cells[half:], strict=True)
    )
    text += "\n## What goes wrong, as NumPy says it\n\n| code | error |\n|---|---|\n"
    for line in MISTAKES:
        try:
            eval(line, dict(names))  # noqa: S307
        except ValueError as error:
            text += f"| `{line}` | {html.escape(str(error).strip())} |\n"
    y = Tensor(names["y"], requires_grad=True)
    np.sum(names["x"] + y).backward()
    return text + END.format(shape=y.grad.shape, entry=y.grad[0])
