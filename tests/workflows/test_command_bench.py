"""`bench`: the lines that each side prints, the ratio of their minima, and refusals."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from tinymm.models.clip import CLIPConfig
from tinymm.workflows import bench, bench_tinymm


def test_our_side_prints_the_lines_that_are_read(monkeypatch, capsys):
    monkeypatch.setattr(bench_tinymm, "BATCH", 2)
    config = CLIPConfig.tiny()
    monkeypatch.setitem(bench_tinymm.WORKLOADS, "W0", replace(config, text=replace(config.text, end_of_text=None)))
    real = bench_tinymm.timed
    monkeypatch.setattr(bench_tinymm, "timed", lambda name, what, run: real(name, what, run, repeats=2))
    bench_tinymm.measure("W0", 1, "numpy", 0)
    bench_tinymm.tape(repeats=3)
    lines = capsys.readouterr().out.splitlines()
    numbers = {}
    for line in lines:
        assert bench.LINE.match(line), line
        bench._keep_best(numbers, line)
    assert list(numbers) == ["W0 tinymm step", "W0 tinymm fwd", "W0 tinymm peak", "tape tinymm us per op"]
    assert numbers["W0 tinymm step"] > numbers["W0 tinymm fwd"] > 0


def test_the_smallest_of_each_side_is_compared(monkeypatch, tmp_path, capsys):
    sides = {"tinymm": iter([(120, 40, 90), (100, 50, 80)]), "torch": iter([(80, 20, 100), (90, 25, 160)])}
    asked = []

    def lines(side, arguments, workers):
        asked.append((side, workers, arguments))
        step, forward, peak = next(sides[side])
        tape = ["tape tinymm us per op 2.50"] if side == "tinymm" else []
        return [f"W1 {side} step ms min {step}.0 med 999.0", f"W1 {side} fwd ms min {forward}.0 med 999.0", f"W1 {side} peak MB {peak}", *tape]

    monkeypatch.setattr(bench, "_lines", lines)
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: True)
    numbers = bench.run(["W1"], against="torch", workers=2, out=tmp_path / "bench.json")
    assert [(side, workers) for side, workers, _ in asked] == [("tinymm", 2), ("torch", 2)] * 2
    assert numbers["W1 step ratio"] == 100 / 80 and numbers["W1 fwd ratio"] == 40 / 20 and numbers["W1 peak ratio"] == 80 / 100
    assert "W1 step ratio tinymm/torch 1.25 (2 threads)" in capsys.readouterr().out
    assert json.loads((tmp_path / "bench.json").read_text()) == {"workers": 2, "numbers": numbers}


@pytest.mark.parametrize(
    "arguments, message",
    [(["W3"], "the workloads are W1, W2, and 'W3' came"), (["W1", "--workers", "-1"], "at least one worker is needed and -1 came")],
)
def test_what_cannot_be_measured_is_refused(arguments, message, command):
    said = command("bench", *arguments)
    assert said.code == 2 and message in said.error and not said.out


def test_without_pytorch_the_comparison_says_what_to_install(monkeypatch, command):
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    assert "install the extra 'parity', or leave --against out" in command("bench", "--against", "torch").error


def test_a_side_that_stops_is_reported_with_its_last_line(monkeypatch):
    from tinymm.arrays.errors import UsageError

    with pytest.raises(UsageError, match="the tinymm side of the benchmark stopped with .*invalid choice"):
        bench._lines("tinymm", ["W3"], 1)


def test_memory_in_use_is_seen():
    # In a process of its own, as the benchmark's sides are: here, memory that other tests have freed may be used again unseen.
    program = """
import numpy as np
from tinymm.workflows import bench_memory
bench_memory.forget_peak()
before = bench_memory.peak_mb()
block = np.ones(8_000_000)
print(bench_memory.peak_mb() - before, bench_memory.resident_mb())
"""
    grown, resident = map(float, subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split())
    assert 50 < grown < 80 and resident > 60


@pytest.mark.slow
def test_the_whole_command_on_our_side(command):
    said = command("bench", "W1", "--workers", 1)
    assert said.code == 0 and [line.split()[0] for line in said.lines] == ["tape", "W1", "W1", "W1"]
