"""What is one word: however it was typed, and in scripts that put no spaces between words."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.data.builtin import digits, glyphs, shapes
from tinymm.data.text import WordTokenizer
from tinymm.data.words import _split_before, joined_words, split_words

ASSIGNED = st.characters(exclude_categories=("Cs", "Cn", "Co"))
ODD = "aAbé’'‘“”- –—.,!?½™\u00a0\u200b\u200d\u200c猫红のﾂﾞカﾞ。「」น้ำแมวកខ្ញុំ̈İΣςẞ\u0345ا\u0628پहि👍🏽👨🇩🇪ﬁŉＡ１\ufeff\u3000\n\x1c´ʼ″"
TEXTS = st.one_of(st.text(ASSIGNED, max_size=20), st.text(st.sampled_from(ODD), max_size=20))
TYPED = st.lists(
    st.sampled_from(
        [
            "a",
            "fine",
            "red",
            "dog's",
            "dogs'",
            "'quoted'",
            '"said"',
            "café",
            "5'10",
            "minus-or-plus",
        ]
    ),
    max_size=8,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("“red” ‘ball’ „rot‘ «rouge» ‹vert›", "red ball rot rouge vert"),
        ("the dog’s, the dogs’ and rock ’n’ roll", "the dog's the dogs and rock n roll"),
        ("don´t donʼt don‛t", "don't don't don't"),
        ("cat – dog — bird‒fox", "cat dog bird fox"),
        ("minus\u2010or\u2011plus −5", "minus-or-plus -5"),
        ("ﬁsh ﬂag o\ufb03ce ＣＡＴ５", "fish flag office cat5"),
        ("re\u200bd\u00adder \ufeffcat\u200e ca\u200dt", "redder cat cat"),
        ("a\u00a0red\u202fcat\u3000here", "a red cat here"),
        ("1½ LEGO™ bricks®…", "1 1/2 lego bricks"),
        ("A\u0308pfel ÄPFEL H\u0331", "äpfel äpfel ẖ"),
        ("¿Qué? ¡Olé! είναι; ماذا؟ नमस्ते।", "qué olé είναι ماذا नमस्ते"),
    ],
)
def test_what_a_word_processor_writes_is_what_was_typed(text, words):
    assert split_words(text) == words.split()


@given(TYPED)
def test_typed_and_printed_forms_are_the_same_words(typed):
    text = " ".join(typed)
    printed = (
        text.replace("'", "’")
        .replace('"', "”")
        .replace("fi", "ﬁ")
        .replace(" ", "\u00a0")
        .replace("-", "\u2011")
    )
    wide = "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text)
    for form in (
        printed,
        wide,
        unicodedata.normalize("NFD", text),
        "\u200b".join(text),
        "\ufeff" + text,
    ):
        assert split_words(form) == split_words(text)


@given(st.text(st.characters(codec="ascii"), max_size=30))
def test_of_ascii_only_apostrophes_outside_of_words_have_changed(text):
    assert split_words(text.replace("'", " ")) == _split_before(text.replace("'", " "))
    assert split_words(f"a dog's {text.replace(chr(39), '')}") == _split_before(
        f"a dog's {text.replace(chr(39), '')}"
    )


@pytest.mark.parametrize(
    "data",
    [glyphs, shapes, pytest.param(digits, marks=pytest.mark.data)],
    ids=lambda data: data.__name__,
)
def test_the_built_in_captions_have_the_words_that_they_had(data):
    if data is digits:
        pytest.importorskip("sklearn")
    captions = [caption for some in data.load().captions() for caption in some]
    assert [split_words(caption) for caption in captions] == [
        _split_before(caption) for caption in captions
    ]


@given(TEXTS)
def test_a_word_is_its_own_only_word(text):
    words = split_words(text)
    assert [split_words(word) for word in words] == [[word] for word in words]
    assert split_words(joined_words(words)) == words
    if words:
        WordTokenizer.from_captions([text])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("一只红色的猫，在iPhone上！", "一 只 红 色 的 猫 在 iphone 上"),
        ("赤い猫が「走る」ｶﾞ", "赤 い 猫 が 走 る ガ"),
        ("น้ำสีแดง ที่นี่", "น้ำ สี แ ด ง ที่ นี่"),
        ("ຂ້ອຍ ນ້ຳ", "ຂ້ ອ ຍ ນ້ຳ"),
        ("ខ្ញុំ។", "ខ្ញុំ"),
        ("ကျွန်တော်။", "ကျွ န် တော်"),
        ("བོད་སྐད།", "བོ ད སྐ ད"),
        ("我有2只cat和🐱🐶👍🏽🇩🇪", "我 有 2 只 cat 和 🐱 🐶 👍🏽 🇩🇪"),
        ("빨간 고양이", "빨간 고양이"),  # Korean has spaces
        ("می‌خواهم", "می‌خواهم"),
    ],
)
def test_characters_of_scripts_without_spaces_are_words_with_their_marks(text, words):
    assert split_words(text) == words.split()


def test_captions_are_written_without_spaces_where_there_are_none():
    tokenizer = WordTokenizer.from_captions(["一只红色的猫 and a cat", "แมวสีแดง"])
    assert tokenizer.decode(tokenizer(["一只红色的猫 and a cat", "สีแดง"])[0]) == [
        "一只红色的猫 and a cat",
        "สีแดง",
    ]
