"""What is read of students' notebooks as people save them: IPython's lines, copies of cells, cells that have become text."""

import json

import pytest

from tinymm.workflows.course import own_code
from tinymm.workflows.course import status as course_status

SOLUTION = "def causal_mask(n):\n    return np.tri(n, dtype=bool)"
ASKED = 'def causal_mask(n):\n    raise NotImplementedError("np.tri")'


def cell(source, name=None, kind="code", **marks):
    marks = {"nbgrader": {"grade_id": name, **marks}} if name else {}
    return {
        "cell_type": kind,
        "source": source,
        "metadata": marks,
        "outputs": [],
        "execution_count": 1,
    }


def notebook(folder, *cells, mark=b""):
    file = folder / "mine.ipynb"
    file.write_bytes(mark + json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}).encode())
    return file


def found(file):
    names, problems = own_code.load(file)
    return sorted(name for name in names if not name.startswith("__")), problems


@pytest.mark.parametrize(
    "setup, task",
    [
        ("import numpy as np", SOLUTION),
        ("%matplotlib inline\nimport numpy as np", SOLUTION),
        ("!pip install x\nimport numpy as np", SOLUTION),
        ("import numpy as np\n  \n%load_ext autoreload\n%autoreload 2", SOLUTION),
        ("import numpy as np", "%%time\n" + SOLUTION),
        ("import numpy as np", "\n%%capture out\n" + SOLUTION),
        ("import numpy as np", "np.tri?\n" + SOLUTION + "\n??np.tri\n%timeit causal_mask(3)"),
        ("import numpy as np", SOLUTION + "\nfor n in (2, 3):\n    %time causal_mask(n)"),
        ("import numpy as np\nnp.set_printoptions(precision=3)", SOLUTION),
        ("try:\n    import numpy as np\nexcept ImportError:\n    pass\nprint(np.pi)", SOLUTION),
        ("import numpy as np", SOLUTION + "\nfiles = !ls\nspent = %timeit -o causal_mask(2)"),
    ],
)
def test_lines_of_ipython_cost_nothing_but_themselves(setup, task, tmp_path):
    names, problems = found(notebook(tmp_path, cell(setup), cell(task, "7a", solution=True)))
    assert {"causal_mask", "np"} <= set(names) <= {"causal_mask", "np", "n"} and not problems


def test_a_byte_order_mark_and_a_script_of_nbconvert_are_read(tmp_path):
    cells = cell("import numpy as np"), cell(SOLUTION, "7a", solution=True)
    assert found(notebook(tmp_path, *cells, mark=b"\xef\xbb\xbf")) == (["causal_mask", "np"], {})
    script = tmp_path / "mine.py"
    script.write_text(
        "\ufeffget_ipython().run_line_magic('matplotlib', 'inline')\nimport numpy as np\n"
        + SOLUTION,
        encoding="utf-8",
    )
    names, problems = found(script)
    assert {"causal_mask", "np"} <= set(names) and not problems


def test_what_trains_is_still_left_out_and_what_only_looks_like_a_magic_stays(tmp_path):
    cells = [
        cell("import numpy as np\nrate = 0.1\nlosses = train()\nprint(losses)"),
        cell("%%bash\nrm -rf everything"),
        cell('text = """\n%matplotlib\n!ls\n"""'),
        cell("%%writefile x.py\nbroken(", "7b", solution=True),
    ]
    names, problems = own_code.load(notebook(tmp_path, *cells))
    assert (
        names["rate"] == 0.1
        and "losses" not in names
        and names["text"] == "\n%matplotlib\n!ls\n"
        and not problems
    )
    names, problems = own_code.load(
        notebook(tmp_path, cell("def f(:\n    pass", "7c", solution=True), cell("import json"))
    )
    assert "SyntaxError" in problems["task 7c"] and "json" in names


def test_a_task_pasted_once_more_does_not_take_the_place_of_the_solution(tmp_path):
    copies = (
        cell("import numpy as np"),
        cell(SOLUTION, "7a", solution=True),
        cell(ASKED, "7a", solution=True),
    )
    names, _ = own_code.load(notebook(tmp_path, *copies))
    assert names["causal_mask"](2).tolist() == [[True, False], [True, True]]


PASSED = cell("check.causal_mask(causal_mask)", "7a-core", grade=True)


@pytest.mark.parametrize(
    "cells, mark, written, remark",
    [
        ([cell(SOLUTION, "7a", solution=True), PASSED], "✓", False, ""),
        ([cell(ASKED, "7a", solution=True), PASSED], "·", False, ""),
        (
            [
                cell(SOLUTION + "\n    # raise NotImplementedError('np.tri')", "7a", solution=True),
                PASSED,
            ],
            "✓",
            False,
            "",
        ),
        ([cell("%%time\n" + ASKED, "7a", solution=True), PASSED], "·", False, ""),
        (
            [cell("def f(:\n    raise NotImplementedError('x')", "7a", solution=True), PASSED],
            "·",
            False,
            "",
        ),
        (
            [cell(SOLUTION, "7a", solution=True), PASSED, cell(ASKED, "7a", solution=True)],
            "✓",
            False,
            "7a stands in 2 cells",
        ),
        (
            [cell(ASKED, "7a", solution=True), cell(SOLUTION, "7a", solution=True), PASSED],
            "✓",
            False,
            "7a stands in 2 cells",
        ),
        (
            [cell(SOLUTION, "7a", solution=True), cell("check", "7a-core", "markdown", grade=True)],
            "·",
            False,
            "7a-core is a markdown cell",
        ),
        (
            [cell(SOLUTION, "7a", solution=True), PASSED, cell("x", "7a-form", "raw", grade=True)],
            "·",
            False,
            "7a-form is a raw cell",
        ),
        (
            [cell(SOLUTION, "7a", "markdown", solution=True), PASSED],
            "·",
            False,
            "7a is a markdown cell",
        ),
        ([cell("mine", "7d", "markdown", grade=True, solution=True)], None, True, ""),
        ([cell("mine", "7d", "code", grade=True, solution=True)], None, True, ""),
        (
            [
                cell(
                    "*Your answer, in three sentences:*",
                    "7d",
                    "markdown",
                    grade=True,
                    solution=True,
                )
            ],
            None,
            False,
            "",
        ),
    ],
)
def test_marks_say_what_a_cell_is_whatever_it_has_become(cells, mark, written, remark):
    read = course_status.read(cells)
    assert {name: task.mark for name, task in read.tasks.items()} == ({"7a": mark} if mark else {})
    assert read.written == written and (
        remark in " ".join(read.remarks) if remark else not read.remarks
    )
