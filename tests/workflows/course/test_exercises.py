"""Students' copies and nbgrader's folder: what is cut out, what is marked, and what is refused."""

import json

import pytest

from tinymm.arrays.errors import DataError, UsageError
from tinymm.workflows.course import exercises, percent

SOURCE = '''# %% [markdown]
# # Exercises 3
#
# Text.

# %% solution="3a"
def two():
    """Return 2."""
    ### BEGIN SOLUTION: one "and" one
    one = 1
    return one + one
    ### END SOLUTION

# %% test="3a-core" points=2
assert two() == 2
### BEGIN HIDDEN TESTS
assert two() != 3
### END HIDDEN TESTS

# %% [markdown] answer="3d" points=1
# Because.
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "03_op.py").write_text(SOURCE)
    (tmp_path / "notes.py").write_text("not a notebook")
    return tmp_path


def test_students_copy(folder, capsys):
    (path,) = exercises.run(student=folder / "out", source=folder)
    assert capsys.readouterr().out.strip() == str(path) and path.name == "03_op.ipynb"
    cells = json.loads(path.read_text())["cells"]
    text = ["".join(cell["source"]) for cell in cells]
    assert (
        text[1]
        == 'def two():\n    """Return 2."""\n    raise NotImplementedError("3a: one \'and\' one")'
    )
    assert text[2] == "assert two() == 2\n# more tests run here when this is graded"
    assert "Because" not in path.read_text()
    compile(text[1], "cell", "exec")


def test_the_graders_marks(folder):
    path, config = exercises.run(instructor=folder / "course", source=folder)
    assert (
        path.relative_to(folder).as_posix() == "course/source/03_op/03_op.ipynb"
        and config.name == "nbgrader_config.py"
    )
    marks = [cell["metadata"].get("nbgrader") for cell in json.loads(path.read_text())["cells"]]
    common = {"schema_version": 3, "task": False}
    assert marks == [
        None,
        common | {"grade_id": "3a", "solution": True, "grade": False, "locked": False},
        common
        | {"grade_id": "3a-core", "solution": False, "grade": True, "locked": True, "points": 2},
        common | {"grade_id": "3d", "solution": True, "grade": True, "locked": False, "points": 1},
    ]
    assert "return one + one" in path.read_text() and "BEGIN HIDDEN TESTS" in path.read_text()


def test_nobodys_work_is_overwritten(folder):
    exercises.run(student=folder / "out", source=folder)
    with pytest.raises(
        UsageError, match=r"03_op.ipynb is there already with \d+ bytes; choose another folder"
    ):
        exercises.run(student=folder / "out", source=folder)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "0 folders came; pass --student OUT"),
        ({"student": "out", "source": "nowhere"}, "0 of them in nowhere; pass --source"),
        ({"student": "out", "only": ["99"]}, "99 fits 0 of them; write 07"),
    ],
)
def test_usage(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        exercises.run(**arguments)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "notebook has 0 of them; write one"),
        ("# %% title\nx = 1", "'# %% title' came at notebook:1; correct the line"),
        ("# %% points=one", "'points=one' came at notebook:1; write points=1"),
        ("# %% points=1", "'points=1' came at notebook:1; options are solution"),
        ('# %% solution="1a" test="1b" points=1', "came at notebook:1; options are"),
        ('# %% test="1b"', "came at notebook:1; options are"),
        ("# %% color=1", "'color=1' came at notebook:1; options are"),
        ("# %% [markdown]\nText.", "'Text.' stands in the cell at notebook:1; write '# ' in front"),
    ],
)
def test_sources_that_cannot_be_read(text, said):
    with pytest.raises(DataError) as caught:
        percent.parse(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        "### BEGIN SOLUTION\nx = 1",
        "x = 1\n### END SOLUTION",
        "x = 1",
        "### BEGIN SOLUTION\n### END HIDDEN TESTS",
        "### BEGIN HIDDEN TESTS",
    ],
)
def test_marks_that_do_not_close(body):
    with pytest.raises(DataError, match=r"notebook:\d.*(correct the marks|add both)"):
        exercises.without_solutions(percent.parse(f'# %% solution="1a"\n{body}'))


def test_a_solution_in_a_test_is_refused():
    with pytest.raises(DataError, match="notebook:2; correct the marks"):
        exercises.without_solutions(
            percent.parse('# %% test="1a" points=1\n### BEGIN SOLUTION\n### END SOLUTION')
        )


def test_ids_follow_from_the_text_alone():
    one, other = percent.parse("# %%\nx = 1\n\n# %%\ny = 2"), percent.parse("# %%\ny = 2")
    ids = [[cell["id"] for cell in percent.notebook(cells)["cells"]] for cells in (one, other)]
    assert ids[0][1] == ids[1][0] and len(set(ids[0])) == 2


@pytest.mark.extra
def test_what_is_written_is_a_valid_notebook(folder):
    nbformat = pytest.importorskip("nbformat")
    text = percent.dumps(percent.notebook(percent.read(folder / "03_op.py")))
    nbformat.validate(nbformat.reads(text, as_version=4))
    assert nbformat.writes(nbformat.reads(text, as_version=4)) + "\n" == text
