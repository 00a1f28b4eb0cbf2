"""README and docs tell the truth: their Python runs, their commands parse, their links lead somewhere."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tinymm.__main__ import build_parser
from tinymm.autodiff import CATALOGUE
from tinymm.autodiff.answers import ANSWERS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    (page.name, i, code)
    for page in PAGES
    for i, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))
]


@pytest.mark.parametrize(
    ("page", "number", "code"), EXAMPLES[1:], ids=[f"{page}-{i}" for page, i, _ in EXAMPLES[1:]]
)
def test_python_in_the_pages_runs(page, number, code, monkeypatch):
    ops, answers = dict(CATALOGUE), dict(ANSWERS)
    try:
        exec(compile(code, f"{page}[{number}]", "exec"), {})  # noqa: S102
    finally:  # an example that declares an op must not leave it behind
        for table, before in ((CATALOGUE, ops), (ANSWERS, answers)):
            table.clear()
            table.update(before)


def test_the_readmes_ten_lines_learn():
    code = EXAMPLES[0][2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    found: dict = {}
    exec(compile(code, "README", "exec"), found)  # noqa: S102
    uniform = found["np"].log(64)
    assert found["loss"] < 0.8 * uniform, (
        "200 steps bring the loss clearly below a uniform prediction's"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), (
            f"{page.name} links to {target}"
        )


def commands():
    for page in PAGES:
        for line in re.findall(r"^\s*python -m tinymm (.+?)(?:  .*)?$", page.read_text(), re.M):
            yield page.name, line


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_commands_in_the_pages_parse(page, line):
    assert build_parser().parse_args(shlex.split(line))


def test_every_help_has_an_example_that_parses():
    parser = build_parser()
    seen = 0
    pages = [parser]
    while pages:
        page = pages.pop()
        for action in page._actions:
            pages += (
                list(getattr(action, "choices", None).values())
                if isinstance(getattr(action, "choices", None), dict)
                else []
            )
        if page.epilog:
            assert parser.parse_args(
                shlex.split(page.epilog.removeprefix("example: python -m tinymm "))
            )
            seen += 1
    assert seen >= 8


def test_the_ci_script_finds_the_test_command():
    lines = subprocess.run(
        ["bash", "-c", r"sed -n '/<!-- test command -->/,/<!-- end -->/p' README.md | sed -n '/^```bash$/,/^```$/p' | sed '1d;$d'"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "-c constraints.txt" in lines and lines.strip().endswith("-m pytest")
    assert sys.version_info >= (3, 11)
