"""A folder of drawn pictures, a model trained on it for a few steps, and commands run in this process."""

from types import SimpleNamespace

import pytest
from small_runs import draw, train_command

from tinymm.__main__ import main
from tinymm.workflows import terminal
from tinymm.workflows.runs import capfilt


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="session")
def trained(pictures, tmp_path_factory):
    """Give the folder of a run that was trained for 30 steps; tests only read it."""
    out = tmp_path_factory.mktemp("trained") / "runs" / "first"
    steps = [
        "--steps",
        30,
        "--learning-rate",
        5e-3,
        "--validate-every",
        10,
        "--checkpoint-every",
        7,
    ]
    assert main(train_command(pictures, out, *steps)) == 0
    return out


@pytest.fixture
def command(capsys, monkeypatch):
    """Give a function that runs a command and returns its exit code, its lines and its complaint, on a terminal that is wide enough."""
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(
        terminal, "PATIENCE", 1000.0
    )  # a slow machine says nothing between the lines that a test reads

    def run(*arguments):
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse's own complaints and --help
            code = stop.code
        captured = capsys.readouterr()
        return SimpleNamespace(
            code=code, out=captured.out, lines=captured.out.splitlines(), error=captured.err
        )

    return run


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the pictures out of a run folder, for tests that do not look at them."""
    from tinymm.workflows.runs import figures

    monkeypatch.setattr(figures, "draw", lambda path, *_: (path / "report.html").write_text(""))
    monkeypatch.setattr(capfilt, "draw_capfilt", lambda *_: None)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
