"""A source file as rows: on the left what is said, on the right the lines that it is said of. Needs nothing but Python.

A row begins with a function, a class, a comment on lines of its own, or a title; a docstring
belongs to its header. Every line of the file is in exactly one row, in order: what is not prose is
code.
"""

import ast
import inspect
import re
from dataclasses import dataclass, field

TITLE = re.compile(r"#\s*-{3,}\s*(.+?)\s*-*$")


@dataclass
class Row:
    """Prose with its code: `code` holds (line number, text), `title` a heading above it, `defines` what begins here."""

    prose: list[str] = field(default_factory=list)
    code: list[tuple[int, str]] = field(default_factory=list)
    title: str = ""
    defines: str = ""

    def has_code(self) -> bool:
        """Tell whether anything but blank lines stands on the right."""
        return any(text.strip() for _, text in self.code)


def landmarks(source: str) -> tuple[dict[int, str], dict[int, tuple[int, str]]]:
    """Return where a function or class begins, decorators included, and where a docstring does, with its last line and its text."""
    begins: dict[int, str] = {}
    docstrings: dict[int, tuple[int, str]] = {}

    def visit(node, path):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = ".".join([*path, child.name])
                if isinstance(node, ast.Module | ast.ClassDef):
                    begins[min([child.lineno, *(d.lineno for d in child.decorator_list)])] = name
                visit(child, [*path, child.name])
            elif not isinstance(child, ast.expr):
                visit(child, path)
        body = getattr(node, "body", None)
        if (
            isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            first = body[0]
            docstrings[first.lineno] = (first.end_lineno, inspect.cleandoc(first.value.value))

    visit(ast.parse(source), [])
    return begins, docstrings


def comments(source: str) -> dict[int, str]:
    """Return the comments that have a line for themselves; `#` inside a string is none, since its line is inside a token."""
    import io
    import tokenize

    lines = source.splitlines()
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT and not lines[row - 1][:column].strip():
            found[row] = token.string
    return found


def rows(source: str) -> list[Row]:
    r"""Return the rows of a source file.

    >>> made = rows('def f(x):\n    "Return x."\n    # why\n    return x\n')
    >>> [(row.prose, [text.strip() for _, text in row.code]) for row in made]
    [(['Return x.'], ['def f(x):']), (['why'], ['return x'])]
    """
    (begins, docstrings), remarks = landmarks(source), comments(source)
    made, inside, last = [Row()], 0, ""
    for number, line in enumerate(source.splitlines(), 1):
        if number <= inside:
            continue
        kind = "docstring" if number in docstrings else "comment" if number in remarks else "code"
        starts = number in begins or (kind == "comment" and last != "comment")
        if starts and (made[-1].has_code() or (number in begins and made[-1].defines)):
            made.append(Row())
        if number in begins:
            made[-1].defines = begins[number]
        if kind == "docstring":
            inside, text = docstrings[number]
            made[-1].prose.append(text)
        elif kind == "comment" and (title := TITLE.match(remarks[number])):
            made[-1].title = title[1]
        elif kind == "comment":
            text = remarks[number].lstrip("#:").removeprefix(" ")
            if last == "comment" and made[-1].prose:
                made[-1].prose[-1] += "\n" + text
            else:
                made[-1].prose.append(text)
        else:
            made[-1].code.append((number, line))
        if line.strip() or kind != "code":
            last = kind
    return [row for row in made if row.prose or row.title or row.has_code()]
