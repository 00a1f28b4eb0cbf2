# %% [markdown]
# # 12 · The Q-Former: three masks, three losses
#
# | | |
# |---|---|
# | **Time** | 45 min to read, 70 min with the exercises |
# | **Needs** | notebook 7 (masks, what a stack can know), notebook 8 (contrastive loss) |
# | **Gives** | the three masks of BLIP-2's first stage, drawn and tested; what each loss is for; a leak that looks like a success |
# | **Source** | Li et al. 2023 (BLIP-2), §3.2: "Each objective employs a different attention masking strategy between queries and text to control their interaction." |
# | **Track** | main |
# | **Edition** | tinymm 0.1.0 |
#
# A picture encoder is frozen; it gives a few hundred tokens that no text model understands. The Q-Former stands in front of it. It has a few
# learned rows, the **queries**, that look at the picture; and it can read **text**. Both kinds of rows go through one stack, as one sequence
# `[queries ; text]`. Only queries look at the picture. Who else may look at whom is one boolean array, and that array is all that tells the three
# objectives apart.

# %%
import numpy as np

from tinymm.autodiff import no_grad
from tinymm.data.builtin import shapes
from tinymm.layers import bidirectional_mask, reachability, unimodal_mask
from tinymm.losses import ITM_PRIOR, max_over_queries
from tinymm.models import blip2, qformer, vit
from tinymm.tasks import losses
from tinymm.testing import check
from tinymm.training import evaluate_matching as evaluate
from tinymm.training.optimizers import AdamW
from tinymm.viz import MaskExplorer, charts, tables
from tinymm.viz.masks import figure as masks
from tinymm.viz.masks import objectives
from tinymm.viz.masks.cells import Panel
from tinymm.viz.widgets import lesson

lesson.edition("0.1.0")

# %% [markdown]
# ## Three masks
#
# Four queries and a short caption with one token of padding. Rows look, columns are looked at, True = may attend.
#
# - **ITC**, contrast: which text belongs to which picture? Each side is described alone, since the two descriptions are then compared.
# - **ITG**, generation: which word comes next? Words look at all queries and at the words before them. Queries do not look at words.
# - **ITM**, matching: is this the text? Everything is in view.

# %%
scene = objectives.Scene(queries=4, words=["a", "red", "ball"], padding=1)
lesson.show(objectives.draw_objectives(scene))

# %% [markdown]
# It looks as if the masks open more and more from left to right.
#
# **Predict.** Is every cell that is open in ITC open in ITG, too?

# %%
guess_subset = None  # True or False

# %%
itc, itg, itm = (objectives.OBJECTIVES[name].build(4, scene.is_real[None])[0, 0] for name in objectives.QFORMER)
lesson.predicted("ITC's cells are all open in ITG", guess_subset, bool((itc <= itg).all()))
without_peeking = itm.copy()
without_peeking[:4, 4:] = False
print("ITC within ITM:", bool((itc <= itm).all()), "· ITG within ITM:", bool((itg <= itm).all()))
print("ITC or ITG = ITM without query → text:", bool(((itc | itg) == without_peeking).all()))

# %%
lesson.show(objectives.draw_difference(scene, "itc", "itg"))

# %% [markdown]
# In ITC the text looks both ways, since its first token must sum up the whole caption. In ITG it looks back only. So neither contains the other. The
# law that does hold is the last line above: **ITC ∪ ITG = ITM without its query→text block**. One line of code, and most mistakes break it.
#
# ## Six layers later
#
# A closed cell is not yet a secret: a third row may look at it and be looked at (notebook 7). The picture is drawn as one more token, which queries
# alone see. After six layers, who *knows* what?

# %%
lesson.show(objectives.draw_objectives(scene, layers=6))

# %% [markdown]
# Under ITG and ITM the text knows the picture, though it never looks at it: all it knows went through the queries. That is the point of ITG. A word can
# only be foretold if some query has brought it along, so the queries learn to carry *everything that a caption says*.
#
# Ask it yourself: choose the row of a word or of a query, change the number of layers, and compare ITG with the other two.

# %%
lesson.show(MaskExplorer("itg", queries=4, words=["a", "red", "ball"], padding=1))

# %% [markdown]
# ## Is the model what the drawing says?
#
# We take a real Q-Former, change one input row at a time (a query, or a word's id), and note which outputs move. No mask is looked at here. Then
# we ask whether that is the mask composed with itself, layer by layer.

# %%
data = shapes.load()
words = data.tokenizer = data.tokenizer.with_frame()
Q, D = 4, 64
image = vit.ViTConfig(resolution=32, patch=8, width=D, layers=0, heads=4)
queries = qformer.QFormerConfig(
    Q, D, layers=2, heads=4, encoder_width=D, vocabulary=len(words), context=words.context, cross_every=1,
    feed_forward=2 * D, std=0.07, embedding_std=0.2,
)  # fmt: skip
config = blip2.BLIP2Config(image, queries, 32, decode=words.decode_token, end_of_text=words.end_of_text, smoothing=0.0)
fresh = blip2.BLIP2Stage1(config, np.random.default_rng(0)).astype(np.float64)
print(f"{fresh.count():,} numbers train; for example {data.tests()['held_out'].captions[0]!r}")

# %%
ids, is_real = words(["a red circle", "a"])
ids, is_real = ids[1:], is_real[1:]  # the second caption is shorter, so it is padded
memory = np.random.default_rng(1).normal(size=(1, 17, D))

def moved(model, mask):
    """Return (rows, rows): whether the output of a row moves when the input of another one does."""
    def outputs(row=None):
        own, text = model.queries.data.copy(), np.where(np.arange(ids.shape[1]) + Q == row, 5, ids)
        model.queries.data = own + 1.0 * np.sin(1 + np.arange(D)) * (np.arange(Q) == row)[:, None]
        found, model.queries.data = model(memory, text, mask).data[0], own
        return found
    return np.stack([np.abs(outputs(row) - outputs()).max(axis=1) > 1e-9 for row in range(Q + ids.shape[1])], axis=1)


# %%
names = ["q0", "q1", "q2", "q3", "[CLS]", "a", "[SEP]", *["[PAD]"] * (ids.shape[1] - 3)]
real, panels, rows = np.concatenate([np.ones(Q, bool), is_real[0]]), [], []
with no_grad():
    for name in objectives.QFORMER:
        mask = fresh.masks[name]
        found, law = moved(fresh.qformer, mask(Q, is_real)), reachability([mask(Q, is_real)[0, 0]] * 2)
        panels.append(Panel(found, names, {"query": Q, "text": ids.shape[1]}, real, name.upper(), "Dark: this output (row) moved with that input (column)."))
        rows.append([name.upper(), int(found.sum()), int(law.sum()), int((found != law).sum())])
lesson.show(masks.side_by_side(panels, title="What moves in a real model is what its mask, composed twice, lets through"))
print(tables.table(["", "cells that moved", "cells by the law", "cells that differ"], rows))

# %% [markdown]
# No cell differs. (In this picture a dark cell is one that moved; all three have [CLS] in front here.) The change is an uneven one on purpose: a constant added to a whole row would be erased by the layer norm, and the test would see
# nothing.
#
# ## Three losses, and what they cost one who knows nothing
#
# ITC says nothing if all pairs score alike: ln B. ITM says nothing if it answers "one pair in three is true": 0.6365. ITG says nothing if all words are
# equally likely: ln V. A *fresh* model is not there: it has opinions, and they are wrong.

# %%
batch = data.batch(data.batch_indices(32, 1, 0), np.random.default_rng(0))
start = losses(fresh, batch.images, batch.ids, batch.is_real, rng=np.random.default_rng(0), image_ids=batch.image_ids)
nothing = {"itc": np.log(32), "itm": ITM_PRIOR, "itg": np.log(len(words))}
side = {name.upper(): {"fresh": loss.item(), "knows nothing": nothing[name]} for name, loss in start.items()}
lesson.show(charts.bars(side, unit="loss (nats)", title="A fresh model has opinions: each loss is above that of one who knows nothing"))

# %% [markdown]
# ## The best of many queries
#
# In ITC the score of a picture and a text is the cosine of its **best** query. That is a maximum over Q numbers, and a maximum has a baseline.
#
# **Predict.** In 64 dimensions a random query and a random text have a mean cosine of 0.00. What is the mean cosine of the best of **32** random queries?

# %%
guess_best = None  # a cosine

# %%
rng, counts = np.random.default_rng(0), [1, 2, 4, 8, 16, 32, 64]
best = [max_over_queries(rng.normal(size=(200, count, 64)), rng.normal(size=(200, 64))).mean() for count in counts]
lesson.predicted("mean cosine of the best of 32 random queries", guess_best, best[counts.index(32)])
lesson.show(
    charts.lines({"best of Q random queries": (counts, best)}, references={"one random query": 0}, log="x", marked=True, x="queries Q",
                 y="mean cosine with a random text", title="In 64 dimensions the best of 32 random queries has a cosine of 0.25")
)  # fmt: skip

# %% [markdown]
# ## Two wrong masks that need no training to be seen through
#
# *ITM under ITC's mask*: the queries, which give the answer, do not see the text. *ITC under ITM's mask*: the text's description has seen the picture
# that it is to be compared with. We take one picture, change the text, and look at ITM's logit; and one text, change the picture, and look at its vector.

# %%
def answers(wrong, pictures, captions):
    """Return ITM's mean logits and ITC's text vector of a fresh model, under these masks, for each picture with its caption."""
    model = blip2.BLIP2Stage1(config, np.random.default_rng(0)).astype(np.float64)
    model.masks |= wrong
    pair = model.image_tokens(batch.images)[pictures], batch.ids[captions], batch.is_real[captions]
    return {"ITM, another text": model.itm_logits(*pair).data, "ITC's text, another picture": model.unimodal_features(*pair).data[:, -1]}


# %%
leaks = {"itm": unimodal_mask, "itc": bidirectional_mask}
rows = []
for name, pictures, captions in (("ITM, another text", [0, 0], [0, 1]), ("ITC's text, another picture", [0, 1], [0, 0])):
    moves = [np.abs(np.diff(answers(wrong, pictures, captions)[name], axis=0)).max() for wrong in ({}, leaks)]
    rows.append([name, *(float(move) for move in moves)])
print(tables.table(["the answer moves by", "right mask", "wrong mask"], rows))

# %% [markdown]
# (1e-16 is rounding: the same sums in another order.) Under the wrong mask ITM gives *every* text the same answer, whatever it is trained on. And ITC's text is no longer a text's: you could not store it and
# search with it.
#
# ## The experiment: ITG under ITM's mask
#
# Now the leak that no one sees. Two models learn ITG from drawn scenes, "a red circle left of a blue star". They are equal in everything, the random
# draws included, except that the second one has ITM's mask: queries see the whole text, and so does every word.
#
# To keep this short, the frozen picture encoder is an untrained one: a random projection of the patches. 57 scenes are never shown.
#
# **Predict.** The right model will have about 0.36 nats a word on unseen scenes. And the leaking one? What share of its captions, written word by word, is
# exactly right?

# %%
guess_loss = None  # nats a word
guess_exact = None  # a share between 0 and 1

# %%
held = data.tests()["held_out"]
held_ids, held_real = words(list(held.captions))

# %%
def taught(mask=None, steps=300):
    model, curve = blip2.BLIP2Stage1(config, np.random.default_rng(0)).astype(np.float32), {}
    model.masks |= {} if mask is None else {"itg": mask}
    optimizer, seen = AdamW(model, weight_decay=0.05), model.image_tokens(held.images).data
    for step in lesson.within(range(1, steps + 1), 60):
        batch = data.batch(data.batch_indices(32, step, 0), np.random.default_rng([0, step]))
        losses(model, batch.images, batch.ids, batch.is_real, objectives=("itg",))["itg"].backward()
        optimizer.step(learning_rate=3e-3 * min(step / 30, 1 - 0.95 * step / steps), max_grad_norm=1.0)
        if step % 30 == 0 or step == 1:
            curve[step] = np.log(evaluate.perplexity(model, seen, held_ids, held_real)[0])
    return model, curve


# %%
trained = {"right mask": taught(), "leaking mask": taught(bidirectional_mask)}
curves = {name: (list(curve), list(curve.values())) for name, (_, curve) in trained.items()}
lesson.predicted("loss of the leaking model on unseen scenes (nats)", guess_loss, curves["leaking mask"][1][-1])
lesson.show(
    charts.lines(curves, references={"knows nothing: ln V": np.log(len(words))}, x="step", y="ITG on unseen scenes (nats a word)",
                 title="The loss loves the leak: next to nothing is left after 60 steps")
)  # fmt: skip

# %%
references, other = data.references(held), np.roll(held.images, 20, axis=0)
written = {name: evaluate.write_captions(model, held.images, words) for name, (model, _) in trained.items()}
written["right mask, another's picture"] = evaluate.write_captions(trained["right mask"][0], other, words)
found = {
    name: {
        "exactly right": float(np.mean([text in true for text, true in zip(texts, references, strict=True)])),
        "words right": float(np.mean([evaluate.words_right(text, true) for text, true in zip(texts, references, strict=True)])),
    }
    for name, texts in written.items()
}  # fmt: skip
lesson.predicted("captions exactly right, leaking", guess_exact, found["leaking mask"]["exactly right"])

# %%
lesson.show(
    charts.bars(found, unit="share of 57 unseen scenes", references={"exactly right: a scene of the 288 at random": 1 / 288},
                title="The loss lies, the words do not")
)  # fmt: skip
rows = [[held.captions[i], *(written[name][i] for name in trained)] for i in range(3)]
print("different captions:", *(f"{name} {len(set(texts))};" for name, texts in written.items()))
print("\n".join(f"truth: {a}\n  right mask:   {b}\n  leaking mask: {c}" for a, b, c in rows))

# %% [markdown]
# The leaking model has 0.0002 nats a word and says one and the same sentence of every picture. Its words are right as often, 0.42, as those of a right
# model that is shown *another* picture: that much is grammar. The right model gets 0.80 of the words and 0.12 of the captions, after 300 steps before an
# encoder that was never trained. In the three above it names the right colors each time; a shape, or the order, is not right yet.
#
# ## All losses, all masks
#
# The full table takes minutes: seven models, 500 steps each, before a *trained* encoder, with all three losses. It is kept here; its numbers are rounded.
# *Swaps* are wrong captions of the right words ("a **blue** circle left of a **red** star"); half of them are right by guessing.

# %%
record = lesson.kept("blip2_ablation")
columns, table = record["columns"], {"*knows nothing*": record["chance"]} | record["rows"]
short = ["ITC R@1", "ITM accuracy", "ITG perplexity", "captions exact", "relation swaps ITC", "relation swaps ITM"]
print(tables.table(["", *short], [[name, *(row[columns.index(c)] for c in short)] for name, row in table.items()]))

# %%
swaps = {name: row[columns.index("attribute swaps ITM")] for name, row in record["rows"].items()}
lesson.show(
    charts.bars(swaps, references={"guessing": 0.5}, unit="share of exchanged colors that ITM notices",
                title="ITM notices exchanged colors only where ITC and ITM both run, under their own masks")
)  # fmt: skip

# %% [markdown]
# - *Without ITC*, or with a leak into it, nobody says which wrong pairs are hard. ITM sees easy ones, finds 0.98 of them or more, and cannot tell a swap.
# - *Without ITC* the writing is far **better** (0.88 of the captions exact, against 0.26 with all three; 0.58 with a leak into ITC): in 500 steps the objectives
#   compete for the same queries. ITC pays with retrieval and swaps, not with captions.
# - *Without ITG* perplexity, 290, is far worse than the 19 of one who knows nothing: the untrained writer is sure of wrong words; and ITM loses with it.
# - *ITG under ITM's mask*: the best perplexity of all, 1.11, and not one caption right. The same as in our small run.
# - *ITM under ITC's mask* is at 0.50 exactly, as the two lines above foretold.
#
# ## Break it
#
# The loss did not notice; a property does. `PEEK` opens one block of ITG's mask: queries see the text. Switch it off and run the cell again.

# %%
PEEK = True

def three_masks(Q, is_real, objective):
    mask = objectives.OBJECTIVES[objective].build(Q, is_real).copy()
    if PEEK and objective == "itg":
        mask[..., :Q, Q:] = is_real[:, None, None, :]
    return mask


lesson.caught(lambda: check.qformer_masks(three_masks))

# %% [markdown]
# Ours pass all of them, Q09 being the law of the union.

# %%
lesson.caught(lambda: check.qformer_masks(lambda Q, is_real, objective: objectives.OBJECTIVES[objective].build(Q, is_real)))

# %% [markdown]
# ## What you may now say
#
# - ITC, ITG and ITM are one stack under three masks; ITC ∪ ITG = ITM without query→text, and ITC is not a part of ITG.
# - Text learns of the picture through the queries alone; ITG makes them carry what captions say, ITC says which pairs are hard, ITM judges details.
# - A mask that leaks makes the loss wonderful. Words written one by one, and the properties of the mask, show it.
#
# **What you may not say.** That a low ITG loss means good captions. That a cosine of 0.25 is evidence, where 32 queries may try in
# 64 dimensions (in BLIP-2's 256 their best is at about 0.13). And that this table
# holds elsewhere: it is one seed, drawn pictures, and 57 scenes, of which one is 0.018.
#
# ## Read the source
#
# [layers/masks.py](../tinymm/layers/masks.py) · [models/qformer.py](../tinymm/models/qformer.py) · [models/blip2.py](../tinymm/models/blip2.py) ·
# [losses/matching.py](../tinymm/losses/matching.py) · [testing/check/qformer_masks.py](../tinymm/testing/check/qformer_masks.py) ·
# [viz/masks/objectives.py](../tinymm/viz/masks/objectives.py) · [workflows/studies/ablate_blip2.py](../tinymm/workflows/studies/ablate_blip2.py)
#
# ## Exercises
#
# [Exercises 12](solutions/12_the_q_former.py) (your copy without solutions: `python -m tinymm exercises --student my_exercises --only 12`):
# two puzzles, **12a** the three masks, **12b** the best query, **12c** the pairs of ITM, and an open question.
