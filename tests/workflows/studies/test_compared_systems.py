"""`compare` for once with real trainings, of seconds: the table's numbers are the runs' own, and none of them is trained twice."""

from functools import partial

import numpy as np
import pytest

from tinymm import pretrained
from tinymm.tasks import albef, blip, blip2_stage1
from tinymm.training.records import RunFolder, read_json, read_metrics, write_json
from tinymm.workflows.runs import figures
from tinymm.workflows.studies import compare

SYSTEMS = ("CLIP", "ALBEF", "BLIP", "BLIP-2")
ROWS = [*compare.METRICS, "parameters", "seconds"]
#: What a system has no head for.
LACKS = {
    "CLIP": {name for name in compare.METRICS if name.endswith("ITM")} | {"captions exactly right"}, "ALBEF": {"captions exactly right"},
    "BLIP": set(), "BLIP-2": set(),
}  # fmt: skip


#: Sizes of seconds.
SMALL = {"width": 16, "layers": 1, "heads": 2, "embed_dim": 8}


def undrawn(path, *_):
    (path / "report.html").write_text("")


@pytest.fixture(scope="module")
def tiny():
    """Make every system one of seconds, without pictures of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            blip2_stage1, "ENCODER", blip2_stage1.ENCODER | SMALL | {"layers": 2, "text_layers": 1}
        )
        patch.setattr(albef, "ALBEFSettings", partial(albef.ALBEFSettings, **SMALL, text_layers=1))
        patch.setattr(blip, "BLIPSettings", partial(blip.BLIPSettings, **SMALL, text_layers=1))
        patch.setattr(
            blip2_stage1,
            "BLIP2Stage1Settings",
            partial(blip2_stage1.BLIP2Stage1Settings, **SMALL, queries=2),
        )
        patch.setattr(figures, "draw", undrawn)
        yield patch


@pytest.fixture(scope="module")
def compared(tiny, tmp_path_factory):
    """Give the folder of a comparison and the lines that were said."""
    out, lines = tmp_path_factory.mktemp("compared") / "all", []
    assert (
        compare.run(steps=2, batch_size=6, out=str(out), workers=1, seed=3, say=lines.append) == out
    )
    return out, lines


def test_the_folder_holds_four_runs_of_one_budget_and_a_picture(compared):
    out, lines = compared
    assert {path.name for path in out.iterdir()} == {
        *map(str.lower, SYSTEMS),
        "results.json",
        "systems.png",
    }
    for name in SYSTEMS:
        settings = read_json(out / name.lower() / "run.json")["settings"]
        assert [settings[key] for key in ("steps", "batch_size", "data", "seed", "workers")] == [
            2,
            6,
            "shapes",
            3,
            1,
        ]
        assert (
            len(read_metrics(out / name.lower())) == 2
            and (out / name.lower() / "report.html").exists()
        )
    encoder, clip = (
        pretrained.load(out / name).image_encoder.state_dict() for name in ("blip-2", "clip")
    )
    assert encoder and all(np.array_equal(array, clip[name]) for name, array in encoder.items()), (
        "BLIP-2 stands in front of this CLIP"
    )
    assert lines[-1] == f"folder: {out} · see {out / 'systems.png'}"


def test_the_table_has_a_column_a_system_and_its_numbers_are_the_runs_own(compared):
    out, lines = compared
    found = read_json(out / "results.json")
    assert [*found] == [*SYSTEMS, "chance", "steps", "batch_size"]
    table = lines[-2 - len(ROWS) : -1]
    assert table[0].split() == [*SYSTEMS, "chance"]
    assert [line[:30].strip() for line in table[1:]] == ROWS
    for name in SYSTEMS:
        results = read_json(out / name.lower() / "results.json")
        assert [*found[name]] == ROWS and {
            metric for metric in ROWS if found[name][metric] is None
        } == LACKS[name]
        for metric, keys in compare.METRICS.items():
            if found[name][metric] is not None:
                (key,) = (key for key in keys if key in results)
                assert found[name][metric] == results[key]
        kinds = (
            {"attribute", "relation"}
            if name == "CLIP"
            else {"attribute_itc", "attribute_itm", "relation_itc", "relation_itm"}
        )
        assert {
            metric: value
            for metric, value in found[name].items()
            if "swaps" in metric and value is not None
        } == {
            f"{kind.split('_')[0]} swaps, {'ITM' if kind.endswith('itm') else 'ITC'}": results[
                f"swap_{kind}"
            ]
            for kind in kinds
        }
    cells = {line[:30].strip(): line[30:].split() for line in table[1:]}
    for place, name in enumerate(SYSTEMS):
        for metric, value in found[name].items():
            said = (
                "–"
                if value is None
                else f"{value:,.0f}"
                if metric in ("parameters", "seconds")
                else f"{value:.3f}"
            )
            assert cells[metric][place] == said
    assert (
        cells["R@1, ITC"][-1] == f"{1 / 57:.3f}"
        and cells["attribute swaps, ITM"][-1] == "0.500"
        and len(cells["parameters"]) == 4
    )


def test_parameters_are_those_that_see_and_seconds_hold_what_is_stood_on(compared):
    out, _ = compared
    found, seconds = (
        read_json(out / "results.json"),
        {name: read_json(out / name.lower() / "seconds.json") for name in SYSTEMS},
    )
    for name in SYSTEMS:
        assert found[name]["seconds"] == pytest.approx(
            seconds[name] + (seconds["CLIP"] if name == "BLIP-2" else 0)
        )
        arrays = pretrained.load(out / name.lower()).named_parameters()
        assert found[name]["parameters"] == sum(
            p.size for key, p in arrays if not key.startswith("momentum_encoder.")
        ), name


def test_what_the_folder_holds_is_not_trained_again(compared, command, monkeypatch):
    out, lines = compared
    monkeypatch.setattr(compare, "train", lambda *_, **__: pytest.fail("trained again"))
    again = command(
        "compare", "--steps", 2, "--batch-size", 6, "--seed", 3, "--workers", 1, "--out", out
    )
    assert (
        again.code == 0
        and again.lines == lines[-len(again.lines) :]
        and len(again.lines) == len(ROWS) + 2
    )


@pytest.mark.parametrize("system", ["CLIP", "BLIP"])
def test_a_comparison_that_was_stopped_goes_on(system, compared, tiny, tmp_path, monkeypatch):
    (out, _), began = compared, tmp_path / "all"
    append = RunFolder.append

    def appended(folder, record):
        append(folder, record)
        if folder.path.name == system.lower():
            raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "append", appended)
    with pytest.raises(KeyboardInterrupt):
        compare.run(steps=2, batch_size=6, out=str(began), workers=1, seed=3, say=lambda _: None)
    assert (
        not (began / "results.json").exists()
        and not (began / system.lower() / "results.json").exists()
    )
    assert 0 < read_json(began / system.lower() / "seconds.json") < 60
    write_json(began / system.lower() / "seconds.json", 1000.0)
    monkeypatch.setattr(RunFolder, "append", append)
    compare.run(steps=2, batch_size=6, out=str(began), workers=1, seed=3, say=lambda _: None)
    assert 1000 < read_json(began / system.lower() / "seconds.json") < 1060, (
        "what it took before counts"
    )
    one, other = (read_json(folder / "results.json") for folder in (out, began))
    for name in SYSTEMS:
        assert one[name] | {"seconds": 0} == other[name] | {"seconds": 0}
        resumed = read_json(began / name.lower() / "run.json")["resumed"]
        assert len(resumed) == (name == system)
