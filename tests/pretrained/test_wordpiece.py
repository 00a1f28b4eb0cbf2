"""BERT's word pieces: the framing, the cleaning and the added [DEC]; beside transformers where it is installed."""

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from tinymm import pretrained  # noqa: E402
from tinymm.arrays.errors import CheckpointError, DataError  # noqa: E402
from tinymm.pretrained.wordpiece import cleaned_caption  # noqa: E402

PIECES = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "ball", "##s", "play", "##ing", "cafe", ",", "'", "t"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return tmp_path


def test_texts_are_framed_cut_and_padded(folder):
    tokenizer = pretrained.tokenizer(folder)
    ids, is_real = tokenizer(["A red BALLS!", "playing"])
    assert ids.tolist() == [[3, 6, 7, 8, 9, 4], [3, 10, 11, 4, 0, 0]]
    assert is_real.tolist() == [[True] * 6, [True] * 4 + [False] * 2]
    assert (tokenizer.begin, tokenizer.end_of_text, tokenizer.decode_token) == (3, 4, len(PIECES))
    assert tokenizer.decode(ids) == ["a red balls", "playing"]
    long, _ = tokenizer(["red " * 60])
    assert long.shape == (1, 32) and long[0, -1] == 4 and tokenizer.cut == 1
    np.testing.assert_array_equal(pretrained.tokenizer(folder / "vocab.txt")(["a ball"])[0], [[3, 6, 8, 4]])


@pytest.mark.parametrize("text", ["Café, red", "A (red) ball: *playing*; #1~", "don't  stop", "", "ÀÉ red.ball", "red" * 50])
def test_captions_are_cleaned_as_the_original_does(text):
    assert cleaned_caption(text) == cleaned_caption(cleaned_caption(text))
    assert not set('.!"()*#:;~') & set(cleaned_caption(text))


def test_wrong_files_and_calls_are_named(tmp_path, folder):
    with pytest.raises(DataError, match=r"the single text 'a ball' came; write \[text\]"):
        pretrained.tokenizer(folder)("a ball")
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(CheckpointError, match=r"2 lines came without \[PAD\], \[UNK\], \[CLS\], \[SEP\]"):
        pretrained.tokenizer(tmp_path)


@pytest.mark.parity
def test_transformers_gives_the_same_ids(folder):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertTokenizer(str(folder / "vocab.txt"))
    ours = pretrained.tokenizer(folder)
    for text in ("a red ball", "Café playings, t'", "unknown words"):
        assert ours([text])[0][0].tolist() == theirs(text)["input_ids"], text
