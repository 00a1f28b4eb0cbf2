"""Learning rate schedule: linear warm-up (Goyal et al. 2017, §2.2), then cosine decay (Loshchilov & Hutter 2017, eq. 5)."""

import math

from tinymm.arrays.errors import UsageError


def warmup_cosine(step: int, steps: int, peak: float, warmup: int = 0, floor: float = 0.0) -> float:
    """Return the learning rate of a step, counted from 0: linear to `peak` over `warmup` steps, then a half cosine to `floor` (CLIP, Table 18).

    The cosine is read at the end of each step, and of the last one at its middle: at its end the
    rate is `floor`, and at 0 the step would be computed
    for nothing. UsageError for a warm-up longer than the run.

    >>> [round(warmup_cosine(s, 5, 1.0, warmup=2), 2) for s in range(5)]
    [0.5, 1.0, 0.75, 0.25, 0.07]
    """
    if not 0 <= warmup <= steps:
        raise UsageError(
            f"the warm-up lies within the run, and {warmup} of {steps} steps came; shorten it"
        )
    if step < warmup:
        return peak * (step + 1) / warmup
    n = max(1, steps - warmup)
    progress = min(step + 1 - warmup, n - 0.5 if step < steps else n) / n
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))
