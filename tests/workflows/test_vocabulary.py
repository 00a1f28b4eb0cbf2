"""Which words a run is trained on: characters, byte pairs, another's; and every command finds them."""

import json

import numpy as np
import pytest
from scenes_in_languages import write
from small_runs import TINY, draw, train_command

from tinymm import pretrained
from tinymm.data.text import WordTokenizer
from tinymm.tasks import clip
from tinymm.training.records import read_json
from tinymm.workflows.open_model import open_model
from tinymm.workflows.runs import run as train

TOWERS = [*TINY, "--queue", "1"]
SHORT = ["--steps", 2, "--validate-every", 2]


@pytest.fixture(scope="module")
def chinese(tmp_path_factory):
    return write("Chinese", tmp_path_factory.mktemp("data") / "zh", scenes=8)


def test_characters_are_words_of_a_run_and_every_command_reads_them(
    chinese, here, command, undrawn
):
    assert command(*train_command(chinese, here / "run", *SHORT)).code == 0
    words = pretrained.tokenizer(here / "run")
    assert (
        isinstance(words, WordTokenizer)
        and "红" in words.vocabulary
        and max(map(len, words.vocabulary)) == 1
    )
    said = command(
        "classify",
        chinese / "000.png",
        "--labels",
        "红色的圆形,“蓝色”的星形",
        "--model",
        here / "run",
    )
    assert said.code == 0 and "unknown" not in said.out
    said = command("search", chinese, "红色", "--model", here / "run", "--top", "2")
    assert said.code == 0 and len(said.lines) == 2
    assert command("eval", "--model", here / "run").code == 0
    assert (
        "猫"
        in command(
            "classify", chinese / "000.png", "--labels", "猫,红", "--model", here / "run"
        ).error
    )


def test_byte_pairs_are_learned_saved_and_found_again(chinese, here, command, undrawn):
    pytest.importorskip("tokenizers")
    assert command(*train_command(chinese, here / "run", *SHORT, "--vocabulary", "bpe")).code == 0
    words = pretrained.tokenizer(here / "run")
    assert (
        any(len(token) > 1 for token in words.tokens("红色的圆形在蓝色的星形的左边"))
        and words.context <= 77
    )
    assert words.decode(words(["红色的圆形"])[0]) == ["红色的圆形"]
    said = read_json(here / "run" / "config.json")["text_config"]
    assert (
        said["vocab_size"],
        said["eos_token_id"],
        said["bos_token_id"],
        said["pad_token_id"],
    ) == (len(words), words.end_of_text, None, 0)
    for arguments in (
        ("eval",),
        ("classify", chinese / "000.png", "--labels", "红色的圆形,zebra"),
        ("search", chinese, "红色的星形"),
    ):
        assert command(*arguments, "--model", here / "run").code == 0
    assert (
        command(*train_command(chinese, here / "tuned", *SHORT, "--init", here / "run")).code == 0
    )
    np.testing.assert_array_equal(
        pretrained.tokenizer(here / "tuned")(["红色 zebra"])[0], words(["红色 zebra"])[0]
    )
    wrong = command(
        *train_command(chinese, here / "no", *SHORT, "--init", here / "run", "--vocabulary", "bpe")
    )
    assert wrong.code == 2 and "keeps its vocabulary" in wrong.error and not (here / "no").exists()


def pieces(folder):
    letters = sorted(
        {letter for way in ("红色的圆形在蓝绿黄星三角方左右上下边面图里有它是",) for letter in way}
    )
    folder.mkdir()
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]) + "\n", encoding="utf-8"
    )
    return folder


@pytest.mark.parametrize("model", ["clip", "albef", "blip"])
def test_a_folder_s_own_tokenizer_is_trained_on(model, chinese, here, command, undrawn):
    pytest.importorskip("tokenizers")
    folder = pieces(here / "pieces")
    flags = TINY if model == "clip" else TOWERS
    said = command(
        "train",
        model,
        "--data",
        chinese,
        "--out",
        here / "run",
        *flags,
        *SHORT,
        "--tokenizer",
        folder,
    )
    assert said.code == 0, said.error
    words, theirs = pretrained.tokenizer(here / "run"), pretrained.tokenizer(folder)
    assert words(["红色的星形"])[0].tolist() == theirs(["红色的星形"])[0].tolist()
    assert (
        words.context < theirs.context
        and open_model(str(here / "run")).tokenizer.context == words.context
    )
    assert command("eval", "--model", here / "run").code == 0
    both = command(
        "train",
        model,
        "--data",
        chinese,
        "--out",
        here / "no",
        *flags,
        *SHORT,
        "--tokenizer",
        folder,
        "--vocabulary",
        "bpe",
    )
    assert both.code == 2 and "leave one of them out" in both.error


def test_blip2_reads_byte_pairs_through_both_stages(chinese, here, command):
    pytest.importorskip("tokenizers")
    flags = "--width 32 --layers 1 --heads 2 --embed-dim 16 --batch-size 8 --warmup 2 --workers 1 --steps 2".split()
    assert command(*train_command(chinese, here / "clip", *SHORT, "--vocabulary", "bpe")).code == 0
    said = command(
        "train",
        "blip2",
        "--data",
        chinese,
        "--encoder",
        here / "clip",
        "--out",
        here / "s1",
        *flags,
        *("--queries", 2, "--drop", 0),
    )
    assert said.code == 0, said.error
    said = command(
        "train",
        "blip2",
        "--stage",
        "2",
        "--data",
        chinese,
        "--init",
        here / "s1",
        "--out",
        here / "s2",
        "--language-steps",
        "2",
        *flags,
    )
    assert said.code == 0, said.error
    said = command("caption", chinese / "000.png", "--model", here / "s2", "--max-new-tokens", "3")
    assert said.code == 0, said.error


def test_a_run_that_goes_on_has_its_own_words(chinese, here, undrawn, monkeypatch):
    pytest.importorskip("tokenizers")
    flags = dict(
        data=str(chinese), resolution=16, patch=8, width=32, layers=1, text_layers=1, heads=2, embed_dim=16, batch_size=8, warmup=2, workers=1,
        steps=4,
        validate_every=4, checkpoint_every=2, tokenizer=str(pieces(here / "pieces")),
    )  # fmt: skip
    real = train.learn

    def stopped(*arguments, **options):
        real(*arguments, **options | {"validate": lambda: (_ for _ in ()).throw(KeyboardInterrupt)})

    monkeypatch.setattr(train, "learn", stopped)
    with pytest.raises(KeyboardInterrupt):
        train.run(clip.spec, clip.CLIPSettings(**flags), str(here / "run"), say=lambda _: None)
    before = (here / "run" / "tokenizer.json").read_bytes()
    monkeypatch.setattr(train, "learn", real)
    (here / "pieces" / "vocab.txt").unlink()
    train.run(clip.spec, clip.CLIPSettings(), resume=str(here / "run"), say=lambda _: None)
    assert (here / "run" / "tokenizer.json").read_bytes() == before


def test_captions_of_one_word_are_told_at_once(here, command, undrawn):
    folder = draw(here / "data")
    text = (folder / "captions.csv").read_text().splitlines()
    (folder / "captions.csv").write_text(
        "\n".join([text[0], *(f"{line.replace(' ', '_')}_{i}" for i, line in enumerate(text[1:]))])
        + "\n"
    )
    said = command("data", "check", folder)
    assert (
        "24 of 24 captions are one single word, 24 of these words occur once" in said.out
        and "scripts: Latin 24" in said.out
    )
    assert (
        "captions are one single word" in command(*train_command(folder, here / "run", *SHORT)).out
    )


def test_data_check_says_what_a_model_sees(chinese, command):
    said = command("data", "check", chinese)
    assert (
        "scripts: Chinese 24" in said.out
        and "is read as" in said.out
        and " · 色 · 的 · " in said.out
    )
    pytest.importorskip("tokenizers")
    said = command("data", "check", chinese, "--vocabulary", "bpe")
    assert (
        said.code == 0
        and "色的"
        in next(line for line in said.lines if "is read as" in line).split("is read as")[1]
    )


def test_a_fine_tuned_folder_keeps_what_transformers_needs(chinese, here, command, undrawn):
    pytest.importorskip("tokenizers")
    assert command(*train_command(chinese, here / "run", *SHORT, "--vocabulary", "bpe")).code == 0
    config = read_json(here / "run" / "tokenizer_config.json") | {
        "model_max_length": 7,
        "of_somebody": "else",
    }
    (here / "run" / "tokenizer_config.json").write_text(json.dumps(config))
    (here / "run" / "special_tokens_map.json").write_text(
        json.dumps({"pad_token": {"content": "[EOT]"}})
    )
    assert (
        command(*train_command(chinese, here / "tuned", *SHORT, "--init", here / "run")).code == 0
    )
    assert read_json(here / "tuned" / "tokenizer_config.json") == config
    assert (here / "tuned" / "special_tokens_map.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("language", ["Chinese", "Japanese", "Thai"])
def test_captions_without_spaces_are_learned(language, here, command, undrawn):
    folder = write(language, here / "data")
    said = command(
        "train",
        "clip",
        "--data",
        folder,
        "--out",
        here / "run",
        "--steps",
        60,
        "--warmup",
        10,
        "--validate-every",
        60,
    )
    found = read_json(here / "run" / "results.json")
    print(language, found["validation_r1"], found["chance"]["validation_r1"])
    assert said.code == 0 and found["validation_r1"] >= 5 * found["chance"]["validation_r1"]
