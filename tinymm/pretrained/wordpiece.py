"""BERT's sub-words: the tokenizer of ALBEF, BLIP and the Q-Former, from its published `vocab.txt` (bert-base-uncased) through `tokenizers`.

A text becomes [CLS] pieces [SEP]. BLIP-2 adds one token behind the vocabulary, [DEC], 30522, which stands for [CLS] where the model writes.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError, DataError

from .tokenization import BytePairTokenizer, needed_library

NAME = "vocab.txt"
DEC = "[DEC]"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
#: How LAVIS and BLIP prepare a caption: these signs become spaces, and what follows the fiftieth word is dropped.
_SIGNS, _MOST_WORDS = re.compile(r"[.!\"()*#:;~]"), 50
_CONTEXT = 32


def cleaned_caption(text: str) -> str:
    """Return a caption as BLIP and LAVIS clean it.

    >>> cleaned_caption("  A man, (riding) a HORSE!  ")
    'a man, riding a horse'
    """
    return " ".join(_SIGNS.sub(" ", text.lower()).split()[:_MOST_WORDS])


class WordPieceTokenizer(BytePairTokenizer):
    """Texts -> `ids (B, T)` int64 and `is_real (B, T)` bool, each row [CLS], pieces, [SEP], and zeros; `begin`, `decode_token`, `end_of_text`.

    A text of more than `context` tokens keeps its beginning and its [SEP].
    """

    def __init__(self, library: Any, context: int = _CONTEXT) -> None:
        super().__init__(library, context, clean=False)
        self.begin, self.decode_token = library.token_to_id("[CLS]"), library.token_to_id(DEC)
        self.end_of_text = library.token_to_id("[SEP]")

    def __call__(self, texts: Sequence[str], /) -> tuple[np.ndarray, np.ndarray]:
        """Return the cleaned texts' ids and which of them are no padding."""
        if isinstance(texts, str):
            raise DataError(f"a tokenizer takes a list of texts, the single text {texts[:40]!r} came; write [text]")
        return super().__call__([cleaned_caption(text) for text in texts])


def from_vocabulary(path: str | Path, context: int = _CONTEXT) -> WordPieceTokenizer:
    """Return the tokenizer of a `vocab.txt`, a piece on each line; CheckpointError if it has no special tokens."""
    library = needed_library("BERT's word pieces")
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    missing = [token for token in _SPECIAL if token not in lines]
    if missing or len(set(lines)) != len(lines):
        raise CheckpointError(
            f"{Path(path).name}: a vocabulary of BERT's has each piece once and {', '.join(_SPECIAL)}; {len(lines)} lines came without "
            f"{', '.join(missing) or 'a lack, but with repetitions'}; copy the file again"
        )
    ids = {piece: number for number, piece in enumerate(lines)}
    built = library.Tokenizer(library.models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    built.normalizer = library.normalizers.BertNormalizer(lowercase=True)
    built.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    built.decoder = library.decoders.WordPiece()
    frame = [("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    built.post_processor = library.processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    built.add_special_tokens([*_SPECIAL, *([] if DEC in ids else [DEC])])
    return WordPieceTokenizer(built, context)
