"""ALBEF's and BLIP's files as they are released, what each of them lacks, and our own, opened bit by bit."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import randomized

from tinymm import pretrained, tasks
from tinymm.arrays.errors import CheckpointError, UsageError
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.blip import BLIP, BLIPConfig
from tinymm.models.vit import ViTConfig
from tinymm.pretrained.files.safetensors import read_safetensors, write_safetensors

REFERENCE = Path(__file__).parents[1] / "reference"
HEADS = {"image": 5, "text": 4}
IDS = np.array([[1, 7, 9, 3], [1, 8, 3, 0]])


def pretraining(name):
    """Return the arrays of the original code's file, which we did not write."""
    return read_safetensors(REFERENCE / f"{name}.safetensors")


def albef_retrieval():
    """As the released file of ALBEF's retrieval: without "bert.", without the language heads, with the pictures of the queue."""
    arrays = {
        key.replace(".bert.", "."): array
        for key, array in pretraining("albef").items()
        if ".cls." not in key
    }
    return arrays | {"idx_queue": np.arange(16)[None]}


def blip_retrieval():
    """As the released file of BLIP's retrieval: without the decoder, its pointer by another name."""
    arrays = {
        key: array
        for key, array in pretraining("blip").items()
        if not key.startswith("text_decoder.")
    }
    arrays["ptr_queue"] = arrays.pop("queue_ptr")
    return arrays | {"idx_queue": np.arange(16)[None]}


def blip_captioning():
    """As the released file of BLIP's captioning: the image encoder and the decoder."""
    return {
        key: array
        for key, array in pretraining("blip").items()
        if key.startswith(("visual_encoder.", "text_decoder."))
    }


#: Each kind of file, and what begins anew in a model that it is loaded into, as patterns of our
#: names.
FILES = {
    "ALBEF pretraining": (lambda: pretraining("albef"), ["queue.ids", "queue.pushed"]),
    "ALBEF retrieval": (albef_retrieval, ["queue.pushed", r"encoders\.language_head\..*", r"momentum_encoder\.model\.language_head\..*"]),
    "BLIP pretraining": (lambda: pretraining("blip"), ["queue.ids", "queue.pushed"]),
    "BLIP retrieval": (blip_retrieval, ["queue.pushed", r"decoder\..*"]),
    "BLIP captioning": (
        blip_captioning,
        [r"itm_head\..*", "temperature", r"encoders\..*_projection\..*", r"encoders\.text_encoder\.blocks\.\d\.(attention|norm_1)\..*"],
    ),
}  # fmt: skip


def write(path, arrays, form):
    """Write a file as the released code does, or as safetensors."""
    if form == "safetensors":
        write_safetensors(path, arrays)
        return
    torch = pytest.importorskip("torch")
    state = {key: torch.tensor(array) for key, array in arrays.items()}
    step = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))], lr=1e-4)
    step.param_groups[0]["params"][0].grad = torch.ones(3)
    step.step()
    config = {
        "image_res": 32,
        "optimizer": {"opt": "adamW", "lr": 1e-4},
        "train_file": ["a.json", "b.json"],
        "warm_up": True,
    }
    torch.save(
        {
            "model": state,
            "optimizer": step.state_dict(),
            "lr_scheduler": {"base_values": [1e-4]},
            "config": config,
            "epoch": 29,
        },
        path,
    )


@pytest.mark.parametrize("form", ["safetensors", pytest.param("pth", marks=pytest.mark.parity)])
@pytest.mark.parametrize("name", FILES)
def test_released_files_hold_what_they_hold_and_the_rest_is_named(name, form, tmp_path):
    arrays, lacks = FILES[name][0](), FILES[name][1]
    write(tmp_path / f"w.{form}", arrays, form)
    model, report = pretrained.load_with_report(tmp_path / f"w.{form}", heads=HEADS)
    assert isinstance(model, ALBEF if name.startswith("ALBEF") else BLIP) and not model.training
    assert (model.momentum_encoder is None) == (model.queue is None) == (name == "BLIP captioning")
    assert all(
        any(re.fullmatch(kind, array) for kind in lacks) for array in report.newly_initialized
    ), report.newly_initialized
    assert all(
        any(re.fullmatch(kind, array) for array in report.newly_initialized) for kind in lacks
    ), report.newly_initialized
    whole = pretrained.load(
        REFERENCE / f"{name.split()[0].lower()}.safetensors", heads=HEADS
    ).state_dict()
    for ours, array in model.state_dict().items():
        if ours == "queue.ids" and "retrieval" in name:
            np.testing.assert_array_equal(array, np.arange(16))
        elif ours not in report.newly_initialized:
            np.testing.assert_array_equal(array, whole[ours], err_msg=ours)
    assert {array for key in report.keys.values() for array in key} | set(report.ignored) == set(
        arrays
    )


def test_what_a_retrieval_file_holds_scores_as_the_whole_does(tmp_path):
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    for name, arrays in (("albef", albef_retrieval()), ("blip", blip_retrieval())):
        write_safetensors(tmp_path / "w.safetensors", arrays)
        part, whole = (
            pretrained.load(path, heads=HEADS)
            for path in (tmp_path / "w.safetensors", REFERENCE / f"{name}.safetensors")
        )
        np.testing.assert_array_equal(
            part(images, IDS, IDS > 0).data, whole(images, IDS, IDS > 0).data
        )
        np.testing.assert_array_equal(
            part.itm_probability(images, IDS, IDS > 0), whole.itm_probability(images, IDS, IDS > 0)
        )


def test_what_a_captioning_file_holds_writes_as_the_whole_does(tmp_path):
    images = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
    write_safetensors(tmp_path / "w.safetensors", blip_captioning())
    part, whole = (
        pretrained.load(path, heads=HEADS)
        for path in (tmp_path / "w.safetensors", REFERENCE / "blip.safetensors")
    )
    assert part.config.decode == 64 and part.generate(images, max_new_tokens=5) == whole.generate(
        images, max_new_tokens=5
    )


# ---------------------------------------------------------------------- what stands in a file twice
def test_the_decoder_s_copies_are_compared_and_may_be_missing(tmp_path):
    arrays = pretraining("blip")
    copies = [
        key
        for key in arrays
        if re.match(
            r"text_decoder\.bert\.(embeddings\.(w|p.*weight|L)|.*(crossattention|intermediate|\d\.output))",
            key,
        )
    ]
    assert len(copies) == 4 + 2 * 16
    for key in (copies[0], copies[-1]):
        changed = arrays[key].copy()
        changed.flat[-1] += 1
        write_safetensors(tmp_path / "w.safetensors", arrays | {key: changed})
        own = key.replace("text_decoder.bert.", "text_encoder.")
        with pytest.raises(
            CheckpointError,
            match=rf"{re.escape(key)} and {re.escape(own)} are one array here, and their numbers differ",
        ):
            pretrained.load(tmp_path / "w.safetensors", heads=HEADS)
    write_safetensors(
        tmp_path / "w.safetensors",
        {key: array for key, array in arrays.items() if key not in copies},
    )
    without, whole = (
        pretrained.load(path, heads=HEADS)
        for path in (tmp_path / "w.safetensors", REFERENCE / "blip.safetensors")
    )
    for name, array in whole.state_dict().items():
        np.testing.assert_array_equal(without.state_dict()[name], array)
    exported = pretrained.export(whole, "blip")
    assert set(copies) <= exported.keys() and arrays.keys() - exported.keys() == {
        key for key in arrays if key.endswith(".position_ids") or ".predictions.decoder." in key
    }
    for key, array in exported.items():
        np.testing.assert_array_equal(array, arrays[key], err_msg=key)


# ---------------------------------------------------------------------- our own
def stepped(model, config, dtype="float32", **changes):
    """Return a model that has gone a few steps, so that momentum encoder, queue and pointer are somewhere."""
    model = randomized(
        model(config.tiny(alpha_warmup=40, alpha=0.3, **changes), np.random.default_rng(0))
    ).astype(dtype)
    rng, task = np.random.default_rng(1), tasks.spec_of(model).task
    for _ in range(3):
        images, ids = rng.standard_normal((4, 16, 16, 3)).astype(dtype), rng.integers(3, 48, (4, 5))
        made = task.step(
            model, images, ids, rng=rng, image_ids=rng.integers(0, 9, 4) + np.arange(4) * 9
        )
        task.after_step(model, made.memory)
    return model


CASES = [
    (model, config, form)
    for model, config, name in ((ALBEF, ALBEFConfig, "albef"), (BLIP, BLIPConfig, "blip"))
    for form in ("tinymm", name)
]


@pytest.mark.parametrize("momentum", [0.9, None])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model, config, form", CASES)
def test_what_is_saved_is_opened_bitwise(model, config, form, dtype, momentum, tmp_path):
    before = stepped(model, config, dtype, momentum=momentum)
    pretrained.save(before, tmp_path, format=form)
    after, report = pretrained.load_with_report(tmp_path, dtype=dtype)
    assert type(after) is model and after.config == before.config
    lost = ["queue.ids", "queue.pushed"] if form != "tinymm" and momentum is not None else []
    assert report.newly_initialized == lost
    state = after.state_dict()
    assert state.keys() == before.state_dict().keys()
    for name, array in before.state_dict().items():
        if name not in lost:
            assert state[name].dtype == array.dtype and state[name].tobytes() == array.tobytes(), (
                name
            )
    if momentum is not None:
        assert after.queue.pointer == 12 and after.momentum_encoder.momentum == 0.9
        assert (after.queue.image_ids >= 0).sum() == (0 if lost else 12)
    assert pretrained.store.checkpoints.best_format(before) == "tinymm"


def test_one_that_keeps_cls_where_it_compares_is_opened_so(tmp_path):
    for form in ("tinymm", "blip"):
        pretrained.save(
            BLIP(BLIPConfig.tiny(encode=None, end_of_text=7, decode=5), np.random.default_rng(0)),
            tmp_path,
            format=form,
        )
        config = pretrained.load(tmp_path).config
        assert (config.encode, config.end_of_text, config.decode) == (None, 7, 5)


def test_what_a_format_has_no_place_for_is_named(tmp_path):
    albef, blip = (
        ALBEF(ALBEFConfig.tiny(), np.random.default_rng(0)),
        BLIP(BLIPConfig.tiny(), np.random.default_rng(0)),
    )
    with pytest.raises(UsageError, match="format 'huggingface' has no ALBEF; use albef, tinymm"):
        pretrained.save(albef, tmp_path, format="huggingface")
    with pytest.raises(
        UsageError,
        match="format 'albef' has no BLIP; use blip, huggingface, huggingface_retrieval, tinymm",
    ):
        pretrained.save(blip, tmp_path, format="albef")
    as_clip = ViTConfig(16, 8, 24, 1, 2)
    for model, config, form in (
        (ALBEF, ALBEFConfig, "albef"),
        (BLIP, BLIPConfig, "blip"),
        (BLIP, BLIPConfig, "huggingface"),
    ):
        with pytest.raises(
            UsageError,
            match=f"format '{form}' knows the original ViT only, and this one is built as CLIP's; use \"tinymm\"",
        ):
            pretrained.save(
                model(config.tiny(image=as_clip), np.random.default_rng(0)), tmp_path, format=form
            )
    pretrained.save(BLIP(BLIPConfig.tiny(image=as_clip), np.random.default_rng(0)), tmp_path)
    assert pretrained.load(tmp_path).config.image == as_clip


def test_hugging_face_s_norms_have_another_eps_where_its_config_says_nothing(tmp_path):
    config = replace(BLIPConfig.tiny(), image=replace(BLIPConfig.tiny().image, eps=0.5))
    pretrained.save(BLIP(config, np.random.default_rng(0)), tmp_path, format="huggingface")
    written = json.loads((tmp_path / "config.json").read_text())
    assert (
        written["vision_config"].pop("layer_norm_eps") == 0.5
        and pretrained.load(tmp_path).config.image.eps == 0.5
    )
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert pretrained.load(tmp_path).config.image.eps == 1e-5
    write_safetensors(
        tmp_path / "released.safetensors",
        pretrained.export(BLIP(config, np.random.default_rng(0)), "blip"),
    )
    assert pretrained.load(REFERENCE / "blip.safetensors", heads=HEADS).config.image.eps == 1e-6
