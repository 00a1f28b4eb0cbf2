# %% [markdown]
# # 10 · ALBEF: queue, momentum, hard negatives
#
# | | |
# |---|---|
# | **Time** | 40 min to read, 60 min with the exercises |
# | **Needs** | notebooks 7 and 8 |
# | **Gives** | three ideas that outlived their paper: a queue of old answers, a slow twin, and wrong answers that are nearly right |
# | **Source** | Li et al. 2021, ALBEF, §3.2–3.3; He et al. 2020, MoCo: "we build a dynamic dictionary with a queue and a moving-averaged encoder" |
# | **Track** | papers |
# | **Edition** | tinymm 0.1.0 |
#
# CLIP learns from the wrong answers in its batch, and has many of them because its batch is 32,768. ALBEF had eight GPUs. It keeps wrong answers in a
# queue, trusts a slow copy of itself to judge them, and asks a second question about the hardest: do these two really belong together?

# %%
import numpy as np

from tinymm.autodiff import no_grad
from tinymm.data.builtin import shapes
from tinymm.losses import hard_negatives, l2_normalize, soft_targets
from tinymm.losses.matching import ITM_PRIOR
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.momentum import FeatureQueue, moving_average
from tinymm.tasks.albef import after_step, step
from tinymm.testing import check
from tinymm.training.optimizers import AdamW
from tinymm.viz import charts, tables
from tinymm.viz.models.queue_ring import ring
from tinymm.viz.widgets import lesson

lesson.edition("0.1.0")

# %% [markdown]
# ## A queue is a ring
#
# Eight slots, batches of two. A push overwrites the oldest rows and moves the pointer on. Slots that nothing has filled yet hold random directions, and their
# picture's id is −100, nobody's.
#
# **Predict.** After five pushes of two rows into eight slots: where does the pointer stand?

# %%
guess_pointer = None  # 0 to 7

# %%
queue, rng = FeatureQueue(8, 4, np.random.default_rng(0)), np.random.default_rng(1)
for k in range(5):
    queue.push(rng.normal(size=(2, 4)), rng.normal(size=(2, 4)), np.array([10 * k, 10 * k + 1]))
lesson.predicted("pointer", guess_pointer, queue.pointer)
print(tables.table(["slot", "picture", "rows since"], [[str(i), int(queue.ids.data[i]), int(age)] for i, age in enumerate(queue.ages())]))

# %% [markdown]
# The rows are *features*, computed when their batch was there; the pictures are gone. Three reasons for it: wrong answers become as many as one likes
# (65,536 in the paper), at the price of a matrix product; they cost no forward pass; and no gradient flows into them, so nothing of their graph is kept.
#
# ## The twin forgets slowly
#
# An encoder that changes at every step would fill the queue with features of many different encoders. So a *twin* fills it: θ_m ← m·θ_m + (1 − m)·θ.
#
# **Predict.** With m = 0.995, after how many steps does half of the twin still come from before?

# %%
guess_steps = None  # a number of steps

# %%
twin, half = np.array([1.0]), 0
while twin[0] > 0.5:
    twin, half = moving_average(twin, np.array([0.0]), 0.995), half + 1
lesson.predicted("half-life of m = 0.995, in steps", guess_steps, half)

# %% [markdown]
# ## The experiment: how true is an old feature?
#
# A tiny ALBEF learns from drawn scenes, three times, with m = 0, 0.9 and 0.995. At the end we ask the twin for the features of the pictures of *earlier* batches
# again, and compare them with what the queue has kept. After so few steps all features still share a large common part, which tells no picture from another;
# we take the mean of its batch from each feature and compare what is left. The control is another picture's feature.
# (Eight vectors without their mean sum to 0, so −1/7 is to be expected of it.)
#
# **Predict.** With m = 0, what is the cosine between a stored feature and today's, eleven steps later?

# %%
guess_drift = None  # between -1 and 1

# %%
data = shapes.load()
SIZES = {"queue": 96, "alpha_warmup": 0, "alpha": 0.4}


def small(momentum):
    config = ALBEFConfig.tiny(momentum=momentum, **SIZES)
    return ALBEF(config, np.random.default_rng(3))


def batch_of(k, size=8):
    draws = np.random.default_rng(100 + k)
    some = data.batch(draws.choice(len(data), size, replace=False), draws)
    ids = np.minimum(some.ids, small(0.9).config.text.vocabulary - 2)  # the tiny model's vocabulary is smaller
    return some.images[:, ::2, ::2], ids, some.is_real, some.image_ids  # half the resolution


# %%
def drift(momentum, steps=60):
    model, stored = small(momentum), {}
    optimizer = AdamW(model, weight_decay=0.01)
    for k in range(steps):
        images, ids, is_real, image_ids = batch_of(k)
        made = step(model, images, ids, is_real, rng=np.random.default_rng(k), image_ids=image_ids)
        sum(made.losses.values()).backward()
        optimizer.step(learning_rate=2e-3, max_grad_norm=1.0)
        stored[k] = made.memory.images  # the twin's features, which the queue takes in
        if k + 1 < steps:  # after the last step the twin stays as it was in it
            after_step(model, made.memory)
    return model, stored


# %%
def cosine_now(model, kept, k, other=0):
    twin = model.momentum_encoder.model
    with no_grad():
        today = twin.project_image(twin.image_tokens(batch_of(k)[0])).data
    own = [l2_normalize(features - features.mean(axis=0)) for features in (np.roll(kept, other, axis=0), today)]
    return float((own[0] * own[1]).sum(axis=1).mean())


# %%
steps_back, curves = list(range(12)), {}
for momentum in (0.0, 0.9, 0.995):
    model, stored = drift(momentum)
    curves[f"m = {momentum:g}"] = (steps_back, [cosine_now(model, stored[59 - back], 59 - back) for back in steps_back])
curves["control: another picture, m = 0.995"] = (steps_back, [cosine_now(model, stored[59 - back], 59 - back, other=1) for back in steps_back])
lesson.predicted("cosine after 11 steps, m = 0", guess_drift, curves["m = 0"][1][-1])

# %%
lesson.show(charts.lines(curves, x="steps in the queue", y="cosine with today's, means taken off", marked=True, title="The slower the twin, the longer a stored feature stays true"))

# %% [markdown]
# At m = 0 a feature that is eleven steps old says little of its picture. At 0.995 it is as good as new, but then the twin is hardly trained after sixty steps:
# it is the fresh model still. That is the price of a slow twin, and why short runs want a faster one (0.9 here, 0.995 in the paper's).
#
# ## Soft targets
#
# A web caption is rarely the only right one. So a share α of each row of targets goes where the twin looks, by the softmax of its own similarities.
#
# **Predict.** Four equal similarities, α = 0.4: what is the target of a picture's own text?

# %%
guess_target = None  # a probability

# %%
lesson.predicted("target of the own text", guess_target, float(soft_targets(np.zeros((1, 4)), 0.4)[0, 0]))

# %%
twin_says = np.array([[6.0, 1.0, 0.0, 5.0, 0.0, 2.0]])
rows = np.concatenate([soft_targets(twin_says, alpha) for alpha in (0.0, 0.4, 1.0)])
drawn = ring(queue.ages(), queue.pointer, 2, rows, title="A queue of eight rows by age; and one row of targets over a batch of two and four of the queue")
drawn.table = tables.table(["share of the twin", *(f"column {j}" for j in range(6))], [[f"{a:g}", *row] for a, row in zip((0, 0.4, 1), rows, strict=True)])
lesson.show(drawn)

# %% [markdown]
# With α = 1 the twin alone decides, and column 3, an entry of the queue that is one unit of similarity behind the pair's own (5 against 6), gets 0.26 against 0.72: the
# ratio is 1/e. With α = 0 it is the plain contrastive loss.
#
# ## Hard negatives
#
# The second question, "does this text belong to this picture?", is easy for a random wrong text. ALBEF draws the wrong ones by how similar they look, from the
# softmax of a row of similarities, its own pair taken out *before*.
#
# **Predict.** A row has the similarities 20 (its own), 18, 10 and 10. With which probability is the second drawn?

# %%
guess_drawn = None  # a probability

# %%
S = np.array([[20.0, 18, 10, 10], [10, 20, 10, 10], [10, 10, 20, 10], [10, 10, 10, 20]])
draws = np.random.default_rng(5)
texts = np.array([hard_negatives(S, np.arange(4), draws)[1][0] for _ in range(2000)])
lesson.predicted("share of 2,000 draws", guess_drawn, float(np.mean(texts == 1)))
print("its own pair was drawn", int(np.sum(texts == 0)), "times")

# %% [markdown]
# ## What a full training reaches
#
# The command below needs five minutes. Held-out scenes; ITC is the contrast alone, ITM the second question on the hardest wrong pairs; MLM fills in hidden words.

# %%
run = lesson.kept("albef")
names = {"held_out_itm_accuracy": "ITM, hardest pairs", "held_out_mlm_accuracy": "MLM", "swap_relation_itm": "relation swaps, ITM", "swap_attribute_itm": "attribute swaps, ITM"}
found = {said: {"reached": run[key], "knowing nothing": run["chance"][key]} for key, said in names.items()}
lesson.show(charts.bars(found, unit="share right", title="Each objective, beside what knowing nothing would reach"))

# %% [markdown]
# For MLM "knowing nothing" is the same model beside *another* picture: half of the words can be guessed from the rest of the sentence. A matching loss that stays at
# its prior has not begun to look:

# %%
print(f"ITM's prior, one pair in three being true: ln 3 - (2/3) ln 2 = {ITM_PRIOR:.4f} nats, right 2 times in 3; reached: {run['held_out_itm_loss']:.3f}")

# %% [markdown]
# ## What each part is for
#
# The same model, seed and steps, one thing changed: the wrong pairs drawn evenly, targets without the twin's opinion (α = 0), a queue of one batch, a twin that
# copies at once (m = 0), neither twin nor queue, no MLM.
#
# **Predict.** With wrong pairs drawn at random, how often is ITM right on the *hardest* ones? One that knows nothing is right 2 times in 3.

# %%
guess_random = None  # a share between 0 and 1

# %%
record = lesson.kept("albef_ablation")
hardest = {name: row["ITM, hardest"] for name, row in record["rows"].items()}
lesson.predicted("ITM on the hardest, random negatives", guess_random, hardest["random negatives"])
lesson.show(charts.bars(hardest, references={"knows nothing": 2 / 3}, unit="share right on the hardest pairs", title="Of all changes, random wrong pairs cost most on the hard ones"))
columns = ["ITC R@1", "re-ranked R@1", "attribute swaps, ITM", "relation swaps, ITM", "MLM"]
print(tables.table(["", *columns], [[name, *(row[c] for c in columns)] for name, row in (record["rows"] | {"knowing nothing": record["chance"]}).items()]))

# %% [markdown]
# Random negatives cost the most on the hard pairs, and nothing on the swaps: a batch of 64 holds scenes that differ in one thing only, so even an even draw
# meets some. The whole of it is the best at contrast (ITC R@1). Two rows are a warning: without MLM matching is a little *better* here, and a twin that copies
# at once loses only 4 of 171 hard pairs, though it falls back in the contrast. (ALBEF's row is the model at its last step; the run above kept the step that was best
# in validation.) It is one seed and 57 scenes, one of which is 0.018; differences of two or three scenes mean nothing.
#
# ## Break it
#
# The original code takes the softmax first and sets the own pair to zero afterwards. When the model is sure of its own pairs, nothing is left to draw from. Switch
# `AFTERWARDS` off and run it again.

# %%
AFTERWARDS = True


def drawn_wrong(S, ids, rng):
    def one_way(S):
        same = ids[:, None] == ids
        z = S if AFTERWARDS else np.where(same, -np.inf, S)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p = np.where(same, 0, p / p.sum(axis=1, keepdims=True))
        return np.array([rng.choice(len(S), p=row / row.sum()) for row in p])

    return one_way(S.T), one_way(S)


with np.errstate(invalid="ignore"):
    lesson.caught(lambda: check.hard_negatives(drawn_wrong))

# %% [markdown]
# ## What you may now say
#
# - A queue holds old *features*; a slow twin keeps them comparable; a target that is soft lets the twin disagree with a caption.
# - Hard negatives are drawn by similarity, the own pair taken out before the softmax.
# - Each loss has a value that means "knows nothing": ln(B + K) for a batch of B and a queue of K, 0.6365, ln V. A number without it is not a result.
#
# **What you may not say.** That momentum here is the optimizer's: the twin is not trained at all. And that a longer queue is always better: longer than the data, it
# holds the batch's own pictures, as wrong answers.
#
# ## Read the source
#
# [models/momentum.py](../tinymm/models/momentum.py) · [models/albef.py](../tinymm/models/albef.py) · [tasks/albef.py](../tinymm/tasks/albef.py) ·
# [losses/contrastive.py](../tinymm/losses/contrastive.py) · [losses/matching.py](../tinymm/losses/matching.py) · [docs: ALBEF](../docs/albef.md)
#
# ## Exercises
#
# [Exercises 10](solutions/10_albef.py) (your copy without solutions: `python -m tinymm exercises --student my_exercises --only 10`):
# two puzzles, **10a** a queue, **10b** a slow twin and its targets, **10c** hard negatives, and an open question.
