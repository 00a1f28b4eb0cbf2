# %% [markdown]
# # Exercises 13 · BLIP-2
#
# Write NumPy. Each task is followed by its check. After a pass it prints `holds:` and the codes of the properties (a plain `assert` prints nothing);
# else it says what broke. Hints are folded; open one at a time. A sequence is `[soft words ; text]`, each place foretells the next one, and −100
# marks what is no target.

# %%
import numpy as np

from tinymm.autodiff import no_grad
from tinymm.models.opt import OPT, OPTConfig
from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** 32 soft words stand in front of the text `[BOS] a red ball [EOS] [PAD] [PAD]`, without a prompt. Without running anything: how many places
# of the sequence are targets, and at which place, counted from 0, does the row stand that must foretell `[BOS]`?
# Assign two numbers: `targets, foretells_bos`.

# %% solution="13-puzzle-1"
### BEGIN SOLUTION: the real tokens of the text, [BOS] included; the last soft word foretells it
targets, foretells_bos = 5, 31
### END SOLUTION

# %% test="13-puzzle-1-check" points=1
is_real = np.array([1, 1, 1, 1, 1, 0, 0], bool)
is_target = np.concatenate([np.zeros(32, bool), is_real])
assert targets == is_target.sum() and foretells_bos == is_target.argmax() - 1, "write the sequence down with a number under each place"

# %% [markdown]
# **Puzzle 2.** A loss is y = w·p·x with numbers x, p, w. In one line each: the derivative by p, which trains, and by w, which is frozen. Then say in
# `stored` which of the two is kept, "p" or "w". Assign expressions to `by_p, by_w`.

# %% solution="13-puzzle-2"
x, p, w = 2.0, 3.0, 5.0
### BEGIN SOLUTION: the frozen factor stands in the derivative of the one that trains
by_p, by_w, stored = w * x, p * x, "p"
### END SOLUTION

# %% test="13-puzzle-2-check" points=1
assert abs((w * (p + 1e-6) * x - w * p * x) / 1e-6 - by_p) < 1e-6, "move p a little"
assert abs(((w + 1e-6) * p * x - w * p * x) / 1e-6 - by_w) < 1e-6, "move w a little"
assert stored == "p", "what is frozen is a factor of the gradient, and gets none of its own"

# %% [markdown]
# ## 13a · The labels
#
# `labels(Q, ids, is_real, prompt)` takes the number of soft words, ids (B, T), booleans (B, T), and how many tokens at the beginning of each text are a
# prompt. It returns whole numbers (B, Q+T): the id where a token is a target, −100 on soft words, prompt and padding. Nothing is shifted here; the loss
# does that. The array `ids` stays as it is.
#
# <details><summary>Hint 1: the idea</summary>First the text: keep an id where it is real and not of the prompt. Then put Q columns in front.</details>
# <details><summary>Hint 2: the formula</summary>label[b, Q + t] = ids[b, t] if is_real[b, t] and t ≥ prompt, else −100; label[b, q] = −100 for q &lt; Q.</details>
# <details><summary>Hint 3: the first line</summary><code>counts = is_real &amp; (np.arange(ids.shape[1]) &gt;= prompt)</code>, then np.where.</details>

# %% solution="13a"
def labels(Q, ids, is_real, prompt=0):
    """Return (B, Q+T): ids of targets, −100 elsewhere."""
    ### BEGIN SOLUTION: text first, then the soft words in front of it
    counts = is_real & (np.arange(ids.shape[1]) >= prompt)
    text = np.where(counts, ids, -100)
    return np.concatenate([np.full((len(ids), Q), -100), text], axis=1)
    ### END SOLUTION

# %% test="13a-form" points=1
ids, is_real = np.array([[2, 7, 8, 9], [2, 5, 0, 0]]), np.array([[True] * 4, [True, True, False, False]])
made = labels(3, ids, is_real, 1)
assert made.shape == (2, 7) and (made[:, :3] == -100).all(), "three soft words stand in front, and none of them is a target"
assert made[0, 3:].tolist() == [-100, 7, 8, 9] and made[1, 3:].tolist() == [-100, 5, -100, -100], "prompt and padding are no targets, the rest is"
assert labels(3, ids, is_real, 0)[0, 3] == 2, "without a prompt the first token is a target"

# %% test="13a-core" points=3
def surprise(logits, ids, is_real):
    target = labels(0, ids, is_real)[:, 1:]
    top = logits[:, :-1].max(axis=-1, keepdims=True)
    log_p = logits[:, :-1] - top - np.log(np.exp(logits[:, :-1] - top).sum(axis=-1, keepdims=True))
    said = np.take_along_axis(log_p, np.maximum(target, 0)[..., None], axis=-1)[..., 0]
    return -(said * (target != -100)).sum() / max((target != -100).sum(), 1)


check.lm_loss(surprise, smoothing=False)

# %% [markdown]
# ## 13b · Through frozen weights
#
# A picture's answers x (Q, D) are projected by P (D, W), which trains, and go through a frozen layer F (W, V): logits = x P F. Given the gradient of the
# loss by the logits, `backward(x, P, F, d_logits)` returns a dict: "x" and "P" hold their gradients, and "F" holds None.
#
# <details><summary>Hint 1: the idea</summary>Go backward one factor at a time. The gradient by soft = x P comes first, and F is in it.</details>
# <details><summary>Hint 2: the formula</summary>For y = a b: the gradient by a is dy bᵀ, and that by b is aᵀ dy.</details>
# <details><summary>Hint 3: the first line</summary><code>d_soft = d_logits @ F.T</code></details>

# %% solution="13b"
def backward(x, P, F, d_logits):
    """Return {"x": (Q, D), "P": (D, W), "F": None}."""
    ### BEGIN SOLUTION: through the frozen layer, then into what trains
    d_soft = d_logits @ F.T
    return {"x": d_soft @ P.T, "P": x.T @ d_soft, "F": None}
    ### END SOLUTION

# %% test="13b-form" points=1
rng = np.random.default_rng(0)
x, P, F, d = (rng.normal(size=shape) for shape in ((4, 3), (3, 5), (5, 7), (4, 7)))
made = backward(x, P, F, d)
assert made["F"] is None, "the frozen layer gets no gradient"
assert made["x"].shape == x.shape and made["P"].shape == P.shape, "a gradient has the shape of what it belongs to"

# %% test="13b-core" points=3
for seed in range(20):
    rng = np.random.default_rng(seed)
    x, P, F, d = (rng.normal(size=shape) for shape in ((4, 3), (3, 5), (5, 7), (4, 7)))
    made, dx, dP = backward(x, P, F, d), rng.normal(size=x.shape), rng.normal(size=P.shape)
    moved = (d * ((x + 1e-6 * dx) @ (P + 1e-6 * dP) @ F - (x - 1e-6 * dx) @ (P - 1e-6 * dP) @ F)).sum() / 2e-6
    foretold = (made["x"] * dx).sum() + (made["P"] * dP).sum()
    assert abs(moved - foretold) < 1e-6 * max(1, abs(moved)), f"seed {seed}: the loss moves by {moved:.6f} and the gradients foretell {foretold:.6f}"

# %% [markdown]
# ## 13c · Places, with padding on any side
#
# To write behind prompts of different lengths, the last token of each must stand last, so padding stands on the *left*. A word's place must not change by
# that. `places(is_real)` takes booleans (B, T) and returns whole numbers (B, T): 0 for the first real token of a row, 1 for the second, and so on,
# wherever padding stands; padding itself gets −1.
#
# <details><summary>Hint 1: the idea</summary>A token's place is the number of real tokens before it.</details>
# <details><summary>Hint 2: the formula</summary>place[b, t] = Σ over s ≤ t of is_real[b, s], minus 1; −1 where t is padding.</details>
# <details><summary>Hint 3: the first line</summary><code>count = np.cumsum(is_real, axis=1)</code></details>

# %% solution="13c"
def places(is_real):
    """Return (B, T): how many real tokens stand before each, −1 for padding."""
    ### BEGIN SOLUTION: count, and blank out what is no token
    count = np.cumsum(is_real, axis=1)
    return np.where(is_real, count - 1, -1)
    ### END SOLUTION

# %% test="13c-form" points=1
made = places(np.array([[True, True, False], [False, True, True]]))
assert made.tolist() == [[0, 1, -1], [-1, 0, 1]], f"right and left padding of two tokens give {made.tolist()}"

# %% test="13c-core" points=3
model = OPT(OPTConfig.tiny(), np.random.default_rng(0)).astype(np.float64)
with no_grad():
    for pad in (0, 1, 3):
        ids, is_real = np.array([[0] * pad + [2, 5, 6, 7]]), np.array([[False] * pad + [True] * 4])
        mine = places(is_real)
        assert mine[0, pad:].tolist() == [0, 1, 2, 3], f"{pad} tokens of padding on the left"
        apart = np.abs(model(ids, is_real).data[:, -1] - model(ids[:, pad:]).data[:, -1]).max()
        assert apart < 1e-12, "the library's model, which counts as you do, does not move either"

# %% test="13c-hidden" points=1
### BEGIN HIDDEN TESTS
for seed in range(20):
    is_real = np.random.default_rng(seed).random((3, 9)) < 0.6
    for row, real in zip(places(is_real), is_real, strict=True):
        assert row[real].tolist() == list(range(real.sum())) and (row[~real] == -1).all(), "padding in the middle, too"
### END HIDDEN TESTS

# %% [markdown]
# ## Open question
#
# A captioner of yours writes fluent sentences, and nine in ten are right. Describe an experiment that says how much of this the picture has done, name its
# control and the level of chance, and say what a result of eight in ten *with another picture* would mean for your test set.

# %% [markdown] answer="13d" points=2
# *Your answer, in three sentences:*
