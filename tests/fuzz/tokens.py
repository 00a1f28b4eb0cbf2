"""Tokenizers' files: our own tokenizer.json, BERT's vocab.txt, CLIP's vocab.json with merges.txt and
the packed list of merges, and the files of settings beside them."""

import copy
import gzip
import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .cases import Trial
from .mutations import changed_bytes, changed_json, json_text, repeated_key

TEXTS = ["a red ball", "zebra, Größe & co!", "", "\ud7ff \x00 \U0001f600", "ball " * 200]
PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdeghlnorz&!,",
    *(f"##{letter}" for letter in "abcdeghlnorz"),
    "red",
    "ball",
    "##bra",
]
SETTINGS: dict[str, Any] = {
    "model_max_length": 12, "do_lower_case": True, "unk_token": "[UNK]",
    "tokenizer_class": "BertTokenizer", "pad_token": "[PAD]",
    "added_tokens_decoder": {"0": {"content": "[PAD]", "special": True}},
}  # fmt: skip


@cache
def own(frame: bool) -> dict[str, Any]:
    """Return our own tokenizer.json."""
    from tempfile import TemporaryDirectory

    from tinymm.data.text import WordTokenizer

    words = WordTokenizer(("a", "ball", "red", "zebra"), context=8)
    with TemporaryDirectory() as folder:
        (words.with_frame() if frame else words).save(folder)
        return json.loads((Path(folder) / "tokenizer.json").read_text(encoding="utf-8"))


@cache
def pairs() -> tuple[dict[str, int], list[str]]:
    """Return a vocabulary of CLIP's kind, and its merges."""
    from tinymm.pretrained.tokenizers.bpe import printable_bytes

    merges = ["r e", "re d</w>", "b a", "ba l", "bal l</w>"]
    letters = printable_bytes()
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(merge.replace(" ", "") for merge in merges),
    ]
    return {
        token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])
    }, merges


def files(rng: random.Random, kind: str) -> dict[str, Any]:
    """Return a tokenizer's files: text, or a value of JSON."""
    if kind == "own":
        return {"tokenizer.json": json.loads(json.dumps(own(rng.random() < 0.5)))}
    if kind == "pieces":
        return {"vocab.txt": "\n".join(PIECES) + "\n",
        "config.json": {"model_type": "bert", "max_position_embeddings": 16},
                "tokenizer_config.json": copy.deepcopy(SETTINGS)}  # fmt: skip
    ids, merges = pairs()
    text = "\n".join(["#version: 0.2", *merges]) + "\n"
    if kind == "packed":
        return {"bpe_simple_vocab_16e6.txt.gz": text}
    return {"vocab.json": dict(ids), "merges.txt": text,
    "config.json": {"model_type": "clip", "text_config": {"max_position_embeddings": 12}},
            "tokenizer_config.json": {"model_max_length": 12,
            "tokenizer_class": "CLIPTokenizer"}}  # fmt: skip


def case(rng: random.Random, folder: Path) -> Trial:
    """Return a tokenizer's folder with a few changes, and the call that opens and uses it."""
    kind = rng.choice(("own", "own", "pieces", "pairs", "packed"))
    found, said = files(rng, kind), [kind]
    for _ in range(count := rng.choices((0, 1, 2), (4, 76, 20))[0]):
        if not found:
            break
        name = rng.choice(list(found))
        value = found[name]
        if rng.random() < 0.05:
            del found[name]
            said.append(f"{name} gone")
        elif isinstance(value, dict) and rng.random() < 0.75:
            said.append(f"{name} {changed_json(rng, value)}")
        else:
            data = (
                value
                if isinstance(value, bytes)
                else json_text(rng, value)
                if isinstance(value, dict)
                else value.encode()
            )
            if isinstance(value, dict) and rng.random() < 0.2:
                found[name], change = repeated_key(rng, data)
            elif rng.random() < 0.4:
                found[name], change = lines(rng, data)
            else:
                found[name], change = changed_bytes(rng, data, 2)
            said.append(f"{name} {change}")
    for name, value in found.items():
        data = (
            value
            if isinstance(value, bytes)
            else json_text(rng, value)
            if isinstance(value, dict)
            else value.encode()
        )
        if name.endswith(".gz") and (rng.random() < 0.97 or not count):
            data = gzip.compress(data)
            if rng.random() < 0.3 and count:
                data = changed_bytes(rng, data, 2)[0]
        (folder / name).write_bytes(data)

    def act() -> Any:
        from tinymm import pretrained

        words = pretrained.tokenizer(folder, cleaning=rng.choice(("blip", "albef")))
        ids, is_real = words(TEXTS)
        return words, ids, is_real, words.decode(ids)

    return Trial("; ".join(said), act, judge, valid=not count)


def lines(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    """Return a file whose lines are cut, repeated, swapped, emptied, or end otherwise."""
    rows = data.split(b"\n")
    i, j = rng.randrange(len(rows)), rng.randrange(len(rows))
    how = rng.choice(("drop", "repeat", "swap", "empty", "crlf", "space", "separator", "three"))
    if how == "drop":
        del rows[i]
    elif how == "repeat":
        rows.insert(j, rows[i])
    elif how == "swap":
        rows[i], rows[j] = rows[j], rows[i]
    elif how == "crlf":
        return b"\r\n".join(rows), how
    elif how == "three":
        rows[i] += b" x y"
    else:
        rows[i] = {
            "empty": b"",
            "space": b" " + rows[i] + b" ",
            "separator": "\u2028".encode() + rows[i],
        }[how]
    return b"\n".join(rows), f"line {i} {how}"


def judge(found: Any) -> Iterator[str]:
    """Yield what is wrong with ids: out of the vocabulary, of other lengths than said, without an end."""
    words, ids, is_real, texts = found
    if ids.shape != is_real.shape or len(ids) != len(TEXTS) or ids.dtype != np.int64:
        yield f"ids have shape {ids.shape} of {ids.dtype}, is_real {is_real.shape}"
    size = len(words) if hasattr(words, "__len__") else words.library.get_vocab_size()
    if ids.size and not 0 <= ids.min() <= ids.max() < max(
        size, 1 + max(_numbers(words), default=0)
    ):
        yield f"ids go from {ids.min()} to {ids.max()}, and the vocabulary has {size}"
    if ids.shape[1] > words.context:
        yield f"a text has {ids.shape[1]} tokens in a context of {words.context}"
    if len(texts) != len(TEXTS) or not all(isinstance(text, str) for text in texts):
        yield "texts that were decoded are not as many as went in"
    end = getattr(words, "end_of_text", None)
    ends = [row[real][-1] for row, real in zip(ids, is_real, strict=True) if real.any()]
    if end is not None and any(last != end for last in ends):
        yield f"texts end with {sorted(set(map(int, ends)))}, and the end is {end}"


def _numbers(words: Any) -> list[int]:
    return list(words.library.get_vocab().values()) if hasattr(words, "library") else []
