"""A part of which a file has nothing raises when it is used, and only then; it may be begun anew, to be trained, and is named."""

import copy
import json

import numpy as np
import pytest
from test_towers_files import albef_retrieval, blip_captioning, blip_retrieval
from tiny import randomized

from tinymm import pretrained, tasks
from tinymm.arrays.errors import CheckpointError, UsageError
from tinymm.layers import MissingParameter
from tinymm.models.blip import BLIP, BLIPConfig
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.qformer import QFormerConfig
from tinymm.models.vit import ViTConfig
from tinymm.pretrained.files.safetensors import write_safetensors
from tinymm.pretrained.models.blip2 import HF_QFORMER
from tinymm.training.optimizers import AdamW

HEADS = {"image": 5, "text": 4}
RNG = np.random.default_rng(0)
IDS = np.array([[1, 7, 9, 3], [1, 8, 3, 0]])
REAL = IDS > 0


def pictures(model):
    side = model.config.image.resolution
    return np.random.default_rng(1).standard_normal((2, side, side, 3)).astype(np.float32)


def from_file(arrays):
    def open_(folder):
        write_safetensors(folder / "model.safetensors", arrays())
        return pretrained.load_with_report(folder / "model.safetensors", heads=HEADS)

    return open_


def from_format(model, form):
    def open_(folder):
        pretrained.save(randomized(model()), folder, format=form)
        return pretrained.load_with_report(folder)

    return open_


def blip():
    return BLIP(BLIPConfig.tiny(momentum=None), np.random.default_rng(0))


def stage_1():
    image = ViTConfig.plain(resolution=16, patch=8, width=24, layers=1, heads=2, norm_after=False)
    return BLIP2Stage1(
        BLIP2Config(image, QFormerConfig.tiny(), embed_dim=16, end_of_text=2),
        np.random.default_rng(0),
    )


USES = {
    "cosines": lambda model: model(pictures(model), IDS, REAL),
    "matching": lambda model: model.itm_probability(pictures(model), IDS, REAL),
    "captions": lambda model: model.generate(pictures(model), max_new_tokens=3),
    "hidden words": lambda model: model.mlm_logits(model.image_tokens(pictures(model)), IDS, REAL),
    "itc and itm": lambda model: tasks.losses(
        model, pictures(model), IDS, REAL, rng=np.random.default_rng(0), objectives=("itc", "itm")
    ),
    "all losses": lambda model: tasks.losses(
        model, pictures(model), IDS, REAL, rng=np.random.default_rng(0)
    ),
}
#: How it is opened, what it can still do, and for each thing that it cannot, the part that the
#: sentence names.
MODELS = {
    "ALBEF retrieval": (
        from_file(albef_retrieval), {"cosines", "matching", "itc and itm"}, {"hidden words": "language_head", "all losses": "language_head"},
    ),
    "BLIP retrieval": (from_file(blip_retrieval), {"cosines", "matching", "itc and itm"}, {"captions": "decoder.", "all losses": "decoder."}),
    "BLIP captioning": (
        from_file(blip_captioning), {"captions"},
        {"cosines": "image_projection", "matching": "text_encoder.blocks.0", "itc and itm": "blocks.0.attention", "all losses": "blocks.0"},
    ),
    "BLIP retrieval of Hugging Face": (
        from_format(blip, "huggingface_retrieval"), {"cosines", "matching"},
        {"captions": "decoder.", "itc and itm": "temperature", "all losses": "temperature"},
    ),
    "BLIP captioning of Hugging Face": (
        from_format(blip, "huggingface"), {"captions"},
        {"cosines": "image_projection", "matching": "text_encoder.blocks.0", "all losses": "blocks.0"},
    ),
    "BLIP-2 retrieval of Hugging Face": (
        from_format(stage_1, "huggingface"), {"cosines", "matching"},
        {"captions": "language_head", "itc and itm": "temperature", "all losses": "temperature"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_what_is_missing_raises_when_it_is_used_and_names_the_way_out(name, tmp_path):
    open_, can, cannot = MODELS[name]
    model, report = open_(tmp_path)
    assert model.missing() and set(model.missing()) <= set(report.newly_initialized)
    assert all(
        what.startswith("queue.") for what in set(report.newly_initialized) - set(model.missing())
    )  # counters, which are counted from here on
    for use, part in cannot.items():
        with pytest.raises(CheckpointError) as caught:
            USES[use](model)
        said = str(caught.value)
        assert said.startswith("model.safetensors has no weights for ") and part in said, said
        assert (
            "open a file that has them" in said
            and "model.initialize_missing()" in said
            and "\n" not in said
        )
    for use in can:
        USES[use](model)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_begun_anew_is_named_and_then_does_all(name, tmp_path):
    model, _ = MODELS[name][0](tmp_path)
    missing = model.missing()
    assert not set(missing) & set(model.trainable()) and not set(missing) & set(model.state_dict())
    assert (
        model.initialize_missing() == missing
        and model.missing() == [] == model.initialize_missing()
    )
    assert {n for n in missing if "momentum_encoder" not in n} <= set(model.trainable()) and set(
        missing
    ) <= set(model.state_dict())
    for use in (*MODELS[name][1], *MODELS[name][2]):
        USES[use](model)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_there_can_be_trained_and_the_rest_stays_missing(name, tmp_path):
    model, _ = MODELS[name][0](tmp_path)
    before, missing = model.state_dict(), model.missing()
    optimizer = AdamW(model)
    if "captioning" in name:
        loss = tasks.losses(model, pictures(model), IDS, REAL, objectives=("lm",))["lm"]
    else:
        loss = np.sum(model(pictures(model), IDS, REAL))
    loss.backward()
    optimizer.step(1e-3)
    assert model.missing() == missing and any(
        (before[n] != array).any() for n, array in model.state_dict().items()
    )


@pytest.mark.parametrize("name", MODELS)
def test_it_is_saved_copied_and_moved_without_what_is_missing(name, tmp_path):
    model, _ = MODELS[name][0](tmp_path)
    pretrained.save(model, tmp_path / "own", format="tinymm")
    again = pretrained.load(tmp_path / "own")
    for other in (again, copy.deepcopy(model), model.to("numpy")):
        assert other.missing() == model.missing()
        for key, array in model.state_dict().items():
            np.testing.assert_array_equal(other.state_dict()[key], array)
    double = copy.deepcopy(model).astype("float64")
    assert double.initialize_missing() == model.missing() and {
        array.dtype.str for array in double.state_dict().values()
    } <= {"<f8", "<i8"}
    with_all = copy.deepcopy(model)
    with_all.initialize_missing()
    model.load_state_dict(with_all.state_dict())  # numbers for all: nothing is missing any longer
    assert model.missing() == []
    with pytest.raises(CheckpointError, match=f"missing \\['{min(again.missing())}'"):
        with_all.load_state_dict(again.state_dict())


def test_a_format_with_a_place_for_what_is_missing_is_refused(tmp_path):
    model, _ = MODELS["BLIP retrieval"][0](tmp_path)
    with pytest.raises(
        UsageError,
        match=r'format "huggingface" needs decoder\..* and \d+ more, of which .* write it as "tinymm", or call',
    ):
        pretrained.save(model, tmp_path / "there", format="huggingface")
    assert not (tmp_path / "there").exists()
    pretrained.save(model, tmp_path / "there", format="huggingface_retrieval")
    assert set(pretrained.load(tmp_path / "there").missing()) >= {
        name for name in model.missing() if name.startswith("decoder.")
    }


def test_a_list_of_missing_names_in_a_config_is_a_list_of_names(tmp_path):
    model, _ = MODELS["BLIP retrieval"][0](tmp_path)
    pretrained.save(model, tmp_path / "own", format="tinymm")
    text = (tmp_path / "own" / "config.json").read_text()
    (tmp_path / "own" / "config.json").write_text(text.replace('"missing": [', '"missing": [3, '))
    with pytest.raises(CheckpointError, match="missing is a list of names"):
        pretrained.load(tmp_path / "own")


def test_a_q_former_alone_takes_queries_and_has_none(tmp_path):
    first = randomized(stage_1())
    arrays, _ = HF_QFORMER.export(
        {
            name.removeprefix("qformer."): a
            for name, a in first.state_dict().items()
            if name.startswith("qformer.")
        }
    )
    write_safetensors(
        tmp_path / "model.safetensors",
        {key: np.ascontiguousarray(array) for key, array in arrays.items()},
    )
    config = {
        "model_type": "blip_2_qformer",
        "num_attention_heads": 4,
        "encoder_hidden_size": 24,
        "vocab_size": 50,
        "max_position_embeddings": 12,
    }
    (tmp_path / "config.json").write_text(json.dumps(config | {"use_qformer_text_input": True}))
    alone = pretrained.load(tmp_path)
    memory, queries = RNG.standard_normal((2, 5, 24)).astype(np.float32), first.qformer.queries.data
    assert alone.missing() == ["queries", "embedding.words.weight", "embedding.positions"]
    with pytest.raises(CheckpointError, match="no weights for queries"):
        alone(memory)
    with pytest.raises(CheckpointError, match=r"no weights for embedding\."):
        alone(ids=IDS)
    right = first.qformer(memory).data
    np.testing.assert_array_equal(alone(memory, queries=queries).data, right)
    np.testing.assert_array_equal(alone(memory, queries=np.stack([queries] * 2)).data, right)
    with pytest.raises(
        ValueError, match=r"queries are \(Q, 32\), or one set for each of 2 pictures"
    ):
        alone(memory, queries=queries[:, :5])
    alone.queries.data = queries
    assert not isinstance(alone.queries, MissingParameter) and "queries" not in alone.missing()
    np.testing.assert_array_equal(alone(memory).data, right)
