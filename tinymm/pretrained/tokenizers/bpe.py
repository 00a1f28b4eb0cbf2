"""Texts to ids with the tokenizer that belongs to the weights: our own word-level one, or CLIP's byte-pair encoding (Sennrich et al. 2016, §3.2).

CLIP's rules (openai/CLIP, `clip/simple_tokenizer.py`): repair broken Unicode, undo HTML's escapes
twice, lower-case, collapse white space; cut into words, single digits and runs of other signs;
write the UTF-8 bytes as printable characters; merge pairs in the order of the published list. The
merging is left to the `tokenizers` package, which does it in Rust.
"""

import copy
import gzip
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tinymm.arrays.errors import CheckpointError, DataError, TinymmError, UsageError
from tinymm.arrays.files import atomic
from tinymm.data.text import CLS, DEC, ENC, EOT, MASK, PAD, WordTokenizer, write_config

from ..files.safetensors import read_json
from ..models.open_clip_config import context_of
from .cleaning import cleaned

START, END = "<|startoftext|>", "<|endoftext|>"
CONFIG, SPECIAL = "tokenizer_config.json", "special_tokens_map.json"
RELEASED_NAME = "bpe_simple_vocab_16e6.txt.gz"
_CONTEXT, _LONGEST = 77, 2**20  # of every released CLIP; no text is longer
PIECES_CONTEXT = (
    32  # of BERT's, as BLIP-2 has it; ALBEF and BLIP have 25 to 40, and the tables of positions 512
)
_MERGES = 49152 - 256 - 2  # as many of the list's lines as make 49,408 entries
_LARGEST = 64 * 2**20  # bytes of an unpacked list of merges; the released one has three million
#: What a file that is opened reads at once: nothing, a letter, and a sign that no vocabulary has.
TRIALS = ("", "a", "\U0010fffd")
_WORDS = rf"{re.escape(START)}|{re.escape(END)}|'s|'t|'re|'ve|'m|'ll|'d|[\p{{L}}]+|[\p{{N}}]|[^\s\p{{L}}\p{{N}}]+"


class BytePairTokenizer:
    """Texts -> `ids (B, T)` int64 and `is_real (B, T)` bool, each row start, words, end, and zeros up to the longest row.

    A row of more than `context` tokens keeps its beginning and its end token; `cut` counts how
    often that has happened. Rows are padded to the longest and not to 77: what stands behind the
    end token changes no feature (models are causal), only the time. A single text in place of a
    list is a DataError.

    Which tokens frame a text is what the tokenizer itself puts around an empty one: `begin` and
    `end_of_text`, None where there is none. `decode_token`, `encode_token` and `mask_token` are the
    ids of [DEC], [ENC] and [MASK]. `beside` holds what stood in `tokenizer_config.json` and
    `special_tokens_map.json`, which `save` writes again.
    """

    def __init__(
        self,
        library: Any,
        context: int,
        clean: bool,
        beside: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        library.no_padding()
        library.no_truncation()
        self.beside = beside or {}
        self.context, self.clean, self.cut = context, clean, 0
        self._use(library)

    def _use(self, library: Any) -> None:
        self.library = library
        library.encode_special_tokens = (
            self.beside.get(CONFIG, {}).get("split_special_tokens") is True
        )
        frame, full = library.encode("").ids, library.encode("a").ids
        begins = bool(frame) and full[:1] == frame[:1] and (len(frame) > 1 or full[-1:] != frame)
        self.ends = len(frame) > begins and full[-1:] == frame[-1:]
        self.begin: int | None = frame[0] if begins else None
        self.end_of_text: int | None = frame[-1] if self.ends else library.token_to_id(END)
        self.decode_token, self.encode_token, self.mask_token = map(
            library.token_to_id, (DEC, ENC, MASK)
        )
        self.pad: int = next(
            (
                i
                for token in filter(None, [self._named("pad_token")])
                if (i := asked(library.token_to_id, token, what=f"the pad_token of {CONFIG}"))
                is not None
            ),
            0,
        )

    def _named(self, name: str) -> str | None:
        """Return a special token as tokenizer_config.json, or the map beside it, has it."""
        found = next(
            (said[name] for said in self.beside.values() if said.get(name) is not None), None
        )
        found = found.get("content") if isinstance(found, dict) else found
        return found if isinstance(found, str) else None

    def __len__(self) -> int:
        return 1 + max(self.library.get_vocab(with_added_tokens=True).values(), default=-1)

    @property
    def frame(self) -> tuple[str, ...]:
        """The token that captions begin with and further special ones at hand; empty without the first."""
        ids = (self.begin, self.decode_token, self.encode_token, self.mask_token)
        return (
            ()
            if self.begin is None
            else tuple(self.library.id_to_token(i) for i in ids if i is not None)
        )

    def __call__(self, texts: Sequence[str], /) -> tuple[np.ndarray, np.ndarray]:
        """Return the texts' ids and which of them are no padding."""
        if isinstance(texts, str):
            raise DataError(
                f"a tokenizer takes a list of texts, the single text {texts[:40]!r} came; write [text]"
            )
        encoded = asked(self.library.encode_batch, [self.prepared(text) for text in texts])
        rows = [row.ids for row in encoded]
        self.cut += sum(len(row) > self.context for row in rows)
        rows = [
            row if len(row) <= self.context else row[: self.context - 1] + row[-1:] for row in rows
        ]
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        ids = np.zeros((len(rows), lengths.max(initial=0)), dtype=np.int64)
        is_real = np.arange(ids.shape[1]) < lengths[:, None]
        ids[is_real] = [number for row in rows for number in row]
        return ids, is_real

    def prepared(self, text: str) -> str:
        """Return a text as the library gets it: cleaned, where the weights' authors did so."""
        return cleaned(text) if self.clean else text

    def decode(self, ids: np.ndarray) -> list[str]:
        """Return the texts of rows of ids up to their end, without special tokens."""
        silent = {self.begin, self.decode_token, self.encode_token, self.end_of_text}
        texts = []
        for row in np.atleast_2d(ids).tolist():
            first = int(row[:1] == [self.begin])
            end = (
                row.index(self.end_of_text, first) if self.end_of_text in row[first:] else len(row)
            )
            texts.append(self.library.decode([i for i in row[:end] if i not in silent]).strip())
        return texts

    def tokens(self, text: str) -> list[str]:
        """Return the pieces that a text is read as, without its frame."""
        row = asked(self.library.encode, self.prepared(text), add_special_tokens=False)
        spelled = [self.library.decode([i], skip_special_tokens=False).strip() for i in row.ids]
        return [
            text if text and "\ufffd" not in text else token
            for text, token in zip(spelled, row.tokens, strict=True)
        ]

    def with_frame(self, *more: str) -> "BytePairTokenizer":
        """Return the same tokenizer with [CLS] in front and `more` tokens at hand, by default [DEC].

        Texts get an end token, too, if they had none; what is there already stays.
        """
        return self.framed(True, *(more or (DEC,)))

    def framed(self, begin: bool = False, *more: str) -> "BytePairTokenizer":
        """Return the same tokenizer with an end token, if asked one in front, and `more` special ones."""
        library = needed_library().Tokenizer.from_str(self.library.to_str())
        first = (
            library.id_to_token(self.begin) if self.begin is not None else CLS if begin else None
        )
        last = library.id_to_token(self.end_of_text) if self.ends else EOT
        needed = [
            token for token in (last, first, *more) if token and library.token_to_id(token) is None
        ]
        library.add_special_tokens(needed)
        if not self.ends or (begin and self.begin is None):
            parts = [token for token in (first, last) if token]
            template = " ".join([*parts[:-1], "$A", last])
            ids = [(token, library.token_to_id(token)) for token in parts]
            library.post_processor = needed_library().processors.TemplateProcessing(
                single=template, special_tokens=ids
            )
        other = copy.copy(self)
        if needed:  # no text can spell what was added, and a class of its own would not know it
            added = {"eos_token": last} | (
                {"cls_token": first, "bos_token": first} if first else {}
            )
            said = (
                self.beside.get(CONFIG, {})
                | added
                | {"tokenizer_class": "PreTrainedTokenizerFast", "split_special_tokens": True}
            )
            other.beside = self.beside | {CONFIG: said}
        other.context = self.context + len([token for token in needed if token == first])
        other._use(library)
        return other

    def _roles(self) -> dict[str, str]:
        """Return the special tokens by the names that transformers has for them."""
        there = {
            name
            for name in (PAD, "<pad>", MASK, "[SEP]", CLS, END)
            if self.library.token_to_id(name) is not None
        }
        pads = [name for name in (PAD, "<pad>", END) if name in there]
        named = {
            "unk_token": getattr(self.library.model, "unk_token", None),
            "pad_token": pads[0] if pads else None,
        }
        named |= (
            {"cls_token": CLS, "sep_token": "[SEP]", "mask_token": MASK}
            if {CLS, "[SEP]", MASK} <= there
            else {}
        )
        named |= {
            name: i if i is None else self.library.id_to_token(i)
            for name, i in (("bos_token", self.begin), ("eos_token", self.end_of_text))
        }
        return {name: token for name, token in named.items() if token}

    def save(self, folder: str | os.PathLike) -> Path:
        """Write `tokenizer.json`, which `tokenizer(folder)` and the `tokenizers` package open.

        And the other files of the folder that it came from, or a `tokenizer_config.json`, for
        `AutoTokenizer.from_pretrained(folder)`.
        """
        path = Path(folder) / "tokenizer.json"
        for name, said in self.beside.items():
            said = (
                said
                if name != CONFIG
                else said
                | {"model_max_length": min(self.context, _sane(said.get("model_max_length")))}
            )
            with atomic(path.with_name(name)) as file:
                file.write(_json(said))
        if CONFIG not in self.beside:
            write_config(folder, self.context, self._roles(), split=False)
        with atomic(path) as file:
            file.write(self.library.to_str(pretty=True).encode())
        return path


def tokenizer(
    path: str | os.PathLike, *, cleaning: str | None = "blip"
) -> WordTokenizer | BytePairTokenizer:
    """Return the tokenizer of a model's folder (or of a file in it), a callable: texts -> `ids (B, T)`, `is_real (B, T)`.

    Looked for, in this order: `tokenizer.json` (ours is read with `json` alone, another one needs
    the `tokenizers` package), `vocab.json` with `merges.txt`, OpenAI's
    `bpe_simple_vocab_16e6.txt.gz`, and BERT's `vocab.txt`; the last two may also be named
    themselves. The context is that of the model's config.json, or 77, and for BERT's pieces at most
    32. ALBEF, BLIP and BLIP-2 share BERT's pieces; `cleaning` tells how their captions are
    prepared, "blip" (BLIP-2 too) or "albef". With None no text is prepared by us, neither for
    CLIP's: the ids are those that a Hugging Face processor of the same folder feeds.
    CheckpointError for a path that has none of them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = WordTokenizer(("cat", "dog"), context=4).save(folder)
    ...     tokenizer(folder)(["dog cat"])[0]
    array([[3, 2, 4]])
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(
            f"a tokenizer is a folder or a file, {str(path)!r} does not exist; check the path"
        )
    folder = path if path.is_dir() else path.parent
    clean = cleaning is not None
    if path.name.endswith((".txt.gz", ".bpe.gz")) and path.is_file():
        return BytePairTokenizer(_from_merges(_released_merges(path)), _context(folder), clean)
    own = (
        path
        if path.suffix == ".json" and "tokenizer" in path.name and path.is_file()
        else folder / "tokenizer.json"
    )
    if own.is_file():
        return _from_tokenizer_json(own, cleaning)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return BytePairTokenizer(
            _from_vocabulary(folder / "vocab.json", folder / "merges.txt"),
            _context(folder),
            clean,
            _beside(folder),
        )
    if (folder / RELEASED_NAME).is_file():
        return BytePairTokenizer(
            _from_merges(_released_merges(folder / RELEASED_NAME)),
            _context(folder),
            clean,
            _beside(folder),
        )
    pieces = path if path.is_file() and path.name.endswith("vocab.txt") else folder / "vocab.txt"
    if pieces.is_file():
        from .wordpiece import from_vocabulary

        return from_vocabulary(
            pieces, min(PIECES_CONTEXT, _context(folder)), cleaning, _beside(folder)
        )
    raise CheckpointError(
        f"a tokenizer is a tokenizer.json, vocab.json with merges.txt, {RELEASED_NAME} or BERT's vocab.txt, and {str(folder)!r} has none of "
        "them; name a folder or file that has, such as that of any other model of the same vocabulary"
    )


def _from_tokenizer_json(path: Path, cleaning: str | None) -> WordTokenizer | BytePairTokenizer:
    said = read_json(path)
    model = said.get("model")
    if isinstance(model, dict) and model.get("type") == "WordLevel":
        try:
            return WordTokenizer.load(path)
        except TinymmError:
            pass  # somebody else's word-level rules: the library knows them
    library = needed_library()
    with _without_traces():
        opened = asked(library.Tokenizer.from_file, str(path), what=path.name)
        _check_frame(said.get("post_processor"), path.name, opened)
        for text in TRIALS:  # whatever does not fit together shows here at the latest
            asked(opened.encode, text, what=path.name)
    context, beside = _context(path.parent, opened.truncation), _beside(path.parent)
    if (
        isinstance(model, dict)
        and model.get("type") == "WordPiece"
        and None not in map(opened.token_to_id, ("[CLS]", "[SEP]"))
    ):
        from .wordpiece import WordPieceTokenizer

        return WordPieceTokenizer(opened, min(PIECES_CONTEXT, context), cleaning, beside)
    return BytePairTokenizer(
        opened, context, cleaning is not None and opened.token_to_id(START) is not None, beside
    )


def asked(
    function: Callable[..., Any], *arguments: Any, what: str = "a tokenizer", **options: Any
) -> Any:
    """Return what a function of the tokenizers package returns; CheckpointError where it fails, be it in a panic."""
    try:
        return function(*arguments, **options)
    except TypeError:  # of what it was asked with
        raise
    except (
        BaseException
    ) as problem:  # the library raises nothing more special, and its panics are no Exception
        if not isinstance(problem, Exception) and type(problem).__name__ != "PanicException":
            raise
        raise CheckpointError(
            f"{what}: the tokenizers package cannot read it ({problem}); copy its files again"
        ) from None


@contextmanager
def _without_traces() -> Iterator[None]:
    """Keep what a panic writes past Python, a trace through the library, off the standard error output."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_frame(processor: Any, name: str, library: Any) -> None:
    """Raise CheckpointError where the frame around a text has tokens that the library would look up in vain, or under another number."""
    processor = processor or {}
    for inner in processor.get("processors", ()):
        _check_frame(inner, name, library)
    frames = [
        piece
        for side in ("single", "pair")
        for piece in processor.get(side) or ()
        if isinstance(piece, dict)
    ]
    for token in (piece["SpecialToken"]["id"] for piece in frames if "SpecialToken" in piece):
        if token not in processor.get("special_tokens", {}):
            raise CheckpointError(
                f"{name}: the frame around a text has tokens that its special_tokens list, {token!r} is not there; copy the file again"
            )
    listed = processor.get("special_tokens") or {}
    numbered = [
        pair
        for special in listed.values()
        for pair in zip(special["tokens"], special["ids"], strict=False)
    ]
    for token, number in [
        *numbered,
        *(processor[side] for side in ("cls", "sep") if isinstance(processor.get(side), list)),
    ]:
        if library.id_to_token(number) != token:
            raise CheckpointError(
                f"{name}: the frame around a text has {token!r} as number {number}, which is {library.id_to_token(number)!r} in the vocabulary; "
                "copy the file again"
            )


def _from_vocabulary(vocabulary: Path, merges: Path) -> Any:
    ids = read_json(vocabulary)
    if not all(type(number) is int for number in ids.values()) or not {START, END} <= ids.keys():
        raise CheckpointError(
            f"{vocabulary.name}: a vocabulary maps tokens to numbers, {START} and {END} among them; copy the file again"
        )
    lines = utf8(merges.read_bytes(), merges.name).split("\n")
    return _byte_pairs(
        ids, _pairs(line for line in lines if line and not line.startswith("#version"))
    )


def _released_merges(path: Path) -> list[tuple[str, str]]:
    try:
        with gzip.open(path) as file:
            content = file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as problem:
        raise CheckpointError(
            f"{path.name}: the list of merges cannot be unpacked ({problem}); copy the file again"
        ) from None
    if len(content) > _LARGEST:
        raise CheckpointError(
            f"{path.name}: a list of merges has at most {_LARGEST:,} bytes, this one unpacks to more; check the path"
        )
    return _pairs(utf8(content, path.name).split("\n")[1 : _MERGES + 1])


def utf8(content: bytes, name: str) -> str:
    """Return what the bytes of a tokenizer's file say; CheckpointError where they are not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise CheckpointError(
            f"{name}: a list of pieces is UTF-8 text ({problem}); copy the file again"
        ) from None


def _pairs(lines: Any) -> list[tuple[str, str]]:
    found = [tuple(line.split()) for line in lines if line.strip()]
    wrong = [pair for pair in found if len(pair) != 2]
    if wrong:
        raise CheckpointError(
            f"a merge is two pieces on a line, {' '.join(wrong[0])[:60]!r} came; copy the file again"
        )
    return found  # type: ignore[return-value]


def _from_merges(merges: list[tuple[str, str]]) -> Any:
    """Return the tokenizer whose tokens are numbered as OpenAI's: bytes, bytes at a word's end, merges in their order, start, end."""
    letters = printable_bytes()
    tokens = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *("".join(pair) for pair in merges),
        START,
        END,
    ]
    return _byte_pairs({token: number for number, token in enumerate(tokens)}, merges)


def printable_bytes() -> list[str]:
    """Return a printable character for each of the 256 bytes: itself where it prints, else one from 256 on.

    In the order of the vocabulary: the 188 bytes that print first, then the others, as in GPT-2's
    byte-level encoding.

    >>> printable_bytes()[:3], printable_bytes()[-1]
    (['!', '"', '#'], 'Ń')
    """
    prints = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = 256 - len(prints)
    return [chr(byte) for byte in prints] + [chr(256 + i) for i in range(others)]


def _byte_pairs(ids: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    library = needed_library()
    try:
        model = library.models.BPE(
            ids, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=END
        )
    except Exception as problem:  # the library raises nothing more special
        raise CheckpointError(
            f"the merges and the vocabulary belong together ({problem}); copy both files again"
        ) from None
    built = library.Tokenizer(model)
    spaces, rules = library.Regex(r"\s+"), library.normalizers
    built.normalizer = rules.Sequence(
        [rules.NFC(), rules.Replace(spaces, " "), rules.Lowercase()]
    )  # as transformers has it; cleaned text has all
    split = library.pre_tokenizers.Split(library.Regex(_WORDS), behavior="removed", invert=True)
    built.pre_tokenizer = library.pre_tokenizers.Sequence(
        [split, library.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    built.add_special_tokens([START, END])
    ends = [(START, ids[START]), (END, ids[END])]
    built.post_processor = library.processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=ends
    )
    return built


def _json(said: dict[str, Any]) -> bytes:
    """Return a record as JSON: as people read it, or with escapes where it has half a character, which UTF-8 cannot say."""
    try:
        return json.dumps(said, indent=2, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(said, indent=2).encode() + b"\n"


def _beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what lies beside a tokenizer for transformers, by the names of its files."""
    return {
        name: read_json(folder / name) for name in (CONFIG, SPECIAL) if (folder / name).is_file()
    }


def _sane(said: Any) -> int:
    """Return a model_max_length, or a number above all others where a file has none."""
    return said if type(said) is int and 2 <= said <= _LONGEST else _LONGEST


def _context(folder: Path, truncation: dict[str, Any] | None = None) -> int:
    """Return the longest text of the folder's model, or of its tokenizer's files if that is less."""
    settings = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    text = settings.get("text_config") or settings.get("text") or settings.get("bert") or {}
    context = (
        (text.get("max_position_embeddings") or text.get("context"))
        if isinstance(text, dict)
        else None
    )
    for stated in (context, context_of(folder)):
        if stated is not None and (type(stated) is not int or not 2 <= stated <= _LONGEST):
            raise CheckpointError(
                f"config.json: a text has 2 or more tokens, a context of {stated!r} came; copy the file again"
            )
    own = _sane(_beside(folder).get(CONFIG, {}).get("model_max_length"))
    stated = [n for n in (context, context_of(folder), own) if n is not None and n != _LONGEST]
    if stated:
        return min(stated)
    return truncation["max_length"] if truncation else _CONTEXT


def needed_library(what: str = "CLIP's byte-pair tokenizer") -> Any:
    """Return the tokenizers package; UsageError says what needs it where it is not installed."""
    try:
        import tokenizers
    except ImportError:
        raise UsageError(f"{what} needs the tokenizers package: pip install tokenizers") from None
    return tokenizers
