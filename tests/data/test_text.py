"""The word tokenizer: its own rules, and the agreement of its file with the tokenizers library."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import CheckpointError, DataError
from tinymm.data.text import PUNCTUATION, WordTokenizer, split_words
from tinymm.data.words import _split_before

WORDS = ("a", "café", "cat", "dog", "minus-or-plus", "ςσ", "σας", "straße")
ODD = (
    "aAbé’'‘“”- –—.,½™\u00a0\u200b\u200d\u200c猫红のﾂﾞカﾞ。「น้ำแมวកខ្ញុំİΣςẞ\u0345ا\u0628پहि👍🏽👨🇩🇪ﬁŉＡ"
    "\ufeff\u3000\n\x1c\x1f\x85´ʼ″"
)
#: The library's tables of Unicode and Python's are of different years: letters that both know.
SAME_IN_BOTH = st.characters(exclude_categories=("Cs", "Cn", "Co"), max_codepoint=0xFFFF)
captions = st.lists(
    st.one_of(
        st.text(SAME_IN_BOTH, max_size=30),
        st.text(st.sampled_from(ODD), max_size=30),
        st.lists(st.sampled_from([*WORDS, *PUNCTUATION, "CAT", "ΣΑΣ", "[PAD]", "[EOT]"])).map(
            " ".join
        ),
    ),
    min_size=1,
    max_size=5,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    tokenizer = WordTokenizer((*WORDS, "猫", "น้ำ", "ا"), context=6)
    return tokenizer, tokenizer.save(tmp_path_factory.mktemp("tokenizer"))


def test_every_row_ends_with_the_largest_id_and_is_padded_with_zeros():
    tokenizer = WordTokenizer(WORDS, context=6)
    ids, is_real = tokenizer(["a dog", "", "zebra a"])
    assert ids.tolist() == [[2, 5, 10], [10, 0, 0], [1, 2, 10]]
    assert is_real.tolist() == [[True] * 3, [True, False, False], [True] * 3]
    assert (
        ids.dtype == np.int64
        and is_real.dtype == bool
        and len(tokenizer) == 11 == tokenizer.end_of_text + 1
    )


@given(captions)
def test_the_mask_says_what_is_padding_and_argmax_finds_the_end(texts):
    tokenizer = WordTokenizer(WORDS, context=6)
    ids, is_real = tokenizer(texts)
    np.testing.assert_array_equal(is_real, ids != 0)
    np.testing.assert_array_equal(ids.argmax(axis=1), is_real.sum(axis=1) - 1)
    assert ids.shape[1] == is_real.sum(axis=1).max() <= 6


def test_long_captions_lose_their_end_and_are_counted():
    tokenizer = WordTokenizer(WORDS, context=3)
    ids, _ = tokenizer(["a cat", "a cat a dog"])
    assert ids.tolist() == [[2, 4, 10], [2, 4, 10]] and tokenizer.cut == 1


@given(captions)
def test_the_tokenizers_library_agrees(saved, texts):
    library = pytest.importorskip("tokenizers")
    tokenizer, path = saved
    ids, is_real = tokenizer(texts)
    theirs = library.Tokenizer.from_file(str(path)).encode_batch(texts)
    assert [row.ids for row in theirs] == ids.tolist()
    assert [row.attention_mask for row in theirs] == is_real.astype(int).tolist()


def test_save_and_load_give_the_same_tokenizer(saved):
    tokenizer, path = saved
    for place in (path, path.parent):
        loaded = WordTokenizer.load(place)
        assert (loaded.vocabulary, loaded.context) == (tokenizer.vocabulary, tokenizer.context)
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["model"].update(type="BPE"),
            "holds a BPE model but this class reads WordLevel",
        ),
        (lambda d: d.update(pre_tokenizer={"type": "Whitespace"}), "rules other than tinymm's"),
        (lambda d: d.pop("model"), "no tokenizer.json that can be read"),
    ],
)
def test_a_foreign_tokenizer_is_refused(saved, tmp_path, change, message):
    content = json.loads(saved[1].read_text("utf-8"))
    change(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        WordTokenizer.load(tmp_path)


def test_a_missing_or_broken_tokenizer_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="is not there"):
        WordTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="can be read"):
        WordTokenizer.load(tmp_path)


def test_decode_undoes_known_words():
    tokenizer = WordTokenizer(WORDS, context=6)
    assert tokenizer.decode(tokenizer(["dog a", "a zebra dog"])[0]) == ["dog a", "a [UNK] dog"]
    with pytest.raises(DataError, match="from 0 to 10 but came as 3 to 11"):
        tokenizer.decode(np.array([[3, 11]]))


def test_unknown_words_come_with_their_counts():
    assert WordTokenizer(WORDS, 6).unknown(["A zebra, a yak", "Zebra!"]) == {"zebra": 2, "yak": 1}


def test_vocabularies_that_can_never_match_are_refused():
    for words, message in (
        ((), "0 came"),
        (("a", "a"), "2 came, 1 of them"),
        (("A",), r"\['A'\]"),
        (("a b",), "a b"),
        (("a!",), "a!"),
    ):
        with pytest.raises(DataError, match=message):
            WordTokenizer(words, 5)
    with pytest.raises(DataError, match="2 or more tokens, but came as 1"):
        WordTokenizer(("a",), 1)


def test_a_bare_string_is_not_taken_for_a_list():
    with pytest.raises(DataError, match=r"single text 'a cat': write \[text\]"):
        WordTokenizer(WORDS, 6)("a cat")


@given(st.text())
def test_splitting_is_idempotent(text):
    words = split_words(text)
    assert split_words(" ".join(words)) == words


# ---------------------------------------------------------------------- frames
FRAMES = [(), ("[DEC]",), ("[ENC]", "[DEC]"), ("[MASK]",), ("[DEC]", "[ENC]", "[MASK]")]


@pytest.mark.parametrize("more", FRAMES)
def test_a_frame_has_ids_behind_the_words_which_keep_theirs(more):
    plain = WordTokenizer(WORDS, context=6)
    framed = plain.with_frame(*more)
    assert framed.frame == ("[CLS]", *(more or ("[DEC]",))) and framed.framed and not plain.framed
    assert framed.context == 7 and framed.with_frame(*more).context == 7, "one token more, and once"
    assert (
        framed.end_of_text == plain.end_of_text == 10
        and framed.vocabulary == plain.vocabulary
        and len(framed) == 11 + len(framed.frame)
    )
    ids = {
        "[CLS]": framed.begin,
        "[DEC]": framed.decode_token,
        "[ENC]": framed.encode_token,
        "[MASK]": framed.mask_token,
    }
    assert {name: number for name, number in ids.items() if number is not None} == {
        name: 11 + i for i, name in enumerate(framed.frame)
    }
    assert (plain.begin, plain.decode_token, plain.encode_token, plain.mask_token) == (None,) * 4


def test_a_framed_caption_begins_with_the_token_of_its_own():
    framed = WordTokenizer(WORDS, context=5).with_frame("[DEC]", "[ENC]")
    ids, is_real = framed(["a dog", "", "zebra a cat dog dog dog"])
    assert ids.tolist() == [[11, 2, 5, 10, 0, 0], [11, 10, 0, 0, 0, 0], [11, 1, 2, 4, 5, 10]]
    assert is_real.sum(axis=1).tolist() == [4, 2, 6] and framed.cut == 1
    assert framed(["a cat dog dog"])[0].tolist() == [[11, 2, 4, 5, 5, 10]] and framed.cut == 1, (
        "as long as before, and whole"
    )


def test_a_frame_is_not_heard_but_for_the_gap():
    framed = WordTokenizer(WORDS, context=5).with_frame("[DEC]", "[ENC]", "[MASK]")
    ids, _ = framed(["a dog", "zebra cat"])
    assert framed.decode(ids) == ["a dog", "[UNK] cat"]
    assert framed.decode(np.array([[12, 2, 14, 5, 10], [13, 2, 5, 10, 4]])) == [
        "a [MASK] dog",
        "a dog",
    ]
    with pytest.raises(DataError, match="from 0 to 14 but came as 2 to 15"):
        framed.decode(np.array([[2, 15]]))


def test_no_text_can_spell_a_frame():
    framed = WordTokenizer(WORDS, context=9).with_frame("[DEC]", "[ENC]", "[MASK]")
    assert framed(["[MASK] a [CLS] dog [EOT]"])[0].tolist() == [[11, 1, 2, 1, 5, 1, 10]]


@pytest.mark.parametrize("more", FRAMES)
def test_save_and_load_give_the_same_frame(more, tmp_path):
    framed = WordTokenizer(WORDS, context=6).with_frame(*more)
    loaded = WordTokenizer.load(framed.save(tmp_path))
    assert vars(loaded) == vars(framed)
    assert loaded(["a cat", "dog"])[0].tolist() == framed(["a cat", "dog"])[0].tolist()


@given(texts=captions, more=st.sampled_from(FRAMES))
def test_the_tokenizers_library_agrees_about_frames(texts, more, tmp_path_factory):
    library = pytest.importorskip("tokenizers")
    framed = WordTokenizer(WORDS, context=5).with_frame(*more)
    ids, is_real = framed(texts)
    theirs = library.Tokenizer.from_file(str(framed.save(tmp_path_factory.mktemp("framed"))))
    assert theirs.get_vocab_size() == len(framed)
    encoded = theirs.encode_batch(texts)
    assert [row.ids for row in encoded] == ids.tolist()
    assert [row.attention_mask for row in encoded] == is_real.astype(int).tolist()


@pytest.mark.parametrize(
    "frame",
    [
        ("[DEC]",),
        ("[DEC]", "[CLS]"),
        ("[CLS]", "[DEC]", "[DEC]"),
        ("[CLS]", "[SEP]"),
        ("[CLS]", "[CLS]"),
    ],
)
def test_frames_that_mean_nothing_are_refused(frame):
    with pytest.raises(
        DataError,
        match=re.escape(
            f"[CLS] and any of [DEC], [ENC], [MASK], each once, but came as {', '.join(frame)}: correct it"
        ),
    ):
        WordTokenizer(WORDS, 5, frame=frame)


def test_a_framed_context_has_room_for_a_word_too():
    assert WordTokenizer(WORDS, 3, frame=("[CLS]", "[DEC]"))(["a cat"])[0].tolist() == [[11, 2, 10]]
    with pytest.raises(
        DataError, match="room for a word and EOT, 3 or more tokens, but came as 2: raise it"
    ):
        WordTokenizer(WORDS, 2, frame=("[CLS]", "[DEC]"))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["model"]["vocab"].update({"[SEP]": 13}),
        lambda d: d["model"]["vocab"].update({"[DEC]": 11, "[CLS]": 12}),
        lambda d: d["model"]["vocab"].update({"Cat": 13}),
        lambda d: d["model"]["vocab"].update({"dog": "5"}),
        lambda d: d["model"].update(vocab=list(d["model"]["vocab"])),
        lambda d: d["post_processor"].update(single=d["post_processor"]["single"][1:]),
        lambda d: d.update(truncation=None),
    ],
)
def test_a_foreign_frame_is_refused_by_the_name_of_its_file(change, tmp_path):
    path = WordTokenizer(WORDS, context=6).with_frame().save(tmp_path)
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(
        CheckpointError,
        match="tokenizer.json is a WordLevel tokenizer with rules other than tinymm's",
    ):
        WordTokenizer.load(tmp_path)


def test_a_file_of_before_is_read_by_its_own_rules(tmp_path):
    path = WordTokenizer(("dogs'", "‘red’", "红猫"), context=5, split=_split_before).save(tmp_path)
    loaded = WordTokenizer.load(path)
    assert loaded.with_frame().split is _split_before and loaded.unknown(
        ["dogs' ‘red’ 红猫 dogs"]
    ) == {"dogs": 1}
    assert loaded(["dogs' ‘red’ 红猫"])[0].tolist() == [[2, 3, 4, 5]]


def test_words_below_the_count_are_left_out():
    assert WordTokenizer.from_captions(["a b", "b c c"], at_least=2).vocabulary == ("b", "c")
    assert WordTokenizer.from_captions(["a b", "b c c"]).context == 4
