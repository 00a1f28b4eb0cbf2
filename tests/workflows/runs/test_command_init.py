"""`train MODEL --init RUN` of each model: it goes on with the weights, the words and the images of what it begins with."""

import shutil

import numpy as np
import pytest
from small_runs import TINY, draw

from tinymm import pretrained, tasks
from tinymm.__main__ import main
from tinymm.models.blip2 import BLIP2Stage1
from tinymm.training.records import RunFolder, read_json, read_metrics
from tinymm.workflows.runs import figures

QUERIES = (
    "--width 16 --layers 1 --heads 2 --embed-dim 8 --batch-size 8 --warmup 2 --workers 1".split()
)
SHORT = ["--steps", 3, "--validate-every", 3]
KINDS = ["clip", "albef", "blip", "blip2-stage1", "blip2-stage2"]


def command_of(kind):
    spec = tasks.spec_named(kind)
    return ["train", spec.group or spec.name, *(["--stage", spec.stage] if spec.stage else [])]


@pytest.fixture(scope="module")
def runs(trained, pictures, tmp_path_factory):
    """Give the folder of a run of each model; tests only read them."""
    out = tmp_path_factory.mktemp("begun")
    flags = {
        "clip": TINY,
        "albef": [*TINY, "--queue", 2],
        "blip": [*TINY, "--queue", 2],
        "blip2-stage1": [*QUERIES, "--drop", 0, "--queries", 2, "--encoder", trained],
        "blip2-stage2": [*QUERIES, "--init", out / "blip2-stage1", "--language-steps", 2],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "draw", lambda path, *_: (path / "report.html").write_text(""))
        for kind, more in flags.items():
            line = [*command_of(kind), "--data", pictures, "--out", out / kind, *more, *SHORT]
            assert main([str(word) for word in line]) == 0
    return {kind: out / kind for kind in KINDS}


def begin(kind, run, data, out, *more):
    common = ["--batch-size", 8, "--workers", 1, "--warmup", 0, "--weight-decay", 0, *SHORT]
    return [*command_of(kind), "--init", run, "--data", data, "--out", out, *common, *more]


def trained_parts(folder):
    """Return the trained weights, by name: not the momentum encoder's, nor what is frozen."""
    model = pretrained.load(folder)
    names = model.trainable()
    return {name: array for name, array in model.state_dict().items() if name in names}


def moved(folder, run):
    before, after = trained_parts(run), trained_parts(folder)
    assert before.keys() == after.keys()
    return {name for name, array in after.items() if not np.array_equal(array, before[name])}


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_with_the_weights_words_and_preprocessing(kind, runs, here, command, undrawn):
    more = draw(here / "more", count=16, first=12)
    said = command(*begin(kind, runs[kind], more, "still", "--learning-rate", 0, "--width", 48))
    assert said.code == 0, said.error
    assert "not used: --width 48" in said.out
    assert not moved(here / "still", runs[kind]), "a rate of 0 changes nothing"
    for name in ("tokenizer.json", "preprocessor_config.json", "config.json"):
        assert (here / "still" / name).read_bytes() == (runs[kind] / name).read_bytes(), name
    assert {path.name for path in (here / "still").iterdir() if path.is_dir()} == set(), (
        "nothing is trained first"
    )
    assert command(*begin(kind, runs[kind], more, "moved", "--learning-rate", 1e-2)).code == 0
    assert moved(here / "moved", runs[kind])
    settings = read_json(here / "moved" / "run.json")["settings"]
    assert settings["init"] == str(runs[kind])


def test_flags_that_the_model_decides_are_said_not_to_be_used(
    runs, pictures, here, command, undrawn
):
    for kind, flag in (
        ("albef", "--mlm-probability 0.3"),
        ("blip", "--text-layers 2"),
        ("blip", "--queue 4"),
        ("blip2-stage1", "--queries 3"),
    ):
        said = command(
            *begin(kind, runs[kind], pictures, here / f"{kind}{flag[:5]}", *flag.split())
        )
        assert (
            said.code == 0
            and f"not used: {flag}; the model of --init {runs[kind]} brings its own" in said.lines
        ), said.out
    said = command(
        *begin("blip2-stage1", runs["blip2-stage1"], pictures, "last", "--encoder-steps", 3)
    )
    assert said.code == 0 and any("not used: --encoder-steps 3" in line for line in said.lines)


@pytest.mark.parametrize("kind", KINDS)
def test_data_of_other_words_or_another_size_are_refused_without_a_folder(
    kind, runs, here, command
):
    for data in ("glyphs", "shapes"):
        said = command(*begin(kind, runs[kind], data, "out"))
        assert said.code == 2 and "--data" in said.error and said.error.count("\n") == 1, said.error
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_one_goes_on_bitwise(kind, runs, pictures, here, command, undrawn, monkeypatch):
    more = ("--steps", 6, "--checkpoint-every", 2)
    assert command(*begin(kind, runs[kind], pictures, "whole", *more)).code == 0
    append = RunFolder.append

    def stop(folder, record):
        append(folder, record)
        if record["step"] == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append", stop)
        assert command(*begin(kind, runs[kind], pictures, "run", *more)).code == 130
    said = command(*command_of(kind), "--resume", "run")
    assert said.code == 0, said.error
    for name in ("model.safetensors", "results.json", "tokenizer.json"):
        assert (here / "run" / name).read_bytes() == (here / "whole" / name).read_bytes(), name


@pytest.mark.parametrize("kind", ["clip", "albef", "blip", "blip2-stage1"])
def test_a_model_of_another_kind_is_refused(kind, runs, pictures, here, command):
    other = KINDS[(KINDS.index(kind) + 1) % len(KINDS)]
    said = command(*begin(kind, runs[other], pictures, "out"))
    assert (
        said.code == 2
        and f"--init is a run of `{' '.join(map(str, command_of(kind)))}`" in said.error
    )
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "kind, part", [("blip2-stage1", "--encoder"), ("blip2-stage2", "--language")]
)
def test_a_part_beside_a_model_that_has_its_own_is_refused(
    kind, part, runs, pictures, here, command
):
    said = command(*begin(kind, runs[kind], pictures, "out", part, runs["clip"]))
    assert said.code == 2 and "brings its own" in said.error and part in said.error
    assert list(here.iterdir()) == []


def test_a_stage_1_keeps_its_frozen_encoder(runs, pictures, here, command, undrawn):
    assert (
        command(
            *begin("blip2-stage1", runs["blip2-stage1"], pictures, "tuned", "--learning-rate", 1e-2)
        ).code
        == 0
    )
    before, after = (pretrained.load(folder) for folder in (runs["blip2-stage1"], here / "tuned"))
    assert isinstance(after, BLIP2Stage1) and not [
        name for name in after.trainable() if name.startswith("image_encoder")
    ]
    frozen = before.image_encoder.state_dict()
    assert all(
        np.array_equal(array, frozen[name])
        for name, array in after.image_encoder.state_dict().items()
    )


def test_a_batch_that_the_queue_of_the_model_does_not_take_is_refused(
    runs, pictures, here, command
):
    said = command(*begin("albef", runs["albef"], pictures, "out", "--batch-size", 7))
    assert said.code == 2 and "a queue of 16" in said.error and "7 rows came" in said.error
    assert list(here.iterdir()) == []


def test_images_of_other_data_are_no_right_answers_in_the_queue(runs):
    model = pretrained.load(runs["blip"])
    assert (model.queue.image_ids >= 0).all()
    spec = tasks.spec_named("blip")
    assert (spec.fine_tune(spec.settings(), model).queue.image_ids == -100).all()


def test_a_stage_2_keeps_the_name_of_the_last_stage_1_that_it_took(
    runs, pictures, here, command, undrawn
):
    shutil.copytree(runs["blip2-stage1"], here / "runs" / "one")
    line = [*command_of("blip2-stage2"), "--out", "two", *QUERIES, *SHORT, "--language-steps", 2]
    said = command(*line)
    assert said.code == 0, said.error
    assert read_json(here / "two" / "run.json")["settings"]["init"] == "runs/one"


@pytest.mark.parametrize("kind", KINDS)
def test_overfitting_is_asked_about_the_pairs_that_were_seen(
    kind, runs, trained, pictures, here, command, undrawn
):
    flags = {
        "clip": TINY,
        "blip2-stage1": [*QUERIES, "--drop", 0, "--queries", 2, "--encoder", trained],
        "blip2-stage2": [*QUERIES, "--init", runs["blip2-stage1"], "--language-steps", 2],
    }
    line = [
        *command_of(kind),
        "--data",
        pictures,
        "--out",
        "out",
        *flags.get(kind, [*TINY, "--queue", 2]),
        *SHORT,
    ]
    said = command(*line, "--overfit", 6)
    assert said.code == 0, said.error
    assert "batch B = 6" in said.out and len(read_metrics(here / "out")) == 3
    results = read_json(here / "out" / "results.json")
    assert [name for name in results if name.startswith("overfit_")]
    if kind != "blip2-stage2":
        name = "overfit_r1" if kind == "clip" else "overfit_itc_r1"
        assert results["chance"][name] == pytest.approx(1 / 6)
