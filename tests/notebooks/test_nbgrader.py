"""nbgrader, headless, on the same sources: a right submission has full marks, one whose mask leaks has fewer, an empty one none.

It also survives an endless loop and floods of output, and shows a student five lines of a failed
check and no traceback of ours.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tinymm.workflows.course import exercises

ROOT, NAME = Path(__file__).parents[2], "07_attention_and_masks"
SCORES = """
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as book:
    for submission in book.assignment_submissions(NAME):
        cells = {grade.name: grade.score for notebook in submission.notebooks for grade in notebook.grades}
        print(submission.student.id, submission.code_score, submission.max_code_score, *(f"{k}={v}" for k, v in cells.items()))
"""


def nbgrader(folder, *arguments):
    """Run nbgrader, or a script beside it, with this checkout's tinymm; it calls `alembic` by its bare name, so that must be on the path."""
    place = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": place, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def submit(folder, who, change):
    """Hand in the released notebook with each solution's cell changed."""
    released = json.loads((folder / "release" / NAME / f"{NAME}.ipynb").read_text())
    solved = json.loads((folder / "source" / NAME / f"{NAME}.ipynb").read_text())
    texts = {
        cell["metadata"]["nbgrader"]["grade_id"]: "".join(cell["source"])
        for cell in solved["cells"]
        if "nbgrader" in cell["metadata"]
    }
    for cell in released["cells"]:
        marks = cell["metadata"].get("nbgrader", {})
        if marks.get("solution"):
            cell["source"] = change(
                marks["grade_id"], texts[marks["grade_id"]], "".join(cell["source"])
            )
    place = folder / "submitted" / who / NAME
    place.mkdir(parents=True)
    (place / f"{NAME}.ipynb").write_text(json.dumps(released))


def shown(folder, who):
    """Return what was printed or raised in a graded notebook, by the cell's id, and the notebook's size in bytes."""
    path = folder / "autograded" / who / NAME / f"{NAME}.ipynb"
    found = {}
    for cell in json.loads(path.read_text())["cells"]:
        outputs = cell.get("outputs", [])
        said = [
            "".join(output.get("text", [])) + "\n".join(output.get("traceback", []))
            for output in outputs
        ]
        found[cell["metadata"].get("nbgrader", {}).get("grade_id", "")] = "\n".join(said)
    return found, path.stat().st_size


FLOOD = "\nprint('x' * 10**7)\nprint('x\\n' * 10**6)"  # a line of 10 MB, and a million lines
ENDLESS = "def causal_mask(n):\n    while True:\n        pass\n"
SUBMISSIONS = {
    "leaking": lambda key, solution, stub: solution.replace(
        "<= place[:, None]", "<= place[:, None] + 1"
    ),
    "empty": lambda key, solution, stub: stub,
    "endless": lambda key, solution, stub: ENDLESS if key == "7a" else solution,
    "loud": lambda key, solution, stub: solution + FLOOD * (key == "7a"),
}


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(
    importlib.util.find_spec("nbgrader") is None, reason="needs the extra `grading`"
)
def test_submissions_are_scored_whatever_they_do(tmp_path):
    exercises.run(instructor=tmp_path, only=["07"])
    settings = tmp_path / "nbgrader_config.py"
    assert settings.read_text().count("c.Execute.timeout = 30\n") == 1
    settings.write_text(
        settings.read_text().replace("c.Execute.timeout = 30\n", "c.Execute.timeout = 4\n")
    )  # three cells wait for it
    nbgrader(tmp_path, "-m", "nbgrader", "generate_assignment", NAME)
    released = (tmp_path / "release" / NAME / f"{NAME}.ipynb").read_text()
    assert (
        "place[None, :] <=" not in released.replace("<code>", "")
        and "HIDDEN TESTS" not in released
        and "NotImplementedError" in released
    )
    for who, change in SUBMISSIONS.items():
        submit(tmp_path, who, change)
    nbgrader(tmp_path, "-m", "nbgrader", "autograde", NAME)
    lines = nbgrader(tmp_path, "-c", f"NAME = {NAME!r}\n{SCORES}").splitlines()
    scores = {line.split()[0]: [float(number) for number in line.split()[1:3]] for line in lines}
    full = scores["loud"][1]
    assert {who: score for who, (score, _) in scores.items()} == {
        "leaking": full - 4,  # the form is right; core and hidden tests are not
        "empty": 0,
        "endless": full - 5,
        "loud": full,  # right, and it prints
    }
    assert full == 16
    leaking = next(line for line in lines if line.startswith("leaking"))
    assert (
        re.search(r"7a-form=1\.0", leaking)
        and re.search(r"7a-core=0\.0", leaking)
        and re.search(r"7a-hidden=0\.0", leaking)
    )
    for who in SUBMISSIONS:
        said, size = shown(tmp_path, who)
        assert size < 200_000, f"{who} keeps {size} bytes"
        assert not re.search(r"tinymm[/\\]testing|hypothesis", "".join(said.values())), (
            f"{who} is shown lines of ours"
        )
    assert len(shown(tmp_path, "leaking")[0]["7a-core"].splitlines()) == 6
    assert (
        "check.causal_mask was stopped, after calling fn("
        in shown(tmp_path, "endless")[0]["7a-core"]
    )
    assert "found: fn raised NotImplementedError" in shown(tmp_path, "empty")[0]["7a-core"]
