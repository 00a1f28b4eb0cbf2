"""Configs that leave keys out: the default of the class, in the version that wrote them; what a config says counts, or is named or refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny import randomized

from tinymm import pretrained
from tinymm.arrays.errors import CheckpointError
from tinymm.models.bert import BertConfig, BertLanguageModel
from tinymm.models.blip import BLIP, BLIPConfig
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.models.opt import OPT, OPTConfig
from tinymm.models.qformer import QFormerConfig
from tinymm.models.vit import ViTConfig
from tinymm.pretrained.models.config_classes import CLASSES, COMMON, read_config
from tinymm.pretrained.models.config_from_arrays import merge_config


def rewrite(folder, change):
    settings = json.loads((folder / "config.json").read_text())
    change(settings)
    (folder / "config.json").write_text(json.dumps(settings))


def without(*names, **changes):
    """Take keys out of all parts of a config, and change some of the whole."""

    def change(settings):
        for part in (settings, *(value for value in settings.values() if isinstance(value, dict))):
            for name in names:
                part.pop(name, None)
        settings.update(changes)

    return change


def blip(text_heads, image_heads):
    image = ViTConfig.plain(resolution=16, patch=8, width=48, layers=1, heads=image_heads)
    text = BertConfig.tiny(width=48, heads=text_heads, encoder_width=48)
    return randomized(
        BLIP(
            replace(BLIPConfig.tiny(), image=image, text=text, momentum=None),
            np.random.default_rng(0),
        )
    )


def test_blip_s_heads_are_8_and_12_where_the_config_does_not_say_them(tmp_path):
    pretrained.save(blip(8, 12), tmp_path, format="huggingface_retrieval")
    rewrite(tmp_path, without("num_attention_heads"))
    config = pretrained.load(tmp_path).config
    assert (config.text.heads, config.image.heads) == (8, 12)
    config = pretrained.load(tmp_path, heads={"text": 6}).config  # what a reader says, counts
    assert (config.text.heads, config.image.heads) == (6, 12)


@pytest.mark.parametrize(
    ("version", "smoothing"),
    [
        (None, 0.0),
        ("4.26.0.dev0", 0.1),
        ("4.37.2", 0.1),
        ("4.38.0", 0.0),
        ("4.45.2", 0.0),
        ("5.23.0", 0.0),
    ],
)
def test_label_smoothing_is_that_of_the_version_that_wrote_the_file(version, smoothing, tmp_path):
    pretrained.save(blip(8, 12), tmp_path, format="huggingface")
    rewrite(
        tmp_path, lambda settings: settings["text_config"].pop("label_smoothing")
    )  # the whole's own is not the decoder's
    rewrite(tmp_path, without(**{} if version is None else {"transformers_version": version}))
    assert pretrained.load(tmp_path).config.smoothing == smoothing


@pytest.mark.parametrize(
    ("version", "eps"),
    [(None, 1e-6), ("4.27.4", 1e-5), ("4.33.3", 1e-5), ("4.34.1", 1e-6), ("5.0.0", 1e-6)],
)
def test_blip_2_s_heads_and_eps_are_its_classes(version, eps, tmp_path):
    image = ViTConfig.plain(resolution=16, patch=8, width=48, layers=1, heads=16, norm_after=False)
    qformer = QFormerConfig.tiny(width=48, heads=12, encoder_width=48, vocabulary=None)
    config = BLIP2Stage2Config(image, qformer, OPTConfig.tiny(width=48, heads=12))
    pretrained.save(
        randomized(BLIP2Stage2(config, np.random.default_rng(0))), tmp_path, format="huggingface"
    )
    rewrite(
        tmp_path,
        without("num_attention_heads", "layer_norm_eps", "hidden_act", "activation_function"),
    )
    rewrite(tmp_path, without(**{} if version is None else {"transformers_version": version}))
    found = pretrained.load(tmp_path).config
    assert (found.image.heads, found.qformer.heads, found.language.heads) == (16, 12, 12)
    assert (found.image.eps, found.norm_eps, found.qformer.eps) == (eps, eps, 1e-12)


def test_settings_that_are_not_said_are_defaults_and_said_ones_count(tmp_path):
    model = randomized(
        BertLanguageModel(
            BertConfig.tiny(width=48, heads=12, token_types=2), np.random.default_rng(0)
        )
    )
    pretrained.save(model, tmp_path)
    ids = np.array([[1, 5, 2]])
    rewrite(
        tmp_path,
        lambda settings: [settings.pop(key) for key in list(settings) if key != "model_type"],
    )
    again = pretrained.load(tmp_path)
    assert again.config == model.config
    np.testing.assert_array_equal(again(ids).data, model(ids).data)
    counts = (
        ("num_attention_heads", 6, True),
        ("hidden_act", "relu", True),
        ("is_decoder", True, True),
        ("use_cache", False, False),
    )
    for key, value, differs in counts:
        rewrite(tmp_path, lambda settings, key=key, value=value: settings.update({key: value}))
        assert np.array_equal(pretrained.load(tmp_path)(ids).data, again(ids).data) != differs, key
        rewrite(tmp_path, lambda settings, key=key: settings.pop(key))


def test_every_key_of_the_tables_is_used_fixed_or_says_why_not():
    for table in (COMMON, *CLASSES.values()):
        for name, key in table.items():
            assert key.ours or key.why, name
            assert key.only is None or key.default in key.only, name


@pytest.mark.parametrize("kind", CLASSES)
def test_a_fixed_key_is_refused_otherwise_and_the_sentence_names_it(kind):
    for name, key in (COMMON | CLASSES[kind]).items():
        if key.only is not None:
            assert read_config({name: key.only[0]}, kind, []) == read_config({}, kind, [])
            with pytest.raises(
                CheckpointError,
                match=f"config.json: part.{name} is .*, and 'other' came; load another model",
            ):
                read_config({name: "other"}, kind, [], where="part.")


def test_heads_of_a_bare_file_are_those_of_a_released_width_or_asked_for():
    assert [merge_config("x", {"width": width}, {})["heads"] for width in (768, 1024, 1408)] == [
        12,
        16,
        16,
    ]
    with pytest.raises(
        CheckpointError,
        match="files do not tell how many heads x has, and 32 is no width of a released one; pass heads=",
    ):
        merge_config("x", {"width": 32}, {})
    assert merge_config("x", {"width": 32}, {}, heads=4)["heads"] == 4


def test_an_opt_without_a_config_is_a_released_one(tmp_path):
    pretrained.save(OPT(OPTConfig.tiny(width=48, heads=12), np.random.default_rng(0)), tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match="48 is no width of a released one; pass heads="):
        pretrained.load(tmp_path)
    assert pretrained.load(tmp_path, heads={"language": 12}).config.heads == 12
