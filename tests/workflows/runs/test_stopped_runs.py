"""A run that is killed or interrupted leaves a whole folder, and goes on bit for bit as if it had never stopped."""

import json
import signal
import time

import pytest
from small_runs import start, train_command

from tinymm.training import records
from tinymm.training.checkpoint import FILE

STEPS = ["--steps", "150", "--validate-every", "40", "--checkpoint-every", "3"]


def without_times(folder):
    return [
        {key: value for key, value in record.items() if key != "seconds"}
        for record in records.read_metrics(folder)
    ]


@pytest.fixture(scope="module")
def uninterrupted(pictures, tmp_path_factory):
    from tinymm.__main__ import main

    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(train_command(pictures, out, *STEPS)) == 0
    return out


@pytest.mark.parametrize("stop, code", [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_it_goes_on_as_if_never_stopped(stop, code, pictures, uninterrupted, here, command):
    out = here / "run"
    with start(*train_command(pictures, out, *STEPS)) as process:
        while process.poll() is None and not (
            (out / FILE).exists() and len((out / "metrics.jsonl").read_bytes().splitlines()) > 20
        ):
            time.sleep(0.002)
        process.send_signal(stop)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    # Whole: what is there can be read, and there is something to go on from.
    steps = [record["step"] for record in records.read_metrics(out)]
    assert steps == list(range(1, len(steps) + 1)) and 20 < len(steps) < 150
    assert json.loads((out / "run.json").read_text())["resumed"] == []
    assert (out / FILE).exists() and not (out / "results.json").exists()
    if stop == signal.SIGINT:
        assert (
            f"it goes on with: python -m tinymm train clip --resume {out}" in said
            and "Traceback" not in said
        )
        assert not [
            path
            for path in out.iterdir()
            if path.name.startswith(".") or path.name.endswith(".part")
        ]

    (out / ".model.safetensors.1.tmp").write_bytes(
        b"half"
    )  # what a kill inside a write leaves behind
    assert command("train", "clip", "--resume", out).code == 0
    assert (out / "model.safetensors").read_bytes() == (
        uninterrupted / "model.safetensors"
    ).read_bytes()
    assert (out / "results.json").read_bytes() == (uninterrupted / "results.json").read_bytes()
    assert without_times(out) == without_times(uninterrupted)
    assert not [
        path
        for path in out.iterdir()
        if path.name.startswith(".") or path.name in (FILE, "tokenizer.json.part")
    ]
    assert len(json.loads((out / "run.json").read_text())["resumed"]) == 1


def test_what_cannot_go_on_is_refused_with_the_reason(uninterrupted, here, command):
    said = command("train", "clip", "--resume", uninterrupted)
    assert (
        said.code == 2
        and "is finished; start a new run with --out, from its weights with --init" in said.error
    )
    said = command("train", "clip", "--resume", here / "nowhere")
    assert said.code == 2 and "nowhere does not exist; start a new run with --out" in said.error
    (here / "early").mkdir()
    said = command("train", "clip", "--resume", here / "early")
    assert said.code == 2 and "holds no run.json; start a new run" in said.error
    assert list((here / "early").iterdir()) == []


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_again_in_its_folder(
    uninterrupted, here, command
):
    description = json.loads((uninterrupted / "run.json").read_text())
    early = here / "early"
    early.mkdir()
    (early / "run.json").write_text(json.dumps(description))
    (early / "metrics.jsonl").write_text('{"step": 1, "loss": 9.0}\n{"step"')
    assert command("train", "clip", "--resume", early).code == 0
    assert (early / "model.safetensors").read_bytes() == (
        uninterrupted / "model.safetensors"
    ).read_bytes()
    assert without_times(early) == without_times(uninterrupted)
