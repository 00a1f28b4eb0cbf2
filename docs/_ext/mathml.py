"""Formulas as MathML, made when the site is built: pages need no script for them, and nothing is loaded from elsewhere."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

#: What the converter leaves of a command that it does not know.
UNKNOWN = re.compile(r"<m[io]>(\\[^<]*|&)</m[io]>")
#: A function's name before a letter: the thin space that keeps "ln n" from reading "lnn".
NAMED = re.compile(
    r"(<mi>(?:ln|log|exp|max|min)</mi>|<mo>(?:softmax|KL)</mo>)(?!</m(?:row|under|sub|sup)>)(?!<mo stretchy=\"false\">&#x00028;)"
)


def markup(writer, node, display: str) -> str:
    """Return the MathML of a node; a formula with an unknown command is a warning, which fails the build."""
    text = node.astext()
    made = convert(text, display=display)
    if unknown := UNKNOWN.search(made):
        logging.getLogger(__name__).warning(
            "formula %s: %s has no MathML here", text, unknown[1], location=node
        )
    return NAMED.sub(r'\1<mspace width="0.17em"/>', made)


def inline(writer, node):
    """Write a formula inside a line."""
    writer.body.append(markup(writer, node, "inline"))
    raise nodes.SkipNode


def block(writer, node):
    """Write a formula that stands by itself."""
    writer.body.append(f'<div class="formula" tabindex="0">{markup(writer, node, "block")}</div>\n')
    raise nodes.SkipNode


def setup(app):
    """Register the renderer under the name that `html_math_renderer` asks for."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(inline, None), block_renderers=(block, None)
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
