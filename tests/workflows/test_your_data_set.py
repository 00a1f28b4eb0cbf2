"""A data set that is declared in one file, this one, and everything that the commands do with it."""

import json

import numpy as np
import pytest

from tinymm.__main__ import main
from tinymm.data import datasets as registry
from tinymm.data.batches import Batch, PairSet, Source, ZeroShot
from tinymm.data.datasets import DatasetSpec, datasets, register_dataset
from tinymm.data.images import Preprocess
from tinymm.data.text import WordTokenizer

PLACES = ("left", "right", "top", "bottom")


class Bars(Source):
    """A white bar at one of four sides of a black picture, and where it is."""

    name = "bars"

    def __init__(self, seed, resolution):
        side = np.zeros((resolution, resolution), np.uint8)
        side[:, : resolution // 4] = 255
        self.pictures = np.stack([side, side[:, ::-1], side.T, side.T[::-1]])[..., None]
        self.preprocess = Preprocess(resolution, channels=1, mean=(0.25,), std=(0.4,))
        self.tokenizer = WordTokenizer.from_captions(
            text for some in self.captions() for text in some
        )

    def __len__(self):
        return 4

    def batch(self, indices, rng):
        captions = tuple(self.captions()[i][rng.integers(2)] for i in indices)
        images = self.preprocess.normalize(self.pictures[indices])
        return Batch(images, *self.tokenizer(captions), np.asarray(indices), captions)

    def captions(self):
        return [(f"a bar at the {place}", f"{place} bar") for place in PLACES]

    def validation(self):
        images = self.preprocess.normalize(self.pictures)
        return PairSet(images, [texts[0] for texts in self.captions()], np.arange(4))

    def zero_shot(self):
        images = self.preprocess.normalize(np.repeat(self.pictures, 2, axis=0))
        return {"place": ZeroShot(images, PLACES, np.repeat(np.arange(4), 2), ("{} bar",))}


@pytest.fixture(autouse=True)
def bars(monkeypatch, tmp_path):
    datasets()
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    monkeypatch.chdir(tmp_path)
    return register_dataset(DatasetSpec("bars", Bars, "a bar at one of four sides, and its place"))


def test_a_model_is_trained_on_it_and_measured(capsys):
    small = ["--patch", "8", "--width", "16", "--layers", "1", "--heads", "2", "--embed-dim", "8"]
    steps = ["--resolution", "16", "--steps", "2", "--batch-size", "4", "--workers", "1"]
    assert main(["train", "clip", "--data", "bars", *small, *steps, "--out", "run"]) == 0
    said = capsys.readouterr().out
    assert "bars: 4 training pictures" in said and "not used" not in said
    assert main(["eval", "--model", "run", "--out", "found.json"]) == 0
    with open("found.json") as file:
        found = json.load(file)
    assert {"validation_r1", "zero_shot_place"} <= set(found)


def test_it_is_checked(capsys):
    assert main(["data", "check", "bars"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "bars: a bar at one of four sides, and its place",
        "4 pictures, 8 captions (2.0 a picture); splits: 4 train, 4 validation, 8 place",
    ]


def test_it_is_shown(tmp_path, capsys):
    assert main(["data", "show", "bars", "--resolution", "16", "--out", "bars.png"]) == 0
    assert "bars.png: 2 rows" in capsys.readouterr().out and (tmp_path / "bars.png").is_file()


@pytest.mark.parametrize("command", [("data", "check"), ("data", "show"), ("train", "clip")])
def test_help_names_it(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    assert "'bars'" in capsys.readouterr().out


def test_a_name_beside_it_is_refused_with_the_way_out(capsys):
    assert main(["data", "check", "barz"]) == 2
    assert "did you mean the built-in bars?" in capsys.readouterr().err
