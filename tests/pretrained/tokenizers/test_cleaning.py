"""CLIP's cleaning: the same with and without ftfy, or refused; beside ftfy where it is installed."""

import html
import re
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinymm.arrays.errors import DataError
from tinymm.pretrained.tokenizers.cleaning import cleaned, may_be_broken, straightened

ORDINARY = [
    "a dog’s ball",
    "“red” ball",
    "ﬁsh and chips",
    "a red ball",
    "„rot‘ — ‚blau’",
    "ＬＯＵＤ　Ｕﾀｰﾝ",
    "naïve café, Straße",
    "l’été «École» « École »",
    "¿qué? ¡olé!",
    "Łódź żółć",
    "日本語の猫",
    "แมวสีแดง",
    "красная кошка",
    "κόκκινη γάτα",
    "5′10″ ½ m² 20°C œuvre …",
    "CAFE\u0301 &amp;lt;b&gt; &EACUTE;",
    "a\x07b\x1b[31mc\ufeff",
    "🐱👍🏽",
]
BROKEN = [
    text.encode().decode(name)
    for text, name in (
        ("schön", "latin-1"),
        ("a dog’s ball", "cp1252"),
        ("кот", "cp1251"),
        ("naïve", "mac_roman"),
    )
]
LETTERS = (
    "aZ é Ã Â â € œ Ÿ ž ° « » “ ’ – … ½ É ß Ð Ñ в Р ё Ё і Î ΐ Ω ч 猫 ﬁ Ａ \t \n \r \x00 \x1b[1m "
    "\x85 \xa0 \u2028 \ufeff ? ; & < &amp; &eacute; &#8217; &#195;&#182;"
)
TEXTS = st.one_of(
    st.lists(st.sampled_from([*LETTERS.split(" "), " "]), max_size=8).map("".join),
    st.text(max_size=20),
    st.sampled_from(ORDINARY + BROKEN),
)


@pytest.fixture
def without_ftfy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_needs_no_ftfy(text, without_ftfy):
    assert not may_be_broken(text) and cleaned(text) == " ".join(cleaned(text).split())


def test_what_is_typed_and_what_is_printed_get_the_same_cleaning(without_ftfy):
    assert [cleaned(text) for text in ORDINARY[:5]] == [
        "a dog's ball",
        '"red" ball',
        "fish and chips",
        "a red ball",
        "\"rot' — 'blau'",
    ]
    assert (
        cleaned(ORDINARY[5]) == "loud uターン" and straightened("\ud83d\ude00\ud83d") == "😀\ufffd"
    )


@pytest.mark.parametrize("text", BROKEN)
def test_what_may_be_a_broken_encoding_is_refused_without_ftfy(text, without_ftfy):
    with pytest.raises(DataError, match="ftfy is not installed: pip install ftfy"):
        cleaned(text)


@example("\u00c3\u00a9")
@given(TEXTS)
def test_ftfy_makes_no_difference_to_what_is_not_refused(text):
    ftfy = pytest.importorskip("ftfy")
    right = re.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(text)))).strip().lower()
    assert cleaned(text) == right  # with the package
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ftfy", None)
        try:
            assert cleaned(text) == right
        except DataError:
            assert not text.isascii() or "&" in text


@given(st.text(max_size=20))
def test_straightening_twice_changes_nothing(text):
    assert straightened(straightened(text)) == straightened(text)
