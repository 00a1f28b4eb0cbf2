"""The two text encoders: what padding, order and the end token do to a text's feature."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import randomized, tiny_clip

from tinymm.arrays.errors import DataError
from tinymm.models.text import end_positions

VOCABULARY, CONTEXT, END = 50, 12, 49
words = st.lists(st.integers(2, END - 1), min_size=1, max_size=CONTEXT - 1)
ENCODERS = {
    text: randomized(tiny_clip("vit", text, dtype="float64")).text_encoder
    for text in ("transformer", "cbow")
}


def row(text, length=None):
    ids = [*text, END]
    return np.array([ids + [0] * ((length or len(ids)) - len(ids))])


@pytest.mark.parametrize("name", ENCODERS)
@given(text=words, data=st.data())
def test_padding_behind_the_end_changes_nothing(name, text, data):
    length = data.draw(st.integers(len(text) + 1, CONTEXT))
    encoder = ENCODERS[name]
    np.testing.assert_allclose(encoder(row(text, length)).data, encoder(row(text)).data, atol=1e-12)


@given(text=words, junk=st.lists(st.integers(0, END), max_size=3))
def test_nothing_behind_the_end_reaches_the_causal_transformer(text, junk):
    encoder = ENCODERS["transformer"]
    junk = junk[: CONTEXT - 1 - len(text)]
    found = encoder(np.concatenate([row(text), np.array([junk], int).reshape(1, -1)], axis=1))
    np.testing.assert_allclose(found.data, encoder(row(text)).data, atol=1e-12)


@given(text=words, data=st.data())
def test_the_transformer_reads_every_token_before_the_end(text, data):
    place = data.draw(st.integers(0, len(text) - 1))
    other = [*text]
    other[place] = 2 if text[place] != 2 else 3
    encoder = ENCODERS["transformer"]
    assert np.abs(encoder(row(other)).data - encoder(row(text)).data).max() > 1e-9


@given(text=words, seed=st.integers(0, 99))
def test_a_bag_of_words_has_no_order_and_counts_each_word_as_often_as_it_comes(text, seed):
    encoder = ENCODERS["cbow"]
    shuffled = np.random.default_rng(seed).permutation(text)
    np.testing.assert_allclose(encoder(row(shuffled)).data, encoder(row(text)).data, atol=1e-12)
    mean = encoder.token_embedding.weight.data[text].mean(axis=0)
    expected = (mean - mean.mean()) / np.sqrt(
        mean.var() + 1e-5
    ) * encoder.norm_after.weight.data + encoder.norm_after.bias.data
    np.testing.assert_allclose(encoder(row(text)).data[0], expected, atol=1e-9)


def test_a_text_without_words_is_the_bias_of_the_norm():
    encoder = ENCODERS["cbow"]
    np.testing.assert_allclose(
        encoder(np.array([[END, 0], [0, 0]])).data,
        np.stack([encoder.norm_after.bias.data] * 2),
        atol=1e-12,
    )


def test_order_matters_to_the_transformer():
    encoder = ENCODERS["transformer"]
    assert np.abs(encoder(row([5, 6, 7])).data - encoder(row([7, 6, 5])).data).max() > 1e-6


@given(st.lists(words, min_size=1, max_size=4), st.sampled_from(list(ENCODERS)))
def test_a_text_does_not_depend_on_the_others_in_its_batch(texts, name):
    encoder, longest = ENCODERS[name], max(map(len, texts)) + 1
    together = encoder(np.concatenate([row(text, longest) for text in texts])).data
    for found, text in zip(together, texts, strict=True):
        np.testing.assert_allclose(found, encoder(row(text)).data[0], atol=1e-10)


@given(st.lists(words, min_size=1, max_size=4))
def test_the_end_is_the_first_place_of_its_id_or_of_the_largest(texts):
    ids = np.concatenate([row(text, CONTEXT) for text in texts])
    expected = [len(text) for text in texts]
    assert end_positions(ids, END).tolist() == end_positions(ids, None).tolist() == expected
    ids[ids == 0] = END  # as Hugging Face pads
    assert end_positions(ids, END).tolist() == end_positions(ids, None).tolist() == expected


def test_a_row_without_end_is_named():
    with pytest.raises(DataError, match=r"row 1 \[7, 8\] has none; use the model's own tokenizer"):
        end_positions(np.array([[5, END], [7, 8]]), END)
