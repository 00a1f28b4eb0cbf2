# %% [markdown]
# # Exercises 10 · ALBEF
#
# Write NumPy. Each task is followed by its check. After a pass it prints `holds:` and the codes of the properties (a plain `assert` prints nothing);
# else it says which property broke, on which input, and why that matters. Hints are folded; open one at a time.

# %%
import numpy as np

from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** A batch of 64 and a queue of 512: what is the contrastive loss of a model that gives all columns the same score, in nats, to two digits?
# Assign a number: `loss`.

# %% solution="10-puzzle-1"
### BEGIN SOLUTION: one right column among B + K
loss = round(float(np.log(64 + 512)), 2)
### END SOLUTION

# %% test="10-puzzle-1-check" points=1
assert loss == 6.36, f"ln 576 is 6.36, and {loss} came"

# %% [markdown]
# **Puzzle 2.** With m = 0.99, which share of the twin still comes from where it stood 100 steps ago, to two digits? Assign a number: `share`.

# %% solution="10-puzzle-2"
### BEGIN SOLUTION: the momentum, a hundred times
share = round(0.99**100, 2)
### END SOLUTION

# %% test="10-puzzle-2-check" points=1
assert share == 0.37, f"mᵏ is 0.37, and {share} came"

# %% [markdown]
# ## 10a · A queue
#
# `Ring(K, E)` holds K rows of E numbers, at first random ones of length 1, and a `pointer`. `push(rows)` overwrites the oldest; a number of rows that does not
# divide K is refused with a ValueError that names both numbers. `rows` are copies: who changes a pushed array later does not change the queue.
#
# <details><summary>Hint 1: the idea</summary>The pointer is where the oldest row stands; after a push it has moved on by as many as came, around the end.</details>
# <details><summary>Hint 2: the formula</summary>slots pointer … pointer + B − 1; then pointer ← (pointer + B) mod K</details>
# <details><summary>Hint 3: the first line</summary>Since B divides K a push never goes around the end: one slice is enough.</details>

# %% solution="10a"
class Ring:
    def __init__(self, K, E):
        rows = np.random.default_rng(0).normal(size=(K, E))
        self.rows, self.pointer = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True)), 0

    def push(self, rows):
        """Overwrite the oldest rows with these (B, E)."""
        ### BEGIN SOLUTION: refuse, write, move on
        K, B = len(self.rows), len(rows)
        if K % B:
            raise ValueError(f"a queue of {K} takes batches that divide it, and {B} rows came")
        self.rows = self.rows.copy()
        self.rows[self.pointer : self.pointer + B] = rows
        self.pointer = (self.pointer + B) % K
        ### END SOLUTION

# %% test="10a-form" points=1
check.queue(Ring, only="U01")

# %% test="10a-core" points=4
check.queue(Ring)

# %% [markdown]
# ## 10b · A slow twin, and what it thinks
#
# `follow(twin, online, m)` returns m·twin + (1 − m)·online, a new array. `targets(similarities, alpha)` (B, C) returns 1 − α for a row's own column, the i-th of row i,
# and shares α among all columns by the softmax of the similarities.
#
# <details><summary>Hint 1: the idea</summary>Two lines each; mind that the twin's array must not be the online one's, even for m = 0.</details>
# <details><summary>Hint 2: the formula</summary>α·softmax(S) + (1 − α)·I</details>
# <details><summary>Hint 3: the first line</summary><code>np.eye(B, C)</code> has the own columns also where C is larger than B.</details>

# %% solution="10b"
def follow_and_targets():
    """Return the two functions `follow` and `targets`."""
    ### BEGIN SOLUTION: an average, and a mixture
    def follow(twin, online, m):
        return m * twin + (1 - m) * online

    def targets(similarities, alpha):
        raised = np.exp(similarities - similarities.max(axis=1, keepdims=True))
        return alpha * raised / raised.sum(axis=1, keepdims=True) + (1 - alpha) * np.eye(*similarities.shape)

    return follow, targets
    ### END SOLUTION

# %% test="10b-twin" points=2
check.ema(follow_and_targets()[0])

# %% test="10b-targets" points=3
check.soft_targets(follow_and_targets()[1])

# %% [markdown]
# ## 10c · Hard negatives
#
# `negatives(S, ids, rng)` draws for each text a wrong picture, by the softmax of its column of S (B, B), and for each picture a wrong text, by that of its row; pairs of
# equal `ids` are true and never drawn. Return (image_for_text, text_for_image).
#
# <details><summary>Hint 1: the idea</summary>Block what is true before the softmax, with −∞; then draw a column for each row.</details>
# <details><summary>Hint 2: the formula</summary>argmax over (score + Gumbel noise) is a draw from the softmax of the scores.</details>
# <details><summary>Hint 3: the first line</summary><code>same = ids[:, None] == ids</code>, and <code>rng.gumbel(size=S.shape)</code></details>

# %% solution="10c"
def negatives(S, ids, rng):
    """Return (image_for_text (B,), text_for_image (B,)). ValueError for a row in which nothing is wrong."""
    ### BEGIN SOLUTION: block, refuse, draw both ways
    true_pairs = ids[:, None] == ids
    if true_pairs.all(axis=1).any():
        raise ValueError(f"row {int(true_pairs.all(axis=1).argmax())} has no wrong candidate")
    pictures = np.argmax(np.where(true_pairs, -np.inf, S.T) + rng.gumbel(size=S.shape), axis=1)
    texts = np.argmax(np.where(true_pairs, -np.inf, S) + rng.gumbel(size=S.shape), axis=1)
    return pictures, texts
    ### END SOLUTION

# %% test="10c-core" points=3
check.hard_negatives(negatives, tier="core")

# %% test="10c-strict" points=1
check.hard_negatives(negatives)

# %% [markdown]
# ## Open question
#
# You train on 10,000 pairs with a batch of 64 and a queue of 65,536. Which columns of the loss are wrong as wrong answers, how would you notice in the curves, and what
# are two repairs?

# %% [markdown] answer="10d" points=2
# *Your answer, in three sentences:*
