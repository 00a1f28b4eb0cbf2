"""The map of the course: marks from what was saved, whatever else lies in the folder, and nothing executed."""

import json

import pytest

from tinymm.testing import PropertyFailed
from tinymm.workflows.course import exercises, percent
from tinymm.workflows.course import status as course_status


@pytest.fixture
def folder(tmp_path, capsys):
    """Students' copies of three notebooks."""
    exercises.run(student=tmp_path / "mine", only=["04", "07", "08"])
    return tmp_path / "mine"


def save(path, **ran):
    """Save a notebook as if its test cells had run: by id (- for _) None for silence, or the error that was raised."""
    made = json.loads(path.read_text())
    for cell in made["cells"]:
        marks = cell["metadata"].get("nbgrader", {})
        key = marks.get("grade_id", "").replace("-", "_")
        if marks.get("solution") and any(name.removeprefix("t").startswith(key) for name in ran):
            cell["source"] = ["mine = 1"]  # somebody has tried
        if key in (known := {name.removeprefix("t"): error for name, error in ran.items()}):
            cell["execution_count"] = 1
            error = known[key]
            shown = {
                "output_type": "error",
                "ename": type(error).__name__,
                "evalue": str(error),
                "traceback": [],
            }
            cell["outputs"] = [] if error is None else [shown]
    path.write_text(json.dumps(made))


def broken_mask():
    from tinymm.testing import check

    try:
        check.causal_mask(lambda n: [[True] * n] * n, examples=5)
    except PropertyFailed as failed:
        return failed


def test_tasks_passed_failed_and_not_run(folder, command):
    seven = folder / "07_attention_and_masks.ipynb"
    save(
        seven,
        t7a_form=None,
        t7a_core=broken_mask(),
        t7b_form=None,
        t7b_core=None,
        t7c_form=None,
        t7_puzzle_1_check=NameError("sees_2"),
    )
    said = command("course", "status", folder)
    assert said.code == 0 and not said.error
    line = next(line for line in said.lines if line.startswith(" 7 "))
    for part in ("p1 ✗ NameError", "p2 ·", "a ✗ M02", "b ✓", "c ·", "open question ·"):
        assert part in line, line
    assert said.lines[-2].startswith("1 of 71 tasks passed")
    assert said.lines[-1] == "look at: 7-puzzle-1 in 07_attention_and_masks.ipynb failed NameError"


def test_the_map_has_fourteen_lines_and_names_missing_copies(folder, command):
    lines = command("course", "status", folder).lines
    assert [int(line[:2]) for line in lines[:14]] == list(range(1, 15))
    assert lines[0].endswith("(no copy here)") and not lines[6].endswith("(no copy here)")


def test_a_task_passes_only_when_all_of_its_cells_ran_and_hidden_tests_count_for_nothing(folder):
    seven = folder / "07_attention_and_masks.ipynb"
    save(seven, t7a_hidden=None)
    assert course_status.run(str(folder))["07"].tasks["7a"].mark != course_status.PASSED
    save(seven, t7a_form=None, t7a_core=None)
    assert course_status.run(str(folder))["07"].tasks["7a"].mark == course_status.PASSED


def test_a_failure_stays_whatever_the_other_cells_say(folder):
    seven = folder / "07_attention_and_masks.ipynb"
    save(seven, t7a_form=broken_mask(), t7a_core=None)
    task = course_status.run(str(folder))["07"].tasks["7a"]
    assert (task.mark, task.failed) == (course_status.FAILED, "M02")


def test_tests_belong_to_the_longest_task_that_begins_their_name(folder):
    save(folder / "08_figure_3_line_by_line.ipynb", t8c_bias_check=None)
    tasks = course_status.run(str(folder))["08"].tasks
    assert tasks["8c-bias"].mark == course_status.PASSED != tasks["8c"].mark


def test_a_task_as_it_was_handed_out_is_not_tried_whatever_its_checks_said(folder):
    seven = folder / "07_attention_and_masks.ipynb"
    handed_out = seven.read_text()
    save(seven, t7a_form=NotImplementedError("7a"), t7_puzzle_1_check=NameError("sees_2"))
    made, fresh = json.loads(seven.read_text()), json.loads(handed_out)
    for cell, other in zip(made["cells"], fresh["cells"], strict=True):
        cell["source"] = other["source"]
    seven.write_text(json.dumps(made))
    tasks = course_status.run(str(folder))["07"].tasks
    assert {tasks["7a"].mark, tasks["7-puzzle-1"].mark} == {course_status.NOT_RUN}


def test_an_answered_question_is_seen(folder):
    four = folder / "04_layers_and_normalization.ipynb"
    assert not course_status.run(str(folder))["04"].written
    four.write_text(
        four.read_text().replace(
            "*Your answer, in three sentences:*", "*Your answer, in three sentences:* It forgets."
        )
    )
    assert course_status.run(str(folder))["04"].written


def test_foreign_and_broken_files_get_a_sentence(folder, command):
    (folder / "mine.ipynb").write_text(
        percent.dumps(percent.notebook([percent.Cell("code", "raise SystemExit('executed')")]))
    )
    (folder / "half.ipynb").write_text('{"cells": [{"cell_type": "code"')
    (folder / "list.ipynb").write_text("[1, 2]")
    (folder / "odd.ipynb").write_text(json.dumps({"cells": [{"source": 3}, 5, None]}))
    (folder / "zcopy.ipynb").write_text((folder / "07_attention_and_masks.ipynb").read_text())
    said = command("course", "status", folder)
    text = "\n".join(said.lines)
    assert said.code == 0
    assert "mine.ipynb: no exercise of this course, none of its 1 cells is marked as a task" in text
    assert all(
        f"{name}.ipynb: a notebook is JSON with a list of cells" in text
        for name in ("half", "list", "odd")
    )
    assert "zcopy.ipynb: a second copy of notebook 7; 07_attention_and_masks.ipynb is shown" in text


def test_a_folder_that_is_none(command, here):
    said = command("course", "status")
    assert (
        said.code == 2
        and "my_exercises is none; make one with: exercises --student my_exercises" in said.error
    )


def test_without_a_checkout_the_found_notebooks_are_shown(folder, tmp_path, capsys):
    found = course_status.run(str(folder), source=str(tmp_path / "nothing"))
    assert list(found) == ["04", "07", "08"]
    assert (
        len([line for line in capsys.readouterr().out.splitlines() if line[:2].strip().isdigit()])
        >= 3
    )


def test_a_foreign_file_does_not_steer_the_terminal(folder, command):
    save(
        folder / "07_attention_and_masks.ipynb",
        t7a_form=type("\x1b[31mRed", (Exception,), {})("no"),
    )
    assert "\x1b" not in command("course", "status", folder).out
