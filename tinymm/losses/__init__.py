"""Chapter 5, what we ask for: each loss a function of a few lines, in nats, with its chance level in the docstring.

Read `classification`, then `contrastive`.
"""

from .classification import cross_entropy_loss
from .contrastive import l2_normalize

__all__ = ["cross_entropy_loss", "l2_normalize"]
