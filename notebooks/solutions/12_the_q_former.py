# %% [markdown]
# # Exercises 12 · The Q-Former
#
# Write NumPy. Each task is followed by its check. After a pass it prints `holds:` and the codes of the properties (a plain `assert` prints nothing);
# else it prints five lines: which property broke, what was found, the smallest input that breaks it, why it matters, and the likely mistake. Hints
# are folded; open one at a time. Rows look, columns are looked at, **True = may attend**; the sequence is `[queries ; text]`.

# %%
import numpy as np

from tinymm.layers import multimodal_causal_mask
from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** Two queries and a text of three real tokens. Without running anything: how many cells are open under ITC, under ITG, and under ITM?
# Assign three numbers: `open_itc, open_itg, open_itm`.

# %% solution="12-puzzle-1"
### BEGIN SOLUTION: two blocks; queries, text to queries, a triangle; everything
open_itc, open_itg, open_itm = 4 + 9, 4 + 6 + 6, 25
### END SOLUTION

# %% test="12-puzzle-1-check" points=1
itg = multimodal_causal_mask(2, np.ones((1, 3), bool))
assert open_itg == itg.sum(), "queries see queries, each word sees two queries, and the words make a triangle"
assert open_itm == 5 * 5 and open_itc == open_itm - 2 * (2 * 3), "ITC is everything without the two blocks between queries and text"

# %% [markdown]
# **Puzzle 2.** A picture's four queries have these cosines with a text. In one line: which query, by its number, gets the gradient of the pair's score?
# Assign a number: `learns`.

# %% solution="12-puzzle-2"
cosines = np.array([0.1, -0.9, 0.3, 0.2])
### BEGIN SOLUTION: the maximum passes its gradient to the one that attains it
learns = int(cosines.argmax())
### END SOLUTION

# %% test="12-puzzle-2-check" points=1
step = 1e-6 * np.eye(4)
moves = (cosines + step).max(axis=1) - cosines.max() > 0
assert list(np.flatnonzero(moves)) == [learns], "move one cosine at a time: for which of them does the maximum move?"

# %% [markdown]
# ## 12a · The three masks
#
# `three_masks(Q, is_real, objective)` takes the number of queries, booleans (B, T), True for a real token, and "itc", "itg" or "itm", and returns
# booleans (B, 1, Q+T, Q+T). Queries always see all queries, and nobody sees padding. In ITC neither side sees the other, and text sees text both ways.
# In ITG queries see no text, and a word sees all queries and the words up to itself. In ITM all see all.
#
# <details><summary>Hint 1: the idea</summary>Say for each row and each column whether it is a query. All three masks are a rule over these two answers, and then padding columns close.</details>
# <details><summary>Hint 2: the formula</summary>ITC: same kind. ITG: the column is a query, or it is not later than the row. ITM: always. Does ITG's rule let a query see text? Queries stand first.</details>
# <details><summary>Hint 3: the first line</summary><code>place = np.arange(Q + is_real.shape[1])</code>, and <code>is_query = place &lt; Q</code>.</details>

# %% solution="12a"
def three_masks(Q, is_real, objective):
    """Return (B, 1, Q+T, Q+T) booleans: True where a row may look at a column."""
    ### BEGIN SOLUTION: a rule over places, then the padding columns
    place = np.arange(Q + is_real.shape[1])
    is_query = place < Q
    rules = {
        "itc": is_query[:, None] == is_query,
        "itg": is_query | (place <= place[:, None]),
        "itm": np.ones((len(place), len(place)), bool),
    }
    columns = np.concatenate([np.ones((len(is_real), Q), bool), is_real], axis=1)
    return rules[objective] & columns[:, None, None, :]
    ### END SOLUTION

# %% test="12a-form" points=1
check.qformer_masks(three_masks, only="M01")

# %% test="12a-union" points=1
check.qformer_masks(three_masks, only="Q09")

# %% test="12a-core" points=3
check.qformer_masks(three_masks)

# %% test="12a-hidden" points=1
### BEGIN HIDDEN TESTS
for Q, T in ((1, 1), (3, 5), (32, 12)):
    assert (three_masks(Q, np.ones((2, T), bool), "itg") == multimodal_causal_mask(Q, np.ones((2, T), bool))).all(), f"ITG with Q = {Q}, T = {T}"
### END HIDDEN TESTS

# %% [markdown]
# ## 12b · The best query
#
# `best_query(I, T)` takes raw queries I (B, Q, E) and raw texts T (C, E), and returns (B, C): the cosine of each text with that query of each picture
# which meets it best.
#
# <details><summary>Hint 1: the idea</summary>A cosine is a product of unit vectors. First the lengths, then all products, then the maximum; in another order it is something else.</details>
# <details><summary>Hint 2: the formula</summary>s[b, c] = max over q of (I[b, q] / |I[b, q]|) · (T[c] / |T[c]|).</details>
# <details><summary>Hint 3: the first line</summary><code>I = I / np.linalg.norm(I, axis=-1, keepdims=True)</code>; then I @ T.T has the shape (B, Q, C).</details>

# %% solution="12b"
def best_query(I, T):
    """Return (B, C): the cosine of each text and of each picture's query that meets it best."""
    ### BEGIN SOLUTION: unit length, all products, the maximum over queries
    I = I / np.linalg.norm(I, axis=-1, keepdims=True)
    T = T / np.linalg.norm(T, axis=-1, keepdims=True)
    return (I @ T.T).max(axis=1)
    ### END SOLUTION

# %% test="12b-form" points=1
check.max_over_queries(best_query, only="X01")

# %% test="12b-core" points=3
check.max_over_queries(best_query)

# %% [markdown]
# ## 12c · The pairs of ITM
#
# `pairs(image_for_text, text_for_image)` takes for each text a wrong picture (B,) and for each picture a wrong text (B,), and returns three arrays of
# length 3B: pictures, texts, and labels, 1 where they belong together. There are the B true pairs, each text with its wrong picture, and each picture with
# its wrong text.
#
# <details><summary>Hint 1: the idea</summary>Three groups of B pairs. In each, write down who stands at place i: own or drawn?</details>
# <details><summary>Hint 2: the formula</summary>(i, i) with label 1; (image_for_text[i], i) with label 0; (i, text_for_image[i]) with label 0.</details>
# <details><summary>Hint 3: the first line</summary><code>own = np.arange(len(image_for_text))</code>, and then np.concatenate three times.</details>

# %% solution="12c"
def pairs(image_for_text, text_for_image):
    """Return (pictures, texts, labels), each (3B,)."""
    ### BEGIN SOLUTION: true pairs, wrong pictures, wrong texts
    own = np.arange(len(image_for_text))
    images = np.concatenate([own, image_for_text, own])
    texts = np.concatenate([own, own, text_for_image])
    return images, texts, (np.arange(3 * len(own)) < len(own)).astype(int)
    ### END SOLUTION

# %% test="12c-form" points=1
check.itm_pairs(pairs, only="N07")

# %% test="12c-core" points=3
check.itm_pairs(pairs)

# %% [markdown]
# ## Open question
#
# A colleague trains all three losses in *one* pass, with ITM's mask for all of them, "because ITM's mask allows everything that the others allow". Which
# of the three losses will look too good, which one will be useless in a search over a million stored pictures, and how would you show either in one line?

# %% [markdown] answer="12d" points=2
# *Your answer, in three sentences:*
