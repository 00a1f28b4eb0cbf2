"""Ops with a sliding window over pictures (B, h, w, c): convolution and pooling."""

import numpy as np

from tinymm.arrays.errors import ShapeError
from tinymm.autodiff.graph import op


def _windows(x, kernel, stride):
    """Return views (B, h', w', c, kh, kw) of every window; no copy is made."""
    view = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(1, 2))
    return view[:, ::stride, ::stride]


def _check(name, x, kernel, stride, padding):
    kh, kw = kernel
    if x.ndim != 4:
        raise ShapeError(
            f"{name} takes pictures (B, h, w, c) and {x.shape} came; add a batch axis with x[None], channels come last"
        )
    if stride < 1 or padding < 0 or x.shape[1] + 2 * padding < kh or x.shape[2] + 2 * padding < kw:
        raise ShapeError(
            f"{name}: a window of {kh} × {kw} with stride {stride} and padding {padding} does not fit a picture of "
            f"{x.shape[1]} × {x.shape[2]}; use a smaller window, more padding or a larger picture"
        )


def _pad(x, padding, value=0):
    if not padding:
        return x
    return np.pad(
        x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=value
    )


def _scatter(parts, x, kernel, stride, padding):
    """Add window gradients, parts[i][j] (B, h', w', c), onto the picture that the windows were cut from."""
    B, h, w, c = x.shape
    whole = np.zeros_like(x, shape=(B, h + 2 * padding, w + 2 * padding, c))
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            part = parts(i, j)
            whole[
                :, i : i + stride * part.shape[1] : stride, j : j + stride * part.shape[2] : stride
            ] += part
    return whole[:, padding : padding + h, padding : padding + w]


@op(
    cases=(
        (((2, 5, 6, 3), (3, 2, 3, 4)), {"stride": 1, "padding": 1}),
        (((2, 6, 6, 2), (2, 2, 2, 3)), {"stride": 2}),
        (((2, 5, 5, 2), (3, 3, 2, 3)), {"stride": 2, "padding": 1}),
        (((2, 4, 4, 3), (1, 1, 3, 2)), {}),
    ),
)
def conv2d(x, weight, stride=1, padding=0):
    """Slide a small linear map over pictures: x (B, h, w, c), weight (kh, kw, c, o) -> (B, h', w', o).

    h' = (h + 2·padding - kh) // stride + 1. Every window becomes a row of kh·kw·c numbers and one
    matrix product does them all. With stride = window the rows do not overlap: the patch embedding
    of a ViT. ShapeError if the weight takes other channels than x has, or the window does not fit.
    """
    kh, kw, c, o = weight.shape
    _check("conv2d", x, (kh, kw), stride, padding)
    if x.shape[-1] != c:
        raise ShapeError(
            f"conv2d: the picture has {x.shape[-1]} channels {x.shape} and the weight {c} {weight.shape}; channels come last"
        )
    windows = _windows(_pad(x, padding), (kh, kw), stride)
    B, hh, ww = windows.shape[:3]
    rows = np.transpose(windows, (0, 1, 2, 4, 5, 3)).reshape(B * hh * ww, kh * kw * c)
    matrix = weight.reshape(kh * kw * c, o)

    def to_x(g):
        back = (g.reshape(B * hh * ww, o) @ matrix.T).reshape(B, hh, ww, kh, kw, c)
        return _scatter(lambda i, j: back[:, :, :, i, j], x, (kh, kw), stride, padding)

    return (
        (rows @ matrix).reshape(B, hh, ww, o),
        to_x,
        lambda g: (rows.T @ g.reshape(B * hh * ww, o)).reshape(weight.shape),
    )


@op(
    cases=(
        (((2, 6, 4, 3),), {"size": 2}),
        (((2, 5, 5, 2),), {"size": 3, "stride": 2, "padding": 1}),
    )
)
def avg_pool2d(x, size, stride=None, padding=0):
    """Return the mean of each window: x (B, h, w, c) -> (B, h', w', c); the stride is the window's size unless given.

    ShapeError for a window that does not fit.
    """
    stride = size if stride is None else stride
    _check("avg_pool2d", x, (size, size), stride, padding)
    value = np.mean(_windows(_pad(x, padding), (size, size), stride), axis=(-1, -2))
    return value, lambda g: _scatter(
        lambda i, j: g * (1 / (size * size)), x, (size, size), stride, padding
    )


@op(
    floating=1,
    cases=(
        (((2, 6, 4, 3),), {"size": 2}),
        (((2, 5, 5, 2),), {"size": 3, "stride": 2, "padding": 1}),
    ),
)
def max_pool2d(x, size, stride=None, padding=0):
    """Return the largest number of each window: x (B, h, w, c) -> (B, h', w', c); equal ones share the gradient.

    ShapeError for a window that does not fit.
    """
    stride = size if stride is None else stride
    _check("max_pool2d", x, (size, size), stride, padding)
    windows = _windows(_pad(x, padding, -np.inf), (size, size), stride)
    value = np.max(windows, axis=(-1, -2))
    chosen = windows == value[..., None, None]
    share = chosen / np.sum(chosen, axis=(-1, -2), keepdims=True, dtype=x.dtype)
    return value, lambda g: _scatter(
        lambda i, j: g * share[..., i, j], x, (size, size), stride, padding
    )
