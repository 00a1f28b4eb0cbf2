"""A model of one's own: what is defined here is all that the package is told of it.

A two-tower model with SigLIP's loss and one objective more, a caption's length from its image. It
trains, resumes, evaluates, saves, opens, searches, classifies, draws and reports by the command
line, and no other file knows of it.
"""

import json
import math
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from tinymm import __main__, pretrained
from tinymm.arrays.random import generator
from tinymm.layers import Linear, Module, Parameter
from tinymm.losses import cross_entropy_loss, l2_normalize, sigmoid_loss
from tinymm.models.cbow import CBOW, CBOWConfig
from tinymm.models.vit import ViT, ViTConfig
from tinymm.tasks import CONTRAST, ModelSpec, Objective, StepResult, Task, losses, register
from tinymm.tasks.settings import Settings, changed, setting
from tinymm.tasks.step import check_objectives, check_pairs, whole
from tinymm.training.records import read_json


@dataclass(frozen=True)
class TwinsConfig:
    image: ViTConfig
    text: CBOWConfig
    embed: int
    lengths: int


class TwoTowers(Module):
    def __init__(self, config, rng):
        self.config = config
        self.image_encoder, self.text_encoder = ViT(config.image, rng), CBOW(config.text, rng)
        self.image_projection = Linear(config.image.width, config.embed, rng=rng)
        self.text_projection = Linear(config.text.width, config.embed, rng=rng)
        self.length_head = Linear(config.embed, config.lengths, rng=rng)
        self.scale, self.bias = (Parameter(np.full((), x, np.float32)) for x in (10.0, -10.0))

    def encode_image(self, images, *, normalize=True):
        features = self.image_projection(self.image_encoder(images))
        return l2_normalize(features) if normalize else features

    def encode_text(self, ids, is_real=None, *, normalize=True):
        features = self.text_projection(self.text_encoder(ids))
        return l2_normalize(features) if normalize else features

    @staticmethod
    def similarity(images, texts):
        return np.dot(images, texts.T)

    def forward(self, images, ids, is_real=None):
        return self.similarity(self.encode_image(images), self.encode_text(ids))


OBJECTIVES = ("itc", "length")


def two_towers_step(model, images, ids, is_real, objectives):
    image = model.encode_image(images)  # (B, E)
    found = {}
    if "itc" in objectives:
        text = model.encode_text(ids)  # (B, E)
        found["itc"] = sigmoid_loss(np.dot(image, text.T) * model.scale + model.bias)
    if "length" in objectives:
        lengths = np.minimum(is_real.sum(axis=1), model.config.lengths - 1)  # (B,)
        found["length"] = cross_entropy_loss(model.length_head(image), lengths)
    return found


def step(
    model,
    images,
    ids,
    is_real=None,
    *,
    rng=None,
    image_ids=None,
    split=whole,
    objectives=OBJECTIVES,
):
    check_pairs(images, ids)
    is_real = np.ones(ids.shape, bool) if is_real is None else is_real
    chosen = check_objectives(objectives, OBJECTIVES)
    return StepResult(two_towers_step(model, images, ids, is_real, chosen))


@dataclass(frozen=True)
class TwinsSettings(Settings):
    data: str = changed(Settings, "data", "glyphs")
    width: int = changed(Settings, "width", 16)
    embed_dim: int = changed(Settings, "embed_dim", 8)
    lengths: int = setting(6, "caption lengths that are told apart", least=2, size=True)
    layers: int = changed(Settings, "layers", 1)


def prepare(settings, source, parts):
    side, channels = source.preprocess.resolution, source.preprocess.channels
    image = ViTConfig(side, settings.patch, settings.width, settings.layers, 2, channels)
    words = source.tokenizer
    text = CBOWConfig(len(words), words.context, settings.width, words.end_of_text)
    config = TwinsConfig(image, text, settings.embed_dim, settings.lengths)
    return TwoTowers(config, generator(settings.seed))


@pytest.fixture(scope="module", autouse=True)
def spec():
    ask = "Does this text belong to this image?"
    return register(
        ModelSpec(
            name="two-towers",
            title="two towers",
            paper="this file",
            model=TwoTowers,
            config=TwinsConfig,
            task=Task(step, notes=lambda model: {"scale": model.scale.data}),
            objectives=(
                Objective("itc", "sigmoid loss", ask, lambda m, B: B * math.log(2), "B ln 2"),
                Objective(
                    "length",
                    "length loss",
                    "How long is the caption?",
                    lambda m, B: math.log(m.config.lengths),
                    "ln 6",
                ),
            ),
            prepare=prepare,
            settings=TwinsSettings,
            can=frozenset({CONTRAST}),
            noted=("scale",),
        )
    )


def tinymm(*words):
    return __main__.main([*map(str, words)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder in which a run of the new model has been trained."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        flags = "--steps 6 --batch-size 16 --checkpoint-every 2 --validate-every 3 --workers 1"
        assert tinymm("train", "two-towers", *flags.split(), "--out", "run") == 0
    return place


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_it_trains_into_a_run_folder_with_curves_figures_and_a_report(folder):
    run = folder / "run"
    found = records(run)
    assert [record["step"] for record in found] == [1, 2, 3, 4, 5, 6]
    assert all(
        record["loss"] == pytest.approx(record["itc"] + record["length"], rel=1e-5)
        for record in found
    )
    assert found[0]["scale"] == 10 and found[2]["validation_r1"] is not None
    for name in ("loss.png", "similarity.png", "retrieval.png", "report.html", "config.json"):
        assert (run / name).stat().st_size > 0, name
    page = (run / "report.html").read_text()
    assert "length" in page and "validation R@1" in page
    results = json.loads((run / "results.json").read_text())
    assert results["chance_loss"] == pytest.approx(16 * math.log(2) + math.log(6))
    assert {"validation_r1", "zero_shot_case"} <= results["chance"].keys()


def test_a_run_that_was_stopped_ends_as_the_one_that_was_not(folder, monkeypatch):
    from tinymm.workflows import run_loop

    monkeypatch.chdir(folder)
    save, flags = (
        run_loop.save_checkpoint,
        "--steps 6 --batch-size 16 --checkpoint-every 2 --validate-every 3 --workers 1",
    )

    def stop(path, model, optimizer, progress):
        save(path, model, optimizer, progress)
        if progress["step"] == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_loop, "save_checkpoint", stop)
        assert tinymm("train", "two-towers", *flags.split(), "--out", "stopped") == 130
    assert tinymm("train", "two-towers", "--resume", "stopped") == 0
    whole_run, resumed = (pretrained.load(name).state_dict() for name in ("run", "stopped"))
    assert all(np.array_equal(whole_run[name], resumed[name]) for name in whole_run)
    timeless = [{k: v for k, v in r.items() if k != "seconds"} for r in records(folder / "run")]
    assert timeless == [
        {k: v for k, v in r.items() if k != "seconds"} for r in records(folder / "stopped")
    ]


def test_it_is_opened_saved_evaluated_and_fine_tuned(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    model = pretrained.load("run")
    assert type(model) is TwoTowers and model.config.embed == 8
    pretrained.save(model, "again")
    again = pretrained.load("again").state_dict()
    assert all(np.array_equal(array, again[name]) for name, array in model.state_dict().items())
    assert tinymm("eval", "--model", "run", "--out", "numbers.json") == 0
    written, known = read_json("numbers.json"), read_json("run/results.json")
    assert written["validation_r1"] == known["validation_r1"]
    assert tinymm("train", "two-towers", "--init", "run", "--steps", "1", "--out", "tuned") == 0
    assert (
        tinymm("train", "two-towers", "--config", "run/run.json", "--steps", "2", "--out", "like")
        == 0
    )
    assert read_json("like/run.json")["settings"]["embed_dim"] == 8
    assert len(records(folder / "like")) == 2


def test_it_searches_and_classifies(folder, monkeypatch, capsys):
    from PIL import Image

    monkeypatch.chdir(folder)
    (folder / "pictures").mkdir()
    for name in "ab":
        Image.fromarray(np.full((32, 32), 40 * ord(name) % 255, np.uint8)).save(
            f"pictures/{name}.png"
        )
    capsys.readouterr()
    assert tinymm("search", "pictures", "latin small letter a", "--model", "run") == 0
    assert {
        line.split()[-1] for line in capsys.readouterr().out.splitlines() if ".png" in line
    } == {"a.png", "b.png"}
    assert (
        tinymm("classify", "pictures/a.png", "--labels", "latin letter,arrow", "--model", "run")
        == 0
    )
    assert "latin letter" in capsys.readouterr().out


def test_what_it_cannot_do_is_refused_in_a_sentence(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert tinymm("caption", "a.png", "--model", "run") == 2
    said = capsys.readouterr().err
    assert "a TwoTowers" in said and "train blip" in said


def test_its_flags_and_losses_are_those_of_its_spec(capsys):
    with pytest.raises(SystemExit):
        tinymm("train", "two-towers", "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "--lengths N caption lengths that are told apart (default: 6)" in said
    assert "two towers: ITC, LENGTH" in said


@pytest.mark.parametrize("objectives", [("itc", "length"), ["length", "itc"], {"itc", "length"}])
def test_losses_change_nothing(objectives):
    source = type("S", (), {})()
    source.preprocess = type("P", (), {"resolution": 16, "channels": 1})()
    source.tokenizer = type("T", (), {"context": 5, "end_of_text": 2, "__len__": lambda self: 9})()
    model = prepare(TwinsSettings(), source, {})
    batch = np.ones((3, 16, 16, 1), np.float32), np.array([[3, 2], [4, 2], [5, 2]])
    before = model.state_dict()
    found = [
        {name: loss.item() for name, loss in losses(model, *batch, objectives=objectives).items()}
        for _ in range(3)
    ]
    assert found[0] == found[1] == found[2] and list(found[0]) == ["itc", "length"]
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


def test_a_paper_s_step_is_imported_without_the_other_papers():
    code = (
        "import sys, tinymm.tasks.clip; print(*(m for m in sys.modules if m.startswith('tinymm.')))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = said.stdout.split()
    others = ("albef", "blip", "bert", "opt", "qformer", "momentum", "dual_encoder")
    assert "tinymm.models.clip" in loaded
    assert not [name for name in loaded if name.split(".")[-1].startswith(others)]
