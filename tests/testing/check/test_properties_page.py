"""The page on properties tells the truth: its tables are those of the code, its example is run, right and wrong.

Run as a script it prints the tables.
"""

import re
from collections import Counter
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from tinymm.testing import PropertyFailed, check
from tinymm.testing.causes import CAUSES

PAGE = Path(__file__).parents[3] / "docs" / "properties.md"


def contracts():
    """Return the table of what each check takes, from the contracts themselves."""
    rows = ["| check | takes | options | further properties run with |", "|---|---|---|---|"]
    for name, one in check.CHECKS.items():
        takes = " and ".join(
            [
                re.match(r"`([^`]*)`", one.contract.__doc__).group(0),
                *(f"`{more}`" for more in one.contract.positional),
            ]
        )
        options, given = [], []
        for field in fields(one.contract):
            if field.name in ("fn", "dtype", *one.contract.positional):
                continue
            default = None if field.default is MISSING else field.default
            if "Callable" in str(field.type):
                given.append(f"`{field.name}`")
            else:
                others = [
                    repr(value)
                    for value in one.contract.choices.get(field.name, ())
                    if value != default
                ]
                options.append(
                    f"`{field.name}={default!r}`"
                    + (f" or {', '.join(f'`{value}`' for value in others)}" if others else "")
                )
        rows.append(f"| `{name}` | {takes} | {'; '.join(options)} | {', '.join(given)} |")
    return rows


def catches():
    """Return the table of how many planted mistakes each property catches."""
    rows = [
        "| check | mistakes | caught by one property alone | how many each property catches |",
        "|---|---|---|---|",
    ]
    for name, mistakes in CAUSES.items():
        counts = Counter(key for ids in mistakes.values() for key in ids.split())
        alone = sum(len(ids.split()) == 1 for ids in mistakes.values())
        each = " · ".join(f"{key} {counts[key]}" for key in check.CHECKS[name].suite.properties)
        rows.append(f"| `{name}` | {len(mistakes)} | {alone} | {each} |")
    return rows


TABLES = {"contracts": contracts, "catches": catches}


def between(marker):
    return (
        PAGE.read_text()
        .split(f"<!-- {marker} -->\n")[1]
        .split("<!-- end -->")[0]
        .strip()
        .splitlines()
    )


@pytest.mark.parametrize("table", TABLES)
def test_the_tables_are_those_of_the_code(table):
    assert between(table) == TABLES[table](), (
        "print them with: python tests/testing/check/test_properties_page.py"
    )


def test_the_totals_are_those_of_the_code():
    properties = sum(len(one.suite.properties) for one in check.CHECKS.values())
    mistakes = sum(map(len, CAUSES.values()))
    assert (
        f"{properties} properties in {len(check.CHECKS)} suites" in PAGE.read_text()
        and f"{mistakes} planted mistakes" in PAGE.read_text()
    )


def test_every_check_says_what_it_takes():
    for one in check.CHECKS.values():
        assert one.contract.__doc__.startswith("`fn("), one
        for field in fields(one.contract):  # an option that the text leaves out cannot be found
            if field.name not in ("fn", "dtype", "true_means", "additive"):
                assert field.name in one.contract.__doc__, (one, field.name)


# ---------------------------------------------------------------------- the examples with PyTorch and JAX
def example(library="torch"):
    return re.search(rf"```py\n(import {library}\b.*?)```", PAGE.read_text(), re.S).group(1)


@pytest.mark.parity
def test_the_example_with_pytorch_passes(torch):
    exec(compile(example(), "properties.md", "exec"), {})  # noqa: S102


def test_the_example_with_jax_passes():
    pytest.importorskip("jax")
    few = example("jax").replace(
        'scale="multiply")', 'scale="multiply", examples=5)'
    )  # each new shape is compiled
    assert few != example("jax")
    exec(compile(few, "properties.md", "exec"), {})  # noqa: S102


@pytest.mark.parity
def test_the_example_made_wrong_fails_as_the_page_prints(torch):
    right = "(F.cross_entropy(logits, y) + F.cross_entropy(logits.T, y)) / 2"
    assert example().count(right) == 1
    with pytest.raises(PropertyFailed) as failure:
        exec(
            compile(
                example().replace(right, "F.cross_entropy(logits, y)"), "properties.md", "exec"
            ),
            {},
        )  # noqa: S102
    assert between("failure")[1:-1] == str(failure.value).splitlines()


if __name__ == "__main__":
    for table in TABLES.values():
        print("\n".join(table()), end="\n\n")
