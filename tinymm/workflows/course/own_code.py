"""A student's own code, from a file of Python or from a notebook: the names that it defines, and what went wrong meanwhile.

Of a notebook only the cells are run that define something: imports, functions, constants, and the
cells of tasks. What trains, draws or checks is left out, so a notebook that stops half way still
gives what stands above. Of a cell that does both, what surely only defines is run. Lines of
IPython's, such as `%matplotlib inline` or `!pip install …`, are no Python and left out.
"""

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import DataError

#: A notebook with its pictures; what is larger is none of ours.
LARGEST = 50 * 2**20
#: A line that IPython understands and Python does not: %magic, !command, name? or ?name, and what
#: takes a value from the first two.
_MAGIC = re.compile(r"^\s*(?:[%!?]|[\w.*%]+\?\??\s*$|[\w.,\s\[\]]+=\s*[%!])")
#: Magics of a whole cell that run it as Python; below others stands another language, or a file's
#: text.
_RUNS_PYTHON = ("time", "timeit", "capture", "prun", "debug")
DEFINES = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


def cells(path: str | Path) -> list[dict[str, Any]]:
    """Return the cells of a notebook, each with its source as one text; DataError for a file that is no notebook."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.stat().st_size} bytes")
        found = json.loads(path.read_text(encoding="utf-8-sig"))["cells"]
        return [
            {
                **cell,
                "source": "".join(cell["source"]),
                "metadata": dict(cell.get("metadata") or {}),
            }
            for cell in found
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        said = f"a notebook is JSON with a list of cells, of {LARGEST:,} bytes at most"
        raise DataError(f"{said}, and {path} is not ({error}); save it again") from None


def marks(cell: dict[str, Any]) -> dict[str, Any]:
    """Return nbgrader's marks of a cell, empty for a cell that is no part of an exercise."""
    found = cell["metadata"].get("nbgrader")
    return found if isinstance(found, dict) and isinstance(found.get("grade_id"), str) else {}


def load(path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Run a .py file, or the cells of an .ipynb that define something; return its names, and by place what was raised there.

    This executes the file: it must be your own, or run where it can do no harm. DataError for a
    file that is not there or no notebook.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"own code is a .py file or a notebook, and {path} is no file; write its path"
        )
    names: dict[str, Any] = {
        "__name__": "own_code",
        "__file__": str(path),
        "get_ipython": _NoIPython,
    }
    problems = {}
    for place, source in _pieces(path):
        try:
            tree = ast.parse(plain_python(source))
            if (
                path.suffix == ".ipynb"
                and not place.startswith("task")
                and not all(isinstance(node, DEFINES) for node in tree.body)
            ):
                tree.body = [node for node in tree.body if _only_defines(node)]
            exec(compile(tree, f"{path.name}, {place}", "exec"), names)  # noqa: S102
        except (Exception, SystemExit) as error:
            problems[place] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if names.get("get_ipython") is _NoIPython:
        del names["get_ipython"]
    return names, problems


class _NoIPython:
    """What `get_ipython()` gives here: whatever is asked of it, nothing happens.

    `nbconvert --to script` writes magics as such calls.
    """

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


def plain_python(source: str) -> str:
    r"""Return the source of a cell with IPython's own lines left out, empty for a cell in another language; the number of lines stays.

    >>> plain_python("%matplotlib inline\nimport numpy as np").splitlines()
    ['pass', 'import numpy as np']
    """
    lines = source.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    if cell := re.match(r"%%(\w+)", lines[first]):
        if cell[1] not in _RUNS_PYTHON:
            return ""
        lines[first] = ""
    for (
        _
    ) in lines:  # a line within a text, which only looks like a magic, is never where Python stops
        try:
            ast.parse("\n".join(lines))
            break
        except SyntaxError as error:
            at = (error.lineno or 0) - 1
            if not (0 <= at < len(lines) and _MAGIC.match(lines[at])):
                break
            lines[at] = lines[at][: len(lines[at]) - len(lines[at].lstrip())] + "pass"
    return "\n".join(lines)


def unsolved(source: str) -> bool:
    r"""Say whether a task's cell raises NotImplementedError, as it was handed out; in a comment or a text the words mean nothing.

    >>> unsolved("def f(x):\n    raise NotImplementedError('np.tri')"), unsolved("def f(x):\n    return x  # raise NotImplementedError()")
    (True, False)
    """
    try:
        tree = ast.parse(plain_python(source))
    except SyntaxError:  # being edited
        return any(
            line.lstrip().startswith("raise NotImplementedError") for line in source.splitlines()
        )
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    named = [error.func if isinstance(error, ast.Call) else error for error in raised]
    return any(isinstance(error, ast.Name) and error.id == "NotImplementedError" for error in named)


def _only_defines(node: ast.stmt) -> bool:
    """Say whether a statement beside others that do things only defines: an import, a function, a class, a name for a constant."""
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return node.value is not None and not any(
            isinstance(part, ast.Call) for part in ast.walk(node.value)
        )
    if isinstance(node, ast.Try | ast.If):
        handlers = [handler.body for handler in node.handlers] if isinstance(node, ast.Try) else []
        return all(
            _only_defines(inner) or isinstance(inner, ast.Pass)
            for inner in sum(handlers, [*node.body, *node.orelse])
        )
    return isinstance(node, DEFINES)


def _pieces(path: Path) -> list[tuple[str, str]]:
    if path.suffix != ".ipynb":
        try:
            return [("the file", path.read_text(encoding="utf-8-sig"))]
        except UnicodeDecodeError as error:
            raise DataError(
                f"own code is text in UTF-8, and {path} is not ({error.reason} at byte {error.start}); save it as such"
            ) from None
    found = []
    read = cells(path)
    solved = {
        marks(cell).get("grade_id")
        for cell in read
        if cell.get("cell_type") == "code" and not unsolved(cell["source"])
    }
    for number, cell in enumerate(read, 1):
        task = marks(cell)
        if task.get("solution") and task["grade_id"] in solved and unsolved(cell["source"]):
            continue  # the task once more, as it was handed out: it would take the place of the solution
        if cell.get("cell_type") == "code" and not (task.get("grade") and not task.get("solution")):
            found.append(
                (
                    f"task {task['grade_id']}" if task.get("solution") else f"cell {number}",
                    cell["source"],
                )
            )
    return found


def limit(memory: int) -> None:
    """Keep this process below so many bytes of addresses, where the system can (POSIX), and its files below 64 MiB."""
    if sys.platform == "win32":
        return
    import resource

    for what, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, 64 * 2**20)):
        _, hardest = resource.getrlimit(what)
        most = most if hardest == resource.RLIM_INFINITY else min(most, hardest)
        resource.setrlimit(what, (most, most))
