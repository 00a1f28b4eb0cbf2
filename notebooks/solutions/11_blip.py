# %% [markdown]
# # Exercises 11 · BLIP
#
# Write Python and NumPy. Each task is followed by its check. After a pass it prints `holds:` and the codes of the properties (a plain `assert` prints
# nothing); else it says which property broke, on which input, and why that matters. Hints are folded; open one at a time.

# %%
import numpy as np

from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** A caption of six tokens, [DEC] and [SEP] included, is a row of a batch padded to eight. Over how many targets does the language loss of this row average?
# Assign a number: `targets`.

# %% solution="11-puzzle-1"
### BEGIN SOLUTION: every real token but the first is a target
targets = 5
### END SOLUTION

# %% test="11-puzzle-1-check" points=1
is_real = np.arange(8) < 6
assert targets == is_real[1:].sum(), "the first token is given, and padding is not asked for"

# %% [markdown]
# **Puzzle 2.** A filter keeps 40 of 100 captions; 60 of the 100 are true, and 36 of the kept ones are. Precision and recall?
# Assign two numbers: `precision, recall`.

# %% solution="11-puzzle-2"
### BEGIN SOLUTION: of the kept, and of the true
precision, recall = 36 / 40, 36 / 60
### END SOLUTION

# %% test="11-puzzle-2-check" points=1
assert (round(precision, 2), round(recall, 2)) == (0.9, 0.6)

# %% [markdown]
# ## 11a · The language loss, with the shift outside
#
# In some libraries the caller shifts. Write `lm_loss(logits, ids, is_real)` for logits, ids and is_real (B, T) that stand side by side already: the mean surprise at each real
# one. The check is told so by its contract, `shift="outside"`.
#
# <details><summary>Hint 1: the idea</summary>As in 5c, without cutting anything off.</details>
# <details><summary>Hint 2: the formula</summary>−mean over real places of (logit of the id − ln Σ e^logit)</details>
# <details><summary>Hint 3: the first line</summary>Subtract the largest logit of each place first; that changes nothing and overflows nowhere.</details>

# %% solution="11a"
def lm_loss(logits, ids, is_real):
    """Return the mean surprise in nats."""
    ### BEGIN SOLUTION: log-probabilities of the ids, averaged over real places
    level = logits - logits.max(axis=-1, keepdims=True)
    log_p = level - np.log(np.exp(level).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(log_p, ids[..., None], axis=-1)[..., 0][is_real].mean()
    ### END SOLUTION

# %% test="11a-core" points=3
check.lm_loss(lm_loss, shift="outside", smoothing=False)

# %% [markdown]
# ## 11b · Who shares what
#
# `shared(parameters, outputs)` finds out which outputs each parameter moves. `parameters` is a dict of name → array that may be written to in place; `outputs()` returns a
# list of arrays. Return name → list of booleans, and leave every parameter as it was.
#
# <details><summary>Hint 1: the idea</summary>Compute once; then for each parameter change it, compute again, compare, and put it back.</details>
# <details><summary>Hint 2: the formula</summary>moved = any(after ≠ before), for each output; the change is random, since a constant may be erased by a norm.</details>
# <details><summary>Hint 3: the first line</summary><code>before = [o.copy() for o in outputs()]</code></details>

# %% solution="11b"
def shared(parameters, outputs):
    """Return for each parameter which outputs it moves."""
    ### BEGIN SOLUTION: change, look, put back
    rng, found = np.random.default_rng(0), {}
    before = [o.copy() for o in outputs()]
    for name, array in parameters.items():
        kept = array.copy()
        array += rng.normal(size=array.shape)
        found[name] = [bool((a != b).any()) for a, b in zip(before, outputs(), strict=True)]
        array[...] = kept
    return found
    ### END SOLUTION

# %% test="11b-finds" points=3
weights = {"a": np.ones(3), "b": np.ones((3, 3)), "c": np.ones(3)}


def made():
    return [weights["a"] @ weights["b"], weights["a"] * 2, weights["c"] - weights["c"].mean()]


assert shared(weights, made) == {"a": [True, True, False], "b": [True, False, False], "c": [False, False, True]}, shared(weights, made)
assert all((w == 1).all() for w in weights.values()), "every parameter is as it was"

# %% [markdown]
# ## 11c · Greedy and beam search
#
# `beam(log_p, beams, end, length)` writes a sentence: `log_p(tokens)` gives the log-probabilities (V,) of the next token after a list of tokens. Keep the `beams` best beginnings;
# one that writes `end` is finished, and keeps its score. Return the best sentence (without `end`) and its log-probability, after at most `length` tokens, `end` included.
#
# <details><summary>Hint 1: the idea</summary>A list of (score, tokens, finished). In each round extend those that are not finished, and keep the best of all.</details>
# <details><summary>Hint 2: the formula</summary>score(tokens + [t]) = score(tokens) + log p(t | tokens)</details>
# <details><summary>Hint 3: the first line</summary><code>kept = [(0.0, [], False)]</code></details>

# %% solution="11c"
def beam(log_p, beams, end, length):
    """Return (tokens, log-probability) of the best sentence found."""
    ### BEGIN SOLUTION: extend, sort, cut
    kept = [(0.0, [], False)]
    for _ in range(length):
        longer = [one for one in kept if one[2]]
        for score, tokens, done in kept:
            if not done:
                longer += [(score + float(p), tokens + [t], t == end) for t, p in enumerate(log_p(tokens))]
        kept = sorted(longer, key=lambda one: -one[0])[:beams]
    score, tokens, done = kept[0]
    return (tokens[:-1] if done else tokens), score
    ### END SOLUTION

# %% test="11c-greedy" points=2
def bigram(seed, V=5):
    table = np.random.default_rng(seed).normal(size=(V, V)) * 2
    table = table - np.log(np.exp(table).sum(axis=1, keepdims=True))
    return lambda tokens: table[tokens[-1] if tokens else 0]


for seed in range(10):
    log_p, greedy = bigram(seed), []
    while len(greedy) < 6 and (not greedy or greedy[-1] != 1):
        greedy.append(int(np.argmax(log_p(greedy))))
    assert beam(log_p, 1, 1, 6)[0] == [t for t in greedy if t != 1], "one beam is greedy"

# %% test="11c-score" points=2
for seed in range(10):
    log_p = bigram(seed)
    tokens, score = beam(log_p, 3, 1, 6)
    whole = tokens + [1] if len(tokens) < 6 else tokens
    right = sum(float(log_p(whole[:i])[t]) for i, t in enumerate(whole))
    assert abs(score - right) < 1e-9, f"the score of {tokens} is the sum of its steps, {right:.3f}, and {score:.3f} came"

# %% [markdown]
# ## Open question
#
# CapFilt's judge and writer are tuned from the same network. Describe an experiment that shows how much they share mistakes, and a change that would make the judge
# more independent.

# %% [markdown] answer="11d" points=2
# *Your answer, in three sentences:*
