"""Captions as a tokenizer reads them: their scripts, their tokens, and whether these are of use."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from ..words import split_words

#: Above so many different words, most of them seen once, parts of words are worth more.
MANY = 2000
_NAMES = {"CJK": "Chinese", "HANGUL": "Korean", "MYANMAR": "Burmese"}


def scripts(text: str) -> set[str]:
    r"""Return the scripts of a text's letters, by Unicode's names of them.

    >>> sorted(scripts("a \u7ea2 \u0e41\u0e21\u0e27 12"))
    ['Chinese', 'Latin', 'Thai']
    """
    if text.isascii():
        return {"Latin"} if any(letter.isalpha() for letter in text) else set()
    first = {unicodedata.name(letter, "UNNAMED").split()[0] for letter in text if letter.isalpha()}
    emoji = {
        "emoji"
        for letter in text
        if ord(letter) >= 0x1F000 and unicodedata.category(letter) == "So"
    }
    return {_NAMES.get(name, name.capitalize()) for name in first} | emoji


def reading(texts: Sequence[str], tokens: Callable[[str], list[str]] = split_words) -> list[str]:
    """Return lines on what a model is to see of captions, `tokens` being what one is cut into.

    >>> for line in reading(["a red cat", "a red dog"]):
    ...     print(line)
    scripts: Latin 2
    4 different tokens, 50% of them seen once; “a red cat” is read as a · red · cat
    """
    if not texts:
        return []
    found = Counter(name for text in texts for name in scripts(text))
    split = [tokens(text) for text in texts]
    counts = Counter(token for row in split for token in row)
    once = sum(count == 1 for count in counts.values()) / max(1, len(counts))
    example = min(range(len(texts)), key=lambda i: (abs(len(split[i]) - 8), i))
    cut = " · ".join(split[example][:12]) + " …" * (len(split[example]) > 12)
    named = ", ".join(f"{name} {count}" for name, count in found.most_common()) or "no letters"
    quoted = texts[example] if len(texts[example]) <= 60 else texts[example][:59] + "…"
    return [
        f"scripts: {named}",
        f"{len(counts):,} different tokens, {once:.0%} of them seen once; “{quoted}” is read as {cut}",
        *useless(split),
    ]


def useless(split: Sequence[Sequence[str]]) -> list[str]:
    """Return sentences on captions of one token, and on many tokens of which most are seen once.

    >>> useless([["red-cat"], ["blue-cat"], ["a", "dog"]])[0].partition(":")[0]
    '2 of 3 captions are one single word, 2 of these words occur once'
    """
    counts = Counter(token for row in split for token in row)
    alone = [row[0] for row in split if len(row) == 1]
    once = sum(counts[token] == 1 for token in alone)
    said = []
    if 2 * once > len(split):
        said.append(
            f"{len(alone):,} of {len(split):,} captions are one single word, {once:,} of these words "
            "occur once: nothing joins one caption to another; write spaces between words, or try "
            "--vocabulary bpe"
        )
    rare = sum(count == 1 for count in counts.values())
    if len(counts) > MANY and 2 * rare > len(counts):
        said.append(
            f"{len(counts):,} different words, {rare:,} of them once, which become one unknown word; "
            "--vocabulary bpe knows their parts"
        )
    return said
