"""How far a student is: reads the saved notebooks of a folder and shows a map of the course with a mark for each task.

Nothing is executed and nothing leaves the machine: a check that ran without an error when the
notebook was saved has passed. So a check that was not run again after an edit says what was true
before.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import DataError, UsageError

from .. import commands
from . import exercises, own_code, percent

PASSED, FAILED, NOT_RUN = "✓", "✗", "·"
#: The first line of a failed check, "M02 (core) No token …", or as pytest and IPython show it
#: behind the exception's name.
_PROPERTY = re.compile(r"(?:^|: )([A-Z]+\d+\w*) \((?:core|strict)\)")
_PLACEHOLDER = "*Your answer, in three sentences:*"


@dataclass
class Task:
    """One task: its mark, and for a failed one what failed: the property's id where a check said it, the error's name otherwise.

    A task that is `untouched`, as it was handed out, has not been tried, whatever its checks said
    when all cells were run.
    """

    mark: str = NOT_RUN
    failed: str = ""
    untouched: bool = False


@dataclass
class Notebook:
    """What a saved notebook says of its tasks, by their ids, and whether the open question was answered."""

    file: str
    tasks: dict[str, Task] = field(default_factory=dict)
    written: bool = False
    remarks: list[str] = field(default_factory=list)


def run(folder: str = "my_exercises", *, source: str | None = None) -> dict[str, Notebook]:
    """Print the map of the folder's notebooks and return it by number, "07"; UsageError for a folder that is none."""
    place = Path(folder)
    if not place.is_dir():
        raise UsageError(
            f"course status reads a folder of saved notebooks, and {folder} is none; make one with: exercises --student {folder}"
        )
    found: dict[str, Notebook] = {}
    remarks = []
    for path in sorted(place.glob("*.ipynb")):
        try:
            cells = own_code.cells(path)
        except (DataError, OSError) as error:
            remarks.append(f"{path.name}: {error}")
            continue
        number = _number(cells)
        if not number:
            remarks.append(
                f"{path.name}: no exercise of this course, none of its {len(cells)} cells is marked as a task"
            )
        elif number in found:
            remarks.append(
                f"{path.name}: a second copy of notebook {int(number)}; {found[number].file} is shown"
            )
        else:
            found[number] = read(cells, path.name)
            remarks += [f"{path.name}: {remark}" for remark in found[number].remarks]
    print("\n".join([*drawn(found, _named(source)), *remarks]))
    return found


def read(cells: list[dict[str, Any]], file: str = "notebook.ipynb") -> Notebook:
    """Return what the cells of a notebook say; a test cell belongs to the task whose id begins its own, "7a-form" to "7a".

    A cell's marks say what it is, whatever kind it has become: a task or a check that is text now
    was not run. Of a task that stands there more than once, a copy as it was handed out does not
    count; both are remarked.
    """
    made = Notebook(file)
    counts = Counter(own_code.marks(cell).get("grade_id") for cell in cells)
    made.remarks += [
        f"{name} stands in {count} cells; delete the copies"
        for name, count in counts.items()
        if name and count > 1
    ]
    for cell in cells:
        task = own_code.marks(cell)
        if (
            task
            and cell.get("cell_type") != "code"
            and not (task.get("grade") and task.get("solution"))
        ):
            made.remarks.append(
                f"{task['grade_id']} is a {cell.get('cell_type')} cell, which is not run; make it a code cell again"
            )
        if task.get("solution") and not task.get("grade"):
            untouched = cell.get("cell_type") != "code" or own_code.unsolved(cell["source"])
            before = made.tasks.get(task["grade_id"])
            made.tasks[task["grade_id"]] = Task(
                untouched=untouched and (before is None or before.untouched)
            )
    for cell in cells:
        task = own_code.marks(cell)
        if not task.get("grade"):
            continue
        if task.get("solution"):
            made.written |= bool(cell["source"].replace(_PLACEHOLDER, "").strip())
        elif "# more tests run here when this is graded" not in cell["source"]:
            owner = max(
                (name for name in made.tasks if task["grade_id"].startswith(name)),
                key=len,
                default=None,
            )
            if owner is not None:
                _add(made.tasks[owner], cell)
    for one in made.tasks.values():
        one.mark = NOT_RUN if one.mark == "half" else one.mark
    return made


def _add(task: Task, cell: dict[str, Any]) -> None:
    """Let one test cell speak: a failure stays, and a task has passed once all of its cells have."""
    if task.untouched:
        return
    errors = [
        output
        for output in cell.get("outputs") or []
        if isinstance(output, dict) and output.get("output_type") == "error"
    ]
    if errors:
        if task.mark != FAILED:
            said = f"{errors[0].get('ename')}: {errors[0].get('evalue')}"
            found = _PROPERTY.search(said)
            name = "".join(filter(str.isprintable, str(errors[0].get("ename"))))[
                :40
            ]  # a foreign file must not steer the terminal
            task.mark, task.failed = FAILED, found[1] if found else name
    elif cell.get("execution_count") is None or cell.get("cell_type") != "code":
        task.mark, task.failed = (FAILED, task.failed) if task.mark == FAILED else ("half", "")
    elif task.mark == NOT_RUN:
        task.mark = PASSED


def _number(cells: list[dict[str, Any]]) -> str:
    """Return the number of the notebook that the marks belong to, "07", or "" for a file of somebody else."""
    found = [
        re.match(r"(\d{1,2})(?=[a-z-])", own_code.marks(cell).get("grade_id", "")) for cell in cells
    ]
    return next((match[1].zfill(2) for match in found if match), "")


def _named(source: str | None) -> dict[str, tuple[str, list[str]]]:
    """Return title and tasks of the course's notebooks by number, from the checkout; nothing where there is none."""
    try:
        paths = exercises.sources(source)
    except UsageError:
        return {}
    return {
        path.stem[:2]: (
            path.stem[3:].replace("_", " "),
            [cell.options["solution"] for cell in percent.read(path) if "solution" in cell.options],
        )
        for path in paths
    }


def drawn(found: dict[str, Notebook], named: dict[str, tuple[str, list[str]]]) -> list[str]:
    """Return the lines of the map: a notebook a line, its tasks in order, then the sum and what to look at next."""
    lines, done, total, first = [], 0, 0, ""
    width = max([len(title) for title, _ in named.values()] + [12])
    for number in sorted({*named, *found}):
        title, tasks = named.get(number, ("", []))
        notebook = found.get(number)
        states = notebook.tasks if notebook else {name: Task() for name in tasks}
        marks = []
        for name, task in states.items():
            short = re.sub(r"^\d+-?", "", name).replace("puzzle-", "p")
            marks.append(f"{short} {task.mark}{task.failed and ' ' + task.failed}")
            first = first or (
                f"{name} in {notebook.file} failed {task.failed}"
                if notebook and task.mark == FAILED
                else ""
            )
            done, total = done + (task.mark == PASSED), total + 1
        written = (
            f"  open question {PASSED if notebook.written else NOT_RUN}"
            if notebook
            else "  (no copy here)"
        )
        lines.append(f"{int(number):>2}  {title:<{width}}  {'  '.join(marks)}{written}")
    lines.append(
        f"{done} of {total} tasks passed when saved ({PASSED} passed, {FAILED} failed with what, {NOT_RUN} not run)"
    )
    return [*lines, f"look at: {first}"] if first else lines


# ---------------------------------------------------------------------- the command
PLACE = 120


def declare(parsers: Any) -> None:
    """Add course status."""
    said = "show which tasks have passed, from the saved notebooks of a folder"
    status = commands.add(
        exercises.course(parsers), "status", said, "course status my_exercises", _command
    )
    status.add_argument(
        "folder",
        nargs="?",
        default="my_exercises",
        help="a folder of exercises (default: my_exercises); nothing in it is executed",
    )


def _command(**options: Any) -> None:
    run(**options)
