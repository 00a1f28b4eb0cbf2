"""`bench`: the lines that each side prints, the ratio of their minima, and refusals."""

import argparse
import importlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tinymm.models.clip import CLIP
from tinymm.workflows.bench import cases as bench_cases
from tinymm.workflows.bench import run as bench
from tinymm.workflows.bench import timing as bench_timing
from tinymm.workflows.bench import tinymm_side as bench_tinymm


def read(lines):
    """Return the numbers that `bench` reads off a side's lines, all of which it must know."""
    numbers = {}
    for line in lines:
        assert bench.LINE.match(line), line
        bench._keep_best(numbers, line)
    return numbers


@pytest.fixture
def small(monkeypatch):
    """Make the named cases small and the timing short."""
    tiny = bench_cases.Contrast(16, 8, 16, 1, 2, 6, 20, batch=3, what=("step", "fwd", "image"))
    cases = {
        "W0": {"W0": tiny},
        "loss": {"loss 5": bench_cases.Loss(5, 4)},
        "decoding": {"decoding x2": bench_cases.Decode(2, 16, 1, 2, 20, 3, 4)},
    }
    monkeypatch.setattr(bench_cases, "CASES", cases)
    monkeypatch.setattr(bench_timing, "CASES", cases)
    monkeypatch.setattr(bench_timing, "REPEATS", 2)
    monkeypatch.setattr(bench_timing, "FEW", 2)
    return cases


NAMES = [
    "W0 {} step",
    "W0 {} fwd",
    "W0 {} image",
    "W0 {} peak",
    "loss 5 {} step",
    "loss 5 {} peak",
    "decoding x2 {} word",
    "decoding x2 {} peak",
]


@pytest.mark.parametrize(
    "side",
    [
        "tinymm",
        pytest.param("torch", marks=pytest.mark.parity),
        pytest.param("jax", marks=pytest.mark.parity),
    ],
)
def test_each_side_prints_the_lines_that_are_read(side, small, monkeypatch, capsys):
    if side != "tinymm":
        pytest.importorskip(side)
    module = importlib.import_module(f"tinymm.workflows.bench.{side}_side")
    monkeypatch.setattr("sys.argv", ["bench", "W0", "loss 5", "decoding x2"])
    bench_timing.main(side, module.prepare)
    numbers = read(capsys.readouterr().out.splitlines())
    names = [name.format(side) for name in NAMES]
    assert list(numbers) == [
        name for name in names if side != "jax" or "word" not in name
    ]  # JAX does not decode here
    assert numbers[f"W0 {side} step"] > 0


def test_the_tape_is_priced(capsys):
    bench_tinymm.tape(repeats=3)
    assert list(read(capsys.readouterr().out.splitlines())) == ["tape tinymm us per op"]


@pytest.mark.parity
def test_both_sides_build_the_same_clip():
    pytest.importorskip("torch")
    bench_torch = importlib.import_module("tinymm.workflows.bench.torch_side")
    for case in (bench_cases.W1, bench_cases.B32):
        theirs = sum(p.numel() for p in bench_torch.TorchCLIP(case).parameters())
        ours = sum(
            p.data.size
            for p in CLIP(bench_tinymm.clip_config(case), np.random.default_rng(0)).parameters()
        )
        assert ours == theirs


def test_what_is_timed_is_the_work_itself(small):
    """A step moves every parameter, a forward pass none; decoding writes as many words as it is divided by."""
    options = argparse.Namespace(workers=1, backend="numpy", seed=0)
    with bench_tinymm.prepare(small["decoding"]["decoding x2"], options) as (runs, words):
        assert [len(text) for text in runs["word"]()] == [words, words] == [4, 4]
    with bench_tinymm.prepare(replace(small["W0"]["W0"], what=("fwd", "step")), options) as (
        runs,
        _,
    ):
        model = next(
            cell.cell_contents
            for cell in runs["step"].__closure__
            if isinstance(cell.cell_contents, CLIP)
        )
        before = [p.data.copy() for p in model.parameters()]
        runs["fwd"]()
        assert all((a == p.data).all() for a, p in zip(before, model.parameters(), strict=True))
        runs["step"]()
        assert all((a != p.data).any() for a, p in zip(before, model.parameters(), strict=True))


def test_the_smallest_of_each_side_is_compared(monkeypatch, tmp_path, capsys):
    sides = {
        "tinymm": iter([(120, 40, 90), (100, 50, 80)]),
        "torch": iter([(80, 20, 100), (90, 25, 160)]),
    }
    asked = []

    def lines(side, arguments, workers):
        asked.append((side, workers, arguments[0]))
        if arguments[0] == "tape":
            return ["tape tinymm us per op 2.50"]
        step, forward, peak = next(sides[side])
        return [
            f"W1 {side} step ms min {step}.0 med 999.0",
            f"W1 {side} fwd ms min {forward}.0 med 999.0",
            f"W1 {side} peak MB {peak}",
        ]

    monkeypatch.setattr(bench, "_lines", lines)
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: True)
    numbers = bench.run(["W1"], against=["torch"], workers=2, out=tmp_path / "bench.json")
    assert asked == [("tinymm", 2, "tape"), *[("tinymm", 2, "W1"), ("torch", 2, "W1")] * 2]
    assert (
        numbers["W1 step ratio torch"] == 100 / 80
        and numbers["W1 fwd ratio torch"] == 40 / 20
        and numbers["W1 peak ratio torch"] == 80 / 100
    )
    assert "W1 step ratio tinymm/torch 1.25 (2 threads)" in capsys.readouterr().out
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert (
        kept["workers"] == 2
        and kept["numbers"] == numbers
        and kept["machine"]["numpy"] == np.__version__
    )
    assert (tmp_path / "bench.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["W3"],
            "the workloads are W1, W2, inference, decoding, batch, width, sequence, loss, and 'W3' came",
        ),
        (["W1", "--workers", "-1"], "at least one worker is needed and -1 came"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, message, command):
    said = command("bench", *arguments)
    assert said.code == 2 and message in said.error and not said.out


def test_without_pytorch_the_comparison_says_what_to_install(monkeypatch, command):
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    assert (
        "install the extra 'parity', or leave --against out"
        in command("bench", "--against", "torch").error
    )


def test_a_side_that_stops_is_reported_with_its_last_line(monkeypatch):
    from tinymm.arrays.errors import UsageError

    with pytest.raises(
        UsageError, match="the tinymm side of the benchmark stopped with .*invalid choice"
    ):
        bench._lines("tinymm", ["W3"], 1)


def test_memory_in_use_is_seen():
    # In a process of its own, as the benchmark's sides are: here, memory that other tests have freed may be used again unseen.
    program = """
import numpy as np
from tinymm.workflows.bench import memory as bench_memory
bench_memory.forget_peak()
before = bench_memory.peak_mb()
block = np.ones(8_000_000)
print(bench_memory.peak_mb() - before, bench_memory.resident_mb())
"""
    grown, resident = map(
        float,
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.split(),
    )
    assert 50 < grown < 80 and resident > 60


@pytest.mark.slow
@pytest.mark.alone
def test_the_whole_command_on_our_side(command):
    said = command("bench", "W1", "--workers", 1)
    assert said.code == 0 and [line.split()[0] for line in said.lines] == ["tape", "W1", "W1", "W1"]
