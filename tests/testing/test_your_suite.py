"""A suite that is declared in one file, this one: the same door, the same report, the same plugin."""

import inspect
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import tinymm
from tinymm.arrays.errors import UsageError
from tinymm.testing import PropertyFailed, check
from tinymm.testing.contract import Contract
from tinymm.testing.strategies import sizes
from tinymm.testing.suite import Suite

pytest_plugins = "pytester"


@dataclass
class Unit(Contract):
    """`fn(x (n,)) -> (n,)`: x divided by its length."""


unit = Suite("unit_vector", Unit)


@unit.property("U01", why="a longer vector has a larger dot product with everything", n=sizes(1, 4))
def has_length_one(p, rng, n):
    """The result has length 1."""
    p.agree(np.linalg.norm(p.call("fn", rng.normal(size=n), shape=(n,))), 1, "length")


def right(x):
    return x / np.linalg.norm(x)


def squared(x):
    return x / (x @ x)


@pytest.fixture
def registered(monkeypatch):
    """Register the suite for one test."""
    monkeypatch.setattr(check, "CHECKS", dict(check.CHECKS))
    monkeypatch.setattr(check, "_CAUSES", dict(check._CAUSES))
    yield check.register(unit, causes={"divided by the square": "U01"})
    del check.unit_vector


def test_it_runs_through_the_same_door(registered):
    assert (
        check.unit_vector is registered is check.CHECKS["unit_vector"]
        and repr(registered) == "check.unit_vector"
    )
    assert registered(right).passed == ("U01",) and registered.__doc__ == Unit.__doc__
    assert [key for key, holds in registered.properties(right) if holds()] == ["U01"]


def test_its_mutant_breaks_the_property_and_is_reported(registered):
    with pytest.raises(PropertyFailed) as failure:
        registered(squared)
    assert failure.value.failed == ("U01",)
    first, *_, again = str(failure.value).splitlines()
    assert (
        first == "U01 (core) The result has length 1."
        and again == "again: check.unit_vector(fn, only='U01')"
    )


def test_its_own_causes_are_named(registered):
    said = check.likely_cause("unit_vector", {"U01"}, {"U01", "U02"})
    assert said == "the same properties break as with “divided by the square”; or "


def test_a_file_may_register_again_and_another_s_name_is_refused(registered):
    assert check.register(unit).suite is unit
    for name in ("softmax", "CHECKS", "no name"):
        with pytest.raises(UsageError, match=f"{name!r} is taken or no name"):
            check.register(Suite(name, Unit))
    assert check.softmax.suite.contract.__module__ == "tinymm.testing.check.softmax"


@pytest.mark.parametrize("fn, code", [("right", 0), ("squared", 1)])
def test_the_plugin_runs_it(fn, code, pytester, monkeypatch):
    pytester.makepyfile(my_suite=Path(__file__).read_text().replace("pytest_plugins", "_"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(tinymm.__file__).parents[1]))
    arguments = ["--tinymm", f"my_suite:{fn}", "--as", "my_suite:unit", "--tinymm-profile", "quick"]
    result = pytester.runpytest_subprocess(
        "-p", "tinymm.testing.pytest_plugin", "-p", "no:cacheprovider", *arguments
    )
    assert result.ret == code
    result.assert_outcomes(passed=1 - code, failed=code)
    assert ("U01 (core) The result has length 1." in result.stdout.str()) == bool(code)


# ---------------------------------------------------------------------- what an editor shows
def test_static_help_names_suites_that_are_there():
    listed = {name for name, kind in inspect.get_annotations(check).items() if kind is check.Check}
    assert "softmax" in listed and listed <= set(check.CHECKS) <= set(dir(check))
    for name in listed:
        assert isinstance(getattr(check, name), check.Check) and getattr(
            check, name
        ).__doc__.startswith("`fn(")
