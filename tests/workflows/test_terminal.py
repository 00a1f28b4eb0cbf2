"""What commands print fits 80 columns, breaks between words, and never stays silent for long."""

import io
import os
import re
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_runs import train_command

import tinymm
from tinymm.workflows import terminal
from tinymm.workflows.terminal import awake, doing, head, row, tell, wrapped

words = st.lists(
    st.text(st.characters(blacklist_categories=("Z", "C", "M")), min_size=1, max_size=12),
    min_size=1,
    max_size=30,
)


@given(words, st.integers(0, 6), st.integers(20, 100))
def test_lines_break_between_words_and_lose_none(some, indent, width):
    text = " " * indent + " ".join(some)
    lines = wrapped(text, width).split("\n")
    assert "".join("".join(lines).split()) == "".join(some)
    for line in lines:
        assert terminal._columns(line) <= width or len(line.split()) == 1
        assert line.startswith(" " * indent) and line == line.rstrip()
    if all(not terminal._wide(letter) for letter in text):
        assert " ".join(" ".join(lines).split()) == " ".join(some), "no word is cut"


def test_tables_keep_their_columns_and_paths_stay_whole():
    path = "/a/folder/" + "long/" * 30
    assert wrapped(f"run folder: {path} · open it", 80).split("\n")[1] == f"  {path}"
    assert wrapped("a    0.5     chance 0.1", 80) == "a    0.5     chance 0.1"
    names = ["ITC R@1", "a name that is longer than its numbers", *"cdefghi"]
    for line in [
        *wrapped(head(20, names), 80).split("\n"),
        row(20, "x" * 20, [0.5] * 9),
        row(20, "perplexity", [123.4567] * 7),
    ]:
        assert len(line) <= 80
    assert row(20, "", range(1, 10)).split() == [*"123456789"]


@pytest.mark.alone
def test_silence_is_broken_by_what_is_being_done_and_a_bar_is_left_alone(capsys):
    with awake(0.05), doing("drawing"):
        time.sleep(0.3)
        with doing(None):
            time.sleep(0.3)
    lines = capsys.readouterr().out.splitlines()
    assert 2 <= len(lines) <= 7 and all(re.fullmatch(r"drawing … \d s", line) for line in lines)
    with awake(0.2), doing(lambda: "working"):
        for _ in range(10):
            tell("a word")
            time.sleep(0.03)
    assert capsys.readouterr().out.splitlines() == ["a word"] * 10


def test_a_refusal_is_one_line_for_programs_and_wrapped_for_readers(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    for tty, count in ((False, 1), (True, 3)):
        out = io.StringIO()
        out.isatty = lambda tty=tty: tty
        monkeypatch.setattr(sys, "stderr", out)
        terminal.aside("tinymm: " + "a word " * 12)
        assert len(out.getvalue().splitlines()) == count


@pytest.mark.parametrize("columns", [None, 60, 120])
def test_what_training_checking_and_evaluating_print_fits_the_terminal(
    columns, pictures, trained, here
):
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"} | (
        {"COLUMNS": str(columns)} if columns else {}
    )
    environment |= {"PYTHONPATH": os.path.dirname(tinymm.__path__[0])}
    commands = [
        ["eval", "--model", str(trained)],
        ["data", "check", str(pictures)],
        ["data", "check", "shapes"],
    ]
    if columns is None:
        commands.append(train_command(pictures, "run", "--steps", 2))
    for arguments in commands:
        done = subprocess.run(
            [sys.executable, "-m", "tinymm", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        assert done.stdout
        for line in done.stdout.splitlines():
            assert len(line) <= (columns or 80) or len(line.split()) == 1, line
