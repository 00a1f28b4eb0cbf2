"""BLIP writes: it does not look ahead, remembers what it has seen, and its captions are what the definition of each search says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_towers import batch, model_of

import tinymm.models.blip
from tinymm.arrays.backend import to_backend
from tinymm.layers import Cache
from tinymm.losses import language_loss
from tinymm.models.decoding import _beam_search, log_softmax

MODEL = model_of("blip")
STACK = MODEL.encoders.text_encoder
DEC, END, V = MODEL.config.decode, MODEL.config.end_of_text, MODEL.config.text.vocabulary


@settings(max_examples=20)
@given(place=st.integers(1, 5), seed=st.integers(0, 99))
def test_only_what_stands_before_a_word_foretells_it(place, seed):
    images, ids, _ = batch(seed=seed)
    is_real = np.ones(ids.shape, bool)
    tokens, other = MODEL.image_tokens(images), ids.copy()
    other[:, place] = (ids[:, place] + np.random.default_rng(seed).integers(1, V, 4)) % V
    moved = np.abs(
        MODEL.lm_logits(tokens, other, is_real).data - MODEL.lm_logits(tokens, ids, is_real).data
    ).max(axis=-1)
    assert not moved[:, :place].any() and (moved[:, place:] > 1e-9).all()


def test_no_gradient_of_a_logit_reaches_a_later_word():
    # By the graph itself, at every place: which rows of the table of positions (not tied to the head) a logit hears of.
    images, ids, _ = batch()
    model = model_of("blip")
    for place in range(6):
        table = model.encoders.text_encoder.embedding.positions
        table.grad = None
        logits = model.lm_logits(model.image_tokens(images), ids, np.ones(ids.shape, bool))[
            :, place
        ]
        logits.backward(gradient=np.random.default_rng(place).standard_normal(logits.shape))
        heard = np.abs(table.grad).max(axis=1)
        assert (heard[: place + 1] > 1e-9).all() and not heard[place + 1 :].any()


def test_a_word_that_is_not_real_is_not_seen_by_those_behind_it():
    images, ids, _ = batch()
    is_real, other = np.arange(6) != 2, ids.copy()
    other[:, 2] = 3 + (ids[:, 2] + 1) % 40
    tokens, is_real = MODEL.image_tokens(images), np.tile(is_real, (4, 1))
    one, two = (MODEL.lm_logits(tokens, text, is_real).data[is_real] for text in (ids, other))
    np.testing.assert_array_equal(one, two)
    assert (
        np.abs(one - MODEL.lm_logits(tokens, ids, np.ones_like(is_real)).data[is_real]).max() > 1e-6
    )


def test_words_one_at_a_time_over_remembered_ones_are_all_words_at_once():
    images, ids, _ = batch()
    tokens, framed = MODEL.image_tokens(images), np.where(np.arange(6) == 0, DEC, ids)
    caches = [Cache() for _ in range(2 * len(STACK.blocks))]
    steps = [
        MODEL.decoder(STACK, tokens, framed[:, t : t + 1], caches=caches).data for t in range(6)
    ]
    at_once = MODEL.decoder(STACK, tokens, framed).data
    np.testing.assert_allclose(np.concatenate(steps, axis=1), at_once, atol=1e-12)
    assert [cache.length for cache in caches] == [6, tokens.shape[1]] * len(
        STACK.blocks
    )  # of words, and of the picture's tokens, once
    again = MODEL.decoder(STACK, tokens, framed[:, :2]).data
    np.testing.assert_allclose(again, at_once[:, :2], atol=1e-12)
    pieces = [Cache() for _ in range(2 * len(STACK.blocks))]
    both = [
        MODEL.decoder(STACK, tokens, framed[:, part], caches=pieces).data
        for part in (slice(0, 4), slice(4, 6))
    ]
    np.testing.assert_allclose(np.concatenate(both, axis=1), at_once, atol=1e-12)


def test_remembered_keys_of_the_picture_are_those_computed_anew():
    images, ids, _ = batch()
    tokens, framed = MODEL.image_tokens(images), np.where(np.arange(6) == 0, DEC, ids)
    cached, anew = ([Cache() for _ in range(2 * len(STACK.blocks))] for _ in range(2))
    for t in range(6):
        for i in range(1, len(anew), 2):
            anew[i] = Cache()  # the picture is forgotten, the words are not
        one, other = (
            MODEL.decoder(STACK, tokens, framed[:, t : t + 1], caches=caches).data
            for caches in (cached, anew)
        )
        np.testing.assert_array_equal(one, other)


def test_greedy_captions_are_what_the_whole_pass_says_word_by_word():
    images, ids, _ = batch()
    for prompt in (None, ids[:, :3]):
        written = MODEL.generate(images, prompt, max_new_tokens=5, min_new_tokens=5)
        tokens, text = MODEL.image_tokens(images), np.full((4, 1), 1) if prompt is None else prompt
        given_ = text.shape[1]
        for _ in range(5):
            logits = MODEL.lm_logits(tokens, text, np.ones(text.shape, bool)).data[:, -1]
            logits[:, END] = -np.inf
            text = np.concatenate([text, logits.argmax(axis=1)[:, None]], axis=1)
        assert written == text[:, given_:].tolist()


@pytest.mark.parametrize("beams", [1, 3])
def test_a_teacher_s_log_probability_of_a_caption_is_the_sum_over_its_steps(beams):
    images, _, _ = batch()
    captions, model = (
        MODEL.generate(images, max_new_tokens=4, beams=beams),
        model_of("blip", smoothing=0.0),
    )
    for row, caption in enumerate(captions):
        ids, picture = (
            np.array([[1, *caption, END]])[:, :5],
            MODEL.image_tokens(images[row : row + 1]),
        )
        T = ids.shape[1]
        taught = -language_loss(
            model.lm_logits(picture, ids), ids, np.ones(ids.shape, bool)
        ).item() * (T - 1)
        caches, stepped = [Cache() for _ in range(2 * len(STACK.blocks))], 0.0
        for t in range(T - 1):
            logits = MODEL.decoder(
                STACK, picture, ids[:, t : t + 1] if t else np.array([[DEC]]), caches=caches
            ).data[:, -1]
            stepped += log_softmax(logits)[0, ids[0, t + 1]]
        assert stepped == pytest.approx(taught, abs=1e-10)


def test_one_beam_is_greedy_and_more_find_captions_at_least_as_likely(monkeypatch):
    images, _, _ = batch()
    greedy, wide = (
        MODEL.generate(images, max_new_tokens=5, beams=beams, length_penalty=0.0)
        for beams in (1, 6)
    )

    def log_p(row, caption):
        ids = np.array([[1, *caption, END]])[:, :6]
        logits = MODEL.lm_logits(
            MODEL.image_tokens(images[row : row + 1]), ids, np.ones(ids.shape, bool)
        ).data[0, :-1]
        return log_softmax(logits)[np.arange(len(logits)), ids[0, 1:]].sum()

    assert wide != greedy and all(
        log_p(row, wide[row]) >= log_p(row, greedy[row]) - 1e-12 for row in range(4)
    )

    def search_with_one_beam(logits, caches, advance, *, end, max_new_tokens):
        return _beam_search(logits, caches, advance, end, max_new_tokens, 0, 1, 1.0)

    monkeypatch.setattr(tinymm.models.blip, "generate", search_with_one_beam)
    assert MODEL.generate(images, max_new_tokens=5) == greedy


@pytest.mark.parametrize("prompted", [False, True])
@pytest.mark.parametrize("beams", [1, 3])
def test_each_picture_s_caption_is_what_it_would_be_alone(beams, prompted):
    images, ids, _ = batch()
    prompts = ids[:, :3] if prompted else [None] * 4
    together = MODEL.generate(images, prompts if prompted else None, max_new_tokens=4, beams=beams)
    for row in range(4):
        prompt = prompts[row : row + 1] if prompted else None
        assert MODEL.generate(images[row : row + 1], prompt, max_new_tokens=4, beams=beams) == [
            together[row]
        ]


def test_one_generator_draws_the_same_captions():
    images, _, _ = batch()
    draws = [
        MODEL.generate(images, top_p=0.9, rng=np.random.default_rng(seed), max_new_tokens=4)
        for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_the_same_wherever_arrays_live(beams, backend):
    images, ids, _ = batch()
    expected = MODEL.generate(images, ids[:, :3], max_new_tokens=3, beams=beams)
    model = model_of("blip").to(backend)
    assert (
        model.generate(to_backend(images, backend), ids[:, :3], max_new_tokens=3, beams=beams)
        == expected
    )


def test_a_caption_fills_the_context_and_no_more():
    images, ids, _ = batch()
    for prompt, room in ((None, 11), (ids[:, :5], 7), (np.full((4, 11), 7), 1)):
        assert {len(text) for text in MODEL.generate(images, prompt, min_new_tokens=room)} == {room}
        assert {
            len(text)
            for text in MODEL.generate(images, prompt, min_new_tokens=room, max_new_tokens=1000)
        } == {room}
