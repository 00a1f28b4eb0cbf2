# %% [markdown]
# # 2 · NumPy asks us
#
# | | |
# |---|---|
# | **Time** | 25 min to read, 45 min with the exercises |
# | **Needs** | notebook 1; Python's special methods such as `__add__` |
# | **Gives** | why the paper's `np.` lines run on our Tensors, and what makes a gradient disappear without a word |
# | **Source** | NEP 13 (`__array_ufunc__`) and NEP 18 (`__array_function__`): "to allow arguments of NumPy functions to define how that function operates on them" |
# | **Track** | systems |
# | **Edition** | tinymm 0.1.0 |
#
# Figure 3 of the CLIP paper says `np.dot(I_f, W_i)`, and in tinymm that line is running code: `np` is NumPy itself, and `W_i` is a Tensor. This
# notebook shows how NumPy can call an engine that it has never heard of, and why we answer some of its questions with a refusal.

# %%
import inspect

import numpy as np

from tinymm import Tensor
from tinymm.arrays.errors import GraphError
from tinymm.autodiff.answers import ANSWERS
from tinymm.tasks.clip import figure_3
from tinymm.testing import check
from tinymm.viz import charts, tables
from tinymm.viz.widgets import lesson

lesson.edition("0.1.0")

# %% [markdown]
# ## Who is asked?
#
# When an argument is not an array, NumPy does not guess. It looks for two methods on it, and calls the first that fits:
#
# 1. the function is a *ufunc* (`np.exp`, `np.add` and others that work entry by entry, or on the last axes): `__array_ufunc__`,
# 2. it is another function (`np.sum`, `np.concatenate`): `__array_function__`,
# 3. neither exists: NumPy takes `__array__`, if there is one, and goes on with a plain array. Nobody is told.
#
# This class answers with the question. It is all that is needed to watch.

# %%
class Witness:
    def __init__(self):
        self.asked = []

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        self.asked.append(f"__array_ufunc__: {ufunc.__name__}")
        return self

    def __array_function__(self, function, types, args, options):
        self.asked.append(f"__array_function__: {function.__name__}")
        return self


# %% [markdown]
# **Predict.** `x` is an array and `w` a Witness. How many of `np.exp(w)`, `np.dot(x, w)`, `x + w` and `np.matmul(x, w)` come by the second door,
# `__array_function__`?

# %%
guess_second_door = None  # how many of the four

# %%
x, rows = np.ones(3), []
for spelled in ("np.exp(w)", "np.dot(x, w)", "x + w", "np.matmul(x, w)"):
    w = Witness()
    eval(spelled, {"np": np, "x": x, "w": w})  # noqa: S307 (our own four lines)
    rows.append([spelled, *w.asked])
lesson.predicted("through the second door", guess_second_door, sum("function" in row[1] for row in rows))
print(tables.table(["written", "NumPy asks"], rows))

# %% [markdown]
# `x + w` is the interesting one: Python asks the *left* operand first, an ndarray, whose `+` is the ufunc `np.add`; and that one asks us. So we are
# heard even where we stand on the right.
#
# ## Our answer is a table
#
# A Tensor looks the function up. The table is not written by hand: each op says, where it is declared, which NumPy functions mean it.

# %%
print(f"{len(ANSWERS)} functions are answered, among them", *sorted(getattr(f, "__name__", str(f)) for f in ANSWERS)[:12], "…")
print(inspect.getsource(Tensor.__array_function__))

# %%
t = Tensor([1.0, 2.0], requires_grad=True)
print(tables.table(["written", "made by"], [[s, repr(eval(s)).split("made by ")[-1].rstrip(")")] for s in ("np.exp(t)", "np.sum(t)", "1 - t", "t @ t")]))  # noqa: S307

# %% [markdown]
# ## The experiment: an array that is too polite
#
# Many classes that wrap arrays offer `__array__`, "give me your numbers". It looks helpful. We run Figure 3, the paper's own lines, on arrays, on
# Tensors, and on Tensors of which some are wrapped into a class that offers `__array__` and nothing else.
#
# **Predict.** Only the temperature `t` is wrapped. Does the loss change? How many of the five gradients (two encoders, `W_i`, `W_t`, `t`) arrive?

# %%
guess_arrive = None  # 0 to 5

# %%
class Polite:
    def __init__(self, tensor):
        self.tensor = tensor

    def __array__(self, dtype=None, copy=None):
        return self.tensor.data


# %%
rng = np.random.default_rng(0)
I, T = rng.normal(size=(8, 6)), rng.normal(size=(8, 5))
NUMBERS = {"encoder_i": rng.normal(size=(6, 4)), "encoder_t": rng.normal(size=(5, 4)), "W_i": rng.normal(size=(4, 3)), "W_t": rng.normal(size=(4, 3))}
NUMBERS["t"] = np.array(2.0)


def run_figure_3(kind, polite=()):
    w = {name: kind(value) for name, value in NUMBERS.items()}
    given = {name: Polite(value) if name in polite else value for name, value in w.items()}
    loss, _ = figure_3(lambda x: np.dot(x, given["encoder_i"]), lambda x: np.dot(x, given["encoder_t"]), I, T, given["W_i"], given["W_t"], given["t"])
    return loss, w


# %%
def leaf(value):
    return Tensor(value, requires_grad=True)


arrived, losses = {}, {}
for name, polite in {"all Tensors": (), "t is polite": ("t",), "all are polite": tuple(NUMBERS)}.items():
    loss, weights = run_figure_3(leaf, polite)
    if isinstance(loss, Tensor) and loss.requires_grad:
        loss.backward()
    arrived[name], losses[name] = sum(w.grad is not None for w in weights.values()), float(loss)
losses["plain arrays"] = float(run_figure_3(np.array)[0])
lesson.predicted("gradients that arrive, t polite", guess_arrive, arrived["t is polite"])

# %%
lesson.show(charts.bars(arrived, references={"what should arrive": 5}, unit="gradients that arrive", title="Politeness costs gradients, and the loss says nothing"))

# %%
print(tables.table(["Figure 3 on", "loss"], losses.items()))

# %% [markdown]
# Four times the same loss, to the last digit printed. A temperature that never learns would be found weeks later, if at all. So a Tensor has an `__array__`
# as well, and it refuses, with the way out in the sentence. The same holds for writing in place.

# %%
for spelled in ("np.asarray(t)", "np.array([1.0, t])", "np.add(1.0, t, out=np.ones(2))"):
    try:
        eval(spelled)  # noqa: S307
    except (GraphError, TypeError, ValueError) as error:
        print(f"{spelled}\n  {type(error).__name__}: {error}\n")

# %% [markdown]
# **Predict.** And `np.argmax(t)`? It has no gradient at all: is it refused, or answered?

# %%
guess_argmax = None  # "refused" or "answered"

# %%
lesson.predicted("np.argmax(t)", guess_argmax, "answered" if np.argmax(t) is not None else "refused")
print("np.argmax(t):", np.argmax(t))

# %% [markdown]
# What counts, compares or rounds has no slope to lose: it may be asked of a Tensor, and gives one that remembers nothing. What *has* a slope and no rule of ours is
# refused by name, with the nearest one that exists.

# %%
try:
    np.cosh(t)
except (GraphError, TypeError) as error:
    print(error)

# %% [markdown]
# ## Strangers
#
# Two libraries that both answer would call each other in circles. So the contract has a third answer: `NotImplemented`, "not mine". If nobody takes the
# call, NumPy raises a TypeError. We give it for every type that is neither Tensor nor array.

# %%
class Stranger:
    __array_ufunc__ = None


try:
    t + Stranger()
except TypeError as error:
    print("TypeError:", error)

# %% [markdown]
# ## Break it
#
# A loss that is written for arrays may convert in the middle, and its value is still right. `check.vjp` asks for the gradients
# too. Here the loss detaches one side, as `np.asarray` on the way would. Switch `CONVERTS` off and run it again.

# %%
CONVERTS = True


def my_loss(image, text, scale):
    return figure_3(lambda x: x, lambda x: x, image, text, np.eye(image.shape[1]), np.eye(text.shape[1]), np.log(scale))[0]


def my_vjp(g, image, text, scale):
    leaves = [leaf(image), leaf(text), leaf(np.asarray(scale, float))]
    my_loss(leaves[0], leaves[1].detach() if CONVERTS else leaves[1], leaves[2]).backward()
    return tuple(np.zeros(np.shape(x.data)) if x.grad is None else g * x.grad for x in leaves)


lesson.caught(lambda: check.vjp(lambda i, t: my_loss(i, t, 2.0).data, lambda g, i, t: my_vjp(g, i, t, 2.0)[:2], signature="(n,d),(n,d)"))

# %% [markdown]
# ## What you may now say
#
# - NumPy asks `__array_ufunc__` for ufuncs and operators and `__array_function__` for the rest; a table of ops answers, and that is why Figure 3 runs.
# - A class that only offers `__array__` gives the right loss and loses gradients: here all five, or, worse, one.
# - What would lose a gradient silently is refused: conversion, writing in place, functions without a rule.
#
# **What you may not say.** That every NumPy function works on a Tensor: only those with a rule do, and those that have no gradient. Nor that a
# subclass of ndarray would have been simpler: its views and its in-place operators lose gradients in places that nobody can refuse.
#
# ## Read the source
#
# [autodiff/tensor.py](../tinymm/autodiff/tensor.py) · [autodiff/answers.py](../tinymm/autodiff/answers.py) ·
# [autodiff/graph.py](../tinymm/autodiff/graph.py) · [tasks/clip.py](../tinymm/tasks/clip.py)
#
# ## Exercises
#
# [Exercises 2](solutions/02_numpy_asks_us.py) (your copy without solutions: `python -m tinymm exercises --student my_exercises --only 02`):
# two puzzles, **2a** an array that keeps a diary, **2b** an operand on either side, **2c** a polite refusal, and an open question.
