"""Bug hunts: what is handed out stands alone and is what it says, and a score tells a sharp property from a vacuous one, whatever a file does."""

import csv
import json
import sys

import pytest

from tinymm.arrays.errors import UsageError
from tinymm.testing import check
from tinymm.workflows.course import hunt as course_hunt
from tinymm.workflows.course import hunt_lists, percent
from tinymm.workflows.course.hunt_judge import judged

HUNTED = [name for name in check.CHECKS if name not in ("vjp", "temperature")]
SHARP = """
import numpy as np

def holds(fn):
    for n in range(1, 9):
        mask = fn(n)
        assert mask.shape == (n, n) and mask.dtype == bool
        assert mask[np.tril_indices(n)].all() and not mask[np.triu_indices(n, 1)].any()
"""
SUBMISSIONS = {
    "sharp": SHARP,
    "vacuous": "def holds(fn):\n    return True\n",
    "fails_right_code": SHARP + "        assert mask.flags.writeable\n",
    "blunt": "def holds(fn):\n    return not fn(3)[0, 1]\n",
    "endless": "def holds(fn):\n    while True:\n        pass\n",
    "loud": "print('x' * 10**7)\n" + SHARP + "        print('y' * 10**6)\n",
    "does_not_import": "import no_such_library\n",
    "no_python": "def holds(fn:\n",
    "no_property": "x = 1\n",
    "counts_calls": "calls = 0\n\ndef holds(fn):\n    global calls\n    calls += 1\n    return calls % 2 == 1\n",
    "leaves": "import os\n\ndef holds(fn):\n    os._exit(0)\n",
    "greedy": "def holds(fn):\n    return [0] * 10**10\n",
}


# ---------------------------------------------------------------------- what is handed out
@pytest.mark.parametrize("name", HUNTED)
def test_a_hunt_stands_alone_and_its_functions_are_what_they_are_called(name, tmp_path, capsys):
    """The text runs with NumPy only; of its functions the right one passes the check, and each of the wrong ones is caught by it."""
    path = course_hunt.write(name, "ada", tmp_path, wrong=2)
    names: dict = {"__name__": "handed_out"}
    exec(compile(path.read_text(), path.name, "exec"), names)  # noqa: S102
    suite = check.CHECKS[name].suite
    for function, tier in (("right", "core"), ("wrong_1", "strict"), ("wrong_2", "strict")):
        promised = check.CHECKS[name].promise(names[function], {})
        broken = suite.findings(
            promised, suite.select(promised, tier)[0], 30 if function == "right" else 100
        )
        assert bool(broken) == (function != "right"), (function, broken)


def test_the_same_id_gets_the_same_functions_and_others_get_others(tmp_path, capsys):
    texts = {
        (who, place): course_hunt.write("attention", who, tmp_path / place).read_text()
        for who in ("ada", "bob")
        for place in ("1", "2")
    }
    assert texts["ada", "1"] == texts["ada", "2"] != texts["bob", "1"].replace("bob", "ada")


def test_the_hand_out_does_not_say_what_is_wrong(tmp_path, capsys):
    said = course_hunt.write("causal_mask", "ada", tmp_path, wrong=13).read_text()
    assert "sees_one_token_ahead" not in said and "wrong_13 = " in said


def test_as_a_notebook_it_has_the_same_cells(tmp_path, capsys):
    source = percent.read(course_hunt.write("causal_mask", "ada", tmp_path))
    made = json.loads(course_hunt.write("causal_mask", "ada", tmp_path, notebook=True).read_text())
    assert ["".join(cell["source"]) for cell in made["cells"]] == [cell.source for cell in source]


def test_what_cannot_be_handed_out_is_refused(tmp_path, capsys):
    with pytest.raises(UsageError, match=r"letters, digits and _ . -, and '../ada' came"):
        course_hunt.write("causal_mask", "../ada", tmp_path)
    with pytest.raises(UsageError, match="one of causal_mask, .* and 'flying' came"):
        course_hunt.write("flying", "ada", tmp_path)
    with pytest.raises(
        UsageError, match="wrong in themselves, and check.vjp has 0; choose another"
    ):
        course_hunt.write("vjp", "ada", tmp_path)
    with pytest.raises(UsageError, match="hands out 1 to 13 wrong functions, and 14 came"):
        course_hunt.write("causal_mask", "ada", tmp_path, wrong=14)
    course_hunt.write("causal_mask", "ada", tmp_path)
    with pytest.raises(UsageError, match="nobody's work"):
        course_hunt.write("causal_mask", "ada", tmp_path)


def test_loading_the_lists_leaves_no_modules_behind():
    before = {name: sys.modules.get(name) for name in ("wrong", "kept", "right")}
    path = list(sys.path)
    hunt_lists.load()
    assert {name: sys.modules.get(name) for name in before} == before and sys.path == path


def test_what_only_the_strict_tier_catches_is_no_mistake_in_a_hunt():
    assert "minus ten thousand added" not in hunt_lists.functions("attention")[1]
    assert "mask ignored" in hunt_lists.functions("attention")[1]


# ---------------------------------------------------------------------- grading
@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Grade all submissions once and give their scores by name, and the lines of the CSV file."""
    place = tmp_path_factory.mktemp("hunt")
    files = []
    for name, text in SUBMISSIONS.items():
        files.append(place / f"{name}.py")
        files[-1].write_text(text)
    made = percent.notebook(
        percent.parse(
            "# %%\n"
            + SHARP
            + "\n# %%\nraise SystemExit('a cell that does not define anything is left out')\n"
        )
    )
    files.append(place / "sharp_notebook.ipynb")
    files[-1].write_text(percent.dumps(made))
    scores = course_hunt.grade(
        "causal_mask",
        [*map(str, files), str(place / "absent.py")],
        seconds=5,
        csv_file=str(place / "scores.csv"),
    )
    names = [*SUBMISSIONS, "sharp_notebook", "absent"]
    return dict(zip(names, scores, strict=True)), list(
        csv.reader((place / "scores.csv").read_text().splitlines())
    )


@pytest.mark.parametrize(
    "name, points, remark",
    [
        ("sharp", 1.0, "catches all"),
        ("sharp_notebook", 1.0, "catches all"),
        ("loud", 1.0, "catches all"),
        ("vacuous", 0.0, "misses sees one token ahead"),
        ("blunt", 4 / 13, "misses does not see itself"),
        ("fails_right_code", 0.0, "fails a right function (read-only columns: AssertionError"),
        ("endless", 0.0, "was stopped after 5 s"),
        ("does_not_import", 0.0, "ModuleNotFoundError: No module named 'no_such_library'"),
        ("no_python", 0.0, "SyntaxError"),
        ("no_property", 0.0, "defines no function holds(fn)"),
        ("counts_calls", 0.0, "says one thing and then another"),
        ("leaves", 0.0, "ended its process with code 0"),
        ("absent", 0.0, "is no file"),
    ],
)
def test_scores(graded, name, points, remark):
    score = graded[0][name]
    assert score.points == pytest.approx(points) and remark in score.remark, score


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on memory there")
def test_memory_is_limited(graded):
    assert graded[0]["greedy"].points == 0 and "MemoryError" in graded[0]["greedy"].remark


def test_the_scores_are_written_as_csv(graded):
    scores, lines = graded
    assert lines[0] == ["submission", "score", "caught", "wrong", "passed", "right", "remark"]
    assert [float(line[1]) for line in lines[1:]] == [
        pytest.approx(score.points, abs=1e-4) for score in scores.values()
    ]
    assert len(lines) == 1 + len(scores)


def test_a_submission_does_not_find_the_lists_by_importing_them(tmp_path):
    (tmp_path / "peeks.py").write_text(
        "import sys\nimport kept\n\ndef holds(fn):\n    return True\n"
    )
    assert "No module named 'kept'" in judged("causal_mask", tmp_path / "peeks.py")["problem"]


def test_a_function_says_nothing_by_its_name(tmp_path):
    (tmp_path / "names.py").write_text(
        "def holds(fn):\n    raise ValueError(f'{fn.__name__} {fn.__module__}')\n"
    )
    said = set(judged("attention", tmp_path / "names.py")["verdicts"].values())
    assert len(said) == 1


def test_both_commands(command, here):
    assert command("course", "hunt", "causal_mask", "--student", "ada", "--out", "hunts").lines == [
        "hunts/hunt_causal_mask_ada.py"
    ]
    said = command("course", "hunt", "causal_mask", "--grade", "hunts/hunt_causal_mask_ada.py")
    assert (
        said.code == 0
        and "NotImplementedError: your property" in said.lines[1]
        and " 0.00 " in said.lines[1]
    )
    assert (
        "neither came; give --student ID or --grade FILE"
        in command("course", "hunt", "causal_mask").error
    )
