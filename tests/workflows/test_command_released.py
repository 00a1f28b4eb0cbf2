"""`eval` and `caption` of ALBEF and BLIP in folders of others: word pieces that frame captions already, cleaned as the paper's authors did."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_runs import draw
from tiny import randomized

from tinymm import pretrained
from tinymm.data.builtin.shapes import load as load_shapes
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.bert import BertConfig
from tinymm.models.blip import BLIP, BLIPConfig
from tinymm.tasks import blip2_stage1
from tinymm.training.records import read_json
from tinymm.workflows.open_model import open_model
from tinymm.workflows.sources import source_for

pytest.importorskip("tokenizers")

REFERENCE = Path(__file__).parents[1] / "pretrained" / "reference"
PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"a red green blue white square bar pole again , - ' ##s".split(),
]
PIECES += [f"word{i}" for i in range(64 - len(PIECES))]


def pieces(folder):
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return folder


@pytest.fixture(params=["albef", "blip"])
def released(request, tmp_path):
    """Give a folder with the original code's own file, its settings and BERT's list of pieces."""
    folder = tmp_path / request.param
    folder.mkdir()
    shutil.copy(REFERENCE / f"{request.param}.safetensors", folder / "model.safetensors")
    settings = read_json(REFERENCE / f"{request.param}.json") | {"sep": 3, "mask": 4}
    (folder / "config.json").write_text(
        json.dumps(
            {
                k: v
                for k, v in settings.items()
                if k != ("sep" if request.param == "albef" else "mask")
            }
        )
    )
    return pieces(folder)


@pytest.fixture
def hugging_face(tmp_path):
    """Give a folder as Hugging Face's of a BLIP that writes: its names, its preprocessing, and pieces."""
    text = BertConfig.tiny(vocabulary=66, encoder_width=24)
    model = randomized(
        BLIP(
            BLIPConfig.tiny(text=text, decode=64, encode=None, end_of_text=3, momentum=None),
            np.random.default_rng(0),
        )
    )
    pretrained.save(model, tmp_path / "hf", "huggingface")
    side = {"height": 16, "width": 16}
    described = {
        "image_processor_type": "BlipImageProcessor",
        "do_resize": True,
        "size": side,
        "resample": 3,
        "do_convert_rgb": True,
    }
    (tmp_path / "hf" / "preprocessor_config.json").write_text(
        json.dumps(described | {"do_pad": True, "size_divisor": 32})
    )
    return pieces(tmp_path / "hf")


def test_a_released_model_is_evaluated_on_own_pictures(released, here, command):
    said = command(
        "eval", "--model", released, "--data", draw(here / "pictures"), "--out", "numbers.json"
    )
    assert said.code == 0, said.error
    found = read_json(here / "numbers.json")
    name = {"albef": "mlm_accuracy", "blip": "lm_perplexity"}[released.name]
    assert {
        "validation_itc_r1",
        "validation_itm_accuracy",
        f"validation_{name}",
    } <= found.keys() and "no weights for" not in said.out


def test_captions_are_cleaned_and_pictures_prepared_as_the_paper_s(released):
    opened = open_model(str(released))
    assert opened.tokenizer.cleaning == released.name
    ids = opened.tokenizer(["red-green, bar's"])[0][0].tolist()
    names = [PIECES[i] for i in ids]
    # ALBEF's authors drop comma and apostrophe and read a hyphen as a space, BLIP's keep all three
    said = {
        "albef": ["red", "green", "bar", "##s"],
        "blip": ["red", "-", "green", ",", "bar", "'", "[UNK]"],
    }[released.name]
    assert names == ["[CLS]", *said, "[SEP]"]
    assert (opened.preprocess.resize, opened.preprocess.resolution) == ("square", 32)


def test_a_hugging_face_blip_writes_and_is_evaluated(hugging_face, here, command):
    data = draw(here / "pictures")
    for more in ((), ("--beams", 2), ("--prompt", "a red")):
        said = command("caption", data / "p00.png", "--model", hugging_face, *more)
        assert said.code == 0, said.error
        assert len(said.lines) == 1 and len(said.lines[0].split()) > 2
    said = command("eval", "--model", hugging_face, "--data", data)
    assert said.code == 0, said.error
    assert (
        "has no weights for " in said.lines[0]
        and "itm_head." in said.lines[0]
        and "what these decide is left out" in said.lines[0]
    )
    assert "lm perplexity" in said.out and not any(
        name in said.out for name in ("R@1", "itm accuracy", "itm_accuracy")
    )


@pytest.mark.parametrize("kind", ["albef", "blip"])
def test_a_data_set_of_other_words_is_refused(kind, here, command):
    # 64 pixels and three channels, as the built-in pictures: only the words differ.
    model, config = {"albef": (ALBEF, ALBEFConfig), "blip": (BLIP, BLIPConfig)}[kind]
    source = load_shapes(0)
    settings = config.tiny(momentum=None)
    image = replace(settings.image, resolution=source.preprocess.resolution)
    words = source.tokenizer.with_frame()
    text = BertConfig.tiny(
        vocabulary=len(words) + 1,
        encoder_width=24,
        fusion_layer=settings.text.fusion_layer,
        token_types=settings.text.token_types,
    )
    ids = {"mask": 1} if kind == "albef" else {"decode": 1, "encode": 1}
    pretrained.save(
        model(config.tiny(momentum=None, image=image, text=text, **ids), np.random.default_rng(0)),
        here / "model",
    )
    type(source.tokenizer)(sorted({*words.vocabulary, "banana"}), words.context).with_frame().save(
        here / "model"
    )
    said = command("eval", "--model", "model", "--data", "shapes")
    assert said.code == 2 and "model speaks other words than shapes do" in said.error


def test_sub_words_that_frame_captions_are_trained_on_as_they_are(released):
    opened = open_model(str(released))
    source = source_for(
        opened, str(draw(released.parent / "pictures")), 0, part_of=blip2_stage1.spec
    )
    assert (
        source.tokenizer.frame[:2] == ("[CLS]", "[DEC]")
        and source.tokenizer.begin == opened.tokenizer.begin
    )
    assert source.tokenizer(["red"])[0].tolist() == opened.tokenizer(["red"])[0].tolist()
