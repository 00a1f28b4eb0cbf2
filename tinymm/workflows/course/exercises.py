"""Exercises: the students' copies of the notebooks in `notebooks/solutions`, without solutions, and a course folder for nbgrader.

The sources hold the solutions, once. A student's copy has a `raise NotImplementedError` with a hint
in the place of each, and none of the hidden tests; nothing but Python is needed to make it. For
nbgrader the sources are written as they are, with the marks that it looks for.
"""

import re
from pathlib import Path
from typing import Any

import tinymm
from tinymm.arrays.errors import DataError, UsageError
from tinymm.arrays.files import atomic

from .. import commands
from . import percent

SOLUTION, HIDDEN = "SOLUTION", "HIDDEN TESTS"
_MARK = re.compile(
    r"(?P<indent> *)### (?P<end>BEGIN|END) (?P<what>SOLUTION|HIDDEN TESTS)\b *:? *(?P<hint>.*)"
)
#: Every check takes a second or two; a cell that takes longer than `timeout` is stopped, scores 0,
#: and the next one goes on.
CONFIG = """from nbgrader.converters import Autograde
from nbgrader.preprocessors import LimitOutput


class ShortOutput(LimitOutput):
    # nbgrader counts lines; a flood may be one line
    most = 20_000

    def preprocess_cell(self, cell, resources, cell_index):
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and len(output.text) > self.most:
                output.text = output.text[: self.most] + " ... cut here"
            elif output.output_type == "error":
                output.evalue = output.evalue[: self.most]
                output.traceback = [line[: self.most] for line in output.traceback]
        return super().preprocess_cell(cell, resources, cell_index)


c = get_config()
c.CourseDirectory.course_id = "tinymm"
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError()"}
c.Execute.timeout = 30
c.Execute.raise_on_iopub_timeout = False
c.LimitOutput.max_lines = 200
c.Autograde.autograde_preprocessors = [
    ShortOutput if one is LimitOutput else one for one in Autograde.autograde_preprocessors.default()
]
"""


def sources(folder: str | Path | None = None) -> list[Path]:
    """Return the exercises with their solutions, in order; `folder` is `notebooks/solutions` of a checkout unless said otherwise.

    UsageError if none lie there.
    """
    place = Path(folder) if folder else Path(tinymm.__file__).parents[1] / "notebooks" / "solutions"
    found = sorted(place.glob("[0-9][0-9]_*.py"))
    if not found:
        raise UsageError(
            f"exercises lie in notebooks/solutions of a checkout, and 0 of them in {place}; pass --source with that folder"
        )
    return found


def chosen(folder: str | Path | None = None, only: list[str] | None = None) -> list[Path]:
    """Return those `sources` whose names begin with one of `only`, such as "07"; without `only`, all of them. UsageError for no such name."""
    found = [
        path
        for path in sources(folder)
        if not only or any(path.stem.startswith(name) for name in only)
    ]
    if not found:
        raise UsageError(
            f"exercises are chosen by the beginning of a name, and {', '.join(only or [])} fits 0 of them; write 07"
        )
    return found


def run(
    student: str | None = None,
    instructor: str | None = None,
    *,
    source: str | None = None,
    only: list[str] | None = None,
) -> list[Path]:
    """Write the students' copies to `student`, or nbgrader's course folder to `instructor`, or both; print and return the files.

    `only` names notebooks by their beginning, such as "07". Files that exist already are a
    student's work and are not overwritten. UsageError for nowhere to write to, or names that fit
    nothing.
    """
    if not (student or instructor):
        raise UsageError(
            "exercises are written for students, for an instructor, or both, and 0 folders came; pass --student OUT or --instructor OUT"
        )
    written = []
    for path in chosen(source, only):
        cells = percent.read(path)
        if student:
            written.append(
                _write(
                    Path(student) / f"{path.stem}.ipynb",
                    percent.dumps(percent.notebook(without_solutions(cells, path.name))),
                )
            )
        if instructor:
            regions(cells, path.name)
            written.append(
                _write(
                    Path(instructor) / "source" / path.stem / f"{path.stem}.ipynb",
                    percent.dumps(percent.notebook(cells)),
                )
            )
    if instructor:
        written.append(_write(Path(instructor) / "nbgrader_config.py", CONFIG))
    print("\n".join(map(str, written)))
    return written


def without_solutions(cells: list[percent.Cell], name: str = "notebook") -> list[percent.Cell]:
    """Return the cells as a student gets them.

    >>> text = "def two():" + chr(10) + "    ### BEGIN SOLUTION: one and one" + chr(10) + "    return 2" + chr(10) + "    ### END SOLUTION"
    >>> print(without_solutions([percent.Cell("code", text, {"solution": "0a"})])[0].source)
    def two():
        raise NotImplementedError("0a: one and one")
    """
    kept = []
    for cell, pieces in zip(cells, regions(cells, name), strict=True):
        lines: list[str] = []
        for what, hint, indent, inside in pieces:
            if what == SOLUTION:
                said = f"{cell.options['solution']}: {hint or 'your lines go here'}".replace(
                    '"', "'"
                )
                lines.append(f'{indent}raise NotImplementedError("{said}")')
            elif what == HIDDEN:
                lines.append(f"{indent}# more tests run here when this is graded")
            else:
                lines += inside
        if "answer" in cell.options:
            lines = ["*Your answer, in three sentences:*"]
        kept.append(percent.Cell(cell.kind, "\n".join(lines), cell.options, cell.line))
    return kept


def regions(
    cells: list[percent.Cell], name: str = "notebook"
) -> list[list[tuple[str, str, str, list[str]]]]:
    """Return for each cell its pieces, (what, hint, indent, lines): "SOLUTION", "HIDDEN TESTS", or "" for what a student sees.

    DataError for marks that are missing or do not take turns.
    """
    found = []
    for cell in cells:
        pieces: list[tuple[str, str, str, list[str]]] = [("", "", "", [])]
        for number, line in enumerate(cell.source.split("\n"), cell.line + 1):
            mark = _MARK.fullmatch(line)
            if mark is None:
                pieces[-1][3].append(line)
                continue
            inside = pieces[-1][0]
            belongs = "solution" if mark["what"] == SOLUTION else "test"
            if belongs not in cell.options or inside != (
                "" if mark["end"] == "BEGIN" else mark["what"]
            ):
                raise DataError(
                    f"### BEGIN and ### END stand in turn, {SOLUTION} in a solution's cell and {HIDDEN} in a test's, and {line.strip()!r} came at "
                    f"{name}:{number}; correct the marks, or the cell's options"
                )
            pieces.append(
                (mark["what"], mark["hint"], mark["indent"], [])
                if mark["end"] == "BEGIN"
                else ("", "", "", [])
            )
        if pieces[-1][0] or ("solution" in cell.options and len(pieces) == 1):
            raise DataError(
                f"a solution stands between ### BEGIN and ### END, and the cell at {name}:{cell.line} has {len(pieces) - 1} of them; add both"
            )
        found.append(pieces)
    return found


def _write(path: Path, text: str) -> Path:
    if path.exists():
        raise UsageError(
            f"exercises overwrite nobody's work, and {path} is there already with {path.stat().st_size} bytes; choose another folder"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        file.write(text.encode())
    return path


# ---------------------------------------------------------------------- the command
PLACE = 100


def declare(parsers: Any) -> None:
    """Add exercises."""
    said = "write the students' copies of the exercises, without solutions, or nbgrader's course folder"
    exercises = commands.add(
        parsers, "exercises", said, "exercises --student my_exercises", _command
    )
    exercises.add_argument(
        "--student", metavar="OUT", help="the folder for notebooks without solutions"
    )
    exercises.add_argument(
        "--instructor",
        metavar="OUT",
        help="the folder for nbgrader: OUT/source/NAME/NAME.ipynb, and its settings",
    )
    exercises.add_argument(
        "--only",
        action="append",
        metavar="NN",
        help="only this notebook, by the beginning of its name; several times if wanted",
    )
    exercises.add_argument(
        "--source",
        metavar="FOLDER",
        help="the notebooks with solutions (default: notebooks/solutions of this checkout)",
    )


def _command(**options: Any) -> None:
    run(**options)


def course(parsers: Any) -> Any:
    """Return the actions of `course`, one of which each of several files adds."""
    return commands.group(
        parsers,
        "course",
        "what a student needs besides the notebooks, and a teacher: status, quiz, hunt",
    )
