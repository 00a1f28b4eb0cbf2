"""Planted mistakes in the queue of a momentum twin: each class is the right one with one thing changed."""

from collections import deque

import numpy as np
from kept import planted
from right import unit
from right_momentum import Columns, Ring, Wrapping


class Still(Ring):
    """Write each batch into the same place."""

    def push(self, rows):
        super().push(rows)
        self.pointer = 0


class OneByOne(Wrapping):
    """Move the pointer by one a batch."""

    def push(self, rows):
        before = self.pointer
        self.refuse(rows)
        super().push(rows)
        self.pointer = (before + 1) % len(self.rows)


class NeverBack(Ring):
    """Let the pointer run over the end."""

    def push(self, rows):
        self.refuse(rows)
        self.rows[self.pointer : self.pointer + len(rows)] = rows[
            : max(0, len(self.rows) - self.pointer)
        ]
        self.pointer += len(rows)


class Full(Ring):
    """Stop when K rows have come."""

    pushed = 0

    def push(self, rows):
        self.pushed += len(rows)
        if self.pushed <= len(self.rows):
            super().push(rows)


class CountsBatches(Ring):
    """Say where the next batch goes, in batches."""

    def push(self, rows):
        self.pointer *= len(rows)
        super().push(rows)
        self.pointer //= len(rows)


class SaysTheLast(Ring):
    """Say where the last batch was written, not where the next one will be."""

    at = 0

    def push(self, rows):
        self.pointer = self.at
        super().push(rows)
        self.at, self.pointer = self.pointer, self.at


class Backward(Ring):
    """Write from the end to the front."""

    at = 0

    def push(self, rows):
        self.refuse(rows)
        self.at = (self.at - len(rows)) % len(self.rows)
        self.rows[self.at : self.at + len(rows)] = rows
        self.pointer = -self.at % len(self.rows)


class Reversed(Ring):
    """Turn each batch around."""

    def push(self, rows):
        super().push(rows[::-1])


class Newest(Ring):
    """Overwrite the newest: a stack and no queue."""

    top = 0

    def push(self, rows):
        self.pointer = min(self.top, len(self.rows) - len(rows))
        super().push(rows)
        self.top += len(rows)


class First(Ring):
    """Keep one row a batch, as often as it takes."""

    def push(self, rows):
        super().push(np.broadcast_to(rows[:1], rows.shape))


class Mean(Ring):
    """Average what a slot holds with what comes."""

    def push(self, rows):
        before = self.rows.copy()
        super().push(rows)
        self.rows = (before + self.rows) / 2


class Batches(Ring):
    """Keep K batches instead of K rows."""

    def __init__(self, K, E):
        super().__init__(K, E)
        self.batches = deque(maxlen=K)

    def push(self, rows):
        super().push(rows)
        self.batches.append(rows)
        self.rows = np.concatenate(self.batches)


class Views(Ring):
    """Keep rows of the arrays that came."""

    rows = property(lambda self: np.stack(self.kept))

    def __init__(self, K, E):
        self.kept, self.pointer = list(self.first(K, E)), 0

    def push(self, rows):
        self.refuse(rows)
        self.kept[self.pointer : self.pointer + len(rows)] = rows
        self.pointer = (self.pointer + len(rows)) % len(self.kept)


class TailDropped(Ring):
    """Write what fits, and say nothing of the rest."""

    def push(self, rows):
        fits = rows[: len(self.rows) - self.pointer]
        self.rows[self.pointer : self.pointer + len(fits)] = fits
        self.pointer = (self.pointer + len(fits)) % len(self.rows)


class Silent(Ring):
    """Refuse without a number."""

    def refuse(self, rows):
        if len(self.rows) % len(rows):
            raise ValueError("the queue must be a multiple of the batch")


class HalfTold(Ring):
    """Name the batch alone."""

    def refuse(self, rows):
        if len(self.rows) % len(rows):
            raise ValueError(f"a batch of {len(rows)} does not fit")


class TooLarge(TailDropped):
    """Refuse only batches larger than the queue."""

    def push(self, rows):
        if len(rows) > len(self.rows):
            raise ValueError(f"a queue of {len(self.rows)} cannot take a batch of {len(rows)}")
        super().push(rows)


class Zeros(Ring):
    """Begin with zeros."""

    def first(self, K, E):
        return np.zeros((K, E))


class Raw(Ring):
    """Begin with random rows of any length."""

    def first(self, K, E):
        return np.random.default_rng(0).normal(size=(K, E))


class UnitColumns(Ring):
    """Give length 1 to columns instead of rows."""

    def first(self, K, E):
        return super().first(E, K).T


class Half(Ring):
    """Store in half precision: whole numbers pass."""

    def first(self, K, E):
        return super().first(K, E).astype(np.float16)


class Normalizing(Ring):
    """Give length 1 to what comes."""

    def push(self, rows):
        super().push(unit(rows + 1e-12))


class Sorted(Ring):
    """Return the rows in another order than they stand in."""

    def push(self, rows):
        super().push(rows)
        self.rows = self.rows[np.argsort(self.rows[:, 0])]


QUEUE = planted(
    "queue",
    pointer_stands_still=Still,
    pointer_by_one=OneByOne,
    pointer_never_back=NeverBack,
    pointer_counts_batches=CountsBatches,
    pointer_to_the_last_batch=SaysTheLast,
    pointer_stands_still_and_is_not_told={"fn": Still, "order": "any"},
    stops_when_full=Full,
    backward=Backward,
    batches_reversed=Reversed,
    newest_overwritten=Newest,
    one_row_a_batch=First,
    averaged_with_the_old=Mean,
    batches_for_rows=Batches,
    sorted_rows=Sorted,
    one_row_too_many=lambda K, E: Ring(K + 1, E),
    rows_and_columns_swapped=Columns,
    stored_as_views=Views,
    wraps_around=Wrapping,
    tail_dropped=TailDropped,
    refuses_only_what_is_larger=TooLarge,
    refusal_without_numbers=Silent,
    refusal_names_the_batch_alone=HalfTold,
    begins_with_zeros=Zeros,
    begins_with_raw_rows=Raw,
    begins_with_unit_columns=UnitColumns,
    half_precision=Half,
    normalizes_what_comes=Normalizing,
)
