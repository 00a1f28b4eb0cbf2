# %% [markdown]
# # Exercises 2 · NumPy asks us
#
# Write small classes. Each task is followed by its check. After a pass it prints `holds:` and the codes of the properties (a plain `assert` prints
# nothing); else it says what was expected and what came. Hints are folded; open one at a time.

# %%
import numpy as np

from tinymm import Tensor
from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** For each of `np.sqrt`, `np.concatenate`, `np.matmul`, `np.mean`: does NumPy ask `__array_ufunc__` (True) or `__array_function__` (False)?
# Assign a list of four: `is_ufunc`.

# %% solution="2-puzzle-1"
### BEGIN SOLUTION: a ufunc has an attribute that tells it
is_ufunc = [True, False, True, False]
### END SOLUTION

# %% test="2-puzzle-1-check" points=1
assert is_ufunc == [isinstance(f, np.ufunc) for f in (np.sqrt, np.concatenate, np.matmul, np.mean)], "isinstance(f, np.ufunc) tells"

# %% [markdown]
# **Puzzle 2.** `t = Tensor([1.0, 2.0, 3.0], requires_grad=True)`: what is the gradient of `np.sum(np.float64(2) - t)` with respect to t?
# Assign a list of three numbers: `gradient`.

# %% solution="2-puzzle-2"
### BEGIN SOLUTION: each element enters with a minus
gradient = [-1.0, -1.0, -1.0]
### END SOLUTION

# %% test="2-puzzle-2-check" points=1
t = Tensor([1.0, 2.0, 3.0], requires_grad=True)
np.sum(np.float64(2) - t).backward()
assert list(t.grad) == list(gradient), "a NumPy number on the left asks too"

# %% [markdown]
# ## 2a · An array that keeps a diary
#
# `Diary(values)` answers every ufunc call with a new Diary of the result, and writes the ufunc's name into `Diary.log`, once a call. Inputs may be
# Diaries, arrays and numbers, in any order. Its values are in `.values`.
#
# <details><summary>Hint 1: the idea</summary>Unpack, let NumPy compute on plain arrays, pack again.</details>
# <details><summary>Hint 2: the formula</summary>values = getattr(ufunc, method)(*unpacked, **options).</details>
# <details><summary>Hint 3: the first line</summary><code>plain = [x.values if isinstance(x, Diary) else x for x in inputs]</code>, after the log has its name.</details>

# %% solution="2a"
class Diary:
    log = []

    def __init__(self, values):
        self.values = np.asarray(values)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        ### BEGIN SOLUTION: log, unpack, compute, pack
        Diary.log.append(ufunc.__name__)
        bare = [x.values if isinstance(x, Diary) else x for x in inputs]
        return Diary(getattr(ufunc, method)(*bare, **options))
        ### END SOLUTION

# %% test="2a-values" points=3
rng = np.random.default_rng(0)
for name in ("exp", "tanh", "negative", "add", "multiply", "maximum", "subtract"):
    ufunc = getattr(np, name)
    arrays = [rng.normal(size=(3, 2)) for _ in range(ufunc.nin)]
    Diary.log.clear()
    found = ufunc(*(Diary(a) if i == 0 or rng.random() < 0.5 else a for i, a in enumerate(arrays)))
    assert isinstance(found, Diary) and np.array_equal(found.values, ufunc(*arrays)), f"np.{name} gives other values through a Diary"
    assert Diary.log == [name], f"one call of np.{name} is one entry, and the log says {Diary.log}"

# %% test="2a-right" points=1
Diary.log.clear()
assert np.array_equal(np.add(np.ones(3), Diary([1, 2, 3])).values, [2, 3, 4]) and Diary.log == ["add"], "a Diary on the right is asked as well"

# %% [markdown]
# ## 2b · An operand on either side
#
# `Slope(value, slope)` is a number with its derivative with respect to one variable. Make `x - s` and `s - x` work for plain numbers, NumPy's numbers and
# other Slopes, by answering `np.subtract`.
#
# <details><summary>Hint 1: the idea</summary>NumPy hands the inputs over in the order in which they were written. A plain number has the slope 0.</details>
# <details><summary>Hint 2: the formula</summary>(a − b)′ = a′ − b′.</details>
# <details><summary>Hint 3: the first line</summary>Turn both inputs into pairs (value, slope) first; the minus of Python comes from the mixin.</details>

# %% solution="2b"
class Slope(np.lib.mixins.NDArrayOperatorsMixin):
    def __init__(self, value, slope=0.0):
        self.value, self.slope = value, slope

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        """Answer np.subtract, and nothing else."""
        ### BEGIN SOLUTION: pairs, then the difference of both
        if ufunc is not np.subtract or method != "__call__" or options:
            return NotImplemented
        (a, da), (b, db) = ((x.value, x.slope) if isinstance(x, Slope) else (x, 0.0) for x in inputs)
        return Slope(a - b, da - db)
        ### END SOLUTION

# %% test="2b-sides" points=3
for number in (5.0, np.float64(5.0), 5):
    left, right = number - Slope(2.0, 1.0), Slope(2.0, 1.0) - number
    assert (left.value, left.slope) == (3.0, -1.0), f"{type(number).__name__} on the left: value and slope are 3, -1 and {left.value}, {left.slope} came"
    assert (right.value, right.slope) == (-3.0, 1.0), f"{type(number).__name__} on the right: -3, 1 belong here and {right.value}, {right.slope} came"
both = Slope(1.0, 2.0) - Slope(3.0, 5.0)
assert (both.value, both.slope) == (-2.0, -3.0)

# %% test="2b-slope" points=1
check.vjp(lambda x: np.float64(3) - x, lambda g, x: g * (np.float64(3) - Slope(0.0, 1.0)).slope)

# %% [markdown]
# ## 2c · A polite refusal
#
# `Shy` takes part in `np.add` with numbers and other Shys, and answers everything else, other functions and other types, with `NotImplemented`, so
# that Python raises a TypeError.
#
# <details><summary>Hint 1: the idea</summary>Look at the function and at the type of each input before you compute.</details>
# <details><summary>Hint 2: the formula</summary>all(isinstance(x, (Shy, int, float)) for x in inputs)</details>
# <details><summary>Hint 3: the first line</summary>One <code>if</code> with two reasons; it returns <code>NotImplemented</code>, and does not raise it.</details>

# %% solution="2c"
class Shy(np.lib.mixins.NDArrayOperatorsMixin):
    def __init__(self, value):
        self.value = value

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        ### BEGIN SOLUTION: two reasons to decline, then the sum
        if ufunc is not np.add or not all(isinstance(x, Shy | int | float) for x in inputs):
            return NotImplemented
        return Shy(sum(x.value if isinstance(x, Shy) else x for x in inputs))
        ### END SOLUTION

# %% test="2c-takes-part" points=1
assert (Shy(1) + 2).value == 3 and (2 + Shy(1)).value == 3 and (Shy(1) + Shy(5)).value == 6

# %% test="2c-declines" points=2
for declined in (lambda: Shy(1) * 2, lambda: np.exp(Shy(1)), lambda: Shy(1) + "2", lambda: Shy(1) + Tensor(2.0)):
    try:
        declined()
    except TypeError:
        continue
    raise AssertionError("what Shy does not know must become a TypeError")

# %% [markdown]
# ## Open question
#
# A colleague makes `Tensor` a subclass of `np.ndarray`, "so that everything works at once". Name one line of NumPy that then gives a right value and a
# wrong gradient, and say why no method of the subclass could have refused it.

# %% [markdown] answer="2d" points=2
# *Your answer, in three sentences:*
