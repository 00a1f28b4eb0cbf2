"""Docstrings and comments as they are read by `help()`, made into what Sphinx reads: one translation for the API and the annotated source.

In the source `x` is code, $x$ a formula, *x* stressed, lines that are indented or aligned by spaces
a table or a program, `>>>` an example. Nothing else is markup, so other stars, bars and underscores
are themselves.
"""

import re
import textwrap

from sphinx import addnodes

SPAN = re.compile(r"`[^`]+`|\$[^$`]+\$")
EMPHASIS = re.compile(r"(?<![\w*])\\\*(\w[^*\n]*?\w|\w)\\\*(?![\w*])")
LONG = 80  # letters of a constant's value that the API still shows
MARKUP = re.compile(r"([\\*|_`])")
ITEM = re.compile(r"(?:[-*]|\d+\.) +\S")


def spans(text: str) -> str:
    r"""Translate the code and the formulas inside a paragraph, and take from all other signs their meaning as markup.

    >>> spans("rows `*_like` of $a_i$, each x_")
    'rows ``*_like`` of :math:`a_i`, each x\\_'
    """
    made, end = [], 0
    for match in SPAN.finditer(text):
        made.append(MARKUP.sub(r"\\\1", text[end : match.start()]))
        before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
        inside = match[0][1:-1]
        marked = f"``{inside}``" if match[0][0] == "`" else f":math:`{inside}`"
        made.append(
            ("" if not before or before.isspace() else "\\ ")
            + marked
            + ("\\ " if after.isalnum() else "")
        )
        end = match.end()
    whole = "".join(made) + MARKUP.sub(r"\\\1", text[end:])
    return EMPHASIS.sub(r"*\1*", whole)


def aligned(lines: list[str]) -> bool:
    """Tell whether lines are a table or a program: most of them indented, or parted by two spaces."""
    return (
        len(lines) > 1
        and sum(line.startswith("  ") or "  " in line.strip() for line in lines) > len(lines) / 2
    )


def paragraph(lines: list[str]) -> str:
    """Translate one paragraph, which is an example, something to be kept as it stands, a list or a text."""
    if lines[0].lstrip().startswith(">>>"):
        return textwrap.dedent("\n".join(lines))
    if all(line.startswith("    ") for line in lines) or (
        aligned(lines) and not ITEM.match(lines[0])
    ):
        return "::\n\n" + textwrap.indent(textwrap.dedent("\n".join(lines)), "    ")
    if ITEM.match(lines[0]):
        items = "\n".join(("\n" if ITEM.match(line) else "") + line for line in lines)
        return spans(items)
    return spans("\n".join(line.strip() for line in lines))


def to_rst(text: str) -> str:
    r"""Translate a docstring or a block of comments, already dedented.

    >>> to_rst("A star * of `f`.\n\n>>> f(*x)")
    'A star \\* of ``f``.\n\n>>> f(*x)'
    """
    paragraphs = [
        part.split("\n") for part in re.split(r"\n\s*\n", text.strip("\n")) if part.strip()
    ]
    return "\n\n".join(map(paragraph, paragraphs))


def autodoc(app, what, name, obj, options, lines):
    """Translate what autodoc is about to read, in place."""
    lines[:] = to_rst("\n".join(lines)).split("\n") + [""]


def shorten(app, doctree):
    """Leave out the value of a constant that would fill the page."""
    for value in list(doctree.findall(addnodes.desc_annotation)):
        if value.astext().startswith(" = ") and len(value.astext()) > LONG:
            value.parent.remove(value)


def setup(app):
    """Put the translation before autodoc."""
    app.connect("autodoc-process-docstring", autodoc)
    app.connect("doctree-read", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
