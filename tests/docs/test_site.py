"""The site as a reader has it: built with warnings as errors, every link leads somewhere, and a real browser asks nobody else for anything."""

import base64
import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import CHROMIUM, Browser
from browser import served as serve

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "docs"
#: Attributes by which a page makes the browser fetch something.
FETCHES = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("sphinx", "myst_nb", "furo")),
        reason="needs the extra `docs`",
    ),
]
SHEETS = [
    f"sheets/{name}"
    for name in ("masks", "losses", "shapes_clip", "shapes_blip2", "axes", "evaluation")
]
needs_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


class Page(HTMLParser):
    """What a page links to, fetches, and can be led to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.fetched, self.places = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.places |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.links.add(found["href"])
        if FETCHES.get(tag) in found:
            self.fetched.add(found[FETCHES[tag]])


@pytest.fixture(scope="module")
def site():
    """Build as the contributors' page says; what is unchanged since the last build is not built again."""
    command = re.search(r"python -m (sphinx .+?)`", (ROOT / "docs" / "conf.py").read_text())[
        1
    ].split()
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        path.relative_to(SITE).as_posix(): Page(path.read_text())
        for path in SITE.rglob("*.html")
        if "_static" not in path.parts
    }


def test_links_lead_somewhere(site):
    lost = []
    for name, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or name == "search.html":
                continue
            target = (
                ((SITE / name).parent / unquote(parts.path)).resolve()
                if parts.path
                else SITE / name
            )
            there = (
                target.relative_to(SITE.resolve()).as_posix()
                if target.is_relative_to(SITE.resolve())
                else "?"
            )
            fragment = unquote(parts.fragment)
            if not target.exists() or (
                there in site and fragment and fragment not in site[there].places
            ):
                lost.append(f"{name} -> {link}")
    assert not lost, "\n".join(sorted(lost)[:20])


def test_pages_fetch_only_their_own_files(site):
    for name, page in site.items():
        for address in page.fetched:
            assert not urlsplit(address).netloc, f"{name} fetches {address}"
            assert (
                address.startswith("data:")
                or ((SITE / name).parent / urlsplit(address).path).exists()
            ), f"{name} lacks {address}"
    for path in [*SITE.rglob("*.css"), *SITE.rglob("*.js")]:
        assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", path.read_text()), (
            f"{path.name} fetches from elsewhere"
        )


def test_every_module_is_annotated_and_every_picture_described(site):
    modules = {
        p.relative_to(ROOT / "tinymm").with_suffix("") for p in (ROOT / "tinymm").rglob("*.py")
    }
    pages = {(m.parent if m.name == "__init__" and m.parts[:-1] else m).as_posix() for m in modules}
    assert {f"annotated/{name}.html" for name in pages} <= set(site)
    for name in site:
        for picture in re.findall(r"<img[^>]*_images[^>]*>", (SITE / name).read_text()):
            assert re.search(r'alt="[^"]{10,}', picture), f"{name}: {picture[:120]}"


# ---------------------------------------------------------------------- in a browser
@pytest.fixture(scope="module")
def served(site):
    with serve(SITE) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


def visit(browser, address, width=1280, dark=False):
    """Open a page in a window of this width and these colors, and wait until it is drawn; what was noted before is forgotten."""
    browser.requests.clear()
    browser.complaints.clear()
    browser.look(width, dark=dark, phone=width < 600)
    browser.open(address)
    browser.ask(
        "document.documentElement.style.scrollBehavior = 'auto'"
    )  # a pointer goes to where an element is, not to where it will be
    browser.ask(
        "new Promise(done => document.fonts.ready.then(() => requestAnimationFrame(() => setTimeout(done, 100))))"
    )


def opened():
    notebooks = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    prose = [
        "index",
        "explorers",
        "losses",
        "faq",
        "glossary",
        "catalogue",
        "annotated",
        "cheat_sheets",
    ]
    return [
        *prose,
        *SHEETS,
        "api/losses",
        "annotated/layers/masks",
        *(f"tutorials/{name}" for name in notebooks[:1]),
    ]


@needs_a_browser
@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)]
)
@pytest.mark.parametrize("page", opened())
def test_page_is_read_without_the_network(page, width, dark, browser, served):
    visit(browser, f"{served}/{page}.html", width, dark)
    elsewhere = [
        address for address in browser.requests if not address.startswith((served, "data:"))
    ]
    assert len(browser.requests) > 3 and not elsewhere and not browser.complaints, (
        elsewhere,
        browser.complaints,
    )
    assert browser.ask("document.documentElement.scrollWidth") <= width, (
        "the page is wider than its window"
    )
    ground = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == dark, (
        f"the page's ground is {ground}"
    )


@needs_a_browser
def test_formulas_are_drawn_and_columns_stand_side_by_side(browser, served):
    visit(browser, f"{served}/losses.html")
    assert (
        browser.ask(
            "[...document.querySelectorAll('math')].filter(m => m.getBoundingClientRect().height > 8).length"
        )
        > 50
    )
    columns = """(() => {
        const row = document.querySelector('.annotated .row:not(.alone)');
        const [prose, code] = ['.said', '.code'].map(name => row.querySelector(name).getBoundingClientRect());
        return [prose.top, code.top, prose.left, code.left];
    })()"""
    visit(browser, f"{served}/annotated/layers/masks.html")
    prose, code, left, right = browser.ask(columns)
    assert prose == code and left < right
    visit(browser, f"{served}/annotated/layers/masks.html", 390)
    prose, code, left, right = browser.ask(columns)
    assert prose < code and left == right


# ---------------------------------------------------------------------- live pictures
def said(browser, kind):
    return browser.ask(f"document.querySelector('.tm-x[data-kind={kind}] .tm-say').textContent")


@needs_a_browser
@pytest.mark.parametrize(
    ("page", "kind"),
    [
        ("index", "similarity"),
        ("explorers", "masks"),
        ("explorers", "similarity"),
        ("explorers", "attention"),
    ],
)
@pytest.mark.parametrize("width", [1280, 390])
def test_live_pictures_answer_pointer_and_keyboard(page, kind, width, browser, served):
    visit(browser, f"{served}/{page}.html", width)
    assert browser.ask(
        "document.querySelectorAll('.tm-x').length === document.querySelectorAll('.tm-x[data-live]').length"
    )
    cells = f".tm-x[data-kind={kind}] [role=gridcell]"
    whole = said(browser, kind)
    browser.point(f"{cells}:last-of-type")
    pointed = said(browser, kind)
    assert pointed != whole
    browser.ask(f"document.querySelector('{cells}').focus()")
    browser.point("h1")
    first = said(browser, kind)
    browser.press("ArrowRight")
    assert said(browser, kind) != first or kind == "masks", "in a mask a row is what is said"
    browser.press("ArrowDown", "ArrowRight", "ArrowLeft", "Enter")
    assert browser.ask("location.pathname") == f"/{page}.html", (
        "arrow keys are the picture's here, and turn no page"
    )
    assert (
        browser.ask(f"document.querySelectorAll('.tm-x[data-kind={kind}] .tm-pinned').length") >= 1
    )
    assert browser.ask("document.documentElement.scrollWidth") <= width and not browser.complaints


@needs_a_browser
def test_the_start_page_says_what_the_record_says(browser, served):
    visit(browser, f"{served}/index.html")
    after = browser.ask("document.querySelector('.tm-loss').textContent")
    browser.ask("document.querySelector('[data-name=which] [data-value=before]').click()")
    before = browser.ask("document.querySelector('.tm-loss').textContent")
    loss = [float(re.search(r"Loss ([\d.]+)", text)[1]) for text in (after, before)]
    assert loss[0] < 0.1 < 2 < loss[1]
    titles = browser.ask("document.querySelector('.tm-title').textContent")
    assert re.match(
        r"10 of 10 captions find their picture \(chance: 1\); \d before training", titles
    )


@needs_a_browser
def test_without_scripts_the_pictures_are_whole(browser, served):
    browser.look(1280)
    browser.scripts(False)
    browser.open(f"{served}/explorers.html")  # and no visit, whose clock is a script too
    browser.scripts(True)
    assert browser.ask("document.querySelectorAll('[data-live]').length") == 0
    assert browser.ask(
        "[...document.querySelectorAll('.tm-x svg[role=grid]')].every(each => each.getBoundingClientRect().height > 30)"
    )
    assert browser.ask("document.querySelectorAll('.tm-x details pre').length") == 3


# ---------------------------------------------------------------------- words and sheets
@needs_a_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_glossarys_word_says_its_sentence_on_hover_and_on_focus(width, dark, browser, served):
    shown = "getComputedStyle(document.querySelector('.said-word'), '::after')"
    visit(browser, f"{served}/losses.html", width, dark)
    sentence = browser.ask("document.querySelector('.said-word').dataset.said")
    assert len(sentence) > 20 and browser.ask(f"{shown}.content") == "none"
    if width > 600:
        browser.point(".said-word")
        assert sentence in browser.ask(f"{shown}.content")
        browser.point("h1")
        assert browser.ask(f"{shown}.content") == "none"
    for _ in range(80):
        browser.press("Tab")
        if browser.ask("document.activeElement.matches('.said-word')"):
            break
    assert (
        sentence in browser.ask(f"{shown}.content")
        and browser.ask("document.documentElement.scrollWidth") <= width
    )
    ink, ground = (
        browser.ask(f"{shown}.{name}.match(/[\\d.]+/g).slice(0, 3).map(Number)")
        for name in ("color", "backgroundColor")
    )
    assert abs(sum(ink) - sum(ground)) > 350, "the sentence can be read"


@needs_a_browser
@pytest.mark.parametrize("page", SHEETS)
def test_a_cheat_sheet_is_one_page_of_a4(page, browser, served):
    visit(browser, f"{served}/{page}.html")
    printed = base64.b64decode(
        browser.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]
    )
    sizes = re.findall(rb"/MediaBox\s*\[([^\]]+)\]", printed)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1, "it goes on on a second page"
    width, height = map(float, sizes[0].split()[2:])
    assert abs(width - 595) < 2 and abs(height - 842) < 2, "A4, upright"


@needs_a_browser
def test_the_count_of_pages_would_notice(browser, served):
    visit(browser, f"{served}/glossary.html")
    printed = base64.b64decode(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 2


@needs_a_browser
def test_the_browser_test_would_notice(browser, served, tmp_path):
    (SITE / "_static" / "planted.html").write_text(
        "<script src='http://example.invalid/x.js'></script><script>console.error('planted')</script>"
    )
    try:
        visit(browser, f"{served}/_static/planted.html")
    finally:
        (SITE / "_static" / "planted.html").unlink()
    assert any("example.invalid" in address for address in browser.requests)
    assert any("planted" in said for said in browser.complaints)
