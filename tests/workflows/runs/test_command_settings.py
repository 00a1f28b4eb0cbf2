"""Settings from flags, from another run's run.json and from a run that goes on: used, named, or refused."""

import json
import typing
from dataclasses import dataclass, replace

import pytest

from tinymm import __main__, tasks
from tinymm.arrays.errors import UsageError
from tinymm.tasks.settings import Settings, setting
from tinymm.training.records import read_json, write_json
from tinymm.workflows import flags

SMALL = "--steps 2 --batch-size 8 --width 16 --layers 1 --heads 2 --embed-dim 8 --workers 1".split()


@pytest.fixture
def tinymm(tmp_path, monkeypatch, capsys):
    """Return a function that runs a command in an empty folder: its code and what it said."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        capsys.readouterr()
        code = __main__.main([*map(str, words)])
        said = capsys.readouterr()
        return code, " ".join((said.out + said.err).split())

    return call


@pytest.mark.parametrize("data", ["shapes", "scattered-shapes", "web-shapes"])
@pytest.mark.parametrize("model", ["clip", "albef"])
def test_overfit_pairs_are_measured_on_drawn_scenes(model, data, tinymm):
    code, said = tinymm("train", model, *SMALL, "--data", data, "--overfit", 8, "--out", "run")
    assert code == 0, said
    assert any(name.startswith("overfit_") for name in read_json("run/results.json")["chance"])


def test_words_are_learned_by_the_encoder_that_is_trained_first(tinymm):
    code, said = tinymm(
        *("train", "blip2", "--stage", 1, *SMALL, "--vocabulary", "bpe", "--queries", 2),
        *("--encoder-steps", 2, "--drop", 0, "--out", "run"),
    )
    assert code == 0, said
    assert read_json("run/run.json")["settings"]["vocabulary"] == "bpe"


@pytest.fixture
def run(tinymm):
    """Return the command, in a folder that has a run of a CLIP with seed 7."""
    code, said = tinymm("train", "clip", *SMALL, "--data", "shapes", "--seed", 7, "--out", "run")
    assert code == 0, said
    return tinymm


def test_a_config_brings_its_seed_under_any_name_and_flags_come_first(run, tmp_path):
    write_json(tmp_path / "mine.json", read_json("run/run.json"))
    code, said = run("train", "clip", "--config", "mine.json", "--steps", 1, "--out", "like")
    assert code == 0, said
    first, second = (read_json(f"{name}/run.json")["settings"] for name in ("run", "like"))
    assert second == first | {"steps": 1}


@pytest.mark.parametrize(
    "part, value, said",
    [("steps", "4", "steps"), ("heads", None, "heads"), ("stesp", 4, "stesp")],
)
def test_a_config_of_wrong_kinds_is_refused(part, value, said, run, tmp_path):
    kept = read_json("run/run.json")
    kept["settings"][part] = value
    (tmp_path / "mine.json").write_text(json.dumps(kept))
    code, told = run("train", "clip", "--config", "mine.json", "--out", "other")
    assert code == 2 and said in told and not (tmp_path / "other").exists()


@pytest.mark.parametrize("beside", [("--seed", 3), ("--width", 32), ("--init-heads", "image=2")])
def test_flags_beside_resume_that_would_do_nothing_are_refused(beside, run, tmp_path):
    (tmp_path / "run" / "report.html").unlink()
    code, said = run("train", "clip", "--resume", "run", *beside)
    assert code == 2 and beside[0] in said
    assert run("train", "clip", "--resume", "run")[0] == 0


def test_a_stage_2_without_a_stage_1_says_what_is_missing(tinymm, tmp_path):
    code, said = tinymm("train", "blip2", "--stage", 2, *SMALL[:4])
    assert code == 2 and "--init" in said and "train blip2 --stage 1" in said
    assert not list(tmp_path.iterdir())


def test_a_language_model_keeps_its_losses_and_is_fine_tuned(tinymm):
    small = ("--steps", 2, "--batch-size", 8, "--width", 16, "--heads", 2, "--workers", 1)
    assert tinymm("train", "language", *small, "--data", "shapes", "--out", "first")[0] == 0
    results = read_json("first/results.json")
    assert results["lm"] > 0 and results["chance"]["lm"] == pytest.approx(results["chance_loss"])
    code, said = tinymm("train", "language", "--init", "first", *small[:4], "--data", "shapes")
    assert code == 0, said


def test_a_class_has_one_spec():
    clip = tasks.spec_named("clip")
    with pytest.raises(UsageError, match="CLIP has that of 'clip'"):
        tasks.register(replace(clip, name="my-clip"))
    assert "my-clip" not in [spec.name for spec in tasks.all_specs()]


@dataclass(frozen=True)
class Annotated(Settings):
    extra: typing.Optional[int] = setting(None, "an annotation of another style")  # noqa: UP045


def test_flags_understand_every_style_of_annotation():
    spec = replace(tasks.spec_named("clip"), settings=Annotated)
    assert flags.settings_from(spec, {"extra": 5}).extra == 5
    assert flags._kind(Annotated, "extra") is int
