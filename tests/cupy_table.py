"""What CuPy takes, written down: `python tests/cupy_table.py` prints `cupy_table.json` anew (needs the wheel, and no GPU).

The stand-in of the tests (`strict_array`) goes by this table, so that a keyword or a function that
CuPy lacks fails where no CuPy is installed.
"""

import functools
import inspect
import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".json")
#: How a parameter is written in the table.
MARKS = {
    inspect.Parameter.VAR_POSITIONAL: "*{}",
    inspect.Parameter.VAR_KEYWORD: "**{}",
    inspect.Parameter.KEYWORD_ONLY: "/{}",
}


def written(function):
    """Return a signature as words: `a axis= /keepdims=`; what stands behind a slash is given by name only. None where there is no signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return " ".join(
        MARKS.get(p.kind, "{}").format(p.name) + ("=" if p.default is not p.empty else "")
        for p in parameters
    )


def signature(words):
    """Return what `written` wrote down as a signature that arguments can be bound to."""
    kinds = {
        "**": inspect.Parameter.VAR_KEYWORD,
        "*": inspect.Parameter.VAR_POSITIONAL,
        "/": inspect.Parameter.KEYWORD_ONLY,
    }
    found = []
    for word in words.split():
        mark = next((mark for mark in kinds if word.startswith(mark)), "")
        default = None if word.endswith("=") else inspect.Parameter.empty
        kind = kinds.get(mark, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        found.append(
            inspect.Parameter(word.removeprefix(mark).removesuffix("="), kind, default=default)
        )
    return inspect.Signature(found)


def table(cupy):
    """Return the version, the functions (with their parameters), ufuncs and methods that a CuPy has beside NumPy's."""
    functions, ufuncs = {}, []
    for prefix in ("", "linalg.", "lib.stride_tricks."):
        module, ours = (
            functools.reduce(getattr, prefix.split(".")[:-1], library) for library in (cupy, np)
        )
        for name in sorted(set(dir(module)) & set(dir(ours))):
            theirs, own = getattr(module, name), getattr(ours, name)
            if (
                name.startswith("_")
                or not callable(theirs)
                or isinstance(own, type)
                or theirs is own
            ):
                continue
            if isinstance(own, np.ufunc):
                ufuncs.append(name)
            else:
                functions[prefix + name] = written(theirs)
    methods = [
        name for name in dir(cupy.ndarray) if not name.startswith("_") and hasattr(np.ndarray, name)
    ]
    return {
        "version": cupy.__version__,
        "functions": functions,
        "ufuncs": ufuncs,
        "methods": methods,
    }


def load():
    """Return the stored table."""
    return json.loads(FILE.read_text())


if __name__ == "__main__":
    import cupy

    print(json.dumps(table(cupy), indent=1))
