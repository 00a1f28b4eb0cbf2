# %% [markdown]
# # Exercises 9 · Train CLIP
#
# Write NumPy. Each task is followed by its check. Hints are folded; open one at a time. Queries are rows, candidates are columns.

# %%
import numpy as np

from tinymm.data.builtin import glyphs
from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** Three queries, their right answers on the diagonal; a tie counts against the model. Without running anything: recall@1 and recall@2?
# Assign two numbers: `at_1, at_2`.

# %% solution="9-puzzle-1"
S = np.array([[5.0, 5.0, 1.0], [2.0, 4.0, 3.0], [9.0, 7.0, 8.0]])
### BEGIN SOLUTION: how many wrong candidates score at least as much as the right one?
at_1, at_2 = 1 / 3, 3 / 3
### END SOLUTION

# %% test="9-puzzle-1-check" points=1
ahead = [(np.delete(row, i) >= row[i]).sum() for i, row in enumerate(S)]
assert np.allclose([at_1, at_2], [np.mean(np.array(ahead) < k) for k in (1, 2)]), f"wrong candidates at or above the right one: {ahead}"

# %% [markdown]
# **Puzzle 2.** 1,000 pictures have five captions each. What is the chance level of recall@10, from a picture to any of its captions, to two digits?
# And from a caption to its picture? Assign expressions: `to_caption, to_picture`.

# %% solution="9-puzzle-2"
### BEGIN SOLUTION: one way has five right answers among 5,000, the other one among 1,000
to_caption, to_picture = 1 - (1 - 5 / 5000) ** 10, 10 / 1000
### END SOLUTION

# %% test="9-puzzle-2-check" points=1
draws = 1 - np.prod([(4995 - i) / (5000 - i) for i in range(10)])
assert abs(to_caption - draws) < 1e-4, "ten draws without putting back, and five of 5,000 are hits"
assert abs(to_picture - 0.01) < 1e-12, "ten draws, and one of 1,000 is a hit"

# %% [markdown]
# ## 9a · Recall at k
#
# `recall(S, k)` takes scores (n, n), a query a row, its right answer on the diagonal, and returns the share of queries whose right answer is among
# the k best. A tie counts against the model, and so does a score that is NaN: a model that has broken down finds nothing.
#
# <details><summary>Hint 1: the idea</summary>A query is a hit if all but fewer than k wrong candidates score less than the right one. No sorting is needed.</details>
# <details><summary>Hint 2: the formula</summary>ahead[i] = n − 1 − #{j : S[i, j] &lt; S[i, i]}; recall = mean of (ahead &lt; k). Every comparison with NaN is False, so what is NaN stays ahead.</details>
# <details><summary>Hint 3: the first line</summary><code>own = np.diag(S)[:, None]</code>; then <code>S &lt; own</code> is who is behind.</details>

# %% solution="9a"
def recall(S, k):
    """Return the share of rows whose diagonal entry is among their k best: (n, n), k -> a number in [0, 1]."""
    ### BEGIN SOLUTION: count who is ahead
    own = np.diag(S)[:, None]
    ahead = len(S) - 1 - (S < own).sum(axis=1)
    return np.mean(ahead < k)
    ### END SOLUTION

# %% test="9a-form" points=1
check.recall(recall, only="R01")

# %% test="9a-core" points=3
check.recall(recall)

# %% test="9a-hidden" points=1
### BEGIN HIDDEN TESTS
assert recall(np.zeros((50, 50)), 1) == 0, "a collapsed model finds nothing"
assert recall(np.triu(np.ones((4, 4))), 1) == 1 / 4, "rows are the queries"
### END HIDDEN TESTS

# %% [markdown]
# ## 9b · A classifier made of prompts
#
# `prompt_classifier(features)` takes text features (C, P, E), raw, P prompts for each of C classes, and returns one unit vector a class, (C, E): each
# prompt counts as a *direction*, all prompts count the same.
#
# <details><summary>Hint 1: the idea</summary>A long feature vector must not outvote a short one, and the mean of unit vectors is no unit vector.</details>
# <details><summary>Hint 2: the formula</summary>normalize along E, mean along P, normalize along E.</details>
# <details><summary>Hint 3: the first line</summary><code>unit = features / np.linalg.norm(features, axis=-1, keepdims=True)</code></details>

# %% solution="9b"
def prompt_classifier(features):
    """Return a unit vector for each class: (C, P, E) -> (C, E)."""
    ### BEGIN SOLUTION: normalize, mean, normalize
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    mean = unit.mean(axis=1)
    return mean / np.linalg.norm(mean, axis=-1, keepdims=True)
    ### END SOLUTION

# %% test="9b-form" points=1
rng = np.random.default_rng(0)
features = rng.normal(size=(4, 3, 8))
weights = prompt_classifier(features)
assert weights.shape == (4, 8) and np.allclose(np.linalg.norm(weights, axis=1), 1), "a unit vector a class: (4, 8)"

# %% test="9b-core" points=3
weights = prompt_classifier(features)
assert np.allclose(prompt_classifier(features[:, ::-1]), weights), "the order of the prompts changes nothing"
assert np.allclose(prompt_classifier(np.repeat(features, 2, axis=1)), weights), "prompts that all stand there twice change nothing"
assert np.allclose(prompt_classifier(features * rng.uniform(0.1, 9, (4, 3, 1))), weights), "the length of a prompt's features changes nothing"
assert np.allclose(prompt_classifier(features[:2]), weights[:2]), "other classes change nothing"
two = prompt_classifier(np.array([[[2.0, 0.0], [0.0, 5.0]]]))
assert np.allclose(two, np.sqrt(0.5)), f"two prompts at a right angle meet halfway, and {two} came"

# %% [markdown]
# ## 9c · A probe
#
# `ridge(X, Y, penalty)` takes features (N, E) and one-hot targets (N, C) and returns the W (E, C) that minimizes |X·W − Y|² + penalty·|W|². It has a
# closed form. Where a minimum is, the gradient is zero: that is how it is tested.
#
# <details><summary>Hint 1: the idea</summary>Set the gradient to zero and solve for W: linear equations.</details>
# <details><summary>Hint 2: the formula</summary>(Xᵀ·X + penalty·I)·W = Xᵀ·Y.</details>
# <details><summary>Hint 3: the first line</summary><code>left = X.T @ X + penalty * np.eye(X.shape[1])</code>, then <code>np.linalg.solve</code>; no inverse.</details>

# %% solution="9c"
def ridge(X, Y, penalty):
    """Return the weights of ridge regression: features (N, E), targets (N, C), penalty > 0 -> (E, C)."""
    ### BEGIN SOLUTION: solve the normal equations
    return np.linalg.solve(X.T @ X + penalty * np.eye(X.shape[1]), X.T @ Y)
    ### END SOLUTION

# %% test="9c-form" points=1
X, Y = np.random.default_rng(1).normal(size=(20, 5)), np.eye(3)[np.arange(20) % 3]
assert ridge(X, Y, 0.1).shape == (5, 3)

# %% test="9c-core" points=3
for penalty in (0.01, 1.0, 100.0):
    W = ridge(X, Y, penalty)
    assert np.abs(X.T @ (X @ W - Y) + penalty * W).max() < 1e-9, f"at a minimum the gradient is 0, and with penalty {penalty} it is not"

# %% test="9c-pixels" points=1
task = glyphs.load().zero_shot()["case"]
pixels, half = task.images.reshape(len(task.images), -1).astype(float), np.arange(len(task.images)) % 2 == 0
scores = pixels[~half] @ ridge(pixels[half], np.eye(2)[task.targets[half]], 10.0)
accuracy, largest = np.mean(scores.argmax(axis=1) == task.targets[~half]), np.bincount(task.targets[~half]).max() / (~half).sum()
print(f"capital or small, from pixels: {accuracy:.3f}; always the larger class: {largest:.3f}")
assert accuracy > largest + 0.2, "a probe of pixels tells capital from small letters"

# %% [markdown]
# ## Open question
#
# A paper reports for five classes: zero-shot 62 %, linear probe on its frozen features 74 %, chance 20 %. It concludes that its pretraining has
# understood the classes. Which two further numbers do you ask for, how would each be made, and which result would make you give up the conclusion?

# %% [markdown] answer="9d" points=2
# *Your answer, in three sentences:*
