"""The nine released models have the parameters of the papers' table; none of them is allocated here."""

import numpy as np
import pytest

import tinymm.layers.attention
import tinymm.layers.basic
import tinymm.layers.convolution
import tinymm.models.clip
import tinymm.models.resnet
import tinymm.models.text
import tinymm.models.vit
from tinymm.models.clip import CLIP, RELEASED, CLIPConfig

#: Parameters and arrays in the released files (Tables 19 and 20; the counts are those of the
#: files).
TABLE = {
    "RN50": (102_007_137, 489),
    "RN101": (119_688_033, 795),
    "RN50x4": (178_300_601, 669),
    "RN50x16": (290_979_217, 921),
    "RN50x64": (623_258_305, 1353),
    "ViT-B/32": (151_277_313, 302),
    "ViT-B/16": (149_620_737, 302),
    "ViT-L/14": (427_616_513, 446),
    "ViT-L/14@336px": (427_944_193, 446),
}


@pytest.fixture
def weightless(monkeypatch):
    """Make every initializer hand out one zero that is shown many times."""

    def zeros(rng, shape, *_):
        return np.broadcast_to(np.float32(0), shape)

    parts = (tinymm.layers.attention, tinymm.layers.basic, tinymm.layers.convolution)
    for module in (
        *parts,
        tinymm.models.clip,
        tinymm.models.resnet,
        tinymm.models.text,
        tinymm.models.vit,
    ):
        for name in ("normal", "uniform_fan_in", "xavier_uniform"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, zeros)


@pytest.mark.parametrize("name", TABLE)
def test_parameters_and_arrays_are_those_of_the_table(name, weightless):
    model = CLIP(CLIPConfig.paper(name), np.random.default_rng(0))
    assert (model.count(), len(model.state_dict())) == TABLE[name]


def test_the_table_has_every_size():
    assert set(TABLE) == set(RELEASED)


def test_head_sizes_are_those_of_the_release():
    for name in TABLE:
        config = CLIPConfig.paper(name)
        assert config.text.width == 64 * config.text.heads
        width = config.image.width if name.startswith("ViT") else config.image.features
        assert width == 64 * config.image.heads
