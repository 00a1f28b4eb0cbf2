# %% [markdown]
# # 1 · Numbers that remember
#
# | | |
# |---|---|
# | **Time** | 30 min to read, 50 min with the exercises |
# | **Needs** | the chain rule; NumPy's arrays |
# | **Gives** | reverse-mode differentiation, by hand, in one screen of Python, and as tinymm has it |
# | **Source** | Rumelhart, Hinton & Williams 1986: "the error … is propagated backwards"; the graph walk is Linnainmaa's (1970) |
# | **Track** | main |
# | **Edition** | tinymm 0.1.0 |
#
# Every model of this course is trained by one idea: a number that remembers how it was made can tell how it would change if its ingredients did.
# This notebook builds that idea on one screen, draws it, breaks it, and then opens the engine that carries the other thirteen.

# %%
import inspect

import numpy as np

from tinymm import Tensor
from tinymm.autodiff import gradcheck, ops
from tinymm.losses import cross_entropy_loss
from tinymm.testing import check
from tinymm.viz import charts, tables
from tinymm.viz.graph import graph
from tinymm.viz.widgets import lesson

lesson.edition("0.1.0")

# %% [markdown]
# ## In one screen
#
# A number holds its value and its *links*: what it was made of, each with a slope. A product a·b changes by b for each unit of a, and by a for each
# unit of b. Nothing else has to be remembered.

# %%
class Number:
    def __init__(self, value, links=()):
        self.value, self.links, self.gradient = value, links, 0.0

    def __add__(self, other):
        return Number(self.value + other.value, [(self, 1.0), (other, 1.0)])

    def __sub__(self, other):
        return Number(self.value - other.value, [(self, 1.0), (other, -1.0)])

    def __mul__(self, other):
        return Number(self.value * other.value, [(self, other.value), (other, self.value)])


# %% [markdown]
# Going back, each number hands its gradient through its slopes to what it was made of. It may do so only when everybody who used it has reported:
# that is why numbers are first put in the order in which they were made, and then taken from the end.

# %%
def go_back(result):
    made, seen = [], set()

    def look(number):
        if number not in seen:
            seen.add(number)
            for ingredient, _ in number.links:
                look(ingredient)
            made.append(number)

    look(result)
    return made


# %%
def differentiate(result, add=True):
    made = go_back(result)
    result.gradient = 1.0
    for number in reversed(made):
        for ingredient, slope in number.links:
            arrived = number.gradient * slope
            ingredient.gradient = ingredient.gradient + arrived if add else arrived


# %% [markdown]
# **Predict.** For a = 2, b = 3, c = 1, what is the slope of (a·b + c)·(a − c) with respect to a? Use the product rule; a stands in both factors.

# %%
guess_slope = None  # a number

# %%
a, b, c = Number(2.0), Number(3.0), Number(1.0)
differentiate((a * b + c) * (a - c))
lesson.predicted("slope with respect to a", guess_slope, a.gradient)

# %% [markdown]
# The picture shows the same walk, made by tinymm's engine. Values stand above the circles and gradients below. On each arrow stand two numbers: its place in
# the order in which gradients are handed back, from the result at the right to the leaves at the left, and the amount that it adds.

# %%
leaves = {name: Tensor(value, requires_grad=True) for name, value in (("a", 2.0), ("b", 3.0), ("c", 1.0))}
x, y, z = leaves.values()
lesson.show(graph((x * y + z) * (x - z), leaves, title="a and c are used twice: their two gradients add"))

# %% [markdown]
# **One sweep gives all slopes.** The walk passed every arrow once and found three of them. Forward, with one question at a time, it would have
# taken three walks; a model with a million weights would need a million. That is why everything here goes backward.
#
# ## Is it right? Ask a difference
#
# A slope can be measured: move a little to both sides and divide. How little?
#
# **Predict.** The error of (f(x+h) − f(x−h)) / 2h for f = tanh at x = 1: for which h is it smallest? Answer by the exponent of ten.

# %%
guess_exponent = None  # such as -3

# %%
steps = [10.0**-k for k in range(1, 13)]
exact = 1 - np.tanh(1.0) ** 2
errors = [abs((np.tanh(1 + h) - np.tanh(1 - h)) / (2 * h) - exact) + 1e-17 for h in steps]
best = steps[int(np.argmin(errors))]
lesson.predicted("exponent of the best step", guess_exponent, int(round(np.log10(best))))

# %%
lesson.show(
    charts.lines({"central difference": (steps, errors)}, references={"rounding of the slope": 1e-16}, log="xy", x="step h", y="error of the slope",
                 title="Too large a step bends, too small a step rounds: the best lies in between")
)  # fmt: skip

# %% [markdown]
# On the right the curve's own bend is measured, and the error falls by 100 each time the step is divided by ten. On the left two nearly equal numbers are
# subtracted, and only their rounding is left. Near 10⁻⁵ both are small: `gradcheck` uses that, in float64, in a random direction.

# %%
rng = np.random.default_rng(0)
gradcheck(lambda u, v: np.sum(np.tanh(u @ v)), rng.normal(size=(3, 4)), rng.normal(size=(4, 2)), rng=rng)
print("gradcheck of Σ tanh(u @ v): no complaint")

# %% [markdown]
# ## The experiment: a wrong gradient that "works"
#
# One slip is made by nearly everybody who writes this the first time: `gradient = …` where it should say `gradient += …`. On a chain of ops nobody
# notices. Where a number is used twice, what came first is lost.
#
# **Predict.** A small network with a shortcut, h + relu(h W), learns to tell eight kinds of noisy vectors apart. Its shortcut's gradient is
# lost to that slip. Right, it is correct in more than 9 cases of 10. And with the slip?

# %%
guess_accuracy = None  # a share between 0 and 1

# %%
draws = np.random.default_rng(1)
K, D = 8, 24
centers = draws.normal(size=(K, D))


def vectors(n):
    labels = draws.integers(0, K, n)
    return (centers[labels] * draws.choice([-1.0, 1.0], size=(n, 1)) + 0.9 * draws.normal(size=(n, D))), labels


train_x, train_y = vectors(2000)
test_x, test_y = vectors(1000)
print(f"{K} kinds of vectors, each in two opposite signs, so that no single layer can tell them apart")

# %%
def network(weights, x, slip):
    first, second, third = weights
    h = ops.relu(x @ first)
    shortcut = h.detach() if slip else h  # the same numbers, without their links: what is overwritten never arrives
    return (shortcut + ops.relu(h @ second)) @ third


# %%
def fitted(slip, frozen=False, rate=0.3, updates=400):
    seeded = np.random.default_rng(2)
    weights = [Tensor(seeded.normal(size=s) / np.sqrt(s[0]), requires_grad=not frozen or s[1] == K) for s in ((D, 48), (48, 48), (48, K))]
    losses = []
    for _ in range(updates):
        rows, gradients = seeded.integers(0, len(train_x), 64), {}
        loss = cross_entropy_loss(network(weights, train_x[rows], slip), train_y[rows])
        loss.backward(into=gradients)  # {weight: gradient}, instead of w.grad
        for w, g in gradients.items():
            w.data = w.data - rate * g
        losses.append(loss.item())
    return float((network(weights, test_x, slip).data.argmax(axis=1) == test_y).mean()), losses


# %%
runs = {"right: +=": fitted(False), "slip: =": fitted(True), "control: only the last layer learns": fitted(False, frozen=True)}
found = {name: accuracy for name, (accuracy, _) in runs.items()}
lesson.predicted("accuracy with the slip", guess_accuracy, found["slip: ="])
rows = [[name, np.mean(losses[:10]), np.mean(losses[-50:])] for name, (_, losses) in runs.items()]
print(tables.table(["", "loss, first 10 updates", "loss, last 50"], rows))

# %%
lesson.show(charts.bars(found, references={"chance": 1 / K}, unit="accuracy on new vectors", title="A wrong gradient learns nearly as well: a falling loss proves nothing"))

# %% [markdown]
# The loss fell, the accuracy is fine, and the gradient is wrong. This is the course's theme, and the reason for its tests: what a model *can do* is
# weak evidence about what its code *does*. The scalar engine shows the slip in one line:

# %%
a, b, c = Number(2.0), Number(3.0), Number(1.0)
differentiate((a * b + c) * (a - c), add=False)
print(tables.table(["", "slope of a"], [["by +=", 10.0], ["by =", a.gradient], ["by differences", ((2.1 * 3 + 1) * 1.1 - (1.9 * 3 + 1) * 0.9) / 0.2]]))

# %% [markdown]
# ## The same in tinymm
#
# A `Tensor` is our `Number` with an array inside, and a link's slope is a function: it takes the gradient of the result and gives that of the input, a
# *vector–Jacobian product*. Two things are done with more care than above: the walk is a loop, since Python's recursion ends after a thousand calls, and
# it counts users instead of sorting, so that memory is freed on the way.

# %%
print(inspect.getsource(inspect.getmodule(Tensor.backward).backward))

# %% [markdown]
# **Predict.** A chain of 10,000 additions of 1: what is the gradient of the leaf at its end? (Our own `go_back` would stop with a RecursionError.)

# %%
guess_depth = None  # a number

# %%
leaf = Tensor(1.0, requires_grad=True)
chain = leaf
for _ in range(10_000):
    chain = chain + 1.0
chain.backward()
lesson.predicted("gradient at the end of 10,000 links", guess_depth, float(leaf.grad))

# %% [markdown]
# ## Break it
#
# Whoever writes an op gives its vjp by hand. This one, of x³, forgot the factor 3. `check.vjp` asks differences at a random point, in a random direction,
# against a random cotangent, and says what it found. Switch `FORGOT` off and run it again.

# %%
FORGOT = True
cube = lambda x: x * x * x  # noqa: E731
lesson.caught(lambda: check.vjp(cube, lambda g, x: g * x * x * (1 if FORGOT else 3)))

# %%
lesson.caught(lambda: check.vjp(np.tanh, lambda g, x: g * (1 - np.tanh(x) ** 2)))

# %% [markdown]
# ## What you may now say
#
# - A result remembers its ingredients with a slope each; one walk back, each number after all its users, gives every slope at once.
# - Where a number is used twice its gradients add. With `=` instead of `+=` the slope of a was wrong, and the network learned nearly as well.
# - A slope is checked by a central difference in float64 with h near 10⁻⁵, at a random point.
#
# **What you may not say.** That a model which learns has right gradients. And that this engine could differentiate its own gradients: it is first
# order only, because none of the papers needs more.
#
# ## Read the source
#
# [autodiff/tensor.py](../tinymm/autodiff/tensor.py) · [autodiff/backward.py](../tinymm/autodiff/backward.py) ·
# [autodiff/verify.py](../tinymm/autodiff/verify.py) · [testing/check/__init__.py](../tinymm/testing/check/__init__.py) · [viz/graph.py](../tinymm/viz/graph.py)
#
# ## Exercises
#
# [Exercises 1](solutions/01_numbers_that_remember.py) (your copy without solutions: `python -m tinymm exercises --student my_exercises --only 01`):
# two puzzles, **1a** the vjps of a power and of tanh, **1b** backward over any graph, **1c** a central difference, and an open question.
