"""The tree of the package as the site sees it: which modules there are, in which order they are read, and which tests speak of them."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tinymm"
SOLUTIONS = ROOT / "notebooks" / "solutions"
#: Links in pages and notebooks to files of the checkout, as a reader on a code host follows them.
TO_SOURCE = re.compile(r"(?:\.\./)+(tinymm|tests)/([\w/]+)\.py(?:#\w+)?(?=[)\"])")
TO_EXERCISES = re.compile(r"(?<=\()(?:\.\./notebooks/)?solutions/(\w+)\.(?:py|ipynb)(?=\))")
TO_NOTEBOOK = re.compile(r"(?:\.\./)+notebooks/(\d\d_\w+)\.(?:py|ipynb)(?=[)\"])")
TO_PAGE = re.compile(r"(?:\.\./)+docs/(\w+)\.md(?=[)\"])")


def dotted(path: Path) -> str:
    """Return the name by which a file is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def page(path: Path) -> str:
    """Return the name of a file's annotated page: the package's own is `annotated/__init__`, that of a folder has the folder's name."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = parts[1:] if parts[0] == "tinymm" else parts
    return "annotated/" + "/".join(
        parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts
    )


def children(folder: Path) -> list[Path]:
    """Return what stands in a folder of the package in the order in which its `__init__` names it; what it does not name comes last."""
    found = [p for p in folder.glob("*.py") if p.name != "__init__.py"] + [
        p for p in folder.glob("*/__init__.py")
    ]
    named = re.findall(
        r"`(\w+)/?`",
        ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or "",
    )
    name = {p: p.parent.name if p.name == "__init__.py" else p.stem for p in found}
    return sorted(
        found, key=lambda p: (named.index(name[p]) if name[p] in named else len(named), name[p])
    )


def modules(folder: Path = PACKAGE) -> list[Path]:
    """Return every file of a folder of the package, its `__init__` first, in reading order."""
    found = [folder / "__init__.py"]
    for path in children(folder):
        found += modules(path.parent) if path.name == "__init__.py" else [path]
    return found


def defines(path: Path) -> bool:
    """Say whether a file has functions or classes of its own, as every file has but most `__init__`s."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return path.name != "__init__.py" or any(
        isinstance(node, ast.FunctionDef | ast.ClassDef) for node in body
    )


def imported(path: Path) -> set[str]:
    """Return the names that a file imports from tinymm, each as `module.name`; what a chapter passes on is followed to where it is made."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.ImportFrom)
            and not node.level
            and (node.module or "").startswith("tinymm")
        ):
            passed_on = passes_on(ROOT / node.module.replace(".", "/") / "__init__.py")
            found |= {
                passed_on.get(alias.name, f"{node.module}.{alias.name}") for alias in node.names
            }
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("tinymm")}
    return found


def passes_on(init: Path) -> dict[str, str]:
    """Return which names a chapter takes from its own files, and from where."""
    if not init.exists():
        return {}
    nodes = [
        n
        for n in ast.walk(ast.parse(init.read_text(encoding="utf-8")))
        if isinstance(n, ast.ImportFrom) and n.level == 1 and n.module
    ]
    return {
        alias.name: f"{dotted(init)}.{node.module}.{alias.name}"
        for node in nodes
        for alias in node.names
    }


def tests_of() -> dict[str, list[Path]]:
    """Return for each module the tests that import from it, those in the folder of its chapter first."""
    found: dict[str, list[Path]] = {}
    names = {dotted(path): path for path in modules()}
    for test in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in sorted(
            {n if n in names else n.rpartition(".")[0] for n in imported(test)} & set(names)
        ):
            found.setdefault(name, []).append(test)
    for name, tests in found.items():
        chapter, own = (name.split(".") + [""])[1], name.rpartition(".")[2]
        tests.sort(key=lambda test: (own not in test.stem, test.parent.name != chapter, test.stem))
    return found


def exercises_of(path: Path) -> tuple[str, str]:
    """Return the title of a notebook's exercises, and the anchor that this title has on the exercises' page."""
    title = re.search(r"^# # (.+)$", path.read_text(encoding="utf-8"), re.M)[1]
    return title, re.sub(r"[^\w\- ]", "", title.strip().lower().replace(" ", "-"))


def rewritten(text: str) -> str:
    """Lead links to files of the checkout to this site's pages: source to its annotated page, notebooks, solutions and `docs/` to theirs."""
    text = TO_NOTEBOOK.sub(r"/tutorials/\1.ipynb", text)
    to_source = TO_SOURCE.sub(lambda m: f"/{page(ROOT / m[1] / (m[2] + '.py'))}.rst", text)
    return TO_EXERCISES.sub(
        lambda m: f"/exercises.md#{exercises_of(SOLUTIONS / f'{m[1]}.py')[1]}",
        TO_PAGE.sub(r"/\1.md", to_source),
    )
