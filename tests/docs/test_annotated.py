"""The annotated source shows every line of a file once, in order, and what is prose on the left is nothing but what the file says."""

import ast
import doctest
import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_ext"))
import rows  # noqa: E402
import tree  # noqa: E402

FILES = [
    *tree.modules(),
    ROOT / "tinymm" / "__main__.py",
    *sorted((ROOT / "tests").rglob("test_*.py")),
]
needs_sphinx = pytest.mark.skipif(
    importlib.util.find_spec("sphinx") is None, reason="needs the extra `docs`"
)


def lost(source, made):
    """Return the lines that are neither code of a row, in order, nor prose, nor blank."""
    shown = [number for row in made for number, _ in row.code]
    assert shown == sorted(set(shown)), "a line stands twice, or out of order"
    prose = set(rows.comments(source))
    for first, (last, _) in rows.landmarks(source)[1].items():
        prose |= set(range(first, last + 1))
    lines = enumerate(source.splitlines(), 1)
    return [
        number for number, text in lines if text.strip() and (number in prose) == (number in shown)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_line_is_shown_once(path):
    source = path.read_text()
    made = rows.rows(source)
    assert lost(source, made) == []
    said = "".join("".join(text.split()) for row in made for text in [row.title, *row.prose])
    for comment in rows.comments(source).values():
        assert "".join(comment.strip("#: -").split()) in said
    begun = {row.defines for row in made if row.defines}
    top = [n.name for n in ast.parse(source).body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    assert begun >= set(top), "a function or class begins inside another's row"


SOURCE = '''"""What it is for."""

import numpy as np

# ---------------------------------------------------------------- first part
# Why it is
# so.
X = "# no comment"


@decorated
class A:
    """A thing."""

    def f(self, x):
        """Return x."""
        y = x  # (B, T)
        # since
        return y

    def g(self):
        return 1
'''


def test_what_a_row_is():
    made = [
        (row.title, row.prose, row.defines, [number for number, text in row.code if text.strip()])
        for row in rows.rows(SOURCE)
    ]
    assert made == [
        ("", ["What it is for."], "", [3]),
        ("first part", ["Why it is\nso."], "", [8]),
        ("", ["A thing."], "A", [11, 12]),
        ("", ["Return x."], "A.f", [15, 17]),
        ("", ["since"], "", [19]),
        ("", [], "A.g", [21, 22]),
    ]
    assert lost(SOURCE, rows.rows(SOURCE)[:-1]) == [21, 22], "the check itself would notice"


@pytest.mark.parametrize(
    "name",
    [
        "rows",
        *(
            pytest.param(name, marks=[pytest.mark.extra, needs_sphinx])
            for name in ("prose", "errors")
        ),
    ],
)
def test_doctests(name):
    results = doctest.testmod(__import__(name))
    assert results.attempted and not results.failed


@pytest.mark.extra
@needs_sphinx
@pytest.mark.parametrize(
    ("said", "made"),
    [
        ("`x`s and *_like", "``x``\\ s and \\*\\_like"),
        ("is *this* it, or a * b * c", "is *this* it, or a \\* b \\* c"),
        ("(`f`)", "(\\ ``f``)"),
        ("of $e^t$", "of :math:`e^t`"),
        ("1  arrays   where\n2  autodiff how", "::\n\n    1  arrays   where\n    2  autodiff how"),
        ("so:\n\n    a = b*c", "so:\n\n::\n\n    a = b*c"),
        ("- a |b|\n- c", "\n- a \\|b\\|\n\n- c"),
    ],
)
def test_prose_is_translated(said, made):
    import prose

    assert prose.to_rst(said) == made


@pytest.mark.extra
@needs_sphinx
def test_an_unknown_command_in_a_formula_is_a_warning(monkeypatch):
    import mathml
    from docutils import nodes

    warned = []
    monkeypatch.setattr(
        mathml.logging,
        "getLogger",
        lambda _: type("Log", (), {"warning": lambda self, *said, **_: warned.append(said)})(),
    )
    assert (
        '<mi>ln</mi><mspace width="0.17em"/>'
        in mathml.markup(None, nodes.math("", r"\ln n"), "inline")
        and not warned
    )
    mathml.markup(None, nodes.math("", r"\nosuch n"), "inline")
    assert warned and r"\nosuch" in warned[0]


def test_modules_are_in_reading_order_and_have_their_tests():
    names = [tree.dotted(path) for path in tree.modules(ROOT / "tinymm" / "losses")]
    assert names[:4] == [
        "tinymm.losses",
        "tinymm.losses.classification",
        "tinymm.losses.contrastive",
        "tinymm.losses.blockwise",
    ]
    tests = tree.tests_of()
    assert tests["tinymm.layers.masks"][0].name == "test_layer_masks.py"
    assert any(
        path.name == "test_our_contrastive_loss.py" for path in tests["tinymm.models.clip"]
    ), "names that a chapter passes on are followed"


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("](../tinymm/losses/matching.py)", "](/annotated/losses/matching.rst)"),
        ("](../tinymm/autodiff/ops/__init__.py#L3)", "](/annotated/autodiff/ops.rst)"),
        ("](../../docs/blip2.md)", "](/blip2.md)"),
        ("](../notebooks/07_attention_and_masks.py)", "](/tutorials/07_attention_and_masks.ipynb)"),
        (
            "](solutions/07_attention_and_masks.py)",
            "](/exercises.md#exercises-7--attention-and-masks)",
        ),
        ("](other.md) `../tinymm/x.py`", "](other.md) `../tinymm/x.py`"),
    ],
)
def test_links_to_the_checkout_lead_to_pages(link, target):
    assert tree.rewritten(link) == target


# ---------------------------------------------------------------------- the symptoms' page quotes what is really said
def test_quoted_sentences_are_said_somewhere():
    sources = "\n".join(path.read_text() for path in (ROOT / "tinymm").rglob("*.py"))
    flat = re.sub(r'"\s*\n\s*f?"', "", sources)  # sentences that go on in the next line
    page = (DOCS / "faq.md").read_text().split("## Sentences of the command line")[1]
    quoted = [
        sentence
        for line in re.findall(r"^“.+”$", page, re.M)
        for sentence in re.findall("“([^”]+)”", line)
    ]
    assert len(quoted) > 15
    for sentence in quoted:
        assert sentence in flat, f"the page of symptoms quotes {sentence!r}, and no file says so"


def at_import(path):
    """Return the packages that a file imports when it is imported."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_the_extra_docs_holds_what_the_build_imports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = {
        re.match(r"[\w-]+", line)[0].lower()
        for line in [*project["dependencies"], *project["optional-dependencies"]["docs"]]
    }
    listed |= {"docutils", "pygments"}  # Sphinx's own
    conf = (DOCS / "conf.py").read_text()
    mocked = set(ast.literal_eval(re.search(r"autodoc_mock_imports = (\[.+?\])", conf, re.S)[1]))
    own = {path.stem for path in [*DOCS.glob("_ext/*.py"), *(ROOT / "tests").glob("*.py")]} | {
        "tinymm"
    }
    files = [*(ROOT / "tinymm").rglob("*.py"), *DOCS.glob("_ext/*.py"), DOCS / "conf.py"]
    used = (
        {name for path in files for name in at_import(path)}
        - set(sys.stdlib_module_names)
        - mocked
        - own
    )
    assert {"numpy", "hypothesis", "pytest", "sphinx", "latex2mathml"} <= used
    used |= {
        name.split(".")[0]
        for name in re.findall(r'"([\w.]+)"', re.search(r"^extensions = (.+)$", conf, re.M)[1])
    } - own
    used.add(re.search(r'^html_theme = "(\w+)"', conf, re.M)[1])
    assert not {name.replace("_", "-") for name in used} - listed, (
        "the documented command would fail in a fresh environment"
    )
