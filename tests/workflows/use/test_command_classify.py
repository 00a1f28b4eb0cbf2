"""`classify`: probabilities of labels for one picture, with templates, inverted pictures and refusals."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tinymm.arrays.errors import UsageError
from tinymm.training.evaluate import classifier_weights, embed_images
from tinymm.workflows.open_model import open_model
from tinymm.workflows.use import classify

LABELS = ["a red square", "a green bar", "a blue pole"]


def shares(trained, picture, labels=LABELS, **options):
    return classify.run(str(picture), labels, model=str(trained), say=lambda _: None, **options)


def test_shares_are_the_softmax_of_scaled_cosines(trained, pictures):
    found = shares(trained, pictures / "p00.png")
    opened = open_model(str(trained))
    image = embed_images(opened.model, opened.preprocess(pictures / "p00.png")[None])[0]
    scores = np.exp(opened.model.t.data) * (
        classifier_weights(opened.model, tuple(LABELS), ("{}",), opened.tokenizer) @ image
    )
    expected = np.exp(scores) / np.exp(scores).sum()
    assert list(found) == LABELS and list(found.values()) == pytest.approx(
        expected.tolist(), rel=1e-5
    )
    assert sum(found.values()) == pytest.approx(1, abs=1e-6)


def test_the_best_label_is_the_pictures_own(trained, pictures):
    right = 0
    for i, label in ((0, LABELS[0]), (4, LABELS[1]), (8, LABELS[2])):
        found = shares(trained, pictures / f"p{i:02}.png")
        right += max(found, key=found.get) == label
    assert right >= 2


def test_the_lines_are_sorted_and_the_file_holds_the_numbers(trained, pictures, here, command):
    said = command(
        "classify",
        pictures / "p00.png",
        "--labels",
        ", ".join(LABELS),
        "--model",
        trained,
        "--out",
        "shares.json",
    )
    found = json.loads((here / "shares.json").read_text())
    assert said.code == 0 and set(found) == set(LABELS)
    best = sorted(found, key=found.get, reverse=True)
    assert [line.split("  ")[0].strip() for line in said.lines] == best
    assert [line.split()[-2 if "█" in line else -1] for line in said.lines] == [
        f"{found[label]:.1%}" for label in best
    ]


def test_an_inverted_picture_with_invert_is_the_picture(trained, pictures, tmp_path):
    pixels = np.asarray(Image.open(pictures / "p00.png"))
    Image.fromarray(255 - pixels).save(tmp_path / "negative.png")
    plain, back = (
        shares(trained, pictures / "p00.png"),
        shares(trained, tmp_path / "negative.png", invert=True),
    )
    assert list(back.values()) == pytest.approx(
        list(plain.values()), abs=0.02
    )  # the filter rounds to 8 bits
    negative = shares(trained, tmp_path / "negative.png")
    assert abs(negative[LABELS[0]] - plain[LABELS[0]]) > 0.02


def test_templates_are_averaged_and_labels_named_twice_count_once(trained, pictures, command):
    found = shares(
        trained,
        pictures / "p00.png",
        ["red", "green", "red"],
        templates=("a {} square", "a {} bar"),
    )
    assert list(found) == ["red", "green"]
    said = command(
        "classify",
        pictures / "p00.png",
        "--labels",
        "red,green",
        "--template",
        "a {} square",
        "--model",
        trained,
    )
    assert said.code == 0 and len(said.lines) == 2


def test_unknown_words_are_named_once_and_labels_of_nothing_else_refused(trained, pictures):
    said = []
    classify.run(
        str(pictures / "p00.png"),
        ["red zebra", "green okapi!"],
        model=str(trained),
        say=said.append,
    )
    assert said[0] == "unknown words, read as one and the same: okapi, zebra"
    with pytest.raises(
        UsageError,
        match=r"knows no word of 'zebra!'; use words of its captions \(the vocabulary stands in .*tokenizer.json\)",
    ):
        shares(trained, pictures / "p00.png", ["red", "zebra!"])


def test_a_tokenizer_of_sub_words_knows_every_word():
    said = []
    classify.warn_unknown(
        SimpleNamespace(tokenizer=lambda texts: texts), ["zebra", ""], said.append
    )
    assert said == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["PICTURE", "--labels", "red"],
            "at least 2 different ones; ['red'] came: give --labels cat,dog",
        ),
        (["PICTURE", "--labels", " ,red,,red"], "at least 2 different ones; ['red'] came"),
        (
            ["PICTURE", "--labels", "red,green", "--template", "a picture"],
            "has one {} for the label, and 'a picture' came",
        ),
        (
            ["PICTURE", "--labels", "red,green", "--template", "{} {}"],
            "has one {} for the label, and '{} {}' came",
        ),
        (["nothing.png", "--labels", "red,green"], "nothing.png is not there: check the path"),
        (["cut.png", "--labels", "red,green"], "cut.png is damaged or cut off"),
        (["text.png", "--labels", "red,green"], "text.png is no picture that can be read"),
        (["PICTURE", "--labels", "red,green", "--model", "nowhere"], "nowhere does not exist"),
    ],
)
def test_what_cannot_be_classified_is_refused_in_one_sentence(
    arguments, message, trained, pictures, here, command
):
    (here / "cut.png").write_bytes((pictures / "p00.png").read_bytes()[:900])
    (here / "text.png").write_text("not a picture")
    arguments = [str(pictures / "p00.png") if a == "PICTURE" else a for a in arguments]
    said = command(
        "classify",
        "--out",
        "shares.json",
        *([] if "--model" in arguments else ["--model", trained]),
        *arguments,
    )
    assert said.code == 2 and message in said.error and len(said.error.splitlines()) == 1
    assert not (here / "shares.json").exists()


def test_a_preprocessing_that_does_not_fit_the_model_is_refused(trained, pictures, here, command):
    shutil.copytree(trained, here / "run")
    described = json.loads((here / "run" / "preprocessor_config.json").read_text())
    described |= {"size": {"shortest_edge": 20}, "crop_size": {"height": 20, "width": 20}}
    (here / "run" / "preprocessor_config.json").write_text(json.dumps(described))
    said = command("classify", pictures / "p00.png", "--labels", "red,green", "--model", "run")
    assert (
        said.code == 2
        and "sees 16 × 16 × 3 and the preprocessing beside it makes 20 × 20 × 3" in said.error
    )
