"""BLIP's own: which weights the three uses share, what each of them learns, and what is refused.

How it writes: `test_blip_captions.py`.
"""

import math

import numpy as np
import pytest
from tiny_towers import batch, model_of, numbers, step, total

from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.losses import language_loss
from tinymm.models.bert import BertConfig
from tinymm.models.blip import BLIPConfig
from tinymm.tasks import blip
from tinymm.training.optimizers import AdamW

MODEL = model_of("blip")
DEC, ENC = MODEL.config.decode, MODEL.config.encode


# ---------------------------------------------------------------------- one stack, three uses
#: Kinds of weights, by how their names begin, and what they move: (reading, matching, writing). All
#: of the stack but its self-attention is shared.
SHARED = {
    r"encoders.text_encoder.embedding.words": (True, True, True),
    r"encoders.text_encoder.embedding.positions": (True, True, True),
    r"encoders.text_encoder.norm.": (True, True, True),
    r"encoders.text_encoder.blocks.*.mlp": (True, True, True),
    r"encoders.text_encoder.blocks.*.norm_2": (True, True, True),
    r"encoders.text_encoder.blocks.*.attention": (True, True, False),
    r"encoders.text_encoder.blocks.*.norm_1": (True, True, False),
    r"encoders.text_encoder.blocks.*.cross": (False, True, True),
    r"encoders.text_encoder.blocks.*.norm_cross": (False, True, True),
    r"encoders.image_encoder": (False, True, True),
    r"encoders.text_projection": (True, False, False),
    r"encoders.image_projection": (False, False, False),
    r"temperature": (False, False, False),
    r"itm_head": (False, True, False),
    r"decoder.attentions": (False, False, True),
    r"decoder.norms": (False, False, True),
    r"decoder.language_head": (False, False, True),
}


def kind_of(name):
    """Return the kind of weights that a parameter belongs to, the one with the longest name that fits."""
    parts = name.split(".")
    plain = ".".join("*" if part.isdigit() and "blocks" in parts else part for part in parts) + "."
    return max((kind for kind in SHARED if plain.startswith(kind)), key=len)


def uses(model, images, ids, is_real):
    tokens = model.image_tokens(images)
    written = model.lm_logits(tokens, ids, is_real).data[is_real]
    return (
        model.encode_text(ids, is_real).data,
        model.itm_logits(tokens, ids, is_real).data,
        written,
    )


@pytest.mark.parametrize("group", SHARED)
def test_which_weights_the_three_uses_share(group):
    model, parts = model_of("blip"), batch()
    before, rng = uses(model, *parts), np.random.default_rng(0)
    changed = [p for name, p in model.trainable().items() if kind_of(name) == group]
    assert changed
    for p in changed:
        p.data = p.data + 0.1 * rng.standard_normal(p.shape)
    moved = tuple(
        bool(np.any(now != then)) for now, then in zip(uses(model, *parts), before, strict=True)
    )
    assert moved == SHARED[group]


def test_every_weight_of_the_model_is_of_one_of_these_kinds():
    assert {kind_of(name) for name in MODEL.trainable()} == set(SHARED)
    names = [name for name, _ in MODEL.named_parameters()]
    assert len(names) == len(set(names)) and not any(
        "decoder" in name and ("cross" in name or "mlp" in name) for name in names
    )


def test_what_stands_first_says_what_the_stack_is_to_do():
    images, ids, is_real = batch()
    other = ids.copy()
    other[:, 0] = 17  # [ENC] and [DEC] take its place; only the reader sees it
    read, matched, written = (
        now != then
        for now, then in zip(
            uses(MODEL, images, other, is_real), uses(MODEL, images, ids, is_real), strict=True
        )
    )
    assert read.all() and not matched.any() and not written.any()
    keeps_cls, tokens = model_of("blip", encode=None), MODEL.image_tokens(images)
    found = keeps_cls.itm_logits(tokens, ids, is_real).data
    assert np.abs(found - MODEL.itm_logits(tokens, ids, is_real).data).max() > 1e-3
    other[:, 0] = ENC
    np.testing.assert_array_equal(
        keeps_cls.itm_logits(tokens, other, is_real).data,
        MODEL.itm_logits(tokens, ids, is_real).data,
    )
    assert (
        numbers(step(keeps_cls, "blip", images, ids, is_real))["itm"]
        != numbers(step(model_of("blip"), "blip", images, ids, is_real))["itm"]
    )
    assert ids[0, 0] == 1  # nobody writes into what came


def test_reading_is_blind_and_matching_is_not():
    images, ids, is_real = batch()
    tokens = MODEL.image_tokens(images)
    for place in range(
        tokens.shape[1]
    ):  # every token of the picture is looked at, by the matcher and by the writer
        moved = tokens.data.copy()
        moved[:, place] += np.random.default_rng(place).standard_normal(moved.shape[-1])
        assert (
            np.abs(
                MODEL.itm_logits(moved, ids, is_real).data
                - MODEL.itm_logits(tokens, ids, is_real).data
            ).max()
            > 1e-6
        )
        assert (
            np.abs(
                MODEL.lm_logits(moved, ids, is_real).data
                - MODEL.lm_logits(tokens, ids, is_real).data
            )
            .min(axis=(1, 2))
            .max()
            > 0
        )
    last = ids.copy()
    last[:, 2] = (
        3 + (ids[:, 2] + 1) % 40
    )  # the reader looks both ways: a later word moves the first token
    assert (
        np.abs(MODEL.encode_text(last, is_real).data - MODEL.encode_text(ids, is_real).data).max()
        > 1e-6
    )


def test_lm_is_the_language_loss_of_the_writer_s_words():
    model, (images, ids, is_real) = model_of("blip", smoothing=0.2), batch()
    found = step(model, "blip", images, ids, is_real)["lm"].item()
    framed = ids.copy()
    framed[:, 0] = DEC
    logits = model.decoder(model.encoders.text_encoder, model.image_tokens(images), framed, is_real)
    assert abs(found - language_loss(logits, ids, is_real, 0.2).item()) < 1e-12
    p = logits.data[:, :-1] - np.log(np.exp(logits.data[:, :-1]).sum(axis=-1, keepdims=True))
    own = np.take_along_axis(p, ids[:, 1:, None], axis=-1)[..., 0]
    assert abs(found + (0.8 * own + 0.2 * p.mean(axis=-1))[is_real[:, 1:]].mean()) < 1e-12


# ---------------------------------------------------------------------- learning
def test_four_pairs_can_be_learned_by_heart():
    model, (images, ids, is_real) = (
        model_of("blip", "float32", momentum=0.9, alpha=0.0, smoothing=0.0).train(),
        batch(dtype="float32"),
    )
    optimizer = AdamW(model, weight_decay=0.0)
    for n in range(150):
        result = blip.step(
            model, images, ids, is_real, rng=np.random.default_rng(n), image_ids=np.arange(4)
        )
        losses = result.losses
        total(losses).backward()
        optimizer.step(3e-3 * (1 - n / 150), 1.0)
        blip.after_step(model, result.memory)
    # The queue holds each of the four pairs six times: seven right answers, equally likely, are as certain as it gets.
    assert (
        0 < losses["itc"].item() - math.log(7) < 0.05
        and losses["itm"].item() < 0.05
        and losses["lm"].item() < 0.1
    ), numbers(losses)
    model.eval()
    assert model(images, ids, is_real).data.argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert model.itm_probability(images, ids, is_real).min() > 0.9
    assert model.itm_probability(images[[1, 2, 3, 0]], ids, is_real).max() < 0.1
    captions = [row[1 : real.sum() - 1].tolist() for row, real in zip(ids, is_real, strict=True)]
    assert model.generate(images) == model.generate(images, beams=3) == captions
    assert model.generate(images, ids[:, :2]) == [caption[1:] for caption in captions]


# ---------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    "error, call, said",
    [
        (
            ShapeError,
            lambda m, i: m.generate(i, np.ones((4, 12), int)),
            r"an answer among 12 tokens, and \(4, 12\) came; .* shorten",
        ),
        (
            ShapeError,
            lambda m, i: m.generate(i, np.ones((3, 2), int)),
            r"for each of 4 images .* and \(3, 2\) came; give one to each",
        ),
        (
            ShapeError,
            lambda m, i: m.generate(i, np.ones(4, int)),
            r"a prompt \(B, T\), \[CLS\] first, for each of 4 images .* and \(4,\) came",
        ),
        (UsageError, lambda m, i: m.generate(i, beams=0), "beams 0 came; correct them"),
        (
            UsageError,
            lambda m, i: m.generate(i, max_new_tokens=0),
            "max_new_tokens 0, min_new_tokens 0, beams 1 came",
        ),
        (
            UsageError,
            lambda m, i: m.generate(i, min_new_tokens=12),
            "max_new_tokens 11, min_new_tokens 12",
        ),
        (
            ShapeError,
            lambda m, i: m.lm_logits(np.zeros((4, 5, 23)), np.ones((4, 3), int)),
            r"takes \(B, tokens, 24\) and \(4, 5, 23\) came",
        ),
        (
            ShapeError,
            lambda m, i: m.lm_logits(np.zeros((3, 5, 24)), np.ones((4, 3), int)),
            "4 rows with 3 pictures came; repeat the pictures",
        ),
    ],
)
def test_what_does_not_fit_is_named(error, call, said):
    with pytest.raises(error, match=said):
        call(MODEL, batch()[0])


@pytest.mark.parametrize(
    "change, said",
    [
        ({"decode": 50}, "decode is an id below the vocabulary 50, and 50 came; correct it"),
        ({"decode": None}, "decode is an id below the vocabulary 50, and None came; correct it"),
        ({"encode": -1}, "encode is an id below the vocabulary 50, and -1 came; correct it"),
        (
            {"end_of_text": 102},
            "end_of_text is an id below the vocabulary 50, and 102 came; correct it",
        ),
        (
            {"text": BertConfig.tiny(encoder_width=24, fusion_layer=1)},
            "has cross-attention to the image, and fusion_layer 1 came; leave it 0",
        ),
    ],
)
def test_configs_that_do_not_fit_are_named(change, said):
    with pytest.raises(UsageError, match=said):
        BLIPConfig.tiny(**change)


def test_the_paper_s_sizes():
    config = BLIPConfig.paper()
    assert (config.text.vocabulary, config.decode, config.encode, config.end_of_text) == (
        30524,
        30522,
        30523,
        102,
    )
    assert (
        config.image.resolution,
        config.image.patches,
        config.queue,
        config.alpha,
        config.smoothing,
    ) == (224, 196, 57600, 0.4, 0.1)
