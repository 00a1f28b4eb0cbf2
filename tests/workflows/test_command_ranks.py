"""`mpiexec -n 2 python -m tinymm …`: two processes train what one would, one of them speaks and writes, and neither hangs when the other fails."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_runs import train_command

import tinymm
from tinymm.__main__ import main
from tinymm.training.checkpoint import FILE
from tinymm.training.records import RunFolder, read_metrics

MPIEXEC = shutil.which(
    "mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
)
pytestmark = [
    pytest.mark.mpi, pytest.mark.skipif(MPIEXEC is None or importlib.util.find_spec("mpi4py") is None, reason="needs the extra mpi"),
]  # fmt: skip
STEPS = [
    "--steps",
    "8",
    "--learning-rate",
    "1e-3",
    "--validate-every",
    "4",
    "--checkpoint-every",
    "3",
]


@pytest.fixture
def launched(tmp_path):
    """Give a function that runs a command on two ranks; their temporary folders lie in an empty folder of its own and are gone at the end."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def launch(*arguments, module="tinymm"):
        path = os.pathsep.join(
            [str(Path(tinymm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        )
        command = [MPIEXEC, "-n", "2", sys.executable, "-m", module, *map(str, arguments)]
        found = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"PYTHONPATH": path, "TMPDIR": str(temporary)},
        )
        if found.returncode == 0:
            assert [
                path.name for path in temporary.iterdir() if path.name.startswith("tinymm")
            ] == []
        return found

    return launch


@pytest.fixture(scope="module")
def alone(pictures, tmp_path_factory):
    """Give the folder of a run of one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main(train_command(pictures, out, *STEPS)) == 0
    return out


def assert_same_run(folder, other):
    """The same files, curves and parameters, to the rounding of float32 and what eight steps of Adam make of it."""
    assert sorted(path.name for path in folder.iterdir() if "events" not in path.name) == sorted(
        path.name for path in other.iterdir() if "events" not in path.name
    )
    records, expected = read_metrics(folder), read_metrics(other)
    assert [record["step"] for record in records] == list(range(1, 9))
    for key in ("loss", "scale", "learning_rate", "gradient_norm"):
        np.testing.assert_allclose(
            [record[key] for record in records],
            [record[key] for record in expected],
            rtol=1e-4,
            err_msg=key,
        )
    from safetensors.numpy import load_file

    ours, theirs = (load_file(path / "model.safetensors") for path in (folder, other))
    assert ours.keys() == theirs.keys()
    moved = 8 * 1e-3  # as far as a parameter can have come
    for name, array in theirs.items():
        assert np.abs(ours[name] - array).max() < 0.02 * moved, name


def test_two_ranks_train_what_one_process_trains_and_write_once(
    pictures, alone, launched, tmp_path
):
    out = tmp_path / "run"
    done = launched(*train_command(pictures, out, *STEPS))
    assert done.returncode == 0, done.stderr
    assert_same_run(out, alone)
    assert (
        done.stdout.count("run folder:") == 1
        and " ".join(done.stdout.split()).count("batch B = 8") == 1
    )
    description = json.loads((out / "run.json").read_text())
    assert (
        description["ranks"] == 2
        and description["settings"]["workers"] == 1
        and "mpi4py" in description["versions"]
    )
    assert json.loads((alone / "run.json").read_text())["ranks"] == 1


def test_two_ranks_go_on_with_what_one_process_has_begun(
    pictures, alone, launched, tmp_path, monkeypatch
):
    out, append = tmp_path / "run", RunFolder.append

    def stop(folder, record):
        append(folder, record)
        if record["step"] == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "append", stop)
    assert main(train_command(pictures, out, *STEPS)) == 130 and (out / FILE).exists()
    done = launched("train", "clip", "--resume", out)
    assert done.returncode == 0, done.stderr
    assert_same_run(out, alone)
    assert [item["step"] for item in json.loads((out / "run.json").read_text())["resumed"]] == [3]


def test_what_all_ranks_refuse_is_said_once(launched, tmp_path):
    for arguments, reason in [
        (
            ("train", "clip", "--resume", tmp_path / "nowhere"),
            "nowhere does not exist; start a new run with --out",
        ),
        (
            ("eval", "--model", tmp_path),
            "train, demo and compare share batches among ranks, and 2 were started for another command",
        ),
        (("train", "clip", "--steps", "many"), "invalid int value: 'many'"),
    ]:
        done = launched(*arguments)
        assert (
            done.returncode == 2
            and done.stderr.count(reason) == 1
            and "Traceback" not in done.stderr
        ), done.stderr


def test_a_rank_that_fails_alone_says_why_and_ends_the_other(pictures, launched, tmp_path):
    """Only the first rank writes to --out, so only it finds that a file stands there, and the other would wait for its gradients."""
    out = tmp_path / "run"
    out.write_text("kept")
    done = launched(*train_command(pictures, out, *STEPS))
    assert (
        done.returncode == 2
        and done.stderr.count("tinymm: rank 0 of 2: a run folder is never overwritten") == 1
    ), done.stderr
    assert out.read_text() == "kept"


def test_a_step_on_ranks_is_timed_and_told_once(launched):
    done = launched("W1", "--steps", 1, module="tinymm.workflows.bench.ranks")
    assert done.returncode == 0 and re.fullmatch(
        r"W1 ranks 2 threads 1: step ms min [\d.]+ med [\d.]+\n", done.stdout
    ), done.stdout + done.stderr
