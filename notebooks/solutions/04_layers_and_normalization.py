# %% [markdown]
# # Exercises 4 · Layers and normalization
#
# Write NumPy. Each task is followed by its check. After a pass it prints `holds:` and the codes of the properties (a plain `assert` prints nothing);
# else it says which property broke, on which input, and why that matters. Hints are folded; open one at a time.

# %%
import numpy as np

from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** How many parameters has a transformer's feed-forward part of width 128 that widens four times, biases included?
# Assign the number, or an expression: `parameters`.

# %% solution="4-puzzle-1"
### BEGIN SOLUTION: two matrices and two biases
parameters = 128 * 512 + 512 + 512 * 128 + 128
### END SOLUTION

# %% test="4-puzzle-1-check" points=1
from tinymm.layers import MLP

mlp = MLP(128, 512, "gelu", rng=np.random.default_rng(0))
assert parameters == sum(p.data.size for p in mlp.parameters()), "count the weights and the biases of both layers"

# %% [markdown]
# **Puzzle 2.** x has the shape (B, T, D) = (8, 5, 16). How many means does layer norm compute, and how many batch norm over all but the last axis?
# Assign two numbers: `layer_means, batch_means`.

# %% solution="4-puzzle-2"
### BEGIN SOLUTION: one a token, one a feature
layer_means, batch_means = 40, 16
### END SOLUTION

# %% test="4-puzzle-2-check" points=1
x = np.zeros((8, 5, 16))
assert (layer_means, batch_means) == (x.mean(axis=-1).size, x.mean(axis=(0, 1)).size)

# %% [markdown]
# ## 4a · Layer norm
#
# `layer_norm(x, gain, bias, eps)` normalizes each row of x (rows, D) to mean 0 and variance 1, eps beside the variance, then multiplies and adds.
#
# <details><summary>Hint 1: the idea</summary>Center first; the variance is the mean of the centered squares (divided by D, not D − 1).</details>
# <details><summary>Hint 2: the formula</summary>(x − μ) / √(σ² + eps) · gain + bias</details>
# <details><summary>Hint 3: the first line</summary><code>centered = x - np.mean(x, axis=-1, keepdims=True)</code></details>

# %% solution="4a"
def layer_norm(x, gain, bias, eps):
    """Return normalized rows (rows, D), scaled by gain (D) and shifted by bias (D)."""
    ### BEGIN SOLUTION: center, divide, scale, shift
    rest = x - x.mean(axis=-1, keepdims=True)
    return rest / np.sqrt((rest * rest).mean(axis=-1, keepdims=True) + eps) * gain + bias
    ### END SOLUTION

# %% test="4a-form" points=1
check.layer_norm(layer_norm, only="L01a")

# %% test="4a-core" points=4
check.layer_norm(layer_norm)

# %% [markdown]
# ## 4b · Batch norm, both modes
#
# `batch_norm(x, mean, variance, training, momentum=0.1, eps=1e-5)` takes x (n, D) and the running statistics (D,). In training it normalizes by the batch's
# own mean and (biased) variance, and returns `(y, new_mean, new_variance)` with new = 0.9 · old + 0.1 · batch, where the *running* variance takes
# n/(n − 1) times the batch's. In evaluation it normalizes by the running ones and returns them unchanged.
#
# <details><summary>Hint 1: the idea</summary>Decide first which mean and variance to normalize by; the rest of the formula is shared.</details>
# <details><summary>Hint 2: the formula</summary>v_new = 0.9 v + 0.1 · n/(n−1) · var(x)</details>
# <details><summary>Hint 3: the first line</summary><code>if not training: return (x - mean) / np.sqrt(variance + eps), mean, variance</code> is one half of it.</details>

# %% solution="4b"
def batch_norm(x, mean, variance, training, momentum=0.1, eps=1e-5):
    """Return (y (n, D), new mean (D,), new variance (D,))."""
    ### BEGIN SOLUTION: whose statistics, and what is remembered
    used = (x.mean(axis=0), x.var(axis=0)) if training else (mean, variance)
    y = (x - used[0]) / np.sqrt(used[1] + eps)
    if training:
        mean = (1 - momentum) * mean + momentum * used[0]
        variance = (1 - momentum) * variance + momentum * used[1] * len(x) / (len(x) - 1)
    return y, mean, variance
    ### END SOLUTION

# %% test="4b-eval" points=2
rng = np.random.default_rng(0)
x, others, m, v = rng.normal(size=(1, 4)), rng.normal(size=(5, 4)), rng.normal(size=4), rng.uniform(0.5, 2, 4)
alone, together = batch_norm(x, m, v, False)[0], batch_norm(np.concatenate([x, others]), m, v, False)[0]
assert np.allclose(alone[0], together[0]), "in evaluation a row does not depend on its batch"
assert batch_norm(x, m, v, False)[1:] == (m, v) or np.array_equal(batch_norm(x, m, v, False)[1], m), "evaluation remembers nothing"

# %% test="4b-train" points=2
y, new_m, new_v = batch_norm(others, m, v, True)
assert np.abs(y.mean(axis=0)).max() < 1e-12 and np.abs(y.var(axis=0) - 1).max() < 1e-3, "in training each column has mean 0 and variance 1"
assert np.allclose(new_m, 0.9 * m + 0.1 * others.mean(axis=0)) and np.allclose(new_v, 0.9 * v + 0.1 * others.var(axis=0, ddof=1)), "running statistics"

# %% [markdown]
# ## 4c · Dropout
#
# `dropout(x, p, rng, training)` zeroes each number with probability p and divides the others by 1 − p; in evaluation, and for p = 0, it returns x as it is.
#
# <details><summary>Hint 1: the idea</summary>One random number for each entry decides; what stays grows so that the mean stays.</details>
# <details><summary>Hint 2: the formula</summary>x · keep / (1 − p), keep = [u ≥ p]</details>
# <details><summary>Hint 3: the first line</summary><code>keep = rng.random(x.shape) >= p</code></details>

# %% solution="4c"
def dropout(x, p, rng, training):
    """Return x with a share p of its numbers dropped, in training."""
    ### BEGIN SOLUTION: nothing to do, or a mask and a factor
    if not training or not p:
        return x
    stays = rng.random(x.shape) >= p
    return x * stays / (1 - p)
    ### END SOLUTION

# %% test="4c-identity" points=1
x = np.random.default_rng(0).normal(size=(50, 60))
assert np.array_equal(dropout(x, 0.5, np.random.default_rng(1), False), x) and np.array_equal(dropout(x, 0.0, np.random.default_rng(1), True), x)

# %% test="4c-mean" points=2
y = dropout(np.ones((400, 400)), 0.3, np.random.default_rng(1), True)
assert abs(y.mean() - 1) < 0.02 and abs((y == 0).mean() - 0.3) < 0.01, f"mean 1 and a share 0.3 of zeros belong here; {y.mean():.3f}, {(y == 0).mean():.3f} came"
assert len(np.unique(y)) == 2, "a number is dropped or grows by 1/(1 − p); nothing in between"

# %% [markdown]
# ## Open question
#
# A model gives other answers on a server that puts eight users' pictures into one batch than on a laptop. Name two layers of this notebook that could be
# the reason, how you would tell which, and what one line repairs it.

# %% [markdown] answer="4d" points=2
# *Your answer, in three sentences:*
