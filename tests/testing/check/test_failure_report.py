"""The report of a failure: five lines that a student can act on, whatever the function did."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import right
from hypothesis import find, given
from wrong import WRONG, broken_by

from tinymm import Tensor
from tinymm.testing import PropertyFailed, check, hints, strategies
from tinymm.testing.contract import Contract, Found


def report(one, fn, **options):
    with pytest.raises(PropertyFailed) as failure:
        one(fn, **{"examples": "quick", **options})
    return str(failure.value).splitlines(), failure.value.failed


def test_five_lines_and_one_to_run_it_again():
    lines, failed = report(check.causal_mask, lambda n: np.tri(n, k=1, dtype=bool))
    assert lines == [
        "M02 (core) No token sees a later one.",
        "found: token 0 sees the later token 1; M06 broke too",
        "smallest failing input: fn(2); n = 2",
        "why it matters: a row that sees its own answer makes the loss wonderfully low and the model useless",
        "likely cause: the same properties break as with “sees one token ahead”; "
        "or another convention than true_means='attend', additive=False, window=False",
        "again: check.causal_mask(fn, examples='quick', only='M02')",
    ]
    assert failed == ("M02", "M06")


def test_numbers_are_shown_at_their_smallest():
    lines, _ = report(check.contrastive_loss, WRONG["contrastive_loss"]["one direction only"]["fn"])
    assert lines[0].startswith("C02")
    assert "came where" in lines[1] and "allowed difference 2e-09" in lines[1]
    assert "n = 2, E = 1, scale = 1, seed = 0" in lines[2]
    assert "“one direction only”" in lines[4] and "inputs='raw', scale='multiply'" in lines[4]


def test_the_line_to_run_again_fails_in_the_same_place():
    fn = WRONG["causal_mask"]["right up to four tokens"]["fn"]
    first, again = report(check.causal_mask, fn)[0], report(check.causal_mask, fn, only="M02")[0]
    assert again[0] == first[0] and again[2] == first[2]
    assert "n = 5" in again[2]


@pytest.mark.parametrize(
    "fn, found",
    [
        (lambda x: 1 / 0, "fn raised ZeroDivisionError: division by zero"),
        (lambda x: x[None], "fn returned shape (1, 1, 2) where (1, 2) belongs"),
        (lambda x: x * np.nan, "fn returned 2 of 2 numbers NaN or infinite"),
        (lambda x: None, "fn returned NoneType where an array of numbers belongs"),
        (lambda x: "no", "fn returned str where an array of numbers belongs"),
        (
            lambda x: [[1.0], [1.0, 2.0]],
            "fn returned list, of which no array can be made: setting an array element",
        ),
        (lambda x, y: x, "fn raised TypeError"),
    ],
)
def test_misbehavior_is_a_finding_and_no_crash(fn, found):
    lines, _ = report(check.softmax, fn)
    assert found in lines[1]
    assert lines[2].startswith("smallest failing input: fn([[")


@pytest.mark.parametrize("value, place", [(7, ""), (-1, ""), ([0, 7, 9], " at 1 (2 such places)")])
def test_an_index_out_of_range_is_named_with_its_place_where_it_has_one(value, place):
    with pytest.raises(Found) as found:
        Contract(len).indices("fn", np.array(value), np.shape(value), 5)
    assert str(found.value) == f"fn returned a number outside [0, 5){place}"


NONSENSE = {
    "nothing": lambda *given: None,
    "a number": lambda *given: 0,
    "two numbers": lambda *given: (0, 1),
    "three lists": lambda *given: ([1], [1, 2], [3]),
    "three ragged lists": lambda *given: ([[1], [1, 2]],) * 3,
    "its input": lambda *given: given[0],
    "NaN": lambda *given: (np.full(3, np.nan),) * 2,
    "an error": lambda *given: 1 / 0,
}


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("suite", check.CHECKS)
def test_nonsense_fails_every_suite_and_crashes_none(suite, nonsense):
    one = check.CHECKS[suite]
    promised = one.promise(NONSENSE[nonsense], {})
    assert one.suite.findings(promised, one.suite.select(promised, "strict")[0], 3)


def test_a_generator_is_shown_by_the_seed_that_made_it():
    lines, failed = report(
        check.hard_negatives, WRONG["hard_negatives"]["rows and columns swapped"]["fn"]
    )
    assert failed[0] == "N03" and lines[1].startswith(
        "found: picture 0 did not get the text that is 60 above all others"
    )
    assert ", rng); n = 3, seed = 0" in lines[2]


def test_large_arrays_are_cut_to_twelve_numbers():
    lines, _ = report(
        check.softmax, lambda x: right.softmax(x) if x.size < 15 else right.softmax(x) * 2
    )
    assert lines[2].count(",") < 20
    assert "array beginning" in lines[2]


def test_a_function_that_throws_dice_is_called_so():
    rng = np.random.default_rng(0)
    lines, _ = report(check.softmax, lambda x: right.softmax(x) * (1 + (rng.random() < 0.2)))
    assert (
        "the function gives different results for one input" in lines[1] or "came where" in lines[1]
    )


def test_verbose_prints_what_passed_and_what_was_not_run(capsys):
    check.softmax(right.softmax, verbose=True, examples=5)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "✓ S01 Probabilities: none negative, and they sum to 1 along the axis."
    assert lines[-1].startswith("– S08c") and lines[-1].endswith("(not run: give vjp=)")


def test_inputs_changed_in_place_do_not_spoil_other_properties():
    def fn(q, k, v, mask):
        out = right.attention(q, k, v, mask)
        k[...] = 0
        return out

    assert report(check.attention, fn)[1] == ("A19",)


def test_the_smallest_input_is_what_came_before_it_was_written_into():
    def fn(x):
        p = 2 * right.softmax(x)
        x[...] = 777
        return p

    lines, _ = report(check.softmax, fn)
    assert lines[2].startswith("smallest failing input: fn(") and "777" not in lines[2]


def test_a_layer_that_throws_dice_is_told_to_stop():
    rng = np.random.default_rng(0)
    lines, _ = report(check.no_leak, lambda x, mask: x * (rng.random(x.shape) < 0.5))
    assert lines[4].startswith(
        "likely cause: two calls differ: eval()? (your function gave results "
    )


def test_flax_s_fast_variance_is_found_in_float32():
    for name in (
        "mean of squares minus square of mean",
        "vjp of mean of squares minus square of mean",
    ):
        assert broken_by("layer_norm", {**WRONG["layer_norm"][name], "dtype": "float32"}, 30)[
            0
        ] in ("L02b", "L07c")


@given(strategies.paddings(side="right"))
def test_right_padding_has_real_tokens_first(is_real):
    assert is_real.any(axis=1).all()
    assert not (is_real[:, 1:] & ~is_real[:, :-1]).any()


@given(strategies.paddings(side="left"), strategies.masks(3, 2), strategies.unit_embeddings(3, 4))
def test_drawn_padding_masks_and_embeddings_keep_their_promises(is_real, mask, rows):
    assert not (is_real[:, :-1] & ~is_real[:, 1:]).any()
    assert mask.shape == (3, 2) and mask.any(axis=1).all()
    assert np.allclose((rows**2).sum(axis=1), 1)


@given(
    strategies.batches(width=3),
    strategies.batches(distinct=False),
    strategies.lengths(),
    strategies.masks(),
    strategies.unit_embeddings(),
)
def test_drawn_batches_and_sizes_that_are_left_out(batch, other, lengths, mask, rows):
    B, T = batch.is_real.shape
    assert (
        batch.images.shape == batch.texts.shape == (B, 3)
        and batch.ids.shape == (B, T)
        and 0 <= batch.ids.min() <= batch.ids.max() < 9
    )
    assert batch.is_real.any(axis=1).all() and len(set(batch.image_ids)) == B == len(
        batch.image_ids
    )
    assert len(other.image_ids) == len(other.images)
    assert 1 <= lengths.min() <= lengths.max() <= 5 and 1 <= len(lengths) <= 4
    assert mask.shape[0] == mask.shape[1] and mask.any(axis=1).all()
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)


def test_batches_with_repeated_pictures_do_occur():
    find(
        strategies.batches(distinct=False),
        lambda batch: len(set(batch.image_ids)) < len(batch.image_ids),
    )


@given(strategies.similarities(3), strategies.normals(2, 5))
def test_drawn_scores_are_distinct_and_normals_have_their_shape(scores, numbers):
    assert len(np.unique(scores)) == 9
    assert numbers.shape == (2, 5)


# ---------------------------------------------------------------------- what a notebook shows
def ahead(n):
    return np.tri(n, k=1, dtype=bool)


def shown(fn, **options):
    with pytest.raises(PropertyFailed) as failure:
        check.causal_mask(fn, examples=5, **options)
    return failure.value._render_traceback_()


@pytest.fixture
def unhinted():
    """Begin and end without failures that were shown before."""
    hints._shown.clear()
    yield
    hints._shown.clear()


def test_a_notebook_shows_the_report_and_no_line_of_ours(unhinted):
    assert shown(ahead) == report(check.causal_mask, ahead, examples=5)[0]


def test_the_third_sixth_and_ninth_failure_that_is_shown_point_to_the_next_hint(unhinted):
    last = [shown(ahead)[-1] for _ in range(12)]
    offered = {
        number: line
        for number, line in enumerate(last, 1)
        if line.startswith(("third", "sixth", "ninth"))
    }
    assert offered == {
        3: "third failure of causal_mask here: open hint 1 above the task",
        6: "sixth failure of causal_mask here: open hint 2 above the task",
        9: "ninth failure of causal_mask here: open hint 3 above the task",
    }


def test_a_pass_begins_again_and_calls_are_counted_apart(unhinted):
    shown(ahead), shown(ahead), shown(ahead, only="M02")
    check.causal_mask(right.causal_mask, examples=5, only="M02")
    assert not shown(ahead, only="M02")[-1].startswith("third")
    assert shown(ahead)[-1].startswith("third")
    check.causal_mask(right.causal_mask, examples=5)
    assert [shown(ahead)[-1].startswith("third") for _ in range(3)] == [False, False, True]


def test_failures_that_are_caught_are_not_counted(unhinted):
    for _ in range(5):
        assert len(report(check.causal_mask, ahead)[0]) == 6
    assert len(shown(ahead)) == 6


def test_a_check_that_is_stopped_says_in_which_call():
    def endless(n):
        if n > 1:
            raise KeyboardInterrupt
        return right.causal_mask(n)

    with pytest.raises(KeyboardInterrupt) as stopped:
        check.causal_mask(endless)
    [line] = stopped.value._render_traceback_()
    assert re.fullmatch(
        r"check.causal_mask was stopped, after calling fn\(\d\); does the function come to an end\?",
        line,
    )
    assert not line.endswith("fn(1); does the function come to an end?")


SHELL = """
from traitlets.config import Config
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance(config=Config(HistoryManager={"hist_file": ":memory:"}))
failing = "check.causal_mask(lambda n: np.tri(n, k=1, dtype=bool), examples=5)"
for line in ["import numpy as np", "from tinymm.testing import check"] + [failing, failing + "  # another cell"] * 7:
    shell.run_cell(line, store_history=True)
"""


@pytest.mark.extra
def test_ipython_shows_it_so(tmp_path):
    pytest.importorskip("IPython")
    environment = os.environ | {
        "IPYTHONDIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    said = subprocess.run(
        [sys.executable, "-c", SHELL], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said.count("M02 (core)") == 14 and "check.py" not in said
    found = [
        re.search(r"(?:third|sixth|ninth) failure .* hint \d", words)
        for words in said.split("M02 (core)")
    ]
    hints_at = {count: match[0] for count, match in enumerate(found) if match}
    assert list(hints_at) == [5, 6, 11, 12], "two cells, each at its third and its sixth failure"
    assert hints_at[5].endswith("hint 1") and hints_at[12].endswith("hint 2")


# ---------------------------------------------------------------------- the likely cause
def cause(one, fn, *more, **options):
    with pytest.raises(PropertyFailed) as failure:
        one(fn, *more, **{"examples": "quick", **options})
    return str(failure.value).splitlines()[4].removeprefix("likely cause: ")


def additive(n):
    return np.where(np.tri(n), 0, -np.inf)


@pytest.mark.parametrize(
    "fn, said",
    [
        (lambda n: None, "your function returned None: a path of it has no return"),
        (
            lambda n: 1 / 0,
            r"your function raised ZeroDivisionError: division by zero \(line \d+, in <lambda>\)",
        ),
        (
            lambda: 1,
            "your function raised TypeError: .* takes 0 positional arguments but 1 was given; or another convention than true_means=.*",
        ),
        (
            lambda n: np.tri(n, dtype=bool)[None],
            r"your function returned shape \(1, 1, 1\) and not \(1, 1\); or another convention than .*",
        ),
        (
            lambda n: np.tri(5, dtype=bool),
            r"your function returned shape \(5, 5\) and not \(1, 1\); or another convention than .*",
        ),
        (lambda n: Tensor(np.tri(n)), "your function returned Tensor; return a NumPy array"),
        (np.tri(3), "ndarray came for your function: pass its name, without calling it"),
        (np.tri, "your function gave float64; a mask is boolean: dtype=bool"),
        (
            additive,
            r"your function gave float64; a mask is boolean: an additive mask\? say additive=True",
        ),
    ],
)
def test_what_raised_or_has_a_wrong_form_is_the_cause_and_no_twin_is_named(fn, said):
    assert re.fullmatch(said, cause(check.causal_mask, fn))
    assert re.fullmatch(said, cause(check.causal_mask, fn, only="M01"))


@pytest.mark.parametrize("suite", check.CHECKS)
def test_no_twin_of_nothing(suite):
    assert not re.search("nothing was|“", cause(check.CHECKS[suite], NONSENSE["nothing"]))


def test_a_function_that_breaks_all_has_no_twin():
    assert cause(check.softmax, lambda x: x * np.nan).startswith(
        "all properties break: look first at what it gives for this input; or another"
    )


def test_one_property_alone_is_told_the_cause_that_all_of_them_show():
    assert cause(check.causal_mask, ahead, only="M02") == cause(check.causal_mask, ahead)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "vjp, said",
    [
        (lambda g, x: g * x * x, "0.3333 times the slope, everywhere: a factor 3 is missing"),
        (lambda g, x: 6 * g * x * x, "2 times the slope, everywhere: a factor 2 is too much"),
        (lambda g, x: -3 * g * x * x, "-1 times the slope, everywhere: a minus is missing"),
        (lambda g, x: (3 * g * x * x).T, "transposed"),
        (lambda g, x: 0 * g, "zero"),
        (lambda g, x: 3 * x * x, "the same for every g, the gradient that comes in from behind"),
    ],
)
def test_a_gradient_that_is_off_by_a_factor_or_transposed_is_called_so(vjp, said, dtype):
    assert (
        cause(check.vjp, lambda x: x * x * x, vjp, signature="(n,n)", dtype=dtype)
        == f"your gradient of argument 0 is {said}"
    )


def test_a_gradient_that_is_off_otherwise_names_how_many_mistakes_break_the_same():
    assert re.match(
        "the same properties break as with “zero”, “[^”]*” and [0-9]+ others; or",
        cause(check.vjp, np.tanh, lambda g, x: g * x),
    )


def test_a_pass_reads_as_a_sentence():
    said = repr(check.softmax(right.softmax, tier="core", examples=5))
    assert (
        said
        == "holds: S01 S02 S03 S04 S05\nnot run: S08a S08b S08c (give vjp=)"
        == str(check.softmax(right.softmax, examples=5))
    )
    assert (
        repr(check.softmax(right.softmax, only="S08a", examples=5))
        == "holds: nothing was run\nnot run: S08a (give vjp=)"
    )


@pytest.mark.extra
def test_a_notebook_shows_lines_of_the_report_only():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    first = "import numpy as np\nfrom tinymm.testing import check"
    cells = [
        first,
        *(f"check.causal_mask(lambda n: np.tri(n, k={k}, dtype=bool), examples=5)" for k in (0, 1)),
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, allow_errors=True, kernel_name="python3").execute()
    (held,), (broken,) = book.cells[1].outputs, book.cells[2].outputs
    assert held["data"]["text/plain"] == "holds: M01 M02 M03 M04 M05 M06"
    assert (
        "\n".join(broken["traceback"]).splitlines()
        == report(check.causal_mask, ahead, examples=5)[0]
    )
