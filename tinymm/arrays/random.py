"""One seeded CPU generator feeds every device, so that a run on a GPU starts from the same numbers."""

import numpy as np


def generator(*seed: int) -> np.random.Generator:
    """Return NumPy's generator for a seed, or for several integers that together name one stream.

    Streams such as `generator(seed, step)` make randomness a function of the step and not of history: a run
    that is resumed at a step draws what the uninterrupted run would have drawn, with nothing to save.

    >>> generator(0, 7).integers(100) == generator(0, 7).integers(100)
    np.True_
    """
    return np.random.default_rng(seed)
