"""BERT's word pieces: the framing, the two ways of cleaning, and the added [DEC] and [ENC]; beside transformers where it is installed."""

import json
import re

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from tinymm import pretrained  # noqa: E402
from tinymm.arrays.errors import CheckpointError, DataError, UsageError  # noqa: E402
from tinymm.pretrained.tokenizers.wordpiece import (
    WordPieceTokenizer,
    albef_caption,
    cleaned_caption,
)  # noqa: E402

PIECES = [
    "[PAD]",
    "[unused0]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "red",
    "ball",
    "##s",
    "play",
    "##ing",
    "cafe",
    ",",
    "'",
    "t",
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return tmp_path


def test_texts_are_framed_cut_and_padded(folder):
    tokenizer = pretrained.tokenizer(folder)
    ids, is_real = tokenizer(["A red BALLS!", "playing"])
    assert ids.tolist() == [[3, 6, 7, 8, 9, 4], [3, 10, 11, 4, 0, 0]]
    assert is_real.tolist() == [[True] * 6, [True] * 4 + [False] * 2]
    assert (tokenizer.begin, tokenizer.end_of_text, tokenizer.mask_token) == (3, 4, 5)
    assert (tokenizer.decode_token, tokenizer.encode_token) == (
        len(PIECES),
        len(PIECES) + 1,
    )  # 30522 and 30523 behind BERT's own
    assert tokenizer.decode(ids) == ["a red balls", "playing"]
    long, _ = tokenizer(["red " * 60])
    assert long.shape == (1, 32) and long[0, -1] == 4 and tokenizer.cut == 1
    np.testing.assert_array_equal(
        pretrained.tokenizer(folder / "vocab.txt")(["a ball"])[0], [[3, 6, 8, 4]]
    )


def test_gaps_are_shown_and_what_frames_a_text_is_not(folder):
    tokenizer = pretrained.tokenizer(folder)
    ids = np.array(
        [
            [tokenizer.decode_token, 6, tokenizer.mask_token, 8, 4],
            [tokenizer.encode_token, 7, 2, 4, 0],
        ]
    )
    assert tokenizer.decode(ids) == ["a [MASK] ball", "red"]
    assert (
        tokenizer(["[MASK] [CLS] [DEC] [ENC]"])[0].max() < tokenizer.decode_token
    )  # no text can spell them


def test_a_small_model_s_context_is_its_own(folder):
    for settings, context in (
        ({"text": {"context": 5}}, 5),
        ({"bert": {"max_position_embeddings": 512}}, 32),
        ({}, 32),
    ):
        (folder / "config.json").write_text(json.dumps(settings))
        assert pretrained.tokenizer(folder).context == context


TEXTS = [
    "Café, red",
    "A (red) ball: *playing*; #1~",
    "don't  stop",
    "",
    "ÀÉ red.ball",
    "red " * 60,
    "<person>-like/ball <PERSON>'s? \t red \n",
]


@pytest.mark.parametrize("text", TEXTS)
def test_captions_are_cleaned_as_the_original_does(text):
    assert cleaned_caption(text) == cleaned_caption(cleaned_caption(text))
    assert (
        not set('.!"()*#:;~') & set(cleaned_caption(text))
        and len(cleaned_caption(text).split()) <= 50
    )
    gone = "".join(letter for letter in text.lower() if letter not in ",.'!?\"()*#:;~")
    spaced = gone.replace("-", " ").replace("/", " ").replace("<person>", "person")
    assert albef_caption(text) == " ".join(re.split(r"\s+", spaced.strip())[:30]).strip()


def test_albef_s_captions_are_cleaned_otherwise_than_blip_s(folder):
    text = "Red-balls, don't play!"
    blip, albef = (
        pretrained.tokenizer(folder, cleaning=cleaning) for cleaning in ("blip", "albef")
    )
    assert blip([text])[0].tolist() != albef([text])[0].tolist()
    assert albef([text])[0].tolist() == blip(["red balls dont play"])[0].tolist()
    assert pretrained.tokenizer(folder)([text])[0].tolist() == blip([text])[0].tolist()
    with pytest.raises(
        UsageError,
        match="cleaned as 'blip' or 'albef', and 'clip' came; take that of the weights' paper",
    ):
        pretrained.tokenizer(folder, cleaning="clip")


@pytest.mark.parametrize("cleaning", ["blip", "albef"])
def test_one_that_was_saved_is_opened_as_it_was(folder, tmp_path_factory, cleaning):
    before = pretrained.tokenizer(folder, cleaning=cleaning)
    other = tmp_path_factory.mktemp("saved")
    before.save(other)
    after = pretrained.tokenizer(other, cleaning=cleaning)
    assert isinstance(after, WordPieceTokenizer)
    for name in (
        "begin",
        "end_of_text",
        "mask_token",
        "decode_token",
        "encode_token",
        "context",
        "cleaning",
    ):
        assert getattr(after, name) == getattr(before, name), name
    np.testing.assert_array_equal(after(TEXTS)[0], before(TEXTS)[0])
    assert after.decode(after(TEXTS)[0]) == before.decode(before(TEXTS)[0])


def test_wrong_files_and_calls_are_named(tmp_path, folder):
    with pytest.raises(DataError, match=r"the single text 'a ball' came; write \[text\]"):
        pretrained.tokenizer(folder)("a ball")
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(
        CheckpointError, match=r"2 lines came without \[PAD\], \[UNK\], \[CLS\], \[SEP\]"
    ):
        pretrained.tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_bytes("\n".join(PIECES).encode() + b"\n\xff\n")
    with pytest.raises(CheckpointError, match="vocab.txt: a list of pieces is UTF-8 text"):
        pretrained.tokenizer(tmp_path)


def test_a_piece_ends_with_its_line_only(tmp_path):
    odd = ["\u2028", "a\x85b", "\x0c"]
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*PIECES, *odd, "last"]).encode())
    library = pretrained.tokenizer(tmp_path).library
    assert [library.token_to_id(piece) for piece in (*odd, "last")] == [
        len(PIECES) + i for i in range(4)
    ]


@pytest.mark.parity
def test_transformers_gives_the_same_ids_and_its_folder_is_opened(folder, tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertTokenizer(str(folder / "vocab.txt"))
    theirs.add_special_tokens(
        {"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]}
    )  # as BLIP does
    saved = tmp_path_factory.mktemp("theirs")
    theirs.save_pretrained(saved)
    assert (saved / "tokenizer.json").exists()
    for ours in (pretrained.tokenizer(folder), pretrained.tokenizer(saved)):
        assert (ours.decode_token, ours.encode_token) == tuple(
            theirs.convert_tokens_to_ids(["[DEC]", "[ENC]"])
        )
        assert (ours.begin, ours.end_of_text, ours.mask_token) == (
            theirs.cls_token_id,
            theirs.sep_token_id,
            theirs.mask_token_id,
        )
        for text in ("a red ball", "Café playings, t'", "unknown words"):
            assert ours([text])[0][0].tolist() == theirs(text)["input_ids"], text
