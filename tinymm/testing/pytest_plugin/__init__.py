"""The same properties for pytest: `pytest -p tinymm.testing.pytest_plugin --tinymm my_package.losses:my_loss --as contrastive_loss`.

Each property is a test of its own with an id that stays, `tinymm.C02`, in the exit code, in JUnit's
file and behind `-k`. A property that does not apply is a skipped test that says what is missing.
Where no path is given on the command line, only the properties run. The options:

`--tinymm module:function` a function to be checked, or more of them, each with an `--as` behind it;
`--as suite` what it is, one of `check`'s suites, or `module:suite` for one of yours;
`--tinymm-contract name=value` an option of the contract, such as `inputs=unit`;
`name=module:function` for one that is a function; `--tinymm-profile quick|ci|deep|N` how many cases
(default: ci); `--tinymm-tier core|strict` (default: strict); `--tinymm-summary FILE` a table in
Markdown for a pull request.
"""

import ast
import importlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tinymm.arrays.errors import TinymmError

from .. import check
from ..contract import PropertyFailed
from ..suite import Property

ITEMS = pytest.StashKey[list]()
_NAMED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class PropertyItem(pytest.Item):
    """One property of one function, as a test."""

    subject: str
    examination: check.Examination
    property_: Property

    def runtest(self) -> None:
        """Raise what broke, or skip what does not apply."""
        key = self.property_.id
        if reason := self.examination.not_run.get(key):
            pytest.skip(reason)
        if key in self.examination.broken:
            raise PropertyFailed(self.examination.report(key), (key,))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the lines of the report, and no traceback of ours."""
        return (
            str(excinfo.value)
            if isinstance(excinfo.value, PropertyFailed)
            else super().repr_failure(excinfo, style)
        )

    def reportinfo(self) -> tuple[str, None, str]:
        """Return what stands above a failure."""
        return self.subject, None, f"{self.name} {self.property_.sentence}"


def named(text: str, option: str = "--tinymm") -> Any:
    """Return what `module:function` names; UsageError for one that is not there."""
    module, _, path = text.partition(":")
    if not _NAMED.fullmatch(text):
        raise pytest.UsageError(
            f"{option} takes module:function, and {text!r} came; write it as my_package.losses:my_loss"
        )
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as problem:
        raise pytest.UsageError(
            f"{option} {text} cannot be imported ({problem}); run where {module.split('.')[0]} is found"
        ) from problem
    return found


def contract_of(options: Iterable[str]) -> dict[str, Any]:
    """Return a contract's options from `name=value`: a number, True, False or a tuple as in Python, `module:function`, or a word.

    pytest's UsageError for an option without "=".
    """
    contract = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not sign or not name.isidentifier():
            raise pytest.UsageError(
                f"--tinymm-contract takes name=value, and {option!r} came; write it as inputs=unit"
            )
        try:
            contract[name] = named(value) if _NAMED.fullmatch(value) else ast.literal_eval(value)
        except (ValueError, SyntaxError):
            contract[name] = value
    return contract


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("tinymm", "properties of masks, losses and gradients")
    group.addoption(
        "--tinymm",
        action="append",
        default=[],
        metavar="MODULE:FUNCTION",
        help="check this function's properties",
    )
    group.addoption(
        "--as",
        dest="tinymm_as",
        action="append",
        default=[],
        metavar="SUITE",
        help=f"what it is: {', '.join(check.CHECKS)}",
    )
    said = "an option of its contract, such as inputs=unit; may be given several times"
    group.addoption(
        "--tinymm-contract", action="append", default=[], metavar="NAME=VALUE", help=said
    )
    group.addoption(
        "--tinymm-profile",
        default="ci",
        metavar="PROFILE",
        help="quick (30 cases), ci (100), deep (2,000), or a number",
    )
    group.addoption(
        "--tinymm-tier",
        default="strict",
        choices=["core", "strict"],
        help="strict, or core without the strict properties",
    )
    group.addoption("--tinymm-summary", metavar="FILE", help="write a table in Markdown")


def pytest_configure(config: pytest.Config) -> None:
    """Without a path on the command line, collect nothing else."""
    if config.getoption("--tinymm") and config.args_source != pytest.Config.ArgsSource.ARGS:
        config.args = []


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add a test for each property of each function; pytest's UsageError unless each `--tinymm` has its `--as`."""
    names, suites = config.getoption("--tinymm"), config.getoption("tinymm_as")
    if len(names) != len(suites):
        raise pytest.UsageError(
            f"each --tinymm has an --as, and {len(names)} and {len(suites)} came; say what each function is"
        )
    here = str(config.invocation_params.dir)
    if names and here not in sys.path:
        sys.path.insert(0, here)
    for name, suite in zip(names, suites, strict=True):
        examination = examined(name, suite, config)
        for key, property_ in examination.suite.properties.items():
            label = f"tinymm.{key}" + (f"[{name}]" if len(names) > 1 else "")
            item = PropertyItem.from_parent(session, name=label, nodeid=label)
            item.subject, item.examination, item.property_ = name, examination, property_
            items.append(item)
            config.stash.setdefault(ITEMS, []).append(item)


def examined(name: str, suite: str, config: pytest.Config) -> check.Examination:
    """Return a function under the contract of the command line; all its properties are looked at together when the first of them runs.

    pytest's UsageError for a suite or an option that is not there.
    """
    if _NAMED.fullmatch(suite):
        suite = check.register(named(suite, "--as")).suite.name
    if suite not in check.CHECKS:
        raise pytest.UsageError(
            f"--as is one of {', '.join(check.CHECKS)}, and {suite!r} came; pass one of these"
        )
    contract, profile = (
        contract_of(config.getoption("--tinymm-contract")),
        config.getoption("--tinymm-profile"),
    )
    examples = int(profile) if profile.isdecimal() else profile
    try:
        return check.Examination(
            check.CHECKS[suite], named(name), contract, examples, config.getoption("--tinymm-tier")
        )
    except TinymmError as problem:
        raise pytest.UsageError(str(problem)) from problem


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write the table of what passed, what broke and what was not run."""
    path = config.getoption("--tinymm-summary")
    if not path:
        return
    rows = ["| property | | what must hold | found |", "|---|---|---|---|"]
    marks = {"passed": "✓", "failed": "✗", "skipped": "–"}
    outcomes = {
        report.nodeid: mark
        for outcome, mark in marks.items()
        for report in terminalreporter.stats.get(outcome, [])
    }
    for item in config.stash.get(ITEMS, []):
        if mark := outcomes.get(item.nodeid):
            key, found = item.property_.id, item.examination
            said = (
                found.broken[key].found
                if mark == "✗" and key in found.broken
                else found.not_run.get(key, "")
            )
            rows.append(
                "| "
                + " | ".join(
                    cell.replace("|", "\\|")
                    for cell in (item.name, mark, item.property_.sentence, said)
                )
                + " |"
            )
    Path(path).write_text("\n".join(rows) + "\n", encoding="utf-8")
