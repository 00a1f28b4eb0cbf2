"""What contrastive losses share: directions instead of vectors. CLIP's own loss is Figure 3 itself, in `models/clip.py`."""

from typing import Any

import numpy as np


def l2_normalize(x: Any, axis: int = -1) -> Any:
    """Return x divided by its Euclidean length along an axis: (…, E) -> unit vectors (…, E).

    Figure 3 calls this helper without defining it. There is no epsilon, as in the released code: a vector of zeros has no direction.

    >>> l2_normalize(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """
    return x / np.linalg.norm(x, axis=axis, keepdims=True)
