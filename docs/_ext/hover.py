"""Hover text: on each page of prose a glossary's word is marked where it stands first, and says its sentence under the pointer and on focus.

The mark is a link to the word's entry, so that the keyboard reaches it, a finger has somewhere to
go, and nothing needs a script. Not in code, headings, links, tables and terms; not on pages of
source and API, which are about the code itself; and not for words that every page is full of.
"""

import html
import re
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.transforms import SphinxTransform
from tree import ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"
#: Words whose plain meaning is enough in running text.
PLAIN = {
    "attention", "batch", "cache", "decoder", "encoder", "epoch", "feature", "figure 3", "generator", "graph", "head", "loss", "mask", "metric", "op",
    "padding", "positions", "positive", "negative", "probability", "projection", "property", "query", "queue", "scale", "step", "tensor", "token",
    "validation", "albef", "blip", "blip-2", "clip", "key and value", "prompt", "unseen", "frozen", "detached", "without a graph", "tie", "contract",
    "checkpoint", "signature", "vocabulary",
}  # fmt: skip
SKIPPED = (
    nodes.literal, nodes.literal_block, nodes.title, nodes.rubric, nodes.reference, nodes.math, nodes.raw, nodes.term, nodes.table, nodes.caption,
    nodes.pending,
)  # fmt: skip
MOST = 8  # marks a page


def slug(word: str) -> str:
    """Return a word as the end of an address.

    >>> slug("Vector–Jacobian product, vjp")
    'term-vector-jacobian-product-vjp'
    """
    return "term-" + re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")


def plain(text: str) -> str:
    """Return an entry's sentence without its link and without markup.

    >>> plain("Rows of `x`, see [this](a.md): {py:func}`tinymm.f`.")
    'Rows of x, see this.'
    """
    text = re.sub(
        r"[:,] (?:as )?(\{py:\w+\}`[^`]+`|\[[^\]]+\]\([^)]+\))[^.]*\.$", ".", text.strip()
    )
    text = re.sub(
        r"\[([^\]]+)\]\([^)]+\)", r"\1", re.sub(r"\{py:\w+\}`(?:[\w.]+\.)?(\w+)`", r"\1", text)
    )
    return re.sub(r"[`*$]", "", text)


@cache
def entries() -> dict[str, tuple[str, str]]:
    """Return for each word in small letters the name of its entry and its sentence; of an entry with several words each leads there."""
    found = {}
    for title, said in re.findall(r"^(\S.*)\n: (.+)$", GLOSSARY.read_text(encoding="utf-8"), re.M):
        for word in title.split(", "):
            found.setdefault(word.lower(), (slug(title), plain(said)))
    return {word: entry for word, entry in found.items() if word not in PLAIN}


@cache
def pattern() -> re.Pattern:
    """Return what finds any of the words, the longest first, in one or in several."""
    words = sorted(map(re.escape, entries()), key=len, reverse=True)
    return re.compile(rf"(?<![\w–-])({'|'.join(words)})(s?)(?![\w–-])", re.I)


class Said(nodes.inline):
    """A word that says its sentence; its text is the page's own, for those who search or copy it."""


def mark(word: str, entry: tuple[str, str], to_glossary: str) -> Said:
    """Return a word with the entry that it leads to."""
    return Said("", word, where=f"{to_glossary}#{entry[0]}", said=entry[1])


def begin(writer, node: Said) -> None:
    """Write a link; the sentence is an attribute, shown by the style sheet and read by screen readers."""
    said = html.escape(node["said"])
    writer.body.append(
        f'<a class="said-word" href="{node["where"]}" aria-description="{said}" data-said="{said}">'
    )


def end(writer, node: Said) -> None:
    """Close the link."""
    writer.body.append("</a>")


class Hover(SphinxTransform):
    """Name the glossary's entries, and mark their words elsewhere."""

    default_priority = 780  # after links and formulas are nodes

    def apply(self, **_):
        """Mark a page's first words; each is marked once."""
        name = self.env.docname
        if name == "glossary":
            for term in self.document.findall(nodes.term):
                term["ids"].append(slug(term.astext()))
            return
        if "/" in name and not name.startswith("tutorials/"):
            return
        for path in (GLOSSARY, Path(__file__)):
            self.env.note_dependency(str(path))
        met: set[str] = set()
        for text in list(self.document.findall(nodes.Text)):
            if len(met) < MOST:
                self.marked(text, met, "../" * name.count("/") + "glossary.html")

    def marked(self, text: nodes.Text, met: set[str], to_glossary: str) -> None:
        """Replace one run of text by text and marks."""
        above, paragraph = text.parent, None
        while above is not None:
            if isinstance(above, SKIPPED) or "pending_xref" in above.tagname:
                return
            paragraph = (
                above if paragraph is None and isinstance(above, nodes.paragraph) else paragraph
            )
            above = above.parent
        if paragraph is None:
            return
        made, end = [], 0
        for found in pattern().finditer(text.astext()):
            entry = entries()[found[1].lower()]
            if entry[0] in met or len(met) >= MOST:
                continue
            met.add(entry[0])
            made += [nodes.Text(text[end : found.start()]), mark(found[0], entry, to_glossary)]
            end = found.end()
        if made:
            paragraph["classes"].append("says")
            text.parent.replace(text, [*made, nodes.Text(text[end:])])


def setup(app):
    """Register the mark and the transform."""
    app.add_node(Said, html=(begin, end))
    app.add_transform(Hover)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
