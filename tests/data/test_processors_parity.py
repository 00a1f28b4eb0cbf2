"""Descriptions of preprocessing of every age and kind, read here and by transformers: the same pictures come out, or a sentence."""

import json

import numpy as np
import pytest
from PIL import Image

from tinymm import pretrained
from tinymm.arrays.errors import CheckpointError, DataError
from tinymm.arrays.random import generator
from tinymm.data.images import Preprocess
from tinymm.data.processors import from_open_clip
from tinymm.models.clip import CLIP, CLIPConfig

SQUARE = {"height": 32, "width": 32}
USUAL = {"do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
CLIPS = {
    "nothing but the class": {},
    "2021: numbers, no do_center_crop": {
        "feature_extractor_type": "CLIPFeatureExtractor",
        "size": 32,
        "crop_size": 32,
    },
    "2022: numbers": {
        "size": 32,
        "crop_size": 32,
        "do_center_crop": True,
        "do_resize": True,
        "resample": 3,
    },
    "2023: objects": {
        "size": {"shortest_edge": 32},
        "crop_size": SQUARE,
        "do_center_crop": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
    },
    "diffusers": {
        "image_processor_type": "CLIPFeatureExtractor",
        "size": SQUARE,
        "crop_size": SQUARE,
        "do_center_crop": True,
    },
    "lists": {"size": [32, 32], "crop_size": [32, 32]},
    "a larger shorter side": {"size": {"shortest_edge": 48}, "crop_size": 32},
    "a crop of odd margins": {"size": {"shortest_edge": 47}, "crop_size": 32},
    "squeezed": {"size": SQUARE, "do_center_crop": False},
    "bilinear": {"size": 32, "crop_size": 32, "resample": 2},
    "Lanczos": {"size": 32, "crop_size": 32, "resample": 1},
    "nearest": {"size": 32, "crop_size": 32, "resample": 0},
    "box": {"size": 32, "crop_size": 32, "resample": 4},
    "Hamming": {"size": 32, "crop_size": 32, "resample": 5},
    "no rescaling": {"size": 32, "crop_size": 32, "do_rescale": False},
    "another factor": {"size": 32, "crop_size": 32, "rescale_factor": 1 / 127.5},
    "no normalization": {"size": 32, "crop_size": 32, "do_normalize": False},
    "neither": {"size": 32, "crop_size": 32, "do_normalize": False, "do_rescale": False},
    "one mean for all channels": {
        "size": 32,
        "crop_size": 32,
        "image_mean": 0.5,
        "image_std": 0.25,
    },
    "nulls that mean off": {
        "size": SQUARE,
        "crop_size": None,
        "do_center_crop": None,
        "do_normalize": None,
        "image_mean": None,
        "do_rescale": None,
    },
    "what changes nothing": {
        "size": 32,
        "crop_size": 32,
        "processor_class": "CLIPProcessor",
        "do_pad": False,
        "input_data_format": None,
    },
    "use_square_size": {"use_square_size": True},
}
BLIPS = {
    "nothing but the class": {},
    "a number": {"size": 32},
    "an object": {"size": SQUARE, "do_convert_rgb": True, "resample": 3},
    "a list": {"size": [32, 32]},
    "ImageNet's numbers": {
        "size": SQUARE,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
    "a crop that this class does not do": {"size": SQUARE, "crop_size": 16},
}


def pictures():
    rng = np.random.default_rng(0)
    for h, w in ((41, 97), (90, 60), (32, 32), (20, 23), (300, 201), (35, 33)):
        yield rng.integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "kind"), [(name, "CLIP") for name in CLIPS] + [(name, "Blip") for name in BLIPS]
)
@pytest.mark.filterwarnings("ignore")
def test_the_pictures_of_transformers(name, kind):
    transformers = pytest.importorskip("transformers")
    module = pytest.importorskip(
        f"transformers.models.{kind.lower()}.image_processing_pil_{kind.lower()}"
    )
    settings = (
        {"image_processor_type": f"{kind}ImageProcessor"}
        | USUAL
        | (CLIPS if kind == "CLIP" else BLIPS)[name]
    )
    theirs = getattr(module, f"{kind}ImageProcessorPil").from_dict(dict(settings))
    ours = Preprocess.from_dict(settings)
    again = Preprocess.from_dict(ours.to_dict())
    assert transformers.__version__
    for picture in pictures():
        right = np.asarray(
            theirs(Image.fromarray(picture), return_tensors="np")["pixel_values"][0]
        ).transpose(1, 2, 0)
        scale = max(1.0, float(np.abs(right).max()))
        assert np.abs(ours(picture) - right).max() < 2e-6 * scale
        np.testing.assert_allclose(again(picture), ours(picture), rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["ViT", "Siglip", "DeiT", "Bit", "ChineseCLIP"])
@pytest.mark.filterwarnings("ignore")
def test_what_other_classes_assume(kind):
    name = {"ChineseCLIP": "chinese_clip"}.get(kind, kind.lower())
    pytest.importorskip("transformers")
    module = pytest.importorskip(f"transformers.models.{name}.image_processing_pil_{name}")
    theirs, ours = getattr(module, f"{kind}ImageProcessorPil")(), None
    for settings in ({"image_processor_type": f"{kind}ImageProcessor"}, theirs.to_dict()):
        if (
            kind == "DeiT"
        ):  # a square of 256, of which the middle is cropped: two steps that are not offered
            with pytest.raises(DataError, match="crops a square"):
                Preprocess.from_dict(settings)
            continue
        ours = Preprocess.from_dict(settings)
        for picture in pictures():
            right = np.asarray(
                theirs(Image.fromarray(picture), return_tensors="np")["pixel_values"][0]
            ).transpose(1, 2, 0)
            np.testing.assert_allclose(ours(picture), right, rtol=0, atol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_transformers_wrote(nested, tmp_path):
    pytest.importorskip("transformers")
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    pretrained.save(CLIP(CLIPConfig.tiny(), generator(0)), tmp_path)
    theirs = CLIPImageProcessorPil(
        size=40, crop_size=32, image_mean=[0.9, 0.8, 0.7], image_std=[0.05, 0.1, 0.2]
    )
    theirs.save_pretrained(tmp_path)
    if nested:  # as CLIPProcessor.save_pretrained writes it since version 5
        written = tmp_path / "preprocessor_config.json"
        whole = {
            "image_processor": json.loads(written.read_text()),
            "processor_class": "CLIPProcessor",
        }
        (tmp_path / "processor_config.json").write_text(json.dumps(whole))
        written.unlink()
    ours = pretrained.preprocess(tmp_path)
    for picture in pictures():
        right = np.asarray(
            theirs(Image.fromarray(picture), return_tensors="np")["pixel_values"][0]
        ).transpose(1, 2, 0)
        np.testing.assert_allclose(ours(picture), right, rtol=0, atol=1e-5)
    if nested:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(ours.to_dict()))
        assert pretrained.preprocess(tmp_path) == ours
        (tmp_path / "preprocessor_config.json").write_text(
            json.dumps(ours.to_dict() | {"image_mean": [0.5] * 3})
        )
        with pytest.raises(CheckpointError, match="describe different preprocessing"):
            pretrained.preprocess(tmp_path)


OPEN_CLIP = {
    "nothing": {},
    "numbers": {"mean": [0.5] * 3, "std": [0.5] * 3},
    "one number": {"mean": 0.5, "std": 0.25},
    "squash": {
        "resize_mode": "squash",
        "interpolation": "bilinear",
        "fill_color": 0,
        "mode": "RGB",
        "size": 32,
    },
    "size as a list": {"size": [32, 32], "resize_mode": "shortest", "interpolation": "random"},
    "nulls": {"mean": None, "std": None, "interpolation": None, "resize_mode": None},
}


@pytest.mark.parity
@pytest.mark.parametrize("name", OPEN_CLIP)
@pytest.mark.filterwarnings("ignore")
def test_the_pictures_of_open_clip(name):
    transform = pytest.importorskip("open_clip.transform")
    settings = OPEN_CLIP[name]
    theirs = transform.image_transform_v2(
        transform.PreprocessCfg(
            **transform.merge_preprocess_dict(transform.PreprocessCfg(size=32), settings)
        ),
        False,
    )
    ours = Preprocess(**from_open_clip(settings, 32))
    for picture in pictures():
        right = theirs(Image.fromarray(picture)).numpy().transpose(1, 2, 0)
        np.testing.assert_allclose(ours(picture), right, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"resize_mode": "longest"},
        {"interpolation": "lanczos"},
        {"mode": "L"},
        {"crop": 3},
        {"mean": ["a"]},
    ],
)
def test_other_words_of_open_clip_are_refused(settings):
    with pytest.raises(DataError, match="resize|by hand|known by name|one number"):
        from_open_clip(settings, 32)
