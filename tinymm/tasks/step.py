"""What the steps of all papers share: their checks, and how encoders share a batch among workers."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinymm.arrays.backend import to_device_like
from tinymm.arrays.errors import ShapeError, UsageError
from tinymm.losses.matching import wrong_pairs

#: Wraps a method of a model so that workers share its batch (`training.parallel`).
Split = Callable[[Any], Callable]


def whole(function: Any) -> Any:
    """Return the function itself: one worker takes the whole batch."""
    return function


class Sharded:
    """A model whose named methods share their batch among workers, and which else is the model.

    A step calls `model.image_tokens(images)` as the paper does; whether eight threads answer is
    nothing that it must know.

    >>> Sharded("abc", ("upper",), lambda method: lambda: method() + "!").upper()
    'ABC!'
    """

    def __init__(self, model: Any, methods: Iterable[str], split: Split):
        self._model, self._methods, self._split = model, tuple(methods), split

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        return self._split(found) if name in self._methods else found


def rows(array: np.ndarray, indices: Any) -> Any:
    """Return the rows of an array of the host that were drawn, on the device where the draws are.

    The host then need not wait to learn which ones they are.
    """
    return to_device_like(array, indices)[indices]


def check_pairs(images: Any, ids: np.ndarray, *, least: int = 2) -> None:
    """Raise UsageError unless each image (B, h, w, c) has its text, ids (B, T), and B is enough."""
    if len(images) != len(ids):
        raise UsageError(
            f"pictures and texts come in pairs, and {len(images)} pictures with {len(ids)} texts "
            "came; align the batch"
        )
    if len(ids) < least:
        reason = (
            "a batch is of at least 1 pair and 0 came"
            if least == 1
            else (
                f"a contrastive batch needs at least {least} pairs and {len(ids)} came: with nothing "
                "to tell apart its loss is always 0"
            )
        )
        raise UsageError(f"{reason}; raise the batch size")


def check_objectives(objectives: Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the objectives as a tuple; UsageError for none, or for one that the model has not."""
    names = (objectives,) if isinstance(objectives, str) else tuple(objectives)
    if not names or set(names) - set(known):
        came = ", ".join(map(str, names)) or "none"
        raise UsageError(
            f"the objectives are some of {', '.join(known)}, and {came} came; correct the names"
        )
    return tuple(name for name in known if name in names)


def check_image_ids(image_ids: np.ndarray | None, pairs: int, *, draws: bool) -> None:
    """Raise ShapeError unless each pair has its image's id (B,), if there are any.

    DataError where a wrong image is to be drawn and all pairs show the same one.
    """
    if image_ids is None:
        return
    if np.shape(image_ids) != (pairs,):
        raise ShapeError(
            f"image_ids (B,) say which picture each of {pairs} pairs shows, and "
            f"{np.shape(image_ids)} came; give one id to each pair"
        )
    if draws:
        wrong_pairs(image_ids)


def check_draws(rng: Any, instead: Any, draws: str, name: str) -> None:
    """Raise UsageError where something is drawn without a generator and nothing came instead."""
    if rng is None and instead is None:
        raise UsageError(
            f"{draws}, and neither rng nor {name} came; pass rng=np.random.default_rng(seed)"
        )
