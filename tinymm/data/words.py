"""Splitting captions into words, with Unicode normalization: the same for every text on every machine.

What a word processor puts in place of typed characters makes no other word: curly quotation marks
and apostrophes, dashes, ligatures, letters of full width, invisible characters (the compatibility
forms of Unicode, UAX #15). Where a script has no spaces between words, each character is one.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

PUNCTUATION = '.,!?;:"()*#~'


def _letters(ranges: str) -> str:
    """Return the inside of a pattern's brackets for code points and ranges in hexadecimal."""
    return "".join(
        "-".join(chr(int(end, 16)) for end in part.split("-")) for part in ranges.split()
    )


# What stands for itself between two others without a space: Thai, Lao, Tibetan, Burmese, Khmer, Tai
# scripts, Javanese, Balinese,
# Han, kana, bopomofo, Yi, Tangut, Nushu, and pictographs. Written out, for the Unicode of Python
# and of the library may differ.
_UNSPACED = _letters(
    "0E01-0E30 0E32 0E40-0E46 0E81-0EB0 0EB2 0EBD 0EC0-0EC6 0EDC-0EDF 0F00 0F40-0F6C "
    "0F88-0F8C 1000-102A 103F 104C-104F 1050-1055 105A-105D 1061 1065-1066 106E-1070 "
    "1075-1081 108E A9E0-A9E4 A9E6-A9EF A9FA-A9FE AA60-AA76 AA7A AA7E-AA7F 1780-17B3 17D7 "
    "17DC 1950-196D 1970-1974 1980-19AB 19B0-19C9 1A20-1A54 AA80-AAAF AAB1 AAB5-AAB6 "
    "AAB9-AABD AAC0 AAC2 AADB-AADD A984-A9B2 1B05-1B33 1B45-1B4C 2E80-2FDF 3005-3007 "
    "3021-3029 3031-3035 3038-303C 3041-3096 309B-309F 30A1-30FA 30FC-30FF 3105-312F "
    "31A0-31BF 31F0-31FF 3400-4DBF 4E00-A48C F900-FAFF 16FE0-16FE3 17000-18DFF 1AFF0-1B2FF "
    "1F000-1F3FA 1F400-1FAFF 20000-3FFFF"
)
_FLAGS = _letters("1F1E6-1F1FF")
#: Vowel signs, tones and accents, which stay with the letter before them; and what stacks the
#: letter behind it below the one before.
_MARKS = _letters(
    "0E31 0E33-0E3A 0E47-0E4E 0EB1 0EB3-0EBC 0EC8-0ECE 0F18-0F19 0F35 0F37 0F39 0F3E-0F3F "
    "0F71-0F84 0F86-0F87 0F8D-0FBC 0FC6 102B-103E 1056-1059 105E-1060 1062-1064 1067-106D "
    "1071-1074 1082-108D 108F 109A-109D A9E5 AA7B-AA7D 17B4-17D3 17DD 1A55-1A7F AAB0 "
    "AAB2-AAB4 AAB7-AAB8 AABE-AABF AAC1 A980-A983 A9B3-A9C0 1B00-1B04 1B34-1B44 1B6B-1B73 "
    "302A-302F 3099-309A 0300-036F 1AB0-1AFF 1DC0-1DFF 20D0-20FF FE20-FE2F 1F3FB-1F3FF "
    "E0020-E007F"
)
_STACKS = _letters("17D2 1039 1A60 A9C0 1B44")
#: Arabic and the scripts of India, where an invisible joiner between two letters is a matter of
#: spelling.
_JOINED = _letters("0620-065F 066E-06D3 06D5-06DC 0750-077F 08A0-08FF 0900-0963 0971-0DF3")
_INVISIBLE = _letters(
    "00AD 034F 061C 180B-180E 200B 200E-200F 202A-202E 2060-206F FE00-FE0F FEFF FFF9-FFFC "
    "E0100-E01EF"
)
_SIGNS = re.escape(PUNCTUATION) + _letters(
    "00A1 00AB 00BB 00BF 055A-055F 0589 05BE 05C0 05C3 060C-060D 061B 061D-061F 06D4 "
    "0700-070D 0964-0965 0970 0DF4 0E4F 0E5A-0E5B 0F04-0F14 0F3A-0F3D 0FD0-0FD4 104A-104B "
    "10FB 1361-1368 17D4-17D6 17D8-17DA 1800-180A 1B5A-1B60 2012-2027 2032-2038 2039-203E "
    "2041-2043 2045-2046 204A-2051 2053-205E 2308-230B 27E6-27EF 2983-2998 29FC-29FD "
    "2E00-2E5D 3001-3003 3008-3011 3014-301F 3030 303D 30A0 30FB A4FE-A4FF A8CE-A8CF A92F "
    "A9C1-A9CD FD3E-FD3F FE45-FE46"
)
# Rust's white space, which is Python's without the four ASCII separators 1C to 1F: the library and
# we split alike.
_BLANK = _letters("9-D 20 85 A0 1680 2000-200A 2028-2029 202F 205F 3000")
_IN_A_WORD = f"[^{_BLANK}{_SIGNS}{_UNSPACED}{_MARKS}']"
_SHARES = ("1/4", "1/2", "3/4", "1/3", "2/3")
#: How a text is prepared, step by step, a pattern with its replacement or the name of a rule, by us
#: and in the file for others alike:
#: what word processors put in place of typed characters goes back, and an apostrophe that is inside
#: no word is a quotation mark.
STEPS: tuple[str | tuple[str, str], ...] = (
    (f"[{_INVISIBLE}]", ""),
    (f"(?<![{_JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINED}])", ""),
    ("[\u00b4\u1ffd]", "'"),  # of which NFKC makes a space and a combining accent
    ("[\u00a9\u00ae\u2120\u2122]", " "),
    *((sign, f" {share} ") for sign, share in zip("\u00bc\u00bd\u00be\u2153\u2154", _SHARES, strict=True)),
    "NFKC", "Lowercase", "NFC",
    ("\u0e4d\u0e32", "\u0e33"), ("\u0ecd\u0eb2", "\u0eb3"),  # vowels that NFKC takes apart
    ("[\u02bc\u2018-\u201b\u2032]", "'"), ("[\u2010\u2011\u2212]", "-"), ("\u2044", "/"),
    (f"(?<!{_IN_A_WORD})'|'(?!{_IN_A_WORD})", " "),
    (f"[{_SIGNS}]", " "),
)  # fmt: skip
#: One character of a script without spaces, with its marks; a flag is two letters of its own.
CHARACTER = f"[{_FLAGS}]{{2}}|[{_UNSPACED}](?:[{_STACKS}][{_UNSPACED}]|[{_MARKS}])*"
_PIECES = re.compile(f"{CHARACTER}|[^{_UNSPACED}]+")
_CHARACTER = re.compile(CHARACTER)
_STEPS_HERE = tuple(
    step if isinstance(step, str) else (re.compile(step[0]), step[1]) for step in STEPS
)
_PLAIN, _EDGES = re.compile(f"[{PUNCTUATION}]"), re.compile(f"(?<!{_IN_A_WORD})'|'(?!{_IN_A_WORD})")
_SPACE = re.compile(f"[{_BLANK}]+")


def prepared(text: str) -> str:
    r"""Return a text as its words are cut from it: lower case, composed, punctuation as spaces.

    >>> prepared("\u201cFish\u201d \u2013 the dog\u2019s").split()
    ['fish', 'the', "dog's"]
    """
    if text.isascii():  # the same in fewer steps
        return _PLAIN.sub(" ", _EDGES.sub(" ", text.lower()) if "'" in text else text.lower())
    for step in _STEPS_HERE:
        if not isinstance(step, str):
            text = step[0].sub(step[1], text)
        # Letter by letter: str.lower looks at neighbors (final sigma) and the library does not.
        else:
            text = (
                "".join(letter.lower() for letter in text)
                if step == "Lowercase"
                else unicodedata.normalize(step, text)  # type: ignore[arg-type]
            )
    return text


def split_words(text: str) -> list[str]:
    r"""Return a caption's words; in scripts without spaces (Chinese, Thai) each character is one.

    >>> split_words("A cat, minus-or-plus a DOG!"), split_words("\u7ea2\u732b and \u72d7")
    (['a', 'cat', 'minus-or-plus', 'a', 'dog'], ['红', '猫', 'and', '狗'])
    """
    words = [word for word in _SPACE.split(prepared(text)) if word]
    return words if text.isascii() else [piece for word in words for piece in _PIECES.findall(word)]


def among(text: str, texts: Iterable[str]) -> bool:
    """Say whether a text is one of these, word by word.

    >>> among("a red cat", ["The cat.", "A red cat."])
    True
    """
    return split_words(text) in map(split_words, texts)


def joined_words(words: Iterable[str]) -> str:
    r"""Return words as a text, without spaces between characters of scripts that have none.

    >>> joined_words(["\u7ea2", "\u732b", "and", "\u72d7"])
    '红猫 and 狗'
    """
    text, before = "", False
    for word in words:
        unspaced = _CHARACTER.match(word) is not None
        text += word if unspaced and before else f" {word}"
        before = unspaced
    return text[1:] if text.startswith(" ") else text


def _split_before(text: str) -> list[str]:
    """Split as the files of tinymm's first runs say: at white space and ASCII punctuation only."""
    lower = text.lower() if text.isascii() else "".join(letter.lower() for letter in text)
    return [word for word in _SPACE.split(_PLAIN.sub(" ", lower)) if word]


def _as_replacement(step: str | tuple[str, str]) -> dict[str, Any]:
    """Return a step as the `tokenizers` library writes it."""
    if isinstance(step, str):
        return {"type": step}
    return {"type": "Replace", "pattern": {"Regex": step[0]}, "content": step[1]}


_AT_SPACE = {"type": "WhitespaceSplit"}
_AT_CHARACTERS = {
    "type": "Split",
    "pattern": {"Regex": CHARACTER},
    "behavior": "Isolated",
    "invert": False,
}
#: The steps before the split, in the library's words.
NORMALIZER = {"type": "Sequence", "normalizers": [_as_replacement(step) for step in STEPS]}
#: For each way to split, what the library's file calls it: ours, and that of files written before
#: there was a second.
IN_THE_FILE: dict[Callable[[str], list[str]], dict[str, Any]] = {
    split_words: {
        "normalizer": NORMALIZER,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [_AT_SPACE, _AT_CHARACTERS]},
    },
    _split_before: {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Lowercase"},
                _as_replacement((f"[{re.escape(PUNCTUATION)}]", " ")),
            ],
        },
        "pre_tokenizer": _AT_SPACE,
    },
}
