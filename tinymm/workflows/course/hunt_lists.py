"""The right and the wrong implementations of a check, from `tests/testing/check` of a checkout: as functions, and as text to hand out.

The lists are the tests' own: what a student hunts has been shown to break a property, and what must
not be caught has been shown to keep all.
"""

import ast
import importlib
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import tinymm
from tinymm.arrays.errors import DataError, UsageError


def folder() -> Path:
    """Return where the lists lie; UsageError where this is no checkout."""
    place = Path(tinymm.__file__).parents[1] / "tests" / "testing" / "check"
    if not (place / "wrong.py").exists():
        raise UsageError(
            f"a bug hunt is made of the lists in tests/testing/check of a checkout, and {place} has 0 of them; run it from a checkout"
        )
    return place


def load() -> tuple[dict[str, dict[str, dict[str, Any]]], dict[str, dict[str, dict[str, Any]]]]:
    """Return the right and the wrong contracts by check and name, and forget the modules that they came from."""
    place = folder()
    own = [path.stem for path in place.glob("*.py")]
    before = {name: sys.modules.pop(name) for name in own if name in sys.modules}
    sys.path.insert(0, str(place))
    try:
        return importlib.import_module("kept").RIGHT, importlib.import_module("wrong").WRONG
    finally:
        sys.path.remove(str(place))
        for name in own:
            sys.modules.pop(name, None)
        sys.modules.update(before)


def functions(check: str) -> tuple[dict[str, Callable], dict[str, Callable]]:
    """Return by name the right functions of tinymm's own convention and the wrong ones; UsageError for a check without a hunt.

    Right are the plain one and all that need no other word in their contract, however unusual.
    Wrong are those whose mistake is in the function itself and breaks more than the strict tier,
    since what only that one catches (a mask of -10000) is done on purpose elsewhere.
    """
    from tinymm.testing.check import CHECKS

    right, wrong = load()
    if check not in wrong or check not in CHECKS:
        raise UsageError(
            f"a bug hunt is about one of {', '.join(wrong)}, and {check!r} came; choose one of these"
        )
    kept = {
        name: contract["fn"]
        for name, contract in right[check].items()
        if all(callable(value) for value in contract.values())
    }
    planted = {
        name: contract["fn"]
        for name, contract in wrong[check].items()
        if set(contract) == {"fn"} and not _only_strict(check, name)
    }
    if len(planted) < 4:
        raise UsageError(
            f"a bug hunt needs 4 functions that are wrong in themselves, and check.{check} has {len(planted)}; choose another check"
        )
    return kept, planted


def _only_strict(check: str, mistake: str) -> bool:
    from tinymm.testing.causes import CAUSES
    from tinymm.testing.check import CHECKS

    properties = CHECKS[check].suite.properties
    return all(properties[key].tier == "strict" for key in CAUSES[check][mistake].split())


class Text:
    """The source of listed functions with all that it needs, so that a hand-out stands alone.

    >>> text = Text()
    >>> text.add_function("right", "causal_mask")
    >>> print(text.written())
    import numpy as np
    <BLANKLINE>
    <BLANKLINE>
    def causal_mask(n):
        return np.tri(n, dtype=bool)
    """

    def __init__(self) -> None:
        self.imports: set[str] = {"import numpy as np"}
        self.pieces: list[str] = []
        self.origin: dict[str, str] = {}

    def add_function(self, module: str, name: str) -> None:
        """Append a definition of a module, once, after what it is made of; DataError if another module's has its name."""
        known = Module.named(module)
        if isinstance(node := known.defined.get(name), ast.ImportFrom):
            return self.add_function(str(node.module), name)
        if self.origin.get(name, module) != module:
            raise DataError(
                f"a hand-out has one function a name, and {name} of {self.origin[name]} and of {module} came; rename one in the lists"
            )
        if name in self.origin or node is None:
            return
        self.origin[name] = module
        self.add_needs(known, node)
        self.pieces.append(ast.get_source_segment(known.source, node) or ast.unparse(node))

    def add_needs(self, known: "Module", node: ast.AST) -> None:
        """Append all definitions that a piece of a module refers to."""
        for part in ast.walk(node):
            if (
                isinstance(part, ast.Attribute)
                and isinstance(part.value, ast.Name)
                and part.value.id in known.aliases
            ):
                alias, name = part.value.id, part.attr
                self.add_function(known.aliases[alias], name)
                if f"{alias} = SimpleNamespace()" not in self.imports:
                    self.imports |= {
                        "from types import SimpleNamespace",
                        f"{alias} = SimpleNamespace()",
                    }
                if (line := f"{alias}.{name} = {name}") not in self.pieces:
                    self.pieces.append(line)
            elif isinstance(part, ast.Name) and part.id in known.defined:
                self.add_function(known.name, part.id)
            elif isinstance(part, ast.Name) and part.id in known.libraries:
                self.imports.add(known.libraries[part.id])

    def add_mistake(self, check: str, mistake: str, name: str) -> None:
        """Append a planted mistake under another name, which says nothing about it; DataError for one that is planted nowhere."""
        for known in map(Module.named, sorted(path.stem for path in folder().glob("wrong_*.py"))):
            if (expression := known.planted.get((check, mistake))) is not None:
                self.add_needs(known, expression)
                self.pieces.append(f"{name} = {ast.unparse(expression)}")
                return
        raise DataError(
            f"a planted mistake is an argument of planted({check!r}, …), and {mistake!r} is none; write it so in tests/testing/check"
        )

    def written(self) -> str:
        """Return the text: imports, empty namespaces, definitions in the order in which they are needed."""
        front = sorted(
            self.imports,
            key=lambda line: (line.endswith("()"), not line.startswith("import"), line),
        )
        return "\n".join(front) + "\n\n\n" + "\n\n\n".join(self.pieces)


class Module:
    """A file of the lists, read and not run."""

    _read: dict[Path, "Module"] = {}

    def __init__(self, path: Path) -> None:
        self.name, self.source = path.stem, path.read_text(encoding="utf-8")
        self.defined: dict[str, ast.AST] = {}
        self.aliases: dict[str, str] = {}
        self.libraries: dict[str, str] = {}
        beside = {other.stem for other in path.parent.glob("*.py")}
        for node in ast.parse(self.source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                self.defined[node.name] = node
            elif isinstance(node, ast.Assign):
                self.defined.update(
                    {
                        part.id: node
                        for target in node.targets
                        for part in ast.walk(target)
                        if isinstance(part, ast.Name)
                    }
                )
            elif isinstance(node, ast.ImportFrom) and node.module in beside:
                self.defined.update({alias.name: node for alias in node.names})
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    if isinstance(node, ast.Import) and alias.name in beside:
                        self.aliases[alias.asname or alias.name] = alias.name
                    else:
                        self.libraries[alias.asname or alias.name] = ast.unparse(node)

    @classmethod
    def named(cls, name: str) -> "Module":
        """Return a file of the lists by its name, read once."""
        path = folder() / f"{name}.py"
        return cls._read.setdefault(path, cls(path)) if path not in cls._read else cls._read[path]

    @cached_property
    def planted(self) -> dict[tuple[str, str], ast.AST]:
        """The mistakes that this file plants, by check and name."""
        found: dict[tuple[str, str], ast.AST] = {}
        for node in ast.walk(ast.parse(self.source)):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", "") == "planted"
                and isinstance(node.args[0], ast.Constant)
            ):
                found.update(
                    {
                        (str(node.args[0].value), str(word.arg).replace("_", " ")): word.value
                        for word in node.keywords
                    }
                )
        return found
