"""A student's own code, from a file of Python or from a notebook: the names that it defines, and what went wrong meanwhile.

Of a notebook only the cells are run that define something: imports, functions, constants, and the cells of tasks. What trains, draws or checks is
left out, so a notebook that stops half way still gives what stands above.
"""

import ast
import json
import sys
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import DataError

#: A notebook with its pictures; what is larger is none of ours.
LARGEST = 50 * 2**20
DEFINES = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


def cells(path: str | Path) -> list[dict[str, Any]]:
    """Return the cells of a notebook, each with its source as one text; DataError for a file that is no notebook."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.stat().st_size} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [{**cell, "source": "".join(cell["source"]), "metadata": dict(cell.get("metadata") or {})} for cell in found]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        said = f"a notebook is JSON with a list of cells, of {LARGEST:,} bytes at most"
        raise DataError(f"{said}, and {path} is not ({error}); save it again") from None


def marks(cell: dict[str, Any]) -> dict[str, Any]:
    """Return nbgrader's marks of a cell, empty for a cell that is no part of an exercise."""
    found = cell["metadata"].get("nbgrader")
    return found if isinstance(found, dict) and isinstance(found.get("grade_id"), str) else {}


def load(path: str | Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Run a .py file, or the cells of an .ipynb that define something; return its names, and by place what was raised there.

    This executes the file: it must be your own, or run where it can do no harm. DataError for a file that is not there or no notebook.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"own code is a .py file or a notebook, and {path} is no file; write its path")
    names: dict[str, Any] = {"__name__": "own_code", "__file__": str(path)}
    problems = {}
    for place, source in _pieces(path):
        try:
            tree = ast.parse(source)
            if path.suffix != ".ipynb" or place.startswith("task") or all(isinstance(node, DEFINES) for node in tree.body):
                exec(compile(tree, f"{path.name}, {place}", "exec"), names)  # noqa: S102
        except (Exception, SystemExit) as error:
            problems[place] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return names, problems


def _pieces(path: Path) -> list[tuple[str, str]]:
    if path.suffix != ".ipynb":
        try:
            return [("the file", path.read_text(encoding="utf-8"))]
        except UnicodeDecodeError as error:
            raise DataError(f"own code is text in UTF-8, and {path} is not ({error.reason} at byte {error.start}); save it as such") from None
    found = []
    for number, cell in enumerate(cells(path), 1):
        task = marks(cell)
        if cell.get("cell_type") == "code" and not (task.get("grade") and not task.get("solution")):
            found.append((f"task {task['grade_id']}" if task.get("solution") else f"cell {number}", cell["source"]))
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
