"""What holds for every explorer: whole by itself, nothing fetched, nobody's words read as HTML, the same bytes each time, bounded."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinymm.viz import AttentionExplorer, MaskExplorer, SimilarityExplorer
from tinymm.viz.widgets.explorer import (
    LEVELS,
    as_json,
    clean,
    letters,
    level,
    palette,
    png,
    rounded,
    runs,
    text,
    wrap,
)

EVIL = '</script><script>alert("1")</script><img src=x onerror=alert(2)> & “quoted” \' \x00\u202e\ud800'
VOID = {"input", "img", "br", "meta"}


def weights(L, H, q, k, seed=0):
    raw = np.random.default_rng(seed).random((L, H, q, k))
    return raw / raw.sum(-1, keepdims=True)


def make(kind, word="red"):
    """Return one explorer of each kind in which somebody's word occurs."""
    rng = np.random.default_rng(0)
    if kind == "masks":
        return MaskExplorer("itg", queries=2, words=["a", word, "ball"], padding=1)
    if kind == "own masks":
        return MaskExplorer.from_masks(
            {"mine": np.eye(3, k=-1, dtype=bool), word: np.tri(3, dtype=bool)}, ["a", word, "c"]
        )
    if kind == "difference":
        return MaskExplorer("itg", queries=2, words=["a", word], against="itm")
    if kind == "similarity":
        return SimilarityExplorer(
            rng.random((4, 6, 5, 3)),
            ["a", word, "b", "a"],
            rng.random((4, 4)),
            before=rng.random((4, 4)),
        )
    if kind == "attention":
        return AttentionExplorer(
            list(weights(2, 3, 4, 10)), ["a", word, "c", "d"], picture=rng.random((9, 9, 3))
        )
    return AttentionExplorer(weights(2, 2, 3, 3), ["a", word, "c"])


KINDS = ("masks", "own masks", "difference", "similarity", "attention", "text")
every = pytest.mark.parametrize("kind", KINDS)


class Page(HTMLParser):
    """Every element of a page, that each is closed, and what is written in it."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.words = [], [], {}
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.words.setdefault(self.open[-1] if self.open else "", []).append(data)


def drawings(page):
    """Return the SVGs of a page, parsed as XML, which forgives nothing."""
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.S)]


def data_of(page):
    return json.loads(
        re.search(r'<script type="application/json">(.*?)</script>', page, re.S).group(1)
    )


# ---------------------------------------------------------------------- the page
@every
def test_a_page_is_well_formed_and_so_are_its_drawings(kind):
    page = make(kind)._repr_html_()
    tags = Page(page).tags
    assert drawings(page)
    assert tags[0][1]["role"] == "figure" and sum(tag == "script" for tag, _ in tags) == 2


@every
def test_nothing_is_fetched_and_nothing_can_clash(kind):
    page = make(kind)._repr_html_()
    assert "http" not in page and "//" not in re.sub(
        r"data:image/png;base64,[\w+/=]*|<script>.*?</script>", "", page, flags=re.S
    )
    for tag, attributes in Page(page).tags:
        assert not {"id", "name", "for", "aria-describedby"} & attributes.keys(), tag
        assert attributes.get("href", attributes.get("src", "data:image/png")).startswith(
            "data:image/png"
        ), tag
        assert not any(name.startswith("on") for name in attributes)
    for forbidden in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "fetch(",
        "import(",
    ):
        assert forbidden not in page


@every
def test_equal_objects_give_equal_bytes(kind):
    assert make(kind)._repr_html_() == make(kind)._repr_html_()
    assert make(kind)._repr_html_() != make(kind, "blue")._repr_html_()


@every
def test_words_of_others_are_never_html(kind):
    tame, wild = make(kind)._repr_html_(), make(kind, EVIL)._repr_html_()
    counts = [
        Counter(tag for tag, _ in Page(page).tags if tag not in ("text", "g"))
        for page in (tame, wild)
    ]  # longer words take more lines
    assert counts[0] == counts[1], "a word brings no element"
    drawings(wild)
    assert "\u202e" not in wild and "\x00" not in wild and wild.encode("utf-8")
    assert "</script>" in json.dumps(data_of(wild)) and "</script>" in "".join(
        Page(wild).words["pre"]
    ), "the word is escaped, not lost"


@every
def test_alt_and_table_stand_in_the_page(kind):
    explorer = make(kind)
    page = Page(explorer._repr_html_())
    assert page.tags[0][1]["aria-label"] == " ".join(explorer.alt().split())
    assert "".join(page.words["pre"]) == explorer.table()
    assert len(explorer.alt().splitlines()[0]) > 20


@every
def test_it_can_be_used_without_a_pointer(kind):
    tags = Page(make(kind)._repr_html_()).tags
    roles = [attributes.get("role") for _, attributes in tags]
    assert {"grid", "row", "gridcell", "status"} <= set(roles)
    assert not any("tabindex" in attributes for _, attributes in tags), (
        "without a script nothing pretends to answer keys"
    )
    assert tags[0][1]["data-lm-suppress-shortcuts"] == "true", (
        "JupyterLab leaves the keys to the explorer"
    )


@every
def test_saved_page_is_whole_and_forbids_requests(kind, tmp_path):
    path = make(kind).save(tmp_path / "a.html")
    page = path.read_text(encoding="utf-8")
    assert (
        page.startswith("<!doctype html>")
        and "default-src 'none'" in page
        and make(kind)._repr_html_() in page
    )
    Page(page.removeprefix("<!doctype html>"))


@every
def test_sizes_are_reasonable(kind):
    assert len(make(kind)._repr_html_()) < 80_000


# ---------------------------------------------------------------------- its parts
@given(st.text(max_size=60))
@example("<!-- <script> </script> & -->")
def test_any_text_can_stand_in_a_page_and_in_its_data(words):
    ElementTree.fromstring(f'<a b="{text(words)}">{text(words)}</a>'.encode())
    assert json.loads(as_json([clean(words)])) == [clean(words)]
    assert not set("<>&") & set(as_json(words)) and "\n" not in clean(words)


@given(st.text(max_size=80), st.integers(4, 30), st.integers(1, 3))
def test_wrapped_lines_fit(words, width, lines):
    rows = wrap(words, width, lines)
    assert len(rows) <= lines and all(letters(row) <= width for row in rows)
    if letters(clean(words)) <= width:
        assert rows == [clean(words) or " "]


@given(st.lists(st.booleans(), max_size=20), st.sets(st.integers(0, 19)))
def test_runs_name_every_place_once(chosen, edges):
    names = [f"n{i}." for i in range(20)]
    where = [i for i, yes in enumerate(chosen) if yes]
    said, found = runs(names, where, edges), []
    for part in re.findall(r"n(\d+)\.(?: to n(\d+)\.)?", said):
        first, last = int(part[0]), int(part[1] or part[0])
        assert not any(first < edge <= last for edge in edges)
        found += range(first, last + 1)
    assert found == where and (said == "nothing") == (not where)


@given(st.floats(-1000, 1000), st.integers(0, 3))
def test_rounded_is_near(value, digits):
    assert abs(float(rounded(value, digits)) - value) <= 0.5000001 * 10**-digits and not rounded(
        value, digits
    ).startswith("-0.0" + "0" * 5)
    assert rounded(-1e-9, digits).lstrip("0.") == ""


def test_colors_grow_lighter_and_their_ink_can_be_read():
    colors, inks = palette()
    shades = [luminance(color) for color in colors]
    assert len(colors) == LEVELS and shades == sorted(shades)
    for color, ink in zip(shades, map(luminance, inks), strict=True):
        assert (max(color, ink) + 0.05) / (min(color, ink) + 0.05) >= 4.5
    assert [level(value, 0, 1) for value in (-1, 0, 0.5, 1, 2)] == [0, 0, 32, 63, 63] and level(
        3, 3, 3
    ) == 0


def luminance(color):
    value = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float(
        np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
        @ [0.2126, 0.7152, 0.0722]
    )


@pytest.mark.parametrize("name, ground", [("#0072B2", "#FFFFFF"), ("#D81B72", "#FFFFFF")])
def test_white_signs_on_a_shade_can_be_seen(name, ground):
    assert (luminance(ground) + 0.05) / (luminance(name) + 0.05) >= 4.5


def test_large_pictures_are_made_small():
    import base64
    import io

    from PIL import Image

    small, large = (
        Image.open(io.BytesIO(base64.b64decode(png(np.full(shape, 0.5)).split(",")[1])))
        for shape in ((5, 7), (300, 600, 3))
    )
    assert (
        small.size == (7, 5)
        and small.getpixel((0, 0)) == (128, 128, 128)
        and large.size == (96, 48)
    )
