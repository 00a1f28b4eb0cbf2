"""The directive `annotated`: a source file with its prose on the left and its code on the right, below each other on a phone.

The file is colored once, as a whole, and cut into lines afterwards; every line has a name, so that
any page can point to it: `…html#L12`.
"""

from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from prose import to_rst
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from rows import Row, rows
from sphinx.util.docutils import SphinxDirective


def colored(source: str) -> list[str]:
    """Return each line of a source file as HTML; a token that spans lines is closed at the end of each and opened again."""
    return highlight(source, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True)).split("\n")


def code_of(row: Row, html: list[str]) -> str:
    """Return the right side of a row: its lines with numbers and names, without the blank ones around them."""
    lines = list(row.code)
    while lines and not lines[0][1].strip():
        lines.pop(0)
    while lines and not lines[-1][1].strip():
        lines.pop()
    made = []
    for number, text in lines:
        indent = len(text) - len(text.lstrip())
        made.append(
            f'<span class="line" id="L{number}" data-n="{number}" style="--i:{indent}ch">{html[number - 1] or " "}</span>'
        )
    return f'<pre class="highlight" tabindex="0">{"".join(made)}</pre>'


class Annotated(SphinxDirective):
    """`.. annotated:: ../tinymm/losses/matching.py`, relative to the folder of the sources."""

    required_arguments = 1

    def run(self):
        """Return one container a row; each is a paragraph of prose and the code that it speaks of."""
        path = Path(self.env.srcdir, self.arguments[0]).resolve()
        self.env.note_dependency(str(path))
        source = path.read_text(encoding="utf-8")
        html = colored(source)
        box = nodes.container(classes=["annotated"])
        for row in rows(source):
            left, right = nodes.container(classes=["said"]), nodes.container(classes=["code"])
            if row.title:
                left += nodes.rubric(row.title, row.title, classes=["part"])
            for text in row.prose:
                self.state.nested_parse(
                    StringList(
                        to_rst(text).split("\n"), f"{path}:{row.code[0][0] if row.code else 1}"
                    ),
                    0,
                    left,
                )
            if row.has_code():
                right += nodes.raw("", code_of(row, html), format="html")
            kinds = [
                "row",
                *(["silent"] if not left.children else []),
                *(["alone"] if not row.has_code() else []),
            ]
            box += nodes.container("", left, right, classes=kinds)
        return [box]


def setup(app):
    """Register the directive."""
    app.add_directive("annotated", Annotated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
