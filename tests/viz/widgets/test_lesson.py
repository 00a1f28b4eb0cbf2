"""What a notebook prints: a figure never without words, a guess that stops nothing, a budget that is told, a kept run that is labeled."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import tinymm
from tinymm.arrays.errors import DataError, UsageError
from tinymm.testing import check
from tinymm.viz import MaskExplorer, charts, style
from tinymm.viz.widgets import lesson


def test_a_figure_without_words_is_refused():
    with pytest.raises(UsageError, match="Drawing has none of 1 sentence; set figure.alt"):
        lesson.show(style.new_figure(1, 1))


def test_in_jupyter_the_figure_is_displayed_and_its_table_printed_below(monkeypatch, capsys):
    shown = []
    jupyter = SimpleNamespace(
        get_ipython=lambda: object(),
        display=SimpleNamespace(display=lambda figure: (shown.append(figure), print("<figure>"))),
    )
    monkeypatch.setitem(sys.modules, "IPython", jupyter)
    drawn = charts.bars({"a": 0.5}, title="Half of it", unit="share")
    lesson.show(drawn)
    assert shown == [drawn] and capsys.readouterr().out == f"<figure>\n{drawn.table}\n"
    png, about = drawn._repr_png_()
    assert (
        about["alt"] == drawn.alt and b"tEXt" not in png and repr(drawn) == f"Figure: {drawn.alt}"
    )


def test_an_explorer_is_shown_with_everything_inside_and_named_outside_of_jupyter(
    monkeypatch, capsys
):
    explorer, shown = MaskExplorer("itg", queries=1, words=["cat"]), []
    jupyter = SimpleNamespace(
        get_ipython=lambda: object(), display=SimpleNamespace(display=shown.append)
    )
    monkeypatch.setitem(sys.modules, "IPython", jupyter)
    lesson.show(explorer)
    assert shown == [explorer] and not capsys.readouterr().out, "its table is in its HTML"
    monkeypatch.setitem(sys.modules, "IPython", None)
    lesson.show(explorer)
    assert capsys.readouterr().out == f"[explorer] {explorer!r}\n" and repr(explorer) == " ".join(
        explorer.alt().split()
    )


def test_another_edition_is_refused():
    lesson.edition(tinymm.__version__)
    with pytest.raises(
        UsageError,
        match=f"a notebook of 2031.1 came to tinymm {tinymm.__version__}; check out the tag v2031.1",
    ):
        lesson.edition("2031.1")


@pytest.mark.parametrize(
    ("guess", "said"),
    [(None, "none yet"), (0.5, "0.5"), ("no", "no"), (np.float64(6.3912), "6.391")],
)
def test_guess_beside_truth(guess, said, capsys):
    lesson.predicted("loss", guess, 2)
    assert capsys.readouterr().out == f"loss · your guess: {said} · truth: 2\n"


def test_a_broken_property_is_five_lines_and_one_to_run_it_again(capsys):
    lesson.caught(lambda: check.causal_mask(lambda n: np.ones((n, n), bool)))
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 6
        and lines[0].startswith("M02")
        and lines[-1].startswith("again: check.causal_mask")
    )


def test_other_errors_are_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        lesson.caught(lambda: 1 / 0)


def test_a_budget_stops_a_training_and_says_so(monkeypatch, capsys):
    seconds = iter(range(100))
    monkeypatch.setattr(lesson.time, "perf_counter", lambda: next(seconds))
    assert list(lesson.within(range(50), seconds=3)) == [0, 1, 2]
    assert capsys.readouterr().out.startswith("stopped after 3 s and 3 steps;")
    assert list(lesson.within(range(3), seconds=50)) == [0, 1, 2] and not capsys.readouterr().out
    monkeypatch.setenv("TINYMM_BUDGET", "inf")
    assert (
        list(lesson.within(range(50), seconds=3)) == list(range(50)) and not capsys.readouterr().out
    )


def test_a_kept_run_says_how_it_was_made(tmp_path, capsys):
    (tmp_path / "demo.json").write_text(
        json.dumps({"command": "python -m tinymm demo", "edition": "0.1.0", "r1": 0.68})
    )
    assert lesson.kept("demo", tmp_path)["r1"] == 0.68
    assert (
        capsys.readouterr().out == "kept run, not made here: python -m tinymm demo (tinymm 0.1.0)\n"
    )
    with pytest.raises(DataError, match=r"'dmo' is not among them \(demo\)"):
        lesson.kept("dmo", tmp_path)
