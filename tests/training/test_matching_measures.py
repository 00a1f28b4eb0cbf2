"""What ALBEF and BLIP are asked when they are done: retrieval twice, matching on the hardest pairs, hidden words and captions, beside chance."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_towers import KINDS, batch, model_of

from tinymm import Tensor
from tinymm.data.batches import PairSet, Swaps
from tinymm.losses import ITM_PRIOR, language_loss
from tinymm.training import evaluate_matching as measures

IMAGES, IDS, IS_REAL = batch(4)
WORDS = [" ".join(map(str, row[real])) for row, real in zip(IDS, IS_REAL, strict=True)]


class Spelled:
    """A tokenizer of texts that spell their ids."""

    end_of_text = 2

    def __call__(self, texts):
        rows = [[int(word) for word in text.split()] for text in texts]
        lengths = np.array([len(row) for row in rows])
        is_real = np.arange(lengths.max()) < lengths[:, None]
        ids = np.zeros(is_real.shape, int)
        ids[is_real] = [number for row in rows for number in row]
        return ids, is_real

    def decode(self, ids):
        return [" ".join(map(str, row)) for row in np.atleast_2d(ids).tolist()]


PAIRS = PairSet(IMAGES, WORDS, np.arange(4))


def scripted(kind, **functions):
    """Return a tiny model, some of whose functions are replaced by those of a model that knows."""
    model = model_of(kind)
    for name, function in functions.items():
        setattr(model, name, function)
    return model


# ---------------------------------------------------------------------- hidden words
def knows(right, seen):
    """Return a model that names every hidden word, of texts `right` (B, T) whose number is their picture; what it was asked goes into `seen`."""

    def words(tokens, hidden, is_real):
        rows = tokens[:, 0, 0].astype(int)
        gaps = hidden == 99
        seen.extend(zip(rows, gaps.argmax(axis=1), strict=True))
        assert (gaps.sum(axis=1) == 1).all() and (hidden[~gaps] == right[rows][~gaps]).all()
        return Tensor(np.eye(100)[right[rows]])

    return SimpleNamespace(config=SimpleNamespace(mask=99), mlm_logits=words, parameters=list)


@pytest.mark.parametrize("at_once", [3, 128])
def test_a_model_that_knows_names_every_word_and_each_is_hidden_alone(at_once, monkeypatch):
    monkeypatch.setattr(measures, "_BATCH", at_once)
    seen = []
    numbers = np.arange(4.0).reshape(4, 1, 1)
    assert measures.mlm_accuracy(knows(IDS, seen), numbers, IDS, IS_REAL) == 1.0
    assert seen == [
        (row, place) for row in range(4) for place in range(1, IS_REAL[row].sum() - 1)
    ]  # never [CLS], [SEP] or padding

    def stubborn(tokens, *_):
        return Tensor(np.eye(100)[IDS[tokens[:, 0, 0].astype(int)]])

    other = IDS.copy()
    other[1, 1] += 1  # one of the words is not what it says
    model = SimpleNamespace(config=SimpleNamespace(mask=99), mlm_logits=stubborn, parameters=list)
    assert measures.mlm_accuracy(model, numbers, other, IS_REAL) == 1 - 1 / len(seen)


def test_chance_of_hidden_words_is_another_s_picture():
    # It reads the answer off the picture: beside its own it knows all, beside another's what both captions share.
    def words(tokens, hidden, is_real):
        rows = np.array(
            [int(np.abs(PICTURES - t).reshape(4, -1).sum(axis=1).argmin()) for t in tokens]
        )
        return Tensor(np.eye(50)[IDS[rows]])

    model = model_of("albef").eval()
    PICTURES = model.image_tokens(IMAGES).data
    model.mlm_logits = words
    found = measures.matching(model, PAIRS, Spelled())
    places = [(row, place) for row in range(4) for place in range(1, IS_REAL[row].sum() - 1)]
    assert found["mlm_accuracy"] == 1.0
    assert (
        found["chance"]["mlm_accuracy"]
        == np.mean([IDS[row, place] == IDS[(row + 2) % 4, place] for row, place in places])
        < 0.5
    )


# ---------------------------------------------------------------------- the hardest pairs
def matcher(answer, seen):
    """Return a tower that matches by `answer(picture, text)`, the numbers that stand in its tokens and its ids."""

    def match(tokens, ids, is_real):
        pictures, texts = tokens[:, 0, 0].astype(int), ids[:, 0]
        seen.extend(zip(pictures.tolist(), texts.tolist(), strict=True))
        return Tensor(np.array([[0.0, answer(i, j)] for i, j in zip(pictures, texts, strict=True)]))

    return SimpleNamespace(itm_logits=match, parameters=list)


@given(n=st.integers(2, 6), seed=st.integers(0, 999), at_once=st.sampled_from([2, 128]))
def test_each_stands_beside_its_own_and_beside_the_other_that_contrast_takes_for_it(
    n, seed, at_once
):
    scores, seen = np.random.default_rng(seed).standard_normal((n, n)), []
    numbers = np.arange(n)
    given_ = (scores, numbers.reshape(n, 1, 1) * 1.0, numbers[:, None], np.ones((n, 1), bool))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "_BATCH", at_once)
        found = measures._on_the_hardest(
            matcher(lambda i, j: 9.0 if i == j else -9.0, seen), *given_
        )
    off = scores - 1e9 * np.eye(n)
    own = [(i, i) for i in range(n)]
    assert sorted(seen) == sorted(
        own
        + [(int(off[:, j].argmax()), j) for j in range(n)]
        + [(i, int(off[i].argmax())) for i in range(n)]
    )
    assert found["itm_accuracy"] == 1.0 and found["itm_loss"] == pytest.approx(
        np.log1p(np.exp(-9)), rel=1e-6
    )
    fooled = measures._on_the_hardest(matcher(lambda i, j: 9.0, []), *given_)
    assert fooled["itm_accuracy"] == pytest.approx(1 / 3) and fooled["itm_loss"] == pytest.approx(
        6 + np.log1p(np.exp(-9)), rel=1e-6
    )
    prior = measures._on_the_hardest(matcher(lambda i, j: -math.log(2), []), *given_)
    assert prior == {"itm_loss": pytest.approx(ITM_PRIOR), "itm_accuracy": pytest.approx(2 / 3)}


def published(scores, logits, k, cosine):
    """BLIP's and ALBEF's `evaluation` for one direction, as it stands in train_retrieval.py and Retrieval.py."""
    table = np.full(scores.shape, -100.0)
    for row, best in enumerate(np.argsort(-scores, axis=1)[:, :k]):
        table[row, best] = logits[row, best] + (scores[row, best] if cosine else 0)
    return table


@pytest.mark.parametrize("kind", KINDS)
@given(n=st.integers(3, 9), m=st.integers(3, 9), k=st.integers(1, 4), seed=st.integers(0, 999))
def test_what_is_looked_at_again_is_the_published_rule_of_two_tables(kind, n, m, k, seed):
    rng = np.random.default_rng(seed)
    scores, logits, seen = rng.uniform(-1, 1, (n, m)), 3 * rng.standard_normal((n, m)), []
    judge = scripted(kind, itm_logits=matcher(lambda i, j: logits[i, j], seen).itm_logits)
    given_ = (np.arange(n).reshape(n, 1, 1) * 1.0, np.arange(m)[:, None], np.ones((m, 1), bool), k)
    tables = measures.rerank_both(judge, scores, *given_)
    assert len(seen) == len(set(seen))  # a pair that both sides ask about is looked at once
    cosine = kind != "albef"  # whose code goes by the logit alone
    for table, s, l in zip(tables, (scores, scores.T), (logits, logits.T), strict=True):
        np.testing.assert_allclose(
            np.where(np.isneginf(table), -100, table), published(s, l, k, cosine), rtol=1e-12
        )
        np.testing.assert_array_equal(~np.isneginf(table), measures.candidates(s, k))
    np.testing.assert_array_equal(measures.rerank(judge, scores, *given_), tables[0])
    other = measures.rerank(judge, scores, *given_, cosine=not cosine)
    np.testing.assert_allclose(
        np.where(np.isneginf(other), -100, other),
        published(scores, logits, k, not cosine),
        rtol=1e-12,
    )


def test_recall_after_re_ranking_asks_each_side_s_own_table():
    scores = np.array(
        [[0.9, 0.8, 0.7], [0.6, 0.5, 0.4], [0.3, 0.2, 0.1]]
    )  # all texts like picture 0 best, all pictures text 0
    numbers = np.arange(3)
    given_ = (numbers.reshape(3, 1, 1) * 1.0, numbers[:, None], np.ones((3, 1), bool))
    model = scripted("blip", itm_logits=matcher(lambda i, j: 5.0 * (i == j), []).itm_logits)
    both = measures.rerank_both(model, scores, *given_, 1)
    pairs = PairSet(np.zeros((3, 1, 1, 3), np.float32), ("a", "b", "c"), numbers)
    found = measures.recalls(both[0], pairs, (1,), to_images=both[1])
    assert (
        found["image_to_text_r1"] == found["text_to_image_r1"] == 1 / 3
    )  # with one table for both it would be 1


# ---------------------------------------------------------------------- all together
@pytest.mark.parametrize("kind", KINDS)
def test_every_number_has_its_chance(kind):
    model = model_of(kind).train()
    found = measures.matching(model, PAIRS, Spelled())
    chance = found.pop("chance")
    assert not model.training
    recalls = {
        f"{name}_{way}_r1"
        for name in ("itc", "itm_reranked")
        for way in ("image_to_text", "text_to_image")
    }
    third = {
        "albef": {"mlm_accuracy"},
        "blip": {"lm_perplexity", "lm_captions_exact", "lm_captions_words_right"},
    }[kind]
    levels = {"itc_r1", "itm_reranked_r1", "itm_loss", "itm_accuracy"} | third
    assert set(found) == recalls | levels and set(chance) == levels
    assert (
        chance["itc_r1"] == chance["itm_reranked_r1"] == 0.25
        and chance["itm_accuracy"] == 2 / 3
        and chance["itm_loss"] == ITM_PRIOR
    )
    quick = measures.matching(model, PAIRS, Spelled(), thorough=False)
    levels = quick.pop("chance")
    assert (
        quick == {name: found[name] for name in quick}
        and levels == {name: chance[name] for name in levels}
        and levels.keys() <= quick.keys()
    )
    assert {"itc_r1", "itm_accuracy"} <= quick.keys() and not [
        name for name in quick if name.startswith(("itm_reranked", "mlm", "lm"))
    ]
    if kind == "blip":
        assert (
            chance["lm_perplexity"] == 50
            and chance["lm_captions_exact"] == chance["lm_captions_words_right"] == 0
        )
        words = model.lm_logits(model.image_tokens(IMAGES), IDS, IS_REAL)
        assert found["lm_perplexity"] == pytest.approx(
            math.exp(language_loss(words, IDS, IS_REAL).item())
        )  # without smoothing


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_model_s_own_and_a_text_counts_once(kind):
    model = model_of(kind).eval()
    tokens = measures.image_tokens(model, IMAGES)
    scores = measures.itc_scores(model, tokens, IDS, IS_REAL)
    assert scores.shape == (4, 1, 4)
    np.testing.assert_allclose(scores[:, 0], model(IMAGES, IDS, IS_REAL).data, atol=1e-12)
    logits = measures.itm_logits(model, tokens, IDS, IS_REAL)
    np.testing.assert_allclose(
        1 / (1 + np.exp(logits[:, 0] - logits[:, 1])),
        model.itm_probability(IMAGES, IDS, IS_REAL),
        atol=1e-12,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_caption_of_a_picture_counts_for_matching_and_words(kind):
    model = model_of(kind)
    twice = PairSet(
        IMAGES,
        [WORDS[2], WORDS[0], "1 9 9 2", WORDS[3], WORDS[1], "1 8 2"],
        np.array([2, 0, 0, 3, 1, -1]),
    )
    one, two = (measures.matching(model, pairs, Spelled()) for pairs in (PAIRS, twice))
    for name in (
        "itm_loss",
        "itm_accuracy",
        "mlm_accuracy" if kind == "albef" else "lm_perplexity",
    ):
        assert one[name] == pytest.approx(two[name], rel=1e-9), name
    assert two["chance"]["itc_r1"] == pytest.approx((5 / 4 / 6 + 1 / 4) / 2)


def test_captions_are_compared_with_all_that_may_be_said():
    model = scripted("blip", generate=lambda images, **options: [[7, 8], [9], [], [5, 6, 7]])
    pairs = PairSet(IMAGES, ["7 8", "9 9", "1", "5 5 7"], np.arange(4))
    assert measures.write_captions(model, IMAGES, Spelled()) == ["7 8", "9", "", "5 6 7"]
    assert measures.captions(model, pairs, Spelled()) == {
        "exact": 1 / 4,
        "words_right": pytest.approx((1 + 1 / 2 + 0 + 2 / 3) / 4),
    }
    references = [("7 8",), ("9",), ("1", ""), ("5 5 7", "5 6 7")]
    assert measures.captions(model, pairs, Spelled(), references) == {
        "exact": 1.0,
        "words_right": pytest.approx((1 + 1 + 0 + 1) / 4),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_swaps_ask_both_ways_of_comparing(kind):
    asked = []

    def match(tokens, ids, is_real):
        asked.append(ids.copy())
        return Tensor(
            np.array([[0.0, 1.0 if row[1] < 40 else -1.0] for row in ids])
        )  # right captions begin with a small number

    model = scripted(kind, itm_logits=match)
    right, wrong = ["1 5 2", "1 45 6 2", "1 7 2", "1 8 2"], ["1 45 2", "1 46 2", "1 47 2", "1 9 2"]
    found = measures.swaps(model, {"a kind": Swaps(IMAGES, right, wrong)}, Spelled())
    assert set(found) == {"swap_a_kind_itc", "swap_a_kind_itm"} and len(asked) == 2
    assert (
        found["swap_a_kind_itm"] == (1 + 0.5 + 1 + 0.5) / 4
    )  # picture 1's two captions are alike to it, and so are picture 3's
    cosines = [np.diagonal(model(IMAGES, *Spelled()(texts)).data) for texts in (right, wrong)]
    assert found["swap_a_kind_itc"] == np.mean(cosines[0] > cosines[1])
