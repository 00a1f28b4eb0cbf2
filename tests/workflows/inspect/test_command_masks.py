"""`masks`: what is printed is the model's own mask, side by side where there is room; bad input is one sentence and code 2."""

import numpy as np
import pytest
from PIL import Image

from tinymm.layers import multimodal_causal_mask
from tinymm.viz.masks.text import ASCII
from tinymm.workflows.inspect import masks


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")


def rows(lines, first, count, signs="·■"):
    """Read `count` rows of the first mask that is printed from the row that is named `first` on."""
    start = next(i for i, line in enumerate(lines) if line.split()[:1] == [first] and "│" in line)
    kept = [line for line in lines[start:] if "│" in line and "┼" not in line][:count]
    return np.array(
        [[signs.index(sign) for sign in line.split("│", 1)[1] if sign in signs] for line in kept]
    )


def test_three_masks_stand_side_by_side_in_80_columns(monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    said = command("masks", "--queries", 4, "--text", "a red ball")
    assert said.code == 0 and not said.error
    assert max(map(len, said.lines)) <= 80
    assert (
        said.lines[0].split()
        == "ITC · uni-modal ITG · multimodal causal ITM · bi-directional".split()
    )
    assert said.lines[-1] == "A row looks at the columns:  ■ may attend  · blocked"


def test_and_below_each_other_in_60(monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "60")
    said = command("masks")
    heads = [
        line
        for line in said.lines
        if line in ("ITC · uni-modal", "ITG · multimodal causal", "ITM · bi-directional")
    ]
    assert len(heads) == 3 and max(map(len, said.lines)) <= 60


def test_what_is_printed_is_the_mask_of_the_model(command):
    said = command("masks", "--queries", 3, "--text", "A cat, asleep!", "--objective", "itg")
    mask = multimodal_causal_mask(3, np.ones((1, 5), dtype=bool))[0, 0]
    assert np.array_equal(rows(said.lines, "q0", 8), mask)
    text = " ".join(said.out.split())
    assert "a text token sees all queries and the text up to itself" in text
    names = [line.split("│")[0].strip() for line in said.lines if "│" in line]
    assert names[-5:] == ["[DEC]", "a", "cat", "asleep", "[SEP]"]


def test_padding_is_told_apart(command):
    said = command("masks", "--padding", 2, "--objective", "itm")
    assert [line.split("│")[0].strip() for line in said.lines if "│" in line][-2:] == [
        "[PAD]",
        "[PAD]",
    ]
    assert "░ padding" in said.lines[-1] and "No real token sees padding." in said.out


def test_the_causal_mask_is_shown_on_demand(command):
    said = command("masks", "--queries", 0, "--objective", "causal")
    assert np.array_equal(rows(said.lines, "[BOS]", 5), np.tri(5))


@pytest.mark.parametrize("model, objectives", [("albef", "ITC ITM MLM"), ("blip", "ITC ITM LM")])
def test_the_text_of_albef_and_blip_looks_at_a_picture(model, objectives, command):
    said = command("masks", "--objective", model)
    assert (
        said.code == 0
        and [word for word in said.lines[0].split() if word in objectives.split()]
        == objectives.split()
    )
    assert said.out.count("┌─picture─┬───text──┐") == 3 and "q0" not in said.out
    assert max(len(line.split("│")) for line in said.lines) == 3 * 3 + 1, (
        "three masks abreast, in 120 columns"
    )


def test_what_blip_writes_with(command):
    said = command("masks", "--objective", "blip-lm", "--patches", 1, "--text", "a cat")
    assert np.array_equal(
        rows(said.lines, "[DEC]", 4), np.concatenate([np.ones((4, 2)), np.tri(4)], axis=1)
    )


def test_a_difference_replaces_the_masks_unless_they_are_asked_for(command):
    said = command("masks", "--difference", "itc", "itg")
    assert "uni-modal" not in said.out
    assert (
        "35 of 81" not in said.out
        and "30 of 81 cells differ: only ITC allows text → text (10); only ITG allows text → queries (20)."
        in said.out
    )
    assert "uni-modal" in command("masks", "--difference", "itc", "itg", "--objective", "all").out


def test_layers_show_the_picture_as_known(command):
    said = command("masks", "--layers", 2)
    assert "▒ not seen, but known after 2 layers" in said.out and "picture" in said.out
    said = command("masks", "--layers", 2, "--objective", "itc")
    assert (
        "▒" not in said.out
        and "a text token knows all text, but no picture and no queries"
        in " ".join(said.out.split())
    )


def test_pictures_are_written_for_what_was_asked(here, command):
    said = command("masks", "--out", "drawn")
    assert [path.name for path in (here / "drawn").iterdir()] == [
        "masks.png"
    ] and "drawn/masks.png" in said.lines[-1].replace("\\", "/")
    command("masks", "--out", "drawn", "--layers", 3, "--difference", "itg", "itm")
    assert sorted(path.name for path in (here / "drawn").iterdir()) == [
        "difference.png",
        "masks.png",
        "reachability.png",
    ]
    with Image.open(here / "drawn" / "masks.png") as picture:
        assert picture.text["Description"].startswith(
            "Queries see text under ITM; text sees queries under ITG and ITM."
        )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--queries", "-1"], "--queries is at least 0, and -1 came"),
        (["--padding", "-2"], "--padding is at least 0, and -2 came"),
        (["--layers", "0"], "--layers is at least 1, and 0 came"),
        (["--text", " ...!"], "' ...!' has none; say something"),
        (
            ["--queries", "200"],
            "at most 128 tokens, and 205 came (200 queries, 3 words, 2 special tokens, 0 padding); shorten --text",
        ),
        (["--patches", "0"], "--patches is at least 1, and 0 came"),
        (["--layers", "9" * 20], "--layers is at most 1,000, and 99,9"),
        (["--queries", "9" * 20], "(99999999999999999999 queries, 3 words"),
        (
            ["--objective", "blip", "--patches", "196"],
            "202 came (197 tokens of the picture, 3 words, 2 special tokens, 0 padding)",
        ),
        (
            ["--difference", "itm", "albef-itm"],
            "itm over queries and text but albef-itm over picture and text",
        ),
        (["--out", "taken"], "taken"),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(arguments, message, here, command):
    (here / "taken").write_text("a file")
    said = command("masks", *arguments)
    assert said.code == 2 and message in said.error and len(said.error.splitlines()) == 1, (
        said.error
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--difference", "itc"],
        ["--difference", "itc", "clip"],
        ["--objective", "mlm"],
        ["--queries", "many"],
    ],
)
def test_a_line_that_cannot_be_parsed_is_code_2(arguments, command):
    said = command("masks", *arguments)
    assert said.code == 2 and "usage:" in said.error and not said.out


def test_a_poor_terminal_gets_ascii():
    lines = []
    masks.run(
        text="größer",
        difference=("itc", "itg"),
        objective="all",
        padding=1,
        layers=2,
        width=80,
        symbols=ASCII,
        say=lines.append,
    )
    assert all(line.isascii() for line in lines) and "gr??er" in lines[0]


def test_a_stream_that_cannot_show_the_signs_is_noticed(monkeypatch):
    class Poor:
        encoding = "latin-1"

    monkeypatch.setattr(masks.sys, "stdout", Poor())
    lines = []
    masks.run(say=lines.append)
    assert all(line.isascii() for line in lines)


def test_a_page_that_can_be_asked(command, tmp_path):
    said = command("masks", "--padding", 1, "--html", tmp_path / "masks.html")
    page = (tmp_path / "masks.html").read_text(encoding="utf-8")
    assert (
        said.lines[-1] == f"page: {tmp_path / 'masks.html'}"
        and "ITG · multimodal causal" in page
        and page.count('role="gridcell"') == 10 * 11
    )
    command("masks", "--difference", "blip-itm", "blip-lm", "--html", tmp_path / "masks.html")
    assert "From BLIP ITM to BLIP LM" in (tmp_path / "masks.html").read_text(encoding="utf-8")


def test_a_page_has_at_most_64_tokens(command, tmp_path):
    said = command("masks", "--queries", 80, "--html", tmp_path / "masks.html")
    assert (
        said.code == 2
        and "1 to 64 tokens each way, and 85 by 85 came" in said.error
        and not list(tmp_path.iterdir())
    )
