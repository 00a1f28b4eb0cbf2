"""What the cells of a mask mean, before they are printed or drawn: open, blocked, padding, a leak, or known by a detour.

Rows look, columns are looked at, True = may attend. One layer's mask says what a row *sees*; after
several layers it *knows* more: a forbidden cell is no secret if a third token may look at it and be
looked at. The words are read off the mask, never off its name, so a wrong mask is described as what
it does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinymm.arrays.errors import DtypeError, ShapeError
from tinymm.layers import reachability
from tinymm.viz import style

BLOCKED, ALLOWED, PADDED, LEAK, KNOWN, IDLE = range(6)
WORDS = (
    "blocked",
    "may attend",
    "padding",
    "attends to padding!",
    "not seen, but known after {} layers",
    "padding looks, and nobody reads it",
)
LONGEST = 16  # letters of a token's name
ORDER = (ALLOWED, KNOWN, BLOCKED, LEAK, PADDED, IDLE)  # of a legend
NEITHER, FIRST, SECOND, BOTH, OUTSIDE = range(
    5
)  # of two masks: who allows a cell; OUTSIDE is padding that neither does
SIDES = (BOTH, FIRST, SECOND, NEITHER, OUTSIDE)  # of a legend
ONE = {"query": "a query", "text": "a text token", "picture": "the picture"}
ALL = {"query": "all queries", "text": "all text", "picture": "the picture"}
MANY = {"query": "queries", "text": "text", "picture": "picture"}


@dataclass(frozen=True)
class Panel:
    """One mask `(Tq, Tk)` of several that are shown together, with the names of its tokens and a note below its title.

    Rows are shown from `first` on: tokens before it, such as a picture's, are looked at and do not
    look themselves.
    """

    mask: np.ndarray
    names: Sequence[str]
    groups: Mapping[str, int] | None = None
    is_real: np.ndarray | None = None
    title: str = ""
    note: str = ""
    first: int = 0


def one_mask(mask: np.ndarray) -> np.ndarray:
    """Return the mask as `(Tq, Tk)`; axes of pairs and heads must be 1, because one drawing shows one of them.

    DtypeError for numbers, ShapeError for longer axes.

    >>> one_mask(np.ones((1, 1, 2, 3), dtype=bool)).shape
    (2, 3)
    """
    array = np.asarray(mask)
    if array.dtype != bool:
        raise DtypeError(
            f"a mask is boolean, True = may attend: got {array.dtype}; compare first, as in mask > 0 or additive == 0"
        )
    if array.ndim < 2 or any(length != 1 for length in array.shape[:-2]):
        raise ShapeError(
            f"a mask drawing shows one (Tq, Tk): got {array.shape}; pick a pair and a head, as in mask[0, 0]"
        )
    return array.reshape(array.shape[-2:])


def named(
    mask: np.ndarray, names: Sequence[str], column_names: Sequence[str] | None = None
) -> tuple[np.ndarray, list[str], list[str]]:
    """Return the mask as `(Tq, Tk)`, the names of its rows and those of its columns, which are the rows' unless said otherwise.

    ShapeError if a token has no name.
    """
    rows, columns = list(names), list(names if column_names is None else column_names)
    flat = one_mask(mask)
    if (
        flat.shape[0] not in (1, len(rows))
        or flat.shape[1] not in (1, len(columns))
        or not rows
        or not columns
    ):
        raise ShapeError(
            f"mask (Tq,Tk), Tq row names, Tk column names: got {flat.shape}, {len(rows)}, {len(columns)}; name every token once"
        )
    return np.broadcast_to(flat, (len(rows), len(columns))), rows, columns


def clipped(name: object, ellipsis: str = "…") -> str:
    """Return a token's name on one line of at most 16 letters.

    >>> clipped("a-rather-long-token")
    'a-rather-long-t…'
    """
    text = " ".join(str(name).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + ellipsis


def parts(groups: Mapping[str, int] | None, count: int) -> list[tuple[str, slice]]:
    """Return each group's name and where its tokens are, in order: `{"query": 2, "text": 3}` counts all 5 once. ShapeError for another count.

    >>> parts({"query": 2, "text": 3}, 5)
    [('query', slice(0, 2, None)), ('text', slice(2, 5, None))]
    """
    groups = dict(groups or {})
    if groups and sum(groups.values()) != count:
        raise ShapeError(
            f"groups count each token once: got {groups}, {sum(groups.values())} in all, for {count} names; recount"
        )
    ends = np.cumsum(list(groups.values())).tolist()
    return [
        (name, slice(end - groups[name], end))
        for name, end in zip(groups, ends, strict=True)
        if groups[name]
    ]


def groups_from(first: int, groups: Mapping[str, int] | None, count: int) -> dict[str, int]:
    """Return how many of each group's tokens stand from `first` on among all `count`, groups without any left out.

    >>> groups_from(2, {"picture": 2, "text": 3}, 5)
    {'text': 3}
    """
    return {
        name: span.stop - max(first, span.start)
        for name, span in parts(groups, count)
        if span.stop > first
    }


def states(mask: np.ndarray, is_real: np.ndarray | None = None, layers: int = 1) -> np.ndarray:
    """Return for each cell BLOCKED, ALLOWED, PADDED (a padding column or row, and blocked), LEAK (a real row attends to padding), and more.

    In a square mask rows and columns are the same tokens, so that `is_real` `(Tk,)` marks rows too:
    what a padding row is allowed to see is IDLE and harms nobody. KNOWN are cells of real rows that
    are not allowed, but are reached by a detour within `layers` layers. ShapeError for an `is_real`
    that is not boolean, one a column.

    >>> states(np.array([[True, False], [True, True]]), np.array([True, False])).tolist()
    [[1, 2], [5, 5]]
    """
    flat = one_mask(mask)
    cells = flat.astype(int)
    real = np.ones(cells.shape[1], dtype=bool) if is_real is None else np.asarray(is_real)
    if real.dtype != bool or real.shape != (cells.shape[1],):
        raise ShapeError(
            f"is_real (Tk,) is boolean, one a column: got {real.dtype} {real.shape} for {cells.shape}; pass one pair's row"
        )
    square = cells.shape[0] == cells.shape[1]
    real_row = (real if square else np.ones(len(cells), dtype=bool))[:, None]
    cells[(~real | ~real_row) & ~flat] = PADDED
    cells[real_row & ~real & flat] = LEAK
    cells[~real_row & flat] = IDLE
    if layers > 1:
        cells[reachable(flat, layers) & real_row & ~flat] = KNOWN
    return cells


def reachable(mask: np.ndarray, layers: int) -> np.ndarray:
    """Return `(T, T)` booleans: which inputs can influence which outputs after `layers` layers, the residual path included.

    ShapeError for a mask that is not square.

    >>> reachable(np.eye(3, k=-1, dtype=bool), layers=2).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    flat = one_mask(mask)
    if flat.shape[0] != flat.shape[1]:
        raise ShapeError(
            f"what is known after several layers needs rows = columns: got {flat.shape}; use layers=1 for a cross mask"
        )
    return reachability([flat] * layers)


def depth(mask: np.ndarray, most: int) -> np.ndarray:
    """Return `(T, T)` integers: after how many layers, `most` at most, a row knows a column; 0 for never.

    >>> depth(np.eye(3, k=-1, dtype=bool), most=4).tolist()
    [[1, 0, 0], [1, 1, 0], [2, 1, 1]]
    """
    step = reachable(mask, 1)
    known, found, layers = step, step.astype(int), 1
    while layers < most and ((wider := step @ known) & ~known).any():
        layers += 1
        found[wider & ~known] = layers
        known = wider
    return found


def sentence(
    mask: np.ndarray,
    groups: Mapping[str, int],
    is_real: np.ndarray | None = None,
    *,
    verb: str = "sees",
) -> str:
    """Return in words which group sees which, read off a square mask; padding is left out and spoken of at the end.

    >>> sentence(np.tri(4, dtype=bool) | (np.arange(4) < 2), {"query": 2, "text": 2})
    'A query sees all queries, but no text; a text token sees all queries and the text up to itself.'
    """
    flat = one_mask(mask)
    real = np.ones(len(flat), dtype=bool) if is_real is None else np.asarray(is_real)
    clauses, whole = [], []
    for who, rows in parts(groups, len(flat)):
        seen, unseen = [], []
        for whom, columns in parts(groups, len(flat)):
            block = flat[rows, columns][real[rows]][:, real[columns]]
            if block.size and block.any():
                seen.append(_how(block, whom, same=who == whom))
            elif block.size:
                unseen.append(f"no {MANY.get(whom, whom)}")
        if (seen or unseen) and not (who == "picture" and seen == ["itself"]):
            whole.append(
                f"{verb} {style.listed(seen) or 'nothing'}"
                + (f", but {style.listed(unseen)}" if seen and unseen else "")
            )
            clauses.append(f"{ONE.get(who, f'a {who}')} {whole[-1]}")
    text = (
        f"every token {whole[0]}" if len(whole) > 1 and len(set(whole)) == 1 else "; ".join(clauses)
    )
    text = text[:1].upper() + text[1:] + "."
    if not real.all():
        leaks = flat[real][:, ~real].sum()
        text += (
            f" {leaks} {'cells look' if leaks > 1 else 'cell looks'} at padding!"
            if leaks
            else f" No real token {verb} padding."
        )
    return text


def _how(block: np.ndarray, whom: str, *, same: bool) -> str:
    """Return in words how much of a group is seen, by a block of rows that look and the group's columns."""
    if same and np.array_equal(block, np.eye(len(block), dtype=bool)):
        return "itself"
    if block.all():
        return ALL.get(whom, f"all {whom}")
    if same and np.array_equal(block, np.tri(len(block), dtype=bool)):
        return f"the {MANY.get(whom, whom)} up to itself"
    return f"some {MANY.get(whom, whom)} ({block.sum()} of {block.size} cells)"


def apart(
    a: np.ndarray,
    b: np.ndarray,
    labels: tuple[str, str] = ("the first", "the second"),
    groups: Mapping[str, int] | None = None,
    is_real: np.ndarray | None = None,
    first: int = 0,
) -> tuple[np.ndarray, str]:
    """Return for each cell of two masks NEITHER, FIRST, SECOND or BOTH allow it, and a sentence that counts, with groups where.

    Rows before `first`, in which the two do not differ, are left out. ShapeError for masks of two
    shapes.

    >>> print(apart(np.eye(2, dtype=bool), np.tri(2, dtype=bool), ("eye", "tri"))[1])
    1 of 4 cells differ: only tri allows 1.
    """
    one, other = one_mask(a), one_mask(b)
    if one.shape != other.shape:
        raise ShapeError(
            f"two masks differ cell by cell, over the same tokens: got {one.shape} and {other.shape}; make them for one sequence"
        )
    cells = one * FIRST + other * SECOND
    cells[(states(one, is_real) == PADDED) & (cells == NEITHER)] = OUTSIDE
    found = [
        f"only {label} allows {_where(cells == side, groups)}"
        for side, label in zip((FIRST, SECOND), labels, strict=True)
        if side in cells
    ]
    return cells[first:], f"{(one != other).sum()} of {one[first:].size} cells differ" + (
        f": {'; '.join(found)}." if found else "."
    )


def side_words(labels: tuple[str, str]) -> tuple[str, ...]:
    """Return what a legend says of NEITHER, FIRST, SECOND, BOTH and OUTSIDE."""
    return (
        "both block",
        f"only {labels[0]} allows",
        f"only {labels[1]} allows",
        "both allow",
        WORDS[PADDED],
    )


def _where(cells: np.ndarray, groups: Mapping[str, int] | None) -> str:
    """Return how many cells there are, and in the looks of which group at which."""
    if not groups or cells.shape[0] != cells.shape[1]:
        return str(cells.sum())
    return ", ".join(_blocks(cells, groups))


def _blocks(cells: np.ndarray, groups: Mapping[str, int]) -> Iterator[str]:
    for who, rows in parts(groups, len(cells)):
        for whom, columns in parts(groups, len(cells)):
            if count := cells[rows, columns].sum():
                yield f"{MANY.get(who, who)} → {MANY.get(whom, whom)} ({count})"
