"""A command that is declared in one file, this one, and called as any other."""

import pytest

from tinymm.__main__ import build_parser, main
from tinymm.arrays.errors import UsageError
from tinymm.training import mpi
from tinymm.workflows import commands, mpiexec
from tinymm.workflows.terminal import tell


def declare(parsers):
    """Add echo, and two actions of shout."""
    echo = commands.add(
        parsers, "echo", "say a word again", "echo hello --times 2", run, shares_batches=True
    )
    echo.add_argument("word")
    echo.add_argument("--times", type=int, default=1, metavar="N", help="how often (default: 1)")
    commands.common(echo, backend=False)
    for name in ("once", "twice"):
        actions = commands.group(parsers, "shout", "say a word loudly")
        commands.add(actions, name, f"say it {name}", f"shout {name}", lambda: tell("HELLO"))


def run(word, times, seed, out):
    """Say a word `times` times; UsageError for never."""
    if times < 1:
        raise UsageError(f"a word is said once or more, and --times {times} came; leave it out")
    tell(" ".join([word] * times) + f" (seed {seed})")


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Register the command for one test."""
    build_parser()
    monkeypatch.setattr(commands, "_DECLARED", dict(commands._DECLARED))
    return commands.register(declare, place=65)


def test_it_is_called_with_its_flags(command):
    assert command("echo", "hello", "--times", 2, "--seed", 3).lines == ["hello hello (seed 3)"]
    assert main(["shout", "twice"]) == 0


def test_its_help_has_its_example_and_flags(command):
    said = command("echo", "--help")
    assert (
        said.code == 0
        and "--times N" in said.out
        and "example: python -m tinymm echo hello --times 2" in said.out
    )
    assert (
        "once" in command("shout", "--help").out
        and "Say it twice." in command("shout", "twice", "--help").out
    )


def test_it_stands_in_the_list_at_its_place(command):
    lines = [line.split() for line in command("--help").lines]
    names = [words[0] for words in lines if words]
    assert names.index("masks") < names.index("echo") < names.index("shout") < names.index("data")


def test_its_errors_are_one_sentence_and_code_2(command, tmp_path):
    said = command("echo", "hello", "--times", 0)
    assert (
        said.code == 2
        and said.error == "tinymm: a word is said once or more, and --times 0 came; leave it out\n"
    )
    assert "did you mean --times?" in command("echo", "hello", "--time", 2).error
    assert "is a folder; name a file in it" in command("echo", "hello", "--out", tmp_path).error


def test_ranks_share_it_only_if_it_says_so(command, monkeypatch):
    asked = []
    mpi_session = mpiexec.mpi_session
    monkeypatch.setattr(
        mpiexec,
        "mpi_session",
        lambda options, shares_batches: (
            asked.append(shares_batches) or mpi_session(options, shares_batches=False)
        ),
    )
    assert mpi.announced()[0] == 0
    command("echo", "hello"), command("shout", "once")
    assert asked == [True, False]


def test_a_file_may_declare_again(command):
    commands.register(declare, place=200)
    names = [line.split()[0] for line in command("--help").lines if line.strip()]
    assert names.index("arithmetic") < names.index("echo")
