"""Word-level tokenization: a vocabulary of words, for captions that are names or short sentences.

Sub-words (BPE, WordPiece) earn their keep where words are many, on the open web; on 600 words they
only hide what the model reads. The file format is the `tokenizers` library's own, so that others
can open what we save, yet it is read here with `json` alone.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError, DataError
from tinymm.arrays.files import atomic

from .words import IN_THE_FILE, PUNCTUATION, joined_words, split_words

PAD, UNK, EOT, CLS, DEC, ENC, MASK = "[PAD]", "[UNK]", "[EOT]", "[CLS]", "[DEC]", "[ENC]", "[MASK]"
PAD_ID, UNK_ID = 0, 1


class WordTokenizer:
    """A word-level tokenizer, one id a word: PAD is 0, UNK is 1, the vocabulary follows in its order, and EOT, the largest id, ends every caption.

    EOT is the largest so that a text encoder finds it as CLIP's does, at the argmax of the ids. A
    caption longer than `context - 1` words loses its end and keeps its EOT; `cut` counts how often
    that has happened.

    With a `frame` a caption also begins with a token of its own, CLS, as BERT's do, and there are
    more that no caption holds: DEC and ENC, which take CLS's place where a model is to write or to
    compare, and MASK, which hides a word. Their ids are `begin`, `decode_token`, `encode_token` and
    `mask_token`; the words keep theirs. DataError for a vocabulary, context or frame that cannot be
    used, and for a single text in place of a list.

    >>> tokenizer = WordTokenizer(("cat", "dog"), context=4)
    >>> ids, is_real = tokenizer(["dog", "a cat"])
    >>> ids.tolist(), is_real.tolist()
    ([[3, 4, 0], [1, 2, 4]], [[True, True, False], [True, True, True]])
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        context: int,
        *,
        frame: Sequence[str] = (),
        split: Callable[[str], list[str]] = split_words,
    ) -> None:
        self.vocabulary, self.split = tuple(vocabulary), split
        self.context = int(context)
        self.frame = tuple(frame)
        self.cut = 0
        unusable = [word for word in self.vocabulary if split(word) != [word]]
        if unusable:
            raise DataError(
                f"A vocabulary holds single lower-case words without {PUNCTUATION} but has {unusable[:3]}: split them first."
            )
        distinct = len(set(self.vocabulary))
        if not 0 < distinct == len(self.vocabulary):
            raise DataError(
                f"A vocabulary has words, each once, but {len(self.vocabulary)} came, {distinct} of them distinct: sort a set."
            )
        if self.context < 2 + self.framed:
            raise DataError(
                f"A context has room for a word and EOT, {2 + self.framed} or more tokens, but came as {context}: raise it."
            )
        if self.frame and (
            self.frame[0] != CLS
            or len(set(self.frame)) < len(self.frame)
            or set(self.frame) - {CLS, DEC, ENC, MASK}
        ):
            raise DataError(
                f"A frame is {CLS} and any of {DEC}, {ENC}, {MASK}, each once, but came as {', '.join(self.frame)}: correct it."
            )
        self.pad, self.unknown_id, self.end_of_text = PAD_ID, UNK_ID, len(self.vocabulary) + 2
        special = {name: self.end_of_text + place for place, name in enumerate(self.frame, start=1)}
        self.begin, self.decode_token, self.encode_token, self.mask_token = map(
            special.get, (CLS, DEC, ENC, MASK)
        )
        self._ids = {word: number for number, word in enumerate(self.vocabulary, start=2)}

    @property
    def framed(self) -> bool:
        """Whether captions begin with CLS."""
        return bool(self.frame)

    def with_frame(self, *more: str) -> "WordTokenizer":
        """Return the same words with CLS in front and `more` tokens at hand, DEC if none is named, and one token more context.

        >>> WordTokenizer(("cat", "dog"), context=4).with_frame()(["dog"])[0].tolist()
        [[5, 3, 4]]
        """
        return WordTokenizer(
            self.vocabulary,
            self.context + (not self.framed),
            frame=(CLS, *(more or (DEC,))),
            split=self.split,
        )

    @classmethod
    def from_captions(
        cls, captions: Iterable[str], *, context: int | None = None, at_least: int = 1
    ) -> "WordTokenizer":
        """Return a tokenizer of the words that stand in `captions` at least so often, in alphabetical order.

        >>> WordTokenizer.from_captions(["red cat", "red dog"], at_least=2).vocabulary
        ('red',)
        """
        split = [split_words(caption) for caption in captions]
        counts = Counter(word for words in split for word in words)
        longest = max(map(len, split), default=0)
        kept = sorted(word for word, count in counts.items() if count >= at_least)
        return cls(kept, max(2, longest + 1) if context is None else context)

    def __len__(self) -> int:
        return len(self.vocabulary) + 3 + len(self.frame)

    def __call__(self, texts: Sequence[str], /) -> tuple[np.ndarray, np.ndarray]:
        """Return `ids (B, T)` int64 and `is_real (B, T)` bool, T being the longest of these texts with its EOT."""
        if isinstance(texts, str):
            raise DataError(
                f"A tokenizer takes a list of texts but got the single text {texts[:40]!r}: write [text]."
            )
        rows = []
        for text in texts:
            row = [] if self.begin is None else [self.begin]
            row += [self._ids.get(word, UNK_ID) for word in self.split(text)]
            self.cut += len(row) >= self.context
            rows.append(row[: self.context - 1] + [self.end_of_text])
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        ids = np.full((len(rows), lengths.max(initial=0)), PAD_ID, dtype=np.int64)
        is_real = np.arange(ids.shape[1]) < lengths[:, None]
        ids[is_real] = [number for row in rows for number in row]
        return ids, is_real

    def decode(self, ids: np.ndarray) -> list[str]:
        """Return the words of each row of `ids (B, T)` up to its EOT, `[UNK]` where a word was unknown.

        DataError for ids outside of the vocabulary.
        """
        ids = np.atleast_2d(ids)
        if ids.size and not 0 <= ids.min() <= ids.max() < len(self):
            raise DataError(
                f"Token ids go from 0 to {len(self) - 1} but came as {ids.min()} to {ids.max()}: use the ids' own tokenizer."
            )
        names = (PAD, UNK, *self.vocabulary)
        names += (EOT, *self.frame)
        silent = {PAD_ID, *(names.index(name) for name in self.frame if name != MASK)}
        texts = []
        for row in ids.tolist():
            end = row.index(self.end_of_text) if self.end_of_text in row else len(row)
            texts.append(
                joined_words(names[number] for number in row[:end] if number not in silent)
            )
        return texts

    def tokens(self, text: str) -> list[str]:
        """Return the words that a text is read as, without its frame."""
        return self.split(text)

    def unknown(self, texts: Iterable[str]) -> dict[str, int]:
        """Return the words of `texts` that are not in the vocabulary, the most frequent first, with their counts."""
        counts = Counter(
            word for text in texts for word in self.split(text) if word not in self._ids
        )
        return dict(counts.most_common())

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `tokenizer.json`, which the `tokenizers` library reads alike, and return its path.

        Beside it `tokenizer_config.json`, with which
        `transformers.AutoTokenizer.from_pretrained(folder)` does so too.
        """
        tokens = {"pad_token": PAD, "unk_token": UNK, "eos_token": EOT}
        tokens |= {"cls_token": CLS, "bos_token": CLS} if self.framed else {}
        write_config(
            folder, self.context, tokens | ({"mask_token": MASK} if MASK in self.frame else {})
        )
        path = Path(folder) / "tokenizer.json"
        with atomic(path) as file:
            file.write(json.dumps(_layout(self), indent=1, ensure_ascii=False).encode())
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "WordTokenizer":
        """Read what `save` wrote, from its folder or file; CheckpointError for a `tokenizer.json` of another kind, a damaged one, or none."""
        path = Path(path)
        path = path / "tokenizer.json" if path.is_dir() else path
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            kind = found["model"]["type"]
            words = found["model"]["vocab"]
            context = int(found["truncation"]["max_length"]) if found.get("truncation") else 0
        except FileNotFoundError:
            raise CheckpointError(
                f"A word-level tokenizer is a tokenizer.json, but {path} is not there."
            ) from None
        except (ValueError, KeyError, TypeError) as problem:
            raise CheckpointError(
                f"{path} is no tokenizer.json that can be read ({problem!r}): save it again."
            ) from None
        if kind != "WordLevel":
            raise CheckpointError(
                f"{path} holds a {kind} model but this class reads WordLevel: open it with pretrained.tokenizer."
            )
        try:
            vocabulary = sorted(words, key=words.get)
            end = words.get(EOT, len(words))
            own = [split for split, rules in IN_THE_FILE.items() if rules.items() <= found.items()]
            tokenizer = (
                cls(vocabulary[2:end], context, frame=vocabulary[end + 1 :], split=own[0])
                if own
                else None
            )
        except (DataError, AttributeError, TypeError):
            tokenizer = None
        if tokenizer is None or found != _layout(tokenizer):
            raise CheckpointError(
                f"{path} is a WordLevel tokenizer with rules other than tinymm's: open it with pretrained.tokenizer."
            )
        return tokenizer


def write_config(
    folder: str | os.PathLike[str], context: int, tokens: dict[str, str], *, split: bool = True
) -> None:
    """Write `tokenizer_config.json`: special tokens, the longest text, and whether texts can spell them."""
    said = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **tokens,
        "model_max_length": context,
        "split_special_tokens": split,
    }
    with atomic(Path(folder) / "tokenizer_config.json") as file:
        file.write(
            json.dumps(
                said | {"clean_up_tokenization_spaces": False}, indent=2, ensure_ascii=False
            ).encode()
            + b"\n"
        )


def _layout(tokenizer: WordTokenizer) -> dict[str, Any]:
    """Return the `tokenizers` library's description of these rules.

    The special tokens are upper case and not listed as added tokens: no text can spell them, so no
    caption can fake an EOT.
    """
    tokens = (PAD, UNK, *tokenizer.vocabulary, EOT, *tokenizer.frame)
    ids = {word: i for i, word in enumerate(tokens)}
    first, second = (
        {"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB")
    )
    used = (CLS, EOT) if tokenizer.framed else (EOT,)
    frame = {name: {"SpecialToken": {"id": name, "type_id": 0}} for name in used}
    begin = [frame[CLS]] if tokenizer.framed else []
    return {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": tokenizer.context, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None, "pad_id": PAD_ID, "pad_type_id": 0,
            "pad_token": PAD,
        },
        "added_tokens": [],
        **IN_THE_FILE[tokenizer.split],
        "post_processor": {
            "type": "TemplateProcessing", "single": [*begin, first, frame[EOT]],
            "pair": [*begin, first, frame[EOT], second, frame[EOT]],
            "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in used},
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": UNK},
    }  # fmt: skip
