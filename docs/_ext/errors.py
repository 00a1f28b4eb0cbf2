"""Which errors a function raises, read off its source: each message is *rule · what came · way out*, and so its own description."""

import ast
import builtins
import inspect
import sys
import textwrap

from prose import spans


def said(message: ast.expr) -> str:
    """Return a message with `…` where it has a number, or nothing if it is not written there."""
    if isinstance(message, ast.Constant):
        return str(message.value)
    if isinstance(message, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else "…" for part in message.values
        )
    return said(message.left) + said(message.right) if isinstance(message, ast.BinOp) else ""


def raised(function) -> list[tuple[str, str]]:
    """Return (class, message) for each of tinymm's errors that a function itself raises, in order.

    >>> from tinymm.losses import sigmoid_loss
    >>> raised(sigmoid_loss)[0][1]
    'sigmoid_loss takes logits (n, n) of n aligned pairs, and … came; one picture and one text a pair'
    """
    from tinymm.arrays.errors import TinymmError

    function = inspect.unwrap(function)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return []
    names = vars(sys.modules.get(function.__module__, builtins))
    found = []
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and isinstance(node.exc.func, ast.Name)
        ):
            kind = names.get(node.exc.func.id)
            if isinstance(kind, type) and issubclass(kind, TinymmError):
                public = next(
                    base for base in kind.__mro__ if base.__module__ == TinymmError.__module__
                )
                found.append((public.__name__, said(node.exc.args[0]) if node.exc.args else ""))
    return found


def fields(function) -> list[str]:
    """Return the errors as Sphinx has them below a docstring."""
    return [
        f":raises ~tinymm.arrays.errors.{kind}: {spans(' '.join(message.split()))}"
        for kind, message in raised(function)
    ]


def autodoc(app, what, name, obj, options, lines):
    """Put a function's errors below its docstring."""
    if what in ("function", "method") and (errors := fields(obj)):
        lines += ["", *errors, ""]


def setup(app):
    """Put the errors behind the translated docstring."""
    app.connect("autodoc-process-docstring", autodoc, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
