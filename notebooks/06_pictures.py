# %% [markdown]
# # 6 · Pictures: ResNet and ViT
#
# | | |
# |---|---|
# | **Time** | 30 min to read, 45 min with the exercises |
# | **Needs** | notebooks 4 and 5 |
# | **Gives** | two ways from pixels to one vector, and what each takes for granted |
# | **Source** | He et al. 2016; Dosovitskiy et al. 2021: "When trained on mid-sized datasets … without strong regularization, these models yield modest accuracies of a few percentage points below ResNets" |
# | **Track** | main |
# | **Edition** | tinymm 0.1.0 |
#
# A convolution looks at neighbors and uses the same weights everywhere: that is built in. A vision transformer cuts the picture up and lets every piece look
# at every other: what neighbors are, it must learn. Who is better? It depends on how much there is to learn from, and on what happens to the picture.

# %%
import numpy as np
from sklearn.datasets import load_digits

from tinymm.autodiff import no_grad, ops
from tinymm.layers import Linear, Module
from tinymm.losses import cross_entropy_loss
from tinymm.models.clip import CLIPConfig
from tinymm.models.resnet import ModifiedResNet, ResNetConfig
from tinymm.models.vit import ViT, ViTConfig
from tinymm.testing import check
from tinymm.training.optimizers import AdamW
from tinymm.viz import charts, tables
from tinymm.viz.patches import cut, patches
from tinymm.viz.widgets import lesson

lesson.edition("0.1.0")

# %% [markdown]
# ## The pictures
#
# 1,797 handwritten digits of 8 × 8 pixels, enlarged three times, in the middle of 32 × 32. Pictures here are (B, h, w, c): channels stand last, as in the
# paper's Figure 3; other libraries put them first.

# %%
data = load_digits()
order = np.random.default_rng(0).permutation(len(data.images))
labels = data.target[order]


def placed(images, right=0):
    canvas = np.zeros((len(images), 32, 32, 1), np.float32)
    canvas[:, 4:28, 4 + right : 28 + right, 0] = np.kron(images, np.ones((3, 3))) / 8 - 1  # 0..16 becomes -1..1
    return canvas


digits = placed(data.images[order])
print(digits.shape, digits.dtype, f"from {digits.min():g} to {digits.max():g}")

# %% [markdown]
# ## A sentence of patches
#
# **Predict.** A picture of 32 × 32 is cut into patches of 8 × 8. How many rows does the transformer get, its class token included?

# %%
guess_rows = None  # a whole number

# %%
vit = ViT(ViTConfig(resolution=32, patch=8, width=48, layers=3, heads=4, channels=1), np.random.default_rng(1))
with no_grad():
    lesson.predicted("rows", guess_rows, vit.tokens(digits[:1]).shape[1])

# %%
shuffle = np.random.default_rng(2).permutation(16)
lesson.show(patches(digits[3], 8, order=shuffle, title="A picture as 16 rows, and the same rows in another order"))

# %% [markdown]
# Laying a patch out as a row and multiplying by a matrix is a convolution whose stride is its kernel. In the library it is one:

# %%
kernel = np.random.default_rng(3).normal(size=(8, 8, 1, 5))
strided = ops.conv2d(digits[:1].astype(float), kernel, stride=8).data.reshape(16, 5)
off = np.abs(strided - cut(digits[0].astype(float), 8) @ kernel.reshape(64, 5)).max()
print("largest difference:", "below 1e-12" if off < 1e-12 else off)

# %% [markdown]
# **Predict.** Shuffle the patches of a picture, and set the ViT's positions to zero. By how much does its class token's output change? And a ResNet's output,
# which has no positions to take away but looks at neighbors?

# %%
guess_change = None  # of the ViT, the largest change of a number

# %%
vit.positions.data = np.zeros_like(vit.positions.data)
resnet = ModifiedResNet(ResNetConfig(resolution=32, width=8, heads=4, layers=(1, 1, 1, 1), channels=1), np.random.default_rng(1))
mixed = digits[3].reshape(4, 8, 4, 8).swapaxes(1, 2).reshape(16, 8, 8)[shuffle].reshape(4, 4, 8, 8).swapaxes(1, 2).reshape(1, 32, 32, 1)
with no_grad():
    vit.eval(), resnet.eval()
    changes = []
    for name, m in (("ViT, positions zero", vit), ("ResNet", resnet)):
        changes.append([name, *(float(np.abs(m(digits[3:4]).data - m(other).data).max()) for other in (mixed, digits[1:2]))])
lesson.predicted("change of the ViT's output", guess_change, round(changes[0][1], 4))
print(tables.table(["largest change of an output", "patches shuffled", "another digit instead"], changes))

# %% [markdown]
# Beside what another digit does, the shuffle is nothing to the ViT (rounding), and to the ResNet, which is fresh and hardly moves at all, as much as another digit.
#
# ## The experiment: few pictures, shifted pictures
#
# Both learn to name digits, once from 200 pictures and once from 1,500, all in the middle of the canvas. Then the test digits are moved to the right by 0 to 4
# pixels. Sizes are chosen so that both have about as many weights as the other, and see as many pictures.
#
# **Predict.** Trained on 1,500 pictures, test digits moved by 4 pixels, half a patch: how many are named rightly by the ViT?

# %%
guess_moved = None  # a share between 0 and 1

# %%
class Namer(Module):
    def __init__(self, kind, rng):
        if kind == "ViT":
            self.encoder, width = ViT(ViTConfig(32, 8, 48, 3, 4, channels=1), rng), 48
        else:
            self.encoder, width = ModifiedResNet(ResNetConfig(32, 4, 4, (1, 1, 1, 1), output_width=64, channels=1), rng), 64
        self.head = Linear(width, 10, rng=rng)

    def forward(self, images):
        return self.head(self.encoder(images))


# %%
def taught(kind, n, steps=160):
    draws = np.random.default_rng(4)
    namer = Namer(kind, draws)
    optimizer = AdamW(namer, weight_decay=0.05)
    for _ in lesson.within(range(steps), seconds=20):
        rows = draws.integers(0, n, 64)
        cross_entropy_loss(namer(digits[rows]), labels[rows]).backward()
        optimizer.step(learning_rate=3e-3, max_grad_norm=1.0)
    return namer.eval()


# %%
def accuracy(namer, right):
    with no_grad():
        said = namer(placed(data.images[order[1500:]], right)).data.argmax(axis=1)
    return float((said == labels[1500:]).mean())


# %%
shifts, curves = [0, 1, 2, 3, 4], {}
for kind in ("ResNet", "ViT"):
    for n in (200, 1500):
        namer = taught(kind, n)
        curves[f"{kind}, {n} pictures"] = (shifts, [accuracy(namer, right) for right in shifts])
lesson.predicted("ViT, 1,500 pictures, moved by 4", guess_moved, curves["ViT, 1500 pictures"][1][-1])
print(tables.table(["model", "weights"], [[kind, sum(p.data.size for p in Namer(kind, np.random.default_rng(0)).parameters())] for kind in ("ResNet", "ViT")]))

# %%
at_rest, moved = ({name: values[i] for name, (_, values) in curves.items()} for i in (0, -1))
loser = "ViT" if moved["ResNet, 1500 pictures"] > moved["ViT, 1500 pictures"] else "ResNet"
finding = f"Trained on 1,500 pictures, the {loser} loses more when digits move"
lesson.show(charts.lines(curves, references={"chance": 0.1}, marked=True, x="pixels to the right", y="digits named rightly", title=finding))

# %% [markdown]
# The control is the left end: the same test digits, not moved. What is lost toward the right is lost by the shift alone. A convolution gives a shifted picture a
# shifted map of features; a patch that is cut elsewhere is another row of numbers. It is not as clean as the textbook: at rest the ViT is ahead here, with 200
# pictures too, since digits always stand in the same place; and the ResNet loses as well, because its strides skip places and the pooling at its end has
# positions. With 200 pictures and one pixel it even loses more. With more data, or with shifted pictures in training, a transformer learns what a
# convolution has built in: "ViT is always better" and "ViT needs millions" are both about the data, not about the model.
#
# ## Released sizes
#
# The nine CLIPs that OpenAI released are configs here. Their number of weights follows from the sizes, and is the first thing to compare with a file.
#
# **Predict.** How many millions of weights has CLIP ViT-B/32, both encoders together?

# %%
guess_millions = None  # in millions

# %%
def weights_of(config):
    D, L, P, E = config.image.width, config.image.layers, config.image.patches, config.embed_dim
    W, V, T = config.text.width, config.text.vocabulary, config.text.context
    block = lambda D: 12 * D * D + 13 * D  # noqa: E731 (four matrices of attention, two of the MLP, biases, two norms)
    image = 3 * config.image.patch**2 * D + D + (P + 1) * D + 4 * D + L * block(D) + D * E
    text = V * W + T * W + config.text.layers * block(W) + 2 * W + W * E
    return image + text + 1  # and the temperature


found = {name: weights_of(CLIPConfig.paper(name)) for name in ("ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px")}
lesson.predicted("millions of weights, ViT-B/32", guess_millions, round(found["ViT-B/32"] / 1e6, 1))
print(tables.table(["CLIP", "weights"], found.items()))

# %% [markdown]
# ## Break it
#
# A picture encoder that works on a batch must treat each picture by itself: in evaluation, at least. Here batch norm was left in training mode. As a property:
# the same function, with other pictures beside. `check.no_leak` asks it of any model (rows are pictures now; each may see only itself).

# %%
LEFT_IN_TRAINING = True
probe = ModifiedResNet(ResNetConfig(32, 4, 4, (1, 1, 1, 1), channels=1), np.random.default_rng(5)).astype(np.float64)
probe.train() if LEFT_IN_TRAINING else probe.eval()
spread = np.random.default_rng(6).normal(size=(4, 32 * 32))


def features(x, mask):
    with no_grad():
        return np.stack([probe((rows @ spread).reshape(-1, 32, 32, 1)).data for rows in x])


lesson.caught(lambda: check.no_leak(features, width=4, only="W01"))

# %% [markdown]
# ## What you may now say
#
# - A ViT sees a set of patches; only its positions tell where each came from. A ResNet sees neighbors, whatever else it learns.
# - A digit that moves by half a patch is another set of rows; the curves above say what that costs at this size.
# - The weights of a released model are a sum that fits on five lines, and agree with the files to the last one.
#
# **What you may not say.** Which of the two is better: these are small models, few steps, one seed. And that the class token "contains the class": it is a row
# that was trained to be read.
#
# ## Read the source
#
# [models/vit.py](../tinymm/models/vit.py) · [models/resnet.py](../tinymm/models/resnet.py) · [layers/convolution.py](../tinymm/layers/convolution.py) ·
# [autodiff/ops/window.py](../tinymm/autodiff/ops/window.py) · [viz/patches.py](../tinymm/viz/patches.py)
#
# ## Exercises
#
# [Exercises 6](solutions/06_pictures.py) (your copy without solutions: `python -m tinymm exercises --student my_exercises --only 06`):
# two puzzles, **6a** patches and back, **6b** a convolution by patches, **6c** the weights of a model, and an open question.
