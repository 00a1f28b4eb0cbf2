"""The two image encoders: shapes, the way back of ModifiedResNet's pooling to its definition, and what a class token reads."""

import numpy as np
import pytest
from tiny import randomized, tiny_batch, tiny_clip

from tinymm.models.resnet import Bottleneck, ModifiedResNet, ResNetConfig

rng = np.random.default_rng


@pytest.mark.parametrize(
    "resolution, layers", [(32, (1, 1, 1, 1)), (64, (2, 1, 1, 2)), (96, (1, 2, 1, 1))]
)
def test_a_resnet_ends_in_one_place_for_each_32_by_32_pixels(resolution, layers):
    config = ResNetConfig(resolution, 4, 4, layers)
    model = ModifiedResNet(config, rng(0))
    images = rng(1).standard_normal((2, resolution, resolution, 3)).astype(np.float32)
    assert model.feature_map(images).shape == (2, resolution // 32, resolution // 32, 128)
    assert model(images).shape == (2, config.features) == (2, 128)
    assert model.pool.positions.shape == (config.places + 1, 128)
    assert (
        len(
            ModifiedResNet(ResNetConfig(resolution, 4, 4, layers, output_width=7), rng(0))(
                images
            ).data[0]
        )
        == 7
    )


def test_a_fresh_bottleneck_is_its_shortcut():
    block = Bottleneck(16, 4, 1, rng=rng(0)).eval()
    x = rng(1).standard_normal((2, 4, 4, 16)).astype(np.float32)
    assert block.shortcut is None
    np.testing.assert_array_equal(block(x).data, np.maximum(x, 0))
    shrinking = Bottleneck(16, 4, 2, rng=rng(0)).eval()
    pooled = x.reshape(2, 2, 2, 2, 2, 16).mean(axis=(2, 4))
    expected = np.maximum(shrinking.shortcut(pooled).data, 0)
    np.testing.assert_allclose(shrinking(x).data, expected, atol=1e-6)


@pytest.mark.parametrize(
    "channels, narrow, stride, changes", [(16, 4, 1, False), (8, 4, 1, True), (16, 4, 2, True)]
)
def test_a_shortcut_is_there_where_the_shape_changes(channels, narrow, stride, changes):
    block = Bottleneck(channels, narrow, stride, rng=rng(0))
    assert (block.shortcut is not None) == changes
    assert block(np.ones((1, 4, 4, channels), np.float32)).shape == (
        1,
        4 // stride,
        4 // stride,
        4 * narrow,
    )


def test_attention_pooling_is_attention_of_the_mean_over_the_mean_and_all_places():
    pool = randomized(ModifiedResNet(ResNetConfig(64, 4, 4), rng(0))).astype("float64").pool
    x = rng(1).standard_normal((1, 2, 2, 128))
    places = x.reshape(4, 128)
    seen = np.concatenate([places.mean(axis=0, keepdims=True), places]) + pool.positions.data
    q, k, v = (
        seen @ part.weight.data + part.bias.data
        for part in (pool.attention.query, pool.attention.key, pool.attention.value)
    )
    heads = []
    for h in range(4):
        cut = slice(32 * h, 32 * h + 32)
        scores = q[0, cut] @ k[:, cut].T / np.sqrt(32)
        weights = np.exp(scores - scores.max())
        heads.append(weights / weights.sum() @ v[:, cut])
    expected = (
        np.concatenate(heads) @ pool.attention.output.weight.data + pool.attention.output.bias.data
    )
    np.testing.assert_allclose(pool(x).data[0], expected, rtol=1e-9, atol=1e-12)


def test_a_vision_transformer_reads_off_the_class_token_and_sees_every_patch():
    model = randomized(tiny_clip(dtype="float64"))
    images, _ = tiny_batch(model, pairs=1)
    vit = model.image_encoder
    tokens = vit.tokens(images)
    assert tokens.shape == (1, 1 + vit.config.patches, 32)
    np.testing.assert_allclose(vit(images).data, vit.norm_after(tokens.data[:, 0]).data, rtol=1e-12)
    before = vit(images).data
    for row, column in np.ndindex(4, 4):
        other = images.copy()
        other[0, 8 * row, 8 * column, 0] += 1
        assert np.abs(vit(other).data - before).max() > 1e-9


def test_patches_are_cut_row_by_row():
    vit = randomized(tiny_clip(dtype="float64")).image_encoder
    image = rng(0).standard_normal((1, 32, 32, 3))
    by_hand = [
        np.einsum(
            "ijc,ijcd->d",
            image[0, 8 * r : 8 * r + 8, 8 * c : 8 * c + 8],
            vit.patch_embedding.weight.data,
        )
        for r, c in np.ndindex(4, 4)
    ]
    x = np.concatenate([vit.class_embedding.data[None], by_hand]) + vit.positions.data
    vit.blocks = []
    np.testing.assert_allclose(vit.tokens(image).data[0], vit.norm_before(x).data, atol=1e-10)
