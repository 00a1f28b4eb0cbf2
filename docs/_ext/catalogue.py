"""The catalogue of ops as API: what a declaration says of itself, in the form that autodoc has for functions."""

import inspect
import textwrap

from errors import fields
from prose import to_rst


def names(module: str) -> list[str]:
    """Return the names of the ops that are declared in a module, in its order."""
    import importlib

    from tinymm.autodiff import Op

    try:
        found = vars(importlib.import_module(module))
    except (
        ModuleNotFoundError
    ):  # another library's side of the benchmark, which is not installed here; it declares no op
        return []
    return [
        name
        for name, value in found.items()
        if isinstance(value, Op) and value.__module__ == module and not name.startswith("_")
    ]


def of(module: str) -> str:
    """Return an entry for each op of a module: its call, its docstring, its signature, and the NumPy functions that mean it."""
    import importlib

    from tinymm.autodiff.answers import name_of

    text = ""
    for name in names(module):
        op = getattr(importlib.import_module(module), name)
        facts = [f"axes ``{op.signature.text}``"] if op.signature else []
        facts += (
            ["in NumPy " + ", ".join(f"``{name_of(f) if callable(f) else f}``" for f in op.answers)]
            if op.answers
            else []
        )
        body = (
            to_rst(inspect.cleandoc(op.__doc__))
            + "\n\n"
            + " · ".join(facts)
            + "\n\n"
            + "\n".join(fields(op.rule))
        )
        text += f".. py:function:: {name}{inspect.signature(op.rule)}\n   :module: {module}\n\n{textwrap.indent(body.strip(), '   ')}\n\n"
    return text
