"""The run folder is whole at every moment: after a failure, after `kill -9`, after Ctrl-C, after a resume."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm.arrays.errors import DataError, UsageError
from tinymm.arrays.files import atomic
from tinymm.training.records import (
    RunFolder,
    last_run,
    next_folder,
    plain,
    read_json,
    read_metrics,
    write_json,
)

COLUMNS = ("step", "loss", "note")
SETTINGS = {"seed": 3, "out": "runs/x"}


def record(step):
    return {
        "step": step,
        "loss": np.float32(1 / step),
        "note": f'a, "b"\nré {step}' if step % 3 == 0 else None,
    }


def run_steps(run, steps):
    for step in steps:
        run.append(record(step))


def read_csv(folder):
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def metrics(folder):
    return (folder / "metrics.jsonl").read_bytes(), (folder / "metrics.csv").read_bytes()


def assert_whole(folder):
    records, rows = read_metrics(folder), read_csv(folder)
    assert rows[0] == list(COLUMNS)
    assert [list(item) for item in records] == [list(COLUMNS)] * len(records)
    assert rows[1:] == [
        ["" if value is None else str(value) for value in item.values()] for item in records
    ]
    assert not list(folder.glob(".*"))


def test_csv_columns_are_jsonl_keys_and_values(tmp_path):
    with RunFolder.create(tmp_path / "run", SETTINGS, COLUMNS) as run:
        run_steps(run, range(1, 6))
        run.append({"step": 6})
    assert_whole(tmp_path / "run")
    assert read_metrics(tmp_path / "run")[-1] == {"step": 6, "loss": None, "note": None}


def test_every_record_is_on_disk_before_the_next(tmp_path):
    with RunFolder.create(tmp_path, SETTINGS, COLUMNS) as run:
        for step in range(1, 4):
            run.append(record(step))
            assert_whole(tmp_path)
            assert len(read_metrics(tmp_path)) == step


@given(
    last=st.integers(1, 8),
    resumed=st.integers(0, 8),
    cut=st.integers(0, 60),
    csv_cut=st.integers(0, 60),
)
def test_resumed_equals_uninterrupted(tmp_path_factory, last, resumed, cut, csv_cut):
    """Killed at any byte of the last line of either file, resumed from any earlier step: the same bytes as never stopped."""
    folder = tmp_path_factory.mktemp("resumed")
    resumed = min(resumed, last - 1)
    with RunFolder.create(folder / "whole", SETTINGS, COLUMNS) as run:
        run_steps(run, range(1, 10))
    with RunFolder.create(folder / "stopped", SETTINGS, COLUMNS) as run:
        run_steps(run, range(1, last + 1))
    for name, size in (("metrics.jsonl", cut), ("metrics.csv", csv_cut)):
        path = folder / "stopped" / name
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:-1]) + lines[-1][: max(0, len(lines[-1]) - 1 - size)])
    (folder / "stopped" / ".results.json.123.tmp").write_bytes(b"{")
    with RunFolder.resume(folder / "stopped", resumed) as run:
        assert run.settings == SETTINGS and run.columns == COLUMNS
        assert len(read_metrics(folder / "stopped")) == resumed
        run_steps(run, range(resumed + 1, 10))
    assert metrics(folder / "stopped") == metrics(folder / "whole")
    assert_whole(folder / "stopped")
    assert [item["step"] for item in read_json(folder / "stopped" / "run.json")["resumed"]] == [
        resumed
    ]


CHILD = """
import sys, time
from tinymm.arrays.files import atomic
from tinymm.training.records import RunFolder
with RunFolder.create(sys.argv[1], {"seed": 3, "out": "runs/x"}, ("step", "loss", "note")) as run:
    for step in range(1, 10**6):
        run.append({"step": step, "loss": 1 / step, "note": "word " * 200})
"""


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_killed_while_writing(tmp_path, kill):
    folder = tmp_path / "run"
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)], env=environment, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 120
    try:
        while (
            not (folder / "metrics.jsonl").exists()
            or len((folder / "metrics.jsonl").read_bytes()) < 5000
        ):
            assert time.monotonic() < until
            time.sleep(0.01)
        child.send_signal(kill)
        child.wait(30)
    finally:
        child.kill()  # one that did not stop would write on for a gigabyte
        child.wait()
    if kill == signal.SIGINT:
        assert_whole(folder)
    steps = [item["step"] for item in read_metrics(folder)]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > 2
    with RunFolder.resume(folder, len(steps) - 1):
        assert_whole(folder)


def test_a_failure_in_the_middle_of_writing_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "results.json", {"a": 1})
    with pytest.raises(RuntimeError), atomic(tmp_path / "results.json") as file:
        file.write(b'{"a": 2, "b"')
        raise RuntimeError
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "results.json") as file:
        file.write(b'{"a"')
        raise KeyboardInterrupt
    assert read_json(tmp_path / "results.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_file_appears_in_one_step(tmp_path, monkeypatch):
    """Until the very last call, the rename, the old file is what a reader sees."""
    write_json(tmp_path / "results.json", {"a": 1})

    def refuse(source, target):
        assert json.loads(source.read_bytes()) == {"a": 2}
        raise OSError("disk gone")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk gone"):
        write_json(tmp_path / "results.json", {"a": 2})
    assert read_json(tmp_path / "results.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_an_existing_folder_is_never_overwritten(tmp_path):
    with RunFolder.create(tmp_path, SETTINGS, COLUMNS) as run:
        run_steps(run, range(1, 3))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=r"already holds 4 files .*--resume.*--out"):
        RunFolder.create(tmp_path, SETTINGS, COLUMNS)
    (tmp_path / "a_file").write_text("x")
    with pytest.raises(UsageError, match="already holds 1 file "):
        RunFolder.create(tmp_path / "a_file", SETTINGS, COLUMNS)
    assert {path: path.read_bytes() for path in before} == before


def test_an_empty_folder_is_free(tmp_path):
    RunFolder.create(tmp_path, SETTINGS, COLUMNS).close()
    assert_whole(tmp_path)


def test_resume_needs_a_run(tmp_path):
    with pytest.raises(UsageError, match="run.json.*leave --resume out"):
        RunFolder.resume(tmp_path, 3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "bad", [{"step": 2, "los": 1.0}, {"step": 1}, {"step": None}, {"loss": 1.0}]
)
def test_a_bad_record_is_refused_and_nothing_written(tmp_path, bad):
    with RunFolder.create(tmp_path, SETTINGS, COLUMNS) as run:
        run.append(record(1))
        before = metrics(tmp_path)
        with pytest.raises(UsageError, match="'los'|after 1"):
            run.append(bad)
        assert metrics(tmp_path) == before


@pytest.mark.parametrize("columns", [(), ("loss",), ("step", "loss", "loss")])
def test_columns_are_checked(tmp_path, columns):
    with pytest.raises(UsageError, match="'step' first"):
        RunFolder.create(tmp_path / "run", SETTINGS, columns)
    assert not (tmp_path / "run").exists()


def test_a_bad_line_that_is_not_the_last_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(DataError, match="line 2 of"):
        read_metrics(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json is JSON"):
        read_json(tmp_path / "run.json")


def test_run_json_says_everything_but_who_and_where(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    RunFolder.create(
        tmp_path / "run",
        {"seed": 3, "data": Path("/home/someone/pictures"), "learning_rate": 2e-3},
        COLUMNS,
    ).close()
    description = read_json(tmp_path / "run" / "run.json")
    assert description["seed"] == 3
    assert description["versions"]["numpy"] == np.__version__
    assert set(description["platform"]) == {"system", "machine", "cores"}
    text = (tmp_path / "run" / "run.json").read_text()
    assert "someone" not in text and os.uname().nodename not in json.dumps(description["platform"])
    with RunFolder.resume(tmp_path / "run", 0) as run:
        assert run.settings == {"seed": 3, "data": "/home/someone/pictures", "learning_rate": 2e-3}


@dataclass
class Config:
    width: int
    bad: float


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
)


@given(values)
def test_plain_is_standard_json(value):
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == plain(value)


def test_plain_knows_numpy_and_configs():
    assert plain(
        {"a": np.arange(2), "b": np.float64("inf"), "c": Config(3, float("nan")), "d": np.True_}
    ) == {
        "a": [0, 1],
        "b": None,
        "c": {"width": 3, "bad": None},
        "d": True,
    }


def test_results_are_whole(tmp_path):
    with RunFolder.create(tmp_path, SETTINGS, COLUMNS) as run:
        run.write_results(
            {"unseen_characters_r1": np.float32(0.5), "chance": {"unseen_characters_r1": 1 / 150}}
        )
    assert read_json(tmp_path / "results.json") == {
        "unseen_characters_r1": 0.5,
        "chance": {"unseen_characters_r1": 1 / 150},
    }


def test_last_run_is_the_one_started_or_resumed_last(tmp_path):
    with pytest.raises(UsageError, match="no run is there yet; `python -m tinymm demo` makes one"):
        last_run(tmp_path)
    for name in ("b", "a"):
        RunFolder.create(tmp_path / name, SETTINGS, COLUMNS).close()
    os.utime(tmp_path / "b" / "run.json")  # file dates say nothing
    assert last_run(tmp_path) == tmp_path / "a"
    RunFolder.resume(tmp_path / "b", 0).close()
    assert last_run(tmp_path) == tmp_path / "b"
    (tmp_path / "a" / "model.safetensors").write_bytes(b"")
    assert last_run(tmp_path, holding="model.safetensors") == tmp_path / "a"


def test_a_run_that_fails_before_its_first_record_leaves_nothing(tmp_path):
    out = tmp_path / "runs" / "clip-1"
    for problem in (UsageError, KeyboardInterrupt):
        with pytest.raises(problem), RunFolder.create(out, SETTINGS, COLUMNS):
            (out / "tokenizer.json").write_text("{}")
            raise problem
        assert not (tmp_path / "runs").exists()
    with RunFolder.create(tmp_path / "runs" / "other", SETTINGS, COLUMNS):
        pass
    with pytest.raises(UsageError), RunFolder.create(out, SETTINGS, COLUMNS) as run:
        with RunFolder.create(out / "encoder", SETTINGS, COLUMNS) as part:
            part.append(record(1))  # a part that has been trained is kept
        raise UsageError
    assert (out / "run.json").exists() and run.path == out
    with pytest.raises(UsageError), RunFolder.resume(out, 0):
        raise UsageError
    assert (out / "run.json").exists(), "what was there already stays"


@pytest.mark.parametrize(
    "command, way",
    [
        ("demo", "train clip --resume"),
        ("train blip2", "train blip2 --resume"),
        ("compare: CLIP", "in"),
    ],
)
def test_a_stopped_run_says_how_it_goes_on(command, way, tmp_path):
    with (
        pytest.raises(KeyboardInterrupt) as stop,
        RunFolder.create(tmp_path, SETTINGS, COLUMNS, command=command) as run,
    ):
        run.append(record(1))
        raise KeyboardInterrupt
    assert (
        str(stop.value).endswith(f"{way} {tmp_path}")
        and read_json(tmp_path / "run.json")["command"] == command
    )


def test_what_a_killed_process_has_left_holds_no_folder_and_goes(tmp_path):
    (tmp_path / ".run.json.77.tmp").write_bytes(b"{")
    RunFolder.create(tmp_path, SETTINGS, COLUMNS).close()
    assert_whole(tmp_path)
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / ".loss.png.7.tmp").write_bytes(b"half")
    (tmp_path / "part" / ".hidden").write_bytes(b"mine")
    RunFolder.resume(tmp_path, 0).close()
    assert [path.name for path in (tmp_path / "part").iterdir()] == [".hidden"]


def test_a_run_that_another_command_has_made_is_nobodys_last(tmp_path):
    for i, command in enumerate(("demo", "train blip", "compare: BLIP", "ablate blip2: encoder")):
        RunFolder.create(tmp_path / f"run-{i}", SETTINGS, COLUMNS, command=command).close()
    assert last_run(tmp_path).name == "run-1"


def test_next_folder_is_free(tmp_path):
    assert next_folder("demo", tmp_path) == tmp_path / "demo-1"
    (tmp_path / "demo-1").mkdir()
    assert next_folder("demo", tmp_path) == tmp_path / "demo-2"
