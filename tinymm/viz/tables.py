"""Numbers as the package prints them: a value with four digits, and a table of rows."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as lines of text, the first column to the left and the others to the right; numbers have four digits.

    >>> print(table(["", "loss"], [["right", 2.33333], ["leaking", None]]))
              loss
    right    2.333
    leaking      –
    """
    cells = [list(columns), *([number(value) for value in row] for row in rows)]
    wide = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(
            f"{value:<{w}}" if i == 0 else f"{value:>{w}}"
            for i, (value, w) in enumerate(zip(row, wide, strict=True))
        ).rstrip()
        for row in cells
    )


def number(value: Any) -> str:
    """Return a value as tables write it: four digits, three below 1, a dash for nothing.

    >>> number(6.3912), number(0.58333), number(12), number(1.08e-11), number(None), number("ln n"), number(-0.0), number(2.0)
    ('6.391', '0.583', '12', '1.1e-11', '–', 'ln n', '0', '2')
    >>> number([0.58333, 2])
    '0.583, 2'
    """
    if value is None:
        return "–"
    if isinstance(value, list | tuple) or np.ndim(value):
        return ", ".join(number(each) for each in value)
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}"
    return f"{value:.4g}" if abs(value) >= 1 else f"{value:z.3g}"
