"""The slow twin and the queues: a steadier opinion, and more wrong answers than a batch holds (MoCo, He et al. 2020; ALBEF §3.2 and §3.3; BLIP §3.2).

The twin is a copy of the encoders that follows them at a distance, an average over their past weights. Its features are the columns
that the contrastive loss asks about, in the batch and, as the queues remember them, from the batches before; and its opinion softens the
targets, since a web caption is rarely the only right one. Nothing of it is trained.
"""

from copy import deepcopy
from typing import Any

import numpy as np

from tinymm.arrays.backend import beside
from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.layers import Buffer, MissingParameter, Module
from tinymm.layers.init import normal
from tinymm.losses import l2_normalize
from tinymm.losses.contrastive import NO_ID


def moving_average(twin: Any, online: Any, momentum: float) -> Any:
    """Return momentum · twin + (1 - momentum) · online, a new array (MoCo, eq. 2).

    At 0.995 what the online weights were 138 updates ago still counts half of what they were just now.

    >>> moving_average(np.array([1.0]), np.array([0.0]), 0.9)
    array([0.9])
    """
    return momentum * twin + (1 - momentum) * online


class SlowTwin(Module):
    """A frozen `copy` of a module that moves by `follow`; UsageError for a momentum outside [0, 1].

    >>> from tinymm.layers import Linear
    >>> twin = SlowTwin(Linear(2, 2, rng=np.random.default_rng(0)), 0.995)
    >>> sorted(twin.state_dict()), twin.trainable()
    (['copy.bias', 'copy.weight'], {})
    """

    def __init__(self, online: Module, momentum: float):
        if not isinstance(momentum, (int, float)) or not 0 <= momentum <= 1:
            raise UsageError(f"a twin's momentum lies in [0, 1], 1 meaning that it never moves, and {momentum} came; the papers have 0.995")
        self.momentum = momentum
        self.copy: Any = deepcopy(online).freeze()

    def follow(self, online: Module) -> None:
        """Move every weight a little toward the online one: twin ← momentum · twin + (1 - momentum) · online."""
        for mine, theirs in zip(self.copy.parameters(), online.parameters(), strict=True):
            if isinstance(mine, MissingParameter) and isinstance(theirs, MissingParameter):
                continue  # of neither did the file have anything
            average = moving_average(mine.data, theirs.data, self.momentum)
            mine.data = average[...]  # an array, also of no axes


class Queue(Module):
    """The last K pairs that the twin has seen: `images` and `texts` (K, E), their picture `ids` (K,), and where the next ones go.

    It is a ring: new rows overwrite the oldest. Before that it holds random directions, as in the released code, whose ids are -100, nobody's.
    `pushed` counts the rows that ever came. All of it is saved with the model. UsageError for no rows at all.

    >>> queue = Queue(4, 2, np.random.default_rng(0))
    >>> queue.push(np.eye(2), np.eye(2), np.array([7, 8]))
    >>> queue.pointer, queue.ids.data.tolist(), queue.ages().tolist()
    (2, [7, 8, -100, -100], [1, 0, -1, -1])
    """

    def __init__(self, size: int, width: int, rng: np.random.Generator):
        if size < 1:
            raise UsageError(f"a queue keeps at least 1 pair and {size} came; without momentum there is no queue at all")
        self.images = Buffer(l2_normalize(normal(rng, (size, width), 1.0)))
        self.texts = Buffer(l2_normalize(normal(rng, (size, width), 1.0)))
        # What follows from ids and counts alone is the host's: asked of a GPU, it would make the host wait in the middle of a step.
        self.ids = Buffer(np.full(size, NO_ID, np.int64), on_host=True)
        self.next = Buffer(np.zeros((), np.int64), on_host=True)
        self.pushed = Buffer(np.zeros((), np.int64), on_host=True)

    @property
    def size(self) -> int:
        """How many pairs are kept, K."""
        return len(self.images.data)

    @property
    def pointer(self) -> int:
        """The slot that is overwritten next, which holds the oldest pair."""
        return int(self.next.data)

    @property
    def picture_ids(self) -> np.ndarray:
        """Which picture each slot is of, (K,) on the host: -100 where nobody knows."""
        return self.ids.data

    def fits(self, rows: int) -> None:
        """Raise UsageError unless batches of so many rows fill the ring without a remainder, as the released code demands."""
        if rows < 1 or self.size % rows:
            raise UsageError(
                f"a queue of {self.size} takes batches that divide it, so that a push never wraps around, and {rows} rows came; change the batch "
                "size or the queue's, and leave an incomplete last batch out"
            )

    def push(self, images: Any, texts: Any, ids: np.ndarray | None = None) -> None:
        """Overwrite the oldest rows with images and texts (B, E), of the picture `ids` (B,); copies are kept.

        ShapeError for rows of another width or without ids.
        """
        B, width = len(images), self.images.data.shape[1]
        if images.shape != (B, width) or texts.shape != (B, width):
            raise ShapeError(f"a queue of width {width} takes rows ({B}, {width}) of both sides, and {images.shape} with {texts.shape} came")
        self.fits(B)
        if ids is not None and np.shape(ids) != (B,):
            raise ShapeError(f"a queue takes one picture id a row, ({B},), and {np.shape(ids)} came; give -100 where nobody knows")
        place = slice(self.pointer, self.pointer + B)
        for kept, rows in ((self.images, images), (self.texts, texts), (self.ids, np.full(B, NO_ID) if ids is None else ids)):
            fresh = kept.data.copy()
            fresh[place] = beside(rows, fresh)
            kept.data = fresh
        self.next.data = ((self.next.data + B) % self.size)[...]
        self.pushed.data = (self.pushed.data + B)[...]

    def ages(self) -> np.ndarray:
        """Return how many rows came after each slot's own, (K,): 0 for the newest, -1 for a slot to which none has come yet, as far as is known."""
        age = (self.pointer - 1 - np.arange(self.size)) % self.size
        return np.where(age < int(self.pushed.data), age, -1)


def ramped(alpha: float, pairs: int, ramp: int) -> float:
    """Return the share of the twin's opinion after so many `pairs`: from 0 to `alpha` over the first `ramp`, then constant.

    At first the twin knows nothing. ALBEF's ramp is one epoch, BLIP's two.

    >>> ramped(0.4, 50, 100), ramped(0.4, 500, 100), ramped(0.4, 0, 0)
    (0.2, 0.4, 0.4)
    """
    return alpha * min(1.0, pairs / ramp) if ramp else alpha
