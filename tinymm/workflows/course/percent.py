"""Notebooks as Python files: cells begin with `# %%`, text is a comment, and the `.ipynb` made of them is the same bytes each time.

The format is Jupytext's "percent", so editors and JupyterLab open it; this reader knows what our
notebooks use and needs no library. A cell may have options, `# %% name=value`, with values in JSON.
Those of an exercise become the marks that nbgrader looks for:

    # %% solution="7a"             the student writes between ### BEGIN SOLUTION and ### END SOLUTION
    # %% test="7a-form" points=1   graded; what stands between ### BEGIN HIDDEN TESTS and ### END HIDDEN TESTS only the grader sees
    # %% [markdown] answer="7d" points=2   written by the student, graded by hand
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinymm.arrays.errors import DataError

_BEGINNING = re.compile(r"# %%(?P<text> \[markdown\])?(?P<options>( +\w+=.*)?) *")
_NAME = re.compile(r" *(\w+)=")
OPTIONS = ("solution", "test", "answer", "points", "tags")


@dataclass(frozen=True)
class Cell:
    """One cell: `kind` is "code" or "markdown", `line` is where it begins in its file."""

    kind: str
    source: str
    options: dict[str, Any] = field(default_factory=dict)
    line: int = 0


def read(path: str | Path) -> list[Cell]:
    """Return the cells of a percent file; what stands before the first `# %%` is not part of the notebook."""
    return parse(Path(path).read_text(encoding="utf-8"), str(path))


def parse(text: str, name: str = "notebook") -> list[Cell]:
    r"""Return the cells of a text in the percent format; DataError names the line that is not in it.

    >>> [cell.source for cell in parse("# %% [markdown]\n# # Title\n\n# %% tags=[\"a\"]\nx = 1\n")]
    ['# Title', 'x = 1']
    """
    cells: list[Cell] = []
    kind, options, began, lines = "", {}, 0, []  # type: tuple[str, dict[str, Any], int, list[str]]

    def close() -> None:
        if not kind:
            return
        written = "\n".join(lines).strip("\n").rstrip()
        if kind == "markdown":
            wrong = [line for line in written.split("\n") if line and not line.startswith("#")]
            if wrong:
                raise DataError(
                    f"text of a notebook is a comment, and {wrong[0]!r} stands in the cell at {name}:{began}; write '# ' in front"
                )
            written = "\n".join(
                line[2:] if line.startswith("# ") else line[1:] for line in written.split("\n")
            )
        cells.append(Cell(kind, written, options, began))

    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("# %%"):
            close()
            found = _BEGINNING.fullmatch(line)
            if found is None:
                raise DataError(
                    f"a cell begins with '# %%', '[markdown]' and name=value, and {line!r} came at {name}:{number}; correct the line"
                )
            kind, began, lines = "markdown" if found["text"] else "code", number, []
            options = _options(found["options"], f"{name}:{number}")
        else:
            lines.append(line)
    close()
    if not cells:
        raise DataError(
            f"a notebook has cells that begin with '# %%', and {name} has 0 of them; write one"
        )
    return cells


def notebook(cells: list[Cell]) -> dict[str, Any]:
    """Return the notebook (nbformat 4.5) of these cells, without outputs; a cell's id follows from its text alone.

    >>> made = notebook([Cell("code", "x = 1"), Cell("code", "x = 1")])
    >>> [cell["id"] for cell in made["cells"]]
    ['c-89811aa6', 'c-89811aa6-2']
    """
    made: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for cell in cells:
        key = "c-" + hashlib.sha256(f"{cell.kind}\n{cell.source}".encode()).hexdigest()[:8]
        seen[key] = seen.get(key, 0) + 1
        entry: dict[str, Any] = {
            "cell_type": cell.kind,
            "id": key if seen[key] == 1 else f"{key}-{seen[key]}",
            "metadata": _metadata(cell),
            "source": cell.source.splitlines(keepends=True),
        }
        made.append(
            entry | ({"execution_count": None, "outputs": []} if cell.kind == "code" else {})
        )
    about = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return {"cells": made, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def dumps(made: dict[str, Any]) -> str:
    """Return a notebook as the text of an .ipynb file, keys in order, as nbformat writes it."""
    return json.dumps(made, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _metadata(cell: Cell) -> dict[str, Any]:
    """Return a cell's metadata, with nbgrader's marks (its schema 3) where it belongs to an exercise."""
    options = cell.options
    kept = {"tags": options["tags"]} if "tags" in options else {}
    named = [name for name in ("solution", "test", "answer") if name in options]
    if not named:
        return kept
    graded = named[0] != "solution"
    marks = {
        "grade": graded,
        "grade_id": options[named[0]],
        "locked": named[0] == "test",
        "schema_version": 3,
        "solution": named[0] != "test",
        "task": False,
    }
    return kept | {"nbgrader": marks | ({"points": options["points"]} if graded else {})}


def _options(text: str, where: str) -> dict[str, Any]:
    options, place = {}, 0
    text = text.strip()
    while place < len(text):
        found = _NAME.match(text, place)
        try:
            if found is None:
                raise ValueError
            options[found[1]], place = json.JSONDecoder().raw_decode(text, found.end())
        except ValueError:
            raise DataError(
                f'options of a cell are name=value with values in JSON, and {text!r} came at {where}; write points=1 test="7a"'
            ) from None
    unknown = [name for name in options if name not in OPTIONS]
    if (
        unknown
        or ("points" in options) != bool({"test", "answer"} & set(options))
        or len({"solution", "test", "answer"} & set(options)) > 1
    ):
        raise DataError(
            f"a cell is a solution, or a test or an answer with points, and {text!r} came at {where}; options are {', '.join(OPTIONS)}"
        )
    return options
