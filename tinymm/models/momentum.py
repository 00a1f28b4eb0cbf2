"""The momentum encoder and the feature queue: steadier targets, and more negatives than a batch holds.

MoCo (He et al. 2020), as ALBEF (§3.2 and §3.3) and BLIP (§3.2) use it. The momentum encoder is an
exponential moving average (EMA) of the encoders' weights. Its features are the columns of the
contrastive loss, those of the batch and those that the queue keeps of the batches before; and its
similarities are the pseudo-targets of momentum distillation, since a web caption is rarely the only
right one. Nothing of it is trained; `tasks/` moves it after each step.
"""

from copy import deepcopy
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_device_like
from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.layers import Buffer, MissingParameter, Module
from tinymm.layers.init import normal
from tinymm.losses import l2_normalize
from tinymm.losses.contrastive import NO_ID


def moving_average(average: Any, online: Any, momentum: float) -> Any:
    """Return momentum · average + (1 - momentum) · online, a new array (MoCo, eq. 2).

    At 0.995 the online weights of 138 updates ago still count half as much as those of just now.

    >>> moving_average(np.array([1.0]), np.array([0.0]), 0.9)
    array([0.9])
    """
    return momentum * average + (1 - momentum) * online


class MomentumEncoder(Module):
    """A frozen copy of a module, `model`, whose weights are an EMA of the module's (`update`).

    UsageError for a momentum outside [0, 1].

    >>> from tinymm.layers import Linear
    >>> encoder = MomentumEncoder(Linear(2, 2, rng=np.random.default_rng(0)), 0.995)
    >>> sorted(encoder.state_dict()), encoder.trainable()
    (['model.bias', 'model.weight'], {})
    """

    def __init__(self, online: Module, momentum: float):
        if not isinstance(momentum, (int, float)) or not 0 <= momentum <= 1:
            raise UsageError(
                "the momentum of an EMA lies in [0, 1], 1 meaning that it never moves, and "
                f"{momentum} came; the papers have 0.995"
            )
        self.momentum = momentum
        self.model: Any = deepcopy(online).freeze()

    def update(self, online: Module) -> None:
        """Move every weight toward the online one: momentum · own + (1 - momentum) · online."""
        for mine, theirs in zip(self.model.parameters(), online.parameters(), strict=True):
            if isinstance(mine, MissingParameter) and isinstance(theirs, MissingParameter):
                continue  # the file had neither
            average = moving_average(mine.data, theirs.data, self.momentum)
            mine.data = average[...]  # an array, also of no axes


class FeatureQueue(Module):
    """The momentum features of the last K pairs: `images` and `texts` (K, E), and their image `ids` (K,).

    It is a ring: new rows overwrite the oldest, `next` is where. At first it holds random
    directions, as in the released code, whose ids are -100: no image's. `pushed` counts the rows
    that ever came. All of it is saved with the model. UsageError for no rows at all.

    >>> queue = FeatureQueue(4, 2, np.random.default_rng(0))
    >>> queue.push(np.eye(2), np.eye(2), np.array([7, 8]))
    >>> queue.pointer, queue.ids.data.tolist(), queue.ages().tolist()
    (2, [7, 8, -100, -100], [1, 0, -1, -1])
    """

    def __init__(self, size: int, width: int, rng: np.random.Generator):
        if size < 1:
            raise UsageError(
                f"a queue keeps at least 1 pair and {size} came; without momentum there is no queue at all"
            )
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
        """The row that is overwritten next, which holds the oldest pair."""
        return int(self.next.data)

    @property
    def image_ids(self) -> np.ndarray:
        """Which image each row is of, (K,) on the host: -100 where it is not known."""
        return self.ids.data

    def check_batch(self, rows: int) -> None:
        """Raise UsageError unless batches of so many rows fill the ring without a remainder, as the released code demands."""
        if rows < 1 or self.size % rows:
            raise UsageError(
                f"a queue of {self.size} takes batches that divide it, so that a push never wraps around, and {rows} rows came; change the batch "
                "size or the queue's, and leave an incomplete last batch out"
            )

    def push(self, images: Any, texts: Any, ids: np.ndarray | None = None) -> None:
        """Overwrite the oldest rows with images and texts (B, E), of the image `ids` (B,); copies are kept.

        ShapeError for rows of another width or without ids.
        """
        B, width = len(images), self.images.data.shape[1]
        if images.shape != (B, width) or texts.shape != (B, width):
            raise ShapeError(
                f"a queue of width {width} takes rows ({B}, {width}) of both sides, and {images.shape} with {texts.shape} came"
            )
        self.check_batch(B)
        if ids is not None and np.shape(ids) != (B,):
            raise ShapeError(
                f"a queue takes one image id a row, ({B},), and {np.shape(ids)} came; give -100 where it is not known"
            )
        rows_taken = slice(self.pointer, self.pointer + B)
        for kept, rows in (
            (self.images, images),
            (self.texts, texts),
            (self.ids, np.full(B, NO_ID) if ids is None else ids),
        ):
            renewed = kept.data.copy()
            renewed[rows_taken] = to_device_like(rows, renewed)
            kept.data = renewed
        self.next.data = ((self.next.data + B) % self.size)[...]
        self.pushed.data = (self.pushed.data + B)[...]

    def ages(self) -> np.ndarray:
        """Return how many rows came after each row, (K,): 0 for the newest, -1 where none has come yet."""
        age = (self.pointer - 1 - np.arange(self.size)) % self.size
        return np.where(age < int(self.pushed.data), age, -1)


def warmed_up_alpha(alpha: float, pairs: int, warmup: int) -> float:
    """Return the weight of the pseudo-targets after so many `pairs`: 0 to `alpha` over `warmup` pairs.

    At first the momentum encoder has learned nothing. ALBEF's warm-up is one epoch, BLIP's two.

    >>> warmed_up_alpha(0.4, 50, 100), warmed_up_alpha(0.4, 500, 100), warmed_up_alpha(0.4, 0, 0)
    (0.2, 0.4, 0.4)
    """
    return alpha * min(1.0, pairs / warmup) if warmup else alpha


def check_distillation(alpha: Any, warmup: Any) -> None:
    """Raise UsageError unless alpha is a weight in [0, 1] and its warm-up a count of pairs."""
    if not isinstance(alpha, (int, float, np.number)) or not 0 <= alpha <= 1:
        raise UsageError(
            f"alpha is the weight of the pseudo-targets, in [0, 1], and {alpha!r} came; the papers "
            "have 0.4"
        )
    if not isinstance(warmup, (int, np.integer)) or warmup < 0:
        raise UsageError(
            f"alpha_warmup counts the pairs over which alpha grows, 0 or more, and {warmup!r} came; the "
            "papers have one epoch or two"
        )
