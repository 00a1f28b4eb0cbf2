# %% [markdown]
# # Exercises 6 · Pictures
#
# Write NumPy. Pictures are (B, h, w, c). Each task is followed by its check. After a pass it prints `holds:` and the codes of the properties (a plain
# `assert` prints nothing); else it says what belongs there and what came. Hints are folded; open one at a time.

# %%
import numpy as np

from tinymm.autodiff import ops
from tinymm.testing import check

# %% [markdown]
# ## Two puzzles
#
# **Puzzle 1.** A picture of 224 × 224 × 3 is cut into patches of 32 × 32. How many rows of how many numbers are that?
# Assign two numbers: `rows, numbers`.

# %% solution="6-puzzle-1"
### BEGIN SOLUTION: 7 by 7 patches, and 32 by 32 by 3 numbers each
rows, numbers = 49, 3072
### END SOLUTION

# %% test="6-puzzle-1-check" points=1
assert rows * numbers == 224 * 224 * 3 and rows == 7 * 7, "no number is lost and none is doubled"

# %% [markdown]
# **Puzzle 2.** A 3 × 3 convolution of stride 1 with one row of zeros around the picture keeps its size. How many such layers in a row does it take until
# the output at a pixel can depend on one that is 10 pixels to the right? Assign a number: `layers`.

# %% solution="6-puzzle-2"
### BEGIN SOLUTION: each layer looks one pixel further
layers = 10
### END SOLUTION

# %% test="6-puzzle-2-check" points=1
x, kernel = np.zeros((1, 1, 21, 1)), np.ones((1, 3, 1, 1))
x[0, 0, 20] = 1
for _ in range(layers):
    x = ops.conv2d(np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0))), kernel).data
assert x[0, 0, 10, 0] > 0 and x[0, 0, 9, 0] == 0, "as many layers as pixels, and not one more"

# %% [markdown]
# ## 6a · Patches, and back
#
# `to_rows(pictures, p)` cuts (B, h, w, c) into patches of p × p, row by row, each flattened: (B, P, p·p·c). `to_pictures(rows, p, h, w)` is the way back.
#
# <details><summary>Hint 1: the idea</summary>Split h into (h/p, p) and w into (w/p, p); bring both small axes next to each other.</details>
# <details><summary>Hint 2: the formula</summary>(B, h/p, p, w/p, p, c) → axes 0 1 3 2 4 5 → (B, P, p·p·c)</details>
# <details><summary>Hint 3: the first line</summary><code>B, h, w, c = pictures.shape</code>; the same order of axes leads back, since 3 and 2 change places.</details>

# %% solution="6a"
def to_rows_and_back(pictures, p):
    """Return (rows (B, P, p·p·c), the pictures made of these rows)."""
    ### BEGIN SOLUTION: split, swap, flatten, and the same the other way
    B, h, w, c = pictures.shape
    parts = pictures.reshape(B, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5)
    found = parts.reshape(B, -1, p * p * c)
    back = found.reshape(B, h // p, w // p, p, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(B, h, w, c)
    return found, back
    ### END SOLUTION

# %% test="6a-form" points=1
picture = np.arange(16.0).reshape(1, 4, 4, 1)
assert to_rows_and_back(picture, 2)[0][0].astype(int).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]

# %% test="6a-back" points=2
rng = np.random.default_rng(0)
for B, h, w, c, p in ((1, 4, 6, 3, 2), (3, 9, 3, 1, 3), (2, 5, 5, 2, 1)):
    pictures = rng.normal(size=(B, h, w, c))
    found, back = to_rows_and_back(pictures, p)
    assert found.shape == (B, h * w // p**2, p * p * c) and np.array_equal(back, pictures), f"{(h, w, c)} in patches of {p} come back as they were"

# %% [markdown]
# ## 6b · A convolution by patches
#
# `embed(pictures, kernel)` with a kernel (p, p, c, D) gives each patch D numbers: (B, P, D). It equals a convolution whose stride is its kernel. Write it with
# a matrix product.
#
# <details><summary>Hint 1: the idea</summary>Rows of patches times the kernel, laid out as a matrix (p·p·c, D).</details>
# <details><summary>Hint 2: the formula</summary>y = R K, one product for the whole batch.</details>
# <details><summary>Hint 3: the first line</summary><code>R = to_rows_and_back(pictures, len(kernel))[0]</code></details>

# %% solution="6b"
def embed(pictures, kernel):
    """Return D numbers for each patch: (B, P, D)."""
    ### BEGIN SOLUTION: rows times a matrix
    return to_rows_and_back(pictures, len(kernel))[0] @ kernel.reshape(-1, kernel.shape[-1])
    ### END SOLUTION

# %% test="6b-value" points=2
rng = np.random.default_rng(1)
pictures, kernel = rng.normal(size=(2, 6, 6, 3)), rng.normal(size=(3, 3, 3, 4))
assert np.allclose(embed(pictures, kernel), ops.conv2d(pictures, kernel, stride=3).data.reshape(2, 4, 4)), "the convolution of stride 3 gives other numbers"

# %% test="6b-slope" points=1
one = kernel[:1, :1, :1]  # patches of one pixel: each becomes four numbers
check.vjp(lambda x: embed(x[:, None, :, None], one), lambda g, x: (g @ one[0, 0, 0]).reshape(x.shape))

# %% [markdown]
# ## 6c · How many weights
#
# `count(D, L, P, p)` returns the number of weights of CLIP's vision transformer: patches without bias, a class token, P + 1 positions, a norm before and one
# after the blocks, and L blocks, each with two norms, attention (one packed matrix D → 3D and one D → D, with biases) and an MLP D → 4D → D with biases.
#
# <details><summary>Hint 1: the idea</summary>Write the sum part by part, in the order of the sentence.</details>
# <details><summary>Hint 2: the formula</summary>A block has 12 D² + 13 D weights: count them on paper first.</details>
# <details><summary>Hint 3: the first line</summary>Outside of the blocks stand <code>3 * p * p * D + D + (P + 1) * D + 4 * D</code>.</details>

# %% solution="6c"
def count(D, L, P, p):
    """Return the number of weights."""
    ### BEGIN SOLUTION: outside, and L blocks
    outside = 3 * p**2 * D + D + (P + 1) * D + 2 * 2 * D
    inside = 2 * 2 * D + (3 * D * D + 3 * D) + (D * D + D) + (4 * D * D + 4 * D) + (4 * D * D + D)
    return outside + L * inside
    ### END SOLUTION

# %% test="6c-tiny" points=1
from tinymm.models.vit import ViT, ViTConfig

for D, L, side, p in ((8, 1, 16, 8), (12, 3, 32, 8)):
    vit = ViT(ViTConfig(side, p, D, L, 2), np.random.default_rng(0))
    assert count(D, L, (side // p) ** 2, p) == sum(x.data.size for x in vit.parameters()), f"width {D}, {L} layers"

# %% test="6c-released" points=2
assert [count(768, 12, 49, 32), count(768, 12, 196, 16), count(1024, 24, 256, 14)] == [87456000, 85799424, 303179776], "the released vision towers"

# %% [markdown]
# ## Open question
#
# You have 500 labeled pictures of plants, always photographed from above, and 100,000 unlabeled ones. Which of the two encoders would you train, on what, and
# which experiment of this notebook would you repeat to defend the choice?

# %% [markdown] answer="6d" points=2
# *Your answer, in three sentences:*
