# %% [markdown]
# # Exercises 3 · Declare an op
#
# Write NumPy. Each task is followed by its check. After a pass it prints `holds:` and the codes of the properties (a plain `assert` prints nothing);
# else it says which property broke, on which input, and why that matters. Hints are folded; open one at a time.

# %%
import numpy as np

from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** A (2, 1, 3) and a (4, 1) array are added, and the result's gradient is all ones. What is every entry of the gradient of each?
# Assign two numbers: `of_first, of_second`.

# %% solution="3-puzzle-1"
### BEGIN SOLUTION: how often each number was copied
of_first, of_second = 4, 6
### END SOLUTION

# %% test="3-puzzle-1-check" points=1
assert np.broadcast_shapes((2, 1, 3), (4, 1)) == (2, 4, 3), "the table has 24 cells"
assert (of_first * 6, of_second * 4) == (24, 24), "each of the 24 cells gives its gradient to one number of each array"

# %% [markdown]
# **Puzzle 2.** Write the gufunc signature of an op that takes a batch of row vectors of n numbers and a bias of n numbers, and gives one number a row.
# Assign a string: `signature`.

# %% solution="3-puzzle-2"
### BEGIN SOLUTION: only the last axis has a name; the batch broadcasts
signature = "(n),(n)->()"
### END SOLUTION

# %% test="3-puzzle-2-check" points=1
assert np.vectorize(lambda x, b: (x + b).sum(), signature=signature)(np.ones((5, 3)), np.ones(3)).shape == (5,), "the batch stands in front"

# %% [markdown]
# ## 3a · Unit vectors
#
# `unit(x)` divides each row of x (m, n) by its length, and `unit_vjp(g, x)` takes the gradient back. A unit vector cannot grow: its gradient with respect
# to x has no part along x.
#
# <details><summary>Hint 1: the idea</summary>The length is made of x too: what g has along the unit vector u is taken away, and the rest divided by the length.</details>
# <details><summary>Hint 2: the formula</summary>dx = (g − u·Σ(g u)) / |x|, sums along each row.</details>
# <details><summary>Hint 3: the first line</summary>The length keeps its axis: <code>keepdims=True</code>.</details>

# %% solution="3a"
def unit_and_vjp(g, x):
    """Return (unit rows of x, the gradient of x for a gradient g of them)."""
    ### BEGIN SOLUTION: subtract what lies along u, divide by the length
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    u = x / length
    return u, (g - u * (g * u).sum(axis=-1, keepdims=True)) / length
    ### END SOLUTION

# %% test="3a-vjp" points=3
check.vjp(lambda x: unit_and_vjp(x, x)[0], lambda g, x: unit_and_vjp(g, x)[1], domain=(0.2, 2.0))

# %% test="3a-along" points=1
rng = np.random.default_rng(0)
g, x = rng.normal(size=(2, 4, 5))
assert np.abs((unit_and_vjp(g, x)[1] * x).sum(axis=1)).max() < 1e-12, "Σ dx·x is 0 in each row: a longer x is the same unit vector"

# %% [markdown]
# ## 3b · A sum of exponentials
#
# `log_add(a, b)` returns ln(eᵃ + eᵇ), finite and right from −10³ to 10³, and `log_add_vjp(g, a, b)` the gradients of both. (NumPy has `logaddexp`; do it
# without.)
#
# <details><summary>Hint 1: the idea</summary>Take the larger one out first: it then contributes e⁰, and the other at most as much.</details>
# <details><summary>Hint 2: the formula</summary>m + ln(1 + e^−|a−b|) with m the larger; the slopes are e^(a−y) and e^(b−y).</details>
# <details><summary>Hint 3: the first line</summary><code>np.log1p</code> is exact where 1 + small would round.</details>

# %% solution="3b"
def log_add(a, b):
    """Return ln(eᵃ + eᵇ)."""
    ### BEGIN SOLUTION: the larger one, and what the other adds
    return np.maximum(a, b) + np.log1p(np.exp(-np.abs(a - b)))
    ### END SOLUTION

# %% test="3b-value" points=2
for a, b in ((0.0, 0.0), (1000.0, 1000.0), (-1000.0, -1001.0), (1000.0, -1000.0)):
    found, right = log_add(np.float64(a), np.float64(b)), np.logaddexp(a, b)
    assert np.isfinite(found) and abs(found - right) < 1e-9, f"ln(e^{a} + e^{b}) is {right}, and {found} came"

# %% test="3b-slopes" points=2
check.vjp(log_add, lambda g, a, b: (g * np.exp(a - log_add(a, b)), g * np.exp(b - log_add(a, b))), signature="(n),(n)")

# %% [markdown]
# ## 3c · The maximum, with ties
#
# `max_vjp(g, x)` returns the gradient of x (m, n) for a gradient g (m,) of the largest number of each row. Where several are the largest, they share
# it evenly.
#
# <details><summary>Hint 1: the idea</summary>Who is the largest? A boolean array says it; count its True ones in each row.</details>
# <details><summary>Hint 2: the formula</summary>dx = g · is_top / Σ is_top.</details>
# <details><summary>Hint 3: the first line</summary><code>is_top = x == x.max(axis=1, keepdims=True)</code></details>

# %% solution="3c"
def max_vjp(g, x):
    """Return the gradient of x (m, n); the largest of each row share that row's g (m,) evenly."""
    ### BEGIN SOLUTION: who is the largest, and how many are
    winners = x == np.max(x, axis=1, keepdims=True)
    return g[:, None] * winners / winners.sum(axis=1, keepdims=True)
    ### END SOLUTION

# %% test="3c-form" points=1
assert max_vjp(np.ones(2), np.array([[1.0, 2.0], [3.0, 3.0]])).tolist() == [[0.0, 1.0], [0.5, 0.5]], "two equal ones share evenly"

# %% test="3c-sum" points=1
rng = np.random.default_rng(1)
g, x = rng.normal(size=6), rng.integers(0, 3, (6, 8)).astype(float)
assert np.abs(max_vjp(g, x).sum(axis=1) - g).max() < 1e-12, "what comes in goes out: the gradients of a row sum to its g"

# %% test="3c-slope" points=2
rng = np.random.default_rng(2)
check.vjp(lambda x: x.max(axis=1), max_vjp)

# %% [markdown]
# ## Open question
#
# An op's vjp is right for every float64 input that you tried, and a training in float32 diverges. Name two ways in which a *right* formula can be a bad
# rule, with an example of each from this notebook or its exercises.

# %% [markdown] answer="3d" points=2
# *Your answer, in three sentences:*
