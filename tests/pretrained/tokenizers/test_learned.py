"""Byte pairs learned from captions, other people's tokenizers from scratch, beside transformers."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

tokenizers = pytest.importorskip("tokenizers")

from tinymm import pretrained  # noqa: E402
from tinymm.data.text import WordTokenizer  # noqa: E402
from tinymm.pretrained.tokenizers.bpe import BytePairTokenizer  # noqa: E402
from tinymm.pretrained.tokenizers.learned import learned  # noqa: E402

CAPTIONS = [
    "一只红色的猫",
    "一只蓝色的猫在桌子上",
    "红色的狗",
    "a red cat",
    "a “red” dog’s ball",
    "แมวสีแดง",
] * 3
TEXTS = [
    "一只红色的狗",
    "A RED dog's cat",
    "a “red” [EOT] [PAD] zebra",
    "",
    "แมว 🐱\u200b",
    "a\u00a0red ｃat – [MASK]",
]


@pytest.fixture(scope="module")
def ours():
    return learned(CAPTIONS)


def test_common_pairs_become_tokens_and_nothing_is_unknown(ours):
    assert ours.tokens("一只红色的猫")[0] == "一只" and len(ours(["一只红色的猫"])[0][0]) < 5
    assert ours.decode(ours(["一只红色的猫 a red dog's"])[0]) == [
        "一只红色的猫 a red"
    ]  # the context is the longest caption's
    wide = learned(CAPTIONS, context=60)
    assert wide.decode(wide(["Zebra 斑馬 [EOT] 🐱 “x”"])[0]) == ["zebra 斑馬 [eot] 🐱 x"]
    ids, is_real = wide(["a [EOT] [PAD] b", "猫"])
    assert (
        (ids == wide.end_of_text).sum() == 2
        and wide.end_of_text == len(wide) - 1 == ids.max()
        and (ids[~is_real] == 0).all()
    )


def test_the_same_captions_in_any_order_make_the_same_tokenizer(ours):
    shuffled = random.Random(0).sample(CAPTIONS, len(CAPTIONS))
    assert learned(shuffled).library.to_str() == ours.library.to_str()
    assert len(learned(CAPTIONS, most=270)) == 270


@pytest.mark.parametrize("frame", [(), ("[DEC]",), ("[MASK]",), ("[DEC]", "[ENC]")])
def test_what_was_saved_is_found_again(frame, ours, tmp_path):
    made = ours.with_frame(*frame) if frame else ours
    made.save(tmp_path)
    again = pretrained.tokenizer(tmp_path)
    for name in (
        "begin",
        "end_of_text",
        "decode_token",
        "encode_token",
        "mask_token",
        "pad",
        "context",
        "frame",
    ):
        assert getattr(again, name) == getattr(made, name), name
    assert len(again) == len(made) and bool(again.frame) == bool(frame)
    np.testing.assert_array_equal(again(TEXTS)[0], made(TEXTS)[0])
    if frame:
        assert made(["猫"])[0][0, 0] == made.begin and set(frame) <= set(made.frame)
        special = [made.begin, made.decode_token, made.encode_token, made.mask_token]
        assert not set(made(["[CLS] [DEC] [ENC] [MASK]"])[0][0, 1:].tolist()) & {
            token for token in special if token is not None
        }
        assert made.with_frame(*frame).library.to_str() == made.library.to_str()


def of_others(kind):
    models, pre = tokenizers.models, tokenizers.pre_tokenizers
    if kind == "bytes without an end":
        library = tokenizers.Tokenizer(models.BPE())
        library.pre_tokenizer, library.decoder = pre.ByteLevel(), tokenizers.decoders.ByteLevel()
        library.train_from_iterator(
            CAPTIONS,
            tokenizers.trainers.BpeTrainer(
                initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False
            ),
        )
    elif kind == "begins and does not end":
        library = tokenizers.Tokenizer(
            models.WordLevel({"<s>": 0, "a": 1, "cat": 2, "<unk>": 3}, unk_token="<unk>")
        )
        library.pre_tokenizer = pre.Whitespace()
        library.post_processor = tokenizers.processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    else:
        library = tokenizers.Tokenizer(
            models.WordLevel(
                {"<pad>": 0, "a": 1, "cat": 2, "</s>": 3, "<unk>": 4}, unk_token="<unk>"
            )
        )
        library.pre_tokenizer = pre.Whitespace()
        library.post_processor = tokenizers.processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 3)]
        )
    return library


@pytest.mark.parametrize(
    "kind", ["bytes without an end", "begins and does not end", "ends and does not begin"]
)
def test_somebody_else_s_tokenizer_gets_the_frame_that_it_lacks(kind, tmp_path):
    of_others(kind).save(str(tmp_path / "tokenizer.json"))
    found = pretrained.tokenizer(tmp_path)
    assert (found.begin is not None, found.ends) == ("begins and" in kind, "ends and" in kind)
    framed = found.with_frame("[DEC]", "[ENC]")
    ids, is_real = framed(["a cat", "a"])
    inside = of_others(kind).encode("a cat", add_special_tokens=False).ids
    assert ids[0].tolist() == [framed.begin, *inside, framed.end_of_text] and is_real[0].all()
    assert (
        len(framed) > max(ids.max(), framed.decode_token, framed.encode_token)
        and found.decode_token is None
    )
    ended = found.framed()
    assert (
        ended(["a cat"])[0][0, -1] == ended.end_of_text
        and ended.ends
        and ended.begin == found.begin
    )
    framed.save(tmp_path)
    np.testing.assert_array_equal(pretrained.tokenizer(tmp_path)(["a cat", "a"])[0], ids)


def test_the_longest_text_is_what_any_of_the_files_says(ours, tmp_path):
    ours.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 12}))
    assert pretrained.tokenizer(tmp_path).context == 12
    (tmp_path / "config.json").write_text(
        json.dumps({"text_config": {"max_position_embeddings": 9}})
    )
    assert pretrained.tokenizer(tmp_path).context == 9
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}))
    assert pretrained.tokenizer(tmp_path).context == 9


# ------------------------------------------------------------------ beside transformers
SAME_IN_BOTH = st.characters(exclude_categories=("Cs", "Cn", "Co"), max_codepoint=0xFFFF)
RANDOM = st.one_of(
    st.sampled_from([*CAPTIONS, *TEXTS]),
    st.text(SAME_IN_BOTH, max_size=20),
    st.text(st.sampled_from("ab 猫’น้ำﬁ[]EOT"), max_size=20),
)


@pytest.fixture(scope="module", params=["words", "framed words", "byte pairs", "framed byte pairs"])
def both(request, ours, tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    made = WordTokenizer.from_captions(CAPTIONS) if "words" in request.param else ours
    made = made.with_frame("[DEC]", "[ENC]") if "framed" in request.param else made
    folder = tmp_path_factory.mktemp("run")
    made.save(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    return made, transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parity
@given(texts=st.lists(RANDOM, min_size=1, max_size=4))
def test_transformers_gives_the_same_ids(both, texts):
    made, theirs = both
    ids, is_real = made(texts)
    found = theirs(texts, padding=True, truncation=True)
    assert (
        found["input_ids"] == ids.tolist()
        and found["attention_mask"] == is_real.astype(int).tolist()
    )


@pytest.mark.parity
def test_transformers_knows_the_special_tokens(both):
    made, theirs = both
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.model_max_length) == (
        0,
        made.end_of_text,
        made.context,
    )
    assert theirs.bos_token_id == made.begin
    assert theirs.unk_token_id == (1 if isinstance(made, WordTokenizer) else None)


@pytest.mark.parity
def test_a_processor_s_ids_come_without_cleaning(tmp_path):
    transformers = pytest.importorskip("transformers")
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "a",
        "red",
        "ball",
        "##s",
        ",",
        "!",
        "(",
        ")",
        "-",
    ]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    theirs = transformers.BertTokenizer(str(tmp_path / "vocab.txt"))
    texts = ["A (red) ball!", "red-balls, a"]
    plain = pretrained.tokenizer(tmp_path, cleaning=None)
    assert [row[real].tolist() for row, real in zip(*plain(texts), strict=True)] == [
        theirs(text)["input_ids"] for text in texts
    ]
    assert pretrained.tokenizer(tmp_path)(texts)[0].tolist() != plain(texts)[0].tolist()
    assert isinstance(plain, BytePairTokenizer)
