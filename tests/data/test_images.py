"""Reading and preprocessing: the original code's pixels, and a sentence for every kind of bad file."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinymm.arrays.errors import DataError
from tinymm.data import images
from tinymm.data.images import Preprocess, check_header, preprocess, read


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).with_name("preprocess.npz")) as arrays:
        return dict(arrays)


#: The original code's numbers were taken with Pillow 13, which shrinks a tall picture's columns
#: first; before, rows came first, and the rounding between the two passes fell elsewhere.
SINCE_13 = int(PIL.__version__.split(".")[0]) >= 13


@pytest.mark.parametrize("family", ["clip", "blip"])
@pytest.mark.parametrize("number", [0, 1, 3])
def test_pixels_are_those_of_the_original_code(reference, family, number):
    ours, theirs = (
        preprocess(family, 32).pixels(reference[f"img{number}"]),
        reference[f"{family}_u8_{number}"],
    )
    np.testing.assert_allclose(
        ours.astype(int), theirs.astype(int), rtol=0, atol=0 if SINCE_13 or number != 1 else 2
    )


@pytest.mark.parametrize(("family", "number"), [("clip", 0), ("blip", 1)])
def test_normalized_values_are_those_of_the_original_code(reference, family, number):
    ours = preprocess(family, 32)(reference[f"img{number}"])
    assert ours.dtype == np.float32
    atol = 1e-6 if SINCE_13 or number != 1 else 0.03  # two of 255 over a deviation of 0.26
    np.testing.assert_allclose(ours, reference[f"{family}_{number}"].transpose(1, 2, 0), atol=atol)


def test_a_path_its_bytes_an_image_and_an_array_give_the_same(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path = tmp_path / "picture.png"
    Image.fromarray(array).save(path)
    expected = preprocess("clip", 16)(array)
    for picture in (path, str(path), path.read_bytes(), Image.open(path)):
        np.testing.assert_array_equal(preprocess("clip", 16)(picture), expected)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 20),
    st.sampled_from(["shorter_side", "square"]),
    st.sampled_from([1, 3]),
)
def test_every_shape_becomes_the_square_that_was_asked_for(h, w, n, resize, channels):
    settings = Preprocess(n, channels, (0.5,) * channels, (0.5,) * channels, resize)
    picture = np.full((h, w, 3), 200, np.uint8)
    assert settings.pixels(picture).shape == (n, n, channels)
    assert (settings.pixels(picture) == 200).all()
    np.testing.assert_allclose(settings.denormalize(settings(picture)), 200 / 255, atol=1e-6)
    assert Preprocess.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize(
    "settings",
    [preprocess("clip", 224), preprocess("blip", 384), Preprocess(32, 1, (0.2,), (0.4,))],
)
def test_settings_survive_hugging_faces_names(settings):
    assert Preprocess.from_dict(settings.to_dict()) == settings


def test_openai_s_old_files_with_bare_numbers_are_read():
    old = {
        "size": 224,
        "crop_size": 224,
        "do_center_crop": True,
        "do_resize": True,
        "resample": 3,
        "do_normalize": True,
    }
    assert Preprocess.from_dict(old) == replace(
        preprocess("clip", 224), crop_rounding="down"
    )  # transformers' crop, not OpenAI's


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_resize": False}, "do_resize is off"),
        ({"do_center_crop": False}, "keeps the aspect ratio"),
        ({"rescale_factor": "a"}, "rescale_factor is"),
        ({"size": {"shortest_edge": 200}, "crop_size": 224}, "crops a square"),
        ({"size": {"shortest_edge": 224, "longest_edge": 300}}, "longest_edge"),
        ({"size": {"height": 10, "width": 20}}, "'width': 20"),
        ({"size": "224"}, "'224'"),
        ({"size": True}, "True"),
        ({"size": None}, "None"),
        ({"image_mean": None}, "image_mean is"),
        ({"resample": None}, "resample is None"),
        ({"do_resize": None}, "do_resize is off"),
        ({"crop_size": [224, 100]}, r"\[224, 100\]"),
        ({"resample": 9}, "resample is 9"),
        ({"resample": [3]}, r"resample is \[3\]"),
        ({"image_mean": ["a"]}, "image_mean is"),
        ({"image_std": [0.5, 0.5]}, "positive std for 3"),
        ({"image_mean": [float("inf"), 0.5, 0.5]}, "finite mean"),
        ({"image_mean": float("nan")}, "finite mean"),
        ({"image_std": float("inf")}, "positive std"),
        ({"image_std": 1e-300}, "positive std"),
        ({"pad_size": {"height": 3, "width": 3}}, "'pad_size'"),
        ({"crop_pct": 0.9}, "'crop_pct'"),
        ({"image_processor_type": "BeitImageProcessor"}, "BeitImageProcessor"),
    ],
)
def test_settings_beyond_ours_are_refused(settings, message):
    with pytest.raises(DataError, match=message):
        Preprocess.from_dict(settings)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_truncated_picture_is_named(tmp_path, suffix):
    path = tmp_path / f"half.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(
        path
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert check_header(path) == (60, 60)
    with pytest.raises(
        DataError, match=rf"half.{suffix} is damaged or cut off \(.*\): copy it again"
    ):
        read(path)


def test_other_files_and_missing_ones_are_named(tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("not a picture")
    with pytest.raises(
        DataError, match="notes.jpg is no picture that can be read .*: pictures are JPEG"
    ):
        read(path)
    with pytest.raises(DataError, match="gone.jpg is not there"):
        read(tmp_path / "gone.jpg")


def test_postscript_is_never_opened(tmp_path):
    path = tmp_path / "program.png"
    Image.new("RGB", (8, 8)).save(path, format="EPS")
    with pytest.raises(DataError, match="no picture that can be read"):
        read(path)


def test_a_decompression_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    Image.new("L", (200, 100)).save(path)
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    with pytest.raises(
        DataError, match="at most 10000 pixels but .*bomb.png has 200 x 100: shrink it"
    ):
        read(path)
    for limit in (15_000, 5_000):  # Pillow's own warning, and its own error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match="at most 10000 pixels but .*bomb.png has more"):
            read(path)


def test_a_photograph_stored_sideways_is_turned_upright(tmp_path):
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "sideways.png"
    Image.fromarray(np.rot90(upright)).save(path, exif=exif)
    np.testing.assert_array_equal(read(path), upright)


def test_sixteen_bit_grays_keep_their_shades(tmp_path):
    buffer = BytesIO()
    Image.fromarray(np.array([[0, 2**15, 2**16 - 1]], np.uint16)).save(buffer, "PNG")
    assert read(buffer.getvalue())[0, :, 0].tolist() == [0, 128, 255]


def test_arrays_of_another_kind_are_refused():
    for array in (
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((0, 4), np.uint8),
    ):
        with pytest.raises(DataError, match=r"\(h, w, 3\) of uint8 but came as"):
            preprocess("clip", 8)(array)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": 0}, "not 0 pixels"),
        ({"resolution": 8, "channels": 2}, "2 channels"),
        ({"resolution": 8, "channels": 1}, "1 channels but got"),
        ({"resolution": 8, "resize": "stretch"}, "'stretch'"),
        ({"resolution": 8, "interpolation": "sinc"}, "'sinc'"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        Preprocess(**arguments)
    with pytest.raises(DataError, match="clip, albef, blip, blip2 but 'siglip'"):
        preprocess("siglip", 224)
