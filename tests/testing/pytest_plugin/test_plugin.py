"""The properties as pytest's own tests: stable ids, exit codes, JUnit's file, a table, and refusals in one sentence."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import tinymm

pytest_plugins = "pytester"

LOSSES = """
import numpy as np

def half(S):
    S = S - S.max(axis=1, keepdims=True)
    return (np.log(np.exp(S).sum(axis=1)) - S.diagonal()).mean()

def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)

def both(I, T, scale):
    S = scale * unit(I) @ unit(T).T
    return (half(S) + half(S.T)) / 2

def one_way(I, T, scale):
    return half(scale * unit(I) @ unit(T).T)

def divided(I, T, temperature):
    return both(I, T, 1 / temperature)

def causal(n):
    return np.tri(n, dtype=bool)

def slope(g, x):
    return g * (1 - np.tanh(x) ** 2)
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Give a function that runs pytest with the plugin, in a process of its own, in a folder with my_losses.py."""
    pytester.makepyfile(my_losses=LOSSES, test_other="def test_other():\n    assert True\n")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv(
        "PYTHONPATH", str(Path(tinymm.__file__).parents[1])
    )  # where this process found the package
    return lambda *arguments: pytester.runpytest_subprocess(
        "-p", "tinymm.testing.pytest_plugin", "-p", "no:cacheprovider", *arguments
    )


def test_a_right_loss_passes_and_what_does_not_apply_is_skipped(run):
    result = run(
        "--tinymm", "my_losses:both", "--as", "contrastive_loss", "--tinymm-profile", "quick", "-rs"
    )
    assert result.ret == 0
    result.assert_outcomes(passed=15, skipped=12)
    assert "give vjp=" in result.stdout.str()


def test_a_wrong_loss_fails_with_six_lines_and_stable_names(run, pytester):
    arguments = [
        "--tinymm",
        "my_losses:one_way",
        "--as",
        "contrastive_loss",
        "--tinymm-profile",
        "quick",
    ]
    result = run(*arguments, "--junitxml", "junit.xml", "--tinymm-summary", "table.md", "-q")
    assert result.ret == 1
    result.assert_outcomes(passed=13, failed=2, skipped=12)
    text = result.stdout.str()
    assert (
        "C02 (core) Swapping pictures and texts changes nothing." in text
        and "likely cause:" in text
        and "Traceback" not in text
    )
    assert "def runtest" not in text and "FAILED tinymm.C02" in text
    cases = ET.parse(pytester.path / "junit.xml").getroot().iter("testcase")
    assert {case.get("name") for case in cases if case.find("failure") is not None} == {
        "tinymm.C02",
        "tinymm.C13",
    }
    rows = (pytester.path / "table.md").read_text().splitlines()
    assert rows[0] == "| property | | what must hold | found |" and len(rows) == 2 + 27
    assert [row.split(" | ")[:2] for row in rows if "✗" in row] == [
        ["| tinymm.C02", "✗"],
        ["| tinymm.C13", "✗"],
    ]
    assert any("came where" in row for row in rows) and all(
        len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows
    )


def test_one_property_is_chosen_by_its_name_and_other_tests_run_where_a_path_is_given(run):
    result = run(
        "--tinymm",
        "my_losses:both",
        "--as",
        "contrastive_loss",
        "--tinymm-profile",
        "5",
        "-k",
        "C02",
    )
    result.assert_outcomes(passed=1, deselected=26)
    result = run(
        "test_other.py",
        "--tinymm",
        "my_losses:causal",
        "--as",
        "causal_mask",
        "--tinymm-profile",
        "5",
    )
    result.assert_outcomes(passed=7)
    result = run("-q")
    result.assert_outcomes(passed=1)


def test_contracts_come_from_the_command_line(run):
    arguments = [
        "--tinymm",
        "my_losses:divided",
        "--as",
        "contrastive_loss",
        "--tinymm-profile",
        "5",
    ]
    assert run(*arguments).ret == 1
    assert run(*arguments, "--tinymm-contract", "scale=divide", "--tinymm-tier", "core").ret == 0
    result = run(
        "--tinymm",
        "numpy:tanh",
        "--as",
        "vjp",
        "--tinymm-contract",
        "vjp=my_losses:slope",
        "--tinymm-contract",
        "domain=(-1.0, 1.0)",
    )
    result.assert_outcomes(passed=6)


def test_two_functions_have_names_apart(run):
    both = [
        "--tinymm",
        "my_losses:causal",
        "--as",
        "causal_mask",
        "--tinymm",
        "my_losses:divided",
        "--as",
        "contrastive_loss",
    ]
    result = run(*both, "--tinymm-profile", "5", "-v")
    text = result.stdout.str()
    assert (
        "tinymm.M02[my_losses:causal] PASSED" in text
        and "tinymm.C05[my_losses:divided] FAILED" in text
    )


MINE = ["--tinymm", "my_losses:both", "--as", "softmax"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--tinymm", "my_losses:both"],
            "each --tinymm has an --as, and 1 and 0 came; say what each function is",
        ),
        (
            ["--tinymm", "my_losses:both", "--as", "loss"],
            "--as is one of attention, .*, and 'loss' came",
        ),
        (
            ["--tinymm", "my_losses:mine", "--as", "softmax"],
            r"--tinymm my_losses:mine cannot be imported \(.*mine.*\); run where my_losses is found",
        ),
        (
            ["--tinymm", "nowhere:mine", "--as", "softmax"],
            r"nowhere:mine cannot be imported \(No module named 'nowhere'\)",
        ),
        (
            ["--tinymm", "my_losses", "--as", "softmax"],
            "takes module:function, and 'my_losses' came; write it as my_package.losses:my_loss",
        ),
        (
            [*MINE, "--tinymm-contract", "axis"],
            "takes name=value, and 'axis' came; write it as inputs=unit",
        ),
        ([*MINE, "--tinymm-contract", "axis=7"], "axis is one of -1, 1, 0; 7 came"),
        (
            [*MINE, "--tinymm-profile", "slow"],
            "'quick', 'ci', 'deep' or a whole number above 0; 'slow' came",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_sentence(arguments, message, run):
    result = run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = result.stderr.str() + result.stdout.str()
    assert re.search(message, said), said
    assert "Traceback" not in said
