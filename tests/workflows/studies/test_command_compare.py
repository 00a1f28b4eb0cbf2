"""`compare`: four trainings on one budget, gone on with where they were stopped, and never two budgets in one table."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tinymm.arrays.errors import UsageError
from tinymm.training.records import FORMAT, read_json, write_json
from tinymm.workflows.studies import compare

SYSTEMS = ["clip", "albef", "blip", "blip-2"]


@pytest.fixture
def trainings(monkeypatch):
    """Replace the trainings by some that only leave their records; give what was called, and where to stop the next time."""
    seen = SimpleNamespace(calls=[], stop=None)

    def run(spec, settings, out, *, resume, say, command):
        folder = Path(resume or out)
        seen.calls.append((folder.name, resume is not None))
        if not resume:
            folder.mkdir(parents=True)
            common = {
                name: getattr(settings, name) for name in ("data", "steps", "batch_size", "seed")
            }
            write_json(folder / "run.json", {"format": FORMAT, "settings": common})
        if seen.stop == folder.name:
            raise KeyboardInterrupt
        write_json(
            folder / "results.json",
            {"held_out_r1": 0.5, "held_out_itc_r1": 0.25, "chance": {"held_out_r1": 0.02}},
        )
        (folder / "report.html").write_text("")

    monkeypatch.setattr(compare, "train", run)
    kept = [("weight", np.zeros(7)), ("momentum_encoder.model.weight", np.zeros(7))]
    monkeypatch.setattr(
        compare.pretrained, "load", lambda folder: SimpleNamespace(named_parameters=lambda: kept)
    )
    monkeypatch.setattr(compare, "write_report", lambda folder: None)
    return seen


def test_a_stopped_system_goes_on_and_a_finished_one_is_left_alone(trainings, here):
    trainings.stop = "albef"
    with pytest.raises(KeyboardInterrupt):
        compare.run(out="all", say=lambda line: None)
    assert trainings.calls == [("clip", False), ("albef", False)]
    write_json(here / "all" / "albef" / "seconds.json", 1000.0)  # so long has it taken until then
    trainings.calls, trainings.stop = [], None
    lines = []
    compare.run(out="all", say=lines.append)
    assert trainings.calls == [("albef", True), ("blip", False), ("blip-2", False)]
    rows = read_json(here / "all" / "results.json")
    assert (
        1000 < rows["ALBEF"]["seconds"] < 1100
        and rows["BLIP-2"]["seconds"] >= rows["CLIP"]["seconds"]
        and rows["CLIP"]["parameters"] == 7
    )
    assert (here / "all" / "systems.png").exists() and any(
        line.startswith("R@1, ITC") for line in lines
    )
    trainings.calls = []
    compare.run(out="all", say=lambda line: None)
    assert trainings.calls == []


@pytest.mark.parametrize(
    "asked, said",
    [
        (
            {"steps": 400},
            "the CLIP in all/clip has steps 800 and 400 is asked for; compare them by --steps 800, or in another folder with --out",
        ),
        (
            {"batch_size": 32},
            "has batch_size 64 and 32 is asked for; compare them by --batch-size 64,",
        ),
        ({"seed": 1}, "has seed 0 and 1 is asked for"),
        ({"data": "scattered-shapes"}, "has data shapes and scattered-shapes is asked for"),
    ],
)
def test_two_budgets_are_not_compared(asked, said, trainings, here):
    trainings.stop = "albef"
    with pytest.raises(KeyboardInterrupt):
        compare.run(out="all", say=lambda line: None)
    trainings.calls = []
    with pytest.raises(UsageError) as caught:
        compare.run(out="all", **asked)
    assert said in str(caught.value) and trainings.calls == []
    begun = {"data": "shapes", "steps": 800, "batch_size": 64, "seed": 0} | asked
    write_json(here / "all" / "clip" / "run.json", {"format": FORMAT, "settings": begun})
    with pytest.raises(
        UsageError, match="the ALBEF in all/albef has"
    ):  # begun is as good as finished
        compare.run(out="all", **asked)
    assert trainings.calls == []


def test_seconds_that_nobody_has_counted_are_a_dash(trainings, here):
    compare.run(out="all", say=lambda line: None)
    (here / "all" / "clip" / "seconds.json").unlink()
    lines = []
    compare.run(out="all", say=lines.append)
    assert next(line for line in lines if line.startswith("seconds")).split() == [
        "seconds",
        "–",
        "0",
        "0",
        "–",
    ]
