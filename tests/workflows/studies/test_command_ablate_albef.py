"""`ablate albef`: rows of seconds; each changes the one thing that it names."""

import numpy as np
import pytest

from tinymm.arrays.errors import UsageError
from tinymm.losses import matching
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.tasks import albef
from tinymm.training.records import read_json
from tinymm.workflows.studies import ablate_albef

SMALL = {
    "width": 16,
    "layers": 1,
    "text_layers": 1,
    "heads": 2,
    "embed_dim": 8,
    "patch": 16,
    "batch_size": 8,
    "workers": 1,
}


@pytest.fixture
def tiny(monkeypatch):
    settings = albef.ALBEFSettings
    monkeypatch.setattr(albef, "ALBEFSettings", lambda **given: settings(**given | SMALL))


def test_the_table_has_a_row_for_each_change_and_its_chance_levels(tiny, command, here):
    done = command(
        "ablate",
        "albef",
        "--steps",
        2,
        "--only",
        "ALBEF",
        "--only",
        "random negatives",
        "--workers",
        1,
        "--out",
        "table.json",
    )
    assert done.code == 0, done.error
    found = read_json(here / "table.json")
    assert [*found["rows"]] == ["ALBEF", "random negatives"] and found["settings"]["steps"] == 2
    for name, row in (found["rows"] | {"chance level": found["chance"]}).items():
        assert [*row] == list(ablate_albef.COLUMNS)
        (line,) = (line for line in done.lines if line.startswith(f"{name:<20}"))
        assert line[20:].split() == [f"{value:.3f}" for value in row.values()]


def test_every_row_changes_what_it_says_and_no_more(tiny, monkeypatch, here):
    seen, trained = {}, ablate_albef.trained

    def watched(planned, task):
        model = trained(planned, task)
        seen[len(seen)] = planned.settings, task, model
        return model

    monkeypatch.setattr(ablate_albef, "trained", watched)
    ablate_albef.run(steps=1, say=lambda _: None)
    rows = dict(zip(ablate_albef.ROWS, seen.values(), strict=True))
    plain = rows["ALBEF"][0]
    changed = {
        name: {key for key in vars(plain) if getattr(plain, key) != getattr(settings, key)}
        for name, (settings, _, _) in rows.items()
    }
    assert {name: keys for name, keys in changed.items() if keys} == {
        "one-hot targets": {"alpha"}, "queue of one batch": {"queue"}, "momentum of 0": {"momentum"}, "no momentum encoder": {"momentum"},
    }  # fmt: skip
    assert (
        rows["queue of one batch"][2].queue.size == 8
        and rows["no momentum encoder"][2].queue is None
    )
    assert [name for name, (_, task, _) in rows.items() if task] == [
        "random negatives",
        "without MLM",
    ]


def test_random_negatives_ignore_what_contrast_says_and_never_take_the_own_picture(monkeypatch):
    model, rng = ALBEF(ALBEFConfig.tiny(), np.random.default_rng(0)), np.random.default_rng(1)
    images, ids, real = (
        rng.standard_normal((6, 16, 16, 3)).astype(np.float32),
        rng.integers(3, 40, (6, 5)),
        np.ones((6, 5), bool),
    )
    image_ids, drawn = np.array([0, 0, 1, 2, 3, 4]), []
    monkeypatch.setattr(albef, "hard_negatives", lambda *_: pytest.fail("contrast was asked"))
    itm_pairs = matching.itm_pairs
    monkeypatch.setattr(
        "tinymm.tasks.albef.itm_pairs",
        lambda *negatives: drawn.append(negatives) or itm_pairs(*negatives),
    )
    for _ in range(60):
        losses = ablate_albef.with_random_negatives(
            model, images, ids, real, rng=rng, image_ids=image_ids
        ).losses
    assert [*losses] == ["itc", "itm", "mlm"]
    for side in (0, 1):
        chosen = np.stack([negatives[side] for negatives in drawn])
        assert not (image_ids[chosen] == image_ids).any()
        assert all(
            set(chosen[:, i]) == set(np.flatnonzero(image_ids != image_ids[i])) for i in range(6)
        )


def test_the_name_of_no_row_and_an_encoder_are_refused(command):
    with pytest.raises(UsageError, match="the rows are 'ALBEF', 'random negatives'"):
        ablate_albef.run(only=["random"])
    done = command("ablate", "albef", "--encoder", "runs/clip-1", "--steps", 1)
    assert done.code == 2 and "unrecognized arguments: --encoder runs/clip-1" in done.error
