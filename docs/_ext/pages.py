"""Pages that follow from the tree: annotated source, API, tutorials, the lists of exercises and of letters.

They are written into folders that git does not know, before Sphinx looks for pages; a file whose text is the same is left alone, so that a second
build has nothing to do. What no longer exists is removed.
"""

import json
import re
import sys
from pathlib import Path

from tree import PACKAGE, ROOT, children, dotted, modules, page, rewritten, tests_of

DOCS = ROOT / "docs"
MADE = ("annotated", "api", "tutorials", "_made")
AT_MOST = 8  # tests that an annotated page names


def heading(text: str) -> str:
    """Return a title as reStructuredText has it."""
    return f"{text}\n{'=' * len(text)}\n\n"


def toctree(entries: list[str], options: str = "") -> str:
    """Return a list of pages that belong below this one."""
    return ".. toctree::\n   :maxdepth: 1\n" + options + "\n" + "".join(f"   {entry}\n" for entry in entries) + "\n" if entries else ""


def annotated(path: Path, tests: list[Path]) -> str:
    """Return the page of one file of the package: where it belongs, its tests, its rows, and what stands below it."""
    name, below = dotted(path), children(path.parent) if path.name == "__init__.py" and path.parent != PACKAGE else []
    chapter = name.split(".")[1] if name.count(".") else ""
    where = [f"``{path.relative_to(ROOT).as_posix()}``"]
    if chapter and not chapter.startswith("__"):
        where.append(f":doc:`Chapter {chapter} </annotated/{chapter}>`" if name.count(".") > 1 else f":doc:`API </api/{chapter}>`")
        where += [f":py:mod:`API <{name}>`"] if name.count(".") > 1 else []
    if tests:
        where.append("Tests: " + ", ".join(f":doc:`{test.stem.removeprefix('test_')} </{page(test)}>`" for test in tests[:AT_MOST]))
    up = "/".join([".."] * page(path).count("/"))
    body = f".. annotated:: ../{path.relative_to(ROOT).as_posix()}\n"
    listed = [f"{p.parent.name if p.name == '__init__.py' else p.stem} </{page(p)}>" for p in below]
    assert up
    return heading(name) + ".. rst-class:: where\n\n" + " · ".join(where) + "\n\n" + toctree(listed) + body


def of_test(path: Path) -> str:
    """Return the page of a test, which is reached from what it tests and stands in no list."""
    where = path.relative_to(ROOT).as_posix()
    return f":orphan:\n:nosearch:\n\n{heading(where)}.. annotated:: ../{where}\n"


def api(folder: Path) -> str:
    """Return the page of a chapter's public names, one section a file."""
    text = heading(f"tinymm.{folder.name}") + f":doc:`Annotated source of this chapter </annotated/{folder.name}>`\n\n"
    for path in modules(folder):
        name = dotted(path)
        title = name.removeprefix("tinymm.")
        text += f"{title}\n{'-' * len(title)}\n\n.. automodule:: {name}\n   :members:\n\n   :doc:`Read the source </{page(path)}>`\n\n"
    return text


def exercises(sources: list[Path]) -> str:
    """Return the list of exercises: one section a notebook, one line a task, with its points."""
    if not sources:
        return "This checkout has no exercises yet.\n"
    text = ""
    for source in sources:
        lines = source.read_text(encoding="utf-8").split("\n")
        title = next((line.lstrip("# ") for line in lines if line.startswith("# # ")), source.stem)
        tasks = [re.sub(r"^# (?:## |\*\*)(.+?)(?:\*\*.*)?$", r"\1", line) for line in lines if re.match(r"# (## \d+\w? · |\*\*Puzzle)", line)]
        points = sum(int(n) for n in re.findall(r"^# %%.* points=(\d+)", "\n".join(lines), re.M))
        text += f"## {title}\n\n" + "".join(f"- {task.rstrip('. ')}\n" for task in tasks) + f"\n{points} points in all.\n\n"
    return text


def letters() -> str:
    """Return the table of letters: their meaning from the conventions, and where the shape comments that the tests execute have them first."""
    sys.path.insert(0, str(ROOT / "tests"))
    from shape_comments import claims_of

    rows = re.findall(r"(?<=\|) *(`[^|]+) *\| *([^|]+?) *(?=\|)", (DOCS / "conventions.md").read_text(encoding="utf-8").split("## Masks")[0])
    claims = [(path, claim) for folder in ("layers", "losses", "models") for path in modules(PACKAGE / folder) for claim in claims_of(path)]
    text = "| letter | meaning | comments | first in |\n|---|---|---|---|\n"
    for names, meaning in rows:
        wanted = set(re.findall(r"\w+", names))
        met = [path for path, claim in claims if wanted & set(re.findall(r"[A-Za-z]\w*", " ".join(sum(claim.shapes, ()))))]
        first = f"[{dotted(met[0]).removeprefix('tinymm.')}](/{page(met[0])}.rst)" if met else "–"
        text += f"| {names.strip()} | {meaning} | {len(met) or '–'} | {first} |\n"
    return text


def notebook(path: Path) -> str:
    """Return a notebook as it is committed, its links led to this site's pages."""
    made = json.loads(path.read_text(encoding="utf-8"))
    for cell in made["cells"]:
        if cell["cell_type"] == "markdown":
            source = cell["source"]
            cell["source"] = rewritten(source if isinstance(source, str) else "".join(source))
    return json.dumps(made, ensure_ascii=False)


def contents() -> dict[str, str]:
    """Return every page that is made, by its place below `docs`."""
    tests = tests_of()
    made = {f"{page(path)}.rst": annotated(path, tests.get(dotted(path), [])) for path in modules()}
    made |= {f"{page(path)}.rst": of_test(path) for path in sorted({t for found in tests.values() for t in found[:AT_MOST]})}
    made |= {f"api/{folder.parent.name}.rst": api(folder.parent) for folder in PACKAGE.glob("*/__init__.py")}
    made |= {f"tutorials/{path.name}": notebook(path) for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")}
    made["_made/exercises.md"] = exercises(sorted((ROOT / "notebooks" / "solutions").glob("[0-9][0-9]_*.py")))
    made["_made/letters.md"] = letters()
    return made


def write() -> None:
    """Write the pages that are new or changed, and remove those that are no longer made."""
    made = contents()
    for folder in MADE:
        for path in (DOCS / folder).rglob("*"):
            if path.is_file() and path.relative_to(DOCS).as_posix() not in made:
                path.unlink()
    for name, text in made.items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
