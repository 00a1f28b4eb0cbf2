# %% [markdown]
# # 8 · Figure 3, line by line
#
# | | |
# |---|---|
# | **Time** | 45 min to read, 75 min with the exercises |
# | **Needs** | notebooks 5 and 6 (an encoder for words, one for pictures); softmax, cross-entropy |
# | **Gives** | every line of CLIP's loss with its shape and its reason; ln n; what the scale does; the gradient |
# | **Source** | Radford et al. 2021, Figure 3: "Numpy-like pseudocode for the core of an implementation of CLIP." |
# | **Track** | main |
# | **Edition** | tinymm 0.1.0 |
#
# CLIP learns from pictures and the texts that came with them. Nobody says what is in a picture. All that is known is which text stood beside it, and
# that it did not stand beside the others. The paper puts what follows from this into a dozen lines of pseudocode. They are NumPy, so they run.

# %%
import inspect
import sys

import numpy as np

from tinymm import Tensor
from tinymm.data import augment, batches
from tinymm.data.builtin import glyphs
from tinymm.losses import cross_entropy_loss, l2_normalize
from tinymm.models import text, vit
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.tasks.clip import after_step, figure_3
from tinymm.testing import check
from tinymm.training.evaluate import similarities
from tinymm.training.optimizers import AdamW
from tinymm.viz import SimilarityExplorer, charts, grids, tables
from tinymm.viz.retrieval import filmstrip
from tinymm.viz.widgets import lesson

lesson.edition("0.1.0")

# %% [markdown]
# ## The lines
#
# This is not a copy. It is the function that training calls, printed from its file.

# %%
print(inspect.getsource(figure_3))

# %% [markdown]
# ## Eight pairs
#
# Eight characters and their Unicode names. Six of them have a twin: two hearts, two notes, two arrows. The encoders are a small vision transformer
# and a text transformer of one layer, fresh from the generator.

# %%
data = glyphs.load()
captions = ["black heart suit", "white heart suit", "quarter note", "eighth note", "white smiling face", "black sun with rays"]
captions += ["rightwards arrow", "leftwards arrow"]
pictures = data.pictures[0, [data.names.index(name) for name in captions]][..., None]  # (8, 32, 32, 1), 0 to 255
ids, is_real = data.tokenizer(captions)
pairs = batches.PairSet(data.preprocess.normalize(pictures), captions, np.arange(8))
image = vit.ViTConfig(resolution=32, patch=8, width=32, layers=2, heads=4, channels=1)
words = text.TextConfig(len(data.tokenizer), ids.shape[1], width=32, layers=1, heads=4, end_of_text=data.tokenizer.end_of_text)


def fresh():
    return CLIP(CLIPConfig(24, image, words), rng=np.random.default_rng(0))


# %% [markdown]
# ## Every line has a shape
#
# We run the function once and ask Python which names it has made by the time it returns, in the order in which it made them.

# %%
def names_made_by(function, *arguments):
    made = {}

    def look(frame, event, value):
        if frame.f_code is function.__code__ and event == "return":
            made.update(list(frame.f_locals.items())[len(arguments) :])

    sys.setprofile(look)
    function(*arguments)
    sys.setprofile(None)
    return made


# %%
why = {"n": "as many pictures as texts", "I_f": "features of each picture", "T_f": "features of each text"}
why |= {"I_e": "shared embedding space, length 1", "T_e": "the same space, length 1", "logits": "all n·n cosines, times e^t"}
why |= {"labels": "pair i is on the diagonal", "loss_i": "softmax down the columns", "loss_t": "softmax along the rows", "loss": "both, equally"}
m = fresh()
made = names_made_by(figure_3, m.image_encoder, m.text_encoder, pairs.images, ids, m.W_i, m.W_t, m.t)
print(tables.table(["name", "shape", "why"], [[name, str(np.shape(value)), why[name]] for name, value in made.items()]))

# %% [markdown]
# No line says "this is a heart". The labels are `arange(n)`, the same in every batch, and yet something is learned: they say that the diagonal is
# right, and *which* pictures and texts meet on it changes from batch to batch.
#
# ## Which loss is which
#
# `loss_i` has `axis=0` and `loss_t` has `axis=1`. Pictures are the rows of `logits`, texts its columns, and the axis is the one along which the
# shares of the softmax sum to 1.
#
# **Predict.** Along which axis does the softmax run that asks *each picture for its text*?

# %%
guess_axis = None  # 0 or 1

# %%
I_e = l2_normalize(np.array([[1.0, 0.2], [0.3, 1.0], [-1.0, 0.4]]))
T_e = l2_normalize(np.array([[1.0, 0.0], [0.8, 1.0], [-0.2, 1.0]]))
logits = 4 * I_e @ T_e.T
shares = {axis: np.exp(logits) / np.exp(logits).sum(axis=axis, keepdims=True) for axis in (0, 1)}
one_per_row = [axis for axis in shares if np.allclose(shares[axis].sum(axis=1), 1)]
lesson.predicted("the axis", guess_axis, one_per_row[0])
asked = {0: "each text", 1: "each picture"}
rows = [[asked[axis], -np.log(np.diag(shares[axis])).mean(), cross_entropy_loss(logits, np.arange(3), axis=axis).item()] for axis in shares]
print(tables.table(["asked is", "mean of −ln of the diagonal", "cross_entropy_loss"], rows))

# %%
three = ["heart", "note", "arrow"]
steps = {"cosines": logits / 4, "logits": logits, "axis=0": shares[0], "axis=1": shares[1]}
lesson.show(
    grids.grids(steps, [f"picture: {name}" for name in three], three, sums=["axis=1"], column_sums=["axis=0"],
                title="One matrix is read twice: in a column a text chooses its picture, in a row a picture its text")
)  # fmt: skip

# %% [markdown]
# The two halves are different numbers. They agree when the matrix is symmetric, and otherwise only by chance. A text that suits *every* picture, a
# column of large scores, costs the pictures dearly and the texts nothing: each text still finds its own picture. So does a picture that suits every
# text, the other way round. With one half alone the model is free to build such favorites.

# %%
plain, favorite = 4 * np.eye(6), 3.0 * (np.arange(6) == 0)
cases = {"as it should be": plain, "text 0 suits all pictures": plain + favorite, "picture 0 suits all texts": plain + favorite[:, None]}
halves = [[name] + [cross_entropy_loss(case, np.arange(6), axis=axis).item() for axis in (0, 1)] for name, case in cases.items()]
print(tables.table(["n = 6", "loss_i (axis=0)", "loss_t (axis=1)"], halves))

# %% [markdown]
# ## Three losses that you can know beforehand
#
# Figure 3 does not ask what an encoder is. With "return what you got" for both, it takes vectors.
#
# **Predict**, for n = 128 pairs: the loss if all scores are equal; the loss of random unit vectors of width 64 at CLIP's first scale, 1/0.07; and
# the loss of a perfect model at scale 100 in whose batch every caption occurs twice, so that two pictures claim the same text.

# %%
guess_equal = None  # nats
guess_random = None  # nats
guess_twice = None  # nats

# %%
def loss_of(I, T, scale):
    E = np.eye(I.shape[1])
    return figure_3(lambda x: x, lambda x: x, I, T, E, E, np.log(scale))[0].item()


def random_pairs(scale, n=128, E=64, times=100):
    draws = np.random.default_rng(0)
    return [loss_of(*draws.normal(size=(2, n, E)), scale) for _ in range(times)]


# %%
n = 128
copies = {m: np.repeat(np.eye(n // m), m, axis=0) for m in (2, 4)}
found = {"all scores equal": loss_of(np.ones((n, 64)), np.ones((n, 64)), 100.0)}
found |= {f"random, scale {name}": np.mean(random_pairs(scale)) for name, scale in (("1/0.07", 1 / 0.07), ("100", 100.0))}
found |= {f"perfect, each caption {m} times": loss_of(copies[m], copies[m], 100.0) for m in (4, 2)}
lesson.predicted("all scores equal", guess_equal, found["all scores equal"])
lesson.predicted("random vectors at 1/0.07", guess_random, found["random, scale 1/0.07"])
lesson.predicted("perfect, every caption twice", guess_twice, found["perfect, each caption 2 times"])
print("standard deviation from one draw of random vectors to the next, at 1/0.07:", tables.number(np.std(random_pairs(1 / 0.07))))
lesson.show(charts.bars(found, references={"ln 128": np.log(n)}, log=True, unit="loss (nats)", title="Knowing nothing costs ln n; being sure of nonsense costs more"))

# %% [markdown]
# - **Equal scores: ln n.** Every share is 1/n, and −ln(1/n) = ln n. *Any* model that scores all pairs alike has this loss, collapsed ones included.
#   If a loss stays at 4.85 for n = 128, look for this.
# - **A fresh model is above ln n.** Random cosines in E dimensions have variance 1/E. The sum in the softmax is about n·e^(s²/2E), so the loss is about
#   ln n + s²/2E: 4.85 + 1.59 = 6.45, near the 6.36 found (a mean of 100 draws). At 100 the largest cosine decides everything and
#   the estimate fails.
# - **A caption that occurs m times: ln m.** Two pictures share the right text, and no model can do better than one half. Count duplicates before you
#   call a loss too high.
#
# Losses of different n are not comparable: equal scores cost ln 32,768 = 10.4 in the paper's batch, and 0 in a batch of one, where there is nothing to
# tell apart.
#
# ## The temperature
#
# Cosines lie between −1 and 1. That is a narrow range for a softmax over 128 texts.
#
# **Predict.** A perfect model, all right pairs at cosine 1 and all wrong ones at 0, n = 128. What is its loss at scale 1, without a temperature?

# %%
guess_scale_1 = None  # nats

# %%
scales = [0.1, 0.3, 1, 3, 1 / 0.07, 30, 100]
curves = {"random pairs": [np.mean(random_pairs(s)) for s in scales], "perfect pairs": [loss_of(np.eye(n), np.eye(n), s) for s in scales]}
lesson.predicted("perfect pairs at scale 1", guess_scale_1, curves["perfect pairs"][2])
lesson.show(
    charts.lines({name: (scales, values) for name, values in curves.items()}, references={"ln 128": np.log(n)}, log="x", marked=True,
                 x="scale", y="loss (nats)", title="At scale 1 even perfect pairs pay 3.87 of 4.85 nats; a large scale rewards the right and fines the wrong")
)  # fmt: skip

# %% [markdown]
# Perfect pairs cost ln(1 + 127·e^−s). At scale 1 that is 3.87 of 4.85 nats: the loss can hardly tell a perfect model from one that knows nothing. So
# there is a scale, and it is learned. In Figure 3 `t` is its *logarithm*, which keeps it positive; the 0.07 of other papers is a *divisor*, 1/e^t.
# After each step the scale is cut at 100, on the parameter and not in the loss, so that its gradient stays alive.

# %%
rows = [["as CLIP begins", np.log(1 / 0.07), 1 / 0.07, 0.07], ["the limit", np.log(100), 100.0, 0.01]]
print(tables.table(["", "t", "scale e^t", "temperature 1/e^t"], rows))

# %% [markdown]
# ## The gradient
#
# Each half is a cross-entropy, whose gradient with respect to its logits is *share minus label*. Together, with P_rows the softmax along the rows
# (axis=1) and P_columns that down the columns (axis=0):
#
# ∂loss/∂logits = (P_rows + P_columns)/2n − I/n.
#
# Own pairs are pulled together by what they lack, and a wrong pair is pushed apart by the share that it took. It is the *hard* wrong pairs that get
# the push; a pair that nobody confuses gets none.

# %%
scores = Tensor(2 * np.random.default_rng(1).normal(size=(4, 4)) + 2 * np.eye(4), requires_grad=True)
((cross_entropy_loss(scores, np.arange(4), axis=0) + cross_entropy_loss(scores, np.arange(4), axis=1)) / 2).backward()
raised = np.exp(scores.data)
P_rows, P_columns = raised / raised.sum(axis=1, keepdims=True), raised / raised.sum(axis=0)
by_hand = (P_rows + P_columns) / (2 * 4) - np.eye(4) / 4
print("largest difference:", "below 1e-15" if np.abs(by_hand - scores.grad).max() < 1e-15 else np.abs(by_hand - scores.grad).max())

# %%
panels = {"logits": scores.data, "P_rows": P_rows, "P_columns": P_columns, "n · gradient": 4 * scores.grad}
lesson.show(
    grids.grids(panels, [f"picture {i}" for i in range(4)], [f"text {i}" for i in range(4)], sums=["P_rows"], column_sums=["P_columns"],
                title="A wrong pair is pushed by the share that it took, an own pair pulled by what it lacks")
)  # fmt: skip

# %% [markdown]
# ## The experiment: the diagonal fills
#
# Eight pairs, a batch of eight, so the matrix that we draw is the whole problem. Each step distorts the pictures anew. The control is equal in
# everything, but the texts are dealt out anew at each step: which text belongs to which picture is then noise.
#
# **Predict.** Where does the control's loss end?

# %%
guess_control = None  # nats

# %%
def taught(dealt_anew, steps=150, looked_at=(0, 10, 25, 50, 90, 150)):
    model, draws, curve, frames = fresh(), np.random.default_rng(0), [], {}
    optimizer = AdamW(model, weight_decay=0.05)
    for step in lesson.within(range(steps + 1)):
        frames |= {step: (similarities(model, pairs.images, pairs.captions, data.tokenizer), np.exp(model.t.item()))} if step in looked_at else {}
        I, order = data.preprocess.normalize(255 * augment.random_affine(pictures / np.float32(255), draws)), draws.permutation(8)
        loss, _ = figure_3(model.image_encoder, model.text_encoder, I, ids[order] if dealt_anew else ids, model.W_i, model.W_t, model.t)
        loss.backward()
        optimizer.step(learning_rate=2e-3 * (1 - step / (steps + 1)), max_grad_norm=1.0)
        after_step(model, None)
        curve.append(loss.item())
    return frames, curve


# %%
(frames, right), (_, control) = taught(dealt_anew=False), taught(dealt_anew=True)
lesson.predicted("the control's loss, mean of the last 20 steps", guess_control, np.mean(control[-20:]))
curves = {"right pairs": (range(len(right)), right), "control: dealt anew": (range(len(control)), control)}
title = "The diagonal fills: at first the loss falls to “I do not know”, then pairs find each other"
lesson.show(filmstrip.filmstrip(frames, pictures / 255, captions, curves, title=title))

# %% [markdown]
# Captions are the rows here, so that one can read them: it is Figure 3's matrix turned over. Read the margins. To the right of a caption stands the share that it gives its own picture; below a picture, the share that it gives its own caption.
# The loss of a frame is the mean of −ln of these sixteen numbers. (The curve jumps because each of its steps sees pictures distorted anew; the frames
# are of the pictures as they are.)
#
# Ask it: with the slider the scale goes from 0, where everything is alike, to where the largest cosine takes all; "before" is the fresh model. At which
# scale does the *fresh* model lose least?

# %%
(fresh_cosines, _), (cosines_now, scale_now) = frames[0], frames[150]
asked = SimilarityExplorer(pictures / 255, captions, cosines_now, before=fresh_cosines, scale=scale_now)
lesson.show(asked)
rows = [[f"{scale:g}", asked.loss("before", scale), asked.loss("after", scale)] for scale in (0, 1, 3, 10, 30, 100)]
print(tables.table(["scale", "fresh", "trained"], rows))

# %% [markdown]
# The control learns one thing, and quickly: to be unsure. It falls from above the line *to* the line and stays. A loss that has fallen is not yet a
# loss that has learned; the line at ln n tells the two apart.
#
# ## Break it
#
# The commonest mistake is to ask in one direction only. It trains, and its loss falls. Set `BOTH` to True and run the cell again.

# %%
BOTH = False


def mine(I, T, scale):
    logits = scale * l2_normalize(I) @ l2_normalize(T).T
    halves = [cross_entropy_loss(logits, np.arange(len(I)), axis=axis).item() for axis in ((0, 1) if BOTH else (1,))]
    return np.mean(halves)


lesson.caught(lambda: check.contrastive_loss(mine))

# %% [markdown]
# The test that everybody writes first, "equal scores give ln n", is property C01. This mistake passes it; so do a temperature that multiplies where it
# should divide, and vectors that nobody normalized. Figure 3 itself holds all of the properties:

# %%
print("C01 alone:", check.contrastive_loss(mine, only="C01").passed)
lesson.caught(lambda: check.contrastive_loss(loss_of))

# %% [markdown]
# ## What you may now say
#
# - CLIP's loss asks each picture for its text among the n of the batch and each text for its picture, and takes the mean of both cross-entropies.
# - ln n is the loss of equal scores. Above it a model is sure of wrong answers; at it, it says nothing; ln m of it stays where captions occur m times.
# - The gradient on the scores is (P_rows + P_columns)/2n − I/n: hard wrong pairs are pushed most, and the scale says how hard "hard" is.
#
# **What you may not say.** That these eight pairs show understanding: a batch that is all there is can be learned by heart. Notebook 9 tests on
# characters that training never saw. And that a lower loss means a better model, where n, the scale or the number of equal captions differ.
#
# ## Read the source
#
# [tasks/clip.py](../tinymm/tasks/clip.py) · [models/clip.py](../tinymm/models/clip.py) · [losses/contrastive.py](../tinymm/losses/contrastive.py) ·
# [losses/classification.py](../tinymm/losses/classification.py) · [testing/check/contrastive.py](../tinymm/testing/check/contrastive.py) ·
# [testing/check/temperature.py](../tinymm/testing/check/temperature.py) · [viz/retrieval/filmstrip.py](../tinymm/viz/retrieval/filmstrip.py)
#
# ## Exercises
#
# [Exercises 8](solutions/08_figure_3_line_by_line.py) (your copy without solutions: `python -m tinymm exercises --student my_exercises --only 08`):
# two puzzles, **8a** the contrastive loss, **8b** its gradient, **8c** SigLIP's loss and where its bias begins, and an open question.
