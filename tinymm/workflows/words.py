"""Which words a model is trained on: the captions', byte pairs learned from them, or another's."""

import copy
from collections.abc import Callable
from typing import Any

from tinymm import pretrained
from tinymm.arrays.errors import UsageError
from tinymm.data.batches import Source
from tinymm.data.text import WordTokenizer
from tinymm.data.your_data.reading import useless
from tinymm.pretrained.tokenizers.learned import learned

#: What `--vocabulary` may be.
VOCABULARIES = ("words", "bpe")


def choose(
    source: Any,
    tokenizer: str | None,
    vocabulary: str,
    *,
    cleaning: str = "blip",
    run: str | None = None,
) -> Any:
    """Return what to train on this data with: a folder's tokenizer, byte pairs, or its words.

    `run` is the folder of a run that goes on, whose own tokenizer comes first. A folder's texts end
    with a token even where they did without, and take no more room than the longest caption.
    UsageError for another vocabulary, or for two choices at once.
    """
    if vocabulary not in VOCABULARIES:
        raise UsageError(
            f"--vocabulary is {' or '.join(VOCABULARIES)}, and {vocabulary!r} came; leave it out for words"
        )
    if tokenizer and vocabulary != "words":
        raise UsageError(
            f"--tokenizer {tokenizer} brings its own vocabulary, and --vocabulary {vocabulary} came too; leave one of them out"
        )
    if run:
        return pretrained.tokenizer(run, cleaning=cleaning)
    texts = training_texts(source)
    if vocabulary == "bpe":
        return learned(texts)
    if not tokenizer:
        return source.tokenizer
    found: Any = pretrained.tokenizer(tokenizer, cleaning=cleaning)
    if isinstance(found, WordTokenizer):
        return found
    found = copy.copy(found.framed())
    longest = max(
        (len(row) for row in found.library.encode_batch([found.prepared(text) for text in texts])),
        default=2,
    )
    found.context = max(2, min(found.context, longest))
    return found


def training_texts(source: Source) -> list[str]:
    """Return all training captions of a source."""
    return [caption for some in source.captions() for caption in some]


def reads_any_text(tokenizer: Any) -> bool:
    """Say whether a tokenizer has no vocabulary of whole words, which data would have to share."""
    return not isinstance(tokenizer, WordTokenizer)


def shared(source: Any, tokenizer: Any) -> bool:
    """Say whether a tokenizer reads built-in data: it has its words, or sub-words, and replaces it."""
    if reads_any_text(tokenizer):
        source.tokenizer = tokenizer
        return True
    return source.tokenizer.vocabulary == tokenizer.vocabulary


def warn(source: Any, say: Callable[[str], None]) -> None:
    """Say so where the words that a model is to see are of little use; sub-words always are of some."""
    if not reads_any_text(source.tokenizer):
        for sentence in useless([source.tokenizer.tokens(text) for text in training_texts(source)]):
            say(sentence)
