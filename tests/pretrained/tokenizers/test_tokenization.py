"""The three ways in which a CLIP brings its tokenizer, against a plain reading of the rules."""

import gzip
import json
import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm import pretrained
from tinymm.arrays.errors import CheckpointError, DataError, UsageError
from tinymm.data.text import WordTokenizer
from tinymm.pretrained.tokenizers import bpe
from tinymm.pretrained.tokenizers.bpe import END, START, BytePairTokenizer, cleaned, printable_bytes

MERGES = [
    "c a",
    "ca t</w>",
    "a t",
    "o f</w>",
    "p h",
    "ph o",
    "t o</w>",
    "pho to</w>",
    "a n",
    "an d</w>",
    "1 2</w>",
    "Ã ©</w>",
    "' s</w>",
]
LETTERS = printable_bytes()
TOKENS = [
    *LETTERS,
    *(letter + "</w>" for letter in LETTERS),
    *(merge.replace(" ", "") for merge in MERGES),
    START,
    END,
]
IDS = {token: number for number, token in enumerate(TOKENS)}


def write_openai(folder):
    with gzip.open(folder / "bpe_simple_vocab_16e6.txt.gz", "wt", encoding="utf-8") as file:
        file.write('"bpe_simple_vocab_16e6.txt#version: 0.2\n' + "\n".join(MERGES) + "\n")
    return folder


def write_vocabulary(folder):
    (folder / "vocab.json").write_text(json.dumps(IDS), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(MERGES) + "\n", encoding="utf-8"
    )
    return folder


def write_tokenizer_json(folder):
    made = pretrained.tokenizer(write_openai(folder))
    (folder / "bpe_simple_vocab_16e6.txt.gz").unlink()
    made.save(folder)
    return folder


WRITERS = [write_openai, write_vocabulary, write_tokenizer_json]


def by_hand(text):
    """Encode as the paper's code does, slowly: the most urgent merge first, until none is left."""
    ranks = {tuple(merge.split()): rank for rank, merge in enumerate(MERGES)}
    byte_of = dict(
        zip(
            [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174],
            LETTERS,
            strict=False,
        )
    )
    byte_of |= dict(zip([b for b in range(256) if b not in byte_of], LETTERS[188:], strict=True))
    words = re.findall(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+", cleaned(text))
    rows = [IDS[START]]
    for word in words:
        pieces = [byte_of[b] for b in word.encode()]
        pieces[-1] += "</w>"
        while True:
            pairs = [
                (ranks.get((a, b), 10**9), place)
                for place, (a, b) in enumerate(zip(pieces, pieces[1:], strict=False))
            ]
            if not pairs or min(pairs)[0] == 10**9:
                break
            first = pieces[min(pairs)[1]], pieces[min(pairs)[1] + 1]
            merged, place = [], 0
            while place < len(pieces):
                here = tuple(pieces[place : place + 2]) == first
                merged.append("".join(first) if here else pieces[place])
                place += 2 if here else 1
            pieces = merged
        rows += [IDS[piece] for piece in pieces]
    return [*rows, IDS[END]]


@pytest.fixture(scope="module", params=WRITERS, ids=lambda write: write.__name__)
def made(request, tmp_path_factory):
    return pretrained.tokenizer(request.param(tmp_path_factory.mktemp("tokenizer")))


TEXTS = st.text(alphabet=st.sampled_from("catofph  and12é's,.!_- \n\tÑß日本"), max_size=20)


@given(text=TEXTS)
def test_every_form_gives_the_ids_of_the_rules(made, text):
    ids, is_real = made([text])
    assert ids.tolist() == [by_hand(text)] and is_real.all()


def test_rows_are_padded_to_the_longest_and_cut_with_the_end_kept(made):
    texts = ["cat", "photo of cat and cat", "", "12 " * 100]
    ids, is_real = made(texts)
    assert ids.dtype == np.int64 and is_real.dtype == bool and ids.shape == (4, 77)
    assert made(texts[:3])[0].shape == (3, 7)
    for row, real, text in zip(ids, is_real, texts, strict=True):
        right = by_hand(text)
        right = right if len(right) <= 77 else right[:76] + right[-1:]
        assert row.tolist() == right + [0] * (77 - len(right)) and real.sum() == len(right)
    assert ids[3, -1] == made.end_of_text == IDS[END] == ids.max()
    assert made.cut == 1


def test_texts_are_cleaned_as_openai_does():
    assert cleaned("  A&amp;amp;B\u00a0 \n C ") == "a&b c"
    assert cleaned("CAFE\u0301") == "café"  # composed


def test_cleaning_without_ftfy_composes_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    assert cleaned("CAFE\u0301 &amp;lt;b&gt;") == "café <b>"


@pytest.mark.parametrize(
    "settings", [{"text_config": {"max_position_embeddings": 5}}, {"text": {"context": 5}}]
)
def test_the_context_is_the_model_s(settings, tmp_path):
    write_openai(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    for path in (tmp_path, tmp_path / "bpe_simple_vocab_16e6.txt.gz"):
        assert pretrained.tokenizer(path)(["cat cat cat cat cat"])[0].tolist() == [
            [IDS[START], *[IDS["cat</w>"]] * 3, IDS[END]]
        ]
    (tmp_path / "config.json").write_text(json.dumps({"text": {"context": "x"}}))
    with pytest.raises(CheckpointError, match="a context of 'x' came"):
        pretrained.tokenizer(tmp_path)


def test_our_own_word_level_tokenizer_needs_json_only(tmp_path, monkeypatch):
    WordTokenizer(("cat", "dog"), context=4).save(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        assert pretrained.tokenizer(path)(["dog"])[0].tolist() == [[3, 4]]
    write_vocabulary(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UsageError, match="pip install tokenizers"):
        pretrained.tokenizer(tmp_path)


def test_somebody_else_s_word_level_tokenizer_is_left_to_the_library(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    library = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"[UNK]": 0, "Cat": 1}, unk_token="[UNK]")
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    library.save(str(tmp_path / "tokenizer.json"))
    found = pretrained.tokenizer(tmp_path)
    assert isinstance(found, BytePairTokenizer) and found(["Cat cat"])[0].tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "has none of them; name a folder or file that has"),
        ({"tokenizer.json": b"{"}, "not JSON"),
        ({"tokenizer.json": b'{"model": {"type": "BPE"}}'}, "the tokenizers package cannot read"),
        ({"bpe_simple_vocab_16e6.txt.gz": b"no gzip"}, "cannot be unpacked"),
        ({"bpe_simple_vocab_16e6.txt.gz": gzip.compress(b"#version\na b c\n")}, "two pieces on a line, 'a b c' came"),
        ({"bpe_simple_vocab_16e6.txt.gz": gzip.compress(b"#version\n\xff\xfe\n")}, "UTF-8 text"),
        ({"bpe_simple_vocab_16e6.txt.gz": gzip.compress(b"#version\n" + b"a" * 70 * 2**20)}, "this one unpacks to more"),
        ({"vocab.json": b'{"a": 0}', "merges.txt": b""}, "<|startoftext|> and <|endoftext|> among them"),
        ({"vocab.json": b'{"a": "x", "<|startoftext|>": 1, "<|endoftext|>": 2}', "merges.txt": b""}, "maps tokens to numbers"),
        ({"vocab.json": b'{"<|startoftext|>": 1, "<|endoftext|>": 2}', "merges.txt": b"a b\n"}, "merges and the vocabulary belong"),
    ],
)  # fmt: skip
def test_a_broken_tokenizer_is_refused(files, said, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        pretrained.tokenizer(tmp_path)
    assert said in str(caught.value)


def test_a_single_text_is_refused(made, tmp_path):
    with pytest.raises(DataError, match=r"write \[text\]"):
        made("cat")
    with pytest.raises(CheckpointError, match="does not exist"):
        pretrained.tokenizer(tmp_path / "nowhere")


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_transformers_tokenizer_agrees_and_its_folder_opens(tmp_path):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPTokenizer(
        vocab=IDS, merges=[tuple(merge.split()) for merge in MERGES]
    )
    theirs.save_pretrained(tmp_path)
    ours = pretrained.tokenizer(tmp_path)
    texts = [
        "a photo of a CAT's",
        "cat  and\ncat 12!",
        "Café_ñ 日本語 #1",
        "it's <|endoftext|> and",
    ]
    ids, is_real = ours(texts)
    for row, real, text in zip(ids, is_real, texts, strict=True):
        assert row[real].tolist() == theirs(text)["input_ids"]


@pytest.mark.parametrize("model", ["WordLevel", "WordPiece"])
def test_a_tokenizer_without_its_unknown_token_is_refused_when_it_is_opened(model, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    made = getattr(tokenizers.models, model)({"a": 0, "[UNK]": 1}, unk_token="[UNK]")
    tokenizers.Tokenizer(made).save(str(tmp_path / "tokenizer.json"))
    assert pretrained.tokenizer(tmp_path)(["zebra"])[0].tolist() == [[1]]
    said = json.loads((tmp_path / "tokenizer.json").read_text())
    del said["model"]["vocab"]["[UNK]"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match=r"cannot read it \(.*\[UNK\].*copy its files again"):
        pretrained.tokenizer(tmp_path)


def test_half_a_character_beside_a_tokenizer_is_kept_or_refused(tmp_path):
    pytest.importorskip("tokenizers")
    write_vocabulary(tmp_path)
    config = {"model_max_length": 9, "note": "\ud800"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "out").mkdir()
    pretrained.tokenizer(tmp_path).save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "tokenizer_config.json").read_text()) == config
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": "\ud800"}))
    with pytest.raises(CheckpointError, match="the pad_token of tokenizer_config.json"):
        pretrained.tokenizer(tmp_path)


def test_a_panic_of_the_library_is_one_sentence(tmp_path, capfd):
    tokenizers = pytest.importorskip("tokenizers")
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "<s>": 1}, unk_token="a"))
    library.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    fails = json.loads(library.to_str())
    fails["post_processor"]["special_tokens"] = {}
    panics = tokenizers.Tokenizer.from_str(json.dumps(fails)).encode
    with pytest.raises(CheckpointError, match="cannot read it"):
        bpe.asked(panics, "a")
    assert "panicked" in capfd.readouterr().err
    with pytest.raises(CheckpointError, match="cannot read it"), bpe._without_traces():
        bpe.asked(panics, "a")
    assert not capfd.readouterr().err
    print("heard again", file=sys.stderr)
    assert capfd.readouterr().err == "heard again\n"


def test_a_frame_of_a_token_that_nobody_knows_is_refused(tmp_path, capfd):
    tokenizers = pytest.importorskip("tokenizers")
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "<s>": 1}, unk_token="a"))
    library.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    library.save(str(tmp_path / "tokenizer.json"))
    pretrained.tokenizer(tmp_path)
    text = (tmp_path / "tokenizer.json").read_text()
    said = json.loads(text)
    for processor in (
        said["post_processor"],
        {"type": "Sequence", "processors": [said["post_processor"]]},
    ):
        said["post_processor"] = processor
        (processor.get("processors") or [processor])[0]["single"][0]["SpecialToken"]["id"] = "<t>"
        (tmp_path / "tokenizer.json").write_text(json.dumps(said))
        with pytest.raises(CheckpointError, match="'<t>' is not there"):
            pretrained.tokenizer(tmp_path)
    for number, found in ((7, "None"), (0, "'a'")):
        said = json.loads(text)
        said["post_processor"]["special_tokens"]["<s>"]["ids"] = [number]
        (tmp_path / "tokenizer.json").write_text(json.dumps(said))
        with pytest.raises(
            CheckpointError, match=f"'<s>' as number {number}, which is {found} in the vocabulary"
        ):
            pretrained.tokenizer(tmp_path)
        said["post_processor"] = {
            "type": "BertProcessing",
            "sep": ["<s>", number],
            "cls": ["<s>", 1],
        }
        (tmp_path / "tokenizer.json").write_text(json.dumps(said))
        with pytest.raises(
            CheckpointError, match=f"'<s>' as number {number}, which is {found} in the vocabulary"
        ):
            pretrained.tokenizer(tmp_path)
    assert "panicked" not in capfd.readouterr().err
