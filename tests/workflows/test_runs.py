"""A run knows its data and its command: it goes on with the same data, is finished by its report, and a failed start leaves nothing."""

import json
import random
import shutil
import signal
import subprocess
import time
from dataclasses import asdict, fields, replace

import pytest
from small_runs import draw, start, train_command

from tinymm.arrays.errors import DataError, UsageError
from tinymm.tasks import all_specs
from tinymm.training import records
from tinymm.training.checkpoint import FILE as CHECKPOINT
from tinymm.workflows import run_folder as runs
from tinymm.workflows.runs import capfilt
from tinymm.workflows.runs import run as train
from tinymm.workflows.studies import compare

SETTINGS = [spec.settings for spec in all_specs()]

SMALL = "--resolution 16 --patch 8 --width 16 --layers 1 --heads 2 --embed-dim 8 --batch-size 8 --warmup 2 --workers 1".split()
QUERIES = "--drop 0 --queries 2 --width 16 --layers 1 --heads 2 --embed-dim 8 --batch-size 6 --warmup 2 --workers 1".split()


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def tree(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def without_times(folder):
    return [
        {key: value for key, value in record.items() if key != "seconds"}
        for record in records.read_metrics(folder)
    ]


@pytest.fixture
def interrupt(monkeypatch):
    """Give a function that makes the next run stop as by Ctrl-C when it has logged that step."""

    def stop(step):
        append = records.RunFolder.append

        def appended(folder, record):
            append(folder, record)
            if record["step"] == step:
                monkeypatch.setattr(records.RunFolder, "append", append)
                raise KeyboardInterrupt

        monkeypatch.setattr(records.RunFolder, "append", appended)

    return stop


# ---------------------------------------------------------------------- a run.json that somebody has changed
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda kind: kind.__name__)
def test_every_setting_of_a_wrong_kind_is_said(settings, tmp_path):
    whole = records.plain(asdict(settings()))
    stop = runs.Stopped(tmp_path, whole, {"step": 0}, False)
    assert records.plain(asdict(runs.own_settings(settings, stop))) == whole
    for name in whole:
        for value in ([2], {"a": 1}):
            with pytest.raises(DataError, match=f"has the setting {name}, which is "):
                runs.own_settings(settings, replace(stop, settings=whole | {name: value}))
    with pytest.raises(
        DataError, match="has 'learning_rates', which is none; did you mean learning_rate"
    ):
        runs.own_settings(
            settings,
            replace(
                stop,
                settings={
                    "learning_rates" if key == "learning_rate" else key: item
                    for key, item in whole.items()
                },
            ),
        )


def test_weights_that_are_no_numbers_are_refused_before_they_are_used(trained, here, command):
    from safetensors.numpy import load_file, save_file

    shutil.copytree(trained, here / "one")
    weights = load_file(here / "one" / "model.safetensors")
    name = max(weights, key=lambda key: weights[key].size)
    weights[name] = weights[name].copy()
    weights[name].flat[3] = float("nan")
    save_file(weights, here / "one" / "model.safetensors", {"format": "pt"})
    found = command("classify", "a.png", "--labels", "red,blue", "--model", "one")
    assert (
        found.code == 2
        and "has 1 of " in found.error
        and "that are not; copy it again" in found.error
    )


@pytest.mark.parametrize(
    "line",
    [
        '{"picture": 2}',
        "3",
        "{",
        '{"picture": 5, "caption": "a", "written": true, "probability": 0.5}',
    ],
)
def test_captions_that_capfilt_has_judged_are_checked_line_by_line(line, tmp_path):
    whole = {"picture": 1, "caption": "a", "written": False, "probability": 1}
    (tmp_path / "judged.jsonl").write_text(json.dumps(whole) + "\n")
    assert capfilt.judged_in(tmp_path / "judged.jsonl", 5) == [capfilt.Judged(**whole)]
    (tmp_path / "judged.jsonl").write_text(f"{json.dumps(whole)}\n{line}\n")
    with pytest.raises(DataError, match="line 2 of .* is not .*delete the file"):
        capfilt.judged_in(tmp_path / "judged.jsonl", 5)


@pytest.mark.parametrize(
    ("name", "said"),
    [("results.json", "[]"), ("results.json", '{"chance": 3}'), ("data.json", '{"before": 3}'), ("data.json", "[]"), ("seconds.json", '"many"')],
)  # fmt: skip
def test_records_beside_run_json_are_of_their_kinds_or_refused(name, said, tmp_path):
    read = {"results.json": records.read_results, "data.json": runs.fingerprint_in}
    read["seconds.json"] = lambda path: compare.seconds_in(path / "seconds.json")
    (tmp_path / name).write_text(said)
    with pytest.raises(DataError, match=name):
        read[name](tmp_path)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda kind: kind.__name__)
def test_sizes_and_steps_beyond_reason_are_refused_by_name(settings):
    counted = {
        field.name
        for field in fields(settings)
        if field.metadata.get("least") is not None and "int" in str(field.type)
    }
    assert {"resolution", "width", "layers", "steps", "batch_size", "warmup", "workers"} <= counted
    for name in counted - {"seed"}:
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is below "):
            settings(**{name: 2**70})
    assert settings(seed=2**70).seed == 2**70


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("settings", None, "its settings"), ("settings", ..., "its settings"), ("columns", [1], "its columns"),
        ("resumed", [{"step": "2", "time": "x"}], "its resumed"), ("started", 3, "its started"), ("settings", {"data": 3}, "the setting data"),
        ("settings", {"data": "x", "steps": "many"}, "the setting steps, which is a whole number"),
    ],
)  # fmt: skip
def test_a_part_of_run_json_of_a_wrong_kind_is_said_by_every_command(
    part, value, said, trained, here, command
):
    shutil.copytree(trained, here / "runs" / "one")
    run = records.read_json(trained / "run.json")
    run |= {part: value} if value is not ... else {}
    if value is ...:
        del run[part]
    (here / "runs" / "one" / "run.json").write_text(json.dumps(run))
    ways = [["classify", "a.png", "--labels", "red,blue"]]
    ways += [["eval", "--model", "runs/one"]] if part == "settings" else []
    for way in ways:
        found = command(*way)
        assert found.code == 2 and said in found.error and "restore it" in found.error


# ---------------------------------------------------------------------- the same data
def begin(model, data, trained, *more):
    if model == "clip":
        return train_command(data, "run", "--steps", 6, "--checkpoint-every", 2, *more)
    common = ["--data", data, "--out", "run", "--steps", 6, "--checkpoint-every", 2, *more]
    return [
        "train",
        model,
        *common,
        *(["--encoder", trained, *QUERIES] if model == "blip2" else SMALL),
    ]


def one_word(folder):
    file = folder / "captions.csv"
    file.write_text(
        file.read_text().replace("white", "amber")
    )  # as many words as before, other ids
    return "the captions of 6 pictures have changed (p09.png, p10.png, p11.png, …)"


def one_more(folder):
    shutil.copy(folder / "p00.png", folder / "p99.png")
    with open(folder / "captions.csv", "a") as file:
        file.write("p99.png,a red square\n")
    return "1 picture has been added (p99.png)"


def one_less(folder):
    (folder / "p03.png").unlink()
    return "1 picture is gone (p03.png)"


def one_other(folder):
    shutil.copy(folder / "p00.png", folder / "p05.png")
    return "the bytes of 1 picture have changed (p05.png)"


@pytest.mark.parametrize(
    "model, change",
    [("clip", change) for change in (one_word, one_more, one_less, one_other)]
    + [(model, one_word) for model in ("albef", "blip", "blip2")],
)
def test_a_run_goes_on_with_the_same_data_only_and_names_the_difference(
    model, change, trained, here, command, interrupt
):
    data = draw(here / "data")
    interrupt(4)
    assert command(*begin(model, data, trained)).code == 130
    said = change(data)
    before = tree(here / "run")
    done = command("train", model, "--resume", "run")
    assert (
        done.code == 2
        and done.error.startswith("tinymm: ")
        and "goes on with the data that run began with" in done.error
    )
    assert said in done.error or change in (one_more, one_less), done.error  # a split may move too
    assert tree(here / "run") == before, "nothing is touched"


def test_a_run_goes_on_in_its_own_words_and_says_where(trained, here, command, interrupt, undrawn):
    data = draw(here / "data")
    assert command(*train_command(data, "whole", "--steps", 6, "--checkpoint-every", 2)).code == 0
    interrupt(5)
    said = command(*train_command(data, "run", "--steps", 6, "--checkpoint-every", 2))
    assert (
        said.code == 130
        and said.error.split("; ")[-1].strip()
        == "it goes on with: python -m tinymm train clip --resume run"
    )
    assert (here / "run" / "tokenizer.json").read_bytes() == (
        here / "whole" / "tokenizer.json"
    ).read_bytes()
    (here / "run" / runs.DATA).unlink()  # as of a version that did not keep it
    done = command("train", "clip", "--resume", "run")
    assert (
        done.code == 0
        and "run does not say what data it began with" in done.out
        and "run goes on after step 4 of 6" in done.lines
    )
    assert (here / "run" / "model.safetensors").read_bytes() == (
        here / "whole" / "model.safetensors"
    ).read_bytes()


def test_flags_beside_resume_are_the_runs_own_or_refused(
    here, pictures, command, interrupt, undrawn
):
    interrupt(3)
    assert (
        command(*train_command(pictures, "run", "--steps", 4, "--checkpoint-every", 2)).code == 130
    )
    before = tree(here / "run")
    done = command("train", "clip", "--resume", "run", "--steps", 500)
    assert (
        done.code == 2
        and "run has --steps 4 where 500 came; leave --steps out, or begin a new run with --out"
        in done.error
    )
    assert "--out x came too" in command("train", "clip", "--resume", "run", "--out", "x").error
    assert tree(here / "run") == before
    assert command("train", "clip", "--resume", "run", "--steps", 4, "--data", pictures).code == 0


# ---------------------------------------------------------------------- what was trained on
def test_eval_says_when_pictures_kept_back_were_trained_on(trained, pictures, here, command):
    assert "not new" not in command("eval", "--model", trained).out
    other = draw(here / "other")  # the same files elsewhere, and all of them kept back
    lines = (other / "captions.csv").read_text().splitlines()
    rows = [f"{line},{'train' if i < 2 else 'val'}" for i, line in enumerate(lines[1:])]
    (other / "captions.csv").write_text("\n".join([f"{lines[0]},split", *rows]) + "\n")
    said = command("eval", "--model", trained, "--data", other)
    assert (
        said.code == 0
        and "not new: " in said.out
        and "pictures kept back here were trained on by" in said.out
    )
    for file in other.glob("*.png"):
        file.rename(file.with_name("z" + file.name))
    (other / "captions.csv").write_text((other / "captions.csv").read_text().replace("\np", "\nzp"))
    assert "not new: " in command("eval", "--model", trained, "--data", other).out, (
        "by their bytes, whatever their names"
    )
    new = draw(here / "new", first=40, count=12)
    assert "not new" not in command("eval", "--model", trained, "--data", new).out


def test_what_a_model_began_with_counts_too(trained, pictures, here, command, undrawn):
    new = draw(here / "new", first=40)
    assert (
        command(
            "train",
            "clip",
            "--init",
            trained,
            "--data",
            new,
            "--out",
            "tuned",
            "--steps",
            1,
            "--workers",
            1,
        ).code
        == 0
    )
    lines = (pictures / "captions.csv").read_text().splitlines()
    shutil.copytree(pictures, here / "old")
    rows = [f"{line},{'train' if i < 2 else 'val'}" for i, line in enumerate(lines[1:])]
    (here / "old" / "captions.csv").write_text("\n".join([f"{lines[0]},split", *rows]) + "\n")
    assert "not new: " in command("eval", "--model", "tuned", "--data", "old").out


def test_foreign_data_are_remarked_and_the_model_is_introduced(trained, here, command):
    folder = draw(here / "other", count=8)
    text = (folder / "captions.csv").read_text()
    (folder / "captions.csv").write_text(text.replace("a ", "zebra okapi lemur "))
    said = command("eval", "--model", trained, "--data", folder)
    assert "words: 60% of these captions' words are unknown to the model" in said.out
    data = json.loads((trained / "run.json").read_text())["settings"]["data"]
    assert (
        said.error.strip()
        == f"model: {trained}: a CLIP, trained on {records.from_home(data)} for 30 steps"
    )


def test_the_last_run_is_never_one_that_another_command_has_made(trained, here, command, pictures):
    shutil.copytree(trained, here / "runs" / "mine")
    for i, made_by in enumerate(
        (
            "ablate blip2: encoder",
            "compare: CLIP",
            "train blip2: language model",
            "train blip2: encoder",
        )
    ):
        shutil.copytree(trained, here / "runs" / f"other-{i}")
        run = json.loads((here / "runs" / f"other-{i}" / "run.json").read_text())
        run |= {"command": made_by, "started": "2999-01-01T00:00:00"}
        (here / "runs" / f"other-{i}" / "run.json").write_text(json.dumps(run))
    assert records.last_run(holding="model.safetensors").name == "mine"
    said = command("classify", pictures / "p00.png", "--labels", "red,green")
    assert said.code == 0 and said.error.startswith(
        "model: runs/mine, the last run: a CLIP, trained on"
    )
    assert command("search", pictures, "red").error.startswith("model: runs/mine, the last run")
    assert json.loads((trained / "run.json").read_text())["command"] == "train clip"


# ---------------------------------------------------------------------- stage 2 and its data
def test_stage_2_takes_the_data_of_its_stage_1_and_says_so(
    trained, pictures, here, command, undrawn
):
    first = command("train", "blip2", "--encoder", trained, "--out", "one", "--steps", 2, *QUERIES)
    assert first.code == 0, first.error
    assert f"data: {pictures}, on which {trained} was trained; --data names others" in first.lines
    more = ("--language-steps", 2, "--batch-size", 6, "--workers", 1)
    done = command(
        "train", "blip2", "--stage", 2, "--init", "one", "--out", "two", "--steps", 1, *more
    )
    assert done.code == 0, done.error
    assert f"data: {pictures}, on which one was trained; --data names others" in done.lines
    for folder in ("one", "two"):
        assert json.loads((here / folder / "run.json").read_text())["settings"]["data"] == str(
            pictures
        )
    run = json.loads((here / "one" / "run.json").read_text())
    del run["settings"]["data"]
    (here / "one" / "run.json").write_text(json.dumps(run))
    before = names(here)
    done = command("train", "blip2", "--stage", 2, "--init", "one", "--out", "three", "--steps", 1)
    assert (
        done.code == 2
        and "--init one does not say what it was trained on; name the pictures and captions with --data"
        in done.error
    )
    done = command(
        "train",
        "blip2",
        "--stage",
        2,
        "--init",
        "one",
        "--data",
        "shapes",
        "--out",
        "three",
        "--steps",
        1,
    )
    assert done.code == 2 and "--data" in done.error and "16 × 16 × 3" in done.error
    assert names(here) == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["train", "blip2", "--drop", 3],
            "--drop leaves the encoder at least one of its 3 layers, and 3 came",
        ),
        (["train", "blip2", "--heads", 5], "5 heads came"),
        (["train", "blip2", "--init", "x"], "x does not exist"),
        (
            ["train", "blip2", "--stage", 2, "--encoder", "x"],
            "no setting of stage 2 --encoder, and x came",
        ),
        (["train", "blip2", "--stage", 2], "there is none under runs yet"),
        (["train", "albef", "--heads", 3], "128 over 3 heads came"),
        (["train", "blip", "--data", "nowhere"], "'nowhere' is none of these; check the path"),
        (["train", "clip", "--data", "shaped"], "'shaped' is none of these; did you mean shapes?"),
        (["demo", "--steps", 0], "--steps is at least 1"),
        (["compare", "--steps", 0], "--steps is at least 1"),
        (["compare", "--batch-size", 1], "--batch-size is at least 2"),
        (["ablate", "blip2", "--steps", 0], "--steps is at least 1"),
        (["ablate", "blip2", "--encoder", "nowhere"], "nowhere does not exist"),
        (
            ["ablate", "albef", "--out", "nowhere/table.json"],
            "--out is a file in a folder, and nowhere is none",
        ),
        (["bench", "--out", "."], "--out is a file here, and . is a folder"),
        (["eval", "--out", "nowhere/x.json"], "nowhere is none"),
        (["arithmetic", "--model", "ViT-X", "--out", "numbers"], "ViT-X"),
    ],
)
def test_a_failed_start_is_said_before_any_work_and_leaves_nothing(
    arguments, message, here, command
):
    began = time.monotonic()
    done = command(*arguments)
    assert done.code == 2 and message in done.error, done.error
    assert list(here.iterdir()) == [] and time.monotonic() - began < 30


@pytest.mark.parametrize("model", ["clip", "albef"])
def test_a_start_that_fails_in_the_first_step_leaves_nothing_and_later_ones_all(
    model, pictures, here, command, monkeypatch
):
    learn = train.learn

    def fails(*_, **__):
        raise OSError("no room")

    monkeypatch.setattr(train, "learn", fails)
    arguments = [a for a in begin(model, pictures, None) if a not in ("--out", "run")]
    done = command(*arguments)
    assert done.code == 2 and "no room" in done.error and list(here.iterdir()) == []
    (here / "mine").mkdir()
    assert command(*arguments, "--out", "mine").code == 2 and names(here) == ["mine"], (
        "a folder that was there stays, as empty as it was"
    )
    monkeypatch.setattr(train, "learn", learn)
    monkeypatch.setattr(train, "finish", fails)
    assert (
        command(*arguments).code == 2
        and len(records.read_metrics(here / "runs" / f"{model}-1")) == 6
    )


def test_a_rate_beyond_reason_is_said_in_one_sentence_without_warnings(
    pictures, here, command, recwarn
):
    done = command(
        *train_command(
            pictures,
            "run",
            "--steps",
            20,
            "--learning-rate",
            1e6,
            "--max-grad-norm",
            0,
            "--warmup",
            0,
            "--workers",
            2,
        )
    )
    assert done.code == 2 and "is not finite" in done.error and not recwarn.list


# ---------------------------------------------------------------------- killed at any moment
def killed(arguments, out, until, after=0.0):
    with start(*arguments) as process:
        while process.poll() is None and not until(out):
            time.sleep(0.002)
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=120)


def test_a_run_killed_while_its_pictures_are_drawn_is_finished_by_resume(pictures, here, command):
    out = here / "run"
    killed(
        train_command(pictures, out, "--steps", 4),
        out,
        lambda folder: (folder / "results.json").exists(),
    )
    if runs.finished(out):
        pytest.skip("drawn before the kill")
    weights, results = (out / "model.safetensors").read_bytes(), (out / "results.json").read_bytes()
    (out / ".similarity.png.77.tmp").write_bytes(b"half")
    done = command("train", "clip", "--resume", out)
    assert (
        done.code == 0
        and f"{out}: all 4 steps are done; its pictures and report are drawn" in done.lines
    )
    assert (weights, results) == (
        (out / "model.safetensors").read_bytes(),
        (out / "results.json").read_bytes(),
    )
    assert {"loss.png", "similarity.png", "retrieval.png", "report.html"} <= set(names(out))
    assert not list(out.rglob(".*")) and not (out / CHECKPOINT).exists()
    assert "is finished" in command("train", "clip", "--resume", out).error


@pytest.mark.slow
@pytest.mark.parametrize("model", ["clip", "blip2"])
def test_killed_at_any_moment_it_ends_bitwise_as_if_never_stopped(
    model, pictures, trained, tmp_path, command, here
):
    steps = ["--steps", 60, "--validate-every", 20, "--checkpoint-every", 3]

    def arguments(out):
        if model == "clip":
            return train_command(pictures, out, *steps)
        return [
            "train",
            "blip2",
            "--stage",
            1,
            "--encoder",
            trained,
            "--out",
            out,
            *QUERIES,
            *steps,
        ]

    whole = tmp_path / "whole"
    began = time.monotonic()
    with start(*arguments(whole)) as process:
        process.communicate(timeout=300)
    took = time.monotonic() - began
    draws, stages = random.Random(5), set()
    for i in range(12 if model == "clip" else 4):
        out = tmp_path / f"run{i}"
        moment = draws.uniform(0.2, 1.0) * took
        with start(*arguments(out)) as process:
            try:
                process.communicate(timeout=moment)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate(timeout=120)
        if not (out / "run.json").exists():
            stages.add("nothing")
            done = command(*arguments(out))
        elif runs.finished(out):
            stages.add("finished")
            continue
        else:
            stages.add("drawing" if (out / "results.json").exists() else "training")
            done = command("train", model, "--resume", out)
        assert done.code == 0, done.error
        for name in ("model.safetensors", "results.json", "tokenizer.json", "data.json"):
            assert (out / name).read_bytes() == (whole / name).read_bytes(), (i, name)
        assert without_times(out) == without_times(whole)
        assert (
            not list(out.rglob("*.tmp"))
            and not (out / CHECKPOINT).exists()
            and (out / "report.html").exists()
        )
    assert model != "clip" or len(stages) > 1, "killed at one kind of moment only"
