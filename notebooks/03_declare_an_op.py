# %% [markdown]
# # 3 · Declare an op
#
# | | |
# |---|---|
# | **Time** | 30 min to read, 50 min with the exercises |
# | **Needs** | notebook 1; partial derivatives; NumPy's broadcasting |
# | **Gives** | vjps derived from a Jacobian, the gufunc notation, and a checker that is hard to fool |
# | **Source** | NumPy's generalized universal functions: the signature "(m,k),(k,n)->(m,n)"; Griewank & Walther 2008, ch. 3, for vector–Jacobian products |
# | **Track** | systems |
# | **Edition** | tinymm 0.1.0 |
#
# Everything that tinymm can differentiate is made of ops, and an op is a few lines in one place: its value, and one function for each input that takes a
# gradient back. This notebook writes one, derives another, and breaks six, to see who notices.

# %%
import numpy as np

from tinymm import Tensor
from tinymm.arrays.errors import ShapeError
from tinymm.autodiff import CATALOGUE, op, ops
from tinymm.autodiff.verify import directional_error
from tinymm.testing import check
from tinymm.viz import charts, grids, tables
from tinymm.viz.widgets import lesson

lesson.edition("0.1.0")

# %% [markdown]
# ## A rule, and what follows from it
#
# The hypotenuse of a right triangle, √(a² + b²), has the slopes a/y and b/y: the cosine and the sine of its angle. The rule works on bare arrays; it
# returns the value and then a vjp for each input.

# %%
@op("(),()->()", catalogued=False)
def hypotenuse(a, b):
    """Return √(a² + b²), the longest side of a right triangle."""
    y = np.hypot(a, b)
    return y, lambda g: g * a / y, lambda g: g * b / y


# %%
a, b = Tensor([3.0, 1.0, 3e200], requires_grad=True), Tensor([4.0, 1.0, 4e200], requires_grad=True)
y = hypotenuse(a, b)
np.sum(y).backward()
print(tables.table(["a", "b", "√(a²+b²)", "slope of a", "slope of b"], np.stack([a.data, b.data, y.data, a.grad, b.grad]).T.tolist()))

# %% [markdown]
# At 3·10²⁰⁰ a naive `np.sqrt(a * a + b * b)` would be infinite. The rule decides such things, once, for value and gradient.
#
# ## The signature is a contract
#
# `(m,k),(k,n)->(m,n)` says: the last two axes of each argument have these names, equal letters mean equal lengths, and what stands in front broadcasts.
# From it follow the check of shapes, the words of the error, and the shapes that the tests draw.

# %%
matmul = CATALOGUE["matmul"]
print(matmul)
try:
    matmul(np.ones((4, 3)), np.ones((5, 2)))
except ShapeError as error:
    print(error)

# %% [markdown]
# ## Broadcasting forward is a sum backward
#
# A column (3, 1) and a row (4,) add up to a (3, 4) table: each number is *copied* along the table. A number that is used four times gets four
# gradients, and they add. So the gradient of the column is the table of gradients, summed along each row.
#
# **Predict.** The table's gradient is g[i, j] = i + j, counted from 0. What is the gradient of the first entry of the column?

# %%
guess_column = None  # a number

# %%
column, row = Tensor(np.zeros((3, 1)), requires_grad=True), Tensor(np.zeros(4), requires_grad=True)
g = np.add.outer(np.arange(3.0), np.arange(4.0))
(column + row).backward(g)
lesson.predicted("gradient of the column's first entry", guess_column, column.grad[0, 0])

# %%
panels = {"g": g, "Σ→": column.grad, "row's gradient, copied": np.broadcast_to(row.grad, (3, 4))}
lesson.show(grids.grids(panels, ["row 0", "row 1", "row 2"], title="The table's gradient g, summed along rows and down columns"))

# %% [markdown]
# (The row's gradient has four numbers; it is drawn three times only to fit.) No rule in tinymm does that itself: the engine sums a stretched gradient back to the shape of its input. A rule may forget broadcasting altogether.
#
# ## From a Jacobian to a vjp
#
# The softmax p of n scores has the Jacobian J[i, j] = pᵢ (δᵢⱼ − pⱼ). A vjp never builds it: Jᵀg = p · (g − Σ g p), two passes over n numbers.
# The picture shows Jᵀg for g = (1, 0, 0, 0), and for g = (1, 1, 1, 1).
#
# **Predict.** What is Jᵀ·1, the softmax's vjp of a gradient of ones?

# %%
guess_ones = None  # the largest absolute number in it

# %%
x = np.array([0.5, -1.0, 2.0, 0.0])
p = np.exp(x) / np.exp(x).sum()
jacobian = np.diag(p) - np.outer(p, p)
lesson.predicted("largest number of Jᵀ·1", guess_ones, round(float(np.abs(jacobian.T @ np.ones(4)).max()), 12))

# %%
panels = {"J": jacobian, "Jᵀg": (jacobian.T @ [1, 0, 0, 0])[:, None], "Jᵀ·1": np.round(jacobian.T @ np.ones(4), 12)[:, None] + 0.0}
lesson.show(grids.grids(panels, ["x₀", "x₁", "x₂", "x₃"], title="Each row of the softmax's Jacobian sums to 0: a gradient of ones vanishes"))

# %% [markdown]
# (Rows sum to 0 up to the rounding of what is printed.) The outputs sum to 1 whatever the scores are, so the sum of all outputs has no slope. Remember this when you test: `softmax(x).sum().backward()` cannot
# tell the right vjp from zero.
#
# ## The experiment: six wrong vjps, two checkers
#
# Both checkers compare the slope along a random direction with a central difference. One takes ones (as `.sum()` does) for the *cotangent*, the gradient g that comes in
# from behind; the other a random one.
#
# **Predict.** How many of the six mistakes does the checker with ones find?

# %%
guess_caught = None  # 0 to 6

# %%
def total(g, p):
    return np.sum(g * p, axis=-1, keepdims=True)


WRONG = {
    "zero": lambda g, p: 0 * g,
    "without the sum": lambda g, p: p * g,
    "sign": lambda g, p: -p * (g - total(g, p)),
    "twice": lambda g, p: 2 * p * (g - total(g, p)),
    "p forgotten": lambda g, p: g - total(g, p),
    "mean for sum": lambda g, p: p * (g - np.mean(g * p, axis=-1, keepdims=True)),
}


# %%
def softmax_with(vjp):
    def rule(x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        p = e / e.sum(axis=-1, keepdims=True)
        return p, lambda g: vjp(g, p)

    return op(catalogued=False)(rule)


def found_by_ones(function, x, d, h=1e-5):
    leaf = Tensor(x, requires_grad=True)
    function(leaf).backward(np.ones(x.shape))
    measured = (function(x + h * d).data.sum() - function(x - h * d).data.sum()) / (2 * h)
    return abs((leaf.grad * d).sum() - measured) > 1e-6


# %%
rng = np.random.default_rng(0)
scores, along = rng.normal(size=(2, 5)), rng.normal(size=(2, 5))
rows = []
for name, vjp in {"right": lambda g, p: p * (g - total(g, p)), **WRONG}.items():
    function = softmax_with(vjp)
    rows.append([name, found_by_ones(function, scores, along), directional_error(function, (scores,), np.random.default_rng(1)) > 1e-6])
print(tables.table(["vjp", "noticed by ones", "noticed by random"], rows))
caught_by = {"cotangent of ones": sum(row[1] for row in rows[1:]), "random cotangent": sum(row[2] for row in rows[1:])}
lesson.predicted("caught by ones", guess_caught, caught_by["cotangent of ones"])

# %%
caught_by["control: the right vjp, random"] = int(rows[0][2])
lesson.show(charts.bars(caught_by, references={"mistakes planted": 6}, unit="mistakes noticed", title="A cotangent of ones misses the vjp that is zero; a random one misses nothing"))

# %% [markdown]
# The test suite of tinymm goes one step further: it breaks *every* op of the catalogue in six ways, and requires that the checks notice each.

# %%
print(f"{len(CATALOGUE)} ops in the catalogue, for example", *sorted(CATALOGUE)[:10])

# %% [markdown]
# ## Kinks
#
# `relu`, `max` and `abs` have points without a slope. A central difference across a kink measures the mean of two slopes, and a vjp that takes
# either of them cannot agree with it.
# An op therefore says where its kinks are, and the checks keep away from them. At the kink itself we choose a convention: the slope of relu at 0 is 0.

# %%
at = Tensor(np.array([-1e-9, 0.0, 1e-9]), requires_grad=True)
np.sum(ops.relu(at)).backward()
print("slopes of relu at -1e-9, 0, 1e-9:", at.grad, "· kinks that the op declares:", ops.relu.kinks)

# %% [markdown]
# ## Break it
#
# `l2_normalize` divides a row by its length. Here somebody thought of the length as a constant. It is right along the sphere and wrong across it, so that
# training seems fine. Switch `CONSTANT` off and run it again.

# %%
CONSTANT = True


def of_length_one(x):
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True))


def unit_vjp(g, x):
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    return g / length if CONSTANT else (g - of_length_one(x) * (g * of_length_one(x)).sum(axis=-1, keepdims=True)) / length


lesson.caught(lambda: check.vjp(of_length_one, unit_vjp))

# %% [markdown]
# ## What you may now say
#
# - An op is a value and a vjp for each input; the vjp applies a transposed Jacobian without building it.
# - What is copied forward is summed backward; the engine does it, so no rule does.
# - A cotangent of ones lets wrong vjps of the softmax pass; a random cotangent, a random point and a random direction let none of the six pass.
#
# **What you may not say.** That a gradient check proves a vjp: it holds at the points that were drawn, away from kinks, in float64. And that shapes
# which agree mean anything: all six wrong ones have the right shape.
#
# ## Read the source
#
# [autodiff/graph.py](../tinymm/autodiff/graph.py) · [autodiff/signature.py](../tinymm/autodiff/signature.py) ·
# [autodiff/ops/reduce.py](../tinymm/autodiff/ops/reduce.py) · [autodiff/verify.py](../tinymm/autodiff/verify.py) · [docs: add an op](../docs/add_an_op.md)
#
# ## Exercises
#
# [Exercises 3](solutions/03_declare_an_op.py) (your copy without solutions: `python -m tinymm exercises --student my_exercises --only 03`):
# two puzzles, **3a** unit vectors, **3b** a sum of exponentials that never overflows, **3c** the maximum with ties, and an open question.
