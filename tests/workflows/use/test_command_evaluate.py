"""`eval`: the same numbers as at the end of training, beside their chance levels, on the model's own data or on other."""

import json
import shutil

import pytest
from small_runs import draw

from tinymm.workflows.meanings import meaning
from tinymm.workflows.use import evaluate


def test_on_its_own_data_a_run_gets_the_numbers_of_its_training_again(trained, here, command):
    said = command("eval", "--model", trained, "--out", "numbers.json")
    assert said.code == 0
    found, before = (
        json.loads((here / "numbers.json").read_text()),
        json.loads((trained / "results.json").read_text()),
    )
    assert found["validation_r1"] == before["validation_r1"] and found["chance"] == before["chance"]
    number, chance = found["validation_r1"], found["chance"]["validation_r1"]
    assert said.lines == [
        f"{'validation R@1':<32}{number:>8.3f}   chance {chance:.3f}   {meaning('validation_r1')}"
    ]


def test_the_validation_pictures_stay_those_that_the_run_did_not_train_on(
    trained, here, command, monkeypatch
):
    seeds, source_for = [], evaluate.source_for
    monkeypatch.setattr(
        evaluate,
        "source_for",
        lambda opened, where, seed: seeds.append(seed) or source_for(opened, where, seed),
    )
    first, other = (
        command("eval", "--model", trained),
        command("eval", "--model", trained, "--seed", 7),
    )
    assert first.lines == other.lines and seeds == [0, 0], "the split follows the run's own seed"
    shutil.copytree(trained, here / "model", ignore=shutil.ignore_patterns("run.json"))
    assert (
        command("eval", "--model", "model", "--data", draw(here / "other"), "--seed", 7).code == 0
        and seeds[-1] == 7
    )


def test_the_last_run_is_the_default(trained, here, command):
    shutil.copytree(trained, here / "runs" / "copy")
    assert command("eval").lines == command("eval", "--model", trained).lines


def test_other_data_is_read_with_the_model_s_words_and_preprocessing(trained, here, command):
    said = command("eval", "--model", trained, "--data", draw(here / "other", count=12, first=12))
    assert said.code == 0 and "chance 0.500" in said.out


def test_a_model_alone_must_be_told_on_what(trained, here, command):
    shutil.copytree(trained, here / "model", ignore=shutil.ignore_patterns("run.json"))
    said = command("eval", "--model", "model")
    assert (
        said.code == 2
        and "does not say what it was trained on; name the pictures and captions with --data"
        in said.error
    )
    assert command("eval", "--model", "model", "--data", draw(here / "other")).code == 0


def test_data_under_the_reader_s_home_is_found_again(trained, here, command, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    shutil.copytree(trained, here / "run")
    settings = json.loads((here / "run" / "run.json").read_text())
    settings["settings"]["data"] = (
        "~/pictures"  # as the record has it, so that a sent folder carries no user's name
    )
    (here / "run" / "run.json").write_text(json.dumps(settings))
    draw(here / "pictures")
    assert command("eval", "--model", "run").code == 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no run is there yet; `python -m tinymm demo` makes one, or name one with --model"),
        (["--model", "nowhere"], "nowhere does not exist; check the path"),
        (["--model", "RUN", "--data", "nowhere"], "'nowhere' is none of these"),
        (["--model", "RUN", "--data", "glyphs"], "speaks other words than glyphs do"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(arguments, message, trained, here, command):
    said = command(
        "eval", "--out", "numbers.json", *[trained if a == "RUN" else a for a in arguments]
    )
    assert (
        said.code == 2
        and message in said.error
        and said.error.startswith("tinymm: ")
        and len(said.error.splitlines()) == 1
    )
    assert list(here.iterdir()) == []
