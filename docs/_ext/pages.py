"""Pages that follow from the tree: annotated source, API, tutorials, the lists of exercises and of letters.

They are written into folders that git does not know, before Sphinx looks for pages; a file whose
text is the same is left alone, so that a second build has nothing to do. What no longer exists is
removed.
"""

import json
import re
from pathlib import Path

import catalogue
import lessons
import properties
import sheet_axes
import sheet_evaluation
import sheet_losses
import sheet_masks
import sheet_shapes
import stops
import symbols
from tree import (
    PACKAGE,
    ROOT,
    children,
    defines,
    dotted,
    modules,
    page,
    passes_on,
    rewritten,
    tests_of,
)

DOCS = ROOT / "docs"
MADE = ("annotated", "api", "sheets", "tutorials", "_made")
AT_MOST = 8  # tests that an annotated page names
#: Pages with numbers and the commands that gave them; a checkout may lack some.
MEASURED = ("benchmark", "arithmetic", "gpu", "memory", "parallel")


def heading(text: str) -> str:
    """Return a title as reStructuredText has it."""
    return f"{text}\n{'=' * len(text)}\n\n"


def toctree(entries: list[str], options: str = "") -> str:
    """Return a list of pages that belong below this one."""
    return (
        ".. toctree::\n   :maxdepth: 1\n"
        + options
        + "\n"
        + "".join(f"   {entry}\n" for entry in entries)
        + "\n"
        if entries
        else ""
    )


def annotated(path: Path, tests: list[Path]) -> str:
    """Return the page of one file of the package: where it belongs, its tests, its rows, and what stands below it."""
    name, below = (
        dotted(path),
        children(path.parent) if path.name == "__init__.py" and path.parent != PACKAGE else [],
    )
    chapter = name.split(".")[1] if name.count(".") else ""
    where = [f"``{path.relative_to(ROOT).as_posix()}``"]
    if chapter and not chapter.startswith("__"):
        where.append(
            f":doc:`Chapter {chapter} </annotated/{chapter}>`"
            if name.count(".") > 1
            else f":doc:`API </api/{chapter}>`"
        )
        where += [f":py:mod:`API <{name}>`"] if name.count(".") > 1 else []
    if tests:
        where.append(
            "Tests: "
            + ", ".join(
                f":doc:`{test.stem.removeprefix('test_')} </{page(test)}>`"
                for test in tests[:AT_MOST]
            )
        )
    body = f".. annotated:: ../{path.relative_to(ROOT).as_posix()}\n"
    entries = [
        f"{p.parent.name if p.name == '__init__.py' else p.stem} </{page(p)}>" for p in below
    ]
    return (
        heading(name)
        + ".. rst-class:: where\n\n"
        + " · ".join(where)
        + "\n\n"
        + toctree(entries)
        + body
    )


def of_test(path: Path) -> str:
    """Return the page of a test, which is reached from what it tests and stands in no list."""
    where = path.relative_to(ROOT).as_posix()
    return f":orphan:\n:nosearch:\n\n{heading(where)}.. annotated:: ../{where}\n"


def api(folder: Path) -> str:
    """Return the page of a chapter's public names, one section a file."""
    text = heading(f"tinymm.{folder.name}")
    for path in modules(folder):
        name, members = dotted(path), "   :members:\n" if defines(path) else ""
        title = name.removeprefix("tinymm.")
        text += f"{title}\n{'-' * len(title)}\n\n" if path.parent != folder or members else ""
        text += f".. automodule:: {name}\n{members}\n{catalogue.of(name)}.. rst-class:: where\n\n:doc:`Read the source </{page(path)}>`\n\n"
        if short := sorted(set(passes_on(path).items())) if not members else []:
            text += (
                f"``from {name} import`` "
                + ", ".join(f":py:obj:`{as_} <{full}>`" for as_, full in short)
                + ".\n\n"
            )
    return text


def listed(stems: list[str], caption: str) -> str:
    """Return a list of pages for the sidebar, or nothing where this checkout has none of them."""
    return (
        f"```{{toctree}}\n:hidden:\n:caption: {caption}\n" + "\n".join(stems) + "\n```\n"
        if stems
        else ""
    )


def further() -> tuple[list[str], list[str]]:
    """Return the pages that the start page does not name: those of measurements, and all others."""
    named = set(re.findall(r"^(\w+)$", (DOCS / "index.md").read_text(encoding="utf-8"), re.M)) | {
        "index"
    }
    rest = sorted({path.stem for path in DOCS.glob("*.md")} - named)
    return [stem for stem in rest if stem in MEASURED], [
        stem for stem in rest if stem not in MEASURED
    ]


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
    made |= {
        f"{page(path)}.rst": of_test(path)
        for path in sorted({t for found in tests.values() for t in found[:AT_MOST]})
    }
    made |= {
        f"api/{folder.parent.name}.rst": api(folder.parent)
        for folder in PACKAGE.glob("*/__init__.py")
    }
    notebooks = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    made |= {f"tutorials/{path.name}": notebook(path) for path in notebooks}
    made |= {
        "_made/tutorials.md": lessons.tutorials(notebooks),
        "_made/times.md": lessons.times(notebooks),
    }
    measured, others = further()
    made["_made/measured.md"] = listed(measured, "Measured") + listed(others, "More")
    made["_made/exercises.md"] = lessons.exercises(
        sorted((ROOT / "notebooks" / "solutions").glob("[0-9][0-9]_*.py"))
    )
    made |= {"_made/letters.md": symbols.letters(), "_made/sizes.md": symbols.sizes()}
    made |= {"_made/catalogue.md": properties.catalogue(), "_made/stops.md": stops.walk()}
    made |= {
        "sheets/masks.md": sheet_masks.sheet(),
        "sheets/losses.md": sheet_losses.sheet(),
        "sheets/axes.md": sheet_axes.sheet(),
    }
    made |= {
        "sheets/shapes_clip.md": sheet_shapes.clip(),
        "sheets/shapes_blip2.md": sheet_shapes.blip2(),
    }
    made["sheets/evaluation.md"] = sheet_evaluation.sheet()
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
