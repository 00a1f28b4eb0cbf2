# %% [markdown]
# # 7 · Attention and masks
#
# | | |
# |---|---|
# | **Time** | 40 min to read, 60 min with the exercises |
# | **Needs** | notebook 5 (tokens, next-word loss); matrix products, softmax |
# | **Gives** | masks that you can draw, combine and test; a feeling for what a leak does |
# | **Source** | Vaswani et al. 2017, §3.2: "We need to prevent leftward information flow in the decoder to preserve the auto-regressive property." |
# | **Track** | main |
# | **Edition** | tinymm 0.1.0 |
#
# Attention answers every position with a mean of the values that the position may look at. The mask says which. It is one boolean array, and the
# difference between a language model and a machine that copies its own answer is one diagonal of it.

# %%
import numpy as np

from tinymm.autodiff import no_grad
from tinymm.data.builtin import glyphs
from tinymm.layers import Block, Embedding, LayerNorm, Module, causal_mask, padding_mask
from tinymm.layers.attention import attention
from tinymm.losses import language_loss
from tinymm.testing import check
from tinymm.training.optimizers import AdamW
from tinymm.viz import MaskExplorer, charts, grids, tables
from tinymm.viz.attention.maps import effective_keys
from tinymm.viz.masks import figure as masks
from tinymm.viz.widgets import lesson

lesson.edition("0.1.0")

# %% [markdown]
# ## One row at a time, by hand
#
# Three tokens, two numbers each. A *query* asks, a *key* answers, and the *value* is what is passed on. The score of row i and column j is
# qᵢ·kⱼ/√D; blocked scores are left out; softmax makes weights of what remains; the output is the weighted mean of the values.
#
# **Predict.** Under a causal mask, what is the weight with which the *first* token looks at itself?

# %%
guess_first = None  # a number between 0 and 1

# %%
names = ["red", "blue", "ball"]
q = np.array([[1.0, 0.0], [0.0, 2.0], [2.0, 1.0]])
k = np.array([[1.0, 1.0], [0.0, 1.0], [2.0, 0.0]])
v = np.array([[10.0, 0.0], [0.0, 10.0], [5.0, 5.0]])
may_attend = causal_mask(3)
scores = q @ k.T / np.sqrt(2)
raised = np.where(may_attend, np.exp(scores), 0)
weights = raised / raised.sum(axis=1, keepdims=True)
lesson.predicted("weight of red on red", guess_first, weights[0, 0])

# %%
steps = {"scores": scores, "e^score": raised, "weights": weights, "output": weights @ v}
blocked = dict.fromkeys(("scores", "e^score", "weights"), ~may_attend)
lesson.show(grids.grids(steps, names, blocked=blocked, sums=["weights"], title="Blocked cells get no share, and each row's weights sum to 1"))

# %% [markdown]
# The library does the same in one line. Its mask is boolean, rows look and columns are looked at, **True = may attend**. Other libraries mean the
# opposite by True, or add −∞; a mask carried from one to the other without a look at this sentence is a common way to lose a week.

# %%
print("largest difference:", np.abs(attention(q, k, v, may_attend).data - weights @ v).max() < 1e-12 and "below 1e-12")

# %% [markdown]
# ## Masks combine
#
# Padding fills short captions up. Nobody may look at it, so *columns* are blocked; what a padding row computes is nobody's business. Two masks
# combine with `&`: both must allow.

# %%
caption = ["a", "red", "ball", "[PAD]"]
is_real = np.array([[True, True, True, False]])
both = causal_mask(4) & padding_mask(is_real)
lesson.show(masks.draw(both, caption, is_real=is_real[0], title="Causal & padding: a word sees itself and real words before it"))
print(masks.draw_alt(both, caption, is_real[0]))

# %% [markdown]
# ## A layer shows what a row sees, a stack what it can know
#
# Row 3 looks at row 2, and row 2 looked at row 1 one layer below. What a row *knows* after L layers is the mask, composed L times.
#
# **Predict.** A mask lets each token see itself, the past and **one** token of the future. After 3 layers, how many tokens ahead can it know?

# %%
guess_ahead = None  # a whole number

# %%
one_ahead = np.tri(6, k=1, dtype=bool)
ahead = [int(masks.reachable(one_ahead, layers)[0].sum()) - 1 for layers in (1, 2, 3)]
lesson.predicted("tokens ahead after 3 layers", guess_ahead, ahead[2])

# %%
words = ["the", "small", "red", "ball", "rolls", "away"]
lesson.show(masks.draw(one_ahead, words, layers=3, title="A leak of one token a layer is a leak of three tokens in three layers"))
print(tables.table(["layers", "tokens ahead", "causal: ahead"], [[n, ahead[n - 1], 0] for n in (1, 2, 3)]))

# %% [markdown]
# Ask it yourself: choose a row with the pointer or the arrow keys, change the number of layers, compare the two masks. (A code host shows the picture only;
# in JupyterLab and on the site it answers.)

# %%
both_masks = {"one ahead": one_ahead, "causal": causal_mask(6)}
lesson.show(MaskExplorer.from_masks(both_masks, words, layers=3))

# %% [markdown]
# ## Why 1/√D
#
# A product of two random vectors of width D has a standard deviation of √D. Softmax makes of large scores one winner, and a softmax with one winner
# passes on hardly any gradient.
#
# **Predict.** 32 random keys, D = 512, scores **not** divided by √D: over how many keys is the attention effectively spread? (The measure is the
# exponential of the entropy: 32 if all weights are alike, 1 if one has everything.)

# %%
guess_keys = None  # between 1 and 32

# %%
rng = np.random.default_rng(0)
widths, spread = [2, 8, 32, 128, 512], {"q·k": [], "q·k/√D": []}
for D in widths:
    raw = (rng.normal(size=(400, 1, D)) @ rng.normal(size=(400, D, 32)))[:, 0]
    for name, z in (("q·k", raw), ("q·k/√D", raw / np.sqrt(D))):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        spread[name].append(effective_keys(e / e.sum(axis=1, keepdims=True)).mean())
lesson.predicted("effective keys at D = 512 without 1/√D", guess_keys, spread["q·k"][-1])

# %%
curves = {name: (widths, values) for name, values in spread.items()}
lesson.show(
    charts.lines(curves, references={"all alike": 32}, log="x", marked=True, x="width D", y="effective keys of 32",
                 title="Without 1/√D wide heads look at one key; with it the width does not matter")
)  # fmt: skip

# %% [markdown]
# ## The experiment: a mask that leaks one token
#
# Two language models of two layers learn the names of characters, "latin small letter a with ring below". They are equal in everything, the random
# draws included, except that the second mask lets every row see **one** token too many. The next word, which it is asked for, is that token.
#
# The model is put together from the library's parts; the mask is an argument.

# %%
class NameWriter(Module):
    def __init__(self, V, T, D, rng):
        self.word, self.place = Embedding(V, D, rng=rng), Embedding(T, D, rng=rng)
        self.blocks = [Block(D, 4, rng=rng) for _ in range(2)]
        self.norm = LayerNorm(D)

    def forward(self, ids, may_attend):
        x = self.word(ids) + self.place(np.arange(ids.shape[1]))  # (B, T, D)
        for block in self.blocks:
            x = block(x, may_attend)
        return self.norm(x) @ self.word.weight.T  # (B, T, V)


# %%
data = glyphs.load()
V = len(data.tokenizer)
ids, real = data.tokenizer([data.names[i] for i in data.trained])
test_ids, test_real = data.tokenizer(data.held_out_names())
MASKS = {"right": lambda T: np.tri(T, dtype=bool), "leaking": lambda T: np.tri(T, k=1, dtype=bool)}
print(f"{len(ids)} names to learn from, {len(test_ids)} to test on, {V} words; for example {data.held_out_names()[0]!r}")

# %% [markdown]
# **Predict.** The right model's loss on unseen names will be about 1.3 nats. And the leaking one's? And how many of its next words are right when the
# future is really absent, as it is when one *writes*?

# %%
guess_loss = None  # nats
guess_right = None  # a share between 0 and 1

# %%
def taught(may_attend, steps=300):
    draws = np.random.default_rng(0)
    model, curve = NameWriter(V, ids.shape[1], 64, draws).astype(np.float32), {}
    optimizer = AdamW(model, weight_decay=0.01)
    for step in lesson.within(range(1, steps + 1)):
        rows = draws.choice(len(ids), 64, replace=False)
        language_loss(model(ids[rows], may_attend), ids[rows], real[rows]).backward()
        optimizer.step(learning_rate=3e-3, max_grad_norm=1.0)
        if step % 25 == 0 or step == 1:
            with no_grad():
                curve[step] = language_loss(model(test_ids, may_attend), test_ids, test_real).item()
    return model, curve


# %%
trained = {name: taught(mask(ids.shape[1])) for name, mask in MASKS.items()}
final = {name: list(curve.values())[-1] for name, (_, curve) in trained.items()}
lesson.predicted("loss of the leaking model (nats)", guess_loss, final["leaking"])

# %%
curves = {f"{name} mask": (list(curve), list(curve.values())) for name, (_, curve) in trained.items()}
lesson.show(
    charts.lines(curves, references={"equal words: ln V": np.log(V)}, x="step", y="loss on unseen names (nats)",
                 title="The loss loves the leak: it falls to nearly nothing")
)  # fmt: skip

# %% [markdown]
# If the loss were all we had, we would ship the leaking model. Now take the future away: give each model only the words so far, and ask for the next.
# The control is a "model" that always says the word that is most frequent at that place.

# %%
def next_words(model, mask, absent):
    """Return the likeliest word after each beginning (N, T-1): the future absent, or lying there."""
    T = test_ids.shape[1]
    with no_grad():
        if not absent:
            return model(test_ids, mask(T)).data.argmax(axis=-1)[:, :-1]
        return np.stack([model(test_ids[:, :t], mask(t)).data[:, -1].argmax(axis=-1) for t in range(1, T)], axis=1)


def share_right(words):
    return float((words == test_ids[:, 1:])[test_real[:, 1:]].mean())


# %%
usual = [np.bincount(ids[real[:, t], t]).argmax() for t in range(1, ids.shape[1])]
found = {"future absent": {}, "future lying there": {}}
for absent, row in zip((True, False), found.values(), strict=True):
    row.update({f"{name} mask": share_right(next_words(trained[name][0], mask, absent)) for name, mask in MASKS.items()})
control = share_right(np.broadcast_to(usual, test_ids[:, 1:].shape))
lesson.predicted("share right, leaking, future absent", guess_right, found["future absent"]["leaking mask"])
known = {"chance 1/V": 1 / V, "control: the place's usual word": control}
lesson.show(charts.bars(found, references=known, unit="share of next words right", title="The leaking model has learned to copy, and cannot write"))

# %%
with no_grad():
    rows = []
    for name, mask in MASKS.items():
        said = test_ids[:1, :2]
        while said.shape[1] < 9 and said[0, -1] != data.tokenizer.end_of_text:
            after = trained[name][0](said, mask(said.shape[1])).data[:, -1].argmax(axis=-1)
            said = np.concatenate([said, after[:, None]], axis=1)
        rows.append([name, data.tokenizer.decode(said)[0]])
print(tables.table(["mask", "what it writes after “latin”"], rows))

# %% [markdown]
# ## Break it
#
# The loss did not notice; a property does. Switch `LEAK` off and run the cell again. Below it the second favorite: a mask that is applied *after*
# the softmax. It hides what it should, and yet the weights no longer sum to 1.

# %%
LEAK = True
lesson.caught(lambda: check.causal_mask(lambda n: np.tri(n, k=1 if LEAK else 0, dtype=bool)))

# %%
def masked_too_late(q, k, v, may_attend):
    z = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True) * may_attend) @ v


lesson.caught(lambda: check.attention(masked_too_late))

# %% [markdown]
# Ours passes all of them, and so must yours: the strict tier also asks that a row which may look at *nothing* gives zeros and no NaN.

# %%
lesson.caught(lambda: check.attention(lambda q, k, v, m: attention(q, k, v, m).data))

# %% [markdown]
# ## What you may now say
#
# - A mask is a boolean array; rows look, True = may attend; masks combine with `&`, and what a row can know after L layers is the mask composed L times.
# - A leak of one token makes the loss wonderful and the model useless; only a test that takes the future away, or a property of the mask, shows it.
# - 1/√D keeps attention spread over many keys whatever the width is.
#
# **What you may not say.** That a weight of 0.9 explains an answer: the value behind it may be thrown away by the next layer. And that every leak
# costs this much: here the leaked token *is* the answer.
#
# ## Read the source
#
# [layers/masks.py](../tinymm/layers/masks.py) · [layers/attention.py](../tinymm/layers/attention.py) ·
# [layers/transformer.py](../tinymm/layers/transformer.py) · [losses/language.py](../tinymm/losses/language.py) ·
# [testing/check/masks.py](../tinymm/testing/check/masks.py) · [viz/masks/figure.py](../tinymm/viz/masks/figure.py)
#
# ## Exercises
#
# [Exercises 7](solutions/07_attention_and_masks.py) (your copy without solutions: `python -m tinymm exercises --student my_exercises --only 07`):
# two puzzles, **7a** a causal mask, **7b** a padding mask, **7c** attention under a mask, and an open question.
