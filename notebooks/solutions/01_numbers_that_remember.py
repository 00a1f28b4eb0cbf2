# %% [markdown]
# # Exercises 1 · Numbers that remember
#
# Write Python and NumPy. Each task is followed by its check. After a pass it prints `holds:` and the codes of the properties (a plain `assert` prints
# nothing); else it says which property broke, on which input, and why that matters. Hints are folded; open one at a time.

# %%
import numpy as np

from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** y = x·x + x, at x = 3. Which three amounts are added to the gradient of x, in any order? Assign them to `amounts`, a list.

# %% solution="1-puzzle-1"
### BEGIN SOLUTION: the product has two links to x, the sum one more
amounts = [3, 3, 1]
### END SOLUTION

# %% test="1-puzzle-1-check" points=1
assert sorted(amounts) == [1, 3, 3], f"2x + 1 is 7 at 3, in three parts, and {amounts} came"

# %% [markdown]
# **Puzzle 2.** b = a + a, c = b + b, d = c + c: how many *paths* lead from d to a, and how many *links* does one walk back pass?
# Assign two numbers: `paths, passed`.

# %% solution="1-puzzle-2"
### BEGIN SOLUTION: two ways at each of three steps; two links at each step
paths, passed = 8, 6
### END SOLUTION

# %% test="1-puzzle-2-check" points=1
assert (paths, passed) == (2**3, 2 * 3), "paths multiply, links add: this is why the walk waits for all users of a number"

# %% [markdown]
# ## 1a · Two vjps
#
# A vjp takes the gradient `g` of the result and the input, and returns the gradient of the input: write those of x³·⁵ and of tanh, for positive x.
#
# <details><summary>Hint 1: the idea</summary>Both ops work on each number by itself: the gradient is g times the slope, number by number.</details>
# <details><summary>Hint 2: the formula</summary>(xⁿ)′ = n·xⁿ⁻¹, and tanh′ = 1 − tanh².</details>
# <details><summary>Hint 3: the first line</summary>for the power, <code>slope = 3.5 * x ** (3.5 - 1)</code>; then multiply.</details>

# %% solution="1a"
def vjps(g, x):
    """Return two gradients of x: of a result x ** 3.5 whose gradient is g, and of a result tanh(x) whose gradient is g."""
    ### BEGIN SOLUTION: g times the slope of the power, and g times that of tanh
    return g * 3.5 * x**2.5, g * (1 - np.tanh(x) ** 2)
    ### END SOLUTION

# %% test="1a-power" points=2
check.vjp(lambda x: x**3.5, lambda g, x: vjps(g, x)[0], domain=(0.5, 2.0))

# %% test="1a-tanh" points=2
check.vjp(np.tanh, lambda g, x: vjps(g, x)[1], domain=(0.1, 2.0))

# %% [markdown]
# ## 1b · Backward over any graph
#
# A graph is given as `made_of[i] = [(j, slope), …]` for the numbers 0 … n−1, in the order in which they were made (so j < i); the last is the result.
# Return the gradients of all of them as a list. The check compares with the sum over all paths, and then asks for a chain of 10,000 links.
#
# <details><summary>Hint 1: the idea</summary>The order is given: go through it from the end. When you come to i, all its users have been there.</details>
# <details><summary>Hint 2: the formula</summary>gradient[j] += gradient[i] · slope, for every link of i.</details>
# <details><summary>Hint 3: the first line</summary>A list of zeros, with a one at the end: the slope of the result with respect to itself.</details>

# %% solution="1b"
def all_gradients(made_of):
    """Return the slope of the last number with respect to each."""
    ### BEGIN SOLUTION: from the end, and add
    gradients = [0.0] * len(made_of)
    gradients[-1] = 1.0
    for i in reversed(range(len(made_of))):
        for j, slope in made_of[i]:
            gradients[j] += gradients[i] * slope
    return gradients
    ### END SOLUTION

# %% test="1b-paths" points=3
def by_paths(made_of, i, j):
    return float(i == j) + sum(slope * by_paths(made_of, k, j) for k, slope in made_of[i] if k >= j)


rng = np.random.default_rng(0)
for n in (1, 2, 3, 5, 8):
    made_of = [[(int(rng.integers(i)), float(rng.normal())) for _ in range(rng.integers(3))] if i else [] for i in range(n)]
    expected = [by_paths(made_of, n - 1, j) for j in range(n)]
    found = all_gradients(made_of)
    assert np.allclose(found, expected), f"of the graph {made_of} the sum over paths is {expected}, and {found} came"

# %% test="1b-deep" points=1
assert all_gradients([[]] + [[(i, 1.0)] for i in range(10_000)])[0] == 1.0, "a chain of 10,000 links has the slope 1"

# %% [markdown]
# ## 1c · A central difference
#
# `central_difference(f, x, h)` returns (f(x+h) − f(x−h)) / 2h. Its error falls by 100 when h falls tenfold, as long as rounding does not matter.
#
# <details><summary>Hint 1: the idea</summary>Both sides, or the error falls only by 10: that of a one-sided difference is h/2·f″.</details>
# <details><summary>Hint 2: the formula</summary>It is in the sentence above; mind the parentheses around 2h.</details>
# <details><summary>Hint 3: the first line</summary><code>rise = f(x + h) - f(x - h)</code>; then divide by the run.</details>

# %% solution="1c"
def central_difference(f, x, h):
    """Return the slope of f at x, measured over 2h."""
    ### BEGIN SOLUTION: both sides
    return (f(x + h) - f(x - h)) / (2 * h)
    ### END SOLUTION

# %% test="1c-order" points=2
for x in (-1.0, 0.3, 2.0):
    coarse, fine = (abs(central_difference(np.exp, x, h) - np.exp(x)) for h in (1e-1, 1e-2))
    assert 95 < coarse / fine < 105, f"at {x} the error falls by {coarse / fine:.3g} instead of 100 from h = 0.1 to 0.01"

# %% [markdown]
# ## Open question
#
# A network trains well with the slip `=` of the notebook. Which parts of which models of this course would suffer most from it, and which single test,
# on one number, would have found it?

# %% [markdown] answer="1d" points=2
# *Your answer, in three sentences:*
