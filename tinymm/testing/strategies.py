"""Hypothesis strategies: sizes, paddings and masks; the numbers come from a seed that Hypothesis draws.

Hypothesis shrinks numbers toward zeros, equal rows and symmetric matrices, and those hide swapped
directions and missing transposes. A seed shrinks to 0, and the numbers made from it stay as crooked
as any.

Yours to use under `@given`: `batches`, `paddings` and `lengths` (ragged captions), `masks`,
`unit_embeddings`, `similarities`, `normals`, `sizes` and `seeds`. Sizes that are left out are
drawn, from 1 to 6.

>>> from hypothesis import given, settings
>>> @settings(database=None)
... @given(batches(), similarities())
... def test_mine(batch, S):
...     assert batch.ids.shape == batch.is_real.shape and len(S) == len(S.T)
>>> test_mine()
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tinymm.arrays.random import generator

seeds = st.integers(0, 9999)


@cache
def sizes(low: int = 1, high: int = 6) -> SearchStrategy[int]:
    """Draw a small size that shrinks toward `low`; equal bounds give one strategy, so that properties share its draw."""
    return st.integers(low, high)


@cache
def one_of(*values: float) -> SearchStrategy[float]:
    """Draw one of some values that shrinks toward the first."""
    return st.sampled_from(values)


def normals(*shape: int) -> SearchStrategy[np.ndarray]:
    """Draw a seed and return normal numbers made from it."""
    return seeds.map(lambda seed: generator(seed).normal(size=shape))


@st.composite
def unit_embeddings(draw: st.DrawFn, n: int | None = None, width: int | None = None) -> np.ndarray:
    """Draw n rows of length 1: (n, width)."""
    shape = (draw(sizes()) if n is None else n, draw(sizes()) if width is None else width)
    return unit(draw(normals(*shape)))


@st.composite
def similarities(draw: st.DrawFn, n: int | None = None, m: int | None = None) -> np.ndarray:
    """Draw an (n, m) matrix of distinct scores, square unless m is given, in whole numbers so that maps of them stay exact."""
    n = draw(sizes()) if n is None else n
    return distinct_scores(generator(draw(seeds)), n, n if m is None else m)


def lengths(batch: int = 4, tokens: int = 5) -> SearchStrategy[np.ndarray]:
    """Draw how many real tokens each caption of a batch has: (B,), each from 1 to `tokens`."""
    return st.lists(sizes(1, tokens), min_size=1, max_size=batch).map(np.array)


class Batch(NamedTuple):
    """B pairs as a loss gets them: raw features `images` and `texts` (B, E), words `ids` and `is_real` (B, T), and `image_ids` (B,)."""

    images: np.ndarray
    texts: np.ndarray
    ids: np.ndarray
    is_real: np.ndarray
    image_ids: np.ndarray


@st.composite
def batches(
    draw: st.DrawFn,
    batch: int = 4,
    tokens: int = 5,
    width: int | None = None,
    vocabulary: int = 9,
    distinct: bool = True,
) -> Batch:
    """Draw a batch with captions of different lengths, padded anywhere; with `distinct=False` pictures may stand in it twice."""
    is_real = draw(paddings(batch, tokens))
    rng, B, E = generator(draw(seeds)), len(is_real), draw(sizes()) if width is None else width
    image_ids = rng.permutation(1000)[:B] if distinct else rng.integers(0, max(1, B - 1), B)
    images, texts = rng.normal(size=(2, B, E))
    return Batch(images, texts, rng.integers(0, vocabulary, is_real.shape), is_real, image_ids)


@st.composite
def paddings(draw: st.DrawFn, batch: int = 4, tokens: int = 5, side: str = "any") -> np.ndarray:
    """Draw `is_real` (B, T) with one real token or more a row, and B = T half of the time.

    Equal sizes matter: an axis that is missing broadcasts silently only when two sizes agree.
    `side` says where the padding may stand: "right", "left", or "any" for holes too.
    """
    B = draw(sizes(1, batch))
    T = B if draw(st.booleans()) else draw(sizes(1, tokens))
    bits = draw(st.integers(0, 2 ** (B * T) - 1))
    is_real = np.array([not bits >> i & 1 for i in range(B * T)]).reshape(B, T)
    is_real[:, -1] |= ~is_real.any(axis=1)
    return is_real if side == "any" else pad_to(is_real, side)


@st.composite
def masks(draw: st.DrawFn, rows: int | None = None, columns: int | None = None) -> np.ndarray:
    """Draw a boolean (rows, columns) mask, square unless columns are given, in which each row may look somewhere."""
    rows = draw(sizes()) if rows is None else rows
    return random_mask(generator(draw(seeds)), rows, rows if columns is None else columns)


def pad_to(is_real: np.ndarray, side: str) -> np.ndarray:
    """Push the padding of each row to one side; the lengths stay."""
    ordered = np.sort(is_real, axis=1)
    return ordered if side == "left" else ordered[:, ::-1]


def random_mask(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Return a boolean mask with about six of ten entries open and one at least in every row."""
    mask = rng.random((rows, columns)) < 0.6
    mask[np.arange(rows), rng.integers(columns, size=rows)] = True
    return mask


def unit(x: np.ndarray) -> np.ndarray:
    """Return the rows of x at length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def orthonormal(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    """Return n rows of length 1 that are orthogonal to each other; the width must be n or more."""
    return np.linalg.qr(rng.normal(size=(width, n)))[0].T


def distinct_scores(rng: np.random.Generator, n: int, m: int) -> np.ndarray:
    """Return the numbers 0 … nm − 1 in random order: scores without ties, exact in every dtype."""
    return rng.permutation(n * m).reshape(n, m).astype(float)
