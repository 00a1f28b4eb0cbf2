"""`train blip2`, its evaluation and `caption`, on the pictures that the other commands' tests use and on models of seconds."""

import json

import numpy as np
import pytest
from small_runs import start

from tinymm import pretrained
from tinymm.__main__ import main
from tinymm.models.blip2 import BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2
from tinymm.training.evaluate import similarities
from tinymm.training.records import read_json, read_metrics
from tinymm.workflows.open_model import open_model
from tinymm.workflows.studies import ablate_blip2 as ablate

TINY = (
    "--width 32 --layers 2 --heads 2 --embed-dim 16 --batch-size 6 --warmup 2 --workers 1".split()
)
#: What stage 1 alone has.
QUERIES = "--drop 0 --queries 3".split()


def flags(stage, data, out, *more):
    return [
        str(part)
        for part in (
            "train",
            "blip2",
            "--stage",
            stage,
            "--data",
            data,
            "--out",
            out,
            *TINY,
            *(QUERIES if stage == 1 else []),
            *more,
        )
    ]


@pytest.fixture(scope="module")
def first(trained, pictures, tmp_path_factory):
    """Give a run of stage 1 in front of the encoder that `trained` holds."""
    out = tmp_path_factory.mktemp("blip2") / "stage1"
    assert (
        main(flags(1, pictures, out, "--encoder", trained, "--steps", 6, "--validate-every", 3))
        == 0
    )
    return out


@pytest.fixture(scope="module")
def second(first, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("blip2") / "stage2"
    assert (
        main(
            flags(
                2,
                pictures,
                out,
                "--init",
                first,
                "--steps",
                4,
                "--language-steps",
                20,
                "--validate-every",
                2,
            )
        )
        == 0
    )
    return out


def test_stage_1_leaves_a_whole_run_folder(first, trained):
    held = {path.name for path in first.iterdir()}
    assert {
        "run.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "results.json",
        "metrics.csv",
        "loss.png",
        "report.html",
    } <= held
    assert "checkpoint.safetensors" not in held
    model = pretrained.load(first)
    assert isinstance(model, BLIP2Stage1)
    frozen, encoder = (
        model.image_encoder.state_dict(),
        pretrained.load(trained).image_encoder.state_dict(),
    )
    for name, array in encoder.items():
        np.testing.assert_array_equal(frozen[name], array)
    records = read_metrics(first)
    assert len(records) == 6 and all(
        record[name] is not None
        for record in records
        for name in ("itc", "itm", "itg", "temperature")
    )
    results = read_json(first / "results.json")
    assert results["chance"]["validation_itm_loss"] == pytest.approx(0.6365, abs=1e-4)
    assert {
        "validation_itc_r1",
        "validation_itm_reranked_r1",
        "validation_itm_accuracy",
        "validation_itg_perplexity",
    } <= results.keys()


def test_stage_2_goes_on_from_it_and_trains_its_language_model_first(second, first):
    model = pretrained.load(second)
    assert isinstance(model, BLIP2Stage2)
    language = pretrained.load(second / "language")
    for name, array in language.state_dict().items():
        np.testing.assert_array_equal(model.language_model.state_dict()[name], array)
    assert {"validation_captions_exact", "validation_captions_words_right"} <= read_json(
        second / "results.json"
    ).keys()
    assert read_metrics(second / "language")[-1]["lm"] < read_metrics(second / "language")[0]["lm"]


def test_evaluating_again_gives_the_same_numbers(command, first, second, tmp_path):
    for run in (first, second):
        done = command("eval", "--model", run, "--out", tmp_path / "again.json")
        assert done.code == 0, done.error
        again, before = read_json(tmp_path / "again.json"), read_json(run / "results.json")
        assert {name: before[name] for name in again} == again


def test_caption_says_something_of_each_picture_in_each_way(
    command, first, second, pictures, tmp_path
):
    files = [pictures / "p00.png", pictures / "p01.png"]
    ways = ((), ("--beams", 3), ("--top-p", 0.9, "--seed", 3), ("--prompt", "a red"))
    for run, more in ((run, way) for run in (first, second) for way in ways):
        done = command("caption", *files, "--model", run, *more, "--out", tmp_path / "said.json")
        assert done.code == 0, done.error
        assert len(done.lines) == 2 and all(
            line.startswith(str(file)) for line, file in zip(done.lines, files, strict=True)
        )
        assert json.loads((tmp_path / "said.json").read_text()).keys() == {
            str(file) for file in files
        }
    same = [
        command("caption", files[0], "--model", second, "--top-p", 0.9, "--seed", 3).out
        for _ in range(2)
    ]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (
            ("--model", "CLIP"),
            "holds a CLIP, which does not; name a run of `train blip`, `train blip2 --stage 1`, `train blip2 --stage 2`",
        ),
        (("--model", "FIRST", "--beams", 0), "beams 0 came"),
        (("--model", "FIRST", "--top-p", 2), "it lies in (0, 1]"),
    ],
)
def test_caption_names_what_it_cannot_do(command, first, trained, pictures, arguments, said):
    arguments = [{"FIRST": first, "CLIP": trained}.get(a, a) for a in arguments]
    done = command("caption", pictures / "p00.png", *arguments)
    assert done.code == 2 and said in done.error and done.error.count("\n") == 1


@pytest.mark.parametrize(
    "more, said",
    [
        (
            ("--batch-size", 1),
            "--batch-size is at least 2: with one pair there is nothing to contrast, and 1 came",
        ),
        (("--objectives", "itc,xyz"), "objectives are some of itc, itm, itg, and itc, xyz came"),
        (("--queries", 0), "--queries is at least 1, and 0 came"),
        (("--heads", 5), "5 heads came"),
        (("--encoder", "nowhere"), "nowhere does not exist"),
    ],
)
def test_train_blip2_refuses_with_one_sentence(command, trained, pictures, tmp_path, more, said):
    done = command(*flags(1, pictures, tmp_path / "run", "--encoder", trained, "--steps", 2), *more)
    assert done.code == 2 and said in done.error and done.error.count("\n") == 1, done.error


def test_classify_and_search_take_a_stage_1_which_contrasts_and_no_stage_2(
    command, first, second, pictures, tmp_path
):
    opened, labels = open_model(str(first)), ["a red square", "a blue pole"]
    images = np.stack([opened.preprocess(pictures / name) for name in ("p00.png", "p01.png")])
    cosines = similarities(opened.model, images, labels, opened.tokenizer)
    ways = (
        ("classify", pictures / "p00.png", "--labels", ",".join(labels)),
        ("search", pictures, labels[0], "--top", 24),
    )
    found = []
    for arguments in ways:
        done = command(*arguments, "--model", first, "--out", tmp_path / "found.json")
        assert done.code == 0, done.error
        found.append(read_json(tmp_path / "found.json"))
        done = command(*arguments, "--model", second)
        assert (
            done.code == 2 and "holds a BLIP2Stage2" in done.error and "`train clip`" in done.error
        )
    shares, scores = found
    assert sum(shares.values()) == pytest.approx(1) and (shares[labels[0]] > shares[labels[1]]) == (
        cosines[0, 0] > cosines[0, 1]
    )
    assert [scores["p00.png"], scores["p01.png"]] == pytest.approx(cosines[:, 0].tolist(), abs=1e-5)


def test_a_stopped_run_goes_on_bitwise(command, trained, pictures, tmp_path):
    common = ("--encoder", trained, "--steps", 6, "--checkpoint-every", 2, "--validate-every", 3)
    whole = tmp_path / "whole"
    assert command(*flags(1, pictures, whole, *common)).code == 0
    stopped = tmp_path / "stopped"
    process = start(*flags(1, pictures, stopped, *common, "--steps", 6))
    while not (stopped / "checkpoint.safetensors").exists() and process.poll() is None:
        pass
    process.kill()
    process.communicate()
    if (stopped / "checkpoint.safetensors").exists():
        done = command("train", "blip2", "--resume", stopped)
        assert done.code == 0, done.error
    assert (stopped / "model.safetensors").read_bytes() == (
        whole / "model.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_ablation_changes_one_thing_a_row(command, tmp_path):
    clip = [
        "train",
        "clip",
        "--data",
        "shapes",
        "--width",
        32,
        "--layers",
        2,
        "--text-layers",
        1,
        "--heads",
        2,
        "--embed-dim",
        16,
        "--batch-size",
        8,
    ]
    assert command(*clip, "--steps", 2, "--out", tmp_path / "clip").code == 0
    done = command(
        "ablate",
        "blip2",
        "--encoder",
        tmp_path / "clip",
        "--steps",
        1,
        "--out",
        tmp_path / "table.json",
    )
    assert done.code == 0, done.error
    assert list(read_json(tmp_path / "table.json")["rows"]) == list(ablate.VARIANTS)
    assert len(done.lines) == 2 + len(ablate.VARIANTS)


@pytest.mark.parity
def test_captions_by_a_folder_of_somebody_elses_and_none_by_one_that_cannot_write(
    command, pictures, tmp_path
):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    sizes = dict(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        encoder_hidden_size=24,
        vocab_size=30,
    )
    config = transformers.Blip2Config(
        vision_config=dict(hidden_size=24, intermediate_size=40, num_hidden_layers=1, num_attention_heads=3, image_size=16, patch_size=8),
        qformer_config=sizes | {"max_position_embeddings": 12}, num_query_tokens=4, image_token_index=29,
        text_config=dict(
            model_type="opt", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=24, vocab_size=30, max_position_embeddings=24,
            word_embed_proj_dim=16, pad_token_id=1, bos_token_id=2, eos_token_id=3,
        ),
    )  # fmt: skip
    transformers.Blip2ForConditionalGeneration(config).save_pretrained(tmp_path / "writes")
    config.qformer_config.use_qformer_text_input = True
    transformers.Blip2ForImageTextRetrieval(config).save_pretrained(tmp_path / "finds")
    words = {f"w{i}": i for i in range(26)} | {"a": 26, "photo": 27, "of": 28, "[UNK]": 29}
    library = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    library.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    library.post_processor = tokenizers.processors.TemplateProcessing(
        single="w2 $A", special_tokens=[("w2", 2)]
    )  # begins, and does not end
    for folder in ("writes", "finds"):
        library.save(str(tmp_path / folder / "tokenizer.json"))
    done = command(
        "caption",
        pictures / "p00.png",
        "--model",
        tmp_path / "writes",
        "--prompt",
        "a photo of",
        "--max-new-tokens",
        4,
    )
    assert done.code == 0 and done.lines[0].startswith(f"{pictures / 'p00.png'}: a photo of"), (
        done.error
    )
    done = command("caption", pictures / "p00.png", "--model", tmp_path / "finds")
    assert done.code == 2 and "language_head" in done.error


def test_in_chunks_either_stage_is_the_same_run_to_rounding(
    trained, first, second, pictures, here, command, undrawn
):
    starts = {1: ("--encoder", trained), 2: ("--init", first, "--language", second / "language")}
    for stage, begin in starts.items():
        found = []
        for out, more in ((f"whole{stage}", ()), (f"parts{stage}", ("--grad-cache", 4))):
            assert (
                command(*flags(stage, pictures, here / out, *begin, "--steps", 2, *more)).code == 0
            )
            found.append(
                [
                    {key: record[key] for key in ("loss", "gradient_norm")}
                    for record in read_metrics(here / out)
                ]
            )
        for whole, parts in zip(*found, strict=True):
            assert whole == pytest.approx(parts, rel=1e-3)
        assert (
            len(
                {
                    (here / f"{out}{stage}" / "model.safetensors").read_bytes()
                    for out in ("whole", "parts")
                }
            )
            == 2
        )  # by rounding
