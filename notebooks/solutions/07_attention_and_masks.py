# %% [markdown]
# # Exercises 7 · Attention and masks
#
# Write NumPy. Each task is followed by its check. After a pass it prints `holds:` and the codes of the properties (a plain `assert` prints nothing);
# else it prints five lines: which property broke, what was found, the smallest input that breaks it, why it matters, and the likely mistake. Hints
# are folded; open one at a time. Rows look, columns are looked at, **True = may attend**.

# %%
import numpy as np

from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** Without running it: which tokens does token 2 see under `np.tri(5, k=-1, dtype=bool)`, and what does token 0 see?
# Assign a list each: `sees_2, sees_0`.

# %% solution="7-puzzle-1"
### BEGIN SOLUTION: k = -1 moves the diagonal one down
sees_2, sees_0 = [0, 1], []
### END SOLUTION

# %% test="7-puzzle-1-check" points=1
mask = np.tri(5, k=-1, dtype=bool)
assert [list(np.flatnonzero(mask[i])) for i in (2, 0)] == [sees_2, sees_0], "print the mask row by row and compare"

# %% [markdown]
# **Puzzle 2.** Two captions of three tokens, the last of the first one is padding. In one line, without loops, turn `is_real` into a boolean array of
# shape (2, 1, 3) that blocks the padding *column* of every row. Assign it to `columns`.

# %% solution="7-puzzle-2"
is_real = np.array([[True, True, False], [True, True, True]])
### BEGIN SOLUTION: an axis is added with None
columns = is_real[:, None, :]
### END SOLUTION

# %% test="7-puzzle-2-check" points=1
assert columns.shape == (2, 1, 3) and columns.dtype == bool, f"a boolean (2, 1, 3) array belongs here, and {columns.dtype} {columns.shape} came"
assert not (columns & np.ones((3, 3), bool))[0, :, 2].any(), "column 2 of the first caption is padding"

# %% [markdown]
# ## 7a · The causal mask
#
# `causal_mask(n)` returns a boolean (n, n) array in which each token sees itself and all that came before it.
#
# <details><summary>Hint 1: the idea</summary>Row i may look at column j if j is not later than i. Both are positions.</details>
# <details><summary>Hint 2: the formula</summary>allow[i, j] = (j ≤ i), for all i and j at once: a column of positions against a
# row of positions.</details>
# <details><summary>Hint 3: the first line</summary><code>place = np.arange(n)</code>, then compare <code>place[None, :]</code> with
# <code>place[:, None]</code>.</details>

# %% solution="7a"
def causal_mask(n):
    """Return (n, n) booleans: True where row i may look at column j."""
    ### BEGIN SOLUTION: compare the position of the column with that of the row
    place = np.arange(n)
    return place[None, :] <= place[:, None]
    ### END SOLUTION

# %% test="7a-form" points=1
check.causal_mask(causal_mask, only="M01")

# %% test="7a-core" points=3
check.causal_mask(causal_mask)

# %% test="7a-hidden" points=1
### BEGIN HIDDEN TESTS
for n in (1, 2, 77):
    assert (causal_mask(n).sum(axis=1) == np.arange(1, n + 1)).all(), "row i sees i + 1 tokens"
### END HIDDEN TESTS

# %% [markdown]
# ## 7b · The padding mask
#
# `padding_mask(is_real)` takes booleans (B, T), True for a real token, and returns booleans that broadcast to (B, 1, T, T): every row of a
# caption sees that caption's real tokens and none of its padding, wherever the padding stands. The check draws B = T often. Why?
#
# <details><summary>Hint 1: the idea</summary>Padding is blocked as something to be looked <em>at</em>: it is the columns that close.</details>
# <details><summary>Hint 2: the formula</summary>allow[b, ·, i, j] = is_real[b, j]; i does not occur.</details>
# <details><summary>Hint 3: the first line</summary>Two axes of length 1 stand between B and T: <code>is_real[:, None, None, :]</code>.</details>

# %% solution="7b"
def padding_mask(is_real):
    """Return booleans that broadcast to (B, 1, T, T): True where a column is a real token of the row's own caption."""
    ### BEGIN SOLUTION: is_real needs an axis for the heads and one for the rows
    return is_real[:, None, None, :]
    ### END SOLUTION

# %% test="7b-form" points=1
check.padding_mask(padding_mask, only="M01")

# %% test="7b-core" points=3
check.padding_mask(padding_mask)

# %% [markdown]
# ## 7c · Attention under a mask
#
# `attention(q, k, v, may_attend)` takes q (B, H, Tq, D), k (B, H, Tk, D), v (B, H, Tk, Dv) and booleans that broadcast to (B, H, Tq, Tk), and returns
# (B, H, Tq, Dv). A row that may look at nothing gives zeros; a blocked key has no influence, however large it is.
#
# <details><summary>Hint 1: the idea</summary>Blocked scores must not enter the softmax at all: neither its sum nor its maximum.</details>
# <details><summary>Hint 2: the formula</summary>w = m·exp(s − max) / Σ m·exp(s − max), the maximum over the allowed ones; where the sum
# is 0, so is w.</details>
# <details><summary>Hint 3: the first line</summary><code>s = np.where(may_attend, q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]),
# -np.inf)</code>; mind that −∞ − (−∞) is NaN.</details>

# %% solution="7c"
def attention(q, k, v, may_attend):
    """Return for each row of q the mean of the values that it may look at, weighted by softmax(q·k/√D)."""
    ### BEGIN SOLUTION: scores, block, softmax over what remains, mix
    scores = np.where(may_attend, q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]), -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    raised = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = raised.sum(axis=-1, keepdims=True)
    return raised / np.where(total == 0, 1, total) @ v
    ### END SOLUTION

# %% test="7c-form" points=1
check.attention(attention, only="A03", tier="core")

# %% test="7c-core" points=3
check.attention(attention, tier="core", empty_row="any")

# %% test="7c-strict" points=1
check.attention(attention)

# %% [markdown]
# ## Open question
#
# A colleague's language model has a loss of 0.02 nats on unseen text. You may not see the code, but may call the model. Which experiment with at most
# two calls tells you whether a mask leaks, and why is adding a constant to the later embeddings a bad choice of experiment?

# %% [markdown] answer="7d" points=2
# *Your answer, in three sentences:*
