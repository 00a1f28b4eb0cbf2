"""BERT's sub-words (Wu et al. 2016, §4.1): the tokenizer of ALBEF, BLIP and the Q-Former, from its published `vocab.txt` through `tokenizers`.

A text becomes [CLS] pieces [SEP]. BLIP adds two tokens behind the vocabulary, [DEC], 30522, and
[ENC], 30523, which stand for [CLS] where the model writes, or compares; BLIP-2 adds the first of
them, and ALBEF none.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError, UsageError
from tinymm.data.your_data.texts import lines_of

from .bpe import PIECES_CONTEXT, BytePairTokenizer, needed_library, utf8

NAME = "vocab.txt"
DEC, ENC, MASK = "[DEC]", "[ENC]", "[MASK]"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
#: How BLIP and LAVIS prepare a caption: these signs become spaces, and what follows the fiftieth
#: word is dropped.
_SIGNS, _MOST_WORDS = re.compile(r"[.!\"()*#:;~]"), 50
#: How ALBEF does: these disappear, others become spaces, and what follows the thirtieth word is
#: dropped.
_ALBEF_SIGNS, _ALBEF_SPACES, _ALBEF_MOST_WORDS = (
    re.compile(r"[,.'!?\"()*#:;~]"),
    re.compile("[-/]"),
    30,
)


def cleaned_caption(text: str) -> str:
    """Return a caption as BLIP and LAVIS clean it.

    >>> cleaned_caption("  A man, (riding) a HORSE!  ")
    'a man, riding a horse'
    """
    return " ".join(_SIGNS.sub(" ", text.lower()).split()[:_MOST_WORDS])


def albef_caption(text: str) -> str:
    """Return a caption as ALBEF cleans it; `<person>` stands in its web captions for each name.

    >>> albef_caption("  <PERSON>'s half-hearted HORSE, seen!  ")
    'persons half hearted horse seen'
    """
    spaced = _ALBEF_SPACES.sub(" ", _ALBEF_SIGNS.sub("", text.lower())).replace(
        "<person>", "person"
    )
    return " ".join(spaced.split()[:_ALBEF_MOST_WORDS])


CLEANING: dict[str | None, Callable[[str], str]] = {
    "blip": cleaned_caption,
    "albef": albef_caption,
    None: str,
}


class WordPieceTokenizer(BytePairTokenizer):
    """Texts -> `ids (B, T)` int64 and `is_real (B, T)` bool, each row [CLS], pieces, [SEP], and zeros.

    `begin`, `end_of_text`, `mask_token`, `decode_token` and `encode_token` are the ids of [CLS],
    [SEP], [MASK], [DEC] and [ENC]; the last two lie behind the vocabulary, and no cleaned text has
    them. A text of more than `context` tokens keeps its beginning and its [SEP]. `cleaning` is how
    captions are prepared, "blip" (BLIP-2 too) or "albef": weights know the words that they were
    trained on; None leaves them as they are, as Hugging Face's processors do. UsageError for
    another cleaning; a single text in place of a list is a DataError.
    """

    def __init__(
        self,
        library: Any,
        context: int = PIECES_CONTEXT,
        cleaning: str | None = "blip",
        beside: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        if cleaning not in CLEANING:
            names = " or ".join(repr(name) for name in CLEANING if name)
            raise UsageError(
                f"captions are cleaned as {names}, and {cleaning!r} came; take that of the weights' paper"
            )
        library.add_special_tokens([DEC, ENC])  # those that are there already keep their ids
        super().__init__(library, context, clean=False, beside=beside)
        self.cleaning = cleaning

    def _use(self, library: Any) -> None:
        super()._use(library)
        self.begin, self.end_of_text = map(library.token_to_id, ("[CLS]", "[SEP]"))
        self._silent = {library.token_to_id(token) for token in (*_SPECIAL, DEC, ENC)}

    def prepared(self, text: str) -> str:
        """Return a text as the library gets it: cleaned."""
        return CLEANING[self.cleaning](text)

    def tokens(self, text: str) -> list[str]:
        """Return the pieces that a cleaned text is read as, without its frame."""
        return self.library.encode(self.prepared(text), add_special_tokens=False).tokens

    def decode(self, ids: np.ndarray) -> list[str]:
        """Return the texts of rows of ids, of the special tokens with [MASK] only: a gap is a part of the text."""
        rows = [[int(i) for i in row if int(i) not in self._silent] for row in np.atleast_2d(ids)]
        return [self.library.decode(row, skip_special_tokens=False).strip() for row in rows]


def from_vocabulary(
    path: str | Path,
    context: int = PIECES_CONTEXT,
    cleaning: str | None = "blip",
    beside: dict[str, dict[str, Any]] | None = None,
) -> WordPieceTokenizer:
    """Return the tokenizer of a `vocab.txt`, a piece on each line; CheckpointError if it has no special tokens, or is not UTF-8."""
    library = needed_library("BERT's word pieces")
    lines = lines_of(utf8(Path(path).read_bytes(), Path(path).name).removesuffix("\n"))
    missing = [token for token in _SPECIAL if token not in lines]
    if missing or len(set(lines)) != len(lines):
        raise CheckpointError(
            f"{Path(path).name}: a vocabulary of BERT's has each piece once and {', '.join(_SPECIAL)}; {len(lines)} lines came without "
            f"{', '.join(missing) or 'a lack, but with repetitions'}; copy the file again"
        )
    ids = {piece: number for number, piece in enumerate(lines)}
    built = library.Tokenizer(
        library.models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100)
    )
    built.normalizer = library.normalizers.BertNormalizer(lowercase=True)
    built.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    built.decoder = library.decoders.WordPiece()
    frame = [("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    built.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=frame
    )
    built.add_special_tokens([*_SPECIAL, *([MASK] if MASK in ids else [])])
    return WordPieceTokenizer(built, context, cleaning, beside)
