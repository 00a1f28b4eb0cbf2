"""`arithmetic`: the page prints what the command prints, numbers and table agree, and a rate is measured where none is given."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tinymm.__main__ import build_parser
from tinymm.models.clip import CLIPConfig
from tinymm.training.arithmetic import Run
from tinymm.workflows.bench import scale as arithmetic

PAGE = Path(__file__).parents[3] / "docs" / "arithmetic.md"
TABLES = re.findall(r"<!-- (arithmetic .+?) -->\n```\n(.*?)```", PAGE.read_text(), re.S)


@pytest.mark.parametrize("line, printed", TABLES, ids=[line for line, _ in TABLES])
def test_the_tables_of_the_page_are_what_the_command_prints(line, printed):
    options = vars(build_parser().parse_args(shlex.split(line)))
    assert options["rate"] is not None, "a measured rate would be another one tomorrow"
    said: list[str] = []
    del options["debug"], options["command"], options["out_is_file"], options["shares_batches"]
    arithmetic.run(**options, say=said.append)
    assert "\n".join(said) + "\n" == printed


def test_the_page_has_its_tables():
    assert len(TABLES) >= 2


def test_numbers_in_the_pages_prose_are_those_of_the_tables():
    """Every number in bold stands in a table of the page."""
    text = PAGE.read_text()
    tables = "\n".join(printed for _, printed in TABLES)
    bold = re.findall(r"\*\*([\d.,]+[^*]*)\*\*", text)
    assert bold and not [number for number in bold if number not in tables]


def test_table_and_file_tell_the_same(command, tmp_path):
    said = command(
        "arithmetic",
        "--model",
        "ViT-L/14",
        "--machines",
        512,
        "--rate",
        1e4,
        "--out",
        tmp_path / "paper",
    )
    assert said.code == 0
    assert (
        said.lines[0]
        == "ViT-L/14: 32,768 pairs a batch, 400,000,000 pairs seen 32 times, 512 machines of 16 GB, 10.0 TFLOP/s each"
    )
    found = json.loads((tmp_path / "paper" / "arithmetic.json").read_text())
    run = Run(CLIPConfig.paper("ViT-L/14"), machines=512, local_loss=True)
    assert (
        found["local"]["step_operations"] == run.step_operations()
        and found["local"]["scattered_bytes"] == run.scattered_bytes()
    )
    assert found["rate"] == 1e13 and found["global"]["days"] > found["local"]["days"]
    row = next(line for line in said.lines if "kept of 64 pairs" in line)
    assert row.split()[-4:] == [f"{run.kept_bytes() / 1e9:.1f}", "GB"] * 2
    assert (tmp_path / "paper" / "arithmetic.png").stat().st_size > 10_000


def test_half_the_machines_at_twice_the_rate_take_as_long():
    runs = [
        arithmetic.run(machines=machines, rate=rate, say=lambda _: None)
        for machines, rate in ((128, 2e4), (256, 1e4))
    ]
    assert runs[0]["local"]["days"] == pytest.approx(runs[1]["local"]["days"])
    assert runs[0]["global"]["days"] < runs[1]["global"]["days"], "each computes the whole matrix"


def test_without_a_rate_this_machines_is_measured(monkeypatch):
    config = CLIPConfig.tiny()
    config = replace(config, text=replace(config.text, end_of_text=None))
    for name, value in {"SIDE": 64, "small_clip": lambda: config, "SMALL_BATCH": 4}.items():
        monkeypatch.setattr(arithmetic, name, value)
    seconds = iter([0.5e-6, 0.25e-3])
    monkeypatch.setattr(arithmetic, "shortest", lambda work: work() is None or next(seconds))
    said: list[str] = []
    arithmetic.run(say=said.append)
    product, step = 2 * 64**3 / 0.5e-6 / 1e9, 2 * Run(config, 4).step_operations() / 0.25e-3 / 1e9
    first = f"this machine: a product of 64 × 64 numbers {product:,.0f} GFLOP/s; "
    assert said[0] == first + f"steps of a small CLIP {step:,.0f} GFLOP/s, which counts here"
    assert f"{step:,.0f} GFLOP/s each" in said[2]


def test_the_shortest_of_some_runs_counts_and_the_first_does_not(monkeypatch):
    clock = iter([0, 1, 10, 15, 20, 23, 30, 37])
    monkeypatch.setattr(arithmetic.time, "perf_counter", lambda: next(clock))
    assert arithmetic.shortest(lambda: 0.0, times=3) == 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--model", "ViT-S/1"], "the released sizes are RN50"),
        (["--batch", 100, "--machines", 3], "100 over 3 came; choose a divisor of the batch"),
        (["--rate", -1], "--rate is above 0, and -1.0 came; leave it out for its default"),
        (["--memory", 0], "--memory is above 0, and 0.0 came"),
        (["--pairs", 0], "--pairs is above 0"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(arguments, message, command):
    said = command("arithmetic", *arguments)
    assert (
        said.code == 2
        and message in said.error
        and len(said.error.splitlines()) == 1
        and not said.out
    )
