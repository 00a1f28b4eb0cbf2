"""nbgrader, headless, on the same sources: a right submission has full marks, one whose mask leaks has fewer, an empty one none."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tinymm.workflows import exercises

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
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


def submit(folder, who, change):
    """Hand in the released notebook with each solution's cell changed."""
    released = json.loads((folder / "release" / NAME / f"{NAME}.ipynb").read_text())
    solved = json.loads((folder / "source" / NAME / f"{NAME}.ipynb").read_text())
    texts = {cell["metadata"]["nbgrader"]["grade_id"]: "".join(cell["source"]) for cell in solved["cells"] if "nbgrader" in cell["metadata"]}
    for cell in released["cells"]:
        marks = cell["metadata"].get("nbgrader", {})
        if marks.get("solution"):
            cell["source"] = change(marks["grade_id"], texts[marks["grade_id"]], "".join(cell["source"]))
    place = folder / "submitted" / who / NAME
    place.mkdir(parents=True)
    (place / f"{NAME}.ipynb").write_text(json.dumps(released))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("nbgrader") is None, reason="needs the extra `grading`")
def test_right_leaking_and_empty_submissions(tmp_path):
    exercises.run(instructor=tmp_path, only=["07"])
    nbgrader(tmp_path, "-m", "nbgrader", "generate_assignment", NAME)
    released = (tmp_path / "release" / NAME / f"{NAME}.ipynb").read_text()
    assert "place[None, :] <=" not in released.replace("<code>", "") and "HIDDEN TESTS" not in released and "NotImplementedError" in released
    submit(tmp_path, "right", lambda key, solution, stub: solution)
    submit(tmp_path, "leaking", lambda key, solution, stub: solution.replace("<= place[:, None]", "<= place[:, None] + 1"))
    submit(tmp_path, "empty", lambda key, solution, stub: stub)
    nbgrader(tmp_path, "-m", "nbgrader", "autograde", NAME)
    lines = nbgrader(tmp_path, "-c", f"NAME = {NAME!r}\n{SCORES}").splitlines()
    scores = {line.split()[0]: [float(number) for number in line.split()[1:3]] for line in lines}
    full = scores["right"][1]
    assert scores["right"][0] == full > 0
    assert scores["empty"][0] == 0
    leaking = next(line for line in lines if line.startswith("leaking"))
    assert scores["leaking"][0] == full - 4, leaking  # the form is right; core and hidden tests are not
    assert re.search(r"7a-form=1\.0", leaking) and re.search(r"7a-core=0\.0", leaking) and re.search(r"7a-hidden=0\.0", leaking)
