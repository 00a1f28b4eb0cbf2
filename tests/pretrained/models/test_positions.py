"""Position embeddings for pictures of another size: numbers of the programs that resize them, and models that take such pictures."""

from pathlib import Path

import numpy as np
import pytest

from tinymm import pretrained
from tinymm.arrays.errors import CheckpointError, UsageError
from tinymm.arrays.random import generator
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.pretrained.models.positions import bicubic_matrix, resized_positions

NUMBERS = (
    Path(__file__).parents[1] / "reference" / "positions.npz"
)  # torch's, in float64: a grid of 4 × 4 to 7 × 7 and 3 × 3


@pytest.mark.parametrize("name", ["up_7x7", "down_3x3", "up_7x7_antialias", "down_3x3_antialias"])
def test_the_numbers_of_torch(name):
    with np.load(NUMBERS) as file:
        found = resized_positions(
            file["pos"][0], 7 if "7" in name else 3, antialias="antialias" in name
        )
        np.testing.assert_allclose(found, file[f"pos_{name}"][0], rtol=0, atol=1e-12)


@pytest.mark.parity
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("old", [1, 2, 3, 7, 14, 16])
def test_torch_s_interpolation_at_every_size(old, antialias):
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(old).standard_normal((1 + old * old, 3))
    grid = torch.tensor(table[1:]).reshape(1, old, old, 3).permute(0, 3, 1, 2)
    for new in (1, 2, 3, 5, 7, 13, 14, 15, 24, 32):
        right = torch.nn.functional.interpolate(
            grid, size=(new, new), mode="bicubic", align_corners=False, antialias=antialias
        )
        right = right.permute(0, 2, 3, 1).reshape(new * new, 3).numpy()
        found = resized_positions(table, new, antialias=antialias)
        assert (found[0] == table[0]).all()
        if new == old:
            assert found is table  # programs leave a grid of the right size alone
        else:
            np.testing.assert_allclose(found[1:], right, rtol=0, atol=1e-12)


@pytest.mark.parametrize("antialias", [False, True])
def test_a_constant_stays_and_so_does_a_mirror(antialias):
    for old, new in ((4, 9), (9, 4), (7, 8), (1, 5), (5, 1)):
        weights = bicubic_matrix(old, new, antialias=antialias)
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-14)
        np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-14)


@pytest.mark.parametrize("form", ["huggingface", "openai", "tinymm"])
def test_a_clip_opens_at_another_resolution(form, tmp_path):
    model = CLIP(CLIPConfig.tiny(), generator(0)).eval()
    pretrained.save(model, tmp_path, form)
    for resolution in (16, 40, 64):
        found, report = pretrained.load_with_report(tmp_path, resolution=resolution)
        right = resized_positions(
            model.image_encoder.positions.data, resolution // 8, antialias=form != "huggingface"
        )
        np.testing.assert_array_equal(found.image_encoder.positions.data, right)
        assert (
            found.config.image.resolution == found.image_encoder.config.resolution == resolution
            and report.resolution == 32
        )
        assert found.encode_image(np.zeros((2, resolution, resolution, 3), np.float32)).shape == (
            2,
            16,
        )
        assert pretrained.preprocess(tmp_path, resolution=resolution).resolution == resolution
        pretrained.save(found, tmp_path / "again")
        assert pretrained.load(tmp_path / "again").config == found.config
    same = pretrained.load(tmp_path, resolution=32)
    np.testing.assert_array_equal(
        same.image_encoder.positions.data, model.image_encoder.positions.data
    )
    assert [p for p in same.parameters() if p.requires_grad]


def test_the_momentum_encoders_go_along(tmp_path):
    model = ALBEF(ALBEFConfig.tiny(), generator(0)).eval()
    pretrained.save(model, tmp_path, "tinymm")
    side = model.config.image.resolution * 2
    found = pretrained.load(tmp_path, resolution=side)
    names = [name for name in found.state_dict() if name.endswith("image_encoder.positions")]
    assert len(names) == 2
    patches = (side // model.config.image.patch) ** 2
    assert {found.state_dict()[name].shape[0] for name in names} == {patches + 1}


def test_what_cannot_be_is_refused(tmp_path):
    pretrained.save(CLIP(CLIPConfig.tiny(), generator(0)), tmp_path / "vit")
    pretrained.save(CLIP(CLIPConfig.tiny("resnet"), generator(0)), tmp_path / "resnet")
    for resolution, said in (
        (20, "patches of 8 pixels tile"),
        (0, "number of pixels"),
        (2.0, "number of pixels"),
        (10**6, "number of pixels"),
    ):
        with pytest.raises(UsageError, match=said):
            pretrained.load(tmp_path / "vit", resolution=resolution)
    with pytest.raises(UsageError, match="has none"):
        pretrained.load(tmp_path / "resnet", resolution=64)
    with pytest.raises(UsageError, match="square grid, 7 came"):
        resized_positions(np.ones((7, 2)), 4, antialias=True)
    with pytest.raises((CheckpointError, UsageError)):
        pretrained.load(tmp_path / "nowhere", resolution=64)
