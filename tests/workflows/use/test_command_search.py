"""`search`: the pictures of a folder by their cosine with some words."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tinymm.training.evaluate import embed_images, embed_texts
from tinymm.workflows.open_model import open_model
from tinymm.workflows.use import search


def found(trained, folder, words, **options):
    return search.run(str(folder), words, model=str(trained), say=lambda _: None, **options)


def test_pictures_come_in_the_order_of_their_cosine(trained, pictures):
    best = found(trained, pictures, "a red square", top=100)
    opened = open_model(str(trained))
    names = sorted(path.name for path in pictures.glob("*.png"))
    images = np.stack([opened.preprocess(pictures / name) for name in names])
    cosines = (
        embed_images(opened.model, images)
        @ embed_texts(opened.model, ["a red square"], opened.tokenizer)[0]
    )
    expected = sorted(zip(names, cosines.tolist(), strict=True), key=lambda pair: -pair[1])
    assert [name for name, _ in best] == [name for name, _ in expected]
    assert [score for _, score in best] == pytest.approx([score for _, score in expected], abs=1e-6)


def test_folders_below_count_and_broken_pictures_are_named_and_skipped(
    trained, pictures, here, command
):
    (here / "photos" / "below").mkdir(parents=True)
    shutil.copy(pictures / "p00.png", here / "photos" / "below" / "good.PNG")
    shutil.copy(pictures / "p01.png", here / "photos" / "also.png")
    (here / "photos" / "zz_cut.png").write_bytes((pictures / "p00.png").read_bytes()[:900])
    (here / "photos" / "notes.txt").write_text("no picture")
    said = command("search", "photos", "a red square", "--model", trained, "--out", "found.json")
    assert (
        said.code == 0
        and said.lines[0].startswith("skipped: ")
        and "zz_cut.png is damaged or cut off" in said.lines[0]
    )
    assert (
        set(json.loads((here / "found.json").read_text())) == {"below/good.PNG", "also.png"}
        and len(said.lines) == 3
    )


def test_top_and_batches_of_many_pictures(trained, pictures, here):
    for i in range(70):
        shutil.copy(pictures / f"p{i % 24:02}.png", here / f"{i:03}.png")
    best = found(trained, here, "a red square", top=70)
    assert len({name for name, _ in best}) == 70
    assert found(trained, here, "a red square", top=3) == best[:3]
    alone = dict(found(trained, pictures, "a red square", top=24))
    assert dict(best)["069.png"] == pytest.approx(alone["p21.png"], abs=1e-6)


def test_inverted_pictures_with_invert_are_found_as_the_pictures(trained, pictures, here):
    for name in ("p00.png", "p04.png", "p08.png"):
        Image.fromarray(255 - np.asarray(Image.open(pictures / name))).save(here / name)
        shutil.copy(pictures / name, here / f"plain_{name}")
    back = dict(found(trained, here, "a red square", invert=True, top=9))
    plain = dict(found(trained, here, "a red square", top=9))
    for name in ("p00.png", "p04.png", "p08.png"):
        assert back[name] == pytest.approx(plain[f"plain_{name}"], abs=0.02)
        assert back[name] != pytest.approx(plain[name], abs=1e-4)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["nowhere", "red"],
            "looks through a folder of pictures, and nowhere is none; check the path",
        ),
        (["empty", "red"], "empty holds no picture (.jpg, "),
        (["broken", "red"], "none of the 1 pictures in broken could be read; see the lines above"),
        (["PICTURES", "red", "--top", "0"], "at least 1 picture, and --top 0 came"),
        (["PICTURES", "  "], "needs words to look for, and '  ' came"),
        (["PICTURES", "zebra"], "knows no word of 'zebra'"),
        (["PICTURES", "red", "--model", "nowhere"], "nowhere does not exist"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_sentence(
    arguments, message, trained, pictures, here, command
):
    (here / "empty").mkdir()
    (here / "broken").mkdir()
    (here / "broken" / "a.png").write_text("no picture")
    arguments = [str(pictures) if a == "PICTURES" else a for a in arguments]
    said = command(
        "search",
        "--out",
        "found.json",
        *([] if "--model" in arguments else ["--model", trained]),
        *arguments,
    )
    assert said.code == 2 and message in said.error and len(said.error.splitlines()) == 1
    assert not (here / "found.json").exists()
