"""Every exercise is solvable and its check bites: the solution passes, the student's copy passes nothing, and holds no line of the solution."""

import ast
import contextlib
import io
import re
from pathlib import Path

import pytest

from tinymm.workflows.course import exercises, percent

ROOT = Path(__file__).parents[2]
SOURCES = exercises.sources()
each = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def run(cells):
    """Run the code cells in one namespace and return, for each test cell by its id, what it raised."""
    names, raised = {}, {}
    for cell in cells:
        if cell.kind == "code":
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(cell.source, f"cell {cell.line}", "exec"), names)  # noqa: S102
                problem = None
            except Exception as error:
                problem = error
            raised[cell.options.get("test", f"line {cell.line}")] = problem
    return raised


def graded_by(cells):
    return [cell.options["test"] for cell in cells if "test" in cell.options]


def test_every_notebook_has_exercises():
    assert [path.name for path in SOURCES] == [
        path.name for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
    ]


@each
def test_solutions_pass_their_own_checks(source):
    problems = {
        name: problem for name, problem in run(percent.read(source)).items() if problem is not None
    }
    assert not problems


@each
def test_an_empty_submission_passes_nothing(source):
    """A check that passes without a solution would give points for nothing."""
    cells = exercises.without_solutions(percent.read(source), source.name)
    raised = run(cells)
    visible = [
        cell.options["test"]
        for cell in cells
        if "test" in cell.options and "# more tests run here" not in cell.source
    ]
    passed = [name for name in visible if raised[name] is None]
    assert visible and not passed


@each
def test_the_students_copy_holds_no_line_of_a_solution(source):
    cells = percent.read(source)
    pieces = exercises.regions(cells, source.name)
    given = {
        line.strip() for cell in pieces for what, _, _, lines in cell for line in lines if not what
    }
    secret = (
        {line.strip() for cell in pieces for what, _, _, lines in cell for line in lines if what}
        - given
        - {""}
    )
    copy = percent.dumps(percent.notebook(exercises.without_solutions(cells, source.name)))
    shown = {
        line.strip()
        for cell in exercises.without_solutions(cells, source.name)
        for line in cell.source.split("\n")
    }
    assert secret and not secret & shown
    assert (
        "BEGIN SOLUTION" not in copy
        and "HIDDEN TESTS" not in copy
        and copy.count("raise NotImplementedError(")
        == copy.count('"solution": true') - copy.count("*Your answer, in three sentences:*")
    )


@each
def test_form_of_the_exercises(source):
    """Two puzzles, three graded tasks with three hints each, and an open question."""
    cells, number = percent.read(source), str(int(source.stem[:2]))
    solutions = [cell.options["solution"] for cell in cells if "solution" in cell.options]
    assert {
        f"{number}-puzzle-1",
        f"{number}-puzzle-2",
        f"{number}a",
        f"{number}b",
        f"{number}c",
    } <= set(solutions)
    assert len([cell for cell in cells if "answer" in cell.options]) == 1
    ids = [
        cell.options.get(name)
        for cell in cells
        for name in ("solution", "test", "answer")
        if name in cell.options
    ]
    assert len(set(ids)) == len(ids)
    for solution in solutions:
        assert any(
            test == f"{solution}-check" or test.startswith(f"{solution}-")
            for test in graded_by(cells)
        ), f"{solution} has no test"
    text = "\n\n".join(cell.source for cell in cells if cell.kind == "markdown")
    for letter in "abc":
        part = re.search(rf"^## {number}{letter} · .*?(?=^## |\Z)", text, re.M | re.S)
        assert part, f"a heading ## {number}{letter} · …"
        assert re.findall(r"<details><summary>(Hint \d)", part[0]) == ["Hint 1", "Hint 2", "Hint 3"]
    assert any("check." in cell.source for cell in cells if "test" in cell.options)


@each
def test_a_puzzle_says_which_names_its_check_looks_for(source):
    """What stands between the marks is gone from a student's copy: the names that it gave have to be said elsewhere."""
    cells = percent.read(source)
    for i, (cell, pieces) in enumerate(
        zip(cells, exercises.regions(cells, source.name), strict=True)
    ):
        if "puzzle" in cell.options.get("solution", ""):
            inside, outside = (
                "\n".join(
                    line for what, *_, lines in pieces for line in lines if bool(what) == kept
                )
                for kept in (True, False)
            )
            given = {
                node.id
                for node in ast.walk(ast.parse(inside))
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
            said = set(
                re.findall(
                    r"\w+", " ".join(re.findall(r"`([^`]*)`", cells[i - 1].source)) + " " + outside
                )
            )
            assert given <= said, f"{cell.options['solution']} does not name {sorted(given - said)}"
