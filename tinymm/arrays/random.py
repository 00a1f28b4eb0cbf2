"""Random generators: one seeded CPU generator for every device, so that a run on a GPU starts from the same numbers."""

import numpy as np

from .errors import UsageError


def generator(*seed: int) -> np.random.Generator:
    """Return NumPy's generator for a seed, or for several integers that together name one stream.

    Streams such as `generator(seed, step)` make randomness a function of the step and not of
    history: a run that is resumed at a step draws what the uninterrupted run would have drawn, with
    nothing to save.

    >>> generator(0, 7).integers(100) == generator(0, 7).integers(100)
    np.True_
    """
    return np.random.default_rng(seed)


def check_generator(rng: object) -> np.random.Generator:
    """Return `rng` if it is NumPy's generator; UsageError for a bare seed and for anything else, since two layers of one seed would begin alike.

    >>> check_generator(generator(0)).integers(2) in (0, 1)
    True
    """
    if not isinstance(rng, np.random.Generator):
        raise UsageError(
            f"rng= is the generator that numbers are drawn from, and {rng!r} came; write "
            "rng=np.random.default_rng(0), one for the whole model"
        )
    return rng
