"""`train clip`: what a run folder holds, that it can be stopped and go on, and the ways to begin from something else."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from small_runs import draw, train_command

from tinymm import pretrained
from tinymm.arrays.errors import UsageError
from tinymm.losses import sigmoid_loss
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.tasks import clip
from tinymm.training import records
from tinymm.workflows import measure as measures
from tinymm.workflows.measure import measure
from tinymm.workflows.runs import figures
from tinymm.workflows.runs import run as train
from tinymm.workflows.runs.prepare import plan

FILES = """config.json data.json loss.png metrics.csv metrics.jsonl model.safetensors preprocessor_config.json report.html results.json
retrieval.png run.json similarity.png tokenizer.json tokenizer_config.json""".split()


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def names(folder):
    return sorted(re.sub(r"events\.out.*", "events", path.name) for path in folder.iterdir())


def without_times(folder):
    return [
        {key: value for key, value in record.items() if key != "seconds"}
        for record in records.read_metrics(folder)
    ]


def test_a_finished_run_folder_is_complete_and_holds_nothing_else(trained):
    assert names(trained) == sorted([*FILES, "events"])
    assert [record["step"] for record in records.read_metrics(trained)] == list(range(1, 31))
    assert json.loads((trained / "run.json").read_text())["settings"]["steps"] == 30
    results = json.loads((trained / "results.json").read_text())
    assert (
        results["steps"] == 30
        and results["best_step"] in (10, 20, 30)
        and results["chance_loss"] == pytest.approx(np.log(8))
    )
    assert results["validation_r1"] == max(
        r["validation_r1"] for r in records.read_metrics(trained) if r["validation_r1"] is not None
    )
    assert set(results["chance"]) == {"validation_r1"}


def test_it_learned_something(trained):
    losses = [record["loss"] for record in records.read_metrics(trained)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_what_was_saved_is_the_best_model_by_validation(trained, pictures):
    results = json.loads((trained / "results.json").read_text())
    settings = clip.CLIPSettings(**json.loads((trained / "run.json").read_text())["settings"])
    source = plan(clip.spec, settings, lambda _: None).source
    assert measure(pretrained.load(trained), source)["validation_r1"] == results["validation_r1"]


@pytest.mark.parametrize(
    "found, best", [((0.2, 0.9, 0.5), 4), ((0.9, 0.2, 0.5), 2), ((0.5, 0.5, 0.5), 6)]
)
def test_the_model_that_is_kept_is_the_best_and_of_equals_the_last(
    found, best, pictures, here, command, undrawn, monkeypatch
):
    recalls, kept, retrieval, keep = iter(found), [], measures.retrieval, train.keep

    def scripted(*arguments):
        right = retrieval(*arguments)
        return right | {"r1": next(recalls, right["r1"])}

    def watched(path, model, source):
        keep(path, model, source)
        kept.append(weights(path))

    monkeypatch.setattr(measures, "retrieval", scripted)
    monkeypatch.setattr(train, "keep", watched)
    assert command(*train_command(pictures, "out", "--steps", 6, "--validate-every", 2)).code == 0
    assert json.loads((here / "out" / "results.json").read_text())["best_step"] == best
    assert weights(here / "out") == kept[-1]


def test_the_same_seed_gives_the_same_files_and_another_others(pictures, here, command, undrawn):
    for out, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert (
            command(
                *train_command(pictures, out, "--steps", 4, "--validate-every", 2, "--seed", seed)
            ).code
            == 0
        )
    assert weights(here / "a") == weights(here / "b") != weights(here / "c")
    assert without_times(here / "a") == without_times(here / "b")
    assert (here / "a" / "results.json").read_bytes() == (here / "b" / "results.json").read_bytes()


def test_the_lines_say_what_equal_scores_would_give_and_where_the_folder_is(
    pictures, here, command, undrawn
):
    said = command(*train_command(pictures, "out", "--steps", 3, "--validate-every", 2))
    assert "batch B = 8" in said.lines[0] and f"{np.log(8):.3f}" in said.lines[0]
    assert any(
        re.match(r"step 2/3  loss \d\.\d+ \(equal scores 2.079\)  validation R@1", line)
        for line in said.lines
    )
    assert said.lines[-1] == "run folder: out · open out/report.html" and not said.error


def test_in_chunks_it_is_the_same_run_to_rounding(pictures, here, command, undrawn):
    for out, more in (("whole", ()), ("parts", ("--grad-cache", 3))):
        assert (
            command(*train_command(pictures, out, "--steps", 4, "--validate-every", 2, *more)).code
            == 0
        )
    whole, parts = (without_times(here / out) for out in ("whole", "parts"))
    assert weights(here / "whole") != weights(here / "parts")  # by rounding
    for a, b in zip(whole, parts, strict=True):
        assert {key: a[key] for key in ("loss", "gradient_norm")} == pytest.approx(
            {key: b[key] for key in ("loss", "gradient_norm")}, rel=1e-4
        )
    assert json.loads((here / "parts" / "run.json").read_text())["settings"]["grad_cache"] == 3


def test_a_batch_larger_than_the_data_is_all_of_it_and_says_so(pictures, here, command, undrawn):
    said = command(
        *train_command(pictures, "out", "--steps", 1, "--batch-size", 8192, "--grad-cache", 4)
    )
    pairs = int(re.search(r"batch B = (\d+)", said.lines[0])[1])
    assert (
        said.code == 0
        and f"the data has {pairs} pairs, fewer than --batch-size 8,192: every step sees all of them"
        in said.lines
    )
    assert (
        "fewer than"
        not in command(*train_command(pictures, "other", "--steps", 1, "--batch-size", pairs)).out
    )


def test_any_pair_of_encoders_and_default_folders(pictures, here, command):
    more = ["--steps", 2, "--image", "resnet", "--text", "cbow", "--resolution", 32, "--width", 16]
    arguments = [a for a in train_command(pictures, "out", *more)]
    place = arguments.index("--out")
    del arguments[place : place + 2]
    assert command(*arguments).code == 0
    config = pretrained.load(here / "runs" / "clip-1").config
    assert (type(config.image).__name__, type(config.text).__name__) == (
        "ResNetConfig",
        "CBOWConfig",
    )


def test_overfitting_is_asked_about_the_pairs_that_were_seen(pictures, here, command, undrawn):
    said = command(
        *train_command(
            pictures,
            "out",
            "--steps",
            60,
            "--overfit",
            6,
            "--batch-size",
            3,
            "--learning-rate",
            3e-3,
        )
    )
    results = json.loads((here / "out" / "results.json").read_text())
    assert results["overfit_r1"] > 0.8 and results["chance"]["overfit_r1"] == pytest.approx(1 / 6)
    assert "overfit R@1" in said.out and "batch B = 3" in said.out


def test_captions_that_repeat_in_a_batch_are_reported(here, command, undrawn):
    folder = draw(here / "data")
    text = (folder / "captions.csv").read_text().splitlines()
    (folder / "captions.csv").write_text(
        "\n".join([text[0], *(line.split(",")[0] + ",a thing" for line in text[1:])])
    )
    said = command(*train_command(folder, "out", "--steps", 2))
    assert (
        "7.0 captions of a batch stand in it more than once" in said.out
        and "lower --batch-size" in said.out
    )


def test_captions_longer_than_the_model_s_context_are_counted(trained, here, command, undrawn):
    folder = draw(here / "data", count=8)
    lines = (folder / "captions.csv").read_text().replace("a ", "a a a a a ")
    (folder / "captions.csv").write_text(lines)
    said = command(*train_command(folder, "out", "--steps", 1, "--init", trained))
    assert "captions longer than 5 tokens lost their end, " in said.out


@pytest.mark.parametrize("form", ["run", "folder"])
def test_fine_tuning_begins_with_the_weights_words_and_preprocessing_of_the_model(
    form, trained, here, command, undrawn
):
    source = trained
    if form == "folder":  # as others publish models: no record of a run
        source = here / "published"
        shutil.copytree(
            trained,
            source,
            ignore=shutil.ignore_patterns(
                "run.json", "metrics*", "events*", "results.json", "*.png"
            ),
        )
    folder = draw(here / "more", count=12, first=12)
    more = ["--init", source, "--steps", 2, "--weight-decay", 0, "--width", 999]
    assert command(*train_command(folder, "still", *more, "--learning-rate", 0)).code == 0
    assert weights(here / "still") == weights(trained), "a rate of 0 changes nothing"
    assert (here / "still" / "tokenizer.json").read_bytes() == (
        trained / "tokenizer.json"
    ).read_bytes()
    assert (here / "still" / "preprocessor_config.json").read_bytes() == (
        trained / "preprocessor_config.json"
    ).read_bytes()
    assert command(*train_command(folder, "moved", *more, "--learning-rate", 1e-3)).code == 0
    assert weights(here / "moved") != weights(trained)


def test_fine_tuning_on_words_that_the_model_does_not_speak_is_refused(trained, here, command):
    said = command("train", "clip", "--init", trained, "--out", "out")
    assert (
        said.code == 2 and "speaks other words than glyphs" in said.error and "--data" in said.error
    )
    assert not (here / "out").exists()


# ---------------------------------------------------------------------- SigLIP's loss
@pytest.fixture(scope="module")
def sigmoid(pictures, tmp_path_factory):
    """Give the folder of a CLIP that judges each pair by itself."""
    from tinymm.__main__ import main

    out = tmp_path_factory.mktemp("sigmoid") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "draw", lambda *_: None)
        assert (
            main(
                train_command(
                    pictures,
                    out,
                    "--loss",
                    "sigmoid",
                    "--steps",
                    30,
                    "--learning-rate",
                    5e-3,
                    "--validate-every",
                    10,
                )
            )
            == 0
        )
    return out


def test_with_the_sigmoid_loss_it_trains_is_saved_and_opened_again(sigmoid):
    model = pretrained.load(sigmoid)
    assert (
        model.config.loss == "sigmoid"
        and model.b is not None
        and not np.isclose(float(model.b.data), -10, atol=1e-4)
    )
    assert json.loads((sigmoid / "run.json").read_text())["settings"]["loss"] == "sigmoid"
    losses = [record["loss"] for record in records.read_metrics(sigmoid)]
    assert all(
        record["itc"] == record["loss"] for record in records.read_metrics(sigmoid)
    ) and np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    again = CLIP(model.config, np.random.default_rng(0))
    assert float(again.b.data) == -10 and float(again.t.data) == pytest.approx(np.log(10))


def test_with_the_sigmoid_loss_it_is_measured_and_used_as_any_clip(
    sigmoid, pictures, here, command
):
    said = command("eval", "--model", sigmoid, "--out", "again.json")
    assert said.code == 0, said.error
    again, before = (
        json.loads((here / "again.json").read_text()),
        json.loads((sigmoid / "results.json").read_text()),
    )
    assert again == {name: before[name] for name in again}
    assert (
        command(
            "classify",
            pictures / "p00.png",
            "--labels",
            "a red square,a blue pole",
            "--model",
            sigmoid,
        ).code
        == 0
    )
    with pytest.raises(
        UsageError, match='has no place for the bias of the sigmoid loss; use "tinymm"'
    ):
        pretrained.save(pretrained.load(sigmoid), here / "other", "huggingface")


@pytest.mark.parametrize("n", [2, 8, 200])
def test_equal_scores_are_the_least_that_a_model_without_knowledge_can_lose(n):
    config = CLIPConfig.tiny()
    softmax, sigmoid = (
        clip.chance_loss(CLIP(replace(config, loss=loss), np.random.default_rng(0)), n)
        for loss in ("softmax", "sigmoid")
    )
    assert softmax == pytest.approx(np.log(n))
    every = [sigmoid_loss(np.full((n, n), c)).item() for c in np.linspace(-12, 3, 1501)]
    assert sigmoid == pytest.approx(min(every), abs=1e-4)


@pytest.mark.parametrize(
    "setting, message",
    [
        (
            {"batch_size": 1},
            r"--batch-size is at least 2: with one pair there is nothing to contrast, and 1 came",
        ),
        ({"overfit": 1}, "--overfit is at least 2"),
        ({"workers": 0}, "--workers is at least 1, and 0 came; give another, or leave it out"),
        ({"checkpoint_every": 0}, "--checkpoint-every is at least 1"),
        ({"learning_rate": float("nan")}, "--learning-rate is at least 0, and nan came"),
        ({"learning_rate": float("inf")}, "--learning-rate is at least 0, and inf came"),
        ({"weight_decay": -0.1}, "--weight-decay is at least 0"),
        ({"text_layers": 0}, "--text-layers is at least 1"),
        ({"seed": -1}, "--seed is at least 0"),
    ],
)
def test_settings_outside_their_range_are_refused(setting, message):
    with pytest.raises(UsageError, match=message):
        clip.CLIPSettings(**setting)


def test_fine_tuning_does_not_change_the_loss(command, trained, pictures, here, undrawn):
    said = command(
        "train",
        "clip",
        "--init",
        trained,
        "--data",
        pictures,
        "--loss",
        "sigmoid",
        "--out",
        "tuned",
    )
    assert said.code == 2 and not (here / "tuned").exists()
    assert (
        f"--loss is sigmoid and that of {trained} softmax; leave --loss out, or train a model anew without --init"
        in said.error
    )
    assert command(*train_command(pictures, "first", "--loss", "sigmoid", "--steps", 1)).code == 0
    for more in ((), ("--loss", "sigmoid")):  # what stands there when nothing is said is no wish
        out = here / f"tuned{len(more)}"
        said = command(
            "train",
            "clip",
            "--init",
            "first",
            "--data",
            pictures,
            "--steps",
            1,
            "--batch-size",
            8,
            "--workers",
            1,
            "--out",
            out,
            *more,
        )
        assert said.code == 0, said.error
        assert pretrained.load(out).config.loss == "sigmoid"
