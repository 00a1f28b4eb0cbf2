"""Judging one submission of a bug hunt, in a process of its own: limits on time and memory, and nothing of what it prints is kept.

A limit is no prison: whoever grades code of people that they do not trust does so where it can do
no harm. What is guarded against is what happens in honest classes: an endless loop, a gigabyte, a
flood of output, a file that does not import, a property that counts its calls.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tinymm
from tinymm.arrays.errors import TinymmError

SECONDS = 20.0
MEMORY = 4 * 2**30
LARGEST_ANSWER = 2**20


def judged(check: str, file: str | Path, seconds: float = SECONDS) -> dict[str, Any]:
    """Return {"verdicts": {"right/NAME" or "wrong/NAME": what the property said, or ""}}, or {"problem": a sentence}."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        asked = json.dumps(
            {"check": check, "file": str(Path(file).resolve()), "answer": str(answer)}
        )
        environment = os.environ | {
            "PYTHONPATH": str(Path(tinymm.__file__).parents[1]),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        try:
            process.communicate(asked.encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            return {"problem": f"was stopped after {seconds:g} s, its share of time"}
        finally:
            _end(process)
        if not answer.is_file() or answer.stat().st_size > LARGEST_ANSWER:
            return {
                "problem": f"ended its process with code {process.returncode} before it was judged"
            }
        return json.loads(answer.read_text())


def _end(process: subprocess.Popen) -> None:
    """End a process and what it has started, where processes have groups."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def main() -> None:
    """Judge what standard input asks for, and write the answer where it says."""
    asked = json.load(sys.stdin)
    from . import hunt_lists, own_code

    kept, planted = hunt_lists.functions(asked["check"])
    judge = {f"right/{name}": fn for name, fn in kept.items()} | {
        f"wrong/{name}": fn for name, fn in planted.items()
    }
    own_code.limit(MEMORY)
    answer = {"problem": "used more than its share of memory"}
    try:
        answer = judgment(asked["file"], judge)
    except TinymmError as error:
        answer = {"problem": str(error)}
    except MemoryError:
        pass
    Path(asked["answer"]).write_text(json.dumps(answer))


def judgment(file: str, functions: dict[str, Callable]) -> dict[str, Any]:
    """Ask the property about each function twice, in one random order and then backwards, so that one that counts its calls gains nothing.

    What it says must be the same both times; otherwise a right function counts as caught, and a
    wrong one as let pass.
    """
    from .own_code import load

    names, problems = load(file)
    holds = names.get("holds")
    if not callable(holds):
        return {
            "problem": f"defines no function holds(fn){''.join(f'; {place}: {said}' for place, said in list(problems.items())[:1])}"
        }
    order = list(functions)
    random.SystemRandom().shuffle(order)
    first = {name: verdict(holds, functions[name]) for name in order}
    second = {name: verdict(holds, functions[name]) for name in reversed(order)}
    return {"verdicts": {name: _both(name, first[name], second[name]) for name in functions}}


def verdict(holds: Callable, fn: Callable) -> str:
    """Return "" if the property lets a function pass, and what it said otherwise.

    >>> verdict(lambda fn: fn(2) == 4, lambda x: x + 2), verdict(lambda fn: fn(2) == 4, lambda x: x)
    ('', 'returned False')
    """

    def asked(*given: Any) -> Any:  # a plain name tells nothing about whose function this is
        return fn(*given)

    try:
        # a class stays one, since a property may look inside of what it makes
        said = holds(fn if isinstance(fn, type) else asked)
        return "" if said is None or bool(said) else f"returned {said!r}"[:100]
    except (Exception, SystemExit) as found:
        return f"{type(found).__name__}: {' '.join(str(found).split())}"[:200]


def _both(name: str, first: str, second: str) -> str:
    if bool(first) == bool(second):
        return first
    return "says one thing and then another" if name.startswith("right/") else ""


if __name__ == "__main__":
    main()
