# %% [markdown]
# # 5 · Words: from CBOW to a transformer
#
# | | |
# |---|---|
# | **Time** | 35 min to read, 45 min with the exercises |
# | **Needs** | notebooks 1 and 4; a loss that falls |
# | **Gives** | from a text to ids to one vector, and what a bag of words can't say |
# | **Source** | Mikolov et al. 2013 (CBOW): "the order of words in the history does not influence the projection"; Vaswani et al. 2017, §3.5 |
# | **Track** | main |
# | **Edition** | tinymm 0.1.0 |
#
# A picture is already numbers. A text has to become some. The simplest way throws the order of its words away, and for many tasks nobody notices. This
# notebook builds a task where everybody would, and finds out which part of a transformer knows about order.

# %%
import numpy as np

from tinymm.autodiff import no_grad
from tinymm.data.builtin.shapes import split
from tinymm.data.text import WordTokenizer
from tinymm.layers import Block, Embedding, LayerNorm, Linear, Module, padding_mask
from tinymm.losses import language_loss
from tinymm.models.cbow import CBOW, CBOWConfig
from tinymm.tasks.clip import figure_3
from tinymm.testing import check
from tinymm.training.optimizers import AdamW
from tinymm.viz import charts, tables
from tinymm.viz.widgets import lesson

lesson.edition("0.1.0")

# %% [markdown]
# ## Tokens, ids, rows
#
# A tokenizer has a list of words, and gives each its place in it. Three places are special: 0 is padding, which fills short texts up, one stands for words
# that it does not know, and one ends each text. An embedding is a table with a row of numbers for each id; looking a text up gives (T, D) numbers.

# %%
held_out, scenes = split()
tokenizer = WordTokenizer.from_captions(text for scene in scenes for text in scene.captions())
ids, is_real = tokenizer(["a red circle above a blue star", "a purple star"])
print(ids, is_real.astype(int), tokenizer.decode(ids), f"{len(tokenizer)} ids", sep="\n")

# %% [markdown]
# **Predict.** A model that knows nothing gives each of these ids the same probability. How surprised is it by each word, in nats?

# %%
guess_nats = None  # a number

# %%
V = len(tokenizer)
surprise = language_loss(np.zeros((*ids.shape, V)), ids, is_real).item()
lesson.predicted("surprise at each word, ln V", guess_nats, surprise)
print(f"perplexity e^{surprise:.3f} = {np.exp(surprise):.0f}: as if it chose among {V} words")

# %% [markdown]
# ## A bag of words
#
# CBOW averages the rows of the words that occur. Two scenes, "a red circle left of a blue square" and its swap, have the same words.
#
# **Predict.** What is the cosine of CBOW's two vectors for them?

# %%
guess_cosine = None  # between -1 and 1

# %%
bag = CBOW(CBOWConfig(vocabulary=V, context=tokenizer.context, width=32, end_of_text=tokenizer.end_of_text), np.random.default_rng(0))
pair = tokenizer(["a red circle left of a blue square", "a blue square left of a red circle"])
with no_grad():
    u, v = bag(pair[0]).data.astype(float)
cosine = float(u @ v / np.linalg.norm(u) / np.linalg.norm(v))
lesson.predicted("cosine of a caption and its swap", guess_cosine, round(cosine, 6))

# %% [markdown]
# ## The experiment: who knows the order?
#
# The task: match captions with scenes. To keep pictures out of it, a scene is described by 18 zeros and ones: the color and shape of the upper or left
# thing, of the other one, and how they lie. Three readers learn by the loss of CLIP's Figure 3: a bag of words; attention *without* positions; and the same
# attention with a learned row for each position added.
#
# The test asks about scenes that were never trained on: does the right caption score higher than the one with both things swapped? Ties count one half.

# %%
ONE_HOT = {word: row for words in (("red", "green", "blue", "yellow"), ("circle", "square", "triangle", "star"), ("left of", "above"))
           for word, row in zip(words, np.eye(len(words), dtype=np.float32), strict=True)}  # fmt: skip


def described(scene):
    parts = (scene.first.color, scene.first.shape, scene.second.color, scene.second.shape, scene.relation)
    return np.concatenate([ONE_HOT[part] for part in parts])


print(scenes[0], described(scenes[0]).astype(int))

# %%
class Reader(Module):
    """Two blocks of attention in both directions, and the mean over the words."""

    def __init__(self, places, rng, D=48):
        self.word, self.blocks = Embedding(V, D, rng=rng, std=0.3), [Block(D, 4, rng=rng) for _ in range(2)]
        self.place, self.norm = (Embedding(tokenizer.context, D, rng=rng, std=0.3) if places else None), LayerNorm(D)

    def forward(self, ids):
        real, x = ids != 0, self.word(ids)  # (B, T, D)
        x = x if self.place is None else x + self.place(np.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x, padding_mask(real))
        share = (real / real.sum(axis=1, keepdims=True)).astype(np.float32)
        return self.norm((share[:, None] @ x)[:, 0])  # (B, D)


# %% [markdown]
# The test: of two captions of a scene, the right one should score higher; a tie counts one half. *Relation*: the two things are exchanged; *attribute*: their
# colors are; *other object*: one word is replaced by a new one.
#
# **Predict.** Which share of 57 unseen scenes does attention *without* positions get right, where things are exchanged?

# %%
guess_share = None  # between 0 and 1

# %%
class Matcher(Module):
    def __init__(self, reader, width, rng):
        self.reader, self.scene = reader, Linear(18, 48, rng=rng)
        self.W_i, self.W_t = Linear(48, 32, rng=rng, bias=False), Linear(width, 32, rng=rng, bias=False)

    def forward(self, scenes, captions):
        facts = np.stack([described(scene) for scene in scenes])
        return figure_3(self.scene, self.reader, facts, tokenizer(captions)[0], self.W_i.weight, self.W_t.weight, np.float32(2.66))


# %%
def taught(matcher, steps=250):
    draws, optimizer, curve = np.random.default_rng(1), AdamW(matcher, weight_decay=0.01), {}
    for step in lesson.within(range(1, steps + 1)):
        batch = [scenes[i] for i in draws.choice(len(scenes), 48, replace=False)]
        loss, _ = matcher(batch, [scene.captions()[draws.integers(2)] for scene in batch])
        loss.backward()
        optimizer.step(learning_rate=3e-3, max_grad_norm=1.0)
        curve[step] = loss.item()
    return curve


# %%
def told_apart(matcher, kind):
    captions = [str(scene) for scene in held_out] + [scene.swapped()[kind] for scene in held_out]
    with no_grad():
        _, scores = matcher(held_out, captions[:57])
        _, wrong = matcher(held_out, captions[57:])
    gap = np.round(np.diag(scores.data - wrong.data), 4)  # rounding is a tie
    return float(np.mean(np.where(gap == 0, 0.5, gap > 0)))


# %%
seeds, matchers, curves = np.random.default_rng(2), {}, {}
for name in ("bag of words", "no positions", "positions"):
    reader = CBOW(bag.config, seeds) if name == "bag of words" else Reader(name == "positions", seeds)
    matchers[name] = Matcher(reader, 32 if name == "bag of words" else 48, seeds)
    curves[name] = taught(matchers[name])
found = {name: {kind: told_apart(m, kind) for kind in ("relation", "attribute", "other object")} for name, m in matchers.items()}
lesson.predicted("attention without positions, relations", guess_share, found["no positions"]["relation"])

# %%
lesson.show(charts.bars(found, references={"chance": 0.5}, unit="right captions preferred to wrong ones", title="Without positions, attention is a bag of words"))

# %% [markdown]
# The third series is the control: there one word is *replaced* ("other object"), so that the bag differs too, and all three readers can tell. Where the words
# are the same, the first two are at one half *exactly*: not by lack of training, but because they compute the same vector for both.
#
# Did the loss tell? A little. It has a floor, because scenes with the same words in another order are in the batch now and then.

# %%
lines = {name: (list(curve), list(curve.values())) for name, curve in curves.items()}
lesson.show(charts.lines(lines, references={"equal scores: ln 48": np.log(48)}, x="step", y="loss (nats)", title="All three losses fall far below ln n, also of the two that do not see order"))

# %% [markdown]
# ## Permute the words, permute the outputs
#
# Attention without positions is *equivariant*: shuffle the rows that come in, and the rows that come out are shuffled alike. A mean over them then cannot
# know. A table of positions breaks that, and that is its only purpose.

# %%
block, shuffle = Block(16, 4, rng=np.random.default_rng(3)).astype(np.float64), np.array([3, 1, 0, 4, 2])
x, table = np.random.default_rng(4).normal(size=(1, 5, 16)), np.random.default_rng(5).normal(size=(5, 16))
with no_grad():
    without = np.abs(block(x[:, shuffle]).data - block(x).data[:, shuffle]).max()
    with_places = np.abs(block(x[:, shuffle] + table).data - block(x + table).data[:, shuffle]).max()
print(tables.table(["", "outputs differ by"], [["shuffled, no positions", float(without)], ["shuffled, positions", float(with_places)]]))

# %% [markdown]
# ## Break it
#
# A loss over words must not count padding. This one averages over all places, as a loop over a padded batch easily does: the loss then depends
# on how much padding stands in the batch. Switch `COUNTS_PADDING` off and run it again.

# %%
COUNTS_PADDING = True


def my_loss(logits, ids, is_real, smoothing):
    if COUNTS_PADDING:
        is_real = np.ones_like(is_real)
    return language_loss(logits, ids, is_real, smoothing).item()


lesson.caught(lambda: check.lm_loss(my_loss))

# %% [markdown]
# ## What you may now say
#
# - A tokenizer gives ids, an embedding rows; a model that knows nothing has a surprise of ln V, a perplexity of V.
# - A bag of words and attention without positions give a caption and its swap the same vector: exactly one half is right, whatever the training.
# - Positions are what knows the order; attention only uses it.
#
# **What you may not say.** That a model which uses positions understands order in general: it was tested on swaps of this one kind. And that perplexities
# of two tokenizers can be compared: V differs, and so do the words.
#
# ## Read the source
#
# [data/text.py](../tinymm/data/text.py) · [models/cbow.py](../tinymm/models/cbow.py) · [models/text.py](../tinymm/models/text.py) ·
# [losses/language.py](../tinymm/losses/language.py) · [data/builtin/scenes.py](../tinymm/data/builtin/scenes.py)
#
# ## Exercises
#
# [Exercises 5](solutions/05_words.py) (your copy without solutions: `python -m tinymm exercises --student my_exercises --only 05`):
# two puzzles, **5a** a tokenizer, **5b** a bag of words, **5c** the language loss, and an open question.
