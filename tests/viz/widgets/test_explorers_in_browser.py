"""The explorers in a real browser, by keyboard alone: what the scripts say and compute is what Python says and computes."""

import html

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from test_explorer import EVIL, KINDS, make, weights

from tinymm.viz import AttentionExplorer, MaskExplorer, SimilarityExplorer
from tinymm.viz.widgets.explorer import rounded, share

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
SAID, CELLS = ".tm-say", "[role=gridcell]"


@pytest.fixture(scope="module")
def chromium():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium):
    """Hand out the browser, and look at the end for a request or a complaint."""
    chromium.look()
    chromium.scripts(True)
    chromium.requests.clear()
    chromium.complaints.clear()
    yield chromium
    assert all(each.startswith(("file://", "data:image/png")) for each in chromium.requests), (
        chromium.requests
    )
    assert not chromium.complaints


@pytest.fixture
def show(browser, tmp_path):
    """Save an explorer and open it."""

    def show(explorer):
        browser.open(explorer.save(tmp_path / "page.html"))
        return explorer

    return show


def said(browser, selector=SAID):
    return browser.ask(f"document.querySelector({selector!r}).textContent")


def count(browser, selector):
    return browser.ask(f"document.querySelectorAll({selector!r}).length")


def focus(browser, selector):
    browser.ask(f"document.querySelector({selector!r}).focus()")


def tab_to(browser, selector):
    """Go with the tabulator key to the first element that fits."""
    for _ in range(40):
        browser.press("Tab")
        if browser.ask(f"document.activeElement.matches({selector!r})"):
            return
    raise AssertionError(f"no way by Tab to {selector}")


def press(browser, name, value):
    """Press a button as a keyboard does."""
    focus(browser, f'[data-name="{name}"] [data-value="{value}"]')
    browser.press("Enter")


# ---------------------------------------------------------------------- all of them
@pytest.mark.parametrize("kind", KINDS)
def test_keyboard_alone_moves_pins_and_frees(browser, show, kind):
    show(make(kind))
    overall = said(browser)
    tab_to(browser, CELLS)
    first = said(browser)
    browser.press("ArrowRight")
    second = said(browser)
    browser.press("End", "ArrowDown", "ArrowUp", "Home")
    assert said(browser) == first != second
    browser.press("ArrowRight", "Enter")
    browser.press("Tab")
    assert said(browser) == second and count(browser, ".tm-pinned") >= 1, (
        "what is pinned stays when the focus leaves"
    )
    browser.ask("document.querySelector('[tabindex=\"0\"]').focus()")
    browser.press("Escape", "Tab")
    assert count(browser, ".tm-pinned") == 0
    assert kind not in ("similarity", "difference") or said(browser) == overall.removeprefix(
        "From ITG to ITM: "
    )


@pytest.mark.parametrize("kind", KINDS)
def test_pointer_and_click(browser, show, kind):
    show(make(kind))
    cell = (
        f"{'' if kind in ('attention', 'text') else '[role=row] ~ [role=row] '}{CELLS}:last-of-type"
    )
    before = said(browser)
    browser.point(cell)
    over = said(browser)
    assert over != before
    browser.point(cell, click=True)
    browser.point("summary")
    assert said(browser) == over and count(browser, ".tm-pinned") >= 1
    browser.point(cell, click=True)
    browser.point("summary")
    browser.ask("document.activeElement.blur()")
    assert count(browser, ".tm-pinned") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_without_script_the_picture_is_whole(browser, show, kind):
    browser.scripts(False)
    explorer = show(make(kind, EVIL))
    browser.scripts(True)
    assert count(browser, "[data-live]") == 0 and count(browser, CELLS) > 0
    assert browser.ask(
        "[...document.querySelectorAll('.tm-live')].every(each => getComputedStyle(each).display === 'none')"
    )
    assert said(browser, "pre") == explorer.table().replace("\r", "\n")


def test_several_on_a_page_do_not_clash_and_twice_is_fine(browser, tmp_path):
    page = "".join(
        f"<section>{make(kind)._repr_html_()}</section>" for kind in [*KINDS, "masks", "similarity"]
    )
    (tmp_path / "many.html").write_text(f"<!doctype html><meta charset=utf-8>{page}")
    browser.open(tmp_path / "many.html")
    assert count(browser, ".tm-x[data-live]") == len(KINDS) + 2
    focus(browser, f"section:last-of-type {CELLS}")
    texts = browser.ask("[...document.querySelectorAll('.tm-say')].map(each => each.textContent)")
    assert texts[KINDS.index("similarity")] != texts[-1], "only the last one answers"
    assert sum(text == texts[-1] for text in texts) == 1


def test_words_of_others_run_nothing(browser, show):
    for kind in KINDS:
        show(make(kind, EVIL))
        tab_to(browser, CELLS)
        browser.press("ArrowDown", "ArrowRight", "ArrowRight", "Enter")
        assert (
            count(browser, "script") == 2
            and count(browser, "img") <= 1
            and browser.ask("window.seen") is None
        )


@pytest.mark.parametrize("dark", [False, True])
def test_words_can_be_read_in_light_and_in_dark(browser, show, dark):
    browser.look(dark=dark)
    show(make("masks"))
    channels = "getComputedStyle({}).{}.match(/\\d+/g).slice(0, 3).map(Number)"
    ink = browser.ask(channels.format("document.querySelector('svg text')", "fill"))
    ground = browser.ask(channels.format("document.body", "backgroundColor"))
    shades = []
    for color in (ink, ground):
        value = np.array(color) / 255
        shades.append(
            float(
                np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
                @ [0.2126, 0.7152, 0.0722]
            )
        )
    assert (max(shades) + 0.05) / (min(shades) + 0.05) >= 4.5 and (shades[0] > shades[1]) == dark


def test_who_wants_no_motion_gets_none(browser, show):
    show(make("masks"))
    moves = f"getComputedStyle(document.querySelector('{CELLS} rect')).transitionDuration"
    assert browser.ask(moves) != "0s"
    browser.look(still=True)
    assert browser.ask(moves) == "0s"


def test_a_phone_scrolls_the_picture_and_not_the_page(browser, show):
    browser.look(390, phone=True)
    show(make("similarity"))
    assert browser.ask("document.documentElement.scrollWidth") <= 390
    assert browser.ask("document.querySelector('.tm-scroll').scrollWidth") > 390


# ---------------------------------------------------------------------- masks
@pytest.mark.parametrize("name", ["itg", "blip-lm"])
def test_each_mask_and_number_of_layers_is_said_as_python_says_it(browser, show, name):
    how = {"queries": 3, "patches": 5, "words": ["a", "red", "ball"], "padding": 2}
    explorer = show(MaskExplorer(name, **how))
    for shown in explorer.sheets:
        press(browser, "shown", shown)
        for layers in range(1, explorer.most + 1):
            focus(browser, "input[data-name=layers]")
            browser.press("Home", *["ArrowRight"] * (layers - 1))
            expected = MaskExplorer(shown, **how, layers=layers)
            assert said(browser) == expected.sheets[shown].notes[layers - 1]
            classes = browser.ask(
                f"[...document.querySelectorAll('{CELLS}')].map(each => Number(each.getAttribute('class').slice(-1)))"
            )
            assert classes == expected.cells().ravel().tolist()
            focus(browser, '[tabindex="0"]')
            browser.press(*["ArrowUp"] * 12)
            for i in range(len(expected.cells())):
                assert said(browser).startswith(expected.row(i) + " "), (shown, layers, i)
                browser.press("ArrowDown")


def test_a_comparison_is_said_as_python_says_it(browser, show):
    how = {"queries": 2, "words": ["a", "cat"], "padding": 1}
    show(MaskExplorer("itc", **how))
    for one, other in (("itc", "itm"), ("itg", "causal"), ("itm", "prefix")):
        press(browser, "shown", one)
        press(browser, "against", other)
        expected = MaskExplorer(one, **how, against=other)
        assert (
            said(browser, ".tm-title") == expected.alt().split(":")[0]
            and said(browser) in expected.alt()
        )
        assert browser.ask(
            f"[...document.querySelectorAll('{CELLS} > title')].map(each => each.textContent)"
        ) == titles(expected)
        focus(browser, CELLS)
        for i in range(len(expected.cells())):
            assert said(browser).startswith(expected.row(i) + " ")
            browser.press("ArrowDown")
    press(browser, "against", "")
    assert said(browser, ".tm-title").startswith("ITM")


def titles(explorer):
    page = explorer._repr_html_()
    return [html.unescape(part.split("</title>")[0]) for part in page.split("<title>")[1:]]


# ---------------------------------------------------------------------- similarity
def test_the_slider_changes_every_number_as_python_computes_it(browser, show):
    rng = np.random.default_rng(5)
    given, before = rng.uniform(-1, 1, (6, 6)), rng.uniform(-0.1, 0.1, (6, 6))
    captions = ["a", "b", "a", "c", "d", "e"]
    explorer = show(
        SimilarityExplorer(rng.random((6, 4, 4, 3)), captions, given, before=before, scale=12)
    )
    for which in ("after", "before"):
        press(browser, "which", which)
        for stop, scale in enumerate(explorer.scales):
            focus(browser, "input[data-name=scale]")
            browser.press("Home", *["ArrowRight"] * stop)
            rows, columns = explorer.probabilities(which, scale)
            assert f"Loss {rounded(explorer.loss(which, scale), 3)} at scale {scale:.4g};" in said(
                browser, ".tm-loss"
            )
            margins = browser.ask(
                "[...document.querySelectorAll('.tm-p-row, .tm-p-column')].map(each => each.textContent)"
            )
            assert margins == [
                share(value) for value in (*np.diagonal(rows), *np.diagonal(columns))
            ]
        for shown, numbers in (
            ("rows", rows),
            ("columns", columns),
            ("cosine", explorer.scores(which)),
        ):
            press(browser, "shown", shown)
            texts = browser.ask(
                f"[...document.querySelectorAll('{CELLS} text')].map(each => each.textContent)"
            )
            assert texts == [
                rounded(value, 2) if shown == "cosine" else share(value)
                for value in numbers.ravel()
            ]
    assert said(browser, "output").startswith("scale 3000")


def test_a_cell_is_said_as_python_says_it_and_its_picture_is_shown(browser, show):
    rng = np.random.default_rng(6)
    explorer = show(
        SimilarityExplorer(rng.random((3, 4, 4)), ["a", "b", "a"], rng.uniform(-1, 1, (3, 3)))
    )
    assert browser.ask("document.querySelector('img').hidden")
    focus(browser, CELLS)
    for i in range(3):
        for j in range(3):
            assert said(browser) == explorer.cell(i, j)
            same = f"document.querySelector('img').src === document.querySelectorAll('image')[{j}].getAttribute('href')"
            assert browser.ask(same) and not browser.ask("document.querySelector('img').hidden")
            browser.press("ArrowRight")
        browser.press("Home", "ArrowDown")


# ---------------------------------------------------------------------- attention
def test_each_layer_head_and_token_is_said_and_drawn_as_python_does(browser, show):
    maps, words, picture = (
        weights(2, 2, 3, 10, seed=8),
        ["a", "red", "ball"],
        np.random.default_rng(0).random((9, 9, 3)),
    )
    explorer = show(AttentionExplorer(maps, words, picture=picture))
    for layer in range(2):
        press(browser, "layer", layer)
        for head in (None, 0, 1):
            press(browser, "head", 0 if head is None else head + 1)
            focus(browser, CELLS)
            for i, word in enumerate(words):
                expected = AttentionExplorer(
                    maps, words, picture=picture, layer=layer, head=head, query=i
                )
                assert said(browser) == expected.sentence(word)
                shown = browser.ask(
                    "[...document.querySelectorAll('.tm-key')].map(each => each.querySelector('text').textContent)"
                )
                assert shown == [
                    ("class " if k == 0 else "") + rounded(100 * value, 1)
                    for k, value in enumerate(expected.shown())
                ]
                veils = browser.ask(
                    "[...document.querySelectorAll('.tm-veil')].map(each => each.getAttribute('fill-opacity'))"
                )
                assert [f'fill-opacity="{veil}"' in expected._over_picture() for veil in veils] == [
                    True
                ] * 9
                browser.press("ArrowRight")
    focus(browser, ".tm-key")
    assert said(browser).endswith(f"class: {share(explorer.weights[1, 2, 0, 0] / 10_000)}.")
