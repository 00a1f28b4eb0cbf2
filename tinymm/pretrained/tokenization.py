"""Texts to ids with the tokenizer that belongs to the weights: our own word-level one, or CLIP's byte-pair encoding (Sennrich et al. 2016, §3.2).

CLIP's rules (openai/CLIP, `clip/simple_tokenizer.py`): repair broken Unicode, undo HTML's escapes twice, lower-case, collapse white
space; cut into words, single digits and runs of other signs; write the UTF-8 bytes as printable characters; merge pairs in the
order of the published list. The merging is left to the `tokenizers` package, which does it in Rust.
"""

import gzip
import html
import os
import re
import unicodedata
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError, DataError, TinymmError, UsageError
from tinymm.arrays.files import atomic
from tinymm.data.text import WordTokenizer

from .open_clip_settings import context_of
from .safetensors_files import read_json

START, END = "<|startoftext|>", "<|endoftext|>"
RELEASED_NAME = "bpe_simple_vocab_16e6.txt.gz"
_CONTEXT = 77  # of every released CLIP
PIECES_CONTEXT = 32  # of BERT's, as BLIP-2 has it; ALBEF and BLIP have 25 to 40, and the tables of positions 512
_MERGES = 49152 - 256 - 2  # as many of the list's lines as make 49,408 entries
_LARGEST = 64 * 2**20  # bytes of an unpacked list of merges; the released one has three million
_WORDS = rf"{re.escape(START)}|{re.escape(END)}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+"


class BytePairTokenizer:
    """Texts -> `ids (B, T)` int64 and `is_real (B, T)` bool, each row start, words, end, and zeros up to the longest row.

    A row of more than `context` tokens keeps its beginning and its end token; `cut` counts how often that has happened. Rows are
    padded to the longest and not to 77: what stands behind the end token changes no feature (models are causal), only the time. A single text in
    place of a list is a DataError.
    """

    def __init__(self, library: Any, context: int, clean: bool) -> None:
        library.no_padding()
        library.no_truncation()
        self.library, self.context, self.clean, self.cut = library, context, clean, 0
        self.end_of_text: int | None = library.token_to_id(END)

    def __call__(self, texts: Sequence[str], /) -> tuple[np.ndarray, np.ndarray]:
        """Return the texts' ids and which of them are no padding."""
        if isinstance(texts, str):
            raise DataError(f"a tokenizer takes a list of texts, the single text {texts[:40]!r} came; write [text]")
        encoded = self.library.encode_batch([cleaned(text) if self.clean else text for text in texts])
        rows = [row.ids for row in encoded]
        self.cut += sum(len(row) > self.context for row in rows)
        rows = [row if len(row) <= self.context else row[: self.context - 1] + row[-1:] for row in rows]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        ids = np.zeros((len(rows), lengths.max(initial=0)), dtype=np.int64)
        is_real = np.arange(ids.shape[1]) < lengths[:, None]
        ids[is_real] = [number for row in rows for number in row]
        return ids, is_real

    def decode(self, ids: np.ndarray) -> list[str]:
        """Return the texts of rows of ids, without special tokens."""
        return [self.library.decode([int(i) for i in row]).strip() for row in np.atleast_2d(ids)]

    def save(self, folder: str | os.PathLike) -> Path:
        """Write `tokenizer.json` into the folder, whole or not at all; `tokenizer(folder)` and the `tokenizers` package open it."""
        path = Path(folder) / "tokenizer.json"
        with atomic(path) as file:
            file.write(self.library.to_str(pretty=True).encode())
        return path


def cleaned(text: str) -> str:
    """Return the text as CLIP's tokenizer cleans it; broken Unicode is repaired only where the `ftfy` package is installed.

    >>> cleaned("  Fish &amp;amp; CHIPS ")
    'fish & chips'
    """
    try:
        import ftfy

        text = ftfy.fix_text(text)
    except ImportError:
        text = unicodedata.normalize("NFC", text)  # the one repair that transformers' tokenizer does too
    return re.sub(r"\s+", " ", html.unescape(html.unescape(text))).strip().lower()


def tokenizer(path: str | os.PathLike, *, cleaning: str = "blip") -> WordTokenizer | BytePairTokenizer:
    """Return the tokenizer of a model's folder (or of a file in it), a callable: texts -> `ids (B, T)`, `is_real (B, T)`.

    Looked for, in this order: `tokenizer.json` (ours is read with `json` alone, another one needs the `tokenizers` package),
    `vocab.json` with `merges.txt`, OpenAI's `bpe_simple_vocab_16e6.txt.gz`, and BERT's `vocab.txt`; the last two may also be named
    themselves. The context is that of the model's config.json, or 77, and for BERT's pieces at most 32. ALBEF, BLIP and BLIP-2 share BERT's
    pieces; `cleaning` tells how their captions are prepared, "blip" (BLIP-2 too) or "albef". CheckpointError for a path that has none of them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = WordTokenizer(("cat", "dog"), context=4).save(folder)
    ...     tokenizer(folder)(["dog cat"])[0]
    array([[3, 2, 4]])
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"a tokenizer is a folder or a file, {str(path)!r} does not exist; check the path")
    folder = path if path.is_dir() else path.parent
    if path.name.endswith((".txt.gz", ".bpe.gz")) and path.is_file():
        return BytePairTokenizer(_from_merges(_released_merges(path)), _context(folder), clean=True)
    own = path if path.suffix == ".json" and "tokenizer" in path.name and path.is_file() else folder / "tokenizer.json"
    if own.is_file():
        return _from_tokenizer_json(own, cleaning)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return BytePairTokenizer(_from_vocabulary(folder / "vocab.json", folder / "merges.txt"), _context(folder), clean=True)
    if (folder / RELEASED_NAME).is_file():
        return BytePairTokenizer(_from_merges(_released_merges(folder / RELEASED_NAME)), _context(folder), clean=True)
    pieces = path if path.is_file() and path.name.endswith("vocab.txt") else folder / "vocab.txt"
    if pieces.is_file():
        from .wordpiece import from_vocabulary

        return from_vocabulary(pieces, min(PIECES_CONTEXT, _context(folder)), cleaning)
    raise CheckpointError(
        f"a tokenizer is a tokenizer.json, vocab.json with merges.txt, {RELEASED_NAME} or BERT's vocab.txt, and {str(folder)!r} has none of "
        "them; name a folder or file that has, such as that of any other model of the same vocabulary"
    )


def _from_tokenizer_json(path: Path, cleaning: str) -> WordTokenizer | BytePairTokenizer:
    model = read_json(path).get("model")
    if isinstance(model, dict) and model.get("type") == "WordLevel":
        try:
            return WordTokenizer.load(path)
        except TinymmError:
            pass  # somebody else's word-level rules: the library knows them
    library = needed_library()
    try:
        opened = library.Tokenizer.from_file(str(path))
    except Exception as problem:  # the library raises nothing more special
        raise CheckpointError(f"{path.name}: the tokenizers package cannot read the file ({problem}); copy it again") from None
    if isinstance(model, dict) and model.get("type") == "WordPiece" and None not in map(opened.token_to_id, ("[CLS]", "[SEP]")):
        from .wordpiece import WordPieceTokenizer

        return WordPieceTokenizer(opened, min(PIECES_CONTEXT, _context(path.parent)), cleaning)
    return BytePairTokenizer(opened, _context(path.parent), clean=opened.token_to_id(START) is not None)


def _from_vocabulary(vocabulary: Path, merges: Path) -> Any:
    ids = read_json(vocabulary)
    if not all(type(number) is int for number in ids.values()) or not {START, END} <= ids.keys():
        raise CheckpointError(f"{vocabulary.name}: a vocabulary maps tokens to numbers, {START} and {END} among them; copy the file again")
    lines = _text(merges.read_bytes(), merges.name).split("\n")
    return _byte_pairs(ids, _pairs(line for line in lines if line and not line.startswith("#version")))


def _released_merges(path: Path) -> list[tuple[str, str]]:
    try:
        with gzip.open(path) as file:
            content = file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as problem:
        raise CheckpointError(f"{path.name}: the list of merges cannot be unpacked ({problem}); copy the file again") from None
    if len(content) > _LARGEST:
        raise CheckpointError(f"{path.name}: a list of merges has at most {_LARGEST:,} bytes, this one unpacks to more; check the path")
    return _pairs(_text(content, path.name).split("\n")[1 : _MERGES + 1])


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise CheckpointError(f"{name}: a list of merges is UTF-8 text ({problem}); copy the file again") from None


def _pairs(lines: Any) -> list[tuple[str, str]]:
    found = [tuple(line.split()) for line in lines if line.strip()]
    wrong = [pair for pair in found if len(pair) != 2]
    if wrong:
        raise CheckpointError(f"a merge is two pieces on a line, {' '.join(wrong[0])[:60]!r} came; copy the file again")
    return found  # type: ignore[return-value]


def _from_merges(merges: list[tuple[str, str]]) -> Any:
    """Return the tokenizer whose tokens are numbered as OpenAI's: bytes, bytes at a word's end, merges in their order, start, end."""
    letters = printable_bytes()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    return _byte_pairs({token: number for number, token in enumerate(tokens)}, merges)


def printable_bytes() -> list[str]:
    """Return a printable character for each of the 256 bytes: itself where it prints, else one from 256 on.

    In the order of the vocabulary: the 188 bytes that print first, then the others, as in GPT-2's byte-level encoding.

    >>> printable_bytes()[:3], printable_bytes()[-1]
    (['!', '"', '#'], 'Ń')
    """
    prints = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(prints)
    return [chr(byte) for byte in prints] + [chr(256 + i) for i in range(others)]


def _byte_pairs(ids: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    library = needed_library()
    try:
        model = library.models.BPE(ids, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=END)
    except Exception as problem:  # the library raises nothing more special
        raise CheckpointError(f"the merges and the vocabulary belong together ({problem}); copy both files again") from None
    built = library.Tokenizer(model)
    split = library.pre_tokenizers.Split(library.Regex(_WORDS), behavior="removed", invert=True)
    built.pre_tokenizer = library.pre_tokenizers.Sequence([split, library.pre_tokenizers.ByteLevel(add_prefix_space=False)])
    built.add_special_tokens([START, END])
    ends = [(START, ids[START]), (END, ids[END])]
    built.post_processor = library.processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
    return built


def _context(folder: Path) -> int:
    """Return the longest text of the model whose config lies in the folder."""
    settings = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    text = settings.get("text_config") or settings.get("text") or settings.get("bert") or {}
    context = (text.get("max_position_embeddings") or text.get("context")) if isinstance(text, dict) else None
    beside = context_of(folder)
    context = beside if context is None else context if beside is None else min(context, beside)
    context = _CONTEXT if context is None else context
    if type(context) is not int or not 2 <= context <= 2**20:
        raise CheckpointError(f"config.json: a text has 2 or more tokens, a context of {context!r} came; copy the file again")
    return context


def needed_library(what: str = "CLIP's byte-pair tokenizer") -> Any:
    """Return the tokenizers package; UsageError says what needs it where it is not installed."""
    try:
        import tokenizers
    except ImportError:
        raise UsageError(f"{what} needs the tokenizers package: pip install tokenizers") from None
    return tokenizers
