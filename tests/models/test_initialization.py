"""Where every parameter begins, as released (models.md, 1.8; OpenAI's `initialize_parameters`, PyTorch's defaults elsewhere)."""

import math
import re

import numpy as np
import pytest

from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.models.resnet import ResNetConfig
from tinymm.models.text import TextConfig
from tinymm.models.vit import ViTConfig

D, L, E, P = 48, 3, 24, 4
TEXT = TextConfig(vocabulary=300, context=20, width=D, layers=L, heads=4)
VIT = CLIP(CLIPConfig(E, ViTConfig(32, P, D, 2, 4), TEXT), np.random.default_rng(0))
RESNET = CLIP(CLIPConfig(E, ResNetConfig(64, 4, 4), TEXT), np.random.default_rng(0))
C, NARROW = 128, D**-0.5 * (2 * L) ** -0.5

#: Pattern of the name → what it begins as: ("N", std), ("U", bound) or a constant.
VIT_TABLE = {
    r"text_encoder\.token_embedding\.weight": ("N", 0.02),
    r"text_encoder\.positions": ("N", 0.01),
    r"text_encoder\.blocks\.\d\.attention\.qkv\.weight": ("N", D**-0.5),
    r"text_encoder\.blocks\.\d\.(attention\.output|mlp\.fc2)\.weight": ("N", NARROW),
    r"text_encoder\.blocks\.\d\.mlp\.fc1\.weight": ("N", (2 * D) ** -0.5),
    r"W_[it]": ("N", D**-0.5),
    r"image_encoder\.(class_embedding|positions)": ("N", D**-0.5),
    r"image_encoder\.patch_embedding\.weight": ("U", (P * P * 3) ** -0.5),
    r"image_encoder\.blocks\.\d\.attention\.qkv\.weight": ("U", math.sqrt(6 / (4 * D))),
    r"image_encoder\.blocks\.\d\.(attention\.output|mlp\.fc1)\.weight": ("U", D**-0.5),
    r"image_encoder\.blocks\.\d\.mlp\.fc2\.weight": ("U", (4 * D) ** -0.5),
    r".*\.mlp\.fc1\.bias": ("U", D**-0.5),
    r".*\.mlp\.fc2\.bias": ("U", (4 * D) ** -0.5),
    r".*\.attention\.(qkv|output)\.bias": 0.0,
    r".*\.norm_\w+\.weight": 1.0,
    r".*\.norm_\w+\.bias": 0.0,
    r"t": math.log(1 / 0.07),
}
RESNET_TABLE = {
    r"image_encoder\.pool\.positions": ("N", C**-0.5),
    r"image_encoder\.pool\.attention\.\w+\.weight": ("N", C**-0.5),
    r"image_encoder\.pool\.attention\.\w+\.bias": ("U", C**-0.5),
    r"image_encoder\..*\.expand\.norm\.weight": 0.0,
    r"image_encoder\..*norm\.weight": 1.0,
    r"image_encoder\..*norm\.bias": 0.0,
    r"image_encoder\..*\.conv\.weight": "U of its own fan-in",
    r"W_i": ("N", C**-0.5),
} | VIT_TABLE  # the first match counts


def check(array, rule):
    """Hold an array to its distribution, five standard errors wide."""
    if isinstance(rule, float):
        np.testing.assert_allclose(array, rule, rtol=1e-6)
        return
    kind, size = rule
    n, std = array.size, size if kind == "N" else size / math.sqrt(3)
    assert abs(array.mean()) < 5 * std / math.sqrt(n)
    assert array.std() == pytest.approx(std, rel=5 / math.sqrt(2 * n))
    if kind == "U":
        assert 0.9 * size < np.abs(array).max() <= size * (1 + 1e-6) or n < 30
    elif n > 1000:
        assert np.abs(array).max() > 2.5 * std, "a normal distribution has tails"


@pytest.mark.parametrize(
    "model, table", [(VIT, VIT_TABLE), (RESNET, RESNET_TABLE)], ids=["vit", "resnet"]
)
def test_every_parameter_begins_where_the_release_puts_it(model, table):
    used = set()
    for name, parameter in model.named_parameters():
        pattern = next(pattern for pattern in table if re.fullmatch(pattern, name))
        used.add(pattern)
        rule = table[pattern]
        if rule == "U of its own fan-in":
            rule = ("U", math.prod(parameter.shape[:3]) ** -0.5)
        assert parameter.dtype == np.float32
        check(parameter.data, rule)
    assert used == set(table) or model is RESNET


def test_one_seed_gives_one_model_and_another_another():
    def weights(seed):
        return np.concatenate(
            [
                p.data.ravel()
                for p in CLIP(CLIPConfig.tiny(), np.random.default_rng(seed)).parameters()
            ]
        )

    np.testing.assert_array_equal(weights(3), weights(3))
    assert not np.array_equal(weights(3), weights(4))
