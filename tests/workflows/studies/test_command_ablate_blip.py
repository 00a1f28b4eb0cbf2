"""`ablate blip`: four rows of seconds, of which only the captions differ, and what each step of CapFilt brings back."""

import numpy as np
import pytest
from small_runs import half_kept

from tinymm.data.builtin.web_pairs import WebPairs
from tinymm.tasks import blip
from tinymm.training.records import read_json
from tinymm.workflows.runs import capfilt
from tinymm.workflows.studies import ablate_blip

PICTURES = np.arange(2, 231 * 48, 400)


@pytest.fixture
def tiny(monkeypatch):
    """Make the rows some of seconds: few steps of a small model, and few pictures to clean."""
    small = {
        "width": 16,
        "layers": 1,
        "text_layers": 1,
        "heads": 2,
        "embed_dim": 8,
        "patch": 16,
        "batch_size": 8,
        "workers": 1,
    }

    settings = blip.BLIPSettings
    monkeypatch.setattr(blip, "BLIPSettings", lambda **given: settings(**given | small))
    monkeypatch.setattr(WebPairs, "web_pictures", lambda self: PICTURES[PICTURES % 48 > 1])
    monkeypatch.setattr(capfilt, "judge", half_kept(capfilt.judge))
    tuning = capfilt.tuning
    monkeypatch.setattr(capfilt, "tuning", lambda recipe, steps: tuning(recipe, 2))


@pytest.fixture
def rows(monkeypatch):
    """Give what each row is trained on, as it comes: its data and its settings."""
    seen, trained = [], ablate_blip.trained

    def watched(planned):
        seen.append((planned.source, planned.settings))
        return trained(planned)

    monkeypatch.setattr(ablate_blip, "trained", watched)
    return seen


def test_the_table_has_four_rows_of_the_same_columns_and_a_picture(tiny, rows, command, here):
    (here / "out").mkdir()
    done = command(
        "ablate", "blip", "--steps", 3, "--seed", 2, "--workers", 1, "--out", "out/table.json"
    )
    assert done.code == 0, done.error
    found = read_json(here / "out" / "table.json")
    assert [*found] == ["settings", "rows", "recovered", "capfilt"] and [*found["rows"]] == list(
        ablate_blip.ROWS
    )
    assert (
        found["settings"]["wrong"] == 0.4
        and found["settings"]["steps"] == 3
        and found["settings"]["seed"] == 2
    )
    assert done.lines[0] == " · ".join(
        f"{i} {name}" for i, name in enumerate(ablate_blip.COLUMNS, 1)
    ) and done.lines[1].split() == [*"1234567"]
    for name, row in found["rows"].items():
        assert [*row] == list(ablate_blip.COLUMNS)
        (line,) = (
            line for line in done.lines if line.startswith(f"{name:<14}") and "recovers" not in line
        )
        assert line[14:].split() == [f"{value:.3f}" for value in row.values()]
    assert {path.name for path in (here / "out").iterdir()} == {"table.json", "capfilt.png"}
    assert found["recovered"] == {
        name: ablate_blip.recovered(found["rows"], name) for name in ablate_blip.ROWS[2:]
    }
    assert sum("recovers of what the noise cost" in line for line in done.lines) == 2


def test_only_the_captions_differ_from_row_to_row(tiny, rows, here):
    found = ablate_blip.run(steps=1, wrong=0.3, say=lambda _: None)
    sources, settings = zip(*rows, strict=True)
    assert len(sources) == 4 and len(set(settings)) == 1 and list(here.iterdir()) == []
    clean, noisy, filtered, cleaned = sources
    truth = [
        np.mean(
            [source.is_true(i, source.texts[i][0]) for i in range(len(source.texts)) if i % 48 > 1]
        )
        for source in (clean, noisy)
    ]
    assert (
        truth[0] == 1
        and truth[1] == pytest.approx(0.7, abs=0.02)
        and found["settings"]["wrong"] == 0.3
    )
    judged = [i for i in range(len(noisy.texts)) if i in set(noisy.web_pictures())]
    for i in range(len(noisy.texts)):
        if i not in judged:
            assert filtered.texts[i] == cleaned.texts[i] == noisy.texts[i]
    kept = sum(filtered.texts[i] == noisy.texts[i] for i in judged)
    assert 0 < kept < len(judged)
    assert all(
        filtered.texts[i] in ((), noisy.texts[i])
        and set(filtered.texts[i]) <= set(cleaned.texts[i])
        for i in judged
    )
    written = [set(cleaned.texts[i]) - set(filtered.texts[i]) for i in judged]
    assert (
        0
        < sum(map(len, written))
        <= found["capfilt"]["written_kept"] * found["capfilt"]["written_captions"] + 1e-9
    )
    assert max(map(len, written)) == 1 and sum(not cleaned.texts[i] for i in judged) > 0
    assert found["capfilt"]["web_kept"] == kept / len(judged) and found["capfilt"][
        "web_captions"
    ] == len(judged)
    assert {id(source.tokenizer) for source in sources[1:]} == {
        id(noisy.tokenizer)
    } and clean.tokenizer.frame == ("[CLS]", "[DEC]", "[ENC]")
    assert all(source.pictures is clean.pictures for source in sources)


def test_the_first_model_of_capfilt_is_the_second_row_s(tiny, rows, here, monkeypatch):
    cleaned, measured = [], []
    clean, measure = capfilt.clean, ablate_blip.measure
    monkeypatch.setattr(
        capfilt, "clean", lambda model, *rest: cleaned.append(model) or clean(model, *rest)
    )
    monkeypatch.setattr(
        ablate_blip,
        "measure",
        lambda model, source: measured.append(model) or measure(model, source),
    )
    ablate_blip.run(steps=1, say=lambda _: None)
    assert len(measured) == 4 and cleaned == [measured[1]]


def test_the_same_seed_gives_the_same_table_and_another_another(tiny, here):
    tables = [ablate_blip.run(steps=2, seed=seed, say=lambda _: None)["rows"] for seed in (0, 0, 1)]
    assert tables[0] == tables[1] != tables[2]


@pytest.mark.parametrize(
    "more", [("--only", "filtered"), ("--encoder", "runs/clip-1"), ("--only", "x", "--only", "y")]
)
def test_rows_are_not_chosen_and_nothing_is_frozen(command, more):
    done = command("ablate", "blip", *more, "--steps", 1)
    assert done.code == 2
    assert f"unrecognized arguments: {' '.join(more)}" in done.error
