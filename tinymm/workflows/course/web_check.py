"""The part of `web` that runs inside the page: a student's lines, then the checks of their task, and what came of them in words.

It needs nothing but Python, so the same lines are tested outside of a browser.
"""

import ast
import io
import json
import linecache
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any

YOURS = "your code"
LONGEST = 2000  # characters of what was printed
DEEPEST = 4  # calls that are named of those that led to an error


def answer(request: str) -> None:
    """Print, as JSON, what `run` says of a request in JSON; the page talks to Python this way.

    >>> answer('{"setup": "", "before": [], "code": "x = 1", "checks": [["0a-core", "assert x == 1"]]}')
    {"state": "passed", "text": "The check holds."}
    """
    print(json.dumps(run(**json.loads(request))))


def run(setup: str, before: list[str], code: str, checks: list[list[str]]) -> dict[str, str]:
    r"""Return `{"state": …, "text": …}` of one task.

    The state is "passed", "failed", "unwritten", "unchecked", or "error" where the lines themselves
    do not run. `setup` holds the notebook's first lines, `before` what was written for earlier
    tasks, which later ones may use and whose errors are not told here, and `checks` pairs of a name
    and a cell. A check whose module is not in the page is named as not run.

    >>> run("", [], "def two():\n    return 3", [["0a-core", "assert two() == 2, 'one and one'"]])
    {'state': 'failed', 'text': 'The check fails.\n0a-core: one and one'}
    """
    space: dict[str, Any] = {"__name__": "__main__"}
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        _execute(setup, "the first lines of the notebook", space)
        for earlier in before:
            with suppress(Exception, SystemExit):
                _execute(earlier, "an earlier task", space)
        state, lines = _judge(code, checks, space)
    heard = printed.getvalue().rstrip()
    if heard:
        lines += ["", "printed:", heard[:LONGEST] + (" …" if len(heard) > LONGEST else "")]
    return {"state": state, "text": "\n".join(lines)}


def _judge(code: str, checks: list[list[str]], space: dict[str, Any]) -> tuple[str, list[str]]:
    try:
        _execute(code, YOURS, space)
    except (Exception, SystemExit) as problem:
        return (
            ("unwritten", [_unwritten(code)])
            if _unwritten(code)
            else ("error", ["Your code does not run.", *_told(problem, [YOURS])])
        )
    failed: list[list[str]] = []
    left_out: list[str] = []
    for name, check in checks:
        try:
            _execute(check, name, space)
        except ModuleNotFoundError as missing:
            left_out.append(
                f"{name} needs {missing.name}, which is not in this page; the notebook runs it."
            )
        except (Exception, SystemExit) as problem:
            first, *more = _told(problem, [YOURS, name])
            failed.append(
                [f"{name}: {first}", *(more if not failed else [])]
            )  # later ones often fail for the same reason: a line each
    if failed and _unwritten(code):
        return "unwritten", [_unwritten(code)]
    count = len(checks) - len(left_out)
    state = "failed" if failed else "passed" if count else "unchecked"
    return state, [_verdict(len(failed), count), *sum(failed, []), *left_out]


def _verdict(failed: int, count: int) -> str:
    if count == 0:
        return "No check of this task runs here."
    if failed:
        return (
            "The check fails."
            if count == 1
            else f"{failed} of {count} checks {'fails' if failed == 1 else 'fail'}."
        )
    return "The check holds." if count == 1 else f"All {count} checks hold."


def _unwritten(code: str) -> str:
    """Return what the copy says where a student's lines belong, if it still stands there."""
    try:
        raised = [node.exc for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Raise)]
    except SyntaxError:
        return ""
    stubs = [
        ast.literal_eval(call.args[0])
        for call in raised
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "NotImplementedError"
    ]
    return f"Not written yet: {stubs[0]}" if stubs else ""


def _execute(source: str, name: str, space: dict[str, Any]) -> None:
    linecache.cache[name] = (
        len(source),
        None,
        source.splitlines(keepends=True),
        name,
    )  # for the lines of a traceback
    exec(compile(source, name, "exec"), space)


def _told(problem: BaseException, where: list[str]) -> list[str]:
    """Return an error in lines: its own words, or its name and the places in the student's cells that led to it."""
    if isinstance(problem, AssertionError) and str(problem):
        return str(problem).splitlines()
    if isinstance(problem, SyntaxError):
        return [line.rstrip() for line in traceback.format_exception_only(problem)]
    steps = [
        f"{step.filename}, line {step.lineno}: {step.line}"
        for step in traceback.extract_tb(problem.__traceback__)
        if step.filename in where
    ]
    name = (
        "does not hold"
        if isinstance(problem, AssertionError)
        else f"{type(problem).__name__}: {problem}"
    )
    return [name, *steps[-DEEPEST:]]
