# %% [markdown]
# # Exercises 5 · Words
#
# Write Python and NumPy. Each task is followed by its check. After a pass it prints `holds:` and the codes of the properties (a plain `assert` prints
# nothing); else it says which property broke, on which input, and why that matters. Hints are folded; open one at a time.

# %%
import numpy as np

from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** A language model's loss is 2.0 nats a word. What is its perplexity, to one digit behind the point? Assign a number: `perplexity`.

# %% solution="5-puzzle-1"
### BEGIN SOLUTION: the exponential of the loss
perplexity = round(float(np.exp(2.0)), 1)
### END SOLUTION

# %% test="5-puzzle-1-check" points=1
assert perplexity == 7.4, f"e² is 7.4, and {perplexity} came"

# %% [markdown]
# **Puzzle 2.** Text i of a batch has `lengths[i]` tokens. Write, in one line without loops, the boolean array `is_real` (B, T) of a batch padded on the
# right to T = 5.

# %% solution="5-puzzle-2"
lengths = np.array([2, 5, 3])
### BEGIN SOLUTION: a row of places against a column of lengths
is_real = np.arange(5) < lengths[:, None]
### END SOLUTION

# %% test="5-puzzle-2-check" points=1
assert is_real.shape == (3, 5) and is_real.dtype == bool and is_real.sum(axis=1).tolist() == [2, 5, 3] and is_real[:, 0].all()

# %% [markdown]
# ## 5a · A tokenizer
#
# `encode(text, words, length)` splits a text at spaces and returns `length` ids: words by their place in the list `words`, plus 3; 0 for padding, 1 for a
# word that is not in the list, 2 at the end of the text. A text that is too long is cut, and still ends with 2.
#
# <details><summary>Hint 1: the idea</summary>First the ids of all words; then cut to what leaves room for the end; then the end; then padding.</details>
# <details><summary>Hint 2: the formula</summary>ids[: length − 1] + [2], and zeros up to length.</details>
# <details><summary>Hint 3: the first line</summary>A dict from word to place is quicker than <code>words.index</code>, and has <code>.get</code>.</details>

# %% solution="5a"
def encode(text, words, length):
    """Return a list of `length` ids."""
    ### BEGIN SOLUTION: look up, cut, end, fill
    place = {word: i + 3 for i, word in enumerate(words)}
    ids = [place.get(word, 1) for word in text.split()][: length - 1] + [2]
    return ids + [0] * (length - len(ids))
    ### END SOLUTION

# %% test="5a-form" points=1
words = ["a", "red", "star"]
assert encode("a red star", words, 6) == [3, 4, 5, 2, 0, 0], encode("a red star", words, 6)

# %% test="5a-edges" points=2
assert encode("a purple star", words, 5) == [3, 1, 5, 2, 0], "an unknown word is 1"
assert encode("a red red red star", words, 4) == [3, 4, 4, 2], "a long text is cut, and its end stays"
assert encode("", words, 3) == [2, 0, 0], "an empty text is its end"

# %% [markdown]
# ## 5b · A bag of words
#
# `bag(rows, ids)` returns the mean of the rows (V, D) of the words of each text: ids (B, T) -> (B, D). Padding (0) and the end (2) do not count.
#
# <details><summary>Hint 1: the idea</summary>Look all rows up, weigh each by 1 or 0, sum over the words, divide by how many there are.</details>
# <details><summary>Hint 2: the formula</summary>Σ_t w_t · rows[ids_t] / Σ_t w_t with w = (ids ≠ 0) and (ids ≠ 2)</details>
# <details><summary>Hint 3: the first line</summary><code>counts = (ids != 0) & (ids != 2)</code></details>

# %% solution="5b"
def bag(rows, ids):
    """Return the mean row of the words of each text."""
    ### BEGIN SOLUTION: weigh, sum, divide
    weight = ((ids != 0) & (ids != 2))[..., None]
    return (rows[ids] * weight).sum(axis=1) / weight.sum(axis=1)
    ### END SOLUTION

# %% test="5b-value" points=1
rows = np.arange(12.0).reshape(6, 2)
assert bag(rows, np.array([[3, 5, 2, 0]])).tolist() == [[8.0, 9.0]], "the mean of rows 3 and 5"

# %% test="5b-blind" points=2
rng = np.random.default_rng(0)
rows, ids = rng.normal(size=(9, 4)), rng.integers(3, 9, (5, 6))
more = np.concatenate([ids, np.full((5, 1), 2), np.zeros((5, 3), int)], axis=1)
rows_changed = rows.copy()
rows_changed[[0, 2]] += 100
assert np.allclose(bag(rows, ids), bag(rows, rng.permuted(ids, axis=1))), "the order of words does not matter"
assert np.allclose(bag(rows, ids), bag(rows_changed, more)), "neither padding nor the end, nor what their rows hold"

# %% [markdown]
# ## 5c · The language loss
#
# `lm_loss(logits, ids, is_real, smoothing)` returns the mean surprise at each real next token: the logits (B, T, V) at place t answer for the id at t + 1.
# With `smoothing` e a target is worth 1 − e, and all V tokens share e evenly.
#
# <details><summary>Hint 1: the idea</summary>Cut the last logits and the first ids off; what remains stands side by side. Average over real targets of the whole batch.</details>
# <details><summary>Hint 2: the formula</summary>−(1 − e) ln p[target] − e · mean over V of ln p</details>
# <details><summary>Hint 3: the first line</summary><code>shifted = logits - logits.max(axis=-1, keepdims=True)</code>, then subtract the logarithm of the sum of exponentials.</details>

# %% solution="5c"
def lm_loss(logits, ids, is_real, smoothing):
    """Return the mean surprise in nats."""
    ### BEGIN SOLUTION: log-probabilities, the shift, the smoothed target, the mean over real ones
    level = logits - logits.max(axis=-1, keepdims=True)
    log_p = (level - np.log(np.exp(level).sum(axis=-1, keepdims=True)))[:, :-1]
    own = np.take_along_axis(log_p, ids[:, 1:, None], axis=-1)[..., 0]
    surprise = -(1 - smoothing) * own - smoothing * log_p.mean(axis=-1)
    return surprise[is_real[:, 1:]].mean()
    ### END SOLUTION

# %% test="5c-form" points=1
check.lm_loss(lm_loss, only="T01")

# %% test="5c-core" points=4
check.lm_loss(lm_loss)

# %% [markdown]
# ## Open question
#
# Retrieval models were long evaluated with pictures of single things, and bags of words did well. Why? Describe a set of five captions on which a bag of
# words must fail, and one on which it cannot.

# %% [markdown] answer="5d" points=2
# *Your answer, in three sentences:*
