# %% [markdown]
# # 4 · Layers and normalization
#
# | | |
# |---|---|
# | **Time** | 30 min to read, 45 min with the exercises |
# | **Needs** | notebook 1; mean and variance |
# | **Gives** | what a layer is, who shares a mean with whom, and why deep networks need it |
# | **Source** | Ioffe & Szegedy 2015; Ba et al. 2016: "computing the mean and variance used for normalization from all of the summed inputs … on a single training case" |
# | **Track** | main |
# | **Edition** | tinymm 0.1.0 |
#
# A layer is a function with weights. Stack twenty of them, and the numbers that pass through grow or vanish, unless something holds them. This notebook
# looks at what does, at who is averaged with whom, and at two surprises: a shift that disappears, and a picture that changes with its neighbors.

# %%
import numpy as np

from tinymm import Tensor
from tinymm.autodiff import no_grad, ops
from tinymm.layers import BatchNorm2d, Dropout, LayerNorm, Linear
from tinymm.testing import check
from tinymm.viz import charts, grids, tables
from tinymm.viz.widgets import lesson

lesson.edition("0.1.0")

# %% [markdown]
# ## A layer
#
# `Linear(3, 2)` holds a weight (in, out) and a bias, and maps the last axis: any number of axes may stand in front. Its parameters have names, which is
# how they are saved, and are found by whoever trains them.

# %%
linear = Linear(3, 2, rng=np.random.default_rng(0))
print({name: p.shape for name, p in linear.named_parameters()})
print(linear(np.ones((4, 5, 3), np.float32)).shape)

# %% [markdown]
# **Predict.** A weight (256, 256) is drawn from N(0, 1/256). The input's numbers have variance 1. What is the variance of the output's?

# %%
guess_variance = None  # a number

# %%
rng = np.random.default_rng(0)
x, W = rng.normal(size=(2000, 256)), rng.normal(size=(256, 256)) / np.sqrt(256)
lesson.predicted("variance behind one layer", guess_variance, float((x @ W).var()))

# %% [markdown]
# A sum of 256 products, each of variance 1/256, has variance 1: that is what "initialization" is about. Be wrong by a factor of 2 in each of 24 layers,
# and the variance is wrong by 4²⁴.
#
# ## Who shares a mean
#
# Three norms, one formula, (x − μ)/σ: layer norm, batch norm, and group norm with one group, which takes a whole sample. They differ in which numbers μ and σ are taken over. Here are two sentences of two tokens, with three features each;
# cells with the same number share one mean. (RMS norm is layer norm without the mean: it only divides.)

# %%
names = ["b0 t0", "b0 t1", "b1 t0", "b1 t1"]
rows, columns = np.arange(4)[:, None] + 1, np.arange(3)[None] + 1
panels = {"layer": np.broadcast_to(rows, (4, 3)), "batch": np.broadcast_to(columns, (4, 3)), "group (one)": (np.arange(4) // 2 + 1)[:, None] * np.ones((1, 3))}
lesson.show(grids.grids(panels, names, ["f0", "f1", "f2"], title="Layer norm averages along a row, batch norm down a column"))

# %% [markdown]
# In layer norm no token knows of any other: it works the same for one sentence and for a thousand, in training and afterwards. In batch norm each number
# depends on the whole batch. That is the source of all its surprises.
#
# ## The experiment: 24 layers, with and without
#
# Random layers with a relu in between, drawn with half, once and twice the standard deviation √(2/n) that suits a relu (He et al. 2015). We look at the
# mean square of the numbers behind each layer.
#
# **Predict.** Twice the right standard deviation, no norm: by which power of ten has the mean square grown behind layer 24?

# %%
guess_power = None  # such as 6

# %%
def mean_squares(factor, normalized, depth=24, width=128):
    draws = np.random.default_rng(1)
    x, norm, found = draws.normal(size=(64, width)), LayerNorm(width).astype(np.float64), []
    with no_grad():
        for _ in range(depth):
            W = draws.normal(size=(width, width)) * factor * np.sqrt(2 / width)
            x = ops.relu((norm(x) if normalized else x) @ W).data
            found.append(float((x * x).mean()))
    return found


# %%
layers = list(range(1, 25))
curves = {f"× {factor:g}, {how}": (layers, mean_squares(factor, how == "layer norm")) for how in ("no norm", "layer norm") for factor in (0.5, 1, 2)}
lesson.predicted("power of ten, × 2, no norm", guess_power, round(float(np.log10(curves["× 2, no norm"][1][-1]))))

# %%
lesson.show(charts.lines(curves, references={"as it came in": 1.0}, log="y", x="layer", y="mean square", title="With a norm in front of each layer the depth no longer matters"))

# %% [markdown]
# Without a norm only one of three initializations survives, and it is the one in the middle of a knife's edge; with it, all three do. (A norm divides by
# the standard deviation, so a factor in front of it is simply forgotten.)
#
# ## A shift that disappears
#
# **Predict.** Add 100 to every feature of one token. How much does the output of layer norm change?

# %%
guess_shift = None  # the largest change of a number

# %%
token, norm = rng.normal(size=(1, 64)), LayerNorm(64).astype(np.float64)
before = norm(token).data
changes = {"all features + 100": np.abs(norm(token + 100).data - before).max()}
changes["random numbers added"] = np.abs(norm(token + rng.normal(size=token.shape)).data - before).max()
changes["all features × 100"] = np.abs(norm(token * 100).data - before).max()
lesson.predicted("largest change by a constant", guess_shift, changes["all features + 100"])

# %%
lesson.show(charts.bars({k: max(v, 1e-16) for k, v in changes.items()}, log=True, unit="largest change of an output",
                        title="Layer norm erases a constant, almost erases a factor, and keeps a direction"))  # fmt: skip

# %% [markdown]
# This matters for tests. Whoever looks for a leak through a mask by adding a *constant* to a later token will find none behind a layer norm, leak or not.
# Our leak tests add random vectors. The factor does not vanish quite: eps = 10⁻⁵ stands beside the variance.
#
# ## A picture that changes with its neighbors
#
# Batch norm has two modes. In training it uses the batch's own mean and variance, and keeps a running average of them; in evaluation it uses that average.
# Forget `model.eval()`, and the answer for a picture depends on who else was asked.

# %%
norm = BatchNorm2d(2).astype(np.float64)
picture, friends, strangers = rng.normal(size=(1, 3, 3, 2)), rng.normal(size=(7, 3, 3, 2)), 5 + rng.normal(size=(7, 3, 3, 2))
found = {}
for mode in ("train", "eval"):
    getattr(norm, mode)()
    among = [norm(np.concatenate([picture, others])).data[0] for others in (friends, strangers)]
    found[mode] = float(np.abs(among[0] - among[1]).max())
print(tables.table(["mode", "change of one picture's output"], found.items()))

# %% [markdown]
# **Predict.** The running variance uses n/(n − 1) times the batch's. After one batch of 8 pictures of 3 × 3 places, how large is n?

# %%
guess_n = None  # a whole number

# %%
fresh = BatchNorm2d(1).astype(np.float64)
batch = rng.normal(size=(8, 3, 3, 1))
fresh(batch)
ratio = (fresh.running_variance.data[0] - 0.9) / 0.1 / batch.var()  # running = 0.9 · 1 + 0.1 · n/(n − 1) · variance
lesson.predicted("n", guess_n, int(round(ratio / (ratio - 1))))

# %% [markdown]
# ## Dropout, in one line
#
# In training each number is kept with probability 1 − p and divided by it, so that its mean stays; in evaluation nothing happens. Randomness is an
# argument here as everywhere in tinymm: without a generator it refuses.

# %%
ones = np.ones((200, 200), np.float32)
dropped = Dropout(0.25)(Tensor(ones), rng=np.random.default_rng(2)).data
print(f"kept {np.mean(dropped > 0):.3f}, each as {dropped.max():.4f}, mean {dropped.mean():.3f}; in evaluation {Dropout(0.25).eval()(ones).mean():.0f}")

# %% [markdown]
# ## Break it
#
# The commonest slip: eps beside the *standard deviation* instead of the variance. The outputs look the same to four digits, and loaded weights then give
# features that are a little off, everywhere. Switch `OUTSIDE` off and run it again.

# %%
OUTSIDE = True


def my_layer_norm(x, gain, bias, eps):
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = (centered**2).mean(axis=-1, keepdims=True)
    return centered / (np.sqrt(variance) + eps if OUTSIDE else np.sqrt(variance + eps)) * gain + bias


lesson.caught(lambda: check.layer_norm(my_layer_norm))

# %%
lesson.caught(lambda: check.layer_norm(lambda x, gain, bias, eps: ops.layer_norm(x, gain, bias, eps=eps).data))

# %% [markdown]
# ## What you may now say
#
# - Weights of variance 1/n keep the numbers' size; a norm keeps it whatever the weights are, 24 layers deep.
# - Layer norm averages along one token, batch norm over the batch; therefore only batch norm has two modes.
# - Layer norm erases a constant shift, so tests behind it need random vectors.
#
# **What you may not say.** That a norm makes a network independent of scale: eps does not scale along. And that batch norm is always worse: in the
# residual networks of notebook 6 it is what was trained.
#
# ## Read the source
#
# [layers/basic.py](../tinymm/layers/basic.py) · [layers/convolution.py](../tinymm/layers/convolution.py) ·
# [autodiff/ops/fused.py](../tinymm/autodiff/ops/fused.py) · [testing/check/normalization.py](../tinymm/testing/check/normalization.py)
#
# ## Exercises
#
# [Exercises 4](solutions/04_layers_and_normalization.py) (your copy without solutions: `python -m tinymm exercises --student my_exercises --only 04`):
# two puzzles, **4a** layer norm with its gradient, **4b** batch norm in both modes, **4c** dropout, and an open question.
