"""The commands that measure what memory is saved: what they print, and what they compare."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tinymm.models.clip import CLIPConfig
from tinymm.training import gradient_cache
from tinymm.workflows.bench import batch_memory as bench_batch
from tinymm.workflows.bench import block_memory as bench_blocks


@pytest.fixture
def small(monkeypatch):
    """Put a workload of milliseconds in the place of W1."""
    config = CLIPConfig.tiny()
    monkeypatch.setitem(
        bench_batch.WORKLOADS, "W1", replace(config, text=replace(config.text, end_of_text=None))
    )


def printed(module, monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
    module.main()
    return capsys.readouterr().out.splitlines()


def test_a_step_is_measured_in_chunks_and_at_once(small, monkeypatch, capsys):
    for more, said in (
        ((), "none workers 1"),
        (("--grad-cache", 2), "2 workers 1"),
        (("--grad-cache", 2, "--workers", 2), "2 workers 2"),
    ):
        (line,) = printed(bench_batch, monkeypatch, capsys, "--batch", 5, *more)
        assert re.fullmatch(
            rf"W1 tinymm batch 5 chunk {said} step s \d+\.\d cpu s \d+\.\d peak MB -?\d+", line
        )


def test_gradients_are_compared_in_both_precisions(small, monkeypatch, capsys):
    lines = printed(bench_batch, monkeypatch, capsys, "--check", 6, "--grad-cache", 4)
    apart = {
        dtype: float(number)
        for dtype, number in (
            re.search(r"(float\d+) gradient differs by (.*)", line).groups() for line in lines
        )
    }
    assert apart["float64"] < 1e-12 and 1e-9 < apart["float32"] < 1e-3


def test_a_wrong_gradient_is_seen(small, monkeypatch):
    class Wrong(gradient_cache._Chunked):
        def _run(self, *inputs, batch):
            value, *vjps = super()._run(*inputs, batch=batch)
            return value, *(vjp and (lambda g, vjp=vjp: 1.01 * vjp(g)) for vjp in vjps)

    monkeypatch.setattr(gradient_cache, "_Chunked", Wrong)
    assert bench_batch.difference("W1", 4, 2, 1, "float64") == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("case", bench_blocks.CASES)
def test_blocks_and_whole_are_the_same_work(case, monkeypatch, capsys):
    """Both sides end in the same gradients; the numbers are printed with the size and the side."""
    delivered = []
    backward = bench_blocks.Tensor.backward

    def spy(self, gradient=None, into=None):
        into = {}
        backward(self, gradient, into)
        delivered.append(sorted(float(np.abs(g).sum()) for g in into.values()))

    monkeypatch.setattr(bench_blocks.Tensor, "backward", spy)
    for side in ("blocks", "whole"):
        (line,) = printed(bench_blocks, monkeypatch, capsys, case, "--sizes", 64, "--side", side)
        assert re.fullmatch(rf"{case} 64 {side} s \d+\.\d{{3}} peak MB -?\d+", line)
    first, last = delivered[0], delivered[-1]
    assert len(delivered) == 4 and sum(first) == pytest.approx(sum(last), rel=1e-4)


def test_what_does_not_fit_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr(bench_blocks, "free_mb", lambda: 100.0)
    (line,) = printed(bench_blocks, monkeypatch, capsys, "loss", "--sizes", 2048, "--side", "whole")
    assert line == "loss 2048 whole does not fit: 112 MB of 100 that are free"
    assert (
        len(printed(bench_blocks, monkeypatch, capsys, "loss", "--sizes", 64, "--side", "whole"))
        == 1
    )


def test_each_side_has_a_process_of_its_own_and_blocks_hold_less():
    command = [
        sys.executable,
        "-m",
        "tinymm.workflows.bench.block_memory",
        "loss",
        "--sizes",
        "1024",
        "2048",
    ]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    peaks = {tuple(line.split()[1:3]): int(line.split()[-1]) for line in lines}
    assert list(peaks) == [
        ("1024", "blocks"),
        ("1024", "whole"),
        ("2048", "blocks"),
        ("2048", "whole"),
    ]
    assert (
        peaks["2048", "whole"] > 3 * peaks["2048", "blocks"]
        and peaks["2048", "whole"] > 2 * peaks["1024", "whole"]
    )
