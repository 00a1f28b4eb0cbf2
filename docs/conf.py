"""The site: `python -m sphinx -W -j auto docs build/docs`, then open build/docs/index.html.

Needs the extra `docs`, and no network.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import pages  # noqa: E402
import tree  # noqa: E402

import tinymm  # noqa: E402

pages.write()

project = "tinymm"
version = release = tinymm.__version__
copyright = "the tinymm contributors, MIT license"  # noqa: A001
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "annotated",
    "errors",
    "hover",
    "live",
    "mathml",
    "prose",
]
exclude_patterns = ["_ext", "_made"]

html_theme = "furo"
html_title = "tinymm"
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "navigation_with_keys": True,
    "top_of_page_buttons": [],
    "light_css_variables": {"color-code-background": "#f3f4f6"},
    "dark_css_variables": {"color-code-background": "#1d2127"},
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

nb_execution_mode = "off"  # notebooks bring their outputs; CI executes them elsewhere
nb_number_source_lines = False
myst_enable_extensions = ["dollarmath", "deflist", "attrs_inline", "attrs_block"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_mock_imports = [
    "jax",
    "torch",
    "mpi4py",
    "cupy",
]  # sides of the benchmark and devices that this machine may not have
autodoc_preserve_defaults = True
maximum_signature_line_length = 150
add_module_names = False
default_role = "literal"
nitpicky = True  # a name that is written as a link leads somewhere
elsewhere = r"(numpy|torch|jax|_pytest|threading|contextlib|collections\.abc|pathlib|os|re|ast|argparse|hypothesis)\..*"
letters = r"tinymm\.data\.your_data\.splits\.[TE]"  # that stand for types
nitpick_ignore_regex = [
    ("py:class", elsewhere + r"|Axes|Image\.Image|(dict|list|tuple)\[.*|" + letters)
]
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "github-dark"


def lead_links(app, name, source):
    """Lead links to source files to their annotated pages."""
    source[0] = tree.rewritten(source[0])


def shorten_sidebar(app, pagename, templatename, context, doctree):
    """Open in the sidebar only what the page belongs to: 200 files below every page would be most of the site, and of its building time."""
    whole = context["toctree"]
    context["toctree"] = lambda **options: whole(**{**options, "maxdepth": 3, "collapse": True})


def setup(app):
    """Rewrite pages as they are read, and the theme's sidebar before the theme does."""
    app.connect("source-read", lead_links)
    app.connect("html-page-context", shorten_sidebar, priority=400)
