"""ALBEF's own: the cut through its text stack, hidden words and who guesses them, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_released_sizes import weightless  # noqa: F401 (a fixture)
from tiny_towers import batch, masked, model_of, numbers, step, total

import tinymm.models.bert
from tinymm import tasks
from tinymm.arrays.errors import UsageError
from tinymm.losses import masked_language_loss
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.tasks import albef
from tinymm.tasks.albef import mask_tokens
from tinymm.training.optimizers import AdamW

MODEL = model_of("albef")
MASK = MODEL.config.mask


def other_pictures(images):
    return images + np.random.default_rng(1).standard_normal(images.shape)


# ---------------------------------------------------------------------- one half reads, the other looks
def test_the_lower_half_has_no_way_to_the_picture_and_the_upper_has():
    model = model_of("albef", text=replace(MODEL.config.text, layers=4, fusion_layer=3))
    assert [block.cross is not None for block in model.encoders.text_encoder.blocks] == [
        False,
        False,
        False,
        True,
    ]
    images, ids, is_real = batch()
    tokens = model.image_tokens(images)
    whole = model.encoders.text_encoder(ids, is_real, memory=tokens).data[:, 0]
    np.testing.assert_allclose(
        model.fused_itm_logits(tokens, model.text_tokens(ids, is_real), is_real).data,
        model.itm_head(whole).data,
        atol=1e-12,
    )
    alone = model.encoders.text_encoder.encode(
        model.text_tokens(ids, is_real), is_real[:, None, None, :], first=3
    ).data[:, 0]
    assert (
        np.abs(alone - whole).max() > 1e-3
    )  # without the picture the upper half says something else


def test_text_and_picture_meet_in_the_upper_half_alone():
    images, ids, is_real = batch()
    tokens, hidden = MODEL.image_tokens(images), MODEL.text_tokens(ids, is_real)
    np.testing.assert_array_equal(
        MODEL.itm_logits(tokens, ids, is_real).data,
        MODEL.fused_itm_logits(tokens, hidden, is_real).data,
    )
    other = MODEL.image_tokens(other_pictures(images))
    assert (
        np.abs(
            MODEL.fused_itm_logits(other, hidden, is_real).data
            - MODEL.fused_itm_logits(tokens, hidden, is_real).data
        ).min()
        > 1e-6
    )
    for place in range(tokens.shape[1]):  # every token of the picture is looked at
        moved = tokens.data.copy()
        moved[:, place] += np.random.default_rng(place).standard_normal(moved.shape[-1])
        assert (
            np.abs(
                MODEL.fused_itm_logits(moved, hidden, is_real).data
                - MODEL.fused_itm_logits(tokens, hidden, is_real).data
            ).max()
            > 1e-6
        )


def test_the_first_of_the_token_types_is_added_to_every_word():
    images, ids, is_real = batch()
    model = model_of("albef")
    before = model.encode_text(ids, is_real).data
    model.encoders.text_encoder.embedding.types.data[1] += 9.0
    np.testing.assert_array_equal(model.encode_text(ids, is_real).data, before)
    model.encoders.text_encoder.embedding.types.data[0] += np.random.default_rng(0).standard_normal(
        32
    )
    assert np.abs(model.encode_text(ids, is_real).data - before).max() > 1e-6


# ---------------------------------------------------------------------- hidden words
def test_a_gap_is_guessed_from_both_sides_and_from_the_picture():
    images, ids, is_real = batch()
    words, tokens = MODEL.mlm_logits, MODEL.image_tokens(images)
    gap = ids.copy()
    gap[:, 1] = MASK
    before = words(tokens, gap, is_real).data[:, 1]
    for place in (0, 2):
        other = gap.copy()
        other[:, place] = 3 + (gap[:, place] + 1) % 40
        assert np.abs(words(tokens, other, is_real).data[:, 1] - before).max() > 1e-6
    assert (
        np.abs(
            words(MODEL.image_tokens(other_pictures(images)), gap, is_real).data[:, 1] - before
        ).max()
        > 1e-6
    )


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_mlm_is_its_definition_and_the_momentum_encoder_guesses_at_the_same_gaps(alpha):
    model, (images, ids, is_real) = model_of("albef", alpha=alpha), batch()
    inputs, labels = masked("albef", ids)["masked"]
    found = step(model, "albef", images, ids, is_real)["mlm"].item()
    rows, places = np.nonzero(labels >= 0)
    encoders = model.encoders, model.momentum_encoder.model
    log_p, twin = (
        t.mlm_logits(t.image_tokens(images), inputs, is_real).data[rows, places] for t in encoders
    )
    log_p = log_p - np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
    guess = np.exp(twin) / np.exp(twin).sum(axis=-1, keepdims=True)
    surprise, distilled = (
        -log_p[np.arange(len(rows)), labels[rows, places]].mean(),
        -(guess * log_p).sum(axis=-1).mean(),
    )
    assert abs(found - ((1 - alpha) * surprise + alpha * distilled)) < 1e-12
    plain = masked_language_loss(
        model.mlm_logits(model.image_tokens(images), inputs, is_real), labels
    ).item()
    assert (abs(found - plain) < 1e-12) == (alpha == 0)


@given(seed=st.integers(0, 999), share=st.sampled_from([0.01, 0.15, 1.0]))
def test_at_least_one_word_is_hidden_and_never_the_first_or_padding(seed, share):
    _, ids, is_real = batch()
    model = (
        ALBEF(ALBEFConfig.tiny(mlm_probability=share), np.random.default_rng(0))
        if share != 0.15
        else MODEL
    )
    inputs, labels = mask_tokens(model.config, ids, is_real, np.random.default_rng(seed))
    asked = labels >= 0
    assert asked.any() and not asked[:, 0].any() and not asked[~is_real].any()
    np.testing.assert_array_equal(labels[asked], ids[asked])
    np.testing.assert_array_equal(inputs[~asked], ids[~asked])
    if share == 1.0:
        assert (asked == is_real & (np.arange(6) > 0)).all()  # the last, [SEP], too


def test_words_are_hidden_as_often_as_the_config_says_and_as_bert_does():
    model, rng = (
        ALBEF(ALBEFConfig.tiny(mlm_probability=0.3), np.random.default_rng(0)),
        np.random.default_rng(0),
    )
    ids = np.full((400, 12), 7)
    inputs, labels = mask_tokens(model.config, ids, np.ones(ids.shape, bool), rng)
    n = 400 * 11
    hidden = (labels >= 0).sum()
    assert abs(hidden / n - 0.3) < 5 * np.sqrt(0.3 * 0.7 / n)
    fate = {"[MASK]": (inputs == MASK) & (labels >= 0), "the word": (inputs == 7) & (labels >= 0)}
    for name, expected in (("[MASK]", 0.8 + 0.1 / 50), ("the word", 0.1 + 0.1 / 50)):
        assert abs(fate[name].sum() / hidden - expected) < 5 * np.sqrt(
            expected * (1 - expected) / hidden
        ), name


def test_the_words_to_hide_are_the_generator_s_or_those_that_came():
    images, ids, is_real = batch()
    given_, drawn, again = (
        numbers(
            tasks.losses(
                model_of("albef"), images, ids, is_real, rng=np.random.default_rng(0), **hidden
            )
        )
        for hidden in (masked("albef", ids), {}, {})
    )
    assert drawn == again and drawn["mlm"] != given_["mlm"]
    assert drawn["itc"] == given_["itc"] and drawn["itm"] == given_["itm"]


# ---------------------------------------------------------------------- learning
def test_four_pairs_can_be_learned_by_heart():
    model, (images, ids, is_real) = (
        model_of("albef", "float32", momentum=0.9, alpha=0.0).train(),
        batch(dtype="float32"),
    )
    optimizer = AdamW(model, weight_decay=0.0)
    for n in range(150):
        result = albef.step(
            model, images, ids, is_real, rng=np.random.default_rng(n), image_ids=np.arange(4)
        )
        losses = result.losses
        total(losses).backward()
        optimizer.step(3e-3 * (1 - n / 150), 1.0)
        albef.after_step(model, result.memory)
    # The queue holds each of the four pairs six times: seven right answers, equally likely, are as certain as it gets.
    assert 0 < losses["itc"].item() - np.log(7) < 0.05 and losses["itm"].item() < 0.05, numbers(
        losses
    )
    model.eval()
    assert model(images, ids, is_real).data.argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert model.itm_probability(images, ids, is_real).min() > 0.9
    assert model.itm_probability(images[[1, 2, 3, 0]], ids, is_real).max() < 0.1
    gaps = [(row, place) for row in range(4) for place in range(1, is_real[row].sum())]
    asked = np.stack(
        [
            np.where((np.arange(6) == place) & (np.arange(4) == row)[:, None], MASK, ids)[row]
            for row, place in gaps
        ]
    )
    rows, places = np.array(gaps).T
    filled = (
        model.mlm_logits(model.image_tokens(images[rows]), asked, is_real[rows])
        .data[np.arange(len(gaps)), places]
        .argmax(axis=-1)
    )
    assert filled.tolist() == ids[rows, places].tolist()


# ---------------------------------------------------------------------- sizes, and what is refused
def test_the_paper_s_sizes(weightless, monkeypatch):  # noqa: F811
    monkeypatch.setattr(
        tinymm.models.bert, "normal", lambda rng, shape, *_: np.broadcast_to(np.float32(0), shape)
    )
    model = ALBEF(ALBEFConfig.paper(momentum=None), np.random.default_rng(0))
    # The paper counts 123.7 million for the text, the head that names words included, and 85.8 million for the picture (§3.5).
    text = model.encoders.text_encoder.count() + model.encoders.language_head.count()
    assert round(text / 1e6, 1) == 123.7 and round(model.image_encoder.count() / 1e6, 1) == 85.8
    config = model.config
    assert (config.queue, config.alpha, config.mlm_probability, config.mask, config.embed_dim) == (
        65536,
        0.4,
        0.15,
        103,
        256,
    )


def test_without_words_there_is_nothing_to_hide():
    images, ids, is_real = batch()
    with pytest.raises(
        UsageError,
        match="MLM masks tokens, and the 24 tokens .* are padding or first ones; give texts with words in them",
    ):
        mask_tokens(MODEL.config, ids, is_real & (np.arange(6) == 0), np.random.default_rng(0))
    model = model_of("albef")
    with pytest.raises(
        UsageError,
        match="MLM draws the tokens that it masks, and neither rng nor masked came; pass rng=np.random.default_rng",
    ):
        tasks.losses(model, images, ids, is_real, negatives=(np.array([1, 0, 3, 2]),) * 2)
    assert model.queue.pointer == 0


@pytest.mark.parametrize(
    "change, said",
    [
        (
            {"mlm_probability": 0.0},
            r"mlm_probability is the probability that a token is masked for MLM, in \(0, 1\], and 0.0 came; the paper has 0.15",
        ),
        (
            {"mlm_probability": 1.1},
            r"mlm_probability is the probability that a token is masked for MLM, in \(0, 1\], and 1.1 came",
        ),
        ({"mask": 50}, "mask is an id below the vocabulary 50, and 50 came; correct it"),
        ({"mask": -1}, "mask is an id below the vocabulary 50, and -1 came; correct it"),
    ],
)
def test_configs_that_do_not_fit_are_named(change, said):
    with pytest.raises(UsageError, match=said):
        ALBEFConfig.tiny(**change)


@pytest.mark.parametrize("first", [0, 2, 3])
def test_fusion_begins_inside_of_the_stack(first):
    text = replace(MODEL.config.text, fusion_layer=first)
    with pytest.raises(
        UsageError,
        match=f"fusion begins inside of the text's 2 layers, .* and fusion_layer {first} came; the paper has 6 of 12",
    ):
        ALBEFConfig.tiny(text=text)
