"""`data check` and `check`: what is wrong with my data, and is an op's gradient right?"""

import json

import numpy as np
import pytest
from small_runs import draw

from tinymm.autodiff import CATALOGUE
from tinymm.training.records import read_json
from tinymm.workflows.inspect import ops as check


def test_good_data_is_counted_and_broken_pictures_give_code_2(here, command):
    folder = draw(here / "data")
    said = command("data", "check", folder)
    assert said.code == 0 and "24 pictures, 24 captions" in said.out and "skipped: 0" in said.out
    (folder / "p03.png").write_bytes((folder / "p03.png").read_bytes()[:300])
    said = command("data", "check", folder, "--out", here / "report.json")
    assert said.code == 2 and "p03.png" in said.out and not said.error
    assert read_json(here / "report.json")["skipped"][0][0].endswith("p03.png")


@pytest.mark.parametrize(
    "captions, message",
    [("file,words\np00.png,a\n", "words"), ("file,caption\n", "captions.csv"), (None, "nowhere")],
)
def test_data_that_cannot_be_read_is_refused_in_one_sentence(captions, message, here, command):
    folder = draw(here / "data", count=2) if captions else here / "nowhere"
    if captions:
        (folder / "captions.csv").write_text(captions)
    said = command("data", "check", folder)
    assert said.code == 2 and message in said.error and len(said.error.splitlines()) == 1
    said = command("train", "clip", "--data", folder, "--out", "out")
    assert said.code == 2 and message in said.error and not (here / "out").exists()


def test_every_op_by_name(here, command):
    said = command("check", "--out", "errors.json")
    errors = json.loads((here / "errors.json").read_text())
    assert (
        said.code == 0 and errors.keys() == CATALOGUE.keys() and len(said.lines) == len(CATALOGUE)
    )
    assert all(error < 1e-6 for error in errors.values())


def test_one_op_on_every_backend(backend, command):
    if backend == "cupy":
        said = command("check", "softmax", "matmul", "--backend", "cupy")
        assert said.code == 0
    else:
        assert check.run(["softmax", "matmul"], backend=backend, say=lambda _: None).keys() == {
            "softmax",
            "matmul",
        }


def test_a_wrong_gradient_is_reported(monkeypatch, command):
    right = CATALOGUE["tanh"].rule
    monkeypatch.setattr(CATALOGUE["tanh"], "rule", lambda x: (right(x)[0], lambda g: g))
    said = command("check", "tanh")
    assert said.code == 2 and "the gradient differs from the measured slope by" in said.error


def test_an_unknown_op_gets_a_suggestion_and_nothing_is_checked(command):
    said = command("check", "tanh", "sofmax")
    assert (
        said.code == 2 and "'sofmax' is none; did you mean softmax?" in said.error and not said.out
    )
    assert "the ops are " in command("check", "zzzzzz").error


def test_points_are_moved_off_kinks():
    x = check.away_from(np.array([-0.02, -0.001, 0.0, 0.005, 1.0]), (0.0,))
    assert (np.abs(x) >= 0.01).all() and x[0] == -0.02 and x[-1] == 1.0


def test_data_is_drawn_with_its_captions(here, command):
    from PIL import Image

    said = command(
        "data", "show", draw(here / "data"), "shapes", "--out", "seen.png", "--resolution", "16"
    )
    assert said.code == 0 and said.lines == ["seen.png: 4 rows"], said.error
    described = Image.open(here / "seen.png").text["Description"]
    assert (
        "pairs: training: " in described
        and "pairs: validation: a " in described
        and "shapes: held out: " in described
    )
    said = command("data", "show", "nowhere")
    assert (
        said.code == 2
        and "nowhere does not exist; check the path, or name" in said.error
        and not (here / "samples.png").exists()
    )


def test_a_path_where_nothing_is_and_a_misspelled_name(here, command):
    said = command("data", "check", "nofolder")
    assert (
        said.code == 2
        and "nofolder does not exist; check the path" in said.error
        and "--data" not in said.error
    )
    assert (
        "glyfs does not exist; did you mean the built-in glyphs?"
        in command("data", "check", "glyfs").error
    )
