"""LAVIS files as they are released: what was trained in one file, the frozen parts in others, and a sentence where one is missing."""

from pathlib import Path

import numpy as np
import pytest

from tinymm import pretrained
from tinymm.arrays.errors import CheckpointError, UsageError
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.models.opt import OPT, OPTConfig
from tinymm.pretrained.files.safetensors import read_safetensors, write_safetensors
from tinymm.pretrained.models.blip2 import LAVIS_STAGE_2
from tinymm.tasks import losses

REFERENCE = Path(__file__).parents[1] / "reference"
HEADS = {"image": 5, "qformer": 4}


@pytest.fixture
def parts(tmp_path):
    """Write the reference file in two, as LAVIS does: the trained arrays, and the encoder under EVA's own names with what BLIP-2 drops."""
    arrays = read_safetensors(REFERENCE / "lavis_stage1.safetensors")
    frozen = {
        key.removeprefix("visual_encoder."): array
        for key, array in arrays.items()
        if key.startswith("visual_encoder.")
    }
    extra = {
        "norm.weight": np.ones(40, np.float32),
        "head.weight": np.ones((2, 40), np.float32),
        "blocks.39.norm1.weight": np.ones(40, np.float32),
    }
    write_safetensors(
        tmp_path / "trained.safetensors",
        {k: a for k, a in arrays.items() if not k.startswith("visual_encoder.")},
    )
    write_safetensors(tmp_path / "eva.safetensors", frozen | extra)
    return tmp_path


def test_a_whole_file_without_a_config_is_measured():
    model, report = pretrained.load_with_report(
        REFERENCE / "lavis_stage1.safetensors", dtype="float64", heads=HEADS
    )
    assert isinstance(model, BLIP2Stage1) and not report.newly_initialized
    with np.load(REFERENCE / "lavis_stage1.npz") as right:
        images, ids, is_real = (
            right["pixel_values"].transpose(0, 2, 3, 1),
            right["input_ids"],
            right["attention_mask"].astype(bool),
        )
        terms = losses(
            model,
            images,
            ids,
            is_real,
            negatives=(right["neg_image_for_text"], right["neg_text_for_image"]),
        )
        for name, theirs in {"itc": "loss_itc", "itm": "loss_itm", "itg": "loss_lm"}.items():
            assert abs(terms[name].item() - right[theirs]) < 1e-9, name


def test_the_frozen_part_comes_from_its_own_file(parts):
    with pytest.raises(
        CheckpointError,
        match=r"arrays came without the frozen image encoder .* name these files too: frozen=\[…\]",
    ):
        pretrained.load(parts / "trained.safetensors", heads=HEADS)
    model = pretrained.load(
        parts / "trained.safetensors", heads=HEADS, frozen=parts / "eva.safetensors"
    )
    whole = pretrained.load(REFERENCE / "lavis_stage1.safetensors", heads=HEADS)
    for name, array in whole.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], array)
    with pytest.raises(CheckpointError, match="a frozen part is EVA's ViT .* or an OPT"):
        pretrained.load(
            parts / "trained.safetensors", heads=HEADS, frozen=[parts / "trained.safetensors"]
        )


def test_stage_2_with_both_frozen_parts(tmp_path):
    from test_blip2_reference import CONFIG, IMAGE

    model = BLIP2Stage2(
        BLIP2Stage2Config(IMAGE, CONFIG.qformer, OPTConfig.tiny()), np.random.default_rng(0)
    )
    state = model.state_dict()
    for i in range(2):
        state[f"image_encoder.blocks.{i}.attention.qkv.bias"][40:80] = 0  # EVA has no key bias
    model.load_state_dict(state)
    arrays, missing_keys = LAVIS_STAGE_2.export(model.state_dict())
    assert not missing_keys
    frozen = ("visual_encoder.", "opt_model.")
    write_safetensors(
        tmp_path / "trained.safetensors",
        {k: np.ascontiguousarray(a) for k, a in arrays.items() if not k.startswith(frozen)},
    )
    eva = {
        k.removeprefix("visual_encoder."): np.ascontiguousarray(a)
        for k, a in arrays.items()
        if k.startswith("visual_encoder.")
    }
    write_safetensors(tmp_path / "eva.safetensors", eva)
    pretrained.save(model.language_model, tmp_path / "opt")
    with pytest.raises(
        CheckpointError, match="without the frozen image encoder .* and the frozen language model"
    ):
        pretrained.load(tmp_path / "trained.safetensors")
    again = pretrained.load(
        tmp_path / "trained.safetensors",
        heads=HEADS,
        frozen=[tmp_path / "eva.safetensors", tmp_path / "opt"],
    )
    assert isinstance(again.language_model, OPT) and again.language_model.config.heads == 4
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)


def test_our_own_runs_are_opened_bitwise(tmp_path):
    for model in (
        BLIP2Stage1(BLIP2Config.tiny(), np.random.default_rng(0)),
        BLIP2Stage2(BLIP2Stage2Config.tiny(), np.random.default_rng(0)),
    ):
        pretrained.save(model, tmp_path)
        again = pretrained.load(tmp_path)
        assert type(again) is type(model) and again.config == model.config
        for name, array in model.state_dict().items():
            assert again.state_dict()[name].tobytes() == array.tobytes()
        with pytest.raises(UsageError, match="norms of CLIP's"):
            pretrained.save(model, tmp_path / "other", format="huggingface")
