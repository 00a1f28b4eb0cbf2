"""The tree is the syllabus: what a chapter may import, what `import tinymm` costs, and how the files read."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import tinymm

ROOT = Path(tinymm.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.rglob("*.py"))
CHAPTERS = sorted(path.name for path in ROOT.iterdir() if (path / "__init__.py").exists())
LONGEST, CEILING = 250, 350


def name(path):
    return path.relative_to(ROOT.parent).as_posix()


def imports(path):
    """Yield (line, module) for every import of a file, those inside functions too, relative ones made absolute."""
    package = list(path.relative_to(ROOT.parent).with_suffix("").parts)[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            front = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*front, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


# ---------------------------------------------------------------------- who imports whom
def test_chapters_are_those_of_the_contents_page():
    listed = re.findall(r"^\d+ +(\w+)", tinymm.__doc__, re.M)
    assert listed == CHAPTERS, (
        "tinymm/__init__.py lists the chapters in alphabetical order, which is reading order"
    )


def module_of(path):
    """Return a file's dotted name."""
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imported_file(module):
    """Return the file of the package that an imported name belongs to, or None for another package."""
    while module and module not in MODULES:
        module = module.rpartition(".")[0]
    return MODULES.get(module)


def breach(path, imported):
    """Return why a file must not import another, or nothing.

    A folder's own files come first, then its sub-folders in alphabetical order: a file imports
    files beside it, files of the folders it lies in, and sub-folders that sort before its own.
    """
    here, there = path.relative_to(ROOT).parts, imported.relative_to(ROOT).parts
    is_folder = there[-1] == "__init__.py"
    there = there[:-1] if is_folder else there
    shared = next(
        (i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b),
        min(len(here), len(there)),
    )
    if shared == len(there) or not is_folder and shared == len(there) - 1:
        return ""  # a folder that it lies in, or a file of one
    if shared == len(here) - 1:
        return f"which lies in the sub-folder {there[shared]}, and a folder's own files come first"
    return "" if there[shared] < here[shared] else f"and {there[shared]} sorts after {here[shared]}"


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.name not in ("__init__.py", "__main__.py")], ids=name
)
def test_a_file_imports_only_what_comes_before_it(path):
    for line, module in imports(path):
        imported = imported_file(module)
        if imported is not None and (why := breach(path, imported)):
            raise AssertionError(f"{name(path)}:{line} imports {name(imported)}, {why}")


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.name == "__init__.py" and p.parent != ROOT], ids=name
)
def test_a_folder_imports_only_chapters_before_its_own(path):
    """An `__init__` may name what its folder holds; another chapter's names come from before it."""
    chapter = path.relative_to(ROOT).parts[0]
    for line, module in imports(path):
        if module.startswith("tinymm.") and (imported := module.split(".")[1]) in CHAPTERS:
            assert imported <= chapter, (
                f"{name(path)}:{line} imports {imported}, which sorts after {chapter}"
            )


@pytest.mark.parametrize(
    ("path", "imported", "lawful"),
    [
        ("viz/masks/figure.py", "viz/masks/cells.py", True),
        ("viz/masks/cells.py", "viz/masks/figure.py", True),
        ("viz/masks/figure.py", "viz/style.py", True),
        ("viz/masks/figure.py", "viz/__init__.py", True),
        ("viz/masks/figure.py", "viz/attention/maps.py", True),
        ("viz/masks/figure.py", "viz/models/systems.py", False),
        ("viz/masks/figure.py", "viz/models/__init__.py", False),
        ("viz/style.py", "viz/attention/maps.py", False),
        ("viz/style.py", "viz/attention/__init__.py", False),
        ("viz/style.py", "data/builtin/glyphs.py", True),
        ("data/builtin/glyphs.py", "viz/style.py", False),
    ],
)
def test_the_law_between_two_files(path, imported, lawful):
    assert bool(breach(ROOT / path, ROOT / imported)) != lawful


def test_no_folder_has_more_than_20_files():
    """A reader sees a folder at once; `__init__` counts."""
    counts = Counter(path.parent for path in [*FILES, *TESTS])
    crowded = {str(folder): count for folder, count in counts.items() if count > 20}
    assert not crowded, f"folders hold at most 20 files, and these have more: {crowded}"


def test_import_law_sees_imports_inside_functions(tmp_path):
    """The law itself is tested: a planted import of a later chapter, hidden in a function, is found."""
    planted = ROOT / "arrays" / "planted.py"  # never written, only its place matters

    class Planted(type(planted)):
        def read_text(self, *_, **__):
            return "def f():\n    from ..models import clip\n    import tinymm.viz.curves\n    from . import errors\n"

    found = [module for _, module in imports(Planted(planted))]
    assert found == ["tinymm.models.clip", "tinymm.viz.curves", "tinymm.arrays.errors"]


def test_import_tinymm_imports_numpy_only():
    """In a fresh interpreter, what `import tinymm` adds to `import numpy` is tinymm and the standard library."""
    code = (
        "import sys, numpy.random\nbefore = set(sys.modules)\nimport tinymm\n"
        "added = {m.split('.')[0] for m in set(sys.modules) - before}\n"
        "print(*sorted(added - set(sys.stdlib_module_names) - {'tinymm', 'numpy'}))"
    )
    added = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent
    ).stdout
    assert added.split() == []


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if c not in ("testing", "workflows")])
def test_a_chapter_imports_without_extras(chapter):
    """Every chapter opens where only NumPy is installed: what else it uses is imported by the function that uses it."""
    code = (
        "import sys\n"
        "for m in ('scipy', 'matplotlib', 'PIL', 'hypothesis', 'tokenizers', 'torch', 'transformers', 'safetensors', 'tqdm', 'cupy'):\n"
        f"    sys.modules[m] = None\nimport tinymm.{chapter}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]


# ---------------------------------------------------------------------- how files read
@pytest.mark.parametrize("path", FILES, ids=name)
def test_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text())), (
        f"{name(path)} begins with a sentence on why it exists"
    )


@pytest.mark.parametrize("init", [p for p in FILES if p.name == "__init__.py"], ids=name)
def test_package_names_its_files_in_reading_order(init):
    doc = ast.get_docstring(ast.parse(init.read_text())) or ""
    siblings = [p.stem for p in init.parent.glob("*.py") if p.stem not in ("__init__", "__main__")]
    siblings += [p.parent.name for p in init.parent.glob("*/__init__.py")]
    missing = [sibling for sibling in siblings if not re.search(rf"\b{sibling}\b", doc)]
    assert not missing, (
        f"{name(init)} says in which order to read the folder and leaves out {', '.join(sorted(missing))}"
    )


def test_no_drawer_for_everything():
    assert not [
        name(p)
        for p in [*FILES, *TESTS]
        if p.stem in ("utils", "util", "helpers", "helper", "common", "misc")
    ]


def test_test_files_have_unique_names():
    stems = [p.stem for p in TESTS if p.stem.startswith("test_")]
    assert len(set(stems)) == len(stems), sorted({s for s in stems if stems.count(s) > 1})


BRITISH = (
    r"\b(\w*(colour|behaviour|favour|honour|neighbour|flavour|labell|modell|travell|cancell|analys(?=e[ds]?\b|ing))\w*|"
    r"(\w+al|optim|organ|recogn|summar|minim|maxim|token|vector|parallel|emphas|regular|random|standard|synchron|custom)"
    r"is(e|ed|es|er|ers|ing|ation|ations)|centre[ds]?|grey|licence|artefacts?|whilst|metres?|programme[ds]?)\b"
)
#: Words of American English, and one of HTML, that the pattern takes for others.
AMERICAN = {"optimism", "advertise", "labellum", "labelledby"}


def prose(path):
    """Yield (line, text) of everything that is read: the whole file, since names are words too."""
    return enumerate(path.read_text().splitlines(), 1)


@pytest.mark.parametrize(
    "path",
    [p for p in [*FILES, *TESTS] if p != Path(__file__)],
    ids=lambda p: "/".join(p.parts[-2:]),
)
def test_words(path):
    """American spelling, nothing left to do, and no path of anybody's machine."""
    patterns = {
        "an American spelling": BRITISH,
        "done work": r"\b(TODO|FIXME|XXX|HACK)\b",
        "no path of a machine": r"(?<![\w.])/(root|Users|work|mnt)/\w",
        "no name of a host": r"\b(localhost|127\.0\.0\.1|\w+\.(internal|local|lan))\b",
    }
    for line, text in prose(path):
        for wish, pattern in patterns.items():
            found = [
                m.group(0)
                for m in re.finditer(pattern, text, re.I if wish.startswith("an A") else 0)
            ]
            found = [word for word in found if word.lower() not in AMERICAN]
            assert not found, f"{path.name}:{line}: {found[0]!r}, where {wish} belongs"


# ---------------------------------------------------------------------- who asks what a model is
def classes_of(path):
    """Yield the names of the classes that files of a folder define."""
    for file in path.glob("*.py"):
        yield from (
            node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)
        )


#: Models, their parts and their configs.
MODEL_CLASSES = set(classes_of(ROOT / "models"))
#: A variable of these names holds a model or a source of data, alone or as an attribute.
HOLDERS = re.compile(r"(\w+_)?(model|encoder|decoder|source|opened)s?")


def questions(tree):
    """Yield (line, question) for each question of what class a model is of, or whether it has an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asked = node.func.id
            if asked in ("isinstance", "issubclass") and len(node.args) == 2:
                names = {
                    n.id if isinstance(n, ast.Name) else n.attr
                    for n in ast.walk(node.args[1])
                    if isinstance(n, ast.Name | ast.Attribute)
                }
                if names & MODEL_CLASSES:
                    yield node.lineno, ast.unparse(node)
            if asked == "hasattr" and HOLDERS.fullmatch(
                ast.unparse(node.args[0]).rpartition(".")[2]
            ):
                yield node.lineno, ast.unparse(node)
        elif (
            isinstance(node, ast.Compare)
            and isinstance(node.left, ast.Call)
            and ast.unparse(node.left.func) == "type"
        ):
            named = {
                n.id
                for right in node.comparators
                for n in ast.walk(right)
                if isinstance(n, ast.Name)
            }
            if named & MODEL_CLASSES:
                yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.relative_to(ROOT).parts[0] not in ("models", "tasks")], ids=name
)
def test_no_file_asks_what_class_a_model_is_of(path):
    """What a model can do its spec says (`tasks.spec_of(model).can`), so that a new one needs no other file.

    Files of weights are written from configs, whose kind `pretrained/` may ask.
    """
    for line, question in questions(ast.parse(path.read_text())):
        of_a_config = re.fullmatch(r"isinstance\(.*, \w+Config\)", question)
        allowed = of_a_config and path.relative_to(ROOT).parts[0] == "pretrained"
        assert allowed, (
            f"{name(path)}:{line}: {question}; ask tinymm.tasks.spec_of(model), or take what is needed as an argument"
        )


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(model, CLIP)",
        "isinstance(model, (int, blip.BLIP))",
        "isinstance(model.image_encoder, ViT | None)",
        "isinstance(config, ViTConfig)",
        "issubclass(kind, OPT)",
        "type(model) is ALBEF",
        "hasattr(model, 'queue')",
        "hasattr(self.source, 'classes')",
        "hasattr(opened.model, 'generate')",
    ],
)
def test_the_lint_of_questions_sees_what_it_looks_for(source):
    assert list(questions(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(model, Module)",
        "hasattr(value, 'item')",
        "type(model) is spec.model",
        "hasattr(os, 'killpg')",
    ],
)
def test_the_lint_of_questions_lets_others_pass(source):
    assert not list(questions(ast.parse(source)))


# ---------------------------------------------------------------------- rules for rules
#: Creation does not dispatch on a device's arrays, and `np.add.at` does so wrongly: `*_like` and
#: `array_module(x)` do.
NOT_IN_RULES = {
    "zeros", "ones", "empty", "full", "arange", "eye", "identity", "tri", "array", "asarray", "ascontiguousarray", "asfortranarray",
    "linspace", "random", "ogrid", "mgrid", "indices", "fromfunction", "add.at", "add.reduceat", "lib.stride_tricks.as_strided", "vecdot",
}  # fmt: skip
#: (file, function) pairs where the array is the host's: index arithmetic, and a branch for host
#: arrays.
ON_THE_HOST = {
    ("indexing", "vjp", "add.reduceat"),
    ("indexing", "diagonal", "arange"),
}  # indices are the host's


def calls_of_numpy(tree):
    """Yield (line, innermost function, dotted name after np.) for every use of NumPy inside a function's body."""

    def walk(node, function):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            function = getattr(node, "name", function)
            for child in (
                [*getattr(node, "body", [])] if isinstance(node, ast.FunctionDef) else [node.body]
            ):
                yield from walk(child, function)
            return
        if isinstance(node, ast.Attribute) and function is not None:
            dotted = ast.unparse(node)
            if dotted.startswith("np."):
                yield node.lineno, function, dotted.removeprefix("np.")
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function)

    yield from walk(tree, None)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "autodiff" / "ops").glob("*.py")), ids=lambda p: p.stem
)
def test_rules_create_no_arrays_by_themselves(path):
    for line, function, used in calls_of_numpy(ast.parse(path.read_text())):
        if used in NOT_IN_RULES and (path.stem, function, used) not in ON_THE_HOST:
            raise AssertionError(
                f"{name(path)}:{line}: np.{used} does not run on every device; use *_like, array_module(x) or arrays.backend"
            )


def test_the_lint_of_rules_sees_what_it_looks_for():
    source = "X = np.array([1])\ndef rule(x):\n    def vjp(g):\n        np.add.at(x, 0, g)\n    return np.zeros(3), lambda g: np.eye(2) + np.exp(g)\n"
    found = [(function, used) for _, function, used in calls_of_numpy(ast.parse(source))]
    assert ("vjp", "add.at") in found and ("rule", "zeros") in found and ("rule", "eye") in found
    assert not any(used == "array" for _, used in found)
