"""Every notebook has the form of docs/notebooks.md, and the .ipynb beside a source is that source with its outputs."""

import ast
import base64
import json
import re
from functools import cache
from pathlib import Path

import pytest

import tinymm
from tinymm.workflows.course import percent

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
MOST_CELLS, MOST_LINES, MOST_BYTES = 25, 12, 3_000_000
HEADER = ("Time", "Needs", "Gives", "Source", "Track", "Edition")
SUBJECTS = ("autodiff", "layers", "losses", "models", "testing", "training")
SECTIONS = (
    "## Break it",
    "## What you may now say",
    "**What you may not say.**",
    "## Read the source",
    "## Exercises",
)

each = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def executed(source):
    return json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))


def code(source):
    return [cell for cell in percent.read(source) if cell.kind == "code"]


def prose(source):
    return "\n\n".join(cell.source for cell in percent.read(source) if cell.kind == "markdown")


def pictures(notebook):
    """Yield (cell, output) for every picture."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if any(kind.startswith("image/") for kind in output.get("data", {})):
                yield cell, output


def test_there_are_notebooks():
    assert SOURCES


# ---------------------------------------------------------------------- source and .ipynb
@each
def test_source_and_notebook_are_in_step(source):
    made, found = percent.notebook(percent.read(source)), executed(source)
    assert [(c["cell_type"], c["id"], "".join(c["source"])) for c in found["cells"]] == [
        (c["cell_type"], c["id"], "".join(c["source"])) for c in made["cells"]
    ], f"the source has changed: python notebooks/build.py {source.stem[:2]}"


@each
def test_notebook_ran_from_top_to_bottom_without_error_or_warning(source):
    found = executed(source)
    cells = [cell for cell in found["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [
        output
        for output in outputs
        if output["output_type"] == "error" or output.get("name") == "stderr"
    ]
    assert not re.search(r"\d%\|", json.dumps(outputs, ensure_ascii=False)), (
        "a progress bar is left in an output"
    )


@each
def test_nothing_in_the_notebook_differs_from_run_to_run(source):
    text = source.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert text == percent.dumps(json.loads(text)) and len(text) < MOST_BYTES
    words = re.sub(r'"image/png": "[^"]*"', "", text)  # the letters of a picture may spell anything
    assert not re.search(r"0x[0-9a-f]{6,}|/tmp/|/home/", words), (
        "an address or a path of a machine is printed"
    )
    assert executed(source)["metadata"]["language_info"] == {"name": "python"}
    for cell, output in pictures(executed(source)):
        png = base64.b64decode(output["data"]["image/png"])
        assert b"tEXt" not in png and b"tIME" not in png, (
            f"{cell['id']}: a PNG names its software or its date"
        )


# ---------------------------------------------------------------------- for the reader
@each
def test_every_figure_has_an_alt_text(source):
    for cell, output in pictures(executed(source)):
        alt = output["metadata"].get("image/png", {}).get("alt", "")
        assert len(alt.split()) >= 5, (
            f"{cell['id']}: a figure without alt text; show it with lesson.show(figure)"
        )
        assert cell["metadata"]["mystnb"]["image"]["alt"] == " ".join(alt.split()), (
            "the docs take the alt text from here"
        )


@each
def test_one_picture_a_cell(source):
    shown = [cell["id"] for cell, _ in pictures(executed(source))]
    assert shown and len(set(shown)) == len(shown)


@each
def test_cells_are_few_and_short(source):
    cells = code(source)
    assert len(cells) <= MOST_CELLS, f"{len(cells)} code cells, at most {MOST_CELLS}"
    for cell in cells:
        lines = [
            line
            for line in cell.source.split("\n")
            if line.strip() and not line.startswith(("import ", "from "))
        ]
        assert len(lines) <= MOST_LINES, (
            f"{source.name}:{cell.line}: {len(lines)} lines in a cell, at most {MOST_LINES}"
        )


@each
def test_header_and_sections(source):
    first, text = percent.read(source)[0].source, prose(source)
    assert re.match(rf"# {int(source.stem[:2])} · \w", first)
    for row in HEADER:
        assert f"| **{row}** |" in first, f"the header lacks {row}"
    assert f"tinymm {tinymm.__version__}" in first
    assert code(source)[0].source.endswith(f'lesson.edition("{tinymm.__version__}")'), (
        "the first cell refuses another edition's package"
    )
    places = [text.find(section) for section in SECTIONS]
    assert -1 not in places and places == sorted(places), dict(zip(SECTIONS, places, strict=True))
    assert f"solutions/{source.name}" in text, "the exercises are linked at the end"


@each
def test_reader_predicts_and_is_not_held_up(source):
    """A guess is asked for in a cell of its own, is None where nothing is filled in, and is answered in a later cell."""
    cells = [cell.source for cell in code(source)]
    asked = {
        name: i
        for i, text in enumerate(cells)
        for name in re.findall(r"^(guess\w*) = ", text, re.M)
    }
    assert len(asked) >= 3
    for name, place in asked.items():
        assert f"{name} = None  #" in cells[place], (
            f"{name} is None, with a comment that says what kind of answer it is"
        )
        assert all(re.match(r"guess\w* = None  #", line) for line in cells[place].split("\n")), (
            "a guess has a cell of its own"
        )
        answers = [
            i
            for i, text in enumerate(cells)
            if re.search(rf"lesson\.predicted\([^\n]+ {name},", text)
        ]
        assert answers and min(answers) > place, f"{name} is never shown beside the truth"
    assert "**Predict.**" in prose(source)


@each
def test_a_check_finds_the_planted_mistake(source):
    text = "\n".join(
        "".join(o["text"])
        for c in executed(source)["cells"]
        for o in c.get("outputs", [])
        if o.get("name") == "stdout"
    )
    assert (
        "lesson.caught(" in source.read_text()
        and "why it matters:" in text
        and "smallest failing input:" in text
    )


@each
def test_links_of_notebooks_lead_somewhere(source):
    links = re.findall(r"\]\(([^)#]+)\)", prose(source))
    for target in links:
        assert target.startswith("https://") or (source.parent / target).exists(), (
            f"{source.name} links to {target}"
        )
    assert len([target for target in links if target.startswith("../tinymm/")]) >= 3, (
        "the sources that are imported are linked"
    )


# ---------------------------------------------------------------------- never a second copy
@cache
def of_the_package():
    """Return the names and the bodies of the package's functions and classes with their places.

    Names are those of the chapters that the course is about; that data or drawings call something
    `pictures`, too, is no second copy.
    """
    names, bodies = {}, {}
    for path in sorted(Path(tinymm.__file__).parent.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                if path.parts[len(Path(tinymm.__file__).parent.parts)] in SUBJECTS:
                    names[node.name] = f"{path.name}:{node.lineno}"
                bodies[fingerprint(node)] = f"{path.name}:{node.lineno}"
    return names, bodies


def fingerprint(node):
    """Return the body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return "".join(ast.dump(line) for line in body)


def declared(cells):
    """Yield (line, node, whether its name is the notebook's own) for each function and class; those inside of others have no name outside."""
    for cell in cells:
        tree = ast.parse(cell.source)
        inside = {
            id(child)
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            for child in node.body
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and id(node) not in inside:
                yield cell.line, node, node in tree.body


@each
def test_no_library_code_is_declared_again(source):
    names, bodies = of_the_package()
    for line, node, named in declared(code(source)):
        taken = named and node.name in names
        assert not taken, (
            f"{source.name}:{line} declares {node.name}, which is {names[node.name]}; import it, or name yours otherwise"
        )
        assert fingerprint(node) not in bodies, (
            f"{source.name}:{line}: {node.name} is {bodies[fingerprint(node)]} again"
        )


def test_a_second_copy_is_noticed():
    names, bodies = of_the_package()
    copied = "def mine(T):\n    return np.tri(T, dtype=bool)\n\ndef other():\n    def causal_mask():\n        pass"
    found = list(declared([percent.Cell("code", copied)]))
    assert fingerprint(found[0][1]) in bodies and "causal_mask" in names and "Module" in names
    assert [(node.name, named) for _, node, named in found] == [
        ("mine", True),
        ("other", True),
        ("causal_mask", False),
    ]


@pytest.mark.extra
def test_jupytext_reads_the_same_cells():
    """Whoever opens a source in JupyterLab sees what the reader's copy holds."""
    jupytext = pytest.importorskip("jupytext")
    for source in [*SOURCES, *sorted((ROOT / "notebooks" / "solutions").glob("*.py"))]:
        theirs = [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
        assert theirs == [(cell.kind, cell.source) for cell in percent.read(source)], source.name
