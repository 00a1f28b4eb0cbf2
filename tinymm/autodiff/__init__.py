"""Chapter 2, automatic differentiation: Tensor, the catalogue of ops, backward, and gradient checking.

Read `tensor` (Tensor and NumPy's two questions, with their `answers`), `graph` (`@op`, with
`signature`), `backward`, then the rules in `ops/`, then `verify`.
"""

from . import ops
from .graph import CATALOGUE, Op, op
from .tensor import Tensor, detect_anomaly, no_grad
from .verify import gradcheck

__all__ = ["CATALOGUE", "Op", "Tensor", "detect_anomaly", "gradcheck", "no_grad", "op", "ops"]
