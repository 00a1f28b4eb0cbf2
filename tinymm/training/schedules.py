"""How the learning rate moves: up for a while (Goyal et al. 2017, §2.2), then down a cosine (Loshchilov & Hutter 2017, eq. 5)."""

import math

from tinymm.arrays.errors import UsageError


def warmup_cosine(step: int, steps: int, peak: float, warmup: int = 0, floor: float = 0.0) -> float:
    """Return the learning rate of a step, counted from 0: linear to `peak` over `warmup` steps, then a half cosine to `floor` (CLIP, Table 18).

    UsageError for a warm-up longer than the run.

    >>> [round(warmup_cosine(s, 5, 1.0, warmup=2), 2) for s in range(5)]
    [0.5, 1.0, 0.75, 0.25, 0.0]
    """
    if not 0 <= warmup <= steps:
        raise UsageError(f"the warm-up lies within the run, and {warmup} of {steps} steps came; shorten it")
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step + 1 - warmup) / max(1, steps - warmup)
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
