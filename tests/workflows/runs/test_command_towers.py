"""`train albef` and `train blip`, their evaluation and captions, and CapFilt from the first model to the last, on models of a second."""

import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from small_runs import half_kept

from tinymm import pretrained
from tinymm.__main__ import main
from tinymm.arrays.errors import UsageError
from tinymm.data.builtin.web_pairs import WebPairs
from tinymm.losses import ITM_PRIOR
from tinymm.models.albef import ALBEF
from tinymm.models.blip import BLIP
from tinymm.tasks import albef, blip
from tinymm.training.checkpoint import FILE as CHECKPOINT
from tinymm.training.evaluate import similarities
from tinymm.training.records import RunFolder, read_json, read_metrics
from tinymm.workflows import sources
from tinymm.workflows.open_model import open_model
from tinymm.workflows.report import write_report
from tinymm.workflows.runs import capfilt, figures
from tinymm.workflows.runs import run as train
from tinymm.workflows.runs.prepare import plan

SPECS = {"albef": albef.spec, "blip": blip.spec}
MODELS = {"albef": ALBEF, "blip": BLIP}
THIRD = {"albef": "mlm", "blip": "lm"}
SIZES = "--resolution 16 --patch 8 --width 32 --layers 1 --text-layers 1 --heads 2 --embed-dim 16 --queue 2 --batch-size 8 --warmup 2 --workers 1"
FILES = """config.json data.json events loss.png metrics.csv metrics.jsonl model.safetensors preprocessor_config.json queue.png report.html
results.json retrieval.png run.json similarity.png tokenizer.json tokenizer_config.json words.png""".split()
WRITTEN = (
    "model.safetensors",
    "results.json",
    "config.json",
    "tokenizer.json",
    "preprocessor_config.json",
)


def flags(model, data, out, *more):
    return [
        str(part) for part in ("train", model, "--data", data, "--out", out, *SIZES.split(), *more)
    ]


def names(folder):
    return sorted(re.sub(r"events\.out.*", "events", path.name) for path in folder.iterdir())


def without_times(folder):
    return [
        {key: value for key, value in record.items() if key != "seconds"}
        for record in read_metrics(folder)
    ]


@pytest.fixture(scope="module")
def runs(pictures, tmp_path_factory):
    """Give the folders of an ALBEF and a BLIP; tests only read them."""
    out = tmp_path_factory.mktemp("towers")
    for model in MODELS:
        assert main(flags(model, pictures, out / model, "--steps", 6, "--validate-every", 3)) == 0
    return {model: out / model for model in MODELS}


@pytest.fixture(params=MODELS)
def model(request):
    return request.param


@pytest.fixture(scope="module")
def talkative(runs, tmp_path_factory):
    """Give the folder of a BLIP that never ends a caption before there is no room left."""
    out = tmp_path_factory.mktemp("talkative")
    blip = pretrained.load(runs["blip"])
    blip.decoder.language_head.bias.data[blip.config.end_of_text] -= 100
    pretrained.save(blip, out)
    for name in ("tokenizer.json", "preprocessor_config.json", "run.json"):
        shutil.copy(runs["blip"] / name, out)
    return out


@pytest.fixture
def stopped(monkeypatch):
    """Give a function that makes the next run stop as by Ctrl-C when the folder of that name has logged that step."""

    def stop(name, step):
        append = RunFolder.append

        def appended(folder, record):
            append(folder, record)
            if folder.path.name == name and record["step"] == step:
                monkeypatch.setattr(RunFolder, "append", append)
                raise KeyboardInterrupt

        monkeypatch.setattr(RunFolder, "append", appended)

    return stop


# ---------------------------------------------------------------------- a run folder
def test_a_run_folder_is_whole_and_holds_nothing_else(runs, model):
    assert names(runs[model]) == sorted([*FILES, *(["captions.png"] if model == "blip" else [])])
    loaded = pretrained.load(runs[model])
    assert (
        isinstance(loaded, MODELS[model])
        and loaded.queue.size == 16
        and int(loaded.queue.pushed.data) in (24, 48)
    )
    frame = {"albef": ["[CLS]", "[MASK]"], "blip": ["[CLS]", "[DEC]", "[ENC]"]}[model]
    words = pretrained.tokenizer(runs[model])
    assert list(words.frame) == frame and loaded.config.text.vocabulary == len(words)
    if model == "albef":
        assert loaded.config.mask == words.mask_token
    else:
        assert (loaded.config.decode, loaded.config.encode, loaded.config.end_of_text) == (
            words.decode_token,
            words.encode_token,
            words.end_of_text,
        )
    page = (runs[model] / "report.html").read_text()
    assert page.count("<img ") == 5 + (model == "blip")


def test_the_curves_have_a_column_for_each_loss(runs, model):
    records = read_metrics(runs[model])
    assert (
        tuple((runs[model] / "metrics.csv").read_text().splitlines()[0].split(","))
        == SPECS[model].columns
        == tuple(records[0])
    )
    assert SPECS[model].columns[2:6] == ("itc", "itm", THIRD[model], "temperature")
    for record in records:
        assert record["loss"] == pytest.approx(
            record["itc"] + record["itm"] + record[THIRD[model]], rel=1e-5
        )
        assert record["temperature"] > 0 and (record["validation_itm_accuracy"] is not None) == (
            record["step"] in (3, 6)
        )
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]


def test_the_best_by_matching_is_kept_and_measured(runs, model):
    results = read_json(runs[model] / "results.json")
    scores = {
        r["step"]: r["validation_itm_accuracy"]
        for r in read_metrics(runs[model])
        if r["validation_itm_accuracy"] is not None
    }
    best = max(scores, key=lambda step: (scores[step], step))
    assert (
        results["best_step"] == best
        and results["validation_itm_accuracy"] == scores[best]
        and results["steps"] == 6
    )
    chance = results["chance"]
    assert chance["validation_itm_loss"] == ITM_PRIOR and chance["validation_itm_accuracy"] == 2 / 3
    assert chance["validation_itc_r1"] == 1 / 5  # by their names, five of the 24 are kept back
    third = {
        "albef": {"validation_mlm_accuracy"},
        "blip": {"validation_lm_perplexity", "validation_lm_captions_exact"},
    }[model]
    assert third <= chance.keys() <= results.keys()


def test_what_is_kept_is_the_best_at_matching_and_not_at_retrieval(
    model, pictures, here, command, undrawn, monkeypatch
):
    scripted = iter([(0.2, 0.5), (0.1, 0.9), (0.9, 0.6), (0.9, 0.6)])
    monkeypatch.setattr(
        train,
        "validated",
        lambda *_: dict(
            zip(("validation_r1", "validation_itm_accuracy"), next(scripted), strict=True)
        ),
    )
    assert (
        command(
            *flags(
                model, pictures, "run", "--steps", 4, "--validate-every", 1, "--learning-rate", 1e-2
            )
        ).code
        == 0
    )
    results = read_json(here / "run" / "results.json")
    assert (
        results["best_step"] == 2
        and results["steps"] == 4
        and int(pretrained.load(here / "run").queue.pushed.data) == 16
    )
    assert command("eval", "--model", "run", "--out", "again.json").code == 0
    again = read_json(here / "again.json")
    assert again == {name: results[name] for name in again}, "what is measured is what is kept"


def test_evaluating_again_gives_the_same_numbers(runs, model, command, tmp_path):
    said = command("eval", "--model", runs[model], "--out", tmp_path / "again.json")
    assert said.code == 0, said.error
    again, before = read_json(tmp_path / "again.json"), read_json(runs[model] / "results.json")
    assert again == {name: before[name] for name in again} and before.keys() - again.keys() == {
        "steps",
        "best_step",
        "chance_loss",
    }
    assert any(
        re.match(r"validation itm accuracy +\d\.\d{3} +chance 0\.667", line) for line in said.lines
    )


@pytest.mark.parametrize("momentum", [0.9, None])
def test_chance_levels_are_those_of_equal_scores(model, momentum):
    settings = SPECS[model].settings(
        data="shapes",
        width=16,
        layers=1,
        text_layers=1,
        heads=2,
        embed_dim=8,
        queue=3,
        batch_size=4,
        momentum=momentum,
    )
    planned = plan(SPECS[model], settings, lambda _: None)
    words = math.log(len(planned.source.tokenizer))
    assert planned.chances == {
        "itc": math.log(16 if momentum else 4),
        "itm": ITM_PRIOR,
        THIRD[model]: words,
    }


def test_a_fresh_model_is_as_the_settings_say(model):
    settings = SPECS[model].settings(
        width=24, mlp_ratio=3, layers=2, text_layers=2, heads=3, embed_dim=10, queue=5, batch_size=4, alpha_warmup=7, alpha=0.3, momentum=0.8,
        patch=4,
        **{"mlm_probability": 0.25} if model == "albef" else {},
    )  # fmt: skip
    source = plan(SPECS[model], settings, lambda _: None).source
    words = source.tokenizer
    source.preprocess = replace(source.preprocess, resolution=12)
    built = SPECS[model].prepare(settings, source, {})
    config = built.config
    assert (config.embed_dim, config.queue, config.alpha_warmup, config.alpha, config.momentum) == (
        10,
        20,
        28,
        0.3,
        0.8,
    )
    assert (
        config.image.resolution,
        config.image.patch,
        config.image.layers,
        config.image.feed_forward,
        config.image.heads,
    ) == (12, 4, 2, 72, 3)
    assert (config.text.layers, config.text.fusion_layer) == (
        (4, 2) if model == "albef" else (2, 0)
    ) and config.text.context == words.context
    if model == "albef":
        assert config.mlm_probability == 0.25
    std = {
        name: float(p.data.std())
        for name, p in built.named_parameters()
        if "position" in name or name.endswith("embedding.words.weight")
    }
    assert std["encoders.image_encoder.positions"] == pytest.approx(0.5, rel=0.2)
    again = SPECS[model].prepare(settings, source, {}).state_dict()
    assert all(np.array_equal(array, again[name]) for name, array in built.state_dict().items())


# ---------------------------------------------------------------------- use
def test_caption_says_something_of_each_picture_in_each_way(command, talkative, pictures, tmp_path):
    files = [pictures / "p00.png", pictures / "p01.png"]
    for way, most in (
        ((), 5),
        (("--beams", 3), 5),
        (("--top-p", 0.9, "--seed", 3), 5),
        (("--max-new-tokens", 2), 2),
        (("--prompt", "a red"), 3),
    ):
        said = command(
            "caption", *files, "--model", talkative, *way, "--out", tmp_path / "said.json"
        )
        assert said.code == 0, said.error
        found = json.loads((tmp_path / "said.json").read_text())
        begin = "a red " if "--prompt" in way else ""
        assert said.lines == [f"{file}: {begin}{found[str(file)]}" for file in files]
        assert all(
            0 < len(text.split()) <= most for text in found.values()
        )  # padding is a word that nobody hears
    same = [
        command("caption", files[0], "--model", talkative, "--top-p", 0.9, "--seed", seed).out
        for seed in (3, 3, 4)
    ]
    assert same[0] == same[1] != same[2]


def test_a_prompt_is_where_the_text_goes_on(command, talkative, pictures):
    # What it writes behind its own beginning, greedily, is what it wrote without being told the beginning.
    file = pictures / "p00.png"
    whole = (
        command("caption", file, "--model", talkative).lines[0].removeprefix(f"{file}: ").split()
    )
    for first in (1, 2, 3):
        begin = " ".join(whole[:first]).upper()
        assert (
            command("caption", file, "--model", talkative, "--prompt", begin).lines[0]
            == f"{file}: {begin} {' '.join(whole[first:])}"
        )
    assert len(whole) == 5


def test_without_a_name_the_last_model_that_writes_is_asked(command, runs, pictures, here):
    for name in MODELS:
        shutil.copytree(runs[name], here / "runs" / name)
    assert (
        command("caption", pictures / "p00.png").out
        == command("caption", pictures / "p00.png", "--model", runs["blip"]).out
    )
    (here / "runs" / "blip").rename(here / "blip")
    said = command("caption", pictures / "p00.png")
    assert (
        said.code == 2
        and "there have a model that this command can use; train one (`python -m tinymm train --help`)"
        in said.error
    )


@pytest.mark.parametrize(
    "which, more, said",
    [
        ("albef", (), "holds an ALBEF, which does not; name a run of `train blip`"),
        ("blip", ("--beams", 0), "beams 0 came"),
        ("blip", ("--top-p", 1.5), "it lies in (0, 1]"),
        (
            "blip",
            ("--prompt", "a red square again a"),
            "leaves room for an answer, and 'a red square again a' is too long for 6 tokens; shorten it",
        ),
    ],
)
def test_caption_names_what_it_cannot_do(command, runs, pictures, which, more, said):
    done = command("caption", pictures / "p00.png", "--model", runs[which], *more)
    assert done.code == 2 and said in done.error and done.error.count("\n") == 1, done.error


def test_classify_and_search_take_every_model_that_contrasts(command, runs, model, pictures, here):
    opened = open_model(str(runs[model]))
    labels = ("a red square", "a blue pole")
    images = np.stack([opened.preprocess(pictures / name) for name in ("p00.png", "p01.png")])
    cosines = similarities(opened.model, images, list(labels), opened.tokenizer)
    done = command(
        "classify",
        pictures / "p00.png",
        "--labels",
        ",".join(labels),
        "--model",
        runs[model],
        "--out",
        "shares.json",
    )
    assert done.code == 0, done.error
    shares = read_json(here / "shares.json")
    assert sum(shares.values()) == pytest.approx(1) and (shares[labels[0]] > shares[labels[1]]) == (
        cosines[0, 0] > cosines[0, 1]
    )
    done = command(
        "search", pictures, labels[0], "--top", 24, "--model", runs[model], "--out", "found.json"
    )
    assert done.code == 0, done.error
    found = read_json(here / "found.json")
    assert len(found) == 24 and [found["p00.png"], found["p01.png"]] == pytest.approx(
        cosines[:, 0].tolist(), abs=1e-5
    )


# ---------------------------------------------------------------------- stopped and gone on
def test_a_stopped_run_goes_on_bitwise(command, model, pictures, here, undrawn, stopped):
    common = ("--steps", 7, "--checkpoint-every", 2, "--validate-every", 3, "--alpha-warmup", 4)
    assert command(*flags(model, pictures, "whole", *common)).code == 0
    stopped("run", 5)
    assert command(*flags(model, pictures, "run", *common)).code == 130
    assert (
        (here / "run" / CHECKPOINT).exists()
        and not (here / "run" / "results.json").exists()
        and len(read_metrics(here / "run")) == 5
    )
    done = command("train", model, "--resume", "run")
    assert done.code == 0, done.error
    for name in WRITTEN:
        assert (here / "run" / name).read_bytes() == (here / "whole" / name).read_bytes(), name
    assert without_times(here / "run") == without_times(here / "whole") and set(
        names(here / "run")
    ) == set(names(here / "whole"))
    assert [one["step"] for one in read_json(here / "run" / "run.json")["resumed"]] == [4]
    done = command("train", model, "--resume", "run")
    assert done.code == 2 and "is finished; start a new run with --out" in done.error


def test_another_seed_is_another_model(command, model, pictures, here, undrawn):
    for out, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert command(*flags(model, pictures, out, "--steps", 2, "--seed", seed)).code == 0
    weights = [(here / out / "model.safetensors").read_bytes() for out in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_without_a_momentum_encoder_it_trains_all_the_same(model, pictures, here, command):
    settings = SPECS[model].settings(
        data=str(pictures), resolution=16, width=16, layers=1, text_layers=1, heads=2, embed_dim=8, batch_size=8, steps=2, momentum=None, workers=1,
    )  # fmt: skip
    train.run(SPECS[model], settings, "alone", say=lambda _: None)
    assert (
        "queue.png" not in names(here / "alone")
        and pretrained.load(here / "alone").momentum_encoder is None
    )
    assert command("eval", "--model", "alone", "--out", "again.json").code == 0
    again, before = read_json(here / "again.json"), read_json(here / "alone" / "results.json")
    assert again == {name: before[name] for name in again}


# ---------------------------------------------------------------------- CapFilt
CLEANED = ("--capfilt", "--steps", 6, "--checkpoint-every", 2, "--validate-every", 3)


@pytest.fixture(scope="module")
def cleaned(pictures, tmp_path_factory):
    """Give the folder of a BLIP that was trained on what CapFilt left of the pictures' captions."""
    out = tmp_path_factory.mktemp("capfilt") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capfilt, "judge", half_kept(capfilt.judge))
        assert main(flags("blip", pictures, out, *CLEANED)) == 0
    return out


@pytest.fixture
def lenient(monkeypatch):
    monkeypatch.setattr(capfilt, "judge", half_kept(capfilt.judge))


def judged_of(folder):
    return [
        capfilt.Judged(**json.loads(line))
        for line in (folder / "captions.jsonl").read_text().splitlines()
    ]


def test_capfilt_leaves_both_models_and_what_became_of_each_caption(cleaned, pictures, lenient):
    assert names(cleaned) == sorted([*FILES, "captions.png", "captions.jsonl", "noisy"])
    assert names(cleaned / "noisy") == sorted([*FILES, "captions.png"])
    first, last = pretrained.load(cleaned / "noisy"), pretrained.load(cleaned)
    assert any(
        not np.array_equal(a, last.state_dict()[name]) for name, a in first.state_dict().items()
    )
    source = plan(
        blip.spec, blip.BLIPSettings(data=str(pictures), resolution=16), lambda _: None
    ).source
    judged = judged_of(cleaned)
    own = sorted((item.picture, item.caption) for item in judged if not item.written)
    assert own == sorted((i, text) for i, texts in enumerate(source.texts) for text in texts)
    kept = [item.kept for item in judged]
    assert sum(kept) == len(kept) // 2
    results = read_json(cleaned / "results.json")
    assert results["capfilt_web_captions"] == len(own) and results[
        "capfilt_written_captions"
    ] == len(judged) - len(own)
    before = read_json(cleaned / "noisy" / "results.json")
    assert {
        name.removeprefix("noisy_"): value
        for name, value in results.items()
        if name.startswith("noisy_")
    } == {name: value for name, value in before.items() if name != "chance"}


def test_what_is_trained_on_afterwards_passed_the_filter(
    cleaned, pictures, here, command, undrawn, lenient, monkeypatch
):
    seen, prepared = [], capfilt.bootstrapped

    def watched(source, judged):
        left = prepared(source, judged)
        drawn = left.batch
        left.batch = lambda indices, rng: seen.append(drawn(indices, rng)) or seen[-1]
        return left

    monkeypatch.setattr(capfilt, "bootstrapped", watched)
    shutil.copytree(
        cleaned, here / "run", ignore=shutil.ignore_patterns("results.json", "*.png", "report.html")
    )
    shutil.copy(cleaned / "noisy" / "results.json", here / "run" / "noisy")
    assert command("train", "blip", "--resume", "run").code == 0
    passed = {item.caption for item in judged_of(cleaned) if item.kept}
    told = {text for batch in seen for text in batch.captions}
    assert len(seen) == 6 and told and told <= passed
    assert (here / "run" / "model.safetensors").read_bytes() == (
        cleaned / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("where", ["first model", "judging", "last model"])
def test_a_stopped_capfilt_goes_on_bitwise(
    where, cleaned, pictures, here, command, undrawn, lenient, stopped, monkeypatch
):
    if where == "judging":
        judging = capfilt.judge
        monkeypatch.setattr(capfilt, "judge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    else:
        stopped("noisy" if where == "first model" else "run", 5)
    assert command(*flags("blip", pictures, "run", *CLEANED)).code == 130
    if where == "judging":
        monkeypatch.setattr(capfilt, "judge", judging)
    assert (here / "run" / "noisy" / "results.json").exists() == (where != "first model")
    assert (here / "run" / "captions.jsonl").exists() == (where == "last model")
    done = command("train", "blip", "--resume", "run")
    assert done.code == 0, done.error
    for folder in (".", "noisy"):
        for name in WRITTEN:
            assert (here / "run" / folder / name).read_bytes() == (
                cleaned / folder / name
            ).read_bytes(), (folder, name)
        assert without_times(here / "run" / folder) == without_times(cleaned / folder)
    assert (here / "run" / "captions.jsonl").read_bytes() == (
        cleaned / "captions.jsonl"
    ).read_bytes()


def test_where_no_caption_passes_it_says_so(pictures, here, command, undrawn, monkeypatch):
    monkeypatch.setattr(capfilt, "THRESHOLD", 1.0)
    done = command(*flags("blip", pictures, "run", *CLEANED))
    assert done.code == 2 and re.search(
        r"captions that pass the filter, and none of \d+ does; train the first model for longer$",
        done.error.strip(),
    )
    assert (here / "run" / "noisy" / "results.json").exists() and not (
        here / "run" / "results.json"
    ).exists()


def test_clean_shapes_are_swapped_for_noisy_ones(here, command, monkeypatch, lenient):
    pictures = np.arange(2, 231 * 48, 500)
    monkeypatch.setattr(WebPairs, "web_pictures", lambda self: pictures)
    monkeypatch.setattr(figures, "draw", lambda path, *_: write_report(path))
    done = command(
        *flags(
            "blip", "shapes", "run", "--capfilt", "--steps", 2, "--tuning-steps", 2, "--patch", 16
        )
    )
    assert done.code == 0, done.error
    assert "it runs on web-shapes, of whose captions 40 % belong to another scene" in " ".join(
        done.out.split()
    )
    assert read_json(here / "run" / "run.json")["settings"]["data"] == "web-shapes"
    results, web = read_json(here / "run" / "results.json"), WebPairs()
    true = [web.is_true(i, web.texts[i][0]) for i in pictures]
    assert results["capfilt_web_captions"] == len(pictures) and results[
        "capfilt_web_true"
    ] == pytest.approx(np.mean(true))
    assert {
        "held_out_itc_r1",
        "held_out_lm_captions_exact",
        "swap_relation_itm",
        "noisy_swap_relation_itm",
    } <= results.keys()
    assert (
        "capfilt.png" in names(here / "run")
        and "What CapFilt kept" in (here / "run" / "report.html").read_text()
    )
    assert any(
        "tuned for 2 steps each on 462 pairs that people have seen" in line for line in done.lines
    )


# ---------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    "name, more, said",
    [
        (
            "blip",
            ("--batch-size", 1),
            "--batch-size is at least 2: with one pair there is nothing to contrast, and 1 came",
        ),
        ("albef", ("--queue", 0), "--queue is at least 1, and 0 came"),
        (
            "albef",
            ("--momentum", 1.5),
            "--momentum is in [0, 1], and 1.5 came; give another, or leave it out",
        ),
        ("blip", ("--momentum", "nan"), "--momentum is in [0, 1], and nan came"),
        ("blip", ("--alpha", -0.1), "--alpha is in [0, 1], and -0.1 came"),
        ("albef", ("--alpha-warmup", -1), "--alpha-warmup is at least 0, and -1 came"),
        ("albef", ("--mlm-probability", 2), "--mlm-probability is in [0, 1], and 2.0 came"),
        (
            "albef",
            ("--mlm-probability", 0),
            "mlm_probability is the probability that a token is masked for MLM, in (0, 1], and 0.0 came",
        ),
        ("blip", ("--tuning-steps", 0), "--tuning-steps is at least 1, and 0 came"),
        ("blip", ("--heads", 5), "5 heads came"),
        ("albef", ("--patch", 5), "patch"),
        ("blip", ("--workers", 0), "--workers is at least 1, and 0 came"),
        ("albef", ("--data", "nowhere"), "'nowhere' is none of these"),
        (
            "blip",
            ("--data", "glyphs", "--capfilt"),
            "captions that may be wrong, and those of glyphs are right; give --data web-shapes",
        ),
        ("albef", ("--objectives", "itc"), "unrecognized arguments: --objectives itc"),
        ("albef", ("--capfilt",), "unrecognized arguments: --capfilt"),
        ("albef", ("--tuning-steps", 3), "unrecognized arguments: --tuning-steps 3"),
        ("blip", ("--mlm-probability", 0.3), "unrecognized arguments: --mlm-probability 0.3"),
    ],
)
def test_training_refuses_with_one_sentence(command, pictures, here, name, more, said):
    done = command(*flags(name, pictures, "run", "--steps", 1), *more)
    assert done.code == 2 and said in done.error, done.error
    assert done.error.count("\n") == 1 or "usage: " in done.error
    assert not (here / "run").exists(), "refused before there is a folder"


def test_one_picture_is_no_batch(monkeypatch, pictures):
    source = sources.open_source(str(pictures), resolution=16)
    source.training = source.training[:1]
    monkeypatch.setattr(sources, "open_source", lambda *_, **__: source)
    with pytest.raises(
        UsageError,
        match="a contrastive batch needs at least 2 pairs and the data has 1; add pictures with captions",
    ):
        plan(
            albef.spec,
            albef.ALBEFSettings(data=str(pictures), resolution=16, width=32, heads=2),
            lambda _: None,
        )


@pytest.mark.parametrize("name", ["clip", "blip2"])
def test_a_run_of_another_model_is_not_gone_on_with(
    name, pictures, here, command, undrawn, stopped
):
    stopped(
        "run", 1
    )  # before its first checkpoint, where nothing but the columns tells it from another's
    assert command(*flags("blip", pictures, "run", "--steps", 3)).code == 130
    before = {path.name: path.read_bytes() for path in (here / "run").iterdir()}
    done = command("train", name, "--resume", "run")
    assert done.code == 2 and done.error.count("\n") == 1
    assert (
        "--resume goes on with a run of the same model, and run is one of blip; say so after `train`, or start a new run"
        in done.error
    )
    assert {path.name: path.read_bytes() for path in (here / "run").iterdir()} == before


def test_less_data_than_a_batch_is_a_batch(model, pictures, here, command, undrawn):
    done = command(*flags(model, pictures, "run", "--steps", 2, "--batch-size", 25))
    assert done.code == 0, done.error
    assert (
        "batch B = 19" in done.out
        and f"itc ln(B + K) = {math.log(57):.3f}" in done.out
        and pretrained.load(here / "run").queue.size == 38
    )
    assert (
        f"(equal scores {math.log(57) + ITM_PRIOR + math.log(pretrained.load(here / 'run').config.text.vocabulary):.3f})"
        in done.out
    )


def test_less_data_than_a_batch_behind_the_filter_is_a_batch_too(
    cleaned, pictures, here, command, undrawn, monkeypatch
):
    def few(source, judged):
        return source.with_captions(
            [texts if i < 5 else () for i, texts in enumerate(source.texts)]
        )

    monkeypatch.setattr(capfilt, "bootstrapped", few)
    shutil.copytree(
        cleaned, here / "run", ignore=shutil.ignore_patterns("results.json", "*.png", "report.html")
    )
    shutil.copy(cleaned / "noisy" / "results.json", here / "run" / "noisy")
    done = command("train", "blip", "--resume", "run")
    assert done.code == 0, done.error
    assert (
        "pairs: 5 training pictures" in done.out
        and "batch B = 5" in done.out
        and pretrained.load(here / "run").queue.size == 10
    )


def test_in_chunks_it_is_the_same_run_to_rounding(model, pictures, here, command, undrawn):
    found = []
    for out, more in (("whole", ()), ("parts", ("--grad-cache", 3))):
        assert (
            command(
                *flags(model, pictures, here / out, "--steps", 2, "--validate-every", 2, *more)
            ).code
            == 0
        )
        found.append(
            [
                {key: record[key] for key in ("itc", "itm", THIRD[model], "gradient_norm")}
                for record in read_metrics(here / out)
            ]
        )
    for whole, parts in zip(*found, strict=True):
        assert whole == pytest.approx(parts, rel=1e-3)
    assert (
        len({(here / out / "model.safetensors").read_bytes() for out in ("whole", "parts")}) == 2
    )  # by rounding: it was in chunks
