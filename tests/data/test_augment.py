"""Augmentation: exact where a map has an exact answer, equal to torch's sampler, and a function of the generator."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import ShapeError
from tinymm.data.augment import (
    affine,
    color_jitter,
    draw_affine,
    random_affine,
    random_crop,
    stroke_weight,
)

IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def pictures(count=6, h=9, w=7, c=1):
    return np.random.default_rng(1).random((count, h, w, c), dtype=np.float32)


@pytest.mark.parametrize("c", [1, 3])
def test_the_identity_changes_nothing(c):
    images = pictures(c=c)
    np.testing.assert_allclose(affine(images, np.tile(IDENTITY, (6, 1, 1))), images, atol=1e-6)


@given(st.integers(-8, 8), st.integers(-10, 10))
def test_a_shift_by_whole_pixels_moves_and_fills_with_zeros(right, down):
    images = pictures(2)
    maps = np.tile(IDENTITY, (2, 1, 1))
    maps[:, :, 2] = 2 * right / 7, 2 * down / 9
    expected = np.zeros_like(images)
    for row in range(9):
        for column in range(7):
            if 0 <= row + down < 9 and 0 <= column + right < 7:
                expected[:, row, column] = images[:, row + down, column + right]
    np.testing.assert_allclose(affine(images, maps), expected, atol=1e-5)


def test_a_half_turn_reverses_both_axes():
    images = pictures()
    np.testing.assert_allclose(
        affine(images, np.tile(-IDENTITY, (6, 1, 1))), images[:, ::-1, ::-1], atol=1e-5
    )


@pytest.mark.parity
@pytest.mark.parametrize("c", [1, 3])
def test_sampling_is_torch_s(c):
    torch = pytest.importorskip("torch")
    images, maps = pictures(20, c=c), draw_affine(20, np.random.default_rng(0), strength=3)
    channels_first = torch.tensor(images.transpose(0, 3, 1, 2))
    grid = torch.nn.functional.affine_grid(
        torch.tensor(maps), list(channels_first.shape), align_corners=False
    )
    theirs = torch.nn.functional.grid_sample(channels_first, grid, align_corners=False).numpy()
    np.testing.assert_allclose(affine(images, maps), theirs.transpose(0, 2, 3, 1), atol=1e-5)


def test_maps_that_do_not_match_the_pictures_are_refused():
    with pytest.raises(ShapeError, match=r"\(6, 2, 3\), but argument 1 is \(5, 2, 3\)"):
        affine(pictures(), np.zeros((5, 2, 3), np.float32))


def test_bolder_only_adds_and_lighter_only_removes():
    images = pictures(200)
    changed = stroke_weight(images, np.random.default_rng(0))
    up = (changed >= images - 1e-6).all(axis=(1, 2, 3))
    down = (changed <= images + 1e-6).all(axis=(1, 2, 3))
    assert (up | down).all()
    kinds = up & ~down, down & ~up, up & down
    assert all(40 < kind.sum() < 95 for kind in kinds), [int(kind.sum()) for kind in kinds]


def test_full_strokes_are_the_largest_and_smallest_neighbors():
    class Chosen:
        def random(self, shape, dtype):
            return np.array([[0.1, 0.5], [1.0, 1.0]], dtype)

    images = pictures(2)
    bold, light = stroke_weight(images, Chosen(), amount=1.0)[..., 0]
    for row in range(9):
        for column in range(7):
            around = images[0, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            assert bold[row, column] == pytest.approx(around.max())
            corner = images[1, row : row + 2, column : column + 2]
            assert light[row, column] == pytest.approx(
                corner.min() if corner.shape[:2] == (2, 2) else 0, abs=1e-6
            )


def test_wobble_is_a_function_of_the_generator_and_of_strength():
    images = pictures()
    same = [random_affine(images, np.random.default_rng(5)) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert not np.array_equal(same[0], random_affine(images, np.random.default_rng(6)))
    assert random_affine(images, np.random.default_rng(5), strength=0) is images
    assert same[0].dtype == np.float32 and same[0].shape == images.shape
    np.testing.assert_array_equal(images, pictures())


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0.05, 1), st.integers(0, 1000))
def test_a_crop_lies_inside_and_keeps_its_area(h, w, smallest, seed):
    left, top, right, bottom = random_crop((h, w), np.random.default_rng(seed), smallest)
    assert 0 <= left < right <= w and 0 <= top < bottom <= h
    square = min(h, w) ** 2
    rounding = 2 * min(h, w) + 1
    assert smallest * square - rounding <= (right - left) * (bottom - top) <= square + rounding


@given(st.integers(0, 99), st.sampled_from([0.5, 1.0]))
def test_repainting_keeps_paper_white_and_hues_about_as_they_were(seed, strength):
    rng = np.random.default_rng(seed)
    ink = rng.random((4, 5, 5, 3), dtype=np.float32)
    ink[:, 0] = 0
    found = color_jitter(ink, rng, strength)
    assert (
        (found[:, 0] == 0).all()
        and 0 <= found.min()
        and found.max() <= 1
        and found.dtype == np.float32
    )
    gains = found[:, 1:] / ink[:, 1:]
    inside = found[:, 1:] < 1
    low, high = (
        (1 - 0.15 * strength) * (1 - 0.25 * strength),
        (1 + 0.15 * strength) * (1 + 0.25 * strength),
    )
    assert (gains[inside] > low - 1e-3).all() and (gains[inside] < high + 1e-3).all()
    for picture, kept in zip(gains, inside, strict=True):
        for c in range(3):  # one gain a channel, whatever the place
            np.testing.assert_allclose(
                picture[..., c][kept[..., c]],
                picture[..., c][kept[..., c]][:1].repeat(kept[..., c].sum()),
                rtol=1e-4,
            )


def test_no_strength_repaints_nothing():
    images = pictures(c=3)
    assert color_jitter(images, np.random.default_rng(0), 0) is images
