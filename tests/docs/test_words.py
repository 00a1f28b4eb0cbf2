"""What the site makes of the code for those who learn: the glossary and its hover text, the catalogue of properties, the stops, the cheat sheets."""

import doctest
import html
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_ext"))
pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="needs the extra `docs`"),
]


@pytest.mark.parametrize("name", ["hover", "lessons", "properties", "sheet_losses", "sheet_masks"])
def test_doctests(name):
    results = doctest.testmod(__import__(name))
    assert results.attempted and not results.failed


# ---------------------------------------------------------------------- glossary
def entries():
    return re.findall(r"^(\S.*)\n: (.+)$", (DOCS / "glossary.md").read_text(), re.M)


def test_the_glossary_is_in_order_and_each_word_has_one_sentence_and_one_place():
    alone = entries()[[title for title, _ in entries()].index("Accumulated gradients") :]
    names = [re.sub(r"[^a-z0-9]", "", title.lower()) for title, _ in alone]
    assert len(entries()) >= 120 and names == sorted(set(names))
    for title, said in alone:
        assert len(re.findall(r"\{py:\w+\}`[^`]+`|\]\([^)]+\)", said)) == 1, f"{title} has one link"
        assert re.sub(r"`[^`]+`|\([^)]*\)|\"[^\"]+\"", "", said).count(". ") == 0 and said.endswith(
            "."
        ), f"{title} has one sentence"


@pytest.mark.parametrize(
    "pair",
    [
        "Logit, probability",
        "Mask, padding",
        "Batch, queue",
        "Loss, metric",
        "Epoch, step",
        "ITC, ITM, ITG",
    ],
)
def test_words_that_are_confused_stand_together(pair):
    assert pair in [title for title, _ in entries()]


def hovered(*parts, where="page"):
    """Return the words that are marked in a document of such parts."""
    import hover
    from docutils.utils import new_document

    document = new_document("made")
    document += list(parts)
    env = type("Env", (), {"docname": where, "note_dependency": lambda *_: None})()
    document.settings.env = env
    hover.Hover(document).apply()
    return [node.astext() for node in document.findall(hover.Said)]


def test_a_word_is_marked_where_it_stands_first_and_nowhere_else():
    from docutils import nodes

    def paragraph(*inside):
        return nodes.paragraph("", "", *inside)

    text = nodes.Text
    assert hovered(
        paragraph(text("A Softmax, softmaxes and a softmax.")), paragraph(text("The softmax."))
    ) == ["Softmax"]
    assert hovered(paragraph(text("Hard negatives and a vision–language model."))) == [
        "Hard negatives"
    ]
    assert (
        hovered(
            nodes.title("", "", text("Softmax")),
            paragraph(nodes.literal("", "softmax"), text(" of x")),
        )
        == []
    )
    assert hovered(paragraph(nodes.reference("", "", text("softmax")))) == []
    assert hovered(nodes.table("", paragraph(text("softmax")))) == []
    assert (
        hovered(paragraph(text("softmax")), where="annotated/losses")
        == hovered(paragraph(text("softmax")), where="glossary")
        == []
    )
    many = "attention bert softmax entropy surprise twin leak swap recall at k perplexity distillation dropout gelu nat"
    assert len(hovered(paragraph(text(many)))) == 8


def test_a_mark_says_the_sentence_and_leads_to_the_entry():
    import hover

    where, said = hover.entries()["infonce"]
    writer = type("Writer", (), {"body": []})
    hover.begin(writer, hover.mark("InfoNCE", (where, 'is "<b>" & so'), "glossary.html"))
    assert (
        'href="glossary.html#term-infonce"' in writer.body[0]
        and html.escape('is "<b>" & so') in writer.body[0]
        and "<b>" not in writer.body[0]
    )
    assert said.endswith(".") and "{py" not in said and "tinymm." not in said
    assert not [
        word for word, (_, said) in hover.entries().items() if re.search(r"[{}`]|\]\(", said)
    ], "sentences are plain text"


# ---------------------------------------------------------------------- catalogue
def test_the_catalogue_has_every_property_under_its_code_once():
    import properties

    from tinymm.testing.causes import CAUSES
    from tinymm.testing.check import CHECKS

    page = properties.catalogue()
    anchors = re.findall(r'<span id="(TM-[\w-]+)">', page)
    assert (
        len(anchors)
        == len(set(anchors))
        == sum(len(check.suite.properties) for check in CHECKS.values())
    )
    assert {f"TM-{key}" for check in CHECKS.values() for key in check.suite.properties} <= set(
        anchors
    )
    part = page.split('id="TM-C02"')[1].split("<span")[0]
    assert (
        "Swapping pictures and texts changes nothing." in part
        and "finds captions for pictures" in part
    )
    count = sum("C02" in ids.split() for ids in CAUSES["contrastive_loss"].values())
    assert (
        f"{count} of {len(CAUSES['contrastive_loss'])} planted mistakes" in part
        and "“one direction only”" in part
    )
    assert properties.caught("causal_mask", "M02")[0] == "all open", (
        "what breaks nothing else stands first"
    )


# ---------------------------------------------------------------------- stops
def test_each_stop_is_answered_by_one_line(monkeypatch):
    import stops

    assert len(stops.STOPS) == 12
    for file, question, words in stops.STOPS:
        number, line = stops.answer(file, words)
        assert (
            words in line
            and line in (ROOT / "tinymm" / f"{file}.py").read_text().splitlines()[number - 1]
            and question.endswith("?")
        )
    for words in ("import numpy as np as", "return"):
        with pytest.raises(LookupError, match="one line"):
            stops.answer("layers/masks", words)


# ---------------------------------------------------------------------- cheat sheets
def test_the_sheet_of_masks_draws_what_the_masks_are():
    import sheet_masks

    from tinymm.layers import masks

    made = [getattr(masks, name) for name in re.findall(r"<code>(\w+)\(", sheet_masks.sheet())]
    every = [
        name for name in vars(masks) if name.endswith("_mask") and not name.startswith("check")
    ]
    assert sorted(mask.__name__ for mask in made) == sorted(every) and len(made) == 7
    drawing = sheet_masks.drawn(np.tri(3, dtype=bool), list("abc"), list("abc"), None)
    assert (
        drawing.count("<rect") == 9
        and drawing.count('fill-opacity=".82"') == 6
        and 'aria-label="6 of 9 cells may attend"' in drawing
    )
    assert (
        "A query sees all queries, but no text; a text token sees all queries and the text up to itself."
        in sheet_masks.sheet()
    )


def test_the_sheet_of_losses_says_what_the_losses_do(monkeypatch):
    import sheet_losses

    page = sheet_losses.sheet()
    assert (
        "$\\ln n$ = 2.0794" in page
        and "prior 1:2 = 0.6365" in page
        and "I, T; none: I\\_m, T\\_m, queue\\_I, queue\\_T" in page
    )
    assert "1 of the 4 queries" in page and "at 8 of 10 places" in page
    right = sheet_losses.losses.itc_loss
    monkeypatch.setattr(sheet_losses.losses, "itc_loss", lambda *given: 2 * right(*given))
    assert "$\\ln n$ = 4.1589" in sheet_losses.sheet(), "numbers are computed, not typed"


def test_the_sheets_of_shapes_say_what_was_there():
    import sheet_shapes

    page = sheet_shapes.clip()
    assert (
        "| `qkv = self.qkv(x)` | `(B, T, 3*D)` | `(3, 17, 96)` |" in page
        and "| `logits` | [n, n] | `(3, 3)` |" in page
    )
    page = sheet_shapes.blip2()
    assert "`(9, 9, 32)`" in page, "ITM judges three pairs for each of the batch"
    for where, number in re.findall(r'annotated/([\w/]+)\.html#L(\d+)"', page):
        assert (
            "# " in (ROOT / "tinymm" / f"{where}.py").read_text().splitlines()[int(number) - 1]
        ), f"{where} {number} has a comment"


def test_the_sheets_of_axes_and_evaluation_are_computed():
    import sheet_axes
    import sheet_evaluation

    axes = sheet_axes.sheet()
    assert "| `x @ w` | `(2, 3, 5)` |" in axes and axes.count("could not be broadcast") == 1
    page = sheet_evaluation.sheet()
    assert "k/N: 0.007, 0.033, 0.067 of N = 150" in page and "here it has 0," in page


# ---------------------------------------------------------------------- live pictures
def test_the_live_pictures_are_those_of_the_record():
    import live

    record, pictures = live.unseen()
    explorer = live.similarity()
    assert (
        explorer.captions == record["captions"]
        and len(pictures) == 10
        and pictures.std(axis=(1, 2, 3)).min() > 0.05
    )
    assert (
        np.allclose(explorer.scores("after"), np.array(record["after"]).T)
        and explorer.scale == record["scale"]
    )
    assert np.allclose(np.sum(record["attention"], axis=-1), 10_000, atol=20), (
        "each row of attention sums to 1"
    )
    assert live.similarity()._repr_html_() == explorer._repr_html_()
    assert all((DOCS / name).exists() for name in live.LIVE), (
        "those who read elsewhere have a picture"
    )


def test_a_record_of_other_characters_is_refused(monkeypatch, tmp_path):
    import json

    import live

    record = json.loads(live.RECORD.read_text()) | {"captions": ["another"] * 10}
    (tmp_path / "unseen.json").write_text(json.dumps(record))
    monkeypatch.setattr(live, "RECORD", tmp_path / "unseen.json")
    live.unseen.cache_clear()
    with pytest.raises(ValueError, match="make it again"):
        live.unseen()
    live.unseen.cache_clear()
