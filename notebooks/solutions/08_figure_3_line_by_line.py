# %% [markdown]
# # Exercises 8 · Figure 3, line by line
#
# Write NumPy. Each task is followed by its check. After a pass it prints `holds:` and the codes of the properties (a plain `assert` prints nothing);
# else it prints five lines: which property broke, what was found, the smallest input that breaks it, why it matters, and the likely mistake. Hints
# are folded; open one at a time. Pictures are rows, texts are columns.

# %%
import numpy as np

from tinymm.losses import cross_entropy_loss, itc_loss
from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** Without running it: 32 pairs, every cosine is 0.3, the scale is 100. What is the loss in nats? Assign an expression: `nats`.

# %% solution="8-puzzle-1"
### BEGIN SOLUTION: what does the height of equal scores change?
nats = np.log(32)
### END SOLUTION

# %% test="8-puzzle-1-check" points=1
assert abs(nats - itc_loss(np.full((32, 32), 30.0)).item()) < 1e-3, "softmax sees differences only; how large is a share if all 32 are equal?"

# %% [markdown]
# **Puzzle 2.** In one line, without loops: for each *text*, the number of the picture that it scores highest. Assign an array: `liked`.

# %% solution="8-puzzle-2"
logits = np.array([[3.0, 5.0, 1.0], [4.0, 2.0, 0.0]])
### BEGIN SOLUTION: along which axis are the pictures?
liked = logits.argmax(axis=0)
### END SOLUTION

# %% test="8-puzzle-2-check" points=1
assert np.array_equal(liked, [1, 0, 0]), f"three texts choose among two pictures, and {liked} came"

# %% [markdown]
# ## 8a · The contrastive loss
#
# `contrastive_loss(I, T, scale)` takes raw features I (n, E) and T (n, E), pair i in row i of both, and a multiplier, and returns Figure 3's loss, a
# number. It must stay finite at a scale of 10⁴.
#
# <details><summary>Hint 1: the idea</summary>Directions, all n² cosines, then two cross-entropies with the diagonal as the right answer: one along each axis.</details>
# <details><summary>Hint 2: the formula</summary>For each axis: mean over i of log Σ exp(S) − S[i, i], the sum along that axis; the loss is the mean of both. Subtract the largest score before you raise.</details>
# <details><summary>Hint 3: the first line</summary><code>S = scale * (I / np.linalg.norm(I, axis=1, keepdims=True)) @ (T / np.linalg.norm(T, axis=1, keepdims=True)).T</code></details>

# %% solution="8a"
def contrastive_loss(I, T, scale):
    """Return the mean of both directions' cross-entropies: raw rows (n, E) and (n, E), a multiplier -> a number."""
    ### BEGIN SOLUTION: normalize, multiply, and take a cross-entropy along each axis
    S = scale * (I / np.linalg.norm(I, axis=1, keepdims=True)) @ (T / np.linalg.norm(T, axis=1, keepdims=True)).T
    logs = [top + np.log(np.exp(S - top).sum(axis=axis, keepdims=True)) for axis in (0, 1) for top in [S.max(axis=axis, keepdims=True)]]
    return sum(log.mean() - np.diag(S).mean() for log in logs) / 2
    ### END SOLUTION

# %% test="8a-form" points=1
check.contrastive_loss(contrastive_loss, only="C07")

# %% test="8a-core" points=3
check.contrastive_loss(contrastive_loss)

# %% test="8a-hidden" points=1
### BEGIN HIDDEN TESTS
rows = np.random.default_rng(7).normal(size=(2, 9, 5))
assert abs(contrastive_loss(*rows, 3.0) - contrastive_loss(*rows[::-1], 3.0)) < 1e-9, "swapping the modalities changes nothing"
### END HIDDEN TESTS

# %% [markdown]
# ## 8b · Its gradient
#
# `gradient(logits)` returns ∂loss/∂logits, (n, n), for logits that are scaled already. No loops, and no automatic differentiation.
#
# <details><summary>Hint 1: the idea</summary>The gradient of a cross-entropy with respect to its logits is share minus label. There are two of them, each a mean over n.</details>
# <details><summary>Hint 2: the formula</summary>(P_rows + P_columns)/2n − I/n, P_rows the softmax along axis 1, P_columns that along axis 0.</details>
# <details><summary>Hint 3: the first line</summary><code>P_rows = np.exp(logits - logits.max(axis=1, keepdims=True))</code>, then divide by its sums along axis 1.</details>

# %% solution="8b"
def gradient(logits):
    """Return ∂loss/∂logits of the contrastive loss: (n, n) -> (n, n)."""
    ### BEGIN SOLUTION: two softmaxes and the identity
    n = len(logits)
    raised = [np.exp(logits - logits.max(axis=axis, keepdims=True)) for axis in (0, 1)]
    P_columns, P_rows = (e / e.sum(axis=axis, keepdims=True) for e, axis in zip(raised, (0, 1), strict=True))
    return (P_rows + P_columns) / (2 * n) - np.eye(n) / n
    ### END SOLUTION

# %% test="8b-form" points=1
found = gradient(np.zeros((3, 3)))
assert found.shape == (3, 3) and abs(found.sum()) < 1e-12, "of equal logits: (3, 3), and what is pulled is pushed elsewhere"

# %% test="8b-core" points=3
def of_logits(logits):
    return sum(cross_entropy_loss(logits, np.arange(len(logits)), axis=axis).item() for axis in (0, 1)) / 2


check.contrastive_loss(of_logits, inputs="logits", vjp=lambda cotangent, logits: (cotangent * gradient(logits),))

# %% [markdown]
# ## 8c · SigLIP
#
# SigLIP does not let texts compete. Each of the n² pairs is a question of its own, "do these two belong together?": yes on the diagonal, no elsewhere.
# `sigmoid_loss(logits)` takes logits (n, n) with the bias inside and returns (1/n) Σ softplus(−z·logit) over *all* pairs, z = 1 on the diagonal and
# −1 off it, where softplus(x) = ln(1 + e^x). It must stay finite at ±10⁴.
#
# <details><summary>Hint 1: the idea</summary>One matrix of signs, one elementwise function, one sum. There is no softmax.</details>
# <details><summary>Hint 2: the formula</summary>z = 2·I − 1; loss = Σ softplus(−z·S)/n; divide by n, not by n².</details>
# <details><summary>Hint 3: the first line</summary><code>z = 2 * np.eye(len(logits)) - 1</code>; NumPy's name for a stable ln(e^a + e^b) is <code>np.logaddexp</code>.</details>

# %% solution="8c"
def sigmoid_loss(logits):
    """Return how wrong each pair is judged by itself, summed and divided by n: (n, n) -> a number."""
    ### BEGIN SOLUTION: signs, softplus, sum
    z = 2 * np.eye(len(logits)) - 1
    return np.logaddexp(0, -z * logits).sum() / len(logits)
    ### END SOLUTION

# %% test="8c-form" points=1
check.sigmoid_loss(sigmoid_loss, only="G09")

# %% test="8c-core" points=3
check.sigmoid_loss(sigmoid_loss)

# %% [markdown]
# At the beginning all logits are nearly equal, and only one pair in n is true. Which equal logit costs least? (SigLIP begins at −10.)

# %% solution="8c-bias"
def first_bias(n):
    """Return the logit that, given to all n² pairs, costs least."""
    ### BEGIN SOLUTION: the sigmoid of it is the share of true pairs
    return -np.log(n - 1)
    ### END SOLUTION

# %% test="8c-bias-check" points=1
for n in (2, 16, 22_027):
    best = first_bias(n)
    costs = [np.logaddexp(0, -b) + (n - 1) * np.logaddexp(0, b) for b in (best - 0.01, best, best + 0.01)]
    assert costs[1] == min(costs), f"for n = {n} a logit near {best:.4g} costs less: one pair of n is true, so the sigmoid of it is 1/n"
print(f"at n = 22,027 it is {first_bias(22_027):.4f}")

# %% [markdown]
# ## Open question
#
# A tutorial that has been copied widely replaces `arange(n)` by soft targets: the softmax of (I·Iᵀ + T·Tᵀ)/2, where I and T are the model's own
# features, not normalized and without a stop of the gradient. Name two properties of `check.contrastive_loss` that you expect to break, and say
# whether each matters to somebody who only wants good retrieval.

# %% [markdown] answer="8d" points=2
# *Your answer, in three sentences:*
