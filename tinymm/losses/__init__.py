"""Chapter 5, loss functions: each is a few lines, in nats, with its chance level in the docstring.

Read `classification`, `contrastive` (which text is this image's?) and `blockwise` (the same of
many), `matching` (is it this one?), `language` (which word comes next?), `masked` (which word stood
here?).
"""

from .blockwise import blockwise_contrastive_loss, blockwise_sigmoid_loss
from .classification import cross_entropy_loss, soft_cross_entropy_loss
from .contrastive import (
    itc_loss,
    itc_targets,
    itc_with_queue,
    l2_normalize,
    local_itc_loss,
    max_over_queries,
    sigmoid_loss,
    soft_targets,
)
from .language import language_loss
from .masked import mask_words, masked_language_loss
from .matching import ITM_PRIOR, hard_negatives, itm_loss, itm_pairs

__all__ = [
    "ITM_PRIOR", "blockwise_contrastive_loss", "blockwise_sigmoid_loss", "cross_entropy_loss", "hard_negatives", "itc_loss", "itc_targets",
    "itc_with_queue", "itm_loss", "itm_pairs", "l2_normalize", "language_loss", "local_itc_loss", "mask_words", "masked_language_loss",
    "max_over_queries", "sigmoid_loss", "soft_cross_entropy_loss", "soft_targets",
]  # fmt: skip
