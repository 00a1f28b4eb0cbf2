"""A byte-pair vocabulary learned from captions (Sennrich et al. 2016, §3.2), on bytes as in GPT-2."""

import json
from collections.abc import Iterable
from typing import Any

from tinymm.data.text import EOT, PAD
from tinymm.data.words import NORMALIZER

from .bpe import CONFIG, BytePairTokenizer, needed_library

#: Entries at most; few captions make fewer, for a pair is merged only if it stands there twice.
MOST = 8000
#: Bytes of the longest piece: whole captions of a script without spaces, said again and again,
#: would else become one.
LONGEST_PIECE = 16
LONGEST_CONTEXT = 77


def learned(
    captions: Iterable[str], *, most: int = MOST, context: int | None = None
) -> BytePairTokenizer:
    r"""Return a byte-pair tokenizer of at most `most` entries, the same for captions in any order.

    Texts are prepared as for `WordTokenizer` and end with [EOT], the largest id; no text has a
    token that is unknown. The context is that of the longest caption, at most 77, unless given.
    UsageError where the `tokenizers` package is missing.

    >>> tokenizer = learned(["a red cat", "a red dog"] * 2)
    >>> tokenizer.tokens("A red \u201cdog\u201d"), tokenizer.decode(tokenizer(["A dog."])[0])
    (['a', 'red', 'dog'], ['a dog'])
    """
    library = needed_library("a byte-pair vocabulary")
    blank = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    bytes_of = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": True,
        "use_regex": False,
    }
    at_spaces = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithNext",
        "invert": False,
    }
    rules: dict[str, Any] = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [*NORMALIZER["normalizers"], blank, strip]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [at_spaces, bytes_of]},
        "post_processor": None, "decoder": bytes_of, "model": {"type": "BPE", "vocab": {}, "merges": []},
    }  # fmt: skip
    built = library.Tokenizer.from_str(json.dumps(rules))
    trainer = library.trainers.BpeTrainer(
        vocab_size=most - 1, min_frequency=2, special_tokens=[PAD], initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=LONGEST_PIECE, show_progress=False,
    )  # fmt: skip
    texts = sorted(captions)
    built.train_from_iterator(texts, trainer)
    config = {
        "pad_token": PAD,
        "eos_token": EOT,
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
    }
    tokenizer = BytePairTokenizer(built, 2**20, clean=False, beside={CONFIG: config}).framed()
    longest = max((len(row.ids) for row in tokenizer.library.encode_batch(texts)), default=0)
    tokenizer.context = max(2, min(longest, LONGEST_CONTEXT)) if context is None else context
    return tokenizer
