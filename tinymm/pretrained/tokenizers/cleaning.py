"""How CLIP's tokenizer cleans a text (openai/CLIP, `clip/simple_tokenizer.py`).

It runs `ftfy.fix_text`, `html.unescape` twice, strips and lowers. What `ftfy` does to whole text is
done here, so that it makes no difference whether that package is installed: escapes, ligatures,
letters of full and half width, curly quotation marks, control characters, NFC. Text whose encoding
was broken ("schÃ¶n") only `ftfy` can tell from text that looks like it: such text goes to `ftfy`,
and is refused where it is missing.
"""

import html
import re
import unicodedata
from functools import cache
from html.entities import html5

from tinymm.arrays.errors import DataError

_LIGATURES = str.maketrans(
    dict(
        zip(
            "ĲĳŉǱǲǳǄǅǆǇǈǉǊǋǌﬀﬁﬂﬃﬄﬅﬆ",
            "IJ ij ʼn DZ Dz dz DŽ Dž dž LJ Lj lj NJ Nj nj ff fi fl ffi ffl ſt st".split(),
            strict=True,
        )
    )
)
_WIDTHS = str.maketrans(
    {"\u3000": " "}
    | {chr(code): unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFFF0)}
)
_QUOTES = str.maketrans(
    dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')
)
_BREAKS = re.compile("\r\n|[\r\u2028\u2029\u0085]")
_PAIR, _HALF = re.compile("[\ud800-\udbff][\udc00-\udfff]"), re.compile("[\ud800-\udfff]")
_TERMINAL = re.compile("\033\\[((?:\\d|;)*)([a-zA-Z])")
_CONTROL = re.compile("[\0-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]")
_ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,24};")
#: Encodings of one byte a letter in which UTF-8 has been misread; a text may mix the first seven.
_ONE_BYTE = (
    "latin-1",
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "cp1257",
    "iso8859-2",
    "mac_roman",
    "cp437",
)
_MIXED = 7
_CONTINUED = "[\x80-\xbf ?\x1a]".encode("latin-1")


def cleaned(text: str) -> str:
    r"""Return a text as CLIP's tokenizer cleans it; DataError if that needs `ftfy`, which is missing.

    >>> cleaned("  Fish &amp;amp; \u201cCHIPS\u201d ")
    'fish & "chips"'
    """
    return re.sub(r"\s+", " ", html.unescape(html.unescape(_repaired(text)))).strip().lower()


def _repaired(text: str) -> str:
    """Return what `ftfy.fix_text` does, by lines; from the first "<" on escapes are left alone."""
    lines, escaped = [], True
    for line in re.findall("[^\n]*\n|[^\n]+", text):
        escaped = escaped and "<" not in line
        before = None
        while before != line:
            before = line
            line = _ENTITY.sub(_unescaped, line) if escaped else line
            if may_be_broken(line):
                return _by_ftfy(text)
            line = straightened(line)
        lines.append(line)
    return "".join(lines)


def straightened(text: str) -> str:
    r"""Return a text with a typewriter's signs for printed ones, no control characters, in NFC.

    >>> straightened("\ufb01sh \u2019n\u2019 \uff23hips")
    "fish 'n' Chips"
    """
    if not text.isascii():
        text = text.translate(_LIGATURES).translate(_WIDTHS).translate(_QUOTES)
    text = _PAIR.sub(
        lambda found: found[0].encode("utf-16", "surrogatepass").decode("utf-16"),
        _BREAKS.sub("\n", text),
    )
    return unicodedata.normalize(
        "NFC", _CONTROL.sub("", _TERMINAL.sub("", _HALF.sub("\ufffd", text)))
    )


def _by_ftfy(text: str) -> str:
    try:
        import ftfy
    except ImportError:
        raise DataError(
            f"CLIP's tokenizer repairs broken encodings with ftfy, and {text[:40]!r} may be one, but "
            "ftfy is not installed: pip install ftfy."
        ) from None
    return ftfy.fix_text(text)


def _unescaped(found: re.Match[str]) -> str:
    name = found[0]
    if name.startswith("&#"):
        made = html.unescape(name)
        return name if ";" in made else made
    if name[1:] in html5:
        return html5[name[1:]]
    lower = name.lower()  # &EACUTE; is no entity, yet it is meant as one
    return (
        html5[lower[1:]].upper()
        if name == name.upper() and lower[1:] in html5 and html.unescape(name) == name
        else name
    )


def may_be_broken(text: str) -> bool:
    r"""Say whether a text looks like misread UTF-8; every one that `ftfy` would repair does.

    >>> may_be_broken("sch\u00c3\u00b6n"), may_be_broken("sch\u00f6n, \u00abl\u2019\u00e9t\u00e9")
    (True, False)
    """
    if text.isascii():
        return False
    if re.search("[\x80-\x9f\ufffd]|[\xc2\xc3][ \xa0]|[\xc2\xc3]$", text):
        return True
    if not re.search("[^\0-\x7f]{2}|[\u0152\u0153](?![A-Za-z])", text):
        return False  # a misread letter is at least two, neither of them ASCII
    return _sequences().search(text) is not None or any(
        _is_misread(text, encoding) for encoding in _ONE_BYTE
    )


def _is_misread(text: str, encoding: str) -> bool:
    """Say whether a text's bytes in this encoding are UTF-8, also with lost bytes."""
    try:
        content = text.encode(encoding)
    except UnicodeEncodeError:
        return False
    sequence = b"[\xc0-\xdf]%b|[\xe0-\xef]%b{2}|[\xf0-\xf7]%b{3}" % ((_CONTINUED,) * 3)
    return re.fullmatch(b"(?:[\0-\x7f]|%b)+" % sequence, content) is not None


@cache
def _sequences() -> re.Pattern[str]:
    """Return what finds letters that are UTF-8's first and further bytes in Western encodings."""

    def letters(first: int, last: int) -> str:
        raw = (
            bytes([byte]).decode(name, errors="ignore")
            for name in _ONE_BYTE[:_MIXED]
            for byte in range(first, last + 1)
        )
        return re.escape("".join(sorted(set(raw))))

    further, two, three, four = (
        letters(0x80, 0xBF),
        letters(0xC0, 0xDF),
        letters(0xE0, 0xEF),
        letters(0xF0, 0xF7),
    )
    some = f"[{two}][{further} ]|[{three}][{further} ]{{2}}|[{four}][{further} ]{{3}}"
    return re.compile(
        f"[{two}{three}][{further}]{{1}}(?:(?<=[{two}].)|[{further} ])|[{four}](?:[{further}][{further} ]{{2}}|[ ][{further}]{{2}})"
        f"|(?:[{three}] |[{four}] {{2}}|[{four}][{further}] )[{further}](?:{some})"
    )
